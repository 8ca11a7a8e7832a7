//! `status`: is every source backed up lately?

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::base::{SnapshotId, UnixTime};
use crate::ops::select::timelines;
use crate::repo::SnapshotInfo;

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct StatusOptions {
    /// Sources that must have a snapshot. If `only`, no others are looked at.
    pub expected: Vec<String>,
    /// Whether the expected sources are all that matter.
    pub only: bool,
    /// How old the newest snapshot of each may be.
    pub max_age: Option<Duration>,
}

/// How a source stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It has a snapshot that is young enough.
    Fresh,
    /// Its newest snapshot is too old.
    Stale,
    /// It has none.
    Missing,
}

/// A source and its newest snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct SourceStatus {
    /// The source.
    pub source: String,
    /// How it stands.
    pub verdict: Verdict,
    /// Its newest snapshot.
    pub snapshot: Option<SnapshotId>,
    /// When that was taken.
    pub taken: Option<UnixTime>,
    /// How long ago that is.
    pub age_seconds: Option<u64>,
    /// How many snapshots it has.
    pub snapshots: usize,
    /// How many files the newest could not read.
    pub errors: u64,
}

/// How all sources stand.
#[derive(Debug, Clone, Serialize)]
pub struct StatusReport {
    /// Each source, by name.
    pub sources: Vec<SourceStatus>,
    /// Whether all are fresh, and there is at least one.
    pub fresh: bool,
    /// The age that is still fresh.
    pub max_age_seconds: Option<u64>,
}

/// Says how every source stands at `now`.
#[must_use]
pub fn status(infos: &[Arc<SnapshotInfo>], options: &StatusOptions, now: UnixTime) -> StatusReport {
    let lines = timelines(infos);
    let mut names: BTreeSet<&str> = options.expected.iter().map(String::as_str).collect();
    if !options.only {
        names.extend(lines.sources());
    }
    let sources: Vec<SourceStatus> = names
        .into_iter()
        .map(|source| {
            let line = lines.of(source);
            let newest = line.last();
            let age = newest.map(|head| now.since(head.at()));
            let verdict = match (age, options.max_age) {
                (None, _) => Verdict::Missing,
                (Some(age), Some(max)) if age > max => Verdict::Stale,
                (Some(_), _) => Verdict::Fresh,
            };
            let info =
                newest.and_then(|head| infos.iter().find(|info| info.snapshot.id == head.id));
            SourceStatus {
                source: source.to_owned(),
                verdict,
                snapshot: newest.map(|head| head.id),
                taken: newest.map(crate::view::Head::at),
                age_seconds: age.map(|age| age.as_secs()),
                snapshots: line.len(),
                errors: info.map_or(0, |info| info.snapshot.counts.errors),
            }
        })
        .collect();
    StatusReport {
        fresh: !sources.is_empty() && sources.iter().all(|s| s.verdict == Verdict::Fresh),
        sources,
        max_age_seconds: options.max_age.map(|age| age.as_secs()),
    }
}
