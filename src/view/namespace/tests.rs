pub(crate) mod history;
mod model;
mod start;
mod times;

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::base::{SnapshotId, UnixTime};
use crate::view::testing::{Sample, TestLibrary};

/// 2026-11-20T12:00:00Z.
const NOON: i64 = 1_795_176_000;

struct Fixture {
    library: Arc<TestLibrary>,
    namespace: Namespace,
    now: Arc<AtomicI64>,
}

/// `web` at 09:00 two days ago and at 11:00:00.5 today, `db` at 10:00 today; now is noon.
fn fixture() -> Fixture {
    let library = TestLibrary::new();
    library.publish("web", time(-51 * 3600), &Sample::dir([("old", Sample::file("1"))]));
    library.publish("db", time(-7200), &Sample::dir([("rows", Sample::file("2"))]));
    let half = UnixTime::new(NOON - 3600, 500_000_000);
    library.publish("web", half, &Sample::dir([("new", Sample::file("3"))]));
    over(library)
}

fn over(library: Arc<TestLibrary>) -> Fixture {
    let now = Arc::new(AtomicI64::new(NOON));
    let shared = Arc::clone(&now);
    let clock = Clock::from_fn(move || UnixTime::new(shared.load(Ordering::Relaxed), 0));
    let as_library = Arc::clone(&library) as Arc<dyn Library>;
    let namespace =
        Namespace::new(as_library, Zone::utc(), clock, Box::new(|| vec![("reads", 7)])).unwrap();
    // What was published so far is no news.
    library.refresh().unwrap();
    Fixture { library, namespace, now }
}

fn time(after_noon: i64) -> UnixTime {
    UnixTime::new(NOON + after_noon, 0)
}

impl Fixture {
    fn look(&self, path: &str) -> Option<Looked> {
        let mut looked =
            Looked::at(self.namespace.item(ROOT, Reach::Store).unwrap(), Life::Forever);
        for name in path.split('/') {
            let dir = looked.item?.ino();
            looked = self.namespace.lookup(dir, name.as_bytes(), Reach::Store).unwrap();
        }
        Some(looked)
    }

    fn ino(&self, path: &str) -> u64 {
        self.look(path).unwrap().item.unwrap_or_else(|| panic!("{path} does not exist")).ino()
    }

    fn target(&self, path: &str) -> Option<String> {
        match self.look(path)?.item? {
            Item::Link { target, .. } => Some(target),
            other => panic!("{path} is {other:?}"),
        }
    }

    fn names(&self, path: &str) -> Vec<String> {
        let dir = if path.is_empty() { ROOT } else { self.ino(path) };
        let mut names = Vec::new();
        let (mut after, mut more) = (0, true);
        // One at a time, as the smallest buffer would have it.
        while more {
            more = false;
            self.namespace
                .list(dir, after, Reach::Store, &mut |row| {
                    names.push(String::from_utf8(row.name.to_vec()).unwrap());
                    assert!(row.position > after);
                    after = row.position;
                    more = true;
                    true
                })
                .unwrap();
        }
        names
    }
}

const OLD: &str = "2026-11-18T09-00-00.000000000Z";
const DB: &str = "2026-11-20T10-00-00.000000000Z";
const NEW: &str = "2026-11-20T11-00-00.500000000Z";

#[test]
fn everything_listed_is_found_under_its_name_and_number() {
    let f = fixture();
    assert_eq!(f.names(""), ["latest", "at", "snapshots", "changes", "history", ".asof"]);
    assert_eq!(f.names("at"), [OLD, DB, NEW]);
    assert_eq!(f.names(&format!("at/{OLD}")), ["web"]);
    assert_eq!(f.names(&format!("at/{DB}")), ["db", "web"]);
    assert_eq!(f.names(&format!("at/{DB}/web")), ["old"]);
    assert_eq!(f.names(&format!("at/{NEW}/web")), ["new"]);
    assert_eq!(f.names("snapshots"), ["db", "web"]);
    assert_eq!(f.names("snapshots/web"), [OLD, NEW]);
    assert_eq!(f.names(&format!("snapshots/web/{OLD}")), ["old"]);
    assert_eq!(f.names("changes"), ["db", "web"]);
    assert_eq!(f.names("changes/db"), [""; 0]);
    assert_eq!(f.names("changes/web"), [format!("{OLD}..{NEW}")]);
    assert_eq!(f.names(&format!("changes/web/{OLD}..{NEW}")), ["before", "after"]);
    assert_eq!(f.names(&format!("changes/web/{OLD}..{NEW}/before")), ["old"]);
    assert_eq!(f.names(&format!("changes/web/{OLD}..{NEW}/after")), ["new"]);
    assert_eq!(f.names(".asof"), ["status.json", "counters.json"]);
}

