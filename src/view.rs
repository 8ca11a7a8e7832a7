//! Views: which snapshot a time means, and how times and things are named.
//!
//! The command line and the mount speak of the past in the same words, so the
//! words are read and written here, once: times ([`time_spec`], [`time_name`]),
//! selectors ([`selector`]), and the rule that turns a time into snapshots
//! ([`as_of`]). All of it is functions of their arguments; the present and the
//! zone are handed in.

pub mod as_of;
pub mod compare;
pub mod error;
pub mod history;
pub mod namespace;
pub mod selector;
#[cfg(test)]
pub(crate) mod testing;
pub mod time_name;
pub mod time_spec;
pub mod tree;
pub mod zone;

pub use as_of::{Head, Timelines};
pub use selector::Selector;
pub use time_name::{instant_name, unique_names};
pub use time_spec::{Resolved, TimeError, TimeSpec};
pub use zone::Zone;
