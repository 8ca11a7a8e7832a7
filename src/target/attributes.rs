//! Giving a file the attributes that it had.
//!
//! The order matters, because the kernel takes attributes away again:
//!
//! 1. the owner, since changing it clears set-id bits and file capabilities;
//! 2. extended attributes, since writing a `user.` attribute needs write permission,
//!    which the mode may not give even to the owner;
//! 3. the mode, which also sets the mask of an ACL, to what it was;
//! 4. the time, since the others are changes.
//!
//! Set-id bits lend the owner's rights to whoever runs the file. They are restored only
//! onto a file that has the owner, or group, that it had: a program of `alice` that
//! came back as root's must not come back set-user-id.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::fs::{chmod, chownat, fchmod, fsetxattr, futimens, openat, removexattr};
use rustix::fs::{setxattr, utimensat};
use rustix::io::Errno;

use crate::base::UnixTime;
use crate::source::meta::{FileKind, stat_fd};
use crate::source::owners::Owners;
use crate::source::path::shown;
use crate::source::xattr::{Xattrs, proc_path, xattrs_fd, xattrs_open};
use crate::target::lock;

/// The attributes that a file had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Its kind, which the file on disk must have.
    pub kind: FileKind,
    /// Permission, set-id and sticky bits. A symlink's are not set, nobody looks at them.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The owner's name, if it had one.
    pub user: Option<String>,
    /// The group's name, if it had one.
    pub group: Option<String>,
    /// When the content last changed; the access time is set to it as well.
    pub mtime: UnixTime,
    /// All extended attributes, sorted by name.
    pub xattrs: Xattrs,
}

/// Which attributes to give.
#[derive(Debug, Clone, Copy)]
pub struct ApplyOptions {
    /// Owner and group.
    pub owner: bool,
    /// Extended attributes: set those that were, remove those that were not.
    pub xattrs: bool,
    /// Take owners by number although this machine knows their names.
    pub numeric_ids: bool,
}

/// What was refused of one kind: how often, and the first case in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    /// How often.
    pub count: u64,
    /// The first case.
    pub first: Option<String>,
}

impl Refused {
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(what);
    }

    /// Adds up.
    pub fn add(&mut self, other: Refused) {
        self.count += other.count;
        self.first = self.first.take().or(other.first);
    }
}

/// Which attributes a file did not get. Adds up over a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Owner or group; ordinary users may not give files away.
    pub owner: Refused,
    /// Mode.
    pub mode: Refused,
    /// Set-user-id and set-group-id bits that were left off, since the owner is another.
    pub set_id: Refused,
    /// Extended attributes, each by itself.
    pub xattrs: Refused,
    /// Modification time.
    pub time: Refused,
}

impl Outcome {
    /// Whether everything was given.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        *self == Outcome::default()
    }

    /// Adds up.
    pub fn add(&mut self, other: Outcome) {
        self.owner.add(other.owner);
        self.mode.add(other.mode);
        self.set_id.add(other.set_id);
        self.xattrs.add(other.xattrs);
        self.time.add(other.time);
    }
}

/// Applies to what `fd` refers to; `is_path` if it is open as a mere path, where the
/// calls go through /proc.
pub(super) fn apply(
    fd: BorrowedFd<'_>,
    is_path: bool,
    wanted: &Attributes,
    options: ApplyOptions,
    owners: &Mutex<Owners>,
) -> io::Result<Outcome> {
    let now = stat_fd(fd)?;
    if now.kind != wanted.kind {
        let found = format!("it is {}, not {}", now.kind.name(), wanted.kind.name());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, found));
    }
    let file = Handle { fd, path: is_path.then(|| proc_path(fd, None)) };
    let mut outcome = Outcome::default();

    let (uid, gid) = wanted_ids(wanted, options, owners);
    let mut has = (now.uid, now.gid);
    if options.owner && has != (uid, gid) {
        has = file.chown(has, (uid, gid), &mut outcome.owner);
    }
    if options.xattrs {
        file.set_xattrs(&wanted.xattrs, &mut outcome.xattrs);
    }
    if wanted.kind != FileKind::Symlink {
        let mut mode = wanted.mode;
        let is_program = wanted.kind == FileKind::File;
        for (bit, differs) in [(0o4000, has.0 != uid), (0o2000, has.1 != gid)] {
            // On a directory the bits lend nothing; they say how groups are inherited.
            if is_program && differs && mode & bit != 0 {
                mode &= !bit;
                outcome.set_id.note(|| format!("mode {:o}", wanted.mode));
            }
        }
        if let Err(e) = file.chmod(mode) {
            outcome.mode.note(|| format!("mode {mode:o}: {}", io::Error::from(e)));
        }
    }
    if let Err(e) = file.set_time(wanted.mtime) {
        outcome.time.note(|| format!("{}: {}", wanted.mtime, io::Error::from(e)));
    }
    Ok(outcome)
}

