//! Rows as bytes: JSON lines, CSV, Parquet, a table. The same rows always give the same bytes.
//!
//! JSON spells out nulls, so that each line has every column; times are ISO-8601; floats have as few digits as read
//! back to the same number, and, as in Spark, those that JSON has no number for are the strings `"NaN"`, `"Infinity"`
//! and `"-Infinity"`. In CSV a null is an empty field.

use std::sync::Arc;

use datafusion::arrow::{
    array::{Array, ArrayRef, PrimitiveArray, StringArray, cast::AsArray, new_null_array},
    buffer::ScalarBuffer,
    csv,
    datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Float32Type, Float64Type, Schema, SchemaRef},
    error::ArrowError,
    json::{
        self,
        writer::{Encoder, EncoderFactory, EncoderOptions, JsonArray, JsonFormat, LineDelimited, NullableEncoder},
    },
    record_batch::RecordBatch,
    util::{
        display::{ArrayFormatter, FormatOptions},
        pretty::pretty_format_batches_with_schema,
    },
};

use super::parquet;
use crate::{
    job::RowFormat,
    model::{Error, Result, error::printable},
};

/// Rows in a sink's format: one JSON object a line, CSV with a header line, or a whole file of Parquet.
///
/// # Errors
/// Of kind `Failed` where a column's type cannot be written in this format.
pub fn to_bytes(format: RowFormat, schema: &SchemaRef, rows: &[RecordBatch]) -> Result<Vec<u8>> {
    match format {
        RowFormat::Json => json_lines(rows),
        RowFormat::Csv => csv_lines(schema, rows, true),
        RowFormat::Parquet => parquet::to_bytes(schema, rows),
    }
}

/// Rows of these columns out of what [`to_bytes`] made of them.
///
/// # Errors
/// Of kind `Failed` where they are none.
pub fn from_bytes(format: RowFormat, schema: &SchemaRef, bytes: Vec<u8>) -> Result<Vec<RecordBatch>> {
    let wrong = |error: ArrowError| Error::failed("published rows could not be read back").because(error.to_string());
    let rows: std::result::Result<Vec<_>, _> = match format {
        RowFormat::Json => json::ReaderBuilder::new(schema.clone()).build(&bytes[..]).map_err(wrong)?.collect(),
        RowFormat::Csv => read_csv(schema, &bytes),
        RowFormat::Parquet => parquet::from_bytes(schema, bytes),
    };
    rows.map_err(wrong)
}

/// An empty field is a null, but in a column of text that has none: there it can only be the empty text.
fn read_csv(schema: &SchemaRef, bytes: &[u8]) -> std::result::Result<Vec<RecordBatch>, ArrowError> {
    let nullable = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let nullable: SchemaRef = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
    let whole = |rows: RecordBatch| {
        let column = |(column, field): (&ArrayRef, &FieldRef)| match column.as_string_opt::<i32>() {
            Some(texts) if !field.is_nullable() && texts.null_count() > 0 => {
                let texts = texts.iter().map(|text| text.unwrap_or_default());
                Arc::new(StringArray::from_iter_values(texts)) as ArrayRef
            }
            _ => Arc::clone(column),
        };
        let columns = rows.columns().iter().zip(schema.fields()).map(column).collect();
        RecordBatch::try_new(schema.clone(), columns)
    };
    csv::ReaderBuilder::new(nullable).with_header(true).build(bytes)?.map(|rows| rows.and_then(whole)).collect()
}

/// Whether rows of these columns can be written in a format, found out with the writer itself and a row of nulls.
///
/// # Errors
/// Of kind `Usage`, naming the column.
pub fn check(format: RowFormat, schema: &SchemaRef) -> Result<()> {
    for field in schema.fields() {
        let nullable = field.as_ref().clone().with_nullable(true);
        let one: SchemaRef = Arc::new(Schema::new(vec![nullable]));
        let rows = RecordBatch::try_new(one.clone(), vec![new_null_array(field.data_type(), 1)]);
        let written = rows.map_err(|error| cannot_write("text", &error)).and_then(|row| {
            let bytes = to_bytes(format, &one, &[row])?;
            // what is no text can be had back only by its type
            if format == RowFormat::Parquet { from_bytes(format, &one, bytes).map(drop) } else { Ok(()) }
        });
        written.map_err(|error| {
            let (name, shown) = (field.name(), shown(format));
            Error::usage(format!("column '{name}' cannot be written as {shown}"))
                .because(error.why().unwrap_or(error.what()))
                .help(match format {
                    RowFormat::Csv => "select its parts, cast it to STRING, or write JSON",
                    RowFormat::Json => "select its parts, or cast it to STRING",
                    RowFormat::Parquet => "cast it to another type, or write JSON",
                })
        })?;
    }
    Ok(())
}

