//! Reading one request after the other from a connection, within limits: what HTTP/1.1 allows and rows need, no more.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use super::{super::Clock, room::Share};

const HEADERS_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The line that says how long a chunk is.
const CHUNK_LINE_BYTES_MAX: usize = 256;
const READ_BYTES: usize = 64 << 10;
/// How often a wait is interrupted, to see whether it is over.
const LOOK: Duration = Duration::from_millis(200);

/// A connection that can be waited for.
pub(super) trait Wire: Read + Write {
    /// How long the next read waits at most; then it says `WouldBlock` or `TimedOut`.
    fn wait_at_most(&mut self, longest: Duration) -> io::Result<()>;
}

impl Wire for TcpStream {
    fn wait_at_most(&mut self, longest: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(longest))
    }
}

/// A moment after which nothing is waited for.
pub(super) struct Deadline {
    passed_us: Clock,
    until_us: i64,
}

impl Deadline {
    pub fn after(longest: Duration, passed_us: Clock) -> Deadline {
        let longest_us = i64::try_from(longest.as_micros()).unwrap_or(i64::MAX);
        Deadline { passed_us, until_us: passed_us().saturating_add(longest_us) }
    }

    /// `None`: it is over.
    pub fn left(&self) -> Option<Duration> {
        let left_us = self.until_us.saturating_sub((self.passed_us)());
        u64::try_from(left_us).ok().filter(|left| *left > 0).map(Duration::from_micros)
    }
}

/// Why there is no request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The peer is gone, or has said nothing for too long: nobody needs an answer.
    Gone,
    /// To be answered with this status, and closed.
    Bad(u16, &'static str),
}

/// A request without its body.
#[derive(Debug)]
pub(super) struct Head {
    pub method: String,
    /// As sent.
    pub target: String,
    /// Names in small letters.
    headers: Vec<(String, Vec<u8>)>,
    pub body: BodyLength,
    /// Whether the peer wants no other request on this connection.
    pub last: bool,
    /// Whether the peer sends the body only when it is asked to.
    pub expects: bool,
}

/// How long the body of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyLength {
    Bytes(u64),
    Chunked,
}

impl Head {
    /// All values of a header.
    pub fn all<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
        self.headers.iter().filter(move |(header, _)| header == name).map(|(_, value)| value.trim_ascii())
    }

    /// The only value of a header; `None`: it is not there, or there are several.
    pub fn one<'h>(&'h self, name: &'h str) -> Option<&'h [u8]> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }
}

/// A connection, and what was read of it beyond the last request.
pub(super) struct Connection<W> {
    pub wire: W,
    rest: Vec<u8>,
}

impl<W: Wire> Connection<W> {
    pub fn new(wire: W) -> Connection<W> {
        Connection { wire, rest: Vec::new() }
    }

    /// The next request's head. `stop`: no new request is taken.
    pub fn head(&mut self, deadline: &Deadline, stop: &dyn Fn() -> bool) -> Result<Head, Problem> {
        loop {
            if let Some((head, length)) = parse(&self.rest)?.filter(|(_, length)| *length <= HEAD_BYTES_MAX) {
                self.rest.drain(..length);
                return Ok(head);
            }
            if self.rest.len() >= HEAD_BYTES_MAX {
                return Err(Problem::Bad(431, "the head of the request is too long"));
            }
            // a request that has begun may end
            let is_idle = self.rest.is_empty();
            self.fill(deadline, &|| is_idle && stop())?;
        }
    }

    /// The body of a request, of at most `bytes_max` bytes, if there is room for it.
    pub fn body(
        &mut self,
        length: BodyLength,
        bytes_max: u64,
        share: &mut Share<'_>,
        deadline: &Deadline,
    ) -> Result<Vec<u8>, Problem> {
        match length {
            BodyLength::Bytes(length) if length > bytes_max => Err(Problem::Bad(413, "the body is too large")),
            BodyLength::Bytes(length) => {
                let body = self.take(length, share, deadline)?;
                // what follows is another request; the body is not copied
                let rest = self.rest.split_off(body);
                Ok(std::mem::replace(&mut self.rest, rest))
            }
            BodyLength::Chunked => self.chunks(bytes_max, share, deadline),
        }
    }

