//! A store that remembers a few small objects, for when it cannot be asked.
//!
//! What opens a repository (its description and its key files) hardly ever changes under
//! its name, so a copy on this machine is as good as the original, which is verified
//! when it is used. With it, what the local index and caches know can be looked at
//! while the network is away. A key file that the store no longer lists is forgotten
//! here too.
//!
//! Copies are a convenience: that one cannot be written or read is no failure.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::base::{Kind, UnixTime};
use crate::store::{Listed, Mark, Page, Put, Result, Store};

/// Remembers some objects of another store.
pub struct RememberStore {
    inner: Arc<dyn Store>,
    dir: PathBuf,
    /// The names, or beginnings of names that end with `/`, of what is remembered.
    what: &'static [&'static str],
    /// Set once the store could not be reached: then copies are used without asking.
    away: AtomicBool,
}

impl RememberStore {
    /// Remembers `what` of `inner` in a directory of its own, which is made if it is missing.
    #[must_use]
    pub fn new(
        inner: Arc<dyn Store>,
        dir: PathBuf,
        what: &'static [&'static str],
    ) -> RememberStore {
        RememberStore { inner, dir, what, away: AtomicBool::new(false) }
    }

    fn is_remembered(&self, key: &str) -> bool {
        self.what.iter().any(|name| key == *name || (name.ends_with('/') && key.starts_with(name)))
    }

    fn keep(&self, key: &str, body: &[u8]) -> std::io::Result<()> {
        let path = self.dir.join(key);
        if fs::read(&path).is_ok_and(|copy| copy == body) {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(&self.dir);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        let beside = parent.join(format!(".{}", hex::encode(crate::codec::random::bytes::<8>())));
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(body)?;
        fs::rename(&beside, &path)
    }

    /// The names of the copies below a prefix, in order.
    fn copies(&self, prefix: &str) -> Vec<Listed> {
        let entries = fs::read_dir(self.dir.join(prefix)).into_iter().flatten().flatten();
        let mut found: Vec<Listed> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok().filter(|n| !n.starts_with('.'))?;
                let size = entry.metadata().ok()?.len();
                Some(Listed { key: format!("{prefix}{name}"), size, receipt: UnixTime::EPOCH })
            })
            .collect();
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found
    }

    /// Forgets the copies that a whole listing does not have.
    fn forget_others(&self, prefix: &str, page: &Page) {
        for copy in self.copies(prefix) {
            if !page.objects.iter().any(|object| object.key == copy.key) {
                // It is tried again with the next listing.
                let _ = fs::remove_file(self.dir.join(copy.key));
            }
        }
    }
}

