//! Which snapshots of a source a policy keeps, and why.
//!
//! **What decides.** Places are given by *receipt*, the store's own time, never by the
//! times that a writer claims, and to each writer's snapshots by themselves. So
//!
//! - whoever steals a writer's key takes no place of the owner's or of other writers'
//!   snapshots, also not in the same source;
//! - no snapshot can be put into a period that is over: a forged time moves nothing;
//! - however many come in a period, they use up one place of it. `last` counts
//!   snapshots, and therefore keeps the last of each of as many hours besides.
//!
//! **What is not protected**: the places of the stolen key's own machine from the theft
//! on. Of a period the last snapshot is kept, so a thief can put his behind the
//! machine's in every period that is not over, and who does so for as long as the policy
//! reaches back has all places. `within` cannot be used up and bounds the damage: it
//! keeps all that was received in that time. A revoked writer's snapshots take no place.
//!
//! **What expires** is judged apart from what stays, so that it takes no place that would
//! be empty once it is gone.
//!
//! **Received late.** A snapshot that was received more than [`LATE`] after it says it was
//! taken is of a store that was copied, a wrong clock or a liar. In a copied store all
//! receipts are of one hour, and a policy that went by them would forget nearly
//! everything; so these take no place, and whoever asks keeps them. Who knows that the
//! store is a copy goes by the claimed times instead, see [`Candidate::at`]; nothing of the above holds then.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::base::units::show_span;
use crate::base::{SnapshotId, UnixTime, WriterId};
use crate::view::Zone;
use crate::view::selector::IdPrefix;

/// How long after `taken` a receipt is believable: the rest of a backup is sent meanwhile.
pub const LATE: Duration = Duration::from_secs(24 * 3600);

/// What is kept. A snapshot that no part of it names is forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest, so many; and of as many hours that have one, the last.
    pub last: Option<NonZeroU32>,
    /// The last of each hour, of so many that have one; and so on.
    pub hourly: Option<NonZeroU32>,
    /// Of days.
    pub daily: Option<NonZeroU32>,
    /// Of weeks, which begin on Monday.
    pub weekly: Option<NonZeroU32>,
    /// Of months.
    pub monthly: Option<NonZeroU32>,
    /// Of years.
    pub yearly: Option<NonZeroU32>,
    /// All that were received not longer than this before the newest.
    pub within: Option<Duration>,
    /// All with one of these tags, also expired ones.
    pub tags: Vec<String>,
    /// Those whose ids begin so, also expired ones.
    pub ids: Vec<IdPrefix>,
}

/// What a policy must know of a snapshot.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// Its id.
    pub id: SnapshotId,
    /// Who signed it.
    pub writer: WriterId,
    /// When it was received; or, if receipts mean nothing, from when on it is shown.
    pub at: UnixTime,
    /// From when on it is shown: the order of what was received in the same second.
    pub shown_from: UnixTime,
    /// Words on it.
    pub tags: &'a [String],
    /// Whether it expires some day.
    pub expires: bool,
    /// Whether it has expired.
    pub expired: bool,
    /// Whether it was received so long after it was taken that receipts mean nothing.
    pub late: bool,
}

/// A stretch of time of which the last snapshot is kept.
#[derive(Debug, Clone, Copy)]
enum Period {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Period {
    /// The period that an instant is in, in some form that is equal for equal ones. An
    /// hour that clocks show twice counts as two.
    fn of(self, zone: &Zone, at: UnixTime) -> [i32; 4] {
        let shown = zone.civil(at);
        let (year, month, day) = (shown.year().into(), shown.month().into(), shown.day().into());
        match self {
            Period::Hour => [year, month * 100 + day, shown.hour().into(), zone.offset(at)],
            Period::Day => [year, month, day, 0],
            Period::Week => {
                let week = shown.date().iso_week_date();
                [week.year().into(), week.week().into(), 0, 0]
            }
            Period::Month => [year, month, 0, 0],
            Period::Year => [year, 0, 0, 0],
        }
    }
}

impl Policy {
    /// Whether it keeps nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Policy::default()
    }

