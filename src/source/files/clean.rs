//! Clearing away a file that was read. Nothing depends on it: what cannot be cleared away stays.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use super::{FilesSource, read};
use crate::{
    job::CleanSource,
    model::{Error, PlannedFile, Result},
};

impl FilesSource {
    /// Deletes or archives a file, as the source's options say, if it is still the one that was read; whether it did.
    ///
    /// # Errors
    /// Of kind `Failed`, where the file is another one by now, or cannot be moved.
    pub fn clean(&self, file: &PlannedFile) -> Result<bool> {
        let Some(clean) = &self.0.options.clean_source else { return Ok(false) };
        let path = self.root().join(file.path.as_path());
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::io("a file that was read cannot be looked at", path, &error)),
            _ if read::is_as_planned(&path, file) => {}
            _ => return Err(Error::failed("it was changed after it was read").at(crate::model::Place::Path(path))),
        }
        let done = match clean {
            CleanSource::Delete => fs::remove_file(&path),
            CleanSource::Archive(dir) => archive(&path, &dir.join(file.path.as_path())),
        };
        done.map(|()| true).map_err(|error| Error::io("a file that was read cannot be cleared away", path, &error))
    }
}

/// Moves a file, never over another one.
fn archive(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        // a kill has left both names of it
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_same_file(from, to)? => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // no links, or another file system
        Err(_) => match fs::symlink_metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
            Err(error) => Err(error),
        },
    }
}

/// Whether these are two names of the same bytes.
fn is_same_file(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (fs::symlink_metadata(one)?, fs::symlink_metadata(other)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}
