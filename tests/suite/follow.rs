//! Following a live database into a repository: every transaction can be seen again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use asof::base::{Clock, Kind, Stop, StreamId};
use asof::format::segment::Gap;
use asof::ops::follow::holder::{Limits, hold};
use asof::ops::follow::status::{Process, State, StatusBoard};
use asof::ops::follow::{FollowOptions, Origin, follow};
use asof::repo::streams::state_id;
use asof::repo::writer::WriterOptions;
use asof::repo::{Library, Repository, browse};
use asof::store::fault::{Action, Fault, Moment};
use asof::store::{Call, FaultStore, MemoryStore};
use rusqlite::Connection;

use crate::fixture::{TestRepo, create, owner_key};

/// A database, a repository, and what follows the one into the other.
struct Shop {
    dir: tempfile::TempDir,
    repo: TestRepo,
    board: StatusBoard,
}

impl Shop {
    fn new() -> Shop {
        Shop::in_store(Arc::new(MemoryStore::new()))
    }

    fn in_store(store: Arc<dyn asof::store::Store>) -> Shop {
        let repo = create(store, true);
        let process = Process { pid: 1, version: "0".into(), started: Clock::system().now() };
        let board = StatusBoard::new(process, Clock::system());
        let shop = Shop { dir: tempfile::tempdir().unwrap(), repo, board };
        let db = shop.connect();
        db.execute_batch(
            "PRAGMA journal_mode = wal; CREATE TABLE n (id INTEGER PRIMARY KEY, v, filler);
             INSERT INTO n VALUES (1, 0, NULL)",
        )
        .unwrap();
        shop
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("kv.db")
    }

    fn connect(&self) -> Connection {
        let db = Connection::open(self.path()).unwrap();
        db.busy_timeout(Duration::from_secs(30)).unwrap();
        db
    }

    fn options(&self) -> FollowOptions {
        let path = self.path();
        FollowOptions {
            origin: Origin {
                source: "shop".into(),
                kind: "sqlite",
                path: path.to_string_lossy().as_bytes().to_vec(),
                host: "h".into(),
                user: "u".into(),
            },
            database: path,
            directory: self.dir.path().join("state"),
            interval: Duration::from_millis(10),
            spool_limit: 1 << 30,
            sync: false,
            holder: None,
            snapshot_every: Duration::from_millis(10),
            writer: WriterOptions::default(),
        }
    }

    /// Follows while `work` runs, which is told when it has begun. What was captured by
    /// then is published.
    fn while_following<T>(&self, options: &FollowOptions, work: impl FnOnce(&Shop) -> T) -> T {
        let (done, ended) = self.until(options, &Stop::new(), work);
        ended.unwrap();
        done
    }

    /// The same with a wish to stop that others know as well, and how it ended.
    fn until<T>(
        &self,
        options: &FollowOptions,
        stop: &Stop,
        work: impl FnOnce(&Shop) -> T,
    ) -> (T, asof::ops::Result<()>) {
        let reporter = self.board.enter("shop");
        let repo = self.repo.open();
        std::thread::scope(|scope| {
            let following = scope.spawn(|| follow(&repo, options, &reporter, stop));
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(self)));
            // Else a test that failed would wait for ever.
            stop.raise();
            let ended = following.join().unwrap();
            (outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), ended)
        })
    }

    /// Waits until the row of the board is as wanted.
    fn wait(&self, wanted: impl Fn(&asof::ops::follow::status::Followed) -> bool) {
        let mut seen = 0;
        for _ in 0..600 {
            let (_, status) = self.board.read();
            if status.sources.iter().any(&wanted) {
                return;
            }
            seen = self.board.wait_for_change(seen, Duration::from_millis(100));
        }
        panic!("it never came to that: {:?}", self.board.read().1);
    }

    fn wait_for(&self, state: State) {
        self.wait(|row| row.state == state);
    }

    /// What every state of a stream counts, in order, from a machine that knows nothing yet.
    fn counts(&self, stream: &StreamId) -> Vec<i64> {
        let library = TestRepo::from_elsewhere(self.repo.store.clone());
        let library = library.library();
        let mut counts = Vec::new();
        let mut position = 0;
        while let Some(image) = image(library.as_ref(), stream, position) {
            let path = self.dir.path().join("seen.db");
            std::fs::write(&path, &image).unwrap();
            let db = Connection::open(&path).unwrap();
            if position % 50 == 0 {
                let ok: String = db.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
                assert_eq!(ok, "ok");
            }
            counts.push(db.query_row("SELECT v FROM n WHERE id = 1", [], |r| r.get(0)).unwrap());
            position += 1;
        }
        counts
    }

    /// The streams of the source, in order of time, with the gap before each.
    fn streams(&self) -> Vec<(StreamId, Option<Gap>)> {
        let repo = TestRepo::from_elsewhere(self.repo.store.clone()).open();
        let mut found = Vec::new();
        for info in repo.snapshots().unwrap().iter() {
            let point = info.snapshot.point.clone().unwrap();
            if found.iter().all(|(stream, _)| *stream != point.stream) {
                found.push((point.stream, point.gap));
            }
        }
        found
    }
}

