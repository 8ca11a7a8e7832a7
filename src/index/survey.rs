//! What a check notes down while it goes, and what it remembers when it is done.
//!
//! A check of a large repository must remember which nodes it has seen and which
//! chunks it has missed, and must not take memory for it. So it works on a
//! connection of its own with temporary tables, which SQLite keeps in a file
//! that is gone when the check ends, beside the tables of the index, which it can
//! be compared with row by row. Only when a pack was last found whole is kept.

mod damage;
mod moments;

use std::path::PathBuf;

use rusqlite::{Connection, Params, Row};

use super::{Error, Index, Result, connect, optional};
use crate::base::{PackId, RecordId};

pub use damage::{ClaimedChunk, DamageRow, NodeSums};
pub use moments::SegmentLoss;

const TABLES: &str = "
PRAGMA temp_store = FILE;
-- What the store has.
CREATE TEMP TABLE listed (id BLOB PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TEMP TABLE listed_record (id BLOB PRIMARY KEY) WITHOUT ROWID;
-- What the index had read when the check began.
CREATE TEMP TABLE known_record (id BLOB PRIMARY KEY) WITHOUT ROWID;
INSERT INTO known_record
    SELECT id FROM record WHERE writer IS NOT NULL AND problem IS NULL;
-- Packs that are to be read whole.
CREATE TEMP TABLE reading (id BLOB PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
-- What is wrong: certainly, or only if something that is needed is lost by it.
CREATE TEMP TABLE object (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, why TEXT NOT NULL,
    certain INTEGER NOT NULL
);
-- Claims that nothing can be read by, or perhaps not everything (doubt).
CREATE TEMP TABLE bad (
    claim INTEGER PRIMARY KEY, object INTEGER NOT NULL, doubt INTEGER NOT NULL
);
-- Chunks that are needed and cannot be read, by each object that is to blame; those
-- that proved to be readable have object 0.
CREATE TEMP TABLE lost (
    chunk BLOB NOT NULL, object INTEGER NOT NULL, PRIMARY KEY (chunk, object)
) WITHOUT ROWID;
-- Nodes that were gone through.
CREATE TEMP TABLE node (
    id BLOB PRIMARY KEY, file INTEGER NOT NULL, known INTEGER NOT NULL,
    direct INTEGER NOT NULL, entries INTEGER NOT NULL, bytes INTEGER NOT NULL,
    subdirs INTEGER NOT NULL, height INTEGER NOT NULL, links INTEGER NOT NULL,
    first BLOB NOT NULL, last BLOB NOT NULL
) WITHOUT ROWID;
-- What damage there is at a node or below it, and which snapshots and files it is of.
CREATE TEMP TABLE below (
    node BLOB NOT NULL, object INTEGER NOT NULL, PRIMARY KEY (node, object)
) WITHOUT ROWID;
CREATE TEMP TABLE concerned (
    object INTEGER NOT NULL, snapshot BLOB NOT NULL, PRIMARY KEY (object, snapshot)
) WITHOUT ROWID;
CREATE TEMP TABLE file (
    object INTEGER NOT NULL, name BLOB NOT NULL, PRIMARY KEY (object, name)
) WITHOUT ROWID;
-- States of segments that lack pages, and the next position that is stored whole.
CREATE TEMP TABLE segment_loss (
    object INTEGER NOT NULL, segment BLOB NOT NULL, stream BLOB NOT NULL, source TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL, since INTEGER NOT NULL,
    since_nanos INTEGER NOT NULL, until INTEGER NOT NULL, until_nanos INTEGER NOT NULL,
    whole_again INTEGER, PRIMARY KEY (object, segment)
) WITHOUT ROWID;
-- Directories whose files were named.
CREATE TEMP TABLE named (dir BLOB PRIMARY KEY) WITHOUT ROWID;
-- The names of files with several, of one snapshot.
CREATE TEMP TABLE link (
    device INTEGER NOT NULL, inode INTEGER NOT NULL, first INTEGER NOT NULL,
    count INTEGER NOT NULL, PRIMARY KEY (device, inode)
) WITHOUT ROWID;
";

/// The notes of one check.
pub struct Survey {
    db: Connection,
    path: PathBuf,
}

/// A pack that somebody claims, and what the store has of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedPack {
    /// Its name.
    pub id: PackId,
    /// The largest size that is claimed. Bytes.
    pub claimed: u64,
    /// The size in the store; none if it is not there.
    pub listed: Option<u64>,
    /// Whether some claim has that size.
    pub fits: bool,
    /// Whether all claims have one size.
    pub agreed: bool,
    /// Whether somebody who is trusted claims it.
    pub trusted: bool,
    /// Whether the log says that it was deleted.
    pub deleted: bool,
}

/// Which claims of a pack are of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoiled {
    /// All: nothing can be read.
    All,
    /// All, but something may still be read.
    Doubtful,
    /// Those of another size than this.
    OtherSize(u64),
    /// Those that do not say just this.
    OtherClaim([u8; 32]),
}

