//! The crash matrix: whatever store call init, forget, gc or a change of keys dies at,
//! before its effect or after it, everything still reads and the work can be finished.
//! (Backups are in `safety`.)

use std::sync::Arc;

use asof::base::{Clock, Kind};
use asof::codec::passphrase::Cost;
use asof::format::config::Parameters;
use asof::format::fact::{Fact, Forget};
use asof::format::keyfile::Role;
use asof::ops::gc::GcOptions;
use asof::ops::keys::change_passphrase;
use asof::repo::keys::Credential;
use asof::repo::log::{Chain, EncodedFact};
use asof::repo::repository::read_config;
use asof::repo::{self, keyring};
use asof::store::fault::Moment;
use asof::store::{FaultStore, MemoryStore, Store};

use crate::fixture::{PASSPHRASE, TestRepo, create, init_options};
use crate::world::{GRACE, World, collect, tree};

const MOMENTS: [Moment; 2] = [Moment::Before, Moment::After];

fn init(store: &dyn Store) -> repo::Result<()> {
    let options = init_options(true, &Parameters::default());
    repo::init(store, &options, PASSPHRASE, &Clock::system()).map(|_| ())
}

fn opens(repo: &TestRepo, passphrase: &[u8]) -> bool {
    match repo.open_with(Credential::Passphrase(passphrase.to_vec().into())) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), Kind::WrongKey, "{error}");
            false
        }
    }
}

/// Runs `work` on a store that dies at call `k` for every `k`, until it does not die.
/// Returns how often it died.
pub fn at_every_call(mut attempt: impl FnMut(&dyn Fn(&FaultStore)) -> bool) -> u64 {
    let mut died = 0;
    for moment in MOMENTS {
        let mut k = 0;
        loop {
            let finished = attempt(&|faults| {
                faults.forget_made();
                faults.die_at(k, moment);
            });
            if finished {
                break;
            }
            died += 1;
            k += 1;
            assert!(k < 500, "it never ends");
        }
    }
    died
}

#[test]
fn init_that_dies_can_be_done_again_or_was_done() {
    let died = at_every_call(|arm| {
        let memory = MemoryStore::new();
        let faults = FaultStore::new(Arc::new(memory.clone()));
        arm(&faults);
        let finished = init(&faults).is_ok();
        let repo = TestRepo::from_elsewhere(Arc::new(memory.clone()));
        match init(&memory) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), Kind::AlreadyExists, "{error}"),
        }
        assert!(opens(&repo, PASSPHRASE));
        let dir = tree(&[("a", 1)]);
        repo.backup("s", dir.path());
        finished
    });
    assert!(died >= 6, "{died}");
}

#[test]
fn a_change_of_keys_that_dies_leaves_one_that_opens() {
    let died = at_every_call(|arm| {
        let memory = MemoryStore::new();
        create(Arc::new(memory.clone()), true);
        let faults = FaultStore::new(Arc::new(memory.clone()));
        let change = |store: &dyn Store| {
            let (config, _) = read_config(&memory)?;
            change_passphrase(store, &config, PASSPHRASE, b"new", Cost::LEAST, &Clock::system())
        };
        arm(&faults);
        let finished = change(&faults).is_ok();
        let repo = TestRepo::from_elsewhere(Arc::new(memory.clone()));
        let (old, new) = (opens(&repo, PASSPHRASE), opens(&repo, b"new"));
        assert!(old || new);
        if old {
            change(&memory).unwrap();
        }
        assert!(opens(&repo, b"new") && !opens(&repo, PASSPHRASE));
        finished
    });
    assert!(died >= 6, "{died}");
}

#[test]
fn adding_and_removing_a_key_that_dies_can_be_done_again() {
    let died = at_every_call(|arm| {
        let memory = MemoryStore::new();
        let repo = create(Arc::new(memory.clone()), true);
        let faults = FaultStore::new(Arc::new(memory.clone()));
        let dying = TestRepo::from_elsewhere(Arc::new(faults.clone()));
        let open = dying.open();
        let first = keyring::list(&memory).unwrap()[0].id;
        arm(&faults);
        let finished = keyring::add(&open, Role::Owner, "two", b"two", Cost::LEAST)
            .and_then(|_| keyring::remove(&open, first))
            .is_ok();
        faults.heal();
        assert!(opens(&repo, PASSPHRASE) || opens(&repo, b"two"));
        if !opens(&repo, b"two") {
            keyring::add(&open, Role::Owner, "two", b"two", Cost::LEAST).unwrap();
        }
        keyring::remove(&open, first).unwrap();
        assert!(opens(&repo, b"two") && !opens(&repo, PASSPHRASE));
        finished
    });
    assert!(died >= 6, "{died}");
}

