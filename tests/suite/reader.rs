//! The independent reader: `scripts/read-asof`, which knows `docs/FORMAT.md` and no
//! code of this program, reads what this program wrote.
//!
//! Needs Python with the packages of `scripts/requirements.txt`. With
//! `ASOF_TEST_PYTHON` set to such a Python, anything missing is a failure; without,
//! the test looks for `python3` and says loudly when it does not run.

use std::collections::HashSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use crate::fixture::FAR;
use asof::base::{Clock, Progress, Stop};
use asof::codec::chunker::Sizes;
use asof::codec::passphrase::Cost;
use asof::format::config::Parameters;
use asof::format::fact::{Fact, Forget};
use asof::ops::backup::{BackupOptions, backup};
use asof::repo::checkpoint::{CompactOptions, compact, drop_covered};
use asof::repo::keys::Credential;
use asof::repo::log::{Chain, EncodedFact};
use asof::repo::{InitOptions, LocalOptions, Repository, init, keyring};
use asof::store::Store;
use asof::store::local::LocalStore;

const PASSWORD: &[u8] = b"correct horse";
/// After so long a record can be merged.
const LATER: Duration = Duration::from_hours(3);

/// A Python that has the packages; `None` after saying so.
pub fn python() -> Option<PathBuf> {
    let given = std::env::var_os("ASOF_TEST_PYTHON").map(PathBuf::from);
    let python = given.clone().unwrap_or_else(|| "python3".into());
    let script = "import cbor2, zstandard\n\
                  from cryptography.hazmat.primitives.kdf.argon2 import Argon2id";
    let found = Command::new(&python).args(["-c", script]).output();
    let missing = match found {
        Ok(output) if output.status.success() => return Some(python),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    assert!(given.is_none(), "ASOF_TEST_PYTHON={} cannot be used: {missing}", python.display());
    eprintln!(
        "\n*** NOT RUN: the independent reader was not tested, since {} lacks what it needs.\n\
         *** Install scripts/requirements.txt and set ASOF_TEST_PYTHON.\n{missing}",
        python.display()
    );
    None
}

/// Runs the independent reader in a directory.
pub fn read_asof(python: &Path, dir: &Path, args: &[&str], password: &[u8]) -> Output {
    use std::os::unix::ffi::OsStrExt;
    Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/read-asof"))
        .args(args)
        .env("ASOF_PASSWORD", std::ffi::OsStr::from_bytes(password))
        .current_dir(dir)
        .output()
        .unwrap()
}

struct Fixture {
    dir: tempfile::TempDir,
    repo: Arc<Repository>,
}

impl Fixture {
    fn new(encrypted: bool) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let store =
            Arc::new(LocalStore::create(&dir.path().join("store")).unwrap()) as Arc<dyn Store>;
        // Small chunks and packs, so that files run over several of each.
        let chunks = Sizes { min: 1024, average: 4096, max: 16384 };
        let parameters = Parameters { chunks, pack_bytes: 1 << 20, ..Parameters::default() };
        let options =
            InitOptions { encrypted, parameters, cost: Cost::LEAST, label: "test".into() };
        let clock = Clock::system();
        init(store.as_ref(), &options, PASSWORD, &clock).unwrap();
        let local = LocalOptions { cache_dir: dir.path().join("cache"), cache_bytes: 0 };
        let credential = Credential::Passphrase(PASSWORD.to_vec().into());
        let repo = Repository::open(store, credential, &local, &clock).unwrap();
        Fixture { dir, repo: Arc::new(repo) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn backup(&self, repo: &Arc<Repository>, tree: &Path) -> String {
        let options = BackupOptions {
            source: "tree".into(),
            host: "h".into(),
            // A field that the reader does not know.
            expires: Some(asof::base::UnixTime::new(4_000_000_000, 0)),
            ..BackupOptions::default()
        };
        let (progress, stop) = (Arc::new(Progress::default()), Stop::default());
        let report = backup(repo, &[tree.to_owned()], &options, &progress, &stop).unwrap();
        assert_eq!(report.counts.errors, 0, "{report:?}");
        report.snapshot.unwrap().to_string()
    }

    fn read(&self, python: &Path, args: &[&str], password: &[u8]) -> Output {
        read_asof(python, self.dir.path(), args, password)
    }

    fn must_read(&self, python: &Path, args: &[&str]) -> String {
        let output = self.read(python, args, PASSWORD);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "read-asof {args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn make_tree(at: &Path) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/make-odd-tree");
    let made = Command::new(script).arg(at).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    eprint!("{}", String::from_utf8_lossy(&made.stderr));
    // A directory that is cut into many nodes, and files that are linked across it.
    let many = at.join("many");
    std::fs::create_dir(&many).unwrap();
    for n in 0..5000 {
        std::fs::write(many.join(format!("file-{n}")), format!("{n}").repeat(n % 300)).unwrap();
    }
    for n in 0..600 {
        std::fs::hard_link(many.join(format!("file-{n}")), at.join(format!("link-{n}"))).unwrap();
    }
    // A list of extents that is cut into nodes: some two thousand chunks.
    let mut state = 1_u64;
    let noise: Vec<u8> = (0..9 << 20)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    std::fs::write(at.join("long"), noise).unwrap();
}

/// Everything about a tree that the reader brings back, a line a file.
fn describe(root: &Path) -> Vec<String> {
    let is_root = rustix::process::geteuid().is_root();
    let mut lines = Vec::new();
    let mut first_names = std::collections::HashMap::new();
    let mut waiting = vec![root.to_owned()];
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        if std::fs::symlink_metadata(&path).unwrap().is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push(path);
    }
    found.sort();
    for path in found {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_owned();
        let kind = meta.file_type();
        if kind.is_socket() {
            continue;
        }
        let mut line = format!("{name:?} {:o} {}.{}", meta.mode(), meta.mtime(), meta.mtime_nsec());
        if is_root {
            line += &format!(" {}:{} {:x}", meta.uid(), meta.gid(), meta.rdev());
        }
        if kind.is_symlink() {
            line += &format!(" -> {:?}", std::fs::read_link(&path).unwrap());
        }
        if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            line += &format!(" {}", hex::encode(asof::codec::hash::sha256(&bytes)));
            if meta.size() > 1 << 20 && meta.blocks() * 512 < meta.size() / 2 {
                line += " sparse";
            }
        }
        if !meta.is_dir() && meta.nlink() > 1 {
            let first = first_names.entry(meta.ino()).or_insert_with(|| name.clone());
            line += &format!(" is {first:?}");
        }
        if !kind.is_symlink() && !kind.is_fifo() {
            line += &xattrs(&path);
        }
        lines.push(line);
    }
    lines
}

