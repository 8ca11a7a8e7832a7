//! The write-ahead log, read from outside.
//!
//! ```text
//! header   32 bytes: magic, version, page size, checkpoint number, salts (8 bytes), checksum
//! frame    24 bytes: page number, pages of the database after the commit or 0, salts, checksum
//!          and the page
//! ```
//!
//! Integers are big-endian. The salts say which *generation* a frame is of: when
//! everything in the log was copied to the database, the next writer begins again at its
//! front with other salts, over what is there. The checksum runs on from the header over
//! all frames, so the one in a frame vouches for everything before it.
//!
//! A transaction ends with a frame that has a size of the database. Frames behind the
//! last such frame are nobody's yet: SQLite rewrites them in place (when a cache spills,
//! or a savepoint is rolled back), or abandons them. Even a frame that ends a transaction
//! may be abandoned, by a writer that was killed before it said that it committed. So
//! what is committed is asked of the wal-index, and everything here takes the `end` up
//! to which it may read.
//!
//! The format is described in <https://www.sqlite.org/fileformat2.html#walformat>.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::files::FileId;

/// The bytes before the first frame.
pub(super) const HEADER_BYTES: u64 = 32;

/// The bytes of a frame before its page.
const FRAME_HEADER_BYTES: usize = 24;

/// What is read in one call, in bytes.
const CHUNK_BYTES: usize = 1024 * 1024;

/// The version of the format, the only one there is.
pub(super) const VERSION: u32 = 3_007_000;

/// What all magic numbers begin with; the last bit says that checksums are of
/// big-endian words.
const MAGIC: u32 = 0x377f_0682;

/// A place in the log between two transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Point {
    /// Which generation of the log.
    pub salts: [u8; 8],
    /// Bytes in a page, of this generation.
    pub page_size: u32,
    /// Whether checksums are of big-endian words.
    pub big_endian: bool,
    /// Where the next frame begins.
    pub offset: u64,
    /// The checksum of everything before it.
    pub checksum: [u32; 2],
}

impl Point {
    /// The first place behind a header; `None` if it is none, or is being written.
    pub(super) fn after_header(header: &[u8; HEADER_BYTES as usize]) -> Option<Point> {
        let [magic, version, page_size, _] = words(header);
        if magic & !1 != MAGIC || version != VERSION || !is_page_size(page_size) {
            return None;
        }
        let big_endian = magic & 1 == 1;
        let checksum = checksum(big_endian, &header[..24], [0, 0]);
        let [stored_0, stored_1] = words(&header[24..]);
        let mut salts = [0; 8];
        salts.copy_from_slice(&header[16..24]);
        (checksum == [stored_0, stored_1]).then_some(Point {
            salts,
            page_size,
            big_endian,
            offset: HEADER_BYTES,
            checksum,
        })
    }

    /// Bytes in a frame.
    pub(super) fn frame_bytes(&self) -> u64 {
        u64::from(self.page_size) + FRAME_HEADER_BYTES as u64
    }

    /// Where the frame after the first `frames` begins.
    pub(super) fn offset_of(&self, frames: u32) -> u64 {
        HEADER_BYTES + u64::from(frames) * self.frame_bytes()
    }

    /// How many frames of this generation are before it.
    pub(super) fn frames(&self) -> u64 {
        (self.offset - HEADER_BYTES) / self.frame_bytes()
    }
}

/// One page of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// The number of the page, from 1.
    pub number: u32,
    /// Where the frame begins in the log.
    pub offset: u64,
}

/// What one transaction wrote.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Transaction {
    /// Its frames, in the order of the log. A page may occur more than once.
    pub frames: Vec<Frame>,
    /// The pages of the frames, one after the other; `None` if they are too many.
    pub bytes: Option<Vec<u8>>,
    /// How many pages the database has after it.
    pub database_pages: u32,
}

/// What comes next in the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A transaction, and the place behind it.
    Transaction(Transaction, Point),
    /// Nothing before the end that was given.
    End,
    /// Something that is no transaction of this generation.
    Invalid,
}

/// The file of the log, open for reading.
#[derive(Debug)]
pub(super) struct Wal {
    file: Arc<File>,
    path: PathBuf,
    id: FileId,
    /// Bytes of the log from `start` on, all of the generation `salts`. They are
    /// committed, so they stay as they are for as long as the generation lives.
    buffer: Vec<u8>,
    start: u64,
    salts: [u8; 8],
}

impl Wal {
    /// Opens the log.
    pub(super) fn open(path: &Path) -> io::Result<Wal> {
        let file = File::open(path)?;
        let id = FileId::of(&file.metadata()?);
        Ok(Wal {
            file: Arc::new(file),
            path: path.to_owned(),
            id,
            buffer: Vec::new(),
            start: 0,
            salts: [0; 8],
        })
    }

    /// Which file it is.
    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The first place of the generation that it is in; `None` if it has none.
    pub(super) fn begin(&self) -> io::Result<Option<Point>> {
        let mut header = [0; HEADER_BYTES as usize];
        Ok(match read_at(&self.file, &mut header, 0)? {
            32 => Point::after_header(&header),
            _ => None,
        })
    }

    /// Whether `point` is a place in the log as it is now: of its generation, and
    /// behind the same frames as it was when it was kept.
    pub(super) fn has(&self, point: &Point) -> io::Result<bool> {
        let Some(begin) = self.begin()? else { return Ok(false) };
        if (begin.salts, begin.page_size) != (point.salts, point.page_size) {
            return Ok(false);
        }
        if point.offset == HEADER_BYTES {
            return Ok(*point == begin);
        }
        let Some(at) = point.offset.checked_sub(point.frame_bytes()) else { return Ok(false) };
        let mut head = [0; FRAME_HEADER_BYTES];
        if read_at(&self.file, &mut head, at)? < head.len() {
            return Ok(false);
        }
        let [_, size, _, _, sum_0, sum_1] = words(&head);
        Ok(head[8..16] == point.salts && size != 0 && [sum_0, sum_1] == point.checksum)
    }

