//! What is kept of a stream, and which segments give way to what.
//!
//! States are gone through in order, once. What must be remembered of the past is the group
//! of old segments that is being gathered, and of each page in it where its newest version
//! is.

use std::collections::BTreeMap;

use super::{Keep, ThinReport};
use crate::base::{ChunkId, SnapshotId, StreamId, UnixTime};
use crate::format::segment::Segment;
use crate::ops::Result;
use crate::repo::library::SnapshotInfo;
use crate::repo::{self, Repository};
use crate::view::Zone;

/// A segment with so many pages or more, of which all is kept, stays as it is.
const SETTLED_PAGES: usize = 1 << 15;
/// And one with so many bytes.
const SETTLED_BYTES: u64 = 16 << 20;
/// A group has no more pages than this, unless one change has; and no more bytes.
const GROUP_PAGES: usize = 1 << 16;
const GROUP_BYTES: u64 = 32 << 20;
/// Fewer segments than this are not worth merging for its own sake.
const MERGE_MIN: usize = 8;
/// So many versions of pages may follow a stored state before another is kept.
const VERSIONS_MAX: usize = 1 << 19;

/// A group has no more segments: what is forgotten at once stands in one record.
const GROUP_SEGMENTS: usize = 8192;
/// So many pages are remembered until a state is kept, whatever is to be kept.
const OPEN_MAX: usize = 1 << 20;

/// Where a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageAt {
    /// In which of the group's segments, and which page of it.
    In(u32, u32),
    /// It was gone and came back without being written: zeros.
    Zeros,
}

/// A state that is kept, and what it takes.
#[derive(Debug)]
pub(super) struct KeptState {
    pub(super) position: u64,
    pub(super) at: UnixTime,
    pub(super) size: u32,
    /// The pages that changed since the state that is kept before.
    pub(super) pages: BTreeMap<u32, PageAt>,
}

/// A segment of a group.
#[derive(Debug)]
pub(super) struct Old {
    pub(super) id: SnapshotId,
    pub(super) refs: Vec<ChunkId>,
    pub(super) chunk_pages: u32,
    pub(super) within: u64,
}

/// Old segments and images that are forgotten, and what takes their place.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// The state that the first segment begins at.
    pub(super) after: u64,
    pub(super) page_bytes: u32,
    pub(super) segments: Vec<Old>,
    pub(super) images: Vec<SnapshotId>,
    pub(super) kept: Vec<KeptState>,
    /// What changed since the last of these.
    open: BTreeMap<u32, PageAt>,
    last: Option<(u64, UnixTime, u32)>,
    dropped: u64,
    pages: usize,
}

impl Group {
    /// All that is forgotten.
    pub(super) fn forgotten(&self) -> impl Iterator<Item = SnapshotId> + '_ {
        self.segments.iter().map(|old| old.id).chain(self.images.iter().copied())
    }

    fn keep_open(&mut self) {
        if let Some((position, at, size)) = self.last.take() {
            let mut pages = std::mem::take(&mut self.open);
            // What is gone needs no content: the size says it.
            drop(pages.split_off(&size.saturating_add(1)));
            self.pages += pages.len();
            self.kept.push(KeptState { position, at, size, pages });
        }
    }
}

/// A stream, and what is to be kept of it.
pub(super) struct Plan<'a> {
    pub(super) source: &'a str,
    pub(super) stream: StreamId,
    /// The states that are stored whole, in order of time.
    pub(super) bases: Vec<&'a SnapshotInfo>,
    pub(super) keep: &'a Keep,
    pub(super) zone: &'a Zone,
    pub(super) now: UnixTime,
    /// Whether no other stream of the source began later.
    pub(super) is_newest: bool,
}

/// Takes what is decided, a group after the other.
pub(super) type Decided<'d> = &'d mut dyn FnMut(Group, &mut ThinReport) -> Result<()>;

