//! Every version of everything that was in a source, for searches over all of history.
//!
//! The snapshots of a source have numbers here, in the order of their times, and a version
//! says from which number to which it was there. One that the newest snapshot shows has no
//! end, so a further snapshot costs a row for each thing that changed. A snapshot that is
//! forgotten leaves a gap in the numbers and nothing else is moved: whoever reads the rows
//! looks up which snapshots a version still has. No number is given twice.
//!
//! What comes into the middle, or takes the newest away, takes the rows behind it along
//! ([`Index::cut_search`]), and they are made anew.

use std::ops::ControlFlow;

use rusqlite::Connection;

use super::{Error, Index, Result, bad_column, optional};
use crate::base::SnapshotId;
use crate::codec::hash::sha256;

/// Rows that are changed in one go.
const ROWS_AT_A_TIME: usize = 4096;

/// What is known of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchSource {
    /// Its number.
    pub number: i64,
    /// The number of the next snapshot that is gone through.
    pub next: i64,
    /// The snapshots that were, in order.
    pub snapshots: Vec<SearchSnapshot>,
}

/// A snapshot whose entries are in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchSnapshot {
    /// Its number, later ones having greater ones.
    pub number: i64,
    /// Which it is.
    pub id: SnapshotId,
    /// The path up to which its changes are in the index; none if all are.
    pub reached: Option<Vec<u8>>,
}

/// What a snapshot has at a path, other than the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchChange {
    /// The path.
    pub path: Vec<u8>,
    /// What is there now, encoded by the caller; nothing if it is gone.
    pub body: Option<Vec<u8>>,
}

/// A version of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchVersion {
    /// The path.
    pub path: Vec<u8>,
    /// The number of the first snapshot that shows it.
    pub first: i64,
    /// That of the last one; none if all later ones do.
    pub last: Option<i64>,
    /// What was there.
    pub body: Vec<u8>,
}

/// What protects a row against a database that was altered.
fn checksum(path: &[u8], first: i64, last: Option<i64>, body: &[u8]) -> Vec<u8> {
    let last = last.unwrap_or(-1);
    sha256(&[path, &first.to_be_bytes(), &last.to_be_bytes(), body].concat())[..4].to_vec()
}

impl Index {
    /// What is known of a source. Only its last snapshot can be unfinished.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be read.
    pub fn search_source(&self, source: &str) -> Result<SearchSource> {
        let sql = "SELECT number FROM search_source WHERE name = ?1";
        let known = self
            .read(|db| optional(db.prepare_cached(sql)?.query_row([source], |row| row.get(0))))?;
        let number: i64 = match known {
            Some(number) => number,
            None => self.write(|db| {
                db.query_row(
                    "INSERT INTO search_source (name) VALUES (?1)
                     ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING number",
                    [source],
                    |row| row.get(0),
                )
            })?,
        };
        self.read(|db| {
            let transaction = db.unchecked_transaction()?;
            let next = db
                .prepare_cached("SELECT next FROM search_source WHERE number = ?1")?
                .query_row([number], |row| row.get(0))?;
            let mut statement = db.prepare_cached(
                "SELECT number, snapshot, reached FROM search_snapshot WHERE source = ?1
                 ORDER BY number",
            )?;
            let rows = statement.query_map([number], |row| {
                let id: Vec<u8> = row.get(1)?;
                let id = SnapshotId::from_slice(&id).ok_or_else(|| bad_column("snapshot id"))?;
                Ok(SearchSnapshot { number: row.get(0)?, id, reached: row.get(2)? })
            })?;
            let snapshots = rows.collect::<rusqlite::Result<_>>()?;
            drop(statement);
            transaction.commit()?;
            Ok(SearchSource { number, next, snapshots })
        })
    }

