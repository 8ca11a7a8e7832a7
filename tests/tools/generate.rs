//! Fills a repository with synthetic snapshots, for `scripts/bench-gc` and `scripts/bench`.
//!
//! `generate DIR CHUNKS SNAPSHOTS`: the repository in DIR must be new; its passphrase is
//! in ASOF_PASSWORD and the cache directory in ASOF_CACHE_DIR, as for the program.
//!
//! A backup of a million files a thousand times would take hours of reading what did
//! not change. Here only what changes is made, and stored by the program's own writer:
//! files of one chunk each, a hundred to a directory, and a hundred of those to another, so
//! that no directory grows with the repository. The first snapshot has half of the chunks. Each of the others replaces ten files in each of some directories, of which
//! ten lie together.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use asof::base::{Clock, Progress, SnapshotId, Stop, UnixTime};
use asof::codec::hash::{ChunkKind, sha256};
use asof::codec::random;
use asof::format::extents::INLINE_MAX;
use asof::format::fact::{Fact, Snapshot};
use asof::format::node::{Entry, FileKind, Owner};
use asof::repo::keys::Credential;
use asof::repo::log::EncodedFact;
use asof::repo::trees::{DirBuilder, Draft, store_extents};
use asof::repo::writer::{Lane, Writer, WriterOptions};
use asof::repo::{LocalOptions, Repository};
use asof::store::LocalStore;

/// Files in a directory.
const FILES: usize = 100;
/// Directories in a directory of the root.
const DIRS: usize = 100;
/// Files of a directory that change together.
const CHANGED: usize = 10;
/// Directories beside each other that change together. If they were anywhere, each
/// change of a larger tree would store more nodes.
const TOGETHER: usize = 10;
/// No file is longer, and none so short that it is kept without a chunk. Bytes.
const LONGEST: usize = 3400;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, chunks, snapshots] = args.as_slice() else {
        anyhow::bail!("generate DIR CHUNKS SNAPSHOTS");
    };
    let (chunks, snapshots): (usize, usize) = (chunks.parse()?, snapshots.parse()?);
    ensure!(snapshots > 1, "at least two snapshots");
    let variable = |name| std::env::var(name).context(name);
    let passphrase = variable("ASOF_PASSWORD")?.into_bytes().into();
    let cache_dir = PathBuf::from(variable("ASOF_CACHE_DIR")?);
    let repo = Arc::new(Repository::open(
        Arc::new(LocalStore::open(dir.as_ref())?),
        Credential::Passphrase(passphrase),
        &LocalOptions { cache_dir, cache_bytes: 0 },
        &Clock::system(),
    )?);
    repo.sync(false)?;
    let dirs = (chunks / 2).div_ceil(FILES);
    let mut world = World { repo, state: 1, dirs: vec![Dir::default(); dirs], groups: Vec::new() };
    world.snapshot((0..dirs).collect(), FILES)?;
    let later = snapshots - 1;
    for number in 0..later {
        // As many directories as bring the chunks to their number in the end.
        let upto = |n: usize| chunks / 2 * n / later / CHANGED;
        let count = upto(number + 1) - upto(number);
        let mut some = BTreeSet::new();
        while some.len() < count.min(dirs) {
            let first = world.random(dirs);
            let wanted = count.min(dirs) - some.len();
            some.extend((first..dirs).take(TOGETHER.min(wanted)));
        }
        world.snapshot(some, CHANGED)?;
    }
    Ok(())
}

/// A directory as it is now.
#[derive(Clone, Default)]
struct Dir {
    files: Vec<Draft>,
    stored: Option<Draft>,
}

struct World {
    repo: Arc<Repository>,
    state: u64,
    dirs: Vec<Dir>,
    /// The directories of the root, as they are stored.
    groups: Vec<Draft>,
}

