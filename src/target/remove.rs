//! Removing trees of any depth, with one descriptor and without the stack.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, openat, unlinkat};
use rustix::io::Errno;

use crate::source::meta::{Meta, stat_fd};
use crate::source::path::shown;
use crate::target::attributes::{Refused, make_accessible};

/// What a removal came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Entries that are gone, directories included.
    pub entries: u64,
    /// Entries that are still there.
    pub refused: Refused,
}

impl Removed {
    /// Adds up.
    pub fn add(&mut self, other: Removed) {
        self.entries += other.entries;
        self.refused.add(other.refused);
    }
}

/// The names in a directory that is open in whatever way, in byte order.
pub(super) fn list(dir: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = openat(dir, ".", flags, Mode::empty())?;
    let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
    let mut entries = RawDir::new(fd, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A directory that is being emptied.
struct Level {
    name: Vec<u8>,
    meta: Meta,
    names: Vec<Vec<u8>>,
}

/// Removes `name` from `dir`, and everything below it.
pub(super) fn tree(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Removed> {
    let mut removed = Removed::default();
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => {
            removed.entries = 1;
            return Ok(removed);
        }
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e.into()),
    }
    let dev = stat_fd(dir)?.dev;
    let Some((mut at, top)) = enter(dir, name, dev)? else {
        removed.refused.note(|| format!("{} is a mount point", shown(name)));
        return Ok(removed);
    };
    let mut stack = vec![top];
    while let Some(level) = stack.last_mut() {
        if let Some(name) = level.names.pop() {
            match unlinkat(&at, &name[..], AtFlags::empty()) {
                Ok(()) => removed.entries += 1,
                Err(Errno::NOENT) => {}
                Err(Errno::ISDIR | Errno::PERM) => match enter(at.as_fd(), &name, dev) {
                    Ok(Some((fd, below))) => {
                        at = fd;
                        stack.push(below);
                    }
                    Ok(None) => {
                        removed.refused.note(|| format!("{} is a mount point", shown(&name)));
                    }
                    Err(e) => removed.refused.note(|| format!("{}: {e}", shown(&name))),
                },
                Err(e) => removed.refused.note(|| format!("{}: {e}", shown(&name))),
            }
            continue;
        }
        let Some(done) = stack.pop() else { break };
        let gone = match stack.last() {
            None => unlinkat(dir, &done.name[..], AtFlags::REMOVEDIR),
            Some(above) => {
                at = ascend(&at, &above.meta)?;
                unlinkat(&at, &done.name[..], AtFlags::REMOVEDIR)
            }
        };
        match gone {
            Ok(()) => removed.entries += 1,
            Err(e) => removed.refused.note(|| format!("{}: {e}", shown(&done.name))),
        }
    }
    Ok(removed)
}

/// Opens and lists a directory, unless it is of another file system than `dev`.
fn enter(dir: BorrowedFd<'_>, name: &[u8], dev: u64) -> io::Result<Option<(OwnedFd, Level)>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    let meta = stat_fd(fd.as_fd())?;
    if meta.dev != dev {
        return Ok(None);
    }
    // It is about to go, so its mode need not stand in the way.
    let is_own = meta.uid == rustix::process::geteuid().as_raw();
    if is_own && meta.mode & 0o700 != 0o700 {
        make_accessible(dir, name, meta.mode | 0o700)?;
    }
    let names = list(fd.as_fd())?;
    Ok(Some((fd, Level { name: name.to_vec(), meta, names })))
}

/// Back to the directory above, which must be the one that was left: after a rename
/// `..` could be a directory that is none of this removal's business.
fn ascend(from: &OwnedFd, above: &Meta) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = openat(from, "..", flags, Mode::empty())?;
    if stat_fd(fd.as_fd())?.is_same_file(above) {
        return Ok(fd);
    }
    Err(io::Error::other("a directory was moved while it was removed"))
}
