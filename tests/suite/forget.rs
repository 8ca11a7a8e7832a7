//! `forget` on whole repositories: what it makes vanish, for whom, and what a stolen key,
//! a wrong clock and a copied store cannot make it do.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use asof::base::{Clock, Kind, Progress, SnapshotId, Stop, UnixTime};
use asof::format::fact::{Fact, Forget, Snapshot};
use asof::ops;
use asof::ops::backup::{BackupOptions, BackupReport, backup};
use asof::ops::forget::{ForgetOptions, ForgetReport, Policies, Policy, What, forget};
use asof::ops::select::select;
use asof::repo::keys::Credential;
use asof::repo::log::{Chain, EncodedFact};
use asof::repo::{Repository, keyring};
use asof::store::{MemoryStore, Store};
use asof::view::{Selector, Zone};

use crate::fixture::{FAR, TestRepo, create, names_in, owner_key};

const DAY: i64 = 86_400;
/// A noon.
const START: i64 = 1_750_334_400;

/// A repository whose store has a clock that the test sets, and a tree to back up.
struct World {
    memory: MemoryStore,
    time: Arc<AtomicI64>,
    tree: tempfile::TempDir,
    repo: TestRepo,
}

impl World {
    fn new() -> World {
        let time = Arc::new(AtomicI64::new(START));
        let memory = MemoryStore::with_clock(clock(&time, 0));
        let repo = create(Arc::new(memory.clone()), true);
        let tree = tempfile::tempdir().unwrap();
        std::fs::write(tree.path().join("file"), b"content").unwrap();
        World { memory, time, tree, repo }
    }

    fn at(&self, day: i64) {
        self.time.store(START + day * DAY, Ordering::SeqCst);
    }

    /// The repository, opened on `machine` whose clock is so many seconds ahead.
    fn open(&self, machine: &TestRepo, credential: Credential, ahead: i64) -> Arc<Repository> {
        let store = Arc::clone(&machine.store);
        let clock = clock(&self.time, ahead);
        Arc::new(Repository::open(store, credential, &machine.local(), &clock).unwrap())
    }

    fn owner_with(&self, ahead: i64) -> Arc<Repository> {
        self.open(&self.repo, owner_key(), ahead)
    }

    fn owner(&self) -> Arc<Repository> {
        self.owner_with(0)
    }

    /// A snapshot of source `s`.
    fn backup(&self, repo: &Arc<Repository>) -> SnapshotId {
        self.backup_with(repo, BackupOptions::default()).snapshot.unwrap()
    }

    fn backup_with(&self, repo: &Arc<Repository>, options: BackupOptions) -> BackupReport {
        if repo.keys().can_read() {
            repo.sync(true).unwrap();
        }
        let options = BackupOptions { source: "s".into(), ..options };
        let paths: Vec<PathBuf> = vec![self.tree.path().to_owned()];
        backup(repo, &paths, &options, &Progress::silent().into(), &Stop::new()).unwrap()
    }

    /// The snapshots that a machine which knew nothing shows.
    fn shown(&self) -> Vec<SnapshotId> {
        shown(&self.memory)
    }

    fn records(&self) -> usize {
        names_in(&self.memory, "log/").len()
    }
}

fn shown(memory: &MemoryStore) -> Vec<SnapshotId> {
    let other = TestRepo::from_elsewhere(Arc::new(memory.clone()));
    other.library().snapshots().unwrap().iter().map(|info| info.snapshot.id).collect()
}

fn clock(time: &Arc<AtomicI64>, ahead: i64) -> Clock {
    let time = Arc::clone(time);
    Clock::from_fn(move || UnixTime::new(time.load(Ordering::SeqCst) + ahead, 0))
}

fn options(what: What) -> ForgetOptions {
    ForgetOptions {
        what,
        sources: Vec::new(),
        by_taken: false,
        allow_empty: false,
        with_moments: false,
        dry_run: false,
        reason: Some("test".into()),
    }
}

fn keeping(policy: Policy) -> ForgetOptions {
    options(What::Policies(Policies { default: Some(policy), ..Policies::default() }))
}

