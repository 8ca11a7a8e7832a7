//! How far followers have come: what is told of them while they work.
//!
//! A follower runs for months, so what matters is asked from outside: is it behind, since
//! when, and what went wrong last. Each follower writes its own row of a [`StatusBoard`];
//! whoever publishes the board reads all rows at once. Nothing here does any work, so that
//! the answer comes also when every follower waits for a store.
//!
//! A position is a text that its kind of source orders and compares: a database's is not
//! an LSN, and nothing here depends on either.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::base::pause::monotonic;
use crate::base::{Clock, UnixTime};

/// What a follower does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It opens what it follows and the repository.
    Starting,
    /// It stores the whole state that the changes begin from.
    Base,
    /// It captures and publishes changes.
    Active,
    /// It captures changes, and publishes them later than it should.
    Lagging,
    /// It missed changes: times between two positions cannot be shown.
    Gap,
    /// It ended, or waits to be started again.
    Stopped,
}

/// A failure, and when it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// What failed and why, in one line.
    pub message: String,
    /// When.
    pub at: UnixTime,
}

/// A followed source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Followed {
    /// The source.
    pub source: String,
    /// What its follower does.
    pub state: State,
    /// Since when it does that.
    pub since: UnixTime,
    /// Up to where changes were captured; `None` before the first.
    pub captured: Option<String>,
    /// Up to where they are in the repository.
    pub durable: Option<String>,
    /// How many bytes were captured and are not in the repository.
    pub lag_bytes: u64,
    /// How long the oldest of these has waited, in seconds; 0 if there are none.
    pub lag_seconds: f64,
    /// What failed last; it may have gone well since.
    pub last_error: Option<LastError>,
}

/// The process that follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// The version of asof.
    pub version: String,
    /// When it started.
    pub started: UnixTime,
}

/// How everything stands at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FollowStatus {
    /// The process.
    pub process: Process,
    /// The moment.
    pub at: UnixTime,
    /// Every source that was ever followed by the process, by name.
    pub sources: Vec<Followed>,
}

/// Where followers write how far they are. Cloning shares the board.
#[derive(Debug, Clone)]
pub struct StatusBoard(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    process: Process,
    clock: Clock,
    rows: Mutex<Rows>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Rows {
    /// Raised with every change.
    version: u64,
    of: BTreeMap<String, Row>,
}

#[derive(Debug)]
struct Row {
    state: State,
    since: UnixTime,
    progress: Progress,
    last_error: Option<LastError>,
    beat: Instant,
}

/// How far a follower has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Up to where changes were captured.
    pub captured: Option<String>,
    /// Up to where they are in the repository.
    pub durable: Option<String>,
    /// How many bytes lie between the two.
    pub lag_bytes: u64,
    /// When the oldest of these was captured; `None` if there are none.
    pub behind_since: Option<UnixTime>,
}

/// One follower's row of the board.
#[derive(Debug, Clone)]
pub struct Reporter {
    board: StatusBoard,
    source: String,
}

impl StatusBoard {
    /// An empty board of a process.
    #[must_use]
    pub fn new(process: Process, clock: Clock) -> StatusBoard {
        let (rows, changed) = (Mutex::default(), Condvar::new());
        StatusBoard(Arc::new(Shared { process, clock, rows, changed }))
    }

    /// The row of a source. A new one, and one whose follower starts again, is
    /// [`Starting`](State::Starting); what is known of the latter stays.
    #[must_use]
    pub fn enter(&self, source: &str) -> Reporter {
        let reporter = Reporter { board: self.clone(), source: source.to_owned() };
        reporter.state(State::Starting);
        reporter
    }

    /// How everything stands now, and the version of it.
    #[must_use]
    pub fn read(&self) -> (u64, FollowStatus) {
        let rows = self.rows();
        // Under the lock, so that no row changed after the moment.
        let at = self.0.clock.now();
        let sources = rows.of.iter().map(|(source, row)| Followed {
            source: source.clone(),
            state: row.state,
            since: row.since,
            captured: row.progress.captured.clone(),
            durable: row.progress.durable.clone(),
            lag_bytes: row.progress.lag_bytes,
            lag_seconds: row.progress.behind_since.map_or(0.0, |then| at.since(then).as_secs_f64()),
            last_error: row.last_error.clone(),
        });
        let sources = sources.collect();
        (rows.version, FollowStatus { process: self.0.process.clone(), at, sources })
    }

    /// For how long the quietest of the followers that have not stopped has told nothing.
    #[must_use]
    pub fn longest_silence(&self) -> Duration {
        let rows = self.rows();
        let running = rows.of.values().filter(|row| row.state != State::Stopped);
        let now = monotonic();
        running.map(|row| now.saturating_duration_since(row.beat)).max().unwrap_or_default()
    }

    /// Waits until there is another version than `seen`, at most so long. Returns the
    /// version that there is then; 0 is that of an empty board.
    #[must_use]
    pub fn wait_for_change(&self, seen: u64, at_most: Duration) -> u64 {
        let waited =
            self.0.changed.wait_timeout_while(self.rows(), at_most, |rows| rows.version == seen);
        waited.unwrap_or_else(PoisonError::into_inner).0.version
    }

