//! Damage at rest: every file of a checkpoint flipped, zeroed, cut, deleted or exchanged, by the real binary.
//!
//! Afterwards a run either refuses clearly (exit code 3: what, where, why and what helps) or ends with exactly the
//! right tables and output; and `show`, `log` and `verify` never panic, never hang, and never print an older table
//! without saying so. `HIGHWATER_DAMAGE=2000` tries more cases, `HIGHWATER_SEED` others.

use std::{
    collections::BTreeMap,
    fs,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
};

use crate::{
    binary::{Chance, Ended, Folder, HANGS_AFTER, copy_tree, from_environment, same_lines},
    kills,
};

/// A checkpoint to be damaged again and again, and all that is right about it.
struct Specimen {
    folder: Folder,
    /// Its files, relative to the folder.
    files: Vec<PathBuf>,
    /// The newest result last.
    results: Vec<String>,
    log: Vec<String>,
    published: BTreeMap<String, Vec<u8>>,
}

impl Specimen {
    fn new() -> Specimen {
        // the last two batches are in the live log alone
        let folder = Folder::new(&kills::JOB.replace("snapshot_batches = '3'", "snapshot_batches = '5'"));
        kills::fill(&folder);
        // one bad record, so that there is a file of them
        let first = fs::read(folder.at("input/0000.json")).expect("it was just written");
        folder.input(0, &[&first[..], b"{\"device\": oops}\n"].concat());
        folder.run().expect(0);
        let results = (0..kills::FILES).map(|batch| show_at(&folder, batch)).collect();
        let (log, published) = (folder.canonical_log(), folder.published());
        for name in ["checkpoint", "output"] {
            copy_tree(&folder.at(name), &folder.at(&format!("sound/{name}")));
        }
        let sound = folder.at("sound/checkpoint");
        let mut files = Vec::new();
        walk(&sound, &mut |path| files.push(path.strip_prefix(&sound).expect("it is inside").to_owned()));
        Specimen { folder, files, results, log, published }
    }

    /// Puts the sound checkpoint and output back.
    fn restore(&self) {
        for name in ["checkpoint", "output"] {
            fs::remove_dir_all(self.folder.at(name)).expect("it can be removed");
            copy_tree(&self.folder.at(&format!("sound/{name}")), &self.folder.at(name));
        }
    }

    fn path(&self, file: &Path) -> PathBuf {
        self.folder.at("checkpoint").join(file)
    }

    fn newest(&self) -> &str {
        self.results.last().expect("there are batches")
    }

    /// What every command says about the damage, and what a run makes of it.
    #[track_caller]
    fn judge(&self, story: &str) -> Verdict {
        let shown = self.ask(&["show", "checkpoint", "--output", "json"], story);
        let mut old = false;
        if shown.code() == Some(0) && shown.stdout != self.newest() {
            old = true;
            assert!(self.results.contains(&shown.stdout), "{story}: show prints a table that never was");
            assert!(!shown.stderr.is_empty(), "{story}: show prints an old table without a word");
        }
        let log = self.ask(&["log", "checkpoint", "--json"], story);
        if log.code() == Some(0) && log.stdout.lines().count() != kills::FILES {
            old = true;
            assert!(!log.stderr.is_empty(), "{story}: log leaves batches out without a word");
        }
        let verified = self.ask(&["verify", "checkpoint"], story);
        assert!(!(old && verified.code() == Some(0)), "{story}: verify finds nothing\n{}", verified.stdout);
        let ran = self.folder.run();
        assert!(ran.took < HANGS_AFTER, "{story}: the run hangs");
        if ran.code() != Some(0) {
            refused(&ran, story);
            return Verdict { found: verified.code() != Some(0), refused: true };
        }
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        same_lines(&lines(&self.folder.shown()), &lines(self.newest()), &format!("{story}: the tables after a run"));
        assert!(self.folder.published() == self.published, "{story}: the output folder after a run");
        // what a damaged old part of the log held cannot be had again; the batches after it are as they were
        let log = self.folder.canonical_log();
        let lost = self.log.len().checked_sub(log.len()).expect("no more batches than before");
        assert!(lost == 0 || old, "{story}: {lost} batches went without a word");
        same_lines(&log, &self.log[lost..], &format!("{story}: the log after a run"));
        Verdict { found: verified.code() != Some(0), refused: false }
    }

    /// A command that only reads: it answers, or refuses.
    #[track_caller]
    fn ask(&self, words: &[&str], story: &str) -> Ended {
        let ended = self.folder.call(words);
        assert!(ended.took < HANGS_AFTER, "{story}: {} hangs", words[0]);
        if ended.code() != Some(0) {
            refused(&ended, &format!("{story}: {}", words[0]));
        }
        ended
    }
}

struct Verdict {
    /// Whether `verify` found it.
    found: bool,
    refused: bool,
}

/// A refusal has its exit code, and says what, where, and what to do.
#[track_caller]
fn refused(ended: &Ended, story: &str) {
    assert_eq!(ended.code(), Some(3), "{story}: {}\n{}", ended.status, ended.stderr);
    for part in ["error: ", "help: "] {
        assert!(ended.stderr.contains(part), "{story}: no '{part}': {}", ended.stderr);
    }
}

fn show_at(folder: &Folder, batch: usize) -> String {
    folder.call(&["show", "checkpoint", "--output", "json", "--at", &batch.to_string()]).expect(0).stdout
}

/// Every file below a folder, in the order of names.
fn walk(folder: &Path, see: &mut dyn FnMut(&Path)) {
    let mut paths: Vec<_> = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("listed").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() { walk(&path, see) } else { see(&path) }
    }
}