    /// Notes changes of a snapshot beside the one `above` it, and the path up to which they are
    /// all noted, if there are more. `before` is what was kept last of it, if anything. False,
    /// and nothing is noted, if somebody else has gone on meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be written.
    pub fn keep_search(
        &self,
        source: i64,
        above: Option<&SnapshotId>,
        before: Option<&SearchSnapshot>,
        now: &SearchSnapshot,
        changes: &[SearchChange],
    ) -> Result<bool> {
        self.write(|db| {
            let there: Option<(Vec<u8>, Option<Vec<u8>>)> = optional(
                db.prepare_cached(
                    "SELECT snapshot, reached FROM search_snapshot
                     WHERE source = ?1 AND number >= ?2 ORDER BY number DESC",
                )?
                .query_row((source, now.number), |row| Ok((row.get(0)?, row.get(1)?))),
            )?;
            let last: Option<Vec<u8>> = optional(
                db.prepare_cached(
                    "SELECT snapshot FROM search_snapshot
                     WHERE source = ?1 AND number < ?2 ORDER BY number DESC",
                )?
                .query_row((source, now.number), |row| row.get(0)),
            )?;
            let next: i64 = db
                .prepare_cached("SELECT next FROM search_source WHERE number = ?1")?
                .query_row([source], |row| row.get(0))?;
            let expected = before.map(|before| (before.id.0.to_vec(), before.reached.clone()));
            let is_new = before.is_none();
            if there != expected
                || last != above.map(|above| above.0.to_vec())
                || is_new && next != now.number
            {
                return Ok(false);
            }
            for change in changes {
                end_version(db, source, &change.path, now.number)?;
                let Some(body) = &change.body else { continue };
                let sum = checksum(&change.path, now.number, None, body);
                db.prepare_cached(
                    "INSERT OR REPLACE INTO search_version VALUES (?1, ?2, ?3, NULL, ?4, ?5)",
                )?
                .execute((source, &change.path, now.number, body, sum))?;
            }
            if is_new {
                db.prepare_cached("UPDATE search_source SET next = ?2 WHERE number = ?1")?
                    .execute((source, now.number + 1))?;
            }
            db.prepare_cached("INSERT OR REPLACE INTO search_snapshot VALUES (?1, ?2, ?3, ?4)")?
                .execute((source, now.number, now.id.0.as_slice(), &now.reached))?;
            Ok(true)
        })
    }

    /// Takes snapshots out that are not there any more, and versions that no other one has.
    /// Goes through all rows of the source.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be written.
    pub fn drop_search(&self, source: i64, gone: &[i64]) -> Result<()> {
        self.write(|db| {
            for number in gone {
                db.prepare_cached("DELETE FROM search_snapshot WHERE source = ?1 AND number = ?2")?
                    .execute((source, number))?;
            }
            db.execute(
                "DELETE FROM search_version WHERE source = ?1 AND NOT EXISTS
                     (SELECT 1 FROM search_snapshot AS s WHERE s.source = ?1
                      AND s.number >= first AND s.number <= coalesce(last, s.number))",
                [source],
            )
            .map(|_| ())
        })
    }

    /// Forgets everything behind a number, as if those snapshots had never been gone through;
    /// everything if there is none. Goes through all rows of the source.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be written.
    pub fn cut_search(&self, source: i64, behind: Option<i64>) -> Result<()> {
        let behind = behind.unwrap_or(i64::MIN);
        self.write(|db| {
            for sql in [
                "DELETE FROM search_snapshot WHERE source = ?1 AND number > ?2",
                "DELETE FROM search_version WHERE source = ?1 AND first > ?2",
            ] {
                db.execute(sql, (source, behind))?;
            }
            reopen_versions(db, source, behind)
        })
    }

