//! Records, packs and chunks: the fold of the log.

use rusqlite::Connection;

use super::{FoldedSegment, Index, Result, bad_column, optional};
use crate::base::{ChainId, ChunkId, PackId, RecordId, SnapshotId, StreamId, UnixTime, WriterId};

/// The bytes of all packs, each once however many claim it.
const STORED_BYTES: &str = "SELECT coalesce(sum(size), 0)
    FROM (SELECT max(size) AS size FROM pack GROUP BY id)";

/// A record whose facts were checked and taken apart, ready to be folded.
#[derive(Debug, Clone, Default)]
pub struct FoldedRecord {
    /// Its name, if all that it says is here.
    pub id: Option<RecordId>,
    /// Its name, if a checkpoint carried these facts of it.
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
    /// If it is not believed, whether it may be more than junk.
    pub blocks: bool,
    /// Whether its signer is a writer with a certificate, not the owner.
    pub certified: bool,
    /// Whether it was received after its deadline, or has none.
    pub late: bool,
    /// The packs that it claims.
    pub packs: Vec<FoldedPack>,
    /// The snapshots that it publishes.
    pub snapshots: Vec<FoldedSnapshot>,
    /// The segments that it publishes.
    pub segments: Vec<FoldedSegment>,
    /// The snapshots that it forgets.
    pub forgotten: Vec<SnapshotId>,
    /// The writers that it revokes, and from which receipt on. Seconds since 1970.
    pub revoked: Vec<(WriterId, i64)>,
    /// The packs that it condemns.
    pub condemned: Vec<PackId>,
    /// The packs that it says are deleted.
    pub deleted: Vec<PackId>,
    /// What it pins, with the facts' places in it.
    pub pins: Vec<(u64, Pinned)>,
    /// Its other facts with their places in it, verbatim.
    pub others: Vec<(u64, Vec<u8>)>,
    /// The checkpoints that it publishes, with their places in it, verbatim.
    pub checkpoints: Vec<(u64, Vec<u8>)>,
    /// Other records whose facts these carry, so that they need not be read.
    pub covers: Vec<RecordId>,
}

/// A snapshot that a record publishes.
#[derive(Debug, Clone)]
pub struct FoldedSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Its source.
    pub source: String,
    /// When it was taken, as its writer says.
    pub taken: UnixTime,
    /// The stream that it is a state of, and its position there.
    pub point: Option<(StreamId, u64)>,
    /// The whole fact.
    pub fact: Vec<u8>,
}

/// What a pin keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// A snapshot.
    Snapshot(SnapshotId),
    /// The packs that the signer's chain has claimed up to that record.
    Chain(ChainId, u64),
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
    /// Folds records, all of them at once or none.
    ///
    /// Folding is idempotent and does not depend on order.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be written.
    pub fn fold(&self, records: &[FoldedRecord]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        self.write(|db| {
            let mut chunks = Vec::new();
            records.iter().try_for_each(|record| fold_one(db, record, &mut chunks))?;
            fold_chunks(db, chunks)
        })
    }

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

    /// Raises the evidence of every pack: what is known and not condemned stood there
    /// at `at`. An earlier time than is known already changes nothing.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be written.
    pub fn witness_packs(&self, at: i64) -> Result<()> {
        self.write(|db| {
            db.execute(
                "INSERT INTO meta VALUES ('witnessed', ?1)
                 ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)",
                [at],
            )
            .map(|_| ())
        })
    }
}

/// A chunk that is to be noted, in which claim, and its place in that.
type NewChunk<'a> = (&'a ChunkId, i64, usize, u64, u32);

