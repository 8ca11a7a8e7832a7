//! The edge cases of times, in tables, and what holds for all of them.

mod clocks;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::view::time_name::{name_among, unique_names};

/// Rules in the POSIX form, so that the tables do not depend on the machine's database.
fn zone(rules: &str) -> Zone {
    Zone::from(TimeZone::posix(rules).unwrap())
}

fn berlin() -> Zone {
    zone("CET-1CEST,M3.5.0,M10.5.0/3")
}

/// Clocks jump from midnight to one, and from one back to midnight.
fn havana() -> Zone {
    zone("CST5CDT,M3.2.0/0,M11.1.0/1")
}

/// Clocks move by half an hour.
fn lord_howe() -> Zone {
    zone("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0")
}

/// Clocks jump from 23:30 to 00:30 and back from 00:01 to 23:01, as Toronto's and
/// St. John's once did.
fn over_midnight() -> Zone {
    zone("NST3:30NDT,M4.1.0/23:30,M10.5.0/0:01")
}

/// 2026-11-21 12:34:56.5 UTC, a Saturday.
fn now() -> UnixTime {
    utc("2026-11-21T12:34:56.5Z")
}

/// An instant by the calendar library's own parser.
fn utc(text: &str) -> UnixTime {
    UnixTime::from(text.parse::<jiff::Timestamp>().unwrap())
}

fn parse(text: &str, zone: &Zone) -> Result<Resolved, TimeError> {
    TimeSpec::parse(text, zone, now())
}

#[track_caller]
fn check(zone: &Zone, table: &[(&str, &str)]) {
    for (text, instant) in table {
        match parse(text, zone) {
            Ok(read) => assert_eq!(read.instant, utc(instant), "{text} is {}", read.instant),
            Err(error) => panic!("{text}: {error}"),
        }
    }
}

#[test]
fn a_coarser_time_means_the_last_instant_of_its_unit() {
    check(
        &Zone::utc(),
        &[
            ("2026", "2026-12-31T23:59:59.999999999Z"),
            ("2026-11", "2026-11-30T23:59:59.999999999Z"),
            ("2026-02", "2026-02-28T23:59:59.999999999Z"),
            ("2028-02", "2028-02-29T23:59:59.999999999Z"),
            ("2000-02", "2000-02-29T23:59:59.999999999Z"),
            ("1900-02", "1900-02-28T23:59:59.999999999Z"),
            ("2026-11-20", "2026-11-20T23:59:59.999999999Z"),
            ("2028-02-29", "2028-02-29T23:59:59.999999999Z"),
            ("2026-11-20T10", "2026-11-20T10:59:59.999999999Z"),
            ("2026-11-20T00", "2026-11-20T00:59:59.999999999Z"),
            ("2026-11-20T10:15", "2026-11-20T10:15:59.999999999Z"),
            ("2026-11-20T10:15:03", "2026-11-20T10:15:03.999999999Z"),
            ("2026-11-20T10:15:03.0", "2026-11-20T10:15:03.099999999Z"),
            ("2026-11-20T10:15:03.12", "2026-11-20T10:15:03.129999999Z"),
            ("2026-11-20T10:15:03.123", "2026-11-20T10:15:03.123999999Z"),
            ("2026-11-20T10:15:03.12345678", "2026-11-20T10:15:03.123456789Z"),
            ("2026-11-20T10:15:03.000000000", "2026-11-20T10:15:03Z"),
            ("2026-11-20T10:15:03.123456789", "2026-11-20T10:15:03.123456789Z"),
            ("2026-11-20T10:15:03.1234567899999", "2026-11-20T10:15:03.123456789Z"),
            ("1969-12-31", "1969-12-31T23:59:59.999999999Z"),
            ("1969-12-31T23:59:59.5", "1969-12-31T23:59:59.599999999Z"),
        ],
    );
}

