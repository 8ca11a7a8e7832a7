//! Going on after the follower was away, and knowing when that cannot be.

use std::fs;

use super::*;

/// What a follower found that goes on at `position`, and that the commits after it are
/// those of the program, if it says so.
fn resumed(database: &Database, position: &Position, image: &Image) -> Start {
    let mut follower = database.follow_eagerly(Some(position));
    if follower.start() == Start::Continues {
        image.apply_counts(&drain(&mut follower));
        image.check();
    } else {
        assert!(matches!(follower.pull(1), Err(Error::NeedsBase { .. })));
    }
    follower.start()
}

/// A database that is followed up to its third count, and where that was left.
fn left(database: &Database) -> (Position, Image) {
    let mut follower = database.follow(None);
    let image = Image::of(&mut follower.base().unwrap());
    let mut writer = database.counter();
    for _ in 0..3 {
        writer.count();
    }
    image.apply_counts(&drain(&mut follower));
    (kept(&follower), image)
}

#[test]
fn what_was_committed_meanwhile_is_read_if_the_log_is_still_there() {
    let database = Database::new();
    let mut writer = database.counter();
    let (position, image) = left(&database);
    for _ in 0..5 {
        writer.count();
    }
    assert_eq!(resumed(&database, &position, &image), Start::Continues);
    assert_eq!(image.counter(), 8);
}

/// The last connection deletes the log when it is closed. A follower does not: the log that
/// it left is the one that it goes on in.
#[test]
fn the_follower_leaves_the_log_as_the_last_one_too() {
    let database = Database::new();
    drop(database.counter());
    let (position, image) = left(&database);
    assert!(fs::metadata(beside(&database.path, "-wal")).unwrap().len() > 0);
    assert_eq!(resumed(&database, &position, &image), Start::Continues);
    assert_eq!(image.counter(), 3);
}

/// While somebody follows, the last connection of the program does not delete it either.
#[test]
fn the_chain_goes_on_while_programs_come_and_go() {
    let database = Database::new();
    drop(database.counter());
    let mut follower = database.follow_eagerly(None);
    let image = Image::of(&mut follower.base().unwrap());
    for _ in 0..3 {
        let mut program = Python::connect(&database.path);
        for _ in 0..30 {
            assert_eq!(program.say("UPDATE counter SET n = n + 1"), "ok");
        }
        image.apply_counts(&drain(&mut follower));
        program.end();
    }
    assert_eq!(image.counter(), 90);
}

#[test]
fn a_log_that_began_again_is_a_gap() {
    let database = Database::new();
    let mut writer = database.counter();
    let (position, image) = left(&database);
    for _ in 0..2 {
        writer.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        let found = resumed(&database, &position, &image);
        assert_eq!(found, Start::Anew(Gap::LogRestarted));
        writer.count();
    }
}

/// If everything was read and copied to the database file, and nobody wrote to that since,
/// the next generation of the log follows, and so does the one after a deleted log.
#[test]
fn a_new_log_follows_on_a_drained_one() {
    let database = Database::new();
    drop(database.counter());
    let mut follower = {
        // A clock that is ahead, since time stamps count only when they are old.
        let clock = Clock::from_fn(|| Clock::system().now().plus(Duration::from_secs(60)));
        Follower::open(&database.path, None, clock).unwrap()
    };
    let image = Image::of(&mut follower.base().unwrap());
    let mut program = Python::connect(&database.path);
    program.say("UPDATE counter SET n = n + 1");
    image.apply_counts(&drain(&mut follower));
    assert!(program.say("PRAGMA wal_checkpoint(FULL)").starts_with("ok 0"));
    let position = kept(&follower);
    assert!(position.drained.is_some());
    drop(follower);
    program.end();
    // This process has no connection, but still a descriptor that a new one may use.
    assert!(!beside(&database.path, "-wal").exists());
    let mut program = Python::connect(&database.path);
    program.say("UPDATE counter SET n = n + 1");
    assert_eq!(resumed(&database, &position, &image), Start::Continues);
    assert_eq!(image.counter(), 2);

    // Something came and went: the file was written to.
    program.say("PRAGMA wal_checkpoint(TRUNCATE)");
    program.say("UPDATE counter SET n = n + 1");
    assert_eq!(resumed(&database, &position, &image), Start::Anew(Gap::LogRestarted));
}

/// What was committed and not synced may be lost in a power cut, although it was captured.
#[test]
fn commits_that_a_power_cut_took_back_are_noticed() {
    let database = Database::new();
    drop(database.counter());
    let (position, image) = left(&database);
    let log = beside(&database.path, "-wal");
    let length = fs::metadata(&log).unwrap().len();
    File::options().write(true).open(&log).unwrap().set_len(length - 4120).unwrap();
    fs::remove_file(beside(&database.path, "-shm")).unwrap();
    assert_eq!(resumed(&database, &position, &image), Start::Anew(Gap::RolledBack));
    // Others take their place.
    let mut writer = database.counter();
    writer.count();
    writer.count();
    assert_eq!(resumed(&database, &position, &image), Start::Anew(Gap::RolledBack));
}

#[test]
fn another_database_or_another_page_size_is_another_chain() {
    let database = Database::new();
    let writer = database.counter();
    let (position, image) = left(&database);
    drop(writer);
    let connection = rusqlite::Connection::open(&database.path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode=DELETE; PRAGMA page_size=8192; VACUUM; PRAGMA journal_mode=WAL",
        )
        .unwrap();
    drop(connection);
    let gap = Gap::PageSize { was: 4096, is: 8192 };
    assert_eq!(resumed(&database, &position, &image), Start::Anew(gap));

    let other = database.dir.path().join("other.db");
    fs::copy(&database.path, &other).unwrap();
    fs::rename(&other, &database.path).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(beside(&database.path, suffix));
    }
    assert_eq!(resumed(&database, &position, &image), Start::Anew(Gap::DatabaseReplaced));
}

/// The time in which nobody looked is part of what is not known of a commit's time.
#[test]
fn the_time_away_is_uncertain() {
    let database = Database::new();
    let mut writer = database.counter();
    let seconds = Arc::new(AtomicI64::new(1000));
    let clock = {
        let shown = Arc::clone(&seconds);
        Clock::from_fn(move || UnixTime::new(shown.load(Ordering::SeqCst), 0))
    };
    let mut follower = Follower::open(&database.path, None, clock.clone()).unwrap();
    drop(follower.base().unwrap());
    let position = kept(&follower);
    drop(follower);
    writer.count();
    seconds.store(1500, Ordering::SeqCst);
    let mut follower = Follower::open(&database.path, Some(&position), clock).unwrap();
    let commits = follower.pull(usize::MAX).unwrap();
    assert_eq!(commits[0].at, UnixTime::new(1500, 0));
    assert_eq!(commits[0].uncertainty, Duration::new(499, 999_999_999));
}
