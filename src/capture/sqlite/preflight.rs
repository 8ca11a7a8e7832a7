//! What can be said of a database before SQLite opens it.
//!
//! To open a database of the other kind may already write to it: SQLite rolls back what
//! a killed writer left. So its kind is read from its header.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::statfs;

use super::error::{Error, Gap, Result, Unfollowable};
use super::files::{Attached, FileId, beside};
use super::wal::read_at;

/// Bytes of the header that are looked at.
const HEADER_BYTES: usize = 100;

/// The file systems of which this machine's kernel alone knows every change, as it numbers
/// them: ext2 to ext4, XFS, Btrfs, F2FS, bcachefs, ZFS, tmpfs, ramfs, overlayfs, JFS,
/// ReiserFS, NILFS, UBIFS, JFFS2, FAT, exFAT, NTFS, HFS+, UDF.
///
/// Only there is the `-shm` that is mapped here the one that every writer maps. Elsewhere a
/// writer on another machine commits, and nothing of it is seen: no error, and no gap. So
/// what is not known is not followed.
const LOCAL: [u64; 19] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xf2f5_2010,
    0xca45_1a4e,
    0x2fc1_2fc1,
    0x0102_1994,
    0x8584_58f6,
    0x794c_7630,
    0x3153_464a,
    0x5265_4973,
    0x3434,
    0x2405_1905,
    0x72b6,
    0x4d44,
    0x2011_bab0,
    0x7366_746e,
    0x482b,
    0x1501_3346,
];

/// File systems that a program answers for: sshfs, rclone, virtiofs and many more. Some of
/// them are of this machine alone, and nothing says which.
const FUSE: u64 = 0x6573_5546;

/// File systems whose memory is not one with that of other machines.
const NETWORK: [(u64, &str); 19] = [
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xfe53_4d42, "smb2"),
    (0xff53_4d42, "cifs"),
    (0x564c, "ncp"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x0116_1970, "gfs2"),
    (0x7461_636f, "ocfs2"),
    (0x0bd0_0bd0, "lustre"),
    (0x4750_4653, "gpfs"),
    (0x1983_0326, "beegfs"),
    (0xaad7_aaea, "panfs"),
    (0x2003_0528, "orangefs"),
    (0x786f_4256, "vboxsf"),
    (0xbacb_acbc, "vmhgfs"),
];

/// Why nothing on a file system of this number can be followed, if so.
fn unshared(magic: u64) -> Option<Unfollowable> {
    if LOCAL.contains(&magic) {
        return None;
    }
    let named = NETWORK.iter().find(|(known, _)| *known == magic);
    Some(match named {
        Some((_, name)) => Unfollowable::NetworkFileSystem(name),
        None if magic == FUSE => Unfollowable::Fuse,
        None => Unfollowable::UnknownFileSystem(magic),
    })
}

/// The path without symbolic links: SQLite keeps its other files beside that one.
///
/// # Errors
///
/// [`Error::Missing`], [`Error::File`].
pub(super) fn resolve(path: &Path) -> Result<PathBuf> {
    let resolved = path.canonicalize().map_err(|source| missing_or(path, source))?;
    if resolved.is_file() { Ok(resolved) } else { Err(Error::NotADatabase { path: resolved }) }
}

/// The number of the file system that a file is on.
fn magic(path: &Path) -> Result<u64> {
    let on = statfs(path).map_err(|errno| Error::file(path)(errno.into()))?;
    Ok(u64::try_from(on.f_type).unwrap_or(0) & 0xffff_ffff)
}

/// The error for a database that the kernel does not show.
pub(super) fn missing_or(path: &Path, source: std::io::Error) -> Error {
    let path = path.to_owned();
    match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { path },
        _ => Error::File { path, source },
    }
}

