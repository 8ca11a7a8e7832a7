//! A checkpoint of the owner stands for the records that it merged.

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use asof::base::{ChunkId, Clock, Kind, PackId, Progress, RecordId, SnapshotId, Stop, UnixTime};
use asof::codec::compress::Codec;
use asof::codec::hash::{ChunkKind, sha256};
use asof::format::fact::{Fact, Forget, Grace, Packs, Pin, Revoke, Snapshot};
use asof::format::item;
use asof::format::names;
use asof::format::node::{Entry, FileKind, Owner, Subtree};
use asof::format::pack::{Directory, Frame, PackFact};
use asof::repo::checkpoint::{
    CompactOptions, Compacted, Dropped, compact, drop_covered, droppable, find_chunk,
};
use asof::repo::keys::Credential;
use asof::repo::log::{Chain, EncodedFact, chain_gaps};
use asof::repo::{self, Repository, Rules, keyring};
use asof::store::fault::{Action, Fault, FaultStore, Moment};
use asof::store::{Call, CountStore, MemoryStore, Store};

use crate::crash::at_every_call;
use crate::fixture::{TestRepo, create, names_in, noise, owner_key, recording, restores_to};

/// The grace period and the skew of these repositories. Seconds.
const GRACE: i64 = 30 * 86400;
const SKEW: i64 = 3600;

/// A repository in a store whose time the test sets.
struct World {
    memory: MemoryStore,
    time: Arc<AtomicI64>,
    repo: TestRepo,
}

fn world(encrypted: bool) -> World {
    let time = Arc::new(AtomicI64::new(1_900_000_000));
    let memory = MemoryStore::with_clock(clock(&time));
    let repo = create(Arc::new(memory.clone()), encrypted);
    World { memory, time, repo }
}

fn clock(time: &Arc<AtomicI64>) -> Clock {
    let time = Arc::clone(time);
    Clock::from_fn(move || UnixTime::new(time.load(Ordering::SeqCst), 0))
}

impl World {
    fn pass(&self, seconds: i64) {
        self.time.fetch_add(seconds, Ordering::SeqCst);
    }

    fn now(&self) -> UnixTime {
        UnixTime::new(self.time.load(Ordering::SeqCst), 0)
    }

    /// A machine that knows nothing yet.
    fn fresh(&self) -> TestRepo {
        TestRepo::from_elsewhere(Arc::new(self.memory.clone()))
    }

    fn compact(&self, repo: &Arc<Repository>, records_min: usize) -> repo::Result<Compacted> {
        let at = repo.sync(true)?.at.unwrap();
        let options = CompactOptions { records_min };
        compact(repo, at, &options, &Progress::silent(), &Stop::new())
    }

    fn drop(&self, repo: &Arc<Repository>, exclusive: bool) -> Dropped {
        let at = repo.sync(true).unwrap().at.unwrap();
        let found = droppable(repo, at, exclusive).unwrap();
        let dropped =
            drop_covered(repo, at, exclusive, &HashSet::new(), &Progress::silent(), &Stop::new())
                .unwrap();
        assert_eq!(dropped.objects, found.names.len() as u64);
        assert_eq!(dropped.bytes, found.bytes);
        dropped
    }

    fn log(&self) -> Vec<String> {
        names_in(&self.memory, "log/")
    }
}

/// Some backups of a small tree that changes, some hours apart.
fn backups(world: &World, count: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..count {
        fs::write(dir.path().join(format!("f{n}")), noise(n, 40)).unwrap();
        world.repo.backup("s", dir.path());
        world.pass(3600);
    }
    world.pass(2 * SKEW + 1);
    dir
}

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

