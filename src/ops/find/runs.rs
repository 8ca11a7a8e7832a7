//! From the index's rows to when something was there.
//!
//! A row speaks of numbers of snapshots, some of which may be forgotten by now: then it may
//! begin later or end earlier, and two rows that something else was between may have become
//! one.

use std::path::Path;

use super::gather::decode;
use super::{Appearance, End};
use crate::format::node::{Entry, Owner};
use crate::index::{self, SearchVersion};
use crate::repo::{Error, Result};
use crate::view::as_of::Head;
use crate::view::compare::{Aspects, numbers};

/// Takes the versions of a source in their order and returns when each was there.
pub(super) struct Runs<'a> {
    /// The snapshots, and their numbers in the index, in one order.
    line: &'a [Head],
    numbers: &'a [i64],
    index: &'a Path,
    open: Option<Run>,
}

/// A version in snapshots that follow each other, by their places in the line.
struct Run {
    path: Vec<u8>,
    entry: Entry,
    owner: Owner,
    first: usize,
    last: usize,
}

impl<'a> Runs<'a> {
    /// `index` is where the rows are from, for messages.
    pub(super) fn new(line: &'a [Head], numbers: &'a [i64], index: &'a Path) -> Runs<'a> {
        Runs { line, numbers, index, open: None }
    }

    /// Takes the next version. Returns the one before it, if that is complete now.
    pub(super) fn add(&mut self, version: SearchVersion) -> Result<Option<Appearance>> {
        let first = self.numbers.partition_point(|number| *number < version.first);
        let behind = match version.last {
            Some(last) => self.numbers.partition_point(|number| *number <= last),
            None => self.numbers.len(),
        };
        if first >= behind {
            return Ok(None);
        }
        let (entry, owner) = decode(&version.path, &version.body).ok_or_else(|| {
            Error::Index(index::Error::Corrupt {
                path: self.index.to_owned(),
                what: "a row of the search does not decode".into(),
            })
        })?;
        if let Some(open) = &mut self.open
            && open.path == version.path
            && open.last + 1 == first
            && Aspects::of((&open.entry, numbers(&open.owner)), (&entry, numbers(&owner)))
                .is_empty()
        {
            open.last = behind - 1;
            return Ok(None);
        }
        let run = Run { path: version.path, entry, owner, first, last: behind - 1 };
        let before = self.open.replace(run);
        let next = self.open.as_ref().map(|run| (run.path.as_slice(), run.first));
        Ok(before.and_then(|before| self.appearance(before, next)))
    }

    /// There are no more. Returns the last one.
    pub(super) fn end(mut self) -> Option<Appearance> {
        let last = self.open.take()?;
        self.appearance(last, None)
    }

    /// `next` is the path of the run behind it, and where that begins.
    fn appearance(&self, run: Run, next: Option<(&[u8], usize)>) -> Option<Appearance> {
        let end = match self.line.get(run.last + 1).map(Head::at) {
            None => End::Present,
            Some(at) if next == Some((run.path.as_slice(), run.last + 1)) => End::Replaced(at),
            Some(at) => End::Deleted(at),
        };
        let (first, last) = (self.line.get(run.first)?.clone(), self.line.get(run.last)?.clone());
        let Run { path, entry, owner, first: from, last: upto } = run;
        let snapshots = (upto - from + 1) as u64;
        Some(Appearance { path, entry, owner, first, last, snapshots, end })
    }
}
