//! Files made durable: every write that the log relies on goes through here, its fsync included.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use crate::model::{Error, Result};

/// Suffix of everything that is not in place yet; removed at open.
pub(super) const TEMPORARY: &str = ".tmp";

/// Writes a whole file and fsyncs it (not its folder).
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |error: io::Error| Error::io("cannot write a file of the checkpoint", path, &error);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.sync_all().map_err(fail)
}

/// Reads a whole file.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| cannot_read(path, &error))
}

/// Reads a whole file; `None` where there is none.
pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot_read(path, &error)),
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Error::io("cannot make a folder of the checkpoint durable", path, &error))
}

/// Makes every file below a folder durable, then the folders.
pub(super) fn sync_tree(path: &Path) -> Result<()> {
    for entry in list(path)? {
        if entry.is_dir() {
            sync_tree(&entry)?;
        } else {
            File::open(&entry)
                .and_then(|file| file.sync_all())
                .map_err(|error| Error::io("cannot make a file of the checkpoint durable", &entry, &error))?;
        }
    }
    sync_folder(path)
}

/// Renames, and makes the new name durable.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| Error::io("cannot put a file of the checkpoint in place", to, &error))?;
    match to.parent() {
        Some(folder) => sync_folder(folder),
        None => Ok(()),
    }
}

/// Makes a folder and what is missing above it, their names durable; nothing happens where it is there.
pub(super) fn make_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folder(above)?;
    match fs::create_dir(path) {
        // another process was quicker: its name may not be durable yet
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => sync_folder(above),
        Err(error) => Err(Error::io("cannot make a folder of the checkpoint", path, &error)),
        Ok(()) => sync_folder(above),
    }
}

/// Everything in a folder, sorted by name; empty where there is no such folder.
pub(super) fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let fail = |error: &io::Error| Error::io("cannot list a folder of the checkpoint", path, error);
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(&error)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| fail(&error))?;
    paths.sort();
    Ok(paths)
}

/// Removes a file, or a folder with all that is in it; nothing happens where it is gone already.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("cannot remove what the checkpoint no longer needs", path, &error))
        }
        _ => Ok(()),
    }
}

/// Copies one file, holes included, and fsyncs the copy.
pub(super) fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let fail = |path: &Path, error: &io::Error| Error::io("cannot copy the live log", path, error);
    let mut source = File::open(from).map_err(|error| fail(from, &error))?;
    let mut target = File::create(to).map_err(|error| fail(to, &error))?;
    let mut chunk = vec![0; 256 << 10];
    let mut length = 0;
    loop {
        let count = source.read(&mut chunk).map_err(|error| fail(from, &error))?;
        if count == 0 {
            break;
        }
        use std::os::unix::fs::FileExt;
        // sled writes its file in large segments that are mostly zeros at first: a hole costs nothing.
        if chunk[..count].iter().any(|byte| *byte != 0) {
            target.write_all_at(&chunk[..count], length).map_err(|error| fail(to, &error))?;
        }
        length += count as u64;
    }
    target.set_len(length).map_err(|error| fail(to, &error))?;
    target.flush().map_err(|error| fail(to, &error))?;
    target.sync_all().map_err(|error| fail(to, &error))
}

/// The last component of a path, as text.
pub(super) fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The length of a file in bytes; `None` where there is none.
pub(super) fn length_of(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot_read(path, &error)),
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> Error {
    Error::io("cannot read a file of the checkpoint", path, error)
}
