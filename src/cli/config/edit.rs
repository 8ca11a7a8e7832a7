//! Changing one source in the text of a configuration file, and nothing else in it.
//!
//! The file belongs to its reader: comments, order and spelling stay. A new source is
//! put at the end, since a line between others would come between somebody's comment and
//! what it is about.

use toml_edit::{Array, DocumentMut, Item, RawString, Table, TableLike, TomlError, Value};

use super::source::SourceTable;
use crate::base::units::{write_duration, write_size};

/// The text with the source of that name defined so, whether or not it was there.
///
/// Of one that was there, the place and the comments stay.
///
/// # Errors
///
/// If the text is not TOML, or `sources` is no table in it.
pub(super) fn define(text: &str, name: &str, source: &SourceTable) -> Result<String, NotEditable> {
    let mut doc: DocumentMut = text.parse()?;
    let entries = entries(source);
    let after = doc.trailing().as_str().unwrap_or_default().to_owned();
    let implicit = || {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    };
    let sources = doc.entry("sources").or_insert_with(implicit);
    let mut appended = false;
    if let Some(old) = sources.get_mut(name).and_then(Item::as_table_like_mut) {
        update(old, &entries);
    } else if let Some(sources) = sources.as_table_mut() {
        let mut table: Table = entries.into_iter().map(|(key, v)| (key, Item::Value(v))).collect();
        table.set_position(Some(isize::MAX));
        let before = if after.trim().is_empty() { String::new() } else { lines(&after) };
        if !(before.is_empty() && text.trim().is_empty()) {
            table.decor_mut().set_prefix(format!("{before}\n"));
        }
        sources.insert(name, Item::Table(table));
        appended = true;
    } else if let Some(sources) = sources.as_inline_table_mut() {
        sources.insert(name, Value::InlineTable(entries.into_iter().collect()));
    } else {
        return Err(NotEditable::NoTable);
    }
    if appended {
        // What stood at the end stands before the new source.
        doc.set_trailing("");
    }
    Ok(doc.to_string())
}

/// The text without the source of that name, and without the comment right above it. One
/// that a blank line sets apart stays: it is about more than this source.
///
/// # Errors
///
/// As [`define`].
pub(super) fn remove(text: &str, name: &str) -> Result<String, NotEditable> {
    let mut doc: DocumentMut = text.parse()?;
    let sources = doc.get_mut("sources").and_then(Item::as_table_like_mut);
    let removed = sources.ok_or(NotEditable::NoTable)?.remove(name);
    if let Some(Item::Table(table)) = removed
        && let Some(position) = table.position()
    {
        let above = table.decor().prefix().and_then(RawString::as_str).unwrap_or_default();
        let kept = above.rfind("\n\n").map_or("", |end| &above[..=end]);
        if !kept.trim().is_empty() {
            keep_comment(&mut doc, position, kept);
        }
    }
    Ok(doc.to_string())
}

/// Why a text cannot be edited.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotEditable {
    /// It is not TOML.
    #[error(transparent)]
    Syntax(#[from] TomlError),
    /// There is no table of sources.
    #[error("`sources` is not a table")]
    NoTable,
}

/// Puts a comment before the table that comes next, or at the end.
fn keep_comment(doc: &mut DocumentMut, position: isize, comment: &str) {
    let mut all = Vec::new();
    positions(doc.as_table(), &mut all);
    let next = all.into_iter().filter(|at| *at > position).min();
    match next.and_then(|next| table_at(doc.as_table_mut(), next)) {
        Some(table) => {
            let own = table.decor().prefix().and_then(RawString::as_str).unwrap_or_default();
            let both = format!("{comment}{own}");
            table.decor_mut().set_prefix(both);
        }
        None => {
            let end = doc.trailing().as_str().unwrap_or_default().to_owned();
            doc.set_trailing(format!("{comment}{end}"));
        }
    }
}

/// Where the tables with a heading of their own stand.
fn positions(table: &Table, into: &mut Vec<isize>) {
    for inner in table.iter().filter_map(|(_, item)| item.as_table()) {
        if !inner.is_implicit() {
            into.extend(inner.position());
        }
        positions(inner, into);
    }
}

fn table_at(table: &mut Table, position: isize) -> Option<&mut Table> {
    for (_, item) in table.iter_mut() {
        let Some(inner) = item.as_table_mut() else { continue };
        if inner.position() == Some(position) && !inner.is_implicit() {
            return Some(inner);
        }
        if let Some(found) = table_at(inner, position) {
            return Some(found);
        }
    }
    None
}

/// Makes a table hold these entries and no others.
fn update(table: &mut dyn TableLike, entries: &[(&'static str, Value)]) {
    let old: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).collect();
    for key in old.iter().filter(|old| !entries.iter().any(|(key, _)| key == old)) {
        table.remove(key);
    }
    for (key, value) in entries {
        match table.get_mut(key).and_then(Item::as_value_mut) {
            Some(old) => {
                // With the space and the comment around it.
                let decor = old.decor().clone();
                *old = value.clone();
                *old.decor_mut() = decor;
            }
            None => {
                table.insert(key, Item::Value(value.clone()));
            }
        }
    }
}

/// What is written of a source: what is not as if nothing had been said.
fn entries(source: &SourceTable) -> Vec<(&'static str, Value)> {
    let words = |words: &[String]| Value::Array(words.iter().map(String::as_str).collect());
    // Paths are written by who made them text.
    let paths = |paths: &[std::path::PathBuf]| {
        Value::Array(
            paths.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Array>(),
        )
    };
    let flag = |flag: bool| flag.then(|| Value::from(true));
    let some = |list: Value| list.as_array().is_some_and(|list| !list.is_empty()).then_some(list);
    [
        ("url", source.url.as_deref().map(Value::from)),
        ("paths", some(paths(&source.paths))),
        ("exclude", some(words(&source.exclude))),
        ("exclude_file", some(paths(&source.exclude_file))),
        ("exclude_if_present", some(words(&source.exclude_if_present))),
        ("exclude_caches", flag(source.exclude_caches)),
        ("exclude_larger_than", source.exclude_larger_than.map(|s| write_size(s.0).into())),
        ("one_file_system", flag(source.one_file_system)),
        ("skip_if_unchanged", flag(source.skip_if_unchanged)),
        ("interval", source.interval.map(|interval| write_duration(interval).into())),
        ("spool_limit", source.spool_limit.map(|size| write_size(size.0).into())),
        ("sync", source.sync.map(Value::from)),
        ("all_for", source.all_for.map(|span| write_duration(span).into())),
        ("hourly_for", source.hourly_for.map(|span| write_duration(span).into())),
        ("daily_for", source.daily_for.map(|span| write_duration(span).into())),
        ("tags", some(words(&source.tags))),
        ("host", source.host.as_deref().map(Value::from)),
        ("profile", source.profile.as_deref().map(Value::from)),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
    .collect()
}

/// The text, ending with its line.
fn lines(text: &str) -> String {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{end}")
}

#[cfg(test)]
mod tests;
