//! A log that somebody tampered with is told from one that nobody did, and each kind of
//! tampering by its name, with the record that it is about.

mod chains;
mod signers;

use std::fs;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use asof::base::{ChainId, Clock, Kind, Progress, RecordId, SnapshotId, Stop, UnixTime};
use asof::codec::hash::sha256;
use asof::codec::sign::SigningKey;
use asof::format::certificate::Certificate;
use asof::format::fact::{Fact, Forget, Pin, Revoke, Snapshot};
use asof::format::keyfile::Role;
use asof::format::names::{self, Hour};
use asof::format::node::{Entry, FileKind, Owner, Subtree};
use asof::format::record::{Body, Header, Record};
use asof::format::writerfile::WriterFile;
use asof::ops;
use asof::ops::gc::{GcOptions, gc};
use asof::ops::verify_log::{
    Finding, FindingKind, Severity, VerifyOptions, VerifyReport, verify_log,
};
use asof::repo::checkpoint::CompactOptions;
use asof::repo::keys::Credential;
use asof::repo::log::{Chain, EncodedFact};
use asof::repo::{Repository, keyring};
use asof::store::{self, Listed, MemoryStore, Page, Put, Store};
use bytes::Bytes;

use crate::fixture::{FAR, TestRepo, backup_into, create, names_in, noise, owner_key};

const START: i64 = 1_900_000_800;
const HOUR: i64 = 3600;
const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;
/// The grace period, and more than the skew.
const GRACE: i64 = 30 * DAY + 3 * HOUR;

/// A repository whose store and machines have one time, which the test moves.
struct World {
    memory: MemoryStore,
    time: Arc<AtomicI64>,
    /// The machine that verifies.
    repo: TestRepo,
}

/// The time of the store, and so much.
fn clock(time: &Arc<AtomicI64>, off: i64) -> Clock {
    let time = Arc::clone(time);
    Clock::from_fn(move || UnixTime::new(time.load(Ordering::SeqCst) + off, 0))
}

impl World {
    fn new(encrypted: bool) -> World {
        let time = Arc::new(AtomicI64::new(START));
        let memory = MemoryStore::with_clock(clock(&time, 0));
        let repo = create(Arc::new(memory.clone()), encrypted);
        World { memory, time, repo }
    }

    fn pass(&self, seconds: i64) {
        self.time.fetch_add(seconds, Ordering::SeqCst);
    }

    fn now(&self) -> UnixTime {
        UnixTime::new(self.time.load(Ordering::SeqCst), 0)
    }

    fn open_on(&self, machine: &TestRepo, credential: Credential, off: i64) -> Arc<Repository> {
        let (store, clock) = (Arc::clone(&machine.store), clock(&self.time, off));
        Arc::new(Repository::open(store, credential, &machine.local(), &clock).unwrap())
    }

    /// The owner, on the machine that verifies.
    fn owner(&self) -> Arc<Repository> {
        let open = self.open_on(&self.repo, owner_key(), 0);
        open.sync(false).unwrap();
        open
    }

    /// A machine of its own, with a key and a clock that is off by so much.
    fn machine(&self, credential: Credential, off: i64) -> (TestRepo, Arc<Repository>) {
        let machine = TestRepo::from_elsewhere(Arc::new(self.memory.clone()));
        let open = self.open_on(&machine, credential, off);
        (machine, open)
    }

    fn writer(&self, label: &str, sources: &[&str]) -> WriterFile {
        let sources = (!sources.is_empty()).then(|| sources.iter().map(|s| (*s).into()).collect());
        keyring::export_writer(&self.owner(), label, sources, true).unwrap()
    }

    /// The names in the log.
    fn log(&self) -> Vec<String> {
        names_in(&self.memory, "log/")
    }

    /// Runs `work`, and returns the names that are new in the log, in the order of receipts.
    fn new_names(&self, work: impl FnOnce()) -> Vec<String> {
        let before = self.log();
        work();
        let mut new = self.memory.list("log/", None).unwrap().objects;
        new.retain(|object| !before.contains(&object.key));
        new.sort_by_key(|object| object.receipt);
        new.into_iter().map(|object| object.key).collect()
    }

    /// A chain of so many records of somebody, some seconds apart. Returns their names.
    fn chain(&self, open: &Repository, records: u64) -> Vec<String> {
        self.new_names(|| {
            let mut chain = Chain::default();
            for n in 0..records {
                chain.publish(open, vec![pin(u8::try_from(n).unwrap())], FAR).unwrap();
                self.pass(10);
            }
        })
    }

