//! JSON text, byte by byte: strict RFC 8259 without recursion or allocation per value.
//!
//! What is not in the grammar is refused as `serde_json` refuses it: control characters in strings, unknown
//! escapes, halves of surrogate pairs, leading zeros. Numbers of any size are grammatical; whether one fits
//! its column is for the column to say.

use super::escape::escape;

/// Why a text is not JSON, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// Offset into the scanned text.
    pub at: usize,
    pub what: &'static str,
}

impl Fault {
    pub(super) fn new(at: usize, what: &'static str) -> Fault {
        Fault { at, what }
    }
}

/// What kind of value a [`Token`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Shape {
    /// The record has no such key.
    #[default]
    Missing,
    Null,
    True,
    False,
    /// A number without fraction and exponent.
    Integer,
    /// A number with a fraction and no exponent.
    Fraction,
    /// A number with an exponent.
    Exponent,
    /// A string without escapes.
    Text,
    /// A string with escapes, which are known to be right.
    Escaped,
    /// An object or array.
    Nested,
}

/// A value's place in its line: of a string what is between the quotes, else the whole value.
///
/// Offsets are 32 bits wide: lines are limited to less (`LINE_BYTES_CAP`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Token {
    pub shape: Shape,
    /// Whether the key was spelled as the column is declared.
    pub exact: bool,
    pub start: u32,
    pub end: u32,
}

impl Token {
    pub(super) fn new(shape: Shape, start: usize, end: usize) -> Token {
        Token { shape, exact: true, start: start as u32, end: end as u32 }
    }

    /// The value's bytes as they are written.
    pub(super) fn bytes(self, text: &[u8]) -> &[u8] {
        &text[self.start as usize..self.end as usize]
    }
}

/// The offset of the next byte that is no white space; a line end is not JSON white space here.
#[inline(always)]
pub(super) fn skip_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\r') = text.get(at) {
        at += 1;
    }
    at
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The eight bytes from `at` on, the first one lowest.
#[inline(always)]
pub(super) fn word(text: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*text.get(at..)?.first_chunk::<8>()?))
}

/// How many of the first sixteen bytes from `at` on are no quote, no backslash and no control character; `None` where there
/// are no sixteen.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn plain_of_sixteen(text: &[u8], at: usize) -> Option<usize> {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    let bytes = text.get(at..)?.first_chunk::<16>()?;
    // SAFETY: every x86_64 processor has SSE2; sixteen bytes are read from an array of sixteen, of any alignment.
    let hits = unsafe {
        let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
        let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
        let slash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
        let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);
        _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, slash), control))
    };
    // none of the sixteen: the bit behind them
    Some((hits | (1 << 16)).trailing_zeros() as usize)
}

/// Offset of the first quote, backslash or control character from `at` on, or the text's end.
#[inline(always)]
fn plain_end(text: &[u8], mut at: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    while let Some(plain) = plain_of_sixteen(text, at) {
        at += plain;
        if plain < 16 {
            return at;
        }
    }
    plain_end_by_words(text, at)
}

