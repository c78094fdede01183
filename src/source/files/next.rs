//! What is new: a pure function of what is there and what was committed.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::listing::{Listing, Skipped};
use crate::{
    job::FilesOptions,
    model::{InputPath, PlannedFile},
    source::received::closed_number,
};

/// What was committed of a source, and what was said about it already.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    committed: HashMap<InputPath, Stamp>,
    reported: HashSet<InputPath>,
    /// Of a receive log the number of the newest segment says all, since they are taken in turn; `None`: of files.
    newest: Option<Segments>,
}

/// Segments that were committed, up to this one.
#[derive(Debug, Clone, Copy, Default)]
struct Segments(Option<u64>);

/// Size and modification time: they only tell that a file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size_bytes: u64,
    modified_ns: i64,
}

impl Stamp {
    fn of(file: &PlannedFile) -> Stamp {
        Stamp { size_bytes: file.size_bytes, modified_ns: file.modified_ns }
    }
}

impl Seen {
    /// Of a receive log, of which nothing was committed.
    pub fn of_segments() -> Seen {
        Seen { newest: Some(Segments::default()), ..Seen::default() }
    }

    /// Notes a file that a batch took; it is never taken again.
    pub fn insert(&mut self, file: &PlannedFile) {
        match &mut self.newest {
            Some(Segments(newest)) => *newest = (*newest).max(closed_number(file.identity.as_path())),
            None => drop(self.committed.insert(file.identity.clone(), Stamp::of(file))),
        }
    }

    /// The number of the newest segment of a receive log that was committed; `None`: there is none.
    pub fn newest_segment(&self) -> Option<u64> {
        self.newest.and_then(|Segments(newest)| newest)
    }

    /// Whether a file of this identity was committed.
    pub fn contains(&self, identity: &InputPath) -> bool {
        match self.newest {
            Some(Segments(newest)) => closed_number(identity.as_path()).is_some_and(|number| Some(number) <= newest),
            None => self.committed.contains_key(identity),
        }
    }

    /// Whether any of the files that were committed is listed as it was.
    pub fn holds_any(&self, listing: &Listing) -> bool {
        listing.files.iter().any(|file| self.committed.get(&file.identity) == Some(&Stamp::of(file)))
    }

    /// How many files were committed.
    pub fn len(&self) -> usize {
        self.committed.len()
    }

    pub fn is_empty(&self) -> bool {
        self.committed.is_empty()
    }

    /// Notes that what `next` tells of changes and skips was reported, so that it is not told again.
    pub fn note_reported(&mut self, next: &Next) {
        self.reported.extend(next.changed.iter().map(|changed| changed.identity.clone()));
        self.reported.extend(next.skipped.iter().map(|skipped| skipped.path.clone()));
    }
}

/// How much one batch takes, and what counts as new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// At most this many files.
    pub files_max: Option<u64>,
    /// At most this many bytes on disk, but at least one file.
    pub bytes_max: Option<u64>,
    /// Files older than the newest one by more than this are skipped.
    pub age_max: Option<Duration>,
    /// Files that may still be being written wait; `None`: all count as whole.
    pub settling: Option<Settling>,
}

/// When a file counts as whole. Files ought to be placed under their names when they are whole; where one is copied
/// into the folder instead, its beginning must not be taken for all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settling {
    /// Nanoseconds since the Unix epoch.
    pub now_ns: i64,
    /// How long a file must have been left alone.
    pub quiet: Duration,
}

impl Settling {
    /// How long a file last modified at `modified_ns` has to wait; `None`: it is settled. One from the far future has a
    /// time that says nothing, and waits for nothing.
    fn left(&self, modified_ns: i64) -> Option<Duration> {
        let quiet_ns = i64::try_from(self.quiet.as_nanos()).unwrap_or(i64::MAX);
        let age_ns = self.now_ns.saturating_sub(modified_ns);
        let left_ns = quiet_ns.saturating_sub(age_ns);
        (left_ns > 0 && age_ns > -quiet_ns).then(|| Duration::from_nanos(left_ns.unsigned_abs()))
    }
}

