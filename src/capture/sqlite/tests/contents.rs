//! What a transaction can be: large, shrinking, spilled, rolled back, abandoned.

use std::os::unix::fs::FileExt;

use super::*;

/// Pages of every size that SQLite has.
#[test]
fn pages_of_every_size_are_followed() {
    for page_size in [512, 1024, 4096, 32768, 65536] {
        let database = Database::with(&format!("PRAGMA page_size = {page_size}"));
        let mut writer = database.counter();
        let mut follower = database.follow_eagerly(None);
        assert_eq!(follower.page_size(), page_size);
        let image = Image::of(&mut follower.base().unwrap());
        for _ in 0..40 {
            writer.count();
            image.apply_counts(&drain(&mut follower));
        }
        assert_eq!(image.counter(), 40);
        image.check();
    }
}

/// A transaction that is larger than memory should be is read from the log, page by page;
/// and when the log has begun again, not at all rather than wrongly.
#[test]
fn a_vacuum_is_one_large_commit() {
    let database = Database::new();
    let mut writer = database.counter();
    writer
        .connection
        .execute_batch(
            "WITH RECURSIVE i(x) AS (SELECT 100 UNION ALL SELECT x + 1 FROM i WHERE x < 700)
             INSERT INTO filler SELECT x, randomblob(20000) FROM i;
             DELETE FROM filler WHERE id % 4 = 0;",
        )
        .unwrap();
    let mut follower = database.follow_eagerly(None);
    let image = Image::of(&mut follower.base().unwrap());
    let before = image.ask("PRAGMA page_count");
    writer.connection.execute_batch("VACUUM").unwrap();
    writer.count();
    let commits = follower.pull(usize::MAX).unwrap();
    assert_eq!(commits.len(), 1, "a large commit is returned alone");
    assert!(!commits[0].is_held() && commits[0].size() > HELD_BYTES_MAX as u64);
    image.apply(&commits[0]);
    assert!(image.ask("PRAGMA page_count") < before);
    image.check();
    image.apply_counts(&drain(&mut follower));
    assert_eq!(image.counter(), 1);

    // The log begins again and is overwritten.
    while follower.stats().generations < 1 {
        writer.count();
        drain(&mut follower);
    }
    writer.connection.execute("UPDATE filler SET bytes = randomblob(20000)", []).unwrap();
    let mut pages = commits[0].pages();
    let error = loop {
        match pages.next_page() {
            Ok(page) => assert!(page.is_some(), "everything was overwritten"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Broken { gap: Gap::LogRestarted, .. }), "{error}");
}

/// A database that gives pages back gets shorter, and so does its image.
#[test]
fn a_database_that_shrinks_is_cut() {
    let database = Database::with("PRAGMA auto_vacuum = FULL");
    let mut writer = database.counter();
    let mut follower = database.follow_eagerly(None);
    let image = Image::of(&mut follower.base().unwrap());
    let mut sizes = Vec::new();
    for _ in 0..5 {
        for _ in 0..30 {
            writer.count();
        }
        writer.connection.execute("UPDATE filler SET bytes = randomblob(5000)", []).unwrap();
        writer.connection.execute("DELETE FROM filler", []).unwrap();
        for commit in drain(&mut follower) {
            image.apply(&commit);
            sizes.push(commit.database_pages);
        }
        image.check();
    }
    assert!(sizes.windows(2).any(|pair| pair[1] + 5 < pair[0]), "{sizes:?}");
    assert_eq!(image.counter(), 150);
}

/// A transaction that outgrows the cache is written to the log before it is committed, and
/// rewritten there; nothing of it is seen until then, and then the last of each page.
#[test]
fn what_is_spilled_is_not_seen_before_it_is_committed() {
    let database = Database::new();
    let mut writer = database.counter();
    writer.connection.pragma_update(None, "cache_size", 5).unwrap();
    let mut follower = database.follow_eagerly(None);
    let image = Image::of(&mut follower.base().unwrap());
    let log = beside(&database.path, "-wal");
    let size = || std::fs::metadata(&log).unwrap().len();
    for round in 1..=6 {
        let before = size();
        writer.connection.execute_batch("BEGIN; UPDATE counter SET n = n + 1").unwrap();
        for part in 0..3 {
            let statement =
                "WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 90)
                INSERT OR REPLACE INTO filler SELECT x, randomblob(3000) FROM i";
            writer.connection.execute(statement, []).unwrap();
            assert!(drain(&mut follower).is_empty());
            let savepoint = if part == 0 { "SAVEPOINT s" } else { "ROLLBACK TO s" };
            writer.connection.execute_batch(savepoint).unwrap();
            assert!(drain(&mut follower).is_empty());
        }
        assert!(round > 1 || size() > before + 100_000, "it was spilled");
        // Every second one is abandoned, and the next one written over it.
        let end = if round % 2 == 0 { "ROLLBACK" } else { "COMMIT" };
        writer.connection.execute_batch(end).unwrap();
        let commits = drain(&mut follower);
        assert_eq!(commits.len(), round % 2);
        image.apply_counts(&commits);
        image.check();
    }
    writer.count();
    image.apply_counts(&drain(&mut follower));
    assert_eq!(image.counter(), 4);
}

/// A writer may be killed when all of its transaction is in the log and before it said so.
/// SQLite then does not know of it, and writes the next one over it.
#[test]
fn a_transaction_that_was_never_committed_is_never_seen() {
    let database = Database::new();
    let mut writer = database.counter();
    writer.count();
    let mut follower = database.follow(None);
    let image = Image::of(&mut follower.base().unwrap());
    writer.count();
    image.apply_counts(&drain(&mut follower));

    // A frame that is right in every respect, behind what is committed.
    let point = follower.point.unwrap();
    let mut frame = vec![7; usize::try_from(point.frame_bytes()).unwrap()];
    frame[..4].copy_from_slice(&2_u32.to_be_bytes());
    frame[4..8].copy_from_slice(&9_u32.to_be_bytes());
    frame[8..16].copy_from_slice(&point.salts);
    let sum = wal::checksum(point.big_endian, &frame[..8], point.checksum);
    let [a, b] = wal::checksum(point.big_endian, &frame[24..], sum);
    frame[16..20].copy_from_slice(&a.to_be_bytes());
    frame[20..24].copy_from_slice(&b.to_be_bytes());
    let log = File::options().write(true).open(follower.wal.path()).unwrap();
    log.write_all_at(&frame, point.offset).unwrap();
    let mut alone = Wal::open(follower.wal.path()).unwrap();
    assert!(
        matches!(alone.next(&point, u64::MAX, 0).unwrap(), Next::Transaction(..)),
        "whoever goes by the log alone takes it for a commit"
    );

    assert!(drain(&mut follower).is_empty());
    for _ in 0..5 {
        writer.count();
        image.apply_counts(&drain(&mut follower));
    }
    assert_eq!(image.counter(), 7);
    image.check();
}
