//! From a column of a file to the declared type, or which of its values are none.
//!
//! What is of the declared type is taken as it is. Numbers are cast where the value fits. All else is what its text in JSON
//! would be: a STRING takes it, and a STRING that is a time is a TIMESTAMP, but a STRING of digits is no BIGINT.

use std::{collections::HashMap, ops::Range, sync::Arc};

use datafusion::arrow::{
    array::{
        Array, ArrayRef, AsArray, PrimitiveArray, StringArray, TimestampMicrosecondArray, UnionArray, new_null_array,
    },
    compute::{CastOptions, cast_with_options},
    datatypes::{
        ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, FieldRef, Float16Type, Float32Type,
        Float64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
        TimestampSecondType,
    },
    error::ArrowError,
    json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder},
    util::display::FormatOptions,
};

use crate::format::json::{Filler, TIMES};

const DAY_US: i64 = 86_400_000_000;
/// The days that have a text which reads back: years 0000 to 9999, as days since the Unix epoch.
const DAYS: Range<i32> = (TIMES.start / DAY_US) as i32..(TIMES.end / DAY_US) as i32;

/// What does not fit is null.
const CAST: CastOptions<'static> = CastOptions { safe: true, format_options: FormatOptions::new() };

/// A column of the declared type.
pub(super) struct Converted {
    pub array: ArrayRef,
    /// The rows, ascending, whose value is null here, though the file's is something else.
    pub misfits: Vec<usize>,
}

/// Whether every value of the one type is one of the other, so that a column that nobody reads need not be looked at.
pub(super) fn always_fits(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Null, _) => true,
        (DataType::Dictionary(_, from), to) => always_fits(from, to),
        (from, DataType::Utf8) => {
            from.is_integer() || from.is_floating() || matches!(from, DataType::Boolean | DataType::Utf8)
        }
        (DataType::Float16 | DataType::Float32, DataType::Float64) => true,
        (from, DataType::Float32 | DataType::Float64) if from.is_integer() => true,
        (from, to) if from.is_integer() && to.is_integer() => {
            let width = |of: &DataType| of.primitive_width().unwrap_or(0);
            let (from_width, to_width) = (width(from), width(to));
            if from.is_signed_integer() { from_width <= to_width } else { from_width < to_width }
        }
        (DataType::Boolean, DataType::Boolean) => true,
        (from, to) => from == to && from.is_floating(),
    }
}

/// The values of `array` in the declared type `to`.
///
/// # Errors
/// Where Arrow refuses what comes out.
pub(super) fn convert(array: &ArrayRef, to: &DataType) -> Result<Converted, ArrowError> {
    let from = array.data_type();
    if *from == DataType::Null {
        return Ok(Converted { array: new_null_array(to, array.len()), misfits: Vec::new() });
    }
    match (from, to) {
        (DataType::Dictionary(_, values), _) => convert(&cast_with_options(array, values, &CAST)?, to),
        (DataType::Utf8 | DataType::Boolean, _) if from == to => as_it_is(array),
        (_, DataType::Float32 | DataType::Float64) if from == to => as_it_is(array),
        (DataType::Decimal128(precision, _), _) if from == to => {
            let limit = 10_i128.checked_pow(u32::from(*precision)).unwrap_or(i128::MAX);
            let decimals = array.as_primitive::<Decimal128Type>();
            let fitting = decimals
                .unary_opt::<_, Decimal128Type>(|value| (value.unsigned_abs() < limit.unsigned_abs()).then_some(value));
            Ok(compared(array, Arc::new(fitting.with_data_type(to.clone()))))
        }
        (from, _) if from.is_integer() && (to.is_integer() || to.is_floating()) => cast(array, to),
        (DataType::Float16 | DataType::Float32, DataType::Float64) => cast(array, to),
        (DataType::Float64, DataType::Float32) => Ok(compared(array, Arc::new(narrow(array.as_primitive())))),
        (DataType::Date32, _) => date(array, to),
        (DataType::Timestamp(..), _) => timestamp(array, to),
        (DataType::Binary, DataType::Utf8) => Ok(compared(array, Arc::new(text_of_bytes(array)))),
        // bytes have no value but as text
        (DataType::Binary, _) => Ok(compared(array, new_null_array(to, array.len()))),
        _ => by_text(array, to),
    }
}

