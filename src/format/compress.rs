//! Compressed input, by file name: `.gz` and `.zst`.

use std::{
    io::{self, BufRead, Read},
    path::Path,
};

use super::Bytes;

/// A file decompresses to at most this many bytes (8 GiB) ...
const BYTES_MAX: u64 = 8 << 30;
/// ... and past this many (64 MiB) ...
const RATIO_FREE_BYTES: u64 = 64 << 20;
/// ... to at most this many times its size.
const RATIO_MAX: u64 = 1000;

/// A compressed file is taken to hold so many times its size, where that must be guessed.
pub const RATIO_GUESSED: u64 = 10;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Gz,
    Zst,
}

impl Compression {
    /// By the file's name, in any case; `None`: not at all.
    pub fn of(name: &Path) -> Option<Compression> {
        let extension = name.extension()?.to_ascii_lowercase();
        match extension.to_str()? {
            "gz" => Some(Compression::Gz),
            "zst" => Some(Compression::Zst),
            _ => None,
        }
    }

    /// The ending of a file's name that says so.
    pub fn name(self) -> &'static str {
        match self {
            Compression::Gz => "gz",
            Compression::Zst => "zst",
        }
    }
}

enum Decoder<R: BufRead> {
    Gz(flate2::bufread::MultiGzDecoder<R>),
    Zst(zstd::stream::read::Decoder<'static, R>),
}

/// What comes out of a compressed file, whose streams may be concatenated.
///
/// It is read up to 8 GiB; past 64 MiB it may not be more than 1000 times the file's size. What came out before a limit
/// or damage is given, with the reason.
pub struct Decompressing<R: BufRead> {
    decoder: Decoder<R>,
    compressed_bytes: u64,
    limit_bytes: u64,
    given_bytes: u64,
    problem: Option<String>,
}

impl<R: BufRead> Decompressing<R> {
    /// `compressed_bytes`: the file's size.
    ///
    /// # Errors
    /// Where there is no memory for a decoder.
    pub fn new(compression: Compression, input: R, compressed_bytes: u64) -> io::Result<Decompressing<R>> {
        let decoder = match compression {
            Compression::Gz => Decoder::Gz(flate2::bufread::MultiGzDecoder::new(input)),
            Compression::Zst => Decoder::Zst(zstd::stream::read::Decoder::with_buffer(input)?),
        };
        let limit_bytes = limit_bytes(compressed_bytes);
        Ok(Decompressing { decoder, compressed_bytes, limit_bytes, given_bytes: 0, problem: None })
    }

    /// Why there is no more: a broken or cut stream, or a limit. Known once fewer bytes came than were asked for.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub fn input(&mut self) -> &mut R {
        match &mut self.decoder {
            Decoder::Gz(decoder) => decoder.get_mut(),
            Decoder::Zst(decoder) => decoder.get_mut(),
        }
    }
}

/// Whether a decoder says nothing of its input, but that there is no memory: zstd has no kind of its own for that.
pub(super) fn is_lack_of_memory(error: &io::Error) -> bool {
    const ALLOCATION: &str = "Allocation error";
    error.kind() == io::ErrorKind::OutOfMemory || error.to_string().starts_with(ALLOCATION)
}

/// How much a file may decompress to.
pub(super) fn limit_bytes(compressed_bytes: u64) -> u64 {
    compressed_bytes.saturating_mul(RATIO_MAX).clamp(RATIO_FREE_BYTES, BYTES_MAX)
}

