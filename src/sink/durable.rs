//! File operations that are on disk when they return.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::model::{Error, Place, Result};

/// Makes a folder and what is missing above it.
pub(super) fn create_folder(folder: &Path) -> Result<()> {
    let exists = folder.as_os_str().is_empty() || folder.is_dir();
    if exists {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new(""));
    create_folder(parent)?;
    match fs::create_dir(folder) {
        Ok(()) => sync_folder(parent),
        // another sink of the job, or another process, was quicker
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(Error::io("a folder cannot be made", folder, &error)),
    }
}

/// Makes what was created, renamed or removed in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let synced = File::open(folder).and_then(|file| file.sync_all());
    synced.map_err(|error| Error::io("a folder cannot be fsynced", folder, &error))
}

/// Writes a whole file, in place of one that is there. Its folder is fsynced too.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| Error::io("a file cannot be written", path, &error))?;
    sync_folder(path.parent().unwrap_or(Path::new("")))
}

/// Moves a file to another folder, in place of one that is there.
pub(super) fn move_file(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| Error::io("a file cannot be published", to, &error))?;
    for path in [to, from] {
        sync_folder(path.parent().unwrap_or(Path::new("")))?;
    }
    Ok(())
}

/// Removes a file that may be gone already. The caller fsyncs the folder.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("a file cannot be removed", path, &error))
        }
        _ => Ok(()),
    }
}

/// A file's bytes, `None` if there is no such file. What is no regular file is an error, and is not waited for.
pub(super) fn read_file(path: &Path) -> Result<Option<Vec<u8>>> {
    let cannot = |error: io::Error| Error::io("a file cannot be read", path, &error);
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(error)),
    };
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(Error::failed("this is not a regular file").at(Place::Path(path.to_owned())).help("move it away"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(cannot)?;
    Ok(Some(bytes))
}

/// Names in a folder that are UTF-8, sorted; none if there is no such folder.
pub(super) fn list(folder: &Path) -> Result<Vec<String>> {
    let cannot = |error: io::Error| Error::io("a folder cannot be listed", folder, &error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        // names that are not UTF-8 are none of ours
        names.extend(entry.map_err(cannot)?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}
