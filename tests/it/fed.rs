//! A standard input in pieces, each of which is received, made durable and closed into a segment by itself, and is a batch of
//! its own: so batches are the same whatever is killed when, and what did not arrive can be given again.

use std::{
    fs,
    io::Write as _,
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::Stdio,
    time::Duration,
};

/// The source's options in a job that takes one file after the other, ...
pub const FILES: &str = "connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1'";
/// ... and of one that takes one piece after the other: each segment is closed at once, and is a batch.
const ONE_EACH: &str = "batch_interval = '20 ms', batch_bytes = '1', max_bytes_per_trigger = '1'";

/// Fields of progress that depend on how much had come when a batch was planned.
pub const OF_ARRIVAL: [&str; 2] = ["filesLeft", "latestOffset"];

/// Whether what is a file elsewhere comes in pieces, some way or other.
pub fn is_received(sql: &str) -> bool {
    sql.contains(ONE_EACH)
}

/// The same job over what is posted to this port, each request a piece.
pub fn over_http(sql: &str, port: u16) -> String {
    assert!(sql.contains(FILES), "the job takes one file after the other");
    sql.replace(FILES, &format!("connector = 'http', listen = '127.0.0.1:{port}', format = 'json', {ONE_EACH}"))
}

/// The same job over its standard input.
pub fn over_stdin(sql: &str) -> String {
    assert!(sql.contains(FILES), "the job takes one file after the other");
    sql.replace(FILES, &format!("connector = 'stdin', format = 'json', {ONE_EACH}"))
}

/// A standard input of which each read yields one piece.
pub fn pieces(pieces: Vec<String>) -> Stdio {
    pieces_after(Duration::ZERO, pieces)
}

/// The same, whose first piece comes so late.
pub fn pieces_after(delay: Duration, pieces: Vec<String>) -> Stdio {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `ends` has room for two descriptors.
    let made = unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) };
    assert_eq!(made, 0, "a pair of sockets: {}", std::io::Error::last_os_error());
    // SAFETY: both were just made, and are nobody else's.
    let [ours, theirs] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
    std::thread::spawn(move || {
        let mut ours = UnixStream::from(ours);
        std::thread::sleep(delay);
        // a job that was killed takes no more
        pieces.iter().all(|piece| ours.write_all(piece.as_bytes()).is_ok())
    });
    Stdio::from(theirs)
}

/// How many pieces a job has received: known once it was started, and ended, with nothing on its standard input.
pub fn received(checkpoint: &Path) -> usize {
    let Ok(segments) = fs::read_dir(checkpoint.join("received/flows")) else { return 0 };
    let number = |name: String| name.strip_suffix(".frames").and_then(|number| number.parse::<usize>().ok());
    let names = segments.map(|entry| entry.expect("it is listed").file_name().to_string_lossy().into_owned());
    names.filter_map(number).max().map_or(0, |newest| newest + 1)
}