fn xattrs(path: &Path) -> String {
    let mut names = vec![0; 1 << 16];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names[..]) else { return String::new() };
    let mut all: Vec<String> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap_or(0);
            format!(" {}={}", String::from_utf8_lossy(name), hex::encode(&value[..length]))
        })
        .collect();
    all.sort();
    all.concat()
}

fn same(expected: &[String], found: &[String]) {
    for (expected, found) in expected.iter().zip(found) {
        assert_eq!(expected, found);
    }
    assert_eq!(expected.len(), found.len());
}

fn reads_back(encrypted: bool) {
    let Some(python) = python() else { return };
    let fixture = Fixture::new(encrypted);
    let tree = fixture.path("tree");
    make_tree(&tree);
    let expected = describe(&tree);
    let first = fixture.backup(&fixture.repo, &tree);

    // The second state is taken by a machine that only writes.
    std::fs::write(tree.join("later"), "later").unwrap();
    std::fs::remove_file(tree.join("many/file-7")).unwrap();
    let changed = describe(&tree);
    let sources = Some(vec!["tree".to_owned()]);
    let file = keyring::export_writer(&fixture.repo, "w", sources, true).unwrap();
    let local = LocalOptions { cache_dir: fixture.path("other-cache"), cache_bytes: 0 };
    let credential = Credential::Writer(Box::new(file));
    let store = Arc::clone(fixture.repo.store());
    let writer = Repository::open(store, credential, &local, &Clock::system()).unwrap();
    let writer = Arc::new(writer);
    let second = fixture.backup(&writer, &tree);

    let listed = fixture.must_read(&python, &["list", "store"]);
    let ids: Vec<_> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(ids, [first.as_str(), second.as_str()], "{listed}");
    fixture.must_read(&python, &["extract", "store", &first[..8], "one"]);
    same(&expected, &describe(&fixture.path("one")));
    fixture.must_read(&python, &["extract", "store", "latest", "two"]);
    same(&changed, &describe(&fixture.path("two")));

    if encrypted {
        let wrong = fixture.read(&python, &["list", "store"], b"wrong horse");
        assert!(!wrong.status.success());
        assert!(String::from_utf8_lossy(&wrong.stderr).contains("passphrase"));
    }
    damaged(&fixture, &python, &changed);

    // What the writer's certificate does not allow is told and changes nothing.
    let forget = Forget { snapshots: vec![first.parse().unwrap()], reason: None };
    let facts = vec![EncodedFact::of(&Fact::Forget(forget))];
    Chain::default().publish(&writer, facts, FAR).unwrap();
    let read = fixture.read(&python, &["list", "store"], PASSWORD);
    assert_eq!(read.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&read.stderr).contains("may not publish"));
    assert_eq!(String::from_utf8_lossy(&read.stdout), listed);

    // Learnt from a checkpoint alone it is the same, and so is what was not allowed.
    let (progress, stop) = (Progress::default(), Stop::default());
    let compact = |records_min| {
        // Some hours from now, when what was just published can be merged.
        let at = fixture.repo.sync(true).unwrap().at.unwrap().plus(LATER);
        let options = CompactOptions { records_min };
        (compact(&fixture.repo, at, &options, &progress, &stop).unwrap(), at)
    };
    let (done, at) = compact(3);
    assert!(done.published);
    drop_covered(&fixture.repo, at, true, &HashSet::new(), &progress, &stop).unwrap();
    assert_eq!(files(&fixture.path("store/log")).len(), 1);
    let read = fixture.read(&python, &["list", "store"], PASSWORD);
    assert_eq!(String::from_utf8_lossy(&read.stdout), listed);
    assert!(String::from_utf8_lossy(&read.stderr).contains("may not publish"));
    assert_eq!(read.status.code(), Some(3));
    let read = fixture.read(&python, &["extract", "store", "latest", "merged"], PASSWORD);
    assert_eq!(read.status.code(), Some(3));
    same(&changed, &describe(&fixture.path("merged")));
    // A forgotten snapshot does not come back while what a checkpoint replaced is there.
    let forget = Forget { snapshots: vec![first.parse().unwrap()], reason: None };
    let facts = vec![EncodedFact::of(&Fact::Forget(forget))];
    Chain::default().publish(&fixture.repo, facts, FAR).unwrap();
    assert_eq!(compact(1).0.records, 1);
    let read = fixture.read(&python, &["list", "store"], PASSWORD);
    let left = String::from_utf8_lossy(&read.stdout);
    assert_eq!(left.lines().collect::<Vec<_>>(), [listed.lines().last().unwrap()]);
}