/// Any two times are a name, also backwards; what is no pair of times is none.
#[test]
fn two_times_name_the_snapshots_that_they_mean() {
    let f = fixture();
    let own = format!("{OLD}..{NEW}");
    for pair in ["2026-11-18..now", "3d-ago..2026", &format!("{OLD}..today")] {
        let expected = if pair.starts_with("3d") { None } else { Some(own.clone()) };
        assert_eq!(f.target(&format!("changes/web/{pair}")), expected, "{pair}");
    }
    assert_eq!(f.names(&format!("changes/web/{NEW}..{OLD}/before")), ["new"]);
    assert_eq!(f.names(&format!("changes/web/{NEW}..{NEW}/after")), [""; 0]);
    for none in ["2025..now", "now", "..", "now..", "rubbish..now", "now..now..now"] {
        assert!(f.look(&format!("changes/web/{none}")).unwrap().item.is_none(), "{none}");
    }
    assert!(f.look("changes/other").unwrap().item.is_none());
    assert!(f.look(&format!("changes/web/{own}/between")).unwrap().item.is_none());
}

mod changes {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::view::compare::tests::{flat, tree};
    use crate::view::testing::Cut;
    use crate::view::testing::model::differing;

    /// The paths that one side shows below itself.
    fn expected(own: &Sample, other: &Sample) -> BTreeSet<String> {
        let paths = differing(own, other).into_keys().filter(|path| !path.is_empty());
        paths.map(|path| String::from_utf8(path).unwrap()).collect()
    }

    fn shown(f: &Fixture, side: &str) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        let mut open = vec![String::new()];
        while let Some(dir) = open.pop() {
            for name in f.names(&format!("{side}{dir}")) {
                let path = format!("{dir}/{name}");
                let item = f.look(&format!("{side}{path}")).unwrap().item;
                let Some(Item::Entry { found, .. }) = item else { panic!("{path}: {item:?}") };
                if found.is_dir() {
                    open.push(path.clone());
                }
                all.insert(path[1..].to_owned());
            }
        }
        all
    }

    /// A directory whose own time is other makes no other directory of those above it.
    #[test]
    fn the_time_of_a_directory_below_does_not_count() {
        let library = TestLibrary::new();
        let tree = |second: i64, text: &str| {
            let mut touched = Sample::dir([("same", Sample::file("same"))]);
            touched.mtime = UnixTime::new(second, 0);
            let above = Sample::dir([("touched", touched)]);
            Sample::dir([("above", above), ("file", Sample::file(text))])
        };
        library.publish("s", time(-20), &tree(1, "before"));
        library.publish("s", time(-10), &tree(2, "after"));
        let f = over(library);
        let pair = f.names("changes/s").remove(0);
        for side in ["before", "after"] {
            assert_eq!(f.names(&format!("changes/s/{pair}/{side}")), ["file"]);
        }
        assert!(f.look(&format!("changes/s/{pair}/after/above")).unwrap().item.is_none());
    }

    proptest! {
        #[test]
        fn both_sides_show_what_differs_and_nothing_else(before in tree(), after in tree()) {
            let library = TestLibrary::new();
            let cut = Cut { leaf: 2, inner: 2, ..Cut::default() };
            library.publish_cut("s", time(-20), &before, cut);
            library.publish_cut("s", time(-10), &after, cut);
            let f = over(library);
            let pair = f.names("changes/s").remove(0);
            let found = shown(&f, &format!("changes/s/{pair}/before"));
            prop_assert_eq!(found, expected(&before, &after));
            let found = shown(&f, &format!("changes/s/{pair}/after"));
            prop_assert_eq!(found, expected(&after, &before));
            // What is the same is not found by its name either.
            for path in flat(&before).keys().map(|path| String::from_utf8(path.clone()).unwrap()) {
                let looked = f.look(&format!("changes/s/{pair}/before/{path}"));
                let there = looked.is_some_and(|looked| looked.item.is_some());
                prop_assert_eq!(there, expected(&before, &after).contains(&path), "{}", path);
            }
        }
    }
}

