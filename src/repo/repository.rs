//! A repository that is open: its store, description, keys and index.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;

use crate::base::{Clock, Kind, RepositoryId, SnapshotId, UnixTime};
use crate::cache::DiskCache;
use crate::codec::envelope::SecretKey;
use crate::codec::hash::sha256;
use crate::codec::passphrase::Cost;
use crate::codec::random;
use crate::codec::sign::SigningKey;
use crate::format::config::{CONFIG_BYTES_MAX, Config, Parameters};
use crate::format::fact::{Fact, Signer};
use crate::format::keyfile::{KeyFile, Secrets};
use crate::format::{FORMAT_VERSION, FormatError, names};
use crate::index::{self, Index, SnapshotRow};
use crate::repo::certificates::Certificates;
use crate::repo::keys::{Credential, Keys};
use crate::repo::library::{Moment, SnapshotInfo};
use crate::repo::log::{self, SyncReport};
use crate::repo::reader::{Reader, ReaderOptions};
use crate::repo::rules::Rules;
use crate::repo::store_clock::StoreClock;
use crate::repo::{Error, Result, keyring};
use crate::store::Store;

/// Where a machine keeps what it knows of repositories, and how much.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// The directory for indexes and caches.
    pub cache_dir: PathBuf,
    /// How many bytes of sealed frames are kept on disk; 0 keeps none.
    pub cache_bytes: u64,
}

/// How a new repository is to be.
pub struct InitOptions {
    /// Whether packs and records are sealed.
    pub encrypted: bool,
    /// What every program must do alike.
    pub parameters: Parameters,
    /// How costly guessing its passphrase is.
    pub cost: Cost,
    /// What its first key is called.
    pub label: String,
}

/// An open repository.
pub struct Repository {
    store: Arc<dyn Store>,
    config: Config,
    config_bytes: Vec<u8>,
    keys: Arc<Keys>,
    index: Arc<Index>,
    cache_dir: PathBuf,
    clock: Clock,
    store_clock: StoreClock,
    rules: Rules,
    /// A record that was there and is gone, if one is.
    lost: Mutex<Option<String>>,
    /// Why the index had to be made anew, if it was.
    rebuilt: Option<String>,
    infos: RwLock<Option<CachedInfos>>,
    pub(super) certificates: Certificates,
}

/// The snapshots, decoded, as of a version of the index.
struct CachedInfos {
    version: (i64, i64, i64),
    infos: Arc<[Arc<SnapshotInfo>]>,
}

/// Makes a repository in an empty store.
///
/// # Errors
///
/// [`Error::Exists`] if there is one already.
pub fn init(
    store: &dyn Store,
    options: &InitOptions,
    passphrase: &[u8],
    clock: &Clock,
) -> Result<(Config, KeyFile)> {
    let now = clock.now();
    match find_config(store) {
        Ok(_) => {
            return Err(Error::Exists { location: store.location() });
        }
        Err(Error::NoRepository { .. }) => {}
        Err(error) => return Err(error),
    }
    let owner = SigningKey::random();
    let reader = options.encrypted.then(SecretKey::random);
    let id_key: Option<[u8; 32]> = options.encrypted.then(random::bytes);
    let public = reader.as_ref().map(SecretKey::public);
    let config = Config::new(owner.id(), public, options.parameters.clone(), now);
    let bytes = config.issue(&owner);
    let secrets = Secrets { owner: Some(owner), reader, id_key };
    let key =
        KeyFile::wrap(&secrets, config.repository, &options.label, passphrase, options.cost, now)
            .map_err(Error::sealed("a fresh key"))?;
    // The key first: a description without a key would be a repository that nobody
    // can open, while a key without a description is only a stray file.
    store.put_new(&names::key(key.id()), Bytes::from(key.encode()))?;
    store.put_new(names::CONFIG, Bytes::from(bytes.clone()))?;
    let stored = store.get(names::CONFIG, CONFIG_BYTES_MAX)?;
    // A reply may have been lost and the write tried again: what counts is what is there.
    if stored != bytes {
        let _ = store.delete(&names::key(key.id()));
        return Err(Error::Exists { location: store.location() });
    }
    Ok((config, key))
}

