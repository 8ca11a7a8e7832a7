//! Chains: which record says that it follows which.

use super::{Index, Result, bad_column};
use crate::base::{ChainId, RecordId, WriterId};

/// A record's place in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainLink {
    /// Whose chain.
    pub writer: WriterId,
    /// Which chain.
    pub chain: ChainId,
    /// Its place in it, from 0.
    pub number: u64,
    /// The record.
    pub record: RecordId,
    /// The one before it, as it says.
    pub previous: Option<RecordId>,
}

impl Index {
    /// Whether a checkpoint carries all that the record says.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn is_covered(&self, id: &RecordId) -> Result<bool> {
        self.read(|db| {
            db.prepare_cached("SELECT 1 FROM record WHERE id = ?1 AND covered")?
                .exists([id.0.as_slice()])
        })
    }

    /// Every record that could be read or that a checkpoint carries on, in the order of
    /// writer, chain, number and id.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn chain_links(&self) -> Result<Vec<ChainLink>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT writer, chain, number, id, previous FROM record
                 WHERE problem IS NULL AND writer IS NOT NULL AND chain IS NOT NULL
                 ORDER BY writer, chain, number, id",
            )?;
            let rows = statement.query_map([], |row| {
                let previous: Option<[u8; 32]> = row.get(4)?;
                let number: i64 = row.get(2)?;
                Ok(ChainLink {
                    writer: WriterId(row.get(0)?),
                    chain: ChainId(row.get(1)?),
                    number: u64::try_from(number).map_err(|_| bad_column("record number"))?,
                    record: RecordId(row.get(3)?),
                    previous: previous.map(RecordId),
                })
            })?;
            rows.collect()
        })
    }
}
