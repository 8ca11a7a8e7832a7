//! Pushing small files into the kernel's page cache before they are asked for.
//!
//! A READ costs a program some 40 µs beside what it brings, and most files are one READ.
//! Whoever copies a tree asks for them all; so what will be read next is stored in the
//! kernel, and the program finds it there. One thread does that and nothing else: the
//! kernel lets a store wait for a page that is being read, so who stores must not be who
//! answers reads, and holds no lock meanwhile.
//!
//! A file is pushed whole or not at all. What the kernel refuses or forgets again is read
//! as ever.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::mount::counters::Counters;
use crate::mount::pool::guarded;
use crate::repo::{FileContent, Library};

/// Batches that wait. What finds no room is not pushed.
const QUEUE_MAX: usize = 8;

/// A file to be pushed.
#[derive(Debug, Clone)]
pub(super) struct Push {
    /// Its number.
    pub(super) ino: u64,
    /// Its bytes, not read yet.
    pub(super) content: FileContent,
}

/// Stores the bytes of a file in the kernel.
pub(super) type Sink = Box<dyn Fn(u64, &[u8]) -> io::Result<()> + Send>;

struct Batch {
    files: Vec<Push>,
    /// Dropped when the last file was pushed.
    _done: Sender<Infallible>,
}

/// The thread that pushes; it ends when this is dropped.
pub(super) struct Pusher {
    batches: Sender<Batch>,
}

impl Pusher {
    /// Starts the thread.
    pub(super) fn start(
        library: Arc<dyn Library>,
        counters: Arc<Counters>,
        sink: Sink,
    ) -> io::Result<Pusher> {
        let (batches, queue) = bounded::<Batch>(QUEUE_MAX);
        thread::Builder::new().name("asof-push".to_owned()).spawn(move || {
            for batch in queue {
                for file in &batch.files {
                    let _ = guarded(|| push(library.as_ref(), &counters, &sink, file));
                }
            }
        })?;
        Ok(Pusher { batches })
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
}

fn push(library: &dyn Library, counters: &Counters, sink: &Sink, file: &Push) {
    let Ok(size) = usize::try_from(file.content.size()) else { return };
    // Whoever reads it meets the same error, and hears of it.
    let Ok(bytes) = library.read(&file.content, 0, size) else { return };
    if bytes.len() != size {
        return;
    }
    match sink(file.ino, &bytes) {
        Ok(()) => {
            Counters::add(&counters.pushed, 1);
            Counters::add(&counters.pushed_bytes, size as u64);
        }
        Err(error) => tracing::debug!(ino = file.ino, %error, "the kernel took no file"),
    }
}
