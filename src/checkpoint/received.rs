//! Receive logs lie in the checkpoint, and others write them; a fork takes along what it may have to read.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use super::{disk, layout::Layout};
use crate::{
    job::FORKED,
    model::{Error, Result},
};

/// Closed segments never change. One that is still open belongs to the job that writes it.
const CLOSED: &str = ".frames";

/// Gives a new checkpoint all closed segments of another one; durable once its folder is.
///
/// # Errors
/// Of kind `Failed`, naming what cannot be copied.
pub(super) fn take_along(from: &Layout, to: &Layout) -> Result<()> {
    // what begins with a dot is not in place yet
    for source in disk::list(&from.received())?.iter().filter(|path| !disk::name_of(path).starts_with('.')) {
        let folder = to.received().join(disk::name_of(source));
        disk::make_folder(&folder)?;
        disk::write_file(&folder.join(FORKED), b"")?;
        // retention removes the oldest first: behind one that is gone there is none, and so no hole
        for segment in disk::list(source)?.iter().rev().filter(|path| disk::name_of(path).ends_with(CLOSED)) {
            let copy = folder.join(disk::name_of(segment));
            match duplicate(segment, &copy) {
                // the job that is forked runs, and retention has removed it meanwhile
                Err(error) if error.kind() == io::ErrorKind::NotFound && !segment.exists() => {}
                done => {
                    done.map_err(|error| Error::io("cannot give the fork a segment of a receive log", copy, &error))?
                }
            }
        }
    }
    Ok(())
}

/// A second name for the same bytes; a copy with the same time, where the file system has no such thing.
fn duplicate(from: &Path, to: &Path) -> io::Result<()> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)?;
    let modified = fs::metadata(from)?.modified()?;
    File::options().write(true).open(to)?.set_modified(modified)
}
