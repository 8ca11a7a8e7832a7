//! What goes in comes out.

use std::fs;
use std::sync::Arc;

use asof::repo::keyring;
use asof::repo::keys::Credential;
use asof::store::memory::MemoryStore;

use crate::fixture::{TestRepo, create, differences, odd_tree};

fn memory(encrypted: bool) -> TestRepo {
    create(Arc::new(MemoryStore::new()), encrypted)
}

#[test]
fn every_kind_of_file_comes_back_as_it_was() {
    for encrypted in [true, false] {
        let repo = memory(encrypted);
        let odd = odd_tree();
        let tree = odd.path().join("tree");
        let report = repo.backup("odd", &tree);
        assert_eq!(report.counts.errors, 0);
        let out = tempfile::tempdir().unwrap();
        repo.restore("odd", out.path());
        assert_eq!(differences(&tree, out.path()), "");
        // Once more over what is there: nothing is written.
        let again = repo.restore("odd", out.path());
        assert_eq!(again.bytes, 0, "{again:?}");
        assert_eq!(differences(&tree, out.path()), "");
    }
}

/// Directories get their attributes before the end when there are many of them: no file, and no
/// further name of one, may be made in them after that.
#[test]
fn directories_keep_their_times_however_many_there_are() {
    let repo = memory(true);
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("0/0/file");
    for n in 0..10_000 {
        let sub = dir.path().join(format!("{}/{}", n / 100, n % 100));
        fs::create_dir_all(&sub).unwrap();
        match n % 10 {
            0 => fs::write(sub.join("file"), format!("content {n}")).unwrap(),
            1 => fs::hard_link(&first, sub.join("name")).unwrap(),
            _ => {}
        }
    }
    let aged = std::process::Command::new("find")
        .arg(dir.path())
        .args(["-depth", "-exec", "touch", "-d", "2 hours ago", "{}", "+"])
        .status()
        .unwrap();
    assert!(aged.success());
    repo.backup("s", dir.path());
    let out = tempfile::tempdir().unwrap();
    let report = repo.restore("s", out.path());
    assert_eq!((report.files, report.dirs), (1000, 10_100));
    assert_eq!(differences(dir.path(), out.path()), "");
}

#[test]
fn the_second_backup_reads_and_stores_what_changed() {
    let repo = memory(true);
    let dir = tempfile::tempdir().unwrap();
    for n in 0..300 {
        let sub = dir.path().join(format!("d{}", n % 7));
        fs::create_dir_all(&sub).unwrap();
        fs::write(sub.join(format!("f{n}")), format!("content {n} ").repeat(500)).unwrap();
    }
    // Files that changed within the last second are read again: make these older.
    let past = std::process::Command::new("find")
        .arg(dir.path())
        .args(["-exec", "touch", "-d", "2 hours ago", "{}", "+"])
        .status()
        .unwrap();
    assert!(past.success());
    let first = repo.backup("s", dir.path());
    assert_eq!((first.counts.new, first.counts.unchanged), (300, 0));
    fs::write(dir.path().join("d3/f3"), "other").unwrap();
    fs::remove_file(dir.path().join("d4/f4")).unwrap();
    fs::write(dir.path().join("d5/new"), "new").unwrap();
    let second = repo.backup("s", dir.path());
    assert_eq!(second.counts.files, 300);
    assert!(second.written.bytes_new < 20_000, "{:?}", second.written);
    let out = tempfile::tempdir().unwrap();
    repo.restore("s", out.path());
    assert_eq!(differences(dir.path(), out.path()), "");
    let before = tempfile::tempdir().unwrap();
    let id = first.snapshot.unwrap();
    repo.restore(&format!("id:{id}"), before.path());
    assert!(before.path().join("d4/f4").exists());
    assert!(!before.path().join("d5/new").exists());
}

#[test]
fn a_writer_needs_nothing_but_put() {
    let memory = MemoryStore::new();
    let owner = create(Arc::new(memory.clone()), true);
    let file = keyring::export_writer(&owner.open(), "web", None, true).unwrap();
    let faults = asof::store::fault::FaultStore::new(Arc::new(memory.clone()));
    let writer = TestRepo::from_elsewhere(Arc::new(faults.clone()));
    let dir = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
    fs::write(dir.path().join("big"), &content).unwrap();
    for round in 0..2 {
        fs::write(dir.path().join("small"), format!("round {round}")).unwrap();
        let repo = writer.open_with(Credential::Writer(Box::new(file.clone()))).unwrap();
        let report = crate::fixture::backup_into(
            &repo,
            "web",
            &[dir.path()],
            &asof::base::Progress::silent().into(),
        )
        .unwrap();
        if round == 1 {
            assert!(report.written.bytes_new < 10_000, "{:?}", report.written);
        }
    }
    let calls = faults.made();
    assert!(!calls.is_empty());
    assert!(calls.iter().all(|made| made.call == asof::store::Call::Put), "{calls:?}");
    let out = tempfile::tempdir().unwrap();
    owner.restore("web", out.path());
    assert_eq!(differences(dir.path(), out.path()), "");
}
