//! Names of times: every form, every edge, and what happens to whoever is inside.

use jiff::tz::TimeZone;

use super::*;
use crate::view::selector::Selector;
use crate::view::testing::Cut;
use crate::view::time_spec::TimeSpec;

/// What is below a directory that a snapshot has: one file, which tells which it is.
fn version(text: &str) -> Sample {
    Sample::dir([("version", Sample::file(text)), (text, Sample::file(""))])
}

fn over_in(library: &Arc<TestLibrary>, zone: Zone, now: UnixTime) -> Namespace {
    let clock = Clock::from_fn(move || now);
    let library = Arc::clone(library) as Arc<dyn Library>;
    Namespace::new(library, zone, clock, Box::new(Vec::new)).unwrap()
}

/// Rules in the POSIX form, so that nothing depends on the machine's database.
fn berlin() -> Zone {
    Zone::from(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap())
}

fn id(n: u8) -> SnapshotId {
    let mut id = [0; 16];
    id[7] = n;
    SnapshotId(id)
}

/// Every form of a time is one on the command line and a name in the mount.
#[test]
fn every_form_is_a_name_and_a_selector() {
    let library = TestLibrary::new();
    let at = |text| TimeSpec::parse(text, &Zone::utc(), time(0)).unwrap().instant;
    let [old, mid, new] = ["2026-10-01T08-00-00Z", "2026-11-19T10-15-03.123Z", "@1795175999.5"];
    for text in [old, mid, new] {
        library.publish("web", at(text), &version(text));
    }
    let [old, mid, new] = [old, mid, new].map(|text| instant_name(at(text)));
    let [old, mid, new] = [Some(old), Some(mid), Some(new)];
    let namespace = over_in(&library, berlin(), time(0));
    let table = [
        // A year, a month, a day.
        ("2026", &new),
        ("2025", &None),
        ("2026-10", &old),
        ("2026-10-01", &old),
        ("2026-09-30", &None),
        ("2026-11-19", &mid),
        ("2026-11-20", &new),
        // The same in a zone: the 1st of October began there when it was over in Berlin.
        ("2026-10-01+12:00", &old),
        ("2026-10-01Z", &old),
        ("2026-11-19[+14:00]", &old),
        ("2026-11[UTC]", &new),
        // An hour, a minute, a second, a part of one, with all that may separate them.
        ("2026-11-19T11", &mid),
        ("2026-11-19T10", &old),
        ("2026-11-19T11:15", &mid),
        ("2026-11-19t11-15", &mid),
        ("2026-11-19 11:14", &old),
        ("2026-11-19 11:15:03", &mid),
        ("2026-11-19T11-15-02", &old),
        ("2026-11-19T11:15:03.1", &mid),
        ("2026-11-19T11:15:03.12", &mid),
        ("2026-11-19T11:15:03.122", &old),
        ("2026-11-19T11:15:03.123999999", &mid),
        ("2026-11-19T11:15:03.123999998", &old),
        // With an offset or a zone.
        ("2026-11-19T10:15:03Z", &mid),
        ("2026-11-19T10-15-03.123Z", &mid),
        ("2026-11-19T10:15:02.999999999Z", &old),
        ("2026-11-19T05-15-03-05-00", &mid),
        ("2026-11-19T05:15:02-05:00", &old),
        ("2026-11-19 10:15:03 +0000", &mid),
        ("2026-11-19T15:45:03[+05:30]", &mid),
        ("2026-11-19T10:15:03Z[UTC]", &mid),
        // Counted from now.
        ("now", &new),
        ("today", &new),
        ("yesterday", &mid),
        ("0s-ago", &new),
        ("1s-ago", &mid),
        ("90m-ago", &mid),
        ("2h-ago", &mid),
        ("1d-ago", &mid),
        ("2d-ago", &old),
        ("1w-ago", &old),
        ("1mo-ago", &old),
        ("1mo2w3d4h5m6s-ago", &old),
        ("1y-ago", &None),
        // Seconds since 1970.
        ("@1795175999", &new),
        ("@1795175999.4", &mid),
        ("@1795175999.500000000", &mid),
        ("@1795175999.599999999", &new),
        ("@0", &None),
        ("@-1.5", &None),
        // To come, and the ends of what there is.
        ("2027-01-01T00:00:00.000000000Z", &new),
        ("9999", &new),
        ("0001", &None),
        ("@9223372036854775807.999999999", &new),
        ("@-9223372036854775808.000000000", &None),
    ];
    for (text, meaning) in table {
        let looked = namespace.lookup(AT, text.as_bytes(), Reach::Store).unwrap();
        let target = looked.item.map(|item| match item {
            Item::Link { target, .. } => target,
            // It is the instant's own name.
            _ => text.to_owned(),
        });
        assert_eq!(&target, meaning, "{text}");
        assert!(Selector::parse(format!("web@{text}").as_ref()).is_ok(), "{text}");
    }
    for none in [
        // Clocks skipped it, clocks showed it twice; neither with an offset.
        "2026-03-29T02:30",
        "2026-10-25T02:30",
        "2026-10-25T02",
        "2026-02-29",
        "2026-11-19T11:15:60",
        "0000",
        "tomorrow",
        "latest",
        "2026-11-19T10:15[Mars.Olympus]",
        "@9223372036854775808",
        "2026-11-19T10:15:03Z ",
        "~",
        "2026-11-19T10-15-03.123Z~",
    ] {
        let looked = namespace.lookup(AT, none.as_bytes(), Reach::Store).unwrap();
        assert!(looked.item.is_none() && looked.life == Life::Momentary, "{none}");
    }
    let there = ["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00", "2016-12-31T23:59:60Z"];
    let there = there.map(|text| namespace.lookup(AT, text.as_bytes(), Reach::Store).unwrap());
    assert_eq!(there.map(|looked| looked.item.is_some()), [true, true, false]);
}

