//! Records, packs and chunks: what is known of them.

use rusqlite::Connection;

use super::{Index, Result, bad_column, optional};
use crate::base::{ChunkId, PackId, RecordId};

/// The bytes of all packs, each once however many claim it.
const STORED_BYTES: &str = "SELECT coalesce(sum(size), 0)
    FROM (SELECT max(size) AS size FROM pack GROUP BY id)";

/// A claim about a pack, as the index has it.
#[derive(Debug, Clone)]
pub struct PackRow {
    /// Its dense number on this machine.
    pub number: i64,
    /// Its name.
    pub id: PackId,
    /// A hash of all that is claimed.
    pub claim: [u8; 32],
    /// 0 for data, 1 for nodes.
    pub kind: u8,
    /// Its size in bytes.
    pub size: u64,
    /// Its wrapped key.
    pub key: Option<Vec<u8>>,
    /// Its encoded frames.
    pub frames: Vec<u8>,
}

/// Why a chunk need not be stored again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// The pack that it stands on.
    pub pack: PackId,
    /// The store's time at which that pack was known to stand. Seconds since 1970.
    pub at: i64,
}

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlace {
    /// The dense number of the claim about its pack.
    pub pack: i64,
    /// Where it begins in the pack's content.
    pub start: u64,
    /// Its length.
    pub length: u32,
}

/// A record that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRecord {
    /// Its name.
    pub id: RecordId,
    /// Why nothing of it is believed, if so.
    pub problem: Option<String>,
}

