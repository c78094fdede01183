//! Every step done twice, left out, or cut short: the folder shows whole files of committed batches and no others.

use std::{fs, os::unix::fs::MetadataExt, sync::Arc};

use datafusion::arrow::{
    array::{ArrayRef, Int64Array},
    record_batch::RecordBatch,
};
use tempfile::TempDir;

use super::*;
use crate::model::ErrorKind;

fn rows(values: &[i64]) -> RecordBatch {
    let column = Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

/// A sink in a folder of its own, with one row per batch: ten times the batch's number.
struct Place {
    folder: TempDir,
    mode: OutputMode,
    format: RowFormat,
}

impl Place {
    fn new(mode: OutputMode) -> Place {
        Place { folder: TempDir::new().unwrap(), mode, format: RowFormat::Json }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("a/out")
    }

    /// The sink as a new process has it.
    fn sink(&self) -> FilesSink {
        let mut sink = FilesSink::new("s", &self.out(), self.format, self.mode);
        sink.open("mine", &Before::default(), &(&rows(&[]).schema()).into()).unwrap();
        sink
    }

    fn with_output<T>(&self, batch: u64, act: impl FnOnce(&Output<'_>) -> T) -> T {
        let rows = rows(&[batch as i64 * 10]);
        act(&Output {
            query: "s",
            batch: BatchId(batch),
            mode: self.mode,
            schema: &rows.schema(),
            rows: std::slice::from_ref(&rows),
        })
    }

    fn stage(&self, batch: u64) -> StagedOutput {
        self.with_output(batch, |output| self.sink().stage(output)).unwrap()
    }

    fn try_publish(&self, batch: u64, staged: &StagedOutput) -> Result<()> {
        self.with_output(batch, |output| self.sink().publish(&CommitPermit::for_test(), staged, output))
    }

    fn commit(&self, batch: u64) -> (BatchId, StagedOutput) {
        let staged = self.stage(batch);
        self.try_publish(batch, &staged).unwrap();
        (BatchId(batch), staged)
    }

    fn retract(&self, keep: Option<u64>) {
        let permit = CommitPermit::for_test();
        match keep {
            Some(keep) => self.with_output(keep, |output| {
                self.sink().retract(&permit, Some(BatchId(keep)), Some(output)).unwrap();
            }),
            None => self.sink().retract(&permit, None, None).unwrap(),
        }
    }

    /// What `ls` shows, and what is in it.
    fn ls(&self) -> Vec<(String, String)> {
        let names = list(&self.out()).unwrap().into_iter().filter(|name| !name.starts_with('.'));
        names.map(|name| (name.clone(), fs::read_to_string(self.out().join(&name)).unwrap())).collect()
    }

    fn shows(&self, expected: &[(&str, &str)]) {
        let shown = self.ls();
        let shown: Vec<(&str, &str)> = shown.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(shown, expected);
    }
}

const FIRST: (&str, &str) = ("s-00000000.json", "{\"n\":0}\n");
const SECOND: (&str, &str) = ("s-00000001.json", "{\"n\":10}\n");
const THIRD: (&str, &str) = ("s-00000002.json", "{\"n\":20}\n");

#[test]
fn nothing_is_seen_before_it_is_published() {
    let place = Place::new(OutputMode::Append);
    let staged = place.stage(0);
    place.shows(&[]);
    assert_eq!(place.stage(0), staged);
    assert_eq!((staged.name.as_str(), staged.rows, staged.size_bytes), ("s-00000000.json", 1, 8));
    assert_eq!(staged.hash, *blake3::hash(b"{\"n\":0}\n").as_bytes());
    place.try_publish(0, &staged).unwrap();
    place.shows(&[FIRST]);
    place.commit(1);
    place.shows(&[FIRST, SECOND]);
}

#[test]
fn publishing_again_changes_nothing() {
    let place = Place::new(OutputMode::Append);
    let staged = place.stage(0);
    place.try_publish(0, &staged).unwrap();
    let inode = fs::metadata(place.out().join(FIRST.0)).unwrap().ino();
    place.try_publish(0, &staged).unwrap();
    place.shows(&[FIRST]);
    assert_eq!(fs::metadata(place.out().join(FIRST.0)).unwrap().ino(), inode, "a reader's file was replaced");
}

#[test]
fn what_was_staged_and_is_lost_or_torn_is_written_again() {
    for mode in [OutputMode::Append, OutputMode::Complete] {
        let place = Place::new(mode);
        place.commit(0);
        for damage in [None, Some("{\"n\"")] {
            let staged = place.stage(1);
            let file = place.out().join(".highwater-staging-s").join(&staged.name);
            match damage {
                None => fs::remove_dir_all(file.parent().unwrap()).unwrap(),
                Some(text) => fs::write(&file, text).unwrap(),
            }
            place.try_publish(1, &staged).unwrap();
            let (_, text) = place.ls().pop().unwrap();
            assert_eq!(text, SECOND.1);
        }
    }
}

#[test]
fn rows_that_differ_from_the_committed_ones_are_never_published() {
    let place = Place::new(OutputMode::Append);
    let staged = place.stage(1);
    place.sink().abort().unwrap();
    let error = place.try_publish(2, &staged).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    place.shows(&[]);
    let elsewhere = StagedOutput { name: "../s-00000001.json".to_owned(), ..staged };
    assert_eq!(place.try_publish(1, &elsewhere).unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn abort_removes_what_is_staged_and_nothing_else() {
    let place = Place::new(OutputMode::Append);
    place.commit(0);
    place.stage(1);
    for _ in 0..2 {
        place.sink().abort().unwrap();
        assert_eq!(list(&place.out().join(".highwater-staging-s")).unwrap(), Vec::<String>::new());
        place.shows(&[FIRST]);
    }
}

#[test]
fn an_empty_batch_is_a_file_too() {
    let mut place = Place::new(OutputMode::Update);
    for (format, name, text) in [(RowFormat::Json, "s-00000000.json", ""), (RowFormat::Csv, "s-00000000.csv", "n\n")] {
        place.format = format;
        let schema = rows(&[]).schema();
        let output = Output { query: "s", batch: BatchId(0), mode: place.mode, schema: &schema, rows: &[] };
        let staged = place.sink().stage(&output).unwrap();
        place.sink().publish(&CommitPermit::for_test(), &staged, &output).unwrap();
        assert_eq!(fs::read_to_string(place.out().join(name)).unwrap(), text);
    }
}

#[test]
fn complete_keeps_one_file_and_replaces_it() {
    let place = Place::new(OutputMode::Complete);
    let first = place.commit(0);
    place.shows(&[("s.json", "{\"n\":0}\n")]);
    let second = place.commit(1);
    place.shows(&[("s.json", "{\"n\":10}\n")]);
    assert_eq!(place.sink().verify(&[first.clone(), second]).unwrap(), Vec::<String>::new());
    assert_eq!(place.sink().read_back(&[first]).unwrap_err().kind(), ErrorKind::Usage);
    for keep in [Some(0), Some(0)] {
        place.retract(keep);
        place.shows(&[("s.json", "{\"n\":0}\n")]);
    }
    place.retract(None);
    place.shows(&[]);
}

#[test]
fn a_rewind_retracts_what_came_after_however_often_it_is_begun() {
    // cut short after any number of removals, then done again
    for removed in 0..=2 {
        let place = Place::new(OutputMode::Append);
        for batch in 0..3 {
            place.commit(batch);
        }
        fs::write(place.out().join("s-1.json"), "not ours").unwrap();
        fs::write(place.out().join("other-00000002.json"), "not ours").unwrap();
        for (name, _) in [THIRD, SECOND].iter().take(removed) {
            fs::remove_file(place.out().join(name)).unwrap();
        }
        place.retract(Some(0));
        place.shows(&[("other-00000002.json", "not ours"), FIRST, ("s-1.json", "not ours")]);
        place.commit(1);
        place.retract(None);
        place.shows(&[("other-00000002.json", "not ours"), ("s-1.json", "not ours")]);
    }
}

#[test]
fn verify_names_what_is_missing_changed_or_strange() {
    let place = Place::new(OutputMode::Append);
    let published: Vec<_> = (0..3).map(|batch| place.commit(batch)).collect();
    let file = |name: &str| place.out().join(name);
    assert_eq!(place.sink().verify(&published).unwrap(), Vec::<String>::new());
    assert_eq!(
        place.sink().read_back(&published).unwrap(),
        [FIRST.1, SECOND.1, THIRD.1].map(|text| text.as_bytes().to_vec())
    );

    fs::remove_file(file(FIRST.0)).unwrap();
    fs::write(file(SECOND.0), "{\"n\":11}\n").unwrap();
    fs::write(file("s-00000003.json"), "").unwrap();
    let out = place.out().display().to_string();
    assert_eq!(
        place.sink().verify(&published).unwrap(),
        [
            format!("{out}/s-00000000.json, published by batch 0, is missing"),
            format!("{out}/s-00000001.json is not what batch 1 published"),
            format!("{out}/s-00000003.json was published by no committed batch"),
        ]
    );
    assert_eq!(place.sink().read_back(&published).unwrap_err().kind(), ErrorKind::Failed);
}

#[test]
fn every_format_is_published_and_read_back() {
    for format in RowFormat::ALL {
        let place = Place { format, ..Place::new(OutputMode::Append) };
        let published: Vec<_> = (0..3).map(|batch| place.commit(batch)).collect();
        let names: Vec<String> = (0..3).map(|batch| format!("s-0000000{batch}.{}", format.name())).collect();
        let shown = list(&place.out()).unwrap();
        assert_eq!(shown.into_iter().filter(|name| !name.starts_with('.')).collect::<Vec<_>>(), names);
        assert_eq!(place.sink().verify(&published).unwrap(), Vec::<String>::new());
        let back = place.sink().read_back(&published).unwrap();
        for (batch, bytes) in back.into_iter().enumerate() {
            let expected = rows(&[batch as i64 * 10]);
            assert_eq!(crate::sink::rows::from_bytes(format, &expected.schema(), bytes).unwrap(), [expected]);
        }
        place.retract(None);
        assert_eq!(list(&place.out()).unwrap().iter().filter(|name| !name.starts_with('.')).count(), 0);
    }
}

#[test]
fn the_folder_of_another_checkpoint_is_refused() {
    let place = Place::new(OutputMode::Append);
    place.commit(0);
    let mut stranger = FilesSink::new("s", &place.out(), RowFormat::Json, OutputMode::Append);
    let error = stranger.open("other", &Before::default(), &(&rows(&[]).schema()).into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(
        error.to_string(),
        format!(
            "the files of 's' belong to another checkpoint\n  --> {}\n  why: checkpoint mine writes here, this one is \
             other\n  help: give the sink another path; or, if those files are no longer needed, remove s-*.json and \
             .highwater-s.json",
            place.out().display()
        )
    );
    FilesSink::new("t", &place.out(), RowFormat::Json, OutputMode::Append)
        .open("other", &Before::default(), &(&rows(&[]).schema()).into())
        .unwrap();

    fs::write(place.out().join(".highwater-s.json"), "{").unwrap();
    assert_eq!(
        stranger.open("mine", &Before::default(), &(&rows(&[]).schema()).into()).unwrap_err().kind(),
        ErrorKind::Refused
    );
    fs::remove_file(place.out().join(".highwater-s.json")).unwrap();
    let error = stranger.open("other", &Before::default(), &(&rows(&[]).schema()).into()).unwrap_err();
    assert_eq!(error.what(), "'s' would add to files that are not its own");
    fs::remove_file(place.out().join(FIRST.0)).unwrap();
    stranger.open("other", &Before::default(), &(&rows(&[]).schema()).into()).unwrap();
    assert_eq!(stranger.owner().unwrap().as_deref(), Some("other"));
}

#[test]
fn only_names_that_the_sink_gives_are_its_own() {
    let sink = FilesSink::new("s", Path::new("x"), RowFormat::Json, OutputMode::Append);
    for (name, meaning) in [
        ("s.json", Some(Published::Newest)),
        ("s-00000012.csv", Some(Published::Batch(BatchId(12)))),
        ("s-123456789.json", Some(Published::Batch(BatchId(123_456_789)))),
        ("s-012345678.json", None),
        ("s-+0000012.json", None),
        ("s-0000001.json", None),
        ("s-00000001.txt", None),
        ("st-00000001.json", None),
        (".highwater-s.json", None),
    ] {
        assert_eq!(sink.parse_name(name), meaning, "{name}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = FilesSink::new("s", &path, RowFormat::Json, OutputMode::Append)
            .open("mine", &Before::default(), &(&rows(&[]).schema()).into())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        let text = error.to_string();
        assert!(text.contains(&file.display().to_string()), "{text}");
    }
    // where not even root may write
    let error = FilesSink::new("s", Path::new("/proc/self"), RowFormat::Json, OutputMode::Append).open(
        "mine",
        &Before::default(),
        &(&rows(&[]).schema()).into(),
    );
    assert!(error.unwrap_err().to_string().contains("/proc/self"));
}

#[test]
fn a_pipe_in_place_of_a_file_is_not_waited_for() {
    let place = Place::new(OutputMode::Append);
    let staged = place.stage(0);
    let pipe = place.out().join(&staged.name);
    let path = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
    // SAFETY: the path is a valid C string that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    let error = place.sink().verify(&[(BatchId(0), staged)]).unwrap_err();
    assert_eq!(error.what(), "this is not a regular file");
}
