//! Records that are not known yet: fetched, taken apart, and folded.
//!
//! From the newest on, so that a checkpoint that is met tells which of the older ones
//! need not be fetched. While several threads fetch a batch and take it apart, one folds
//! the batch before it: at most two are in memory, of which each ends when its bodies have
//! so many bytes.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::SyncReport;
use super::bundle::{Bundles, Read};
use super::record::{Folding, Turn, fold, may_be_meant, open};
use crate::base::{Kind, RecordId, UnixTime, error_chain};
use crate::format::bundle::Bundled;
use crate::format::fact::Signer;
use crate::format::names::{self, Hour};
use crate::format::record::{Body, Header, RECORD_BYTES_MAX};
use crate::index::FoldedRecord;
use crate::repo::{Error, Repository, Result, checkpoint};

/// How much is folded in one transaction at most.
#[derive(Clone, Copy)]
pub(in crate::repo) struct Bounds {
    pub(in crate::repo) records: usize,
    pub(in crate::repo) bytes: u64,
}

/// A record costs less the more there are, since many change the same pages of the index; and
/// each takes some kilobytes beside its body. Bodies that threads are at are not counted yet.
pub(in crate::repo) const BATCH: Bounds = Bounds { records: 8192, bytes: 4 << 20 };
/// A store is asked for so many at once. A directory for no more than keep the processors
/// busy while the disk is waited for: others would keep the one from its turn that folds.
const FETCHERS: usize = 8;
/// A record of more bytes is fetched while no other such is.
const LARGE_RECORD: u64 = 1 << 20;

/// A record that a listing shows: less than an object's name takes.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) id: RecordId,
    pub(super) hour: Hour,
    pub(super) size: u64,
    pub(super) receipt: UnixTime,
}

impl Found {
    fn name(&self) -> String {
        names::record(self.hour, self.id)
    }
}

/// Those of which nothing is known yet.
pub(super) fn unknown(repo: &Repository, mut found: Vec<Found>) -> Result<Vec<Found>> {
    let ids: Vec<RecordId> = found.iter().map(|one| one.id).collect();
    let unknown: HashSet<RecordId> = repo.index().unknown_records(&ids)?.into_iter().collect();
    found.retain(|one| unknown.contains(&one.id));
    Ok(found)
}

/// Fetches records from the newest on, out of bundles where there are many of an hour, and
/// none that a checkpoint met on the way covers. A machine that knows nothing begins with
/// one record, since that may be a checkpoint.
///
/// Records that are not there are added to `gone`; those that were in it before are problems.
pub(super) fn fetch_newest_first(
    repo: &Repository,
    mut found: Vec<Found>,
    mut bundles: Bundles,
    carefully: bool,
    gone: &mut HashSet<RecordId>,
    report: &mut SyncReport,
) -> Result<()> {
    // If one record stands under two hours, its receipt is the earlier.
    found.sort_by_key(|one| (one.id, one.receipt));
    found.dedup_by_key(|one| one.id);
    found.sort_by_key(|one| (one.hour, one.id));
    bundles.keep_useful(&found);
    let mut count = if carefully { 1 } else { BATCH.records };
    let mut learning = Learning { repo, gone, report, ready: Vec::new() };
    while let Some(newest) = found.last() {
        let newest = newest.hour;
        let bundles_of = bundles.newest(newest);
        let bundled = match bundles_of {
            Some(hour) if hour == newest => {
                bundles.read_next(repo, &mut learning.report.problems)?
            }
            _ => Read::new(),
        };
        let mut batch = if bundled.is_empty() {
            // Hours that have bundles wait for them.
            let waits = |one: &Found| bundles_of.is_some_and(|hour| one.hour <= hour);
            let begin = found.len().saturating_sub(count).max(found.partition_point(waits));
            count = (count * 2).min(BATCH.records);
            found.split_off(begin)
        } else {
            let hour = found.split_off(found.partition_point(|one| one.hour < newest));
            let (batch, others): (Vec<_>, Vec<_>) =
                hour.into_iter().partition(|one| bundled.contains_key(&one.id));
            found.extend(others);
            batch
        };
        batch.reverse();
        while !batch.is_empty() {
            let rest = learning.learn(batch, &bundled)?;
            if learning.ready.last().is_some_and(is_checkpoint) {
                learning.fold()?;
                found.extend(rest.into_iter().rev());
                found = unknown(repo, found)?;
                bundles.keep_useful(&found);
                break;
            }
            if bundled.is_empty() {
                found.extend(rest.into_iter().rev());
                break;
            }
            batch = rest;
        }
    }
    learning.fold()
}

/// Records on their way into the index.
struct Learning<'a> {
    repo: &'a Repository,
    gone: &'a mut HashSet<RecordId>,
    report: &'a mut SyncReport,
    /// Those that were taken apart and are not folded yet.
    ready: Vec<FoldedRecord>,
}

impl Learning<'_> {
    /// Fetches a batch while the one before is folded. Returns those that it had no room for.
    fn learn(&mut self, mut batch: Vec<Found>, bundled: &Read) -> Result<Vec<Found>> {
        let ready = std::mem::take(&mut self.ready);
        let fetch = Fetch::new(self.repo, &batch, bundled, self.gone);
        let outcomes = fetch.run(|| Ok(self.repo.index().fold(&ready)?))?;
        let rest = batch.split_off(outcomes.len());
        for (one, outcome) in batch.iter().zip(outcomes) {
            let folding = match outcome {
                Err(error) if is_gone(&error) => {
                    self.gone.insert(one.id);
                    continue;
                }
                outcome => outcome?,
            };
            self.report.records += 1;
            let problems = folding.problems.into_iter();
            self.report.problems.extend(problems.map(|why| (one.name(), why)));
            self.ready.push(folding.record);
        }
        Ok(rest)
    }

    fn fold(&mut self) -> Result<()> {
        Ok(self.repo.index().fold(&std::mem::take(&mut self.ready))?)
    }
}

