//! `asof thin`.

use std::time::Duration;

use serde_json::json;

use crate::base::check_source_name;
use crate::base::units::show_size;
use crate::cli::args::ThinArgs;
use crate::cli::config::ThinSpans;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, file};
use crate::cli::open::{Need, open_repository, tell_problems};
use crate::cli::show::{Done, count};
use crate::ops::thin::{Keep, ThinOptions, ThinReport, thin as thin_source};
use crate::repo::Shelf;
use crate::repo::reader::ReaderOptions;
use crate::repo::writer::WriterOptions;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Thins the history of followed sources.
pub fn thin(context: &Context, args: &ThinArgs) -> Result<Done, Failure> {
    for source in &args.sources {
        check_source_name(source)?;
    }
    let zone = context.zone()?;
    let opened = open_repository(context, Need::Collect)?;
    let problems = opened.repo.sync(true)?.problems;
    tell_problems(context, &problems);
    let local = context.local()?;
    let shelf = Shelf::open(&opened.repo, &local, ReaderOptions::default())?;
    std::fs::create_dir_all(&local.cache_dir).map_err(file(&local.cache_dir))?;
    let mut reports = Vec::new();
    for source in &args.sources {
        let options = ThinOptions {
            source: source.clone(),
            keep: keep(context, args, source),
            zone: zone.clone(),
            dry_run: args.dry_run,
            writer: WriterOptions::default(),
        };
        let report = thin_source(&shelf, &options, &local.cache_dir, &context.stop)?;
        context.out.say(&told(source, &report))?;
        reports.push(json!({ "source": source, "report": report }));
    }
    let did = if args.dry_run { "would thin" } else { "thinned" };
    let done = Done::new(format!("{did} {}", count(reports.len() as u64, "source", "sources")));
    Ok(done.field("sources", &reports))
}

/// What is kept: as the command line says, else as the source's definition does.
fn keep(context: &Context, args: &ThinArgs, source: &str) -> Keep {
    let ThinArgs { all_for, hourly_for, daily_for, .. } = *args;
    let defined = context.config.sources.get(source).map(|source| source.stream.thin);
    let spans = ThinSpans { all_for, hourly_for, daily_for }.over(defined.unwrap_or_default());
    Keep {
        all_for: spans.all_for.unwrap_or(7 * DAY),
        hourly_for: spans.hourly_for.unwrap_or(30 * DAY),
        daily_for: spans.daily_for,
    }
}

fn told(source: &str, report: &ThinReport) -> String {
    let would = if report.dry_run { "would be " } else { "" };
    format!(
        "{source}: {} of {} {would}kept; {} and {} {would}forgotten, {} {would}made ({})",
        count(report.moments, "moment", "moments"),
        report.moments_before,
        count(report.segments_forgotten, "segment", "segments"),
        count(report.images_forgotten, "image", "images"),
        count(report.segments_made, "segment", "segments"),
        show_size(report.bytes_stored),
    )
}