fn naming(selectors: &[&str]) -> ForgetOptions {
    options(What::Named(selectors.iter().map(|text| text.parse().unwrap()).collect()))
}

fn daily(count: u32) -> Policy {
    Policy { daily: count.try_into().ok(), ..Policy::default() }
}

fn run(repo: &Repository, options: &ForgetOptions) -> ops::Result<ForgetReport> {
    repo.sync(true).unwrap();
    forget(repo, options, &Zone::utc())
}

fn reasons(report: &ForgetReport, id: SnapshotId) -> Vec<String> {
    let fate = report.snapshots.iter().find(|fate| fate.id == id);
    fate.unwrap_or_else(|| panic!("{id} in {report:?}")).reasons.clone()
}

#[test]
fn what_is_forgotten_is_gone_for_every_machine_and_the_rest_is_as_it_was() {
    let world = World::new();
    let owner = world.owner();
    let ids: Vec<SnapshotId> = (0..4)
        .map(|day| {
            world.at(day);
            world.backup(&owner)
        })
        .collect();
    let elsewhere = TestRepo::from_elsewhere(Arc::new(world.memory.clone()));
    assert_eq!(elsewhere.library().snapshots().unwrap().len(), 4);

    let dry = ForgetOptions { dry_run: true, ..keeping(daily(2)) };
    let report = run(&owner, &dry).unwrap();
    assert_eq!((report.kept, report.forgotten, world.shown().len()), (2, 2, 4));
    let report = run(&owner, &keeping(daily(2))).unwrap();
    assert_eq!((report.kept, report.forgotten, report.late), (2, 2, 0));
    assert_eq!(reasons(&report, ids[0]), ["no rule keeps it"]);
    assert_eq!(reasons(&report, ids[3]), ["daily 1 of 2"]);

    assert_eq!(world.shown(), ids[2..]);
    let library = elsewhere.library();
    assert_eq!(library.snapshots().unwrap().len(), 2, "also where they were known");
    let selector: Selector = format!("id:{}", ids[0]).parse().unwrap();
    let now = UnixTime::new(START + 9 * DAY, 0);
    let error = select(library.as_ref(), &selector, &Zone::utc(), now).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    // The time that it stood for is before the first now.
    let selector: Selector = format!("s@@{}:/file", START + DAY).parse().unwrap();
    assert!(select(library.as_ref(), &selector, &Zone::utc(), now).is_err());
    let out = tempfile::tempdir().unwrap();
    elsewhere.restore("s", out.path());
    assert_eq!(std::fs::read(out.path().join("file")).unwrap(), b"content");
    // A second run finds nothing to do, and says nothing to the log.
    let records = world.records();
    assert_eq!(run(&owner, &keeping(daily(2))).unwrap().forgotten, 0);
    assert_eq!(world.records(), records);
}

#[test]
fn what_is_named_is_forgotten_and_what_could_mean_too_much_is_refused() {
    let world = World::new();
    let owner = world.owner();
    let first = world.backup(&owner);
    world.at(1);
    let second = world.backup(&owner);
    let by_id = format!("id:{second}");
    for (selector, part) in [
        ("s", "--source s and what to keep"),
        ("latest", &by_id[..11]),
        (&format!("{by_id}:/file"), "leave out the path"),
        ("id:ffffffffffffffffffffffffffffffff", "no snapshot has an id"),
        ("t@2025", "no source is called t"),
    ] {
        let error = run(&owner, &naming(&[selector])).unwrap_err();
        assert!(error.to_string().contains(part), "{selector}: {error}");
        // One that is wrong keeps all from being forgotten.
        assert!(run(&owner, &naming(&[&by_id, selector])).is_err());
    }
    assert_eq!(world.shown().len(), 2);
    let report = run(&owner, &naming(&[&by_id, "s@2025-12-31", &by_id])).unwrap();
    assert_eq!((report.forgotten, reasons(&report, second)), (1, vec!["named".into()]));
    assert_eq!(world.shown(), [first]);
}

