//! The one that sees everything: after each step, every snapshot that was published in
//! time and is not forgotten must read back as what was backed up.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use asof::base::{ChunkId, SnapshotId};
use asof::format::node::FileKind;
use asof::repo::browse::each_entry;
use asof::repo::keys::Credential;
use asof::repo::reader::ReaderOptions;
use asof::repo::rules::Rules;
use asof::repo::{self, FileContent, Library, LocalOptions, Repository, Shelf, SnapshotInfo};

use crate::stream::Watched;
use crate::tree::Content;
use crate::world::{OBSERVER, Rights, SimStore, World};

pub struct Oracle {
    world: Arc<World>,
    store: Arc<SimStore>,
    local: LocalOptions,
    credential: Box<dyn Fn() -> Credential>,
    rules: Rules,
    repo: Arc<Repository>,
    /// What the snapshot with that tag must hold.
    models: HashMap<String, Arc<Content>>,
    /// The objects from which each snapshot was read when it last was.
    read_from: HashMap<SnapshotId, HashSet<String>>,
    /// The snapshots of which a backup said that they are published.
    promised: BTreeSet<SnapshotId>,
    /// The snapshots that somebody wanted to forget.
    given_up: HashSet<SnapshotId>,
    pub segments: Watched,
    pub checks: usize,
    again: bool,
}

impl Oracle {
    pub fn new(
        world: &Arc<World>,
        dir: &Path,
        rules: Rules,
        credential: impl Fn() -> Credential + 'static,
    ) -> Oracle {
        let store = Arc::new(SimStore::new(world, OBSERVER, Rights::All));
        let local = LocalOptions { cache_dir: dir.to_owned(), cache_bytes: 0 };
        let repo = open(world, &store, credential(), &local, rules);
        Oracle {
            world: Arc::clone(world),
            store,
            local,
            credential: Box::new(credential),
            rules,
            repo,
            models: HashMap::new(),
            read_from: HashMap::new(),
            promised: BTreeSet::new(),
            given_up: HashSet::new(),
            segments: Watched::default(),
            checks: 0,
            again: false,
        }
    }

    pub fn expect(&mut self, tag: String, content: Arc<Content>) {
        self.models.insert(tag, content);
    }

    pub fn promise(&mut self, snapshot: SnapshotId) {
        self.promised.insert(snapshot);
    }

    pub fn give_up(&mut self, snapshots: &[SnapshotId]) {
        self.given_up.extend(snapshots);
    }

    /// Whether a snapshot may be missing or unreadable since somebody forgets it.
    pub fn is_given_up(&self, snapshot: SnapshotId) -> bool {
        self.given_up.contains(&snapshot)
    }

    /// What the snapshot with that tag must hold.
    pub fn content_of(&self, tag: &str) -> Option<&Arc<Content>> {
        self.models.get(tag)
    }

    /// Makes the next check look, whether something changed in the store or not.
    pub fn look_again(&mut self) {
        self.again = true;
    }

    /// Checks all that may have changed since the last check.
    pub fn check(&mut self) -> Result<(), String> {
        let changes = self.world.changes();
        let again = std::mem::take(&mut self.again);
        if changes.put.is_empty() && changes.deleted.is_empty() && !again {
            return Ok(());
        }
        // What a machine knows that was there before must not hide what a new one misses.
        if changes.deleted.iter().any(|key| key.starts_with("log/")) {
            return self.check_as_new();
        }
        self.repo.sync(true).map_err(|error| format!("the log cannot be read: {error:?}"))?;
        for from in self.read_from.values_mut().chain(self.segments.read_from.values_mut()) {
            if from.iter().any(|key| changes.deleted.contains(key)) {
                from.clear();
            }
        }
        self.check_all()
    }

    /// Checks everything, as a machine does that knows nothing yet.
    pub fn check_as_new(&mut self) -> Result<(), String> {
        let _ = std::fs::remove_dir_all(&self.local.cache_dir);
        self.repo = open(&self.world, &self.store, (self.credential)(), &self.local, self.rules);
        self.read_from.clear();
        self.segments.read_from.clear();
        self.repo.sync(true).map_err(|error| format!("the log cannot be read: {error:?}"))?;
        self.check_all()
    }

