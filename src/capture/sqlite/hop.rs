//! Moving from one generation of the log to the next.
//!
//! Two movements. *Moving on*: a new reader begins, what is committed is read, the old
//! reader goes. It disturbs nobody, and is done when the database is at rest, so that a
//! checkpoint of its program that waits for readers does not wait for long. *Hopping*:
//! everything in the log is copied to the database and a reader is put on slot 0, so that
//! the next writer begins the log again. For this to succeed nobody may write meanwhile,
//! so it is done behind the gate. Most is copied before the gate is closed; what is left
//! is what was committed during that time.
//!
//! A hop comes early, at half of what makes SQLite checkpoint by itself: then the
//! program's commits never do that work. While something else holds the log (a long read
//! of another process), hops are not tried in vain, and the gate stays open.

use std::time::{Duration, Instant};

use super::Follower;
use super::error::Result;
use super::keep::Keeper;
use crate::base::pause::monotonic;

/// What is read at most while a new reader waits for the old one, in bytes.
const MOVE_BYTES: usize = 16 * 1024 * 1024;

/// What is read at most behind the gate, in bytes.
const GATE_BYTES: usize = 4 * 1024 * 1024;

/// With fewer frames to copy the gate is closed, and after so many attempts at it.
const LEFT_FRAMES: u32 = 32;
const ROUNDS: u32 = 3;

/// How long until what failed is tried again: if it was for something that passes; else at
/// first, and at most.
const RETRY_SOON: Duration = Duration::from_millis(2);
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Frames in the log with which it is made to begin again. SQLite checkpoints by
    /// itself at 1000.
    pub hop_frames: u64,
    /// How long the database must be at rest before a new reader takes over.
    pub rest: Duration,
    /// The gate is closed for at most one part of the time in so many.
    pub gate_share: u32,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning { hop_frames: 500, rest: Duration::from_millis(50), gate_share: 50 }
    }
}

/// What a follower did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions read.
    pub commits: u64,
    /// Bytes of their pages.
    pub bytes: u64,
    /// How often the log began again.
    pub generations: u64,
    /// How often it was made ready to.
    pub hops: u64,
    /// How often writers were stopped, for how long together, and at most.
    pub gates: u64,
    /// See [`gates`](Stats::gates).
    pub gate_time: Duration,
    /// See [`gates`](Stats::gates).
    pub gate_time_max: Duration,
}

/// When to do what.
#[derive(Debug)]
pub(super) struct Hopping {
    tuning: Tuning,
    pub(super) stats: Stats,
    /// When a reader began last.
    moved: Instant,
    /// Not before this.
    next: Instant,
    retry: Duration,
    /// The generation that is ready to end, and how many frames it had.
    spent: Option<([u8; 8], u64)>,
}

impl Hopping {
    pub(super) fn new(tuning: Tuning) -> Hopping {
        let now = monotonic();
        Hopping {
            tuning,
            stats: Stats::default(),
            moved: now,
            next: now,
            retry: RETRY_MIN,
            spent: None,
        }
    }

    fn soon(&mut self) {
        self.next = monotonic() + RETRY_SOON;
    }

    fn later(&mut self) {
        self.next = monotonic() + self.retry;
        self.retry = (self.retry * 2).min(RETRY_MAX);
    }

    fn done(&mut self, gate: Duration) {
        self.next = monotonic() + gate * self.tuning.gate_share;
        self.retry = RETRY_MIN;
    }
}

impl Follower {
    /// Does what there is to do when everything was read.
    pub(super) fn tend(&mut self, keeper: &mut dyn Keeper) -> Result<()> {
        let now = monotonic();
        let frames = self.point.map_or(0, |point| {
            let spent = self.hopping.spent.filter(|(salts, _)| *salts == point.salts);
            point.frames() - spent.map_or(0, |(_, frames)| frames.min(point.frames()))
        });
        if !self.based {
            return Ok(());
        }
        if frames >= self.hopping.tuning.hop_frames {
            if now >= self.hopping.next {
                return self.hop(keeper);
            }
        } else if now >= self.hopping.moved + self.hopping.tuning.rest {
            self.move_on(MOVE_BYTES, keeper)?;
        }
        Ok(())
    }

    /// Lets a new reader take over; false if it could not.
    pub(super) fn move_on(&mut self, most: usize, keeper: &mut dyn Keeper) -> Result<bool> {
        self.hopping.moved = monotonic();
        if !self.hold.begin_next()? {
            return Ok(false);
        }
        // All that was committed before the new reader began.
        match self.read(most) {
            Ok(true) if self.settle(keeper) => self.hold.advance().map(|()| true),
            Ok(_) => self.hold.end_next().map(|()| false),
            Err(error) => {
                self.hold.end_next()?;
                Err(error)
            }
        }
    }

    /// Makes the log ready to begin again, if nothing else holds it.
    fn hop(&mut self, keeper: &mut dyn Keeper) -> Result<()> {
        for _ in 0..ROUNDS {
            let before = self.view()?;
            // There is much to read first, or the program copies at the moment itself.
            if !self.move_on(MOVE_BYTES, keeper)? || !self.hold.checkpoint()? {
                self.hopping.soon();
                return Ok(());
            }
            let after = self.view()?;
            if after.salts == before.salts && after.backfilled < before.frames {
                // Someone else reads, and began earlier.
                self.hopping.later();
                return Ok(());
            }
            if after.frames - after.backfilled.min(after.frames) <= LEFT_FRAMES {
                break;
            }
        }
        match self.behind_gate(|follower| follower.turn(keeper))? {
            Some((false, _)) => self.hopping.soon(),
            None => self.hopping.later(),
            Some((true, gate)) => {
                self.hopping.stats.hops += 1;
                self.hopping.spent = self.point.map(|point| (point.salts, point.frames()));
                self.hopping.done(gate);
            }
        }
        Ok(())
    }

    /// Behind the gate: everything read, everything copied, a reader on slot 0.
    fn turn(&mut self, keeper: &mut dyn Keeper) -> Result<bool> {
        if !self.move_on(GATE_BYTES, keeper)? {
            return Ok(false);
        }
        Ok(self.hold.checkpoint()? && self.view()?.is_drained() && self.move_on(0, keeper)?)
    }

    /// Runs `work` while nobody can write, and says how long that was; `None` if the gate
    /// could not be closed.
    pub(super) fn behind_gate<T>(
        &mut self,
        work: impl FnOnce(&mut Follower) -> Result<T>,
    ) -> Result<Option<(T, Duration)>> {
        if !self.hold.close_gate()? {
            return Ok(None);
        }
        let begun = monotonic();
        let result = work(self);
        let opened = self.hold.open_gate();
        let gate = monotonic().duration_since(begun);
        let stats = &mut self.hopping.stats;
        stats.gates += 1;
        stats.gate_time += gate;
        stats.gate_time_max = stats.gate_time_max.max(gate);
        let result = result?;
        opened.map(|()| Some((result, gate)))
    }
}
