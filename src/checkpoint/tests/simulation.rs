//! Random lives of a whole checkpoint on a simulated database: killed, or without power, wherever a crash point is, its
//! witness older, torn or gone, its log rolled back behind its back. The model says what must be there afterwards:
//! acknowledged <= recovered <= issued.
//!
//! A life is plain data, which proptest generates and, where it fails, makes shorter. `PROPTEST_CASES=20000` lives more
//! of them, `HIGHWATER_SEED` others in the tests of the simulation itself.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, path::PathBuf};

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};

use super::{
    super::{layout::Layout, open::Repair, witness::Mark},
    model::Model,
    simulated::{self, Lie, Simulated},
    *,
};
use crate::model::{CrashPoint, Error, ErrorKind, Generation, crash::Crash};

/// One process's life.
#[derive(Debug, Clone)]
struct Session {
    /// Where it crashes, if it comes there so often.
    crash: Option<(CrashPoint, u64)>,
    steps: Vec<Step>,
    end: End,
    after: After,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Commit { large: bool },
    Intend,
    Withdraw,
    Snapshot,
    Rewind { back: u64, replan: bool },
    Published,
}

/// How a session ends (one that crashed is not closed).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Close,
    Kill,
    PowerLoss,
}

/// What befalls the files before the next session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Nothing,
    WitnessTorn(usize),
    /// Both say what was so many records earlier.
    WitnessOlder(usize),
    WitnessGone,
    /// The log loses so many records; the witness does not.
    RolledBack(u64),
}

fn sessions() -> impl Strategy<Value = Vec<Session>> {
    let step = prop_oneof![
        8 => any::<bool>().prop_map(|large| Step::Commit { large }),
        2 => Just(Step::Intend),
        1 => Just(Step::Withdraw),
        2 => Just(Step::Snapshot),
        2 => (0..7u64, prop::bool::weighted(0.3)).prop_map(|(back, replan)| Step::Rewind { back, replan }),
        1 => Just(Step::Published),
    ];
    // most appends come to two points of these: they get half of the crashes
    let point = prop_oneof![
        prop::sample::select(&LOG_POINTS[..]),
        prop::sample::select(&[CrashPoint::Applied, CrashPoint::Flushed][..])
    ];
    let crash = prop::option::weighted(0.7, (point, 1..6u64));
    let end = prop_oneof![1 => Just(End::Close), 2 => Just(End::Kill), 2 => Just(End::PowerLoss)];
    let after = prop_oneof![
        6 => Just(After::Nothing),
        1 => (0..2usize).prop_map(After::WitnessTorn),
        1 => (1..6usize).prop_map(After::WitnessOlder),
        1 => Just(After::WitnessGone),
        1 => (1..6u64).prop_map(After::RolledBack),
    ];
    let session = (crash, prop::collection::vec(step, 0..10), end, after)
        .prop_map(|(crash, steps, end, after)| Session { crash, steps, end, after });
    prop::collection::vec(session, 1..8)
}

/// A checkpoint being lived through, and all that is known of it from outside.
struct Life {
    dir: PathBuf,
    retain: Option<u64>,
    /// What was acknowledged; none: not even that the checkpoint is there.
    sure: Option<Model>,
    /// What was issued, and neither acknowledged nor refused.
    issued: Option<Model>,
    /// What was acknowledged, by the sequence number after it, with the witness's mark of that moment.
    acknowledged: BTreeMap<u64, (Model, Mark)>,
    /// What the next opening must report, as long as the log still ends before this record.
    expected: Option<(u64, Repair)>,
    /// Whether the witness says what was acknowledged last: where it was spoiled, it does so again after the next write.
    watched: bool,
    trace: Vec<String>,
}

fn mark(checkpoint: &Checkpoint) -> Mark {
    let history = checkpoint.history();
    Mark {
        seq: history.next_seq - 1,
        batch: history.newest().map(|commit| commit.batch()),
        generation: history.generation(),
        hash: history.head,
    }
}

