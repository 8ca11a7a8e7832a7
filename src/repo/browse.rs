//! Going through a stored tree by name, for whoever does not need numbers.
//!
//! Only the nodes on the way are held, so a directory of a million entries costs
//! one leaf at a time.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::ChunkId;
use crate::format::node::{DEPTH_MAX, Entry, Node, Owner};
use crate::repo::library::{FileContent, Library, LoadedNode, SnapshotInfo};
use crate::repo::{Error, Result};

/// An entry, in the node or the snapshot that holds it.
#[derive(Debug, Clone)]
pub struct Found(At);

#[derive(Debug, Clone)]
enum At {
    /// The root of a snapshot.
    Root(Arc<SnapshotInfo>),
    /// An entry of a leaf, which has it: only [`Found::in_leaf`] makes this.
    Leaf(Arc<LoadedNode>, usize),
}

impl Found {
    /// The root of a snapshot.
    #[must_use]
    pub fn root(info: &Arc<SnapshotInfo>) -> Found {
        Found(At::Root(Arc::clone(info)))
    }

    /// The entry at that place, if the node is a leaf that has it.
    #[must_use]
    pub fn in_leaf(node: &Arc<LoadedNode>, place: usize) -> Option<Found> {
        match &node.node {
            Node::Leaf(leaf) if place < leaf.entries.len() => {
                Some(Found(At::Leaf(Arc::clone(node), place)))
            }
            _ => None,
        }
    }

    /// The entry.
    ///
    /// # Panics
    ///
    /// Never: it is only made for an entry that is there.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        match &self.0 {
            At::Root(info) => &info.snapshot.root,
            At::Leaf(node, place) => match &node.node {
                Node::Leaf(leaf) => &leaf.entries[*place],
                _ => unreachable!("only leaves have entries"),
            },
        }
    }

    /// The chunks that its places point into.
    #[must_use]
    pub fn refs(&self) -> &[ChunkId] {
        match &self.0 {
            At::Root(info) => &info.refs,
            At::Leaf(node, _) => &node.refs,
        }
    }

    /// Who owns it; none where it does not say.
    #[must_use]
    pub fn known_owner(&self) -> Option<&Owner> {
        let owners = match &self.0 {
            At::Root(info) => &info.snapshot.owners,
            At::Leaf(node, _) => match &node.node {
                Node::Leaf(leaf) => &leaf.owners,
                _ => return None,
            },
        };
        owners.get(self.entry().owner as usize)
    }

    /// Who owns it; root where it does not say.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.known_owner().cloned().unwrap_or_default()
    }

    /// The root node of a directory; none for anything else.
    #[must_use]
    pub fn dir(&self) -> Option<ChunkId> {
        let subtree = self.entry().subtree?;
        self.refs().get(subtree.node as usize).copied()
    }

    /// The bytes of a regular file.
    #[must_use]
    pub fn content(&self) -> FileContent {
        FileContent::of(self.entry(), self.refs())
    }
}

/// Hands every entry of a directory to `visit`, in byte order of the names, until
/// it breaks.
///
/// # Errors
///
/// Those of the library, [`Error::Tree`], and what `visit` returns.
pub fn each_entry<E: From<Error>, B>(
    library: &dyn Library,
    dir: ChunkId,
    mut visit: impl FnMut(Found) -> std::result::Result<ControlFlow<B>, E>,
) -> std::result::Result<Option<B>, E> {
    // Nodes still to be gone through, the next one last.
    let mut waiting = vec![(dir, 0)];
    while let Some((id, depth)) = waiting.pop() {
        if depth > DEPTH_MAX {
            return Err(Error::Tree { chunk: id, why: "its nodes nest too deep" }.into());
        }
        let node = library.node(&id)?;
        match &node.node {
            Node::Leaf(leaf) => {
                for place in 0..leaf.entries.len() {
                    if let ControlFlow::Break(value) =
                        visit(Found(At::Leaf(Arc::clone(&node), place)))?
                    {
                        return Ok(Some(value));
                    }
                }
            }
            Node::Inner(children) => {
                let ids: Vec<ChunkId> = children
                    .iter()
                    .filter_map(|child| node.refs.get(child.node as usize).copied())
                    .collect();
                library.prefetch_nodes(&ids, false);
                waiting.extend(ids.into_iter().rev().map(|id| (id, depth + 1)));
            }
            _ => return Err(Error::Tree { chunk: id, why: "it is no directory" }.into()),
        }
    }
    Ok(None)
}

/// The entry of that name in a directory.
///
/// # Errors
///
/// Those of the library, and [`Error::Tree`].
pub fn find(library: &dyn Library, dir: ChunkId, name: &[u8]) -> Result<Option<Found>> {
    let mut id = dir;
    for _ in 0..=DEPTH_MAX {
        let node = library.node(&id)?;
        match &node.node {
            Node::Leaf(leaf) => {
                let place = leaf.entries.binary_search_by(|e| e.name.as_slice().cmp(name)).ok();
                return Ok(place.map(|place| Found(At::Leaf(Arc::clone(&node), place))));
            }
            Node::Inner(children) => {
                let after = children.partition_point(|child| child.first.as_slice() <= name);
                let Some(child) = after.checked_sub(1).and_then(|place| children.get(place)) else {
                    return Ok(None);
                };
                let next = node.refs.get(child.node as usize).copied();
                id = next.ok_or(Error::Tree { chunk: id, why: "a child is missing" })?;
            }
            _ => return Err(Error::Tree { chunk: id, why: "it is no directory" }),
        }
    }
    Err(Error::Tree { chunk: dir, why: "its nodes nest too deep" })
}