/// Search in place: a listing, the checkpoint's record, and for each chunk one ranged
/// read of one node, whatever the size of the repository; the answer is the index's.
#[test]
fn a_chunk_is_found_in_place_with_one_ranged_read() {
    let world = world(true);
    let open = world.repo.open();
    let mut chain = Chain::default();
    for n in 0..30_u32 {
        let pack = pack_fact(n, 700);
        chain.publish(&open, vec![EncodedFact::of(&pack)], Some(far(&world))).unwrap();
    }
    world.pass(2 * SKEW + 1);
    world.compact(&open, 1).unwrap();
    let at = open.sync(true).unwrap().at.unwrap();
    drop_covered(&open, at, true, &HashSet::new(), &Progress::silent(), &Stop::new()).unwrap();
    let index = open.index();
    let count = Arc::new(CountStore::new(Arc::new(world.memory.clone())));
    let stranger = TestRepo::from_elsewhere(count.clone());
    let blank = stranger.open_with(owner_key()).unwrap();
    let before = count.requests();
    let search = repo::checkpoint::Search::open(&blank).unwrap();
    let opened = count.requests().since(before);
    assert_eq!((opened.lists, opened.gets), (1, 1));
    for n in [0, 7, 29] {
        for place in [0, 1, 699] {
            let id = chunk(n, place);
            let before = count.requests();
            let found = search.find(&id).unwrap();
            let used = count.requests().since(before);
            assert_eq!((used.calls(), used.gets), (1, 1));
            assert!(used.bytes_down < 200_000, "{used:?}");
            let known: Vec<_> = index
                .chunk_places(&id)
                .unwrap()
                .iter()
                .map(|at| (index.pack(at.pack).unwrap().unwrap().id, at.start, at.length))
                .collect();
            assert_eq!(found, known);
            assert_eq!(found, [(PackId(sha256(&n.to_le_bytes())), place as u64 * 10, 10)]);
        }
    }
    assert_eq!(search.find(&ChunkId([1; 32])).unwrap(), []);
    assert_eq!(search.find(&ChunkId([0; 32])).unwrap(), [], "before the first");
    assert_eq!(search.find(&ChunkId([255; 32])).unwrap(), []);
    assert_eq!(blank.index().counts().unwrap().0, 0, "the index was not used");
    // What no checkpoint covers yet is found as well.
    let pack = pack_fact(77, 5);
    chain.publish(&open, vec![EncodedFact::of(&pack)], Some(far(&world))).unwrap();
    assert_eq!(find_chunk(&blank, &chunk(77, 4)).unwrap().len(), 1);
}

fn far(world: &World) -> UnixTime {
    UnixTime::new(world.now().seconds + GRACE, 0)
}

fn chunk(pack: u32, place: u32) -> ChunkId {
    ChunkId(sha256(&[pack.to_le_bytes(), place.to_le_bytes()].concat()))
}

/// A claim about a pack that is not there, with chunks of 10 bytes.
fn pack_fact(n: u32, chunks: u32) -> Fact {
    let plain_len = chunks * 10;
    let frame =
        Frame { offset: 100, sealed_len: plain_len, start: 0, plain_len, codec: Codec::Raw };
    Fact::Pack(Box::new(PackFact {
        id: PackId(sha256(&n.to_le_bytes())),
        kind: ChunkKind::Data,
        size: 1000 + u64::from(plain_len),
        key: Some([5; 32]),
        directory: Directory {
            frames: vec![frame],
            chunks: (0..chunks).map(|place| (chunk(n, place), 10)).collect(),
        },
    }))
}

fn snapshot_fact(n: u32, source: &str, at: UnixTime) -> EncodedFact {
    let root =
        Entry { subtree: Some(Subtree::default()), ..Entry::new(b"", FileKind::Dir, 0o755, at) };
    let snapshot = Snapshot::new(snapshot_id(n), source, root, Owner::default(), at);
    let fact = Fact::Snapshot(Box::new(snapshot));
    EncodedFact { bytes: fact.encode(&[chunk(n, 0)]) }
}

fn snapshot_id(n: u32) -> SnapshotId {
    SnapshotId::from_slice(&sha256(&n.to_le_bytes())[..16]).unwrap()
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 33).unwrap() % n
    }
}