fn image(library: &dyn Library, stream: &StreamId, position: u64) -> Option<Vec<u8>> {
    let info = library.snapshot(&state_id("shop", stream, position)).unwrap()?;
    let dir = browse::Found::root(&info).dir().unwrap();
    let file = browse::find(library, dir, b"kv.db").unwrap().unwrap().content();
    let size = usize::try_from(file.size()).unwrap();
    Some(library.read(&file, 0, size).unwrap().to_vec())
}

fn count(db: &Connection, times: usize) {
    for _ in 0..times {
        db.execute("UPDATE n SET v = v + 1, filler = randomblob(abs(random()) % 3000)", [])
            .unwrap();
    }
}

fn one_more_each(counts: &[i64]) -> bool {
    counts.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

#[test]
fn every_transaction_is_a_state() {
    let shop = Shop::new();
    shop.while_following(&shop.options(), |shop| {
        shop.wait_for(State::Active);
        count(&shop.connect(), 300);
    });
    let streams = shop.streams();
    assert_eq!(streams.len(), 1);
    assert_eq!(streams[0].1, None);
    let counts = shop.counts(&streams[0].0);
    assert!(one_more_each(&counts), "{counts:?}");
    assert_eq!((counts[0], counts[counts.len() - 1]), (0, 300));
}

/// What is committed while nobody follows is captured later, as long as the log has it.
#[test]
fn a_stream_goes_on_in_another_process() {
    let shop = Shop::new();
    let db = shop.connect();
    for _ in 0..3 {
        shop.while_following(&shop.options(), |shop| {
            shop.wait_for(State::Active);
            count(&db, 20);
        });
        count(&db, 5);
    }
    shop.while_following(&shop.options(), |shop| shop.wait_for(State::Active));
    let streams = shop.streams();
    assert_eq!(streams.len(), 1, "{streams:?}");
    let counts = shop.counts(&streams[0].0);
    assert!(one_more_each(&counts), "{counts:?}");
    assert_eq!(counts.last(), Some(&75));
}

/// If the log has begun again meanwhile, nobody knows what was in it: that is a gap, and
/// another stream begins.
#[test]
fn what_was_missed_is_a_gap() {
    let shop = Shop::new();
    let db = shop.connect();
    shop.while_following(&shop.options(), |shop| {
        shop.wait_for(State::Active);
        count(&db, 20);
    });
    count(&db, 5);
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    count(&db, 5);
    shop.while_following(&shop.options(), |shop| {
        shop.wait_for(State::Active);
        count(&db, 10);
    });
    let streams = shop.streams();
    let [(first, None), (second, Some(gap))] = streams.as_slice() else { panic!("{streams:?}") };
    let (before, after) = (shop.counts(first), shop.counts(second));
    assert!(one_more_each(&before) && one_more_each(&after), "{before:?} {after:?}");
    assert_eq!((before.last(), after.first(), after.last()), (Some(&20), Some(&30), Some(&40)));
    assert_eq!((gap.stream, gap.position), (*first, 20));
    assert!(!gap.reason.is_empty());
    let repo = shop.repo.open();
    let infos = repo.snapshots().unwrap();
    let begun = infos.iter().find(|info| info.snapshot.point.as_ref().unwrap().stream == *second);
    let begun = begun.unwrap();
    assert!(gap.since < begun.snapshot.taken);
    // Who looks at the last state before it is told of it.
    let library = TestRepo::from_elsewhere(shop.repo.store.clone());
    let library = library.library();
    let state = |position| library.snapshot(&state_id("shop", first, position)).unwrap().unwrap();
    let told = state(20).gap_behind(&infos).unwrap();
    assert_eq!((told.since, told.until), (gap.since, begun.shown_from()));
    assert_eq!(state(19).gap_behind(&infos), None);
}

/// The spool has files of some size, and in them what was published of streams before.
#[test]
fn a_process_goes_on_behind_what_earlier_streams_left() {
    let shop = Shop::new();
    let db = shop.connect();
    for streams in 1..=3 {
        shop.while_following(&shop.options(), |shop| {
            shop.wait_for(State::Active);
            count(&db, 5);
        });
        assert_eq!(shop.streams().len(), streams);
        count(&db, 5);
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    }
}

/// While the store is away the spool holds what was captured, and nothing is missing later.
#[test]
fn a_store_that_is_away_costs_nothing() {
    let store = FaultStore::new(Arc::new(MemoryStore::new()));
    let shop = Shop::in_store(Arc::new(store.clone()));
    shop.while_following(&shop.options(), |shop| {
        shop.wait_for(State::Active);
        let db = shop.connect();
        count(&db, 10);
        store.die_at(0, Moment::Before);
        count(&db, 10);
        shop.wait_for(State::Lagging);
        count(&db, 200);
        store.heal();
        shop.wait(|row| row.durable == row.captured && row.lag_bytes == 0);
        count(&db, 10);
    });
    let streams = shop.streams();
    assert_eq!(streams.len(), 1, "{streams:?}");
    let counts = shop.counts(&streams[0].0);
    assert!(one_more_each(&counts), "{counts:?}");
    assert_eq!(counts.last(), Some(&230));
}

/// A spool that is full lets go of the database, and what is missed then is a gap.
#[test]
fn a_spool_that_is_full_is_a_gap_and_no_more() {
    let store = FaultStore::new(Arc::new(MemoryStore::new()));
    let shop = Shop::in_store(Arc::new(store.clone()));
    let options = FollowOptions { spool_limit: 200_000, ..shop.options() };
    shop.while_following(&options, |shop| {
        shop.wait_for(State::Active);
        let db = shop.connect();
        count(&db, 10);
        store.die_at(0, Moment::Before);
        count(&db, 500);
        shop.wait_for(State::Gap);
        count(&db, 50);
        store.heal();
        shop.wait(|row| row.state == State::Active && row.durable == row.captured);
        count(&db, 10);
    });
    let streams = shop.streams();
    let [(first, None), (second, Some(gap))] = streams.as_slice() else { panic!("{streams:?}") };
    let (before, after) = (shop.counts(first), shop.counts(second));
    assert!(one_more_each(&before) && one_more_each(&after), "{before:?} {after:?}");
    assert_eq!(before[0], 0);
    assert_eq!(gap.position, before.len() as u64 - 1);
    assert!(after[0] > before[before.len() - 1]);
    assert_eq!(after.last(), Some(&570));
    assert!(gap.reason.contains("spool was full"), "{}", gap.reason);
}

/// However long an image takes to be stored, what comes meanwhile waits for it, up to as much
/// more than the limit as it is large. Later the limit is what it was.
#[test]
fn an_image_that_takes_long_is_no_gap() {
    let store = FaultStore::new(Arc::new(MemoryStore::new()));
    let shop = Shop::in_store(Arc::new(store.clone()));
    let db = shop.connect();
    db.execute_batch("CREATE TABLE large AS SELECT randomblob(4000000)").unwrap();
    let options = FollowOptions { spool_limit: 100_000, ..shop.options() };
    let nothing_is_stored = || {
        store.add(Fault {
            call: Some(Call::Put),
            prefix: String::new(),
            skip: 0,
            times: u64::MAX,
            action: Action::Fail(Kind::Unavailable, Moment::Before),
        });
    };
    nothing_is_stored();
    let more = |shop: &Shop, times, upto| {
        shop.wait_for(State::Lagging);
        count(&db, times);
        shop.wait(|row| row.captured.as_deref() == Some(upto));
        assert!(shop.board.read().1.sources[0].lag_bytes > 2 * options.spool_limit);
    };
    let ((), ended) = shop.until(&options, &Stop::new(), |shop| more(shop, 150, "150"));
    assert_eq!(ended.unwrap_err().kind(), Kind::Unavailable);
    // Another process knows it as well.
    shop.while_following(&options, |shop| {
        more(shop, 100, "250");
        store.heal();
        shop.wait(|row| row.durable == row.captured && row.state == State::Active);
        nothing_is_stored();
        count(&db, 150);
        shop.wait_for(State::Gap);
        store.heal();
        shop.wait(|row| row.durable == row.captured && row.state == State::Active);
    });
    let streams = shop.streams();
    let [(first, None), (_, Some(gap))] = streams.as_slice() else { panic!("{streams:?}") };
    let counts = shop.counts(first);
    assert!(one_more_each(&counts) && counts.len() > 250, "{counts:?}");
    assert!(gap.reason.contains("spool was full"), "{}", gap.reason);
}

/// A database without a log cannot be followed; it is copied whenever it changed.
#[test]
fn what_cannot_be_followed_is_copied() {
    let shop = Shop::new();
    let db = shop.connect();
    db.execute_batch("PRAGMA journal_mode = delete").unwrap();
    shop.while_following(&shop.options(), |shop| {
        shop.wait_for(State::Active);
        count(&db, 1);
    });
    shop.while_following(&shop.options(), |shop| shop.wait_for(State::Active));
    let repo = TestRepo::from_elsewhere(shop.repo.store.clone()).open();
    let infos = repo.snapshots().unwrap();
    assert!(!infos.is_empty());
    assert!(infos.iter().all(|info| info.snapshot.point.is_none()));
    let (_, status) = shop.board.read();
    let said = status.sources[0].last_error.as_ref().unwrap();
    assert!(said.message.contains("cannot be followed"), "{said:?}");
}

#[test]
fn two_processes_do_not_follow_one_source() {
    let shop = Shop::new();
    let refused = shop.while_following(&shop.options(), |shop| {
        shop.wait_for(State::Active);
        let (repo, stop) = (shop.repo.open(), Stop::new());
        follow(&repo, &shop.options(), &shop.board.enter("other"), &stop).unwrap_err()
    });
    assert!(refused.to_string().contains("another process follows"), "{refused}");
}

/// What is in the store when a process is killed between publishing and noting it is
/// published again, and does no harm.
#[test]
fn what_is_published_twice_is_one_state() {
    let shop = Shop::new();
    let (options, db) = (shop.options(), shop.connect());
    shop.while_following(&options, |shop| {
        shop.wait_for(State::Active);
        count(&db, 20);
    });
    let noted = options.directory.join("durable.json");
    let early = std::fs::read(&noted).unwrap();
    shop.while_following(&options, |shop| {
        shop.wait_for(State::Active);
        count(&db, 20);
    });
    std::fs::write(&noted, early).unwrap();
    shop.while_following(&options, |shop| {
        shop.wait_for(State::Active);
        count(&db, 20);
    });
    let streams = shop.streams();
    assert_eq!(streams.len(), 1, "{streams:?}");
    let counts = shop.counts(&streams[0].0);
    assert!(one_more_each(&counts), "{counts:?}");
    assert_eq!(counts.last(), Some(&60));
}

/// What changes all the time is published once in an interval, and not a few transactions at
/// a time without a rest. All of it is published when the process is asked to stop.
#[test]
fn a_busy_database_costs_no_more_requests_than_the_interval_says() {
    let store = FaultStore::new(Arc::new(MemoryStore::new()));
    let shop = Shop::in_store(Arc::new(store.clone()));
    let options = FollowOptions { interval: Duration::from_secs(3600), ..shop.options() };
    let records = |store: &FaultStore| {
        let made = store.made();
        made.iter().filter(|made| made.call == Call::Put && made.key.starts_with("log/")).count()
    };
    let before = records(&store);
    let published = shop.while_following(&options, |shop| {
        shop.wait_for(State::Active);
        // So many that publishing a few at a time would take dozens of records.
        count(&shop.connect(), 4000);
        shop.wait(|row| row.captured.as_deref() == Some("4000"));
        records(&store) - before
    });
    // The image, and what came while it was on its way.
    assert!(published <= 2, "{published} records were put");
    let segments = shop.repo.open().index().segment_spans("shop").unwrap();
    assert_eq!(segments.last().unwrap().last, 4000);
}

/// Who is asked to stop does so although the database is written to all the time.
#[test]
fn a_database_that_is_never_at_rest_does_not_keep_anybody_from_stopping() {
    let shop = Shop::new();
    let enough = Stop::new();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let db = shop.connect();
            while !enough.is_raised() {
                count(&db, 1);
            }
        });
        // Ends, or the test never does.
        shop.while_following(&shop.options(), |shop| {
            shop.wait(|row| row.captured.as_deref().is_some_and(|at| at != "0"));
        });
        enough.raise();
        writing.join().unwrap();
    });
    let streams = shop.streams();
    let counts = shop.counts(&streams[0].0);
    assert!(one_more_each(&counts) && counts.len() > 1, "{counts:?}");
}

