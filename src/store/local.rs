//! A directory as a store.
//!
//! An object appears whole or not at all: it is written to `tmp/`, synced, and
//! *linked* to its name. A link fails where a rename would replace, so of two
//! writers of one name exactly one creates it. Then the directory is synced, and
//! with it every directory above that is new, since a file whose name is lost in
//! a power cut is lost. File systems without links (exFAT) get a rename that
//! does not replace.
//!
//! The receipt is the file's time as the file system has it: on a file server
//! that is the server's clock, which all its clients share. It must not be earlier
//! than the name by more than moments, or a listing could lack an object that is
//! older than the listing. Writing and syncing can take minutes, so the time is set
//! to the present just before the link, and again after it if the link's own time
//! (the file's `ctime`) shows that the machine slept in between. The present is the
//! time of a file that is made for it: where the server is asked to set a file to
//! "now", SMB and SFTP would send this machine's time.
//!
//! What a killed process left in `tmp/` is removed a day later, by the first
//! write of a later process.

mod list;
mod mark;
mod write;

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, OFlags, RenameFlags, Timespec, Timestamps, futimens, renameat_with};
use rustix::io::{pread, retry_on_intr};

use crate::base::{Kind, UnixTime};
use crate::store::key::{self, TMP, error};
use crate::store::{Call, Mark, Page, Put, Result, Store};

/// How old an unfinished object must be to be removed.
const STALE_SECONDS: i64 = 24 * 60 * 60;

/// How much earlier than its name the time of an object may be, in seconds.
const MOMENTS: u64 = 5;

/// What an error about the directory itself is about.
const ITSELF: &str = "the store";

/// A store in a directory.
#[derive(Debug)]
pub struct LocalStore {
    root: PathBuf,
    name: String,
    /// Directories whose names this process knows to be on disk.
    durable: Mutex<HashSet<PathBuf>>,
    swept: AtomicBool,
    serial: AtomicU64,
    /// What the last page of a listing had no room for.
    rest: Mutex<Option<list::Rest>>,
    /// How many names of a directory a listing keeps at most.
    names_max: usize,
    /// How long ago a directory's last change must be for a mark.
    settled_after: Duration,
}

impl LocalStore {
    /// Opens a directory that exists.
    ///
    /// # Errors
    ///
    /// [`Kind::NotFound`] if it does not, [`Kind::Invalid`] if it is something else.
    pub fn open(path: &Path) -> Result<LocalStore> {
        let shown = path.display().to_string();
        // Absolute, because the process may go to another directory later.
        let root = fs::canonicalize(path).map_err(|e| of_io(Call::Get, ITSELF, &shown, e))?;
        if !root.is_dir() {
            let wrong = "it is not a directory";
            return Err(error(Kind::Invalid, Call::Get, ITSELF, &shown, wrong));
        }
        Ok(LocalStore {
            name: root.display().to_string(),
            root,
            durable: Mutex::default(),
            swept: AtomicBool::new(false),
            serial: AtomicU64::new(0),
            rest: Mutex::default(),
            names_max: list::NAMES,
            settled_after: mark::SETTLED_AFTER,
        })
    }

    /// Opens a directory and makes it first, with those above it, if it is missing.
    ///
    /// # Errors
    ///
    /// As for [`LocalStore::open`], and if it cannot be made.
    pub fn create(path: &Path) -> Result<LocalStore> {
        let shown = path.display().to_string();
        let made = std::path::absolute(path).and_then(|path| make_directories(&path));
        made.map_err(|e| of_io(Call::Put, ITSELF, &shown, e))?;
        LocalStore::open(path)
    }

    /// Finds a directory below the root, or makes it, and makes sure that it stays.
    fn directory(&self, path: &Path) -> io::Result<()> {
        if path == self.root || self.durable().contains(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
            make_directory(path)?;
            // Also if it existed: who made it may not have come to this yet.
            sync_directory(parent)?;
        }
        self.durable().insert(path.to_owned());
        Ok(())
    }

    /// The set holds only what is true already, so a panic elsewhere does not matter.
    fn durable(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, key: &str, body: &[u8]) -> io::Result<Put> {
        let path = self.root.join(key);
        let parent = path.parent().unwrap_or(&self.root);
        if let Some(receipt) = receipt_of(&path)? {
            // Whoever wrote it may not have come to this yet.
            self.directory(parent)?;
            sync_directory(parent)?;
            return Ok(Put::at(false, receipt));
        }
        self.directory(parent)?;
        let unfinished = self.write(body)?;
        self.date(&unfinished.file)?;
        let created = unfinished.finish(&path)?;
        let receipt = match created {
            true => self.settle(&unfinished.file)?,
            false => receipt_of(&path)?.ok_or(ErrorKind::NotFound)?,
        };
        sync_directory(parent)?;
        Ok(Put::at(created, receipt))
    }

