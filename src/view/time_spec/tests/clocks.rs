//! Clocks that are put forward and back, days that are left out, and a minute of 61 seconds.

use super::*;

/// What is counted back in days may come to a time that clocks skipped, or showed twice.
#[test]
fn days_ago_across_a_change_of_clocks() {
    let at =
        |now: &str, text: &str, zone: &Zone| TimeSpec::parse(text, zone, utc(now)).unwrap().instant;
    for (now, text, instant) in [
        // 02:30 was skipped on March 29: an hour after 01:30 it was 03:30.
        ("2026-03-30T00:30:00Z", "1d-ago", "2026-03-29T01:30:00Z"),
        ("2026-03-30T00:30:00Z", "24h-ago", "2026-03-29T00:30:00Z"),
        ("2026-04-29T00:30:00Z", "1mo-ago", "2026-03-29T01:30:00Z"),
        // 02:30 came twice on October 25: the first is meant.
        ("2026-10-26T01:30:00Z", "1d-ago", "2026-10-25T00:30:00Z"),
        ("2026-10-26T01:30:00Z", "24h-ago", "2026-10-25T01:30:00Z"),
        // Across the change: the same time of day, twenty-three or twenty-five hours before.
        ("2026-03-29T10:00:00Z", "1d-ago", "2026-03-28T11:00:00Z"),
        ("2026-10-25T11:00:00Z", "1d-ago", "2026-10-24T10:00:00Z"),
        // Days first, then the exact part, as written.
        ("2026-03-29T10:00:00Z", "1d12h-ago", "2026-03-27T23:00:00Z"),
        // Days that have twenty-three and twenty-five hours end when they end.
        ("2026-03-29T10:00:00Z", "today", "2026-03-29T21:59:59.999999999Z"),
        ("2026-03-30T10:00:00Z", "yesterday", "2026-03-29T21:59:59.999999999Z"),
        ("2026-10-25T00:30:00Z", "today", "2026-10-25T22:59:59.999999999Z"),
        ("2026-10-25T01:30:00Z", "yesterday", "2026-10-24T21:59:59.999999999Z"),
        ("2026-10-25T23:30:00Z", "yesterday", "2026-10-25T22:59:59.999999999Z"),
    ] {
        assert_eq!(at(now, text, &berlin()), utc(instant), "{text} at {now}");
    }
    // A day that begins at one o'clock, and one whose first hour comes twice.
    assert_eq!(
        at("2026-03-08T05:10:00Z", "yesterday", &havana()),
        utc("2026-03-08T04:59:59.999999999Z")
    );
    assert_eq!(
        at("2026-11-01T05:10:00Z", "yesterday", &havana()),
        utc("2026-11-01T03:59:59.999999999Z")
    );
    assert_eq!(
        at("2026-11-01T04:10:00Z", "today", &havana()),
        utc("2026-11-02T04:59:59.999999999Z")
    );
    // A month ago from a day that it does not have is its last day.
    assert_eq!(at("2028-03-31T12:00:00Z", "1mo-ago", &Zone::utc()), utc("2028-02-29T12:00:00Z"));
    assert_eq!(at("2028-02-29T12:00:00Z", "1y-ago", &Zone::utc()), utc("2027-02-28T12:00:00Z"));
}

#[test]
fn a_skipped_time_is_an_error_and_its_remedies_work() {
    // Clocks went from 02:00 to 03:00.
    check(
        &berlin(),
        &[
            ("2026-03-29T01:59", "2026-03-29T00:59:59.999999999Z"),
            ("2026-03-29T01", "2026-03-29T00:59:59.999999999Z"),
            ("2026-03-29T03:00", "2026-03-29T01:00:59.999999999Z"),
            ("2026-03-29", "2026-03-29T21:59:59.999999999Z"),
            ("2026-03-29T02:30Z", "2026-03-29T02:30:59.999999999Z"),
            ("2026-03-29T02:30+01:00", "2026-03-29T01:30:59.999999999Z"),
        ],
    );
    for text in
        ["2026-03-29T02", "2026-03-29T02:00", "2026-03-29 02:30", "2026-03-29T02-59-59.999999999"]
    {
        let error = parse(text, &berlin()).unwrap_err();
        let TimeError::Skipped { before, after, .. } = &error else {
            panic!("{text}: {error}");
        };
        assert_eq!(before, "2026-03-29T00-59-59Z");
        assert_eq!(after, "2026-03-29T01-00-00Z");
        assert!(parse(before, &berlin()).unwrap().instant < utc("2026-03-29T01:00:00Z"));
        assert!(parse(after, &berlin()).unwrap().instant >= utc("2026-03-29T01:00:00Z"));
    }
}

