//! Plain copies of large files, which the kernel reads by itself.
//!
//! With passthrough an OPEN can be answered with a file of this machine, and the kernel then
//! reads that without asking anybody. So what programs read of a large file is written to a
//! file without a name as well, and once all of it is there, who opens the file the next
//! time gets that. It costs what the rest of the mount does without: an OPEN and a RELEASE
//! for every file, and plain bytes on the disk of the cache for as long as the mount lives.
//! Therefore it is an option, and only root can have it.
//!
//! All handles of a file that are open at a time must be of one sort, or the kernel refuses
//! to open it. What is counted here never runs ahead of the kernel, so: a handle is passed
//! through only if no ordinary one is open, and an ordinary one is given only until the
//! copy is whole.
//!
//! One thread writes. It is handed the bytes that were read, and what comes too fast is
//! dropped. What is missing when the last reader has gone the thread reads itself, if half of
//! the file was asked for; who opens the file meanwhile waits for that a little.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded, select};
use fuser::BackingId;
use lru::LruCache;
use rustix::fs::{Mode, OFlags, open};

use crate::base::Ranges;
use crate::mount::counters::Counters;
use crate::mount::pool::guarded;
use crate::mount::vfs::Vfs;
use crate::view::error::Reach;

/// Smaller files are not worth a copy. Bytes.
pub(super) const COPY_MIN: u64 = 4 << 20;
/// The most copies: each is an open file.
const COPIES_MAX: usize = 256;
/// Pieces that wait to be written, of at most 1 MiB each.
const PIECES_MAX: usize = 16;
/// How long an OPEN waits for a copy that is nearly whole.
const FILL_TIME: Duration = Duration::from_secs(5);
/// What is read at a time of what is missing. Bytes.
const FILL_BYTES: u32 = 1 << 20;

/// Where plain copies are kept, and how much of them.
#[derive(Debug, Clone)]
pub struct PassthroughOptions {
    /// A directory for files without names; made if it is missing.
    pub dir: PathBuf,
    /// The most bytes of all copies together.
    pub bytes_max: u64,
}

/// The copies of one mount. Its thread ends when this is dropped.
pub(super) struct Copies {
    options: PassthroughOptions,
    counters: Arc<Counters>,
    of: Arc<All>,
    pieces: Sender<Piece>,
    /// Numbers of files that nobody reads any longer. Beside the pieces, which are so many that
    /// some are left out: if one of these were, the copy would stay as it is.
    fills: Sender<u64>,
}

/// The copies by the numbers of their files.
struct All {
    files: Mutex<LruCache<u64, Copy>>,
    /// One was filled, or could not be.
    filled: Condvar,
}

/// Bytes of a file.
struct Piece {
    ino: u64,
    offset: u64,
    bytes: Bytes,
}

/// A file that is open, or has a copy.
struct Copy {
    size: u64,
    /// None if there can be no copy.
    file: Option<Arc<File>>,
    written: Ranges,
    /// How many bytes were asked for.
    asked: u64,
    /// What is missing is being read.
    filling: bool,
    /// Open handles for which the kernel asks here.
    ordinary: u32,
    /// Open handles for which it does not.
    through: u32,
    backing: Option<Arc<BackingId>>,
}

impl Copies {
    /// No copies yet.
    ///
    /// # Errors
    ///
    /// If no file can be made in the directory.
    pub(super) fn start(vfs: Arc<Vfs>, options: PassthroughOptions) -> io::Result<Copies> {
        std::fs::create_dir_all(&options.dir)?;
        drop(nameless(&options.dir)?);
        let files = Mutex::new(LruCache::unbounded());
        let of = Arc::new(All { files, filled: Condvar::new() });
        let (pieces, to_write) = bounded(PIECES_MAX);
        let (fills, to_fill) = bounded(COPIES_MAX);
        let (own, counters) = (Arc::clone(&of), Arc::clone(vfs.counters()));
        thread::Builder::new()
            .name("asof-copies".to_owned())
            .spawn(move || write_all(&vfs, &own, &to_write, &to_fill))?;
        Ok(Copies { options, counters, of, pieces, fills })
    }

