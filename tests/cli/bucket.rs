//! A bucket from end to end, on the S3 server that `scripts/ceph` starts: the owner, and
//! a machine whose credential may only put and whose key may only write.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::bench::{Bench, Ran};

/// The server and its two users.
struct Bucket {
    endpoint: String,
    bucket: String,
    owner: (String, String),
    writer: (String, String),
}

fn bucket() -> Option<Bucket> {
    let get = |name: &str| std::env::var(format!("ASOF_TEST_S3_{name}")).ok();
    let found = (|| {
        Some(Bucket {
            endpoint: get("ENDPOINT")?,
            bucket: get("BUCKET")?,
            owner: (get("ACCESS_KEY")?, get("SECRET_KEY")?),
            writer: (get("WRITER_ACCESS_KEY")?, get("WRITER_SECRET_KEY")?),
        })
    })();
    if found.is_none() {
        eprintln!("NOT RUN: no S3 server (scripts/ceph start DIR; . DIR/env)");
        assert!(std::env::var_os("ASOF_TEST_REQUIRE_S3").is_none(), "an S3 server is required");
    }
    found
}

#[test]
fn a_put_only_credential_and_a_writer_key_back_up_twice_and_can_do_nothing_else() {
    let Some(bucket) = bucket() else { return };
    let bench = Bench::new();
    // The writer's policy covers prefixes of one segment.
    let prefix = format!("cli-{}", std::process::id());
    let place = format!("s3://{}/{prefix}", bucket.bucket);
    let run = |(access, secret): &(String, String), cache: &str, args: &[&str]| {
        let mut command = bench.dress(Command::new(env!("CARGO_BIN_EXE_asof")));
        command
            .env("ASOF_REPOSITORY", &place)
            .env("ASOF_CACHE_DIR", bench.path(cache))
            .env("AWS_ACCESS_KEY_ID", access)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .args(["--s3-endpoint", &bucket.endpoint, "--s3-region", "us-east-1"]);
        Ran::of(command.args(args).output().unwrap())
    };
    let owner = |args: &[&str]| run(&bucket.owner, "owner", args);
    let writer = |args: &[&str]| {
        let key = [&["--writer-key", "writer.key"], args].concat();
        run(&bucket.writer, "writer", &key)
    };
    owner(&["init", "--kdf-cost", "least"]).exits(0);
    owner(&["key", "export-writer", "--source", "web", "writer.key"]).exits(0);
    let first = writer(&["backup", "--source", "web", "--json", "src"]).exits(0).json();
    assert!(first["written"]["bytes_new"].as_u64().unwrap() > 300_000, "{first}");
    bench.write("src/new", b"added\n");
    let second = writer(&["backup", "--source", "web", "--json", "src"]).exits(0).json();
    assert!(second["written"]["bytes_new"].as_u64().unwrap() < 10_000, "{second}");
    let requests = &second["requests"];
    for kind in ["gets", "lists", "deletes"] {
        assert_eq!(requests[kind], 0, "{requests}");
    }
    // The same credential and key can neither list, read nor delete.
    writer(&["snapshots"]).exits(1);
    writer(&["cat", "web:/hello"]).exits(1);
    run(&bucket.writer, "nothing", &["snapshots"]).exits(1).tells("403");
    writer(&["backup", "--source", "other", "src"]).exits(1).tells("export-writer --source");
    // The owner sees both states.
    owner(&["cat", "web:/new"]).exits(0).shows("added");
    let listed = owner(&["snapshots", "--json"]).exits(0).json();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 2, "{listed}");
    owner(&["restore", "web", "--target", "out", "--verify"]).exits(0);
    let compared = Command::new("diff")
        .arg("-r")
        .args([bench.path("src"), bench.path("out")])
        .output()
        .unwrap();
    Ran::of(compared).exits(0);
}

/// The wish to stop does not end what is on its way to the bucket.
#[test]
fn what_is_captured_when_a_follower_is_asked_to_stop_is_published() {
    let Some(bucket) = bucket() else { return };
    let bench = Bench::new();
    let place = format!("s3://{}/cli-follow-{}", bucket.bucket, std::process::id());
    let command = |(access, secret): &(String, String), args: &[&str]| {
        let mut command = bench.dress(Command::new(env!("CARGO_BIN_EXE_asof")));
        command
            .env("ASOF_REPOSITORY", &place)
            .env("AWS_ACCESS_KEY_ID", access)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .args(["--s3-endpoint", &bucket.endpoint, "--s3-region", "us-east-1"])
            .args(args);
        command
    };
    let owner = |args: &[&str]| Ran::of(command(&bucket.owner, args).output().unwrap());
    owner(&["init", "--kdf-cost", "least"]).exits(0);
    owner(&["key", "export-writer", "--source", "shop", "writer.key"]).exits(0);
    owner(&["source", "add", "shop", "sqlite:kv.db", "--interval", "1h"]).exits(0);
    let db = rusqlite::Connection::open(bench.path("kv.db")).unwrap();
    db.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE n (v)").unwrap();
    let mut following = command(&bucket.writer, &["--writer-key", "writer.key", "follow", "shop"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(following.stderr.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap() == "asof: shop: active"));
    // More than is put in the time of a look at the flag.
    for _ in 0..4 {
        db.execute("INSERT INTO n VALUES (randomblob(20000000))", []).unwrap();
    }
    kill_process(Pid::from_child(&following), Signal::TERM).unwrap();
    let told: Vec<String> = told.map(Result::unwrap).collect();
    assert_eq!(following.wait().unwrap().code(), Some(0), "{told:?}");
    let listed = owner(&["log", "shop", "--json"]).exits(0).stdout;
    assert_eq!(listed.lines().count(), 1 + 4 + 1, "{listed}");
}

#[test]
fn a_store_that_cannot_be_reached_is_named_and_nothing_is_published() {
    let bench = Bench::new();
    let mut command = bench.command();
    command
        .env("ASOF_REPOSITORY", "s3://nowhere/x")
        .env("AWS_ACCESS_KEY_ID", "a")
        .env("AWS_SECRET_ACCESS_KEY", "b")
        .args(["--s3-endpoint", "http://127.0.0.1:9", "--s3-region", "us-east-1", "snapshots"]);
    Ran::of(command.output().unwrap()).exits(1).tells("s3://nowhere/x");
}
