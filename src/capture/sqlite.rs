//! Every transaction of a live SQLite database, from outside.
//!
//! The database has a write-ahead log (`journal_mode=WAL`): a program that changes it
//! appends pages to the `-wal` file, and now and then a checkpoint copies them to the
//! database and lets the log begin again. A [`Follower`] reads each transaction from the
//! log as it is committed. Nothing is written to the database that its own program would
//! not write: no table, no setting; only checkpoints, of the gentlest kind.
//!
//! ```text
//! wal_index   what is committed          hold    readers, so that the log stays; the gate
//! wal         reading it                 hop     letting the log begin again
//! commit      what was read              base    the image that commits are applied to
//! position    where to go on             files   the trap of POSIX locks
//! keep        losing nothing when killed
//! ```
//!
//! What is promised: a base, then every commit after it, in order, none left out. The
//! argument is in `hold`. It is checked as well, against the checksums of the log and
//! against SQLite's own count of commits; where the chain is broken, that is an error,
//! [`Error::Broken`], and never a silent gap.
//!
//! What it costs the program: while it is followed its log cannot be emptied by
//! `wal_checkpoint(RESTART)` or `TRUNCATE` at any moment, only within some 50 ms of a
//! pause, so such a call needs a busy time-out; `journal_mode` and
//! `locking_mode=EXCLUSIVE` cannot be set; and writers are stopped for about a
//! millisecond whenever the log has some 500 pages. Its automatic checkpoints then find
//! nothing to do, so that its slowest commits are often faster than without a follower.
//!
//! Commits are given by their pages. An image is made by writing those of the base, and
//! then of each commit, to their places, and cutting it to
//! [`database_pages`](Commit::database_pages). Its header says that it has a log; to open
//! it where nothing may be written, set bytes 18 and 19 to 1.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::base::pause::monotonic;
use crate::base::{Clock, Stop, UnixTime, pause};

mod base;
mod commit;
mod error;
mod files;
mod hold;
mod hop;
mod keep;
mod position;
mod preflight;
mod snapshot;
mod wal;
mod wal_index;
mod watch;

pub use base::Base;
pub use commit::{Commit, Pages};
pub use error::{Error, Gap, Result, Unfollowable};
pub use hop::{Stats, Tuning};
pub use keep::{Holder, Keeper, Kept};
pub use position::Position;
pub use snapshot::{Snapshot, snapshot};

use files::{Attached, FileId, beside};
use hold::Hold;
use hop::Hopping;
use keep::Unkept;
use wal::{Next, Point, Wal};
use wal_index::{View, WalIndex};
use watch::Watch;

/// A transaction of more bytes is not kept in memory.
const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How often what cannot be read right now is tried again, and how long between.
const TRIES: u32 = 20;

/// How often the wal-index is looked at while another process makes it anew, for which it
/// reads the whole log: for a quarter of a minute.
const VIEW_TRIES: u32 = 30_000;
const PAUSE: Duration = Duration::from_micros(500);

/// Whether the chain of commits goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The next commit is the one after the position.
    Continues,
    /// A [base](Follower::base) must be taken first, for this reason.
    Anew(Gap),
}

/// Follows one database.
///
/// It holds the log for as long as it lives, and the log grows while nobody calls
/// [`pull`](Follower::pull) or [`wait`](Follower::wait). Memory: the commits that are
/// returned, about 10 MiB besides, and 16 bytes for each page of a large transaction.
#[derive(Debug)]
pub struct Follower {
    // Before `attached`: fields are dropped in this order, and connections must go first.
    hold: Hold,
    index: WalIndex,
    wal: Wal,
    watch: Watch,
    path: PathBuf,
    shared: FileId,
    page_size: u32,
    /// The database itself, for bases.
    database: Arc<File>,
    clock: Clock,
    start: Start,
    /// Whether commits can be asked for: a position was given that fits, or a base taken.
    based: bool,
    /// Behind what was read last; `None` as long as no generation was met.
    point: Option<Point>,
    /// Read and not returned yet.
    ready: Vec<Commit>,
    /// Behind what was returned last.
    returned: Option<Point>,
    /// How far the log must be read before it may begin again: only while the first
    /// reader, before which nothing was read, is held.
    owed: u64,
    /// SQLite's count of commits when all was read last, and what was read since.
    changes: Option<u32>,
    counted: u64,
    /// When what comes behind `point` was not committed yet.
    looked: UnixTime,
    /// The same of what comes behind a place further on, of that generation.
    ahead: Option<([u8; 8], u64, UnixTime)>,
    last: UnixTime,
    hopping: Hopping,
    attached: Attached,
}

