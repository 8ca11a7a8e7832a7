//! `stats`: what is in a repository, and what it takes.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::ops::Result;
use crate::repo::{Repository, streams};

/// Figures of one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SourceStats {
    /// Its snapshots.
    pub snapshots: u64,
    /// Files in the newest.
    pub files: u64,
    /// Bytes of files in the newest.
    pub bytes: u64,
    /// Bytes of files in all its snapshots, each counted in full.
    pub bytes_all: u64,
    /// Segments of its streams.
    pub segments: u64,
    /// States that these lead to.
    pub states: u64,
    /// Bytes of the pages in them.
    pub segment_bytes: u64,
}

/// Figures of a repository.
#[derive(Debug, Clone, Serialize)]
pub struct StatsReport {
    /// Snapshots that are not forgotten.
    pub snapshots: u64,
    /// By source.
    pub sources: BTreeMap<String, SourceStats>,
    /// Bytes of files in all snapshots, each counted in full: what plain copies would take.
    pub logical_bytes: u64,
    /// Bytes of all packs in the store.
    pub stored_bytes: u64,
    /// `logical_bytes` for each stored byte; none if nothing is stored.
    pub ratio: Option<f64>,
    /// Packs in the store.
    pub packs: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// Records in the log.
    pub records: u64,
}

/// Counts what the index knows. Costs no store request.
///
/// # Errors
///
/// If the index cannot be read.
#[allow(clippy::cast_precision_loss)]
pub fn stats(repo: &Repository) -> Result<StatsReport> {
    let mut sources: BTreeMap<String, SourceStats> = BTreeMap::new();
    let infos = repo.snapshots()?;
    for info in infos.iter() {
        // Oldest first, so what stays is the newest.
        let counts = info.snapshot.counts;
        let stats = sources.entry(info.snapshot.source.clone()).or_default();
        stats.snapshots += 1;
        stats.files = counts.files;
        stats.bytes = counts.bytes;
        stats.bytes_all = stats.bytes_all.saturating_add(counts.bytes);
    }
    for (source, stream) in repo.index().streams()? {
        let stats = sources.entry(source.clone()).or_default();
        repo.index().each_segment(&stream, |row| -> Result<()> {
            let (_, segment) = streams::decode(repo, &row)?;
            if segment.source != source {
                return Ok(());
            }
            let bytes = (segment.pages() as u64).saturating_mul(segment.page_bytes.into());
            stats.segments += 1;
            stats.states += segment.changes.len() as u64;
            stats.segment_bytes = stats.segment_bytes.saturating_add(bytes);
            Ok(())
        })?;
    }
    let (records, packs, chunks, stored_bytes) = repo.index().counts()?;
    let logical_bytes = sources.values().fold(0, |sum: u64, s| sum.saturating_add(s.bytes_all));
    let ratio = (stored_bytes > 0).then(|| logical_bytes as f64 / stored_bytes as f64);
    Ok(StatsReport {
        snapshots: infos.len() as u64,
        sources,
        logical_bytes,
        stored_bytes,
        ratio,
        packs,
        chunks,
        records,
    })
}
