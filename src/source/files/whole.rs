//! Reading one planned file whose format needs it as a whole: hashed from its start to its end, then read wherever the
//! format looks.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use twox_hash::xxhash3_128;

use super::read::{End, check_unchanged, open_planned};
use crate::{
    format::{AnyBytes, Compression, Decoded, Reader},
    model::{Error, PlannedFile, Result},
};

/// The file is hashed in pieces of this size.
const PIECE_BYTES: usize = 512 << 10;

/// What the file decodes to, and how its bytes ended.
pub(super) fn read(
    reader: &Reader,
    path: &Path,
    planned: &PlannedFile,
    threads: usize,
    except: &[usize],
    buffer: &mut Vec<u8>,
) -> Result<(Result<Decoded>, End)> {
    let file = open_planned(path, planned)?;
    let cannot = |error: &io::Error| Error::io("cannot read an input file", path, error);
    let (content_hash, read_bytes) = hash(&file, planned, buffer).map_err(|error| cannot(&error))?;
    check_unchanged(&file, path, planned, Some(read_bytes))?;

    let end = |problem| End { content_hash, bytes: 0, line_ended: true, problem };
    if let Some(compression) = Compression::of(planned.path.as_path()).filter(|_| planned.size_bytes > 0) {
        let why = format!("files of this format are compressed inside, and are not read from .{}", compression.name());
        return Ok((Ok(Decoded::default()), end(Some(format!("{why}; unpack it")))));
    }
    let opened = Arc::new(Opened { file, size_bytes: planned.size_bytes, failure: Mutex::new(None) });
    let bytes: Arc<dyn AnyBytes> = Arc::<Opened>::clone(&opened);
    let whole = reader.decode_whole(&path.to_string_lossy(), bytes, threads, except);
    // first of all it must be the planned file that was read, and have been read
    check_unchanged(&opened.file, path, planned, None)?;
    if let Some(error) = opened.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(cannot(&error));
    }
    Ok(match whole {
        Ok(whole) => (Ok(whole.decoded), end(whole.damage)),
        Err(error) => (Err(error), end(None)),
    })
}

/// Of all bytes, and how many there are: one more than planned is enough to see that it grew.
fn hash(mut file: &File, planned: &PlannedFile, buffer: &mut Vec<u8>) -> io::Result<(u128, u64)> {
    buffer.clear();
    buffer.resize(PIECE_BYTES, 0);
    let mut hasher = xxhash3_128::Hasher::new();
    let mut content = Read::take(&mut file, planned.size_bytes.saturating_add(1));
    let mut read_bytes = 0;
    loop {
        match content.read(buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.write(&buffer[..count]);
                read_bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((hasher.finish_128(), read_bytes))
}

/// A planned file that is being read by several threads, each where it likes.
struct Opened {
    file: File,
    size_bytes: u64,
    /// What the operating system said; the format would take it for damage.
    failure: Mutex<Option<io::Error>>,
}

impl AnyBytes for Opened {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn fill(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|error| {
            let told = io::Error::from(error.kind());
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            told
        })
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field, Schema};

    use super::{super::listing, *};
    use crate::{
        job::{FormatKind, FormatSpec, RecordOptions},
        model::{ErrorKind, InputPath},
    };

    fn plan(path: &Path) -> PlannedFile {
        let metadata = std::fs::symlink_metadata(path).unwrap();
        let name = InputPath::new(Path::new(path.file_name().unwrap()));
        PlannedFile {
            identity: name.clone(),
            path: name,
            size_bytes: metadata.len(),
            modified_ns: listing::modified_ns(&metadata),
        }
    }

    fn read_planned(path: &Path, planned: &PlannedFile) -> Result<(Result<Decoded>, End)> {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let spec = FormatSpec { records: RecordOptions::default(), kind: FormatKind::Parquet };
        let reader = Reader::new(schema, vec![0], &spec).unwrap();
        read(&reader, path, planned, 2, &[], &mut Vec::new())
    }

    #[test]
    fn all_bytes_are_hashed_whatever_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let large = vec![7; 3 * PIECE_BYTES + 1];
        for (name, bytes, why) in [
            ("empty", &b""[..], None),
            ("empty.gz", b"", None),
            ("text", b"{}\n", Some("too few for Parquet")),
            ("large", &large, Some("is no Parquet file, or is cut off")),
            ("a.parquet.ZST", b"PAR1", Some("not read from .zst; unpack it")),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let (decoded, end) = read_planned(&path, &plan(&path)).unwrap();
            assert_eq!(decoded.unwrap().rows, 0, "{name}");
            assert_eq!(end.content_hash, xxhash3_128::Hasher::oneshot(bytes), "{name}");
            assert_eq!(end.problem.is_some(), why.is_some(), "{name}: {:?}", end.problem);
            assert!(end.problem.unwrap_or_default().contains(why.unwrap_or_default()), "{name}");
        }
    }

    #[test]
    fn another_file_than_planned_is_not_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        std::fs::write(&path, "PAR1").unwrap();
        let planned = plan(&path);
        let longer = PlannedFile { size_bytes: 5, ..planned.clone() };
        let later = PlannedFile { modified_ns: planned.modified_ns + 1, ..planned.clone() };
        for other in [longer, later] {
            assert_eq!(read_planned(&path, &other).map(drop).unwrap_err().kind(), ErrorKind::Moved);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read_planned(&path, &planned).map(drop).unwrap_err().kind(), ErrorKind::Moved);
    }
}
