//! Everything that ever was in a source, each version once, with when it was there.
//!
//! The first snapshot is gone through whole, and every other is compared with the one before
//! it (see [`compare`]), so all of history costs one tree and what changed since. What a
//! caller does not want is let go at once: held is what he wants and is still there.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::{ChunkId, UnixTime};
use crate::format::node::{Entry, Owner};
use crate::repo::browse::Found;
use crate::repo::{Error, Library, SnapshotInfo};
use crate::view::compare::{Go, compare};

/// A version of a path, and when it was there.
#[derive(Debug, Clone)]
pub struct Appearance {
    /// The path, without a leading `/`.
    pub path: Vec<u8>,
    /// What was there.
    pub entry: Entry,
    /// Who owned it.
    pub owner: Owner,
    /// The first snapshot that shows it.
    pub first: Arc<SnapshotInfo>,
    /// The last one in a row.
    pub last: Arc<SnapshotInfo>,
    /// What came after it.
    pub end: End,
}

/// What came after a version, and when the snapshot was taken that shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing yet: the newest snapshot shows it.
    Present,
    /// Another one of the same path.
    Replaced(UnixTime),
    /// The next snapshot has nothing there.
    Deleted(UnixTime),
}

impl End {
    /// When it was seen to have ended; none if it has not.
    #[must_use]
    pub fn at(self) -> Option<UnixTime> {
        match self {
            End::Present => None,
            End::Replaced(at) | End::Deleted(at) => Some(at),
        }
    }
}

/// Hands `visit` every version of every path but the root in the snapshots of a source, which
/// must be in order: each when it ends, and in the end those that are still there. Only what
/// `wants` says yes to, which is asked once for each version.
///
/// # Errors
///
/// The library's, and what `wants` and `visit` return.
pub fn appearances<E: From<Error>>(
    library: &dyn Library,
    snapshots: &[Arc<SnapshotInfo>],
    mut wants: impl FnMut(&[u8], &Entry) -> Result<bool, E>,
    mut visit: impl FnMut(Appearance) -> Result<(), E>,
) -> Result<(), E> {
    let mut open: HashMap<Vec<u8>, Appearance> = HashMap::new();
    let mut before: Option<&Arc<SnapshotInfo>> = None;
    for info in snapshots {
        let (old, new) = (before.and_then(root_of), root_of(info));
        compare(library, old, new, |difference| -> Result<Go, E> {
            // What only holds something else is as it was.
            if difference.is_other() {
                if let (Some(mut ended), Some(before)) = (open.remove(difference.path), before) {
                    ended.last = Arc::clone(before);
                    let at = info.shown_from();
                    let is_gone = difference.after.is_none();
                    ended.end = if is_gone { End::Deleted(at) } else { End::Replaced(at) };
                    visit(ended)?;
                }
                if let Some(found) = difference.after
                    && wants(difference.path, found.entry())?
                {
                    let path = difference.path.to_vec();
                    open.insert(path.clone(), begun(path, found, info));
                }
            }
            Ok(Go::Into)
        })?;
        before = Some(info);
    }
    let Some(newest) = before else { return Ok(()) };
    let mut still: Vec<Appearance> = open.into_values().collect();
    still.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    for mut appearance in still {
        appearance.last = Arc::clone(newest);
        visit(appearance)?;
    }
    Ok(())
}

fn begun(path: Vec<u8>, found: &Found, info: &Arc<SnapshotInfo>) -> Appearance {
    Appearance {
        path,
        entry: found.entry().clone(),
        owner: found.owner(),
        first: Arc::clone(info),
        last: Arc::clone(info),
        end: End::Present,
    }
}

fn root_of(info: &Arc<SnapshotInfo>) -> Option<ChunkId> {
    let subtree = info.snapshot.root.subtree?;
    info.refs.get(subtree.node as usize).copied()
}

#[cfg(test)]
mod tests;
