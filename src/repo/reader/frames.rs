//! Frames: fetched in runs, opened, kept; each fetched once however many ask.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use lru::LruCache;

use super::flights::{Flight, Flights, Landing};
use super::{PlainFrame, ReaderOptions};
use crate::base::PackId;
use crate::cache::{DiskCache, MemoryCache};
use crate::codec::hash::ChunkKind;
use crate::codec::seal::Sealer;
use crate::format::pack::Directory;
use crate::format::{FormatError, names};
use crate::index::PackRow;
use crate::repo::keys::Keys;
use crate::repo::packer::open_frame;
use crate::repo::{Error, Result};
use crate::store::Store;

/// So many frames are known to have been opened before.
const OPENED_MAX: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// A pack made ready to read from, as one claim has it.
pub(super) struct PackInfo {
    pub(super) id: PackId,
    claim: [u8; 32],
    pub(super) kind: ChunkKind,
    pub(super) directory: Directory,
    sealer: Option<Sealer>,
}

impl PackInfo {
    pub(super) fn new(row: &PackRow, keys: &Keys) -> Result<PackInfo> {
        let corrupt = |why: &str| {
            Error::object(format!("the index's row of {}", names::pack(row.id)))(
                FormatError::malformed("row", why.to_owned()),
            )
        };
        let directory =
            Directory::decode_frames(&row.frames).map_err(|e| corrupt(&e.to_string()))?;
        let sealer = match (&row.key, &keys.recipient) {
            (_, None) => None,
            (Some(wrapped), Some(_)) => {
                let key = keys.unwrap_pack_key(row.id, &row.claim, wrapped);
                Some(key.ok_or_else(|| corrupt("its key does not open"))?.sealer())
            }
            (None, Some(_)) => return Err(corrupt("it has no key")),
        };
        let kind = if row.kind == 1 { ChunkKind::Node } else { ChunkKind::Data };
        Ok(PackInfo { id: row.id, claim: row.claim, kind, directory, sealer })
    }

    /// Whether a run of frames is short enough to be fetched at once.
    pub(super) fn is_one_fetch(&self, frames: Range<usize>, bytes_max: u64) -> bool {
        let range = self.range(frames.clone());
        let plain: u64 = self
            .directory
            .frames
            .get(frames)
            .map_or(0, |frames| frames.iter().map(|frame| u64::from(frame.plain_len)).sum());
        range.end - range.start <= bytes_max && plain <= bytes_max
    }

    /// Opens and unpacks a frame.
    pub(super) fn open(&self, number: usize, sealed: &[u8]) -> Result<Vec<u8>> {
        let frame = &self.directory.frames[number];
        let at = u32::try_from(number).unwrap_or(u32::MAX);
        open_frame(self.id, self.kind, self.sealer.as_ref(), at, frame, sealed)
    }

    /// The run that a frame belongs to: a pack is divided into runs of about equal length,
    /// each one GET of about so many bytes. Wherever reading begins, the pack then costs as
    /// many GETs as it has runs.
    fn run_of(&self, frame: usize, run_bytes: u64) -> Range<usize> {
        let all = &self.directory.frames;
        let whole = self.range(0..all.len());
        let length = (whole.end - whole.start).max(1);
        let runs = length.div_ceil((run_bytes + run_bytes / 4).max(1));
        let run = |at: usize| (all[at].offset - whole.start) * runs / length;
        let (own, mut start, mut end) = (run(frame), frame, frame + 1);
        while start > 0 && run(start - 1) == own {
            start -= 1;
        }
        while end < all.len() && run(end) == own {
            end += 1;
        }
        start..end
    }

    fn range(&self, frames: Range<usize>) -> Range<u64> {
        let all = &self.directory.frames;
        match (all.get(frames.start), frames.end.checked_sub(1).and_then(|last| all.get(last))) {
            (Some(first), Some(last)) => first.offset..last.offset + u64::from(last.sealed_len),
            _ => 0..0,
        }
    }
}

/// A claim and the number of a frame: a false claim of a pack has frames of its own,
/// which shadow no others.
type Key = ([u8; 32], u32);

/// The frames of all packs.
pub(super) struct Frames {
    store: Arc<dyn Store>,
    disk: Option<DiskCache>,
    memory: MemoryCache<Key, Arc<PlainFrame>>,
    /// The frames of nodes that were used last: who goes through a tree needs one or two of them
    /// all the time, and reads more of files between two looks than memory holds. Those that find
    /// no room here are among the others.
    nodes: MemoryCache<Key, Arc<PlainFrame>>,
    /// Frames that were fetched with others.
    sealed: MemoryCache<Key, Bytes>,
    fetch_bytes: u64,
    run_bytes: u64,
    /// Frames that were opened, the last of them.
    opened: Mutex<LruCache<Key, ()>>,
    flights: Flights<Key>,
    fetches: AtomicU64,
    fetched_bytes: AtomicU64,
    disk_hits: AtomicU64,
    memory_hits: AtomicU64,
    corrupt: AtomicU64,
}

