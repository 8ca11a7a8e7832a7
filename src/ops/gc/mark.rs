//! The mark: which chunks anything still needs.
//!
//! From the roots down, each node once: its references are looked up and their bits set
//! at every place where the chunk is; those that are nodes are looked up in the index
//! and read in their turn. Nodes are read pack by pack, the newest first: a backup writes
//! children before parents, so most packs are read once, front to back. Readers fetch
//! and open while this thread looks up.
//!
//! Memory: a bit for each chunk, a fixed cache of nodes that were met lately, and 48
//! bytes for each node that is known and not read yet.

use std::collections::BTreeMap;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::bitmap::Bitmap;
use super::chunks::{Chunks, Copies};
use super::packs::Packs;
use crate::base::{ChunkId, Progress, Stop, error_chain};
use crate::codec::hash::ChunkKind;
use crate::format::item::Item;
use crate::index::ChunkRow;
use crate::ops::Result;
use crate::repo::reader::{Wanted, read_chunks};
use crate::repo::{self, Repository};

/// Threads that read nodes.
const READERS: usize = 2;
/// References that are handed over at a time.
const BATCH: usize = 8192;
/// Slots of the cache of nodes' ids, 32 bytes each.
const RECENT: usize = 1 << 16;
/// So many chunks that are missing or broken are named.
const NAMED_MAX: usize = 20;

/// What a mark found.
#[derive(Debug, Default)]
pub(super) struct Marked {
    /// Chunks that are needed and known nowhere, or nodes that cannot be read: some of
    /// them with what is wrong.
    pub(super) broken: Vec<(ChunkId, String)>,
    /// How many.
    pub(super) broken_count: u64,
    /// Whether anything was met that cannot be read, be it one that another mark met before.
    pub(super) lacks: bool,
    /// Nodes read.
    pub(super) nodes: u64,
}

/// A pack's nodes that are to be read, or what came of them.
type Job = (i64, Vec<Wanted>);
enum Found {
    Refs(Vec<ChunkId>, u64),
    Broken(ChunkId, String),
    Failed(repo::Error),
    Done,
}

/// Sets the bits of all that `roots` need. May be called again with the same bits.
pub(super) fn mark(
    repo: &Repository,
    known: (&Packs, &Chunks),
    roots: &[ChunkId],
    live: &mut Bitmap,
    progress: &Progress,
    stop: &Stop,
) -> Result<Marked> {
    let (jobs, to_read) = bounded::<Job>(READERS);
    let (found, results) = bounded::<Found>(8);
    std::thread::scope(move |scope| {
        for _ in 0..READERS {
            let (jobs, found) = (to_read.clone(), found.clone());
            scope.spawn(move || read_jobs(repo, &jobs, &found, stop));
        }
        drop((to_read, found));
        repo.index().with_lookup(move |places| {
            let (packs, chunks) = known;
            let mut marking = Marking {
                packs,
                chunks,
                live,
                places,
                recent: vec![ChunkId([0; 32]); RECENT],
                rows: Vec::new(),
                pending: BTreeMap::new(),
                marked: Marked::default(),
            };
            let outcome = marking.run(roots, &jobs, &results, progress, stop);
            // Readers that wait to hand something over must not wait for ever.
            drop((jobs, results));
            outcome.map(|()| marking.marked)
        })
    })
}

struct Marking<'a> {
    packs: &'a Packs,
    chunks: &'a Chunks,
    live: &'a mut Bitmap,
    places: &'a mut dyn FnMut(&ChunkId, &mut Vec<ChunkRow>) -> crate::index::Result<()>,
    recent: Vec<ChunkId>,
    rows: Vec<ChunkRow>,
    pending: BTreeMap<i64, Vec<Wanted>>,
    marked: Marked,
}

impl Marking<'_> {
    fn run(
        &mut self,
        roots: &[ChunkId],
        jobs: &Sender<Job>,
        results: &Receiver<Found>,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<()> {
        roots.iter().try_for_each(|id| self.reach(id))?;
        let mut under_way = 0;
        loop {
            while under_way < READERS
                && let Some((pack, mut nodes)) = self.pending.pop_last()
            {
                nodes.sort_unstable_by_key(|node| node.start);
                if jobs.send((pack, nodes)).is_err() {
                    return Err(repo::Error::Worker("a reader of nodes".into()).into());
                }
                under_way += 1;
            }
            if under_way == 0 {
                return Ok(());
            }
            if stop.is_raised() {
                return Err(repo::Error::Interrupted.into());
            }
            match results.recv() {
                Ok(Found::Refs(refs, nodes)) => {
                    self.marked.nodes += nodes;
                    Progress::add(&progress.files, nodes);
                    refs.iter().try_for_each(|id| self.reach(id))?;
                }
                Ok(Found::Broken(id, why)) => self.broken(id, why),
                Ok(Found::Failed(error)) => return Err(error.into()),
                Ok(Found::Done) => under_way -= 1,
                Err(_) => return Err(repo::Error::Worker("a reader of nodes".into()).into()),
            }
        }
    }

    /// Something needs this chunk.
    fn reach(&mut self, id: &ChunkId) -> Result<()> {
        match self.chunks.copies(id) {
            Copies::Data(bits) => {
                for bit in bits {
                    self.live.insert(u64::from(*bit));
                }
                Ok(())
            }
            Copies::PerhapsNode | Copies::Nowhere => self.look_up(id),
        }
    }

    /// Something needs this chunk, which may be a node or may be missing.
    fn look_up(&mut self, id: &ChunkId) -> Result<()> {
        let slot = id.0.first_chunk::<8>().map_or(0, |first| u64::from_le_bytes(*first));
        let slot = usize::try_from(slot % RECENT as u64).unwrap_or(0);
        if self.recent[slot] == *id {
            return Ok(());
        }
        self.recent[slot] = *id;
        (self.places)(id, &mut self.rows).map_err(repo::Error::from)?;
        let mut new = self.rows.is_empty();
        // What a trusted claim says of the kind holds. Where there is none, whoever says
        // that it is a node may be right, and then it must be read.
        let trusted = self.rows.iter().any(|row| self.packs.is_trusted(row.pack));
        let mut is_node = false;
        let mut best: Option<((bool, i64), ChunkRow)> = None;
        for row in &self.rows {
            new |= self.live.insert(self.packs.bit(row.pack, row.place));
            let counts = !trusted || self.packs.is_trusted(row.pack);
            if !counts || !self.packs.is_nodes(row.pack) {
                continue;
            }
            is_node = true;
            let Some(pack) = self.packs.of_claim(row.pack) else { continue };
            let rank = (pack.stands(), row.pack);
            if pack.present && best.is_none_or(|(other, _)| other < rank) {
                best = Some((rank, *row));
            }
        }
        self.marked.lacks |= self.rows.is_empty() || is_node && best.is_none();
        if !new {
            return Ok(());
        }
        if self.rows.is_empty() {
            self.broken(*id, "it is in no pack that is known".into());
        }
        match best {
            Some(((_, pack), row)) => {
                let wanted = Wanted { id: *id, start: row.start, length: row.length };
                self.pending.entry(pack).or_default().push(wanted);
            }
            None if is_node => self.broken(*id, "it is in no pack that is there".into()),
            None => {}
        }
        Ok(())
    }

    fn broken(&mut self, id: ChunkId, why: String) {
        self.marked.lacks = true;
        self.marked.broken_count += 1;
        if self.marked.broken.len() < NAMED_MAX {
            self.marked.broken.push((id, why));
        }
    }
}