/// A backup that was taken before an instant and published after somebody looked at
/// that instant: the name gets another directory, and the kernel is told. Whoever was in
/// the first sees what was there, and nothing of it has a number in the second.
#[test]
fn a_late_snapshot_changes_what_a_name_means_and_no_directory() {
    let f = fixture();
    let name = format!("at/{NEW}");
    assert_eq!(f.look(&name).unwrap().life, Life::Brief);
    let (instant, web, db) =
        (f.ino(&name), f.ino(&format!("{name}/web")), f.ino(&format!("{name}/db")));
    assert_eq!(f.look(&format!("{name}/db")).unwrap().life, Life::Forever);
    let older = f.ino(&format!("at/{OLD}"));
    let tellers = f.namespace.lookup(instant, b"teller", Reach::Store).unwrap();
    assert!(tellers.item.is_none() && tellers.life == Life::Forever);

    f.library.publish("db", time(-5400), &Sample::dir([("late", Sample::file("5"))]));
    f.library.publish("teller", time(-6000), &version("new source"));
    let changes = f.namespace.refresh().unwrap().unwrap();
    assert!(changes.entries.contains(&(AT, NEW.into())), "{changes:?}");
    assert!(!changes.inodes.contains(&instant), "{changes:?}");
    assert!(!changes.entries.contains(&(AT, OLD.into())), "{changes:?}");

    let numbers = |dir| {
        let mut all = Vec::new();
        let show = &mut |row: Row<'_>| {
            all.push((String::from_utf8(row.name.to_vec()).unwrap(), row.item.ino()));
            false
        };
        f.namespace.list(dir, 0, Reach::Store, show).unwrap();
        all.sort();
        all
    };
    // As a path it is the new state, as a place the old one.
    assert_eq!(f.names(&format!("{name}/db")), ["late"]);
    let names: Vec<String> = numbers(f.ino(&name)).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["db", "teller", "web"]);
    assert_eq!(numbers(instant), [("db".to_owned(), db), ("web".to_owned(), web)]);
    let item = f.namespace.lookup(instant, b"db", Reach::Store).unwrap().item.unwrap();
    assert_eq!((item.ino(), f.namespace.parent(db, Reach::Store).unwrap()), (db, instant));
    assert!(f.namespace.lookup(db, b"rows", Reach::Store).unwrap().item.is_some());
    assert!(f.namespace.lookup(instant, b"teller", Reach::Store).unwrap().item.is_none());
    let new = f.ino(&name);
    assert_ne!(new, instant);
    assert!(numbers(new).iter().all(|(_, number)| ![web, db].contains(number)));

    // What was taken after it does not change it.
    f.library.publish("db", time(-60), &version("after"));
    let changes = f.namespace.refresh().unwrap().unwrap();
    assert!(!changes.entries.contains(&(AT, NEW.into())), "{changes:?}");
    assert_eq!((f.ino(&name), numbers(instant).len()), (new, 2));
    assert_eq!(f.ino(&format!("at/{OLD}")), older);
    // A number is the same after a remount, whichever of the two states is shown then.
    let g = over(Arc::clone(&f.library));
    assert_eq!(g.ino(&name), new);
    f.library.forget(id(4));
    f.library.forget(id(5));
    let g = over(Arc::clone(&f.library));
    assert_eq!(g.ino(&name), instant);
}

