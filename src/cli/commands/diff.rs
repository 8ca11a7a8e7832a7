//! `asof diff`.

use std::time::Duration;

use serde_json::{Value, json};
use similar::TextDiff;

use super::look::entry_json;
use crate::base::units::{show_count, show_size};
use crate::cli::args::DiffArgs;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::open::ask;
use crate::cli::output::printable;
use crate::cli::show::{Done, count};
use crate::format::node::FileKind;
use crate::ops::diff::{self, Change, Changed, Totals};
use crate::ops::select::select;
use crate::repo::Library;
use crate::repo::browse::Found;

/// Longer files are not compared line by line. Bytes.
const PATCH_BYTES_MAX: u64 = 8 << 20;
/// So long a short patch of one file is looked for, before a longer one must do.
const PATCH_TIME_MAX: Duration = Duration::from_secs(2);
/// What has a NUL in so many bytes is no text.
const PROBE_BYTES: usize = 8000;

/// Shows what differs.
pub fn diff(context: &Context, args: &DiffArgs) -> Result<Done, Failure> {
    let zone = context.zone()?;
    let (library, (before, after)) = ask(context, |library| {
        let select = |selector| select(library.as_ref(), selector, &zone, context.now());
        Ok((select(&args.before)?, select(&args.after)?))
    })?;
    let (old, new) = (before.path.clone(), after.path.clone());
    let mut unsaid = 0_u64;
    let totals = diff::diff(library.as_ref(), &before, &after, &context.stop, |changed| {
        let path = joined(&new, changed.path);
        if context.out.is_json() {
            context.out.json(&change_json(&path, changed))?;
        } else if args.name_only {
            match args.null {
                true => context.out.bytes(&[&path[..], b"\0"].concat())?,
                false => context.out.line(&printable(&path))?,
            }
        } else if args.patch {
            let old = joined(&old, changed.path);
            unsaid += u64::from(!patch(context, library.as_ref(), &old, &path, changed)?);
        } else {
            let mut line = format!("{} {}", changed.change.letter(), printable(&path));
            if args.stat {
                line.push_str(&sizes(changed));
            }
            context.out.line(&line)?;
        }
        Ok::<(), Failure>(())
    })?;
    if args.stat {
        context.out.line(&summary(&totals))?;
    }
    if unsaid > 0 {
        context.out.warning(&format!(
            "{} left out, for which a patch has no words: links, directories, modes, owners, \
             times; `asof diff --stat` lists them",
            count(unsaid, "change is", "changes are")
        ));
    }
    Ok(Done::new(summary(&totals)).with(&totals))
}

fn joined(base: &[u8], path: &[u8]) -> Vec<u8> {
    let mut all = vec![b'/'];
    all.extend_from_slice(base);
    if !path.is_empty() {
        if !base.is_empty() {
            all.push(b'/');
        }
        all.extend_from_slice(path);
    }
    all
}

fn summary(totals: &Totals) -> String {
    let Totals { added, removed, changed, attributes, bytes_after, bytes_before } = *totals;
    format!(
        "{} added, {} removed, {} changed, {} in attributes alone; {} before, {} after",
        count(added, "name", "names"),
        show_count(removed),
        show_count(changed),
        show_count(attributes),
        show_size(bytes_before),
        show_size(bytes_after)
    )
}

fn sizes(changed: &Changed<'_>) -> String {
    let of = |side: Option<&Found>| match side.map(Found::entry) {
        None => "-".to_owned(),
        Some(entry) if entry.kind == FileKind::File => show_size(entry.size),
        Some(entry) => crate::ops::look::kind_name(entry.kind).to_owned(),
    };
    let mut text = format!("  {} -> {}", of(changed.before), of(changed.after));
    if changed.change == Change::Attributes {
        text = format!("  {}", aspects(changed).join(", "));
    }
    text
}

fn aspects(changed: &Changed<'_>) -> Vec<&'static str> {
    let of = changed.aspects;
    [
        (of.kind, "kind"),
        (of.content, "content"),
        (of.mode, "mode"),
        (of.owner, "owner"),
        (of.mtime, "mtime"),
        (of.xattrs, "xattrs"),
    ]
    .into_iter()
    .filter_map(|(differs, name)| differs.then_some(name))
    .collect()
}

fn change_json(path: &[u8], changed: &Changed<'_>) -> Value {
    let side =
        |side: Option<&Found>| side.map(|found| entry_json(path, found.entry(), &found.owner()));
    json!({
        "path": crate::source::path::shown(path),
        "change": changed.change,
        "aspects": aspects(changed),
        "before": side(changed.before),
        "after": side(changed.after),
    })
}

/// Writes the lines in which two files differ. False if a patch cannot say what changed, or
/// not all of it.
fn patch(
    context: &Context,
    library: &dyn Library,
    old: &[u8],
    new: &[u8],
    changed: &Changed<'_>,
) -> Result<bool, Failure> {
    let is_file = |found: &&Found| found.entry().kind == FileKind::File;
    let (before, after) = (changed.before.filter(is_file), changed.after.filter(is_file));
    if before.is_none() && after.is_none() || changed.change == Change::Attributes {
        // A directory comes and goes with the files in it.
        let found = changed.before.xor(changed.after).map(Found::entry);
        return Ok(found.and_then(|entry| entry.subtree).is_some_and(|tree| tree.entries > 0));
    }
    let text = |side: Option<&Found>| match side {
        None => Ok(Some(Vec::new())),
        Some(side) => diff::bytes_of(library, side, PATCH_BYTES_MAX),
    };
    let name = |side: Option<&Found>, letter: &str, path: &[u8]| match side {
        None => "/dev/null".to_owned(),
        Some(_) => format!("{letter}{}", printable(path)),
    };
    let (from, to) = (name(before, "a", old), name(after, "b", new));
    let is_text = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().is_some_and(|bytes| !bytes.iter().take(PROBE_BYTES).any(|b| *b == 0))
    };
    let (before, after) = (text(before)?, text(after)?);
    if !is_text(&before) || !is_text(&after) {
        context.out.line(&format!("Binary files {from} and {to} differ"))?;
        return Ok(true);
    }
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    // The best answer that is found by then; any is right.
    let lines = TextDiff::configure()
        .timeout(PATCH_TIME_MAX)
        .diff_lines(before.as_slice(), after.as_slice());
    let mut bytes = Vec::new();
    let written = lines.unified_diff().header(&from, &to).to_writer(&mut bytes);
    written.map_err(|error| Failure::from(crate::cli::output::OutputError::from(error)))?;
    context.out.bytes(&bytes)?;
    let aspects = changed.aspects;
    let is_whole = !(aspects.kind || aspects.mode || aspects.owner || aspects.xattrs);
    Ok(is_whole && !bytes.is_empty())
}
