//! `check`: whether what is stored can be read, and what is lost if it cannot.
//!
//! In this order, so that each step builds on the one before:
//!
//! ```text
//! log      asof.json, key files, every record, chains, checkpoints
//! packs    every claimed pack is in the store with its size
//! read     if asked for: packs are read whole and every chunk is compared with its id
//! trees    every node of every snapshot is read once, counts and links are added up,
//!          and every chunk that a file needs is looked for in a pack that is there
//! streams  every chunk of a segment is looked for, and what leads nowhere is named
//! files    what the damage is of: sources, snapshots, paths
//! ```
//!
//! What is damaged stops nothing: it is noted, with everything that depends on it. What
//! it notes is in temporary tables of the index (see [`crate::index::Survey`]), so memory
//! does not grow with the repository: 32 MiB of frames, up to 32 MiB of the nodes on the
//! way to the one that is looked at, 32 bytes for each of their children, and, while
//! packs are read, four packs, of which one may be larger than 32 MiB.
//!
//! Backups of this machine build no longer on packs that it finds damaged or gone: one
//! that reads everything stores again what the source still has, and mends by that all
//! snapshots that had it.
//!
//! The cache on disk is not used: what only this machine has is lost to others.

mod hashes;
mod links;
mod log;
mod nodes;
mod packs;
mod segments;
mod trees;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::base::{Progress, SnapshotId, Stop, StreamId, UnixTime};
use crate::index::Survey;
use crate::ops::Result;
use crate::repo::reader::{Reader, ReaderOptions};
use crate::repo::{self, Repository, SnapshotInfo};
use crate::source::path::shown;

pub use hashes::{StoreReport, check_store};

/// Which of the packs are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// So many hundredths of a percent of them, those that were read longest ago first.
    Share(u32),
    /// Those whose ids, as numbers, leave this rest when they are divided by so many:
    /// as many runs as there are parts read them all.
    OneOf {
        /// Which part, from 0.
        part: u32,
        /// How many there are.
        of: u32,
    },
}

/// Text that names no part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no part: write a share as 5% or 0.5%, or one of several parts as 2/7")]
pub struct NotAPart {
    text: String,
}

impl FromStr for Part {
    type Err = NotAPart;

    fn from_str(text: &str) -> std::result::Result<Part, NotAPart> {
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let number = |text: &str| text.parse::<u32>().ok().filter(|_| digits(text));
        let parse = || {
            if let Some((part, of)) = text.split_once('/') {
                let (part, of) = (number(part)?, number(of)?);
                return (1..=of).contains(&part).then(|| Part::OneOf { part: part - 1, of });
            }
            let share = text.strip_suffix('%')?;
            let (whole, rest) = share.split_once('.').unwrap_or((share, "0"));
            let tenfold = if rest.len() == 1 { 10 } else { 1 };
            let hundredths = number(rest).filter(|_| (1..=2).contains(&rest.len()))? * tenfold;
            let share = number(whole)?.checked_mul(100)?.checked_add(hundredths)?;
            (1..=10_000).contains(&share).then_some(Part::Share(share))
        };
        parse().ok_or_else(|| NotAPart { text: text.to_owned() })
    }
}

/// What to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckOptions {
    /// Read packs whole, and not only what trees are made of.
    pub read_data: bool,
    /// Which packs; none means all.
    pub part: Option<Part>,
    /// Leave out packs that a check of this machine read and found whole less than that
    /// long ago.
    pub max_age: Option<Duration>,
}

/// What a check found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckReport {
    /// Records in the log.
    pub records: u64,
    /// Packs that the log claims and the store has.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Packs that nobody claims: they cost space, and no damage is done.
    pub orphans: u64,
    /// Their bytes.
    pub orphan_bytes: u64,
    /// Packs that were read whole.
    pub packs_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Packs that were left out, since they were found whole lately.
    pub packs_verified_lately: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Nodes of their trees.
    pub nodes: u64,
    /// Segments of streams.
    pub segments: u64,
    /// Segments of which something cannot be read.
    pub segments_damaged: u64,
    /// Snapshots of which something cannot be read.
    pub snapshots_damaged: u64,
    /// How many objects are damaged.
    pub damaged_objects: u64,
    /// The first of them, and what each costs.
    pub damaged: Vec<Damaged>,
    /// What is not as it should be and does no harm, for people.
    pub remarks: Vec<String>,
}

