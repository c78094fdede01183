//! What is beside the log, and damaged as well: what was received, and a database that results go to.
//!
//! What comes through the standard input stands for what comes from a socket: the same function cuts lines and writes the same
//! frames; rows by the clock have no others. What is posted has frames of its own, with keys.

use std::{
    fs,
    net::TcpStream,
    ops::Range,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use highwater::sink::table_lines;

use super::{past::Past, specimen::Specimen};
use crate::{
    binary::{HANGS_AFTER, Running},
    fed,
    received::http::post,
};

/// The database, as seen from the checkpoint.
pub const DATABASE: &str = "../output/out.db";

/// A job with tables of one database, and one in the checkpoint.
pub const TO_TABLES: &str = "
SET snapshot_batches = '5';
CREATE TABLE flows (device STRING, port STRING, bytes BIGINT)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE added WITH (connector = 'sqlite', path = '${OUTPUT}/out.db', output_mode = 'append');
CREATE TABLE changed WITH (connector = 'sqlite', path = '${OUTPUT}/out.db', output_mode = 'update');
CREATE TABLE whole WITH (connector = 'sqlite', path = '${OUTPUT}/out.db', output_mode = 'complete');
INSERT INTO counts SELECT device, count(*) AS count FROM flows WHERE port IN ('80', '443') GROUP BY device ORDER BY count DESC;
INSERT INTO added SELECT left(device, 20) AS device, port, bytes FROM flows WHERE bytes < 20000;
INSERT INTO changed SELECT left(device, 20) AS device, count(*) AS flows, sum(bytes) AS bytes FROM flows GROUP BY left(device, 20);
INSERT INTO whole SELECT port, count(*) AS flows, max(bytes) AS most FROM flows GROUP BY port;
";

/// The tables of which `verify` compares every row. In update mode it compares those of the newest batch.
const COMPARED: [&str; 2] = ["added", "whole"];

/// The last closed segment, and the open one.
const LAST: [&str; 2] = ["received/flows/000000000010.frames", "received/flows/000000000011.open"];

pub fn is_beside(file: &Path) -> bool {
    file.starts_with("received") || file == Path::new(DATABASE)
}

/// The input files with these numbers, each small enough to be one piece.
fn pieces(specimen: &Specimen, numbers: Range<usize>) -> Vec<String> {
    const BYTES_MAX: usize = 60 << 10;
    let piece = |number: usize| {
        let text = fs::read_to_string(specimen.input(&format!("{number:04}.json"))).expect("it is there");
        let end = text[..text.len().min(BYTES_MAX)].rfind('\n').expect("lines");
        text[..=end].to_owned()
    };
    numbers.map(piece).collect()
}

/// Gives the job pieces, each of which becomes a batch.
pub fn feed(specimen: &Specimen, numbers: Range<usize>) {
    let mut command = specimen.command_at(&["--available-now"], &[]);
    Running::start_given(&mut command, fed::pieces(pieces(specimen, numbers))).wait().sober().expect(0);
}

/// A trigger that comes at the start and not again: at a multiple of so long a time.
const ONCE: [&str; 2] = ["--interval", "8760h"];

/// How long the first trigger of a job that was just started may take. On a machine that is very busy, longer.
const FIRST_TRIGGER: [Duration; 3] = [Duration::from_millis(400), Duration::from_secs(3), Duration::from_secs(20)];

/// Gives the job two pieces that no batch takes, since its trigger does not come again. `give` waits so long for the first
/// trigger; where that came later, and took them, all is put back, and tried again.
fn leave_two(specimen: &Specimen, first: usize, give: impl Fn(Duration)) {
    specimen.keep("before");
    for delay in FIRST_TRIGGER {
        give(delay);
        if specimen.folder.canonical_log().len() == first {
            assert!(LAST.iter().all(|file| specimen.path(Path::new(file)).exists()), "one is closed, one is open");
            return;
        }
        specimen.put_back("before");
    }
    panic!("no batch is to take them");
}

/// Gives the job two pieces that no batch takes; kills it when the second is durable.
pub fn receive_two(specimen: &Specimen, first: usize) {
    leave_two(specimen, first, |delay| {
        let mut command = specimen.command_at(&ONCE, &[]);
        command.env("HIGHWATER_CRASH_AT", "received-durable:2");
        let given = fed::pieces_after(delay, pieces(specimen, first..first + 2));
        assert!(Running::start_given(&mut command, given).wait().sober().was_killed());
    });
}

/// Posts pieces to the job, each of which becomes a batch.
pub fn post_all(specimen: &Specimen, numbers: Range<usize>) {
    let running = Running::start(&mut specimen.command_at(&[], &[]));
    for (number, piece) in numbers.clone().zip(pieces(specimen, numbers)) {
        let started = Instant::now();
        loop {
            match post(specimen.port, &format!("piece {number}"), &piece) {
                Some((status, answer)) => break assert_eq!(status, 200, "{answer}"),
                None => assert!(started.elapsed() < HANGS_AFTER, "piece {number} is not answered"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    running.signal(libc::SIGTERM);
    running.wait().sober().expect(0);
    specimen.run().expect(0);
}

/// As [`receive_two`], of what is posted: the first is answered, the second is durable and is not.
pub fn post_two(specimen: &Specimen, first: usize) {
    leave_two(specimen, first, |delay| post_two_after(specimen, first, delay));
}

fn post_two_after(specimen: &Specimen, first: usize, delay: Duration) {
    let mut command = specimen.command_at(&ONCE, &[]);
    let running = Running::start(command.env("HIGHWATER_CRASH_AT", "received-durable:2"));
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", specimen.port)).is_err() {
        assert!(started.elapsed() < HANGS_AFTER, "it does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    // the first trigger comes at the start
    std::thread::sleep(delay);
    let two = pieces(specimen, first..first + 2);
    let answers: Vec<_> =
        two.iter().zip(["first", "second"]).map(|(piece, key)| post(specimen.port, key, piece)).collect();
    assert!(matches!(&answers[..], [Some((200, _)), None]), "{answers:?}");
    assert!(running.wait().sober().was_killed());
}

/// How many of the last batches may be missing without a word. What a crash left open ends where it is whole: an end that a
/// disk lost later cannot be told from one that was never written. Without the segment before it nobody knows of it at all.
pub fn missing_max(specimen: &Specimen) -> usize {
    if !matches!(specimen.past, Past::Received | Past::Posted) {
        return 0;
    }
    let is_sound = |file: &str| {
        let sound = fs::read(specimen.folder.at("sound/checkpoint").join(file)).expect("it is kept");
        fs::read(specimen.path(Path::new(file))).is_ok_and(|bytes| bytes == sound)
    };
    match (is_sound(LAST[1]), specimen.path(Path::new(LAST[0])).exists()) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    }
}

/// After a run that ended well: the tables are right, or somebody says that they are not.
#[track_caller]
pub fn look_at_tables(specimen: &Specimen, story: &str) {
    if specimen.past != Past::Database {
        return;
    }
    let tables = |path: PathBuf| COMPARED.map(|table| table_lines(&path, table).ok());
    if tables(specimen.folder.at("output/out.db")) != tables(specimen.folder.at("expected.db")) {
        let verified = specimen.folder.call(&["verify", "checkpoint"]);
        assert_ne!(verified.code(), Some(0), "{story}: the database is wrong, and nobody says so");
    }
}