    fn chunks(&mut self, bytes_max: u64, share: &mut Share<'_>, deadline: &Deadline) -> Result<Vec<u8>, Problem> {
        let bad = || Problem::Bad(400, "the chunks of the body are broken");
        let mut body = Vec::new();
        loop {
            let line = self.line(deadline)?;
            let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            let digits =
                std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let length = digits.and_then(|text| u64::from_str_radix(text, 16).ok()).ok_or_else(bad)?;
            if length == 0 {
                break;
            }
            if length > bytes_max.saturating_sub(body.len() as u64) {
                return Err(Problem::Bad(413, "the body is too large"));
            }
            let count = self.take(length, share, deadline)?;
            body.extend(self.rest.drain(..count));
            if !self.line(deadline)?.is_empty() {
                return Err(bad());
            }
        }
        for _ in 0..HEADERS_MAX {
            if self.line(deadline)?.is_empty() {
                return Ok(body);
            }
        }
        Err(bad())
    }

    /// A line without its end.
    fn line(&mut self, deadline: &Deadline) -> Result<Vec<u8>, Problem> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.rest) {
                let mut line: Vec<u8> = self.rest.drain(..=end).collect();
                line.pop();
                line.pop_if(|byte| *byte == b'\r');
                return Ok(line);
            }
            if self.rest.len() > CHUNK_LINE_BYTES_MAX {
                return Err(Problem::Bad(400, "the chunks of the body are broken"));
            }
            self.fill(deadline, &|| false)?;
        }
    }

    /// Reads until so many bytes are there; how many that is.
    fn take(&mut self, bytes: u64, share: &mut Share<'_>, deadline: &Deadline) -> Result<usize, Problem> {
        if !share.grow(bytes) {
            return Err(Problem::Bad(503, "there is no room for the body before others are done"));
        }
        let count = usize::try_from(bytes).unwrap_or(usize::MAX);
        while self.rest.len() < count {
            self.fill(deadline, &|| false)?;
        }
        Ok(count)
    }

    /// Reads something more.
    fn fill(&mut self, deadline: &Deadline, stop: &dyn Fn() -> bool) -> Result<(), Problem> {
        let before = self.rest.len();
        loop {
            let Some(left) = deadline.left().filter(|_| !stop()) else {
                return Err(if before > 0 { Problem::Bad(408, "the request took too long") } else { Problem::Gone });
            };
            self.wire.wait_at_most(left.min(LOOK)).map_err(|_| Problem::Gone)?;
            self.rest.resize(before + READ_BYTES, 0);
            let read = self.wire.read(&mut self.rest[before..]);
            self.rest.truncate(before + read.as_ref().map_or(0, |count| *count));
            match read {
                Ok(0) => return Err(Problem::Gone),
                Ok(_) => return Ok(()),
                Err(error) if is_no_news(&error) => {}
                Err(_) => return Err(Problem::Gone),
            }
        }
    }
}

fn is_no_news(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The head that the bytes begin with, and its length; `None`: it is not all there.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Problem> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Problem::Bad(431, "there are too many headers")),
        Err(_) => return Err(Problem::Bad(400, "this is no request of HTTP/1.1")),
    };
    let headers = request.headers.iter().map(|header| (header.name.to_ascii_lowercase(), header.value.to_vec()));
    let mut head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        headers: headers.collect(),
        body: BodyLength::Bytes(0),
        last: request.version != Some(1),
        expects: false,
    };
    head.body = body_length(&head)?;
    let closes = head.all("connection").any(|value| value.eq_ignore_ascii_case(b"close"));
    head.last |= closes;
    head.expects = head.one("expect").is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
    Ok(Some((head, length)))
}

