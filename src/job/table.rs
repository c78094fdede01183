//! `CREATE TABLE name [(columns)] WITH (options)`: its columns and their types.

use datafusion::{
    arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, TimeUnit},
    sql::sqlparser::tokenizer::Token,
};

use super::{
    names::nearest,
    options::{self, Setting},
    spec::{At, ColumnSpec},
    tokens::{Cursor, Lexeme, Name},
};
use crate::model::Result;

/// A table as written: a source if it declares columns, else a sink.
pub(super) struct Table {
    pub name: Name,
    pub columns: Option<Vec<ColumnSpec>>,
    pub settings: Vec<Setting>,
}

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

/// Reads a statement from behind `CREATE TABLE`.
pub(super) fn read(mut cursor: Cursor<'_>) -> Result<Table> {
    let name = cursor.expect_name("the name of a table")?;
    super::parse::check_table_name(cursor.source, &name)?;
    let columns = if cursor.take_token(&Token::LParen) { Some(columns(&mut cursor)?) } else { None };
    let settings = if cursor.take_word("WITH") {
        options::read(&mut cursor)?
    } else if columns.is_none() {
        return Err(cursor.expected("columns or WITH (...)"));
    } else {
        cursor.expect_end().map_err(|_| cursor.expected("WITH (...)"))?;
        Vec::new()
    };
    cursor.expect_end()?;
    Ok(Table { name, columns, settings })
}

/// Columns up to the closing parenthesis.
fn columns(cursor: &mut Cursor<'_>) -> Result<Vec<ColumnSpec>> {
    let mut columns: Vec<ColumnSpec> = Vec::new();
    loop {
        if columns.is_empty() && cursor.take_token(&Token::RParen) {
            return Ok(columns);
        }
        let name = cursor.expect_name("the name of a column")?;
        if columns.iter().any(|column| column.name == name.text) {
            let error = cursor.source.error(name.at, format!("column '{}' is declared twice", name.text));
            return Err(error.help("names that differ in case alone need double quotes"));
        }
        let data_type = data_type(cursor)?;
        columns.push(ColumnSpec { name: name.text, data_type, at: name.at });
        if cursor.take_token(&Token::RParen) {
            return Ok(columns);
        }
        if matches!(cursor.peek().map(|lexeme| &lexeme.token.token), Some(Token::Word(_))) {
            let error = cursor.expected("',' or ')'").because("a column is a name and a type, without constraints");
            return Err(error.help("a field that is missing or cannot be read is null: filter with WHERE"));
        }
        if !cursor.take_token(&Token::Comma) {
            return Err(cursor.expected("',' or ')'"));
        }
    }
}

fn data_type(cursor: &mut Cursor<'_>) -> Result<DataType> {
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
             TIMESTAMP"
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
