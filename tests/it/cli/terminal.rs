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

/// `top` over a checkpoint, and the other end of its terminal.
struct Terminal {
    child: Child,
    end: File,
    text: String,
}

impl Terminal {
    fn start(folder: &Folder) -> Terminal {
        let (mut ours, mut theirs) = (-1, -1);
        let size = libc::winsize { ws_row: 30, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
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

    /// Reads until all of these were shown, behind what was read before.
    fn shows(&mut self, parts: &[&str]) {
        let since = Instant::now();
        let from = self.text.len();
        while !parts.iter().all(|part| self.text[from..].contains(part)) {
            assert!(since.elapsed() < HANGS_AFTER, "{parts:?} are not shown: {}", self.text);
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

#[test]
fn top_shows_a_stopped_job_and_takes_keys() {
    let folder = finished();
    let mut terminal = Terminal::start(&folder);
    terminal.shows(&["stopped", "batch 3@0", "counts as of batch 3@0: 3 rows", "bad and late rows"]);
    terminal.press(b"t");
    terminal.shows(&["device", "count"]);
    // to the left: the batch before
    terminal.press(b"\x1b[D");
    terminal.shows(&["2@0: "]);
    terminal.press(b"\t");
    terminal.shows(&["traffic"]);
    terminal.press(b"q");
    terminal.ends_well();
}

#[test]
fn a_signal_ends_top_and_the_terminal_is_as_it_was() {
    let folder = finished();
    let mut terminal = Terminal::start(&folder);
    terminal.shows(&["counts as of batch 3@0"]);
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
    terminal.shows(&["checkpoint"]);
    let status = terminal.ends();
    assert_eq!(status.code(), Some(3), "{}", terminal.text);
    assert!(!terminal.text.contains(TAKEN), "{}", terminal.text);
}
