//! Thinning: what is promised to be kept is, and nothing else than what was is ever shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use asof::base::{Clock, SnapshotId, Stop, StreamId, UnixTime};
use asof::format::node::{Entry, FileKind, Owner};
use asof::format::segment::StreamPoint;
use asof::ops::follow::{Change, Data, Image, Origin, Publisher};
use asof::ops::moments::{Between, Listed, each_moment};
use asof::ops::thin::{Keep, ThinOptions, ThinReport, thin};
use asof::repo::reader::ReaderOptions;
use asof::repo::trees::Draft;
use asof::repo::writer::WriterOptions;
use asof::repo::{Library, Shelf, browse};
use asof::store::MemoryStore;
use asof::view::Zone;
use proptest::prelude::*;

use crate::fixture::{TestRepo, create};
use crate::followed::{PAGE, write_pages};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A database with a long history, and each state that it ever was in.
pub struct History {
    pub repo: TestRepo,
    publisher: Publisher,
    stream: StreamId,
    pub states: Vec<(UnixTime, Vec<u8>)>,
    waiting: Vec<Change>,
    published: u64,
}

impl History {
    /// It began so long ago.
    pub fn new(began: Duration) -> History {
        let repo = create(Arc::new(MemoryStore::new()), true);
        let origin = Origin {
            source: "shop".into(),
            kind: "sqlite",
            path: b"/srv/kv.db".to_vec(),
            host: "h".into(),
            user: "u".into(),
        };
        let (options, stop) = (WriterOptions::default(), Stop::default());
        let publisher = Publisher::new(&repo.open(), origin, options, &stop);
        let at = Clock::system().now().minus(began);
        let states = vec![(at, vec![7; 3 * PAGE])];
        let stream = StreamId([5; 16]);
        let (waiting, published) = (Vec::new(), 0);
        let mut history = History { repo, publisher, stream, states, waiting, published };
        history.image();
        history
    }