impl Limits {
    /// Those of the source's options.
    pub fn of(options: &FilesOptions) -> Limits {
        Limits {
            files_max: options.max_files_per_trigger.map(|files| files.get()),
            bytes_max: options.max_bytes_per_trigger.map(|bytes| bytes.get()),
            age_max: options.max_file_age,
            settling: None,
        }
    }

    /// Everything that is there in one batch (`--once`); age still counts.
    #[must_use]
    pub fn without_size(self) -> Limits {
        Limits { files_max: None, bytes_max: None, ..self }
    }
}

/// What waits, and what has to be reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Next {
    /// Everything new, in reading order.
    pub files: Vec<PlannedFile>,
    /// Committed files that are no longer what was read, not reported before.
    pub changed: Vec<Changed>,
    /// What is not read, not reported before.
    pub skipped: Vec<Skipped>,
    /// New files that may still be being written, in reading order ...
    pub unsettled: Vec<PlannedFile>,
    /// ... and how long until the first of them may be settled; `None`: there are none.
    pub settles_in: Option<Duration>,
}

/// A committed file that is no longer what was read. It is not read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub identity: InputPath,
    pub change: Change,
}

/// What happened to a committed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was appended to, cut or replaced.
    Modified { size_bytes_before: u64, size_bytes_now: u64 },
    /// It is no longer there.
    Gone,
}

/// Finds out what of `listing` is new; how much of it a batch takes, [`Backlog`](super::Backlog) says. Takes time
/// proportional to the files listed and committed.
pub fn next_files(listing: &Listing, seen: &Seen, limits: &Limits) -> Next {
    let mut next = Next { changed: changes(listing, seen), ..Next::default() };
    let unreported = listing.skipped.iter().filter(|skipped| !seen.reported.contains(&skipped.path));
    next.skipped = unreported.cloned().collect();
    let newest = listing.files.iter().map(|file| file.modified_ns).max();
    let oldest = match (newest, limits.age_max) {
        (Some(newest), Some(age)) => newest.saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX)),
        _ => i64::MIN,
    };
    for file in listing.files.iter().filter(|file| !seen.contains(&file.identity)) {
        if file.modified_ns < oldest {
            if !seen.reported.contains(&file.path) {
                let reason = "it is older than the newest file by more than max_file_age".to_owned();
                next.skipped.push(Skipped { path: file.path.clone(), reason });
            }
            continue;
        }
        if let Some(left) = limits.settling.and_then(|settling| settling.left(file.modified_ns)) {
            next.settles_in = Some(next.settles_in.map_or(left, |before| before.min(left)));
            next.unsettled.push(file.clone());
            continue;
        }
        next.files.push(file.clone());
    }
    next
}

