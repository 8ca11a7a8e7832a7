//! Building trees: directories into nodes, long lists into trees of lists.
//!
//! Everything here depends on the entries alone, never on what was stored before,
//! so equal directories become equal nodes on every machine. A long directory is
//! cut where a keyed hash of the name says so: an entry added or removed moves
//! the cuts beside it and no others. What is cut is passed on at once; only the
//! leaf being filled is held.

use crate::base::ChunkId;
use crate::codec::hash::SplitKey;
use crate::format::FormatError;
use crate::format::extents::{Content, Extent, ExtentChild, LIST_MAX, ends_list};
use crate::format::fact::{LINKS_INLINE_MAX, Links};
use crate::format::node::{
    Child, Entry, FileKind, LEAF_BYTES_MAX, LEAF_ENTRIES_MAX, Leaf, LinkGroup, NODE_BYTES_MAX,
    Node, Owner, Subtree,
};
use crate::repo::{Error, Result};

/// Takes nodes as they are made.
pub trait NodeSink {
    /// Stores a node and returns its id.
    ///
    /// # Errors
    ///
    /// What the store or the index say.
    fn node(&mut self, bytes: Vec<u8>) -> Result<ChunkId>;

    /// The same for a node of a directory that has directories below it. It changes with any
    /// of them, so it is soon out of date, while those that hold files alone stay.
    ///
    /// # Errors
    ///
    /// As [`NodeSink::node`].
    fn upper_node(&mut self, bytes: Vec<u8>) -> Result<ChunkId> {
        self.node(bytes)
    }

    /// Is shown every leaf of a directory before it is stored, with the inode
    /// numbers that were given along with its entries.
    fn leaf(&mut self, bytes: &[u8], inodes: &[u64]) {
        let _ = (bytes, inodes);
    }
}

/// An entry that is not in a node yet. Its places point into its own `refs`.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The entry; its owner is 0.
    pub entry: Entry,
    /// The chunks that it refers to.
    pub refs: Vec<ChunkId>,
    /// Who owns it.
    pub owner: Owner,
}

/// No leaf or inner node is cut with fewer items.
const CUT_ITEMS_MIN: usize = 32;
/// About every so many-th name ends a node.
const CUT_EVERY: u64 = 256;

/// A directory being built.
pub struct DirBuilder {
    split: SplitKey,
    refs: Vec<ChunkId>,
    leaf: Leaf,
    inodes: Vec<u64>,
    bytes: usize,
    done: Vec<(Child, ChunkId)>,
    total: Subtree,
}

/// A directory that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredDir {
    /// Its root node.
    pub node: ChunkId,
    /// What its entry says of it; its place is 0.
    pub subtree: Subtree,
}

impl StoredDir {
    /// The directory's own entry, of which `draft` has the rest.
    #[must_use]
    pub fn entry_of(self, mut draft: Draft) -> Draft {
        draft.entry.subtree = Some(self.subtree);
        draft.refs = vec![self.node];
        draft
    }
}

impl DirBuilder {
    /// An empty directory.
    #[must_use]
    pub fn new(split: SplitKey) -> DirBuilder {
        DirBuilder {
            split,
            refs: Vec::new(),
            leaf: Leaf::default(),
            inodes: Vec::new(),
            bytes: 0,
            done: Vec::new(),
            total: Subtree::default(),
        }
    }

