//! Searching all of history at once.

use crate::base::{Stop, UnixTime};
use crate::format::node::{Entry, FileKind};
use crate::ops::select::{check_known, in_order, timelines};
use crate::repo::{self, Library};
use crate::view::appearances::{Appearance, End, appearances};

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
    /// Of these sources alone; of all if there is none.
    pub sources: Vec<String>,
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
        let name = || path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let is_below = |base: &Vec<u8>| {
            path.strip_prefix(base.as_slice())
                .is_some_and(|rest| base.is_empty() || rest.is_empty() || rest.starts_with(b"/"))
        };
        let is_file = entry.kind == FileKind::File;
        self.name.as_ref().is_none_or(|fits| fits(name()))
            && self.below.as_ref().is_none_or(is_below)
            && self.size.is_none_or(|(least, most)| is_file && (least..=most).contains(&entry.size))
            && self.mtime.is_none_or(|mtime| mtime.holds(entry.mtime))
            && (self.kind.is_empty() || self.kind.contains(&entry.kind))
            && self.sha256.is_none_or(|hash| {
                entry.sha256.as_ref().is_some_and(|own| own.as_slice() == hash.as_slice())
            })
    }

    /// Whether it came or went between two moments.
    fn is_of_time(&self, hit: &Appearance) -> bool {
        let Some(span) = self.changed else { return true };
        span.holds(hit.first.shown_from()) || hit.end.at().is_some_and(|at| span.holds(at))
    }
}

/// Hands every hit to `visit`: each version of each path once, source by source; those that
/// ended in the order of that, then those that are still there.
///
/// # Errors
///
/// The library's, [`repo::Error::Interrupted`], and what `visit` returns; an unknown source
/// is an error of [`check_known`].
pub fn find<E: From<repo::Error> + From<crate::ops::Error>>(
    library: &dyn Library,
    criteria: &Criteria,
    stop: &Stop,
    mut visit: impl FnMut(&str, &Appearance) -> Result<(), E>,
) -> Result<u64, E> {
    let infos = library.snapshots()?;
    let lines = timelines(&infos);
    for source in &criteria.sources {
        check_known(&lines, source)?;
    }
    let wanted = |source: &&str| {
        criteria.sources.is_empty() || criteria.sources.iter().any(|name| name == source)
    };
    let mut hits = 0;
    for source in lines.sources().filter(wanted) {
        let wants = |path: &[u8], entry: &Entry| match stop.is_raised() {
            true => Err(E::from(repo::Error::Interrupted)),
            false => Ok(criteria.want(path, entry)),
        };
        appearances(library, &in_order(&infos, source), wants, |hit| -> Result<(), E> {
            let is_deleted = matches!(hit.end, End::Deleted(_));
            if criteria.deleted && !is_deleted || !criteria.is_of_time(&hit) {
                return Ok(());
            }
            hits += 1;
            visit(source, &hit)
        })?;
    }
    Ok(hits)
}
