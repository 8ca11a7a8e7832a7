//! What names of times show, against a model that keeps whole copies.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::format::node::FileKind;
use crate::view::testing::model::{Seen, Walked, World, instant, steps};

/// Everything in a directory of a snapshot.
fn walk(f: &Fixture, root: u64) -> Walked {
    let mut all = Walked::new();
    let mut open = vec![(Vec::new(), f.namespace.item(root, Reach::Store).unwrap())];
    while let Some((path, item)) = open.pop() {
        let Item::Entry { ino, found, .. } = item else { panic!("{item:?}") };
        let entry = found.entry();
        if found.is_dir() {
            f.namespace
                .list(ino, 0, Reach::Store, &mut |row| {
                    let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                    open.push(([&path, slash, row.name].concat(), row.item));
                    false
                })
                .unwrap();
        }
        let bytes = match entry.kind {
            FileKind::File => {
                f.library.read(&found.content(), 0, entry.size.try_into().unwrap()).unwrap().into()
            }
            _ => entry.target.as_ref().map(|target| target.to_vec()).unwrap_or_default(),
        };
        let owner = found.owner().map(|owner| (owner.uid, owner.gid)).unwrap();
        let (kind, mode, mtime) = (entry.kind, entry.mode, entry.mtime);
        all.insert(path, Seen { kind, mode, owner, mtime, bytes });
    }
    all
}

/// Everything in the directory of an instant, with what is found by each name.
fn walk_instant(f: &Fixture, instant: u64) -> BTreeMap<String, Walked> {
    let mut all = BTreeMap::new();
    let show = &mut |row: Row<'_>| {
        let name = String::from_utf8(row.name.to_vec()).unwrap();
        assert_eq!(all.insert(name, row.item.ino()), None);
        false
    };
    f.namespace.list(instant, 0, Reach::Store, show).unwrap();
    for source in World::sources() {
        let looked = f.namespace.lookup(instant, source.as_bytes(), Reach::Store).unwrap();
        assert_eq!(looked.item.map(|item| item.ino()), all.get(source).copied());
    }
    all.into_iter().map(|(name, ino)| (name, walk(f, ino))).collect()
}

/// The directory that a name in a directory of times means, through a link or not.
fn directory(f: &Fixture, dir: &str, name: &str) -> Option<u64> {
    match f.look(&format!("{dir}/{name}"))?.item? {
        Item::Link { target, .. } => {
            let item = f.look(&format!("{dir}/{target}")).unwrap().item.unwrap();
            assert!(!matches!(item, Item::Link { .. }), "{name} leads to a link, {target}");
            Some(item.ino())
        }
        item => Some(item.ino()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// At every time, after every snapshot; and what was entered before is as it was.
    #[test]
    fn names_of_times_show_what_whole_copies_say(
        steps in steps(24), times in proptest::collection::vec(instant(), 1..5), start in 0_usize..24,
    ) {
        let mut world = World::new();
        let (before, steps) = steps.split_at(start.min(steps.len()));
        for step in before {
            world.go(step);
        }
        let f = over(Arc::clone(&world.library));
        let mut entered = BTreeMap::new();
        // The first question of all is for the newest.
        let never = UnixTime::new(i64::MAX, 0);
        if let Some(latest) = f.target("latest") {
            let latest = f.ino(&latest);
            prop_assert_eq!(&walk_instant(&f, latest), &world.at(never));
            entered.insert(latest, world.at(never));
        }
        for step in steps {
            if !world.go(step) {
                continue;
            }
            f.namespace.refresh().unwrap();
            for at in &times {
                let expected = world.at(*at);
                let found = directory(&f, "at", &instant_name(*at));
                prop_assert_eq!(found, directory(&f, "at", &at.to_seconds()));
                let Some(found) = found else {
                    prop_assert!(expected.is_empty(), "{}", at);
                    continue;
                };
                prop_assert_eq!(&walk_instant(&f, found), &expected, "{}", at);
                let before = entered.insert(found, expected.clone());
                prop_assert!(before.is_none_or(|before| before == expected));
            }
            for (ino, shown) in &entered {
                prop_assert_eq!(&walk_instant(&f, *ino), shown);
            }
        }
        for source in World::sources() {
            for before in &times {
                for after in &times {
                    let name = format!("{}..{}", instant_name(*before), after.to_seconds());
                    let pair = directory(&f, &format!("changes/{source}"), &name);
                    let sides = pair.map(|pair| {
                        ["before", "after"].map(|side| {
                            let side = f.namespace.lookup(pair, side.as_bytes(), Reach::Store);
                            walk(&f, side.unwrap().item.unwrap().ino())
                        })
                    });
                    prop_assert_eq!(sides, world.changes(source, *before, *after), "{}", name);
                }
            }
        }
    }
}
