//! What waits of a source, as of one look at it: a batch of it costs what the batch takes, however much waits.

use std::collections::VecDeque;

use super::next::{Limits, Seen};
use crate::model::PlannedFile;

/// New files in reading order. They stay until a batch that took them was committed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backlog {
    files: VecDeque<PlannedFile>,
    /// Of all of them; kept, since a batch must not look through what waits behind it.
    size_bytes: u64,
    /// Whether a batch took files that are not the first ones here, or none at all of these.
    disturbed: bool,
}

impl Backlog {
    /// Of all that a look at the source found to be new, in reading order.
    pub fn new(files: Vec<PlannedFile>) -> Backlog {
        let size_bytes = total(&files);
        Backlog { files: files.into(), size_bytes, disturbed: false }
    }

    /// How many files wait.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// How many bytes they have, as they lie there.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What the next batch takes: at least one file, if one waits.
    pub fn next(&mut self, seen: &Seen, limits: &Limits) -> Vec<PlannedFile> {
        if std::mem::take(&mut self.disturbed) {
            self.files.retain(|file| !seen.contains(&file.identity));
            self.size_bytes = total(&self.files);
        }
        self.files.range(..self.fitting(limits)).cloned().collect()
    }

    /// Whether files that come later could not be in the next batch: what waits fills it.
    pub fn fills(&self, limits: &Limits) -> bool {
        let fitting = self.fitting(limits);
        !self.disturbed && (fitting < self.len() || limits.files_max.is_some_and(|max| fitting as u64 >= max))
    }

    /// Notes that a batch with these files was committed, whether they come from here or not.
    pub fn committed(&mut self, files: &[PlannedFile]) {
        if self.files.len() >= files.len() && self.files.range(..files.len()).eq(files) {
            self.files.drain(..files.len());
            self.size_bytes = self.size_bytes.saturating_sub(total(files));
        } else {
            self.disturbed = true;
        }
    }

    /// What waits behind these files, if they are the first ones here; nothing where that is not so.
    pub fn after(&self, files: &[PlannedFile]) -> impl Iterator<Item = &PlannedFile> + use<'_> {
        let first = !self.disturbed && self.len() >= files.len() && self.files.range(..files.len()).eq(files);
        self.files.range(if first { files.len() } else { self.len() }..)
    }

    /// How many of the first files one batch takes.
    fn fitting(&self, limits: &Limits) -> usize {
        let mut bytes: u64 = 0;
        let mut fits = |taken: usize, file: &PlannedFile| {
            bytes = bytes.saturating_add(file.size_bytes);
            limits.files_max.is_none_or(|max| (taken as u64) < max)
                && (taken == 0 || limits.bytes_max.is_none_or(|max| bytes <= max))
        };
        self.files.iter().enumerate().take_while(|(taken, file)| fits(*taken, file)).count()
    }
}

fn total<'a>(files: impl IntoIterator<Item = &'a PlannedFile>) -> u64 {
    files.into_iter().fold(0, |bytes, file| bytes.saturating_add(file.size_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::InputPath;

    fn file(name: &str, size_bytes: u64) -> PlannedFile {
        let path = InputPath(name.as_bytes().to_vec());
        PlannedFile { identity: path.clone(), path, size_bytes, modified_ns: 0 }
    }

    fn names(files: &[PlannedFile]) -> String {
        files.iter().map(|file| file.path.to_string()).collect()
    }

    #[test]
    fn limits_cut_in_order_and_take_at_least_one_file() {
        let mut backlog = Backlog::new(vec![file("a", 100), file("b", 0), file("c", 50), file("d", 1)]);
        for (files_max, bytes_max, taken, full) in [
            (None, None, "abcd", false),
            (Some(1), None, "a", true),
            (Some(4), None, "abcd", true),
            (Some(9), None, "abcd", false),
            (None, Some(1), "a", true),
            (None, Some(100), "ab", true),
            (None, Some(149), "ab", true),
            (None, Some(150), "abc", true),
            (None, Some(151), "abcd", false),
        ] {
            let limits = Limits { files_max, bytes_max, ..Limits::default() };
            assert_eq!(names(&backlog.next(&Seen::default(), &limits)), taken, "{limits:?}");
            assert_eq!(backlog.fills(&limits), full, "{limits:?}");
            assert_eq!(names(&backlog.next(&Seen::default(), &limits.without_size())), "abcd");
        }
        assert!(!Backlog::default().fills(&Limits { files_max: Some(1), ..Limits::default() }));
    }

    #[test]
    fn one_file_per_batch_takes_each_file_once_and_again_until_it_is_committed() {
        let mut backlog = Backlog::new(vec![file("a", 1), file("b", 1), file("c", 1)]);
        let limits = Limits { files_max: Some(1), ..Limits::default() };
        let (mut seen, mut order) = (Seen::default(), String::new());
        while !backlog.is_empty() {
            let taken = backlog.next(&seen, &limits);
            assert_eq!(backlog.after(&taken).count(), backlog.len() - 1);
            assert_eq!(backlog.after(&[file("z", 1)]).count(), 0, "it is not known what follows");
            assert_eq!(backlog.next(&seen, &limits), taken, "a batch that fails is planned again");
            order += &names(&taken);
            seen.insert(&taken[0]);
            backlog.committed(&taken);
            assert_eq!(backlog.size_bytes(), backlog.len() as u64, "files of one byte");
        }
        assert_eq!(order, "abc");
        assert_eq!(seen.len(), 3);
    }

    /// A plan that was interrupted, or that a rewind retracted, comes from the log.
    #[test]
    fn what_another_batch_took_out_of_turn_is_not_taken_again() {
        let mut backlog = Backlog::new(vec![file("a", 1), file("b", 1), file("c", 1)]);
        let limits = Limits { files_max: Some(2), ..Limits::default() };
        let mut seen = Seen::default();
        seen.insert(&file("b", 1));
        backlog.committed(&[file("b", 1)]);
        assert!(!backlog.fills(&limits), "not known before it was looked through");
        assert_eq!(names(&backlog.next(&seen, &limits)), "ac");
        assert_eq!(backlog.len(), 2);
        backlog.committed(&[file("z", 1)]);
        assert_eq!(names(&backlog.next(&seen, &limits)), "ac");
        backlog.committed(&[]);
        assert!(backlog.fills(&limits), "a batch of another source");
    }
}
