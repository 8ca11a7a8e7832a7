//! The writing side of a restore: files, directories and their attributes under one
//! directory, and nothing outside it.
//!
//! What is restored was written by somebody else's machine, so no name in it is
//! trusted. Every path is walked from the target's own descriptor, one component at a
//! time, and no component may be a symlink, `..` or empty: a tree in which `a` is a
//! symlink to `/etc` and `a/passwd` a file cannot reach `/etc`.
//!
//! The order of a restore is the caller's, with three rules:
//!
//! - a directory is made before what is in it ([`Target::make_dir`]), and gets its
//!   attributes after ([`Target::apply`], deepest first), since both its times and a
//!   missing write permission would be in the way;
//! - a file is written under another name ([`Target::create_file`]) and takes its real
//!   one when it is complete, so an interrupted restore leaves no half file that looks
//!   whole;
//! - links to a file are made when the file has its name ([`Target::make_hard_link`]).
//!
//! What stands in the way is replaced, unless it is a directory: that is for the
//! caller to [`remove`](Target::remove), who was told whether it may.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::fs::{linkat, makedev, mkdirat, mknodat, openat, readlinkat};
use rustix::fs::{renameat, symlinkat, unlinkat};
use rustix::io::Errno;

use crate::base::Kind;
use crate::source::meta::{FileKind, Meta, stat_at, stat_fd};
use crate::source::owners::Owners;
use crate::source::path::shown;

mod attributes;
mod dirs;
mod remove;
mod writer;

pub use attributes::{ApplyOptions, Attributes, Outcome, Refused};
pub use remove::Removed;
pub use writer::FileWriter;

use dirs::Dirs;

/// Something under the target that could not be done.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct Error {
    /// What was tried, as a verb and its object.
    pub action: &'static str,
    /// The path below the target.
    pub path: String,
    /// What the kernel said.
    pub source: io::Error,
}

impl Error {
    /// What the failure means.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::of_io(&self.source)
    }
}

/// A directory that is restored into. Paths are bytes, relative to it, with single
/// slashes; the empty path is the directory itself.
///
/// Shared by reference between threads.
#[derive(Debug)]
pub struct Target {
    dirs: Dirs,
    owners: Mutex<Owners>,
    /// The process, and how many temporary names it had: what the next is made of.
    process: i32,
    temporary: AtomicU64,
    euid: u32,
}