    fn last(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    /// A transaction so long after the one before, but not in the future.
    pub fn commit(&mut self, later: Duration, size: u32, pages: &[u32]) {
        let (before, mut state) = self.states.last().cloned().unwrap();
        let at = before.plus(later);
        if at >= Clock::system().now() {
            return;
        }
        state.resize(size as usize * PAGE, 0);
        let position = self.last() + 1;
        let (numbers, data) = write_pages(&mut state, pages, |number| {
            let page = [position.to_le_bytes(), u64::from(number).to_le_bytes()].concat();
            page.into_iter().cycle().take(PAGE).collect()
        });
        self.states.push((at, state));
        let data = Data::Held(data);
        let page_bytes = PAGE as u32;
        self.waiting.push(Change { position, at, within: 1, size, page_bytes, numbers, data });
    }

    pub fn segment(&mut self) {
        let changes = std::mem::take(&mut self.waiting);
        if !changes.is_empty() {
            self.publisher.segment(self.stream, self.published, &changes).unwrap();
            self.published = self.last();
        }
    }

    pub fn image(&mut self) {
        self.segment();
        let position = self.last();
        let (at, state) = &self.states[position as usize];
        let entry = Entry::new(b"kv.db", FileKind::File, 0o600, UnixTime::EPOCH);
        let file = Draft { entry, refs: Vec::new(), owner: Owner::default() };
        let point = Some(StreamPoint { stream: self.stream, position, gap: None });
        let bytes = &mut state.as_slice();
        self.publisher.image(Image { point, at: *at, file, bytes }).unwrap();
    }

    pub fn shelf(&self) -> (tempfile::TempDir, Shelf) {
        let elsewhere = TestRepo::from_elsewhere(self.repo.store.clone());
        let shelf =
            Shelf::open(&elsewhere.open(), &elsewhere.local(), ReaderOptions::default()).unwrap();
        (elsewhere.cache, shelf)
    }

    fn thin(&self, keep: &Keep) -> ThinReport {
        let (cache, shelf) = self.shelf();
        let options = ThinOptions {
            source: "shop".into(),
            keep: keep.clone(),
            zone: Zone::utc(),
            dry_run: false,
            writer: WriterOptions::default(),
        };
        let dry = ThinOptions { dry_run: true, ..options.clone() };
        let promised = thin(&shelf, &dry, cache.path(), &Stop::default()).unwrap();
        let report = thin(&shelf, &options, cache.path(), &Stop::default()).unwrap();
        assert_eq!(
            ThinReport { dry_run: true, bytes_stored: 0, ..report },
            promised,
            "a dry run promises something else"
        );
        report
    }

    /// The positions that can be seen, each of which shows what was.
    fn seen(&self) -> BTreeMap<u64, UnixTime> {
        let (_cache, shelf) = self.shelf();
        let mut listed: Vec<(SnapshotId, u64, UnixTime)> = Vec::new();
        each_moment(shelf.repo(), "shop", Between::default(), |one| {
            match one {
                Listed::State { id, position, at, .. } => listed.push((*id, *position, *at)),
                Listed::Gap { .. } => panic!("{one:?}"),
            }
            Ok::<(), asof::ops::Error>(())
        })
        .unwrap();
        let mut seen = BTreeMap::new();
        for (id, position, at) in listed {
            let (then, expected) = &self.states[position as usize];
            assert_eq!(at, *then);
            let info = shelf.snapshot(&id).unwrap();
            let info = info.unwrap_or_else(|| panic!("{position} is listed and is not there"));
            let dir = browse::Found::root(&info).dir().unwrap();
            let file = browse::find(&shelf, dir, b"kv.db.raw").unwrap().unwrap().content();
            let bytes = shelf.read(&file, 0, expected.len() + 1).unwrap();
            assert!(bytes == expected, "the state at {position} is not what it was");
            let found = shelf.state_at("shop", at).unwrap().unwrap();
            assert_eq!((found.id, found.taken), (id, at), "another state is shown at its time");
            seen.insert(position, at);
        }
        seen
    }

    /// The positions that must be kept.
    fn promised(&self, keep: &Keep) -> Vec<u64> {
        let now = Clock::system().now();
        let unit = |at: UnixTime, size: i64| at.seconds.div_euclid(size);
        let mut promised = Vec::new();
        for (position, (at, _)) in self.states.iter().enumerate().take(self.published as usize + 1)
        {
            let next = self.states.get(position + 1).filter(|_| (position as u64) < self.published);
            let (age, next) = (now.since(*at), next.map(|(next, _)| *next));
            let last_of = |size| next.is_none_or(|next| unit(next, size) != unit(*at, size));
            let hourly = age < keep.hourly_for && last_of(3600);
            let daily = keep.daily_for.is_none_or(|span| age < span) && last_of(86_400);
            if age < keep.all_for || hourly || daily || next.is_none() {
                promised.push(position as u64);
            }
        }
        promised
    }
}

#[derive(Debug, Clone)]
enum Act {
    Commit(Duration, u32, Vec<u32>),
    Segment,
    Image,
    Thin,
}

fn later() -> impl Strategy<Value = Duration> {
    prop_oneof![
        6 => (1_u64..5000).prop_map(Duration::from_millis),
        3 => (1_u64..5000).prop_map(Duration::from_secs),
        1 => (1_u64..40).prop_map(|hours| HOUR * hours as u32),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let pages = prop::collection::vec(0_u32..9, 0..4);
    prop_oneof![
        9 => (later(), 1_u32..9, pages).prop_map(|(l, s, p)| Act::Commit(l, s, p)),
        4 => Just(Act::Segment),
        1 => Just(Act::Image),
        1 => Just(Act::Thin),
    ]
}

fn keeps() -> impl Strategy<Value = Keep> {
    let some = prop_oneof![Just(None), (0_u32..12).prop_map(|days| Some(DAY * days))];
    (1_u32..60, 0_u32..200, some).prop_map(|(all, hourly, daily_for)| Keep {
        all_for: HOUR * all,
        hourly_for: HOUR * hourly,
        daily_for,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_is_promised_is_kept_and_what_is_shown_was_so(
        acts in prop::collection::vec(act(), 1..80),
        days in 1_u32..14,
        keep in keeps(),
    ) {
        let mut history = History::new(DAY * days);
        for act in acts {
            match act {
                Act::Commit(later, size, pages) => history.commit(later, size, &pages),
                Act::Segment => history.segment(),
                Act::Image => history.image(),
                Act::Thin => drop(history.thin(&keep)),
            }
        }
        history.segment();
        let before = history.seen();
        let report = history.thin(&keep);
        prop_assert_eq!(report.moments_before, before.len() as u64);
        // Whoever looks after `now` was taken finds nothing younger than it was.
        let promised = history.promised(&keep);
        let seen = history.seen();
        prop_assert_eq!(report.moments, seen.len() as u64);
        for position in promised {
            prop_assert!(
                seen.contains_key(&position) || !before.contains_key(&position),
                "{} of {:?} is gone", position, seen
            );
        }
        prop_assert!(seen.keys().all(|position| before.contains_key(position)));
        // Again changes nothing that can be seen.
        history.thin(&keep);
        prop_assert!(history.seen().keys().eq(seen.keys()));
    }
}

/// A live stream makes many small segments; of an old one there are few, with all in them.
#[test]
fn many_small_segments_become_few_and_nothing_is_lost() {
    let mut history = History::new(DAY * 3);
    for n in 0..100 {
        history.commit(Duration::from_secs(1), 9, &[n % 9]);
        history.segment();
    }
    let keep = Keep { all_for: HOUR, hourly_for: DAY * 30, daily_for: None };
    // All of it within one hour, or two: what is kept of that is little.
    let all = Keep { all_for: DAY * 2, ..keep.clone() };
    let before = history.seen();
    let report = history.thin(&Keep { all_for: DAY * 30, ..all });
    assert_eq!((report.segments_forgotten, report.moments), (0, 101));
    let report = history.thin(&keep);
    assert_eq!((report.segments_forgotten, report.segments_made), (100, 1));
    let seen = history.seen();
    assert!(seen.len() <= 3, "{seen:?}");
    assert_eq!(seen.keys().last(), before.keys().last());
    assert_eq!(history.thin(&keep).segments_forgotten, 0);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let history = History::new(DAY);
    let (cache, shelf) = history.shelf();
    let options = |source: &str, all_for| ThinOptions {
        source: source.into(),
        keep: Keep { all_for, hourly_for: DAY, daily_for: None },
        zone: Zone::utc(),
        dry_run: false,
        writer: WriterOptions::default(),
    };
    let refused = |options| thin(&shelf, &options, cache.path(), &Stop::default()).unwrap_err();
    let soon = refused(options("shop", Duration::from_secs(60))).to_string();
    assert!(soon.contains("of the last hour at least"), "{soon}");
    let other = refused(options("web", DAY)).to_string();
    assert!(other.contains("web was never followed"), "{other}");
}
