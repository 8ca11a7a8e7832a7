//! What a state is made of: the last one before it that is stored whole, and the versions of
//! pages since, as far as its segments lead.

use std::sync::{Arc, PoisonError};

use super::States;
use super::interval::{Interval, Place};
use crate::base::{ChunkId, SnapshotId, StreamId, UnixTime};
use crate::format::fact::Fact;
use crate::format::node::{Entry, FileKind, Owner};
use crate::format::segment::Segment;
use crate::index::{self, BaseRow, SegmentRow};
use crate::repo::browse;
use crate::repo::library::{FileContent, Library, SnapshotInfo};
use crate::repo::{Error, Repository, Result};

/// The last state that is stored whole before others.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) info: Arc<SnapshotInfo>,
    /// The database.
    pub(super) file: Entry,
    pub(super) content: FileContent,
    pub(super) owner: Owner,
}

/// All that was found out about a state.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) base: Arc<Base>,
    pub(super) interval: Arc<Interval>,
    pub(super) step: u32,
    pub(super) at: UnixTime,
    /// When the store received what it takes.
    pub(super) receipt: UnixTime,
    /// Pages.
    pub(super) size: u32,
}

/// A base and how far its versions are known.
pub(super) type Line = (Arc<Base>, Arc<Interval>);

impl States {
    pub(super) fn find(
        &self,
        library: &dyn Library,
        id: &SnapshotId,
    ) -> Result<Option<Arc<Known>>> {
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
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.size) * u64::from(self.interval.page_bytes)
    }

    /// Where the page at that place in the file is, counted from 0.
    pub(super) fn place(&self, page: u64) -> Place {
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
