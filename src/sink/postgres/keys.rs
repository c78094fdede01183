//! Keys by which rows replace one another: what the index has of them, and what of their values PostgreSQL has no place for.

use std::collections::BTreeSet;

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::cast,
    datatypes::{DataType, Field, Int64Type, SchemaRef, TimeUnit},
    record_batch::RecordBatch,
};

use super::{super::table::quoted, values::type_name};
use crate::model::{Error, Result};

/// An index has so many columns at most.
const INDEX_COLUMNS_MAX: usize = 32;

/// An entry of an index cannot be longer than a third of a page, and a text may be: so much of each is in it at most. Together
/// they have room for [`INDEX_BYTES_MAX`], with four bytes for a character.
const INDEXED_CHARS_MAX: usize = 64;
const INDEX_BYTES_MAX: usize = 2400;

/// What the index of a key has of one column: all, or of a long value its beginning.
fn indexed(column: &str, kind: &str, key_columns: usize) -> Option<String> {
    let chars = (INDEX_BYTES_MAX / (4 * key_columns.clamp(1, INDEX_COLUMNS_MAX))).min(INDEXED_CHARS_MAX);
    match kind {
        "text" => Some(format!("left({column}, {chars})")),
        "bytea" => Some(format!("substring({column}, 1, {chars})")),
        _ => None,
    }
}

/// The columns and expressions of an index of a key.
pub(super) fn index_parts(schema: &SchemaRef, key: &[usize]) -> Vec<String> {
    let part = |at: &usize| {
        let name = quoted(schema.field(*at).name());
        let begins = indexed(&name, type_name(schema.field(*at).data_type()), key.len());
        begins.map_or(name, |begins| format!("({begins})"))
    };
    key.iter().take(INDEX_COLUMNS_MAX).map(part).collect()
}

/// That a row `t` of a table has the key of a row `s`, whose columns of these numbers are null; `value`: what a column of the
/// table is compared with, and whether both are of one type.
///
/// `IS NOT DISTINCT FROM` would say it for all rows at once, but is served by no index and no hash: each row would be
/// compared with each.
pub(super) fn same_key(
    schema: &SchemaRef,
    key: &[usize],
    null: &BTreeSet<usize>,
    value: impl Fn(usize) -> (String, bool),
) -> String {
    let mut terms = vec!["true".to_owned()];
    for at in key {
        let (column, (value, fits)) = (format!("t.{}", quoted(schema.field(*at).name())), value(*at));
        if null.contains(at) {
            terms.push(format!("s.c{at} IS NULL AND {column} IS NULL"));
            continue;
        }
        terms.push(format!("s.c{at} IS NOT NULL AND {column} = {value}"));
        let kind = if fits { type_name(schema.field(*at).data_type()) } else { "" };
        if let (Some(one), Some(other)) = (indexed(&column, kind, key.len()), indexed(&value, kind, key.len())) {
            terms.push(format!("{one} = {other}"));
        }
    }
    terms.join(" AND ")
}

/// Checks that no key is cut to one that another group may have.
///
/// # Errors
/// Of kind `Data`, naming the column and a way out.
pub(super) fn check_values(batches: &[RecordBatch], key: &[usize]) -> Result<()> {
    for batch in batches {
        for at in key {
            let (column, schema) = (batch.column(*at), batch.schema_ref());
            check_column(column, schema.field(*at))?;
        }
    }
    Ok(())
}

fn check_column(column: &ArrayRef, field: &Field) -> Result<()> {
    let name = field.name();
    // so many of the type's units are the smallest that PostgreSQL has
    let units = match column.data_type() {
        DataType::Dictionary(_, values) => {
            return check_column(&cast_to(column, values, name)?, field);
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) | DataType::Time64(TimeUnit::Nanosecond) => 1000,
        DataType::Date64 => 86_400_000,
        _ => return Ok(()),
    };
    let numbers = cast_to(column, &DataType::Int64, name)?;
    match numbers.as_primitive::<Int64Type>().iter().flatten().any(|value| value % units != 0) {
        false => Ok(()),
        true => Err(Error::data(format!(
            "the group key '{name}' has nanoseconds, and PostgreSQL has times in microseconds"
        ))
        .because("two groups would become one, and their rows replace one another")
        .help(format!("group by date_trunc('microsecond', {name})"))),
    }
}

fn cast_to(column: &ArrayRef, to: &DataType, name: &str) -> Result<ArrayRef> {
    cast(column, to).map_err(|error| {
        Error::failed(format!("the group key '{name}' cannot be looked at")).because(error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::{array::TimestampNanosecondArray, datatypes::Schema};

    use super::*;

    fn checked(array: impl Array + 'static) -> Result<()> {
        let batch = RecordBatch::try_from_iter_with_nullable([("k", Arc::new(array) as ArrayRef, true)]).unwrap();
        check_values(&[batch], &[0])
    }

    #[test]
    fn a_key_that_would_be_cut_is_named() {
        checked(TimestampNanosecondArray::from(vec![Some(1_000), None, Some(-5_000)])).unwrap();
        let error = checked(TimestampNanosecondArray::from(vec![1_000, 1_001])).unwrap_err();
        assert_eq!(error.kind(), crate::model::ErrorKind::Data);
        assert!(
            error.to_string().contains("'k' has nanoseconds") && error.to_string().contains("date_trunc"),
            "{error}"
        );
    }

    #[test]
    fn an_index_has_room_for_any_key() {
        let field = |at: usize| Field::new(format!("k{at}"), DataType::Utf8, true);
        let schema = Arc::new(Schema::new((0..40).map(field).collect::<Vec<_>>()));
        let key: Vec<usize> = (0..40).collect();
        assert_eq!(index_parts(&schema, &key[..1]), ["(left(\"k0\", 64))"]);
        let parts = index_parts(&schema, &key);
        assert_eq!((parts.len(), parts[0].as_str()), (32, "(left(\"k0\", 18))"));
        let same = same_key(&schema, &key, &BTreeSet::from([0]), |at| (format!("s.c{at}"), true));
        assert!(same.contains("t.\"k0\" IS NULL") && same.contains("left(t.\"k39\", 18) = left(s.c39, 18)"), "{same}");
    }
}
