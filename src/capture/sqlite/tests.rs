use std::sync::atomic::{AtomicI64, Ordering};

use super::testing::{Database, Image, Python, drain, kept};
use super::*;

mod contents;
mod held;
mod kinds;
mod live;
mod model;
mod resume;

/// The happy way: a base, commits after it, each of which is a state that was.
#[test]
fn a_base_and_every_commit_after_it_replay_to_each_state() {
    let database = Database::new();
    let mut writer = database.counter();
    for _ in 0..3 {
        writer.count();
    }
    let mut follower = database.follow(None);
    assert_eq!(follower.start(), Start::Anew(Gap::NoState));
    assert!(matches!(follower.pull(1), Err(Error::NeedsBase { .. })));
    assert_eq!(follower.position().unwrap(), None);

    let image = Image::of(&mut follower.base().unwrap());
    assert_eq!(image.counter(), 3);
    assert!(follower.pull(usize::MAX).unwrap().is_empty());

    for _ in 0..40 {
        writer.count();
        let commits = drain(&mut follower);
        assert_eq!(commits.len(), 1, "one commit, one change");
        image.apply_counts(&commits);
    }
    image.check();
    assert_eq!(follower.stats().commits, 40);
}

/// The log is made to begin again long before SQLite would, and nothing is lost by it.
#[test]
fn the_log_stays_short_over_many_generations() {
    let database = Database::new();
    let mut writer = database.counter();
    let mut follower = database.follow_eagerly(None);
    let image = Image::of(&mut follower.base().unwrap());
    for _ in 0..60 {
        for _ in 0..5 {
            writer.count();
        }
        image.apply_counts(&drain(&mut follower));
    }
    assert_eq!(image.counter(), 300);
    image.check();
    let stats = follower.stats();
    assert!(stats.hops > 10 && stats.generations > 10, "{stats:?}");
    let log = std::fs::metadata(beside(&database.path, "-wal")).unwrap().len();
    assert!(log < 80 * 4120, "{log}");
}

/// A reader that takes over when nothing was pulled for long reads what the old one kept,
/// before that can be overwritten.
#[test]
fn what_was_not_pulled_is_read_before_the_log_can_begin_again() {
    let database = Database::new();
    let mut writer = database.counter();
    let other = database.connect();
    other.busy_timeout(Duration::ZERO).unwrap();
    let mut follower = database.follow(None);
    let image = Image::of(&mut follower.base().unwrap());
    let mut restarted = 0;
    for _ in 0..10 {
        writer.count();
        writer.count();
        for _ in 0..2 {
            assert!(follower.move_on(usize::MAX, &mut Unkept).unwrap());
            let mode = "PRAGMA wal_checkpoint(RESTART)";
            let busy: i64 = other.query_row(mode, [], |row| row.get(0)).unwrap();
            restarted += 1 - busy;
        }
    }
    assert!(restarted > 0);
    image.apply_counts(&drain(&mut follower));
    assert_eq!(image.counter(), 20);
}

/// A limit bounds what is returned, and the rest comes in order.
#[test]
fn a_pull_ends_with_the_commit_that_reaches_its_limit() {
    let database = Database::new();
    let mut writer = database.counter();
    let mut follower = database.follow(None);
    let image = Image::of(&mut follower.base().unwrap());
    for _ in 0..10 {
        writer.count();
    }
    let mut sizes = Vec::new();
    loop {
        let commits = follower.pull(1).unwrap();
        if commits.is_empty() {
            break;
        }
        image.apply_counts(&commits);
        sizes.push(commits.len());
    }
    assert_eq!(sizes, [1; 10]);
    assert_eq!(image.counter(), 10);
}

