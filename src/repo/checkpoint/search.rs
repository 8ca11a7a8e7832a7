//! Searching checkpoints in place, without an index.

use std::collections::HashSet;

use super::compact::list;
use super::nodes::Nodes;
use crate::base::{ChunkId, RecordId, error_chain};
use crate::format::checkpoint::Place;
use crate::format::fact::{Checkpoint, Fact, Signer};
use crate::format::names;
use crate::format::node::Node;
use crate::format::pack::PackFact;
use crate::repo::log::{is_late, read};
use crate::repo::{Error, Repository, Result};

/// What is needed to look up chunks: of each checkpoint its sparse index, and the claims
/// of the records that no checkpoint covers.
pub struct Search<'a> {
    checkpoints: Vec<(Nodes<'a>, Vec<ChunkId>, Checkpoint)>,
    recent: Vec<PackFact>,
    /// Records that could not be read, and why.
    pub problems: Vec<(String, String)>,
}

/// Every place of a chunk, as a machine finds it that knows nothing of the repository.
///
/// # Errors
///
/// As [`Search::open`] and [`Search::find`].
pub fn find_chunk(repo: &Repository, id: &ChunkId) -> Result<Vec<Place>> {
    Search::open(repo)?.find(id)
}

impl<'a> Search<'a> {
    /// Reads the newest records and the checkpoints among them, and no record that one
    /// of these covers. Costs a listing of the log and a GET for each.
    ///
    /// # Errors
    ///
    /// [`Error`] if the log cannot be listed, or the keys at hand cannot read it.
    pub fn open(repo: &'a Repository) -> Result<Search<'a>> {
        let mut search =
            Search { checkpoints: Vec::new(), recent: Vec::new(), problems: Vec::new() };
        let mut records: Vec<_> = list(repo)?.into_iter().collect();
        records.sort_unstable_by_key(|(id, object)| std::cmp::Reverse((object.hour, *id)));
        let mut covered: HashSet<RecordId> = HashSet::new();
        for (id, object) in records {
            if covered.contains(&id) {
                continue;
            }
            let name = names::record(object.hour, id);
            let (body, signer) = match read(repo, id, &name) {
                Ok((_, body, signer)) => (body, signer),
                Err(error) if error.is_damage() => {
                    search.problems.push((name, error_chain(&error)));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut packs = Vec::new();
            let mut found = Vec::new();
            for fact in &body.facts {
                match Fact::decode(fact) {
                    Ok((_, Fact::Pack(pack))) => packs.push(*pack),
                    Ok((refs, Fact::Checkpoint(one))) if signer == Signer::Owner => {
                        found.push((refs, one));
                    }
                    _ => {}
                }
            }
            search.recent.extend(packs.iter().cloned());
            for (refs, one) in found {
                if !is_late(object.receipt, body.deadline) {
                    covered.extend(&one.records);
                }
                search.checkpoints.push((Nodes::new(repo, packs.clone()), refs, one));
            }
        }
        Ok(search)
    }

    /// Every place of a chunk. Costs one ranged GET of some 130 KiB a checkpoint. What
    /// is found is to be compared with the chunk's id, as everything.
    ///
    /// # Errors
    ///
    /// [`Error`] if a node of places cannot be read.
    pub fn find(&self, id: &ChunkId) -> Result<Vec<Place>> {
        let mut found = Vec::new();
        for (nodes, refs, checkpoint) in &self.checkpoints {
            let Some(node) = checkpoint.node_of(refs, id) else { continue };
            match nodes.read(node)? {
                Node::Places(places) => found.extend(places.find(id)),
                _ => {
                    let why = "a checkpoint refers to another node";
                    return Err(Error::Tree { chunk: *node, why });
                }
            }
        }
        for pack in &self.recent {
            let here = pack.directory.places().filter(|(chunk, _, _)| chunk == id);
            found.extend(here.map(|(_, start, length)| (pack.id, start, length)));
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}
