//! The files source: a folder, a glob or one file, read in an order that the log can name.
//!
//! - Order: modification time, then path (`latest_first`: newest first, then path).
//! - Identity: the path relative to the root, or the file name with `file_name_only`. Size and modification time
//!   only detect change; what was committed is never read again.
//! - A folder is searched for files in it and in its `key=value` folders, deeper with `recursive`; a glob matches
//!   at its own depth. Names that begin with `.` or `_` or end in `.tmp` are ignored.
//! - Links, pipes, sockets and devices are never opened; each is reported as skipped.

mod backlog;
mod clean;
mod listing;
mod next;
mod partitions;
mod place;
mod read;
mod whole;

use std::{path::Path, sync::Arc};

pub(super) use self::listing::{ignored_name, planned_file};
pub use self::{
    backlog::Backlog,
    listing::{Listing, Skipped},
    next::{Change, Changed, Limits, Next, Seen, Settling, next_files},
    read::ReadFile,
};
use self::{partitions::Partitions, place::Place};
use super::{Watch, received};
use crate::{
    format::Reader,
    job::{FilesOptions, Mode, SourceSpec},
    model::{PlannedFile, Result},
};

/// One `files` source of a job: lists, and reads what was planned. Clones are the same source, for another thread.
#[derive(Debug, Clone)]
pub struct FilesSource(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    place: Place,
    options: FilesOptions,
    reader: Reader,
    mode: Mode,
    partitions: Partitions,
    /// The name of a source whose files are segments of a receive log.
    received: Option<String>,
}

impl FilesSource {
    /// Finds the input. `options.path` may be relative to the current directory, or absolute as the checkpoint
    /// keeps it. `projection`: indexes of the columns to produce, ascending.
    ///
    /// # Errors
    /// Of kind `Usage`, naming the path: it is missing, neither a folder nor a file, or not a valid pattern.
    pub fn open(spec: &SourceSpec, projection: Vec<usize>) -> Result<FilesSource> {
        let place = match received::folder(spec) {
            // it is made when something is received first
            Some(folder) => Place::folder(folder),
            None => Place::open(&spec.files.path)?,
        };
        let records = &spec.format.records;
        let no_partitions = place.is_glob() || spec.received.is_some();
        let partitions = Partitions::new(spec.schema(), records, &projection, no_partitions);
        Ok(FilesSource(Arc::new(Parts {
            place,
            options: spec.files.clone(),
            reader: Reader::new(spec.schema(), projection, &spec.format)?,
            mode: records.mode,
            partitions,
            received: spec.received.as_ref().map(|_| spec.name.clone()),
        })))
    }

    /// The absolute folder that identities are relative to: of a glob the longest folder without a pattern, of a
    /// file the one it is in.
    pub fn root(&self) -> &Path {
        self.0.place.root()
    }

    /// What is there now, in reading order.
    ///
    /// # Errors
    /// A folder that cannot be listed. One that vanishes meanwhile is none.
    pub fn list(&self) -> Result<Listing> {
        match self.0.received {
            Some(_) => received::list(self.root()),
            None => Listing::of(&self.0.place, &self.0.options),
        }
    }

    /// Reads and decodes one planned file with up to `threads` threads.
    ///
    /// # Errors
    /// Of kind `Moved` where it is gone, was replaced since it was planned or changed while it was read; of kind
    /// `Data` in `failfast` mode where it holds a bad record or is damaged; of kind `Refused` for a damaged segment.
    pub fn read(&self, file: &PlannedFile, threads: usize) -> Result<ReadFile> {
        self.read_into(file, threads, &mut Vec::new())
    }

    /// As [`FilesSource::read`]; `buffer`, whatever is in it, saves making one for each file.
    ///
    /// # Errors
    /// As [`FilesSource::read`].
    pub fn read_into(&self, file: &PlannedFile, threads: usize, buffer: &mut Vec<u8>) -> Result<ReadFile> {
        let read = read::read(&self.0, file, threads, buffer);
        match self.0.received {
            Some(_) => read.map_err(received::in_segment),
            None => read,
        }
    }

    /// How many bytes of content the file holds, roughly.
    pub fn content_bytes_about(&self, file: &PlannedFile) -> u64 {
        read::content_bytes_about(file)
    }

    /// Whether the file is there with the size and time that were planned; what it holds, only reading tells.
    pub fn is_as_planned(&self, file: &PlannedFile) -> bool {
        let path = self.root().join(file.path.as_path());
        read::is_as_planned(&path, &self.0.as_it_matters(&path, file))
    }

    /// Watches the root for changes.
    pub fn watch(&self) -> Watch {
        Watch::new(self.root(), self.0.place.is_deep() || self.0.options.recursive)
    }
}

#[cfg(test)]
mod tests;
