//! The jobs that are disturbed, each in a folder of its own.

use std::{cell::Cell, fs, ops::Deref, process::Stdio};

use super::FILES;
use crate::{
    binary::{Chance, Ended, Folder, Running, copy_tree},
    fed, kills,
};

/// A table in the checkpoint and two sinks of files, so that plans are made durable first; a snapshot in the middle.
const OVER_FILES: &str = concat!(
    "
SET snapshot_batches = '2';
CREATE TABLE flows (device STRING, port STRING, bytes BIGINT)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE traffic WITH (connector = 'files', path = '${OUTPUT}', format = 'json', output_mode = 'update');
CREATE TABLE ports WITH (connector = 'files', path = '${OUTPUT}', format = 'csv', output_mode = 'complete');
INSERT INTO counts SELECT device, count(*) AS count FROM flows WHERE port IN ('80', '443') GROUP BY device ORDER BY count DESC;
INSERT INTO traffic SELECT device, count(*) AS flows, sum(bytes) AS bytes FROM flows GROUP BY device;
INSERT INTO ports SELECT port, count(*) AS flows, max(bytes) AS most FROM flows GROUP BY port;
",
    operators!()
);

/// Tables of one database; the same input.
const TO_TABLES: &str = "
SET snapshot_batches = '2';
CREATE TABLE flows (device STRING, port STRING, bytes BIGINT)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE added WITH (connector = 'sqlite', path = '${OUTPUT}/out.db', output_mode = 'append');
CREATE TABLE changed WITH (connector = 'sqlite', path = '${OUTPUT}/out.db', output_mode = 'update');
INSERT INTO counts SELECT device, count(*) AS count FROM flows WHERE port IN ('80', '443') GROUP BY device ORDER BY count DESC;
INSERT INTO added SELECT device, port, bytes FROM flows WHERE bytes > 50000;
INSERT INTO changed SELECT port, count(*) AS flows, sum(bytes) AS bytes FROM flows GROUP BY port;
";

/// What a job reads, and where its results go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Files,
    /// Each piece of its standard input is a batch.
    Stdin,
    Sqlite,
}

/// A job in its folder, which is to be disturbed.
pub struct Subject {
    folder: Folder,
    pub kind: Kind,
    /// What comes through its standard input; nothing where it reads files.
    pieces: Vec<String>,
    /// The first piece that the next start is given.
    next: Cell<usize>,
}

impl Deref for Subject {
    type Target = Folder;

    fn deref(&self) -> &Folder {
        &self.folder
    }
}

impl Subject {
    pub fn new(kind: Kind) -> Subject {
        let folder = match kind {
            Kind::Files => Folder::new(OVER_FILES),
            Kind::Stdin => Folder::new(&fed::over_stdin(OVER_FILES)),
            Kind::Sqlite => Folder::new(TO_TABLES),
        };
        let texts = input(kind);
        let pieces = match kind {
            Kind::Stdin => texts,
            Kind::Files | Kind::Sqlite => {
                texts.iter().enumerate().for_each(|(file, text)| folder.input(file, text.as_bytes()));
                Vec::new()
            }
        };
        Subject::of(kind, folder, pieces)
    }

    /// A job of another test.
    pub fn of(kind: Kind, folder: Folder, pieces: Vec<String>) -> Subject {
        Subject { folder, kind, pieces, next: Cell::new(0) }
    }

    /// Away with what the job wrote.
    pub fn start_over(&self) {
        kills::start_over(&self.folder);
        self.next.set(0);
    }

    /// The standard input of the next start: what is known not to be received.
    pub fn input(&self) -> Stdio {
        match self.pieces.get(self.next.get()..).unwrap_or_default() {
            [] => Stdio::null(),
            rest => fed::pieces(rest.to_vec()),
        }
    }

    /// It is not known what was received: the next start is given nothing.
    pub fn give_nothing(&self) {
        self.next.set(self.pieces.len());
    }

    /// What was received shows when the job was started and ended once more: in a copy, which is then put back.
    pub fn look_for_the_rest(&self) {
        if self.pieces.is_empty() {
            return;
        }
        self.give_nothing();
        let kept = Kept::of(self);
        self.folder.run().expect(0);
        let received = fed::received(&self.at("checkpoint"));
        kept.restore(self);
        self.next.set(received);
    }

    /// Runs the job to its end, and gives it what it has not received; tells what all starts said.
    pub fn run(&self) -> Ended {
        let first = self.folder.run();
        if self.pieces.is_empty() || first.code() != Some(0) {
            return first;
        }
        self.next.set(fed::received(&self.at("checkpoint")));
        let mut rest = self.run_command(&["--available-now"]);
        let mut ended = Running::start_given(&mut rest, self.input()).wait().sober();
        ended.stderr = first.stderr + &ended.stderr;
        ended
    }
}

/// The texts of three small files: the second one's delta is too large to be kept inside the log, the third has bad
/// records.
fn input(kind: Kind) -> Vec<String> {
    let mut chance = Chance::new(11);
    let text = |file: usize| {
        let mut text = String::new();
        // a piece is received as a whole
        let is_large = file == 1 && kind == Kind::Files;
        for row in 0..if is_large { 200 } else { 12 } {
            let device = match is_large {
                true => format!("{row}-{}", kills::long_name(&mut chance)),
                false => format!("Comp{}", chance.below(5)),
            };
            let (port, bytes) = (["80", "443", "22"][chance.below(3)], chance.below(100_000));
            text += &format!("{{\"device\": \"{device}\", \"port\": \"{port}\", \"bytes\": {bytes}}}\n");
        }
        if file == 2 {
            text += "{\"device\": \"cut\nnull\n";
        }
        text
    };
    (0..FILES).map(text).collect()
}

/// What another run left, kept to begin from again and again.
pub struct Kept {
    dir: tempfile::TempDir,
    next: usize,
}

impl Kept {
    pub fn of(subject: &Subject) -> Kept {
        let dir = tempfile::tempdir().expect("a temporary folder");
        copy_tree(subject.path(), dir.path());
        Kept { dir, next: subject.next.get() }
    }

    pub fn restore(&self, subject: &Subject) {
        subject.next.set(self.next);
        for (from, remove) in [(subject.path(), true), (self.dir.path(), false)] {
            for entry in fs::read_dir(from).expect("it can be listed") {
                let path = entry.expect("it can be listed").path();
                let name = path.file_name().expect("it has a name");
                if !path.is_dir() || name == "input" {
                    continue;
                }
                if remove {
                    fs::remove_dir_all(&path).expect("a scratch folder can be removed");
                } else {
                    copy_tree(&path, &subject.at(&name.to_string_lossy()));
                }
            }
        }
    }
}
