//! What keeps a collection from deleting: damage, lies, what comes late, and whoever is in its way.

use super::*;

/// The places in a checkpoint only save look-ups: without them collection goes on.
#[test]
fn a_checkpoint_that_lost_its_places_stops_nothing() {
    let parameters = Parameters { pack_bytes: 1, ..Parameters::default() };
    let world = World::with(false, &parameters);
    let kept = tree(&[("a", 1)]);
    world.repo.backup("kept", kept.path());
    world.repo.backup("kept", kept.path());
    let compact = CompactOptions { records_min: 1 };
    let options = GcOptions { compact, ..GcOptions::default() };
    world.pass(GRACE);
    let before = world.store.keys();
    assert!(world.try_gc(&options).unwrap().compacted.published);
    // Each node has a pack of its own: one without which all records can still be read
    // has places.
    let new = |key: &&String| key.starts_with("packs/") && !before.contains(key);
    let mut lost = 0;
    for pack in world.store.keys().iter().filter(new) {
        let other = world.fork();
        other.store.delete(pack).unwrap();
        let open = other.repo.open();
        let verified = verify(&open, &Progress::silent(), &Stop::new()).unwrap();
        if verified.damaged == 0 {
            lost += 1;
            other.pass(GRACE);
            other.try_gc(&options).unwrap();
            other.restores("kept", kept.path());
        }
    }
    assert!(lost >= 1);
}

/// A machine that lists the log and then reads it finds records gone that a checkpoint
/// stands for: that is no damage.
#[test]
fn records_may_leave_the_log_while_they_are_read() {
    let parameters = Parameters { grace_seconds: 80, skew_seconds: 1, ..Parameters::default() };
    let met = Arc::new(AtomicBool::new(false));
    for round in 0..8 {
        // All in one hour, so that records are read in no order.
        let world = World::with(false, &parameters);
        let dir = tree(&[("a", round)]);
        for n in 0..6 {
            fs::write(dir.path().join("b"), noise(100 + n, 1000)).unwrap();
            world.repo.backup("s", dir.path());
        }
        world.pass(10);
        let replaced = world.store.keys();
        let compact = CompactOptions { records_min: 1 };
        let options = GcOptions { compact, ..GcOptions::default() };
        assert!(world.try_gc(&options).unwrap().compacted.published);
        world.pass(100);
        let world = Arc::new(world);
        let faults = FaultStore::new(Arc::new(world.store.clone()));
        let (collects, met) = (Arc::clone(&world), Arc::clone(&met));
        faults.on_next(Call::Get, "log/", Moment::Before, move |name| {
            met.fetch_or(replaced.iter().any(|key| key == name), Ordering::SeqCst);
            assert_eq!(collects.try_gc(&options).unwrap().dropped.objects, 6);
        });
        let fresh = TestRepo::from_elsewhere(Arc::new(faults.clone()));
        let open = fresh.open_with(owner_key());
        let open = open.unwrap();
        let report = open.sync(true).unwrap();
        assert_eq!(report.problems, []);
        assert!(report.at.is_some());
        assert_eq!(open.snapshots().unwrap().len(), 6);
    }
    assert!(met.load(Ordering::SeqCst), "the checkpoint was always read first");
}

/// Whoever asks a collection to stop is heard at every moment.
#[test]
fn a_collection_ends_when_it_is_asked_to() {
    let (world, kept) = half_forgotten(true);
    world.pass(GRACE);
    for k in 0.. {
        let other = world.fork();
        let faults = FaultStore::new(Arc::new(other.store.clone()));
        let repo = TestRepo::from_elsewhere(Arc::new(faults.clone()));
        let open = repo.open();
        let stop = Arc::new(Stop::new());
        let raised = Arc::clone(&stop);
        faults.add(Fault {
            call: None,
            prefix: String::new(),
            skip: k,
            times: 1,
            action: Action::Run(Moment::After, Arc::new(move |_| raised.raise())),
        });
        let options = GcOptions::default();
        let outcome = gc(&open, &options, &Arc::new(Progress::silent()), &stop);
        if !stop.is_raised() {
            assert!(k > 8 && outcome.is_ok());
            break;
        }
        if let Err(error) = outcome {
            assert_eq!(error.kind(), Kind::Interrupted, "{k}: {error}");
        }
        other.gc();
        other.restores("kept", kept.path());
    }
}

