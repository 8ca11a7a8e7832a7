//! Every kind of object, damaged in every way: what is not touched still reads, what is
//! cannot be taken for whole and is named, `check` says what it costs, and undoing the
//! damage makes all well again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use asof::base::{Kind, PackId, Progress, Stop};
use asof::codec::hash::{ChunkKind, sha256};
use asof::codec::passphrase::Cost;
use asof::format::fact::Fact;
use asof::format::keyfile::Role;
use asof::format::names;
use asof::ops::check::{CheckOptions, CheckReport, check, check_store};
use asof::ops::restore::RestoreOptions;
use asof::repo::keys::Credential;
use asof::repo::log::{Chain, EncodedFact, read_facts};
use asof::repo::packer::open_pack;
use asof::repo::{Repository, keyring};
use asof::store::{MemoryStore, Store};

use crate::fixture::{PASSPHRASE, TestRepo, create, differences, noise, recording, restores_to};

const OTHER_PASSPHRASE: &[u8] = b"battery staple";

/// A repository with two sources, of which one is to be hurt, and another repository.
struct Scene {
    memory: MemoryStore,
    kept: tempfile::TempDir,
    hurt: tempfile::TempDir,
    /// What is damaged: a name, and an object of its kind to replace it by.
    victims: Vec<(Victim, String, Vec<u8>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Description,
    Key,
    RecordOfPacks,
    RecordOfSnapshot,
    DataPack,
    NodePack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Deleted,
    Truncated,
    Extended,
    Flipped,
    Replaced,
}

const ALL: [Damage; 5] =
    [Damage::Deleted, Damage::Truncated, Damage::Extended, Damage::Flipped, Damage::Replaced];

impl Damage {
    fn apply(self, bytes: &mut Vec<u8>, other: &[u8]) {
        match self {
            Damage::Deleted => {}
            Damage::Truncated => bytes.truncate(bytes.len() / 2),
            Damage::Extended => bytes.push(b'\n'),
            Damage::Flipped => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            Damage::Replaced => *bytes = other.to_vec(),
        }
    }

    fn inflict(self, store: &MemoryStore, name: &str, other: &[u8]) {
        match self {
            Damage::Deleted => store.delete(name).unwrap(),
            _ => assert!(store.corrupt(name, |bytes| self.apply(bytes, other))),
        }
    }
}

fn tree(seed: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("sub/large"), noise(seed, 30_000)).unwrap();
    fs::write(dir.path().join("small"), noise(seed + 100, 100)).unwrap();
    fs::hard_link(dir.path().join("small"), dir.path().join("sub/again")).unwrap();
    dir
}

fn kind_of(store: &MemoryStore, repo: &Repository, name: &str) -> ChunkKind {
    let bytes = store.get(name, u64::MAX).unwrap();
    let (id, repository) = (PackId(sha256(&bytes)), repo.config().repository);
    open_pack(id, &bytes, repository, repo.keys().reader.as_ref(), None).unwrap().kind
}

/// Publishes the facts of a record anew as two: its packs, and the rest.
fn split_record(store: &MemoryStore, repo: &TestRepo, name: &str) -> [String; 2] {
    let open = repo.open();
    let id = names::parse_record(name).unwrap().1;
    let facts = read_facts(&open, id, name).unwrap().into_iter().map(|bytes| EncodedFact { bytes });
    let is_pack =
        |fact: &EncodedFact| matches!(Fact::decode(&fact.bytes).unwrap().1, Fact::Pack(_));
    let (packs, rest): (Vec<_>, Vec<_>) = facts.partition(is_pack);
    let mut chain = Chain::default();
    let deadline = asof::base::Clock::system().now().plus(std::time::Duration::from_secs(9999));
    let ids = [packs, rest].map(|facts| chain.publish(&open, facts, Some(deadline)).unwrap().id);
    store.delete(name).unwrap();
    let named = |id| store.keys().into_iter().find(|key| key.ends_with(&format!("-{id}"))).unwrap();
    ids.map(named)
}

