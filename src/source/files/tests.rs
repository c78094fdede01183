use std::{
    ffi::OsStr,
    fs::{self, File},
    num::NonZeroU64,
    os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use datafusion::arrow::{
    array::AsArray,
    datatypes::{DataType, Int64Type},
};
use tempfile::TempDir;

use super::*;
use crate::{
    job::{At, ColumnSpec, CsvOptions, FormatKind, FormatSpec, ValueOptions},
    model::{ErrorKind, InputPath},
};

/// A folder with files of chosen modification times.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file modified `seconds` after the epoch.
    fn put(&self, name: impl AsRef<Path>, seconds: u64, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }

    fn source(&self, path: &str) -> FilesSource {
        self.source_with(path, |_| {})
    }

    fn source_with(&self, path: &str, change: impl FnOnce(&mut SourceSpec)) -> FilesSource {
        let mut spec = spec(self.path(path).to_str().unwrap());
        change(&mut spec);
        FilesSource::open(&spec, (0..spec.columns.len()).collect()).unwrap()
    }
}

fn spec(path: &str) -> SourceSpec {
    let column = |name: &str, data_type| ColumnSpec { name: name.to_owned(), data_type, at: At(0), hidden: false };
    SourceSpec {
        name: "s".to_owned(),
        at: At(0),
        columns: vec![column("n", DataType::Int64), column("day", DataType::Int64)],
        files: FilesOptions { path: path.to_owned(), ..FilesOptions::default() },
        received: None,
        format: FormatSpec::default(),
        event_time: None,
        is_static: false,
    }
}

fn set_mode(spec: &mut SourceSpec, mode: Mode) {
    spec.format.records.mode = mode;
}

fn names(source: &FilesSource) -> Vec<String> {
    source.list().unwrap().files.iter().map(|file| file.path.to_string()).collect()
}

fn skipped(source: &FilesSource) -> Vec<String> {
    source.list().unwrap().skipped.iter().map(|s| format!("{}: {}", s.path, s.reason)).collect()
}

/// Column `column` of all rows of the `file`-th file listed.
fn integers(source: &FilesSource, file: usize, column: usize) -> Vec<Option<i64>> {
    let read = source.read(&source.list().unwrap().files[file], 1).unwrap();
    let batches = read.decoded.batches.iter();
    batches.flat_map(|batch| batch.column(column).as_primitive::<Int64Type>().iter().collect::<Vec<_>>()).collect()
}

#[test]
fn order_is_modification_time_then_path() {
    let folder = Folder::new();
    for (name, seconds) in [("z", 1), ("b", 5), ("a", 5), ("B", 5), ("m", 3)] {
        folder.put(name, seconds, "");
    }
    assert_eq!(names(&folder.source("")), ["z", "m", "B", "a", "b"]);
    let latest = folder.source_with("", |spec| spec.files.latest_first = true);
    assert_eq!(names(&latest), ["B", "a", "b", "m", "z"]);
}

#[test]
fn hidden_and_unfinished_files_and_plain_subfolders_are_not_there() {
    let folder = Folder::new();
    for name in [".a", "_b", "c.tmp", "d", "sub/e", "sub/.f", ".git/g", "k=1/h", "k=1/sub/i", "sub/_t/j"] {
        folder.put(name, 1, "");
    }
    assert_eq!(names(&folder.source("")), ["d", "k=1/h"]);
    let recursive = folder.source_with("", |spec| spec.files.recursive = true);
    assert_eq!(names(&recursive), ["d", "k=1/h", "k=1/sub/i", "sub/e"]);
    assert_eq!(skipped(&recursive), [""; 0]);
}

#[test]
fn a_glob_matches_at_its_own_depth() {
    let folder = Folder::new();
    for name in ["a.json", "b.csv", "x/a.json", "x/y/a.json", "z/a.json", "z/k=1/a.json"] {
        folder.put(name, 1, "");
    }
    let listed = |pattern| names(&folder.source(pattern)).join(" ");
    assert_eq!(listed("*.json"), "a.json");
    assert_eq!(listed("*"), "a.json b.csv");
    assert_eq!(listed("*/*"), "x/a.json z/a.json");
    assert_eq!(listed("[xy]/a.json"), "x/a.json");
    assert_eq!(listed("x/?.json"), "a.json", "the root is the longest folder without a pattern");
    assert_eq!(folder.source("x/?.json").root(), folder.path("x"));
    assert_eq!(listed("**/a.json"), "a.json x/a.json x/y/a.json z/a.json z/k=1/a.json");
    assert_eq!(listed("**"), "a.json b.csv x/a.json x/y/a.json z/a.json z/k=1/a.json");
    assert_eq!(listed("x/**/*.json"), "a.json y/a.json");
    let recursive = folder.source_with("x*", |spec| spec.files.recursive = true);
    assert_eq!(names(&recursive), ["x/a.json", "x/y/a.json"]);
}

