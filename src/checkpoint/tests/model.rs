//! Random lives of a checkpoint against a naive model that keeps everything in plain lists.

use proptest::prelude::*;

use super::*;
use crate::model::Generation;

#[derive(Debug, Clone)]
enum Step {
    Commit {
        large: bool,
    },
    Intend,
    Withdraw,
    Snapshot,
    /// How many batches back, and whether retracted plans are dropped.
    Rewind {
        back: u64,
        replan: bool,
    },
    Published,
    Close,
    Drop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => any::<bool>().prop_map(|large| Step::Commit { large }),
        2 => Just(Step::Intend),
        1 => Just(Step::Withdraw),
        3 => Just(Step::Snapshot),
        2 => (0..7u64, prop::bool::weighted(0.3)).prop_map(|(back, replan)| Step::Rewind { back, replan }),
        1 => Just(Step::Published),
        1 => Just(Step::Close),
        2 => Just(Step::Drop),
    ];
    prop::collection::vec(step, 1..45)
}

/// One committed batch, as the model remembers it.
#[derive(Debug, Clone)]
pub(super) struct Past {
    pub address: BatchAddress,
    pub plan: BatchPlan,
    pub state: Vec<Vec<u8>>,
    live: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    past: Vec<Past>,
    pub pending: Vec<BatchPlan>,
    pub intent: Option<BatchPlan>,
    pub rewinds: u32,
    pub attempts: u64,
    pub owed: Option<Recovery>,
    /// The oldest batch that retention had to keep when it was last at work, or more.
    dropped_before: Option<BatchId>,
}

impl Model {
    pub(super) fn live(&self) -> Vec<&Past> {
        self.past.iter().filter(|past| past.live).collect()
    }

    pub(super) fn next(&self) -> u64 {
        self.live().last().map_or(0, |past| past.plan.batch.0 + 1)
    }

    /// A new plan differs each time, so that a replay that is none shows.
    pub(super) fn plan(&self) -> BatchPlan {
        let fresh = || BatchPlan { batch_time_us: self.attempts as i64, ..plan(self.next()) };
        self.intent.clone().or_else(|| self.pending.first().cloned()).unwrap_or_else(fresh)
    }

    pub(super) fn intend(&mut self, plan: &BatchPlan) {
        if self.intent.as_ref() != Some(plan) {
            self.intent = Some(plan.clone());
            self.owed = None;
        }
    }

    pub(super) fn commit(&mut self, draft: &CommitDraft, generation: Generation) {
        let plan = draft.plan.clone();
        let mut state = self.live().last().map(|past| past.state.clone()).unwrap_or_default();
        merge(&mut state, draft.payloads[0].bytes.clone());
        let address = BatchAddress { batch: plan.batch, generation: Some(generation) };
        self.owed = Some(Recovery::PublishAgain { batch: plan.batch });
        self.past.push(Past { address, plan, state, live: true });
        self.intent = None;
        if !self.pending.is_empty() {
            self.pending.remove(0);
        }
    }

    pub(super) fn rewind(&mut self, to: Option<BatchId>, replan: bool) {
        let mut retracted = Vec::new();
        for past in self.past.iter_mut().filter(|past| past.live && Some(past.plan.batch) > to) {
            past.live = false;
            retracted.push(past.plan.clone());
        }
        retracted.append(&mut self.pending);
        self.pending = if replan { Vec::new() } else { retracted };
        self.intent = None;
        self.rewinds += 1;
        self.owed = Some(Recovery::RetractAgain { to });
    }

    pub(super) fn recovery(&self) -> Recovery {
        let intended = self.intent.clone().map(|plan| Recovery::RunAgain { plan });
        intended.or(self.owed.clone()).unwrap_or(Recovery::PlanAnew)
    }
}

