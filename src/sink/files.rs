//! The files sink: exactly once for any reader of its folder.
//!
//! A batch is written to a dot-named folder inside the sink's folder, fsynced, and after the commit renamed into
//! sight. Append and update publish one file per batch, `<sink>-<batch>.json`, also when it has no rows; complete
//! keeps one, `<sink>.json`, replaced atomically. Names and bytes are a function of the plan, so every step can be
//! done again. `.highwater-<sink>.json` says which checkpoint the files belong to.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Before, Columns, Guarantee, Output, Sink,
    durable::{create_folder, list, move_file, read_file, remove_file, sync_folder, write_file},
    rows,
};
use crate::{
    checkpoint::CommitPermit,
    job::RowFormat,
    model::{BatchId, Error, OutputMode, Place, Result, StagedOutput},
};

/// A sink that publishes files into a folder.
#[derive(Debug)]
pub struct FilesSink {
    name: String,
    folder: PathBuf,
    format: RowFormat,
    mode: OutputMode,
}

/// What `.highwater-<sink>.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    checkpoint: String,
}

/// What a file name of this sink stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Published {
    /// The newest result (complete).
    Newest,
    /// One batch's rows.
    Batch(BatchId),
}

impl FilesSink {
    /// Touches nothing yet; `folder` may be missing.
    pub fn new(name: &str, folder: &Path, format: RowFormat, mode: OutputMode) -> FilesSink {
        FilesSink { name: name.to_owned(), folder: folder.to_owned(), format, mode }
    }

    fn staging(&self) -> PathBuf {
        self.folder.join(format!(".highwater-staging-{}", self.name))
    }

    fn marker(&self) -> PathBuf {
        self.folder.join(format!(".highwater-{}.json", self.name))
    }

