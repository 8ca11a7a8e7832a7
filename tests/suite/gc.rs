//! Collection: space comes back, and nothing that anybody needs goes.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use asof::base::{Kind, PackId, Progress, SnapshotId, Stop, UnixTime};
use asof::codec::hash::{ChunkKind, sha256};
use asof::format::config::Parameters;
use asof::format::fact::Fact;
use asof::format::node::Node;
use asof::format::pack::{Directory, PackFact};
use asof::ops::backup::{BackupOptions, backup};
use asof::ops::check::{CheckOptions, check};
use asof::ops::gc::{GcOptions, gc, set_grace};
use asof::repo::checkpoint::{CompactOptions, verify};
use asof::repo::keys::Credential;
use asof::repo::log::{Chain, EncodedFact};
use asof::repo::packer::{each_chunk, open_pack};
use asof::repo::reader::ReaderOptions;
use asof::repo::writer::WriterOptions;
use asof::repo::{Library, LocalOptions, Rules, Shelf, keyring};
use asof::store::fault::{Action, Fault, Moment};
use asof::store::{self, Call, FaultStore, MemoryStore, Store};

use crate::fixture::{FAR, TestRepo, backup_into, names_in, owner_key};
use crate::manifest::of_snapshot;
use crate::world::{GRACE, World, collect, collect_by, noise, tree};

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

/// A snapshot that is forgotten, and one that stays and shares a file with it; the tree of
/// what stays.
fn half_forgotten(encrypted: bool) -> (World, tempfile::TempDir) {
    let world = World::new(encrypted);
    let (gone, kept) = (tree(&[("a", 1), ("b", 2)]), tree(&[("b", 2), ("c", 3)]));
    let first = world.repo.backup("gone", gone.path());
    world.repo.backup("kept", kept.path());
    world.forget(first.snapshot.unwrap());
    (world, kept)
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

/// Every pack in the store, as it tells of itself, and its bytes.
fn opened(world: &World) -> Vec<(PackFact, bytes::Bytes)> {
    let open = world.repo.open();
    let pack = |name: String| {
        let bytes = world.store.get(&name, u64::MAX).unwrap();
        let id = PackId(sha256(&bytes));
        let reader = open.keys().reader.as_ref();
        (open_pack(id, &bytes, open.config().repository, reader, None).unwrap(), bytes)
    };
    names_in(&world.store, "packs/").into_iter().map(pack).collect()
}

/// The snapshots of which there is a statement.
fn statements(world: &World) -> BTreeSet<SnapshotId> {
    let open = world.repo.open();
    let mut found = BTreeSet::new();
    for (fact, bytes) in opened(world) {
        each_chunk(&fact, &bytes, &open.keys().ids, |_, _, plain| {
            if fact.kind == ChunkKind::Node
                && let Ok((_, Node::Statement(statement))) = Node::decode(plain.unwrap())
                && let Ok((_, Fact::Snapshot(snapshot))) = Fact::decode(&statement.fact)
            {
                found.insert(snapshot.id);
            }
            Ok(())
        })
        .unwrap();
    }
    found
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
