//! What a batch did, in Spark's field names, so that programs which read Spark's progress read this.
//!
//! No I/O of its own: the batch loop fills it in, the log keeps it, the command line prints it.

pub mod numbers;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::InputPath;

/// One batch's progress. Durations are whole milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The checkpoint's id: stable over restarts.
    pub id: String,
    /// New at each start.
    pub run_id: String,
    /// The job's name.
    pub name: String,
    /// When the trigger began, ISO 8601 in UTC.
    pub timestamp: String,
    pub batch_id: u64,
    /// From trigger to the end of publishing; unknown until the batch is over.
    pub batch_duration: Option<u64>,
    /// Records read, bad ones included.
    pub num_input_rows: u64,
    pub input_rows_per_second: Option<f64>,
    pub processed_rows_per_second: Option<f64>,
    pub duration_ms: DurationMs,
    pub event_time: EventTime,
    /// From the sink up, query by query.
    pub state_operators: Vec<StateOperator>,
    pub sources: Vec<SourceProgress>,
    /// The first query's sink, where Spark's readers look.
    pub sink: Option<SinkProgress>,
    /// Every query's sink.
    pub sinks: Vec<SinkProgress>,
    /// Records that could not be read, wholly or in part.
    pub num_bad_rows: u64,
    /// Files with bad records.
    pub bad_files: Vec<String>,
    /// Rows that came after their window was closed.
    pub num_late_rows: u64,
}

/// How long the phases of a batch took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DurationMs {
    /// Finding out what has arrived.
    pub latest_offset: u64,
    /// Deciding the batch.
    pub query_planning: u64,
    /// Making the plan durable, where that is needed.
    pub wal_commit: u64,
    /// Reading and decoding.
    pub get_batch: u64,
    /// The queries, and staging.
    pub add_batch: u64,
    /// The commit and publishing; known only afterwards.
    pub commit_offsets: Option<u64>,
    /// What of `addBatch` staging took; not Spark's, and absent in records that are older than the field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<u64>,
    /// What of `commitOffsets` publishing took; not Spark's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<u64>,
    pub trigger_execution: Option<u64>,
}

/// Event times of the batch, ISO 8601; absent where no source declares an event time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTime {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark: Option<String>,
}

/// One query's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateOperator {
    pub operator_name: String,
    /// The query that the operator belongs to.
    pub query: String,
    /// Distinct keys.
    pub num_rows_total: u64,
    /// Keys that the batch touched.
    pub num_rows_updated: u64,
    pub num_rows_removed: u64,
    /// How long the commit took that made the state durable, with offsets and all other state: one write. `None`: not known yet.
    pub commit_time_ms: Option<u64>,
    pub memory_used_bytes: u64,
    pub num_rows_dropped_by_watermark: u64,
}

/// What was read of one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceProgress {
    pub description: String,
    pub start_offset: Option<LogOffset>,
    pub end_offset: Option<LogOffset>,
    /// What is there: the offset that would be reached by reading all of it at the present limits.
    pub latest_offset: Option<LogOffset>,
    pub num_input_rows: u64,
    pub input_rows_per_second: Option<f64>,
    pub processed_rows_per_second: Option<f64>,
    /// The files of the batch, in reading order.
    pub files: Vec<String>,
    /// Files that wait.
    pub files_left: u64,
    /// Their bytes, as they lie there; absent in records that are older than the field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_left: Option<u64>,
    /// Files that were cleared away after the batch before (`clean_source`), the first of their names, and those that could not be.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub num_files_cleaned: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files_cleaned: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files_not_cleaned: Vec<String>,
    /// Of a source that receives: bytes of its receive log that no committed batch has taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread_bytes: Option<u64>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How far a files source has been read, as Spark writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogOffset {
    /// Counts the batches of the source that took at least one file, from 0.
    pub log_offset: u64,
}

/// What one sink got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkProgress {
    pub description: String,
    pub query: String,
    /// Rows given to the sink; `null` where the result lives in the checkpoint and was not evaluated.
    pub num_output_rows: Option<u64>,
    /// Rows after the filters of the query.
    pub num_rows_after_filter: u64,
}

/// What is known of a batch only after its commit; it travels with the next one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LateProgress {
    pub batch_duration: u64,
    pub commit_offsets: u64,
    pub publish: u64,
}

impl Progress {
    /// Fills in what became known after the commit.
    pub fn complete(&mut self, late: &LateProgress) {
        self.batch_duration = Some(late.batch_duration);
        self.duration_ms.commit_offsets = Some(late.commit_offsets + late.publish);
        self.duration_ms.publish = Some(late.publish);
        self.duration_ms.trigger_execution = Some(late.batch_duration);
        self.processed_rows_per_second = rate(self.num_input_rows, late.batch_duration);
        for source in &mut self.sources {
            source.processed_rows_per_second = rate(source.num_input_rows, late.batch_duration);
        }
        for operator in &mut self.state_operators {
            operator.commit_time_ms = Some(late.commit_offsets);
        }
    }
}

/// Fields of a progress object, or of what is in it, that are of one checkpoint, one run or one moment.
const OF_THE_MOMENT: [&str; 14] = [
    "id",
    "runId",
    "timestamp",
    "batchDuration",
    "durationMs",
    "inputRowsPerSecond",
    "processedRowsPerSecond",
    // of files that are cleared away when it is time, however often the job is started
    "numFilesCleaned",
    "filesCleaned",
    "filesNotCleaned",
    // of what waits: where segments of a receive log end depends on when rows came
    "bytesLeft",
    // of sources that receive
    "unreadBytes",
    // of state operators
    "commitTimeMs",
    "memoryUsedBytes",
];

/// Leaves of a progress object what two runs over the same input must agree on. `more`: fields that are of no
/// interest either.
pub fn keep_lasting(value: &mut Value, more: &[&str]) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !OF_THE_MOMENT.contains(&name.as_str()) && !more.contains(&name.as_str()));
            fields.iter_mut().for_each(|(_, field)| keep_lasting(field, more));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| keep_lasting(item, more)),
        _ => {}
    }
}

/// Rows per second; `None` for a duration below the clock's resolution.
pub fn rate(rows: u64, duration_ms: u64) -> Option<f64> {
    (duration_ms > 0).then(|| (rows as f64 * 1000.0 / duration_ms as f64 * 10.0).round() / 10.0)
}

/// Files as progress names them.
pub fn names(files: impl IntoIterator<Item = InputPath>) -> Vec<String> {
    files.into_iter().map(|file| file.to_string()).collect()
}

/// A time as progress writes it: ISO 8601 with milliseconds, in UTC.
pub fn timestamp(time_us: i64) -> String {
    match chrono::DateTime::from_timestamp_micros(time_us) {
        Some(time) => time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        None => format!("{time_us} us"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_read_as_in_spark() {
        assert_eq!(timestamp(1_700_000_000_123_456), "2023-11-14T22:13:20.123Z");
        assert_eq!(rate(10_000, 118), Some(84_745.8));
        assert_eq!(rate(10_000, 0), None);
        let text = serde_json::to_string(&LogOffset { log_offset: 49 }).expect("plain data");
        assert_eq!(text, r#"{"logOffset":49}"#);
    }
}
