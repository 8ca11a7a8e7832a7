//! Segments: the changes of a stream, one after the other.
//!
//! A stream is a database that is followed: an unbroken line of states, numbered from
//! 0, each of which one committed change made of the one before. A state's number is
//! its position. Some states are stored whole, as snapshots; the changes between them
//! lie in segments, many in one, since neighbouring changes resemble each other and
//! compress together a hundred times better than each by itself.
//!
//! What is here says *which* change did what and when, so that every state can be
//! listed, and a page of any state found, without reading content. The content, the
//! new pages one behind the other, is in chunks that the fact refers to.

use minicbor::{Decode, Encode};

use crate::base::{SnapshotId, StreamId, UnixTime};
use crate::format::FormatError;
use crate::format::fact::is_source_name;

/// The kind of segments whose changes are pages of one file.
pub const PAGES: &str = "pages";
/// A segment has at most so many pages, and so many changes.
pub const SEGMENT_PAGES_MAX: usize = 1 << 22;
/// The greatest number that a page can have: SQLite's.
pub const PAGE_NUMBER_MAX: u32 = 4_294_967_294;

/// The greatest position in a stream.
pub const POSITION_MAX: u64 = i64::MAX as u64;

/// Changes of a stream, in order.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Segment {
    /// Its own id. It is forgotten by it, as a snapshot is.
    #[n(0)]
    pub id: SnapshotId,
    /// Of which source.
    #[n(1)]
    pub source: String,
    /// Of which stream.
    #[n(2)]
    pub stream: StreamId,
    /// How to understand the changes: [`PAGES`].
    #[n(3)]
    pub kind: String,
    /// The state that the first change was made to.
    #[n(4)]
    pub after: u64,
    /// The time that the first change's counts from.
    #[n(5)]
    pub begins: UnixTime,
    /// A change was committed at most so long before its time. Nanoseconds.
    #[n(6)]
    pub within: u64,
    /// The changes.
    #[n(7)]
    pub changes: Vec<Change>,
    /// How large a page is. Bytes.
    #[n(8)]
    pub page_bytes: u32,
    /// How many pages each chunk holds; the last may hold fewer.
    #[n(9)]
    pub chunk_pages: u32,
}

/// One change, or several that are kept as one.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Change {
    /// By how much its state's position is greater than the one before it: more than 1 if
    /// the states between are not kept.
    #[n(0)]
    pub step: u64,
    /// How long after the one before it was seen, at least 1 but for a segment's first.
    /// Nanoseconds.
    #[n(1)]
    pub delay: u64,
    /// How many pages the file has afterwards.
    #[n(2)]
    pub size: u32,
    /// The pages that it wrote, ascending: the first one's number, counted from 1, then how
    /// much greater each is than the one before.
    #[n(3)]
    pub pages: Vec<u32>,
}

impl Change {
    /// The numbers of its pages, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.pages.iter().scan(0_u32, |at, step| {
            *at = at.saturating_add(*step);
            Some(*at)
        })
    }
}

/// A state that a segment leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State<'a> {
    /// Its position.
    pub position: u64,
    /// When the change was seen that made it.
    pub at: UnixTime,
    /// The change.
    pub change: &'a Change,
    /// Where the change's pages begin among all of the segment.
    pub first_page: usize,
}

impl Segment {
    /// The states that it leads to, in order.
    pub fn states(&self) -> impl Iterator<Item = State<'_>> {
        let (mut position, mut at, mut first_page) = (self.after, self.begins, 0);
        self.changes.iter().map(move |change| {
            position = position.saturating_add(change.step);
            at = at.plus(std::time::Duration::from_nanos(change.delay));
            let state = State { position, at, change, first_page };
            first_page += change.pages.len();
            state
        })
    }

    /// How many pages it holds.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.changes.iter().map(|change| change.pages.len()).sum()
    }

    /// The last state that it leads to: its position, and when it was seen.
    #[must_use]
    pub fn last(&self) -> (u64, UnixTime) {
        self.states().last().map_or((self.after, self.begins), |state| (state.position, state.at))
    }

    pub(super) fn check(&self, refs: usize) -> Result<(), FormatError> {
        let wrong = |why: &str| Err(FormatError::malformed("segment", why));
        if !is_source_name(&self.source) {
            return wrong("its source has a name that none can have");
        }
        if self.kind != PAGES {
            return Ok(());
        }
        if !(512..=65536).contains(&self.page_bytes) || !self.page_bytes.is_power_of_two() {
            return wrong("its pages have a size that none have");
        }
        if self.changes.is_empty() || self.changes.len() > SEGMENT_PAGES_MAX {
            return wrong("it has no changes, or too many");
        }
        let (mut position, mut pages) = (self.after, 0);
        for (place, change) in self.changes.iter().enumerate() {
            let next = position.checked_add(change.step).filter(|_| change.step > 0);
            let Some(next) = next else { return wrong("its positions do not ascend") };
            position = next;
            if place > 0 && change.delay == 0 {
                return wrong("its times do not ascend");
            }
            let mut number = 0_u32;
            for step in &change.pages {
                let next =
                    number.checked_add(*step).filter(|next| *step > 0 && *next <= change.size);
                let Some(next) = next else {
                    return wrong("the pages of a change do not ascend, or are behind its end");
                };
                number = next;
            }
            if change.size == 0 || change.size > PAGE_NUMBER_MAX {
                return wrong("a change leaves a size that no database has");
            }
            pages += change.pages.len();
        }
        if position > POSITION_MAX {
            return wrong("its positions are too great");
        }
        if pages > SEGMENT_PAGES_MAX || self.chunk_pages == 0 {
            return wrong("it has too many pages");
        }
        if pages.div_ceil(self.chunk_pages as usize) != refs {
            return wrong("it has another number of chunks than its pages fill");
        }
        Ok(())
    }
}