/// Committed files that differ from what is listed: first the listed ones in reading order, then those that are
/// gone, by identity.
fn changes(listing: &Listing, seen: &Seen) -> Vec<Changed> {
    let mut changed = Vec::new();
    let mut there = 0;
    for file in &listing.files {
        let Some(before) = seen.committed.get(&file.identity) else { continue };
        there += 1;
        if *before != Stamp::of(file) && !seen.reported.contains(&file.identity) {
            let change = Change::Modified { size_bytes_before: before.size_bytes, size_bytes_now: file.size_bytes };
            changed.push(Changed { identity: file.identity.clone(), change });
        }
    }
    if there < seen.committed.len() {
        let listed: HashSet<_> = listing.files.iter().map(|file| &file.identity).collect();
        let gone =
            seen.committed.keys().filter(|identity| !listed.contains(identity) && !seen.reported.contains(identity));
        let mut gone: Vec<_> = gone.cloned().collect();
        gone.sort();
        changed.extend(gone.into_iter().map(|identity| Changed { identity, change: Change::Gone }));
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size_bytes: u64, modified_s: i64) -> PlannedFile {
        let path = InputPath(name.as_bytes().to_vec());
        PlannedFile { identity: path.clone(), path, size_bytes, modified_ns: modified_s * 1_000_000_000 }
    }

    fn listing(files: &[PlannedFile]) -> Listing {
        Listing { files: files.to_vec(), skipped: Vec::new() }
    }

    fn names(next: &Next) -> Vec<String> {
        next.files.iter().map(|file| file.path.to_string()).collect()
    }

    #[test]
    fn a_committed_file_that_changed_is_reported_once_and_never_read() {
        let mut seen = Seen::default();
        for committed in [file("same", 1, 1), file("longer", 1, 1), file("touched", 1, 1), file("gone", 1, 1)] {
            seen.insert(&committed);
        }
        let listing = listing(&[file("same", 1, 1), file("longer", 2, 2), file("new", 5, 2), file("touched", 1, 3)]);
        let next = next_files(&listing, &seen, &Limits::default());
        assert_eq!(names(&next), ["new"]);
        let told: Vec<_> = next.changed.iter().map(|c| (c.identity.to_string(), c.change)).collect();
        let modified = |before, now| Change::Modified { size_bytes_before: before, size_bytes_now: now };
        assert_eq!(
            told,
            [
                ("longer".to_owned(), modified(1, 2)),
                ("touched".to_owned(), modified(1, 1)),
                ("gone".to_owned(), Change::Gone)
            ]
        );
        seen.note_reported(&next);
        let again = next_files(&listing, &seen, &Limits::default());
        assert_eq!((names(&again), again.changed), (vec!["new".to_owned()], Vec::new()));
    }

    #[test]
    fn a_new_file_waits_until_it_was_left_alone_for_a_while() {
        let files =
            [file("old", 1, 1), file("being written", 1, 99), file("just now", 1, 100), file("far ahead", 1, 110)];
        let at = |now_s: i64| {
            let settling = Settling { now_ns: now_s * 1_000_000_000, quiet: Duration::from_secs(2) };
            let limits = Limits { settling: Some(settling), ..Limits::default() };
            let next = next_files(&listing(&files), &Seen::default(), &limits);
            let unsettled: Vec<_> = next.unsettled.iter().map(|file| file.path.to_string()).collect();
            (names(&next), unsettled, next.settles_in.map(|left| left.as_secs()))
        };
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(at(100), (owned(&["old", "far ahead"]), owned(&["being written", "just now"]), Some(1)));
        // a clock that lags a little behind that of the file system
        assert_eq!(at(99), (owned(&["old", "far ahead"]), owned(&["being written", "just now"]), Some(2)));
        assert_eq!(at(101).1, ["just now"]);
        assert_eq!(at(102), (owned(&["old", "being written", "just now", "far ahead"]), Vec::new(), None));
        let mut seen = Seen::default();
        seen.insert(&files[2]);
        let settling = Settling { now_ns: 100_000_000_000, quiet: Duration::from_secs(2) };
        let next = next_files(&listing(&files), &seen, &Limits { settling: Some(settling), ..Limits::default() });
        assert_eq!((next.unsettled.len(), next.changed), (1, Vec::new()), "what was committed waits for nothing");
    }

    #[test]
    fn old_files_are_skipped_and_reported_once_only_when_asked() {
        let files = [file("old", 1, 0), file("edge", 1, 40), file("new", 1, 100)];
        let age = |seconds| Limits { age_max: Some(Duration::from_secs(seconds)), ..Limits::default() };
        let mut seen = Seen::default();
        assert_eq!(names(&next_files(&listing(&files), &seen, &Limits::default())), ["old", "edge", "new"]);
        let next = next_files(&listing(&files), &seen, &age(60));
        assert_eq!(names(&next), ["edge", "new"]);
        assert_eq!(next.skipped.len(), 1);
        seen.note_reported(&next);
        seen.insert(&files[2]);
        let next = next_files(&listing(&files), &seen, &age(59));
        assert_eq!((names(&next).len(), next.skipped.len()), (0, 1), "the newest counts after it was read");
        assert_eq!(next.skipped[0].path, files[1].path, "only what is new");
        assert_eq!(names(&next_files(&listing(&files), &seen, &age(u64::MAX))), ["old", "edge"]);
    }

    #[test]
    fn what_a_listing_skips_is_told_once() {
        let skipped = Skipped { path: InputPath(b"pipe".to_vec()), reason: "a named pipe".to_owned() };
        let listing = Listing { files: Vec::new(), skipped: vec![skipped.clone()] };
        let mut seen = Seen::default();
        let next = next_files(&listing, &seen, &Limits::default());
        assert_eq!(next.skipped, [skipped]);
        seen.note_reported(&next);
        assert_eq!(next_files(&listing, &seen, &Limits::default()), Next::default());
    }
}
