//! Reading files: from an offset to the extents that hold it, through a tree of
//! lists where the list is long.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Reader;
use crate::base::ChunkId;
use crate::codec::hash::ChunkKind;
use crate::format::extents::{Extent, ExtentChild};
use crate::format::node::{DEPTH_MAX, Node};
use crate::repo::library::{FileContent, LoadedNode, Whence};
use crate::repo::{Error, Result};

/// Extents with the offset of each, in order.
pub(super) type Placed = Arc<[(u64, Option<ChunkId>)]>;

/// A list of extents and which part of the file it covers.
pub(super) struct List {
    start: u64,
    pub(super) end: u64,
    extents: Placed,
}

impl List {
    /// The extents from the one that holds `offset` on: start, end, chunk.
    pub(super) fn from(
        &self,
        offset: u64,
    ) -> impl Iterator<Item = (u64, u64, Option<ChunkId>)> + '_ {
        let first = self.extents.partition_point(|&(at, _)| self.start + at <= offset);
        let first = first.saturating_sub(1);
        (first..self.extents.len()).map(move |i| {
            let (at, chunk) = self.extents[i];
            let end = self.extents.get(i + 1).map_or(self.end, |&(next, _)| self.start + next);
            (self.start + at, end, chunk)
        })
    }
}

impl Reader {
    /// Bytes of a file: exactly `length`, or fewer if the file ends before. Who reads
    /// `in_order` will want what comes next.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::chunk`].
    pub fn read(
        &self,
        content: &FileContent,
        offset: u64,
        length: usize,
        in_order: bool,
    ) -> Result<Bytes> {
        let chunk = |id: &ChunkId| self.chunk_of(ChunkKind::Data, id, in_order);
        self.read_with(content, offset, length, &chunk, &|content, at| self.list(content, at))
    }

    /// The same if all of it is in memory.
    pub fn read_in_memory(
        &self,
        content: &FileContent,
        offset: u64,
        length: usize,
    ) -> Option<Bytes> {
        let absent = |id: &ChunkId| Error::ChunkMissing { chunk: *id };
        let chunk =
            |id: &ChunkId| self.chunk_in_memory(ChunkKind::Data, id).ok_or_else(|| absent(id));
        let list = |content: &FileContent, at: u64| {
            self.list_in_memory(content, at).ok_or(Error::ChunkMissing { chunk: ChunkId([0; 32]) })
        };
        self.read_with(content, offset, length, &chunk, &list).ok()
    }

    fn read_with(
        &self,
        content: &FileContent,
        offset: u64,
        length: usize,
        chunk: &dyn Fn(&ChunkId) -> Result<Bytes>,
        list: &dyn Fn(&FileContent, u64) -> Result<List>,
    ) -> Result<Bytes> {
        let end = content.size().min(offset.saturating_add(length as u64));
        if offset >= end {
            return Ok(Bytes::new());
        }
        if let FileContent::Inline(bytes) = content {
            return Ok(bytes.slice(to_usize(offset)..to_usize(end)));
        }
        let mut out = BytesMut::new();
        let mut at = offset;
        while at < end {
            let extents = list(content, at)?;
            for (start, stop, id) in extents.from(at) {
                if at >= end {
                    break;
                }
                let upto = stop.min(end);
                let wanted = to_usize(upto - at);
                match id {
                    None => out.resize(out.len() + wanted, 0),
                    Some(id) => {
                        let bytes = chunk(&id)?;
                        if bytes.len() as u64 != stop - start {
                            let why = "a chunk has another length than its extent";
                            return Err(Error::Tree { chunk: id, why });
                        }
                        let from = to_usize(at - start);
                        let part = bytes.slice(from..from + wanted);
                        if at == offset && upto == end {
                            return Ok(part);
                        }
                        out.reserve(to_usize(end - at));
                        out.extend_from_slice(&part);
                    }
                }
                at = upto;
            }
            if extents.end <= at && at < end && extents.extents.is_empty() {
                break;
            }
        }
        Ok(out.freeze())
    }

    /// Where the next data or hole begins at or after `offset`.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::chunk`], for the lists of long files.
    pub fn seek(&self, content: &FileContent, offset: u64, whence: Whence) -> Result<Option<u64>> {
        let size = content.size();
        if offset >= size {
            return Ok(None);
        }
        if matches!(content, FileContent::Inline(_)) {
            return Ok(Some(if whence == Whence::Data { offset } else { size }));
        }
        let mut at = offset;
        while at < size {
            let list = self.list(content, at)?;
            for (_, stop, chunk) in list.from(at) {
                if chunk.is_some() == (whence == Whence::Data) {
                    return Ok(Some(at));
                }
                at = stop;
            }
            if list.extents.is_empty() {
                break;
            }
        }
        Ok((whence == Whence::Hole).then_some(size))
    }

