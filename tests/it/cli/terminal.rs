//! `top` on a terminal of its own, as a person has it: what it shows, its keys, and that the terminal is left as it was.

use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, ExitStatus, Stdio},
    time::Instant,
};

use super::{finished, fixture, fixture_of};
use crate::binary::{Folder, HANGS_AFTER, Running, executable};

/// What a terminal is told when a program takes the whole of it, and when it gives it back.
const TAKEN: &str = "\u{1b}[?1049h";
const GIVEN_BACK: &str = "\u{1b}[?1049l";

const ROWS: u16 = 30;
const COLUMNS: u16 = 120;

/// `top` over a checkpoint, and the other end of its terminal.
struct Terminal {
    child: Child,
    end: File,
    text: String,
    columns: u16,
}

impl Terminal {
    fn start(folder: &Folder) -> Terminal {
        Terminal::of_columns(folder, COLUMNS)
    }

    fn of_columns(folder: &Folder, columns: u16) -> Terminal {
        let (mut ours, mut theirs) = (-1, -1);
        let size = libc::winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: two places for descriptors, no name, no settings, and a size that outlives the call.
        let made = unsafe { libc::openpty(&mut ours, &mut theirs, std::ptr::null_mut(), std::ptr::null(), &size) };
        assert_eq!(made, 0, "a terminal is made: {}", std::io::Error::last_os_error());
        // SAFETY: both were made just now, and nobody else has them.
        let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
        let stream = || Stdio::from(theirs.try_clone().expect("a descriptor"));
        let mut command = Command::new(executable());
        command
            .args(["top", "checkpoint", "--interval", "100ms"])
            .current_dir(folder.path())
            .env("TERM", "xterm-256color");
        command.stdin(stream()).stdout(stream()).stderr(stream());
        // SAFETY: both calls may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            })
        };
        let child = command.spawn().expect("it starts");
        Terminal { child, end: File::from(ours), text: String::new(), columns }
    }

    /// Reads until all of these are on the screen.
    fn shows(&mut self, parts: &[&str]) -> String {
        let since = Instant::now();
        loop {
            let screen = on_screen(&self.text, self.columns);
            if parts.iter().all(|part| screen.contains(part)) {
                return screen;
            }
            assert!(since.elapsed() < HANGS_AFTER, "{parts:?} are not shown:\n{screen}");
            self.read_some();
        }
    }

    /// Reads what is there, or comes within a moment.
    fn read_some(&mut self) {
        let mut watched = libc::pollfd { fd: self.end.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one initialised entry that outlives the call.
        if unsafe { libc::poll(&mut watched, 1, 20) } <= 0 {
            return;
        }
        let mut bytes = [0; 65_536];
        match self.end.read(&mut bytes) {
            Ok(count) => self.text += &String::from_utf8_lossy(&bytes[..count]),
            // so a terminal says that nobody has it open any more
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}"),
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.end.write_all(keys).expect("keys are taken");
    }

    /// Waits for the end, and reads what is left.
    fn ends(&mut self) -> ExitStatus {
        let since = Instant::now();
        loop {
            self.read_some();
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                self.read_some();
                return status;
            }
            assert!(since.elapsed() < HANGS_AFTER, "it does not end: {}", self.text);
        }
    }

    /// Waits for a good end; the terminal must have been given back.
    fn ends_well(mut self) {
        let status = self.ends();
        assert!(status.success(), "{status}: {}", self.text);
        assert!(self.text.contains(TAKEN) && self.text.rfind(GIVEN_BACK) > self.text.rfind(TAKEN), "{}", self.text);
    }
}

/// What a terminal shows after all of this: only what changed is sent, each with its place.
fn on_screen(sent: &str, columns: u16) -> String {
    let mut screen = vec![vec![' '; usize::from(columns)]; usize::from(ROWS)];
    let (mut row, mut column) = (0, 0);
    let mut rest = sent;
    while let Some(next) = rest.chars().next() {
        if let Some(command) = rest.strip_prefix("\u{1b}[") {
            // one that is not whole yet moves nothing
            let Some(end) = command.find(|char: char| char.is_ascii_alphabetic()) else { break };
            if command[end..].starts_with('H') {
                let mut place = command[..end].split(';').map(|number| number.parse::<usize>().unwrap_or(1) - 1);
                (row, column) = (place.next().unwrap_or(0), place.next().unwrap_or(0));
            }
            rest = &command[end + 1..];
            continue;
        }
        if let Some(cell) = screen.get_mut(row).and_then(|line| line.get_mut(column)) {
            *cell = next;
        }
        column += 1;
        rest = &rest[next.len_utf8()..];
    }
    screen.into_iter().map(|line| line.into_iter().collect::<String>()).collect::<Vec<_>>().join("\n")
}

#[test]
fn top_shows_a_stopped_job_and_takes_keys() {
    let folder = finished();
    let mut terminal = Terminal::start(&folder);
    terminal.shows(&["stopped", "batch 3@1, committed", "counts as of batch 3@1: 3 rows", "bad rows", "late rows"]);
    terminal.press(b"t");
    terminal.shows(&["| device | count |"]);
    // to the left: the batch before
    terminal.press(b"\x1b[D");
    terminal.shows(&["counts as of batch 2@1: "]);
    terminal.press(b"\t");
    terminal.shows(&["traffic as of batch 2@1: "]);
    terminal.press(b"q");
    terminal.ends_well();
}

