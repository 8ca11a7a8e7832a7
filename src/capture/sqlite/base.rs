//! The base: an image of the database exactly at a known commit.
//!
//! It is read from the database file itself, besides SQLite, since SQLite has no way to
//! hand out pages that takes neither the memory nor the disk space of a copy. That it is
//! exact follows from the slot of the reader that is held meanwhile (see `hold`), which
//! began behind the gate, when all that was committed had been read:
//!
//! - If the whole log was in the file when it began, the file is what it was until the
//!   reader ends: into the file only checkpoints write, and they copy nothing of what
//!   was written later.
//! - Else the reader is on slot 1 or higher, and the log stays until it ends. Into the
//!   file may be copied what is in the log up to the reader's mark, so the pages that
//!   are *not* in the log up to there do not change, and those that are, are read from it.
//!
//! Which of the two it is, is seen in the wal-index before and after the reader began.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::error::{Error, Gap, Result};
use super::wal::{Frame, Next, Point, WalPages, read_at};
use super::wal_index::View;
use super::{Commit, Follower, HELD_BYTES_MAX, PAUSE, TRIES};
use crate::base::{Stop, UnixTime, pause};

/// What is read in one go, in bytes.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// The page that SQLite never uses, because locks lie on its bytes.
const LOCK_BYTE: u64 = 1 << 30;

/// For how many seconds a writer may be in its transaction until a base is given up.
const GATE_TRIES: u32 = 300;

/// Which page stands where in the log, up to a place.
#[derive(Debug, Default)]
struct Survey {
    point: Option<Point>,
    pages: BTreeMap<u32, u64>,
}

/// An image of a database, to be read from front to back.
///
/// The log grows until it is dropped. Reading it takes 1 MiB of memory, and 40 bytes for
/// every page that is in the log and not in the database file.
#[derive(Debug)]
pub struct Base<'a> {
    /// When the last commit that is in it may have been made at the latest. Earlier than
    /// that of every commit that is pulled later.
    pub at: UnixTime,
    /// Bytes in a page.
    pub page_size: u32,
    /// How many pages it has.
    pub database_pages: u32,
    /// If commits were pulled before: those since, the last of which it is the image of.
    /// Else none.
    pub before: Vec<Commit>,
    database: Arc<File>,
    wal: Option<WalPages>,
    overlay: BTreeMap<u32, u64>,
    /// How many pages were read, and what was read and not returned yet.
    next: u32,
    buffer: Vec<u8>,
    used: usize,
    follower: PhantomData<&'a mut Follower>,
}