fn check(checkpoint: &Checkpoint, model: &Model, retain: Option<u64>) {
    let history = checkpoint.history();
    assert_eq!(history.next_batch().0, model.next());
    assert_eq!(history.generation(), Generation(model.rewinds + 1));
    assert_eq!(history.pending().cloned().collect::<Vec<_>>(), model.pending);
    assert_eq!(history.intent(), model.intent.as_ref());
    let live = model.live();
    let files: Vec<_> = live.iter().flat_map(|past| &past.plan.inputs[0].files).cloned().collect();
    assert_eq!(history.seen_files().iter().map(|seen| seen.file.clone()).collect::<Vec<_>>(), files);
    assert_eq!(history.offset("flows"), live.last().and_then(|past| past.plan.inputs[0].end));
    let reader = Reader::open(checkpoint.dir()).unwrap();
    assert_eq!(reader.history().contradictions, Vec::<String>::new());
    let horizon = reader.horizon();
    assert!(horizon <= model.dropped_before, "{horizon:?}: the newest batches are kept");
    if retain.is_none() {
        assert_eq!(reader.history().live().len() + reader.history().retracted().len(), model.past.len());
    }
    for past in &model.past {
        match reader.restore_steps(past.address) {
            Ok(steps) => {
                assert_eq!(
                    restore(&steps, |payload| reader.read_payload(payload)).unwrap(),
                    past.state,
                    "{}",
                    past.address
                );
                let commit = reader.find(past.address).unwrap();
                assert_eq!((&commit.plan, reader.history().is_live(commit)), (&past.plan, past.live));
            }
            Err(error) => assert!(
                Some(past.plan.batch) < horizon || (!past.live && retain.is_some()),
                "{}: {error}",
                past.address
            ),
        }
    }
    if let Some(newest) = live.last() {
        assert_eq!(state_at(checkpoint, newest.address).unwrap(), newest.state);
    }
}

fn run(steps: Vec<Step>, retain: Option<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let opening = || OpenOptions { faults: Faults::none(), settings: settings(retain) };
    let mut checkpoint = Checkpoint::create(dir.path(), genesis(), opening()).unwrap();
    let mut model = Model::default();
    for step in steps {
        model.attempts += 1;
        match step {
            Step::Commit { large } => {
                let draft = draft(model.plan(), model.attempts, if large { 260 << 10 } else { 40 });
                model.commit(&draft, checkpoint.history().generation());
                checkpoint.commit(draft).unwrap();
            }
            Step::Intend => {
                let plan = model.plan();
                checkpoint.intend(&plan).unwrap();
                model.intend(&plan);
            }
            Step::Withdraw => {
                checkpoint.withdraw().unwrap();
                model.intent = None;
            }
            Step::Snapshot => match model.live().last() {
                Some(newest) => {
                    checkpoint.snapshot(encode_state(&newest.state)).unwrap();
                    let needed = retain.and_then(|retain| model.next().checked_sub(retain)).map(BatchId);
                    model.dropped_before = model.dropped_before.max(needed);
                }
                None => assert!(checkpoint.snapshot(Vec::new()).is_err()),
            },
            Step::Rewind { back, replan } => {
                let to = model.next().checked_sub(back + 1).map(BatchId);
                let horizon = checkpoint.horizon().unwrap();
                let result = checkpoint.rewind(to, replan, 0);
                assert_eq!(result.is_ok(), to >= horizon, "to {to:?}, horizon {horizon:?}");
                if result.is_ok() {
                    model.rewind(to, replan);
                }
            }
            Step::Published => {
                checkpoint.mark_published().unwrap();
                model.owed = None;
            }
            Step::Close | Step::Drop => {
                if matches!(step, Step::Close) {
                    checkpoint.close().unwrap();
                } else {
                    drop(checkpoint);
                }
                checkpoint = Checkpoint::open(dir.path(), opening()).unwrap();
                assert_eq!((checkpoint.recovery(), checkpoint.repaired()), (model.recovery(), None));
            }
        }
        check(&checkpoint, &model, retain);
    }
    drop(checkpoint);
    assert_eq!(verify(dir.path()).unwrap(), []);
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn a_checkpoint_is_what_the_model_says(steps in steps(), retain in prop::option::of(1..6u64)) {
        run(steps, retain);
    }
}
