//! Checkpoints, as a reader meets them: facts of many records, merged.
//!
//! A checkpoint's record names the packs that hold its nodes, so a machine that
//! has seen nothing else can read it.

use crate::base::ChunkId;
use crate::codec::hash::{ChunkKind, sha256};
use crate::codec::seal::SealKey;
use crate::format::names;
use crate::format::node::{Merged, Node};
use crate::format::pack::PackFact;
use crate::repo::packer::open_frame;
use crate::repo::{Error, Repository, Result};

/// Reads a node of merged facts from the packs that its record names.
///
/// # Errors
///
/// [`Error::ChunkMissing`] if none has it, or what went wrong in reading it.
pub fn read_merged(
    repo: &Repository,
    packs: &[Box<PackFact>],
    id: &ChunkId,
) -> Result<Vec<Merged>> {
    for pack in packs {
        let Some((_, start, length)) = pack.directory.places().find(|(chunk, _, _)| chunk == id)
        else {
            continue;
        };
        let sealer = pack.key.map(|key| SealKey::from_bytes(key).sealer());
        let mut plain = Vec::new();
        let frames = pack.directory.frames_of(start, length);
        let first = pack.directory.frames.get(frames.start).map_or(0, |frame| frame.start);
        for number in frames {
            let frame = &pack.directory.frames[number];
            let range = frame.offset..frame.offset + u64::from(frame.sealed_len);
            let sealed = repo.store().get_range(&names::pack(pack.id), range)?;
            let at = u32::try_from(number).unwrap_or(u32::MAX);
            let opened = open_frame(pack.id, pack.kind, sealer.as_ref(), at, frame, &sealed)?;
            plain.extend_from_slice(&opened);
        }
        let from = usize::try_from(start - first).unwrap_or(usize::MAX);
        let corrupt = || Error::ChunkCorrupt { chunk: *id, pack: pack.id };
        let bytes = plain.get(from..from + length as usize).ok_or_else(corrupt)?;
        if repo.keys().ids.chunk_id(ChunkKind::Node, &sha256(bytes)) != *id {
            return Err(corrupt());
        }
        let (_, node) = Node::decode(bytes).map_err(Error::object(format!("chunk {id}")))?;
        return match node {
            Node::Merged(facts) => Ok(facts),
            _ => Err(Error::Tree { chunk: *id, why: "a checkpoint refers to another node" }),
        };
    }
    Err(Error::ChunkMissing { chunk: *id })
}
