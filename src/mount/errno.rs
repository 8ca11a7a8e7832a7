//! From failures to error numbers, the one table.
//!
//! A program that copies out of the mount must be able to trust these: ENOENT
//! means that the name did not exist then, so a chunk that is missing from the
//! store is EIO and never ENOENT, and so is everything else that keeps asof from
//! telling what was there.

use fuser::Errno;

use crate::base::Kind;
use crate::view::error::Error;

/// The number for an answer that did not come.
pub(super) fn of(error: &Error) -> Errno {
    match error {
        Error::Repository(error) => of_kind(error.kind()),
        // The path is looked up afresh, and found or not.
        Error::NoSuchNumber { .. } => Errno::ESTALE,
        Error::NotADirectory => Errno::ENOTDIR,
        Error::IsADirectory => Errno::EISDIR,
        Error::WrongKind => Errno::EINVAL,
        Error::NoAttribute => Errno::ENODATA,
        Error::NothingFollows => Errno::ENXIO,
        Error::Short { .. } | Error::WouldBlock => Errno::EIO,
        Error::NumbersUsedUp { .. } => Errno::ENFILE,
    }
}

/// The number for a failure of the repository.
fn of_kind(kind: Kind) -> Errno {
    match kind {
        Kind::NotFound
        | Kind::AlreadyExists
        | Kind::Denied
        | Kind::Unavailable
        | Kind::Damaged
        | Kind::WrongKey
        | Kind::NoRepository
        | Kind::Future
        | Kind::Invalid
        // EINTR would be tried again at once, for ever.
        | Kind::Interrupted
        | Kind::Io => Errno::EIO,
        Kind::Full => Errno::ENOSPC,
    }
}
