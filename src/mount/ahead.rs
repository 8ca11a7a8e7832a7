//! Reading ahead of programs that copy.
//!
//! `tar`, `cp -r` and `rsync` read the files of a directory in the order in which
//! they were listed, each from its beginning. One chunk per round trip would make
//! that as slow as the store is far away, so after a few files in order the next
//! ones are hinted to the library, twice as many at a time as before. A copy that
//! goes on in the next directory keeps its momentum: most directories are small.
//!
//! These are hints and are kept loosely: a wrong guess costs a fetch. What lies
//! ahead within one file is the library's to see. Pushing what was fetched into
//! the kernel's page cache will have its place here, with a thread of its own,
//! since `store` blocks on pages that are being read.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use crate::base::ChunkId;
use crate::format::node::FileKind;
use crate::repo::{FileContent, Library};
use crate::view::tree::Found;

/// Leaves that are being read from at a time.
const STREAMS_MAX: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// The most files that are hinted at once.
const FILES_MAX: usize = 64;
/// The most bytes that are hinted at once.
const BYTES_MAX: u64 = 16 << 20;
/// A file read this many entries behind the last one read still continues it.
const GAP_MAX: usize = 8;
/// So many files in order are no coincidence.
const RUN_MIN: u32 = 2;
/// Directories whose nodes are hinted after a piece of a listing.
pub(super) const NODES_MAX: usize = 64;

/// What programs are reading, as far as it can be guessed.
pub(super) struct Ahead {
    library: Arc<dyn Library>,
    streams: Mutex<Streams>,
}

struct Streams {
    of: LruCache<ChunkId, Stream>,
    /// How many files in a row the last stream has had.
    momentum: u32,
}

/// A program that reads the files of a leaf in order.
struct Stream {
    /// The file that was read last.
    last: usize,
    /// How many were read in order.
    run: u32,
    /// Up to which one, it excluded, they were hinted.
    hinted: usize,
}

impl Ahead {
    pub(super) fn new(library: Arc<dyn Library>) -> Ahead {
        let streams = Streams { of: LruCache::new(STREAMS_MAX), momentum: 0 };
        Ahead { library, streams: Mutex::new(streams) }
    }

    /// A file is being read from its beginning.
    pub(super) fn reading(&self, file: &Found) {
        let Some((leaf, index)) = file.leaf() else { return };
        let Some((from, window)) = self.note(leaf, index) else { return };
        let (mut contents, mut bytes, mut end) = (Vec::new(), 0u64, from);
        for (at, entry) in file.following() {
            if contents.len() >= window || bytes >= BYTES_MAX {
                break;
            }
            end = at + 1;
            if at >= from && entry.kind == FileKind::File {
                let content = FileContent::of(entry, file.refs());
                if matches!(content, FileContent::Extents(..) | FileContent::Tree(..)) {
                    bytes = bytes.saturating_add(entry.size);
                    contents.push(content);
                }
            }
        }
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = streams.of.get_mut(&leaf) {
            stream.hinted = stream.hinted.max(end);
        }
        drop(streams);
        if !contents.is_empty() {
            self.library.prefetch(&contents);
        }
    }

    /// Directories were listed whose nodes are these.
    pub(super) fn listed(&self, nodes: &[ChunkId]) {
        if !nodes.is_empty() {
            self.library.prefetch_nodes(nodes);
        }
    }

    /// Notes a read. Returns from which entry on how many files are worth a hint.
    fn note(&self, leaf: ChunkId, index: usize) -> Option<(usize, usize)> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let momentum = streams.momentum;
        let (run, hinted) = match streams.of.get(&leaf) {
            Some(before) if index == before.last => return None,
            Some(before) if index > before.last && index - before.last <= GAP_MAX => {
                (before.run.saturating_add(1), before.hinted)
            }
            None if index <= GAP_MAX => (momentum, 0),
            _ => (0, 0),
        };
        streams.momentum = run;
        streams.of.put(leaf, Stream { last: index, run, hinted });
        let window = 1usize.checked_shl(run).unwrap_or(FILES_MAX).min(FILES_MAX);
        let left = hinted.saturating_sub(index + 1);
        let from = hinted.max(index + 1);
        (run >= RUN_MIN && left <= window / 2).then_some((from, window))
    }
}
