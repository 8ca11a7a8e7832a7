//! The side of the database: changes and images go into the spool.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use minicbor::bytes::ByteVec;

use super::change::{Head, What};
use super::durable::{Tail, note_look};
use super::holder::{self, Guard};
use super::publish::Publisher;
use super::publishing::file_of;
use super::spool::Batch;
use super::status::State;
use super::{Image, Shared, lock};
use crate::base::pause::monotonic;
use crate::base::{StreamId, UnixTime, error_chain, pause};
use crate::capture::sqlite::{self, Commit, Follower, Keeper, Kept, Position, Start};
use crate::codec::random;
use crate::format::segment::Gap;
use crate::ops::{Error, Result};

/// So much is read at once. Bytes.
const PULL: usize = 8 << 20;
/// So much of an image is written between two signs of life. Bytes.
const IMAGE_STEP: u64 = 16 << 20;
/// How long one wait for the database is.
const WAIT: Duration = Duration::from_millis(200);
/// How long until what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Why capture came to an end that is not the end.
enum Ended {
    /// It was asked to stop.
    Stopped,
    /// Changes were or will be missed, for this reason.
    Missed(String),
}

/// Captures until it is asked to stop.
pub(super) fn run(shared: &Shared<'_>) -> Result<()> {
    let mut missed: Option<String> = None;
    let mut copies = Copies::default();
    let mut holding = Holding::default();
    while !shared.stop.is_raised() {
        let ended = attach(shared, missed.take(), &mut holding);
        shared.attached.store(false, Ordering::SeqCst);
        // If it failed otherwise it goes on soon, and where it was.
        if matches!(ended, Ok(_) | Err(Error::Capture(sqlite::Error::CannotFollow { .. }))) {
            holding.let_go(shared);
        }
        match ended {
            Ok(Ended::Stopped) => break,
            Ok(Ended::Missed(why)) => {
                shared.reporter.state(State::Gap);
                shared.reporter.failed(why.clone());
                missed = Some(why);
                wait_for_room(shared);
            }
            Err(Error::Capture(error @ sqlite::Error::CannotFollow { .. })) => {
                missed = Some("the database could not be followed".into());
                copies.copy(shared, &error);
            }
            Err(error) => {
                shared.reporter.failed(error_chain(&error));
                let _ = pause(RETRY, shared.stop);
            }
        }
    }
    // If it was asked to stop before it was as far as a process before it, that one's holder
    // stays for the next.
    Ok(())
}

/// Attaches to the database and captures for as long as that goes well. `missed` says why
/// nothing can follow what was captured before.
fn attach(shared: &Shared<'_>, missed: Option<String>, holding: &mut Holding) -> Result<Ended> {
    let tail = lock(&shared.captured).clone();
    let resume = tail.as_ref().filter(|_| missed.is_none()).and_then(resume_of);
    let mut follower = open(shared, resume.as_ref())?;
    let mut capture = match (follower.start(), tail) {
        (Start::Continues, Some(tail)) => {
            Capture { shared, stream: tail.stream, position: tail.position, holding }
        }
        (start, tail) => {
            let why = missed.unwrap_or_else(|| match start {
                Start::Anew(gap) => gap.to_string(),
                Start::Continues => "it is not known what was captured".into(),
            });
            let gap = tail.map(|tail| Gap {
                since: tail.looked.max(tail.at),
                stream: tail.stream,
                position: tail.position,
                reason: why,
            });
            let stream = StreamId(random::bytes());
            let mut begun = Capture { shared, stream, position: 0, holding };
            begun.image(&mut follower, gap)?;
            begun
        }
    };
    capture.run(&mut follower)
}

/// Opens the database where the log is whole since `resume`, if it is.
fn open(shared: &Shared<'_>, resume: Option<&Position>) -> Result<Follower> {
    let (database, clock) = (&shared.options.database, shared.repo.clock());
    if let Some(resume) = resume
        && holder::is_held(&shared.options.directory)
    {
        let follower = Follower::open(database, Some(&resume.clone().held()), clock.clone())?;
        // It is still held, now that there is a reader here: so it was, all the time.
        if holder::is_held(&shared.options.directory) {
            return Ok(follower);
        }
    }
    Ok(Follower::open(database, resume, clock.clone())?)
}

