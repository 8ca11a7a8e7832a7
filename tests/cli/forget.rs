//! `forget`: what is shown, what is refused, and what the configuration file says.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::bench::{Bench, Ran};

/// A snapshot of a source that the store received so many days ago.
fn received(bench: &Bench, source: &str, days_ago: u64, more: &[&str]) -> String {
    let records = || -> BTreeSet<PathBuf> {
        let paths = bench.store().into_iter().map(|(path, _)| path);
        paths.filter(|path| path.to_string_lossy().contains("/log/")).collect()
    };
    let before = records();
    let args = ["backup", "--source", source, "--json", "src"];
    let report = bench.asof(args.iter().chain(more)).exits(0).json();
    for record in records().difference(&before) {
        let file = std::fs::File::options().write(true).open(record).unwrap();
        let now = std::fs::metadata(record).unwrap().modified().unwrap();
        file.set_modified(now - Duration::from_secs(days_ago * 86_400)).unwrap();
    }
    // The index remembers the receipt of what it published.
    std::fs::remove_dir_all(bench.path("cache")).unwrap();
    report["snapshot"].as_str().unwrap().to_owned()
}

fn three_days() -> (Bench, Vec<String>) {
    let bench = Bench::with_repository();
    let ids = [9, 5, 1].map(|days| received(&bench, "s", days, &[])).to_vec();
    (bench, ids)
}

#[test]
fn a_dry_run_shows_every_reason_and_forgets_nothing() {
    let (bench, ids) = three_days();
    let before = bench.store();
    let args = ["forget", "--keep-daily", "2", "--dry-run"];
    let ran = bench.asof(args).exits(0);
    let line = |id: &str| {
        let line = ran.stdout.lines().find(|line| line.contains(&id[..8])).unwrap();
        (line.starts_with("forget"), line.rsplit("  ").next().unwrap().to_owned())
    };
    assert_eq!(line(&ids[0]), (true, "no rule keeps it".to_owned()));
    assert_eq!(line(&ids[1]), (false, "daily 2 of 2".to_owned()));
    assert_eq!(line(&ids[2]), (false, "daily 1 of 2".to_owned()));
    ran.shows("would forget 1 snapshot, keep 2").shows("not before 30d from now");
    assert!(bench.store() == before);
    assert_eq!(bench.snapshots(), 3);

    bench.asof(["forget", "--keep-daily", "2"]).exits(0).shows("forgot 1 snapshot, kept 2");
    assert_eq!(bench.snapshots(), 2);
    bench.asof(["ls", &format!("id:{}", ids[0])]).exits(1).tells("no snapshot has an id");
}

