//! Reading chunks: index, memory, disk, store; then open, unpack, verify.
//!
//! What is fetched is a run of whole frames, and what is kept is their plaintext,
//! since the next chunk that is wanted is nearly always a neighbour. A chunk is
//! compared with its id when it is first taken from a frame. Nobody waits for a
//! frame twice: whoever asks for one that is on its way waits for that one.
//!
//! Bounds: the memory caches have theirs in bytes, a fetch is at most
//! [`ReaderOptions::fetch_bytes`], and at most [`ReaderOptions::fetchers`] run ahead
//! of the readers.

mod ahead;
mod bulk;
mod content;
mod flights;
mod frames;
mod warm;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::base::{ChunkId, Kind};
use crate::cache::{DiskCache, MemoryCache};
use crate::codec::hash::{ChunkKind, sha256};
use crate::format::node::Node;
use crate::format::pack::chunk_bytes_max;
use crate::index::{ChunkPlace, Index};
use crate::repo::keys::Keys;
use crate::repo::library::LoadedNode;
use crate::repo::{Error, Result};
use crate::store::Store;
pub use bulk::{Wanted, read_chunks};
use frames::{Frames, PackInfo};

pub use ahead::{Ahead, Hint};
pub use warm::{Behind, Run};

/// Of the room for frames, one part in so many is for chunks that are kept apart from theirs, …
const STRAYS_SHARE: usize = 8;
/// … each of at most so many bytes.
const STRAY_BYTES_MAX: usize = 64 << 10;
/// The most chunks that are looked up in one transaction of the index.
const LOOK_UPS: usize = 1024;

/// How much a reader may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderOptions {
    /// Plaintext of frames in memory. Bytes.
    pub frame_bytes: usize,
    /// Decoded nodes in memory. Bytes, about.
    pub node_bytes: usize,
    /// Plaintext of frames of nodes in memory, which need not give way to files. Bytes.
    pub node_frame_bytes: usize,
    /// Threads that fetch ahead.
    pub fetchers: usize,
    /// No single fetch asks for more sealed bytes, or unpacks to more, unless one
    /// frame does: with `fetchers` it bounds what is on its way. Bytes.
    pub fetch_bytes: u64,
    /// What lies around a frame that is wanted of a node pack, or by who reads in order, is
    /// fetched with it and kept sealed: a run of about so many bytes.
    pub run_bytes: u64,
    /// Such frames in memory. Bytes.
    pub sealed_bytes: usize,
}

impl Default for ReaderOptions {
    fn default() -> ReaderOptions {
        ReaderOptions {
            frame_bytes: 24 << 20,
            node_bytes: 4 << 20,
            node_frame_bytes: 8 << 20,
            fetchers: 2,
            fetch_bytes: 4 << 20,
            run_bytes: 8 << 20,
            sealed_bytes: 16 << 20,
        }
    }
}

impl ReaderOptions {
    /// The same for a store in a directory of this machine, where one more call
    /// costs little and large fetches only take memory.
    #[must_use]
    pub fn for_directory(self) -> ReaderOptions {
        ReaderOptions {
            fetch_bytes: self.fetch_bytes.min(2 << 20),
            run_bytes: 0,
            sealed_bytes: 0,
            ..self
        }
    }

    /// The same for a store that is far away: what is kept sealed leaves less for the rest.
    #[must_use]
    pub fn for_bucket(self) -> ReaderOptions {
        let frame_bytes = self.frame_bytes.saturating_sub(self.sealed_bytes);
        ReaderOptions { frame_bytes: frame_bytes.max(self.frame_bytes / 2), ..self }
    }
}

