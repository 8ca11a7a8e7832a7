//! The program's own collector, as it is used: eager or content, now and then alone.

use std::sync::Arc;

use asof::base::{Progress, Stop};
use asof::ops::gc::{GcOptions, gc};
use asof::repo::Repository;
use asof::repo::checkpoint::CompactOptions;
use asof::repo::writer::WriterOptions;

use crate::party::{Desk, Trouble};
use crate::rng::Rng;

/// Collects, now eager to rewrite packs and now content with what there is.
pub fn collect(repo: &Arc<Repository>, desk: &Desk, rng: &mut Rng) -> Result<String, Trouble> {
    let options = GcOptions {
        exclusive: desk.alone,
        compact: CompactOptions { records_min: *rng.pick(&[1, 4, 16, 64]) },
        max_unused: *rng.pick(&[0, 0, 10, 50]),
        writer: WriterOptions { uploads: 1, ..WriterOptions::default() },
        deletions: 1,
        ..GcOptions::default()
    };
    let report = gc(repo, &options, &Arc::new(Progress::silent()), &Stop::new())?;
    Ok(format!(
        "{} snapshots; condemned {}, rewritten {}, deleted {}, waiting {}, young {}, late {}, merged {}, \
         dropped {}",
        report.snapshots,
        report.condemned.packs,
        report.rewritten.packs,
        report.deleted.packs,
        report.waiting.packs,
        report.young.packs,
        report.late.len(),
        report.compacted.records,
        report.dropped.objects
    ))
}
