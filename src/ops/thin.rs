//! `thin`: fewer moments of the old history of a followed source, in fewer segments.
//!
//! Every transaction is kept for a while, then the last of each hour, then of each day. A
//! state that is not kept leaves its pages to the next one that is, so that what is kept
//! stays what it was, to the byte. Old segments that hold little are merged at the same
//! time: a live stream makes one a second, and neighbours compress better together.
//!
//! ```text
//! plan    a stream's states in order → groups of old segments and what of them is kept
//! merge   a group's pages, each read once → the changes of one new segment
//! ```
//!
//! The new segment and the word that the old ones are forgotten are published in one
//! record. So whatever happens, every kept state is led to by the old ones or by the new,
//! and who looks in between sees the same bytes either way. What is forgotten goes with the
//! next collections.
//!
//! Nothing younger than the time for which every transaction is kept is touched: there the
//! follower is at work.

mod merge;
mod plan;

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::base::{Stop, StreamId, UnixTime};
use crate::ops::follow::{Origin, Publisher};
use crate::ops::{Error, Result};
use crate::repo::library::SnapshotInfo;
use crate::repo::writer::WriterOptions;
use crate::repo::{self, Shelf};
use crate::view::Zone;

use plan::{Group, Plan};

/// Every transaction is kept at least for so long.
pub const ALL_FOR_MIN: Duration = Duration::from_secs(3600);

/// What is kept, by how old it is.
#[derive(Debug, Clone)]
pub struct Keep {
    /// Every transaction for so long.
    pub all_for: Duration,
    /// The last of each hour for so long.
    pub hourly_for: Duration,
    /// The last of each day for so long; for ever, if nothing is said.
    pub daily_for: Option<Duration>,
}

/// What to do.
#[derive(Debug, Clone)]
pub struct ThinOptions {
    /// The source.
    pub source: String,
    /// What is kept of it.
    pub keep: Keep,
    /// Hours and days are of this zone.
    pub zone: Zone,
    /// Decide, and publish nothing.
    pub dry_run: bool,
    /// How chunks are written.
    pub writer: WriterOptions,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ThinReport {
    /// Moments that there were.
    pub moments_before: u64,
    /// Moments that there are.
    pub moments: u64,
    /// Segments that are forgotten.
    pub segments_forgotten: u64,
    /// Segments that took their place.
    pub segments_made: u64,
    /// States stored whole that are forgotten.
    pub images_forgotten: u64,
    /// Bytes of new packs.
    pub bytes_stored: u64,
    /// Whether nothing was published.
    pub dry_run: bool,
}

/// Thins the history of a followed source, as the index knows it: bring it up to date
/// before. `scratch` is a directory for what is being merged.
///
/// # Errors
///
/// [`Error::NotFound`] if the source is not followed; [`Error::Invalid`] for times that make
/// no sense; [`repo::Error::NotAllowed`] if the key is not the owner's. What was published
/// until then stands, and is right.
pub fn thin(
    shelf: &Shelf,
    options: &ThinOptions,
    scratch: &Path,
    stop: &Stop,
) -> Result<ThinReport> {
    let repo = shelf.repo();
    if options.keep.all_for < ALL_FOR_MIN {
        let what = "every transaction of the last hour at least is kept: the follower is at work \
                    there";
        return Err(Error::Invalid { what: what.into() });
    }
    if !options.dry_run {
        repo.check_writable()?;
        repo.keys().owner()?;
    }
    // Neither a clock of this machine that is ahead nor one of the writer makes anything old.
    let heard = repo.index().newest_receipt().map_err(repo::Error::from)?;
    let now = repo.clock().now().min(UnixTime::new(heard.unwrap_or(i64::MIN), 0));
    let all = repo.snapshots()?;
    let bases: Vec<&SnapshotInfo> = all
        .iter()
        .filter(|info| info.snapshot.source == options.source && info.snapshot.point.is_some())
        .map(AsRef::as_ref)
        .collect();
    if bases.is_empty() {
        let what = format!("the source {} was never followed", options.source);
        return Err(Error::NotFound { what });
    }
    let origin = Origin {
        source: options.source.clone(),
        kind: "sqlite",
        path: Vec::new(),
        host: String::new(),
        user: String::new(),
    };
    let mut publisher = Publisher::new(repo, origin, options.writer, stop);
    let mut report = ThinReport { dry_run: options.dry_run, ..ThinReport::default() };
    let streams = streams(&bases);
    let newest = streams.last().copied();
    for stream in streams {
        let own: Vec<&SnapshotInfo> =
            bases.iter().filter(|info| stream_of(info) == Some(stream)).copied().collect();
        let plan = Plan {
            source: &options.source,
            stream,
            bases: own,
            keep: &options.keep,
            zone: &options.zone,
            now,
            is_newest: Some(stream) == newest,
        };
        let mut work = Work { shelf, options, scratch, publisher: &mut publisher, stop };
        plan.run(repo, &mut report, &mut |group, report| work.replace(stream, &group, report))?;
    }
    Ok(report)
}

/// The streams in the order in which they begin.
fn streams(bases: &[&SnapshotInfo]) -> Vec<StreamId> {
    let mut streams: Vec<StreamId> = Vec::new();
    for stream in bases.iter().filter_map(|info| stream_of(info)) {
        if !streams.contains(&stream) {
            streams.push(stream);
        }
    }
    streams
}

fn stream_of(info: &SnapshotInfo) -> Option<StreamId> {
    info.snapshot.point.as_ref().map(|point| point.stream)
}

struct Work<'a> {
    shelf: &'a Shelf,
    options: &'a ThinOptions,
    scratch: &'a Path,
    publisher: &'a mut Publisher,
    stop: &'a Stop,
}

impl Work<'_> {
    /// Puts a new segment in the place of a group of old ones, or of nothing.
    fn replace(&mut self, stream: StreamId, group: &Group, report: &mut ThinReport) -> Result<()> {
        if self.stop.is_raised() {
            return Err(repo::Error::Interrupted.into());
        }
        report.segments_forgotten += group.segments.len() as u64;
        report.images_forgotten += group.images.len() as u64;
        report.segments_made += u64::from(!group.kept.is_empty());
        if self.options.dry_run {
            return Ok(());
        }
        let forgotten: Vec<_> = group.forgotten().collect();
        let merged = merge::merge(self.shelf.reader(), group, self.scratch, self.stop)?;
        let written = self.publisher.replace(stream, group.after, merged.changes(), forgotten)?;
        report.bytes_stored += written.bytes_stored;
        Ok(())
    }
}
