//! The index: what this machine knows of the repository, in SQLite.
//!
//! It is the fold of all facts of the log, and what this machine's backups saw of
//! their sources. It is a cache. Nothing in it is believed for correctness: a
//! chunk that it finds is checked against its id, and a snapshot's row carries a
//! checksum. Lost, corrupt, of an older schema or of another repository, it is
//! thrown away and rebuilt from the log, and whoever opened it is told.
//!
//! Several processes share it: write-ahead logging lets readers go on while one
//! writes, and every change is one transaction. Several threads share an
//! [`Index`]: each call borrows a connection from a small pool. Memory does not
//! grow with the repository; SQLite's page cache is bounded per connection.

mod chains;
mod collect;
mod compact;
mod connections;
mod fold;
mod packs;
mod scan;
mod schema;
mod search;
mod segments;
mod snapshots;
mod streams;
mod survey;
mod views;

pub use chains::ChainLink;
pub use collect::{ChunkRow, ClaimRow, FateRow, PinRow, RootRow};
pub use compact::{CheckpointRow, RecordRow};
pub use fold::{FoldedPack, FoldedRecord, FoldedSnapshot, Pinned};
pub use packs::{ChunkPlace, Evidence, PackRow, SeenRecord};
pub use scan::{ScanSource, ScannedDir};
pub use search::{SearchChange, SearchSnapshot, SearchSource, SearchVersion};
pub use segments::{BaseMoment, BaseRow, FoldedSegment, SegmentRow, SegmentSpan, stream_name};
pub use snapshots::{SnapshotMoment, SnapshotRow};
pub use survey::{
    Amount, ClaimedChunk, ClaimedPack, DamageRow, NodeSums, SegmentLoss, Spoiled, Survey,
};

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rusqlite::Connection;

use crate::base::{Kind, RepositoryId, UnixTime};
use crate::codec::random;
use connections::{Borrowed, Idle, connect};

/// A call to the index that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite reported an error.
    #[error("the index {path} failed")]
    Sqlite {
        /// The index's file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Its directory or file cannot be made, read or removed.
    #[error("cannot use {path} for the index")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A row does not say what it was written to say.
    #[error("the index {path} is corrupt: {what}")]
    Corrupt {
        /// The index's file.
        path: PathBuf,
        /// Which row.
        what: String,
    },
    /// It belongs to another repository.
    #[error("the index {path} belongs to another repository")]
    OtherRepository {
        /// The index's file.
        path: PathBuf,
    },
}

impl Error {
    /// What the failure means. [`Kind::Damaged`]: the index must be rebuilt.
    #[must_use]
    pub fn kind(&self) -> Kind {
        use rusqlite::ErrorCode as C;
        match self {
            Error::Corrupt { .. } | Error::OtherRepository { .. } => Kind::Damaged,
            Error::File { source, .. } => Kind::of_io(source),
            Error::Sqlite { source, .. } => match source.sqlite_error_code() {
                Some(C::DatabaseCorrupt | C::NotADatabase | C::SchemaChanged) => Kind::Damaged,
                Some(C::DiskFull) => Kind::Full,
                // The file that readers and writers share could not be made longer.
                Some(C::SystemIoFailure) if is_no_room(source) => Kind::Full,
                Some(C::DatabaseBusy | C::DatabaseLocked) => Kind::Unavailable,
                Some(C::PermissionDenied | C::ReadOnly | C::AuthorizationForStatementDenied) => {
                    Kind::Denied
                }
                // No such table or column: the schema is not what its version says.
                Some(C::Unknown) | None => Kind::Damaged,
                Some(_) => Kind::Io,
            },
        }
    }
}

fn is_no_room(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}

/// What the index returns.
pub type Result<T> = std::result::Result<T, Error>;

/// The index of one repository on this machine.
pub struct Index {
    path: PathBuf,
    repository: RepositoryId,
    open: RwLock<Arc<Open>>,
}

/// The connections to one database file.
struct Open {
    identity: (u64, u64),
    /// A random number that the file was given when it was made: dense numbers are
    /// those of one file only.
    epoch: u64,
    idle: Idle,
    /// Held by who writes.
    writing: Mutex<()>,
}

/// An index and what had to be done to open it.
pub struct Opened {
    /// The index.
    pub index: Index,
    /// Why it is empty and must be filled from the log, if it is: for people.
    pub rebuilt: Option<String>,
}

impl Index {
    /// Opens the index of `repository` in `dir`, making both when they are missing.
    ///
    /// One that is corrupt, of another schema or of another repository is thrown
    /// away and made anew.
    ///
    /// # Errors
    ///
    /// [`Error`] if no index can be kept there.
    pub fn open(dir: &Path, repository: RepositoryId) -> Result<Opened> {
        make_dir(dir)?;
        let path = dir.join("index.sqlite");
        let existed = path.exists();
        let (open, rebuilt) = match Open::new(&path, repository) {
            Ok(open) => (open, (!existed).then(|| "there was none on this machine".to_owned())),
            Err(error) if error.kind() == Kind::Damaged => {
                remove(&path)?;
                (Open::new(&path, repository)?, Some(describe(&error)))
            }
            Err(error) => return Err(error),
        };
        let index = Index { path, repository, open: RwLock::new(Arc::new(open)) };
        Ok(Opened { index, rebuilt })
    }