    /// Adds an entry. Names must come in ascending byte order. `inode` is only
    /// handed on to [`NodeSink::leaf`].
    ///
    /// # Errors
    ///
    /// Those of the sink, and [`Error::Object`] if the entry does not [fit](fits):
    /// nothing is stored that could not be read back.
    pub fn add(&mut self, draft: Draft, inode: u64, sink: &mut dyn NodeSink) -> Result<()> {
        let Draft { mut entry, refs, owner } = draft;
        if !fits(&entry) {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            let why = FormatError::malformed("entry", "it is longer than a node may be");
            return Err(Error::object(format!("the entry of {name}"))(why));
        }
        let bytes = weigh(&entry) + refs.len() * 33;
        if !self.leaf.entries.is_empty() && self.bytes + bytes > LEAF_BYTES_MAX {
            self.cut(sink)?;
        }
        rebase(&mut entry, u32::try_from(self.refs.len()).unwrap_or(u32::MAX));
        self.refs.extend(refs);
        let known = self.leaf.owners.iter().position(|o| *o == owner);
        let place = known.unwrap_or_else(|| {
            self.leaf.owners.push(owner);
            self.leaf.owners.len() - 1
        });
        entry.owner = u32::try_from(place).unwrap_or(u32::MAX);
        self.total.entries += entry.ranks();
        self.total.bytes = self.total.bytes.saturating_add(entry.bytes());
        self.total.subdirs += u64::from(entry.kind == FileKind::Dir);
        self.bytes += bytes;
        let ends = self.leaf.entries.len() + 1 >= CUT_ITEMS_MIN
            && self.split.number(&entry.name).is_multiple_of(CUT_EVERY);
        self.leaf.entries.push(entry);
        self.inodes.push(inode);
        if ends || self.leaf.entries.len() >= LEAF_ENTRIES_MAX {
            self.cut(sink)?;
        }
        Ok(())
    }

    /// Stores what is left and the nodes above, and returns the root.
    ///
    /// # Errors
    ///
    /// Those of the sink.
    pub fn finish(mut self, sink: &mut dyn NodeSink) -> Result<StoredDir> {
        if !self.leaf.entries.is_empty() || self.done.is_empty() {
            self.cut(sink)?;
        }
        let mut level = std::mem::take(&mut self.done);
        let mut bits = 1;
        while level.len() > 1 {
            level = self.store_level(level, bits, sink)?;
            bits += 1;
        }
        #[allow(clippy::expect_used)]
        let (_, node) = level.pop().expect("a level is never empty");
        Ok(StoredDir { node, subtree: self.total })
    }

    /// Stores the leaf being filled and begins another.
    fn cut(&mut self, sink: &mut dyn NodeSink) -> Result<()> {
        let leaf = std::mem::take(&mut self.leaf);
        let refs = std::mem::take(&mut self.refs);
        let inodes = std::mem::take(&mut self.inodes);
        self.bytes = 0;
        let child = Child {
            first: leaf.entries.first().map_or_else(|| Vec::new().into(), |e| e.name.clone()),
            node: 0,
            direct: leaf.entries.len() as u64,
            entries: leaf.entries.iter().map(Entry::ranks).sum(),
            bytes: leaf.entries.iter().fold(0, |sum, e| e.bytes().saturating_add(sum)),
        };
        let bytes = Node::Leaf(leaf).encode(&refs);
        sink.leaf(&bytes, &inodes);
        let id = store(&child, bytes, sink)?;
        self.done.push((child, id));
        Ok(())
    }

    /// Stores the nodes above a level and returns them.
    fn store_level(
        &self,
        below: Vec<(Child, ChunkId)>,
        level: u32,
        sink: &mut dyn NodeSink,
    ) -> Result<Vec<(Child, ChunkId)>> {
        let mut above = Vec::new();
        let mut children: Vec<Child> = Vec::new();
        let mut refs: Vec<ChunkId> = Vec::new();
        let count = below.len();
        for (at, (mut child, id)) in below.into_iter().enumerate() {
            child.node = u32::try_from(refs.len()).unwrap_or(u32::MAX);
            // Other bits for each level: every node of this one begins after a cut
            // of the level below.
            let number = self.split.number(&child.first).rotate_right(8 * level);
            let begins = children.len() >= CUT_ITEMS_MIN && number.is_multiple_of(CUT_EVERY);
            if begins || children.len() >= LEAF_ENTRIES_MAX {
                above.push(store_inner(&mut children, &mut refs, sink)?);
                child.node = 0;
            }
            children.push(child);
            refs.push(id);
            if at + 1 == count {
                above.push(store_inner(&mut children, &mut refs, sink)?);
            }
        }
        Ok(above)
    }
}

