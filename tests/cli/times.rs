//! Times as they are typed: every form after `@` and as a name under `at/`, and zones.

use std::path::Path;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::bench::{Bench, Ran};

/// Two snapshots, of which a file tells which is which, and when the first was taken.
fn two() -> (Bench, Timestamp) {
    let bench = Bench::with_repository();
    bench.write("src/version", b"1");
    bench.backup().exits(0);
    let listed = bench.asof(["snapshots", "--json"]).exits(0).json();
    let taken = listed["snapshots"][0]["shown_from"].as_str().unwrap().parse().unwrap();
    bench.write("src/version", b"2");
    bench.backup().exits(0);
    (bench, taken)
}

/// What a form of a time means.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Is {
    First,
    Second,
    /// Before the first.
    Before,
    /// A time that there is not, or that is two.
    NoTime,
}

/// Every form of a time, with what it means when the first snapshot was taken at `first`.
/// Zones are written as in a name, without a slash.
fn forms(first: Timestamp) -> Vec<(String, Is)> {
    let utc = |at: Timestamp, form: &str| at.strftime(form).to_string();
    let just_before = first - 1.nanosecond();
    let mut forms: Vec<(String, Is)> = [
        ("9999", Is::Second),
        ("9999-12-31T23:59:59.999999999-23:59", Is::Second),
        ("@9223372036854775807", Is::Second),
        ("@253402300800", Is::Second),
        ("now", Is::Second),
        ("today", Is::Second),
        ("0s-ago", Is::Second),
        ("1d-ago", Is::Before),
        ("1h30m-ago", Is::Before),
        ("2mo-ago", Is::Before),
        ("1970", Is::Before),
        ("0001", Is::Before),
        ("@0", Is::Before),
        ("@-1.5", Is::Before),
        ("@-9223372036854775808", Is::Before),
        ("2016-12-31T23:59:60Z", Is::Before),
        ("2016-12-31T23:58:60Z", Is::NoTime),
        ("0000", Is::NoTime),
        ("2026-02-30", Is::NoTime),
        ("2026-13", Is::NoTime),
        ("2026-11-20T24:00", Is::NoTime),
        ("@9223372036854775808", Is::NoTime),
        ("tomorrow", Is::NoTime),
        ("2026-11-20T10:15[Mars.Olympus]", Is::NoTime),
    ]
    .map(|(text, is)| (text.to_owned(), is))
    .into();
    for (at, is) in [(first, Is::First), (just_before, Is::Before)] {
        for form in [
            "%Y-%m-%dT%H:%M:%S.%NZ",
            "%Y-%m-%dt%H:%M:%S.%Nz",
            "%Y-%m-%dT%H-%M-%S.%NZ",
            "%Y-%m-%d %H:%M:%S.%N",
            "%Y-%m-%d %H:%M:%S.%N +0000",
            "%Y-%m-%dT%H-%M-%S.%N+00-00",
            "%Y-%m-%dT%H:%M:%S.%N[UTC]",
            "%Y-%m-%dT%H:%M:%S.%N999Z",
        ] {
            forms.push((utc(at, form), is));
        }
        let east = at.to_zoned(TimeZone::fixed(jiff::tz::offset(5)));
        forms.push((east.strftime("%Y-%m-%dT%H:%M:%S.%N+05:00").to_string(), is));
        let nanos = at.as_nanosecond();
        forms.push((format!("@{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000), is));
    }
    let day = first - 24.hours();
    for form in ["%Y-%m-%d", "%Y-%m-%dT%H", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H-%M-%SZ"] {
        forms.push((utc(day, form), Is::Before));
        forms.push((utc(first + 24.hours(), form), Is::Second));
    }
    if has_zones() {
        let berlin = first.to_zoned(TimeZone::get("Europe/Berlin").unwrap());
        let form = "%Y-%m-%dT%H:%M:%S.%N%:z[Europe.Berlin]";
        forms.push((berlin.strftime(form).to_string(), Is::First));
        forms.extend(
            [
                ("2026-03-29T02:30[Europe.Berlin]", Is::NoTime),
                ("2026-03-29T02:30+01:00[Europe.Berlin]", Is::NoTime),
                ("2020-10-25T02:30[Europe.Berlin]", Is::NoTime),
                ("2020-10-25T02:30+01:00[Europe.Berlin]", Is::Before),
                ("2020-10-25T02:30+02:00[Europe.Berlin]", Is::Before),
            ]
            .map(|(text, is)| (text.to_owned(), is)),
        );
    }
    forms
}

/// Whether this machine knows zones by name.
fn has_zones() -> bool {
    let has = TimeZone::get("Europe/Berlin").is_ok();
    if !has {
        eprintln!("NOT RUN: this machine has no zone database, so zones by name are not tested");
    }
    has
}

#[test]
fn every_form_selects_on_the_command_line_what_its_name_shows_in_the_mount() {
    let (bench, first) = two();
    let can_mount = Path::new("/dev/fuse").exists();
    if can_mount {
        std::fs::create_dir(bench.path("m")).unwrap();
        bench.asof(["mount", "m"]).exits(0);
    } else {
        eprintln!("NOT RUN: there is no /dev/fuse here, so nothing was mounted");
    }
    let mut wrong = Vec::new();
    for (text, is) in forms(first) {
        let ran = bench.asof(["cat", &format!("s@{text}:/version")]);
        let selected = match (ran.code, ran.stdout.as_str()) {
            (Some(0), "1") => Is::First,
            (Some(0), "2") => Is::Second,
            (Some(1), "") if ran.stderr.contains("its first is of") => Is::Before,
            (Some(2), "") => Is::NoTime,
            _ => panic!("{text}: {:?} {}{}", ran.code, ran.stdout, ran.stderr),
        };
        let shown = can_mount.then(|| {
            let file = bench.path("m/at").join(&text).join("s/version");
            match std::fs::read_to_string(file).as_deref() {
                Ok("1") => Is::First,
                Ok("2") => Is::Second,
                // Why there is no such name the mount cannot say.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => match is {
                    Is::NoTime => is,
                    _ => Is::Before,
                },
                other => panic!("{text}: {other:?}"),
            }
        });
        if selected != is || shown.is_some_and(|shown| shown != is) {
            wrong.push(format!("{text} is {is:?}: selected {selected:?}, shown {shown:?}"));
        }
    }
    if can_mount {
        bench.asof(["umount", "m"]).exits(0);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What cannot be a time says what would work.
#[test]
fn times_that_are_none_say_what_to_write() {
    let (bench, _) = two();
    let tells = |time: &str, part: &str| {
        bench.asof(["ls", &format!("s@{time}")]).exits(2).tells(part);
    };
    tells("tomorrow", "is not a time; write one as");
    tells("2026-02-29", "2026-02 has 28 days");
    tells("2026-11-20T10:15:60Z", "second 60 exists only at the end of a day in UTC");
    tells("0000-01-01", "years are 0001 to 9999");
    tells("@9223372036854775808", "seconds have 64 bits");
    if !has_zones() {
        return;
    }
    let zone = "[Europe/Berlin]";
    tells(&format!("2026-03-29T02:30{zone}"), "write 2026-03-29T00-59-59Z for the moment before");
    tells(&format!("2026-10-25T02:30{zone}"), "write 2026-10-25T00-30-59Z for the first time");
    tells(&format!("2026-07-20T02:30+01:00{zone}"), "Europe/Berlin was at +02:00 then");
}

/// The zone of the machine is what `TZ` says; if it says nothing that can be understood,
/// no day is guessed, and a backup is made all the same.
#[test]
fn odd_values_of_tz_are_understood_or_told() {
    let (bench, first) = two();
    let run = |tz: Option<&str>, args: &[&str]| {
        let mut command = bench.command();
        command.env_remove("ASOF_TIMEZONE").args(args);
        if let Some(tz) = tz {
            command.env("TZ", tz);
        }
        Ran::of(command.output().unwrap())
    };
    // When the first snapshot was taken, as clocks twelve hours east showed it: to others that
    // is to come.
    let east = first.to_zoned(TimeZone::fixed(jiff::tz::offset(12)));
    let selector = format!("s@{}:/version", east.strftime("%Y-%m-%dT%H:%M:%S.%N"));
    for tz in ["<+12>-12", "XYZ-12"] {
        assert_eq!(run(Some(tz), &["cat", &selector]).exits(0).stdout, "1", "{tz}");
    }
    for tz in ["UTC", "", "UTC0"] {
        assert_eq!(run(Some(tz), &["cat", &selector]).exits(0).stdout, "2", "{tz}");
    }
    if has_zones() {
        for tz in ["Etc/GMT-12", ":Etc/GMT-12", "/usr/share/zoneinfo/Etc/GMT-12"] {
            assert_eq!(run(Some(tz), &["cat", &selector]).exits(0).stdout, "1", "{tz}");
        }
    }
    run(None, &["ls", "s@today"]).exits(0);
    for tz in ["Mars/Olympus", ":", "/etc/passwd", "CET-"] {
        run(Some(tz), &["cat", &selector]).exits(2).tells("the environment variable TZ is");
        assert_eq!(run(Some(tz), &["cat", &selector, "--timezone=+12"]).exits(0).stdout, "1");
        run(Some(tz), &["backup", "--source", "s", "src"]).exits(0).tells("shown in UTC");
    }
    // Said by whoever typed it, it is an error before anything is done.
    let before = bench.snapshots();
    let zone = "--timezone=Mars";
    run(None, &["backup", "--source", "s", "src", zone]).exits(2).tells("no time zone `Mars`");
    assert_eq!(bench.snapshots(), before);
}
