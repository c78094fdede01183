//! A file system as a power loss sees it: what was changed, in which order, and what each fsync made durable.
//!
//! The rules are those that POSIX promises and no more. `fsync` and `fdatasync` of a file make its data and length
//! durable, not its name. `fsync` of a folder makes the names in it durable. `sync_file_range` makes nothing durable.
//! A rename is one change in both folders, durable with either.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
    sync::Arc,
};

/// Number of a file or folder; names come and go.
pub type Inode = usize;

/// The folder that everything is in.
pub const ROOT: Inode = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Folder,
    File,
    Socket,
}

/// A name in a folder.
pub type Entry = (Inode, String);

/// What one call did to the disk.
#[derive(Debug, Clone)]
pub enum Change {
    Write {
        file: Inode,
        offset: usize,
        bytes: Arc<[u8]>,
    },
    Resize {
        file: Inode,
        length: usize,
        /// Whether bytes are cut off.
        cuts: bool,
    },
    /// A new file, folder or socket gets its name.
    Link {
        entry: Entry,
        inode: Inode,
    },
    Unlink {
        entry: Entry,
        inode: Inode,
    },
    Rename {
        from: Entry,
        to: Entry,
        inode: Inode,
    },
}

#[derive(Debug, Clone)]
pub enum Event {
    Change(Change),
    /// A file or folder was fsynced.
    Sync(Inode),
    /// The process told its user something.
    Said(String),
    /// It asked a server for a transaction, ...
    Asked,
    /// ... and the server answered that it is done.
    Answered,
}

/// An event, in the order in which calls ended.
#[derive(Debug, Clone)]
pub struct Timed {
    pub began: usize,
    pub ended: usize,
    pub event: Event,
    /// What it was about, for people.
    pub about: String,
    pub told: Told,
}

/// What holds of a scenario at a moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told {
    /// The step that it belongs to.
    pub step: usize,
    /// The position in the scenario that was acknowledged by then.
    pub position: usize,
    /// So many pieces of the standard input were durable.
    pub received: usize,
}

/// What a folder holds, by path in it; parents come before what they hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<String, Item>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    Folder,
    File(Arc<[u8]>),
    Socket,
}

impl Tree {
    /// The same for equal trees only.
    pub fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for (path, item) in &self.0 {
            let (kind, bytes) = match item {
                Item::Folder => (0, &[][..]),
                Item::File(bytes) => (1, &bytes[..]),
                Item::Socket => (2, &[][..]),
            };
            for part in [path.as_bytes(), &[kind], bytes] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        hasher.finalize()
    }
}

/// A disk: what it held at the start, durably, and all that happened to it.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    kinds: Vec<Kind>,
    folders: HashMap<Inode, BTreeMap<String, Inode>>,
    contents: HashMap<Inode, Arc<[u8]>>,
    pub events: Vec<Timed>,
}

impl Disk {
    pub fn holding(tree: &Tree) -> Disk {
        let mut disk = Disk::default();
        disk.add(Kind::Folder);
        let mut known = HashMap::from([(String::new(), ROOT)]);
        for (path, item) in &tree.0 {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            let inode = match item {
                Item::Folder => disk.add(Kind::Folder),
                Item::Socket => disk.add(Kind::Socket),
                Item::File(bytes) => {
                    let inode = disk.add(Kind::File);
                    disk.contents.insert(inode, Arc::clone(bytes));
                    inode
                }
            };
            disk.folders.entry(known[folder]).or_default().insert(name.to_owned(), inode);
            known.insert(path.clone(), inode);
        }
        disk
    }

    pub fn add(&mut self, kind: Kind) -> Inode {
        self.kinds.push(kind);
        self.kinds.len() - 1
    }

    pub fn kind(&self, inode: Inode) -> Kind {
        self.kinds[inode]
    }

    /// The names at the start.
    pub fn names(&self) -> HashMap<Inode, BTreeMap<String, Inode>> {
        self.folders.clone()
    }

    /// A file's bytes at the start.
    pub fn content(&self, file: Inode) -> &[u8] {
        self.contents.get(&file).map_or(&[], |bytes| bytes)
    }

    /// How many transactions of a server were done by the end of an event, and how many may have been: what was asked for and is
    /// not answered.
    pub fn transactions(&self, after: usize) -> RangeInclusive<usize> {
        let count = |wanted: &dyn Fn(usize, &Timed) -> bool| {
            self.events.iter().enumerate().filter(|(number, event)| wanted(*number, event)).count()
        };
        let now = self.events[after].ended;
        let answered = count(&|number, timed| matches!(timed.event, Event::Answered) && number <= after);
        let asked =
            count(&|number, timed| matches!(timed.event, Event::Asked) && (number <= after || timed.began < now));
        answered..=asked
    }

