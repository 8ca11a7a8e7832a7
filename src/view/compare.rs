//! Two directories beside each other, and what differs between them.
//!
//! A node is named by what is in it, so two nodes of one name are two equal trees and are
//! not looked into: a comparison costs what differs and not what exists. A long directory
//! is cut by its names (see [`crate::repo::trees`]), so a change in it changes a few of
//! its nodes, and behind a change both sides come to the same cut again.
//!
//! What counts as a difference is what somebody who looks at both sides sees: kind, mode,
//! owner, content, target, device, extended attributes, and of all but directories the
//! time of the last change. A directory's own time and size follow from what is in it.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::base::ChunkId;
use crate::format::node::{DEPTH_MAX, Entry, FileKind, Node, Owner};
use crate::repo::browse::Found;
use crate::repo::{Error, Library, LoadedNode, Result};

/// In what two entries differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Aspects {
    /// A file is a directory now, and so on.
    pub kind: bool,
    /// The bytes of a file, the target of a link, the number of a device.
    pub content: bool,
    /// Permission bits.
    pub mode: bool,
    /// The numbers of user and group.
    pub owner: bool,
    /// When the content changed; never of directories.
    pub mtime: bool,
    /// Extended attributes, ACLs among them.
    pub xattrs: bool,
}

impl Aspects {
    /// In what these two differ.
    #[must_use]
    pub fn between(before: &Found, after: &Found) -> Aspects {
        let numbers = |found: &Found| found.known_owner().map(numbers).unwrap_or_default();
        Aspects::of((before.entry(), numbers(before)), (after.entry(), numbers(after)))
    }

    /// The same of two entries and the numbers of their owners: see [`numbers`].
    #[must_use]
    pub fn of(before: (&Entry, (u32, u32)), after: (&Entry, (u32, u32))) -> Aspects {
        let ((old, old_owner), (new, new_owner)) = (before, after);
        let is_dir = old.kind == FileKind::Dir && new.kind == FileKind::Dir;
        let bytes = |entry: &Entry| (entry.size, entry.sha256.clone());
        let content = match new.kind {
            FileKind::Dir => false,
            FileKind::File => bytes(old) != bytes(new),
            _ => (&old.target, old.device) != (&new.target, new.device),
        };
        Aspects {
            kind: old.kind != new.kind,
            content: old.kind == new.kind && content,
            mode: old.mode != new.mode,
            owner: old_owner != new_owner,
            mtime: !is_dir && old.mtime != new.mtime,
            xattrs: old.xattrs != new.xattrs,
        }
    }

    /// Whether they do not differ at all.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Aspects::default()
    }
}

/// The numbers of user and group.
#[must_use]
pub fn numbers(owner: &Owner) -> (u32, u32) {
    (owner.uid, owner.gid)
}

/// What is under one name on both sides.
#[derive(Debug)]
pub struct Difference<'p> {
    /// The path from the directories compared, without a leading `/`.
    pub path: &'p [u8],
    /// What was there before, if anything.
    pub before: Option<&'p Found>,
    /// What is there after, if anything.
    pub after: Option<&'p Found>,
    /// In what the two differ; nothing if only what is below them does, or if there is one.
    pub aspects: Aspects,
}

impl Difference<'_> {
    /// Whether what is there is not what was there, and not only what is below it.
    #[must_use]
    pub fn is_other(&self) -> bool {
        self.before.is_none() || self.after.is_none() || !self.aspects.is_empty()
    }
}

/// Whether to look below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Go {
    /// At what differs below it.
    Into,
    /// Not any further.
    Over,
}

