//! `upgrade`, and what can be done in a repository of an older version without it. The
//! repositories here are of today with an old `asof.json`; `golden` has a real one.

use std::sync::Arc;

use asof::base::{Clock, Kind};
use asof::codec::passphrase::Cost;
use asof::format::config::{Config, Parameters};
use asof::format::keyfile::Role;
use asof::format::names;
use asof::format::writerfile::WriterFile;
use asof::ops::forget::{ForgetOptions, ForgetReport, What, forget};
use asof::ops::gc::{GcOptions, set_grace};
use asof::ops::upgrade::{find, upgrade};
use asof::repo::keys::Credential;
use asof::repo::repository::read_config;
use asof::repo::{self, InitOptions, Repository, keyring};
use asof::store::{FaultStore, MemoryStore, Store};
use asof::view::{Selector, Zone};

use crate::crash::at_every_call;
use crate::fixture::{PASSPHRASE, TestRepo, backup_into, owner_key};
use crate::world::{World, collect, tree};

/// Replaces `asof.json` by one that the owner signed.
fn describe_as(store: &dyn Store, change: impl FnOnce(&mut Config)) {
    let (mut config, _) = read_config(store).unwrap();
    let keys = keyring::unlock(store, &config, PASSPHRASE).unwrap();
    change(&mut config);
    store.delete(names::CONFIG).unwrap();
    let bytes = config.issue(keys.owner().unwrap());
    store.put_new(names::CONFIG, bytes.into()).unwrap();
}

fn make_old(store: &dyn Store) {
    describe_as(store, |config| config.asof = 0);
}

fn version(store: &dyn Store) -> u8 {
    read_config(store).unwrap().0.asof
}

fn try_upgrade(store: &dyn Store, passphrase: &[u8]) -> asof::ops::Result<()> {
    upgrade(store, &find(store)?, passphrase)
}

fn forget_named(repo: &Repository, id: &str, dry_run: bool) -> asof::ops::Result<ForgetReport> {
    let options = ForgetOptions {
        what: What::Named(vec![Selector::parse(format!("id:{id}").as_ref()).unwrap()]),
        sources: Vec::new(),
        by_taken: false,
        allow_empty: true,
        with_moments: false,
        dry_run,
        reason: None,
    };
    forget(repo, &options, &Zone::utc())
}

fn open_error(repo: &TestRepo) -> repo::Error {
    let credential = owner_key();
    repo.open_with(credential).err().expect("it is refused")
}

#[test]
fn an_old_repository_takes_backups_and_is_not_collected_in() {
    let world = World::new(true);
    make_old(&world.store);
    let dir = tree(&[("a", 1)]);
    let id = world.repo.backup("s", dir.path()).snapshot.unwrap().to_string();
    world.restores("s", dir.path());
    let open = world.repo.open();
    let refused = |error: asof::ops::Error| {
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.to_string().contains("version 0: run `asof upgrade`"), "{error}");
    };
    refused(world.try_gc(&GcOptions::default()).unwrap_err());
    refused(set_grace(&open, 31 * 86_400).unwrap_err());
    refused(forget_named(&open, &id, false).unwrap_err());
    assert_eq!(forget_named(&open, &id, true).unwrap().forgotten, 1);

    assert!(find(&world.store).unwrap().is_needed());
    try_upgrade(&world.store, PASSPHRASE).unwrap();
    assert!(!find(&world.store).unwrap().is_needed());
    assert_eq!(version(&world.store), 1);
    world.restores("s", dir.path());
    let open = world.repo.open();
    world.gc();
    set_grace(&open, 31 * 86_400).unwrap();
    assert_eq!(forget_named(&open, &id, false).unwrap().forgotten, 1);
}

#[test]
fn an_upgrade_that_dies_is_finished_by_the_next() {
    let base = World::new(true);
    let dir = tree(&[("a", 1)]);
    base.repo.backup("s", dir.path());
    make_old(&base.store);
    let mut missing = 0;
    let died = at_every_call(|arm| {
        let world = base.fork();
        let faults = FaultStore::new(Arc::new(world.store.clone()));
        arm(&faults);
        let finished = try_upgrade(&faults, PASSPHRASE).is_ok();
        if world.store.keys().iter().any(|key| key == names::CONFIG) {
            world.restores("s", dir.path());
        } else {
            missing += 1;
            let error = open_error(&world.repo);
            assert!(matches!(error, repo::Error::Upgrading { .. }), "{error}");
            assert!(error.to_string().contains("run `asof upgrade` again"), "{error}");
        }
        try_upgrade(&world.store, PASSPHRASE).unwrap();
        assert_eq!(version(&world.store), 1);
        world.restores("s", dir.path());
        world.repo.backup("s", dir.path());
        collect(&world.repo, &GcOptions::default()).unwrap();
        finished
    });
    assert!(died >= 14 && missing >= 2, "{died}, {missing}");
}

