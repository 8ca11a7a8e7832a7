//! The descent: from a directory to the leaf that has an entry, and from the root
//! to a rank.

use std::sync::Arc;

use crate::base::ChunkId;
use crate::format::node::{Child, DEPTH_MAX, Entry, Node};
use crate::repo::LoadedNode;
use crate::view::error::{Reach, Result};

use super::{DirPlace, EntryPlace, Found, Tree, contradicts};

/// Sums of leaves with fewer entries are not worth remembering.
const SUMS_WORTH_KEEPING: usize = 64;

/// What is looked for in a directory.
#[derive(Clone, Copy)]
pub(super) enum Seek<'a> {
    /// What would be of that name.
    Name(&'a [u8]),
    /// The entry of that number among the directory's own.
    Ordinal(u64),
    /// The entry that has that rank, counted from the directory's first entry, or
    /// has it below itself.
    Rank(u64),
}

/// A leaf, and what of its directory lies before it.
pub(super) struct LeafAt {
    pub(super) id: ChunkId,
    pub(super) node: Arc<LoadedNode>,
    /// How many ranks entries before each take, and at the end, all.
    pub(super) sums: Arc<[u64]>,
    /// Ranks of the directory before the leaf's first.
    pub(super) ranks_before: u64,
    /// Entries of the directory before the leaf's first.
    pub(super) ordinals_before: u64,
}

impl LeafAt {
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.node.node {
            Node::Leaf(leaf) => &leaf.entries,
            _ => &[],
        }
    }

    /// The place in the leaf of the entry that has a rank, counted from the directory's first
    /// entry, or has it below itself.
    pub(super) fn index_of(&self, rank: u64) -> usize {
        let within = rank - self.ranks_before;
        self.sums.partition_point(|sum| *sum <= within).saturating_sub(1)
    }
}

impl Tree {
    /// The leaf in which an entry is, if it is in the directory at all; none if the
    /// directory does not reach that far.
    pub(super) fn leaf(
        &self,
        dir: &DirPlace,
        seek: Seek<'_>,
        reach: Reach,
    ) -> Result<Option<LeafAt>> {
        if dir.entries == 0 {
            return Ok(None);
        }
        let mut id = dir.node;
        let mut promised = Promise { ranks: dir.entries, direct: None };
        let mut above: Option<(Arc<LoadedNode>, usize)> = None;
        let (mut ranks_before, mut ordinals_before) = (0, 0);
        for _ in 0..=DEPTH_MAX {
            let node = self.load(&id, reach)?;
            let next = match &node.node {
                Node::Leaf(_) => {
                    let sums = self.sums(&id, &node);
                    let leaf = LeafAt { id, node, sums, ranks_before, ordinals_before };
                    promised.check_leaf(&leaf, above.as_ref())?;
                    let within = match seek {
                        Seek::Name(_) => true,
                        Seek::Ordinal(n) => n - ordinals_before < leaf.entries().len() as u64,
                        Seek::Rank(n) => n - ranks_before < promised.ranks,
                    };
                    return Ok(within.then_some(leaf));
                }
                Node::Inner(children) => {
                    promised.check_inner(&id, children)?;
                    choose(children, seek, &mut ranks_before, &mut ordinals_before)
                }
                _ => return Err(contradicts(id, "it is not a part of a directory")),
            };
            let Some((index, child)) = next else { return Ok(None) };
            promised = Promise { ranks: child.entries, direct: Some(child.direct) };
            let below = node.refs.get(child.node as usize).copied();
            id = below.ok_or_else(|| contradicts(id, "a child names no node"))?;
            above = Some((Arc::clone(&node), index));
        }
        Err(contradicts(dir.node, "it is too deep"))
    }

    /// Goes from the root to a rank, showing each entry on the way, the last being
    /// the one looked for, which is returned with the rank of its directory.
    /// Remembers the directories passed.
    pub(super) fn descend(
        &self,
        rank: u64,
        reach: Reach,
        mut each: impl FnMut(&Entry),
    ) -> Result<Option<(Found, u64)>> {
        let (mut at, mut place) = (0, self.place_of(&self.root(), 0)?);
        if rank == 0 {
            return Ok(Some((self.root(), 0)));
        }
        if rank > place.entries {
            return Ok(None);
        }
        // Each round ends in a directory of fewer ranks.
        loop {
            let offset = rank - at - 1;
            let leaf = self.leaf(&place, Seek::Rank(offset), reach)?;
            let leaf = leaf.ok_or_else(|| contradicts(place.node, "it has fewer entries"))?;
            let found = self.remember(at, &place, &leaf, leaf.index_of(offset))?;
            each(found.entry());
            if found.rank == rank {
                return Ok(Some((found, at)));
            }
            place = self.place_of(&found, at)?;
            at = found.rank;
            if rank <= at || rank - at > place.entries {
                return Err(contradicts(place.node, "it has fewer entries than its parent says"));
            }
        }
    }

