//! What a machine learns from a checkpoint, and from the records beside it.

use super::*;

#[test]
fn a_machine_that_sees_only_the_checkpoint_restores_everything() {
    for encrypted in [true, false] {
        let world = world(encrypted);
        let dir = backups(&world, 7);
        let open = world.repo.open();
        assert_eq!(world.compact(&open, 8).unwrap(), Compacted::default(), "too few");
        let done = world.compact(&open, 7).unwrap();
        assert_eq!((done.records, done.checkpoints, done.published), (7, 0, true));
        assert_eq!(world.compact(&open, 1).unwrap(), Compacted::default(), "nothing is new");
        // Nothing is deleted before the grace period has passed.
        world.pass(GRACE);
        assert_eq!(world.drop(&open, false).objects, 0);
        world.pass(2 * SKEW + 1);
        assert_eq!(world.drop(&open, false).objects, 7);
        assert_eq!(world.drop(&open, false).objects, 0);
        assert_eq!(world.log().len(), 1);
        for fresh in [world.fresh(), world.repo] {
            assert_eq!(fresh.library().snapshots().unwrap().len(), 7);
            assert_eq!(chain_gaps(&fresh.open()).unwrap(), []);
            restores_to(&fresh, "s", dir.path());
        }
    }
}

/// Of what a checkpoint covers, a machine that is new fetches nothing, though it is
/// still there; and one that knows the records does not read the checkpoint's nodes.
#[test]
fn nothing_is_fetched_twice() {
    let world = world(true);
    backups(&world, 40);
    let knows = world.fresh();
    knows.open();
    world.compact(&world.repo.open(), 1).unwrap();
    let gets = |machine: &TestRepo| {
        let faults = FaultStore::new(Arc::clone(&machine.store));
        let machine = TestRepo { store: Arc::new(faults.clone()), cache: copy_of(&machine.cache) };
        machine.open();
        let made = faults.made();
        let of = |prefix: &str| {
            made.iter().filter(|m| m.call == Call::Get && m.key.starts_with(prefix)).count()
        };
        (of("log/"), of("packs/"))
    };
    assert_eq!(world.log().len(), 41);
    assert_eq!(gets(&world.fresh()), (1, 1), "the checkpoint and its one node");
    assert_eq!(gets(&knows), (1, 0));
}

fn copy_of(cache: &tempfile::TempDir) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            let to = to.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => copy(&entry.path(), &to),
                false => drop(fs::copy(entry.path(), to).unwrap()),
            }
        }
    }
    let made = tempfile::tempdir().unwrap();
    copy(cache.path(), made.path());
    made
}

/// A record that a machine listed last is not missed once a checkpoint carries it.
#[test]
fn what_was_merged_is_not_taken_for_lost() {
    let world = world(false);
    let dir = backups(&world, 3);
    let away = world.fresh();
    away.open();
    let open = world.repo.open();
    world.compact(&open, 1).unwrap();
    world.pass(GRACE + 2 * SKEW + 1);
    world.drop(&open, false);
    let open = away.open_with(Credential::None).unwrap();
    let report = open.sync(true).unwrap();
    assert_eq!((report.lost, report.problems), (None, vec![]));
    // But one that nobody merged is.
    away.backup("t", dir.path());
    away.open();
    world.memory.delete(world.log().last().unwrap()).unwrap();
    let report = away.open().sync(true).unwrap();
    assert!(report.lost.is_some());
}

/// Another machine, of which the store does what is wanted.
fn away_with_faults(world: &World) -> (FaultStore, TestRepo) {
    let faults = FaultStore::new(Arc::new(world.memory.clone()));
    let away = TestRepo::from_elsewhere(Arc::new(faults.clone()));
    (faults, away)
}