/// Hands `visit` what differs between two directories, given by their nodes, in byte order
/// of the names, each directory before what is below it. A directory is handed over too if
/// only something below it differs. Where there is only one side, all of it differs.
///
/// Holds a leaf and the nodes above it for each level on each side.
///
/// # Errors
///
/// Those of the library, [`Error::Tree`], and what `visit` returns.
pub fn compare<E: From<Error>>(
    library: &dyn Library,
    before: Option<ChunkId>,
    after: Option<ChunkId>,
    mut visit: impl FnMut(&Difference<'_>) -> std::result::Result<Go, E>,
) -> std::result::Result<(), E> {
    if before == after {
        return Ok(());
    }
    let mut path: Vec<u8> = Vec::new();
    let mut open = vec![Pair::of(library, before, after, 0)];
    while let Some(pair) = open.last_mut() {
        path.truncate(pair.path_len);
        let Some((before, after)) = pair.next()? else {
            open.pop();
            continue;
        };
        let aspects = match (&before, &after) {
            (Some(before), Some(after)) => Aspects::between(before, after),
            _ => Aspects::default(),
        };
        let below = (before.as_ref().and_then(Found::dir), after.as_ref().and_then(Found::dir));
        let is_alone = before.is_none() || after.is_none();
        if !is_alone && aspects.is_empty() && below.0 == below.1 {
            continue;
        }
        let Some(name) = after.as_ref().or(before.as_ref()).map(|found| &found.entry().name) else {
            continue;
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let difference =
            Difference { path: &path, before: before.as_ref(), after: after.as_ref(), aspects };
        if visit(&difference)? == Go::Into && below.0 != below.1 {
            let length = path.len();
            open.push(Pair::of(library, below.0, below.1, length));
        }
    }
    Ok(())
}

/// Two directories that are gone through together.
struct Pair<'l> {
    before: Cursor<'l>,
    after: Cursor<'l>,
    path_len: usize,
}

impl<'l> Pair<'l> {
    fn of(
        library: &'l dyn Library,
        before: Option<ChunkId>,
        after: Option<ChunkId>,
        path_len: usize,
    ) -> Pair<'l> {
        let cursor = |dir: Option<ChunkId>| Cursor {
            library,
            waiting: dir.map(|dir| (dir, 0)).into_iter().collect(),
            leaf: None,
        };
        Pair { before: cursor(before), after: cursor(after), path_len }
    }

    /// What has the next name, on the sides that have it. Passes over nodes that both have.
    fn next(&mut self) -> Result<Option<(Option<Found>, Option<Found>)>> {
        loop {
            match (self.before.next_node(), self.after.next_node()) {
                (Some(one), Some(other)) if one == other => {
                    self.before.waiting.pop();
                    self.after.waiting.pop();
                }
                (Some(_), Some(_)) => {
                    // A node above leaves is compared with one before it is with those.
                    let (one, other) = (self.before.is_inner()?, self.after.is_inner()?);
                    if one || !other {
                        self.before.open()?;
                    }
                    if other || !one {
                        self.after.open()?;
                    }
                }
                (Some(_), None) => self.before.open()?,
                (None, Some(_)) => self.after.open()?,
                (None, None) => break,
            }
        }
        let (before, after) = (self.before.entry(), self.after.entry());
        let order = match (&before, &after) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(before), Some(after)) => {
                before.entry().name.as_slice().cmp(after.entry().name.as_slice())
            }
        };
        if order.is_le() {
            self.before.step();
        }
        if order.is_ge() {
            self.after.step();
        }
        Ok(Some((before.filter(|_| order.is_le()), after.filter(|_| order.is_ge()))))
    }
}

/// A place in a directory: in a leaf, or before a node.
struct Cursor<'l> {
    library: &'l dyn Library,
    /// Nodes that follow, the next one last, and how deep they are.
    waiting: Vec<(ChunkId, u32)>,
    /// The leaf that it is in, and the entry that is next; never behind the last.
    leaf: Option<(Arc<LoadedNode>, usize)>,
}

impl Cursor<'_> {
    /// The node before which it stands.
    fn next_node(&self) -> Option<ChunkId> {
        match self.leaf {
            Some(_) => None,
            None => self.waiting.last().map(|(id, _)| *id),
        }
    }

    fn is_inner(&self) -> Result<bool> {
        let Some(id) = self.next_node() else { return Ok(false) };
        Ok(matches!(self.library.node(&id)?.node, Node::Inner(_)))
    }

    /// Enters the node before which it stands.
    fn open(&mut self) -> Result<()> {
        let Some((id, depth)) = self.waiting.pop() else { return Ok(()) };
        let wrong = |why| Error::Tree { chunk: id, why };
        if depth > DEPTH_MAX {
            return Err(wrong("its nodes nest too deep"));
        }
        let node = self.library.node(&id)?;
        match &node.node {
            Node::Leaf(leaf) => {
                if !leaf.entries.is_empty() {
                    self.leaf = Some((node, 0));
                }
            }
            Node::Inner(children) => {
                for child in children.iter().rev() {
                    let below = node.refs.get(child.node as usize).copied();
                    let below = below.ok_or_else(|| wrong("a child is missing"))?;
                    self.waiting.push((below, depth + 1));
                }
            }
            _ => return Err(wrong("it is no directory")),
        }
        Ok(())
    }

    fn entry(&self) -> Option<Found> {
        let (node, place) = self.leaf.as_ref()?;
        Found::in_leaf(node, *place)
    }

    fn step(&mut self) {
        if let Some((node, place)) = &mut self.leaf {
            *place += 1;
            if Found::in_leaf(node, *place).is_none() {
                self.leaf = None;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