    /// Shows the versions of a source until `show` breaks: in byte order of the paths, then as
    /// they followed each other; those of paths that begin like one that `below` is, in bytes.
    /// `numbers` are those of the snapshots that it is expected to have. False, and nothing
    /// is shown, if it has others by now; what is shown is of one moment.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if a row is not what was written.
    pub fn search(
        &self,
        source: i64,
        numbers: &[i64],
        below: &[u8],
        show: &mut dyn FnMut(SearchVersion) -> ControlFlow<()>,
    ) -> Result<bool> {
        let mut altered = false;
        let expected = self.read(|db| {
            let transaction = db.unchecked_transaction()?;
            let sql = "SELECT number FROM search_snapshot WHERE source = ?1 ORDER BY number";
            let mut statement = db.prepare_cached(sql)?;
            let rows = statement.query_map([source], |row| row.get(0))?;
            if rows.collect::<rusqlite::Result<Vec<i64>>>()? != numbers {
                return Ok(false);
            }
            let mut statement = db.prepare_cached(
                "SELECT path, first, last, body, checksum FROM search_version
                 WHERE source = ?1 AND path >= ?2 AND (?3 IS NULL OR path < ?3)
                 ORDER BY path, first",
            )?;
            // Behind everything that begins with the path and a slash.
            let end = (!below.is_empty()).then(|| [below, b"0"].concat());
            let mut rows = statement.query((source, below, end))?;
            while let Some(row) = rows.next()? {
                let [path, body]: [Vec<u8>; 2] = [row.get(0)?, row.get(3)?];
                let (first, last) = (row.get(1)?, row.get(2)?);
                let sum = checksum(&path, first, last, &body);
                altered = row.get_ref(4)?.as_blob()? != sum.as_slice();
                if altered || show(SearchVersion { path, first, last, body }).is_break() {
                    break;
                }
            }
            drop(rows);
            drop(transaction);
            Ok(true)
        })?;
        if altered {
            return Err(Error::Corrupt {
                path: self.path.clone(),
                what: "a row of the search is not what was written".into(),
            });
        }
        Ok(expected)
    }
}

/// What was there until a number or a later one has no end any more, some rows at a time.
fn reopen_versions(db: &Connection, source: i64, number: i64) -> rusqlite::Result<()> {
    let mut ended = db.prepare_cached(
        "SELECT path, first, body FROM search_version
         WHERE source = ?1 AND last >= ?2 AND (path, first) > (?3, ?4)
         ORDER BY path, first LIMIT ?5",
    )?;
    let mut reopen = db.prepare_cached(
        "UPDATE search_version SET last = NULL, checksum = ?4
         WHERE source = ?1 AND path = ?2 AND first = ?3",
    )?;
    let mut after: (Vec<u8>, i64) = (Vec::new(), i64::MIN);
    loop {
        let page = ended.query_map((source, number, &after.0, after.1, ROWS_AT_A_TIME), |row| {
            Ok(((row.get(0)?, row.get(1)?), row.get::<_, Vec<u8>>(2)?))
        })?;
        let page = page.collect::<rusqlite::Result<Vec<((Vec<u8>, i64), _)>>>()?;
        for ((path, first), body) in &page {
            reopen.execute((source, path, first, checksum(path, *first, None, body)))?;
        }
        match page.into_iter().next_back() {
            Some((last, _)) => after = last,
            None => return Ok(()),
        }
    }
}

/// The version of a path that is there before a snapshot, if there is one, was there until
/// the one before it.
fn end_version(db: &Connection, source: i64, path: &[u8], number: i64) -> rusqlite::Result<()> {
    let open: Option<(i64, Vec<u8>)> = optional(
        db.prepare_cached(
            "SELECT first, body FROM search_version
             WHERE source = ?1 AND path = ?2 AND first < ?3 AND last IS NULL",
        )?
        .query_row((source, path, number), |row| Ok((row.get(0)?, row.get(1)?))),
    )?;
    if let Some((first, body)) = open {
        let last = number - 1;
        db.prepare_cached(
            "UPDATE search_version SET last = ?4, checksum = ?5
             WHERE source = ?1 AND path = ?2 AND first = ?3",
        )?
        .execute((source, path, first, last, checksum(path, first, Some(last), &body)))?;
    }
    Ok(())
}
