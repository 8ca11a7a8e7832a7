//! Which snapshots a time means.
//!
//! The view at T is, of each source by itself, the newest snapshot that was *taken* at
//! or before T. Nothing that happened after T is visible at T; before a source's first
//! snapshot it is absent, not empty.
//!
//! A writer's clock may be wrong; the store's is the one that is relied on. So a
//! snapshot that claims to be taken later than the store received it counts as taken
//! when received, and is marked. Snapshots taken at the same instant are ordered by
//! receipt, then id, so that the answer never depends on the order of a listing. One
//! that has no receipt yet counts as received last.
//!
//! A time is *canonical* if some snapshot was taken at it: between two of those all
//! views are the same, so each view has one instant, one directory in the mount, and
//! one set of inode numbers.
//!
//! A [`Timelines`] is built from all heads whenever they change, which costs a sort;
//! each question then costs a binary search per source. A head takes some hundred bytes,
//! so ten thousand snapshots take a megabyte.

use std::collections::BTreeMap;

use crate::base::{SnapshotId, UnixTime};
use crate::repo::library::{Moment, SnapshotInfo};
use crate::view::time_name::name_among;
use crate::view::zone::Zone;

/// What must be known of a snapshot to place it in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The source that it is a state of.
    pub source: String,
    /// Its id.
    pub id: SnapshotId,
    /// When reading ended, by the writer's clock.
    pub taken: UnixTime,
    /// When the store received it, by the store's clock; unknown until it is listed.
    pub receipt: Option<UnixTime>,
}

/// When a snapshot counts as taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effective {
    /// The instant.
    pub at: UnixTime,
    /// Whether the writer claimed a later one than the store's receipt.
    pub clamped: bool,
}

impl From<Moment> for Head {
    fn from(moment: Moment) -> Head {
        let Moment { id, source, taken, receipt } = moment;
        Head { source, id, taken, receipt: Some(receipt) }
    }
}

impl From<&SnapshotInfo> for Head {
    fn from(info: &SnapshotInfo) -> Head {
        Head::from(Moment::from(info))
    }
}

impl Head {
    /// When this snapshot counts as taken: not later than it was received.
    ///
    /// Stores tell receipts in whole seconds, so a claim within the second of the
    /// receipt is no contradiction.
    #[must_use]
    pub fn effective(&self) -> Effective {
        match self.receipt {
            Some(receipt) if receipt.seconds < self.taken.seconds => {
                Effective { at: receipt, clamped: true }
            }
            _ => Effective { at: self.taken, clamped: false },
        }
    }

    /// The instant at which this snapshot counts as taken.
    #[must_use]
    pub fn at(&self) -> UnixTime {
        self.effective().at
    }

    /// The order of snapshots of one source, oldest first.
    fn order(&self) -> (UnixTime, bool, Option<UnixTime>, SnapshotId) {
        (self.at(), self.receipt.is_none(), self.receipt, self.id)
    }
}

/// The snapshots of every source, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timelines {
    sources: BTreeMap<String, Vec<Head>>,
    /// The canonical instants, ascending, each once.
    instants: Vec<UnixTime>,
}

impl Timelines {
    /// Orders the heads. Their order does not matter.
    #[must_use]
    pub fn new(heads: impl IntoIterator<Item = Head>) -> Timelines {
        let mut sources: BTreeMap<String, Vec<Head>> = BTreeMap::new();
        let mut instants = Vec::new();
        for head in heads {
            instants.push(head.at());
            match sources.get_mut(&head.source) {
                Some(line) => line.push(head),
                None => {
                    sources.insert(head.source.clone(), vec![head]);
                }
            }
        }
        for line in sources.values_mut() {
            line.sort_by_key(Head::order);
        }
        instants.sort_unstable();
        instants.dedup();
        Timelines { sources, instants }
    }

