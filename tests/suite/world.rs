//! A repository whose store's time a test moves, and trees for it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use asof::base::{Clock, Progress, SnapshotId, Stop, UnixTime};
use asof::format::config::Parameters;
use asof::format::fact::{Fact, Forget};
use asof::ops::gc::{GcOptions, GcReport, gc};
use asof::repo::log::{Chain, EncodedFact};
use asof::repo::{Repository, Rules};
use asof::store::MemoryStore;

use crate::fixture::{self, TestRepo, create_with, differences, names_in, owner_key};

pub const DAY: i64 = 86_400;
/// The default grace period, and more than the skew.
pub const GRACE: i64 = 30 * DAY + 2 * 3600;

/// A repository in a store whose clock the test moves.
pub struct World {
    pub store: MemoryStore,
    pub now: Arc<AtomicI64>,
    pub repo: TestRepo,
}

impl World {
    pub fn new(encrypted: bool) -> World {
        World::with(encrypted, &Parameters::default())
    }

    pub fn with(encrypted: bool, parameters: &Parameters) -> World {
        let now = Arc::new(AtomicI64::new(1_800_000_000));
        let clock = Arc::clone(&now);
        let store = MemoryStore::with_clock(Clock::from_fn(move || {
            UnixTime::new(clock.load(Ordering::SeqCst), 0)
        }));
        let repo = create_with(Arc::new(store.clone()), encrypted, parameters);
        World { store, now, repo }
    }

    pub fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn forget(&self, id: SnapshotId) {
        forget_in(&self.repo, id);
    }

    /// The same store, as if nothing that happens here from now on happened there.
    pub fn fork(&self) -> World {
        let now = Arc::new(AtomicI64::new(self.now.load(Ordering::SeqCst)));
        let store = self.store.fork();
        let clock = Arc::clone(&now);
        store.set_clock(Clock::from_fn(move || UnixTime::new(clock.load(Ordering::SeqCst), 0)));
        let repo = TestRepo::from_elsewhere(Arc::new(store.clone()));
        World { store, now, repo }
    }

    pub fn gc(&self) -> GcReport {
        self.try_gc(&GcOptions::default()).unwrap()
    }

    pub fn try_gc(&self, options: &GcOptions) -> asof::ops::Result<GcReport> {
        collect(&self.repo, options)
    }

    pub fn packs(&self) -> usize {
        names_in(&self.store, "packs/").len()
    }

    pub fn restores(&self, selector: &str, tree: &Path) {
        // A machine that knows nothing yet.
        let fresh = TestRepo::from_elsewhere(Arc::new(self.store.clone()));
        let out = tempfile::tempdir().unwrap();
        fresh.restore(selector, out.path());
        assert_eq!(differences(tree, out.path()), "");
    }
}

/// Forgets a snapshot or a segment, wherever it is.
pub fn forget_in(repo: &TestRepo, id: SnapshotId) {
    let fact = Fact::Forget(Forget { snapshots: vec![id], reason: None });
    Chain::default().publish(&repo.open(), vec![EncodedFact::of(&fact)], None).unwrap();
}

/// Collects in a repository, wherever its store is.
pub fn collect(repo: &TestRepo, options: &GcOptions) -> asof::ops::Result<GcReport> {
    collect_by(repo, options, Rules::default())
}

/// Collects by some of the rules.
pub fn collect_by(
    repo: &TestRepo,
    options: &GcOptions,
    rules: Rules,
) -> asof::ops::Result<GcReport> {
    let credential = owner_key();
    let open =
        Repository::open(Arc::clone(&repo.store), credential, &repo.local(), &Clock::system())?;
    let open = Arc::new(open.with_rules(rules));
    gc(&open, options, &Arc::new(Progress::silent()), &Stop::new())
}

/// About so many bytes that no compressor shortens.
pub fn noise(seed: u8, bytes: usize) -> Vec<u8> {
    fixture::noise(seed.into(), u32::try_from(bytes / 32).unwrap())
}

pub fn tree(files: &[(&str, u8)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, seed) in files {
        fs::write(dir.path().join(name), noise(*seed, 100_000)).unwrap();
    }
    dir
}