#[test]
fn the_same_time_in_every_spelling() {
    for text in [
        "2026-11-20T10:15:03",
        "2026-11-20t10:15:03",
        "2026-11-20 10:15:03",
        "2026-11-20T10-15-03",
        "2026-11-20 10-15-03",
        "2026-11-20T10:15:03+01:00",
        "2026-11-20T10:15:03+0100",
        "2026-11-20T10:15:03+01",
        "2026-11-20 10:15:03 +0100",
        "2026-11-20T10-15-03+01-00",
        "2026-11-20T10-15-03+01",
        "2026-11-20T09:15:03Z",
        "2026-11-20T09:15:03z",
        "2026-11-20T09-15-03Z",
        "2026-11-20T09:15:03-00:00",
        "2026-11-20T07:15:03-02:00",
        "2026-11-20T07:15:03-02",
        "2026-11-20T07-15-03-02-00",
        "2026-11-20T07-15-03-0200",
        "2026-11-20T14:45:03+05:30",
        "2026-11-20T09:15:03[UTC]",
        "2026-11-20T09:15:03Z[UTC]",
        "2026-11-20T10:15:03[+01:00]",
        "2026-11-20T07:15:03[-02:00]",
        "2026-11-20T10:15:03+01:00[+01:00]",
    ] {
        let read = parse(text, &berlin()).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(read.instant, utc("2026-11-20T09:15:03.999999999Z"), "{text}");
        assert!(!read.moves);
    }
}

#[test]
fn dates_and_coarse_times_in_a_zone_that_is_named() {
    check(
        &berlin(),
        &[
            ("2026-11-20", "2026-11-20T22:59:59.999999999Z"),
            ("2026-07-20", "2026-07-20T21:59:59.999999999Z"),
            ("2026-11-20Z", "2026-11-20T23:59:59.999999999Z"),
            ("2026-11-20+05:30", "2026-11-20T18:29:59.999999999Z"),
            ("2026-11-20[-05:00]", "2026-11-21T04:59:59.999999999Z"),
            ("2026-11Z", "2026-11-30T23:59:59.999999999Z"),
            ("2026[UTC]", "2026-12-31T23:59:59.999999999Z"),
            ("2026", "2026-12-31T22:59:59.999999999Z"),
            ("2026-11-20T10Z", "2026-11-20T10:59:59.999999999Z"),
            ("2026-11-20T10-15Z", "2026-11-20T10:15:59.999999999Z"),
            ("2026-11-20T10+05:30", "2026-11-20T05:29:59.999999999Z"),
            ("2026-11-20T10:15-02:00", "2026-11-20T12:15:59.999999999Z"),
            ("2026-11-20T10-15+02-00", "2026-11-20T08:15:59.999999999Z"),
            ("2026-07-20T10:15[local]", &utc_of_local("2026-07-20T10:15:59.999999999")),
        ],
    );
}

fn utc_of_local(civil: &str) -> String {
    let civil: DateTime = civil.parse().unwrap();
    TimeZone::system().to_timestamp(civil).unwrap().to_string()
}

