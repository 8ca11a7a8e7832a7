//! Histories against a model that keeps whole copies.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::base::UnixTime;
use crate::view::compare::tests::{seen, tree};
use crate::view::testing::{Cut, Sample, TestLibrary};

fn at<'s>(tree: &'s Sample, path: &str) -> Option<&'s Sample> {
    let mut here = tree;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        here = here.children.get(name.as_bytes())?;
    }
    Some(here)
}

/// Every path in the trees, and some that never are.
fn paths(trees: &[Sample]) -> BTreeSet<String> {
    fn walk(dir: &Sample, path: &str, all: &mut BTreeSet<String>) {
        all.insert(path.to_owned());
        for (name, sample) in &dir.children {
            let name = std::str::from_utf8(name).unwrap();
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            walk(sample, &path, all);
        }
    }
    let mut all = BTreeSet::from(["never".to_owned(), "a/never".to_owned()]);
    trees.iter().for_each(|tree| walk(tree, "", &mut all));
    all
}

fn published(trees: &[Sample]) -> (Arc<TestLibrary>, Vec<Arc<SnapshotInfo>>) {
    let library = TestLibrary::new();
    let cut = Cut { leaf: 2, inner: 2, ..Cut::default() };
    let publish = |(n, tree)| library.publish_cut("s", UnixTime::new(n, 0), tree, cut);
    let infos = (0..).zip(trees).map(publish).collect();
    (library, infos)
}

proptest! {
    #[test]
    fn versions_are_what_whole_copies_say(trees in proptest::collection::vec(tree(), 1..8)) {
        let (library, infos) = published(&trees);
        for path in paths(&trees) {
            let mut expected: Vec<(i64, i64, Option<_>)> = Vec::new();
            for (n, tree) in (0..).zip(&trees) {
                let state = at(tree, &path).map(seen);
                match expected.last_mut() {
                    Some(last) if last.2 == state => last.1 = n,
                    None if state.is_none() => {}
                    _ => expected.push((n, n, state)),
                }
            }
            let (found, _) = versions(library.as_ref(), &infos, path.as_bytes()).unwrap();
            let span = |version: &Version| {
                let seconds = |info: &SnapshotInfo| info.snapshot.taken.seconds;
                let (first, last) = (seconds(&version.first), seconds(&version.last));
                prop_assert_eq!(version.snapshots, u64::try_from(last - first + 1).unwrap());
                Ok((first, last, version.state.is_some()))
            };
            let found = found.iter().map(span).collect::<std::result::Result<Vec<_>, _>>()?;
            let expected: Vec<_> = expected.iter().map(|e| (e.0, e.1, e.2.is_some())).collect();
            prop_assert_eq!(found, expected, "{}", path);
        }
    }

    #[test]
    fn names_are_all_that_ever_were(trees in proptest::collection::vec(tree(), 1..8)) {
        let (library, infos) = published(&trees);
        for path in paths(&trees) {
            let mut expected = BTreeMap::new();
            for (n, tree) in (0_i64..).zip(&trees) {
                for name in at(tree, &path).map(|dir| dir.children.keys()).into_iter().flatten() {
                    expected.entry(name.clone()).or_insert((n, n)).1 = n;
                }
            }
            let (_, course) = versions(library.as_ref(), &infos, path.as_bytes()).unwrap();
            let found = names(library.as_ref(), &infos, &course, usize::MAX).unwrap();
            let seconds = |info: &SnapshotInfo| info.snapshot.taken.seconds;
            let newest = seconds(infos.last().unwrap());
            let bare = names(library.as_ref(), &infos, &course, 0).unwrap();
            prop_assert!(bare.keys().eq(found.keys()));
            for (name, seen) in &found {
                prop_assert_eq!(seen.is_present, seconds(&seen.last) == newest, "{:?}", name);
                let few = &bare[name];
                prop_assert!(few.past.is_none());
                let what = |seen: &NameSeen| (seen.kind, seconds(&seen.first), seconds(&seen.last));
                prop_assert_eq!(what(seen), what(few));
                // All at once is the same as one by one.
                let below = [path.as_bytes(), b"/", name].concat();
                let (alone, own) = versions(library.as_ref(), &infos, &below).unwrap();
                let (together, course) = seen.past.as_ref().unwrap();
                prop_assert_eq!(format!("{alone:?}"), format!("{together:?}"));
                prop_assert_eq!(&own, course);
            }
            let found: BTreeMap<_, _> = found
                .into_iter()
                .map(|(name, seen)| (name, (seconds(&seen.first), seconds(&seen.last))))
                .collect();
            prop_assert_eq!(found, expected, "{}", path);
        }
    }
}

/// Snapshots in which nothing near the path changed cost no node but their roots.
#[test]
fn what_did_not_change_is_not_looked_at() {
    let tree = |n: usize| {
        let deep = Sample::dir([("b", Sample::dir([("c", Sample::file("same"))]))]);
        Sample::dir([("a", deep), ("z", Sample::file(format!("{n}")))])
    };
    let trees: Vec<Sample> = (0..100).map(tree).collect();
    let (library, infos) = published(&trees);
    let loads = || library.node_loads.load(std::sync::atomic::Ordering::Relaxed);
    let before = loads();
    let (found, _) = versions(library.as_ref(), &infos, b"a/b/c").unwrap();
    assert_eq!((found.len(), found[0].snapshots), (1, 100));
    // The root of each, and two directories once.
    assert_eq!(loads() - before, 102);
}