fn fold_one<'a>(
    db: &Connection,
    record: &'a FoldedRecord,
    chunks: &mut Vec<NewChunk<'a>>,
) -> rusqlite::Result<()> {
    // What is known already needs no second look, unless its receipt is earlier or in time.
    let known = match record.carried {
        Some(id) => db
            .prepare_cached(
                "SELECT 1 FROM record WHERE id = ?1 AND writer IS NOT NULL
                     AND problem IS NULL AND receipt <= ?2 AND late <= ?3",
            )?
            .exists((id.0.as_slice(), record.receipt, record.late))?,
        None => false,
    };
    if let Some(id) = record.id {
        // Of a record that another carries on nothing is lost if it cannot be read; and
        // of one that is only known to be covered, all is news.
        db.prepare_cached(
            "INSERT INTO record VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (id) DO UPDATE SET receipt = min(receipt, excluded.receipt),
                 writer = coalesce(excluded.writer, writer), chain = coalesce(excluded.chain, chain),
                 number = CASE WHEN excluded.chain IS NULL THEN number ELSE excluded.number END,
                 previous = coalesce(excluded.previous, previous),
                 problem = CASE WHEN covered OR excluded.covered THEN NULL
                     ELSE excluded.problem END,
                 late = CASE WHEN writer IS NULL THEN excluded.late
                     ELSE min(late, excluded.late) END,
                 covered = max(covered, excluded.covered), blocks = excluded.blocks",
        )?
        .execute((
            id.0.as_slice(),
            record.receipt,
            record.writer.map(|w| w.0.to_vec()),
            record.chain.map(|c| c.0.to_vec()),
            to_i64(record.number),
            record.problem.as_deref(),
            record.previous.map(|r| r.0.to_vec()),
            record.late,
            record.carried.is_some(),
            record.blocks,
        ))?;
    }
    if known {
        return Ok(());
    }
    for pack in &record.packs {
        let number = fold_pack(db, record, pack)?;
        let places = pack.chunks.iter().enumerate();
        chunks.extend(places.map(|(place, (id, start, len))| (id, number, place, *start, *len)));
    }
    for snapshot in &record.snapshots {
        super::snapshots::fold(db, record, snapshot)?;
    }
    for segment in &record.segments {
        super::segments::fold(db, record, segment)?;
    }
    for id in &record.forgotten {
        db.prepare_cached(
            "INSERT INTO forgotten (snapshot, receipt) VALUES (?1, ?2)
             ON CONFLICT (snapshot) DO UPDATE SET receipt = min(receipt, excluded.receipt)",
        )?
        .execute((id.0.as_slice(), record.receipt))?;
    }
    for (writer, since) in &record.revoked {
        db.prepare_cached("INSERT OR IGNORE INTO revoked VALUES (?1, ?2)")?
            .execute((writer.0.as_slice(), since))?;
    }
    for id in &record.condemned {
        // A late condemnation keeps backups from building on the pack, and no more.
        fold_fate(db, *id, (!record.late).then_some(record.receipt), None)?;
    }
    for id in &record.deleted {
        fold_fate(db, *id, None, Some(record.receipt))?;
    }
    let owner = record.id.or(record.carried).map(|id| id.0.to_vec()).unwrap_or_default();
    let writer = record.writer.map(|w| w.0).unwrap_or_default();
    for (place, pinned) in &record.pins {
        let (snapshot, chain, number) = match pinned {
            Pinned::Snapshot(id) => (Some(id.0), None, None),
            Pinned::Chain(chain, number) => (None, Some(chain.0), Some(to_i64(*number))),
        };
        db.prepare_cached(
            "INSERT INTO pin VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO UPDATE SET receipt = min(receipt, excluded.receipt),
                 late = min(late, excluded.late)",
        )?
        .execute((
            owner.as_slice(),
            to_i64(*place),
            record.receipt,
            writer.as_slice(),
            record.late,
            snapshot.as_ref().map(<[u8; 16]>::as_slice),
            chain.as_ref().map(<[u8; 16]>::as_slice),
            number,
        ))?;
    }
    for (facts, into) in [(&record.others, "fact"), (&record.checkpoints, "checkpoint")] {
        for (place, bytes) in facts {
            db.prepare_cached(&format!("INSERT OR IGNORE INTO {into} VALUES (?1, ?2, ?3, ?4)"))?
                .execute((owner.as_slice(), to_i64(*place), record.receipt, bytes.as_slice()))?;
        }
    }
    // A late checkpoint replaces nothing: what it stands on may be gone.
    let covers = if record.late { &[][..] } else { &record.covers };
    for id in covers {
        db.prepare_cached(
            "INSERT INTO record (id, receipt, late, covered, blocks) VALUES (?1, ?2, 0, 1, 0)
             ON CONFLICT DO UPDATE SET covered = 1, problem = NULL",
        )?
        .execute((id.0.as_slice(), record.receipt))?;
    }
    Ok(())
}

pub(super) fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn fold_fate(
    db: &Connection,
    pack: PackId,
    condemned: Option<i64>,
    deleted: Option<i64>,
) -> rusqlite::Result<()> {
    // The scalar min() of a NULL is NULL, so whichever is missing gives way.
    db.prepare_cached(
        "INSERT INTO fate VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET
             condemned = coalesce(min(condemned, excluded.condemned), condemned,
                 excluded.condemned),
             deleted = coalesce(min(deleted, excluded.deleted), deleted, excluded.deleted)",
    )?
    .execute((pack.0.as_slice(), condemned, deleted))?;
    db.prepare_cached("UPDATE pack SET doomed = 1 WHERE id = ?1 AND NOT doomed")?
        .execute([pack.0.as_slice()])?;
    Ok(())
}

/// Returns the number of the claim.
fn fold_pack(db: &Connection, record: &FoldedRecord, pack: &FoldedPack) -> rusqlite::Result<i64> {
    // Several records may make the same claim. A key fills one that could not be kept.
    let number: i64 = db
        .prepare_cached(
            "INSERT INTO pack (id, claim, kind, size, doomed, chunks, key, frames)
             VALUES (?1, ?2, ?3, ?4, EXISTS (SELECT 1 FROM fate WHERE fate.pack = ?1), ?5, ?6, ?7)
             ON CONFLICT (id, claim) DO UPDATE SET key = coalesce(pack.key, excluded.key)
             RETURNING number",
        )?
        .query_row(
            (
                pack.id.0.as_slice(),
                pack.claim.as_slice(),
                pack.kind,
                to_i64(pack.size),
                to_i64(pack.chunks.len() as u64),
                pack.key.as_deref(),
                pack.frames.as_slice(),
            ),
            |row| row.get(0),
        )?;
    let writer = record.writer.map(|w| w.0).unwrap_or_default();
    db.prepare_cached(
        "INSERT INTO claimant VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT DO UPDATE SET trusted = max(trusted, excluded.trusted)",
    )?
    .execute((
        number,
        writer.as_slice(),
        record.receipt,
        pack.trusted && !record.late,
        record.certified,
        record.chain.map(|c| c.0.to_vec()),
        to_i64(record.number),
    ))?;
    Ok(number)
}

/// Ids are random: in their order each page of the table is changed once, and not once
/// for each of its chunks.
fn fold_chunks(db: &Connection, mut chunks: Vec<NewChunk<'_>>) -> rusqlite::Result<()> {
    chunks.sort_unstable();
    let mut insert =
        db.prepare_cached("INSERT OR IGNORE INTO chunk VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (id, number, place, start, length) in chunks {
        insert.execute((id.0.as_slice(), number, place, to_i64(start), length))?;
    }
    Ok(())
}