impl Follower {
    /// Attaches to the database at `path` and goes on at `resume`, if that still fits.
    /// [`start`](Follower::start) says whether it does.
    ///
    /// # Errors
    ///
    /// [`Error::CannotFollow`] with the reason, if the database is of a sort that can only
    /// be copied; [`Error::Missing`], [`Error::NotADatabase`]; [`Error::Sqlite`] and
    /// [`Error::File`] for what else fails.
    pub fn open(path: &Path, resume: Option<&Position>, clock: Clock) -> Result<Follower> {
        Follower::open_with(path, resume, clock, Tuning::default())
    }

    /// [`open`](Follower::open) with other limits than the usual ones.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Follower::open).
    pub fn open_with(
        path: &Path,
        resume: Option<&Position>,
        clock: Clock,
        tuning: Tuning,
    ) -> Result<Follower> {
        let path = preflight::resolve(path)?;
        let attached =
            Attached::new(&path).map_err(|source| preflight::missing_or(&path, source))?;
        let database = preflight::check(&path, &attached)?;
        let hold = Hold::open(&path).map_err(|error| explain(&path, error))?;
        if hold.is_read_only()? {
            let reason = Unfollowable::ReadOnly;
            return Err(Error::CannotFollow { path, reason });
        }
        let page_size: u32 = hold
            .held()
            .pragma_query_value(None, "page_size", |row| row.get(0))
            .map_err(Error::sqlite(&path, "read"))?;
        let log = beside(&path, "-wal");
        let wal = Wal::open(&log).map_err(Error::file(&log))?;
        let shared = beside(&path, "-shm");
        let file = attached.open(&shared).map_err(Error::file(&shared))?;
        let shared = FileId::of(&file.metadata().map_err(Error::file(&shared))?);
        let now = clock.now();
        let mut follower = Follower {
            hold,
            index: WalIndex::new(file),
            watch: Watch::new(&log),
            wal,
            shared,
            page_size,
            database,
            clock,
            start: Start::Anew(Gap::NoState),
            based: false,
            point: None,
            ready: Vec::new(),
            returned: None,
            owed: 0,
            changes: None,
            counted: 0,
            looked: now,
            ahead: None,
            last: now,
            hopping: Hopping::new(tuning),
            attached,
            path,
        };
        follower.check_files()?;
        if let Some(position) = resume {
            follower.resume(position)?;
        }
        Ok(follower)
    }

