//! Recordings of worse programs: the explorer must notice what each of them leaves out.

use super::disk::{Disk, Event, Kind, Timed};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The program as it is.
    None,
    /// `flush()` of sled is trusted, our own fsync of its file is left out.
    OwnFsync,
    /// Folders are never fsynced.
    FolderFsync,
    /// Files of `state/` are not fsynced before a record names them.
    PayloadFsync,
    /// What is received is not fsynced before it is taken for received.
    ReceiptFsync,
    /// SQLite does not fsync its journal before it changes the database.
    JournalFsync,
    /// Output is published as soon as it is staged, the commit follows.
    PublishFirst,
    /// Rows go to a server in one transaction, and the number of their batch in the one after it.
    RowsFirst,
    /// The other way round.
    BatchFirst,
    /// A server gets each transaction earlier than it did.
    ServerFirst,
}

impl Mutation {
    pub const ALL: [Mutation; 10] = [
        Mutation::None,
        Mutation::OwnFsync,
        Mutation::FolderFsync,
        Mutation::PayloadFsync,
        Mutation::ReceiptFsync,
        Mutation::JournalFsync,
        Mutation::PublishFirst,
        Mutation::RowsFirst,
        Mutation::BatchFirst,
        Mutation::ServerFirst,
    ];

    pub fn named(name: &str) -> Mutation {
        let found = Mutation::ALL.into_iter().find(|mutation| format!("{mutation:?}") == name);
        found.unwrap_or_else(|| panic!("there is no mutation '{name}'"))
    }

    pub fn of(self, mut disk: Disk) -> Disk {
        let kinds: Vec<Kind> = disk.events.iter().map(|event| kind_synced(&disk, event)).collect();
        let is_left_out = |event: &Timed, kind: Kind| {
            matches!(event.event, Event::Sync(_))
                && match self {
                    Mutation::OwnFsync => event.about.ends_with("/db"),
                    Mutation::FolderFsync => kind == Kind::Folder,
                    Mutation::PayloadFsync => kind == Kind::File && event.about.contains("/state/"),
                    Mutation::ReceiptFsync => event.about.contains("/received/") && kind == Kind::File,
                    Mutation::JournalFsync => event.about.ends_with("/out.db-journal"),
                    Mutation::None | Mutation::PublishFirst => false,
                    // what the server holds is chosen beside the disk
                    Mutation::RowsFirst | Mutation::BatchFirst | Mutation::ServerFirst => false,
                }
        };
        let mut kinds = kinds.into_iter();
        disk.events.retain(|event| !is_left_out(event, kinds.next().expect("one for each")));
        if self == Mutation::PublishFirst {
            publish_first(&mut disk.events);
        }
        disk
    }
}

fn kind_synced(disk: &Disk, event: &Timed) -> Kind {
    match event.event {
        Event::Sync(inode) => disk.kind(inode),
        _ => Kind::Socket,
    }
}

/// Moves each publication, its fsyncs included, to before the log writes of its batch's commit.
fn publish_first(events: &mut Vec<Timed>) {
    let is_publication =
        |event: &Timed| event.about.starts_with("rename published/") && event.about.contains("-> published/");
    let is_log_write = |event: &Timed| event.about.contains("/db ") && matches!(event.event, Event::Change(_));
    let is_staged =
        |event: &Timed| event.about.contains("/.highwater-staging") && matches!(event.event, Event::Sync(_));
    let mut at = 0;
    while let Some(found) = events[at..].iter().position(is_publication).map(|found| at + found) {
        let log = events[..found].iter().rposition(is_log_write);
        let staged = log.and_then(|log| events[..log].iter().rposition(is_staged));
        let syncs = events[found + 1..].iter().take_while(|event| matches!(event.event, Event::Sync(_))).count();
        let moved: Vec<Timed> = events.drain(found..=found + syncs).collect();
        let to = staged.map_or(found, |staged| staged + 1);
        events.splice(to..to, moved);
        at = found + 1;
    }
    for (number, event) in events.iter_mut().enumerate() {
        (event.began, event.ended) = (number, number);
    }
}
