//! The walk: every file that a backup stores, in the order of its tree.
//!
//! A directory is entered, its entries come in byte order of their names with
//! subdirectories in place, and it is left. Each entry is statted once, relative to
//! the open directory, so that nothing that happens to the path above can lead the
//! walk astray. Files are not opened; a [`Place`](crate::source::Place) opens them
//! later.
//!
//! Depth costs memory, not stack or descriptors: the walk keeps a list of what it
//! is in, and only the deepest `OPEN_DIRS_MAX` directories stay open. A shallower
//! one is opened again on the way back through `..`, and must then be the one that
//! was left.
//!
//! Trouble with one entry is told to the visitor and ends nothing. A directory that
//! cannot be read is still an entry: its name and attributes are stored, and its
//! contents are missing.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::source::meta::{FileKind, stat_at, stat_fd, stat_following};
use crate::source::mounts::Mounts;
use crate::source::names::Names;
use crate::source::path::{self, as_path};
use crate::source::place::{DirPlace, push};
use crate::source::roots::{Node, Shape};
use crate::source::visit::{At, Skipped, Trouble, Visit, Visitor};
use crate::source::{Error, Meta, Roots, Rules};

/// How many directories of the way down are kept open.
const OPEN_DIRS_MAX: usize = 64;

/// Room for the names that one call reads from a directory.
const NAMES_BYTES: usize = 64 * 1024;

/// Walks through what `roots` want and `rules` leave, and tells `visitor`.
///
/// Directories listed in `skip` are stored empty wherever they are met, under
/// whatever name; those that do not exist are no matter.
///
/// # Errors
///
/// What the visitor returned, or [`Error::Root`] if the top of the tree cannot be
/// read. A single directory that cannot be listed is such an error, since an empty
/// tree would be a false answer.
pub fn walk<V: Visitor>(
    roots: &Roots,
    rules: &Rules,
    skip: &[PathBuf],
    visitor: &mut V,
) -> Result<(), V::Error> {
    let apart = skip.iter().filter_map(|path| {
        let meta = stat_following(CWD, path.as_os_str().as_encoded_bytes()).ok()?;
        Some((meta.dev, meta.ino))
    });
    let mut walk = Walk {
        roots,
        rules,
        apart: apart.collect(),
        mounts: Mounts::default(),
        euid: rustix::process::geteuid().as_raw(),
        path: roots.top.clone(),
        buffer: Vec::with_capacity(NAMES_BYTES),
        stack: Vec::new(),
        visitor,
    };
    walk.start()?;
    while walk.step()? {}
    Ok(())
}

struct Walk<'a, V> {
    roots: &'a Roots,
    rules: &'a Rules,
    apart: HashSet<(u64, u64)>,
    mounts: Mounts,
    euid: u32,
    path: Vec<u8>,
    buffer: Vec<u8>,
    stack: Vec<Frame>,
    visitor: &'a mut V,
}

/// A directory that was entered and not yet left.
struct Frame {
    place: Arc<DirPlace>,
    /// `None` while the walk is far below.
    fd: Option<Arc<OwnedFd>>,
    meta: Meta,
    names: Names,
    next: usize,
    /// How much of the walk's path is this directory's.
    path_len: usize,
    scope: Scope,
    node: Option<Node>,
}

/// What a directory hands down to its entries.
#[derive(Clone, Copy)]
struct Scope {
    /// Everything here is wanted, not only what a root names.
    whole: bool,
    /// Where the path below the nearest root begins.
    below: usize,
    /// The file system of the nearest root.
    dev: u64,
}

/// A directory among the entries of another.
struct Found {
    parent: Arc<OwnedFd>,
    /// The directory that it is in, and that directory's file system.
    above: (Arc<DirPlace>, u64),
    name: Box<[u8]>,
    meta: Meta,
    node: Option<Node>,
}

