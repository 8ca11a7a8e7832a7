//! Random bytes from the operating system.
//!
//! The simulation puts a seeded source in its place, so that a run can be repeated.

use std::sync::{PoisonError, RwLock};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// Fills a buffer in the place of the operating system.
type Source = Box<dyn Fn(&mut [u8]) + Send + Sync>;

static INSTEAD: RwLock<Option<Source>> = RwLock::new(None);

/// `N` random bytes.
///
/// # Panics
///
/// If the operating system has no randomness to give; nothing safe can be done then.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    match INSTEAD.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
        Some(source) => source(&mut out),
        #[allow(clippy::expect_used)]
        None => {
            SystemRandom::new().fill(&mut out).expect("the operating system gives random bytes");
        }
    }
    out
}

/// Takes all random bytes of this process from `source`, or from the operating system
/// again. For the simulation alone: nothing is secret afterwards.
#[doc(hidden)]
pub fn replace(source: Option<Source>) {
    *INSTEAD.write().unwrap_or_else(PoisonError::into_inner) = source;
}
