//! A column filled with values that come one by one, each as JSON writes it: for formats whose values are typed, but
//! not as the column is declared.

use datafusion::arrow::{array::ArrayRef, datatypes::DataType, error::ArrowError};

use super::{
    columns::Column,
    nested::Nested,
    scan::{self, Shape, Token},
    value::{Kind, Parsed},
};

/// Values of one column, by the rules of JSON.
pub(in crate::format) struct Filler {
    kind: Kind,
    column: Column,
    /// What values are checked by, where the type is nested.
    inside: Option<Nested>,
}

impl Filler {
    /// An empty column with room for `rows`.
    pub(in crate::format) fn new(data_type: &DataType, rows: usize) -> Filler {
        let kind = Kind::of(data_type);
        let inside = (kind == Kind::Nested).then(|| Nested::new(data_type));
        Filler { kind, column: Column::new(data_type, rows), inside }
    }

    /// Appends a null.
    pub(in crate::format) fn push_null(&mut self) {
        self.column.push_other(Parsed::Null);
    }

    /// Appends the value that `json` is, well-formed and without space around it. Where it is of another type, or out of
    /// range, that is a null, and the result is false.
    pub(in crate::format) fn push(&mut self, json: &[u8]) -> bool {
        let token = match json.first() {
            Some(b'{' | b'[') => Some(Token::new(Shape::Nested, 0, json.len())),
            _ => scan::scalar(json, 0).ok().filter(|(_, end)| *end == json.len()).map(|(token, _)| token),
        };
        let mut value = Parsed::Null;
        let fits = token.is_some_and(|token| {
            let inside = self.inside.as_ref().filter(|_| token.shape == Shape::Nested);
            self.kind.parse(token, json, &mut value) && inside.is_none_or(|inside| inside.fits(json, 0))
        });
        match token.filter(|_| fits) {
            Some(token) => self.column.push(&value, &token, json),
            None => self.push_null(),
        }
        fits
    }

    /// The values.
    ///
    /// # Errors
    /// Where Arrow refuses them.
    pub(in crate::format) fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        self.column.finish(0)
    }
}
