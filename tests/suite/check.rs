//! `check`: what it reads, what it remembers, and what it does not take for damage. What
//! it finds is in `damage`.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use asof::base::{ChainId, Clock, Kind, PackId, Progress, RecordId, SnapshotId, Stop, UnixTime};
use asof::codec::hash::{ChunkKind, sha256};
use asof::format::fact::{Fact, Links, Snapshot};
use asof::format::names;
use asof::format::node::{LinkGroup, LinkId};
use asof::format::record::{Body, Header, Record};
use asof::ops::backup::{BackupOptions, backup};
use asof::ops::check::{CheckOptions, CheckReport, Part, check, check_store};
use asof::repo::Repository;
use asof::repo::keyring;
use asof::repo::keys::Credential;
use asof::repo::log::{Chain, EncodedFact, read_facts};
use asof::repo::packer::open_pack;
use asof::store::fault::{Action, Fault, Moment};
use asof::store::{self, Call, FaultStore, MemoryStore, Store};

use crate::damage::READ_DATA;
use crate::fixture::{TestRepo, create, differences, names_in, noise, owner_key};

fn run(repo: &TestRepo, options: CheckOptions) -> CheckReport {
    check(&repo.open(), options, &Progress::silent(), &Stop::new()).unwrap()
}

fn whole(report: &CheckReport) {
    assert_eq!(report.damaged_objects, 0, "{report:#?}");
}

fn packs(store: &MemoryStore) -> Vec<String> {
    names_in(store, "packs/")
}

/// A repository with a data pack and a node pack for each of some sources.
fn with_packs(sources: u32) -> (MemoryStore, TestRepo) {
    let memory = MemoryStore::new();
    let repo = create(Arc::new(memory.clone()), true);
    for n in 0..sources {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), noise(n, 1000)).unwrap();
        repo.backup(&format!("s{n}"), dir.path());
    }
    (memory, repo)
}

const LATELY: Option<Duration> = Some(Duration::from_secs(3600));

/// A run that was interrupted goes on where it stopped, and what turns out to be damaged
/// is read again.
#[test]
fn what_was_found_whole_lately_can_be_left_out() {
    let (memory, repo) = with_packs(4);
    let lately = CheckOptions { max_age: LATELY, ..READ_DATA };
    let faults = FaultStore::new(Arc::new(memory.clone()));
    let failing = TestRepo::from_elsewhere(Arc::new(faults.clone()));
    let open = failing.open();
    faults.fail_next(Call::Get, names::PACKS);
    let error = check(&open, READ_DATA, &Progress::silent(), &Stop::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let report = run(&failing, lately);
    whole(&report);
    assert_eq!((report.packs_read, report.packs_verified_lately), (1, 7));
    let report = run(&failing, lately);
    assert_eq!((report.packs_read, report.packs_verified_lately), (0, 8));
    assert_eq!(run(&failing, READ_DATA).packs_read, 8, "all, if nobody says otherwise");

    let victim = packs(&memory).remove(3);
    let good = memory.get(&victim, u64::MAX).unwrap();
    memory.corrupt(&victim, |bytes| bytes[60] ^= 1);
    assert_eq!(run(&failing, READ_DATA).damaged[0].object, victim);
    memory.corrupt(&victim, |bytes| *bytes = good.to_vec());
    let report = run(&failing, lately);
    assert_eq!((report.packs_read, report.packs_verified_lately), (1, 7));
    whole(&report);
    // Another machine has read none.
    assert_eq!(run(&repo, lately).packs_read, 8);
}

/// A store whose listings leave out what was put lately, as some may.
struct Lagging {
    store: MemoryStore,
    hidden: HashSet<String>,
}

impl Store for Lagging {
    fn put_new(&self, key: &str, body: bytes::Bytes) -> store::Result<store::Put> {
        self.store.put_new(key, body)
    }
    fn get(&self, key: &str, limit: u64) -> store::Result<bytes::Bytes> {
        self.store.get(key, limit)
    }
    fn get_range(&self, key: &str, range: std::ops::Range<u64>) -> store::Result<bytes::Bytes> {
        self.store.get_range(key, range)
    }
    fn list(&self, prefix: &str, after: Option<&str>) -> store::Result<store::Page> {
        let mut page = self.store.list(prefix, after)?;
        page.objects.retain(|object| !self.hidden.contains(&object.key));
        Ok(page)
    }
    fn delete(&self, key: &str) -> store::Result<()> {
        self.store.delete(key)
    }
    fn location(&self) -> String {
        self.store.location()
    }
}

/// What a listing may still miss is asked for by name before it is called missing.
#[test]
fn a_listing_that_lags_is_no_damage() {
    let (memory, repo) = with_packs(1);
    let before: HashSet<String> = memory.keys().into_iter().collect();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), noise(7, 1000)).unwrap();
    repo.backup("late", dir.path());
    let hidden = memory.keys().into_iter().filter(|key| !before.contains(key)).collect();
    let lagging = Lagging { store: memory.clone(), hidden };
    // The index of the machine that made the backup.
    let same = TestRepo { store: Arc::new(lagging), cache: repo.cache };
    let open = same.open_with(owner_key()).unwrap();
    let run = || check(&open, READ_DATA, &Progress::silent(), &Stop::new()).unwrap();
    let report = run();
    whole(&report);
    assert_eq!((report.packs, report.packs_read), (4, 4));
    for key in packs(&memory).iter().filter(|key| !before.contains(*key)) {
        memory.delete(key).unwrap();
    }
    assert!(run().damaged_objects > 0, "what is gone is told");
}

