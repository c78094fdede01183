//! The standard input, and rows by the clock.

use std::{
    io::Write,
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Fed, Job, counting, once, wait_until};
use crate::{binary::Running, fed};

const STDIN: &str = "connector = 'stdin', format = 'text', batch_interval = '20 ms'";

#[test]
fn what_comes_through_a_pipe_is_counted_up_to_its_end() {
    for options in [&["--available-now"][..], &["--once"]] {
        let job = Job::new(&counting(STDIN));
        let mut fed = Fed::start(&mut job.command(options));
        let mut pipe = fed.0.stdin.take().expect("a pipe");
        for number in 0..500 {
            writeln!(pipe, "line {number}").expect("the job reads");
            if number % 100 == 0 {
                std::thread::sleep(Duration::from_millis(40));
            }
        }
        write!(pipe, "unended").expect("the job reads");
        drop(pipe);
        assert!(fed.0.wait().expect("it ends").success());
        let values = (0..500).map(|number| format!("line {number}")).chain(["unended".to_owned()]);
        once(&job.counts(), values);
        job.verify();
        let batches = job.call(&["log", "checkpoint", "--json"]).expect(0).lines().len();
        assert!(if options == ["--once"] { batches == 1 } else { batches > 2 }, "{batches} batches");
    }
}

/// Nothing more can come: what has come is committed, and the run ends, whatever its trigger.
#[test]
fn a_run_of_nothing_else_ends_with_its_input() {
    for options in [&[][..], &["--interval", "1h"]] {
        let job = Job::new(&counting(STDIN));
        let lines = (0..3).map(|piece| (0..40).map(|line| format!("line {}\n", piece * 40 + line)).collect());
        let ended = Running::start_given(&mut job.command(options), fed::pieces(lines.collect())).wait().expect(0);
        once(&job.counts(), (0..120).map(|number| format!("line {number}")));
        let told = ended.stderr;
        assert_eq!(told.matches("source 'lines': the standard input has ended").count(), 1, "{told}");
        assert!(told.contains("done with batch") && told.contains("0 segments left"), "{told}");
        assert!(!told.contains(" file"), "nothing of it is a file: {told}");
        // and again, with nothing on it
        let ended = Running::start(&mut job.command(options)).wait().expect(0);
        assert!(
            ended.stderr.contains("resuming after batch") && ended.stderr.contains("nothing new"),
            "{}",
            ended.stderr
        );
        job.verify();
    }
}

#[test]
fn a_run_of_something_else_goes_on_without_its_standard_input() {
    let sql = counting(STDIN)
        + "CREATE TABLE more (value STRING) WITH (connector = 'files', path = 'input', format = 'text');
CREATE TABLE others WITH (connector = 'memory', output_mode = 'complete');
INSERT INTO others SELECT value, count(*) AS count FROM more GROUP BY value;
";
    let job = Job::new(&sql);
    let mut running = Running::start_given(&mut job.command(&[]), fed::pieces(vec!["line 0\n".to_owned()]));
    let newest = |what: &str| job.call(&["show", "checkpoint", "--output", "json"]).stdout.contains(what);
    wait_until("the line is counted", || newest("line 0"));
    job.0.input(0, b"a file that came later\n");
    wait_until("the file is counted", || newest("a file that came later"));
    assert!(running.is_running());
    running.signal(libc::SIGTERM);
    let told = running.wait().expect(0).stderr;
    assert!(told.contains("the standard input has ended; nothing more comes of it"), "{told}");
    assert!(told.contains("0 files or segments left"), "{told}");
}