/// The ways in which a file is damaged.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip,
    Zero,
    Cut,
    Delete,
    Exchange,
}

const ALL: [Damage; 5] = [Damage::Flip, Damage::Zero, Damage::Cut, Damage::Delete, Damage::Exchange];

/// Does it, and says what was done.
fn damage(specimen: &Specimen, file: &Path, how: Damage, chance: &mut Chance) -> String {
    let path = specimen.path(file);
    let mut bytes = fs::read(&path).expect("a file of the checkpoint");
    let story = match how {
        Damage::Flip => {
            // most of sled's file is zeros that nobody reads: aim at what was written
            let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
            let Some(at) = written.get(chance.below(written.len())) else { return "nothing to flip".to_owned() };
            let bit = chance.below(8);
            bytes[*at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
        Damage::Zero => {
            let from = chance.below(bytes.len());
            let to = bytes.len().min(from + [64, 4096, usize::MAX / 2][chance.below(3)]);
            bytes[from..to].fill(0);
            format!("zeros from byte {from} to {to}")
        }
        Damage::Cut => {
            bytes.truncate(chance.below(bytes.len()));
            format!("cut to {} bytes", bytes.len())
        }
        Damage::Delete => {
            fs::remove_file(&path).expect("it can be removed");
            return format!("{} deleted", file.display());
        }
        Damage::Exchange => {
            let other = &specimen.files[chance.below(specimen.files.len())];
            let theirs = fs::read(specimen.path(other)).expect("a file of the checkpoint");
            fs::write(specimen.path(other), &bytes).expect("it can be written");
            bytes = theirs;
            format!("exchanged with {}", other.display())
        }
    };
    fs::write(&path, bytes).expect("it can be written");
    format!("{} {story}", file.display())
}

/// Counts verdicts, and says in the end what came of the cases.
#[derive(Default)]
struct Tally {
    cases: u32,
    found: u32,
    refused: u32,
    wrong: Vec<String>,
}

impl Tally {
    /// Judges one case; one that is wrong does not keep the others from being tried.
    fn judge(&mut self, specimen: &Specimen, story: &str) {
        self.cases += 1;
        match std::panic::catch_unwind(AssertUnwindSafe(|| specimen.judge(story))) {
            Ok(verdict) => {
                self.found += u32::from(verdict.found);
                self.refused += u32::from(verdict.refused);
            }
            Err(_) => self.wrong.push(story.to_owned()),
        }
    }

    fn end(&self, what: &str) {
        let Tally { cases, found, refused, wrong } = self;
        assert!(wrong.is_empty(), "{what}: {} of {cases} cases went wrong:\n{}", wrong.len(), wrong.join("\n"));
        eprintln!("{what}: {cases} cases, {found} found by verify, {refused} refused by run, all others healed");
    }
}

fn seed() -> u64 {
    from_environment("HIGHWATER_SEED").unwrap_or(1)
}

#[test]
fn every_file_damaged_in_every_way() {
    let specimen = Specimen::new();
    let mut tally = Tally::default();
    for (number, file) in specimen.files.iter().enumerate() {
        for how in ALL {
            specimen.restore();
            let mut chance = Chance::new(seed() + number as u64);
            let story = damage(&specimen, file, how, &mut chance);
            tally.judge(&specimen, &format!("HIGHWATER_SEED={}: {story}", seed()));
        }
    }
    assert!(tally.cases >= 60, "only {} files", specimen.files.len());
    tally.end("every file damaged in every way");
}

#[test]
fn random_damage_to_the_live_log_and_to_several_files_at_once() {
    let specimen = Specimen::new();
    let live: Vec<_> = specimen.files.iter().filter(|file| file.starts_with("log")).cloned().collect();
    let mut tally = Tally::default();
    for case in 0..from_environment("HIGHWATER_DAMAGE").unwrap_or(40) {
        let mut chance = Chance::new(seed().wrapping_mul(1000) + case);
        specimen.restore();
        let mut stories = vec![damage_one(&specimen, &live, &mut chance)];
        if chance.below(3) == 0 {
            stories.push(damage_one(&specimen, &specimen.files, &mut chance));
        }
        tally.judge(&specimen, &format!("HIGHWATER_SEED={}, case {case}: {}", seed(), stories.join("; ")));
    }
    tally.end("random damage to the log");
}

/// What an earlier damage deleted is left alone.
fn damage_one(specimen: &Specimen, files: &[PathBuf], chance: &mut Chance) -> String {
    let there: Vec<_> = files.iter().filter(|file| specimen.path(file).exists()).collect();
    let how = ALL[chance.below(ALL.len() - 1)];
    damage(specimen, there[chance.below(there.len())], how, chance)
}

#[test]
fn a_rolled_back_log_whose_input_is_gone_is_refused() {
    let specimen = Specimen::new();
    let live = fs::read_dir(specimen.path(Path::new("log"))).expect("a folder").map(|entry| entry.expect("listed").path());
    fs::remove_dir_all(live.filter(|path| path.is_dir()).max().expect("a live log")).expect("it can be removed");
    for number in 0..kills::FILES {
        fs::rename(specimen.folder.at(&format!("input/{number:04}.json")), specimen.folder.at(&format!("{number}.kept")))
            .expect("it can be moved");
    }
    let ran = specimen.folder.run();
    refused(&ran, "batches are lost and so is their input");
    assert!(ran.stderr.contains("rewind"), "{}", ran.stderr);
    // the input comes back, and so do the batches
    for number in 0..kills::FILES {
        fs::rename(specimen.folder.at(&format!("{number}.kept")), specimen.folder.at(&format!("input/{number:04}.json")))
            .expect("it can be moved");
    }
    specimen.judge("the input is back");
}
