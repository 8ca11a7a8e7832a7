//! `asof forget`.

use std::time::Duration;

use crate::base::check_source_name;
use crate::base::units::show_span;
use crate::cli::args::ForgetArgs;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::keep::Keep;
use crate::cli::open::{Need, open_repository, tell_problems};
use crate::cli::output::{Align, Table, printable};
use crate::cli::show::{Done, count, time};
use crate::ops::forget::{self as op, ForgetOptions, ForgetReport, Policies, What};
use crate::ops::open::Freshness;

/// Forgets snapshots.
pub fn forget(context: &Context, args: &ForgetArgs) -> Result<Done, Failure> {
    for source in &args.sources {
        check_source_name(source)?;
    }
    let zone = context.zone()?;
    let options = ForgetOptions {
        what: match args.snapshots.as_slice() {
            [] => What::Policies(policies(context, &args.keep)),
            named => What::Named(named.to_vec()),
        },
        sources: args.sources.clone(),
        by_taken: args.by_taken,
        allow_empty: args.allow_empty,
        with_moments: args.with_moments,
        dry_run: args.dry_run,
        reason: args.reason.clone(),
    };
    let need = if args.dry_run { Need::Read(Freshness::AsItIs) } else { Need::Owner };
    let mut opened = open_repository(context, need)?;
    // What others forgot a moment ago must be known: it keeps no place for anything.
    let problems = opened.repo.sync(true)?.problems;
    tell_problems(context, &problems);
    let before = opened.problems.len();
    let report = opened.healing(|opened| op::forget(&opened.repo, &options, &zone))?;
    tell_problems(context, opened.problems.get(before..).unwrap_or_default());
    show(context, &report)
}

/// What to keep, as the command line says, else as the configuration file does.
fn policies(context: &Context, typed: &Keep) -> Policies {
    let configured = || context.profile.retention.as_ref().or(context.config.retention.as_ref());
    match typed.policies() {
        none if none == Policies::default() => configured().map(Keep::policies).unwrap_or_default(),
        typed => typed,
    }
}

fn show(context: &Context, report: &ForgetReport) -> Result<Done, Failure> {
    let zone = context.zone()?;
    let left = Align::Left;
    let mut table = Table::new(&[
        ("", left),
        ("ID", left),
        ("SOURCE", left),
        ("TIME", left),
        ("RECEIVED", left),
        ("KEY", left),
        ("TAGS", left),
        ("WHY", left),
    ]);
    for fate in &report.snapshots {
        table.row([
            if fate.forget { "forget" } else { "keep" }.to_owned(),
            fate.id.short(),
            fate.source.clone(),
            time(&zone, fate.shown_from),
            time(&zone, fate.receipt),
            fate.writer.short(),
            printable(fate.tags.join(",").as_bytes()),
            printable(fate.reasons.join(", ").as_bytes()),
        ]);
    }
    if !report.snapshots.is_empty() {
        context.out.table(&table)?;
    }
    if report.late > 0 {
        context.out.warning(&format!(
            "{} kept because the store received them long after they say they were taken; if this \
             store was copied from another, say --by-taken, else look at who wrote them",
            count(report.late, "snapshot was", "snapshots were")
        ));
    }
    let would = if report.dry_run { "would forget" } else { "forgot" };
    let kept = if report.dry_run { "keep" } else { "kept" };
    let message = format!(
        "{would} {}, {kept} {}",
        count(report.forgotten, "snapshot", "snapshots"),
        report.kept
    );
    context.out.say(&message)?;
    if report.forgotten > 0 {
        let grace = show_span(Duration::from_secs(report.grace_seconds));
        context.out.say(&format!(
            "`asof gc`, run regularly, gives their space back: not before {grace} from now."
        ))?;
    }
    Ok(Done::new(message).with(report))
}