/// What one caller fetches, and nobody else meanwhile.
struct Claim<'a> {
    /// The frames that are wanted.
    wanted: Range<usize>,
    /// Those that the first GET brings: what lies around them will be wanted.
    whole: Range<usize>,
    /// All of these that are not here already.
    landing: Landing<'a, Key>,
}

/// What somebody should claim, as it was a moment ago.
struct Plan {
    wanted: Range<usize>,
    /// What lies around them and is not here.
    around: Vec<usize>,
}

/// Whose turn it is when a frame is wanted.
enum Turn<'a> {
    Here(Arc<PlainFrame>),
    OnItsWay(Arc<Flight>),
    Own(Claim<'a>),
}

impl Frames {
    pub(super) fn new(
        store: Arc<dyn Store>,
        disk: Option<DiskCache>,
        options: &ReaderOptions,
    ) -> Frames {
        Frames {
            store,
            disk,
            memory: MemoryCache::new(options.frame_bytes),
            nodes: MemoryCache::new(options.node_frame_bytes),
            sealed: MemoryCache::new(options.sealed_bytes),
            fetch_bytes: options.fetch_bytes,
            run_bytes: options.run_bytes,
            opened: Mutex::new(LruCache::new(OPENED_MAX)),
            flights: Flights::default(),
            fetches: AtomicU64::new(0),
            fetched_bytes: AtomicU64::new(0),
            disk_hits: AtomicU64::new(0),
            memory_hits: AtomicU64::new(0),
            corrupt: AtomicU64::new(0),
        }
    }

    /// A frame that is kept, which is then the most recently used.
    fn kept(&self, kind: ChunkKind, at: &Key) -> Option<Arc<PlainFrame>> {
        if kind == ChunkKind::Data {
            return self.memory.get(at);
        }
        self.nodes.get(at).or_else(|| {
            let plain = self.memory.take(at)?;
            self.put(*at, Arc::clone(&plain));
            Some(plain)
        })
    }

    fn is_kept(&self, at: &Key) -> bool {
        self.memory.has(at) || self.nodes.has(at)
    }

    fn put(&self, at: Key, plain: Arc<PlainFrame>) {
        let weight = plain.bytes.len() + 512;
        let others = match plain.kind {
            ChunkKind::Data => vec![(at, plain, weight)],
            ChunkKind::Node => self.nodes.put(at, plain, weight),
        };
        for (at, plain, weight) in others {
            self.memory.put(at, plain, weight);
        }
    }

    /// Whether a frame needs no fetch, since it is in memory or on disk.
    fn is_here(&self, pack: &PackInfo, frame: usize) -> bool {
        let at = key(pack, frame);
        self.is_kept(&at)
            || self.sealed.has(&at)
            || self.disk.as_ref().is_some_and(|disk| disk.has(&pack.claim, at.1))
    }

    /// Whether a frame is in memory, or on its way there.
    pub(super) fn is_in_memory(&self, pack: &PackInfo, frame: usize) -> bool {
        let at = key(pack, frame);
        self.is_kept(&at) || self.flights.has(&at)
    }

