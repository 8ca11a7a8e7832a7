//! Checkpoints are made, and what they replaced goes; whatever fails, and whatever is damaged.

use super::*;

/// A checkpoint, or the deletion of what it replaced, that dies at any store call leaves
/// all as readable as it was, and the next run finishes.
#[test]
fn compaction_may_die_at_any_call() {
    let world = world(true);
    let dir = backups(&world, 4);
    let died = at_every_call(|arm| {
        let memory = world.memory.fork();
        let faults = FaultStore::new(Arc::new(memory.clone()));
        let machine = TestRepo::from_elsewhere(Arc::new(faults.clone()));
        let open = machine.open();
        let at = open.sync(true).unwrap().at.unwrap();
        let (progress, stop) = (Progress::silent(), Stop::new());
        let options = CompactOptions { records_min: 1 };
        let run = || {
            compact(&open, at, &options, &progress, &stop)?;
            drop_covered(&open, at, true, &HashSet::new(), &progress, &stop)
        };
        arm(&faults);
        let outcome = run();
        faults.heal();
        let reader = TestRepo::from_elsewhere(Arc::new(memory.clone()));
        assert_eq!(reader.library().snapshots().unwrap().len(), 4);
        open.sync(true).unwrap();
        run().unwrap();
        let log = names_in(&memory, "log/").len();
        assert_eq!(log, 1);
        let reader = TestRepo::from_elsewhere(Arc::new(memory));
        restores_to(&reader, "s", dir.path());
        outcome.is_ok()
    });
    assert!(died > 20, "{died}");
}

/// A checkpoint of which a node is damaged is named, and replaces nothing: the records
/// are read instead while they are there, are not deleted, and are merged again.
#[test]
fn a_damaged_checkpoint_replaces_nothing() {
    let world = world(false);
    let dir = backups(&world, 4);
    let before = world.memory.keys();
    let open = world.repo.open();
    world.compact(&open, 1).unwrap();
    let made: Vec<String> =
        world.memory.keys().into_iter().filter(|name| !before.contains(name)).collect();
    let [checkpoint, pack] = &made[..] else { panic!("{made:?}") };
    assert!(world.memory.corrupt(pack, |bytes| bytes[70] ^= 1));
    // Who reads it for the first time.
    let fresh = world.fresh();
    let reads = fresh.open_with(Credential::None).unwrap();
    let report = reads.sync(true).unwrap();
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!(&report.problems[0].0, checkpoint);
    assert!(report.problems[0].1.contains(pack.rsplit('/').next().unwrap()), "{report:?}");
    assert_eq!(reads.snapshots().unwrap().len(), 4);
    restores_to(&fresh, "s", dir.path());
    // Who made it, and is about to delete what it replaced.
    world.pass(GRACE + 2 * SKEW + 1);
    let at = open.sync(true).unwrap().at.unwrap();
    let (progress, problems) = recording();
    let dropped = drop_covered(&open, at, false, &HashSet::new(), &progress, &Stop::new()).unwrap();
    assert_eq!(dropped, Dropped::default());
    let problems = problems.lock().unwrap().clone();
    assert!(problems.len() == 1 && problems[0].starts_with(checkpoint), "{problems:?}");
    let done = world.compact(&open, 1).unwrap();
    assert_eq!((done.records, done.checkpoints), (4, 0));
    world.pass(GRACE + 2 * SKEW + 1);
    assert_eq!(world.drop(&open, false).objects, 5, "the damaged one goes as well");
    assert_eq!(world.log().len(), 1);
    let fresh = world.fresh();
    restores_to(&fresh, "s", dir.path());
    assert_eq!(chain_gaps(&fresh.open()).unwrap(), []);
}

/// An older checkpoint that cannot be read is not merged, nor does it end the work.
#[test]
fn what_cannot_be_read_stays_and_is_named() {
    let world = world(false);
    backups(&world, 4);
    let open = world.repo.open();
    let damaged = world.log().swap_remove(1);
    world.memory.corrupt(&damaged, |bytes| bytes[60] ^= 1);
    let at = open.sync(true).unwrap().at.unwrap();
    let (progress, problems) = recording();
    let options = CompactOptions { records_min: 1 };
    let done = compact(&open, at, &options, &progress, &Stop::new()).unwrap();
    assert_eq!(done.records, 3);
    let problems = problems.lock().unwrap().clone();
    assert!(problems.len() == 1 && problems[0].starts_with(&damaged), "{problems:?}");
    drop_covered(&open, at, true, &HashSet::new(), &progress, &Stop::new()).unwrap();
    assert_eq!(world.log().len(), 2);
    assert!(world.log().contains(&damaged));
}

/// A checkpoint that the store receives too late replaces nothing.
#[test]
fn a_late_checkpoint_replaces_nothing() {
    let world = world(false);
    let dir = backups(&world, 4);
    let faults = FaultStore::new(Arc::new(world.memory.clone()));
    let slow = TestRepo::from_elsewhere(Arc::new(faults.clone()));
    let open = slow.open();
    let time = Arc::clone(&world.time);
    faults.on_next(Call::Put, "log/", Moment::Before, move |_| {
        time.fetch_add(8 * 3600, Ordering::SeqCst);
    });
    let error = world.compact(&open, 1).unwrap_err();
    assert!(matches!(error, repo::Error::Late { .. }), "{error}");
    assert_eq!(error.kind(), Kind::Unavailable);
    world.pass(2 * GRACE);
    assert_eq!(world.drop(&open, true), Dropped::default());
    let fresh = world.fresh();
    restores_to(&fresh, "s", dir.path());
    let done = world.compact(&fresh.open(), 1).unwrap();
    assert_eq!((done.records, done.checkpoints), (4, 1), "merged after all");
    assert_eq!(world.drop(&open, true).objects, 5);
    restores_to(&world.fresh(), "s", dir.path());
}

