//! The nodes of a checkpoint: stored in packs of their own, and read from there.

use std::collections::HashMap;

use crate::base::{ChunkId, Stop};
use crate::codec::compress::Compressor;
use crate::codec::hash::{ChunkKind, sha256};
use crate::codec::seal::SealKey;
use crate::format::names;
use crate::format::node::Node;
use crate::format::pack::PackFact;
use crate::repo::packer::{FrameChunk, PackBuilder, PackedFrame, open_frame, verify_pack};
use crate::repo::reader::{Wanted, read_chunks};
use crate::repo::standing::Standing;
use crate::repo::writer::pack_target;
use crate::repo::{Error, Repository, Result};

/// Reads nodes from the packs that a checkpoint's record names.
pub(super) struct Nodes<'a> {
    repo: &'a Repository,
    packs: Vec<PackFact>,
    places: HashMap<ChunkId, (usize, u64, u32)>,
}

impl<'a> Nodes<'a> {
    /// Memory: 80 bytes a node of those packs.
    pub(super) fn new(repo: &'a Repository, packs: Vec<PackFact>) -> Nodes<'a> {
        let mut places = HashMap::new();
        for (number, pack) in packs.iter().enumerate() {
            for (id, start, length) in pack.directory.places() {
                places.insert(id, (number, start, length));
            }
        }
        Nodes { repo, packs, places }
    }

    /// A node, compared with its id. Costs one ranged GET. One that cannot be read there
    /// is looked for where the index knows of it: a collector may have copied it.
    ///
    /// # Errors
    ///
    /// [`Error::ChunkMissing`] if no pack has it, or what went wrong in reading it.
    pub(super) fn read(&self, id: &ChunkId) -> Result<Node> {
        match self.read_here(id) {
            Err(error) if error.is_damage() => self.read_elsewhere(id)?.ok_or(error),
            other => other,
        }
    }

    fn read_elsewhere(&self, id: &ChunkId) -> Result<Option<Node>> {
        for place in self.repo.index().chunk_places(id)? {
            let Some(row) = self.repo.index().pack(place.pack)? else { continue };
            let wanted = Wanted { id: *id, start: place.start, length: place.length };
            let mut node = None;
            let read = read_chunks(self.repo, &row, &[wanted], |_, bytes| {
                node = Node::decode(bytes?).ok();
                Ok(())
            });
            match (read, node) {
                (Ok(()), Some((_, node))) => return Ok(Some(node)),
                (Err(error), _) if !error.is_damage() => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(None)
    }

    fn read_here(&self, id: &ChunkId) -> Result<Node> {
        let missing = || Error::ChunkMissing { chunk: *id };
        let &(number, start, length) = self.places.get(id).ok_or_else(missing)?;
        let pack = &self.packs[number];
        let corrupt = || Error::ChunkCorrupt { chunk: *id, pack: pack.id };
        let numbers = pack.directory.frames_of(start, length);
        let frames = &pack.directory.frames[numbers.clone()];
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            return Err(corrupt());
        };
        let range = first.offset..last.offset + u64::from(last.sealed_len);
        let sealed = self.repo.store().get_range(&names::pack(pack.id), range)?;
        let sealer = pack.key.map(|key| SealKey::from_bytes(key).sealer());
        let mut plain = Vec::new();
        for (number, frame) in numbers.zip(frames) {
            let from = usize::try_from(frame.offset - first.offset).unwrap_or(usize::MAX);
            let upto = from.saturating_add(frame.sealed_len as usize);
            let sealed = sealed.get(from..upto).ok_or_else(corrupt)?;
            let at = u32::try_from(number).unwrap_or(u32::MAX);
            let kind = pack.kind;
            plain.append(&mut open_frame(pack.id, kind, sealer.as_ref(), at, frame, sealed)?);
        }
        let from = usize::try_from(start - first.start).unwrap_or(usize::MAX);
        let bytes = plain.get(from..from.saturating_add(length as usize)).ok_or_else(corrupt)?;
        if self.repo.keys().ids.chunk_id(ChunkKind::Node, &sha256(bytes)) != *id {
            return Err(corrupt());
        }
        let (_, node) = Node::decode(bytes).map_err(Error::object(format!("chunk {id}")))?;
        Ok(node)
    }
}

/// Stores nodes in packs of their own, each node in a frame of its own, so that one
/// ranged GET reads it. Nothing is published. Memory: a pack.
pub(super) struct Storing<'a> {
    repo: &'a Repository,
    standing: &'a Standing,
    stop: &'a Stop,
    target: usize,
    compressor: Compressor,
    open: Option<PackBuilder>,
    /// The packs that are stored.
    pub(super) packs: Vec<PackFact>,
}

impl<'a> Storing<'a> {
    pub(super) fn new(repo: &'a Repository, standing: &'a Standing, stop: &'a Stop) -> Storing<'a> {
        let wanted = repo.config().parameters.pack_bytes;
        Storing {
            repo,
            standing,
            stop,
            target: pack_target(wanted, repo.store().object_bytes_max()),
            compressor: Compressor::new(3),
            open: None,
            packs: Vec::new(),
        }
    }

    /// Stores a node.
    ///
    /// # Errors
    ///
    /// [`Error`] if a pack cannot be stored; [`Error::Interrupted`].
    pub(super) fn add(&mut self, node: &Node) -> Result<ChunkId> {
        if self.stop.is_raised() {
            return Err(Error::Interrupted);
        }
        let bytes = node.encode(&[]);
        let id = self.repo.keys().ids.chunk_id(ChunkKind::Node, &sha256(&bytes));
        let chunks = vec![FrameChunk::new(id, &bytes)];
        let (codec, packed) = self.compressor.pack(&bytes);
        let plain_len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut builder = match self.open.take() {
            Some(builder) => builder,
            None => PackBuilder::new(
                ChunkKind::Node,
                self.repo.config().repository,
                self.repo.keys().recipient.as_ref(),
                self.target,
            )?,
        };
        builder.add(PackedFrame { codec, packed, plain_len, chunks });
        let is_full = builder.is_full(self.target);
        self.open = Some(builder);
        if is_full {
            self.close()?;
        }
        Ok(id)
    }

    /// Stores what waits.
    ///
    /// # Errors
    ///
    /// As [`Storing::add`].
    pub(super) fn close(&mut self) -> Result<()> {
        let Some(builder) = self.open.take() else { return Ok(()) };
        let built = builder.finish();
        verify_pack(&built, self.repo.config().repository)?;
        let put = self.repo.store().put_new(&names::pack(built.fact.id), built.bytes)?;
        self.repo.note_store_time(put.receipt);
        self.standing.on(put.receipt.seconds);
        self.packs.push(built.fact);
        Ok(())
    }
}
