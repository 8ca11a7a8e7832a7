//! Where a follower is, to be kept while nothing runs, and whether it can go on there.
//!
//! The log is the only thing that tells whether anything was missed. If it is still in
//! the same generation and has the same checksum at the same place, everything since is
//! behind that place.
//!
//! If it is in another generation there is one more way to know. A generation begins
//! when the one before it is in the database file as a whole. So if all of the log had
//! been read *and* was in the file when the follower stopped, and the file was not
//! written to since, then nothing was added to that generation and no other came and
//! went: what is in the log now follows directly. This makes it possible to go on after
//! a program closed its database properly, which deletes the log. The same is so if another
//! process held the log all the time: see `keep`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Gap;
use super::files::FileId;
use super::wal::{Point, Wal};
use super::wal_index::View;
use crate::base::UnixTime;

/// A change of a file within this time of another may have the same time stamp: the
/// kernel's ticks are up to 10 milliseconds, other file systems' up to 2 seconds.
const STAMP_MAX: Duration = Duration::from_secs(3);

/// Where a follower is. To be kept with what was captured; made to be serialised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub(super) database: FileId,
    pub(super) page_size: u32,
    /// Behind the last commit; `None` if the log was empty since the base.
    pub(super) point: Option<Point>,
    /// When the database file was last written to, if it had everything and that was
    /// long enough ago to tell.
    pub(super) drained: Option<(i64, u32)>,
    /// The time of the last commit, and of the last look, as [`UnixTime`].
    pub(super) last: (i64, u32),
    pub(super) looked: (i64, u32),
    /// Whether a holder has held the log since.
    #[serde(skip)]
    pub(super) held: bool,
}

/// When the file at `path` was last changed, in its content or its attributes.
fn changed(path: &Path) -> io::Result<UnixTime> {
    let meta = fs::metadata(path)?;
    Ok(UnixTime::new(meta.ctime(), u32::try_from(meta.ctime_nsec()).unwrap_or(0)))
}

pub(super) fn pair(at: UnixTime) -> (i64, u32) {
    (at.seconds, at.nanos)
}

pub(super) fn unpair((seconds, nanos): (i64, u32)) -> UnixTime {
    UnixTime::new(seconds, nanos.min(999_999_999))
}

/// The stamp for [`Position::drained`], of a database file that has everything.
pub(super) fn stamp(path: &Path, now: UnixTime) -> io::Result<Option<(i64, u32)>> {
    let changed = changed(path)?;
    Ok((now.since(changed) > STAMP_MAX).then_some(pair(changed)))
}

/// SQLite counts generations in the first half of the salts. A log that was deleted begins
/// anywhere.
fn is_later(salts: [u8; 8], before: [u8; 8]) -> bool {
    let count = |salts: [u8; 8]| u32::from_be_bytes([salts[0], salts[1], salts[2], salts[3]]);
    (1..=1 << 16).contains(&count(salts).wrapping_sub(count(before)))
}

impl Position {
    /// The same, if a [`Holder`](super::Holder) that moved only when everything was kept
    /// has held the log ever since, and still does when the follower is open.
    #[must_use]
    pub fn held(self) -> Position {
        Position { held: true, ..self }
    }

    /// Whether the chain goes on at this position, in the database at `path` as `wal` and
    /// `view` show it. Asked while a reader is held.
    pub(super) fn fits(
        &self,
        path: &Path,
        database: FileId,
        page_size: u32,
        wal: &Wal,
        view: &View,
    ) -> io::Result<Result<(), Gap>> {
        if self.database != database {
            return Ok(Err(Gap::DatabaseReplaced));
        }
        if self.page_size != page_size {
            return Ok(Err(Gap::PageSize { was: self.page_size, is: page_size }));
        }
        if let Some(point) = self.point
            && view.frames > 0
            && view.salts == point.salts
        {
            let there = point.offset <= point.offset_of(view.frames) && wal.has(&point)?;
            return Ok(if there { Ok(()) } else { Err(Gap::RolledBack) });
        }
        let later = |point: &Point| view.frames == 0 || is_later(view.salts, point.salts);
        if self.held && self.point.as_ref().is_none_or(later) {
            return Ok(Ok(()));
        }
        let untouched = self.drained.is_some() && self.drained == Some(pair(changed(path)?));
        Ok(if untouched { Ok(()) } else { Err(Gap::LogRestarted) })
    }
}