/// Times are of the clock that was handed in, strictly increasing even if it is put back,
/// and the uncertainty reaches back to the last look that found nothing.
#[test]
fn times_increase_and_say_how_uncertain_they_are() {
    let database = Database::new();
    let mut writer = database.counter();
    let seconds = Arc::new(AtomicI64::new(1000));
    let shown = Arc::clone(&seconds);
    let clock = Clock::from_fn(move || UnixTime::new(shown.load(Ordering::SeqCst), 0));
    let mut follower = Follower::open(&database.path, None, clock).unwrap();
    assert_eq!(follower.base().unwrap().at, UnixTime::new(1000, 1));
    assert!(follower.pull(usize::MAX).unwrap().is_empty());

    seconds.store(1007, Ordering::SeqCst);
    writer.count();
    writer.count();
    let commits = follower.pull(usize::MAX).unwrap();
    assert_eq!(commits[0].at, UnixTime::new(1007, 0));
    assert_eq!(commits[0].uncertainty, Duration::from_secs(7));
    assert_eq!(commits[1].at, UnixTime::new(1007, 1));

    seconds.store(1003, Ordering::SeqCst);
    writer.count();
    let commits = follower.pull(usize::MAX).unwrap();
    assert_eq!(commits[0].at, UnixTime::new(1007, 2));
}

/// What is read in several pulls is as certain as the looks in between made it.
#[test]
fn a_backlog_is_no_more_uncertain_than_the_looks_at_it() {
    let database = Database::new();
    let mut writer = database.counter();
    let seconds = Arc::new(AtomicI64::new(1000));
    let shown = Arc::clone(&seconds);
    let clock = Clock::from_fn(move || UnixTime::new(shown.load(Ordering::SeqCst), 0));
    let mut follower = Follower::open(&database.path, None, clock).unwrap();
    drop(follower.base().unwrap());
    let mut uncertain = Vec::new();
    for _ in 0..4 {
        seconds.fetch_add(10, Ordering::SeqCst);
        writer.count();
        writer.count();
        uncertain.push(follower.pull(1).unwrap()[0].uncertainty.as_secs_f64().round());
    }
    // The first two were seen in the look at 1010; the next two came between 1010 and 1020,
    // and were read at 1030 and 1040.
    assert_eq!(uncertain, [10.0, 20.0, 20.0, 30.0]);
}

/// A program that empties its log waits for a moment, if it waits at all.
#[test]
fn a_program_can_empty_its_log_while_it_is_followed() {
    let database = Database::new();
    let mut writer = database.counter();
    writer.count();
    let mut follower = database.follow(None);
    drop(follower.base().unwrap());
    let stop = Stop::new();
    let stopped = stop.clone();
    let following = std::thread::spawn(move || {
        let mut commits = 0;
        while !stopped.is_raised() {
            follower.wait(Duration::MAX, &stopped).unwrap();
            commits += follower.pull(usize::MAX).unwrap().len();
        }
        commits
    });
    let mut other = Python::connect(&database.path);
    for _ in 0..3 {
        writer.count();
        assert_eq!(other.say("PRAGMA wal_checkpoint(TRUNCATE)"), "ok 0 0 0");
    }
    stop.raise();
    assert_eq!(following.join().unwrap(), 3);
}

/// Whoever waits is woken by a commit, by the end of the time, and by the wish to stop.
#[test]
fn a_wait_ends_with_a_commit_or_with_time() {
    let database = Database::new();
    let mut writer = database.counter();
    let mut follower = database.follow(None);
    drop(follower.base().unwrap());
    assert!(!follower.wait(Duration::from_millis(1), &Stop::new()).unwrap());

    let stop = Stop::new();
    stop.raise();
    assert!(!follower.wait(Duration::MAX, &stop).unwrap());

    let writing = std::thread::spawn(move || writer.count());
    assert!(follower.wait(Duration::MAX, &Stop::new()).unwrap());
    assert_eq!(follower.pull(usize::MAX).unwrap().len(), 1);
    writing.join().unwrap();
}

