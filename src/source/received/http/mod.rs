//! A small server that takes rows. A request is answered with 200 only when its rows are durable.
//!
//! It is meant for programs: a page in somebody's browser cannot use it (`Host` must be this machine where it listens on
//! loopback, and `Origin` is refused without a token). Everything about a request has a limit. A connection has a thread of
//! its own: they are few, and most of the time they wait for the disk.

mod request;
mod room;

use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use self::{
    request::{Connection, Deadline, Head, Problem, Wire},
    room::Room,
};
use super::{
    Clock, Notices,
    frame::KEY_BYTES_MAX,
    log::{ReceiveLog, Taken},
};
use crate::{
    job::{HttpSpec, Token},
    model::{Error, Result},
};

/// Connections at a time; more wait in the operating system.
const CONNECTIONS_MAX: usize = 32;
/// A connection on which no whole head of a request comes in this time is closed.
const HEAD_LONGEST: Duration = Duration::from_secs(10);
const BODY_LONGEST: Duration = Duration::from_secs(30);
const ANSWER_LONGEST: Duration = Duration::from_secs(10);
/// What bodies take of memory together, unless a single one may be larger.
const BODIES_BYTES: u64 = 64 << 20;
/// How long a connection that is closed with an error is read on, so that the answer is not lost with what was not read.
const LINGER_LONGEST: Duration = Duration::from_millis(500);
/// How often the server looks whether the job is stopping, or a connection is there.
const LOOK: Duration = Duration::from_millis(20);

/// What every request is answered with.
struct Server {
    log: ReceiveLog,
    token: Option<Token>,
    body_bytes_max: u64,
    /// For bodies of all connections.
    room: Room,
    /// Whether only this machine can reach it.
    is_loopback: bool,
    passed_us: Clock,
    /// How many connections there are.
    connections: AtomicUsize,
}

/// An answer; nothing else follows on the connection, if it says so.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: &'static str,
    text: String,
    last: bool,
}

/// Checks that nobody but this machine can reach the server, or whoever does has to show a token.
///
/// # Errors
/// Of kind `Usage`, where that is not so, or the address means nothing.
pub(super) fn check(spec: &HttpSpec) -> Result<Vec<SocketAddr>> {
    let cannot = |why: String| Error::usage(format!("there is no listening on '{}'", spec.listen)).because(why);
    let addresses: Vec<SocketAddr> =
        spec.listen.to_socket_addrs().map_err(|error| cannot(error.to_string()))?.collect();
    if spec.token.is_none() && addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err(Error::usage("an address that others can reach needs a token")
            .because(format!("whoever reaches '{}' could send rows", spec.listen))
            .help("add token = '${env:NAME}' and set NAME in the environment, or listen on 127.0.0.1"));
    }
    Ok(addresses)
}

/// Begins to listen.
///
/// # Errors
/// As [`check`]; of kind `Failed`, where the address is taken.
pub(super) fn listen(spec: &HttpSpec) -> Result<TcpListener> {
    let addresses = check(spec)?;
    let listener = TcpListener::bind(&addresses[..]).and_then(|listener| {
        // so that a stop is seen while nobody connects
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| {
        Error::failed(format!("there is no listening on '{}'", spec.listen))
            .because(error.to_string())
            .help("stop what listens there, or choose another port")
    })
}

/// Serves until nothing more should be received.
///
/// # Errors
/// Where the listener says no more than errors.
pub(super) fn receive(
    log: ReceiveLog,
    listener: &TcpListener,
    spec: &HttpSpec,
    passed_us: Clock,
    notices: &Notices,
) -> io::Result<()> {
    let is_loopback = listener.local_addr()?.ip().is_loopback();
    let (token, body_bytes_max, connections) = (spec.token.clone(), spec.body_bytes_max, AtomicUsize::new(0));
    let room = Room::of(BODIES_BYTES.max(body_bytes_max));
    let server = Arc::new(Server { log, token, body_bytes_max, room, is_loopback, passed_us, connections });
    let mut told = None;
    while !server.log.is_stopping() {
        if server.connections.load(Ordering::Acquire) >= CONNECTIONS_MAX {
            std::thread::sleep(LOOK);
            continue;
        }
        match listener.accept() {
            Ok((stream, _)) => {
                told = None;
                let connected = Connected::new(Arc::clone(&server));
                let spawned = std::thread::Builder::new()
                    .name("receive-http".to_owned())
                    .spawn(move || connected.converse(stream));
                if let Err(error) = spawned {
                    tracing::warn!(%error, "there is no thread for a connection");
                }
            }
            Err(error) => {
                let is_usual = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted);
                // out of descriptors: nobody is heard until there are some
                if !is_usual && told != Some(error.kind()) {
                    told = Some(error.kind());
                    notices.tell(format!("no connection is accepted on {} ({error}); trying again", spec.listen));
                }
                std::thread::sleep(LOOK);
            }
        }
    }
    Ok(())
}

