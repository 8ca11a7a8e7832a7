//! The walk of a restore: what is made on the way, what is left for the end.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

use crossbeam_channel::Sender;

use super::Restore;
use super::files::{FileJob, Group};
use crate::base::{ChunkId, Kind};
use crate::format::node::{Entry, FileKind, LinkId, Owner};
use crate::ops::select::Selected;
use crate::ops::{Error, Result};
use crate::repo::browse::{Found, each_entry};
use crate::repo::{self, FileContent};
use crate::source::{self, Rules};
use crate::target::Attributes;

/// So many files are hinted to the reader at once, when the writers are at those before them.
const HINT_FILES: usize = 64;
/// At most so many files are handed to a writer at once: fewer than are hinted, so that the
/// writers share those of a hint, and it comes well before its files.
pub(super) const GROUP_FILES: usize = 16;
/// A group with so many bytes gets no more files, lest its writer be long at work when the
/// others have none.
const GROUP_BYTES: u64 = 1 << 20;
/// So many files are gathered and written in the order in which they are stored: of a tree
/// that grew by many backups they lie here and there.
pub(super) const ORDERED_FILES: usize = 1024;
/// When so many directories more wait for their attributes, those get them in which nothing is
/// made any more: what waits does not grow with the tree.
const WAITING_DIRS: usize = 8192;

/// Goes through what was selected.
pub(super) struct Plan<'a> {
    restore: &'a Restore<'a>,
    include: Option<Rules>,
    exclude: Option<Rules>,
    groups: Sender<Group>,
    batch: Vec<FileJob>,
    ends: Ends,
}

/// What can only be done when all files are written.
#[derive(Default)]
pub(super) struct Ends {
    first_names: HashMap<LinkId, Vec<u8>>,
    links: Vec<(Vec<u8>, Vec<u8>)>,
    dirs: Vec<(Vec<u8>, Attributes)>,
    deletions: Vec<(Vec<u8>, BTreeSet<Vec<u8>>)>,
}

