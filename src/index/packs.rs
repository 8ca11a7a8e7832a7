//! Records, packs and chunks: the fold of the log.

use rusqlite::Connection;

use super::{Index, Result, bad_column, optional};
use crate::base::{ChainId, ChunkId, PackId, RecordId, SnapshotId, WriterId};

/// A record whose facts were checked and taken apart, ready to be folded.
#[derive(Debug, Clone, Default)]
pub struct FoldedRecord {
    /// Its name; `None` for facts that a checkpoint carried.
    pub id: Option<RecordId>,
    /// The record that facts which a checkpoint carried first stood in.
    pub carried: Option<RecordId>,
    /// When the store received it. Seconds since 1970.
    pub receipt: i64,
    /// Who published it.
    pub writer: Option<WriterId>,
    /// Its chain.
    pub chain: Option<ChainId>,
    /// Its place in the chain.
    pub number: u64,
    /// The record before it in the chain, as it says.
    pub previous: Option<RecordId>,
    /// Why nothing of it is believed, if so.
    pub problem: Option<String>,
    /// The packs that it claims.
    pub packs: Vec<FoldedPack>,
    /// The snapshots that it publishes: id and the whole fact.
    pub snapshots: Vec<(SnapshotId, Vec<u8>)>,
    /// The snapshots that it forgets.
    pub forgotten: Vec<SnapshotId>,
    /// The writers that it revokes, and from which receipt on. Seconds since 1970.
    pub revoked: Vec<(WriterId, i64)>,
    /// Its other facts with their places in it, verbatim.
    pub others: Vec<(u64, Vec<u8>)>,
    /// Other records whose facts it carries, so that they need not be read.
    pub covers: Vec<RecordId>,
}

/// What a record claims of a pack, to be folded.
///
/// Anybody with a certificate may claim any pack, so claims that differ in anything
/// are kept apart: none hides another or has a part in its trust.
#[derive(Debug, Clone)]
pub struct FoldedPack {
    /// Its name.
    pub id: PackId,
    /// A hash of all that is claimed.
    pub claim: [u8; 32],
    /// 0 for data, 1 for nodes.
    pub kind: u8,
    /// Its size in bytes.
    pub size: u64,
    /// Its key, wrapped by the caller; none without encryption or without the right to read.
    pub key: Option<Vec<u8>>,
    /// Its frames, encoded by the caller.
    pub frames: Vec<u8>,
    /// Whether backups may build on what it claims.
    pub trusted: bool,
    /// Its chunks with their places in its content.
    pub chunks: Vec<(ChunkId, u64, u32)>,
}

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
    /// Folds records, all of them at once or none.
    ///
    /// Folding is idempotent and does not depend on order.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be written.
    pub fn fold(&self, records: &[FoldedRecord]) -> Result<()> {
        self.write(|db| records.iter().try_for_each(|record| fold_one(db, record)))
    }

    /// Which of these records are not known yet, or were not readable.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn unknown_records(&self, ids: &[RecordId]) -> Result<Vec<RecordId>> {
        self.read(|db| {
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
                unsigned(one("SELECT coalesce(sum(size), 0)
                     FROM (SELECT max(size) AS size FROM pack GROUP BY id)")?),
            ))
        })
    }

    /// Every place of a chunk, by every claim: trusted ones first, last those of which
    /// nothing is believed, since their claimants are revoked. Empty if it is not known.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn chunk_places(&self, id: &ChunkId) -> Result<Vec<ChunkPlace>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT pack, start, length FROM chunk WHERE id = ?1
                 ORDER BY (SELECT max(trusted) FROM claimant
                           WHERE claimant.pack = chunk.pack AND NOT EXISTS
                               (SELECT 1 FROM revoked WHERE revoked.writer = claimant.writer
                                AND claimant.receipt >= since)) DESC NULLS LAST, pack",
            )?;
            let rows = statement.query_map([id.0.as_slice()], |row| {
                Ok(ChunkPlace { pack: row.get(0)?, start: row.get(1)?, length: row.get(2)? })
            })?;
            rows.collect()
        })
    }

    /// Whether a backup may refer to a chunk without writing it: a trusted claim has
    /// it, whose pack was seen to be there at `since` or later.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn has_chunk(&self, id: &ChunkId, since: i64) -> Result<bool> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT 1 FROM chunk JOIN claimant ON claimant.pack = chunk.pack
                 WHERE chunk.id = ?1 AND claimant.trusted AND (claimant.receipt >= ?2 OR
                     (SELECT value FROM meta WHERE key = 'witnessed') >= ?2)
                 AND NOT EXISTS (SELECT 1 FROM revoked WHERE revoked.writer = claimant.writer
                     AND claimant.receipt >= revoked.since)",
            )?;
            statement.exists((id.0.as_slice(), since))
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

    /// Raises the evidence of every pack: what is known stood there at `at`.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be written.
    pub fn witness_packs(&self, at: i64) -> Result<()> {
        self.write(|db| {
            db.execute("INSERT OR REPLACE INTO meta VALUES ('witnessed', ?1)", [at]).map(|_| ())
        })
    }
}