    /// Writes a body to a file of its own in `tmp/` and syncs it.
    fn write(&self, body: &[u8]) -> io::Result<Unfinished> {
        let tmp = self.root.join(TMP);
        self.directory(&tmp)?;
        let mut unfinished = self.begin()?;
        if !self.swept.swap(true, Ordering::Relaxed) {
            sweep(&tmp, unfinished.file.metadata()?.mtime());
        }
        write::body(&mut unfinished.file, body)?;
        unfinished.file.sync_all()?;
        Ok(unfinished)
    }

    /// Makes an empty file of its own in `tmp/`, which must exist.
    fn begin(&self) -> io::Result<Unfinished> {
        loop {
            let serial = self.serial.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{serial}-{:016x}", std::process::id(), random());
            let path = self.root.join(TMP).join(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Unfinished { path, file }),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The file system's own time, as that of a file that is made in `tmp/`. The directory
    /// is not made for that: its owner would be who looks, not who writes.
    fn now(&self) -> io::Result<UnixTime> {
        Ok(receipt(&self.begin()?.file.metadata()?))
    }

    /// Sets a file's time to the present.
    fn date(&self, file: &File) -> io::Result<()> {
        let now = self.now()?;
        let now = Timespec { tv_sec: now.seconds, tv_nsec: now.nanos.into() };
        Ok(futimens(file, &Timestamps { last_access: now, last_modification: now })?)
    }

    /// Makes sure of the time of a file that has got its name just now, syncs and says it.
    fn settle(&self, file: &File) -> io::Result<UnixTime> {
        let metadata = file.metadata()?;
        if metadata.ctime().abs_diff(metadata.mtime()) > MOMENTS {
            self.date(file)?;
        }
        // Or an older time could come back after a power cut.
        file.sync_all()?;
        Ok(receipt(&file.metadata()?))
    }

    fn rest(&self) -> std::sync::MutexGuard<'_, Option<list::Rest>> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_object(&self, key: &str) -> io::Result<(File, u64)> {
        // Not to wait for a writer, should somebody have put a fifo there.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let path = self.root.join(key);
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(ErrorKind::NotFound.into());
        }
        Ok((file, metadata.len()))
    }

    fn error(&self, call: Call, key: &str, e: io::Error) -> crate::store::Error {
        of_io(call, key, &self.name, e)
    }
}

impl Store for LocalStore {
    fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        key::check(Call::Put, key, &self.name)?;
        self.put(key, &body).map_err(|e| self.error(Call::Put, key, e))
    }

    fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        key::check(Call::Get, key, &self.name)?;
        let (file, size) = self.open_object(key).map_err(|e| self.error(Call::Get, key, e))?;
        if size > limit {
            return Err(key::too_large(key, &self.name, size, limit));
        }
        let body = read(&file, 0, size).map_err(|e| self.error(Call::Get, key, e))?;
        if body.len() as u64 != size {
            return Err(key::too_short(key, &self.name, &(0..size), body.len() as u64));
        }
        Ok(body)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        key::check(Call::Get, key, &self.name)?;
        key::check_range(key, &range, &self.name)?;
        let (file, size) = self.open_object(key).map_err(|e| self.error(Call::Get, key, e))?;
        // Before memory for it is allocated: the range may come from a damaged record.
        if size < range.end {
            return Err(key::too_short(key, &self.name, &range, size));
        }
        let length = range.end - range.start;
        let body = read(&file, range.start, length).map_err(|e| self.error(Call::Get, key, e))?;
        if body.len() as u64 != length {
            let size = range.start + body.len() as u64;
            return Err(key::too_short(key, &self.name, &range, size));
        }
        Ok(body)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page> {
        key::check_prefix(prefix, &self.name)?;
        list::page(self, prefix, after).map_err(|e| self.error(Call::List, prefix, e))
    }

    fn mark(&self, directory: &str) -> Option<Mark> {
        key::check_prefix(directory, &self.name).ok()?;
        mark::of(self, directory).unwrap_or_else(|e| {
            tracing::debug!("{directory} has no mark: {e}");
            None
        })
    }

    fn delete(&self, key: &str) -> Result<()> {
        key::check(Call::Delete, key, &self.name)?;
        match fs::remove_file(self.root.join(key)) {
            // A directory of that name is no object of that name.
            Err(e) if is_absent(&e) || e.kind() == ErrorKind::IsADirectory => Ok(()),
            done => done.map_err(|e| self.error(Call::Delete, key, e)),
        }
    }

    fn location(&self) -> String {
        self.name.clone()
    }

    fn local_path(&self) -> Option<&Path> {
        Some(&self.root)
    }
}

