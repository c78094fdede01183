//! Every step done twice, left out, or refused: the table shows each committed batch once.

use std::{path::PathBuf, sync::Arc};

use datafusion::arrow::{
    array::{ArrayRef, Float64Array, Int64Array, StringArray},
    record_batch::RecordBatch,
};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{
    super::{Before, Columns, Output, RowKey, Sink},
    *,
};
use crate::{
    checkpoint::CommitPermit,
    model::{BatchId, ErrorKind, OutputMode, StagedOutput},
};

/// A database in a folder of its own, and a sink whose table has a key `k` and a number `n`.
struct World {
    folder: TempDir,
    mode: OutputMode,
}

fn rows_of(rows: &[(Option<&str>, i64)]) -> RecordBatch {
    let keys: StringArray = rows.iter().map(|(key, _)| *key).collect();
    let numbers = Int64Array::from_iter_values(rows.iter().map(|(_, number)| *number));
    let columns = [("k", Arc::new(keys) as ArrayRef, true), ("n", Arc::new(numbers), true)];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

impl World {
    fn new(mode: OutputMode) -> World {
        World { folder: TempDir::new().unwrap(), mode }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("a/out.db")
    }

    fn closed(&self) -> SqliteSink {
        SqliteSink::new("s", self.path(), "t", self.mode)
    }

    fn opened(&self, checkpoint: &str, resumes: bool) -> Result<SqliteSink> {
        let mut sink = self.closed();
        let schema = rows_of(&[]).schema();
        let key = if self.mode == OutputMode::Update { RowKey::Columns(&[0]) } else { RowKey::None };
        let columns = Columns { schema: &schema, key };
        sink.accepts(&columns)?;
        sink.open(checkpoint, &Before { resumes, ..Before::default() }, &columns)?;
        Ok(sink)
    }

    /// The sink as a new process has it.
    fn sink(&self) -> SqliteSink {
        self.opened("mine", false).unwrap()
    }

    fn with<T>(&self, batch: u64, rows: &[(Option<&str>, i64)], act: impl FnOnce(&Output<'_>) -> T) -> T {
        let rows = rows_of(rows);
        let schema = rows.schema();
        let (rows, mode) = (std::slice::from_ref(&rows), self.mode);
        act(&Output { query: "s", batch: BatchId(batch), mode, schema: &schema, rows })
    }

    fn stage(&self, batch: u64, rows: &[(Option<&str>, i64)]) -> (BatchId, StagedOutput) {
        (BatchId(batch), self.with(batch, rows, |output| self.sink().stage(output).unwrap()))
    }

    /// Publishes a batch in a process of its own.
    fn publish(&self, batch: u64, rows: &[(Option<&str>, i64)]) -> (BatchId, StagedOutput) {
        let staged = self.stage(batch, rows);
        self.with(batch, rows, |output| self.sink().publish(&CommitPermit::for_test(), &staged.1, output).unwrap());
        staged
    }

    fn lines(&self) -> String {
        table_lines(&self.path(), "t").unwrap().join(" ")
    }

    fn execute(&self, sql: &str) {
        std::fs::create_dir_all(self.path().parent().unwrap()).unwrap();
        Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }

    fn retract(&self, keep: Option<u64>, latest: &[(Option<&str>, i64)]) -> Result<()> {
        let keep = keep.map(BatchId);
        self.with(keep.map_or(0, |keep| keep.0), latest, |output| {
            self.sink().retract(&CommitPermit::for_test(), keep, keep.map(|_| output))
        })
    }
}

const A1: (Option<&str>, i64) = (Some("a"), 1);
const A2: (Option<&str>, i64) = (Some("a"), 2);
const NONE1: (Option<&str>, i64) = (None, 1);
const NONE2: (Option<&str>, i64) = (None, 2);

#[test]
fn append_adds_each_batch_once_and_takes_it_back() {
    let world = World::new(OutputMode::Append);
    let mut published = vec![world.publish(0, &[A1, A1])];
    published.extend([world.publish(1, &[]), world.publish(2, &[NONE2]), world.publish(2, &[NONE2])]);
    published.pop();
    assert_eq!(world.lines(), "[\"a\",1,0] [\"a\",1,0] [null,2,2]");
    assert_eq!(world.closed().verify(&published).unwrap(), Vec::<String>::new());
    world.closed().can_retract().unwrap();
    world.retract(Some(1), &[]).unwrap();
    world.retract(Some(1), &[]).unwrap();
    assert_eq!(world.lines(), "[\"a\",1,0] [\"a\",1,0]");
    published.pop();
    assert_eq!(world.closed().verify(&published).unwrap(), Vec::<String>::new());
    world.retract(None, &[]).unwrap();
    assert_eq!(world.lines(), "");
}

#[test]
fn update_replaces_rows_of_a_key_and_null_is_one() {
    let world = World::new(OutputMode::Update);
    let mut published = vec![world.publish(0, &[A1, NONE1]), world.publish(1, &[NONE2, (Some("b"), 1)])];
    published.push(world.publish(2, &[A2, (Some("b"), 2)]));
    assert_eq!(world.lines(), "[\"a\",2,2] [\"b\",2,2] [null,2,1]");
    assert_eq!(world.closed().verify(&published).unwrap(), Vec::<String>::new());
    // the state at batch 0; that `c` was closed there is not told, and nobody touched it since
    world.retract(Some(0), &[A1, NONE1]).unwrap();
    assert_eq!(world.lines(), "[\"a\",1,0] [null,1,0]");
    assert_eq!(world.closed().verify(&published[..1]).unwrap(), Vec::<String>::new());
    world.publish(1, &[NONE2, (Some("b"), 1)]);
    world.publish(2, &[A2, (Some("b"), 2)]);
    assert_eq!(world.lines(), "[\"a\",2,2] [\"b\",2,2] [null,2,1]");
}

/// The watermark closed `a` before batch 1: the state no longer has it, and the table keeps it.
#[test]
fn a_rewind_leaves_rows_that_no_later_batch_touched() {
    let world = World::new(OutputMode::Update);
    world.publish(0, &[A1]);
    world.publish(1, &[NONE1]);
    world.publish(2, &[NONE2]);
    world.retract(Some(1), &[NONE1]).unwrap();
    assert_eq!(world.lines(), "[\"a\",1,0] [null,1,1]");
}

#[test]
fn complete_shows_the_newest_result_only() {
    let world = World::new(OutputMode::Complete);
    let published = [world.publish(0, &[A1]), world.publish(1, &[A2, NONE1])];
    assert_eq!(world.lines(), "[\"a\",2] [null,1]");
    assert_eq!(world.closed().verify(&published).unwrap(), Vec::<String>::new());
    world.retract(Some(0), &[A1]).unwrap();
    assert_eq!(world.lines(), "[\"a\",1]");
    assert_eq!(world.closed().verify(&published[..1]).unwrap(), Vec::<String>::new());
}

#[test]
fn other_rows_of_a_batch_are_refused() {
    let world = World::new(OutputMode::Append);
    let staged = world.stage(0, &[A1]).1;
    let publish =
        |rows: &[_]| world.with(0, rows, |output| world.sink().publish(&CommitPermit::for_test(), &staged, output));
    assert_eq!(publish(&[A2]).unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(world.lines(), "");
    publish(&[A1]).unwrap();
    let other = world.stage(0, &[A2]).1;
    let error = world.with(0, &[A2], |output| world.sink().publish(&CommitPermit::for_test(), &other, output));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(world.lines(), "[\"a\",1,0]");
}

#[test]
fn a_table_belongs_to_one_checkpoint() {
    let world = World::new(OutputMode::Append);
    world.closed().check_free().unwrap();
    assert_eq!(world.opened("mine", true).unwrap_err().kind(), ErrorKind::Refused, "nothing was published here");
    assert!(!world.path().exists(), "a refusal makes nothing");
    world.publish(0, &[A1]);
    world.opened("mine", true).unwrap();
    for error in [world.opened("other", false).unwrap_err(), world.closed().check_free().unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("checkpoint mine writes here"), "{error}");
        assert!(error.to_string().contains("DROP TABLE \"t\""), "{error}");
    }
    // the way out
    world.execute("DROP TABLE t");
    world.closed().check_free().unwrap();
    world.opened("other", false).unwrap();
    assert_eq!(world.opened("mine", true).unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn a_table_that_is_there_must_fit() {
    let refused = |sql: &str| {
        let world = World::new(OutputMode::Append);
        world.execute(sql);
        let error = world.opened("mine", false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        error.to_string()
    };
    assert!(refused("CREATE TABLE t (k TEXT)").contains("ALTER TABLE \"t\" ADD COLUMN \"n\" INTEGER"));
    assert!(refused("CREATE TABLE t (k TEXT, n INTEGER, m TEXT NOT NULL)").contains("needs a column 'm'"));
    assert!(refused("CREATE TABLE t (k TEXT, n AS (1))").contains("no column 'n'"));
    assert!(refused("CREATE VIEW t AS SELECT 1 AS k, 2 AS n").contains("is a view"));
    assert!(refused("CREATE TABLE t (k TEXT, n INTEGER); INSERT INTO t VALUES ('x', 1)").contains("not its own"));
}

#[test]
fn a_table_without_the_batch_cannot_be_rewound_and_says_so_before() {
    let world = World::new(OutputMode::Append);
    world.execute("CREATE TABLE T (id INTEGER PRIMARY KEY, K TEXT, n INTEGER, more TEXT DEFAULT 'm')");
    assert!(world.closed().notes().unwrap()[0].contains("a rewind would be refused"));
    let published = [world.publish(0, &[A1]), world.publish(1, &[A2])];
    assert_eq!(world.lines(), "[1,\"a\",1,\"m\"] [2,\"a\",2,\"m\"]");
    assert_eq!(world.closed().verify(&published).unwrap(), Vec::<String>::new());
    for error in [world.closed().can_retract().unwrap_err(), world.retract(Some(0), &[]).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    }
    assert_eq!(world.lines(), "[1,\"a\",1,\"m\"] [2,\"a\",2,\"m\"]", "nothing was forgotten either");
    world.execute("ALTER TABLE t ADD COLUMN highwater_batch INTEGER");
    assert!(world.closed().can_retract().unwrap_err().to_string().contains("rows from before"));
}

#[test]
fn verify_names_what_is_wrong() {
    let found = |mode: OutputMode, sql: &str| {
        let world = World::new(mode);
        let published = [world.publish(0, &[A1]), world.publish(1, &[NONE1, (Some("b"), 3)])];
        world.execute(sql);
        world.closed().verify(&published).unwrap().join("; ")
    };
    let append = |sql: &str| found(OutputMode::Append, sql);
    assert!(append("DELETE FROM t WHERE k = 'b'").ends_with("it holds 1 rows of batch 1, which published 2"));
    assert!(
        append("UPDATE t SET n = 9 WHERE k = 'a'").ends_with("its rows of batch 0 are not those that were published")
    );
    assert!(append("DELETE FROM highwater_batches WHERE batch = 1").contains("batch 1 is not in it"));
    assert!(append("INSERT INTO t VALUES ('x', 1, 7)").ends_with("it has rows of batch 7, which is not recorded"));
    assert!(append("DROP TABLE t").contains("which 2 batches published to, is missing"));
    assert!(append("ALTER TABLE t DROP COLUMN n").ends_with("has no column 'n' any more"));
    let complete = found(OutputMode::Complete, "UPDATE t SET n = 9 WHERE k = 'b'");
    assert!(complete.ends_with("its rows of batch 1 are not those that were published"), "{complete}");
    let update = found(OutputMode::Update, "DELETE FROM t WHERE k = 'b'");
    assert!(update.ends_with("it holds 1 rows of batch 1, which published 2"), "{update}");
    // batches without rows came behind it
    let world = World::new(OutputMode::Update);
    let published = [world.publish(0, &[A1, NONE1]), world.publish(1, &[A2]), world.publish(2, &[])];
    assert_eq!(world.closed().verify(&published).unwrap(), Vec::<String>::new());
    world.execute("DELETE FROM t WHERE k = 'a'");
    let emptied = world.closed().verify(&published).unwrap();
    assert!(emptied[0].ends_with("it holds 0 rows of batch 1, which published 1"), "{emptied:?}");
    let world = World::new(OutputMode::Append);
    let published = [world.publish(0, &[A1]), world.publish(1, &[A1])];
    let stray = world.closed().verify(&published[..1]).unwrap();
    assert!(stray[0].ends_with("it has batch 1, which is no committed one"), "{stray:?}");
}

#[test]
fn a_damaged_list_of_columns_is_told_and_not_taken_for_none() {
    let world = World::new(OutputMode::Append);
    let published = [world.publish(0, &[(Some("a"), 1)])];
    world.execute("UPDATE highwater_tables SET columns = '[\"k\", '");
    let error = world.closed().verify(&published).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("highwater_tables"), "{error}");
    assert_eq!(world.opened("mine", true).unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn what_a_table_cannot_hold_is_refused_before_anything_is_touched() {
    let world = World::new(OutputMode::Update);
    let accepts = |names: [&str; 2], key| {
        let column = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
        let schema = RecordBatch::try_from_iter([(names[0], column()), (names[1], column())]).unwrap().schema();
        world.closed().accepts(&Columns { schema: &schema, key }).unwrap_err()
    };
    assert!(accepts(["a", "A"], RowKey::None).to_string().contains("differ in case only"));
    assert!(accepts(["a", "Highwater_Batch"], RowKey::None).to_string().contains("column of this name"));
    let hidden = accepts(["a", "b"], RowKey::Hidden);
    assert_eq!(hidden.kind(), ErrorKind::Usage);
    assert!(!world.path().exists());
}

#[test]
fn a_key_that_sqlite_takes_for_another_stops_the_batch_before_its_commit() {
    let world = World::new(OutputMode::Update);
    let keys = Arc::new(Float64Array::from(vec![-0.0])) as ArrayRef;
    let rows = RecordBatch::try_from_iter([("k", keys)]).unwrap();
    let schema = rows.schema();
    let mut sink = world.closed();
    sink.open("mine", &Before::default(), &Columns { schema: &schema, key: RowKey::Columns(&[0]) }).unwrap();
    let (batch, mode, rows) = (BatchId(0), OutputMode::Update, std::slice::from_ref(&rows));
    let error = sink.stage(&Output { query: "s", batch, mode, schema: &schema, rows }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
}

#[test]
fn keys_that_differ_in_case_are_two_whatever_the_table_says() {
    let world = World::new(OutputMode::Update);
    world.execute("CREATE TABLE t (k TEXT COLLATE NOCASE, n INTEGER, highwater_batch INTEGER)");
    world.publish(0, &[A1, (Some("A"), 10)]);
    world.publish(1, &[A2]);
    assert_eq!(world.lines(), "[\"A\",10,0] [\"a\",2,1]");
    world.retract(Some(0), &[A1, (Some("A"), 10)]).unwrap();
    assert_eq!(world.lines(), "[\"A\",10,0] [\"a\",1,0]");
}

#[test]
fn a_lock_is_waited_for_and_then_told_and_nothing_is_lost() {
    let world = World::new(OutputMode::Append);
    let staged = world.stage(0, &[A1]).1;
    let mut sink = world.sink();
    let holder = Connection::open(world.path()).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut publish = || world.with(0, &[A1], |output| sink.publish(&CommitPermit::for_test(), &staged, output));
    let error = publish().unwrap_err();
    assert!(error.to_string().contains("kept it locked for 5 seconds"), "{error}");
    holder.execute_batch("COMMIT").unwrap();
    publish().unwrap();
    assert_eq!(world.lines(), "[\"a\",1,0]");
}
