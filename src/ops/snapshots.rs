//! `snapshots`: which states there are.

use std::sync::Arc;

use serde::Serialize;

use crate::base::{SnapshotId, UnixTime, WriterId};
use crate::format::fact::Counts;
use crate::format::segment::StreamPoint;
use crate::ops::Result;
use crate::ops::select::timelines;
use crate::repo::{Library, SnapshotInfo};
use crate::source::path::shown;

/// Which snapshots are wanted. What is empty or none asks for nothing.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of one of these sources.
    pub sources: Vec<String>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// From one of these hosts.
    pub hosts: Vec<String>,
    /// Shown from this instant on, or later.
    pub since: Option<UnixTime>,
    /// Shown from this instant on, or earlier.
    pub until: Option<UnixTime>,
}

impl Filter {
    fn admits(&self, info: &SnapshotInfo) -> bool {
        let snapshot = &info.snapshot;
        let at = info.shown_from();
        (self.sources.is_empty() || self.sources.contains(&snapshot.source))
            && (self.hosts.is_empty() || self.hosts.contains(&snapshot.host))
            && self.tags.iter().all(|tag| snapshot.tags.contains(tag))
            && self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at <= until)
    }
}

/// A snapshot, as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its id.
    pub id: SnapshotId,
    /// What it is a state of.
    pub source: String,
    /// The shortest name of its time among those of the source: `SOURCE@NAME` selects it.
    pub name: String,
    /// When its reading began.
    pub started: UnixTime,
    /// When it ended, as the writer says.
    pub taken: UnixTime,
    /// From when on it is shown: `taken`, but not later than it was received.
    pub shown_from: UnixTime,
    /// When the store received it.
    pub receipt: UnixTime,
    /// Whether it was received so late that what it stands on may be gone.
    pub late: bool,
    /// What was backed up.
    pub roots: Vec<String>,
    /// On which machine.
    pub host: String,
    /// By whom.
    pub user: String,
    /// Words that were put on it.
    pub tags: Vec<String>,
    /// The snapshot that it was compared with.
    pub parent: Option<SnapshotId>,
    /// What was met.
    pub counts: Counts,
    /// From when on it is no longer wanted, if that was said.
    pub expires: Option<UnixTime>,
    /// Of a database that is followed, which of its states it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub point: Option<StreamPoint>,
    /// The program that took it.
    pub program: String,
    /// The key that signed it.
    pub writer: WriterId,
}

/// The snapshots that a filter admits, oldest first.
///
/// # Errors
///
/// The library's, if it cannot list them.
pub fn snapshots(library: &dyn Library, filter: &Filter) -> Result<Vec<Row>> {
    let infos = library.snapshots()?;
    Ok(rows(&infos, filter))
}

/// The same for snapshots at hand.
#[must_use]
pub fn rows(infos: &[Arc<SnapshotInfo>], filter: &Filter) -> Vec<Row> {
    let lines = timelines(infos);
    let mut names = std::collections::HashMap::new();
    for source in lines.sources() {
        for (head, name) in lines.of(source).iter().zip(lines.snapshot_names(source)) {
            names.insert(head.id, name);
        }
    }
    let mut wanted: Vec<&Arc<SnapshotInfo>> =
        infos.iter().filter(|info| filter.admits(info)).collect();
    wanted.sort_by_key(|info| (info.shown_from(), info.receipt, info.snapshot.id));
    wanted
        .into_iter()
        .map(|info| {
            let snapshot = &info.snapshot;
            Row {
                id: snapshot.id,
                source: snapshot.source.clone(),
                name: names.get(&snapshot.id).cloned().unwrap_or_default(),
                started: snapshot.started,
                taken: snapshot.taken,
                shown_from: info.shown_from(),
                receipt: info.receipt,
                late: info.late,
                roots: snapshot.roots.iter().map(|root| shown(root)).collect(),
                host: snapshot.host.clone(),
                user: snapshot.user.clone(),
                tags: snapshot.tags.clone(),
                parent: snapshot.parent,
                counts: snapshot.counts,
                expires: snapshot.expires,
                point: snapshot.point.clone(),
                program: snapshot.program.clone(),
                writer: info.writer,
            }
        })
        .collect()
}
