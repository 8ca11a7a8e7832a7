//! `asof restore`.

use std::time::Instant;

use crate::base::units::{show_duration, show_size};
use crate::cli::args::RestoreArgs;
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::open::{Need, library, open_repository};
use crate::cli::show::{Done, count, time};
use crate::ops::open::Freshness;
use crate::ops::restore::{self as op, RestoreOptions, RestoreReport};
use crate::ops::select::select;
use crate::repo::reader::ReaderOptions;

/// Brings files back.
pub fn restore(context: &Context, args: RestoreArgs, started: Instant) -> Result<Done, Failure> {
    let zone = context.zone()?;
    let mut opened = open_repository(context, Need::Read(Freshness::IfPossible))?;
    let library = library(context, &opened, ReaderOptions::default())?;
    let selected =
        opened.healing(|_| select(library.as_ref(), &args.selector, &zone, context.now()))?;
    let options = RestoreOptions {
        target: args.target,
        include: args.include,
        exclude: args.exclude,
        verify: args.verify,
        dry_run: args.dry_run,
        overwrite: args.overwrite.into(),
        delete: args.delete,
        no_owner: args.no_owner,
        no_xattrs: args.no_xattrs,
        numeric_ids: args.numeric_ids,
    };
    let watch = context.watch();
    let report = op::restore(&library, &selected, &options, &watch.progress(), &context.stop);
    watch.finish();
    let report = report?;
    let snapshot = &selected.info.snapshot;
    let title = format!(
        "{} {}@{} {} {}",
        if options.dry_run { "would restore" } else { "restored" },
        snapshot.source,
        time(&zone, selected.info.shown_from()),
        if options.dry_run { "into" } else { "to" },
        options.target.display()
    );
    let refused: u64 = report.refused.iter().map(|refused| refused.count).sum();
    for case in &report.refused {
        context.out.warning(&format!(
            "{} could not be set, the first on {}",
            count(case.count, case.what, &format!("{}s", case.what)),
            case.first
        ));
    }
    if report.refused.iter().any(|case| case.what == "owner") {
        context.out.hint("only root can restore owners; --no-owner leaves them out");
    }
    let requests = opened.reached.requests().calls();
    context.out.say(&title)?;
    context.out.say(&format!("  {}", figures(&report, options.verify)))?;
    context.out.say(&format!(
        "  {} {}; {}, {}",
        if options.dry_run { "would write" } else { "wrote" },
        show_size(report.bytes),
        count(requests, "request", "requests"),
        show_duration(started.elapsed())
    ))?;
    let done = Done::new(title)
        .with(&report)
        .field("snapshot", &snapshot.id)
        .field("source", &snapshot.source)
        .field("dry_run", &options.dry_run)
        .field("seconds", &started.elapsed().as_secs_f64());
    Ok(match Exit::of_problems(report.errors + refused) {
        Exit::Done => done,
        exit => done.ending(exit, "some-files-not-restored"),
    })
}

fn figures(report: &RestoreReport, verified: bool) -> String {
    let mut parts =
        vec![count(report.files, "file", "files"), count(report.dirs, "directory", "directories")];
    for (n, one, many) in [
        (report.others, "other", "others"),
        (report.unchanged, "file as it should be already", "files as they should be already"),
        (report.skipped, "file left as it was", "files left as they were"),
        (report.deleted, "removed", "removed"),
        (report.errors, "error", "errors"),
    ] {
        if n > 0 {
            parts.push(count(n, one, many));
        }
    }
    if verified {
        parts.push(count(report.verified, "verified", "verified"));
    }
    parts.join(", ")
}