/// The same, eight bytes at a time.
#[inline(always)]
fn plain_end_by_words(text: &[u8], mut at: usize) -> usize {
    while let Some(word) = word(text, at) {
        let quote = word ^ (LOW * b'"' as u64);
        let slash = word ^ (LOW * b'\\' as u64);
        // A borrow can set a bit above the first hit only, never below it: the lowest set bit is right.
        let hits = ((quote.wrapping_sub(LOW) & !quote)
            | (slash.wrapping_sub(LOW) & !slash)
            | (word.wrapping_sub(LOW * 0x20) & !word))
            & HIGH;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(&byte) = text.get(at) {
        if byte == b'"' || byte == b'\\' || byte < 0x20 {
            return at;
        }
        at += 1;
    }
    at
}

/// From behind a string's opening quote: the offset of its closing quote, and whether it has escapes.
#[inline(always)]
pub(super) fn string(text: &[u8], at: usize) -> Result<(usize, bool), Fault> {
    let end = plain_end(text, at);
    match text.get(end) {
        Some(b'"') => Ok((end, false)),
        _ => Ok((string_with_escapes(text, end)?, true)),
    }
}

#[cold]
fn string_with_escapes(text: &[u8], mut at: usize) -> Result<usize, Fault> {
    loop {
        at = plain_end(text, at);
        match text.get(at) {
            Some(b'"') => return Ok(at),
            Some(b'\\') => at = escape(text, at)?,
            Some(_) => return Err(Fault::new(at, "a control character in a string (write it as an escape)")),
            None => return Err(Fault::new(at, "the line ends inside a string")),
        }
    }
}

/// The high bit of each byte that is no decimal digit, exact up to the first such byte.
#[inline(always)]
fn no_digits(word: u64) -> u64 {
    // Digits become 0 to 9; adding 0x76 reaches the high bit from 10 on, and carries only out of bytes that count.
    let values = word ^ (LOW * b'0' as u64);
    (values.wrapping_add(LOW * 0x76) | values) & HIGH
}

/// The offset behind the decimal digits from `at` on.
#[inline(always)]
fn digits(text: &[u8], mut at: usize) -> usize {
    while let Some(word) = word(text, at) {
        let hits = no_digits(word);
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(b'0'..=b'9') = text.get(at) {
        at += 1;
    }
    at
}

/// Of the sixteen bytes from `at` on, the lowest bit for the first: whether it is no decimal digit; the bit behind them is
/// set, too. `None` where there are no sixteen.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn no_digits_of_sixteen(text: &[u8], at: usize) -> Option<u32> {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_max_epu8, _mm_movemask_epi8, _mm_set1_epi8, _mm_sub_epi8,
    };
    let bytes = text.get(at..)?.first_chunk::<16>()?;
    // SAFETY: every x86_64 processor has SSE2; sixteen bytes are read from an array of sixteen, of any alignment.
    let hits = unsafe {
        let values = _mm_sub_epi8(_mm_loadu_si128(bytes.as_ptr().cast()), _mm_set1_epi8(b'0' as i8));
        _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_max_epu8(values, _mm_set1_epi8(10)), values))
    };
    Some(hits as u32 | (1 << 16))
}

/// [`number`] for what most numbers are: no sign, no exponent, short, with text behind. `None`: it must be looked at closely.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn short_number(text: &[u8], start: usize) -> Option<(usize, Shape)> {
    let no_digits = no_digits_of_sixteen(text, start)?;
    let whole = no_digits.trailing_zeros() as usize;
    let byte = |at: usize| text.get(start + at).copied();
    if whole == 0 || (whole > 1 && byte(0) == Some(b'0')) {
        return None;
    }
    let (length, shape) = match byte(whole) {
        Some(b'.') if whole < 15 => {
            let fraction = (no_digits >> (whole + 1)).trailing_zeros() as usize;
            (if fraction == 0 { 16 } else { whole + 1 + fraction }, Shape::Fraction)
        }
        _ => (whole, Shape::Integer),
    };
    match byte(length) {
        Some(b'e' | b'E' | b'.') => None,
        _ if length >= 16 => None,
        _ => Some((start + length, shape)),
    }
}

/// A number from its first byte: the offset behind it, and its shape.
#[inline(always)]
pub(super) fn number(text: &[u8], start: usize) -> Result<(usize, Shape), Fault> {
    #[cfg(target_arch = "x86_64")]
    if let Some(found) = short_number(text, start) {
        return Ok(found);
    }
    any_number(text, start)
}

fn any_number(text: &[u8], start: usize) -> Result<(usize, Shape), Fault> {
    let whole = if text.get(start) == Some(&b'-') { start + 1 } else { start };
    let mut at = match text.get(whole) {
        Some(b'0') => whole + 1,
        Some(b'1'..=b'9') => digits(text, whole + 1),
        _ => return Err(Fault::new(whole, "a digit must follow the sign")),
    };
    let mut shape = Shape::Integer;
    if text.get(at) == Some(&b'.') {
        let end = digits(text, at + 1);
        if end == at + 1 {
            return Err(Fault::new(end, "a digit must follow the decimal point"));
        }
        (at, shape) = (end, Shape::Fraction);
    }
    if let Some(b'e' | b'E') = text.get(at) {
        let exponent = match text.get(at + 1) {
            Some(b'+' | b'-') => at + 2,
            _ => at + 1,
        };
        let end = digits(text, exponent);
        if end == exponent {
            return Err(Fault::new(end, "a digit must follow in the exponent"));
        }
        (at, shape) = (end, Shape::Exponent);
    }
    Ok((at, shape))
}

