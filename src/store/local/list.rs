//! Listing a directory as if it were a bucket: by the bytes of whole names.
//!
//! A bucket orders `a-b` before `a/b` and that before `a0`, so a directory sorts
//! among its neighbours as its name with a `/`. Subdirectories that lie before
//! the point where the listing goes on, or outside the prefix, are not opened.
//!
//! Memory is bounded: of each directory only the smallest names are kept, at most
//! [`NAMES`]. Those that a page has no room for wait for the call that goes on after
//! it, so that a directory is read once for many pages and not once for each
//! (70 ms for 100,000 names). That call says the time at which they were read.

use std::collections::{BinaryHeap, VecDeque};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

use super::LocalStore;
use crate::base::UnixTime;
use crate::base::pause::monotonic;
use crate::store::key::TMP;
use crate::store::{Listed, Page};

/// How many objects a page holds.
const PAGE: usize = 1000;

/// How many names of a directory are kept: some 6 MB.
pub(super) const NAMES: usize = 1 << 16;

/// How long they wait for the next page.
const PATIENCE: Duration = Duration::from_mins(1);

/// The first page of a store's objects that begin with `prefix` and come after `after`.
pub(super) fn page(store: &LocalStore, prefix: &str, after: Option<&str>) -> io::Result<Page> {
    let after = after.unwrap_or("");
    // Before anything is read.
    let rest = store.rest().take_if(|rest| rest.comes_after(prefix, after));
    let (at, read) = match &rest {
        Some(rest) => (rest.at, rest.read),
        None => {
            let read = monotonic();
            let at = store.now().inspect_err(|e| tracing::debug!("the time is not known: {e}"));
            (at.ok(), read)
        }
    };
    let page = Page { at, ..Page::default() };
    let mut lister = Lister { store, prefix, after, page, read, rest };
    // Everything with this prefix is in one directory: begin there.
    let directory = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
    if !directory.starts_with("tmp/") {
        lister.walk(directory)?;
    }
    Ok(lister.page)
}

/// What a page had no room for, of the directory in which it ended.
#[derive(Debug)]
pub(super) struct Rest {
    prefix: String,
    after: String,
    directory: String,
    names: Names,
    at: Option<UnixTime>,
    read: Instant,
}

impl Rest {
    fn comes_after(&self, prefix: &str, after: &str) -> bool {
        self.prefix == prefix && self.after == after && self.read.elapsed() < PATIENCE
    }
}

/// Names in a directory, sorted; those of directories end in `/`.
#[derive(Debug)]
struct Names {
    sorted: VecDeque<String>,
    /// Whether there may be others after them.
    more: bool,
}

struct Lister<'a> {
    store: &'a LocalStore,
    prefix: &'a str,
    after: &'a str,
    page: Page,
    /// When reading began, and what was read for an earlier page.
    read: Instant,
    rest: Option<Rest>,
}

impl Lister<'_> {
    /// Adds the objects below a directory (empty, or with a `/` at its end), in order.
    fn walk(&mut self, directory: &str) -> io::Result<()> {
        let mut names = match self.rest.take_if(|rest| rest.directory == directory) {
            Some(rest) => rest.names,
            None => self.smallest(directory, "")?,
        };
        loop {
            let last = names.sorted.back().cloned();
            while let Some(name) = names.sorted.front() {
                if name.ends_with('/') {
                    self.walk(name)?;
                    names.sorted.pop_front();
                } else if !self.add(&mut names.sorted)? {
                    self.page.more = true;
                    self.keep(directory, names);
                    return Ok(());
                }
                if self.page.more {
                    return Ok(());
                }
            }
            match last {
                Some(last) if names.more => names = self.smallest(directory, &last)?,
                _ => return Ok(()),
            }
        }
    }

    /// Adds the objects that come before the next directory, those that are still there. False
    /// if the page has no room for the first of those that are left.
    fn add(&mut self, names: &mut VecDeque<String>) -> io::Result<bool> {
        let room = PAGE - self.page.objects.len();
        let files = names.iter().take_while(|name| !name.ends_with('/'));
        let files: Vec<&str> = files.take(room + 1).map(String::as_str).collect();
        for found in look(&self.store.root, &files)? {
            if found.is_some() && self.page.objects.len() == PAGE {
                return Ok(false);
            }
            self.page.objects.extend(found);
            names.pop_front();
        }
        Ok(true)
    }

    /// Keeps the names of the directory in which the page is full for the next.
    fn keep(&self, directory: &str, names: Names) {
        let after = self.page.objects.last().map(|object| object.key.clone()).unwrap_or_default();
        *self.store.rest() = Some(Rest {
            prefix: self.prefix.to_owned(),
            after,
            directory: directory.to_owned(),
            names,
            at: self.page.at,
            read: self.read,
        });
    }

    /// The smallest names in a directory that are wanted and come after `from`.
    fn smallest(&self, directory: &str, from: &str) -> io::Result<Names> {
        let mut kept = BinaryHeap::new();
        let mut more = false;
        let entries = match fs::read_dir(self.store.root.join(directory)) {
            Ok(entries) => entries,
            Err(e) if super::is_absent(&e) => return Ok(Names { sorted: VecDeque::new(), more }),
            Err(e) => return Err(e),
        };
        // As a rule most names are not wanted: they are put together in one place.
        let mut whole = String::from(directory);
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
            whole.truncate(directory.len());
            whole.push_str(name);
            if is_directory {
                whole.push('/');
            }
            if whole.as_str() > from && self.wants(&whole, is_directory) {
                kept.push(whole.clone());
                if kept.len() > self.store.names_max {
                    kept.pop();
                    more = true;
                }
            }
        }
        Ok(Names { sorted: kept.into_sorted_vec().into(), more })
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

/// Files of which at least so many are asked for are asked for by several threads: each
/// question may wait for the disk.
const MANY: usize = 128;
/// So many.
const THREADS: usize = 4;

/// What is known of these files, in their order: nothing of those that were deleted meanwhile.
fn look(root: &Path, names: &[&str]) -> io::Result<Vec<Option<Listed>>> {
    let look = |names: &[&str]| -> io::Result<Vec<Option<Listed>>> {
        let one = |name: &&str| match fs::metadata(root.join(name)) {
            Ok(metadata) => {
                let receipt = super::receipt(&metadata);
                Ok(Some(Listed { key: (*name).to_owned(), size: metadata.len(), receipt }))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        };
        names.iter().map(one).collect()
    };
    if names.len() < MANY {
        return look(names);
    }
    std::thread::scope(|scope| {
        let parts = names.chunks(names.len().div_ceil(THREADS));
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || look(part))).collect();
        let mut all = Vec::with_capacity(names.len());
        for thread in threads {
            let part = thread.join().unwrap_or_else(|_| Err(io::Error::other("a look failed")));
            all.extend(part?);
        }
        Ok(all)
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn a_directory_of_more_names_than_are_kept_is_listed_in_full() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = LocalStore::create(dir.path()).unwrap();
        store.names_max = 1100;
        fs::create_dir(dir.path().join("log")).unwrap();
        let all: Vec<String> = (0..3500).map(|n| format!("log/{n:04}")).collect();
        for name in &all {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let mut found: Vec<String> = Vec::new();
        loop {
            let page = store.list("log/", found.last().map(String::as_str)).unwrap();
            found.extend(page.objects.into_iter().map(|object| object.key));
            if !page.more {
                break;
            }
        }
        assert!(found == all, "{} of {}", found.len(), all.len());
    }
}
