//! The golden repositories: what was written once is read for ever, by this program and by
//! the independent reader. `tests/tools/golden.rs` says how they were made and what is in
//! their directories.
//!
//! Receipts are the times of files, which a checkout does not keep. So everything is read
//! twice: with the times as they were, and with new ones, as from any copied store.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use asof::base::{Kind, Progress, Stop};
use asof::codec::hash::sha256;
use asof::format::FORMAT_VERSION;
use asof::format::extents::Content;
use asof::format::fact::{Fact, Links, Pin};
use asof::format::names;
use asof::format::node::Node;
use asof::format::writerfile::WriterFile;
use asof::ops::check::{CheckOptions, check};
use asof::ops::gc::GcOptions;
use asof::ops::upgrade::{find, upgrade};
use asof::ops::verify_log::{VerifyOptions, verify_log};
use asof::repo::Repository;
use asof::repo::keys::Credential;
use asof::repo::log::read_facts;
use asof::store::LocalStore;

use crate::fixture::{PASSPHRASE, TestRepo, backup_into, owner_key};
use crate::manifest;
use crate::reader::{python, read_asof};
use crate::world::{collect, noise};

mod streams;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn names_of(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(golden()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// Which receipts the objects of a copy have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Receipts {
    /// Those that they had.
    Kept,
    /// New ones.
    New,
}

/// A copy of a golden repository that a test may change.
struct Copy {
    golden: PathBuf,
    dir: tempfile::TempDir,
    repo: TestRepo,
}

impl Copy {
    fn new(name: &str, receipts: Receipts) -> Copy {
        let golden = golden().join(name);
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        for path in files(&golden.join("store")) {
            let to = store.join(path.strip_prefix(golden.join("store")).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(path, to).unwrap();
        }
        if receipts == Receipts::Kept {
            for line in lines(&golden.join("receipts.txt")) {
                let (seconds, name) = line.split_once(' ').unwrap();
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.parse().unwrap());
                let file = fs::File::options().write(true).open(store.join(name)).unwrap();
                file.set_modified(time).unwrap();
            }
        }
        let repo = TestRepo::from_elsewhere(Arc::new(LocalStore::open(&store).unwrap()));
        Copy { golden, dir, repo }
    }

    fn is_encrypted(&self) -> bool {
        !self.golden.to_string_lossy().ends_with("-unencrypted")
    }

    /// Opened by a machine that knows nothing yet, without a word of complaint.
    fn open(&self) -> (TestRepo, Arc<Repository>) {
        let fresh = TestRepo::from_elsewhere(Arc::clone(&self.repo.store));
        let credential = match self.is_encrypted() {
            true => owner_key(),
            false => Credential::None,
        };
        let open = fresh.open_with(credential).unwrap();
        assert_eq!(open.sync(true).unwrap().problems, vec![], "{}", self.golden.display());
        (fresh, open)
    }

    /// Each snapshot's tree: its id, its name, and what it must be.
    fn trees(&self) -> Vec<(String, String, Vec<String>)> {
        let snapshots = lines(&self.golden.join("snapshots.txt"));
        let trees = snapshots.iter().map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let tree = lines(&golden().join(format!("trees/{}.txt", words[0])));
            (words[1].to_owned(), words[0].to_owned(), tree)
        });
        trees.collect()
    }

    /// Reads every byte, and compares everything with what was written down.
    fn reads(&self) {
        let (machine, open) = self.open();
        let library = machine.library_of(&open);
        let infos = open.snapshots().unwrap();
        let found: BTreeSet<String> =
            infos.iter().map(|info| manifest::of_info(info, open.config().owner)).collect();
        let noted = lines(&self.golden.join("snapshots.txt"));
        let noted: BTreeSet<String> =
            noted.iter().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
        assert_eq!(noted.difference(&found).collect::<Vec<_>>(), Vec::<&String>::new());
        for (id, name, expected) in self.trees() {
            let info = infos.iter().find(|info| info.snapshot.id.to_string() == id).unwrap();
            let lines = manifest::of_snapshot(library.as_ref(), info).unwrap();
            same(&expected, &compared(&name, lines));
        }
        let options = CheckOptions { read_data: true, ..CheckOptions::default() };
        let report = check(&open, options, &Progress::silent(), &Stop::new()).unwrap();
        assert_eq!((report.damaged_objects, report.snapshots_damaged), (0, 0), "{report:?}");
        let gone = |remark: &&String| !remark.contains(": it was deleted; nothing that a snapshot");
        assert_eq!(report.remarks.iter().filter(gone).collect::<Vec<_>>(), Vec::<&String>::new());
        assert_eq!(report.orphans, 0);
    }

    /// The same by the reader that knows the document only.
    fn reads_independently(&self, python: &Path) {
        let attributes_work = attributes_work();
        for (number, (id, name, expected)) in self.trees().iter().enumerate() {
            let target = format!("out{number}");
            let args = ["extract", "store", id, &target];
            let read = read_asof(python, self.dir.path(), &args, PASSPHRASE);
            let told = String::from_utf8_lossy(&read.stderr);
            for line in told.lines() {
                // A socket means nothing without its program.
                let harmless = line.contains("special/socket: devices are made by root alone")
                    || line.contains("attribute") && !attributes_work;
                assert!(harmless, "{line}");
            }
            let found = manifest::of_tree(&self.dir.path().join(&target));
            let has = |line: &str, prefix| line.split(' ').any(|word| word.starts_with(prefix));
            let bare = |lines: Vec<String>| -> Vec<String> {
                let lines = lines.into_iter().filter(|line| !line.contains(" s mode="));
                let lines = lines.filter(|line| {
                    attributes_work || !["user.", "trusted."].iter().any(|one| has(line, one))
                });
                // How holes are kept is the file system's business.
                lines.map(|line| without(&line, "holes")).collect()
            };
            same(&bare(expected.clone()), &bare(compared(name, found)));
        }
    }
}

