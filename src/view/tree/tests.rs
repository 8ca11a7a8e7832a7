use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::base::{Kind, UnixTime};
use crate::view::testing::{Cut, Sample, TestLibrary};

/// What a walk in order says: every path with what it is, by rank.
fn model(sample: &Sample) -> Vec<(Vec<u8>, Sample)> {
    fn walk(path: &[u8], sample: &Sample, all: &mut Vec<(Vec<u8>, Sample)>) {
        all.push((path.to_vec(), sample.clone()));
        for (name, child) in &sample.children {
            let mut below = path.to_vec();
            if !path.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name);
            walk(&below, child, all);
        }
    }
    let mut all = Vec::new();
    walk(b"", sample, &mut all);
    all
}

fn tree_of(library: &Arc<TestLibrary>, root: &Sample, cut: Cut) -> Tree {
    let info = library.publish_cut("s", UnixTime::new(1, 0), root, cut);
    Tree::new(Arc::clone(library) as _, info, Arc::new(Places::default()))
}

fn samples() -> impl Strategy<Value = Sample> {
    let leaf = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..100).prop_map(Sample::file),
        (0..4u64).prop_map(|link| Sample::file(vec![7; link as usize * 50]).linked(link)),
        Just(Sample::symlink("elsewhere")),
    ];
    let names = proptest::collection::vec(1..=255u8, 1..4)
        .prop_filter("a name", |n| !n.contains(&b'/') && n != b"." && n != b"..");
    let tree = leaf.prop_recursive(4, 200, 12, move |inner| {
        proptest::collection::btree_map(names.clone(), inner, 0..12).prop_map(Sample::dir)
    });
    tree.prop_map(|sample| match sample.kind {
        FileKind::Dir => sample,
        _ => Sample::dir([("only", sample)]),
    })
}

