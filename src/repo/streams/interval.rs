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
use crate::repo::Error;
use crate::repo::library::SnapshotInfo;

/// No stored state is followed by more versions: whoever follows a database stores
/// another long before.
pub(super) const VERSIONS_MAX: usize = 1 << 23;
/// Nor by more states.
const STATES_MAX: usize = 1 << 22;
const TOO_MANY: &str = "too many changes follow a stored state";

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
    /// How many states follow the base.
    states: usize,
    /// Of what segment not all could be taken, and why.
    stopped: Option<(ChunkId, &'static str)>,
}

/// The versions that some segments add, until they are sorted.
#[derive(Default)]
pub(super) struct Added {
    run: Vec<Version>,
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
            states: 0,
            stopped: None,
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
        self.base.saturating_add(u64::from(self.last.step))
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

    /// Adds what a segment leads to, as far as it does so without a hole: of several that one
    /// first which begins first.
    ///
    /// Whoever may publish a source may say what he likes in a segment. Of one that cannot be
    /// right, or leads farther than there is memory for, only that much is taken as is right,
    /// and another that leads to the same states is taken for the rest.
    pub(super) fn add(&mut self, added: &mut Added, row: &SegmentRow, of: (Vec<ChunkId>, Segment)) {
        let (refs, segment) = of;
        if segment.after > self.upto() || segment.last().0 <= self.upto() {
            return;
        }
        let chunk = refs.first().copied().unwrap_or(ChunkId([0; 32]));
        let is_first = self.last.step == 0 && self.pieces.is_empty();
        if !is_first && segment.page_bytes != self.page_bytes {
            self.stopped = Some((chunk, "a segment has pages of another size"));
            return;
        }
        let first = self.pages;
        let pages = u32::try_from(segment.pages()).ok().and_then(|more| first.checked_add(more));
        let Some(pages) = pages.filter(|pages| *pages < NOWHERE) else {
            self.stopped = Some((chunk, TOO_MANY));
            return;
        };
        if is_first {
            let bytes = u64::from(self.first.size) * u64::from(self.page_bytes);
            self.divide(segment.page_bytes, bytes);
        }
        let received = UnixTime::new(row.receipt, 999_999_999);
        let known = self.count();
        let mut states = Vec::new();
        for state in segment.states() {
            if state.position <= self.upto() {
                continue;
            }
            let Ok(step) = u32::try_from(state.position - self.base) else {
                self.stopped = Some((chunk, "a segment is too far from a stored state"));
                break;
            };
            let size = state.change.size;
            // Before any of them is made: a file may lose four thousand million pages.
            let gone = self.last.size.saturating_sub(size) as usize;
            let versions = known + added.run.len() + gone + state.change.pages.len();
            if versions > VERSIONS_MAX || self.states == STATES_MAX {
                self.stopped = Some((chunk, TOO_MANY));
                break;
            }
            let place = first + u32::try_from(state.first_page).unwrap_or(u32::MAX);
            let written = (place..).zip(state.change.numbers());
            added.run.extend(written.map(|(place, page)| Version { page, step, place }));
            let gone = size.saturating_add(1)..=self.last.size;
            added.run.extend(gone.map(|page| Version { page, step, place: NOWHERE }));
            let at = state.at.min(received);
            self.last = StateAt { step, size, at, receipt: UnixTime::new(row.receipt, 0) };
            self.states += 1;
            states.push(self.last);
        }
        if !states.is_empty() {
            self.pages = pages;
            let chunk_pages = segment.chunk_pages;
            self.pieces.push(Arc::new(Piece { first, refs, chunk_pages, states }));
        }
    }

    /// Begins to add segments.
    pub(super) fn begin(&mut self) -> Added {
        self.stopped = None;
        Added::default()
    }

    /// Makes what was added found.
    pub(super) fn finish(&mut self, added: Added) {
        self.add_run(added.run);
    }

