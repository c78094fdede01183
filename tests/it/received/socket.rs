//! Lines of a TCP peer.

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    time::Duration,
};

use super::{Job, counting, once, wait_until};
use crate::binary::{Chance, Running};

/// A peer that the job connects to.
struct Peer(TcpListener);

impl Peer {
    fn new() -> Peer {
        Peer(TcpListener::bind("127.0.0.1:0").expect("a port"))
    }

    fn options(&self) -> String {
        let port = self.0.local_addr().expect("it is bound").port();
        format!("connector = 'socket', host = '127.0.0.1', port = {port}, format = 'text', batch_interval = '20 ms'")
    }

    /// As [`Peer::accept`]; `None`: the job has ended instead.
    fn accept_unless_gone(&self, running: &mut Running) -> Option<TcpStream> {
        self.0.set_nonblocking(true).expect("a socket has options");
        let mut accepted = None;
        wait_until("the job connects, or is gone", || {
            accepted = self.0.accept().ok().map(|(stream, _)| stream);
            accepted.is_some() || !running.is_running()
        });
        self.0.set_nonblocking(false).expect("a socket has options");
        let stream = accepted?;
        stream.set_nonblocking(false).expect("a socket has options");
        stream.set_write_timeout(Some(Duration::from_secs(10))).expect("a socket has options");
        Some(stream)
    }

    /// Connections of a job that was killed meanwhile are none.
    fn forget(&self) {
        self.0.set_nonblocking(true).expect("a socket has options");
        while self.0.accept().is_ok() {}
        self.0.set_nonblocking(false).expect("a socket has options");
    }

    /// Waits for the job to connect.
    fn accept(&self) -> TcpStream {
        let (stream, _) = self.0.accept().expect("the job connects");
        stream.set_write_timeout(Some(Duration::from_secs(10))).expect("a socket has options");
        stream
    }
}

fn lines(numbers: std::ops::Range<usize>) -> String {
    numbers.map(|number| format!("line {number}.\n")).collect()
}

fn values(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("line {number}."))
}

#[test]
fn each_line_counts_once_though_peer_and_job_come_and_go() {
    let peer = Peer::new();
    let job = Job::new(&counting(&peer.options()));
    let mut chance = Chance::new(3);
    let mut sent = 0;
    for round in 0..8 {
        let running = job.start();
        // the peer closes once by itself: the job connects again
        for _ in 0..=(round % 2) {
            let mut stream = peer.accept();
            for _ in 0..4 {
                let next = sent + 1 + chance.below(60);
                stream.write_all(lines(sent..next).as_bytes()).expect("the job reads");
                sent = next;
            }
            job.wait_for_receipt("lines", &format!("line {}.\n", sent - 1));
        }
        running.kill_after(chance.moment(Duration::from_millis(120)));
        peer.forget();
    }
    job.finish();
    once(&job.counts(), values(sent));
    job.verify();
}

#[test]
fn killed_at_every_point_between_receipt_and_commit() {
    let points = [
        "checkpoint-built:1",
        "checkpoint-created:1",
        "open-copied:1",
        "open-renamed:1",
        "received-written:2",
        "received-durable:1",
        "received-durable:3",
        "segment-mended:1",
        "segment-sealed:1",
        "segment-written:1",
        "segment-written:2",
        "segment-begun:1",
        "segment-begun:2",
        "segment-closed:1",
        "segment-closed:2",
        "planned:2",
        "read:2",
        "stepped:1",
        "staged:2",
        "applied:2",
        "flushed:1",
        "committed:1",
        "committed:3",
        "published:2",
        "snapshot-written:1",
        "seal-written:1",
        "sealed:1",
        "live-replaced:1",
    ];
    let peer = Peer::new();
    let job = Job::new(&counting(&peer.options()));
    let mut sent = 0;
    for point in points {
        let mut running = job.start_to_crash(point);
        // recovery may come to the point before anything is received
        let Some(mut stream) = peer.accept_unless_gone(&mut running) else {
            assert!(running.wait().sober().was_killed(), "it comes to {point}");
            continue;
        };
        // one piece after the other, each received before the next is sent, until the job is gone
        while running.is_running() {
            let piece = lines(sent..sent + 3);
            if stream.write_all(piece.as_bytes()).is_err() {
                break;
            }
            let received = |job: &Job| {
                job.log("lines").values().any(|bytes| memchr::memmem::find(bytes, piece.as_bytes()).is_some())
            };
            wait_until("it is received, or the job is gone", || received(&job) || !running.is_running());
            if !received(&job) {
                break;
            }
            sent += 3;
            std::thread::sleep(Duration::from_millis(30));
        }
        assert!(running.wait().sober().was_killed(), "it comes to {point}");
        peer.forget();
    }
    job.finish();
    once(&job.counts(), values(sent));
    job.verify();
}

