//! The lines of a closed segment, as they are read from its file: every frame is verified before a byte of it is given.

use std::io;

use super::frame::{self, Damage, Frame, HEAD_BYTES, Header, Kind, TRAILER_BYTES};
use crate::format::Bytes;

/// What comes out of a segment.
pub(in crate::source) struct Unframing<B> {
    input: B,
    source: String,
    number: u64,
    /// Where in the segment the next frame begins.
    at: u64,
    /// The number of the next line, and the segment's secret; `None`: the header was not read yet.
    next: Option<(u64, u64)>,
    /// The frame at hand, and how much of its payload was given.
    frame: Vec<u8>,
    given: std::ops::Range<usize>,
    ended: bool,
    damage: Option<Damage>,
}

impl<B: Bytes> Unframing<B> {
    /// Of segment `number` of a source.
    pub fn new(input: B, number: u64, source: &str) -> Unframing<B> {
        Unframing {
            input,
            source: source.to_owned(),
            number,
            at: 0,
            next: None,
            frame: Vec::new(),
            given: 0..0,
            ended: false,
            damage: None,
        }
    }

    /// What is wrong with the segment, as far as it was read; known once fewer bytes came than were asked for.
    pub fn damage(&self) -> Option<String> {
        self.damage.as_ref().map(ToString::to_string)
    }

    pub fn input(&mut self) -> &mut B {
        &mut self.input
    }

    /// Reads until there are lines to give, or the end.
    fn fill(&mut self) -> io::Result<()> {
        while self.given.is_empty() && !self.ended && self.damage.is_none() {
            let read = match self.next {
                None => self.header()?,
                Some((line, secret)) => self.next_frame(line, secret)?,
            };
            if let Err(damage) = read {
                self.damage = Some(damage);
            }
        }
        Ok(())
    }

    /// Appends so many bytes to the frame at hand; whether they were there.
    fn take(&mut self, count: usize) -> io::Result<bool> {
        let before = self.frame.len();
        self.input.append(&mut self.frame, count)?;
        Ok(self.frame.len() - before == count)
    }

    fn header(&mut self) -> io::Result<Result<(), Damage>> {
        self.frame.clear();
        let length = Header::length(&self.source);
        // a header that is cut off is told by its length
        self.take(length)?;
        Ok(Header::decode(&self.frame, self.number, &self.source).map(|header| {
            self.next = Some((header.line, header.secret));
            self.at = length as u64;
        }))
    }

    fn next_frame(&mut self, line: u64, secret: u64) -> io::Result<Result<(), Damage>> {
        let cut = || Damage::new(self.at, "it breaks off before its end");
        let (cut, at) = (cut(), self.at);
        self.frame.clear();
        if !self.take(HEAD_BYTES)? {
            return Ok(Err(cut));
        }
        let head: Option<&[u8; HEAD_BYTES]> = self.frame.first_chunk();
        let Some(length) = head.and_then(|head| frame::length(secret, head)) else {
            return Ok(Err(Damage::new(at, "no frame begins here")));
        };
        if !self.take(length - HEAD_BYTES)? {
            return Ok(Err(cut));
        }
        let Some((Frame { kind, line: first, payload, .. }, _)) = frame::decode(secret, &self.frame) else {
            return Ok(Err(Damage::new(at, "the checksum of a frame does not match")));
        };
        if first != line {
            return Ok(Err(Damage::new(at, format!("line {line} is expected, and line {first} is here"))));
        }
        let payload_bytes = payload.len();
        self.at += length as u64;
        match kind {
            Kind::Mark => Ok(Ok(())),
            Kind::Rows => {
                self.next = Some((line + frame::lines_in(payload), secret));
                // the key stands before the payload
                let end = length - (length - HEAD_BYTES - usize::from(self.frame[5]) - payload_bytes);
                self.given = end - payload_bytes..end;
                Ok(Ok(()))
            }
            Kind::Seal => self.trailer(at),
        }
    }

    /// What follows a seal: where it began, and nothing else.
    fn trailer(&mut self, seal_at: u64) -> io::Result<Result<(), Damage>> {
        self.ended = true;
        self.frame.clear();
        // one byte more, to see that there is none
        self.take(TRAILER_BYTES + 1)?;
        Ok(match self.frame == seal_at.to_be_bytes() {
            true => Ok(()),
            false => Err(Damage::new(self.at, "its end is not the one that it was closed with")),
        })
    }
}

impl<B: Bytes> Bytes for Unframing<B> {
    fn append(&mut self, to: &mut Vec<u8>, count: usize) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            self.fill()?;
            if self.given.is_empty() {
                return Ok(());
            }
            let part = self.given.start..self.given.end.min(self.given.start + left);
            left -= part.len();
            self.given.start = part.end;
            to.extend_from_slice(&self.frame[part]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::frame::{Story, encode_known},
        *,
    };

    const SECRET: u64 = 77;

    struct InMemory<'a>(&'a [u8]);

    impl Bytes for InMemory<'_> {
        fn append(&mut self, to: &mut Vec<u8>, count: usize) -> io::Result<()> {
            let (now, later) = self.0.split_at(count.min(self.0.len()));
            to.extend_from_slice(now);
            self.0 = later;
            Ok(())
        }
    }

    fn segment(bodies: &[&str]) -> Vec<u8> {
        let mut bytes =
            Header { number: 3, line: 0, secret: SECRET, story: Story::of_tests(), source: "s".to_owned() }.encode();
        let mut line = 0;
        for body in bodies {
            let frame = Frame { kind: Kind::Rows, line, durable: 0, key: b"key", payload: body.as_bytes() };
            frame.push(SECRET, &mut bytes);
            line += frame::lines_in(body.as_bytes());
            Frame { kind: Kind::Mark, line, durable: bytes.len() as u64, key: b"", payload: b"" }
                .push(SECRET, &mut bytes);
        }
        let at = bytes.len() as u64;
        Frame { kind: Kind::Seal, line, durable: at, key: b"", payload: &encode_known(&[]) }.push(SECRET, &mut bytes);
        bytes.extend_from_slice(&at.to_be_bytes());
        bytes
    }

    fn unframed(bytes: &[u8], steps: usize) -> (Vec<u8>, Option<String>) {
        let (mut reader, mut out) = (Unframing::new(InMemory(bytes), 3, "s"), Vec::new());
        loop {
            let before = out.len();
            reader.append(&mut out, steps).unwrap();
            if out.len() - before < steps {
                return (out, reader.damage());
            }
        }
    }

    #[test]
    fn lines_come_as_they_were_received() {
        for steps in [1, 3, 100] {
            assert_eq!(unframed(&segment(&["a\nb\n", "", "c\n"]), steps), (b"a\nb\nc\n".to_vec(), None));
            assert_eq!(unframed(&segment(&[]), steps), (Vec::new(), None));
        }
    }

    proptest! {
        /// Whatever happens to a closed segment is found, and what is given until then is what was received.
        #[test]
        fn any_change_is_found(cut in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>(), more in any::<Option<u8>>()) {
            let (text, sound) = ("a\nbb\nccc\ndd\n", segment(&["a\nbb\n", "ccc\n", "dd\n"]));
            let mut flipped = sound.clone();
            let bit = bit.index(sound.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            let cut = &sound[..cut.index(sound.len())];
            let longer = [&sound[..], &[more.unwrap_or_default()]].concat();
            for changed in [&flipped, cut, &longer] {
                let (given, damage) = unframed(changed, 4);
                prop_assert!(damage.is_some() && text.as_bytes().starts_with(&given), "{:?}", damage);
            }
        }
    }
}
