//! What is known of the repository's snapshots, and what differs from before.
//!
//! A [`State`] is made whole and replaced whole, so that one question sees one
//! state of affairs.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::base::{Clock, SnapshotId, UnixTime};
use crate::repo::{Library, SnapshotInfo};
use crate::view::as_of::{Head, Timelines};
use crate::view::error::Result;
use crate::view::time_name::instant_name;
use crate::view::time_spec::TimeSpec;
use crate::view::zone::Zone;

use super::views::{View, Viewed};
use super::{AT, CHANGES, Life, ROOT, SNAPSHOTS, number};

/// What was taken this long ago has been published, as a rule.
const SETTLED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// The snapshots of a repository at one time.
#[derive(Debug)]
pub(super) struct State {
    pub(super) timelines: Timelines,
    pub(super) infos: HashMap<SnapshotId, Arc<SnapshotInfo>>,
    /// Once somebody has asked.
    pub(super) stored_bytes: OnceLock<u64>,
    /// Entries of the newest snapshot of each source.
    pub(super) entries: u64,
    /// Instants that no calendar has, by name.
    odd: Vec<(String, UnixTime)>,
}

impl State {
    pub(super) fn load(library: &dyn Library) -> Result<State> {
        let infos: HashMap<_, _> =
            library.snapshots()?.into_iter().map(|info| (info.snapshot.id, info)).collect();
        let timelines = Timelines::new(infos.values().map(|info| head(info)));
        let newest = timelines.sources().filter_map(|source| timelines.of(source).last());
        let entries =
            newest.filter_map(|head| infos.get(&head.id)).map(|i| i.snapshot.root.ranks());
        let entries = entries.fold(0, u64::saturating_add);
        let odd = timelines.instants().iter().map(|at| (instant_name(*at), *at));
        let odd = odd.filter(|(name, _)| name.starts_with('@')).collect();
        Ok(State { timelines, infos, stored_bytes: OnceLock::new(), entries, odd })
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
        same.map(|h| (self.name_of(source, &h.id), h))
            .find(|(own, _)| own.as_ref().is_some_and(|(own, _)| own == name))
            .map(|(_, head)| head)
    }

    /// The name of a snapshot among those of its source, and its instant.
    pub(super) fn name_of(&self, source: &str, id: &SnapshotId) -> Option<(String, UnixTime)> {
        let at = head(self.infos.get(id)?).at();
        let line = self.timelines.of(source);
        let last = line.get(line.partition_point(|h| h.at() <= at).checked_sub(1)?)?;
        let name = instant_name(at);
        Some((if last.id == *id { name } else { format!("{name}~{id}") }, at))
    }
}

/// What places a snapshot in time. The library has clamped its instant already, to
/// the second in which the store received it, since stores tell no finer: that must
/// not be clamped once more to the second's beginning.
fn head(info: &SnapshotInfo) -> Head {
    let taken = info.shown_from();
    Head {
        source: info.snapshot.source.clone(),
        id: info.snapshot.id,
        taken,
        receipt: Some(info.receipt.max(taken)),
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
            Changes { inodes: vec![AT, SNAPSHOTS, CHANGES, ROOT], entries: Vec::new() };
        changes.entries.push((ROOT, "latest".to_owned()));
        let all: BTreeSet<&str> =
            before.timelines.sources().chain(after.timelines.sources()).collect();
        let differs = |source: &&str| before.timelines.of(source) != after.timelines.of(source);
        let sources: BTreeSet<&str> = all.into_iter().filter(differs).collect();
        for view in seen {
            let ino = number(view.number, 0);
            match &view.view {
                View::Source(source) | View::Changes(source)
                    if sources.contains(source.as_str()) =>
                {
                    changes.inodes.push(ino);
                    if after.timelines.of(source).is_empty() {
                        let is_source = matches!(view.view, View::Source(_));
                        let dir = if is_source { SNAPSHOTS } else { CHANGES };
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
                    let id = &tree.info().snapshot.id;
                    let gone = before.infos.contains_key(id) && !after.infos.contains_key(id);
                    if let Some((_, name)) = view.path.rsplit_once('/').filter(|_| gone) {
                        changes.entries.push((number(*within, 0), name.to_owned()));
                    }
                }
                // Names of pairs are not good for long, and what is in one stays.
                View::Source(_)
                | View::Changes(_)
                | View::Pair { .. }
                | View::Snapshot { unlike: Some(_), .. } => {}
            }
        }
        changes
    }
}
