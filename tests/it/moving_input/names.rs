//! What lies in the folder before it is listed: odd names, odd times, and what is no file.

use std::{
    ffi::{CString, OsStr},
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    time::{Duration, SystemTime},
};

use super::{Change, JOB, Moving, lines, set_modified};
use crate::binary::skip;

/// Names that a terminal, a log or a careless program stumbles over.
const ODD: [&[u8]; 7] = [
    b"\xff\xfe.json",
    b"new\nline.json",
    b"tab\there.json",
    b"clear\x1b[2J.json",
    b"quote'\".json",
    b" space .json",
    "größe\u{202e}.json".as_bytes(),
];

fn seconds(after_1970: i64) -> SystemTime {
    let distance = Duration::from_secs(after_1970.unsigned_abs());
    if after_1970 < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
}

#[test]
fn odd_names_and_times_are_read_in_the_order_of_time_and_path() {
    let moving = Moving::new(JOB);
    let mut expected = Vec::new();
    let mut put = |name: &[u8], time: i64| {
        let path = moving.path(OsStr::from_bytes(name));
        moving.write(&path, &lines("row", 1 + expected.len()));
        set_modified(&path, seconds(time));
        expected.push((time, name.to_vec()));
    };
    put(b"future.json", 4_102_444_800);
    put(b"ancient.json", -86_400);
    put(b"zero.json", 0);
    ODD.iter().for_each(|name| put(name, 1_000));
    put(b"same_b.json", 2_000);
    put(b"same_a.json", 2_000);
    expected.sort();
    moving.run().expect(0);
    let read: Vec<Vec<u8>> = moving.read().into_iter().map(|(path, _)| path).collect();
    let expected: Vec<Vec<u8>> = expected.into_iter().map(|(_, name)| name).collect();
    assert_eq!(read, expected);
    moving.check();
    moving.folder.call(&["verify", "checkpoint", "--batch", "--every"]).expect(0);
}

#[test]
fn names_are_escaped_wherever_they_are_printed() {
    let moving = Moving::new(JOB);
    for name in ODD {
        let path = moving.path(OsStr::from_bytes(name));
        moving.write(&path, b"{\"k\": \"good\", \"n\": 1}\nnot JSON\n");
        // the worst one is the first
        set_modified(&path, seconds(if name.starts_with(b"new") { 500 } else { 1_000 }));
    }
    let first = moving.run().expect(0);
    for name in ODD {
        Change::Appended.apply(&moving, &moving.path(OsStr::from_bytes(name)));
    }
    let second = moving.run().expect(0);
    assert_eq!(second.stderr.matches("was changed after it was committed").count(), ODD.len(), "{}", second.stderr);
    for shown in ["new\\nline.json", "tab\\there.json", "clear\\u{1b}[2J.json", "quote'\".json", "größe"] {
        assert!(second.stderr.contains(shown), "no {shown} in {}", second.stderr);
    }
    let log = moving.folder.call(&["log", "checkpoint"]).expect(0);
    let json = moving.folder.call(&["log", "checkpoint", "--json"]).expect(0);
    assert_eq!(json.json().len(), ODD.len(), "a name makes no line of its own");
    // an error over such a file
    moving.folder.call(&["rewind", "checkpoint", "--to", "start"]).expect(0);
    let gone = moving.run().expect(1);
    assert!(gone.stderr.contains("new\\nline.json"), "{}", gone.stderr);
    for ended in [first, second, log, json, gone] {
        let said = ended.stdout + &ended.stderr;
        assert!(!said.contains('\u{1b}') && !said.contains("new\nline"), "{said}");
    }
}

#[test]
fn what_is_no_file_is_named_once_and_never_opened() {
    let moving = Moving::with_files(JOB, 2);
    let real = moving.path("0000.json");
    Change::Pipe.put(&moving.path("pipe.json"), &real);
    Change::Socket.put(&moving.path("socket.json"), &real);
    Change::Folder.put(&moving.path("folder.json"), &real);
    fs::write(moving.path("folder.json/inside.json"), lines("inside", 1)).expect("a file in a folder");
    Change::Link.put(&moving.path("link.json"), &real);
    Change::Link.put(&moving.path("dangling.json"), &moving.path("nothing"));
    Change::Link.put(&moving.path("loop.json"), &moving.path("loop.json"));
    symlink(moving.folder.at("input"), moving.path("self")).expect("a link to the folder itself");
    let mut skipped = vec!["pipe.json", "socket.json", "link.json", "dangling.json", "loop.json", "self"];
    let device = CString::new(moving.path("device.json").as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: mknod(2) reads a string that ends in NUL and lives as long as the call.
    match unsafe { libc::mknod(device.as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(1, 5)) } {
        0 => skipped.push("device.json"),
        _ => skip("what_is_no_file_is_named_once_and_never_opened", "no right to make a device; the rest is tried"),
    }
    let ended = moving.run().expect(0);
    assert!(ended.stderr.contains("2 batches, "), "{}", ended.stderr);
    for name in skipped {
        let said = format!(" {name} is not read: ");
        assert_eq!(ended.stderr.matches(&said).count(), 1, "{name}: {}", ended.stderr);
    }
    moving.check();
}

#[test]
fn of_one_name_in_two_folders_the_first_counts_where_names_are_identities() {
    let sql = JOB.replace("format = 'json', max", "recursive = 'true', file_name_only = 'true', format = 'json', max");
    let moving = Moving::new(&sql);
    for (number, name) in ["b/x.json", "a/x.json", "a/y.json", "b/z.json"].into_iter().enumerate() {
        fs::create_dir_all(moving.path(name).parent().expect("a folder")).expect("a folder");
        moving.write(&moving.path(name), &lines(name, 3));
        set_modified(&moving.path(name), seconds(1_000 + number as i64));
    }
    let ended = moving.run().expect(0);
    assert!(ended.stderr.contains("a/x.json is not read: it has the name of 'b/x.json'"), "{}", ended.stderr);
    let read: Vec<Vec<u8>> = moving.read().into_iter().map(|(path, _)| path).collect();
    assert_eq!(read, [b"b/x.json".to_vec(), b"a/y.json".to_vec(), b"b/z.json".to_vec()]);
    // moved into another folder it is still the file that was read, and so is another one of its name
    fs::rename(moving.path("b/x.json"), moving.path("a/x.json")).expect("moved");
    fs::write(moving.path("b/y.json"), lines("other", 5)).expect("a file");
    set_modified(&moving.path("b/y.json"), seconds(1));
    let again = moving.run().expect(0);
    assert!(again.stderr.contains("nothing new"), "{}", again.stderr);
    assert!(again.stderr.contains("a/y.json is not read: it has the name of 'b/y.json'"), "{}", again.stderr);
    moving.check();
}

#[test]
fn the_same_bytes_under_a_new_name_count_again() {
    let moving = Moving::with_files(JOB, 1);
    moving.run().expect(0);
    fs::hard_link(moving.path("0000.json"), moving.path("link.json")).expect("a second name");
    fs::copy(moving.path("0000.json"), moving.path("copy.json")).expect("a copy");
    moving.run().expect(0);
    assert_eq!(moving.read().len(), 3);
    moving.check();
}
