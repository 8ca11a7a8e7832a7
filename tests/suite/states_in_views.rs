//! What the mount's directories show of a followed source: at any time the state that was.

use std::sync::Arc;
use std::time::Duration;

use asof::base::{Clock, UnixTime};
use asof::repo::Library;
use asof::view::error::Reach;
use asof::view::namespace::{Item, Namespace, ROOT};
use asof::view::{Zone, instant_name};

use crate::thin::History;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

struct Mounted {
    namespace: Namespace,
    library: Arc<dyn Library>,
    _cache: tempfile::TempDir,
}

impl Mounted {
    fn new(history: &History) -> Mounted {
        let (cache, shelf) = history.shelf();
        let library: Arc<dyn Library> = Arc::new(shelf);
        let figures = Box::new(Vec::new);
        let namespace =
            Namespace::new(Arc::clone(&library), Zone::utc(), Clock::system(), figures).unwrap();
        Mounted { namespace, library, _cache: cache }
    }

    /// What a path leads to, links followed; none if nothing is there.
    fn look(&self, path: &str) -> Option<Item> {
        let mut item = self.namespace.item(ROOT, Reach::Store).unwrap();
        for name in path.split('/') {
            let looked = self.namespace.lookup(item.ino(), name.as_bytes(), Reach::Store).unwrap();
            item = match looked.item? {
                Item::Link { target, .. } => {
                    let target = target.trim_start_matches("at/").to_owned();
                    self.look(&format!("at/{target}"))?
                }
                other => other,
            };
        }
        Some(item)
    }

    fn target(&self, name: &str) -> String {
        let at = self.look("at").unwrap().ino();
        match self.namespace.lookup(at, name.as_bytes(), Reach::Store).unwrap().item {
            Some(Item::Link { target, .. }) => target,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn read(&self, path: &str) -> Vec<u8> {
        let Some(Item::Entry { found, .. }) = self.look(path) else { panic!("{path} is no file") };
        let content = found.content();
        let size = usize::try_from(content.size()).unwrap();
        self.library.read(&content, 0, size).unwrap().to_vec()
    }

    fn attribute(&self, path: &str, name: &str) -> Option<String> {
        let ino = self.look(path).unwrap().ino();
        let name = format!("user.asof.{name}");
        let value = self.namespace.attribute(ino, name.as_bytes(), Reach::Store).ok()?;
        Some(String::from_utf8(value).unwrap())
    }
}

fn busy() -> History {
    let mut history = History::new(DAY * 2);
    for n in 0..30 {
        history.commit(SECOND * (n % 7 + 1), 9, &[n, n + 3]);
        if n % 4 == 0 {
            history.segment();
        }
        if n == 17 {
            history.image();
        }
    }
    history.segment();
    history
}

#[test]
fn at_every_moment_is_the_state_of_that_moment() {
    let history = busy();
    let mounted = Mounted::new(&history);
    let before = history.states[0].0.minus(SECOND);
    assert!(mounted.look(&format!("at/{}", instant_name(before))).is_none());
    for (position, (at, state)) in history.states.iter().enumerate() {
        let exact = instant_name(*at);
        assert!(mounted.read(&format!("at/{exact}/shop/kv.db.raw")) == *state, "{exact}");
        // Just before the next change it is this one still.
        let next = history.states.get(position + 1).map_or(at.plus(SECOND), |(next, _)| *next);
        let last = instant_name(next.minus(Duration::from_nanos(1)));
        assert_eq!(mounted.target(&last), exact);
        let told = mounted.attribute(&format!("at/{exact}/shop/kv.db"), "position");
        assert_eq!(told, Some(position.to_string()));
    }
    let newest = history.states.last().unwrap();
    assert!(mounted.read("latest/shop/kv.db.raw") == newest.1);
    assert_eq!(mounted.target("now"), instant_name(newest.0));
}

/// Whoever is in a view stays in it, whatever is published meanwhile.
#[test]
fn a_live_source_moves_latest_and_nothing_that_was_entered() {
    let mut history = busy();
    let mounted = Mounted::new(&history);
    let entered = mounted.look("latest/shop").unwrap().ino();
    let old = history.states.last().unwrap().clone();
    history.commit(SECOND, 12, &[4]);
    history.segment();
    assert!(mounted.namespace.refresh().unwrap().is_some());
    let new = history.states.last().unwrap();
    assert!(mounted.read("latest/shop/kv.db.raw") == new.1);
    assert!(mounted.read(&format!("at/{}/shop/kv.db.raw", instant_name(old.0))) == old.1);
    let file = mounted.namespace.lookup(entered, b"kv.db.raw", Reach::Store).unwrap().item;
    let Some(Item::Entry { found, .. }) = file else { panic!("{file:?}") };
    assert_eq!(found.content().size(), old.1.len() as u64);
    assert!(mounted.namespace.refresh().unwrap().is_none(), "nothing is new");
}

/// A day's last state is listed, and today's hours.
#[test]
fn listed_times_are_states() {
    let history = busy();
    let mounted = Mounted::new(&history);
    let at = mounted.look("at").unwrap().ino();
    let mut names = Vec::new();
    mounted
        .namespace
        .list(at, 0, Reach::Store, &mut |row| {
            names.push(String::from_utf8(row.name.to_vec()).unwrap());
            false
        })
        .unwrap();
    let states: Vec<String> = history.states.iter().map(|(at, _)| instant_name(*at)).collect();
    let listed: Vec<&String> = names.iter().filter(|name| !name.starts_with('.')).collect();
    assert!(!listed.is_empty() && listed.iter().all(|name| states.contains(name)), "{names:?}");
    assert!(listed.contains(&states.last().unwrap()));
}

/// A source that is not followed is shown beside one that is, each as of the same time.
#[test]
fn sources_of_both_kinds_are_shown_together() {
    let history = busy();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("page"), "one").unwrap();
    history.repo.backup("web", dir.path());
    let mounted = Mounted::new(&history);
    assert!(mounted.read("latest/shop/kv.db.raw") == history.states.last().unwrap().1);
    assert_eq!(mounted.read("latest/web/page"), b"one");
    let first: UnixTime = history.states[3].0;
    let past = format!("at/{}", instant_name(first));
    assert!(mounted.look(&format!("{past}/web")).is_none());
    assert!(mounted.read(&format!("{past}/shop/kv.db.raw")) == history.states[3].1);
}