/// A condemnation that the store receives hours later counts for nothing, and the run
/// says so.
#[test]
fn a_condemnation_that_comes_late_is_not_taken_for_one() {
    let world = World::new(true);
    let gone = tree(&[("a", 1)]);
    let first = world.repo.backup("gone", gone.path());
    world.forget(first.snapshot.unwrap());
    world.pass(GRACE);
    let faults = FaultStore::new(Arc::new(world.store.clone()));
    let slow = TestRepo::from_elsewhere(Arc::new(faults.clone()));
    let now = Arc::clone(&world.now);
    faults.on_next(Call::Put, "log/", Moment::Before, move |_| {
        now.fetch_add(12 * 3600, Ordering::SeqCst);
    });
    let error = collect(&slow, &GcOptions::default()).unwrap_err();
    assert!(error.to_string().contains("the condemnation was received"), "{error}");
    assert_eq!(world.gc().condemned.packs, 2, "it is done again");
}

/// Somebody claims again, just now, a pack that is lost: what it had stands elsewhere, and
/// stays there.
#[test]
fn a_claim_of_a_lost_pack_makes_no_other_superfluous() {
    let world = World::new(true);
    let kept = tree(&[("a", 1)]);
    let id = world.repo.backup("kept", kept.path()).snapshot.unwrap();
    let lost: Vec<String> = names_in(&world.store, "packs/");
    // Stored again by a machine that knew nothing of it.
    let open = world.repo.open();
    let packs = opened(&world);
    let file = keyring::export_writer(&open, "trusted", None, true).unwrap();
    let other = TestRepo::from_elsewhere(Arc::new(world.store.clone()));
    let other = other.open_with(Credential::Writer(Box::new(file))).unwrap();
    backup_into(&other, "again", &[kept.path()], &Arc::new(Progress::silent())).unwrap();
    lost.iter().for_each(|key| world.store.delete(key).unwrap());
    world.pass(GRACE);
    let file = keyring::export_writer(&open, "thief", None, false).unwrap();
    let thief = TestRepo::from_elsewhere(Arc::new(world.store.clone()));
    let thief = thief.open_with(Credential::Writer(Box::new(file))).unwrap();
    let claims = packs.into_iter().map(|(fact, _)| EncodedFact::of(&Fact::Pack(Box::new(fact))));
    Chain::default().publish(&thief, claims.collect(), FAR).unwrap();
    let options = GcOptions { exclusive: true, ..GcOptions::default() };
    world.try_gc(&options).unwrap();
    world.restores(&format!("id:{id}"), kept.path());
}

