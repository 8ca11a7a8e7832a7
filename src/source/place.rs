//! Where a file was found, in a form that still opens it later.
//!
//! A walk runs ahead of the threads that read, by thousands of files and as many
//! directories, and neither descriptors nor long paths can be held for all of
//! them. So a [`Place`] shares its directory with its siblings as a chain of
//! names, and borrows the walk's own descriptor as long as the walk has it. After
//! that the file is opened by its path. The path may have come to mean another
//! file by then, so whoever opens a place compares device, number and kind with
//! the stat (see [`crate::source::reader`]).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::{Mode, OFlags, openat};

use crate::source::Meta;
use crate::source::path;

/// A directory of a walk, by name and parent.
#[derive(Debug)]
pub(crate) struct DirPlace {
    parent: Option<Arc<DirPlace>>,
    /// The whole path for the top of the walk, one name for the others.
    name: Box<[u8]>,
    fd: Mutex<Weak<OwnedFd>>,
}

impl DirPlace {
    /// The directory that a walk starts from.
    pub(crate) fn top(path: &[u8]) -> Arc<DirPlace> {
        Arc::new(DirPlace { parent: None, name: path.into(), fd: Mutex::default() })
    }

    /// A directory in this one.
    pub(crate) fn child(self: &Arc<DirPlace>, name: &[u8]) -> Arc<DirPlace> {
        let parent = Some(Arc::clone(self));
        Arc::new(DirPlace { parent, name: name.into(), fd: Mutex::default() })
    }

    /// Lends the walk's descriptor; it stays the walk's to close.
    pub(crate) fn lend(&self, fd: &Arc<OwnedFd>) {
        *self.fd.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(fd);
    }

    fn borrowed(&self) -> Option<Arc<OwnedFd>> {
        self.fd.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    fn path(&self) -> Vec<u8> {
        let mut chain = vec![self];
        let mut at = self;
        while let Some(parent) = &at.parent {
            chain.push(parent);
            at = parent;
        }
        let mut path = Vec::new();
        for dir in chain.iter().rev() {
            push(&mut path, &dir.name);
        }
        path
    }
}

/// Appends a name to a path.
pub(crate) fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() && path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// Lets go of the chain link by link: a chain can be longer than the stack is deep.
impl Drop for DirPlace {
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut dir) = next.and_then(Arc::into_inner) {
            next = dir.parent.take();
        }
    }
}

/// A file that a walk met: where, and what its stat said then.
#[derive(Debug, Clone)]
pub struct Place {
    pub(crate) dir: Arc<DirPlace>,
    pub(crate) name: Box<[u8]>,
    pub(crate) meta: Meta,
}

impl Place {
    /// The stat of the walk.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The absolute path.
    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        let mut path = self.dir.path();
        push(&mut path, &self.name);
        path
    }

    /// Opens what is there now, without following a symlink in the last place.
    pub(crate) fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match self.dir.borrowed() {
            Some(dir) => Ok(openat(dir.as_fd(), &*self.name, flags, Mode::empty())?),
            None => path::open(&self.path(), flags),
        }
    }
}
