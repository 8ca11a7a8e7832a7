//! What goes wrong costs no more than it must, and is named.

use std::fs;
use std::sync::Arc;

use asof::base::{Kind, Progress, SnapshotId, UnixTime};
use asof::codec::hash::sha256;
use asof::format::fact::{Fact, Forget};
use asof::format::names;
use asof::format::record::{Body, Header, Record};
use asof::repo::keys::Credential;
use asof::repo::{self, keyring};
use asof::store::fault::{FaultStore, Moment};
use asof::store::{Call, MemoryStore, Store};

use crate::crash::at_every_call;
use crate::fixture::{TestRepo, backup_into, create, names_in, noise, recording, restores_to};

fn tree(files: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..files {
        let sub = dir.path().join(format!("d{}", n % 5));
        fs::create_dir_all(&sub).unwrap();
        fs::write(sub.join(format!("f{n}")), noise(n, 2000)).unwrap();
    }
    dir
}

/// Whatever store call a backup dies at, before or after its effect: the repository
/// stays readable, and the next backup finishes.
#[test]
fn a_backup_that_dies_at_any_store_call_leaves_a_usable_repository() {
    let dir = tree(20);
    let died = at_every_call(|arm| {
        let memory = MemoryStore::new();
        let faults = FaultStore::new(Arc::new(memory.clone()));
        let repo = create(Arc::new(memory.clone()), true);
        let first = tempfile::tempdir().unwrap();
        fs::write(first.path().join("a"), "kept").unwrap();
        repo.backup("first", first.path());
        let dying = TestRepo::from_elsewhere(Arc::new(faults.clone()));
        let open = dying.open();
        arm(&faults);
        let outcome = backup_into(&open, "s", &[dir.path()], &Progress::silent().into());
        faults.heal();
        drop(open);
        restores_to(&repo, "first", first.path());
        dying.backup("s", dir.path());
        restores_to(&dying, "s", dir.path());
        restores_to(&repo, "s", dir.path());
        outcome.is_ok()
    });
    assert!(died >= 6, "{died}");
}

/// What was published before an interruption is not uploaded again.
#[test]
fn an_interrupted_backup_is_not_uploaded_again() {
    let memory = MemoryStore::new();
    let repo = create(Arc::new(memory.clone()), true);
    let dir = tempfile::tempdir().unwrap();
    // Enough for a record in the middle: more than eight packs of 16 MiB.
    for n in 0..12_u32 {
        fs::write(dir.path().join(format!("f{n:02}")), noise(n, 512 << 10)).unwrap();
    }
    let faults = FaultStore::new(Arc::new(memory.clone()));
    let dying = TestRepo::from_elsewhere(Arc::new(faults.clone()));
    let open = dying.open();
    faults.forget_made();
    faults.die_at(11, Moment::Before);
    backup_into(&open, "s", &[dir.path()], &Progress::silent().into()).unwrap_err();
    drop(open);
    faults.heal();
    let published = names_in(&memory, "log/").len();
    assert_eq!(published, 1, "a record was published before the end");
    let report = dying.backup("s", dir.path());
    let total: u64 = 12 * (16 << 20);
    assert!(report.written.bytes_new < total - 6 * (16 << 20), "{:?}", report.written);
    restores_to(&repo, "s", dir.path());
}

#[test]
fn two_machines_back_up_at_once_and_a_third_sees_both() {
    let memory = MemoryStore::new();
    let one = create(Arc::new(memory.clone()), true);
    let two = TestRepo::from_elsewhere(Arc::new(memory.clone()));
    let (a, b) = (tree(30), tree(40));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| one.backup("a", a.path()));
            scope.spawn(|| two.backup("b", b.path()));
        }
    });
    let third = TestRepo::from_elsewhere(Arc::new(memory));
    assert_eq!(third.library().snapshots().unwrap().len(), 4);
    restores_to(&third, "a", a.path());
    restores_to(&third, "b", b.path());
}

