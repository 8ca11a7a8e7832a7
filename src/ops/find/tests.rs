//! Searches against a model that keeps whole copies.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::base::{RepositoryId, SnapshotId};
use crate::index::{SearchChange, SearchSnapshot};
use crate::repo::SnapshotInfo;
use crate::repo::browse::Found;
use crate::view::compare::tests::{flat, seen, tree};
use crate::view::compare::{Go, compare};
use crate::view::testing::{Cut, Sample, TestLibrary};

const SOURCE: &str = "s";
const SMALL: Cut = Cut { leaf: 2, inner: 2, extents: 1024, links_inline: 256 };

/// What happens to a repository between two searches.
#[derive(Debug, Clone)]
enum Event {
    /// A snapshot is published that was taken after so many of those that there are, in
    /// hundredths.
    Publish(Sample, usize),
    /// One of those that there are is forgotten, in hundredths.
    Forget(usize),
    /// Somebody searches.
    Search,
    /// Somebody begins to index the next snapshot and is stopped behind so many changes, in
    /// hundredths.
    Begin(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => tree().prop_map(|tree| Event::Publish(tree, 100)),
        1 => (tree(), 0_usize..100).prop_map(|(tree, at)| Event::Publish(tree, at)),
        2 => (0_usize..100).prop_map(Event::Forget),
        2 => Just(Event::Search),
        1 => (0_usize..100).prop_map(Event::Begin),
    ]
}

/// The repository, and whole copies of what is in it, in order of time.
struct World {
    library: Arc<TestLibrary>,
    copies: Vec<(i64, SnapshotId, Sample)>,
    _dir: tempfile::TempDir,
    index: Arc<Index>,
}

/// A path and when the snapshot was taken that first showed it so; the same of the last one,
/// and what came then.
type Seen = BTreeMap<(Vec<u8>, i64), (i64, End)>;

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(dir.path(), RepositoryId([1; 32])).unwrap().index;
        let (library, index) = (TestLibrary::new(), Arc::new(index));
        World { library, copies: Vec::new(), _dir: dir, index }
    }

    fn publish(&mut self, tree: &Sample, at: usize) -> Arc<SnapshotInfo> {
        let place = self.copies.len() * at / 100;
        let before = place.checked_sub(1).map_or(0, |place| self.copies[place].0);
        let taken = match self.copies.get(place) {
            Some((next, ..)) => before.midpoint(*next),
            None => before + (1 << 40),
        };
        let info = self.library.publish_cut(SOURCE, UnixTime::new(taken, 0), tree, SMALL);
        self.copies.insert(place, (taken, info.snapshot.id, tree.clone()));
        info
    }

    fn forget(&mut self, at: usize) {
        if !self.copies.is_empty() {
            let (_, id, _) = self.copies.remove(self.copies.len() * at / 100);
            self.library.forget(id);
        }
    }

    /// Indexes a part of what the next snapshot changes, as one who was stopped leaves it.
    fn begin(&self, at: usize) {
        let lines = Timelines::new(self.library.moments().unwrap().into_iter().map(Head::from));
        let line = lines.of(SOURCE);
        let known = self.index.search_source(SOURCE).unwrap();
        let (progress, stop) = (Progress::silent(), Stop::new());
        let (library, index) = (self.library.as_ref(), self.index.as_ref());
        let gatherer = Gatherer { library, index, progress: &progress, stop: &stop };
        let kept = gatherer.reconcile(known.number, known.snapshots, line).unwrap();
        let Some(head) = line.get(kept.len()) else { return };
        if kept.last().is_some_and(|last| last.reached.is_some()) {
            return;
        }
        let above = kept.last().map(|last| last.id);
        let root =
            |id: &SnapshotId| Found::root(&self.library.snapshot(id).unwrap().unwrap()).dir();
        let roots = (above.as_ref().and_then(root), root(&head.id));
        let mut changes = Vec::new();
        compare(library, roots.0, roots.1, |difference| {
            if difference.is_other() {
                let path = difference.path.to_vec();
                changes.push(SearchChange { path, body: difference.after.map(gather::encode) });
            }
            Ok::<_, repo::Error>(Go::Into)
        })
        .unwrap();
        if changes.is_empty() {
            return;
        }
        changes.truncate(changes.len() * at / 100 + 1);
        let now = SearchSnapshot { number: known.next, id: head.id, reached: None };
        let reached = changes.last().map(|change| change.path.clone());
        let begun = SearchSnapshot { reached, ..now.clone() };
        let keep = |above: Option<&SnapshotId>, now| {
            index.keep_search(known.number, above, None, now, &changes).unwrap()
        };
        assert!(!keep(Some(&SnapshotId([0xee; 16])), &begun), "beside another one");
        assert!(keep(above.as_ref(), &begun));
        assert!(!keep(above.as_ref(), &now), "overtaken");
    }

    fn search(&self) -> Search {
        let (progress, stop) = (Progress::silent(), Stop::new());
        Search::prepare(self.library.as_ref(), &self.index, &[], &progress, &stop).unwrap()
    }

    fn found(&self, criteria: &Criteria) -> Seen {
        let mut found = BTreeMap::new();
        let mut before: Option<(Vec<u8>, i64)> = None;
        let visit = |source: &str, hit: &Appearance| -> Result<(), repo::Error> {
            assert_eq!(source, SOURCE);
            let (first, last) = (hit.first.taken.seconds, hit.last.taken.seconds);
            let key = (hit.path.clone(), first);
            assert!(before.as_ref().is_none_or(|before| *before < key), "in order");
            before = Some(key.clone());
            let copy = self.copies.iter().find(|(taken, ..)| *taken == first).unwrap();
            let sample = flat(&copy.2)[&hit.path];
            assert_eq!((hit.entry.kind, hit.entry.mode), (sample.kind, sample.mode));
            assert!(hit.path.ends_with(&hit.entry.name));
            found.insert(key, (last, hit.end));
            Ok(())
        };
        let hits = self.search().find(criteria, &Stop::new(), visit).unwrap();
        assert_eq!(hits, found.len() as u64);
        found
    }

    fn expected(&self) -> Seen {
        let mut all = BTreeMap::new();
        let mut open = BTreeMap::new();
        for (taken, _, tree) in &self.copies {
            let now = flat(tree);
            let at = UnixTime::new(*taken, 0);
            open.retain(|path: &Vec<u8>, (first, state)| {
                let there = now.get(path);
                let same = there.is_some_and(|sample| seen(sample) == *state);
                if !same {
                    let end = if there.is_some() { End::Replaced(at) } else { End::Deleted(at) };
                    all.entry((path.clone(), *first)).and_modify(|run: &mut (i64, End)| {
                        run.1 = end;
                    });
                }
                same
            });
            for (path, sample) in now {
                let (first, _) = open.entry(path.clone()).or_insert_with(|| (*taken, seen(sample)));
                all.insert((path, *first), (*taken, End::Present));
            }
        }
        all
    }
}

