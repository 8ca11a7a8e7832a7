//! `asof gc`.

use std::time::Instant;

use crate::base::units::{show_duration, show_size};
use crate::cli::args::GcArgs;
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::open::{Need, open_repository};
use crate::cli::show::{Done, count, time};
use crate::ops::gc::{self as op, Amount, GcOptions, GcReport};

/// Collects.
pub fn gc(context: &Context, args: &GcArgs, started: Instant) -> Result<Done, Failure> {
    let opened = open_repository(context, Need::Collect)?;
    let options = GcOptions {
        dry_run: args.dry_run,
        exclusive: args.exclusive,
        max_unused: args.max_unused,
        max_repack: args.max_repack,
        ..GcOptions::default()
    };
    if let Some(grace) = args.set_grace {
        op::set_grace(&opened.repo, grace.as_secs())?;
    }
    let watch = context.watch();
    let report = op::gc(&opened.repo, &options, &watch.progress(), &context.stop);
    watch.finish();
    let report = report?;
    for (pack, why) in &report.failed {
        context.out.warning(&format!("pack {pack} stays, since it cannot be copied: {why}"));
    }
    for snapshot in &report.late {
        context.out.warning(&format!(
            "snapshot {snapshot} came too late and lacks content; `asof forget id:{snapshot}` removes it"
        ));
    }
    let title = title(&report);
    context.out.say(&title)?;
    for line in lines(context, &report)? {
        context.out.say(&format!("  {line}"))?;
    }
    let requests = opened.reached.requests();
    context.out.say(&format!(
        "  {}; {}",
        count(requests.calls(), "request", "requests"),
        show_duration(started.elapsed())
    ))?;
    let done = Done::new(title)
        .with(&report)
        .field("requests", &requests.calls())
        .field("seconds", &started.elapsed().as_secs_f64());
    Ok(if report.failed.is_empty() { done } else { done.ending(Exit::Damage, "damaged") })
}

fn amount(amount: Amount) -> String {
    format!("{} in {}", show_size(amount.bytes), count(amount.packs, "pack", "packs"))
}

fn title(report: &GcReport) -> String {
    match (report.dry_run, report.deleted.packs) {
        (true, _) => format!("would free {}", amount(report.deleted)),
        (false, 0) => "nothing to delete yet".to_owned(),
        (false, _) => format!("freed {}", amount(report.deleted)),
    }
}

fn lines(context: &Context, report: &GcReport) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    let mut tell = |what: Amount, text: &str| {
        if what.packs > 0 {
            lines.push(format!("{} {text}", amount(what)));
        }
    };
    let (condemned, rewritten) = if report.dry_run {
        ("would be condemned", "would be rewritten for what is still needed")
    } else {
        ("condemned, and not built upon any more", "rewritten for what is still needed")
    };
    tell(report.condemned, condemned);
    tell(report.rewritten, rewritten);
    tell(report.unpublished, "never published, left behind by backups that were cut off");
    tell(report.gathered, "with scattered nodes of newest snapshots, which were gathered");
    tell(report.waiting, "condemned before, and waiting");
    tell(report.young, "not needed, and too young to be condemned");
    if report.compacted.published {
        let merged = count(report.compacted.records, "record", "records");
        lines.push(format!("{merged} of the log merged into a checkpoint"));
    }
    if report.dropped.objects > 0 {
        let dropped = count(report.dropped.objects, "record", "records");
        lines.push(format!("{dropped} deleted that a checkpoint replaced"));
    }
    if let Some(next) = report.next {
        let zone = context.zone_to_show();
        lines
            .push(format!("space comes back from {} on, by running this again", time(&zone, next)));
    }
    lines.push(format!(
        "{} kept, {} looked at, {} in the store before",
        count(report.snapshots, "snapshot", "snapshots"),
        count(report.nodes, "node", "nodes"),
        amount(report.before)
    ));
    Ok(lines)
}