    /// The entry of a leaf of a directory, remembered for the next question.
    pub(super) fn remember(
        &self,
        dir: u64,
        place: &DirPlace,
        leaf: &LeafAt,
        index: usize,
    ) -> Result<Found> {
        let sum = leaf.sums.get(index).copied().unwrap_or(0);
        let rank = dir + 1 + leaf.ranks_before + sum;
        let found = Found::in_leaf(rank, leaf.id, Arc::clone(&leaf.node), index)
            .ok_or_else(|| contradicts(place.node, "it has fewer entries"))?;
        if found.is_dir() {
            self.places.put_dir(self.key, rank, self.place_of(&found, dir)?);
        }
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        self.places.put_entry(self.key, rank, EntryPlace { leaf: leaf.id, index });
        Ok(found)
    }

    fn sums(&self, id: &ChunkId, node: &LoadedNode) -> Arc<[u64]> {
        let Node::Leaf(leaf) = &node.node else { return Arc::new([0]) };
        let keep = leaf.entries.len() >= SUMS_WORTH_KEEPING;
        if let Some(sums) = keep.then(|| self.places.sums(id)).flatten() {
            return sums;
        }
        let mut total: u64 = 0;
        let mut sums = Vec::with_capacity(leaf.entries.len() + 1);
        for entry in &leaf.entries {
            sums.push(total);
            total = total.saturating_add(entry.ranks());
        }
        sums.push(total);
        let sums: Arc<[u64]> = sums.into();
        if keep {
            self.places.put_sums(*id, Arc::clone(&sums));
        }
        sums
    }
}

/// Which child of an inner node is next, and what lies before it.
fn choose<'n>(
    children: &'n [Child],
    seek: Seek<'_>,
    ranks_before: &mut u64,
    ordinals_before: &mut u64,
) -> Option<(usize, &'n Child)> {
    let by_name = match seek {
        Seek::Name(name) => {
            Some(children.partition_point(|c| c.first.as_slice() <= name).checked_sub(1)?)
        }
        _ => None,
    };
    for (index, child) in children.iter().enumerate() {
        let here = match (seek, by_name) {
            (_, Some(wanted)) => index == wanted,
            (Seek::Ordinal(n), _) => n < ordinals_before.saturating_add(child.direct),
            (Seek::Rank(n), _) => n < ranks_before.saturating_add(child.entries),
            (Seek::Name(_), None) => false,
        };
        if here {
            return Some((index, child));
        }
        *ordinals_before = ordinals_before.saturating_add(child.direct);
        *ranks_before = ranks_before.saturating_add(child.entries);
    }
    None
}

/// What a parent says of a node.
struct Promise {
    ranks: u64,
    direct: Option<u64>,
}

impl Promise {
    fn check_inner(&self, id: &ChunkId, children: &[Child]) -> Result<()> {
        let add = |sum: u64, n: u64| sum.saturating_add(n);
        let ranks = children.iter().map(|c| c.entries).fold(0, add);
        let direct = children.iter().map(|c| c.direct).fold(0, add);
        if ranks != self.ranks || self.direct.is_some_and(|d| d != direct) {
            return Err(contradicts(*id, "it has another number of entries than its parent says"));
        }
        Ok(())
    }

    fn check_leaf(&self, leaf: &LeafAt, above: Option<&(Arc<LoadedNode>, usize)>) -> Result<()> {
        let entries = leaf.entries();
        let wrong = |why| Err(contradicts(leaf.id, why));
        let ranks = leaf.sums.last().copied().unwrap_or(0);
        if ranks != self.ranks || self.direct.is_some_and(|d| d != entries.len() as u64) {
            return wrong("it has another number of entries than its parent says");
        }
        if let Some((node, index)) = above
            && let Node::Inner(children) = &node.node
        {
            let name = |e: Option<&Entry>| e.map(|e| e.name.to_vec()).unwrap_or_default();
            let first = children.get(*index).map(|c| c.first.as_slice());
            let next = children.get(index + 1).map(|c| c.first.as_slice());
            if first != Some(&name(entries.first()))
                || next.is_some_and(|next| name(entries.last()).as_slice() >= next)
            {
                return wrong("it has other names than its parent says");
            }
        }
        Ok(())
    }
}
