//! `asof snapshots`, `asof stats`, `asof status`.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::base::units::{show_count, show_duration, show_size};
use crate::base::{UnixTime, check_source_name};
use crate::cli::args::{SnapshotsArgs, StatusArgs};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::open::{Need, open_repository};
use crate::cli::output::{Align, Table, printable};
use crate::cli::show::{Done, count, time};
use crate::ops::open::Freshness;
use crate::ops::snapshots::{self as op, Filter};
use crate::ops::status::{self as freshness, StatusOptions, Verdict};
use crate::view::TimeSpec;

/// Lists snapshots.
pub fn snapshots(context: &Context, args: &SnapshotsArgs) -> Result<Done, Failure> {
    let zone = context.zone()?;
    let now = context.now();
    let instant = |text: &Option<String>| -> Result<Option<UnixTime>, Failure> {
        let parsed = text.as_deref().map(|text| TimeSpec::parse(text, &zone, now)).transpose()?;
        Ok(parsed.map(|resolved| resolved.instant))
    };
    let filter = Filter {
        sources: args.sources.clone(),
        tags: args.tags.clone(),
        hosts: args.hosts.clone(),
        since: instant(&args.since)?,
        until: instant(&args.until)?,
    };
    let mut opened = open_repository(context, Need::Read(Freshness::IfPossible))?;
    let infos = opened.healing(|opened| Ok(opened.repo.snapshots()?))?;
    let rows = op::rows(&infos, &filter);
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new(&[
        ("ID", left),
        ("SOURCE", left),
        ("TIME", left),
        ("HOST", left),
        ("FILES", right),
        ("SIZE", right),
        ("TAGS", left),
        ("PATHS", left),
    ]);
    for row in &rows {
        let mut paths = row.roots.join(" ");
        if row.counts.errors > 0 {
            paths.push_str(&format!("  ({})", count(row.counts.errors, "error", "errors")));
        }
        if let Some(end) = row.expires {
            paths.push_str(&format!("  (expires {})", time(&zone, end)));
        }
        table.row([
            row.id.short(),
            row.source.clone(),
            time(&zone, row.shown_from),
            printable(row.host.as_bytes()),
            show_count(row.counts.files),
            show_size(row.counts.bytes),
            printable(row.tags.join(",").as_bytes()),
            paths,
        ]);
    }
    if rows.is_empty() {
        let what = if infos.is_empty() {
            "The repository holds no snapshot yet; `asof backup PATH` takes one."
        } else {
            "No snapshot fits; `asof snapshots` without options lists all."
        };
        context.out.note(what);
    } else {
        context.out.table(&table)?;
    }
    let message = count(rows.len() as u64, "snapshot", "snapshots");
    Ok(Done::new(message).field("snapshots", &rows))
}

/// Shows how much is stored.
pub fn stats(context: &Context) -> Result<Done, Failure> {
    let mut opened = open_repository(context, Need::Read(Freshness::IfPossible))?;
    let stats = opened.healing(|opened| crate::ops::stats::stats(&opened.repo))?;
    let requests = opened.reached.requests();
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new(&[
        ("SOURCE", left),
        ("SNAPSHOTS", right),
        ("FILES", right),
        ("SIZE", right),
        ("OF ALL", right),
    ]);
    for (source, of) in &stats.sources {
        table.row([
            source.clone(),
            show_count(of.snapshots),
            show_count(of.files),
            show_size(of.bytes),
            show_size(of.bytes_all),
        ]);
    }
    if !stats.sources.is_empty() {
        context.out.table(&table)?;
        context.out.line("")?;
    }
    let followed = stats.sources.iter().filter(|(_, of)| of.segments > 0);
    let mut streams = Table::new(&[
        ("FOLLOWED", left),
        ("SEGMENTS", right),
        ("STATES", right),
        ("CHANGED", right),
    ]);
    for (source, of) in followed.clone() {
        streams.row([
            source.clone(),
            show_count(of.segments),
            show_count(of.states),
            show_size(of.segment_bytes),
        ]);
    }
    if followed.count() > 0 {
        context.out.table(&streams)?;
        context.out.line("")?;
    }
    let ratio = stats.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}"));
    let mut totals = Table::new(&[("", left), ("", left)]);
    for (name, value) in [
        ("snapshots", show_count(stats.snapshots)),
        ("in plain copies", show_size(stats.logical_bytes)),
        (
            "stored",
            format!("{} in {}", show_size(stats.stored_bytes), count(stats.packs, "pack", "packs")),
        ),
        ("ratio", ratio),
        ("chunks", show_count(stats.chunks)),
        ("records", show_count(stats.records)),
        (
            "this command",
            format!(
                "{}, {} received",
                count(requests.calls(), "request", "requests"),
                show_size(requests.bytes_down)
            ),
        ),
    ] {
        totals.row([name, &value]);
    }
    context.out.table(&totals)?;
    let message = format!("{} stored", show_size(stats.stored_bytes));
    Ok(Done::new(message).with(&stats).field("snapshots", &stats.snapshots))
}

