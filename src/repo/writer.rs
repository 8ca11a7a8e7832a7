//! Writing chunks: hash, look up, gather into frames, compress, seal, pack, upload,
//! publish; stages joined by bounded queues.
//!
//! ```text
//! lanes (one a caller)      chunk → id → known? → frame of about 2.5 MiB
//!   → compressors           one a core
//!     → packer              seals frames, fills packs of data and one of nodes
//!       → uploaders         decode the pack again, put it
//!         → publisher       a record every few packs or many chunks, the snapshot's last
//! ```
//!
//! Each lane gathers its own frames, and two lanes do not fill the same pack, so what
//! one caller reads one after the other lies beside each other: who reads a long file
//! later finds little else in its packs. More lanes than two share these packs. A chunk
//! that is on its way is remembered until its record is folded into the index, so
//! nothing is stored twice in one run, and memory does not grow with it: the queues and
//! packs in flight are the bound, some 100 MiB.
//!
//! What a run stands on without storing it is noted ([`crate::repo::standing`]), and
//! every record has the deadline that follows. A run that takes long renews what it
//! stands on: it pins its own chain and the snapshot that it builds on, lists again,
//! and makes sure that no pack it uses was condemned.
//!
//! The first error ends all stages; what was published by then stands.

mod lane;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::base::{ChunkId, PackId, Progress, Stop, UnixTime};
use crate::codec::compress::Compressor;
use crate::codec::hash::ChunkKind;
use crate::format::fact::{Fact, Pin};
use crate::format::names;
use crate::format::pack::PackFact;
use crate::format::record::FACTS_MAX;
use crate::repo::log::{Chain, EncodedFact, Published};
use crate::repo::packer::{
    BuiltPack, CHUNKS_MANY, FrameChunk, PackBuilder, PackedFrame, verify_pack,
};
use crate::repo::standing::{Baseline, Standing};
use crate::repo::{Error, Repository, Result};
pub use lane::Lane;

/// Packs of data that are filled side by side.
const DATA_PACKS: usize = 2;

/// No record is made with more bytes of facts, unless one fact has more: half of
/// what a record may have.
const FACTS_BYTES: usize = 64 << 20;

/// How chunks are written.
#[derive(Debug, Clone, Copy)]
pub struct WriterOptions {
    /// zstd level.
    pub level: i32,
    /// Packs that are sent side by side.
    pub uploads: usize,
    /// A record is published after so many packs.
    pub packs_per_record: usize,
    /// Store nothing: only find out what would be.
    pub dry_run: bool,
}

impl Default for WriterOptions {
    fn default() -> WriterOptions {
        WriterOptions { level: 3, uploads: 2, packs_per_record: 8, dry_run: false }
    }
}

/// What a run wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// Chunks that the repository did not have.
    pub chunks_new: u64,
    /// Their bytes.
    pub bytes_new: u64,
    /// Chunks that it had.
    pub chunks_known: u64,
    /// Packs.
    pub packs: u64,
    /// Bytes of packs.
    pub bytes_stored: u64,
    /// Records.
    pub records: u64,
}

/// What all stages share.
struct Shared {
    repo: Arc<Repository>,
    options: WriterOptions,
    progress: Arc<Progress>,
    stop: Stop,
    standing: Standing,
    /// Chunks on their way: not yet in the index.
    claimed: Mutex<HashSet<ChunkId>>,
    failed: AtomicBool,
    failure: Mutex<Option<Error>>,
    chunks_new: AtomicU64,
    bytes_new: AtomicU64,
    chunks_known: AtomicU64,
    /// How many lanes for data there were.
    data_lanes: AtomicUsize,
}

/// Where a frame is put: into a pack of its kind, of those that data is spread over.
type Destination = (ChunkKind, usize);

struct RawFrame {
    to: Destination,
    plain: Vec<u8>,
    chunks: Vec<FrameChunk>,
}

/// Writes chunks into a repository.
pub struct Writer {
    shared: Arc<Shared>,
    frames: Option<Sender<RawFrame>>,
    stages: Vec<JoinHandle<()>>,
    publisher: Option<JoinHandle<Publishing>>,
}

/// What the publisher has at the end.
struct Publishing {
    chain: Chain,
    waiting: Vec<PackFact>,
    written: Written,
}

