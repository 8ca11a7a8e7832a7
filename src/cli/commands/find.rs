//! `asof find`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use globset::GlobBuilder;
use serde_json::json;

use super::look::entry_json;
use crate::base::units::{parse_size, show_count};
use crate::cli::args::{FindArgs, FindType};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::open::{Need, library, open_repository};
use crate::cli::output::{Align, Table, printable};
use crate::cli::show::{Done, count, time};
use crate::format::node::FileKind;
use crate::ops::find::{Appearance, Criteria, End, Fits, Search, Span};
use crate::ops::look::mode_text;
use crate::ops::open::{Freshness, Opened};
use crate::ops::select::plain_path;
use crate::repo::Library;
use crate::repo::reader::ReaderOptions;
use crate::view::{TimeSpec, Zone};

/// How many rows are aligned with each other.
const TABLE_ROWS: usize = 1000;

/// Searches every snapshot.
pub fn find(context: &Context, args: &FindArgs) -> Result<Done, Failure> {
    let zone = context.zone()?;
    let criteria = criteria(context, args, &zone)?;
    let mut opened = open_repository(context, Need::Read(Freshness::IfPossible))?;
    let library: Arc<dyn Library> = library(context, &opened, ReaderOptions::default())?;
    let watch = context.watch();
    let (progress, stop) = (watch.progress(), &context.stop);
    let prepare = |opened: &Opened| {
        let index = opened.repo.index();
        Search::prepare(library.as_ref(), index, &args.sources, &progress, stop)
    };
    let search = opened.healing(prepare);
    watch.finish();
    let search = search?;
    let mut table = new_table();
    let mut rows = 0;
    let found = search.find(&criteria, stop, |source, hit| {
        if context.out.is_json() {
            context.out.json(&json!({
                "source": source,
                "first_seen": hit.first.at(),
                "last_seen": hit.last.at(),
                "state": state(hit),
                "snapshot": hit.first.id,
                "last_snapshot": hit.last.id,
                "snapshots": hit.snapshots,
                "entry": entry_json(&hit.path, &hit.entry, &hit.owner),
            }))?;
        } else {
            table.row(row(source, hit, &zone));
            rows += 1;
            if rows == TABLE_ROWS {
                context.out.table(&table)?;
                (table, rows) = (table.next(), 0);
            }
        }
        Ok::<(), Failure>(())
    });
    let hits = match found {
        Err(failure) if failure.is_of_damaged_index() => {
            opened.repo.rebuild()?;
            return Err(failure.hint("the index was made anew: search again"));
        }
        other => other?,
    };
    if rows > 0 {
        context.out.table(&table)?;
    }
    Ok(Done::new(count(hits, "hit", "hits")).field("hits", &hits))
}

fn new_table() -> Table {
    let (left, right) = (Align::Left, Align::Right);
    Table::new(&[
        ("FIRST SEEN", left),
        ("LAST SEEN", left),
        ("STATE", left),
        ("MODE", left),
        ("SIZE", right),
        ("MODIFIED", left),
        ("PATH", left),
    ])
}

fn state(hit: &Appearance) -> &'static str {
    match hit.end {
        End::Present => "present",
        End::Replaced(_) => "replaced",
        End::Deleted(_) => "deleted",
    }
}

fn row(source: &str, hit: &Appearance, zone: &Zone) -> [String; 7] {
    let entry = &hit.entry;
    [
        time(zone, hit.first.at()),
        time(zone, hit.last.at()),
        state(hit).to_owned(),
        mode_text(entry.kind, entry.mode),
        if entry.kind == FileKind::Dir { "-".to_owned() } else { show_count(entry.size) },
        time(zone, entry.mtime),
        format!("{source}:/{}", printable(&hit.path)),
    ]
}

fn criteria(context: &Context, args: &FindArgs, zone: &Zone) -> Result<Criteria, Failure> {
    let now = context.now();
    let instant =
        |text: &str| -> Result<_, Failure> { Ok(TimeSpec::parse(text, zone, now)?.instant) };
    let optional = |text: &str| -> Result<_, Failure> {
        if text.is_empty() { Ok(None) } else { Ok(Some(instant(text)?)) }
    };
    let span = |text: &String| -> Result<Span, Failure> {
        let (after, until) = bounds("--mtime", text)?;
        in_order("--mtime", Span { after: optional(after)?, until: optional(until)? })
    };
    let size = |text: &String| -> Result<(u64, u64), Failure> {
        let (least, most) = bounds("--size", text)?;
        let size = |text: &str, missing| {
            if text.is_empty() { Ok(missing) } else { parse_size(text) }
        };
        let wrong = |error| Failure::usage(crate::base::error_chain(&error));
        let (least, most) = (size(least, 0).map_err(wrong)?, size(most, u64::MAX).map_err(wrong)?);
        if least > most {
            return Err(Failure::usage(format!("--size {text}: nothing is as large and as small")));
        }
        Ok((least, most))
    };
    let name = args.name.as_deref().map(name_fits).transpose()?;
    let below = args.path.as_deref().map(plain_path);
    Ok(Criteria {
        name,
        below,
        size: args.size.as_ref().map(size).transpose()?,
        mtime: args.mtime.as_ref().map(span).transpose()?,
        sha256: args.sha256.as_deref().map(hash).transpose()?,
        kind: args.kind.map(kinds).unwrap_or_default(),
        changed: match args.changed_between.as_slice() {
            [after, until] => {
                let span = Span { after: Some(instant(after)?), until: Some(instant(until)?) };
                Some(in_order("--changed-between", span)?)
            }
            _ => None,
        },
        deleted: args.deleted,
    })
}

/// A time between two moments, of which the first comes first.
fn in_order(option: &str, span: Span) -> Result<Span, Failure> {
    match (span.after, span.until) {
        (Some(after), Some(until)) if after > until => Err(Failure::usage(format!(
            "{option}: {after} is later than {until}: write the earlier one first"
        ))),
        _ => Ok(span),
    }
}

fn bounds<'t>(option: &str, text: &'t str) -> Result<(&'t str, &'t str), Failure> {
    text.split_once("..").ok_or_else(|| {
        Failure::usage(format!("`{text}` is no range for {option}"))
            .hint("write FROM..TO, FROM.. or ..TO")
    })
}

fn name_fits(glob: &str) -> Result<Fits, Failure> {
    let glob = GlobBuilder::new(glob).build();
    let glob = glob.map_err(|error| Failure::usage(format!("--name: {error}")))?;
    let matcher = glob.compile_matcher();
    Ok(Box::new(move |name| matcher.is_match(Path::new(OsStr::from_bytes(name)))))
}

fn hash(text: &str) -> Result<[u8; 32], Failure> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text.trim(), &mut hash).map_err(|_| {
        Failure::usage(format!("`{text}` is no SHA-256: that is 64 hexadecimal digits"))
    })?;
    Ok(hash)
}

fn kinds(kind: FindType) -> Vec<FileKind> {
    match kind {
        FindType::File => vec![FileKind::File],
        FindType::Directory => vec![FileKind::Dir],
        FindType::Link => vec![FileKind::Symlink],
        FindType::Special => {
            vec![FileKind::CharDevice, FileKind::BlockDevice, FileKind::Fifo, FileKind::Socket]
        }
    }
}
