//! A program gets each batch after its commit, whole, and again where it failed or the job was killed.

use std::{
    fs,
    io::Write as _,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    binary::{Ended, Folder, Running},
    fed,
};

const JOB: &str = "
CREATE TABLE t (k STRING, n BIGINT) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE told WITH (connector = 'command', output_mode = 'MODE', command = 'COMMAND');
INSERT INTO told SELECT k, SELECT FROM t WHERE n <> 7 GROUPS;
";

/// Writes each delivery to a file of its own, whatever was told before.
const KEEPS: &str = "f=got/$(ls got | wc -l)-$HIGHWATER_BATCH; { echo \"$HIGHWATER_MODE $HIGHWATER_ROWS $HIGHWATER_SINK\"; cat; } > $f; echo said";

fn folder(command: &str, append: bool) -> Folder {
    let (mode, select, groups) = if append { ("append", "n", "") } else { ("update", "sum(n) AS n", "GROUP BY k") };
    let job = JOB.replace("MODE", mode).replace("SELECT FROM", &format!("{select} FROM")).replace("GROUPS", groups);
    let folder = Folder::new(&job.replace("COMMAND", &command.replace('\'', "''")));
    for (number, n) in [1, 2, 7, 4].into_iter().enumerate() {
        folder.input(number, format!("{{\"k\":\"a\",\"n\":{n}}}\n{{\"k\":null,\"n\":{n}}}\n").as_bytes());
    }
    fs::create_dir(folder.at("got")).expect("a folder");
    folder
}

fn start(folder: &Folder) -> Command {
    folder.command(&["run", "job.sql", "--checkpoint", "checkpoint", "--available-now", "--set", "INPUT=input"])
}

fn run(folder: &Folder) -> Ended {
    Running::start(&mut start(folder)).wait().sober()
}

/// What was delivered: names are the number of the delivery and the batch.
fn got(folder: &Folder) -> Vec<(String, String)> {
    let files = crate::binary::files(&folder.at("got"));
    files.into_iter().map(|(name, bytes)| (name, String::from_utf8(bytes).expect("text"))).collect()
}

fn names(folder: &Folder) -> Vec<String> {
    got(folder).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn each_batch_arrives_once_also_without_rows() {
    for append in [true, false] {
        let folder = folder(KEEPS, append);
        let ended = run(&folder).expect(0);
        assert!(!ended.stdout.contains("said") && ended.stderr.contains("said"), "stdout is for data");
        let told = got(&folder);
        assert_eq!(names(&folder), ["0-0", "1-1", "2-2", "3-3"]);
        let (mode, second) = if append { ("append", 2) } else { ("update", 3) };
        // groups come in the order of their key
        let rows = |n: i64| match append {
            true => format!("{{\"k\":\"a\",\"n\":{n}}}\n{{\"k\":null,\"n\":{n}}}\n"),
            false => format!("{{\"k\":null,\"n\":{n}}}\n{{\"k\":\"a\",\"n\":{n}}}\n"),
        };
        assert_eq!(told[1].1, format!("{mode} 2 told\n{}", rows(second)));
        assert_eq!(told[2].1, format!("{mode} 0 told\n"));
        assert_eq!(folder.shown().lines().count(), if append { 6 } else { 2 });
        folder.call(&["verify", "checkpoint", "--batch", "--every"]).expect(0);
    }
}

/// A receive log that can no longer be written has rows that are in no closed segment: they are a reason to stop, and none to
/// doubt what was published.
#[test]
fn a_receive_log_that_fails_costs_no_second_delivery() {
    const BLOCKS_MAX: &str = "2048";
    const OPEN_LONG: &str = "connector = 'stdin', format = 'json', batch_interval = '2 s', batch_bytes = '8MiB'";
    let folder = folder(KEEPS, true);
    let job = fs::read_to_string(folder.at("job.sql")).expect("the job is there");
    assert!(job.contains(fed::FILES));
    folder.write("job.sql", job.replace(fed::FILES, OPEN_LONG).as_bytes());
    let words = ["run", "job.sql", "--checkpoint", "checkpoint", "--available-now"];
    let unlimited = folder.command(&words);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f \"$0\" && exec \"$@\"", BLOCKS_MAX]).arg(unlimited.get_program()).args(words);
    let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let mut running = Running::start_given(limited.current_dir(folder.path()), Stdio::from(OwnedFd::from(theirs)));
    // it holds the other end, too
    drop(limited);
    ours.write_all(b"{\"k\":\"a\",\"n\":1}\n").expect("it is read");
    while got(&folder).is_empty() && running.is_running() {
        std::thread::sleep(Duration::from_millis(5));
    }
    // more than a file may hold, before its segment is due; the job is free to leave before it has read all
    let taken = ours.write_all("{\"k\":\"b\",\"n\":2}\n".repeat(200_000).as_bytes());
    drop(ours);
    let ended = running.wait().sober().expect(1);
    assert!(ended.stderr.contains("File too large") && ended.stderr.contains(".open"), "{taken:?} {}", ended.stderr);
    Running::start(&mut folder.command(&words)).wait().sober().expect(0);
    assert_eq!(names(&folder), ["0-0", "1-1"]);
}

