//! A store that makes a failed call again.
//!
//! Only failures that may pass ([`Kind::is_transient`]) are tried again: with
//! exponential backoff, and with *full* jitter (a random wait between nothing and
//! the backoff), so that a thousand machines that lost a gateway together do not
//! all come back in the same second.
//!
//! The S3 store already retries inside one call, by the SDK, which knows things
//! that cannot be seen from here: a clock that is wrong, a credential that must
//! be renewed, a server that says when to come back. It gives up within its
//! deadline of a minute or so. This wrapper is for what lasts longer: a backup of
//! hours should outlive a gateway's restart or a laptop's change of network. A
//! mount does not use it, since a reader is better told than kept waiting.
//!
//! Every call may be repeated: a write that took effect though its reply was lost
//! is found to exist. What the store says then of its time is as late as the last
//! attempt, while the object may be of the first, so the receipt is put back by what
//! has passed since, measured by a clock that counts a laptop's sleep.

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::pause::{monotonic, pause, uptime};
use crate::base::{Kind, Stop};
use crate::store::key::error;
use crate::store::{Call, Mark, Page, Put, Result, Store};

/// How often and how long a call is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How many times a call is made at most.
    pub attempts: u32,
    /// The backoff after the first failure; it doubles with each.
    pub first: Duration,
    /// The longest backoff.
    pub longest: Duration,
    /// No call is made again after this much time since the first.
    pub total: Duration,
}

impl Default for Patience {
    /// Ten attempts within five minutes.
    fn default() -> Patience {
        Patience {
            attempts: 10,
            first: Duration::from_millis(500),
            longest: Duration::from_mins(1),
            total: Duration::from_mins(5),
        }
    }
}

impl Patience {
    /// The backoff after `failures` failures, before jitter.
    fn backoff(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }
}

/// Makes calls to another store again when they fail in a way that may pass.
pub struct RetryStore {
    inner: Arc<dyn Store>,
    patience: Patience,
    stop: Stop,
}

impl RetryStore {
    /// Retries calls to `inner` until `patience` ends or `stop` is raised.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, patience: Patience, stop: Stop) -> RetryStore {
        RetryStore { inner, patience, stop }
    }

    fn retry<T>(&self, call: Call, key: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let started = monotonic();
        let mut failures = 0;
        loop {
            let failure = match attempt() {
                Err(failure) if failure.kind.is_transient() => failure,
                done => return done,
            };
            failures += 1;
            let wait = jitter(self.patience.backoff(failures));
            let spent = started.elapsed().saturating_add(wait);
            if failures >= self.patience.attempts || spent > self.patience.total {
                return Err(failure);
            }
            tracing::debug!(%call, key, failures, ?wait, cause = %failure.source, "trying again");
            if !pause(wait, &self.stop) {
                let store = self.inner.location();
                return Err(error(Kind::Interrupted, call, key, &store, "asked to stop"));
            }
        }
    }
}

/// A random part of `most`. Every `RandomState` has keys of its own, which is chance enough here.
fn jitter(most: Duration) -> Duration {
    let random = std::hash::RandomState::new().build_hasher().finish();
    let part = u32::try_from(random >> 32).unwrap_or(u32::MAX);
    most.mul_f64(f64::from(part) / f64::from(u32::MAX))
}

impl Store for RetryStore {
    fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        let (began, mut attempts) = (uptime(), 0);
        let put = self.retry(Call::Put, key, || {
            attempts += 1;
            self.inner.put_new(key, body.clone())
        })?;
        if put.created || attempts == 1 {
            return Ok(put);
        }
        let found = Put::found(put.receipt, uptime().saturating_sub(began));
        Ok(Put { latest: put.latest, ..found })
    }

    fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        self.retry(Call::Get, key, || self.inner.get(key, limit))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.retry(Call::Get, key, || self.inner.get_range(key, range.clone()))
    }

    fn get_parts(&self, key: &str, start: u64, lengths: &[usize]) -> Result<Vec<Bytes>> {
        self.retry(Call::Get, key, || self.inner.get_parts(key, start, lengths))
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page> {
        self.retry(Call::List, prefix, || self.inner.list(prefix, after))
    }

    fn mark(&self, directory: &str) -> Option<Mark> {
        self.inner.mark(directory)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.retry(Call::Delete, key, || self.inner.delete(key))
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

    #[test]
    fn backoff_doubles_up_to_its_bound_and_jitter_stays_below_it() {
        let patience = Patience::default();
        let millis: Vec<_> = (1..=9).map(|n| patience.backoff(n).as_millis()).collect();
        assert_eq!(millis, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
        assert_eq!(patience.backoff(u32::MAX), patience.longest);
        assert!((0..100).all(|_| jitter(Duration::from_secs(1)) <= Duration::from_secs(1)));
    }
}
