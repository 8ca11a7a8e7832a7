use super::*;
use crate::capture::sqlite::testing::{Database, Image, drain};

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

    let mut image = Image::of(&mut follower.base().unwrap());
    assert_eq!(image.counter(), 3);
    assert!(follower.pull(usize::MAX).unwrap().is_empty());

    for expected in 4..40 {
        writer.count();
        let commits = drain(&mut follower);
        assert_eq!(commits.len(), 1, "one commit, one change");
        image.apply(&commits[0]);
        assert_eq!(image.counter(), expected);
    }
    image.check();
}