impl Plan<'_> {
    /// Goes through the stream.
    pub(super) fn run(
        mut self,
        repo: &Repository,
        report: &mut ThinReport,
        decided: Decided<'_>,
    ) -> Result<()> {
        self.bases.sort_by_key(|info| position_of(info));
        let Some(foundation) = self.drop_before_foundation(repo, report, decided)? else {
            return Ok(());
        };
        report.moments_before += 1;
        report.moments += 1;
        let of_stream = (self.source, &self.stream);
        let mut walk = Walk {
            plan: &self,
            position: foundation,
            size: None,
            group: Group::default(),
            counts: Vec::new(),
            restarts: Vec::new(),
            waiting: None,
        };
        let mut from = Some(foundation);
        while let Some(position) = from {
            walk.begin(position);
            repo.index().each_in_line(of_stream, (position, u64::MAX), |row| {
                let (refs, segment) = repo::streams::decode(repo, &row)?;
                let received = UnixTime::new(row.receipt, 999_999_999);
                walk.next(Some(Read { refs, segment, received }), report, decided)
            })?;
            walk.next(None, report, decided)?;
            // Behind a hole it goes on with the next image.
            from = self.base_behind(walk.position);
            if let Some(base) = from {
                walk.close(report, decided)?;
                walk.restarts.push(base);
                report.moments_before += 1;
                report.moments += 1;
            }
        }
        walk.close(report, decided)?;
        let Walk { counts, restarts, position, .. } = walk;
        self.drop_images((foundation, position), &counts, &restarts, report, decided)
    }

    /// Whether a state is kept that was seen at `at`, the next one being seen at `next`.
    pub(super) fn keeps(&self, at: UnixTime, next: Option<UnixTime>) -> bool {
        let age = self.now.since(at);
        // The last one there is stands for all time since.
        let Some(next) = next else { return true };
        if age < self.keep.all_for {
            return true;
        }
        let (this, then) = (self.zone.civil(at), self.zone.civil(next));
        let day = this.date() != then.date();
        if age < self.keep.hourly_for {
            return day
                || this.hour() != then.hour()
                || self.zone.offset(at) != self.zone.offset(next);
        }
        day && self.keep.daily_for.is_none_or(|span| age < span)
    }

    /// Whether something seen then may be touched at all.
    fn is_old(&self, at: UnixTime) -> bool {
        self.now.since(at) >= self.keep.all_for
    }

    /// From which stored state on anything is kept; what lies before goes. None if nothing
    /// of the stream is.
    fn drop_before_foundation(
        &self,
        repo: &Repository,
        report: &mut ThinReport,
        decided: Decided<'_>,
    ) -> Result<Option<u64>> {
        let Some(first) = self.bases.first() else { return Ok(None) };
        let mut foundation = position_of(first);
        let span =
            self.keep.daily_for.map(|span| span.max(self.keep.hourly_for).max(self.keep.all_for));
        let expired = |at: UnixTime| span.is_some_and(|span| self.now.since(at) >= span);
        // The last one that is too old: whatever is kept comes after it.
        let too_old = self.bases.iter().filter(|info| expired(info.shown_from()));
        foundation = too_old.map(|info| position_of(info)).max().unwrap_or(foundation);
        let spans = repo.index().segment_spans_of(&self.stream).map_err(repo::Error::from)?;
        let ends = spans.iter().map(|span| span.ends);
        let ended = ends.chain(self.bases.iter().map(|info| info.shown_from())).max();
        let all_gone = !self.is_newest && ended.is_some_and(expired);
        let mut group = Group { after: foundation, ..Group::default() };
        for span in spans {
            if all_gone || span.last <= foundation {
                group.segments.push(Old {
                    id: span.id,
                    refs: Vec::new(),
                    chunk_pages: 1,
                    within: 0,
                });
            }
        }
        let gone = self.bases.iter().filter(|info| all_gone || position_of(info) < foundation);
        group.images.extend(gone.map(|info| info.snapshot.id));
        if !group.segments.is_empty() || !group.images.is_empty() {
            let upto = if all_gone { u64::MAX } else { foundation };
            report.moments_before += self.moments_before(repo, position_of(first), upto)?;
            decided(group, report)?;
        }
        Ok((!all_gone).then_some(foundation))
    }

    /// How many moments there are from the first state on that lie before `upto`.
    fn moments_before(&self, repo: &Repository, first: u64, upto: u64) -> Result<u64> {
        let (mut from, mut count) = (Some(first), 0);
        while let Some(mut position) = from.filter(|from| *from < upto) {
            count += 1;
            repo.index().each_in_line((self.source, &self.stream), (position, upto), |row| {
                let (_, segment) = repo::streams::decode(repo, &row)?;
                let states = segment.states().map(|state| state.position);
                count += states.filter(|at| *at > position && *at < upto).count() as u64;
                position = position.max(segment.last().0);
                Ok::<(), crate::ops::Error>(())
            })?;
            from = self.base_behind(position);
        }
        Ok(count)
    }

    /// The next stored state behind a position.
    fn base_behind(&self, position: u64) -> Option<u64> {
        self.bases.iter().map(|info| position_of(info)).find(|base| *base > position)
    }

    /// Images that little lies between are not needed.
    fn drop_images(
        &self,
        (foundation, reached): (u64, u64),
        counts: &[(u64, usize)],
        restarts: &[u64],
        report: &mut ThinReport,
        decided: Decided<'_>,
    ) -> Result<()> {
        let mut sums: Vec<(u64, usize)> = Vec::with_capacity(counts.len());
        for (position, pages) in counts {
            let before = sums.last().map_or(0, |(_, sum)| *sum);
            sums.push((*position, before + pages));
        }
        let until = |position: u64| {
            let after = sums.partition_point(|(kept, _)| *kept <= position);
            after.checked_sub(1).and_then(|at| sums.get(at)).map_or(0, |(_, sum)| *sum)
        };
        let (mut last, mut group) = (foundation, Group::default());
        for (place, info) in self.bases.iter().enumerate() {
            let position = position_of(info);
            if position <= foundation {
                continue;
            }
            let next = self.bases.get(place + 1).map_or(u64::MAX, |next| position_of(next));
            // It is needed where segments do not lead over it.
            let needed = !self.is_old(info.shown_from())
                || position > reached
                || restarts.contains(&position)
                || until(next) - until(last) > VERSIONS_MAX;
            if needed {
                last = position;
            } else {
                group.images.push(info.snapshot.id);
            }
        }
        if group.images.is_empty() { Ok(()) } else { decided(group, report) }
    }
}

