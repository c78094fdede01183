//! Escapes in JSON strings: checked, and undone.

use super::scan::Fault;

/// From a backslash: the offset behind the escape.
pub(super) fn escape(text: &[u8], at: usize) -> Result<usize, Fault> {
    match text.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => {
            let unit = hex4(text, at + 2).ok_or(Fault::new(at, "four hex digits must follow \\u"))?;
            match unit {
                0xD800..=0xDBFF => match low_surrogate(text, at + 6) {
                    Some(_) => Ok(at + 12),
                    None => Err(Fault::new(at, "half of a surrogate pair")),
                },
                0xDC00..=0xDFFF => Err(Fault::new(at, "half of a surrogate pair")),
                _ => Ok(at + 6),
            }
        }
        Some(_) => Err(Fault::new(at, "an unknown escape")),
        None => Err(Fault::new(at, "the line ends inside a string")),
    }
}

fn hex4(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at..at + 4)?;
    digits.iter().try_fold(0, |value, &digit| Some(value << 4 | (digit as char).to_digit(16)?))
}

/// The second half of a surrogate pair, if its escape is at `at`.
fn low_surrogate(text: &[u8], at: usize) -> Option<u32> {
    let escaped = text.get(at..at + 2)? == b"\\u";
    hex4(text, at + 2).filter(|unit| escaped && (0xDC00..=0xDFFF).contains(unit))
}

/// Appends what an [`Shape::Escaped`] string means, as UTF-8.
pub(super) fn unescape(content: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < content.len() {
        let end = memchr::memchr(b'\\', &content[at..]).map_or(content.len(), |offset| at + offset);
        out.extend_from_slice(&content[at..end]);
        let Some(&kind) = content.get(end + 1) else { return };
        at = end + 2;
        out.push(match kind {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                at = unescape_unit(content, at, out);
                continue;
            }
            itself => itself,
        });
    }
}

/// From behind `\u`: appends the character, returns the offset behind it.
fn unescape_unit(content: &[u8], at: usize, out: &mut Vec<u8>) -> usize {
    let unit = hex4(content, at).unwrap_or(0xFFFD);
    let (code, next) = match (unit, low_surrogate(content, at + 4)) {
        (0xD800..=0xDBFF, Some(low)) => (0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00), at + 10),
        _ => (unit, at + 4),
    };
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    next
}

#[cfg(test)]
mod tests {
    use super::{super::scan::string, *};

    #[test]
    fn escapes_are_checked_and_undone() {
        let decoded = |text: &str| {
            let (end, escaped) = string(text.as_bytes(), 0).unwrap();
            assert!(escaped, "{text}");
            let mut out = Vec::new();
            unescape(&text.as_bytes()[..end], &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(decoded(r#"a\"\\\/\b\f\n\r\tz""#), "a\"\\/\u{8}\u{c}\n\r\tz");
        assert_eq!(decoded(r#"\u0041\u00e9\uD834\udd1e!""#), "A\u{e9}\u{1D11E}!");
        for text in [r#"\x""#, r#"\u12g4""#, r#"\uD834""#, r#"\uD834\u0041""#, r#"\udd1e""#, "a", r"a\", "a\tb\""] {
            assert!(string(text.as_bytes(), 0).is_err(), "{text}");
        }
    }
}
