//! `ls`, `cat`, `stat`: looking at the past without mounting it.

mod describe;
mod list;

use std::sync::Arc;

use crate::base::{Kind, Stop};
use crate::format::node::FileKind;
use crate::ops::select::Selected;
use crate::ops::{Error, Result};
use crate::repo::{self, Library};
use crate::source::path::shown;
use crate::view::error::Reach;
use crate::view::tree::{Found, Places, Tree};

pub use describe::{Description, describe, kind_name, mode_text};
pub use list::{Listed, Unread, Walk};

/// How many bytes of a file are read at once.
const READ_BYTES: usize = 4 << 20;

/// The tree that a selection is in, and the entry there with its number.
///
/// # Errors
///
/// The library's.
pub fn in_tree(library: &Arc<dyn Library>, selected: &Selected) -> Result<(Tree, Found)> {
    let places = Arc::new(Places::default());
    let tree = Tree::new(Arc::clone(library), Arc::clone(&selected.info), places);
    let found = tree.at(&selected.path, Reach::Store)?.ok_or_else(|| Error::NotFound {
        what: format!("/{} is not in that snapshot", shown(&selected.path)),
    })?;
    Ok((tree, found))
}

/// Hands the bytes of the selected file to `write`, in order. Returns how many.
///
/// # Errors
///
/// [`Error::Invalid`] for what is no regular file, the library's errors, and what
/// `write` returns.
pub fn cat<E: From<Error>>(
    library: &dyn Library,
    selected: &Selected,
    stop: &Stop,
    mut write: impl FnMut(&[u8]) -> std::result::Result<(), E>,
) -> std::result::Result<u64, E> {
    let entry = selected.found.entry();
    let path = shown(&selected.path);
    if entry.kind != FileKind::File {
        let target = entry.target.as_ref().map(|t| format!(" to {}", shown(t)));
        let kind = kind_name(entry.kind);
        let what = format!(
            "/{path} is a {kind}{} and holds no bytes of its own",
            target.unwrap_or_default()
        );
        return Err(Error::Invalid { what }.into());
    }
    let content = selected.found.content();
    let mut offset = 0;
    while offset < content.size() {
        if stop.is_raised() {
            return Err(Error::from(repo::Error::Interrupted).into());
        }
        let bytes = library.read(&content, offset, READ_BYTES).map_err(Error::from)?;
        if bytes.is_empty() {
            break;
        }
        offset += bytes.len() as u64;
        write(&bytes)?;
    }
    if offset == content.size() {
        return Ok(offset);
    }
    let (got, expected) = (usize::try_from(offset), usize::try_from(content.size()));
    let short = crate::view::error::Error::Short {
        got: got.unwrap_or(usize::MAX),
        expected: expected.unwrap_or(usize::MAX),
    };
    Err(Error::from(short).into())
}

/// Whether a failure is of one file or directory only, so that the rest can go on.
#[must_use]
pub fn is_local(error: &Error) -> bool {
    matches!(error.kind(), Kind::Damaged | Kind::NotFound)
}
