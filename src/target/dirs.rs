//! From a path below the target to a descriptor of a directory, without following
//! anything.
//!
//! Each component is opened by itself, and must be a directory and no symlink. The
//! directories used last are remembered, so that a restore that goes through a tree in
//! order opens each once.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use lru::LruCache;
use rustix::fs::{Mode, OFlags, openat};

use crate::target::lock;

/// How many directories are remembered, and so kept open: files come in the order in which they
/// are stored, which goes to and fro between those of some hundred, while as many are made for
/// the next. It is half of what a process may open where nobody set another limit.
const KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(512).unwrap();

#[derive(Debug)]
pub(super) struct Dirs {
    root: Arc<OwnedFd>,
    /// By path.
    known: Mutex<LruCache<Box<[u8]>, Arc<OwnedFd>>>,
}

impl Dirs {
    pub(super) fn new(root: OwnedFd) -> Dirs {
        Dirs { root: Arc::new(root), known: Mutex::new(LruCache::new(KNOWN_MAX)) }
    }

    /// Opens the directory at a path, as a mere path (`O_PATH`).
    pub(super) fn open(&self, path: &[u8]) -> io::Result<Arc<OwnedFd>> {
        let mut end = path.len();
        let mut at = loop {
            if end == 0 {
                break Arc::clone(&self.root);
            }
            if let Some(fd) = self.recall(&path[..end]) {
                break fd;
            }
            end = path[..end].iter().rposition(|b| *b == b'/').unwrap_or(0);
        };
        if end == path.len() {
            return Ok(at);
        }
        let rest = if end == 0 { path } else { &path[end + 1..] };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for name in rest.split(|b| *b == b'/') {
            if !is_name(name) {
                return Err(outside());
            }
            at = Arc::new(openat(at.as_fd(), name, flags, Mode::empty())?);
        }
        lock(&self.known).put(path.into(), Arc::clone(&at));
        Ok(at)
    }

    fn recall(&self, path: &[u8]) -> Option<Arc<OwnedFd>> {
        lock(&self.known).get(path).map(Arc::clone)
    }

    /// Forgets everything: a path is about to mean something else.
    pub(super) fn forget(&self) {
        lock(&self.known).clear();
    }
}

/// Whether these bytes name an entry of a directory.
pub(super) fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0)
}

/// The refusal of a path that is not one below the target.
pub(super) fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a path below the target")
}
