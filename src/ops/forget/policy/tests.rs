//! Policies on timelines made by hand, and against a slow model.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;

const OWNER: WriterId = WriterId([1; 32]);
const LAPTOP: WriterId = WriterId([2; 32]);

fn n(count: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(count)
}

fn at(text: &str) -> UnixTime {
    UnixTime::from(text.parse::<jiff::Timestamp>().unwrap())
}

fn candidate(number: u8, writer: WriterId, at: UnixTime) -> Candidate<'static> {
    let id = SnapshotId([number; 16]);
    Candidate {
        id,
        writer,
        at,
        shown_from: at,
        tags: &[],
        expires: false,
        expired: false,
        late: false,
    }
}

/// A snapshot of each of these times, by one writer.
fn line(writer: WriterId, times: &[&str]) -> Vec<Candidate<'static>> {
    let times = times.iter().zip(1..);
    times.map(|(text, number)| candidate(number, writer, at(text))).collect()
}

/// The numbers, from 0, of what is kept.
fn kept(policy: &Policy, candidates: &[Candidate<'_>], zone: &str) -> Vec<usize> {
    let reasons = policy.judge(candidates, &Zone::parse(zone).unwrap());
    (0..reasons.len()).filter(|place| !reasons[*place].is_empty()).collect()
}

#[test]
fn of_every_period_the_last_is_kept_and_empty_ones_do_not_count() {
    let times = [
        "2024-12-29T12:00:00Z", // 0: Sunday, week 52
        "2024-12-30T12:00:00Z", // 1: Monday of the first week of 2025
        "2025-01-05T12:00:00Z", // 2: its Sunday
        "2025-03-01T09:00:00Z", // 3
        "2025-03-01T09:59:59Z", // 4
        "2025-03-01T10:00:00Z", // 5
        "2025-03-31T23:30:00Z", // 6: April in Berlin
        "2025-04-01T12:00:00Z", // 7
    ];
    let line = line(OWNER, &times);
    let p = Policy::default;
    for (policy, zone, expected) in [
        (Policy { last: n(3), ..p() }, "UTC", &[5, 6, 7][..]),
        (Policy { hourly: n(4), ..p() }, "UTC", &[4, 5, 6, 7]),
        (Policy { daily: n(3), ..p() }, "UTC", &[5, 6, 7]),
        (Policy { daily: n(3), ..p() }, "Europe/Berlin", &[2, 5, 7]),
        (Policy { weekly: n(9), ..p() }, "UTC", &[0, 2, 5, 7]),
        (Policy { monthly: n(9), ..p() }, "UTC", &[1, 2, 6, 7]),
        (Policy { monthly: n(2), ..p() }, "Europe/Berlin", &[5, 7]),
        (Policy { yearly: n(9), ..p() }, "UTC", &[1, 7]),
        (Policy { yearly: n(1), ..p() }, "UTC", &[7]),
        (Policy { within: Some(Duration::from_secs(24 * 3600)), ..p() }, "UTC", &[6, 7]),
        (Policy { daily: n(1), yearly: n(2), ..p() }, "UTC", &[1, 7]),
        (Policy { ids: vec!["0404".parse().unwrap()], ..p() }, "UTC", &[3]),
        (p(), "UTC", &[]),
    ] {
        assert_eq!(kept(&policy, &line, zone), expected, "{policy:?} {zone}");
    }
}

#[test]
fn an_hour_that_clocks_show_twice_counts_as_two() {
    let line = line(OWNER, &["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"]);
    let policy = Policy { hourly: n(2), ..Policy::default() };
    assert_eq!(kept(&policy, &line, "Europe/Berlin"), [0, 1]);
}

#[test]
fn the_reasons_say_which_place_of_which_rule() {
    let mut line =
        line(OWNER, &["2026-01-01T08:00:00Z", "2026-01-01T09:00:00Z", "2026-01-02T09:00:00Z"]);
    let tags = ["x".to_owned()];
    line[0].tags = &tags;
    let policy = Policy {
        daily: n(7),
        last: n(1),
        within: Some(Duration::from_secs(86_400)),
        tags: vec!["y".into(), "x".into()],
        ..Policy::default()
    };
    let reasons = policy.judge(&line, &Zone::utc());
    assert_eq!(reasons[0], ["tag x"]);
    assert_eq!(reasons[1], ["within 1d", "daily 2 of 7"]);
    assert_eq!(reasons[2], ["within 1d", "last 1 of 1", "daily 1 of 7"]);
}

/// Ten thousand snapshots of a thief in one hour cost the others nothing.
#[test]
fn a_flood_by_another_writer_changes_nothing_and_by_the_same_one_uses_an_hour() {
    let times = ["2026-01-01T08:00:00Z", "2026-01-02T08:00:00Z", "2026-01-03T08:00:00Z"];
    let flood = |writer| {
        let start = at("2026-01-03T09:00:00Z");
        let one = move |i: u64| {
            let mut one = candidate(0, writer, start.plus(Duration::from_millis(i * 300)));
            one.id.0[..8].copy_from_slice(&i.to_be_bytes());
            one
        };
        (0..10_000).map(one)
    };
    for (policy, others, own) in [
        (Policy { last: n(3), ..Policy::default() }, &[0, 1, 2][..], &[1, 2][..]),
        (Policy { hourly: n(3), ..Policy::default() }, &[0, 1, 2], &[1, 2]),
        // Of the day of the flood the last is the thief's.
        (Policy { daily: n(3), ..Policy::default() }, &[0, 1, 2], &[0, 1]),
        (
            Policy { within: Some(Duration::from_secs(48 * 3600)), ..Policy::default() },
            &[0, 1, 2],
            &[1, 2],
        ),
    ] {
        for (thief, expected) in [(LAPTOP, others), (OWNER, own)] {
            let mut all = line(OWNER, &times);
            all.extend(flood(thief));
            let found = kept(&policy, &all, "UTC");
            let honest: Vec<usize> = found.into_iter().filter(|place| *place < 3).collect();
            assert_eq!(honest, expected, "{policy:?}");
        }
    }
}

#[test]
fn expired_and_late_ones_take_no_place() {
    let mut line =
        line(OWNER, &["2026-01-01T08:00:00Z", "2026-01-01T09:00:00Z", "2026-01-01T10:00:00Z"]);
    line[1].late = true;
    line[2].expired = true;
    let policy = Policy { daily: n(1), last: n(1), ..Policy::default() };
    let reasons = policy.judge(&line, &Zone::utc());
    assert_eq!(reasons[0], ["last 1 of 1", "daily 1 of 1"]);
    assert!(reasons[1].is_empty() && reasons[2].is_empty());
    let held = Policy { ids: vec!["id:03".parse().unwrap()], ..policy };
    assert_eq!(held.judge(&line, &Zone::utc())[2], ["id"]);
}

/// A day that only an expiring snapshot stood for would be empty once that is gone.
#[test]
fn what_expires_takes_no_place_of_what_stays() {
    let mut line = line(OWNER, &["2026-01-01T08:00:00Z", "2026-01-01T09:00:00Z"]);
    line[1].expires = true;
    let policy = Policy { daily: n(1), last: n(1), ..Policy::default() };
    assert_eq!(kept(&policy, &line, "UTC"), [0, 1]);
}

/// Receipts are whole seconds: among those of one the order is that of the views.
#[test]
fn of_one_second_the_last_that_was_taken_is_kept() {
    let mut line = line(OWNER, &["2026-01-01T08:00:00Z"; 2]);
    line[0].shown_from = line[0].at.plus(Duration::from_millis(5));
    let policy = Policy { last: n(1), ..Policy::default() };
    assert_eq!(kept(&policy, &line, "UTC")[..1], [0]);
    assert_eq!(policy.judge(&line, &Zone::utc())[1], Vec::<String>::new());
}

/// A timeline of three weeks or of three years, by two writers.
fn timeline() -> impl Strategy<Value = Vec<Candidate<'static>>> {
    let span = prop_oneof![Just(21 * 86_400_i64), Just(3 * 366 * 86_400)];
    let one = |span: i64| (0..span, any::<bool>(), 0..10_u8);
    span.prop_flat_map(move |span| prop::collection::vec(one(span), 0..60)).prop_map(|many| {
        let many = many.into_iter().zip(1..);
        many.map(|((seconds, owner, kind), number)| {
            let writer = if owner { OWNER } else { LAPTOP };
            let mut one = candidate(number, writer, UnixTime::new(1_700_000_000 + seconds, 0));
            one.expired = kind == 0;
            one.expires = kind == 0 || kind > 6;
            one.late = kind == 1;
            one
        })
        .collect()
    })
}

