//! A repository in memory, for tests: trees written down as literals, and every
//! failure that a store can have.
//!
//! Nodes are cut far smaller than real ones, so that a handful of entries makes a
//! deep tree. The library is stricter than the real one: what was not fetched is
//! not in memory, so an event loop that would wait is seen.

pub(crate) mod model;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use minicbor::bytes::ByteVec;
use sha2::{Digest, Sha256};

use crate::base::{ChunkId, SnapshotId, UnixTime, WriterId};
use crate::format::extents::{Content, Extent, ExtentChild, INLINE_MAX};
use crate::format::fact::{Links, Snapshot};
use crate::format::node::{
    Child, Entry, FileKind, Leaf, LinkGroup, LinkId, Node, Owner, Subtree, Xattr,
};
use crate::repo::library::Moment;
use crate::repo::{Error, FileContent, Library, LoadedNode, Result, SnapshotInfo, Whence};

/// A file, directory or anything else of a source.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) kind: FileKind,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: UnixTime,
    /// Pieces: data, or the length of a hole.
    pub(crate) pieces: Vec<std::result::Result<Vec<u8>, u64>>,
    pub(crate) children: BTreeMap<Vec<u8>, Sample>,
    pub(crate) target: Vec<u8>,
    pub(crate) device: Option<(u32, u32)>,
    pub(crate) link: Option<u64>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) marks: u32,
}

impl Sample {
    pub(crate) fn new(kind: FileKind, mode: u32) -> Sample {
        Sample {
            kind,
            mode,
            owner: (1000, 100),
            mtime: UnixTime::new(1_700_000_000, 123_456_789),
            pieces: Vec::new(),
            children: BTreeMap::new(),
            target: Vec::new(),
            device: None,
            link: None,
            xattrs: Vec::new(),
            marks: 0,
        }
    }

    pub(crate) fn file(bytes: impl Into<Vec<u8>>) -> Sample {
        let bytes = bytes.into();
        let pieces = if bytes.is_empty() { vec![] } else { vec![Ok(bytes)] };
        Sample { pieces, ..Sample::new(FileKind::File, 0o644) }
    }

    pub(crate) fn pieces(pieces: Vec<std::result::Result<Vec<u8>, u64>>) -> Sample {
        Sample { pieces, ..Sample::new(FileKind::File, 0o600) }
    }

    pub(crate) fn dir<N: Into<Vec<u8>>>(children: impl IntoIterator<Item = (N, Sample)>) -> Sample {
        let children = children.into_iter().map(|(name, s)| (name.into(), s)).collect();
        Sample { children, ..Sample::new(FileKind::Dir, 0o755) }
    }

    pub(crate) fn symlink(target: &str) -> Sample {
        Sample { target: target.into(), ..Sample::new(FileKind::Symlink, 0o777) }
    }

    pub(crate) fn linked(mut self, link: u64) -> Sample {
        self.link = Some(link);
        self
    }

    pub(crate) fn xattr(mut self, name: &str, value: &[u8]) -> Sample {
        self.xattrs.push((name.into(), value.into()));
        self.xattrs.sort();
        self
    }

    pub(crate) fn size(&self) -> u64 {
        match self.kind {
            FileKind::Dir => 4096,
            FileKind::Symlink => self.target.len() as u64,
            _ => {
                self.pieces.iter().map(|p| p.as_ref().map_or_else(|n| *n, |b| b.len() as u64)).sum()
            }
        }
    }

    /// All its bytes, holes as zeros.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for piece in &self.pieces {
            match piece {
                Ok(bytes) => all.extend_from_slice(bytes),
                Err(hole) => all.resize(all.len() + usize::try_from(*hole).unwrap(), 0),
            }
        }
        all
    }
}

/// How small nodes are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) leaf: usize,
    pub(crate) inner: usize,
    pub(crate) extents: usize,
    pub(crate) links_inline: usize,
}

impl Default for Cut {
    fn default() -> Cut {
        Cut { leaf: 2048, inner: 2048, extents: 1024, links_inline: 256 }
    }
}

