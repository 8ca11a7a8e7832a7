//! `asof check`.

use std::time::Instant;

use crate::base::units::{show_count, show_duration, show_size};
use crate::cli::args::CheckArgs;
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::open::{Need, open_repository, reach_store};
use crate::cli::output::printable;
use crate::cli::show::{Done, count, time};
use crate::format::names;
use crate::ops::check::{self as op, CheckOptions, CheckReport, Damaged};
use crate::view::Zone;

/// How many files are named of each damaged object.
const FILES_SHOWN: usize = 10;
/// How many segments.
const SEGMENTS_SHOWN: usize = 10;

const PUT_BACK: &str = "put damaged objects back under their names, from another copy of the store \
                        or an older version that the bucket keeps";
const STORE_AGAIN: &str = "`asof backup --force` on this machine stores again what the sources still \
                           have";
const ALL_NAMED: &str = "Everything that is not named here restores";
const SEE_COST: &str = "`asof check` says what they cost";

/// Checks the repository, or the store alone.
pub fn check(context: &Context, args: &CheckArgs, started: Instant) -> Result<Done, Failure> {
    if args.store_only {
        return store_only(context, started);
    }
    let options = CheckOptions {
        read_data: args.read_data || args.read_data_subset.is_some(),
        part: args.read_data_subset,
        max_age: args.max_age,
    };
    if args.max_age.is_some() && !options.read_data {
        return Err(Failure::usage("--max-age is about packs that are read")
            .hint("give it with --read-data or --read-data-subset"));
    }
    let zone = context.zone()?;
    let mut opened = open_repository(context, Need::Check)?;
    let watch = context.watch();
    let progress = watch.progress();
    let report =
        opened.healing(|opened| op::check(&opened.repo, options, &progress, &context.stop));
    watch.finish();
    let report = report?;
    let out = &context.out;
    for damaged in &report.damaged {
        show(context, &zone, damaged)?;
    }
    let untold = report.damaged_objects.saturating_sub(report.damaged.len() as u64);
    if untold > 0 {
        out.line(&format!("and {} more", count(untold, "damaged object", "damaged objects")))?;
    }
    for remark in &report.remarks {
        out.note(&format!("asof: {}", printable(remark.as_bytes())));
    }
    let title = title(&report);
    out.say(&title)?;
    for line in figures(&report, options.read_data) {
        out.say(&format!("  {line}"))?;
    }
    let requests = count(opened.reached.requests().calls(), "request", "requests");
    out.say(&format!("  {requests}, {}", show_duration(started.elapsed())))?;
    let done = Done::new(title).with(&report).field("seconds", &started.elapsed().as_secs_f64());
    let mut next = format!("{PUT_BACK}; {STORE_AGAIN}");
    if args.read_data && args.max_age.is_none() && is_all_named(&report) {
        next = format!("{next}. {ALL_NAMED}");
    }
    Ok(ending(context, done, report.damaged_objects, &next))
}

fn ending(context: &Context, done: Done, damaged_objects: u64, next: &str) -> Done {
    match damaged_objects {
        0 => done,
        _ => {
            context.out.hint(next);
            done.ending(Exit::Damage, "damaged")
        }
    }
}

/// Whether all that the damage costs was told.
fn is_all_named(report: &CheckReport) -> bool {
    let told = |damaged: &Damaged| {
        damaged.files_concerned <= FILES_SHOWN as u64
            && damaged.segments_concerned <= SEGMENTS_SHOWN as u64
    };
    report.damaged_objects == report.damaged.len() as u64 && report.damaged.iter().all(told)
}

fn title(report: &CheckReport) -> String {
    if report.damaged_objects == 0 {
        return "no damage was found".to_owned();
    }
    let mut title = format!(
        "{} damaged; {} of {} cannot be restored whole",
        count(report.damaged_objects, "object is", "objects are"),
        show_count(report.snapshots_damaged),
        count(report.snapshots, "snapshot", "snapshots")
    );
    if report.segments_damaged > 0 {
        title.push_str(&format!(
            ", {} of {} lack pages",
            show_count(report.segments_damaged),
            count(report.segments, "segment", "segments")
        ));
    }
    title
}

