//! `backup`, in its forms.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::bench::{Bench, OLD_FILES, PASSPHRASE, Ran};

/// Files that were written a moment ago are read again whatever their times say, so this
/// is about files of the project itself.
#[test]
fn a_second_backup_reads_nothing_if_nothing_changed() {
    let bench = Bench::with_repository();
    let args = ["backup", "--source", "own", "--json", OLD_FILES];
    let first = bench.asof(args).exits(0).json();
    let second = bench.asof(args).exits(0).json();
    assert!(first["counts"]["new"].as_u64().unwrap() > 3);
    assert_eq!(second["counts"]["unchanged"], first["counts"]["new"]);
    assert_eq!(second["counts"]["bytes_read"], 0);
}

#[test]
fn the_newest_state_is_what_was_backed_up_last() {
    let bench = Bench::with_repository();
    bench.backup().exits(0).shows("3 new, 0 changed, 0 unchanged of 3 files");
    bench.write("src/hello", b"changed\n");
    bench.backup().exits(0).shows("0 new");
    assert_eq!(bench.snapshots(), 2);
    assert_eq!(bench.asof(["cat", "s:/hello"]).exits(0).stdout, "changed\n");
}

#[test]
fn the_report_says_in_json_how_it_ended_and_what_it_did() {
    let bench = Bench::with_repository();
    let ran = bench.asof(["backup", "--source", "s", "--tag", "daily", "src", "--json"]).exits(0);
    let report = ran.json();
    assert_eq!(report["phase"], "succeeded");
    assert!(report["reason"].is_null());
    assert!(report["message"].as_str().unwrap().contains("of s"));
    assert_eq!(report["exit"], 0);
    assert_eq!(report["counts"]["new"], 3);
    assert!(report["written"]["bytes_stored"].as_u64().unwrap() > 300_000);
    assert!(report["requests"]["puts"].as_u64().unwrap() > 0);
    let listed = bench.asof(["snapshots", "--json"]).exits(0).json();
    assert_eq!(listed["snapshots"][0]["id"], report["snapshot"]);
    assert_eq!(listed["snapshots"][0]["tags"][0], "daily");
}

#[test]
fn without_a_name_the_source_is_named_after_host_and_path() {
    let bench = Bench::with_repository();
    bench.asof(["backup", "--host", "web1", "src"]).exits(0);
    let listed = bench.asof(["snapshots", "--json"]).json();
    let source = listed["snapshots"][0]["source"].as_str().unwrap().to_owned();
    assert!(source.starts_with("web1-") && source.ends_with("-src"), "{source}");
}

#[test]
fn other_paths_under_a_name_are_refused_until_asked_for() {
    let bench = Bench::with_snapshot();
    bench.write("other/file", b"x");
    let again = ["backup", "--source", "s", "other"];
    bench.asof(again).exits(2).tells("--change-roots");
    bench.asof(again.into_iter().chain(["--change-roots"])).exits(0);
}

#[test]
fn a_dry_run_stores_nothing() {
    let bench = Bench::with_repository();
    let before = bench.store();
    bench.asof(["backup", "--dry-run", "src"]).exits(0).shows("would store");
    assert!(bench.store() == before);
    assert_eq!(bench.snapshots(), 0);
}

#[test]
fn nothing_changed_makes_no_snapshot_if_so_wanted() {
    let bench = Bench::with_snapshot();
    let ran = bench.asof(["backup", "--source", "s", "--skip-if-unchanged", "src"]).exits(0);
    ran.shows("nothing changed");
    assert_eq!(bench.snapshots(), 1);
}

#[test]
fn standard_input_becomes_a_file() {
    let bench = Bench::with_repository();
    let args = ["backup", "--stdin", "--stdin-name", "all.sql", "--source", "db"];
    bench.feed(b"SELECT 1;\n", args).exits(0);
    assert_eq!(bench.asof(["cat", "db:/all.sql"]).exits(0).stdout, "SELECT 1;\n");
}

#[test]
fn a_failing_command_makes_no_snapshot() {
    let bench = Bench::with_repository();
    let fails = ["backup", "--command", "--source", "db", "--", "sh", "-c", "echo half; exit 3"];
    bench.asof(fails).exits(1).tells("exit status: 3").tells("no snapshot was made");
    assert_eq!(bench.snapshots(), 0);
    let works = ["backup", "--command", "--source", "db", "--", "echo", "whole"];
    bench.asof(works).exits(0);
    assert_eq!(bench.asof(["cat", "db:/echo"]).exits(0).stdout, "whole\n");
}

#[test]
fn what_is_left_out_is_left_out_and_lists_of_paths_are_read() {
    let bench = Bench::with_repository();
    bench.write("src/skip.tmp", b"x");
    let list = bench.write("list", format!("{}\n", bench.path("src").display()).as_bytes());
    let list = list.to_str().unwrap();
    let args = ["backup", "--source", "s", "--files-from", list, "--exclude", "*.tmp"];
    bench.asof(args.into_iter().chain(["--exclude-larger-than", "100K"])).exits(0);
    let listing = bench.asof(["ls", "-R", "s"]).exits(0).stdout;
    assert_eq!(listing, "hello\nlink\nsub\nsub/deep\n");
}

