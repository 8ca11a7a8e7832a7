//! The status as a file.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::document;
use crate::base::Stop;
use crate::base::pause::{SLICE, monotonic, pause};
use crate::ops::follow::status::StatusBoard;
use crate::ops::replace::{Replacement, replace_file};

/// Publishes a board as a file.
#[derive(Debug)]
pub struct StatusFile {
    board: StatusBoard,
    path: PathBuf,
    mode: u32,
    every: Duration,
    written: Option<(u64, Instant)>,
}

impl StatusFile {
    /// Publishes `board` as a file at `path` of that mode, at most once in `every`.
    #[must_use]
    pub fn new(board: StatusBoard, path: PathBuf, mode: u32, every: Duration) -> StatusFile {
        StatusFile { board, path, mode, every, written: None }
    }

    /// Writes the file until `stop` is raised, and then once more, so that it tells of the end.
    ///
    /// Trouble is given to `tell`, and the file is tried again after the usual time: a status
    /// that cannot be written is no reason to follow nothing.
    pub fn run(mut self, stop: &Stop, tell: impl Fn(&io::Error)) {
        while !stop.is_raised() {
            let seen = self.written.map_or(0, |(version, _)| version);
            // A change wakes it at once; the flag wakes nobody, so it is looked at.
            let _ = self.board.wait_for_change(seen, SLICE);
            if let Err(error) = self.write_if_due(monotonic()) {
                tell(&error);
            }
            // Also after trouble, and never in a circle without a rest.
            let _ = pause(self.every.max(SLICE), stop);
        }
        if let Err(error) = self.write(monotonic()) {
            tell(&error);
        }
    }

    /// Writes the file if the board changed and the last time is long enough ago. Returns
    /// whether it did.
    ///
    /// # Errors
    ///
    /// What the system said; the file is as it was.
    fn write_if_due(&mut self, now: Instant) -> io::Result<bool> {
        if let Some((version, at)) = self.written
            && (now.saturating_duration_since(at) < self.every
                || self.board.wait_for_change(version, Duration::ZERO) == version)
        {
            return Ok(false);
        }
        self.write(now).map(|()| true)
    }

    fn write(&mut self, now: Instant) -> io::Result<()> {
        let (version, bytes) = document(&self.board);
        // It says how a process stands, which does not outlive a power failure either.
        let how = Replacement { mode: self.mode, owner: None, durable: false };
        replace_file(&self.path, &bytes, how)?;
        self.written = Some((version, now));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use serde_json::Value;

    use super::super::test_board;
    use super::*;
    use crate::ops::follow::status::State;

    fn state(path: &Path) -> Value {
        let text = std::fs::read(path).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["sources"][0]["state"].clone()
    }

    #[test]
    fn it_is_written_when_something_changed_and_not_too_often() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        let board = test_board();
        let shop = board.enter("shop");
        let every = Duration::from_secs(10);
        let mut file = StatusFile::new(board, path.clone(), 0o640, every);
        let start = monotonic();
        let mut due =
            |seconds: u64| file.write_if_due(start + Duration::from_secs(seconds)).unwrap();
        assert!(due(0), "there is none yet");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert!(!due(20), "nothing changed");
        shop.state(State::Active);
        assert!(!due(9), "too early");
        assert_eq!(state(&path), "starting");
        assert!(due(10));
        assert_eq!(state(&path), "active");
    }

    #[test]
    fn the_last_word_is_written_when_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        let board = test_board();
        let shop = board.enter("shop");
        let stop = Stop::new();
        let began = monotonic();
        // So long that only the end can be the reason of the second time.
        let file = StatusFile::new(board, path.clone(), 0o600, Duration::from_hours(1));
        std::thread::scope(|scope| {
            scope.spawn(|| file.run(&stop, |error| panic!("{error}")));
            while !path.exists() {
                assert!(monotonic().duration_since(began) < Duration::from_secs(60));
                std::thread::yield_now();
            }
            shop.state(State::Stopped);
            stop.raise();
        });
        assert_eq!(state(&path), "stopped");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told() {
        let file = StatusFile::new(test_board(), "/nonexistent/s".into(), 0o600, Duration::ZERO);
        let stop = Stop::new();
        let told = std::sync::Mutex::new(0);
        file.run(&stop, |error| {
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            *told.lock().unwrap() += 1;
            stop.raise();
        });
        assert!(*told.lock().unwrap() >= 1);
    }
}
