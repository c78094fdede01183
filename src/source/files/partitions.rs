//! `key=value` folders that are columns, as Hive and Spark write them.

use std::{ffi::OsStr, path::Path};

use datafusion::arrow::{
    datatypes::SchemaRef,
    record_batch::{RecordBatch, RecordBatchOptions},
};

use crate::{
    format::Constant,
    job::RecordOptions,
    model::{Error, Result, error::printable_name},
};

/// What Hive and Spark name the folder of a null.
const NULL_FOLDER: &[u8] = b"__HIVE_DEFAULT_PARTITION__";

/// The columns that a file's folders may fill.
#[derive(Debug)]
pub(super) struct Partitions {
    schema: SchemaRef,
    corrupt_column: Option<usize>,
    /// The column that takes the file's name.
    file_column: Option<usize>,
    projection: Vec<usize>,
    /// Under a glob folders are no columns.
    off: bool,
}

/// A declared column that a file's path gives.
#[derive(Debug)]
pub(super) struct PathColumn {
    pub column: usize,
    pub value: Constant,
    /// Why the value is null, though the folder says otherwise.
    pub problem: Option<String>,
}

/// The two sides of a folder's name, where it is `key=value`.
pub(super) fn key_value(folder: &OsStr) -> Option<(&[u8], &[u8])> {
    let name = folder.as_encoded_bytes();
    let at = name.iter().position(|&byte| byte == b'=').filter(|&at| at > 0)?;
    Some((&name[..at], &name[at + 1..]))
}

impl Partitions {
    pub(super) fn new(schema: SchemaRef, records: &RecordOptions, projection: &[usize], is_glob: bool) -> Partitions {
        let RecordOptions { corrupt_column, file_column, .. } = *records;
        Partitions { schema, corrupt_column, file_column, projection: projection.to_vec(), off: is_glob }
    }

    /// The columns that a path relative to the root gives; the innermost of equal keys wins. The file's own column holds that
    /// path, bad UTF-8 replaced.
    pub(super) fn columns(&self, path: &Path) -> Vec<PathColumn> {
        let mut columns: Vec<PathColumn> = Vec::new();
        let folders = path.parent().filter(|_| !self.off).into_iter().flat_map(Path::iter);
        for folder in folders {
            let Some((key, value)) = key_value(folder) else { continue };
            let key = percent_decoded(key);
            let named = |column: &usize| self.schema.field(*column).name().as_bytes() == key;
            let Some(column) = (0..self.schema.fields().len()).find(named) else { continue };
            if Some(column) == self.corrupt_column || Some(column) == self.file_column {
                continue;
            }
            columns.retain(|known| known.column != column);
            columns.push(self.column(column, folder, value));
        }
        columns.extend(self.file_column.map(|column| {
            let value = Constant::text(&path.to_string_lossy());
            PathColumn { column, value, problem: None }
        }));
        columns
    }

    fn column(&self, column: usize, folder: &OsStr, value: &[u8]) -> PathColumn {
        let data_type = self.schema.field(column).data_type();
        if value == NULL_FOLDER {
            return PathColumn { column, value: Constant::null(data_type), problem: None };
        }
        let parsed = match String::from_utf8(percent_decoded(value)) {
            Ok(text) => Constant::parse(data_type, &text),
            Err(_) => Err("the value is not UTF-8".to_owned()),
        };
        match parsed {
            Ok(value) => PathColumn { column, value, problem: None },
            Err(reason) => {
                let folder = printable_name(&folder.to_string_lossy());
                let problem = Some(format!("folder '{folder}': {reason}"));
                PathColumn { column, value: Constant::null(data_type), problem }
            }
        }
    }

    /// Puts the path's values in place of what was read.
    pub(super) fn fill(&self, batch: &RecordBatch, columns: &[PathColumn]) -> Result<RecordBatch> {
        let mut arrays = batch.columns().to_vec();
        for path_column in columns {
            if let Some(output) = self.projection.iter().position(|&column| column == path_column.column) {
                arrays[output] = path_column.value.array(batch.num_rows())?;
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(batch.schema(), arrays, &options)
            .map_err(|error| Error::failed("cannot add the columns of a file's path").because(error.to_string()))
    }
}

/// `%2F` and the like undone; a `%` without two hex digits stands for itself.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let hex = |at: usize| text.get(at).and_then(|&digit| (digit as char).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_are_undone() {
        for (text, decoded) in [("a%2Fb", "a/b"), ("%41%4a", "AJ"), ("100%", "100%"), ("%4", "%4"), ("%zz", "%zz")] {
            assert_eq!(percent_decoded(text.as_bytes()), decoded.as_bytes(), "{text}");
        }
    }

    #[test]
    fn a_folder_is_key_equals_value() {
        assert_eq!(key_value(OsStr::new("day=1=2")), Some((&b"day"[..], &b"1=2"[..])));
        assert_eq!(key_value(OsStr::new("day=")), Some((&b"day"[..], &b""[..])));
        assert_eq!(key_value(OsStr::new("=1")), None);
        assert_eq!(key_value(OsStr::new("day")), None);
    }
}
