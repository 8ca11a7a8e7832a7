//! What is needed no more goes, in time, and all else stays.

use super::*;

#[test]
fn what_is_forgotten_is_deleted_after_two_grace_periods_and_nothing_else() {
    for encrypted in [false, true] {
        let world = World::new(encrypted);
        let (gone, kept) = (tree(&[("a", 1), ("b", 2)]), tree(&[("c", 3)]));
        let first = world.repo.backup("gone", gone.path());
        world.repo.backup("kept", kept.path());
        assert_eq!(world.packs(), 4);
        world.forget(first.snapshot.unwrap());
        // Young, so nothing yet.
        let report = world.gc();
        assert_eq!((report.condemned.packs, report.deleted.packs), (0, 0), "{report:?}");
        world.pass(GRACE);
        let report = world.gc();
        assert_eq!((report.condemned.packs, report.deleted.packs), (2, 0), "{report:?}");
        assert_eq!(world.packs(), 4);
        // Condemned, and not long enough.
        world.pass(GRACE / 2);
        let report = world.gc();
        assert_eq!((report.condemned.packs, report.waiting.packs), (0, 2), "{report:?}");
        world.pass(GRACE);
        let report = world.gc();
        assert_eq!(report.deleted.packs, 2, "{report:?}");
        assert_eq!(world.packs(), 2);
        world.restores("kept", kept.path());
        let report = world.gc();
        assert_eq!((report.condemned.packs, report.deleted.packs), (0, 0), "{report:?}");
    }
}

#[test]
fn what_is_needed_is_copied_out_of_packs_that_are_nearly_dead() {
    let world = World::new(true);
    let all: Vec<(String, u8)> = (0..40).map(|n| (format!("f{n:02}"), n)).collect();
    let all: Vec<(&str, u8)> = all.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    let (large, small) = (tree(&all), tree(&all[..3]));
    let first = world.repo.backup("large", large.path());
    // Its content is in the packs of the first.
    world.repo.backup("small", small.path());
    let before = world.store.bytes();
    world.forget(first.snapshot.unwrap());
    world.pass(GRACE);
    let report = world.gc();
    assert!(report.rewritten.packs >= 1, "{report:?}");
    world.restores("small", small.path());
    world.pass(GRACE);
    world.gc();
    world.restores("small", small.path());
    assert!(world.store.bytes() < before / 5, "{} of {before}", world.store.bytes());
}

#[test]
fn an_exclusive_run_frees_space_at_once() {
    let world = World::new(true);
    let (gone, kept) = (tree(&[("a", 1), ("b", 2)]), tree(&[("b", 2), ("c", 3)]));
    let first = world.repo.backup("gone", gone.path());
    world.repo.backup("kept", kept.path());
    let before = world.store.bytes();
    world.forget(first.snapshot.unwrap());
    let options = GcOptions { exclusive: true, ..GcOptions::default() };
    let report = world.try_gc(&options).unwrap();
    assert!(report.deleted.packs >= 2, "{report:?}");
    assert!(world.store.bytes() < before - 90_000);
    world.restores("kept", kept.path());
    world.repo.backup("gone", gone.path());
    world.restores("gone", gone.path());
}

/// What an exclusive run took may be needed by nothing but a snapshot that is forgotten
/// and young: the next run that is not alone does not take that for damage.
#[test]
fn after_an_exclusive_run_collection_goes_on() {
    let (world, kept) = half_forgotten(false);
    let options = GcOptions { exclusive: true, ..GcOptions::default() };
    assert!(world.try_gc(&options).unwrap().deleted.packs >= 1);
    world.gc();
    world.pass(GRACE);
    world.gc();
    world.restores("kept", kept.path());
}

/// Every snapshot that stays has its statement in some pack, also one that stored nothing
/// else, wherever packs go.
#[test]
fn statements_outlive_the_packs_they_were_in() {
    let world = World::new(true);
    let dir = tree(&[("a", 1)]);
    let mut ids: Vec<SnapshotId> =
        (0..3).map(|_| world.repo.backup("s", dir.path()).snapshot.unwrap()).collect();
    world.forget(ids.remove(0));
    for _ in 0..4 {
        world.pass(GRACE);
        world.gc();
        assert!(statements(&world).is_superset(&ids.iter().copied().collect()));
    }
    assert!(world.packs() <= 4, "data, nodes, statements, and those that wait");
    world.restores("s", dir.path());
}