/// What a value is called in a reason; a string in quotes.
pub(super) fn shown(array: &ArrayRef, row: usize) -> String {
    if let Some(bytes) = array.as_binary_opt::<i32>() {
        return format!("\"{}\"", String::from_utf8_lossy(bytes.value(row)));
    }
    let mut text = Vec::new();
    let field: FieldRef = Arc::new(Field::new("", array.data_type().clone(), true));
    let options = options();
    if let Ok(mut encoder) = make_encoder(&field, array, &options) {
        encoder.encode(row, &mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn as_it_is(array: &ArrayRef) -> Result<Converted, ArrowError> {
    Ok(Converted { array: Arc::clone(array), misfits: Vec::new() })
}

/// What became of `before`: nulls that were none are misfits.
fn compared(before: &ArrayRef, array: ArrayRef) -> Converted {
    let misfits = match array.null_count() == before.null_count() {
        true => Vec::new(),
        false => (0..array.len()).filter(|row| array.is_null(*row) && before.is_valid(*row)).collect(),
    };
    Converted { array, misfits }
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<Converted, ArrowError> {
    Ok(compared(array, cast_with_options(array, to, &CAST)?))
}

/// What is finite must stay so.
fn narrow(array: &PrimitiveArray<Float64Type>) -> PrimitiveArray<Float32Type> {
    array.unary_opt(|value| Some(value as f32).filter(|narrow| narrow.is_finite() || !value.is_finite()))
}

fn text_of_bytes(array: &ArrayRef) -> StringArray {
    array.as_binary::<i32>().iter().map(|bytes| bytes.and_then(|bytes| std::str::from_utf8(bytes).ok())).collect()
}

/// Days, of those that have a text.
fn date(array: &ArrayRef, to: &DataType) -> Result<Converted, ArrowError> {
    let days = array.as_primitive::<Date32Type>();
    let known: ArrayRef = Arc::new(days.unary_opt::<_, Date32Type>(|day| Some(day).filter(|day| DAYS.contains(day))));
    match to {
        DataType::Date32 => Ok(compared(array, known)),
        _ => Ok(compared(array, by_text(&known, to)?.array)),
    }
}

/// Moments, of those that have a text, down to the microsecond.
fn timestamp(array: &ArrayRef, to: &DataType) -> Result<Converted, ArrowError> {
    let DataType::Timestamp(unit, zone) = array.data_type() else { return by_text(array, to) };
    let micros: TimestampMicrosecondArray = match unit {
        TimeUnit::Second => micros(array.as_primitive::<TimestampSecondType>(), |time| time.checked_mul(1_000_000)),
        TimeUnit::Millisecond => {
            micros(array.as_primitive::<TimestampMillisecondType>(), |time| time.checked_mul(1000))
        }
        TimeUnit::Microsecond => micros(array.as_primitive::<TimestampMicrosecondType>(), Some),
        TimeUnit::Nanosecond => {
            micros(array.as_primitive::<TimestampNanosecondType>(), |time| Some(time.div_euclid(1000)))
        }
    };
    match to {
        DataType::Timestamp(TimeUnit::Microsecond, None) => Ok(compared(array, Arc::new(micros))),
        // many write dates so
        DataType::Date32 => {
            let day = |time: i64| (time.rem_euclid(DAY_US) == 0).then_some((time / DAY_US) as i32);
            Ok(compared(array, Arc::new(micros.unary_opt::<_, Date32Type>(day))))
        }
        _ => {
            let micros: ArrayRef = Arc::new(micros.with_timezone_opt(zone.clone()));
            Ok(compared(array, by_text(&micros, to)?.array))
        }
    }
}

fn micros<T: ArrowPrimitiveType<Native = i64>>(
    array: &PrimitiveArray<T>,
    of: impl Fn(i64) -> Option<i64>,
) -> TimestampMicrosecondArray {
    array.unary_opt(|time| of(time).filter(|micros| TIMES.contains(micros)))
}

/// Value by value, as if it stood in JSON.
fn by_text(array: &ArrayRef, to: &DataType) -> Result<Converted, ArrowError> {
    let field: FieldRef = Arc::new(Field::new("", array.data_type().clone(), true));
    let options = options();
    let Ok(mut encoder) = make_encoder(&field, array, &options) else {
        // it has no text, as a map whose keys are none
        return Ok(compared(array, new_null_array(to, array.len())));
    };
    // a union has no nulls of its own
    let nulls = array.logical_nulls();
    let mut filler = Filler::new(to, array.len());
    let (mut misfits, mut text) = (Vec::new(), Vec::new());
    for row in 0..array.len() {
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            filler.push_null();
            continue;
        }
        text.clear();
        encoder.encode(row, &mut text);
        if !filler.push(&text) {
            misfits.push(row);
        }
    }
    Ok(Converted { array: filler.finish()?, misfits })
}

fn options() -> EncoderOptions {
    EncoderOptions::default().with_explicit_nulls(true).with_encoder_factory(Arc::new(Texts))
}

/// Writes what JSON has no number for as a string, as the sinks do, and of a union the value that is there.
#[derive(Debug)]
struct Texts;

impl EncoderFactory for Texts {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        if let Some(union) = array.as_any().downcast_ref::<UnionArray>() {
            return Union::encoder(union, options).map(Some);
        }
        let floats: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Float16 => Box::new(Floats(array.as_primitive::<Float16Type>(), f32::from)),
            DataType::Float32 => Box::new(Floats(array.as_primitive::<Float32Type>(), f32::from)),
            DataType::Float64 => Box::new(Floats(array.as_primitive::<Float64Type>(), f64::from)),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(floats, array.nulls().cloned())))
    }
}

