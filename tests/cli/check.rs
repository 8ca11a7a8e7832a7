//! `check`: what is told, and the exit code.

use std::path::PathBuf;

use crate::bench::{Bench, Ran};

/// The packs of the store, the largest last: that has the data.
fn packs(bench: &Bench) -> Vec<PathBuf> {
    let mut packs: Vec<_> = bench.store().into_iter().filter(|(path, _)| in_packs(path)).collect();
    packs.sort_by_key(|(_, bytes)| bytes.len());
    packs.into_iter().map(|(path, _)| path).collect()
}

fn in_packs(path: &std::path::Path) -> bool {
    path.components().any(|part| part.as_os_str() == "packs")
}

#[test]
fn a_whole_repository_passes_every_check() {
    let bench = Bench::with_snapshot();
    bench.backup().exits(0);
    bench.asof(["check"]).exits(0).shows("no damage was found").shows("2 snapshots");
    let read = bench.asof(["check", "--read-data", "--json"]).exits(0).json();
    assert_eq!((&read["packs"], &read["packs_read"]), (&3.into(), &3.into()));
    assert_eq!((&read["damaged_objects"], &read["phase"]), (&0.into(), &"succeeded".into()));
    bench
        .asof(["check", "--read-data", "--max-age", "1d"])
        .exits(0)
        .shows("0 packs read whole")
        .shows("left out, found whole lately");
    bench.asof(["check", "--read-data-subset", "50%"]).exits(0).shows("read whole");
    bench.asof(["check", "--read-data-subset", "1/1"]).exits(0).shows("read whole");
    bench.asof(["check", "--store-only"]).exits(0).shows("every object is what its name says");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let bench = Bench::with_snapshot();
    bench.asof(["check", "--read-data-subset", "0%"]).exits(2).tells("is no part");
    bench.asof(["check", "--read-data", "--store-only"]).exits(2);
    bench.asof(["check", "--max-age", "1d"]).exits(2).tells("--read-data");
    bench.asof(["-r", "nowhere", "check", "--store-only"]).exits(10);
}

#[test]
fn damage_is_named_with_what_it_costs() {
    let bench = Bench::with_snapshot();
    bench.backup().exits(0);
    let data = packs(&bench).pop().unwrap();
    let good = std::fs::read(&data).unwrap();
    let name = data.file_name().unwrap().to_str().unwrap().to_owned();
    let mut bad = good.clone();
    bad[5000] ^= 1;
    bench.write(data.to_str().unwrap(), &bad);
    bench.asof(["check"]).exits(0);
    let ran = bench.asof(["check", "--read-data"]).exits(4);
    ran.shows(&name)
        .shows("2 snapshots of s")
        .shows("s:/large")
        .shows("2 of 2 snapshots cannot be restored whole")
        .tells("its bytes are not what its name says")
        .tells("asof backup --force");
    let report = bench.asof(["check", "--read-data", "--json"]).exits(4).json();
    assert_eq!((&report["phase"], &report["reason"]), (&"succeeded".into(), &"damaged".into()));
    let damaged = &report["damaged"][0];
    assert!(damaged["object"].as_str().unwrap().ends_with(&name));
    assert_eq!(damaged["files"], serde_json::json!(["s:/large"]));
    assert_eq!(damaged["files_concerned"], 1);
    assert_eq!(damaged["sources"][0]["source"], "s");
    assert_eq!(damaged["sources"][0]["snapshots"], 2);

    // Who holds the disks needs no key.
    let mut command = bench.command();
    command.env_remove("ASOF_PASSWORD").args(["check", "--store-only", "--json"]);
    let alone = Ran::of(command.output().unwrap()).exits(4).json();
    assert!(alone["damaged"][0]["subject"].as_str().unwrap().ends_with(&name));

    std::fs::remove_file(&data).unwrap();
    bench.asof(["check"]).exits(4).shows("it is not in the store").shows("s:/large");
    bench.write(data.to_str().unwrap(), &good);
    bench.asof(["check", "--read-data"]).exits(0);
}