/// The kernel takes two directories of one number for one that was moved.
#[test]
fn no_directory_has_a_number_twice() {
    let f = fixture();
    let mut seen = std::collections::HashMap::new();
    let mut open = vec![("".to_owned(), ROOT)];
    while let Some((path, dir)) = open.pop() {
        if let Some(before) = seen.insert(dir, path.clone()) {
            panic!("{before} and {path} have one number");
        }
        let mut below = Vec::new();
        f.namespace
            .list(dir, 0, Reach::Store, &mut |row| {
                let name = String::from_utf8_lossy(row.name).into_owned();
                below.push((format!("{path}/{name}"), row.item));
                false
            })
            .unwrap();
        for (path, item) in below {
            let again = f.namespace.item(item.ino(), Reach::Store).unwrap();
            assert_eq!(again.ino(), item.ino(), "{path}");
            let is_dir = match &item {
                Item::Dir { .. } => true,
                Item::Entry { found, .. } => found.is_dir(),
                _ => false,
            };
            if is_dir {
                assert_eq!(f.namespace.parent(item.ino(), Reach::Store).unwrap(), dir, "{path}");
                open.push((path, item.ino()));
            }
        }
    }
    assert_eq!(seen.len(), 5 + 3 + 5 + 2 + 3 + 6 + 5);
}

#[test]
fn every_other_spelling_is_a_link_to_what_it_means() {
    let f = fixture();
    for (spelling, meaning) in [
        ("now", Some(NEW)),
        ("2026", Some(NEW)),
        ("2026-11-20", Some(NEW)),
        ("2026-11-19", Some(OLD)),
        ("yesterday", Some(OLD)),
        ("2026-11-20T10", Some(DB)),
        ("2026-11-20T11-00-00Z", Some(NEW)),
        ("2026-11-20T11:00:00.4+00:00", Some(DB)),
        ("90m-ago", Some(DB)),
        ("@1795176000", Some(NEW)),
        ("2026-11-17", None),
        ("1970", None),
        ("last tuesday", None),
        (".git", None),
    ] {
        let target = f.target(&format!("at/{spelling}"));
        assert_eq!(target.as_deref(), meaning, "{spelling}");
    }
    assert_eq!(f.target("latest"), Some(format!("at/{NEW}")));
    assert_eq!(f.target("snapshots/web/2026-11-19").as_deref(), Some(OLD));
    assert_eq!(f.target("snapshots/db/2026-11-19"), None);
    assert!(f.namespace.lookup(AT, b"\xff\xfe", Reach::Store).unwrap().item.is_none());
}