    /// About how many bytes of the store a file takes: of each of its chunks, once, its share
    /// of the frames that it is in. Looks up every chunk.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::chunk`], for the lists of long files, and [`Error::ChunkMissing`].
    pub fn stored_size(&self, content: &FileContent) -> Result<u64> {
        let (mut at, mut stored, mut counted) = (0, 0, HashSet::new());
        while at < content.size() && !matches!(content, FileContent::Inline(_)) {
            let list = self.list(content, at)?;
            let before = at;
            for (_, end, chunk) in list.from(at) {
                at = end;
                if let Some(id) = chunk.filter(|id| counted.insert(*id)) {
                    stored += self.stored_chunk(&id)?;
                }
            }
            if at == before {
                break;
            }
        }
        Ok(stored)
    }

    fn stored_chunk(&self, id: &ChunkId) -> Result<u64> {
        let places = self.places_of(id)?;
        let place = places.first().ok_or(Error::ChunkMissing { chunk: *id })?;
        let pack = self.pack(place.pack)?;
        let end = place.start + u64::from(place.length);
        let frames = pack.directory.frames.get(pack.directory.frames_of(place.start, place.length));
        Ok(frames.unwrap_or_default().iter().fold(0, |sum, frame| {
            let frame_end = frame.start + u64::from(frame.plain_len);
            let own = end.min(frame_end).saturating_sub(place.start.max(frame.start));
            sum + own * u64::from(frame.sealed_len) / u64::from(frame.plain_len).max(1)
        }))
    }

    /// The list of extents that holds `offset`.
    pub(super) fn list(&self, content: &FileContent, offset: u64) -> Result<List> {
        self.list_by(content, offset, &|id| self.node(id))
    }

    /// The same if it is in memory.
    pub(super) fn list_in_memory(&self, content: &FileContent, offset: u64) -> Option<List> {
        let absent = |id: &ChunkId| Error::ChunkMissing { chunk: *id };
        self.list_by(content, offset, &|id| self.node_in_memory(id).ok_or_else(|| absent(id))).ok()
    }

    fn list_by(
        &self,
        content: &FileContent,
        offset: u64,
        node: &dyn Fn(&ChunkId) -> Result<Arc<LoadedNode>>,
    ) -> Result<List> {
        match content {
            FileContent::Extents(extents, size) => {
                Ok(List { start: 0, end: *size, extents: Arc::clone(extents) })
            }
            FileContent::Tree(root, size) => self.descend(*root, offset, *size, node),
            FileContent::Empty | FileContent::Inline(_) => {
                Ok(List { start: 0, end: 0, extents: Arc::default() })
            }
        }
    }

    fn descend(
        &self,
        root: ChunkId,
        offset: u64,
        size: u64,
        node: &dyn Fn(&ChunkId) -> Result<Arc<LoadedNode>>,
    ) -> Result<List> {
        let mut id = root;
        let (mut start, mut end) = (0, size);
        for _ in 0..DEPTH_MAX {
            let loaded = node(&id)?;
            let contradiction = |why| Error::Tree { chunk: id, why };
            match &loaded.node {
                Node::Extents(list) => {
                    if list.iter().map(|e| e.length).sum::<u64>() != end - start {
                        return Err(contradiction("a list has another length than it should"));
                    }
                    let extents = match self.lists.get(&id) {
                        Some(extents) => extents,
                        None => {
                            let extents = place(list, &loaded.refs);
                            self.lists.put(id, Arc::clone(&extents), 64 + 48 * extents.len());
                            extents
                        }
                    };
                    return Ok(List { start, end, extents });
                }
                Node::ExtentTree(children) => {
                    let child = child_at(children, start, offset);
                    let (from, child) =
                        child.ok_or_else(|| contradiction("it ends before the file does"))?;
                    (start, end) = (from, from + child.length);
                    let next = loaded.refs.get(child.node as usize).copied();
                    id = next.ok_or_else(|| contradiction("a child is missing"))?;
                }
                _ => return Err(contradiction("it is no list of extents")),
            }
        }
        Err(Error::Tree { chunk: root, why: "its lists nest too deep" })
    }
}

fn child_at(children: &[ExtentChild], start: u64, offset: u64) -> Option<(u64, ExtentChild)> {
    let mut at = start;
    children.iter().find_map(|child| {
        let from = at;
        at = at.saturating_add(child.length);
        (offset < at).then_some((from, *child))
    })
}

fn place(extents: &[Extent], refs: &[ChunkId]) -> Placed {
    let mut at = 0;
    extents
        .iter()
        .map(|extent| {
            let start = at;
            at += extent.length;
            (start, extent.chunk.and_then(|place| refs.get(place as usize).copied()))
        })
        .collect()
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
