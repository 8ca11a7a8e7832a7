//! What a checkpoint's nodes hold: the facts of records, and where chunks are.
//!
//! *Merged* nodes carry facts on, grouped by the record that they stood in, with all
//! that a machine needs to know of that record, so that folding them gives what
//! folding the record would give. Records are in the order of signer, chain, number and
//! id; the facts of a large one are in several parts, one after the other.
//!
//! *Places* nodes are one sorted run over all chunks that the carried facts claim. The
//! checkpoint's fact names the first chunk of each, so one ranged read finds a chunk.
//!
//! Each node says which chain's checkpoint it is of. So no two checkpoints share one,
//! and the packs that a checkpoint's record names hold its nodes and nothing else.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::base::{ChainId, ChunkId, PackId, RecordId, UnixTime, WriterId};
use crate::format::FormatError;

/// A record's facts, or a part of them, as a checkpoint carries them on.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Merged {
    /// Who published it.
    #[n(0)]
    pub writer: WriterId,
    /// The record.
    #[n(1)]
    pub record: RecordId,
    /// When the store received it, as the owner witnessed it.
    #[n(2)]
    pub receipt: UnixTime,
    /// The writer's certificate, unless it is the owner.
    #[n(3)]
    pub certificate: Option<ByteVec>,
    /// Its chain.
    #[n(4)]
    pub chain: ChainId,
    /// Its place in the chain, from 0.
    #[n(5)]
    pub number: u64,
    /// Whether it was received after its deadline, or has none.
    #[n(6)]
    pub late: bool,
    /// The record before it in the chain.
    #[n(7)]
    pub previous: Option<RecordId>,
    /// Its facts, verbatim, with their places in it; those that nobody needs are left out.
    #[n(8)]
    pub facts: Vec<(u64, ByteVec)>,
    /// Which part of it this is, from 0, and how many there are; none if this is all.
    #[n(9)]
    pub part: Option<(u32, u32)>,
}

/// What merged records are sorted by.
pub type MergedKey = (WriterId, ChainId, u64, RecordId, u32);

impl Merged {
    /// What it is sorted by.
    #[must_use]
    pub fn key(&self) -> MergedKey {
        let part = self.part.map_or(0, |(part, _)| part);
        (self.writer, self.chain, self.number, self.record, part)
    }
}

/// Merged records: a node of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct MergedRun {
    /// The chain of the checkpoint's own record.
    #[n(0)]
    pub of: ChainId,
    /// The records, in the order of their keys.
    #[n(1)]
    pub records: Vec<Merged>,
}

/// Checks a node of merged records.
pub(super) fn check_merged(run: &MergedRun) -> Result<(), FormatError> {
    let wrong = |why: &str| Err(FormatError::malformed("merged facts", why));
    let records = &run.records;
    if !records.windows(2).all(|pair| pair[0].key() < pair[1].key()) {
        return wrong("its records are not in order");
    }
    if records.iter().any(|one| one.receipt.nanos >= 1_000_000_000) {
        return wrong("a time has too many nanoseconds");
    }
    if records.iter().any(|one| one.part.is_some_and(|(part, parts)| part >= parts)) {
        return wrong("a part of a record is out of bounds");
    }
    Ok(())
}

/// A place of a chunk: in which pack, from where in its content, how long.
pub type Place = (PackId, u64, u32);

/// A run of chunks with their places, in columns.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Places {
    /// The chain of the checkpoint's own record.
    #[n(0)]
    pub of: ChainId,
    /// The packs, 32 bytes each.
    #[n(1)]
    pub packs: ByteVec,
    /// The chunks, 32 bytes each, ascending: one as often as it has places.
    #[n(2)]
    pub chunks: ByteVec,
    /// The pack of each, by its place in the packs.
    #[n(3)]
    pub pack: Vec<u32>,
    /// Where each begins in its pack's content.
    #[n(4)]
    pub start: Vec<u64>,
    /// The length of each.
    #[n(5)]
    pub length: Vec<u32>,
}

