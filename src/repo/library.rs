//! What a view of the past needs of a repository, and nothing more.
//!
//! The mount and `restore` work through this seam. A test puts a tree in memory
//! behind it; a stream of a database will put a materialised file behind it. So
//! nobody above it may assume that a file is a stored list of extents:
//! [`FileContent`] is made here and read here.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::{ChunkId, SnapshotId, UnixTime, WriterId};
use crate::format::fact::Snapshot;
use crate::format::node::{Entry, Node};
use crate::index::SnapshotMoment;
use crate::repo::Result;

/// A snapshot that is published and not forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// What was published.
    pub snapshot: Snapshot,
    /// The chunks that it refers to.
    pub refs: Vec<ChunkId>,
    /// When the store received it.
    pub receipt: UnixTime,
    /// Who published it.
    pub writer: WriterId,
    /// Whether its record was received so late that chunks of it may be gone.
    pub late: bool,
}

impl SnapshotInfo {
    /// The instant from which on it is shown: `taken`, but never later than the
    /// store's receipt, which no writer can forge.
    #[must_use]
    pub fn shown_from(&self) -> UnixTime {
        // Receipts are whole seconds: one within the second of `taken` is no contradiction.
        let latest = UnixTime::new(self.receipt.seconds, 999_999_999);
        if self.snapshot.taken > latest { self.receipt } else { self.snapshot.taken }
    }

    /// Whether `taken` was later than the receipt, and is therefore not believed.
    #[must_use]
    pub fn is_clamped(&self) -> bool {
        self.shown_from() != self.snapshot.taken
    }
}

/// A time of which no state of a source is known.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KnownGap {
    /// The last moment that is known before.
    pub since: UnixTime,
    /// The first that is known after.
    pub until: UnixTime,
    /// Why, for people.
    pub reason: String,
}

impl SnapshotInfo {
    /// The gap that ends with this snapshot, if one does.
    #[must_use]
    pub fn gap_before(&self) -> Option<KnownGap> {
        let gap = self.snapshot.point.as_ref()?.gap.as_ref()?;
        let (since, until) = (gap.since, self.shown_from());
        Some(KnownGap { since, until, reason: gap.reason.clone() })
    }

    /// The gap that begins with this state of a stream, if one of `all` ends it.
    #[must_use]
    pub fn gap_behind(&self, all: &[Arc<SnapshotInfo>]) -> Option<KnownGap> {
        let own = self.snapshot.point.as_ref()?;
        let ends = |info: &&Arc<SnapshotInfo>| {
            let gap = info.snapshot.point.as_ref().and_then(|point| point.gap.as_ref());
            gap.is_some_and(|gap| gap.stream == own.stream && gap.position == own.position)
        };
        all.iter().find(ends)?.gap_before()
    }
}

/// Where a snapshot stands in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Its id.
    pub id: SnapshotId,
    /// Its source.
    pub source: String,
    /// When it was taken, as its writer says.
    pub taken: UnixTime,
    /// When the store received it.
    pub receipt: UnixTime,
}

impl From<&SnapshotInfo> for Moment {
    fn from(info: &SnapshotInfo) -> Moment {
        let SnapshotInfo { snapshot, receipt, .. } = info;
        let source = snapshot.source.clone();
        Moment { id: snapshot.id, source, taken: snapshot.taken, receipt: *receipt }
    }
}

impl From<SnapshotMoment> for Moment {
    fn from(row: SnapshotMoment) -> Moment {
        let SnapshotMoment { id, source, taken, receipt } = row;
        Moment { id, source, taken, receipt: UnixTime::new(receipt, 0) }
    }
}

/// A node with what it refers to, decoded and checked.
#[derive(Debug)]
pub struct LoadedNode {
    /// The chunks that it refers to.
    pub refs: Vec<ChunkId>,
    /// The node.
    pub node: Node,
    /// About how much memory it takes. Bytes.
    pub weight: usize,
}

/// The bytes of one regular file, not read yet.
#[derive(Debug, Clone)]
pub enum FileContent {
    /// No bytes.
    Empty,
    /// These bytes.
    Inline(Bytes),
    /// These extents: where each begins in the file, and its chunk or none for a
    /// hole, in order; and the file's size.
    Extents(Arc<[(u64, Option<ChunkId>)]>, u64),
    /// A tree of lists of extents at this node; and the file's size.
    Tree(ChunkId, u64),
}

impl FileContent {
    /// The content of a regular file's entry in a node with those references.
    #[must_use]
    pub fn of(entry: &Entry, refs: &[ChunkId]) -> FileContent {
        use crate::format::extents::Content;
        match &entry.content {
            None => FileContent::Empty,
            Some(Content::Inline(bytes)) => {
                FileContent::Inline(Bytes::copy_from_slice(bytes.as_slice()))
            }
            Some(Content::Extents(extents)) => {
                let mut at = 0;
                let placed = extents.iter().map(|extent| {
                    let start = at;
                    at += extent.length;
                    (start, extent.chunk.and_then(|place| refs.get(place as usize).copied()))
                });
                FileContent::Extents(placed.collect(), entry.size)
            }
            Some(Content::Tree(node)) => match refs.get(*node as usize) {
                Some(id) => FileContent::Tree(*id, entry.size),
                None => FileContent::Empty,
            },
        }
    }

