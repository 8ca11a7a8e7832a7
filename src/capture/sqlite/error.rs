//! Why a database cannot be followed, and why a chain of commits ends.
//!
//! Three different things can go wrong, and a caller acts differently on each: the
//! database is of a sort that cannot be followed at all ([`Unfollowable`]: take
//! snapshots instead), the chain of commits is broken ([`Gap`]: record that, take a new
//! base and go on), or something failed (everything else).

use std::io;
use std::path::{Path, PathBuf};

use crate::base::Kind;

/// The result of everything in this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What goes wrong when a database is followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file, or it was deleted while it was followed.
    #[error("the database {} does not exist", path.display())]
    Missing {
        /// The database.
        path: PathBuf,
    },
    /// It is something else, or encrypted, or its header is destroyed.
    #[error("{} is not a SQLite database, or it is encrypted", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// Its commits cannot be captured; a snapshot of it can be taken.
    #[error("the database {} cannot be followed: {reason}", path.display())]
    CannotFollow {
        /// The database.
        path: PathBuf,
        /// What about it.
        reason: Unfollowable,
    },
    /// To open it could break a program on another machine that has it open.
    #[error(
        "the database {} is not copied: its log is there, no program of this machine has it open, \
         and one of another machine may, which a copy would break; run asof there", path.display()
    )]
    MaybeElsewhere {
        /// The database.
        path: PathBuf,
    },
    /// Commits may have been missed. [`Follower::open`](super::Follower::open) again,
    /// without a position, and take a new base.
    #[error("the commits of the database {} cannot be followed without a gap: {gap}", path.display())]
    Broken {
        /// The database.
        path: PathBuf,
        /// What happened.
        gap: Gap,
    },
    /// Commits were asked for before their base.
    #[error("the base of the database {} was not taken yet", path.display())]
    NeedsBase {
        /// The database.
        path: PathBuf,
    },
    /// A base was asked for while a large transaction waits to be pulled.
    #[error("commits of the database {} must be pulled before its base is taken", path.display())]
    Behind {
        /// The database.
        path: PathBuf,
    },
    /// It was asked to stop.
    #[error("copying the database {} was interrupted", path.display())]
    Interrupted {
        /// The database.
        path: PathBuf,
    },
    /// SQLite refused.
    #[error("cannot {action} the database {}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What was being done, as a verb.
        action: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A call to the kernel failed.
    #[error("cannot read {}", path.display())]
    File {
        /// The database, or a file beside it.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The copy for a snapshot could not be made.
    #[error("cannot copy the database to {}", path.display())]
    Spool {
        /// The directory or file for the copy.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// What the failure means.
    #[must_use]
    pub fn kind(&self) -> Kind {
        use rusqlite::ErrorCode as C;
        match self {
            Error::Missing { .. } => Kind::NotFound,
            Error::NotADatabase { .. } => Kind::Damaged,
            Error::CannotFollow { .. } | Error::NeedsBase { .. } | Error::Behind { .. } => {
                Kind::Invalid
            }
            Error::MaybeElsewhere { .. } => Kind::Unavailable,
            // The same call fails again.
            Error::Broken { .. } => Kind::Io,
            Error::Interrupted { .. } => Kind::Interrupted,
            Error::File { source, .. } | Error::Spool { source, .. } => Kind::of_io(source),
            Error::Sqlite { source, .. } => match source.sqlite_error_code() {
                Some(C::DatabaseBusy | C::DatabaseLocked) => Kind::Unavailable,
                Some(C::PermissionDenied | C::ReadOnly | C::AuthorizationForStatementDenied) => {
                    Kind::Denied
                }
                Some(C::DiskFull) => Kind::Full,
                Some(C::DatabaseCorrupt | C::NotADatabase) => Kind::Damaged,
                Some(C::OperationInterrupted) => Kind::Interrupted,
                _ => Kind::Io,
            },
        }
    }

    /// A closure that makes this error of the kernel's, for `map_err`.
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    }

    /// A closure that makes this error of SQLite's, for `map_err`.
    pub(super) fn sqlite(
        path: &Path,
        action: &'static str,
    ) -> impl FnOnce(rusqlite::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Sqlite { path, action, source }
    }
}

/// What about a database makes it impossible to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfollowable {
    /// Changes are made in the file itself, and what was there before is deleted.
    #[error("it has a rollback journal; only journal_mode=WAL can be followed")]
    RollbackJournal,
    /// The file has no byte, so nobody decided yet how it is to be written.
    #[error("it is empty")]
    Empty,
    /// Memory is not shared with programs on other machines, and locks may not be.
    #[error("it lies on a network file system ({0})")]
    NetworkFileSystem(&'static str),
    /// The same may be so, or not.
    #[error("it lies on a file system that a program serves (FUSE), maybe from another machine")]
    Fuse,
    /// The same, of a file system that nobody here has heard of.
    #[error("it lies on a file system of an unknown kind ({0:#x}), maybe of a network")]
    UnknownFileSystem(u64),
    /// Another process has it for itself: `locking_mode=EXCLUSIVE`.
    #[error("another process keeps it locked")]
    Locked,
    /// Holding its log needs a lock, and that needs the right to write.
    #[error("it, or its directory, cannot be written to, and without that it cannot be locked")]
    ReadOnly,
}

/// Why commits do not follow without a gap on those that were captured before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    /// It was never followed before.
    #[error("it was not followed before")]
    NoState,
    /// Another file has its name now.
    #[error("another file has its name now")]
    DatabaseReplaced,
    /// The log was removed or replaced by something that is not SQLite.
    #[error("its write-ahead log was removed or replaced")]
    LogReplaced,
    /// The log began again, and what stood in it last was not read.
    #[error("its write-ahead log began again while it was not followed")]
    LogRestarted,
    /// Commits that were captured are not in the log any more: a power cut lost them.
    #[error("it lost commits that were captured, as happens in a power cut")]
    RolledBack,
    /// Its pages have another size.
    #[error("its pages have {is} bytes and had {was}")]
    PageSize {
        /// What was followed.
        was: u32,
        /// What is there.
        is: u32,
    },
    /// The log has fewer commits than were made, or is damaged.
    #[error("its write-ahead log does not hold all its commits, or is damaged")]
    Missed,
}