fn scene(encrypted: bool) -> Scene {
    let other = MemoryStore::new();
    create(Arc::new(other.clone()), encrypted);
    let memory = MemoryStore::new();
    let repo = create(Arc::new(memory.clone()), encrypted);
    let key = memory.keys().into_iter().find(|name| name.starts_with("keys/")).unwrap();
    keyring::add(&repo.open(), Role::Owner, "second", OTHER_PASSPHRASE, Cost::LEAST).unwrap();
    let (kept, hurt) = (tree(1), tree(2));
    repo.backup("kept", kept.path());
    let before = memory.keys();
    repo.backup("hurt", hurt.path());
    let new: Vec<String> = memory.keys().into_iter().filter(|key| !before.contains(key)).collect();
    let open = repo.open();
    let starting = |names: &[String], prefix: &str| {
        names.iter().filter(|name| name.starts_with(prefix)).cloned().collect::<Vec<_>>()
    };
    let pack = |names: &[String], kind| {
        let packs = starting(names, "packs/");
        packs.into_iter().find(|name| kind_of(&memory, &open, name) == kind).unwrap()
    };
    let bytes = |store: &MemoryStore, name: &str| store.get(name, u64::MAX).unwrap().to_vec();
    let other_key = starting(&other.keys(), "keys/").remove(0);
    let other_record = bytes(&memory, &starting(&before, "log/")[0]);
    let other_pack = |kind| bytes(&memory, &pack(&before, kind));
    let [of_packs, of_snapshot] = split_record(&memory, &repo, &starting(&new, "log/")[0]);
    let victims = vec![
        (Victim::Description, names::CONFIG.to_owned(), bytes(&other, names::CONFIG)),
        (Victim::Key, key, bytes(&other, &other_key)),
        (Victim::RecordOfPacks, of_packs, other_record.clone()),
        (Victim::RecordOfSnapshot, of_snapshot, other_record),
        (Victim::DataPack, pack(&new, ChunkKind::Data), other_pack(ChunkKind::Data)),
        (Victim::NodePack, pack(&new, ChunkKind::Node), other_pack(ChunkKind::Node)),
    ];
    Scene { memory, kept, hurt, victims }
}

fn passphrase(bytes: &[u8]) -> Credential {
    Credential::Passphrase(bytes.to_vec().into())
}

pub const READ_DATA: CheckOptions = CheckOptions { read_data: true, part: None, max_age: None };

fn checked(repo: &TestRepo, credential: Credential) -> CheckReport {
    let (progress, problems) = recording();
    let open = repo.open_with(credential).unwrap();
    let report = check(&open, READ_DATA, &progress, &Stop::new()).unwrap();
    // What is certain is told at once.
    for problem in problems.lock().unwrap().iter() {
        let object = problem.split(": ").next().unwrap();
        assert!(report.damaged.iter().any(|d| d.object == object), "{problem}: {report:#?}");
    }
    report
}

/// Restores what can be, and returns what was told of the rest.
fn restored_in_part(repo: &TestRepo, selector: &str) -> (PathBuf, Vec<String>, tempfile::TempDir) {
    let out = tempfile::tempdir().unwrap();
    let options = RestoreOptions { target: out.path().to_owned(), ..RestoreOptions::default() };
    let (_, problems) = repo.try_restore(selector, &options);
    (out.path().to_owned(), problems, out)
}

#[test]
fn whatever_is_damaged_is_named_and_costs_no_more_than_it_must() {
    every_cell(true);
}

#[test]
fn whatever_is_damaged_without_encryption_is_named_as_well() {
    every_cell(false);
}

fn every_cell(encrypted: bool) {
    let scene = scene(encrypted);
    let whole = TestRepo::from_elsewhere(Arc::new(scene.memory.clone()));
    let report = checked(&whole, passphrase(PASSPHRASE));
    assert_eq!(report.damaged_objects, 0, "{report:#?}");
    assert_eq!((report.snapshots, report.packs, report.packs_read), (2, 4, 4));
    assert!(report.remarks.is_empty() && report.orphans == 0 && report.nodes > 3);
    for (victim, name, replacement) in &scene.victims {
        for damage in ALL {
            one_cell(&scene, *victim, name, damage, replacement);
        }
    }
}

