//! The memory sink: its result lives in the checkpoint, so nothing is staged or published.

use super::{Before, Columns, Guarantee, Output, Sink};
use crate::{
    checkpoint::CommitPermit,
    model::{BatchId, Error, Result, StagedOutput},
};

/// A sink whose rows are only kept: `show` and `diff` read them from the checkpoint.
#[derive(Debug)]
pub struct MemorySink {
    name: String,
}

impl MemorySink {
    pub fn new(name: &str) -> MemorySink {
        MemorySink { name: name.to_owned() }
    }
}

impl Sink for MemorySink {
    fn description(&self) -> String {
        format!("memory[{}]", self.name)
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn stages_outside(&self) -> bool {
        false
    }

    fn accepts(&self, _columns: &Columns<'_>) -> Result<()> {
        Ok(())
    }

    fn check_free(&self) -> Result<()> {
        Ok(())
    }

    fn open(&mut self, _checkpoint_id: &str, _before: &Before, _columns: &Columns<'_>) -> Result<()> {
        Ok(())
    }

    fn stage(&mut self, output: &Output<'_>) -> Result<StagedOutput> {
        Ok(super::nothing_outside(&self.name, output))
    }

    fn publish(&mut self, _permit: &CommitPermit, _staged: &StagedOutput, _output: &Output<'_>) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self) -> Result<()> {
        Ok(())
    }

    fn retract(&mut self, _permit: &CommitPermit, _keep: Option<BatchId>, _latest: Option<&Output<'_>>) -> Result<()> {
        Ok(())
    }

    fn verify(&self, _published: &[(BatchId, StagedOutput)]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn read_back(&self, _published: &[(BatchId, StagedOutput)]) -> Result<Vec<Vec<u8>>> {
        Err(Error::usage(format!("the memory sink '{}' keeps nothing outside of the checkpoint", self.name))
            .help("read its result from the checkpoint: highwater show"))
    }
}
