//! The repository: chunks in packs, facts in records, trees of nodes.
//!
//! Everything above this layer asks for files and directories; everything below
//! knows only objects, rows or bytes.

pub mod browse;
mod certificates;
pub mod chains;
pub mod checkpoint;
pub mod error;
pub mod grace;
pub mod keyring;
pub mod keys;
pub mod library;
pub mod log;
pub mod packer;
pub mod reader;
pub mod repository;
pub mod rules;
pub mod shelf;
pub mod standing;
pub mod store_clock;
pub mod streams;
pub mod trees;
pub mod writer;

pub use error::{Error, Result};
pub use library::{FileContent, Library, LoadedNode, SnapshotInfo, Whence};
pub use repository::{InitOptions, LocalOptions, Repository, init};
pub use rules::Rules;
pub use shelf::Shelf;
