//! The sources of a job: what has arrived, what of it a batch takes, and reading it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    clean::Cleaned,
    clock::{Stopwatch, now_us},
    notices::tell,
    receive::Receiving,
};
use crate::{
    checkpoint::History,
    job::JobSpec,
    model::{Error, Notice, PlannedFile, Result, SourceInput},
    query::JobQueries,
    source::{
        Backlog, Change, FilesSource, Limits, Next, ReadAhead, ReadFile, Seen, Settling, Wanted, Watch, next_files,
    },
};

/// A file that was modified more recently may still be being written.
const QUIET: Duration = Duration::from_millis(200);

/// How long a job that reads what is there waits at its start for files that are being written.
const PATIENCE: Duration = Duration::from_secs(2);

/// One source, and what of it was committed.
pub(super) struct Input {
    pub name: String,
    pub source: FilesSource,
    /// As progress names it.
    pub description: String,
    /// Whether its files are segments of a receive log.
    is_received: bool,
    /// Whether its files are cleared away when nobody needs them, and which were.
    pub cleans: bool,
    pub cleaned: Cleaned,
    /// What receives, while the job runs.
    pub receiving: Option<Receiving>,
    pub seen: Seen,
    /// `logOffset` of the newest batch that took a file of it.
    pub offset: Option<u64>,
    limits: Limits,
    /// Newest first: then each batch must look at what has come.
    latest_first: bool,
    /// What the last look found. Listing a folder takes time proportional to its files: it is done again when this no
    /// longer fills a batch.
    backlog: Backlog,
    /// With `--available-now`: the backlog is all that the job will read.
    fixed: bool,
    /// Set up when the job first waits for new files.
    pub watch: Option<Watch>,
    /// What a look found, or why it found nothing, that nobody has asked for yet.
    looked: Option<Result<Next>>,
    /// How long until a file that may still be being written counts as whole, as far as the last look told.
    pub settles_in: Option<Duration>,
    /// How long the last look took.
    pub look_took: Duration,
}

/// All sources of a job, in its order.
pub(super) struct Inputs {
    pub inputs: Vec<Input>,
    ahead: ReadAhead,
    /// Threads that decode a file which was not read ahead.
    threads: usize,
    buffer: Vec<u8>,
}

/// What was read of one source.
pub(super) type SourceRead = Vec<ReadFile>;

impl Inputs {
    /// Opens every source, to be read by up to `threads` threads.
    ///
    /// # Errors
    /// Of kind `Usage`, where a path is missing.
    pub fn open(job: &JobSpec, queries: &JobQueries, threads: usize) -> Result<Inputs> {
        let mut inputs = Vec::with_capacity(job.sources.len());
        for (index, spec) in job.sources.iter().enumerate() {
            let source = FilesSource::open(spec, queries.needed_columns(index).to_vec())
                .map_err(|error| error.at_if_none(job.place(spec.files.path_at)))?;
            inputs.push(Input {
                name: spec.name.clone(),
                description: match &spec.received {
                    Some(received) => received.description(),
                    None => format!("FileStreamSource[{}]", source.root().display()),
                },
                is_received: spec.received.is_some(),
                cleans: spec.files.clean_source.is_some(),
                cleaned: Cleaned::default(),
                receiving: None,
                source,
                seen: if spec.received.is_some() { Seen::of_segments() } else { Seen::default() },
                offset: None,
                limits: Limits::of(&spec.files),
                latest_first: spec.files.latest_first,
                backlog: Backlog::default(),
                fixed: false,
                watch: None,
                looked: None,
                settles_in: None,
                look_took: Duration::ZERO,
            });
        }
        let ahead = ReadAhead::new(threads, job.settings.read_ahead_bytes);
        Ok(Inputs { inputs, ahead, threads, buffer: Vec::new() })
    }

    /// Looks at what is there before it is asked for, and begins to read it: the start of a job has other things to wait
    /// for. A folder that cannot be listed is told in its turn.
    pub fn look_ahead(&mut self) {
        let mut waiting = Vec::with_capacity(self.inputs.len());
        for (source, input) in self.inputs.iter_mut().enumerate() {
            let looked = input.find_new(&mut |_| {});
            let files = looked.iter().flat_map(|next| &next.files).take(self.ahead.files_max());
            let first: Vec<_> = files.cloned().collect();
            let reader = input.source.clone();
            waiting.push(first.into_iter().map(move |file| Wanted { source, reader: reader.clone(), file }));
            // what is received is looked at again: a segment that is still open comes first, when it is closed
            input.looked = Some(looked).filter(|looked| looked.is_err() || !input.is_received);
        }
        self.ahead.want(None, &in_turns(waiting, self.ahead.files_max()));
    }

