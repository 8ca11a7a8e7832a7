//! Making a checkpoint.
//!
//! ```text
//! choose    old records that no checkpoint covers; older checkpoints that are not much
//!           larger than what is merged, so that each fact is rewritten some few times
//! merge     all of it in one order, without what nobody needs any more
//! places    every chunk that the merged claims have, from the index, in order
//! publish   the packs with all those nodes, and the checkpoint, in one record
//! ```
//!
//! Whatever happens before the record is published leaves packs that nobody claims, and
//! nothing else. Nothing is deleted here.

use std::collections::{HashMap, HashSet};

use super::carry::{Failed, Input, Keep, Original, next, without};
use super::nodes::{Nodes, Storing};
use super::{Known, before, damaged, distrust, fold, known};
use crate::base::{ChainId, ChunkId, PackId, Progress, RecordId, Stop, UnixTime, WriterId};
use crate::codec::hash::sha256;
use crate::format::checkpoint::{Merged, MergedRun, Place, Places};
use crate::format::fact::{Checkpoint, Fact};
use crate::format::names::{self, Hour};
use crate::format::node::Node;
use crate::format::pack::PackFact;
use crate::repo::grace::in_force;
use crate::repo::log::{Chain, EncodedFact, read};
use crate::repo::standing::Standing;
use crate::repo::{Error, Repository, Result};
use crate::store::Listed;

/// A node of merged records is closed when it has so many bytes of facts.
const MERGED_BYTES: usize = 512 << 10;
/// About so many places are in a node: 130 KiB, read by one ranged GET.
const PLACES_MANY: usize = 3_000;
/// No more places of one chunk are kept: one is enough, and others are for trouble.
const PLACES_OF_CHUNK_MAX: usize = 16;

/// How to compact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactOptions {
    /// Nothing is done unless so many records of the log can be merged.
    pub records_min: usize,
}

impl Default for CompactOptions {
    fn default() -> CompactOptions {
        CompactOptions { records_min: 64 }
    }
}

/// What was merged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Compacted {
    /// Records of the log.
    pub records: u64,
    /// Older checkpoints.
    pub checkpoints: u64,
    /// Facts that were left out, since nobody needs them any more.
    pub facts_dropped: u64,
    /// Bytes of the packs that hold it.
    pub bytes_stored: u64,
    /// Whether a checkpoint was published.
    pub published: bool,
}

/// An object in the log.
#[derive(Clone, Copy)]
pub(super) struct InLog {
    pub(super) hour: Hour,
    pub(super) size: u64,
    pub(super) receipt: UnixTime,
}

/// Every record that a listing of the log shows. Memory: some 80 bytes each.
pub(super) fn list(repo: &Repository) -> Result<HashMap<RecordId, InLog>> {
    let mut found = HashMap::new();
    each_object(repo, |object| {
        if let Some((id, one)) = InLog::of(object) {
            found.entry(id).or_insert(one);
        }
    })?;
    Ok(found)
}

impl InLog {
    /// The record that an object of the log is, by its name.
    pub(super) fn of(object: &Listed) -> Option<(RecordId, InLog)> {
        let (hour, id) = names::parse_record(&object.key)?;
        Some((id, InLog { hour, size: object.size, receipt: object.receipt }))
    }
}

/// Hands every object of the log to `each`, in the order of their names.
pub(super) fn each_object(repo: &Repository, mut each: impl FnMut(&Listed)) -> Result<()> {
    let mut after: Option<String> = None;
    loop {
        let page = repo.store().list(names::LOG, after.as_deref())?;
        page.at.inspect(|at| repo.note_store_time(*at));
        page.objects.iter().for_each(&mut each);
        match page.objects.last() {
            Some(last) if page.more => after = Some(last.key.clone()),
            _ => return Ok(()),
        }
    }
}