/// A late snapshot that comes just when somebody enters: the directory that is entered is
/// of what was known when it was looked for, and stays so.
#[test]
fn a_late_snapshot_in_the_middle_of_a_lookup_is_in_the_next_directory() {
    let library = TestLibrary::new();
    library.publish("s", time(-60), &version("first"));
    let namespace = Arc::new(over_in(&library, Zone::utc(), time(0)));
    let (inner, outer) = (Arc::clone(&namespace), Arc::clone(&library));
    let late = move || {
        outer.publish("late", time(-90), &version("late"));
        inner.refresh().unwrap();
    };
    *library.meanwhile.lock().unwrap() = Some(Box::new(late));
    let name = instant_name(time(-60));
    let enter = || {
        let looked = namespace.lookup(AT, name.as_bytes(), Reach::Store).unwrap();
        looked.item.unwrap().ino()
    };
    let sources = |dir: u64| {
        let find = |source: &&str| {
            let looked = namespace.lookup(dir, source.as_bytes(), Reach::Store).unwrap();
            looked.item.is_some()
        };
        ["s", "late"].into_iter().filter(find).collect::<Vec<_>>()
    };
    let first = enter();
    assert_eq!(sources(first), ["s"]);
    let second = enter();
    assert_eq!(sources(second), ["s", "late"]);
    assert_eq!(sources(first), ["s"]);
}

/// Forgetting is an owner's word and takes effect; who has looked at it reads on.
#[test]
fn a_forgotten_snapshot_is_gone_and_whoever_is_inside_stays() {
    let f = fixture();
    let (old, web) = (f.ino(&format!("at/{OLD}")), f.ino(&format!("at/{OLD}/web")));
    let unseen = f.ino(&format!("at/{DB}"));
    f.library.forget(id(1));
    f.library.forget(id(2));
    let changes = f.namespace.refresh().unwrap().unwrap();
    for name in [OLD, DB, NEW] {
        let is_told = changes.entries.contains(&(AT, name.into()));
        // Nobody asked for the last one yet.
        assert_eq!(is_told, name != NEW, "{name} {changes:?}");
    }
    assert_eq!(f.names("at"), [NEW]);
    assert!(f.look(&format!("at/{OLD}")).unwrap().item.is_none());
    assert_eq!(f.names(&format!("at/{NEW}")), ["web"]);
    assert!(f.namespace.lookup(web, b"old", Reach::Store).unwrap().item.is_some());
    let names = |dir| {
        let mut names = Vec::new();
        let show = &mut |row: Row<'_>| {
            names.push(String::from_utf8(row.name.to_vec()).unwrap());
            false
        };
        f.namespace.list(dir, 0, Reach::Store, show).map(|()| names)
    };
    assert_eq!(names(old).unwrap(), ["web"]);
    // Of `db` nobody had seen anything; what is left is no error.
    assert_eq!(names(unseen).unwrap(), ["web"]);
    assert!(f.namespace.lookup(unseen, b"db", Reach::Store).unwrap().item.is_none());
}

/// A time to come is a link to the newest state there is, and to another one, with another
/// number, as soon as there is a newer.
#[test]
fn a_time_to_come_is_a_link_that_is_not_believed_for_long() {
    let f = fixture();
    let names = ["2030", "2027-01-01T00-00-00.000000000Z", "now", "@4102444800", "9999"];
    let before = names.map(|name| {
        let looked = f.look(&format!("at/{name}")).unwrap();
        assert_eq!(looked.life, Life::Brief, "{name}");
        looked.item.unwrap().ino()
    });
    assert!(names.iter().all(|name| f.target(&format!("at/{name}")).as_deref() == Some(NEW)));
    f.library.publish("web", time(-1), &version("newest"));
    f.namespace.refresh().unwrap();
    for (name, before) in names.iter().zip(before) {
        let newest = "2026-11-20T11-59-59.000000000Z";
        assert_eq!(f.target(&format!("at/{name}")).as_deref(), Some(newest), "{name}");
        assert_ne!(f.ino(&format!("at/{name}")), before, "{name}");
        match f.namespace.item(before, Reach::Store).unwrap() {
            Item::Link { target, .. } => assert_eq!(target, NEW, "{name}"),
            other => panic!("{other:?}"),
        }
    }
    // A store whose clock is ahead: the state is the newest, and not the present one yet.
    f.library.publish("web", time(3600), &version("to come"));
    f.namespace.refresh().unwrap();
    let to_come = "2026-11-20T13-00-00.000000000Z";
    assert_eq!(f.target("latest").as_deref(), Some(&*format!("at/{to_come}")));
    assert_eq!(f.target("at/now").as_deref(), Some("2026-11-20T11-59-59.000000000Z"));
    assert_eq!(f.target("at/today").as_deref(), Some(to_come));
    assert_eq!(f.look(&format!("at/{to_come}")).unwrap().life, Life::Brief);
    f.now.fetch_add(3600, Ordering::Relaxed);
    assert_eq!(f.target("at/now").as_deref(), Some(to_come));
}