/// Runs `sessions`, and returns what happened, line by line; panics where the model is contradicted.
fn live(sessions: &[Session], retain: Option<u64>, lie: Lie) -> Vec<String> {
    let scratch = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "." }).unwrap();
    let dir = std::fs::canonicalize(scratch.path()).unwrap();
    let _simulated = Simulated::below(&dir, lie);
    let mut life = Life {
        dir: dir.join("checkpoint"),
        retain,
        sure: None,
        issued: None,
        acknowledged: BTreeMap::new(),
        expected: None,
        watched: true,
        trace: Vec::new(),
    };
    for session in sessions {
        let ended = life.session(session);
        // without the place: the folder is another one each time
        let how = ended.as_ref().err().map_or("ended".to_owned(), |error| error.what().to_owned());
        if let Err(error) = ended {
            assert_eq!(error.kind(), ErrorKind::Crashed, "{error}");
        }
        life.trace.push(format!("{how}, {:?}, {:?}", session.end, session.after));
        life.befall(session);
    }
    // with the next write everything is as if nothing had happened, the witness and what crashes left behind included
    let last =
        Session { crash: None, steps: vec![Step::Commit { large: false }], end: End::Close, after: After::Nothing };
    life.session(&last).expect("nothing crashes");
    life.start(Faults::none()).expect("nothing crashes").close().unwrap();
    assert_eq!(verify(&life.dir).unwrap(), []);
    life.trace
}

impl Life {
    fn session(&mut self, session: &Session) -> Result<(), Error> {
        let faults = session.crash.map_or_else(Faults::none, |(point, nth)| Faults::armed(point, nth, Crash::Error));
        let mut checkpoint = self.start(faults)?;
        for step in &session.steps {
            let mut model = self.sure.clone().expect("it was opened");
            model.attempts += 1;
            self.issued = Some(model);
            self.step(&mut checkpoint, *step)?;
            self.acknowledge(&checkpoint);
            self.trace.push(format!("{step:?}: {}", standing(&checkpoint)));
        }
        match session.end {
            End::Close => checkpoint.close(),
            End::Kill | End::PowerLoss => Ok(()),
        }
    }

    /// Creates or opens it, and holds what is there against the model.
    fn start(&mut self, faults: Faults) -> Result<Checkpoint, Error> {
        let options = OpenOptions { faults, settings: settings(self.retain) };
        let there = Checkpoint::exists(&self.dir)?;
        assert!(there || self.sure.is_none(), "the checkpoint is gone");
        let checkpoint = match there {
            true => Checkpoint::open(&self.dir, options)?,
            false => Checkpoint::create(&self.dir, genesis(), options)?,
        };
        let sure = self.sure.take().unwrap_or_default();
        let recovered = match self.issued.take() {
            Some(issued) if agrees(&checkpoint, &issued) => issued,
            _ => sure,
        };
        assert!(agrees(&checkpoint, &recovered), "recovered {}, not {recovered:?}", standing(&checkpoint));
        if let Some((_, known)) = self.acknowledged.get(&checkpoint.history().next_seq) {
            assert_eq!(checkpoint.history().head, known.hash, "the chain is another one");
        }
        let repaired = checkpoint.repaired().map(reported);
        let expected = self.expected.take().filter(|(next, _)| *next == checkpoint.history().next_seq);
        assert_eq!(
            repaired,
            expected.as_ref().map(|(_, repair)| repair.clone()),
            "a crash is no damage; a rollback is"
        );
        self.expected = expected;
        if let Some(newest) = recovered.live().last() {
            assert_eq!(state_at(&checkpoint, newest.address).unwrap(), newest.state);
        }
        self.sure = Some(recovered);
        // a record that a crash left behind was acknowledged by nobody: the witness learns of it with the next one
        self.watched &= !there || self.acknowledged.contains_key(&checkpoint.history().next_seq);
        self.acknowledge(&checkpoint);
        let word = if repaired.is_some() { "repaired" } else { "opened" };
        self.trace.push(format!("{word}: {}", standing(&checkpoint)));
        Ok(checkpoint)
    }

