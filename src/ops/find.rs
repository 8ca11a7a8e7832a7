//! Searching all of history at once.
//!
//! The local index has a row for each version of everything that ever was in a source
//! (`gather` brings that up to date), so a search goes through rows and asks the store for
//! nothing. It costs the same whatever is looked for, but for a path, and holds one path's
//! versions at a time.

mod gather;
mod runs;

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::{Progress, Stop, UnixTime};
use crate::format::node::{Entry, FileKind, Owner};
use crate::index::Index;
use crate::ops::Result as OpsResult;
use crate::ops::select::check_known;
use crate::repo::{self, Library};
use crate::source::path;
use crate::view::as_of::{Head, Timelines};

use self::gather::{Gathered, Gatherer};
use self::runs::Runs;

/// A version of a path, and when it was there.
#[derive(Debug, Clone)]
pub struct Appearance {
    /// The path, without a leading `/`.
    pub path: Vec<u8>,
    /// What was there, but for what leads to its content.
    pub entry: Entry,
    /// Who owned it.
    pub owner: Owner,
    /// The first snapshot that shows it.
    pub first: Head,
    /// The last one in a row.
    pub last: Head,
    /// How many there are in that row.
    pub snapshots: u64,
    /// What came after it.
    pub end: End,
}

/// What came after a version, and when the snapshot was taken that shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing yet: the newest snapshot shows it.
    Present,
    /// Another one of the same path.
    Replaced(UnixTime),
    /// The next snapshot has nothing there.
    Deleted(UnixTime),
}

impl End {
    /// When it was seen to have ended; none if it has not.
    #[must_use]
    pub fn at(self) -> Option<UnixTime> {
        match self {
            End::Present => None,
            End::Replaced(at) | End::Deleted(at) => Some(at),
        }
    }
}

/// The time after one moment and until another; either may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Later than this.
    pub after: Option<UnixTime>,
    /// Not later than this.
    pub until: Option<UnixTime>,
}

impl Span {
    fn holds(&self, at: UnixTime) -> bool {
        self.after.is_none_or(|after| at > after) && self.until.is_none_or(|until| at <= until)
    }
}

/// Whether a name fits, given as bytes.
pub type Fits = Box<dyn Fn(&[u8]) -> bool>;

/// What is looked for: what fits everything that is said.
#[derive(Default)]
pub struct Criteria {
    /// The last part of the path.
    pub name: Option<Fits>,
    /// The path and everything below it, without slashes at either end.
    pub below: Option<Vec<u8>>,
    /// The least and the greatest size of a file. Bytes.
    pub size: Option<(u64, u64)>,
    /// When its content changed.
    pub mtime: Option<Span>,
    /// The hash of a file's bytes.
    pub sha256: Option<[u8; 32]>,
    /// What it may be; anything if that is empty.
    pub kind: Vec<FileKind>,
    /// It came, changed or went then.
    pub changed: Option<Span>,
    /// What came after it was nothing.
    pub deleted: bool,
}

impl Criteria {
    fn want(&self, path: &[u8], entry: &Entry) -> bool {
        let is_below = |base: &Vec<u8>| {
            path.strip_prefix(base.as_slice())
                .is_some_and(|rest| base.is_empty() || rest.is_empty() || rest.starts_with(b"/"))
        };
        let is_file = entry.kind == FileKind::File;
        self.name.as_ref().is_none_or(|fits| fits(path::last(path)))
            && self.below.as_ref().is_none_or(is_below)
            && self.size.is_none_or(|(least, most)| is_file && (least..=most).contains(&entry.size))
            && self.mtime.is_none_or(|mtime| mtime.holds(entry.mtime))
            && (self.kind.is_empty() || self.kind.contains(&entry.kind))
            && self.sha256.is_none_or(|hash| {
                entry.sha256.as_ref().is_some_and(|own| own.as_slice() == hash.as_slice())
            })
    }

    /// Whether it came or went between two moments, and is gone if that is wanted.
    fn want_end(&self, hit: &Appearance) -> bool {
        if self.deleted && !matches!(hit.end, End::Deleted(_)) {
            return false;
        }
        let Some(span) = self.changed else { return true };
        span.holds(hit.first.at()) || hit.end.at().is_some_and(|at| span.holds(at))
    }
}

/// Sources whose whole history is in the index.
pub struct Search {
    index: Arc<Index>,
    lines: Timelines,
    sources: Vec<(String, Gathered)>,
}

impl Search {
    /// Brings what the index knows of these sources up to date; of all, if none is named. The
    /// first time that takes as long as going through the first snapshot of each and all
    /// differences, later what differs in new ones. `progress` counts snapshots.
    ///
    /// # Errors
    ///
    /// The library's and the index's, and [`repo::Error::Interrupted`], after which it goes
    /// on where it was; an unknown source is an error of [`check_known`].
    pub fn prepare(
        library: &dyn Library,
        index: &Arc<Index>,
        sources: &[String],
        progress: &Progress,
        stop: &Stop,
    ) -> OpsResult<Search> {
        let lines = Timelines::new(library.moments()?.into_iter().map(Head::from));
        for source in sources {
            check_known(&lines, source)?;
        }
        let wanted =
            |source: &&str| sources.is_empty() || sources.iter().any(|name| name == source);
        let gatherer = Gatherer { library, index, progress, stop };
        let mut gathered = Vec::new();
        for source in lines.sources().filter(wanted) {
            gathered.push((source.to_owned(), gatherer.gather(source, lines.of(source))?));
        }
        Ok(Search { index: Arc::clone(index), lines, sources: gathered })
    }

    /// Hands every hit to `visit`: each version of each path once, source by source, in byte
    /// order of the paths and then as they followed each other. Returns how many there were.
    ///
    /// # Errors
    ///
    /// The index's, [`repo::Error::Interrupted`], [`repo::Error::SearchOvertaken`] if another
    /// command has forgotten snapshots or found others meanwhile, and what `visit` returns.
    pub fn find<E: From<repo::Error>>(
        &self,
        criteria: &Criteria,
        stop: &Stop,
        mut visit: impl FnMut(&str, &Appearance) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut hits = 0;
        for (source, gathered) in &self.sources {
            let line = self.lines.of(source);
            let mut runs = Runs::new(line, &gathered.numbers, self.index.path());
            let mut show = |hit: Appearance| -> Result<(), E> {
                if criteria.want(&hit.path, &hit.entry) && criteria.want_end(&hit) {
                    hits += 1;
                    visit(source, &hit)?;
                }
                Ok(())
            };
            let below = criteria.below.as_deref().unwrap_or_default();
            let mut failed = None;
            let (number, numbers) = (gathered.source, &gathered.numbers);
            let as_expected = self.index.search(number, numbers, below, &mut |version| {
                let shown = match stop.is_raised() {
                    true => Err(E::from(repo::Error::Interrupted)),
                    false => match runs.add(version) {
                        Ok(hit) => hit.map_or(Ok(()), &mut show),
                        Err(error) => Err(E::from(error)),
                    },
                };
                match shown {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        failed = Some(error);
                        ControlFlow::Break(())
                    }
                }
            });
            let as_expected = as_expected.map_err(repo::Error::from)?;
            if let Some(error) = failed {
                return Err(error);
            }
            if !as_expected {
                return Err(E::from(repo::Error::SearchOvertaken { name: source.clone() }));
            }
            if let Some(hit) = runs.end() {
                show(hit)?;
            }
        }
        Ok(hits)
    }
}

#[cfg(test)]
mod tests;
