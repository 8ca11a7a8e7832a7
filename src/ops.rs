//! The operations: one file a verb, options in, report out.
//!
//! A command line and a daemon call the same functions. Nothing here prints, asks
//! or exits; how far it came is in [`crate::base::Progress`], how it ended in the
//! report, and why it failed in the error.

pub mod backup;
pub mod check;
pub mod diff;
pub mod error;
pub mod find;
pub mod follow;
pub mod forget;
pub mod gc;
pub mod history;
pub mod index;
pub mod keys;
pub mod look;
pub mod moments;
pub mod open;
pub mod parameters;
pub mod replace;
pub mod restore;
pub mod select;
pub mod snapshots;
pub mod stats;
pub mod status;
mod sweep;
pub mod thin;
pub mod upgrade;
pub mod verify_log;

pub use error::{Error, Result};
