//! The receive log itself: how long segments are kept, and what becomes of damage.

use std::{fs, io::Write, path::PathBuf};

use super::{Fed, Job, counting, once};
use crate::binary::Chance;

const STDIN: &str = "connector = 'stdin', format = 'text', batch_interval = '10 ms', batch_bytes = '200'";

/// Gives a job these lines, and runs it to their end.
fn feed(job: &Job, numbers: std::ops::Range<usize>, options: &[&str]) {
    let mut fed = Fed::start(&mut job.command(options));
    let mut pipe = fed.0.stdin.take().expect("a pipe");
    for number in numbers {
        writeln!(pipe, "line {number}.").expect("the job reads");
        if number % 20 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
    }
    drop(pipe);
    assert!(fed.0.wait().expect("it ends").success());
}

fn values(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("line {number}."))
}

fn segments(job: &Job) -> Vec<PathBuf> {
    let names = job.log("lines").into_keys().filter(|name| name.ends_with(".frames"));
    names.map(|name| job.0.at("checkpoint/received/lines").join(name)).collect()
}

#[test]
fn segments_go_when_no_kept_batch_needs_them() {
    let all = Job::new(&counting(STDIN));
    feed(&all, 0..300, &["--available-now"]);
    let few = Job::new(&format!("SET retain_batches = '2';\n{}", counting(STDIN)));
    feed(&few, 0..300, &["--available-now"]);
    once(&few.counts(), values(300));
    assert!(segments(&all).len() >= 9, "{:?}", segments(&all));
    // how many there are in all depends on how busy the machine was
    let first = |job: &Job| segments(job).first().is_some_and(|path| path.ends_with("000000000000.frames"));
    assert!(first(&all) && !first(&few) && segments(&few).len() >= 2, "{:?}", segments(&few));
    few.call(&["verify", "checkpoint"]).expect(0);
    let batch = few.call(&["verify", "checkpoint", "--batch"]);
    assert_eq!(batch.code(), Some(1));
    assert!(batch.stderr.contains("retain_batches let go of it"), "{}", batch.stderr);
    // what is kept can be gone back to
    let log = few.call(&["log", "checkpoint", "--json"]).expect(0).json();
    let back = log[log.len() - 2]["batchId"].as_u64().expect("a number").to_string();
    few.call(&["rewind", "checkpoint", "--to", &back]).expect(0);
    feed(&few, 300..310, &["--available-now"]);
    once(&few.counts(), values(310));
}

/// Found by the explorer of power losses, which does not keep times: a copy of a checkpoint refused to replay.
#[test]
fn a_copy_of_a_checkpoint_replays_what_was_received() {
    let job = Job::new(&counting(STDIN));
    feed(&job, 0..60, &["--available-now"]);
    job.call(&["rewind", "checkpoint", "--to", "0"]).expect(0);
    let (checkpoint, copy) = (job.0.at("checkpoint"), job.0.at("copy"));
    crate::binary::copy_tree(&checkpoint, &copy);
    fs::remove_dir_all(&checkpoint).expect("it can be removed");
    fs::rename(copy, checkpoint).expect("it can be moved");
    job.finish();
    once(&job.counts(), values(60));
    job.verify();
}

/// A job with segments that batches have taken, and some that none has.
fn half_taken() -> Job {
    let job = Job::new(&counting(STDIN));
    feed(&job, 0..60, &["--available-now"]);
    // received, and not taken: the trigger does not come again
    let mut fed = Fed::start(&mut job.command(&["--interval", "1h"]));
    let mut pipe = fed.0.stdin.take().expect("a pipe");
    for number in 60..200 {
        writeln!(pipe, "line {number}.").expect("the job reads");
        if number % 20 == 0 {
            job.wait_for_receipt("lines", &format!("line {number}.\n"));
        }
    }
    job.wait_for_receipt("lines", "line 199.\n");
    fed.0.kill().expect("it runs");
    job
}

