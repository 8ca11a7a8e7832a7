//! Whether the log has the same records as when all of them were known here.
//!
//! A store that can say so for less than a listing costs gives its log a mark. It is kept in
//! the index, with where the listing began, once everything that was listed has been folded
//! and nothing was wrong with any of it. As long as the log has that mark a listing that
//! begins there or later would show nothing that is new, and is left out.
//!
//! A full listing, once a day, is never left out.

use crate::repo::{Repository, Result};
use crate::store::Mark;

/// Where the index keeps the mark, and behind it where the listing began.
const KEY: &str = "log-mark";

/// Whether a listing from `start` on would show only what is known.
pub(super) fn is_unchanged(repo: &Repository, mark: &Mark, start: &str) -> Result<bool> {
    let kept = repo.index().meta(KEY)?;
    let from = kept.as_ref().and_then(|kept| kept.strip_prefix(&mark.names));
    Ok(from.is_some_and(|from| from <= start.as_bytes()))
}

/// What is to be remembered of the mark that the log had before a listing from `start` on, of
/// which everything is known now.
pub(super) fn note(mark: &Mark, start: &str) -> (&'static str, Vec<u8>) {
    (KEY, [&mark.names, start.as_bytes()].concat())
}