/// A thief who has a writer's key floods its source: the owner's snapshots of the same
/// source stay, and of the machine's own those of the days before.
#[test]
fn a_flood_pushes_nothing_out() {
    let world = World::new();
    let owner = world.owner();
    owner.sync(true).unwrap();
    let file = keyring::export_writer(&owner, "web1", None, false).unwrap();
    let credential = || Credential::Writer(Box::new(file.clone()));
    let machine = TestRepo::from_elsewhere(Arc::new(world.memory.clone()));
    let writer = world.open(&machine, credential(), 0);
    let mut owners = Vec::new();
    let mut machines = Vec::new();
    for day in 0..3 {
        world.at(day);
        owners.push(world.backup(&owner));
        machines.push(world.backup(&writer));
    }
    owner.sync(true).unwrap();
    let info = owner.snapshots().unwrap().iter().find(|i| i.snapshot.id == machines[0]).cloned();
    let info = info.unwrap();
    let one = |n: u64| {
        let mut id = [9; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        let snapshot = Snapshot { id: SnapshotId(id), ..info.snapshot.clone() };
        let taken = UnixTime::new(START + 3 * DAY, 0);
        let snapshot = Snapshot { taken, ..snapshot };
        EncodedFact { bytes: Fact::Snapshot(Box::new(snapshot)).encode(&info.refs) }
    };
    world.at(3);
    Chain::default().publish(&writer, (0..10_050).map(one).collect(), FAR).unwrap();

    let records = world.records();
    let policy = Policy { last: 3.try_into().ok(), ..daily(3) };
    let report = run(&owner, &keeping(policy)).unwrap();
    assert_eq!(report.forgotten, 10_050 - 3 + 1);
    assert_eq!(world.records(), records + 2, "a record forgets ten thousand");
    let shown = world.shown();
    assert!(owners.iter().all(|id| shown.contains(id)));
    assert!(machines[1..].iter().all(|id| shown.contains(id)));
}

/// Snapshots that claim days that are over take none of their places.
#[test]
fn a_forged_time_takes_no_place() {
    let world = World::new();
    let owner = world.owner();
    let mut honest = Vec::new();
    for day in 0..4 {
        world.at(day);
        honest.push(world.backup(&owner));
    }
    // The same key, on a clock that is behind: the evening of each of those days.
    let mut forged = Vec::new();
    for day in 0..3 {
        let behind = world.owner_with((day - 3) * DAY + 8 * 3600);
        forged.push(world.backup(&behind));
    }
    let report = run(&owner, &ForgetOptions { dry_run: true, ..keeping(daily(3)) }).unwrap();
    let kept = |id| !report.snapshots.iter().any(|fate| fate.id == id && fate.forget);
    assert_eq!(honest.iter().map(|id| kept(*id)).collect::<Vec<_>>(), [false, true, true, true]);
    assert_eq!(report.late, 2);
    assert_eq!(reasons(&report, forged[0]), ["received 2d 16h after it was taken"]);
    assert_eq!(reasons(&report, forged[2]), ["no rule keeps it"], "received on day 3");
    // A clock that is ahead gains nothing either.
    world.time.fetch_add(60, Ordering::SeqCst);
    let ahead = world.backup(&world.owner_with(300 * DAY));
    let report = run(&owner, &keeping(daily(3))).unwrap();
    assert_eq!(reasons(&report, ahead), ["daily 1 of 3"]);
    assert_eq!(reasons(&report, honest[2]), ["daily 2 of 3"]);
    assert_eq!(reasons(&report, honest[1]), ["daily 3 of 3"]);
}

/// In a copy every receipt is new. A policy forgets nothing of it until it is told to
/// go by the times that snapshots claim.
#[test]
fn a_copied_store_is_not_forgotten() {
    let world = World::new();
    let owner = world.owner();
    let ids: Vec<SnapshotId> = (0..5)
        .map(|day| {
            world.at(day);
            world.backup(&owner)
        })
        .collect();
    world.at(30);
    let copy = MemoryStore::with_clock(clock(&world.time, 0));
    for key in world.memory.keys() {
        copy.put_new(&key, world.memory.get(&key, u64::MAX).unwrap()).unwrap();
    }
    let machine = TestRepo::from_elsewhere(Arc::new(copy.clone()));
    let owner = world.open(&machine, owner_key(), 0);
    let report = run(&owner, &keeping(daily(2))).unwrap();
    assert_eq!((report.kept, report.forgotten, report.late), (5, 0, 5));
    let by_taken = ForgetOptions { by_taken: true, ..keeping(daily(2)) };
    let report = run(&owner, &by_taken).unwrap();
    assert_eq!((report.kept, report.forgotten, report.late), (2, 3, 0));
    assert_eq!(shown(&copy), ids[3..]);
}

#[test]
fn only_the_owner_forgets() {
    let world = World::new();
    let owner = world.owner();
    let id = world.backup(&owner);
    let file = keyring::export_writer(&owner, "web1", None, true).unwrap();
    let machine = TestRepo::from_elsewhere(Arc::new(world.memory.clone()));
    let writer = world.open(&machine, Credential::Writer(Box::new(file)), 0);
    let records = world.records();
    let error = forget(&writer, &naming(&["s@2030"]), &Zone::utc()).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains("owner"), "{error}");
    assert_eq!(world.records(), records);
    // Saying so all the same convinces nobody.
    let fact = Fact::Forget(Forget { snapshots: vec![id], reason: None });
    Chain::default().publish(&writer, vec![EncodedFact::of(&fact)], FAR).unwrap();
    assert_eq!(world.shown(), [id]);
}