#[test]
fn two_runs_of_one_source_at_once_both_stand() {
    let repo = create(Arc::new(MemoryStore::new()), true);
    let dir = tree(30);
    let opened = [repo.open(), repo.open()];
    std::thread::scope(|scope| {
        for open in &opened {
            scope.spawn(|| {
                backup_into(open, "s", &[dir.path()], &Progress::silent().into()).unwrap()
            });
        }
    });
    let snapshots = repo.library().snapshots().unwrap();
    assert_eq!(snapshots.len(), 2);
    for info in snapshots {
        restores_to(&repo, &format!("id:{}", info.snapshot.id), dir.path());
    }
    repo.backup("s", dir.path());
    restores_to(&repo, "s", dir.path());
}

/// Another repository under the same name is not taken for the one that was there.
#[test]
fn a_swapped_repository_is_refused() {
    let memory = MemoryStore::new();
    let repo = create(Arc::new(memory.clone()), false);
    repo.open();
    for name in memory.keys() {
        memory.delete(&name).unwrap();
    }
    let other = create(Arc::new(memory), false);
    let error = repo.open_with(Credential::None).err().unwrap();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(other.open_with(Credential::None).is_ok(), "a machine that knew neither");
}

/// A writer's stolen key forgets nothing: the fact is ignored, and reported.
#[test]
fn a_fact_that_its_signer_may_not_publish_is_ignored_and_reported() {
    let memory = MemoryStore::new();
    let repo = create(Arc::new(memory.clone()), false);
    let dir = tree(2);
    let id: SnapshotId = repo.backup("s", dir.path()).snapshot.unwrap();
    let open = repo.open();
    let file = keyring::export_writer(&open, "thief", Some(vec!["t".into()]), true).unwrap();
    let forget = Fact::Forget(Forget { snapshots: vec![id], reason: None }).encode(&[]);
    let body = Body {
        claimed: UnixTime::EPOCH,
        certificate: Some(file.certificate_bytes.clone().into()),
        facts: vec![forget.into()],
        deadline: None,
    };
    let plain = body.encode();
    let header = Header {
        repository: open.config().repository,
        writer: file.key.id(),
        chain: asof::base::ChainId([9; 16]),
        number: 0,
        previous: None,
        body_len: plain.len() as u64,
    };
    let header_bytes = header.encode();
    let raw = [&[0_u8], plain.as_slice()].concat();
    let record = Record { header, header_bytes, envelope: Vec::new(), body: raw };
    let bytes = record.issue(&file.key);
    let hour = names::Hour::of(asof::base::Clock::system().now());
    let name = names::record(hour, asof::base::RecordId(sha256(&bytes)));
    memory.put_new(&name, bytes.into()).unwrap();
    let report = open.sync(true).unwrap();
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert!(report.problems[0].1.contains("may not publish a forget"), "{report:?}");
    assert_eq!(open.snapshots().unwrap().len(), 1);
    // Nor does it speak for a source that its certificate does not name.
    let thief = TestRepo::from_elsewhere(Arc::new(memory.clone()));
    let writer = thief.open_with(Credential::Writer(Box::new(file))).unwrap();
    backup_into(&writer, "s", &[dir.path()], &Progress::silent().into()).unwrap();
    let report = open.sync(true).unwrap();
    assert!(report.problems.iter().any(|p| p.1.contains("may not publish a snapshot")));
    assert_eq!(open.snapshots().unwrap().len(), 1);
}

#[test]
fn a_machine_that_only_writes_cannot_read() {
    let memory = MemoryStore::new();
    let repo = create(Arc::new(memory.clone()), true);
    repo.backup("s", tree(2).path());
    let file = keyring::export_writer(&repo.open(), "web", None, true).unwrap();
    let writer = TestRepo::from_elsewhere(Arc::new(memory));
    let open = writer.open_with(Credential::Writer(Box::new(file))).unwrap();
    let reader = repo::Shelf::open(&open, &writer.local(), Default::default());
    assert_eq!(reader.err().unwrap().kind(), Kind::Denied);
    assert_eq!(open.sync(true).unwrap_err().kind(), Kind::Denied);
    assert!(keyring::export_writer(&open, "x", None, true).is_err());
}

