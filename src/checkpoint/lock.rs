//! One writer per checkpoint; readers of a stopped one keep it from being started under their feet.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Seek, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use super::layout::Layout;
use crate::model::{Error, Place, Result};

/// How often, and how long apart, a writer asks again while readers copy the log.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_millis(50);

/// How often a writer asks again while another one has the checkpoint: a process that was killed lets go a little later
/// than it dies.
const OWNED_TRIES: u32 = 10;

/// Held as long as the file is open; the operating system lets go of it when the process dies.
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the checkpoint for writing.
    ///
    /// # Errors
    /// Of kind `Refused` where another writer has it, naming its process.
    pub fn exclusive(layout: &Layout) -> Result<Lock> {
        let path = layout.lock();
        let fail = |error: &io::Error| Error::io("cannot lock the checkpoint", &path, error);
        for tried in 0..TRIES {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o644);
            let file = options.open(&path).map_err(|error| fail(&error))?;
            match file.try_lock() {
                // Locked, but is it still the file of that name?
                Ok(()) if same_file(&file, &path).map_err(|error| fail(&error))? => {
                    let mut lock = Lock { file };
                    lock.write_owner(&std::process::id().to_string()).map_err(|error| fail(&error))?;
                    return Ok(lock);
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => match file.try_lock_shared() {
                    Ok(()) => std::thread::sleep(PAUSE),
                    Err(TryLockError::WouldBlock) if tried < OWNED_TRIES => std::thread::sleep(PAUSE),
                    Err(TryLockError::WouldBlock) => return Err(owned(layout, &file)),
                    Err(TryLockError::Error(error)) => return Err(fail(&error)),
                },
                Err(TryLockError::Error(error)) => return Err(fail(&error)),
            }
        }
        Err(Error::refused("the checkpoint is being read by other processes")
            .at(Place::Path(layout.dir().to_owned()))
            .help("wait until they are done, then run again"))
    }

    /// Takes a stopped checkpoint for reading; `None`: it has a writer. Works in a folder that may not be written.
    pub fn shared(layout: &Layout) -> Result<Option<SharedLock>> {
        let path = layout.lock();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(SharedLock { _file: None })),
            Err(error) => return Err(Error::io("cannot lock the checkpoint", path, &error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(SharedLock { _file: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::io("cannot lock the checkpoint", path, &error)),
        }
    }

    fn write_owner(&mut self, owner: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(owner.as_bytes())
    }
}

/// A reader's hold on a stopped checkpoint.
pub(super) struct SharedLock {
    _file: Option<File>,
}

fn same_file(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(theirs) => Ok(ours.dev() == theirs.dev() && ours.ino() == theirs.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn owned(layout: &Layout, file: &File) -> Error {
    let mut pid = [0; 16];
    let read = file.read_at(&mut pid, 0).unwrap_or(0);
    let pid = String::from_utf8_lossy(&pid[..read]).into_owned();
    let owner = if pid.is_empty() { "another process".to_owned() } else { format!("process {pid}") };
    Error::refused(format!("the checkpoint is in use by {owner}"))
        .at(Place::Path(layout.dir().to_owned()))
        .because("two writers would destroy it")
        .help("stop that job first, or give this one a checkpoint of its own with --checkpoint DIR; reading needs no stop")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorKind;

    #[test]
    fn a_second_writer_is_refused_by_process_and_readers_share() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let writer = Lock::exclusive(&layout).unwrap();
        let error = Lock::exclusive(&layout).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        assert!(Lock::shared(&layout).unwrap().is_none());
        drop(writer);
        let first = Lock::shared(&layout).unwrap().unwrap();
        let second = Lock::shared(&layout).unwrap().unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| Lock::exclusive(&layout).map(drop));
            std::thread::sleep(PAUSE);
            drop((first, second));
            writer.join().unwrap().unwrap();
        });
    }
}
