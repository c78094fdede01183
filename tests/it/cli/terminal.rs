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

use super::{finished, fixture};
use crate::binary::{Folder, HANGS_AFTER, executable};

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
}

impl Terminal {
    fn start(folder: &Folder) -> Terminal {
        let (mut ours, mut theirs) = (-1, -1);
        let size = libc::winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
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
        Terminal { child, end: File::from(ours), text: String::new() }
    }

    /// Reads until all of these are on the screen.
    fn shows(&mut self, parts: &[&str]) {
        let since = Instant::now();
        loop {
            let screen = on_screen(&self.text);
            if parts.iter().all(|part| screen.contains(part)) {
                return;
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
fn on_screen(sent: &str) -> String {
    let mut screen = vec![vec![' '; usize::from(COLUMNS)]; usize::from(ROWS)];
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
