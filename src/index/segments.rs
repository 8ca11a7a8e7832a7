//! Segments of streams, and which snapshots are states of them.
//!
//! What a segment says stands in its fact; columns beside it only find it. So a row
//! is believed no further than that: whoever reads it decodes the fact and looks.

use rusqlite::Connection;

use super::{Error, FoldedRecord, Index, Result, optional};
use crate::base::{SnapshotId, StreamId, UnixTime, WriterId};
use crate::codec::hash::sha256;

/// A segment that a record publishes.
#[derive(Debug, Clone)]
pub struct FoldedSegment {
    /// Its id.
    pub id: SnapshotId,
    /// Its source.
    pub source: String,
    /// Its stream.
    pub stream: StreamId,
    /// The position that it begins at.
    pub after: u64,
    /// The one that it leads to.
    pub last: u64,
    /// When the first state that it leads to was seen.
    pub begins: UnixTime,
    /// When the last was.
    pub ends: UnixTime,
    /// The whole fact.
    pub fact: Vec<u8>,
}

/// A segment that is not forgotten, as the index has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRow {
    /// When the store received its record. Seconds since 1970.
    pub receipt: i64,
    /// Who published it.
    pub writer: WriterId,
    /// Whether its record was received after its deadline.
    pub late: bool,
    /// The whole fact.
    pub fact: Vec<u8>,
}

/// From where to where a segment leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSpan {
    /// Its id.
    pub id: SnapshotId,
    /// Its stream.
    pub stream: StreamId,
    /// The position that it begins at.
    pub after: u64,
    /// The one that it leads to.
    pub last: u64,
    /// When the last state that it leads to was seen, but not after it was received.
    pub ends: UnixTime,
}

/// A snapshot that is a state of a stream, and when it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseMoment {
    /// The stream.
    pub stream: StreamId,
    /// Its position.
    pub position: u64,
    /// When it was taken, as its writer says.
    pub taken: UnixTime,
    /// When the store received its record. Seconds since 1970.
    pub receipt: i64,
}

/// A snapshot that is a state of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseRow {
    /// Its position.
    pub position: u64,
    /// The snapshot.
    pub snapshot: SnapshotId,
}

/// The rows that are believed and not forgotten.
const BELIEVED: &str = "NOT EXISTS (SELECT 1 FROM forgotten WHERE forgotten.snapshot = segment.id)
    AND NOT EXISTS (SELECT 1 FROM revoked
        WHERE revoked.writer = segment.writer AND segment.receipt >= since)";

/// The same for snapshots.
const BASE: &str = "NOT EXISTS (SELECT 1 FROM forgotten WHERE forgotten.snapshot = base.snapshot)
    AND EXISTS (SELECT 1 FROM snapshot WHERE snapshot.id = base.snapshot
        AND snapshot.record = base.record AND NOT EXISTS (SELECT 1 FROM revoked
            WHERE revoked.writer = snapshot.writer AND snapshot.receipt >= since))";

pub(super) fn fold(
    db: &Connection,
    record: &FoldedRecord,
    segment: &FoldedSegment,
) -> rusqlite::Result<()> {
    let writer = record.writer.map(|w| w.0).unwrap_or_default();
    let own = record.id.or(record.carried).map(|r| r.0).unwrap_or_default();
    // No writer's clock puts a state later than the store received it.
    let received = UnixTime::new(record.receipt, 999_999_999);
    let (begins, ends) = (segment.begins.min(received), segment.ends.min(received));
    db.prepare_cached(
        "INSERT INTO segment
             (id, record, receipt, writer, late, source, stream, after, last,
              begins, begins_nanos, ends, ends_nanos, fact, checksum)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
         ON CONFLICT (id, record) DO UPDATE SET receipt = excluded.receipt,
             late = min(late, excluded.late), begins = excluded.begins,
             begins_nanos = excluded.begins_nanos, ends = excluded.ends,
             ends_nanos = excluded.ends_nanos, checksum = excluded.checksum
         WHERE excluded.receipt < segment.receipt",
    )?
    .execute(rusqlite::params![
        segment.id.0.as_slice(),
        own.as_slice(),
        record.receipt,
        writer.as_slice(),
        record.late,
        segment.source,
        segment.stream.0.as_slice(),
        to_i64(segment.after),
        to_i64(segment.last),
        begins.seconds,
        begins.nanos,
        ends.seconds,
        ends.nanos,
        segment.fact,
        checksum(record.receipt, &writer, &segment.fact),
    ])?;
    if !record.late {
        // Whoever vouched for it too late, somebody did in time: as with snapshots.
        db.prepare_cached("UPDATE segment SET late = 0 WHERE id = ?1 AND record = ?2 AND late")?
            .execute((segment.id.0.as_slice(), own.as_slice()))?;
    }
    Ok(())
}