    /// A follower that panicked leaves at worst a row that is half changed.
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The state in a word, as JSON has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Base => "base",
            State::Active => "active",
            State::Lagging => "lagging",
            State::Gap => "gap",
            State::Stopped => "stopped",
        }
    }
}

impl Reporter {
    /// Tells what the follower does now. The time at which it began stays if it does
    /// that already.
    pub fn state(&self, state: State) {
        self.change(|row, now| {
            if row.state != state {
                (row.state, row.since) = (state, now);
            }
        });
    }

    /// Tells how far the follower has come.
    pub fn progress(&self, progress: Progress) {
        self.change(|row, _| row.progress = progress);
    }

    /// Tells that the follower is at work: it does so often, and if not it hangs.
    pub fn beat(&self) {
        let mut rows = self.board.rows();
        if let Some(row) = rows.of.get_mut(&self.source) {
            row.beat = monotonic();
        }
    }

    /// Tells what failed.
    pub fn failed(&self, message: impl Into<String>) {
        let message = message.into();
        self.change(|row, now| row.last_error = Some(LastError { message, at: now }));
    }

    fn change(&self, change: impl FnOnce(&mut Row, UnixTime)) {
        let shared = &self.board.0;
        let mut rows = self.board.rows();
        let now = shared.clock.now();
        let new = || Row {
            state: State::Starting,
            since: now,
            progress: Progress::default(),
            last_error: None,
            beat: monotonic(),
        };
        change(rows.of.entry(self.source.clone()).or_insert_with(new), now);
        rows.version += 1;
        drop(rows);
        shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use serde_json::json;

    use super::*;

    fn board() -> (StatusBoard, Arc<AtomicI64>) {
        let seconds = Arc::new(AtomicI64::new(1_000_000_000));
        let clock = {
            let seconds = Arc::clone(&seconds);
            Clock::from_fn(move || UnixTime::new(seconds.load(Ordering::Relaxed), 0))
        };
        let process =
            Process { pid: 7, version: "0.1.0".to_owned(), started: UnixTime::new(999_999_999, 0) };
        (StatusBoard::new(process, clock), seconds)
    }

    /// The form that monitors depend on.
    #[test]
    fn the_whole_as_json() {
        let (board, seconds) = board();
        let shop = board.enter("shop");
        shop.state(State::Base);
        seconds.fetch_add(60, Ordering::Relaxed);
        shop.failed("the store cannot be reached");
        shop.state(State::Lagging);
        shop.progress(Progress {
            captured: Some("2:8272".to_owned()),
            durable: Some("2:4152".to_owned()),
            lag_bytes: 4120,
            behind_since: Some(UnixTime::new(1_000_000_050, 500_000_000)),
        });
        let _ = board.enter("cache");
        let (_, status) = board.read();
        assert_eq!(
            serde_json::to_value(&status).unwrap(),
            json!({
                "process": {"pid": 7, "version": "0.1.0", "started": "2001-09-09T01:46:39Z"},
                "at": "2001-09-09T01:47:40Z",
                "sources": [
                    {
                        "source": "cache", "state": "starting", "since": "2001-09-09T01:47:40Z",
                        "captured": null, "durable": null, "lag_bytes": 0, "lag_seconds": 0.0,
                        "last_error": null,
                    },
                    {
                        "source": "shop", "state": "lagging", "since": "2001-09-09T01:47:40Z",
                        "captured": "2:8272", "durable": "2:4152",
                        "lag_bytes": 4120, "lag_seconds": 9.5,
                        "last_error": {
                            "message": "the store cannot be reached", "at": "2001-09-09T01:47:40Z",
                        },
                    },
                ],
            })
        );
    }

    #[test]
    fn lag_grows_by_itself_and_a_state_keeps_its_beginning() {
        let (board, seconds) = board();
        let shop = board.enter("shop");
        shop.state(State::Active);
        let began = board.read().1.sources[0].since;
        shop.progress(Progress { behind_since: Some(began), ..Progress::default() });
        seconds.fetch_add(5, Ordering::Relaxed);
        shop.state(State::Active);
        let row = board.read().1.sources.remove(0);
        assert_eq!((row.since, row.lag_seconds), (began, 5.0));
        // A clock that was set back gives no negative lag.
        seconds.fetch_sub(60, Ordering::Relaxed);
        assert_eq!(board.read().1.sources[0].lag_seconds.to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn a_follower_that_starts_again_keeps_what_is_known() {
        let (board, _) = board();
        let shop = board.enter("shop");
        let progress = Progress { durable: Some("1:32".to_owned()), ..Progress::default() };
        shop.progress(progress);
        shop.failed("x");
        shop.state(State::Stopped);
        let _ = board.enter("shop");
        let row = board.read().1.sources.remove(0);
        assert_eq!((row.state, row.durable.as_deref()), (State::Starting, Some("1:32")));
        assert!(row.last_error.is_some());
    }

    #[test]
    fn whoever_waits_is_woken_by_a_change_and_by_nothing_else() {
        let (board, _) = board();
        assert_eq!(board.wait_for_change(0, Duration::ZERO), 0);
        let shop = board.enter("shop");
        let seen = board.read().0;
        // A change that came before the wait is not missed.
        assert_eq!(board.wait_for_change(0, Duration::MAX), seen);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| board.wait_for_change(seen, Duration::MAX));
            shop.state(State::Active);
            assert!(waiter.join().unwrap() > seen);
        });
    }
}