#[test]
fn damage_of_what_no_batch_has_taken_is_named_and_never_a_silent_loss() {
    let job = half_taken();
    let sound = job.log("lines");
    assert!(sound.len() >= 4, "{:?}", sound.keys());
    let folder = job.0.at("checkpoint/received/lines");
    let log = job.call(&["log", "checkpoint", "--json"]).expect(0).json();
    let taken: Vec<String> = log
        .iter()
        .flat_map(|batch| batch["sources"][0]["files"].as_array().cloned().unwrap_or_default())
        .map(|name| name.as_str().expect("a name").to_owned())
        .collect();
    let checkpoint = job.0.at("checkpoint");
    let kept = job.0.at("kept");
    crate::binary::copy_tree(&checkpoint, &kept);
    let mut chance = Chance::new(5);
    let (mut refused, mut whole) = (0, 0);
    for case in 0..60 {
        fs::remove_dir_all(&checkpoint).expect("it can be removed");
        crate::binary::copy_tree(&kept, &checkpoint);
        let names: Vec<&String> = sound.keys().collect();
        let name = names[chance.below(names.len())];
        let mut bytes = sound[name].clone();
        let story = match case % 3 {
            0 => {
                fs::remove_file(folder.join(name)).expect("it can be removed");
                format!("{name} removed")
            }
            1 => {
                bytes.truncate(chance.below(bytes.len()));
                fs::write(folder.join(name), &bytes).expect("it can be written");
                format!("{name} cut to {}", bytes.len())
            }
            _ => {
                let bit = chance.below(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                fs::write(folder.join(name), &bytes).expect("it can be written");
                format!("{name}, bit {bit} of {}", bytes.len() * 8)
            }
        };
        let mut command = job.command(&["--available-now"]);
        let ended = crate::binary::Running::start(&mut command).wait().sober();
        match ended.code() {
            Some(0) => {
                whole += 1;
                // the last mark of the open segment promises nothing to anybody
                assert!(taken.contains(name) || name == "durable" || story.contains(".open"), "{story}");
                once(&job.counts(), values(200));
            }
            Some(3 | 1) => {
                refused += 1;
                assert!(!taken.contains(name), "{story}: {}", ended.stderr);
                assert!(
                    ended.stderr.contains("--accept-change") && ended.stderr.contains(name.as_str()),
                    "{story}: {}",
                    ended.stderr
                );
                let verified = job.call(&["verify", "checkpoint"]);
                assert_eq!(verified.code(), Some(3), "{story}: {}", verified.stdout);
            }
            other => panic!("{story}: {other:?} {}", ended.stderr),
        }
    }
    assert!(refused > 10 && whole > 2, "{refused} refused, {whole} whole");
}

#[test]
fn without_a_damaged_segment_the_job_goes_on_when_it_is_told_to() {
    let job = half_taken();
    let folder = job.0.at("checkpoint/received/lines");
    let mut names: Vec<String> = job.log("lines").into_keys().filter(|name| name.ends_with(".frames")).collect();
    let gone = names.swap_remove(names.len() - 2);
    fs::remove_file(folder.join(&gone)).expect("it can be removed");
    let refused = crate::binary::Running::start(&mut job.command(&["--available-now"])).wait().sober();
    assert_eq!(refused.code(), Some(3), "{}", refused.stderr);
    let mut accepted = job.command(&["--available-now", "--accept-change"]);
    let accepted = crate::binary::Running::start(&mut accepted).wait().expect(0);
    assert!(accepted.stderr.contains(&gone), "{}", accepted.stderr);
    let counts = job.counts();
    assert!(counts.len() < 200 && counts.contains_key("line 199."), "{}", counts.len());
    job.finish();
}

/// A copy has another time, and is as good.
#[test]
fn a_segment_that_is_put_back_from_a_copy_is_what_it_was() {
    let job = Job::new(&counting(STDIN));
    feed(&job, 0..60, &["--available-now"]);
    let before = job.counts();
    job.call(&["rewind", "checkpoint", "--to", "0"]).expect(0);
    for segment in segments(&job) {
        let bytes = fs::read(&segment).expect("it is there");
        fs::remove_file(&segment).expect("it can be removed");
        fs::write(&segment, bytes).expect("it can be written");
    }
    feed(&job, 60..60, &["--available-now"]);
    assert_eq!(job.counts(), before);
    job.verify();
}

/// A file may not grow beyond some size: as where the disk is full, what cannot be received is said, with file and remedy.
#[test]
fn a_disk_that_takes_no_more_is_named() {
    let options = STDIN.replace("batch_bytes = '200'", "batch_bytes = '1GiB'").replace("10 ms", "100 seconds");
    let job = Job::new(&counting(&options));
    let run = job.command(&["--available-now"]);
    let mut limited = std::process::Command::new("/bin/bash");
    limited.args(["-c", "ulimit -f 4096 && exec \"$0\" \"$@\""]).arg(run.get_program()).args(run.get_args());
    limited.current_dir(run.get_current_dir().expect("it has one"));
    let stderr = job.0.at("stderr");
    limited.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let mut child = limited.stderr(fs::File::create(&stderr).expect("a file")).spawn().expect("it starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    let line = format!("{}\n", "x".repeat(9_999));
    // it ends before it has read all
    while pipe.write_all(line.as_bytes()).is_ok() {}
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    let told = fs::read_to_string(stderr).expect("it said something");
    for part in ["cannot write to a receive log", "000000000000.open", "File too large", "ulimit -f"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn bad_records_of_a_segment_are_not_to_be_mended() {
    let strict = "connector = 'stdin', format = 'json', batch_interval = '10 ms'";
    for option in ["mode = 'failfast'", "max_bad_records = 0"] {
        let job = Job::new(&counting(&format!("{strict}, {option}")));
        let mut fed = Fed::start(&mut job.command(&["--available-now"]));
        writeln!(fed.0.stdin.take().expect("a pipe"), "no json").expect("the job reads");
        assert_eq!(fed.0.wait().expect("it ends").code(), Some(4), "{option}");
        let again = crate::binary::Running::start(&mut job.command(&["--available-now"])).wait().sober();
        let help = again.stderr.contains("what was received stays as it is");
        assert!(again.code() == Some(4) && help && !again.stderr.contains("mend"), "{option}: {}", again.stderr);
    }
}

#[test]
fn what_a_job_cannot_do_is_refused() {
    let job = Job::new(&counting(STDIN));
    let batch = job.call(&["batch", "job.sql"]);
    assert_eq!(batch.code(), Some(2));
    assert!(batch.stderr.contains("only while the job runs"), "{}", batch.stderr);
    let crash_test = job.call(&["crash-test", "job.sql", "--kills", "1"]);
    assert!(crash_test.code() == Some(2) && crash_test.stderr.contains("connector = 'files'"), "{}", crash_test.stderr);
    let check = job.call(&["check", "job.sql"]).expect(0);
    assert!(check.stdout.contains("source 'lines': StdinSource: exactly once from receipt on"), "{}", check.stdout);
    // a folder is no receive log
    feed(&job, 0..10, &["--available-now"]);
    job.0.write("job.sql", counting("connector = 'files', path = 'input', format = 'text'").as_bytes());
    let other = crate::binary::Running::start(&mut job.command(&["--available-now"])).wait().sober();
    assert!(other.code() == Some(3) && other.stderr.contains("connector 'stdin', not 'files'"), "{}", other.stderr);
}
