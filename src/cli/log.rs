//! `highwater log`: one line per committed batch.

use std::io::Write;

use serde::Serialize;

use super::{
    args::LogArgs,
    load,
    numbers::grouped,
    output::text_table,
    streams::{Failure, data},
};
use crate::{
    batch::LogRow,
    model::{Error, Result},
    progress::{Progress, timestamp},
};

/// Files that a line of the table names; the others are counted.
const FILES_NAMED_MAX: usize = 2;

pub fn log(args: &LogArgs) -> Result<(), Failure> {
    let rows = load::view(&args.checkpoint)?.log()?;
    let mut out = data();
    if args.json {
        for row in &rows {
            writeln!(out, "{}", json_line(row)?)?;
        }
    } else {
        out.write_all(table(&rows)?.as_bytes())?;
    }
    Ok(out.flush()?)
}

/// A batch's progress object, and its place in the log.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    progress: &'a Progress,
    /// `17@1`
    address: String,
    generation: Option<u32>,
    #[serde(skip_serializing_if = "is_false")]
    retracted: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn json_line(row: &LogRow) -> Result<String> {
    let line = Line {
        progress: &row.progress,
        address: row.address.to_string(),
        generation: row.address.generation.map(|generation| generation.0),
        retracted: row.retracted,
    };
    serde_json::to_string(&line).map_err(|cause| {
        Error::failed(format!("batch {} cannot be written as JSON", row.address)).because(cause.to_string())
    })
}

fn table(rows: &[LogRow]) -> Result<String> {
    const HEADER: [&str; 10] =
        ["batch", "committed at", "files", "rows", "bad", "state", "watermark", "ms", "rows/s", "retracted"];
    text_table(&HEADER, &rows.iter().map(cells).collect::<Vec<_>>())
}

fn cells(row: &LogRow) -> Vec<String> {
    let progress = &row.progress;
    vec![
        // the live timeline has plain numbers
        if row.retracted { row.address.to_string() } else { row.address.batch.to_string() },
        timestamp(row.committed_at_us),
        files(&row.files),
        grouped(row.rows),
        grouped(row.bad_rows),
        grouped(row.state_rows),
        row.watermark_us.map(timestamp).unwrap_or_default(),
        progress.batch_duration.map(grouped).unwrap_or_default(),
        progress.processed_rows_per_second.map(super::numbers::short).unwrap_or_default(),
        if row.retracted { "retracted".to_owned() } else { String::new() },
    ]
}

fn files(names: &[String]) -> String {
    let named = names.iter().take(FILES_NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(FILES_NAMED_MAX) {
        Some(more @ 1..) => format!("{named} and {} more", grouped(more as u64)),
        _ => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchAddress, BatchId, Generation};

    fn row(retracted: bool) -> LogRow {
        let progress = r#"{"id":"c","runId":"r","name":"job","timestamp":"2024-01-01T00:00:00.000Z","batchId":25,
            "batchDuration":118,"numInputRows":10000,"inputRowsPerSecond":null,"processedRowsPerSecond":84745.8,
            "durationMs":{"latestOffset":1,"queryPlanning":0,"walCommit":0,"getBatch":50,"addBatch":60,
            "commitOffsets":null,"triggerExecution":null},"eventTime":{},"stateOperators":[],"sources":[],"sink":null,
            "sinks":[],"numBadRows":0,"badFiles":[],"numLateRows":0}"#;
        LogRow {
            address: BatchAddress { batch: BatchId(25), generation: Some(Generation(1)) },
            retracted,
            committed_at_us: 1_700_000_000_123_456,
            files: ["a", "b", "c"].map(str::to_owned).to_vec(),
            rows: 10_000,
            bad_rows: 0,
            state_rows: 398,
            watermark_us: None,
            progress: serde_json::from_str(progress).unwrap(),
        }
    }

    #[test]
    fn a_json_line_is_the_progress_object_with_its_place_in_the_log() {
        let live = json_line(&row(false)).unwrap();
        assert!(live.starts_with(r#"{"id":"c","runId":"r","name":"job","timestamp":"2024-01-01"#), "{live}");
        assert!(live.ends_with(r#","address":"25@1","generation":1}"#), "{live}");
        let retracted = json_line(&row(true)).unwrap();
        assert!(retracted.ends_with(r#","address":"25@1","generation":1,"retracted":true}"#), "{retracted}");
    }

    #[test]
    fn the_table_names_a_retracted_batch_by_its_generation() {
        let cell = |retracted| cells(&row(retracted));
        assert_eq!(cell(false)[..4], ["25", "2023-11-14T22:13:20.123Z", "a, b and 1 more", "10,000"]);
        assert_eq!((cell(true)[0].as_str(), cell(true)[9].as_str()), ("25@1", "retracted"));
        assert!(table(&[]).unwrap().contains("| batch | committed at |"));
    }
}