/// The index is a cache: gone or overwritten, it is made anew, and nothing wrong is
/// shown meanwhile.
#[test]
fn a_lost_index_is_made_anew_under_a_running_reader() {
    let repo = create(Arc::new(MemoryStore::new()), true);
    let dir = tree(10);
    repo.backup("s", dir.path());
    let library = repo.library();
    let lost = |name: &str| {
        let root = fs::read_dir(repo.cache.path()).unwrap();
        for entry in root.flatten().filter(|e| e.file_name().len() == 64) {
            for of_key in fs::read_dir(entry.path()).unwrap().flatten() {
                let _ = fs::remove_file(of_key.path().join(name));
            }
        }
    };
    lost("index.sqlite");
    assert!(library.refresh().unwrap());
    assert_eq!(library.snapshots().unwrap().len(), 1);
    restores_to(&repo, "s", dir.path());
    repo.backup("s", dir.path());
    assert!(library.refresh().unwrap());
    assert_eq!(library.snapshots().unwrap().len(), 2);
}

#[test]
fn files_that_cannot_be_read_are_named_and_the_rest_is_stored() {
    let repo = create(Arc::new(MemoryStore::new()), true);
    let dir = tree(4);
    let gone = dir.path().join("d1/f1");
    // A file that vanishes between the walk and the reading: the walk sees a name
    // in a directory whose file another thread removes is not steerable here, so the
    // file is on a device that always fails to read.
    fs::remove_file(&gone).unwrap();
    std::os::unix::fs::symlink("/proc/self/mem", &gone).unwrap();
    let (progress, problems) = recording();
    let report = backup_into(&repo.open(), "s", &[dir.path()], &progress).unwrap();
    assert_eq!(report.counts.errors, problems.lock().unwrap().len() as u64);
    assert!(report.snapshot.is_some());
    let _ = Call::Put;
}

/// A store whose log is gone must not be taken for one in which nothing is new.
#[test]
fn a_log_that_lost_what_it_had_is_noticed() {
    let memory = MemoryStore::new();
    let repo = create(Arc::new(memory.clone()), true);
    repo.backup("s", tree(2).path());
    let library = repo.library();
    let open = repo.open();
    assert_eq!(open.sync(false).unwrap().lost, None);
    library.refresh().unwrap();
    for name in memory.keys().into_iter().filter(|name| name.starts_with("log/")) {
        memory.delete(&name).unwrap();
    }
    let report = open.sync(false).unwrap();
    assert!(report.lost.is_some());
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!(library.refresh().unwrap_err().kind(), Kind::Damaged);
    assert_eq!(library.snapshots().unwrap().len(), 1, "what is known is still shown");
}

/// A file that keeps changing is read again, and in the end stored and marked.
#[test]
fn a_file_that_changes_all_the_time_is_marked() {
    use std::os::unix::fs::FileExt;
    let repo = create(Arc::new(MemoryStore::new()), true);
    let dir = tree(1);
    let busy = dir.path().join("busy");
    fs::write(&busy, vec![1; 32 << 20]).unwrap();
    let (open, stop) = (repo.open(), asof::base::Stop::new());
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::File::options().write(true).open(&busy).unwrap();
            for n in 0_u64.. {
                if stop.is_raised() {
                    break;
                }
                file.write_all_at(&n.to_le_bytes(), n % (32 << 20)).unwrap();
            }
        });
        let report = backup_into(&open, "s", &[dir.path()], &Progress::silent().into());
        stop.raise();
        report.unwrap()
    });
    assert_eq!((report.counts.unsteady, report.counts.errors), (1, 0), "{report:?}");
    let library = repo.library();
    let info = Arc::clone(&library.snapshots().unwrap()[0]);
    let selected = asof::ops::select::at_path(library.as_ref(), info, b"busy").unwrap();
    assert_eq!(selected.found.entry().marks, asof::format::node::MARK_CHANGED_WHILE_READ);
    assert_eq!(selected.found.entry().size, 32 << 20);
}
