//! What can be said of a database before SQLite opens it.
//!
//! To open a database of the other kind may already write to it: SQLite rolls back what
//! a killed writer left. So its kind is read from its header.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::statfs;

use super::error::{Error, Gap, Result, Unfollowable};
use super::files::{Attached, FileId};
use super::wal::read_at;

/// Bytes of the header that are looked at.
const HEADER_BYTES: usize = 100;

/// File systems whose memory is not one with that of other machines.
const NETWORK: [(u64, &str); 12] = [
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xfe53_4d42, "smb2"),
    (0xff53_4d42, "cifs"),
    (0x5346_414f, "afs"),
    (0x7375_7245, "coda"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x0116_1970, "gfs2"),
    (0x7461_636f, "ocfs2"),
    (0x0bd0_0bd0, "lustre"),
    (0x4750_4653, "gpfs"),
];

/// The path without symbolic links: SQLite keeps its other files beside that one.
///
/// # Errors
///
/// [`Error::Missing`], [`Error::File`].
pub(super) fn resolve(path: &Path) -> Result<PathBuf> {
    let resolved = path.canonicalize().map_err(|source| missing_or(path, source))?;
    if resolved.is_file() { Ok(resolved) } else { Err(Error::NotADatabase { path: resolved }) }
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
    let on = statfs(path).map_err(|errno| Error::file(path)(errno.into()))?;
    let magic = u64::try_from(on.f_type).unwrap_or(0) & 0xffff_ffff;
    if let Some((_, name)) = NETWORK.iter().find(|(known, _)| *known == magic) {
        return cannot(Unfollowable::NetworkFileSystem(name));
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
