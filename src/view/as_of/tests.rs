//! The timelines against a naive model, and the cases that a model would share.

use proptest::prelude::*;

use super::*;
use crate::view::time_spec::TimeSpec;

fn head(source: &str, id: u8, taken: i64, receipt: Option<i64>) -> Head {
    Head {
        source: source.to_owned(),
        id: SnapshotId([id; 16]),
        taken: UnixTime::new(taken, 0),
        receipt: receipt.map(|s| UnixTime::new(s, 0)),
    }
}

fn berlin() -> Zone {
    Zone::from(jiff::tz::TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap())
}

fn at(text: &str) -> UnixTime {
    TimeSpec::parse(text, &Zone::utc(), UnixTime::EPOCH).unwrap().instant
}

#[test]
fn a_snapshot_from_a_fast_clock_counts_from_its_receipt() {
    let effective = head("a", 1, 100, Some(50)).effective();
    assert_eq!(effective.at, UnixTime::new(50, 0));
    assert!(effective.clamped);
    assert!(!head("a", 1, 50, Some(50)).effective().clamped);
    assert!(!head("a", 1, 50, None).effective().clamped);
}

#[test]
fn ties_go_by_receipt_and_then_by_id_and_an_unknown_receipt_is_last() {
    let heads = [
        head("a", 4, 10, None),
        head("a", 3, 10, Some(20)),
        head("a", 2, 10, Some(30)),
        head("a", 1, 10, Some(30)),
    ];
    let ids = |t: &Timelines| t.of("a").iter().map(|h| h.id.0[0]).collect::<Vec<_>>();
    assert_eq!(ids(&Timelines::new(heads.clone())), [3, 1, 2, 4]);
    assert_eq!(ids(&Timelines::new(heads.into_iter().rev())), [3, 1, 2, 4]);
}

#[test]
fn a_source_is_absent_before_its_first_snapshot() {
    let lines = Timelines::new([head("a", 1, 10, None), head("b", 2, 20, None)]);
    let names = |s| lines.view(UnixTime::new(s, 0)).map(|h| h.source.as_str()).collect::<Vec<_>>();
    assert_eq!(names(9), [""; 0]);
    assert_eq!(names(10), ["a"]);
    assert_eq!(names(20), ["a", "b"]);
    assert_eq!(lines.canonical(UnixTime::new(9, 999_999_999)), None);
    assert_eq!(lines.canonical(UnixTime::new(19, 0)), Some(UnixTime::new(10, 0)));
    assert_eq!(lines.newest("c", UnixTime::new(20, 0)), None);
    assert_eq!(Timelines::default().canonical(UnixTime::new(0, 0)), None);
}

#[test]
fn the_listing_has_one_instant_a_day_and_of_today_one_an_hour() {
    let instants = [
        "2026-11-18T22-59-59Z", // still the 18th in Berlin
        "2026-11-18T23-00-00Z", // the 19th
        "2026-11-19T10-00-00Z",
        "2026-11-19T22-30-00Z",
        "2026-11-20T23-10-00Z", // today, 00:10
        "2026-11-20T23-50-00Z",
        "2026-11-21T08-00-00Z",
    ];
    let heads = (0_u8..).zip(instants).map(|(n, text)| Head {
        source: "a".to_owned(),
        id: SnapshotId([n; 16]),
        taken: at(text),
        receipt: None,
    });
    let lines = Timelines::new(heads);
    let listed = lines.listing(&berlin(), at("2026-11-21T12-00-00Z"));
    let listed: Vec<String> = listed.iter().map(|at| lines.name(*at)).collect();
    assert_eq!(listed, [instants[0], instants[3], instants[5], instants[6]]);
}

#[test]
fn an_hour_that_clocks_show_twice_is_two_hours() {
    let lines = Timelines::new([
        head("a", 1, 1_792_888_200, None), // 2026-10-25 02:30 +02:00
        head("a", 2, 1_792_891_800, None), // 2026-10-25 02:30 +01:00
    ]);
    let now = UnixTime::new(1_792_900_000, 0);
    assert_eq!(berlin().civil(lines.instants()[0]).hour(), 2);
    assert_eq!(berlin().civil(lines.instants()[1]).hour(), 2);
    assert_eq!(lines.listing(&berlin(), now), lines.instants());
}

