//! What compaction asks of the index: which records and checkpoints there are, and
//! whether a fact still says anything that somebody needs.

use super::{Index, Result, bad_column, optional};
use crate::base::{ChainId, PackId, RecordId, SnapshotId, WriterId};

/// Every checkpoint, damaged or not. There are few of them, and many records.
pub(super) const CHECKPOINTS: &str = "SELECT record.id, record.receipt, record.late, bytes
    FROM checkpoint CROSS JOIN record ON record.id = checkpoint.record
    WHERE (problem IS NOT NULL) = ?1 ORDER BY checkpoint.record, place";

/// A record that could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRow {
    /// When the store received it. Seconds since 1970.
    pub receipt: i64,
    /// Who published it.
    pub writer: WriterId,
    /// Its chain.
    pub chain: ChainId,
    /// Its place in it.
    pub number: u64,
}

/// A checkpoint whose record could be read, with all that it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointRow {
    /// The record that publishes it.
    pub record: RecordId,
    /// When the store received that. Seconds since 1970.
    pub receipt: i64,
    /// Whether that was after its deadline.
    pub late: bool,
    /// The fact, verbatim.
    pub fact: Vec<u8>,
}

impl Index {
    /// A record, if it could be read. Of records that are only known to be carried by
    /// a checkpoint there is none.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn record(&self, id: &RecordId) -> Result<Option<RecordRow>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT receipt, writer, chain, number FROM record
                 WHERE id = ?1 AND problem IS NULL AND writer IS NOT NULL AND chain IS NOT NULL",
            )?;
            optional(statement.query_row([id.0.as_slice()], |row| {
                let number: i64 = row.get(3)?;
                Ok(RecordRow {
                    receipt: row.get(0)?,
                    writer: WriterId(row.get(1)?),
                    chain: ChainId(row.get(2)?),
                    number: u64::try_from(number).map_err(|_| bad_column("record number"))?,
                })
            }))
        })
    }

    /// How many records a chain has, and when the store received the last of them.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn chain_extent(&self, writer: WriterId, chain: ChainId) -> Result<(u64, i64)> {
        self.read(|db| {
            db.prepare_cached(
                "SELECT count(*), coalesce(max(receipt), 0) FROM record
                 WHERE chain = ?2 AND writer = ?1",
            )?
            .query_row((writer.0.as_slice(), chain.0.as_slice()), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
        })
    }

    /// Every checkpoint that is known and was read whole, covered by another or not; or,
    /// `damaged`, those of which something could not be read.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn checkpoints(&self, damaged: bool) -> Result<Vec<CheckpointRow>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(CHECKPOINTS)?;
            let rows = statement.query_map([damaged], |row| {
                Ok(CheckpointRow {
                    record: RecordId(row.get(0)?),
                    receipt: row.get(1)?,
                    late: row.get(2)?,
                    fact: row.get(3)?,
                })
            })?;
            rows.collect()
        })
    }

    /// Remembers that a checkpoint cannot be read, and that it therefore stands for none
    /// of these records.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be written.
    pub fn distrust(&self, id: &RecordId, problem: &str, bare: &[RecordId]) -> Result<()> {
        self.write(|db| {
            db.execute("UPDATE record SET problem = ?2 WHERE id = ?1", (id.0.as_slice(), problem))?;
            let mut uncover = db.prepare_cached("UPDATE record SET covered = 0 WHERE id = ?1")?;
            bare.iter().try_for_each(|id| uncover.execute([id.0.as_slice()]).map(|_| ()))
        })
    }

    /// Notes that these records stop no collection, though they cannot be read.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be written.
    pub fn unblock(&self, ids: &[RecordId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        self.write(|db| {
            let mut unblock = db.prepare_cached("UPDATE record SET blocks = 0 WHERE id = ?1")?;
            ids.iter().try_for_each(|id| unblock.execute([id.0.as_slice()]).map(|_| ()))
        })
    }

    /// Whether a record is known as one that cannot be read.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn has_problem(&self, id: &RecordId) -> Result<bool> {
        self.read(|db| {
            db.prepare_cached("SELECT 1 FROM record WHERE id = ?1 AND problem IS NOT NULL")?
                .exists([id.0.as_slice()])
        })
    }

    /// Whether a pack was said to be deleted; by `until`, in seconds since 1970, and
    /// without a claim of it that came later.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn is_deleted(&self, pack: &PackId, until: i64) -> Result<bool> {
        self.read(|db| {
            db.prepare_cached(
                "SELECT 1 FROM fate WHERE pack = ?1 AND deleted <= ?2 AND NOT EXISTS
                     (SELECT 1 FROM pack JOIN claimant ON claimant.pack = pack.number
                      WHERE pack.id = ?1 AND claimant.receipt > ?2)",
            )?
            .exists((pack.0.as_slice(), until))
        })
    }

    /// Whether a snapshot or segment is forgotten, by `forgotten_until`, and whatever was said of
    /// it came by `said_until`: its publications, and pins that name it.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn is_discarded(
        &self,
        id: &SnapshotId,
        forgotten_until: i64,
        said_until: i64,
    ) -> Result<bool> {
        self.read(|db| {
            db.prepare_cached(
                "SELECT 1 FROM forgotten WHERE snapshot = ?1 AND receipt <= ?2
                     AND NOT EXISTS (SELECT 1 FROM snapshot WHERE id = ?1 AND receipt > ?3)
                     AND NOT EXISTS (SELECT 1 FROM segment WHERE id = ?1 AND receipt > ?3)
                     AND NOT EXISTS (SELECT 1 FROM pin WHERE snapshot = ?1 AND receipt > ?3)",
            )?
            .exists((id.0.as_slice(), forgotten_until, said_until))
        })
    }

    /// How many bytes the packs have that a record claims.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn pack_bytes_of(&self, record: &RecordId) -> Result<u64> {
        self.read(|db| {
            db.prepare_cached(
                "SELECT coalesce(sum(size), 0) FROM pack WHERE number IN
                     (SELECT claimant.pack FROM record JOIN claimant
                      ON claimant.chain = record.chain AND claimant.number = record.number
                          AND claimant.writer = record.writer
                      WHERE record.id = ?1)",
            )?
            .query_row([record.0.as_slice()], |row| row.get(0))
        })
    }
}