    /// How many bytes it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            FileContent::Empty => 0,
            FileContent::Inline(bytes) => bytes.len() as u64,
            FileContent::Extents(_, size) | FileContent::Tree(_, size) => *size,
        }
    }
}

/// What to look for from an offset on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// The first byte that is not in a hole.
    Data,
    /// The first byte in a hole; the end of the file counts as one.
    Hole,
}

/// Everything that a view asks of a repository. Shared by many threads.
pub trait Library: Send + Sync {
    /// All snapshots that this machine knows, in no order. Costs no store request, and
    /// decodes each.
    fn snapshots(&self) -> Result<Vec<Arc<SnapshotInfo>>>;

    /// Where each of them stands in time. Decodes none.
    fn moments(&self) -> Result<Vec<Moment>> {
        Ok(self.snapshots()?.iter().map(|info| Moment::from(info.as_ref())).collect())
    }

    /// Where some of them stand in time, among which the newest of each source is. Costs a
    /// little for each source, however many snapshots there are.
    fn newest_moments(&self) -> Result<Vec<Moment>> {
        self.moments()
    }

    /// The state of a followed source that is the last at or before an instant, if it has
    /// one: as a snapshot, which it is not. Costs a few look-ups.
    fn state_at(&self, source: &str, at: UnixTime) -> Result<Option<Moment>> {
        let _ = (source, at);
        Ok(None)
    }

    /// The last state of each source that is or was followed.
    fn newest_states(&self) -> Result<Vec<Moment>> {
        Ok(Vec::new())
    }

    /// Instants at which followed sources had a state: of some thousand that lie close
    /// together the last, and in no order.
    fn state_instants(&self) -> Result<Vec<UnixTime>> {
        Ok(Vec::new())
    }

    /// The one of that id, if this machine knows it.
    fn snapshot(&self, id: &SnapshotId) -> Result<Option<Arc<SnapshotInfo>>> {
        Ok(self.snapshots()?.into_iter().find(|info| info.snapshot.id == *id))
    }

    /// Learns what is new in the store. True if there are other snapshots now.
    fn refresh(&self) -> Result<bool>;

    /// A node, from memory, the cache or the store.
    fn node(&self, id: &ChunkId) -> Result<Arc<LoadedNode>>;

    /// A node if it is in memory. Never blocks on the store or a disk.
    fn node_in_memory(&self, id: &ChunkId) -> Option<Arc<LoadedNode>>;

    /// Bytes of a file: exactly `length` of them, or fewer if the file ends before.
    fn read(&self, content: &FileContent, offset: u64, length: usize) -> Result<Bytes>;

    /// The same if all of it is in memory. Never blocks on the store or a disk.
    fn read_in_memory(&self, content: &FileContent, offset: u64, length: usize) -> Option<Bytes>;

    /// Where the next data or hole begins at or after `offset`; none if `offset` is
    /// at or behind the end, or no data follows.
    fn seek(&self, content: &FileContent, offset: u64, whence: Whence) -> Result<Option<u64>>;

    /// A hint that these files will be read soon, in this order. Returns at once;
    /// what is fetched is bounded, and hints may be ignored.
    fn prefetch(&self, contents: &[FileContent]);

    /// These files in the order in which they are stored, as far as that is known: by their
    /// places in the list, each once.
    fn stored_order(&self, contents: &[FileContent]) -> Vec<usize>;

    /// A hint that these nodes will be read soon, and perhaps the files in them. Returns at
    /// once.
    fn prefetch_nodes(&self, ids: &[ChunkId], with_contents: bool);

    /// A hint that this file was read by somebody who goes through many small ones, and will
    /// go on with what was stored behind it. Returns at once.
    fn prefetch_behind(&self, content: &FileContent);

    /// The number that the mount's directory of that name keeps on this machine,
    /// at least `least` if it is given now (see `index::views`).
    fn view_number(&self, name: &str, least: u64) -> Result<u64>;

    /// Figures for people: requests, bytes, cache hits, freshness; by name.
    fn counters(&self) -> Vec<(&'static str, u64)>;

    /// About how many bytes of the store a file takes: of each of its chunks, once, its share
    /// of what it is packed with. What other files have of them too counts as well.
    fn stored_size(&self, content: &FileContent) -> Result<u64>;

    /// How many bytes all packs take in the store, for `statfs`.
    fn stored_bytes(&self) -> Result<u64>;
}
