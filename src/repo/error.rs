//! What can go wrong with a repository.

use crate::base::{ChunkId, Kind, PackId};
use crate::codec::CodecError;
use crate::format::{FORMAT_VERSION, FormatError};
use crate::{index, store};

/// A call to a repository that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The local index failed.
    #[error(transparent)]
    Index(#[from] index::Error),
    /// There is no repository where one was looked for.
    #[error("there is no repository in {location}: {missing} was not found")]
    NoRepository {
        /// Where it was looked for.
        location: String,
        /// The object that is missing.
        missing: &'static str,
    },
    /// An upgrade of the repository was begun and not finished.
    #[error(
        "the upgrade of the repository in {location} is not finished: run `asof upgrade` again"
    )]
    Upgrading {
        /// Where it is.
        location: String,
    },
    /// The repository is of a version of the format in which that is not done.
    #[error(
        "{action} needs format version {FORMAT_VERSION}, and the repository is of version {found}: run `asof upgrade`"
    )]
    Outdated {
        /// What was to be done.
        action: &'static str,
        /// The version that it is of.
        found: u8,
    },
    /// There is something where a new repository was to be made.
    #[error("there is a repository in {location} already")]
    Exists {
        /// Where.
        location: String,
    },
    /// An object is not what the format says.
    #[error("{name} cannot be used")]
    Object {
        /// The object's name in the store, or a local file's path.
        name: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// An object does not open, unpack or verify.
    #[error("{name} cannot be opened")]
    Sealed {
        /// The object's name in the store, or a local file's path.
        name: String,
        /// What is wrong with it.
        source: CodecError,
    },
    /// No key opens the repository with what was given.
    #[error("the passphrase opens no key of the repository in {location} ({keys} tried)")]
    WrongKey {
        /// Where the repository is.
        location: String,
        /// How many keys were tried.
        keys: usize,
    },
    /// The key at hand may not do this.
    #[error("{action} needs {needs}")]
    NotAllowed {
        /// What was to be done.
        action: &'static str,
        /// Which key would do.
        needs: &'static str,
    },
    /// A chunk is in no pack that is known.
    #[error("chunk {chunk} is in no pack that is known")]
    ChunkMissing {
        /// The chunk.
        chunk: ChunkId,
    },
    /// A chunk was found, but its content is not what its id says.
    ///
    /// The pack is damaged, or was altered. Reading any other chunk is still safe.
    #[error("chunk {chunk} in pack {pack} is corrupt")]
    ChunkCorrupt {
        /// The chunk.
        chunk: ChunkId,
        /// Where it was read from.
        pack: PackId,
    },
    /// A tree does not fit together.
    #[error("the tree at chunk {chunk} contradicts itself: {why}")]
    Tree {
        /// The node.
        chunk: ChunkId,
        /// How.
        why: &'static str,
    },
    /// A record that was listed before is gone.
    #[error("{name} was in {store} and is gone: the store was damaged, rolled back or replaced")]
    LogLost {
        /// The record's name.
        name: String,
        /// The store.
        store: String,
    },
    /// Another repository is where this machine knew one.
    #[error(
        "{location} held repository {known} when this machine last used it, and holds {found} now; if that is right, remove {pin}"
    )]
    Replaced {
        /// Where.
        location: String,
        /// The repository that was there.
        known: String,
        /// The one that is there.
        found: String,
        /// The file that remembers.
        pin: String,
    },
    /// What was published came too late for what it stands on to be there for certain.
    #[error(
        "{what} was received by the store only after what it builds on may have been collected; it has to be done again"
    )]
    Late {
        /// What was published.
        what: &'static str,
    },
    /// The local index was made anew while something relied on it.
    #[error("the local index was made anew meanwhile; run this again")]
    IndexReplaced,
    /// What is known of a source's past was changed by another command.
    #[error("another command has changed what is known of the past of {name}: search again")]
    SearchOvertaken {
        /// The source.
        name: String,
    },
    /// It was asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A thread that the work depended on ended unexpectedly.
    #[error("a worker thread failed: {0}")]
    Worker(String),
}

impl Error {
    /// What the failure means.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::Store(e) => e.kind,
            Error::Index(e) => e.kind(),
            Error::NoRepository { .. } => Kind::NoRepository,
            Error::Exists { .. } => Kind::AlreadyExists,
            Error::Object { source, .. } => source.kind(),
            Error::Sealed { source: CodecError::Suite(_), .. } => Kind::Future,
            Error::WrongKey { .. } => Kind::WrongKey,
            Error::NotAllowed { .. } | Error::Outdated { .. } => Kind::Denied,
            Error::Sealed { .. }
            | Error::ChunkMissing { .. }
            | Error::ChunkCorrupt { .. }
            | Error::LogLost { .. }
            | Error::Replaced { .. }
            | Error::Tree { .. } => Kind::Damaged,
            Error::Late { .. }
            | Error::IndexReplaced
            | Error::SearchOvertaken { .. }
            | Error::Upgrading { .. } => Kind::Unavailable,
            Error::Interrupted => Kind::Interrupted,
            Error::Worker(_) => Kind::Io,
        }
    }

    /// Whether it is of what is stored, and not of this machine or of the way to the
    /// store: then what does not need it can still be read.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        !matches!(self, Error::Index(_))
            && matches!(self.kind(), Kind::Damaged | Kind::NotFound | Kind::Future)
    }

    /// The error that an object does not decode.
    pub fn object(name: impl Into<String>) -> impl FnOnce(FormatError) -> Error {
        let name = name.into();
        move |source| Error::Object { name, source }
    }

    /// The error that an object does not open.
    pub fn sealed(name: impl Into<String>) -> impl FnOnce(CodecError) -> Error {
        let name = name.into();
        move |source| Error::Sealed { name, source }
    }
}

/// What a repository returns.
pub type Result<T> = std::result::Result<T, Error>;