impl Writer {
    /// Starts the stages. `baseline` is a snapshot of one's own whose chunks the new one
    /// may refer to without asking here.
    ///
    /// # Errors
    ///
    /// [`Error::NotAllowed`] if the keys at hand cannot write, and [`Error::Worker`]
    /// if the system gives no threads.
    pub fn start(
        repo: &Arc<Repository>,
        options: WriterOptions,
        baseline: Option<Baseline>,
        progress: &Arc<Progress>,
        stop: &Stop,
    ) -> Result<Writer> {
        Writer::start_on(Chain::default(), repo, options, baseline, progress, stop)
    }

    /// The same, with a chain that the process began before: [`Writer::finish_chain`]
    /// returns it.
    ///
    /// # Errors
    ///
    /// As [`Writer::start`].
    pub fn start_on(
        chain: Chain,
        repo: &Arc<Repository>,
        options: WriterOptions,
        baseline: Option<Baseline>,
        progress: &Arc<Progress>,
        stop: &Stop,
    ) -> Result<Writer> {
        repo.check_writable()?;
        let shared = Arc::new(Shared {
            repo: Arc::clone(repo),
            options,
            progress: Arc::clone(progress),
            stop: stop.clone(),
            standing: Standing::new(repo, baseline),
            claimed: Mutex::default(),
            failed: AtomicBool::new(false),
            failure: Mutex::default(),
            chunks_new: AtomicU64::new(0),
            bytes_new: AtomicU64::new(0),
            chunks_known: AtomicU64::new(0),
            data_lanes: AtomicUsize::new(0),
        });
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let (frames, raw) = bounded::<RawFrame>(4);
        let (packed, to_packer) = bounded::<(Destination, PackedFrame)>(4);
        let (built, to_upload) = bounded::<BuiltPack>(1);
        let (stored, to_publish) = bounded::<(PackFact, UnixTime)>(4);
        let mut stages = Vec::new();
        for n in 0..cores.min(8) {
            let (shared, raw, packed) = (Arc::clone(&shared), raw.clone(), packed.clone());
            stages.push(spawn(&format!("compress-{n}"), move || compress(&shared, &raw, &packed))?);
        }
        drop(packed);
        let for_packer = Arc::clone(&shared);
        stages.push(spawn("pack", move || {
            let outcome = pack(&for_packer, &to_packer, &built);
            for_packer.keep(outcome);
        })?);
        for n in 0..options.uploads.max(1) {
            let (shared, queue, stored) = (Arc::clone(&shared), to_upload.clone(), stored.clone());
            stages.push(spawn(&format!("upload-{n}"), move || {
                for built in queue {
                    let outcome = upload(&shared, built, &stored);
                    shared.keep(outcome);
                }
            })?);
        }
        drop(stored);
        let for_publisher = Arc::clone(&shared);
        let publisher = spawn("publish", move || publish(&for_publisher, chain, &to_publish))?;
        Ok(Writer { shared, frames: Some(frames), stages, publisher: Some(publisher) })
    }

    /// A lane for chunks of one kind. Each thread that writes has its own.
    #[must_use]
    pub fn lane(&self, kind: ChunkKind) -> Lane {
        let number = match kind {
            ChunkKind::Data => self.shared.data_lanes.fetch_add(1, Ordering::Relaxed),
            ChunkKind::Node => 0,
        };
        let to = (kind, number % DATA_PACKS);
        let [open, upper, top] =
            std::array::from_fn(|_| RawFrame { to, plain: Vec::new(), chunks: Vec::new() });
        let (shared, frames) = (Arc::clone(&self.shared), self.frames.clone());
        Lane { shared, frames, to, open, upper, top }
    }

    /// Ends all stages and publishes `last` together with what is not published
    /// yet. Every lane must have been flushed and dropped.
    ///
    /// In a dry run nothing is published, and there is no record.
    ///
    /// # Errors
    ///
    /// The first that any stage met; then `last` is not published.
    pub fn finish(self, last: Vec<EncodedFact>) -> Result<(Option<Published>, Written)> {
        self.finish_chain(last).map(|(published, written, _)| (published, written))
    }

