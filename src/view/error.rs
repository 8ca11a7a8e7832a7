//! What can keep a view from answering.
//!
//! That a name does not exist is an answer and not an error; it is in the
//! results. What is here is the rest, and one thing that is no failure at all:
//! the answer is not in memory, and the caller said that it cannot wait.

use crate::base::Kind;
use crate::repo;

/// How far a question may go for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Only to what is in memory: an event loop asks, and must not wait.
    Memory,
    /// To the index and the store, as long as that takes.
    Store,
}

/// A question about a view that has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The answer is not in memory. Ask again with [`Reach::Store`].
    #[error("the answer is not in memory")]
    WouldBlock,
    /// No directory entry, file or view has that number.
    #[error("no file has the number {number}")]
    NoSuchNumber {
        /// The inode number.
        number: u64,
    },
    /// It is no directory.
    #[error("not a directory")]
    NotADirectory,
    /// It is a directory.
    #[error("a directory")]
    IsADirectory,
    /// What was asked makes no sense for a file of that kind.
    #[error("not possible for a file of that kind")]
    WrongKind,
    /// There is no extended attribute of that name.
    #[error("no such attribute")]
    NoAttribute,
    /// No data follows, or the offset is behind the end.
    #[error("nothing at or after that offset")]
    NothingFollows,
    /// The file had fewer bytes than its entry says.
    #[error("{got} bytes were read where the file has {expected}")]
    Short {
        /// How many bytes came.
        got: usize,
        /// How many should have.
        expected: usize,
    },
    /// More directories were looked at than there are numbers for.
    #[error("the mount has no number left for {name}")]
    NumbersUsedUp {
        /// The directory that got none.
        name: String,
    },
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] repo::Error),
}

impl Error {
    /// What the failure means, where it is one of the repository or of a file.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::Repository(error) => error.kind(),
            Error::NoSuchNumber { .. } | Error::NoAttribute | Error::NothingFollows => {
                Kind::NotFound
            }
            Error::NotADirectory | Error::IsADirectory | Error::WrongKind => Kind::Invalid,
            Error::Short { .. } => Kind::Damaged,
            Error::WouldBlock => Kind::Unavailable,
            Error::NumbersUsedUp { .. } => Kind::Full,
        }
    }
}

/// What a view returns.
pub type Result<T> = std::result::Result<T, Error>;