/// Publishes records of all kinds by several writers, spread over five grace periods.
fn random_log(world: &World, dice: &mut Dice, records: u32, numbers: std::ops::Range<u32>) {
    let owner = world.repo.open();
    let machines: Vec<TestRepo> = (0..3).map(|_| world.fresh()).collect();
    let writer = |n: usize, sources: Option<Vec<String>>, trusted| {
        let file = keyring::export_writer(&owner, &format!("w{n}"), sources, trusted).unwrap();
        machines[n].open_with(Credential::Writer(Box::new(file))).unwrap()
    };
    let repos = [
        Arc::clone(&owner),
        writer(0, None, true),
        writer(1, Some(vec!["web".into()]), false),
        writer(2, None, true),
    ];
    let mut chains: Vec<(usize, Chain)> = Vec::new();
    let span = numbers.end - numbers.start;
    for n in 0..records {
        world.pass(i64::from(dice.below(u32::try_from(10 * GRACE / i64::from(records)).unwrap())));
        owner.sync(false).unwrap();
        if chains.is_empty() || dice.below(2) == 0 {
            chains.push((dice.below(4) as usize, Chain::default()));
        }
        let at = dice.below(u32::try_from(chains.len()).unwrap()) as usize;
        let (who, chain) = &mut chains[at];
        let repo = &repos[*who];
        let mut facts = Vec::new();
        for k in 0..dice.below(6) {
            let m = numbers.start + dice.below(span);
            let pack = PackId(sha256(&m.to_le_bytes()));
            facts.push(match dice.below(if *who == 0 { 13 } else { 6 }) {
                0 | 1 => EncodedFact::of(&pack_fact(m, 1 + m % 7)),
                2 if dice.below(6) == 0 => EncodedFact::of(&pack_fact(1000 + n * 10 + k, 17_000)),
                2 => EncodedFact::of(&pack_fact(m + 500, 2)),
                3 => snapshot_fact(m, if m.is_multiple_of(2) { "web" } else { "db" }, world.now()),
                4 => EncodedFact::of(&Fact::Pin(Pin::Snapshot(snapshot_id(m)))),
                5 if *who != 0 && dice.below(3) == 0 => {
                    // What its signer may not say.
                    let snapshots = vec![snapshot_id(m)];
                    EncodedFact::of(&Fact::Forget(Forget { snapshots, reason: None }))
                }
                5 => EncodedFact::of(&Fact::Pin(Pin::Chain(chain.id(), chain.next()))),
                6 | 7 => EncodedFact::of(&Fact::Forget(Forget {
                    snapshots: vec![snapshot_id(m), snapshot_id(m + 1)],
                    reason: None,
                })),
                8 => EncodedFact::of(&Fact::Condemn(Packs { packs: vec![pack] })),
                9 | 10 => EncodedFact::of(&Fact::Deleted(Packs { packs: vec![pack] })),
                11 if dice.below(4) == 0 => EncodedFact::of(&Fact::Revoke(Revoke {
                    writer: repos[3].keys().writer_id().unwrap(),
                    from: world.now(),
                })),
                11 => EncodedFact::of(&Fact::Grace(Grace { seconds: u64::from(m) })),
                _ => EncodedFact { bytes: item::encode(&[chunk(m, 0)], 99, &[0x82, 1, 2]) },
            });
        }
        let deadline = match dice.below(5) {
            0 => None,
            1 => Some(UnixTime::new(world.now().seconds - 1, 0)),
            _ => Some(far(world)),
        };
        chain.publish(repo, facts, deadline).unwrap();
    }
    world.pass(2 * SKEW + 1);
}

