//! What this machine's backups saw of their sources.
//!
//! A backup keeps, for every directory, its entries as they were stored and the
//! inode numbers behind them. The next one compares each entry with the file's
//! `stat` and neither opens nor reads what is as it was. A machine that can only
//! write could not learn this from the store.
//!
//! A scan has a number, its generation. Its rows stand beside those of the scan
//! before until its snapshot is published; [`Index::adopt_scan`] then makes it the
//! one to compare with, all at once. A scan that never comes so far has changed
//! nothing: rows of it would speak of chunks that no record published.
//!
//! Of directories that are as they were nothing is written: their rows have numbers, and
//! those that a scan has met again stay. The numbers of one scan follow each other, and the
//! next goes the same way, so a set of them is a few runs.

use rusqlite::Connection;

use super::{Index, Result, bad_column, optional};
use crate::base::{Ranges, SnapshotId};

/// Rows that are looked at in one go.
const ROWS_AT_A_TIME: usize = 4096;

/// The scan of a source that was published last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanSource {
    /// The snapshot that it led to.
    pub snapshot: SnapshotId,
    /// When the store received that snapshot. Seconds since 1970.
    pub evidence: i64,
    /// The scan's number.
    pub generation: i64,
    /// What was scanned, encoded by the caller.
    pub roots: Vec<u8>,
}

/// A part of a directory, as it was scanned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedDir {
    /// The source's path of the directory, as bytes.
    pub path: Vec<u8>,
    /// Which leaf of the directory, from 0.
    pub part: u32,
    /// What the caller keeps of it.
    pub body: Vec<u8>,
}

impl Index {
    /// The scan of `source` that was published last.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn scan_source(&self, source: &str) -> Result<Option<ScanSource>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT snapshot, evidence, generation, roots FROM scan_source WHERE source = ?1",
            )?;
            optional(statement.query_row([source], |row| {
                let id: Vec<u8> = row.get(0)?;
                Ok(ScanSource {
                    snapshot: SnapshotId::from_slice(&id)
                        .ok_or_else(|| bad_column("snapshot id"))?,
                    evidence: row.get(1)?,
                    generation: row.get(2)?,
                    roots: row.get(3)?,
                })
            }))
        })
    }

    /// A number for a scan that begins, larger than any given before; in another making
    /// of the index another one, so that no row of before is taken for one of now.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be written.
    pub fn begin_scan(&self) -> Result<i64> {
        self.write(|db| {
            db.execute(
                "INSERT INTO meta VALUES ('generation', abs(random() % 4503599627370496))
                 ON CONFLICT (key) DO UPDATE SET value = value + 1",
                [],
            )?;
            db.query_row("SELECT value FROM meta WHERE key = 'generation'", [], |row| row.get(0))
        })
    }

    /// The first so many parts of a directory from `part` on, as the scan numbered
    /// `generation` saw it, each with the number of its row. None if another scan was
    /// adopted since.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be read.
    pub fn scanned_dir(
        &self,
        source: &str,
        generation: i64,
        path: &[u8],
        part: u32,
        count: u32,
    ) -> Result<Vec<(u64, Vec<u8>)>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT number, body FROM scan_dir
                 WHERE source = ?1 AND path = ?2 AND part >= ?3 AND part < ?4 AND generation = 0
                     AND EXISTS (SELECT 1 FROM scan_source WHERE source = ?1 AND generation = ?5)
                 ORDER BY part",
            )?;
            let end = part.saturating_add(count);
            let rows = statement.query_map((source, path, part, end, generation), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            rows.collect()
        })
    }

    /// Keeps what a scan that is not adopted yet saw of directories that are not as they were.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be written.
    pub fn keep_scan(&self, source: &str, generation: i64, dirs: &[ScannedDir]) -> Result<()> {
        self.write(|db| {
            let mut insert = db.prepare_cached(
                "INSERT OR REPLACE INTO scan_dir (source, path, part, generation, body)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for dir in dirs {
                insert.execute((source, &dir.path, dir.part, generation, &dir.body))?;
            }
            Ok(())
        })
    }

    /// Makes a scan the one that the next backup compares with. `before` is the
    /// generation that it was itself compared with, and `met` the rows of that which it met
    /// again. If another scan was adopted meanwhile, its rows are not those, and none stays.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be written.
    pub fn adopt_scan(
        &self,
        source: &str,
        scan: &ScanSource,
        before: Option<i64>,
        met: &Ranges,
    ) -> Result<()> {
        self.write(|db| {
            let current: Option<i64> = optional(db.query_row(
                "SELECT generation FROM scan_source WHERE source = ?1",
                [source],
                |row| row.get(0),
            ))?;
            if current.is_some() && current == before {
                drop_unmet(db, source, met)?;
            } else {
                db.execute("DELETE FROM scan_dir WHERE source = ?1 AND generation = 0", [source])?;
            }
            db.execute(
                "UPDATE OR REPLACE scan_dir SET generation = 0
                 WHERE source = ?1 AND generation = ?2",
                (source, scan.generation),
            )?;
            db.execute(
                "DELETE FROM scan_dir WHERE source = ?1 AND generation > 0 AND generation < ?2",
                (source, scan.generation),
            )?;
            db.execute(
                "INSERT OR REPLACE INTO scan_source VALUES (?1, ?2, ?3, ?4, ?5)",
                (source, scan.snapshot.0.as_slice(), scan.evidence, scan.generation, &scan.roots),
            )
            .map(|_| ())
        })
    }
}

/// Deletes the adopted rows of a source that were not met, some at a time.
fn drop_unmet(db: &Connection, source: &str, met: &Ranges) -> rusqlite::Result<()> {
    let mut rows = db.prepare_cached(
        "SELECT number, path, part FROM scan_dir
         WHERE source = ?1 AND generation = 0 AND (path, part) > (?2, ?3)
         ORDER BY path, part LIMIT ?4",
    )?;
    let mut delete = db.prepare_cached("DELETE FROM scan_dir WHERE number = ?1")?;
    let mut after: (Vec<u8>, i64) = (Vec::new(), -1);
    loop {
        let page = rows.query_map((source, &after.0, after.1, ROWS_AT_A_TIME), |row| {
            Ok((row.get::<_, u64>(0)?, (row.get(1)?, row.get(2)?)))
        })?;
        let page = page.collect::<rusqlite::Result<Vec<_>>>()?;
        for (number, _) in page.iter().filter(|(number, _)| !met.has(*number, number + 1)) {
            delete.execute([number])?;
        }
        match page.into_iter().next_back() {
            Some((_, last)) => after = last,
            None => return Ok(()),
        }
    }
}
