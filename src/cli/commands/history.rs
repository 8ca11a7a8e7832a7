//! `asof history`.

use serde_json::{Value, json};

use super::look::entry_json;
use crate::base::units::show_count;
use crate::cli::args::HistoryArgs;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::open::ask;
use crate::cli::output::{Align, Table, printable};
use crate::cli::show::{Done, count, time};
use crate::format::node::{FileKind, Owner};
use crate::ops::history::{self as op, History};
use crate::ops::look::{kind_name, mode_text};
use crate::source::path::shown;
use crate::view::history::{NameSeen, Version};
use crate::view::{Zone, instant_name};

/// Shows every version of a path.
pub fn history(context: &Context, args: &HistoryArgs) -> Result<Done, Failure> {
    let zone = context.zone()?;
    let (_, history) = ask(context, |library| {
        op::history(library.as_ref(), &args.selector, args.names, &zone, context.now())
    })?;
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new(&[
        ("FIRST SEEN", left),
        ("LAST SEEN", left),
        ("SNAPSHOTS", right),
        ("MODE", left),
        ("OWNER", left),
        ("SIZE", right),
        ("MODIFIED", left),
        ("SHA256", left),
    ]);
    for version in &history.versions {
        table.row(row(version, &zone));
    }
    context.out.table(&table)?;
    if args.names && !history.names.is_empty() {
        context.out.line("")?;
        let mut table = Table::new(&[
            ("FIRST SEEN", left),
            ("LAST SEEN", left),
            ("STATE", left),
            ("KIND", left),
            ("NAME", left),
        ]);
        for (name, seen) in &history.names {
            table.row([
                time(&zone, seen.first.shown_from()),
                time(&zone, seen.last.shown_from()),
                if seen.is_present { "present" } else { "deleted" }.to_owned(),
                kind_name(seen.kind).to_owned(),
                printable(name),
            ]);
        }
        context.out.table(&table)?;
    }
    let versions = count(history.versions.len() as u64, "version", "versions");
    let message = format!("{versions} of {}:/{}", history.source, shown(&history.path));
    Ok(report(Done::new(message), &history, args.names))
}

fn row(version: &Version, zone: &Zone) -> [String; 8] {
    let seen = [time(zone, version.first.shown_from()), time(zone, version.last.shown_from())];
    let [first, last] = seen;
    let snapshots = show_count(version.snapshots);
    let Some(there) = &version.state else {
        let none = || "-".to_owned();
        return [first, last, snapshots, "deleted".into(), none(), none(), none(), none()];
    };
    let entry = &there.entry;
    let Owner { uid, gid, user, group } = there.owner.clone();
    let named = |name: Option<String>, number: u32| {
        name.map_or_else(|| number.to_string(), |name| printable(name.as_bytes()))
    };
    let what = match (&entry.sha256, &entry.target) {
        (Some(hash), _) => hex::encode(hash.as_slice()),
        (None, Some(target)) => format!("-> {}", printable(target)),
        _ => "-".to_owned(),
    };
    let is_dir = entry.kind == FileKind::Dir;
    [
        first,
        last,
        snapshots,
        mode_text(entry.kind, entry.mode),
        format!("{}:{}", named(user, uid), named(group, gid)),
        if is_dir { "-".to_owned() } else { show_count(entry.size) },
        time(zone, entry.mtime),
        what,
    ]
}

fn report(done: Done, history: &History, with_names: bool) -> Done {
    let versions: Vec<Value> = history.versions.iter().map(|v| version_json(history, v)).collect();
    let done = done
        .field("source", &history.source)
        .field("path", &format!("/{}", shown(&history.path)))
        .field("versions", &versions);
    if !with_names {
        return done;
    }
    let name = |(name, seen): &(Vec<u8>, NameSeen)| {
        let mut object = json!({
            "name": shown(name),
            "kind": kind_name(seen.kind),
            "first_seen": seen.first.shown_from(),
            "last_seen": seen.last.shown_from(),
            "present": seen.is_present,
        });
        if let (Err(_), Some(fields)) = (std::str::from_utf8(name), object.as_object_mut()) {
            fields.insert("name_hex".to_owned(), json!(hex::encode(name)));
        }
        object
    };
    done.field("names", &history.names.iter().map(name).collect::<Vec<_>>())
}

fn version_json(history: &History, version: &Version) -> Value {
    let first = version.first.shown_from();
    json!({
        "first_seen": first,
        "last_seen": version.last.shown_from(),
        "snapshots": version.snapshots,
        "snapshot": version.first.snapshot.id,
        "selector": format!("{}@{}", history.source, instant_name(first)),
        "present": version.state.is_some(),
        "entry": version.state.as_ref().map(|there| {
            entry_json(&history.path, &there.entry, &there.owner)
        }),
    })
}