/// What an index knows, a line each, by table, without the numbers of this machine.
fn dump(repo: &Repository) -> BTreeSet<String> {
    let tables = [
        "SELECT 'record', hex(id), receipt, hex(writer), hex(chain), number, hex(previous), late
         FROM record WHERE writer IS NOT NULL",
        "SELECT 'claim', hex(pack.id), hex(claim), kind, size, doomed, chunks, hex(frames),
             hex(writer), receipt, trusted, certified, hex(chain), claimant.number
         FROM pack JOIN claimant ON claimant.pack = pack.number",
        "SELECT 'chunk', hex(pack.id), hex(claim), hex(chunk.id), place, start, length
         FROM chunk JOIN pack ON pack.number = chunk.pack",
        "SELECT 'fate', hex(pack), condemned, deleted FROM fate",
        "SELECT 'revoked', hex(writer), since FROM revoked",
        "SELECT 'snapshot', hex(id), hex(record), receipt, hex(writer), late, hex(fact),
             hex(checksum) FROM snapshot",
        "SELECT 'forgotten', hex(snapshot) FROM forgotten",
        "SELECT 'pin', hex(record), place, receipt, hex(writer), late, hex(snapshot), hex(chain),
             number FROM pin",
        "SELECT 'fact', hex(record), place, receipt, hex(bytes) FROM fact",
    ];
    let db = rusqlite::Connection::open(repo.index().path()).unwrap();
    let mut lines = BTreeSet::new();
    for sql in tables {
        let mut statement = db.prepare(sql).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<String> = (0..columns)
                .map(|n| match row.get_ref(n).unwrap() {
                    rusqlite::types::ValueRef::Text(t) => String::from_utf8_lossy(t).into_owned(),
                    rusqlite::types::ValueRef::Integer(n) => n.to_string(),
                    _ => "-".to_owned(),
                })
                .collect();
            lines.insert(values.join(" "));
        }
    }
    lines
}

/// Whether the rules allow that a line is not known any more at `at`, by what was known.
fn may_go(repo: &Repository, line: &str, at: i64) -> bool {
    let db = rusqlite::Connection::open(repo.index().path()).unwrap();
    let (old, gone) = (at - GRACE, at - 4 * GRACE);
    let words: Vec<&str> = line.split(' ').collect();
    let yes = |sql: &str, by: i64| -> bool {
        db.query_row(sql, (words[1], by), |row| row.get::<_, i64>(0)).unwrap() > 0
    };
    match words[0] {
        "claim" | "chunk" => {
            yes("SELECT count(*) FROM fate WHERE hex(pack) = ?1 AND deleted <= ?2", at)
        }
        "fate" => yes("SELECT count(*) FROM fate WHERE hex(pack) = ?1 AND deleted <= ?2", gone),
        "snapshot" => {
            yes("SELECT ?2 > 0 AND count(*) FROM forgotten WHERE hex(snapshot) = ?1", at)
                && words[3].parse::<i64>().unwrap() <= old
                && !yes("SELECT count(*) FROM pin WHERE hex(snapshot) = ?1 AND receipt > ?2", old)
        }
        "forgotten" => {
            yes("SELECT count(*) FROM forgotten WHERE hex(snapshot) = ?1 AND receipt <= ?2", gone)
        }
        "pin" => words[3].parse::<i64>().unwrap() <= old,
        "record" => yes(
            "SELECT max(other.receipt) <= ?2 FROM record JOIN record AS other
                 ON other.chain = record.chain AND other.writer = record.writer
             WHERE hex(record.id) = ?1",
            gone,
        ),
        _ => false,
    }
}