/// The library.
#[derive(Default)]
pub(crate) struct TestLibrary {
    chunks: Mutex<HashMap<ChunkId, Bytes>>,
    nodes: Mutex<HashMap<ChunkId, Arc<LoadedNode>>>,
    in_memory: Mutex<HashSet<ChunkId>>,
    snapshots: Mutex<Vec<Arc<SnapshotInfo>>>,
    numbers: Mutex<HashMap<String, u64>>,
    changed: AtomicBool,
    /// Nothing is in memory, ever.
    pub(crate) forgetful: AtomicBool,
    stuck: Mutex<bool>,
    released: Condvar,
    pub(crate) node_loads: AtomicU64,
    /// How often all snapshots were asked for.
    pub(crate) moments_read: AtomicU64,
    published: AtomicU64,
    pub(crate) prefetched: Mutex<Vec<u64>>,
    /// What happens when a view is about to get its number, once.
    pub(crate) meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl TestLibrary {
    pub(crate) fn new() -> Arc<TestLibrary> {
        Arc::new(TestLibrary::default())
    }

    fn put(&self, node: Node, refs: Vec<ChunkId>) -> ChunkId {
        let bytes = node.encode(&refs);
        let (refs, node) = Node::decode(&bytes).expect("a test makes sound nodes");
        let id = ChunkId(Sha256::digest(&bytes).into());
        let loaded = LoadedNode { refs, node, weight: bytes.len() };
        self.nodes.lock().unwrap().insert(id, Arc::new(loaded));
        id
    }

    fn put_chunk(&self, bytes: &[u8]) -> ChunkId {
        let id = ChunkId(Sha256::digest(bytes).into());
        self.chunks.lock().unwrap().insert(id, Bytes::copy_from_slice(bytes));
        id
    }

    /// Puts any node in place, however unsound.
    pub(crate) fn replace(&self, id: ChunkId, change: impl FnOnce(&mut Node)) {
        let mut nodes = self.nodes.lock().unwrap();
        let before = &nodes[&id];
        let mut node = before.node.clone();
        change(&mut node);
        let after = LoadedNode { refs: before.refs.clone(), node, weight: 1 };
        nodes.insert(id, Arc::new(after));
    }

    /// Loses the chunk that holds those bytes.
    pub(crate) fn lose(&self, bytes: &[u8]) {
        let id = ChunkId(Sha256::digest(bytes).into());
        self.chunks.lock().unwrap().remove(&id).expect("there is such a chunk");
    }

    /// Everything that is read waits until [`TestLibrary::release`].
    pub(crate) fn get_stuck(&self) {
        *self.stuck.lock().unwrap() = true;
    }

    pub(crate) fn release(&self) {
        *self.stuck.lock().unwrap() = false;
        self.released.notify_all();
    }

    fn wait(&self) {
        let stuck = self.stuck.lock().unwrap();
        drop(self.released.wait_while(stuck, |stuck| *stuck).unwrap());
    }

    /// All that is known of numbers is lost, as when the index is deleted.
    pub(crate) fn forget_numbers(&self) {
        self.numbers.lock().unwrap().clear();
    }

    /// Publishes a snapshot.
    pub(crate) fn publish(
        &self,
        source: &str,
        taken: UnixTime,
        root: &Sample,
    ) -> Arc<SnapshotInfo> {
        self.publish_cut(source, taken, root, Cut::default())
    }

    pub(crate) fn publish_cut(
        &self,
        source: &str,
        taken: UnixTime,
        root: &Sample,
        cut: Cut,
    ) -> Arc<SnapshotInfo> {
        self.publish_received(source, (taken, taken), root, cut)
    }

    /// Publishes a snapshot that the store says it received at another time than it claims.
    pub(crate) fn publish_received(
        &self,
        source: &str,
        (taken, receipt): (UnixTime, UnixTime),
        root: &Sample,
        cut: Cut,
    ) -> Arc<SnapshotInfo> {
        let mut builder = Builder { library: self, cut, groups: BTreeMap::new() };
        let mut ranks = 0;
        let (mut refs, mut owners) = (Vec::new(), Vec::new());
        let entry = builder.entry(b"", root, &mut ranks, &mut refs, &mut owners);
        let groups: Vec<LinkGroup> = builder.groups.into_values().collect();
        let links = if groups.len() <= cut.links_inline {
            Links::Inline(groups)
        } else {
            let nodes = groups.chunks(2).map(|part| {
                refs.push(self.put(Node::Links(part.to_vec()), vec![]));
                (part[0].id, u32::try_from(refs.len() - 1).unwrap())
            });
            Links::Nodes(nodes.collect())
        };
        let mut snapshots = self.snapshots.lock().unwrap();
        let mut id = [0; 16];
        let number = self.published.fetch_add(1, Ordering::Relaxed) + 1;
        id[..8].copy_from_slice(&number.to_be_bytes());
        let info = Arc::new(SnapshotInfo {
            snapshot: Snapshot {
                owners,
                links,
                ..Snapshot::new(SnapshotId(id), source, entry, Owner::default(), taken)
            },
            refs,
            receipt,
            late: false,
            writer: WriterId([7; 32]),
        });
        snapshots.push(Arc::clone(&info));
        self.changed.store(true, Ordering::SeqCst);
        info
    }

    pub(crate) fn forget(&self, id: SnapshotId) {
        self.snapshots.lock().unwrap().retain(|info| info.snapshot.id != id);
        self.changed.store(true, Ordering::SeqCst);
    }

    fn extents(&self, content: &FileContent) -> Result<Vec<(u64, Option<ChunkId>)>> {
        match content {
            FileContent::Empty | FileContent::Inline(_) => Ok(vec![]),
            FileContent::Extents(extents, _) => Ok(extents.to_vec()),
            FileContent::Tree(node, _) => {
                let mut all = Vec::new();
                let mut at = 0;
                self.flatten(node, &mut at, &mut all)?;
                Ok(all)
            }
        }
    }

    fn flatten(
        &self,
        id: &ChunkId,
        at: &mut u64,
        all: &mut Vec<(u64, Option<ChunkId>)>,
    ) -> Result<()> {
        let node = self.node(id)?;
        match &node.node {
            Node::Extents(extents) => {
                for extent in extents {
                    all.push((*at, extent.chunk.map(|c| node.refs[c as usize])));
                    *at += extent.length;
                }
            }
            Node::ExtentTree(children) => {
                for child in children {
                    self.flatten(&node.refs[child.node as usize], at, all)?;
                }
            }
            other => panic!("no extents: {other:?}"),
        }
        Ok(())
    }
}

struct Builder<'l> {
    library: &'l TestLibrary,
    cut: Cut,
    groups: BTreeMap<u64, LinkGroup>,
}

