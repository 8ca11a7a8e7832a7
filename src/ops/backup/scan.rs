//! The walk's side of a backup: every file is compared with what the last scan saw,
//! and handed on either as it was or to be read.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_channel::{Sender, TrySendError, bounded};

use super::assemble::{Assembler, Event};
use super::draft::{Devices, draft};
use super::read::{self, Job, Promise, Slot};
use super::{BackupOptions, Tree, old_draft, owner_of, report_problem};
use crate::base::{ChunkId, Progress, Ranges, Stop};
use crate::codec::chunker::Chunker;
use crate::codec::hash::ChunkKind;
use crate::format::node::{Entry, Leaf, LinkId, MARK_CHANGED_WHILE_READ, Node};
use crate::ops::{Error, Result};
use crate::repo::trees::{Draft, StoredDir, fits};
use crate::repo::writer::Writer;
use crate::repo::{self, Repository};
use crate::source::{FileKind, Meta, Owners, Roots, Rules, Trouble, Visit, Visitor, walk};

/// The walk hands so many events to the assembler together: a thread that is woken for each
/// takes longer to wake than to work.
const BATCH: usize = 64;
/// How many batches the walk may be ahead of the assembler.
const BATCHES: usize = 64;
/// Small files are handed to a reader together, up to so many bytes, which fill a frame of
/// its lane: what lies together compresses together, and is read together. …
const JOB_BYTES: u64 = 5 << 19;
/// … and so many files.
const JOB_FILES: usize = 512;

/// One scan of a source.
pub(super) struct Scan<'a> {
    pub(super) repo: &'a Arc<Repository>,
    pub(super) roots: &'a Roots,
    pub(super) rules: &'a Rules,
    pub(super) options: &'a BackupOptions,
    pub(super) generation: i64,
    pub(super) base: Option<i64>,
    pub(super) progress: &'a Arc<Progress>,
    pub(super) stop: &'a Stop,
}

/// Walks, reads and assembles. Returns the tree, and which rows of the last scan hold for this
/// one too.
pub(super) fn run(scan: &Scan<'_>, writer: &Writer) -> Result<(Tree, Ranges)> {
    let keys = scan.repo.keys();
    let chunker = Chunker::new(scan.repo.config().parameters.chunks, &keys.ids);
    let (events, to_assemble) = bounded::<Vec<Event>>(BATCHES);
    let (jobs, to_read) = bounded::<Job>(8);
    let readers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(8);
    std::thread::scope(|scope| {
        let reading: Vec<_> = (0..readers)
            .map(|_| {
                let (to_read, lane) = (to_read.clone(), writer.lane(ChunkKind::Data));
                let chunker = &chunker;
                scope.spawn(move || read::work(&to_read, lane, chunker, scan.progress, scan.stop))
            })
            .collect();
        drop(to_read);
        let lane = writer.lane(ChunkKind::Node);
        let assembling = scope.spawn(move || Assembler::new(scan, lane).run(&to_assemble));
        let mut walker = Walker {
            scan,
            writer,
            events,
            batch: Vec::with_capacity(BATCH),
            jobs: Some(jobs),
            job: Vec::new(),
            job_bytes: 0,
            owners: Owners::new(),
            devices: Devices::default(),
            linked: HashMap::new(),
            dirs: Vec::new(),
            walk_started: scan.repo.clock().now(),
        };
        let walked = walk(scan.roots, scan.rules, &scan.options.skip, &mut walker)
            .and_then(|()| walker.flush_events())
            .and_then(|()| walker.flush_job());
        drop(walker);
        let assembled = assembling.join().unwrap_or_else(|_| Err(gone("the assembler")));
        let mut outcomes = vec![walked];
        for reader in reading {
            outcomes.push(reader.join().unwrap_or_else(|_| Err(gone("a reader"))));
        }
        // When one of them fails, the others are merely interrupted.
        let failures = outcomes.into_iter().filter_map(Result::err);
        let (assembled, failures) = match assembled {
            Ok(tree) => (Some(tree), failures.collect::<Vec<_>>()),
            Err(error) => (None, std::iter::once(error).chain(failures).collect()),
        };
        let interrupted = |error: &Error| matches!(error, Error::Repo(repo::Error::Interrupted));
        let (vague, causes): (Vec<_>, Vec<_>) = failures.into_iter().partition(interrupted);
        match (causes.into_iter().chain(vague).next(), assembled) {
            (None, Some(tree)) if !scan.stop.is_raised() => Ok(tree),
            (Some(error), _) => Err(error),
            (None, _) => Err(repo::Error::Interrupted.into()),
        }
    })
}

