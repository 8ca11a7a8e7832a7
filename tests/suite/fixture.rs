//! Repositories and trees for tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use asof::base::{Clock, Progress, Stop, UnixTime};
use asof::codec::hash::sha256;
use asof::codec::passphrase::Cost;
use asof::format::config::Parameters;
use asof::ops::backup::{BackupOptions, BackupReport, backup};
use asof::ops::restore::{RestoreOptions, RestoreReport, restore};
use asof::ops::select::select;
use asof::repo::keys::Credential;
use asof::repo::reader::ReaderOptions;
use asof::repo::{self, InitOptions, Library, LocalOptions, Repository, Shelf};
use asof::store::{MemoryStore, Store};
use asof::view::{Selector, Zone};

/// A deadline that every record meets.
pub const FAR: Option<UnixTime> = Some(UnixTime::new(253_402_300_799, 0));

pub const PASSPHRASE: &[u8] = b"correct horse";

/// The owner's passphrase.
pub fn owner_key() -> Credential {
    Credential::Passphrase(PASSPHRASE.to_vec().into())
}

/// How test repositories are made.
pub fn init_options(encrypted: bool, parameters: &Parameters) -> InitOptions {
    InitOptions {
        encrypted,
        parameters: parameters.clone(),
        cost: Cost::LEAST,
        label: "test".into(),
    }
}

/// The names in a store that begin so.
pub fn names_in(store: &MemoryStore, prefix: &str) -> Vec<String> {
    store.keys().into_iter().filter(|name| name.starts_with(prefix)).collect()
}

/// A repository in some store, used from one machine.
pub struct TestRepo {
    pub store: Arc<dyn Store>,
    pub cache: tempfile::TempDir,
}

/// Makes a repository.
pub fn create(store: Arc<dyn Store>, encrypted: bool) -> TestRepo {
    create_with(store, encrypted, &Parameters::default())
}

/// Makes a repository with parameters of its own.
pub fn create_with(store: Arc<dyn Store>, encrypted: bool, parameters: &Parameters) -> TestRepo {
    repo::init(store.as_ref(), &init_options(encrypted, parameters), PASSPHRASE, &Clock::system())
        .unwrap();
    TestRepo { store, cache: tempfile::tempdir().unwrap() }
}

impl TestRepo {
    /// The same repository seen from another machine, through another store.
    pub fn from_elsewhere(store: Arc<dyn Store>) -> TestRepo {
        TestRepo { store, cache: tempfile::tempdir().unwrap() }
    }

    pub fn local(&self) -> LocalOptions {
        LocalOptions { cache_dir: self.cache.path().to_owned(), cache_bytes: 1 << 30 }
    }

    pub fn open_with(&self, credential: Credential) -> repo::Result<Arc<Repository>> {
        let clock = Clock::system();
        let repo = Repository::open(Arc::clone(&self.store), credential, &self.local(), &clock)?;
        Ok(Arc::new(repo))
    }

    /// Opened by the owner and brought up to date.
    pub fn open(&self) -> Arc<Repository> {
        let repo = self.open_with(owner_key()).unwrap();
        repo.sync(false).unwrap();
        repo
    }

    pub fn try_backup(&self, source: &str, paths: &[&Path]) -> asof::ops::Result<BackupReport> {
        backup_into(&self.open(), source, paths, &Progress::silent().into())
    }

    pub fn backup(&self, source: &str, path: &Path) -> BackupReport {
        self.try_backup(source, &[path]).unwrap()
    }

    pub fn library(&self) -> Arc<dyn Library> {
        self.library_of(&self.open())
    }

    pub fn library_of(&self, open: &Arc<Repository>) -> Arc<dyn Library> {
        Arc::new(Shelf::open(open, &self.local(), ReaderOptions::default()).unwrap())
    }

    pub fn try_restore(
        &self,
        selector: &str,
        options: &RestoreOptions,
    ) -> (RestoreReport, Vec<String>) {
        self.try_restore_with(owner_key(), selector, options)
    }

    pub fn try_restore_with(
        &self,
        credential: Credential,
        selector: &str,
        options: &RestoreOptions,
    ) -> (RestoreReport, Vec<String>) {
        self.attempt_restore(credential, selector, options).unwrap()
    }

    pub fn attempt_restore(
        &self,
        credential: Credential,
        selector: &str,
        options: &RestoreOptions,
    ) -> asof::ops::Result<(RestoreReport, Vec<String>)> {
        let open = self.open_with(credential)?;
        open.sync(false)?;
        let library = self.library_of(&open);
        let selector = Selector::parse(selector.as_ref()).unwrap();
        let now = Clock::system().now();
        let selected = select(library.as_ref(), &selector, &Zone::utc(), now)?;
        let (progress, problems) = recording();
        let report = restore(&library, &selected, options, &progress, &Stop::new())?;
        let problems = problems.lock().unwrap().clone();
        Ok((report, problems))
    }

    pub fn restore(&self, selector: &str, target: &Path) -> RestoreReport {
        let options = RestoreOptions {
            target: target.to_owned(),
            verify: true,
            numeric_ids: true,
            ..RestoreOptions::default()
        };
        let (report, problems) = self.try_restore(selector, &options);
        assert_eq!(problems, Vec::<String>::new());
        report
    }
}

pub fn backup_into(
    repo: &Arc<Repository>,
    source: &str,
    paths: &[&Path],
    progress: &Arc<Progress>,
) -> asof::ops::Result<BackupReport> {
    let options = BackupOptions {
        source: source.into(),
        host: "test".into(),
        user: "test".into(),
        ..BackupOptions::default()
    };
    let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
    backup(repo, &paths, &options, progress, &Stop::new())
}

/// Progress that remembers the problems it was told.
pub fn recording() -> (Arc<Progress>, Arc<std::sync::Mutex<Vec<String>>>) {
    let problems: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let sink = Arc::clone(&problems);
    let progress = Progress::with_sink(move |p| sink.lock().unwrap().push(p.to_string()));
    (Arc::new(progress), problems)
}

/// A tree with every kind of file that this user can make.
pub fn odd_tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/make-odd-tree");
    let made = Command::new(script).arg(dir.path().join("tree")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    dir
}

/// What rsync would have to do to make `b` equal to `a`, down to the last attribute.
pub fn differences(a: &Path, b: &Path) -> String {
    let slash = |path: &Path| format!("{}/", path.display());
    let run = Command::new("rsync")
        .args(["-aHAXS", "--numeric-ids", "-n", "--itemize-changes", "--checksum", "--delete"])
        .args([slash(a), slash(b)])
        .output()
        .expect("rsync is installed");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8_lossy(&run.stdout).into_owned()
}

/// A restore of what the selector names is equal to the tree.
pub fn restores_to(repo: &TestRepo, selector: &str, tree: &Path) {
    let out = tempfile::tempdir().unwrap();
    repo.restore(selector, out.path());
    assert_eq!(differences(tree, out.path()), "");
}

/// Bytes that no compressor shortens: so many hashes of 32 bytes.
pub fn noise(seed: u32, hashes: u32) -> Vec<u8> {
    (0..hashes).flat_map(|i| sha256(&[seed.to_le_bytes(), i.to_le_bytes()].concat())).collect()
}