/// A mount may stay for months, while chunks move from pack to pack.
#[test]
fn who_stays_finds_chunks_wherever_they_go() {
    let world = World::new(true);
    let all: Vec<(String, u8)> = (0..12).map(|n| (format!("f{n:02}"), n)).collect();
    let all: Vec<(&str, u8)> = all.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    let mut doomed = Vec::new();
    let trees = [tree(&all), tree(&all[..6]), tree(&all[..3]), tree(&all[..1])];
    for (source, tree) in ["a", "b", "c", "stays"].into_iter().zip(&trees) {
        doomed.push(world.repo.backup(source, tree.path()).snapshot.unwrap());
    }
    doomed.pop();
    let elsewhere = TestRepo::from_elsewhere(Arc::new(world.store.clone()));
    let local = LocalOptions { cache_bytes: 0, ..elsewhere.local() };
    let nothing = ReaderOptions {
        frame_bytes: 0,
        node_bytes: 0,
        node_frame_bytes: 0,
        ..ReaderOptions::default()
    };
    let shelf = Shelf::open(&elsewhere.open(), &local, nothing).unwrap();
    let infos = shelf.snapshots().unwrap();
    let info = infos.iter().find(|info| info.snapshot.source == "stays").unwrap();
    let before = of_snapshot(&shelf, info).unwrap();
    for id in doomed {
        world.forget(id);
        let options = GcOptions { exclusive: true, max_unused: 0, ..GcOptions::default() };
        let report = world.try_gc(&options).unwrap();
        assert!(report.rewritten.packs >= 1 && report.deleted.packs >= 1, "{report:?}");
        assert_eq!(of_snapshot(&shelf, info).unwrap(), before);
    }
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    for exclusive in [false, true] {
        let world = World::new(false);
        let (gone, kept) = (tree(&[("a", 1), ("b", 2), ("c", 3)]), tree(&[("b", 2)]));
        let first = world.repo.backup("gone", gone.path());
        world.repo.backup("kept", kept.path());
        world.forget(first.snapshot.unwrap());
        world.pass(GRACE);
        let options = GcOptions { exclusive, ..GcOptions::default() };
        let keys = world.store.keys();
        let said = world.try_gc(&GcOptions { dry_run: true, ..options.clone() }).unwrap();
        assert_eq!(world.store.keys(), keys);
        let done = world.try_gc(&options).unwrap();
        assert_eq!((said.condemned, said.deleted), (done.condemned, done.deleted));
        assert_eq!((said.rewritten, said.next), (done.rewritten, None));
        let gone = if exclusive { done.deleted } else { done.condemned };
        assert_eq!((gone.packs, done.rewritten.packs), (3, 2), "{done:?}");
    }
}

/// What is said to be dropped from the log is what the next run drops.
#[test]
fn a_dry_run_says_what_leaves_the_log() {
    let world = World::new(false);
    let kept = tree(&[("a", 1)]);
    for n in 0..5 {
        fs::write(kept.path().join("b"), noise(10 + n, 1000)).unwrap();
        world.repo.backup("kept", kept.path());
    }
    let compact = CompactOptions { records_min: 2 };
    let options = GcOptions { compact, ..GcOptions::default() };
    world.pass(GRACE);
    assert!(world.try_gc(&options).unwrap().compacted.published);
    world.pass(GRACE);
    let said = world.try_gc(&GcOptions { dry_run: true, ..options.clone() }).unwrap();
    let done = world.try_gc(&options).unwrap();
    assert!(said.dropped == done.dropped && done.dropped.objects == 5, "{done:?}");
}

