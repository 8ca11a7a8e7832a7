//! The moments that a followed source can be seen at, and the gaps between them.
//!
//! A line a transaction, in order of time. They are read from the index, a segment at a
//! time: neither the store nor much memory is asked for, however long the history is.

use crate::base::{SnapshotId, StreamId, UnixTime};
use crate::format::segment::Segment;
use crate::index;
use crate::ops::Error;
use crate::repo::library::SnapshotInfo;
use crate::repo::streams::state_id;
use crate::repo::{self, Repository};

/// What is listed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Listed {
    /// A state that can be seen.
    State {
        /// Its id, which selectors take as `id:…`.
        id: SnapshotId,
        /// When it was seen.
        at: UnixTime,
        /// Its stream.
        stream: StreamId,
        /// Its position there.
        position: u64,
        /// How large the database is. Bytes.
        size: u64,
        /// How many pages changed.
        pages: u64,
    },
    /// A time of which nothing is known.
    Gap {
        /// The last moment that is known before.
        since: UnixTime,
        /// The first that is known after; none if nothing is.
        until: Option<UnixTime>,
        /// Why.
        reason: String,
    },
}

/// How many there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counted {
    /// States.
    pub states: u64,
    /// Gaps.
    pub gaps: u64,
}

/// Which moments.
#[derive(Debug, Clone, Copy, Default)]
pub struct Between {
    /// Not before that.
    pub since: Option<UnixTime>,
    /// Not after that.
    pub until: Option<UnixTime>,
}

impl Between {
    fn has(&self, at: UnixTime) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at <= until)
    }

    fn meets(&self, since: UnixTime, until: Option<UnixTime>) -> bool {
        self.until.is_none_or(|end| since <= end)
            && self.since.is_none_or(|begin| until.is_none_or(|until| until >= begin))
    }
}

/// Hands every moment of a source to `each`, in order.
///
/// # Errors
///
/// [`Error::NotFound`] if the source is not followed; what `each` returns; the
/// repository's.
pub fn each_moment<E: From<Error>>(
    repo: &Repository,
    source: &str,
    between: Between,
    each: impl FnMut(&Listed) -> Result<(), E>,
) -> Result<Counted, E> {
    let infos = repo.snapshots().map_err(Error::from)?;
    let own = infos.iter().filter(|info| info.snapshot.source == source);
    let bases: Vec<&SnapshotInfo> =
        own.filter(|info| info.snapshot.point.is_some()).map(AsRef::as_ref).collect();
    if bases.is_empty() {
        let what = format!(
            "the source {source} was never followed, as far as this repository knows: `asof \
             snapshots` lists what there is"
        );
        return Err(Error::NotFound { what }.into());
    }
    let mut walk = Walk { between, each, counted: Counted::default() };
    let mut streams: Vec<StreamId> = Vec::new();
    for point in bases.iter().filter_map(|info| info.snapshot.point.as_ref()) {
        if !streams.contains(&point.stream) {
            streams.push(point.stream);
        }
    }
    for stream in streams {
        let of_stream = |info: &&&SnapshotInfo| {
            info.snapshot.point.as_ref().is_some_and(|point| point.stream == stream)
        };
        let mut own: Vec<&SnapshotInfo> = bases.iter().filter(of_stream).copied().collect();
        own.sort_by_key(|info| info.snapshot.point.as_ref().map(|point| point.position));
        walk.stream(repo, stream, &own)?;
    }
    Ok(walk.counted)
}

struct Walk<F> {
    between: Between,
    each: F,
    counted: Counted,
}

/// How far a stream was gone through.
struct At {
    position: u64,
    at: UnixTime,
}

