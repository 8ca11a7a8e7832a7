//! What only a directory can do wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use asof::base::Kind;
use asof::store::{LocalStore, Store};

use crate::disk::Disk;

fn files(path: &Path) -> usize {
    fs::read_dir(path).map_or(0, Iterator::count)
}

#[test]
fn a_directory_that_is_missing_is_made_only_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let error = LocalStore::open(&path).unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    assert!(!path.exists());
    LocalStore::create(&path).unwrap();
    LocalStore::create(&path).unwrap();
    let store = LocalStore::open(&path).unwrap();
    assert_eq!(store.local_path(), Some(fs::canonicalize(&path).unwrap().as_path()));
}

#[test]
fn a_file_is_no_store() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(LocalStore::open(file.path()).unwrap_err().kind, Kind::Invalid);
    assert!(LocalStore::create(&file.path().join("below")).is_err());
}

/// A killed process leaves its unfinished object in `tmp/`. It is never listed, and is
/// removed when it is a day old; a younger one may still be being written.
#[test]
fn leftovers_are_not_listed_and_go_after_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::create(dir.path()).unwrap();
    let tmp = dir.path().join("tmp");
    fs::create_dir(&tmp).unwrap();
    for (name, hours) in [("old", 25), ("young", 23)] {
        let file = fs::File::create(tmp.join(name)).unwrap();
        #[allow(clippy::disallowed_methods)] // the file system has the same clock
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    }
    assert!(store.list("", None).unwrap().objects.is_empty());
    assert!(store.list("tm", None).unwrap().objects.is_empty());
    assert!(store.list("tmp/", None).unwrap().objects.is_empty());

    store.put_new("packs/aa/one", Bytes::from_static(b"x")).unwrap();
    assert!(!tmp.join("old").exists() && tmp.join("young").exists());
    assert_eq!(files(&tmp), 1, "and nothing of its own is left");
    assert_eq!(store.list("", None).unwrap().objects.len(), 1);
}

#[test]
fn nothing_is_left_in_tmp_by_a_put_that_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::create(dir.path()).unwrap();
    for _ in 0..3 {
        store.put_new("packs/aa/one", Bytes::from_static(b"x")).unwrap();
    }
    let error = store.put_new("packs/aa/one/below", Bytes::from_static(b"x")).unwrap_err();
    assert_eq!(error.kind, Kind::Invalid);
    let error = store.put_new("packs/aa", Bytes::from_static(b"x")).unwrap_err();
    assert_eq!(error.kind, Kind::Invalid);
    assert_eq!(files(&dir.path().join("tmp")), 0);
}

#[test]
fn a_truncated_object_is_damage_and_a_name_of_a_fifo_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::create(dir.path()).unwrap();
    store.put_new("packs/aa/one", Bytes::from_static(b"0123456789")).unwrap();
    fs::File::options()
        .write(true)
        .open(dir.path().join("packs/aa/one"))
        .unwrap()
        .set_len(4)
        .unwrap();
    assert_eq!(store.get_range("packs/aa/one", 2..6).unwrap_err().kind, Kind::Damaged);
    let made = Command::new("mkfifo").arg(dir.path().join("fifo")).status().unwrap();
    assert!(made.success());
    assert_eq!(store.get("fifo", 10).unwrap_err().kind, Kind::NotFound, "and does not hang");
    assert_eq!(store.list("", None).unwrap().objects.len(), 1);
}

#[test]
fn what_lies_around_in_the_directory_does_not_stop_a_listing() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::create(dir.path()).unwrap();
    store.put_new("packs/aa/one", Bytes::from_static(b"x")).unwrap();
    fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"packs/aa/\xff")), "x").unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("packs/bb")).unwrap();
    let keys: Vec<_> = store.list("", None).unwrap().objects.into_iter().map(|o| o.key).collect();
    assert_eq!(keys, ["packs/aa/one"]);
}

/// Part of a store may have moved to another disk, with a symbolic link in its place.
#[test]
fn a_directory_behind_a_symbolic_link_is_listed() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = LocalStore::create(dir.path()).unwrap();
    fs::write(other.path().join("one"), "x").unwrap();
    fs::create_dir(dir.path().join("packs")).unwrap();
    std::os::unix::fs::symlink(other.path(), dir.path().join("packs/aa")).unwrap();
    assert_eq!(store.list("packs/", None).unwrap().objects[0].key, "packs/aa/one");
    assert_eq!(store.get("packs/aa/one", 1).unwrap(), "x");
}