#[test]
fn damage_keeps_everything_where_it_is_and_is_named() {
    let world = World::new(true);
    let (gone, kept) = (tree(&[("a", 1)]), tree(&[("c", 3)]));
    let first = world.repo.backup("gone", gone.path());
    let before = world.store.keys();
    world.repo.backup("kept", kept.path());
    world.forget(first.snapshot.unwrap());
    world.pass(GRACE);
    for key in world.store.keys().iter().filter(|k| k.starts_with("packs/")) {
        if before.contains(key) {
            continue;
        }
        let good = world.store.get(key, u64::MAX).unwrap();
        world.store.delete(key).unwrap();
        let error = world.try_gc(&GcOptions::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
        assert!(error.to_string().contains("asof check"), "{error}");
        world.store.put_new(key, good).unwrap();
    }
    assert_eq!(world.gc().condemned.packs, 2);
}

/// A thief of an untrusted writer's key says of every pack that it holds what it does not
/// hold: other kinds, no chunks, everybody's chunks. Nothing that is needed goes for it.
#[test]
fn false_claims_make_nothing_superfluous() {
    let world = World::new(true);
    let (kept, gone) = (tree(&[("a", 1), ("b", 2)]), tree(&[("c", 3)]));
    world.repo.backup("kept", kept.path());
    let open = world.repo.open();
    let packs: Vec<PackFact> = opened(&world).into_iter().map(|(pack, _)| pack).collect();
    let all: Vec<_> = packs.iter().flat_map(|pack| pack.directory.chunks.clone()).collect();
    let mut lies = Vec::new();
    for pack in &packs {
        let other = match pack.kind {
            ChunkKind::Data => ChunkKind::Node,
            ChunkKind::Node => ChunkKind::Data,
        };
        // Sizes until claims of every order are among them.
        for size in 0..6 {
            let mut lie = PackFact { kind: other, size: pack.size + size, ..pack.clone() };
            lies.push(lie.clone());
            lie.directory = Directory::default();
            lies.push(lie);
        }
    }
    // A pack of the thief's own that has, it says, every chunk there is.
    let junk = b"no pack at all".as_slice();
    let id = PackId(sha256(junk));
    world.store.put_new(&asof::format::names::pack(id), junk.into()).unwrap();
    let mut directory = packs[0].directory.clone();
    directory.chunks = all;
    lies.push(PackFact { id, directory, ..packs[0].clone() });
    let thief = TestRepo::from_elsewhere(Arc::new(world.store.clone()));
    let file = keyring::export_writer(&open, "thief", None, false).unwrap();
    let thief = thief.open_with(Credential::Writer(Box::new(file))).unwrap();
    let facts = lies.into_iter().map(|lie| EncodedFact::of(&Fact::Pack(Box::new(lie))));
    Chain::default().publish(&thief, facts.collect(), FAR).unwrap();

    let first = world.repo.backup("gone", gone.path());
    world.forget(first.snapshot.unwrap());
    for _ in 0..3 {
        world.pass(GRACE);
        world.gc();
        world.restores("kept", kept.path());
    }
}

/// A store that was rolled back to an older state lacks what this machine put there:
/// nothing is built on that.
#[test]
fn nothing_is_built_on_a_store_that_was_rolled_back() {
    let world = World::new(true);
    let dir = tree(&[("a", 1)]);
    world.repo.backup("s", dir.path());
    let before = world.fork();
    fs::write(dir.path().join("b"), noise(2, 100_000)).unwrap();
    world.repo.backup("s", dir.path());
    for key in world.store.keys() {
        if !before.store.keys().contains(&key) {
            world.store.delete(&key).unwrap();
        }
    }
    fs::write(dir.path().join("c"), "more").unwrap();
    world.pass(2 * 3600);
    let error = world.repo.try_backup("s", &[dir.path()]).unwrap_err();
    assert!(error.to_string().contains("is gone"), "{error}");
    // With the index made anew it goes on from what there is.
    world.repo.open().rebuild().unwrap();
    world.repo.backup("s", dir.path());
    world.restores("s", dir.path());
}

/// What is known of one store says nothing of another that holds the same repository.
#[test]
fn a_machine_keeps_stores_and_keys_apart() {
    let world = World::new(true);
    let dir = tree(&[("a", 1), ("b", 2)]);
    let open = world.repo.open();
    let file = keyring::export_writer(&open, "writer", None, true).unwrap();
    let copy = world.fork();
    world.repo.backup("s", dir.path());
    // The owner's index knows the chunks; a writer's of the same machine does not: it
    // never lists, so that it would not notice what was collected meanwhile.
    let writer = world.repo.open_with(Credential::Writer(Box::new(file))).unwrap();
    assert!(open.index().path() != writer.index().path());
    let progress = Arc::new(Progress::silent());
    let report = backup_into(&writer, "w", &[dir.path()], &progress).unwrap();
    assert!(report.written.bytes_new > 200_000, "{:?}", report.written);
    // And the same repository at another place is another store.
    let other =
        TestRepo { store: Arc::new(Elsewhere(copy.store.clone())), cache: world.repo.cache };
    let report = other.backup("s", dir.path());
    assert!(report.written.bytes_new > 200_000, "{:?}", report.written);
    copy.restores("s", dir.path());
}

/// A memory store at another place.
struct Elsewhere(MemoryStore);

impl Store for Elsewhere {
    fn put_new(&self, key: &str, body: bytes::Bytes) -> store::Result<store::Put> {
        self.0.put_new(key, body)
    }
    fn get(&self, key: &str, limit: u64) -> store::Result<bytes::Bytes> {
        self.0.get(key, limit)
    }
    fn get_range(&self, key: &str, range: std::ops::Range<u64>) -> store::Result<bytes::Bytes> {
        self.0.get_range(key, range)
    }
    fn list(&self, prefix: &str, after: Option<&str>) -> store::Result<store::Page> {
        self.0.list(prefix, after)
    }
    fn delete(&self, key: &str) -> store::Result<()> {
        self.0.delete(key)
    }
    fn location(&self) -> String {
        "elsewhere".into()
    }
}

/// A record that cannot be read now may condemn what a backup would build on, and need
/// what a collection would delete.
#[test]
fn a_record_that_cannot_be_read_stops_collection_and_junk_does_not() {
    let world = World::new(true);
    let (kept, gone) = (tree(&[("a", 1)]), tree(&[("c", 3)]));
    world.repo.backup("kept", kept.path());
    let first = world.repo.backup("gone", gone.path());
    world.forget(first.snapshot.unwrap());
    world.pass(GRACE);
    // Bytes that are what the name says, and nobody's.
    let junk = b"junk".as_slice();
    let id = asof::base::RecordId(sha256(junk));
    let now = UnixTime::new(world.now.load(Ordering::SeqCst), 0);
    let name = asof::format::names::record(asof::format::names::Hour::of(now), id);
    world.store.put_new(&name, junk.into()).unwrap();
    let options = GcOptions { dry_run: true, ..GcOptions::default() };
    assert_eq!(world.try_gc(&options).unwrap().condemned.packs, 2);
    // Bytes that are not what the name says were something else once.
    world.store.corrupt(&name, |bytes| bytes[0] ^= 1);
    let fresh = TestRepo::from_elsewhere(Arc::new(world.store.clone()));
    let error = collect(&fresh, &options).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged, "{error}");
    assert!(error.to_string().contains(&id.to_string()), "{error}");
    world.store.delete(&name).unwrap();
    let fresh = TestRepo::from_elsewhere(Arc::new(world.store.clone()));
    assert_eq!(collect(&fresh, &options).unwrap().condemned.packs, 2);
}