/// Says of a database, by its path without symbolic links, whether it can be followed as
/// far as that can be seen from outside. Returns its descriptor.
///
/// # Errors
///
/// [`Error::CannotFollow`], [`Error::NotADatabase`], [`Error::File`]; [`Error::Broken`] if
/// another file just took the name.
pub(super) fn check(path: &Path, attached: &Attached) -> Result<Arc<File>> {
    let cannot = |reason| Err(Error::CannotFollow { path: path.to_owned(), reason });
    if let Some(reason) = unshared(magic(path)?) {
        return cannot(reason);
    }
    let file = attached.open(path).map_err(|source| missing_or(path, source))?;
    if FileId::of(&file.metadata().map_err(Error::file(path))?) != attached.id() {
        return Err(Error::Broken { path: path.to_owned(), gap: Gap::DatabaseReplaced });
    }
    let mut header = [0; HEADER_BYTES];
    match read_at(&file, &mut header, 0).map_err(Error::file(path))? {
        0 => return cannot(Unfollowable::Empty),
        HEADER_BYTES if header.starts_with(b"SQLite format 3\0") => {}
        _ => return Err(Error::NotADatabase { path: path.to_owned() }),
    }
    // The versions that a program must know to write and to read.
    match (header[18], header[19]) {
        (2, 2) => Ok(file),
        (1, 1) => cannot(Unfollowable::RollbackJournal),
        _ => Err(Error::NotADatabase { path: path.to_owned() }),
    }
}

/// How a database is to be read as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// With locks and log, as any program of this machine does.
    Shared,
    /// The file alone, which is complete as long as it is just so.
    Resting(FileId, u64, i64, i64),
}

/// How a database can be read as a whole without harm.
///
/// A database with a log is a special case where memory may not be shared: who opens it there
/// and meets nobody takes the `-shm` for a leftover and begins it anew, which kills those on
/// other machines who have it mapped. So it is opened only beside a program of this machine,
/// and read without its log if it has none.
///
/// # Errors
///
/// [`Error::MaybeElsewhere`] if there is no such way; [`Error::File`].
pub(super) fn reading(path: &Path, attached: &Attached) -> Result<Reading> {
    if unshared(magic(path)?).is_none() {
        return Ok(Reading::Shared);
    }
    let file = attached.open(path).map_err(|source| missing_or(path, source))?;
    let mut header = [0; HEADER_BYTES];
    let read = read_at(&file, &mut header, 0).map_err(Error::file(path))?;
    let [shared, log] = ["-shm", "-wal"].map(|suffix| std::fs::metadata(beside(path, suffix)));
    if read < HEADER_BYTES || header[18] != 2 || shared.as_ref().is_ok_and(is_locked_here) {
        return Ok(Reading::Shared);
    }
    if shared.is_ok() || log.is_ok_and(|log| log.len() > 0) {
        return Err(Error::MaybeElsewhere { path: path.to_owned() });
    }
    let meta = std::fs::metadata(path).map_err(|source| missing_or(path, source))?;
    Ok(Reading::Resting(FileId::of(&meta), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

/// Whether a process of this machine has a lock on a file.
fn is_locked_here(meta: &Metadata) -> bool {
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let file = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    locks.lines().any(|line| line.split_whitespace().any(|word| word == file))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FUSE alone is tried for real (`tests/cli/served.rs`): a machine that tests run on
    /// has no other of them.
    #[test]
    fn only_what_this_machine_alone_changes_can_be_followed() {
        let network = |name| Some(Unfollowable::NetworkFileSystem(name));
        for (magic, expected) in [
            (0xef53, None),
            (0x5846_5342, None),
            (0x9123_683e, None),
            (0x0102_1994, None),
            (0x794c_7630, None),
            (0x6969, network("nfs")),
            (0xfe53_4d42, network("smb2")),
            (0xff53_4d42, network("cifs")),
            (0x0102_1997, network("9p")),
            (0x00c3_6400, network("ceph")),
            (0x6573_5546, Some(Unfollowable::Fuse)),
            (0x1234_5678, Some(Unfollowable::UnknownFileSystem(0x1234_5678))),
        ] {
            assert_eq!(unshared(magic), expected, "{magic:#x}");
        }
    }

    #[test]
    fn a_log_that_is_in_use_here_is_told_from_one_that_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kv.db");
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE n (v)").unwrap();
        let (used, left) = (beside(&path, "-shm"), dir.path().join("left"));
        // Nothing of the first may be opened here: closing it would unlock it.
        std::fs::write(&left, "").unwrap();
        let is_locked = |path: &Path| is_locked_here(&std::fs::metadata(path).unwrap());
        assert!(is_locked(&used) && !is_locked(&left));
    }
}
