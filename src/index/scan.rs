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

use super::{Index, Result, bad_column, optional};
use crate::base::SnapshotId;

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

    /// A part of a directory, as the scan numbered `generation` saw it.
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
    ) -> Result<Option<Vec<u8>>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT body FROM scan_dir
                 WHERE source = ?1 AND path = ?2 AND part = ?3 AND generation = ?4",
            )?;
            optional(statement.query_row((source, path, part, generation), |row| row.get(0)))
        })
    }

    /// Keeps what a scan that is not adopted yet saw: directories that are not as
    /// they were, and the paths of those that are.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be written.
    pub fn keep_scan(
        &self,
        source: &str,
        generation: i64,
        dirs: &[ScannedDir],
        unchanged: &[Vec<u8>],
    ) -> Result<()> {
        self.write(|db| {
            let mut insert =
                db.prepare_cached("INSERT OR REPLACE INTO scan_dir VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for dir in dirs {
                insert.execute((source, &dir.path, dir.part, generation, &dir.body))?;
            }
            let mut seen =
                db.prepare_cached("INSERT OR IGNORE INTO scan_seen VALUES (?1, ?2, ?3)")?;
            for path in unchanged {
                seen.execute((source, generation, path))?;
            }
            Ok(())
        })
    }

    /// Makes a scan the one that the next backup compares with. `before` is the
    /// generation that it was itself compared with.
    ///
    /// # Errors
    ///
    /// [`super::Error`] if the index cannot be written.
    pub fn adopt_scan(&self, source: &str, scan: &ScanSource, before: Option<i64>) -> Result<()> {
        self.write(|db| {
            db.execute(
                "UPDATE OR REPLACE scan_dir SET generation = ?2
                 WHERE source = ?1 AND generation = ?3
                   AND path IN
                       (SELECT path FROM scan_seen WHERE source = ?1 AND generation = ?2)",
                (source, scan.generation, before),
            )?;
            db.execute(
                "DELETE FROM scan_dir WHERE source = ?1 AND generation < ?2",
                (source, scan.generation),
            )?;
            db.execute(
                "DELETE FROM scan_seen WHERE source = ?1 AND generation <= ?2",
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
