//! asof: backups in a bucket, and every past moment mounted as a file system.
//!
//! The folders are the architecture. A module imports only from lower layers,
//! never sideways, never up; `tests/tidy.rs` holds the table and checks it:
//!
//! ```text
//! 6  cli
//! 5  ops    mount
//! 4  view
//! 3  repo
//! 2  store  index  cache  source  target
//! 1  codec  format
//! 0  base
//! ```
//!
//! What each folder is for is said at its head; how data flows through them is in
//! `docs/ARCHITECTURE.md`; the bytes are in `docs/FORMAT.md`.

pub mod base;
pub mod source;
pub mod store;
pub mod target;
