//! `history/` against a model that keeps whole copies.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::format::node::FileKind;
use crate::view::compare::tests::{flat, seen, tree};
use crate::view::testing::Cut;

const SMALL: Cut = Cut { leaf: 2, inner: 2, extents: 1024, links_inline: 256 };

fn published(trees: &[Sample]) -> Fixture {
    let library = TestLibrary::new();
    for (n, tree) in (0..).zip(trees) {
        library.publish_cut("s", time(n - 1000), tree, SMALL);
    }
    over(library)
}

/// What a path's directory lists: names that ever were there, and versions, each with the
/// number of the snapshot that first has it. The n-th of a thousand is of so many seconds
/// before noon.
pub(crate) fn expected(
    trees: &[Sample],
    path: &str,
) -> (BTreeSet<String>, BTreeMap<String, usize>) {
    let all: Vec<_> = trees.iter().map(flat).collect();
    let below = |key: &Vec<u8>| {
        let key = std::str::from_utf8(key).unwrap();
        let name = if path.is_empty() { key } else { key.strip_prefix(path)?.strip_prefix('/')? };
        (!name.contains('/')).then(|| name.to_owned())
    };
    let names = all.iter().flat_map(|tree| tree.keys().filter_map(below)).collect();
    let mut versions = BTreeMap::new();
    let mut before = None;
    for (n, tree) in all.iter().enumerate() {
        let now = tree.get(path.as_bytes());
        let state = now.map(|sample| seen(sample));
        if let Some(sample) = now
            && state != before
            && sample.kind != FileKind::Dir
        {
            let at = time(i64::try_from(n).unwrap() - 1000);
            let name = path.rsplit('/').next().unwrap_or_default();
            let extension = name.rsplit_once('.').map(|(_, end)| format!(".{end}"));
            versions.insert(format!("{}{}", instant_name(at), extension.unwrap_or_default()), n);
        }
        before = state;
    }
    (names, versions)
}

/// A tree in which some names have an extension.
pub(crate) fn named_tree() -> impl Strategy<Value = Sample> {
    fn rename(sample: Sample) -> Sample {
        let children = sample.children.into_iter().map(|(mut name, child)| {
            if name == b"e" {
                name.extend(b".txt");
            }
            (name, rename(child))
        });
        Sample { children: children.collect(), ..sample }
    }
    tree().prop_map(rename)
}

proptest! {
    #[test]
    fn every_name_and_every_version_is_there_once(
        trees in proptest::collection::vec(named_tree(), 1..7),
    ) {
        let f = published(&trees);
        let mut paths: BTreeSet<String> = trees.iter().flat_map(|tree| flat(tree).into_keys())
            .map(|path| String::from_utf8(path).unwrap()).collect();
        paths.insert(String::new());
        let mut numbers = BTreeMap::new();
        for path in &paths {
            let dir = if path.is_empty() { "history/s".to_owned() } else { format!("history/s/{path}") };
            let (names, versions) = expected(&trees, path);
            let mut listed = f.names(&dir);
            // Versions come last, the newest at the end.
            let shown = listed.split_off(names.len());
            prop_assert_eq!(shown, versions.keys().cloned().collect::<Vec<_>>(), "{}", path);
            listed.sort();
            prop_assert_eq!(listed, names.into_iter().collect::<Vec<_>>(), "{}", path);
            let ino = f.ino(&dir);
            prop_assert_eq!(numbers.insert(ino, path.clone()), None);
            let above = path.rsplit_once('/').map_or("history/s".to_owned(), |(above, _)| format!("history/s/{above}"));
            if !path.is_empty() {
                prop_assert_eq!(f.namespace.parent(ino, Reach::Store).unwrap(), f.ino(&above));
            }
            for (name, n) in versions {
                let item = f.look(&format!("{dir}/{name}")).unwrap().item.unwrap();
                let Item::Entry { found, .. } = &item else { panic!("{item:?}") };
                let sample = flat(&trees[n])[path.as_bytes()];
                prop_assert_eq!(found.entry().mode, sample.mode);
                prop_assert_eq!(found.entry().size, sample.size());
                prop_assert_eq!(found.entry().mtime, sample.mtime);
                let at = instant_name(time(i64::try_from(n).unwrap() - 1000));
                prop_assert_eq!(item.ino(), f.ino(&format!("snapshots/s/{at}/{path}")));
            }
        }
    }

    /// Attributes say from when to when a file was as the snapshot has it.
    #[test]
    fn each_file_knows_when_it_was_seen(trees in proptest::collection::vec(tree(), 1..6)) {
        let f = published(&trees);
        let all: Vec<_> = trees.iter().map(flat).collect();
        let at = |n: usize| time(i64::try_from(n).unwrap() - 1000);
        for (n, tree) in all.iter().enumerate() {
            for (path, sample) in tree {
                let same = |other: &usize| all[*other].get(path).is_some_and(|o| seen(o) == seen(sample));
                let first = (0..=n).rev().take_while(same).last().unwrap();
                let last = (n..all.len()).take_while(same).last().unwrap();
                let path = std::str::from_utf8(path).unwrap();
                let ino = f.ino(&format!("snapshots/s/{}/{path}", instant_name(at(n))));
                let told = |name: &str| f.namespace.attribute(ino, name.as_bytes(), Reach::Store);
                if matches!(sample.kind, FileKind::File | FileKind::Dir) {
                    prop_assert_eq!(told("user.asof.first-seen").unwrap(), at(first).to_string().into_bytes());
                    prop_assert_eq!(told("user.asof.last-seen").unwrap(), at(last).to_string().into_bytes());
                    prop_assert_eq!(told("user.asof.writer").unwrap(), hex::encode([7; 32]).into_bytes());
                } else {
                    prop_assert!(told("user.asof.first-seen").is_err());
                }
            }
        }
    }
}