#[test]
fn a_path_that_exists_is_no_pattern_and_a_file_is_a_source() {
    let folder = Folder::new();
    folder.put("data[1]/a", 1, "");
    folder.put("_one.json", 1, "");
    assert_eq!(names(&folder.source("data[1]")), ["a"]);
    let file = folder.source("_one.json");
    assert_eq!((names(&file), file.root()), (vec!["_one.json".to_owned()], folder.0.path()));
    fs::remove_file(folder.path("_one.json")).unwrap();
    assert_eq!(names(&file), [""; 0]);
}

#[test]
fn what_cannot_be_a_source_is_refused_by_name() {
    let folder = Folder::new();
    folder.put("a", 1, "");
    symlink(folder.path("a"), folder.path("link")).unwrap();
    for path in ["missing", "missing/*.json", "a[", "link"] {
        let error = FilesSource::open(&spec(folder.path(path).to_str().unwrap()), vec![]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.to_string().contains(path) && error.to_string().contains("help:"), "{error}");
    }
    assert_eq!(FilesSource::open(&spec(""), vec![]).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn links_pipes_and_sockets_are_reported_and_never_opened() {
    let folder = Folder::new();
    folder.put("real/a", 1, "");
    folder.put("in/a", 1, "");
    symlink(folder.path("real/a"), folder.path("in/link")).unwrap();
    symlink(folder.path("real"), folder.path("in/k=1")).unwrap();
    symlink(folder.path("missing"), folder.path("in/dangling")).unwrap();
    let status = std::process::Command::new("mkfifo").arg(folder.path("in/pipe")).status().unwrap();
    assert!(status.success());
    let _socket = UnixListener::bind(folder.path("in/socket")).unwrap();
    let source = folder.source("in");
    assert_eq!(names(&source), ["a"]);
    let reasons = [
        "dangling: a symbolic link is never opened as input",
        "k=1: a symbolic link is never opened as input",
        "link: a symbolic link is never opened as input",
        "pipe: a named pipe is never opened as input",
        "socket: a socket is never opened as input",
    ];
    assert_eq!(skipped(&source), reasons);
    symlink(folder.path("in"), folder.path("root")).unwrap();
    assert_eq!(names(&folder.source("root")), ["a"], "the root may be a link");
}

#[test]
fn names_need_not_be_utf8() {
    let folder = Folder::new();
    let name = OsStr::from_bytes(b"caf\xE9.json");
    folder.put(name, 1, "{\"n\":1}");
    for path in ["", "*.json"] {
        let source = folder.source(path);
        let listing = source.list().unwrap();
        assert_eq!(listing.files[0].identity, InputPath(b"caf\xE9.json".to_vec()));
        assert_eq!(integers(&source, 0, 0), [Some(1)]);
    }
}

#[test]
fn file_names_alone_may_be_the_identity() {
    let folder = Folder::new();
    folder.put("k=1/a", 2, "");
    folder.put("k=2/a", 1, "");
    folder.put("b", 3, "");
    let source = folder.source_with("", |spec| spec.files.file_name_only = true);
    let listing = source.list().unwrap();
    let files: Vec<_> = listing.files.iter().map(|f| (f.identity.to_string(), f.path.to_string())).collect();
    assert_eq!(files, [("a".into(), "k=2/a".into()), ("b".into(), "b".into())]);
    assert_eq!(skipped(&source), ["k=1/a: it has the name of 'k=2/a', and file_name_only is set"]);
}

#[test]
fn folders_named_key_value_are_columns() {
    let folder = Folder::new();
    folder.put("day=07/a", 1, "{\"n\":1,\"day\":\"not read\"}\n{\"n\":2}");
    folder.put("day=__HIVE_DEFAULT_PARTITION__/a", 2, "{\"n\":3,\"day\":9}");
    folder.put("day=%31%32/other=x/a", 3, "{\"n\":4}\nx\n");
    folder.put("day=x/a", 4, "{\"n\":5}");
    let source = folder.source("");
    assert_eq!(integers(&source, 0, 1), [Some(7), Some(7)]);
    assert_eq!(integers(&source, 1, 1), [None]);
    assert_eq!(integers(&source, 2, 1), [Some(12), Some(12)], "a bad record's row too");
    assert_eq!(integers(&source, 3, 1), [None]);
    let bad = |file: usize| source.read(&source.list().unwrap().files[file], 1).unwrap().decoded;
    assert_eq!(bad(0).bad, [], "what the path gives is not looked for in the record");
    assert_eq!(bad(3).bad[0].reason, "folder 'day=x': 'x' is not a BIGINT");
    assert_eq!((bad(3).rows, bad(3).bad_rows), (2, 1));
    let glob = folder.source("*/a");
    assert_eq!(integers(&glob, 1, 1), [Some(9)], "under a glob folders are no columns");
    let failfast = folder.source_with("", |spec| set_mode(spec, Mode::FailFast));
    let error = failfast.read(&failfast.list().unwrap().files[3], 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
}

#[test]
fn compressed_files_are_read_and_damage_is_one_more_bad_record() {
    use std::io::Write;
    let folder = Folder::new();
    let text: String = (0..20_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    let gz = encoder.finish().unwrap();
    folder.put("a.json.gz", 1, &gz);
    folder.put("b.json.zst", 2, zstd::encode_all(text.as_bytes(), 1).unwrap());
    folder.put("c.json.gz", 3, &gz[..gz.len() / 2]);
    folder.put("d.json", 4, b"\xFF\xFE\x00{\n");
    folder.put("e.json", 5, "");
    let source = folder.source("");
    let files = source.list().unwrap().files;
    let read = |file: usize| source.read(&files[file], 2).unwrap();
    for file in [0, 1] {
        assert_eq!((read(file).read.rows, read(file).read.bad_rows), (20_000, 0));
        assert_eq!(integers(&source, file, 0).last(), Some(&Some(19_999)));
    }
    let cut = read(2);
    let last = cut.decoded.bad.last().unwrap();
    assert!(last.reason.contains("compressed stream is broken"), "{last:?}");
    assert!(cut.read.rows > 1000 && (1..=2).contains(&cut.read.bad_rows), "{:?}", cut.read);
    assert!(last.line > 1000 && last.byte > 5000);
    assert_eq!((read(3).read.rows, read(3).read.bad_rows), (1, 1));
    assert_eq!((read(4).read.rows, read(4).decoded.batches.len()), (0, 0));

    let failfast = folder.source_with("", |spec| set_mode(spec, Mode::FailFast));
    for file in [2, 3] {
        assert_eq!(failfast.read(&files[file], 1).unwrap_err().kind(), ErrorKind::Data);
    }
}

#[test]
fn the_hash_is_of_the_bytes_on_disk() {
    let folder = Folder::new();
    let zst = zstd::encode_all(&b"{\"n\":1}"[..], 1).unwrap();
    folder.put("a.zst", 1, &zst);
    folder.put("b", 2, b"{\"n\":1}");
    folder.put("c", 3, b"{\"n\":1}");
    let source = folder.source("");
    let hashes: Vec<_> =
        source.list().unwrap().files.iter().map(|file| source.read(file, 1).unwrap().read.content_hash).collect();
    assert_eq!(hashes[0], twox_hash::xxhash3_128::Hasher::oneshot(&zst));
    assert_eq!(hashes[1], hashes[2]);
    assert_ne!(hashes[0], hashes[1]);
}

#[test]
fn a_file_that_moved_since_it_was_planned_is_named() {
    type Move = (&'static str, fn(&Path));
    let moves: [Move; 6] = [
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("7 bytes, it has 9 now", |path| fs::write(path, "{\"n\":100}").unwrap()),
        ("it was modified", |path| fs::write(path, "{\"n\":2}").unwrap()),
        ("symbolic link", |path| {
            fs::rename(path, path.with_extension("moved")).unwrap();
            symlink(path.with_extension("moved"), path).unwrap();
        }),
        ("a named pipe now", |path| {
            fs::remove_file(path).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        }),
        ("a folder now", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ];
    for (says, change) in moves {
        let folder = Folder::new();
        folder.put("a", 1, "{\"n\":1}");
        let source = folder.source("");
        let planned = source.list().unwrap().files.remove(0);
        change(&folder.path("a"));
        let error = source.read(&planned, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Moved, "{error}");
        let text = error.to_string();
        assert!(text.contains(says) && text.contains(folder.path("a").to_str().unwrap()), "{says}: {text}");
    }
}

#[test]
fn a_folder_read_one_file_per_batch_is_read_whole_and_once() {
    let folder = Folder::new();
    for n in 0..5 {
        folder.put(format!("{n}.json"), 9, format!("{{\"n\":{n}}}"));
    }
    let source = folder.source_with("", |spec| spec.files.max_files_per_trigger = NonZeroU64::new(1));
    let (mut seen, mut order) = (Seen::default(), Vec::new());
    loop {
        let next = next_files(&source.list().unwrap(), &seen, &Limits::of(&source.0.options));
        let Some(file) = next.files.first() else { break };
        let read = source.read(file, 1).unwrap();
        seen.insert(&read.read.file);
        order.push(file.path.to_string());
        // What comes later with an older time is read all the same.
        if order.len() == 2 {
            folder.put("late.json", 1, "{}");
        }
    }
    assert_eq!(order, ["0.json", "1.json", "late.json", "2.json", "3.json", "4.json"]);
    folder.put("3.json", 9, "{\"n\":3}\n");
    fs::remove_file(folder.path("4.json")).unwrap();
    let next = next_files(&source.list().unwrap(), &seen, &Limits::default());
    let told: Vec<_> = next.changed.iter().map(|changed| changed.identity.to_string()).collect();
    assert_eq!((next.files.len(), told), (0, vec!["3.json".to_owned(), "4.json".to_owned()]));
}

#[test]
fn real_flows_are_read_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/lanl");
    if !folder.is_dir() {
        // Past the capture of the test runner, so that a run can be asked what it skipped.
        let said = std::io::Write::write_all(&mut std::io::stderr(), b"skipped: ../shared/data is not here\n");
        said.expect("standard error takes a line");
        return;
    }
    let mut spec = spec(folder.to_str().unwrap());
    let column = |name: &str, data_type| ColumnSpec { name: name.to_owned(), data_type, at: At(0), hidden: false };
    spec.columns = vec![column("time", DataType::Float64), column("dstport", DataType::Utf8)];
    let source = FilesSource::open(&spec, vec![1]).unwrap();
    let files = source.list().unwrap().files;
    let (mut rows, mut bad_rows, mut web) = (0, 0, 0);
    for file in &files {
        let read = source.read(file, 2).unwrap();
        rows += read.read.rows;
        bad_rows += read.read.bad_rows;
        for batch in &read.decoded.batches {
            let ports = batch.column(0).as_string::<i32>().iter();
            web += ports.filter(|port| matches!(port, Some("80" | "443"))).count();
        }
    }
    assert_eq!((files.len(), rows, bad_rows, web), (50, 500_000, 0, 125_369));
}

/// What is in the file, what its folder says, and its name.
#[test]
fn csv_in_a_dated_folder_fills_all_columns() {
    let folder = Folder::new();
    folder.put("day=7/a.csv", 1, "m,n\nx,5\ny,6\n");
    let source = folder.source_with("", |spec| {
        spec.columns.push(ColumnSpec { name: "name".to_owned(), data_type: DataType::Utf8, at: At(0), hidden: false });
        spec.format.records.file_column = Some(2);
        spec.format.kind = FormatKind::Csv(CsvOptions {
            header: true,
            delimiter: b',',
            quote: Some(b'"'),
            escape: None,
            values: ValueOptions::default(),
        });
    });
    assert_eq!(integers(&source, 0, 0), [Some(5), Some(6)]);
    assert_eq!(integers(&source, 0, 1), [Some(7), Some(7)]);
    let read = source.read(&source.list().unwrap().files[0], 2).unwrap();
    assert_eq!((read.read.rows, read.read.bad_rows), (2, 0));
    assert_eq!(read.decoded.batches[0].column(2).as_string::<i32>().value(1), "day=7/a.csv");
}
