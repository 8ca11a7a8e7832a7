//! A store in memory, stricter than any real one.
//!
//! Everything above the stores is tested on it, so it is part of the library and
//! not of the tests. Where real stores are lenient it refuses: a name cannot be
//! both an object and a directory of objects (a bucket would allow it, a
//! directory would not), receipts come from a clock that the test sets, and a
//! page of a listing can be made so small that code which forgets to ask for the
//! next page fails.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::base::{Clock, Kind, UnixTime};
use crate::store::key::{self, error};
use crate::store::{Call, Listed, Page, Put, Result, Store};

const NAME: &str = "memory";

/// Objects in memory. Cloning shares them.
#[derive(Debug, Clone)]
pub struct MemoryStore(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    objects: BTreeMap<String, (Bytes, UnixTime)>,
    clock: Clock,
    page: usize,
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

impl MemoryStore {
    /// An empty store whose receipts come from the machine's clock.
    #[must_use]
    pub fn new() -> MemoryStore {
        MemoryStore::with_clock(Clock::system())
    }

    /// An empty store whose receipts come from `clock`.
    #[must_use]
    pub fn with_clock(clock: Clock) -> MemoryStore {
        let state = State { objects: BTreeMap::new(), clock, page: 1000 };
        MemoryStore(Arc::new(Mutex::new(state)))
    }

    /// Takes receipts from another clock from now on.
    pub fn set_clock(&self, clock: Clock) {
        self.state().clock = clock;
    }

    /// Sets how many objects a page of a listing holds, 1 to 1,000.
    pub fn set_page(&self, objects: usize) {
        self.state().page = objects.clamp(1, 1000);
    }

    /// Changes an object's bytes and keeps its receipt, as a broken disk might.
    ///
    /// Returns whether there is such an object.
    pub fn corrupt(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state();
        let Some((body, _)) = state.objects.get_mut(key) else {
            return false;
        };
        let mut bytes = body.to_vec();
        change(&mut bytes);
        *body = Bytes::from(bytes);
        true
    }

    /// Every name, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state().objects.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes all objects have together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state().objects.values().map(|(body, _)| body.len() as u64).sum()
    }

    /// A store of its own that begins with the same objects.
    #[must_use]
    pub fn fork(&self) -> MemoryStore {
        let state = self.state();
        let copy =
            State { objects: state.objects.clone(), clock: state.clock.clone(), page: state.page };
        MemoryStore(Arc::new(Mutex::new(copy)))
    }

    /// No update of the state can be left half done, so a panic elsewhere does not matter.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn body(&self, key: &str) -> Result<Bytes> {
        key::check(Call::Get, key, NAME)?;
        match self.state().objects.get(key) {
            Some((body, _)) => Ok(body.clone()),
            None => Err(error(Kind::NotFound, Call::Get, key, NAME, "no such object")),
        }
    }
}

impl Store for MemoryStore {
    fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        key::check(Call::Put, key, NAME)?;
        let mut state = self.state();
        if let Some((_, receipt)) = state.objects.get(key) {
            return Ok(Put::at(false, *receipt));
        }
        if let Some(taken) = state.in_the_way_of(key) {
            let wrong = format!("{taken} exists, and a directory could not hold both");
            return Err(error(Kind::Invalid, Call::Put, key, NAME, wrong));
        }
        let receipt = state.clock.now();
        // A copy, so that a slice does not keep a larger buffer alive.
        state.objects.insert(key.to_owned(), (Bytes::copy_from_slice(&body), receipt));
        Ok(Put::at(true, receipt))
    }

    fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        let body = self.body(key)?;
        match body.len() as u64 {
            size if size > limit => Err(key::too_large(key, NAME, size, limit)),
            _ => Ok(body),
        }
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        key::check_range(key, &range, NAME)?;
        let body = self.body(key)?;
        match (usize::try_from(range.start), usize::try_from(range.end)) {
            (Ok(start), Ok(end)) if end <= body.len() => Ok(body.slice(start..end)),
            _ => Err(key::too_short(key, NAME, &range, body.len() as u64)),
        }
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page> {
        key::check_prefix(prefix, NAME)?;
        let state = self.state();
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut found = state
            .objects
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix));
        let objects: Vec<Listed> = found
            .by_ref()
            .take(state.page)
            .map(|(key, (body, receipt))| Listed {
                key: key.clone(),
                size: body.len() as u64,
                receipt: *receipt,
            })
            .collect();
        let more = objects.len() == state.page && found.next().is_some();
        let at = Some(state.clock.now());
        Ok(Page { objects, more, at })
    }

    fn delete(&self, key: &str) -> Result<()> {
        key::check(Call::Delete, key, NAME)?;
        self.state().objects.remove(key);
        Ok(())
    }

    fn location(&self) -> String {
        NAME.to_owned()
    }
}

impl State {
    /// An object that makes it impossible for `key` to exist in a directory.
    fn in_the_way_of(&self, key: &str) -> Option<String> {
        let below = format!("{key}/");
        let child = self.objects.range(below.clone()..).next().map(|(key, _)| key);
        if let Some(child) = child.filter(|child| child.starts_with(&below)) {
            return Some(child.clone());
        }
        let mut parents = key.match_indices('/').map(|(at, _)| &key[..at]);
        parents.find(|parent| self.objects.contains_key(*parent)).map(str::to_owned)
    }
}
