//! `follow` and `log`: what is refused, what is shown, and how it ends. And all of it at
//! once, with programs that are killed, in `scripts/follow-acceptance`.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rusqlite::Connection;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;

use crate::bench::{Bench, Ran};

/// A repository, a database that counts, and `shop` as its name.
struct Shop {
    bench: Bench,
    db: Connection,
}

/// A follower that is killed with the test.
pub struct Following(pub Child);

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Shop {
    fn new() -> Shop {
        let bench = Bench::with_repository();
        let db = Connection::open(bench.path("kv.db")).unwrap();
        db.busy_timeout(Duration::from_secs(30)).unwrap();
        db.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE n (v); INSERT INTO n VALUES (0)")
            .unwrap();
        bench.asof(["source", "add", "shop", "sqlite:kv.db", "--interval", "100ms"]).exits(0);
        Shop { bench, db }
    }

    fn count(&self, times: usize) {
        for _ in 0..times {
            self.db.execute("UPDATE n SET v = v + 1", []).unwrap();
        }
    }

    fn follow(&self) -> Following {
        self.follow_with(&[])
    }

    fn follow_with(&self, options: &[&str]) -> Following {
        let mut command = self.bench.command();
        command.args(["follow", "shop"]).args(options).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut following = Following(command.spawn().unwrap());
        let told = BufReader::new(following.0.stderr.as_mut().unwrap());
        let is_active = |line: std::io::Result<String>| line.unwrap() == "asof: shop: active";
        assert!(told.lines().any(is_active), "it ended before it was active");
        following
    }

    /// What it is told by SIGTERM, as a service manager does. All is published then.
    fn end(&self, mut following: Following) {
        let pid = Pid::from_child(&following.0);
        kill_process(pid, Signal::TERM).unwrap();
        // Until the other end is closed, so that it is not killed by writing.
        let mut told = String::new();
        following.0.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!(following.0.wait().unwrap().code(), Some(0), "{told}");
    }

    /// Follows while the counter rises.
    fn followed(&self, times: usize) {
        let following = self.follow();
        self.count(times);
        self.end(following);
    }

    /// The directory of the source's state.
    fn state(&self) -> PathBuf {
        let root = self.bench.path("home/.local/state/asof/follow");
        let mut found = std::fs::read_dir(root).unwrap();
        found.next().unwrap().unwrap().path().join("shop")
    }

    /// Every line of the log but the report, and that.
    fn log(&self, args: &[&str]) -> (Vec<Value>, Value) {
        let ran = self.bench.asof([&["log", "shop", "--json"], args].concat()).exits(0);
        let mut lines: Vec<Value> =
            ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let report = lines.pop().unwrap();
        (lines, report)
    }

    /// The counter in a database that was brought back.
    fn counter(&self, path: &Path) -> i64 {
        let db = Connection::open(path).unwrap();
        db.query_row("SELECT v FROM n", [], |row| row.get(0)).unwrap()
    }
}

fn text<'v>(line: &'v Value, field: &str) -> &'v str {
    line[field].as_str().unwrap_or_else(|| panic!("no {field} in {line}"))
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let shop = Shop::new();
    let bench = &shop.bench;
    bench.asof(["source", "add", "www", "src"]).exits(0);
    bench.asof(["follow", "shap"]).exits(2).tells("it defines `shop`");
    bench.asof(["follow", "www"]).exits(2).tells("is no database").tells("asof backup www");
    bench.asof(["follow"]).exits(2).tells("SOURCE");
    bench.asof(["-r", "nowhere", "follow", "shop"]).exits(10).tells("asof init");
    let mut wrong = bench.command();
    Ran::of(wrong.env("ASOF_PASSWORD", "wrong").args(["follow", "shop"]).output().unwrap())
        .exits(12);
    let mut homeless = bench.command();
    homeless.env_remove("HOME").env("ASOF_CONFIG", bench.path("home/.config/asof/config.toml"));
    Ran::of(homeless.args(["follow", "shop"]).output().unwrap()).exits(2).tells("--state-dir");
    bench.asof(["source", "remove", "shop"]).exits(0);
    bench.asof(["follow", "--all"]).exits(2).tells("defines no database");
    assert_eq!(bench.snapshots(), 0);
}