/// Counts as a connection as long as it lives.
struct Connected(Arc<Server>);

impl Connected {
    fn new(server: Arc<Server>) -> Connected {
        server.connections.fetch_add(1, Ordering::AcqRel);
        Connected(server)
    }

    fn converse(&self, stream: TcpStream) {
        self.0.converse(stream);
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Server {
    /// One request after the other.
    fn converse(&self, stream: TcpStream) {
        let set_up = stream.set_nonblocking(false).and_then(|()| stream.set_write_timeout(Some(ANSWER_LONGEST)));
        if let Err(error) = set_up.and_then(|()| stream.set_nodelay(true)) {
            tracing::debug!(%error, "a connection cannot be used");
            return;
        }
        let mut connection = Connection::new(stream);
        loop {
            let deadline = Deadline::after(HEAD_LONGEST, self.passed_us);
            let answered = match connection.head(&deadline, &|| self.log.is_stopping()) {
                Ok(head) => self.answer(&head, &mut connection),
                Err(problem) => Err(problem),
            };
            let answer = match answered {
                Ok(answer) => answer,
                Err(Problem::Gone) => return,
                Err(Problem::Bad(status, why)) => refusal(status, why),
            };
            if connection.wire.write_all(&answer.encode()).is_err() || answer.last {
                linger(&mut connection.wire, self.passed_us);
                return;
            }
        }
    }

    /// The answer to a request. What is refused before its body was read ends the connection.
    fn answer(&self, head: &Head, connection: &mut Connection<TcpStream>) -> std::result::Result<Answer, Problem> {
        if let Err(refusal) = self.check_sender(head).and_then(|()| self.check_request(head)) {
            return Ok(refusal);
        }
        if self.log.is_full() {
            return Ok(self.unavailable());
        }
        let key = match head.all("idempotency-key").count() {
            0 => &b""[..],
            _ => head
                .one("idempotency-key")
                .filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()))
                .ok_or(Problem::Bad(400, "an Idempotency-Key is one value of 1 to 255 bytes"))?,
        };
        if head.expects {
            connection.wire.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").map_err(|_| Problem::Gone)?;
        }
        let deadline = Deadline::after(BODY_LONGEST, self.passed_us);
        // it is given back when the rows are durable
        let mut share = self.room.share();
        let body = connection.body(head.body, self.body_bytes_max, &mut share, &deadline)?;
        let mut answer = self.take(with_line_end(body), key);
        answer.last |= head.last;
        Ok(answer)
    }

    /// Makes rows durable.
    fn take(&self, rows: Vec<u8>, key: &[u8]) -> Answer {
        let count = rows.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
        if count == 0 {
            return accepted(0, false);
        }
        // others may have filled it since this request began
        if self.log.is_full() {
            return self.unavailable();
        }
        match self.log.append(&rows, key) {
            Ok(Taken::New) => accepted(count, false),
            Ok(Taken::Repeated) => accepted(count, true),
            Ok(Taken::OtherRows) => Answer {
                last: false,
                ..refusal(422, "other rows came under this Idempotency-Key before: each request needs a key of its own")
            },
            // whoever runs the job is told why by the log itself
            Err(_) => self.unavailable(),
        }
    }

