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
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => tree().prop_map(|tree| Event::Publish(tree, 100)),
        1 => (tree(), 0_usize..100).prop_map(|(tree, at)| Event::Publish(tree, at)),
        2 => (0_usize..100).prop_map(Event::Forget),
        2 => Just(Event::Search),
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
    fn what_was_begun_is_gone_on_with(before in tree(), after in tree(), places in 0_usize..1000) {
        let mut world = World::new();
        world.publish(&before, 100);
        world.found(&Criteria::default());
        let info = world.publish(&after, 100);
        // As it stands when it was stopped behind one of the paths that differ.
        let (source, known) = world.index.search_snapshots(SOURCE).unwrap();
        let now = SearchSnapshot { number: known[0].number + 1, id: info.snapshot.id, reached: None };
        let mut changes = Vec::new();
        let roots = [&world.copies[0], &world.copies[1]].map(|(_, id, _)| {
            Found::root(&world.library.snapshot(id).unwrap().unwrap()).dir()
        });
        crate::view::compare::compare(world.library.as_ref(), roots[0], roots[1], |difference| {
            if difference.is_other() {
                let path = difference.path.to_vec();
                changes.push(SearchChange { path, body: difference.after.map(gather::encode) });
            }
            Ok::<_, repo::Error>(crate::view::compare::Go::Into)
        }).unwrap();
        prop_assume!(!changes.is_empty());
        changes.truncate(places % changes.len() + 1);
        let reached = changes.last().map(|change| change.path.clone());
        let begun = SearchSnapshot { reached, ..now.clone() };
        prop_assert!(world.index.keep_search(source, None, &begun, &changes).unwrap());
        prop_assert!(!world.index.keep_search(source, None, &now, &changes).unwrap(), "overtaken");
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
