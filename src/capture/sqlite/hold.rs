//! The connections: what is held of the log, and by what locks.
//!
//! A reader of SQLite takes one of five slots. On slot 1 to 4 it reads the log up to its
//! mark, so the log cannot begin again. On slot 0, which it gets when the whole log is in
//! the database file, it reads that file only, so nothing can be copied into it; then
//! the log can begin again once, and not twice, because the second time everything in
//! it would have to be copied first. Either way nothing that was written after a reader
//! began can vanish while it is there, and a follower that always holds one, and lets
//! the old one go only when it has read all that was committed before the new one began,
//! misses nothing. This needs no timing and no luck.
//!
//! But the reader keeps the log from beginning again, and so it grows. For that the
//! follower has to stop writers for a moment: the *gate* is a connection that takes the
//! lock of writers, writes nothing and rolls back.
//!
//! - All three have `wal_autocheckpoint=0`, and copy from the log only when told to.
//! - All have `NO_CKPT_ON_CLOSE`: the last connection to a database empties and deletes
//!   its log, and then nobody could say whether the chain goes on.
//! - `synchronous` stays what it is. To copy without a sync would risk the database of
//!   somebody else in a power cut.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::error::{Error, Result};
use crate::base::{Stop, pause};

/// How long a reader waits for a lock that others hold for moments: recovery.
const READER_WAIT: Duration = Duration::from_secs(2);

/// How often the lock of writers is asked for before giving up, and how long between.
/// Asking in vain disturbs nobody.
const GATE_TRIES: u32 = 100;
const GATE_PAUSE: Duration = Duration::from_micros(200);

/// Two connections to read with, one in a transaction and one free.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    connections: [Connection; 2],
    held: usize,
}

impl Readers {
    /// Connects and begins to read.
    pub(super) fn open(path: &Path, wait: Duration) -> Result<Readers> {
        let connections = [connect(path, wait)?, connect(path, wait)?];
        begin(&connections[0]).map_err(Error::sqlite(path, "read"))?;
        Ok(Readers { path: path.to_owned(), connections, held: 0 })
    }

    fn held(&self) -> &Connection {
        &self.connections[self.held]
    }

    fn free(&self) -> &Connection {
        &self.connections[1 - self.held]
    }

    /// See [`Hold::begin_next`].
    pub(super) fn begin_next(&self) -> Result<bool> {
        granted(begin(self.free())).map_err(Error::sqlite(&self.path, "read"))
    }

    fn end_next(&self) -> Result<()> {
        end(self.free()).map_err(Error::sqlite(&self.path, "read"))
    }

    /// See [`Hold::advance`].
    pub(super) fn advance(&mut self) -> Result<()> {
        self.held = 1 - self.held;
        self.end_next()
    }
}

/// The readers and the gate.
#[derive(Debug)]
pub(super) struct Hold {
    path: PathBuf,
    readers: Readers,
    gate: Connection,
}

impl Hold {
    /// Connects and begins to read. Creates the `-wal` and `-shm` if they are missing.
    ///
    /// # Errors
    ///
    /// What SQLite says, with the code of it.
    pub(super) fn open(path: &Path) -> Result<Hold> {
        let readers = Readers::open(path, READER_WAIT)?;
        Ok(Hold { path: path.to_owned(), readers, gate: connect(path, Duration::ZERO)? })
    }

    /// Whether SQLite could open the database for reading only.
    pub(super) fn is_read_only(&self) -> Result<bool> {
        self.gate.is_readonly("main").map_err(Error::sqlite(&self.path, "open"))
    }

    /// The reader that is held.
    pub(super) fn held(&self) -> &Connection {
        self.readers.held()
    }

    /// Begins to read on the free connection as well. False if it is locked at the moment.
    pub(super) fn begin_next(&self) -> Result<bool> {
        self.readers.begin_next()
    }

    /// Reads on the gate for a moment: whoever begins to read makes the wal-index anew if
    /// its writer died over it. Not while the gate is closed; then no writer can have.
    pub(super) fn refresh(&self) -> Result<()> {
        if !self.gate.is_autocommit() {
            return Ok(());
        }
        let run = || begin(&self.gate).and_then(|()| end(&self.gate));
        granted(run()).map(|_| ()).map_err(Error::sqlite(&self.path, "read"))
    }

    /// Keeps the old reader, and lets the one go that [`begin_next`](Hold::begin_next) began.
    pub(super) fn end_next(&self) -> Result<()> {
        self.readers.end_next()
    }

    /// Holds the new reader and lets the old one go.
    pub(super) fn advance(&mut self) -> Result<()> {
        self.readers.advance()
    }

    /// Copies from the log to the database what no reader stands in the way of. Waits for
    /// nobody: false if another does the same. Does nothing if the disk refuses, which the
    /// program whose database it is will find out itself.
    pub(super) fn checkpoint(&self) -> Result<bool> {
        let run = || {
            let mut statement =
                self.readers.free().prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?;
            statement.query_row([], |row| row.get::<_, i64>(0))
        };
        match run() {
            Ok(busy) => Ok(busy == 0),
            Err(error) if is_busy(&error) => Ok(false),
            Err(error) if is_of_disk(&error) => {
                tracing::warn!("cannot checkpoint {}: {error}", self.path.display());
                Ok(true)
            }
            Err(error) => Err(Error::sqlite(&self.path, "checkpoint")(error)),
        }
    }

    /// Closes the gate: no transaction can be written until it is opened. False if a
    /// writer is in it for long.
    pub(super) fn close_gate(&self) -> Result<bool> {
        for _ in 0..GATE_TRIES {
            let run = || self.gate.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(|_| ());
            if granted(run()).map_err(Error::sqlite(&self.path, "lock"))? {
                return Ok(true);
            }
            let _ = pause(GATE_PAUSE, &Stop::new());
        }
        Ok(false)
    }

    /// Opens the gate.
    pub(super) fn open_gate(&self) -> Result<()> {
        self.gate
            .prepare_cached("ROLLBACK")
            .and_then(|mut statement| statement.execute([]))
            .map(|_| ())
            .map_err(Error::sqlite(&self.path, "unlock"))
    }
}

fn connect(path: &Path, wait: Duration) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let run = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(wait)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "cache_size", 16)?;
        Ok(connection)
    };
    run().map_err(Error::sqlite(path, "open"))
}

/// Begins a transaction and takes a slot. Reads the header, not the schema, which may be
/// large and of a kind that this SQLite does not know.
pub(super) fn begin(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN")?.execute([])?;
    let mut statement = connection.prepare_cached("PRAGMA schema_version")?;
    let read = statement.query_row([], |_| Ok(()));
    if read.is_err() {
        let _ = end(connection);
    }
    read
}

fn end(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("COMMIT")?.execute([]).map(|_| ())
}

/// Whether a lock was granted.
fn granted(result: rusqlite::Result<()>) -> rusqlite::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if is_busy(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether others are in the way.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    use ErrorCode::{DatabaseBusy, DatabaseLocked, FileLockingProtocolFailed};
    let code = error.sqlite_error_code();
    matches!(code, Some(DatabaseBusy | DatabaseLocked | FileLockingProtocolFailed))
}

fn is_of_disk(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure))
}
