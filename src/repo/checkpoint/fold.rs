//! Folding a checkpoint: what it carries becomes rows as if the records had been read.

use std::collections::HashSet;

use super::carried::parts;
use super::nodes::Nodes;
use crate::base::{Kind, RecordId, error_chain};
use crate::format::checkpoint::Merged;
use crate::format::fact::Signer;
use crate::format::node::Node;
use crate::format::record::Body;
use crate::index::{FoldedRecord, Index};
use crate::repo::log::{Folding, fold_facts, signer_of};
use crate::repo::{Error, Repository, Result};

/// What is carried for so many records is folded in one transaction, or less of it, once its
/// facts have so many bytes.
const BATCH: Bounds = Bounds { records: 8192, bytes: 4 << 20 };

/// Folds what a checkpoint of the owner carries for other records, one node after the
/// other, before its own record is folded.
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
    let nodes = Nodes::new(repo, packs);
    let mut whole = Whole::default();
    let mut problem = None;
    let mut batch = Batch::new(repo.index(), BATCH);
    for node in wanted {
        let records = match nodes.read(&node) {
            Ok(Node::Merged(run)) => run.records,
            Ok(_) => {
                let why = "a checkpoint refers to another node";
                problem =
                    Some(format!("{UNREAD}{}", error_chain(&Error::Tree { chunk: node, why })));
                continue;
            }
            Err(error) if error.is_damage() => {
                let what = if error.kind() == Kind::NotFound { GONE } else { UNREAD };
                problem = Some(format!("{what}{}", error_chain(&error)));
                continue;
            }
            Err(error) => return Err(error),
        };
        for one in records {
            let mut carried = fold_merged(repo, &one);
            // Who vouches too late vouches for what may be gone: the record itself is read
            // if it is there.
            carried.record.late |= folding.record.late;
            let whole = whole.meet(&one) && !folding.record.late;
            carried.record.id = whole.then_some(one.record);
            let why = carried.problems.into_iter();
            folding.problems.extend(why.map(|why| format!("record {}: {why}", one.record)));
            let bytes = one.facts.iter().map(|(_, fact)| fact.len()).sum();
            batch.add(carried.record, bytes)?;
        }
    }
    batch.fold()?;
    if let Some(problem) = problem {
        folding.problems.push(problem.clone());
        folding.record.problem = Some(problem);
        folding.record.blocks = unread;
        folding.record.covers.clear();
    }
    Ok(())
}

/// What is folded at once.
#[derive(Clone, Copy)]
struct Bounds {
    records: usize,
    bytes: usize,
}

/// What waits to be folded.
struct Batch<'a> {
    index: &'a Index,
    most: Bounds,
    records: Vec<FoldedRecord>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    fn new(index: &'a Index, most: Bounds) -> Batch<'a> {
        Batch { index, most, records: Vec::new(), bytes: 0 }
    }

    /// One more, whose facts have so many bytes.
    fn add(&mut self, record: FoldedRecord, bytes: usize) -> Result<()> {
        self.records.push(record);
        self.bytes += bytes;
        if self.records.len() >= self.most.records || self.bytes >= self.most.bytes {
            self.fold()?;
        }
        Ok(())
    }

    fn fold(&mut self) -> Result<()> {
        self.bytes = 0;
        Ok(self.index.fold(&std::mem::take(&mut self.records))?)
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
    use crate::base::RepositoryId;

    #[test]
    fn a_batch_is_folded_when_either_bound_is_met() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(dir.path(), RepositoryId([1; 32])).unwrap().index;
        let known = || index.counts().unwrap().0;
        let mut batch = Batch::new(&index, Bounds { records: 3, bytes: 100 });
        let mut number = 0;
        let mut add = |batch: &mut Batch<'_>, bytes| {
            number += 1;
            let id = Some(RecordId([number; 32]));
            batch.add(FoldedRecord { id, ..FoldedRecord::default() }, bytes).unwrap();
            known()
        };
        // By records; by bytes, of which none count twice; and what is left.
        let steps = [(1, 0), (1, 0), (1, 3), (99, 3), (1, 5), (99, 5), (100, 7), (1, 7), (0, 7)];
        for (step, (bytes, expected)) in steps.into_iter().enumerate() {
            assert_eq!(add(&mut batch, bytes), expected, "step {step}");
        }
        batch.fold().unwrap();
        assert_eq!(known(), 9);
        batch.fold().unwrap();
        assert_eq!(known(), 9);
    }
}