/// Clocks claim what they will, and every snapshot has a name that leads to it and to no
/// other.
#[test]
fn snapshots_of_times_that_no_calendar_has_are_found_by_name() {
    let library = TestLibrary::new();
    let names = [
        "@-9223372036854775808.000000000",
        "@-9223372036854775807.999999999",
        "@-62135596800.000000001",
        "0001-01-01T00-00-00.000000000Z",
        "1969-12-31T23-59-59.500000000Z",
        "9999-12-31T23-59-59Z",
        "@253402300800.000000000",
        "@9223372036854775807.999999999",
    ];
    let instants = [
        UnixTime::new(i64::MIN, 0),
        UnixTime::new(i64::MIN, 1),
        UnixTime::new(-62_135_596_801, 999_999_999),
        UnixTime::new(-62_135_596_800, 0),
        UnixTime::new(-1, 500_000_000),
        UnixTime::new(253_402_300_799, 999_999_999),
        UnixTime::new(253_402_300_800, 0),
        UnixTime::new(i64::MAX, 999_999_999),
    ];
    for (n, at) in instants.iter().enumerate() {
        library.publish("s", *at, &version(&n.to_string()));
    }
    let f = over(library);
    assert_eq!(f.names("snapshots/s"), names);
    for (n, name) in names.iter().enumerate() {
        for dir in [format!("snapshots/s/{name}"), format!("at/{name}/s")] {
            assert_eq!(f.names(&dir), [n.to_string(), "version".to_owned()], "{dir}");
        }
    }
    assert_eq!(f.names("changes/s").len(), instants.len() - 1);
    for (time, name) in [
        ("0001", names[3]),
        ("1969", names[4]),
        ("now", names[4]),
        ("9998", names[4]),
        ("9999", names[5]),
        ("@253402300799", names[5]),
        ("@253402300800", names[6]),
        ("@-62135596800", names[3]),
        ("@-62135596800.0000000011", names[2]),
        ("@-62135596802", names[1]),
    ] {
        assert_eq!(f.target(&format!("at/{time}")).as_deref(), Some(name), "{time}");
        assert_eq!(f.target(&format!("snapshots/s/{time}")).as_deref(), Some(name), "{time}");
    }
    // One a day, and what no calendar can tell apart by days counts as of one.
    let listed = f.names("at");
    assert!(listed.iter().all(|name| names.contains(&name.as_str())), "{listed:?}");
    assert!(listed.contains(&names[4].to_owned()), "{listed:?}");
}

/// A snapshot that claims to be from after the store received it is from then.
#[test]
fn a_clamped_snapshot_is_named_and_shown_by_its_receipt() {
    let library = TestLibrary::new();
    library.publish("s", time(-60), &version("before"));
    let received = (time(86_400 * 365), time(-30));
    library.publish_received("s", received, &version("clamped"), Cut::default());
    // Within the second of the receipt nothing contradicts it.
    let honest = UnixTime::new(NOON - 10, 700_000_000);
    library.publish_received("s", (honest, time(-10)), &version("honest"), Cut::default());
    let f = over(library);
    let names = [
        "2026-11-20T11-59-00.000000000Z",
        "2026-11-20T11-59-30.000000000Z",
        "2026-11-20T11-59-50.700000000Z",
    ];
    assert_eq!(f.names("snapshots/s"), names);
    assert_eq!(f.names(&format!("at/{}/s", names[1])), ["clamped", "version"]);
    assert_eq!(f.target("at/2026-11-20T11-59-29.999999999Z").as_deref(), Some(names[0]));
    assert_eq!(f.target("at/2026-11-20T11-59-50.699999999Z").as_deref(), Some(names[1]));
    assert_eq!(f.target("at/2027-12").as_deref(), Some(names[2]));
}

