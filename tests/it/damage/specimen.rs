//! Checkpoints to be damaged again and again, and all that is right about them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{beside, past::Past, server::AtServer};
use crate::{
    binary::{Ended, Folder, HANGS_AFTER, Running, copy_tree, same_lines},
    kills,
    received::http::free_port,
};

/// What is asked before a run; the run itself and the tables after it always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Questions {
    pub show: bool,
    pub log: bool,
    pub verify: bool,
}

impl Questions {
    pub const ALL: Questions = Questions { show: true, log: true, verify: true };

    /// One or two of them in turn: each costs the start of a process.
    pub fn in_turn(case: u64) -> Questions {
        Questions { show: case.is_multiple_of(3), log: case % 3 == 1, verify: case % 3 == 2 }
    }
}

/// What came of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether `verify` (if it was asked) found it.
    pub found: bool,
    /// Whether the run refused.
    pub refused: bool,
}

/// A checkpoint, damaged and restored at will.
pub struct Specimen {
    pub past: Past,
    pub folder: Folder,
    /// Where rows can be posted to it.
    pub port: u16,
    server: Option<AtServer>,
    output: &'static str,
    /// Its files, relative to the folder.
    pub files: Vec<PathBuf>,
    /// Those of a copy that was made three batches earlier.
    pub older: Vec<PathBuf>,
    /// Every table that ever was. The last is what a run ends with.
    results: Vec<String>,
    /// What `show` prints as long as nothing is damaged.
    shown: String,
    /// How many lines the log has then.
    logged: usize,
    /// The log after a run; none where it depends on how much must be done again.
    log: Option<Vec<String>>,
    published: BTreeMap<String, Vec<u8>>,
}

/// Where the older copy ends.
const OLDER: usize = 9;

impl Specimen {
    pub fn new(past: Past) -> Specimen {
        // nothing here depends on what a disk keeps
        let port = free_port();
        let mut server = AtServer::of(past);
        let job = past.job(port);
        let folder = Folder::in_memory(&server.as_ref().map_or_else(|| job.clone(), |server| server.fill_in(&job)));
        match past {
            Past::OverEventTime => kills::fill_with_events(&folder),
            _ => kills::fill(&folder),
        }
        // one bad record, so that there is a file of them
        let first = fs::read(folder.at("input/0000.json")).expect("it was just written");
        folder.input(0, &[&first[..], b"{\"device\": oops}\n"].concat());
        let output = if past == Past::Forked { "forked" } else { "output" };
        let mut specimen = Specimen {
            past,
            folder,
            port,
            server: None,
            output,
            files: Vec::new(),
            older: Vec::new(),
            results: Vec::new(),
            shown: String::new(),
            logged: 0,
            log: None,
            published: BTreeMap::new(),
        };
        specimen.live();
        specimen.keep("sound");
        server.iter_mut().for_each(AtServer::keep);
        specimen.files = files_of(&specimen.folder.at("sound/checkpoint"));
        specimen.older = files_of(&specimen.folder.at("older/checkpoint"));
        if past == Past::Database {
            specimen.files.push(beside::DATABASE.into());
            specimen.older.push(beside::DATABASE.into());
        }
        specimen.shown = specimen.folder.shown();
        specimen.logged = specimen.folder.canonical_log().len();
        specimen.run().expect(0);
        server.iter_mut().for_each(AtServer::keep_end);
        specimen.server = server;
        if past == Past::Database {
            let kept = fs::copy(specimen.path(Path::new(beside::DATABASE)), specimen.folder.at("expected.db"));
            kept.expect("a database that is whole");
        }
        if past != Past::Rewound {
            specimen.log = Some(specimen.folder.canonical_log());
        }
        let first = if past == Past::Forked { FORKED_AT } else { 0 };
        specimen.results = (first..kills::FILES).map(|batch| specimen.show_at(batch)).collect();
        specimen.published = specimen.published_now();
        specimen
    }

