//! The sources of a job: what has arrived, what of it a batch takes, and reading it.

use std::{collections::HashSet, path::Path};

use crate::{
    job::JobSpec,
    model::{Error, InputPath, PlannedFile, Result, SourceInput},
    query::JobQueries,
    source::{FilesSource, Limits, Listing, Next, ReadFile, Seen, next_files},
};

/// One source, and what of it was committed.
pub(super) struct Input {
    pub name: String,
    pub source: FilesSource,
    pub seen: Seen,
    /// `logOffset` of the newest batch that took a file of it.
    pub offset: Option<u64>,
    limits: Limits,
    /// With `--available-now`: the files that were there at the start.
    fixed: Option<HashSet<InputPath>>,
    /// Files that wait, as far as the last look told.
    pub waiting: u64,
}

/// All sources of a job, in its order.
pub(super) struct Inputs {
    pub inputs: Vec<Input>,
}

/// What was read of one source.
pub(super) type SourceRead = Vec<ReadFile>;

impl Inputs {
    /// Opens every source; `path` overrides where the job's own path is relative to another folder by now.
    ///
    /// # Errors
    /// Of kind `Usage`, where a path is missing.
    pub fn open(job: &JobSpec, queries: &JobQueries, path: &dyn Fn(&str, &str) -> Option<String>) -> Result<Inputs> {
        let mut inputs = Vec::with_capacity(job.sources.len());
        for (index, spec) in job.sources.iter().enumerate() {
            let mut spec = spec.clone();
            if let Some(kept) = path(&spec.name, &spec.files.path) {
                spec.files.path = kept;
            }
            let source = FilesSource::open(&spec, queries.needed_columns(index).to_vec())
                .map_err(|error| error.at_if_none(job.place(spec.files.path_at)))?;
            inputs.push(Input {
                name: spec.name.clone(),
                source,
                seen: Seen::default(),
                offset: None,
                limits: Limits::from(&spec.files),
                fixed: None,
                waiting: 0,
            });
        }
        Ok(Inputs { inputs })
    }

    /// Remembers what is there now as all that the job will read.
    ///
    /// # Errors
    /// Of kind `Failed`, where a folder cannot be listed.
    pub fn fix(&mut self) -> Result<()> {
        for input in &mut self.inputs {
            let listing = input.source.list()?;
            input.fixed = Some(listing.files.into_iter().map(|file| file.identity).collect());
        }
        Ok(())
    }

    /// What the next batch takes of each source; `None`: nothing waits anywhere. Warnings go to `notice`.
    ///
    /// # Errors
    /// Of kind `Failed`, where a folder cannot be listed.
    pub fn next(&mut self, ignore_limits: bool, notice: &mut dyn FnMut(String)) -> Result<Option<Vec<SourceInput>>> {
        let mut taken = Vec::with_capacity(self.inputs.len());
        for input in &mut self.inputs {
            taken.push(input.next(ignore_limits, notice)?);
        }
        Ok(taken.iter().any(|input| !input.files.is_empty()).then_some(taken))
    }

    /// Reads and decodes the files of a plan, in its order.
    ///
    /// # Errors
    /// Of kind `Failed` for a file that is gone or was changed, `Data` where bad records are refused.
    pub fn read(&self, plan: &[SourceInput], threads: usize) -> Result<Vec<SourceRead>> {
        let read = |planned: &SourceInput| {
            let input = self.find(&planned.source)?;
            planned.files.iter().map(|file| input.source.read(file, threads)).collect()
        };
        plan.iter().map(read).collect()
    }

    /// Takes over that a batch was committed.
    pub fn committed(&mut self, plan: &[SourceInput]) {
        for planned in plan {
            let Some(input) = self.inputs.iter_mut().find(|input| input.name == planned.source) else { continue };
            input.offset = planned.end.or(input.offset);
            for file in &planned.files {
                input.seen.insert(file);
            }
            input.waiting = input.waiting.saturating_sub(planned.files.len() as u64);
        }
    }

    pub fn find(&self, source: &str) -> Result<&Input> {
        self.inputs.iter().find(|input| input.name == source).ok_or_else(|| {
            Error::refused(format!("the checkpoint's plan reads source '{source}', which is not in this job"))
                .help("run the job that the checkpoint was made for")
        })
    }
}

impl Input {
    fn next(&mut self, ignore_limits: bool, notice: &mut dyn FnMut(String)) -> Result<SourceInput> {
        let Listing { mut files, skipped } = self.source.list()?;
        if let Some(fixed) = &self.fixed {
            files.retain(|file| fixed.contains(&file.identity));
        }
        let limits = if ignore_limits { self.limits.ignored() } else { self.limits };
        let next: Next = next_files(&Listing { files, skipped }, &mut self.seen, limits);
        for message in next.notices {
            notice(format!("source '{}': {message}", self.name));
        }
        self.waiting = next.more.files + next.files.len() as u64;
        Ok(planned(&self.name, self.offset, next.files))
    }
}

/// Offsets count the batches that took at least one file, from 0.
fn planned(source: &str, start: Option<u64>, files: Vec<PlannedFile>) -> SourceInput {
    let end = if files.is_empty() { start } else { Some(start.map_or(0, |start| start + 1)) };
    SourceInput { source: source.to_owned(), start, end, files }
}

/// A path of the job file, absolute: relative ones are relative to the current directory, and the checkpoint keeps them
/// absolute, so that a resume from elsewhere reads the same files.
pub(super) fn absolute(path: &str) -> Result<String> {
    if Path::new(path).is_absolute() {
        return Ok(path.to_owned());
    }
    let here = std::env::current_dir().map_err(|error| Error::io("the current directory cannot be read", ".", &error))?;
    let joined = here.join(path);
    Ok(joined.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_count_batches_that_took_a_file() {
        let file = PlannedFile {
            identity: InputPath(b"a".to_vec()),
            path: InputPath(b"a".to_vec()),
            size_bytes: 1,
            modified_ns: 0,
        };
        let first = planned("s", None, vec![file.clone()]);
        assert_eq!((first.start, first.end), (None, Some(0)));
        let idle = planned("s", first.end, vec![]);
        assert_eq!((idle.start, idle.end), (Some(0), Some(0)));
        let second = planned("s", idle.end, vec![file]);
        assert_eq!((second.start, second.end), (Some(0), Some(1)));
    }
}