/// Whether files in the temporary directory can have all the attributes of the trees.
fn attributes_work() -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    let none = rustix::fs::XattrFlags::empty();
    ["user.x", "trusted.x"]
        .iter()
        .all(|name| rustix::fs::setxattr(file.path(), *name, b"x", none).is_ok())
}

/// A line of a manifest without one of the things that it says.
fn without(line: &str, key: &str) -> String {
    let words = line.split(' ').filter(|word| !word.starts_with(&format!("{key}=")));
    words.collect::<Vec<_>>().join(" ")
}

/// What is compared of a tree: the times of a stream are those of its backup.
fn compared(tree: &str, lines: Vec<String>) -> Vec<String> {
    if tree != "words" {
        return lines;
    }
    let files = lines.iter().filter(|line| !line.starts_with(' '));
    files.map(|line| without(line, "mtime")).collect()
}

fn same(expected: &[String], found: &[String]) {
    for (expected, found) in expected.iter().zip(found) {
        assert_eq!(expected, found);
    }
    assert_eq!(expected.len(), found.len());
}

fn is_unchanged(name: &str) {
    let dir = golden().join(name);
    let found: Vec<String> = files(&dir.join("store"))
        .into_iter()
        .map(|path| {
            let hash = hex::encode(sha256(&fs::read(&path).unwrap()));
            format!("{hash} {}", path.strip_prefix(dir.join("store")).unwrap().display())
        })
        .collect();
    assert_eq!(found, lines(&dir.join("sha256.txt")), "{name}: never change it");
}

/// Whoever raises the version of the format adds a repository, and none ever goes.
#[test]
fn none_is_forgotten_and_none_was_changed() {
    for version in 0..=FORMAT_VERSION {
        let repositories = names_of(&format!("v{version}-"));
        assert!(!repositories.is_empty(), "tests/golden has no repository of version {version}");
        for name in repositories {
            is_unchanged(&name);
            let copy = Copy::new(&name, Receipts::Kept);
            assert_eq!(copy.open().1.config().asof, version, "{name}");
        }
    }
    for name in ["v0-encrypted", "v1-encrypted", "v1-unencrypted"] {
        assert!(names_of("v").contains(&name.to_owned()), "tests/golden/{name} is gone");
    }
}