impl Store for RememberStore {
    fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        self.inner.put_new(key, body)
    }

    fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        if !self.is_remembered(key) {
            return self.inner.get(key, limit);
        }
        let copy = || fs::read(self.dir.join(key)).ok().filter(|copy| copy.len() as u64 <= limit);
        if self.away.load(Ordering::Relaxed)
            && let Some(copy) = copy()
        {
            return Ok(copy.into());
        }
        match self.inner.get(key, limit) {
            Ok(body) => {
                let _ = self.keep(key, &body);
                Ok(body)
            }
            Err(error) if error.kind == Kind::Unavailable => match copy() {
                Some(copy) => {
                    self.away.store(true, Ordering::Relaxed);
                    Ok(copy.into())
                }
                None => Err(error),
            },
            Err(error) if error.kind == Kind::NotFound => {
                let _ = fs::remove_file(self.dir.join(key));
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.inner.get_range(key, range)
    }

    fn get_parts(&self, key: &str, start: u64, lengths: &[usize]) -> Result<Vec<Bytes>> {
        self.inner.get_parts(key, start, lengths)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page> {
        if !prefix.ends_with('/') || !self.what.contains(&prefix) || after.is_some() {
            return self.inner.list(prefix, after);
        }
        let copies = || Page { objects: self.copies(prefix), more: false, at: None };
        if self.away.load(Ordering::Relaxed) {
            return Ok(copies());
        }
        match self.inner.list(prefix, after) {
            Ok(page) => {
                if !page.more {
                    self.forget_others(prefix, &page);
                }
                Ok(page)
            }
            Err(error) if error.kind == Kind::Unavailable && !copies().objects.is_empty() => {
                self.away.store(true, Ordering::Relaxed);
                Ok(copies())
            }
            Err(error) => Err(error),
        }
    }

    fn mark(&self, directory: &str) -> Option<Mark> {
        self.inner.mark(directory)
    }

    fn delete(&self, key: &str) -> Result<()> {
        if self.is_remembered(key) {
            // What is deleted must not come back while the store is away.
            let _ = fs::remove_file(self.dir.join(key));
        }
        self.inner.delete(key)
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn object_bytes_max(&self) -> Option<u64> {
        self.inner.object_bytes_max()
    }

    fn local_path(&self) -> Option<&Path> {
        self.inner.local_path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Call, MemoryStore};

    /// A store that can be taken away.
    struct Away(MemoryStore, AtomicBool);

    impl Away {
        fn check(&self, call: Call, key: &str) -> Result<()> {
            match self.1.load(Ordering::Relaxed) {
                true => Err(crate::store::key::error(Kind::Unavailable, call, key, "it", "away")),
                false => Ok(()),
            }
        }
    }

    impl Store for Away {
        fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
            self.0.put_new(key, body)
        }
        fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
            self.check(Call::Get, key).and_then(|()| self.0.get(key, limit))
        }
        fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
            self.0.get_range(key, range)
        }
        fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page> {
            self.check(Call::List, prefix).and_then(|()| self.0.list(prefix, after))
        }
        fn delete(&self, key: &str) -> Result<()> {
            self.0.delete(key)
        }
        fn location(&self) -> String {
            "it".to_owned()
        }
    }

    #[test]
    fn what_was_seen_is_there_when_the_store_is_away_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let inner = Arc::new(Away(MemoryStore::new(), AtomicBool::new(false)));
        for key in ["asof.json", "keys/aa", "keys/bb", "log/x"] {
            inner.put_new(key, Bytes::from_static(b"body")).unwrap();
        }
        let open = || {
            let what: &[&str] = &["asof.json", "keys/"];
            RememberStore::new(inner.clone(), dir.path().join("copies"), what)
        };
        let store = open();
        for key in ["asof.json", "keys/aa", "keys/bb", "log/x"] {
            assert_eq!(store.get(key, 10).unwrap(), "body");
        }
        inner.delete("keys/bb").unwrap();
        store.list("keys/", None).unwrap();

        inner.1.store(true, Ordering::Relaxed);
        let store = open();
        assert_eq!(store.get("asof.json", 10).unwrap(), "body");
        let listed: Vec<_> = store.list("keys/", None).unwrap().objects;
        assert_eq!(listed.iter().map(|l| l.key.as_str()).collect::<Vec<_>>(), ["keys/aa"]);
        assert_eq!(store.get("keys/aa", 10).unwrap(), "body");
        assert!(store.get("keys/bb", 10).is_err() && store.get("log/x", 10).is_err());
        assert!(store.list("log/", None).is_err());
    }

    #[test]
    fn what_was_replaced_does_not_come_back_while_the_store_is_away() {
        let dir = tempfile::tempdir().unwrap();
        let inner = Arc::new(Away(MemoryStore::new(), AtomicBool::new(false)));
        let open = || {
            let what: &[&str] = &["asof.json"];
            RememberStore::new(inner.clone(), dir.path().join("copies"), what)
        };
        let away = |away| inner.1.store(away, Ordering::Relaxed);
        let seen = || {
            away(false);
            inner.put_new("asof.json", Bytes::from_static(b"old")).unwrap();
            assert_eq!(open().get("asof.json", 10).unwrap(), "old");
        };
        // Replaced from here.
        seen();
        open().delete("asof.json").unwrap();
        away(true);
        assert!(open().get("asof.json", 10).is_err());
        // Seen to be gone.
        seen();
        inner.delete("asof.json").unwrap();
        assert!(open().get("asof.json", 10).is_err());
        away(true);
        assert!(open().get("asof.json", 10).is_err());
        // Seen as it is now.
        seen();
        inner.delete("asof.json").unwrap();
        inner.put_new("asof.json", Bytes::from_static(b"new")).unwrap();
        assert_eq!(open().get("asof.json", 10).unwrap(), "new");
        away(true);
        assert_eq!(open().get("asof.json", 10).unwrap(), "new");
    }
}
