//! The types of columns.

use std::sync::Arc;

use datafusion::{
    arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Fields, TimeUnit},
    sql::sqlparser::tokenizer::Token,
};

use super::{
    names::nearest,
    spec::At,
    tokens::{Cursor, Lexeme},
};
use crate::model::Result;

/// The types that errors offer, with what they stand for.
const TYPES: [(&str, DataType); 20] = [
    ("STRING", DataType::Utf8),
    ("TEXT", DataType::Utf8),
    ("VARCHAR", DataType::Utf8),
    ("BOOLEAN", DataType::Boolean),
    ("BOOL", DataType::Boolean),
    ("TINYINT", DataType::Int8),
    ("BYTE", DataType::Int8),
    ("SMALLINT", DataType::Int16),
    ("SHORT", DataType::Int16),
    ("INT", DataType::Int32),
    ("INTEGER", DataType::Int32),
    ("BIGINT", DataType::Int64),
    ("LONG", DataType::Int64),
    ("FLOAT", DataType::Float32),
    ("REAL", DataType::Float32),
    ("DOUBLE", DataType::Float64),
    ("DECIMAL", DECIMAL_DEFAULT),
    ("NUMERIC", DECIMAL_DEFAULT),
    ("DATE", DataType::Date32),
    ("TIMESTAMP", DataType::Timestamp(TimeUnit::Microsecond, None)),
];

/// As in Spark.
const DECIMAL_DEFAULT: DataType = DataType::Decimal128(10, 0);

/// The type that was probably meant by a misspelt one.
pub fn nearest_type(word: &str) -> Option<String> {
    nearest(word, TYPES.iter().map(|(name, _)| *name))
}

/// How deep types may be in each other: nobody declares more on purpose.
const DEPTH_MAX: usize = 16;

/// Reads a type.
pub(super) fn data_type(cursor: &mut Cursor<'_>) -> Result<DataType> {
    let mut brackets = Brackets::default();
    let at = cursor.at();
    let read = any(cursor, &mut brackets)?;
    if brackets.closed > 0 {
        return Err(cursor.source.error(at, "a type has one '>' too many"));
    }
    Ok(read)
}

/// The angle brackets of a type: the tokenizer takes two that close for a shift.
#[derive(Default)]
struct Brackets {
    open: usize,
    /// Closing ones that were read and not yet used.
    closed: usize,
}

impl Brackets {
    fn open(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        if self.open == DEPTH_MAX {
            return Err(cursor.expected(&format!("at most {DEPTH_MAX} types in each other")));
        }
        self.open += 1;
        cursor.expect_token(&Token::Lt)
    }

    fn close(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        self.open -= 1;
        if self.closed > 0 {
            self.closed -= 1;
            return Ok(());
        }
        if cursor.take_token(&Token::ShiftRight) {
            self.closed += 1;
            return Ok(());
        }
        cursor.expect_token(&Token::Gt)
    }
}

fn any(cursor: &mut Cursor<'_>, brackets: &mut Brackets) -> Result<DataType> {
    if cursor.take_word("ARRAY") {
        brackets.open(cursor)?;
        let item = Field::new("item", any(cursor, brackets)?, true);
        brackets.close(cursor)?;
        return Ok(DataType::List(Arc::new(item)));
    }
    if cursor.take_word("MAP") {
        brackets.open(cursor)?;
        return map(cursor, brackets);
    }
    if cursor.take_word("STRUCT") {
        brackets.open(cursor)?;
        let fields = fields(cursor, brackets)?;
        brackets.close(cursor)?;
        return Ok(DataType::Struct(fields));
    }
    scalar(cursor)
}

/// `STRING, type>`
fn map(cursor: &mut Cursor<'_>, brackets: &mut Brackets) -> Result<DataType> {
    let at = cursor.at();
    if any(cursor, brackets)? != DataType::Utf8 {
        let error = cursor.source.error(at, "the keys of a MAP must be STRING");
        return Err(error.because("what is read are the keys of JSON objects, which are text"));
    }
    cursor.expect_token(&Token::Comma)?;
    let value = any(cursor, brackets)?;
    brackets.close(cursor)?;
    let pair = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)]);
    Ok(DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair), false)), false))
}

/// `name type, ...` or, as Spark writes it, `name: type, ...`.
fn fields(cursor: &mut Cursor<'_>, brackets: &mut Brackets) -> Result<Fields> {
    let mut fields: Vec<Field> = Vec::new();
    loop {
        let name = cursor.expect_name("the name of a field")?;
        if fields.iter().any(|field| *field.name() == name.text) {
            return Err(cursor.source.error(name.at, format!("field '{}' is declared twice", name.text)));
        }
        cursor.take_token(&Token::Colon);
        fields.push(Field::new(name.text, any(cursor, brackets)?, true));
        if brackets.closed > 0 || !cursor.take_token(&Token::Comma) {
            return Ok(fields.into());
        }
    }
}

fn scalar(cursor: &mut Cursor<'_>) -> Result<DataType> {
    let at = cursor.at();
    let word = match cursor.peek().map(|lexeme| &lexeme.token.token) {
        Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
        _ => return Err(cursor.expected("the type of the column")),
    };
    cursor.take();
    let Some((_, known)) = TYPES.iter().find(|(name, _)| *name == word) else {
        let near = nearest_type(&word);
        let near = near.map_or(String::new(), |near| format!("did you mean {near}? "));
        return Err(cursor.source.error(at, format!("unknown type '{word}'")).help(format!(
            "{near}types are STRING, BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), DATE, \
             TIMESTAMP, ARRAY<type>, MAP<STRING, type>, STRUCT<name type, ...>"
        )));
    };
    if word == "DOUBLE" {
        cursor.take_word("PRECISION");
    }
    if !cursor.take_token(&Token::LParen) {
        return Ok(known.clone());
    }
    if *known == DECIMAL_DEFAULT {
        return decimal(cursor, at);
    }
    let error = cursor.source.error(at, format!("type {word} takes no length or precision"));
    Err(error.help(format!("write {word} alone")))
}

/// `p)` or `p, s)`.
fn decimal(cursor: &mut Cursor<'_>, at: At) -> Result<DataType> {
    let precision = small_number(cursor)?;
    let scale = if cursor.take_token(&Token::Comma) { small_number(cursor)? } else { 0 };
    cursor.expect_token(&Token::RParen)?;
    match (precision, i8::try_from(scale)) {
        (1..=DECIMAL128_MAX_PRECISION, Ok(signed)) if scale <= precision => Ok(DataType::Decimal128(precision, signed)),
        _ => {
            let error = cursor.source.error(at, format!("there is no DECIMAL({precision}, {scale})"));
            Err(error.help("a precision from 1 to 38, a scale from 0 to the precision"))
        }
    }
}

fn small_number(cursor: &mut Cursor<'_>) -> Result<u8> {
    if let Some(Lexeme { token, .. }) = cursor.peek()
        && let Token::Number(number, _) = &token.token
        && let Ok(number) = number.parse()
    {
        cursor.take();
        return Ok(number);
    }
    Err(cursor.expected("a whole number up to 255"))
}