#[test]
fn every_golden_repository_reads() {
    for name in names_of("v") {
        Copy::new(&name, Receipts::Kept).reads();
    }
}

#[test]
fn every_golden_repository_reads_as_it_was_checked_out() {
    for name in names_of("v") {
        Copy::new(&name, Receipts::New).reads();
    }
}

#[test]
fn the_document_alone_reads_every_golden_repository() {
    let Some(python) = python() else { return };
    if !rustix::process::geteuid().is_root() {
        eprintln!("\n*** NOT RUN: only root can bring back the devices and owners that are there");
        return;
    }
    for name in names_of("v") {
        for receipts in [Receipts::Kept, Receipts::New] {
            Copy::new(&name, receipts).reads_independently(&python);
        }
    }
}

#[test]
fn the_keys_that_only_read_still_do() {
    for name in names_of("v1-") {
        let copy = Copy::new(&name, Receipts::Kept);
        let reader = Credential::Passphrase(b"battery staple".to_vec().into());
        let open = copy.repo.open_with(reader).unwrap();
        open.sync(true).unwrap();
        assert_eq!(open.snapshots().unwrap().len(), 5, "{name}");
        assert!(open.keys().owner().is_err(), "{name}");
    }
}

/// The log of every version verifies, if its receipts are those that it had.
#[test]
fn the_log_of_every_version_verifies() {
    for name in names_of("v") {
        let copy = Copy::new(&name, Receipts::Kept);
        let (_machine, open) = copy.open();
        let options = VerifyOptions::default();
        let report = verify_log(&open, options, &Progress::silent(), &Stop::new()).unwrap();
        assert_eq!(report.problems, 0, "{name}: {:#?}", report.findings);
        assert!(report.records > 0);
    }
}

/// A repository of version 1 has one of everything that the format has.
#[test]
fn nothing_that_the_format_has_is_left_out() {
    for name in names_of("v1-") {
        let copy = Copy::new(&name, Receipts::Kept);
        let (machine, open) = copy.open();
        let library = machine.library_of(&open);
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut mergers = Vec::new();
        for object in open.store().list(names::LOG, None).unwrap().objects {
            let (_, id) = names::parse_record(&object.key).unwrap();
            for fact in read_facts(&open, id, &object.key).unwrap() {
                let (refs, fact) = Fact::decode(&fact).unwrap();
                seen.insert(match &fact {
                    Fact::Snapshot(one) if one.source == "web" => "snapshot of a writer",
                    Fact::Pin(Pin::Snapshot(_)) => "pin of a snapshot",
                    Fact::Pin(Pin::Chain(..)) => "pin of a chain",
                    Fact::Snapshot(one) if one.expires.is_some() => "snapshot that expires",
                    Fact::Snapshot(one) if one.roots[0].starts_with(b"words") => "stream",
                    other => other.name(),
                });
                if let Fact::Checkpoint(_) = fact {
                    mergers.extend(refs);
                }
            }
        }
        for id in mergers {
            seen.insert(match &library.node(&id).unwrap().node {
                Node::Merged(run) => {
                    let certified = run.records.iter().any(|one| one.certificate.is_some());
                    assert!(certified, "{name}: no writer's record was merged");
                    "merged facts"
                }
                Node::Places(_) => "places",
                _ => "another node",
            });
        }
        for info in open.snapshots().unwrap().iter() {
            if matches!(info.snapshot.links, Links::Nodes(_)) {
                seen.insert("links in nodes");
            }
            let root = info.refs[info.snapshot.root.subtree.unwrap().node as usize];
            let node = library.node(&root).unwrap();
            let Node::Leaf(leaf) = &node.node else { continue };
            for entry in &leaf.entries {
                seen.insert(match &entry.content {
                    Some(Content::Inline(_)) => "inline",
                    Some(Content::Extents(list)) if list.iter().any(|one| one.chunk.is_none()) => {
                        "hole"
                    }
                    Some(Content::Extents(list)) if list.len() == 1 => "one chunk",
                    Some(Content::Extents(_)) => "chunks",
                    Some(Content::Tree(_)) => "tree of extents",
                    None => "nothing",
                });
                if &*entry.name == b"many" {
                    let place = entry.subtree.unwrap().node as usize;
                    let many = library.node(&node.refs[place]).unwrap();
                    assert!(matches!(many.node, Node::Inner(_)));
                    seen.insert("inner node");
                }
            }
        }
        let all = BTreeSet::from([
            "pack",
            "stream",
            "snapshot of a writer",
            "snapshot that expires",
            "pin of a snapshot",
            "pin of a chain",
            "forget",
            "condemn",
            "deleted",
            "checkpoint",
            "revoke",
            "grace",
            "unknown",
            "merged facts",
            "places",
            "links in nodes",
            "inner node",
            "inline",
            "one chunk",
            "chunks",
            "tree of extents",
            "hole",
            "nothing",
        ]);
        let missing: Vec<_> = all.difference(&seen).collect();
        assert!(missing.is_empty(), "{name} lacks {missing:?}");
    }
}