/// Which state of which stream a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
#[cbor(map)]
pub struct StreamPoint {
    /// The stream.
    #[n(0)]
    pub stream: StreamId,
    /// The state's position.
    #[n(1)]
    pub position: u64,
    /// What lies between the stream before and this one, if this state begins a stream and
    /// the source had another.
    #[n(2)]
    pub gap: Option<Gap>,
}

/// A time of which the states of a source are not known.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
#[cbor(map)]
pub struct Gap {
    /// The time of the last state that is known; until the snapshot's own time nothing is.
    #[n(0)]
    pub since: UnixTime,
    /// The stream that ended.
    #[n(1)]
    pub stream: StreamId,
    /// The position of its last state.
    #[n(2)]
    pub position: u64,
    /// Why, for people.
    #[n(3)]
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> Segment {
        let change =
            |step, delay, pages: &[u32]| Change { step, delay, size: 9, pages: pages.to_vec() };
        Segment {
            id: SnapshotId([1; 16]),
            source: "shop".into(),
            stream: StreamId([2; 16]),
            kind: PAGES.into(),
            after: 40,
            begins: UnixTime::new(100, 0),
            within: 1_000_000,
            changes: vec![change(1, 0, &[1, 2]), change(3, 5, &[9]), change(1, 1, &[2, 1, 1])],
            page_bytes: 4096,
            chunk_pages: 4,
        }
    }

    #[test]
    fn states_are_counted_from_where_it_begins() {
        let segment = segment();
        let states: Vec<_> = segment
            .states()
            .map(|state| (state.position, state.at.nanos, state.first_page))
            .collect();
        assert_eq!(states, [(41, 0, 0), (44, 5, 2), (45, 6, 3)]);
        assert_eq!(segment.last(), (45, UnixTime::new(100, 6)));
        assert_eq!(segment.changes[2].numbers().collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(segment.check(2), Ok(()));
    }

    #[test]
    fn one_that_would_mislead_is_refused() {
        let refused = |change: &dyn Fn(&mut Segment)| {
            let mut segment = segment();
            change(&mut segment);
            segment.check(2).is_err()
        };
        assert!(!refused(&|_| {}));
        assert!(refused(&|s| s.source = "..".into()));
        assert!(refused(&|s| s.page_bytes = 4095));
        assert!(refused(&|s| s.page_bytes = 256));
        assert!(refused(&|s| s.changes.clear()));
        assert!(refused(&|s| s.changes[1].step = 0));
        assert!(refused(&|s| s.changes[1].step = u64::MAX));
        assert!(refused(&|s| s.after = i64::MAX as u64));
        assert!(refused(&|s| s.changes[2].delay = 0));
        assert!(refused(&|s| s.changes[0].pages = vec![0]));
        assert!(refused(&|s| s.changes[0].pages = vec![5, 5]));
        assert!(refused(&|s| s.changes[0].pages = vec![5, u32::MAX]));
        assert!(refused(&|s| s.changes[0].size = 0));
        assert!(refused(&|s| s.chunk_pages = 0));
        assert!(refused(&|s| s.chunk_pages = 6));
        assert!(refused(&|s| s.chunk_pages = 2));
        // What this program does not understand it leaves to others.
        assert!(!refused(&|s| (s.kind, s.page_bytes) = ("log".into(), 0)));
    }
}
