//! One child process explores one scenario; its parent watches over it, so that a hang or a crash is a finding, too.
//!
//! A child says one line before and one after each state. Its recordings stay in its folder, and so does a list of what
//! was checked: the next child goes on among the same states where this one ended.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    panic,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use super::{
    check::{Oracle, Shown, text_of},
    disk::{Item, Told, Tree},
    mutation::Mutation,
    recording::{Recording, Start},
    scenarios::Scenario,
    states::{Crashes, State},
    world::{By, World, write},
};
use crate::{binary::Chance, servers::held::Held};

/// A recovery, with the batches after it, takes a tenth of a second.
const HANGS_AFTER: Duration = Duration::from_secs(60);
/// So many states of each recorded recovery.
const STATES_OF_A_RECOVERY: u64 = 40;
/// Every so manieth state is given to a process of its own.
const BINARY_EVERY: u64 = 8;
/// Of every so manieth state, the tables are looked at, too.
const TABLES_EVERY: u64 = 5;
/// A scenario has only so many states: after so many draws for each one that is wanted, there are not many left.
const DRAWS_MAX: u64 = 6;
const TASK: &str = "HIGHWATER_POWER_LOSS_TASK";
const MARK: &str = "power-loss\t";
const FAILURES_MAX: usize = 5;

/// What a child does.
#[derive(Debug, Clone)]
pub struct Task {
    pub scenario: &'static str,
    /// Whether the power fails in the recovery from an earlier power loss.
    pub recovery: bool,
    pub mutation: Mutation,
    pub seed: u64,
    /// Number of the first state.
    pub first: u64,
    /// So many states that differ.
    pub count: u64,
    /// For recordings and states.
    pub folder: PathBuf,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Found {
    pub distinct: u64,
    pub checked: u64,
    /// Number of the state after the last one.
    pub next: u64,
    pub failures: Vec<String>,
}

/// What was checked already, by earlier children, too: kept beside the recordings.
struct Seen {
    trees: HashSet<blake3::Hash>,
    /// With what was acknowledged: the same files, with more of it, are another question.
    questions: HashSet<(blake3::Hash, usize)>,
    file: File,
}

impl Seen {
    fn open(path: &Path) -> Seen {
        let file = File::options().read(true).append(true).create(true).open(path).expect("it opens");
        let mut seen = Seen { trees: HashSet::new(), questions: HashSet::new(), file };
        let lines = fs::read_to_string(path).expect("it is read");
        for (digest, acknowledged) in lines.lines().filter_map(|line| line.split_once(' ')) {
            // a line that a killed child cut short counts for nothing
            if let (Ok(digest), Ok(acknowledged)) = (blake3::Hash::from_hex(digest), acknowledged.parse()) {
                seen.trees.insert(digest);
                seen.questions.insert((digest, acknowledged));
            }
        }
        seen
    }

    /// Whether the tree is new; `None`: so was the question already.
    fn add(&mut self, digest: blake3::Hash, acknowledged: usize) -> Option<bool> {
        let is_new = self.trees.insert(digest);
        self.questions.insert((digest, acknowledged)).then_some(is_new)
    }

    fn write(&mut self, digest: blake3::Hash, acknowledged: usize) {
        writeln!(self.file, "{digest} {acknowledged}").expect("it is written");
    }
}

impl Task {
    pub fn name(&self) -> String {
        format!("{}{}", if self.recovery { "recovery-of-" } else { "" }, self.scenario)
    }

    fn to_text(&self) -> String {
        let Task { scenario, recovery, mutation, seed, first, count, folder } = self;
        format!("{scenario},{recovery},{mutation:?},{seed},{first},{count},{}", folder.display())
    }

    /// The task that this process was started for, if it was.
    pub fn of_this_process() -> Option<Task> {
        let text = std::env::var(TASK).ok()?;
        let parts: Vec<&str> = text.splitn(7, ',').collect();
        let number = |at: usize| parts[at].parse().expect("the parent wrote a number");
        Some(Task {
            scenario: Scenario::named(parts[0]).name,
            recovery: parts[1] == "true",
            mutation: Mutation::named(parts[2]),
            seed: number(3),
            first: number(4),
            count: number(5),
            folder: parts[6].into(),
        })
    }

