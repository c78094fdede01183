//! Rows that are posted.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use super::{Job, counting, once, wait_until};
use crate::binary::Running;

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it is bound").port()
}

fn options(port: u16) -> String {
    format!("connector = 'http', listen = '127.0.0.1:{port}', format = 'json', batch_interval = '20 ms'")
}

/// The status, and all of the answer; `None`: there was none.
fn send(port: u16, head: &str, body: &[u8]) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket has options");
    let length =
        if head.contains("Content-Length") { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    stream.write_all(format!("{head}{length}\r\n").as_bytes()).ok()?;
    // a server that has said no may not read the body
    drop(stream.write_all(body));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text))
}

fn head(more: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}")
}

/// Posts rows; the status, and all of the answer; `None`: there was none.
pub fn post(port: u16, key: &str, body: &str) -> Option<(u16, String)> {
    let key = if key.is_empty() { String::new() } else { format!("Idempotency-Key: {key}\r\n") };
    send(port, &head(&key), body.as_bytes())
}

fn wait_for_server(port: u16) {
    wait_until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
}

fn rows(numbers: std::ops::Range<usize>) -> String {
    numbers.map(|number| format!("{{\"value\": \"row {number}.\"}}\n")).collect()
}

fn values(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("row {number}."))
}

#[test]
fn a_repeated_request_counts_once_whatever_is_killed() {
    let port = free_port();
    let job = Job::new(&counting(&options(port)));
    let points = [
        "checkpoint-built:1",
        "checkpoint-created:1",
        "open-copied:1",
        "open-renamed:1",
        "received-written:3",
        "received-durable:3",
        "segment-mended:1",
        "segment-sealed:2",
        "segment-written:2",
        "segment-begun:1",
        "segment-closed:1",
        "committed:2",
        "planned:2",
        "read:2",
        "stepped:1",
        "staged:2",
        "applied:2",
        "flushed:1",
        "published:2",
        "snapshot-written:1",
        "seal-written:1",
        "sealed:1",
        "live-replaced:1",
    ];
    let (mut sent, mut repeated) = (0, 0);
    let mut turn = 0;
    for point in points.into_iter().chain([""]) {
        let mut running = if point.is_empty() { job.start() } else { job.start_to_crash(point) };
        let mut asked = 0;
        while running.is_running() && asked < 40 {
            // the same request until it is answered, as a careful sender does
            if let Some((status, answer)) = post(port, &format!("key-{turn}"), &rows(sent..sent + 3)) {
                assert_eq!(status, 200, "{answer}");
                repeated += u32::from(answer.contains("repeated"));
                // and once more: it does no harm
                if let Some((status, answer)) = post(port, &format!("key-{turn}"), &rows(sent..sent + 3)) {
                    assert!(status == 200 && answer.contains("\"repeated\": true"), "{answer}");
                }
                (sent, turn, asked) = (sent + 3, turn + 1, asked + 1);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if point.is_empty() {
            // keys of every segment so far are known, after all these starts
            for old in 0..turn {
                let (status, answer) =
                    post(port, &format!("key-{old}"), &rows(old * 3..old * 3 + 3)).expect("it answers");
                assert!(status == 200 && answer.contains("repeated"), "{answer}");
            }
            let (status, answer) = post(port, "key-0", &rows(0..1)).expect("it answers");
            assert!(status == 422 && answer.contains("other rows"), "{answer}");
            running.signal(libc::SIGTERM);
            running.wait().expect(0);
        } else {
            assert!(running.wait().sober().was_killed(), "it comes to {point}");
        }
    }
    job.finish();
    once(&job.counts(), values(sent));
    job.verify();
    assert!(repeated > 0, "a request that was not answered was durable at least once");
}

#[test]
fn many_senders_at_once_share_the_disk() {
    let port = free_port();
    let job = Job::new(&counting(&options(port)));
    let running = job.start();
    wait_for_server(port);
    std::thread::scope(|scope| {
        for sender in 0..12 {
            scope.spawn(move || {
                for request in 0..10 {
                    let first = (sender * 10 + request) * 2;
                    let (status, answer) = post(port, "", &rows(first..first + 2)).expect("it answers");
                    assert_eq!(status, 200, "{answer}");
                }
            });
        }
    });
    // answered, so durable
    running.kill_after(Duration::ZERO);
    job.finish();
    once(&job.counts(), values(240));
}

#[test]
fn what_is_no_good_request_is_refused() {
    let port = free_port();
    let job = Job::new(&counting(&(options(port) + ", max_body_bytes = 1000")));
    let running = job.start();
    wait_for_server(port);
    let large = "x".repeat(5000);
    let many_headers: String = (0..100).map(|number| format!("X-{number}: 1\r\n")).collect();
    for (request, body, status) in [
        (head(""), "{\"value\": \"good\"}", 200),
        (head(""), "", 200),
        (head("").replace("localhost", "example.com"), "{}", 421),
        (head("").replace("Host: localhost\r\n", ""), "{}", 421),
        (head("Origin: http://example.com\r\n"), "{}", 403),
        (head("").replace("POST", "GET"), "", 405),
        (head("").replace("POST /", "POST /elsewhere"), "{}", 404),
        (head("Content-Encoding: gzip\r\n"), "{}", 415),
        (head(""), &large, 413),
        (head("Transfer-Encoding: chunked\r\nX-Content-Length: 0\r\n"), &format!("1388\r\n{large}\r\n0\r\n\r\n"), 413),
        (head(&format!("Idempotency-Key: {}\r\n", "k".repeat(300))), "{}", 400),
        (head("Idempotency-Key:\r\n"), "{}", 400),
        (head(&many_headers), "{}", 431),
        (head(&format!("X-Long: {}\r\n", "x".repeat(64 << 10))), "{}", 431),
    ] {
        let shown = request.chars().take(120).collect::<String>();
        let (answered, text) = send(port, &request, body.as_bytes()).unwrap_or_else(|| panic!("no answer to {shown}"));
        assert_eq!(answered, status, "{shown}: {text}");
    }
    let bad = post(port, "", "no json\n{\"value\": \"row\"}").expect("it answers");
    assert_eq!(bad.0, 200, "what a line means is for the batch to find out");
    assert!(bad.1.contains("{\"lines\": 2}"), "{}", bad.1);
    let several = post(port, "", "[{\"value\": \"one\"}, {\"value\": \"two\"}]\n\n").expect("it answers");
    assert!(several.1.contains("{\"lines\": 1}"), "a line may hold several rows: {}", several.1);
    running.signal(libc::SIGTERM);
    running.wait().expect(0);
    job.finish();
    let counts = job.counts();
    assert_eq!((counts.get("good"), counts.get("row"), counts.get("")), (Some(&1), Some(&1), Some(&1)), "{counts:?}");
    assert_eq!((counts.get("one"), counts.get("two")), (Some(&1), Some(&1)), "{counts:?}");
}

#[test]
fn a_full_log_is_said_so_and_room_is_made() {
    let port = free_port();
    let limited = options(port) + ", max_unread_bytes = '4KiB', batch_bytes = '1KiB'";
    let job = Job::new(&counting(&limited));
    let held = Running::start(&mut job.command(&["--interval", "1h"]));
    wait_for_server(port);
    let mut sent = 0;
    let refused = loop {
        let (status, answer) = post(port, "", &rows(sent..sent + 10)).expect("it answers");
        if status != 200 {
            break (status, answer.to_ascii_lowercase());
        }
        sent += 10;
        assert!(sent < 1000, "there is a limit");
    };
    assert_eq!(refused.0, 503, "{}", refused.1);
    assert!(refused.1.contains("retry-after: 1"), "{}", refused.1);
    held.kill_after(Duration::ZERO);
    let running = job.start();
    wait_for_server(port);
    wait_until("there is room", || post(port, "last", &rows(sent..sent + 1)).is_some_and(|(status, _)| status == 200));
    running.signal(libc::SIGTERM);
    running.wait().expect(0);
    job.finish();
    once(&job.counts(), values(sent + 1));
}

#[test]
fn others_need_the_token_and_nobody_is_shown_it() {
    let port = free_port();
    let open = options(port).replace("127.0.0.1", "0.0.0.0");
    let job = Job::new(&counting(&open));
    for words in [&["check", "job.sql"][..], &["run", "job.sql", "--checkpoint", "checkpoint"]] {
        let refused = job.call(words);
        assert!(refused.code() == Some(2) && refused.stderr.contains("needs a token"), "{}", refused.stderr);
    }
    job.0.write("job.sql", counting(&(open + ", token = '${env:SECRET}'")).as_bytes());
    let running = Running::start(job.command(&["-v"]).env("SECRET", "hush-hush"));
    wait_for_server(port);
    let row = "{\"value\": \"row 0.\"}";
    let ask = |more: &str| send(port, &head(more), row.as_bytes()).expect("it answers");
    let wrong = ask("Authorization: Bearer hush\r\n");
    assert!(wrong.0 == 401 && wrong.1.to_ascii_lowercase().contains("www-authenticate: bearer"), "{}", wrong.1);
    assert_eq!(ask("").0, 401);
    assert_eq!(ask("Authorization: Bearer hush-hush\r\n").0, 200);
    job.wait_for_receipt("lines", "row 0.");
    running.signal(libc::SIGTERM);
    let ended = running.wait().expect(0);
    assert!(!ended.stderr.contains("hush-hush"), "{}", ended.stderr);
    let mut rest = job.command(&["--available-now"]);
    Running::start(rest.env("SECRET", "hush-hush")).wait().expect(0);
    // what is kept can be read without it
    once(&job.counts(), values(1));
    for file in ["log", "received/lines"] {
        let found = crate::binary::files(&job.0.at("checkpoint").join(file));
        assert!(found.values().all(|bytes| memchr::memmem::find(bytes, b"hush-hush").is_none()));
    }
}

/// Who is told no and goes on sending has half a second, and no more for each byte.
#[test]
fn whoever_sends_on_after_an_error_is_not_listened_to_for_long() {
    let port = free_port();
    let job = Job::new(&counting(&options(port)));
    let running = job.start();
    wait_for_server(port);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    let started = std::time::Instant::now();
    while stream.write_all(b"x").is_ok() {
        assert!(started.elapsed() < Duration::from_secs(5), "it is still read");
        std::thread::sleep(Duration::from_millis(100));
    }
    running.kill_after(Duration::ZERO);
}