/// A format's name in errors.
fn shown(format: RowFormat) -> &'static str {
    match format {
        RowFormat::Json => "JSON",
        RowFormat::Csv => "CSV",
        RowFormat::Parquet => "Parquet",
    }
}

/// One JSON object a line; nothing at all without rows.
///
/// # Errors
/// As [`to_bytes`].
pub fn json_lines(rows: &[RecordBatch]) -> Result<Vec<u8>> {
    write_json::<LineDelimited>(rows)
}

/// One JSON array of objects, on one line without its end.
///
/// # Errors
/// As [`to_bytes`].
pub fn json_array(rows: &[RecordBatch]) -> Result<Vec<u8>> {
    write_json::<JsonArray>(rows)
}

fn write_json<F: JsonFormat>(rows: &[RecordBatch]) -> Result<Vec<u8>> {
    let write = || {
        let builder = json::WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(Floats));
        let mut writer = builder.build::<_, F>(Vec::new());
        for batch in rows {
            writer.write(batch)?;
        }
        writer.finish()?;
        Ok(writer.into_inner())
    };
    write().map_err(|error| cannot_write("JSON", &error))
}

/// CSV lines, with a header line or without.
///
/// # Errors
/// As [`to_bytes`].
pub fn csv_lines(schema: &SchemaRef, rows: &[RecordBatch], header: bool) -> Result<Vec<u8>> {
    if let Some(field) = schema.fields().iter().find(|field| field.data_type().is_nested()) {
        return Err(Error::failed(format!("column '{}' cannot be written as CSV", field.name()))
            .because("it holds several values")
            .help("select its parts, or write JSON"));
    }
    let write = || {
        let mut writer = csv::WriterBuilder::new().with_header(header).build(Vec::new());
        if header {
            // without a batch the writer writes no header
            writer.write(&RecordBatch::new_empty(schema.clone()))?;
        }
        for batch in rows {
            writer.write(batch)?;
        }
        Ok(writer.into_inner())
    };
    write().map_err(|error| cannot_write("CSV", &error))
}

/// A table for people, its last line ended; control characters escaped, line ends too. A value without a text, such as
/// a time beyond the calendar, is shown as the error that it is.
///
/// # Errors
/// As [`to_bytes`].
pub fn table(schema: &SchemaRef, rows: &[RecordBatch]) -> Result<String> {
    let draw = || {
        let fields = schema.fields().iter().map(|field| Field::new(cell(field.name()), DataType::Utf8, false));
        let shown = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let batches = rows.iter().map(|batch| text_columns(batch, &shown)).collect::<Result<Vec<_>, ArrowError>>()?;
        Ok(format!("{}\n", pretty_format_batches_with_schema(shown, &batches)?))
    };
    draw().map_err(|error| cannot_write("a table", &error))
}

/// The cells of each column, as [`table`] has them.
///
/// # Errors
/// As [`to_bytes`].
pub fn text_cells(batch: &RecordBatch) -> Result<Vec<Vec<String>>> {
    batch.columns().iter().map(column_cells).collect::<Result<_, _>>().map_err(|error| cannot_write("a table", &error))
}

fn column_cells(column: &ArrayRef) -> Result<Vec<String>, ArrowError> {
    let options = FormatOptions::new().with_null("NULL").with_display_error(true);
    let formatter = ArrayFormatter::try_new(column, &options)?;
    Ok((0..column.len()).map(|row| cell(&formatter.value(row).to_string())).collect())
}