/// Merges old records of the log into a checkpoint, if they are many, together with
/// older checkpoints. `at` is the store's time of the listing that the index was brought
/// up to date with.
///
/// What cannot be read is reported as a problem and stays where it is. Costs a listing of
/// the log, a GET for each record and each node of an older checkpoint, and reads the
/// index's table of chunks once. Memory: a record, a node of each older checkpoint, a
/// pack, some 80 bytes for each object in the log and each pack.
///
/// # Errors
///
/// [`Error::NotAllowed`] without the owner's key; [`Error::Late`] if the store received
/// the checkpoint too late, so that it replaces nothing.
pub fn compact(
    repo: &Repository,
    at: UnixTime,
    options: &CompactOptions,
    progress: &Progress,
    stop: &Stop,
) -> Result<Compacted> {
    repo.check_collectable()?;
    let listed = list(repo)?;
    let mut left_out: HashSet<RecordId> = HashSet::new();
    loop {
        let Some(chosen) = choose(repo, at, options, &listed, &left_out)? else {
            return Ok(Compacted::default());
        };
        match merge(repo, at, chosen, stop) {
            Ok(compacted) => return Ok(compacted),
            Err(Failed::Error(error)) => return Err(error),
            Err(Failed::Without(id, why)) => {
                let name = listed.get(&id).map(|one| names::record(one.hour, id));
                progress.problem(name.unwrap_or_default(), &why);
                // A checkpoint that cannot be read replaces nothing.
                if let Some(one) = known(repo)?.iter().find(|one| one.record == id) {
                    distrust(repo, one, &why)?;
                }
                left_out.insert(id);
            }
        }
    }
}

/// What is to be merged.
struct Chosen {
    originals: Vec<Original>,
    checkpoints: Vec<(String, Known)>,
    /// Every record that the checkpoint will stand for.
    covers: Vec<RecordId>,
    /// Whether all that was said before is in it.
    whole: bool,
}

fn choose(
    repo: &Repository,
    at: UnixTime,
    options: &CompactOptions,
    listed: &HashMap<RecordId, InLog>,
    left_out: &HashSet<RecordId>,
) -> Result<Option<Chosen>> {
    let until = at.minus(2 * repo.skew()).seconds;
    let mut known = known(repo)?;
    known.retain(|one| listed.contains_key(&one.record) && !left_out.contains(&one.record));
    let covered = fold::covered_by(&known, i64::MAX);
    let checkpoints: HashSet<RecordId> = known.iter().map(|one| one.record).collect();
    let mut originals = Vec::new();
    let mut whole = true;
    for (&id, &one) in listed {
        if covered.contains(&id) || checkpoints.contains(&id) {
            continue;
        }
        match repo.index().record(&id)? {
            Some(mut row) if one.receipt.seconds <= until && !left_out.contains(&id) => {
                // What the store says now, not what this machine thought when it put it.
                row.receipt = one.receipt.seconds;
                let name = names::record(one.hour, id);
                originals.push(Original { id, name, size: one.size, row });
            }
            _ => whole &= one.receipt.seconds > until,
        }
    }
    // What a damaged checkpoint stood for is merged again at once.
    let mut damaged = damaged(repo)?;
    damaged.retain(|one| listed.contains_key(&one.record));
    let least = if damaged.is_empty() { options.records_min } else { 1 };
    if originals.len() < least.max(1) {
        return Ok(None);
    }
    known.retain(|one| !covered.contains(&one.record));
    let mut sized = Vec::new();
    for one in known {
        let packs = repo.index().pack_bytes_of(&one.record)?;
        let object = listed.get(&one.record).copied();
        sized.push((packs + object.map_or(0, |object| object.size), one));
    }
    sized.sort_by_key(|(size, one)| (*size, one.record));
    let mut total: u64 = originals.iter().map(|one| one.size).sum();
    let mut chosen = Vec::new();
    for (size, one) in sized {
        if one.receipt <= until
            && total.saturating_mul(2) >= size
            && let Some(object) = listed.get(&one.record)
        {
            total += size;
            chosen.push((names::record(object.hour, one.record), one));
        } else {
            whole = false;
        }
    }
    let mut covers: HashSet<RecordId> = originals.iter().map(|one| one.id).collect();
    for (_, one) in &chosen {
        covers.insert(one.record);
        covers.extend(one.checkpoint.records.iter().filter(|id| listed.contains_key(id)));
    }
    covers.retain(|id| !left_out.contains(id));
    // A damaged one goes once all that it was made of stands elsewhere.
    let mut stands = |id: &RecordId| covers.contains(id) || covered.contains(id);
    damaged.retain(|one| one.checkpoint.records.iter().all(&mut stands));
    let superfluous: Vec<RecordId> = damaged.iter().map(|one| one.record).collect();
    covers.extend(superfluous);
    let mut covers: Vec<RecordId> = covers.into_iter().collect();
    covers.sort_unstable();
    Ok(Some(Chosen { originals, checkpoints: chosen, covers, whole }))
}