/// An object that is damaged.
#[derive(Debug, Clone, Serialize)]
pub struct Damaged {
    /// Its name in the store, or what it is.
    pub object: String,
    /// What is wrong with it.
    pub why: String,
    /// Chunks that are needed and cannot be read because of it.
    pub chunks: u64,
    /// The sources that are concerned.
    pub sources: Vec<DamagedSource>,
    /// How many files and directories are concerned, each path counted once a source.
    pub files_concerned: u64,
    /// The first of them, as `SOURCE:/PATH`. Of a directory that ends in `/`, what is in
    /// it cannot be listed.
    pub files: Vec<String>,
    /// How many segments of followed databases are concerned.
    pub segments_concerned: u64,
    /// The first of them.
    pub segments: Vec<DamagedSegment>,
}

/// A segment that damage concerns. The states that lack pages are these, and those after
/// them until one that is stored whole, unless the same pages were written again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedSegment {
    /// The segment.
    pub segment: SnapshotId,
    /// The source.
    pub source: String,
    /// The stream.
    pub stream: StreamId,
    /// The position of the first state that lacks pages.
    pub first: u64,
    /// That of the last one in the segment.
    pub last: u64,
    /// When the first was seen.
    pub since: UnixTime,
    /// When the last was.
    pub until: UnixTime,
    /// The position of the next state that is stored whole; none if there is none yet.
    pub whole_again: Option<u64>,
}

/// A source that damage concerns.
#[derive(Debug, Clone, Serialize)]
pub struct DamagedSource {
    /// The source.
    pub source: String,
    /// How many of its snapshots are concerned.
    pub snapshots: u64,
    /// The newest of them.
    pub newest: SnapshotId,
    /// From when on that is shown.
    pub newest_shown_from: UnixTime,
    /// Whether it is the newest of the source, which a restore takes if none is named.
    pub is_latest: bool,
}

/// How many damaged objects are told of one by one.
const OBJECTS_SHOWN: usize = 1000;
/// How many files are named of each.
const FILES_SHOWN: usize = 100;
/// How many segments are named of each.
const SEGMENTS_SHOWN: usize = 100;
/// How many harmless objects are named.
const REMARKS_SHOWN: usize = 20;

/// What all steps share.
struct Check<'a> {
    repo: &'a Repository,
    survey: Survey,
    reader: Reader,
    progress: &'a Progress,
    stop: &'a Stop,
    options: CheckOptions,
    report: CheckReport,
}

/// Checks a repository. Damage is no error: it is in the report.
///
/// Costs a LIST of everything, a GET for each record and key file, and for about every
/// [`ReaderOptions::fetch_bytes`] of node packs; with `read_data` one for each pack.
///
/// # Errors
///
/// If the store does not answer, the keys at hand cannot read, or it was asked to stop.
pub fn check(
    repo: &Arc<Repository>,
    options: CheckOptions,
    progress: &Progress,
    stop: &Stop,
) -> Result<CheckReport> {
    if !repo.keys().can_read() {
        let needs = "a passphrase; without one, --store-only compares names";
        return Err(repo::Error::NotAllowed { action: "checking what is stored", needs }.into());
    }
    let index = Arc::clone(repo.index());
    let mut reading = ReaderOptions::default();
    if repo.store().local_path().is_some() {
        reading = reading.for_directory();
    }
    // The log was read just now: nothing is gained by reading it for each lost chunk.
    let heal = || Ok(());
    let (store, keys) = (Arc::clone(repo.store()), Arc::clone(repo.keys()));
    let reader = Reader::new(store, Arc::clone(&index), keys, None, reading, heal);
    let survey = index.survey()?;
    let report = CheckReport::default();
    let mut check = Check { repo, survey, reader, progress, stop, options, report };
    check.log()?;
    check.packs()?;
    if options.read_data {
        check.read_packs()?;
    }
    let infos = repo.snapshots()?;
    check.checkpoints()?;
    check.trees(&infos)?;
    check.segments(&infos)?;
    check.name_files(&infos)?;
    check.finish(&infos)
}

