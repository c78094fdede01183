//! Reading a checkpoint from outside, running and stopped; forks.

use std::os::unix::fs::PermissionsExt;

use super::{damage::copy_tree, *};
use crate::model::{ErrorKind, Generation};

fn state_of(reader: &Reader, address: BatchAddress) -> crate::model::Result<Vec<Vec<u8>>> {
    restore(&reader.restore_steps(address)?, |payload| reader.read_payload(payload))
}

fn check(dir: &Path, newest: u64) {
    let reader = Reader::open(dir).unwrap();
    assert_eq!(reader.history().live().len() as u64, newest + 1);
    assert_eq!(reader.genesis(), &genesis());
    for batch in 0..=newest {
        assert_eq!(state_of(&reader, at(batch)).unwrap(), expected(batch, 3000), "batch {batch}");
        assert_eq!(reader.find(at(batch)).unwrap().progress, format!("{{\"batchId\":{batch}}}"));
    }
    let error = reader.find(at(newest + 1)).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Usage && error.to_string().contains(&format!("batches 0 to {newest}")),
        "{error}"
    );
    assert_eq!(verify(dir).unwrap(), []);
}

#[test]
fn a_running_and_a_stopped_checkpoint_read_the_same_however_deep_they_lie() {
    let dir = tempfile::tempdir().unwrap();
    let deep = (0..12).fold(dir.path().to_owned(), |path, i| path.join(format!("{i}-a-folder-with-a-long-name")));
    assert!(deep.as_os_str().len() > 300);
    let mut checkpoint = Checkpoint::create(&deep, genesis(), options(Faults::none())).unwrap();
    for batch in 0..9 {
        commit(&mut checkpoint, 3000).unwrap();
        check(&deep, batch);
        if batch == 4 {
            snapshot(&mut checkpoint).unwrap();
            check(&deep, batch);
        }
    }
    let mode = std::fs::metadata(deep.join("socket")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    checkpoint.close().unwrap();
    assert!(!deep.join("socket").exists());
    check(&deep, 8);
    drop(open(&deep));
    check(&deep, 8);
}

#[test]
fn a_stale_socket_is_replaced_and_noise_on_it_is_survived() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().unwrap();
    drop(Checkpoint::create(dir.path(), genesis(), options(Faults::none())).unwrap());
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap());
    let mut checkpoint = open(dir.path());
    commit(&mut checkpoint, 3000).unwrap();
    for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"", b"HWDUMP\0\x02", b"HWTAIL\0\x01\0\0"] {
        let mut stream = std::os::unix::net::UnixStream::connect(dir.path().join("socket")).unwrap();
        stream.write_all(noise).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // It hangs up; whether with an error depends on how much of the noise it read.
        if stream.read_to_end(&mut answer).is_ok() {
            assert!(answer.is_empty());
        }
    }
    check(dir.path(), 0);
    commit(&mut checkpoint, 3000).unwrap();
    check(dir.path(), 1);
}

#[test]
fn a_reader_that_is_kept_reads_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut checkpoint = Checkpoint::create(dir.path(), genesis(), options(Faults::none())).unwrap();
    commit(&mut checkpoint, 3000).unwrap();
    let mut reader = Reader::open(dir.path()).unwrap();
    assert!(reader.refresh().unwrap(), "nothing came");
    for batch in 1..5 {
        commit(&mut checkpoint, 3000).unwrap();
        if batch % 2 == 0 {
            assert!(reader.refresh().unwrap());
            for batch in 0..=batch {
                assert_eq!(state_of(&reader, at(batch)).unwrap(), expected(batch, 3000), "batch {batch}");
            }
        }
    }
    checkpoint.rewind(Some(BatchId(2)), true, 0).unwrap();
    assert!(reader.refresh().unwrap());
    assert_eq!(reader.history().newest().unwrap().batch(), BatchId(2));
    // another part: what is older is in a sealed one
    commit(&mut checkpoint, 3000).unwrap();
    snapshot(&mut checkpoint).unwrap();
    assert!(!reader.refresh().unwrap());
    let mut reader = Reader::open(dir.path()).unwrap();
    assert!(reader.refresh().unwrap());
    checkpoint.close().unwrap();
    assert!(!reader.refresh().unwrap(), "it has stopped");
}

#[test]
fn a_reader_that_is_kept_notices_another_record_under_the_same_number() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, before) = (dir.path().join("ours"), dir.path().join("before"));
    let mut checkpoint = Checkpoint::create(&ours, genesis(), options(Faults::none())).unwrap();
    commit(&mut checkpoint, 3000).unwrap();
    checkpoint.close().unwrap();
    copy_tree(&ours, &before);
    let committed = |length: usize| {
        let mut checkpoint = open(&ours);
        commit(&mut checkpoint, length).unwrap();
        checkpoint
    };
    let checkpoint = committed(3000);
    let mut reader = Reader::open(&ours).unwrap();
    assert!(reader.refresh().unwrap(), "nothing came");
    checkpoint.close().unwrap();
    std::fs::remove_dir_all(&ours).unwrap();
    copy_tree(&before, &ours);
    let checkpoint = committed(200);
    assert_eq!(checkpoint.history().newest().unwrap().batch(), BatchId(1));
    assert!(!reader.refresh().unwrap());
    checkpoint.close().unwrap();
}

