//! Bad input: how it ends, and what is said.

use crate::bench::{Bench, Ran};

#[test]
fn a_wrong_passphrase_ends_with_12() {
    let bench = Bench::with_repository();
    let mut command = bench.command();
    command.env("ASOF_PASSWORD", "wrong").args(["snapshots", "--json"]);
    let ran = Ran::of(command.output().unwrap()).exits(12).tells("opens no key");
    let report = ran.json();
    assert_eq!((&report["phase"], &report["reason"]), (&"failed".into(), &"wrong-key".into()));
}

#[test]
fn no_repository_ends_with_10_and_says_what_was_looked_for() {
    let bench = Bench::new();
    bench.asof(["snapshots"]).exits(10).tells("repo").tells("asof init");
    std::fs::create_dir(bench.path("repo")).unwrap();
    bench.asof(["backup", "src"]).exits(10).tells("asof.json");
    bench.write("file", b"");
    bench.asof(["-r", "file", "snapshots"]).exits(10).tells("a directory was not found");
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    let bench = Bench::new();
    for args in [
        &[][..],
        &["nonsense"],
        &["ls"],
        &["ls", "a b"],
        &["-r", "gs://bucket", "snapshots"],
        &["--timezone", "Nowhere/Land", "ls", "s"],
        &["--profile", "none", "snapshots"],
        &["backup", "--stdin", "src"],
        &["backup"],
        &["backup", "--command"],
        &["--cache-size", "much", "snapshots"],
        &["init", "--s3-sse", "rot13"],
    ] {
        bench.asof(args).exits(2);
    }
    let mut command = bench.command();
    command.env_remove("ASOF_REPOSITORY").arg("snapshots");
    Ran::of(command.output().unwrap()).exits(2).tells("ASOF_REPOSITORY");
    let mut command = bench.command();
    command.env_remove("ASOF_PASSWORD").arg("init");
    Ran::of(command.output().unwrap()).exits(2).tells("ASOF_PASSWORD");
    assert!(!bench.path("repo").exists());
}

/// What a later version wrote is refused, and nothing of it is touched.
#[test]
fn a_format_of_the_future_is_refused_untouched() {
    let bench = Bench::with_snapshot();
    let text = std::fs::read_to_string(bench.path("repo/asof.json")).unwrap();
    let later = text.replace("\"asof\": 1", "\"asof\": 7");
    assert_ne!(text, later);
    bench.write("repo/asof.json", later.as_bytes());
    let before = bench.store();
    for args in [&["snapshots"][..], &["backup", "--source", "s", "src"], &["key", "list"]] {
        bench.asof(args).exits(1).tells("format version 7").tells("newer asof");
    }
    assert!(bench.store() == before);
}

/// A record that is damaged is named, what it does not hold still reads, and the exit
/// code says that damage was met.
#[test]
fn damage_is_named_and_the_rest_still_reads() {
    let bench = Bench::with_snapshot();
    let records = |bench: &Bench| -> Vec<_> {
        let store = bench.store().into_iter().map(|(path, _)| path);
        store.filter(|path| path.to_string_lossy().contains("/log/")).collect()
    };
    let first = records(&bench);
    bench.asof(["backup", "--source", "t", "src"]).exits(0);
    let second = records(&bench).into_iter().find(|path| !first.contains(path)).unwrap();
    let mut bytes = std::fs::read(&second).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&second).unwrap();
    std::fs::write(&second, bytes).unwrap();
    std::fs::remove_dir_all(bench.path("cache")).unwrap();
    let name = second.file_name().unwrap().to_str().unwrap().to_owned();
    let ran = bench.asof(["cat", "s:/hello"]).exits(4).tells(&name);
    assert_eq!(ran.stdout, "hello\n");
    bench.asof(["index", "status"]).exits(0).shows("record ");
}

#[test]
fn completions_manual_pages_and_help_exist() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish"] {
        bench.asof(["completions", shell]).exits(0).shows("asof");
    }
    bench.asof(["man"]).exits(0).shows(".TH");
    bench.asof(["man", "--dir", "man"]).exits(0);
    for page in ["asof.1", "asof-backup.1", "asof-key-export-writer.1"] {
        assert!(bench.path("man").join(page).exists(), "{page}");
    }
    bench.asof(["--help"]).exits(0).shows("Exit codes").shows("Selectors");
    bench.asof(["backup", "--help"]).exits(0).shows("pg_dumpall");
    bench.asof(["version"]).exits(0).shows("repository format 1");
}

/// A new repository where this machine knew another is not taken for a forgery.
#[test]
fn a_place_can_hold_a_new_repository() {
    let bench = Bench::with_snapshot();
    std::fs::remove_dir_all(bench.path("repo")).unwrap();
    bench.asof(["snapshots"]).exits(10);
    bench.asof(["init", "--kdf-cost", "least"]).exits(0);
    bench.backup().exits(0);
    assert_eq!(bench.snapshots(), 1);
}
