//! Descriptors of a database that are closed only when no connection is left.
//!
//! SQLite locks with POSIX locks, and these have a trap: when a process closes *any*
//! descriptor of a file, it loses *all* its locks on that file, whoever took them. A
//! program that opens a database of its own accord, reads it and closes it again has
//! silently unlocked it under its own SQLite connections, and another process may then
//! checkpoint over what they hold or delete the log.
//!
//! The database and its `-shm` are read here besides SQLite all the same: the one for
//! a base, page by page, the other to see what is committed. So their descriptors are
//! kept in a table of the process, under the database's device and inode number, and
//! stay open until the last [`Attached`] of that database is dropped. Whoever opens
//! connections keeps an [`Attached`] that outlives them. That is sound if nothing else
//! in the process has connections to a database that is followed, and nothing in asof
//! has: its own index is never a source.
//!
//! Locks lie on the database and on `-shm` only; the `-wal` may be opened and closed
//! freely. Opening is harmless in any case, and `stat` opens nothing.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId {
    /// The number of the device.
    pub device: u64,
    /// The number of the inode.
    pub inode: u64,
}

impl FileId {
    /// The file that these attributes are of.
    pub(super) fn of(meta: &Metadata) -> FileId {
        FileId { device: meta.dev(), inode: meta.ino() }
    }
}

/// The path of a file that SQLite keeps beside a database: `-wal`, `-shm`, `-journal`.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[derive(Default)]
struct Entry {
    users: usize,
    /// Every descriptor that was opened, by path. Some may be of a file that took the
    /// name between two calls; they are kept all the same, since closing them is what
    /// does harm.
    files: Vec<(PathBuf, Arc<File>)>,
}

static ATTACHED: Mutex<BTreeMap<FileId, Entry>> = Mutex::new(BTreeMap::new());

/// The right to read a database and its `-shm` besides SQLite.
///
/// To be dropped after every connection to that database.
#[derive(Debug)]
pub(super) struct Attached {
    id: FileId,
}

impl Attached {
    /// Counts one more user of the database at `path`, a path without symbolic links.
    pub(super) fn new(path: &Path) -> io::Result<Attached> {
        let id = FileId::of(&fs::metadata(path)?);
        let mut table = ATTACHED.lock().unwrap_or_else(PoisonError::into_inner);
        table.entry(id).or_default().users += 1;
        Ok(Attached { id })
    }

    /// Which file the database is.
    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// Opens the database, or a file beside it, for reading. It stays open as long as
    /// the process is attached; who asks again gets the same descriptor.
    pub(super) fn open(&self, path: &Path) -> io::Result<Arc<File>> {
        let mut table = ATTACHED.lock().unwrap_or_else(PoisonError::into_inner);
        let files = &mut table.entry(self.id).or_default().files;
        let id = FileId::of(&fs::metadata(path)?);
        for (known, file) in files.iter() {
            if known == path && FileId::of(&file.metadata()?) == id {
                return Ok(Arc::clone(file));
            }
        }
        let file = Arc::new(File::open(path)?);
        files.push((path.to_owned(), Arc::clone(&file)));
        Ok(file)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let mut table = ATTACHED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = table.get_mut(&self.id) {
            entry.users = entry.users.saturating_sub(1);
            if entry.users == 0 {
                // Closed while the table is locked: nobody attaches anew in between.
                table.remove(&self.id);
            }
        }
    }
}