/// A late snapshot of the same instant takes the name of a pair, and no link to the pair that
/// had it leads to the other.
#[test]
fn a_pair_whose_name_was_taken_has_another_and_links_know_it() {
    let library = TestLibrary::new();
    let publish = |taken: i64, receipt: i64, text: &str| {
        let times = (time(taken), time(receipt));
        library.publish_received("s", times, &version(text), Cut::default());
    };
    publish(-100, -99, "zero");
    publish(-60, -50, "one");
    let f = over(Arc::clone(&library));
    let [zero, name] = [time(-100), time(-60)].map(instant_name);
    let own = format!("{zero}..{name}");
    let link = format!("changes/s/{}..now", time(-100).to_seconds());
    assert_eq!(f.target(&link), Some(own.clone()));
    let (number, pair) = (f.ino(&link), f.ino(&format!("changes/s/{own}")));

    publish(-60, -40, "two");
    f.namespace.refresh().unwrap();
    assert_eq!(f.target(&link), Some(own.clone()));
    assert_eq!(f.names(&format!("changes/s/{own}/after")), ["two", "version"]);
    let old = format!("{name}~{}", id(2));
    let link = format!("changes/s/{}..{old}", time(-100).to_seconds());
    assert_eq!(f.target(&link), Some(format!("{zero}..{old}")));
    assert_eq!(f.names(&format!("changes/s/{zero}..{old}/after")), ["one", "version"]);
    let numbers = [f.ino(&link), f.ino(&format!("changes/s/{own}"))];
    assert!(numbers.iter().all(|new| ![number, pair].contains(new)), "{numbers:?}");
    let side = f.namespace.lookup(pair, b"after", Reach::Store).unwrap().item.unwrap();
    assert!(f.namespace.lookup(side.ino(), b"one", Reach::Store).unwrap().item.is_some());
}

/// Ties in a source go by receipt, then by id; in several sources there are none.
#[test]
fn of_equal_instants_of_a_source_the_last_received_is_shown() {
    let library = TestLibrary::new();
    let publish = |source: &str, receipt: i64, text: &str| {
        let times = (time(-60), time(receipt));
        library.publish_received(source, times, &version(text), Cut::default());
    };
    publish("s", -50, "second");
    publish("s", -59, "first");
    publish("t", -55, "other source");
    let f = over(Arc::clone(&library));
    let name = "2026-11-20T11-59-00.000000000Z";
    assert_eq!(f.names("at"), [name]);
    assert_eq!(f.names(&format!("at/{name}/s")), ["second", "version"]);
    assert_eq!(f.names(&format!("at/{name}/t")), ["other source", "version"]);
    assert_eq!(f.names("snapshots/s"), [format!("{name}~{}", id(2)), name.to_owned()]);
    let pair = f.names("changes/s").remove(0);
    assert_eq!(pair, format!("{name}~{}..{name}", id(2)));
    // Of equal receipts too the greater id is the later; whoever is inside stays.
    let inside = f.ino(&format!("at/{name}"));
    publish("s", -50, "third");
    let changes = f.namespace.refresh().unwrap().unwrap();
    // Each name is believed for a while, so the kernel must be told.
    for (dir, name) in
        [(AT, name), (f.ino("snapshots/s"), name), (f.ino("changes/s"), pair.as_str())]
    {
        assert!(changes.entries.contains(&(dir, name.into())), "{name} {changes:?}");
    }
    assert_eq!(f.names(&format!("at/{name}/s")), ["third", "version"]);
    let old = f.namespace.lookup(inside, b"s", Reach::Store).unwrap().item.unwrap();
    assert!(f.namespace.lookup(old.ino(), b"second", Reach::Store).unwrap().item.is_some());
    // Each has its name, and what it was called before is the name of what it was then.
    let names = [format!("{name}~{}", id(2)), format!("{name}~{}", id(1)), name.to_owned()];
    assert_eq!(f.names("snapshots/s"), names);
    assert_eq!(f.names(&format!("snapshots/s/{}", names[1])), ["second", "version"]);
    let pair = format!("changes/s/{}..{name}", names[0]);
    assert_eq!(f.names(&format!("{pair}/before")), ["first", "version"]);
    assert_eq!(f.names(&format!("{pair}/after")), ["third", "version"]);
}