/// Says whether every source was backed up lately.
pub fn status(context: &Context, args: StatusArgs) -> Result<Done, Failure> {
    for source in &args.sources {
        check_source_name(source)?;
    }
    let zone = context.zone()?;
    // What is monitored is what the store has, not what this machine remembers.
    let mut opened = open_repository(context, Need::Read(Freshness::Needed))?;
    let infos = opened.healing(|opened| Ok(opened.repo.snapshots()?))?;
    let only = !args.sources.is_empty();
    let expected = if only { args.sources } else { configured(context)? };
    let options = StatusOptions { expected, only, max_age: args.max_age };
    let report = freshness::status(&infos, &options, context.now());
    let left = Align::Left;
    let mut table = Table::new(&[
        ("SOURCE", left),
        ("STATE", left),
        ("NEWEST", left),
        ("AGE", Align::Right),
        ("SNAPSHOTS", Align::Right),
        ("", left),
    ]);
    for source in &report.sources {
        let age = source.age_seconds.map(|age| show_duration(Duration::from_secs(age)));
        let note = match source.errors {
            0 => String::new(),
            n => format!("{} in the newest", count(n, "unreadable file", "unreadable files")),
        };
        table.row([
            source.source.clone(),
            match source.verdict {
                Verdict::Fresh => "fresh",
                Verdict::Stale => "STALE",
                Verdict::Missing => "MISSING",
            }
            .to_owned(),
            source.taken.map(|at| time(&zone, at)).unwrap_or_default(),
            age.unwrap_or_default(),
            show_count(source.snapshots as u64),
            note,
        ]);
    }
    if report.sources.is_empty() {
        context.out.note("The repository holds no snapshot yet; `asof backup PATH` takes one.");
    } else {
        context.out.table(&table)?;
    }
    let late: Vec<&str> = report
        .sources
        .iter()
        .filter(|source| source.verdict != Verdict::Fresh)
        .map(|source| source.source.as_str())
        .collect();
    let message = match (report.fresh, late.is_empty()) {
        (true, _) => "every source is fresh".to_owned(),
        (false, true) => "there is no snapshot".to_owned(),
        (false, false) => format!("not fresh: {}", late.join(", ")),
    };
    let done = Done::new(message).with(&report);
    Ok(if report.fresh { done } else { done.ending(Exit::Failed, "stale") })
}

/// The sources of the configuration file that are backed up to this repository.
fn configured(context: &Context) -> Result<Vec<String>, Failure> {
    let mut names = BTreeSet::new();
    for name in context.config.sources.keys() {
        let profile = context.config.profile(None, Some(name))?;
        if profile.repository.is_none() || profile.repository == context.profile.repository {
            names.insert(name.clone());
        }
    }
    Ok(names.into_iter().collect())
}