#[test]
fn a_time_that_happened_twice_is_an_error_and_its_remedies_work() {
    // Clocks went from 03:00 to 02:00.
    check(
        &berlin(),
        &[
            ("2026-10-25T01:59", "2026-10-24T23:59:59.999999999Z"),
            ("2026-10-25T03:00", "2026-10-25T02:00:59.999999999Z"),
            ("2026-10-25", "2026-10-25T22:59:59.999999999Z"),
            ("2026-10-25T02:30+02:00", "2026-10-25T00:30:59.999999999Z"),
            ("2026-10-25T02:30+01:00", "2026-10-25T01:30:59.999999999Z"),
        ],
    );
    for text in ["2026-10-25T02", "2026-10-25T02:59", "2026-10-25 02-59-59"] {
        let error = parse(text, &berlin()).unwrap_err();
        let TimeError::Twice { earlier, later, .. } = &error else {
            panic!("{text}: {error}");
        };
        let (earlier, later) = (parse(earlier, &berlin()), parse(later, &berlin()));
        assert_eq!(earlier.unwrap().instant, utc("2026-10-25T00:59:59.999999999Z"));
        assert_eq!(later.unwrap().instant, utc("2026-10-25T01:59:59.999999999Z"));
    }
}

#[test]
fn days_end_when_they_end_whatever_clocks_do_at_midnight() {
    check(
        &havana(),
        &[
            // 2026-03-08 begins at 01:00; the 7th ends at the jump.
            ("2026-03-07", "2026-03-08T04:59:59.999999999Z"),
            ("2026-03-08", "2026-03-09T03:59:59.999999999Z"),
            ("2026-03-08T01:00", "2026-03-08T05:00:59.999999999Z"),
            // 00:00 to 01:00 of 2026-11-01 happens twice; October ends before both.
            ("2026-10-31", "2026-11-01T03:59:59.999999999Z"),
            ("2026-10", "2026-11-01T03:59:59.999999999Z"),
            ("2026-11-01", "2026-11-02T04:59:59.999999999Z"),
        ],
    );
    check(
        &over_midnight(),
        &[
            // 23:30 of April 5 becomes 00:30 of April 6: the day and its last hour end at the jump.
            ("2026-04-05", "2026-04-06T02:59:59.999999999Z"),
            ("2026-04-05T23", "2026-04-06T02:59:59.999999999Z"),
            ("2026-04-05T23:29", "2026-04-06T02:59:59.999999999Z"),
            ("2026-04-06T00", "2026-04-06T03:29:59.999999999Z"),
            ("2026-04-06", "2026-04-07T02:29:59.999999999Z"),
            // 00:01 of October 25 becomes 23:01 of October 24: the 24th ends the second time.
            ("2026-10-24", "2026-10-25T03:29:59.999999999Z"),
            ("2026-10-25", "2026-10-26T03:29:59.999999999Z"),
        ],
    );
    for text in ["2026-04-05T23:30", "2026-04-06T00:29"] {
        let error = parse(text, &over_midnight()).unwrap_err();
        assert!(matches!(error, TimeError::Skipped { .. }), "{text}: {error}");
    }
    check(
        &lord_howe(),
        &[
            // 02:00 becomes 02:30: the hour exists in part, and ends as others do.
            ("2026-10-04T02", "2026-10-03T15:59:59.999999999Z"),
            ("2026-10-04T02:30", "2026-10-03T15:30:59.999999999Z"),
        ],
    );
    assert!(parse("2026-10-04T02:15", &lord_howe()).is_err());
    assert!(parse("2026-04-05T01:45", &lord_howe()).is_err());
}

#[test]
fn a_day_that_a_zone_skipped_is_an_error() {
    // Needs the machine's database: no rule skips a day.
    let Ok(apia) = Zone::parse("Pacific/Apia") else {
        return;
    };
    assert!(matches!(parse("2011-12-30", &apia), Err(TimeError::Skipped { .. })));
    check(
        &apia,
        &[
            ("2011-12-29", "2011-12-30T09:59:59.999999999Z"),
            ("2011-12", "2011-12-31T09:59:59.999999999Z"),
        ],
    );
}

#[test]
fn second_60_where_it_can_be() {
    check(
        &berlin(),
        &[
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999999Z"),
            ("2016-12-31T23:59:60.5Z", "2016-12-31T23:59:59.999999999Z"),
            ("2017-01-01T00:59:60", "2016-12-31T23:59:59.999999999Z"),
            ("2017-01-01T05-29-60+05-30", "2016-12-31T23:59:59.999999999Z"),
        ],
    );
    for text in ["2016-12-31T23:59:60", "2016-12-31T23:58:60Z", "2016-12-31T22:59:60Z"] {
        let error = parse(text, &berlin()).unwrap_err();
        assert!(matches!(error, TimeError::Impossible { .. }), "{text}: {error}");
    }
}