/// Reads chunks of a repository. Shared by many threads.
pub struct Reader {
    index: Arc<Index>,
    keys: Arc<Keys>,
    frames: Frames,
    places: MemoryCache<ChunkId, Arc<[ChunkPlace]>>,
    packs: MemoryCache<i64, Arc<PackInfo>>,
    nodes: MemoryCache<ChunkId, Arc<LoadedNode>>,
    lists: MemoryCache<ChunkId, content::Placed>,
    /// Small chunks of frames that had to be opened again: a text that comes with every other
    /// package lies among the files of the first.
    strays: MemoryCache<ChunkId, Bytes>,
    fronts: warm::Fronts,
    options: ReaderOptions,
    heal: Box<dyn Fn() -> Result<()> + Send + Sync>,
    healed: Mutex<HashMap<ChunkId, Option<i64>>>,
}

/// A frame's plaintext, and which of its chunks were compared with their ids.
pub(super) struct PlainFrame {
    pub(super) bytes: Bytes,
    pub(super) kind: ChunkKind,
    /// Whether it was opened before, and dropped since.
    again: bool,
    verified: Mutex<HashSet<(ChunkId, usize, usize)>>,
}

impl Reader {
    /// A reader. `heal` is called when a chunk cannot be found or read where the
    /// index says, once a chunk: it brings the index up to date.
    pub fn new(
        store: Arc<dyn Store>,
        index: Arc<Index>,
        keys: Arc<Keys>,
        disk: Option<DiskCache>,
        options: ReaderOptions,
        heal: impl Fn() -> Result<()> + Send + Sync + 'static,
    ) -> Reader {
        let strays = options.frame_bytes / STRAYS_SHARE;
        let options = ReaderOptions { frame_bytes: options.frame_bytes - strays, ..options };
        Reader {
            index,
            keys,
            frames: Frames::new(store, disk, &options),
            places: MemoryCache::new(4 << 20),
            packs: MemoryCache::new(8 << 20),
            nodes: MemoryCache::new(options.node_bytes),
            lists: MemoryCache::new(8 << 20),
            strays: MemoryCache::new(strays),
            fronts: warm::Fronts::new(),
            options,
            heal: Box::new(heal),
            healed: Mutex::new(HashMap::new()),
        }
    }

    /// Forgets where chunks are, after the index was made anew: pack numbers are
    /// of one index only.
    pub fn forget_places(&self) {
        self.places.clear();
        self.packs.clear();
    }

    /// The plaintext of a chunk, compared with its id.
    ///
    /// # Errors
    ///
    /// [`Error::ChunkMissing`], or what went wrong at the first of its places.
    pub fn chunk(&self, kind: ChunkKind, id: &ChunkId) -> Result<Bytes> {
        self.chunk_of(kind, id, false)
    }

    /// A chunk for somebody who may be reading `in_order`, and then wants what lies behind it.
    fn chunk_of(&self, kind: ChunkKind, id: &ChunkId, in_order: bool) -> Result<Bytes> {
        if let Some(bytes) = self.stray(kind, id) {
            return Ok(bytes);
        }
        match self.try_places(kind, id, in_order) {
            Err(error) if self.may_heal(id, &error) => {
                (self.heal)()?;
                self.forget_places();
                self.try_places(kind, id, in_order)
            }
            other => other,
        }
    }

    /// The plaintext of a chunk if it is in memory.
    pub fn chunk_in_memory(&self, kind: ChunkKind, id: &ChunkId) -> Option<Bytes> {
        if let Some(bytes) = self.stray(kind, id) {
            return Some(bytes);
        }
        let places = self.places.get(id)?;
        places.iter().find_map(|place| {
            let pack = self.packs.get(&place.pack)?;
            let frame = self.single_frame(&pack, place)?;
            let plain = self.frames.in_memory(&pack, frame)?;
            self.cut(kind, id, &pack, place, frame, &plain).ok()
        })
    }

    /// A chunk that is kept apart from its frame.
    fn stray(&self, kind: ChunkKind, id: &ChunkId) -> Option<Bytes> {
        (kind == ChunkKind::Data).then(|| self.strays.get(id)).flatten()
    }