/// The difference of two batches, as `diff` has it; and what is promised.
#[test]
fn top_shows_what_changed_since_a_mark() {
    let folder = finished();
    let mut terminal = Terminal::start(&folder);
    terminal.shows(&[
        "counts as of batch 3@1: 3 rows",
        "exactly once: counts into memory[counts]",
        "at least once: query1",
    ]);
    terminal.press(b"\x1b[D\x1b[D\x1b[D");
    terminal.shows(&["counts as of batch 0@1: "]);
    terminal.press(b"m");
    terminal.shows(&["counts: 0 changes since batch 0@1", "as of batch 0@1", "0@1*"]);
    terminal.press(b"n");
    let words = ["diff", "checkpoint", "--from", "0", "--to", "3", "--query", "counts", "--output", "json"];
    let changes = folder.call(&words).expect(0).json();
    let title = format!("counts: {} changes since batch 0@1", changes.len());
    let screen = terminal.shows(&[&title, "as of batch 3@1", "| device | count at 0 | count at 3 |"]);
    for change in &changes {
        let device = change["key"]["device"].as_str().expect("a name");
        let count = |side: &str| match &change[side]["count"] {
            serde_json::Value::Null => "NULL".to_owned(),
            count => count.to_string(),
        };
        let row = format!("| {device:<6} | {:>10} | {:>10} |", count("from"), count("to"));
        assert!(screen.contains(&row), "{row}\n{screen}");
    }
    terminal.press(b"m");
    terminal.shows(&["counts as of batch 3@1: 3 rows"]);
    terminal.press(b"q");
    terminal.ends_well();
}

/// A batch that takes its time is work, though its commit is old; what cannot be known from the log is asked of the job.
#[test]
fn top_shows_the_batch_at_work_and_since_when_the_job_runs() {
    let folder = fixture_of(
        "CREATE TABLE flows (device STRING, port STRING, bytes BIGINT)
           WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');
         CREATE TABLE told WITH (connector = 'command', output_mode = 'append',
           command = 'until [ -e $HIGHWATER_BATCH.go ]; do sleep 0.05; done');
         INSERT INTO told SELECT device FROM flows;",
    );
    let running = Running::start(&mut folder.run_command(&[]));
    let began = Instant::now();
    while !folder.at("checkpoint/socket").exists() {
        assert!(began.elapsed() < HANGS_AFTER, "the job does not start");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let mut terminal = Terminal::start(&folder);
    // the batch is committed, and its program runs
    terminal.shows(&[
        "catching up  up ",
        "batch 0 at work, ",
        "batch 0@1, committed ",
        "at least once: told into command[",
    ]);
    for batch in 0..4 {
        folder.write(&format!("{batch}.go"), b"");
    }
    terminal.shows(&["batch 3@1, committed ", "  idle  up "]);
    running.signal(libc::SIGINT);
    running.wait().expect(0);
    terminal.shows(&["  stopped  checkpoint"]);
    terminal.press(b"q");
    terminal.ends_well();
}

#[test]
fn a_narrow_terminal_shows_whole_columns() {
    let folder = finished();
    let known = ["batch", "committed", "rows", "bad", "late", "ms", "files"];
    for (columns, there, left_out) in
        [(60, &known[..3], &known[6..]), (80, &known[..6], &known[6..]), (140, &known[..], &known[7..])]
    {
        let mut terminal = Terminal::of_columns(&folder, columns);
        let screen = terminal.shows(&["counts as of batch 3@1", "batch 3@1, committed", "q quit"]);
        let header = screen.lines().find(|line| line.contains("batch committed")).expect("the table of batches");
        let left: String = header.chars().take(usize::from(columns) / 2).collect();
        let words: Vec<&str> = left.split([' ', '\u{2502}']).filter(|word| !word.is_empty()).collect();
        assert!(words.iter().all(|word| known.contains(word)), "{columns}: {words:?}\n{screen}");
        assert!(there.iter().all(|word| words.contains(word)), "{columns}: {words:?}\n{screen}");
        assert!(!left_out.iter().any(|word: &&str| words.contains(word)), "{columns}: {words:?}\n{screen}");
        terminal.press(b"q");
        terminal.ends_well();
    }
}

#[test]
fn a_signal_ends_top_and_the_terminal_is_as_it_was() {
    let folder = finished();
    let mut terminal = Terminal::start(&folder);
    terminal.shows(&["counts as of batch 3@1"]);
    // SAFETY: the process was started here and is not waited for yet.
    assert_eq!(unsafe { libc::kill(terminal.child.id() as i32, libc::SIGTERM) }, 0);
    terminal.ends_well();
}

#[test]
fn without_a_terminal_or_a_checkpoint_top_says_what_there_is() {
    let folder = fixture();
    let refused = folder.call(&["top", "checkpoint"]).expect(2);
    assert!(
        refused.stderr.contains("top wants a terminal") && refused.stderr.contains("log --json"),
        "{}",
        refused.stderr
    );
    let mut terminal = Terminal::start(&folder);
    let status = terminal.ends();
    assert_eq!(status.code(), Some(3), "{}", terminal.text);
    assert!(!terminal.text.contains(TAKEN), "{}", terminal.text);
}
