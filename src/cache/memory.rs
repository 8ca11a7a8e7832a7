//! A cache in memory, bounded in bytes.

use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;

/// Values by key, the least recently used dropped when their weights exceed a bound.
pub struct MemoryCache<K, V> {
    weight_max: usize,
    inner: Mutex<Inner<K, V>>,
}

/// A key, its value and its weight.
type Dropped<K, V> = (K, V, usize);

struct Inner<K, V> {
    entries: LruCache<K, (V, usize)>,
    weight: usize,
}

impl<K: Hash + Eq, V: Clone> MemoryCache<K, V> {
    /// An empty cache that holds at most `weight_max`.
    #[must_use]
    pub fn new(weight_max: usize) -> MemoryCache<K, V> {
        let inner = Inner { entries: LruCache::unbounded(), weight: 0 };
        MemoryCache { weight_max, inner: Mutex::new(inner) }
    }

    /// The value of a key, which is then the most recently used.
    pub fn get(&self, key: &K) -> Option<V> {
        self.with(|inner| inner.entries.get(key).map(|(value, _)| value.clone()))
    }

    /// Whether a key is here. That is no use of it.
    pub fn has(&self, key: &K) -> bool {
        self.with(|inner| inner.entries.contains(key))
    }

    /// Keeps a value. One heavier than the whole bound is not kept. Returns what is not kept, or
    /// no longer.
    pub fn put(&self, key: K, value: V, weight: usize) -> Vec<Dropped<K, V>> {
        if weight > self.weight_max {
            return vec![(key, value, weight)];
        }
        let mut dropped = Vec::new();
        self.with(|inner| {
            if let Some((_, old)) = inner.entries.put(key, (value, weight)) {
                inner.weight -= old;
            }
            inner.weight += weight;
            while inner.weight > self.weight_max {
                let Some((key, (value, old))) = inner.entries.pop_lru() else {
                    break;
                };
                inner.weight -= old;
                dropped.push((key, value, old));
            }
        });
        dropped
    }

    /// Forgets one value, and returns it.
    pub fn take(&self, key: &K) -> Option<V> {
        self.with(|inner| {
            let (value, weight) = inner.entries.pop(key)?;
            inner.weight -= weight;
            Some(value)
        })
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.with(|inner| {
            inner.entries.clear();
            inner.weight = 0;
        });
    }

    /// The weights of all that is held, added up.
    pub fn weight(&self) -> usize {
        self.with(|inner| inner.weight)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner<K, V>) -> T) -> T {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_within_its_bound_and_drops_the_least_recently_used() {
        let cache = MemoryCache::new(10);
        cache.put("a", 1, 4);
        cache.put("b", 2, 4);
        assert_eq!(cache.get(&"a"), Some(1));
        assert_eq!(cache.put("c", 3, 4), [("b", 2, 4)]);
        assert_eq!((cache.get(&"a"), cache.get(&"b"), cache.get(&"c")), (Some(1), None, Some(3)));
        assert_eq!(cache.put("d", 4, 11), [("d", 4, 11)]);
        assert_eq!(cache.get(&"d"), None);
        cache.put("a", 5, 1);
        assert_eq!(cache.weight(), 5);
    }
}
