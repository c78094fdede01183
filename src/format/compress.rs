//! Compressed input, by file name: `.gz` and `.zst`.

use std::{
    io::{self, Read},
    path::Path,
};

/// A file decompresses to at most this many bytes (8 GiB) ...
const BYTES_MAX: u64 = 8 << 30;
/// ... and past this many (64 MiB) ...
const RATIO_FREE_BYTES: u64 = 64 << 20;
/// ... to at most this many times its size.
const RATIO_MAX: u64 = 1000;

/// What could be decompressed.
#[derive(Debug)]
pub struct Decompressed {
    pub bytes: Vec<u8>,
    /// Why there is no more: a broken or cut stream, or a limit.
    pub problem: Option<String>,
}

/// Undoes `.gz` and `.zst` (in any case); other names give their bytes back as they are. Streams may be
/// concatenated; an empty file is empty.
///
/// A stream is read up to 8 GiB; past 64 MiB it may not be more than 1000 times the file's size. What came
/// out before a limit or damage is returned, with the reason.
pub fn decompress(name: &Path, bytes: Vec<u8>) -> Decompressed {
    let extension = name.extension().map(|extension| extension.to_ascii_lowercase());
    let limits = Limits { bytes_max: BYTES_MAX, ratio_free_bytes: RATIO_FREE_BYTES };
    match extension.as_deref().and_then(|extension| extension.to_str()) {
        _ if bytes.is_empty() => Decompressed { bytes, problem: None },
        Some("gz") => limits.read(flate2::bufread::MultiGzDecoder::new(&bytes[..]), bytes.len()),
        Some("zst") => match zstd::stream::read::Decoder::with_buffer(&bytes[..]) {
            Ok(decoder) => limits.read(decoder, bytes.len()),
            Err(error) => Decompressed { bytes: Vec::new(), problem: Some(broken(&error)) },
        },
        _ => Decompressed { bytes, problem: None },
    }
}

fn broken(error: &io::Error) -> String {
    format!("the compressed stream is broken: {error}")
}

struct Limits {
    bytes_max: u64,
    ratio_free_bytes: u64,
}

impl Limits {
    fn read(&self, decoder: impl Read, compressed_bytes: usize) -> Decompressed {
        let by_ratio = (compressed_bytes as u64).saturating_mul(RATIO_MAX).max(self.ratio_free_bytes);
        let limit = by_ratio.min(self.bytes_max);
        let mut bytes = Vec::with_capacity(compressed_bytes.saturating_mul(4).min(64 << 20));
        // `read_to_end` keeps what it read before an error.
        let read = decoder.take(limit + 1).read_to_end(&mut bytes);
        let problem = match read {
            Err(error) => Some(broken(&error)),
            Ok(_) if bytes.len() as u64 > limit => {
                bytes.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
                Some(format!("it decompresses to more than {limit} bytes, the limit for {compressed_bytes}"))
            }
            Ok(_) => None,
        };
        Decompressed { bytes, problem }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zst(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn undo(name: &str, bytes: &[u8]) -> (Vec<u8>, bool) {
        let undone = decompress(Path::new(name), bytes.to_vec());
        (undone.bytes, undone.problem.is_some())
    }

    #[test]
    fn the_name_decides_and_streams_may_follow_each_other() {
        assert_eq!(undo("a.json", &gz(b"x")), (gz(b"x"), false));
        for (name, encode) in [("a.json.gz", gz as fn(&[u8]) -> Vec<u8>), ("A.GZ", gz), ("a.zst", zst)] {
            assert_eq!(undo(name, &encode(b"{}\n")), (b"{}\n".to_vec(), false), "{name}");
            assert_eq!(undo(name, &[encode(b"{"), encode(b"}")].concat()), (b"{}".to_vec(), false), "{name}");
            assert_eq!(undo(name, b""), (Vec::new(), false), "{name}");
            assert!(undo(name, b"not compressed at all").1, "{name}");
        }
    }

    #[test]
    fn a_cut_or_damaged_stream_gives_what_came_before() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
        for (name, stream) in [("a.gz", gz(&text)), ("a.zst", zst(&text))] {
            let (bytes, problem) = undo(name, &stream[..stream.len() / 2]);
            assert!(problem, "{name}");
            assert!(text.starts_with(&bytes) && !bytes.is_empty(), "{name}: {} bytes", bytes.len());
            let mut damaged = stream.clone();
            let last = damaged.len() - 9;
            damaged[last] ^= 0xFF;
            assert!(undo(name, &damaged).1 || name == "a.zst", "{name}: no checksum by default in zstd");
        }
    }

    #[test]
    fn bombs_stop_at_the_limits() {
        let limits = Limits { bytes_max: 1000, ratio_free_bytes: 100 };
        let zeros = |count| io::repeat(b'0').take(count);
        assert!(limits.read(zeros(100), 0).problem.is_none());
        let cut = limits.read(zeros(101), 0);
        assert_eq!((cut.bytes.len(), cut.problem.is_some()), (100, true));
        assert!(limits.read(zeros(1000), 1).problem.is_none());
        assert!(limits.read(zeros(1001), 2).problem.is_some());
    }
}
