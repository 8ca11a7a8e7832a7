//! What a checkpoint carries, read from its nodes for whoever looks at the log itself.

use super::nodes::Nodes;
use crate::base::{ChunkId, RecordId, Stop};
use crate::format::checkpoint::Merged;
use crate::format::fact::Fact;
use crate::format::node::Node;
use crate::format::pack::PackFact;
use crate::format::record::Body;
use crate::repo::log::read;
use crate::repo::{Error, Repository, Result};

/// The packs that a checkpoint's record names, and its nodes of merged records in order.
pub(super) fn parts(body: &Body) -> (Vec<PackFact>, Vec<ChunkId>) {
    let mut packs = Vec::new();
    let mut merged = Vec::new();
    for bytes in &body.facts {
        match Fact::decode(bytes) {
            Ok((_, Fact::Pack(pack))) => packs.push(*pack),
            Ok((refs, Fact::Checkpoint(one))) => merged.extend(one.merged(&refs).copied()),
            _ => {}
        }
    }
    (packs, merged)
}

/// Hands every record that the checkpoint in this record carries to `each`, in the order
/// of their keys; those in several parts once for each part. That the owner signed the
/// record was looked at before.
///
/// Costs a GET of the record and one for each node. Memory: a node.
///
/// # Errors
///
/// [`Error`] if the record or a node cannot be read; what came before it was handed on.
pub fn each_carried(
    repo: &Repository,
    record: RecordId,
    name: &str,
    stop: &Stop,
    mut each: impl FnMut(Merged),
) -> Result<()> {
    let (_, body, _) = read(repo, record, name)?;
    let (packs, merged) = parts(&body);
    drop(body);
    let nodes = Nodes::new(repo, packs);
    for id in merged {
        if stop.is_raised() {
            return Err(Error::Interrupted);
        }
        match nodes.read(&id)? {
            Node::Merged(run) => run.records.into_iter().for_each(&mut each),
            _ => {
                return Err(Error::Tree { chunk: id, why: "a checkpoint refers to another node" });
            }
        }
    }
    Ok(())
}
