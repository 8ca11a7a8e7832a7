//! States of streams: whatever is published, every state reads as it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use asof::base::{Clock, SnapshotId};
use asof::format::fact::{Fact, Forget, Revoke};
use asof::ops::follow::{Change, Data, Publisher};
use asof::ops::moments::{Between, Listed, each_moment};
use asof::repo::keyring;
use asof::repo::keys::Credential;
use asof::repo::log::{Chain, EncodedFact};
use asof::repo::streams::state_id;
use asof::store::MemoryStore;
use asof::store::local::LocalStore;
use proptest::prelude::*;

use crate::fixture::{PASSPHRASE, TestRepo};
use crate::followed::{Model, PAGE, STREAM, assert_state, files, publish_image, publisher, seen};
use crate::reader::{python, read_asof};

#[derive(Debug, Clone)]
enum Act {
    Commit(u32, Vec<u32>),
    Segment,
    Image,
    /// Look at a state while there are others to come.
    Look(u32),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1_u32..12, prop::collection::vec(0_u32..12, 0..5)).prop_map(|(s, p)| Act::Commit(s, p)),
        2 => Just(Act::Segment),
        1 => Just(Act::Image),
        1 => any::<u32>().prop_map(Act::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever transactions there are, however they lie in segments and between images:
    /// each state that was published reads as it was, for who looked before and for who
    /// did not.
    #[test]
    fn every_published_state_reads_as_it_was(
        pages in 1_u32..9,
        acts in prop::collection::vec(act(), 1..40),
        window in (any::<u64>(), 0_usize..2000),
    ) {
        let mut model = Model::new(pages);
        let library = model.elsewhere();
        for act in acts {
            match act {
                Act::Commit(size, pages) => model.commit(size, &pages),
                Act::Segment => model.segment(),
                Act::Image => {
                    model.segment();
                    model.image();
                }
                Act::Look(which) => {
                    let position = u64::from(which) % (model.published + 1);
                    library.refresh().unwrap();
                    let expected = &model.states[position as usize];
                    assert_state(library.as_ref(), position, expected, window);
                }
            }
        }
        library.refresh().unwrap();
        for library in [library, model.elsewhere()] {
            for (position, expected) in (0..=model.published).zip(&model.states) {
                assert_state(library.as_ref(), position, expected, window);
            }
            prop_assert!(files(library.as_ref(), model.published + 1).is_none());
        }
    }
}

fn forget(repo: &TestRepo, id: SnapshotId) {
    let fact = Fact::Forget(Forget { snapshots: vec![id], reason: None });
    Chain::default().publish(&repo.open(), vec![EncodedFact::of(&fact)], None).unwrap();
}

/// What lies behind a hole is not shown: it would be made of the wrong pages.
#[test]
fn nothing_is_shown_that_a_missing_segment_leads_to() {
    let mut model = Model::new(4);
    for _ in 0..3 {
        model.commit(4, &[1]);
        model.segment();
    }
    let second = segments(&model.repo)[&1];
    let library = model.elsewhere();
    assert!(files(library.as_ref(), 3).is_some());
    forget(&model.repo, second);
    library.refresh().unwrap();
    for library in [library, model.elsewhere()] {
        assert_state(library.as_ref(), 1, &model.states[1], (0, 100));
        assert!(files(library.as_ref(), 2).is_none());
        assert!(files(library.as_ref(), 3).is_none());
    }
    // The next image makes what follows whole again.
    model.image();
    model.commit(5, &[2]);
    model.segment();
    let library = model.elsewhere();
    assert_state(library.as_ref(), 3, &model.states[3], (0, 100));
    assert_state(library.as_ref(), 4, &model.states[4], (0, 100));
    assert!(files(library.as_ref(), 2).is_none());
}

/// What a stranger may ask for is not there, and no error.
#[test]
fn an_id_of_nobody_is_no_state() {
    let model = Model::new(2);
    let library = model.elsewhere();
    let nobody = SnapshotId([7; 16]);
    assert!(library.snapshot(&nobody).unwrap().is_none());
    assert!(library.snapshot(&state_id("shop", &STREAM, u64::MAX)).unwrap().is_none());
    assert!(library.snapshot(&state_id("shop", &STREAM, 0)).unwrap().is_some());
}

/// What a thief claims of positions: one page, and that page false.
fn lie(publisher: &mut Publisher, after: u64, upto: u64) {
    let change = |position| Change {
        position,
        at: seen(position),
        within: 1,
        size: 1,
        page_bytes: PAGE as u32,
        numbers: vec![1],
        data: Data::Held(vec![0xee; PAGE]),
    };
    let changes: Vec<Change> = (after + 1..=upto).map(change).collect();
    publisher.segment(STREAM, after, &changes).unwrap();
}

fn listed(repo: &TestRepo) -> Vec<(u64, u64)> {
    let mut states = Vec::new();
    each_moment(&repo.open(), "shop", Between::default(), |listed| {
        let Listed::State { position, size, at, .. } = listed else { panic!("{listed:?}") };
        assert_eq!(*at, seen(*position));
        states.push((*position, *size));
        Ok::<(), asof::ops::Error>(())
    })
    .unwrap();
    states
}