fn fold_one(db: &Connection, record: &FoldedRecord) -> rusqlite::Result<()> {
    if let Some(id) = record.id {
        db.prepare_cached(
            "INSERT INTO record VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (id) DO UPDATE SET receipt = min(receipt, excluded.receipt),
                 writer = excluded.writer, chain = excluded.chain, number = excluded.number,
                 problem = excluded.problem, previous = excluded.previous",
        )?
        .execute((
            id.0.as_slice(),
            record.receipt,
            record.writer.map(|w| w.0.to_vec()),
            record.chain.map(|c| c.0.to_vec()),
            i64::try_from(record.number).unwrap_or(i64::MAX),
            record.problem.as_deref(),
            record.previous.map(|r| r.0.to_vec()),
        ))?;
    }
    for pack in &record.packs {
        fold_pack(db, record, pack)?;
    }
    for (id, fact) in &record.snapshots {
        super::snapshots::fold(db, *id, record, fact)?;
    }
    for id in &record.forgotten {
        db.prepare_cached("INSERT OR IGNORE INTO forgotten VALUES (?1)")?
            .execute([id.0.as_slice()])?;
    }
    for (writer, since) in &record.revoked {
        db.prepare_cached("INSERT OR IGNORE INTO revoked VALUES (?1, ?2)")?
            .execute((writer.0.as_slice(), since))?;
    }
    let owner = record.id.map(|id| id.0.to_vec()).unwrap_or_default();
    for (place, bytes) in &record.others {
        let place = i64::try_from(*place).unwrap_or(i64::MAX);
        db.prepare_cached("INSERT OR IGNORE INTO fact VALUES (?1, ?2, ?3)")?.execute((
            owner.as_slice(),
            place,
            bytes.as_slice(),
        ))?;
    }
    for id in &record.covers {
        db.prepare_cached("INSERT OR IGNORE INTO record (id, receipt) VALUES (?1, ?2)")?
            .execute((id.0.as_slice(), record.receipt))?;
    }
    Ok(())
}

fn fold_pack(db: &Connection, record: &FoldedRecord, pack: &FoldedPack) -> rusqlite::Result<()> {
    // Several records may make the same claim. A key fills one that could not be kept.
    let number: i64 = db
        .prepare_cached(
            "INSERT INTO pack (id, claim, kind, size, key, frames)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (id, claim) DO UPDATE SET key = coalesce(pack.key, excluded.key)
             RETURNING number",
        )?
        .query_row(
            (
                pack.id.0.as_slice(),
                pack.claim.as_slice(),
                pack.kind,
                i64::try_from(pack.size).unwrap_or(i64::MAX),
                pack.key.as_deref(),
                pack.frames.as_slice(),
            ),
            |row| row.get(0),
        )?;
    let writer = record.writer.map(|w| w.0).unwrap_or_default();
    db.prepare_cached(
        "INSERT INTO claimant VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET trusted = max(trusted, excluded.trusted)",
    )?
    .execute((number, writer.as_slice(), record.receipt, pack.trusted))?;
    let mut insert = db.prepare_cached("INSERT OR IGNORE INTO chunk VALUES (?1, ?2, ?3, ?4)")?;
    for (id, start, length) in &pack.chunks {
        let start = i64::try_from(*start).unwrap_or(i64::MAX);
        insert.execute((id.0.as_slice(), number, start, length))?;
    }
    Ok(())
}
