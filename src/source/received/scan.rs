//! Reading a segment that nobody closed: what of it is whole, and whether what is not is a torn tail or damage.

use memchr::memmem;

use super::frame::{self, Damage, FRAME_MAGIC, Header, Kind, Known, TRAILER_BYTES};

/// What a segment holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    pub header: Header,
    /// Behind the last whole frame.
    pub end: usize,
    /// The number of the next line.
    pub line: u64,
    /// Bytes of lines.
    pub rows_bytes: u64,
    /// Of its frames that came under a key.
    pub known: Vec<Known>,
    /// Whether it was closed, and nothing is missing.
    pub sealed: bool,
}

/// Looks through segment `number` of a source.
///
/// # Errors
/// Where something is damaged that was durable, or that contradicts what is around it.
pub(super) fn scan(bytes: &[u8], number: u64, source: &str) -> Result<Scan, Damage> {
    let length = Header::length(source);
    // a segment gets its name when its header is durable
    let header = Header::decode(bytes.get(..length).unwrap_or(bytes), number, source)?;
    let (line, secret) = (header.line, header.secret);
    let mut scan = Scan { header, end: length, line, rows_bytes: 0, known: Vec::new(), sealed: false };
    while let Some((frame, length)) = frame::decode(secret, &bytes[scan.end..]) {
        if frame.line != scan.line || frame.durable > scan.end as u64 {
            return Err(Damage::new(
                scan.end as u64,
                format!("line {} is expected, and line {} is here", scan.line, frame.line),
            ));
        }
        let start = scan.end as u64;
        scan.end += length;
        match frame.kind {
            Kind::Mark => {}
            Kind::Rows => {
                scan.line += frame::lines_in(frame.payload);
                scan.rows_bytes += frame.payload.len() as u64;
                if !frame.key.is_empty() {
                    scan.known.push(Known::new(frame.key, frame.payload));
                }
            }
            Kind::Seal => {
                let trailer = &bytes[scan.end..];
                scan.sealed = trailer == start.to_be_bytes();
                if scan.sealed {
                    scan.end += TRAILER_BYTES;
                } else {
                    // it is written anew, together with what follows it
                    scan.end -= length;
                }
                break;
            }
        }
    }
    if !scan.sealed {
        refuse_promised(bytes, scan.end, secret)?;
    }
    Ok(scan)
}