#[test]
fn words_and_spans_count_from_now() {
    let table = [
        ("now", "2026-11-21T12:34:56.5Z"),
        ("today", "2026-11-21T22:59:59.999999999Z"),
        ("yesterday", "2026-11-20T22:59:59.999999999Z"),
        ("0s-ago", "2026-11-21T12:34:56.5Z"),
        ("90s-ago", "2026-11-21T12:33:26.5Z"),
        ("90m-ago", "2026-11-21T11:04:56.5Z"),
        ("2h-ago", "2026-11-21T10:34:56.5Z"),
        ("1.5h-ago", "2026-11-21T11:04:56.5Z"),
        ("1h30m-ago", "2026-11-21T11:04:56.5Z"),
        ("3d-ago", "2026-11-18T12:34:56.5Z"),
        ("1w-ago", "2026-11-14T12:34:56.5Z"),
        // Across the end of summer time: the same time of day, or the exact span.
        ("30d-ago", "2026-10-22T11:34:56.5Z"),
        ("720h-ago", "2026-10-22T12:34:56.5Z"),
        ("2mo-ago", "2026-09-21T11:34:56.5Z"),
        ("1y-ago", "2025-11-21T12:34:56.5Z"),
        ("1y2mo3d-ago", "2025-09-18T11:34:56.5Z"),
    ];
    check(&berlin(), &table);
    for (text, _) in table {
        assert!(parse(text, &berlin()).unwrap().moves, "{text}");
    }
    // Late in the evening in UTC it is tomorrow in Berlin.
    let late = utc("2026-11-20T23:30:00Z");
    let read = TimeSpec::parse("yesterday", &berlin(), late).unwrap();
    assert_eq!(read.instant, utc("2026-11-20T22:59:59.999999999Z"));
    // A month ago from the 31st is the last day that there is.
    let end = utc("2026-03-31T12:00:00Z");
    let read = TimeSpec::parse("1mo-ago", &Zone::utc(), end).unwrap();
    assert_eq!(read.instant, utc("2026-02-28T12:00:00Z"));
}

#[test]
fn seconds_since_1970() {
    for (text, seconds, nanos) in [
        ("@0", 0, 999_999_999),
        ("@0.0", 0, 99_999_999),
        ("@1763633703", 1_763_633_703, 999_999_999),
        ("@1763633703.5", 1_763_633_703, 599_999_999),
        ("@1763633703.123456789", 1_763_633_703, 123_456_789),
        ("@1763633703.1234567891", 1_763_633_703, 123_456_789),
        ("@00001763633703", 1_763_633_703, 999_999_999),
        ("@-1", -1, 999_999_999),
        ("@-0", 0, 999_999_999),
        ("@-1.5", -2, 599_999_999),
        ("@-1.000000000", -1, 0),
        ("@-0.000000001", -1, 999_999_999),
        ("@-62135596800", -62_135_596_800, 999_999_999),
        ("@253402300799", 253_402_300_799, 999_999_999),
        ("@-0.9", -1, 199_999_999),
    ] {
        let read = parse(text, &berlin()).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(read.instant, UnixTime::new(seconds, nanos), "{text}");
    }
}

/// Years have an end; seconds have the ends of 64 bits, and no calendar's.
#[test]
fn the_first_and_the_last_instant_there_is() {
    let last = UnixTime::new(253_402_300_799, 999_999_999);
    for text in ["9999", "9999-12", "9999-12-31", "9999-12-31T23:59:59.999999999Z"] {
        assert_eq!(parse(text, &Zone::utc()).unwrap().instant, last, "{text}");
    }
    for (text, seconds, nanos) in [
        ("0001-01-01T00:00:00.000000000", -62_135_596_800, 0),
        ("0001-01-01", -62_135_510_401, 999_999_999),
        ("0001", -62_104_060_801, 999_999_999),
        // A year is one whatever the zone, also where it is the year before or after in UTC.
        ("0001-01-01T00:00+01:00", -62_135_600_341, 999_999_999),
        ("0001-01-01T00:00:00.000000000+23:59", -62_135_683_140, 0),
        ("9999[-05:00]", 253_402_318_799, 999_999_999),
        ("9999-12-31T23:59:59.999999999-23:59", 253_402_387_139, 999_999_999),
        ("9999-12-31T23:59:60Z", 253_402_300_799, 999_999_999),
        ("@-62135596801", -62_135_596_801, 999_999_999),
        ("@253402300800.000000000", 253_402_300_800, 0),
        ("@9223372036854775807", i64::MAX, 999_999_999),
        ("@9223372036854775807.0", i64::MAX, 99_999_999),
        ("@-9223372036854775808", i64::MIN, 999_999_999),
        ("@-9223372036854775808.000000000", i64::MIN, 0),
        ("@-9223372036854775807.999999999", i64::MIN, 1),
    ] {
        let read = parse(text, &Zone::utc()).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(read.instant, UnixTime::new(seconds, nanos), "{text}");
        assert_eq!(parse(&instant_name(read.instant), &berlin()), Ok(read), "{text}");
    }
    for text in [
        "0000",
        "0000-01-01",
        "0000-12-31T23:59:59Z",
        "@9223372036854775808",
        "@-9223372036854775808.1",
        "@-9223372036854775809",
        "@99999999999999999999999",
        "@-99999999999999999999999",
        "9999y-ago",
        "2026y-ago",
    ] {
        let error = parse(text, &Zone::utc()).unwrap_err();
        assert!(matches!(error, TimeError::OutOfRange { .. }), "{text}: {error:?}");
    }
    assert!(parse("2025y-ago", &Zone::utc()).is_ok());
    // The present may be outside the calendar on a machine with a broken clock.
    for seconds in [i64::MIN, -62_135_596_801, 253_402_300_800, i64::MAX] {
        let broken = UnixTime::new(seconds, 7);
        let now = TimeSpec::parse("now", &berlin(), broken).unwrap();
        assert_eq!(now, Resolved { instant: broken, moves: true });
        let ago = TimeSpec::parse("1h-ago", &berlin(), broken);
        assert!(matches!(ago, Err(TimeError::OutOfRange { .. })), "{seconds} {ago:?}");
        for text in ["today", "yesterday"] {
            let _ = TimeSpec::parse(text, &berlin(), broken);
        }
    }
}