    fn extension(&self) -> &'static str {
        self.format.name()
    }

    /// The name under which a batch is published.
    fn published_name(&self, batch: BatchId, mode: OutputMode) -> String {
        match mode {
            OutputMode::Complete => format!("{}.{}", self.name, self.extension()),
            OutputMode::Append | OutputMode::Update => format!("{}-{:08}.{}", self.name, batch.0, self.extension()),
        }
    }

    /// What a name in the folder stands for, if this sink could have published it, in any format.
    fn parse_name(&self, name: &str) -> Option<Published> {
        let (stem, extension) = name.rsplit_once('.')?;
        RowFormat::ALL.iter().find(|format| format.name() == extension)?;
        let rest = stem.strip_prefix(&self.name)?;
        if rest.is_empty() {
            return Some(Published::Newest);
        }
        let digits = rest.strip_prefix('-')?;
        let batch: u64 = digits.parse().ok()?;
        (digits == format!("{batch:08}")).then_some(Published::Batch(BatchId(batch)))
    }

    /// All names in the folder that this sink could have published.
    fn published_files(&self) -> Result<Vec<(String, Published)>> {
        let names = list(&self.folder)?;
        Ok(names.into_iter().filter_map(|name| self.parse_name(&name).map(|published| (name, published))).collect())
    }

    /// The names of files of single batches in the folder.
    pub(super) fn of_batches(&self) -> Result<Vec<(String, BatchId)>> {
        let of_batch = |(name, published)| match published {
            Published::Batch(batch) => Some((name, batch)),
            Published::Newest => None,
        };
        Ok(self.published_files()?.into_iter().filter_map(of_batch).collect())
    }

    fn stage_bytes(&self, name: &str, bytes: &[u8]) -> Result<()> {
        create_folder(&self.staging())?;
        write_file(&self.staging().join(name), bytes)
    }

    /// Whether a file is there and is what was staged.
    fn holds(path: &Path, staged: &StagedOutput) -> Result<bool> {
        Ok(read_file(path)?.is_some_and(|bytes| *blake3::hash(&bytes).as_bytes() == staged.hash))
    }

    /// The checkpoint that owns this sink's files; `None`: nobody yet.
    fn owner(&self) -> Result<Option<String>> {
        let Some(bytes) = read_file(&self.marker())? else { return Ok(None) };
        match serde_json::from_slice::<Owner>(&bytes) {
            Ok(owner) => Ok(Some(owner.checkpoint)),
            Err(error) => Err(Error::refused(format!("it is unknown whose files '{}' would add to", self.name))
                .at(Place::Path(self.marker()))
                .because(format!("the file that says so is damaged: {error}"))
                .help("if no other job writes here, remove it together with this sink's files")),
        }
    }

    /// Takes the folder for a checkpoint, unless it is taken.
    fn claim(&self, checkpoint_id: &str) -> Result<()> {
        self.check_no_strangers()?;
        let cannot = |error: &io::Error| Error::io("the sink's folder cannot be claimed", self.marker(), error);
        let owner = Owner { checkpoint: checkpoint_id.to_owned() };
        let text = serde_json::to_vec(&owner).map_err(|error| cannot(&error.into()))?;
        let permissions = Permissions::from_mode(0o644);
        let file = tempfile::Builder::new().permissions(permissions).tempfile_in(self.staging());
        let mut file = file.map_err(|error| cannot(&error))?;
        io::Write::write_all(&mut file, &text).map_err(|error| cannot(&error))?;
        file.as_file().sync_all().map_err(|error| cannot(&error))?;
        match file.persist_noclobber(self.marker()) {
            Ok(_) => sync_folder(&self.folder),
            // somebody else claimed it in this moment
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                self.check_owner(checkpoint_id, self.owner()?.as_deref().unwrap_or("unknown"))
            }
            Err(error) => Err(cannot(&error.error)),
        }
    }

    fn check_owner(&self, checkpoint_id: &str, owner: &str) -> Result<()> {
        if owner == checkpoint_id {
            return Ok(());
        }
        Err(self.owned_by(owner, &format!("this one is {checkpoint_id}")))
    }

    fn owned_by(&self, owner: &str, we: &str) -> Error {
        Error::refused(format!("the files of '{}' belong to another checkpoint", self.name))
            .at(Place::Path(self.folder.clone()))
            .because(format!("checkpoint {owner} writes here, {we}"))
            .help(self.ways_out())
    }

    /// Files under this sink's names that no checkpoint owns.
    fn check_no_strangers(&self) -> Result<()> {
        match self.published_files()?.first() {
            None => Ok(()),
            Some((name, _)) => Err(Error::refused(format!("'{}' would add to files that are not its own", self.name))
                .at(Place::Path(self.folder.join(name)))
                .because("no checkpoint owns them, and a reader could not tell them apart")
                .help(self.ways_out())),
        }
    }

    fn not_the_place_before(&self) -> Error {
        Error::refused(format!("'{}' has published to another folder than this one", self.name))
            .at(Place::Path(self.folder.clone()))
            .because("nothing that this checkpoint published is here, and a reader of either folder would see a part only")
            .help(
                "set the path back, or move the whole folder (its dot files too) to the new place; to publish elsewhere \
                 from some batch on, `highwater fork` with --set; if the output was removed for good, \
                 `highwater rewind --to start` and run again",
            )
    }

    fn ways_out(&self) -> String {
        let batches = if self.mode == OutputMode::Complete { "" } else { "-*" };
        format!(
            "give the sink another path; or, if those files are no longer needed, remove {name}{batches}.{} and \
             .highwater-{name}.json",
            self.extension(),
            name = self.name
        )
    }

    /// Publishes a result anew: the rows are at hand, nothing has to be staged before.
    fn replace(&self, output: &Output<'_>) -> Result<()> {
        let name = self.published_name(output.batch, output.mode);
        self.stage_bytes(&name, &rows::to_bytes(self.format, output.schema, output.rows)?)?;
        move_file(&self.staging().join(&name), &self.folder.join(&name))
    }
}

