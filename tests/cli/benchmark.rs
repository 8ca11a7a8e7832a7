//! `scripts/bench` on a tiny corpus: that every measure comes out, not how fast anything is.
//!
//! It forgets the page cache and mounts, so it needs root and `/dev/fuse`, and says so.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::bench::{Bench, Ran};

/// What is measured without another program, by the tables that it is in.
const LINES: [(&str, &str); 5] = [
    (
        "peers",
        "backup stored unchanged unlock mount mount-cold mount-many find find-again tar cat \
         cat-again random restore cp rsync backup-peak restore-peak mount-peak",
    ),
    ("limit", "limit-tar limit-cp"),
    ("requests", "gets-cat gets-find"),
    (
        "growth",
        "files-backup files-unchanged files-find files-find-again files-tar files-restore files-cp \
         files-backup-peak files-restore-peak files-mount-peak start-snapshots \
         start-more-snapshots start-chunks increments-find increments-tar",
    ),
    (
        "past",
        "past-at past-history past-list past-list-again past-diff past-diff-all past-find \
         past-index past-peak",
    ),
];
/// The same, if there is a bucket.
const BUCKET: &str = "bucket-backup bucket-restore bucket-backup-peak bucket-restore-peak far-mount \
                      far-cat far-tar far-mount-peak";

/// The examples that it runs.
const TOOLS: [&str; 3] = ["nothing", "generate", "floors"];

/// The lines that have a floor beside them.
const FLOORS: &str = "backup mount mount-many tar cat cat-again random restore cp rsync limit-tar";

#[test]
fn the_benchmark_fills_every_line_of_its_tables() {
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
        eprintln!("NOT RUN: the benchmark needs root and /dev/fuse");
        return;
    }
    let bench = Bench::new();
    let program = Path::new(env!("CARGO_BIN_EXE_asof"));
    let examples = program.with_file_name("examples");
    build_examples(program);
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/bench"));
    command.env("ASOF", program);
    for tool in TOOLS {
        command.env(tool.to_uppercase(), examples.join(tool));
    }
    for peer in ["RESTIC", "RUSTIC", "BORG", "BUPSTASH"] {
        command.env(peer, "no-such-program");
    }
    command.args(["--scale", "small", "--runs", "1", "--growth", "--dir"]).arg(bench.path("bench"));
    let bucket = std::env::var_os("ASOF_TEST_S3_ENDPOINT").is_some();
    if !bucket {
        // It would start a cluster of its own, if it can.
        command.arg("--no-bucket");
    }
    let ran = Ran::of(command.output().unwrap()).exits(0);
    let text = std::fs::read(bench.path("bench/bench.json")).unwrap();
    let told: Value = serde_json::from_slice(&text).unwrap();
    for (group, lines) in LINES {
        let more = if bucket && group == "peers" { BUCKET } else { "" };
        for line in lines.split(' ').chain(more.split_whitespace()) {
            let found = &told["measures"][group][line];
            assert!(found["asof"].is_number(), "{line}: {found}");
            ran.stdout
                .lines()
                .find(|row| row.contains(found["title"].as_str().unwrap()) && row.starts_with("| "))
                .unwrap_or_else(|| panic!("{line} has no row in:\n{}", ran.stdout));
            // What has a unit of its own, and not another program's, is compared with it.
            if !["peers", "past"].contains(&group) {
                assert!(found["ratio"].is_number(), "{line}: {found}");
            }
        }
    }
    let more = if bucket { " bucket-backup" } else { "" };
    for line in FLOORS.split(' ').chain(more.split_whitespace()) {
        let found = &told["floors"][line];
        assert!(found["floor"].as_f64().is_some_and(|floor| floor > 0.0), "{line}: {found}");
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(bench.path("bench").to_str().unwrap()), "{mounts}");
}

/// `cargo test` builds them with all tests, and leaves them out when it is asked for some.
fn build_examples(program: &Path) {
    let profile = program.parent().unwrap();
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--quiet"]);
    for tool in TOOLS {
        command.args(["--example", tool]);
    }
    command.arg("--target-dir").arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        command.arg("--release");
    }
    Ran::of(command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()).exits(0);
}