    pub(super) fn in_memory(&self, pack: &PackInfo, frame: usize) -> Option<Arc<PlainFrame>> {
        let found = self.kept(pack.kind, &key(pack, frame));
        if found.is_some() {
            self.memory_hits.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    /// A frame's plaintext. Who reads `in_order` will want what lies behind it.
    pub(super) fn load(
        &self,
        pack: &PackInfo,
        frame: usize,
        in_order: bool,
    ) -> Result<Arc<PlainFrame>> {
        loop {
            if let Some(plain) = self.in_memory(pack, frame) {
                return Ok(plain);
            }
            match self.turn(pack, frame..frame + 1, in_order) {
                Turn::Here(plain) => return Ok(plain),
                // Look again when it has landed. If its fetch failed, this caller tries itself.
                Turn::OnItsWay(flight) => flight.wait(),
                Turn::Own(claim) => {
                    let wrong = FormatError::malformed("pack", "no such frame");
                    let plain = self.fetch(pack, claim)?.pop();
                    return plain.ok_or_else(|| Error::object(names::pack(pack.id))(wrong));
                }
            }
        }
    }

    /// Brings a run of frames into memory, in as few fetches as possible. Who reads
    /// `in_order` will want what lies behind it.
    pub(super) fn load_run(
        &self,
        pack: &PackInfo,
        frames: Range<usize>,
        in_order: bool,
    ) -> Result<()> {
        let mut start = frames.start;
        while start < frames.end {
            match self.turn(pack, start..frames.end, in_order) {
                Turn::Here(_) | Turn::OnItsWay(_) => start += 1,
                Turn::Own(claim) => {
                    start = claim.wanted.end;
                    self.fetch(pack, claim)?;
                }
            }
        }
        Ok(())
    }

    /// Claims the first of these frames, with as many behind it as one fetch should bring, and
    /// what lies around them; or says where the first is. Nobody else claims any in between: two
    /// who want different frames of a run at once would each claim a part of it, and both ask
    /// for the whole.
    fn turn(&self, pack: &PackInfo, frames: Range<usize>, in_order: bool) -> Turn<'_> {
        let plan = self.plan(pack, frames, in_order);
        // Outlives the right to claim.
        let mut landing = self.flights.prepare();
        let mut claims = self.flights.claims();
        let first = plan.wanted.start;
        // Whoever fetched a frame put it here before the flight ended.
        if let Some(plain) = self.kept(pack.kind, &key(pack, first)) {
            return Turn::Here(plain);
        }
        let mut wanted = first..first;
        for number in plan.wanted {
            let at = key(pack, number);
            if self.is_kept(&at) {
                break;
            }
            match claims.claim(at, &mut landing) {
                Ok(()) => {}
                Err(flight) if number == first => return Turn::OnItsWay(flight),
                Err(_) => break,
            }
            wanted.end = number + 1;
        }
        let mut whole = wanted.clone();
        for number in plan.around.into_iter().filter(|number| !wanted.contains(number)) {
            let at = key(pack, number);
            if self.is_kept(&at) || self.sealed.has(&at) {
                continue;
            }
            if claims.claim(at, &mut landing).is_ok() {
                whole = whole.start.min(number)..whole.end.max(number + 1);
            }
        }
        Turn::Own(Claim { wanted, whole, landing })
    }

    /// What should be had at once of these frames, the first at least: only what needs a fetch
    /// like the first, or none like it. Otherwise what follows the last frame that is here
    /// would be fetched alone, and its run a second time.
    fn plan(&self, pack: &PackInfo, frames: Range<usize>, in_order: bool) -> Plan {
        let first = frames.start;
        let is_here = self.is_here(pack, first);
        // Nodes lie in the order in which a tree is gone through.
        let by_runs = self.run_bytes > 0 && (in_order || pack.kind == ChunkKind::Node);
        let run = (by_runs && !is_here).then(|| pack.run_of(first, self.run_bytes));
        let end = run.as_ref().map_or(frames.end, |run| run.end.min(frames.end));
        let with_it = (first + 1..end).take_while(|number| {
            pack.is_one_fetch(first..number + 1, self.fetch_bytes)
                && self.is_here(pack, *number) == is_here
        });
        Plan {
            wanted: first..first + 1 + with_it.count(),
            around: run.into_iter().flatten().filter(|n| !self.is_here(pack, *n)).collect(),
        }
    }

    /// The first frame from this one on that is neither here nor on its way, if who reads in
    /// order comes to it soon: less than three quarters of what one fetch brings lie between,
    /// so that what is kept sealed has room for both.
    pub(super) fn next_run(&self, pack: &PackInfo, from: usize) -> Option<usize> {
        for next in from..pack.directory.frames.len() {
            let range = pack.range(from..next + 1);
            if range.end - range.start > self.run_bytes / 4 * 3 {
                return None;
            }
            let at = key(pack, next);
            if !self.is_in_memory(pack, next) && !self.sealed.has(&at) {
                return Some(next);
            }
        }
        None
    }

    /// Fetches the run of the first frame from this one on that is not here, and keeps it
    /// sealed; nothing if all are that one fetch brings.
    pub(super) fn fetch_run(&self, pack: &PackInfo, from: usize) -> Result<()> {
        let near = |frame: &usize| {
            let range = pack.range(from..frame + 1);
            range.end - range.start <= self.run_bytes
        };
        let mut frames = (from..pack.directory.frames.len()).take_while(near);
        let Some(frame) = frames.find(|frame| !self.is_here(pack, *frame)) else { return Ok(()) };
        let Turn::Own(claim) = self.turn(pack, frame..frame + 1, true) else { return Ok(()) };
        // It may have come since.
        if self.is_here(pack, frame) {
            return Ok(());
        }
        for (number, sealed) in self.get(pack, claim.whole)? {
            self.keep_sealed(pack, number, sealed);
        }
        Ok(())
    }

    /// One GET of neighbouring frames. Each is sealed, and in memory of its own: one that
    /// nobody wants yet keeps no others.
    fn get(
        &self,
        pack: &PackInfo,
        frames: Range<usize>,
    ) -> Result<impl Iterator<Item = (usize, Bytes)> + use<>> {
        let all = pack.directory.frames.get(frames.clone()).unwrap_or_default();
        let lengths: Vec<usize> = all.iter().map(|frame| frame.sealed_len as usize).collect();
        let start = all.first().map_or(0, |frame| frame.offset);
        let sealed = self.store.get_parts(&names::pack(pack.id), start, &lengths)?;
        self.fetches.fetch_add(1, Ordering::Relaxed);
        let bytes = sealed.iter().map(Bytes::len).sum::<usize>() as u64;
        self.fetched_bytes.fetch_add(bytes, Ordering::Relaxed);
        if !sealed.iter().map(Bytes::len).eq(lengths) {
            let short = FormatError::malformed("pack", "it ends too soon");
            return Err(Error::object(names::pack(pack.id))(short));
        }
        Ok(frames.zip(sealed))
    }

    /// Keeps a frame that was fetched with others.
    fn keep_sealed(&self, pack: &PackInfo, number: usize, sealed: Bytes) {
        self.keep(pack, number, &sealed);
        let length = sealed.len();
        self.sealed.put(key(pack, number), sealed, length);
    }

    /// Keeps a frame on disk.
    fn keep(&self, pack: &PackInfo, number: usize, sealed: &[u8]) {
        if let Some(disk) = &self.disk {
            disk.put(&pack.claim, key(pack, number).1, sealed);
        }
    }

    /// Drops a frame whose content is not what a chunk's id says, from memory and disk, so
    /// that whoever tries again has it from the store.
    pub(super) fn drop_frame(&self, pack: &PackInfo, frame: usize) {
        self.corrupt.fetch_add(1, Ordering::Relaxed);
        self.memory.take(&key(pack, frame));
        self.nodes.take(&key(pack, frame));
        self.sealed.take(&key(pack, frame));
        if let Some(disk) = &self.disk {
            disk.remove(&pack.claim, key(pack, frame).1);
        }
    }

    pub(super) fn counters(&self) -> Vec<(&'static str, u64)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            ("fetches", read(&self.fetches)),
            ("fetched_bytes", read(&self.fetched_bytes)),
            ("memory_hits", read(&self.memory_hits)),
            ("disk_hits", read(&self.disk_hits)),
            ("corrupt_chunks", read(&self.corrupt)),
            ("memory_bytes", (self.memory.weight() + self.nodes.weight()) as u64),
        ]
    }