type Rule = (&'static str, fn(Option<NonZeroU32>) -> Policy);

const RULES: [Rule; 6] = [
    ("", |last| Policy { last, ..EMPTY }),
    ("%Y-%m-%d %H %z", |hourly| Policy { hourly, ..EMPTY }),
    ("%Y-%m-%d", |daily| Policy { daily, ..EMPTY }),
    ("%G-%V", |weekly| Policy { weekly, ..EMPTY }),
    ("%Y-%m", |monthly| Policy { monthly, ..EMPTY }),
    ("%Y", |yearly| Policy { yearly, ..EMPTY }),
];

const EMPTY: Policy = Policy {
    last: None,
    hourly: None,
    daily: None,
    weekly: None,
    monthly: None,
    yearly: None,
    within: None,
    tags: Vec::new(),
    ids: Vec::new(),
};

/// What a rule keeps, slowly: those behind which fewer than `count` other periods of the
/// same writer begin, and none of their own goes on.
fn model(format: &str, count: usize, all: &[Candidate<'_>], zone: &Zone) -> Vec<usize> {
    let name = |c: &Candidate<'_>| {
        let shown = c.at.to_timestamp().unwrap().to_zoned(zone.tz().clone());
        shown.strftime(format).to_string()
    };
    let places = |c: &Candidate<'_>| !c.expired && !c.late;
    let lined = |c: &Candidate<'_>| (c.writer, c.expires);
    let order = |c: &Candidate<'_>| (c.at, c.id);
    let kept = |one: &Candidate<'_>| {
        let later: Vec<_> = all
            .iter()
            .filter(|c| places(c) && lined(c) == lined(one) && order(c) > order(one))
            .collect();
        let periods: BTreeSet<String> = later.iter().map(|c| name(c)).collect();
        let before = if format.is_empty() { later.len() } else { periods.len() };
        places(one) && before < count && (format.is_empty() || !periods.contains(&name(one)))
    };
    (0..all.len()).filter(|place| kept(&all[*place])).collect()
}

