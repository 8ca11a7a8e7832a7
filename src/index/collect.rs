//! What a collector asks of the index: everything about packs at once, and chunks in
//! the order of their ids.
//!
//! Rows come in a stream, never as a whole table in memory; of packs and snapshots
//! what is needed is small, and its number is that of packs, not of chunks.

use rusqlite::Connection;

use super::{Index, Pinned, Result, bad_column};
use crate::base::{ChainId, ChunkId, PackId, SnapshotId, WriterId};

/// The records that block collection.
pub(super) const BLOCKING: &str = "SELECT id, problem FROM record
    WHERE blocks AND problem IS NOT NULL AND NOT covered ORDER BY id";

/// A claim about a pack, as far as a collector needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRow {
    /// Its dense number.
    pub number: i64,
    /// The pack.
    pub id: PackId,
    /// Whether it holds nodes.
    pub nodes: bool,
    /// The pack's size in bytes, as it says.
    pub size: u64,
    /// How many chunks it claims, which are numbered from 0.
    pub chunks: u32,
    /// When the store received it last of a trusted writer, and in time; none if it never
    /// did. Seconds since 1970.
    pub vouched: Option<i64>,
    /// Whether a writer other than the owner made it.
    pub by_writers: bool,
    /// When the store received it last. Seconds since 1970.
    pub latest: i64,
}

/// What was said of a pack that is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FateRow {
    /// The pack.
    pub pack: PackId,
    /// When the earliest condemnation that counts was received. Seconds since 1970.
    pub condemned: Option<i64>,
    /// When it was received that it is deleted. Seconds since 1970.
    pub deleted: Option<i64>,
}

/// A pin that is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinRow {
    /// What it keeps.
    pub pinned: Pinned,
    /// When the store received it. Seconds since 1970.
    pub receipt: i64,
    /// Who published it.
    pub writer: WriterId,
}

/// A snapshot or a segment, forgotten or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootRow {
    /// Its id.
    pub id: SnapshotId,
    /// When the store received it. Seconds since 1970.
    pub receipt: i64,
    /// Who published it.
    pub writer: WriterId,
    /// Whether its record was late.
    pub late: bool,
    /// Whether it is forgotten.
    pub forgotten: bool,
    /// The whole fact.
    pub fact: Vec<u8>,
}

/// A chunk in one claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRow {
    /// The claim's dense number.
    pub pack: i64,
    /// Which of its chunks.
    pub place: u32,
    /// Where it begins in the pack's content.
    pub start: u64,
    /// Its length.
    pub length: u32,
}

/// Looks up chunks with a connection and a statement of its own.
pub struct ChunkLookup<'a> {
    statement: rusqlite::CachedStatement<'a>,
}

impl ChunkLookup<'_> {
    /// Every place of a chunk, into `places`, which is emptied first. Costs some
    /// microseconds.
    ///
    /// # Errors
    ///
    /// What SQLite says.
    pub fn places(&mut self, id: &ChunkId, places: &mut Vec<ChunkRow>) -> rusqlite::Result<()> {
        places.clear();
        let mut rows = self.statement.query([id.0.as_slice()])?;
        while let Some(row) = rows.next()? {
            places.push(ChunkRow {
                pack: row.get(0)?,
                place: row.get(1)?,
                start: row.get(2)?,
                length: row.get(3)?,
            });
        }
        Ok(())
    }
}

const NOT_REVOKED: &str = "NOT EXISTS (SELECT 1 FROM revoked WHERE revoked.writer = {}.writer
     AND {}.receipt >= revoked.since)";

fn not_revoked(table: &str) -> String {
    NOT_REVOKED.replace("{}", table)
}

impl Index {
    /// Runs `work` with a connection that remembers much of the tables, and what it
    /// needs to look up chunks.
    ///
    /// # Errors
    ///
    /// What `work` returns; [`super::Error`] if the index cannot be opened.
    pub fn with_lookup<T, E: From<super::Error>>(
        &self,
        work: impl FnOnce(
            &mut dyn FnMut(&ChunkId, &mut Vec<ChunkRow>) -> Result<()>,
        ) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let connection = self.connect_another(&self.current())?;
        // KiB. Random look-ups come back to the same pages again and again.
        connection.pragma_update(None, "cache_size", -8192).map_err(|e| self.error(e))?;
        let statement = connection
            .prepare_cached("SELECT pack, place, start, length FROM chunk WHERE id = ?1")
            .map_err(|e| self.error(e))?;
        let mut lookup = ChunkLookup { statement };
        work(&mut |id, places| lookup.places(id, places).map_err(|e| self.error(e)))
    }