/// The process that holds the log beside this one.
#[derive(Default)]
struct Holding {
    guard: Option<Guard>,
    /// When it was tried last to start one.
    tried: Option<Instant>,
}

impl Holding {
    /// Starts one if there is to be one and there is none.
    fn begin(&mut self, shared: &Shared<'_>, database: &Path) {
        let options = shared.options;
        let soon = self.tried.is_some_and(|tried| monotonic().duration_since(tried) < RETRY);
        if self.guard.is_some() || soon {
            return;
        }
        self.tried = Some(monotonic());
        let Some(program) = &options.holder else {
            // A process before this one may have had one.
            return holder::let_go(&options.directory);
        };
        match Guard::start(program, database, &options.directory, options.spool_limit) {
            Ok(guard) => self.guard = Some(guard),
            Err(error) => self.failed(shared, &error),
        }
    }

    /// Whether the holder, if there is one, has moved once, and so what is not kept is held.
    fn is_proven(&self) -> bool {
        self.guard.as_ref().is_none_or(|guard| guard.proven)
    }

    /// Lets it move for the first time, when everything is kept that was committed before it
    /// began. If it cannot it moves with this process.
    fn prove(&mut self, shared: &Shared<'_>) {
        if !self.is_proven() {
            let _ = self.move_on(shared);
        }
    }

    fn failed(&mut self, shared: &Shared<'_>, error: &std::io::Error) {
        self.guard = None;
        shared.reporter.failed(format!(
            "no other process holds the log, so what is committed while this one is killed can be \
             missed: {error}"
        ));
    }

    /// Whether it has moved; so it has if there is none.
    fn move_on(&mut self, shared: &Shared<'_>) -> bool {
        match self.guard.as_mut().map(Guard::move_on) {
            Some(Ok(moved)) => moved,
            Some(Err(error)) => {
                self.failed(shared, &error);
                true
            }
            None => true,
        }
    }

    /// Nobody holds the log any more.
    fn let_go(&mut self, shared: &Shared<'_>) {
        *self = Holding::default();
        holder::let_go(&shared.options.directory);
    }
}

fn resume_of(tail: &Tail) -> Option<Position> {
    serde_json::from_slice(tail.resume.as_deref()?).ok()
}

struct Capture<'a, 'b> {
    shared: &'a Shared<'b>,
    stream: StreamId,
    position: u64,
    holding: &'a mut Holding,
}

impl Keeper for Capture<'_, '_> {
    fn keep(&mut self, follower: &Follower, commits: &[Commit]) -> Kept {
        if self.holding.guard.is_none() {
            return Kept::Later;
        }
        // What fails here is tried again with what is returned then, and told of.
        match self.append(commits, follower) {
            Ok(()) if self.holding.move_on(self.shared) => Kept::All,
            Ok(()) => Kept::Stuck,
            Err(_) => Kept::Refused,
        }
    }
}