impl Target {
    /// Opens the directory, and makes it with those above it if it is missing.
    ///
    /// # Errors
    ///
    /// If it is not a directory, or cannot be made or opened.
    pub fn open(dir: &Path) -> Result<Target, Error> {
        let failed =
            |source| Error { action: "restore into", path: dir.display().to_string(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(dir, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        Ok(Target {
            dirs: Dirs::new(root),
            owners: Mutex::default(),
            process: rustix::process::getpid().as_raw_pid(),
            temporary: AtomicU64::new(0),
            euid: rustix::process::geteuid().as_raw(),
        })
    }

    /// What is there; `None` if nothing is.
    ///
    /// # Errors
    ///
    /// If it cannot be looked at, or if something above it is no directory.
    pub fn stat(&self, path: &[u8]) -> Result<Option<Meta>, Error> {
        let stat = self.at(path).and_then(|(dir, name)| stat_at(dir.as_fd(), name));
        match stat {
            Ok(meta) => Ok(Some(meta)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("look at", path)(e)),
        }
    }

    /// What a symlink says.
    ///
    /// # Errors
    ///
    /// If there is none, or it cannot be read.
    pub fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, Error> {
        let read = self.at(path).and_then(|(dir, name)| Ok(readlinkat(dir, name, Vec::new())?));
        read.map(std::ffi::CString::into_bytes).map_err(failed("read the link", path))
    }

    /// Opens a regular file for reading, to compare it with what it should be.
    ///
    /// # Errors
    ///
    /// If it is not there, not a regular file, or not readable.
    pub fn open_file(&self, path: &[u8]) -> Result<File, Error> {
        let open = || {
            let (dir, name) = self.at(path)?;
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let fd = openat(dir, name, flags, Mode::empty())?;
            match stat_fd(fd.as_fd())?.kind {
                FileKind::File => Ok(File::from(fd)),
                _ => Err(io::ErrorKind::InvalidInput.into()),
            }
        };
        open().map_err(failed("open", path))
    }

    /// Makes a directory that only its owner can enter until it gets its attributes.
    ///
    /// One that exists is kept, and made writable to its owner for the time being.
    /// Returns whether it was made.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or something else is in its place.
    pub fn make_dir(&self, path: &[u8]) -> Result<bool, Error> {
        let make = || {
            let (dir, name) = self.at(path)?;
            match mkdirat(&dir, name, Mode::RWXU) {
                Ok(()) => return Ok(true),
                Err(Errno::EXIST) => {}
                Err(Errno::NOENT) if name.is_empty() => {}
                Err(e) => return Err(e.into()),
            }
            let meta = stat_at(dir.as_fd(), name)?;
            if meta.kind != FileKind::Dir {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if meta.uid == self.euid && meta.mode & 0o700 != 0o700 {
                attributes::make_accessible(dir.as_fd(), name, meta.mode | 0o700)?;
            }
            Ok(false)
        };
        make().map_err(failed("make the directory", path))
    }

    /// Makes a symlink, in place of whatever is there but a directory.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn make_symlink(&self, path: &[u8], to: &[u8]) -> Result<(), Error> {
        self.place(path, |dir, name| symlinkat(to, dir, name))
            .map_err(failed("make the symbolic link", path))
    }

    /// Makes a device, pipe or socket, in place of whatever is there but a directory.
    ///
    /// # Errors
    ///
    /// If it cannot be made; devices need privilege, and the error's kind says so.
    pub fn make_special(&self, path: &[u8], kind: FileKind, rdev: (u32, u32)) -> Result<(), Error> {
        let file_type = match kind {
            FileKind::CharDevice => FileType::CharacterDevice,
            FileKind::BlockDevice => FileType::BlockDevice,
            FileKind::Fifo => FileType::Fifo,
            FileKind::Socket => FileType::Socket,
            FileKind::File | FileKind::Dir | FileKind::Symlink => {
                return Err(failed("make", path)(io::ErrorKind::InvalidInput.into()));
            }
        };
        let dev = makedev(rdev.0, rdev.1);
        let mode = Mode::RUSR | Mode::WUSR;
        self.place(path, |dir, name| mknodat(dir, name, file_type, mode, dev))
            .map_err(failed("make the special file", path))
    }

    /// Gives the file at `existing` another name, in place of whatever is there but a
    /// directory.
    ///
    /// # Errors
    ///
    /// If it cannot be linked.
    pub fn make_hard_link(&self, existing: &[u8], path: &[u8]) -> Result<(), Error> {
        let link = || {
            let (from, old) = self.at(existing)?;
            self.place(path, |dir, name| linkat(&from, old, dir, name, AtFlags::empty()))
        };
        link().map_err(failed("make the link", path))
    }

    /// Begins a regular file. Nothing of it shows under `path` until
    /// [`FileWriter::finish`].
    ///
    /// # Errors
    ///
    /// If its directory is not there or cannot be written to.
    pub fn create_file(&self, path: &[u8]) -> Result<FileWriter, Error> {
        let create = || {
            let (dir, name) = self.at(path)?;
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR;
            let (temporary, fd) = self.under_temporary_name(|temporary| {
                openat(&dir, temporary, flags | OFlags::NOFOLLOW, mode)
            })?;
            Ok(FileWriter::new(dir, path, name, temporary, fd))
        };
        create().map_err(failed("create", path))
    }

    /// Gives a file its owner, attributes, mode and time.
    ///
    /// What the kernel refuses is counted in the [`Outcome`] and is no error.
    ///
    /// # Errors
    ///
    /// If there is no such file, or one of another kind.
    pub fn apply(
        &self,
        path: &[u8],
        attributes: &Attributes,
        options: ApplyOptions,
    ) -> Result<Outcome, Error> {
        let apply = || {
            let (dir, name) = self.at(path)?;
            let name = if name.is_empty() { b"." } else { name };
            let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // What is open for reading needs no path of the kernel's for each call, but not
            // everything may be opened so: a pipe, what its owner may not read.
            if attributes.kind == FileKind::Dir
                && let Ok(fd) =
                    openat(&dir, name, flags | OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            {
                return attributes::apply(fd.as_fd(), false, attributes, options, &self.owners);
            }
            let fd = openat(&dir, name, flags | OFlags::PATH, Mode::empty())?;
            attributes::apply(fd.as_fd(), true, attributes, options, &self.owners)
        };
        apply().map_err(failed("set the attributes of", path))
    }

    /// The same for a file that is being written, before it takes its name.
    ///
    /// # Errors
    ///
    /// If the file cannot be statted.
    pub fn apply_to(
        &self,
        file: &FileWriter,
        attributes: &Attributes,
        options: ApplyOptions,
    ) -> Result<Outcome, Error> {
        attributes::apply(file.fd(), false, attributes, options, &self.owners)
            .map_err(failed("set the attributes of", file.path()))
    }

    /// The names in a directory, in byte order.
    ///
    /// # Errors
    ///
    /// If it is no directory or cannot be listed.
    pub fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        let list = || remove::list(self.dirs.open(path)?.as_fd());
        list().map_err(failed("list", path))
    }

    /// Removes whatever is there, with everything below it.
    ///
    /// Other file systems mounted below are left alone, and counted as refused.
    ///
    /// # Errors
    ///
    /// If there is nothing, or the path is not below the target.
    pub fn remove(&self, path: &[u8]) -> Result<Removed, Error> {
        let remove = || {
            let (dir, name) = self.at(path)?;
            self.dirs.forget();
            remove::tree(dir.as_fd(), name)
        };
        remove().map_err(failed("remove", path))
    }

    /// Removes from a directory every name that `keep` does not keep.
    ///
    /// # Errors
    ///
    /// If the directory cannot be listed. What cannot be removed is counted.
    pub fn remove_extra(
        &self,
        path: &[u8],
        keep: impl Fn(&[u8]) -> bool,
    ) -> Result<Removed, Error> {
        let mut all = Removed::default();
        for name in self.list(path)?.into_iter().filter(|name| !keep(name)) {
            let mut below = path.to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(&name);
            match self.remove(&below) {
                Ok(removed) => all.add(removed),
                Err(e) if e.kind() == Kind::NotFound => {}
                Err(e) => all.refused.note(|| format!("{e}: {}", e.source)),
            }
        }
        Ok(all)
    }

    /// The directory that a path is in, and its name there; for the empty path the
    /// target itself, and no name.
    fn at<'p>(&self, path: &'p [u8]) -> io::Result<(Arc<OwnedFd>, &'p [u8])> {
        let slash = path.iter().rposition(|b| *b == b'/');
        let (above, name) = match slash {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        if !path.is_empty() && !dirs::is_name(name) || slash == Some(0) {
            return Err(dirs::outside());
        }
        Ok((self.dirs.open(above)?, name))
    }

    /// Makes something under a name, replacing what has the name in one step.
    fn place(
        &self,
        path: &[u8],
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        let (dir, name) = self.at(path)?;
        let dir = dir.as_fd();
        match make(dir, name) {
            Err(Errno::EXIST) => {}
            other => return Ok(other?),
        }
        let (temporary, ()) = self.under_temporary_name(|temporary| make(dir, temporary))?;
        let renamed = renameat(dir, &temporary[..], dir, name);
        // Also when it went well: renaming one name of a file to another of the same
        // file does nothing at all.
        let _ = unlinkat(dir, &temporary[..], AtFlags::empty());
        match renamed {
            Err(Errno::ISDIR | Errno::EXIST) => Err(io::ErrorKind::AlreadyExists.into()),
            other => Ok(other?),
        }
    }

    /// Finds a name that is free, and makes something under it.
    fn under_temporary_name<T>(
        &self,
        make: impl Fn(&[u8]) -> rustix::io::Result<T>,
    ) -> io::Result<(Vec<u8>, T)> {
        loop {
            let number = self.temporary.fetch_add(1, Ordering::Relaxed);
            let name = format!(".asof-restore-{:x}-{number:x}", self.process).into_bytes();
            match make(&name) {
                Ok(made) => return Ok((name, made)),
                Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

fn failed(action: &'static str, path: &[u8]) -> impl Fn(io::Error) -> Error {
    let path = if path.is_empty() { b"." } else { path };
    move |source| Error { action, path: shown(path), source }
}

/// Poison means that a thread panicked while it looked a name up; the names are whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