    fn acknowledge(&mut self, checkpoint: &Checkpoint) {
        let model = self.issued.take().or_else(|| self.sure.clone()).expect("there is a model");
        assert!(agrees(checkpoint, &model), "acknowledged {}, not {model:?}", standing(checkpoint));
        self.acknowledged.insert(checkpoint.history().next_seq, (model.clone(), mark(checkpoint)));
        self.sure = Some(model);
    }

    /// Issues a step: `self.issued` is what it makes, should it happen.
    fn step(&mut self, checkpoint: &mut Checkpoint, step: Step) -> Result<(), Error> {
        // a record makes a repair final; until it is there, what was lost is told again
        let before = checkpoint.history().next_seq;
        let model = self.issued.as_mut().expect("a step is issued");
        let result = match step {
            Step::Commit { large } => {
                let draft = draft(model.plan(), model.attempts, if large { 260 << 10 } else { 3000 });
                model.commit(&draft, checkpoint.history().generation());
                checkpoint.commit(draft).map(drop)
            }
            Step::Intend => {
                let plan = model.plan();
                model.intend(&plan);
                checkpoint.intend(&plan)
            }
            Step::Withdraw => {
                model.intent = None;
                checkpoint.withdraw()
            }
            Step::Snapshot => match model.live().last() {
                Some(newest) => checkpoint.snapshot(encode_state(&newest.state)),
                None => Ok(()),
            },
            Step::Rewind { back, replan } => {
                let to = model.next().checked_sub(back + 1).map(BatchId);
                if to >= checkpoint.horizon()? {
                    model.rewind(to, replan);
                    checkpoint.rewind(to, replan, 0).map(drop)
                } else {
                    Ok(())
                }
            }
            Step::Published => {
                model.owed = None;
                checkpoint.mark_published()
            }
        };
        let lost = |repair: &Repair| repair.acknowledged > repair.newest || repair.rewind_lost;
        self.watched |= result.is_ok() && checkpoint.history().next_seq > before;
        if checkpoint.history().next_seq > before || result.is_err() && !self.expected.iter().any(|(_, r)| lost(r)) {
            self.expected = None;
        }
        result
    }

    /// What happens to the files once the process is gone.
    fn befall(&mut self, session: &Session) {
        if !Checkpoint::exists(&self.dir).unwrap() {
            return;
        }
        let layout = Layout::new(&self.dir);
        let lives: Vec<PathBuf> = layout.log_folder().unwrap().live.into_iter().map(|live| live.path).collect();
        if session.end == End::PowerLoss {
            lives.iter().for_each(|live| simulated::lose_power(live));
        }
        // one misfortune at a time: behind a repair that is not final the witness is all that knows of it
        let at_rest = self.expected.is_none() && self.sure.is_some();
        self.watched &= !at_rest || matches!(session.after, After::Nothing | After::RolledBack(_));
        match session.after {
            After::WitnessTorn(slot) if at_rest => {
                std::fs::write(layout.witness(slot), b"HWWIT torn in the middle").unwrap();
            }
            After::WitnessOlder(back) if at_rest => {
                let older = self.acknowledged.values().rev().nth(back).map(|(_, mark)| *mark);
                older.into_iter().for_each(|mark| super::super::witness::write_both(&layout, mark).unwrap());
            }
            After::WitnessGone if at_rest => {
                // a life before this one may have removed them, and ended before they were written again
                let there = (0..2).map(|slot| layout.witness(slot)).filter(|path| path.exists());
                there.for_each(|path| std::fs::remove_file(path).unwrap());
            }
            After::RolledBack(records) if at_rest && self.watched && self.issued.is_none() => {
                self.roll_back(&lives, records)
            }
            _ => {}
        }
    }