    /// The same, and returns the chain, so that what is published next goes on with it.
    ///
    /// # Errors
    ///
    /// As [`Writer::finish`].
    pub fn finish_chain(
        mut self,
        last: Vec<EncodedFact>,
    ) -> Result<(Option<Published>, Written, Chain)> {
        let mut publishing = self.join()?;
        let written = &mut publishing.written;
        written.chunks_new = self.shared.chunks_new.load(Ordering::Relaxed);
        written.bytes_new = self.shared.bytes_new.load(Ordering::Relaxed);
        written.chunks_known = self.shared.chunks_known.load(Ordering::Relaxed);
        if self.shared.options.dry_run {
            return Ok((None, publishing.written, publishing.chain));
        }
        let published = publishing.publish_waiting(&self.shared, last)?;
        Ok((published, publishing.written, publishing.chain))
    }

    /// Bytes of chunks that the repository did not have, so far.
    #[must_use]
    pub fn bytes_new(&self) -> u64 {
        self.shared.bytes_new.load(Ordering::Relaxed)
    }

    /// Whether a stage failed, so that there is no use in going on.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.shared.is_over()
    }

    fn join(&mut self) -> Result<Publishing> {
        self.frames = None;
        for stage in self.stages.drain(..) {
            if stage.join().is_err() {
                self.shared.fail(Error::Worker("a stage of the writer".into()));
            }
        }
        let publishing = self.publisher.take().map(JoinHandle::join);
        if let Some(error) = lock(&self.shared.failure).take() {
            return Err(error);
        }
        match publishing {
            Some(Ok(publishing)) if !self.shared.stop.is_raised() => Ok(publishing),
            Some(Ok(_)) => Err(Error::Interrupted),
            _ => Err(Error::Worker("the publisher".into())),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.publisher.is_some() {
            self.shared.fail(Error::Interrupted);
            let _ = self.join();
        }
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.stop.is_raised()
    }

    fn check(&self) -> Result<()> {
        // The error itself is returned once, by `finish`.
        if self.is_over() { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn fail(&self, error: Error) {
        let mut failure = lock(&self.failure);
        if failure.is_none() {
            *failure = Some(error);
        }
        self.failed.store(true, Ordering::SeqCst);
    }

    /// Publishes facts, and makes sure that they came in time.
    fn publish(&self, chain: &mut Chain, facts: Vec<EncodedFact>) -> Result<Published> {
        let deadline = self.standing.deadline(self.repo.store_now());
        let published = chain.publish(&self.repo, facts, Some(deadline))?;
        if published.late {
            return Err(Error::Late { what: "what was stored" });
        }
        Ok(published)
    }

    fn keep(&self, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.fail(error);
        }
    }
}

fn compress(
    shared: &Shared,
    raw: &Receiver<RawFrame>,
    packed: &Sender<(Destination, PackedFrame)>,
) {
    let mut compressor = Compressor::new(shared.options.level);
    for frame in raw {
        if shared.is_over() {
            continue;
        }
        let (codec, bytes) = match frame.chunks.len() {
            1 => compressor.pack_long(&frame.plain),
            _ => compressor.pack(&frame.plain),
        };
        let plain_len = u32::try_from(frame.plain.len()).unwrap_or(u32::MAX);
        let packed_frame = PackedFrame { codec, packed: bytes, plain_len, chunks: frame.chunks };
        if packed.send((frame.to, packed_frame)).is_err() {
            break;
        }
    }
}

/// At how many bytes a pack is closed, for packs of about `wanted` bytes in a store
/// that takes at most `most`. One more frame and the directory come on top.
pub(super) fn pack_target(wanted: u64, most: Option<u64>) -> usize {
    const ON_TOP: u64 = 6 << 20;
    let bound = most.map_or(u64::MAX, |most| most.saturating_sub(ON_TOP).max(most / 4));
    usize::try_from(wanted.min(bound)).unwrap_or(1 << 24)
}

fn pack(
    shared: &Shared,
    frames: &Receiver<(Destination, PackedFrame)>,
    built: &Sender<BuiltPack>,
) -> Result<()> {
    let target = pack_target(
        shared.repo.config().parameters.pack_bytes,
        shared.repo.store().object_bytes_max(),
    );
    let mut builders: BTreeMap<Destination, PackBuilder> = BTreeMap::new();
    for (to, frame) in frames {
        if shared.is_over() {
            continue;
        }
        let builder = match builders.entry(to) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(PackBuilder::new(
                to.0,
                shared.repo.config().repository,
                shared.repo.keys().recipient.as_ref(),
                target,
            )?),
        };
        builder.add(frame);
        if builder.is_full(target)
            && let Some(full) = builders.remove(&to)
            && built.send(full.finish()).is_err()
        {
            return Err(Error::Worker("the uploaders".into()));
        }
    }
    if shared.is_over() {
        return Ok(());
    }
    // Data before nodes.
    for builder in builders.into_values() {
        if built.send(builder.finish()).is_err() {
            return Err(Error::Worker("the uploaders".into()));
        }
    }
    Ok(())
}