/// A string, number or literal from its first byte: the value, and the offset behind it.
#[inline(always)]
pub(super) fn scalar(text: &[u8], at: usize) -> Result<(Token, usize), Fault> {
    match text.get(at) {
        Some(b'"') => {
            let (end, escaped) = string(text, at + 1)?;
            let shape = if escaped { Shape::Escaped } else { Shape::Text };
            Ok((Token::new(shape, at + 1, end), end + 1))
        }
        Some(b'-' | b'0'..=b'9') => {
            let (end, shape) = number(text, at)?;
            Ok((Token::new(shape, at, end), end))
        }
        _ => literal(text, at),
    }
}

fn literal(text: &[u8], at: usize) -> Result<(Token, usize), Fault> {
    let known: [(&[u8], Shape); 3] = [(b"null", Shape::Null), (b"true", Shape::True), (b"false", Shape::False)];
    let rest = text.get(at..).unwrap_or_default();
    match known.iter().find(|(word, _)| rest.starts_with(word)) {
        Some((word, shape)) => Ok((Token::new(*shape, at, at + word.len()), at + word.len())),
        None if rest.is_empty() => Err(Fault::new(at, "the line ends where a value must follow")),
        None => Err(Fault::new(at, "a value was expected")),
    }
}

/// Behind a key: the offset behind the colon and the white space around it.
#[inline(always)]
pub(super) fn colon(text: &[u8], mut at: usize) -> Result<usize, Fault> {
    if text.get(at) != Some(&b':') {
        at = skip_space(text, at);
        if text.get(at) != Some(&b':') {
            return Err(Fault::new(at, "':' must follow a key"));
        }
    }
    Ok(skip_space(text, at + 1))
}

/// Steps over objects and arrays. Keeps its stack, so that a value costs no allocation.
#[derive(Debug)]
pub(super) struct Skipper {
    /// Of each open value whether it is an object (else an array).
    open: Vec<bool>,
    depth_max: usize,
}

impl Skipper {
    pub(super) fn new(depth_max: usize) -> Skipper {
        Skipper { open: Vec::new(), depth_max }
    }

    /// From the `{` or `[` of a value with `above` open values around it: the offset behind the value.
    pub(super) fn skip(&mut self, text: &[u8], start: usize, above: usize) -> Result<usize, Fault> {
        self.open.clear();
        let mut at = start;
        loop {
            at = match text.get(at) {
                Some(&open @ (b'{' | b'[')) => {
                    if above + self.open.len() >= self.depth_max {
                        return Err(Fault::new(at, "nested too deep (beyond the depth limit)"));
                    }
                    let object = open == b'{';
                    self.open.push(object);
                    let inside = skip_space(text, at + 1);
                    if text.get(inside) != Some(&closing(object)) {
                        at = if object { key(text, inside)? } else { inside };
                        continue;
                    }
                    self.open.pop();
                    inside + 1
                }
                _ => scalar(text, at)?.1,
            };
            match self.close(text, at)? {
                Next::Value(next) => at = next,
                Next::Done(end) => return Ok(end),
            }
        }
    }

    /// Behind a value: closes what ends here, up to the next value.
    fn close(&mut self, text: &[u8], mut at: usize) -> Result<Next, Fault> {
        while let Some(&object) = self.open.last() {
            at = skip_space(text, at);
            match text.get(at) {
                Some(b',') => {
                    let next = skip_space(text, at + 1);
                    return Ok(Next::Value(if object { key(text, next)? } else { next }));
                }
                Some(&byte) if byte == closing(object) => {
                    self.open.pop();
                    at += 1;
                }
                _ if object => return Err(Fault::new(at, "',' or '}' must follow a value")),
                _ => return Err(Fault::new(at, "',' or ']' must follow a value")),
            }
        }
        Ok(Next::Done(at))
    }
}

enum Next {
    Value(usize),
    Done(usize),
}

fn closing(object: bool) -> u8 {
    if object { b'}' } else { b']' }
}