proptest! {
    /// Every rule keeps what the model says; `last` also the hours.
    #[test]
    fn every_rule_agrees_with_a_slow_model(
        all in timeline(),
        rule in 0..RULES.len(),
        count in 1_u32..12,
        zone in prop_oneof![Just("UTC"), Just("Europe/Berlin"), Just("Pacific/Auckland")],
    ) {
        let (format, policy) = RULES[rule];
        let of = Zone::parse(zone).unwrap();
        let mut expected: BTreeSet<usize> =
            model(format, count as usize, &all, &of).into_iter().collect();
        if format.is_empty() {
            expected.extend(model(RULES[1].0, count as usize, &all, &of));
        }
        let found = kept(&policy(n(count)), &all, zone);
        prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }

    /// More is kept by a larger count, by a longer time and by one more rule; the order
    /// of the candidates means nothing.
    #[test]
    fn more_rules_keep_more(
        all in timeline(),
        counts in prop::array::uniform6(0_u32..5),
        more in 0..8_usize,
        hours in 1_u64..500,
    ) {
        let within = |hours| Some(Duration::from_secs(hours * 3600));
        let make = |c: [u32; 6], within| Policy {
            last: n(c[0]), hourly: n(c[1]), daily: n(c[2]), weekly: n(c[3]), monthly: n(c[4]),
            yearly: n(c[5]), within, ..EMPTY
        };
        let less = kept(&make(counts, within(hours)), &all, "UTC");
        let mut larger = counts;
        let longer = if more < 6 { larger[more] += 1; hours } else { hours + 30 };
        let most = kept(&make(larger, within(longer)), &all, "UTC");
        prop_assert!(less.iter().all(|place| most.contains(place)), "{:?} {:?}", less, most);

        let mut reversed = all.clone();
        reversed.reverse();
        let mut back: Vec<usize> = kept(&make(counts, within(hours)), &reversed, "UTC")
            .into_iter().map(|place| all.len() - 1 - place).collect();
        back.reverse();
        prop_assert_eq!(less, back);
    }

    /// What one writer adds, whenever and however much, forgets nothing of another's.
    #[test]
    fn no_writer_pushes_out_anothers(all in timeline(), counts in prop::array::uniform6(0_u32..5)) {
        let policy = Policy {
            last: n(counts[0]), hourly: n(counts[1]), daily: n(counts[2]), weekly: n(counts[3]),
            monthly: n(counts[4]), yearly: n(counts[5]), ..EMPTY
        };
        let owners: Vec<Candidate<'_>> = all.iter().filter(|c| c.writer == OWNER).cloned().collect();
        let ids = |of: &[Candidate<'_>]| -> Vec<SnapshotId> {
            let kept = kept(&policy, of, "UTC");
            kept.into_iter().map(|p| &of[p]).filter(|c| c.writer == OWNER).map(|c| c.id).collect()
        };
        prop_assert_eq!(ids(&all), ids(&owners));
    }
}
