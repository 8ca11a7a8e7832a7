//! Where entries were found, so that they are not looked for twice.
//!
//! A rank is turned into an entry by descending from the root, which costs a node
//! for each level of the path. The kernel asks by number again and again, so the
//! way is remembered: of an entry its leaf and place in it, of a directory its
//! node, of a long leaf the sums of what its entries take. Ids are remembered and
//! not nodes: what is in memory is the library's decision, and a node that was
//! dropped is fetched again without the descent.
//!
//! One [`Places`] serves all trees of a mount. An entry takes about 130 bytes and
//! a directory about 150, so the bounds below make ten megabytes; sums take eight
//! bytes an entry, at most four megabytes.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::base::ChunkId;

const ENTRIES_MAX: NonZeroUsize = NonZeroUsize::new(64 << 10).unwrap();
const DIRS_MAX: NonZeroUsize = NonZeroUsize::new(16 << 10).unwrap();
const SUMS_MAX: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Where an entry is.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryPlace {
    pub(super) leaf: ChunkId,
    pub(super) index: u32,
}

/// Where a directory's own entries are.
#[derive(Debug, Clone, Copy)]
pub(super) struct DirPlace {
    /// The root of its nodes.
    pub(super) node: ChunkId,
    /// How many ranks are below it.
    pub(super) entries: u64,
    /// The rank of the directory that it is in; the root is in itself.
    pub(super) parent: u64,
}

type Lru<K, V> = Mutex<LruCache<K, V>>;

/// What was found of all trees of a mount, the least used forgotten first.
#[derive(Debug)]
pub struct Places {
    entries: Lru<(u32, u64), EntryPlace>,
    dirs: Lru<(u32, u64), DirPlace>,
    sums: Lru<ChunkId, Arc<[u64]>>,
    trees: AtomicU32,
}

impl Default for Places {
    fn default() -> Places {
        Places {
            entries: Mutex::new(LruCache::sparse(ENTRIES_MAX)),
            dirs: Mutex::new(LruCache::sparse(DIRS_MAX)),
            sums: Mutex::new(LruCache::sparse(SUMS_MAX)),
            trees: AtomicU32::new(0),
        }
    }
}

impl Places {
    /// A number for one more tree.
    pub(super) fn enter(&self) -> u32 {
        self.trees.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn entry(&self, tree: u32, rank: u64) -> Option<EntryPlace> {
        lock(&self.entries).get(&(tree, rank)).copied()
    }

    pub(super) fn put_entry(&self, tree: u32, rank: u64, place: EntryPlace) {
        lock(&self.entries).put((tree, rank), place);
    }

    pub(super) fn dir(&self, tree: u32, rank: u64) -> Option<DirPlace> {
        lock(&self.dirs).get(&(tree, rank)).copied()
    }

    pub(super) fn put_dir(&self, tree: u32, rank: u64, place: DirPlace) {
        lock(&self.dirs).put((tree, rank), place);
    }

    pub(super) fn sums(&self, leaf: &ChunkId) -> Option<Arc<[u64]>> {
        lock(&self.sums).get(leaf).cloned()
    }

    pub(super) fn put_sums(&self, leaf: ChunkId, sums: Arc<[u64]>) {
        lock(&self.sums).put(leaf, sums);
    }
}

/// A cache is whole after any panic: its methods do not call anything of ours.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