/// Counts of a few things, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Index {
    /// Begins the notes of a check.
    ///
    /// # Errors
    ///
    /// [`Error`] if there is no room for temporary tables.
    pub fn survey(&self) -> Result<Survey> {
        let db = connect(self.path(), true).map_err(|e| self.error(e))?;
        db.execute_batch(TABLES).map_err(|e| self.error(e))?;
        Ok(Survey { db, path: self.path().to_owned() })
    }

    /// Remembers that a pack was found whole at `at`, in seconds since 1970. Unless the
    /// log condemns it, backups may build on it again.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be written.
    pub fn set_verified(&self, pack: &PackId, at: i64) -> Result<()> {
        self.write(|db| {
            db.prepare_cached(
                "UPDATE pack SET doomed = 0 WHERE id = ?1 AND doomed
                     AND NOT EXISTS (SELECT 1 FROM fate WHERE fate.pack = pack.id)",
            )?
            .execute([pack.0])?;
            db.prepare_cached("INSERT OR REPLACE INTO verified VALUES (?1, ?2)")?
                .execute((pack.0.as_slice(), at))
                .map(|_| ())
        })
    }

    /// Has backups of this machine build on a pack no longer: it is damaged or gone. When
    /// it was found whole is forgotten.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be written.
    pub fn distrust_pack(&self, pack: &PackId) -> Result<()> {
        self.write(|db| {
            db.prepare_cached("UPDATE pack SET doomed = 1 WHERE id = ?1 AND NOT doomed")?
                .execute([pack.0])?;
            db.prepare_cached("DELETE FROM verified WHERE pack = ?1")?.execute([pack.0]).map(|_| ())
        })
    }
}