    /// Everything up to the moment that is kept.
    fn live(&mut self) {
        let batches = |specimen: &Specimen, count: usize| {
            Running::start(&mut specimen.command(&["--max-batches", &count.to_string()])).wait().sober().expect(0);
        };
        match self.past {
            Past::Stopped | Past::OverEventTime => {
                batches(self, OLDER);
                self.keep("older");
                self.run().expect(0);
            }
            Past::Killed => {
                batches(self, OLDER - 3);
                self.keep("older");
                for point in ["staged:4", "open-renamed:1"] {
                    let mut command = self.command(&[]);
                    let ended = Running::start(command.env("HIGHWATER_CRASH_AT", point)).wait().sober();
                    assert!(ended.was_killed(), "it comes to {point}");
                }
                let live = |name: &fs::DirEntry| name.file_name().to_string_lossy().starts_with("live-");
                let log = fs::read_dir(self.path(Path::new("log"))).expect("a folder");
                assert_eq!(log.filter(|entry| live(entry.as_ref().expect("listed"))).count(), 2);
            }
            Past::Received => {
                beside::feed(self, 0..OLDER);
                self.keep("older");
                beside::feed(self, OLDER..OLDER + 1);
                beside::receive_two(self, OLDER + 1);
            }
            Past::Posted => {
                beside::post_all(self, 0..OLDER);
                self.keep("older");
                beside::post_all(self, OLDER..OLDER + 1);
                beside::post_two(self, OLDER + 1);
            }
            Past::Database | Past::ToPostgres | Past::ToRedis => {
                batches(self, OLDER);
                self.keep("older");
                batches(self, kills::FILES - 1 - OLDER);
            }
            Past::Rewound => {
                self.run().expect(0);
                self.keep("older");
                self.folder.call(&["rewind", "checkpoint", "--to", "5"]).expect(0);
                // no fourth one: it makes a snapshot, and seals the rewind
                batches(self, 3);
            }
            Past::Forked => {
                Running::start(&mut self.folder.run_command(&["--available-now", "--max-batches", "8"]))
                    .wait()
                    .expect(0);
                let (at, output) = (FORKED_AT.to_string(), format!("OUTPUT={}", self.output));
                self.folder.call(&["fork", "checkpoint", "--at", &at, "fork", "--set", &output]).expect(0);
                fs::remove_dir_all(self.folder.at("checkpoint")).expect("it can be removed");
                fs::rename(self.folder.at("fork"), self.folder.at("checkpoint")).expect("it can be moved");
                batches(self, 3);
                self.keep("older");
                batches(self, 3);
            }
        }
    }

    pub fn keep(&self, name: &str) {
        for part in ["checkpoint", self.output] {
            copy_tree(&self.folder.at(part), &self.folder.at(&format!("{name}/{part}")));
        }
    }

    /// Puts the sound checkpoint and output back.
    pub fn restore(&self) {
        self.put_back("sound");
        self.server.iter().for_each(AtServer::restore);
    }

    /// Puts the checkpoint and the output back that were kept under a name.
    pub fn put_back(&self, kept: &str) {
        for part in ["checkpoint", self.output] {
            fs::remove_dir_all(self.folder.at(part)).expect("it can be removed");
            copy_tree(&self.folder.at(&format!("{kept}/{part}")), &self.folder.at(part));
        }
    }

    pub fn path(&self, file: &Path) -> PathBuf {
        self.folder.at("checkpoint").join(file)
    }

    /// A file of the older copy.
    pub fn older_path(&self, file: &Path) -> PathBuf {
        self.folder.at("older/checkpoint").join(file)
    }

    pub fn input(&self, name: &str) -> PathBuf {
        self.folder.at("input").join(name)
    }

    fn command(&self, options: &[&str]) -> std::process::Command {
        self.command_at(&["--available-now"], options)
    }

    pub fn command_at(&self, trigger: &[&str], options: &[&str]) -> std::process::Command {
        self.folder.run_command_to(self.output, &[trigger, options].concat())
    }

    pub fn run(&self) -> Ended {
        Running::start(&mut self.command(&[])).wait().sober()
    }

    fn show_at(&self, batch: usize) -> String {
        self.folder.call(&["show", "checkpoint", "--output", "json", "--at", &batch.to_string()]).expect(0).stdout
    }

    fn published_now(&self) -> BTreeMap<String, Vec<u8>> {
        let files = crate::binary::files(&self.folder.at(self.output));
        // a database is looked at by itself
        files.into_iter().filter(|(name, _)| !name.starts_with('.') && !name.contains(".db")).collect()
    }

    fn newest(&self) -> &str {
        self.results.last().expect("there are batches")
    }

    /// What the commands say about the damage, and what a run makes of it.
    #[track_caller]
    pub fn judge(&self, story: &str, questions: Questions) -> Verdict {
        let mut old = false;
        if questions.show {
            let shown = self.ask(&["show", "checkpoint", "--output", "json"], story);
            if shown.code() == Some(0) && shown.stdout != self.shown {
                old = true;
                let was = self.results.iter().any(|result| shown.stdout == that_can_be_had(result, &shown.stderr));
                assert!(was, "{story}: show prints a table that never was");
                assert!(!shown.stderr.is_empty(), "{story}: show prints an old table without a word");
            }
        }
        if questions.log {
            let log = self.ask(&["log", "checkpoint", "--json"], story);
            if log.code() == Some(0) && log.stdout.lines().count() != self.logged {
                old = true;
                assert!(!log.stderr.is_empty(), "{story}: log leaves batches out without a word");
            }
        }
        let verified = questions.verify.then(|| self.ask(&["verify", "checkpoint"], story));
        let found = verified.as_ref().is_some_and(|verified| verified.code() != Some(0));
        if let Some(verified) = &verified {
            let said = found || verified.stdout.contains("note: ");
            assert!(!old || said, "{story}: verify finds nothing\n{}", verified.stdout);
        }
        let missing_max = beside::missing_max(self);
        let ran = self.run();
        assert!(ran.took < HANGS_AFTER, "{story}: the run hangs");
        self.server.iter().for_each(|server| server.look(ran.code() == Some(0), story));
        if ran.code() != Some(0) {
            self.refused(&ran, story);
            return Verdict { found, refused: true };
        }
        if missing_max > 0 && self.is_without_the_last(missing_max) {
            return Verdict { found, refused: false };
        }
        self.is_as_undisturbed(story, questions.log.then_some(old));
        beside::look_at_tables(self, story);
        Verdict { found, refused: false }
    }