    /// The rules that keep the last of each of a number of periods.
    fn periods(&self) -> impl Iterator<Item = (&'static str, Period, u32)> {
        [
            ("hourly", Period::Hour, self.hourly),
            ("daily", Period::Day, self.daily),
            ("weekly", Period::Week, self.weekly),
            ("monthly", Period::Month, self.monthly),
            ("yearly", Period::Year, self.yearly),
        ]
        .into_iter()
        .filter_map(|(word, period, count)| Some((word, period, count?.get())))
    }

    /// Why each of a source's snapshots is kept; no reasons for those that are not. The
    /// order of the candidates does not matter.
    #[must_use]
    pub fn judge(&self, candidates: &[Candidate<'_>], zone: &Zone) -> Vec<Vec<String>> {
        let mut reasons: Vec<Vec<String>> =
            candidates.iter().map(|candidate| self.by_name(candidate)).collect();
        for line in lines(candidates) {
            self.give_places(&line, candidates, zone, &mut reasons);
        }
        reasons
    }

    /// Why a snapshot is kept whatever else there is.
    fn by_name(&self, candidate: &Candidate<'_>) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.ids.iter().any(|prefix| prefix.matches(&candidate.id)) {
            reasons.push("id".to_owned());
        }
        let tag = self.tags.iter().find(|tag| candidate.tags.contains(tag));
        reasons.extend(tag.map(|tag| format!("tag {tag}")));
        reasons
    }

    /// Gives the places that rules have to one writer's snapshots, newest first.
    fn give_places(
        &self,
        line: &[usize],
        candidates: &[Candidate<'_>],
        zone: &Zone,
        reasons: &mut [Vec<String>],
    ) {
        // The last of each of so many periods: its number from the newest, its rank in line.
        let lasts = |period: Period, count: u32| {
            let mut met = BTreeSet::new();
            let mut last = |place: &usize| met.insert(period.of(zone, candidates[*place].at));
            let ranks: Vec<usize> = (0..line.len()).filter(|rank| last(&line[*rank])).collect();
            (1..=count).zip(ranks)
        };
        let newest = line.first().map(|place| candidates[*place].at);
        if let (Some(within), Some(newest)) = (self.within, newest) {
            let from = newest.minus(within);
            for place in line.iter().filter(|place| candidates[**place].at >= from) {
                reasons[*place].push(format!("within {}", show_span(within)));
            }
        }
        if let Some(count) = self.last.map(NonZeroU32::get) {
            for (n, place) in line.iter().take(count as usize).enumerate() {
                reasons[*place].push(format!("last {} of {count}", n + 1));
            }
            // The newest have their places already.
            let others = |(_, rank): &(u32, usize)| *rank >= count as usize;
            for (n, rank) in lasts(Period::Hour, count).filter(others) {
                reasons[line[rank]].push(format!("last of hour {n} of {count}"));
            }
        }
        for (word, period, count) in self.periods() {
            for (n, rank) in lasts(period, count) {
                reasons[line[rank]].push(format!("{word} {n} of {count}"));
            }
        }
    }
}

/// The snapshots that take places, newest first: of each writer by itself, those that
/// expire and those that stay.
#[must_use]
pub fn lines(candidates: &[Candidate<'_>]) -> Vec<Vec<usize>> {
    let mut lines: BTreeMap<(WriterId, bool), Vec<usize>> = BTreeMap::new();
    for (place, candidate) in candidates.iter().enumerate() {
        if !candidate.expired && !candidate.late {
            lines.entry((candidate.writer, candidate.expires)).or_default().push(place);
        }
    }
    let mut lines: Vec<Vec<usize>> = lines.into_values().collect();
    for line in &mut lines {
        line.sort_by_key(|place| {
            let candidate = &candidates[*place];
            Reverse((candidate.at, candidate.shown_from, candidate.id))
        });
    }
    lines
}

#[cfg(test)]
mod tests;