/// A key and its colon: the offset of the value.
fn key(text: &[u8], at: usize) -> Result<usize, Fault> {
    if text.get(at) != Some(&b'"') {
        return Err(Fault::new(at, "a key in double quotes was expected"));
    }
    let (end, _) = string(text, at + 1)?;
    colon(text, end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The string scanner, a byte at a time.
    fn plain_end_by_bytes(text: &[u8], at: usize) -> usize {
        let hit = |&byte: &u8| byte == b'"' || byte == b'\\' || byte < 0x20;
        text[at..].iter().position(hit).map_or(text.len(), |offset| at + offset)
    }

    #[test]
    fn many_bytes_at_a_time_find_what_single_bytes_find() {
        let specials = [b'"', b'\\', 0, 0x1F, 0x20, 0x21, 0x5B, 0x5D, 0x7F, 0x80, 0xA0, 0xFF];
        for (length, place) in (0..36).flat_map(|length| (0..length).map(move |place| (length, place))) {
            for (special, other) in specials.iter().flat_map(|s| specials.map(|o| (*s, o))) {
                let mut text = vec![b'a'; length];
                text[place] = special;
                text[(place + 1) % length] = other;
                for at in 0..length {
                    let expected = plain_end_by_bytes(&text, at);
                    assert_eq!(plain_end(&text, at), expected, "{text:?} {at}");
                    assert_eq!(plain_end_by_words(&text, at), expected, "{text:?} {at}");
                }
            }
        }
    }

    #[test]
    fn words_of_eight_bytes_find_the_end_of_digits() {
        for other in 0..=255_u8 {
            for (length, place) in (0..20).flat_map(|length| (0..length).map(move |place| (length, place))) {
                let mut text = vec![b'0' + (length + place) as u8 % 10; length];
                text[place] = other;
                let expected = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(length);
                assert_eq!(digits(&text, 0), expected, "{text:?}");
            }
        }
    }

    #[test]
    fn numbers_follow_the_grammar() {
        for (text, end, shape) in [
            ("0", 1, Shape::Integer),
            ("-0,", 2, Shape::Integer),
            ("01", 1, Shape::Integer),
            ("120 ", 3, Shape::Integer),
            ("1.50}", 4, Shape::Fraction),
            ("1e5", 3, Shape::Exponent),
            ("1.0E-05", 7, Shape::Exponent),
        ] {
            assert_eq!(number(text.as_bytes(), 0), Ok((end, shape)), "{text}");
        }
        for text in ["-", "-a", "1.", "1.e1", "1e", "1e+", "1E-x", ".1"] {
            assert!(number(text.as_bytes(), 0).is_err(), "{text}");
        }
    }

    #[test]
    fn short_numbers_are_what_any_numbers_are() {
        let parts = ["", "0", "7", "00", "12", "1234567", "12345678901234", "123456789012345678"];
        let signs = ["", "-", ".", "e", "E+", ",", "}", "/", ":", " "];
        for (first, sign, second) in parts
            .iter()
            .flat_map(|first| signs.iter().flat_map(move |sign| parts.map(|second| (*first, *sign, second))))
        {
            for (sign_behind, behind) in
                signs.iter().flat_map(|sign| ["", "0", ", \"a\": 12345678901234"].map(|b| (sign, b)))
            {
                let text = format!("{first}{sign}{second}{sign_behind}{behind}");
                let expected = any_number(text.as_bytes(), 0);
                assert_eq!(number(text.as_bytes(), 0), expected, "{text}");
            }
        }
    }

    #[test]
    fn nesting_is_limited_and_must_match() {
        let skip = |text: &str| Skipper::new(3).skip(text.as_bytes(), 0, 1).ok();
        assert_eq!(skip("[]x"), Some(2));
        assert_eq!(skip("[ [ 1 , 2 ] , { } ]"), Some(19));
        assert_eq!(skip(r#"{"a" : [1,"]"], "b":null}"#), Some(25));
        assert_eq!(skip("[[[]]]"), None, "four levels with the one above");
        for text in ["[", "[1", "[1,", "[1,]", "[}", "{]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{1:1}", "[1 2]"] {
            assert_eq!(skip(text), None, "{text}");
        }
    }
}
