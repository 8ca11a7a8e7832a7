//! The assembler: entries in the walk's order become directories, and the last of
//! them the root.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::read::Slot;
use super::scan::{DirHead, LeafPart, Scan};
use super::{Tree, advance};
use crate::base::{ChunkId, Ranges};
use crate::format::extents::Content;
use crate::format::fact::Counts;
use crate::format::node::{FileKind, LinkGroup, LinkId, MARK_CHANGED_WHILE_READ};
use crate::index::ScannedDir;
use crate::ops::Result;
use crate::repo;
use crate::repo::trees::{DirBuilder, Draft, NodeSink, StoredDir, store_extents, store_links};
use crate::repo::writer::Lane;

/// What the walk tells.
pub(super) enum Event {
    /// A directory begins.
    Enter {
        draft: Draft,
        inode: u64,
        /// Its own attributes are as they were.
        same: bool,
        path: Vec<u8>,
        /// What the last scan stored of it.
        before: Option<StoredDir>,
    },
    /// Something that needs no reading.
    Entry { draft: Draft, inode: u64, same: bool, link: Option<LinkId> },
    /// A file that is being read, and what the last scan saw under its name.
    File {
        draft: Draft,
        inode: u64,
        slot: Arc<Slot>,
        link: Option<LinkId>,
        old: Option<Box<Draft>>,
    },
    /// Something that could not be read.
    Missing,
    /// The directory ends. Lost: a name that was there is not there any more. The rows are
    /// those of the index that hold what the last scan saw of it.
    Leave { lost: bool, rows: Vec<u64> },
}

/// Rows of the index are written when so many bytes are gathered.
const ROWS_BYTES: usize = 1 << 20;

/// Runs of rows of the last scan that are remembered: some 20 MB.
const MET_MAX: usize = 500_000;

struct OpenDir {
    builder: DirBuilder,
    draft: Draft,
    inode: u64,
    same: bool,
    path: Vec<u8>,
    before: Option<StoredDir>,
    /// Everything in it is as it was.
    unchanged: bool,
    parts: u32,
    leaves: Vec<LeafPart>,
}

/// Directories of that many levels are the top of a tree: what is backed up, and what is right
/// below it.
const TOP_LEVELS: usize = 2;

/// Where nodes go: chunks into the lane, leaves into the scan.
struct Sink<'a> {
    lane: &'a mut Lane,
    leaves: &'a mut Vec<LeafPart>,
    is_top: bool,
}

impl NodeSink for Sink<'_> {
    fn node(&mut self, bytes: Vec<u8>) -> repo::Result<ChunkId> {
        self.lane.node(bytes)
    }

    fn upper_node(&mut self, bytes: Vec<u8>) -> repo::Result<ChunkId> {
        if self.is_top { self.lane.top_node(&bytes) } else { self.lane.upper_node(bytes) }
    }

    fn leaf(&mut self, bytes: &[u8], inodes: &[u64]) {
        self.leaves.push(LeafPart { node: bytes.to_vec().into(), inodes: inodes.to_vec() });
    }
}

pub(super) struct Assembler<'a> {
    scan: &'a Scan<'a>,
    lane: Lane,
    dirs: Vec<OpenDir>,
    root: Option<Draft>,
    rank: u64,
    links: HashMap<LinkId, (u64, u64)>,
    counts: Counts,
    rows: Vec<ScannedDir>,
    rows_bytes: usize,
    /// Rows of the last scan that hold for this one too.
    met: Ranges,
}