#[test]
fn times_that_no_calendar_has() {
    for (text, part) in [
        ("2026-00", "no month 00"),
        ("2026-13-01", "no month 13"),
        ("2026-11-00", "2026-11 has 30 days"),
        ("2026-11-31", "2026-11 has 30 days"),
        ("2026-02-29", "2026-02 has 28 days"),
        ("2100-02-29", "2100-02 has 28 days"),
        ("2026-11-20T24", "no hour 24"),
        ("2026-11-20T24:00:00Z", "no hour 24"),
        ("2026-11-20T10:60", "no minute 60"),
        ("2026-11-20T10:15:61", "no second 61"),
        ("2026-11-20T10:15:03+02:00[+01:00]", "was at +01:00 then"),
        ("2026-11-20T10:15[Mars/Olympus]", "no time zone `Mars/Olympus`"),
        ("2026-11-20T10:15[../../etc/passwd]", "no time zone"),
        ("2026-11-20T10:15[]", "no time zone"),
    ] {
        let error = parse(text, &berlin()).unwrap_err();
        assert!(error.to_string().contains(part), "{text}: {error}");
        assert_eq!(error.kind(), Kind::Invalid);
    }
}

#[test]
fn what_is_not_a_time_is_told_the_forms() {
    let long = "9".repeat(100_000);
    for text in [
        "",
        " ",
        "\0",
        "x",
        "soon",
        "Now",
        "tomorrow",
        "latest",
        "2",
        "26",
        "202",
        "20261",
        "20261120",
        "2026-",
        "2026-1",
        "2026-11-",
        "2026-11-2",
        "2026-11-200",
        "2026/11/20",
        "20.11.2026",
        " 2026-11-20",
        "2026-11-20 ",
        "2026-11-20T",
        "2026-11-20T1",
        "2026-11-20T10:",
        "2026-11-20T10:1",
        "2026-11-20T10:15:",
        "2026-11-20T10:15:3",
        "2026-11-20T10:15:03.",
        "2026-11-20T10:15:03,5",
        "2026-11-20T10:15.5",
        "2026-11-20T10-15:03",
        "2026-11-20T10:15-03-",
        "2026-11-20T10:15:03Zx",
        "2026-11-20T10:15:03 ",
        "2026-11-20T10:15:03 x",
        "2026-11-20T10:15:03ZZ",
        "2026-11-20T10:15:03+",
        "2026-11-20T10:15:03+1",
        "2026-11-20T10:15:03+24:00",
        "2026-11-20T10:15:03+01:60",
        "2026-11-20T10:15:03+01:0",
        "2026-11-20T10:15:03[UTC",
        "2026-11-20T10:15:03[UTC]x",
        "2026-11-20T10-15-03-00",
        "2026-11-20-10",
        "2026-11-20-10:15",
        "2026+01:00",
        "2026-11+01:00",
        "+2026",
        "-2026",
        "+002026-11-20",
        "２０２６",
        "2026-11-20T10:15:03−01:00",
        "@",
        "@x",
        "@1.",
        "@.5",
        "@--1",
        "@+1",
        "@1 ",
        "@1e3",
        "@-",
        "-ago",
        "2-ago",
        "h-ago",
        "-2h-ago",
        "+2h-ago",
        "2h-ago ",
        "2h",
        "2x-ago",
        "2h-ago-ago",
        "2H-ago",
        "2 h-ago",
        "P1D-ago",
        "1.5d-ago",
        "99999999999999999999d-ago",
        "2h ago",
        &long,
    ] {
        let error = parse(text, &berlin()).unwrap_err();
        assert!(matches!(error, TimeError::NotATime { .. }), "{text:?}: {error:?}");
        assert!(error.to_string().contains("2026-11-20T10:15"));
        assert!(error.to_string().len() < 600);
    }
}

