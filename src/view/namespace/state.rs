//! What is known of the repository's snapshots, and what differs from before.
//!
//! A [`State`] is replaced and never altered, so that one question sees one state of
//! affairs.
//!
//! A mount begins with the newest snapshot of each source: its start must not grow with
//! what was backed up before, and most who mount want the newest. That answers what is
//! asked of `latest`, and of any time since. The first question of another kind reads where
//! all snapshots stand, some 0.5 µs each, and has the [`Whole`] of it. Another process may
//! have learnt of others meanwhile; so that is another state, and replaces the first as
//! after a refresh.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::base::{Clock, UnixTime};
use crate::codec::hash::sha256;
use crate::repo::library::Moment;
use crate::repo::{Library, SnapshotInfo};
use crate::view::as_of::{Head, Timelines, later};
use crate::view::error::{Error, Reach, Result};
use crate::view::time_name::instant_name;
use crate::view::time_spec::TimeSpec;
use crate::view::zone::Zone;

use super::changes::pair_name;
use super::history::Pasts;
use super::views::{View, Viewed};
use super::{AT, CHANGES, HISTORY, Life, ROOT, SNAPSHOTS, number};

/// What was taken this long ago has been published, as a rule.
const SETTLED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// The snapshots of a repository at one time.
#[derive(Debug)]
pub(super) struct State {
    /// Of every snapshot, or of the newest of each source and perhaps others.
    known: Timelines,
    /// Whether those are all.
    is_whole: bool,
    /// The last state of each source that is followed, by source.
    ends: BTreeMap<String, Head>,
    /// What was asked of [`State::shown`].
    shown: Mutex<HashMap<UnixTime, Shown>>,
    /// The bytes of all packs, and the entries of the newest snapshot of each source, once
    /// somebody has asked.
    pub(super) totals: OnceLock<(u64, u64)>,
    /// What was asked of [`State::fingerprint`].
    fingerprints: Mutex<HashMap<UnixTime, Fingerprint>>,
    /// The snapshots of the sources whose past was asked for, in order.
    pub(super) lines: Mutex<HashMap<String, Arc<[Arc<SnapshotInfo>]>>>,
    /// What was at paths that were asked for.
    pub(super) pasts: Pasts,
}

/// The snapshots and states that an instant shows.
pub(super) type Shown = Arc<[Head]>;

/// What an instant shows, in a few bytes.
type Fingerprint = [u8; 16];

impl State {
    /// What the start of a mount needs.
    pub(super) fn begin(library: &dyn Library) -> Result<State> {
        State::of(library, library.newest_moments()?, false)
    }

    fn of(library: &dyn Library, moments: Vec<Moment>, is_whole: bool) -> Result<State> {
        let ends = library.newest_states()?.into_iter().map(Head::from);
        Ok(State {
            known: Timelines::new(moments.into_iter().map(Head::from)),
            is_whole,
            ends: ends.map(|head| (head.source.clone(), head)).collect(),
            shown: Mutex::default(),
            totals: OnceLock::new(),
            fingerprints: Mutex::default(),
            lines: Mutex::default(),
            pasts: Pasts::default(),
        })
    }

    /// The sources that have a snapshot, in byte order.
    pub(super) fn sources(&self) -> impl Iterator<Item = &str> {
        self.known.sources()
    }

    /// The newest snapshot of a source.
    pub(super) fn newest_of(&self, source: &str) -> Option<&Head> {
        self.known.of(source).last()
    }

    /// The newest canonical instant, which is what `latest` means.
    pub(super) fn latest(&self) -> Option<UnixTime> {
        let followed = self.ends.values().map(Head::at).max();
        self.known.instants().last().copied().max(followed)
    }

    /// Whether a source is followed, so that there are states between snapshots.
    pub(super) fn has_streams(&self) -> bool {
        !self.ends.is_empty()
    }