/// A directory, about to be listed.
struct Opened {
    place: Arc<DirPlace>,
    fd: Arc<OwnedFd>,
    meta: Meta,
    scope: Scope,
    node: Option<Node>,
}

impl<V: Visitor> Walk<'_, V> {
    fn start(&mut self) -> Result<(), V::Error> {
        let shape = self.roots.shape;
        let whole = shape == Shape::Directory || self.roots.is_whole(0);
        let access = if whole { OFlags::RDONLY } else { OFlags::PATH };
        let flags = access | OFlags::DIRECTORY;
        let opened = path::open(&self.roots.top, flags | OFlags::NOATIME)
            .or_else(|_| path::open(&self.roots.top, flags))
            .and_then(|fd| Ok((stat_fd(fd.as_fd())?, fd)));
        let (meta, fd) = opened.map_err(|source| {
            let path = as_path(&self.roots.top).to_owned();
            V::Error::from(Error::Root { path, source })
        })?;
        let scope = Scope { whole, below: self.path.len(), dev: meta.dev };
        let place = DirPlace::top(&self.path);
        let (above, fd) = (Arc::clone(&place), Arc::new(fd));
        let opened = Opened { place, fd, meta, scope, node: Some(0) };
        if whole && self.apart.contains(&(meta.dev, meta.ino)) {
            let (path, dir, at) = (&self.path[..], &above, At::Open(opened.fd.as_fd()));
            self.visitor.enter(&Visit { name: b"", path, meta: &meta, dir, at })?;
            self.visitor.skipped(&self.path, Skipped::SetApart);
            return self.visitor.leave();
        }
        let Some(file) = self.roots.file else {
            return self.descend(b"", &above, opened);
        };
        let meta = &Meta { kind: FileKind::Dir, mode: 0o755, nlink: 2, size: 0, ino: 0, ..file };
        let (path, dir, at) = (&self.path[..], &above, At::Nowhere);
        self.visitor.enter(&Visit { name: b"", path, meta, dir, at })?;
        self.push(opened, Names::of(self.roots.children(0)));
        Ok(())
    }

    /// Does the next thing; `false` when there is none.
    fn step(&mut self) -> Result<bool, V::Error> {
        let Some(frame) = self.stack.last_mut() else {
            return Ok(false);
        };
        let Some(name) = frame.names.get(frame.next) else {
            self.ascend()?;
            return Ok(true);
        };
        frame.next += 1;
        self.path.truncate(frame.path_len);
        push(&mut self.path, name);
        let name = &self.path[self.path.len() - name.len()..];
        let Some(fd) = frame.fd.clone() else {
            return Ok(true);
        };
        let node = frame.node.and_then(|node| self.roots.child(node, name));

        let stat = match node {
            None => stat_at(fd.as_fd(), name).map(|meta| (meta, false)),
            Some(node) => stat_wanted(fd.as_fd(), name, self.roots.has_children(node)),
        };
        let patterns = self.rules.has_patterns() && frame.scope.whole;
        let excludes =
            |is_dir| patterns && self.rules.excludes(&self.path, frame.scope.below, is_dir);
        let (meta, followed) = match stat {
            Ok(found) => found,
            // What is left out may be as unreadable as it likes.
            Err(_) if node.is_none() && (excludes(true) || excludes(false)) => return Ok(true),
            Err(e) => {
                let trouble = match e.kind() {
                    io::ErrorKind::NotFound => Trouble::Vanished,
                    _ => Trouble::Stat(e),
                };
                self.visitor.problem(&self.path, trouble)?;
                return Ok(true);
            }
        };
        let is_dir = meta.kind == FileKind::Dir;
        let excluded = excludes(is_dir) || self.rules.is_too_large(&meta);
        if excluded && node.is_none() {
            return Ok(true);
        }
        let dir = &frame.place;
        if !is_dir {
            let at = At::Entry(fd.as_fd());
            self.visitor.file(&Visit { name, path: &self.path, meta: &meta, dir, at })?;
            return Ok(true);
        }
        let whole = frame.scope.whole && !followed && !excluded;
        let scope = Scope { whole, ..frame.scope };
        let above = (Arc::clone(dir), frame.meta.dev);
        let name = name.into();
        self.directory(&Found { parent: fd, above, name, meta, node }, scope)?;
        Ok(true)
    }

    /// Goes into a directory that was found at the walk's path.
    fn directory(&mut self, found: &Found, mut scope: Scope) -> Result<(), V::Error> {
        // Once before it is opened, since opening a dead mount can hang and an
        // automount springs to life; once after, since it may have become another.
        if let Some(why) = self.shut(found, &found.meta, &mut scope) {
            return self.skip(found, &found.meta, why);
        }
        let is_root = found.node.is_some_and(|node| self.roots.is_whole(node));
        let list = scope.whole || is_root;
        let opened = self.open(&found.parent, &found.name, &found.meta, list, found.node.is_some());
        let (fd, meta) = match opened {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return self.visitor.problem(&self.path, Trouble::Vanished),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return self.visitor.problem(&self.path, Trouble::Replaced);
            }
            Err(e) => {
                self.enter(found, &found.meta)?;
                self.visitor.problem(&self.path, Trouble::List(e.into()))?;
                return self.visitor.leave();
            }
        };
        if !meta.is_same_file(&found.meta)
            && let Some(why) = self.shut(found, &meta, &mut scope)
        {
            return self.skip(found, &meta, why);
        }
        if is_root {
            scope = Scope { whole: true, below: self.path.len(), dev: meta.dev };
        }
        let place = found.above.0.child(&found.name);
        let dir = Opened { place, fd: Arc::new(fd), meta, scope, node: found.node };
        self.descend(&found.name, &found.above.0, dir)
    }

    /// Why a directory is to be stored empty, if it is.
    ///
    /// Where a root lies below, the way to it is kept, and `scope` says that
    /// nothing else there is wanted.
    fn shut(&mut self, found: &Found, meta: &Meta, scope: &mut Scope) -> Option<Skipped> {
        if self.apart.contains(&(meta.dev, meta.ino)) {
            return Some(Skipped::SetApart);
        }
        let crossing = meta.dev != found.above.1;
        let why = if crossing && self.mounts.is_own(meta.dev) {
            Skipped::OwnMount
        } else if self.rules.one_file_system() && meta.dev != scope.dev {
            Skipped::OtherFileSystem
        } else {
            return None;
        };
        if found.node.is_some() {
            scope.whole = false;
            return None;
        }
        Some(why)
    }

    /// Tells of a directory that will not be opened.
    fn enter(&mut self, found: &Found, meta: &Meta) -> Result<(), V::Error> {
        let (dir, at) = (&found.above.0, At::Entry(found.parent.as_fd()));
        self.visitor.enter(&Visit { name: &found.name, path: &self.path, meta, dir, at })
    }

    fn skip(&mut self, found: &Found, meta: &Meta, why: Skipped) -> Result<(), V::Error> {
        self.enter(found, meta)?;
        self.visitor.skipped(&self.path, why);
        self.visitor.leave()
    }

    /// Opens a directory, to list it or only to reach what is in it.
    fn open(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        meta: &Meta,
        list: bool,
        follow: bool,
    ) -> Result<(OwnedFd, Meta), Errno> {
        let mut flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        flags |= if list { OFlags::RDONLY } else { OFlags::PATH };
        if !follow {
            flags |= OFlags::NOFOLLOW;
        }
        let quietly = list && (self.euid == 0 || self.euid == meta.uid);
        let noatime = flags | OFlags::NOATIME;
        let fd = match quietly.then(|| openat(parent, name, noatime, Mode::empty())) {
            Some(Ok(fd)) => fd,
            _ => openat(parent, name, flags, Mode::empty())?,
        };
        let meta =
            stat_fd(fd.as_fd()).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        Ok((fd, meta))
    }

    /// Lists a directory, tells of it, and makes it the one that the walk is in.
    fn descend(
        &mut self,
        name: &[u8],
        above: &Arc<DirPlace>,
        opened: Opened,
    ) -> Result<(), V::Error> {
        let mut names = Names::default();
        let mut trouble = None;
        if opened.scope.whole {
            trouble = names.read(opened.fd.as_fd(), &mut self.buffer).err();
            names.sort();
        }
        let tag = self.rules.tag_in(opened.fd.as_fd(), |name| names.has(name));
        if let Some(tag) = tag {
            names = Names::of([tag].into_iter());
        }
        if let Some(node) = opened.node
            && (tag.is_some() || !opened.scope.whole || self.roots.has_children(node))
        {
            names.add(self.roots.children(node));
        }
        let (meta, at) = (&opened.meta, At::Open(opened.fd.as_fd()));
        self.visitor.enter(&Visit { name, path: &self.path, meta, dir: above, at })?;
        if tag.is_some() {
            self.visitor.skipped(&self.path, Skipped::Tagged);
        }
        if let Some(e) = trouble {
            self.visitor.problem(&self.path, Trouble::List(e.into()))?;
        }
        self.push(opened, names);
        Ok(())
    }

    fn push(&mut self, opened: Opened, names: Names) {
        let Opened { place, fd, meta, scope, node } = opened;
        place.lend(&fd);
        let (fd, path_len) = (Some(fd), self.path.len());
        self.stack.push(Frame { place, fd, meta, names, next: 0, path_len, scope, node });
        if let Some(far) = self.stack.len().checked_sub(OPEN_DIRS_MAX + 1) {
            self.stack[far].fd = None;
        }
    }

    /// Leaves a directory for the one above, which may have to be opened again.
    fn ascend(&mut self) -> Result<(), V::Error> {
        let Some(left) = self.stack.pop() else {
            return Ok(());
        };
        self.visitor.leave()?;
        let Some(frame) = self.stack.last_mut() else {
            return Ok(());
        };
        self.path.truncate(frame.path_len);
        if frame.fd.is_some() {
            return Ok(());
        }
        frame.fd = reopen(left.fd.as_deref(), &self.path, &frame.meta);
        match &frame.fd {
            Some(fd) => frame.place.lend(fd),
            // With nothing left to look at, nothing is missing.
            None if frame.next == frame.names.len() => {}
            None => {
                frame.next = frame.names.len();
                self.visitor.problem(&self.path, Trouble::Moved)?;
            }
        }
        Ok(())
    }
}

