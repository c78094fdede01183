//! `CREATE TABLE name [(columns)] WITH (options)`: its columns.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::{
    options::{self, Setting},
    spec::ColumnSpec,
    tokens::{Cursor, Name},
    types::data_type,
};
use crate::model::Result;

/// A table as written: a source if it declares columns, else a sink.
pub(super) struct Table {
    pub name: Name,
    pub columns: Option<Vec<ColumnSpec>>,
    pub settings: Vec<Setting>,
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
        columns.push(ColumnSpec { name: name.text, data_type, at: name.at, hidden: false });
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
