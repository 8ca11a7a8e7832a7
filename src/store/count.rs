//! A store that counts what is asked of it.
//!
//! A bucket is paid for by requests and bytes, so a command says at its end what
//! it used, and a test can hold an operation to a number. Calls are counted when
//! they begin, so a call that fails counts as well; bytes when they have passed.
//! What a store does inside one call (a retry) is one call here.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::store::{Mark, Page, Put, Result, Store};

/// How many calls were made, and how many bytes they carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Requests {
    /// Objects written, or found to exist.
    pub puts: u64,
    /// Objects, or ranges of them, read.
    pub gets: u64,
    /// Pages of listings read.
    pub lists: u64,
    /// Objects deleted.
    pub deletes: u64,
    /// Bytes of the objects that were sent.
    pub bytes_up: u64,
    /// Bytes of the objects that were received.
    pub bytes_down: u64,
}

impl Requests {
    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Requests) -> Requests {
        Requests {
            puts: self.puts.saturating_sub(earlier.puts),
            gets: self.gets.saturating_sub(earlier.gets),
            lists: self.lists.saturating_sub(earlier.lists),
            deletes: self.deletes.saturating_sub(earlier.deletes),
            bytes_up: self.bytes_up.saturating_sub(earlier.bytes_up),
            bytes_down: self.bytes_down.saturating_sub(earlier.bytes_down),
        }
    }

    /// All calls together.
    #[must_use]
    pub fn calls(self) -> u64 {
        self.puts + self.gets + self.lists + self.deletes
    }
}

/// The counters behind [`Requests`], shared with whoever shows them.
#[derive(Debug, Default)]
pub struct Counters {
    puts: AtomicU64,
    gets: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

impl Counters {
    /// The figures as they stand: each exact, though not all of one instant.
    #[must_use]
    pub fn snapshot(&self) -> Requests {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Requests {
            puts: read(&self.puts),
            gets: read(&self.gets),
            lists: read(&self.lists),
            deletes: read(&self.deletes),
            bytes_up: read(&self.bytes_up),
            bytes_down: read(&self.bytes_down),
        }
    }
}

/// Counts the calls to another store.
pub struct CountStore {
    inner: Arc<dyn Store>,
    counters: Arc<Counters>,
}

impl CountStore {
    /// Counts calls to `inner`, from zero.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> CountStore {
        CountStore { inner, counters: Arc::default() }
    }

    /// The counters, to be kept when the store is given away.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// The figures as they stand.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.counters.snapshot()
    }

    fn received(&self, body: &Bytes) {
        add(&self.counters.bytes_down, body.len() as u64);
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Store for CountStore {
    fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        add(&self.counters.puts, 1);
        let size = body.len() as u64;
        let put = self.inner.put_new(key, body)?;
        add(&self.counters.bytes_up, size);
        Ok(put)
    }

    fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        add(&self.counters.gets, 1);
        self.inner.get(key, limit).inspect(|body| self.received(body))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        add(&self.counters.gets, 1);
        self.inner.get_range(key, range).inspect(|body| self.received(body))
    }

    fn get_parts(&self, key: &str, start: u64, lengths: &[usize]) -> Result<Vec<Bytes>> {
        add(&self.counters.gets, 1);
        let parts = self.inner.get_parts(key, start, lengths)?;
        parts.iter().for_each(|part| self.received(part));
        Ok(parts)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page> {
        add(&self.counters.lists, 1);
        self.inner.list(prefix, after)
    }

    fn mark(&self, directory: &str) -> Option<Mark> {
        self.inner.mark(directory)
    }

    fn delete(&self, key: &str) -> Result<()> {
        add(&self.counters.deletes, 1);
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