/// A segment as it is read.
struct Read {
    refs: Vec<ChunkId>,
    segment: Segment,
    received: UnixTime,
}

/// On the way through a stream.
struct Walk<'a, 'b> {
    plan: &'a Plan<'b>,
    position: u64,
    /// How many pages there are at that position, once that is known.
    size: Option<u32>,
    group: Group,
    /// The states that are there in the end, with how many pages each takes.
    counts: Vec<(u64, usize)>,
    /// The stored states behind holes.
    restarts: Vec<u64>,
    /// Read, and not looked at: whether its last state is kept depends on what comes next.
    waiting: Option<Read>,
}

impl Walk<'_, '_> {
    /// Goes on from a stored state.
    fn begin(&mut self, position: u64) {
        (self.position, self.size) = (position, None);
    }

    /// Takes the next segment, or the word that there is none.
    fn next(
        &mut self,
        next: Option<Read>,
        report: &mut ThinReport,
        decided: Decided<'_>,
    ) -> Result<()> {
        let then = next.as_ref().and_then(|read| {
            let first = read.segment.states().next()?;
            Some(first.at.min(read.received))
        });
        match std::mem::replace(&mut self.waiting, next) {
            Some(read) => self.segment(read, then, report, decided),
            None => Ok(()),
        }
    }

    fn segment(
        &mut self,
        read: Read,
        then: Option<UnixTime>,
        report: &mut ThinReport,
        decided: Decided<'_>,
    ) -> Result<()> {
        let Read { refs, segment, received } = read;
        let (last, ends) = segment.last();
        if last <= self.position {
            return Ok(());
        }
        let ends = ends.min(received);
        if !self.plan.is_old(ends) {
            self.close(report, decided)?;
            self.pass(&segment, report);
            return Ok(());
        }
        let keeps = self.kept_of(&segment, received, then);
        let all_kept = keeps.iter().all(|keep| *keep);
        let bytes = segment.pages() as u64 * u64::from(segment.page_bytes);
        let settled = segment.pages() >= SETTLED_PAGES || bytes >= SETTLED_BYTES;
        if (all_kept && settled) || self.shrinks_by(&segment) > OPEN_MAX {
            self.close(report, decided)?;
            self.pass(&segment, report);
            return Ok(());
        }
        let full = self.group.pages >= GROUP_PAGES
            || self.group.segments.len() >= GROUP_SEGMENTS
            || self.group.pages as u64 * u64::from(segment.page_bytes) >= GROUP_BYTES;
        let other = !self.group.segments.is_empty() && self.group.page_bytes != segment.page_bytes;
        if full || other {
            self.close(report, decided)?;
        }
        self.gather(refs, &segment, received, &keeps, report);
        Ok(())
    }

