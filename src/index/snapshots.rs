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
        super::segments::fold_base(db, record, id, *point)?;
    }
    if !record.late {
        // Whoever vouched for it too late, somebody did in time.
        db.prepare_cached("UPDATE snapshot SET late = 0 WHERE id = ?1 AND record = ?2 AND late")?
            .execute((id.0.as_slice(), own.as_slice()))?;
    }
    Ok(())
}

fn checksum(receipt: i64, writer: &[u8], fact: &[u8]) -> Vec<u8> {
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
        let mut altered = false;
        let mut moments: Vec<SnapshotMoment> = Vec::new();
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT id, receipt, writer, source, taken, nanos, mark FROM snapshot
                 WHERE {BELIEVED} ORDER BY id, receipt, record",
            ))?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let id = SnapshotId(row.get(0)?);
                if moments.last().is_some_and(|first| first.id == id) {
                    continue;
                }
                let (receipt, source): (i64, String) = (row.get(1)?, row.get(3)?);
                let taken = UnixTime { seconds: row.get(4)?, nanos: row.get(5)? };
                let writer = row.get_ref(2)?.as_blob()?;
                let sum = mark(&id.0, receipt, writer, &source, taken);
                altered |= row.get_ref(6)?.as_blob()? != sum.as_slice();
                moments.push(SnapshotMoment { id, source, taken, receipt });
            }
            Ok(())
        })?;
        if altered { Err(self.altered_snapshot()) } else { Ok(moments) }
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
            db.query_row(
                "SELECT (SELECT count(*) FROM snapshot), (SELECT coalesce(max(number), 0)
                 FROM snapshot),
                 (SELECT count(*) FROM forgotten) + (SELECT count(*) FROM revoked)",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
        })
    }
}
