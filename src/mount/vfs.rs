//! The file system's operations, as functions of inode numbers.
//!
//! No kernel and no reply is in here, so all of it can be called by a test. What
//! an operation may wait for is said by its [`Reach`]; the adapter asks with
//! [`Reach::Memory`] first. What changes anything does not exist: the adapter
//! answers it with EROFS.

mod attr;

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use lru::LruCache;

use crate::base::{ChunkId, error_chain};
use crate::format::node::FileKind;
use crate::mount::ahead::{Ahead, NODES_MAX, PUSH_BYTES_MAX, PUSH_FILE_MAX, PUSH_FILES_MAX};
use crate::mount::counters::Counters;
use crate::mount::push::{Push, Pusher};
use crate::repo::{FileContent, Library, Whence};
use crate::view::error::{Error, Reach, Result};
use crate::view::namespace::{Item, Life, Namespace};
use crate::view::tree::Tree;

pub(super) use self::attr::{Attr, Owners};

/// A `.` and a `..` come before what [`Namespace::list`] shows: their positions.
const DOT: u64 = 1;
pub(super) const DOT_DOT: u64 = 2;
/// Contents of open files that are kept: files longer than one READ.
const CONTENTS_MAX: NonZeroUsize = NonZeroUsize::new(64).unwrap();
const CONTENT_WORTH_KEEPING: u64 = 128 << 10;
/// So many directories are gone up from one that was listed, for what is read behind it.
const LEVELS_MAX: usize = 16;
/// Failures that were logged and are not logged again.
const LOGGED_MAX: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// What a name or number is, and how long the kernel may believe it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) attr: Attr,
    /// How long the attributes are good.
    pub(super) attr_time: Duration,
    /// How long the name means this.
    pub(super) name_time: Duration,
}

/// What a name came to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Looked {
    /// This.
    Found(Entry),
    /// Nothing, and that is so for as long.
    Absent(Duration),
}

/// One entry of a listing.
#[derive(Debug)]
pub(super) struct Row<'a> {
    /// The listing goes on behind it from here.
    pub(super) position: u64,
    pub(super) name: &'a [u8],
    pub(super) entry: Entry,
}

/// Directories among what was listed, by what is fetched of them first; not more than are
/// worth fetching ahead.
#[derive(Debug, Default)]
pub(super) struct Dirs(Vec<ChunkId>);

/// What `df` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Statfs {
    /// Bytes in all packs.
    pub(super) bytes: u64,
    /// Files and directories of the newest snapshots.
    pub(super) files: u64,
}

/// The file system.
pub(super) struct Vfs {
    namespace: Namespace,
    library: Arc<dyn Library>,
    ahead: Ahead,
    owners: Owners,
    counters: Arc<Counters>,
    contents: Mutex<LruCache<u64, FileContent>>,
    logged: Mutex<LruCache<(u64, String), ()>>,
}

impl Vfs {
    pub(super) fn new(
        namespace: Namespace,
        library: Arc<dyn Library>,
        owners: Owners,
        counters: Arc<Counters>,
    ) -> Vfs {
        Vfs {
            namespace,
            ahead: Ahead::new(Arc::clone(&library)),
            library,
            owners,
            counters,
            contents: Mutex::new(LruCache::new(CONTENTS_MAX)),
            logged: Mutex::new(LruCache::new(LOGGED_MAX)),
        }
    }

    /// The directories.
    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The figures.
    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Where contents come from.
    pub(super) fn library(&self) -> &Arc<dyn Library> {
        &self.library
    }

    pub(super) fn lookup(&self, dir: u64, name: &[u8], reach: Reach) -> Result<Looked> {
        let looked = self.namespace.lookup(dir, name, reach)?;
        Ok(match looked.item {
            Some(item) => Looked::Found(self.entry(&item, looked.life)),
            None => Looked::Absent(time(looked.life)),
        })
    }

    pub(super) fn getattr(&self, ino: u64, reach: Reach) -> Result<Entry> {
        Ok(self.entry(&self.namespace.item(ino, reach)?, Life::Momentary))
    }

    pub(super) fn readlink(&self, ino: u64, reach: Reach) -> Result<Vec<u8>> {
        match self.namespace.item(ino, reach)? {
            Item::Link { target, .. } => Ok(target.into_bytes()),
            Item::Entry { found, .. } => {
                let target = found.entry().target.as_ref().ok_or(Error::WrongKind)?;
                Ok(target.to_vec())
            }
            Item::Dir { .. } | Item::Report { .. } => Err(Error::WrongKind),
        }
    }