/// Whenever it is asked to stop, what was committed by then is captured: also if it has just
/// begun, and has read before what it returns first.
#[test]
fn what_was_committed_before_the_wish_to_stop_is_captured() {
    let shop = Shop::new();
    let db = Arc::new(Mutex::new(shop.connect()));
    shop.while_following(&shop.options(), |shop| {
        shop.wait_for(State::Active);
        count(&db.lock().unwrap(), 1);
    });
    let mut committed = 1;
    for moment in 1..=12 {
        // While nobody follows, so that there is something to begin with.
        count(&db.lock().unwrap(), 3);
        let (stop, begun) = (Stop::new(), Arc::new(AtomicBool::new(false)));
        let (asked, armed, db) = (stop.clone(), Arc::clone(&begun), Arc::clone(&db));
        let (looks, captures) = (AtomicU64::new(0), std::thread::current().id());
        let clock = Clock::from_fn(move || {
            let mine = armed.load(Ordering::SeqCst) && std::thread::current().id() == captures;
            if mine && looks.fetch_add(1, Ordering::SeqCst) + 1 == moment {
                count(&db.lock().unwrap(), 2);
                asked.raise();
            }
            Clock::system().now()
        });
        let (store, local) = (Arc::clone(&shop.repo.store), shop.repo.local());
        let repo = Arc::new(Repository::open(store, owner_key(), &local, &clock).unwrap());
        repo.sync(false).unwrap();
        begun.store(true, Ordering::SeqCst);
        follow(&repo, &shop.options(), &shop.board.enter("shop"), &stop).unwrap();
        committed += 5;
        let streams = shop.streams();
        assert_eq!(streams.len(), 1, "asked at its look {moment}: {streams:?}");
        let segments = shop.repo.open().index().segment_spans("shop").unwrap();
        assert_eq!(segments.last().unwrap().last, committed, "asked at its look {moment}");
    }
}