impl<F> Walk<F> {
    fn stream<E: From<Error>>(
        &mut self,
        repo: &Repository,
        stream: StreamId,
        bases: &[&SnapshotInfo],
    ) -> Result<(), E>
    where
        F: FnMut(&Listed) -> Result<(), E>,
    {
        let mut bases = bases.iter().copied().peekable();
        let Some(first) = bases.next() else { return Ok(()) };
        let mut at = self.begin(stream, first)?;
        repo.index()
            .each_segment(&stream, (at.position, u64::MAX), |row| {
                let (_, segment) = repo::streams::decode(repo, &row).map_err(Error::from)?;
                let received = UnixTime::new(row.receipt, 999_999_999);
                self.segment(stream, &segment, received, &mut at, &mut bases).map_err(Walked)
            })
            .map_err(|Walked(error)| error)?;
        // What is stored whole behind a hole is a state of its own.
        for base in bases {
            if position_of(base) > at.position {
                self.gap(at.at, Some(base.shown_from()), MISSING.into())?;
                at = self.base(stream, base)?;
            }
        }
        Ok(())
    }

    /// The first state of a stream that is stored, with the gap before it.
    fn begin<E>(&mut self, stream: StreamId, base: &SnapshotInfo) -> Result<At, E>
    where
        F: FnMut(&Listed) -> Result<(), E>,
    {
        let gap = base.snapshot.point.as_ref().and_then(|point| point.gap.as_ref());
        if let Some(gap) = gap {
            self.gap(gap.since, Some(base.shown_from()), gap.reason.clone())?;
        }
        self.base(stream, base)
    }

    fn base<E>(&mut self, stream: StreamId, base: &SnapshotInfo) -> Result<At, E>
    where
        F: FnMut(&Listed) -> Result<(), E>,
    {
        let at = At { position: position_of(base), at: base.shown_from() };
        self.state(stream, at.position, at.at, base.snapshot.counts.bytes, 0)?;
        Ok(at)
    }

    fn segment<'b, E>(
        &mut self,
        stream: StreamId,
        segment: &Segment,
        received: UnixTime,
        at: &mut At,
        bases: &mut std::iter::Peekable<impl Iterator<Item = &'b SnapshotInfo>>,
    ) -> Result<(), E>
    where
        F: FnMut(&Listed) -> Result<(), E>,
    {
        if segment.after > at.position {
            // A hole: what follows can be seen from the next state on that is stored whole.
            while let Some(base) = bases.next_if(|base| position_of(base) <= segment.last().0) {
                if position_of(base) > at.position {
                    self.gap(at.at, Some(base.shown_from()), MISSING.into())?;
                    *at = self.base(stream, base)?;
                    break;
                }
            }
            if segment.after > at.position {
                return Ok(());
            }
        }
        for state in segment.states().filter(|state| state.position > at.position) {
            let when = state.at.min(received);
            let size = u64::from(state.change.size) * u64::from(segment.page_bytes);
            let pages = state.change.pages.len() as u64;
            self.state(stream, state.position, when, size, pages)?;
            at.at = when;
        }
        at.position = at.position.max(segment.last().0);
        Ok(())
    }

    fn state<E>(
        &mut self,
        stream: StreamId,
        position: u64,
        at: UnixTime,
        size: u64,
        pages: u64,
    ) -> Result<(), E>
    where
        F: FnMut(&Listed) -> Result<(), E>,
    {
        if self.between.has(at) {
            self.counted.states += 1;
            let id = state_id(&stream, position);
            (self.each)(&Listed::State { id, at, stream, position, size, pages })?;
        }
        Ok(())
    }

    fn gap<E>(&mut self, since: UnixTime, until: Option<UnixTime>, reason: String) -> Result<(), E>
    where
        F: FnMut(&Listed) -> Result<(), E>,
    {
        if self.between.meets(since, until) {
            self.counted.gaps += 1;
            (self.each)(&Listed::Gap { since, until, reason })?;
        }
        Ok(())
    }
}

const MISSING: &str = "segments that were published are not known";

fn position_of(base: &SnapshotInfo) -> u64 {
    base.snapshot.point.as_ref().map_or(0, |point| point.position)
}

/// What ended the walk. The index's own errors are of another type than the caller's.
struct Walked<E>(E);

impl<E: From<Error>> From<index::Error> for Walked<E> {
    fn from(error: index::Error) -> Walked<E> {
        Walked(Error::from(repo::Error::from(error)).into())
    }
}

impl<E: From<Error>> From<Error> for Walked<E> {
    fn from(error: Error) -> Walked<E> {
        Walked(error.into())
    }
}