/// Whoever removes a key may do so while a check runs.
#[test]
fn a_key_that_is_removed_meanwhile_is_no_damage() {
    let (memory, _repo) = with_packs(1);
    let faults = FaultStore::new(Arc::new(memory));
    let repo = TestRepo::from_elsewhere(Arc::new(faults.clone()));
    let open = repo.open();
    faults.add(Fault {
        call: Some(Call::Get),
        prefix: names::KEYS.into(),
        skip: 0,
        times: 1,
        action: Action::Fail(Kind::NotFound, Moment::Before),
    });
    whole(&check(&open, CheckOptions::default(), &Progress::silent(), &Stop::new()).unwrap());
}

#[test]
fn parts_read_everything_once() {
    let (_memory, repo) = with_packs(6);
    let part = |part| CheckOptions { part: Some(part), ..READ_DATA };
    let read = |part_of| run(&repo, part(part_of)).packs_read;
    let thirds = (0..3).map(|n| read(Part::OneOf { part: n, of: 3 }));
    assert_eq!(thirds.sum::<u64>(), 12);
    let other = TestRepo::from_elsewhere(Arc::clone(&repo.store));
    let lately = CheckOptions { max_age: LATELY, ..READ_DATA };
    // What was read longest ago comes first, and never comes before all.
    for (share, read, left) in [(2500, 3, 9), (5000, 6, 3), (100, 1, 2), (2500, 3, 0)] {
        assert_eq!(run(&other, part(Part::Share(share))).packs_read, read);
        let open = other.open();
        let survey = open.index().survey().unwrap();
        for name in packs(&_memory) {
            survey.want_pack(&names::parse_pack(&name).unwrap(), 1).unwrap();
        }
        let now = Clock::system().now().seconds;
        assert_eq!(survey.choose_packs(Some(0), now, None).unwrap().0.count, left);
    }
    assert_eq!(run(&other, lately).packs_verified_lately, 12);
}

#[test]
fn what_nobody_needs_is_told_and_is_no_damage() {
    let (memory, repo) = with_packs(1);
    memory.put_new("log/x", b"x".to_vec().into()).unwrap();
    memory.put_new("packs/stray", b"x".to_vec().into()).unwrap();
    let orphan = noise(9, 10);
    memory.put_new(&names::pack(PackId(sha256(&orphan))), orphan.into()).unwrap();
    memory.put_new("README", b"x".to_vec().into()).unwrap();
    let open = repo.open();
    let mut fact = pack_fact(&memory, &open);
    // Frames that lie elsewhere than in truth, and a pack that never was.
    fact.directory.frames.iter_mut().for_each(|frame| frame.offset += 1);
    let shifted = EncodedFact::of(&Fact::Pack(Box::new(fact.clone())));
    fact.size += 1;
    let longer = EncodedFact::of(&Fact::Pack(Box::new(fact.clone())));
    fact.id = PackId([7; 32]);
    let invented = EncodedFact::of(&Fact::Pack(Box::new(fact)));
    publish(&open, vec![shifted, longer, invented]);
    memory.delete("log/x").unwrap();

    let report = run(&repo, READ_DATA);
    whole(&report);
    assert_eq!((report.orphans, report.orphan_bytes, report.packs), (1, 320, 2));
    let remarks = report.remarks.join("\n");
    assert!(remarks.contains("packs/stray: it has no name that a pack can have"), "{remarks}");
    assert!(remarks.contains("it is not in the store; nothing that a snapshot needs"), "{remarks}");
    assert!(remarks.contains("its size is claimed falsely as well"), "{remarks}");

    let alone = check_store(&memory, &Progress::silent(), &Stop::new()).unwrap();
    assert_eq!((alone.damaged_objects, alone.strays), (0, 2));
    assert_eq!(alone.stray_names, ["README", "packs/stray"]);
    assert_eq!((alone.packs, alone.records, alone.keys), (3, 2, 1));
    let key = memory.keys().into_iter().find(|name| name.starts_with("keys/")).unwrap();
    memory.delete(&key).unwrap();
    let alone = check_store(&memory, &Progress::silent(), &Stop::new()).unwrap();
    assert_eq!(alone.damaged[0].subject, "keys/");
}