/// Records are fetched side by side, so a few are under way when the checkpoint is met that
/// covers them; no other is begun.
#[test]
fn a_machine_that_was_away_fetches_what_no_checkpoint_covers() {
    let world = world(true);
    let (faults, away) = away_with_faults(&world);
    let (machine, owner, mut chain) = (away.open(), world.repo.open(), Chain::default());
    for n in 0..60_u32 {
        let pack = EncodedFact::of(&pack_fact(n, 1));
        chain.publish(&owner, vec![pack], Some(far(&world))).unwrap();
    }
    let covered: HashSet<String> = world.log().into_iter().collect();
    world.pass(2 * SKEW + 1);
    world.compact(&owner, 1).unwrap();

    // None of them comes before it is known what the checkpoint is made of.
    let met = Arc::new(OnceLock::new());
    let (wait, tell, names) = (Arc::clone(&met), met, covered.clone());
    let each = |prefix: &str, action| Fault {
        call: Some(Call::Get),
        prefix: prefix.into(),
        skip: 0,
        times: u64::MAX,
        action,
    };
    let hook = move |name: &str| {
        if names.contains(name) {
            wait.wait();
        }
    };
    faults.add(each("log/", Action::Run(Moment::Before, Arc::new(hook))));
    let hook = move |_: &str| {
        let _ = tell.set(());
    };
    faults.add(each("packs/", Action::Run(Moment::Before, Arc::new(hook))));
    faults.forget_made();
    machine.sync(false).unwrap();
    let begun = faults.made().iter().filter(|made| covered.contains(&made.key)).count();
    assert!(begun < 8, "{begun} were fetched for nothing");
    for n in 0..60 {
        assert_eq!(machine.index().chunk_places(&chunk(n, 0)).unwrap().len(), 1);
    }
}

/// Batches are bounded in bytes: what was fetched before is folded and stands.
#[test]
fn what_was_learnt_before_a_record_that_cannot_be_fetched_stands() {
    let world = world(true);
    let (faults, away) = away_with_faults(&world);
    let (machine, owner, mut chain) = (away.open(), world.repo.open(), Chain::default());
    for _ in 0..30 {
        let large = EncodedFact { bytes: vec![0; 1 << 20] };
        chain.publish(&owner, vec![large], Some(far(&world))).unwrap();
    }
    // The newest come first.
    let oldest = world.log().into_iter().min().unwrap();
    faults.add(Fault {
        call: Some(Call::Get),
        prefix: oldest,
        skip: 0,
        times: 1,
        action: Action::Fail(Kind::Unavailable, Moment::Before),
    });
    assert!(machine.sync(false).is_err());
    let known = machine.index().counts().unwrap().0;
    assert!((1..30).contains(&known), "{known}");
    machine.sync(false).unwrap();
    assert_eq!(machine.index().counts().unwrap().0, 30);
}

/// Of a record in several parts, what can be read stands, and it is known only when all
/// of it was read.
#[test]
fn a_record_in_parts_is_known_when_all_of_it_is() {
    let world = world(false);
    let open = world.repo.open();
    let facts = (0..4).map(|n| EncodedFact::of(&pack_fact(n, 17_000))).collect();
    let record = Chain::default().publish(&open, facts, Some(far(&world))).unwrap().id;
    world.pass(2 * SKEW + 1);
    world.compact(&open, 1).unwrap();
    let at = open.sync(true).unwrap().at.unwrap();
    drop_covered(&open, at, true, &HashSet::new(), &Progress::silent(), &Stop::new()).unwrap();
    let knows = |machine: &TestRepo| {
        let open = machine.open_with(Credential::None).unwrap();
        let problems = open.sync(true).unwrap().problems.len();
        let parts =
            (0..4).filter(|n| !open.index().chunk_places(&chunk(*n, 7)).unwrap().is_empty());
        (problems, parts.count(), open.index().unknown_records(&[record]).unwrap().is_empty())
    };
    let machine = world.fresh();
    let pack = world.memory.keys().into_iter().find(|key| key.starts_with("packs/")).unwrap();
    let flip = |bytes: &mut Vec<u8>| {
        let at = bytes.len() / 4;
        bytes[at] ^= 1;
    };
    world.memory.corrupt(&pack, flip);
    assert_eq!(knows(&machine), (1, 3, false));
    let open = machine.open_with(Credential::None).unwrap();
    assert_eq!(open.index().blocking_records().unwrap().len(), 1, "something is not known");
    drop(open);
    world.memory.corrupt(&pack, flip);
    assert_eq!(knows(&machine), (0, 4, true));
    assert_eq!(knows(&world.fresh()), (0, 4, true));
}

