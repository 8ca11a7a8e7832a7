//! The store's time, as far as this process has heard of it.
//!
//! Safety relies on the store's clock alone (docs/FORMAT.md, section 17). Every reply
//! that carries its time is noted here; between replies the machine's monotonic
//! clock goes on from there. Until there was one, the machine's own clock must do,
//! which serves to choose names and to guess what is still worth trying, never to
//! decide what may be deleted.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::base::pause::monotonic;
use crate::base::{Clock, UnixTime};

/// The newest time that the store told, and when that was.
#[derive(Debug, Default)]
pub struct StoreClock(Mutex<Option<(UnixTime, Instant)>>);

impl StoreClock {
    /// Notes a time that the store told just now.
    pub fn note(&self, at: UnixTime) {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.is_none_or(|(known, _)| known < at) {
            *newest = Some((at, monotonic()));
        }
    }

    /// The newest time that the store told; long ago if it told none.
    #[must_use]
    pub fn heard(&self) -> UnixTime {
        let newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        newest.map_or(UnixTime::EPOCH, |(at, _)| at)
    }

    /// What the store's clock shows now, as far as is known; else `clock`'s time.
    #[must_use]
    pub fn now(&self, clock: &Clock) -> UnixTime {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((at, heard)) => at.plus(monotonic().saturating_duration_since(heard)),
            None => clock.now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_time_of_the_store_counts_and_before_that_the_machines() {
        let clock = Clock::from_fn(|| UnixTime::new(5, 0));
        let store = StoreClock::default();
        assert_eq!(store.now(&clock), UnixTime::new(5, 0));
        assert_eq!(store.heard(), UnixTime::EPOCH);
        store.note(UnixTime::new(1_000, 0));
        assert_eq!(store.heard(), UnixTime::new(1_000, 0));
        store.note(UnixTime::new(900, 0));
        assert!(store.now(&clock) >= UnixTime::new(1_000, 0));
        assert!(store.now(&clock) < UnixTime::new(2_000, 0));
    }
}
