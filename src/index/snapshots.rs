//! Snapshots.

use rusqlite::Connection;

use super::{Error, FoldedRecord, FoldedSnapshot, Index, Result};
use crate::base::{SnapshotId, UnixTime, WriterId};
use crate::codec::hash::sha256;

/// A snapshot that is not forgotten, as the index has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// When the store received its record. Seconds since 1970.
    pub receipt: i64,
    /// Who published it.
    pub writer: WriterId,
    /// Whether its record was received after its deadline.
    pub late: bool,
    /// The whole fact.
    pub fact: Vec<u8>,
}

/// Where a snapshot that is not forgotten stands in time, as the index has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMoment {
    /// Its id.
    pub id: SnapshotId,
    /// Its source.
    pub source: String,
    /// When it was taken, as its writer says.
    pub taken: UnixTime,
    /// When the store received its record. Seconds since 1970.
    pub receipt: i64,
}

/// The rows that are believed and not forgotten.
const BELIEVED: &str = "id NOT IN (SELECT snapshot FROM forgotten) AND NOT EXISTS
    (SELECT 1 FROM revoked WHERE revoked.writer = snapshot.writer AND snapshot.receipt >= since)";

/// The next name of a source that any row has.
pub(super) const NEXT_SOURCE: &str = "SELECT min(source) FROM snapshot WHERE source > ?1";
/// Chooses those with a row that counts as taken in a second.
pub(super) const IN_SECOND: &str = "AND id IN
    (SELECT id FROM snapshot WHERE source = ?1 AND min(taken, receipt) = ?2)";

/// The last second, until another, in which a row of a source counts as taken.
pub(super) fn last_second() -> String {
    format!(
        "SELECT min(taken, receipt) FROM snapshot
         WHERE source = ?1 AND min(taken, receipt) <= ?2 AND {BELIEVED}
         ORDER BY min(taken, receipt) DESC LIMIT 1"
    )
}

/// Where snapshots stand in time. `which` must choose by id, since all records of one are
/// compared.
pub(super) fn in_time(which: &str) -> String {
    format!(
        "SELECT id, receipt, writer, source, taken, nanos, mark FROM snapshot
         WHERE {BELIEVED} {which} ORDER BY id, receipt, record"
    )
}

pub(super) fn fold(
    db: &Connection,
    record: &FoldedRecord,
    snapshot: &FoldedSnapshot,
) -> rusqlite::Result<()> {
    let FoldedSnapshot { id, source, taken, point, fact } = snapshot;
    let writer = record.writer.map(|w| w.0).unwrap_or_default();
    let own = record.id.or(record.carried).map(|r| r.0).unwrap_or_default();
    // Which of several records stands is decided when it is read: who published the
    // one that stands now may be revoked later.
    db.prepare_cached(
        "INSERT INTO snapshot
             (id, record, receipt, writer, late, fact, checksum, source, taken, nanos, mark)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (id, record) DO UPDATE SET receipt = excluded.receipt,
             writer = excluded.writer, late = min(late, excluded.late), fact = excluded.fact,
             checksum = excluded.checksum, source = excluded.source, taken = excluded.taken,
             nanos = excluded.nanos, mark = excluded.mark
         WHERE excluded.receipt < snapshot.receipt",
    )?
    .execute((
        id.0.as_slice(),
        own.as_slice(),
        record.receipt,
        writer.as_slice(),
        record.late,
        fact,
        checksum(record.receipt, &writer, fact),
        source,
        taken.seconds,
        taken.nanos,
        mark(&id.0, record.receipt, &writer, source, *taken),
    ))?;
    if let Some(point) = point {
        super::segments::fold_base(db, record, (source, id), *point)?;
    }
    if !record.late {
        // Whoever vouched for it too late, somebody did in time.
        db.prepare_cached("UPDATE snapshot SET late = 0 WHERE id = ?1 AND record = ?2 AND late")?
            .execute((id.0.as_slice(), own.as_slice()))?;
    }
    Ok(())
}

pub(super) fn checksum(receipt: i64, writer: &[u8], fact: &[u8]) -> Vec<u8> {
    sha256(&[&receipt.to_be_bytes(), writer, fact].concat())[..8].to_vec()
}

fn mark(id: &[u8], receipt: i64, writer: &[u8], source: &str, taken: UnixTime) -> Vec<u8> {
    let (seconds, nanos) = (taken.seconds.to_be_bytes(), taken.nanos.to_be_bytes());
    let receipt = receipt.to_be_bytes();
    sha256(&[id, &receipt, writer, &seconds, &nanos, source.as_bytes()].concat())[..8].to_vec()
}

impl Index {
    /// All snapshots that are believed and not forgotten, in no order.
    ///
    /// An id is of one taking, and what comes later under the same id is a copy: of
    /// several records the one with the earliest receipt stands, then the lesser one.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if a row is not what was written.
    pub fn snapshots(&self) -> Result<Vec<SnapshotRow>> {
        self.believed("", ())
    }

    /// The snapshot of that id, if it is believed and not forgotten.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if its row is not what was written.
    pub fn snapshot(&self, id: &SnapshotId) -> Result<Option<SnapshotRow>> {
        Ok(self.believed("AND id = ?1", [id.0.as_slice()])?.pop())
    }