    /// Puts a record under the hour that it is.
    fn put(&self, bytes: Vec<u8>) -> String {
        let name = names::record(Hour::of(self.now()), RecordId(sha256(&bytes)));
        self.memory.put_new(&name, bytes.into()).unwrap();
        name
    }

    fn take(&self, name: &str) -> Bytes {
        let bytes = self.memory.get(name, u64::MAX).unwrap();
        self.memory.delete(name).unwrap();
        bytes
    }

    fn try_verify(&self, options: VerifyOptions) -> ops::Result<VerifyReport> {
        verify_log(&self.owner(), options, &Progress::silent(), &Stop::new())
    }

    fn verify(&self) -> VerifyReport {
        self.try_verify(VerifyOptions::default()).unwrap()
    }

    /// By a machine that remembers nothing.
    fn verify_elsewhere(&self) -> VerifyReport {
        let (_machine, open) = self.machine(owner_key(), 0);
        verify_log(&open, VerifyOptions::default(), &Progress::silent(), &Stop::new()).unwrap()
    }

    /// The only finding, which is a problem of this kind about this object.
    #[track_caller]
    fn finds(&self, kind: FindingKind, object: &str) -> Finding {
        let report = self.verify();
        let told = problems(&report);
        assert_eq!(told, [(kind, Some(object.to_owned()))], "{:#?}", report.findings);
        report.findings.into_iter().next().unwrap()
    }
}

/// Kinds and objects of all findings, which must be problems.
fn problems(report: &VerifyReport) -> Vec<(FindingKind, Option<String>)> {
    assert_eq!(report.notices, 0, "{:#?}", report.findings);
    assert_eq!(report.problems, report.findings.len() as u64);
    report.findings.iter().map(|one| (one.kind, one.about.object.clone())).collect()
}

#[track_caller]
fn is_clean(report: &VerifyReport) {
    assert_eq!(report.findings, []);
    assert_eq!((report.problems, report.notices), (0, 0));
}

/// Nobody tampered. A machine that was idle for longer than its evidence lasts may have
/// published something too late, noticed that, and published it again.
#[track_caller]
fn is_honest(report: &VerifyReport) {
    let late = |one: &&Finding| one.kind != FindingKind::Late;
    assert_eq!(report.findings.iter().find(late), None);
    assert_eq!(report.problems, 0);
}

fn record_of(name: &str) -> RecordId {
    names::parse_record(name).unwrap().1
}

/// A fact that anybody may publish.
fn pin(n: u8) -> EncodedFact {
    EncodedFact::of(&Fact::Pin(Pin::Snapshot(SnapshotId([n; 16]))))
}

fn snapshot(source: &str, taken: UnixTime) -> EncodedFact {
    let root =
        Entry { subtree: Some(Subtree::default()), ..Entry::new(b"", FileKind::Dir, 0o755, taken) };
    let id = SnapshotId(sha256(source.as_bytes())[..16].try_into().unwrap());
    let one = Snapshot::new(id, source, root, Owner::default(), taken);
    let node = asof::base::ChunkId([9; 32]);
    EncodedFact { bytes: Fact::Snapshot(Box::new(one)).encode(&[node]) }
}

/// Where a record that is made by hand stands.
#[derive(Clone, Copy)]
struct Place {
    chain: ChainId,
    number: u64,
    previous: Option<RecordId>,
}

const FIRST: Place = Place { chain: ChainId([7; 16]), number: 0, previous: None };

/// A record of a repository without encryption, made by hand: it says that it is by
/// `writer`, and `signs` signs it.
fn record(
    world: &World,
    (writer, signs): (&SigningKey, &SigningKey),
    certificate: Option<Vec<u8>>,
    place: Place,
) -> Vec<u8> {
    let facts = vec![pin(1).bytes.into()];
    let body = Body {
        claimed: world.now(),
        certificate: certificate.map(Into::into),
        facts,
        deadline: FAR,
    };
    let plain = body.encode();
    let header = Header {
        repository: world.owner().config().repository,
        writer: writer.id(),
        chain: place.chain,
        number: place.number,
        previous: place.previous,
        body_len: plain.len() as u64,
    };
    let header_bytes = header.encode();
    let body = [&[0], plain.as_slice()].concat();
    Record { header, header_bytes, envelope: Vec::new(), body }.issue(signs)
}

