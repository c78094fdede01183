//! Input that does not hold still: files cut, appended to, replaced, renamed, linked, of odd names, times and kinds;
//! before they are listed, between listing and reading, while they are read, between a kill and the next run, after
//! their commit, and before a replay.
//!
//! What must hold each time: the result is exactly the function of the bytes whose hashes the log names, or an error
//! says which file, why, and what to do. Never a panic, never a wait on a pipe.
//!
//! `HIGHWATER_MOVES=500` moves files that often under a job that is killed again and again; `HIGHWATER_SEED` repeats
//! such a run.

mod names;
mod restarts;
mod under_way;

pub use under_way::frozen;

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    ffi::CString,
    fs,
    io::Write as _,
    os::unix::{ffi::OsStrExt, fs::MetadataExt, net::UnixListener},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use highwater::checkpoint::Reader;
use serde_json::Value;
use twox_hash::xxhash3_128;

use crate::{
    binary::{Ended, Folder},
    stream::stamp,
};

/// Two queries: one kept in the checkpoint, one that gives out every row, so that each batch is intended.
pub const JOB: &str = "
CREATE TABLE t (k STRING, n BIGINT)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE sums WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE seen WITH (connector = 'files', path = '${OUTPUT}', format = 'json', output_mode = 'append');
INSERT INTO sums SELECT k, count(*) AS rows, sum(n) AS total FROM t GROUP BY k ORDER BY k;
INSERT INTO seen SELECT k, n FROM t;";

type Row = (Option<String>, Option<i64>);

/// A folder with the job, and every content that a file in it ever had.
pub struct Moving {
    pub folder: Folder,
    versions: RefCell<HashMap<u128, Vec<u8>>>,
}

impl Moving {
    pub fn new(sql: &str) -> Moving {
        Moving { folder: Folder::new(sql), versions: RefCell::default() }
    }

    /// With so many small files, in the order of their numbers.
    fn with_files(sql: &str, files: usize) -> Moving {
        let moving = Moving::new(sql);
        (0..files).for_each(|number| moving.numbered(number));
        moving
    }

    fn numbered(&self, number: usize) {
        let path = self.path(format!("{number:04}.json"));
        self.write(&path, &lines(&format!("f{number}"), 20));
        stamp(&path, number);
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.at("input").join(name)
    }

    /// From now on these bytes may be what the log names.
    fn knows(&self, bytes: &[u8]) {
        self.versions.borrow_mut().insert(xxhash3_128::Hasher::oneshot(bytes), bytes.to_vec());
    }

    pub fn write(&self, path: &Path, bytes: &[u8]) {
        self.knows(bytes);
        fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// What the log says was read, in its order: path, and hash of the bytes.
    pub fn read(&self) -> Vec<(Vec<u8>, u128)> {
        let reader = Reader::open(&self.folder.at("checkpoint")).expect("the checkpoint can be read");
        let files = reader.history().seen_files();
        files.iter().map(|file| (file.file.path.0.clone(), file.content_hash)).collect()
    }

    /// Holds the results against the bytes that the log names, and the log against what was ever written.
    #[track_caller]
    pub fn check(&self) {
        let versions = self.versions.borrow();
        if self.read().is_empty() {
            assert!(self.folder.published().is_empty(), "nothing was read, and something was given out");
            return;
        }
        let bytes = self.read().into_iter().map(|(path, hash)| {
            versions.get(&hash).unwrap_or_else(|| panic!("{}: nobody wrote {hash:032x}", path.escape_ascii()))
        });
        let expected: Vec<Row> = bytes.flat_map(|bytes| rows(bytes)).collect();
        let published = self.folder.published().into_values();
        let given_out: Vec<Row> = published.flat_map(|bytes| rows(&bytes)).collect();
        assert!(given_out == expected, "{} rows given out, {} in the files named", given_out.len(), expected.len());
        let mut sums = BTreeMap::<Option<String>, (i64, i64)>::new();
        for (key, number) in expected {
            let sum = sums.entry(key).or_default();
            *sum = (sum.0 + 1, sum.1 + number.unwrap_or_default());
        }
        let shown = self.folder.call(&["show", "checkpoint", "--query", "sums", "--output", "json"]).expect(0);
        let shown: BTreeMap<Option<String>, (i64, i64)> = shown.json().iter().map(sum_of).collect();
        assert_eq!(shown, sums);
        let verified = self.folder.call(&["verify", "checkpoint"]).expect(0);
        assert!(verified.stdout.contains("all good"), "{}", verified.stdout);
    }

    fn run(&self) -> Ended {
        self.folder.run()
    }

    /// A run that dies at a crash point.
    #[track_caller]
    fn killed_at(&self, point: &str) {
        let mut command = self.folder.run_command(&["--available-now"]);
        let ended = crate::binary::Running::start(command.env("HIGHWATER_CRASH_AT", point)).wait();
        assert!(ended.was_killed(), "{point}: {} {}", ended.status, ended.stderr);
    }
}

/// Records of one key.
pub fn lines(key: &str, count: usize) -> Vec<u8> {
    (0..count).flat_map(|n| format!("{{\"k\": \"{key}\", \"n\": {n}}}\n").into_bytes()).collect()
}

/// The rows of a file; a line that is no JSON is a row of nulls.
fn rows(bytes: &[u8]) -> Vec<Row> {
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| row_of(&serde_json::from_slice(line).unwrap_or(Value::Null))).collect()
}