/// What is followed stays as it is, to the byte: its file, its log, and what is beside.
#[test]
fn following_writes_nothing() {
    let database = Database::new();
    let mut writer = database.counter();
    writer.count();
    let log = beside(&database.path, "-wal");
    let read = || (std::fs::read(&database.path).unwrap(), std::fs::read(&log).unwrap());
    let before = read();
    let mut follower = database.follow(None);
    drop(follower.base().unwrap());
    assert!(drain(&mut follower).is_empty());
    let position = kept(&follower);
    drop(follower);
    drop(database.follow(Some(&position)));
    assert_eq!(read(), before);
    assert_eq!(std::fs::read_dir(database.dir.path()).unwrap().count(), 3);
}

/// While a base is read, the program goes on, and even empties its log if it can: the
/// base stays what it was when it began, and all that came later is pulled after it.
#[test]
fn a_base_stays_what_it_was_while_the_database_changes() {
    // With everything in the database file when it begins, and with much in the log only.
    for checkpoint in [true, false] {
        let database = Database::new();
        let mut writer = database.counter();
        for _ in 0..150 {
            writer.count();
        }
        let mut other = Python::connect(&database.path);
        if checkpoint {
            assert!(other.say("PRAGMA wal_checkpoint(FULL)").starts_with("ok 0"));
        }
        let mut follower = database.follow_eagerly(None);
        let mut base = follower.base().unwrap();
        let mut bytes = vec![0; 100];
        std::io::Read::read_exact(&mut base, &mut bytes).unwrap();
        other.say("PRAGMA busy_timeout=0");
        for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
            writer.connection.execute("UPDATE filler SET bytes = randomblob(2000)", []).unwrap();
            writer.count();
            assert!(other.say(&format!("PRAGMA wal_checkpoint({mode})")).starts_with("ok"));
        }
        std::io::Read::read_to_end(&mut base, &mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, base.size());
        let image = Image::from_bytes(&bytes);
        assert_eq!(image.counter(), 150);
        image.check();
        let commits = drain(&mut follower);
        assert_eq!(commits.len(), 8);
        for commit in &commits {
            image.apply(commit);
        }
        assert_eq!(image.counter(), 154);
        image.check();
    }
}

/// A base may be taken at any time; what it has more than was pulled comes with it.
#[test]
fn a_later_base_is_the_image_of_the_commits_before_it() {
    let database = Database::new();
    let mut writer = database.counter();
    let mut follower = database.follow(None);
    let first = Image::of(&mut follower.base().unwrap());
    writer.count();
    first.apply_counts(&drain(&mut follower));
    writer.count();
    writer.count();
    let mut base = follower.base().unwrap();
    let second = Image::of(&mut base);
    assert_eq!(base.before.len(), 2);
    first.apply_counts(&base.before);
    assert!(base.before[1].at < base.at);
    assert_eq!(first.bytes(), second.bytes());
    writer.count();
    second.apply_counts(&drain(&mut follower));
    assert_eq!(second.counter(), 4);
}

/// A process that reads for long keeps the log: it grows, and nothing else happens.
#[test]
fn a_long_reader_elsewhere_costs_space_and_nothing_else() {
    let database = Database::new();
    let mut writer = database.counter();
    writer.count();
    let mut reader = Python::connect(&database.path);
    reader.say("BEGIN");
    assert_eq!(reader.say("SELECT n FROM counter"), "ok 1");
    writer.count();
    let mut follower = database.follow_eagerly(None);
    let image = Image::of(&mut follower.base().unwrap());
    assert_eq!(image.counter(), 2);
    for _ in 0..100 {
        writer.count();
        image.apply_counts(&drain(&mut follower));
    }
    let stats = follower.stats();
    assert_eq!((stats.hops, stats.generations), (0, 0));
    assert_eq!(stats.gates, 1, "the one of the base");
    assert_eq!(reader.say("SELECT n FROM counter"), "ok 1");
    reader.end();
    while follower.stats().generations == 0 {
        writer.count();
        let _ = follower.wait(Duration::from_millis(1), &Stop::new()).unwrap();
        image.apply_counts(&drain(&mut follower));
    }
}
