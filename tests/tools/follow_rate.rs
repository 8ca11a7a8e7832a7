//! How fast a database is followed, and what that costs the program that writes to it.
//!
//! `follow_rate write DATABASE SECONDS PAGES`: small transactions of about so many pages, one
//! after the other without a pause, and how long they took.
//! `follow_rate follow DATABASE SECONDS`: follows, and what that came to.
//!
//! Run the first alone, then both at the same time.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use asof::base::{Clock, Stop};
use asof::capture::sqlite::Follower;
use rusqlite::Connection;

#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [verb, path, seconds, rest @ ..] = args.as_slice() else {
        bail!("follow_rate write|follow DATABASE SECONDS [PAGES]")
    };
    let end = now() + Duration::from_secs(seconds.parse().context("SECONDS")?);
    let text = match verb.as_str() {
        "write" => write(Path::new(path), end, rest.first().map_or(Ok(4), |n| n.parse())?)?,
        "follow" => follow(Path::new(path), end)?,
        other => bail!("{other} is neither write nor follow"),
    };
    println!("{text}");
    Ok(())
}

fn write(path: &Path, end: Instant, pages: i64) -> Result<String> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, n INTEGER, bytes BLOB)",
    )?;
    let mut times = Vec::new();
    for n in 0_i64.. {
        let begun = now();
        if begun >= end {
            break;
        }
        let transaction = connection.transaction()?;
        for part in 0..pages - 1 {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO t VALUES (?1, ?2, randomblob(2500))")?
                .execute([(n * 7 + part * 1009) % 5000, n])?;
        }
        transaction.commit()?;
        times.push(begun.elapsed());
    }
    Ok(format!("wrote {} transactions: {}", times.len(), spread(times)))
}

fn follow(path: &Path, end: Instant) -> Result<String> {
    let mut follower = Follower::open(path, None, Clock::system())?;
    std::io::copy(&mut follower.base()?, &mut std::io::sink())?;
    let (mut gates, mut late) = (Vec::new(), Vec::new());
    let mut before = follower.stats();
    let begun = now();
    while now() < end {
        follower.wait(Duration::from_millis(100), &Stop::new())?;
        for commit in follower.pull(8 << 20)? {
            let mut pages = commit.pages();
            while pages.next_page()?.is_some() {}
            late.push(commit.uncertainty);
        }
        let stats = follower.stats();
        if stats.gates == before.gates + 1 {
            gates.push(stats.gate_time - before.gate_time);
        }
        before = stats;
    }
    let stats = follower.stats();
    let rate = stats.bytes as f64 / begun.elapsed().as_secs_f64() / 1e6;
    Ok(format!(
        "followed {} commits, {:.1} MB/s\n  uncertain by {}\n  {} hops, {} generations; gate closed {} times, {}",
        stats.commits,
        rate,
        spread(late),
        stats.hops,
        stats.generations,
        stats.gates,
        spread(gates)
    ))
}

/// The median, the longest but one in a hundred, the longest.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
    let show = |time: Option<&Duration>| time.copied().unwrap_or_default().as_secs_f64() * 1e3;
    format!(
        "median {:.3} ms, p99 {:.3} ms, longest {:.3} ms",
        show(at(50)),
        show(at(99)),
        show(times.last())
    )
}
