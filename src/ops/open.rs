//! Opening a repository: from where it is and how to reach it, to one that is ready.
//!
//! The store is wrapped so that what it costs is counted and what was asked of the
//! line is kept to:
//!
//! ```text
//! remember → retry → limit → count → the store itself
//! ```
//!
//! Counting is innermost, since a call that is made again is paid for again.
//!
//! A repository that can be read is brought up to date. What was wrong with single
//! objects does not keep the rest from being used: it is handed back, to be told. A
//! store that does not answer keeps nobody from what this machine knows already, if
//! whoever asks can live with that ([`Freshness::IfPossible`]).

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::{Clock, Kind, Stop, UnixTime};
use crate::codec::hash::sha256;
use crate::format::config::Config;
use crate::format::names;
use crate::ops::{Error, Result};
use crate::repo::keys::Credential;
use crate::repo::repository::read_config;
use crate::repo::{self, LocalOptions, Repository};
use crate::store::count::Counters;
use crate::store::{
    CountStore, LimitStore, Limits, Location, Patience, RememberStore, Requests, RetryStore,
    S3Options, Store, open_store,
};

/// Where a repository is and how to reach it.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where it is.
    pub location: Location,
    /// How to talk to a bucket.
    pub s3: S3Options,
    /// How much of the line may be used.
    pub limits: Limits,
    /// Where to keep copies of what opens the repository, to use them while the store
    /// does not answer; none if only the store's own word counts.
    pub copies: Option<PathBuf>,
    /// Whether calls that fail are made again for minutes; what the store itself does
    /// within one call is not touched by that.
    pub patience: Option<Patience>,
}

/// A store that is reached, and what it has cost.
#[derive(Clone)]
pub struct Reached {
    /// The store.
    pub store: Arc<dyn Store>,
    counters: Arc<Counters>,
}

impl Reached {
    /// What was asked of the store so far.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.counters.snapshot()
    }
}

/// How new what is read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// As the store has it: fails if the store does not answer.
    Needed,
    /// As this machine knows it, if the store does not answer.
    IfPossible,
    /// Nothing is asked.
    AsItIs,
}

/// A repository that is open.
pub struct Opened {
    /// The repository.
    pub repo: Arc<Repository>,
    /// What was asked of its store.
    pub reached: Reached,
    /// Why the index had to be made anew, if it was.
    pub rebuilt: Option<String>,
    /// Objects of which nothing, or not all, is believed, and why.
    pub problems: Vec<(String, String)>,
    /// Why the store could not be asked for what is new, if so, and when it last was.
    pub offline: Option<(repo::Error, Option<UnixTime>)>,
}

/// Reaches a store. With `create`, a directory that is missing is made.
///
/// # Errors
///
/// [`repo::Error::NoRepository`] if the directory is missing; what else keeps the
/// store from being opened.
pub fn reach(place: &Place, create: bool, stop: &Stop) -> Result<Reached> {
    let store = open_store(&place.location, &place.s3, create, stop).map_err(|error| {
        if matches!(error.kind, Kind::NotFound | Kind::Invalid)
            && matches!(place.location, Location::Directory(_))
        {
            let missing =
                if error.kind == Kind::NotFound { "the directory" } else { "a directory" };
            let location = place.location.to_string();
            return Error::Repo(repo::Error::NoRepository { location, missing });
        }
        error.into()
    })?;
    let count = CountStore::new(store);
    let counters = count.counters();
    let mut store: Arc<dyn Store> = Arc::new(count);
    if place.limits != Limits::default() {
        store = Arc::new(LimitStore::new(store, place.limits, stop.clone()));
    }
    if let Some(patience) = place.patience {
        store = Arc::new(RetryStore::new(store, patience, stop.clone()));
    }
    if let Some(dir) = &place.copies {
        let location = hex::encode(sha256(store.location().as_bytes()));
        let what: &[&str] = &[names::CONFIG, names::KEYS];
        store = Arc::new(RememberStore::new(store, dir.join(location), what));
    }
    Ok(Reached { store, counters })
}

/// What the repository says of itself: whether it is there, and encrypted. Costs a GET.
///
/// # Errors
///
/// [`repo::Error::NoRepository`], [`repo::Error::Object`].
pub fn describe(reached: &Reached) -> Result<Config> {
    Ok(read_config(reached.store.as_ref())?.0)
}

/// Opens the repository in a store, and brings its index up to date if the keys at
/// hand can read.
///
/// # Errors
///
/// Those of [`Repository::open`] and [`Repository::sync`].
pub fn open(
    reached: Reached,
    credential: Credential,
    local: &LocalOptions,
    freshness: Freshness,
    clock: &Clock,
) -> Result<Opened> {
    let repo = Repository::open(Arc::clone(&reached.store), credential, local, clock)?;
    let rebuilt = repo.rebuilt().map(str::to_owned);
    let repo = Arc::new(repo);
    let mut opened = Opened { repo, reached, rebuilt, problems: Vec::new(), offline: None };
    if !opened.repo.keys().can_read() || freshness == Freshness::AsItIs {
        return Ok(opened);
    }
    match opened.repo.sync(false) {
        Ok(report) => opened.problems = report.problems,
        Err(error)
            if freshness == Freshness::IfPossible
                && matches!(error.kind(), Kind::Unavailable | Kind::Denied) =>
        {
            let synced = opened.repo.synced_at()?;
            if synced.is_none() {
                return Err(error.into());
            }
            opened.offline = Some((error, synced));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(opened)
}

impl Opened {
    /// Runs `work`; if the local index turns out to be damaged, makes it anew from the
    /// log and runs it once more.
    ///
    /// # Errors
    ///
    /// Those of `work` and of [`Repository::rebuild`].
    pub fn healing<T>(&mut self, mut work: impl FnMut(&Opened) -> Result<T>) -> Result<T> {
        match work(self) {
            Err(Error::Repo(repo::Error::Index(error))) if error.kind() == Kind::Damaged => {
                let report = self.repo.rebuild()?;
                self.rebuilt = Some(error.to_string());
                self.problems.extend(report.problems);
                work(self)
            }
            other => other,
        }
    }
}