/// A directory still to be gone through.
struct Waiting {
    path: Vec<u8>,
    node: ChunkId,
    /// It matched a pattern, and so does everything in it.
    included: bool,
    /// Its attributes, if it is not made yet.
    unmade: Option<Attributes>,
    /// It was made just now, so nothing is in it.
    fresh: bool,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        restore: &'a Restore<'a>,
        include: Option<Rules>,
        exclude: Option<Rules>,
        groups: Sender<Group>,
    ) -> Plan<'a> {
        Plan { restore, include, exclude, groups, batch: Vec::new(), ends: Ends::default() }
    }

    /// Makes everything but the contents of files, and hands those to the writers.
    pub(super) fn walk(mut self, selected: &Selected) -> Result<Ends> {
        let Some(node) = selected.found.dir() else {
            let name = selected.found.entry().name.to_vec();
            if name.is_empty() {
                let what = "the snapshot has no root directory".to_owned();
                return Err(Error::NotFound { what });
            }
            self.entry(&selected.found, name, false)?;
            self.flush()?;
            return Ok(self.ends);
        };
        let top = attributes(selected.found.entry(), selected.found.owner());
        self.ends.dirs.push((Vec::new(), top));
        let included = self.include.is_none();
        let mut waiting =
            vec![Waiting { path: Vec::new(), node, included, unmade: None, fresh: false }];
        let mut many = WAITING_DIRS;
        while let Some(dir) = waiting.pop() {
            self.restore.check()?;
            // What is removed is removed last, and changes the times of its directory.
            if self.ends.dirs.len() >= many && !self.restore.options.delete {
                self.settle(&dir.path, &waiting)?;
                many = self.ends.dirs.len() + WAITING_DIRS;
            }
            let before = waiting.len();
            self.directory(dir, &mut waiting)?;
            waiting[before..].reverse();
        }
        self.flush()?;
        Ok(self.ends)
    }

    /// Gives those directories their attributes that are whole: not those still to be gone
    /// through, of which `next` is the first, and none above them. Those above the others are
    /// above `next` too.
    fn settle(&mut self, next: &[u8], waiting: &[Waiting]) -> Result<()> {
        self.flush()?;
        self.restore.underway.wait();
        let waiting: HashSet<&[u8]> = waiting.iter().map(|dir| dir.path.as_slice()).collect();
        let is_open = |path: &[u8]| {
            let below = next.strip_prefix(path);
            let is_above =
                below.is_some_and(|rest| path.is_empty() || matches!(rest, [] | [b'/', ..]));
            is_above || waiting.contains(path)
        };
        let (open, whole) =
            std::mem::take(&mut self.ends.dirs).into_iter().partition(|(path, _)| is_open(path));
        self.ends.dirs = open;
        let links = std::mem::take(&mut self.ends.links);
        Ends { links, dirs: whole, ..Ends::default() }.finish(self.restore)
    }

    /// Goes through one directory; its own directories are put into `waiting`.
    fn directory(&mut self, mut dir: Waiting, waiting: &mut Vec<Waiting>) -> Result<()> {
        let library = self.restore.library;
        let mut names = BTreeSet::new();
        let outcome = each_entry(library, dir.node, |found| -> Result<ControlFlow<()>> {
            self.restore.check()?;
            let entry = found.entry();
            let path = join(&dir.path, &entry.name);
            let is_dir = entry.kind == FileKind::Dir;
            if self.restore.options.delete {
                names.insert(entry.name.to_vec());
            }
            if self.matches(self.exclude.as_ref(), &path, is_dir) {
                return Ok(ControlFlow::Continue(()));
            }
            let included = dir.included || self.matches(self.include.as_ref(), &path, is_dir);
            if included && let Some(attributes) = dir.unmade.take() {
                dir.fresh = self.make_dir(&dir.path, attributes);
            }
            match found.dir() {
                Some(node) => {
                    let attributes = attributes(entry, found.owner());
                    let (unmade, fresh) = match included {
                        true => (None, self.make_dir(&path, attributes)),
                        false => (Some(attributes), false),
                    };
                    waiting.push(Waiting { path, node, included, unmade, fresh });
                }
                None if included => self.entry(&found, path, dir.fresh)?,
                None => {}
            }
            Ok(ControlFlow::Continue(()))
        });
        match outcome {
            Ok(_) => {}
            Err(Error::Repo(error)) if error.is_damage() => {
                // The rest of the tree is not touched by the damage.
                self.restore.problem(&dir.path, &error);
                return Ok(());
            }
            Err(other) => return Err(other),
        }
        if self.restore.options.delete && dir.included {
            self.ends.deletions.push((dir.path, names));
        }
        Ok(())
    }

    fn matches(&self, rules: Option<&Rules>, path: &[u8], is_dir: bool) -> bool {
        let Some(rules) = rules else { return false };
        let absolute = [b"/", path].concat();
        rules.excludes(&absolute, 1, is_dir)
    }

    /// Makes a directory. Returns whether there was none.
    fn make_dir(&mut self, path: &[u8], attributes: Attributes) -> bool {
        let mut fresh = false;
        self.restore.count(|report| report.dirs += 1);
        self.restore.progress.files.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if let Some(target) = &self.restore.target {
            // Nearly always there is room, and what is above it is made.
            let made = target.make_dir(path).or_else(|error| match error.kind() {
                Kind::NotFound => {
                    make_parents(self.restore, path)?;
                    target.make_dir(path)
                }
                Kind::AlreadyExists => {
                    target.remove(path)?;
                    target.make_dir(path)
                }
                _ => Err(error),
            });
            match made {
                Ok(made) => fresh = made,
                Err(error) => {
                    self.restore.problem(path, &error);
                    return false;
                }
            }
        }
        self.ends.dirs.push((path.to_vec(), attributes));
        fresh
    }

    /// Makes an entry that is no directory, or hands it to a writer.
    fn entry(&mut self, found: &Found, path: Vec<u8>, fresh: bool) -> Result<()> {
        let entry = found.entry();
        if let Some(link) = entry.link {
            if let Some(first) = self.ends.first_names.get(&link) {
                self.ends.links.push((first.clone(), path));
                return Ok(());
            }
            self.ends.first_names.insert(link, path.clone());
        }
        let attributes = attributes(entry, found.owner());
        if entry.kind == FileKind::File {
            self.batch.push(FileJob {
                path,
                content: found.content(),
                sha256: entry.sha256.as_ref().and_then(|sha| sha.as_slice().try_into().ok()),
                attributes,
                linked: entry.link.is_some(),
                fresh,
            });
            if self.batch.len() >= ORDERED_FILES {
                self.flush()?;
            }
            return Ok(());
        }
        self.restore.count(|report| report.others += 1);
        self.restore.progress.files.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if let Err(error) = make_special(self.restore, entry, &path, &attributes, fresh) {
            self.restore.problem(&path, &error);
        }
        Ok(())
    }

    /// Hands what was gathered to the writers, in groups.
    fn flush(&mut self) -> Result<()> {
        let library = self.restore.library;
        let batch = std::mem::take(&mut self.batch);
        let contents: Vec<FileContent> = batch.iter().map(|job| job.content.clone()).collect();
        let order = match self.restore.target {
            Some(_) => library.stored_order(&contents),
            None => (0..contents.len()).collect(),
        };
        let mut jobs: Vec<Option<FileJob>> = batch.into_iter().map(Some).collect();
        let hints = self.restore.target.is_some();
        let soon = |hinted: Option<&&[usize]>| -> Vec<FileContent> {
            let hinted = hinted.filter(|_| hints).copied().unwrap_or_default();
            hinted.iter().map(|n| contents[*n].clone()).collect()
        };
        let mut all_hinted = order.chunks(HINT_FILES).peekable();
        let mut hint = soon(all_hinted.peek());
        while let Some(hinted) = all_hinted.next() {
            hint.extend(soon(all_hinted.peek()));
            let mut files = hinted.iter().filter_map(|n| jobs[*n].take()).peekable();
            while files.peek().is_some() {
                let group = Group {
                    files: next_group(&mut files),
                    soon: std::mem::take(&mut hint),
                    underway: self.restore.underway.one_more(),
                };
                let sent = self.groups.send(group);
                sent.map_err(|_| repo::Error::Worker("the file writers".into()))?;
            }
        }
        Ok(())
    }
}

