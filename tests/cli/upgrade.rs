//! `upgrade`: what is said before, by it, and after.

use std::path::Path;

use crate::bench::{Bench, Ran};

/// A repository that version 0 of the format made.
fn old() -> Bench {
    let bench = Bench::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v0-encrypted/store");
    let mut copy = std::process::Command::new("cp");
    let copied = copy.arg("-r").arg(golden).arg(bench.path("repo")).status();
    assert!(copied.unwrap().success());
    bench
}

fn run(bench: &Bench, args: &[&str]) -> Ran {
    Ran::of(bench.command().env("ASOF_PASSWORD", "correct horse").args(args).output().unwrap())
}

#[test]
fn an_old_repository_says_what_it_needs_and_is_upgraded_once() {
    let bench = old();
    run(&bench, &["snapshots"]).exits(0).shows("words");
    for args in [&["gc"][..], &["forget", "--keep-last", "1"]] {
        let needs =
            "needs format version 1, and the repository is of version 0: run `asof upgrade`";
        run(&bench, args).exits(1).tells(needs);
    }
    Ran::of(bench.command().env("ASOF_PASSWORD", "wrong").arg("upgrade").output().unwrap())
        .exits(12);
    run(&bench, &["upgrade"]).exits(0).shows("upgraded the repository to format version 1");
    let report = run(&bench, &["upgrade", "--json"]).exits(0).json();
    assert_eq!((&report["upgraded"], &report["format_version"]), (&false.into(), &1.into()));
    run(&bench, &["upgrade"]).exits(0).shows("version 1 already");
    run(&bench, &["backup", "--source", "s", "src"]).exits(0);
    run(&bench, &["forget", "--keep-last", "1", "--source", "s"]).exits(0);
    run(&bench, &["gc"]).exits(0);
    run(&bench, &["check", "--read-data"]).exits(0).shows("no damage was found");
    run(&bench, &["check", "--store-only"]).exits(0);
}

#[test]
fn an_upgrade_that_was_interrupted_is_told_and_finished() {
    let bench = old();
    run(&bench, &["upgrade"]).exits(0);
    std::fs::remove_file(bench.path("repo/asof.json")).unwrap();
    for args in [&["snapshots"][..], &["init"], &["check", "--store-only"]] {
        run(&bench, args).exits(1).tells("is not finished: run `asof upgrade` again");
    }
    run(&bench, &["upgrade"]).exits(0).shows("upgraded the repository");
    run(&bench, &["snapshots"]).exits(0).shows("words");
}