    /// What shows all sources at an instant that this state reaches: snapshots, and states
    /// of streams. Costs some look-ups for each stream, once.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`], or the library's.
    pub(super) fn shown(&self, library: &dyn Library, at: UnixTime, reach: Reach) -> Result<Shown> {
        let lock = || self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&at).cloned() {
            return Ok(known);
        }
        let mut shown: BTreeMap<&str, Head> =
            self.view(at).map(|head| (head.source.as_str(), head.clone())).collect();
        for (source, end) in &self.ends {
            let state = if at >= end.at() {
                Some(end.clone())
            } else if reach == Reach::Memory {
                return Err(Error::WouldBlock);
            } else {
                library.state_at(source, at)?.map(Head::from)
            };
            if let Some(head) = later(shown.get(source.as_str()), state) {
                shown.insert(source, head);
            }
        }
        let shown: Shown = shown.into_values().collect();
        lock().insert(at, Arc::clone(&shown));
        Ok(shown)
    }

    /// Whether it is known what an instant shows.
    pub(super) fn reaches(&self, at: UnixTime) -> bool {
        self.is_whole || self.latest().is_none_or(|latest| at >= latest)
    }

    /// The snapshots that show all sources at an instant that this state reaches.
    pub(super) fn view(&self, at: UnixTime) -> impl Iterator<Item = &Head> {
        debug_assert!(self.reaches(at), "{at} needs the whole");
        self.known.view(at)
    }

    /// The one that shows a source.
    pub(super) fn head(&self, source: &str, at: UnixTime) -> Option<&Head> {
        debug_assert!(self.reaches(at), "{at} needs the whole");
        self.known.newest(source, at)
    }

    /// The instant that a text means.
    pub(super) fn instant(&self, text: &str, zone: &Zone, now: UnixTime) -> Option<UnixTime> {
        Some(TimeSpec::parse(text, zone, now).ok()?.instant)
    }

    /// What tells whether an instant shows the same snapshots as at another time of asking.
    /// Costs a search in each timeline, once.
    pub(super) fn fingerprint(&self, at: UnixTime, shown: Option<&Shown>) -> Fingerprint {
        let known = |all: &HashMap<_, _>| all.get(&at).copied();
        if let Some(known) = known(&self.lock_fingerprints()) {
            return known;
        }
        let ids: Vec<u8> = match shown {
            Some(shown) => shown.iter().flat_map(|head| head.id.0).collect(),
            None => self.view(at).flat_map(|head| head.id.0).collect(),
        };
        let mut short = Fingerprint::default();
        let length = short.len();
        short.copy_from_slice(&sha256(&ids)[..length]);
        self.lock_fingerprints().insert(at, short);
        short
    }

    fn lock_fingerprints(&self) -> std::sync::MutexGuard<'_, HashMap<UnixTime, Fingerprint>> {
        self.fingerprints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sources of which the two states do not know the same. Of who knows only the newest,
    /// nobody has learnt more, so that nothing else counts.
    fn others<'s>(&'s self, after: &'s State) -> BTreeSet<&'s str> {
        let line = |state: &'s State, source: &str| match self.is_whole {
            true => state.known.of(source),
            false => state.known.of(source).last().map_or(&[][..], std::slice::from_ref),
        };
        let all = self.sources().chain(after.sources());
        all.filter(|source| line(self, source) != line(after, source)).collect()
    }

    /// Whether a later state knows anything else of what was known in this one.
    pub(super) fn is_other(&self, after: &State) -> bool {
        !self.others(after).is_empty()
    }

    /// Whether an instant shows something else after than before, given [`State::others`].
    fn shows_other(&self, after: &State, others: &BTreeSet<&str>, at: UnixTime) -> bool {
        let id = |state: &State, source| state.head(source, at).map(|head| head.id);
        others.iter().any(|source| id(self, source) != id(after, source))
    }

    /// Has the views of instants that show something else after keep what they showed before.
    pub(super) fn keep(&self, after: &Whole, seen: &[Arc<Viewed>]) {
        let others = self.others(after);
        for view in seen {
            if let View::Instant(at, None) = view.view
                && self.shows_other(after, &others, at)
            {
                view.keep(self);
            }
        }
    }

    /// How long what is shown at an instant stays so.
    pub(super) fn life(&self, at: UnixTime, now: UnixTime) -> Life {
        let newest = self.latest().is_none_or(|newest| at >= newest);
        if newest || now.since(at) < SETTLED_AFTER { Life::Brief } else { Life::Settled }
    }
}

/// A state that knows every snapshot.
#[derive(Debug, Clone)]
pub(super) struct Whole(Arc<State>);

impl Deref for Whole {
    type Target = Arc<State>;

