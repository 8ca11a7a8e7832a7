//! What is known of the repository's snapshots, and what differs from before.
//!
//! A [`State`] is made whole and replaced whole, so that one question sees one
//! state of affairs.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use crate::base::{Clock, UnixTime};
use crate::repo::{Library, SnapshotInfo};
use crate::view::as_of::{Head, Timelines};
use crate::view::error::Result;
use crate::view::time_name::instant_name;
use crate::view::time_spec::TimeSpec;
use crate::view::zone::Zone;

use super::history::Pasts;
use super::views::{View, Viewed};
use super::{AT, CHANGES, HISTORY, Life, ROOT, SNAPSHOTS, number};

/// What was taken this long ago has been published, as a rule.
const SETTLED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// The snapshots of a repository at one time.
#[derive(Debug)]
pub(super) struct State {
    pub(super) timelines: Timelines,
    /// The bytes of all packs, and the entries of the newest snapshot of each source, once
    /// somebody has asked.
    pub(super) totals: OnceLock<(u64, u64)>,
    /// The snapshots of the sources whose past was asked for, in order.
    pub(super) lines: Mutex<HashMap<String, Arc<[Arc<SnapshotInfo>]>>>,
    /// What was at paths that were asked for.
    pub(super) pasts: Pasts,
    /// Instants that no calendar has, by name.
    odd: Vec<(String, UnixTime)>,
}

impl State {
    pub(super) fn load(library: &dyn Library) -> Result<State> {
        let timelines = Timelines::new(library.moments()?.into_iter().map(Head::from));
        // They are at the ends, since a calendar has one beginning and one end.
        let odd = |at: &&UnixTime| instant_name(**at).starts_with('@');
        let instants = timelines.instants();
        let (early, late) =
            (instants.iter().take_while(odd), instants.iter().rev().take_while(odd));
        let odd = early.chain(late).map(|at| (instant_name(*at), *at)).collect();
        Ok(State {
            timelines,
            totals: OnceLock::new(),
            lines: Mutex::default(),
            pasts: Pasts::default(),
            odd,
        })
    }

    /// The instant that a text means.
    pub(super) fn instant(&self, text: &str, zone: &Zone, now: UnixTime) -> Option<UnixTime> {
        if let Some((_, at)) = self.odd.iter().find(|(name, _)| name == text) {
            return Some(*at);
        }
        Some(TimeSpec::parse(text, zone, now).ok()?.instant)
    }

    /// How long what is shown at an instant stays so.
    pub(super) fn life(&self, at: UnixTime, now: UnixTime) -> Life {
        let newest = self.timelines.instants().last().is_none_or(|newest| at >= *newest);
        if newest || now.since(at) < SETTLED_AFTER { Life::Brief } else { Life::Settled }
    }

    /// The snapshots of a source with their names, oldest first.
    ///
    /// A name is the exact instant. Of several taken at one instant the last has it
    /// alone, being what a time finds; the others have `~` and their id behind it.
    pub(super) fn named(&self, source: &str) -> impl Iterator<Item = (String, &Head)> {
        let line = self.timelines.of(source);
        line.iter().enumerate().map(|(n, head)| {
            let name = instant_name(head.at());
            let shared = line.get(n + 1).is_some_and(|next| next.at() == head.at());
            (if shared { format!("{name}~{}", head.id) } else { name }, head)
        })
    }

    /// The snapshot that has exactly that name among those of a source.
    pub(super) fn snapshot_named(&self, source: &str, name: &str) -> Option<&Head> {
        let time = name.split_once('~').map_or(name, |(time, _)| time);
        let at = self.instant(time, &Zone::utc(), UnixTime::EPOCH)?;
        let head = self.timelines.newest(source, at)?;
        let line = self.timelines.of(source);
        let first = line.partition_point(|h| h.at() < head.at());
        let same = line.iter().skip(first).take_while(|h| h.at() == head.at());
        same.into_iter().find(|head| self.name_of(head).is_some_and(|own| own == name))
    }

    /// The name of a snapshot among those of its source; none if it is not one of them.
    pub(super) fn name_of(&self, head: &Head) -> Option<String> {
        let line = self.timelines.of(&head.source);
        let at = head.at();
        let same = line[..line.partition_point(|h| h.at() <= at)].iter().rev();
        let mut same = same.take_while(|h| h.at() == at).map(|h| h.id);
        let last = same.next()?;
        let name = instant_name(at);
        if last == head.id {
            return Some(name);
        }
        same.any(|id| id == head.id).then(|| format!("{name}~{}", head.id))
    }
}

/// When today began.
pub(super) fn midnight(zone: &Zone, clock: &Clock) -> UnixTime {
    let now = clock.now();
    let day = now.to_timestamp().map(|at| at.to_zoned(zone.tz().clone()).start_of_day());
    match day {
        Some(Ok(midnight)) => UnixTime::from(midnight.timestamp()),
        _ => UnixTime::EPOCH,
    }
}

/// What the kernel must be told to forget.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Directories whose listings are not as they were.
    pub inodes: Vec<u64>,
    /// Names, and in which directory, that mean something else.
    pub entries: Vec<(u64, String)>,
}

impl Changes {
    /// What of the views that were seen differs between two states.
    pub(super) fn between(before: &State, after: &State, seen: &[Arc<Viewed>]) -> Changes {
        let mut changes =
            Changes { inodes: vec![AT, SNAPSHOTS, CHANGES, HISTORY, ROOT], entries: Vec::new() };
        changes.entries.push((ROOT, "latest".to_owned()));
        let all: BTreeSet<&str> =
            before.timelines.sources().chain(after.timelines.sources()).collect();
        let differs = |source: &&str| before.timelines.of(source) != after.timelines.of(source);
        let sources: BTreeSet<&str> = all.into_iter().filter(differs).collect();
        for view in seen {
            let ino = number(view.number, 0);
            match &view.view {
                View::Source(source) | View::Changes(source) | View::History(source)
                    if sources.contains(source.as_str()) =>
                {
                    changes.inodes.push(ino);
                    if after.timelines.of(source).is_empty() {
                        let dir = match &view.view {
                            View::Source(_) => SNAPSHOTS,
                            View::Changes(_) => CHANGES,
                            _ => HISTORY,
                        };
                        changes.entries.push((dir, source.clone()));
                    }
                }
                View::Instant(at) => {
                    let shown = |state: &State, source: &str| {
                        state.timelines.newest(source, *at).map(|head| head.id)
                    };
                    let other = |source: &&&str| shown(before, source) != shown(after, source);
                    let names: Vec<_> = sources.iter().filter(other).collect();
                    if !names.is_empty() {
                        changes.inodes.push(ino);
                    }
                    changes.entries.extend(names.into_iter().map(|n| (ino, (*n).to_owned())));
                    if after.timelines.canonical(*at) != Some(*at) {
                        changes.entries.push((AT, instant_name(*at)));
                    }
                }
                View::Snapshot { tree, within, unlike: None } => {
                    let head = Head::from(tree.info().as_ref());
                    let known = |state: &State| state.name_of(&head).is_some();
                    let gone = known(before) && !known(after);
                    if let Some((_, name)) = view.path.rsplit_once('/').filter(|_| gone) {
                        changes.entries.push((number(*within, 0), name.to_owned()));
                    }
                }
                // Names of pairs are not good for long, and what is in one stays.
                View::Source(_)
                | View::Changes(_)
                | View::History(_)
                | View::Past(_)
                | View::Pair { .. }
                | View::Snapshot { unlike: Some(_), .. } => {}
            }
        }
        changes
    }
}
