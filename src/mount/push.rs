//! Pushing small files into the kernel's page cache before they are asked for.
//!
//! A READ costs a program some 40 µs beside what it brings, and most files are one READ.
//! Whoever copies a tree asks for them all; so what will be read next is stored in the
//! kernel, and the program finds it there.
//!
//! The kernel lets a store wait for a page that is being read, so who stores must not be
//! the one who answers that read, and holds no lock meanwhile. One thread does nothing but
//! push. What is in memory already an event loop may push by itself, which spares two
//! threads being woken for each directory: one loop at a time, so that another is there to
//! answer reads, and only if there are several.
//!
//! A file is pushed whole or not at all. What the kernel refuses or forgets again is read
//! as ever.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, TryLockError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::mount::counters::Counters;
use crate::mount::pool::guarded;
use crate::repo::{FileContent, Library};
use crate::view::error::Reach;

/// Batches that wait. What finds no room is not pushed.
const QUEUE_MAX: usize = 8;

/// So far a push is ahead of the reader before it is let go on: whichever comes first.
const LEAD_FILES: usize = 4;
const LEAD_BYTES: u64 = 64 << 10;

/// A file to be pushed.
#[derive(Debug, Clone)]
pub(super) struct Push {
    /// Its number.
    pub(super) ino: u64,
    /// Its bytes, not read yet.
    pub(super) content: FileContent,
}

/// Stores the bytes of a file in the kernel.
pub(super) type Sink = Box<dyn Fn(u64, &[u8]) -> io::Result<()> + Send + Sync>;

struct Batch {
    files: Vec<Push>,
    /// Dropped when the last file was pushed.
    _done: Sender<Infallible>,
}

/// What pushes. Its thread ends when this is dropped.
pub(super) struct Pusher {
    batches: Sender<Batch>,
    kernel: Arc<Kernel>,
    /// Held by the event loop that pushes; none if there is just one loop.
    turn: Option<Mutex<()>>,
}

/// Where files come from, and where they are put.
struct Kernel {
    library: Arc<dyn Library>,
    counters: Arc<Counters>,
    sink: Sink,
}

impl Pusher {
    /// Starts the thread. `loops` is how many event loops there are.
    pub(super) fn start(
        library: Arc<dyn Library>,
        counters: Arc<Counters>,
        sink: Sink,
        loops: usize,
    ) -> io::Result<Pusher> {
        let (batches, queue) = bounded::<Batch>(QUEUE_MAX);
        let kernel = Arc::new(Kernel { library, counters, sink });
        let own = Arc::clone(&kernel);
        thread::Builder::new().name("asof-push".to_owned()).spawn(move || {
            for batch in queue {
                for file in &batch.files {
                    let _ = guarded(|| own.push(file, Reach::Store));
                }
            }
        })?;
        Ok(Pusher { batches, kernel, turn: (loops > 1).then(Mutex::default) })
    }

    /// Has files pushed, in that order. What is returned is disconnected when they were;
    /// none if too many wait already.
    pub(super) fn push(&self, files: Vec<Push>) -> Option<Receiver<Infallible>> {
        let (done, is_done) = bounded(0);
        match self.batches.try_send(Batch { files, _done: done }) {
            Ok(()) => Some(is_done),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => None,
        }
    }

    /// Pushes files of which the bytes are in memory, for an event loop. Returns those from
    /// the first on of which they are not; all, if another loop is at it. When the first few
    /// are pushed `go_on` is called: whoever reads them can do so while the others are.
    pub(super) fn push_from_memory(
        &self,
        mut files: Vec<Push>,
        go_on: &mut dyn FnMut(),
    ) -> Vec<Push> {
        let _turn = match self.turn.as_ref().map(Mutex::try_lock) {
            Some(Ok(turn)) => turn,
            // Nothing is behind the lock that a panic could have left half done.
            Some(Err(TryLockError::Poisoned(turn))) => turn.into_inner(),
            Some(Err(TryLockError::WouldBlock)) | None => return files,
        };
        let mut lead = 0;
        let away = files.iter().enumerate().position(|(n, file)| {
            let is_here = self.kernel.push(file, Reach::Memory);
            lead += file.content.size();
            if is_here && (n + 1 == LEAD_FILES || lead >= LEAD_BYTES) {
                go_on();
            }
            !is_here
        });
        match away {
            Some(away) => files.split_off(away),
            None => Vec::new(),
        }
    }
}

impl Kernel {
    /// Pushes one file. False if its bytes are not to be had.
    fn push(&self, file: &Push, reach: Reach) -> bool {
        let Ok(size) = usize::try_from(file.content.size()) else { return true };
        let bytes = match reach {
            Reach::Memory => self.library.read_in_memory(&file.content, 0, size),
            // Whoever reads it meets the same error, and hears of it.
            Reach::Store => self.library.read(&file.content, 0, size).ok(),
        };
        let Some(bytes) = bytes.filter(|bytes| bytes.len() == size) else { return false };
        match (self.sink)(file.ino, &bytes) {
            Ok(()) => {
                Counters::add(&self.counters.pushed, 1);
                Counters::add(&self.counters.pushed_bytes, size as u64);
            }
            Err(error) => tracing::debug!(ino = file.ino, %error, "the kernel took no file"),
        }
        true
    }
}
