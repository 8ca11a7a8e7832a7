//! Reading ahead of programs that copy.
//!
//! `tar`, `cp -r` and `rsync` read the files of a directory in the order in which they were
//! listed, each from its beginning. One chunk per round trip would make that as slow as the
//! store is far away, so after a few files in order the next ones are fetched and pushed
//! into the kernel, twice as many at a time as before. A copy that goes on in the next
//! directory keeps its momentum: most directories are small, and when a listing ends all files
//! are pushed that come before the next one, in the order of the tree: those before the first
//! subdirectory, and where there is none, those that follow in the directories above. That is
//! the order in which they are stored, so each frame is opened once. Who reads a directory's
//! files before it goes into any subdirectory asks for the first behind each.
//!
//! What was pushed is not asked for any more, so whether anybody reads it would stay
//! unknown. Of every few directories therefore the first small file is left out: that it is
//! read says that the copy goes on. When many directories in a row were pushed and nothing
//! was read, it was no copy, and pushing ends until files are read in order again.
//!
//! These are guesses and are kept loosely: a wrong one costs a fetch. What lies ahead
//! within one large file is the library's to see.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crossbeam_channel::Receiver;
use lru::LruCache;

use crate::base::ChunkId;
use crate::format::node::FileKind;
use crate::mount::push::{Push, Pusher};
use crate::repo::{FileContent, Library};
use crate::view::tree::Found;

/// Leaves that are being read from at a time.
const STREAMS_MAX: NonZeroUsize = NonZeroUsize::new(256).unwrap();
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
/// Only files of at most so many bytes are pushed: larger ones the kernel reads ahead.
pub(super) const PUSH_FILE_MAX: u64 = 1 << 20;
/// The most files of a directory that are pushed when its listing ends.
pub(super) const PUSH_FILES_MAX: usize = 1024;
/// The most bytes of them.
pub(super) const PUSH_BYTES_MAX: u64 = 8 << 20;
/// Of one directory in so many the first file is left out.
const PROBE_EVERY: u32 = 8;
/// So many directories in a row may be pushed before one file is read.
const UNREAD_DIRS_MAX: u32 = 64;
/// So many bytes may be.
const UNREAD_BYTES_MAX: u64 = 32 << 20;

/// What programs are reading, as far as it can be guessed.
pub(super) struct Ahead {
    library: Arc<dyn Library>,
    streams: Mutex<Streams>,
    pusher: OnceLock<Pusher>,
}

struct Streams {
    of: LruCache<ChunkId, Stream>,
    /// How many files in a row the last stream has had.
    momentum: u32,
    /// Directories that were pushed since a file was left out.
    unprobed_dirs: u32,
    /// Directories that were pushed since the last file was read.
    unread_dirs: u32,
    /// Bytes that were.
    unread_bytes: u64,
}

/// A program that reads the files of a leaf in order.
struct Stream {
    /// The file that was read last; none if only the listing was.
    last: Option<usize>,
    /// How many were read in order.
    run: u32,
    /// Up to which one, it excluded, they were hinted.
    hinted: usize,
}

impl Ahead {
    pub(super) fn new(library: Arc<dyn Library>) -> Ahead {
        let streams = Streams {
            of: LruCache::new(STREAMS_MAX),
            momentum: 0,
            unprobed_dirs: PROBE_EVERY,
            unread_dirs: 0,
            unread_bytes: 0,
        };
        Ahead { library, streams: Mutex::new(streams), pusher: OnceLock::new() }
    }

    /// From now on small files are pushed.
    pub(super) fn push_by(&self, pusher: Pusher) {
        // A mount has one kernel.
        let _ = self.pusher.set(pusher);
    }