#[test]
fn a_program_that_fails_stops_the_job_and_gets_the_same_rows_again() {
    let command = format!("{KEEPS}; test $HIGHWATER_BATCH -ne 1 -o -e mended || exit 9");
    for append in [true, false] {
        let folder = folder(&command, append);
        for _ in 0..2 {
            let failed = run(&folder).expect(1);
            for part in ["the program of 'told' failed", "batch 1", "exit code 9", "gets the same rows again"] {
                assert!(failed.stderr.contains(part), "{part}: {}", failed.stderr);
            }
        }
        folder.write("mended", b"");
        run(&folder).expect(0);
        let told = got(&folder);
        assert_eq!(names(&folder), ["0-0", "1-1", "2-1", "3-1", "4-2", "5-3"]);
        assert!(told[1].1 == told[2].1 && told[2].1 == told[3].1, "{told:?}");
    }
}

#[test]
fn killed_after_the_commit_it_is_told_at_least_once_with_the_same_rows() {
    for append in [true, false] {
        for (point, expected) in [
            ("committed", ["0-0", "1-1", "2-2", "3-3"].as_slice()),
            ("published-first", &["0-0", "1-1", "2-1", "3-2", "4-3"]),
        ] {
            let folder = folder(KEEPS, append);
            let mut command = start(&folder);
            assert!(Running::start(command.env("HIGHWATER_CRASH_AT", format!("{point}:2"))).wait().was_killed());
            run(&folder).expect(0);
            assert_eq!(names(&folder), expected, "{point}");
            let told = got(&folder);
            let again: Vec<_> = told.iter().filter(|(name, _)| name.ends_with("-1")).map(|(_, rows)| rows).collect();
            assert!(again.windows(2).all(|two| two[0] == two[1]), "{again:?}");
        }
    }
}

/// Found in review: where the state was kept whole after the batch, its rows were not computed again, and it came without any.
#[test]
fn a_batch_whose_state_was_kept_whole_is_not_told_again() {
    for append in [true, false] {
        let folder = folder(KEEPS, append);
        let job = fs::read_to_string(folder.at("job.sql")).expect("a job");
        folder.write("job.sql", format!("SET snapshot_batches = '2';\n{job}").as_bytes());
        let mut command = start(&folder);
        assert!(Running::start(command.env("HIGHWATER_CRASH_AT", "sealed:1")).wait().was_killed());
        run(&folder).expect(0);
        assert_eq!(names(&folder), ["0-0", "1-1", "2-2", "3-3"]);
    }
}

