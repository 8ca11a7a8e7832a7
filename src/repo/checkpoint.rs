//! Checkpoints: the facts of many records in one, sorted, searchable in place.
//!
//! The log grows by a record with every backup, and a machine that has never seen the
//! repository would have to fetch them all. So the owner merges old records into a
//! checkpoint ([`compact`]): nodes that carry the facts on, grouped by the records that
//! they stood in, and nodes that tell where chunks are, in the order of their ids, with
//! a sparse index in the checkpoint's own fact ([`find_chunk`]). Its record names the
//! packs that hold its nodes, and they hold nothing else, so a machine that has seen
//! nothing else can read it. When it has stood for long enough that nobody can be
//! reading what it replaced, that is deleted ([`drop_covered`]).
//!
//! A checkpoint is folded as the records would be (`fold::merge`): a machine that read them
//! and one that did not know the same, apart from what nobody needs any more.

mod carried;
mod carry;
mod compact;
mod drop;
mod fold;
mod nodes;
mod search;

pub use carried::each_carried;
pub use compact::{CompactOptions, Compacted, compact};
pub use drop::{Droppable, Dropped, Verified, drop_covered, droppable, verify};
pub use search::{Search, find_chunk};

pub(super) use fold::{is_gone, is_left_out, merge, superfluous};

use crate::base::{ChunkId, RecordId, UnixTime};
use crate::format::FormatError;
use crate::format::fact::{Checkpoint, Fact};
use crate::index::CheckpointRow;
use crate::repo::{Repository, Result};

/// A checkpoint that is known.
struct Known {
    record: RecordId,
    receipt: i64,
    late: bool,
    refs: Vec<ChunkId>,
    checkpoint: Checkpoint,
}

/// All checkpoints that are known and could be read.
fn known(repo: &Repository) -> Result<Vec<Known>> {
    decode(repo, repo.index().checkpoints(false)?)
}

/// All checkpoints of which something could not be read.
fn damaged(repo: &Repository) -> Result<Vec<Known>> {
    decode(repo, repo.index().checkpoints(true)?)
}

fn decode(repo: &Repository, rows: Vec<CheckpointRow>) -> Result<Vec<Known>> {
    let decoded = |row: CheckpointRow| -> std::result::Result<Known, FormatError> {
        match Fact::decode(&row.fact)? {
            (refs, Fact::Checkpoint(checkpoint)) => Ok(Known {
                record: row.record,
                receipt: row.receipt,
                late: row.late,
                refs,
                checkpoint,
            }),
            _ => Err(FormatError::malformed("row of a checkpoint", "it is another fact")),
        }
    };
    let decoded: std::result::Result<Vec<Known>, FormatError> =
        rows.into_iter().map(decoded).collect();
    decoded.map_err(crate::repo::Error::object(repo.index().path().display().to_string()))
}

/// Notes that a checkpoint cannot be read. What no other stands for stands for itself
/// again: an older checkpoint is needed again, and records are merged again.
fn distrust(repo: &Repository, one: &Known, why: &str) -> Result<()> {
    let mut others = known(repo)?;
    others.retain(|other| other.record != one.record);
    let covered = fold::covered_by(&others, i64::MAX);
    let records = one.checkpoint.records.iter().copied();
    let bare: Vec<RecordId> = records.filter(|id| !covered.contains(id)).collect();
    Ok(repo.index().distrust(&one.record, why, &bare)?)
}

/// A time and how long before: seconds since 1970.
fn before(at: UnixTime, seconds: i64) -> i64 {
    at.seconds.saturating_sub(seconds)
}
