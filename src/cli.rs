//! The command line: what is typed, what is shown, and how it ends.
//!
//! Everything here is about people and shells. What a command *does* is an operation
//! of a lower layer, which a daemon could call as well; here its options are read,
//! its progress drawn, its report printed, and its failure turned into an exit code.

pub mod config;
pub mod env;
pub mod exit;
pub mod output;
pub mod secret;
pub mod terminal;