#[test]
fn the_last_line_needs_no_end_and_a_line_that_is_too_long_is_a_bad_record() {
    let peer = Peer::new();
    let job = Job::new(&counting(&(peer.options() + ", max_line_bytes = 100")));
    let running = job.start();
    let mut stream = peer.accept();
    let text = format!("first\r\n{}\nlast", "x".repeat(4_000_000));
    stream.write_all(text.as_bytes()).expect("the job reads");
    drop(stream);
    job.wait_for_receipt("lines", "last\n");
    running.signal(libc::SIGTERM);
    running.wait().expect(0);
    job.finish();
    let counts = job.counts();
    assert_eq!((counts.get("first"), counts.get("last"), counts.len()), (Some(&1), Some(&1), 3), "{counts:?}");
    let bytes: usize = job.log("lines").values().map(Vec::len).sum();
    // what comes at once is kept as it is
    assert!(bytes < 600_000, "what nobody can use is not kept: {bytes}");
}

#[test]
fn a_peer_that_sends_faster_than_the_job_commits_is_slowed_down() {
    let peer = Peer::new();
    // the job receives and takes nothing: it waits for the multiple of a long interval
    let options = peer.options() + ", max_unread_bytes = '64KiB', batch_bytes = '16KiB'";
    let job = Job::new(&counting(&options));
    let running = Running::start(&mut job.command(&["--interval", "1h"]));
    let mut stream = peer.accept();
    stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket has options");
    let mut sent = 0;
    while sent < 64 << 20 {
        match stream.write(&[b'\n'; 1 << 16]) {
            Ok(count) => sent += count,
            Err(_) => break,
        }
    }
    assert!(sent < 64 << 20, "the peer has to wait");
    let log: usize = job.log("lines").values().map(Vec::len).sum();
    // a chunk more than the limit may be read, and each is a frame
    assert!(log < (64 << 10) + (512 << 10), "{log} bytes");
    drop(running);
}

#[test]
fn a_rewind_replays_what_was_received_and_a_fork_takes_it_along() {
    let peer = Peer::new();
    let job = Job::new(&counting(&peer.options()));
    let running = job.start();
    let mut stream = peer.accept();
    for batch in 0..6 {
        stream.write_all(lines(batch * 10..batch * 10 + 10).as_bytes()).expect("the job reads");
        wait_until("a batch has it", || job.call(&["log", "checkpoint", "--json"]).stdout.lines().count() > batch);
    }
    running.signal(libc::SIGTERM);
    running.wait().expect(0);
    job.finish();
    let before = job.counts();
    once(&before, values(60));
    job.call(&["fork", "checkpoint", "--at", "2", "forked"]).expect(0);
    job.call(&["rewind", "checkpoint", "--to", "1"]).expect(0);
    once(&job.counts(), values(20));
    job.finish();
    assert_eq!(job.counts(), before);
    job.verify();
    job.call(&["rewind", "checkpoint", "--to", "0", "--replan"]).expect(0);
    job.finish();
    assert_eq!(job.counts(), before);
    job.verify();
    // the fork needs nothing of its origin any more
    std::fs::remove_dir_all(job.0.at("checkpoint")).expect("it can be removed");
    once(&job.counts_at("forked"), values(30));
    job.call(&["run", "job.sql", "--checkpoint", "forked", "--available-now"]).expect(0);
    assert_eq!(job.counts_at("forked"), before);
    job.call(&["verify", "forked", "--batch", "--every"]).expect(0);
}
