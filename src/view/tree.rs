//! The tree of one snapshot, and the way from names and numbers to entries.
//!
//! Every entry has a rank: its number when the tree is walked in order, each
//! directory before what is in it, the root being 0. Ranks are not stored. An
//! entry takes 1 and the entries of its subtree, inner nodes and entries say how
//! many that are, so a rank is found by descending from the root and passing over
//! what lies before it:
//!
//! ```text
//! dir 10 ─ inner ┬─ leaf  a 11, b/ 12 (3 below it), c 16
//!                └─ leaf  d 17, e 18
//! ```
//!
//! What is decoded was checked by itself, but two nodes may contradict each other:
//! a parent may promise more than there is. Every step therefore compares what was
//! promised with what is there, and a tree that contradicts itself is an error of
//! that directory and not a wrong file. Since what remains to be found shrinks at
//! every step, and no directory's nodes are deeper than [`DEPTH_MAX`](crate::format::node::DEPTH_MAX), every
//! descent ends.
//!
//! No question waits unless it may: each takes a [`Reach`], and with
//! [`Reach::Memory`] ends in [`Error::WouldBlock`] at the first node that is not in
//! memory.

mod links;
mod list;
mod places;
mod walk;

use std::sync::Arc;

use crate::base::ChunkId;
use crate::format::node::{Entry, FileKind, Node, Owner};
use crate::repo::browse;
use crate::repo::{self, FileContent, Library, LoadedNode, SnapshotInfo};
use crate::view::error::{Error, Reach, Result};

pub use self::links::Identity;
pub use self::list::{Listed, Listing};
pub use self::places::Places;

use self::places::{DirPlace, EntryPlace};
use self::walk::{LeafAt, Seek};

/// No rank of a tree is as large; numbers from here on are free for other uses.
pub const RANK_LIMIT: u64 = (1 << 40) - 16;

/// An entry that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its number in the tree.
    pub rank: u64,
    at: browse::Found,
    /// The leaf that it stands in, and its place there; none for the root.
    leaf: Option<(ChunkId, Arc<LoadedNode>, usize)>,
}

impl Found {
    /// The entry of that index, if the node is a leaf that has it.
    fn in_leaf(rank: u64, id: ChunkId, node: Arc<LoadedNode>, index: usize) -> Option<Found> {
        let at = browse::Found::in_leaf(&node, index)?;
        Some(Found { rank, at, leaf: Some((id, node, index)) })
    }

    /// The entry.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        self.at.entry()
    }

    /// The chunks that the entry's places refer to.
    #[must_use]
    pub fn refs(&self) -> &[ChunkId] {
        self.at.refs()
    }

    /// Who owns it; nobody where the node does not say.
    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        self.at.known_owner()
    }

    /// The bytes of a regular file.
    #[must_use]
    pub fn content(&self) -> FileContent {
        self.at.content()
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.entry().kind == FileKind::Dir
    }

    /// The leaf that it stands in, and its place there; none for the root.
    #[must_use]
    pub fn leaf(&self) -> Option<(ChunkId, usize)> {
        self.leaf.as_ref().map(|(id, _, index)| (*id, *index))
    }

    /// The entries that follow it in its leaf, in order: their places there, their ranks,
    /// and themselves.
    pub fn following(&self) -> impl Iterator<Item = (usize, u64, &Entry)> {
        let (entries, index) = match &self.leaf {
            Some((_, node, index)) => match &node.node {
                Node::Leaf(leaf) => (leaf.entries.as_slice(), *index),
                _ => (&[][..], 0),
            },
            None => (&[][..], 0),
        };
        let mut next = self.rank;
        entries
            .iter()
            .enumerate()
            .skip(index)
            .map(move |(at, entry)| {
                let rank = next;
                next = next.saturating_add(entry.ranks());
                (at, rank, entry)
            })
            .skip(1)
    }
}

/// The tree of one snapshot. Shared by many threads; holds nothing of the tree
/// itself but the root.
pub struct Tree {
    library: Arc<dyn Library>,
    info: Arc<SnapshotInfo>,
    places: Arc<Places>,
    key: u32,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tree").field(&self.info.snapshot.id).finish()
    }
}

impl Tree {
    /// The tree of that snapshot. Costs nothing.
    #[must_use]
    pub fn new(library: Arc<dyn Library>, info: Arc<SnapshotInfo>, places: Arc<Places>) -> Tree {
        let key = places.enter();
        Tree { library, info, places, key }
    }

    /// The snapshot.
    #[must_use]
    pub fn info(&self) -> &Arc<SnapshotInfo> {
        &self.info
    }

