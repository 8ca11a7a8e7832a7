//! What was under one path of a source, through all its snapshots.
//!
//! The snapshots are gone through in order, and of each only the nodes on the way to the
//! path are looked at: where a directory on the way is the same node as in the snapshot
//! before, so is everything below it. So a history costs a node or two for each snapshot,
//! and nothing for those in which nothing near the path changed.
//!
//! Two states are one version if nobody could tell them apart: see [`Aspects`]. A file that
//! was deleted and came back is a version of its own.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;

use crate::base::{ChunkId, SnapshotId};
use crate::format::node::{Entry, FileKind, Owner};
use crate::repo::browse::{self, Found};
use crate::repo::{Library, Result, SnapshotInfo};
use crate::view::compare::{Aspects, Go, compare, numbers};

/// What was there in some snapshots in a row.
#[derive(Debug, Clone)]
pub struct Version {
    /// The first snapshot that shows it.
    pub first: Arc<SnapshotInfo>,
    /// The last one in a row.
    pub last: Arc<SnapshotInfo>,
    /// How many there are in that row.
    pub snapshots: u64,
    /// What was there; nothing if the path did not exist then.
    pub state: Option<There>,
    /// In what it differs from the version before; nothing for the first, and where there
    /// was nothing before or now.
    pub aspects: Aspects,
}

/// Something that was under a path.
#[derive(Debug, Clone)]
pub struct There {
    /// What it was, but for what leads to its content.
    pub entry: Entry,
    /// Who owned it.
    pub owner: Owner,
    /// The root node of a directory.
    dir: Option<ChunkId>,
}

impl There {
    /// Nothing of the node that it is in is kept: a history can be long.
    fn of(found: &Found) -> There {
        let entry = Entry { content: None, ..found.entry().clone() };
        There { entry, owner: found.owner(), dir: found.dir() }
    }
}

/// The version that a snapshot shows; `snapshots` are those that they are of. None if it
/// is not one of them, or comes before the first version.
#[must_use]
pub fn shown_by<'v>(
    versions: &'v [Version],
    snapshots: &[Arc<SnapshotInfo>],
    id: &SnapshotId,
) -> Option<&'v Version> {
    let place = |id: &SnapshotId| snapshots.iter().position(|info| info.snapshot.id == *id);
    let mut left = place(id)?.checked_sub(place(&versions.first()?.first.snapshot.id)?)? as u64;
    versions.iter().find(|version| {
        let here = left < version.snapshots;
        left = left.saturating_sub(version.snapshots);
        here
    })
}

/// The versions of what was under a path, given without slashes at either end, in the
/// snapshots of a source, which must be in order. None if nothing ever was; else the first
/// one is there, and what follows may be times without it.
///
/// Symbolic links on the way are not followed.
///
/// # Errors
///
/// The library's.
pub fn versions(
    library: &dyn Library,
    snapshots: &[Arc<SnapshotInfo>],
    path: &[u8],
) -> Result<Vec<Version>> {
    let mut trail = Trail::new(path);
    let mut versions: Vec<Version> = Vec::new();
    for info in snapshots {
        let is_same = trail.follow(library, info)?;
        let state = trail.there.clone();
        if let Some(last) = versions.last_mut() {
            let aspects = if is_same { Some(Aspects::default()) } else { differ(last, &state) };
            match aspects {
                Some(aspects) if aspects.is_empty() => {
                    last.last = Arc::clone(info);
                    last.snapshots += 1;
                    continue;
                }
                aspects => {
                    let mut next = version(info, state);
                    next.aspects = aspects.unwrap_or_default();
                    versions.push(next);
                }
            }
        } else if state.is_some() {
            versions.push(version(info, state));
        }
    }
    Ok(versions)
}

fn version(info: &Arc<SnapshotInfo>, state: Option<There>) -> Version {
    Version {
        first: Arc::clone(info),
        last: Arc::clone(info),
        snapshots: 1,
        state,
        aspects: Aspects::default(),
    }
}