#[test]
fn what_the_owner_is_at_is_told_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut checkpoint = Checkpoint::create(dir.path(), genesis(), options(Faults::none())).unwrap();
    commit(&mut checkpoint, 3000).unwrap();
    let asked = || Reader::open(dir.path()).unwrap().activity().unwrap();
    assert_eq!(asked(), Some(Activity::default()), "it said nothing yet");
    checkpoint.runs_since(5);
    checkpoint.works_on(Some((BatchId(1), 7)));
    assert_eq!(asked(), Some(Activity { since_us: Some(5), at_work: Some((BatchId(1), 7)) }));
    checkpoint.works_on(None);
    assert_eq!(asked(), Some(Activity { since_us: Some(5), at_work: None }));
    checkpoint.close().unwrap();
    assert_eq!(asked(), None);
}

#[test]
fn a_folder_that_cannot_be_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut checkpoint = Checkpoint::create(dir.path(), genesis(), options(Faults::none())).unwrap();
    commit(&mut checkpoint, 3000).unwrap();
    checkpoint.close().unwrap();
    std::fs::remove_file(dir.path().join("LOCK")).unwrap();
    for folder in ["log", "."] {
        std::fs::set_permissions(dir.path().join(folder), PermissionsExt::from_mode(0o555)).unwrap();
    }
    check(dir.path(), 0);
    assert!(!dir.path().join("LOCK").exists());
    for folder in [".", "log"] {
        std::fs::set_permissions(dir.path().join(folder), PermissionsExt::from_mode(0o755)).unwrap();
    }
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for dir in [dir.path().to_owned(), dir.path().join("nowhere")] {
        assert_eq!(Reader::open(&dir).err().unwrap().kind(), ErrorKind::Refused);
        assert_eq!(verify(&dir).unwrap_err().kind(), ErrorKind::Refused);
    }
}

#[test]
fn readers_of_a_busy_checkpoint_with_retention_never_see_half_a_step() {
    let dir = tempfile::tempdir().unwrap();
    let keep = OpenOptions { faults: Faults::none(), settings: settings(Some(3)) };
    let mut checkpoint = Checkpoint::create(dir.path(), genesis(), keep).unwrap();
    commit(&mut checkpoint, 3000).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut reads = 0;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let reader = Reader::open(dir.path()).unwrap();
                        let newest = reader.history().newest().unwrap();
                        let state = state_of(&reader, newest.address());
                        // Files may be dropped after the log was read, never replaced by others.
                        if let Ok(state) = state {
                            assert_eq!(state, expected(newest.batch().0, 3000));
                            reads += 1;
                        }
                    }
                    reads
                })
            })
            .collect();
        for batch in 1..60 {
            commit(&mut checkpoint, 3000).unwrap();
            if batch % 4 == 0 {
                snapshot(&mut checkpoint).unwrap();
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let reads: Vec<u64> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        assert!(reads.iter().all(|reads| *reads > 0), "{reads:?}");
    });
}

#[test]
fn a_fork_begins_with_the_state_and_position_of_its_batch() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let mut checkpoint = Checkpoint::create(&old, genesis(), options(Faults::none())).unwrap();
    for batch in 0..8 {
        commit(&mut checkpoint, 3000).unwrap();
        if batch == 3 {
            snapshot(&mut checkpoint).unwrap();
        }
    }
    checkpoint.rewind(Some(BatchId(5)), true, 0).unwrap();
    let origin = Reader::open(&old).unwrap();
    let address = BatchAddress { batch: BatchId(6), generation: Some(Generation(1)) };
    let state = state_of(&origin, address).unwrap();
    let fork = Genesis { checkpoint_id: "fork".to_owned(), ..genesis() };
    let mut payloads = encode_state(&state);
    payloads.push(Payload { query: "counts".to_owned(), kind: PayloadKind::Rows, bytes: b"rows so far".to_vec() });
    let mut forked = Checkpoint::fork(&origin, address, &new, fork, payloads, options(Faults::none())).unwrap();
    for _ in 0..2 {
        let history = forked.history();
        assert_eq!(
            (history.next_batch(), history.generation(), history.offset("flows")),
            (BatchId(7), Generation(1), Some(5))
        );
        assert_eq!((history.seen_files().len(), history.horizon()), (6, Some(BatchId(6))));
        assert_eq!(forked.recovery(), Recovery::PlanAnew);
        let origin = history.genesis().forked_from.clone().unwrap();
        assert_eq!(
            (origin.checkpoint_id.as_str(), origin.batch, origin.generation),
            ("c0ffee", BatchId(6), Generation(1))
        );
        let rows = forked.find(at(6)).unwrap().payloads[0].clone();
        assert_eq!(forked.read_payload(&rows).unwrap(), b"rows so far");
        assert_eq!(state_at(&forked, at(6)).unwrap(), expected(6, 3000));
        forked.close().unwrap();
        forked = open(&new);
    }
    for batch in 7..12 {
        commit(&mut forked, 3000).unwrap();
        if batch == 8 {
            snapshot(&mut forked).unwrap();
        }
    }
    assert_eq!(state_at(&forked, at(7)).unwrap(), expected(7, 3000));
    assert_eq!(forked.rewind(Some(BatchId(5)), false, 0).unwrap_err().kind(), ErrorKind::Refused);
    forked.rewind(Some(BatchId(6)), false, 0).unwrap();
    assert_eq!((forked.history().seen_files().len(), forked.history().pending().len()), (6, 5));
    drop(forked);
    assert_eq!(verify(&new).unwrap(), []);
}