fn place<T: PartialEq>(all: &mut Vec<T>, one: T) -> u32 {
    let at = all.iter().position(|x| *x == one).unwrap_or_else(|| {
        all.push(one);
        all.len() - 1
    });
    u32::try_from(at).unwrap()
}

impl Builder<'_> {
    fn entry(
        &mut self,
        name: &[u8],
        sample: &Sample,
        rank: &mut u64,
        refs: &mut Vec<ChunkId>,
        owners: &mut Vec<Owner>,
    ) -> Entry {
        let own = *rank;
        *rank += 1;
        let owner = Owner { uid: sample.owner.0, gid: sample.owner.1, ..Owner::default() };
        let is = |kind| sample.kind == kind;
        if let Some(link) = sample.link {
            let id = LinkId { device: 0, inode: link };
            let group = self.groups.entry(link).or_insert(LinkGroup { id, first: own, count: 0 });
            group.count += 1;
        }
        let subtree = is(FileKind::Dir).then(|| self.dir(sample, rank, refs));
        let bytes = sample.bytes();
        Entry {
            name: name.to_vec().into(),
            kind: sample.kind,
            mode: sample.mode,
            owner: place(owners, owner),
            mtime: sample.mtime,
            ctime: sample.mtime,
            btime: Some(UnixTime::new(1, 0)),
            size: sample.size(),
            link: sample.link.map(|inode| LinkId { device: 0, inode }),
            target: is(FileKind::Symlink).then(|| sample.target.clone().into()),
            device: sample.device,
            xattrs: sample
                .xattrs
                .iter()
                .map(|(name, value)| Xattr {
                    name: name.clone().into(),
                    value: value.clone().into(),
                })
                .collect(),
            sha256: is(FileKind::File).then(|| ByteVec::from(Sha256::digest(&bytes).to_vec())),
            content: if is(FileKind::File) { self.content(sample, refs) } else { None },
            subtree,
            marks: sample.marks,
            holes: sample.pieces.iter().map(|p| p.as_ref().err().copied().unwrap_or(0)).sum(),
        }
    }

    fn content(&self, sample: &Sample, refs: &mut Vec<ChunkId>) -> Option<Content> {
        match &sample.pieces[..] {
            [] => return None,
            [Ok(bytes)] if bytes.len() <= INLINE_MAX.min(64) => {
                return Some(Content::Inline(bytes.clone().into()));
            }
            _ => {}
        }
        let extents = |pieces: &[std::result::Result<Vec<u8>, u64>], refs: &mut Vec<ChunkId>| {
            let make = |piece: &std::result::Result<Vec<u8>, u64>| match piece {
                Ok(bytes) => {
                    let chunk = place(refs, self.library.put_chunk(bytes));
                    Extent { length: bytes.len() as u64, chunk: Some(chunk) }
                }
                Err(hole) => Extent { length: *hole, chunk: None },
            };
            pieces.iter().map(make).collect::<Vec<_>>()
        };
        if sample.pieces.len() <= self.cut.extents {
            return Some(Content::Extents(extents(&sample.pieces, refs)));
        }
        let mut above = Vec::new();
        let children = sample.pieces.chunks(self.cut.extents).map(|part| {
            let mut own = Vec::new();
            let list = extents(part, &mut own);
            let length = list.iter().map(|e| e.length).sum();
            let node = place(&mut above, self.library.put(Node::Extents(list), own));
            ExtentChild { length, node }
        });
        let children = children.collect();
        Some(Content::Tree(place(refs, self.library.put(Node::ExtentTree(children), above))))
    }

    fn dir(&mut self, sample: &Sample, rank: &mut u64, refs: &mut Vec<ChunkId>) -> Subtree {
        let first = *rank;
        let named: Vec<_> = sample.children.iter().collect();
        let mut level: Vec<(Child, ChunkId)> = Vec::new();
        let parts: Vec<&[_]> =
            if named.is_empty() { vec![&[]] } else { named.chunks(self.cut.leaf).collect() };
        for part in parts {
            let (start, mut own, mut owners) = (*rank, Vec::new(), Vec::new());
            let entries: Vec<Entry> =
                part.iter().map(|(n, s)| self.entry(n, s, rank, &mut own, &mut owners)).collect();
            let bytes = entries.iter().map(Entry::bytes).sum();
            let child = Child {
                first: part.first().map(|(n, _)| n.to_vec()).unwrap_or_default().into(),
                node: 0,
                direct: part.len() as u64,
                entries: *rank - start,
                bytes,
            };
            level.push((child, self.library.put(Node::Leaf(Leaf { owners, entries }), own)));
        }
        while level.len() > 1 {
            let parts: Vec<Vec<_>> = level.chunks(self.cut.inner).map(<[_]>::to_vec).collect();
            level = parts.into_iter().map(|part| self.inner(part)).collect();
        }
        let (top, id) = level.remove(0);
        let subdirs = named.iter().filter(|(_, s)| s.kind == FileKind::Dir).count() as u64;
        Subtree { node: place(refs, id), entries: *rank - first, bytes: top.bytes, subdirs }
    }

    fn inner(&self, part: Vec<(Child, ChunkId)>) -> (Child, ChunkId) {
        let mut own = Vec::new();
        let children: Vec<Child> = part
            .into_iter()
            .map(|(child, id)| Child { node: place(&mut own, id), ..child })
            .collect();
        let child = Child {
            first: children[0].first.clone(),
            node: 0,
            direct: children.iter().map(|c| c.direct).sum(),
            entries: children.iter().map(|c| c.entries).sum(),
            bytes: children.iter().map(|c| c.bytes).sum(),
        };
        (child, self.library.put(Node::Inner(children), own))
    }
}

