//! Fetching ahead of readers.
//!
//! A few threads take hints from a short queue and bring frames into memory. A
//! hint that finds the queue full is dropped: it was only a hint. Whoever reads a
//! file from front to back gives hints by reading: each time a new chunk is
//! entered, the next ones are asked for, twice as many as the last time while the
//! reading stays in order. The windows of all files together are bounded by the
//! queue and the memory cache.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use lru::LruCache;

use super::{Behind, Reader, Run};
use crate::base::ChunkId;
use crate::repo::library::FileContent;

/// The most hints that wait.
const QUEUE: usize = 64;
/// The most files whose reading is followed.
const STREAMS: usize = 256;
/// So far apart requests may be that belong to one reading in order. Bytes.
const OVERTAKING: u64 = 4 << 20;
/// The most chunks that are asked for at once.
const WINDOW_MAX: usize = 8;

/// What will be wanted soon.
pub enum Hint {
    /// Chunks of files, in order.
    Chunks(Vec<ChunkId>),
    /// What lies behind small files that are being read one after the other.
    Behind(Behind),
    /// The list of extents that holds that offset of a long file.
    List(FileContent, u64),
    /// What one GET brings for who reads a long file.
    Run(Run),
    /// Nodes, and whether the files in them will be read too.
    Nodes(Vec<ChunkId>, bool),
}

/// Fetches ahead for one reader.
pub struct Ahead {
    reader: Arc<Reader>,
    hints: Option<Sender<Hint>>,
    queue: Receiver<Hint>,
    workers: OnceLock<Vec<JoinHandle<()>>>,
    streams: Mutex<LruCache<ChunkId, Stream>>,
    dropped: AtomicU64,
}

/// How far the reading of a file has come.
struct Stream {
    next: u64,
    /// Up to which offset chunks were asked for.
    asked: u64,
    window: usize,
    /// The run that was asked for last.
    run: Option<Run>,
    /// The end of the list behind which the next one was asked for.
    listed: u64,
}

impl Stream {
    fn at(next: u64) -> Stream {
        Stream { next, asked: 0, window: 1, run: None, listed: 0 }
    }
}

/// What a file's reading is known by; none if there is nothing to fetch ahead.
fn name_of(content: &FileContent) -> Option<ChunkId> {
    match content {
        FileContent::Extents(extents, _) if extents.len() > 1 => {
            extents.iter().find_map(|(_, chunk)| *chunk)
        }
        FileContent::Tree(root, _) => Some(*root),
        _ => None,
    }
}

impl Ahead {
    /// Fetches ahead for that reader. The threads are started by the first hint: who asks for
    /// one thing and ends has no use for them.
    #[must_use]
    pub fn new(reader: &Arc<Reader>) -> Ahead {
        let (hints, queue) = bounded::<Hint>(QUEUE);
        #[allow(clippy::unwrap_used)]
        let streams = LruCache::new(std::num::NonZeroUsize::new(STREAMS).unwrap());
        Ahead {
            reader: Arc::clone(reader),
            hints: Some(hints),
            queue,
            workers: OnceLock::new(),
            streams: Mutex::new(streams),
            dropped: AtomicU64::new(0),
        }
    }

    fn start(&self) -> Vec<JoinHandle<()>> {
        let start = |n| {
            let (reader, queue) = (Arc::clone(&self.reader), self.queue.clone());
            let work = move || queue.iter().for_each(|hint| follow(&reader, hint));
            std::thread::Builder::new().name(format!("fetch-{n}")).spawn(work).ok()
        };
        (0..self.reader.fetchers()).filter_map(start).collect()
    }

    /// Asks for something. Returns at once.
    pub fn hint(&self, hint: Hint) {
        self.workers.get_or_init(|| self.start());
        if let Some(hints) = &self.hints
            && let Err(TrySendError::Full(_)) = hints.try_send(hint)
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a file is being read in order up to here.
    pub fn is_in_order(&self, content: &FileContent, offset: u64) -> bool {
        let Some(name) = name_of(content) else { return false };
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = streams.peek(&name);
        // The kernel reads ahead by several requests at a time, which overtake each other.
        stream.is_some_and(|stream| stream.window > 1 && offset.abs_diff(stream.next) <= OVERTAKING)
    }

    /// Notes that a file was read from `offset` to `end`, and asks for what comes
    /// next if the reading is in order.
    pub fn note(&self, reader: &Reader, content: &FileContent, offset: u64, end: u64) {
        let Some(name) = name_of(content) else { return };
        let here = offset.max(end.saturating_sub(1));
        // Where the list is not in memory nobody waits for it here.
        let list = reader.list_in_memory(content, here);
        let mut hints = Vec::new();
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = streams.get_or_insert_mut(name, || Stream::at(0));
        let in_order = offset <= stream.next && end >= stream.next
            || offset.abs_diff(stream.next) <= OVERTAKING;
        if !in_order {
            *stream = Stream::at(end);
            return;
        }
        stream.next = stream.next.max(end);
        let Some(list) = list else { return };
        let mut extents = list.from(here);
        let Some((_, _, current)) = extents.next() else { return };
        if stream.window > 1
            && let Some(run) = current.and_then(|chunk| reader.next_run(&chunk))
            && stream.run != Some(run)
        {
            stream.run = Some(run);
            hints.push(Hint::Run(run));
        }
        let mut following = extents.take(stream.window).peekable();
        let mut left = 0;
        while following.next_if(|(start, ..)| *start < stream.asked).is_some() {
            left += 1;
        }
        // Ask again when half of what was asked for is used up.
        if left <= stream.window / 2 {
            let mut wanted = Vec::new();
            let before = stream.asked;
            for (_, stop, chunk) in following {
                stream.asked = stop;
                wanted.extend(chunk);
            }
            let list_ends = stream.asked.max(end) >= list.end && list.end < content.size();
            if list_ends && stream.listed != list.end {
                stream.listed = list.end;
                hints.push(Hint::List(content.clone(), list.end));
            }
            if stream.asked > before {
                stream.window = (stream.window * 2).min(WINDOW_MAX);
            }
            if !wanted.is_empty() {
                hints.push(Hint::Chunks(wanted));
            }
        }
        drop(streams);
        hints.into_iter().for_each(|hint| self.hint(hint));
    }

    /// How many hints were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.hints = None;
        for worker in self.workers.take().into_iter().flatten() {
            let _ = worker.join();
        }
    }
}

/// What a thread does for a hint. The reader meets the same error, and reports it.
fn follow(reader: &Reader, hint: Hint) {
    let _ = match hint {
        Hint::Chunks(ids) => reader.warm(&ids),
        Hint::Behind(behind) => reader.open_behind(behind),
        Hint::List(content, at) => reader.list(&content, at).map(|_| ()),
        Hint::Run(run) => reader.fetch_run(run),
        Hint::Nodes(ids, contents) => reader.warm_nodes(&ids, contents),
    };
}
