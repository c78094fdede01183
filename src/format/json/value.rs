//! From a JSON value to a column's type, or the reason why not.

use std::{borrow::Cow, ops::Range};

use chrono::{NaiveDate, Utc};
use datafusion::arrow::{
    compute::kernels::cast_utils::string_to_datetime,
    datatypes::{DataType, TimeUnit},
};

use super::{
    escape::unescape,
    nested::is_nested,
    scan::{self, Shape, Token},
};

/// A declared column's type, as the reader checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::format) enum Kind {
    Text,
    Boolean,
    Integer {
        bits: u32,
    },
    Float32,
    Float64,
    Decimal {
        precision: u8,
        scale: i8,
    },
    Date,
    Timestamp,
    /// An object or array that is read as such; see [`super::nested`] for what is in it.
    Nested,
    /// No JSON value fits.
    Unsupported,
}

/// A value that fits its column.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(in crate::format) enum Parsed {
    #[default]
    Null,
    Boolean(bool),
    /// Integers, days and microseconds since the Unix epoch.
    Integer(i64),
    /// `FLOAT` too: every 32-bit float is a 64-bit one.
    Float(f64),
    /// In units of the column's scale.
    Decimal(i128),
    /// The value's own bytes, decoded where it is a string.
    Text,
}

impl Kind {
    pub(in crate::format) fn of(data_type: &DataType) -> Kind {
        match data_type {
            DataType::Utf8 => Kind::Text,
            DataType::Boolean => Kind::Boolean,
            DataType::Int8 => Kind::Integer { bits: 8 },
            DataType::Int16 => Kind::Integer { bits: 16 },
            DataType::Int32 => Kind::Integer { bits: 32 },
            DataType::Int64 => Kind::Integer { bits: 64 },
            DataType::Float32 => Kind::Float32,
            DataType::Float64 => Kind::Float64,
            DataType::Decimal128(precision, scale) => Kind::Decimal { precision: *precision, scale: *scale },
            DataType::Date32 => Kind::Date,
            DataType::Timestamp(TimeUnit::Microsecond, None) => Kind::Timestamp,
            nested if is_nested(nested) => Kind::Nested,
            _ => Kind::Unsupported,
        }
    }