/// A line that was cut off may look whole, and what would have come behind it is missing.
#[test]
fn a_standard_input_that_breaks_off_has_not_ended() {
    for trigger in [&["--available-now"][..], &[], &["--interval", "8760h"]] {
        let job = Job::new(&counting(STDIN));
        let (mut ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        // whoever closes without having read this resets the connection
        theirs.write_all(b"unread").expect("it is open");
        ours.write_all(b"line 0\nline 1\nline 12").expect("it is open");
        drop(ours);
        let mut command = job.command(trigger);
        let told = Running::start_given(&mut command, OwnedFd::from(theirs).into()).wait().sober().expect(1).stderr;
        assert!(told.contains("broke off before its end") && told.contains("7 bytes"), "{trigger:?}: {told}");
        once(&job.counts_of("counts"), (0..2).map(|number| format!("line {number}")));
    }
}

/// What was piped into a job that never began to read is gone with the pipe: it is said that nothing of it was received.
#[test]
fn what_keeps_a_job_from_reading_says_that_it_has_not_read() {
    let job = Job::new(&format!(
        "{}CREATE TABLE kept WITH (connector = 'sqlite', path = 'out.db', output_mode = 'append');
INSERT INTO kept SELECT value FROM lines;
",
        counting(STDIN)
    ));
    let run = |crash: &str, line: &str| {
        let mut command = job.command(&["--available-now"]);
        if !crash.is_empty() {
            command.env("HIGHWATER_CRASH_AT", crash);
        }
        Running::start_given(&mut command, fed::pieces(vec![line.to_owned()])).wait()
    };
    assert!(run("committed", "line 0\n").was_killed());
    // the batch is to be published again
    let database = std::fs::read(job.0.at("out.db")).expect("it was made");
    job.0.write("out.db", &[b'x'; 4096]);
    let told = run("", "line 1\n").sober().expect(1).stderr;
    assert!(told.contains("out.db") && told.contains("nothing was read of the standard input"), "{told}");
    job.0.write("out.db", &database);
    run("", "line 1\n").sober().expect(0);
    once(&job.counts_of("counts"), (0..2).map(|number| format!("line {number}")));
}

#[test]
fn more_than_may_wait_comes_through_a_pipe() {
    let job = Job::new(&counting(&format!("{STDIN}, max_unread_bytes = '8KiB', batch_bytes = '4KiB'")));
    let mut fed = Fed::start(&mut job.command(&["--available-now"]));
    let mut pipe = fed.0.stdin.take().expect("a pipe");
    for number in 0..2000 {
        writeln!(pipe, "a line that is a little longer {number}").expect("the job reads");
    }
    drop(pipe);
    assert!(fed.0.wait().expect("it ends").success());
    once(&job.counts(), (0..2000).map(|number| format!("a line that is a little longer {number}")));
}

#[test]
fn a_killed_job_keeps_what_it_was_given() {
    let job = Job::new(&counting(STDIN));
    for round in 0..3 {
        let mut fed = Fed::start(&mut job.command(&[]));
        let mut pipe = fed.0.stdin.take().expect("a pipe");
        let text: String = (round * 50..round * 50 + 50).map(|number| format!("line {number}.\n")).collect();
        pipe.write_all(text.as_bytes()).expect("the job reads");
        job.wait_for_receipt("lines", &format!("line {}.\n", round * 50 + 49));
        fed.0.kill().expect("it runs");
        fed.0.wait().expect("it ends");
    }
    let mut fed = Fed::start(&mut job.command(&["--available-now"]));
    drop(fed.0.stdin.take());
    assert!(fed.0.wait().expect("it ends").success());
    once(&job.counts(), (0..150).map(|number| format!("line {number}.")));
    job.verify();
}

const RATE: &str = "SET snapshot_batches = '3';
CREATE TABLE ticks (timestamp TIMESTAMP, value BIGINT) WITH (connector = 'rate', rows_per_second = 400, batch_interval = '20 ms');
CREATE TABLE seen WITH (connector = 'memory', output_mode = 'append');
INSERT INTO seen SELECT value, timestamp FROM ticks;
";

fn ticks(job: &Job) -> Vec<(i64, String)> {
    let rows = job.call(&["show", "checkpoint", "--output", "json"]).expect(0).json();
    let tick =
        |row: &Value| (row["value"].as_i64().expect("a number"), row["timestamp"].as_str().expect("a time").to_owned());
    rows.iter().map(tick).collect()
}

fn micros(time: &str) -> i64 {
    let time = time.trim_end_matches('Z');
    let time = chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%dT%H:%M:%S%.f").expect("a time");
    time.and_utc().timestamp_micros()
}

#[test]
fn rows_by_the_clock_are_the_same_whatever_is_killed() {
    let job = Job::new(RATE);
    for (round, point) in ["committed:3", "received-written:4", "segment-written:2", ""].into_iter().enumerate() {
        let mut running = if point.is_empty() { job.start() } else { job.start_to_crash(point) };
        let started = Instant::now();
        wait_until("it is killed", || {
            started.elapsed() > Duration::from_millis(400) && (point.is_empty() || !running.is_running())
        });
        assert!(running.kill_after(Duration::ZERO).was_killed(), "round {round}");
    }
    job.finish();
    let all = ticks(&job);
    assert!(all.len() > 100, "{}", all.len());
    let first = micros(&all[0].1);
    for (number, (value, time)) in all.iter().enumerate() {
        assert_eq!(*value, number as i64);
        assert_eq!(micros(time), first + number as i64 * 2500, "{value}");
    }
    job.call(&["rewind", "checkpoint", "--to", "1"]).expect(0);
    job.finish();
    assert_eq!(ticks(&job), all);
    job.verify();
}

/// A changed rate counts from the next row on, which is due when it would have been.
#[test]
fn rows_by_the_clock_go_on_at_another_rate() {
    let job = Job::new(RATE);
    let mut rows = 0;
    for rate in [400, 100] {
        job.0.write("job.sql", RATE.replace("400", &rate.to_string()).as_bytes());
        let running = job.start();
        wait_until("there are more rows", || {
            let shown = job.call(&["show", "checkpoint", "--output", "json"]);
            shown.code() == Some(0) && shown.json().len() > rows + 50
        });
        assert!(running.kill_after(Duration::ZERO).was_killed());
        job.finish();
        rows = ticks(&job).len();
    }
    let all = ticks(&job);
    let steps: Vec<i64> = all.windows(2).map(|pair| micros(&pair[1].1) - micros(&pair[0].1)).collect();
    let changed = steps.iter().position(|step| *step != 2500).expect("the rate was changed");
    assert!(changed >= 50 && steps[changed..].iter().all(|step| *step == 10_000), "{steps:?}");
    assert!(all.iter().enumerate().all(|(number, (value, _))| *value == number as i64));
}
