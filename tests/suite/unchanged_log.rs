//! Listings that are left out because the store says that its log is as it was.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use asof::format::names;
use asof::store::{self, Mark, MemoryStore, Page, Put, Store};
use bytes::Bytes;

use crate::fixture::{TestRepo, create, names_in};
use crate::world::tree;

/// A store that counts what comes and goes in its log, and who lists it.
#[derive(Clone, Default)]
struct Marking {
    inner: MemoryStore,
    changes: Arc<AtomicU64>,
    lists: Arc<AtomicU64>,
}

impl Marking {
    fn changed(&self, key: &str) {
        if key.starts_with(names::LOG) {
            self.changes.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What some other machine does to the store.
    fn put(&self, key: &str) {
        self.put_new(key, Bytes::from_static(b"junk")).unwrap();
    }

    /// How often the log is listed while something is done.
    fn lists<T>(&self, act: impl FnOnce() -> T) -> (u64, T) {
        let before = self.lists.load(Ordering::SeqCst);
        let done = act();
        (self.lists.load(Ordering::SeqCst) - before, done)
    }
}

impl Store for Marking {
    fn put_new(&self, key: &str, body: Bytes) -> store::Result<Put> {
        let put = self.inner.put_new(key, body)?;
        self.changed(key);
        Ok(put)
    }

    fn get(&self, key: &str, limit: u64) -> store::Result<Bytes> {
        self.inner.get(key, limit)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> store::Result<Bytes> {
        self.inner.get_range(key, range)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> store::Result<Page> {
        if prefix == names::LOG {
            self.lists.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.list(prefix, after)
    }

    fn mark(&self, directory: &str) -> Option<Mark> {
        assert_eq!(directory, names::LOG);
        let at = self.inner.list("no-such/", None).ok()?.at?;
        let mut names = [0; 32];
        names[..8].copy_from_slice(&self.changes.load(Ordering::SeqCst).to_be_bytes());
        Some(Mark { names, at })
    }

    fn delete(&self, key: &str) -> store::Result<()> {
        self.inner.delete(key)?;
        self.changed(key);
        Ok(())
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}

/// A store with two snapshots, and a machine that knows them.
fn known() -> (Marking, TestRepo) {
    let store = Marking::default();
    let repo = create(Arc::new(store.clone()), true);
    let tree = tree(&[("a", 1)]);
    repo.backup("s", tree.path());
    repo.backup("s", tree.path());
    repo.open();
    (store, repo)
}

#[test]
fn what_is_known_is_not_listed_again() {
    let (store, repo) = known();
    let open = repo.open();
    let (lists, report) = store.lists(|| open.sync(false).unwrap());
    assert_eq!(lists, 0);
    assert!(report.at.is_some(), "what is known is known as of now");
    assert_eq!(report.problems, []);
    // Another process of this machine has the same index.
    assert_eq!(store.lists(|| repo.open()).0, 0);
    assert_eq!(repo.open().snapshots().unwrap().len(), 2);
    // Whoever wants all of it gets all of it.
    assert_eq!(store.lists(|| open.sync(true).unwrap()).0, 1);
    assert_eq!(store.lists(|| open.rebuild().unwrap()).0, 1);
    assert_eq!(open.snapshots().unwrap().len(), 2);
}

#[test]
fn what_another_machine_publishes_is_found_at_once() {
    let (store, repo) = known();
    let elsewhere = TestRepo::from_elsewhere(Arc::new(store.clone()));
    let tree = tree(&[("a", 3)]);
    for number in 3..6 {
        elsewhere.backup("other", tree.path());
        let open = repo.open();
        assert_eq!(open.snapshots().unwrap().len(), number);
        assert_eq!(store.lists(|| open.sync(false).unwrap()).0, 0);
    }
}

#[test]
fn a_record_that_is_gone_is_missed() {
    let (store, repo) = known();
    let newest = names_in(&store.inner, names::LOG).pop().unwrap();
    store.delete(&newest).unwrap();
    for _ in 0..2 {
        let report = repo.open_with(crate::fixture::owner_key()).unwrap().sync(false).unwrap();
        assert_eq!(report.lost.as_ref(), Some(&newest), "and at every listing again");
    }
}

#[test]
fn a_log_with_which_something_is_wrong_is_listed_each_time() {
    let (store, repo) = known();
    store.put("log/junk");
    for _ in 0..2 {
        let open = repo.open_with(crate::fixture::owner_key()).unwrap();
        let (lists, report) = store.lists(|| open.sync(false).unwrap());
        assert_eq!(lists, 1);
        assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    }
}

/// A listing that began late says nothing of what is before it.
#[test]
fn a_listing_that_would_begin_earlier_is_made() {
    let (store, repo) = known();
    let open = repo.open();
    // As if the listing that the mark is of had begun at the end of time.
    let mark = store.mark(names::LOG).unwrap();
    let late = [&mark.names[..], b"log/9999"].concat();
    open.index().set_meta("log-mark", &late).unwrap();
    assert_eq!(store.lists(|| open.sync(false).unwrap()).0, 1);
    assert_eq!(store.lists(|| open.sync(false).unwrap()).0, 0);
}