impl Capture<'_, '_> {
    fn run(&mut self, follower: &mut Follower) -> Result<Ended> {
        let shared = self.shared;
        // Whether something was pulled since the wish to stop, which may have been read before.
        let mut pulled = false;
        loop {
            shared.reporter.beat();
            self.holding.begin(shared, follower.path());
            // What was committed before the wish to stop is still read; a database that is
            // written to all the time would never be read to its end.
            let stopping = shared.stop.is_raised();
            let read = self.pull(follower);
            match &read {
                Err(Error::Capture(sqlite::Error::Broken { gap, .. })) => {
                    return Ok(Ended::Missed(gap.to_string()));
                }
                Ok(read) if stopping && (pulled || *read == 0) => return Ok(Ended::Stopped),
                Ok(1..) => pulled = stopping,
                Ok(0) => {
                    self.looked();
                    match follower.wait_with(WAIT, shared.stop, self) {
                        Err(sqlite::Error::Broken { gap, .. }) => {
                            return Ok(Ended::Missed(gap.to_string()));
                        }
                        other => drop(other?),
                    }
                }
                Err(_) => {}
            }
            let read = read?;
            if read == 0 {
                // All is kept that there was when the holder began.
                self.holding.prove(shared);
            }
            if self.holding.is_proven() && !shared.attached.load(Ordering::SeqCst) {
                shared.attached.store(true, Ordering::SeqCst);
                shared.settle();
            }
            if let Some(full) = shared.is_full() {
                return Ok(Ended::Missed(full));
            }
            // For an image the whole log is gone through. Who is behind, and does so after
            // each part that is read, is further behind each time.
            if read < PULL as u64 / 2 && shared.image_due.load(Ordering::SeqCst) {
                match self.image(follower, None) {
                    // There is more to read first.
                    Err(Error::Capture(sqlite::Error::Behind { .. })) => {}
                    other => {
                        other?;
                        shared.image_due.store(false, Ordering::SeqCst);
                    }
                }
            }
        }
    }

    /// Reads what was committed. How many bytes.
    fn pull(&mut self, follower: &mut Follower) -> Result<u64> {
        let commits = follower.pull_with(PULL, self)?;
        self.append(&commits, follower)?;
        Ok(commits.iter().map(Commit::size).sum())
    }

    /// Keeps what was committed. With the last of it, where to go on.
    fn append(&mut self, commits: &[Commit], follower: &Follower) -> Result<()> {
        if commits.is_empty() {
            return Ok(());
        }
        // Whatever can fail does so before they are kept: else they would be so twice.
        let resume = position_of(follower)?;
        let mut batch = self.shared.spool.batch()?;
        let position = self.add(&mut batch, commits, Some(&resume))?;
        batch.keep()?;
        self.advance(position, commits.last().map(|commit| commit.at), resume);
        Ok(())
    }

    /// Appends commits, and to the last of them where to go on, if that is known.
    fn add(
        &self,
        batch: &mut Batch<'_>,
        commits: &[Commit],
        resume: Option<&ByteVec>,
    ) -> Result<u64> {
        let mut position = self.position;
        for (at, commit) in commits.iter().enumerate() {
            position += 1;
            let resume = resume.filter(|_| at + 1 == commits.len()).cloned();
            let what = What::Change(
                u64::try_from(commit.uncertainty.as_nanos()).unwrap_or(u64::MAX),
                commit.database_pages,
                commit.page_size,
                commit.numbers().collect(),
            );
            let head = Head { stream: self.stream, position, at: commit.at, what, resume };
            batch.add(&head, commit.size(), |to| {
                let mut pages = commit.pages();
                while let Some((_, page)) = pages.next_page()? {
                    to.write_all(page)
                        .map_err(|error| failed(&self.shared.options.directory, error))?;
                }
                Ok(())
            })?;
        }
        Ok(position)
    }

    /// Takes an image of the database as it is, and appends it with what led to it. With a
    /// gap, or as the first, it begins a stream.
    fn image(&mut self, follower: &mut Follower, gap: Option<Gap>) -> Result<()> {
        let shared = self.shared;
        if self.position == 0 {
            shared.reporter.state(State::Base);
        }
        let mut batch = shared.spool.batch()?;
        let mut base = follower.base()?;
        let position = self.add(&mut batch, &base.before, None)?;
        let captured = lock(&shared.captured).as_ref().map(|tail| tail.at);
        let at = match base.before.last() {
            Some(commit) => commit.at,
            None if position == 0 => base.at,
            None => captured.unwrap_or(base.at),
        };
        let path = shared.spool.image(&self.stream, position);
        write_image(&path, shared, &mut base)?;
        let length = base.size();
        drop(base);
        let resume = position_of(follower)?;
        let what = What::Image(gap);
        let head = Head { stream: self.stream, position, at, what, resume: Some(resume.clone()) };
        batch.add(&head, 0, |_| Ok(()))?;
        batch.keep()?;
        shared.spool.add_image(length);
        self.advance(position, Some(at), resume);
        Ok(())
    }