fn merge(
    repo: &Repository,
    at: UnixTime,
    chosen: Chosen,
    stop: &Stop,
) -> std::result::Result<Compacted, Failed> {
    let mut compacted = Compacted {
        records: chosen.originals.len() as u64,
        checkpoints: chosen.checkpoints.len() as u64,
        ..Compacted::default()
    };
    let grace = in_force(repo, at.seconds)?;
    let gone = before(at, grace.saturating_mul(4));
    let mut complete_after = gone;
    let mut inputs = vec![Input::log(repo, chosen.originals)];
    for (name, one) in &chosen.checkpoints {
        let merged = one.checkpoint.merged(&one.refs).copied().collect();
        let nodes = Nodes::new(repo, packs_of(repo, one.record, name)?);
        inputs.push(Input::checkpoint(one.record, nodes, merged));
        complete_after = complete_after.max(one.checkpoint.complete_after.seconds);
    }
    let keep = Keep { index: repo.index(), old: before(at, grace), gone, whole: chosen.whole };
    let standing = Standing::new(repo, None);
    standing.on(at.seconds);
    let mut chain = Chain::default();
    let mut output = Output::new(repo, chain.id(), gone, Storing::new(repo, &standing, stop));
    while let Some(mut one) = next(&mut inputs)? {
        let mut facts = Vec::with_capacity(one.facts.len());
        for (place, fact) in std::mem::take(&mut one.facts) {
            if keep.needs(one.receipt, &fact)? {
                output.note_claim(&fact)?;
                facts.push((place, fact));
            } else {
                compacted.facts_dropped += 1;
            }
        }
        one.facts = facts;
        output.add(one)?;
    }
    let (mut storing, claims, mut refs) = output.finish()?;
    let places = add_places(repo, chain.id(), &claims, &mut storing, &mut refs)?;
    storing.close()?;
    compacted.bytes_stored = storing.packs.iter().map(|pack| pack.size).sum();
    let checkpoint = Checkpoint {
        complete_after: UnixTime::new(complete_after, 0),
        records: chosen.covers,
        places,
    };
    let packs = storing.packs.into_iter().map(|pack| Fact::Pack(Box::new(pack)));
    let mut facts: Vec<EncodedFact> = packs.map(|pack| EncodedFact::of(&pack)).collect();
    facts.push(EncodedFact { bytes: Fact::Checkpoint(checkpoint).encode(&refs) });
    if stop.is_raised() {
        return Err(Error::Interrupted.into());
    }
    let deadline = standing.deadline(repo.store_now());
    if chain.publish_soon(repo, facts, deadline)?.late {
        return Err(Error::Late { what: "the checkpoint" }.into());
    }
    compacted.published = true;
    Ok(compacted)
}

/// The packs that a checkpoint's record names.
pub(super) fn packs_of(
    repo: &Repository,
    record: RecordId,
    name: &str,
) -> std::result::Result<Vec<PackFact>, Failed> {
    let (_, body, _) = read(repo, record, name).map_err(without(record))?;
    let facts = body.facts.iter().filter_map(|fact| Fact::decode(fact).ok());
    Ok(facts
        .filter_map(|(_, fact)| match fact {
            Fact::Pack(pack) => Some(*pack),
            _ => None,
        })
        .collect())
}

/// Merged records on their way into nodes.
struct Output<'a> {
    repo: &'a Repository,
    of: ChainId,
    gone: i64,
    storing: Storing<'a>,
    refs: Vec<ChunkId>,
    open: Vec<Merged>,
    open_bytes: usize,
    /// The pack of each claim that is carried on, by the claims' dense numbers.
    claims: HashMap<i64, PackId>,
    chain: Option<(WriterId, ChainId)>,
    /// How many records of the chain at hand were met.
    met: u64,
    /// Those of which nothing is left to say, as long as that is so of all.
    silent: Vec<Merged>,
    speaks: bool,
}