/// Notes that a snapshot is a state of a stream.
pub(super) fn fold_base(
    db: &Connection,
    record: &FoldedRecord,
    snapshot: &SnapshotId,
    (stream, position): (StreamId, u64),
) -> rusqlite::Result<()> {
    let own = record.id.or(record.carried).map(|r| r.0).unwrap_or_default();
    db.prepare_cached("INSERT OR IGNORE INTO base VALUES (?1, ?2, ?3, ?4)")?.execute((
        stream.0.as_slice(),
        to_i64(position),
        snapshot.0.as_slice(),
        own.as_slice(),
    ))?;
    Ok(())
}

fn checksum(receipt: i64, writer: &[u8], fact: &[u8]) -> Vec<u8> {
    sha256(&[&receipt.to_be_bytes(), writer, fact].concat())[..8].to_vec()
}

fn to_i64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn to_u64(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

impl Index {
    /// The segment of a source whose first state is the latest of those at or before `at`.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if its row is not what was written.
    pub fn segment_at(&self, source: &str, at: UnixTime) -> Result<Option<SegmentRow>> {
        let mut found = None;
        let which = "source = ?1 AND (begins, begins_nanos) <= (?2, ?3)
            ORDER BY begins DESC, begins_nanos DESC, after DESC LIMIT 1";
        self.each_row(which, (source, at.seconds, at.nanos), |row| {
            found = Some(row);
            Ok::<(), Error>(())
        })?;
        Ok(found)
    }

    /// The segments of a stream that lead beyond `after` and begin before `upto`, by where
    /// they begin; of those that begin at one state the longest first.
    ///
    /// # Errors
    ///
    /// What `each` returns; [`Error::Corrupt`] if a row is not what was written.
    pub fn each_segment<E: From<Error>>(
        &self,
        stream: &StreamId,
        (after, upto): (u64, u64),
        each: impl FnMut(SegmentRow) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let which = "stream = ?1 AND last > ?2 AND after < ?3 ORDER BY after, last DESC";
        self.each_row(which, (stream.0.as_slice(), to_i64(after), to_i64(upto)), each)
    }

    fn each_row<E: From<Error>>(
        &self,
        which: &str,
        values: impl rusqlite::Params,
        mut each: impl FnMut(SegmentRow) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut failed = None;
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT receipt, writer, late, fact, checksum FROM segment
                 WHERE {BELIEVED} AND {which}"
            ))?;
            let mut rows = statement.query(values)?;
            while let Some(row) = rows.next()? {
                let (receipt, fact): (i64, Vec<u8>) = (row.get(0)?, row.get(3)?);
                let writer = WriterId(row.get(1)?);
                let whole = row.get_ref(4)?.as_blob()? == checksum(receipt, &writer.0, &fact);
                let outcome = match whole {
                    true => each(SegmentRow { receipt, writer, late: row.get(2)?, fact }),
                    false => Err(E::from(self.altered_segment())),
                };
                if let Err(error) = outcome {
                    failed = Some(error);
                    break;
                }
            }
            Ok(())
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// From where to where the segments of a source lead, by when they begin. Reads none of
    /// them; some hundred bytes each.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be read.
    pub fn segment_spans(&self, source: &str) -> Result<Vec<SegmentSpan>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT id, stream, after, last, ends, ends_nanos FROM segment
                 WHERE {BELIEVED} AND source = ?1 ORDER BY begins, begins_nanos, after, last DESC"
            ))?;
            let rows = statement.query_map([source], |row| {
                Ok(SegmentSpan {
                    id: SnapshotId(row.get(0)?),
                    stream: StreamId(row.get(1)?),
                    after: to_u64(row.get(2)?),
                    last: to_u64(row.get(3)?),
                    ends: UnixTime { seconds: row.get(4)?, nanos: row.get(5)? },
                })
            })?;
            rows.collect()
        })
    }

    /// The snapshots that are states of a stream, ascending.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be read.
    pub fn bases(&self, stream: &StreamId) -> Result<Vec<BaseRow>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT DISTINCT position, snapshot FROM base WHERE stream = ?1 AND {BASE}
                 ORDER BY position, snapshot"
            ))?;
            let rows = statement.query_map([stream.0.as_slice()], |row| {
                Ok(BaseRow { position: to_u64(row.get(0)?), snapshot: SnapshotId(row.get(1)?) })
            })?;
            rows.collect()
        })
    }

    /// The last snapshot that is a state of a stream at or before a position.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be read.
    pub fn base_at(&self, stream: &StreamId, position: u64) -> Result<Option<BaseRow>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT position, snapshot FROM base WHERE stream = ?1 AND position <= ?2
                 AND {BASE} ORDER BY position DESC, snapshot LIMIT 1"
            ))?;
            optional(statement.query_row((stream.0.as_slice(), to_i64(position)), |row| {
                Ok(BaseRow { position: to_u64(row.get(0)?), snapshot: SnapshotId(row.get(1)?) })
            }))
        })
    }

    /// The last snapshots of a source that are states of streams and count as taken in the
    /// second of `at` or before, the newest first: a few.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be read.
    pub fn bases_until(&self, source: &str, at: UnixTime) -> Result<Vec<BaseMoment>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT base.stream, base.position, taken, nanos, snapshot.receipt
                 FROM snapshot JOIN base ON base.snapshot = snapshot.id
                     AND base.record = snapshot.record
                 WHERE source = ?1 AND min(taken, snapshot.receipt) <= ?2 AND {BASE}
                 ORDER BY min(taken, snapshot.receipt) DESC LIMIT 16"
            ))?;
            let rows = statement.query_map((source, at.seconds), |row| {
                Ok(BaseMoment {
                    stream: StreamId(row.get(0)?),
                    position: to_u64(row.get(1)?),
                    taken: UnixTime { seconds: row.get(2)?, nanos: row.get(3)? },
                    receipt: row.get(4)?,
                })
            })?;
            rows.collect()
        })
    }

    /// The sources that have a stream, in byte order.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be read.
    pub fn stream_sources(&self) -> Result<Vec<String>> {
        self.read(|db| {
            // Every stream begins with a snapshot, and those are few.
            let mut statement = db.prepare_cached(
                "SELECT DISTINCT source FROM snapshot WHERE id IN (SELECT snapshot FROM base)
                 ORDER BY source",
            )?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        })
    }

    /// The stream whose id begins with these bytes, if one is known.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be read.
    pub fn stream_of(&self, beginning: &[u8; 8]) -> Result<Option<StreamId>> {
        let (mut from, mut upto) = ([0; 16], [0xff; 16]);
        from[..8].copy_from_slice(beginning);
        upto[..8].copy_from_slice(beginning);
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT stream FROM base WHERE stream BETWEEN ?1 AND ?2 ORDER BY stream LIMIT 1",
            )?;
            optional(
                statement
                    .query_row((from.as_slice(), upto.as_slice()), |row| row.get(0).map(StreamId)),
            )
        })
    }

    /// Numbers that change whenever a segment is added or forgotten.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be read.
    pub fn segments_version(&self) -> Result<i64> {
        self.read(|db| {
            db.query_row("SELECT coalesce(max(number), 0) FROM segment", [], |row| row.get(0))
        })
    }

    fn altered_segment(&self) -> Error {
        let what = "a segment's row is not what was written".into();
        Error::Corrupt { path: self.path.clone(), what }
    }
}