    /// Fetches frames that this caller has claimed. The first GET brings the whole claim; what
    /// is not wanted of it is kept sealed.
    fn fetch(&self, pack: &PackInfo, claim: Claim<'_>) -> Result<Vec<Arc<PlainFrame>>> {
        let Claim { wanted: frames, whole, landing: _landing } = claim;
        let mut whole = Some(whole);
        let mut sealed: Vec<Option<(Bytes, &AtomicU64)>> = Vec::new();
        for number in frames.clone() {
            let frame = &pack.directory.frames[number];
            let on_disk = || {
                let disk = self.disk.as_ref()?;
                disk.get(&pack.claim, key(pack, number).1, frame.sealed_len as usize)
            };
            let here = self.sealed.take(&key(pack, number)).map(|bytes| (bytes, &self.memory_hits));
            sealed.push(here.or_else(|| Some((on_disk()?, &self.disk_hits))));
        }
        let mut plains = Vec::new();
        let mut at = frames.start;
        while at < frames.end {
            let place = at - frames.start;
            if let Some((bytes, hits)) = &sealed[place] {
                if let Ok(plain) = self.open(pack, at, bytes) {
                    hits.fetch_add(1, Ordering::Relaxed);
                    plains.push(plain);
                    at += 1;
                    continue;
                }
                // It was altered where it lay: the store has it.
                self.drop_frame(pack, at);
                sealed[place] = None;
            }
            let missing = sealed[place..].iter().take_while(|bytes| bytes.is_none()).count();
            let wanted = at..at + missing;
            let all = whole.take().unwrap_or_else(|| wanted.clone());
            let all = all.start.min(at)..all.end.max(wanted.end);
            for (number, own) in self.get(pack, all)? {
                if wanted.contains(&number) {
                    self.keep(pack, number, &own);
                    plains.push(self.open(pack, number, &own)?);
                } else {
                    self.keep_sealed(pack, number, own);
                }
            }
            at = wanted.end;
        }
        Ok(plains)
    }

    fn open(&self, pack: &PackInfo, number: usize, sealed: &[u8]) -> Result<Arc<PlainFrame>> {
        let at = key(pack, number);
        let bytes = pack.open(number, sealed)?;
        let plain = Arc::new(PlainFrame {
            bytes: bytes.into(),
            kind: pack.kind,
            again: lock(&self.opened).put(at, ()).is_some(),
            verified: Mutex::default(),
        });
        self.put(at, Arc::clone(&plain));
        Ok(plain)
    }
}

fn key(pack: &PackInfo, frame: usize) -> Key {
    (pack.claim, u32::try_from(frame).unwrap_or(u32::MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