impl Survey {
    fn run<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        work(&self.db).map_err(|source| Error::Sqlite { path: self.path.clone(), source })
    }

    fn execute(&self, sql: &str, values: impl Params) -> Result<usize> {
        self.run(|db| db.prepare_cached(sql)?.execute(values))
    }

    fn all<T>(
        &self,
        sql: &str,
        values: impl Params,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.run(|db| db.prepare_cached(sql)?.query_map(values, row)?.collect())
    }

    fn one<T>(
        &self,
        sql: &str,
        values: impl Params,
        row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        self.run(|db| optional(db.prepare_cached(sql)?.query_row(values, row)))
    }

    /// Notes a pack that the store has.
    ///
    /// # Errors
    ///
    /// [`Error`] if the survey fails, as for all that follows.
    pub fn list_pack(&self, id: &PackId, size: u64) -> Result<()> {
        self.execute("INSERT OR REPLACE INTO listed VALUES (?1, ?2)", (id.0, signed(size)))?;
        Ok(())
    }

    /// Notes a record that the store has. Returns whether the index had read it before
    /// the check began.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn list_record(&self, id: &RecordId) -> Result<bool> {
        self.execute("INSERT OR IGNORE INTO listed_record VALUES (?1)", [id.0])?;
        let sql = "SELECT 1 FROM known_record WHERE id = ?1";
        Ok(self.one(sql, [id.0], |_| Ok(()))?.is_some())
    }

    /// Takes back that the store has a record.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn unlist_record(&self, id: &RecordId) -> Result<()> {
        self.execute("DELETE FROM listed_record WHERE id = ?1", [id.0])?;
        Ok(())
    }

    /// Records that the index had read before the check began, and that the store does
    /// not list, although no checkpoint stands for them; with their receipts.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn missing_records(&self) -> Result<Vec<(RecordId, i64)>> {
        self.all(
            "SELECT known_record.id, receipt FROM known_record JOIN record USING (id)
             WHERE NOT covered AND known_record.id NOT IN (SELECT id FROM listed_record)
             ORDER BY known_record.id",
            [],
            |row| Ok((RecordId(row.get(0)?), row.get(1)?)),
        )
    }

    /// The dense number of the newest claim of a pack.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn newest_claim(&self) -> Result<i64> {
        let sql = "SELECT coalesce(max(number), 0) FROM pack";
        Ok(self.one(sql, [], |row| row.get(0))?.unwrap_or(0))
    }

    /// The next claimed packs in the order of their ids, at most a thousand. Claims
    /// that are newer than `upto` are not looked at.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn claimed_packs(&self, after: Option<PackId>, upto: i64) -> Result<Vec<ClaimedPack>> {
        let after = after.map_or_else(Vec::new, |id| id.0.to_vec());
        self.all(
            "SELECT pack.id, max(pack.size), listed.size, max(pack.size IS listed.size),
                 min(pack.size) = max(pack.size),
                 EXISTS (SELECT 1 FROM claimant JOIN pack AS own ON own.number = claimant.pack
                         WHERE own.id = pack.id AND trusted),
                 EXISTS (SELECT 1 FROM fate WHERE fate.pack = pack.id AND deleted IS NOT NULL)
             FROM pack LEFT JOIN listed ON listed.id = pack.id
             WHERE pack.id > ?1 AND pack.number <= ?2
             GROUP BY pack.id ORDER BY pack.id LIMIT 1000",
            (after, upto),
            |row| {
                Ok(ClaimedPack {
                    id: PackId(row.get(0)?),
                    claimed: row.get::<_, i64>(1)?.cast_unsigned(),
                    listed: row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned),
                    fits: row.get(3)?,
                    agreed: row.get(4)?,
                    trusted: row.get(5)?,
                    deleted: row.get(6)?,
                })
            },
        )
    }

    /// The next packs that are claimed, not said to be deleted, and not noted as there;
    /// otherwise as [`Survey::claimed_packs`].
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn unlisted_packs(&self, after: Option<PackId>, upto: i64) -> Result<Vec<PackId>> {
        let after = after.map_or_else(Vec::new, |id| id.0.to_vec());
        self.all(
            "SELECT DISTINCT id FROM pack
             WHERE id > ?1 AND number <= ?2 AND id NOT IN (SELECT id FROM listed)
                 AND NOT EXISTS
                     (SELECT 1 FROM fate WHERE fate.pack = pack.id AND deleted IS NOT NULL)
             ORDER BY id LIMIT 1000",
            (after, upto),
            |row| row.get(0).map(PackId),
        )
    }

    /// What the store has and nobody claims.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn orphans(&self) -> Result<Amount> {
        self.amount("listed WHERE NOT EXISTS (SELECT 1 FROM pack WHERE pack.id = listed.id)")
    }

    fn amount(&self, table: &str) -> Result<Amount> {
        let sql = format!("SELECT count(*), coalesce(sum(size), 0) FROM {table}");
        let row = |row: &Row<'_>| Ok(Amount { count: row.get(0)?, bytes: row.get(1)? });
        Ok(self.one(&sql, [], row)?.unwrap_or_default())
    }

    /// Has a pack read whole.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn want_pack(&self, id: &PackId, size: u64) -> Result<()> {
        self.execute("INSERT OR IGNORE INTO reading VALUES (?1, ?2)", (id.0, signed(size)))?;
        Ok(())
    }

    /// The packs that are to be read.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn wanted(&self) -> Result<Amount> {
        self.amount("reading")
    }

    /// Of the packs that are to be read, leaves out those that were found whole after
    /// `since`, but not after `now`, and keeps at most `most`: those for which that is
    /// longest ago, and any of those for which it is equally long. Returns what is
    /// left, and how many were found whole lately.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn choose_packs(
        &self,
        since: Option<i64>,
        now: i64,
        most: Option<u64>,
    ) -> Result<(Amount, u64)> {
        let mut lately = 0;
        if let Some(since) = since {
            lately = self.execute(
                "DELETE FROM reading
                 WHERE id IN (SELECT pack FROM verified WHERE at > ?1 AND at <= ?2)",
                (since, now),
            )?;
        }
        if let Some(most) = most {
            self.execute(
                "DELETE FROM reading WHERE id NOT IN
                     (SELECT id FROM reading LEFT JOIN verified ON pack = id
                      ORDER BY at NULLS FIRST, random() LIMIT ?1)",
                [signed(most)],
            )?;
        }
        Ok((self.wanted()?, lately as u64))
    }

    /// The next packs that are to be read, in the order of their ids.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn wanted_packs(&self, after: Option<PackId>, most: u32) -> Result<Vec<(PackId, u64)>> {
        let after = after.map_or_else(Vec::new, |id| id.0.to_vec());
        self.all(
            "SELECT id, size FROM reading WHERE id > ?1 ORDER BY id LIMIT ?2",
            (after, most),
            |row| Ok((PackId(row.get(0)?), row.get::<_, i64>(1)?.cast_unsigned())),
        )
    }

    /// Notes that something is wrong with an object: for certain, or only if something
    /// that is needed is lost by it. What was noted first stands. Returns its number.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn blame(&self, name: &str, why: &str, certain: bool) -> Result<i64> {
        let sql = "INSERT INTO object (name, why, certain) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET certain = max(certain, excluded.certain)
             RETURNING number";
        self.run(|db| db.prepare_cached(sql)?.query_row((name, why, certain), |row| row.get(0)))
    }

    /// Notes that claims of a pack are of no use, because of an object.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn spoil(&self, pack: &PackId, which: Spoiled, object: i64) -> Result<()> {
        let insert = "INSERT OR IGNORE INTO bad SELECT number, ?2, ?3 FROM pack WHERE id = ?1";
        let doubt = which == Spoiled::Doubtful;
        match which {
            Spoiled::All | Spoiled::Doubtful => self.execute(insert, (pack.0, object, doubt))?,
            Spoiled::OtherSize(size) => self.execute(
                &format!("{insert} AND size <> ?4"),
                (pack.0, object, doubt, signed(size)),
            )?,
            Spoiled::OtherClaim(claim) => {
                self.execute(&format!("{insert} AND claim <> ?4"), (pack.0, object, doubt, claim))?
            }
        };
        Ok(())
    }

    /// Whether anything else than this is claimed of a pack.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn has_other_claim(&self, pack: &PackId, claim: &[u8; 32]) -> Result<bool> {
        let sql = "SELECT 1 FROM pack WHERE id = ?1 AND claim <> ?2";
        Ok(self.one(sql, (pack.0, claim), |_| Ok(()))?.is_some())
    }
}

/// Any number as SQLite can hold it; `cast_unsigned` is the way back.
fn signed(number: u64) -> i64 {
    number.cast_signed()
}