/// The owner and group that the file should get here.
fn wanted_ids(wanted: &Attributes, options: ApplyOptions, owners: &Mutex<Owners>) -> (u32, u32) {
    if options.numeric_ids || wanted.user.is_none() && wanted.group.is_none() {
        return (wanted.uid, wanted.gid);
    }
    let mut owners = lock(owners);
    let uid = wanted.user.as_deref().and_then(|name| owners.uid(name));
    let gid = wanted.group.as_deref().and_then(|name| owners.gid(name));
    (uid.unwrap_or(wanted.uid), gid.unwrap_or(wanted.gid))
}

/// Lets the owner of a directory work in it until it gets its real mode.
pub(super) fn make_accessible(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let name = if name.is_empty() { b"." } else { name };
    let fd = openat(dir, name, flags, Mode::empty())?;
    Ok(chmod(proc_path(fd.as_fd(), None), Mode::from_raw_mode(mode))?)
}

struct Handle<'a> {
    fd: BorrowedFd<'a>,
    /// Where /proc shows it, if it must be reached that way.
    path: Option<Vec<u8>>,
}

impl Handle<'_> {
    /// Changes the owner as far as the kernel lets us, and says which it has then.
    fn chown(&self, now: (u32, u32), to: (u32, u32), refused: &mut Refused) -> (u32, u32) {
        let set = |uid: Option<u32>, gid: Option<u32>| {
            let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
            chownat(self.fd, "", uid, gid, AtFlags::EMPTY_PATH)
        };
        let Err(e) = set(Some(to.0), Some(to.1)) else {
            return to;
        };
        refused.note(|| format!("owner {}:{}: {}", to.0, to.1, io::Error::from(e)));
        // An ordinary user may still give a file to any of their groups.
        if now.1 != to.1 && set(None, Some(to.1)).is_ok() {
            return (now.0, to.1);
        }
        now
    }

    fn chmod(&self, mode: u32) -> rustix::io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        match &self.path {
            None => fchmod(self.fd, mode),
            Some(path) => chmod(path, mode),
        }
    }

    fn set_time(&self, at: UnixTime) -> rustix::io::Result<()> {
        let at = Timespec { tv_sec: at.seconds, tv_nsec: i64::from(at.nanos) };
        let times = Timestamps { last_access: at, last_modification: at };
        match &self.path {
            None => futimens(self.fd, &times),
            Some(path) => utimensat(CWD, path, &times, AtFlags::empty()),
        }
    }

    /// Sets what is wanted, and removes what is there and not wanted: a new file may
    /// have inherited an ACL from its directory.
    fn set_xattrs(&self, wanted: &Xattrs, refused: &mut Refused) {
        let there = match &self.path {
            None => xattrs_open(self.fd),
            Some(_) => xattrs_fd(self.fd),
        };
        let there = match there {
            Ok(there) => there,
            Err(e) => {
                refused.note(|| format!("cannot be listed: {e}"));
                Xattrs::new()
            }
        };
        let mut note = |name: &[u8], e: Errno| {
            refused.note(|| format!("{}: {}", shown(name), io::Error::from(e)));
        };
        for (name, _) in &there {
            if is_ours(name) && wanted.binary_search_by(|(n, _)| n.cmp(name)).is_err() {
                let removed = removexattr(proc_path(self.fd, None), &name[..]);
                if let Err(e) = removed
                    && e != Errno::NODATA
                {
                    note(name, e);
                }
            }
        }
        for pair in wanted.iter().filter(|pair| !there.contains(pair)) {
            let (name, value) = (&pair.0[..], &pair.1[..]);
            let set = match &self.path {
                None => fsetxattr(self.fd, name, value, XattrFlags::empty()),
                Some(path) => setxattr(path, name, value, XattrFlags::empty()),
            };
            if let Err(e) = set {
                note(name, e);
            }
        }
    }
}

/// Whether an attribute that a file should not have is ours to remove. Labels of
/// security modules are the machine's own.
fn is_ours(name: &[u8]) -> bool {
    [&b"user."[..], b"trusted.", b"system.posix_acl_"].iter().any(|p| name.starts_with(p))
        || name == b"security.capability"
}
