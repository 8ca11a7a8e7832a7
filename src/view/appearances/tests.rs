//! Appearances against a model that keeps whole copies.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::base::UnixTime;
use crate::repo::Result;
use crate::view::compare::tests::{flat, seen, tree};
use crate::view::testing::{Cut, TestLibrary};

proptest! {
    #[test]
    fn every_version_appears_once(trees in proptest::collection::vec(tree(), 1..8), odd in any::<bool>()) {
        let library = TestLibrary::new();
        let cut = Cut { leaf: 2, inner: 2, ..Cut::default() };
        let publish = |(n, tree)| library.publish_cut("s", UnixTime::new(n, 0), tree, cut);
        let infos: Vec<_> = (0..).zip(&trees).map(publish).collect();
        // Some are not wanted, to see that those are let go.
        let wants = |path: &[u8]| !odd || path.len() % 4 == 1;
        let mut expected = BTreeMap::new();
        let mut states = BTreeMap::new();
        for (n, tree) in (0_i64..).zip(&trees) {
            let now = flat(tree);
            states.retain(|path: &Vec<u8>, _| now.contains_key(path));
            for (path, sample) in now.into_iter().filter(|(path, _)| wants(path)) {
                let first = match states.get(&path) {
                    Some((first, state)) if *state == seen(sample) => *first,
                    _ => n,
                };
                states.insert(path.clone(), (first, seen(sample)));
                expected.insert((path, first), n);
            }
        }
        let mut found = BTreeMap::new();
        appearances(
            library.as_ref(),
            &infos,
            |path, _| Ok(wants(path)),
            |appearance| -> Result<()> {
                let seconds = |info: &SnapshotInfo| info.snapshot.taken.seconds;
                let (first, last) = (seconds(&appearance.first), seconds(&appearance.last));
                let next = trees.get(usize::try_from(last + 1).unwrap()).map(flat);
                let end = match next.map(|tree| tree.contains_key(&appearance.path)) {
                    None => End::Present,
                    Some(true) => End::Replaced(UnixTime::new(last + 1, 0)),
                    Some(false) => End::Deleted(UnixTime::new(last + 1, 0)),
                };
                assert_eq!(appearance.end, end);
                assert_eq!(found.insert((appearance.path, first), last), None);
                Ok(())
            },
        )
        .unwrap();
        prop_assert_eq!(found, expected);
    }
}
