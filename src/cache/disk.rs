//! Sealed frames on disk, so that a store is asked once.
//!
//! A file a frame, `<2 digits>/<claim>-<frame>`: where a frame lies is what somebody
//! claimed, and nobody's claim may shadow another's. Files are written beside and renamed into
//! place, so several processes share a cache without a lock: the worst that two of
//! them do is to fetch the same frame. The time of last use is the file's mtime,
//! renewed at most once an hour. When a process has written a sixteenth of the
//! bound, it looks at what there is and removes what was used longest ago; the
//! directory therefore never exceeds its bound by more than a sixteenth for each
//! process that writes to it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

/// A bounded directory of sealed frames. Failures of it are misses, never errors.
pub struct DiskCache {
    dir: PathBuf,
    bytes_max: u64,
    written: AtomicU64,
    names: AtomicU64,
}

const TOUCH_AFTER: Duration = Duration::from_secs(3600);

impl DiskCache {
    /// The cache in `dir`, which is made if it is missing. Holds `bytes_max` bytes.
    #[must_use]
    pub fn new(dir: PathBuf, bytes_max: u64) -> DiskCache {
        let cache =
            DiskCache { dir, bytes_max, written: AtomicU64::new(0), names: AtomicU64::new(0) };
        let _ = fs::DirBuilder::new().recursive(true).mode(0o700).create(&cache.dir);
        cache
    }

    /// A frame's sealed bytes, if they are here. They may have been altered. `claim`
    /// is the hash of what is claimed of its pack.
    #[must_use]
    pub fn get(&self, claim: &[u8; 32], frame: u32, sealed_len: usize) -> Option<Bytes> {
        let path = self.path(claim, frame);
        let bytes = fs::read(&path).ok()?;
        if bytes.len() != sealed_len {
            self.remove(claim, frame);
            return None;
        }
        let used = fs::metadata(&path).and_then(|m| m.modified()).ok();
        if used.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > TOUCH_AFTER) {
            touch(&path);
        }
        Some(bytes.into())
    }

    /// Whether a frame seems to be here.
    #[must_use]
    pub fn has(&self, claim: &[u8; 32], frame: u32) -> bool {
        self.path(claim, frame).exists()
    }

    /// Keeps a frame's sealed bytes.
    pub fn put(&self, claim: &[u8; 32], frame: u32, sealed: &[u8]) {
        if self.bytes_max == 0 {
            return;
        }
        let path = self.path(claim, frame);
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let name = format!("tmp-{}-{number}", std::process::id());
        let beside = self.dir.join(name);
        let written = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)
            .and_then(|mut file| file.write_all(sealed))
            .and_then(|()| {
                if let Some(parent) = path.parent() {
                    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
                }
                fs::rename(&beside, &path)
            });
        if written.is_err() {
            let _ = fs::remove_file(&beside);
            return;
        }
        let length = sealed.len() as u64;
        let before = self.written.fetch_add(length, Ordering::Relaxed);
        let step = (self.bytes_max / 16).max(1);
        if before == 0 || before / step != (before + length) / step {
            self.shrink();
        }
    }

    /// Drops a frame that turned out to be altered.
    pub fn remove(&self, claim: &[u8; 32], frame: u32) {
        let _ = fs::remove_file(self.path(claim, frame));
    }

    fn path(&self, claim: &[u8; 32], frame: u32) -> PathBuf {
        let claim = hex::encode(claim);
        self.dir.join(&claim[..2]).join(format!("{claim}-{frame}"))
    }

    /// Removes what was used longest ago until the bound holds.
    fn shrink(&self) {
        let mut files = Vec::new();
        collect(&self.dir, &mut files, 0);
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        if total <= self.bytes_max {
            return;
        }
        files.sort();
        for (_, size, path) in files {
            if total <= self.bytes_max - self.bytes_max / 8 {
                break;
            }
            if fs::remove_file(&path).is_ok() {
                total -= size;
            }
        }
    }
}

fn touch(path: &Path) {
    use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times = Timestamps { last_access: omit, last_modification: now };
    let _ = rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty());
}

fn collect(dir: &Path, files: &mut Vec<(SystemTime, u64, PathBuf)>, depth: u32) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(found) = entry.metadata() else {
            continue;
        };
        if found.is_dir() && depth == 0 {
            collect(&entry.path(), files, depth + 1);
        } else if let Ok(used) = found.modified()
            && found.is_file()
        {
            files.push((used, found.len(), entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_what_was_kept_and_nothing_of_another_length() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(dir.path().join("frames"), 1 << 20);
        let pack = &[7; 32];
        cache.put(pack, 3, b"sealed");
        assert_eq!(cache.get(pack, 3, 6).as_deref(), Some(&b"sealed"[..]));
        assert_eq!(cache.get(pack, 4, 6), None);
        assert_eq!(cache.get(pack, 3, 7), None, "cut or grown");
        assert_eq!(cache.get(pack, 3, 6), None, "dropped, since it was not whole");
    }

    #[test]
    fn keeps_within_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(dir.path().to_owned(), 16_000);
        for n in 0..100 {
            cache.put(&[n; 32], 0, &[n; 1000]);
        }
        let mut files = Vec::new();
        collect(dir.path(), &mut files, 0);
        let total: u64 = files.iter().map(|f| f.1).sum();
        assert!(total <= 17_000, "{total}");
        assert!(cache.get(&[99; 32], 0, 1000).is_some(), "the newest is there");
        let off = DiskCache::new(dir.path().join("off"), 0);
        off.put(&[1; 32], 0, b"x");
        assert_eq!(off.get(&[1; 32], 0, 1), None);
    }
}
