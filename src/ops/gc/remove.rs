//! Deleting objects, several at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::{PackId, Stop};
use crate::format::names;
use crate::ops::Result;
use crate::repo::{self, Repository};

/// Deletes packs. One that is gone already counts as deleted.
///
/// # Errors
///
/// The first failure; what was deleted by then is.
pub(super) fn packs(
    repo: &Repository,
    ids: &[PackId],
    at_a_time: usize,
    stop: &Stop,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<repo::Error>> = Mutex::new(None);
    let fail = |error| {
        let mut failure = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        failure.get_or_insert(error);
    };
    std::thread::scope(|scope| {
        for _ in 0..at_a_time.clamp(1, ids.len().max(1)) {
            scope.spawn(|| {
                while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if stop.is_raised() {
                        return fail(repo::Error::Interrupted);
                    }
                    if let Err(error) = repo.store().delete(&names::pack(*id)) {
                        return fail(error.into());
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}
