//! `highwater log`: one line per committed batch.

use std::{io::Write, sync::Arc};

use datafusion::arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, StringArray, UInt64Array},
    record_batch::RecordBatch,
};

use super::{
    args::{LogArgs, OutputFormat},
    load,
    output::{text_table, write_rows},
    streams::{Failure, data},
};
use crate::{
    batch::LogRow,
    model::{Error, Result},
    progress::{
        numbers::{grouped, short},
        timestamp,
    },
};

/// Files that a line of the table names; the others are counted.
const FILES_NAMED_MAX: usize = 2;

/// Between the names of a batch's files in CSV.
const FILES_SEPARATOR: &str = ";";

pub fn log(args: &LogArgs) -> Result<(), Failure> {
    let rows = load::view(&args.checkpoint)?.log()?;
    let mut out = data();
    match args.output() {
        OutputFormat::Json => {
            for row in &rows {
                writeln!(out, "{}", row.json_line()?)?;
            }
        }
        OutputFormat::Table => out.write_all(table(&rows)?.as_bytes())?,
        OutputFormat::Csv => {
            let batch = columns(&rows)?;
            write_rows(&mut out, OutputFormat::Csv, &batch.schema(), std::slice::from_ref(&batch))?;
        }
    }
    Ok(out.flush()?)
}

fn table(rows: &[LogRow]) -> Result<String> {
    const HEADER: [&str; 10] =
        ["batch", "committed at", "files", "rows", "bad", "state", "watermark", "ms", "rows/s", "retracted"];
    text_table(&HEADER, &rows.iter().map(cells).collect::<Vec<_>>())
}

/// The table's columns for programs: every file, plain numbers, nothing where the table has `-`.
fn columns(rows: &[LogRow]) -> Result<RecordBatch> {
    let text = |of: &dyn Fn(&LogRow) -> Option<String>| Arc::new(rows.iter().map(of).collect::<StringArray>());
    let number = |of: &dyn Fn(&LogRow) -> Option<u64>| Arc::new(rows.iter().map(of).collect::<UInt64Array>());
    let rate: Float64Array = rows.iter().map(|row| row.progress.processed_rows_per_second).collect();
    let retracted: BooleanArray = rows.iter().map(|row| Some(row.retracted)).collect();
    let columns: [(&str, ArrayRef); 11] = [
        ("batch", number(&|row| Some(row.address.batch.0))),
        ("generation", number(&|row| row.address.generation.map(|generation| u64::from(generation.0)))),
        ("committed_at", text(&|row| Some(timestamp(row.committed_at_us)))),
        ("files", text(&|row| Some(row.files.join(FILES_SEPARATOR)))),
        ("rows", number(&|row| Some(row.rows))),
        ("bad", number(&|row| Some(row.bad_rows))),
        ("state", number(&|row| Some(row.state_rows))),
        ("watermark", text(&|row| row.watermark_us.map(timestamp))),
        ("ms", number(&|row| row.progress.batch_duration)),
        ("rows_per_second", Arc::new(rate)),
        ("retracted", Arc::new(retracted)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
        .map_err(|cause| Error::failed("the log cannot be printed").because(cause.to_string()))
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
        progress.batch_duration.map_or_else(unknown, grouped),
        progress.processed_rows_per_second.map_or_else(unknown, short),
        if row.retracted { "retracted".to_owned() } else { String::new() },
    ]
}

/// What is known only after the commit travels with the next one of the same run: a run's last batch has none.
fn unknown() -> String {
    "-".to_owned()
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
        let live = row(false).json_line().unwrap();
        assert!(live.starts_with(r#"{"id":"c","runId":"r","name":"job","timestamp":"2024-01-01"#), "{live}");
        assert!(live.ends_with(r#","address":"25@1","generation":1}"#), "{live}");
        let retracted = row(true).json_line().unwrap();
        assert!(retracted.ends_with(r#","address":"25@1","generation":1,"retracted":true}"#), "{retracted}");
    }

    #[test]
    fn the_table_names_a_retracted_batch_by_its_generation() {
        let cell = |retracted| cells(&row(retracted));
        assert_eq!(cell(false)[..4], ["25", "2023-11-14T22:13:20.123Z", "a, b and 1 more", "10,000"]);
        assert_eq!((cell(true)[0].as_str(), cell(true)[9].as_str()), ("25@1", "retracted"));
        assert!(table(&[]).unwrap().contains("| batch | committed at |"));
    }

    #[test]
    fn what_travels_with_the_next_commit_is_a_dash_until_it_is_known() {
        let mut newest = row(false);
        assert_eq!(cells(&newest)[7..9], ["118", "84.7k"]);
        newest.progress.batch_duration = None;
        newest.progress.processed_rows_per_second = None;
        assert_eq!(cells(&newest)[7..9], ["-", "-"]);
    }
}