impl Repository {
    /// Opens the repository in a store.
    ///
    /// With a writer file nothing is asked of the store; otherwise this costs a GET
    /// of `asof.json`, and with a passphrase a LIST and a GET for each key file.
    ///
    /// # Errors
    ///
    /// [`Error::NoRepository`], [`Error::WrongKey`], and whatever store or index do.
    pub fn open(
        store: Arc<dyn Store>,
        credential: Credential,
        local: &LocalOptions,
        clock: &Clock,
    ) -> Result<Repository> {
        let stored = !matches!(credential, Credential::Writer(_));
        let (config, config_bytes, keys) = match credential {
            Credential::Writer(file) => {
                let keys = Keys::from_writer(&file)?;
                (file.config.clone(), file.config_bytes.clone(), keys)
            }
            other => {
                let (config, bytes) = read_config(store.as_ref())?;
                let keys = match other {
                    Credential::Passphrase(passphrase) => {
                        keyring::unlock(store.as_ref(), &config, &passphrase)?
                    }
                    Credential::Secrets(secrets) => Keys::from_secrets(&config, secrets)?,
                    Credential::Writer(_) | Credential::None => {
                        Keys::none(&config, &store.location())?
                    }
                };
                (config, bytes, keys)
            }
        };
        pin_location(&local.cache_dir, &store.location(), config.repository)?;
        let cache_dir = local.cache_dir.join(config.repository.to_string());
        // What is known is known of one store, and what is trusted is trusted by one key.
        let of = format!("{} {}", store.location(), keys.id());
        let own = hex::encode(&sha256(of.as_bytes())[..8]);
        let opened = Index::open(&cache_dir.join(own), config.repository)?;
        pin_config(&opened.index, &config, &config_bytes, stored)?;
        Ok(Repository {
            store,
            config,
            config_bytes,
            keys: Arc::new(keys),
            index: Arc::new(opened.index),
            cache_dir,
            clock: clock.clone(),
            store_clock: StoreClock::default(),
            rules: Rules::default(),
            lost: Mutex::default(),
            rebuilt: opened.rebuilt,
            infos: RwLock::new(None),
            certificates: Certificates::default(),
        })
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The description.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The bytes of `asof.json`.
    #[must_use]
    pub fn config_bytes(&self) -> &[u8] {
        &self.config_bytes
    }

    /// The keys at hand.
    #[must_use]
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// The index.
    #[must_use]
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Where this machine keeps what it knows of the repository, beside its index.
    #[must_use]
    pub(crate) fn local_dir(&self) -> &Path {
        &self.cache_dir
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What the store's clock shows, as far as this process has heard.
    #[must_use]
    pub fn store_now(&self) -> UnixTime {
        self.store_clock.now(&self.clock)
    }

    /// The newest time that the store told this process; long ago if it told none.
    pub(crate) fn store_heard(&self) -> UnixTime {
        self.store_clock.heard()
    }

    /// Notes a time that the store told just now.
    pub(crate) fn note_store_time(&self, at: UnixTime) {
        self.store_clock.note(at);
    }

    /// The rules of safety that this process keeps.
    #[must_use]
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Switches rules of safety off, for the simulation.
    #[doc(hidden)]
    #[must_use]
    pub fn with_rules(mut self, rules: Rules) -> Repository {
        self.rules = rules;
        self
    }

    /// How long after its receipt a thing is evidence: what stands on it must be received
    /// by then. Seconds.
    #[must_use]
    pub fn evidence_lasts(&self) -> i64 {
        let parameters = &self.config.parameters;
        let lasts = parameters.grace_seconds.saturating_sub(2 * parameters.skew_seconds);
        i64::try_from(lasts).unwrap_or(i64::MAX)
    }

    /// By how much the store's clocks and listings may be wrong.
    #[must_use]
    pub fn skew(&self) -> Duration {
        Duration::from_secs(self.config.parameters.skew_seconds)
    }

    /// The same. Seconds.
    #[must_use]
    pub fn skew_seconds(&self) -> i64 {
        i64::try_from(self.config.parameters.skew_seconds).unwrap_or(i64::MAX / 4)
    }

    /// Why the index had to be made anew when the repository was opened, if it was.
    #[must_use]
    pub fn rebuilt(&self) -> Option<&str> {
        self.rebuilt.as_deref()
    }

    /// Checks that this process may and can write.
    ///
    /// # Errors
    ///
    /// [`Error::NotAllowed`] or [`Error::Object`] with the flag that is not known.
    pub fn check_writable(&self) -> Result<()> {
        self.config.check_writable().map_err(Error::object(names::CONFIG))?;
        // What this machine knows may be of another state of the store than the one that
        // is there now: whatever is built on it would lack what that one lacks.
        if let Some(name) = self.lost().clone() {
            return Err(Error::LogLost { name, store: self.store.location() });
        }
        self.keys.signing().map(|_| ())
    }

    /// Checks that this process may collect: it has the owner's key, can read, and knows
    /// all that the repository uses.
    ///
    /// # Errors
    ///
    /// [`Error::NotAllowed`]; [`Error::Outdated`] if it has to be upgraded first;
    /// [`Error::Object`] with the flag that is not known.
    pub fn check_collectable(&self) -> Result<()> {
        self.check_writable()?;
        self.check_version("collecting")?;
        self.config.check_collectable().map_err(Error::object(names::CONFIG))?;
        self.keys.owner()?;
        if self.keys.can_read() {
            return Ok(());
        }
        Err(Error::NotAllowed { action: "collecting", needs: "a passphrase that reads" })
    }

    /// Checks that the repository is of the version of the format that this program
    /// writes: in an older one others may not know of what `action` relies on.
    ///
    /// # Errors
    ///
    /// [`Error::Outdated`].
    pub fn check_version(&self, action: &'static str) -> Result<()> {
        match self.config.asof {
            FORMAT_VERSION => Ok(()),
            found => Err(Error::Outdated { action, found }),
        }
    }

    /// Checks that this process may publish snapshots of a source. Whoever reads would
    /// leave out what its certificate does not allow, so nothing is uploaded for it.
    ///
    /// # Errors
    ///
    /// [`Error::NotAllowed`] if the writer file is for other sources, or has expired.
    pub fn check_source(&self, source: &str) -> Result<()> {
        let Signer::Writer(certificate) = &self.keys.signer else { return Ok(()) };
        if !certificate.allows(source) {
            return Err(Error::NotAllowed {
                action: "backing up a source of that name",
                needs: "a writer key that was made for it, with `key export-writer --source NAME`",
            });
        }
        if certificate.expires.is_some_and(|end| self.clock.now() > end) {
            return Err(Error::NotAllowed {
                action: "backing up",
                needs: "a writer key that has not expired",
            });
        }
        Ok(())
    }

    /// Brings the index up to date. An index that is corrupt, or whose file is no
    /// longer there, is made anew.
    ///
    /// # Errors
    ///
    /// [`Error`] if the store cannot be listed or the index cannot be written.
    pub fn sync(&self, full: bool) -> Result<SyncReport> {
        let gone = !self.index.is_current();
        if gone {
            self.reset_index()?;
        }
        let report = match log::sync(self, full || gone) {
            Ok(report) if report.stale => {
                self.reset_index()?;
                log::sync(self, true)
            }
            Err(Error::Index(error)) if error.kind() == Kind::Damaged => {
                self.reset_index()?;
                log::sync(self, true)
            }
            other => other,
        }?;
        self.lost().clone_from(&report.lost);
        Ok(report)
    }

    fn lost(&self) -> MutexGuard<'_, Option<String>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Throws the index away and fills it from the log.
    ///
    /// # Errors
    ///
    /// As [`Repository::sync`].
    pub fn rebuild(&self) -> Result<SyncReport> {
        self.reset_index()?;
        let report = log::sync(self, true)?;
        self.lost().clone_from(&report.lost);
        Ok(report)
    }

    fn reset_index(&self) -> Result<()> {
        self.index.reset()?;
        self.forget_infos();
        pin_config(&self.index, &self.config, &self.config_bytes, false)
    }

    /// When the index was last brought up to date.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] if it cannot be read.
    pub fn synced_at(&self) -> Result<Option<UnixTime>> {
        log::synced_at(self)
    }

    /// All snapshots that are known and not forgotten, oldest first.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] if the index cannot be read.
    pub fn snapshots(&self) -> Result<Arc<[Arc<SnapshotInfo>]>> {
        let version = self.index.snapshots_version()?;
        let cached = self.infos.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = cached.as_ref()
            && cached.version == version
        {
            return Ok(Arc::clone(&cached.infos));
        }
        drop(cached);
        let mut infos = Vec::new();
        for row in self.index.snapshots()? {
            infos.push(Arc::new(self.info_of(&row)?));
        }
        infos.sort_by_key(|info| (info.shown_from(), info.receipt, info.snapshot.id));
        let infos: Arc<[Arc<SnapshotInfo>]> = infos.into();
        let mut cached = self.infos.write().unwrap_or_else(PoisonError::into_inner);
        *cached = Some(CachedInfos { version, infos: Arc::clone(&infos) });
        Ok(infos)
    }

    /// Where each of them stands in time, in no order. Decodes none.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] if the index cannot be read.
    pub fn moments(&self) -> Result<Vec<Moment>> {
        Ok(self.index.snapshot_moments()?.into_iter().map(Moment::from).collect())
    }

    /// Where those stand in time that may be the newest of their source.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] if the index cannot be read.
    pub fn newest_moments(&self) -> Result<Vec<Moment>> {
        Ok(self.index.newest_moments()?.into_iter().map(Moment::from).collect())
    }

    /// The snapshot of that id, if it is known and not forgotten.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] if the index cannot be read.
    pub fn snapshot(&self, id: &SnapshotId) -> Result<Option<Arc<SnapshotInfo>>> {
        let row = self.index.snapshot(id)?;
        row.map(|row| Ok(Arc::new(self.info_of(&row)?))).transpose()
    }

    fn info_of(&self, row: &SnapshotRow) -> Result<SnapshotInfo> {
        match Fact::decode(&row.fact) {
            Ok((refs, Fact::Snapshot(snapshot))) => Ok(SnapshotInfo {
                snapshot: *snapshot,
                refs,
                receipt: UnixTime::new(row.receipt, 0),
                writer: row.writer,
                late: row.late,
            }),
            _ => Err(Error::Index(index::Error::Corrupt {
                path: self.index.path().to_owned(),
                what: "a snapshot's row does not decode".into(),
            })),
        }
    }

    /// Forgets the decoded snapshots, so that the next call reads the index.
    fn forget_infos(&self) {
        *self.infos.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A reader of its chunks, with a cache on disk unless the store is a directory
    /// of this machine.
    ///
    /// # Errors
    ///
    /// [`Error::NotAllowed`] if the keys at hand only write.
    pub fn reader(
        self: &Arc<Self>,
        local: &LocalOptions,
        options: ReaderOptions,
    ) -> Result<Reader> {
        if !self.keys.can_read() {
            return Err(Error::NotAllowed {
                action: "reading",
                needs: "a passphrase; a writer file only writes",
            });
        }
        let disk = (self.store.local_path().is_none() && local.cache_bytes > 0)
            .then(|| DiskCache::new(self.cache_dir.join("frames"), local.cache_bytes));
        let repo = Arc::downgrade(self);
        Ok(Reader::new(
            Arc::clone(&self.store),
            Arc::clone(&self.index),
            Arc::clone(&self.keys),
            disk,
            options,
            move || match repo.upgrade() {
                Some(repo) => repo.sync(true).map(|_| ()),
                None => Ok(()),
            },
        ))
    }
}

/// Reads and checks `asof.json`.
///
/// # Errors
///
/// [`Error::NoRepository`] if it is missing, [`Error::Upgrading`] if it is because an
/// upgrade was interrupted, [`Error::Object`] if it is damaged.
pub fn read_config(store: &dyn Store) -> Result<(Config, Vec<u8>)> {
    let bytes = find_config(store)?;
    let config = Config::decode(&bytes).map_err(Error::object(names::CONFIG))?;
    Ok((config, bytes.to_vec()))
}

fn find_config(store: &dyn Store) -> Result<Bytes> {
    let get = |name| match store.get(name, CONFIG_BYTES_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    if let Some(bytes) = get(names::CONFIG)? {
        return Ok(bytes);
    }
    let location = store.location();
    Err(match get(names::UPGRADE)? {
        Some(_) => Error::Upgrading { location },
        None => Error::NoRepository { location, missing: names::CONFIG },
    })
}

/// Remembers which repository was found at a place, and refuses another.
fn pin_location(cache_dir: &Path, location: &str, repository: RepositoryId) -> Result<()> {
    let dir = cache_dir.join("locations");
    let path = dir.join(hex::encode(sha256(location.as_bytes())));
    let file = |source| Error::Index(index::Error::File { path: path.clone(), source });
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim() == repository.to_string() => Ok(()),
        Ok(text) => Err(Error::Replaced {
            location: location.to_owned(),
            known: text.trim().to_owned(),
            found: repository.to_string(),
            pin: path.display().to_string(),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(&dir).map_err(file)?;
            // Several threads and machines may do this at once.
            let beside = dir.join(format!(".{}", hex::encode(random::bytes::<8>())));
            std::fs::write(&beside, repository.to_string()).map_err(file)?;
            std::fs::rename(&beside, &path).map_err(file)
        }
        Err(error) => Err(file(error)),
    }
}

/// Forgets which repository was at a place, when a new one was made there.
pub fn forget_location(cache_dir: &Path, location: &str) {
    let name = hex::encode(sha256(location.as_bytes()));
    let _ = std::fs::remove_file(cache_dir.join("locations").join(name));
}

/// Compares `asof.json` with what the index has seen before. Its version may rise, and
/// nothing else may change. A copy that the store did not give just now, as the one in a
/// writer file, may be older.
fn pin_config(index: &Index, config: &Config, bytes: &[u8], stored: bool) -> Result<()> {
    let refuse =
        |why: &str| Err(Error::object(names::CONFIG)(FormatError::malformed(names::CONFIG, why)));
    let identity = Config::identity(bytes).map_err(Error::object(names::CONFIG))?;
    let found = [&identity[..], &[config.asof], &sha256(bytes)].concat();
    let version = |pin: &[u8]| pin.get(identity.len()).copied();
    let Some(pinned) = index.meta(PIN)? else {
        return Ok(index.set_meta(PIN, &found)?);
    };
    match version(&pinned).cmp(&version(&found)) {
        _ if !pinned.starts_with(&identity) => {
            refuse("it is not what this machine saw before, although only its version ever changes")
        }
        Ordering::Less => Ok(index.set_meta(PIN, &found)?),
        Ordering::Equal if pinned == found => Ok(()),
        Ordering::Equal => refuse("it is not what this machine saw before, byte by byte"),
        Ordering::Greater if stored => {
            refuse("it is of an earlier format version than when this machine last saw it")
        }
        Ordering::Greater => Ok(()),
    }
}

/// What the index knows `asof.json` by: its identity, its version, its SHA-256.
const PIN: &str = "description";