    /// Takes over what the log says was read.
    pub fn remember(&mut self, history: &History) {
        for file in history.seen_files() {
            if let Some(input) = self.inputs.iter_mut().find(|input| input.name == file.source) {
                input.seen.insert(&file.file);
            }
        }
        for input in &mut self.inputs {
            input.offset = history.offset(&input.name);
        }
    }

    /// How many files are there that no batch has read.
    ///
    /// # Errors
    /// Of kind `Failed`, where a folder cannot be listed.
    pub fn files_not_committed(&self) -> Result<u64> {
        let mut count = 0;
        for input in &self.inputs {
            let listing = input.source.list()?;
            count += listing.files.iter().filter(|file| !input.seen.contains(&file.identity)).count() as u64;
        }
        Ok(count)
    }

    /// Remembers what is there now as all that the job will read. A file that is being written is waited for a little,
    /// and left to another run if it is not whole by then.
    ///
    /// # Errors
    /// Of kind `Failed`, where a folder cannot be listed.
    pub fn fix(&mut self, notice: &mut dyn FnMut(Notice)) -> Result<()> {
        let waited = Stopwatch::start();
        for input in &mut self.inputs {
            if input.will_end() {
                // all that will come of it is what is there
                continue;
            }
            let mut next = input.look(notice)?;
            while let Some(left) = next.settles_in.filter(|_| waited.elapsed() < PATIENCE) {
                std::thread::sleep(left);
                next = input.find_new(notice)?;
            }
            for file in &next.unsettled {
                let text = format!(
                    "source '{}': {} is still being written; it is left to the next run",
                    input.name, file.identity
                );
                notice(text.into());
            }
            next.settles_in = None;
            input.take_over(next, notice);
            input.fixed = true;
        }
        Ok(())
    }

    /// Looks again at all sources: a planned file is no longer what it was.
    ///
    /// # Errors
    /// As [`Inputs::fix`].
    pub fn look_again(&mut self, notice: &mut dyn FnMut(Notice)) -> Result<()> {
        if self.inputs.iter().any(|input| input.fixed) {
            return self.fix(notice);
        }
        self.inputs.iter_mut().for_each(|input| input.backlog = Backlog::default());
        Ok(())
    }

    /// What the next batch takes of each source; `None`: nothing waits anywhere. Warnings go to `notice`.
    ///
    /// # Errors
    /// Of kind `Failed`, where a folder cannot be listed.
    pub fn next(&mut self, ignore_limits: bool, notice: &mut dyn FnMut(Notice)) -> Result<Option<Vec<SourceInput>>> {
        let mut taken = Vec::with_capacity(self.inputs.len());
        for input in &mut self.inputs {
            taken.push(input.next(ignore_limits, notice)?);
        }
        Ok(taken.iter().any(|input| !input.files.is_empty()).then_some(taken))
    }

    /// What a batch without data takes of each source.
    pub fn nothing(&self) -> Vec<SourceInput> {
        self.inputs.iter().map(|input| planned(&input.name, input.offset, Vec::new())).collect()
    }

    /// Reads and decodes the files of a plan, in its order. `more`: other batches are likely to follow, whose files are
    /// read ahead meanwhile.
    ///
    /// # Errors
    /// Of kind `Moved` for a file that is gone or was changed, `Data` where bad records are refused.
    pub fn read(&mut self, plan: &[SourceInput], more: bool) -> Result<Vec<SourceRead>> {
        let mut files = self.files_of(plan)?;
        let planned = files.len();
        if more {
            files.extend(self.files_after(plan));
        }
        let mut reads: Vec<SourceRead> = plan.iter().map(|_| Vec::new()).collect();
        for at in 0..planned {
            self.ahead.want(Some(&files[at]), &files[at + 1..]);
            let Wanted { source, reader, file } = &files[at];
            let read = match self.ahead.take(*source, file) {
                // what changed since it was read ahead is as if it had been met now
                Some(read) if reader.is_as_planned(file) => read,
                _ => {
                    let read = reader.read_into(file, self.threads, &mut self.buffer)?;
                    self.ahead.learn(&files[at], read.memory_bytes());
                    read
                }
            };
            let input = plan.iter().position(|input| input.source == self.inputs[*source].name);
            reads[input.expect("the file is one of this plan's")].push(read);
        }
        Ok(reads)
    }

    /// The plan's files, in its order.
    fn files_of(&self, plan: &[SourceInput]) -> Result<Vec<Wanted>> {
        let mut files = Vec::new();
        for planned in plan {
            let source = self.position(&planned.source)?;
            let reader = &self.inputs[source].source;
            files.extend(planned.files.iter().map(|file| Wanted {
                source,
                reader: reader.clone(),
                file: file.clone(),
            }));
        }
        Ok(files)
    }