fn figures(report: &CheckReport, read_data: bool) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{}, {}, {}",
            count(report.records, "record", "records"),
            count(report.snapshots, "snapshot", "snapshots"),
            count(report.nodes, "node", "nodes")
        ),
        format!("{} ({})", count(report.packs, "pack", "packs"), show_size(report.pack_bytes)),
    ];
    if report.segments > 0 {
        lines.push(format!("{} of streams", count(report.segments, "segment", "segments")));
    }
    if read_data {
        lines.push(format!(
            "{} read whole ({})",
            count(report.packs_read, "pack", "packs"),
            show_size(report.bytes_read)
        ));
    }
    if report.packs_verified_lately > 0 {
        let packs = count(report.packs_verified_lately, "pack", "packs");
        lines.push(format!("{packs} left out, found whole lately"));
    }
    if report.orphans > 0 {
        lines.push(format!(
            "{} that no record names ({}), as interrupted backups leave them; they cost only space",
            count(report.orphans, "pack", "packs"),
            show_size(report.orphan_bytes)
        ));
    }
    lines
}

fn show(context: &Context, zone: &Zone, damaged: &Damaged) -> Result<(), Failure> {
    let out = &context.out;
    out.line(&format!("{}: {}", printable(damaged.object.as_bytes()), damaged.why))?;
    // What a record or a key file costs is not told by what trees need.
    if damaged.sources.is_empty()
        && damaged.segments.is_empty()
        && damaged.object.starts_with(names::PACKS)
    {
        out.line("  nothing that a snapshot needs is lost by it")?;
    }
    if damaged.chunks > 0 {
        let chunks = count(damaged.chunks, "chunk", "chunks");
        out.line(&format!("  {chunks} that snapshots need cannot be read"))?;
    }
    for source in &damaged.sources {
        out.line(&format!(
            "  {} of {}; the last: {}{}",
            count(source.snapshots, "snapshot", "snapshots"),
            source.source,
            time(zone, source.newest_shown_from),
            if source.is_latest { ", the newest that there is" } else { "" }
        ))?;
    }
    for segment in damaged.segments.iter().take(SEGMENTS_SHOWN) {
        let whole = match segment.whole_again {
            Some(position) => format!("position {position} is stored whole again"),
            None => "none after them is stored whole yet".to_owned(),
        };
        out.line(&format!(
            "  states of {} at positions {} to {}, {} to {}; {whole} (segment {})",
            segment.source,
            segment.first,
            segment.last,
            time(zone, segment.since),
            time(zone, segment.until),
            segment.segment.short()
        ))?;
    }
    let more = damaged.segments_concerned.saturating_sub(SEGMENTS_SHOWN as u64);
    if more > 0 {
        out.line(&format!("  and {} more", count(more, "segment", "segments")))?;
    }
    for file in damaged.files.iter().take(FILES_SHOWN) {
        out.line(&format!("  {}", printable(file.as_bytes())))?;
    }
    let more = damaged.files_concerned.saturating_sub(FILES_SHOWN as u64);
    if more > 0 {
        out.line(&format!("  and {} more", count(more, "file", "files")))?;
    }
    Ok(())
}

fn store_only(context: &Context, started: Instant) -> Result<Done, Failure> {
    let reached = reach_store(context, Need::Check, false)?;
    let watch = context.watch();
    let report = op::check_store(reached.store.as_ref(), &watch.progress(), &context.stop);
    watch.finish();
    let report = report?;
    for stray in &report.stray_names {
        let stray = printable(stray.as_bytes());
        context.out.note(&format!("asof: {stray}: it is no object of a repository"));
    }
    let title = match report.damaged_objects {
        0 => "every object is what its name says".to_owned(),
        n => format!("{} damaged", count(n, "object is", "objects are")),
    };
    context.out.say(&title)?;
    context.out.say(&format!(
        "  {}, {}, {}, {}",
        count(report.packs, "pack", "packs"),
        count(report.records, "record", "records"),
        count(report.keys, "key file", "key files"),
        show_size(report.bytes)
    ))?;
    if report.strays > 0 {
        let strays = count(report.strays, "object has", "objects have");
        context.out.say(&format!("  {strays} a name that means nothing"))?;
    }
    let requests = count(reached.requests().calls(), "request", "requests");
    context.out.say(&format!("  {requests}, {}", show_duration(started.elapsed())))?;
    let done = Done::new(title).with(&report).field("seconds", &started.elapsed().as_secs_f64());
    Ok(ending(context, done, report.damaged_objects, &format!("{PUT_BACK}; {SEE_COST}")))
}
