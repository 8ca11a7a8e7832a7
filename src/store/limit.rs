//! A store that takes no more than its share: of the line, and of the server.
//!
//! Bandwidth is a bucket of tokens for each direction. A call waits until the
//! bucket is not in debt, then takes all that it needs at once and may leave the
//! bucket in debt, which the next call waits out. So one object passes at full
//! speed and the average holds; a bucket never saves up more than a second.
//! What a read will bring is known only afterwards, so it is charged afterwards.
//!
//! Requests at a time are a counting semaphore. A call first gets its place, then
//! waits for bandwidth: waiting for the line must not let others in.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::base::pause::{SLICE, monotonic, pause};
use crate::base::{Kind, Stop};
use crate::store::key::error;
use crate::store::{Call, Error, Mark, Page, Put, Result, Store};

/// What a store may take; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes per second sent.
    pub up: Option<u64>,
    /// Bytes per second received.
    pub down: Option<u64>,
    /// Calls at a time.
    pub requests: Option<usize>,
}

/// Holds the calls to another store within [`Limits`].
pub struct LimitStore {
    inner: Arc<dyn Store>,
    up: Option<Bucket>,
    down: Option<Bucket>,
    places: Option<Places>,
    stop: Stop,
}

impl LimitStore {
    /// Limits calls to `inner`. Waiting ends with an error when `stop` is raised.
    ///
    /// A limit of zero is taken as one, since it would never let anything pass.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, limits: Limits, stop: Stop) -> LimitStore {
        LimitStore {
            inner,
            up: limits.up.map(Bucket::new),
            down: limits.down.map(Bucket::new),
            places: limits.requests.map(Places::new),
            stop,
        }
    }

    fn enter(&self, call: Call, key: &str) -> Result<Option<Place<'_>>> {
        let Some(places) = &self.places else {
            return Ok(None);
        };
        places.enter(&self.stop).map(Some).ok_or_else(|| self.stopped(call, key))
    }

    fn wait(&self, bucket: Option<&Bucket>, call: Call, key: &str, bytes: usize) -> Result<()> {
        match bucket {
            Some(bucket) if !bucket.take(bytes, &self.stop) => Err(self.stopped(call, key)),
            _ => Ok(()),
        }
    }

    fn stopped(&self, call: Call, key: &str) -> Error {
        error(Kind::Interrupted, call, key, &self.inner.location(), "asked to stop")
    }

    fn read<T>(
        &self,
        key: &str,
        read: impl FnOnce() -> Result<T>,
        length: impl FnOnce(&T) -> usize,
    ) -> Result<T> {
        let _place = self.enter(Call::Get, key)?;
        self.wait(self.down.as_ref(), Call::Get, key, 0)?;
        let body = read()?;
        if let Some(bucket) = &self.down {
            bucket.charge(length(&body));
        }
        Ok(body)
    }
}

impl Store for LimitStore {
    fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        let _place = self.enter(Call::Put, key)?;
        self.wait(self.up.as_ref(), Call::Put, key, body.len())?;
        self.inner.put_new(key, body)
    }

    fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        self.read(key, || self.inner.get(key, limit), Bytes::len)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.read(key, || self.inner.get_range(key, range), Bytes::len)
    }

    fn get_parts(&self, key: &str, start: u64, lengths: &[usize]) -> Result<Vec<Bytes>> {
        let length = |parts: &Vec<Bytes>| parts.iter().map(Bytes::len).sum();
        self.read(key, || self.inner.get_parts(key, start, lengths), length)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page> {
        let _place = self.enter(Call::List, prefix)?;
        self.inner.list(prefix, after)
    }

    fn mark(&self, directory: &str) -> Option<Mark> {
        self.inner.mark(directory)
    }

    fn delete(&self, key: &str) -> Result<()> {
        let _place = self.enter(Call::Delete, key)?;
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

/// Tokens, one for a byte, that come back at a steady rate.
struct Bucket {
    rate: f64,
    state: Mutex<Tokens>,
}

struct Tokens {
    level: f64,
    at: Instant,
}

impl Bucket {
    fn new(bytes_per_second: u64) -> Bucket {
        #[allow(clippy::cast_precision_loss)]
        let rate = bytes_per_second.max(1) as f64;
        Bucket { rate, state: Mutex::new(Tokens { level: 0.0, at: monotonic() }) }
    }

    /// Waits until the bucket is not in debt, then takes `bytes`; false if asked to stop.
    fn take(&self, bytes: usize, stop: &Stop) -> bool {
        loop {
            let debt = self.with(|tokens, rate| {
                let debt = -tokens.level / rate;
                if debt <= 0.0 {
                    tokens.spend(bytes);
                }
                debt
            });
            if debt <= 0.0 {
                return true;
            }
            // At most a minute at a time, so that no rate makes a duration that overflows.
            if !pause(Duration::from_secs_f64(debt.min(60.0)), stop) {
                return false;
            }
        }
    }

    /// Takes `bytes` that have passed already.
    fn charge(&self, bytes: usize) {
        self.with(|tokens, _| tokens.spend(bytes));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Tokens, f64) -> T) -> T {
        let mut tokens = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = monotonic();
        let gained = now.saturating_duration_since(tokens.at).as_secs_f64() * self.rate;
        tokens.level = (tokens.level + gained).min(self.rate);
        tokens.at = now;
        act(&mut tokens, self.rate)
    }
}

impl Tokens {
    #[allow(clippy::cast_precision_loss)]
    fn spend(&mut self, bytes: usize) {
        self.level -= bytes as f64;
    }
}

/// A counting semaphore that looks at a [`Stop`].
struct Places {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Places {
    fn new(places: usize) -> Places {
        Places { free: Mutex::new(places.max(1)), freed: Condvar::new() }
    }

    fn enter(&self, stop: &Stop) -> Option<Place<'_>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            if stop.is_raised() {
                return None;
            }
            let waited = self.freed.wait_timeout(free, SLICE);
            free = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *free -= 1;
        Some(Place(self))
    }
}

/// A place taken, given back when dropped.
struct Place<'a>(&'a Places);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bucket is asked what it would wait for, so that the test need not wait.
    #[test]
    fn a_full_bucket_lets_one_object_pass_and_the_next_waits_for_the_debt() {
        let bucket = Bucket::new(1);
        let stop = Stop::new();
        assert!(bucket.take(1_000_000_000, &stop), "nothing is owed, so it passes at once");
        let debt = bucket.with(|tokens, _| -tokens.level);
        assert!(debt > 900_000_000.0, "{debt} bytes owed");
        stop.raise();
        assert!(!bucket.take(1, &stop), "a raised flag ends the wait for the debt");
    }

    #[test]
    fn a_place_is_given_back_and_a_wait_for_one_can_be_stopped() {
        let (places, stop) = (Places::new(1), Stop::new());
        let first = places.enter(&stop);
        assert!(first.is_some());
        drop(first);
        let second = places.enter(&stop);
        assert!(second.is_some());
        stop.raise();
        assert!(places.enter(&stop).is_none());
    }
}
