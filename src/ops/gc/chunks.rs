//! Which bits a chunk's copies have, found without asking the index.
//!
//! A mark meets each chunk once for every node that refers to it, which is many times
//! more often than there are chunks, and in no order; asked one by one, the index's
//! tables would be read from end to end again and again. Here the first eight bytes of
//! every id stand in a sorted list beside the bits.
//!
//! Eight bytes can be the same in two ids, by intention even. Who sets the bits of both
//! keeps too much, which is safe; but what a node refers to must not be left out because
//! another id begins like it. So a list of copies in which there is a node is only a
//! reason to ask the index.
//!
//! Memory: 13 bytes for each copy of a chunk.

use super::bitmap::Bitmap;
use super::packs::Packs;
use crate::base::ChunkId;
use crate::ops::{Error, Result};
use crate::repo::Repository;

/// The list is entered at the first two bytes of an id.
const ENTRIES: usize = 1 << 16;

/// The copies of all chunks, in the order of their ids.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    /// Where the ids that begin with these two bytes begin, and where the last end.
    starts: Vec<u32>,
    /// First eight bytes of ids.
    heads: Vec<u64>,
    /// The bits of their copies.
    bits: Vec<u32>,
    /// Those that are nodes, as somebody claims.
    nodes: Bitmap,
}

/// What is known of an id by its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copies<'a> {
    /// Nobody claims to have it.
    Nowhere,
    /// These bits are of its copies, all of them data, or of an id that begins like it.
    Data(&'a [u32]),
    /// A copy of it, or of an id that begins like it, is a node.
    PerhapsNode,
}

impl Chunks {
    /// Reads the index's table of chunks once.
    pub(super) fn load(repo: &Repository, packs: &Packs) -> Result<Chunks> {
        if packs.bits > u64::from(u32::MAX) {
            let what = format!("{} chunks are more than a collector can count", packs.bits);
            return Err(Error::Invalid { what });
        }
        let mut chunks = Chunks { nodes: Bitmap::new(packs.bits), ..Chunks::default() };
        let count = usize::try_from(packs.bits).unwrap_or(0);
        chunks.heads.reserve_exact(count);
        chunks.bits.reserve_exact(count);
        repo.index().each_chunk(|id, rows| {
            for row in rows {
                let bit = packs.bit(row.pack, row.place);
                // A claim that came after the packs were loaded has no bit.
                if let Ok(bit) = u32::try_from(bit) {
                    chunks.add(id, bit, packs.is_nodes(row.pack));
                }
            }
            Ok::<_, crate::repo::Error>(())
        })?;
        chunks.finish();
        Ok(chunks)
    }

    /// Adds a copy. Ids come in order.
    fn add(&mut self, id: &ChunkId, bit: u32, is_node: bool) {
        while self.starts.len() <= entry(head(id)) {
            self.starts.push(self.heads.len() as u32);
        }
        self.heads.push(head(id));
        self.bits.push(bit);
        if is_node {
            self.nodes.insert(u64::from(bit));
        }
    }

    fn finish(&mut self) {
        self.starts.resize(ENTRIES + 1, self.heads.len() as u32);
    }

    /// The copies of a chunk.
    pub(super) fn copies(&self, id: &ChunkId) -> Copies<'_> {
        let head = head(id);
        let at = entry(head);
        let (from, to) = (self.starts[at] as usize, self.starts[at + 1] as usize);
        let heads = &self.heads[from..to];
        let first = heads.partition_point(|other| *other < head);
        let count = heads[first..].iter().take_while(|other| **other == head).count();
        let bits = &self.bits[from + first..from + first + count];
        if bits.is_empty() {
            Copies::Nowhere
        } else if bits.iter().any(|bit| self.nodes.contains(u64::from(*bit))) {
            Copies::PerhapsNode
        } else {
            Copies::Data(bits)
        }
    }
}

fn head(id: &ChunkId) -> u64 {
    id.0.first_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first))
}

fn entry(head: u64) -> usize {
    (head >> 48) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(head: u64, tail: u8) -> ChunkId {
        let mut id = [tail; 32];
        id[..8].copy_from_slice(&head.to_be_bytes());
        ChunkId(id)
    }

    fn of(copies: &[(ChunkId, u32, bool)]) -> Chunks {
        let mut chunks = Chunks { nodes: Bitmap::new(100), ..Chunks::default() };
        for (id, bit, is_node) in copies {
            chunks.add(id, *bit, *is_node);
        }
        chunks.finish();
        chunks
    }

    #[test]
    fn every_copy_is_found_and_nothing_else() {
        let chunks = of(&[
            (id(0, 0), 7, false),
            (id(1 << 48, 0), 3, false),
            (id(1 << 48, 0), 9, false),
            (id((1 << 48) + 1, 0), 4, false),
            (id(u64::MAX, 0), 5, false),
        ]);
        assert_eq!(chunks.copies(&id(0, 0)), Copies::Data(&[7]));
        assert_eq!(chunks.copies(&id(1 << 48, 0)), Copies::Data(&[3, 9]));
        assert_eq!(chunks.copies(&id((1 << 48) + 1, 0)), Copies::Data(&[4]));
        assert_eq!(chunks.copies(&id(u64::MAX, 0)), Copies::Data(&[5]));
        for nowhere in [1, (1 << 48) - 1, (1 << 48) + 2, u64::MAX - 1] {
            assert_eq!(chunks.copies(&id(nowhere, 0)), Copies::Nowhere);
        }
        assert_eq!(of(&[]).copies(&id(5, 5)), Copies::Nowhere);
    }

    #[test]
    fn an_id_that_begins_like_a_node_is_no_reason_to_leave_the_node_out() {
        let chunks = of(&[(id(42, 1), 0, false), (id(42, 2), 1, true), (id(43, 1), 2, false)]);
        assert_eq!(chunks.copies(&id(42, 1)), Copies::PerhapsNode);
        assert_eq!(chunks.copies(&id(42, 2)), Copies::PerhapsNode);
        assert_eq!(chunks.copies(&id(43, 9)), Copies::Data(&[2]));
    }
}
