//! `asof ls`, `asof cat`, `asof stat`.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::base::error_chain;
use crate::base::progress::Problem;
use crate::base::units::{show_count, show_size};
use crate::cli::args::{CatArgs, LsArgs, StatArgs};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::open::ask;
use crate::cli::output::{Align, Table, printable};
use crate::cli::show::{Done, count, time};
use crate::format::node::{Entry, FileKind, Owner};
use crate::ops::look::{self, Description, Listed, Walk, kind_name, mode_text};
use crate::ops::select::{Selected, select};
use crate::repo::Library;
use crate::source::path::{last, shown};
use crate::view::{Selector, Zone};

/// How many lines of a long listing are aligned with each other.
const TABLE_ROWS: usize = 1000;

/// Opens the repository and finds what a selector means.
pub(super) fn find(
    context: &Context,
    selector: &Selector,
) -> Result<(Arc<dyn Library>, Selected, Zone), Failure> {
    let zone = context.zone()?;
    let found = ask(context, |library| select(library.as_ref(), selector, &zone, context.now()));
    let (library, selected) = found?;
    Ok((library, selected, zone))
}

/// Hands `visit` what is selected, or what is in it if it is a directory, with the path from
/// there; a file that was selected itself has its name. What cannot be read is told, and the
/// rest goes on.
pub(super) fn each_entry(
    context: &Context,
    library: &Arc<dyn Library>,
    selected: &Selected,
    recursive: bool,
    mut visit: impl FnMut(&Listed) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (tree, from) = look::in_tree(library, selected)?;
    let name = last(&selected.path);
    for step in Walk::new(&tree, from, recursive) {
        if context.stop.is_raised() {
            return Err(crate::repo::Error::Interrupted.into());
        }
        match step {
            Ok(mut listed) => {
                if listed.path.is_empty() {
                    listed.path = name.to_vec();
                }
                visit(&listed)?;
            }
            Err(unread) if look::is_local(&unread.error) => {
                context.met_damage();
                let path = [selected.path.as_slice(), b"/", &unread.path].concat();
                let message = error_chain(&unread.error);
                context.out.problem(&Problem { subject: format!("/{}", shown(&path)), message });
            }
            Err(unread) => return Err(unread.error.into()),
        }
    }
    Ok(())
}

/// Lists a directory.
pub fn ls(context: &Context, args: &LsArgs) -> Result<Done, Failure> {
    let (library, selected, zone) = find(context, &args.selector)?;
    let mut entries = 0_u64;
    let mut table = long_table();
    let mut rows = 0;
    each_entry(context, &library, &selected, args.recursive, |listed| {
        entries += 1;
        if context.out.is_json() {
            let entry = listed.found.entry();
            context.out.json(&entry_json(&listed.path, entry, &owner_of(listed)))?;
        } else if args.long {
            table.row(long_row(listed, &zone));
            rows += 1;
            if rows == TABLE_ROWS {
                context.out.table(&table)?;
                (table, rows) = (long_table(), 0);
            }
        } else if args.null {
            context.out.bytes(&listed.path)?;
            context.out.bytes(b"\0")?;
        } else {
            context.out.line(&printable(&listed.path))?;
        }
        Ok(())
    })?;
    context.out.table(&table)?;
    Ok(Done::new(count(entries, "entry", "entries")).field("entries", &entries))
}

fn long_table() -> Table {
    let (left, right) = (Align::Left, Align::Right);
    Table::new(&[("", left), ("", left), ("", left), ("", right), ("", left), ("", left)])
}

fn owner_of(listed: &Listed) -> Owner {
    listed.found.owner().cloned().unwrap_or_default()
}

fn long_row(listed: &Listed, zone: &Zone) -> [String; 6] {
    let entry: &Entry = listed.found.entry();
    let owner = owner_of(listed);
    let size = match entry.device {
        Some((major, minor)) => format!("{major}, {minor}"),
        None => show_count(entry.size),
    };
    let mut name = printable(&listed.path);
    if let Some(target) = &entry.target {
        name.push_str(" -> ");
        name.push_str(&printable(target));
    }
    [
        mode_text(entry.kind, entry.mode),
        owner.user.map_or_else(|| owner.uid.to_string(), |user| printable(user.as_bytes())),
        owner.group.map_or_else(|| owner.gid.to_string(), |group| printable(group.as_bytes())),
        size,
        time(zone, entry.mtime),
        name,
    ]
}

/// An entry as programs are told of it.
pub(super) fn entry_json(path: &[u8], entry: &Entry, owner: &Owner) -> Value {
    let text = std::str::from_utf8(path);
    let mut object = json!({
        "path": shown(path),
        "kind": kind_name(entry.kind),
        "mode": format!("{:04o}", entry.mode),
        "uid": owner.uid,
        "gid": owner.gid,
        "user": owner.user,
        "group": owner.group,
        "size": entry.size,
        "mtime": entry.mtime,
        "target": entry.target.as_ref().map(|target| shown(target)),
        "sha256": entry.sha256.as_ref().map(|hash| hex::encode(hash.as_slice())),
    });
    // What is not text is escaped above: here are the bytes themselves.
    if let (Err(_), Some(fields)) = (text, object.as_object_mut()) {
        fields.insert("path_hex".to_owned(), json!(hex::encode(path)));
    }
    object
}

