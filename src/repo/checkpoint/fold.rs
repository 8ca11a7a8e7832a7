//! Folding a checkpoint: what it carries becomes rows as if the records had been read.

use std::collections::HashSet;
use std::sync::mpsc::{SyncSender, sync_channel};

use super::carried::parts;
use super::nodes::Nodes;
use crate::base::{ChunkId, Kind, RecordId, error_chain};
use crate::format::checkpoint::Merged;
use crate::format::fact::Signer;
use crate::format::node::Node;
use crate::format::record::Body;
use crate::index::FoldedRecord;
use crate::repo::log::{BATCH, Bounds, Folding, fold_facts, signer_of};
use crate::repo::{Error, Repository, Result};

/// Folds what a checkpoint of the owner carries for other records, one node after the
/// other, before its own record is folded: as much in one transaction as of records, while
/// the next of it is read.
///
/// Nothing is read if all the records are known that it was made of. If a node cannot be
/// read, that is a problem of the checkpoint's record: the facts that could be read stand,
/// it replaces no record, and it is tried again by the next sync.
///
/// # Errors
///
/// [`Error`] if the store cannot be reached or the index cannot be written.
pub(in crate::repo) fn merge(
    repo: &Repository,
    id: RecordId,
    body: &Body,
    signer: &Signer,
    folding: &mut Folding,
) -> Result<()> {
    if *signer != Signer::Owner || folding.record.checkpoints.is_empty() {
        return Ok(());
    }
    let unread = !repo.index().unknown_records(&folding.record.covers)?.is_empty();
    if !unread && !folding.record.covers.is_empty() && !repo.index().has_problem(&id)? {
        return Ok(());
    }
    let (packs, wanted) = parts(body);
    let reading = Reading {
        repo,
        nodes: Nodes::new(repo, packs),
        late: folding.record.late,
        problems: Vec::new(),
        problem: None,
    };
    let read = std::thread::scope(|scope| {
        let (send, batches) = sync_channel(0);
        let reading = scope.spawn(move || reading.run(&wanted, &send));
        for batch in batches {
            repo.index().fold(&batch)?;
        }
        reading.join().map_err(|_| Error::Worker("a checkpoint's reader".into()))?
    })?;
    folding.problems.extend(read.problems);
    if let Some(problem) = read.problem {
        folding.problems.push(problem.clone());
        folding.record.problem = Some(problem);
        folding.record.blocks = unread;
        folding.record.covers.clear();
    }
    Ok(())
}

/// What a checkpoint carries, while it is read.
struct Reading<'a> {
    repo: &'a Repository,
    nodes: Nodes<'a>,
    /// Whether the checkpoint was received too late.
    late: bool,
    /// What is wrong with what is carried.
    problems: Vec<String>,
    /// Why not all of it can be read, if so.
    problem: Option<String>,
}

impl Reading<'_> {
    /// Takes apart what these nodes carry. Ends early if nobody wants it any more.
    fn run(mut self, wanted: &[ChunkId], send: &SyncSender<Vec<FoldedRecord>>) -> Result<Self> {
        let mut whole = Whole::default();
        let mut batch = Batch::default();
        for node in wanted {
            for one in self.records(node)? {
                let mut carried = fold_merged(self.repo, &one);
                // Who vouches too late vouches for what may be gone: the record itself is
                // read if it is there.
                carried.record.late |= self.late;
                let whole = whole.meet(&one) && !self.late;
                carried.record.id = whole.then_some(one.record);
                let why = carried.problems.into_iter();
                self.problems.extend(why.map(|why| format!("record {}: {why}", one.record)));
                let bytes = one.facts.iter().map(|(_, fact)| fact.len() as u64).sum();
                if let Some(full) = batch.add(carried.record, bytes, BATCH)
                    && send.send(full).is_err()
                {
                    return Ok(self);
                }
            }
        }
        let _ = send.send(batch.records);
        Ok(self)
    }

    /// The records that a node carries. None if it cannot be read, which is noted.
    fn records(&mut self, node: &ChunkId) -> Result<Vec<Merged>> {
        match self.nodes.read(node) {
            Ok(Node::Merged(run)) => return Ok(run.records),
            Ok(_) => {
                let why = "a checkpoint refers to another node";
                let error = Error::Tree { chunk: *node, why };
                self.problem = Some(format!("{UNREAD}{}", error_chain(&error)));
            }
            Err(error) if error.is_damage() => {
                let what = if error.kind() == Kind::NotFound { GONE } else { UNREAD };
                self.problem = Some(format!("{what}{}", error_chain(&error)));
            }
            Err(error) => return Err(error),
        }
        Ok(Vec::new())
    }
}