/// Backs up, collects, and reads what was there before.
fn goes_on(copy: &Copy, source: &str) {
    goes_on_with(copy, source, Copy::reads);
}

fn goes_on_with(copy: &Copy, source: &str, reads: impl Fn(&Copy)) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a"), noise(1, 10_000)).unwrap();
    copy.repo.backup(source, dir.path());
    collect(&copy.repo, &GcOptions::default()).unwrap();
    reads(copy);
    let out = tempfile::tempdir().unwrap();
    copy.repo.restore(source, out.path());
    assert_eq!(fs::read(out.path().join("a")).unwrap(), noise(1, 10_000));
}

#[test]
fn every_golden_repository_goes_on_and_the_old_ones_are_upgraded_first() {
    for name in names_of("v") {
        for receipts in [Receipts::Kept, Receipts::New] {
            let copy = Copy::new(&name, receipts);
            let store = Arc::clone(&copy.repo.store);
            let found = find(store.as_ref()).unwrap();
            if found.config.asof < FORMAT_VERSION {
                let dir = tempfile::tempdir().unwrap();
                fs::write(dir.path().join("a"), "a").unwrap();
                copy.repo.backup("before", dir.path());
                let error = collect(&copy.repo, &GcOptions::default()).unwrap_err();
                assert_eq!(error.kind(), Kind::Denied, "{error}");
                assert!(error.to_string().contains("asof upgrade"), "{error}");
                upgrade(store.as_ref(), &found, PASSPHRASE).unwrap();
                copy.reads();
            }
            goes_on(&copy, "after");
        }
    }
}

/// The writer files too, those with an `asof.json` of an older version included.
#[test]
fn every_golden_writer_file_goes_on() {
    for name in names_of("v") {
        let copy = Copy::new(&name, Receipts::Kept);
        let store = Arc::clone(&copy.repo.store);
        upgrade(store.as_ref(), &find(store.as_ref()).unwrap(), PASSPHRASE).unwrap();
        let bytes = fs::read(copy.golden.join("writer.json")).unwrap();
        let machine = TestRepo::from_elsewhere(store);
        let file = WriterFile::decode(&bytes).unwrap();
        let writer = machine.open_with(Credential::Writer(Box::new(file))).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("page"), noise(2, 10_000)).unwrap();
        backup_into(&writer, "web", &[dir.path()], &Arc::new(Progress::silent())).unwrap();
        let out = tempfile::tempdir().unwrap();
        copy.repo.restore("web", out.path());
        assert_eq!(fs::read(out.path().join("page")).unwrap(), noise(2, 10_000));
        copy.reads();
    }
}
