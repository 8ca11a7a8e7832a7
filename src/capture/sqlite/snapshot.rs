//! A consistent copy of a database that cannot be followed.
//!
//! Made by SQLite's own backup, so it is right for any journal mode and file system that
//! SQLite is right for. It needs a file to copy to: memory is not enough for a large
//! database, and to hand out pages while the source is locked would keep its writers
//! waiting for whatever they are sent to.
//!
//! A few pages are copied at a time and the lock is given up in between. If others write
//! meanwhile it starts over, so after some attempts the lock is kept: a database with a
//! rollback journal then cannot be written to until it is copied. With a log nobody waits.
//!
//! Where memory may not be shared with all who use it, a database with a log is opened only
//! beside a program of this machine, and else read only while it has no log: see
//! [`reading`].
//!
//! The source is opened for reading only. If a killed writer left a journal that must be
//! rolled back, that is left to its own program, and there is no copy until then.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::{Error, Result, Unfollowable};
use super::files::{Attached, beside};
use super::hold::{begin, is_busy};
use super::preflight::{Reading, missing_or, reading, resolve};
use crate::base::{Stop, pause};

/// Pages that are copied while the lock is held.
const STEP_PAGES: i32 = 1024;

/// How often it is begun again because others wrote, before they have to wait.
const RESTARTS: u32 = 2;

/// How long to wait for a lock, and how often.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
const BUSY_TRIES: u32 = 500;

/// A copy of a database, to be read from front to back. Its file has no name any more, and
/// is gone when this is dropped.
#[derive(Debug)]
pub struct Snapshot {
    file: File,
    bytes: u64,
}

impl Snapshot {
    /// How long it is. 0 if the database is an empty file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.bytes
    }
}

impl Read for Snapshot {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.file.read(to)
    }
}

/// Copies the database at `path` as it is at one moment to a file in `spool`.
///
/// Page for page but for the first, in which SQLite counts the copy as a change of the
/// schema. Takes the space of the database in `spool`, and 1 MiB of memory.
///
/// # Errors
///
/// [`Error::CannotFollow`] if it stays locked; [`Error::MaybeElsewhere`] if a copy could do
/// harm; [`Error::Missing`], [`Error::NotADatabase`], [`Error::Interrupted`],
/// [`Error::Spool`], [`Error::Sqlite`].
pub fn snapshot(path: &Path, spool: &Path, stop: &Stop) -> Result<Snapshot> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let path = resolve(path)?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("asof-snapshot-{}-{number}", rustix::process::getpid());
    let copy = Copy { path: spool.join(name) };
    let spooled = |source| Error::Spool { path: copy.path.clone(), source };
    // Of nobody else's, and not through a link that somebody put there.
    File::create_new(&copy.path).map_err(spooled)?;
    if fs::metadata(&path).map_err(|e| missing_or(&path, e))?.len() > 0 {
        backup(&path, &copy.path, stop)?;
    }
    let file = File::open(&copy.path).map_err(spooled)?;
    let bytes = file.metadata().map_err(spooled)?.len();
    Ok(Snapshot { file, bytes })
}

/// Removes the copy's name, and what SQLite may have left beside it.
struct Copy {
    path: PathBuf,
}

impl Drop for Copy {
    fn drop(&mut self) {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let _ = fs::remove_file(beside(&self.path, suffix));
        }
    }
}

/// What SQLite reads without locks, and without making anything beside it.
fn file_alone(path: &Path) -> String {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' => uri.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => uri.push(byte.into()),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri + "?immutable=1"
}

fn backup(from: &Path, to: &Path, stop: &Stop) -> Result<()> {
    let read = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => Error::NotADatabase { path: from.to_owned() },
        _ => Error::sqlite(from, "copy")(error),
    };
    // Outlives the connection, so that no follower's descriptor takes its locks away.
    let attached = Attached::new(from).map_err(|e| missing_or(from, e))?;
    let how = reading(from, &attached)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = match how {
        Reading::Shared => Connection::open_with_flags(from, flags),
        Reading::Resting(..) => {
            Connection::open_with_flags(file_alone(from), flags | OpenFlags::SQLITE_OPEN_URI)
        }
    };
    let source = source.map_err(read)?;
    source.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(read)?;
    let mut copy = Connection::open(to).map_err(Error::sqlite(to, "open"))?;
    for (name, value) in [("journal_mode", "OFF"), ("synchronous", "OFF")] {
        copy.pragma_update(None, name, value).map_err(Error::sqlite(to, "open"))?;
    }
    let backup = Backup::new(&source, &mut copy).map_err(read)?;
    let (mut left, mut restarts, mut refused, mut kept) = (i32::MAX, 0, 0, false);
    loop {
        if stop.is_raised() {
            return Err(Error::Interrupted { path: from.to_owned() });
        }
        let step = match backup.step(STEP_PAGES) {
            Err(error) if is_busy(&error) => StepResult::Busy,
            other => other.map_err(read)?,
        };
        match step {
            // Somebody may have begun to use it meanwhile.
            StepResult::Done if reading(from, &attached)? == how => return Ok(()),
            StepResult::Done => return Err(Error::MaybeElsewhere { path: from.to_owned() }),
            StepResult::More => {
                let now = backup.progress().remaining;
                restarts += u32::from(now >= left);
                left = now;
                if restarts > RESTARTS && !kept {
                    kept = begin(&source).is_ok();
                }
            }
            _ if refused < BUSY_TRIES => {
                refused += 1;
                let _ = pause(BUSY_PAUSE, stop);
            }
            _ => {
                let reason = Unfollowable::Locked;
                return Err(Error::CannotFollow { path: from.to_owned(), reason });
            }
        }
    }
}
