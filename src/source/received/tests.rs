//! The receive log over a real folder.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Notices,
    lines::{Ended, pump},
    log::{ReceiveLog, Taken},
    opening::Opening,
    segments::{self, Folder},
};
use crate::{
    job::FORKED,
    model::{CrashPoint, Error, ErrorKind, Faults, Result, crash::Crash},
};

/// A folder that no log was in.
struct Temporary {
    path: PathBuf,
    _removed: tempfile::TempDir,
}

fn temporary() -> Temporary {
    let dir = tempfile::tempdir().unwrap();
    Temporary { path: dir.path().join("received/s"), _removed: dir }
}

impl Temporary {
    fn path(&self) -> &Path {
        &self.path
    }
}

fn opening(folder: &Path) -> Opening<'_> {
    Opening {
        folder,
        source: "s",
        committed: None,
        accept_gap: false,
        keys_kept_us: Some(i64::MAX),
        rows_per_second: 0,
        segment_bytes: 1 << 20,
        unread_bytes_max: 1 << 20,
        now_us: 5,
        faults: Faults::none(),
    }
}

fn open(folder: &Path) -> ReceiveLog {
    ReceiveLog::open(opening(folder)).unwrap().0
}

#[track_caller]
fn refused(opening: Opening<'_>) -> Error {
    let error = ReceiveLog::open(opening).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("--accept-change"), "{error}");
    error
}

/// A log with so many closed segments of one line, each under its number as a key.
fn with_segments(folder: &Path, count: u64) {
    let log = open(folder);
    for number in 0..count {
        log.append(b"a\n", number.to_string().as_bytes()).unwrap();
        log.close_segment().unwrap();
    }
}

/// The numbers of the first and the next line of each closed segment.
fn closed(folder: &Path) -> Vec<(u64, u64)> {
    let scan = |number: &u64| {
        let (scan, _) = segments::read_scan(&folder.join(segments::closed_name(*number)), *number, "s").unwrap();
        assert!(scan.sealed);
        (scan.header.line, scan.line)
    };
    Folder::read(folder).unwrap().closed.iter().map(scan).collect()
}

#[test]
fn what_was_appended_is_found_again_and_repeated_keys_are_known() {
    let dir = temporary();
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
    assert_eq!((log.line(), log.pace().since_us, log.unread().len()), (4, 5, 2));
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
    let dir = temporary();
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
    refused(opening(dir.path()));
}

/// A crash tears what was not durable yet. What was, somebody has cut.
#[test]
fn a_cut_of_what_was_promised_is_damage() {
    let dir = temporary();
    let log = open(dir.path());
    log.append(b"a\n", b"").unwrap();
    let promised = fs::metadata(dir.path().join(segments::open_name(0))).unwrap().len();
    log.append(b"b\n", b"").unwrap();
    drop(log);
    let path = dir.path().join(segments::open_name(0));
    let sound = fs::read(&path).unwrap();
    for length in [promised as usize, sound.len() - 80] {
        fs::write(&path, &sound[..length]).unwrap();
        let error = refused(opening(dir.path()));
        assert!(error.to_string().contains("were durable"), "{error}");
    }
    // its last mark was not
    fs::write(&path, &sound[..sound.len() - 10]).unwrap();
    drop(open(dir.path()));
    assert_eq!(closed(dir.path()), [(0, 2)]);
}

#[test]
fn a_missing_segment_is_missed() {
    let dir = temporary();
    with_segments(dir.path(), 3);
    fs::remove_file(dir.path().join(segments::closed_name(1))).unwrap();
    let error = refused(opening(dir.path()));
    assert!(error.to_string().contains("000000000001.frames"), "{error}");
    let read = |keys_kept_us| Opening { committed: Some(1), keys_kept_us, ..opening(dir.path()) };
    assert!(ReceiveLog::open(read(None)).is_ok(), "a batch has read it");
    assert!(refused(read(Some(i64::MAX))).to_string().contains("requests that may come again"));
    let (log, notices) = ReceiveLog::open(Opening { accept_gap: true, ..opening(dir.path()) }).unwrap();
    assert_eq!((notices.len(), log.unread().len(), log.line()), (1, 2, 3));
    drop(log);
    // what was accepted is not asked again
    drop(open(dir.path()));
    // the newest one is missed because of the open one behind it
    fs::remove_file(dir.path().join(segments::closed_name(2))).unwrap();
    for start in 0..2 {
        let error = refused(Opening { committed: Some(1), ..opening(dir.path()) });
        assert!(error.to_string().contains("000000000002.frames"), "start {start}: {error}");
    }
}