    /// A node, decoded and checked.
    ///
    /// # Errors
    ///
    /// As [`Reader::chunk`], and [`Error::Object`] if it is no node.
    pub fn node(&self, id: &ChunkId) -> Result<Arc<LoadedNode>> {
        if let Some(node) = self.nodes.get(id) {
            return Ok(node);
        }
        let bytes = self.chunk(ChunkKind::Node, id)?;
        self.decode_node(id, &bytes)
    }

    /// A node if it is in memory, decoded or in a frame.
    pub fn node_in_memory(&self, id: &ChunkId) -> Option<Arc<LoadedNode>> {
        if let Some(node) = self.nodes.get(id) {
            return Some(node);
        }
        let bytes = self.chunk_in_memory(ChunkKind::Node, id)?;
        // Whoever may wait meets the same error, and reports it.
        self.decode_node(id, &bytes).ok()
    }

    fn decode_node(&self, id: &ChunkId, bytes: &[u8]) -> Result<Arc<LoadedNode>> {
        let decoded = Node::decode(bytes);
        let (refs, node) = decoded.map_err(Error::object(format!("the node in chunk {id}")))?;
        let loaded = Arc::new(LoadedNode { refs, node, weight: 256 + bytes.len() * 4 });
        self.nodes.put(*id, Arc::clone(&loaded), loaded.weight);
        Ok(loaded)
    }

