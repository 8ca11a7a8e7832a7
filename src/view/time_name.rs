//! How instants are written as names.
//!
//! An instant's name is the mount's own form, in UTC and without colons, because
//! rsync, tar, docker and shells trip over colons: `2026-11-20T10-15-03.123Z`.
//!
//! A name is read back by [`TimeSpec`](super::TimeSpec), for which a coarser time
//! means the last instant of its unit. So there are two ways to write one:
//!
//! - [`instant_name`] is exact: it reads back as the very same nanosecond. Most
//!   instants need nine digits for that; the last of a day or a second needs none.
//! - [`unique_names`] is short: enough digits that the unit named holds no other of
//!   the listed instants. The newest listed instant at or before such a name is then
//!   the one that it was made for, which is how a view is found.

use jiff::ToSpan;
use jiff::civil::{Date, date};

use crate::base::UnixTime;

/// How many nanoseconds a unit has that is written with so many digits.
const UNITS: [(usize, u32); 4] = [(0, 1_000_000_000), (3, 1_000_000), (6, 1_000), (9, 1)];

/// The name that reads back as exactly this instant, in as few digits as that allows.
///
/// Digits come in threes. An instant outside the years 0001 to 9999 has no date, and
/// is written as seconds since 1970 with all their digits.
#[must_use]
pub fn instant_name(at: UnixTime) -> String {
    let (digits, _) =
        UNITS.into_iter().find(|(_, unit)| at.nanos % unit == unit - 1).unwrap_or((9, 1));
    name_with(at, digits)
}

/// A name for each of the instants, in their order.
///
/// Each has the fewest digits (0, 3, 6 or 9) with which it is unique among them and
/// resolves to itself. Equal instants get equal names, since no time tells them apart.
#[must_use]
pub fn unique_names(instants: &[UnixTime]) -> Vec<String> {
    let mut sorted = instants.to_vec();
    sorted.sort_unstable();
    instants.iter().map(|at| name_among(*at, &sorted)).collect()
}

/// The shortest name of an instant that no other of the `sorted` ones shares a unit with.
///
/// Costs a binary search. `at` itself may be among them or not.
#[must_use]
pub fn name_among(at: UnixTime, sorted: &[UnixTime]) -> String {
    let before = sorted[..sorted.partition_point(|t| *t < at)].last();
    let after = sorted.get(sorted.partition_point(|t| *t <= at));
    let alone = |unit: u32| {
        let same = |other: Option<&UnixTime>| {
            other.is_some_and(|o| o.seconds == at.seconds && o.nanos / unit == at.nanos / unit)
        };
        !same(before) && !same(after)
    };
    let (digits, _) = UNITS.into_iter().find(|(_, unit)| alone(*unit)).unwrap_or((9, 1));
    name_with(at, digits)
}

/// Writes an instant with so many digits of its second, cutting off the rest.
fn name_with(at: UnixTime, digits: usize) -> String {
    let Some(day) = day_of(at) else {
        return at.to_seconds();
    };
    let second = at.seconds.rem_euclid(86_400);
    let mut fraction = String::new();
    if digits > 0 {
        fraction = format!(".{:09}", at.nanos);
        fraction.truncate(1 + digits);
    }
    format!(
        "{:04}-{:02}-{:02}T{:02}-{:02}-{:02}{fraction}Z",
        day.year(),
        day.month(),
        day.day(),
        second / 3600,
        second / 60 % 60,
        second % 60,
    )
}

/// The day in UTC, if its year is 0001 to 9999.
fn day_of(at: UnixTime) -> Option<Date> {
    let days = at.seconds.div_euclid(86_400);
    if !(-1_000_000..3_000_000).contains(&days) {
        return None;
    }
    let day = date(1970, 1, 1).checked_add(days.days()).ok()?;
    (day.year() >= 1).then_some(day)
}

/// Whether the instant has a date from 0001-01-01 to 9999-12-31 in UTC.
pub(super) fn has_date(at: UnixTime) -> bool {
    day_of(at).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_names_have_the_digits_they_need_and_no_more() {
        for (seconds, nanos, name) in [
            (0, 0, "1970-01-01T00-00-00.000000000Z"),
            (0, 999_999_999, "1970-01-01T00-00-00Z"),
            (0, 123_999_999, "1970-01-01T00-00-00.123Z"),
            (0, 123_456_999, "1970-01-01T00-00-00.123456Z"),
            (0, 123_456_789, "1970-01-01T00-00-00.123456789Z"),
            (-1, 999_999_999, "1969-12-31T23-59-59Z"),
            (-62_135_596_800, 0, "0001-01-01T00-00-00.000000000Z"),
            (-62_135_596_801, 999_999_999, "@-62135596800.000000001"),
            (253_402_300_799, 999_999_999, "9999-12-31T23-59-59Z"),
            (253_402_300_800, 0, "@253402300800.000000000"),
            (i64::MIN, 0, "@-9223372036854775808.000000000"),
            (i64::MAX, 999_999_999, "@9223372036854775807.999999999"),
        ] {
            assert_eq!(instant_name(UnixTime::new(seconds, nanos)), name);
        }
    }

    #[test]
    fn names_of_a_list_are_as_short_as_their_neighbours_allow() {
        let at = |s, n| UnixTime::new(s, n);
        let names = unique_names(&[
            at(10, 5),
            at(11, 100_000_000),
            at(11, 900_000_000),
            at(12, 1_000),
            at(12, 2_000),
            at(13, 1),
            at(13, 2),
        ]);
        assert_eq!(
            names,
            [
                "1970-01-01T00-00-10Z",
                "1970-01-01T00-00-11.100Z",
                "1970-01-01T00-00-11.900Z",
                "1970-01-01T00-00-12.000001Z",
                "1970-01-01T00-00-12.000002Z",
                "1970-01-01T00-00-13.000000001Z",
                "1970-01-01T00-00-13.000000002Z",
            ]
        );
    }

    #[test]
    fn equal_instants_do_not_lengthen_each_other() {
        let at = UnixTime::new(10, 5);
        assert_eq!(unique_names(&[at, at]), ["1970-01-01T00-00-10Z"; 2]);
    }
}
