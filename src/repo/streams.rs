//! States of streams, as snapshots that nobody stored.
//!
//! A database that is followed has a state for each transaction. Few of them are stored
//! whole; any other is the last one that is, with the pages that changed since. Nothing
//! above this module knows of that: a state goes by a snapshot's id, its directory by a
//! node's, its files by those of lists of extents, and all three say which state is
//! meant, so none of them is kept anywhere.
//!
//! ```text
//! id of a state        name of its source's stream (8) ‖ position (8)
//! id of a part of it   tag (8) ‖ id of the state (16) ‖ 0 … ‖ which part (1)
//! ```
//!
//! A real snapshot's id is random and a chunk's a hash, so neither is taken for one of
//! these, and none of these is looked for in a pack. The name is a hash, so that nobody
//! makes a stream that goes by the name of another one.
//!
//! A state's directory has the database twice: under its own name with two bytes of its
//! header changed, which say that it is not in write-ahead mode, so that it can be opened
//! where nobody may write; and as it was, with `.raw` behind the name.
//!
//! A read costs the pages that it touches: each is looked up among the versions since the
//! base (`interval`) and read out of the segment that has it, or out of the base.

mod interval;
pub mod reach;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use self::interval::{Interval, Place};
pub use self::reach::{Reach, count_shown};
use crate::base::{ChunkId, SnapshotId, StreamId, UnixTime};
use crate::cache::MemoryCache;
use crate::codec::hash::ChunkKind;
use crate::format::extents::Content;
use crate::format::fact::{Fact, Links, Snapshot};
use crate::format::node::{Entry, FileKind, Leaf, Node, Owner, Subtree};
use crate::format::segment::{Segment, StreamPoint};
use crate::index::{self, BaseRow, SegmentRow};
use crate::repo::browse;
use crate::repo::library::{FileContent, Library, LoadedNode, Moment, SnapshotInfo, Whence};
use crate::repo::reader::Reader;
use crate::repo::{Error, Repository, Result};

/// What makes a part of a state known from a chunk.
const TAG: [u8; 8] = *b"asof\0\0at";
/// What is behind the name of the file as it was.
const RAW: &[u8] = b".raw";
/// The most memory for versions of pages. Bytes.
const VERSIONS_BYTES: usize = 24 << 20;
/// So many states are remembered with what they are made of.
const STATES: usize = 1024;

/// A part of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Its directory.
    Dir = 0,
    /// The database, to be opened where it is.
    File = 1,
    /// The database as it was.
    Raw = 2,
}

/// The id of a state.
#[must_use]
pub fn state_id(source: &str, stream: &StreamId, position: u64) -> SnapshotId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&index::stream_name(source, stream));
    id[8..].copy_from_slice(&position.to_be_bytes());
    SnapshotId(id)
}

fn part_id(state: &SnapshotId, part: Part) -> ChunkId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&TAG);
    id[8..24].copy_from_slice(&state.0);
    id[31] = part as u8;
    ChunkId(id)
}

fn part_of(id: &ChunkId) -> Option<(SnapshotId, Part)> {
    let state = SnapshotId::from_slice(&id.0[8..24])?;
    let part = match id.0[31] {
        0 => Part::Dir,
        1 => Part::File,
        2 => Part::Raw,
        _ => return None,
    };
    (id.0[..8] == TAG && *id == part_id(&state, part)).then_some((state, part))
}

/// A file of a state, if a content is one.
#[derive(Debug, Clone, Copy)]
pub struct StateFile {
    state: SnapshotId,
    raw: bool,
}

impl StateFile {
    /// The file that a content is.
    #[must_use]
    pub fn of(content: &FileContent) -> Option<StateFile> {
        let FileContent::Tree(id, _) = content else { return None };
        let (state, part) = part_of(id)?;
        Some(StateFile { state, raw: part == Part::Raw })
    }
}

/// Whether a node's id is that of a state's directory.
#[must_use]
pub fn is_state_dir(id: &ChunkId) -> bool {
    matches!(part_of(id), Some((_, Part::Dir)))
}

/// The last state that is stored whole before others.
#[derive(Debug)]
struct Base {
    info: Arc<SnapshotInfo>,
    /// The database.
    file: Entry,
    content: FileContent,
    owner: Owner,
}

