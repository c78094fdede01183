//! Lines that are served to whoever connects, as a live source would send them; what `nc -lk PORT` does with a keyboard.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    num::NonZeroU32,
    time::Duration,
};

use super::{FilesOptions, Lines, messages::Messages, text::Text};
use crate::{
    batch::clock::Stopwatch,
    model::{Error, Result},
};

/// What the lines are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveContent {
    /// Short messages with hashtags, one JSON object a line.
    Messages,
    /// Sentences.
    Text,
}

/// How lines are served.
#[derive(Debug, Clone, Copy)]
pub struct LiveOptions {
    pub content: LiveContent,
    /// On loopback.
    pub port: u16,
    /// In all; then it ends.
    pub rows: u64,
    pub rows_per_second: NonZeroU32,
    /// The same seed gives the same lines.
    pub seed: u64,
}

/// The longest pause between two looks at the clock.
const PAUSE: Duration = Duration::from_millis(20);

/// Serves lines to one peer after the other, each going on where the one before it broke off, until all are sent. `tell` is
/// told what happens. What was given to a connection that broke is gone: nobody can know how much of it arrived.
///
/// # Errors
/// Of kind `Failed`, where the port is taken.
pub fn serve(options: &LiveOptions, tell: &mut dyn FnMut(&str)) -> Result<u64> {
    let cannot = |error: &io::Error| {
        Error::failed(format!("there is no listening on port {}", options.port)).because(error.to_string())
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).map_err(|error| cannot(&error))?;
    let files = FilesOptions { files: 1, rows: u32::MAX, seed: options.seed };
    let mut lines: Box<dyn Lines> = match options.content {
        LiveContent::Messages => Box::new(Messages::new(&files, 0)),
        LiveContent::Text => Box::new(Text::new(&files, 0)),
    };
    let port = listener.local_addr().map_or(options.port, |address| address.port());
    tell(&format!("serving {} lines on 127.0.0.1:{port}", options.rows));
    let mut sent = 0;
    while sent < options.rows {
        let (stream, peer) = listener.accept().map_err(|error| cannot(&error))?;
        tell(&format!("{peer} connected"));
        if let Err(error) = feed(stream, lines.as_mut(), options, &mut sent) {
            tell(&format!("{peer} is gone after {sent} lines: {error}"));
        }
    }
    Ok(sent)
}

/// Sends as many lines as are due, until all are sent.
fn feed(mut stream: TcpStream, lines: &mut dyn Lines, options: &LiveOptions, sent: &mut u64) -> io::Result<()> {
    let (watch, before) = (Stopwatch::start(), *sent);
    let mut buffer = Vec::new();
    while *sent < options.rows {
        let due = before
            + (watch.elapsed().as_micros() as u64).saturating_mul(options.rows_per_second.get().into()) / 1_000_000;
        buffer.clear();
        for _ in *sent..due.min(options.rows) {
            lines.push(&mut buffer);
        }
        *sent = due.min(options.rows).max(*sent);
        stream.write_all(&buffer)?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn lines_go_on_where_a_connection_ended() {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let options = LiveOptions {
            content: LiveContent::Messages,
            port: free.port(),
            rows: 50,
            rows_per_second: NonZeroU32::new(1000).unwrap(),
            seed: 1,
        };
        let server = std::thread::spawn(move || serve(&options, &mut |_| {}));
        let mut stream = loop {
            match TcpStream::connect(free) {
                Ok(stream) => break stream,
                Err(_) => std::thread::sleep(PAUSE),
            }
        };
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!((text.lines().count(), server.join().unwrap().unwrap()), (50, 50));
        assert!(text.lines().all(|line| line.starts_with("{\"time\": ") && line.ends_with("\"}")), "{text}");
    }
}