/// Whatever the log says: a machine that learns it from checkpoints alone knows what one
/// knows that read every record, signers, receipts and lateness included, except for what
/// is over; and what is over does not come back.
#[test]
fn what_is_carried_on_is_what_was_said() {
    let mut parts = 0;
    let mut dropped = 0;
    for seed in 1..=4_u64 {
        let world = world(seed % 2 == 0);
        let mut dice = Dice(seed * 7_777_777);
        let reader = || {
            let fresh = world.fresh();
            let open = fresh.open();
            (fresh, open)
        };
        // The second half of the log is merged with the first checkpoint or beside it.
        random_log(&world, &mut dice, 40, 0..30);
        let original = world.memory.fork();
        let owner = world.repo.open();
        let done = world.compact(&owner, 1).unwrap();
        assert_eq!((done.records, done.checkpoints), (40, 0));
        dropped += done.facts_dropped;
        let half = world.now().seconds;
        world.pass(GRACE + 2 * SKEW + 1);
        assert_eq!(world.drop(&owner, false).objects, 40);
        let (_first, knows) = reader();
        compare(&original, &knows, half, &published(&owner));
        assert_eq!(chain_gaps(&knows).unwrap(), []);

        let count = if seed % 3 == 0 { 5 } else { 60 };
        random_log(&world, &mut dice, count, 20..50);
        for name in world.memory.keys() {
            let body = world.memory.get(&name, u64::MAX).unwrap();
            let receipt = receipt_of(&world.memory, &name);
            original.set_clock(Clock::from_fn(move || receipt));
            original.put_new(&name, body).unwrap();
        }
        let done = world.compact(&owner, 1).unwrap();
        assert_eq!(done.records, u64::from(count));
        let at = world.now().seconds;
        world.pass(GRACE + 2 * SKEW + 1);
        world.drop(&owner, false);
        let checkpoints = 2 - usize::try_from(done.checkpoints).unwrap();
        assert_eq!(world.log().len(), checkpoints);
        parts += 1 - done.checkpoints;
        let (_second, knows) = reader();
        compare(&original, &knows, at, &published(&owner));
        assert_eq!(chain_gaps(&knows).unwrap(), []);
        // The other way round: who knew the records learns nothing from the checkpoint.
        let before = dump(&owner);
        owner.rebuild().unwrap();
        assert!(dump(&owner).is_subset(&before), "nothing is doubled");
    }
    assert!(parts > 0 && parts < 4, "both beside each other and merged: {parts}");
    assert!(dropped > 50, "{dropped}");
}

/// Every checkpoint that a machine has heard of.
fn published(repo: &Repository) -> Vec<RecordId> {
    repo.index().checkpoints(false).unwrap().iter().map(|one| one.record).collect()
}

fn receipt_of(memory: &MemoryStore, name: &str) -> UnixTime {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let mut after = None;
    loop {
        let page = memory.list(&prefix, after.as_deref()).unwrap();
        if let Some(found) = page.objects.iter().find(|object| object.key == name) {
            return found.receipt;
        }
        after = page.objects.last().map(|object| object.key.clone());
    }
}

fn compare(original: &MemoryStore, knows: &Repository, at: i64, checkpoints: &[RecordId]) {
    let memory = original.fork();
    for name in original.keys() {
        // The originals alone: no checkpoint tells what is in them.
        if names::parse_record(&name).is_some_and(|(_, id)| checkpoints.contains(&id)) {
            memory.delete(&name).unwrap();
        }
    }
    let machine = TestRepo::from_elsewhere(Arc::new(memory));
    let read_all = machine.open();
    let (all, carried) = (dump(&read_all), dump(knows));
    for line in all.difference(&carried) {
        assert!(may_go(&read_all, line, at), "lost: {line:.300}");
    }
    // A checkpoint's own record and packs are new, and nothing else is.
    let db = rusqlite::Connection::open(knows.index().path()).unwrap();
    let mut own: BTreeSet<String> = BTreeSet::new();
    for id in checkpoints {
        let sql = "SELECT hex(record.id), hex(record.chain), hex(pack.id) FROM record
             JOIN claimant ON claimant.chain = record.chain
             JOIN pack ON pack.number = claimant.pack WHERE hex(record.id) = ?1";
        let mut statement = db.prepare(sql).unwrap();
        let mut rows = statement.query([hex::encode_upper(id.0)]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            own.extend((0..3).map(|n| row.get::<_, String>(n).unwrap()));
        }
    }
    assert!(!own.is_empty());
    for line in carried.difference(&all) {
        let word = line.split(' ').nth(1).unwrap();
        // Of what two facts condemned, one may be over.
        let over = line.starts_with("fate ") && may_go(&read_all, line, at);
        assert!(own.contains(word) || over, "invented: {line:.300}");
    }
}

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