/// All that was found out about a state.
#[derive(Debug)]
struct Known {
    base: Arc<Base>,
    interval: Arc<Interval>,
    step: u32,
    at: UnixTime,
    /// When the store received what it takes.
    receipt: UnixTime,
    /// Pages.
    size: u32,
}

/// A base and how far its versions are known.
type Line = (Arc<Base>, Arc<Interval>);

/// The states of all streams of a repository. Shared by many threads.
pub struct States {
    repo: Arc<Repository>,
    /// By the snapshot that is the base.
    lines: MemoryCache<SnapshotId, Line>,
    /// The one that was used last, however heavy it is.
    last: Mutex<Option<(SnapshotId, Line)>>,
    /// Which bases are timely, for their own state or for what follows.
    timely: MemoryCache<(SnapshotId, bool), bool>,
    known: MemoryCache<SnapshotId, Arc<Known>>,
}

impl States {
    /// Those of a repository. Costs nothing.
    #[must_use]
    pub fn new(repo: &Arc<Repository>) -> States {
        States {
            repo: Arc::clone(repo),
            lines: MemoryCache::new(VERSIONS_BYTES),
            last: Mutex::default(),
            timely: MemoryCache::new(STATES),
            known: MemoryCache::new(STATES),
        }
    }

    /// Forgets what was found out: some of it may not be so any more.
    pub fn clear(&self) {
        self.lines.clear();
        self.timely.clear();
        self.known.clear();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The last state of a source at or before an instant.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] if the index cannot be read.
    pub fn at(&self, source: &str, at: UnixTime) -> Result<Option<Moment>> {
        let index = self.repo.index();
        let moment = |stream: &StreamId, position, taken, receipt| Moment {
            id: state_id(source, stream, position),
            source: source.to_owned(),
            taken,
            receipt: UnixTime::new(receipt, 0),
        };
        // What is stored whole is a state as well, and the first of each stream.
        let mut found: Option<(UnixTime, u64, Moment)> = None;
        for base in index.bases_until(source, at)? {
            let taken = base.taken.min(UnixTime::new(base.receipt, 999_999_999));
            let newer = found.as_ref().is_none_or(|best| (best.0, best.1) < (taken, base.position));
            if taken <= at && newer {
                let state = moment(&base.stream, base.position, taken, base.receipt);
                found = Some((taken, base.position, state));
            }
        }
        let mut nth = 0;
        while let Some(row) = index.segment_at(source, at, nth)? {
            nth += 1;
            let (_, segment) = decode(&self.repo, &row)?;
            let received = UnixTime::new(row.receipt, 999_999_999);
            let last = segment.states().take_while(|state| state.at.min(received) <= at).last();
            let Some(state) = last else { continue };
            if index.is_overruled(row.number, state.position)? {
                continue;
            }
            let taken = state.at.min(received);
            // Another stream begins after the one before.
            if found.as_ref().is_none_or(|best| best.0 <= taken) {
                return Ok(Some(moment(&segment.stream, state.position, taken, row.receipt)));
            }
            break;
        }
        Ok(found.map(|(_, _, moment)| moment))
    }

    /// The last state of each source that has one.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] if the index cannot be read.
    pub fn newest(&self) -> Result<Vec<Moment>> {
        let mut newest = Vec::new();
        for source in self.repo.index().stream_sources()? {
            newest.extend(self.at(&source, UnixTime::new(i64::MAX, 0))?);
        }
        Ok(newest)
    }

    /// When the last state of each segment was seen.
    ///
    /// # Errors
    ///
    /// [`Error::Index`] if the index cannot be read.
    pub fn instants(&self) -> Result<Vec<UnixTime>> {
        let mut instants = Vec::new();
        for source in self.repo.index().stream_sources()? {
            let spans = self.repo.index().segment_spans(&source)?;
            instants.extend(spans.iter().map(|span| span.ends));
        }
        Ok(instants)
    }