    fn check_all(&mut self) -> Result<(), String> {
        let listed = self.repo.snapshots().map_err(|error| format!("{error:?}"))?;
        let standing: HashSet<SnapshotId> =
            listed.iter().filter(|info| !info.late).map(|info| info.snapshot.id).collect();
        for id in &self.promised {
            if !standing.contains(id) && !self.given_up.contains(id) {
                let how = match listed.iter().any(|info| info.snapshot.id == *id) {
                    true => "came too late, though its backup said that it stands",
                    false => "is not in the log any more, though nobody forgot it",
                };
                return Err(format!("snapshot {id} {how}"));
            }
        }
        for info in listed.iter().filter(|info| !info.late) {
            let id = info.snapshot.id;
            if self.read_from.get(&id).is_some_and(|from| !from.is_empty()) {
                continue;
            }
            self.checks += 1;
            self.store.take_read();
            let found = read(&self.repo, &self.local, info);
            let tag = info.snapshot.tags.first().cloned().unwrap_or_default();
            let found = found.map_err(|why| {
                format!(
                    "snapshot {id} ({tag}) of {} is lost: {why} ({why:?})",
                    info.snapshot.source
                )
            })?;
            let model = self.models.get(&tag).ok_or(format!("snapshot {id}: tag {tag}?"))?;
            if found != **model {
                return Err(format!("snapshot {id} ({tag}) is not what was backed up"));
            }
            // What somebody once read is published, whether its backup knows or not.
            self.promised.insert(id);
            let from: HashSet<String> =
                self.store.take_read().into_iter().filter(|k| k.starts_with("packs/")).collect();
            self.read_from.insert(id, from);
        }
        let (repo, local) = (&self.repo, &self.local);
        self.checks += self.segments.check(repo, local, &self.store, &self.given_up)?;
        Ok(())
    }
}

fn open(
    world: &Arc<World>,
    store: &Arc<SimStore>,
    credential: Credential,
    local: &LocalOptions,
    rules: Rules,
) -> Arc<Repository> {
    let store = Arc::clone(store);
    let repo = Repository::open(store, credential, local, &world.clock(0)).unwrap();
    Arc::new(repo.with_rules(rules))
}

/// Reads a whole snapshot with a reader that has nothing in memory.
pub fn read(
    repo: &Arc<Repository>,
    local: &LocalOptions,
    info: &SnapshotInfo,
) -> repo::Result<Content> {
    // Threads that fetch ahead would only find what is read anyway.
    let options = ReaderOptions { fetchers: 1, ..ReaderOptions::default() };
    let shelf = Shelf::open(repo, local, options)?;
    read_through(&shelf, info)
}

/// Reads a whole snapshot.
pub fn read_through(library: &dyn Library, info: &SnapshotInfo) -> repo::Result<Content> {
    let mut found = BTreeMap::new();
    let root = &info.snapshot.root;
    let node = root.subtree.and_then(|subtree| info.refs.get(subtree.node as usize).copied());
    if let Some(node) = node {
        read_dir(library, node, "", &mut found)?;
    }
    Ok(found)
}

fn read_dir(
    library: &dyn Library,
    dir: ChunkId,
    path: &str,
    found: &mut Content,
) -> repo::Result<()> {
    let mut below = Vec::new();
    each_entry::<repo::Error, ()>(library, dir, |entry| {
        let name = String::from_utf8_lossy(&entry.entry().name).into_owned();
        let path = if path.is_empty() { name } else { format!("{path}/{name}") };
        if let Some(node) = entry.dir() {
            below.push((node, path));
        } else if entry.entry().kind == FileKind::File {
            let content = FileContent::of(entry.entry(), entry.refs());
            let size = usize::try_from(content.size()).unwrap();
            found.insert(path, library.read(&content, 0, size)?.to_vec());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    below.into_iter().try_for_each(|(node, path)| read_dir(library, node, &path, found))
}

/// Where an oracle keeps its index below a run's directory.
pub fn dir_in(dir: &Path) -> PathBuf {
    dir.join("oracle")
}