/// Where the body ends must be said once, and in one way: else a proxy could see another request than we do.
fn body_length(head: &Head) -> Result<BodyLength, Problem> {
    let (mut encodings, mut lengths) = (head.all("transfer-encoding"), head.all("content-length"));
    match (encodings.next(), lengths.next()) {
        (None, None) => Ok(BodyLength::Bytes(0)),
        (Some(encoding), None) if encodings.next().is_none() && encoding.eq_ignore_ascii_case(b"chunked") => {
            Ok(BodyLength::Chunked)
        }
        (None, Some(length)) if lengths.next().is_none() => {
            let digits = std::str::from_utf8(length).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let length = digits.and_then(|text| text.parse().ok());
            length.map(BodyLength::Bytes).ok_or(Problem::Bad(400, "the length of the body is no number"))
        }
        _ => Err(Problem::Bad(400, "where the body ends is said in more than one way")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::room::Room, *};

    /// Bytes that come in steps of a size.
    struct Steps<'a>(&'a [u8], usize);

    impl Read for Steps<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let (now, later) = self.0.split_at(self.1.min(self.0.len()).min(buffer.len()));
            buffer[..now.len()].copy_from_slice(now);
            self.0 = later;
            Ok(now.len())
        }
    }

    impl Write for Steps<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Wire for Steps<'_> {
        fn wait_at_most(&mut self, _: Duration) -> io::Result<()> {
            Ok(())
        }
    }

    fn deadline() -> Deadline {
        Deadline::after(Duration::from_secs(1), || 0)
    }

    /// All requests in some bytes: method and body, and what ends them.
    fn all(bytes: &[u8], step: usize) -> (Vec<(String, Vec<u8>)>, Problem) {
        let mut connection = Connection::new(Steps(bytes, step));
        let mut found = Vec::new();
        loop {
            let head = match connection.head(&deadline(), &|| false) {
                Ok(head) => head,
                Err(problem) => return (found, problem),
            };
            match connection.body(head.body, 10, &mut Room::of(20).share(), &deadline()) {
                Ok(body) => found.push((head.method, body)),
                Err(problem) => return (found, problem),
            }
        }
    }

    #[test]
    fn requests_follow_each_other() {
        let bytes = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na\nbPOST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nT: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        for step in [1, 7, 1000] {
            let (found, end) = all(bytes, step);
            let bodies: Vec<_> = found.iter().map(|(method, body)| (method.as_str(), &body[..])).collect();
            assert_eq!(bodies, [("POST", &b"a\nb"[..]), ("POST", b"abc"), ("GET", b"")], "{step}");
            assert_eq!(end, Problem::Gone);
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (headers, status) in [
            ("Content-Length: 1\r\nContent-Length: 1\r\n", 400),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding: gzip, chunked\r\n", 400),
            ("Content-Length: +1\r\n", 400),
            ("Content-Length: 11\r\n", 413),
            ("Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n", 413),
            ("Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n", 400),
            ("Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
            (&"X: y\r\n".repeat(65), 431),
            (&format!("X: {}\r\n", "y".repeat(17 << 10)), 431),
            ("no header\r\n", 400),
        ] {
            let (_, end) = all(format!("POST / HTTP/1.1\r\n{headers}\r\n").as_bytes(), 500);
            assert!(matches!(end, Problem::Bad(found, _) if found == status), "{headers:.60}: {end:?}");
        }
    }

    #[test]
    fn a_deadline_ends_every_wait() {
        let late = Deadline { passed_us: || 10, until_us: 10 };
        let mut connection = Connection::new(Steps(b"", 1));
        assert_eq!(connection.head(&late, &|| false).unwrap_err(), Problem::Gone);
        connection.rest = b"POST".to_vec();
        assert!(matches!(connection.head(&late, &|| false).unwrap_err(), Problem::Bad(408, _)));
    }

    #[test]
    fn there_is_room_for_some_bodies_at_a_time() {
        let room = Room::of(8);
        let post = |length: BodyLength, bytes: &[u8], share: &mut Share<'_>| {
            Connection::new(Steps(bytes, 3)).body(length, 6, share, &deadline())
        };
        let mut first = room.share();
        assert_eq!(post(BodyLength::Bytes(5), b"12345", &mut first).unwrap(), b"12345");
        for (length, bytes) in
            [(BodyLength::Bytes(4), &b"1234"[..]), (BodyLength::Chunked, b"2\r\n12\r\n2\r\n34\r\n0\r\n\r\n")]
        {
            let refused = post(length, bytes, &mut room.share()).unwrap_err();
            assert!(matches!(refused, Problem::Bad(503, _)), "{refused:?}");
        }
        drop(first);
        assert_eq!(post(BodyLength::Bytes(6), b"123456", &mut room.share()).unwrap(), b"123456");
    }

    proptest! {
        /// No bytes make it panic, or read without end.
        #[test]
        fn whatever_comes_is_a_request_or_a_problem(bytes in proptest::collection::vec(any::<u8>(), 0..300), step in 1_usize..50) {
            let text = [b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", &bytes[..]].concat();
            prop_assert!(all(&bytes, step).0.len() < 100);
            prop_assert!(all(&text, step).0.len() < 100);
        }
    }
}