    /// The state as a snapshot; none if the id is not that of a state, or nothing leads to it.
    ///
    /// # Errors
    ///
    /// [`Error`] if what it is made of cannot be read.
    pub fn snapshot(
        &self,
        library: &dyn Library,
        id: &SnapshotId,
    ) -> Result<Option<Arc<SnapshotInfo>>> {
        let Some(known) = self.find(library, id)? else { return Ok(None) };
        let base = &known.base;
        let bytes = known.bytes();
        let point = base.info.snapshot.point.as_ref();
        let root = Entry {
            mtime: known.at,
            ctime: known.at,
            subtree: Some(Subtree {
                node: 0,
                entries: 2,
                bytes: bytes.saturating_mul(2),
                ..Subtree::default()
            }),
            ..base.info.snapshot.root.clone()
        };
        let snapshot = Snapshot {
            id: *id,
            started: known.at,
            taken: known.at,
            root,
            links: Links::Inline(Vec::new()),
            point: point.map(|point| StreamPoint {
                position: point.position.saturating_add(known.step.into()),
                ..point.clone()
            }),
            ..base.info.snapshot.clone()
        };
        Ok(Some(Arc::new(SnapshotInfo {
            snapshot,
            refs: vec![part_id(id, Part::Dir)],
            receipt: known.receipt,
            writer: base.info.writer,
            late: base.info.late,
        })))
    }

    /// The directory of a state, by its node's id.
    ///
    /// # Errors
    ///
    /// [`Error::ChunkMissing`] if there is no such state.
    pub fn dir(&self, library: &dyn Library, id: &ChunkId) -> Result<Arc<LoadedNode>> {
        let missing = || Error::ChunkMissing { chunk: *id };
        let (state, _) = part_of(id).ok_or_else(missing)?;
        let known = self.find(library, &state)?.ok_or_else(missing)?;
        let file = Entry {
            mtime: known.at,
            ctime: known.at,
            size: known.bytes(),
            owner: 0,
            link: None,
            sha256: None,
            content: Some(Content::Tree(0)),
            holes: 0,
            ..known.base.file.clone()
        };
        let name = [file.name.as_slice(), RAW].concat().into();
        let raw = Entry { name, content: Some(Content::Tree(1)), ..file.clone() };
        let leaf = Leaf { entries: vec![file, raw], owners: vec![known.base.owner.clone()] };
        Ok(Arc::new(LoadedNode {
            refs: vec![part_id(&state, Part::File), part_id(&state, Part::Raw)],
            node: Node::Leaf(leaf),
            weight: 1024,
        }))
    }

    /// Bytes of a file of a state: exactly `length`, or fewer if it ends before.
    ///
    /// # Errors
    ///
    /// [`Error::ChunkMissing`] if there is no such state, and those of [`Reader::chunk`].
    pub fn read(
        &self,
        library: &dyn Library,
        reader: &Reader,
        file: StateFile,
        offset: u64,
        length: usize,
    ) -> Result<Bytes> {
        let known = self.file(library, file)?;
        let page_bytes = u64::from(known.interval.page_bytes);
        let end = known.bytes().min(offset.saturating_add(length as u64));
        let mut out = BytesMut::new();
        let mut at = offset;
        while at < end {
            let place = known.place(at / page_bytes);
            // Pages of the base that lie beside each other come at once.
            let mut upto = end.min((at / page_bytes + 1) * page_bytes);
            while place == Place::Base && upto < end && known.place(upto / page_bytes) == place {
                upto = end.min(upto + page_bytes);
            }
            let wanted = usize::try_from(upto - at).unwrap_or(usize::MAX);
            match place {
                Place::Base => {
                    let bytes = reader.read(&known.base.content, at, wanted, false)?;
                    out.extend_from_slice(&bytes);
                    // Behind its end is what was never written: zeros.
                    out.resize(out.len() + wanted - bytes.len(), 0);
                }
                Place::Nowhere => out.resize(out.len() + wanted, 0),
                Place::In { chunk, offset: within } => {
                    let bytes = reader.chunk(ChunkKind::Data, &chunk)?;
                    let from = within + usize::try_from(at % page_bytes).unwrap_or(usize::MAX);
                    let page = bytes.get(from..from.saturating_add(wanted));
                    let why = "a chunk of a segment holds fewer pages than it should";
                    out.extend_from_slice(page.ok_or(Error::Tree { chunk, why })?);
                }
            }
            at = upto;
        }
        if !file.raw {
            open_in_place(&mut out, offset);
        }
        Ok(out.freeze())
    }