fn cuts() -> impl Strategy<Value = Cut> {
    (1..5usize, 2..4usize, 0..6usize).prop_map(|(leaf, inner, links_inline)| Cut {
        leaf,
        inner,
        links_inline,
        ..Cut::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Every way to an entry leads to the one that a walk in order finds there.
    #[test]
    fn ranks_names_and_listings_agree_with_a_walk(root in samples(), cut in cuts()) {
        let library = TestLibrary::new();
        let tree = tree_of(&library, &root, cut);
        let all = model(&root);
        let mut first_of = std::collections::HashMap::new();
        for (rank, (_, sample)) in all.iter().enumerate() {
            if let Some(link) = sample.link {
                first_of.entry(link).or_insert((rank as u64, 0u64)).1 += 1;
            }
        }
        // Once with every node fetched anew, once from what was remembered.
        for _ in 0..2 {
            for (rank, (path, sample)) in all.iter().enumerate() {
                let rank = rank as u64;
                let found = tree.entry(rank, Reach::Store).unwrap().unwrap();
                prop_assert_eq!((found.rank, found.entry().kind), (rank, sample.kind));
                prop_assert_eq!(found.entry().size, sample.size());
                prop_assert_eq!(&tree.path(rank, Reach::Store).unwrap(), path);
                let identity = tree.identity(&found, Reach::Store).unwrap();
                let expected = match sample.link {
                    Some(link) => first_of[&link],
                    None if sample.kind == FileKind::Dir => {
                        let dirs = sample.children.values().filter(|c| c.kind == FileKind::Dir);
                        (rank, 2 + dirs.count() as u64)
                    }
                    None => (rank, 1),
                };
                prop_assert_eq!((identity.rank, identity.links), expected);
                if sample.kind != FileKind::Dir {
                    prop_assert!(matches!(tree.lookup(rank, b"x", Reach::Store), Err(Error::NotADirectory)));
                    continue;
                }
                let listed: Vec<_> =
                    tree.list(rank, 0, Reach::Store).unwrap().map(|l| l.unwrap()).collect();
                prop_assert_eq!(listed.len(), sample.children.len());
                for (n, ((name, _), listed)) in sample.children.iter().zip(&listed).enumerate() {
                    prop_assert_eq!(listed.ordinal, n as u64);
                    prop_assert_eq!(listed.found.entry().name.as_slice(), name.as_slice());
                    let looked = tree.lookup(rank, name, Reach::Store).unwrap().unwrap();
                    prop_assert_eq!(looked.rank, listed.found.rank);
                    prop_assert_eq!(&all[looked.rank as usize].0[path.len()..]
                        .strip_prefix(b"/").unwrap_or(&all[looked.rank as usize].0), &name.as_slice());
                    let rest = tree.list(rank, n as u64, Reach::Store).unwrap().next();
                    prop_assert_eq!(rest.unwrap().unwrap().found.rank, looked.rank);
                    if looked.is_dir() {
                        prop_assert_eq!(tree.parent(looked.rank, Reach::Store).unwrap(), rank);
                    }
                    let mut absent = name.clone();
                    absent.push(0xff);
                    if !sample.children.contains_key(&absent) {
                        prop_assert!(tree.lookup(rank, &absent, Reach::Store).unwrap().is_none());
                    }
                }
            }
        }
        prop_assert!(tree.entry(all.len() as u64, Reach::Store).unwrap().is_none());
    }

    /// A tree that contradicts itself is refused; nothing panics or goes on for ever.
    #[test]
    fn a_tree_with_wrong_counts_never_panics(root in samples(), cut in cuts(), by in 1..50u64, at in any::<prop::sample::Index>()) {
        let library = TestLibrary::new();
        let tree = tree_of(&library, &root, cut);
        let all = model(&root);
        let dirs: Vec<u64> = (0..all.len() as u64).filter(|r| all[*r as usize].1.kind == FileKind::Dir).collect();
        let found = tree.entry(dirs[at.index(dirs.len())], Reach::Store).unwrap().unwrap();
        let Some(node) = Tree::first_node(&found) else { return Ok(()) };
        library.replace(node, |node| match node {
            Node::Inner(children) => children[0].entries += by,
            Node::Leaf(leaf) => { leaf.entries.pop(); }
            _ => {}
        });
        let fresh = Tree::new(Arc::clone(&library) as _, Arc::clone(tree.info()), Arc::default());
        for rank in 0..all.len() as u64 + by {
            let _ = fresh.entry(rank, Reach::Store);
            if let Ok(listing) = fresh.list(rank, 0, Reach::Store) {
                for listed in listing.take(1000) {
                    if let Err(error) = listed {
                        prop_assert_eq!(error.kind(), Kind::Damaged);
                        break;
                    }
                }
            }
        }
        let listed = fresh.list(found.rank, 0, Reach::Store);
        prop_assert!(listed.and_then(|mut l| l.find_map(Result::err).map_or(Ok(()), Err)).is_err());
    }
}

/// An event loop must not wait: what was not fetched is reported, and after it was
/// fetched it is there.
#[test]
fn nothing_waits_that_may_not() {
    let library = TestLibrary::new();
    let root = Sample::dir([("a", Sample::dir([("b", Sample::file("x"))]))]);
    let tree = tree_of(&library, &root, Cut::default());
    assert!(matches!(tree.lookup(0, b"a", Reach::Memory), Err(Error::WouldBlock)));
    assert!(matches!(tree.entry(2, Reach::Memory), Err(Error::WouldBlock)));
    assert_eq!(library.node_loads.load(Ordering::Relaxed), 0);
    let file = tree.entry(2, Reach::Store).unwrap().unwrap();
    assert_eq!(file.content().size(), 1);
    assert_eq!(tree.lookup(0, b"a", Reach::Memory).unwrap().unwrap().rank, 1);
    assert_eq!(tree.lookup(1, b"b", Reach::Memory).unwrap().unwrap().rank, 2);
    assert_eq!(library.node_loads.load(Ordering::Relaxed), 2);
}

/// A table of links that points elsewhere would show the bytes of another file.
#[test]
fn a_wrong_table_of_links_is_an_error() {
    use crate::format::fact::Links;
    let library = TestLibrary::new();
    let root = Sample::dir([
        ("a", Sample::file("one")),
        ("b", Sample::file("two").linked(9)),
        ("c", Sample::file("two").linked(9)),
    ]);
    let tree = tree_of(&library, &root, Cut::default());
    let mut info = tree.info().as_ref().clone();
    if let Links::Inline(groups) = &mut info.snapshot.links {
        groups[0].first = 1;
    }
    let tree = Tree::new(Arc::clone(&library) as _, Arc::new(info), Arc::default());
    let found = tree.lookup(0, b"c", Reach::Store).unwrap().unwrap();
    assert_eq!(tree.identity(&found, Reach::Store).unwrap_err().kind(), Kind::Damaged);
}

#[test]
fn a_large_directory_is_listed_by_pages() {
    let library = TestLibrary::new();
    let files = (0..20_000).map(|n| (format!("f{n:06}"), Sample::file("")));
    let root = Sample::dir(files);
    let cut = Cut { leaf: 100, inner: 10, ..Cut::default() };
    let tree = tree_of(&library, &root, cut);
    let mut listing = tree.list(0, 19_990, Reach::Store).unwrap();
    assert_eq!(listing.next().unwrap().unwrap().found.entry().name.as_slice(), b"f019990");
    assert_eq!(listing.count(), 9);
    // 200 leaves, 20, 2 and 1 inner nodes: one way down.
    assert_eq!(library.node_loads.load(Ordering::Relaxed), 4);
}
