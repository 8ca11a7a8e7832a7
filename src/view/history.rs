//! What was under one path of a source, through all its snapshots.
//!
//! A directory is followed by its [`Course`]: which node it was, from which snapshot on. What
//! is in it follows from that by looking a name up once in each of those nodes, or, for all
//! names at once, by comparing each node with the next. So snapshots in which nothing near
//! the path changed cost nothing but their roots, and whoever goes through all of history
//! directory by directory looks at each node once.
//!
//! Two states are one version if nobody could tell them apart: see [`Aspects`]. A file that
//! was deleted and came back is a version of its own.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::ops::Range;
use std::sync::Arc;

use crate::base::{ChunkId, SnapshotId};
use crate::format::node::{Entry, FileKind, Owner};
use crate::repo::browse::{self, Found};
use crate::repo::{Library, Result, SnapshotInfo};
use crate::source::path;
use crate::view::compare::{Aspects, Go, compare, numbers};

/// Which node a directory was, in the snapshots of a source in their order. About 40 bytes
/// for each time that it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// From which snapshot on it was that node, or was not there; no two neighbours are
    /// alike.
    steps: Vec<(usize, Option<ChunkId>)>,
    /// How many snapshots there are.
    snapshots: usize,
}

impl Course {
    /// That of the root.
    #[must_use]
    pub fn of_root(snapshots: &[Arc<SnapshotInfo>]) -> Course {
        let roots = snapshots.iter().map(|info| Found::root(info).dir());
        Course::of(roots.enumerate(), snapshots.len())
    }

    /// What a name in it was, and that one's own course. Looks the name up in each node.
    ///
    /// # Errors
    ///
    /// The library's.
    pub fn follow(
        &self,
        library: &dyn Library,
        snapshots: &[Arc<SnapshotInfo>],
        name: &[u8],
    ) -> Result<(Vec<Version>, Course)> {
        let mut steps = Vec::with_capacity(self.steps.len());
        let mut versions = Vec::new();
        for (span, dir) in self.spans() {
            let found = match dir {
                Some(dir) => browse::find(library, dir, name)?,
                None => None,
            };
            steps.push((span.start, found.as_ref().and_then(Found::dir)));
            add(&mut versions, &snapshots[span], found.as_ref().map(There::of));
        }
        Ok((versions, Course::of(steps, self.snapshots)))
    }

    /// How many different nodes follow each other in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there are no snapshots.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn of(steps: impl IntoIterator<Item = (usize, Option<ChunkId>)>, snapshots: usize) -> Course {
        let mut steps: Vec<_> = steps.into_iter().collect();
        steps.dedup_by(|next, before| next.1 == before.1);
        Course { steps, snapshots }
    }

    /// Each node, with the snapshots in which the directory was that.
    fn spans(&self) -> impl Iterator<Item = (Range<usize>, Option<ChunkId>)> {
        let ends = self.steps.iter().skip(1).map(|(from, _)| *from).chain([self.snapshots]);
        self.steps.iter().zip(ends).map(|((from, dir), end)| (*from..end, *dir))
    }
}

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
}