/// Stats a name that a root names, or that lies on the way to one.
///
/// On the way everything is followed, as the kernel would have done. A root itself is
/// followed if it is a symlink to a directory. The answer tells whether it was one.
fn stat_wanted(dir: BorrowedFd<'_>, name: &[u8], is_way: bool) -> io::Result<(Meta, bool)> {
    let meta = stat_at(dir, name)?;
    if meta.kind == FileKind::Symlink {
        match stat_following(dir, name) {
            Ok(target) if is_way || target.kind == FileKind::Dir => return Ok((target, true)),
            Err(e) if is_way => return Err(e),
            _ => {}
        }
    }
    Ok((meta, false))
}

/// Opens the directory above again: through `..`, or by its path if the way down
/// led through a symlink. It must be the directory that the walk was in.
fn reopen(below: Option<&OwnedFd>, path: &[u8], meta: &Meta) -> Option<Arc<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let is_it = |fd: &OwnedFd| stat_fd(fd.as_fd()).is_ok_and(|now| now.is_same_file(meta));
    let up = below.and_then(|fd| openat(fd, "..", flags, Mode::empty()).ok()).filter(is_it);
    up.or_else(|| path::open(path, flags).ok().filter(is_it)).map(Arc::new)
}

#[cfg(test)]
mod tests;