#[test]
fn the_open_segment_is_missed_but_in_a_fork() {
    for count in [0, 2] {
        let dir = temporary();
        with_segments(dir.path(), count);
        let log = open(dir.path());
        log.append(b"b\n", b"").unwrap();
        drop(log);
        let lost = dir.path().join(segments::open_name(count));
        fs::remove_file(&lost).unwrap();
        let error = refused(opening(dir.path()));
        assert!(error.to_string().contains(&*lost.to_string_lossy()), "{error}");
        let (log, notices) = ReceiveLog::open(Opening { accept_gap: true, ..opening(dir.path()) }).unwrap();
        assert_eq!((notices.len(), log.line()), (1, count));
        drop(log);
        assert_eq!(ReceiveLog::open(opening(dir.path())).unwrap().1, Vec::<String>::new());

        fs::remove_file(&lost).unwrap();
        fs::write(dir.path().join(FORKED), b"").unwrap();
        drop(open(dir.path()));
        assert!(!dir.path().join(FORKED).exists());
        fs::remove_file(&lost).unwrap();
        refused(opening(dir.path()));
    }
    // nor can all of it be lost
    let dir = temporary();
    refused(Opening { committed: Some(3), ..opening(dir.path()) });
    let (log, notices) =
        ReceiveLog::open(Opening { committed: Some(3), accept_gap: true, ..opening(dir.path()) }).unwrap();
    log.append(b"a\n", b"").unwrap();
    log.close_segment().unwrap();
    assert_eq!((notices.is_empty(), Folder::read(dir.path()).unwrap().closed), (false, vec![4]));
}

#[test]
fn a_log_that_is_older_than_the_batches_is_refused() {
    let dir = temporary();
    with_segments(dir.path(), 2);
    for committed in [2, 5] {
        let error = refused(Opening { committed: Some(committed), ..opening(dir.path()) });
        assert!(error.to_string().contains("older than the log of batches"), "{error}");
    }
    let (log, notices) =
        ReceiveLog::open(Opening { committed: Some(5), accept_gap: true, ..opening(dir.path()) }).unwrap();
    assert_eq!((notices.is_empty(), log.unread().len()), (false, 0));
    log.append(b"a\n", b"").unwrap();
    log.close_segment().unwrap();
    assert_eq!(Folder::read(dir.path()).unwrap().closed, [0, 1, 6]);
}

/// Rows by the clock: the line is known though the newest closed segment is gone, which a batch has read.
#[test]
fn the_open_segment_knows_how_many_lines_there_were() {
    let dir = temporary();
    let ticks =
        |now_us| Opening { keys_kept_us: None, rows_per_second: 10, committed: Some(1), now_us, ..opening(dir.path()) };
    with_segments(dir.path(), 2);
    fs::remove_file(dir.path().join(segments::closed_name(1))).unwrap();
    let (log, _) = ReceiveLog::open(ticks(1_000_000)).unwrap();
    assert_eq!((log.line(), log.pace().since_us, log.pace().rows_per_second), (2, 5, 10));
}

