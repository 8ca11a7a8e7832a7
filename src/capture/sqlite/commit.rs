//! One committed transaction.
//!
//! Most are a few pages, and those are in memory. One can be as large as the database: a
//! `VACUUM` is. Of such a one only the places of its pages in the log are kept, and the
//! pages are read when they are asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::{Error, Gap, Result};
use super::wal::{Frame, Point, Transaction, WalPages};
use crate::base::UnixTime;

/// A committed transaction: the pages that it wrote, each once.
#[derive(Debug)]
pub struct Commit {
    /// When it was read, just after it was committed. Later than that of every commit
    /// before it, to the nanosecond, even if the clock was put back.
    pub at: UnixTime,
    /// How much earlier it may have been committed: for how long nobody looked.
    pub uncertainty: Duration,
    /// Bytes in a page.
    pub page_size: u32,
    /// How many pages the database has after it. Those with a higher number are gone.
    pub database_pages: u32,
    /// The last frame of each page, in the order of their numbers.
    frames: Vec<Frame>,
    content: Content,
    pub(super) end: Point,
}

#[derive(Debug)]
enum Content {
    /// The pages, in the order of the log; the place of a frame is divided by its size.
    Held { bytes: Vec<u8>, begin: u64 },
    /// They are in the log.
    InWal(WalPages),
}

impl Commit {
    /// The commit that `transaction` is, which ends at `end`.
    pub(super) fn new(
        transaction: Transaction,
        end: Point,
        wal: impl FnOnce() -> WalPages,
        at: UnixTime,
        uncertainty: Duration,
    ) -> Commit {
        let Transaction { frames, bytes, database_pages } = transaction;
        let begin = frames.first().map_or(0, |frame| frame.offset);
        let last: BTreeMap<u32, u64> = frames.iter().map(|f| (f.number, f.offset)).collect();
        let frames = last.into_iter().map(|(number, offset)| Frame { number, offset }).collect();
        let content = match bytes {
            Some(bytes) => Content::Held { bytes, begin },
            None => Content::InWal(wal()),
        };
        let page_size = end.page_size;
        Commit { at, uncertainty, page_size, database_pages, frames, content, end }
    }

    /// How many pages it wrote.
    #[must_use]
    pub fn page_count(&self) -> usize {
        self.frames.len()
    }

    /// The numbers of the pages that it wrote, ascending, the first page being 1.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.frames.iter().map(|frame| frame.number)
    }

    /// The bytes of the pages that it wrote.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.frames.len() as u64 * u64::from(self.page_size)
    }

    /// Whether its pages are in memory. If not, they must be read before the next call
    /// to the [`Follower`](super::Follower).
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self.content, Content::Held { .. })
    }

    /// Reads its pages, in the order of their numbers.
    #[must_use]
    pub fn pages(&self) -> Pages<'_> {
        Pages { commit: self, next: 0, page: Vec::new() }
    }
}

/// Reads the pages of a [`Commit`].
#[derive(Debug)]
pub struct Pages<'a> {
    commit: &'a Commit,
    next: usize,
    page: Vec<u8>,
}

impl Pages<'_> {
    /// The number of the next page, from 1, and what is in it. `None` behind the last.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if the log cannot be read; [`Error::Broken`] if the page is in the
    /// log no more, because the follower was called meanwhile.
    pub fn next_page(&mut self) -> Result<Option<(u32, &[u8])>> {
        let Some(frame) = self.commit.frames.get(self.next) else { return Ok(None) };
        self.next += 1;
        let size = self.commit.page_size as usize;
        match &self.commit.content {
            Content::Held { bytes, begin } => {
                let index = (frame.offset - begin) / self.commit.end.frame_bytes();
                let start = usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(size);
                Ok(bytes.get(start..start + size).map(|page| (frame.number, page)))
            }
            Content::InWal(wal) => {
                self.page.resize(size, 0);
                let read = wal.read(*frame, &mut self.page).map_err(Error::file(wal.path()))?;
                if !read {
                    let path = wal.path().to_owned();
                    return Err(Error::Broken { path, gap: Gap::LogRestarted });
                }
                Ok(Some((frame.number, &self.page)))
            }
        }
    }
}
