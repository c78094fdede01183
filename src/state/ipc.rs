//! Record batches as bytes: an Arrow IPC stream inside one zstd frame.
//!
//! The same rows give the same bytes. The frame states how long its content is: the reader takes that much and no more,
//! and reserves memory as bytes come, never because of what is stated. Whether the bytes are those that were committed
//! is checked before, by whoever read them (their hash is in the log).

use std::{
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
};

use datafusion::arrow::{
    buffer::Buffer,
    datatypes::SchemaRef,
    error::ArrowError,
    ipc::{reader::StreamDecoder, writer::StreamWriter},
    record_batch::RecordBatch,
};

use crate::model::{Error, Result};

/// The fast end of the scale: a state of short text keys and counts shrinks to two fifths at half a gigabyte a second; level 1
/// would make it a third, for more than twice the time.
const ZSTD_LEVEL: i32 = -5;

/// Encodes batches of one schema.
///
/// # Errors
/// Of kind `Failed` where Arrow cannot write a type.
pub fn encode(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let unwritable =
        |error: &dyn std::fmt::Display| Error::failed("state cannot be encoded").because(error.to_string());
    let mut plain = Vec::new();
    let mut writer = StreamWriter::try_new(&mut plain, schema).map_err(|error| unwritable(&error))?;
    for batch in batches {
        writer.write(batch).map_err(|error| unwritable(&error))?;
    }
    writer.finish().map_err(|error| unwritable(&error))?;
    drop(writer);
    zstd::bulk::compress(&plain, ZSTD_LEVEL).map_err(|error| unwritable(&error))
}

/// Decodes what [`encode`] wrote, and checks that it has the schema that this job's state has.
///
/// # Errors
/// Of kind `Refused` where the bytes are damaged or of another schema.
pub fn decode(schema: &SchemaRef, bytes: &[u8]) -> Result<Vec<RecordBatch>> {
    let damaged = |error: &dyn std::fmt::Display| {
        Error::refused("state in the checkpoint cannot be decoded").because(error.to_string())
    };
    let plain = decompress(bytes).map_err(|why| damaged(&why))?;
    // Arrow panics over a schema that no Arrow ever wrote. Payloads are verified by their hash before they come here, so
    // only a checkpoint that was made up gets that far; it is refused all the same.
    let batches = catch_unwind(AssertUnwindSafe(|| decode_stream(schema, plain)));
    batches
        .unwrap_or_else(|_| Err(ArrowError::IpcError("it is no Arrow stream".to_owned())))
        .map_err(|error| damaged(&error))
}

fn decode_stream(schema: &SchemaRef, plain: Vec<u8>) -> std::result::Result<Vec<RecordBatch>, ArrowError> {
    // Takes slices of what is there: Arrow's other reader makes room for any length that a message claims.
    let (mut decoder, mut rest) = (StreamDecoder::new(), Buffer::from_vec(plain));
    let mut batches = Vec::new();
    while let Some(batch) = decoder.decode(&mut rest)? {
        // One schema object for all batches: equality checks further on are then pointer comparisons.
        batches.push(batch.with_schema(schema.clone())?);
    }
    decoder.finish()?;
    if decoder.schema().is_none_or(|found| found.fields() != schema.fields()) {
        return Err(ArrowError::SchemaError("its columns are not those of this job's state".to_owned()));
    }
    Ok(batches)
}

/// The content of one zstd frame: exactly as many bytes as it states.
fn decompress(frame: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let stated = match zstd::zstd_safe::get_frame_content_size(frame) {
        Ok(Some(stated)) => stated,
        Ok(None) => return Err("it does not say how long its content is".to_owned()),
        Err(_) => return Err("it is no zstd frame".to_owned()),
    };
    let mut plain = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(frame).map_err(|error| error.to_string())?;
    // one byte more than stated, so that a frame that holds more is seen
    decoder.take(stated.saturating_add(1)).read_to_end(&mut plain).map_err(|error| error.to_string())?;
    if plain.len() as u64 != stated {
        return Err("its content is not as long as it says".to_owned());
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::{
        array::{Int64Array, StringArray},
        datatypes::{DataType, Field, Schema},
    };

    use super::*;

    #[test]
    fn rows_read_back_and_damage_is_refused() {
        let schema =
            Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true), Field::new("n", DataType::Int64, false)]));
        let keys = StringArray::from(vec![Some("a"), None, Some("c")]);
        let batch =
            RecordBatch::try_new(schema.clone(), vec![Arc::new(keys), Arc::new(Int64Array::from(vec![1, 2, 3]))]);
        let batches = vec![batch.expect("a valid batch")];
        let bytes = encode(&schema, &batches).expect("encodes");
        assert_eq!(decode(&schema, &bytes).expect("decodes"), batches);
        assert_eq!(bytes, encode(&schema, &batches).expect("encodes"), "the same rows give the same bytes");
        assert!(decode(&schema, &bytes[..bytes.len() - 3]).is_err());
        assert!(decode(&schema, b"").is_err() && decode(&schema, b"no frame at all").is_err());
        let other = Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true)]));
        assert!(decode(&other, &bytes).is_err());
    }
    /// A reader that took all that came would take as much memory as a frame can be made to hold.
    #[test]
    fn a_frame_is_read_as_far_as_it_says_and_no_further() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let bytes = encode(&schema, &[]).expect("encodes");
        let refused = |frame: &[u8]| decode(&schema, frame).expect_err("it is refused").to_string();
        // A second frame behind the first; a stream whose length was not known when it began; a length of 2^60.
        let much = zstd::bulk::compress(&vec![0; 64 << 20], 1).expect("compresses");
        assert!(much.len() < 1 << 14, "{}", much.len());
        assert!(refused(&[bytes.as_slice(), &much].concat()).contains("not as long as it says"));
        let unsized_frame = zstd::stream::encode_all(&b"some rows"[..], 1).expect("compresses");
        assert!(refused(&unsized_frame).contains("does not say how long"));
        let header = [&[0x28, 0xB5, 0x2F, 0xFD, 0b1110_0000][..], &(1_u64 << 60).to_le_bytes()].concat();
        assert!(decode(&schema, &header).is_err(), "nothing is reserved for what is only stated");
    }

    /// Found by fuzzing: Arrow's schema reader panics over a type that it does not know.
    #[test]
    fn a_made_up_schema_is_refused_and_no_panic() {
        let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true)]));
        let plain = zstd::stream::decode_all(&encode(&schema, &[]).expect("encodes")[..]).expect("it is a frame");
        let mut refused = 0;
        for at in 8..plain.len() {
            let mut damaged = plain.clone();
            damaged[at] = 0;
            let payload = zstd::bulk::compress(&damaged, 1).expect("anything can be compressed");
            // an empty stream whose columns are still ours is what it was
            refused += u32::from(decode(&schema, &payload).is_err());
        }
        assert!(refused > 20, "{refused} of {}", plain.len());
    }

    /// Found by fuzzing: a message that claims gigabytes made room for them.
    #[test]
    fn a_claimed_length_allocates_nothing() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(vec![1, 2, 3]))]);
        let bytes = encode(&schema, &[rows.expect("a valid batch")]).expect("encodes");
        let plain = zstd::stream::decode_all(&bytes[..]).expect("it is a frame");
        let cut = zstd::bulk::compress(&plain[..plain.len() - 20], 1).expect("anything can be compressed");
        assert!(decode(&schema, &cut).is_err(), "a body that is not all there");
    }
}