    /// The type as job files write it.
    pub(in crate::format) fn sql_name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Kind::Text => "STRING",
            Kind::Boolean => "BOOLEAN",
            Kind::Integer { bits: 8 } => "TINYINT",
            Kind::Integer { bits: 16 } => "SMALLINT",
            Kind::Integer { bits: 32 } => "INT",
            Kind::Integer { .. } => "BIGINT",
            Kind::Float32 => "FLOAT",
            Kind::Float64 => "DOUBLE",
            Kind::Decimal { precision, scale } => {
                return Cow::Owned(format!("DECIMAL({precision},{scale})"));
            }
            Kind::Date => "DATE",
            Kind::Timestamp => "TIMESTAMP",
            Kind::Nested => "STRUCT, ARRAY or MAP",
            Kind::Unsupported => "type that text can fill",
        })
    }

    /// Sets `value` to the token's value in this type, to null where it is of another type or out of range: then
    /// the result is false. `text` is the line that `token` points into.
    ///
    /// An `Option<Parsed>` would be built and copied in pieces; that cost as much as all the rest of a record.
    #[inline(always)]
    pub(super) fn parse(self, token: Token, text: &[u8], value: &mut Parsed) -> bool {
        match (self, token.shape) {
            (_, Shape::Missing | Shape::Null) => *value = Parsed::Null,
            (Kind::Text, _) => *value = Parsed::Text,
            (Kind::Float64, Shape::Integer | Shape::Fraction | Shape::Exponent) => {
                let float = float(token.bytes(text));
                *value = float.map_or(Parsed::Null, Parsed::Float);
                return float.is_some();
            }
            _ => return self.parse_typed(token, text, value),
        }
        true
    }

    /// Whether [`Kind::parse`] would succeed, cheaper: for columns that nobody reads.
    #[inline(always)]
    pub(super) fn accepts(self, token: Token, text: &[u8]) -> bool {
        // So few digits cannot reach the largest finite value.
        let short = token.end - token.start < 38;
        match (self, token.shape) {
            (Kind::Float32 | Kind::Float64, Shape::Integer | Shape::Fraction) if short => true,
            _ => self.parse(token, text, &mut Parsed::Null),
        }
    }

    #[inline(never)]
    fn parse_typed(self, token: Token, text: &[u8], value: &mut Parsed) -> bool {
        let parsed = self.typed(token, text);
        *value = parsed.unwrap_or_default();
        parsed.is_some()
    }

    fn typed(self, token: Token, text: &[u8]) -> Option<Parsed> {
        let bytes = token.bytes(text);
        match (self, token.shape) {
            (Kind::Nested, Shape::Nested) => Some(Parsed::Text),
            (Kind::Boolean, Shape::True) => Some(Parsed::Boolean(true)),
            (Kind::Boolean, Shape::False) => Some(Parsed::Boolean(false)),
            (Kind::Integer { bits }, Shape::Integer) => integer(bytes, bits).map(Parsed::Integer),
            (Kind::Float64, Shape::Integer | Shape::Fraction | Shape::Exponent) => float(bytes).map(Parsed::Float),
            (Kind::Float32, Shape::Integer | Shape::Fraction | Shape::Exponent) => {
                let value: f32 = std::str::from_utf8(bytes).ok()?.parse().ok()?;
                value.is_finite().then_some(Parsed::Float(value.into()))
            }
            (Kind::Decimal { precision, scale }, Shape::Integer | Shape::Fraction | Shape::Exponent) => {
                let value = scaled(bytes, scale.into(), Rounding::HalfUp)?;
                let limit = 10_u128.checked_pow(precision.into())?;
                (value.unsigned_abs() < limit).then_some(Parsed::Decimal(value))
            }
            (Kind::Timestamp, Shape::Integer | Shape::Fraction | Shape::Exponent) => {
                let micros = scaled(bytes, 6, Rounding::Floor)?;
                i64::try_from(micros).ok().filter(|micros| TIMES.contains(micros)).map(Parsed::Integer)
            }
            (Kind::Timestamp | Kind::Date, Shape::Text) => self.parse_time(bytes),
            (Kind::Timestamp | Kind::Date, Shape::Escaped) => {
                let mut decoded = Vec::new();
                unescape(bytes, &mut decoded);
                self.parse_time(&decoded)
            }
            _ => None,
        }
    }

    fn parse_time(self, bytes: &[u8]) -> Option<Parsed> {
        let micros_or_days = match self {
            Kind::Timestamp => timestamp(bytes)?,
            _ => date(bytes)?.into(),
        };
        Some(Parsed::Integer(micros_or_days))
    }

    /// As [`Kind::parse_plain`], of a part of `text`; false, and null, where it is of another type. Numbers as JSON writes them
    /// take a short way: they are measured many bytes at a time, whatever follows behind the part.
    #[inline(always)]
    pub(in crate::format) fn parse_part(self, text: &[u8], part: Range<usize>, value: &mut Parsed) -> bool {
        match number_part(text, &part) {
            Some(token) => self.parse(token, text, value),
            None => self.parse_other(&text[part], value),
        }
    }

    /// Whether [`Kind::parse_part`] would succeed, cheaper.
    #[inline(always)]
    pub(in crate::format) fn accepts_part(self, text: &[u8], part: Range<usize>) -> bool {
        match number_part(text, &part) {
            Some(token) => self.accepts(token, text),
            None => self.parse_other(&text[part], &mut Parsed::Null),
        }
    }

    #[inline(never)]
    fn parse_other(self, text: &[u8], value: &mut Parsed) -> bool {
        let parsed = std::str::from_utf8(text).ok().and_then(|text| self.parse_plain(text));
        *value = parsed.unwrap_or_default();
        parsed.is_some()
    }

    /// A value written as plain text, without JSON's quotes: a folder's name, a field of CSV, a group of a pattern.
    pub(in crate::format) fn parse_plain(self, text: &str) -> Option<Parsed> {
        let bytes = text.as_bytes();
        let token = |shape, start| Token::new(shape, start, bytes.len());
        if self == Kind::Text {
            return Some(Parsed::Text);
        }
        let (token, scanned) = match text {
            "true" => (token(Shape::True, 0), Cow::Borrowed(bytes)),
            "false" => (token(Shape::False, 0), Cow::Borrowed(bytes)),
            _ => {
                let number = without_leading_zeros(bytes);
                match scan::number(&number, 0) {
                    Ok((end, shape)) if end == number.len() => (Token::new(shape, 0, end), number),
                    _ => (token(Shape::Text, 0), Cow::Borrowed(bytes)),
                }
            }
        };
        self.typed(token, &scanned)
    }
}