impl Library for TestLibrary {
    fn snapshots(&self) -> Result<Vec<Arc<SnapshotInfo>>> {
        Ok(self.snapshots.lock().unwrap().clone())
    }

    fn moments(&self) -> Result<Vec<Moment>> {
        self.moments_read.fetch_add(1, Ordering::Relaxed);
        Ok(self.snapshots()?.iter().map(|info| Moment::from(info.as_ref())).collect())
    }

    /// Those alone that are the newest.
    fn newest_moments(&self) -> Result<Vec<Moment>> {
        let mut newest: BTreeMap<String, Arc<SnapshotInfo>> = BTreeMap::new();
        for info in self.snapshots()? {
            let order = |info: &SnapshotInfo| (info.shown_from(), info.receipt, info.snapshot.id);
            let best = newest.entry(info.snapshot.source.clone()).or_insert(Arc::clone(&info));
            if order(&info) > order(best) {
                *best = info;
            }
        }
        Ok(newest.values().map(|info| Moment::from(info.as_ref())).collect())
    }

    fn refresh(&self) -> Result<bool> {
        Ok(self.changed.swap(false, Ordering::SeqCst))
    }

    fn node(&self, id: &ChunkId) -> Result<Arc<LoadedNode>> {
        self.wait();
        self.node_loads.fetch_add(1, Ordering::Relaxed);
        let node = self.nodes.lock().unwrap().get(id).cloned();
        self.in_memory.lock().unwrap().insert(*id);
        node.ok_or(Error::ChunkMissing { chunk: *id })
    }

