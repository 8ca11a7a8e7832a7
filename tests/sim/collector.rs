//! The program's own collector.

use std::sync::Arc;

use asof::base::{Progress, Stop};
use asof::ops::gc::{GcOptions, gc};
use asof::repo::Repository;
use asof::repo::writer::WriterOptions;

use crate::party::{Desk, Trouble};
use crate::rng::Rng;

/// Collects, now eager to rewrite packs and now content with what there is.
pub fn collect(repo: &Arc<Repository>, _: &Desk, rng: &mut Rng) -> Result<String, Trouble> {
    let options = GcOptions {
        max_unused: *rng.pick(&[0, 0, 10, 50]),
        writer: WriterOptions { uploads: 1, ..WriterOptions::default() },
        deletions: 1,
        ..GcOptions::default()
    };
    let report = gc(repo, &options, &Arc::new(Progress::silent()), &Stop::new())?;
    Ok(format!(
        "{} snapshots; condemned {}, rewritten {}, deleted {}, waiting {}, young {}, late {}",
        report.snapshots,
        report.condemned.packs,
        report.rewritten.packs,
        report.deleted.packs,
        report.waiting.packs,
        report.young.packs,
        report.late.len()
    ))
}
