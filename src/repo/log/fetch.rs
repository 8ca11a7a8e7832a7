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
use super::record::{Folding, Turn, fold, may_be_meant, open};
use crate::base::{Kind, RecordId, UnixTime, error_chain};
use crate::format::names::{self, Hour};
use crate::format::record::RECORD_BYTES_MAX;
use crate::index::FoldedRecord;
use crate::repo::{Error, Repository, Result, checkpoint};

/// A batch, which is folded in one transaction, has at most so many records. Each costs less
/// the more there are, since many change the same pages of the index; and each takes some
/// kilobytes beside its body.
const BATCH: usize = 8192;
/// It ends when the bodies in it have so many bytes. Those that threads are at are not
/// counted yet.
const BATCH_BYTES: u64 = 4 << 20;
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

/// Fetches records from the newest on, and none that a checkpoint met on the way covers.
/// A machine that knows nothing begins with one record, since that may be a checkpoint.
///
/// Records that are not there are added to `gone`; those that were in it before are problems.
pub(super) fn fetch_newest_first(
    repo: &Repository,
    mut found: Vec<Found>,
    carefully: bool,
    gone: &mut HashSet<RecordId>,
    report: &mut SyncReport,
) -> Result<()> {
    // If one record stands under two hours, its receipt is the earlier.
    found.sort_by_key(|one| (one.id, one.receipt));
    found.dedup_by_key(|one| one.id);
    found.sort_by_key(|one| (one.hour, one.id));
    let mut count = if carefully { 1 } else { BATCH };
    let mut ready: Vec<FoldedRecord> = Vec::new();
    while !found.is_empty() {
        let mut batch = found.split_off(found.len().saturating_sub(count));
        batch.reverse();
        let outcomes = Fetch::new(repo, &batch, gone)
            .run(|| Ok(repo.index().fold(&std::mem::take(&mut ready))?))?;
        found.extend(batch.split_off(outcomes.len()).into_iter().rev());
        for (one, outcome) in batch.iter().zip(outcomes) {
            let folding = match outcome {
                Err(error) if is_gone(&error) => {
                    gone.insert(one.id);
                    continue;
                }
                outcome => outcome?,
            };
            report.records += 1;
            report.problems.extend(folding.problems.into_iter().map(|why| (one.name(), why)));
            ready.push(folding.record);
        }
        if ready.last().is_some_and(is_checkpoint) {
            repo.index().fold(&std::mem::take(&mut ready))?;
            found = unknown(repo, found)?;
        }
        count = (count * 2).min(BATCH);
    }
    Ok(repo.index().fold(&ready)?)
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
        still_listed: &'a HashSet<RecordId>,
    ) -> Fetch<'a> {
        Fetch {
            repo,
            batch,
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
        let (opened, blocks) = match repo.store().get(&name, RECORD_BYTES_MAX) {
            Ok(bytes) => {
                let opened = open(repo, id, &name, &bytes, &mut turn);
                let blocks = opened.is_err() && may_be_meant(repo, id, &bytes);
                (opened, blocks)
            }
            Err(error) if error.kind == Kind::NotFound && !self.still_listed.contains(&id) => {
                return Err(error.into());
            }
            Err(error) => (Err(error.into()), true),
        };
        match opened {
            Ok((header, body, signer)) => {
                let before = self.bytes.fetch_add(header.body_len, Ordering::Relaxed);
                let mut folding = fold(repo, id, &header, &body, &signer, one.receipt);
                // Before a checkpoint is read, which takes long.
                if before + header.body_len >= BATCH_BYTES || is_checkpoint(&folding.record) {
                    self.end();
                }
                checkpoint::merge(repo, id, &body, &signer, &mut folding)?;
                Ok(folding)
            }
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
}