/// Floats, and what of each is written.
struct Floats<'a, T: ArrowPrimitiveType, W>(&'a PrimitiveArray<T>, fn(T::Native) -> W);

impl<T: ArrowPrimitiveType, W: Copy + Into<f64> + serde::Serialize> Encoder for Floats<'_, T, W> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.1(self.0.value(row));
        let wide: f64 = value.into();
        if wide.is_nan() {
            out.extend_from_slice(b"\"NaN\"");
        } else if wide.is_infinite() {
            out.extend_from_slice(if wide > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
        } else {
            serde_json::to_writer(out, &value).expect("a finite number is written to memory");
        }
    }
}

/// A union, and what writes the values of each of its types.
struct Union<'a> {
    array: &'a UnionArray,
    branches: HashMap<i8, NullableEncoder<'a>>,
}

impl<'a> Union<'a> {
    fn encoder(array: &'a UnionArray, options: &'a EncoderOptions) -> Result<NullableEncoder<'a>, ArrowError> {
        let DataType::Union(fields, _) = array.data_type() else { unreachable!("its type is a union") };
        let branch = |(id, field): (i8, &'a FieldRef)| Ok((id, make_encoder(field, array.child(id), options)?));
        let branches = fields.iter().map(branch).collect::<Result<_, ArrowError>>()?;
        Ok(NullableEncoder::new(Box::new(Union { array, branches }), array.logical_nulls()))
    }
}

impl Encoder for Union<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let at = self.array.value_offset(row);
        match self.branches.get_mut(&self.array.type_id(row)) {
            Some(branch) if !branch.is_null(at) => branch.encode(at, out),
            _ => out.extend_from_slice(b"null"),
        }
    }
}