/// The next files that one writer gets.
pub(super) fn next_group(files: &mut impl Iterator<Item = FileJob>) -> Vec<FileJob> {
    let mut bytes = 0;
    let mut group = Vec::new();
    while group.len() < GROUP_FILES
        && bytes < GROUP_BYTES
        && let Some(job) = files.next()
    {
        bytes = job.content.size().saturating_add(bytes);
        group.push(job);
    }
    group
}

/// Makes the directories above a path that patterns left unmade.
fn make_parents(
    restore: &Restore<'_>,
    path: &[u8],
) -> std::result::Result<(), crate::target::Error> {
    let Some(target) = &restore.target else { return Ok(()) };
    let Some(slash) = path.iter().rposition(|b| *b == b'/') else { return Ok(()) };
    if target.stat(&path[..slash])?.is_none() {
        make_parents(restore, &path[..slash])?;
        target.make_dir(&path[..slash])?;
    }
    Ok(())
}

fn make_special(
    restore: &Restore<'_>,
    entry: &Entry,
    path: &[u8],
    attributes: &Attributes,
    fresh: bool,
) -> std::result::Result<(), crate::target::Error> {
    let Some(target) = &restore.target else { return Ok(()) };
    if !fresh {
        clear_way(restore, path)?;
    }
    match (&entry.target, attributes.kind) {
        (Some(to), source::FileKind::Symlink) => target.make_symlink(path, to)?,
        (_, kind) => target.make_special(path, kind, entry.device.unwrap_or_default())?,
    }
    restore.note(target.apply(path, attributes, restore.apply)?);
    Ok(())
}

/// Removes a directory that stands where something else is to be.
pub(super) fn clear_way(
    restore: &Restore<'_>,
    path: &[u8],
) -> std::result::Result<(), crate::target::Error> {
    let Some(target) = &restore.target else { return Ok(()) };
    make_parents(restore, path)?;
    if target.stat(path)?.is_some_and(|meta| meta.kind == source::FileKind::Dir) {
        target.remove(path)?;
    }
    Ok(())
}

impl Ends {
    /// Links, deletes, and gives directories their attributes.
    pub(super) fn finish(self, restore: &Restore<'_>) -> Result<()> {
        let Some(target) = &restore.target else {
            restore.count(|report| report.others += self.links.len() as u64);
            return Ok(());
        };
        for (first, path) in &self.links {
            restore.check()?;
            let linked = clear_way(restore, path).and_then(|()| target.make_hard_link(first, path));
            match linked {
                Ok(()) => restore.count(|report| report.others += 1),
                Err(error) => restore.problem(path, &error),
            }
            restore.progress.files.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        for (dir, names) in &self.deletions {
            restore.check()?;
            match target.remove_extra(dir, |name| names.contains(name)) {
                Ok(removed) => restore.count(|report| report.deleted += removed.entries),
                Err(error) => restore.problem(dir, &error),
            }
        }
        // Parents come before what is in them, so the other way round is the deepest first.
        for (path, attributes) in self.dirs.iter().rev() {
            match target.apply(path, attributes, restore.apply) {
                Ok(outcome) => restore.note(outcome),
                Err(error) => restore.problem(path, &error),
            }
        }
        Ok(())
    }
}

pub(super) fn attributes(entry: &Entry, owner: Owner) -> Attributes {
    Attributes {
        kind: match entry.kind {
            FileKind::File => source::FileKind::File,
            FileKind::Dir => source::FileKind::Dir,
            FileKind::Symlink => source::FileKind::Symlink,
            FileKind::CharDevice => source::FileKind::CharDevice,
            FileKind::BlockDevice => source::FileKind::BlockDevice,
            FileKind::Fifo => source::FileKind::Fifo,
            FileKind::Socket => source::FileKind::Socket,
        },
        mode: entry.mode,
        uid: owner.uid,
        gid: owner.gid,
        user: owner.user,
        group: owner.group,
        mtime: entry.mtime,
        xattrs: entry
            .xattrs
            .iter()
            .map(|xattr| (xattr.name.to_vec(), xattr.value.to_vec()))
            .collect(),
    }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}