    /// Shows the entries of a directory behind a position, until `show` says that
    /// it has enough. Entries shown before an error stand. Directories among them are added
    /// to `dirs`, for [`Vfs::listed`].
    pub(super) fn readdir(
        &self,
        dir: u64,
        after: u64,
        reach: Reach,
        dirs: &mut Dirs,
        show: &mut dyn FnMut(&Row<'_>) -> bool,
    ) -> Result<()> {
        if after < DOT_DOT {
            let own = self.namespace.item(dir, reach)?;
            let parent = self.namespace.parent(dir, reach)?;
            let entry = self.entry(&own, Life::Momentary);
            if after < DOT && show(&Row { position: DOT, name: b".", entry }) {
                return Ok(());
            }
            // The kernel takes no more of this than the number.
            let above = Entry { attr: Attr { ino: parent, ..entry.attr }, ..entry };
            if show(&Row { position: DOT_DOT, name: b"..", entry: above }) {
                return Ok(());
            }
        }
        self.namespace.list(dir, after.max(DOT_DOT), reach, &mut |row| {
            if let Item::Entry { found, .. } = &row.item
                && dirs.0.len() < NODES_MAX
            {
                dirs.0.extend(Tree::first_node(found));
            }
            let entry = self.entry(&row.item, row.life);
            show(&Row { position: row.position, name: row.name, entry })
        })
    }

    /// Fetches what directories hold that were listed. Called when the listing was answered:
    /// who fetches would otherwise take the core from the answer.
    pub(super) fn listed(&self, dirs: &Dirs) {
        self.ahead.listed(&dirs.0);
    }

    /// From now on small files are pushed into the kernel ahead of who copies them.
    pub(super) fn push_by(&self, pusher: Pusher) {
        self.ahead.push_by(pusher);
    }

    /// The listing of a directory has ended. If files will be read next, those are pushed that
    /// come before the next listing. `go_on` is called when the reader can go on while that is
    /// still done; what is returned is disconnected when it was done, and none if it is already.
    pub(super) fn listing_ended(
        &self,
        dir: u64,
        go_on: &mut dyn FnMut(),
    ) -> Option<Receiver<Infallible>> {
        if !self.ahead.copies() {
            return None;
        }
        let (mut files, mut bytes) = (Vec::new(), 0);
        let (mut next, mut following) = (Some((dir, DOT_DOT)), None);
        for _ in 0..LEVELS_MAX {
            let Some((dir, after)) = next else { break };
            let mut over = false;
            let listed = self.namespace.list(dir, after, Reach::Memory, &mut |row| {
                if let Item::Entry { ino, found, .. } = row.item {
                    let entry = found.entry();
                    following = Tree::first_node(&found);
                    over = following.is_some();
                    if entry.kind == FileKind::File && (1..=PUSH_FILE_MAX).contains(&entry.size) {
                        bytes += entry.size;
                        let content = found.content();
                        files.push((found, Push { ino, content }));
                    }
                }
                over |= files.len() >= PUSH_FILES_MAX || bytes >= PUSH_BYTES_MAX;
                over
            });
            // What is not in memory any more is read as ever.
            if over || listed.is_err() {
                break;
            }
            next = self.namespace.above(dir, Reach::Memory).ok().flatten();
        }
        self.ahead.listed(following.as_slice());
        if files.is_empty() { None } else { self.ahead.ended(files, go_on) }
    }

    /// Bytes of a file: as many as asked for, fewer only where it ends.
    pub(super) fn read(&self, ino: u64, offset: u64, length: u32, reach: Reach) -> Result<Bytes> {
        let content = match self.kept(ino) {
            Some(content) => content,
            None => match self.namespace.item(ino, reach)? {
                Item::Report { text, .. } => {
                    let range = span(text.len() as u64, offset, length);
                    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
                    return Ok(Bytes::copy_from_slice(&text[from..from + range]));
                }
                Item::Entry { found, .. } if found.entry().kind == FileKind::File => {
                    let content = found.content();
                    if offset == 0 {
                        self.ahead.reading(&found, ino);
                    }
                    if content.size() != found.entry().size {
                        let expected = usize::try_from(found.entry().size).unwrap_or(usize::MAX);
                        let got = usize::try_from(content.size()).unwrap_or(usize::MAX);
                        return Err(Error::Short { got, expected });
                    }
                    self.keep(ino, &content);
                    content
                }
                Item::Entry { found, .. } if !found.is_dir() => return Err(Error::WrongKind),
                Item::Link { .. } => return Err(Error::WrongKind),
                Item::Dir { .. } | Item::Entry { .. } => return Err(Error::IsADirectory),
            },
        };
        let wanted = span(content.size(), offset, length);
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let bytes = match reach {
            Reach::Memory => self.library.read_in_memory(&content, offset, wanted),
            Reach::Store => Some(self.library.read(&content, offset, wanted)?),
        };
        let bytes = bytes.ok_or(Error::WouldBlock)?;
        // A short reply would shrink the file for ever in the kernel's eyes.
        if bytes.len() == wanted {
            Ok(bytes)
        } else {
            Err(Error::Short { got: bytes.len(), expected: wanted })
        }
    }

    /// Where data or a hole begins at or after an offset.
    pub(super) fn lseek(&self, ino: u64, offset: u64, whence: Whence, reach: Reach) -> Result<u64> {
        let content = match self.namespace.item(ino, reach)? {
            Item::Report { text, .. } => FileContent::Inline(Bytes::copy_from_slice(&text)),
            Item::Entry { found, .. } if found.entry().kind == FileKind::File => found.content(),
            _ => return Err(Error::WrongKind),
        };
        if offset >= content.size() {
            return Err(Error::NothingFollows);
        }
        if reach == Reach::Memory && matches!(content, FileContent::Tree(..)) {
            return Err(Error::WouldBlock);
        }
        self.library.seek(&content, offset, whence)?.ok_or(Error::NothingFollows)
    }

    pub(super) fn listxattr(&self, ino: u64, reach: Reach) -> Result<Vec<u8>> {
        self.namespace.attribute_names(ino, reach)
    }

    pub(super) fn getxattr(&self, ino: u64, name: &[u8], reach: Reach) -> Result<Vec<u8>> {
        self.namespace.attribute(ino, name, reach)
    }

    pub(super) fn statfs(&self, reach: Reach) -> Result<Statfs> {
        let (bytes, files) = self.namespace.totals(reach)?;
        Ok(Statfs { bytes, files })
    }

    /// Counts and logs a failure that tells of the repository or of asof itself; a
    /// name or attribute that is not there does not. The kernel asks again for each page of a range that failed, so what
    /// was logged for a file is not logged again.
    pub(super) fn failed(&self, call: &'static str, ino: u64, error: &Error) {
        if !matches!(
            error,
            Error::Repository(_) | Error::Short { .. } | Error::NumbersUsedUp { .. }
        ) {
            return;
        }
        Counters::add(&self.counters.errors, 1);
        self.log(call, ino, &error_chain(error));
    }

    /// Logs that the repository did not answer a question in time.
    pub(super) fn late(&self, call: &'static str, ino: u64) {
        self.log(call, ino, "the repository did not answer in time");
    }

    fn log(&self, call: &'static str, ino: u64, text: &str) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.put((ino, text.to_owned()), ()).is_none() {
            drop(logged);
            let path = self.namespace.path(ino);
            tracing::warn!(call, path, "EIO: {text}");
        }
    }

    fn entry(&self, item: &Item, life: Life) -> Entry {
        let attr_life = match item {
            Item::Entry { .. } | Item::Link { .. } => Life::Forever,
            Item::Dir { life, .. } => *life,
            Item::Report { .. } => Life::Momentary,
        };
        let attr = self.owners.attr(item);
        Entry { attr, attr_time: time(attr_life), name_time: time(life) }
    }

    fn kept(&self, ino: u64) -> Option<FileContent> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner).get(&ino).cloned()
    }

    fn keep(&self, ino: u64, content: &FileContent) {
        if content.size() > CONTENT_WORTH_KEEPING {
            let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
            contents.put(ino, content.clone());
        }
    }
}

/// How many of `length` bytes from `offset` on a file of that size has.
fn span(size: u64, offset: u64, length: u32) -> usize {
    usize::try_from(size.saturating_sub(offset).min(u64::from(length))).unwrap_or(0)
}

/// How long the kernel may believe something.
fn time(life: Life) -> Duration {
    match life {
        Life::Forever => Duration::from_secs(24 * 3600),
        Life::Settled => Duration::from_secs(600),
        Life::Brief => Duration::from_secs(1),
        Life::Momentary => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests;
