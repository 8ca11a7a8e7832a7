//! Listing directories.
//!
//! A position in a listing is a number that the kernel hands back. In a snapshot,
//! where nothing changes, it counts entries. In a directory that changes it is
//! made from what the entry is (its instant, or its view's number), so that a
//! listing in progress neither repeats nor leaves out what was there all along.

use std::sync::Arc;

use crate::base::UnixTime;
use crate::view::as_of::listing;
use crate::view::error::{Error, Reach, Result};
use crate::view::time_name::instant_name;

use super::changes::{counterpart, differs};
use super::enter::root_of;
use super::{
    AT, CHANGES, FIRST_REPORT, HISTORY, Item, LATEST_RANK, Life, Namespace, RANK_LIMIT, REPORTS,
    ROOT, Report, SNAPSHOTS, View, Viewed, entry, number,
};

/// Positions below are for `.` and `..`, which are the caller's.
pub const FIRST_POSITION: u64 = 3;

/// One entry of a listing.
#[derive(Debug)]
pub struct Row<'a> {
    /// The listing goes on behind it from here.
    pub position: u64,
    /// Its name.
    pub name: &'a [u8],
    /// What it is.
    pub item: Item,
    /// How long the name has that meaning.
    pub life: Life,
}

impl Namespace {
    /// Shows the entries of a directory behind a position, until `show` says that
    /// it has enough. Entries shown before an error stand.
    ///
    /// # Errors
    ///
    /// [`Error::NotADirectory`], [`Error::WouldBlock`], or the library's.
    pub fn list(
        &self,
        dir: u64,
        after: u64,
        reach: Reach,
        show: &mut dyn FnMut(Row<'_>) -> bool,
    ) -> Result<()> {
        let (view, rank) = self.place(dir)?;
        let Some(view) = view else {
            return match dir {
                ROOT => self.list_root(after, reach, show),
                AT => self.list_instants(after, reach, show),
                SNAPSHOTS | CHANGES | HISTORY => self.list_sources(dir, after, reach, show),
                REPORTS => self.list_reports(after, reach, show),
                _ => Err(Error::NotADirectory),
            };
        };
        match &view.view {
            View::Snapshot { tree, unlike, .. } if rank < RANK_LIMIT => {
                let from = after.saturating_sub(FIRST_POSITION - 1);
                let there = match unlike {
                    Some(other) => Some((other, counterpart(tree, rank, other, reach)?)),
                    None => None,
                };
                for listed in tree.list(rank, from, reach)? {
                    let listed = listed?;
                    if let Some((other, there)) = there
                        && !differs(&listed.found, other, there, reach)?
                    {
                        continue;
                    }
                    let found = listed.found.clone();
                    let row = Row {
                        position: listed.ordinal + FIRST_POSITION,
                        name: &listed.found.entry().name,
                        item: entry(&view, tree, found, reach)?,
                        life: Life::Forever,
                    };
                    if show(row) {
                        break;
                    }
                }
                Ok(())
            }
            View::Instant(at, _) if rank == 0 => self.list_instant(&view, *at, after, reach, show),
            View::Source(source) if rank == 0 => {
                self.list_snapshots(&view, source, after, reach, show)
            }
            View::Changes(source) if rank == 0 => {
                self.list_pairs(&view, source, after, reach, show)
            }
            View::Pair { .. } if rank == 0 => self.list_sides(&view, after, reach, show),
            View::History(_) | View::Past(_) => self.list_past(&view, rank, after, reach, show),
            _ => Err(Error::NotADirectory),
        }
    }

    fn list_root(
        &self,
        after: u64,
        reach: Reach,
        show: &mut dyn FnMut(Row<'_>) -> bool,
    ) -> Result<()> {
        let newest = self.state().latest();
        let names: [&[u8]; 6] = [b"latest", b"at", b"snapshots", b"changes", b"history", b".asof"];
        for (name, position) in names.into_iter().zip(FIRST_POSITION..) {
            if position <= after {
                continue;
            }
            let (ino, life) = match (name, newest) {
                (b"latest", None) => continue,
                (b"latest", Some(at)) => {
                    (number(self.instant(at, reach)?.number, LATEST_RANK), Life::Brief)
                }
                (b"at", _) => (AT, Life::Settled),
                (b"snapshots", _) => (SNAPSHOTS, Life::Settled),
                (b"changes", _) => (CHANGES, Life::Settled),
                (b"history", _) => (HISTORY, Life::Settled),
                _ => (REPORTS, Life::Settled),
            };
            if show(Row { position, name, item: self.item(ino, reach)?, life }) {
                break;
            }
        }
        Ok(())
    }

    /// One instant for each day, and today's hours.
    fn list_instants(
        &self,
        after: u64,
        reach: Reach,
        show: &mut dyn FnMut(Row<'_>) -> bool,
    ) -> Result<()> {
        let state = self.whole(reach)?;
        let mut instants = state.timelines().instants().to_vec();
        if state.has_streams() {
            if reach == Reach::Memory {
                return Err(Error::WouldBlock);
            }
            instants.extend(self.library.state_instants()?);
            instants.sort_unstable();
            instants.dedup();
        }
        let instants = listing(&instants, &self.zone, self.clock.now());
        for (position, at) in by_time(instants, |at| *at) {
            if position <= after {
                continue;
            }
            let ino = number(self.instant(at, reach)?.number, 0);
            let item = self.item(ino, reach)?;
            let name = instant_name(at);
            let life = self.life(&state, at);
            if show(Row { position, name: name.as_bytes(), item, life }) {
                break;
            }
        }
        Ok(())
    }

    fn list_sources(
        &self,
        dir: u64,
        after: u64,
        reach: Reach,
        show: &mut dyn FnMut(Row<'_>) -> bool,
    ) -> Result<()> {
        let state = self.state();
        let mut views = Vec::new();
        for source in state.sources() {
            views.push((source, self.of_source(dir, source, reach)?));
        }
        for (name, view) in by_number(views, after) {
            let item = self.item(number(view.number, 0), reach)?;
            let position = view.number + FIRST_POSITION;
            if show(Row { position, name: name.as_bytes(), item, life: Life::Settled }) {
                break;
            }
        }
        Ok(())
    }

    fn list_instant(
        &self,
        within: &Viewed,
        at: UnixTime,
        after: u64,
        reach: Reach,
        show: &mut dyn FnMut(Row<'_>) -> bool,
    ) -> Result<()> {
        let state = self.state();
        let life = self.life(&state, at);
        let views = self.shown(&state, within, reach)?;
        for (head, view) in by_number(views, after) {
            let item = root_of(&view, reach)?;
            let position = view.number + FIRST_POSITION;
            if show(Row { position, name: head.source.as_bytes(), item, life }) {
                break;
            }
        }
        Ok(())
    }

    fn list_snapshots(
        &self,
        within: &Viewed,
        source: &str,
        after: u64,
        reach: Reach,
        show: &mut dyn FnMut(Row<'_>) -> bool,
    ) -> Result<()> {
        let state = self.whole(reach)?;
        for (position, (name, head)) in by_time(state.named(source), |(_, head)| head.at()) {
            if position <= after {
                continue;
            }
            let view = self.snapshot_of_source(&state, head, within, reach)?;
            let item = root_of(&view, reach)?;
            if show(Row { position, name: name.as_bytes(), item, life: Life::Settled }) {
                break;
            }
        }
        Ok(())
    }

    fn list_reports(
        &self,
        after: u64,
        reach: Reach,
        show: &mut dyn FnMut(Row<'_>) -> bool,
    ) -> Result<()> {
        for report in Report::ALL {
            let position = report.index() + FIRST_POSITION;
            if position <= after {
                continue;
            }
            let item = self.item(FIRST_REPORT + report.index(), reach)?;
            let name = report.name().as_bytes();
            if show(Row { position, name, item, life: Life::Momentary }) {
                break;
            }
        }
        Ok(())
    }
}

/// Gives things that are in order of time positions that depend on their times, and
/// differ even where those do not. Positions are positive as signed numbers too.
pub(super) fn by_time<T>(
    things: impl IntoIterator<Item = T>,
    at: impl Fn(&T) -> UnixTime,
) -> impl Iterator<Item = (u64, T)> {
    let mut last = FIRST_POSITION - 1;
    things.into_iter().map(move |thing| {
        let nanos = at(&thing).as_nanos().clamp(0, i128::from(i64::MAX - (1 << 32)));
        last = u64::try_from(nanos).unwrap_or(0).max(last + 1);
        (last, thing)
    })
}

/// The things whose views have numbers behind a position, in order of those.
fn by_number<T>(mut views: Vec<(T, Arc<Viewed>)>, after: u64) -> Vec<(T, Arc<Viewed>)> {
    views.retain(|(_, view)| view.number + FIRST_POSITION > after);
    views.sort_by_key(|(_, view)| view.number);
    views
}