proptest! {
    #[test]
    fn every_version_is_found_once_whatever_was_forgotten_or_came_late(
        events in proptest::collection::vec(event(), 1..14),
    ) {
        let mut world = World::new();
        for event in events {
            match event {
                Event::Publish(tree, at) => { world.publish(&tree, at); }
                Event::Forget(at) => world.forget(at),
                Event::Begin(at) => world.begin(at),
                Event::Search => prop_assert_eq!(world.found(&Criteria::default()), world.expected()),
            }
        }
        let all = world.expected();
        prop_assert_eq!(world.found(&Criteria::default()), all.clone());
        // What is below a path, and what is gone.
        let below = |path: &[u8]| path == b"a" || path.starts_with(b"a/");
        let criteria = Criteria { below: Some(b"a".to_vec()), ..Criteria::default() };
        let expected: Seen = all.clone().into_iter().filter(|((path, _), _)| below(path)).collect();
        prop_assert_eq!(world.found(&criteria), expected);
        let criteria = Criteria { deleted: true, ..Criteria::default() };
        let is_gone = |end: &End| matches!(end, End::Deleted(_));
        let expected: Seen = all.into_iter().filter(|(_, (_, end))| is_gone(end)).collect();
        prop_assert_eq!(world.found(&criteria), expected);
    }

    /// Whoever is stopped between any two changes goes on there, and whoever is overtaken
    /// takes what the other one did.
    #[test]
    fn what_was_begun_is_gone_on_with(before in tree(), after in tree(), at in 0_usize..100) {
        let mut world = World::new();
        world.publish(&before, 100);
        world.found(&Criteria::default());
        world.publish(&after, 100);
        world.begin(at);
        prop_assert_eq!(world.found(&Criteria::default()), world.expected());
    }
}

/// A search whose snapshots are known loads no node, and a further snapshot costs what is on
/// the way to its changes.
#[test]
fn only_what_is_new_is_gone_through() {
    let mut world = World::new();
    let tree = |changed: &str| {
        let dir = |n: usize| {
            let text = if n == 50 { changed } else { "same" };
            (format!("{n:03}"), Sample::dir([("file", Sample::file(text))]))
        };
        Sample::dir((0..100).map(dir))
    };
    world.publish(&tree("before"), 100);
    let loads = |world: &World| {
        let count = || world.library.node_loads.load(std::sync::atomic::Ordering::Relaxed);
        let before = count();
        world.search();
        count() - before
    };
    assert!(loads(&world) > 100);
    assert_eq!(loads(&world), 0);
    world.publish(&tree("after"), 100);
    assert!(loads(&world) < 40);
    assert_eq!(loads(&world), 0);
}

/// Whoever wishes to stop is heard, and what was done is kept.
#[test]
fn indexing_can_be_stopped() {
    let mut world = World::new();
    world.publish(&Sample::dir([("a", Sample::file("x"))]), 100);
    let stop = Stop::new();
    stop.raise();
    let progress = Progress::silent();
    let stopped = Search::prepare(world.library.as_ref(), &world.index, &[], &progress, &stop);
    let error = stopped.err().unwrap();
    assert_eq!(error.kind(), crate::base::Kind::Interrupted);
    let search = world.search();
    let never = |_: &str, _: &Appearance| -> Result<(), repo::Error> { panic!("a hit") };
    let error = search.find(&Criteria::default(), &stop, never).unwrap_err();
    assert_eq!(error.kind(), crate::base::Kind::Interrupted);
}

/// Whoever searches what another command has changed meanwhile is told, and shown nothing.
#[test]
fn a_search_that_was_overtaken_says_so() {
    let mut world = World::new();
    for text in ["1", "2"] {
        world.publish(&Sample::dir([("a", Sample::file(text))]), 100);
    }
    let early = world.search();
    world.forget(50);
    world.publish(&Sample::dir([("a", Sample::file("3"))]), 100);
    world.search();
    let never = |_: &str, _: &Appearance| -> Result<(), repo::Error> { panic!("a hit") };
    let error = early.find(&Criteria::default(), &Stop::new(), never).unwrap_err();
    assert!(matches!(error, repo::Error::SearchOvertaken { .. }), "{error}");
    assert_eq!(world.found(&Criteria::default()), world.expected());
}