fn upload(shared: &Shared, built: BuiltPack, stored: &Sender<(PackFact, UnixTime)>) -> Result<()> {
    if shared.is_over() {
        return Ok(());
    }
    let repo = &shared.repo;
    verify_pack(&built, repo.config().repository)?;
    let size = built.fact.size;
    let heard = repo.store_heard();
    let put = repo.store().put_new(&names::pack(built.fact.id), built.bytes)?;
    // One that is there already came by a call whose reply was lost, nobody knows how
    // long ago: not before the store was last heard of.
    let receipt = if put.created { put.receipt } else { put.receipt.min(heard) };
    Progress::add(&shared.progress.bytes_stored, size);
    // If the publisher is gone it has failed, and said so.
    let _ = stored.send((built.fact, receipt));
    Ok(())
}

fn publish(shared: &Shared, chain: Chain, stored: &Receiver<(PackFact, UnixTime)>) -> Publishing {
    let mut publishing = Publishing { chain, waiting: Vec::new(), written: Written::default() };
    for (pack, receipt) in stored {
        shared.repo.note_store_time(receipt);
        shared.standing.on(receipt.seconds);
        publishing.written.packs += 1;
        publishing.written.bytes_stored += pack.size;
        publishing.waiting.push(pack);
        if shared.is_over() {
            continue;
        }
        let outcome = if shared.standing.is_aging(receipt.seconds) {
            publishing.renew(shared)
        } else if is_due(&publishing.waiting, shared.options.packs_per_record) {
            publishing.publish_waiting(shared, Vec::new()).map(|_| ())
        } else {
            Ok(())
        };
        shared.keep(outcome);
    }
    publishing
}

impl Publishing {
    /// Publishes the packs that wait, and `last` in the same record as the last of them.
    fn publish_waiting(
        &mut self,
        shared: &Shared,
        last: Vec<EncodedFact>,
    ) -> Result<Option<Published>> {
        let packs = std::mem::take(&mut self.waiting);
        let chunks: Vec<ChunkId> =
            packs.iter().flat_map(|p| p.directory.chunks.iter().map(|(id, _)| *id)).collect();
        let mut published = None;
        for facts in into_records(pack_facts(packs), last, FACTS_BYTES, FACTS_MAX as usize) {
            published = Some(shared.publish(&mut self.chain, facts)?);
            self.written.records += 1;
        }
        let mut claimed = lock(&shared.claimed);
        for id in chunks {
            claimed.remove(&id);
        }
        Ok(published)
    }

    /// Makes all that the run stands on so far new again: pins what it published and
    /// what it builds on, and looks whether the packs of others still stand.
    fn renew(&mut self, shared: &Shared) -> Result<()> {
        // The packs first: the pin says that they are wanted up to its own record.
        self.publish_waiting(shared, Vec::new())?;
        let mut pins = vec![Pin::Chain(self.chain.id(), self.chain.next())];
        pins.extend(shared.standing.baseline().map(|base| Pin::Snapshot(base.snapshot)));
        let pins = pins.into_iter().map(|pin| EncodedFact::of(&Fact::Pin(pin))).collect();
        let pinned = shared.publish(&mut self.chain, pins)?.receipt.seconds;
        self.written.records += 1;
        if !shared.repo.keys().can_read() {
            // Without a listing nothing is known of packs that other runs stored.
            return shared.standing.renew(pinned, |packs| Ok(packs.is_empty())).map(|_| ());
        }
        let Some(at) = shared.repo.sync(false)?.at else { return Ok(()) };
        let index = shared.repo.index();
        let still = |packs: &HashSet<PackId>| Ok(!index.any_doomed(packs)?);
        match shared.standing.renew(pinned.min(at.seconds), still)? {
            true => Ok(()),
            false => Err(Error::Late { what: "what was stored" }),
        }
    }
}