fn gone(what: &str) -> Error {
    repo::Error::Worker(what.to_owned()).into()
}

/// A directory as the last scan saw it, read leaf by leaf as the walk goes along.
struct OldDir {
    path: Vec<u8>,
    parts: u32,
    part: u32,
    refs: Vec<ChunkId>,
    leaf: Leaf,
    inodes: Vec<u64>,
    at: usize,
    /// The rows of the index that it was read from.
    rows: Vec<u64>,
    /// Whether a name that was there is there no longer.
    lost: bool,
}

impl OldDir {
    /// Goes into the next leaf, given by its row; false if that is none.
    fn enter(&mut self, (number, body): (u64, Vec<u8>)) -> bool {
        let Ok(part) = minicbor::decode::<LeafPart>(&body) else { return false };
        let Ok((refs, Node::Leaf(leaf))) = Node::decode(&part.node) else { return false };
        if leaf.entries.len() != part.inodes.len() {
            return false;
        }
        (self.refs, self.leaf, self.inodes, self.at) = (refs, leaf, part.inodes, 0);
        self.part += 1;
        self.rows.push(number);
        true
    }
}

/// What is kept of a directory in the index, before its leaves.
#[derive(minicbor::Encode, minicbor::Decode)]
pub(super) struct DirHead {
    #[n(0)]
    pub(super) node: ChunkId,
    #[n(1)]
    pub(super) subtree: crate::format::node::Subtree,
    #[n(2)]
    pub(super) parts: u32,
}

/// What is kept of a leaf in the index.
#[derive(minicbor::Encode, minicbor::Decode)]
pub(super) struct LeafPart {
    #[n(0)]
    pub(super) node: minicbor::bytes::ByteVec,
    #[n(1)]
    pub(super) inodes: Vec<u64>,
}

struct Walker<'a> {
    scan: &'a Scan<'a>,
    writer: &'a Writer,
    events: Sender<Vec<Event>>,
    batch: Vec<Event>,
    jobs: Option<Sender<Job>>,
    job: Job,
    job_bytes: u64,
    owners: Owners,
    devices: Devices,
    /// Files with several names that were handed to a reader, and how many names
    /// are still to come.
    linked: HashMap<LinkId, (Arc<Slot>, u64)>,
    dirs: Vec<Option<OldDir>>,
    walk_started: crate::base::UnixTime,
}

/// An entry of the last scan.
struct Old {
    draft: Draft,
    same: bool,
}

