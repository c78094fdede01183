//! As much of an HTTP client as the tests need.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

use serde_json::Value;

use crate::binary::HANGS_AFTER;

pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// A header's value; empty: it has none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

fn asked(port: u16, path: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the page listens");
    stream.set_read_timeout(Some(HANGS_AFTER)).expect("a timeout can be set");
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it takes a request");
    BufReader::new(stream)
}

fn head(reader: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let mut lines = reader.by_ref().lines().map(|line| line.expect("an answer")).take_while(|line| !line.is_empty());
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let header = |line: String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    (status, lines.filter_map(header).collect())
}

/// Asks, and reads the answer to its end.
#[track_caller]
pub fn get(port: u16, path: &str) -> Answer {
    let mut reader = asked(port, path);
    let (status, headers) = head(&mut reader);
    let mut body = Vec::new();
    reader.read_to_end(&mut body).expect("an answer");
    Answer { status, headers, body: String::from_utf8(body).expect("text") }
}

/// Server-sent events, as they come.
pub struct Events {
    reader: BufReader<TcpStream>,
}

impl Events {
    /// `None`: refused.
    pub fn open(port: u16, path: &str) -> Option<Events> {
        let mut reader = asked(port, path);
        let (status, _) = head(&mut reader);
        (status == 200).then_some(Events { reader })
    }

    /// The next event's name, and its data as JSON.
    #[track_caller]
    pub fn next(&mut self) -> (String, Value) {
        let (name, data) = self.next_text();
        let value = serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {name}: {data}"));
        (name, value)
    }

    /// The next event's name and data; lines of chunks' lengths are passed over.
    #[track_caller]
    pub fn next_text(&mut self) -> (String, String) {
        let mut name = String::new();
        loop {
            let mut line = String::new();
            assert!(self.reader.read_line(&mut line).expect("events") > 0, "they ended");
            let line = line.trim_end();
            if let Some(event) = line.strip_prefix("event: ") {
                name = event.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (name, data.to_owned());
            }
        }
    }
}