impl Follower {
    /// Takes an image, after which commits can be pulled.
    ///
    /// Stops writers for a moment: less than a millisecond, or as long as it takes to read
    /// what they write in the time in which all of the log is read once.
    ///
    /// # Errors
    ///
    /// [`Error::Behind`] if commits were pulled and not all of them;
    /// [`Error::Sqlite`] if a writer was in one transaction for some seconds.
    pub fn base(&mut self) -> Result<Base<'_>> {
        let mut survey = Survey::default();
        for _ in 0..GATE_TRIES {
            // Most of it while others can write.
            let view = self.view()?;
            let _ = self.survey(&mut survey, &view)?;
            match self.behind_gate(|follower| follower.fix(&mut survey))? {
                Some((fixed, _)) => return self.image(survey, fixed),
                None => {
                    let _ = pause(Duration::from_millis(10), &Stop::new());
                }
            }
        }
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        Err(Error::sqlite(&self.path, "lock")(rusqlite::Error::SqliteFailure(busy, None)))
    }

    /// Goes through the log up to the end of `view`; false if it is not as `view` says.
    fn survey(&mut self, survey: &mut Survey, view: &View) -> Result<bool> {
        let log = |error| Error::file(self.wal.path())(error);
        if view.frames == 0 {
            *survey = Survey::default();
            return Ok(true);
        }
        if survey.point.is_none_or(|point| point.salts != view.salts) {
            let begin = self.wal.begin().map_err(log)?;
            let point = begin.filter(|begin| begin.salts == view.salts);
            *survey = Survey { point, pages: BTreeMap::new() };
        }
        let Some(mut point) = survey.point else { return Ok(false) };
        let end = point.offset_of(view.frames);
        loop {
            let next = self.wal.next(&point, end, 0);
            match next.map_err(Error::file(self.wal.path()))? {
                Next::Transaction(transaction, behind) => {
                    let frames = transaction.frames.iter();
                    survey.pages.extend(frames.map(|frame| (frame.number, frame.offset)));
                    point = behind;
                    survey.point = Some(point);
                }
                Next::End => return Ok(point.checksum == view.checksum),
                Next::Invalid => return Ok(false),
            }
        }
    }

    /// Behind the gate: reads what is left and begins the reader of the image. True if
    /// the database file alone is the image.
    fn fix(&mut self, survey: &mut Survey) -> Result<bool> {
        for _ in 0..TRIES {
            let before = self.view()?;
            if !self.survey(survey, &before)? {
                let _ = pause(PAUSE, &Stop::new());
                continue;
            }
            if self.based && !self.read(HELD_BYTES_MAX)? {
                return Err(Error::Behind { path: self.path.clone() });
            }
            if !self.hold.begin_next()? {
                continue;
            }
            let after = self.view()?;
            // If the last frame was copied just as the reader began, it may be on any slot.
            if !before.is_drained() && after.is_drained() {
                self.hold.end_next()?;
                continue;
            }
            self.hold.advance()?;
            if !self.based {
                self.changes = Some(after.changes);
                self.point = survey.point;
            }
            return Ok(before.is_drained());
        }
        Err(self.broken(Gap::Missed))
    }

    fn image(&mut self, survey: Survey, drained: bool) -> Result<Base<'_>> {
        let database_pages = self
            .hold
            .held()
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .map_err(Error::sqlite(&self.path, "read"))?;
        let at = self.clock.now();
        self.last = at.max(self.last.plus(Duration::from_nanos(1)));
        self.based = true;
        self.looked = self.last;
        self.returned = self.point;
        Ok(Base {
            at: self.last,
            page_size: self.page_size,
            database_pages,
            before: std::mem::take(&mut self.ready),
            database: Arc::clone(&self.database),
            wal: survey.point.map(|point| self.wal.pages(&point)),
            overlay: if drained { BTreeMap::new() } else { survey.pages },
            next: 0,
            buffer: Vec::new(),
            used: 0,
            follower: PhantomData,
        })
    }
}

impl Base<'_> {
    /// The bytes of the image.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::from(self.database_pages) * u64::from(self.page_size)
    }

    /// Reads the next pages to the buffer. A page that was never written is zeros, and so
    /// is the one that locks lie on.
    fn fill(&mut self) -> io::Result<()> {
        let size = u64::from(self.page_size);
        let most = u32::try_from((CHUNK_BYTES / size).max(1)).unwrap_or(1);
        let count = most.min(self.database_pages - self.next);
        let start = u64::from(self.next) * size;
        let length = usize::try_from(u64::from(count) * size).unwrap_or(0);
        (self.used, self.next) = (0, self.next + count);
        self.buffer.resize(length, 0);
        let filled = read_at(&self.database, &mut self.buffer, start)?;
        self.buffer[filled..].fill(0);
        let numbers = (self.next - count + 1)..=self.next;
        for (number, page) in numbers.zip(self.buffer.chunks_exact_mut(self.page_size as usize)) {
            if u64::from(number - 1) == LOCK_BYTE / size {
                page.fill(0);
            } else if let (Some(offset), Some(wal)) = (self.overlay.get(&number), &self.wal)
                && !wal.read(Frame { number, offset: *offset }, page)?
            {
                let path = wal.path().to_owned();
                return Err(io::Error::other(Error::Broken { path, gap: Gap::LogRestarted }));
            }
        }
        Ok(())
    }
}

impl Read for Base<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.used == self.buffer.len() && self.next < self.database_pages {
            self.fill()?;
        }
        let left = &self.buffer[self.used..];
        let length = left.len().min(to.len());
        to[..length].copy_from_slice(&left[..length]);
        self.used += length;
        Ok(length)
    }
}