fn row_of(value: &Value) -> Row {
    (value["k"].as_str().map(str::to_owned), value["n"].as_i64())
}

fn sum_of(row: &Value) -> (Option<String>, (i64, i64)) {
    let number = |name: &str| row[name].as_i64().unwrap_or_default();
    (row["k"].as_str().map(str::to_owned), (number("rows"), number("total")))
}

/// Fails the test unless a run ended with an error that an operator can act on.
#[track_caller]
fn clear_error(ended: Ended, path: &Path, says: &str) -> Ended {
    let ended = ended.expect(1);
    for part in ["error: ", &format!("--> {}", path.display()), "why: ", "help: ", says] {
        assert!(ended.stderr.contains(part), "no '{part}' in: {}", ended.stderr);
    }
    ended
}

/// What can happen to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Cut,
    Appended,
    /// Other bytes of the same size.
    Replaced,
    /// Other bytes of the same size, and the modification time put back.
    Disguised,
    Touched,
    Removed,
    /// Under a new name in the same folder.
    Renamed,
    Link,
    Pipe,
    Socket,
    Folder,
}

impl Change {
    pub const ALL: [Change; 11] = [
        Change::Cut,
        Change::Appended,
        Change::Replaced,
        Change::Disguised,
        Change::Touched,
        Change::Removed,
        Change::Renamed,
        Change::Link,
        Change::Pipe,
        Change::Socket,
        Change::Folder,
    ];

    /// Does it to the file at `path`.
    pub fn apply(self, moving: &Moving, path: &Path) {
        let before = fs::read(path).expect("a file");
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).expect("a file");
        match self {
            Change::Cut => {
                let cut = before.len() / 2;
                moving.knows(&before[..cut]);
                fs::File::options().write(true).open(path).and_then(|file| file.set_len(cut as u64)).expect("cut");
            }
            Change::Appended => {
                let more = lines("appended", 3);
                moving.knows(&[&before[..], &more].concat());
                let mut file = fs::File::options().append(true).open(path).expect("it opens");
                file.write_all(&more).expect("it grows");
            }
            Change::Replaced | Change::Disguised => {
                let other: Vec<u8> = before.iter().map(|&byte| if byte == b'f' { b'g' } else { byte }).collect();
                assert!(other != before && other.len() == before.len());
                moving.write(path, &other);
                if self == Change::Disguised {
                    set_modified(path, modified);
                }
            }
            Change::Touched => set_modified(path, modified + Duration::from_secs(3)),
            Change::Renamed => fs::rename(path, path.with_file_name("renamed.json")).expect("renamed"),
            Change::Removed | Change::Link | Change::Pipe | Change::Socket | Change::Folder => {
                // the file itself goes elsewhere, so that the link leads to the very same bytes
                fs::rename(path, moving.folder.at("moved.json")).expect("moved away");
                self.put(path, &moving.folder.at("moved.json"));
            }
        }
    }

    /// What stands where the file was.
    fn put(self, path: &Path, target: &Path) {
        match self {
            Change::Link => std::os::unix::fs::symlink(target, path).expect("a link"),
            Change::Pipe => {
                let name = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
                // SAFETY: mkfifo(3) reads a string that ends in NUL and lives as long as the call.
                assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0, "a pipe");
            }
            Change::Socket => drop(UnixListener::bind(path).expect("a socket")),
            Change::Folder => fs::create_dir(path).expect("a folder"),
            _ => {}
        }
    }

    /// What an error says of a planned file to which this happened; `None`: it cannot be told by size and time.
    pub fn reason(self) -> Option<&'static str> {
        Some(match self {
            Change::Cut | Change::Appended => " bytes, it has ",
            Change::Replaced | Change::Touched => "it was modified",
            Change::Removed | Change::Renamed => "it was there when the batch was planned",
            Change::Link => "it is a symbolic link now",
            Change::Pipe => "it is a named pipe now",
            Change::Socket => "it is a socket",
            Change::Folder => "it is a folder now",
            Change::Disguised => return None,
        })
    }
}

/// A file as it was, to be put back.
struct Original {
    path: PathBuf,
    bytes: Vec<u8>,
    modified: SystemTime,
}

impl Original {
    fn of(path: &Path) -> Original {
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).expect("a file");
        Original { path: path.to_owned(), bytes: fs::read(path).expect("a file"), modified }
    }

    /// Whatever is there now makes room.
    fn put_back(&self) {
        match fs::symlink_metadata(&self.path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir(&self.path).expect("an empty folder"),
            Ok(_) => fs::remove_file(&self.path).expect("it can be removed"),
            Err(_) => {}
        }
        drop(fs::remove_file(self.path.with_file_name("renamed.json")));
        fs::write(&self.path, &self.bytes).expect("it can be written");
        set_modified(&self.path, self.modified);
        assert_eq!(fs::metadata(&self.path).expect("it is there").size(), self.bytes.len() as u64);
    }
}

fn set_modified(path: &Path, time: SystemTime) {
    let file = fs::File::options().write(true).open(path).expect("it opens");
    file.set_modified(time).expect("its time can be set");
}