impl Walker<'_> {
    /// The head of a directory and its first leaf, if the last scan had it.
    fn old_dir(&self, path: &[u8]) -> Result<Option<(DirHead, OldDir)>> {
        let mut parts = self.parts(path, 0, 2)?.into_iter();
        let Some((number, body)) = parts.next() else { return Ok(None) };
        let Ok(head) = minicbor::decode::<DirHead>(&body) else { return Ok(None) };
        let mut dir = OldDir {
            path: path.to_vec(),
            parts: head.parts,
            part: 0,
            refs: Vec::new(),
            leaf: Leaf::default(),
            inodes: Vec::new(),
            at: 0,
            rows: vec![number],
            lost: false,
        };
        let entered = head.parts > 0 && parts.next().is_some_and(|first| dir.enter(first));
        Ok(entered.then_some((head, dir)))
    }

    fn parts(&self, path: &[u8], part: u32, count: u32) -> Result<Vec<(u64, Vec<u8>)>> {
        let Some(base) = self.scan.base else { return Ok(Vec::new()) };
        let index = self.scan.repo.index();
        let found = index.scanned_dir(&self.scan.options.source, base, path, part, count);
        Ok(found.map_err(repo::Error::from)?)
    }

    /// Goes on to the next leaf; false if there is none that can be read.
    fn next_leaf(&self, dir: &mut OldDir) -> Result<bool> {
        if dir.part >= dir.parts {
            return Ok(false);
        }
        let next = self.parts(&dir.path, dir.part + 1, 1)?.pop();
        Ok(next.is_some_and(|row| dir.enter(row)))
    }

    /// What the last scan saw under that name in the directory that the walk is in.
    /// Names must be asked for in ascending order.
    fn old(&mut self, name: &[u8], meta: &Meta, link: Option<LinkId>) -> Result<Option<Old>> {
        let Some(Some(mut dir)) = self.dirs.last_mut().map(Option::take) else { return Ok(None) };
        let found = self.seek(&mut dir, name);
        let old = found.map(|there| {
            if !there {
                return None;
            }
            let entry = &dir.leaf.entries[dir.at];
            let same = is_same(entry, dir.inodes[dir.at], meta, link);
            let draft = old_draft(&dir.leaf, dir.at, &dir.refs)?;
            dir.at += 1;
            Some(Old { draft, same })
        });
        if let Some(slot) = self.dirs.last_mut() {
            *slot = Some(dir);
        }
        old
    }

    fn seek(&self, dir: &mut OldDir, name: &[u8]) -> Result<bool> {
        use std::cmp::Ordering::{Equal, Greater, Less};
        loop {
            match dir.leaf.entries.get(dir.at).map(|entry| entry.name.as_slice().cmp(name)) {
                Some(Less) => {
                    dir.lost = true;
                    dir.at += 1;
                }
                Some(Equal) => return Ok(true),
                Some(Greater) => return Ok(false),
                None if self.next_leaf(dir)? => {}
                None => return Ok(false),
            }
        }
    }

    /// Tells the assembler, with the next events.
    fn send(&mut self, event: Event) -> Result<()> {
        self.batch.push(event);
        if self.batch.len() < BATCH { Ok(()) } else { self.flush_events() }
    }

    /// Hands the assembler what it was not told yet. While the queue is full, the assembler
    /// may be waiting for a file that is not handed to a reader yet: that goes first.
    fn flush_events(&mut self) -> Result<()> {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        match self.events.try_send(batch) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(batch)) => {
                self.flush_job()?;
                self.events.send(batch).map_err(|_| repo::Error::Interrupted.into())
            }
            Err(TrySendError::Disconnected(_)) => Err(repo::Error::Interrupted.into()),
        }
    }

    fn flush_job(&mut self) -> Result<()> {
        self.job_bytes = 0;
        let job = std::mem::take(&mut self.job);
        match &self.jobs {
            _ if job.is_empty() => Ok(()),
            Some(jobs) => jobs.send(job).map_err(|_| repo::Error::Interrupted.into()),
            None => Err(repo::Error::Interrupted.into()),
        }
    }

    fn read_later(&mut self, file: &Visit<'_>, slot: &Arc<Slot>) -> Result<()> {
        let size = file.meta.size;
        if size >= JOB_BYTES {
            self.flush_job()?;
        }
        self.job.push((file.place(), Promise::new(slot)));
        self.job_bytes += size;
        if self.job_bytes >= JOB_BYTES || self.job.len() >= JOB_FILES {
            self.flush_job()?;
        }
        Ok(())
    }

    /// The inode number to remember: none for a file that changed so recently that
    /// a further change might leave its times as they are.
    fn inode(&self, meta: &Meta) -> u64 {
        let settled = self.walk_started.minus(std::time::Duration::from_secs(1));
        let latest = meta.ctime.max(meta.mtime);
        let future = self.walk_started.plus(std::time::Duration::from_secs(2));
        if latest >= settled && meta.ctime <= future { 0 } else { meta.ino }
    }

    fn check(&self) -> Result<()> {
        if self.scan.stop.is_raised() || self.writer.has_failed() {
            return Err(repo::Error::Interrupted.into());
        }
        Ok(())
    }

    /// A node could not hold it.
    fn too_long(&mut self, path: &[u8], then: &str) -> Result<()> {
        let why = format!("its extended attributes are more than can be stored: {then}");
        report_problem(self.scan.progress, path, why);
        self.send(Event::Missing)
    }

    fn xattrs(&self, visit: &Visit<'_>) -> crate::source::Xattrs {
        match visit.xattrs() {
            Ok(xattrs) => xattrs,
            Err(error) => {
                let why = format!("its extended attributes cannot be read: {error}");
                report_problem(self.scan.progress, visit.path, why);
                Vec::new()
            }
        }
    }
}

/// Whether a file is as the last scan saw it. Its change time moves with anything
/// about it, so names of owners, attributes and links need not be compared.
fn is_same(entry: &Entry, inode: u64, meta: &Meta, link: Option<LinkId>) -> bool {
    inode == meta.ino
        && inode != 0
        && entry.marks & MARK_CHANGED_WHILE_READ == 0
        && entry.link == link
        && entry.ctime == meta.ctime
        && entry.mtime == meta.mtime
        && entry.size == meta.size
        && entry.mode == meta.mode
        && (entry.kind as u8) == kind_number(meta.kind)
}