#[test]
fn zones_by_name_offset_and_word() {
    for (text, name) in
        [("UTC", "UTC"), ("Z", "UTC"), ("+01:00", "+01:00"), ("-0330", "-03:30"), ("+00:00", "UTC")]
    {
        assert_eq!(Zone::parse(text).unwrap().name(), name);
    }
    for text in
        ["", "Berlin", "+1", "CET-1", "+01:00x", "/etc/localtime", "..", ".etc.localtime", "\0"]
    {
        let error = Zone::parse(text).unwrap_err();
        assert!(matches!(error, TimeError::UnknownZone { .. }), "{text:?}");
    }
}

/// As names of files, which hold no slash.
#[test]
fn a_zone_is_written_with_a_dot_where_no_slash_can_be() {
    let Ok(berlin) = Zone::parse("Europe/Berlin") else {
        return;
    };
    assert_eq!(Zone::parse("Europe.Berlin"), Ok(berlin));
    check(
        &Zone::utc(),
        &[
            ("2026-11-20[Europe.Berlin]", "2026-11-20T22:59:59.999999999Z"),
            ("2026-07-20T10-15[Europe.Berlin]", "2026-07-20T08:15:59.999999999Z"),
            ("2026-07-20T10-15-03+02-00[Europe.Berlin]", "2026-07-20T08:15:03.999999999Z"),
        ],
    );
    let error = parse("2026-03-29T02:30[Europe.Berlin]", &Zone::utc()).unwrap_err();
    assert!(error.to_string().contains("does not exist in Europe/Berlin"), "{error}");
}

fn any_instant() -> impl Strategy<Value = UnixTime> {
    let seconds =
        prop_oneof![-62_135_596_800_i64..=253_402_300_799, 1_763_000_000_i64..1_763_000_100,];
    let nanos = prop_oneof![
        0_u32..1_000_000_000,
        Just(0),
        Just(999_999_999),
        (0_u32..1000).prop_map(|n| n * 1_000_000 + 999_999),
    ];
    (seconds, nanos).prop_map(|(s, n)| UnixTime::new(s, n))
}

