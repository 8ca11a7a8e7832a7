//! The mount point: what may be mounted on, and how a mount is taken away.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use rustix::mount::{UnmountFlags, unmount as system_unmount};

use crate::mount::mountinfo;

use super::{FILE_SYSTEM, MountError};

/// How long unmounting may take; the program it needs may hang on another mount.
const UNMOUNT_TIME: Duration = Duration::from_secs(10);

/// Checks that a directory can be mounted on, and heals it if a mount died there.
/// Returns its path without links and dots.
pub(super) fn prepare(point: &Path, forbidden: &[PathBuf]) -> Result<PathBuf, MountError> {
    let error = |source| MountError::Point { path: point.to_owned(), source };
    let path = canonical(point).map_err(error)?;
    for store in forbidden {
        let Ok(inside) = store.canonicalize() else { continue };
        if path.starts_with(&inside) || inside.starts_with(&path) {
            return Err(MountError::OverStore { path, store: inside });
        }
    }
    if is_stale(&path) {
        tracing::warn!(path = %path.display(), "a mount has died here; it is taken away");
        detach(&path)?;
    }
    let mounted = mountinfo::at(&path).map_err(error)?;
    if mounted.is_some_and(|mounted| mounted.kind == FILE_SYSTEM) {
        return Err(MountError::AlreadyMounted { path });
    }
    let metadata = std::fs::metadata(&path).map_err(error)?;
    if metadata.is_dir() { Ok(path) } else { Err(MountError::NotADirectory { path }) }
}

/// Ends the mount of asof's at a path, also when it is busy or has died.
///
/// # Errors
///
/// [`MountError::NotMounted`] if there is none, [`MountError::Unmount`] if it stays.
pub fn unmount(path: &Path) -> Result<(), MountError> {
    let error = |source| MountError::Unmount { path: path.to_owned(), source };
    let path = canonical(path).map_err(error)?;
    match mountinfo::at(&path).map_err(error)? {
        Some(mounted) if mounted.kind == FILE_SYSTEM => detach(&path),
        _ => Err(MountError::NotMounted { path }),
    }
}

/// Takes the mount at a path out of the tree.
pub(super) fn detach(path: &Path) -> Result<(), MountError> {
    let error = |source| MountError::Unmount { path: path.to_owned(), source };
    let target = path.to_owned();
    let (done, outcome) = bounded(1);
    thread::Builder::new()
        .name("asof-unmount".to_owned())
        .spawn(move || drop(done.send(take_away(&target))))
        .map_err(error)?;
    let late = || Err(io::Error::new(io::ErrorKind::TimedOut, "it takes too long"));
    match outcome.recv_timeout(UNMOUNT_TIME).unwrap_or_else(|_| late()) {
        Ok(()) => Ok(()),
        // Somebody else was faster.
        Err(_) if !is_mounted(path) => Ok(()),
        Err(source) => Err(error(source)),
    }
}

fn take_away(path: &Path) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(system_unmount(path, UnmountFlags::DETACH)?);
    }
    let output = Command::new("fusermount3")
        .args(["-u", "-z", "--"])
        .arg(path)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

fn is_mounted(path: &Path) -> bool {
    matches!(mountinfo::at(path), Ok(Some(mounted)) if mounted.kind == FILE_SYSTEM)
}

/// Whether a FUSE mount is there whose program has gone.
fn is_stale(path: &Path) -> bool {
    let not_connected = Some(rustix::io::Errno::NOTCONN.raw_os_error());
    std::fs::metadata(path).is_err_and(|error| error.raw_os_error() == not_connected)
}

/// The path without links and dots. The last part is not looked into, since a dead
/// mount may be there.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(error) if is_stale(path) => {
            let (parent, name) = (path.parent(), path.file_name());
            let parent = parent.map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
            match (parent, name) {
                (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
                _ => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}
