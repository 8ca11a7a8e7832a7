//! Waiting until the log is written to.
//!
//! The kernel tells when the `-wal` is written to. A commit is a little later than the
//! last write, and memory that is shared tells nobody, so a wait is followed by short
//! ones that grow again. They never grow beyond ten milliseconds: there are file systems
//! and limits of users under which the kernel tells nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

use crate::base::{Stop, pause};

/// The shortest and the longest wait.
const SHORTEST: Duration = Duration::from_micros(100);
const LONGEST: Duration = Duration::from_millis(10);

/// A watch on the log.
#[derive(Debug)]
pub(super) struct Watch {
    /// `None` if the kernel has no more of them for this user.
    inotify: Option<OwnedFd>,
    next: Duration,
}

impl Watch {
    /// Watches the file.
    pub(super) fn new(path: &Path) -> Watch {
        let flags = CreateFlags::NONBLOCK | CreateFlags::CLOEXEC;
        let watched = init(flags)
            .and_then(|inotify| add_watch(&inotify, path, WatchFlags::MODIFY).map(|_| inotify));
        if let Err(error) = &watched {
            tracing::debug!("cannot watch {}: {error}", path.display());
        }
        Watch { inotify: watched.ok(), next: SHORTEST }
    }

    /// Waits until the log was written to, for 10 ms or for `most`.
    pub(super) fn wait(&mut self, most: Duration) {
        let wait = self.next.min(most);
        self.next = if self.is_written(wait) { SHORTEST } else { (self.next * 2).min(LONGEST) };
    }

    fn is_written(&self, wait: Duration) -> bool {
        let Some(inotify) = &self.inotify else {
            let _ = pause(wait, &Stop::new());
            return false;
        };
        let nanos = i64::from(wait.subsec_nanos());
        let timeout = Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: nanos };
        let mut polled = [PollFd::from_borrowed_fd(inotify.as_fd(), PollFlags::IN)];
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) => false,
            Ok(_) => {
                // What happened does not matter, only that something did.
                let mut events = [0; 4096];
                while rustix::io::read(inotify, &mut events).is_ok_and(|length| length > 0) {}
                true
            }
            // A signal: the caller looks whether it is to stop.
            Err(_) => false,
        }
    }
}