    fn deref(&self) -> &Arc<State> {
        &self.0
    }
}

impl Whole {
    pub(super) fn load(library: &dyn Library) -> Result<Whole> {
        Ok(Whole(Arc::new(State::of(library, library.moments()?, true)?)))
    }

    /// The state, if it is one.
    pub(super) fn of(state: &Arc<State>) -> Option<Whole> {
        state.is_whole.then(|| Whole(Arc::clone(state)))
    }

    /// Every snapshot.
    pub(super) fn timelines(&self) -> &Timelines {
        &self.known
    }

    /// The snapshots of a source with their names, oldest first.
    ///
    /// A name is the exact instant. Of several taken at one instant the last has it
    /// alone, being what a time finds; the others have `~` and their id behind it.
    pub(super) fn named(&self, source: &str) -> impl Iterator<Item = (String, &Head)> {
        let line = self.known.of(source);
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
        let head = self.head(source, at)?;
        let line = self.known.of(source);
        let first = line.partition_point(|h| h.at() < head.at());
        let same = line.iter().skip(first).take_while(|h| h.at() == head.at());
        same.into_iter().find(|head| self.name_of(head).is_some_and(|own| own == name))
    }

    /// The name of a snapshot among those of its source; none if it is not one of them.
    pub(super) fn name_of(&self, head: &Head) -> Option<String> {
        let line = self.known.of(&head.source);
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
    /// These, and then those.
    pub(super) fn and(mut self, later: Changes) -> Changes {
        self.inodes.extend(later.inodes);
        self.entries.extend(later.entries);
        self
    }

    /// What of the views that were seen differs between two states.
    pub(super) fn between(before: &Arc<State>, after: &Whole, seen: &[Arc<Viewed>]) -> Changes {
        let mut changes =
            Changes { inodes: vec![AT, SNAPSHOTS, CHANGES, HISTORY, ROOT], entries: Vec::new() };
        changes.entries.push((ROOT, "latest".to_owned()));
        let sources = before.others(after);
        // Names among all snapshots of a source were told by who knew them all.
        let names = Whole::of(before);
        for view in seen {
            let ino = number(view.number, 0);
            match &view.view {
                View::Source(source) | View::Changes(source) | View::History(source)
                    if sources.contains(source.as_str()) =>
                {
                    changes.inodes.push(ino);
                    if after.newest_of(source).is_none() {
                        let dir = match &view.view {
                            View::Source(_) => SNAPSHOTS,
                            View::Changes(_) => CHANGES,
                            _ => HISTORY,
                        };
                        changes.entries.push((dir, source.clone()));
                    }
                }
                // What is in it stays; the name gets another directory, or none.
                // It keeps what it shows, and whoever asks by its name asks again soon.
                View::Instant(_, Some(_)) => {}
                View::Instant(at, None) => {
                    let is_there = after.timelines().canonical(*at) == Some(*at);
                    if !is_there || before.shows_other(after, &sources, *at) {
                        changes.entries.push((AT, instant_name(*at)));
                    }
                }
                // In an instant it stays. Among the snapshots of its source it may be gone, or
                // have given its name to one of the same instant that was received later.
                View::Snapshot { tree, within, unlike: None } => {
                    let head = Head::from(tree.info().as_ref());
                    let own = names.as_ref().and_then(|names| names.name_of(&head));
                    let own = own.filter(|_| view.is_of_source());
                    let other = |name: &String| after.name_of(&head).as_ref() != Some(name);
                    if let Some(name) = own.filter(other) {
                        changes.entries.push((number(*within, 0), name));
                    }
                }
                // As much for two of them.
                View::Pair { before: old, after: new, within } => {
                    let heads = [old, new].map(|tree| Head::from(tree.info().as_ref()));
                    let name = |state: &Whole| pair_name(state, &heads[0], &heads[1]);
                    let own = names.as_ref().and_then(name);
                    if let Some(own) = own.filter(|own| name(after).as_ref() != Some(own)) {
                        changes.entries.push((number(*within, 0), own));
                    }
                }
                // What is in a pair stays.
                View::Source(_)
                | View::Changes(_)
                | View::History(_)
                | View::Past(_)
                | View::Snapshot { unlike: Some(_), .. } => {}
            }
        }
        changes
    }
}
