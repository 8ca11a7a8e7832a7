//! Listing a directory as if it were a bucket: by the bytes of whole names.
//!
//! A bucket orders `a-b` before `a/b` and that before `a0`, so a directory sorts
//! among its neighbours as its name with a `/`. Subdirectories that lie before
//! the point where the listing goes on, or outside the prefix, are not opened.
//!
//! Memory is bounded: of each directory only the smallest names are kept, as many
//! as the page can still take. A directory with more objects than fit into a page
//! is therefore read once for each page (70 ms for 100,000 names), and in
//! exchange a listing shows everything that was there when it was asked for.

use std::collections::BinaryHeap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::store::key::TMP;
use crate::store::{Listed, Page};

/// How many objects a page holds.
const PAGE: usize = 1000;

/// The first page of objects below `root` that begin with `prefix` and come after `after`.
pub(super) fn page(root: &Path, prefix: &str, after: Option<&str>) -> io::Result<Page> {
    let mut lister = Lister { root, prefix, after: after.unwrap_or(""), page: Page::default() };
    // Everything with this prefix is in one directory: begin there.
    let directory = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
    if directory.starts_with("tmp/") {
        return Ok(lister.page);
    }
    lister.walk(directory)?;
    Ok(lister.page)
}

struct Lister<'a> {
    root: &'a Path,
    prefix: &'a str,
    after: &'a str,
    page: Page,
}

impl Lister<'_> {
    /// Adds the objects below a directory (empty, or with a `/` at its end), in order.
    fn walk(&mut self, directory: &str) -> io::Result<()> {
        let mut from = String::new();
        loop {
            let room = PAGE - self.page.objects.len() + 1;
            let names = self.smallest(directory, &from, room)?;
            let all = names.len() < room;
            for name in &names {
                if name.ends_with('/') {
                    self.walk(name)?;
                } else {
                    self.add(name)?;
                }
                if self.page.more {
                    return Ok(());
                }
            }
            match names.into_iter().next_back() {
                Some(last) if !all => from = last,
                _ => return Ok(()),
            }
        }
    }

    fn add(&mut self, name: &str) -> io::Result<()> {
        let metadata = match fs::metadata(self.root.join(name)) {
            Ok(metadata) => metadata,
            // Deleted meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        if self.page.objects.len() == PAGE {
            self.page.more = true;
            return Ok(());
        }
        let receipt = super::receipt(&metadata);
        self.page.objects.push(Listed { key: name.to_owned(), size: metadata.len(), receipt });
        Ok(())
    }

    /// The smallest names in a directory that are wanted and come after `from`, at most
    /// `room`, sorted; those of directories end in `/`.
    fn smallest(&self, directory: &str, from: &str, room: usize) -> io::Result<Vec<String>> {
        let mut kept = BinaryHeap::with_capacity(room + 1);
        let entries = match fs::read_dir(self.root.join(directory)) {
            Ok(entries) => entries,
            Err(e) if super::is_absent(&e) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                tracing::warn!(path = %entry.path().display(), "not the name of an object: left out");
                continue;
            };
            let Some(is_directory) = is_directory(&entry)? else {
                continue;
            };
            if is_directory && directory.is_empty() && name == TMP {
                continue;
            }
            let slash = if is_directory { "/" } else { "" };
            let name = format!("{directory}{name}{slash}");
            if name.as_str() > from && self.wants(&name, is_directory) {
                kept.push(name);
                if kept.len() > room {
                    kept.pop();
                }
            }
        }
        Ok(kept.into_sorted_vec())
    }

    fn wants(&self, name: &str, is_directory: bool) -> bool {
        if is_directory {
            (name.starts_with(self.prefix) || self.prefix.starts_with(name))
                && (name > self.after || self.after.starts_with(name))
        } else {
            name.starts_with(self.prefix) && name > self.after
        }
    }
}

/// Whether an entry is a directory or a file; `None` for what is neither, or gone.
fn is_directory(entry: &fs::DirEntry) -> io::Result<Option<bool>> {
    let kind = entry.file_type()?;
    if kind.is_dir() || kind.is_file() {
        return Ok(Some(kind.is_dir()));
    }
    // A directory that was moved to another disk and linked from here is followed.
    match fs::metadata(entry.path()) {
        Ok(metadata) if metadata.is_dir() || metadata.is_file() => Ok(Some(metadata.is_dir())),
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => {
            tracing::warn!(path = %entry.path().display(), "neither a file nor a directory: left out");
            Ok(None)
        }
    }
}
