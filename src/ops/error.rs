//! Why an operation failed.

use std::path::PathBuf;

use crate::base::Kind;
use crate::{capture, index, repo, source, store, target, view};

/// An operation that failed as a whole. What goes wrong with single files is a
/// problem in [`crate::base::Progress`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] repo::Error),
    /// What was to be backed up cannot be used.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// A database cannot be followed.
    #[error(transparent)]
    Capture(#[from] capture::sqlite::Error),
    /// The directory that is restored into failed.
    #[error(transparent)]
    Target(#[from] target::Error),
    /// A view of the past failed.
    #[error(transparent)]
    View(#[from] view::error::Error),
    /// What was asked for makes no sense.
    #[error("{what}")]
    Invalid {
        /// What is wrong, and what would work.
        what: String,
    },
    /// What was asked for is not there.
    #[error("{what}")]
    NotFound {
        /// What is not there, and what is.
        what: String,
    },
    /// Something in the repository is not what it must be.
    #[error("{what}")]
    Damaged {
        /// What, and what follows.
        what: String,
    },
    /// A command whose output was to be backed up failed.
    #[error("the command {command} failed: {why}; no snapshot was made")]
    Command {
        /// The command.
        command: String,
        /// How it ended.
        why: String,
    },
    /// The file that remembers what the log had cannot be used.
    #[error(
        "{path} holds what the log had when it was last verified, and cannot be used: {why}; what was cut from the log since then does not show without it"
    )]
    Heads {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file of this machine cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// What the failure means.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::Repo(error) => error.kind(),
            Error::Source(error) => error.kind(),
            Error::Capture(error) => error.kind(),
            Error::Target(error) => error.kind(),
            Error::View(error) => error.kind(),
            Error::Invalid { .. } => Kind::Invalid,
            Error::NotFound { .. } => Kind::NotFound,
            Error::Damaged { .. } => Kind::Damaged,
            // Of this machine: it says nothing about the log.
            Error::Command { .. } | Error::Heads { .. } => Kind::Io,
            Error::File { source, .. } => Kind::of_io(source),
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        Error::Repo(error.into())
    }
}

impl From<index::Error> for Error {
    fn from(error: index::Error) -> Error {
        Error::Repo(error.into())
    }
}

/// What an operation returns.
pub type Result<T> = std::result::Result<T, Error>;
