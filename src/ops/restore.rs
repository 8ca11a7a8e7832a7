//! `restore`: a part of a snapshot becomes files again.
//!
//! The tree is gone through once, in order: directories, links and devices are
//! made on the way, files are handed in groups to writers that read and write side by side.
//! Names of files with several names are linked when their first is written, and
//! directories get their attributes when nothing is made in them any more, the deepest
//! first, since writing into them changes their times. A file is written beside its
//! place and moved there when it is whole, so an interrupted restore leaves no half file
//! under a name, and running it again goes on where it stopped.

mod files;
mod plan;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use crossbeam_channel::bounded;

use crate::base::{Progress, Stop};
use crate::ops::Result;
use crate::ops::select::Selected;
use crate::repo::{self, Library};
use crate::source::{RuleOptions, Rules};
use crate::target::{ApplyOptions, Outcome, Target};

/// What to do about files that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Write every file that is not equal already, comparing contents.
    #[default]
    Always,
    /// Write files whose size or modification time is another.
    IfChanged,
    /// Write files that are newer in the snapshot.
    IfNewer,
    /// Leave what is there.
    Never,
}

/// What to restore, and how.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// The directory that is restored into; made if it is missing.
    pub target: PathBuf,
    /// Patterns of what to restore; none means everything.
    pub include: Vec<String>,
    /// Patterns of what to leave out.
    pub exclude: Vec<String>,
    /// Read every file back and compare it with its SHA-256.
    pub verify: bool,
    /// Change nothing, only say what would be done.
    pub dry_run: bool,
    /// What to do about files that are there already.
    pub overwrite: Overwrite,
    /// Remove what is in the target but not in the snapshot.
    pub delete: bool,
    /// Do not set owners.
    pub no_owner: bool,
    /// Do not set extended attributes.
    pub no_xattrs: bool,
    /// Take owners by number although this machine knows their names.
    pub numeric_ids: bool,
}

/// How a restore ended.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct RestoreReport {
    /// Regular files written, or to be written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were there as they should be.
    pub unchanged: u64,
    /// Files that were left as they are because of `overwrite`.
    pub skipped: u64,
    /// Directories.
    pub dirs: u64,
    /// Links, devices, pipes and sockets.
    pub others: u64,
    /// What was removed.
    pub deleted: u64,
    /// Files that were read back and compared.
    pub verified: u64,
    /// Attributes that could not be set: what, how often, and the first case.
    pub refused: Vec<RefusedReport>,
    /// What could not be restored.
    pub errors: u64,
}

/// Attributes that could not be set.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RefusedReport {
    /// What kind of attribute.
    pub what: &'static str,
    /// How often.
    pub count: u64,
    /// The first case.
    pub first: String,
}

/// What all threads of a restore share.
pub(crate) struct Restore<'a> {
    pub(crate) library: &'a dyn Library,
    pub(crate) target: Option<Target>,
    pub(crate) options: &'a RestoreOptions,
    pub(crate) apply: ApplyOptions,
    pub(crate) progress: &'a Progress,
    pub(crate) stop: &'a Stop,
    pub(crate) refused: Mutex<Outcome>,
    pub(crate) report: Mutex<RestoreReport>,
    pub(crate) underway: files::Underway,
}

impl Restore<'_> {
    pub(crate) fn count(&self, add: impl FnOnce(&mut RestoreReport)) {
        add(&mut self.report.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    pub(crate) fn note(&self, outcome: Outcome) {
        if !outcome.is_complete() {
            let mut refused =
                self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            refused.add(outcome);
        }
    }

    pub(crate) fn problem(&self, path: &[u8], error: &dyn std::error::Error) {
        self.progress.problem(crate::source::path::shown(path), crate::base::error_chain(error));
        self.count(|report| report.errors += 1);
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.stop.is_raised() { Err(repo::Error::Interrupted.into()) } else { Ok(()) }
    }
}

/// How many groups may wait for a writer, with as many files as a batch has: while the next are
/// gathered and put in order, those of the last batch keep the writers at work.
const WAITING: usize = plan::ORDERED_FILES / plan::GROUP_FILES;

/// Restores what was selected into a directory.
///
/// A directory's contents go right into the target; anything else goes there under
/// its own name.
///
/// # Errors
///
/// [`crate::ops::Error`] if it could not begin or was interrupted. What fails for single files
/// is a problem in `progress`, and counted in the report.
pub fn restore(
    library: &Arc<dyn Library>,
    selected: &Selected,
    options: &RestoreOptions,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<RestoreReport> {
    let rules = |patterns: &[String]| -> Result<Option<Rules>> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let options = RuleOptions { exclude: patterns.to_vec(), ..RuleOptions::default() };
        Ok(Some(Rules::new(&options)?))
    };
    let (include, exclude) = (rules(&options.include)?, rules(&options.exclude)?);
    let target = (!options.dry_run).then(|| Target::open(&options.target)).transpose()?;
    progress.enter("restoring");
    let entry = selected.found.entry();
    let (files, bytes) = match entry.subtree {
        Some(subtree) => (subtree.entries, subtree.bytes),
        None => (1, entry.bytes()),
    };
    progress.files_expected.store(files, Ordering::Relaxed);
    progress.bytes_expected.store(bytes, Ordering::Relaxed);
    let restore = Restore {
        library: library.as_ref(),
        target,
        options,
        apply: ApplyOptions {
            owner: !options.no_owner,
            xattrs: !options.no_xattrs,
            numeric_ids: options.numeric_ids,
        },
        progress,
        stop,
        refused: Mutex::default(),
        report: Mutex::default(),
        underway: files::Underway::default(),
    };
    let writers =
        std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(2, 8);
    let (groups, queue) = bounded(WAITING);
    let planned = std::thread::scope(|scope| {
        for _ in 0..writers {
            let (restore, queue) = (&restore, queue.clone());
            scope.spawn(move || files::write_all(restore, &queue));
        }
        drop(queue);
        plan::Plan::new(&restore, include, exclude, groups).walk(selected)
    });
    let finished = planned.and_then(|ends| {
        restore.check()?;
        ends.finish(&restore)
    });
    finished?;
    let mut report = restore.report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let refused = restore.refused.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (what, refused) in [
        ("owner", refused.owner),
        ("mode", refused.mode),
        ("set-id bit", refused.set_id),
        ("extended attribute", refused.xattrs),
        ("time", refused.time),
    ] {
        if refused.count > 0 {
            let first = refused.first.unwrap_or_default();
            report.refused.push(RefusedReport { what, count: refused.count, first });
        }
    }
    Ok(report)
}

impl RestoreReport {
    /// Whether everything was restored as it was.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.errors == 0 && self.refused.is_empty()
    }
}