    /// Where the next data or hole begins: there are no holes.
    ///
    /// # Errors
    ///
    /// As [`States::read`].
    pub fn seek(
        &self,
        library: &dyn Library,
        file: StateFile,
        offset: u64,
        whence: Whence,
    ) -> Result<Option<u64>> {
        let size = self.file(library, file)?.bytes();
        let found = if whence == Whence::Data { offset } else { size };
        Ok((offset < size).then_some(found))
    }

    /// The file in the base that a file of a state was made from.
    ///
    /// # Errors
    ///
    /// As [`States::read`].
    pub fn base_content(&self, library: &dyn Library, file: StateFile) -> Result<FileContent> {
        Ok(self.file(library, file)?.base.content.clone())
    }

    fn file(&self, library: &dyn Library, file: StateFile) -> Result<Arc<Known>> {
        let missing = || Error::ChunkMissing { chunk: part_id(&file.state, Part::File) };
        self.find(library, &file.state)?.ok_or_else(missing)
    }

    fn find(&self, library: &dyn Library, id: &SnapshotId) -> Result<Option<Arc<Known>>> {
        if let Some(known) = self.known.get(id) {
            return Ok(Some(known));
        }
        let (Some(beginning), Some(position)) = (id.0.first_chunk(), id.0.last_chunk()) else {
            return Ok(None);
        };
        let position = u64::from_be_bytes(*position);
        let Some((source, stream)) = self.repo.index().stream_of(beginning)? else {
            return Ok(None);
        };
        let stream = (source.as_str(), &stream);
        let bases = self.repo.index().bases(stream.0, stream.1)?;
        let before = bases.partition_point(|base| base.position <= position);
        // The last that nothing received earlier leads over; if it does not lead here, the last.
        let mut timely = None;
        for base in bases[..before].iter().rev() {
            if self.is_timely(stream, base, base.position == position)? {
                timely = Some(base);
                break;
            }
        }
        let last = bases[..before].last().filter(|last| Some(*last) != timely);
        let mut refusal = None;
        for base in timely.into_iter().chain(last) {
            let line = self.line(library, stream, base, &bases, position)?;
            let Some((base, interval)) = line else { continue };
            let Some(state) = interval.state(position) else {
                let told = interval.refusal().filter(|_| !interval.reaches(position));
                refusal = refusal.or(told);
                continue;
            };
            let known = Arc::new(Known {
                at: state.at,
                receipt: state.receipt,
                size: state.size,
                step: state.step,
                base,
                interval,
            });
            self.known.put(*id, Arc::clone(&known), 1);
            return Ok(Some(known));
        }
        refusal.map_or(Ok(None), Err)
    }

    fn is_timely(&self, stream: (&str, &StreamId), base: &BaseRow, itself: bool) -> Result<bool> {
        let key = (base.snapshot, itself);
        if let Some(known) = self.timely.get(&key) {
            return Ok(known);
        }
        let timely = self.repo.index().is_timely(stream, base, itself)?;
        self.timely.put(key, timely, 1);
        Ok(timely)
    }

    /// A base with the versions of pages after it, at least as far as that position if
    /// segments lead there.
    fn line(
        &self,
        library: &dyn Library,
        stream: (&str, &StreamId),
        row: &BaseRow,
        bases: &[BaseRow],
        position: u64,
    ) -> Result<Option<Line>> {
        let before = self.lines.get(&row.snapshot).or_else(|| {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            last.as_ref().filter(|last| last.0 == row.snapshot).map(|last| last.1.clone())
        });
        let (base, mut interval) = match before {
            Some((base, interval)) if interval.reaches(position) => {
                return Ok(Some((base, interval)));
            }
            Some((base, interval)) => (base, interval.as_ref().clone()),
            None => match self.base(library, stream, row)? {
                Some(base) => {
                    let interval = Interval::new(row.position, &base.info, base.file.size);
                    (Arc::new(base), interval)
                }
                None => return Ok(None),
            },
        };
        // States behind the next base are made from that.
        let mut upto = u64::MAX;
        for next in bases.iter().filter(|next| next.position > row.position) {
            if self.is_timely(stream, next, false)? {
                upto = next.position;
                break;
            }
        }
        let mut added = interval.begin();
        self.repo.index().each_in_line(stream, (interval.upto(), upto), |row| {
            // One at a time: decoded, they are many times as large as what is kept of them.
            interval.add(&mut added, &row, decode(&self.repo, &row)?);
            Ok::<(), Error>(())
        })?;
        interval.finish(added);
        let line = (base, Arc::new(interval));
        self.lines.put(row.snapshot, line.clone(), line.1.weight());
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((row.snapshot, line.clone()));
        Ok(Some(line))
    }