impl Index {
    /// Which of these records are not known yet, or were not readable.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn unknown_records(&self, ids: &[RecordId]) -> Result<Vec<RecordId>> {
        self.read(|db| {
            // Beginning a transaction for each takes longer than to look.
            let db = db.unchecked_transaction()?;
            let mut seen =
                db.prepare_cached("SELECT 1 FROM record WHERE id = ?1 AND problem IS NULL")?;
            let mut unknown = Vec::new();
            for id in ids {
                if !seen.exists([id.0.as_slice()])? {
                    unknown.push(*id);
                }
            }
            Ok(unknown)
        })
    }

    /// Records of which nothing is believed.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn problem_records(&self) -> Result<Vec<SeenRecord>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT id, problem FROM record WHERE problem IS NOT NULL ORDER BY id",
            )?;
            let rows = statement.query_map([], |row| {
                let id: Vec<u8> = row.get(0)?;
                let id = RecordId::from_slice(&id).ok_or_else(|| bad_column("record id"))?;
                Ok(SeenRecord { id, problem: row.get(1)? })
            })?;
            rows.collect()
        })
    }

    /// How many records, packs and chunks are known, and the packs' bytes.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn counts(&self) -> Result<(u64, u64, u64, u64)> {
        self.read(|db| {
            let one = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0));
            let unsigned = |n: i64| u64::try_from(n).unwrap_or(0);
            Ok((
                unsigned(one("SELECT count(*) FROM record")?),
                unsigned(one("SELECT count(DISTINCT id) FROM pack")?),
                unsigned(one("SELECT count(*) FROM chunk")?),
                unsigned(one(STORED_BYTES)?),
            ))
        })
    }

    /// How many bytes all packs take in the store. Reads a row for each pack.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn stored_bytes(&self) -> Result<u64> {
        self.read(|db| {
            let sum: i64 = db.query_row(STORED_BYTES, [], |row| row.get(0))?;
            Ok(u64::try_from(sum).unwrap_or(0))
        })
    }

    /// Every place of a chunk, by every claim: of packs that stand first, and of these
    /// the trusted ones; last those of which nothing is believed, since their claimants
    /// are revoked. Empty if it is not known.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn chunk_places(&self, id: &ChunkId) -> Result<Vec<ChunkPlace>> {
        Ok(self.all_chunk_places(std::slice::from_ref(id))?.pop().unwrap_or_default())
    }

    /// The same for many chunks, in one transaction: beginning one takes about as long as
    /// looking one chunk up.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn all_chunk_places(&self, ids: &[ChunkId]) -> Result<Vec<Vec<ChunkPlace>>> {
        self.read(|db| {
            let transaction = db.unchecked_transaction()?;
            let mut statement = db.prepare_cached(
                "SELECT pack, start, length FROM chunk WHERE id = ?1
                 ORDER BY (SELECT doomed FROM pack WHERE number = chunk.pack),
                          (SELECT max(trusted) FROM claimant
                           WHERE claimant.pack = chunk.pack AND NOT EXISTS
                               (SELECT 1 FROM revoked WHERE revoked.writer = claimant.writer
                                AND claimant.receipt >= since)) DESC NULLS LAST, pack",
            )?;
            let mut all = Vec::with_capacity(ids.len());
            for id in ids {
                let rows = statement.query_map([id.0.as_slice()], |row| {
                    Ok(ChunkPlace { pack: row.get(0)?, start: row.get(1)?, length: row.get(2)? })
                })?;
                all.push(rows.collect::<rusqlite::Result<_>>()?);
            }
            drop(statement);
            transaction.commit()?;
            Ok(all)
        })
    }

    /// Why a backup may refer to a chunk without writing it, if it may: a trusted claim
    /// has it, nobody condemned the pack, and it was known to stand at `since` or later.
    /// `doomed_too` counts condemned packs as well, which is never safe.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn evidence(&self, id: &ChunkId, since: i64, doomed_too: bool) -> Result<Option<Evidence>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT pack.id, max(claimant.receipt, coalesce(
                     (SELECT value FROM meta WHERE key = 'witnessed'), claimant.receipt)) AS at
                 FROM chunk JOIN pack ON pack.number = chunk.pack
                     JOIN claimant ON claimant.pack = chunk.pack
                 WHERE chunk.id = ?1 AND claimant.trusted AND at >= ?2
                     AND (?3 OR NOT pack.doomed)
                     AND NOT EXISTS (SELECT 1 FROM revoked WHERE revoked.writer = claimant.writer
                         AND claimant.receipt >= revoked.since)
                 ORDER BY at DESC, claimant.pack LIMIT 1",
            )?;
            optional(statement.query_row((id.0.as_slice(), since, doomed_too), |row| {
                Ok(Evidence { pack: PackId(row.get(0)?), at: row.get(1)? })
            }))
        })
    }

    /// Whether any of these packs is condemned or deleted, as far as anybody said.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn any_doomed<'a>(&self, packs: impl IntoIterator<Item = &'a PackId>) -> Result<bool> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT 1 FROM fate WHERE pack = ?1")?;
            for id in packs {
                if statement.exists([id.0.as_slice()])? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// A claim about a pack by its dense number.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn pack(&self, number: i64) -> Result<Option<PackRow>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT number, id, kind, size, key, frames, claim FROM pack WHERE number = ?1",
            )?;
            optional(statement.query_row([number], |row| {
                let id: Vec<u8> = row.get(1)?;
                Ok(PackRow {
                    number: row.get(0)?,
                    id: PackId::from_slice(&id).ok_or_else(|| bad_column("pack id"))?,
                    kind: row.get(2)?,
                    size: row.get(3)?,
                    key: row.get(4)?,
                    frames: row.get(5)?,
                    claim: row.get(6)?,
                })
            }))
        })
    }

    /// The dense number of a claim about a pack.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn claim_number(&self, pack: &PackId, claim: &[u8; 32]) -> Result<Option<i64>> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT number FROM pack WHERE id = ?1 AND claim = ?2")?;
            optional(statement.query_row((pack.0.as_slice(), claim), |row| row.get(0)))
        })
    }
}

/// Raises the evidence of every pack: what is known and not condemned stood there at `at`.
pub(super) fn witness(db: &Connection, at: i64) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO meta VALUES ('witnessed', ?1)
         ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)",
        [at],
    )
    .map(|_| ())
}