#[test]
fn a_program_that_reads_nothing_is_not_waited_for() {
    let folder = folder("exec 0<&-", true);
    let many: String = (0..50_000).map(|n| format!("{{\"k\":\"a\",\"n\":{}}}\n", n + 10)).collect();
    folder.input(4, many.as_bytes());
    run(&folder).expect(0);
}

fn with_secret(folder: &Folder, words: &[&str], secret: Option<&str>) -> Ended {
    let mut command = folder.command(words);
    match secret {
        Some(secret) => command.env("TOKEN", secret),
        None => command.env_remove("TOKEN"),
    };
    Running::start(&mut command).wait().sober()
}

#[test]
fn a_secret_reaches_the_program_and_nothing_that_is_kept_or_shown() {
    let folder = folder("echo \"x${env:TOKEN}x\" > got/it; test \"${env:TOKEN}\" = open5", true);
    let words = [
        "run",
        "job.sql",
        "--checkpoint",
        "checkpoint",
        "--available-now",
        "--set",
        "INPUT=input",
        "--progress",
        "json",
    ];
    let check = ["check", "job.sql", "--set", "INPUT=input"];
    let refused = with_secret(&folder, &words, None).expect(2);
    assert!(refused.stderr.contains("nothing fills ${env:TOKEN}"), "{}", refused.stderr);
    let mut said = String::new();
    for (words, code) in [(&check[..], 0), (&words[..], 1)] {
        let ended = with_secret(&folder, words, Some("sesame9")).expect(code);
        said += &(ended.stdout + &ended.stderr);
    }
    assert!(said.contains("at least once") && said.contains("${TOKEN}") && !said.contains("sesame9"), "{said}");
    assert_eq!(fs::read_to_string(folder.at("got/it")).expect("it ran"), "xsesame9x\n");
    // a text that would be more than one word, or a command, stays one text
    with_secret(&folder, &words, Some("$(touch broken)")).expect(1);
    assert!(!folder.at("broken").exists());
    with_secret(&folder, &words, Some("open5")).expect(0);
    let kept = crate::trace::files(&folder.at("checkpoint"));
    assert!(kept.values().all(|bytes| !String::from_utf8_lossy(bytes).contains("sesame9")), "a secret is kept");
    // reading needs none
    for words in [
        &["show", "checkpoint"][..],
        &["verify", "checkpoint", "--batch"],
        &["rewind", "checkpoint", "--to", "1", "--dry-run"],
    ] {
        with_secret(&folder, words, None).expect(0);
    }
}

#[test]
fn what_it_was_told_stays_told_and_a_fork_has_a_program_of_its_own() {
    let folder = folder("cat >> ${FILE:-got/all}", true);
    run(&folder).expect(0);
    let before = got(&folder);
    let dry = folder.call(&["rewind", "checkpoint", "--to", "1", "--dry-run"]).expect(0);
    assert!(dry.stdout.contains("told: command: what its program was given stays; a notice says so"), "{}", dry.stdout);
    let rewound = folder.call(&["rewind", "checkpoint", "--to", "1"]).expect(0);
    assert!(
        rewound.stderr.contains("what its program was given of the batches after 1 is retracted"),
        "{}",
        rewound.stderr
    );
    assert_eq!(got(&folder), before);
    let fork = |more: &[&str]| folder.call(&[&["fork", "checkpoint", "--at", "1", "fork"][..], more].concat());
    let shared = fork(&[]).expect(3);
    assert!(shared.stderr.contains("both checkpoints would run the program"), "{}", shared.stderr);
    fork(&["--set", "FILE=got/forked"]).expect(0);
    run(&folder).expect(0);
    folder.call(&["verify", "checkpoint", "--batch"]).expect(0);
    // in a crash test another program takes the rows
    let words = ["crash-test", "job.sql", "--set", "INPUT=input", "--kills", "3"];
    let all = fs::read(folder.at("got/all")).expect("it is there");
    folder.call(&words).expect(0);
    assert_eq!(fs::read(folder.at("got/all")).expect("it is there"), all);
}