impl Check<'_> {
    fn go_on(&self) -> Result<()> {
        if self.stop.is_raised() { Err(repo::Error::Interrupted.into()) } else { Ok(()) }
    }

    /// Notes that an object is damaged, and tells of it at once.
    fn damaged(&self, object: impl Into<String>, why: impl fmt::Display) -> Result<i64> {
        let (object, why) = (object.into(), why.to_string());
        let number = self.survey.blame(&object, &why, true)?;
        self.progress.problem(object, why);
        Ok(number)
    }

    /// Notes something that is damage only if it costs something that is needed.
    fn suspect(&self, object: &str, why: &str) -> Result<i64> {
        Ok(self.survey.blame(object, why, false)?)
    }

    fn finish(mut self, infos: &[Arc<SnapshotInfo>]) -> Result<CheckReport> {
        let by_id: BTreeMap<SnapshotId, &SnapshotInfo> =
            infos.iter().map(|info| (info.snapshot.id, info.as_ref())).collect();
        // Oldest first, so what stays is the newest.
        let latest: BTreeMap<&str, SnapshotId> =
            infos.iter().map(|info| (info.snapshot.source.as_str(), info.snapshot.id)).collect();
        let (count, rows) = self.survey.damage(OBJECTS_SHOWN)?;
        self.report.damaged_objects = count;
        for row in rows {
            let mut concerned: Vec<&SnapshotInfo> = self
                .survey
                .concerned(row.number)?
                .iter()
                .filter_map(|id| by_id.get(id).copied())
                .collect();
            concerned.sort_by_key(|info| (&info.snapshot.source, info.shown_from(), info.receipt));
            let sources = concerned
                .chunk_by(|a, b| a.snapshot.source == b.snapshot.source)
                .filter_map(|all| {
                    let newest = all.last()?;
                    let source = newest.snapshot.source.as_str();
                    Some(DamagedSource {
                        source: source.to_owned(),
                        snapshots: all.len() as u64,
                        newest: newest.snapshot.id,
                        newest_shown_from: newest.shown_from(),
                        is_latest: latest.get(source) == Some(&newest.snapshot.id),
                    })
                });
            let sources = sources.collect();
            let files = self.survey.files(row.number, FILES_SHOWN)?;
            let (segments_concerned, segments) =
                self.survey.segment_losses(row.number, SEGMENTS_SHOWN)?;
            self.report.damaged.push(Damaged {
                object: row.name,
                why: row.why,
                chunks: row.chunks,
                sources,
                files_concerned: row.files,
                files: files.iter().map(|name| shown(name)).collect(),
                segments_concerned,
                segments: segments.into_iter().map(DamagedSegment::from).collect(),
            });
        }
        for (object, why) in self.survey.harmless(REMARKS_SHOWN)? {
            let remark = format!("{object}: {why}; nothing that a snapshot needs is lost by it");
            self.report.remarks.push(remark);
        }
        self.report.nodes = self.survey.nodes()?;
        self.report.snapshots = infos.len() as u64;
        self.report.snapshots_damaged = self.survey.snapshots_concerned()?;
        self.report.segments_damaged = self.survey.segments_lost()?;
        Ok(self.report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_a_share_or_one_of_several() {
        for (text, part) in [
            ("5%", Some(Part::Share(500))),
            ("0.5%", Some(Part::Share(50))),
            ("0.25%", Some(Part::Share(25))),
            ("100%", Some(Part::Share(10_000))),
            ("1/1", Some(Part::OneOf { part: 0, of: 1 })),
            ("7/7", Some(Part::OneOf { part: 6, of: 7 })),
        ] {
            assert_eq!(text.parse().ok(), part, "{text}");
        }
        for text in ["", "5", "%", "0%", "0.005%", "101%", "-1%", "0/7", "8/7", "1/0", "+1/7"] {
            assert!(text.parse::<Part>().is_err(), "{text}");
        }
    }
}
