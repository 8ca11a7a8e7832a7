//! The operations: one file a verb, options in, report out.
//!
//! A command line and a daemon call the same functions. Nothing here prints, asks
//! or exits; how far it came is in [`crate::base::Progress`], how it ended in the
//! report, and why it failed in the error.

pub mod backup;
pub mod error;
pub mod restore;
pub mod select;

pub use error::{Error, Result};