    /// A large file of that size is opened. Returns what to pass it through to, if its copy
    /// is whole; `register` tells the kernel of a file.
    pub(super) fn open(
        &self,
        ino: u64,
        size: u64,
        register: impl FnOnce(BorrowedFd<'_>) -> io::Result<BackingId>,
    ) -> Option<Arc<BackingId>> {
        let mut of = lock(&self.of.files);
        if !of.contains(&ino) {
            let file = self.make_room(&mut of, size).then(|| nameless(&self.options.dir));
            // Without a copy everything is as it is without the option.
            let file = file.and_then(|made| {
                made.inspect_err(|error| tracing::warn!(%error, "no plain copy is made")).ok()
            });
            let file = file.map(Arc::new);
            let written = Ranges::default();
            let (asked, filling, ordinary, through, backing) = (0, false, 0, 0, None);
            of.put(ino, Copy { size, file, written, asked, filling, ordinary, through, backing });
        }
        let copy = of.get_mut(&ino)?;
        if copy.ordinary == 0
            && copy.written.has(0, copy.size)
            && let Some(file) = &copy.file
        {
            if copy.backing.is_none() {
                copy.backing = register(file.as_fd()).map(Arc::new).ok();
            }
            if let Some(backing) = &copy.backing {
                copy.through += 1;
                Counters::add(&self.counters.passed, 1);
                return Some(Arc::clone(backing));
            }
        }
        copy.ordinary += 1;
        None
    }

    /// A handle was closed that [`open`](Copies::open) had given.
    pub(super) fn close(&self, ino: u64, was_through: bool) {
        let mut of = lock(&self.of.files);
        let Some(copy) = of.get_mut(&ino) else { return };
        let count = if was_through { &mut copy.through } else { &mut copy.ordinary };
        *count = count.saturating_sub(1);
        if copy.ordinary > 0 || copy.through > 0 {
            return;
        }
        if copy.file.is_none() {
            of.pop(&ino);
        } else if !copy.written.has(0, copy.size) {
            // There are not as many copies as would fill the queue.
            copy.filling |= self.fills.try_send(ino).is_ok();
        }
    }

    /// Whether what a file's copy lacks is being read.
    pub(super) fn is_filling(&self, ino: u64) -> bool {
        lock(&self.of.files).peek(&ino).is_some_and(|copy| copy.filling)
    }

    /// Waits until it is no longer, but not for long.
    pub(super) fn await_filled(&self, ino: u64) {
        let files = lock(&self.of.files);
        let filling =
            |files: &mut LruCache<u64, Copy>| files.peek(&ino).is_some_and(|copy| copy.filling);
        drop(self.of.filled.wait_timeout_while(files, FILL_TIME, filling));
    }

    /// Bytes were read through an ordinary handle.
    pub(super) fn offer(&self, ino: u64, offset: u64, bytes: &Bytes) {
        if let Some(copy) = lock(&self.of.files).peek_mut(&ino) {
            copy.asked += bytes.len() as u64;
        }
        let _ = self.pieces.try_send(Piece { ino, offset, bytes: bytes.clone() });
    }

    /// Gives up copies that nobody has open, the least used first, until there is room for
    /// one more. False if there is none.
    fn make_room(&self, of: &mut LruCache<u64, Copy>, size: u64) -> bool {
        let copies = |of: &LruCache<u64, Copy>| {
            let with_file = of.iter().filter(|(_, copy)| copy.file.is_some());
            with_file.fold((0, 0), |(n, bytes), (_, copy)| (n + 1, bytes + copy.size))
        };
        loop {
            let (count, bytes) = copies(of);
            if count < COPIES_MAX && bytes + size <= self.options.bytes_max {
                return true;
            }
            let is_idle = |copy: &Copy| copy.ordinary == 0 && copy.through == 0;
            let idle = of.iter().rev().find(|(_, copy)| is_idle(copy)).map(|(ino, _)| *ino);
            match idle {
                Some(ino) => drop(of.pop(&ino)),
                None => return false,
            }
        }
    }
}

/// Writes and fills until nobody can ask for it any more.
fn write_all(vfs: &Vfs, of: &All, pieces: &Receiver<Piece>, fills: &Receiver<u64>) {
    let one = || {
        select! {
            recv(pieces) -> piece => match piece {
                Ok(Piece { ino, offset, bytes }) => write(vfs, of, ino, offset, &bytes),
                Err(_) => return false,
            },
            recv(fills) -> ino => match ino {
                Ok(ino) => {
                    let _ends = Filling { of, ino };
                    fill(vfs, of, ino);
                }
                Err(_) => return false,
            },
        }
        true
    };
    // What panics is given up, and the next is written.
    while guarded(one).unwrap_or(true) {}
}

/// Writes a piece of a file to its copy. A copy that cannot be written is given up.
fn write(vfs: &Vfs, of: &All, ino: u64, offset: u64, bytes: &[u8]) {
    let end = offset + bytes.len() as u64;
    let file = match lock(&of.files).peek(&ino) {
        Some(copy) if !copy.written.has(offset, end) => copy.file.clone(),
        _ => None,
    };
    let Some(file) = file else { return };
    let written = file.write_all_at(bytes, offset);
    let mut of = lock(&of.files);
    let Some(copy) = of.peek_mut(&ino) else { return };
    match written {
        Ok(()) => {
            copy.written.add(offset, end);
            if copy.written.has(0, copy.size) {
                Counters::add(&vfs.counters().copied, 1);
            }
        }
        Err(error) => {
            tracing::warn!(ino, %error, "a plain copy cannot be written");
            copy.file = None;
        }
    }
}

/// Tells those who wait that a copy is not filled any longer, however that ended.
struct Filling<'a> {
    of: &'a All,
    ino: u64,
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        if let Some(copy) = lock(&self.of.files).peek_mut(&self.ino) {
            copy.filling = false;
        }
        self.of.filled.notify_all();
    }
}

/// Reads what a copy lacks, if somebody has asked for the better part of the file.
fn fill(vfs: &Vfs, of: &All, ino: u64) {
    loop {
        let gap = match lock(&of.files).peek(&ino) {
            Some(copy) if copy.asked >= copy.size / 2 => copy.written.gap(copy.size),
            _ => None,
        };
        let Some((start, end)) = gap else { return };
        let length = u32::try_from(end - start).unwrap_or(u32::MAX).min(FILL_BYTES);
        // Whoever reads it meets the same error, and hears of it.
        let Ok(bytes) = vfs.read(ino, start, length, Reach::Store) else { return };
        write(vfs, of, ino, start, &bytes);
        if lock(&of.files).peek(&ino).is_none_or(|copy| copy.file.is_none()) {
            return;
        }
    }
}

/// A file of its own without a name.
fn nameless(dir: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    Ok(open(dir, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// What is locked is a map: whole after any panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
