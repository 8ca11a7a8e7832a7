//! asof: backups in a bucket, and every past moment mounted as a file system.
//!
//! The folders are the architecture. A module imports only from lower layers,
//! never sideways, never up; `tests/tidy.rs` holds the table and checks it:
//!
//! ```text
//! 7  cli
//! 6  ops    mount
//! 5  view
//! 4  repo   target
//! 3  store  index  cache  source  capture
//! 2  format
//! 1  codec
//! 0  base
//! ```
//!
//! What each folder is for is said at its head; how data flows through them is in
//! `docs/ARCHITECTURE.md`; the bytes are in `docs/FORMAT.md`.

// Tests may say on standard error that they could not run, and poll the kernel.
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::print_stderr))]
#![cfg_attr(test, allow(clippy::needless_pass_by_value))]

pub mod base;
pub mod cache;
pub mod capture;
pub mod cli;
pub mod codec;
pub mod format;
pub mod index;
pub mod mount;
pub mod ops;
pub mod repo;
pub mod source;
pub mod store;
pub mod target;
pub mod view;
