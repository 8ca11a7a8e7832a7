//! Who takes part, and what each of them does: the real code on a thread of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use asof::base::{Clock, PackId, Progress, RepositoryId, SnapshotId, Stop, UnixTime, error_chain};
use asof::codec::envelope::SecretKey;
use asof::codec::hash::sha256;
use asof::codec::sign::SigningKey;
use asof::format::certificate::Certificate;
use asof::format::config::{Config, Parameters};
use asof::format::fact::{Fact, Forget};
use asof::format::keyfile::Secrets;
use asof::format::names;
use asof::format::pack::PackFact;
use asof::format::writerfile::WriterFile;
use asof::ops::backup::{BackupOptions, BackupReport, backup};
use asof::repo::keys::Credential;
use asof::repo::log::{Chain, EncodedFact};
use asof::repo::packer::open_pack;
use asof::repo::reader::ReaderOptions;
use asof::repo::rules::Rules;
use asof::repo::writer::WriterOptions;
use asof::repo::{self, Library, LocalOptions, Repository, Shelf};
use asof::store::Store;

use crate::oracle::read_through;
use crate::rng::Rng;
use crate::stream;
use crate::tree::Content;
use crate::world::{Party, SimStore};

/// What a party is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Writer,
    Forgetter,
    Collector,
    Reader,
}

/// The repository's keys.
pub struct Keys {
    pub config: Config,
    pub config_bytes: Vec<u8>,
    secrets: Secrets,
}

impl Keys {
    pub fn new(encrypted: bool, parameters: Parameters) -> Keys {
        let owner = SigningKey::from_seed(sha256(b"owner"));
        let reader = encrypted.then(|| SecretKey::from_bytes(sha256(b"reader")));
        let public = reader.as_ref().map(SecretKey::public);
        let created = UnixTime::new(crate::world::BEGIN, 0);
        let config = Config::new(owner.id(), public, parameters, created);
        let config_bytes = config.issue(&owner);
        let id_key = encrypted.then(|| sha256(b"ids"));
        let secrets = Secrets { owner: Some(owner), reader, id_key };
        Keys { config, config_bytes, secrets }
    }

    pub fn owner(&self) -> Credential {
        Credential::Secrets(self.secrets.clone())
    }

    pub fn writer(&self, name: &str, trusted: bool) -> Credential {
        let key = SigningKey::from_seed(sha256(name.as_bytes()));
        let certificate = Certificate {
            repository: self.repository(),
            writer: key.id(),
            label: name.to_owned(),
            sources: None,
            trusted,
            issued: UnixTime::new(crate::world::BEGIN, 0),
            expires: None,
        };
        Credential::Writer(Box::new(WriterFile {
            config: self.config.clone(),
            config_bytes: self.config_bytes.clone(),
            certificate_bytes: certificate.issue(self.secrets.owner.as_ref().unwrap()),
            certificate,
            key,
            id_key: self.secrets.id_key,
        }))
    }

    fn repository(&self) -> RepositoryId {
        self.config.repository
    }
}

/// What shows a party in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Owner,
    Trusted,
    Untrusted,
}

/// How packs are collected: the program's own way, or one that a test wants caught.
pub type Collect = fn(&Arc<Repository>, &Desk, &mut Rng) -> Result<String, Trouble>;

/// What a party has at hand while it does something.
pub struct Desk {
    pub party: Party,
    pub store: Arc<SimStore>,
    pub keys: Arc<Keys>,
    pub pass: Pass,
    pub local: LocalOptions,
    pub clock: Clock,
    pub rules: Rules,
    /// Whether nobody else writes.
    pub alone: bool,
    /// Where a forgetter says beforehand what it will forget.
    pub given_up: Arc<Mutex<Vec<SnapshotId>>>,
}

impl Desk {
    pub fn open(&self) -> repo::Result<Arc<Repository>> {
        let credential = match self.pass {
            Pass::Owner => self.keys.owner(),
            Pass::Trusted => self.keys.writer(&format!("writer {}", self.party), true),
            Pass::Untrusted => self.keys.writer(&format!("writer {}", self.party), false),
        };
        let store = Arc::clone(&self.store);
        let repo = Repository::open(store, credential, &self.local, &self.clock)?;
        Ok(Arc::new(repo.with_rules(self.rules)))
    }

    /// Opens the repository and learns what is new, as the command does.
    pub fn open_new(&self) -> repo::Result<Arc<Repository>> {
        let repo = self.open()?;
        if repo.keys().can_read() {
            repo.sync(false)?;
        }
        Ok(repo)
    }
}

/// Something that a party does.
pub enum Deed {
    Backup {
        source: String,
        path: PathBuf,
        tag: String,
        force: bool,
        skip_if_unchanged: bool,
    },
    /// Publishes a segment that begins at that position and has that content.
    Follow {
        source: String,
        after: u64,
        content: usize,
    },
    Forget {
        keep: usize,
        chance: u64,
    },
    Collect {
        how: Collect,
        chance: u64,
    },
    Read {
        shelf: Option<Arc<Shelf>>,
        refresh: bool,
        chance: u64,
    },
    /// Claims that a pack of rubbish has what another pack has.
    Lie {
        chance: u64,
    },
}

/// How it ended.
pub enum Outcome {
    BackedUp(Result<Box<BackupReport>, Trouble>),
    /// Where the segment begins.
    Followed(Result<u64, Trouble>),
    Forgot(Result<usize, Trouble>),
    Collected(Result<String, Trouble>),
    Read(Result<Box<ReadBack>, Trouble>),
    Lied(Result<(), Trouble>),
}

