//! Fills a repository with synthetic snapshots, for `scripts/bench-gc` and `scripts/bench`.
//!
//! `generate DIR CHUNKS SNAPSHOTS [FILES]`: the repository in DIR must be new; its passphrase
//! is in ASOF_PASSWORD and the cache directory in ASOF_CACHE_DIR, as for the program.
//!
//! A backup of a million files a thousand times would take hours of reading what did
//! not change. Here only what changes is made, and stored by the program's own writer:
//! files of one chunk each, a hundred to a directory, and a hundred of those to another, so
//! that no directory grows with the repository. The first snapshot has half of the chunks.
//! Each of the others replaces ten files in each of some directories, of which ten lie
//! together. With FILES the first has so many, and the others replace single files anywhere.
//!
//! Snapshots are taken an hour after each other, the last one now: the records are given the
//! names and times that they would have then, as the store is a directory.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use asof::base::{ChunkId, Clock, Progress, RecordId, SnapshotId, Stop, UnixTime};
use asof::codec::hash::{ChunkKind, sha256};
use asof::codec::random;
use asof::format::extents::INLINE_MAX;
use asof::format::fact::{Fact, Snapshot};
use asof::format::names::{self, Hour};
use asof::format::node::{Entry, FileKind, Owner};
use asof::repo::keys::Credential;
use asof::repo::log::EncodedFact;
use asof::repo::trees::{DirBuilder, Draft, NodeSink, store_extents};
use asof::repo::writer::{Lane, Writer, WriterOptions};
use asof::repo::{LocalOptions, Repository};
use asof::store::LocalStore;

/// Files in a directory.
const FILES: usize = 100;
/// Directories in a directory of the root.
const DIRS: usize = 100;
/// From one snapshot to the next.
const APART: Duration = Duration::from_secs(3600);
/// Directories beside each other that change together. If they were anywhere, each
/// change of a larger tree would store more nodes.
const TOGETHER: usize = 10;
/// No file is longer, and none so short that it is kept without a chunk. Bytes.
const LONGEST: usize = 3400;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (dir, chunks, snapshots, files) = match args.as_slice() {
        [dir, chunks, snapshots] => (dir, chunks, snapshots, None),
        [dir, chunks, snapshots, files] => (dir, chunks, snapshots, Some(files)),
        _ => anyhow::bail!("generate DIR CHUNKS SNAPSHOTS [FILES]"),
    };
    let (chunks, snapshots): (usize, usize) = (chunks.parse()?, snapshots.parse()?);
    let files: Option<usize> = files.map(|files| files.parse()).transpose()?;
    // How many files of a directory change together, and directories beside each other.
    let (changed, together) = if files.is_some() { (1, 1) } else { (10, TOGETHER) };
    ensure!(snapshots > 1, "at least two snapshots");
    ensure!(files.is_none_or(|files| files <= chunks), "each file has a chunk");
    let variable = |name| std::env::var(name).context(name);
    let passphrase = variable("ASOF_PASSWORD")?.into_bytes();
    let open = |cache_dir: &Path| -> Result<Arc<Repository>> {
        let repo = Repository::open(
            Arc::new(LocalStore::open(dir.as_ref())?),
            Credential::Passphrase(Vec::clone(&passphrase).into()),
            &LocalOptions { cache_dir: cache_dir.to_owned(), cache_bytes: 0 },
            &Clock::system(),
        )?;
        repo.sync(false)?;
        Ok(Arc::new(repo))
    };
    let scratch = tempfile::tempdir()?;
    let repo = open(scratch.path())?;
    let first = files.unwrap_or(chunks / 2);
    let dirs = first.div_ceil(FILES);
    let later = snapshots - 1;
    let start = repo.clock().now().minus(APART * u32::try_from(later)?);
    let mut world = World {
        repo,
        state: 1,
        dirs: vec![Dir::default(); dirs],
        groups: Vec::new(),
        now: start,
        published: Vec::new(),
    };
    world.snapshot((0..dirs).collect(), FILES)?;
    for number in 0..later {
        // As many directories as bring the chunks to their number in the end.
        let upto = |n: usize| (chunks - first) * n / later / changed;
        let count = upto(number + 1) - upto(number);
        let mut some = BTreeSet::new();
        while some.len() < count.min(dirs) {
            let first = world.random(dirs);
            let wanted = count.min(dirs) - some.len();
            some.extend((first..dirs).take(together.min(wanted)));
        }
        world.now = world.now.plus(APART);
        world.snapshot(some, changed)?;
    }
    date_records(&Path::new(dir).join(names::LOG), &world.published)?;
    open(&PathBuf::from(variable("ASOF_CACHE_DIR")?))?;
    Ok(())
}

