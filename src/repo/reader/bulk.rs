//! Many chunks of one pack, read in the order in which they lie in it.
//!
//! A collector and a check read whole packs, or much of them, once. So nothing is
//! kept: frames are fetched in runs, opened, cut and dropped. What is held at a time
//! is a run as it was fetched, and the frames that the chunk at hand lies in.

use std::collections::BTreeMap;

use super::frames::PackInfo;
use crate::base::ChunkId;
use crate::codec::hash::sha256;
use crate::format::names;
use crate::format::pack::chunk_bytes_max;
use crate::index::PackRow;
use crate::repo::{Error, Repository, Result};

/// A chunk to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Which one.
    pub id: ChunkId,
    /// Where it begins in the pack's content.
    pub start: u64,
    /// Its length.
    pub length: u32,
}

/// A run is fetched at once up to this length. Bytes.
const RUN_BYTES: u64 = 8 << 20;
/// What lies between two frames that are wanted is fetched with them, if it is less.
const GAP_BYTES: u64 = 256 << 10;

/// Reads chunks of one pack and hands each to `each`, compared with its id; one that is
/// not what it should be comes as an error. `wanted` must be in the order of `start`.
///
/// # Errors
///
/// What `each` returns, and [`Error`] if the pack cannot be read or opened at all.
pub fn read_chunks(
    repo: &Repository,
    row: &PackRow,
    wanted: &[Wanted],
    mut each: impl FnMut(&Wanted, Result<&[u8]>) -> Result<()>,
) -> Result<()> {
    let pack = PackInfo::new(row, repo.keys())?;
    let frames = &pack.directory.frames;
    let mut needed: Vec<usize> =
        wanted.iter().flat_map(|w| pack.directory.frames_of(w.start, w.length)).collect();
    needed.dedup();
    let mut run: (u64, bytes::Bytes) = (0, bytes::Bytes::new());
    let mut open: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let mut at = 0;
    let longest = chunk_bytes_max(pack.kind);
    for want in wanted {
        if want.length > longest {
            // Nobody stores such a chunk: whoever claims it wants memory filled.
            each(want, Err(Error::ChunkCorrupt { chunk: want.id, pack: pack.id }))?;
            continue;
        }
        let of_chunk = pack.directory.frames_of(want.start, want.length);
        open = open.split_off(&of_chunk.start);
        let mut failed = None;
        for number in of_chunk.clone() {
            if open.contains_key(&number) {
                continue;
            }
            let Some(frame) = frames.get(number) else { continue };
            let end = frame.offset + u64::from(frame.sealed_len);
            if frame.offset < run.0 || end > run.0 + run.1.len() as u64 {
                while needed.get(at).is_some_and(|n| *n < number) {
                    at += 1;
                }
                let mut upto = end;
                for next in needed[at..].iter().filter_map(|n| frames.get(*n)) {
                    let next_end = next.offset + u64::from(next.sealed_len);
                    if next.offset > upto + GAP_BYTES || next_end > frame.offset + RUN_BYTES {
                        break;
                    }
                    upto = upto.max(next_end);
                }
                let bytes = repo.store().get_range(&names::pack(pack.id), frame.offset..upto)?;
                run = (frame.offset, bytes);
            }
            let from = usize::try_from(frame.offset - run.0).unwrap_or(usize::MAX);
            let sealed = run.1.get(from..from + frame.sealed_len as usize).unwrap_or_default();
            match pack.open(number, sealed) {
                Ok(plain) => drop(open.insert(number, plain)),
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            each(want, Err(error))?;
            continue;
        }
        let corrupt = || Error::ChunkCorrupt { chunk: want.id, pack: pack.id };
        let joined: Vec<u8>;
        let (begin, content) = match (of_chunk.len(), open.get(&of_chunk.start)) {
            (1, Some(plain)) => (frames[of_chunk.start].start, plain.as_slice()),
            (_, Some(_)) => {
                joined = of_chunk.clone().filter_map(|n| open.get(&n)).flatten().copied().collect();
                (frames[of_chunk.start].start, joined.as_slice())
            }
            (_, None) => {
                each(want, Err(corrupt()))?;
                continue;
            }
        };
        let from = usize::try_from(want.start - begin).unwrap_or(usize::MAX);
        let bytes = content.get(from..from.saturating_add(want.length as usize));
        let sound = bytes
            .filter(|bytes| repo.keys().ids.chunk_id(pack.kind, &sha256(bytes)) == want.id)
            .ok_or_else(corrupt);
        each(want, sound)?;
    }
    Ok(())
}
