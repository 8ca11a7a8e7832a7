//! Bundles: many records of an hour are learnt out of few objects, and nothing hangs on them.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use asof::base::Kind;
use asof::codec::hash::sha256;
use asof::codec::seal::SealKey;
use asof::format::bundle::{Bundled, decode_bundle, encode_bundle};
use asof::format::names::{self, Hour};
use asof::store::fault::Made;
use asof::store::local::LocalStore;
use asof::store::{self, Call, FaultStore, MemoryStore, Page, Put, Store};
use bytes::Bytes;

use crate::fixture::{PASSPHRASE, TestRepo, create, names_in, owner_key};
use crate::followed::Model;
use crate::reader::{python, read_asof};
use crate::world::{GRACE, World};

/// Changes that are each published by themselves, all in one hour; and the image before them.
const SINGLE: usize = 200;
const RECORDS: u64 = 201;

fn followed(encrypted: bool) -> (World, Model) {
    let world = World::new(encrypted);
    let repo = TestRepo::from_elsewhere(Arc::new(world.store.clone()));
    let open = repo.open();
    let mut model = Model::published_by(repo, &open, "shop", 4);
    model.single_segments(SINGLE);
    (world, model)
}

fn bundles(store: &MemoryStore) -> Vec<String> {
    let mut names = names_in(store, names::LOG);
    names.retain(|name| names::parse_bundle(name).is_some());
    names
}

/// What a machine finds that knew nothing yet.
struct Learnt {
    records: u64,
    problems: Vec<(String, String)>,
    /// Objects of the log that it asked for.
    asked: usize,
}

fn learn(store: &MemoryStore) -> Learnt {
    let faults = FaultStore::new(Arc::new(store.clone()));
    let repo = TestRepo::from_elsewhere(Arc::new(faults.clone()));
    let report = repo.open_with(owner_key()).unwrap().sync(false).unwrap();
    let of_log = |made: &&Made| made.call == Call::Get && made.key.starts_with(names::LOG);
    let asked = faults.made().iter().filter(of_log).count();
    Learnt { records: report.records, problems: report.problems, asked }
}

#[test]
fn who_must_learn_many_records_asks_for_few_objects() {
    for encrypted in [true, false] {
        let (world, mut model) = followed(encrypted);
        assert_eq!(bundles(&world.store), [""; 0]);
        let before = learn(&world.store);
        assert_eq!((before.records, before.asked), (RECORDS, 201));

        model.publisher.close();
        assert_eq!(bundles(&world.store).len(), 1);
        let after = learn(&world.store);
        assert_eq!((after.records, after.asked, after.problems), (RECORDS, 1, vec![]));
        model.shows(0..=model.last());

        // What came since is asked for by itself; who knows most asks for nothing else.
        model.single_segments(2);
        assert_eq!(learn(&world.store).asked, 3);
        let faults = FaultStore::new(Arc::new(world.store.clone()));
        let knowing = TestRepo::from_elsewhere(Arc::new(faults.clone()));
        knowing.open();
        model.single_segments(3);
        faults.forget_made();
        knowing.open();
        let got: Vec<Made> = faults.made().into_iter().filter(|m| m.call == Call::Get).collect();
        let records = got.iter().filter(|made| names::parse_record(&made.key).is_some());
        assert_eq!((records.count(), got.iter().any(|m| m.key.ends_with(".bundle"))), (3, false));
    }
}

/// Each hour has its own, and one is put when it is full; few records are not worth one.
#[test]
fn a_bundle_is_of_one_hour_and_of_bounded_size() {
    let (world, mut model) = followed(true);
    world.pass(3600);
    model.single_segments(1);
    let hours = |store: &MemoryStore| -> Vec<Hour> {
        bundles(store).iter().map(|name| names::parse_bundle(name).unwrap().0).collect()
    };
    let first = hours(&world.store);
    assert_eq!(first.len(), 1, "when the next hour begins");
    world.pass(3600);
    model.single_segments(1);
    assert_eq!(hours(&world.store), first, "an hour with one record");

    model.single_segments(2600);
    let full = hours(&world.store);
    assert!(full.len() > first.len(), "there is more than one bundle holds");
    for name in bundles(&world.store) {
        let size = world.store.get(&name, u64::MAX).unwrap().len();
        assert!(size < (1 << 20) + (64 << 10), "{name}: {size}");
    }
    model.publisher.close();
    let learnt = learn(&world.store);
    assert_eq!((learnt.records, learnt.problems), (RECORDS + 2602, vec![]));
    assert!(learnt.asked < 16, "{}", learnt.asked);
}

