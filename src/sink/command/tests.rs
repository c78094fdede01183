//! What a program gets, and what becomes of how it ends.

use std::{io, path::Path, sync::Arc};

use datafusion::arrow::{
    array::{ArrayRef, Int64Array},
    record_batch::RecordBatch,
};
use tempfile::TempDir;

use super::*;
use crate::{
    job::RowFormat,
    model::{ErrorKind, OutputMode},
};

fn sink(shell: &str, secrets: &[&str], format: RowFormat) -> CommandSink {
    let secrets = secrets.iter().map(|name| (*name).to_owned()).collect();
    let mut sink =
        CommandSink::new("alerts", &CommandSpec { shell: shell.to_owned(), secrets, format }, Box::new(io::sink()));
    let columns = rows_of(&[]).schema();
    sink.open("this-checkpoint", &Before::default(), &(&columns).into()).unwrap();
    sink
}

fn rows_of(values: &[i64]) -> RecordBatch {
    RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(values.to_vec())) as ArrayRef)]).unwrap()
}

/// Gives batch 3 to the program, as a new process does after a kill (`again`) or as it comes.
fn give(sink: &mut CommandSink, values: &[i64], again: bool) -> Result<()> {
    let rows = rows_of(values);
    let output = Output {
        query: "q",
        batch: BatchId(3),
        mode: OutputMode::Update,
        schema: &rows.schema(),
        rows: std::slice::from_ref(&rows),
    };
    let staged = sink.stage(&output)?;
    if again {
        sink.abort()?;
    }
    sink.publish(&CommitPermit::for_test(), &staged, &output)
}

fn read(dir: &TempDir, name: &str) -> String {
    std::fs::read_to_string(dir.path().join(name)).unwrap()
}

fn in_folder(dir: &Path, shell: &str) -> String {
    format!("cd '{}' && {shell}", dir.display())
}

#[test]
fn rows_and_environment_arrive() {
    let dir = TempDir::new().unwrap();
    let words =
        "$HIGHWATER_BATCH $HIGHWATER_QUERY $HIGHWATER_SINK $HIGHWATER_MODE $HIGHWATER_ROWS $HIGHWATER_CHECKPOINT";
    let shell = in_folder(dir.path(), &format!("cat > rows; echo \"{words}\" > told"));
    for again in [false, true] {
        give(&mut sink(&shell, &[], RowFormat::Json), &[1, 2], again).unwrap();
        assert_eq!(read(&dir, "rows"), "{\"n\":1}\n{\"n\":2}\n");
        assert_eq!(read(&dir, "told"), "3 q alerts update 2 this-checkpoint\n");
    }
    give(&mut sink(&shell, &[], RowFormat::Csv), &[], false).unwrap();
    assert_eq!(
        (read(&dir, "rows"), read(&dir, "told")),
        ("n\n".to_owned(), "3 q alerts update 0 this-checkpoint\n".to_owned())
    );
}

/// More than a pipe holds, so that one that nobody reads would be waited for, or break.
#[test]
fn a_program_may_leave_its_input_unread() {
    let many: Vec<i64> = (0..100_000).collect();
    give(&mut sink("true", &[], RowFormat::Json), &many, false).unwrap();
    give(&mut sink("head -1 > /dev/null", &[], RowFormat::Json), &many, false).unwrap();
    give(&mut sink("exec 0<&-; true", &[], RowFormat::Json), &many, false).unwrap();
}

#[test]
fn how_it_failed_is_told_with_the_batch_and_what_to_do() {
    let error = |shell: &str| give(&mut sink(shell, &[], RowFormat::Json), &[1], false).unwrap_err();
    let failed = error("cat > /dev/null; exit 7");
    assert_eq!((failed.kind(), failed.what()), (ErrorKind::Failed, "the program of 'alerts' failed"));
    let text = failed.to_string();
    for part in ["batch 3", "`cat > /dev/null; exit 7` ended with exit code 7", "gets the same rows again"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(error("kill -9 $$").to_string().contains("was ended by signal 9"));
    assert!(error("exec /no/such/program 2> /dev/null").to_string().contains("no such program"));
    assert!(error(&format!("exit 1 # {}", "x".repeat(100))).to_string().contains("xxx...`"));
}

#[test]
fn the_pages_token_is_given_only_to_who_asks_for_it() {
    let rows = rows_of(&[]);
    let schema = rows.schema();
    let output = Output { query: "q", batch: BatchId(3), mode: OutputMode::Update, schema: &schema, rows: &[] };
    let is_removed = |secrets: &[&str]| {
        let program = sink("true", secrets, RowFormat::Json).program(&output);
        program.get_envs().any(|(name, value)| name == "HIGHWATER_UI_TOKEN" && value.is_none())
    };
    assert_eq!((is_removed(&[]), is_removed(&["HIGHWATER_UI_TOKEN"])), (true, false));
}

#[test]
fn a_secret_that_is_not_set_is_named_and_nothing_runs() {
    let dir = TempDir::new().unwrap();
    let shell = in_folder(dir.path(), "touch ran");
    let name = "HIGHWATER_TEST_OF_A_SECRET_THAT_NOBODY_SET";
    let error = give(&mut sink(&shell, &["PATH", name], RowFormat::Json), &[1], false).unwrap_err();
    assert!(error.to_string().contains(name), "{error}");
    assert!(!dir.path().join("ran").exists());
}

#[test]
fn a_rewind_is_told_beside_the_rows() {
    let dir = TempDir::new().unwrap();
    let notices = std::fs::File::create(dir.path().join("notices")).unwrap();
    let command = CommandSpec { shell: "exit 1".to_owned(), secrets: Vec::new(), format: RowFormat::Json };
    let mut sink = CommandSink::new("alerts", &command, Box::new(notices));
    sink.retract(&CommitPermit::for_test(), Some(BatchId(3)), None).unwrap();
    assert_eq!(
        read(&dir, "notices"),
        "alerts: what its program was given of the batches after 3 is retracted, and was not taken back\n"
    );
}
