//! The start of a mount, which knows the newest snapshots alone, and what comes after it.

use super::*;

/// How often all snapshots were read.
fn reads(f: &Fixture) -> u64 {
    f.library.moments_read.load(Ordering::Relaxed)
}

/// The sources that an instant shows.
fn sources(f: &Fixture, at: &str) -> Vec<String> {
    let mut names = f.names(&format!("at/{at}"));
    names.sort();
    names
}

#[test]
fn the_newest_is_shown_without_the_others_being_read() {
    let f = fixture();
    assert_eq!(f.names(""), ["latest", "at", "snapshots", "changes", "history", ".asof"]);
    assert_eq!(f.target("latest"), Some(format!("at/{NEW}")));
    assert_eq!(sources(&f, NEW), ["db", "web"]);
    assert_eq!(f.names(&format!("at/{NEW}/web")), ["new"]);
    assert_eq!(f.target("at/now"), Some(NEW.to_owned()));
    assert_eq!(f.target("at/2026-11-20T11-30"), Some(NEW.to_owned()));
    assert_eq!(f.names("snapshots"), ["db", "web"]);
    assert_eq!(f.names("history"), ["db", "web"]);
    f.namespace.totals(Reach::Store).unwrap();
    assert_eq!(reads(&f), 0);

    let old = f.namespace.lookup(AT, b"2026-11-19", Reach::Memory);
    assert!(matches!(old, Err(Error::WouldBlock)), "an event loop reads no index: {old:?}");
    assert_eq!(f.target("at/2026-11-19"), Some(OLD.to_owned()));
    assert_eq!(f.names("snapshots/web"), [OLD, NEW]);
    assert_eq!(f.names("at"), [OLD, DB, NEW]);
    assert_eq!(reads(&f), 1);
}

#[test]
fn the_first_question_of_the_past_changes_nothing_that_was_told() {
    let f = fixture();
    let newest = f.ino(&format!("at/{NEW}"));
    f.names("at");
    assert_eq!(f.ino(&format!("at/{NEW}")), newest);
    assert_eq!(f.namespace.refresh().unwrap(), None);
}

/// Between the start and the first question of the past another process may learn of what
/// belongs into the newest view. Whoever is there stays; the kernel is told with the next
/// refresh, although that itself finds nothing new.
#[test]
fn what_came_before_the_past_was_read_is_told_with_the_next_refresh() {
    let f = fixture();
    let before = f.ino(&format!("at/{NEW}"));
    let web = f.ino(&format!("at/{NEW}/web"));
    f.library.publish("late", time(-9000), &Sample::dir([("late", Sample::file("4"))]));
    f.library.refresh().unwrap();
    assert_eq!(sources(&f, NEW), ["db", "web"], "it is not known yet");

    assert_eq!(sources(&f, DB), ["db", "late", "web"]);
    let after = f.ino(&format!("at/{NEW}"));
    assert_ne!(after, before);
    assert_eq!(sources(&f, NEW), ["db", "late", "web"]);
    let inside = |name: &[u8]| f.namespace.lookup(before, name, Reach::Store).unwrap().item;
    assert!(inside(b"late").is_none());
    assert_eq!(inside(b"web").map(|item| item.ino()), Some(web));

    let changes = f.namespace.refresh().unwrap().unwrap();
    assert!(changes.entries.contains(&(AT, NEW.to_owned())), "{changes:?}");
    assert_eq!(f.namespace.refresh().unwrap(), None, "once");
}

/// The same if what was the newest is forgotten, or a source comes to an end with it.
#[test]
fn what_was_forgotten_before_the_past_was_read_is_gone_and_whoever_is_inside_stays() {
    let f = fixture();
    let before = f.ino(&format!("at/{NEW}"));
    for path in ["db", "web"] {
        f.ino(&format!("at/{NEW}/{path}"));
    }
    let ids = f.library.snapshots().unwrap();
    for info in ids.iter().filter(|info| info.shown_from() != time(-51 * 3600)) {
        f.library.forget(info.snapshot.id);
    }
    f.library.refresh().unwrap();
    assert_eq!(f.names("at"), [OLD]);
    assert_eq!(f.names("snapshots"), ["web"]);
    assert_eq!(f.target("latest"), Some(format!("at/{OLD}")));
    for name in [&b"db"[..], b"web"] {
        assert!(f.namespace.lookup(before, name, Reach::Store).unwrap().item.is_some());
    }
    let changes = f.namespace.refresh().unwrap().unwrap();
    assert!(changes.entries.contains(&(AT, NEW.to_owned())), "{changes:?}");
}

/// Snapshots of the newest instant: the one that a time finds is shown at the start too.
#[test]
fn ties_and_clamped_times_are_settled_at_the_start_as_later() {
    let library = TestLibrary::new();
    let one = |name: &str| Sample::dir([(name, Sample::file("x"))]);
    // One claims to be of tomorrow, and counts from its receipt.
    let times = [(time(-60), time(-30)), (time(86_400), time(-60)), (time(-60), time(-20))];
    for (times, name) in times.into_iter().zip(["tie", "clamped", "last"]) {
        library.publish_received("s", times, &one(name), crate::view::testing::Cut::default());
    }
    let f = over(library);
    let newest = instant_name(time(-60));
    assert_eq!(f.target("latest"), Some(format!("at/{newest}")));
    assert_eq!(f.names(&format!("at/{newest}/s")), ["last"]);
    let begun = f.ino(&format!("at/{newest}/s"));
    assert_eq!(f.names("snapshots/s").len(), 3);
    assert_eq!(f.ino(&format!("at/{newest}/s")), begun);
    assert_eq!(reads(&f), 1);
}