/// Whatever somebody puts in the place of a bundle, what is known in the end is the same.
#[test]
fn no_bundle_is_believed() {
    let (world, mut model) = followed(true);
    model.publisher.close();
    let name = bundles(&world.store).pop().unwrap();
    let (hour, _) = names::parse_bundle(&name).unwrap();
    let bytes = world.store.get(&name, u64::MAX).unwrap();
    let open = world.repo.open();
    let (repository, keys) = (open.config().repository, open.keys());
    let records = decode_bundle(&bytes, repository, keys.reader.as_ref()).unwrap();
    assert_eq!(records.len(), SINGLE + 1);
    let put = |world: &World, bytes: Vec<u8>| {
        let name = names::bundle(hour, &sha256(&bytes));
        world.store.delete(&bundles(&world.store)[0]).unwrap();
        world.store.put_new(&name, bytes.into()).unwrap();
        name
    };
    let sealed = |records: Vec<Bundled>| {
        encode_bundle(records, repository, keys.recipient.as_ref()).unwrap()
    };

    // Damaged: that is said, and everything is read one by one.
    let damaged = world.fork();
    assert!(damaged.store.corrupt(&name, |bytes| bytes[100] ^= 1));
    let learnt = learn(&damaged.store);
    assert_eq!((learnt.records, learnt.asked), (RECORDS, 202));
    let [(about, why)] = learnt.problems.as_slice() else { panic!("{:?}", learnt.problems) };
    assert!(*about == name && why.contains("not what its name says"), "{about}: {why}");

    // Junk under its true name, and one of another repository.
    let other = create(Arc::new(MemoryStore::new()), true).open();
    let foreign =
        encode_bundle(records.clone(), other.config().repository, keys.recipient.as_ref());
    for junk in [b"asofbun".to_vec(), b"junk".to_vec(), foreign.unwrap()] {
        let world = world.fork();
        let name = put(&world, junk);
        let learnt = learn(&world.store);
        assert_eq!((learnt.records, learnt.asked, learnt.problems.len()), (RECORDS, 202, 1));
        assert_eq!(learnt.problems[0].0, name);
    }

    // Wrong keys, and none: the records' own envelopes have the right ones.
    for key in [Some(SealKey::random()), None] {
        let world = world.fork();
        let keyed = |one: &Bundled| Bundled { key: key.clone(), ..one.clone() };
        put(&world, sealed(records.iter().map(keyed).collect()));
        let learnt = learn(&world.store);
        assert_eq!((learnt.records, learnt.problems), (RECORDS, vec![]));
    }

    // Records that are altered are others, which are not in the log.
    let altered = world.fork();
    let mut flipped = records.clone();
    flipped.iter_mut().for_each(|one| *one.bytes.last_mut().unwrap() ^= 1);
    put(&altered, sealed(flipped));
    let learnt = learn(&altered.store);
    assert_eq!((learnt.records, learnt.asked, learnt.problems), (RECORDS, 202, vec![]));

    // One that is gone from the log is not brought back.
    let without = world.fork();
    let record = names_in(&without.store, names::LOG).into_iter().nth(7).unwrap();
    assert!(names::parse_record(&record).is_some());
    without.store.delete(&record).unwrap();
    assert_eq!(learn(&without.store).records, RECORDS - 1);
}

/// The independent reader finds in them what they have, and does without one that is damaged.
#[test]
fn bundles_are_read_by_the_document_alone() {
    let Some(python) = python() else { return };
    for encrypted in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(&path).unwrap());
        let repo = create(store, encrypted);
        let open = repo.open();
        let mut model = Model::published_by(repo, &open, "shop", 4);
        model.single_segments(150);
        model.publisher.close();
        let read = || {
            let output = read_asof(&python, dir.path(), &["states", "store"], PASSPHRASE);
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            let states = String::from_utf8(output.stdout).unwrap().lines().count();
            (states, output.status.code(), errors)
        };
        assert_eq!(read(), (151, Some(0), String::new()));
        let log = fs::read_dir(path.join("log")).unwrap().map(|entry| entry.unwrap().path());
        let bundles = log.filter(|path| path.extension().is_some_and(|end| end == "bundle"));
        let bundles: Vec<PathBuf> = bundles.collect();
        assert!(!bundles.is_empty());
        for bundle in bundles {
            fs::write(bundle, "junk").unwrap();
        }
        let (states, code, errors) = read();
        assert_eq!((states, code), (151, Some(3)));
        assert!(errors.contains(".bundle: its bytes are not what its name says"), "{errors}");
    }
}

/// A store that takes no bundles, as a bucket may by its policy.
struct Refusing(MemoryStore, AtomicUsize);

impl Store for Refusing {
    fn put_new(&self, key: &str, body: Bytes) -> store::Result<Put> {
        if names::parse_bundle(key).is_none() {
            return self.0.put_new(key, body);
        }
        self.1.fetch_add(1, Ordering::SeqCst);
        let (kind, call) = (Kind::Denied, Call::Put);
        let (key, store) = (key.to_owned(), self.location());
        Err(store::Error { kind, call, key, store, source: "no bundles".into() })
    }

    fn get(&self, key: &str, limit: u64) -> store::Result<Bytes> {
        self.0.get(key, limit)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> store::Result<Bytes> {
        self.0.get_range(key, range)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> store::Result<Page> {
        self.0.list(prefix, after)
    }

    fn delete(&self, key: &str) -> store::Result<()> {
        self.0.delete(key)
    }

    fn location(&self) -> String {
        self.0.location()
    }
}

#[test]
fn where_none_can_be_put_everything_is_published_all_the_same() {
    let world = World::new(true);
    let store = Arc::new(Refusing(world.store.clone(), AtomicUsize::new(0)));
    let repo = TestRepo::from_elsewhere(Arc::clone(&store) as Arc<dyn Store>);
    let open = repo.open();
    let mut model = Model::published_by(repo, &open, "shop", 4);
    for _ in 0..3 {
        model.single_segments(70);
        world.pass(3600);
    }
    model.publisher.close();
    assert_eq!(store.1.load(Ordering::SeqCst), 1, "it is tried once");
    model.shows(0..=model.last());
}

#[test]
fn a_collection_deletes_those_of_which_the_records_are_gone() {
    let (world, mut model) = followed(true);
    model.publisher.close();
    world.gc();
    assert_eq!(bundles(&world.store).len(), 1, "their records are there");
    world.pass(GRACE);
    world.gc();
    world.pass(GRACE);
    world.gc();
    assert_eq!(bundles(&world.store), [""; 0]);
    assert!(names_in(&world.store, names::LOG).len() < 10);
    model.shows(0..=model.last());
}