impl Places {
    /// A run of places for the checkpoint of a chain, which must be in the order of
    /// their chunks.
    #[must_use]
    pub fn new(of: ChainId, rows: &[(ChunkId, Place)]) -> Places {
        let mut numbers: std::collections::HashMap<PackId, u32> = std::collections::HashMap::new();
        let mut places = Places {
            of,
            packs: ByteVec::from(Vec::new()),
            chunks: ByteVec::from(Vec::new()),
            pack: Vec::new(),
            start: Vec::new(),
            length: Vec::new(),
        };
        for (chunk, (pack, start, length)) in rows {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            let number = *numbers.entry(*pack).or_insert(next);
            if number == next {
                places.packs.extend_from_slice(&pack.0);
            }
            places.chunks.extend_from_slice(&chunk.0);
            places.pack.push(number);
            places.start.push(*start);
            places.length.push(*length);
        }
        places
    }

    /// Every place of a chunk.
    #[must_use]
    pub fn find(&self, id: &ChunkId) -> Vec<Place> {
        let (chunks, _) = self.chunks.as_chunks::<32>();
        let (packs, _) = self.packs.as_chunks::<32>();
        let first = chunks.partition_point(|chunk| *chunk < id.0);
        let of_chunk = chunks[first..].iter().take_while(|chunk| **chunk == id.0);
        of_chunk
            .zip(first..)
            .filter_map(|(_, at)| {
                let pack = packs.get(*self.pack.get(at)? as usize)?;
                Some((PackId(*pack), *self.start.get(at)?, *self.length.get(at)?))
            })
            .collect()
    }

    /// Checks that its columns fit together and are in order.
    pub(super) fn check(&self) -> Result<(), FormatError> {
        let wrong = |why: &str| Err(FormatError::malformed("run of places", why));
        let (chunks, rest) = self.chunks.as_chunks::<32>();
        let (packs, more) = self.packs.as_chunks::<32>();
        let lengths = [self.pack.len(), self.start.len(), self.length.len()];
        if !rest.is_empty() || !more.is_empty() || lengths != [chunks.len(); 3] {
            return wrong("its columns differ in length");
        }
        if !chunks.is_sorted() {
            return wrong("its chunks are not in order");
        }
        if self.pack.iter().any(|pack| *pack as usize >= packs.len()) {
            return wrong("a pack is out of bounds");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_found_at_all_its_places() {
        let (a, b, c) = (ChunkId([1; 32]), ChunkId([2; 32]), ChunkId([3; 32]));
        let (p, q) = (PackId([8; 32]), PackId([9; 32]));
        let rows = [(a, (q, 5, 6)), (b, (p, 0, 7)), (b, (q, 11, 7))];
        let places = Places::new(ChainId([7; 16]), &rows);
        assert_eq!(places.check(), Ok(()));
        assert_eq!(places.packs.len(), 64);
        assert_eq!(places.find(&a), [(q, 5, 6)]);
        assert_eq!(places.find(&b), [(p, 0, 7), (q, 11, 7)]);
        assert_eq!(places.find(&c), []);
        assert_eq!(places.find(&ChunkId([0; 32])), []);
    }

    #[test]
    fn runs_and_records_that_contradict_themselves_are_refused() {
        let good = Places::new(
            ChainId([7; 16]),
            &[
                (ChunkId([1; 32]), (PackId([8; 32]), 0, 1)),
                (ChunkId([2; 32]), (PackId([8; 32]), 1, 1)),
            ],
        );
        let mut order = good.clone();
        order.chunks.reverse();
        let bounds = Places { pack: vec![0, 1], ..good.clone() };
        let columns = Places { start: vec![0], ..good.clone() };
        let half = Places { packs: vec![8; 33].into(), ..good };
        for wrong in [order, bounds, columns, half] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
        let one = Merged {
            writer: WriterId([1; 32]),
            record: RecordId([2; 32]),
            receipt: UnixTime::new(5, 0),
            certificate: None,
            chain: ChainId([3; 16]),
            number: 4,
            late: false,
            previous: None,
            facts: vec![(0, vec![1].into())],
            part: Some((0, 2)),
        };
        let next = Merged { part: Some((1, 2)), ..one.clone() };
        let check = |records: &[&Merged]| {
            let records = records.iter().map(|one| (*one).clone()).collect();
            check_merged(&MergedRun { of: ChainId([7; 16]), records })
        };
        assert_eq!(check(&[&one, &next]), Ok(()));
        assert!(check(&[&next, &one]).is_err());
        assert!(check(&[&one, &one]).is_err());
        assert!(check(&[&Merged { part: Some((2, 2)), ..one.clone() }]).is_err());
        let nanos = Merged { receipt: UnixTime { seconds: 5, nanos: 1_000_000_000 }, ..one };
        assert!(check(&[&nanos]).is_err());
    }
}