/// A source of the configuration file: its name is all that is typed.
#[test]
fn a_source_of_the_configuration_file_is_backed_up_by_its_name() {
    let bench = Bench::with_repository();
    bench.write("secret", format!("{PASSPHRASE}\n").as_bytes());
    bench.write(
        "asof.toml",
        b"[profiles.here]\nrepository = \"repo\"\npassword_file = \"secret\"\n\
          [sources.etc]\npaths = [\"src\"]\nexclude = \"large\"\ntags = [\"t\"]\nhost = \"h\"\n",
    );
    let run = |args: &[&str]| {
        let mut command = bench.command();
        command.env_remove("ASOF_REPOSITORY").env_remove("ASOF_PASSWORD");
        Ran::of(command.arg("--config").arg(bench.path("asof.toml")).args(args).output().unwrap())
    };
    run(&["backup", "etc"]).exits(0).shows("of etc");
    let listed = run(&["snapshots", "--json"]).exits(0).json();
    let snapshot = &listed["snapshots"][0];
    assert_eq!((&snapshot["source"], &snapshot["host"]), (&"etc".into(), &"h".into()));
    assert!(!run(&["ls", "etc"]).exits(0).stdout.contains("large"));
    run(&["backup", "etcc"]).exits(2).tells("did you mean `etc`");
    // A source that was never backed up is missing, not forgotten.
    run(&["status"]).exits(0);
}

#[test]
fn unreadable_files_are_named_and_the_rest_is_backed_up() {
    let bench = Bench::new();
    let secret = bench.write("src/secret", b"s");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything, so somebody else has to try.
    let root = rustix::process::geteuid().is_root();
    let program = bench.path("asof");
    std::fs::copy(env!("CARGO_BIN_EXE_asof"), &program).unwrap();
    std::fs::create_dir(bench.path("nobody")).unwrap();
    if root {
        let nobody = Some(65_534);
        std::os::unix::fs::chown(bench.path("nobody"), nobody, nobody).unwrap();
    }
    let run = |args: &[&str]| {
        let mut command = if root {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
            bench.dress(command)
        } else {
            bench.command()
        };
        command.env("ASOF_CACHE_DIR", bench.path("nobody/cache"));
        command.env("ASOF_REPOSITORY", bench.path("nobody/repo"));
        Ran::of(command.args(args).output().unwrap())
    };
    run(&["init", "--kdf-cost", "least"]).exits(0);
    let ran = run(&["backup", "--source", "s", "src", "--json"]).exits(3).tells("src/secret");
    let report = ran.json();
    assert_eq!((&report["phase"], &report["counts"]["errors"]), (&"succeeded".into(), &1.into()));
    assert_eq!(report["reason"], "some-files-unreadable");
    assert!(report["problems"][0]["subject"].as_str().unwrap().ends_with("src/secret"));
    run(&["cat", "s:/hello"]).exits(0).shows("hello");
}

/// The command interrupts the backup whose input it is: nothing of it is a snapshot.
#[test]
fn ctrl_c_ends_a_backup_and_the_next_one_finishes() {
    let bench = Bench::with_repository();
    let interrupts = "kill -INT $PPID; echo half";
    let args = ["backup", "--command", "--source", "s", "--json", "--", "sh", "-c", interrupts];
    let ran = bench.asof(args).exits(130);
    assert_eq!(ran.json()["reason"], "interrupted");
    assert_eq!(bench.snapshots(), 0);
    bench.asof(["backup", "--source", "t", "src"]).exits(0);
    assert_eq!(bench.snapshots(), 1);
}

#[test]
fn quiet_is_quiet_and_plain_progress_has_no_bar() {
    let bench = Bench::with_repository();
    let ran = bench.asof(["-q", "backup", "--source", "s", "src"]).exits(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    let mut command = bench.command();
    command.args(["--progress=plain", "backup", "--source", "s", "src"]).stdout(Stdio::piped());
    let ran = Ran::of(command.output().unwrap()).exits(0);
    assert!(!ran.stderr.contains('\r'), "{}", ran.stderr);
}

/// Only root gives files away: an ordinary user's restore says so, and is content
/// with `--no-owner`.
#[test]
fn owners_that_cannot_be_restored_are_summed_up() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT RUN: only root can back up files of another user here");
        return;
    }
    let bench = Bench::with_snapshot();
    let program = bench.path("asof");
    std::fs::copy(env!("CARGO_BIN_EXE_asof"), &program).unwrap();
    std::fs::create_dir(bench.path("nobody")).unwrap();
    std::os::unix::fs::chown(bench.path("nobody"), Some(65_534), Some(65_534)).unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        let mut command = bench.dress(command);
        command.env("ASOF_CACHE_DIR", bench.path("nobody/cache"));
        Ran::of(command.args(args).output().unwrap())
    };
    let chmod = Command::new("chmod").args(["-R", "a+rX"]).arg(bench.path("repo")).status();
    assert!(chmod.unwrap().success());
    let report = run(&["restore", "s", "--target", "nobody/out", "--json"])
        .exits(3)
        .tells("--no-owner")
        .json();
    assert_eq!(report["refused"][0]["what"], "owner", "{report}");
    run(&["restore", "s", "--target", "nobody/out-2", "--no-owner"]).exits(0);
    run(&["restore", "s", "--target", "nobody/out-2", "--no-owner"]).exits(0);
}