    fn advance(&mut self, position: u64, at: Option<UnixTime>, resume: ByteVec) {
        self.position = position;
        let resume = Some(resume.into());
        {
            let mut captured = lock(&self.shared.captured);
            let at = at.or(captured.as_ref().map(|tail| tail.at)).unwrap_or_default();
            let looked = self.shared.now().max(at);
            *captured = Some(Tail { stream: self.stream, position, at, looked, resume });
        }
        self.shared.tell();
        self.shared.report();
    }

    /// The database was looked at, and is as it was.
    fn looked(&self) {
        let now = self.shared.now();
        if let Some(tail) = lock(&self.shared.captured).as_mut() {
            tail.looked = tail.looked.max(now);
        }
        note_look(&self.shared.options.directory, now);
    }
}

fn position_of(follower: &Follower) -> Result<ByteVec> {
    let position = follower.position()?;
    let text = serde_json::to_vec(&position);
    Ok(text.map_err(|error| failed(follower.path(), error.into()))?.into())
}

fn failed(path: &Path, source: std::io::Error) -> Error {
    Error::File { path: path.to_owned(), source }
}

/// Writes an image to a file that has its name only once it is whole.
fn write_image(path: &Path, shared: &Shared<'_>, from: &mut dyn Read) -> Result<()> {
    let part = path.with_extension("part");
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
    let mut file = options.open(&part).map_err(|error| failed(&part, error))?;
    loop {
        shared.reporter.beat();
        let some = std::io::copy(&mut Read::take(&mut *from, IMAGE_STEP), &mut file);
        if some.map_err(|error| failed(&part, error))? == 0 {
            break;
        }
    }
    if shared.options.sync {
        file.sync_data().map_err(|error| failed(&part, error))?;
    }
    std::fs::rename(&part, path).map_err(|error| failed(path, error))
}

/// Lets the store take what waits, before anything is captured again.
fn wait_for_room(shared: &Shared<'_>) {
    let half = shared.options.spool_limit / 2;
    while shared.spool.bytes_behind(lock(&shared.published).1) > half {
        shared.reporter.beat();
        if !pause(WAIT, shared.stop) {
            return;
        }
    }
}

/// Whole copies of a database that cannot be followed.
#[derive(Default)]
struct Copies {
    /// What the last one was of: the times of change of the database and its log.
    of: Option<Vec<Option<std::time::SystemTime>>>,
    said: bool,
}

impl Copies {
    /// Copies the database if it changed, and waits until the next copy is due.
    fn copy(&mut self, shared: &Shared<'_>, why: &sqlite::Error) {
        let every = shared.options.snapshot_every;
        if !std::mem::replace(&mut self.said, true) {
            shared.reporter.failed(format!(
                "{}; it is copied as a whole every {} s, as far as it changed",
                error_chain(why),
                every.as_secs()
            ));
        }
        let changed = |suffix: &str| {
            let mut path = shared.options.database.clone().into_os_string();
            path.push(suffix);
            std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
        };
        let now: Vec<_> = ["", "-wal"].into_iter().map(changed).collect();
        if self.of.as_ref() != Some(&now) {
            match copy(shared) {
                Ok(()) => {
                    self.of = Some(now);
                    shared.reporter.state(State::Active);
                }
                Err(error) => shared.reporter.failed(error_chain(&error)),
            }
        }
        let _ = pause(every, shared.stop);
    }
}

fn copy(shared: &Shared<'_>) -> Result<()> {
    let options = shared.options;
    let at = shared.now();
    let mut copy = sqlite::snapshot(&options.database, &options.directory, shared.stop)?;
    let mut publisher =
        Publisher::new(shared.repo, options.origin.clone(), options.writer, shared.stop);
    let file = file_of(&options.database)?;
    publisher.image(Image { point: None, at, file, bytes: &mut copy })?;
    Ok(())
}