/// A node that cannot be fetched now is not taken for one that is gone.
#[test]
fn a_store_that_does_not_answer_is_no_damage() {
    let world = World::new(false);
    let kept = tree(&[("a", 1)]);
    world.repo.backup("kept", kept.path());
    world.pass(GRACE);
    let faults = FaultStore::new(Arc::new(world.store.clone()));
    faults.add(Fault {
        call: Some(Call::Get),
        prefix: "packs/".into(),
        skip: 0,
        times: u64::MAX,
        action: Action::Fail(Kind::Unavailable, Moment::Before),
    });
    let keys = world.store.keys();
    let away = TestRepo::from_elsewhere(Arc::new(faults));
    let error = collect(&away, &GcOptions::default()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
    assert_eq!(world.store.keys(), keys);
    world.gc();
    world.restores("kept", kept.path());
}

/// What was listed long after the log may lack what was deleted since, rightly.
#[test]
fn packs_that_are_listed_long_after_the_log_are_no_damage() {
    let world = World::new(false);
    let (gone, kept) = (tree(&[("a", 1)]), tree(&[("b", 2)]));
    let first = world.repo.backup("gone", gone.path()).snapshot.unwrap();
    world.repo.backup("kept", kept.path());
    world.forget(first);
    world.pass(GRACE);
    world.gc();
    let faults = FaultStore::new(Arc::new(world.store.clone()));
    let now = Arc::clone(&world.now);
    faults.add(Fault {
        call: Some(Call::List),
        prefix: "packs/".into(),
        skip: 0,
        times: 1,
        action: Action::Run(
            Moment::Before,
            Arc::new(move |_| {
                now.fetch_add(GRACE, Ordering::SeqCst);
            }),
        ),
    });
    let keys = world.store.keys();
    let slow = TestRepo::from_elsewhere(Arc::new(faults));
    let error = collect(&slow, &GcOptions::default()).unwrap_err();
    assert!(error.to_string().contains("took too long"), "{error}");
    assert_eq!(world.store.keys(), keys);
    assert!(world.gc().deleted.packs >= 1);
    world.restores("kept", kept.path());
}
