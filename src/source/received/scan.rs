//! Reading a segment that nobody closed: what of it is whole, and whether what is not is a torn tail or damage.

use memchr::memmem;

use super::frame::{self, Damage, FRAME_MAGIC, Header, Kind, Known, TRAILER_BYTES};

/// What a segment holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// `None`: not even the header is whole, and nothing behind it was promised to anybody.
    pub header: Option<Header>,
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
    let head = bytes.get(..length).unwrap_or(bytes);
    let header = match Header::decode(head, number, source) {
        Ok(header) => header,
        Err(damage) => {
            refuse_promised(bytes, 0, number)?;
            // a header that is there, of another segment or version, is no torn one
            return match bytes.is_empty() || bytes.len() < length || head.iter().all(|byte| *byte == 0) || torn(head) {
                true => Ok(Scan { header: None, end: 0, line: 0, rows_bytes: 0, known: Vec::new(), sealed: false }),
                false => Err(damage),
            };
        }
    };
    let line = header.line;
    let mut scan = Scan { header: Some(header), end: length, line, rows_bytes: 0, known: Vec::new(), sealed: false };
    while let Some((frame, length)) = frame::decode(number, &bytes[scan.end..]) {
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
        refuse_promised(bytes, scan.end, number)?;
    }
    Ok(scan)
}

/// Whether the blocks of a header can have been written in part: some of it is zeros.
fn torn(head: &[u8]) -> bool {
    head.ends_with(&[0; 8]) || head.starts_with(&[0; 8])
}

/// Refuses a hole at `end` where a frame behind it says that these bytes were durable.
fn refuse_promised(bytes: &[u8], end: usize, number: u64) -> Result<(), Damage> {
    let Some(rest) = bytes.get(end..) else { return Ok(()) };
    let promised = memmem::find_iter(rest, &FRAME_MAGIC)
        .filter_map(|at| frame::decode(number, &rest[at..]))
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
        super::frame::{Frame, encode_known},
        *,
    };

    const NUMBER: u64 = 7;

    /// A segment of these bodies, each fsynced before the next one is written; where frames begin and end.
    fn segment(bodies: &[Vec<u8>], sealed: bool) -> (Vec<u8>, Vec<usize>) {
        let header = Header { number: NUMBER, line: 5, began_us: 1, source: "s".to_owned() };
        let mut bytes = header.encode();
        let (mut line, mut ends, mut known) = (5, vec![bytes.len()], Vec::new());
        for (number, body) in bodies.iter().enumerate() {
            let key = if number % 2 == 0 { format!("key {number}") } else { String::new() };
            let durable = bytes.len() as u64;
            Frame { kind: Kind::Rows, line, durable, key: key.as_bytes(), payload: body }.push(NUMBER, &mut bytes);
            if !key.is_empty() {
                known.push(Known::new(key.as_bytes(), body));
            }
            line += frame::lines_in(body);
            ends.push(bytes.len());
        }
        let at = bytes.len() as u64;
        if sealed {
            let payload = encode_known(&known);
            Frame { kind: Kind::Seal, line, durable: at, key: b"", payload: &payload }.push(NUMBER, &mut bytes);
            bytes.extend_from_slice(&at.to_be_bytes());
        } else {
            Frame { kind: Kind::Mark, line, durable: at, key: b"", payload: b"" }.push(NUMBER, &mut bytes);
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
            let scan = scan(&bytes[..cut], NUMBER, "s").unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let lines: u64 = bodies.iter().take(whole.saturating_sub(1)).map(|body| frame::lines_in(body)).sum();
            prop_assert_eq!(scan.header.is_some(), whole > 0);
            prop_assert_eq!(scan.line, if whole > 0 { 5 + lines } else { 0 });
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
                    prop_assert!(bit / 8 >= last || bodies.is_empty(), "bit {} of {} was durable", bit, bytes.len());
                    prop_assert!(!found.sealed);
                    prop_assert!(found.header.is_none() || (found.line, &found.known) == (sound.line, &sound.known));
                }
            }
        }
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
