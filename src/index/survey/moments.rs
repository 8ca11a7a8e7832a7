//! What a check finds out about segments: which states lack pages, and because of what.

use super::{Survey, signed};
use crate::base::{SnapshotId, StreamId, UnixTime};
use crate::index::Result;

/// States of a segment that lack pages because of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentLoss {
    /// The number of the object in this survey.
    pub object: i64,
    /// The segment.
    pub segment: SnapshotId,
    /// Its stream.
    pub stream: StreamId,
    /// Its source.
    pub source: String,
    /// The position of the first of them.
    pub first: u64,
    /// That of the last in the segment.
    pub last: u64,
    /// When the first was seen.
    pub since: UnixTime,
    /// When the last was.
    pub until: UnixTime,
    /// The position of the next state that is stored whole; none if there is none yet.
    pub whole_again: Option<u64>,
}

impl Survey {
    /// Notes states that lack pages.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn lose_segment(&self, loss: &SegmentLoss) -> Result<()> {
        self.execute(
            "INSERT OR IGNORE INTO segment_loss
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            (
                loss.object,
                loss.segment.0,
                loss.stream.0,
                &loss.source,
                signed(loss.first),
                signed(loss.last),
                loss.since.seconds,
                loss.since.nanos,
                loss.until.seconds,
                loss.until.nanos,
                loss.whole_again.map(signed),
            ),
        )?;
        Ok(())
    }

    /// What an object costs of segments: how many it concerns, and the first of them, by
    /// source and position.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn segment_losses(&self, object: i64, most: usize) -> Result<(u64, Vec<SegmentLoss>)> {
        let count = "SELECT count(*) FROM segment_loss WHERE object = ?1";
        let count = self.one(count, [object], |row| row.get(0))?.unwrap_or(0);
        let rows = self.all(
            "SELECT * FROM segment_loss WHERE object = ?1 ORDER BY source, stream, first LIMIT ?2",
            (object, most),
            |row| {
                let unsigned = |at| row.get(at).map(i64::cast_unsigned);
                Ok(SegmentLoss {
                    object: row.get(0)?,
                    segment: SnapshotId(row.get(1)?),
                    stream: StreamId(row.get(2)?),
                    source: row.get(3)?,
                    first: unsigned(4)?,
                    last: unsigned(5)?,
                    since: UnixTime { seconds: row.get(6)?, nanos: row.get(7)? },
                    until: UnixTime { seconds: row.get(8)?, nanos: row.get(9)? },
                    whole_again: row.get::<_, Option<i64>>(10)?.map(i64::cast_unsigned),
                })
            },
        )?;
        Ok((count, rows))
    }

    /// How many segments any damage concerns.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn segments_lost(&self) -> Result<u64> {
        let sql = "SELECT count(DISTINCT segment) FROM segment_loss";
        Ok(self.one(sql, [], |row| row.get(0))?.unwrap_or(0))
    }
}