fn owners_key(world: &World) -> SigningKey {
    world.owner().keys().owner().unwrap().clone()
}

/// Backups of several machines, one of which can only write, a collection that merges
/// the log into a checkpoint and drops what that covers, and more of it all: there is
/// nothing to find at any moment, whether or not it was looked at before.
#[test]
fn an_untouched_log_has_no_findings() {
    for encrypted in [true, false] {
        let world = World::new(encrypted);
        world.memory.set_page(3);
        let tree = tempfile::tempdir().unwrap();
        let (_web, web) =
            world.machine(Credential::Writer(Box::new(world.writer("web", &["web"]))), 30);
        let (_db, db) = world.machine(Credential::Writer(Box::new(world.writer("db", &[]))), -30);
        let silent = Arc::new(Progress::silent());
        let mut n = 0;
        let mut backups = || {
            for _ in 0..3 {
                fs::write(tree.path().join("a"), noise(n, 100)).unwrap();
                n += 1;
                for (source, open) in [("web", &web), ("db", &db), ("own", &world.owner())] {
                    backup_into(open, source, &[tree.path()], &silent).unwrap();
                    world.pass(HOUR);
                }
            }
            world.pass(3 * HOUR);
        };
        let collect = || {
            let compact = CompactOptions { records_min: 1 };
            let options = GcOptions { compact, ..GcOptions::default() };
            gc(&world.owner(), &options, &silent, &Stop::new()).unwrap()
        };
        is_clean(&world.verify());
        backups();
        let first = world.verify();
        is_clean(&first);
        assert_eq!(first.writers.len(), 3);
        assert_eq!((first.records_carried, first.heads.chains), (0, first.chains));
        for round in 0..4 {
            collect();
            is_honest(&world.verify());
            let before = world.log().len();
            world.pass(GRACE);
            collect();
            assert!(world.log().len() < before, "round {round}: records left the log");
            let report = world.verify();
            is_honest(&report);
            assert!(report.records_carried > 0);
            assert!(report.heads.since.is_some());
            is_honest(&world.verify_elsewhere());
            backups();
            is_honest(&world.verify());
        }
        // So long that chains which have nothing left to say are left out.
        for _ in 0..8 {
            let open = world.owner();
            let mut old: Vec<_> =
                open.snapshots().unwrap().iter().map(|info| info.snapshot.id).collect();
            old.truncate(old.len().saturating_sub(3));
            let forget = Fact::Forget(Forget { snapshots: old, reason: None });
            Chain::default().publish(&open, vec![EncodedFact::of(&forget)], None).unwrap();
            world.pass(GRACE);
            backups();
            collect();
            is_honest(&world.verify());
        }
        let report = world.verify();
        assert!(report.chains < 120, "{} chains are left of more", report.chains);
        let labels: Vec<_> = report.writers.iter().map(|one| one.label.as_deref()).collect();
        for label in [None, Some("web"), Some("db")] {
            assert!(labels.contains(&label), "{labels:?}");
        }
    }
}

#[test]
fn a_clock_that_is_a_year_behind_or_ahead_shows_beside_the_receipt() {
    for (off, kind) in [(-YEAR, FindingKind::ClockBehind), (YEAR, FindingKind::ClockAhead)] {
        let world = World::new(true);
        let (_machine, open) = world.machine(owner_key(), off);
        let names = world.chain(&open, 1);
        let found = world.finds(kind, &names[0]);
        assert_eq!(found.about.claimed, Some(UnixTime::new(START + off, 0)));
        assert_eq!(found.about.received, Some(UnixTime::new(START, 0)));
        assert!(found.what.contains("365d"), "{}", found.what);
    }
    // A record of now with a snapshot that was taken a year ago, it says.
    let world = World::new(true);
    let open = world.owner();
    let past = UnixTime::new(START - YEAR, 0);
    let names = world.new_names(|| {
        Chain::default().publish(&open, vec![snapshot("web", past)], FAR).unwrap();
    });
    let found = world.finds(FindingKind::ClockBehind, &names[0]);
    assert!(found.what.contains("a snapshot in it"), "{}", found.what);
}

/// A record that came after its deadline is no evidence, and no sign of tampering.
#[test]
fn what_came_too_late_is_a_notice() {
    let world = World::new(true);
    let open = world.owner();
    world.chain(&open, 1);
    let deadline = Some(UnixTime::new(START, 0));
    assert!(Chain::default().publish(&open, vec![pin(1)], deadline).unwrap().late);
    // Without a deadline nothing stands on it.
    Chain::default().publish(&open, vec![pin(2)], None).unwrap();
    let report = world.verify();
    assert_eq!((report.problems, report.notices), (0, 1));
    assert_eq!(report.findings[0].kind, FindingKind::Late);
}