impl<'a> Assembler<'a> {
    pub(super) fn new(scan: &'a Scan<'a>, lane: Lane) -> Assembler<'a> {
        Assembler {
            scan,
            lane,
            dirs: Vec::new(),
            root: None,
            rank: 0,
            links: HashMap::new(),
            counts: Counts::default(),
            rows: Vec::new(),
            rows_bytes: 0,
            met: Ranges::default(),
        }
    }

    /// Follows the walk to its end. Returns the tree, and which rows of the last scan hold for
    /// this one too.
    pub(super) fn run(mut self, events: &Receiver<Vec<Event>>) -> Result<(Tree, Ranges)> {
        for event in events.iter().flatten() {
            if self.scan.stop.is_raised() {
                return Err(repo::Error::Interrupted.into());
            }
            self.follow(event)?;
        }
        self.write_rows()?;
        let root = self.root.take().ok_or(repo::Error::Interrupted)?;
        let groups = self
            .links
            .iter()
            .filter(|(_, (_, count))| *count > 1)
            .map(|(id, (first, count))| LinkGroup { id: *id, first: *first, count: *count })
            .collect();
        let mut link_refs = Vec::new();
        let links = store_links(groups, &mut link_refs, &mut self.lane)?;
        self.lane.flush()?;
        Ok((Tree { root, links, link_refs, counts: self.counts }, self.met))
    }

    fn follow(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Enter { draft, inode, same, path, before } => {
                self.rank += 1;
                self.counts.dirs += 1;
                advance(self.scan.progress, 1, 0);
                self.dirs.push(OpenDir {
                    builder: DirBuilder::new(self.scan.repo.keys().split.clone()),
                    draft,
                    inode,
                    same,
                    path,
                    unchanged: before.is_some(),
                    before,
                    parts: 0,
                    leaves: Vec::new(),
                });
                Ok(())
            }
            Event::Entry { draft, inode, same, link } => {
                if draft.entry.kind == FileKind::File {
                    self.counts.unchanged += 1;
                    advance(self.scan.progress, 0, draft.entry.size);
                }
                self.add(draft, inode, same, link)
            }
            Event::File { draft, inode, slot, link, old } => {
                let Some(data) = slot.wait() else { return self.follow(Event::Missing) };
                self.counts.bytes_read += data.meta.size - data.holes;
                let mut draft = draft;
                let entry = &mut draft.entry;
                // What belongs to the bytes that were read.
                (entry.mode, entry.size) = (data.meta.mode, data.meta.size);
                (entry.mtime, entry.ctime) = (data.meta.mtime, data.meta.ctime);
                entry.sha256 = Some(data.sha256.to_vec().into());
                entry.holes = data.holes;
                if data.changed {
                    entry.marks |= MARK_CHANGED_WHILE_READ;
                    self.counts.unsteady += 1;
                }
                match &data.inline {
                    Some(bytes) => entry.content = Some(Content::Inline(bytes.clone().into())),
                    None => {
                        (entry.content, draft.refs) = store_extents(&data.extents, &mut self.lane)?;
                    }
                }
                // One that was only read because it changed too recently to tell may
                // turn out to be as it was.
                match old {
                    None => self.counts.new += 1,
                    Some(old) if *old == draft => self.counts.unchanged += 1,
                    Some(_) => self.counts.changed += 1,
                }
                self.add(draft, inode, false, link)
            }
            Event::Missing => {
                self.counts.errors += 1;
                if let Some(dir) = self.dirs.last_mut() {
                    dir.unchanged = false;
                }
                Ok(())
            }
            Event::Leave { lost, rows } => self.leave(lost, &rows),
        }
    }

    fn add(&mut self, draft: Draft, inode: u64, same: bool, link: Option<LinkId>) -> Result<()> {
        let rank = self.rank;
        self.rank += 1;
        advance(self.scan.progress, 1, 0);
        match draft.entry.kind {
            FileKind::File => {
                self.counts.files += 1;
                self.counts.bytes += draft.entry.size;
            }
            _ => self.counts.others += 1,
        }
        if let Some(link) = link {
            self.links.entry(link).or_insert((rank, 0)).1 += 1;
        }
        self.add_to_parent(draft, inode, same)
    }

    fn add_to_parent(&mut self, draft: Draft, inode: u64, same: bool) -> Result<()> {
        let is_top = self.dirs.len() <= TOP_LEVELS;
        let Some(dir) = self.dirs.last_mut() else {
            self.root = Some(draft);
            return Ok(());
        };
        dir.unchanged &= same;
        let mut sink = Sink { lane: &mut self.lane, leaves: &mut dir.leaves, is_top };
        dir.builder.add(draft, inode, &mut sink)?;
        // Only the leaves of a directory that is long are written before it ends.
        if dir.leaves.len() > 4 {
            let leaves = std::mem::take(&mut dir.leaves);
            let (path, first) = (dir.path.clone(), dir.parts);
            dir.parts += u32::try_from(leaves.len()).unwrap_or(u32::MAX);
            self.keep_leaves(&path, first, leaves)?;
        }
        Ok(())
    }

    fn leave(&mut self, lost: bool, rows: &[u64]) -> Result<()> {
        let Some(mut dir) = self.dirs.pop() else { return Ok(()) };
        if let (true, false, Some(before)) = (dir.unchanged, lost, dir.before) {
            // What is not remembered is read again the next time.
            if self.met.parts() < MET_MAX {
                rows.iter().for_each(|row| self.met.add(*row, row + 1));
            }
            return self.add_to_parent(before.entry_of(dir.draft), dir.inode, dir.same);
        }
        let is_top = self.dirs.len() < TOP_LEVELS;
        let mut sink = Sink { lane: &mut self.lane, leaves: &mut dir.leaves, is_top };
        let stored = dir.builder.finish(&mut sink)?;
        let leaves = std::mem::take(&mut dir.leaves);
        let first = dir.parts;
        let parts = first + u32::try_from(leaves.len()).unwrap_or(u32::MAX);
        let head = DirHead { node: stored.node, subtree: stored.subtree, parts };
        let body = crate::format::encode(&head);
        self.rows.push(ScannedDir { path: dir.path.clone(), part: 0, body });
        self.keep_leaves(&dir.path, first, leaves)?;
        let same = dir.same && dir.before.is_some_and(|before| before.node == stored.node);
        self.add_to_parent(stored.entry_of(dir.draft), dir.inode, same)
    }

    fn keep_leaves(&mut self, path: &[u8], first: u32, leaves: Vec<LeafPart>) -> Result<()> {
        for (place, leaf) in leaves.into_iter().enumerate() {
            let body = crate::format::encode(&leaf);
            self.rows_bytes += body.len() + path.len() + 64;
            let part = first + 1 + u32::try_from(place).unwrap_or(u32::MAX);
            self.rows.push(ScannedDir { path: path.to_vec(), part, body });
        }
        self.write_rows_if_many()
    }

    fn write_rows_if_many(&mut self) -> Result<()> {
        if self.rows_bytes >= ROWS_BYTES { self.write_rows() } else { Ok(()) }
    }

    fn write_rows(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        self.rows_bytes = 0;
        if self.scan.options.writer.dry_run || rows.is_empty() {
            return Ok(());
        }
        let (index, scan) = (self.scan.repo.index(), self.scan);
        let kept = index.keep_scan(&scan.options.source, scan.generation, &rows);
        Ok(kept.map_err(repo::Error::from)?)
    }
}
