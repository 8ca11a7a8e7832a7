//! From a path below the target to a descriptor of a directory, without following
//! anything.
//!
//! Each component is opened by itself, and must be a directory and no symlink. The
//! directories used last are remembered, and those on the way to them, so that a restore
//! that goes through a tree in order opens each once.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use lru::LruCache;
use rustix::fs::{Mode, OFlags, openat};

use crate::target::lock;

/// How many directories are remembered, and so kept open: files come in the order in which they
/// are stored, which goes to and fro between those of some hundred.
const KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(256).unwrap();

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
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        while end < path.len() {
            let start = if end == 0 { 0 } else { end + 1 };
            let length = path[start..].iter().position(|b| *b == b'/');
            end = length.map_or(path.len(), |length| start + length);
            let name = &path[start..end];
            if !is_name(name) {
                return Err(outside());
            }
            at = Arc::new(openat(at.as_fd(), name, flags, Mode::empty())?);
            // Those above it too: they are the way to what is beside it.
            lock(&self.known).put(path[..end].into(), Arc::clone(&at));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_remembered_with_those_above_it_until_all_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        let dirs = Dirs::new(std::fs::File::open(dir.path()).unwrap().into());
        dirs.open(b"a/b/c").unwrap();
        let known = || [&b"a"[..], b"a/b", b"a/b/c", b"b"].map(|path| dirs.recall(path).is_some());
        assert_eq!(known(), [true, true, true, false]);
        dirs.forget();
        assert_eq!(known(), [false; 4]);
    }

    #[test]
    fn a_path_with_anything_but_names_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let dirs = Dirs::new(std::fs::File::open(dir.path()).unwrap().into());
        for path in [&b"/"[..], b"/a", b"a/", b"a//b", b"a/./b", b"a/../a", b"a/b/"] {
            assert_eq!(dirs.open(path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
