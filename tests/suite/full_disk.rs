//! Disks get full. Whichever it is, it is named, nothing half-written is left, and
//! with room again everything goes on as before.
//!
//! The room that is left is stepped through, so that the disk is full at every step
//! of the work once.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use asof::base::{Clock, Kind, Progress, Stop};
use asof::codec::hash::sha256;
use asof::ops::backup::BackupReport;
use asof::ops::restore::{RestoreOptions, restore};
use asof::ops::select::select;
use asof::repo::reader::ReaderOptions;
use asof::repo::{Library, Repository, Shelf};
use asof::store::{LocalStore, MemoryStore, Store};
use asof::view::{Selector, Zone};

use crate::disk::Disk;
use crate::fixture::{TestRepo, backup_into, create, differences, noise, owner_key, restores_to};

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 0);
    dir
}

/// Writes a few files of some 300 KiB that do not compress.
fn fill(dir: &Path, seed: u32) {
    for n in 0..5_u32 {
        fs::write(dir.join(format!("f{n}")), noise(seed * 5 + n, 2000)).unwrap();
    }
}

/// An error and its causes in a line.
fn said(error: &dyn Error) -> String {
    let (mut line, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        line = format!("{line}: {cause}");
        next = cause.source();
    }
    line
}

/// What it means, and how it is said.
type Failed = (Kind, String);

/// What every command does first.
fn open(repo: &TestRepo) -> Result<Arc<Repository>, Failed> {
    let credential = owner_key();
    let open = repo.open_with(credential).map_err(|e| (e.kind(), said(&e)))?;
    open.sync(false).map_err(|e| (e.kind(), said(&e)))?;
    Ok(open)
}

fn backup(repo: &TestRepo, tree: &Path) -> Result<BackupReport, Failed> {
    let repo = open(repo)?;
    backup_into(&repo, "s", &[tree], &Progress::silent().into()).map_err(|e| (e.kind(), said(&e)))
}

/// Reads a snapshot as a restore and a mount do.
fn read(repo: &TestRepo, selector: &str, tree: &Path) -> Result<(), Failed> {
    let shelf = Shelf::open(&open(repo)?, &repo.local(), ReaderOptions::default());
    let library: Arc<dyn Library> = Arc::new(shelf.map_err(|e| (e.kind(), said(&e)))?);
    let selector = Selector::parse(selector.as_ref()).unwrap();
    let now = Clock::system().now();
    let selected = select(library.as_ref(), &selector, &Zone::utc(), now);
    let selected = selected.map_err(|e| (e.kind(), said(&e)))?;
    let out = tempfile::tempdir().unwrap();
    let options = RestoreOptions { target: out.path().into(), ..RestoreOptions::default() };
    let restored = restore(&library, &selected, &options, &Progress::silent().into(), &Stop::new());
    assert_eq!(restored.map_err(|e| (e.kind(), said(&e)))?.errors, 0);
    assert_eq!(differences(tree, out.path()), "");
    Ok(())
}

/// Packs and records are named by the hash of their bytes, so a half one shows.
fn assert_whole(store: &dyn Store) {
    for object in store.list("", None).unwrap().objects {
        let hashed = object.key.starts_with("packs/") || object.key.starts_with("log/");
        let bytes = store.get(&object.key, object.size).unwrap();
        assert!(!hashed || object.key.contains(&hex::encode(sha256(&bytes))), "{}", object.key);
    }
}

#[test]
fn a_full_store_is_named_and_the_same_backup_works_when_there_is_room() {
    let Some(disk) = Disk::mount("size=4m") else {
        return;
    };
    let place = disk.path().join("repo");
    let store = Arc::new(LocalStore::create(&place).unwrap());
    let repo = create(store.clone(), true);
    let first = tree();
    repo.backup("first", first.path());
    let (second, mut failed, mut done) = (tree(), 0, 0);
    for step in 0..24 {
        disk.leave(step * 20_480);
        fill(second.path(), step as u32 + 1);
        match backup(&repo, second.path()) {
            Ok(_) => done += 1,
            Err((kind, said)) => {
                failed += 1;
                assert_eq!(kind, Kind::Full, "{said}");
                assert!(said.contains(&*place.to_string_lossy()), "{said}");
                assert!(said.contains("packs/") || said.contains("log/"), "{said}");
            }
        }
        read(&repo, "first:/", first.path()).expect("what is there reads");
        assert_whole(&*store);
        assert_eq!(fs::read_dir(place.join("tmp")).unwrap().count(), 0);
        if step % 8 == 0 {
            fs::remove_file(disk.path().join("filler")).unwrap();
            restores_to(&repo, "first:/", first.path());
            backup(&repo, second.path()).unwrap();
            restores_to(&repo, "s:/", second.path());
            assert_whole(&*store);
        }
    }
    assert!(failed > 5 && done > 2, "{failed} failed, {done} were done");
}