#[test]
fn only_the_owner_compacts_and_only_what_everybody_knows() {
    let world = world(false);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "f").unwrap();
    world.repo.backup("s", dir.path());
    let open = world.repo.open();
    assert_eq!(world.compact(&open, 1).unwrap(), Compacted::default(), "it is too new");
    world.pass(2 * SKEW);
    let file = keyring::export_writer(&open, "w", None, true).unwrap();
    let machine = world.fresh();
    let writer = machine.open_with(Credential::Writer(Box::new(file))).unwrap();
    let at = world.now();
    let options = CompactOptions { records_min: 1 };
    let error = compact(&writer, at, &options, &Progress::silent(), &Stop::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    let error = drop_covered(&writer, at, true, &HashSet::new(), &Progress::silent(), &Stop::new())
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(world.compact(&open, 1).unwrap().records, 1);
    // Under two hours it is still one record, and goes as one; the simulation may do
    // without waiting.
    let record = &world.log()[0];
    let (_, id) = names::parse_record(record).unwrap();
    let twin = names::record(names::Hour::of(UnixTime::new(1_000_000, 0)), id);
    world.memory.put_new(&twin, world.memory.get(record, u64::MAX).unwrap()).unwrap();
    let at = open.sync(true).unwrap().at.unwrap();
    assert!(droppable(&open, at, false).unwrap().names.is_empty());
    drop(open);
    let rules = Rules { covered_records_wait: false, ..Rules::default() };
    let hasty = Arc::into_inner(world.repo.open()).unwrap().with_rules(rules);
    assert_eq!(droppable(&hasty, at, false).unwrap().names, [twin, record.clone()]);
}

/// The packs of a checkpoint that stands are needed, and those of one that was replaced
/// are not for ever.
#[test]
fn a_collector_keeps_what_a_checkpoint_stands_on() {
    let world = world(true);
    let dir = backups(&world, 4);
    let open = world.repo.open();
    world.compact(&open, 1).unwrap();
    let count = || names_in(&world.memory, "packs/").len();
    let collect = || {
        let options = asof::ops::gc::GcOptions::default();
        let progress = Progress::silent().into();
        asof::ops::gc::gc(&open, &options, &progress, &Stop::new()).unwrap();
    };
    let before = count();
    for _ in 0..3 {
        world.pass(GRACE + 2 * SKEW + 1);
        collect();
        world.drop(&open, false);
    }
    assert_eq!(count(), before);
    restores_to(&world.fresh(), "s", dir.path());
    // Another takes its place.
    world.repo.backup("s", dir.path());
    world.pass(2 * SKEW + 1);
    let mut merged = world.compact(&open, 1).unwrap().checkpoints;
    for n in 0..4 {
        fs::write(dir.path().join(format!("more{n}")), noise(100 + n, 40)).unwrap();
        world.repo.backup("s", dir.path());
    }
    world.pass(2 * SKEW + 1);
    merged += world.compact(&open, 1).unwrap().checkpoints;
    assert!(merged > 0);
    let before = count();
    for _ in 0..4 {
        world.pass(GRACE + 2 * SKEW + 1);
        collect();
        world.drop(&open, false);
    }
    assert!(count() < before, "the nodes of what was replaced are gone");
    restores_to(&world.fresh(), "s", dir.path());
}

/// When a checkpoint proves to be damaged, the older one that it replaced is needed again,
/// and both go once all is merged anew.
#[test]
fn an_older_checkpoint_is_needed_again() {
    let world = world(false);
    let dir = backups(&world, 4);
    let open = world.repo.open();
    world.compact(&open, 1).unwrap();
    let at = open.sync(true).unwrap().at.unwrap();
    drop_covered(&open, at, true, &HashSet::new(), &Progress::silent(), &Stop::new()).unwrap();
    for n in 0..4 {
        fs::write(dir.path().join(format!("more{n}")), noise(100 + n, 40)).unwrap();
        world.repo.backup("s", dir.path());
    }
    world.pass(2 * SKEW + 1);
    let with_backups = world.memory.keys();
    assert_eq!(world.compact(&open, 1).unwrap().checkpoints, 1);
    let keys = world.memory.keys();
    let mut made = keys.iter().filter(|key| !with_backups.contains(key));
    let pack = made.find(|key| key.starts_with("packs/")).unwrap();
    world.memory.corrupt(pack, |bytes| bytes[70] ^= 1);
    let (progress, problems) = recording();
    assert_eq!(repo::checkpoint::verify(&open, &progress, &Stop::new()).unwrap().damaged, 1);
    assert_eq!(problems.lock().unwrap().len(), 1);
    let roots = || open.index().other_facts().unwrap().len();
    assert_eq!(roots(), 2, "both are needed");
    world.pass(2 * SKEW + 1);
    let done = world.compact(&open, 1000).unwrap();
    assert_eq!((done.records, done.checkpoints), (4, 1), "however few they are");
    assert_eq!(roots(), 1);
    let at = open.sync(true).unwrap().at.unwrap();
    drop_covered(&open, at, true, &HashSet::new(), &Progress::silent(), &Stop::new()).unwrap();
    assert_eq!(world.log().len(), 1);
    restores_to(&world.fresh(), "s", dir.path());
}