#[test]
fn snapshots_of_one_instant_have_names_of_their_own() {
    let lines = Timelines::new([head("a", 0xb, 10, None), head("a", 0xa, 10, None)]);
    assert_eq!(
        lines.snapshot_names("a"),
        [format!("1970-01-01T00-00-10Z~{}", "0a".repeat(16)), "1970-01-01T00-00-10Z".to_owned(),]
    );
}

/// Few sources, instants close together, so that ties and collisions are common.
fn heads() -> impl Strategy<Value = Vec<Head>> {
    let instant = || (0_i64..4, prop_oneof![0_u32..4, Just(999_999_999), Just(1_000_000)]);
    let head = (0_u8..3, any::<u8>(), instant(), proptest::option::of(instant()));
    proptest::collection::vec(head, 0..20).prop_map(|heads| {
        heads
            .into_iter()
            .map(|(source, id, taken, receipt)| Head {
                source: format!("s{source}"),
                id: SnapshotId([id; 16]),
                taken: UnixTime::new(taken.0, taken.1),
                receipt: receipt.map(|(s, n)| UnixTime::new(s, n)),
            })
            .collect()
    })
}

/// The rule of the design, word by word.
fn naive<'a>(heads: &'a [Head], source: &str, at: UnixTime) -> Option<&'a Head> {
    // A receipt is later than a claim of a later second only.
    let taken = |h: &Head| match h.receipt {
        Some(receipt) if receipt.seconds < h.taken.seconds => receipt,
        _ => h.taken,
    };
    let never = UnixTime::new(i64::MAX, 0);
    heads
        .iter()
        .filter(|h| h.source == source && taken(h) <= at)
        .max_by_key(|h| (taken(h), h.receipt.unwrap_or(never), h.id))
}

proptest! {
    #[test]
    fn views_are_what_the_naive_model_says(heads in heads(), s in -1_i64..5, n in 0_u32..1_000_000_000) {
        let at = UnixTime::new(s, n);
        let lines = Timelines::new(heads.clone());
        for source in ["s0", "s1", "s2", "s3"] {
            prop_assert_eq!(lines.newest(source, at), naive(&heads, source, at));
        }
        let canonical = heads.iter().map(Head::at).filter(|t| *t <= at).max();
        prop_assert_eq!(lines.canonical(at), canonical);
        if let Some(canonical) = canonical {
            let here: Vec<_> = lines.view(at).collect();
            let there: Vec<_> = lines.view(canonical).collect();
            prop_assert_eq!(here, there);
        }
    }

    #[test]
    fn every_listed_name_resolves_to_its_instant(heads in heads(), now in 0_i64..200_000) {
        let lines = Timelines::new(heads);
        for at in lines.listing(&berlin(), UnixTime::new(now, 0)) {
            let name = lines.name(at);
            let read = TimeSpec::parse(&name, &berlin(), UnixTime::EPOCH).unwrap();
            prop_assert!(!read.moves);
            prop_assert_eq!(lines.canonical(read.instant), Some(at), "{}", name);
        }
    }

    #[test]
    fn every_name_of_a_snapshot_is_unique_and_finds_it(heads in heads()) {
        // Two snapshots never have one id; the generator's may.
        let mut heads = heads;
        heads.sort_by_key(|h| h.id);
        heads.dedup_by_key(|h| h.id);
        let lines = Timelines::new(heads);
        for source in lines.sources() {
            let names = lines.snapshot_names(source);
            let mut unique = names.clone();
            unique.sort();
            unique.dedup();
            prop_assert_eq!(unique.len(), names.len());
            for (name, head) in names.iter().zip(lines.of(source)) {
                if name.contains('~') {
                    continue;
                }
                let read = TimeSpec::parse(name, &Zone::utc(), UnixTime::EPOCH).unwrap();
                prop_assert_eq!(lines.newest(source, read.instant), Some(head));
            }
        }
    }
}
