//! `verify-log`: what is told, as text and as JSON, and the exit code.

use std::path::PathBuf;

use crate::bench::{Bench, Ran};

/// The records of the store.
fn records(bench: &Bench) -> Vec<PathBuf> {
    let store = bench.store().into_iter().map(|(path, _)| path);
    store.filter(|path| path.to_string_lossy().contains("/log/")).collect()
}

#[test]
fn a_whole_log_passes_and_is_listed_if_asked_for() {
    let bench = Bench::with_snapshot();
    bench.asof(["backup", "--source", "t", "src"]).exits(0);
    bench
        .asof(["verify-log"])
        .exits(0)
        .shows("what is in the log is true")
        .shows("2 records, 2 chains, 1 writer, 0 findings")
        .shows("compared with no earlier run");
    let all = bench.asof(["verify-log", "--all"]).exits(0);
    all.shows("CLAIMED")
        .shows("RECEIVED")
        .shows("owner")
        .shows("1 snapshot, of s")
        .shows("compared with what was seen at");
    let report = bench.asof(["verify-log", "--all", "--json"]).exits(0).json();
    assert_eq!((&report["records"], &report["problems"]), (&2.into(), &0.into()));
    assert_eq!((&report["phase"], &report["reason"]), (&"succeeded".into(), &().into()));
    assert_eq!(report["log"].as_array().unwrap().len(), 2);
    assert_eq!(report["log"][0]["facts"]["snapshot"], 1);
    assert_eq!(report["writers"][0]["owner"], true);
    assert!(report["heads"]["since"].is_string());
}

#[test]
fn tampering_is_named_and_ends_with_4() {
    let bench = Bench::with_snapshot();
    let first = records(&bench);
    bench.asof(["backup", "--source", "t", "src"]).exits(0);
    bench.asof(["verify-log"]).exits(0);
    let second = records(&bench).into_iter().find(|path| !first.contains(path)).unwrap();
    let name = second.file_name().unwrap().to_str().unwrap().to_owned();
    let good = std::fs::read(&second).unwrap();
    // Flipped.
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    bench.write(second.to_str().unwrap(), &bad);
    bench
        .asof(["verify-log"])
        .exits(4)
        .shows("problem")
        .shows("altered")
        .shows(&name[..19])
        .shows("1 problem in the log")
        .tells("asof check");
    // Gone, also for a machine whose index was made anew.
    std::fs::remove_file(&second).unwrap();
    bench.asof(["index", "rebuild"]);
    let gone = bench.asof(["verify-log"]).exits(4);
    gone.shows("chain-gone").shows(&name[..19]).tells("--new-heads");
    let report = bench.asof(["verify-log", "--json"]).exits(4).json();
    assert_eq!((&report["phase"], &report["reason"]), (&"succeeded".into(), &"damaged".into()));
    let found = &report["findings"][0];
    assert_eq!((&found["kind"], &found["severity"]), (&"chain-gone".into(), &"problem".into()));
    assert_eq!(found["object"], format!("log/{name}"));
    assert_eq!(report["kinds"]["chain-gone"], 1);
    // On purpose.
    bench.asof(["verify-log", "--new-heads"]).exits(0);
    bench.asof(["verify-log"]).exits(0);
    bench.write(second.to_str().unwrap(), &good);
    bench.asof(["verify-log"]).exits(0);
}

#[test]
fn damaged_heads_are_named_with_what_to_do() {
    let bench = Bench::with_snapshot();
    let report = bench.asof(["verify-log", "--json"]).exits(0).json();
    let file = report["heads"]["file"].as_str().unwrap().to_owned();
    bench.write(&file, b"asof-heads 0\n");
    bench.asof(["verify-log"]).exits(1).tells(&file).tells("damaged").tells("--new-heads");
    let report = bench.asof(["verify-log", "--json"]).exits(1).json();
    assert_eq!(report["phase"], "failed");
    bench.asof(["verify-log", "--new-heads"]).exits(0);
    bench.asof(["verify-log"]).exits(0);
}

#[test]
fn a_passphrase_is_needed_unless_nothing_is_sealed() {
    let bench = Bench::with_snapshot();
    let mut command = bench.command();
    command.env_remove("ASOF_PASSWORD").arg("verify-log");
    Ran::of(command.output().unwrap()).exits(2).tells("ASOF_PASSWORD");
    let open = ["-r", "open", "init", "--unencrypted", "--kdf-cost", "least"];
    bench.asof(open).exits(0);
    let mut command = bench.command();
    command.env_remove("ASOF_PASSWORD").args(["-r", "open", "verify-log"]);
    Ran::of(command.output().unwrap()).exits(0).shows("0 records");
}

/// Each backup is a chain of its own, but it names the one that it was compared with: that shows
/// also to a machine that never saw the log before.
#[test]
fn a_backup_that_was_deleted_is_missed_by_the_next_one() {
    let bench = Bench::with_snapshot();
    let mut logs = vec![records(&bench)];
    for n in 0..3 {
        bench.write("src/hello", format!("{n}").as_bytes());
        bench.backup().exits(0);
        logs.push(records(&bench));
    }
    let listed = bench.asof(["snapshots", "--json"]).exits(0).json();
    let id = |n: usize| listed["snapshots"][n]["id"].as_str().unwrap().to_owned();
    // The word that one is forgotten is enough.
    bench.asof(["forget", &format!("id:{}", id(0))]).exits(0);
    let forget = || std::fs::remove_dir_all(bench.path("cache")).unwrap();
    forget();
    bench.asof(["verify-log"]).exits(0);
    let third = logs[2].iter().find(|record| !logs[1].contains(record)).unwrap();
    std::fs::remove_file(third).unwrap();
    forget();
    let shown = bench.asof(["verify-log"]).exits(4);
    shown.shows("snapshot-gone").shows(&id(2)).shows("1 problem in the log");
}