/// A source that cannot be published any more ends by itself: who follows others beside it
/// goes on, and hears why.
#[test]
fn a_source_that_fails_for_good_ends_no_other() {
    let store = FaultStore::new(Arc::new(MemoryStore::new()));
    let (failing, sound) = (Shop::in_store(Arc::new(store.clone())), Shop::new());
    let (stop, reporter) = (Stop::new(), failing.board.enter("shop"));
    let repo = failing.repo.open();
    let ((), ended) = sound.until(&sound.options(), &stop, |sound| {
        sound.wait_for(State::Active);
        store.add(Fault {
            call: Some(Call::Put),
            prefix: String::new(),
            skip: 0,
            times: u64::MAX,
            action: Action::Fail(Kind::WrongKey, Moment::Before),
        });
        // Ends, though nobody asks it to.
        let failure = follow(&repo, &failing.options(), &reporter, &stop).unwrap_err();
        assert_eq!(failure.kind(), Kind::WrongKey);
        assert!(!stop.is_raised());
        count(&sound.connect(), 5);
        sound.wait(|row| row.durable.as_deref() == Some("5"));
    });
    ended.unwrap();
    assert_eq!(failing.board.read().1.sources[0].state, State::Stopped);
}

/// A log is held until somebody took over, or for as long as its limits say.
#[test]
fn a_log_is_held_within_limits() {
    let shop = Shop::new();
    let db = shop.connect();
    count(&db, 1);
    let file = shop.dir.path().join("holder");
    let most = Limits { time: Duration::MAX, log_bytes: u64::MAX };
    let held = |limits, stop: &Stop| {
        let mut said = Vec::new();
        hold(&shop.path(), &file, limits, &mut &b"mm"[..], &mut said, stop).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(said, b"yyy");
    };
    held(Limits { time: Duration::ZERO, ..most }, &Stop::new());
    held(Limits { log_bytes: 1, ..most }, &Stop::new());
    let stopped = Stop::new();
    stopped.raise();
    held(most, &stopped);
    // Whoever takes over takes the file away.
    let mut gone = Removes(&file);
    hold(&shop.path(), &file, most, &mut gone, &mut std::io::sink(), &Stop::new()).unwrap();
    // Nobody is held for, or without being known.
    let missing = shop.dir.path().join("no.db");
    for database in [missing, shop.path()] {
        // The first leaves the file, which is in the way of the second.
        let (from, to) = (&mut std::io::empty(), &mut std::io::sink());
        assert!(hold(&database, &file, most, from, to, &stopped).is_err());
    }
}