/// Refuses a hole at `end` where a frame behind it says that these bytes were durable. Nobody can put a frame into rows, nor
/// the head of one: so it takes no longer than reading the bytes twice.
fn refuse_promised(bytes: &[u8], end: usize, secret: u64) -> Result<(), Damage> {
    let Some(rest) = bytes.get(end..) else { return Ok(()) };
    let promised = memmem::find_iter(rest, &FRAME_MAGIC)
        .filter_map(|at| frame::decode(secret, &rest[at..]))
        .any(|(frame, _)| frame.durable > end as u64);
    match promised {
        true => Err(Damage::new(end as u64, "a frame is damaged that was durable: others follow it")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::frame::{Frame, Story, encode_known},
        *,
    };

    const NUMBER: u64 = 7;
    const SECRET: u64 = 77;

    /// A segment of these bodies, each fsynced before the next one is written; where frames begin and end.
    fn segment(bodies: &[Vec<u8>], sealed: bool) -> (Vec<u8>, Vec<usize>) {
        let header =
            Header { number: NUMBER, line: 5, secret: SECRET, story: Story::of_tests(), source: "s".to_owned() };
        let mut bytes = header.encode();
        let (mut line, mut ends, mut known) = (5, vec![bytes.len()], Vec::new());
        for (number, body) in bodies.iter().enumerate() {
            let key = if number % 2 == 0 { format!("key {number}") } else { String::new() };
            let durable = bytes.len() as u64;
            Frame { kind: Kind::Rows, line, durable, key: key.as_bytes(), payload: body }.push(SECRET, &mut bytes);
            if !key.is_empty() {
                known.push(Known::new(key.as_bytes(), body));
            }
            line += frame::lines_in(body);
            ends.push(bytes.len());
        }
        let at = bytes.len() as u64;
        if sealed {
            let payload = encode_known(&known);
            Frame { kind: Kind::Seal, line, durable: at, key: b"", payload: &payload }.push(SECRET, &mut bytes);
            bytes.extend_from_slice(&at.to_be_bytes());
        } else {
            Frame { kind: Kind::Mark, line, durable: at, key: b"", payload: b"" }.push(SECRET, &mut bytes);
        }
        (bytes, ends)
    }

    fn bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let line = prop_oneof!["[a-z]{0,20}\n", Just("HWRF\n".to_owned()), "[^\n]{0,9}\n"];
        let body = proptest::collection::vec(line, 1..4).prop_map(|lines| lines.concat().into_bytes());
        proptest::collection::vec(body, 0..5)
    }

    proptest! {
        /// A cut leaves the frames before it, and no others.
        #[test]
        fn what_is_cut_off_is_a_torn_tail(bodies in bodies(), sealed: bool, cut in any::<prop::sample::Index>()) {
            let (bytes, ends) = segment(&bodies, sealed);
            let cut = cut.index(bytes.len() + 1);
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let Ok(scan) = scan(&bytes[..cut], NUMBER, "s") else {
                // no segment has its name before its header is whole
                prop_assert_eq!(whole, 0);
                return Ok(());
            };
            let lines: u64 = bodies.iter().take(whole - 1).map(|body| frame::lines_in(body)).sum();
            prop_assert_eq!(scan.line, 5 + lines);
            prop_assert_eq!(scan.sealed, sealed && cut == bytes.len());
        }

        /// A flipped bit is damage, or it is in what nobody was promised to find: never another row.
        #[test]
        fn a_flipped_bit_is_found(bodies in bodies(), sealed: bool, bit in any::<prop::sample::Index>()) {
            let (mut bytes, ends) = segment(&bodies, sealed);
            let sound = scan(&bytes, NUMBER, "s").unwrap();
            let last = *ends.last().unwrap();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            match scan(&bytes, NUMBER, "s") {
                Err(_) => {}
                Ok(found) => {
                    prop_assert!(bit / 8 >= last, "bit {} of {} was durable", bit, bytes.len());
                    prop_assert!(!found.sealed);
                    prop_assert_eq!((found.line, &found.known), (sound.line, &sound.known));
                }
            }
        }
    }

    /// Rows that hold a frame as it would be in another segment, and heads that promise the longest of payloads.
    #[test]
    fn rows_cannot_look_like_frames() {
        let mut forged = Vec::new();
        for secret in [NUMBER, 0] {
            let frame = Frame { kind: Kind::Rows, line: 6, durable: 1 << 20, key: b"", payload: b"a\n" };
            frame.push(secret, &mut forged);
        }
        let head = [&FRAME_MAGIC[..], &[0; 4], &(1_u32 << 20).to_be_bytes(), &[0; 24]].concat();
        forged.extend(head.repeat(100_000));
        forged.push(b'\n');
        let (bytes, ends) = segment(&[b"a\n".to_vec(), forged], false);
        // the fsync of the second frame was never done, and the tail of it is lost
        let torn = &bytes[..ends[2] - 1];
        assert_eq!(scan(torn, NUMBER, "s").unwrap().end, ends[1]);
    }

    #[test]
    fn a_segment_of_another_name_or_source_is_damage() {
        let (bytes, _) = segment(&[b"a\n".to_vec()], true);
        assert!(scan(&bytes, NUMBER, "s").unwrap().sealed);
        for (number, source) in [(NUMBER + 1, "s"), (NUMBER, "t"), (NUMBER, "st")] {
            assert!(scan(&bytes, number, source).is_err(), "{number} {source}");
        }
    }

    #[test]
    fn frames_that_were_exchanged_are_damage() {
        let (bytes, ends) = segment(&[b"a\n".to_vec(), b"b\nc\n".to_vec(), b"d\n".to_vec()], true);
        let part = |from: usize, to: usize| &bytes[ends[from]..ends[to]];
        let exchanged = [&bytes[..ends[0]], part(1, 2), part(0, 1), &bytes[ends[2]..]].concat();
        let twice = [&bytes[..ends[1]], part(0, 1), &bytes[ends[1]..]].concat();
        let left_out = [&bytes[..ends[0]], &bytes[ends[1]..]].concat();
        for changed in [exchanged, twice, left_out] {
            assert!(scan(&changed, NUMBER, "s").is_err());
        }
    }
}
