//! One record: from its text to checked values.

use super::{
    Json,
    keys::{Predictor, Target},
    nested::{self, Nested},
    scan::{self, Fault, Skipper, Token, skip_space},
    value::{Kind, Parsed},
};
use crate::format::{reader::Reader, shortened};

/// A declared column that is read or checked.
#[derive(Debug)]
pub(super) struct Field {
    /// Index among the declared columns.
    pub column: usize,
    pub kind: Kind,
    /// Index among the columns produced, where it is one.
    pub output: Option<usize>,
}

/// The record at hand: scanned, then checked. What it keeps from one record to the next changes speed only.
pub(super) struct Record<'r> {
    reader: &'r Reader,
    json: &'r Json,
    fields: Vec<Field>,
    /// Of each declared column its index in `fields`; `None` where its values need no look.
    slots: Vec<Option<u32>>,
    /// Those of `fields` that are objects or arrays whose inside has types, too, each with a column to check it by.
    nested: Vec<(usize, Nested)>,
    /// One of each per field.
    tokens: Vec<Token>,
    values: Vec<Parsed>,
    predictor: Predictor,
    skipper: Skipper,
}

impl<'r> Record<'r> {
    /// `is_read`: whether a declared column is looked for in records.
    pub(super) fn new(reader: &'r Reader, json: &'r Json, is_read: impl Fn(usize) -> bool) -> Record<'r> {
        let (mut fields, mut slots) = (Vec::new(), Vec::new());
        for (column, field) in reader.schema.fields().iter().enumerate() {
            let kind = Kind::of(field.data_type());
            let output = reader.output_of(column);
            // Any value is a STRING: where nobody reads the column there is nothing to check.
            let wanted = is_read(column) && (output.is_some() || kind != Kind::Text);
            slots.push(wanted.then_some(fields.len() as u32));
            if wanted {
                fields.push(Field { column, kind, output });
            }
        }
        let inside = |(slot, field): (usize, &Field)| {
            let data_type = reader.schema.field(field.column).data_type();
            (field.kind == Kind::Nested).then(|| (slot, Nested::new(data_type)))
        };
        let nested = fields.iter().enumerate().filter_map(inside).collect();
        Record {
            reader,
            json,
            tokens: vec![Token::default(); fields.len()],
            values: vec![Parsed::Null; fields.len()],
            nested,
            fields,
            slots,
            predictor: Predictor::default(),
            skipper: Skipper::new(json.depth_max),
        }
    }

    /// The columns produced from records, with the value and the token of each in the record at hand.
    #[inline(always)]
    pub(super) fn outputs(&self) -> impl Iterator<Item = (usize, &Parsed, &Token)> {
        let parts = self.fields.iter().zip(&self.values).zip(&self.tokens);
        parts.filter_map(|((field, value), token)| Some((field.output?, value, token)))
    }

    /// From an object's `{`: its fields' tokens; the offset behind it.
    #[inline(always)]
    pub(super) fn scan(&mut self, text: &[u8], start: usize, depth: usize) -> Result<usize, Fault> {
        let (json, slots) = (self.json, &self.slots);
        self.tokens.fill(Token::default());
        if depth > json.depth_max {
            return Err(Fault::new(start, "nested too deep (beyond the depth limit)"));
        }
        let (mut at, mut place) = (start + 1, 0);
        let find = |key: &str| match json.keys.find(key) {
            Some((column, exact)) => Target { slot: slots[column], exact },
            None => Target { slot: None, exact: false },
        };
        loop {
            let (target, value) = match self.predictor.lead(text, at, &mut place) {
                Some(predicted) => predicted,
                None => match next_key(text, at, at == start + 1)? {
                    Next::End(end) => return Ok(end),
                    Next::Key(key) => {
                        let (target, end) = self.predictor.take(text, key, &mut place, find)?;
                        let value = scan::colon(text, end)?;
                        self.predictor.learn(place, at == start + 1, &text[at..value]);
                        (target, value)
                    }
                },
            };
            let (token, end) = match text.get(value) {
                Some(b'{' | b'[') => {
                    let end = self.skipper.skip(text, value, depth)?;
                    (Token::new(scan::Shape::Nested, value, end), end)
                }
                _ => scan::scalar(text, value)?,
            };
            if let Some(slot) = target.slot {
                let known = &mut self.tokens[slot as usize];
                // The last of equal keys wins, an exact spelling over others.
                if target.exact || !known.exact {
                    // Field by field: a token changed as a whole is built in memory and waited for.
                    known.shape = token.shape;
                    known.exact = target.exact;
                    known.start = token.start;
                    known.end = token.end;
                }
            }
            at = end;
        }
    }

    /// Converts the record's tokens to values; says what does not fit.
    #[inline(always)]
    pub(super) fn check(&mut self, text: &[u8]) -> Option<String> {
        let mut wrong: Option<(usize, usize)> = None;
        for (slot, field) in self.fields.iter().enumerate() {
            let token = self.tokens[slot];
            let fits = match field.output {
                None => field.kind.accepts(token, text),
                Some(_) => field.kind.parse(token, text, &mut self.values[slot]),
            };
            if !fits {
                let (first, count) = wrong.unwrap_or((slot, 0));
                wrong = Some((first, count + 1));
            }
        }
        for (slot, nested) in &self.nested {
            let token = self.tokens[*slot];
            if token.shape == scan::Shape::Nested && !nested.fits(text, token.start as usize) {
                self.values[*slot] = Parsed::Null;
                let (first, count) = wrong.unwrap_or((*slot, 0));
                wrong = Some((first.min(*slot), count + 1));
            }
        }
        wrong.map(|(slot, count)| self.misfit(slot, count, text))
    }

    #[cold]
    fn misfit(&self, slot: usize, count: usize, text: &[u8]) -> String {
        let field = &self.fields[slot];
        let token = self.tokens[slot];
        let quote = match token.shape {
            scan::Shape::Text | scan::Shape::Escaped => "\"",
            _ => "",
        };
        let mut reason = format!(
            "field '{}': {quote}{}{quote} is not a {}",
            self.reader.schema.field(field.column).name(),
            shortened(token.bytes(text), 100),
            nested::type_name(self.reader.schema.field(field.column).data_type()),
        );
        if count > 1 {
            reason.push_str(&format!(" (and {} more)", count - 1));
        }
        reason
    }
}

/// What follows in an object.
enum Next {
    /// A key must begin here.
    Key(usize),
    /// The object has ended; the offset behind it.
    End(usize),
}

/// From behind a value, or the brace of an object (`first`): over the comma to the next key, or over the closing brace.
fn next_key(text: &[u8], at: usize, first: bool) -> Result<Next, Fault> {
    let at = skip_space(text, at);
    match text.get(at) {
        Some(b'}') => Ok(Next::End(at + 1)),
        _ if first => Ok(Next::Key(at)),
        Some(b',') => Ok(Next::Key(skip_space(text, at + 1))),
        None => Err(Fault::new(at, "the line ends inside an object")),
        _ => Err(Fault::new(at, "',' or '}' must follow a value")),
    }
}
