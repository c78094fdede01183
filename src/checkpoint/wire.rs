//! What the owner of a running checkpoint and its readers say to each other.
//!
//! The reader sends eight bytes. The owner answers with the same eight, the number of its live part, every entry
//! of it behind its sequence number and length, an end mark, and BLAKE3 of all that; then it hangs up. Asked with other eight
//! bytes it says what it is at ([`Activity`]), behind the same eight; with others again, and a number, only the entries from there on.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{activity::Activity, layout::Layout, part::Entries};
use crate::model::{Error, Result};

pub(super) const GREETING: [u8; 8] = *b"HWDUMP\0\x01";
pub(super) const SINCE_GREETING: [u8; 8] = *b"HWTAIL\0\x01";
pub(super) const ACTIVITY_GREETING: [u8; 8] = *b"HWWORK\0\x01";
const END: u64 = u64::MAX;
/// No live part is larger.
const BYTES_MAX: u64 = 8 << 30;
/// How long either side waits for the other to send or take some bytes.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The socket by a path that is short however deep the checkpoint lies: addresses are limited to 108 bytes. Valid as long
/// as the folder's handle.
pub(super) fn short_path(folder: &File, name: &str) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name)
}

/// Sends the live part.
pub(super) fn send(stream: &mut impl Write, part: u32, entries: &Entries) -> io::Result<()> {
    let mut hasher = blake3::Hasher::new();
    let mut put = |bytes: &[u8]| {
        hasher.update(bytes);
        stream.write_all(bytes)
    };
    put(&GREETING)?;
    put(&part.to_be_bytes())?;
    for (seq, entry) in entries {
        put(&seq.to_be_bytes())?;
        put(&(entry.len() as u64).to_be_bytes())?;
        put(entry)?;
    }
    put(&END.to_be_bytes())?;
    let hash = *hasher.finalize().as_bytes();
    stream.write_all(&hash)?;
    stream.flush()
}

/// Takes the live part.
pub(super) fn receive(stream: &mut impl Read) -> io::Result<(u32, Entries)> {
    let mut input = Hashed { stream, hasher: blake3::Hasher::new(), left: BYTES_MAX };
    if input.take::<8>()? != GREETING {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is not a checkpoint's"));
    }
    let part = u32::from_be_bytes(input.take()?);
    let mut entries = Entries::new();
    loop {
        let seq = u64::from_be_bytes(input.take()?);
        if seq == END {
            break;
        }
        let length = u64::from_be_bytes(input.take()?);
        entries.push((seq, input.bytes(length)?));
    }
    let expected = *input.hasher.finalize().as_bytes();
    let mut hash = [0; 32];
    input.stream.read_exact(&mut hash)?;
    if hash != expected {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer's checksum is wrong"));
    }
    Ok((part, entries))
}

struct Hashed<'a, R> {
    stream: &'a mut R,
    hasher: blake3::Hasher,
    left: u64,
}

impl<R: Read> Hashed<'_, R> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        self.hasher.update(&bytes);
        Ok(bytes)
    }

    /// Grows with what really arrives: a length is only a claim.
    fn bytes(&mut self, length: u64) -> io::Result<Vec<u8>> {
        self.left = self.left.checked_sub(length).ok_or(io::ErrorKind::InvalidData)?;
        let mut bytes = Vec::new();
        if self.stream.take(length).read_to_end(&mut bytes)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.hasher.update(&bytes);
        Ok(bytes)
    }
}

/// Asks the owner for its live part; `None` where nobody answers (it is starting, stopping, or has no socket).
pub(super) fn ask(layout: &Layout) -> Result<Option<(u32, Entries)>> {
    asked(layout, &GREETING, receive)
}

/// Asks the owner for the entries of its live part from one on; `None` as for all.
pub(super) fn ask_since(layout: &Layout, first: u64) -> Result<Option<(u32, Entries)>> {
    asked(layout, &[SINCE_GREETING, first.to_be_bytes()].concat(), receive)
}

/// Asks the owner what it is at; `None` where nobody answers, or one that is older than the question.
pub(super) fn ask_activity(layout: &Layout) -> Result<Option<Activity>> {
    asked(layout, &ACTIVITY_GREETING, receive_activity)
}

/// Says what the owner is at.
pub(super) fn send_activity(stream: &mut impl Write, activity: Activity) -> io::Result<()> {
    stream.write_all(&ACTIVITY_GREETING)?;
    stream.write_all(&activity.to_bytes())?;
    stream.flush()
}

fn receive_activity(stream: &mut impl Read) -> io::Result<Activity> {
    let (mut greeting, mut bytes) = ([0; 8], [0; 24]);
    stream.read_exact(&mut greeting)?;
    if greeting != ACTIVITY_GREETING {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is not a checkpoint's"));
    }
    stream.read_exact(&mut bytes)?;
    Ok(Activity::from_bytes(bytes))
}

fn asked<T>(
    layout: &Layout,
    question: &[u8],
    receive: impl FnOnce(&mut UnixStream) -> io::Result<T>,
) -> Result<Option<T>> {
    let fail = |error: io::Error| Error::io("cannot ask the running job for its checkpoint", layout.dir(), &error);
    let folder = File::open(layout.dir()).map_err(fail)?;
    let mut stream = match UnixStream::connect(short_path(&folder, super::server::SOCKET)) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(fail(error)),
    };
    stream.set_read_timeout(Some(PATIENCE)).map_err(fail)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(fail)?;
    match stream.write_all(question).and_then(|()| receive(&mut stream)) {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if hung_up(&error) => Ok(None),
        Err(error) => Err(fail(error)),
    }
}

fn hung_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BatchId;

    #[test]
    fn what_the_owner_is_at_arrives_whole_or_not_at_all() {
        let activity = Activity { since_us: Some(5), at_work: Some((BatchId(3), 7)) };
        let mut bytes = Vec::new();
        send_activity(&mut bytes, activity).unwrap();
        assert_eq!(receive_activity(&mut &bytes[..]).unwrap(), activity);
        assert!((0..bytes.len()).all(|end| receive_activity(&mut &bytes[..end]).is_err()));
        assert!(receive_activity(&mut &[0; 32][..]).is_err(), "another's answer");
    }

    #[test]
    fn what_is_sent_arrives_and_damage_is_found() {
        let entries: Entries = vec![(7, b"seven".to_vec()), (8, vec![1; 10_000])];
        let mut bytes = Vec::new();
        send(&mut bytes, 3, &entries).unwrap();
        assert_eq!(receive(&mut &bytes[..]).unwrap(), (3, entries));
        for at in (0..bytes.len()).step_by(7) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert!(receive(&mut &damaged[..]).is_err(), "byte {at}");
            assert!(receive(&mut &bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