/// Writes a file's bytes.
pub fn cat(context: &Context, args: &CatArgs) -> Result<Done, Failure> {
    if args.selector.path.is_none() {
        let what = format!("`{}` names no file", args.selector);
        return Err(Failure::usage(what).hint(format!(
            "write {}:/PATH; `asof ls {}` shows what there is",
            args.selector, args.selector
        )));
    }
    let (library, selected, _) = find(context, &args.selector)?;
    let bytes = look::cat(library.as_ref(), &selected, &context.stop, |bytes| {
        context.out.bytes(bytes).map_err(Failure::from)
    })?;
    Ok(Done { raw: true, ..Done::new(count(bytes, "byte", "bytes")) })
}

/// Shows all that is known of a file.
pub fn stat(context: &Context, args: &StatArgs) -> Result<Done, Failure> {
    let (library, selected, zone) = find(context, &args.selector)?;
    let described = look::describe(&library, &selected)?;
    let mut table = Table::new(&[("", Align::Left), ("", Align::Left)]);
    for (name, value) in lines(&described, selected.found.entry(), &zone) {
        table.row([name, &value]);
    }
    context.out.table(&table)?;
    let done = Done::new(format!("{} is a {}", described.path, described.kind)).with(&described);
    let path = selected.path.as_slice();
    Ok(match std::str::from_utf8(path) {
        Ok(_) => done,
        Err(_) => {
            done.field("path_hex", &hex::encode(std::ffi::OsStr::from_bytes(path).as_bytes()))
        }
    })
}

fn lines(of: &Description, entry: &Entry, zone: &Zone) -> Vec<(&'static str, String)> {
    let named = |name: &Option<String>, number: u32| match name {
        Some(name) => format!("{} ({number})", printable(name.as_bytes())),
        None => number.to_string(),
    };
    // Nanoseconds are shown where the zone's time is for people.
    let exact = |at| format!("{}  {at}", time(zone, at));
    let mut lines = vec![
        ("path", of.path.clone()),
        ("kind", of.kind.to_owned()),
        ("mode", format!("{} ({})", of.mode, mode_text(entry.kind, entry.mode))),
        ("owner", named(&of.user, of.uid)),
        ("group", named(&of.group, of.gid)),
        ("size", format!("{} ({})", show_count(of.size), show_size(of.size))),
    ];
    if of.hole_bytes > 0 {
        lines.push(("holes", format!("{} bytes", show_count(of.hole_bytes))));
    }
    if let Some(stored) = of.stored_size {
        lines.push(("stored", format!("about {} bytes", show_count(stored))));
    }
    if let Some(position) = of.position {
        lines.push(("position", position.to_string()));
    }
    if let Some(gap) = &of.gap {
        let why = printable(gap.reason.as_bytes());
        lines.push(("gap", format!("until {}: {why}", time(zone, gap.until))));
    }
    lines.push(("modified", exact(of.mtime)));
    lines.push(("changed", exact(of.ctime)));
    if let Some(born) = of.btime {
        lines.push(("born", exact(born)));
    }
    if let Some(target) = &of.target {
        lines.push(("target", target.clone()));
    }
    if let Some((major, minor)) = of.device {
        lines.push(("device", format!("{major}, {minor}")));
    }
    if let Some(below) = of.below {
        let entries = count(below.entries, "entry", "entries");
        lines.push(("below it", format!("{entries}, {} of files", show_size(below.bytes))));
    }
    lines.push(("names", show_count(of.links)));
    if entry.kind == FileKind::File {
        lines.push(("sha256", of.sha256.clone().unwrap_or_else(|| "of no bytes".to_owned())));
    }
    for xattr in &of.xattrs {
        let value = xattr.text.as_ref().map(|text| format!("\"{text}\""));
        let value = value.unwrap_or_else(|| format!("0x{}", xattr.hex));
        lines.push(("attribute", format!("{} = {value}", xattr.name)));
    }
    if of.changed_while_read {
        lines.push(("note", "it kept changing while it was read".to_owned()));
    }
    if let (Some(first), Some(last)) = (of.first_seen, of.last_seen) {
        lines.push(("first seen", exact(first)));
        lines.push(("last seen", exact(last)));
    }
    lines.push(("rank", of.rank.to_string()));
    lines.push(("source", of.source.clone()));
    lines.push(("snapshot", of.snapshot.to_string()));
    lines.push(("taken", exact(of.taken)));
    lines.push(("received", exact(of.receipt)));
    if let Some(end) = of.expires {
        lines.push(("expires", exact(end)));
    }
    lines.push(("host", printable(of.host.as_bytes())));
    lines.push(("writer", of.writer.to_string()));
    lines
}