/// In what two states differ; none if one of them is nothing and the other is not.
fn differ(before: &Version, after: &Option<There>) -> Option<Aspects> {
    match (&before.state, after) {
        (None, None) => Some(Aspects::default()),
        (Some(before), Some(after)) => {
            let of = |there: &There| numbers(&there.owner);
            Some(Aspects::of((&before.entry, of(before)), (&after.entry, of(after))))
        }
        _ => None,
    }
}

/// A name that was in a directory.
#[derive(Debug, Clone)]
pub struct NameSeen {
    /// What it was when it was seen last.
    pub kind: FileKind,
    /// The first snapshot that shows it.
    pub first: Arc<SnapshotInfo>,
    /// The last one.
    pub last: Arc<SnapshotInfo>,
    /// Whether it is in the last snapshot of all.
    pub is_present: bool,
}

/// Every name that ever was in the directory under a path, in the snapshots of a source,
/// which must be in order. Empty if there never was such a directory. Holds all of them.
///
/// # Errors
///
/// The library's.
pub fn names(
    library: &dyn Library,
    snapshots: &[Arc<SnapshotInfo>],
    path: &[u8],
) -> Result<BTreeMap<Vec<u8>, NameSeen>> {
    let mut trail = Trail::new(path);
    let mut names: BTreeMap<Vec<u8>, NameSeen> = BTreeMap::new();
    let mut dir = None;
    let mut before: Option<Arc<SnapshotInfo>> = None;
    for info in snapshots {
        trail.follow(library, info)?;
        let now = trail.there.as_ref().and_then(|there| there.dir);
        compare(library, dir, now, |difference| -> Result<Go> {
            match (difference.before, difference.after, &before) {
                (Some(_), None, Some(before)) => {
                    if let Some(seen) = names.get_mut(difference.path) {
                        seen.last = Arc::clone(before);
                        seen.is_present = false;
                    }
                }
                (_, Some(after), _) => {
                    let kind = after.entry().kind;
                    match names.entry(difference.path.to_vec()) {
                        Slot::Occupied(mut slot) => {
                            let seen = slot.get_mut();
                            (seen.kind, seen.is_present) = (kind, true);
                        }
                        Slot::Vacant(slot) => {
                            let (first, last) = (Arc::clone(info), Arc::clone(info));
                            slot.insert(NameSeen { kind, first, last, is_present: true });
                        }
                    }
                }
                _ => {}
            }
            Ok(Go::Over)
        })?;
        dir = now;
        before = Some(Arc::clone(info));
    }
    if let Some(newest) = before {
        names.values_mut().filter(|seen| seen.is_present).for_each(|seen| {
            seen.last = Arc::clone(&newest);
        });
    }
    Ok(names)
}

/// The way to a path, as the last snapshot had it.
struct Trail<'p> {
    names: Vec<&'p [u8]>,
    /// The directories on the way, from the root on; as many as there were.
    dirs: Vec<ChunkId>,
    there: Option<There>,
}

impl<'p> Trail<'p> {
    fn new(path: &'p [u8]) -> Trail<'p> {
        let names = crate::source::path::names(path).collect();
        Trail { names, dirs: Vec::new(), there: None }
    }

    /// Goes the way in a snapshot. True if it is known to end where it ended before.
    fn follow(&mut self, library: &dyn Library, info: &Arc<SnapshotInfo>) -> Result<bool> {
        let mut there = Found::root(info);
        for (level, name) in self.names.iter().enumerate() {
            let Some(dir) = there.dir() else {
                self.dirs.truncate(level);
                self.there = None;
                return Ok(false);
            };
            match self.dirs.get(level) {
                Some(before) if *before == dir => return Ok(true),
                // What is below may still be as it was.
                Some(_) => self.dirs[level] = dir,
                None => self.dirs.push(dir),
            }
            let Some(found) = browse::find(library, dir, name)? else {
                self.dirs.truncate(level + 1);
                self.there = None;
                return Ok(false);
            };
            there = found;
        }
        self.there = Some(There::of(&there));
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