    /// Every claim, in the order of packs' ids. Memory for each is the caller's.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn each_claim(&self, mut each: impl FnMut(ClaimRow)) -> Result<()> {
        let owner_is_not = |db: &Connection| -> rusqlite::Result<()> {
            let query = format!(
                "SELECT pack.number, pack.id, pack.kind, pack.size, pack.chunks,
                     max(CASE WHEN claimant.trusted AND {believed} THEN claimant.receipt END),
                     max(coalesce(claimant.certified, 0)), max(coalesce(claimant.receipt, 0))
                 FROM pack LEFT JOIN claimant ON claimant.pack = pack.number
                 GROUP BY pack.number ORDER BY pack.id, pack.claim",
                believed = not_revoked("claimant")
            );
            let mut statement = db.prepare_cached(&query)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                each(ClaimRow {
                    number: row.get(0)?,
                    id: PackId(row.get(1)?),
                    nodes: row.get::<_, u8>(2)? == 1,
                    size: row.get(3)?,
                    chunks: row.get(4)?,
                    vouched: row.get(5)?,
                    by_writers: row.get(6)?,
                    latest: row.get(7)?,
                });
            }
            Ok(())
        };
        self.read(owner_is_not)
    }

    /// What was said of packs that are to be deleted, in the order of their ids.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn fates(&self) -> Result<Vec<FateRow>> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT pack, condemned, deleted FROM fate ORDER BY pack")?;
            let rows = statement.query_map([], |row| {
                let pack = PackId(row.get(0)?);
                Ok(FateRow { pack, condemned: row.get(1)?, deleted: row.get(2)? })
            })?;
            rows.collect()
        })
    }

    /// The pins that were received in time, after `since`.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn pins(&self, since: i64) -> Result<Vec<PinRow>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT receipt, writer, snapshot, chain, number FROM pin
                 WHERE NOT late AND receipt > ?1 AND {}",
                not_revoked("pin")
            ))?;
            let rows = statement.query_map([since], |row| {
                let snapshot: Option<[u8; 16]> = row.get(2)?;
                let chain: Option<[u8; 16]> = row.get(3)?;
                let pinned = match (snapshot, chain) {
                    (Some(id), _) => Pinned::Snapshot(SnapshotId(id)),
                    (None, Some(chain)) => Pinned::Chain(ChainId(chain), row.get(4)?),
                    (None, None) => return Err(bad_column("pin")),
                };
                Ok(PinRow { pinned, receipt: row.get(0)?, writer: WriterId(row.get(1)?) })
            })?;
            rows.collect()
        })
    }

    /// The claims that records of that chain made, up to the one of that number.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn claims_of_chain(&self, writer: WriterId, chain: ChainId, upto: u64) -> Result<Vec<i64>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT pack FROM claimant WHERE writer = ?1 AND chain = ?2 AND number <= ?3",
            )?;
            let upto = i64::try_from(upto).unwrap_or(i64::MAX);
            let rows = statement
                .query_map((writer.0.as_slice(), chain.0.as_slice(), upto), |row| row.get(0))?;
            rows.collect()
        })
    }

    /// Every snapshot and segment that is believed, forgotten ones and copies included.
    ///
    /// # Errors
    ///
    /// What `each` returns; [`super::Error`] if the index cannot be read.
    pub fn each_root<E: From<super::Error>>(
        &self,
        mut each: impl FnMut(RootRow) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut failed = None;
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT id, receipt, writer, late, fact,
                     EXISTS (SELECT 1 FROM forgotten WHERE forgotten.snapshot = root.id)
                 FROM (SELECT number, id, receipt, writer, late, fact FROM snapshot
                       UNION ALL SELECT number, id, receipt, writer, late, fact FROM segment)
                     AS root
                 WHERE {} ORDER BY number",
                not_revoked("root")
            ))?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let root = RootRow {
                    id: SnapshotId(row.get(0)?),
                    receipt: row.get(1)?,
                    writer: WriterId(row.get(2)?),
                    late: row.get(3)?,
                    fact: row.get(4)?,
                    forgotten: row.get(5)?,
                };
                if let Err(error) = each(root) {
                    failed = Some(error);
                    break;
                }
            }
            Ok(())
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// Every fact that is kept verbatim, and the checkpoints that came in time and that no
    /// other replaced, with when the store received each.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn other_facts(&self) -> Result<Vec<(i64, Vec<u8>)>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT receipt, bytes FROM fact
                 UNION ALL SELECT receipt, bytes FROM checkpoint WHERE NOT EXISTS
                     (SELECT 1 FROM record WHERE record.id = checkpoint.record
                      AND (covered OR late))",
            )?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })
    }

    /// Every chunk with all its places, in the order of ids.
    ///
    /// # Errors
    ///
    /// What `each` returns; [`super::Error`] if the index cannot be read.
    pub fn each_chunk<E: From<super::Error>>(
        &self,
        mut each: impl FnMut(&ChunkId, &[ChunkRow]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut failed = None;
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT id, pack, place, start, length FROM chunk ORDER BY id")?;
            let mut rows = statement.query([])?;
            let mut current = ChunkId([0; 32]);
            let mut places: Vec<ChunkRow> = Vec::new();
            while let Some(row) = rows.next()? {
                let id = row.get_ref(0)?.as_blob().ok().and_then(ChunkId::from_slice);
                let id = id.ok_or_else(|| bad_column("chunk id"))?;
                if id != current && !places.is_empty() {
                    if let Err(error) = each(&current, &places) {
                        failed = Some(error);
                        return Ok(());
                    }
                    places.clear();
                }
                current = id;
                places.push(ChunkRow {
                    pack: row.get(1)?,
                    place: row.get(2)?,
                    start: row.get(3)?,
                    length: row.get(4)?,
                });
            }
            if !places.is_empty()
                && let Err(error) = each(&current, &places)
            {
                failed = Some(error);
            }
            Ok(())
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// Records that may hold facts which are not known: of these nothing is believed,
    /// and it is not certain that nobody meant them.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn blocking_records(&self) -> Result<Vec<super::SeenRecord>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(BLOCKING)?;
            let rows = statement.query_map([], |row| {
                let id = crate::base::RecordId(row.get(0)?);
                Ok(super::SeenRecord { id, problem: row.get(1)? })
            })?;
            rows.collect()
        })
    }
}