/// A checkpoint is taken at its word only if what it carries is there.
#[test]
fn a_checkpoint_that_cannot_be_read_stands_for_nothing() {
    let world = World::new(true);
    let mut names = world.chain(&world.owner(), 2);
    world.pass(3 * HOUR);
    let packs = names_in(&world.memory, "packs/");
    let compact = CompactOptions { records_min: 1 };
    let options = GcOptions { compact, ..GcOptions::default() };
    let silent = Arc::new(Progress::silent());
    let points = world.new_names(|| {
        gc(&world.owner(), &options, &silent, &Stop::new()).unwrap();
    });
    is_clean(&world.verify());
    let new = names_in(&world.memory, "packs/").into_iter().find(|name| !packs.contains(name));
    let nodes = new.unwrap();
    let held = world.take(&nodes);
    world.finds(FindingKind::UnreadCheckpoint, &points[0]);
    // What it covers may leave the log while it can be read, and not else.
    let records: Vec<Bytes> = names.iter().map(|name| world.take(name)).collect();
    let report = world.verify();
    assert_eq!(report.kinds[&FindingKind::ChainGone], 1);
    world.memory.put_new(&nodes, held).unwrap();
    let report = world.verify();
    is_clean(&report);
    assert_eq!(report.records_carried, 2);
    // A record that is cut behind what a checkpoint covers is still missed.
    for (name, bytes) in names.iter().zip(records) {
        world.memory.put_new(name, bytes).unwrap();
    }
    let more = world.chain(&world.owner(), 2);
    is_clean(&world.verify());
    names.iter().for_each(|name| drop(world.take(name)));
    names = more;
    world.take(&names[1]);
    world.finds(FindingKind::Cut, &names[1]);
}

/// What the owner has merged is told of, and raises no alarm for ever.
#[test]
fn what_a_checkpoint_carries_is_a_notice_once_its_record_left_the_log() {
    let world = World::new(true);
    let file = world.writer("web", &["web"]);
    let id = file.key.id();
    let (_machine, open) = world.machine(Credential::Writer(Box::new(file)), 0);
    let forget = Fact::Forget(Forget { snapshots: vec![SnapshotId([1; 16])], reason: None });
    let names = world.new_names(|| {
        let facts = vec![snapshot("db", world.now()), EncodedFact::of(&forget)];
        Chain::default().publish(&open, facts, FAR).unwrap();
    });
    world.pass(HOUR);
    let revoke = Fact::Revoke(Revoke { writer: id, from: UnixTime::new(START, 0) });
    Chain::default().publish(&world.owner(), vec![EncodedFact::of(&revoke)], FAR).unwrap();
    let kinds = [FindingKind::Revoked, FindingKind::WrongRole, FindingKind::WrongSource];
    let report = world.verify();
    assert_eq!(report.kinds.keys().copied().collect::<Vec<_>>(), kinds);
    assert_eq!((report.problems, report.notices), (3, 0));
    world.pass(3 * HOUR);
    let compact = CompactOptions { records_min: 1 };
    let options = GcOptions { compact, exclusive: true, ..GcOptions::default() };
    gc(&world.owner(), &options, &Arc::new(Progress::silent()), &Stop::new()).unwrap();
    gc(&world.owner(), &options, &Arc::new(Progress::silent()), &Stop::new()).unwrap();
    assert!(!world.log().contains(&names[0]), "it left the log");
    let report = world.verify();
    assert_eq!(report.kinds.keys().copied().collect::<Vec<_>>(), kinds);
    assert_eq!((report.problems, report.notices), (0, 3), "{:#?}", report.findings);
    let about = &report.findings[0].about;
    assert_eq!((about.record, about.writer), (Some(record_of(&names[0])), Some(id)));
}

/// Hides an object from the first listings, as a store may whose listings lag.
struct Lagging {
    inner: MemoryStore,
    hidden: String,
    hides: AtomicBool,
}

impl Store for Lagging {
    fn put_new(&self, key: &str, body: Bytes) -> store::Result<Put> {
        self.inner.put_new(key, body)
    }