fn is_checkpoint(record: &FoldedRecord) -> bool {
    !record.covers.is_empty()
}

/// Whether a record that was listed is not there.
fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Store(error) if error.kind == Kind::NotFound)
}

/// A batch that is being fetched, by several threads side by side.
struct Fetch<'a> {
    repo: &'a Repository,
    batch: &'a [Found],
    /// Those that need not be asked for.
    bundled: &'a Read,
    /// Those of which it is a problem that they are not there, and no error.
    still_listed: &'a HashSet<RecordId>,
    next: AtomicUsize,
    bytes: AtomicU64,
    /// Whether no other is begun.
    ended: AtomicBool,
    large: Mutex<()>,
}

impl<'a> Fetch<'a> {
    fn new(
        repo: &'a Repository,
        batch: &'a [Found],
        bundled: &'a Read,
        still_listed: &'a HashSet<RecordId>,
    ) -> Fetch<'a> {
        Fetch {
            repo,
            batch,
            bundled,
            still_listed,
            next: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            large: Mutex::default(),
        }
    }

    /// What became of the first records of the batch, up to a checkpoint or as many as there
    /// is room for. Does something else `meanwhile`.
    fn run(&self, meanwhile: impl FnOnce() -> Result<()>) -> Result<Vec<Result<Folding>>> {
        let mut outcomes = std::thread::scope(|scope| {
            let many = match self.repo.store().local_path() {
                Some(_) => 2 * std::thread::available_parallelism().map_or(1, usize::from),
                None => FETCHERS,
            };
            let fetchers: Vec<_> = (0..many.min(FETCHERS).min(self.batch.len()))
                .map(|_| scope.spawn(|| self.work()))
                .collect();
            let done = meanwhile();
            if done.is_err() {
                self.end();
            }
            let mut outcomes = Vec::new();
            for fetcher in fetchers {
                let mine = fetcher.join();
                outcomes.extend(mine.map_err(|_| Error::Worker("a record's reader".into()))?);
            }
            done.map(|()| outcomes)
        })?;
        // As they were listed, so that equal logs make equal indexes.
        outcomes.sort_by_key(|(at, _)| *at);
        let mut outcomes: Vec<_> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
        let checkpoint = outcomes
            .iter()
            .position(|one| one.as_ref().is_ok_and(|folding| is_checkpoint(&folding.record)));
        outcomes.truncate(checkpoint.map_or(usize::MAX, |at| at + 1));
        Ok(outcomes)
    }

    fn work(&self) -> Vec<(usize, Result<Folding>)> {
        let mut mine = Vec::new();
        while !self.ended.load(Ordering::Relaxed) {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = self.batch.get(at) else { break };
            // Else nobody would know at which record, and the others would go on.
            let outcome = catch_unwind(AssertUnwindSafe(|| self.fetch(one)))
                .unwrap_or_else(|_| Err(Error::Worker(format!("the reader of {}", one.name()))));
            if outcome.as_ref().is_err_and(|error| !is_gone(error)) {
                self.end();
            }
            mine.push((at, outcome));
        }
        mine
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Fetches a record and takes it apart.
    fn fetch(&self, one: &Found) -> Result<Folding> {
        let (repo, id, name) = (self.repo, one.id, one.name());
        let mut turn = Turn::new(&self.large);
        if one.size > LARGE_RECORD {
            turn.wait();
        }
        let bundled = self.bundled.get(&id);
        if let Some(Bundled { key, bytes }) = bundled
            && let Ok(opened) = open(repo, (id, &name, bytes), key.as_ref(), &mut turn)
        {
            return self.take_apart(one, opened);
        }
        let (opened, blocks) = match repo.store().get(&name, RECORD_BYTES_MAX) {
            Ok(bytes) => {
                let opened = open(repo, (id, &name, &bytes), None, &mut turn);
                let blocks = opened.is_err() && may_be_meant(repo, id, &bytes);
                (opened, blocks)
            }
            Err(error) if error.kind == Kind::NotFound && !self.still_listed.contains(&id) => {
                return Err(error.into());
            }
            Err(error) => (Err(error.into()), true),
        };
        match opened {
            Ok(opened) => self.take_apart(one, opened),
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Future | Kind::NotFound) => {
                let why = error_chain(&error);
                let record = FoldedRecord {
                    id: Some(id),
                    receipt: one.receipt.seconds,
                    problem: Some(why.clone()),
                    blocks: blocks || error.kind() == Kind::Future,
                    ..FoldedRecord::default()
                };
                Ok(Folding { record, problems: vec![why] })
            }
            Err(error) => Err(error),
        }
    }

    fn take_apart(&self, one: &Found, opened: (Header, Body, Signer)) -> Result<Folding> {
        let (header, body, signer) = opened;
        let before = self.bytes.fetch_add(header.body_len, Ordering::Relaxed);
        let mut folding = fold(self.repo, one.id, &header, &body, &signer, one.receipt);
        // Before a checkpoint is read, which takes long.
        if before + header.body_len >= BATCH.bytes || is_checkpoint(&folding.record) {
            self.end();
        }
        checkpoint::merge(self.repo, one.id, &body, &signer, &mut folding)?;
        Ok(folding)
    }
}