/// A world in which a collection has everything to do: packs that are dead, nearly dead,
/// never published, and condemned long enough.
fn much_to_collect() -> (World, Vec<(&'static str, tempfile::TempDir)>) {
    let world = World::new(true);
    let files: Vec<(String, u8)> = (0..20).map(|n| (format!("f{n:02}"), n)).collect();
    let files: Vec<(&str, u8)> = files.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    let (large, part, other) = (tree(&files), tree(&files[..2]), tree(&[("x", 90), ("y", 91)]));
    let due = world.repo.backup("due", tree(&[("z", 99)]).path());
    world.forget(due.snapshot.unwrap());
    world.pass(GRACE);
    world.gc();
    let gone = world.repo.backup("large", large.path());
    world.repo.backup("part", part.path());
    let dead = world.repo.backup("dead", tree(&[("d", 80)]).path());
    world.repo.backup("other", other.path());
    let stray = asof::format::names::pack(asof::base::PackId(asof::codec::hash::sha256(b"stray")));
    world.store.put_new(&stray, b"stray".as_slice().into()).unwrap();
    world.forget(gone.snapshot.unwrap());
    world.forget(dead.snapshot.unwrap());
    world.pass(GRACE);
    (world, vec![("part", part), ("other", other)])
}

#[test]
fn a_collection_that_dies_loses_nothing_and_the_next_finishes_it() {
    let (base, kept) = much_to_collect();
    let reference = base.fork();
    let report = reference.gc();
    assert!(report.condemned.packs >= 3 && report.deleted.packs >= 2, "{report:?}");
    assert!(report.rewritten.packs >= 1 && report.unpublished.packs == 1, "{report:?}");
    let settle = |world: &World| {
        for _ in 0..2 {
            world.pass(GRACE);
            world.gc();
        }
        for (source, tree) in &kept {
            world.restores(source, tree.path());
        }
        world.packs()
    };
    let settled = settle(&reference);
    let died = at_every_call(|arm| {
        let world = base.fork();
        let faults = FaultStore::new(Arc::new(world.store.clone()));
        let dying = TestRepo::from_elsewhere(Arc::new(faults.clone()));
        arm(&faults);
        let options = GcOptions { deletions: 1, ..GcOptions::default() };
        let finished = collect(&dying, &options).is_ok();
        faults.heal();
        for (source, tree) in &kept {
            world.restores(source, tree.path());
        }
        let report = collect(&dying, &GcOptions::default()).unwrap();
        assert!(report.failed.is_empty() && report.late.is_empty(), "{report:?}");
        let left = settle(&world);
        assert!(left <= settled + 2, "{left} packs are left, not {settled}");
        finished
    });
    assert!(died > 15, "{died}");
}

#[test]
fn forgetting_that_dies_is_done_or_can_be_done_again() {
    let base = World::new(true);
    let dir = tree(&[("a", 1)]);
    base.repo.backup("s", dir.path());
    let second = base.repo.backup("s", dir.path()).snapshot.unwrap();
    let died = at_every_call(|arm| {
        let world = base.fork();
        let faults = FaultStore::new(Arc::new(world.store.clone()));
        let dying = TestRepo::from_elsewhere(Arc::new(faults.clone()));
        let open = dying.open();
        arm(&faults);
        let fact = Fact::Forget(Forget { snapshots: vec![second], reason: None });
        let facts = || vec![EncodedFact::of(&fact)];
        let mut chain = Chain::default();
        let finished = chain.publish(&open, facts(), None).is_ok();
        faults.heal();
        world.restores("s", dir.path());
        chain.publish(&open, facts(), None).unwrap();
        open.sync(true).unwrap();
        assert_eq!(open.snapshots().unwrap().len(), 1);
        finished
    });
    assert!(died >= 2, "{died}");
}