/// What waits to be folded.
#[derive(Default)]
struct Batch {
    records: Vec<FoldedRecord>,
    bytes: u64,
}

impl Batch {
    /// One more, whose facts have so many bytes. Returns all when they are as many as they
    /// may be.
    fn add(&mut self, one: FoldedRecord, bytes: u64, most: Bounds) -> Option<Vec<FoldedRecord>> {
        self.records.push(one);
        self.bytes += bytes;
        if self.records.len() < most.records && self.bytes < most.bytes {
            return None;
        }
        self.bytes = 0;
        Some(std::mem::take(&mut self.records))
    }
}

/// So the problem of a record begins whose checkpoint cannot be read, or is not there.
const UNREAD: &str = "its checkpoint: ";
const GONE: &str = "its checkpoint is gone: ";

/// Whether that is the problem of a record whose checkpoint is not there any more.
pub(in crate::repo) fn is_gone(problem: &str) -> bool {
    problem.starts_with(GONE)
}

/// Checkpoints that could not be read, though all that they stand for is known by now:
/// from the records themselves, or from a newer one. They stop nobody. Returns them.
///
/// # Errors
///
/// [`Error::Index`] if the index cannot be read or written.
pub(in crate::repo) fn superfluous(repo: &Repository) -> Result<Vec<RecordId>> {
    let mut found = Vec::new();
    for one in super::damaged(repo)? {
        let records = &one.checkpoint.records;
        if !records.is_empty() && repo.index().unknown_records(records)?.is_empty() {
            found.push(one.record);
        }
    }
    repo.index().unblock(&found)?;
    Ok(found)
}

/// Takes a record apart that a checkpoint carries.
fn fold_merged(repo: &Repository, one: &Merged) -> Folding {
    let record = FoldedRecord {
        carried: Some(one.record),
        receipt: one.receipt.seconds,
        writer: Some(one.writer),
        chain: Some(one.chain),
        number: one.number,
        previous: one.previous,
        late: one.late,
        ..FoldedRecord::default()
    };
    let facts = one.facts.iter().map(|(place, bytes)| (*place, bytes.as_slice()));
    match signer_of(repo, one.writer, one.certificate.as_deref()) {
        Ok(signer) => fold_facts(repo, record, facts, &signer),
        Err(error) => Folding { record, problems: vec![error.to_string()] },
    }
}

/// Notices when all parts of a record have been met, one after the other.
#[derive(Default)]
struct Whole(Option<(RecordId, u32)>);

impl Whole {
    /// Whether that was the last of a record whose other parts were met as well.
    fn meet(&mut self, one: &Merged) -> bool {
        let Some((part, parts)) = one.part else {
            self.0 = None;
            return true;
        };
        let follows = part == 0 || self.0 == Some((one.record, part));
        self.0 = follows.then_some((one.record, part + 1));
        follows && part + 1 == parts
    }
}

/// Whether a record may be missing because a checkpoint left it out: its chain ended so
/// long ago that it is not carried on if nothing of it has anything left to say.
///
/// # Errors
///
/// [`Error::Index`] if the index cannot be read.
pub(in crate::repo) fn is_left_out(repo: &Repository, id: &RecordId) -> Result<bool> {
    let Some(record) = repo.index().record(id)? else { return Ok(false) };
    let known = super::known(repo)?;
    let mut timely = known.iter().filter(|one| !one.late);
    Ok(timely.any(|one| record.receipt <= one.checkpoint.complete_after.seconds))
}

/// The records that checkpoints replace which were received in time, and by `until`.
pub(super) fn covered_by(known: &[super::Known], until: i64) -> HashSet<RecordId> {
    let timely = known.iter().filter(|one| !one.late && one.receipt <= until);
    timely.flat_map(|one| one.checkpoint.records.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_full_when_either_bound_is_met() {
        let most = Bounds { records: 3, bytes: 100 };
        let mut batch = Batch::default();
        // By records; by bytes, of which none count twice; and what is left.
        let steps = [(1, 0), (1, 0), (1, 3), (99, 0), (1, 2), (99, 0), (100, 2), (1, 0), (0, 0)];
        for (step, (bytes, expected)) in steps.into_iter().enumerate() {
            let full = batch.add(FoldedRecord::default(), bytes, most);
            assert_eq!(full.map_or(0, |full| full.len()), expected, "step {step}");
        }
        assert_eq!(batch.records.len(), 2);
    }
}