/// Says so if the reader panics: whoever waits for it would wait for ever.
struct Alarm<'a>(&'a Sender<Found>);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = repo::Error::Worker("a reader of nodes".into());
            let _ = self.0.send(Found::Failed(error));
        }
    }
}

/// Reads nodes and hands over what they refer to, until there are no more jobs.
fn read_jobs(repo: &Repository, jobs: &Receiver<Job>, found: &Sender<Found>, stop: &Stop) {
    let _alarm = Alarm(found);
    for (pack, nodes) in jobs {
        if stop.is_raised() {
            // Who handed out the job waits for word of it.
            let _ = found.send(Found::Failed(repo::Error::Interrupted));
            return;
        }
        let mut refs = Vec::new();
        let mut count = 0;
        let mut again = Vec::new();
        let outcome = read_pack(repo, pack, &nodes, |wanted, bytes| {
            match bytes.map(|bytes| Item::decode("node", bytes)) {
                Ok(Ok(item)) => {
                    refs.extend(item.refs);
                    count += 1;
                    if refs.len() >= BATCH {
                        let batch = std::mem::take(&mut refs);
                        // If nobody listens the work is over.
                        let _ = found.send(Found::Refs(batch, std::mem::take(&mut count)));
                    }
                }
                Ok(Err(_)) | Err(_) => again.push(*wanted),
            }
            Ok(())
        });
        if let Err(error) = outcome {
            // Whatever of it was not read is tried elsewhere.
            again = nodes.clone();
            tracing::debug!("claim {pack}: {error}");
        }
        for wanted in again {
            match read_elsewhere(repo, &wanted.id) {
                Ok(more) => {
                    refs.extend(more);
                    count += 1;
                }
                // A store that cannot be reached now says nothing of what it has.
                Err(error) => {
                    let _ = found.send(match error.is_damage() {
                        true => Found::Broken(wanted.id, error_chain(&error)),
                        false => Found::Failed(error),
                    });
                }
            }
        }
        if found.send(Found::Refs(refs, count)).and_then(|()| found.send(Found::Done)).is_err() {
            return;
        }
    }
}

fn read_pack(
    repo: &Repository,
    claim: i64,
    wanted: &[Wanted],
    each: impl FnMut(&Wanted, repo::Result<&[u8]>) -> repo::Result<()>,
) -> repo::Result<()> {
    match repo.index().pack(claim)? {
        Some(row) => read_chunks(repo, &row, wanted, each),
        None => Err(repo::Error::Worker(format!("claim {claim} left the index"))),
    }
}

/// Reads a node from whatever place has it whole. What turns out to be no node, though
/// somebody claimed that it is one, needs nothing.
fn read_elsewhere(repo: &Repository, id: &ChunkId) -> repo::Result<Vec<ChunkId>> {
    let mut last = repo::Error::ChunkMissing { chunk: *id };
    for place in repo.index().chunk_places(id)? {
        let Some(row) = repo.index().pack(place.pack)? else { continue };
        let wanted = Wanted { id: *id, start: place.start, length: place.length };
        let mut refs = None;
        let read = read_chunks(repo, &row, &[wanted], |_, bytes| {
            // It is what its id says, under the kind that the claim says.
            let bytes = bytes?;
            refs = Some(Vec::new());
            if row.kind == ChunkKind::Node as u8 {
                let item = Item::decode("node", bytes)
                    .map_err(repo::Error::object(format!("chunk {id}")))?;
                refs = Some(item.refs);
            }
            Ok(())
        });
        match (read, refs) {
            (Ok(()), Some(refs)) => return Ok(refs),
            (Err(error), _) if !error.is_damage() => return Err(error),
            (Err(error), _) => last = error,
            (Ok(()), None) => {}
        }
    }
    Err(last)
}
