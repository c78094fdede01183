//! A walk over a block's rows before the library decodes them.
//!
//! The library goes on for ever where a block holds more rows than it claims, passes over rows that take no bytes, and
//! makes as many values as a few bytes ask for. Here each value is gone over once: the block must hold the rows it claims
//! and nothing more, what they will take in memory is added up, and only the columns that are read are handed on.

use super::{
    schema::{Field, Kind, Type},
    varint,
};

/// Why a walk did not come to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The bytes are no rows of the schema.
    Damage,
    /// They would take more memory than there may be.
    TooMuch,
}

/// A column, and whether it is read.
pub(super) type Columns<'s> = [(&'s Field, bool)];

/// What was handed on.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub rows: u64,
    /// The rows, of the columns that are read.
    pub bytes: Vec<u8>,
    /// What their values take in memory once they are decoded.
    pub memory_bytes: u64,
}

/// Goes over `rows` rows, which are all of `bytes`.
///
/// # Errors
/// Where they are not, or all that is kept takes more than `memory_bytes_max`.
pub(super) fn walk(
    columns: &Columns<'_>,
    mut bytes: &[u8],
    rows: u64,
    kept: &mut Kept,
    memory_bytes_max: u64,
) -> Result<(), Lost> {
    kept.rows = kept.rows.checked_add(rows).ok_or(Lost::Damage)?;
    // rows without bytes are not gone over one by one: there can be any number
    if columns.iter().all(|(column, _)| column.of.is_empty) {
        kept.memory_bytes = kept.memory_bytes.saturating_add(rows);
        return match bytes {
            [] if kept.memory_bytes <= memory_bytes_max => Ok(()),
            [] => Err(Lost::TooMuch),
            _ => Err(Lost::Damage),
        };
    }
    let mut step = Step { rest: &mut bytes, memory_bytes: kept.memory_bytes, memory_bytes_max };
    for _ in 0..rows {
        step.count(1)?;
        for (column, is_read) in columns {
            let before = *step.rest;
            if *is_read {
                step.value(&column.of)?;
                kept.bytes.extend_from_slice(&before[..before.len() - step.rest.len()]);
            } else {
                step.skip(&column.of)?;
            }
        }
    }
    kept.memory_bytes = step.memory_bytes;
    if bytes.is_empty() { Ok(()) } else { Err(Lost::Damage) }
}

/// Where a walk is.
struct Step<'s, 'b> {
    rest: &'s mut &'b [u8],
    memory_bytes: u64,
    memory_bytes_max: u64,
}

impl Step<'_, '_> {
    /// Goes over a value that is kept.
    fn value(&mut self, of: &Type) -> Result<(), Lost> {
        match &of.kind {
            Kind::Null | Kind::Boolean | Kind::Int | Kind::Long | Kind::Float | Kind::Double | Kind::Fixed(_) => {
                self.count(of.null_bytes)?;
                self.skip(of)
            }
            Kind::Bytes | Kind::String => {
                let length = self.length()?;
                self.count(of.null_bytes + length as u64)?;
                self.pass(length)
            }
            Kind::Enum(symbols) => {
                let symbol = usize::try_from(self.long()?).ok().and_then(|at| symbols.get(at)).ok_or(Lost::Damage)?;
                self.count(of.null_bytes + symbol.len() as u64)
            }
            Kind::Array(item) => {
                self.count(of.null_bytes)?;
                self.blocks(|step, count| match item.is_empty {
                    true => step.count(count.saturating_mul(item.null_bytes)),
                    false => (0..count).try_for_each(|_| step.value(item)),
                })
            }
            Kind::Map(item) => {
                self.count(of.null_bytes)?;
                self.blocks(|step, count| {
                    (0..count).try_for_each(|_| {
                        let length = step.length()?;
                        step.count(8 + length as u64)?;
                        step.pass(length)?;
                        step.value(item)
                    })
                })
            }
            Kind::Record(fields) => fields.iter().try_for_each(|field| {
                // where it becomes text, so does the name
                self.count(4 + field.name.len() as u64)?;
                self.value(&field.of)
            }),
            Kind::Union(branches) => {
                let at = usize::try_from(self.long()?).map_err(|_| Lost::Damage)?;
                let branch = branches.get(at).ok_or(Lost::Damage)?;
                // a null takes the room of what could have been there
                let is_nothing = branches.len() == 2 && matches!(branch.kind, Kind::Null);
                self.count(if is_nothing { of.null_bytes } else { 8 })?;
                self.value(branch)
            }
        }
    }

    /// Goes over a value that nobody wants.
    fn skip(&mut self, of: &Type) -> Result<(), Lost> {
        match &of.kind {
            _ if of.is_empty => Ok(()),
            Kind::Null => Ok(()),
            Kind::Boolean => self.pass(1),
            Kind::Int | Kind::Long => self.long().map(drop),
            Kind::Float => self.pass(4),
            Kind::Double => self.pass(8),
            Kind::Fixed(size) => self.pass(*size),
            Kind::Bytes | Kind::String => {
                let length = self.length()?;
                self.pass(length)
            }
            Kind::Enum(symbols) => match usize::try_from(self.long()?) {
                Ok(at) if at < symbols.len() => Ok(()),
                _ => Err(Lost::Damage),
            },
            Kind::Array(item) => self.blocks(|step, count| match item.is_empty {
                true => Ok(()),
                false => (0..count).try_for_each(|_| step.skip(item)),
            }),
            Kind::Map(item) => self.blocks(|step, count| {
                (0..count).try_for_each(|_| {
                    let length = step.length()?;
                    step.pass(length)?;
                    step.skip(item)
                })
            }),
            Kind::Record(fields) => fields.iter().try_for_each(|field| self.skip(&field.of)),
            Kind::Union(branches) => {
                let at = usize::try_from(self.long()?).map_err(|_| Lost::Damage)?;
                self.skip(branches.get(at).ok_or(Lost::Damage)?)
            }
        }
    }

    /// Items come in blocks of some number of them, until one has none.
    fn blocks(&mut self, mut items: impl FnMut(&mut Self, u64) -> Result<(), Lost>) -> Result<(), Lost> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // the size of the items follows, for those who skip them
                self.long()?;
            }
            items(self, count.unsigned_abs())?;
        }
    }

    fn count(&mut self, bytes: u64) -> Result<(), Lost> {
        self.memory_bytes = self.memory_bytes.saturating_add(bytes);
        if self.memory_bytes > self.memory_bytes_max { Err(Lost::TooMuch) } else { Ok(()) }
    }

    fn long(&mut self) -> Result<i64, Lost> {
        varint(self.rest).ok_or(Lost::Damage)
    }

    fn length(&mut self) -> Result<usize, Lost> {
        usize::try_from(self.long()?).map_err(|_| Lost::Damage)
    }

    fn pass(&mut self, count: usize) -> Result<(), Lost> {
        *self.rest = self.rest.get(count..).ok_or(Lost::Damage)?;
        Ok(())
    }
}
