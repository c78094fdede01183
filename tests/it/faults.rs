//! What an operator runs into: a second process, readers during a run, a full disk, a folder that cannot be written,
//! a checkpoint of another job or another version. Everything is refused clearly, and nothing is damaged by it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    binary::{Ended, Folder, Running, executable, skip},
    kills,
};

/// A job that waits for more input once it has read what is there.
fn waiting(folder: &Folder, files: usize) -> Running {
    let running = Running::start(&mut folder.run_command(&[]));
    wait_for(folder, files);
    running
}

/// Waits until so many batches are committed, by asking the running job.
fn wait_for(folder: &Folder, batches: usize) {
    let started = Instant::now();
    loop {
        let log = folder.call(&["log", "checkpoint", "--json"]);
        if log.code() == Some(0) && log.stdout.lines().count() >= batches {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "no batch {batches}: {}{}", log.stdout, log.stderr);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn refused_with(ended: &Ended, parts: &[&str]) {
    for part in [&["error: ", "help: "], parts].concat() {
        assert!(ended.stderr.contains(part), "no '{part}' in: {}", ended.stderr);
    }
}

#[test]
fn a_running_checkpoint_is_read_by_many_and_written_by_one() {
    let folder = Folder::new(kills::JOB);
    kills::fill(&folder);
    let running = waiting(&folder, kills::FILES);
    let pid = running.pid().to_string();
    let second = Running::start(&mut folder.run_command(&["--available-now"])).wait().expect(3);
    refused_with(&second, &[&format!("process {pid}"), "--checkpoint"]);
    let rewind = folder.call(&["rewind", "checkpoint", "--to", "3"]).expect(3);
    refused_with(&rewind, &[&format!("process {pid}")]);
    // readers are answered by the running job, several at once
    let shown = folder.shown();
    let readers: Vec<_> = (0..4).map(|_| folder.start(&["show", "checkpoint", "--output", "json"])).collect();
    for reader in readers {
        assert!(reader.wait().expect(0).stdout == shown, "all readers see the same");
    }
    folder.call(&["log", "checkpoint"]).expect(0);
    folder.call(&["diff", "checkpoint", "--from", "3", "--to", "9", "--query", "ports"]).expect(0);
    folder.call(&["verify", "checkpoint"]).expect(0);
    // new input is read while it is read from
    folder.input(90, b"{\"device\": \"new\", \"port\": \"80\", \"bytes\": 1}\n");
    wait_for(&folder, kills::FILES + 1);
    assert!(folder.shown().contains("\"new\""));
    running.signal(libc::SIGTERM);
    let ended = running.wait().expect(0);
    assert!(ended.stderr.contains("stopped after batch 12"), "{}", ended.stderr);
    assert!(!folder.at("checkpoint/socket").exists(), "the socket is gone");
}

#[test]
fn a_file_that_is_copied_into_the_folder_is_read_when_it_is_whole() {
    const LINES: usize = 60;
    let folder = Folder::new(kills::JOB);
    kills::fill(&folder);
    let running = waiting(&folder, kills::FILES);
    let mut batches = kills::FILES;
    // Under load a pause of the copy may be so long that the file counts as whole: such a copy proves nothing.
    for attempt in 0.. {
        let (device, path) = (format!("copied{attempt}"), folder.at(&format!("input/{:04}.json", 90 + attempt)));
        let mut file = fs::File::create(&path).expect("a new input file");
        let mut longest_pause = Duration::ZERO;
        for _ in 0..LINES {
            let paused = Instant::now();
            std::thread::sleep(Duration::from_millis(10));
            writeln!(file, "{{\"device\": \"{device}\", \"port\": \"80\", \"bytes\": 1}}").expect("it is written");
            longest_pause = longest_pause.max(paused.elapsed());
        }
        batches += 1;
        wait_for(&folder, batches);
        if longest_pause < Duration::from_millis(100) {
            let log = folder.call(&["log", "checkpoint", "--json"]).expect(0);
            let newest = log.stdout.lines().last().expect("batches");
            assert!(newest.contains(&format!("\"numInputRows\":{LINES},")), "only a part was read: {newest}");
            break;
        }
        assert!(attempt < 20, "this machine is too busy for a copy without pauses");
    }
    running.signal(libc::SIGTERM);
    running.wait().expect(0);
}

#[test]
fn readers_during_a_run_see_committed_batches_only() {
    let folder = Folder::new(kills::JOB);
    kills::fill(&folder);
    let undisturbed = Folder::new(kills::JOB);
    kills::fill(&undisturbed);
    undisturbed.run().expect(0);
    let at = |batch: usize| {
        let words = ["show", "checkpoint", "--output", "json", "--query", "counts", "--at", &batch.to_string()];
        undisturbed.call(&words).expect(0).stdout
    };
    let tables: Vec<String> = (0..kills::FILES).map(at).collect();
    let mut run = Running::start(&mut folder.run_command(&["--available-now"]));
    let mut seen = 0;
    while run.is_running() {
        let shown = folder.call(&["show", "checkpoint", "--output", "json", "--query", "counts"]);
        match shown.code() {
            Some(0) => {
                assert!(tables.contains(&shown.stdout), "a table that no batch ended with: {}", shown.stdout);
                seen += 1;
            }
            // no batch yet, or it is just starting
            Some(2 | 3) => refused_with(&shown, &[]),
            _ => panic!("{}: {}", shown.status, shown.stderr),
        }
    }
    run.wait().expect(0);
    assert!(seen > 0, "no reader came in time");
}

/// A shell script with mounts of its own, which end with it; `None`, with a message: this system gives no such thing.
fn with_mounts(test: &str, folder: &Folder, script: &str) -> Option<Ended> {
    folder.write("script.sh", script.as_bytes());
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-eu", "script.sh"]).current_dir(folder.path());
    command.env("HIGHWATER", executable()).env_remove("HIGHWATER_CRASH_AT").env_remove("RUST_LOG");
    let probe = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", "mkdir -p disk && mount -t tmpfs -o size=64k none disk"])
        .current_dir(folder.path())
        .output();
    if !probe.as_ref().is_ok_and(|probe| probe.status.success()) {
        skip(test, &format!("no mount namespace with a tmpfs can be made here: {probe:?}"));
        return None;
    }
    Some(Running::start(&mut command).wait())
}

/// `run` and `show` in shell, with the exit code and what was said kept in files named after the step.
const SHELL: &str = "
run() { step=$1; shift; code=0
  timeout 30 $HIGHWATER run job.sql --checkpoint disk/checkpoint --set INPUT=input --set OUTPUT=disk/output \
    --available-now \"$@\" > $step.out 2> $step.err || code=$?; echo $code > $step.code; }
ask() { step=$1; shift; code=0; timeout 30 $HIGHWATER \"$@\" > $step.out 2> $step.err || code=$?; echo $code > $step.code; }
mkdir -p disk
";

fn code(folder: &Folder, step: &str) -> i32 {
    text(folder, &format!("{step}.code")).trim().parse().expect("an exit code")
}

fn text(folder: &Folder, name: &str) -> String {
    String::from_utf8_lossy(&fs::read(folder.at(name)).unwrap_or_else(|error| panic!("{name}: {error}"))).into_owned()
}

#[test]
fn a_full_disk_stops_a_job_at_once_and_costs_nothing() {
    let folder = Folder::new(kills::JOB);
    kills::fill(&folder);
    folder.run().expect(0);
    let expected = folder.shown();
    // four batches with space, then so many KiB of it are left
    let left = ["0", "40", "400", "900", "1500", "2200", "3000"];
    let mut script = SHELL.to_owned();
    for kib in left {
        script += &format!(
            "mount -t tmpfs -o size=64m none disk
run before{kib} --max-batches 4
free=$(df -k --output=avail disk | tail -1); ballast=$((free - {kib}))
dd if=/dev/zero of=disk/ballast bs=1024 count=$ballast 2>/dev/null
start=$(date +%s); run full{kib}; end=$(date +%s); echo $((end - start)) > full{kib}.seconds
ask read{kib} show disk/checkpoint
rm disk/ballast
run after{kib}
ask show{kib} show disk/checkpoint --output json
ask verify{kib} verify disk/checkpoint --batch
cp -r disk/output output{kib}
umount disk
"
        );
    }
    let Some(ended) = with_mounts("a_full_disk_stops_a_job_at_once_and_costs_nothing", &folder, &script) else {
        return;
    };
    assert_eq!(ended.code(), Some(0), "{}{}", ended.stdout, ended.stderr);
    let mut stopped = 0;
    for kib in left {
        assert_eq!(code(&folder, &format!("before{kib}")), 0, "{}", text(&folder, &format!("before{kib}.err")));
        let said = text(&folder, &format!("full{kib}.err"));
        let seconds: u64 = text(&folder, &format!("full{kib}.seconds")).trim().parse().expect("seconds");
        assert!(seconds <= 10, "{kib} KiB left: it took {seconds} s");
        assert!(!said.contains("panicked"), "{kib} KiB left: {said}");
        if code(&folder, &format!("full{kib}")) != 0 {
            stopped += 1;
            assert_eq!(code(&folder, &format!("full{kib}")), 1, "{kib} KiB left: {said}");
            for part in ["error: ", "disk", "No space left on device", "help: ", "free some space"] {
                assert!(said.contains(part), "{kib} KiB left: no '{part}' in {said}");
            }
        }
        assert_eq!(code(&folder, &format!("read{kib}")), 0, "{}", text(&folder, &format!("read{kib}.err")));
        for step in ["after", "show", "verify"] {
            let step = format!("{step}{kib}");
            assert_eq!(
                code(&folder, &step),
                0,
                "{step}: {}{}",
                text(&folder, &format!("{step}.out")),
                text(&folder, &format!("{step}.err"))
            );
        }
        assert!(text(&folder, &format!("show{kib}.out")) == expected, "{kib} KiB left: the tables");
        let published = crate::binary::files(&folder.at(&format!("output{kib}")));
        let published: std::collections::BTreeMap<_, _> =
            published.into_iter().filter(|(name, _)| !name.starts_with('.')).collect();
        assert!(published == folder.published(), "{kib} KiB left: the output");
    }
    assert!(stopped >= 3, "the disk was full {stopped} times only");
}

#[test]
fn a_checkpoint_on_a_read_only_disk_is_read_and_not_run() {
    let folder = Folder::new(kills::JOB);
    kills::fill(&folder);
    let script = format!(
        "{SHELL}
mount -t tmpfs -o size=64m none disk
run before --max-batches 5
mount -o remount,ro disk
run refused
ask rewind rewind disk/checkpoint --to 2
ask show show disk/checkpoint --query ports --output json
ask log log disk/checkpoint --json
ask diff diff disk/checkpoint --from 1 --to 3 --query ports
ask verify verify disk/checkpoint
mount -o remount,rw disk
run after
"
    );
    let Some(ended) = with_mounts("a_checkpoint_on_a_read_only_disk_is_read_and_not_run", &folder, &script) else {
        return;
    };
    assert_eq!(ended.code(), Some(0), "{}{}", ended.stdout, ended.stderr);
    for step in ["refused", "rewind"] {
        let said = text(&folder, &format!("{step}.err"));
        assert!([1, 3].contains(&code(&folder, step)), "{step}: {said}");
        for part in ["error: ", "Read-only file system", "help: ", "checkpoint"] {
            assert!(said.contains(part), "{step}: no '{part}' in {said}");
        }
    }
    for step in ["before", "show", "log", "diff", "verify", "after"] {
        assert_eq!(
            code(&folder, step),
            0,
            "{step}: {}{}",
            text(&folder, &format!("{step}.out")),
            text(&folder, &format!("{step}.err"))
        );
    }
    assert_eq!(text(&folder, "log.out").lines().count(), 5);
    assert_eq!(text(&folder, "show.out").lines().count(), 4);
}

#[test]
fn a_checkpoint_of_another_user_is_read_and_not_run() {
    const TEST: &str = "a_checkpoint_of_another_user_is_read_and_not_run";
    let folder = Folder::new(kills::JOB);
    kills::fill(&folder);
    Running::start(&mut folder.run_command(&["--max-batches", "4", "--available-now"])).wait().expect(0);
    // SAFETY: geteuid(2) takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return skip(TEST, "only root can become another user");
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    // where the binary was built other users need not have access
    fs::copy(executable(), folder.at("highwater")).expect("it can be copied");
    let nobody = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "./highwater"]).args(words);
        Running::start(command.current_dir(folder.path())).wait().sober()
    };
    if nobody(&["--version"]).code() != Some(0) {
        return skip(TEST, "setpriv cannot become another user");
    }
    let set = ["--set", "INPUT=input", "--set", "OUTPUT=output"];
    let ran = nobody(&[&["run", "job.sql", "--checkpoint", "checkpoint", "--available-now"][..], &set].concat());
    assert!([Some(1), Some(3)].contains(&ran.code()), "{}: {}", ran.status, ran.stderr);
    refused_with(&ran, &["Permission denied", "checkpoint"]);
    let shown = nobody(&["show", "checkpoint", "--output", "json"]).expect(0);
    assert!(shown.stdout == folder.shown());
    nobody(&["log", "checkpoint"]).expect(0);
}

#[test]
fn a_checkpoint_of_another_job_is_refused_untouched() {
    let folder = Folder::new(kills::JOB);
    kills::fill(&folder);
    folder.run().expect(0);
    let (shown, log) = (folder.shown(), folder.canonical_log());
    for (from, to, named) in [
        ("count(*) AS flows, sum(bytes) AS bytes", "count(*) AS flows, max(bytes) AS bytes", "traffic"),
        ("GROUP BY port;", "GROUP BY port, device;", "ports"),
    ] {
        let other = kills::JOB.replace(from, to);
        assert_ne!(other, kills::JOB);
        folder.write("job.sql", other.as_bytes());
        let ended = folder.run().expect(3);
        refused_with(&ended, &[named, "--checkpoint"]);
    }
    // a changed filter in front of state is refused, and accepted on demand
    folder.write("job.sql", kills::JOB.replace("IN ('80', '443')", "IN ('80')").as_bytes());
    let ended = folder.run().expect(3);
    refused_with(&ended, &["counts", "--accept-change"]);
    folder.write("job.sql", format!("-- a comment changes nothing\n{}", kills::JOB).as_bytes());
    folder.run().expect(0);
    assert!(folder.shown() == shown && folder.canonical_log() == log, "nothing was changed");
}

#[test]
fn a_folder_that_is_no_checkpoint_is_refused_and_left_alone() {
    let folder = Folder::new(kills::JOB);
    kills::fill(&folder);
    fs::create_dir(folder.at("checkpoint")).expect("a folder");
    folder.write("checkpoint/letter.txt", b"dear reader");
    refused_with(&folder.run().expect(3), &["checkpoint"]);
    for command in ["show", "log", "verify"] {
        refused_with(&folder.call(&[command, "checkpoint"]).expect(3), &["checkpoint"]);
        refused_with(&folder.call(&[command, "missing"]).expect(3), &["missing"]);
    }
    assert_eq!(text(&folder, "checkpoint/letter.txt"), "dear reader");
    assert_eq!(fs::read_dir(folder.at("checkpoint")).expect("a folder").count(), 1, "nothing was added");
}

/// The format is in the header of every sealed part, behind its magic number and under a checksum of its own.
#[test]
fn a_checkpoint_of_another_version_is_refused_by_its_format() {
    let folder = Folder::new(kills::JOB);
    kills::fill(&folder);
    folder.run().expect(0);
    for entry in fs::read_dir(folder.at("checkpoint/log")).expect("a folder") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            // what remains is the newest sealed part
            fs::remove_dir_all(path).expect("it can be removed");
            continue;
        }
        let mut bytes = fs::read(&path).expect("a part");
        let header = 52 - 16;
        bytes[4..6].copy_from_slice(&7_u16.to_be_bytes());
        let checksum = *blake3::hash(&bytes[..header]).as_bytes();
        bytes[header..header + 16].copy_from_slice(&checksum[..16]);
        let content = bytes.len() - 32;
        let hash = *blake3::hash(&bytes[..content]).as_bytes();
        bytes[content..].copy_from_slice(&hash);
        fs::write(&path, bytes).expect("it can be written");
    }
    let ended = folder.run().expect(3);
    refused_with(&ended, &["checkpoint format 7, this binary reads 1"]);
}
