//! The moments that a followed source can be seen at, and the gaps between them.
//!
//! A line a transaction, in order of time. They are read from the index, a segment at a
//! time: neither the store nor much memory is asked for, however long the history is.

use serde::Serialize;

use crate::base::{SnapshotId, StreamId, UnixTime};
use crate::format::segment::Segment;
use crate::index::{self, BaseRow};
use crate::ops::Error;
use crate::repo::library::SnapshotInfo;
use crate::repo::streams::state_id;
use crate::repo::{self, Repository};

/// What is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Listed {
    /// A state that can be seen.
    State {
        /// Its id, which selectors take as `id:…`.
        id: SnapshotId,
        /// When it was seen.
        #[serde(serialize_with = "exact")]
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
        #[serde(serialize_with = "exact")]
        since: UnixTime,
        /// The first that is known after; none if nothing is.
        #[serde(serialize_with = "exact_if_any")]
        until: Option<UnixTime>,
        /// Why.
        reason: String,
    },
}

/// A time that can be typed again: moments lie less than a microsecond apart.
fn exact<S: serde::Serializer>(at: &UnixTime, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&at.to_exact())
}

fn exact_if_any<S: serde::Serializer>(at: &Option<UnixTime>, to: S) -> Result<S::Ok, S::Error> {
    at.map(UnixTime::to_exact).serialize(to)
}

/// How many there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
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
    let mut walk = Walk { source, between, each, counted: Counted::default() };
    let mut streams: Vec<StreamId> = Vec::new();
    for point in bases.iter().filter_map(|info| info.snapshot.point.as_ref()) {
        if !streams.contains(&point.stream) {
            streams.push(point.stream);
        }
    }
    for stream in streams {
        let rows = repo.index().bases(source, &stream).map_err(repo::Error::from);
        let rows = rows.map_err(Error::from)?;
        let info_of =
            |row: &BaseRow| bases.iter().find(|info| info.snapshot.id == row.snapshot).copied();
        let bases: Vec<_> = rows.iter().filter_map(|row| Some((row, info_of(row)?))).collect();
        walk.stream(repo, stream, &bases)?;
    }
    Ok(walk.counted)
}

struct Walk<'a, F> {
    source: &'a str,
    between: Between,
    each: F,
    counted: Counted,
}

/// How far a stream was gone through.
struct At {
    position: u64,
    at: UnixTime,
}

impl<F> Walk<'_, F> {
    fn stream<E: From<Error>>(
        &mut self,
        repo: &Repository,
        stream: StreamId,
        bases: &[(&BaseRow, &SnapshotInfo)],
    ) -> Result<(), E>
    where
        F: FnMut(&Listed) -> Result<(), E>,
    {
        let Some((first, info)) = bases.first() else { return Ok(()) };
        let of_stream = (self.source, &stream);
        let mut at = self.begin(stream, info)?;
        // Each base leads to the next one that nothing received earlier leads over.
        let mut from = Some(first.position);
        while let Some(position) = from {
            from = None;
            for (row, _) in bases.iter().filter(|(row, _)| row.position > position) {
                let timely = repo.index().is_timely(of_stream, row, false);
                if timely.map_err(repo::Error::from).map_err(Error::from)? {
                    from = Some(row.position);
                    break;
                }
            }
            let upto = from.unwrap_or(u64::MAX);
            repo.index()
                .each_in_line(of_stream, (position, upto), |row| {
                    let (_, segment) = repo::streams::decode(repo, &row).map_err(Error::from)?;
                    self.segment(&segment, row.receipt, upto, &mut at).map_err(Walked)
                })
                .map_err(|Walked(error)| error)?;
            // What is stored whole behind a hole is a state of its own, and leads on.
            let hole = bases.iter().find(|(row, _)| row.position > at.position);
            if let Some((_, base)) = hole.filter(|(row, _)| row.position <= upto) {
                self.gap(at.at, Some(base.shown_from()), MISSING.into())?;
                at = self.base(stream, base)?;
                from = Some(at.position);
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

    fn segment<E>(
        &mut self,
        segment: &Segment,
        receipt: i64,
        upto: u64,
        at: &mut At,
    ) -> Result<(), E>
    where
        F: FnMut(&Listed) -> Result<(), E>,
    {
        let received = UnixTime::new(receipt, 999_999_999);
        for state in segment.states().take_while(|state| state.position <= upto) {
            if state.position <= at.position {
                continue;
            }
            let when = state.at.min(received);
            let size = u64::from(state.change.size) * u64::from(segment.page_bytes);
            let pages = state.change.pages.len() as u64;
            self.state(segment.stream, state.position, when, size, pages)?;
            *at = At { position: state.position, at: when };
        }
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
            let id = state_id(self.source, &stream, position);
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