    fn resume(&mut self, position: &Position) -> Result<()> {
        let view = self.view()?;
        let database = self.attached.id();
        let fits = position
            .fits(&self.path, database, self.page_size, &self.wal, &view)
            .map_err(Error::file(&self.path))?;
        if let Err(gap) = fits {
            self.start = Start::Anew(gap);
            return Ok(());
        }
        self.start = Start::Continues;
        self.based = true;
        (self.point, self.returned) = (position.point, position.point);
        self.last = position::unpair(position.last);
        self.looked = position::unpair(position.looked);
        if let Some(point) = &self.point
            && point.salts == view.salts
        {
            self.owed = point.offset_of(view.frames);
        }
        // What there is to read is read at once, as far as memory goes: the first reader
        // may be on slot 0, and then the log can begin again before it was read.
        match self.read(HELD_BYTES_MAX) {
            Err(Error::Broken { gap, .. }) => {
                self.based = false;
                self.point = None;
                self.ready.clear();
                self.start = Start::Anew(gap);
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    /// Whether commits go on where the position was, or a base is needed, and why.
    #[must_use]
    pub fn start(&self) -> Start {
        self.start
    }

    /// The database, without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in a page of the database.
    #[must_use]
    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.hopping.stats
    }

    /// The commits since the last call, oldest first: some `limit` bytes of them and not
    /// more than that and one; none if there is none.
    ///
    /// Does not wait. A [`Commit`] whose pages are not in memory must be read before the
    /// follower is called again.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] if commits may have been missed: all that were returned before
    /// are sound. [`Error::Missing`] if the database was deleted; [`Error::NeedsBase`].
    pub fn pull(&mut self, limit: usize) -> Result<Vec<Commit>> {
        self.pull_with(limit, &mut Unkept)
    }

    /// The same, but what lies before a place that the log is let go at is kept by `keeper`
    /// and not returned.
    ///
    /// # Errors
    ///
    /// Those of [`pull`](Follower::pull).
    pub fn pull_with(&mut self, limit: usize, keeper: &mut dyn Keeper) -> Result<Vec<Commit>> {
        if !self.based {
            return Err(Error::NeedsBase { path: self.path.clone() });
        }
        if self.ready.is_empty() && self.read(limit)? {
            self.tend(keeper)?;
        }
        if self.ready.is_empty() {
            self.check_files()?;
        }
        let commits = std::mem::take(&mut self.ready);
        if let Some(commit) = commits.last() {
            self.returned = Some(commit.end);
        }
        Ok(commits)
    }

    /// Waits until there is something to [`pull`](Follower::pull), for at most `timeout`,
    /// and looks after the log meanwhile. Whether there is something.
    ///
    /// # Errors
    ///
    /// Those of [`pull`](Follower::pull).
    pub fn wait(&mut self, timeout: Duration, stop: &Stop) -> Result<bool> {
        self.wait_with(timeout, stop, &mut Unkept)
    }

    /// The same, for [`pull_with`](Follower::pull_with).
    ///
    /// # Errors
    ///
    /// Those of [`pull`](Follower::pull).
    pub fn wait_with(
        &mut self,
        timeout: Duration,
        stop: &Stop,
        keeper: &mut dyn Keeper,
    ) -> Result<bool> {
        let end = monotonic().checked_add(timeout);
        loop {
            if !self.ready.is_empty() || self.has_news()? {
                return Ok(true);
            }
            self.check_files()?;
            self.tend(keeper)?;
            let left = end.map_or(timeout, |end| end.saturating_duration_since(monotonic()));
            if !self.ready.is_empty() {
                return Ok(true);
            }
            if left.is_zero() || stop.is_raised() {
                return Ok(false);
            }
            self.watch.wait(left);
        }
    }

    /// Where to go on behind the last commit that was returned, for
    /// [`open`](Follower::open). `None` if there was no base yet.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Missing`].
    pub fn position(&self) -> Result<Option<Position>> {
        if !self.based {
            return Ok(None);
        }
        let view = self.view()?;
        let returned = self.ready.is_empty() && self.point == self.returned;
        let drained = match &self.point {
            _ if !returned => false,
            Some(point) if point.salts == view.salts => {
                view.is_drained() && point.offset == point.offset_of(view.frames)
            }
            // A generation is left only when it is in the database file as a whole.
            _ => view.backfilled == 0,
        };
        let stamp = match drained {
            true => position::stamp(&self.path, self.clock.now())
                .map_err(|source| preflight::missing_or(&self.path, source))?,
            false => None,
        };
        Ok(Some(Position {
            database: self.attached.id(),
            page_size: self.page_size,
            point: self.returned,
            drained: stamp,
            last: position::pair(self.last),
            looked: position::pair(self.looked),
            held: false,
        }))
    }

    /// What is committed now.
    fn view(&self) -> Result<View> {
        for _ in 0..VIEW_TRIES {
            if let Some(view) = self.index.look().map_err(Error::file(&self.path))? {
                return Ok(view);
            }
            // It was being written; or its writer was killed, and then the next reader
            // makes it anew.
            self.hold.refresh()?;
            let _ = pause(PAUSE, &Stop::new());
        }
        Err(self.broken(Gap::LogReplaced))
    }

    fn has_news(&mut self) -> Result<bool> {
        if !self.based {
            return Ok(false);
        }
        let begun = self.clock.now();
        let view = self.view()?;
        let news = view.frames > 0
            && self.point.is_none_or(|point| {
                point.salts != view.salts || point.offset != point.offset_of(view.frames)
            });
        if !news {
            self.looked = begun;
        }
        Ok(news)
    }

    /// Reads commits until there are no more, or `limit` bytes; whether there are no more.
    /// "No more" is said of a moment after the call.
    fn read(&mut self, limit: usize) -> Result<bool> {
        let begun = self.clock.now();
        let mut left = limit;
        for _ in 0..TRIES {
            let view = self.view()?;
            if view.frames == 0 {
                return self.read_all(begun, &view);
            }
            let Some(mut point) = self.enter(&view)? else {
                let _ = pause(PAUSE, &Stop::new());
                continue;
            };
            let end = point.offset_of(view.frames);
            self.ahead = self.ahead.or(Some((view.salts, end, begun)));
            loop {
                match self.wal.next(&point, end, HELD_BYTES_MAX) {
                    Err(error) => return Err(Error::file(self.wal.path())(error)),
                    Ok(Next::Transaction(transaction, behind)) => {
                        let held = transaction.bytes.is_some();
                        self.keep(transaction, point, behind);
                        point = behind;
                        left = left.saturating_sub(self.last_bytes());
                        // A large one is to be read before anything moves.
                        if left == 0 || !held {
                            return Ok(false);
                        }
                    }
                    Ok(Next::End) if point.checksum == view.checksum => {
                        return self.read_all(begun, &view);
                    }
                    Ok(Next::End | Next::Invalid) => break,
                }
            }
            // Not there although it is committed. If the index says something else by
            // now it is looked at again; else a moment is given to a slow file system.
            if self.view()? == view {
                let _ = pause(PAUSE, &Stop::new());
            }
        }
        Err(self.broken(Gap::Missed))
    }

    /// The place to read at, in the generation of `view`; `None` if the log is not in it
    /// yet, or no more.
    fn enter(&mut self, view: &View) -> Result<Option<Point>> {
        if let Some(point) = self.point
            && point.salts == view.salts
        {
            return Ok(Some(point));
        }
        let begin = self.wal.begin().map_err(Error::file(self.wal.path()))?;
        let Some(begin) = begin.filter(|begin| begin.salts == view.salts) else {
            return Ok(None);
        };
        if self.point.is_some_and(|point| point.offset < self.owed) {
            return Err(self.broken(Gap::LogRestarted));
        }
        if begin.page_size != self.page_size {
            let (was, is) = (self.page_size, begin.page_size);
            return Err(self.broken(Gap::PageSize { was, is }));
        }
        self.owed = 0;
        self.hopping.stats.generations += u64::from(self.point.is_some());
        self.point = Some(begin);
        Ok(Some(begin))
    }

    /// Keeps a transaction, to be returned.
    fn keep(&mut self, transaction: wal::Transaction, from: Point, behind: Point) {
        let at = self.clock.now().max(self.last.plus(Duration::from_nanos(1)));
        if let Some((salts, offset, begun)) = self.ahead
            && (from.salts != salts || from.offset >= offset)
        {
            self.looked = begun;
            self.ahead = None;
        }
        let uncertainty = at.since(self.looked);
        let pages = || self.wal.pages(&from);
        let commit = Commit::new(transaction, behind, pages, at, uncertainty);
        self.last = at;
        self.point = Some(behind);
        self.counted += 1;
        self.hopping.stats.commits += 1;
        self.hopping.stats.bytes += commit.size();
        self.ready.push(commit);
    }

    fn last_bytes(&self) -> usize {
        let bytes = self.ready.last().map_or(0, Commit::size);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// All that `view` knows of was read. SQLite counts commits too: if it has more, some
    /// were missed. It counts from 0 when the index is made anew, and a commit that its
    /// writer did not live to count counts here only; so more here is no sign of anything.
    fn read_all(&mut self, begun: UnixTime, view: &View) -> Result<bool> {
        let made = self.changes.and_then(|changes| view.changes.checked_sub(changes));
        if made.is_some_and(|made| u64::from(made) > self.counted) {
            return Err(self.broken(Gap::Missed));
        }
        self.changes = Some(view.changes);
        self.counted = 0;
        self.looked = begun;
        self.ahead = None;
        Ok(true)
    }

    /// Whether the files still have their names. That costs three calls.
    fn check_files(&self) -> Result<()> {
        let id = |path: &Path| std::fs::metadata(path).map(|meta| FileId::of(&meta));
        let database = id(&self.path).map_err(|e| preflight::missing_or(&self.path, e))?;
        if database != self.attached.id() {
            return Err(self.broken(Gap::DatabaseReplaced));
        }
        for (path, known) in
            [(self.wal.path(), self.wal.id()), (&*beside(&self.path, "-shm"), self.shared)]
        {
            if id(path).ok() != Some(known) {
                return Err(self.broken(Gap::LogReplaced));
            }
        }
        Ok(())
    }

    fn broken(&self, gap: Gap) -> Error {
        Error::Broken { path: self.path.clone(), gap }
    }
}

/// What it means if SQLite refuses a database whose header was sound.
fn explain(path: &Path, error: Error) -> Error {
    use rusqlite::ErrorCode as C;
    let path = path.to_owned();
    let Error::Sqlite { source, .. } = &error else { return error };
    let reason = match source.sqlite_error_code() {
        Some(C::NotADatabase) => return Error::NotADatabase { path },
        Some(C::DatabaseBusy | C::DatabaseLocked) => Unfollowable::Locked,
        // Without the right to make or map its other files.
        Some(C::CannotOpen | C::ReadOnly | C::PermissionDenied) => Unfollowable::ReadOnly,
        _ => return error,
    };
    Error::CannotFollow { path, reason }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