#[test]
fn a_directory_without_permission_denies() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(path.join("probe"), "").is_ok() {
        // Root is above permissions; the read-only mount below shows the same.
        return;
    }
    let store = LocalStore::open(&path).unwrap();
    let error = store.put_new("packs/aa/one", Bytes::from_static(b"x")).unwrap_err();
    assert_eq!(error.kind, Kind::Denied);
}

/// The directory is read once for many pages: what comes meanwhile may be missing, but
/// then the page does not claim to be younger. Whoever begins anew sees everything.
#[test]
fn a_page_that_goes_on_says_when_its_names_were_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::create(dir.path()).unwrap();
    store.put_new("log/0000", Bytes::from_static(b"x")).unwrap();
    for n in 1..2500 {
        fs::write(dir.path().join(format!("log/{n:04}")), "x").unwrap();
    }
    let first = store.list("log/", None).unwrap();
    let newer = store.put_new("log/1500-new", Bytes::from_static(b"x")).unwrap();
    store.delete("log/1700").unwrap();
    let second = store.list("log/", Some("log/0999")).unwrap();
    assert!(second.at <= Some(newer.receipt) && second.at == first.at);
    let keys: Vec<_> = second.objects.iter().map(|object| object.key.as_str()).collect();
    assert_eq!((keys[0], keys[999], keys.len()), ("log/1000", "log/2000", 1000));
    assert!(!keys.contains(&"log/1700") && !keys.contains(&"log/1500-new"));
    let third = store.list("log/", Some("log/2000")).unwrap();
    assert_eq!((third.objects.len(), third.more, third.at), (499, false, first.at));

    for after in ["log/0999", "log/0998"] {
        let anew = store.list("log/", Some(after)).unwrap();
        assert!(anew.objects.iter().any(|object| object.key == "log/1500-new"), "{after}");
        assert!(anew.at >= Some(newer.receipt));
    }
}

#[test]
fn a_listing_makes_no_directory_to_learn_the_time() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("one"), "x").unwrap();
    let page = LocalStore::open(dir.path()).unwrap().list("", None).unwrap();
    assert_eq!((page.objects.len(), page.at), (1, None));
    assert_eq!(files(dir.path()), 1);
}

#[test]
fn a_full_disk_is_full_and_keeps_what_it_has() {
    let Some(disk) = Disk::mount("size=256k") else {
        return;
    };
    let store = LocalStore::open(disk.path()).unwrap();
    store.put_new("packs/aa/one", Bytes::from(vec![1; 100_000])).unwrap();
    let error = store.put_new("packs/aa/two", Bytes::from(vec![2; 400_000])).unwrap_err();
    assert_eq!(error.kind, Kind::Full);
    assert_eq!(files(&disk.path().join("tmp")), 0, "the unfinished object makes room again");
    assert_eq!(store.get("packs/aa/two", 1 << 20).unwrap_err().kind, Kind::NotFound);
    assert_eq!(store.get("packs/aa/one", 1 << 20).unwrap().len(), 100_000);
    assert!(store.put_new("packs/aa/three", Bytes::from(vec![3; 50_000])).unwrap().created);
}

#[test]
fn a_read_only_disk_denies_writing_and_still_reads() {
    let Some(disk) = Disk::mount("size=256k") else {
        return;
    };
    let store = LocalStore::open(disk.path()).unwrap();
    store.put_new("packs/aa/one", Bytes::from_static(b"x")).unwrap();
    disk.remount("remount,ro");
    let store = LocalStore::open(disk.path()).unwrap();
    assert_eq!(store.put_new("log/two", Bytes::new()).unwrap_err().kind, Kind::Denied);
    assert_eq!(store.delete("packs/aa/one").unwrap_err().kind, Kind::Denied);
    assert_eq!(store.get("packs/aa/one", 1).unwrap(), "x");
    let page = store.list("packs/", None).unwrap();
    assert_eq!((page.objects.len(), page.at), (1, None), "the time cannot be learnt there");
    disk.remount("remount,rw");
}