fn kind_number(kind: FileKind) -> u8 {
    use crate::format::node::FileKind as Stored;
    let stored = match kind {
        FileKind::File => Stored::File,
        FileKind::Dir => Stored::Dir,
        FileKind::Symlink => Stored::Symlink,
        FileKind::CharDevice => Stored::CharDevice,
        FileKind::BlockDevice => Stored::BlockDevice,
        FileKind::Fifo => Stored::Fifo,
        FileKind::Socket => Stored::Socket,
    };
    stored as u8
}

impl Visitor for Walker<'_> {
    type Error = Error;

    fn enter(&mut self, dir: &Visit<'_>) -> Result<()> {
        self.check()?;
        self.scan.progress.at(crate::source::path::shown(dir.path));
        self.devices.link(dir.meta);
        let old = match dir.name.is_empty() {
            true => None,
            false => self.old(dir.name, dir.meta, None)?,
        };
        let mut inode = self.inode(dir.meta);
        let (same, new_draft) = match old {
            Some(old) if old.same => (true, old.draft),
            _ => {
                let owner = owner_of(&mut self.owners, dir.meta.uid, dir.meta.gid);
                let mut new = draft(dir.name, dir.meta, owner, self.xattrs(dir));
                if !fits(&new.entry) {
                    // What is in it is worth more than its attributes. Without an
                    // inode number it is looked at again the next time.
                    self.too_long(dir.path, "it is stored without them")?;
                    new.entry.xattrs.clear();
                    inode = 0;
                }
                (false, new)
            }
        };
        let (head, old_dir) = match self.old_dir(dir.path)? {
            Some((head, old_dir)) => (Some(head), Some(old_dir)),
            None => (None, None),
        };
        self.dirs.push(old_dir);
        let before = head.map(|head| StoredDir { node: head.node, subtree: head.subtree });
        self.send(Event::Enter { draft: new_draft, inode, same, path: dir.path.to_vec(), before })
    }

    fn file(&mut self, file: &Visit<'_>) -> Result<()> {
        self.check()?;
        let meta = file.meta;
        let link = self.devices.link(meta);
        let inode = self.inode(meta);
        let old = self.old(file.name, meta, link)?;
        let old = match old {
            Some(old) if old.same => {
                return self.send(Event::Entry { draft: old.draft, inode, same: true, link });
            }
            other => other.map(|old| Box::new(old.draft)),
        };
        let owner = owner_of(&mut self.owners, meta.uid, meta.gid);
        let mut draft = draft(file.name, meta, owner, self.xattrs(file));
        draft.entry.link = link;
        if !fits(&draft.entry) {
            return self.too_long(file.path, "it is not stored");
        }
        if meta.kind == FileKind::Symlink {
            match file.link_target() {
                Ok(target) => {
                    draft.entry.size = target.len() as u64;
                    draft.entry.target = Some(target.into());
                }
                Err(error) => {
                    return self.problem(file.path, Trouble::Open(error));
                }
            }
        }
        if meta.kind != FileKind::File {
            return self.send(Event::Entry { draft, inode, same: false, link });
        }
        // A file with several names is read under its first.
        let slot = match link.and_then(|link| self.linked.get_mut(&link)) {
            Some((slot, left)) => {
                *left = left.saturating_sub(1);
                let slot = Arc::clone(slot);
                if *left == 0
                    && let Some(link) = link
                {
                    self.linked.remove(&link);
                }
                slot
            }
            None => {
                let slot = Arc::new(Slot::default());
                if let Some(link) = link {
                    self.linked.insert(link, (Arc::clone(&slot), meta.nlink - 1));
                }
                self.read_later(file, &slot)?;
                slot
            }
        };
        self.send(Event::File { draft, inode, slot, link, old })
    }

    fn leave(&mut self) -> Result<()> {
        let (lost, rows) = match self.dirs.pop() {
            Some(Some(dir)) => {
                let rest = dir.at < dir.leaf.entries.len() || dir.part < dir.parts;
                (dir.lost || rest, dir.rows)
            }
            _ => (true, Vec::new()),
        };
        self.send(Event::Leave { lost, rows })
    }

    fn problem(&mut self, path: &[u8], trouble: Trouble) -> Result<()> {
        report_problem(self.scan.progress, path, trouble);
        self.send(Event::Missing)
    }

    fn skipped(&mut self, path: &[u8], why: crate::source::Skipped) {
        tracing::info!(
            "{} is stored without its contents: {why:?}",
            crate::source::path::shown(path)
        );
    }
}
