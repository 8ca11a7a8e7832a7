//! A follower that is killed, and what it had not kept.
//!
//! A reader goes with its process. So when a follower is killed nobody holds the log; it may
//! begin again, and what was committed and not kept is lost. Who wants to lose nothing has
//! another process hold a reader as well, a [`Holder`], and lets it move when this one
//! moves: in the same places, but only after everything that was read is kept. That is what
//! a [`Keeper`] does.
//!
//! Why that is enough, given the slots of `hold`. What is not kept was committed after the
//! holder's reader began, or after everything that was committed before it had been kept:
//!
//! - On slot 1 or higher the log cannot begin again, so all that is in it stays.
//! - On slot 0 it can, once. But a reader gets slot 0 only if everything in the log is in the
//!   database file, and the reader that it takes over from kept what came after that out of
//!   the file. So nothing came after that, and everything before was kept: what can vanish
//!   is kept. What is written next cannot be copied, so it stays.
//!
//! So as long as the holder lived, the log is in the generation of what was kept last, or in
//! the next, as a whole: [`Position::held`](super::Position::held) lets a follower go on there.
//! Behind the gate this makes the pause longer by what keeping a few pages takes.

use std::path::Path;
use std::time::Duration;

use super::error::Result;
use super::hold::Readers;
use super::{Commit, Follower};

/// Keeps what is read before anything lets go of it.
pub trait Keeper {
    /// Keeps all of it, so that it outlives this process, and then lets the holder move.
    /// `follower` is where it is behind them.
    fn keep(&mut self, follower: &Follower, commits: &[Commit]) -> Kept;
}

/// Whether commits were kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// They were, and the holder has moved.
    All,
    /// They were, and it could not: nothing moves.
    Stuck,
    /// Not now: nothing moves, and they are returned.
    Refused,
    /// Nobody holds anything beside this process: they are returned, and kept later.
    Later,
}

/// Of a follower that may lose what it has read when it is killed.
pub(super) struct Unkept;

impl Keeper for Unkept {
    fn keep(&mut self, _: &Follower, _: &[Commit]) -> Kept {
        Kept::Later
    }
}

impl Follower {
    /// Has everything kept that was read. False if nothing may move yet.
    pub(super) fn settle(&mut self, keeper: &mut dyn Keeper) -> bool {
        let (commits, returned) = (std::mem::take(&mut self.ready), self.returned);
        self.returned = commits.last().map_or(returned, |commit| Some(commit.end));
        let kept = keeper.keep(self, &commits);
        if matches!(kept, Kept::Refused | Kept::Later) {
            (self.ready, self.returned) = (commits, returned);
        }
        matches!(kept, Kept::All | Kept::Later)
    }
}

/// Holds a reader of a database that another process follows.
#[derive(Debug)]
pub struct Holder(Readers);

impl Holder {
    /// Connects and begins to read.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`](super::Error::Sqlite) with what SQLite says.
    pub fn open(path: &Path) -> Result<Holder> {
        // Who asks it to move has stopped the writers, and asks again.
        Readers::open(path, Duration::ZERO).map(Holder)
    }

    /// Begins a new reader and ends the old one. False if that is locked at the moment.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`](super::Error::Sqlite) with what SQLite says.
    pub fn move_on(&mut self) -> Result<bool> {
        if !self.0.begin_next()? {
            return Ok(false);
        }
        self.0.advance().map(|()| true)
    }
}
