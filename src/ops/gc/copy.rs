//! Copying what is needed out of packs that go, into new ones.
//!
//! Each pack is read whole, compared with its name and opened by its own directory;
//! each chunk is compared with its id before it is stored again. What a writer claimed
//! falsely is noticed here: what a pack does not have cannot be copied, and then the
//! pack stays.
//!
//! Memory: one pack, what the writer has in flight, and the ids of chunks of which
//! several copies are needed, because no single one can be relied on.

use std::collections::HashSet;
use std::sync::Arc;

use super::bitmap::Bitmap;
use super::packs::{Pack, Packs};
use crate::base::{ChunkId, PackId, Progress, SnapshotId, Stop, error_chain};
use crate::codec::hash::{ChunkKind, sha256};
use crate::format::FormatError;
use crate::format::fact::Fact;
use crate::format::item::Item;
use crate::format::names;
use crate::format::node::{Node, STATEMENT};
use crate::format::pack::PACK_BYTES_MAX;
use crate::ops::Result;
use crate::repo::packer::{each_chunk, open_pack};
use crate::repo::writer::{Lane, Writer, WriterOptions, Written};
use crate::repo::{self, Repository};

/// What was copied.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// Packs of which everything that is needed was copied, by their places.
    pub(super) packs: Vec<usize>,
    /// Packs that could not be copied, and why. They stay.
    pub(super) failed: Vec<(PackId, String)>,
    /// What was written.
    pub(super) written: Written,
}

/// What is to be copied: packs by their places, and the bits of their chunks.
pub(super) struct Copying<'a> {
    pub(super) repo: &'a Arc<Repository>,
    pub(super) packs: &'a Packs,
    /// Which index the numbers of claims are of.
    pub(super) epoch: u64,
    pub(super) needed: &'a Bitmap,
    /// Of these, the ones that are needed beside another of the same chunk.
    pub(super) several: &'a Bitmap,
    /// Whether the packs go, so that everything that is needed of them must be copied.
    pub(super) whole: bool,
    /// Snapshots whose statements are kept beside what is needed.
    pub(super) snapshots: &'a HashSet<SnapshotId>,
    pub(super) progress: &'a Arc<Progress>,
    pub(super) stop: &'a Stop,
}

impl Copying<'_> {
    /// Copies what is needed of these packs and publishes the copies.
    pub(super) fn run(&self, places: &[usize], options: WriterOptions) -> Result<Copied> {
        let mut copied = Copied::default();
        if places.is_empty() {
            return Ok(copied);
        }
        let writer = Writer::start(self.repo, options, None, self.progress, self.stop)?;
        let mut lanes = [writer.lane(ChunkKind::Data), writer.lane(ChunkKind::Node)];
        let mut failure = None;
        let mut copied_once = HashSet::new();
        for place in places {
            let pack = &self.packs.all[*place];
            match self.copy_pack(pack, &mut lanes, &mut copied_once) {
                Ok(()) => copied.packs.push(*place),
                Err(error) if error.is_damage() => {
                    copied.failed.push((pack.id, error_chain(&error)));
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
            Progress::add(&self.progress.bytes, pack.size);
        }
        for lane in &mut lanes {
            failure = failure.or(lane.flush().err());
        }
        drop(lanes);
        if let Some(error) = failure {
            return Err(crate::ops::backup::first_cause(writer, error.into()));
        }
        copied.written = writer.finish(Vec::new())?.1;
        Ok(copied)
    }

    fn copy_pack(
        &self,
        pack: &Pack,
        lanes: &mut [Lane; 2],
        copied_once: &mut HashSet<ChunkId>,
    ) -> repo::Result<()> {
        let repo = self.repo;
        let name = names::pack(pack.id);
        let bytes = repo.store().get(&name, PACK_BYTES_MAX)?;
        let keys = repo.keys();
        let fact =
            open_pack(pack.id, &bytes, repo.config().repository, keys.reader.as_ref(), None)?;
        // Which claim tells of the pack as it is: by its bits it is known what is needed.
        let claim = sha256(&fact.encode());
        let row = repo.index().claim_number(&pack.id, &claim)?;
        if repo.index().epoch() != self.epoch {
            return Err(repo::Error::IndexReplaced);
        }
        let mut found: u64 = 0;
        let lane = &mut lanes[usize::from(fact.kind == ChunkKind::Node)];
        each_chunk(&fact, &bytes, &keys.ids, |place, id, plain| {
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            let bit = row.map_or(u64::MAX, |row| self.packs.bit(row, place));
            let needed = self.needed.contains(bit);
            match plain {
                Some(plain) if needed => {
                    found += plain.len() as u64;
                    let again = self.several.contains(bit) && !copied_once.insert(id);
                    if again { Ok(()) } else { lane.copy(id, plain) }
                }
                Some(plain)
                    if self.whole && fact.kind == ChunkKind::Node && self.is_wanted(plain) =>
                {
                    lane.copy(id, plain)
                }
                None if needed => Err(repo::Error::ChunkCorrupt { chunk: id, pack: pack.id }),
                _ => Ok(()),
            }
        })?;
        if self.whole && found < pack.needed {
            // Somebody claims that the pack has more than it has, and it is needed.
            let why = "it lacks chunks that are claimed of it and needed".to_owned();
            return Err(repo::Error::object(name)(FormatError::malformed("pack", why)));
        }
        Ok(())
    }

    /// Whether a node that nothing refers to is the statement of a snapshot that stays.
    fn is_wanted(&self, bytes: &[u8]) -> bool {
        let is_statement = Item::decode("node", bytes).is_ok_and(|item| item.kind == STATEMENT);
        let Some(Ok((_, Node::Statement(statement)))) = is_statement.then(|| Node::decode(bytes))
        else {
            return false;
        };
        match Fact::decode(&statement.fact) {
            Ok((_, Fact::Snapshot(snapshot))) => self.snapshots.contains(&snapshot.id),
            _ => false,
        }
    }
}