/// Whoever has stolen a key of a source can put states behind what is there; what the store
/// received before he came stays as it was, for everybody. With a key of another source he
/// can do nothing to this one.
#[test]
fn a_stolen_key_replaces_no_state() {
    let store = MemoryStore::new();
    let now = Clock::system().now();
    let receive_at = |seconds| {
        let at = now.plus(std::time::Duration::from_secs(seconds));
        store.set_clock(Clock::from_fn(move || at));
    };
    receive_at(0);
    let mut model = Model::on(Arc::new(store.clone()), 4);
    for (second, transactions) in [(1, 3), (2, 1), (3, 2), (4, 3)] {
        receive_at(second);
        for number in 0..transactions {
            model.commit(4 + number, &[number]);
        }
        model.segment();
        if second == 2 {
            model.image();
        }
    }
    let truth: Vec<(u64, u64)> =
        (0..).zip(&model.states).map(|(position, state)| (position, state.len() as u64)).collect();
    assert_eq!(listed(&model.repo), truth);

    let key_for = |source: &str| {
        let sources = Some(vec![source.to_owned()]);
        keyring::export_writer(&model.repo.open(), source, sources, false).unwrap()
    };
    receive_at(5);
    let (shop, web) = (key_for("shop"), key_for("web"));
    let stolen = shop.key.id();
    let machine = TestRepo::from_elsewhere(Arc::new(store.clone()));
    receive_at(6);
    for (file, source) in [(web, "web"), (shop, "shop")] {
        let open = machine.open_with(Credential::Writer(Box::new(file))).unwrap();
        let mut thief = publisher(&open, source);
        let false_image = [0xee; PAGE];
        // To each state, and beyond the last.
        for position in 0..=9 {
            publish_image(&mut thief, position, &false_image);
            lie(&mut thief, position, position + 2);
        }
        lie(&mut thief, 0, 20);
        let library = model.elsewhere();
        for (position, expected) in (0..).zip(&model.states) {
            assert_state(library.as_ref(), position, expected, (0, 100));
            let found = library.state_at("shop", seen(position)).unwrap().unwrap();
            assert_eq!(found.id, state_id("shop", &STREAM, position));
            assert_eq!(found.taken, seen(position));
        }
        let all = listed(&model.repo);
        assert_eq!(all[..truth.len()], truth);
        // Of the source that the key was for he shows what he likes behind the end.
        assert_eq!(all.len() > truth.len(), source == "shop");
    }

    // What the machine publishes afterwards is true once the key is revoked.
    receive_at(7);
    model.commit(6, &[1, 5]);
    model.segment();
    let from = now.plus(std::time::Duration::from_secs(6));
    let fact = Fact::Revoke(Revoke { writer: stolen, from });
    Chain::default().publish(&model.repo.open(), vec![EncodedFact::of(&fact)], None).unwrap();
    let library = model.elsewhere();
    for (position, expected) in (0..).zip(&model.states) {
        assert_state(library.as_ref(), position, expected, (0, 100));
    }
    assert_eq!(listed(&model.repo).len(), model.states.len());
}

/// The ids of the segments in line, in order, each by the position that it begins at.
fn segments(repo: &TestRepo) -> BTreeMap<u64, SnapshotId> {
    let mut ids = BTreeMap::new();
    let open = repo.open();
    let each = |row: asof::index::SegmentRow| {
        let Ok((_, Fact::Segment(segment))) = Fact::decode(&row.fact) else { panic!() };
        ids.insert(segment.after, segment.id);
        Ok::<(), asof::index::Error>(())
    };
    open.index().each_in_line(("shop", &STREAM), (0, u64::MAX), each).unwrap();
    ids
}

/// The independent reader lists and reads the same states as this program, each as it was.
#[test]
fn every_state_is_read_by_the_document_alone() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::create(&dir.path().join("store")).unwrap();
    let mut model = Model::on(Arc::new(store), 4);
    // More pages than a chunk holds; the file cut off, and grown without writing it all.
    model.commit(3000, &(0..2500).collect::<Vec<_>>());
    model.commit(2, &[1]);
    model.segment();
    model.commit(7, &[6]);
    model.commit(7, &[]);
    // Published again with one more change, as if the reply had been lost.
    let again = model.waiting.clone();
    model.segment();
    model.commit(6, &[0, 5]);
    model.waiting.splice(0..0, again);
    model.published = 2;
    model.segment();
    model.image();
    model.commit(9, &[3]);
    model.segment();
    model.commit(9, &[4]);
    model.segment();
    model.commit(3, &[2]);
    model.segment();
    model.image();
    model.commit(5, &[1]);
    model.segment();
    // A hole, after which the next image goes on. (Of the segments that overlap either may
    // have been received first.)
    forget(&model.repo, segments(&model.repo)[&6]);

    let read = |args: &[&str]| {
        let output = read_asof(&python, dir.path(), args, PASSPHRASE);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "read-asof {args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    let mut rows = Vec::new();
    let mut positions = Vec::new();
    each_moment(&model.repo.open(), "shop", Between::default(), |listed| {
        if let Listed::State { at, position, size, .. } = listed {
            let time = asof::view::instant_name(*at).replace('-', ":").replacen(':', "-", 2);
            rows.push(format!("shop {} {position} {time} {size}", hex::encode(STREAM.0)));
            positions.push((*position, time));
        }
        Ok::<(), asof::ops::Error>(())
    })
    .unwrap();
    assert_eq!(read(&["states", "store"]).lines().collect::<Vec<_>>(), rows);
    assert_eq!(positions.len(), model.states.len() - 1, "{rows:?}");
    let library = model.elsewhere();
    for (position, time) in positions {
        let expected = &model.states[position as usize];
        assert_state(library.as_ref(), position, expected, (0, 100));
        let whole = format!("{}:{position}", hex::encode(&STREAM.0[..4]));
        for (when, name) in [(&time, "by-time"), (&whole, "by-position")] {
            read(&["state", "store", "shop", when, name]);
            let path = dir.path().join(name);
            assert!(std::fs::read(&path).unwrap() == *expected, "state {position} {name}");
            std::fs::remove_file(path).unwrap();
        }
    }
}
