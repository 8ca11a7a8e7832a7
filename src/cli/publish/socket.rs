//! The status on a socket: connect, read one JSON document, done.
//!
//! `socat - UNIX-CONNECT:/run/asof/status.sock | jq` asks. Nothing is read from clients, so
//! none can say anything wrong. One that does not read its document holds a thread and some
//! kilobytes until its time is over, and there is room for a few such: who finds no room is
//! shown the door and finds nothing, and everybody else is answered as ever.
//!
//! **One process at a time.** A socket file outlives its process, so it says nothing about
//! whether anybody listens. A lock on `PATH.lock` does, since it ends with its holder; the
//! file's content, a process id, is for people. Who holds the lock puts the new socket in
//! the place of the old one by a rename, with its mode: there is no moment without a
//! socket, and none in which others may use it.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};

use super::document;
use crate::base::pause::{SLICE, monotonic, pause};
use crate::base::{Kind, Stop};
use crate::ops::follow::status::StatusBoard;

/// The socket cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers there.
    #[error(
        "{} is the status socket of {holder}, which is running; stop that, or name another \
         socket", path.display()
    )]
    InUse {
        /// The socket.
        path: PathBuf,
        /// Who has it.
        holder: String,
    },
    /// Something else is there.
    #[error("{} is no socket; name another place for the status socket", path.display())]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot make the status socket {}", path.display())]
    Io {
        /// The socket, or its lock.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl SocketError {
    /// What the failure means.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            SocketError::InUse { .. } | SocketError::NotASocket { .. } => Kind::AlreadyExists,
            SocketError::Io { source, .. } => Kind::of_io(source),
        }
    }
}

/// How much clients are given.
#[derive(Debug, Clone, Copy)]
pub struct SocketLimits {
    /// How many are answered at a time.
    pub clients: usize,
    /// How long each may take to read its document.
    pub patience: Duration,
}

impl Default for SocketLimits {
    fn default() -> SocketLimits {
        SocketLimits { clients: 8, patience: Duration::from_secs(2) }
    }
}

/// A socket on which the status is answered. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct StatusSocket {
    listener: UnixListener,
    path: PathBuf,
    limits: SocketLimits,
    /// Held as long as the socket is.
    _lock: File,
}

impl StatusSocket {
    /// Makes the socket at `path`, which may have the file of a process that is gone. Who may
    /// write to it by `mode` may ask.
    ///
    /// # Errors
    ///
    /// [`SocketError`].
    pub fn bind(path: &Path, mode: u32, limits: SocketLimits) -> Result<StatusSocket, SocketError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| SocketError::Io { path, source }
        };
        let lock_path = with_ending(path, ".lock");
        let lock = hold(path, &lock_path)?;
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(SocketError::NotASocket { path: path.to_owned() });
            }
            // Somebody who knows of no lock.
            Ok(_) if UnixStream::connect(path).is_ok() => {
                let holder = "another program".to_owned();
                return Err(SocketError::InUse { path: path.to_owned(), holder });
            }
            _ => {}
        }
        let beside = with_ending(path, ".new");
        // Left by a process that died at the wrong moment; nobody else makes one now.
        let _ = std::fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside).map_err(failed(path))?;
        let made = listener
            .set_nonblocking(true)
            .and_then(|()| std::fs::set_permissions(&beside, Permissions::from_mode(mode)))
            .and_then(|()| std::fs::rename(&beside, path));
        if let Err(source) = made {
            let _ = std::fs::remove_file(&beside);
            return Err(failed(path)(source));
        }
        Ok(StatusSocket { listener, path: path.to_owned(), limits, _lock: lock })
    }

    /// Answers until `stop` is raised. What fails with one client is that client's.
    pub fn serve(&self, board: &StatusBoard, stop: &Stop) {
        // The flag wakes nobody, so it is looked at ten times a second.
        const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let answered = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            while !stop.is_raised() {
                let mut listener = [PollFd::new(&self.listener, PollFlags::IN)];
                if !poll(&mut listener, Some(&LOOK)).is_ok_and(|ready| ready > 0) {
                    continue;
                }
                let Ok((client, _)) = self.listener.accept() else {
                    // Gone again, or there is no descriptor left: not to be asked in a circle.
                    let _ = pause(SLICE, stop);
                    continue;
                };
                if answered.load(Ordering::Relaxed) >= self.limits.clients {
                    continue;
                }
                answered.fetch_add(1, Ordering::Relaxed);
                let answered = &answered;
                let patience = self.limits.patience;
                let answer = move || {
                    // It went away or took too long; there is nobody to tell.
                    let _ = answer(client, &document(board).1, patience);
                    answered.fetch_sub(1, Ordering::Relaxed);
                };
                if std::thread::Builder::new().spawn_scoped(scope, answer).is_err() {
                    answered.fetch_sub(1, Ordering::Relaxed);
                }
            }
        });
    }
}

impl Drop for StatusSocket {
    fn drop(&mut self) {
        // Its own, as the lock is still held. The lock's file stays: who waits for it would
        // otherwise lock a file that is gone.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Takes the lock of the socket at `path`.
fn hold(path: &Path, lock_path: &Path) -> Result<File, SocketError> {
    let failed = |source| SocketError::Io { path: lock_path.to_owned(), source };
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut lock = options.open(lock_path).map_err(failed)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = (&lock).take(20).read_to_string(&mut pid);
            let holder = match pid.trim() {
                "" => "another process".to_owned(),
                pid => format!("process {pid}"),
            };
            return Err(SocketError::InUse { path: path.to_owned(), holder });
        }
        Err(error) => return Err(failed(error.into())),
    }
    lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(failed)?;
    Ok(lock)
}

/// Writes a document to a client that takes at most so long to read it.
fn answer(mut client: UnixStream, document: &[u8], patience: Duration) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let end = monotonic() + patience;
    let mut rest = document;
    while !rest.is_empty() {
        let left = end.saturating_duration_since(monotonic());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        client.set_write_timeout(Some(left))?;
        match client.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