/// Stores a part of a directory.
fn store(part: &Child, bytes: Vec<u8>, sink: &mut dyn NodeSink) -> Result<ChunkId> {
    if part.entries > part.direct { sink.upper_node(bytes) } else { sink.node(bytes) }
}

fn store_inner(
    children: &mut Vec<Child>,
    refs: &mut Vec<ChunkId>,
    sink: &mut dyn NodeSink,
) -> Result<(Child, ChunkId)> {
    let children = std::mem::take(children);
    let refs = std::mem::take(refs);
    let child = Child {
        first: children.first().map_or_else(|| Vec::new().into(), |c| c.first.clone()),
        node: 0,
        direct: children.iter().map(|c| c.direct).sum(),
        entries: children.iter().map(|c| c.entries).sum(),
        bytes: children.iter().fold(0, |sum, c| c.bytes.saturating_add(sum)),
    };
    let id = store(&child, Node::Inner(children).encode(&refs), sink)?;
    Ok((child, id))
}

/// Moves an entry's places by as many references as stand before its own.
fn rebase(entry: &mut Entry, by: u32) {
    if let Some(subtree) = &mut entry.subtree {
        subtree.node += by;
    }
    match &mut entry.content {
        Some(Content::Tree(node)) => *node += by,
        Some(Content::Extents(extents)) => {
            for extent in extents {
                if let Some(chunk) = &mut extent.chunk {
                    *chunk += by;
                }
            }
        }
        Some(Content::Inline(_)) | None => {}
    }
}

/// Takes an entry out of its node: the inverse of adding it.
#[must_use]
pub fn draft_of(entry: &Entry, refs: &[ChunkId], owners: &[Owner]) -> Draft {
    let mut entry = entry.clone();
    let mut own = Vec::new();
    let mut take = |place: &mut u32| {
        if let Some(id) = refs.get(*place as usize) {
            own.push(*id);
            *place = u32::try_from(own.len() - 1).unwrap_or(u32::MAX);
        }
    };
    if let Some(subtree) = &mut entry.subtree {
        take(&mut subtree.node);
    }
    match &mut entry.content {
        Some(Content::Tree(node)) => take(node),
        Some(Content::Extents(extents)) => {
            extents.iter_mut().filter_map(|e| e.chunk.as_mut()).for_each(take);
        }
        Some(Content::Inline(_)) | None => {}
    }
    let owner = owners.get(entry.owner as usize).cloned().unwrap_or_default();
    entry.owner = 0;
    Draft { entry, refs: own, owner }
}

/// The most that an entry takes in a node besides its extended attributes: a name, a
/// target, inline content or a list of extents with their references. Bytes.
const ENTRY_BESIDES_MAX: usize = 256 << 10;

/// Whether a node can hold an entry. Only extended attributes can be too long for it.
#[must_use]
pub fn fits(entry: &Entry) -> bool {
    let xattrs: usize = entry.xattrs.iter().map(|x| x.name.len() + x.value.len() + 16).sum();
    xattrs <= NODE_BYTES_MAX - ENTRY_BESIDES_MAX
}

/// About how many bytes an entry takes in a node.
fn weigh(entry: &Entry) -> usize {
    let xattrs: usize = entry.xattrs.iter().map(|x| x.name.len() + x.value.len() + 8).sum();
    let content = match &entry.content {
        Some(Content::Inline(bytes)) => bytes.len(),
        Some(Content::Extents(extents)) => extents.len() * 8,
        Some(Content::Tree(_)) | None => 8,
    };
    let target = entry.target.as_ref().map_or(0, |t| t.len());
    entry.name.len() + target + xattrs + content + 100
}