    fn get(&self, key: &str, limit: u64) -> store::Result<Bytes> {
        self.inner.get(key, limit)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> store::Result<Bytes> {
        self.inner.get_range(key, range)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> store::Result<Page> {
        let page = self.inner.list(prefix, after)?;
        let shown = |object: &Listed| object.key != self.hidden;
        Ok(match prefix == names::LOG && self.hides.swap(false, Ordering::SeqCst) {
            true => Page { objects: page.objects.into_iter().filter(shown).collect(), ..page },
            false => page,
        })
    }

    fn delete(&self, key: &str) -> store::Result<()> {
        self.inner.delete(key)
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}

#[test]
fn what_a_listing_missed_is_not_missing() {
    let world = World::new(true);
    let names = world.chain(&world.owner(), 3);
    is_clean(&world.verify());
    for hidden in [&names[0], &names[1], &names[2]] {
        let lagging = Lagging {
            inner: world.memory.clone(),
            hidden: hidden.clone(),
            hides: AtomicBool::new(true),
        };
        let store: Arc<dyn Store> = Arc::new(lagging);
        let clock = clock(&world.time, 0);
        // The machine that has seen all of them.
        let open = Repository::open(store, owner_key(), &world.repo.local(), &clock).unwrap();
        let options = VerifyOptions::default();
        let report = verify_log(&open, options, &Progress::silent(), &Stop::new()).unwrap();
        is_clean(&report);
        assert_eq!(report.records, 3);
    }
}

#[test]
fn every_record_is_listed_if_asked_for() {
    let world = World::new(true);
    let (_machine, open) =
        world.machine(Credential::Writer(Box::new(world.writer("web", &[]))), 60);
    let names = world.new_names(|| {
        Chain::default().publish(&open, vec![snapshot("web", world.now()), pin(1)], FAR).unwrap();
        world.pass(10);
        Chain::default().publish(&world.owner(), vec![pin(2)], FAR).unwrap();
    });
    assert_eq!(world.verify().log, None);
    let all = VerifyOptions { all: true, ..VerifyOptions::default() };
    let log = world.try_verify(all).unwrap().log.unwrap();
    let told: Vec<_> = log.iter().map(|row| row.about.object.clone().unwrap()).collect();
    assert_eq!(told, names);
    assert_eq!(log[0].about.claimed, Some(UnixTime::new(START + 60, 0)));
    assert_eq!(log[0].about.received, Some(UnixTime::new(START, 0)));
    assert_eq!(log[0].facts.iter().collect::<Vec<_>>(), [(&"pin", &1), (&"snapshot", &1)]);
    assert!(log[0].sources.contains("web"));
}

/// Whoever can read can verify; who only writes is told what is needed.
#[test]
fn a_key_that_reads_is_enough_and_needed() {
    let world = World::new(true);
    world.chain(&world.owner(), 2);
    let cost = asof::codec::passphrase::Cost::LEAST;
    keyring::add(&world.owner(), Role::Reader, "web team", b"only reads", cost).unwrap();
    let reader = Credential::Passphrase(b"only reads".to_vec().into());
    let (_machine, open) = world.machine(reader, 0);
    let verify = |open: &Repository| {
        verify_log(open, VerifyOptions::default(), &Progress::silent(), &Stop::new())
    };
    is_clean(&verify(&open).unwrap());
    let (_machine, open) = world.machine(Credential::Writer(Box::new(world.writer("web", &[]))), 0);
    let error = verify(&open).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains("--store-only"), "{error}");
}

/// What remembers the heads cannot be damaged to hide what was cut.
#[test]
fn damaged_heads_are_an_error_that_names_the_file() {
    let world = World::new(true);
    let names = world.chain(&world.owner(), 2);
    let file = world.verify().heads.file;
    let good = fs::read_to_string(&file).unwrap();
    world.take(&names[1]);
    for bad in [String::new(), good.replacen(" 1 log/", " 0 log/", 1), good[..90].to_owned()] {
        assert_ne!(bad, good);
        fs::write(&file, bad).unwrap();
        let error = world.try_verify(VerifyOptions::default()).unwrap_err();
        assert!(matches!(&error, ops::Error::Heads { .. }), "{error}");
        assert!(error.to_string().contains(&file), "{error}");
    }
    fs::write(&file, good).unwrap();
    world.finds(FindingKind::Cut, &names[1]);
    fs::write(&file, "").unwrap();
    let anew = VerifyOptions { new_heads: true, ..VerifyOptions::default() };
    is_clean(&world.try_verify(anew).unwrap());
    is_clean(&world.verify());
}
