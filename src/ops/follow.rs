//! `follow`: every committed transaction of a live database, published as it happens.
//!
//! ```text
//! capture   a thread a source    waits for the database → changes, images → spool
//! publish   a thread a source    spool → segments and snapshots → store, every interval
//! ```
//!
//! Capture must keep up with the database, whose log cannot begin again before it was
//! read; the store may be slow or away. So the two meet in a spool on disk, which is the
//! only thing that grows, up to a limit. When that is reached, capture lets go of the
//! database; what was committed from then on until it begins anew is a gap, and is
//! published as one.
//!
//! What follows an image waits until that is stored, however long it takes: a base that is
//! received after segments that lead on from it is not believed (FORMAT.md, section 16), or
//! whoever steals a key could replace what was published. Meanwhile the spool takes as much
//! more as the image is large. So an image makes no gap as long as changes come no faster
//! than an image is stored; and if they do, the store cannot keep up with them anyway.
//!
//! A state's number in its stream says how many transactions led to it. A process that
//! is started again goes on where the spool ends, if the database's log still has all
//! that came since; else it begins another stream, with the gap before it.
//!
//! What can be lost: what was committed and not kept yet when this process was killed, if
//! the log began again before it is back. Everything in the spool outlives the process, and
//! with `sync` the machine. With `sync` another process holds the log as well, so that it
//! does not begin again: see `holder`.

mod capture;
mod change;
mod durable;
pub mod holder;
mod publish;
mod publishing;
mod spool;
pub mod status;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::{Stop, UnixTime};
use crate::ops::Result;
use crate::repo::Repository;
use crate::repo::writer::WriterOptions;

pub use change::{Change, Data};
pub use publish::{Image, Origin, Publisher};

use durable::{Durable, Lock, Tail};
use spool::{Cursor, Spool};
use status::{Progress, Reporter, State};

/// What to follow, and how.
#[derive(Debug, Clone)]
pub struct FollowOptions {
    /// What is followed.
    pub origin: Origin,
    /// Where the database is.
    pub database: PathBuf,
    /// A directory of this source alone, for the spool and for where to go on.
    pub directory: PathBuf,
    /// What changed is published at most so often.
    pub interval: Duration,
    /// The spool takes no more, images not counted, and as much again as an image is large that
    /// is not stored yet. Bytes.
    pub spool_limit: u64,
    /// Whether what is captured is written through to the disk, and published at once.
    pub sync: bool,
    /// The program that holds the log, and its first arguments: see [`holder::hold`]. Without
    /// one nobody does while this process is away.
    pub holder: Option<Vec<OsString>>,
    /// How often a database that cannot be followed is copied as a whole.
    pub snapshot_every: Duration,
    /// How chunks are written.
    pub writer: WriterOptions,
}

/// What the two threads of a source share.
struct Shared<'a> {
    repo: &'a Arc<Repository>,
    options: &'a FollowOptions,
    reporter: &'a Reporter,
    stop: &'a Stop,
    spool: Spool,
    /// Where capture is.
    captured: Mutex<Option<Tail>>,
    /// How far everything is in the store, and where the spool goes on behind it.
    published: Mutex<(Option<Durable>, Cursor)>,
    /// How often something was appended.
    appended: Mutex<u64>,
    news: Condvar,
    /// How much more than its limit the spool may take until it is below that again. Bytes.
    extra: AtomicU64,
    /// Another image is due: many changes follow the last.
    image_due: AtomicBool,
    /// The database is followed at this moment.
    attached: AtomicBool,
    /// Capture has ended, and appends nothing any more.
    ended: AtomicBool,
}