impl<R: BufRead> Bytes for Decompressing<R> {
    fn append(&mut self, to: &mut Vec<u8>, count: usize) -> io::Result<()> {
        if self.problem.is_some() {
            return Ok(());
        }
        let (before, left) = (to.len(), self.limit_bytes - self.given_bytes);
        // one byte more than may be, so that a file that holds more is seen
        let wanted = (count as u64).min(left + 1);
        // `read_to_end` keeps what it read before an error
        let read = match &mut self.decoder {
            Decoder::Gz(decoder) => decoder.take(wanted).read_to_end(to),
            Decoder::Zst(decoder) => decoder.take(wanted).read_to_end(to),
        };
        if let Err(error) = read {
            if is_lack_of_memory(&error) {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            self.problem = Some(format!("the compressed stream is broken: {error}"));
        }
        let mut given = (to.len() - before) as u64;
        if given > left {
            to.pop();
            given = left;
            self.problem = Some(format!(
                "it decompresses to more than {} bytes, the limit for {}",
                self.limit_bytes, self.compressed_bytes
            ));
        }
        self.given_bytes += given;
        Ok(())
    }
}

/// Decompresses what is in memory: what comes out, and why it is not more.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn decompressed(compression: Compression, bytes: &[u8], steps: usize) -> (Vec<u8>, Option<String>) {
    let reader = Decompressing::new(compression, bytes, bytes.len() as u64);
    drain(reader.expect("there is memory for a decoder"), steps)
}

#[cfg(any(test, feature = "fuzz"))]
fn drain<R: BufRead>(mut reader: Decompressing<R>, steps: usize) -> (Vec<u8>, Option<String>) {
    let mut out = Vec::new();
    loop {
        let before = out.len();
        reader.append(&mut out, steps).expect("memory can be read");
        if out.len() - before < steps {
            return (out, reader.problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_lack_of_memory_is_no_damage() {
        // `ZSTD_error_memory_allocation`
        let of_zstd = zstd::zstd_safe::get_error_name(0_usize.wrapping_sub(64));
        assert!(is_lack_of_memory(&io::Error::other(of_zstd)), "{of_zstd}");
        assert!(is_lack_of_memory(&io::ErrorKind::OutOfMemory.into()));
        let damaged = zstd::stream::read::Decoder::with_buffer(&b"no frame"[..]).unwrap().read_to_end(&mut Vec::new());
        assert!(!is_lack_of_memory(&damaged.unwrap_err()));
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zst(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn undo(name: &str, bytes: &[u8]) -> (Vec<u8>, bool) {
        let Some(compression) = Compression::of(Path::new(name)) else { return (bytes.to_vec(), false) };
        let (whole, problem) = decompressed(compression, bytes, 1 << 20);
        assert_eq!(decompressed(compression, bytes, 7), (whole.clone(), problem.clone()), "in steps");
        (whole, problem.is_some())
    }

    #[test]
    fn the_name_decides_and_streams_may_follow_each_other() {
        assert_eq!(undo("a.json", &gz(b"x")), (gz(b"x"), false));
        for (name, encode) in [("a.json.gz", gz as fn(&[u8]) -> Vec<u8>), ("A.GZ", gz), ("a.zst", zst)] {
            assert_eq!(undo(name, &encode(b"{}\n")), (b"{}\n".to_vec(), false), "{name}");
            assert_eq!(undo(name, &[encode(b"{"), encode(b"}")].concat()), (b"{}".to_vec(), false), "{name}");
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
        let mib = 1 << 20;
        for (compressed, limit) in [(0, 64 * mib), (60_000, 64 * mib), (mib, 1000 * mib), (u64::MAX, 8192 * mib)] {
            assert_eq!(limit_bytes(compressed), limit, "{compressed}");
        }
        for (count, limit, expected, problem) in
            [(100, 100, 100, false), (101, 100, 100, true), (1000, 1000, 1000, false), (1001, 1000, 1000, true)]
        {
            let zeros = gz(&vec![b'0'; count]);
            for steps in [1, 10, 100, 5000] {
                let mut reader = Decompressing::new(Compression::Gz, &zeros[..], 1).unwrap();
                reader.limit_bytes = limit;
                let (out, why) = drain(reader, steps);
                assert_eq!((out.len(), why.is_some()), (expected, problem), "{count} {steps}: {why:?}");
            }
        }
    }
}