    /// The files that batches will take after this plan's, as far as it is known; with several sources they take turns,
    /// as batches do.
    fn files_after(&self, plan: &[SourceInput]) -> Vec<Wanted> {
        let later = |(source, input)| {
            let Input { backlog, name, source: reader, .. }: &Input = input;
            let planned = plan.iter().find(|planned| planned.source == *name).map_or(&[][..], |one| &one.files);
            let wanted = move |file: &PlannedFile| Wanted { source, reader: reader.clone(), file: file.clone() };
            backlog.after(planned).map(wanted)
        };
        let waiting = self.inputs.iter().enumerate().map(later).collect();
        in_turns(waiting, self.ahead.files_max())
    }

    /// Takes over that a batch was committed.
    pub fn committed(&mut self, plan: &[SourceInput]) {
        for planned in plan {
            let Some(input) = self.inputs.iter_mut().find(|input| input.name == planned.source) else { continue };
            input.offset = planned.end.or(input.offset);
            for file in &planned.files {
                input.seen.insert(file);
            }
            input.backlog.committed(&planned.files);
            input.cleaned.told();
            if let Some(receiving) = &input.receiving {
                receiving.committed(&planned.files);
            }
        }
    }

    pub fn find(&self, source: &str) -> Result<&Input> {
        self.position(source).map(|position| &self.inputs[position])
    }

    fn position(&self, source: &str) -> Result<usize> {
        self.inputs.iter().position(|input| input.name == source).ok_or_else(|| {
            Error::refused(format!("the checkpoint's plan reads source '{source}', which is not in this job"))
                .help("run the job that the checkpoint was made for")
        })
    }
}

/// One file of each source, then the next one of each, and so on, as batches take them.
fn in_turns(mut waiting: Vec<impl Iterator<Item = Wanted>>, turns_max: usize) -> Vec<Wanted> {
    let mut files = Vec::new();
    for _ in 0..turns_max {
        files.extend(waiting.iter_mut().filter_map(Iterator::next));
    }
    files
}

impl Input {
    fn next(&mut self, ignore_limits: bool, notice: &mut dyn FnMut(Notice)) -> Result<SourceInput> {
        let limits = if ignore_limits { self.limits.without_size() } else { self.limits };
        if !self.fixed && (self.latest_first || !self.backlog.fills(&limits)) {
            let next = self.look(notice)?;
            self.take_over(next, notice);
        }
        let files = self.backlog.next(&self.seen, &limits);
        Ok(planned(&self.name, self.offset, files))
    }

    /// What is there, as of now or as of the start.
    fn look(&mut self, notice: &mut dyn FnMut(Notice)) -> Result<Next> {
        match self.looked.take() {
            Some(looked) => looked,
            None => self.find_new(notice),
        }
    }

    /// Looks at what is there.
    fn find_new(&mut self, notice: &mut dyn FnMut(Notice)) -> Result<Next> {
        if self.is_received {
            return self.received(notice);
        }
        let watch = Stopwatch::start();
        let settling = Settling { now_ns: now_us().saturating_mul(1000), quiet: QUIET };
        let mut next =
            next_files(&self.source.list()?, &self.seen, &Limits { settling: Some(settling), ..self.limits });
        // that files go is what the job was told to do
        next.changed.retain(|changed| !self.cleans || changed.change != Change::Gone);
        self.look_took = watch.elapsed();
        Ok(next)
    }

    /// What a look found is what waits from now on.
    fn take_over(&mut self, next: Next, notice: &mut dyn FnMut(Notice)) {
        tell(&self.name, &next, notice);
        self.seen.note_reported(&next);
        self.settles_in = next.settles_in;
        self.backlog = Backlog::new(next.files);
    }

    /// Files that wait, as far as the last look told.
    pub fn waiting(&self) -> u64 {
        self.backlog.len() as u64
    }

    /// Their bytes, as they lie there.
    pub fn waiting_bytes(&self) -> u64 {
        self.backlog.size_bytes()
    }
}

/// Offsets count the batches that took at least one file, from 0.
fn planned(source: &str, start: Option<u64>, files: Vec<PlannedFile>) -> SourceInput {
    let end = if files.is_empty() { start } else { Some(start.map_or(0, |start| start + 1)) };
    SourceInput { source: source.to_owned(), start, end, files }
}

/// A path of the job file, absolute: relative ones are relative to the current directory, and the checkpoint keeps them
/// absolute, so that a resume from elsewhere reads and writes the same files.
///
/// # Errors
/// Of kind `Failed`, where there is no current directory.
pub(super) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Error::io("the path cannot be made absolute", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_count_batches_that_took_a_file() {
        use crate::model::InputPath;
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