#[test]
fn what_would_leave_nothing_is_refused_and_the_newest_is_kept() {
    let world = World::new();
    let owner = world.owner();
    let tagged = BackupOptions { tags: vec!["keep".into()], ..BackupOptions::default() };
    let old = world.backup_with(&owner, tagged).snapshot.unwrap();
    world.at(1);
    let middle = world.backup(&owner);
    world.at(2);
    let newest = world.backup(&owner);
    let tag = |tag: &str| Policy { tags: vec![tag.into()], ..Policy::default() };
    let records = world.records();
    let error = run(&owner, &keeping(tag("kepe"))).unwrap_err();
    assert!(error.to_string().contains("no rule keeps a snapshot of s"), "{error}");
    let policy = Policy { ids: vec!["00000000000".parse().unwrap()], ..daily(1) };
    assert_eq!(run(&owner, &keeping(policy)).unwrap_err().kind(), Kind::NotFound);
    let minutes = Policy { within: Some(Duration::from_secs(360)), ..Policy::default() };
    let error = run(&owner, &keeping(minutes)).unwrap_err();
    assert!(error.to_string().contains("m are minutes"), "{error}");
    let error = run(&owner, &options(What::Policies(Policies::default()))).unwrap_err();
    assert!(error.to_string().contains("--keep-daily"), "{error}");
    let nowhere = ForgetOptions { sources: vec!["t".into()], ..keeping(daily(1)) };
    assert_eq!(run(&owner, &nowhere).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(world.records(), records, "nothing was published");

    // Another source's rules leave this one alone.
    let sources = [("t".to_owned(), daily(1))].into();
    let others = options(What::Policies(Policies { default: None, sources }));
    let report = run(&owner, &others).unwrap();
    assert_eq!((report.forgotten, reasons(&report, old)), (0, vec!["no policy".into()]));

    let report = run(&owner, &keeping(tag("keep"))).unwrap();
    assert_eq!(reasons(&report, newest), ["newest"]);
    assert_eq!(reasons(&report, middle), ["no rule keeps it"]);
    assert_eq!(world.shown(), [old, newest]);
    let all = ForgetOptions { allow_empty: true, ..keeping(tag("none")) };
    assert_eq!(run(&owner, &all).unwrap().forgotten, 2);
    assert_eq!(world.shown(), []);
}

/// What is kept only because it came late is no sign that the rules are what was meant.
#[test]
fn a_late_snapshot_does_not_excuse_rules_that_keep_nothing() {
    let world = World::new();
    let owner = world.owner();
    world.at(5);
    world.backup(&world.owner_with(-4 * DAY));
    let ids = [6, 7].map(|day| {
        world.at(day);
        world.backup(&owner)
    });
    let tag = |tag: &str| Policy { tags: vec![tag.into()], ..Policy::default() };
    let error = run(&owner, &keeping(tag("kepe"))).unwrap_err();
    assert!(error.to_string().contains("no rule keeps a snapshot of s"), "{error}");
    // Where nothing would go there is nothing to refuse, and nobody is told to trust it.
    let other = Policies { default: None, sources: [("t".to_owned(), tag("x"))].into() };
    let report = run(&owner, &options(What::Policies(other))).unwrap();
    assert_eq!((report.forgotten, report.late), (0, 0), "no policy keeps it, not its lateness");
    let report = run(&owner, &keeping(daily(1))).unwrap();
    assert_eq!((report.forgotten, report.late), (1, 1));
    assert_eq!(reasons(&report, ids[1]), ["daily 1 of 1"]);
}

/// Neither a clock that is ahead nor a store that is makes anything expire early, and
/// what expired goes whatever the rules say, unless a tag or an id holds it.
#[test]
fn what_expired_is_forgotten_when_both_clocks_say_so() {
    let world = World::new();
    let owner = world.owner();
    let end = UnixTime::new(START + 10 * DAY, 0);
    let expiring = |tag: &str| BackupOptions {
        expires: Some(end),
        tags: vec![tag.into()],
        ..BackupOptions::default()
    };
    let held = world.backup_with(&owner, expiring("held")).snapshot.unwrap();
    world.at(1);
    let expired = world.backup_with(&owner, expiring("x")).snapshot.unwrap();
    let policy = || Policy { tags: vec!["held".into()], ..daily(9) };

    let ahead = world.owner_with(20 * DAY);
    assert_eq!(run(&ahead, &keeping(policy())).unwrap().forgotten, 0);
    // Without a rule only what expires is looked for.
    let no_rule = options(What::Policies(Policies::default()));
    assert_eq!(run(&ahead, &no_rule).unwrap().forgotten, 0);
    world.at(12);
    // The log says nothing newer than day 1.
    assert_eq!(run(&owner, &keeping(policy())).unwrap().forgotten, 0);
    let stays = world.backup(&owner);
    let behind = world.owner_with(-5 * DAY);
    assert_eq!(run(&behind, &keeping(policy())).unwrap().forgotten, 0);
    let report = run(&owner, &keeping(policy())).unwrap();
    assert_eq!((report.forgotten, reasons(&report, expired)), (1, vec!["expired".into()]));
    assert_eq!(reasons(&report, held), ["tag held"]);
    assert_eq!(world.shown(), [held, stays]);
    // What expires may be all that a source has: that was said when it was backed up.
    assert_eq!(run(&owner, &naming(&[&format!("id:{stays}")])).unwrap().forgotten, 1);
    assert_eq!(run(&owner, &no_rule).unwrap().forgotten, 1);
    assert_eq!(world.shown(), []);
}

/// "Nothing changed" is no reason to have no snapshot.
#[test]
fn a_backup_is_not_left_out_for_one_that_is_forgotten_or_expires() {
    let world = World::new();
    let owner = world.owner();
    let plain = || BackupOptions { skip_if_unchanged: true, ..BackupOptions::default() };
    let expires =
        |day| BackupOptions { expires: Some(UnixTime::new(START + day * DAY, 0)), ..plain() };
    assert!(world.backup_with(&owner, expires(5)).snapshot.is_some());
    assert!(world.backup_with(&owner, expires(6)).snapshot.is_some());
    assert_eq!(world.backup_with(&owner, expires(6)).snapshot, None, "it is there");
    let stays = world.backup_with(&owner, plain()).snapshot.unwrap();
    assert_eq!(world.backup_with(&owner, plain()).snapshot, None);
    run(&owner, &naming(&[&format!("id:{stays}")])).unwrap();
    assert!(world.backup_with(&owner, plain()).snapshot.is_some());
    assert_eq!(world.backup_with(&owner, plain()).snapshot, None);
}