    fn believed(&self, which: &str, values: impl rusqlite::Params) -> Result<Vec<SnapshotRow>> {
        type Row = (i64, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, bool);
        let mut rows: Vec<Row> = self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT receipt, writer, fact, checksum, id, late FROM snapshot
                 WHERE {BELIEVED} {which} ORDER BY id, receipt, record",
            ))?;
            let rows = statement.query_map(values, |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
            })?;
            rows.collect()
        })?;
        rows.dedup_by(|copy, first| copy.4 == first.4);
        rows.into_iter()
            .map(|(receipt, writer, fact, sum, _, late)| {
                if checksum(receipt, &writer, &fact) != sum {
                    return Err(self.altered_snapshot());
                }
                let writer =
                    WriterId::from_slice(&writer).ok_or_else(|| self.altered_snapshot())?;
                Ok(SnapshotRow { receipt, writer, late, fact })
            })
            .collect()
    }

    /// Where each of [`Index::snapshots`] stands in time, by id. Some microseconds for ten,
    /// since no fact is read.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if a row is not what was written.
    pub fn snapshot_moments(&self) -> Result<Vec<SnapshotMoment>> {
        let mut moments = Moments::default();
        self.read(|db| moments.add(db, "", (), |_| true))?;
        self.sound(moments)
    }

    /// Of each source those of [`Index::snapshot_moments`] that count as taken in the second
    /// of its newest. Costs a few look-ups a source, however many snapshots there are.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if a row of these is not what was written.
    pub fn newest_moments(&self) -> Result<Vec<SnapshotMoment>> {
        let mut moments = Moments::default();
        self.read(|db| {
            // So that all of it is of one state of the index.
            let db = db.unchecked_transaction()?;
            let mut source: Option<String> = next_source(&db, "")?;
            while let Some(name) = source {
                moments.add_newest(&db, &name)?;
                source = next_source(&db, &name)?;
            }
            Ok(())
        })?;
        self.sound(moments)
    }

    fn sound(&self, moments: Moments) -> Result<Vec<SnapshotMoment>> {
        if moments.altered { Err(self.altered_snapshot()) } else { Ok(moments.all) }
    }

    fn altered_snapshot(&self) -> Error {
        Error::Corrupt {
            path: self.path.clone(),
            what: "a snapshot's row is not what was written".into(),
        }
    }

    /// Whether a snapshot is forgotten.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be read.
    pub fn is_forgotten(&self, id: &SnapshotId) -> Result<bool> {
        self.read(|db| {
            db.prepare_cached("SELECT 1 FROM forgotten WHERE snapshot = ?1")?
                .exists([id.0.as_slice()])
        })
    }

    /// The newest receipt of any record, seconds since 1970: the store's clock has come
    /// that far. Scans the records.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be read.
    pub fn newest_receipt(&self) -> Result<Option<i64>> {
        self.read(|db| db.query_row("SELECT max(receipt) FROM record", [], |row| row.get(0)))
    }

    /// Numbers that change whenever a snapshot is added or forgotten, or a writer revoked.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be read.
    pub fn snapshots_version(&self) -> Result<(i64, i64, i64)> {
        self.read(|db| {
            // No row of these is ever deleted, so the greatest number stands for how many.
            db.query_row(
                "SELECT (SELECT coalesce(max(number), 0) FROM snapshot),
                 (SELECT coalesce(max(number), 0) FROM forgotten), (SELECT count(*) FROM revoked)",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
        })
    }
}

fn next_source(db: &Connection, after: &str) -> rusqlite::Result<Option<String>> {
    db.prepare_cached(NEXT_SOURCE)?.query_row([after], |row| row.get(0))
}

/// Rows that are being read, of which each should be what was written.
#[derive(Default)]
struct Moments {
    all: Vec<SnapshotMoment>,
    altered: bool,
}

impl Moments {
    /// Adds where snapshots stand in time, each by the record that stands for it, if they are
    /// `wanted`; `which` as for [`in_time`].
    fn add(
        &mut self,
        db: &Connection,
        which: &str,
        values: impl rusqlite::Params,
        wanted: impl Fn(&SnapshotMoment) -> bool,
    ) -> rusqlite::Result<()> {
        let mut statement = db.prepare_cached(&in_time(which))?;
        let mut rows = statement.query(values)?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            let id = SnapshotId(row.get(0)?);
            if last.replace(id) == Some(id) {
                continue;
            }
            let (receipt, source): (i64, String) = (row.get(1)?, row.get(3)?);
            let taken = UnixTime { seconds: row.get(4)?, nanos: row.get(5)? };
            let writer = row.get_ref(2)?.as_blob()?;
            let sum = mark(&id.0, receipt, writer, &source, taken);
            self.altered |= row.get_ref(6)?.as_blob()? != sum.as_slice();
            let moment = SnapshotMoment { id, source, taken, receipt };
            if wanted(&moment) {
                self.all.push(moment);
            }
        }
        Ok(())
    }

    /// Adds those of a source that count as taken in the second of its newest.
    fn add_newest(&mut self, db: &Connection, source: &str) -> rusqlite::Result<()> {
        let before = self.all.len();
        let mut until = Some(i64::MAX);
        // Again only if the records of that second all are copies of such as stand elsewhere.
        while let Some(limit) = until
            && self.all.len() == before
        {
            let mut newest = db.prepare_cached(&last_second())?;
            let found = newest.query_row((source, limit), |row| row.get::<_, i64>(0));
            let Some(second) = super::optional(found)? else { break };
            self.add(db, IN_SECOND, (source, second), |moment| {
                moment.source == source && moment.taken.seconds.min(moment.receipt) == second
            })?;
            until = second.checked_sub(1);
        }
        Ok(())
    }
}
