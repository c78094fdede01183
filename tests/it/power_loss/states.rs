//! What a folder may look like after a power loss: chosen by a seed among all that the recording allows.
//!
//! What was fsynced is there. Of the rest, each write is absent, present, or torn at sectors of 512 B or pages of
//! 4 KiB; a file has its old length or its new one; changes of names are lost from some point on, or any of them is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::disk::{Change, Disk, Event, Inode, Tree};
use crate::binary::Chance;

/// A recording, prepared for being cut anywhere.
pub struct Crashes<'a> {
    disk: &'a Disk,
    durable: Vec<Option<usize>>,
    /// Numbers of the events to cut after, by what they are about.
    classes: Vec<Vec<usize>>,
}

/// One state, and where it comes from.
pub struct State {
    pub tree: Tree,
    /// The power failed after this event.
    pub after: usize,
    /// For people: the event, and what was lost.
    pub story: String,
}

impl<'a> Crashes<'a> {
    pub fn of(disk: &'a Disk) -> Crashes<'a> {
        let mut classes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (number, event) in disk.events.iter().enumerate() {
            classes.entry(class(&event.about)).or_default().push(number);
        }
        Crashes { disk, durable: disk.durable_from(), classes: classes.into_values().collect() }
    }

    /// The state with this number: the same seed and number choose the same state of the same recording.
    pub fn state(&self, seed: u64, number: u64) -> State {
        let mut chance = Chance::new(seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
        // each kind of moment as often as each other one: there are few renames among many writes
        let class = &self.classes[chance.below(self.classes.len())];
        let after = class[chance.below(class.len())];
        self.cut(after, &mut chance)
    }

    /// All that happened, nothing lost.
    pub fn whole(&self) -> Tree {
        let all: Vec<usize> = (0..self.disk.events.len()).collect();
        self.disk.tree(all.iter().copied(), &mut |file| self.bytes(file, &all))
    }

    /// A file's bytes as a process saw them after an event.
    pub fn bytes_of(&self, file: Inode, after: usize) -> Arc<[u8]> {
        self.bytes(file, &(0..=after).collect::<Vec<_>>())
    }

    /// Only what was fsynced by an event's end is there.
    pub fn fsynced(&self, after: usize) -> Tree {
        let is_durable = |number: &usize| self.durable[*number].is_some_and(|when| when <= after);
        let kept: Vec<usize> = (0..self.disk.events.len()).filter(is_durable).collect();
        self.disk.tree(kept.iter().copied(), &mut |file| self.bytes(file, &kept))
    }

    /// The power fails after an event; chance says what of the rest is there.
    pub fn cut(&self, after: usize, chance: &mut Chance) -> State {
        let now = self.disk.events[after].ended;
        let is_change = |number: &usize| matches!(self.disk.events[*number].event, Event::Change(_));
        // what another thread had begun may be there as well
        let reached: Vec<usize> = (0..self.disk.events.len())
            .filter(|number| *number <= after || self.disk.events[*number].began < now)
            .filter(is_change)
            .collect();
        let is_durable = |number: usize| self.durable[number].is_some_and(|when| when <= after);
        let (mut names, mut writes) = (Vec::new(), BTreeMap::<Inode, Vec<usize>>::new());
        for number in &reached {
            match self.change(*number).file() {
                Some(file) => writes.entry(file).or_default().push(*number),
                None => names.push(*number),
            }
        }
        let pending: Vec<usize> = names.iter().copied().filter(|number| !is_durable(*number)).collect();
        let (lost, names_story) = lose_names(&pending, chance);
        let kept = names.into_iter().filter(|number| !lost.contains(number));
        let mut stories = vec![format!("after event {after}: {}", self.disk.events[after].about), names_story];
        let mut contents = HashMap::new();
        for (file, changes) in &writes {
            let (bytes, story) = self.lose_writes(*file, changes, &is_durable, chance);
            contents.insert(*file, bytes);
            stories.extend(story);
        }
        let tree = self.disk.tree(kept, &mut |file| match contents.get(&file) {
            Some(bytes) => Arc::clone(bytes),
            None => self.disk.content(file).into(),
        });
        State { tree, after, story: stories.join("; ") }
    }

    fn change(&self, number: usize) -> &'a Change {
        match &self.disk.events[number].event {
            Event::Change(change) => change,
            other => panic!("{other:?} changes nothing"),
        }
    }

    /// A file's bytes after these events.
    fn bytes(&self, file: Inode, events: &[usize]) -> Arc<[u8]> {
        let mut content = self.disk.content(file).to_vec();
        for number in events {
            match &self.disk.events[*number].event {
                Event::Change(change) if change.file() == Some(file) => change.apply_to_bytes(&mut content),
                _ => {}
            }
        }
        content.into()
    }

    /// What is left of a file, and a word on what is not.
    fn lose_writes(
        &self,
        file: Inode,
        changes: &[usize],
        is_durable: &dyn Fn(usize) -> bool,
        chance: &mut Chance,
    ) -> (Arc<[u8]>, Option<String>) {
        let pending: Vec<usize> = changes.iter().copied().filter(|number| !is_durable(*number)).collect();
        if pending.is_empty() {
            return (self.bytes(file, changes), None);
        }
        let how = ["all there", "all absent", "some absent", "a prefix", "torn"][chance.below(5)];
        let cut = chance.below(pending.len() + 1);
        let torn = chance.below(pending.len());
        let mut lost: BTreeSet<usize> = match how {
            "all absent" => pending.iter().copied().collect(),
            "some absent" => pending.iter().copied().filter(|_| chance.below(2) == 0).collect(),
            "a prefix" => pending[cut..].iter().copied().collect(),
            // what follows the torn write may be there as well
            "torn" => pending[torn + 1..].iter().copied().filter(|_| chance.below(2) == 0).collect(),
            _ => BTreeSet::new(),
        };
        let mut content = self.disk.content(file).to_vec();
        let mut durable_length = content.len();
        let mut newest_length = content.len();
        for number in changes {
            let change = self.change(*number);
            newest_length = length_after(newest_length, change);
            if is_durable(*number) {
                durable_length = length_after(durable_length, change);
            }
            // what was written after a cut went to other blocks: without the cut it is not reached
            if lost.contains(number) && matches!(change, Change::Resize { cuts: true, .. }) {
                lost.extend(pending.iter().filter(|later| *later > number));
            }
            match change {
                _ if lost.contains(number) => {}
                Change::Write { offset, bytes, .. } if how == "torn" && *number == pending[torn] => {
                    tear(*offset, bytes, chance).iter().for_each(|piece| piece.apply_to_bytes(&mut content));
                }
                change => change.apply_to_bytes(&mut content),
            }
        }
        let length = ["as written", "old length", "new length"][chance.below(4) % 3];
        match length {
            "old length" => content.resize(durable_length, 0),
            "new length" => content.resize(newest_length.max(durable_length), 0),
            _ => {}
        }
        let about = &self.disk.events[pending[0]].about;
        (content.into(), Some(format!("{about} and {} more: {how}, {length}", pending.len() - 1)))
    }
}

fn length_after(length: usize, change: &Change) -> usize {
    match change {
        Change::Write { offset, bytes, .. } => length.max(offset + bytes.len()),
        Change::Resize { length, .. } => *length,
        _ => length,
    }
}

/// Which changes of names are lost.
fn lose_names(pending: &[usize], chance: &mut Chance) -> (BTreeSet<usize>, String) {
    let count = pending.len();
    let how = ["all", "none", "the first", "some"][chance.below(4)];
    let lost: BTreeSet<usize> = match how {
        "all" => BTreeSet::new(),
        "none" => pending.iter().copied().collect(),
        "the first" => pending[chance.below(count + 1)..].iter().copied().collect(),
        _ => pending.iter().copied().filter(|_| chance.below(2) == 0).collect(),
    };
    let story = format!("{how} of {count} unsynced changes of names are there, {} lost", lost.len());
    (lost, story)
}

/// The sectors of a write that reached the disk.
fn tear(offset: usize, bytes: &Arc<[u8]>, chance: &mut Chance) -> Vec<Change> {
    let sector = [512, 4096][chance.below(2)];
    let first = offset / sector;
    let count = (offset + bytes.len()).div_ceil(sector) - first;
    let (in_order, from_the_end) = (chance.below(2) == 0, chance.below(2) == 0);
    let cut = chance.below(count + 1);
    let mut pieces = Vec::new();
    for number in 0..count {
        let kept = if in_order { (number < cut) != from_the_end } else { chance.below(2) == 0 };
        if kept {
            let start = ((first + number) * sector).max(offset);
            let end = ((first + number + 1) * sector).min(offset + bytes.len());
            pieces.push(Change::Write { file: 0, offset: start, bytes: bytes[start - offset..end - offset].into() });
        }
    }
    pieces
}

/// What kind of moment an event is.
fn class(about: &str) -> &'static str {
    const CLASSES: [(&str, &str); 15] = [
        ("the server", "server"),
        ("/out.db-journal", "journal"),
        ("/out.db", "database"),
        ("/received", "receive log"),
        ("-> published/", "publish"),
        ("/.highwater-staging", "stage"),
        ("published", "output folder"),
        (".new", "creation"),
        (".tmp", "copies"),
        ("part-", "seal"),
        ("/state", "state files"),
        ("witness", "witness"),
        ("/db", "log"),
        ("/live-", "index of the log"),
        ("checkpoint", "checkpoint"),
    ];
    CLASSES.iter().find(|(part, _)| about.contains(part)).map_or("said", |(_, class)| class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power_loss::disk::{Entry, Item, Kind, ROOT, Timed, Told};

    /// A disk on which each event follows the one before.
    fn disk(events: impl FnOnce(&mut Disk) -> Vec<Event>) -> Disk {
        let mut disk = Disk::holding(&Tree::default());
        let events = events(&mut disk);
        let timed = |(number, event)| Timed {
            began: number,
            ended: number,
            event,
            about: String::new(),
            told: Told::default(),
        };
        disk.events = events.into_iter().enumerate().map(timed).collect();
        disk
    }

    fn name(name: &str) -> Entry {
        (ROOT, name.to_owned())
    }

    /// All states after the newest event, as text.
    fn all(disk: &Disk) -> BTreeSet<String> {
        let crashes = Crashes::of(disk);
        let text = |item: &Item| match item {
            Item::File(bytes) => String::from_utf8_lossy(bytes).replace('\0', "0"),
            other => format!("{other:?}"),
        };
        (0..2000)
            .map(|number| {
                let tree = crashes.cut(disk.events.len() - 1, &mut Chance::new(number)).tree;
                tree.0.iter().map(|(path, item)| format!("{path}={} ", text(item))).collect::<String>()
            })
            .collect()
    }

    fn set(states: &[&str]) -> BTreeSet<String> {
        states.iter().map(|state| (*state).to_owned()).collect()
    }

    fn write(file: Inode, offset: usize, text: &str) -> Event {
        Event::Change(Change::Write { file, offset, bytes: text.as_bytes().into() })
    }

    #[test]
    fn a_name_and_the_data_behind_it_are_durable_by_different_calls() {
        let made = |disk: &mut Disk| {
            let file = disk.add(Kind::File);
            (file, vec![Event::Change(Change::Link { entry: name("a"), inode: file }), write(file, 0, "x")])
        };
        assert_eq!(all(&disk(|disk| made(disk).1)), set(&["", "a= ", "a=0 ", "a=x "]));
        let with = |inode: fn(Inode) -> Inode| {
            disk(|disk| {
                let (file, mut events) = made(disk);
                events.push(Event::Sync(inode(file)));
                events
            })
        };
        assert_eq!(all(&with(|file| file)), set(&["", "a=x "]));
        assert_eq!(all(&with(|_| ROOT)), set(&["a= ", "a=0 ", "a=x "]));
    }

    #[test]
    fn a_rename_happens_or_not_and_rests_on_the_name_before() {
        let renamed = |synced: bool| {
            disk(|disk| {
                let file = disk.add(Kind::File);
                let mut events = vec![
                    Event::Change(Change::Link { entry: name("a"), inode: file }),
                    Event::Change(Change::Rename { from: name("a"), to: name("b"), inode: file }),
                ];
                events.extend(synced.then_some(Event::Sync(ROOT)));
                events
            })
        };
        assert_eq!(all(&renamed(false)), set(&["", "a= ", "b= "]));
        assert_eq!(all(&renamed(true)), set(&["b= "]));
    }

    #[test]
    fn writes_are_lost_in_any_order_and_torn_at_sectors() {
        let pages = |disk: &mut Disk| {
            let file = disk.add(Kind::File);
            let page = |letter: &str| letter.repeat(512);
            let link = Event::Change(Change::Link { entry: name("a"), inode: file });
            vec![link, Event::Sync(ROOT), write(file, 0, &(page("x") + &page("y"))), write(file, 1024, &page("z"))]
        };
        let short = |state: &String| -> String {
            state.as_bytes()[2..].chunks(512).map(|chunk| char::from(chunk[0])).collect()
        };
        let found: BTreeSet<String> = all(&disk(pages)).iter().map(short).collect();
        for expected in ["xyz", "xy", "x", "0y", "00z", "x0z", "0yz", "xy0", " "] {
            assert!(found.contains(expected) || found.contains(&format!("{expected} ")), "{expected}: {found:?}");
        }
    }
}