impl Sink for FilesSink {
    fn description(&self) -> String {
        format!("files[{}, {}]", self.folder.display(), self.extension())
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn stages_outside(&self) -> bool {
        true
    }

    fn accepts(&self, columns: &Columns<'_>) -> Result<()> {
        rows::check(self.format, columns.schema)
    }

    fn check_free(&self) -> Result<()> {
        match self.owner()? {
            Some(owner) => Err(self.owned_by(&owner, "this one is still to be made")),
            None => self.check_no_strangers(),
        }
    }

    fn open(&mut self, checkpoint_id: &str, before: &Before, _columns: &Columns<'_>) -> Result<()> {
        let owner = self.owner()?;
        if before.resumes && owner.is_none() {
            return Err(self.not_the_place_before());
        }
        create_folder(&self.folder)?;
        // a file without a name: it tells whether the folder can be written and is never seen
        tempfile::tempfile_in(&self.folder).map_err(|error| {
            Error::io(format!("'{}' cannot write into its folder", self.name), &self.folder, &error)
        })?;
        if let Some(owner) = owner {
            self.check_owner(checkpoint_id, &owner)?;
            return create_folder(&self.staging());
        }
        create_folder(&self.staging())?;
        self.claim(checkpoint_id)
    }

    fn stage(&mut self, output: &Output<'_>) -> Result<StagedOutput> {
        let bytes = rows::to_bytes(self.format, output.schema, output.rows)?;
        let name = self.published_name(output.batch, output.mode);
        self.stage_bytes(&name, &bytes)?;
        Ok(StagedOutput {
            sink: self.name.clone(),
            name,
            rows: output.row_count(),
            size_bytes: bytes.len() as u64,
            hash: *blake3::hash(&bytes).as_bytes(),
        })
    }

    fn publish(&mut self, _permit: &CommitPermit, staged: &StagedOutput, output: &Output<'_>) -> Result<()> {
        if self.parse_name(&staged.name).is_none() {
            return Err(Error::refused(format!("'{}' is no file of the sink '{}'", staged.name, self.name))
                .at(Place::Batch(output.batch))
                .because("the checkpoint names a file that this sink cannot have staged"));
        }
        let (from, to) = (self.staging().join(&staged.name), self.folder.join(&staged.name));
        if !Self::holds(&from, staged)? {
            if Self::holds(&to, staged)? {
                // the rename may have been seen, and yet not have been durable
                return sync_folder(&self.folder);
            }
            let bytes = rows::to_bytes(self.format, output.schema, output.rows)?;
            if *blake3::hash(&bytes).as_bytes() != staged.hash {
                return Err(Error::refused(format!("'{}' would publish other rows than were committed", self.name))
                    .at(Place::Batch(output.batch))
                    .because(match output.row_count() == staged.rows {
                        true => "what was staged is lost, and computing it again gave another result",
                        false => "what was staged is lost, and these rows are not computed again",
                    })
                    .help("put the staged file back, restore the input as it was, or rewind to the batch before"));
            }
            self.stage_bytes(&staged.name, &bytes)?;
        }
        move_file(&from, &to)
    }

    fn abort(&mut self) -> Result<()> {
        let staging = self.staging();
        let names = list(&staging)?;
        for name in &names {
            remove_file(&staging.join(name))?;
        }
        if names.is_empty() { Ok(()) } else { sync_folder(&staging) }
    }

    fn retract(&mut self, _permit: &CommitPermit, keep: Option<BatchId>, latest: Option<&Output<'_>>) -> Result<()> {
        let is_after = |batch: BatchId| keep.is_none_or(|keep| batch > keep);
        // newest first, so that a reader never finds a gap
        for (name, published) in self.published_files()?.iter().rev() {
            let stands = match published {
                Published::Batch(batch) => !is_after(*batch),
                Published::Newest => self.mode != OutputMode::Complete || latest.is_some(),
            };
            if !stands {
                remove_file(&self.folder.join(name))?;
            }
        }
        sync_folder(&self.folder)?;
        match latest {
            Some(output) if self.mode == OutputMode::Complete => self.replace(output),
            _ => Ok(()),
        }
    }

    fn verify(&self, published: &[(BatchId, StagedOutput)]) -> Result<Vec<String>> {
        let mut findings = Vec::new();
        for (at, (batch, staged)) in published.iter().enumerate() {
            let replaced = published[at + 1..].iter().any(|(_, later)| later.name == staged.name);
            if staged.name.is_empty() || replaced {
                continue;
            }
            let path = self.folder.join(&staged.name);
            match read_file(&path)? {
                None => findings.push(format!("{}, published by batch {batch}, is missing", path.display())),
                Some(bytes) if *blake3::hash(&bytes).as_bytes() != staged.hash => {
                    findings.push(format!("{} is not what batch {batch} published", path.display()));
                }
                Some(_) => {}
            }
        }
        let newest = published.last().map(|(batch, _)| *batch);
        for (name, kind) in self.published_files()? {
            let known = published.iter().any(|(_, staged)| staged.name == name);
            let stray = match kind {
                Published::Batch(batch) => newest.is_none_or(|newest| batch > newest),
                Published::Newest => true,
            };
            if stray && !known {
                findings.push(format!("{} was published by no committed batch", self.folder.join(name).display()));
            }
        }
        Ok(findings)
    }

    fn read_back(&self, published: &[(BatchId, StagedOutput)]) -> Result<Vec<Vec<u8>>> {
        let mut all = Vec::with_capacity(published.len());
        for (batch, staged) in published {
            if !matches!(self.parse_name(&staged.name), Some(Published::Batch(_))) {
                return Err(Error::usage(format!("batch {batch} cannot be read back from '{}'", self.name))
                    .because("in complete mode its folder keeps the newest result only")
                    .help("read the result from the checkpoint"));
            }
            let path = self.folder.join(&staged.name);
            let Some(bytes) = read_file(&path)?.filter(|bytes| *blake3::hash(bytes).as_bytes() == staged.hash) else {
                return Err(Error::failed(format!("what batch {batch} published is gone or was changed"))
                    .at(Place::Path(path))
                    .help("put the file back; highwater verify names all that differ"));
            };
            all.push(bytes);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests;