#[test]
fn the_report_in_json_says_what_became_of_each() {
    let (bench, ids) = three_days();
    let args = ["forget", "--keep-within", "5d", "--reason", "room", "--json"];
    let report = bench.asof(args).exits(0).json();
    assert_eq!((&report["kept"], &report["forgotten"]), (&2.into(), &1.into()));
    assert_eq!((&report["phase"], &report["dry_run"]), (&"succeeded".into(), &false.into()));
    assert_eq!(report["grace_seconds"], 30 * 86_400);
    let fates = report["snapshots"].as_array().unwrap();
    assert_eq!(fates.iter().map(|fate| fate["id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
    assert_eq!(fates[0]["forget"], true);
    assert_eq!(
        (&fates[1]["forget"], &fates[1]["reasons"][0]),
        (&false.into(), &"within 5d".into())
    );
}

#[test]
fn the_configuration_file_says_what_is_kept() {
    let (bench, ids) = three_days();
    received(&bench, "t", 9, &[]);
    received(&bench, "t", 5, &[]);
    let run = |text: &str, args: &[&str]| -> Ran {
        bench.write("c.toml", text.as_bytes());
        let args = ["--config", "c.toml", "forget", "--dry-run", "--json"].iter().chain(args);
        bench.asof(args)
    };
    let forgotten = |ran: Ran| ran.exits(0).json()["forgotten"].clone();
    let both = "[retention]\nkeep_daily = 1\n[retention.sources.s]\nkeep_daily = 2\n";
    assert_eq!(forgotten(run(both, &[])), 2);
    assert_eq!(forgotten(run(both, &["--source", "t"])), 1);
    assert_eq!(forgotten(run(both, &["--keep-yearly", "1", "--keep-id", &ids[0][..9]])), 2);
    let profile = "[profiles.p.retention]\nkeep_within = '26w'\n";
    assert_eq!(forgotten(run(&format!("{both}{profile}"), &[])), 0);
    let only = "[retention.sources.t]\nkeep_last = 1\n";
    let report = run(only, &[]).exits(0).json();
    assert_eq!(report["forgotten"], 1);
    assert_eq!(report["snapshots"][0]["reasons"][0], "no policy");
    run("", &[]).exits(2).tells("[retention]");
    run("[retention]\nkeep_dayly = 1", &[]).exits(2).tells("did you mean `keep_daily`?");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (bench, ids) = three_days();
    let by_id = format!("id:{}", ids[0]);
    for (args, part) in [
        (&[][..], "nothing says what to forget"),
        (&["--keep-daily", "0"], "--keep-daily"),
        (&["--keep-within", "6m"], "m are minutes"),
        (&["--keep-within", "1y"], "not a duration"),
        (&["--keep-tag", "none"], "say --allow-empty"),
        (&["s"], "id:"),
        (&[&by_id, "--keep-daily", "1"], "cannot be used with"),
        (&[&by_id, "--source", "s"], "cannot be used with"),
        (&["--source", "a/b", "--keep-daily", "1"], "cannot name a source"),
        (&["--keep-id", "xyz"], "hexadecimal"),
    ] {
        bench.asof(["forget"].iter().chain(args)).exits(2).tells(part);
    }
    bench.asof(["forget", "--source", "t", "--keep-daily", "1"]).exits(1).tells("there are: s");
    assert_eq!(bench.snapshots(), 3);
    bench.asof(["forget", &by_id, &format!("id:{}", ids[1])]).exits(0).shows("named");
    assert_eq!(bench.snapshots(), 1);
    bench.asof(["forget", "--keep-tag", "none", "--allow-empty"]).exits(0);
    assert_eq!(bench.snapshots(), 0);
}

/// Neither a writer key nor a passphrase that only reads.
#[test]
fn only_the_owner_may() {
    let bench = Bench::with_snapshot();
    bench.asof(["key", "export-writer", "w.key"]).exits(0);
    let mut command = bench.command();
    command.env_remove("ASOF_PASSWORD").env("ASOF_WRITER_KEY", "w.key");
    let ran = Ran::of(command.args(["forget", "--keep-last", "1"]).output().unwrap());
    ran.exits(2).tells("a writer key can only back up");
    bench.write("new", b"second\n");
    let add = ["key", "add", "--read-only", "--new-password-file", "new", "--kdf-cost", "least"];
    bench.asof(add).exits(0);
    let run = |args: &[&str]| {
        let mut command = bench.command();
        Ran::of(command.env("ASOF_PASSWORD", "second").args(args).output().unwrap())
    };
    run(&["forget", "--keep-last", "1"]).exits(1).tells("owner");
    run(&["forget", "--keep-last", "1", "--dry-run"]).exits(0).shows("last 1 of 1");
}

#[test]
fn a_snapshot_says_when_it_expires() {
    let bench = Bench::with_repository();
    let at = |more: &[&str]| {
        let args = ["backup", "--source", "s", "src"].iter().chain(more).copied();
        bench.asof(args.collect::<Vec<_>>())
    };
    at(&["--expires-at", "2020-01-01"]).exits(2).tells("a time to come");
    at(&["--expires-at", "2999", "--expires-in", "3d"]).exits(2).tells("cannot be used with");
    at(&["--expires-at", "2999-01-01T10:15"]).exits(0);
    bench.asof(["snapshots"]).exits(0).shows("(expires 2999-01-01 10:15:59)");
    bench.asof(["stat", "s:/hello"]).exits(0).shows("expires").shows("2999-01-01 10:15:59");
    let stat = bench.asof(["stat", "s:/hello", "--json"]).exits(0).json();
    assert!(stat["expires"].as_str().unwrap().starts_with("2999-01-01T10:15:59"));
    at(&["--expires-in", "36h"]).exits(0);
    let listed = bench.asof(["snapshots", "--json"]).exits(0).json();
    let end = listed["snapshots"][1]["expires"].as_str().unwrap().to_owned();
    let end = SystemTime::from(end.parse::<jiff::Timestamp>().unwrap());
    let taken = listed["snapshots"][1]["taken"].as_str().unwrap().to_owned();
    let taken = SystemTime::from(taken.parse::<jiff::Timestamp>().unwrap());
    // It is counted from when the command began.
    assert!(end <= taken + Duration::from_secs(36 * 3600) && end > taken);
    // Nothing else says what to forget, and nothing has expired yet.
    bench.asof(["forget"]).exits(0).shows("forgot 0 snapshots, kept 2").shows("no policy");
}