    /// A stored state: a snapshot with one file in it.
    fn base(
        &self,
        library: &dyn Library,
        (source, stream): (&str, &StreamId),
        row: &BaseRow,
    ) -> Result<Option<Base>> {
        let Some(info) = self.repo.snapshot(&row.snapshot)? else { return Ok(None) };
        // Somebody may have published its id again, as another state.
        let is_it = info.snapshot.source == source
            && info
                .snapshot
                .point
                .as_ref()
                .is_some_and(|point| point.stream == *stream && point.position == row.position);
        if !is_it {
            return Ok(None);
        }
        let root = browse::Found::root(&info);
        let chunk = info.refs.first().copied().unwrap_or(ChunkId([0; 32]));
        let contradiction = |why| Error::Tree { chunk, why };
        let dir = root.dir().ok_or_else(|| contradiction("a directory names no node"))?;
        let mut file = None;
        browse::each_entry(library, dir, |found| {
            file = Some(found);
            Ok::<_, Error>(std::ops::ControlFlow::<()>::Continue(()))
        })?;
        let file = file.filter(|found| found.entry().kind == FileKind::File);
        let file = file.ok_or_else(|| contradiction("a state of a stream holds no database"))?;
        Ok(Some(Base {
            file: file.entry().clone(),
            content: file.content(),
            owner: file.owner(),
            info,
        }))
    }
}

impl Known {
    fn bytes(&self) -> u64 {
        u64::from(self.size) * u64::from(self.interval.page_bytes)
    }

    /// Where the page at that place in the file is, counted from 0.
    fn place(&self, page: u64) -> Place {
        self.interval.place(u32::try_from(page + 1).unwrap_or(u32::MAX), self.step)
    }
}

/// Decodes a segment's row.
///
/// # Errors
///
/// [`Error::Index`] if it does not decode.
pub fn decode(repo: &Repository, row: &SegmentRow) -> Result<(Vec<ChunkId>, Segment)> {
    match Fact::decode(&row.fact) {
        Ok((refs, Fact::Segment(segment))) => Ok((refs, *segment)),
        _ => Err(Error::Index(index::Error::Corrupt {
            path: repo.index().path().to_owned(),
            what: "a segment's row does not decode".into(),
        })),
    }
}

/// Says in a database's header, of which `bytes` begin at `offset`, that it is not in
/// write-ahead mode: so it can be read without files beside it.
fn open_in_place(bytes: &mut BytesMut, offset: u64) {
    const WAL: u8 = 2;
    const ROLLBACK: u8 = 1;
    for place in [18, 19] {
        let at = u64::checked_sub(place, offset).and_then(|at| usize::try_from(at).ok());
        if let Some(byte) = at.and_then(|at| bytes.get_mut(at))
            && *byte == WAL
        {
            *byte = ROLLBACK;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_known_from_its_id_alone() {
        let state = state_id("shop", &StreamId([7; 16]), 12345);
        for part in [Part::Dir, Part::File, Part::Raw] {
            assert_eq!(part_of(&part_id(&state, part)), Some((state, part)));
        }
        for wrong in [0, 24, 30, 31] {
            let mut id = part_id(&state, Part::File);
            id.0[wrong] ^= 0x40;
            assert_eq!(part_of(&id), None, "byte {wrong}");
        }
    }

    #[test]
    fn only_a_header_that_says_so_is_changed_and_only_where_it_is_read() {
        let patched = |from: u64, bytes: &[u8]| {
            let mut bytes = BytesMut::from(bytes);
            open_in_place(&mut bytes, from);
            bytes.to_vec()
        };
        assert_eq!(patched(17, &[2, 2, 2, 2]), [2, 1, 1, 2]);
        assert_eq!(patched(19, &[2, 2]), [1, 2]);
        assert_eq!(patched(20, &[2, 2]), [2, 2]);
        assert_eq!(patched(18, &[9, 1]), [9, 1]);
    }
}
