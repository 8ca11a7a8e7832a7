//! `asof index`.

use crate::base::units::{show_count, show_size};
use crate::cli::args::IndexCommand;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::open::{Need, open_repository, tell_problems};
use crate::cli::output::{Align, Table};
use crate::cli::show::{Done, count, time};
use crate::ops;
use crate::ops::open::{Freshness, Opened};

/// Does one of the things that can be done with the index.
pub fn index(context: &Context, command: &IndexCommand) -> Result<Done, Failure> {
    let opened = open_repository(context, Need::Read(Freshness::AsItIs))?;
    let report = match command {
        IndexCommand::Status => None,
        IndexCommand::Sync => Some(opened.repo.sync(true)?),
        IndexCommand::Rebuild => Some(opened.repo.rebuild()?),
    };
    if let Some(report) = &report {
        tell_problems(context, &report.problems);
    }
    let records = report.map(|report| report.records);
    show(context, &opened, command, records)
}

fn show(
    context: &Context,
    opened: &Opened,
    command: &IndexCommand,
    new: Option<u64>,
) -> Result<Done, Failure> {
    let zone = context.zone_to_show();
    let report = ops::index::status(&opened.repo)?;
    let message = match (command, new) {
        (IndexCommand::Rebuild, Some(n)) => {
            format!("made the index anew from {}", count(n, "record", "records"))
        }
        (_, Some(n)) => format!("read {}", count(n, "new record", "new records")),
        (_, None) => format!("the index knows {}", count(report.records, "record", "records")),
    };
    let synced = report.synced.map_or_else(|| "never".to_owned(), |at| time(&zone, at));
    let mut table = Table::new(&[("", Align::Left), ("", Align::Left)]);
    for (name, value) in [
        ("repository", report.repository.to_string()),
        ("index", format!("{} ({})", report.path.display(), show_size(report.bytes))),
        ("up to date as of", synced),
        ("snapshots", show_count(report.snapshots as u64)),
        ("records", show_count(report.records)),
        ("packs", format!("{} ({})", show_count(report.packs), show_size(report.stored_bytes))),
        ("chunks", show_count(report.chunks)),
        ("unusable records", show_count(report.problems.len() as u64)),
    ] {
        table.row([name, &value]);
    }
    if new.is_some() && !context.out.is_quiet() {
        context.out.line(&format!("{message}."))?;
    }
    if new.is_none() {
        context.out.table(&table)?;
        for bad in &report.problems {
            context.out.line(&format!("  record {}: {}", bad.record, bad.problem))?;
        }
    }
    Ok(Done::new(message).with(&report).field("new_records", &new))
}