/// The end of a pipe, and of whoever was at the other one.
struct Removes<'a>(&'a std::path::Path);

impl std::io::Read for Removes<'_> {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        std::fs::remove_file(self.0).map(|()| 0)
    }
}

/// Without somebody who holds the log a database is followed all the same, and that is told.
#[test]
fn a_holder_that_does_not_work_is_told_of() {
    let sh = |script: &str| ["/bin/sh", "-c", script].map(Into::into).to_vec();
    for (program, why) in [
        (vec![], "invalid"),
        (vec!["/nowhere".into()], "No such file"),
        (sh("exit"), "fill whole buffer"),
        (sh("printf n; cat"), "busy"),
        (sh("printf y"), "fill whole buffer|Broken pipe"),
        (sh("printf ynnnyy; cat >&2"), ""),
        (sh("exec sleep 600"), "timed out"),
    ] {
        let shop = Shop::new();
        let options = FollowOptions { sync: true, holder: Some(program), ..shop.options() };
        let stream = shop.while_following(&options, |shop| {
            shop.wait_for(State::Active);
            count(&shop.connect(), 300);
            shop.wait(|row| row.durable.as_deref() == Some("300"));
            shop.wait(|row| match (&row.last_error, why) {
                (None, why) => why.is_empty(),
                (Some(error), why) => {
                    let told = error.message.contains("no other process holds the log");
                    told && why.split('|').any(|why| error.message.contains(why))
                }
            });
            shop.streams()
        });
        let counts = shop.counts(&stream[0].0);
        assert!(one_more_each(&counts) && counts.len() == 301, "{why}: {counts:?}");
        let left = std::fs::read_dir(&options.directory).unwrap();
        let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(names.into_iter().all(|name| !name.starts_with("holder")));
    }
}

/// Whoever is asked to stop before it is where the one before it was leaves the log to the one
/// that holds it.
#[test]
fn a_holder_stays_until_somebody_took_over() {
    let shop = Shop::new();
    let options = shop.options();
    let held = options.directory.join("holder");
    std::fs::create_dir_all(&options.directory).unwrap();
    std::fs::write(&held, b"").unwrap();
    let stopped = Stop::new();
    stopped.raise();
    follow(&shop.repo.open(), &options, &shop.board.enter("shop"), &stopped).unwrap();
    assert!(held.exists());
    shop.while_following(&options, |shop| shop.wait_for(State::Active));
    assert!(!held.exists());
}
