//! Damage at rest: every file of a checkpoint flipped, zeroed, cut, deleted, exchanged, or put back as it was earlier, by
//! the real binary.
//!
//! Afterwards a run either refuses clearly (exit code 3: what, where, why and what helps) or ends with exactly the
//! right tables and output; and `show`, `log` and `verify` never panic, never hang, and never print an older table
//! without saying so. `HIGHWATER_DAMAGE=20000` tries more cases, `HIGHWATER_SEED` others, `HIGHWATER_CASE` a single one.

mod beside;
mod mutation;
mod past;
mod server;
mod specimen;

use std::{
    collections::BTreeMap,
    fs,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
};

use self::{
    mutation::{Mutation, there},
    past::Past,
    specimen::{Questions, Specimen, refused},
};
use crate::{
    binary::{Chance, from_environment, skip},
    kills,
    servers::NO_SERVER,
};

/// Counts verdicts, and says in the end what came of the cases.
#[derive(Default)]
struct Tally {
    cases: u32,
    found: u32,
    refused: u32,
    /// Cases by what was done.
    kinds: BTreeMap<Mutation, u32>,
    wrong: Vec<String>,
}

impl Tally {
    /// Judges one case; one that is wrong does not keep the others from being tried.
    fn judge(&mut self, specimen: &Specimen, kinds: &[Mutation], story: &str, questions: Questions) {
        self.cases += 1;
        kinds.iter().for_each(|kind| *self.kinds.entry(*kind).or_default() += 1);
        match std::panic::catch_unwind(AssertUnwindSafe(|| specimen.judge(story, questions))) {
            Ok(verdict) => {
                self.found += u32::from(verdict.found);
                self.refused += u32::from(verdict.refused);
            }
            Err(_) => self.wrong.push(story.to_owned()),
        }
    }

    fn add(&mut self, other: Tally) {
        self.cases += other.cases;
        self.found += other.found;
        self.refused += other.refused;
        other.kinds.into_iter().for_each(|(kind, count)| *self.kinds.entry(kind).or_default() += count);
        self.wrong.extend(other.wrong);
    }

    fn end(&self, what: &str) {
        let Tally { cases, found, refused, kinds, wrong } = self;
        assert!(wrong.is_empty(), "{what}: {} of {cases} cases went wrong:\n{}", wrong.len(), wrong.join("\n"));
        eprintln!(
            "{what}: {cases} cases, {found} found by verify, {refused} refused by run, all others healed; {kinds:?}"
        );
    }
}

fn seed() -> u64 {
    from_environment("HIGHWATER_SEED").unwrap_or(1)
}

#[test]
fn every_file_damaged_in_every_way() {
    let specimen = Specimen::new(Past::Stopped);
    let mut tally = Tally::default();
    for (number, file) in specimen.files.iter().enumerate() {
        for (place, mutation) in Mutation::OF_A_FILE.into_iter().enumerate() {
            specimen.restore();
            let mut chance = Chance::new(seed() + number as u64);
            let story = format!("HIGHWATER_SEED={}: {}", seed(), mutation.apply(&specimen, file, &mut chance));
            tally.judge(&specimen, &[mutation], &story, Questions::in_turn((number + place) as u64));
        }
    }
    assert!(tally.cases >= 84, "only {} files", specimen.files.len());
    tally.end("every file damaged in every way");
}

#[test]
fn random_damage_of_one_file_and_of_several() {
    let cases = from_environment("HIGHWATER_DAMAGE").unwrap_or(420);
    random(&Past::ALL, cases).end("random damage");
}

/// Damage to a checkpoint whose results go to a server: the server stays as it was.
#[test]
fn random_damage_beside_servers() {
    let there = |past: &Past| past.server().is_some_and(|which| which.url().is_some());
    let pasts: Vec<Past> = [Past::ToPostgres, Past::ToRedis].into_iter().filter(there).collect();
    if pasts.len() < 2 {
        skip("random_damage_beside_servers", NO_SERVER);
    }
    if pasts.is_empty() {
        return;
    }
    let cases = from_environment("HIGHWATER_DAMAGE").unwrap_or(420) / 4;
    random(&pasts, cases).end("random damage beside servers");
}