    /// The file that the index is in.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file that was opened is still the one under its name.
    #[must_use]
    pub fn is_current(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.current().identity)
    }

    /// Which making of the index the dense numbers are of.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.current().epoch
    }

    /// A new connection to the file that is open, not to another of its name.
    fn connect_another(&self, open: &Open) -> Result<Connection> {
        let connection = connect(&self.path, true).map_err(|e| self.error(e))?;
        match epoch_of(&connection) {
            Ok(Some(epoch)) if epoch == open.epoch => Ok(connection),
            Err(error) => Err(self.error(error)),
            Ok(_) => Err(Error::Corrupt {
                path: self.path.clone(),
                what: "another process made it anew".into(),
            }),
        }
    }

    /// Throws the index away and opens an empty one.
    ///
    /// If another process already did so, its new one is opened instead.
    ///
    /// # Errors
    ///
    /// [`Error`] if it cannot be removed or made.
    pub fn reset(&self) -> Result<()> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let mine = std::fs::metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == open.identity);
        if mine {
            remove(&self.path)?;
        }
        if let Some(dir) = self.path.parent() {
            make_dir(dir)?;
        }
        let fresh = match Open::new(&self.path, self.repository) {
            Err(error) if error.kind() == Kind::Damaged => {
                remove(&self.path)?;
                Open::new(&self.path, self.repository)?
            }
            other => other?,
        };
        *open = Arc::new(fresh);
        Ok(())
    }

    /// A remembered value.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be read.
    pub fn meta(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
            optional(statement.query_row([key], |row| row.get(0)))
        })
    }

    /// Remembers a value.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be written.
    pub fn set_meta(&self, key: &str, value: &[u8]) -> Result<()> {
        self.write(|db| set_meta(db, key, value))
    }

    /// Remembers what a listing of the log has shown: these values, and that every pack which
    /// is known and not condemned stood there at `witnessed`; a time before the one that is
    /// known changes nothing. One transaction.
    ///
    /// # Errors
    ///
    /// [`Error`] if the index cannot be written.
    pub fn note_listing(
        &self,
        values: &[(&str, Vec<u8>)],
        witnessed: Option<UnixTime>,
    ) -> Result<()> {
        self.write(|db| {
            values.iter().try_for_each(|(key, value)| set_meta(db, key, value))?;
            witnessed.map_or(Ok(()), |at| packs::witness(db, at.seconds))
        })
    }

    fn current(&self) -> Arc<Open> {
        Arc::clone(&self.open.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn error(&self, source: rusqlite::Error) -> Error {
        Error::Sqlite { path: self.path.clone(), source }
    }

    /// Runs `work` on a connection that reads.
    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let open = self.current();
        let borrowed = match open.idle.reader() {
            Some(borrowed) => borrowed,
            None => Borrowed::new(self.connect_another(&open)?),
        };
        let value = work(&borrowed.connection).map_err(|e| self.error(e))?;
        open.idle.give_back(borrowed);
        Ok(value)
    }

    /// Runs `work` in one transaction.
    fn write<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let open = self.current();
        let _writing = lock(&open.writing);
        let mut borrowed = match open.idle.writer() {
            Some(borrowed) => borrowed,
            None => Borrowed::new(self.connect_another(&open)?),
        };
        let run = || -> rusqlite::Result<T> {
            borrowed.make_large()?;
            let behavior = rusqlite::TransactionBehavior::Immediate;
            let transaction = borrowed.connection.transaction_with_behavior(behavior)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        let value = run().map_err(|e| self.error(e));
        open.idle.give_back(borrowed);
        value
    }
}

impl Open {
    fn new(path: &Path, repository: RepositoryId) -> Result<Open> {
        let sqlite = |source| Error::Sqlite { path: path.to_owned(), source };
        let file = |source| Error::File { path: path.to_owned(), source };
        let mut connection = connect(path, false).map_err(sqlite)?;
        schema::prepare(&mut connection).map_err(sqlite)?;
        let stored: Option<Vec<u8>> = optional(connection.query_row(
            "SELECT value FROM meta WHERE key = 'repository'",
            [],
            |row| row.get(0),
        ))
        .map_err(sqlite)?;
        let mut epoch = epoch_of(&connection).map_err(sqlite)?;
        if stored.as_ref().is_some_and(|stored| *stored != repository.0) {
            return Err(Error::OtherRepository { path: path.to_owned() });
        }
        if stored.is_none() || epoch.is_none() {
            let insert = "INSERT OR IGNORE INTO meta VALUES ('repository', ?1), ('epoch', ?2)";
            let values = (repository.0.as_slice(), i64::from_be_bytes(random::bytes()));
            connection.execute(insert, values).map_err(sqlite)?;
            epoch = epoch_of(&connection).map_err(sqlite)?;
        }
        let found = std::fs::metadata(path).map_err(file)?;
        let idle = Idle::default();
        idle.give_back(Borrowed::new(connection));
        Ok(Open {
            identity: (found.dev(), found.ino()),
            epoch: epoch.unwrap_or_default(),
            idle,
            writing: Mutex::new(()),
        })
    }
}

fn epoch_of(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let epoch: Option<i64> = optional(connection.query_row(
        "SELECT value FROM meta WHERE key = 'epoch'",
        [],
        |row| row.get(0),
    ))?;
    Ok(epoch.map(i64::cast_unsigned))
}

fn make_dir(dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| Error::File { path: dir.to_owned(), source })
}

fn remove(path: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(&name) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::File { path: name.into(), source });
            }
            _ => {}
        }
    }
    Ok(())
}

fn describe(error: &Error) -> String {
    match error {
        Error::Sqlite { source, .. } => format!("it could not be read: {source}"),
        other => other.to_string(),
    }
}

fn set_meta(db: &Connection, key: &str, value: &[u8]) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?;
    statement.execute((key, value)).map(|_| ())
}

/// A row that may be missing.
fn optional<T>(result: rusqlite::Result<T>) -> rusqlite::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An id column that does not hold an id.
fn bad_column(what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, what.into())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