    fn node_in_memory(&self, id: &ChunkId) -> Option<Arc<LoadedNode>> {
        if self.forgetful.load(Ordering::Relaxed) || !self.in_memory.lock().unwrap().contains(id) {
            return None;
        }
        self.nodes.lock().unwrap().get(id).cloned()
    }

    fn read(&self, content: &FileContent, offset: u64, length: usize) -> Result<Bytes> {
        self.wait();
        let end = content.size().min(offset + length as u64);
        if let FileContent::Inline(bytes) = content {
            let (from, to) = (offset.min(end) as usize, end as usize);
            return Ok(bytes.slice(from..to));
        }
        let extents = self.extents(content)?;
        let mut out = Vec::new();
        for (n, (start, chunk)) in extents.iter().enumerate() {
            let stop = extents.get(n + 1).map_or(content.size(), |next| next.0);
            let (from, to) = ((*start).max(offset), stop.min(end));
            if from >= to {
                continue;
            }
            match chunk {
                None => out.resize(out.len() + (to - from) as usize, 0),
                Some(id) => {
                    let chunks = self.chunks.lock().unwrap();
                    let bytes = chunks.get(id).ok_or(Error::ChunkMissing { chunk: *id })?;
                    out.extend_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
                }
            }
        }
        Ok(out.into())
    }

    fn read_in_memory(&self, content: &FileContent, offset: u64, length: usize) -> Option<Bytes> {
        match content {
            FileContent::Inline(_) => self.read(content, offset, length).ok(),
            _ => None,
        }
    }

    fn seek(&self, content: &FileContent, offset: u64, whence: Whence) -> Result<Option<u64>> {
        if offset >= content.size() {
            return Ok(None);
        }
        let extents = self.extents(content)?;
        for (n, (start, chunk)) in extents.iter().enumerate() {
            let stop = extents.get(n + 1).map_or(content.size(), |next| next.0);
            if stop > offset && chunk.is_some() == (whence == Whence::Data) {
                return Ok(Some(offset.max(*start)));
            }
        }
        match (extents.is_empty(), whence) {
            (true, Whence::Data) => Ok(Some(offset)),
            (_, Whence::Hole) => Ok(Some(content.size())),
            (false, Whence::Data) => Ok(None),
        }
    }

    fn prefetch(&self, contents: &[FileContent]) {
        self.prefetched.lock().unwrap().extend(contents.iter().map(FileContent::size));
    }

    fn stored_order(&self, contents: &[FileContent]) -> Vec<usize> {
        (0..contents.len()).collect()
    }

    fn prefetch_nodes(&self, _: &[ChunkId], _: bool) {}

    fn prefetch_behind(&self, _: &FileContent) {}

    fn view_number(&self, name: &str, least: u64) -> Result<u64> {
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        let mut numbers = self.numbers.lock().unwrap();
        let next = numbers.values().max().map_or(1, |n| n + 1).max(least);
        Ok(*numbers.entry(name.to_owned()).or_insert(next))
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        vec![("node_loads", self.node_loads.load(Ordering::Relaxed))]
    }

    fn stored_size(&self, content: &FileContent) -> Result<u64> {
        Ok(content.size() / 2)
    }

    fn stored_bytes(&self) -> Result<u64> {
        Ok(12_345_678)
    }
}
