//! The fold of the log: what records say becomes rows.
//!
//! Ids are random, and a batch of records changes rows all over the tables. So each table's
//! are written in the order of their ids: then each of its pages is changed once for a
//! batch, and not once for each row in it.

use rusqlite::Connection;

use super::{FoldedSegment, Index, Result};
use crate::base::{ChainId, ChunkId, PackId, RecordId, SnapshotId, StreamId, UnixTime, WriterId};

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
            let news = fold_records(db, records)?;
            let chunks = fold_packs(db, &news)?;
            fold_chunks(db, chunks)?;
            fold_segments(db, &news)?;
            news.iter().try_for_each(|record| fold_rest(db, record))
        })
    }
}

/// A chunk that is to be noted, in which claim, and its place in that.
type NewChunk<'a> = (&'a ChunkId, i64, usize, u64, u32);

/// Notes the records themselves. Returns those that say anything new.
fn fold_records<'a>(
    db: &Connection,
    records: &'a [FoldedRecord],
) -> rusqlite::Result<Vec<&'a FoldedRecord>> {
    let mut ordered: Vec<&FoldedRecord> = records.iter().collect();
    ordered.sort_by_key(|record| record.id.or(record.carried));
    let mut news = Vec::with_capacity(ordered.len());
    for record in ordered {
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
            fold_record(db, id, record)?;
        }
        if !known {
            news.push(record);
        }
    }
    Ok(news)
}

fn fold_record(db: &Connection, id: RecordId, record: &FoldedRecord) -> rusqlite::Result<()> {
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
        record.writer.as_ref().map(|w| w.0.as_slice()),
        record.chain.as_ref().map(|c| c.0.as_slice()),
        to_i64(record.number),
        record.problem.as_deref(),
        record.previous.as_ref().map(|r| r.0.as_slice()),
        record.late,
        record.carried.is_some(),
        record.blocks,
    ))?;
    Ok(())
}

/// Notes the claims. Returns the chunks in them.
fn fold_packs<'a>(
    db: &Connection,
    records: &[&'a FoldedRecord],
) -> rusqlite::Result<Vec<NewChunk<'a>>> {
    let mut packs = Vec::new();
    for record in records {
        packs.extend(record.packs.iter().map(|pack| (pack, *record)));
    }
    packs.sort_by_key(|(pack, _)| (pack.id, pack.claim));
    let mut chunks = Vec::new();
    for (pack, record) in packs {
        let number = fold_pack(db, record, pack)?;
        let places = pack.chunks.iter().enumerate();
        chunks.extend(places.map(|(place, (id, start, len))| (id, number, place, *start, *len)));
    }
    Ok(chunks)
}

fn fold_segments(db: &Connection, records: &[&FoldedRecord]) -> rusqlite::Result<()> {
    let mut segments = Vec::new();
    for record in records {
        segments.extend(record.segments.iter().map(|segment| (segment, *record)));
    }
    segments.sort_by_key(|(segment, _)| segment.id);
    for (segment, record) in segments {
        super::segments::fold(db, record, segment)?;
    }
    Ok(())
}

/// Notes what else a record says: there is little of it, or it is of few records.
fn fold_rest(db: &Connection, record: &FoldedRecord) -> rusqlite::Result<()> {
    for snapshot in &record.snapshots {
        super::snapshots::fold(db, record, snapshot)?;
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
    for id in sorted(&record.condemned) {
        // A late condemnation keeps backups from building on the pack, and no more.
        fold_fate(db, *id, (!record.late).then_some(record.receipt), None)?;
    }
    for id in sorted(&record.deleted) {
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
    for id in sorted(covers) {
        db.prepare_cached(
            "INSERT INTO record (id, receipt, late, covered, blocks) VALUES (?1, ?2, 0, 1, 0)
             ON CONFLICT DO UPDATE SET covered = 1, problem = NULL",
        )?
        .execute((id.0.as_slice(), record.receipt))?;
    }
    Ok(())
}

fn sorted<T: Ord>(ids: &[T]) -> Vec<&T> {
    let mut sorted: Vec<&T> = ids.iter().collect();
    sorted.sort_unstable();
    sorted
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

fn fold_chunks(db: &Connection, mut chunks: Vec<NewChunk<'_>>) -> rusqlite::Result<()> {
    chunks.sort_unstable();
    let mut insert =
        db.prepare_cached("INSERT OR IGNORE INTO chunk VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (id, number, place, start, length) in chunks {
        insert.execute((id.0.as_slice(), number, place, to_i64(start), length))?;
    }
    Ok(())
}
