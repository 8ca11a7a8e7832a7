//! Connections to the database file.
//!
//! A connection costs a third of a millisecond, most of it for reading the schema, which is
//! much of what a command takes that asks little. So there is one for all as long as one
//! thread asks after the other: who writes takes the connection that read, and the other way
//! round. Threads that ask side by side have one each, and a writer never waits for who reads.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::lock;
use crate::base::Stop;
use crate::base::pause::{SLICE, pause};

/// The most idle connections that are kept, and one more that has written.
const IDLE_MAX: usize = 8;

/// What a connection keeps of the file. KiB.
const CACHE_KIB: i64 = 2 << 10;
/// Who writes has the pages at hand that a batch of records changes all over the index. KiB.
const WRITER_CACHE_KIB: i64 = 8 << 10;

/// Connections that nobody uses.
#[derive(Default)]
pub(super) struct Idle(Mutex<Connections>);

#[derive(Default)]
struct Connections {
    /// The one that has written.
    writer: Option<Connection>,
    others: Vec<Connection>,
}

/// A connection that somebody uses.
pub(super) struct Borrowed {
    pub(super) connection: Connection,
    /// It has a writer's cache.
    writes: bool,
}

impl Idle {
    /// One for who reads; none if all are in use.
    pub(super) fn reader(&self) -> Option<Borrowed> {
        let mut idle = lock(&self.0);
        match idle.others.pop() {
            Some(connection) => Some(Borrowed::new(connection)),
            None => idle.writer.take().map(|connection| Borrowed { connection, writes: true }),
        }
    }

    /// One for who writes; none if all are in use. Only one at a time is asked for.
    pub(super) fn writer(&self) -> Option<Borrowed> {
        let mut idle = lock(&self.0);
        match idle.writer.take() {
            Some(connection) => Some(Borrowed { connection, writes: true }),
            None => idle.others.pop().map(Borrowed::new),
        }
    }

    /// Keeps one for the next.
    pub(super) fn give_back(&self, borrowed: Borrowed) {
        let mut idle = lock(&self.0);
        if borrowed.writes && idle.writer.is_none() {
            idle.writer = Some(borrowed.connection);
        } else if idle.others.len() < IDLE_MAX && (!borrowed.writes || borrowed.is_made_small()) {
            idle.others.push(borrowed.connection);
        }
    }
}

impl Borrowed {
    pub(super) fn new(connection: Connection) -> Borrowed {
        Borrowed { connection, writes: false }
    }

    /// Gives it the cache of who writes, if it has not.
    pub(super) fn make_large(&mut self) -> rusqlite::Result<()> {
        if !self.writes {
            self.connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
            self.writes = true;
        }
        Ok(())
    }

    fn is_made_small(&self) -> bool {
        self.connection.pragma_update(None, "cache_size", -CACHE_KIB).is_ok()
    }
}

/// A new connection to a database file, which is made if it is not `existing`.
pub(super) fn connect(path: &Path, existing: bool) -> rusqlite::Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if !existing {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(60))?;
    // Losing the last transactions in a power cut costs a sync, never correctness.
    set_journal_mode(&connection)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Else SQLite plans a statement anew whenever a parameter is bound, in case the plan
    // should depend on its value: that took most of the time of every look-up.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

/// Turns write-ahead logging on. While another process does the same to a new file,
/// SQLite reports that it is busy at once, whatever its time-out.
fn set_journal_mode(connection: &Connection) -> rusqlite::Result<()> {
    const TRIES: usize = 500;
    let mut tries = 0;
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && tries < TRIES
                    && pause(SLICE, &Stop::new()) =>
            {
                tries += 1;
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caches(idle: &Idle) -> Vec<i64> {
        let connections = lock(&idle.0);
        let cache = |c: &Connection| c.pragma_query_value(None, "cache_size", |row| row.get(0));
        let all = connections.writer.iter().chain(&connections.others);
        all.map(|connection| cache(connection).unwrap()).collect()
    }

    /// Who asks one after the other has one connection, whatever for; and who has written
    /// beside another writer keeps no large cache.
    #[test]
    fn one_is_enough_for_one_and_one_alone_is_large() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let idle = Idle::default();
        idle.give_back(Borrowed::new(connect(&path, false).unwrap()));
        for _ in 0..2 {
            idle.give_back(idle.reader().unwrap());
            let mut writer = idle.writer().unwrap();
            assert!(idle.reader().is_none() && idle.writer().is_none());
            writer.make_large().unwrap();
            idle.give_back(writer);
            assert_eq!(caches(&idle), [-WRITER_CACHE_KIB]);
        }
        let reads = idle.reader().unwrap();
        let mut writes = Borrowed::new(connect(&path, true).unwrap());
        writes.make_large().unwrap();
        idle.give_back(writes);
        idle.give_back(reads);
        assert_eq!(caches(&idle), [-WRITER_CACHE_KIB, -CACHE_KIB]);
    }

    #[test]
    fn only_some_are_kept() {
        let idle = Idle::default();
        for _ in 0..=IDLE_MAX {
            idle.give_back(Borrowed::new(Connection::open_in_memory().unwrap()));
        }
        assert_eq!(lock(&idle.0).others.len(), IDLE_MAX);
    }
}
