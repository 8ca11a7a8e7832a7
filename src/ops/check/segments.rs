//! The streams of databases that are followed: whether the chunks of their segments are
//! there, and which moments cannot be shown.
//!
//! A segment's chunks are looked for as those of a file are. One that is lost costs the
//! states whose pages lie in it, and those after them until the next that is stored whole,
//! or until the same pages were written again.
//!
//! A hole between segments is no damage by itself: somebody may have forgotten what lay
//! there. What was taken away without being forgotten is missed from its chain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Check, DamagedSegment, REMARKS_SHOWN};
use crate::base::{ChunkId, Progress, StreamId, UnixTime};
use crate::codec::hash::ChunkKind;
use crate::format::segment::Segment;
use crate::index::SegmentLoss;
use crate::ops::Result;
use crate::repo::SnapshotInfo;
use crate::repo::streams::{self, Reach};

/// A moment in a stream: its position, and when it was seen.
type Seen = (u64, UnixTime);

/// Moments that cannot be shown, although there are segments of them.
struct Hole {
    /// The last that can be shown before.
    before: Option<Seen>,
    /// The last of them that is known.
    last: Seen,
}

impl Check<'_> {
    /// Goes through the segments of all streams.
    pub(super) fn segments(&mut self, infos: &[Arc<SnapshotInfo>]) -> Result<()> {
        self.progress.enter("checking streams");
        let mut remarks = Vec::new();
        for (source, stream) in self.repo.index().streams()? {
            self.go_on()?;
            self.progress.at(source.clone());
            let bases = infos.iter().filter_map(|info| {
                let point = info.snapshot.point.as_ref()?;
                let own = point.stream == stream && info.snapshot.source == source;
                own.then(|| (point.position, info.shown_from()))
            });
            self.stream(&stream, &source, &bases.collect(), &mut remarks)?;
        }
        let untold = remarks.len().saturating_sub(REMARKS_SHOWN);
        remarks.truncate(REMARKS_SHOWN);
        if untold > 0 {
            remarks.push(format!("and {untold} more such things of streams"));
        }
        self.report.remarks.extend(remarks);
        self.progress.at("");
        Ok(())
    }

    fn stream(
        &mut self,
        stream: &StreamId,
        source: &str,
        bases: &BTreeMap<u64, UnixTime>,
        remarks: &mut Vec<String>,
    ) -> Result<()> {
        let mut reach = Reach::new(bases.keys().copied());
        let mut holes: Vec<Hole> = Vec::new();
        let mut shown: Option<Seen> = None;
        let mut segments = 0;
        self.repo.index().each_segment(stream, (0, u64::MAX), |row| -> Result<()> {
            self.go_on()?;
            let (refs, segment) = streams::decode(self.repo, &row)?;
            if segment.source != source {
                return Ok(());
            }
            let received = UnixTime::new(row.receipt, 999_999_999);
            let (last, ends) = segment.last();
            let last = (last, ends.min(received));
            segments += 1;
            Progress::add(&self.progress.files, 1);
            self.segment(&segment, &refs, received, bases)?;
            let upto = reach.upto();
            let led = reach.take(segment.after, last.0);
            if led.behind_hole {
                let base = bases.range(..=segment.after).next_back();
                let before = shown.filter(|seen| Some(seen.0) == upto).max(base.map(pair));
                match holes.last_mut() {
                    Some(hole) if hole.before == before => hole.last = hole.last.max(last),
                    _ => holes.push(Hole { before, last }),
                }
            }
            if led.from.is_some() {
                shown = shown.max(Some(last));
            }
            Ok(())
        })?;
        self.report.segments += segments;
        let index = self.repo.index().path().display();
        for hole in holes {
            let from = hole.before.map_or_else(
                || "from the beginning".to_owned(),
                |(position, at)| format!("after position {position} ({at})"),
            );
            let next = bases.range(hole.before.map_or(0, |seen| seen.0 + 1)..).next();
            let upto = match next {
                Some((position, at)) => {
                    format!("until position {position} ({at}), which is stored whole")
                }
                None => {
                    format!("to the last that is known, position {} ({})", hole.last.0, hole.last.1)
                }
            };
            remarks.push(format!(
                "moments of {source} cannot be shown {from} {upto}: the stream {stream} has a hole \
                 there, as far as {index} knows"
            ));
        }
        Ok(())
    }

    /// Looks for the chunks of one segment.
    fn segment(
        &self,
        segment: &Segment,
        refs: &[ChunkId],
        received: UnixTime,
        bases: &BTreeMap<u64, UnixTime>,
    ) -> Result<()> {
        let (pages, each) = (segment.pages(), segment.chunk_pages as usize);
        let mut lost: BTreeMap<i64, BTreeSet<usize>> = BTreeMap::new();
        for (number, id) in refs.iter().enumerate() {
            let held = pages.saturating_sub(number.saturating_mul(each)).min(each);
            let length = (held as u64).saturating_mul(segment.page_bytes.into());
            for object in self.chunk(ChunkKind::Data, id, Some(length))? {
                lost.entry(object).or_default().insert(number);
            }
        }
        for (object, chunks) in lost {
            let is_lost = |state: &crate::format::segment::State<'_>| {
                let end = state.first_page + state.change.pages.len();
                end > state.first_page
                    && chunks.range(state.first_page / each..=(end - 1) / each).next().is_some()
            };
            let mut states = segment.states().filter(is_lost);
            let Some(first) = states.next() else { continue };
            let (first, end) = {
                let last = states.last().unwrap_or(first);
                ((first.position, first.at), (last.position, last.at))
            };
            self.survey.lose_segment(&SegmentLoss {
                object,
                segment: segment.id,
                stream: segment.stream,
                source: segment.source.clone(),
                first: first.0,
                last: end.0,
                since: first.1.min(received),
                until: end.1.min(received),
                whole_again: bases.range(first.0..).next().map(|(position, _)| *position),
            })?;
        }
        Ok(())
    }
}

fn pair((position, at): (&u64, &UnixTime)) -> Seen {
    (*position, *at)
}

impl From<SegmentLoss> for DamagedSegment {
    fn from(loss: SegmentLoss) -> DamagedSegment {
        DamagedSegment {
            segment: loss.segment,
            source: loss.source,
            stream: loss.stream,
            first: loss.first,
            last: loss.last,
            since: loss.since,
            until: loss.until,
            whole_again: loss.whole_again,
        }
    }
}
