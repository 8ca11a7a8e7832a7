//! What a writer stands on without storing it, and how long that holds.
//!
//! A chunk that a snapshot needs is known to be there by *evidence*: its pack stood
//! uncondemned in a listing, or was received, at some time of the store's clock; or a
//! snapshot of one's own that has it was received then. What collectors do takes so
//! long that evidence holds for the grace period less twice the skew. So every record
//! has a deadline, which follows from the oldest evidence that anything of the run
//! stands on. A long run renews its evidence before it grows old.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::{PackId, SnapshotId, UnixTime};
use crate::index::Evidence;
use crate::repo::{Repository, Result};

/// A snapshot of one's own that is built on without looking at its chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Baseline {
    /// Which one.
    pub snapshot: SnapshotId,
    /// When the store received it. Seconds since 1970.
    pub receipt: i64,
}

/// What one run stands on. Memory: the id of each older pack that has a chunk of it.
pub(crate) struct Standing {
    lasts: i64,
    since: i64,
    baseline: Option<Baseline>,
    state: Mutex<State>,
}

struct State {
    /// The oldest evidence. Seconds since 1970.
    oldest: i64,
    /// When it was last tried to make it newer.
    renewed: i64,
    packs: HashSet<PackId>,
}

/// From which receipt on evidence is worth standing on, so that an eighth of its time
/// at least is left. Seconds since 1970.
#[must_use]
pub fn evidence_since(repo: &Repository) -> i64 {
    if !repo.rules().evidence_expires {
        return i64::MIN;
    }
    let lasts = repo.evidence_lasts();
    repo.store_now().seconds.saturating_sub(lasts - lasts / 8)
}

impl Standing {
    pub(crate) fn new(repo: &Repository, baseline: Option<Baseline>) -> Standing {
        let lasts = if repo.rules().evidence_expires { repo.evidence_lasts() } else { i64::MAX };
        Standing {
            lasts,
            since: evidence_since(repo),
            baseline,
            state: Mutex::new(State {
                oldest: baseline.map_or(i64::MAX, |baseline| baseline.receipt),
                renewed: i64::MIN,
                packs: HashSet::new(),
            }),
        }
    }

    /// How old evidence may be. Seconds since 1970.
    pub(crate) fn since(&self) -> i64 {
        self.since
    }

    /// Stands on something that was there at `at`.
    pub(crate) fn on(&self, at: i64) {
        let mut state = self.state();
        state.oldest = state.oldest.min(at);
    }

    /// Stands on a chunk that another run stored.
    pub(crate) fn on_evidence(&self, evidence: Evidence) {
        let mut state = self.state();
        state.packs.insert(evidence.pack);
        state.oldest = state.oldest.min(evidence.at);
    }

    /// By when a record that stands on all this must be received.
    pub(crate) fn deadline(&self, now: UnixTime) -> UnixTime {
        let oldest = self.state().oldest.min(now.seconds);
        UnixTime::new(oldest.saturating_add(self.lasts), 0)
    }

    /// Whether evidence should be renewed, now that the store's clock shows `now`. Says
    /// so again only after a while.
    pub(crate) fn is_aging(&self, now: i64) -> bool {
        let mut state = self.state();
        let old = state.oldest != i64::MAX && now.saturating_sub(state.oldest) > self.lasts / 4;
        let due = old && now.saturating_sub(state.renewed) > self.lasts / 16;
        if due {
            state.renewed = now;
        }
        due
    }

    /// The snapshot that is built on.
    pub(crate) fn baseline(&self) -> Option<Baseline> {
        self.baseline
    }

    /// From now on everything so far was there at `at`, if `still` says so of the packs of
    /// other runs that are stood on. What is stood on meanwhile waits, and keeps its own
    /// time.
    pub(crate) fn renew(
        &self,
        at: i64,
        still: impl FnOnce(&HashSet<PackId>) -> Result<bool>,
    ) -> Result<bool> {
        let mut state = self.state();
        let stands = still(&state.packs)?;
        if stands {
            state.oldest = at;
        }
        Ok(stands)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
