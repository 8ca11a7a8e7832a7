//! Segments of streams, and which snapshots are states of them.
//!
//! What a segment says stands in its fact; columns beside it only find it. So a row
//! is believed no further than that: whoever reads it decodes the fact and looks.
//!
//! Segments may overlap: a record whose reply was lost is published again, and who has
//! stolen a key can claim anything. Of those that lead on from a state the one counts
//! that the store received first, since a receipt is the one time that no writer makes.
//! What other sources say of a stream is not part of it: see FORMAT.md, section 16.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rusqlite::Connection;

use super::fold::to_i64;
use super::snapshots::checksum;
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
    /// Its number in the index.
    pub number: i64,
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
    /// When the store received its record. Seconds since 1970.
    pub receipt: i64,
}

/// A stream of a source goes by so many bytes: nobody can make another one with the same.
#[must_use]
pub fn stream_name(source: &str, stream: &StreamId) -> [u8; 8] {
    let hash = sha256(&[b"asof stream\0".as_slice(), &stream.0, source.as_bytes()].concat());
    std::array::from_fn(|at| hash[at])
}

/// Of segments, the first received first, those that lead from one state on without a hole:
/// `(number, after, last)` each, as numbers.
fn choose(received: Vec<(i64, i64, i64)>, from: i64, upto: i64) -> Vec<i64> {
    let mut waiting: Vec<_> = received.into_iter().enumerate().collect();
    waiting.sort_by_key(|(_, (_, after, _))| *after);
    let mut waiting = waiting.into_iter().peekable();
    // Those that begin at the state that was reached or before; the first received on top.
    let mut begun = BinaryHeap::new();
    let (mut chosen, mut reached) = (Vec::new(), from);
    while reached < upto {
        while let Some((rank, (number, _, last))) =
            waiting.next_if(|(_, (_, after, _))| *after <= reached)
        {
            begun.push(Reverse((rank, number, last)));
        }
        match begun.pop() {
            Some(Reverse((_, number, last))) if last > reached => {
                chosen.push(number);
                reached = last;
            }
            Some(_) => {}
            None => break,
        }
    }
    chosen
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
    let changed = db
        .prepare_cached(
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
    if changed == 0 && !record.late {
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
    (source, snapshot): (&str, &SnapshotId),
    (stream, position): (StreamId, u64),
) -> rusqlite::Result<()> {
    let own = record.id.or(record.carried).map(|r| r.0).unwrap_or_default();
    db.prepare_cached("INSERT OR IGNORE INTO base VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute((
        stream.0.as_slice(),
        to_i64(position),
        snapshot.0.as_slice(),
        own.as_slice(),
        source,
        stream_name(source, &stream).as_slice(),
    ))?;
    Ok(())
}

fn to_u64(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

impl Index {
    /// The segment of a source whose first state is the latest of those at or before `at`;
    /// or the one after so many of those.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if its row is not what was written.
    pub fn segment_at(&self, source: &str, at: UnixTime, nth: u32) -> Result<Option<SegmentRow>> {
        let mut found = None;
        let which = "source = ?1 AND (begins, begins_nanos) <= (?2, ?3)
            ORDER BY begins DESC, begins_nanos DESC, after DESC LIMIT 1 OFFSET ?4";
        self.each_row(which, (source, at.seconds, at.nanos, nth), |row| {
            found = Some(row);
            Ok::<(), Error>(())
        })?;
        Ok(found)
    }

    /// Whether the store received before this segment another one that leads over a position.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be read.
    pub fn is_overruled(&self, number: i64, position: u64) -> Result<bool> {
        self.read(|db| {
            db.prepare_cached(&format!(
                "SELECT 1 FROM segment AS mine CROSS JOIN segment INDEXED BY segment_in_stream
                 WHERE mine.number = ?1 AND segment.stream = mine.stream AND segment.last >= ?2
                     AND segment.after < ?2 AND segment.source = mine.source AND {BELIEVED}
                     AND (segment.receipt, segment.record, segment.id)
                         < (mine.receipt, mine.record, mine.id)"
            ))?
            .exists((number, to_i64(position)))
        })
    }

    /// The segments that lead from the state at `from` of a source's stream on, without a
    /// hole, until the one at `upto` is reached: of each one all states behind those before.
    ///
    /// # Errors
    ///
    /// What `each` returns; [`Error::Corrupt`] if a row is not what was written.
    pub fn each_in_line<E: From<Error>>(
        &self,
        (source, stream): (&str, &StreamId),
        (from, upto): (u64, u64),
        mut each: impl FnMut(SegmentRow) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let (from, upto) = (to_i64(from), to_i64(upto));
        let received = self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT number, after, last FROM segment INDEXED BY segment_in_stream
                 WHERE stream = ?1 AND last > ?2 AND after < ?3 AND source = ?4 AND {BELIEVED}
                 ORDER BY receipt, record, id"
            ))?;
            let rows = statement.query_map((stream.0.as_slice(), from, upto, source), |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        for number in choose(received, from, upto) {
            self.each_row("number = ?1", (number,), &mut each)?;
        }
        Ok(())
    }

    /// Every segment of a stream, of whatever source, by where it begins; of those that begin
    /// at one state the longest first. For whoever looks at what there is: what can be shown
    /// is another question, see [`Index::each_in_line`].
    ///
    /// # Errors
    ///
    /// What `each` returns; [`Error::Corrupt`] if a row is not what was written.
    pub fn each_segment<E: From<Error>>(
        &self,
        stream: &StreamId,
        each: impl FnMut(SegmentRow) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.each_row("stream = ?1 ORDER BY after, last DESC", (stream.0.as_slice(),), each)
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
                "SELECT receipt, writer, late, fact, checksum, number FROM segment
                 WHERE {BELIEVED} AND {which}"
            ))?;
            let mut rows = statement.query(values)?;
            while let Some(row) = rows.next()? {
                let (receipt, fact): (i64, Vec<u8>) = (row.get(0)?, row.get(3)?);
                let writer = WriterId(row.get(1)?);
                let whole = row.get_ref(4)?.as_blob()? == checksum(receipt, &writer.0, &fact);
                let outcome = match whole {
                    true => each(SegmentRow {
                        number: row.get(5)?,
                        receipt,
                        writer,
                        late: row.get(2)?,
                        fact,
                    }),
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
        self.spans("source = ?1 ORDER BY begins, begins_nanos, after, last DESC", [source])
    }

    /// The same of a stream, by where they begin.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be read.
    pub fn segment_spans_of(&self, stream: &StreamId) -> Result<Vec<SegmentSpan>> {
        self.spans("stream = ?1 ORDER BY after, last DESC", [stream.0.as_slice()])
    }

    fn spans(&self, which: &str, values: impl rusqlite::Params) -> Result<Vec<SegmentSpan>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT id, stream, after, last, ends, ends_nanos FROM segment
                 WHERE {BELIEVED} AND {which}"
            ))?;
            let rows = statement.query_map(values, |row| {
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

    /// The snapshots that are states of a source's stream, ascending; of several of one
    /// state the one that the store received first.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be read.
    pub fn bases(&self, source: &str, stream: &StreamId) -> Result<Vec<BaseRow>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT base.position, base.snapshot, snapshot.receipt FROM base
                 JOIN snapshot ON snapshot.id = base.snapshot AND snapshot.record = base.record
                 WHERE base.stream = ?1 AND base.source = ?2 AND {BASE}
                 ORDER BY base.position, snapshot.receipt, base.record, base.snapshot"
            ))?;
            let rows = statement.query_map((stream.0.as_slice(), source), |row| {
                Ok(BaseRow {
                    position: to_u64(row.get(0)?),
                    snapshot: SnapshotId(row.get(1)?),
                    receipt: row.get(2)?,
                })
            })?;
            let mut bases = rows.collect::<rusqlite::Result<Vec<BaseRow>>>()?;
            bases.dedup_by_key(|base| base.position);
            Ok(bases)
        })
    }

    /// Whether, before the second in which the store received this base, it had no segment that
    /// leads over it: to its own state or beyond it (`itself`), or from its state on. Whoever
    /// follows a database publishes what leads on from a state after its base.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be read.
    pub fn is_timely(
        &self,
        (source, stream): (&str, &StreamId),
        base: &BaseRow,
        itself: bool,
    ) -> Result<bool> {
        // A segment leads over the position after this one.
        let over = to_i64(base.position).saturating_add(i64::from(!itself));
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT 1 FROM segment INDEXED BY segment_in_stream
                 WHERE stream = ?1 AND last >= ?2 AND after < ?2 AND source = ?3
                     AND receipt < ?4 AND {BELIEVED}"
            ))?;
            Ok(!statement.exists((stream.0.as_slice(), over, source, base.receipt))?)
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
                 WHERE snapshot.source = ?1 AND min(taken, snapshot.receipt) <= ?2 AND {BASE}
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

    /// The source and the stream that have this [name](stream_name), if they are known.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be read.
    pub fn stream_of(&self, name: &[u8; 8]) -> Result<Option<(String, StreamId)>> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT source, stream FROM base WHERE name = ?1 LIMIT 1")?;
            optional(
                statement
                    .query_row((name.as_slice(),), |row| Ok((row.get(0)?, StreamId(row.get(1)?)))),
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

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn of_segments_that_overlap_the_first_received_leads_on() {
        // Numbers are given in the order of receipts.
        let numbered = |spans: &[(i64, i64)]| {
            (0..).zip(spans).map(|(number, (after, last))| (number, *after, *last)).collect()
        };
        let chosen = |spans: &[(i64, i64)]| choose(numbered(spans), 0, i64::MAX);
        assert_eq!(chosen(&[(0, 5), (5, 9), (9, 12)]), [0, 1, 2]);
        assert_eq!(chosen(&[(9, 12), (0, 5), (5, 9)]), [1, 2, 0]);
        // What came later and leads farther gets its turn behind what came first.
        assert_eq!(chosen(&[(0, 5), (5, 9), (0, 100), (3, 7)]), [0, 1, 2]);
        assert_eq!(chosen(&[(0, 5), (0, 3), (4, 8)]), [0, 2]);
        // Nothing leads over a hole.
        assert_eq!(chosen(&[(0, 5), (6, 9)]), [0]);
        assert_eq!(chosen(&[(1, 5)]), [0; 0]);
        assert_eq!(choose(numbered(&[(0, 5), (5, 9), (9, 12)]), 3, 8), [0, 1]);
    }
}
