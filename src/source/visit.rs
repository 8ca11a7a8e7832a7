//! What a walk tells, and to whom.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::fs::readlinkat;

use crate::base::Kind;
use crate::source::place::DirPlace;
use crate::source::xattr::{Xattrs, xattrs_at, xattrs_fd};
use crate::source::{Error, Meta, Place};

/// Who is told what the walk finds. An error that a visitor returns ends the walk.
pub trait Visitor {
    /// What ends a walk: the visitor's own failures, and a root that is gone.
    type Error: From<Error>;

    /// A directory begins. What follows is in it, until [`leave`](Visitor::leave).
    ///
    /// The first call is for the root of the tree, whose name is empty.
    ///
    /// # Errors
    ///
    /// The visitor's own.
    fn enter(&mut self, dir: &Visit<'_>) -> Result<(), Self::Error>;

    /// Anything but a directory.
    ///
    /// # Errors
    ///
    /// The visitor's own.
    fn file(&mut self, file: &Visit<'_>) -> Result<(), Self::Error>;

    /// The directory that was entered last and not yet left ends.
    ///
    /// # Errors
    ///
    /// The visitor's own.
    fn leave(&mut self) -> Result<(), Self::Error>;

    /// Something could not be read, and is missing from the tree or incomplete in it.
    ///
    /// # Errors
    ///
    /// The visitor's own.
    fn problem(&mut self, path: &[u8], trouble: Trouble) -> Result<(), Self::Error>;

    /// The directory that was just entered is stored without contents, on purpose.
    fn skipped(&mut self, path: &[u8], why: Skipped) {
        let _ = (path, why);
    }
}

/// What went wrong with one file or directory, without saying which.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It was listed, and was gone when it was looked at or opened.
    #[error("vanished while the backup ran")]
    Vanished,
    /// Its name leads to something else than it did a moment ago.
    #[error("was replaced while the backup ran")]
    Replaced,
    /// The walk came back to a directory and it was not there any more.
    #[error("was moved while it was read, the rest of it is missing")]
    Moved,
    /// Its attributes cannot be read.
    #[error("cannot be looked at: {0}")]
    Stat(io::Error),
    /// It is a directory whose contents, or the rest of them, cannot be listed.
    #[error("cannot be listed: {0}")]
    List(io::Error),
    /// It is a regular file that cannot be opened.
    #[error("cannot be opened: {0}")]
    Open(io::Error),
    /// It is a regular file that was opened and cannot be read.
    #[error("cannot be read at byte {offset}: {error}")]
    Read {
        /// Where the failing read began.
        offset: u64,
        /// What the kernel said.
        error: io::Error,
    },
    /// It ended before the length that it had when it was opened.
    #[error("shrank while it was read, it ends before byte {end}")]
    Shrunk {
        /// Where the data that was there before would have ended.
        end: u64,
    },
}

impl Trouble {
    /// What the failure means.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Trouble::Vanished | Trouble::Replaced | Trouble::Moved => Kind::NotFound,
            Trouble::Shrunk { .. } => Kind::Io,
            Trouble::Stat(error)
            | Trouble::List(error)
            | Trouble::Open(error)
            | Trouble::Read { error, .. } => Kind::of_io(error),
        }
    }
}

/// Why a directory is stored without its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skipped {
    /// A mount of asof, whose contents are backups.
    OwnMount,
    /// A directory that the caller set apart: the store, the cache.
    SetApart,
    /// Another file system, with `one_file_system`.
    OtherFileSystem,
    /// It marks itself with a file; that file is stored, and nothing else of it.
    Tagged,
}

/// An entry of the tree, while the walk is at it.
#[derive(Debug)]
pub struct Visit<'a> {
    /// Its name in its directory; empty for the root of the tree.
    pub name: &'a [u8],
    /// Its absolute path, for messages and for comparing with an earlier scan.
    pub path: &'a [u8],
    /// What its stat says.
    pub meta: &'a Meta,
    pub(super) dir: &'a Arc<DirPlace>,
    pub(super) at: At<'a>,
}

#[derive(Debug)]
pub(super) enum At<'a> {
    /// Known by name in an open directory.
    Entry(BorrowedFd<'a>),
    /// A directory, itself open.
    Open(BorrowedFd<'a>),
    /// Made up: the directory around a single file.
    Nowhere,
}

impl Visit<'_> {
    /// Its extended attributes. Costs system calls, so ask only for what changed.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn xattrs(&self) -> io::Result<Xattrs> {
        match self.at {
            At::Entry(dir) => xattrs_at(dir, self.name),
            At::Open(fd) => xattrs_fd(fd),
            At::Nowhere => Ok(Xattrs::new()),
        }
    }

    /// What a symlink says.
    ///
    /// # Errors
    ///
    /// What the kernel says, also when this is no symlink.
    pub fn link_target(&self) -> io::Result<Vec<u8>> {
        match self.at {
            At::Entry(dir) => Ok(readlinkat(dir, self.name, Vec::new())?.into_bytes()),
            At::Open(_) | At::Nowhere => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Where it is, to open it later and elsewhere. For files; a directory is read
    /// by the walk itself.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { dir: Arc::clone(self.dir), name: self.name.into(), meta: *self.meta }
    }
}