fn pack_fact(store: &MemoryStore, open: &Repository) -> asof::format::pack::PackFact {
    let bytes = packs(store).iter().find_map(|name| {
        let bytes = store.get(name, u64::MAX).unwrap();
        (bytes.len() > 10_000).then_some(bytes)
    });
    let bytes = bytes.unwrap();
    let (id, repository) = (PackId(sha256(&bytes)), open.config().repository);
    open_pack(id, &bytes, repository, open.keys().reader.as_ref(), None).unwrap()
}

fn publish(open: &Repository, facts: Vec<EncodedFact>) {
    let deadline = Clock::system().now().plus(Duration::from_secs(9999));
    Chain::default().publish(open, facts, Some(deadline)).unwrap();
}

/// A signer that lies about its own snapshot, and chains that do not fit together.
#[test]
fn what_contradicts_itself_is_damage() {
    let memory = MemoryStore::new();
    let repo = create(Arc::new(memory.clone()), false);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), "a").unwrap();
    fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
    repo.backup("s", dir.path());
    let open = repo.open();
    let record = memory.keys().into_iter().find(|name| name.starts_with("log/")).unwrap();
    let id = names::parse_record(&record).unwrap().1;
    let facts = read_facts(&open, id, &record).unwrap();
    let (refs, snapshot) = facts
        .iter()
        .find_map(|bytes| match Fact::decode(bytes).unwrap() {
            (refs, Fact::Snapshot(snapshot)) => Some((refs, *snapshot)),
            _ => None,
        })
        .unwrap();
    type Lie = fn(&mut Snapshot);
    let lies: [(Lie, &str); 4] = [
        (|s| s.root.subtree.as_mut().unwrap().bytes += 1, "other counts than there are"),
        (|s| s.links = Links::Inline(Vec::new()), "its table of files with several names"),
        (
            |s| {
                let Links::Inline(groups) = &mut s.links else { panic!() };
                groups[0].first += 1;
            },
            "its table of files with several names",
        ),
        (
            |s| {
                let Links::Inline(groups) = &mut s.links else { panic!() };
                let id = LinkId { device: 9, inode: 9 };
                groups.push(LinkGroup { id, first: 1, count: 2 });
            },
            "its table of files with several names",
        ),
    ];
    for (number, (lie, why)) in lies.into_iter().enumerate() {
        let mut false_one = snapshot.clone();
        false_one.id = SnapshotId([u8::try_from(number).unwrap() + 1; 16]);
        lie(&mut false_one);
        let name = format!("snapshot {} of s", false_one.id);
        let bytes = Fact::Snapshot(Box::new(false_one)).encode(&refs);
        publish(&open, vec![EncodedFact { bytes }]);
        let report = run(&repo, CheckOptions::default());
        assert_eq!(report.damaged_objects, number as u64 + 1, "{report:#?}");
        let found = report.damaged.iter().find(|damaged| damaged.object == name).unwrap();
        assert!(found.why.contains(why), "{found:?}");
        assert_eq!(found.sources[0].snapshots, 1);
    }
    let before = run(&repo, CheckOptions::default());
    forge(&memory, &open, 0, None);
    forge(&memory, &open, 1, Some(RecordId([1; 32])));
    let report = run(&repo, CheckOptions::default());
    assert_eq!(report.damaged_objects, before.damaged_objects + 1);
    let severed = report.damaged.iter().find(|damaged| damaged.object.starts_with("chain"));
    assert!(severed.unwrap().why.contains("does not follow the one before it"));
    forge(&memory, &open, 1, Some(RecordId([2; 32])));
    let report = run(&repo, CheckOptions::default());
    assert!(report.remarks.iter().any(|r| r.contains("2 records of number 1")), "{report:#?}");
}