    /// Counters for people.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.frames.counters()
    }

    /// How many threads may fetch ahead.
    #[must_use]
    pub fn fetchers(&self) -> usize {
        self.options.fetchers
    }

    fn may_heal(&self, id: &ChunkId, error: &Error) -> bool {
        let stale = matches!(error.kind(), Kind::NotFound | Kind::Damaged);
        // A chunk that is truly lost must not cost a listing at every read; one that is
        // copied from pack to pack while a mount stays is found each time.
        let newest = self.places_of(id).ok().and_then(|all| all.iter().map(|at| at.pack).max());
        let mut healed = self.healed.lock().unwrap_or_else(PoisonError::into_inner);
        if healed.len() > 10_000 {
            healed.clear();
        }
        stale && healed.insert(*id, newest) != Some(newest)
    }

    fn try_places(&self, kind: ChunkKind, id: &ChunkId, in_order: bool) -> Result<Bytes> {
        let places = self.places_of(id)?;
        // Of the claims that fail, the first is the most trusted.
        let mut first = None;
        for (at, place) in places.iter().enumerate() {
            match self.chunk_at(kind, id, place, in_order) {
                Ok(bytes) => {
                    if at > 0 {
                        self.prefer(id, &places, at);
                    }
                    return Ok(bytes);
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or(Error::ChunkMissing { chunk: *id }))
    }

    /// Has the place that proved true tried first from now on.
    fn prefer(&self, id: &ChunkId, places: &[ChunkPlace], at: usize) {
        let mut places = places.to_vec();
        places[..=at].rotate_right(1);
        let weight = 128 + 24 * places.len();
        self.places.put(*id, places.into(), weight);
    }

    fn places_of(&self, id: &ChunkId) -> Result<Arc<[ChunkPlace]>> {
        if let Some(places) = self.places.get(id) {
            return Ok(places);
        }
        Ok(self.keep_places(id, self.index.chunk_places(id)?))
    }

    /// Looks up where these chunks are, if that is not in memory.
    fn find_places(&self, ids: &[ChunkId]) -> Result<()> {
        let unknown: Vec<ChunkId> =
            ids.iter().filter(|id| self.places.get(id).is_none()).copied().collect();
        for ids in unknown.chunks(LOOK_UPS) {
            for (id, places) in ids.iter().zip(self.index.all_chunk_places(ids)?) {
                self.keep_places(id, places);
            }
        }
        Ok(())
    }

    fn keep_places(&self, id: &ChunkId, places: Vec<ChunkPlace>) -> Arc<[ChunkPlace]> {
        let places: Arc<[ChunkPlace]> = places.into();
        if !places.is_empty() {
            self.places.put(*id, Arc::clone(&places), 128 + 24 * places.len());
        }
        places
    }

    fn pack(&self, number: i64) -> Result<Arc<PackInfo>> {
        if let Some(pack) = self.packs.get(&number) {
            return Ok(pack);
        }
        let row = self.index.pack(number)?.ok_or_else(|| {
            Error::Index(crate::index::Error::Corrupt {
                path: self.index.path().to_owned(),
                what: format!("a chunk is in pack number {number}, which is not there"),
            })
        })?;
        let pack = Arc::new(PackInfo::new(&row, &self.keys)?);
        self.packs.put(number, Arc::clone(&pack), 256 + 40 * pack.directory.frames.len());
        Ok(pack)
    }

    fn single_frame(&self, pack: &PackInfo, place: &ChunkPlace) -> Option<usize> {
        let frames = pack.directory.frames_of(place.start, place.length);
        (frames.len() == 1).then_some(frames.start)
    }

    fn chunk_at(
        &self,
        kind: ChunkKind,
        id: &ChunkId,
        place: &ChunkPlace,
        in_order: bool,
    ) -> Result<Bytes> {
        let pack = self.pack(place.pack)?;
        let corrupt = || Error::ChunkCorrupt { chunk: *id, pack: pack.id };
        let frames = pack.directory.frames_of(place.start, place.length);
        let end = place.start + u64::from(place.length);
        if frames.is_empty() && place.length > 0
            || end > pack.directory.content_len()
            || place.length > chunk_bytes_max(kind)
        {
            return Err(corrupt());
        }
        if let [frame] = frames.clone().collect::<Vec<_>>()[..] {
            let plain = self.frames.load(&pack, frame, in_order)?;
            return self.cut(kind, id, &pack, place, frame, &plain);
        }
        let mut bytes = Vec::with_capacity(place.length as usize);
        for number in frames.clone() {
            let frame = &pack.directory.frames[number];
            let plain = self.frames.load(&pack, number, in_order)?;
            let from = usize::try_from(place.start.saturating_sub(frame.start)).unwrap_or(0);
            let rest = place.length as usize - bytes.len();
            let upto = plain.bytes.len().min(from + rest);
            bytes.extend_from_slice(plain.bytes.get(from..upto).ok_or_else(corrupt)?);
        }
        if bytes.len() != place.length as usize
            || self.keys.ids.chunk_id(kind, &sha256(&bytes)) != *id
        {
            frames.for_each(|number| self.frames.drop_frame(&pack, number));
            return Err(corrupt());
        }
        Ok(bytes.into())
    }

    /// Takes a chunk out of the one frame that holds it.
    fn cut(
        &self,
        kind: ChunkKind,
        id: &ChunkId,
        pack: &PackInfo,
        place: &ChunkPlace,
        frame: usize,
        plain: &PlainFrame,
    ) -> Result<Bytes> {
        let corrupt = || Error::ChunkCorrupt { chunk: *id, pack: pack.id };
        let from = place.start - pack.directory.frames[frame].start;
        let from = usize::try_from(from).map_err(|_| corrupt())?;
        let upto = from + place.length as usize;
        if upto > plain.bytes.len() {
            return Err(corrupt());
        }
        let bytes = plain.bytes.slice(from..upto);
        let mark = (*id, from, upto);
        let lock = || plain.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kind == plain.kind && lock().contains(&mark);
        if !known {
            if self.keys.ids.chunk_id(kind, &sha256(&bytes)) != *id {
                self.frames.drop_frame(pack, frame);
                return Err(corrupt());
            }
            if kind == plain.kind {
                lock().insert(mark);
            }
            if plain.again && kind == ChunkKind::Data && bytes.len() <= STRAY_BYTES_MAX {
                self.strays.put(*id, Bytes::copy_from_slice(&bytes), bytes.len() + 128);
            }
        }
        Ok(bytes)
    }
}