/// A link of a number always leads to the same place: the kernel may keep it.
#[test]
fn latest_moves_by_being_another_link() {
    let f = fixture();
    let before = f.look("latest").unwrap();
    let (number, life) = (before.item.unwrap().ino(), before.life);
    assert_eq!(life, Life::Brief);
    f.library.publish("db", time(-60), &Sample::dir([("rows", Sample::file("4"))]));
    let changes = f.namespace.refresh().unwrap().unwrap();
    assert!(changes.inodes.contains(&AT) && changes.entries.contains(&(ROOT, "latest".into())));
    assert_eq!(f.target("latest").unwrap(), "at/2026-11-20T11-59-00.000000000Z");
    assert_ne!(f.ino("latest"), number);
    match f.namespace.item(number, Reach::Store).unwrap() {
        Item::Link { target, .. } => assert_eq!(target, format!("at/{NEW}")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_snapshots_of_one_instant_have_two_names() {
    let library = TestLibrary::new();
    for n in ["1", "2"] {
        library.publish("s", time(-60), &Sample::dir([(n, Sample::file(n))]));
    }
    let f = over(library);
    let names = f.names("snapshots/s");
    assert_eq!(names.len(), 2);
    assert!(names[0].contains("~0000000000000001"), "{names:?}");
    assert_eq!(f.names(&format!("snapshots/s/{}", names[0])), ["1"]);
    assert_eq!(f.names(&format!("snapshots/s/{}", names[1])), ["2"]);
    assert_eq!(f.names(&format!("at/{}/s", names[1])), ["2"]);
}

/// An index that was deleted under a running mount would give used numbers again.
#[test]
fn a_lost_index_never_makes_two_views_share_a_number() {
    let f = fixture();
    let old = f.ino(&format!("at/{OLD}"));
    f.library.forget_numbers();
    let mut numbers: Vec<u64> = ["", "/web"]
        .iter()
        .flat_map(|tail| {
            [format!("at/{NEW}{tail}"), format!("at/{OLD}{tail}"), format!("at/{DB}{tail}")]
        })
        .map(|path| f.ino(&path))
        .collect();
    assert_eq!(f.ino(&format!("at/{OLD}")), old);
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 6);
}

/// The same index gives the same numbers after a remount, whatever is looked at first.
#[test]
fn numbers_are_the_same_after_a_remount() {
    let f = fixture();
    let before = [f.ino("snapshots/web"), f.ino(&format!("at/{NEW}/web/new")), f.ino("latest")];
    let g = over(Arc::clone(&f.library));
    let after = [g.ino("latest"), g.ino(&format!("at/{NEW}/web/new")), g.ino("snapshots/web")];
    assert_eq!(before.iter().rev().collect::<Vec<_>>(), after.iter().collect::<Vec<_>>());
}

#[test]
fn an_event_loop_never_waits_for_numbers() {
    let f = fixture();
    let look = |name: &[u8]| f.namespace.lookup(AT, name, Reach::Memory);
    assert!(matches!(look(NEW.as_bytes()), Err(Error::WouldBlock)));
    f.ino(&format!("at/{NEW}"));
    assert!(look(NEW.as_bytes()).unwrap().item.is_some());
    assert!(look(b"now").unwrap().item.is_some());
    let absent = f.namespace.lookup(ROOT, b"nothing", Reach::Memory).unwrap();
    assert!(absent.item.is_none());
}

#[test]
fn reports_are_json_and_hold_still_for_a_reader() {
    let f = fixture();
    let text = |path: &str| match f.look(path).unwrap().item.unwrap() {
        Item::Report { text, .. } => text,
        other => panic!("{other:?}"),
    };
    let status: serde_json::Value = serde_json::from_slice(&text(".asof/status.json")).unwrap();
    assert_eq!(status["zone"], "UTC");
    assert_eq!(status["sources"][1]["source"], "web");
    assert_eq!(status["sources"][1]["snapshots"], 2);
    assert_eq!(status["sources"][1]["newest"]["age_seconds"], 3599);
    let counters: serde_json::Value = serde_json::from_slice(&text(".asof/counters.json")).unwrap();
    assert_eq!(counters["mount"]["reads"], 7);
    let before = text(".asof/status.json");
    assert!(Arc::ptr_eq(&before, &text(".asof/status.json")));
    f.now.fetch_add(2, Ordering::Relaxed);
    let after = text(".asof/status.json");
    assert!(before != after && before.len() == after.len());
}

#[test]
fn an_empty_repository_has_no_latest() {
    let f = over(TestLibrary::new());
    assert_eq!(f.names(""), ["at", "snapshots", "changes", "history", ".asof"]);
    assert!(f.look("latest").unwrap().item.is_none());
    assert!(f.look("at/now").unwrap().item.is_none());
}

#[test]
fn attributes_of_asof_are_answered_and_not_listed() {
    let library = TestLibrary::new();
    let mut file = Sample::file("x").xattr("user.color", b"red").xattr("security.x", b"\0\xff");
    file.marks = 1;
    let root = Sample::dir([("f", file), ("l", Sample::symlink("f"))]);
    library.publish("s", time(-60), &root);
    let f = over(library);
    let get = |path: &str, name: &str| {
        let value = f.namespace.attribute(f.ino(path), name.as_bytes(), Reach::Store);
        value.map(|v| String::from_utf8_lossy(&v).into_owned()).ok()
    };
    let at = "at/2026-11-20T11-59-00.000000000Z";
    let path = format!("{at}/s/f");
    let names = f.namespace.attribute_names(f.ino(&path), Reach::Store).unwrap();
    assert_eq!(names, b"security.x\0user.color\0");
    assert_eq!(get(&path, "user.color").as_deref(), Some("red"));
    assert_eq!(get(&path, "user.asof.source").as_deref(), Some("s"));
    assert_eq!(get(&path, "user.asof.time").as_deref(), Some("2026-11-20T11:59:00Z"));
    assert_eq!(get(&path, "user.asof.btime").as_deref(), Some("1970-01-01T00:00:01Z"));
    assert_eq!(get(&path, "user.asof.marks").as_deref(), Some("changed-while-read"));
    let sha = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    assert_eq!(get(&path, "user.asof.sha256").as_deref(), Some(sha));
    assert_eq!(get(&path, "user.asof.entries"), None);
    assert_eq!(get(&format!("{at}/s"), "user.asof.entries").as_deref(), Some("2"));
    assert_eq!(get(&format!("{at}/s"), "user.asof.bytes").as_deref(), Some("1"));
    assert_eq!(get(&format!("{at}/s/l"), "user.asof.source"), None);
    assert_eq!(get(at, "user.asof.time").as_deref(), Some("2026-11-20T11:59:00Z"));
    assert_eq!(get("snapshots", "user.asof.time"), None);
}