    /// The transaction at `from`, if it ends at `end` or before.
    ///
    /// Its pages are given if they have at most `most` bytes. Memory: that, a mebibyte,
    /// and 16 bytes a frame.
    pub(super) fn next(&mut self, from: &Point, end: u64, most: usize) -> io::Result<Next> {
        if from.offset == end {
            return Ok(Next::End);
        }
        let frame_bytes = from.frame_bytes();
        let mut at = *from;
        let mut frames = Vec::new();
        let mut bytes = Some(Vec::new());
        while at.offset + frame_bytes <= end {
            let Some(frame) = self.frame(&at, end)? else { break };
            let (head, page) = frame.split_at(FRAME_HEADER_BYTES);
            let [number, database_pages, _, _, sum_0, sum_1] = words(head);
            at.checksum = checksum(at.big_endian, &head[..8], at.checksum);
            at.checksum = checksum(at.big_endian, page, at.checksum);
            if head[8..16] != at.salts || number == 0 || at.checksum != [sum_0, sum_1] {
                break;
            }
            bytes = bytes.filter(|bytes| bytes.len() + page.len() <= most);
            if let Some(bytes) = &mut bytes {
                bytes.extend_from_slice(page);
            }
            frames.push(Frame { number, offset: at.offset });
            at.offset += frame_bytes;
            if database_pages != 0 {
                let transaction = Transaction { frames, bytes, database_pages };
                return Ok(Next::Transaction(transaction, at));
            }
        }
        // To be read again if it is asked for again.
        self.buffer.clear();
        Ok(Next::Invalid)
    }

    /// The bytes of one frame, which ends at `end` or before; `None` if the file does.
    fn frame(&mut self, at: &Point, end: u64) -> io::Result<Option<&[u8]>> {
        let length = usize::try_from(at.frame_bytes()).unwrap_or(usize::MAX);
        let inside = |start: u64, buffer: &[u8]| {
            let skip = usize::try_from(at.offset.checked_sub(start)?).ok()?;
            (skip.checked_add(length)? <= buffer.len()).then_some(skip)
        };
        let mut skip = inside(self.start, &self.buffer).filter(|_| self.salts == at.salts);
        if skip.is_none() {
            let frames = (CHUNK_BYTES / length).max(1);
            let wanted = usize::try_from(end - at.offset).unwrap_or(usize::MAX);
            self.buffer.resize(wanted.min(frames * length), 0);
            (self.start, self.salts) = (at.offset, at.salts);
            let filled = read_at(&self.file, &mut self.buffer, at.offset);
            self.buffer.truncate(*filled.as_ref().unwrap_or(&0));
            filled?;
            skip = inside(self.start, &self.buffer);
        }
        Ok(skip.map(|skip| &self.buffer[skip..skip + length]))
    }

    /// Pages of this generation, to be read later.
    pub(super) fn pages(&self, of: &Point) -> WalPages {
        WalPages { file: Arc::clone(&self.file), path: self.path.clone(), salts: of.salts }
    }
}

/// Pages of one generation of the log.
///
/// Safe to keep beyond the life of the generation: what was overwritten is not returned.
#[derive(Debug, Clone)]
pub(super) struct WalPages {
    file: Arc<File>,
    path: PathBuf,
    salts: [u8; 8],
}

impl WalPages {
    /// The path of the log.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `page` with what `frame` holds; false if it was overwritten since.
    ///
    /// Its checksum is not looked at again. Whoever asks read the frame before and keeps
    /// its generation alive; the salts are compared in case they did not, after the
    /// page was read, since a writer puts them there first.
    pub(super) fn read(&self, frame: Frame, page: &mut [u8]) -> io::Result<bool> {
        let behind = frame.offset + FRAME_HEADER_BYTES as u64;
        let full = read_at(&self.file, page, behind)? == page.len();
        let mut head = [0; FRAME_HEADER_BYTES];
        let full = read_at(&self.file, &mut head, frame.offset)? == head.len() && full;
        let [number] = words(&head);
        Ok(full && number == frame.number && head[8..16] == self.salts)
    }
}

/// The cumulative checksum of the log, run on over `bytes`, whose length is a multiple
/// of 8. Some gigabytes a second.
pub(super) fn checksum(big_endian: bool, bytes: &[u8], sum: [u32; 2]) -> [u32; 2] {
    if big_endian {
        run(bytes, sum, u32::from_be_bytes)
    } else {
        run(bytes, sum, u32::from_le_bytes)
    }
}

fn run(bytes: &[u8], sum: [u32; 2], word: impl Fn([u8; 4]) -> u32) -> [u32; 2] {
    let [mut first, mut second] = sum;
    for [a, b, c, d, e, f, g, h] in bytes.as_chunks::<8>().0 {
        first = first.wrapping_add(word([*a, *b, *c, *d])).wrapping_add(second);
        second = second.wrapping_add(word([*e, *f, *g, *h])).wrapping_add(first);
    }
    [first, second]
}

/// Whether SQLite has pages of that size.
fn is_page_size(bytes: u32) -> bool {
    bytes.is_power_of_two() && (512..=65536).contains(&bytes)
}

/// The first big-endian words of `bytes`; 0 where it has none.
fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    words
}

/// Reads until the buffer is full or the file ends, and says how much that was.
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(length) => done += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests;