    /// Whether whoever sends may do so.
    fn check_sender(&self, head: &Head) -> std::result::Result<(), Answer> {
        let host = head.one("host").and_then(|host| std::str::from_utf8(host).ok());
        if !host.is_some_and(|host| !host.is_empty() && (!self.is_loopback || is_this_machine(host))) {
            return Err(refusal(421, "the Host is not this server"));
        }
        match &self.token {
            Some(token) if !head.one("authorization").is_some_and(|shown| shows(shown, token)) => {
                let headers = "WWW-Authenticate: Bearer\r\n";
                Err(Answer { headers, ..refusal(401, "send Authorization: Bearer and the token") })
            }
            None if head.all("origin").count() > 0 => {
                Err(refusal(403, "rows of web pages are not taken without a token"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is a request that there is an answer to.
    fn check_request(&self, head: &Head) -> std::result::Result<(), Answer> {
        if head.target != "/" {
            return Err(refusal(404, "rows are posted to /"));
        }
        if head.method != "POST" {
            return Err(Answer { headers: "Allow: POST\r\n", ..refusal(405, "rows are sent with POST") });
        }
        if head.all("content-encoding").any(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
            return Err(refusal(415, "the body must not be compressed"));
        }
        Ok(())
    }

    /// It may be otherwise in a moment: the log is full, or the job is stopping.
    fn unavailable(&self) -> Answer {
        let why = match self.log.is_stopping() {
            true => "the job is stopping",
            false => "the receive log is full: the job has to catch up",
        };
        refusal(503, why)
    }
}

/// Lets the peer read the answer: a connection that is closed while bytes are unread is reset, and the answer lost.
fn linger(stream: &mut TcpStream, passed_us: Clock) {
    let mut rest = [0; 4096];
    if stream.shutdown(std::net::Shutdown::Write).is_err() {
        return;
    }
    let deadline = Deadline::after(LINGER_LONGEST, passed_us);
    while let Some(left) = deadline.left() {
        let read = stream.wait_at_most(left).and_then(|()| io::Read::read(stream, &mut rest));
        if !read.is_ok_and(|count| count > 0) {
            return;
        }
    }
}

/// Whether a name in `Host` is this machine as seen from itself.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether `Authorization` shows the token. Hashes are compared, so that the time it takes tells nothing of the token.
fn shows(authorization: &[u8], token: &Token) -> bool {
    let shown = authorization.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
    shown.is_some_and(|(_, shown)| blake3::hash(shown.trim_ascii()) == blake3::hash(token.reveal().as_bytes()))
}

/// The rows of a body, of which the last may lack its line end.
fn with_line_end(mut body: Vec<u8>) -> Vec<u8> {
    if !body.ends_with(b"\n") {
        body.push(b'\n');
    }
    body
}

/// Lines, since how many rows one is only its format knows: it may hold an array of them, or none that can be read.
fn accepted(lines: usize, repeated: bool) -> Answer {
    let repeated = if repeated { ", \"repeated\": true" } else { "" };
    Answer { status: 200, headers: "", text: format!("{{\"lines\": {lines}{repeated}}}\n"), last: false }
}

fn refusal(status: u16, why: &str) -> Answer {
    let headers = if status == 503 { "Retry-After: 1\r\n" } else { "" };
    Answer { status, headers, text: format!("{{\"error\": \"{why}\"}}\n"), last: true }
}

impl Answer {
    fn encode(&self) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            413 => "Content Too Large",
            415 => "Unsupported Media Type",
            421 => "Misdirected Request",
            422 => "Unprocessable Content",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "Bad Request",
        };
        let Answer { status, headers, text, last } = self;
        let close = if *last { "Connection: close\r\n" } else { "" };
        let length = text.len();
        format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}{close}\r\n{text}"
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_this_machine() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.2:1", "[::1]:80", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["", "example.com", "localhost.example.com:80", "127.0.0.1.example.com", "10.0.0.1", "[::2]", ":80"]
        {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn an_address_that_others_reach_needs_a_token() {
        let spec = |listen: &str, token: Option<&str>| HttpSpec {
            listen: listen.to_owned(),
            token: token.map(Token::new),
            body_bytes_max: 1,
        };
        assert!(check(&spec("127.0.0.1:0", None)).is_ok());
        assert!(check(&spec("0.0.0.0:0", Some("x"))).is_ok());
        let error = check(&spec("0.0.0.0:0", None)).unwrap_err();
        assert!(error.to_string().contains("${env:NAME}"), "{error}");
    }

    #[test]
    fn a_token_is_shown_whole() {
        let token = Token::new("hush");
        assert!(shows(b"Bearer hush", &token) && shows(b"bearer  hush", &token));
        for value in ["hush", "Bearer hus", "Bearer hushh", "Basic hush", "Bearer", ""] {
            assert!(!shows(value.as_bytes(), &token), "{value}");
        }
    }

    #[test]
    fn the_last_row_needs_no_end() {
        assert_eq!(with_line_end(b"a\nb".to_vec()), b"a\nb\n");
        assert_eq!(with_line_end(b"a\n".to_vec()), b"a\n");
    }
}
