//! Files as they are on this machine: found, described, read.
//!
//! [`Roots`] says what is wanted, [`Rules`] what is left out. [`walk()`] goes through
//! it in the order of a backup's tree and tells a [`Visitor`] what it finds; it
//! stats everything and opens no file. A [`FileReader`] reads one file later, on
//! another thread, and knows whether it changed meanwhile.
//!
//! Names and paths are bytes throughout, since that is what the kernel keeps. No
//! path is assumed to be shorter than the kernel's limit for one call, no tree to be
//! shallower than the stack, and no directory to stay where it was.
//!
//! Nothing here knows what a repository is.

use std::io;
use std::path::PathBuf;

use crate::base::Kind;

pub mod meta;
mod mounts;
mod names;
pub mod owners;
pub mod path;
mod place;
pub mod reader;
pub mod roots;
pub mod rules;
pub mod visit;
pub mod walk;
pub mod xattr;

pub use meta::{FileKind, Meta};
pub use owners::Owners;
pub use place::Place;
pub use reader::{FileReader, ReadError, Segment, Verdict};
pub use roots::{Roots, read_list};
pub use rules::{RuleOptions, Rules};
pub use visit::{Skipped, Trouble, Visit, Visitor};
pub use walk::walk;
pub use xattr::{Xattrs, xattrs_at, xattrs_fd};

/// Why a backup cannot begin. What goes wrong with single files on the way is a
/// [`Trouble`] or a [`ReadError`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was named.
    #[error("no path was given to back up")]
    NoRoots,
    /// A path that was named does not exist or cannot be looked at.
    #[error("cannot back up {}", path.display())]
    Root {
        /// The path, as it was given.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A pattern that makes no sense.
    #[error("the pattern {pattern:?} ({place}) cannot be used: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The option, or the file and line, that it comes from.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of patterns or paths cannot be read.
    #[error("cannot read the list {}", path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// What the failure means.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Error::NoRoots | Error::Pattern { .. } => Kind::Invalid,
            Error::Root { source, .. } | Error::List { source, .. } => Kind::of_io(source),
        }
    }
}