/// A file in `tmp/`, removed when dropped.
struct Unfinished {
    path: PathBuf,
    file: File,
}

impl Unfinished {
    /// Gives the file its name, unless the name is taken; says whether it did.
    fn finish(&self, path: &Path) -> io::Result<bool> {
        let linked = match fs::hard_link(&self.path, path) {
            Err(e) if cannot_link(&e) => {
                let flags = RenameFlags::NOREPLACE;
                renameat_with(CWD, &self.path, CWD, path, flags).map_err(Into::into)
            }
            linked => linked,
        };
        match linked {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What cannot be removed now is removed when it is a day old.
        let _ = fs::remove_file(&self.path);
    }
}

fn cannot_link(e: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::MLINK]
        .iter()
        .any(|errno| e.raw_os_error() == Some(errno.raw_os_error()))
}

/// The time of the file of that name, `None` if there is none.
fn receipt_of(path: &Path) -> io::Result<Option<UnixTime>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(receipt(&metadata))),
        Ok(_) => Err(io::Error::new(ErrorKind::IsADirectory, "something of that name is no file")),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn receipt(metadata: &fs::Metadata) -> UnixTime {
    UnixTime::new(metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap_or(0))
}

/// What a file holds from there on, up to so many bytes: by as few calls as can be, into memory
/// that nothing was written to before.
fn read(file: &File, start: u64, length: u64) -> io::Result<Bytes> {
    let mut body: Vec<u8> = Vec::with_capacity(key::capacity(length));
    while (body.len() as u64) < length {
        body.reserve(1);
        let at = start + body.len() as u64;
        if retry_on_intr(|| pread(file, spare_capacity(&mut body), at))? == 0 {
            break;
        }
    }
    // What was allocated may be more.
    body.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    Ok(Bytes::from(body))
}

fn make_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

fn make_directories(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_directories(parent)?;
        make_directory(path)?;
        sync_directory(parent)?;
    }
    Ok(())
}

/// Syncs a directory, where the file system knows how to.
fn sync_directory(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        done => done,
    }
}

/// Removes what killed processes left behind. `now` is the file system's own time.
fn sweep(tmp: &Path, now: i64) {
    let entries = fs::read_dir(tmp).into_iter().flatten().flatten();
    for entry in entries {
        let stale = entry.metadata().is_ok_and(|metadata| {
            metadata.is_file() && metadata.mtime() < now.saturating_sub(STALE_SECONDS)
        });
        if stale && fs::remove_file(entry.path()).is_ok() {
            tracing::debug!(path = %entry.path().display(), "removed an unfinished object");
        }
    }
}

/// Not secret, only unlikely to be chosen twice.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

/// Whether the error says that there is no such file, be it for want of a directory.
fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn of_io(call: Call, key: &str, store: &str, e: io::Error) -> crate::store::Error {
    let kind = match e.kind() {
        ErrorKind::ReadOnlyFilesystem => Kind::Denied,
        ErrorKind::NotADirectory if call == Call::Get => Kind::NotFound,
        ErrorKind::NotADirectory | ErrorKind::IsADirectory => Kind::Invalid,
        _ => Kind::of_io(&e),
    };
    error(kind, call, key, store, e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    /// As if writing it had taken an hour, or the machine had slept.
    fn set_back(file: &File) {
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
    }

    #[test]
    fn the_receipt_is_the_time_of_the_name_and_not_of_the_writing() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::create(dir.path()).unwrap();
        let before = store.put("log/before", b"x").unwrap().receipt;
        let path = store.root.join("log/slow");

        let unfinished = store.write(b"x").unwrap();
        set_back(&unfinished.file);
        store.date(&unfinished.file).unwrap();
        assert!(unfinished.finish(&path).unwrap());
        assert!(receipt_of(&path).unwrap().unwrap() >= before, "set just before the link");

        set_back(&unfinished.file);
        let receipt = store.settle(&unfinished.file).unwrap();
        assert!(receipt >= before, "the link was later than the time that was set");
        assert_eq!(receipt_of(&path).unwrap(), Some(receipt));
        assert_eq!(store.settle(&unfinished.file).unwrap(), receipt, "and is left as it is");
    }
}
