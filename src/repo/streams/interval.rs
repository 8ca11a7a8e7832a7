//! The versions of pages between one stored state and the next.
//!
//! For every page the changes are known that wrote it, so its content at any state is
//! found by a search in memory: the last version at or before that state, or none, when
//! it is as it was in the base. 12 bytes a version, 32 a state.
//!
//! Versions lie in runs, sorted by page and then by state, each run after the one before
//! in time. What a stream has gained since is a new run; runs of like length are merged, so
//! there are few of them, and following a live stream does not sort everything again.
//!
//! Pages that a state no longer has are versions too, of nowhere: when the file grows
//! again without writing them, they are zeros and not what they were.

use std::sync::Arc;

use crate::base::{ChunkId, UnixTime};
use crate::format::segment::Segment;
use crate::index::SegmentRow;
use crate::repo::library::SnapshotInfo;

/// No stored state is followed by more versions: whoever follows a database stores
/// another long before.
pub(super) const VERSIONS_MAX: usize = 1 << 23;

/// Where a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the base, where it always was.
    Base,
    /// It was never written: zeros.
    Nowhere,
    /// In a segment.
    In { chunk: ChunkId, offset: usize },
}

/// A page as one change left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    page: u32,
    step: u32,
    /// Which page of all segments; or [`NOWHERE`].
    place: u32,
}

const NOWHERE: u32 = u32::MAX;
const TOO_MANY: &str = "too many changes follow a stored state";

/// A state: how many positions behind the base, what it holds, and when it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StateAt {
    pub(super) step: u32,
    /// Pages.
    pub(super) size: u32,
    pub(super) at: UnixTime,
    pub(super) receipt: UnixTime,
}

/// A segment's pages and states.
#[derive(Debug)]
struct Piece {
    /// How many pages lie in the segments before.
    first: u32,
    refs: Vec<ChunkId>,
    chunk_pages: u32,
    states: Vec<StateAt>,
}

/// What follows one stored state.
#[derive(Debug, Clone)]
pub(super) struct Interval {
    base: u64,
    pub(super) page_bytes: u32,
    /// How many pages lie in all segments.
    pages: u32,
    last: StateAt,
    first: StateAt,
    runs: Vec<Arc<[Version]>>,
    pieces: Vec<Arc<Piece>>,
}

impl Interval {
    /// The base alone.
    pub(super) fn new(base: u64, info: &SnapshotInfo, bytes: u64) -> Interval {
        let state = StateAt { step: 0, size: 0, at: info.shown_from(), receipt: info.receipt };
        let mut interval = Interval {
            base,
            // Of a base that nothing follows it does not matter how it is divided.
            page_bytes: 512,
            pages: 0,
            last: state,
            first: state,
            runs: Vec::new(),
            pieces: Vec::new(),
        };
        interval.divide(512, bytes);
        interval
    }

    fn divide(&mut self, page_bytes: u32, bytes: u64) {
        self.page_bytes = page_bytes;
        self.first.size = u32::try_from(bytes / u64::from(page_bytes)).unwrap_or(u32::MAX);
        if self.last.step == 0 {
            self.last.size = self.first.size;
        }
    }

    /// The position of the last state that is known.
    pub(super) fn upto(&self) -> u64 {
        self.base + u64::from(self.last.step)
    }

    /// Whether all is known that leads to a position.
    pub(super) fn reaches(&self, position: u64) -> bool {
        position <= self.upto()
    }

    /// About how much memory it takes. Bytes.
    pub(super) fn weight(&self) -> usize {
        let versions: usize = self.runs.iter().map(|run| run.len()).sum();
        let pieces = self.pieces.iter();
        let states: usize =
            pieces.map(|piece| 96 + 32 * piece.refs.len() + 40 * piece.states.len()).sum();
        256 + 12 * versions + states
    }