    /// For each event the one that made it durable, if any did.
    pub fn durable_from(&self) -> Vec<Option<usize>> {
        let mut durable: Vec<Option<usize>> = vec![None; self.events.len()];
        for (number, event) in self.events.iter().enumerate() {
            let Event::Change(change) = &event.event else { continue };
            let covers = |later: &Timed| match &later.event {
                Event::Sync(inode) => later.began > event.ended && change.is_made_durable_by(*inode),
                _ => false,
            };
            durable[number] = (number + 1..self.events.len()).find(|later| covers(&self.events[*later]));
        }
        // What is durable rests on nothing that is not: the name that a rename took away was there.
        for later in (0..self.events.len()).rev() {
            let (Event::Change(Change::Rename { from, .. }), Some(when)) = (&self.events[later].event, durable[later])
            else {
                continue;
            };
            for (earlier, durable) in self.events.iter().zip(&mut durable).take(later) {
                if matches!(&earlier.event, Event::Change(change) if change.names(from)) {
                    *durable = Some(durable.map_or(when, |before| before.min(when)));
                }
            }
        }
        durable
    }

    /// The tree that some of the changes leave; `contents` says what each file then holds.
    pub fn tree(&self, kept: impl Iterator<Item = usize>, contents: &mut dyn FnMut(Inode) -> Arc<[u8]>) -> Tree {
        let mut folders = self.names();
        for number in kept {
            if let Event::Change(change) = &self.events[number].event {
                change.apply_to_names(&mut folders);
            }
        }
        let mut tree = Tree::default();
        let mut open = vec![(ROOT, String::new())];
        while let Some((folder, path)) = open.pop() {
            for (name, inode) in folders.get(&folder).into_iter().flatten() {
                let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                let item = match self.kind(*inode) {
                    Kind::Folder => {
                        open.push((*inode, path.clone()));
                        Item::Folder
                    }
                    Kind::File => Item::File(contents(*inode)),
                    Kind::Socket => Item::Socket,
                };
                tree.0.insert(path, item);
            }
        }
        tree
    }
}

impl Change {
    /// The file whose bytes it changes.
    pub fn file(&self) -> Option<Inode> {
        match self {
            Change::Write { file, .. } | Change::Resize { file, .. } => Some(*file),
            _ => None,
        }
    }

    /// Whether it gives or takes this name.
    fn names(&self, name: &Entry) -> bool {
        match self {
            Change::Link { entry, .. } | Change::Unlink { entry, .. } => entry == name,
            Change::Rename { from, to, .. } => from == name || to == name,
            _ => false,
        }
    }

    fn is_made_durable_by(&self, inode: Inode) -> bool {
        match self {
            Change::Write { file, .. } | Change::Resize { file, .. } => *file == inode,
            Change::Link { entry, .. } | Change::Unlink { entry, .. } => entry.0 == inode,
            Change::Rename { from, to, .. } => from.0 == inode || to.0 == inode,
        }
    }

    /// Does it to the names, unless what it rests on was lost: then it is lost, too.
    pub fn apply_to_names(&self, folders: &mut HashMap<Inode, BTreeMap<String, Inode>>) {
        let at = |folders: &HashMap<Inode, BTreeMap<String, Inode>>, entry: &Entry| {
            folders.get(&entry.0).and_then(|names| names.get(&entry.1)).copied()
        };
        match self {
            Change::Link { entry, inode } if at(folders, entry).is_none() => {
                folders.entry(entry.0).or_default().insert(entry.1.clone(), *inode);
            }
            Change::Unlink { entry, inode } if at(folders, entry) == Some(*inode) => {
                folders.entry(entry.0).or_default().remove(&entry.1);
            }
            Change::Rename { from, to, inode } if at(folders, from) == Some(*inode) => {
                folders.entry(from.0).or_default().remove(&from.1);
                folders.entry(to.0).or_default().insert(to.1.clone(), *inode);
            }
            _ => {}
        }
    }

    /// Does it to the bytes of its file.
    pub fn apply_to_bytes(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes, .. } => {
                content.resize(content.len().max(offset + bytes.len()), 0);
                content[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Change::Resize { length, .. } => content.resize(*length, 0),
            _ => {}
        }
    }
}

#[test]
fn a_transaction_may_be_done_from_its_question_on_and_is_done_from_its_answer_on() {
    let mut disk = Disk::holding(&Tree::default());
    // another thread's fsync ends before the call that sends the second question, and after it began
    let events = [
        (0, 1, Event::Said(String::new())),
        (2, 3, Event::Asked),
        (4, 5, Event::Said(String::new())),
        (6, 7, Event::Answered),
        (9, 10, Event::Sync(ROOT)),
        (8, 11, Event::Asked),
        (12, 13, Event::Said(String::new())),
    ];
    let timed = |(began, ended, event)| Timed { began, ended, event, about: String::new(), told: Told::default() };
    disk.events = events.map(timed).into();
    let done: Vec<_> = (0..disk.events.len()).map(|after| disk.transactions(after)).collect();
    assert_eq!(done, [0..=0, 0..=1, 0..=1, 1..=1, 1..=2, 1..=2, 1..=2]);
}