/// A delete of the old `asof.json` may be executed when all is done.
#[test]
fn what_was_upgraded_and_is_gone_comes_back() {
    let world = World::new(true);
    make_old(&world.store);
    try_upgrade(&world.store, PASSPHRASE).unwrap();
    world.store.delete(names::CONFIG).unwrap();
    assert!(matches!(open_error(&world.repo), repo::Error::Upgrading { .. }));
    // Nothing else takes its place.
    let options = InitOptions {
        encrypted: true,
        parameters: Parameters::default(),
        cost: Cost::LEAST,
        label: "test".into(),
    };
    let error = repo::init(&world.store, &options, b"another", &Clock::system()).unwrap_err();
    assert!(matches!(error, repo::Error::Upgrading { .. }), "{error}");
    try_upgrade(&world.store, PASSPHRASE).unwrap();
    world.repo.open();
}

#[test]
fn only_the_owner_upgrades_and_what_was_left_over_is_replaced() {
    let world = World::new(true);
    keyring::add(&world.repo.open(), Role::Reader, "r", b"reader", Cost::LEAST).unwrap();
    make_old(&world.store);
    let before = world.store.keys();
    let kind = |passphrase| try_upgrade(&world.store, passphrase).unwrap_err().kind();
    assert_eq!(kind(b"wrong"), Kind::WrongKey);
    assert_eq!(kind(b"reader"), Kind::Denied);
    assert_eq!((world.store.keys(), version(&world.store)), (before, 0));
    for left in [vec![b'x'; 5], vec![b'x'; 100_000]] {
        world.store.delete(names::UPGRADE).unwrap();
        make_old(&world.store);
        world.store.put_new(names::UPGRADE, left.into()).unwrap();
        try_upgrade(&world.store, PASSPHRASE).unwrap();
        assert_eq!(version(&world.store), 1);
    }
    // Damaged, and there is nothing else: said, and not believed.
    world.store.delete(names::CONFIG).unwrap();
    assert!(world.store.corrupt(names::UPGRADE, |bytes| bytes.truncate(100)));
    let error = try_upgrade(&world.store, PASSPHRASE).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.to_string().contains(names::UPGRADE), "{error}");
}

/// A store that gives back something else than was put.
#[test]
fn what_the_store_does_not_keep_is_noticed_before_the_old_is_deleted() {
    let world = World::new(true);
    make_old(&world.store);
    let faults = FaultStore::new(Arc::new(world.store.clone()));
    faults.flip_next(asof::store::Call::Put, names::UPGRADE, 50);
    let error = try_upgrade(&faults, PASSPHRASE).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert_eq!(version(&world.store), 0);
    try_upgrade(&faults, PASSPHRASE).unwrap();
    assert_eq!(version(&world.store), 1);
}

#[test]
fn a_machine_goes_along_with_an_upgrade_and_with_nothing_else() {
    let world = World::new(true);
    make_old(&world.store);
    world.repo.open();
    try_upgrade(&world.store, PASSPHRASE).unwrap();
    world.repo.open();
    let says = |text: &str| {
        let error = open_error(&world.repo);
        let source = std::error::Error::source(&error).expect("it has a cause").to_string();
        assert_eq!(error.kind(), Kind::Damaged);
        assert!(source.contains(text), "{source}");
    };
    make_old(&world.store);
    says("an earlier format version");
    describe_as(&world.store, |config| {
        config.asof = 1;
        config.parameters.grace_seconds += 1;
    });
    says("not what this machine saw before");
    describe_as(&world.store, |config| config.parameters.grace_seconds -= 1);
    world.repo.open();
}

/// A writer file has `asof.json` in it, and is not made anew.
#[test]
fn writer_files_from_before_an_upgrade_go_on() {
    let store = MemoryStore::new();
    let repo = crate::fixture::create(Arc::new(store.clone()), true);
    make_old(&store);
    let file = keyring::export_writer(&repo.open(), "w", None, true).unwrap().encode();
    let dir = tree(&[("a", 1)]);
    let fresh = || TestRepo::from_elsewhere(Arc::new(store.clone()));
    let before = fresh();
    // The owner's machine has seen the new version, and has the writer file too.
    let owner = fresh();
    let write = |machine: &TestRepo, source: &str| {
        let file = WriterFile::decode(&file).unwrap();
        let writer = machine.open_with(Credential::Writer(Box::new(file))).unwrap();
        backup_into(&writer, source, &[dir.path()], &Arc::default()).unwrap();
    };
    write(&before, "before");
    try_upgrade(&store, PASSPHRASE).unwrap();
    owner.open();
    write(&before, "one");
    write(&owner, "two");
    write(&fresh(), "three");
    owner.open();
    for source in ["before", "one", "two", "three"] {
        let out = tempfile::tempdir().unwrap();
        let report = fresh().restore(source, out.path());
        assert_eq!(report.files, 1, "{source}");
    }
}