/// Follows a database until it is asked to stop; then publishes what it has.
///
/// Failures of the store and of the database are reported and tried again. One that makes
/// no sense to try again ends this source and no other: `stop` is not raised by it.
///
/// # Errors
///
/// [`Error`](crate::ops::Error) if it makes no sense to go on: the keys at hand may not
/// write, the directory cannot be used, or another process follows the source.
pub fn follow(
    repo: &Arc<Repository>,
    options: &FollowOptions,
    reporter: &Reporter,
    stop: &Stop,
) -> Result<()> {
    repo.check_writable()?;
    let _lock = Lock::take(&options.directory)?;
    let durable = Durable::read(&options.directory)?;
    let mut tail = durable.as_ref().map(|durable| durable.tail.clone());
    let published = tail.as_ref().map(|tail| (tail.stream, tail.position));
    let spool = Spool::open(&options.directory, options.sync, published, |head| {
        tail = Some(Tail::of(&head));
    })?;
    let start = spool.start();
    // What an earlier process was allowed to leave is no reason for a gap.
    let left = spool.bytes_behind(start).saturating_sub(options.spool_limit);
    let own = stop.below();
    let shared = Shared {
        repo,
        options,
        reporter,
        stop: &own,
        spool,
        captured: Mutex::new(tail),
        published: Mutex::new((durable, start)),
        appended: Mutex::new(1),
        news: Condvar::new(),
        extra: AtomicU64::new(left),
        image_due: AtomicBool::new(false),
        attached: AtomicBool::new(false),
        ended: AtomicBool::new(false),
    };
    let outcome = std::thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let _end = EndsOther(&own);
            publishing::run(&shared)
        });
        let captured = capture::run(&shared);
        shared.ended.store(true, Ordering::SeqCst);
        shared.tell();
        let published = publishing.join();
        captured.and(published.unwrap_or_else(|_| {
            Err(crate::repo::Error::Worker("the thread that publishes".into()).into())
        }))
    });
    reporter.state(State::Stopped);
    outcome
}

/// Without the one that publishes the other would go on for ever, however it ended.
struct EndsOther<'a>(&'a Stop);

impl Drop for EndsOther<'_> {
    fn drop(&mut self) {
        self.0.raise();
    }
}

impl Shared<'_> {
    /// Tells that there is something to publish.
    fn tell(&self) {
        *lock(&self.appended) += 1;
        self.news.notify_all();
    }

    /// Says that all is well, if it is: the database is followed, and the store has the
    /// image that its stream begins with.
    fn settle(&self) {
        let captured = lock(&self.captured).as_ref().map(|tail| tail.stream);
        let stored = lock(&self.published).0.as_ref().map(|durable| durable.tail.stream);
        if self.attached.load(Ordering::SeqCst) && captured == stored {
            self.reporter.state(State::Active);
        }
    }

    /// Why nothing may be captured before the store has taken some of what waits, if so.
    fn is_full(&self) -> Option<String> {
        let behind = self.spool.bytes_behind(lock(&self.published).1);
        let (images, limit) = (self.spool.image_bytes(), self.options.spool_limit);
        // Only the thread that captures changes it.
        let extra = match self.extra.load(Ordering::SeqCst) {
            _ if images == 0 && behind <= limit => 0,
            extra => extra.max(images),
        };
        self.extra.store(extra, Ordering::SeqCst);
        let most = limit.saturating_add(extra);
        (behind > most).then(|| {
            format!(
                "the spool was full: {behind} bytes waited for the store, and it may take {most}"
            )
        })
    }

    fn now(&self) -> UnixTime {
        self.repo.clock().now()
    }

    /// Tells how far both sides are.
    fn report(&self) {
        let captured = lock(&self.captured).as_ref().map(|tail| tail.position);
        let published = lock(&self.published);
        let (durable, cursor) = (&published.0, published.1);
        let behind = self.spool.bytes_behind(cursor);
        let show = |position: u64| position.to_string();
        self.reporter.progress(Progress {
            captured: captured.map(show),
            durable: durable.as_ref().map(|durable| show(durable.tail.position)),
            lag_bytes: behind,
            behind_since: durable.as_ref().filter(|_| behind > 0).map(|done| done.tail.looked),
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