    /// Adds what these segments lead to, of each one the states behind those before: they are
    /// in the order in which they lead on, without a hole. Says why if not all of it can be
    /// shown; what leads there stays.
    pub(super) fn extend(
        &mut self,
        segments: Vec<(SegmentRow, Vec<ChunkId>, Segment)>,
    ) -> Result<(), &'static str> {
        let mut run: Vec<Version> = Vec::new();
        let mut all = Ok(());
        for (row, refs, segment) in segments {
            all = self.add(&row, refs, &segment, &mut run);
            if all.is_err() {
                break;
            }
        }
        self.add_run(run);
        all
    }

    fn add(
        &mut self,
        row: &SegmentRow,
        refs: Vec<ChunkId>,
        segment: &Segment,
        run: &mut Vec<Version>,
    ) -> Result<(), &'static str> {
        if segment.after > self.upto() {
            return Err("a segment begins behind a hole");
        }
        if self.last.step == 0 && self.pieces.is_empty() {
            let bytes = u64::from(self.first.size) * u64::from(self.page_bytes);
            self.divide(segment.page_bytes, bytes);
        } else if segment.page_bytes != self.page_bytes {
            return Err("a segment has pages of another size");
        }
        let first = self.pages;
        self.pages = u32::try_from(segment.pages())
            .ok()
            .and_then(|pages| first.checked_add(pages))
            .filter(|pages| *pages < NOWHERE)
            .ok_or(TOO_MANY)?;
        let received = UnixTime::new(row.receipt, 999_999_999);
        let (mut states, mut all) = (Vec::new(), Ok(()));
        for state in segment.states() {
            if state.position <= self.upto() {
                continue;
            }
            let size = state.change.size;
            let gone = size.saturating_add(1)..=self.last.size;
            let more = state.change.pages.len() + self.last.size.saturating_sub(size) as usize;
            let step = u32::try_from(state.position - self.base).ok();
            let Some(step) = step.filter(|_| self.count() + run.len() + more <= VERSIONS_MAX)
            else {
                all = Err(TOO_MANY);
                break;
            };
            let place = first + u32::try_from(state.first_page).unwrap_or(u32::MAX);
            run.extend((place..).zip(state.change.numbers()).map(|(place, page)| Version {
                page,
                step,
                place,
            }));
            run.extend(gone.map(|page| Version { page, step, place: NOWHERE }));
            let at = state.at.min(received);
            self.last = StateAt { step, size, at, receipt: UnixTime::new(row.receipt, 0) };
            states.push(self.last);
        }
        if states.is_empty() {
            self.pages = first;
        } else {
            let chunk_pages = segment.chunk_pages;
            self.pieces.push(Arc::new(Piece { first, refs, chunk_pages, states }));
        }
        all
    }

    fn count(&self) -> usize {
        self.runs.iter().map(|run| run.len()).sum()
    }

    fn add_run(&mut self, mut run: Vec<Version>) {
        while let Some(before) = self.runs.last()
            && before.len() <= 2 * run.len()
        {
            run.extend_from_slice(before);
            self.runs.pop();
        }
        if !run.is_empty() {
            run.sort_unstable();
            self.runs.push(run.into());
        }
    }

    /// The state at just that position, if there is one.
    pub(super) fn state(&self, position: u64) -> Option<StateAt> {
        let step = u32::try_from(position.checked_sub(self.base)?).ok()?;
        if step == 0 {
            return Some(self.first);
        }
        let after = self
            .pieces
            .partition_point(|piece| piece.states.last().is_none_or(|state| state.step < step));
        let states = &self.pieces.get(after)?.states;
        let found = states.binary_search_by_key(&step, |state| state.step).ok()?;
        states.get(found).copied()
    }

    /// Where a page, counted from 1, is at a state.
    pub(super) fn place(&self, page: u32, step: u32) -> Place {
        for run in self.runs.iter().rev() {
            let after = run.partition_point(|version| (version.page, version.step) <= (page, step));
            let found = after.checked_sub(1).and_then(|at| run.get(at));
            if let Some(version) = found.filter(|version| version.page == page) {
                return self.in_segment(version.place);
            }
        }
        if page > self.first.size { Place::Nowhere } else { Place::Base }
    }

    fn in_segment(&self, place: u32) -> Place {
        if place == NOWHERE {
            return Place::Nowhere;
        }
        let after = self.pieces.partition_point(|piece| piece.first <= place);
        let Some(piece) = after.checked_sub(1).and_then(|at| self.pieces.get(at)) else {
            return Place::Nowhere;
        };
        let within = place - piece.first;
        match piece.refs.get((within / piece.chunk_pages) as usize) {
            Some(chunk) => {
                let offset = (within % piece.chunk_pages) as usize * self.page_bytes as usize;
                Place::In { chunk: *chunk, offset }
            }
            None => Place::Nowhere,
        }
    }
}