    /// Why nothing more is known, if that is because of what a segment says.
    pub(super) fn refusal(&self) -> Option<Error> {
        self.stopped.map(|(chunk, why)| Error::Tree { chunk, why })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{SnapshotId, StreamId, WriterId};
    use crate::format::fact::Snapshot;
    use crate::format::node::{Entry, FileKind, Owner};
    use crate::format::segment::{Change, PAGE_NUMBER_MAX, PAGES};

    const BASE: u64 = 7;
    const PAGE: u32 = 512;

    /// A base of so many pages, received at second 1000.
    fn base(pages: u64) -> Interval {
        let at = UnixTime::new(900, 0);
        let root = Entry::new(b"", FileKind::Dir, 0o700, at);
        let snapshot = Snapshot::new(SnapshotId([1; 16]), "shop", root, Owner::default(), at);
        let (receipt, writer) = (UnixTime::new(1000, 0), WriterId([1; 32]));
        let info = SnapshotInfo { snapshot, refs: Vec::new(), receipt, writer, late: false };
        Interval::new(BASE, &info, pages * u64::from(PAGE))
    }

    /// Changes as (step, size, pages), the first of them after that position.
    fn segment(after: u64, changes: &[(u64, u32, &[u32])]) -> Segment {
        let change = |(step, size, pages): &(u64, u32, &[u32])| Change {
            step: *step,
            delay: 1,
            size: *size,
            pages: pages.to_vec(),
        };
        Segment {
            id: SnapshotId([2; 16]),
            source: "shop".into(),
            stream: StreamId([3; 16]),
            kind: PAGES.into(),
            after,
            begins: UnixTime::new(950, 0),
            within: 0,
            changes: changes.iter().map(change).collect(),
            page_bytes: PAGE,
            chunk_pages: 1,
        }
    }

    fn add(interval: &mut Interval, chunk: u8, segments: Vec<Segment>) {
        let row =
            SegmentRow { receipt: 1000, writer: WriterId([1; 32]), late: false, fact: vec![] };
        let mut added = interval.begin();
        for (number, segment) in segments.into_iter().enumerate() {
            let id = ChunkId([chunk + u8::try_from(number).unwrap(); 32]);
            let refs = vec![id; segment.pages()];
            interval.add(&mut added, &row, (refs, segment));
        }
        interval.finish(added);
    }

    fn chunk_at(interval: &Interval, page: u32, position: u64) -> Option<u8> {
        match interval.place(page, u32::try_from(position - BASE).unwrap()) {
            Place::In { chunk, .. } => Some(chunk.0[0]),
            Place::Base | Place::Nowhere => None,
        }
    }

    /// A file that loses thousands of millions of pages costs no memory, and what came before
    /// is still shown.
    #[test]
    fn a_size_that_no_memory_holds_is_refused_before_it_is_held() {
        let mut interval = base(4);
        let huge = segment(BASE, &[(1, 4, &[1]), (1, PAGE_NUMBER_MAX, &[]), (1, 1, &[])]);
        add(&mut interval, 1, vec![huge]);
        assert_eq!(interval.upto(), BASE + 2);
        assert!(interval.weight() < 10_000);
        assert_eq!(chunk_at(&interval, 1, BASE + 2), Some(1));
        assert!(interval.state(BASE + 3).is_none());
        assert!(interval.refusal().unwrap().to_string().contains("too many changes"));
        // Behind its end is nothing, however far.
        assert_eq!(interval.place(PAGE_NUMBER_MAX, 2), Place::Nowhere);
    }

    /// Of a segment that cannot be right only what is right is taken, and another leads on.
    #[test]
    fn what_is_wrong_in_one_segment_does_not_keep_another_from_leading_on() {
        let far = segment(BASE, &[(1, 4, &[1]), (1 << 40, 4, &[2])]);
        let other = Segment { page_bytes: 1024, ..segment(BASE, &[(1, 4, &[1]), (1, 4, &[1])]) };
        let honest = segment(BASE + 1, &[(1, 4, &[3])]);
        let mut interval = base(4);
        add(&mut interval, 1, vec![far, other, honest]);
        assert_eq!(interval.upto(), BASE + 2);
        assert_eq!(chunk_at(&interval, 1, BASE + 2), Some(1));
        assert_eq!(chunk_at(&interval, 3, BASE + 2), Some(3));
        assert_eq!(interval.place(2, 2), Place::Base);
    }

    /// Segments that overlap, or are there twice, add what is new in them.
    #[test]
    fn segments_that_overlap_lead_on_from_where_the_others_ended() {
        let one = segment(BASE, &[(1, 4, &[1]), (1, 4, &[2])]);
        let more = segment(BASE, &[(1, 4, &[1]), (1, 4, &[2]), (1, 5, &[1, 4])]);
        let hole = segment(BASE + 4, &[(1, 4, &[1])]);
        let mut interval = base(4);
        add(&mut interval, 1, vec![one.clone(), one.clone(), more, hole]);
        assert_eq!((interval.upto(), interval.states), (BASE + 3, 3));
        assert_eq!(chunk_at(&interval, 2, BASE + 3), Some(1));
        assert_eq!(chunk_at(&interval, 1, BASE + 3), Some(3));
        assert_eq!(chunk_at(&interval, 1, BASE + 2), Some(1));
        assert!(interval.refusal().is_none(), "a hole is nobody's fault");
        let before = interval.weight();
        add(&mut interval, 9, vec![one]);
        assert_eq!(interval.weight(), before, "and what is known is not added again");
    }

    /// Positions and times at the ends of what numbers hold.
    #[test]
    fn nothing_overflows() {
        let mut interval = base(4);
        interval.base = i64::MAX as u64;
        let begins = UnixTime::new(i64::MAX, 999_999_999);
        let last = Segment { begins, ..segment(i64::MAX as u64, &[(u64::MAX, 4, &[1])]) };
        add(&mut interval, 1, vec![last]);
        assert_eq!(interval.upto(), i64::MAX as u64);
        assert!(interval.refusal().is_some());
        let mut interval = base(4);
        let begins = UnixTime::new(i64::MIN, 0);
        let mut first = Segment { begins, ..segment(BASE, &[(1, 4, &[1]), (1, 4, &[1])]) };
        first.changes[1].delay = u64::MAX;
        add(&mut interval, 1, vec![first]);
        assert_eq!(interval.state(BASE + 1).unwrap().at.seconds, i64::MIN);
        // No clock puts a state behind its receipt.
        assert!(interval.state(BASE + 2).unwrap().at <= UnixTime::new(1000, 999_999_999));
    }
}
