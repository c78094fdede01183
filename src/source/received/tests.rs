//! The receive log over a real folder.

use std::{fs, path::Path, sync::Arc};

use super::{
    log::{ReceiveLog, Taken},
    opening::Opening,
    segments::{self, Folder},
};
use crate::model::{CrashPoint, ErrorKind, Faults, Result, crash::Crash};

fn opening(folder: &Path) -> Opening<'_> {
    Opening {
        folder,
        source: "s",
        committed: None,
        accept_gap: false,
        remembers: true,
        segment_bytes: 1 << 20,
        unread_bytes_max: 1 << 20,
        now_us: 5,
        faults: Faults::none(),
    }
}

fn open(folder: &Path) -> ReceiveLog {
    ReceiveLog::open(opening(folder)).unwrap().0
}

/// The numbers of the first and the next line of each closed segment.
fn closed(folder: &Path) -> Vec<(u64, u64)> {
    let scan = |number: &u64| {
        let (scan, _) = segments::read_scan(&folder.join(segments::closed_name(*number)), *number, "s").unwrap();
        assert!(scan.sealed);
        (scan.header.expect("it is sealed").line, scan.line)
    };
    Folder::read(folder).unwrap().closed.iter().map(scan).collect()
}

#[test]
fn what_was_appended_is_found_again_and_repeated_keys_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    assert_eq!(log.append(b"a\nb\n", b"one").unwrap(), Taken::New);
    assert_eq!(log.append(b"c\n", b"").unwrap(), Taken::New);
    assert_eq!(log.append(b"a\nb\n", b"one").unwrap(), Taken::Repeated);
    assert_eq!(log.append(b"other\n", b"one").unwrap(), Taken::OtherRows);
    assert_eq!((log.line(), log.open_bytes(), log.unread().len()), (3, 6, 0));
    log.close_segment().unwrap();
    assert_eq!(log.append(b"d\n", b"two").unwrap(), Taken::New);
    // as a kill leaves it
    drop(log);
    let log = open(dir.path());
    assert_eq!(closed(dir.path()), [(0, 3), (3, 4)]);
    assert_eq!((log.line(), log.began_us(), log.unread().len()), (4, 5, 2));
    for key in ["one", "two"] {
        assert_eq!(log.append(b"other\n", key.as_bytes()).unwrap(), Taken::OtherRows, "{key}");
    }
    log.committed(&log.unread());
    assert_eq!((log.unread().len(), log.unread_bytes()), (0, 0));
    log.close();
    assert!(log.append(b"e\n", b"").is_err(), "another process may have the checkpoint by now");
}

#[test]
fn a_torn_tail_goes_and_what_was_promised_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.append(b"a\n", b"").unwrap();
    log.append(b"b\n", b"").unwrap();
    let path = dir.path().join(segments::open_name(0));
    let sound = fs::read(&path).unwrap();
    fs::write(&path, [&sound[..], b"HWRF half a frame"].concat()).unwrap();
    drop(open(dir.path()));
    assert_eq!(closed(dir.path()), [(0, 2)]);

    // the first frame was durable when the second was written
    fs::remove_file(dir.path().join(segments::closed_name(0))).unwrap();
    fs::remove_file(dir.path().join(segments::open_name(1))).unwrap();
    let mut damaged = sound;
    let at = damaged.windows(2).position(|pair| pair == b"a\n").unwrap();
    damaged[at] ^= 1;
    fs::write(&path, damaged).unwrap();
    let error = ReceiveLog::open(opening(dir.path())).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("--accept-change"), "{error}");
}

#[test]
fn a_missing_segment_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for _ in 0..3 {
        log.append(b"a\n", b"").unwrap();
        log.close_segment().unwrap();
    }
    drop(log);
    fs::remove_file(dir.path().join(segments::closed_name(1))).unwrap();
    let refused = ReceiveLog::open(opening(dir.path())).map(drop).unwrap_err();
    assert!(refused.to_string().contains("000000000001.frames"), "{refused}");
    assert!(ReceiveLog::open(Opening { committed: Some(1), ..opening(dir.path()) }).is_ok(), "a batch has read it");
    let (log, notices) = ReceiveLog::open(Opening { accept_gap: true, ..opening(dir.path()) }).unwrap();
    assert_eq!((notices.len(), log.unread().len(), log.line()), (1, 2, 3));
    drop(log);
    // the newest one is missed because of the open one behind it
    fs::remove_file(dir.path().join(segments::closed_name(2))).unwrap();
    for start in 0..2 {
        let refused = ReceiveLog::open(Opening { committed: Some(1), ..opening(dir.path()) }).map(drop).unwrap_err();
        assert!(refused.to_string().contains("000000000002.frames"), "start {start}: {refused}");
    }
}

#[test]
fn a_crash_at_each_point_keeps_what_was_promised() {
    let points = [
        CrashPoint::ReceivedWritten,
        CrashPoint::ReceivedDurable,
        CrashPoint::SegmentWritten,
        CrashPoint::SegmentClosed,
    ];
    for point in points {
        for nth in 1..5 {
            let dir = tempfile::tempdir().unwrap();
            let faults = Faults::armed(point, nth, Crash::Error);
            let (log, _) = ReceiveLog::open(Opening { segment_bytes: 300, faults, ..opening(dir.path()) }).unwrap();
            let mut promised = 0;
            let appended: Result<()> = (0..40).try_for_each(|number| {
                log.append(b"a line\n", format!("key {number}").as_bytes())?;
                promised += 1;
                Ok(())
            });
            assert_eq!(appended.unwrap_err().kind(), ErrorKind::Crashed, "{point}");
            assert_eq!(log.check().unwrap_err().kind(), ErrorKind::Crashed);
            drop(log);
            let log = open(dir.path());
            assert!(log.line() == promised || log.line() == promised + 1, "{point} {nth}: {promised}, {}", log.line());
            for number in 0..promised {
                let again = log.append(b"a line\n", format!("key {number}").as_bytes());
                assert_eq!(again.unwrap(), Taken::Repeated, "{point} {nth}");
            }
            let ends: Vec<_> = closed(dir.path());
            assert!(ends.windows(2).all(|pair| pair[0].1 == pair[1].0), "{ends:?}");
        }
    }
}

#[test]
fn many_at_once_are_durable_together() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(ReceiveLog::open(Opening { segment_bytes: 2000, ..opening(dir.path()) }).unwrap().0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let log = Arc::clone(&log);
            scope.spawn(move || {
                for number in 0..25 {
                    let key = format!("{thread} {number}");
                    assert_eq!(log.append(format!("{key}\n").as_bytes(), key.as_bytes()).unwrap(), Taken::New);
                }
            });
        }
    });
    assert_eq!(log.line(), 200);
    drop(log);
    assert_eq!(open(dir.path()).line(), 200);
    assert_eq!(closed(dir.path()).last().map(|last| last.1), Some(200));
}

#[test]
fn a_full_log_takes_more_when_a_batch_has_taken_some() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = ReceiveLog::open(Opening { unread_bytes_max: 10, ..opening(dir.path()) }).unwrap();
    log.append(b"0123456789\n", b"").unwrap();
    log.close_segment().unwrap();
    assert!(log.is_full());
    let waiting = log.clone();
    let waiter = std::thread::spawn(move || waiting.wait_for_room());
    log.committed(&log.unread());
    assert!(waiter.join().unwrap() && !log.is_full());
    log.append(b"0123456789\n", b"").unwrap();
    let waiting = log.clone();
    let waiter = std::thread::spawn(move || waiting.wait_for_room());
    log.close();
    assert!(!waiter.join().unwrap(), "there is no more to wait for");
}
