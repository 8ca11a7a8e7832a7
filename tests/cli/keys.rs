//! `init` and `key`: who may open a repository, and with what.

use std::os::unix::fs::PermissionsExt;

use crate::bench::{Bench, OLD_FILES, Ran};

fn run_with(bench: &Bench, passphrase: &str, args: &[&str]) -> Ran {
    Ran::of(bench.command().env("ASOF_PASSWORD", passphrase).args(args).output().unwrap())
}

#[test]
fn init_says_what_to_keep_safe_and_what_comes_next() {
    let bench = Bench::new();
    let ran = bench.asof(["init", "--kdf-cost", "least"]).exits(0);
    ran.shows("Keep safe")
        .shows("passphrase")
        .shows("key export")
        .shows("format version 1: every later asof reads it")
        .shows("backup");
    bench.asof(["init"]).exits(1).tells("already");
    let other = ["-r", "other", "init", "--unencrypted", "--kdf-cost", "least", "--json"];
    let report = bench.asof(other).exits(0).json();
    assert_eq!((&report["encrypted"], &report["format_version"]), (&false.into(), &1.into()));
    // Reading needs no passphrase then.
    let mut read = bench.command();
    read.env_remove("ASOF_PASSWORD").args(["-r", "other", "snapshots"]);
    Ran::of(read.output().unwrap()).exits(0);
}

#[test]
fn an_empty_passphrase_is_refused_and_nothing_is_left_behind() {
    let bench = Bench::new();
    let empty = bench.write("empty", b"\n");
    let file = ["--password-file".as_ref(), empty.as_os_str(), "init".as_ref()];
    bench.asof(file).exits(2).tells("empty passphrase");
    assert!(!bench.path("repo").exists());
}

/// The two times are part of the repository, and what cannot work makes none.
#[test]
fn the_grace_period_and_the_skew_are_chosen_at_init() {
    let bench = Bench::new();
    let init = |args: &[&str]| bench.asof([&["init", "--kdf-cost", "least"], args].concat());
    init(&["--grace", "1h"]).exits(2).tells("--skew 450s or less, or --grace 8h or more");
    init(&["--skew", "0s"]).exits(2).tells("at least 1s");
    assert!(!bench.path("repo").exists());
    let report = init(&["--grace", "1h", "--skew", "450s", "--json"]).exits(0).json();
    assert_eq!((&report["grace_seconds"], &report["skew_seconds"]), (&3600.into(), &450.into()));
    let config = std::fs::read_to_string(bench.path("repo/asof.json")).unwrap();
    assert!(config.contains("\"grace_seconds\": 3600") && config.contains("\"skew_seconds\": 450"));
    bench.backup().exits(0);
}

#[test]
fn keys_are_added_changed_and_removed() {
    let bench = Bench::with_snapshot();
    bench.write("new", b"second\n");
    bench.write("newer", b"third\n");
    let cheap = ["--kdf-cost", "least"];
    let add = ["key", "add", "--read-only", "--label", "web", "--new-password-file", "new"];
    bench.asof(add.into_iter().chain(cheap)).exits(0);
    bench.asof(["key", "list"]).exits(0).shows("read, write, change").shows("web");
    // It reads, and neither writes nor changes.
    run_with(&bench, "second", &["cat", "s:/hello"]).exits(0).shows("hello");
    run_with(&bench, "second", &["backup", "--source", "s", "src"]).exits(1).tells("needs");
    run_with(&bench, "second", &["key", "remove", "00"]).exits(1);

    let passwd = ["key", "passwd", "--new-password-file", "newer", "--kdf-cost", "least"];
    run_with(&bench, "second", &passwd).exits(0);
    run_with(&bench, "second", &["snapshots"]).exits(12);
    run_with(&bench, "third", &["snapshots"]).exits(0);

    let listed = bench.asof(["key", "list", "--json"]).exits(0).json();
    let keys = listed["keys"].as_array().unwrap().clone();
    let id = |role: &str| {
        let key = keys.iter().find(|key| key["role"] == role).unwrap();
        key["id"].as_str().unwrap().to_owned()
    };
    bench.asof(["key", "remove", &id("owner")]).exits(1).tells("last key of the owner");
    bench.asof(["key", "remove", &id("reader")]).exits(0);
    run_with(&bench, "third", &["snapshots"]).exits(12);
}

/// Losing `keys/` is the end of a repository, unless there is a paper copy.
#[test]
fn a_paper_copy_brings_a_repository_back() {
    let bench = Bench::with_snapshot();
    let copy = bench.asof(["key", "export"]).exits(0).shows("BEGIN ASOF KEY").stdout;
    std::fs::remove_dir_all(bench.path("repo/keys")).unwrap();
    bench.asof(["snapshots"]).exits(10).tells("keys/");
    bench.write("copy", copy.as_bytes());
    bench.asof(["key", "import", "copy"]).exits(0);
    assert_eq!(bench.snapshots(), 1);
    bench.write("copy", copy.replace("\"sealed\": \"", "\"sealed\": \"00").as_bytes());
    bench.write("none", b"no key at all");
    bench.asof(["key", "import", "none"]).exits(4).tells("key file");
}

/// A writer key backs up, twice and incrementally, without a passphrase, and nothing else.
#[test]
fn a_writer_key_backs_up_and_does_nothing_else() {
    let bench = Bench::with_repository();
    bench.asof(["key", "export-writer", "--source", "s", "w.key"]).exits(0).shows("source s");
    let mode = std::fs::metadata(bench.path("w.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    bench.asof(["key", "export-writer", "w.key"]).exits(2).tells("exists");
    let run = |args: &[&str]| {
        let mut command = bench.command();
        command.env_remove("ASOF_PASSWORD").env("ASOF_CACHE_DIR", bench.path("writer-cache"));
        Ran::of(command.env("ASOF_WRITER_KEY", "w.key").args(args).output().unwrap())
    };
    let args = ["backup", "--source", "s", "--json", OLD_FILES];
    let first = run(&args).exits(0).json();
    let second = run(&args).exits(0).json();
    assert!(first["counts"]["new"].as_u64().unwrap() > 3);
    assert_eq!(second["counts"]["unchanged"], first["counts"]["new"]);
    assert_eq!((&second["requests"]["gets"], &second["requests"]["lists"]), (&0.into(), &0.into()));
    run(&["backup", "--source", "other", "src"]).exits(1).tells("export-writer");
    run(&["snapshots"]).exits(2).tells("a writer key can only back up");
    assert_eq!(bench.snapshots(), 2);
    bench.asof(["cat", "s:/kind.rs"]).exits(0).shows("Kind");
}
