//! Losing nothing when the follower is killed: a holder beside it that moves when it does.

use super::*;

/// What outlives the follower: all that was kept, and who holds the log.
struct Keeping<'a> {
    image: &'a Image,
    position: Position,
    holder: Holder,
}

impl Keeping<'_> {
    fn put(&mut self, follower: &Follower, commits: &[Commit]) {
        self.image.apply_counts(commits);
        if !commits.is_empty() {
            self.position = kept(follower);
        }
    }
}

impl Keeper for Keeping<'_> {
    fn keep(&mut self, follower: &Follower, commits: &[Commit]) -> Kept {
        self.put(follower, commits);
        if self.holder.move_on().unwrap() { Kept::All } else { Kept::Stuck }
    }
}

/// The program checkpoints all the time, and others force it to. Each follower is killed, half
/// of them with what they had read and not kept.
#[test]
fn a_held_log_has_all_that_was_not_kept() {
    let database = Database::new();
    let mut writer = database.counter();
    writer.connection.pragma_update(None, "wal_autocheckpoint", 5).unwrap();
    let mut other = Python::connect(&database.path);
    other.say("PRAGMA busy_timeout=0");
    let mut follower = database.follow_eagerly(None);
    let image = Image::of(&mut follower.base().unwrap());
    let holder = Holder::open(&database.path).unwrap();
    let mut keeping = Keeping { image: &image, position: kept(&follower), holder };
    let (mut counted, mut another_log) = (0, 0);
    for round in 0..60 {
        for step in 0..10 {
            writer.count();
            if step == 5 {
                other.say("PRAGMA wal_checkpoint(TRUNCATE)");
            }
            counted += 1;
            let commits = follower.pull_with(1 << 20, &mut keeping).unwrap();
            if step == 9 && round % 2 == 0 {
                // Read, and lost.
                break;
            }
            keeping.put(&follower, &commits);
        }
        drop(follower);
        for _ in 0..round {
            writer.count();
            other.say("PRAGMA wal_checkpoint(RESTART)");
            counted += 1;
        }
        let position = keeping.position.clone().held();
        follower = database.follow_eagerly(Some(&position));
        assert_eq!(follower.start(), Start::Continues, "round {round}");
        let salts = |point: Option<Point>| point.map(|point| point.salts);
        another_log += usize::from(salts(position.point) != salts(follower.point));
    }
    let commits = drain(&mut follower);
    keeping.put(&follower, &commits);
    assert_eq!(image.counter(), counted);
    image.check();
    assert!(another_log > 0, "the log never began again while nobody followed");
}

/// What could not be kept is returned, and the log is not let go of before.
#[test]
fn what_was_refused_is_returned_and_nothing_moves() {
    struct Saying<'a>(Kept, &'a Image);
    impl Keeper for Saying<'_> {
        fn keep(&mut self, _: &Follower, commits: &[Commit]) -> Kept {
            if self.0 == Kept::Stuck {
                self.1.apply_counts(commits);
            }
            self.0
        }
    }
    let database = Database::new();
    let mut writer = database.counter();
    let mut follower = database.follow_eagerly(None);
    let image = Image::of(&mut follower.base().unwrap());
    for kept in [Kept::Refused, Kept::Stuck] {
        for _ in 0..100 {
            writer.count();
            let commits = follower.pull_with(1 << 20, &mut Saying(kept, &image)).unwrap();
            image.apply_counts(&commits);
        }
        assert_eq!(follower.stats().hops, 0, "{kept:?}");
    }
    assert_eq!(image.counter(), 200);
    while follower.stats().hops == 0 {
        writer.count();
        let mut later = Saying(Kept::Later, &image);
        image.apply_counts(&follower.pull_with(1 << 20, &mut later).unwrap());
    }
}

/// A log that was made anew has any number, whoever says that the old one was held.
#[test]
fn a_log_that_was_deleted_does_not_follow_because_somebody_held_one() {
    let database = Database::new();
    let mut writer = database.counter();
    let mut follower = database.follow(None);
    drop(follower.base().unwrap());
    writer.count();
    assert_eq!(drain(&mut follower).len(), 1);
    let position = kept(&follower).held();
    drop((follower, writer));
    // It had the last connection, and deletes the log.
    Python::connect(&database.path).end();
    let mut writer = database.counter();
    writer.count();
    let follower = database.follow(Some(&position));
    assert_eq!(follower.start(), Start::Anew(Gap::LogRestarted));
}
