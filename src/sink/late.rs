//! The side output for late rows: a files sink that makes no file for a batch without any.

use std::path::Path;

use super::{Before, Columns, FilesSink, Guarantee, Output, Sink, nothing_outside};
use crate::{
    checkpoint::CommitPermit,
    job::RowFormat,
    model::{BatchId, OutputMode, Result, StagedOutput},
};

/// Publishes late rows as JSON lines, one file for each batch that had some.
#[derive(Debug)]
pub struct LateRowsSink {
    name: String,
    files: FilesSink,
}

impl LateRowsSink {
    /// Touches nothing yet; `folder` may be missing.
    pub fn new(name: &str, folder: &Path) -> LateRowsSink {
        let files = FilesSink::new(name, folder, RowFormat::Json, OutputMode::Append);
        LateRowsSink { name: name.to_owned(), files }
    }
}

impl Sink for LateRowsSink {
    fn description(&self) -> String {
        self.files.description()
    }

    fn guarantee(&self) -> Guarantee {
        self.files.guarantee()
    }

    fn stages_outside(&self) -> bool {
        true
    }

    fn accepts(&self, columns: &Columns<'_>) -> Result<()> {
        self.files.accepts(columns)
    }

    fn check_free(&self) -> Result<()> {
        self.files.check_free()
    }

    fn open(&mut self, checkpoint_id: &str, before: &Before, columns: &Columns<'_>) -> Result<()> {
        self.files.open(checkpoint_id, before, columns)
    }

    fn stage(&mut self, output: &Output<'_>) -> Result<StagedOutput> {
        match output.row_count() {
            0 => Ok(nothing_outside(&self.name, output)),
            _ => self.files.stage(output),
        }
    }

    fn publish(&mut self, permit: &CommitPermit, staged: &StagedOutput, output: &Output<'_>) -> Result<()> {
        if staged.name.is_empty() { Ok(()) } else { self.files.publish(permit, staged, output) }
    }

    fn abort(&mut self) -> Result<()> {
        self.files.abort()
    }

    fn retract(&mut self, permit: &CommitPermit, keep: Option<BatchId>, latest: Option<&Output<'_>>) -> Result<()> {
        self.files.retract(permit, keep, latest)
    }

    fn verify(&self, published: &[(BatchId, StagedOutput)]) -> Result<Vec<String>> {
        let mut findings = self.files.verify(published)?;
        // most batches have no file, so one between two that have need not be theirs
        let (Some((first, _)), Some((last, _))) = (published.first(), published.last()) else { return Ok(findings) };
        for (name, batch) in self.files.of_batches()? {
            if batch > *first && batch <= *last && !published.iter().any(|(_, staged)| staged.name == name) {
                findings.push(format!("{name} was published by no committed batch"));
            }
        }
        Ok(findings)
    }

    fn read_back(&self, published: &[(BatchId, StagedOutput)]) -> Result<Vec<Vec<u8>>> {
        let (with_rows, _): (Vec<_>, Vec<_>) =
            published.iter().cloned().partition(|(_, staged)| !staged.name.is_empty());
        self.files.read_back(&with_rows)
    }
}
