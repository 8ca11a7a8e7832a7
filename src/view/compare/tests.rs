//! Comparisons against a model that looks at everything.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::base::UnixTime;
use crate::view::testing::{Cut, Sample, TestLibrary};

/// Nodes of two entries, so that a few names make a deep tree.
const SMALL: Cut = Cut { leaf: 2, inner: 2, extents: 1024, links_inline: 256 };

fn dir_of(library: &TestLibrary, tree: &Sample, cut: Cut) -> ChunkId {
    let info = library.publish_cut("s", UnixTime::new(1, 0), tree, cut);
    info.refs[info.snapshot.root.subtree.unwrap().node as usize]
}

/// Every name in a tree, by its path.
pub(crate) fn flat(tree: &Sample) -> BTreeMap<Vec<u8>, &Sample> {
    fn walk<'s>(dir: &'s Sample, path: &[u8], all: &mut BTreeMap<Vec<u8>, &'s Sample>) {
        for (name, sample) in &dir.children {
            let mut path = path.to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            walk(sample, &path, all);
            all.insert(path, sample);
        }
    }
    let mut all = BTreeMap::new();
    walk(tree, b"", &mut all);
    all
}

/// What somebody who looks at it sees.
pub(crate) fn seen(sample: &Sample) -> impl PartialEq + std::fmt::Debug + use<> {
    let mtime = (sample.kind != FileKind::Dir).then_some(sample.mtime);
    let bytes = (sample.kind == FileKind::File).then(|| sample.bytes());
    (sample.kind as u8, sample.mode, sample.owner, mtime, bytes, sample.target.clone())
}

/// Paths that differ, and on which sides they are.
fn expected(before: &Sample, after: &Sample) -> Vec<(Vec<u8>, bool, bool)> {
    let (before, after) = (flat(before), flat(after));
    let mut all = Vec::new();
    for (path, old) in &before {
        match after.get(path) {
            None => all.push((path.clone(), true, false)),
            Some(new) if seen(old) != seen(new) => all.push((path.clone(), true, true)),
            Some(_) => {}
        }
    }
    let new = after.keys().filter(|path| !before.contains_key(*path));
    all.extend(new.map(|path| (path.clone(), false, true)));
    all.sort();
    all
}

fn found(library: &TestLibrary, before: ChunkId, after: ChunkId) -> Vec<(Vec<u8>, bool, bool)> {
    let mut all = Vec::new();
    compare(library, Some(before), Some(after), |difference| -> Result<Go> {
        let sides = (difference.before.is_some(), difference.after.is_some());
        if sides != (true, true) || !difference.aspects.is_empty() {
            all.push((difference.path.to_vec(), sides.0, sides.1));
        }
        Ok(Go::Into)
    })
    .unwrap();
    all.sort();
    all
}

pub(crate) fn tree() -> impl Strategy<Value = Sample> {
    let leaf = prop_oneof![
        (0_u8..3, 0_u32..2).prop_map(|(byte, mode)| {
            let mut file = Sample::file(vec![byte; usize::from(byte)]);
            file.mode = 0o600 + mode;
            file
        }),
        Just(Sample::symlink("there")),
        (0_u32..2).prop_map(|uid| Sample { owner: (uid, 0), ..Sample::file("same") }),
    ];
    let inner = leaf.prop_recursive(3, 40, 6, |below| {
        proptest::collection::btree_map("[a-f]", below, 0..6).prop_map(Sample::dir)
    });
    proptest::collection::btree_map("[a-f]", inner, 0..6).prop_map(Sample::dir)
}

proptest! {
    #[test]
    fn what_differs_is_found_and_nothing_else(before in tree(), after in tree()) {
        let library = TestLibrary::new();
        let (one, other) = (dir_of(&library, &before, SMALL), dir_of(&library, &after, SMALL));
        prop_assert_eq!(found(&library, one, other), expected(&before, &after));
        prop_assert_eq!(found(&library, one, one), vec![]);
    }
}

/// In byte order of the paths' names, each directory before what is below it.
#[test]
fn paths_come_in_the_order_of_a_walk() {
    let library = TestLibrary::new();
    let file = || Sample::file("x");
    let tree = Sample::dir([
        ("a", Sample::dir([("x", file()), ("y", file())])),
        ("a.b", file()),
        ("b", file()),
    ]);
    let (none, all) = (Sample::dir::<&str>([]), tree);
    let (none, all) = (dir_of(&library, &none, SMALL), dir_of(&library, &all, SMALL));
    let mut paths = Vec::new();
    compare(library.as_ref(), Some(none), Some(all), |difference| -> Result<Go> {
        paths.push(String::from_utf8(difference.path.to_vec()).unwrap());
        Ok(if difference.path == b"a" { Go::Into } else { Go::Over })
    })
    .unwrap();
    assert_eq!(paths, ["a", "a/x", "a/y", "a.b", "b"]);
}

/// A change in one of a thousand directories costs the nodes on the way to it.
#[test]
fn what_is_equal_is_not_looked_into() {
    let library = TestLibrary::new();
    let tree = |changed: &str| {
        let dir = |n: usize| {
            let text = if n == 500 { changed } else { "same" };
            (
                format!("{n:04}"),
                Sample::dir([("file", Sample::file(text)), ("g", Sample::file(""))]),
            )
        };
        Sample::dir((0..1000).map(dir))
    };
    let cut = Cut { leaf: 10, inner: 10, ..SMALL };
    let (one, other) =
        (dir_of(&library, &tree("before"), cut), dir_of(&library, &tree("after"), cut));
    let before = library.node_loads.load(Ordering::Relaxed);
    assert_eq!(found(&library, one, other), [(b"0500/file".to_vec(), true, true)]);
    let loads = library.node_loads.load(Ordering::Relaxed) - before;
    // Three levels of ten and the directory itself, each looked at twice at most on each side.
    assert!(loads <= 20, "{loads} nodes");
}

#[test]
fn a_lost_node_is_an_error() {
    let library = TestLibrary::new();
    let one = dir_of(&library, &Sample::dir([("a", Sample::file("x"))]), SMALL);
    let error = compare(library.as_ref(), Some(one), Some(ChunkId([9; 32])), |_| Ok(Go::Into));
    assert!(matches!(error, Err(Error::ChunkMissing { .. })), "{error:?}");
}
