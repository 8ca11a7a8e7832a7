//! Fetches under way: of each thing there is one at a time, and whoever else wants it waits.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What is on its way, by key.
pub(super) struct Flights<K: Copy + Eq + Hash>(Mutex<HashMap<K, Arc<Flight>>>);

/// Something on its way.
#[derive(Default)]
pub(super) struct Flight {
    landed: Mutex<bool>,
    changed: Condvar,
}

/// Ends a flight when it is dropped, however the fetch ended.
pub(super) struct Landing<'a, K: Copy + Eq + Hash> {
    flights: &'a Flights<K>,
    key: K,
}

/// The right to claim: while somebody has it, no flight begins or ends.
pub(super) struct Claims<'a, K: Copy + Eq + Hash> {
    flights: &'a Flights<K>,
    all: MutexGuard<'a, HashMap<K, Arc<Flight>>>,
}

impl<K: Copy + Eq + Hash> Default for Flights<K> {
    fn default() -> Flights<K> {
        Flights(Mutex::default())
    }
}

impl<K: Copy + Eq + Hash> Flights<K> {
    /// Whether something is on its way.
    pub(super) fn has(&self, key: &K) -> bool {
        lock(&self.0).contains_key(key)
    }

    /// Waits for the right to claim, which nobody keeps for long. A [`Landing`] that is dropped
    /// while its thread has that right waits for ever.
    pub(super) fn lock(&self) -> Claims<'_, K> {
        Claims { flights: self, all: lock(&self.0) }
    }
}

impl<'a, K: Copy + Eq + Hash> Claims<'a, K> {
    /// Claims a fetch, or says who has it.
    pub(super) fn take_off(&mut self, key: K) -> Result<Landing<'a, K>, Arc<Flight>> {
        if let Some(flight) = self.all.get(&key) {
            return Err(Arc::clone(flight));
        }
        self.all.insert(key, Arc::default());
        Ok(Landing { flights: self.flights, key })
    }
}

impl<K: Copy + Eq + Hash> Drop for Landing<'_, K> {
    fn drop(&mut self) {
        let flight = lock(&self.flights.0).remove(&self.key);
        if let Some(flight) = flight {
            *lock(&flight.landed) = true;
            flight.changed.notify_all();
        }
    }
}

impl Flight {
    /// Returns when it has ended: what was on its way is here then, or could not be had.
    pub(super) fn wait(&self) {
        let mut landed = lock(&self.landed);
        while !*landed {
            landed = self.changed.wait(landed).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However a fetch ends, those who wait for it go on, and one of them is the next to claim.
    #[test]
    fn who_waits_goes_on_when_a_fetcher_panics() {
        let flights = Flights::<u32>::default();
        let landing = flights.lock().take_off(1).ok().unwrap();
        assert!(flights.has(&1) && !flights.has(&2));
        let Err(flight) = flights.lock().take_off(1) else { panic!("it is claimed") };
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..3)
                .map(|_| {
                    let flight = Arc::clone(&flight);
                    scope.spawn(|| {
                        let flight = flight;
                        flight.wait();
                        flights.lock().take_off(1).map(std::mem::forget).is_ok()
                    })
                })
                .collect();
            let fetcher = scope.spawn(move || {
                let _landing = landing;
                std::panic::resume_unwind(Box::new("a fetcher that dies"));
            });
            assert!(fetcher.join().is_err());
            let claimed = waiters.into_iter().map(|waiter| waiter.join().unwrap());
            assert_eq!(claimed.filter(|claimed| *claimed).count(), 1);
        });
    }
}