impl World {
    /// A number below a bound; the same ones in every run.
    fn random(&mut self, below: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 16) as usize % below
    }

    /// Gives new contents to `count` files in each of some directories, and publishes
    /// the whole as a snapshot.
    fn snapshot(&mut self, some: BTreeSet<usize>, count: usize) -> Result<()> {
        let repo = Arc::clone(&self.repo);
        let options = WriterOptions::default();
        let progress = Arc::new(Progress::silent());
        let writer = Writer::start(&repo, options, None, &progress, &Stop::new())?;
        let (mut data, mut nodes) = (writer.lane(ChunkKind::Data), writer.lane(ChunkKind::Node));
        let now = repo.clock().now();
        let mut groups: BTreeSet<usize> = BTreeSet::new();
        for place in some {
            groups.insert(place / DIRS);
            let mut dir = std::mem::take(&mut self.dirs[place]);
            let from = self.random(FILES - count + 1);
            for number in from..from + count {
                let file = self.file(number, now, &mut data, &mut nodes)?;
                match dir.files.get_mut(number) {
                    Some(old) => *old = file,
                    None => dir.files.push(file),
                }
            }
            let name = format!("d{place:06}");
            dir.stored = Some(store_dir(&repo, &name, now, dir.files.iter(), &mut nodes)?);
            self.dirs[place] = dir;
        }
        data.flush()?;
        for number in groups {
            let dirs = self.dirs.iter().skip(number * DIRS).take(DIRS);
            let stored = dirs.filter_map(|dir| dir.stored.as_ref());
            let group = store_dir(&repo, &format!("g{number:05}"), now, stored, &mut nodes)?;
            match self.groups.get_mut(number) {
                Some(old) => *old = group,
                None => self.groups.push(group),
            }
        }
        let root = store_dir(&repo, "", now, self.groups.iter(), &mut nodes)?;
        let (snapshot, refs) = snapshot_of(root, now);
        let fact = Fact::Snapshot(Box::new(snapshot)).encode(&refs);
        nodes.statement(&fact, &refs)?;
        nodes.flush()?;
        drop((data, nodes));
        writer.finish(vec![EncodedFact { bytes: fact }])?;
        Ok(())
    }

    /// A new file.
    fn file(
        &mut self,
        number: usize,
        now: UnixTime,
        data: &mut Lane,
        nodes: &mut Lane,
    ) -> Result<Draft> {
        let length = INLINE_MAX + 1 + self.random(LONGEST - INLINE_MAX);
        let bytes: Vec<u8> = (0..length.div_ceil(4))
            .flat_map(|_| (self.random(1 << 32) as u32).to_le_bytes())
            .take(length)
            .collect();
        let sha = sha256(&bytes);
        let id = data.add(&bytes, &sha)?;
        let mut draft = draft(&format!("f{number:02}"), FileKind::File, now);
        draft.entry.size = length as u64;
        draft.entry.sha256 = Some(sha.to_vec().into());
        (draft.entry.content, draft.refs) = store_extents(&[(length as u64, Some(id))], nodes)?;
        Ok(draft)
    }
}

/// Stores a directory and returns its own entry.
fn store_dir<'a>(
    repo: &Repository,
    name: &str,
    now: UnixTime,
    entries: impl Iterator<Item = &'a Draft>,
    nodes: &mut Lane,
) -> Result<Draft> {
    let mut builder = DirBuilder::new(repo.keys().split.clone());
    for entry in entries {
        builder.add(entry.clone(), 0, nodes)?;
    }
    let stored = builder.finish(nodes)?;
    Ok(stored.entry_of(draft(name, FileKind::Dir, now)))
}

fn draft(name: &str, kind: FileKind, now: UnixTime) -> Draft {
    let entry = Entry::new(name.as_bytes(), kind, 0o644, now);
    Draft { entry, refs: Vec::new(), owner: Owner::default() }
}

fn snapshot_of(root: Draft, now: UnixTime) -> (Snapshot, Vec<asof::base::ChunkId>) {
    let id = SnapshotId(random::bytes());
    (Snapshot::new(id, "bench", root.entry, root.owner, now), root.refs)
}