fn text_columns(batch: &RecordBatch, shown: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let text = |column: &ArrayRef| -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(column_cells(column)?.into_iter().map(Some).collect::<StringArray>()))
    };
    let columns = batch.columns().iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let row_count = datafusion::arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(shown.clone(), columns, &row_count)
}

fn cell(text: &str) -> String {
    printable(text).replace('\n', "\\n").replace('\t', "\\t")
}

pub(super) fn cannot_write(what: &str, error: &ArrowError) -> Error {
    Error::failed(format!("rows cannot be written as {what}")).because(error.to_string())
}

/// Writes floats as serde_json does, and names those that are no JSON numbers.
#[derive(Debug)]
struct Floats;

impl EncoderFactory for Floats {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder> = match array.data_type() {
            DataType::Float64 => Box::new(FloatEncoder::<Float64Type>::new(array.as_primitive())),
            DataType::Float32 => Box::new(FloatEncoder::<Float32Type>::new(array.as_primitive())),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

struct FloatEncoder<T: ArrowPrimitiveType>(ScalarBuffer<T::Native>);

impl<T: ArrowPrimitiveType> FloatEncoder<T> {
    fn new(array: &PrimitiveArray<T>) -> Self {
        FloatEncoder(array.values().clone())
    }
}

impl<T: ArrowPrimitiveType> Encoder for FloatEncoder<T>
where
    T::Native: Into<f64> + serde::Serialize,
{
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.0[row];
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

#[cfg(test)]
mod tests {
    use datafusion::arrow::{
        array::{Decimal128Array, Float64Array, Int64Array, StructArray, TimestampMicrosecondArray},
        datatypes::Fields,
    };

    use super::*;

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([
            ("name", Arc::new(StringArray::from(vec![Some("a\"b"), None, Some("x,\u{1b}[2J\ny")])) as ArrayRef, true),
            ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(i64::MIN)])), true),
            ("f", Arc::new(Float64Array::from(vec![0.1, f64::NAN, f64::NEG_INFINITY])), true),
            (
                "d",
                Arc::new(
                    Decimal128Array::from(vec![Some(150), None, Some(-1)]).with_precision_and_scale(10, 2).unwrap(),
                ),
                true,
            ),
            ("t", Arc::new(TimestampMicrosecondArray::from(vec![Some(0), None, Some(1_500_000)])), true),
        ])
        .unwrap()
    }

    fn text(bytes: Result<Vec<u8>>) -> String {
        String::from_utf8(bytes.unwrap()).unwrap()
    }

    #[test]
    fn json_names_every_column_and_every_number() {
        let lines = "{\"name\":\"a\\\"b\",\"n\":1,\"f\":0.1,\"d\":1.50,\"t\":\"1970-01-01T00:00:00\"}
{\"name\":null,\"n\":null,\"f\":\"NaN\",\"d\":null,\"t\":null}
{\"name\":\"x,\\u001b[2J\\ny\",\"n\":-9223372036854775808,\"f\":\"-Infinity\",\"d\":-0.01,\"t\":\"1970-01-01T00:00:01.500\"}
";
        assert_eq!(text(json_lines(&[batch()])), lines);
        assert_eq!(text(json_lines(&[batch().slice(0, 1), batch().slice(1, 2)])), lines);
        assert_eq!(text(json_array(&[batch()])), format!("[{}]", lines.trim_end().replace('\n', ",")));
        for line in lines.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }

    #[test]
    fn floats_read_back_as_they_were() {
        let values = vec![1.0, 0.1, 1e300, 5e-324, -0.0, 172_800.0, 1e16, f64::MAX, 1.0 / 3.0];
        let batch = RecordBatch::try_from_iter([("f", Arc::new(Float64Array::from(values.clone())) as ArrayRef)]);
        let lines = text(json_lines(&[batch.unwrap()]));
        let read: Vec<f64> = lines.lines().map(|line| line[5..line.len() - 1].parse().unwrap()).collect();
        assert_eq!(
            read.iter().map(|f| f.to_bits()).collect::<Vec<_>>(),
            values.iter().map(|f| f.to_bits()).collect::<Vec<_>>()
        );
    }

    #[test]
    fn csv_has_a_header_also_without_rows() {
        let schema = batch().schema();
        assert_eq!(
            text(csv_lines(&schema, &[batch()], true)),
            "name,n,f,d,t\n\"a\"\"b\",1,0.1,1.50,1970-01-01T00:00:00\n,,NaN,,\n\"x,\u{1b}[2J\ny\",-9223372036854775808,-inf,-0.01,1970-01-01T00:00:01.500\n"
        );
        assert_eq!(text(csv_lines(&schema, &[], true)), "name,n,f,d,t\n");
        assert_eq!(text(csv_lines(&schema, &[], false)), "");
        assert_eq!(text(json_lines(&[])), "");
        assert_eq!(text(json_array(&[])), "[]");
    }

    /// Found by random jobs: an empty key that can be no null was read back as one, and its file not at all.
    #[test]
    fn an_empty_text_of_a_csv_column_without_nulls_is_read_back() {
        let texts = |texts: [Option<&str>; 2]| Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
        let columns = [("key", texts([Some(""), Some("a")]), false), ("more", texts([Some("b"), None]), true)];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let bytes = csv_lines(&batch.schema(), std::slice::from_ref(&batch), true).unwrap();
        assert_eq!(from_bytes(RowFormat::Csv, &batch.schema(), bytes).unwrap(), [batch]);
    }

    #[test]
    fn a_struct_is_no_csv_field() {
        let fields = Fields::from(vec![Field::new("start", DataType::Int64, true)]);
        let column = StructArray::new(fields, vec![Arc::new(Int64Array::from(vec![1]))], None);
        let batch = RecordBatch::try_from_iter([("window", Arc::new(column) as ArrayRef)]).unwrap();
        let error = csv_lines(&batch.schema(), std::slice::from_ref(&batch), true).unwrap_err();
        assert_eq!(error.what(), "column 'window' cannot be written as CSV");
        let refused = check(RowFormat::Csv, &batch.schema()).unwrap_err();
        assert_eq!((refused.kind(), refused.what()), (crate::model::ErrorKind::Usage, error.what()));
        check(RowFormat::Json, &batch.schema()).unwrap();
        assert_eq!(text(json_lines(&[batch])), "{\"window\":{\"start\":1}}\n");
    }

    #[test]
    fn what_a_format_takes_is_known_without_rows() {
        let field = Field::new("n", DataType::Int64, false);
        let entries = Fields::from(vec![Field::new("key", DataType::Int64, false), field.clone()]);
        let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false);
        let schema =
            |data_type| -> SchemaRef { Arc::new(Schema::new(vec![field.clone(), Field::new("m", data_type, false)])) };
        let refused = check(RowFormat::Json, &schema(map)).unwrap_err();
        assert_eq!(refused.what(), "column 'm' cannot be written as JSON", "its keys are no strings");
        for format in [RowFormat::Json, RowFormat::Csv] {
            check(format, &batch().schema()).unwrap();
            check(format, &schema(DataType::Duration(datafusion::arrow::datatypes::TimeUnit::Microsecond))).unwrap();
        }
    }

    /// It is drawn after the commit, so no value may fail it.
    #[test]
    fn a_table_shows_what_has_no_text() {
        let times = TimestampMicrosecondArray::from(vec![i64::MAX]);
        let batch = RecordBatch::try_from_iter([("t", Arc::new(times) as ArrayRef)]).unwrap();
        assert!(table(&batch.schema(), std::slice::from_ref(&batch)).unwrap().contains("ERROR: "));
    }

    #[test]
    fn a_table_cannot_drive_the_terminal() {
        let batch = batch().project(&[0, 1, 2]).unwrap();
        let expected = "\
+----------------+----------------------+------+
| name           | n                    | f    |
+----------------+----------------------+------+
| a\"b            | 1                    | 0.1  |
| NULL           | NULL                 | NaN  |
| x,\\u{1b}[2J\\ny | -9223372036854775808 | -inf |
+----------------+----------------------+------+
";
        assert_eq!(table(&batch.schema(), std::slice::from_ref(&batch)).unwrap(), expected);
        assert_eq!(table(&batch.schema(), &[]).unwrap().lines().count(), 4);
    }
}
