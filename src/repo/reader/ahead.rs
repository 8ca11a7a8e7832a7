//! Fetching ahead of readers.
//!
//! A few threads take hints from a short queue and bring frames into memory. A
//! hint that finds the queue full is dropped: it was only a hint. Whoever reads a
//! file from front to back gives hints by reading: each time a new chunk is
//! entered, the next ones are asked for, twice as many as the last time while the
//! reading stays in order. The windows of all files together are bounded by the
//! queue and the memory cache.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, TrySendError, bounded};
use lru::LruCache;

use super::{Behind, Reader};
use crate::base::ChunkId;
use crate::repo::library::FileContent;

/// The most hints that wait.
const QUEUE: usize = 64;
/// The most files whose reading is followed.
const STREAMS: usize = 256;
/// The most chunks that are asked for at once.
const WINDOW_MAX: usize = 8;

/// What will be wanted soon.
pub enum Hint {
    /// Chunks of files, in order.
    Chunks(Vec<ChunkId>),
    /// What lies behind small files that are being read one after the other.
    Behind(Behind),
    /// Nodes, and whether the files in them will be read too.
    Nodes(Vec<ChunkId>, bool),
}

/// Fetches ahead for one reader.
pub struct Ahead {
    hints: Option<Sender<Hint>>,
    workers: Vec<JoinHandle<()>>,
    streams: Mutex<LruCache<ChunkId, Stream>>,
    dropped: AtomicU64,
}

/// How far the reading of a file has come.
struct Stream {
    next: u64,
    asked: u64,
    window: usize,
}

impl Ahead {
    /// Starts the threads.
    #[must_use]
    pub fn start(reader: &Arc<Reader>) -> Ahead {
        let (hints, queue) = bounded::<Hint>(QUEUE);
        let workers = (0..reader.fetchers())
            .filter_map(|n| {
                let (reader, queue) = (Arc::clone(reader), queue.clone());
                std::thread::Builder::new()
                    .name(format!("fetch-{n}"))
                    .spawn(move || {
                        for hint in queue {
                            // The reader meets the same error, and reports it.
                            let _ = match hint {
                                Hint::Chunks(ids) => reader.warm(&ids),
                                Hint::Behind(behind) => reader.open_behind(&behind),
                                Hint::Nodes(ids, contents) => reader.warm_nodes(&ids, contents),
                            };
                        }
                    })
                    .ok()
            })
            .collect();
        #[allow(clippy::unwrap_used)]
        let streams = LruCache::new(std::num::NonZeroUsize::new(STREAMS).unwrap());
        Ahead {
            hints: Some(hints),
            workers,
            streams: Mutex::new(streams),
            dropped: AtomicU64::new(0),
        }
    }

    /// Asks for something. Returns at once.
    pub fn hint(&self, hint: Hint) {
        if let Some(hints) = &self.hints
            && let Err(TrySendError::Full(_)) = hints.try_send(hint)
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a file is being read in order up to here.
    pub fn is_in_order(&self, content: &FileContent, offset: u64) -> bool {
        let FileContent::Extents(extents, _) = content else { return false };
        let name = extents.iter().find_map(|(_, chunk)| *chunk);
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = name.and_then(|name| streams.peek(&name));
        stream.is_some_and(|stream| stream.next == offset && offset > 0)
    }

    /// Notes that a file was read from `offset` to `end`, and asks for what comes
    /// next if the reading is in order.
    pub fn note(&self, content: &FileContent, offset: u64, end: u64) {
        // The lists of very long files are not looked at here: that could block.
        let FileContent::Extents(extents, _) = content else {
            return;
        };
        let Some(name) = extents.iter().find_map(|(_, chunk)| *chunk) else {
            return;
        };
        if extents.len() < 2 {
            return;
        }
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = streams.get_or_insert_mut(name, || Stream { next: 0, asked: 0, window: 1 });
        let here = offset.max(end.saturating_sub(1));
        let last = extents.partition_point(|&(at, _)| at <= here);
        let in_order =
            offset <= stream.next && end >= stream.next || offset.abs_diff(stream.next) <= 1 << 20;
        if !in_order {
            *stream = Stream { next: end, asked: 0, window: 1 };
            return;
        }
        stream.next = stream.next.max(end);
        let asked = usize::try_from(stream.asked).unwrap_or(usize::MAX).max(last);
        // Ask again when half of what was asked for is used up.
        if asked > last + stream.window / 2 {
            return;
        }
        let upto = (last + stream.window).min(extents.len());
        if asked >= upto {
            return;
        }
        let wanted = extents[asked..upto].iter().filter_map(|(_, chunk)| *chunk).collect();
        stream.asked = upto as u64;
        stream.window = (stream.window * 2).min(WINDOW_MAX);
        drop(streams);
        self.hint(Hint::Chunks(wanted));
    }

    /// How many hints were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.hints = None;
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}