/// Where bytes changed is named, and what is still extracted is true. A chunk may be in
/// several packs, since a machine that only writes stores what it cannot look up, so
/// every pack is damaged.
fn damaged(fixture: &Fixture, python: &Path, expected: &[String]) {
    for below in ["packs", "log"] {
        let victims: Vec<_> = files(&fixture.path("store").join(below))
            .into_iter()
            .map(|path| (std::fs::read(&path).unwrap(), path))
            .collect();
        for (good, path) in &victims {
            let mut bad = good.clone();
            // In several places: one may lie in what nobody needs for the newest snapshot.
            for eighth in 1..8 {
                bad[good.len() * eighth / 8] ^= 1;
            }
            replace(path, &bad);
        }
        let read = fixture.read(python, &["extract", "store", "latest", "damaged"], PASSWORD);
        let said = String::from_utf8_lossy(&read.stderr);
        assert!(!read.status.success(), "{below}: no damage was noticed");
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(victims.iter().any(|(_, path)| said.contains(&name(path))), "{below}: {said}");
        if fixture.path("damaged").exists() {
            // Which names a file has left may differ, its bytes may not.
            let alone = |line: &String| line.split(" is \"").next().unwrap_or_default().to_owned();
            let expected: HashSet<_> = expected.iter().map(alone).collect();
            let left = describe(&fixture.path("damaged"));
            for line in left.iter().filter(|line| line.contains("\" 100")).map(alone) {
                assert!(expected.contains(&line), "{below}: something false was extracted: {line}");
            }
            std::fs::remove_dir_all(fixture.path("damaged")).unwrap();
        }
        for (good, path) in &victims {
            replace(path, good);
        }
    }
}

fn replace(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn an_encrypted_repository_is_read_by_the_document_alone() {
    reads_back(true);
}

#[test]
fn an_unencrypted_repository_is_read_by_the_document_alone() {
    reads_back(false);
}