/// A folder per thread: the commands of one case wait for each other, those of different ones need not.
fn random(pasts: &[Past], cases: u64) -> Tally {
    let (first, cases) = from_environment("HIGHWATER_CASE").map_or((0, cases), |case| (case, case + 1));
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(2)) as u64;
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let work = |thread: u64| {
            let mine = (first..cases).filter(move |case| case % threads == thread).collect::<Vec<_>>();
            scope.spawn(move || campaign(pasts, &mine))
        };
        let workers: Vec<_> = (0..threads).map(work).collect();
        workers.into_iter().for_each(|worker| tally.add(worker.join().expect("a specimen can be made")));
    });
    tally
}

/// Runs these cases, each in a specimen of one of these pasts.
fn campaign(pasts: &[Past], cases: &[u64]) -> Tally {
    let mut specimens: BTreeMap<usize, Specimen> = BTreeMap::new();
    let mut tally = Tally::default();
    for (done, case) in cases.iter().enumerate() {
        let mut chance = Chance::new(seed().wrapping_mul(1_000_003).wrapping_add(*case));
        let past = chance.below(pasts.len());
        let specimen = specimens.entry(past).or_insert_with(|| Specimen::new(pasts[past]));
        specimen.restore();
        let (kinds, stories) = random_damage(specimen, &mut chance);
        let how = format!("HIGHWATER_SEED={} HIGHWATER_CASE={case}, {:?}", seed(), specimen.past);
        let questions = if cases.len() == 1 { Questions::ALL } else { Questions::in_turn(*case) };
        tally.judge(specimen, &kinds, &format!("{how}: {}", stories.join("; ")), questions);
        if (done + 1) % 1000 == 0 {
            eprintln!("{} of {} cases, {} wrong", done + 1, cases.len(), tally.wrong.len());
        }
    }
    tally
}

/// One mutation of one file mostly, of the live log (or what is received, or a database) more often than its share of the
/// files; sometimes two or three.
fn random_damage(specimen: &Specimen, chance: &mut Chance) -> (Vec<Mutation>, Vec<String>) {
    let log: Vec<PathBuf> = specimen.files.iter().filter(|file| file.starts_with("log")).cloned().collect();
    let beside: Vec<PathBuf> = specimen.files.iter().filter(|file| beside::is_beside(file)).cloned().collect();
    let count = [1, 1, 1, 1, 2, 3][chance.below(6)];
    let (mut kinds, mut stories) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let files = match (specimen.past.has_beside(), chance.below(2)) {
            (true, 0) => &beside,
            (_, 0) => &log,
            _ => &specimen.files,
        };
        let whole = [Mutation::OlderBeside, Mutation::OlderInstead];
        let mutation = match chance.below(10) {
            0 if kinds.is_empty() => whole[chance.below(2)],
            _ => Mutation::OF_A_FILE[chance.below(Mutation::OF_A_FILE.len())],
        };
        let there = there(specimen, files);
        if there.is_empty() {
            break;
        }
        let file = there[chance.below(there.len())].clone();
        stories.push(mutation.apply(specimen, &file, chance));
        kinds.push(mutation);
    }
    (kinds, stories)
}

#[test]
fn a_rolled_back_log_whose_input_is_gone_is_refused() {
    let specimen = Specimen::new(Past::Stopped);
    let live =
        fs::read_dir(specimen.path(Path::new("log"))).expect("a folder").map(|entry| entry.expect("listed").path());
    fs::remove_dir_all(live.filter(|path| path.is_dir()).max().expect("a live log")).expect("it can be removed");
    let away =
        |number: usize| (specimen.input(&format!("{number:04}.json")), specimen.input(&format!(".{number}.kept")));
    for (input, kept) in (0..kills::FILES).map(away) {
        fs::rename(input, kept).expect("it can be moved");
    }
    let ran = specimen.run();
    refused(&ran, "batches are lost and so is their input");
    assert!(ran.stderr.contains("rewind"), "{}", ran.stderr);
    // the input comes back, and so do the batches
    for (input, kept) in (0..kills::FILES).map(away) {
        fs::rename(kept, input).expect("it can be moved");
    }
    specimen.judge("the input is back", Questions::ALL);
}
