//! What `strace` wrote, read back: which system calls a process made, with which bytes, when each began and ended.
//!
//! The output is that of `strace -f -xx`: every string is hexadecimal, so that nothing in it can be taken for syntax.

use std::collections::BTreeMap;

/// One system call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Lines of the trace, from 0: where it was seen to begin and to end.
    pub began: usize,
    pub ended: usize,
    pub name: String,
    pub args: Vec<Arg>,
    /// Negative where it failed.
    pub result: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arg {
    Bytes(Vec<u8>),
    /// A number, flags, a structure: as strace shows it.
    Plain(String),
}

impl Call {
    /// A string argument: bytes written, or a path.
    pub fn bytes(&self, at: usize) -> Result<&[u8], String> {
        match self.args.get(at) {
            Some(Arg::Bytes(bytes)) => Ok(bytes),
            other => Err(format!("argument {at} of {} is no text but {other:?}", self.name)),
        }
    }

    pub fn path(&self, at: usize) -> Result<&str, String> {
        std::str::from_utf8(self.bytes(at)?).map_err(|_| format!("a path of {} is not UTF-8", self.name))
    }

    /// An argument that is no string; empty where there is none.
    pub fn plain(&self, at: usize) -> &str {
        match self.args.get(at) {
            Some(Arg::Plain(text)) => text,
            _ => "",
        }
    }

    pub fn number(&self, at: usize) -> Result<i64, String> {
        let text = self.plain(at);
        text.parse().map_err(|_| format!("argument {at} of {} is no number but '{text}'", self.name))
    }

    /// Whether a set of flags has this one.
    pub fn has(&self, at: usize, flag: &str) -> bool {
        self.plain(at).split('|').any(|found| found == flag)
    }
}

/// All calls in the order in which they took effect.
///
/// # Errors
/// Where a line is none that strace is known to write: nothing may be passed over.
pub fn parse(trace: &str) -> Result<Vec<Call>, String> {
    let mut calls = Vec::new();
    let mut begun = BTreeMap::new();
    for (number, line) in trace.lines().enumerate() {
        let wrong = |why: &str| format!("line {}: {why}: {}", number + 1, line.chars().take(200).collect::<String>());
        let (thread, rest) = line.split_once(' ').ok_or_else(|| wrong("no thread"))?;
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(first) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, (number, first));
            continue;
        }
        let (began, text) = match rest.strip_prefix("<... ") {
            Some(resumed) => {
                let (began, first) = begun.remove(thread).ok_or_else(|| wrong("resumed, but never begun"))?;
                let (_, second) = resumed.split_once(" resumed>").ok_or_else(|| wrong("not resumed"))?;
                (began, format!("{first}{second}"))
            }
            None => (number, rest.to_owned()),
        };
        let (name, rest) = text.split_once('(').ok_or_else(|| wrong("no call"))?;
        let (args, rest) = arguments(rest).map_err(|why| wrong(&why))?;
        let result = rest.trim_start().strip_prefix("= ").ok_or_else(|| wrong("no result"))?;
        let result = result.split_whitespace().next().unwrap_or_default();
        let result = match result.strip_prefix("0x") {
            // where a map begins, and the flags of a descriptor
            Some(hex) => i64::from_str_radix(hex, 16).unwrap_or(i64::MAX),
            // the process ended inside of it, or it is made again
            None if result == "?" => -1,
            None => result.parse().map_err(|_| wrong("the result is no number"))?,
        };
        calls.push(Call { began, ended: number, name: name.to_owned(), args, result });
    }
    // The number of a closed descriptor can be given out again before the call that closed it returns.
    calls.sort_by_key(|call| if call.name == "close" { call.began } else { call.ended });
    Ok(calls)
}

/// The arguments up to the closing bracket, and what follows it.
fn arguments(text: &str) -> Result<(Vec<Arg>, &str), String> {
    let mut args = Vec::new();
    let mut rest = text.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix(')') {
            return Ok((args, after));
        }
        let after = if let Some(quoted) = rest.strip_prefix('"') {
            let (content, after) = quoted.split_once('"').ok_or("a text has no end")?;
            if after.starts_with("...") {
                return Err("a text was cut short".to_owned());
            }
            args.push(Arg::Bytes(from_hex(content)?));
            after
        } else {
            let end = end_of_plain(rest).ok_or("an argument has no end")?;
            args.push(Arg::Plain(rest[..end].trim().to_owned()));
            &rest[end..]
        };
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
}

/// Where an argument ends that is no text: at the comma or the bracket that is not inside of it.
fn end_of_plain(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth > 0 => depth -= 1,
            ',' | ')' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let bytes = text.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    bytes
        .chunks(4)
        .map(|chunk| match chunk {
            [b'\\', b'x', high, low] => {
                let value = (digit(*high).zip(digit(*low))).ok_or("no hexadecimal digits")?;
                Ok(u8::try_from(value.0 << 4 | value.1).expect("two digits make a byte"))
            }
            _ => Err("a text is not hexadecimal".to_owned()),
        })
        .collect()
}

#[test]
fn calls_are_read_as_strace_writes_them() {
    let trace = "10 openat(AT_FDCWD, \"\\x61\\x2f\", O_RDWR|O_CREAT, 0644) = 3\n\
                 10 pwrite64(3, \"\\xff\", 1, 4096 <unfinished ...>\n\
                 11 fsync(7)     = -1 EIO (Input/output error)\n\
                 10 <... pwrite64 resumed>)      = 1\n\
                 11 fcntl(3, F_SETLK, {l_type=F_WRLCK, l_start=0}) = 0\n\
                 11 +++ exited with 0 +++\n";
    let calls = parse(trace).expect("it is sound");
    let names: Vec<_> = calls.iter().map(|call| (call.name.as_str(), call.began, call.ended, call.result)).collect();
    assert_eq!(names, [("openat", 0, 0, 3), ("fsync", 2, 2, -1), ("pwrite64", 1, 3, 1), ("fcntl", 4, 4, 0)]);
    assert_eq!((calls[0].path(1), calls[0].has(2, "O_CREAT"), calls[0].has(2, "O_C")), (Ok("a/"), true, false));
    assert_eq!((calls[2].bytes(1), calls[2].number(3)), (Ok(&[0xff][..]), Ok(4096)));
    for wrong in ["10 write(1, \"\\x61\"..., 9) = 9", "10 write(1, \"a\", 1) = 1", "nothing", "1 <... x resumed>) = 0"]
    {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
