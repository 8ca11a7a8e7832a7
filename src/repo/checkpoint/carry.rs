//! What is carried on: records and older checkpoints side by side, in one order, and
//! which of their facts still say something that somebody needs.

use std::collections::VecDeque;

use super::nodes::Nodes;
use crate::base::{ChunkId, RecordId, UnixTime, error_chain};
use crate::format::checkpoint::{Merged, MergedKey};
use crate::format::fact::Fact;
use crate::format::node::Node;
use crate::index::{Index, RecordRow};
use crate::repo::log::{is_late, read};
use crate::repo::{Error, Repository, Result};

/// A part of a record has more bytes of facts only if one fact has.
const PART_BYTES: usize = 512 << 10;
/// A record with a longer fact stays in the log: no node could hold it. Bytes.
const FACT_BYTES_MAX: usize = 16 << 20;

/// Why compaction cannot go on as it is.
pub(super) enum Failed {
    /// This record, or what it refers to, must be left out.
    Without(RecordId, String),
    /// Something else.
    Error(Error),
}

impl<E: Into<Error>> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed::Error(error.into())
    }
}

/// What cannot be read is left out; that the store is away ends the work.
pub(super) fn without(record: RecordId) -> impl Fn(Error) -> Failed {
    move |error| match error.is_damage() {
        true => Failed::Without(record, error_chain(&error)),
        false => Failed::Error(error),
    }
}

/// A record in the log that is to be merged.
pub(super) struct Original {
    pub(super) id: RecordId,
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) row: RecordRow,
}

impl Original {
    /// What its first part is sorted by.
    pub(super) fn key(&self) -> MergedKey {
        (self.row.writer, self.row.chain, self.row.number, self.id, 0)
    }

    /// Fetches it and takes it into parts, the same ones whenever that is done.
    fn fetch(&self, repo: &Repository) -> std::result::Result<VecDeque<Merged>, Failed> {
        let (header, body, _) = read(repo, self.id, &self.name).map_err(without(self.id))?;
        let receipt = UnixTime::new(self.row.receipt, 0);
        let whole = Merged {
            writer: header.writer,
            record: self.id,
            receipt,
            certificate: body.certificate,
            chain: header.chain,
            number: header.number,
            late: is_late(receipt, body.deadline),
            previous: header.previous,
            facts: Vec::new(),
            part: None,
        };
        let mut parts = VecDeque::from([whole.clone()]);
        let mut size = 0;
        for (place, fact) in (0..).zip(body.facts) {
            if fact.len() > FACT_BYTES_MAX {
                let why = format!("fact {place} is too long to be merged");
                return Err(Failed::Without(self.id, why));
            }
            if size > 0 && size + fact.len() > PART_BYTES {
                parts.push_back(whole.clone());
                size = 0;
            }
            size += fact.len();
            if let Some(part) = parts.back_mut() {
                part.facts.push((place, fact));
            }
        }
        let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        if count > 1 {
            (0..).zip(&mut parts).for_each(|(part, one)| one.part = Some((part, count)));
        }
        Ok(parts)
    }
}

/// Merged records from somewhere, in the order of their keys. Memory: one record, or
/// one node.
pub(super) struct Input<'a> {
    source: Source<'a>,
    ready: VecDeque<Merged>,
}

enum Source<'a> {
    Log(&'a Repository, VecDeque<Original>),
    Checkpoint(RecordId, Nodes<'a>, VecDeque<ChunkId>),
}

impl<'a> Input<'a> {
    /// Records of the log.
    pub(super) fn log(repo: &'a Repository, mut originals: Vec<Original>) -> Input<'a> {
        originals.sort_by_key(Original::key);
        Input { source: Source::Log(repo, originals.into()), ready: VecDeque::new() }
    }

    /// An older checkpoint.
    pub(super) fn checkpoint(id: RecordId, nodes: Nodes<'a>, merged: Vec<ChunkId>) -> Input<'a> {
        Input { source: Source::Checkpoint(id, nodes, merged.into()), ready: VecDeque::new() }
    }

    fn peek(&mut self) -> std::result::Result<Option<MergedKey>, Failed> {
        while self.ready.is_empty() {
            self.ready = match &mut self.source {
                Source::Log(repo, originals) => match originals.pop_front() {
                    Some(original) => original.fetch(repo)?,
                    None => return Ok(None),
                },
                Source::Checkpoint(id, nodes, wanted) => match wanted.pop_front() {
                    Some(node) => match nodes.read(&node).map_err(without(*id))? {
                        Node::Merged(run) => run.records.into(),
                        _ => {
                            let why = "a checkpoint refers to another node";
                            return Err(without(*id)(Error::Tree { chunk: node, why }));
                        }
                    },
                    None => return Ok(None),
                },
            };
        }
        Ok(self.ready.front().map(Merged::key))
    }
}

/// The next of all inputs. What several have is taken once, with the earliest receipt.
pub(super) fn next(inputs: &mut [Input<'_>]) -> std::result::Result<Option<Merged>, Failed> {
    let mut least: Option<MergedKey> = None;
    for input in &mut *inputs {
        if let Some(key) = input.peek()? {
            least = Some(least.map_or(key, |least| least.min(key)));
        }
    }
    let mut found: Option<Merged> = None;
    for input in inputs {
        if least.is_some()
            && input.peek()? == least
            && let Some(one) = input.ready.pop_front()
            && found.as_ref().is_none_or(|other| one.receipt < other.receipt)
        {
            found = Some(one);
        }
    }
    Ok(found)
}

/// Decides which facts are carried on.
pub(super) struct Keep<'a> {
    pub(super) index: &'a Index,
    /// One grace period ago. Seconds since 1970.
    pub(super) old: i64,
    /// Four of them ago.
    pub(super) gone: i64,
    /// Whether all that was said before is merged here. If not, a claim that stands
    /// elsewhere may still need the word that its pack is deleted.
    pub(super) whole: bool,
}

impl Keep<'_> {
    /// Whether a fact of a record with that receipt still says something.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] if the index cannot be read.
    pub(super) fn needs(&self, receipt: UnixTime, fact: &[u8]) -> Result<bool> {
        let index = self.index;
        // What nobody understands now, somebody may later.
        let Ok((_, fact)) = Fact::decode(fact) else { return Ok(true) };
        Ok(match fact {
            Fact::Pack(pack) => !index.is_deleted(&pack.id, i64::MAX)?,
            Fact::Snapshot(one) => !index.is_discarded(&one.id, i64::MAX, self.old)?,
            Fact::Segment(one) => !index.is_discarded(&one.id, i64::MAX, self.old)?,
            Fact::Pin(_) => receipt.seconds > self.old,
            Fact::Forget(forget) => {
                let mut over = self.whole && receipt.seconds <= self.gone;
                for id in &forget.snapshots {
                    over = over && index.is_discarded(id, self.gone, self.old)?;
                }
                !over
            }
            Fact::Condemn(packs) | Fact::Deleted(packs) => {
                let mut over = self.whole;
                for id in &packs.packs {
                    over = over && index.is_deleted(id, self.gone)?;
                }
                !over
            }
            Fact::Checkpoint(_) => false,
            Fact::Revoke(_) | Fact::Grace(_) | Fact::Unknown(_) => true,
        })
    }
}
