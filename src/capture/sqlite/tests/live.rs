//! Other processes and threads that write, checkpoint and die while they are followed.

use std::thread;

use super::*;

/// Counts for ever, with a sync for each commit, so that it is mostly killed in one.
const COUNTER: &str = r"
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
c.execute('PRAGMA synchronous=FULL')
while True:
    c.execute('BEGIN IMMEDIATE')
    c.execute('UPDATE counter SET n = n + 1')
    c.execute('INSERT OR REPLACE INTO filler SELECT n % 97, randomblob(n % 3000) FROM counter')
    c.execute('COMMIT')
";

/// Does what a program can do to its log, until its input ends. Says when it first did.
const ANTAGONIST: &str = r"
import itertools, select, sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0.05)
done = False
for mode in itertools.cycle(['PASSIVE', 'FULL', 'RESTART', 'TRUNCATE']):
    if select.select([sys.stdin], [], [], 0.002)[0]:
        break
    try:
        busy = c.execute(f'PRAGMA wal_checkpoint({mode})').fetchone()[0]
        if not busy and not done:
            print('ready', flush=True)
        done = done or not busy
    except sqlite3.OperationalError:
        pass
";

/// Follows until the image has counted to `last`.
fn follow_to(follower: &mut Follower, image: &Image, last: i64) {
    while image.counter() < last {
        follower.wait(Duration::MAX, &Stop::new()).unwrap();
        image.apply_counts(&follower.pull(1 << 18).unwrap());
    }
}

/// A writer at full speed that checkpoints by itself, from the middle of its work on.
#[test]
fn a_busy_writer_is_followed_without_a_gap() {
    let database = Database::new();
    let mut writer = database.counter();
    let (begun, begins) = std::sync::mpsc::channel();
    let writing = thread::spawn(move || {
        for n in 1..=3000 {
            writer.count();
            if n == 500 {
                begun.send(()).unwrap();
            }
        }
        writer
    });
    begins.recv().unwrap();
    let mut follower = database.follow(None);
    let image = Image::of(&mut follower.base().unwrap());
    assert!(image.counter() >= 500);
    image.check();
    follow_to(&mut follower, &image, 3000);
    let _writer = writing.join().unwrap();
    image.check();
}

/// Every kind of checkpoint from another process, in a loop, while hops are as frequent as
/// can be.
#[test]
fn checkpoints_by_others_lose_nothing() {
    let database = Database::new();
    let mut writer = database.counter();
    let mut follower = database.follow_eagerly(None);
    let image = Image::of(&mut follower.base().unwrap());
    let mut antagonist = Python::run(ANTAGONIST, &database.path);
    assert_eq!(antagonist.hear(), "ready");
    let (go, going) = std::sync::mpsc::channel();
    let writing = thread::spawn(move || {
        while going.recv().is_ok() {
            for _ in 0..50 {
                writer.count();
            }
        }
        writer
    });
    // However slow this machine is at what: until the log has begun again some times.
    let mut last = 0;
    while last < 2000 || follower.stats().generations < 5 {
        go.send(()).unwrap();
        last += 50;
        follow_to(&mut follower, &image, last);
    }
    drop(go);
    let _writer = writing.join().unwrap();
    image.check();
    antagonist.end();
}

/// A writer that is killed, again and again, in the middle of its transactions and of its
/// checkpoints, with another process at the log.
#[test]
fn killed_writers_leave_a_chain_without_a_gap() {
    let database = Database::new();
    drop(database.counter());
    let mut follower = database.follow_eagerly(None);
    let image = Image::of(&mut follower.base().unwrap());
    let mut antagonist = Python::run(ANTAGONIST, &database.path);
    assert_eq!(antagonist.hear(), "ready");
    for round in 1..=12 {
        let writer = Python::run(COUNTER, &database.path);
        let last = image.counter() + 20 + round * 3;
        follow_to(&mut follower, &image, last);
        writer.kill();
    }
    let mut reader = Python::connect(&database.path);
    let n: i64 = reader.say("SELECT n FROM counter").strip_prefix("ok ").unwrap().parse().unwrap();
    follow_to(&mut follower, &image, n);
    assert_eq!(image.counter(), n);
    assert!(drain(&mut follower).is_empty());
    image.check();
}

/// Two followers of one database in one process do not take each other's locks away.
#[test]
fn a_follower_that_ends_leaves_the_locks_of_the_other() {
    let database = Database::new();
    drop(database.counter());
    let mut one = database.follow_eagerly(None);
    let image = Image::of(&mut one.base().unwrap());
    let mut program = Python::connect(&database.path);
    for _ in 0..10 {
        let mut other = database.follow_eagerly(None);
        let _ = Image::of(&mut other.base().unwrap());
        drop(other);
        for _ in 0..10 {
            assert_eq!(program.say("UPDATE counter SET n = n + 1"), "ok");
        }
        image.apply_counts(&drain(&mut one));
    }
    // Without the shared lock of the first one this would empty the log and delete it.
    program.end();
    assert!(beside(&database.path, "-wal").exists());
    assert_eq!(image.counter(), 100);
}