/// Packs whose record never came, of a backup that died, go as well.
#[test]
fn packs_that_nobody_published_are_deleted_in_time() {
    let world = World::new(true);
    let kept = tree(&[("a", 1)]);
    world.repo.backup("kept", kept.path());
    let stray = b"a pack that no record tells of".as_slice();
    let id = sha256(stray);
    let name = asof::format::names::pack(PackId(id));
    world.store.put_new(&name, stray.into()).unwrap();
    assert_eq!(world.gc().unpublished.packs, 0, "too young");
    world.pass(GRACE);
    assert_eq!(world.gc().unpublished.packs, 1);
    world.pass(GRACE);
    assert_eq!(world.gc().deleted.packs, 1);
    assert!(!world.store.keys().contains(&name));
    world.restores("kept", kept.path());
}

/// A chunk that is stored anew while its only pack is condemned is not lost, whichever
/// of the two a snapshot came to need.
#[test]
fn what_was_condemned_is_stored_again_when_it_is_backed_up_again() {
    let world = World::new(true);
    let dir = tree(&[("a", 1), ("b", 2)]);
    let first = world.repo.backup("one", dir.path());
    world.forget(first.snapshot.unwrap());
    world.pass(GRACE);
    assert_eq!(world.gc().condemned.packs, 2);
    let again = world.repo.backup("two", dir.path());
    assert!(again.written.bytes_new > 200_000, "{:?}", again.written);
    world.pass(GRACE);
    assert_eq!(world.gc().deleted.packs, 2);
    world.restores("two", dir.path());
}

#[test]
fn a_grace_period_can_be_lengthened_and_not_cut_short() {
    let world = World::new(true);
    let gone = tree(&[("a", 1)]);
    let first = world.repo.backup("gone", gone.path());
    world.forget(first.snapshot.unwrap());
    set_grace(&world.repo.open(), 29 * 86_400).unwrap_err();
    set_grace(&world.repo.open(), 90 * 86_400).unwrap();
    world.pass(GRACE);
    assert_eq!(world.gc().condemned.packs, 0);
    world.pass(2 * GRACE);
    assert_eq!(world.gc().condemned.packs, 2);
}

/// A backup that takes three grace periods, while others collect: what it stored first
/// is there at its end, because it says again and again that it is wanted. Without that
/// it would be lost.
#[test]
fn a_backup_may_take_longer_than_anything_is_kept() {
    for (pins_are_roots, lost) in [(true, false), (false, true)] {
        let parameters = Parameters { pack_bytes: 1 << 20, ..Parameters::default() };
        let world = World::with(true, &parameters);
        let dir = tempfile::tempdir().unwrap();
        for n in 0..20_u8 {
            fs::write(dir.path().join(format!("f{n:02}")), noise(n, 1 << 20)).unwrap();
        }
        let faults = FaultStore::new(Arc::new(world.store.clone()));
        let slow = TestRepo::from_elsewhere(Arc::new(faults.clone()));
        let open = slow.open();
        let (store, now) = (world.store.clone(), Arc::clone(&world.now));
        faults.add(Fault {
            call: Some(Call::Put),
            prefix: "packs/".into(),
            skip: 0,
            times: u64::MAX,
            action: Action::Run(
                Moment::After,
                Arc::new(move |_| {
                    now.fetch_add(GRACE / 6, Ordering::SeqCst);
                    let other = TestRepo::from_elsewhere(Arc::new(store.clone()));
                    let rules = Rules { pins_are_roots, ..Rules::default() };
                    collect_by(&other, &GcOptions::default(), rules).unwrap();
                }),
            ),
        });
        let options = BackupOptions {
            source: "s".into(),
            writer: WriterOptions { uploads: 1, ..WriterOptions::default() },
            ..BackupOptions::default()
        };
        let progress = Arc::new(Progress::silent());
        let paths = [dir.path().to_owned()];
        let report = backup(&open, &paths, &options, &progress, &Stop::new());
        let fresh = TestRepo::from_elsewhere(Arc::new(world.store.clone()));
        if lost {
            // It notices, or its content is gone.
            let whole = report.is_ok()
                && check(&fresh.open(), CheckOptions::default(), &progress, &Stop::new())
                    .unwrap()
                    .damaged
                    .is_empty();
            assert!(!whole);
        } else {
            assert_eq!(report.unwrap().counts.files, 20);
            assert_eq!(progress.problems.load(Ordering::Relaxed), 0);
            world.restores("s", dir.path());
        }
    }
}