#[test]
fn a_full_index_is_named_and_is_whole_when_there_is_room() {
    let repo = create(Arc::new(MemoryStore::new()), true);
    let first = tree();
    repo.backup("first", first.path());
    let Some(disk) = Disk::mount_on(repo.cache.path(), "size=4m") else {
        return;
    };
    let (second, mut failed, mut done) = (tree(), 0, 0);
    for fresh in [true, false] {
        for step in 0..24 {
            let filler = disk.leave(step * 16_384);
            fill(second.path(), step as u32 + 1);
            let outcomes =
                [backup(&repo, second.path()).map(|_| ()), read(&repo, "first:/", first.path())];
            for outcome in outcomes {
                match outcome {
                    Ok(()) => done += 1,
                    Err((kind, said)) => {
                        failed += 1;
                        assert_eq!(kind, Kind::Full, "with {step} steps left: {said}");
                        assert!(said.contains(&*disk.path().to_string_lossy()), "{said}");
                    }
                }
            }
            fs::remove_file(filler).unwrap();
            if step % 8 == 0 {
                backup(&repo, second.path()).unwrap();
                restores_to(&repo, "s:/", second.path());
                restores_to(&repo, "first:/", first.path());
            }
            for entry in fs::read_dir(disk.path()).unwrap().filter(|_| fresh) {
                let path = entry.unwrap().path();
                let removed = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
                removed.unwrap();
            }
        }
    }
    assert_whole(&*repo.store);
    assert!(failed > 5 && done > 5, "{failed} failed, {done} were done");
}

/// The cache is only a cache.
#[test]
fn a_full_cache_is_gone_without() {
    let repo = create(Arc::new(MemoryStore::new()), true);
    let first = tree();
    repo.backup("s", first.path());
    restores_to(&repo, "s:/", first.path());
    let machine = fs::read_dir(repo.cache.path()).unwrap().map(|entry| entry.unwrap().path());
    let frames = machine.map(|dir| dir.join("frames")).find(|dir| dir.exists()).unwrap();
    assert!(fs::read_dir(&frames).unwrap().count() > 0, "reading fills it");
    let Some(disk) = Disk::mount_on(&frames, "size=1m") else {
        return;
    };
    for left in [0, 8192, 100_000, 900_000] {
        let filler = disk.leave(left);
        restores_to(&repo, "s:/", first.path());
        let mut kept = Vec::new();
        for entry in fs::read_dir(disk.path()).unwrap().map(Result::unwrap) {
            match entry.path() {
                path if path == filler => {}
                path if path.is_dir() => kept.extend(fs::read_dir(path).unwrap()),
                path => panic!("{} was left half-written", path.display()),
            }
        }
        let sizes = kept.into_iter().map(|entry| entry.unwrap().metadata().unwrap().len());
        assert_eq!(sizes.max().is_some_and(|size| size > 300_000), left > 300_000);
    }
}

#[test]
fn a_full_target_is_named_and_gets_no_half_file() {
    let repo = create(Arc::new(MemoryStore::new()), true);
    let first = tree();
    repo.backup("s", first.path());
    let Some(disk) = Disk::mount("size=1m") else {
        return;
    };
    let filler = disk.leave(100_000);
    let target = disk.path().join("out");
    let options = RestoreOptions { target: target.clone(), ..RestoreOptions::default() };
    let (report, problems) = repo.try_restore("s:/", &options);
    assert!(report.errors > 0 && report.files < 5);
    assert!(
        problems.iter().all(|p| p.contains("No space left") && p.contains("f")),
        "{problems:?}"
    );
    for entry in fs::read_dir(&target).unwrap() {
        let entry = entry.unwrap();
        let original = fs::read(first.path().join(entry.file_name()));
        assert_eq!(original.unwrap(), fs::read(entry.path()).unwrap(), "{:?}", entry.path());
    }
    fs::remove_file(filler).unwrap();
    repo.restore("s:/", &target);
    assert_eq!(differences(first.path(), &target), "");
}

/// What can be checked without a disk of one's own: no file may be longer than so much.
#[test]
fn a_limit_on_the_length_of_files_is_an_error_and_leaves_nothing_half() {
    let (dir, source) = (tempfile::tempdir().unwrap(), tree());
    let place = dir.path().join("repo");
    let run = |limit: &str, verb: &[&str]| {
        let limited = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$@\"");
        let mut command = Command::new("bash");
        command.args(["-c", &limited, "bash", env!("CARGO_BIN_EXE_asof")]).args(verb);
        command.env("ASOF_CACHE_DIR", dir.path().join("cache")).env("ASOF_REPOSITORY", &place);
        command.env("ASOF_PASSWORD", "x").env("HOME", dir.path());
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert!(run("unlimited", &["init", "--kdf-cost", "least"]).0);
    let backup = ["backup", "--source", "s", source.path().to_str().unwrap()];
    // In KiB: enough for the index, too little for the pack.
    let (done, said) = run("250", &backup);
    let place = fs::canonicalize(&place).unwrap();
    assert!(!done && said.contains(&*place.to_string_lossy()) && said.contains("packs/"), "{said}");
    let store = LocalStore::open(&place).unwrap();
    assert_eq!(fs::read_dir(place.join("tmp")).unwrap().count(), 0);
    assert_whole(&store);
    assert!(store.list("log/", None).unwrap().objects.is_empty());

    let (done, said) = run("unlimited", &backup);
    assert!(done, "{said}");
    assert_whole(&store);
    let out = dir.path().join("out");
    let (done, said) = run("unlimited", &["restore", "s", "--target", out.to_str().unwrap()]);
    assert!(done, "{said}");
    assert_eq!(differences(source.path(), &out), "");
}