fn file(text: &str) -> Sample {
    Sample::file(text)
}

/// A path keeps its number when something is published, and shows the new version.
#[test]
fn a_path_keeps_its_number() {
    let first = Sample::dir([("dir", Sample::dir([("a.tar.gz", file("1"))]))]);
    let f = published(&[first]);
    let (dir, path) = (f.ino("history/s/dir"), f.ino("history/s/dir/a.tar.gz"));
    assert_eq!(f.names("history/s/dir/a.tar.gz"), ["2026-11-20T11-43-20.000000000Z.gz"]);
    let second = Sample::dir([("dir", Sample::dir([("a.tar.gz", file("2")), ("b", file("3"))]))]);
    f.library.publish("s", time(-10), &second);
    let changes = f.namespace.refresh().unwrap().unwrap();
    assert!(changes.inodes.contains(&HISTORY) && changes.inodes.contains(&f.ino("history/s")));
    assert_eq!((f.ino("history/s/dir"), f.ino("history/s/dir/a.tar.gz")), (dir, path));
    assert_eq!(
        f.names("history/s/dir/a.tar.gz"),
        ["2026-11-20T11-43-20.000000000Z.gz", "2026-11-20T11-59-50.000000000Z.gz"]
    );
    let mut names = f.names("history/s/dir");
    names.sort();
    assert_eq!(names, ["a.tar.gz", "b"]);
    // A directory that is held open under its number shows what is new, too.
    let item = |ino| f.namespace.item(ino, Reach::Store).unwrap();
    assert!(matches!(item(dir), Item::Dir { mtime, .. } if mtime == time(-10)));
}

/// What was a file and became a directory shows both, and a name that a version has keeps it.
#[test]
fn what_was_a_file_and_a_directory_shows_both() {
    let at = |n: i64| instant_name(time(n - 1000));
    let taken = at(0);
    let f = published(&[
        Sample::dir([("x", file("1"))]),
        Sample::dir([(
            "x",
            Sample::dir([(taken.as_bytes(), file("in the way")), (b"y", file("y"))]),
        )]),
        Sample::dir([("x", file("3"))]),
        Sample::dir::<&str>([]),
        Sample::dir([("x", file("3"))]),
    ]);
    let names = f.names("history/s/x");
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(names[..2].contains(&taken) && names[..2].contains(&"y".to_owned()));
    // It came back as it was: a version of its own.
    assert_eq!(names[3..], [at(2), at(4)]);
    assert!(names[2].starts_with(&format!("{taken}~")), "{names:?}");
    assert_eq!(f.names(&format!("history/s/x/{taken}")), [format!("{}.000000000Z", at(1))]);
    let version = f.look(&format!("history/s/x/{}", names[2])).unwrap().item.unwrap();
    assert_eq!(version.ino(), f.ino(&format!("snapshots/s/{}/x", at(0))));
    for none in ["never", "y/never", "x/never", &format!("x/{}", at(3))] {
        assert!(
            f.look(&format!("history/s/{none}")).is_none_or(|looked| looked.item.is_none()),
            "{none}"
        );
    }
}

/// Who may not wait is told so, and not answered from what is not there.
#[test]
fn nothing_is_worked_out_by_who_may_not_wait() {
    let f = published(&[Sample::dir([("x", file("1"))]), Sample::dir([("x", file("2"))])]);
    let dir = f.ino("history/s/x");
    f.namespace.refresh().unwrap();
    let list = |reach| {
        let mut names = 0;
        f.namespace
            .list(dir, 0, reach, &mut |_| {
                names += 1;
                false
            })
            .map(|()| names)
    };
    assert!(matches!(list(Reach::Memory), Err(Error::WouldBlock)));
    assert_eq!(list(Reach::Store).unwrap(), 2);
    assert_eq!(list(Reach::Memory).unwrap(), 2);
}

/// Names of one file have a number together, and each a time of its own: none is told.
#[test]
fn a_file_of_several_names_has_no_time_of_its_own() {
    let linked = || file("1").linked(7);
    let f = published(&[
        Sample::dir([("a", linked()), ("alone", file("2"))]),
        Sample::dir([("a", linked()), ("alone", file("2")), ("b", linked())]),
    ]);
    let at = instant_name(time(-999));
    let told = |path: &str, name: &str| {
        let ino = f.ino(&format!("snapshots/s/{at}/{path}"));
        f.namespace.attribute(ino, name.as_bytes(), Reach::Store).is_ok()
    };
    assert!(told("alone", "user.asof.first-seen") && told("alone", "user.asof.last-seen"));
    for path in ["a", "b"] {
        assert!(!told(path, "user.asof.first-seen") && !told(path, "user.asof.last-seen"));
        assert!(told(path, "user.asof.sha256") && told(path, "user.asof.writer"));
    }
}