fn one_cell(scene: &Scene, victim: Victim, name: &str, damage: Damage, replacement: &[u8]) {
    let cell = format!("{victim:?} {damage:?}");
    let memory = scene.memory.fork();
    let good = memory.get(name, u64::MAX).unwrap();
    // A machine that knew everything, and one that knows nothing yet.
    let old = TestRepo::from_elsewhere(Arc::new(memory.clone()));
    old.open();
    let fresh = TestRepo::from_elsewhere(Arc::new(memory.clone()));
    damage.inflict(&memory, name, replacement);

    let alone = check_store(&memory, &Progress::silent(), &Stop::new());
    match (victim, damage) {
        (Victim::Description, Damage::Deleted) => {
            assert_eq!(alone.unwrap_err().kind(), Kind::NoRepository, "{cell}");
        }
        // Only white space differs, which is not signed; and another repository's is one.
        (Victim::Description, Damage::Extended | Damage::Replaced) | (_, Damage::Deleted) => {
            assert_eq!(alone.unwrap().damaged_objects, 0, "{cell}");
        }
        _ => {
            let alone = alone.unwrap();
            assert_eq!(alone.damaged_objects, 1, "{cell}: {alone:?}");
            assert_eq!(alone.damaged[0].subject, name, "{cell}");
        }
    }

    match victim {
        Victim::Description => description(&cell, damage, &old, &fresh),
        Victim::Key => key(scene, &cell, name, damage, &fresh),
        Victim::RecordOfPacks | Victim::RecordOfSnapshot => {
            record(scene, &cell, victim, name, damage, (&old, &fresh));
        }
        Victim::DataPack | Victim::NodePack => pack(scene, &cell, victim, name, (&old, &fresh)),
    }

    if !memory.corrupt(name, |bytes| *bytes = good.to_vec()) {
        memory.put_new(name, good).unwrap();
    }
    for machine in [&old, &TestRepo::from_elsewhere(Arc::new(memory.clone()))] {
        let report = checked(machine, passphrase(PASSPHRASE));
        assert_eq!(report.damaged_objects, 0, "{cell} was undone: {report:#?}");
        restores_to(machine, "hurt", scene.hurt.path());
        restores_to(machine, "kept", scene.kept.path());
    }
}

/// Without the description nothing opens, and it is named.
fn description(cell: &str, damage: Damage, old: &TestRepo, fresh: &TestRepo) {
    for (machine, knows) in [(old, true), (fresh, false)] {
        let opened = machine.open_with(passphrase(PASSPHRASE));
        if damage == Damage::Extended && !knows {
            let report = checked(machine, passphrase(PASSPHRASE));
            assert_eq!(report.damaged_objects, 0, "{cell}: only white space differs");
            continue;
        }
        let error = opened.err().unwrap_or_else(|| panic!("{cell}"));
        let kind = if damage == Damage::Deleted { Kind::NoRepository } else { Kind::Damaged };
        match (damage, knows) {
            // Its keys are another's: as if the passphrase were wrong.
            (Damage::Replaced, _) => {
                assert!(matches!(error.kind(), Kind::Damaged | Kind::WrongKey), "{cell}: {error}");
            }
            _ => assert_eq!(error.kind(), kind, "{cell}: {error}"),
        }
        if error.kind() != Kind::WrongKey && damage != Damage::Replaced {
            assert!(error.to_string().contains(names::CONFIG), "{cell}: {error}");
        }
    }
}

/// A passphrase whose key file is damaged opens nothing, and the file is named; another
/// passphrase opens everything.
fn key(scene: &Scene, cell: &str, name: &str, damage: Damage, fresh: &TestRepo) {
    let error = fresh.open_with(passphrase(PASSPHRASE)).err().unwrap();
    let report = checked(fresh, passphrase(OTHER_PASSPHRASE));
    if damage == Damage::Deleted {
        // Nobody can tell: keys are removed at will.
        assert_eq!(error.kind(), Kind::WrongKey, "{cell}: {error}");
        assert_eq!(report.damaged_objects, 0, "{cell}");
    } else {
        assert_eq!(error.kind(), Kind::Damaged, "{cell}: {error}");
        assert!(error.to_string().contains(name), "{cell}: {error}");
        assert_eq!(report.damaged_objects, 1, "{cell}: {report:#?}");
        assert_eq!(report.damaged[0].object, name, "{cell}");
        assert_eq!(report.snapshots_damaged, 0, "{cell}");
    }
    let open = fresh.open_with(passphrase(OTHER_PASSPHRASE)).unwrap();
    open.sync(false).unwrap();
    assert_eq!(open.snapshots().unwrap().len(), 2, "{cell}");
    let secrets = || Credential::Secrets(open.keys().secrets.clone().unwrap());
    let out = tempfile::tempdir().unwrap();
    let (_, problems) = fresh.try_restore_with(
        secrets(),
        "kept",
        &RestoreOptions { target: out.path().to_owned(), ..RestoreOptions::default() },
    );
    assert_eq!(problems, Vec::<String>::new(), "{cell}");
    assert_eq!(differences(scene.kept.path(), out.path()), "", "{cell}");
}

