//! What a file system says about a file: everything of a stat that a backup keeps
//! or compares, in one plain struct that can be copied.
//!
//! One `statx` fills it, relative to an open directory and never through a
//! symlink unless that is asked for. It is the only stat call of the module.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp, makedev, statx};

use crate::base::UnixTime;

/// The seven kinds of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket in the file system.
    Socket,
}

impl FileKind {
    /// The kind in words, with its article, for messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FileKind::File => "a regular file",
            FileKind::Dir => "a directory",
            FileKind::Symlink => "a symbolic link",
            FileKind::CharDevice => "a character device",
            FileKind::BlockDevice => "a block device",
            FileKind::Fifo => "a named pipe",
            FileKind::Socket => "a socket",
        }
    }

    fn of(mode: u16) -> Option<FileKind> {
        match FileType::from_raw_mode(u32::from(mode)) {
            FileType::RegularFile => Some(FileKind::File),
            FileType::Directory => Some(FileKind::Dir),
            FileType::Symlink => Some(FileKind::Symlink),
            FileType::CharacterDevice => Some(FileKind::CharDevice),
            FileType::BlockDevice => Some(FileKind::BlockDevice),
            FileType::Fifo => Some(FileKind::Fifo),
            FileType::Socket => Some(FileKind::Socket),
            FileType::Unknown => None,
        }
    }
}

/// What a stat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Which kind of file it is.
    pub kind: FileKind,
    /// Permission, set-id and sticky bits: `mode & 07777`.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// When the content last changed.
    pub mtime: UnixTime,
    /// When content or attributes last changed. Programs cannot set it, so it is
    /// what tells a changed file from an unchanged one.
    pub ctime: UnixTime,
    /// When the file was made, where the file system knows it.
    pub btime: Option<UnixTime>,
    /// Length in bytes; of a symlink, the length of its target.
    pub size: u64,
    /// The file system that holds the file, as `st_dev` has it.
    pub dev: u64,
    /// The file's number on that file system.
    pub ino: u64,
    /// How many names the file has.
    pub nlink: u64,
    /// Major and minor number of a device; zero for everything else.
    pub rdev: (u32, u32),
    /// Units of 512 bytes that are allocated.
    pub blocks: u64,
}

impl Meta {
    /// Whether two stats are of one file: same place, same kind.
    #[must_use]
    pub fn is_same_file(&self, other: &Meta) -> bool {
        (self.dev, self.ino, self.kind) == (other.dev, other.ino, other.kind)
    }

    /// Whether nothing that a write or a change of attributes leaves behind differs.
    #[must_use]
    pub fn is_unchanged_since(&self, earlier: &Meta) -> bool {
        self.is_same_file(earlier)
            && (self.size, self.mtime, self.ctime) == (earlier.size, earlier.mtime, earlier.ctime)
    }
}

/// Stats `name` in the directory `dir`; a symlink is described, not followed.
///
/// An empty name means what `dir` itself refers to.
///
/// # Errors
///
/// What the kernel says: not found, permission denied, a dead network mount.
pub fn stat_at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Meta> {
    let mut flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    if name.is_empty() {
        flags |= AtFlags::EMPTY_PATH;
    }
    stat(dir, name, flags)
}

/// Stats `name` in the directory `dir`, and what it points to if it is a symlink.
///
/// # Errors
///
/// As [`stat_at`], and not found for a symlink that dangles.
pub fn stat_following(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Meta> {
    stat(dir, name, AtFlags::empty())
}

/// Stats what an open descriptor refers to.
///
/// # Errors
///
/// What the kernel says.
pub fn stat_fd(fd: BorrowedFd<'_>) -> io::Result<Meta> {
    stat(fd, b"", AtFlags::EMPTY_PATH)
}

fn stat(dir: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> io::Result<Meta> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    from_statx(&statx(dir, name, flags, wanted)?)
}

/// Whether the times that nobody can set are passed over.
static ONLY_MTIMES: AtomicBool = AtomicBool::new(false);

/// Makes every stat of this process say that a file was made and last changed when its
/// content was. For the simulation, whose trees are to be the same in every run.
#[doc(hidden)]
pub fn only_mtimes(on: bool) {
    ONLY_MTIMES.store(on, Ordering::SeqCst);
}

fn from_statx(s: &Statx) -> io::Result<Meta> {
    let kind = FileKind::of(s.stx_mode)
        .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "a file of unknown kind"))?;
    let has_btime = s.stx_mask & StatxFlags::BTIME.bits() != 0;
    let is_device = matches!(kind, FileKind::CharDevice | FileKind::BlockDevice);
    let only_mtimes = ONLY_MTIMES.load(Ordering::Relaxed);
    let unless = |t: &StatxTimestamp| time(if only_mtimes { &s.stx_mtime } else { t });
    Ok(Meta {
        kind,
        mode: u32::from(s.stx_mode) & 0o7777,
        uid: s.stx_uid,
        gid: s.stx_gid,
        mtime: time(&s.stx_mtime),
        ctime: unless(&s.stx_ctime),
        btime: has_btime.then(|| unless(&s.stx_btime)),
        size: s.stx_size,
        dev: makedev(s.stx_dev_major, s.stx_dev_minor),
        ino: s.stx_ino,
        nlink: u64::from(s.stx_nlink),
        rdev: if is_device { (s.stx_rdev_major, s.stx_rdev_minor) } else { (0, 0) },
        blocks: s.stx_blocks,
    })
}

fn time(t: &StatxTimestamp) -> UnixTime {
    UnixTime::new(t.tv_sec, t.tv_nsec)
}
