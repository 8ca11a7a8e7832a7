//! `index status`: what this machine knows of a repository.

use std::path::PathBuf;

use serde::Serialize;

use crate::base::{RepositoryId, UnixTime};
use crate::ops::Result;
use crate::repo::Repository;

/// An object that could not be used.
#[derive(Debug, Clone, Serialize)]
pub struct BadRecord {
    /// Its id.
    pub record: String,
    /// Why nothing of it is believed.
    pub problem: String,
}

/// What the local index holds.
#[derive(Debug, Clone, Serialize)]
pub struct IndexReport {
    /// The repository.
    pub repository: RepositoryId,
    /// The file that the index is in.
    pub path: PathBuf,
    /// Its size on disk. Bytes.
    pub bytes: u64,
    /// When it was last brought up to date.
    pub synced: Option<UnixTime>,
    /// Records that are known.
    pub records: u64,
    /// Packs that they name.
    pub packs: u64,
    /// Chunks in those.
    pub chunks: u64,
    /// Bytes of the packs in the store.
    pub stored_bytes: u64,
    /// Snapshots that are not forgotten.
    pub snapshots: usize,
    /// Records of which nothing is believed.
    pub problems: Vec<BadRecord>,
}

/// Looks at the index as it is. Costs no store request.
///
/// # Errors
///
/// If the index cannot be read.
pub fn status(repo: &Repository) -> Result<IndexReport> {
    let index = repo.index();
    let (records, packs, chunks, stored_bytes) = index.counts()?;
    let beside = |suffix: &str| {
        let mut path = index.path().as_os_str().to_owned();
        path.push(suffix);
        std::fs::metadata(path).map_or(0, |file| file.len())
    };
    let problems = index.problem_records()?.into_iter().map(|seen| BadRecord {
        record: seen.id.to_string(),
        problem: seen.problem.unwrap_or_default(),
    });
    Ok(IndexReport {
        repository: repo.config().repository,
        path: index.path().to_owned(),
        bytes: beside("") + beside("-wal"),
        synced: repo.synced_at()?,
        records,
        packs,
        chunks,
        stored_bytes,
        snapshots: repo.snapshots()?.len(),
        problems: problems.collect(),
    })
}