/// A chain that says nothing any more is left out in the end, and then it is not missed.
#[test]
fn a_chain_that_is_over_leaves_no_trace_and_no_alarm() {
    let world = world(false);
    let open = world.repo.open();
    let pin = || vec![EncodedFact::of(&Fact::Pin(Pin::Snapshot(snapshot_id(1))))];
    let over = Chain::default().publish(&open, pin(), Some(far(&world))).unwrap().id;
    for _ in 0..5 {
        world.pass(GRACE);
        open.sync(true).unwrap();
    }
    let away = world.fresh();
    away.open();
    assert_eq!(world.compact(&open, 1).unwrap().facts_dropped, 1);
    world.pass(GRACE + 2 * SKEW + 1);
    assert_eq!(world.drop(&open, false).objects, 1);
    Chain::default().publish(&open, pin(), Some(far(&world))).unwrap();
    world.pass(2 * SKEW + 1);
    assert_eq!(world.compact(&open, 1).unwrap().checkpoints, 1);
    world.pass(GRACE + 2 * SKEW + 1);
    assert_eq!(world.drop(&open, false).objects, 2);
    let reads = away.open_with(Credential::None).unwrap();
    let report = reads.sync(true).unwrap();
    assert!(!report.stale && report.lost.is_none(), "{report:?}");
    let machine = world.fresh();
    let fresh = machine.open();
    assert_eq!(fresh.index().unknown_records(&[over]).unwrap(), [over]);
    assert_eq!(chain_gaps(&fresh).unwrap(), []);
}

/// What a checkpoint carries is folded a few megabytes at a time: what was folded before
/// something fails stands, and in the end all is known that the records say.
#[test]
fn a_large_checkpoint_is_folded_in_parts() {
    let world = world(true);
    let (owner, mut chain) = (world.repo.open(), Chain::default());
    for n in 0..12 {
        // 600 KB: each is in a node of its own.
        let pack = EncodedFact::of(&pack_fact(n, 17_000));
        chain.publish(&owner, vec![pack], Some(far(&world))).unwrap();
    }
    world.pass(2 * SKEW + 1);
    world.compact(&owner, 1).unwrap();
    let expected = dump(&owner);
    assert_eq!(world.drop(&owner, true).objects, 12);

    let (faults, away) = away_with_faults(&world);
    let nodes = 12;
    let fail = |after| Fault {
        call: Some(Call::Get),
        prefix: "packs/".into(),
        skip: after,
        times: 1,
        action: Action::Fail(Kind::Unavailable, Moment::Before),
    };
    faults.add(fail(nodes - 1));
    let machine = away.open_with(owner_key()).unwrap();
    assert_eq!(machine.sync(true).unwrap_err().kind(), Kind::Unavailable);
    let known = machine.index().counts().unwrap().0;
    assert!((1..nodes).contains(&known), "{known}");
    assert_eq!(machine.sync(true).unwrap().problems, []);
    let learnt = dump(&machine);
    let differ: Vec<_> = learnt.symmetric_difference(&expected).collect();
    assert!(differ.is_empty(), "{} lines, the first: {:.300}", differ.len(), differ[0]);
}

/// A thread that reads records may fail, or break down, and so may all of them: whoever
/// waits for them is told at which record.
#[test]
fn a_reader_that_fails_says_at_which_record() {
    let world = world(true);
    let (faults, away) = away_with_faults(&world);
    let (machine, owner, mut chain) = (away.open(), world.repo.open(), Chain::default());
    for n in 0..40_u32 {
        let pack = EncodedFact::of(&pack_fact(n, 1));
        chain.publish(&owner, vec![pack], Some(far(&world))).unwrap();
    }
    let one = world.log()[20].clone();
    let break_down = || Action::Run(Moment::Before, Arc::new(|name: &str| panic!("at {name}")));
    for (prefix, action, kind) in [
        (one.as_str(), Action::Fail(Kind::Denied, Moment::Before), Kind::Denied),
        (one.as_str(), break_down(), Kind::Io),
        ("log/", break_down(), Kind::Io),
    ] {
        let (call, prefix) = (Some(Call::Get), prefix.to_owned());
        faults.add(Fault { call, prefix: prefix.clone(), skip: 0, times: u64::MAX, action });
        let error = machine.sync(false).unwrap_err();
        faults.heal();
        assert_eq!(error.kind(), kind);
        let told = asof::base::error_chain(&error);
        let named = world.log().iter().any(|name| name.starts_with(&prefix) && told.contains(name));
        assert!(named, "{told}");
    }
    machine.sync(false).unwrap();
    assert_eq!(machine.index().counts().unwrap().0, 40);
}