    fn roll_back(&mut self, lives: &[PathBuf], records: u64) {
        let [only] = lives else { return };
        let entries = simulated::stored(only);
        let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) else { return };
        let next = (last + 1 - records.min(last + 1)).max(first + 1);
        // only between what was acknowledged; inside a snapshot's own records there is no model
        let Some((mut model, then)) = self.acknowledged.get(&next).cloned() else { return };
        let Some((_, now)) = self.acknowledged.get(&(last + 1)).cloned() else { return };
        if next > *last {
            return;
        }
        simulated::roll_back(only, next);
        let rewind_lost = now.generation > then.generation;
        let repair =
            Repair { newest: then.batch, acknowledged: now.batch.max(then.batch), rewind_lost, why: String::new() };
        self.expected = Some((next, repair));
        // what is done again is told from what was lost
        model.attempts = self.sure.as_ref().map_or(0, |sure| sure.attempts);
        self.sure = Some(model);
        self.acknowledged.split_off(&(next + 1));
    }
}

/// A repair as far as it is compared: the words are for people, and a lost rewind may have gone back further.
fn reported(repair: &Repair) -> Repair {
    Repair { why: String::new(), acknowledged: repair.acknowledged.max(repair.newest), ..repair.clone() }
}

/// Whether a checkpoint is at the point that the model says.
fn agrees(checkpoint: &Checkpoint, model: &Model) -> bool {
    let history = checkpoint.history();
    let live = model.live();
    let files: Vec<_> = live.iter().flat_map(|past| &past.plan.inputs[0].files).collect();
    history.next_batch().0 == model.next()
        && history.generation() == Generation(model.rewinds + 1)
        && history.pending().eq(&model.pending)
        && history.intent() == model.intent.as_ref()
        && history.seen_files().iter().map(|seen| &seen.file).eq(files)
        && history.offset("flows") == live.last().and_then(|past| past.plan.inputs[0].end)
        && history.newest().map(|commit| &commit.plan) == live.last().map(|past| &past.plan)
        && super::super::recovery::resolve(&super::super::recovery::Facts::of(history)) == model.recovery()
}

fn standing(checkpoint: &Checkpoint) -> String {
    let history = checkpoint.history();
    let newest = history.newest().map(|commit| commit.address().to_string());
    let head: String = history.head.0[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("record {} {head}, newest {newest:?}, {} pending", history.next_seq - 1, history.pending().len())
}

/// The sessions of a seed, and whether old batches are dropped.
fn drawn(seed: u64) -> (Vec<Session>, Option<u64>) {
    let bytes: Vec<u8> = seed.to_be_bytes().into_iter().cycle().take(32).collect();
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(cases(1), random);
    (sessions(), prop::option::of(1..6u64)).new_tree(&mut runner).unwrap().current()
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn whatever_happens_acknowledged_is_kept_and_nothing_else_appears(sessions in sessions(), retain in prop::option::of(1..6u64)) {
        live(&sessions, retain, Lie::Honest);
    }
}

fn first_seed() -> u64 {
    std::env::var("HIGHWATER_SEED").ok().map_or(1, |seed| seed.parse().expect("HIGHWATER_SEED is a number"))
}

#[test]
fn the_same_seed_lives_the_same_life_twice() {
    let mut lives = std::collections::BTreeSet::new();
    for seed in first_seed()..first_seed() + 10 {
        let (sessions, retain) = drawn(seed);
        let trace = live(&sessions, retain, Lie::Honest);
        assert_eq!(trace, live(&sessions, retain, Lie::Honest), "seed {seed}");
        lives.insert(trace);
    }
    assert!(lives.len() > 8, "different seeds live different lives");
}

/// The test of the test: a database that does not do what it promises is noticed.
#[test]
fn a_database_that_lies_is_caught() {
    let caught = |lie: Lie| {
        (first_seed()..first_seed() + 60).position(|seed| {
            let (sessions, retain) = drawn(seed);
            std::panic::catch_unwind(AssertUnwindSafe(|| live(&sessions, retain, lie))).is_err()
        })
    };
    assert_eq!(caught(Lie::Honest), None);
    for lie in [Lie::FlushesNothing, Lie::SyncsNothing, Lie::AppliesByPieces] {
        assert!(caught(lie).is_some(), "{lie:?}");
    }
}
