//! What is no database, or none that can be followed, or ceases to be one; and copies of
//! such.

use std::fs;
use std::io::Read;

use super::*;
use crate::base::Kind;

fn refusal(database: &Database) -> Error {
    Follower::open(&database.path, None, Clock::system()).unwrap_err()
}

fn unfollowable(database: &Database) -> Unfollowable {
    match refusal(database) {
        Error::CannotFollow { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

/// What a copy of the database says.
fn copy(database: &Database) -> Image {
    let spool = tempfile::tempdir().unwrap();
    let mut snapshot = snapshot(&database.path, spool.path(), &Stop::new()).unwrap();
    assert_eq!(fs::read_dir(spool.path()).unwrap().count(), 0, "the copy has no name");
    let mut bytes = Vec::new();
    snapshot.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, snapshot.size());
    Image::from_bytes(&bytes)
}

#[test]
fn a_rollback_journal_cannot_be_followed_but_copied() {
    let database = Database::new();
    let connection = rusqlite::Connection::open(&database.path).unwrap();
    connection.execute_batch("CREATE TABLE counter (n); INSERT INTO counter VALUES (5)").unwrap();
    assert_eq!(unfollowable(&database), Unfollowable::RollbackJournal);
    assert_eq!(refusal(&database).kind(), Kind::Invalid);
    let before = fs::read(&database.path).unwrap();
    let image = copy(&database);
    assert_eq!(image.counter(), 5);
    image.check();
    assert_eq!(fs::read(&database.path).unwrap(), before, "the source is only read");
    assert_eq!(fs::read_dir(database.dir.path()).unwrap().count(), 1);

    // A writer that never rests makes a copy wait, and a copy makes it wait.
    let writing = Stop::new();
    let stop = writing.clone();
    let writer = std::thread::spawn(move || {
        connection.busy_timeout(Duration::from_secs(20)).unwrap();
        while !stop.is_raised() {
            connection.execute("UPDATE counter SET n = n + 1", []).unwrap();
        }
    });
    let image = copy(&database);
    writing.raise();
    writer.join().unwrap();
    assert!(image.counter() >= 5);
    image.check();
}

#[test]
fn a_copy_waits_for_a_lock_until_it_is_told_to_stop() {
    let database = Database::new();
    let mut other = Python::connect(&database.path);
    other.say("CREATE TABLE counter (n)");
    other.say("BEGIN EXCLUSIVE");
    let (spool, stop) = (tempfile::tempdir().unwrap(), Stop::new());
    let raised = stop.clone();
    let copying = std::thread::spawn(move || {
        let error = snapshot(&database.path, spool.path(), &stop).unwrap_err();
        assert_eq!(error.kind(), Kind::Interrupted);
        assert_eq!(fs::read_dir(spool.path()).unwrap().count(), 0);
    });
    raised.raise();
    copying.join().unwrap();
}

#[test]
fn a_database_with_a_log_is_copied_while_it_is_written_to() {
    let database = Database::new();
    let mut writer = database.counter();
    writer.count();
    let image = copy(&database);
    assert_eq!(image.counter(), 1);
    image.check();
}

#[test]
fn an_empty_file_is_no_database_yet() {
    let database = Database::new();
    assert_eq!(unfollowable(&database), Unfollowable::Empty);
    let spool = tempfile::tempdir().unwrap();
    assert_eq!(snapshot(&database.path, spool.path(), &Stop::new()).unwrap().size(), 0);
}

/// With a log and without a table, and with a log that is empty.
#[test]
fn a_database_without_commits_is_followed() {
    let database = Database::new();
    drop(database.connect());
    let mut follower = database.follow(None);
    let image = Image::of(&mut follower.base().unwrap());
    assert_eq!(image.ask("SELECT count(*) FROM sqlite_master"), 0);
    assert!(drain(&mut follower).is_empty());
    let mut writer = database.counter();
    writer.count();
    for commit in drain(&mut follower) {
        image.apply(&commit);
    }
    assert_eq!(image.counter(), 1);
}

#[test]
fn what_is_no_database_is_said_to_be_none() {
    let database = Database::new();
    let spool = tempfile::tempdir().unwrap();
    for bytes in [b"short".to_vec(), vec![b'x'; 8192], {
        let mut bytes = b"SQLite format 3\0".to_vec();
        bytes.extend([0xff; 8000]);
        bytes
    }] {
        fs::write(&database.path, &bytes).unwrap();
        let error = refusal(&database);
        assert!(matches!(error, Error::NotADatabase { .. }), "{error}");
        assert_eq!(error.kind(), Kind::Damaged);
        let error = snapshot(&database.path, spool.path(), &Stop::new()).unwrap_err();
        assert!(matches!(error, Error::NotADatabase { .. }), "{error}");
        assert_eq!(fs::read(&database.path).unwrap(), bytes);
    }
    let missing = database.dir.path().join("none.db");
    let error = Follower::open(&missing, None, Clock::system()).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(error.to_string(), format!("the database {} does not exist", missing.display()));
    assert!(!missing.exists(), "none was made");
    let error = Follower::open(database.dir.path(), None, Clock::system()).unwrap_err();
    assert!(matches!(error, Error::NotADatabase { .. }), "{error}");
}

/// A header that looks right over pages of an impossible size.
#[test]
fn a_corrupt_header_is_an_error() {
    let database = Database::new();
    drop(database.counter());
    let mut bytes = fs::read(&database.path).unwrap();
    bytes[16..18].copy_from_slice(&[0x12, 0x34]);
    fs::write(&database.path, bytes).unwrap();
    let error = refusal(&database);
    assert!(matches!(error, Error::NotADatabase { .. }), "{error}");
}

#[test]
fn a_database_that_another_process_keeps_for_itself_cannot_be_followed() {
    let database = Database::new();
    drop(database.counter());
    let mut other = Python::connect(&database.path);
    other.say("PRAGMA locking_mode=EXCLUSIVE");
    assert_eq!(other.say("UPDATE counter SET n = 3"), "ok");
    assert_eq!(unfollowable(&database), Unfollowable::Locked);
}

/// A program cannot leave WAL mode while it is followed; and the other way round, what left
/// it is not followed.
#[test]
fn the_journal_mode_cannot_change_under_a_follower() {
    let database = Database::new();
    drop(database.counter());
    let mut follower = database.follow(None);
    drop(follower.base().unwrap());
    let mut other = Python::connect(&database.path);
    other.say("PRAGMA busy_timeout=0");
    assert_eq!(other.say("PRAGMA journal_mode=DELETE"), "error database is locked");
    drop(follower);
    assert_eq!(other.say("PRAGMA journal_mode=DELETE"), "ok delete");
    assert_eq!(unfollowable(&database), Unfollowable::RollbackJournal);
}

#[test]
fn files_that_vanish_or_are_replaced_are_noticed() {
    let follow = || {
        let database = Database::new();
        let mut writer = database.counter();
        let mut follower = database.follow(None);
        drop(follower.base().unwrap());
        writer.count();
        (database, writer, follower)
    };
    // What was committed before is returned first.
    let after_last = |follower: &mut Follower| {
        assert_eq!(follower.pull(usize::MAX).unwrap().len(), 1);
        let waited = follower.wait(Duration::MAX, &Stop::new()).unwrap_err();
        let pulled = follower.pull(usize::MAX).unwrap_err();
        assert_eq!(waited.to_string(), pulled.to_string());
        pulled
    };

    let (database, _writer, mut follower) = follow();
    fs::remove_file(&database.path).unwrap();
    let error = after_last(&mut follower);
    assert!(matches!(&error, Error::Missing { path } if *path == follower.path()), "{error}");

    let (database, _writer, mut follower) = follow();
    let other = database.dir.path().join("other.db");
    fs::copy(&database.path, &other).unwrap();
    fs::rename(&other, &database.path).unwrap();
    let error = after_last(&mut follower);
    assert!(matches!(error, Error::Broken { gap: Gap::DatabaseReplaced, .. }), "{error}");

    for suffix in ["-wal", "-shm"] {
        let (database, _writer, mut follower) = follow();
        fs::remove_file(beside(&database.path, suffix)).unwrap();
        let error = after_last(&mut follower);
        assert!(matches!(error, Error::Broken { gap: Gap::LogReplaced, .. }), "{error}");
    }
}

/// A log whose committed bytes are damaged is an error and not a shorter history.
#[test]
fn damage_in_the_log_is_an_error() {
    use std::os::unix::fs::FileExt;
    let database = Database::new();
    let mut writer = database.counter();
    let mut follower = database.follow(None);
    drop(follower.base().unwrap());
    let point = follower.point.unwrap();
    writer.count();
    writer.count();
    let log = File::options().write(true).open(follower.wal.path()).unwrap();
    log.write_all_at(&[0xaa; 8], point.offset + 100).unwrap();
    let error = follower.pull(usize::MAX).unwrap_err();
    assert!(matches!(error, Error::Broken { gap: Gap::Missed, .. }), "{error}");
}

/// SQLite keeps the log beside the file itself, not beside a link to it.
#[test]
fn a_link_to_a_database_is_followed() {
    let database = Database::new();
    let mut writer = database.counter();
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(&database.path, &link).unwrap();
    let mut follower = Follower::open(&link, None, Clock::system()).unwrap();
    assert_eq!(follower.path(), database.path.canonicalize().unwrap());
    drop(follower.base().unwrap());
    writer.count();
    assert_eq!(drain(&mut follower).len(), 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