    /// Which of a segment's states are kept, the next one after it being seen at `then`.
    fn kept_of(&self, segment: &Segment, received: UnixTime, then: Option<UnixTime>) -> Vec<bool> {
        let times: Vec<UnixTime> = segment.states().map(|state| state.at.min(received)).collect();
        let nexts = times.iter().skip(1).copied().map(Some).chain([then]);
        times.iter().zip(nexts).map(|(at, next)| self.plan.keeps(*at, next)).collect()
    }

    /// The most pages by which a change of a segment makes the database smaller.
    fn shrinks_by(&self, segment: &Segment) -> usize {
        let mut size = self.size_before(segment);
        let by = segment.changes.iter().map(|change| {
            std::mem::replace(&mut size, change.size).saturating_sub(change.size) as usize
        });
        by.max().unwrap_or(0)
    }

    /// How many pages there are before a segment's first change.
    fn size_before(&self, segment: &Segment) -> u32 {
        let of_base = || {
            let base = self.plan.bases.iter().find(|info| position_of(info) == self.position);
            let bytes = base.map_or(0, |info| info.snapshot.counts.bytes);
            u32::try_from(bytes / u64::from(segment.page_bytes)).unwrap_or(u32::MAX)
        };
        self.size.unwrap_or_else(of_base)
    }

    /// Leaves a segment as it is.
    fn pass(&mut self, segment: &Segment, report: &mut ThinReport) {
        for state in segment.states().filter(|state| state.position > self.position) {
            report.moments_before += 1;
            report.moments += 1;
            self.counts.push((state.position, state.change.pages.len()));
        }
        self.position = segment.last().0;
        self.size = segment.changes.last().map(|change| change.size);
    }

    fn gather(
        &mut self,
        refs: Vec<ChunkId>,
        segment: &Segment,
        received: UnixTime,
        keeps: &[bool],
        report: &mut ThinReport,
    ) {
        let mut size = self.size_before(segment);
        let group = &mut self.group;
        if group.segments.is_empty() {
            group.after = self.position;
            group.page_bytes = segment.page_bytes;
        }
        let place = u32::try_from(group.segments.len()).unwrap_or(u32::MAX);
        for (state, keep) in segment.states().zip(keeps) {
            if state.position <= self.position {
                continue;
            }
            report.moments_before += 1;
            let first = u32::try_from(state.first_page).unwrap_or(u32::MAX);
            let gone = state.change.size.saturating_add(1)..=size;
            group.open.extend(gone.map(|page| (page, PageAt::Zeros)));
            size = state.change.size;
            for (number, page) in (first..).zip(state.change.numbers()) {
                group.open.insert(page, PageAt::In(place, number));
            }
            group.last = Some((state.position, state.at.min(received), size));
            if *keep || group.open.len() > OPEN_MAX {
                group.keep_open();
            } else {
                group.dropped += 1;
            }
        }
        (self.position, self.size) = (segment.last().0, Some(size));
        group.segments.push(Old {
            id: segment.id,
            refs,
            chunk_pages: segment.chunk_pages,
            within: segment.within,
        });
    }

    /// Ends the group: what came last in it is kept, since the states behind are made of it.
    fn close(&mut self, report: &mut ThinReport, decided: Decided<'_>) -> Result<()> {
        let mut group = std::mem::take(&mut self.group);
        if group.last.is_some() {
            group.keep_open();
            group.dropped -= 1;
        }
        report.moments += group.kept.len() as u64;
        self.counts.extend(group.kept.iter().map(|kept| (kept.position, kept.pages.len())));
        let worth = group.dropped > 0 || group.segments.len() >= MERGE_MIN;
        if worth {
            return decided(group, report);
        }
        Ok(())
    }
}

fn position_of(info: &SnapshotInfo) -> u64 {
    info.snapshot.point.as_ref().map_or(0, |point| point.position)
}