/// Whether the packs that wait are enough for a record.
fn is_due(waiting: &[PackFact], many: usize) -> bool {
    let chunks: usize = waiting.iter().map(|pack| pack.directory.chunks.len()).sum();
    waiting.len() >= many || chunks >= CHUNKS_MANY
}

fn pack_facts(packs: Vec<PackFact>) -> Vec<EncodedFact> {
    packs.into_iter().map(|pack| EncodedFact::of(&Fact::Pack(Box::new(pack)))).collect()
}

/// Divides facts into records of at most so many bytes and facts, in order. Those of
/// `last` stay together, in the last record.
fn into_records(
    facts: Vec<EncodedFact>,
    last: Vec<EncodedFact>,
    bytes_max: usize,
    facts_max: usize,
) -> Vec<Vec<EncodedFact>> {
    let mut records = Vec::new();
    let mut open: Vec<EncodedFact> = Vec::new();
    let mut size = 0;
    let groups = facts.into_iter().map(|fact| vec![fact]).chain([last]);
    for group in groups.filter(|group| !group.is_empty()) {
        let bytes: usize = group.iter().map(|fact| fact.bytes.len()).sum();
        let exceeds = size + bytes > bytes_max || open.len() + group.len() > facts_max;
        if !open.is_empty() && exceeds {
            records.push(std::mem::take(&mut open));
            size = 0;
        }
        size += bytes;
        open.extend(group);
    }
    if !open.is_empty() {
        records.push(open);
    }
    records
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| Error::Worker(format!("no thread for {name}: {error}")))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PackId;
    use crate::format::pack::Directory;

    /// A record that is too long could not be read: what waits is then told in
    /// several, and the snapshot in the last.
    #[test]
    fn records_stay_within_their_bounds() {
        let facts = |lengths: &[usize]| -> Vec<EncodedFact> {
            lengths.iter().map(|&n| EncodedFact { bytes: vec![0; n] }).collect()
        };
        let divided = |waiting: &[usize], last: &[usize]| -> Vec<Vec<usize>> {
            let records = into_records(facts(waiting), facts(last), 10, 3);
            let lengths =
                |record: &Vec<EncodedFact>| record.iter().map(|f| f.bytes.len()).collect();
            records.iter().map(lengths).collect()
        };
        assert_eq!(divided(&[4, 4], &[2]), [vec![4, 4, 2]]);
        assert_eq!(divided(&[4, 4, 4], &[2]), [vec![4, 4], vec![4, 2]]);
        assert_eq!(divided(&[4, 4], &[3]), [vec![4, 4], vec![3]]);
        assert_eq!(divided(&[1, 1], &[1, 1]), [vec![1, 1], vec![1, 1]]);
        assert_eq!(divided(&[20, 1], &[]), [vec![20], vec![1]]);
        assert_eq!(divided(&[], &[30]), [vec![30]]);
        assert_eq!(divided(&[], &[]), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn many_chunks_are_published_before_many_packs() {
        let pack = |chunks| PackFact {
            id: PackId([1; 32]),
            kind: ChunkKind::Data,
            size: 1,
            key: None,
            directory: Directory {
                frames: Vec::new(),
                chunks: vec![(ChunkId([2; 32]), 1); chunks],
            },
        };
        assert!(!is_due(&[pack(1), pack(CHUNKS_MANY - 2)], 8));
        assert!(is_due(&[pack(1), pack(CHUNKS_MANY - 1)], 8));
        assert!(is_due(&vec![pack(1); 8], 8) && !is_due(&vec![pack(1); 7], 8));
    }

    #[test]
    fn packs_fit_a_store_that_limits_bodies() {
        const MIB: u64 = 1 << 20;
        let target = |most| pack_target(16 * MIB, most) as u64;
        assert_eq!(target(None), 16 * MIB);
        assert_eq!(target(Some(100 * MIB)), 16 * MIB);
        assert_eq!(target(Some(10 * MIB)), 4 * MIB);
        assert_eq!(target(Some(4 * MIB)), MIB);
    }
}