    /// The names of all sources that have a snapshot, in byte order.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// The snapshots of a source, oldest first; none if it has none.
    #[must_use]
    pub fn of(&self, source: &str) -> &[Head] {
        self.sources.get(source).map_or(&[], Vec::as_slice)
    }

    /// The snapshot that shows a source at an instant; `None` before its first.
    #[must_use]
    pub fn newest(&self, source: &str, at: UnixTime) -> Option<&Head> {
        newest(self.of(source), at)
    }

    /// The snapshots that show all sources at an instant, in byte order of their names.
    /// A source that had none by then is left out.
    pub fn view(&self, at: UnixTime) -> impl Iterator<Item = &Head> {
        self.sources.values().filter_map(move |line| newest(line, at))
    }

    /// The canonical instant of a time: the last at or before it at which any source
    /// changed. `None` before the first snapshot.
    ///
    /// The view at both is the same.
    #[must_use]
    pub fn canonical(&self, at: UnixTime) -> Option<UnixTime> {
        let n = self.instants.partition_point(|t| *t <= at);
        self.instants[..n].last().copied()
    }

    /// Every canonical instant, ascending.
    #[must_use]
    pub fn instants(&self) -> &[UnixTime] {
        &self.instants
    }

    /// The canonical instants that a directory of all times lists, ascending: the last
    /// of each day that has one, and of today the last of each hour.
    ///
    /// Days and hours are those of `zone`; an hour that clocks show twice counts as two.
    #[must_use]
    pub fn listing(&self, zone: &Zone, now: UnixTime) -> Vec<UnixTime> {
        listing(&self.instants, zone, now)
    }

    /// The shortest name of a canonical instant that resolves to it among all of them.
    #[must_use]
    pub fn name(&self, at: UnixTime) -> String {
        name_among(at, &self.instants)
    }

    /// The names of a source's snapshots, in the order of [`Timelines::of`].
    ///
    /// Each is the shortest name of its instant among the snapshots of that source. Of
    /// several taken at one instant the last is the one that a time finds; the others
    /// have `~` and their id behind the name.
    #[must_use]
    pub fn snapshot_names(&self, source: &str) -> Vec<String> {
        let line = self.of(source);
        let instants: Vec<UnixTime> = line.iter().map(Head::at).collect();
        line.iter()
            .enumerate()
            .map(|(n, head)| {
                let name = name_among(head.at(), &instants);
                if instants.get(n + 1) == Some(&head.at()) {
                    format!("{name}~{}", head.id)
                } else {
                    name
                }
            })
            .collect()
    }
}

/// Of instants, ascending, the last of each day, and of today the last of each hour.
#[must_use]
pub fn listing(instants: &[UnixTime], zone: &Zone, now: UnixTime) -> Vec<UnixTime> {
    let today = zone.civil(now).date();
    let unit = |at: UnixTime| {
        let shown = zone.civil(at);
        let hour = (shown.date() == today).then(|| (shown.hour(), zone.offset(at)));
        (shown.date(), hour)
    };
    let mut last: Vec<UnixTime> = Vec::new();
    let mut of = None;
    for at in instants {
        let this = unit(*at);
        if of == Some(this) {
            last.pop();
        }
        of = Some(this);
        last.push(*at);
    }
    last
}

/// What shows a source: its newest snapshot, or the state of a stream that is as new.
#[must_use]
pub fn later(snapshot: Option<&Head>, state: Option<Head>) -> Option<Head> {
    match (snapshot, state) {
        (Some(snapshot), Some(state)) if snapshot.at() > state.at() => Some(snapshot.clone()),
        (snapshot, None) => snapshot.cloned(),
        (_, state) => state,
    }
}

/// The last of a source's ordered snapshots that was taken at or before an instant.
fn newest(line: &[Head], at: UnixTime) -> Option<&Head> {
    line[..line.partition_point(|h| h.at() <= at)].last()
}

#[cfg(test)]
mod tests;