    /// Where its nodes are.
    #[must_use]
    pub fn library(&self) -> &dyn Library {
        self.library.as_ref()
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> Found {
        Found { rank: 0, at: browse::Found::root(&self.info), leaf: None }
    }

    /// The entry of that rank; none if the tree does not reach that far.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`], or the library's.
    pub fn entry(&self, rank: u64, reach: Reach) -> Result<Option<Found>> {
        if rank == 0 {
            return Ok(Some(self.root()));
        }
        if let Some(place) = self.places.entry(self.key, rank) {
            let node = self.load(&place.leaf, reach)?;
            if let Some(found) = Found::in_leaf(rank, place.leaf, node, place.index as usize) {
                return Ok(Some(found));
            }
        }
        Ok(self.descend(rank, reach, |_| {})?.map(|(found, _)| found))
    }

    /// The entry of that name in a directory, given by rank.
    ///
    /// # Errors
    ///
    /// [`Error::NotADirectory`], [`Error::WouldBlock`], or the library's.
    pub fn lookup(&self, dir: u64, name: &[u8], reach: Reach) -> Result<Option<Found>> {
        let place = self.dir(dir, reach)?;
        let Some(leaf) = self.leaf(&place, Seek::Name(name), reach)? else { return Ok(None) };
        let Ok(index) = leaf.entries().binary_search_by(|entry| entry.name.as_slice().cmp(name))
        else {
            return Ok(None);
        };
        Ok(Some(self.remember(dir, &place, &leaf, index)?))
    }

    /// What is under a path, given without slashes at either end; none if nothing is.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`], or the library's.
    pub fn at(&self, path: &[u8], reach: Reach) -> Result<Option<Found>> {
        let mut found = self.root();
        for name in crate::source::path::names(path) {
            let below = if found.is_dir() { self.lookup(found.rank, name, reach)? } else { None };
            let Some(next) = below else { return Ok(None) };
            found = next;
        }
        Ok(Some(found))
    }

    /// The entries of a directory in byte order, from the `from`-th on.
    ///
    /// # Errors
    ///
    /// [`Error::NotADirectory`], [`Error::WouldBlock`], or the library's.
    pub fn list(&self, dir: u64, from: u64, reach: Reach) -> Result<Listing<'_>> {
        Ok(Listing::new(self, dir, self.dir(dir, reach)?, from, reach))
    }

    /// The rank of the directory that a directory is in; the root is in itself.
    ///
    /// # Errors
    ///
    /// [`Error::NotADirectory`], [`Error::WouldBlock`], or the library's.
    pub fn parent(&self, dir: u64, reach: Reach) -> Result<u64> {
        Ok(self.dir(dir, reach)?.parent)
    }

    /// Where a directory stands in the one that it is in: the rank of that, and its number
    /// among the entries there. None for the root.
    ///
    /// # Errors
    ///
    /// [`Error::NotADirectory`], [`Error::WouldBlock`], or the library's.
    pub fn above(&self, dir: u64, reach: Reach) -> Result<Option<(u64, u64)>> {
        if dir == 0 {
            return Ok(None);
        }
        let parent = self.parent(dir, reach)?;
        let offset = dir - parent - 1;
        let leaf = self.leaf(&self.dir(parent, reach)?, Seek::Rank(offset), reach)?;
        let ordinal = |leaf: &LeafAt| leaf.ordinals_before + leaf.index_of(offset) as u64;
        Ok(leaf.map(|leaf| (parent, ordinal(&leaf))))
    }

    /// The path of an entry from the root, without a leading `/`.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchNumber`], [`Error::WouldBlock`], or the library's.
    pub fn path(&self, rank: u64, reach: Reach) -> Result<Vec<u8>> {
        let mut path: Vec<u8> = Vec::new();
        let found = self.descend(rank, reach, |entry| {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&entry.name);
        })?;
        if found.is_some() { Ok(path) } else { Err(Error::NoSuchNumber { number: rank }) }
    }

    /// The node that holds the start of a directory's entries; none if it is empty.
    #[must_use]
    pub fn first_node(found: &Found) -> Option<ChunkId> {
        let subtree = found.entry().subtree.filter(|t| t.entries > 0)?;
        found.refs().get(subtree.node as usize).copied()
    }

    fn load(&self, id: &ChunkId, reach: Reach) -> Result<Arc<LoadedNode>> {
        match (self.library.node_in_memory(id), reach) {
            (Some(node), _) => Ok(node),
            (None, Reach::Memory) => Err(Error::WouldBlock),
            (None, Reach::Store) => Ok(self.library.node(id)?),
        }
    }

    /// Where a directory's entries are.
    fn dir(&self, rank: u64, reach: Reach) -> Result<DirPlace> {
        if rank == 0 {
            return self.place_of(&self.root(), 0);
        }
        if let Some(place) = self.places.dir(self.key, rank) {
            return Ok(place);
        }
        match self.descend(rank, reach, |_| {})? {
            Some((found, parent)) => self.place_of(&found, parent),
            None => Err(Error::NoSuchNumber { number: rank }),
        }
    }

    /// Where the entries of a directory are that was found in `parent`.
    fn place_of(&self, found: &Found, parent: u64) -> Result<DirPlace> {
        let subtree = found.entry().subtree.ok_or(Error::NotADirectory)?;
        let node = found.refs().get(subtree.node as usize).copied();
        let node = node.ok_or_else(|| self.contradiction("a directory names no node"))?;
        let end = found.rank.checked_add(subtree.entries);
        if end.is_none_or(|end| end >= RANK_LIMIT) {
            return Err(contradicts(node, "it has more entries than a tree can have"));
        }
        Ok(DirPlace { node, entries: subtree.entries, parent })
    }

    /// A contradiction in what the snapshot itself says.
    fn contradiction(&self, why: &'static str) -> Error {
        contradicts(self.info.refs.first().copied().unwrap_or(ChunkId([0; 32])), why)
    }
}

fn contradicts(chunk: ChunkId, why: &'static str) -> Error {
    Error::Repository(repo::Error::Tree { chunk, why })
}

#[cfg(test)]
mod tests;
