//! How far the open segment is durable, noted beside it: what is cut off there was not torn by a crash.
//!
//! The note is written after each fsync of the segment, and not fsynced itself. After a power loss it may be an older one, or
//! gone; then a segment that was cut looks like one that was torn.

use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::FileExt,
    path::Path,
};

use super::{
    frame::{Damage, check, u64_at},
    scan::Scan,
};
use crate::model::{Error, Result};

const NAME: &str = "durable";
/// The length, and its check.
const NOTE_BYTES: usize = 16;

/// The note, open to be written.
pub(super) struct Note(File);

impl Note {
    /// # Errors
    /// Of kind `Failed`, where it cannot be opened.
    pub fn open(folder: &Path) -> Result<Note> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(NAME));
        file.map(Note).map_err(|error| cannot_write(folder, &error))
    }

    /// Notes that so many bytes of the segment with this secret are durable.
    ///
    /// # Errors
    /// Of kind `Failed`, where it cannot be written.
    pub fn write(&self, folder: &Path, secret: u64, length: u64) -> Result<()> {
        let length = length.to_be_bytes();
        let bytes = [length, check(secret, &length)].concat();
        self.0.write_all_at(&bytes, 0).map_err(|error| cannot_write(folder, &error))
    }
}

fn cannot_write(folder: &Path, error: &std::io::Error) -> Error {
    Error::io("cannot write how far a receive log is durable", folder.join(NAME), error)
}

/// Refuses a segment that is shorter than it was known to be durable.
pub(super) fn refuse_shorter(folder: &Path, scan: &Scan) -> Result<(), Damage> {
    let end = scan.end as u64;
    // without a note that fits there is nothing to compare with
    let note = match fs::read(folder.join(NAME)) {
        Ok(note) => note,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Damage::new(end, format!("how far it was durable cannot be read: {error}"))),
    };
    let Some((length, told)) = note.split_at_checked(NOTE_BYTES / 2) else { return Ok(()) };
    let durable = u64_at(length, 0);
    match told == check(scan.header.secret, length) && durable > end {
        true => Err(Damage::new(end, format!("{durable} bytes of it were durable"))),
        false => Ok(()),
    }
}
