//! Looking at the past: `snapshots`, `ls`, `cat`, `stat`, `stats`, `status`, `restore`, `index`.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;

use serde_json::Value;

use crate::bench::{Bench, noise};

#[test]
fn snapshots_are_listed_and_filtered_the_newest_last() {
    let bench = Bench::with_snapshot();
    bench.asof(["backup", "--source", "t", "--tag", "x", "--host", "h", "src"]).exits(0);
    let table = bench.asof(["snapshots"]).exits(0).stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("ID") && lines[1].contains(" s ") && lines[2].contains(" t "));
    let count = |args: &[&str]| {
        let all = ["snapshots", "--json"].iter().chain(args);
        let listed = bench.asof(all).exits(0).json();
        listed["snapshots"].as_array().unwrap().len()
    };
    assert_eq!(count(&[]), 2);
    assert_eq!(count(&["--source", "s"]), 1);
    assert_eq!(count(&["--tag", "x", "--host", "h"]), 1);
    assert_eq!(count(&["--tag", "y"]), 0);
    assert_eq!(count(&["--until", "yesterday"]), 0);
    assert_eq!(count(&["--since", "yesterday"]), 2);
    bench.asof(["snapshots", "--since", "soon"]).exits(2).tells("`soon` is not a time");
}

#[test]
fn a_directory_is_listed_in_each_form() {
    let bench = Bench::with_snapshot();
    assert_eq!(bench.asof(["ls", "s"]).exits(0).stdout, "hello\nlarge\nlink\nsub\n");
    assert_eq!(bench.asof(["ls", "s:/sub"]).exits(0).stdout, "deep\n");
    assert_eq!(bench.asof(["ls", "s:/hello"]).exits(0).stdout, "hello\n");
    let long = bench.asof(["ls", "-lR", "latest:/"]).exits(0);
    long.shows("sub/deep").shows("link -> hello").shows("-rw-").shows("300,000");
    assert_eq!(bench.asof(["ls", "-0", "s:/sub"]).exits(0).stdout, "deep\0");
    let json = bench.asof(["ls", "--json", "s"]).exits(0).stdout;
    let objects: Vec<Value> = json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(objects.len(), 5, "four entries and the report");
    assert_eq!(objects[0]["path"], "hello");
    assert_eq!(objects[4]["phase"], "succeeded");
}

#[test]
fn names_that_are_not_text_are_listed_and_read() {
    let bench = Bench::with_repository();
    let name = std::ffi::OsStr::from_bytes(b"odd\xff\x1b[31m");
    std::fs::write(bench.path("src").join(name), b"odd").unwrap();
    bench.backup().exits(0);
    bench.asof(["ls", "s"]).exits(0).shows("odd\\xff\\x1b[31m\n");
    let mut selector = std::ffi::OsString::from("s:/");
    selector.push(name);
    assert_eq!(bench.asof(["cat".as_ref(), selector.as_os_str()]).exits(0).stdout, "odd");
}

#[test]
fn a_file_is_written_out_byte_for_byte_and_described() {
    let bench = Bench::with_snapshot();
    let ran = bench.asof(["cat", "s:/large"]).exits(0);
    assert!(ran.output.stdout == noise(300_000));
    let stat = bench.asof(["stat", "--json", "s:/hello"]).exits(0).json();
    assert_eq!(stat["sha256"], "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
    assert_eq!(
        (&stat["kind"], &stat["size"], &stat["links"]),
        (&"file".into(), &6.into(), &1.into())
    );
    bench.asof(["stat", "s:/link"]).exits(0).shows("symbolic link").shows("hello");
    bench.asof(["stat", "s"]).exits(0).shows("directory").shows("5 entries");
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let bench = Bench::with_snapshot();
    bench.asof(["cat", "s:/nothing"]).exits(1).tells("/nothing is not in s@");
    bench.asof(["cat", "s:/sub"]).exits(2).tells("is a directory");
    bench.asof(["cat", "s"]).exits(2).tells("asof ls s");
    bench.asof(["ls", "t"]).exits(1).tells("there are: s");
    bench.asof(["ls", "s@2001"]).exits(1).tells("its first is of");
    bench.asof(["ls", "id:ffffffffffff"]).exits(1).tells("no snapshot");
    let whole = format!("s:{}/hello", bench.path("src").display());
    bench.asof(["cat", &whole]).exits(1).tells("write s:/hello");
}

#[test]
fn a_closed_pipe_ends_it_without_a_word() {
    let bench = Bench::with_snapshot();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = bench.command().args(["cat", "s:/large"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.signal(), Some(13));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn figures_and_freshness() {
    let bench = Bench::with_snapshot();
    bench.backup().exits(0);
    let stats = bench.asof(["stats", "--json"]).exits(0).json();
    assert_eq!(stats["snapshots"], 2);
    assert!(stats["ratio"].as_f64().unwrap() > 1.5);
    bench.asof(["stats"]).exits(0).shows("ratio").shows("requests");
    bench.asof(["status", "--max-age", "1h"]).exits(0).shows("fresh");
    let late = bench.asof(["status", "--max-age", "0s", "--json"]).exits(1).json();
    assert_eq!((&late["phase"], &late["reason"]), (&"failed".into(), &"stale".into()));
    bench.asof(["status", "s", "never"]).exits(1).shows("MISSING");
}

#[test]
fn a_restore_brings_back_what_was_there() {
    let bench = Bench::with_snapshot();
    bench.asof(["restore", "s", "--target", "dry", "--dry-run"]).exits(0).shows("would restore");
    assert!(!bench.path("dry").exists());
    let ran = bench.asof(["restore", "s", "--target", "out", "--verify", "--json"]).exits(0);
    assert_eq!(ran.json()["files"], 3);
    assert_eq!(std::fs::read(bench.path("out/sub/deep")).unwrap(), b"deep\n");
    assert!(std::fs::read(bench.path("out/large")).unwrap() == noise(300_000));
    bench.asof(["restore", "s:/hello", "-t", "one"]).exits(0);
    assert_eq!(std::fs::read(bench.path("one/hello")).unwrap(), b"hello\n");
}

#[test]
fn an_index_that_is_gone_or_broken_is_made_anew() {
    let bench = Bench::with_snapshot();
    bench.asof(["index", "status"]).exits(0).shows("unusable records");
    bench.asof(["index", "sync"]).exits(0);
    bench.asof(["index", "rebuild"]).exits(0).shows("made the index anew");
    std::fs::remove_dir_all(bench.path("cache")).unwrap();
    assert_eq!(bench.snapshots(), 1);
    let report = bench.asof(["index", "status", "--json"]).exits(0).json();
    std::fs::write(report["path"].as_str().unwrap(), noise(10_000)).unwrap();
    bench.asof(["cat", "s:/hello"]).exits(0).shows("hello").tells("made anew");
}
