//! `asof verify-log`.

use std::collections::HashMap;
use std::time::Instant;

use crate::base::units::show_duration;
use crate::base::{UnixTime, WriterId};
use crate::cli::args::VerifyLogArgs;
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::open::{Need, open_repository};
use crate::cli::output::{Align, Table, printable};
use crate::cli::show::{Done, count, time};
use crate::format::names;
use crate::ops::verify_log::{
    self as op, About, Finding, FindingKind, LogRow, Severity, VerifyOptions, VerifyReport,
};
use crate::view::Zone;

/// How many rows are aligned with each other.
const TABLE_ROWS: usize = 1000;
/// How much of a name is shown: the hour, and enough of the hash to tell records apart.
const NAME_SHOWN: usize = 19;

const ENDS: &str = "if records were taken away or put back on purpose, as when a store was restored \
                    from a copy, `asof verify-log --new-heads` takes the log as it is from now on";
const COST: &str = "`asof check` says what is lost by what is missing; what is forged, or said by \
                    who may not say it, is not believed anyway";

/// Verifies the log.
pub fn verify_log(
    context: &Context,
    args: &VerifyLogArgs,
    started: Instant,
) -> Result<Done, Failure> {
    let zone = context.zone()?;
    let mut opened = open_repository(context, Need::Check)?;
    let options = VerifyOptions { all: args.all, new_heads: args.new_heads };
    let watch = context.watch();
    let progress = watch.progress();
    let report =
        opened.healing(|opened| op::verify_log(&opened.repo, options, &progress, &context.stop));
    watch.finish();
    let report = report?;
    let out = &context.out;
    let show = Show { zone: &zone, labels: labels(&report) };
    for rows in report.log.as_deref().unwrap_or_default().chunks(TABLE_ROWS) {
        out.table(&show.log(rows))?;
    }
    if report.log.as_ref().is_some_and(|log| !log.is_empty()) && !report.findings.is_empty() {
        out.line("")?;
    }
    if !report.findings.is_empty() {
        out.table(&show.findings(&report.findings))?;
    }
    let untold = (report.problems + report.notices).saturating_sub(report.findings.len() as u64);
    if untold > 0 {
        out.line(&format!("and {} more", count(untold, "finding", "findings")))?;
    }
    let title = title(&report);
    out.say(&title)?;
    out.say(&format!("  {}", figures(&report)))?;
    let seen = match report.heads.since {
        Some(since) => format!("compared with what was seen at {}", time(&zone, since)),
        None => "compared with no earlier run: what was cut off before does not show".to_owned(),
    };
    let heads = count(report.heads.chains, "chain", "chains");
    out.say(&format!("  {seen}; the ends of {heads} are remembered"))?;
    let requests = count(opened.reached.requests().calls(), "request", "requests");
    out.say(&format!("  {requests}, {}", show_duration(started.elapsed())))?;
    let done = Done::new(title).with(&report).field("seconds", &started.elapsed().as_secs_f64());
    if report.problems == 0 {
        return Ok(done);
    }
    out.hint(COST);
    let ends = [FindingKind::Cut, FindingKind::ChainGone, FindingKind::Rewritten];
    if ends.iter().any(|kind| report.kinds.contains_key(kind)) {
        out.hint(ENDS);
    }
    Ok(done.ending(Exit::Damage, "damaged"))
}

fn title(report: &VerifyReport) -> String {
    let notices = match report.notices {
        0 => String::new(),
        n => format!(", {}", count(n, "notice", "notices")),
    };
    match report.problems {
        // Without an earlier run nobody knows what was cut off.
        0 if report.heads.since.is_none() => format!("what is in the log is true{notices}"),
        0 => format!("the log is whole and true{notices}"),
        n => format!("{} in the log{notices}", count(n, "problem", "problems")),
    }
}

fn figures(report: &VerifyReport) -> String {
    let carried = match report.records_carried {
        0 => String::new(),
        n => format!(" and {n} behind checkpoints"),
    };
    format!(
        "{}{carried}, {}, {}, {}",
        count(report.records, "record", "records"),
        count(report.chains, "chain", "chains"),
        count(report.writers.len() as u64, "writer", "writers"),
        count(report.problems + report.notices, "finding", "findings")
    )
}

/// What writers are called.
fn labels(report: &VerifyReport) -> HashMap<WriterId, String> {
    let label = |one: &op::WriterRow| match &one.label {
        Some(label) => printable(label.as_bytes()),
        None => "owner".to_owned(),
    };
    report.writers.iter().map(|one| (one.writer, label(one))).collect()
}

/// Records and findings as rows.
struct Show<'a> {
    zone: &'a Zone,
    labels: HashMap<WriterId, String>,
}

impl Show<'_> {
    fn findings(&self, findings: &[Finding]) -> Table {
        let left = Align::Left;
        let mut table = Table::new(&[
            ("SEVERITY", left),
            ("KIND", left),
            ("RECORD", left),
            ("WRITER", left),
            ("CHAIN", left),
            ("CLAIMED", left),
            ("RECEIVED", left),
            ("WHAT", left),
        ]);
        for finding in findings {
            let severity = match finding.severity {
                Severity::Problem => "problem",
                Severity::Notice => "notice",
            };
            let [record, writer, chain, claimed, received] = self.about(&finding.about);
            table.row([
                severity.to_owned(),
                finding.kind.name().to_owned(),
                record,
                writer,
                chain,
                claimed,
                received,
                printable(finding.what.as_bytes()),
            ]);
        }
        table
    }

    fn log(&self, rows: &[LogRow]) -> Table {
        let left = Align::Left;
        let mut table = Table::new(&[
            ("RECORD", left),
            ("WRITER", left),
            ("CHAIN", left),
            ("CLAIMED", left),
            ("RECEIVED", left),
            ("FACTS", left),
        ]);
        for row in rows {
            let mut facts: Vec<String> =
                row.facts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            if !row.sources.is_empty() {
                let sources: Vec<&str> = row.sources.iter().map(String::as_str).collect();
                facts.push(format!("of {}", sources.join(", ")));
            }
            if row.late {
                facts.push("late".to_owned());
            }
            let [record, writer, chain, claimed, received] = self.about(&row.about);
            table.row([record, writer, chain, claimed, received, facts.join(", ")]);
        }
        table
    }

    /// Record, writer, chain with number, claimed and received.
    fn about(&self, about: &About) -> [String; 5] {
        let none = || "-".to_owned();
        let record = match (&about.object, about.record) {
            (Some(name), Some(_)) => {
                let name = name.strip_prefix(names::LOG).unwrap_or(name);
                name.get(..NAME_SHOWN).unwrap_or(name).to_owned()
            }
            (Some(name), None) => printable(name.as_bytes()),
            (None, Some(id)) => id.short(),
            (None, None) => none(),
        };
        let writer = about.writer.map_or_else(none, |writer| match self.labels.get(&writer) {
            Some(label) => label.clone(),
            None => writer.short(),
        });
        let chain = match (about.chain, about.number) {
            (Some(chain), Some(number)) => format!("{}/{number}", chain.short()),
            _ => none(),
        };
        let at = |at: Option<UnixTime>| at.map_or_else(none, |at| time(self.zone, at));
        [record, writer, chain, at(about.claimed), at(about.received)]
    }
}
