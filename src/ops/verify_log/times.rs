//! A writer's times beside the store's.
//!
//! Nothing relies on what a writer claims, and a clock may be wrong, so there is room:
//! ahead of the receipt the repository's skew, or five minutes; behind it a day more than
//! the skew, since a machine may be suspended between making a record and sending it.

use std::time::Duration;

use super::FindingKind;
use crate::base::UnixTime;
use crate::base::units::show_duration;
use crate::format::names::Hour;

/// How far a writer's clock may be ahead, if the skew is less. Seconds.
const AHEAD_MIN: i64 = 300;
/// How long a record may be on its way. Seconds.
const ON_ITS_WAY: i64 = 86_400;
const HOUR: i64 = 3600;

/// How far a writer's times may be from the receipt. Seconds.
#[derive(Clone, Copy)]
pub(super) struct Room {
    ahead: i64,
    behind: i64,
}

/// What a writer says of when it published a record.
#[derive(Clone, Copy)]
pub(super) struct Claims {
    /// The hour in the record's name.
    pub(super) hour: Hour,
    /// The time in it.
    pub(super) at: UnixTime,
    /// The earliest and the latest of its snapshots.
    pub(super) taken: Option<(UnixTime, UnixTime)>,
    /// The latest of the states that its segments lead to.
    pub(super) seen: Option<UnixTime>,
}

impl Room {
    /// The room in a repository of that skew. Seconds.
    pub(super) fn of(skew: i64) -> Room {
        Room { ahead: skew.max(AHEAD_MIN), behind: skew.saturating_add(ON_ITS_WAY) }
    }

    /// What is wrong with a record's times. What one clock got wrong is said once.
    pub(super) fn faults(self, receipt: UnixTime, claims: Claims) -> Vec<(FindingKind, String)> {
        let mut faults = Vec::new();
        let clock = self.off(claims.at, 0, receipt);
        if let Some((kind, by)) = &clock {
            faults.push((*kind, format!("its writer's clock showed a time {by} the receipt")));
        }
        let same = |kind: FindingKind| clock.as_ref().is_some_and(|(of, _)| *of == kind);
        if let Some((first, last)) = claims.taken {
            let ahead = self.off(last, 0, receipt).filter(|(kind, _)| is_ahead(*kind));
            let behind = self.off(first, 0, receipt).filter(|(kind, _)| !is_ahead(*kind));
            for (kind, by) in [ahead, behind].into_iter().flatten() {
                if !same(kind) {
                    let what = format!("a snapshot in it was taken, it says, {by} the receipt");
                    faults.push((kind, what));
                }
            }
        }
        let seen = claims.seen.and_then(|at| self.off(at, 0, receipt));
        if let Some((kind, by)) = seen.filter(|(kind, _)| is_ahead(*kind) && !same(*kind)) {
            faults.push((kind, format!("a state in it was seen, it says, {by} the receipt")));
        }
        match claims.hour.begins() {
            None => faults.push((FindingKind::Misnamed, "its name has no hour".into())),
            Some(begins) => {
                if let Some((kind, by)) = self.off(begins, HOUR, receipt)
                    && !same(kind)
                {
                    let what = format!("the hour in its name begins {by} the receipt");
                    faults.push((FindingKind::Misnamed, what));
                }
            }
        }
        faults
    }

    /// In which direction a time is off that stands for as long as `lasts`, and how far.
    fn off(self, at: UnixTime, lasts: i64, receipt: UnixTime) -> Option<(FindingKind, String)> {
        let by = at.seconds.saturating_sub(receipt.seconds);
        let shown = show_duration(Duration::from_secs(by.unsigned_abs()));
        if by > self.ahead {
            Some((FindingKind::ClockAhead, format!("{shown} later than")))
        } else if by < -self.behind.saturating_add(lasts) {
            Some((FindingKind::ClockBehind, format!("{shown} before")))
        } else {
            None
        }
    }
}

fn is_ahead(kind: FindingKind) -> bool {
    kind == FindingKind::ClockAhead
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_900_000_800;

    fn kinds(hour: i64, at: i64, taken: &[i64]) -> Vec<FindingKind> {
        let time = |by: i64| UnixTime::new(NOON + by, 0);
        let taken = taken.iter().min().zip(taken.iter().max());
        let claims = Claims {
            hour: Hour::of(time(hour)),
            at: time(at),
            taken: taken.map(|(first, last)| (time(*first), time(*last))),
            seen: None,
        };
        let faults = Room::of(HOUR).faults(time(0), claims);
        faults.into_iter().map(|(kind, _)| kind).collect()
    }

    #[test]
    fn what_is_within_the_room_is_no_fault() {
        assert_eq!(kinds(0, 0, &[]), []);
        assert_eq!(kinds(-HOUR, HOUR, &[-86_400, HOUR]), []);
        assert_eq!(kinds(-86_400 - HOUR, -86_400 - HOUR, &[]), []);
        let room = Room::of(1);
        let claims =
            |at| Claims { hour: Hour::of(UnixTime::new(NOON, 0)), at, taken: None, seen: None };
        assert!(
            room.faults(UnixTime::new(NOON, 0), claims(UnixTime::new(NOON + 300, 0))).is_empty()
        );
        assert!(
            !room.faults(UnixTime::new(NOON, 0), claims(UnixTime::new(NOON + 301, 0))).is_empty()
        );
    }

    #[test]
    fn each_direction_is_told_once_for_a_clock_and_for_what_else_is_off() {
        use FindingKind::{ClockAhead, ClockBehind, Misnamed};
        const YEAR: i64 = 365 * 86_400;
        assert_eq!(kinds(-YEAR, -YEAR, &[-YEAR]), [ClockBehind]);
        assert_eq!(kinds(YEAR, YEAR, &[YEAR]), [ClockAhead]);
        assert_eq!(kinds(0, 0, &[-YEAR, 0]), [ClockBehind]);
        assert_eq!(kinds(0, -YEAR, &[YEAR]), [ClockBehind, ClockAhead]);
        assert_eq!(kinds(-YEAR, 0, &[]), [Misnamed]);
        assert_eq!(kinds(YEAR, -YEAR, &[]), [ClockBehind, Misnamed]);
    }
}