#[test]
fn a_source_has_one_follower_at_a_time() {
    let shop = Shop::new();
    let following = shop.follow();
    shop.bench.asof(["follow", "shop"]).exits(1).tells("which is running");
    shop.bench.asof(["follow", "shop", "--socket", "other.sock"]).tells("another process follows");
    shop.count(3);
    shop.end(following);
    shop.followed(1);
    let (lines, _) = shop.log(&[]);
    assert_eq!(lines.len(), 5, "{lines:?}");
}

/// What happened to one source is told at the end, though the others were followed until
/// somebody asked for that.
#[test]
fn a_source_that_fails_is_named_at_the_end_and_the_others_go_on() {
    let shop = Shop::new();
    let bench = &shop.bench;
    let web = Connection::open(bench.path("web.db")).unwrap();
    web.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE n (v)").unwrap();
    bench.asof(["source", "add", "web", "sqlite:web.db"]).exits(0);
    let first = shop.follow();
    let mut command = bench.command();
    command.args(["follow", "--all", "--socket", "other.sock", "--status-file", "other.json"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut both = Following(command.spawn().unwrap());
    let mut told = BufReader::new(both.0.stderr.take().unwrap());
    let mut line = String::new();
    while line != "asof: web: active\n" {
        line.clear();
        assert_ne!(told.read_line(&mut line).unwrap(), 0, "it ended");
    }
    kill_process(Pid::from_child(&both.0), Signal::TERM).unwrap();
    let mut rest = String::new();
    told.read_to_string(&mut rest).unwrap();
    assert_eq!(both.0.wait().unwrap().code(), Some(2), "{rest}");
    let end = "not everything was followed to its end: shop: another process follows";
    assert!(rest.contains(end), "{rest}");
    let status = std::fs::read(bench.path("other.json")).unwrap();
    let status: Value = serde_json::from_slice(&status).unwrap();
    let [shops, webs] = &status["sources"].as_array().unwrap()[..] else { panic!("{status}") };
    assert_eq!((&shops["state"], &webs["state"]), (&"stopped".into(), &"stopped".into()));
    assert!(text(&shops["last_error"], "message").contains("another process"), "{status}");
    assert_eq!(webs["last_error"], Value::Null, "{status}");
    shop.end(first);
}

#[test]
fn the_status_is_in_a_file_and_answered_on_a_socket() {
    let shop = Shop::new();
    let following = shop.follow();
    let mut told = String::new();
    UnixStream::connect(shop.state().join("status.sock"))
        .unwrap()
        .read_to_string(&mut told)
        .unwrap();
    let status: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(status["process"]["pid"], u64::from(following.0.id()));
    assert_eq!(status["sources"][0]["source"], "shop");
    assert_eq!(status["sources"][0]["state"], "active");
    shop.count(3);
    shop.end(following);
    assert!(UnixStream::connect(shop.state().join("status.sock")).is_err());
    let text = std::fs::read_to_string(shop.state().join("status.json")).unwrap();
    let row = &serde_json::from_str::<Value>(&text).unwrap()["sources"][0];
    assert_eq!((&row["state"], &row["lag_bytes"]), (&"stopped".into(), &0.into()), "{row}");
    assert_eq!((&row["captured"], &row["durable"]), (&"3".into(), &"3".into()), "{row}");
}

#[test]
fn every_moment_is_listed_and_can_be_read() {
    let shop = Shop::new();
    shop.followed(5);
    let (lines, report) = shop.log(&[]);
    assert_eq!((&report["states"], &report["gaps"]), (&6.into(), &0.into()));
    let positions: Vec<u64> = lines.iter().map(|line| line["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, [0, 1, 2, 3, 4, 5]);
    let table = shop.bench.asof(["log", "shop"]).exits(0);
    let rows: Vec<&str> = table.stdout.lines().collect();
    assert!(rows[0].starts_with("TIME"), "{rows:?}");
    assert_eq!(rows.len(), 7, "{rows:?}");
    // What stands in the table is a time as it is typed, and a name in a mount. In JSON it is
    // exact as well: with fewer digits it would mean the last instant of their unit.
    for (row, line) in rows[1..].iter().zip(&lines) {
        let name = row.split_whitespace().next().unwrap();
        let position = line["position"].as_i64().unwrap();
        assert_eq!(text(line, "at").len(), "2026-11-20T10:15:03.123456789Z".len());
        shop.bench.asof(["restore", &format!("shop@{name}"), "--target", "out"]).exits(0);
        assert_eq!(shop.counter(&shop.bench.path("out/kv.db")), position);
        std::fs::remove_dir_all(shop.bench.path("out")).unwrap();
        let path = format!("shop@{name}:/kv.db");
        let file = shop.bench.asof(["cat", &path]).exits(0).output.stdout;
        let path = shop.bench.write("cat.db", &file);
        assert_eq!(shop.counter(&path), position);
        assert_eq!(line["size"].as_u64(), Some(file.len() as u64));
    }
    let last = text(&lines[5], "at");
    let listed = shop.bench.asof(["ls", &format!("shop@{last}")]).exits(0);
    assert_eq!(listed.stdout, "kv.db\nkv.db.raw\n");
    let raw = shop.bench.asof(["cat", "shop:/kv.db.raw"]).exits(0).output.stdout;
    assert_eq!(raw[18..20], [2, 2]);
    let between = shop.log(&["--since", text(&lines[2], "at"), "--until", text(&lines[4], "at")]);
    assert_eq!(between.0, lines[2..5]);
    assert_eq!(shop.log(&["--until", "1h-ago"]).0, Vec::<Value>::new());
    assert_eq!(shop.log(&["--since", text(&lines[5], "at")]).0, lines[5..]);
}

/// The processes that hold a log for this repository, whoever their parents are.
fn holders(bench: &Bench) -> Vec<Pid> {
    let home = bench.path("home").into_os_string().into_string().unwrap();
    let holds = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        line.contains("follow-hold") && line.contains(&home)
    };
    let numbers = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let number: i32 = entry.unwrap().file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(format!("/proc/{number}/cmdline")).ok()?;
        holds(&line).then_some(number)
    });
    numbers.filter_map(Pid::from_raw).collect()
}

/// With `--sync` nothing is missing that was acknowledged, though asof is killed by signal 9
/// again and again, and the program's checkpoints would begin its log anew at once.
#[test]
fn nothing_acknowledged_is_missing_after_a_kill_with_sync() {
    const ROUNDS: u64 = 4;
    const EACH: u64 = 400;
    let shop = Shop::new();
    for round in 0..ROUNDS {
        let mut following = shop.follow_with(&["--sync"]);
        let (tell, told) = std::sync::mpsc::channel();
        let path = shop.bench.path("kv.db");
        let writing = std::thread::spawn(move || {
            let db = Connection::open(path).unwrap();
            db.busy_timeout(Duration::from_secs(30)).unwrap();
            db.pragma_update(None, "wal_autocheckpoint", 4).unwrap();
            for number in 0..EACH {
                db.execute("UPDATE n SET v = v + 1", []).unwrap();
                let _ = tell.send(number);
            }
        });
        // In the midst of it; the rest is committed while nobody follows.
        assert!(told.iter().any(|number| number == EACH / 4 * (round % 4)));
        following.0.kill().unwrap();
        following.0.wait().unwrap();
        let left = holders(&shop.bench);
        writing.join().unwrap();
        // The one that was left alone, and at most the one that it took over from just then.
        assert!((1..=2).contains(&left.len()), "{left:?}");
    }
    let left: Vec<_> = holders(&shop.bench)
        .into_iter()
        .filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        .collect();
    let following = shop.follow_with(&["--sync"]);
    shop.count(10);
    shop.end(following);
    // Those that were left alone end when it has taken over; its own with it.
    for holder in &left {
        let mut ended = [PollFd::new(holder, PollFlags::IN)];
        poll(&mut ended, None).unwrap();
    }
    assert_eq!(holders(&shop.bench), []);
    let (lines, report) = shop.log(&[]);
    let total = ROUNDS * EACH + 10;
    assert_eq!((&report["states"], &report["gaps"]), (&(total + 1).into(), &0.into()));
    for line in [&lines[1], &lines[450], &lines[1000], &lines[lines.len() - 1]] {
        let at = format!("shop@{}", text(line, "at"));
        shop.bench.asof(["restore", &at, "--target", "out"]).exits(0);
        let counter = shop.counter(&shop.bench.path("out/kv.db"));
        assert_eq!(line["position"].as_i64(), Some(counter));
        std::fs::remove_dir_all(shop.bench.path("out")).unwrap();
    }
}

#[test]
fn what_was_missed_is_listed_as_a_gap() {
    let shop = Shop::new();
    shop.followed(2);
    shop.count(5);
    // The log begins again, and with it is gone what nobody read.
    let busy: i64 =
        shop.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0);
    shop.followed(2);
    let (lines, report) = shop.log(&[]);
    assert_eq!((&report["states"], &report["gaps"]), (&6.into(), &1.into()));
    let (before, gap, after) = (&lines[2], &lines[3], &lines[4]);
    assert_eq!((&before["position"], &after["position"]), (&2.into(), &0.into()));
    assert_eq!(gap["kind"], "gap");
    assert!(text(before, "at") <= text(gap, "since"), "{lines:?}");
    assert_eq!(gap["until"], after["at"]);
    let table =
        shop.bench.asof(["log", "shop"]).exits(0).shows("gap until").shows(text(gap, "reason"));
    assert_eq!(table.stdout.lines().filter(|line| line.contains("gap until")).count(), 1);
    // A time within is the last that is known before.
    shop.bench
        .asof(["restore", &format!("shop@{}", text(gap, "since")), "--target", "out"])
        .exits(0);
    assert_eq!(shop.counter(&shop.bench.path("out/kv.db")), 2);
    let (within, _) = shop.log(&["--since", text(gap, "since"), "--until", text(gap, "since")]);
    assert!(within.contains(gap), "{within:?}");
}

#[test]
fn a_source_that_nobody_followed_has_no_log() {
    let shop = Shop::new();
    shop.bench.asof(["log", "shop"]).exits(1).tells("was never followed");
    shop.bench.backup().exits(0);
    shop.bench.asof(["log", "s"]).exits(1).tells("was never followed");
}

/// Two kills of the writer, one of asof, checkpoints all the time, some thousand
/// transactions: every one can be opened through the mount, or lies in a gap that is listed.
#[test]
fn nothing_is_missing_whoever_is_killed() {
    accepted(&[]);
}

/// With `--sync` there is no gap, though asof is away for a thousand transactions.
#[test]
fn nothing_is_missing_whoever_is_killed_and_no_gap_is_there_with_sync() {
    accepted(&["--sync"]);
}

fn accepted(options: &[&str]) {
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
        eprintln!("NOT RUN: it mounts, and needs root and /dev/fuse");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/follow-acceptance");
    let mut command = Command::new(script);
    command.env("ASOF", env!("CARGO_BIN_EXE_asof"));
    command.args(options);
    command.args(["--writer", "python", "--transactions", "3000", "--store"]);
    Ran::of(command.arg(dir.path().join("repo")).output().unwrap()).exits(0);
}