/// Makes a file's content of its extents (length, and chunk or hole), storing
/// lists where there are many. Returns it with the chunks that it refers to.
///
/// # Errors
///
/// Those of the sink.
pub fn store_extents(
    extents: &[(u64, Option<ChunkId>)],
    sink: &mut dyn NodeSink,
) -> Result<(Option<Content>, Vec<ChunkId>)> {
    if extents.is_empty() {
        return Ok((None, Vec::new()));
    }
    if extents.len() <= LIST_MAX {
        let (list, refs) = list_of(extents);
        return Ok((Some(Content::Extents(list)), refs));
    }
    let mut level: Vec<(u64, ChunkId)> = Vec::new();
    let mut start = 0;
    for (at, (_, chunk)) in extents.iter().enumerate() {
        let count = at + 1 - start;
        let ends = count >= CUT_ITEMS_MIN && ends_list(chunk.as_ref(), 0);
        if ends || count >= LIST_MAX || at + 1 == extents.len() {
            let (list, refs) = list_of(&extents[start..=at]);
            let length = list.iter().map(|e| e.length).sum();
            level.push((length, sink.node(Node::Extents(list).encode(&refs))?));
            start = at + 1;
        }
    }
    let mut depth = 1;
    while level.len() > 1 {
        level = store_extent_level(&level, depth, sink)?;
        depth += 1;
    }
    Ok((Some(Content::Tree(0)), level.into_iter().map(|(_, id)| id).collect()))
}

fn store_extent_level(
    below: &[(u64, ChunkId)],
    depth: u32,
    sink: &mut dyn NodeSink,
) -> Result<Vec<(u64, ChunkId)>> {
    let mut above = Vec::new();
    let mut start = 0;
    for (at, (_, id)) in below.iter().enumerate() {
        let count = at + 1 - start;
        let ends = count >= CUT_ITEMS_MIN && ends_list(Some(id), depth);
        if ends || count >= LIST_MAX || at + 1 == below.len() {
            let group = &below[start..=at];
            let child = |(place, (length, _)): (usize, &(u64, ChunkId))| ExtentChild {
                length: *length,
                node: u32::try_from(place).unwrap_or(u32::MAX),
            };
            let children: Vec<_> = group.iter().enumerate().map(child).collect();
            let refs: Vec<_> = group.iter().map(|(_, id)| *id).collect();
            let length = group.iter().map(|(length, _)| length).sum();
            above.push((length, sink.node(Node::ExtentTree(children).encode(&refs))?));
            start = at + 1;
        }
    }
    Ok(above)
}

/// Extents with their places in the references, each chunk once.
fn list_of(extents: &[(u64, Option<ChunkId>)]) -> (Vec<Extent>, Vec<ChunkId>) {
    let mut refs = Vec::new();
    let mut places = std::collections::HashMap::new();
    let list = extents
        .iter()
        .map(|&(length, chunk)| Extent {
            length,
            chunk: chunk.map(|id| {
                *places.entry(id).or_insert_with(|| {
                    refs.push(id);
                    u32::try_from(refs.len() - 1).unwrap_or(u32::MAX)
                })
            }),
        })
        .collect();
    (list, refs)
}

/// Makes the table of links of a snapshot, in nodes where it is long. New nodes
/// are added to `refs`.
///
/// # Errors
///
/// Those of the sink.
pub fn store_links(
    mut groups: Vec<LinkGroup>,
    refs: &mut Vec<ChunkId>,
    sink: &mut dyn NodeSink,
) -> Result<Links> {
    groups.sort_unstable_by_key(|group| group.id);
    if groups.len() <= LINKS_INLINE_MAX {
        return Ok(Links::Inline(groups));
    }
    let mut nodes = Vec::new();
    for part in groups.chunks(8192) {
        let id = sink.node(Node::Links(part.to_vec()).encode(&[]))?;
        nodes.push((part[0].id, u32::try_from(refs.len()).unwrap_or(u32::MAX)));
        refs.push(id);
    }
    Ok(Links::Nodes(nodes))
}

#[cfg(test)]
mod tests;