impl<'a> Output<'a> {
    fn new(repo: &'a Repository, of: ChainId, gone: i64, storing: Storing<'a>) -> Output<'a> {
        Output {
            repo,
            of,
            gone,
            storing,
            refs: Vec::new(),
            open: Vec::new(),
            open_bytes: 0,
            claims: HashMap::new(),
            chain: None,
            met: 0,
            silent: Vec::new(),
            speaks: false,
        }
    }

    fn note_claim(&mut self, fact: &[u8]) -> Result<()> {
        if let Ok((_, Fact::Pack(pack))) = Fact::decode(fact)
            && let Some(number) =
                self.repo.index().claim_number(&pack.id, &sha256(&pack.encode()))?
        {
            self.claims.insert(number, pack.id);
        }
        Ok(())
    }

    /// Takes the next record, in order. Those without facts keep the chain whole, so
    /// that a gap in it stays one and nothing else looks like one.
    fn add(&mut self, one: Merged) -> Result<()> {
        if self.chain != Some((one.writer, one.chain)) {
            self.end_chain()?;
            self.chain = Some((one.writer, one.chain));
        }
        self.met += u64::from(one.part.is_none_or(|(part, _)| part == 0));
        if one.facts.is_empty() && !self.speaks {
            self.silent.push(one);
            return Ok(());
        }
        self.speaks = true;
        for silent in std::mem::take(&mut self.silent) {
            self.write(silent)?;
        }
        self.write(one)
    }

    /// A chain that ended long ago, is here from end to end and says nothing, goes.
    fn end_chain(&mut self) -> Result<()> {
        let silent = std::mem::take(&mut self.silent);
        if let Some((writer, chain)) = self.chain.take()
            && !silent.is_empty()
        {
            let (count, last) = self.repo.index().chain_extent(writer, chain)?;
            if count != self.met || last > self.gone {
                silent.into_iter().try_for_each(|one| self.write(one))?;
            }
        }
        self.met = 0;
        self.speaks = false;
        Ok(())
    }

    fn write(&mut self, one: Merged) -> Result<()> {
        let certificate = one.certificate.as_ref().map_or(0, |bytes| bytes.len());
        self.open_bytes += 256 + certificate;
        self.open_bytes += one.facts.iter().map(|(_, fact)| fact.len() + 16).sum::<usize>();
        self.open.push(one);
        if self.open_bytes >= MERGED_BYTES { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<()> {
        if !self.open.is_empty() {
            let records = std::mem::take(&mut self.open);
            self.open_bytes = 0;
            self.refs.push(self.storing.add(&Node::Merged(MergedRun { of: self.of, records }))?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Storing<'a>, HashMap<i64, PackId>, Vec<ChunkId>)> {
        self.end_chain()?;
        self.close()?;
        Ok((self.storing, self.claims, self.refs))
    }
}

/// Stores the run of places, and returns its sparse index.
fn add_places(
    repo: &Repository,
    of: ChainId,
    claims: &HashMap<i64, PackId>,
    storing: &mut Storing<'_>,
    refs: &mut Vec<ChunkId>,
) -> Result<Vec<(ChunkId, u32)>> {
    let mut sparse = Vec::new();
    let mut rows: Vec<(ChunkId, Place)> = Vec::new();
    let mut close = |rows: &mut Vec<(ChunkId, Place)>| -> Result<()> {
        if let Some((first, _)) = rows.first() {
            sparse.push((*first, u32::try_from(refs.len()).unwrap_or(u32::MAX)));
            refs.push(storing.add(&Node::Places(Places::new(of, rows)))?);
            rows.clear();
        }
        Ok(())
    };
    repo.index().each_chunk(|id, places| -> Result<()> {
        let mut of_chunk: Vec<Place> = places
            .iter()
            .filter_map(|place| Some((*claims.get(&place.pack)?, place.start, place.length)))
            .collect();
        of_chunk.sort_unstable();
        of_chunk.dedup();
        of_chunk.truncate(PLACES_OF_CHUNK_MAX);
        rows.extend(of_chunk.into_iter().map(|place| (*id, place)));
        if rows.len() >= PLACES_MANY { close(&mut rows) } else { Ok(()) }
    })?;
    close(&mut rows)?;
    Ok(sparse)
}
