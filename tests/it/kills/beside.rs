//! Every named point once more: with a source that receives, and with sinks that are no folders.

use std::{collections::BTreeSet, fs};

use highwater::model::CrashPoint;

use super::{Outcome, long_name};
use crate::{
    binary::{Chance, Ended, Folder, Running},
    fed,
    received::POINTS,
    syscalls::subject::{Kind, Subject},
};

/// A table in the checkpoint, and a folder, so that plans are made durable.
const JOB: &str = "
SET snapshot_batches = '2';
CREATE TABLE flows (device STRING, port STRING, bytes BIGINT)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE traffic WITH (connector = 'files', path = '${OUTPUT}', format = 'json', output_mode = 'update');
INSERT INTO counts SELECT device, count(*) AS count FROM flows GROUP BY device ORDER BY count DESC;
INSERT INTO traffic SELECT port, count(*) AS flows, sum(bytes) AS bytes FROM flows GROUP BY port;
";

/// Tables of a database, and a program. What it is told twice is the same.
const SINKS: &str = "
CREATE TABLE added WITH (connector = 'sqlite', path = '${OUTPUT}/out.db', output_mode = 'append');
CREATE TABLE changed WITH (connector = 'sqlite', path = '${OUTPUT}/out.db', output_mode = 'update');
CREATE TABLE told WITH (connector = 'command', output_mode = 'update', command = 'mkdir -p told; cat > told/$HIGHWATER_BATCH');
INSERT INTO added SELECT left(device, 20) AS device, bytes FROM flows WHERE bytes > 50000;
INSERT INTO changed SELECT port, max(bytes) AS most FROM flows GROUP BY port;
INSERT INTO told SELECT port, min(bytes) AS least FROM flows GROUP BY port;
";

const BATCHES: usize = 6;

fn text(number: usize, is_large: bool) -> String {
    let mut chance = Chance::new(number as u64);
    let row = |_| {
        let device = if is_large { long_name(&mut chance) } else { format!("Comp{}", chance.below(9)) };
        let (port, bytes) = (["80", "443", "22"][chance.below(3)], chance.below(100_000));
        format!("{{\"device\": \"{device}\", \"port\": \"{port}\", \"bytes\": {bytes}}}\n")
    };
    (0..if is_large { 160 } else { 20 }).map(row).collect()
}

/// What is to be the same, whatever was killed.
#[derive(Debug)]
struct End {
    outcome: Outcome,
    told: std::collections::BTreeMap<String, Vec<u8>>,
}

impl End {
    fn of(subject: &Subject) -> End {
        End { outcome: Outcome::of(subject), told: crate::binary::files(&subject.at("told")) }
    }
}

fn crash(subject: &Subject, words: &[&str], point: &str, nth: u64) -> Ended {
    let mut command = if words.is_empty() { subject.run_command(&["--available-now"]) } else { subject.command(words) };
    command.env("HIGHWATER_CRASH_AT", format!("{point}:{nth}"));
    Running::start_given(&mut command, subject.input()).wait().sober()
}

/// Kills a job for the first time.
fn first_kill(subject: &Subject, point: CrashPoint) -> Ended {
    match point {
        CrashPoint::Rewound | CrashPoint::RetractedFirst | CrashPoint::Retracted => {
            subject.run().expect(0);
            subject.give_nothing();
            crash(subject, &["rewind", "checkpoint", "--to", "3"], point.name(), 1)
        }
        CrashPoint::OpenCopied | CrashPoint::OpenRenamed => {
            assert!(crash(subject, &[], "committed", 2).was_killed());
            subject.give_nothing();
            crash(subject, &[], point.name(), 1)
        }
        // of a segment that a kill left open
        CrashPoint::SegmentMended => {
            if !crash(subject, &[], "received-durable", 2).was_killed() {
                return crash(subject, &[], point.name(), 1);
            }
            subject.give_nothing();
            crash(subject, &[], point.name(), 1)
        }
        CrashPoint::CheckpointBuilt
        | CrashPoint::CheckpointCreated
        | CrashPoint::PayloadsWritten
        | CrashPoint::Retiring => crash(subject, &[], point.name(), 1),
        _ => crash(subject, &[], point.name(), 2),
    }
}

fn kill_everywhere(subject: &Subject, elsewhere: &[CrashPoint]) {
    subject.run().expect(0);
    let expected = End::of(subject);
    let mut missed = BTreeSet::new();
    for point in CrashPoint::ALL {
        subject.start_over();
        if !expected.told.is_empty() {
            fs::remove_dir_all(subject.at("told")).expect("it was told");
        }
        if !first_kill(subject, *point).was_killed() {
            missed.insert(*point);
            continue;
        }
        // and again inside the recovery
        subject.give_nothing();
        crash(subject, &[], "published", 1);
        subject.run().expect(0);
        let end = End::of(subject);
        end.outcome.must_show(&expected.outcome, &format!("killed at {point}"));
        assert!(end.told == expected.told, "killed at {point}: {:?}", end.told.keys());
    }
    let elsewhere: BTreeSet<CrashPoint> = elsewhere.iter().copied().collect();
    assert_eq!(missed, elsewhere, "points that nothing reached");
}

#[test]
fn killed_at_every_named_point_while_it_receives() {
    let pieces = (0..BATCHES).map(|number| text(number, false)).collect();
    let job = format!("SET retain_batches = '3';{}", fed::over_stdin(JOB));
    let subject = Subject::of(Kind::Stdin, Folder::new(&job), pieces);
    // a piece is small, and so is what follows from it
    kill_everywhere(&subject, &[CrashPoint::PayloadsWritten]);
}

#[test]
fn killed_at_every_named_point_of_databases_and_programs() {
    let folder = Folder::new(&format!("{JOB}{SINKS}"));
    (0..BATCHES).for_each(|number| folder.input(number, text(number, number == 2).as_bytes()));
    // nothing is received, and nothing is let go
    let elsewhere = [&POINTS[..], &[CrashPoint::Retiring]].concat();
    kill_everywhere(&Subject::of(Kind::Sqlite, folder, Vec::new()), &elsewhere);
}