impl There {
    /// Nothing of the node that it is in is kept: a history can be long.
    fn of(found: &Found) -> There {
        let entry = Entry { content: None, ..found.entry().clone() };
        There { entry, owner: found.owner() }
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
/// snapshots of a source, which must be in order; and its course. No versions if nothing ever
/// was; else the first one is there, and what follows may be times without it.
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
) -> Result<(Vec<Version>, Course)> {
    let root = (root_versions(snapshots), Course::of_root(snapshots));
    path::names(path).try_fold(root, |(_, course), name| course.follow(library, snapshots, name))
}

/// The versions of the root.
#[must_use]
pub fn root_versions(snapshots: &[Arc<SnapshotInfo>]) -> Vec<Version> {
    let mut versions = Vec::new();
    for (n, info) in snapshots.iter().enumerate() {
        add(&mut versions, &snapshots[n..=n], Some(There::of(&Found::root(info))));
    }
    versions
}

/// Adds what was there in the snapshots that follow.
fn add(versions: &mut Vec<Version>, snapshots: &[Arc<SnapshotInfo>], state: Option<There>) {
    let ([first, ..], [.., last]) = (snapshots, snapshots) else { return };
    let aspects = match versions.last_mut() {
        None if state.is_none() => return,
        None => Aspects::default(),
        Some(before) => match differ(before, state.as_ref()) {
            Some(aspects) if aspects.is_empty() => {
                before.last = Arc::clone(last);
                before.snapshots += snapshots.len() as u64;
                return;
            }
            aspects => aspects.unwrap_or_default(),
        },
    };
    let (first, last) = (Arc::clone(first), Arc::clone(last));
    versions.push(Version { first, last, snapshots: snapshots.len() as u64, state, aspects });
}

/// In what two states differ; none if one of them is nothing and the other is not.
fn differ(before: &Version, after: Option<&There>) -> Option<Aspects> {
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
    /// What it was, and its course; none if that was too much to keep of all names.
    pub past: Option<(Vec<Version>, Course)>,
}

/// What is known so far of a name.
struct Begun {
    kind: FileKind,
    /// Places of the snapshots: the first that shows it, and the one that has it no more.
    first: usize,
    gone: Option<usize>,
    /// From when on it was what, and which node.
    states: Vec<(usize, Option<There>)>,
    steps: Vec<(usize, Option<ChunkId>)>,
}

/// Every name that ever was in a directory, in the snapshots that its course is of, and what
/// it was if all of them together had no more than `most` states. Empty if there never was
/// such a directory. Holds all of them.
///
/// # Errors
///
/// The library's.
pub fn names(
    library: &dyn Library,
    snapshots: &[Arc<SnapshotInfo>],
    course: &Course,
    most: usize,
) -> Result<BTreeMap<Vec<u8>, NameSeen>> {
    let mut begun: BTreeMap<Vec<u8>, Begun> = BTreeMap::new();
    let (mut dir, mut states) = (None, 0);
    for (span, now) in course.spans() {
        let at = span.start;
        compare(library, dir, now, |difference| -> Result<Go> {
            let after = difference.after;
            states += usize::from(difference.is_other());
            let name = match begun.entry(difference.path.to_vec()) {
                Slot::Occupied(slot) => slot.into_mut(),
                Slot::Vacant(slot) => slot.insert(Begun {
                    kind: after.map_or(FileKind::File, |found| found.entry().kind),
                    first: at,
                    gone: None,
                    states: Vec::new(),
                    steps: Vec::new(),
                }),
            };
            name.kind = after.map_or(name.kind, |found| found.entry().kind);
            name.gone = after.is_none().then_some(at);
            if states > most {
                (name.states, name.steps) = (Vec::new(), Vec::new());
                return Ok(Go::Over);
            }
            if difference.is_other() {
                name.states.push((at, after.map(There::of)));
            }
            name.steps.push((at, after.and_then(Found::dir)));
            Ok(Go::Over)
        })?;
        dir = now;
    }
    let is_kept = states <= most;
    let seen = begun.into_iter().filter_map(|(name, begun)| {
        let last = begun.gone.unwrap_or(snapshots.len()).checked_sub(1)?;
        let seen = NameSeen {
            kind: begun.kind,
            first: Arc::clone(snapshots.get(begun.first)?),
            last: Arc::clone(snapshots.get(last)?),
            is_present: begun.gone.is_none(),
            past: is_kept.then(|| begun.past(snapshots)),
        };
        Some((name, seen))
    });
    Ok(seen.collect())
}

impl Begun {
    fn past(self, snapshots: &[Arc<SnapshotInfo>]) -> (Vec<Version>, Course) {
        let ends: Vec<usize> = self.states.iter().skip(1).map(|(from, _)| *from).collect();
        let mut versions = Vec::new();
        for ((from, state), end) in
            self.states.into_iter().zip(ends.into_iter().chain([snapshots.len()]))
        {
            add(&mut versions, &snapshots[from..end], state);
        }
        let before = (self.first > 0).then_some((0, None));
        (versions, Course::of(before.into_iter().chain(self.steps), snapshots.len()))
    }
}

#[cfg(test)]
mod tests;
