//! The repository: chunks in packs, facts in records, trees of nodes.
//!
//! Everything above this layer asks for files and directories; everything below
//! knows only objects, rows or bytes.

pub mod error;
pub mod library;

pub use error::{Error, Result};
pub use library::{FileContent, Library, LoadedNode, SnapshotInfo, Whence};
