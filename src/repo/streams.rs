//! States of streams, as snapshots that nobody stored.
//!
//! A database that is followed has a state for each transaction. Few of them are stored
//! whole; any other is the last one that is, with the pages that changed since. Nothing
//! above this module knows of that: a state goes by a snapshot's id, its directory by a
//! node's, its files by those of lists of extents, and all three say which state is
//! meant, so none of them is kept anywhere (`ids`).
//!
//! A state's directory has the database twice: under its own name with two bytes of its
//! header changed, which say that it is not in write-ahead mode, so that it can be opened
//! where nobody may write; and as it was, with `.raw` behind the name.
//!
//! A read costs the pages that it touches: each is looked up among the versions since the
//! base (`find`, `interval`) and read out of the segment that has it, or out of the base.

mod find;
mod ids;
mod interval;
pub mod reach;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

pub use self::find::decode;
use self::find::{Known, Line};
use self::ids::{Part, part_id, part_of};
pub use self::ids::{StateFile, is_state_dir, state_id};
use self::interval::Place;
pub use self::reach::{Reach, count_shown};
use crate::base::{ChunkId, SnapshotId, StreamId, UnixTime};
use crate::cache::MemoryCache;
use crate::codec::hash::ChunkKind;
use crate::format::extents::Content;
use crate::format::fact::{Links, Snapshot};
use crate::format::node::{Entry, Leaf, Node, Subtree};
use crate::format::segment::StreamPoint;
use crate::repo::library::{FileContent, Library, LoadedNode, Moment, SnapshotInfo, Whence};
use crate::repo::reader::Reader;
use crate::repo::{Error, Repository, Result};

/// What is behind the name of the file as it was.
const RAW: &[u8] = b".raw";
/// The most memory for versions of pages. Bytes.
const VERSIONS_BYTES: usize = 24 << 20;
/// So many states are remembered with what they are made of.
const STATES: usize = 1024;

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
