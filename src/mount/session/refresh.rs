//! New snapshots in a running mount.
//!
//! A thread of its own asks the library at intervals, and tells the kernel what to
//! forget. It answers no request and holds no lock while it tells: notifications
//! wait for requests that are open.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use fuser::{INodeNo, Notifier};

use crate::mount::pool::guarded;
use crate::mount::vfs::Vfs;
use crate::view::error::Error;
use crate::view::namespace::Changes;

/// Refreshing, as long as this is kept. A thread that waits for the store when it is
/// dropped ends when the store has answered.
pub(super) struct Refreshing {
    _running: Sender<()>,
}

/// Begins to look for new snapshots.
pub(super) fn start(
    vfs: Arc<Vfs>,
    notifier: Notifier,
    interval: Duration,
) -> io::Result<Refreshing> {
    let (running, stopped) = bounded(0);
    thread::Builder::new()
        .name("asof-refresh".to_owned())
        .spawn(move || run(&vfs, &notifier, interval, &stopped))?;
    Ok(Refreshing { _running: running })
}

fn run(vfs: &Vfs, notifier: &Notifier, interval: Duration, stopped: &Receiver<()>) {
    let mut failing = false;
    while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        match guarded(|| vfs.namespace().refresh()) {
            Ok(Ok(changes)) => {
                failing = false;
                tell(notifier, &changes.unwrap_or_default());
            }
            // What is known is still served; once is enough to say so.
            Ok(Err(error)) if !failing => {
                failing = true;
                warn(&error);
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

fn warn(error: &Error) {
    tracing::warn!(%error, "new snapshots cannot be looked for; what is known is still shown");
}

fn tell(notifier: &Notifier, changes: &Changes) {
    for (dir, name) in &changes.entries {
        if let Err(error) = notifier.inval_entry(INodeNo(*dir), name.as_ref()) {
            tracing::debug!(%error, name, "the kernel was not told of a name");
        }
    }
    for dir in &changes.inodes {
        if let Err(error) = notifier.inval_inode(INodeNo(*dir), 0, 0) {
            tracing::debug!(%error, dir, "the kernel was not told of a directory");
        }
    }
}
