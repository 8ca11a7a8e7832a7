//! The wal-index: what in the log is committed.
//!
//! The `-shm` file is memory that all processes with the database open share. A commit
//! is made by writing its header, and nothing else: frames that lie in the log before
//! that are not committed, and may never be. A follower that went by the log alone would
//! capture a transaction whose writer was killed before this last step, and lose step
//! with the database when the next writer overwrites it. So a look at this header
//! decides what may be read; it costs one call and no lock.
//!
//! ```text
//!   0  header, twice, 48 bytes each: version u32, _ u32, changes u32, initialised u8, big-endian
//!      checksums u8, page size u16, frames u32, pages of the database u32, checksum of the last
//!      frame 2 u32, salts 8, checksum of the header 2 u32
//!  96  frames copied to the database u32, read marks 5 u32, locks
//! ```
//!
//! Integers are as the machine has them. Both copies are compared and the checksum is
//! computed, as SQLite does, so a header that is being written is never believed.
//!
//! Reading through a descriptor sees what others wrote through a mapping: on a local
//! file system of Linux both are the same pages. The descriptor is one that is never
//! closed early, see [`super::files`].

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::wal::{self, read_at};

/// A copy of the header, in bytes.
const HEADER_BYTES: usize = 48;

/// What the index says at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    /// The generation of the log. Without frames: the one that will come, or another.
    pub salts: [u8; 8],
    /// How many frames are committed.
    pub frames: u32,
    /// The checksum at the end of the last of them.
    pub checksum: [u32; 2],
    /// Counts commits since the index was made.
    pub changes: u32,
    /// How many of the frames are in the database file.
    pub backfilled: u32,
}

impl View {
    /// Whether the database file alone has everything that is committed.
    pub(super) fn is_drained(&self) -> bool {
        self.backfilled >= self.frames
    }
}

/// The `-shm` file, open for reading.
#[derive(Debug)]
pub(super) struct WalIndex {
    file: Arc<File>,
}

impl WalIndex {
    /// Reads from this descriptor.
    pub(super) fn new(file: Arc<File>) -> WalIndex {
        WalIndex { file }
    }

    /// What it says now; `None` if it is being written, or its writer died in between.
    pub(super) fn look(&self) -> io::Result<Option<View>> {
        let mut bytes = [0; 2 * HEADER_BYTES + 4];
        let full = read_at(&self.file, &mut bytes, 0)? == bytes.len();
        Ok(if full { parse(&bytes) } else { None })
    }
}

fn parse(bytes: &[u8; 2 * HEADER_BYTES + 4]) -> Option<View> {
    let (header, rest) = bytes.split_at(HEADER_BYTES);
    let (copy, backfilled) = rest.split_at(HEADER_BYTES);
    let word =
        |bytes: &[u8], at: usize| bytes.get(at..at + 4)?.try_into().map(u32::from_ne_bytes).ok();
    let sum = wal::checksum(cfg!(target_endian = "big"), &header[..40], [0, 0]);
    let sound = header == copy
        && word(header, 0)? == wal::VERSION
        && header[12] != 0
        && sum == [word(header, 40)?, word(header, 44)?];
    let mut salts = [0; 8];
    salts.copy_from_slice(&header[32..40]);
    sound.then_some(View {
        salts,
        frames: word(header, 16)?,
        checksum: [word(header, 24)?, word(header, 28)?],
        changes: word(header, 8)?,
        backfilled: word(backfilled, 0)?,
    })
}