/// A record of the owner's with a place in a chain of one's choice.
fn forge(store: &MemoryStore, open: &Repository, number: u64, previous: Option<RecordId>) {
    let body = Body { claimed: UnixTime::EPOCH, certificate: None, facts: vec![], deadline: None };
    let plain = body.encode();
    let key = open.keys().signing().unwrap();
    let header = Header {
        repository: open.config().repository,
        writer: key.id(),
        chain: ChainId([9; 16]),
        number,
        previous,
        body_len: plain.len() as u64,
    };
    let header_bytes = header.encode();
    let body = [&[0], plain.as_slice()].concat();
    let bytes = Record { header, header_bytes, envelope: Vec::new(), body }.issue(key);
    let hour = names::Hour::of(Clock::system().now());
    store.put_new(&names::record(hour, RecordId(sha256(&bytes))), bytes.into()).unwrap();
}

/// Long directories and files of many extents are trees of nodes.
#[test]
fn long_directories_and_files_are_gone_through_and_named() {
    let memory = MemoryStore::new();
    let repo = create(Arc::new(memory.clone()), true);
    let dir = tempfile::tempdir().unwrap();
    let many = dir.path().join("many/deep");
    fs::create_dir_all(&many).unwrap();
    for n in 0..3000 {
        fs::write(many.join(format!("f{n:04}")), format!("{n}")).unwrap();
    }
    fs::hard_link(many.join("f0001"), many.join("f2999-again")).unwrap();
    let holey = fs::File::create(dir.path().join("holey")).unwrap();
    for n in 0..1200_u64 {
        holey.write_all_at(&noise(u32::try_from(n).unwrap(), 128), n * 8192).unwrap();
    }
    repo.backup("s", dir.path());
    let report = run(&repo, CheckOptions::default());
    whole(&report);
    assert!(report.nodes > 8, "{report:?}");
    for name in packs(&memory) {
        let good = memory.get(&name, u64::MAX).unwrap();
        memory.delete(&name).unwrap();
        let report = run(&repo, CheckOptions::default());
        assert_eq!(report.damaged.len(), 1, "{report:#?}");
        assert_eq!(report.damaged[0].object, name);
        let files = &report.damaged[0].files;
        assert!(files == &["s:/"] || files == &["s:/holey"], "{files:?}");
        memory.put_new(&name, good).unwrap();
    }
    whole(&run(&repo, CheckOptions::default()));
}

/// What is lost and still in the source is stored again by the next backup that reads
/// everything, and earlier snapshots have it back.
#[test]
fn a_backup_after_a_check_mends_what_it_found() {
    for (delete, victim) in [(true, 0), (true, 1), (false, 0), (false, 1)] {
        let (memory, repo, dir) = one_file();
        let name = packs(&memory).remove(victim);
        let good = memory.get(&name, u64::MAX).unwrap();
        let lost = good.len() as u64 / 2;
        match delete {
            true => memory.delete(&name).unwrap(),
            false => assert!(memory.corrupt(&name, |bytes| bytes.iter_mut().for_each(|b| *b ^= 1))),
        }
        let report = run(&repo, READ_DATA);
        assert_eq!(report.snapshots_damaged, 1, "{report:#?}");
        assert!(force(&repo, dir.path()) > lost);
        let report = run(&repo, READ_DATA);
        assert_eq!((report.snapshots, report.snapshots_damaged), (2, 0), "{report:#?}");
        assert_eq!(report.damaged_objects, u64::from(!delete), "{report:#?}");
        let fresh = TestRepo::from_elsewhere(Arc::new(memory.clone()));
        for info in fresh.library().snapshots().unwrap() {
            let out = tempfile::tempdir().unwrap();
            fresh.restore(&format!("id:{}", info.snapshot.id), out.path());
            assert_eq!(differences(dir.path(), out.path()), "");
        }
    }
}

/// What was put back and read whole is built on again.
#[test]
fn a_pack_that_was_put_back_is_trusted_again() {
    let (memory, repo, dir) = one_file();
    let names = packs(&memory);
    let good: Vec<_> = names.iter().map(|name| memory.get(name, u64::MAX).unwrap()).collect();
    names.iter().for_each(|name| memory.delete(name).unwrap());
    assert_eq!(run(&repo, READ_DATA).damaged_objects, 1, "the tree hides what is below it");
    for (name, bytes) in names.iter().zip(good) {
        memory.put_new(name, bytes).unwrap();
    }
    whole(&run(&repo, READ_DATA));
    let little = force(&repo, dir.path());
    assert!(little < 2000, "{little} bytes, more than the new snapshot's own");
}