fn record(
    scene: &Scene,
    cell: &str,
    victim: Victim,
    name: &str,
    damage: Damage,
    (old, fresh): (&TestRepo, &TestRepo),
) {
    let id = name.rsplit('-').next().unwrap();
    let names_it = |report: &CheckReport| {
        report.damaged.iter().any(|d| d.object.ends_with(id) || d.object.starts_with("chain "))
    };
    // Who read it before has what it said.
    let report = checked(old, passphrase(PASSPHRASE));
    assert!(names_it(&report), "{cell}: {report:#?}");
    assert_eq!(report.snapshots_damaged, 0, "{cell}: {report:#?}");
    restores_to(old, "kept", scene.kept.path());
    restores_to(old, "hurt", scene.hurt.path());

    let open = fresh.open_with(passphrase(PASSPHRASE)).unwrap();
    let told = open.sync(true).unwrap().problems;
    assert_eq!(told.len(), usize::from(damage != Damage::Deleted), "{cell}: {told:?}");
    assert!(told.iter().all(|(object, _)| object == name), "{cell}: {told:?}");
    restores_to(fresh, "kept", scene.kept.path());
    let report = checked(fresh, passphrase(PASSPHRASE));
    match (victim, damage) {
        (Victim::RecordOfSnapshot, Damage::Deleted) => {
            // The last of its chain: who never saw it cannot miss it.
            assert_eq!(report.damaged_objects, 0, "{cell}: {report:#?}");
        }
        _ => assert!(names_it(&report), "{cell}: {report:#?}"),
    }
    if victim == Victim::RecordOfSnapshot {
        assert_eq!(open.snapshots().unwrap().len(), 1, "{cell}: the snapshot is not shown");
        return;
    }
    // The snapshot is shown, and what it needs is nowhere.
    let concerned = report.damaged.iter().find(|d| d.object == names::LOG).unwrap();
    assert_eq!(concerned.sources.len(), 1, "{cell}: {concerned:?}");
    assert_eq!(concerned.sources[0].source, "hurt", "{cell}");
    assert_eq!(concerned.files, ["hurt:/"], "{cell}");
    assert_eq!(report.orphans, 2, "{cell}: nobody claims its packs");
    let (_, problems, _out) = restored_in_part(fresh, "hurt");
    assert!(problems.iter().any(|p| p.contains("is in no pack that is known")), "{problems:?}");
}

fn pack(
    scene: &Scene,
    cell: &str,
    victim: Victim,
    name: &str,
    (old, fresh): (&TestRepo, &TestRepo),
) {
    for machine in [old, fresh] {
        restores_to(machine, "kept", scene.kept.path());
        let (out, problems, _out) = restored_in_part(machine, "hurt");
        let id = name.rsplit('/').next().unwrap();
        // A file that was read although the pack is longer than it should be is whole.
        let lost = differences(scene.hurt.path(), &out);
        assert_eq!(lost.is_empty(), problems.is_empty(), "{cell}: {problems:?} {lost}");
        assert!(problems.is_empty() || problems.iter().any(|p| p.contains(id)), "{problems:?}");

        let report = checked(machine, passphrase(PASSPHRASE));
        assert_eq!(report.damaged_objects, 1, "{cell}: {report:#?}");
        let found = &report.damaged[0];
        assert_eq!(found.object, name, "{cell}: {report:#?}");
        assert_eq!(found.files.is_empty(), problems.is_empty(), "{cell}: {found:?}");
        assert_eq!(report.snapshots_damaged, u64::from(!problems.is_empty()), "{cell}");
        if problems.is_empty() {
            continue;
        }
        assert_eq!(found.sources.len(), 1, "{cell}: {found:?}");
        assert_eq!(found.sources[0].source, "hurt", "{cell}");
        assert!(found.sources[0].is_latest && found.chunks > 0, "{cell}: {found:?}");
        // What is named is what is lost, and nothing else is.
        for file in ["small", "sub/again", "sub/large"] {
            let same = fs::read(out.join(file)).ok() == fs::read(scene.hurt.path().join(file)).ok();
            let named = found.files.iter().any(|path| {
                let path = path.strip_prefix("hurt:/").unwrap();
                path == file || path.is_empty() || path == "sub/" && file.starts_with("sub/")
            });
            assert_eq!(same, !named, "{cell}: {file} of {:?}, {problems:?}", found.files);
        }
        assert!(victim == Victim::DataPack || found.files[0].ends_with('/'), "{:?}", found.files);
    }
}

