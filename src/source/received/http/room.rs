//! Memory for bodies of requests, which all connections share.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that bodies may take together.
pub(super) struct Room(AtomicU64);

impl Room {
    pub fn of(bytes: u64) -> Room {
        Room(AtomicU64::new(bytes))
    }

    /// An empty share, that grows.
    pub fn share(&self) -> Share<'_> {
        Share { room: self, bytes: 0 }
    }
}

/// What one request has of the room, until it is dropped.
pub(super) struct Share<'r> {
    room: &'r Room,
    bytes: u64,
}

impl Share<'_> {
    /// Takes so many bytes more; false: there are not so many left.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let taken =
            self.room.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(bytes)).is_ok();
        self.bytes += if taken { bytes } else { 0 };
        taken
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.room.0.fetch_add(self.bytes, Ordering::AcqRel);
    }
}
