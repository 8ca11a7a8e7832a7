//! Fetches under way: of each thing there is one at a time, and whoever else wants it waits.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What is on its way, by key.
pub(super) struct Flights<K: Copy + Eq + Hash>(Mutex<HashMap<K, Arc<Flight>>>);

/// What one caller fetches at once.
#[derive(Default)]
pub(super) struct Flight {
    landed: Mutex<bool>,
    changed: Condvar,
}

/// Ends a flight when it is dropped, however the fetch ended: for all keys at the same moment,
/// so that whoever claims some of them next can claim the others too.
pub(super) struct Landing<'a, K: Copy + Eq + Hash> {
    flights: &'a Flights<K>,
    flight: Arc<Flight>,
    keys: Vec<K>,
}

/// The right to claim: while somebody has it, no flight begins or ends.
pub(super) struct Claims<'a, K>(MutexGuard<'a, HashMap<K, Arc<Flight>>>);

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

    /// A flight that brings nothing yet. It must not be dropped by a thread that has the right
    /// to claim, or that waits for ever.
    pub(super) fn prepare(&self) -> Landing<'_, K> {
        Landing { flights: self, flight: Arc::default(), keys: Vec::new() }
    }

    /// Waits for the right to claim, which nobody keeps for long.
    pub(super) fn claims(&self) -> Claims<'_, K> {
        Claims(lock(&self.0))
    }
}

impl<K: Copy + Eq + Hash> Claims<'_, K> {
    /// Claims something for a flight, or says which flight brings it.
    pub(super) fn claim(&mut self, key: K, own: &mut Landing<'_, K>) -> Result<(), Arc<Flight>> {
        if let Some(flight) = self.0.get(&key) {
            return Err(Arc::clone(flight));
        }
        self.0.insert(key, Arc::clone(&own.flight));
        own.keys.push(key);
        Ok(())
    }
}

impl<K: Copy + Eq + Hash> Drop for Landing<'_, K> {
    fn drop(&mut self) {
        let mut all = lock(&self.flights.0);
        for key in &self.keys {
            all.remove(key);
        }
        drop(all);
        *lock(&self.flight.landed) = true;
        self.flight.changed.notify_all();
    }
}

impl Flight {
    /// Returns when it has ended: what it brings is here then, or could not be had.
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
        let mut landing = flights.prepare();
        assert!((1..4).all(|key| flights.claims().claim(key, &mut landing).is_ok()));
        assert!(flights.has(&1) && flights.has(&3) && !flights.has(&4));
        let mut other = flights.prepare();
        let Err(flight) = flights.claims().claim(2, &mut other) else { panic!("it is claimed") };
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        flight.wait();
                        let mut own = flights.prepare();
                        let mut claims = flights.claims();
                        let claimed = (1..4).filter(|key| claims.claim(*key, &mut own).is_ok());
                        let count = claimed.count();
                        drop(claims);
                        std::mem::forget(own);
                        count
                    })
                })
                .collect();
            let fetcher = scope.spawn(move || {
                let _ends = landing;
                std::panic::resume_unwind(Box::new("a fetcher that dies"));
            });
            assert!(fetcher.join().is_err());
            let mut claimed: Vec<_> = waiters.into_iter().map(|w| w.join().unwrap()).collect();
            claimed.sort_unstable();
            assert_eq!(claimed, [0, 0, 3], "all of it, by one of them");
        });
    }
}
