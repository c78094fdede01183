//! Reading ahead changes speed only: files that are large enough for it, whatever the number of threads and the memory,
//! in a run, a replay, and where they change before their batch comes.

use std::time::{Duration, Instant};

use highwater::model::Faults;

use crate::{
    binary::Running,
    moving_input::{Change, JOB, Moving, frozen, lines},
    stream::{Scratch, stamp},
    trace::Trace,
};

const FILES: usize = 7;

/// Longer than what is read more quickly than handed over (64 KiB).
fn file(number: usize) -> Vec<u8> {
    let line = |row: usize| format!("{{\"k\": \"key {}\", \"x\": {}.25, \"n\": {row}}}\n", row * 7919 % 997, row % 83);
    let mut text: String = (number..number + 2500).map(line).collect();
    text.push_str("{\"k\": cut\n");
    text.into_bytes()
}

fn scratch(settings: &str) -> Scratch {
    let mut scratch = Scratch::new(&format!(
        "{settings}
         CREATE TABLE t (k STRING, x DOUBLE, n BIGINT) WITH (connector = 'files', path = '${{INPUT}}', format = 'json', max_files_per_trigger = 2);
         CREATE TABLE sums WITH (connector = 'memory', output_mode = 'complete');
         CREATE TABLE few WITH (connector = 'files', path = '${{OUTPUT}}', format = 'json', output_mode = 'update');
         INSERT INTO sums SELECT k, sum(x) AS s, count(*) AS c FROM t GROUP BY k;
         INSERT INTO few SELECT n % 10 AS d, max(k) AS k FROM t GROUP BY d;"
    ));
    (0..FILES).for_each(|number| scratch.add(&file(number)));
    scratch
}

fn trace(scratch: &Scratch) -> Trace {
    Trace::read(scratch.dir.path(), &scratch.checkpoint(), &scratch.output(), &|_| true)
}

#[test]
fn the_log_is_the_same_at_any_number_of_threads_and_any_memory() {
    let off = scratch("SET read_ahead_bytes = 0;");
    off.run(Faults::none(), 1).unwrap_or_else(|error| panic!("{error}"));
    let expected = trace(&off);
    for (settings, threads) in [("", 1), ("", 2), ("", 8), ("SET read_ahead_bytes = '100k';", 2)] {
        let ahead = scratch(settings);
        for batches_max in [Some(1), Some(2), None] {
            ahead.run_batches(Faults::none(), threads, batches_max).unwrap_or_else(|error| panic!("{error}"));
        }
        trace(&ahead).assert_same(&expected, &(settings, threads));
        ahead.rewind(Some(1), false, Faults::none()).unwrap_or_else(|error| panic!("{error}"));
        ahead.run(Faults::none(), threads).unwrap_or_else(|error| panic!("{error}"));
        trace(&ahead).assert_same(&expected, &("rewound", settings, threads));
    }
}

/// Found in review: a file that was read ahead was committed as it had been, though it was another one by then.
#[test]
fn a_file_that_changes_after_it_was_read_ahead_is_met_as_it_is() {
    for change in Change::ALL {
        // the next file, which is in hand by then, and one far behind
        for number in [3, 25] {
            let moving = Moving::new(JOB);
            for number in 0..30 {
                let path = moving.path(format!("{number:04}.json"));
                moving.write(&path, &lines(&format!("f{number}"), 4000));
                stamp(&path, number);
            }
            let running = frozen(&moving, 2);
            let there = moving.folder.published().len();
            let changed = moving.path(format!("{:04}.json", number.max(there + 1)));
            change.apply(&moving, &changed);
            running.signal(libc::SIGCONT);
            let ended = running.wait().expect(0);
            let told = ended.stderr.contains("the batch is planned again: an input file");
            assert_eq!(told, change.reason().is_some(), "{change:?} of {number}: {}", ended.stderr);
            moving.check();
        }
    }
}

#[test]
fn one_that_grows_before_its_trigger_comes_is_read_whole() {
    let moving = Moving::new(JOB);
    for number in 0..3 {
        let path = moving.path(format!("{number:04}.json"));
        moving.write(&path, &lines(&format!("f{number}"), 4000));
        stamp(&path, number);
    }
    let options = ["--interval", "700ms", "--max-batches", "3"];
    let running = Running::start(&mut moving.folder.run_command(&options));
    let started = Instant::now();
    while moving.folder.published().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(30), "the first batch never came");
        std::thread::sleep(Duration::from_millis(5));
    }
    // by now both other files are in hand, and their triggers are to come
    std::thread::sleep(Duration::from_millis(100));
    Change::Appended.apply(&moving, &moving.path("0002.json"));
    let ended = running.wait().expect(0);
    assert!(ended.stderr.contains("the batch is planned again: an input file"), "{}", ended.stderr);
    assert_eq!(moving.read().len(), 3);
    moving.check();
}