/// What a machine keeps for itself is not believed, and its loss costs nothing.
#[test]
fn a_damaged_cache_changes_nothing() {
    let repo = create(Arc::new(MemoryStore::new()), true);
    let dir = tree(1);
    repo.backup("s", dir.path());
    restores_to(&repo, "s", dir.path());
    for damage in ALL {
        let frames = files_below(repo.cache.path(), |path| {
            path.components().any(|part| part.as_os_str() == "frames")
        });
        assert!(frames.len() > 1, "{damage:?}: {frames:?}");
        let other = fs::read(&frames[0]).unwrap();
        for path in frames.iter().rev() {
            match damage {
                Damage::Deleted => fs::remove_file(path).unwrap(),
                _ => {
                    let mut bytes = fs::read(path).unwrap();
                    damage.apply(&mut bytes, &other);
                    fs::write(path, bytes).unwrap();
                }
            }
        }
        restores_to(&repo, "s", dir.path());
        assert_eq!(checked(&repo, passphrase(PASSPHRASE)).damaged_objects, 0, "{damage:?}");
    }
}

#[test]
fn a_damaged_index_is_made_anew_or_says_so() {
    let memory = MemoryStore::new();
    let repo = create(Arc::new(memory.clone()), true);
    let dir = tree(1);
    repo.backup("s", dir.path());
    let stranger = create(Arc::new(MemoryStore::new()), true);
    stranger.backup("t", tree(2).path());
    let is_index = |path: &Path| path.file_name().is_some_and(|name| name == "index.sqlite");
    let other = fs::read(&files_below(stranger.cache.path(), is_index)[0]).unwrap();
    let reason = |repo: &TestRepo| {
        let open = repo.open_with(passphrase(PASSPHRASE)).unwrap();
        open.rebuilt().map(str::to_owned)
    };
    // A flipped bit may be where nobody looks, and comes below.
    for damage in ALL.into_iter().filter(|damage| !matches!(damage, Damage::Flipped)) {
        let path = files_below(repo.cache.path(), is_index).remove(0);
        match damage {
            Damage::Deleted => fs::remove_file(&path).unwrap(),
            _ => {
                let mut bytes = fs::read(&path).unwrap();
                damage.apply(&mut bytes, &other);
                fs::write(&path, bytes).unwrap();
            }
        }
        if matches!(damage, Damage::Deleted | Damage::Truncated | Damage::Replaced) {
            assert!(reason(&repo).is_some(), "{damage:?}");
        }
        restores_to(&repo, "s", dir.path());
        assert_eq!(checked(&repo, passphrase(PASSPHRASE)).damaged_objects, 0, "{damage:?}");
    }
    // A bit anywhere: what is restored is right, or something is said.
    let path = files_below(repo.cache.path(), is_index).remove(0);
    let good = fs::read(&path).unwrap();
    for at in (100..good.len()).step_by(good.len() / 40) {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        fs::write(&path, &bytes).unwrap();
        let out = tempfile::tempdir().unwrap();
        let options = RestoreOptions { target: out.path().to_owned(), ..RestoreOptions::default() };
        match repo.attempt_restore(passphrase(PASSPHRASE), "s", &options) {
            Ok((_, problems)) if problems.is_empty() => {
                assert_eq!(differences(dir.path(), out.path()), "", "byte {at}");
            }
            Ok(_) => {}
            Err(error) => {
                let kind = error.kind();
                assert!(matches!(kind, Kind::Damaged | Kind::NotFound), "byte {at}: {error:?}");
            }
        }
        let open = repo.open_with(passphrase(PASSPHRASE));
        let open = open.unwrap_or_else(|e| panic!("byte {at}: {e:?}"));
        open.rebuild().unwrap();
        drop(open);
        restores_to(&repo, "s", dir.path());
    }
}

fn files_below(dir: &Path, wanted: impl Fn(&Path) -> bool + Copy) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path, wanted));
        } else if wanted(&path) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn a_wrong_passphrase_is_no_damage() {
    let repo = create(Arc::new(MemoryStore::new()), true);
    let wrong = repo.open_with(passphrase(b"wrong")).err().unwrap();
    assert_eq!(wrong.kind(), Kind::WrongKey);
}