proptest! {
    #[test]
    fn any_instant_whatever_has_a_name_that_reads_back(seconds in any::<i64>(), nanos in 0_u32..1_000_000_000) {
        let at = UnixTime::new(seconds, nanos);
        for text in [instant_name(at), at.to_seconds()] {
            prop_assert_eq!(parse(&text, &berlin()).unwrap().instant, at, "{}", text);
        }
        // As it is shown it has only the digits that it needs, and means the end of those.
        let shown = parse(&at.to_string(), &berlin()).unwrap().instant;
        prop_assert!(shown >= at && shown.seconds == at.seconds, "{}", at);
    }

    #[test]
    fn an_exact_name_reads_back_as_its_instant(at in any_instant()) {
        let name = instant_name(at);
        prop_assert_eq!(parse(&name, &berlin()).unwrap().instant, at, "{}", name);
        prop_assert!(!name.contains([':', '/', ' ']));
    }

    #[test]
    fn rfc_3339_in_full_reads_as_the_calendar_reads_it(at in any_instant()) {
        if let Some(stamp) = at.to_timestamp() {
            let text = format!("{stamp:.9}");
            prop_assert_eq!(parse(&text, &berlin()).unwrap().instant, at, "{}", text);
        }
    }

    #[test]
    fn unique_names_are_unique_and_resolve_to_themselves(
        mut list in proptest::collection::vec(
            (0_i64..3, prop_oneof![0_u32..3, 0_u32..1_000_000_000, (0_u32..5).prop_map(|n| n * 1_000_000)]), 0..12,
        ),
    ) {
        let mut list: Vec<UnixTime> = list.drain(..).map(|(s, n)| UnixTime::new(s, n)).collect();
        list.sort();
        list.dedup();
        let names = unique_names(&list);
        for (at, name) in list.iter().zip(&names) {
            let named = parse(name, &berlin()).unwrap().instant;
            prop_assert_eq!(list.iter().rev().find(|t| **t <= named), Some(at));
            prop_assert_eq!(names.iter().filter(|n| *n == name).count(), 1);
            prop_assert_eq!(&name_among(*at, &list), name);
        }
    }

    #[test]
    fn a_later_time_of_the_same_precision_is_a_later_instant(
        a in any_instant(), b in any_instant(), keep in prop_oneof![Just(4_usize), Just(7), Just(10), Just(13), Just(16), Just(19), 21_usize..30],
    ) {
        let (a, b) = (a.min(b), a.max(b));
        let text = |at: UnixTime| {
            let mut text = format!("{:.9}", UnixTime::new(at.seconds, 0).to_timestamp()?);
            text.truncate(19);
            Some(format!("{text}.{:09}", at.nanos)[..keep].to_owned())
        };
        if let (Some(early), Some(late)) = (text(a), text(b)) {
            let early_at = parse(&early, &Zone::utc()).unwrap().instant;
            let late_at = parse(&late, &Zone::utc()).unwrap().instant;
            prop_assert!(early_at <= late_at);
            prop_assert_eq!(early_at == late_at, early == late);
            prop_assert!(early_at >= a, "the unit of {} holds it", early);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,40}", likely in "[0-9@T:.Z+\\[\\]/a-z -]{0,40}") {
        let _ = parse(&text, &berlin());
        let _ = parse(&likely, &over_midnight());
        let _ = Zone::parse(&likely);
    }

    #[test]
    fn nor_does_one_that_is_nearly_a_time(
        text in "(0000|0001|2026|9999)(-[01][0-9](-[0-3][0-9]([T ][0-2][0-9]([:-][0-6][0-9]([:-][0-6][0-9]([.][0-9]{0,12})?)?)?)?)?)?( ?(Z|[+-][0-2][0-9]([:-]?[0-6][0-9])?))?(\\[(UTC|[+]01:00|x)?\\])?",
        span in "@?-?[0-9]{0,20}([.][0-9]{0,11})?(s|m|h|d|w|mo|y)?(-ago)?",
        seconds in any::<i64>(),
    ) {
        for zone in [Zone::utc(), berlin(), over_midnight()] {
            for text in [&text, &span] {
                if let Ok(read) = TimeSpec::parse(text, &zone, UnixTime::new(seconds, 1)) {
                    prop_assert_eq!(parse(&instant_name(read.instant), &zone).unwrap().instant, read.instant);
                }
            }
        }
    }
}