/// Why something failed.
pub struct Trouble {
    pub late: bool,
    pub text: String,
}

impl<E: std::error::Error> From<E> for Trouble {
    fn from(error: E) -> Trouble {
        let text = error_chain(&error);
        // The one failure that slowness alone brings about.
        Trouble { late: text.contains("only after what it builds on"), text }
    }
}

/// A snapshot that a reader read.
pub struct ReadBack {
    pub shelf: Arc<Shelf>,
    pub snapshot: Option<(SnapshotId, String, Result<Content, String>)>,
}

pub fn perform(deed: Deed, desk: &Desk) -> Outcome {
    match deed {
        Deed::Backup { source, path, tag, force, skip_if_unchanged } => {
            let options = BackupOptions {
                source,
                host: "sim".into(),
                user: "sim".into(),
                tags: vec![tag],
                skip_if_unchanged,
                force,
                writer: WriterOptions { uploads: 1, ..WriterOptions::default() },
                ..BackupOptions::default()
            };
            let silent = Arc::new(Progress::silent());
            Outcome::BackedUp(match desk.open_new() {
                Ok(repo) => {
                    let done = backup(&repo, &[path], &options, &silent, &Stop::new());
                    done.map(Box::new).map_err(Trouble::from)
                }
                Err(error) => Err(error.into()),
            })
        }
        Deed::Follow { source, after, content } => {
            Outcome::Followed(stream::publish(desk, source, after, content).map(|()| after))
        }
        Deed::Forget { keep, chance } => Outcome::Forgot(forget(desk, keep, chance)),
        Deed::Collect { how, chance } => Outcome::Collected(match desk.open() {
            Ok(repo) => how(&repo, desk, &mut Rng::new(chance)),
            Err(error) => Err(error.into()),
        }),
        Deed::Read { shelf, refresh, chance } => {
            Outcome::Read(look(desk, shelf, refresh, chance).map(Box::new))
        }
        Deed::Lie { chance } => Outcome::Lied(lie(desk, chance)),
    }
}

fn forget(desk: &Desk, keep: usize, chance: u64) -> Result<usize, Trouble> {
    let repo = desk.open_new()?;
    let mut rng = Rng::new(chance);
    let mut by_source: BTreeMap<String, Vec<SnapshotId>> = BTreeMap::new();
    for info in repo.snapshots()?.iter() {
        by_source.entry(info.snapshot.source.clone()).or_default().push(info.snapshot.id);
    }
    let mut chosen = Vec::new();
    for ids in by_source.values() {
        let old = &ids[..ids.len().saturating_sub(keep)];
        chosen.extend(old.iter().filter(|_| rng.chance(700)));
    }
    chosen.extend(stream::expendable(&repo, keep, &mut rng)?);
    if chosen.is_empty() {
        return Ok(0);
    }
    desk.given_up.lock().unwrap().extend(&chosen);
    let count = chosen.len();
    let fact = Fact::Forget(Forget { snapshots: chosen, reason: None });
    let far = Some(UnixTime::new(253_402_300_799, 0));
    Chain::default().publish(&repo, vec![EncodedFact::of(&fact)], far)?;
    Ok(count)
}

fn look(
    desk: &Desk,
    shelf: Option<Arc<Shelf>>,
    refresh: bool,
    chance: u64,
) -> Result<ReadBack, Trouble> {
    let shelf = match shelf {
        Some(shelf) => shelf,
        None => {
            let options = ReaderOptions { fetchers: 1, ..ReaderOptions::default() };
            Arc::new(Shelf::open(&desk.open_new()?, &desk.local, options)?)
        }
    };
    if refresh {
        shelf.refresh()?;
    }
    let known: Vec<_> = shelf.snapshots()?.into_iter().filter(|info| !info.late).collect();
    if known.is_empty() {
        return Ok(ReadBack { shelf, snapshot: None });
    }
    let info = Rng::new(chance).pick(&known).clone();
    let tag = info.snapshot.tags.first().cloned().unwrap_or_default();
    let found = read_through(shelf.as_ref(), &info).map_err(|error| Trouble::from(error).text);
    Ok(ReadBack { shelf, snapshot: Some((info.snapshot.id, tag, found)) })
}

fn lie(desk: &Desk, chance: u64) -> Result<(), Trouble> {
    let repo = desk.open_new()?;
    let page = desk.store.list(names::PACKS, None)?;
    if page.objects.is_empty() {
        return Ok(());
    }
    let honest = &Rng::new(chance).pick(&page.objects).key;
    let bytes = desk.store.get(honest, u64::MAX)?;
    let id = names::parse_pack(honest).unwrap();
    // Its own rubbish is of no use.
    let Ok(told) = open_pack(id, &bytes, repo.config().repository, None, None) else {
        return Ok(());
    };
    let rubbish = vec![7; bytes.len()];
    let id = PackId(sha256(&[rubbish.as_slice(), &chance.to_be_bytes()].concat()));
    desk.store.put_new(&names::pack(id), rubbish.into())?;
    let fact = Fact::Pack(Box::new(PackFact { id, ..told }));
    let far = Some(UnixTime::new(253_402_300_799, 0));
    Chain::default().publish(&repo, vec![EncodedFact::of(&fact)], far)?;
    Ok(())
}

/// Copies what a machine remembers, as it stands at this moment.
pub fn copy_dir(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    let Ok(entries) = fs::read_dir(from) else { return };
    for entry in entries.flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_dir(&path, &target);
        } else if path.extension().is_none_or(|end| end != "sqlite-shm") {
            // The map of the write-ahead log is made anew by whoever opens it next.
            fs::copy(&path, &target).unwrap();
        }
    }
}
