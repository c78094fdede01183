//! Endurance: many small batches, killed again and again. Memory, file descriptors and the time to open stay flat, disk
//! grows as retention says, no batch takes longer because of those before it, and the result is right.
//!
//! About 1,200 batches unless told otherwise: `HIGHWATER_ENDURANCE=100000 cargo test --test it endurance -- --nocapture` prints
//! the figures (best with `HIGHWATER_BIN` naming a release build); `HIGHWATER_SEED` kills at other moments. Times are
//! printed and never asserted.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::binary::{Chance, Ended, Folder, Running, from_environment};

const COUNTS: &str = "
CREATE TABLE flows (device STRING, port STRING, bytes BIGINT)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete');
INSERT INTO counts SELECT device, count(*) AS count, sum(bytes) AS bytes FROM flows GROUP BY device;
";

/// With output outside the checkpoint each batch also writes an intent, stages, and publishes.
const PORTS: &str = "
CREATE TABLE ports WITH (connector = 'files', path = '${OUTPUT}', format = 'json', output_mode = 'complete');
INSERT INTO ports SELECT port, count(*) AS flows FROM flows GROUP BY port;
";

const RETAINED: u64 = 100;
/// A snapshot after so many batches.
const SNAPSHOTS: u64 = 20;
const DEVICES: usize = 37;

/// Files arrive in so many portions; the first takes no kill, so that it tells how long one takes.
const PORTIONS: usize = 20;

/// What was measured at one moment.
#[derive(Debug, Clone, Copy)]
struct Figures {
    batches: usize,
    kills: u32,
    /// Most that any run so far had resident, and how many descriptors it had open.
    peak_kib: u64,
    descriptors: usize,
    log_bytes: u64,
    /// Everything else in the checkpoint, the lists of files read above all.
    other_bytes: u64,
    /// From the start of a process to its first commit and its clean end, after a kill.
    restart: Duration,
    per_batch: Duration,
    log: (Duration, u64),
    show: (Duration, u64),
}

impl Figures {
    fn print(&self, what: &str) {
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        eprintln!(
            "{what}: {} batches, {} kills: {:.2} ms a batch, {:.0} ms from restart to commit, {} MiB, {} descriptors, \
             log {} KiB, other {} KiB; `log` {:.0} ms {} MiB, `show` {:.0} ms {} MiB",
            self.batches,
            self.kills,
            ms(self.per_batch),
            ms(self.restart),
            self.peak_kib >> 10,
            self.descriptors,
            self.log_bytes >> 10,
            self.other_bytes >> 10,
            ms(self.log.0),
            self.log.1 >> 10,
            ms(self.show.0),
            self.show.1 >> 10,
        );
    }
}

/// A job that is fed, run and killed.
struct Job {
    folder: Folder,
    /// Whether there is a sink outside the checkpoint.
    writes: bool,
    chance: Chance,
    fed: usize,
    kills: u32,
    peak_kib: u64,
    descriptors: usize,
}

impl Job {
    fn new(sql: &str) -> Job {
        let seed = from_environment("HIGHWATER_SEED").unwrap_or(8);
        Job {
            folder: Folder::new(sql),
            writes: sql.contains("${OUTPUT}"),
            chance: Chance::new(seed),
            fed: 0,
            kills: 0,
            peak_kib: 0,
            descriptors: 0,
        }
    }

    /// Adds files of one row each.
    fn feed(&mut self, files: usize) {
        for number in self.fed..self.fed + files {
            let (device, port) = (number % DEVICES, [80, 443, 22][number % 3]);
            let row = format!("{{\"device\": \"Comp{device}\", \"port\": \"{port}\", \"bytes\": {number}}}\n");
            let name = format!("input/{number:07}.json");
            self.folder.write(&name, row.as_bytes());
            crate::stream::stamp(&self.folder.at(&name), number);
        }
        self.fed += files;
    }