/// What a record says of a pack that is whole and is not so: nothing that needs it reads.
#[test]
fn a_false_claim_that_something_needs_is_damage() {
    let (memory, repo, _dir) = one_file();
    let open = repo.open();
    let record = memory.keys().into_iter().find(|name| name.starts_with("log/")).unwrap();
    let facts = read_facts(&open, names::parse_record(&record).unwrap().1, &record).unwrap();
    let lie = |bytes: Vec<u8>| match Fact::decode(&bytes).unwrap().1 {
        Fact::Pack(mut pack) if pack.kind == ChunkKind::Data => {
            pack.directory.frames.iter_mut().for_each(|frame| frame.offset += 1);
            EncodedFact::of(&Fact::Pack(pack))
        }
        _ => EncodedFact { bytes },
    };
    publish(&open, facts.into_iter().map(lie).collect());
    memory.delete(&record).unwrap();
    let fresh = TestRepo::from_elsewhere(Arc::new(memory));
    whole(&run(&fresh, CheckOptions::default()));
    let report = run(&fresh, READ_DATA);
    assert_eq!((report.damaged_objects, report.snapshots_damaged), (1, 1), "{report:#?}");
    assert!(report.damaged[0].why.contains("claimed falsely"), "{report:#?}");
    assert_eq!(report.damaged[0].files, ["s:/sub/file"]);
}

/// Equal directories are one in the store, and are named under each of their paths, of
/// each source.
#[test]
fn files_are_named_under_all_their_paths() {
    let (memory, repo, dir) = one_file();
    let data =
        packs(&memory).into_iter().max_by_key(|name| memory.get(name, u64::MAX).unwrap().len());
    fs::create_dir(dir.path().join("equal")).unwrap();
    let copied = std::process::Command::new("cp")
        .args(["-a", "sub/.", "equal"])
        .current_dir(dir.path())
        .status();
    assert!(copied.unwrap().success());
    repo.backup("s", dir.path());
    repo.backup("t", dir.path());
    memory.delete(&data.unwrap()).unwrap();
    let report = run(&repo, CheckOptions::default());
    let all = ["s:/equal/file", "s:/sub/file", "t:/equal/file", "t:/sub/file"];
    assert_eq!(report.damaged[0].files, all);
    assert_eq!((report.damaged[0].files_concerned, report.snapshots_damaged), (4, 3));
    let sources: Vec<_> =
        report.damaged[0].sources.iter().map(|s| (s.source.as_str(), s.snapshots)).collect();
    assert_eq!(sources, [("s", 2), ("t", 1)]);
}

/// A repository with a source of one file in a directory, which does not compress.
fn one_file() -> (MemoryStore, TestRepo, tempfile::TempDir) {
    let memory = MemoryStore::new();
    let repo = create(Arc::new(memory.clone()), true);
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("sub/file"), noise(1, 1000)).unwrap();
    repo.backup("s", dir.path());
    (memory, repo, dir)
}

/// Backs up, reading everything again. Returns how many bytes the store did not have.
fn force(repo: &TestRepo, dir: &Path) -> u64 {
    let options = BackupOptions { source: "s".into(), force: true, ..BackupOptions::default() };
    let progress = Arc::new(Progress::silent());
    let paths = [dir.to_owned()];
    let report = backup(&repo.open(), &paths, &options, &progress, &Stop::new()).unwrap();
    report.written.bytes_new
}

#[test]
fn a_check_needs_the_right_to_read_and_stops_when_asked() {
    let (memory, repo) = with_packs(1);
    let open = repo.open();
    let stop = Stop::new();
    stop.raise();
    for options in [CheckOptions::default(), READ_DATA] {
        let error = check(&open, options, &Progress::silent(), &stop).unwrap_err();
        assert_eq!(error.kind(), Kind::Interrupted);
    }
    let error = check_store(&memory, &Progress::silent(), &stop).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
    let file = keyring::export_writer(&open, "w", None, true).unwrap();
    let writer = TestRepo::from_elsewhere(Arc::new(memory));
    let open = writer.open_with(Credential::Writer(Box::new(file))).unwrap();
    let error = check(&open, READ_DATA, &Progress::silent(), &Stop::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    let nowhere = check_store(&MemoryStore::new(), &Progress::silent(), &Stop::new());
    assert_eq!(nowhere.unwrap_err().kind(), Kind::NoRepository);
}
