//! Space that ends at every stage of a job: disks of many sizes, and many limits on the size of files.

use std::{collections::BTreeMap, process::Command};

use super::{Kind, Subject, choose};
use crate::{
    binary::{Ended, Folder, Running, files},
    faults::{SHELL, code, text, with_mounts},
    kills::{Outcome, start_over},
};

/// How many sizes and limits are tried unless the environment asks for another number.
const SIZES: usize = 24;

/// A disk of this many KiB holds the whole job.
const ENOUGH_KIB: usize = 3 << 10;

const SEED: u64 = 1;

/// The parts that are missing from what a job said when it ran out of something.
fn missing<'a>(said: &str, parts: &[&'a str]) -> Vec<&'a str> {
    parts.iter().filter(|part| !said.contains(**part)).copied().collect()
}

#[test]
fn a_disk_too_small_for_the_job_stops_it_wherever_space_ends() {
    let folder = Subject::new(Kind::Files);
    folder.run().expect(0);
    let expected = Outcome::of(&folder);
    let sizes = choose((16..ENOUGH_KIB).step_by(16).collect(), SIZES, SEED, |_| ());
    let mut script = SHELL.to_owned();
    for kib in &sizes {
        script += &format!(
            "mount -t tmpfs -o size={kib}k none disk
start=$(date +%s); run full{kib}; end=$(date +%s); echo $((end - start)) > full{kib}.seconds
mount -o remount,size=64m disk
run after{kib}
ask show{kib} show disk/checkpoint --output json
cp -r disk/output output{kib}
umount disk
"
        );
    }
    let Some(ended) = with_mounts("a_disk_too_small_for_the_job_stops_it_wherever_space_ends", &folder, &script) else {
        return;
    };
    assert_eq!(ended.code(), Some(0), "{}{}", ended.stdout, ended.stderr);
    let mut stopped = 0;
    for kib in &sizes {
        let said = text(&folder, &format!("full{kib}.err"));
        let seconds: u64 = text(&folder, &format!("full{kib}.seconds")).trim().parse().expect("seconds");
        assert!(seconds <= 10, "{kib} KiB: it took {seconds} s");
        if code(&folder, &format!("full{kib}")) != 0 {
            stopped += 1;
            assert_eq!(code(&folder, &format!("full{kib}")), 1, "{kib} KiB: {said}");
            let missing =
                missing(&said, &["error: ", "  --> ", "disk", "No space left on device", "help: free some space"]);
            assert!(missing.is_empty() && !said.contains("panicked"), "{kib} KiB: no {missing:?} in {said}");
        }
        for step in ["after", "show"] {
            let step = format!("{step}{kib}");
            assert_eq!(code(&folder, &step), 0, "{step}: {}", text(&folder, &format!("{step}.err")));
        }
        assert!(text(&folder, &format!("show{kib}.out")) == expected.shown, "{kib} KiB: the tables");
        let output: BTreeMap<_, _> =
            files(&folder.at(&format!("output{kib}"))).into_iter().filter(|(name, _)| !name.starts_with('.')).collect();
        assert!(output == expected.published, "{kib} KiB: the output");
    }
    assert!(stopped * 4 >= sizes.len(), "{stopped} of {} disks were too small", sizes.len());
    eprintln!("{} disks, {stopped} too small", sizes.len());
}

/// The job with `ulimit -f`, in blocks of 512 bytes.
fn run_limited(folder: &Folder, blocks: usize) -> Ended {
    let job = folder.run_command(&["--available-now"]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f \"$0\" && exec \"$@\"", &blocks.to_string()]);
    command.arg(job.get_program()).args(job.get_args()).current_dir(folder.path()).env_remove("HIGHWATER_CRASH_AT");
    Running::start(command.env_remove("RUST_LOG")).wait().sober()
}

#[test]
fn a_limit_on_the_size_of_files_stops_a_job_with_a_reason() {
    let folder = Subject::new(Kind::Files);
    folder.run().expect(0);
    let expected = Outcome::of(&folder);
    let limits = choose((0..1400).step_by(4).collect(), SIZES, SEED, |_| ());
    let mut stopped = 0;
    for blocks in &limits {
        start_over(&folder);
        let ended = run_limited(&folder, *blocks);
        assert!(ended.took.as_secs() < 10, "{blocks} blocks: it took {:?}", ended.took);
        if ended.code() != Some(0) {
            stopped += 1;
            assert_eq!(ended.code(), Some(1), "{blocks} blocks: {} {}", ended.status, ended.stderr);
            let missing = missing(&ended.stderr, &["error: ", "  --> ", "File too large", "help: raise the limit"]);
            assert!(missing.is_empty(), "{blocks} blocks: no {missing:?} in {}", ended.stderr);
        }
        folder.run().expect(0);
        Outcome::of(&folder).must_be(&expected, &format!("{blocks} blocks"));
    }
    assert!(stopped * 4 >= limits.len(), "{stopped} of {} limits were reached", limits.len());
    eprintln!("{} limits, {stopped} reached", limits.len());
}
