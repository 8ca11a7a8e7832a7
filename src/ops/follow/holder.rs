//! A process that holds the log of a database while the one that follows it is away.
//!
//! ```text
//! asof follow ── a byte: move ──→ asof follow-hold, a session of its own
//!             ←── a byte: done ──   holds a reader, see `capture::sqlite::Holder`
//! ```
//!
//! When the pipe ends and nobody has taken its file away, the other was killed. Then it stays
//! as it is until its file is gone: who goes on has taken over. Or until its time is over, or
//! the log is larger than it may be, so that a follower that never comes back fills no disk.
//!
//! ```text
//! holder.new   a process that has moved never: before its reader something may not be kept
//! holder       one that has: the log is whole since what was kept last
//! ```
//!
//! Both are locked by the process for as long as it lives, so that a name says nothing by
//! itself. The one takes the name of the other as soon as it is as good, so there is no
//! moment at which nobody holds. No process id is written down, and nobody is killed but
//! one's own child.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};

use crate::base::pause::monotonic;
use crate::base::{Stop, pause};
use crate::capture::sqlite;
use crate::ops::{Error, Result};

const NEW: &str = "holder.new";
const PROVEN: &str = "holder";
/// What is said: begin a new reader; it was done; it could not be done at the moment.
const MOVE: u8 = b'm';
const DONE: u8 = b'y';
const BUSY: u8 = b'n';
/// How long an answer may take. Writers may be stopped meanwhile.
const ANSWER: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
/// How often the one that is left alone looks whether it is still needed.
const LOOK: Duration = Duration::from_millis(100);

/// How long a log is held for a follower that is away.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For so long at most.
    pub time: Duration,
    /// As long as it is no larger. Bytes.
    pub log_bytes: u64,
}

/// The holder of this process.
pub(super) struct Guard {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
    dir: PathBuf,
    /// Whether everything was kept once that was committed before it began.
    pub(super) proven: bool,
}

/// Whether the log is held by a process that has held it since what was kept last.
pub(super) fn is_held(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join(PROVEN)) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}

/// Lets every holder of the source go.
pub(super) fn let_go(dir: &Path) {
    for name in [NEW, PROVEN] {
        let _ = std::fs::remove_file(dir.join(name));
    }
}

impl Guard {
    /// Starts a process, which `program` is, and its arguments before its own. It has begun to
    /// read when this returns.
    pub(super) fn start(
        program: &[OsString],
        database: &Path,
        dir: &Path,
        log_bytes: u64,
    ) -> io::Result<Guard> {
        // One that was left alone before it was of any use.
        let _ = std::fs::remove_file(dir.join(NEW));
        let (name, before) = program.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(name);
        command.args(before).arg(database).arg(dir.join(NEW)).arg(log_bytes.to_string());
        // Nothing of this process is kept: no secret, no directory, and nobody who waits for
        // the end of what it says waits for the end of that.
        command.env_clear().current_dir("/").stderr(Stdio::null());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let mut guard = Guard { child, to, from, dir: dir.to_owned(), proven: false };
        match guard.answer()? {
            DONE => Ok(guard),
            _ => Err(io::ErrorKind::ResourceBusy.into()),
        }
    }

    /// Lets it move to what there is now. To be called when everything is kept that was
    /// committed before it moved last. False if it could not at the moment.
    pub(super) fn move_on(&mut self) -> io::Result<bool> {
        self.to.write_all(&[MOVE])?;
        if self.answer()? != DONE {
            return Ok(false);
        }
        if !self.proven {
            std::fs::rename(self.dir.join(NEW), self.dir.join(PROVEN))?;
            self.proven = true;
        }
        Ok(true)
    }

    fn answer(&mut self) -> io::Result<u8> {
        let mut ready = [PollFd::new(&self.from, PollFlags::IN)];
        loop {
            match poll(&mut ready, Some(&ANSWER)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut byte = [0];
        self.from.read_exact(&mut byte)?;
        Ok(byte[0])
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.dir.join(if self.proven { PROVEN } else { NEW }));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the process does: holds a reader of `database`, and moves when `from` says so; when
/// that ends, until `file` is gone or a limit is reached.
///
/// # Errors
///
/// [`Error`] if the file cannot be made or locked, or the database not be read.
pub fn hold(
    database: &Path,
    file: &Path,
    limits: Limits,
    from: &mut dyn Read,
    to: &mut dyn Write,
    stop: &Stop,
) -> Result<()> {
    let failed = |source| Error::File { path: file.to_owned(), source };
    let options = OpenOptions::new().write(true).create_new(true).mode(0o600).clone();
    let own = options.open(file).map_err(failed)?;
    flock(&own, FlockOperation::NonBlockingLockExclusive).map_err(|e| failed(e.into()))?;
    let mut holder = sqlite::Holder::open(database)?;
    let mut asked = [MOVE];
    let mut done = DONE;
    // Whoever is gone hears nothing, and asks nothing any more.
    while to.write_all(&[done]).and_then(|()| to.flush()).is_ok()
        && from.read_exact(&mut asked).is_ok()
    {
        done = if holder.move_on()? { DONE } else { BUSY };
    }
    let begun = monotonic();
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    let is_needed = || {
        own.metadata().is_ok_and(|own| own.nlink() > 0)
            && monotonic().duration_since(begun) < limits.time
            && std::fs::metadata(&log).is_ok_and(|log| log.len() <= limits.log_bytes)
    };
    while is_needed() && pause(LOOK, stop) {}
    Ok(())
}