/// A fsync that failed in another process says nothing in this one: what a crash left is never trusted as it lies there.
#[test]
fn what_a_crash_left_open_is_written_anew() {
    for point in [CrashPoint::ReceivedWritten, CrashPoint::SegmentSealed, CrashPoint::SegmentWritten] {
        let dir = temporary();
        let faults = Faults::armed(point, 1, Crash::Error);
        let (log, _) = ReceiveLog::open(Opening { segment_bytes: 1, faults, ..opening(dir.path()) }).unwrap();
        log.append(b"a\n", b"key").unwrap_err();
        drop(log);
        let inode = |name: String| fs::metadata(dir.path().join(name)).map(|metadata| metadata.ino());
        let left = inode(segments::open_name(0)).unwrap();
        let log = open(dir.path());
        assert_ne!(inode(segments::closed_name(0)).unwrap(), left, "{point}");
        assert_eq!(log.append(b"a\n", b"key").unwrap(), Taken::Repeated);
    }
}

#[test]
fn a_crash_at_each_point_keeps_what_was_promised() {
    let points = [
        CrashPoint::ReceivedWritten,
        CrashPoint::ReceivedDurable,
        CrashPoint::SegmentSealed,
        CrashPoint::SegmentWritten,
        CrashPoint::SegmentBegun,
        CrashPoint::SegmentClosed,
    ];
    for point in points {
        for nth in 1..5 {
            let dir = temporary();
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
            // and again in the recovery
            for point in [CrashPoint::SegmentMended, CrashPoint::SegmentBegun] {
                let faults = Faults::armed(point, 1, Crash::Error);
                drop(ReceiveLog::open(Opening { faults, ..opening(dir.path()) }).map(drop));
            }
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
    let dir = temporary();
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
    let dir = temporary();
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

#[test]
fn what_is_in_hand_is_taken_when_the_log_stops() {
    struct Stopping(ReceiveLog, u32);
    impl io::Read for Stopping {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.stop();
            self.1 += 1;
            buffer[..9].copy_from_slice(b"a\nb\nhalf ");
            Ok(9)
        }
    }
    let dir = temporary();
    let log = open(dir.path());
    let mut peer = Stopping(log.clone(), 0);
    assert!(matches!(pump(&log, &mut peer, 100), (Ended::Stopped, true)));
    log.close_segment().unwrap();
    log.close();
    assert_eq!((peer.1, closed(dir.path())), (1, vec![(0, 2)]));
}

#[test]
fn of_a_line_that_breaks_off_nothing_is_taken() {
    /// A peer that does not answer any more: reads behind the error say that this is the end.
    struct Breaking(u32, io::ErrorKind);
    impl io::Read for Breaking {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => {
                    buffer[..8].copy_from_slice(b"1\n2\n1234");
                    Ok(8)
                }
                2 => Err(self.1.into()),
                _ => Ok(0),
            }
        }
    }
    for error in [io::ErrorKind::ConnectionReset, io::ErrorKind::TimedOut] {
        let dir = temporary();
        let log = open(dir.path());
        let (ended, came) = pump(&log, Breaking(0, error), 100);
        assert!(came && matches!(ended, Ended::Broken { unfinished_bytes: 4, .. }), "{ended:?}");
        log.close_segment().unwrap();
        log.close();
        assert_eq!(closed(dir.path()), vec![(0, 2)]);
    }
}

#[test]
fn a_wait_is_as_long_as_it_should_be_whatever_happens_meanwhile() {
    let dir = temporary();
    let log = open(dir.path());
    let busy = log.clone();
    let batches = std::thread::spawn(move || {
        while !busy.is_stopping() {
            busy.committed(&[]);
        }
    });
    #[allow(clippy::disallowed_methods)] // how long it takes is what is tested
    let started = Instant::now();
    assert!(!log.wait_for_stop(Duration::from_millis(300)));
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    log.stop();
    assert!(log.wait_for_stop(Duration::from_secs(100)));
    batches.join().unwrap();
}

#[test]
fn of_too_many_notices_the_newest_are_told() {
    let notices = Notices::default();
    (0..250).for_each(|number| notices.tell(number.to_string()));
    let told: Vec<_> = notices.take().into();
    assert_eq!((told.len(), told[0].text.as_str(), told[99].text.as_str()), (100, "150", "249"));
}