    /// Whether the tables are those of so many batches less, or fewer, that nobody can miss.
    fn is_without_the_last(&self, missing_max: usize) -> bool {
        let shown = self.folder.call(&["show", "checkpoint", "--output", "json"]).expect(0);
        let mut fewer = self.results.iter().rev().skip(1).take(missing_max);
        fewer.any(|result| that_can_be_had(result, &shown.stderr) == shown.stdout)
    }

    /// What a run ends with. `log`: it is looked at, too, and whether it was said to be an old one.
    #[track_caller]
    fn is_as_undisturbed(&self, story: &str, log: Option<bool>) {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let shown = self.folder.call(&["show", "checkpoint", "--output", "json"]).expect(0);
        let expected = that_can_be_had(self.newest(), &shown.stderr);
        same_lines(&lines(&shown.stdout), &lines(&expected), &format!("{story}: the tables after a run"));
        assert!(self.published_now() == self.published, "{story}: the output folder after a run");
        if let (Some(old), Some(expected)) = (log, &self.log) {
            // what a damaged old part of the log held cannot be had again; the batches after it are as they were
            let log = self.folder.canonical_log();
            let lost = expected.len().checked_sub(log.len()).expect("no more batches than before");
            assert!(lost == 0 || old, "{story}: {lost} batches went without a word");
            same_lines(&log, &expected[lost..], &format!("{story}: the log after a run"));
        }
    }

    /// A refusal; where something beside the log is damaged that another reads, also a failure.
    #[track_caller]
    fn refused(&self, ended: &Ended, story: &str) {
        let is_beside = self.past.has_beside() && ended.code() == Some(1);
        let names = [".frames", ".open", "output/out.db"].iter().any(|place| ended.stderr.contains(place));
        let names = names || ended.stdout.contains("output/out.db");
        if is_beside && names && ended.stderr.contains("help: ") {
            return;
        }
        refused(ended, story);
    }

    /// A command that only reads: it answers, or refuses.
    #[track_caller]
    fn ask(&self, words: &[&str], story: &str) -> Ended {
        let ended = self.folder.call(words);
        assert!(ended.took < HANGS_AFTER, "{story}: {} hangs", words[0]);
        if ended.code() != Some(0) {
            self.refused(&ended, &format!("{story}: {}", words[0]));
        }
        ended
    }
}

/// Results without those of append queries that are said to be gone: their rows stood in a part of the log that is lost.
fn that_can_be_had(results: &str, said: &str) -> String {
    let of_query = |line: &&str| {
        let name = line.strip_prefix("{\"query\":\"").and_then(|rest| rest.split('"').next()).expect("a query's name");
        APPENDED.contains(&name) && said.contains(&format!("not all rows of query '{name}' can be had again"))
    };
    results.lines().filter(|line| !of_query(line)).flat_map(|line| [line, "\n"]).collect()
}

/// The queries whose results are made of what every batch gave out.
const APPENDED: [&str; 10] =
    ["first_seen", "pairs", "few", "lately", "closed", "visits", "paths", "busy", "firsts", "added"];

/// The batch that the forked specimen begins with.
const FORKED_AT: usize = 3;

/// A refusal has its exit code, and says what, where, and what to do.
#[track_caller]
pub fn refused(ended: &Ended, story: &str) {
    assert_eq!(ended.code(), Some(3), "{story}: {}\n{}", ended.status, ended.stderr);
    for part in ["error: ", "help: "] {
        assert!(ended.stderr.contains(part), "{story}: no '{part}': {}", ended.stderr);
    }
}

/// Every file below a folder, relative to it, in the order of names.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    walk(folder, &mut |path| files.push(path.strip_prefix(folder).expect("it is inside").to_owned()));
    files
}

fn walk(folder: &Path, see: &mut dyn FnMut(&Path)) {
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("listed").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() { walk(&path, see) } else { see(&path) }
    }
}