/// A part of a text that is a number as JSON writes it. A number that goes on behind the part, or is broken off there, is
/// none here.
#[inline(always)]
fn number_part(text: &[u8], part: &Range<usize>) -> Option<Token> {
    match scan::number(text, part.start) {
        Ok((end, shape)) if end == part.end => Some(Token::new(shape, part.start, end)),
        _ => None,
    }
}

/// `month=07` is a number in a folder's name, though not in JSON.
fn without_leading_zeros(text: &[u8]) -> Cow<'_, [u8]> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (&b"-"[..], digits),
        digits => (&b""[..], digits),
    };
    let zeros = digits.windows(2).take_while(|pair| pair[0] == b'0' && pair[1].is_ascii_digit()).count();
    match zeros {
        0 => Cow::Borrowed(text),
        _ => Cow::Owned([sign, &digits[zeros..]].concat()),
    }
}

fn float(digits: &[u8]) -> Option<f64> {
    if let Some(value) = short_float(digits) {
        return Some(value);
    }
    let value: f64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// Powers of ten that a double holds exactly, as far as [`short_float`] needs them.
const TENS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// A JSON number of at most fifteen digits and no exponent. Its digits and the power of ten are whole numbers that a
/// double holds exactly, so that one division rounds once, as it must (Clinger, "How to read floating point numbers
/// accurately", 1990).
#[inline]
fn short_float(number: &[u8]) -> Option<f64> {
    let (negative, digits) = match number {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.len() > TENS.len() {
        return None;
    }
    let (mut whole, mut count, mut point) = (0_u64, 0, None);
    for &byte in digits {
        match byte {
            b'0'..=b'9' => (whole, count) = (whole * 10 + u64::from(byte - b'0'), count + 1),
            b'.' => point = Some(count),
            _ => return None,
        }
    }
    if count >= TENS.len() {
        return None;
    }
    let value = whole as f64 / TENS[point.map_or(0, |point| count - point)];
    Some(if negative { -value } else { value })
}

fn integer(digits: &[u8], bits: u32) -> Option<i64> {
    let value: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let unused = 64 - bits;
    (value << unused >> unused == value).then_some(value)
}

/// What happens to digits beyond the scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    /// Away from zero from 5 on, as Spark rounds decimals.
    HalfUp,
    /// Down: a time belongs to the microsecond that it lies in.
    Floor,
}

/// A JSON number times ten to the power of `scale`, exactly; `None` where it does not fit.
pub(super) fn scaled(number: &[u8], scale: i64, rounding: Rounding) -> Option<i128> {
    let negative = number.first() == Some(&b'-');
    let exponent_at = number.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (mantissa, exponent) = match exponent_at {
        Some(at) => (&number[..at], exponent(&number[at + 1..])),
        None => (number, 0),
    };
    let fraction = mantissa.iter().position(|&b| b == b'.').map_or(0, |at| mantissa.len() - at - 1);
    let digits: Vec<u8> = mantissa
        .iter()
        .filter(|byte| byte.is_ascii_digit())
        .map(|byte| byte - b'0')
        .skip_while(|&digit| digit == 0)
        .collect();
    if digits.is_empty() {
        return Some(0);
    }
    // The value is digits * 10^shift; its first `whole` digits lie before the point.
    let shift = exponent.saturating_sub(fraction as i64).saturating_add(scale);
    let whole = shift.saturating_add(digits.len() as i64);
    if whole > 39 {
        return None;
    }
    let kept = whole.clamp(0, digits.len() as i64) as usize;
    let mut value: i128 = 0;
    for digit in digits[..kept].iter().copied().chain(std::iter::repeat_n(0, shift.max(0) as usize)) {
        value = value.checked_mul(10)?.checked_add(digit.into())?;
    }
    let rest = &digits[kept..];
    let up = match rounding {
        Rounding::HalfUp => whole >= 0 && rest.first().is_some_and(|&digit| digit >= 5),
        Rounding::Floor => negative && rest.iter().any(|&digit| digit != 0),
    };
    value = value.checked_add(up.into())?;
    Some(if negative { -value } else { value })
}

/// The digits of an exponent with their sign; far beyond any type's range it only matters that it is.
fn exponent(text: &[u8]) -> i64 {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let magnitude =
        digits.iter().fold(0_i64, |value, digit| value.saturating_mul(10).saturating_add((digit - b'0').into()));
    // Half the range leaves room for the callers' sums.
    let magnitude = magnitude.min(i64::MAX / 2);
    if negative { -magnitude } else { magnitude }
}

/// Days since the Unix epoch of `YYYY-MM-DD`.
pub(super) fn date(text: &[u8]) -> Option<i32> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else { return None };
    let digits = |digits: &[&u8]| {
        digits
            .iter()
            .try_fold(0_u32, |value, &digit| digit.is_ascii_digit().then(|| value * 10 + u32::from(digit - b'0')))
    };
    let year = i32::try_from(digits(&[y1, y2, y3, y4])?).ok()?;
    let day = NaiveDate::from_ymd_opt(year, digits(&[m1, m2])?, digits(&[d1, d2])?)?;
    i32::try_from(day.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

/// The times that have a text which reads back: years 0000 to 9999, in microseconds since the Unix epoch. Spark's
/// range, but for its year 0. Beyond about 8.2e12 s there is no text at all, and no sink could write the row.
pub(in crate::format) const TIMES: std::ops::Range<i64> = -62_167_219_200_000_000..253_402_300_800_000_000;

/// Microseconds since the Unix epoch of `2026-01-31`, `2026-01-31T10:00:00.5`, `2026-01-31 10:00:00+02:00`, ...;
/// UTC unless a zone is given. `None`: it is no time, or not one of [`TIMES`].
pub(super) fn timestamp(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let micros = string_to_datetime(&Utc, text).ok()?.timestamp_micros();
    TIMES.contains(&micros).then_some(micros)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn short_numbers_are_read_as_the_standard_library_reads_them(
            number in "-?(0|[1-9][0-9]{0,16})(\\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?",
        ) {
            let expected: f64 = number.parse().unwrap();
            prop_assert_eq!(float(number.as_bytes()).map(f64::to_bits), Some(expected.to_bits()));
            let digits = number.bytes().filter(u8::is_ascii_digit).count();
            let short = short_float(number.as_bytes());
            prop_assert_eq!(short.is_some(), digits < 16 && !number.contains(['e', 'E']));
        }
    }

    #[test]
    fn scaled_numbers_are_exact() {
        for (text, scale, half_up, floor) in [
            ("0", 2, Some(0), Some(0)),
            ("-0.0e99999999999999999999", 2, Some(0), Some(0)),
            ("1", 2, Some(100), Some(100)),
            ("1.005", 2, Some(101), Some(100)),
            ("1.004999", 2, Some(100), Some(100)),
            ("-1.005", 2, Some(-101), Some(-101)),
            ("-1.001", 2, Some(-100), Some(-101)),
            ("0.05", 1, Some(1), Some(0)),
            ("0.004", 1, Some(0), Some(0)),
            ("0.009", 1, Some(0), Some(0)),
            ("-0.009", 1, Some(0), Some(-1)),
            ("12e3", 0, Some(12_000), Some(12_000)),
            ("12E-1", 0, Some(1), Some(1)),
            ("15e-1", 0, Some(2), Some(1)),
            ("1234", -2, Some(12), Some(12)),
            ("1e-99999999999999999999", 6, Some(0), Some(0)),
            ("-1e-99999999999999999999", 6, Some(0), Some(-1)),
            ("1e99999999999999999999", 6, None, None),
            ("170141183460469231731687303715884105727", 0, Some(i128::MAX), Some(i128::MAX)),
            ("170141183460469231731687303715884105728", 0, None, None),
            ("999999999999999999999999999999999999999999", 0, None, None),
        ] {
            assert_eq!(scaled(text.as_bytes(), scale, Rounding::HalfUp), half_up, "{text} half up");
            assert_eq!(scaled(text.as_bytes(), scale, Rounding::Floor), floor, "{text} floor");
        }
    }

    #[test]
    fn the_cheap_check_says_what_parsing_says() {
        for digits in 1..400 {
            for text in ["9".repeat(digits), format!("-{}.5", "3".repeat(digits)), format!("0.{}", "0".repeat(digits))]
            {
                let (end, shape) = scan::number(text.as_bytes(), 0).unwrap();
                let token = Token::new(shape, 0, end);
                for kind in [Kind::Float32, Kind::Float64, Kind::Integer { bits: 64 }, Kind::Text] {
                    let parsed = kind.parse(token, text.as_bytes(), &mut Parsed::Null);
                    assert_eq!(kind.accepts(token, text.as_bytes()), parsed, "{text} as {kind:?}");
                }
            }
        }
    }

    #[test]
    fn dates_are_year_month_day_and_exist() {
        assert_eq!(date(b"1970-01-01"), Some(0));
        assert_eq!(date(b"2024-02-29"), Some(19_782));
        assert_eq!(date(b"1969-12-31"), Some(-1));
        for text in ["", "2023-02-29", "2024-2-29", "2024-13-01", "24-01-01", "2024-01-01 ", "2024/01/01", "+024-01-01"]
        {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn timestamps_take_zones_fractions_and_bare_dates() {
        for (text, micros) in [
            ("1970-01-01", Some(0)),
            ("1970-01-01T00:00:01Z", Some(1_000_000)),
            ("1970-01-01 00:00:01.5", Some(1_500_000)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("1969-12-31T23:59:59.9999999Z", Some(-1)),
            ("", None),
            ("yesterday", None),
            ("1970-01-01T25:00:00", None),
            ("12", None),
        ] {
            assert_eq!(timestamp(text.as_bytes()), micros, "{text}");
        }
    }

    /// About 8.2e12 s to 9.2e12 s fit 64 bits of microseconds and have no date: no sink could write them. What lies
    /// between them and the year 9999 could be written, but not be read back.
    #[test]
    fn a_timestamp_without_a_date_of_four_digits_is_a_field_error() {
        let year = |year: i32| NaiveDate::from_ymd_opt(year, 1, 1).unwrap().and_time(Default::default()).and_utc();
        assert_eq!((year(0).timestamp_micros(), year(10_000).timestamp_micros()), (TIMES.start, TIMES.end));
        for (text, expected) in [
            ("253402300799.999999", Some(TIMES.end - 1)),
            ("253402300800", None),
            ("-62167219200", Some(TIMES.start)),
            ("-62167219200.000001", None),
            ("8.3e12", None),
            ("-9.2e12", None),
            ("1e300", None),
            ("9999-12-31T23:59:59.999999Z", Some(TIMES.end - 1)),
            ("9999-12-31T23:59:59-00:01", None),
            ("0000-01-01T00:00:00+00:01", None),
        ] {
            assert_eq!(Kind::Timestamp.parse_plain(text), expected.map(Parsed::Integer), "{text}");
        }
        assert_eq!(Kind::Date.parse_plain("9999-12-31"), Some(Parsed::Integer(2_932_896)));
        assert_eq!(Kind::Date.parse_plain("2932896"), None, "a date is written, not counted");
    }

    proptest! {
        /// Whatever stands around it.
        #[test]
        fn a_part_of_a_text_is_read_as_if_it_stood_alone(
            before in "[a0.,-]{0,3}",
            part in prop_oneof!["-?[0-9]{0,20}(\\.[0-9]{0,5})?(e[0-9]{0,3})?", "true|false|1970-01-02|[-+. a]{0,4}"],
            after in "[a0.,e-]{0,20}",
        ) {
            let text = format!("{before}{part}{after}");
            let range = before.len()..before.len() + part.len();
            let decimal = Kind::Decimal { precision: 9, scale: 2 };
            let integer = Kind::Integer { bits: 32 };
            for kind in [Kind::Float64, Kind::Float32, integer, decimal, Kind::Boolean, Kind::Date, Kind::Timestamp, Kind::Text] {
                let expected = kind.parse_plain(&part);
                let mut value = Parsed::Boolean(true);
                prop_assert_eq!(kind.parse_part(text.as_bytes(), range.clone(), &mut value), expected.is_some());
                prop_assert_eq!(value, expected.unwrap_or_default());
                prop_assert_eq!(kind.accepts_part(text.as_bytes(), range.clone()), expected.is_some());
            }
        }
    }

    #[test]
    fn plain_text_becomes_any_type() {
        let integer = Kind::Integer { bits: 32 };
        assert_eq!(integer.parse_plain("07"), Some(Parsed::Integer(7)));
        assert_eq!(integer.parse_plain("-007"), Some(Parsed::Integer(-7)));
        assert_eq!(integer.parse_plain("000"), Some(Parsed::Integer(0)));
        assert_eq!(integer.parse_plain("7.0"), None);
        assert_eq!(integer.parse_plain(""), None);
        assert_eq!(integer.parse_plain("7x"), None);
        assert_eq!(Kind::Float64.parse_plain("00.5"), Some(Parsed::Float(0.5)));
        assert_eq!(Kind::Boolean.parse_plain("true"), Some(Parsed::Boolean(true)));
        assert_eq!(Kind::Date.parse_plain("1970-01-02"), Some(Parsed::Integer(1)));
        assert_eq!(Kind::Timestamp.parse_plain("2"), Some(Parsed::Integer(2_000_000)));
        assert_eq!(Kind::Text.parse_plain("07"), Some(Parsed::Text));
    }
}
