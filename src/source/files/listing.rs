//! What is in a source's place, in reading order.

use std::{
    cmp::Reverse,
    collections::HashMap,
    ffi::OsStr,
    fs::{FileType, Metadata},
    io::ErrorKind,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::place::{Part, Place, Search};
use crate::{
    job::FilesOptions,
    model::{Error, InputPath, PlannedFile, Result},
};

/// What a source's place holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// In reading order.
    pub files: Vec<PlannedFile>,
    /// By path.
    pub skipped: Vec<Skipped>,
}

/// Something that is not read, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Relative to the source's root.
    pub path: InputPath,
    pub reason: String,
}

/// Whether a file or folder of this name is as if it were not there: one that is being written, or a marker.
pub(in crate::source) fn ignored_name(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") || name.starts_with(b"_") || name.ends_with(b".tmp")
}

/// When a file was last modified: nanoseconds since the Unix epoch.
pub(super) fn modified_ns(metadata: &Metadata) -> i64 {
    metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())
}

/// A file as a batch plans it.
pub(in crate::source) fn planned_file(path: &Path, metadata: &Metadata) -> PlannedFile {
    let path = InputPath::new(path);
    PlannedFile { identity: path.clone(), path, size_bytes: metadata.len(), modified_ns: modified_ns(metadata) }
}

impl Listing {
    pub(super) fn of(place: &Place, options: &FilesOptions) -> Result<Listing> {
        let mut walk = Walk { root: place.root(), listing: Listing::default() };
        match place.search() {
            Search::File(name) => walk.file(Path::new(name))?,
            Search::Folder => walk.folders(&[], Deeper::new(options.recursive, true))?,
            Search::Glob(parts) => walk.folders(parts, Deeper::new(options.recursive, false))?,
        }
        let mut listing = walk.listing;
        if options.latest_first {
            listing.files.sort_by(|a, b| (Reverse(a.modified_ns), &a.path).cmp(&(Reverse(b.modified_ns), &b.path)));
        } else {
            listing.files.sort_by(|a, b| (a.modified_ns, &a.path).cmp(&(b.modified_ns, &b.path)));
        }
        if options.file_name_only {
            listing.identify_by_name();
        }
        listing.skipped.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listing)
    }

    /// Of several files of one name the first in order counts.
    fn identify_by_name(&mut self) {
        let mut first: HashMap<InputPath, InputPath> = HashMap::new();
        let skipped = &mut self.skipped;
        self.files.retain_mut(|file| {
            let name = file.path.as_path().file_name().map_or(&b""[..], |name| name.as_encoded_bytes());
            file.identity = InputPath(name.to_vec());
            match first.get(&file.identity) {
                Some(other) => {
                    let reason = format!("it has the name of '{other}', and file_name_only is set");
                    skipped.push(Skipped { path: file.path.clone(), reason });
                    false
                }
                None => {
                    first.insert(file.identity.clone(), file.path.clone());
                    true
                }
            }
        });
    }
}

/// Which folders are entered beside those that a pattern leads to.
#[derive(Debug, Clone, Copy)]
struct Deeper {
    all: bool,
    key_value: bool,
}

impl Deeper {
    fn new(all: bool, key_value: bool) -> Deeper {
        Deeper { all, key_value }
    }

    fn enters(self, folder: &OsStr) -> bool {
        self.all || self.key_value && super::partitions::key_value(folder).is_some()
    }
}

/// How far a folder has come in the pattern: indexes of the parts that its entries may match. Empty: it is past
/// the pattern, every file counts.
type Open = Vec<usize>;

struct Walk<'a> {
    root: &'a Path,
    listing: Listing,
}

impl Walk<'_> {
    fn folders(&mut self, parts: &[Part], deeper: Deeper) -> Result<()> {
        let start: Open = if parts.is_empty() { Vec::new() } else { vec![0] };
        let mut open = vec![(PathBuf::new(), start)];
        while let Some((folder, at)) = open.pop() {
            let full = self.root.join(&folder);
            let entries = match std::fs::read_dir(&full) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound && folder != Path::new("") => continue,
                Err(error) => return Err(Error::io("cannot list an input folder", full, &error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| Error::io("cannot list an input folder", &full, &error))?;
                let name = entry.file_name();
                if ignored_name(&name) {
                    continue;
                }
                let matched = step(parts, &at, &name);
                let path = folder.join(&name);
                let is_folder = match entry.file_type() {
                    Ok(file_type) => file_type.is_dir(),
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(Error::io("cannot look at an input file", full.join(&name), &error)),
                };
                if !is_folder {
                    if matched.whole {
                        self.file(&path)?;
                    }
                } else if matched.whole && deeper.enters(&name) {
                    open.push((path, Vec::new()));
                } else if !matched.next.is_empty() {
                    open.push((path, matched.next));
                }
            }
        }
        Ok(())
    }

    /// Takes the file at `path`, or reports why not; one that is gone by now never was.
    fn file(&mut self, path: &Path) -> Result<()> {
        let full = self.root.join(path);
        let metadata = match std::fs::symlink_metadata(&full) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("cannot look at an input file", full, &error)),
        };
        if metadata.is_file() {
            self.listing.files.push(planned_file(path, &metadata));
        } else {
            let path = InputPath::new(path);
            let reason = format!("{} is never opened as input", kind(metadata.file_type()));
            self.listing.skipped.push(Skipped { path, reason });
        }
        Ok(())
    }
}

/// What a name is to a pattern.
struct Step {
    /// It completes the pattern.
    whole: bool,
    /// Where a folder of this name goes on; empty: nowhere.
    next: Open,
}

fn step(parts: &[Part], at: &[usize], name: &OsStr) -> Step {
    if at.is_empty() {
        return Step { whole: true, next: Vec::new() };
    }
    let mut step = Step { whole: false, next: Vec::new() };
    let last = parts.len() - 1;
    let mut at = at.to_vec();
    let mut index = 0;
    while let Some(&part) = at.get(index) {
        index += 1;
        match &parts[part] {
            Part::AnyDepth => {
                step.whole |= part == last;
                add(&mut step.next, part);
                if part < last {
                    add(&mut at, part + 1);
                }
            }
            Part::Name(pattern) if pattern.matches(&name.to_string_lossy()) => {
                if part == last {
                    step.whole = true;
                } else {
                    add(&mut step.next, part + 1);
                }
            }
            Part::Name(_) => {}
        }
    }
    step
}

fn add(open: &mut Open, part: usize) {
    if !open.contains(&part) {
        open.push(part);
    }
}

/// What is not a regular file, for people.
pub(super) fn kind(file_type: FileType) -> &'static str {
    match file_type {
        _ if file_type.is_symlink() => "a symbolic link",
        _ if file_type.is_dir() => "a folder",
        _ if file_type.is_fifo() => "a named pipe",
        _ if file_type.is_socket() => "a socket",
        _ if file_type.is_block_device() || file_type.is_char_device() => "a device",
        _ => "what is not a regular file",
    }
}