    /// Runs to the end, or is killed after a while, watched all along.
    fn run(&mut self, options: &[&str], killed_after: Option<Duration>) -> Ended {
        let set = ["--set", "INPUT=input", "--set", "OUTPUT=output"];
        let words = ["run", "job.sql", "--checkpoint", "checkpoint", "--available-now", "--quiet"];
        let variables = if self.writes { &set[..] } else { &set[..2] };
        let mut command = self.folder.command(&[&words, variables, options].concat());
        let mut running = Running::start(&mut command);
        let started = Instant::now();
        while running.is_running() && killed_after.is_none_or(|delay| started.elapsed() < delay) {
            let (peak_kib, descriptors) = resources(running.pid());
            self.peak_kib = self.peak_kib.max(peak_kib);
            self.descriptors = self.descriptors.max(descriptors);
            std::thread::sleep(Duration::from_millis(1));
        }
        if killed_after.is_none() {
            return running.wait_within(Duration::from_secs(3600)).sober().expect(0);
        }
        let ended = running.kill_after(Duration::ZERO).sober();
        self.kills += u32::from(ended.was_killed());
        ended
    }

    /// Feeds a portion and runs it, killed on the way.
    fn portion(&mut self, files: usize, longest: Duration) {
        self.feed(files);
        for _ in 0..(files / 10).clamp(3, 12) {
            let delay = self.chance.moment(longest);
            if !self.run(&[], Some(delay)).was_killed() {
                return;
            }
        }
        self.run(&[], None);
    }

    /// Measures in the state right after a kill.
    fn measured(&mut self, files: usize, longest: Duration) -> Figures {
        self.feed(files);
        let delay = self.chance.moment(longest / 2);
        self.run(&[], Some(delay));
        // a kill may come after the last batch
        self.feed(files);
        let restart = self.run(&["--max-batches", "1"], None).took;
        let count = files - 1;
        let took = self.run(&["--max-batches", &count.to_string()], None).took;
        self.run(&[], None);
        self.measure(restart, took.saturating_sub(restart) / count as u32)
    }

    fn measure(&self, restart: Duration, per_batch: Duration) -> Figures {
        let checkpoint = self.folder.at("checkpoint");
        let log_bytes = bytes_of(&checkpoint.join("log"));
        Figures {
            batches: self.fed,
            kills: self.kills,
            peak_kib: self.peak_kib,
            descriptors: self.descriptors,
            log_bytes,
            other_bytes: bytes_of(&checkpoint) - log_bytes,
            restart,
            per_batch,
            log: self.read(&["log", "checkpoint"]),
            show: self.read(&["show", "checkpoint", "--query", "counts"]),
        }
    }

    /// How long a command takes that reads the checkpoint, and its peak memory in KiB.
    fn read(&self, words: &[&str]) -> (Duration, u64) {
        let mut running = self.folder.start(words);
        let mut peak_kib = 0;
        while running.is_running() {
            peak_kib = peak_kib.max(resources(running.pid()).0);
            std::thread::sleep(Duration::from_millis(1));
        }
        (running.wait().sober().expect(0).took, peak_kib)
    }

    /// The table, from the definition of the input.
    fn is_right(&self) {
        let mut expected: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for number in 0..self.fed {
            let group = expected.entry(format!("Comp{}", number % DEVICES)).or_default();
            *group = (group.0 + 1, group.1 + number);
        }
        let shown = self.folder.call(&["show", "checkpoint", "--query", "counts", "--output", "json"]).expect(0).json();
        let row = |row: &serde_json::Value| {
            let number = |name: &str| row[name].as_u64().and_then(|n| usize::try_from(n).ok()).expect("a count");
            (row["device"].as_str().expect("a device").to_owned(), (number("count"), number("bytes")))
        };
        assert_eq!(shown.iter().map(row).collect::<BTreeMap<_, _>>(), expected);
    }
}