    /// A file is being read from its beginning, of that number.
    pub(super) fn reading(&self, file: &Found, ino: u64) {
        let Some((leaf, index)) = file.leaf() else { return };
        let Some((from, window)) = self.note(leaf, index) else { return };
        let (mut contents, mut bytes, mut end) = (Vec::new(), 0u64, from);
        let mut files = Vec::new();
        // Entries are numbered by rank, but for those with several names.
        let numbers = file.entry().link.is_none().then(|| ino.wrapping_sub(file.rank));
        for (at, rank, entry) in file.following() {
            if end - from >= window || bytes >= BYTES_MAX {
                break;
            }
            if at < from {
                continue;
            }
            end = at + 1;
            if entry.kind != FileKind::File || entry.size == 0 {
                continue;
            }
            let content = FileContent::of(entry, file.refs());
            bytes = bytes.saturating_add(entry.size);
            if entry.size <= PUSH_FILE_MAX
                && entry.link.is_none()
                && let Some(numbers) = numbers
            {
                files.push(Push { ino: numbers.wrapping_add(rank), content: content.clone() });
            }
            if matches!(content, FileContent::Extents(..) | FileContent::Tree(..)) {
                contents.push(content);
            }
        }
        if let Some(stream) = self.streams().of.get_mut(&leaf) {
            stream.hinted = stream.hinted.max(end);
        }
        if !contents.is_empty() {
            self.library.prefetch(&contents);
        }
        if let (Some(pusher), false) = (self.pusher.get(), files.is_empty()) {
            pusher.push(files);
        }
    }

    /// Directories with these nodes were listed, or are to be listed next.
    pub(super) fn listed(&self, nodes: &[ChunkId]) {
        if !nodes.is_empty() {
            self.library.prefetch_nodes(nodes, self.copies());
        }
    }

    /// Whether what a directory holds is worth pushing when its listing ends.
    pub(super) fn copies(&self) -> bool {
        let streams = self.streams();
        self.pusher.get().is_some()
            && streams.momentum >= RUN_MIN
            && streams.unread_dirs < UNREAD_DIRS_MAX
            && streams.unread_bytes < UNREAD_BYTES_MAX
    }

    /// Pushes small files that are read when a listing has ended, in their order; of some
    /// listings all but the first. `go_on` may be called before that is done, when
    /// the reader can go on. What is returned is disconnected when it was done, none if it is
    /// already.
    pub(super) fn ended(
        &self,
        files: Vec<(Found, Push)>,
        go_on: &mut dyn FnMut(),
    ) -> Option<Receiver<Infallible>> {
        let pusher = self.pusher.get()?;
        let mut contents = Vec::new();
        let mut pushes = Vec::new();
        let mut streams = self.streams();
        let probe = streams.unprobed_dirs >= PROBE_EVERY;
        streams.unprobed_dirs = if probe { 1 } else { streams.unprobed_dirs + 1 };
        for (n, (found, push)) in files.into_iter().enumerate() {
            if let Some((leaf, index)) = found.leaf() {
                let run = streams.momentum;
                let stream =
                    streams.of.get_or_insert_mut(leaf, || Stream { last: None, run, hinted: 0 });
                stream.hinted = stream.hinted.max(index + 1);
            }
            if matches!(push.content, FileContent::Extents(..)) {
                contents.push(push.content.clone());
            }
            if n > 0 || !probe {
                streams.unread_bytes += push.content.size();
                pushes.push(push);
            }
        }
        streams.unread_dirs += 1;
        drop(streams);
        let away = pusher.push_from_memory(pushes, go_on);
        if away.is_empty() {
            if let Some(last) = contents.last() {
                self.library.prefetch_behind(last);
            }
            return None;
        }
        self.library.prefetch(&contents);
        pusher.push(away)
    }

    /// Notes a read. Returns from which entry on how many files are worth a hint.
    fn note(&self, leaf: ChunkId, index: usize) -> Option<(usize, usize)> {
        let mut streams = self.streams();
        (streams.unread_dirs, streams.unread_bytes) = (0, 0);
        let momentum = streams.momentum;
        let (run, hinted) = match streams.of.get(&leaf) {
            Some(before) if before.last == Some(index) => return None,
            Some(before) if before.continues(index) => {
                (before.run.saturating_add(1), before.hinted)
            }
            None if index <= GAP_MAX => (momentum, 0),
            _ => (0, 0),
        };
        streams.momentum = run;
        streams.of.put(leaf, Stream { last: Some(index), run, hinted });
        let window = 1usize.checked_shl(run).unwrap_or(FILES_MAX).min(FILES_MAX);
        let left = hinted.saturating_sub(index + 1);
        let from = hinted.max(index + 1);
        (run >= RUN_MIN && left <= window / 2).then_some((from, window))
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    /// Whether reading that file goes on where the stream is: what was hinted may have been
    /// read without a question.
    fn continues(&self, index: usize) -> bool {
        match self.last {
            None => index <= self.hinted + GAP_MAX,
            Some(last) => index > last && (index - last <= GAP_MAX || index <= self.hinted),
        }
    }
}