    /// Explores, in children, until all is done.
    pub fn run(mut self) -> Found {
        let mut found = Found { next: self.first, ..Found::default() };
        let wanted = self.count;
        while found.distinct < wanted && found.failures.len() < FAILURES_MAX {
            (self.first, self.count) = (found.next, wanted - found.distinct);
            if self.watch(&mut found) {
                break;
            }
        }
        found
    }

    /// Watches one child; whether it came to its end.
    fn watch(&self, found: &mut Found) -> bool {
        let mut child = self.spawn();
        let (lines, said) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let reader = std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)).is_ok()
        });
        let mut trying = None::<String>;
        let mut ended = false;
        while let Ok(line) = said.recv_timeout(HANGS_AFTER) {
            // the test runner writes the first one behind its own words
            let Some((_, message)) = line.split_once(MARK) else { continue };
            let (word, rest) = message.split_once(' ').unwrap_or((message, ""));
            match word {
                "try" => {
                    found.next =
                        rest.split(' ').next().and_then(|number| number.parse().ok()).map_or(0, |n: u64| n + 1);
                    trying = Some(rest.to_owned());
                }
                "same" => trying = None,
                "ok" | "new" => {
                    found.checked += 1;
                    found.distinct += u64::from(word == "new");
                    trying = None;
                }
                "failed" => {
                    found.failures.push(format!("{}: {}: {}", self.name(), trying.take().unwrap_or_default(), rest));
                    if self.mutation != Mutation::None || found.failures.len() >= FAILURES_MAX {
                        ended = true;
                        break;
                    }
                }
                _ => ended = true,
            }
        }
        drop(child.kill());
        let status = child.wait().expect("a child of ours is waited for");
        drop(said);
        drop(reader.join());
        if !ended {
            let why = format!("{}: {}: it hangs, or ended: {status}", self.name(), trying.unwrap_or_default());
            found.failures.push(why);
        }
        ended
    }

    fn spawn(&self) -> Child {
        let mut command = Command::new(std::env::current_exe().expect("this is a test"));
        command.args(["--exact", "power_loss::child", "--ignored", "--nocapture", "--test-threads", "1"]);
        command.env(TASK, self.to_text()).env("TMPDIR", &self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().expect("this test starts itself")
    }

    /// In the child: explores.
    pub fn explore(&self) {
        if let Err(panic) = panic::catch_unwind(panic::AssertUnwindSafe(|| self.explore_all())) {
            say(&format!("failed the explorer itself: {}", text_of(panic.as_ref())));
        }
        say("done");
    }

    fn explore_all(&self) {
        let scenario = Scenario::named(self.scenario);
        let folder = self.folder.join(self.name());
        let world = World::new(&folder.join("world"), scenario);
        let recorded = Recording::make(&world, &Start::of_nothing(), &folder.join("calls"));
        let whole = recorded.unwrap_or_else(|error| panic!("{error}"));
        let oracle = Oracle::of(&world, &whole);
        panic::set_hook(Box::new(|_| {}));
        let mut seen = Seen::open(&folder.join("seen"));
        let (mut number, mut distinct) = (self.first, 0);
        let enough = self.first + DRAWS_MAX * self.count;
        if !self.recovery {
            let disk = self.mutation.of(whole.disk.clone());
            let recording = Recording { disk, ..whole };
            let crashes = Crashes::of(&recording.disk);
            while distinct < self.count && number < enough {
                distinct += u64::from(self.try_one(&oracle, &recording, &crashes, number, &mut seen));
                number += 1;
            }
            return;
        }
        let crashes = Crashes::of(&whole.disk);
        while distinct < self.count && number < enough {
            let base = number / STATES_OF_A_RECOVERY;
            let recording = self.record_recovery(&world, &oracle, &whole, &crashes, base);
            let crashes = Crashes::of(&recording.disk);
            while number / STATES_OF_A_RECOVERY == base && distinct < self.count {
                distinct += u64::from(self.try_one(&oracle, &recording, &crashes, number, &mut seen));
                number += 1;
            }
        }
    }

    /// Lets the real binary recover from a power loss, and records that.
    fn record_recovery(
        &self,
        world: &World,
        oracle: &Oracle<'_>,
        whole: &Recording,
        crashes: &Crashes<'_>,
        base: u64,
    ) -> Recording {
        let state = crashes.state(self.seed.wrapping_add(1), base);
        let held = whole.held_at(state.after, Mutation::None, &mut Chance::new(base));
        let (held, _) = held.expect("there is no mutation");
        say(&format!("try {} recording the recovery of state {base}: {}", base * STATES_OF_A_RECOVERY, state.story));
        let bounds = whole.bounds(state.after);
        world.put(&state.tree);
        let recorded = oracle.recovered(bounds, Shown::Yes).and_then(|position| {
            let folder = self.folder.join(self.name()).join(format!("recovery-{base}"));
            let told = Told { step: bounds.step, position, received: bounds.received };
            Recording::make(world, &Start { tree: &state.tree, held: &held, told }, &folder)
        });
        let recording = recorded.unwrap_or_else(|error| panic!("{error}"));
        say("same");
        recording
    }

    /// Whether the state was a new one.
    fn try_one(
        &self,
        oracle: &Oracle<'_>,
        recording: &Recording,
        crashes: &Crashes<'_>,
        number: u64,
        seen: &mut Seen,
    ) -> bool {
        let state = crashes.state(self.seed, number);
        let bounds = recording.bounds(state.after);
        let held = recording.held_at(state.after, self.mutation, &mut Chance::new(self.seed ^ number));
        let Some((held, story)) = held else { return false };
        let story = if recording.held.len() > 1 { format!("{}; {story}", state.story) } else { state.story.clone() };
        say(&format!("try {number} {story}"));
        let digest = digest(&state.tree, &held);
        let Some(is_new) = seen.add(digest, bounds.acknowledged) else {
            say("same");
            return false;
        };
        let by = if number.is_multiple_of(BINARY_EVERY) { By::Binary } else { By::Library };
        // of batches that a rewind retracts, nobody compares the bytes in the end
        let is_shown = number % TABLES_EVERY == 1 || oracle.retracts(bounds);
        let tables = if is_shown { Shown::Yes } else { Shown::No };
        let check = || oracle.check((&state.tree, &held), bounds, by, tables);
        let checked = panic::catch_unwind(panic::AssertUnwindSafe(check));
        match checked.unwrap_or_else(|panic| Err(text_of(panic.as_ref()))) {
            Ok(()) => say(if is_new { "new" } else { "ok" }),
            Err(why) => {
                let is_wanted = self.mutation != Mutation::None;
                let kept =
                    if is_wanted { "nowhere".into() } else { self.keep(&state, number, &format!("{why}\n{story}")) };
                say(&format!("failed {why} [{bounds:?}, kept in {}]", kept.display()));
            }
        }
        seen.write(digest, bounds.acknowledged);
        is_new
    }

    /// Keeps a state that was not recovered from, for whoever looks into it.
    fn keep(&self, state: &State, number: u64, why: &str) -> PathBuf {
        let name = format!("{}-{}-{number}", self.name(), self.seed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("power_loss").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).expect("an older one is removed");
        }
        fs::create_dir_all(&folder).expect("a folder is made");
        // a socket's path must be short, and says nothing
        let files = state.tree.0.iter().filter(|(_, item)| **item != Item::Socket);
        write(&folder, &Tree(files.map(|(path, item)| (path.clone(), item.clone())).collect()));
        fs::write(folder.join("WHY"), format!("{why}\n")).expect("it is written");
        folder
    }
}

/// Of a state: what the server holds is a part of it.
fn digest(tree: &Tree, held: &Held) -> blake3::Hash {
    let digest = tree.digest();
    if held.0.is_empty() { digest } else { blake3::hash(&[*digest.as_bytes(), *held.digest().as_bytes()].concat()) }
}

fn say(message: &str) {
    let line = message.replace('\n', " | ");
    let mut output = std::io::stdout().lock();
    writeln!(output, "{MARK}{line}").and_then(|()| output.flush()).expect("the parent listens");
}