/// Peak memory in KiB and open descriptors of a process; nothing of one that has just ended. While a process is being started
/// it has the memory and the descriptors of the tests, which run beside this one, and for a moment still has them when
/// `spawn` has returned: memory counts once it runs its own program, descriptors once its checkpoint is open.
fn resources(pid: u32) -> (u64, usize) {
    // read before the memory is: a process never goes back
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
    if program.is_none_or(|program| std::env::current_exe().is_ok_and(|tests| tests == program)) {
        return (0, 0);
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak_kib = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return (peak_kib, 0) };
    let open: Vec<_> = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    let at_work = open.iter().any(|path| path.ends_with("checkpoint/LOCK"));
    (peak_kib, if at_work { open.len() } else { 0 })
}

fn bytes_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("listed").path());
    entries.map(|path| if path.is_dir() { bytes_of(&path) } else { path.metadata().map_or(0, |file| file.len()) }).sum()
}

/// Feeds, runs and kills, and returns what was measured at 10 %, 50 % and 100 %.
fn endure(job: &mut Job, batches: usize, what: &str) -> [Figures; 3] {
    let portion = batches / PORTIONS;
    job.feed(portion);
    let took = job.run(&[], None).took;
    let mut measured = Vec::new();
    for number in 2..=PORTIONS {
        job.portion(portion, took);
        if [PORTIONS / 10, PORTIONS / 2, PORTIONS].contains(&number) {
            let figures = job.measured((portion / 2).clamp(10, 500), took);
            figures.print(what);
            measured.push(figures);
        }
    }
    measured.try_into().expect("three moments")
}

/// What must hold however long a job runs. Memory and disk may grow by what is remembered of each file that was read.
fn stays_flat([early, _, late]: &[Figures; 3]) {
    const PER_FILE: u64 = 1024;
    let files = (late.batches - early.batches) as u64;
    assert!(late.peak_kib > 0 && early.peak_kib > 0, "{early:?} {late:?}");
    assert!(late.descriptors > 0 && late.descriptors <= early.descriptors + 4, "{early:?} {late:?}");
    assert!(late.peak_kib << 10 <= (early.peak_kib << 10) + (32 << 20) + files * PER_FILE, "{early:?} {late:?}");
    assert!(late.other_bytes <= early.other_bytes + (2 << 20) + files * PER_FILE, "{early:?} {late:?}");
    assert!(late.kills > 0, "nothing was killed");
}

fn batches(default: usize) -> usize {
    from_environment("HIGHWATER_ENDURANCE").map_or(default, |batches| usize::try_from(batches).expect("a count"))
}

#[test]
fn many_small_batches_all_of_them_kept() {
    let mut job = Job::new(COUNTS);
    let figures = endure(&mut job, batches(800), "all kept");
    job.is_right();
    stays_flat(&figures);
    // the log grows by what a batch says, and by no more
    let per_batch = |figures: &Figures| figures.log_bytes / figures.batches as u64;
    assert!(per_batch(&figures[2]) <= per_batch(&figures[0]) + 1024, "{figures:?}");
    let log = job.folder.call(&["log", "checkpoint", "--json"]).expect(0);
    assert_eq!(log.stdout.lines().count(), job.fed);
    job.folder.call(&["verify", "checkpoint"]).expect(0);
}

#[test]
fn many_small_batches_of_which_the_newest_are_kept() {
    let mut job = Job::new(&format!(
        "SET retain_batches = '{RETAINED}';\nSET snapshot_batches = '{SNAPSHOTS}';\n{COUNTS}{PORTS}"
    ));
    let figures = endure(&mut job, batches(400), "newest kept");
    job.is_right();
    stays_flat(&figures);
    // once the first batches were dropped, the log does not grow any more: it holds what is retained, and what came since
    // the last two snapshots
    let [_, half, late] = figures;
    assert!(late.log_bytes <= half.log_bytes + (2 << 20), "{figures:?}");
    let log = job.folder.call(&["log", "checkpoint", "--json"]).expect(0);
    let lines = log.stdout.lines().count() as u64;
    assert!((RETAINED..=RETAINED + 3 * SNAPSHOTS).contains(&lines), "{lines} batches");
    assert_eq!(job.folder.published().len(), 1, "one file, replaced by each batch");
}
