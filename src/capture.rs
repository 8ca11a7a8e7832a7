//! Sources that are followed while they live, rather than walked now and then.
//!
//! A walk sees a database at the moments when a backup ran. What is captured here is
//! every transaction that was committed, in order and with its time, so that the
//! database can be shown as it was after each of them.
//!
//! Capture is done from outside: nothing is written to what is followed, no extension
//! is loaded into it, and its program need not know. What cannot be followed is said
//! with a reason, so that the caller can fall back to consistent snapshots.
//!
//! Nothing here knows what a repository is.

pub mod sqlite;