/// Gives records the names and times of when the snapshots were taken that they belong to:
/// the last record of each is given, and those before it are older.
fn date_records(log: &Path, published: &[(RecordId, UnixTime)]) -> Result<()> {
    let mut records: Vec<(SystemTime, PathBuf)> = Vec::new();
    for file in std::fs::read_dir(log)? {
        let file = file?;
        records.push((file.metadata()?.modified()?, file.path()));
    }
    records.sort();
    let mut due = published.iter();
    let mut next = due.next();
    for (_, path) in records {
        let Some((last, at)) = next else { break };
        let name = path.file_name().and_then(|name| name.to_str()).context("a record's name")?;
        let name = format!("{}{name}", names::LOG);
        let (_, id) = names::parse_record(&name).context("a record's name")?;
        let seconds = Duration::from_secs(u64::try_from(at.seconds)?);
        File::options().write(true).open(&path)?.set_modified(SystemTime::UNIX_EPOCH + seconds)?;
        let dated = names::record(Hour::of(*at), id);
        std::fs::rename(&path, log.join(dated.trim_start_matches(names::LOG)))?;
        if id == *last {
            next = due.next();
        }
    }
    ensure!(next.is_none(), "a snapshot's record is not in the log");
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
    /// When the next snapshot is taken.
    now: UnixTime,
    /// The last record of each snapshot, and when it was taken.
    published: Vec<(RecordId, UnixTime)>,
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
        let now = self.now;
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
        let (published, _) = writer.finish(vec![EncodedFact { bytes: fact }])?;
        self.published.push((published.context("nothing was published")?.id, now));
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

/// Where nodes at the top of a tree go, as those of a backup do.
struct Top<'a>(&'a mut Lane);

impl NodeSink for Top<'_> {
    fn node(&mut self, bytes: Vec<u8>) -> asof::repo::Result<ChunkId> {
        self.0.node(bytes)
    }

    fn upper_node(&mut self, bytes: Vec<u8>) -> asof::repo::Result<ChunkId> {
        self.0.top_node(&bytes)
    }
}

/// Stores a directory of directories, or of files, and returns its own entry.
fn store_dir<'a>(
    repo: &Repository,
    name: &str,
    now: UnixTime,
    entries: impl Iterator<Item = &'a Draft>,
    nodes: &mut Lane,
) -> Result<Draft> {
    let mut builder = DirBuilder::new(repo.keys().split.clone());
    let mut sink = Top(nodes);
    for entry in entries {
        builder.add(entry.clone(), 0, &mut sink)?;
    }
    let stored = builder.finish(&mut sink)?;
    Ok(stored.entry_of(draft(name, FileKind::Dir, now)))
}

fn draft(name: &str, kind: FileKind, now: UnixTime) -> Draft {
    let entry = Entry::new(name.as_bytes(), kind, 0o644, now);
    Draft { entry, refs: Vec::new(), owner: Owner::default() }
}

fn snapshot_of(root: Draft, now: UnixTime) -> (Snapshot, Vec<ChunkId>) {
    let id = SnapshotId(random::bytes());
    (Snapshot::new(id, "bench", root.entry, root.owner, now), root.refs)
}
