//! A run of a pack is one GET, whoever asks for what of it at once.

use std::fs;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use asof::base::{ChunkId, Clock, Kind};
use asof::format::config::Parameters;
use asof::ops::select::select;
use asof::repo::reader::{Reader, ReaderOptions};
use asof::repo::{FileContent, LocalOptions, Shelf};
use asof::store::fault::{Action, Fault, Moment};
use asof::store::{Call, FaultStore, MemoryStore};
use asof::view::{Selector, Zone};

use crate::fixture::{TestRepo, create_with, noise};

const MIB: usize = 1 << 20;
/// How many chunks are asked for at once: more than a frame has.
const WINDOW: usize = 8;

/// A repository with one long file that does not compress.
struct Long {
    repo: TestRepo,
    store: FaultStore,
}

/// A reader that knows where its chunks are, and has read none of them.
struct Fresh {
    shelf: Shelf,
    content: FileContent,
    chunks: Vec<ChunkId>,
    /// Where each begins.
    starts: Vec<u64>,
}

impl Long {
    fn new(mib: u32) -> Long {
        let store = FaultStore::new(Arc::new(MemoryStore::new()));
        let repo = create_with(Arc::new(store.clone()), true, &Parameters::default());
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("long"), noise(1, mib << 15)).unwrap();
        repo.backup("s", dir.path());
        Long { repo, store }
    }

    /// It keeps nothing on disk, and everything in memory. What several frames hold it asks for
    /// at once.
    fn reader(&self) -> Fresh {
        let options = ReaderOptions {
            frame_bytes: 256 * MIB,
            sealed_bytes: 64 * MIB,
            fetch_bytes: 16 << 20,
            ..ReaderOptions::default()
        };
        let local = LocalOptions { cache_bytes: 0, ..self.repo.local() };
        let shelf = Shelf::open(&self.repo.open(), &local, options).unwrap();
        let selector = Selector::parse("s:/long".as_ref()).unwrap();
        let selected = select(&shelf, &selector, &Zone::utc(), Clock::system().now()).unwrap();
        let content = selected.found.content();
        let FileContent::Extents(extents, _) = &content else { panic!("the list is short") };
        let chunks = extents.iter().filter_map(|(_, chunk)| *chunk).collect();
        let starts = extents.iter().map(|(start, _)| *start).collect();
        self.store.forget_made();
        Fresh { shelf, content, chunks, starts }
    }

    /// The ranges of packs that were asked for, in order of where they begin.
    fn gets(&self) -> Vec<Range<u64>> {
        let made = self.store.made().into_iter();
        let gets = made.filter(|made| made.call == Call::Get);
        let mut ranges: Vec<_> = gets.filter_map(|made| made.range).collect();
        ranges.sort_by_key(|range| (range.start, range.end));
        ranges
    }

    /// The last chunks of a run that has another behind it. Where packs are cut depends on which
    /// thread of the backup was faster.
    fn chunks_of_a_run(&self) -> Range<usize> {
        let fresh = self.reader();
        let mut before = None;
        let needs_the_next = |chunk: &ChunkId| {
            self.store.forget_made();
            fresh.reader().warm(&[*chunk]).unwrap();
            let Some(get) = self.store.made().pop() else { return false };
            let range = get.range.unwrap();
            let end = before.replace((get.key.clone(), range.end));
            end == Some((get.key, range.start))
        };
        let end = fresh.chunks.iter().position(needs_the_next).expect("a pack of two runs");
        let fresh = self.reader_behind(end);
        let is_in_it = |n: &usize| {
            fresh.reader().warm(&[fresh.chunks[*n]]).unwrap();
            self.gets().len() == 1
        };
        end - (0..end).rev().take_while(is_in_it).count()..end
    }

    /// A reader that has read what follows a run, and knows where the run is.
    fn reader_behind(&self, end: usize) -> Fresh {
        let fresh = self.reader();
        fresh.reader().stored_order(&fresh.chunks.iter().copied().map(Some).collect::<Vec<_>>());
        fresh.reader().warm(&[fresh.chunks[end + WINDOW]]).unwrap();
        self.store.forget_made();
        fresh
    }

    /// What the next GET of a pack meets.
    fn on_next_get(&self, action: Action) {
        let prefix = "packs/".to_owned();
        self.store.add(Fault { call: Some(Call::Get), prefix, skip: 0, times: 1, action });
    }
}

impl Fresh {
    fn reader(&self) -> &Arc<Reader> {
        self.shelf.reader()
    }

    /// Reads a chunk, as who reads the file from front to back.
    fn read(&self, chunk: usize) -> asof::repo::Result<()> {
        self.reader().read(&self.content, self.starts[chunk], 4096, true).map(drop)
    }
}

/// Who asks for what lies on both sides of a border has the first side already; of the other
/// comes the whole run, and not the wanted part and then the rest.
#[test]
fn what_reaches_into_a_run_brings_all_of_it() {
    let long = Long::new(48);
    let one_by_one = long.reader();
    for chunk in &one_by_one.chunks {
        one_by_one.reader().warm(&[*chunk]).unwrap();
    }
    let runs = long.gets();
    assert!(runs.len() >= 5, "{runs:?}");
    let by_windows = long.reader();
    for window in by_windows.chunks.chunks(WINDOW) {
        by_windows.reader().warm(window).unwrap();
    }
    assert_eq!(long.gets(), runs);
}

/// Two who want different frames of a run at the same moment do not each claim a part of it.
/// What else they need is in memory, so that they claim within a microsecond, some time.
#[test]
fn two_who_want_a_run_at_once_ask_for_it_once() {
    let long = Long::new(48);
    let run = long.chunks_of_a_run();
    for round in 0..200 {
        let fresh = long.reader_behind(run.end);
        let wanted = [run.start, run.end - 1].map(|n| fresh.chunks[n]);
        let ready = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for chunk in wanted {
                let (fresh, ready) = (&fresh, &ready);
                scope.spawn(move || {
                    ready.fetch_add(1, Ordering::SeqCst);
                    while ready.load(Ordering::SeqCst) < wanted.len() {
                        std::hint::spin_loop();
                    }
                    fresh.reader().warm(&[chunk]).unwrap();
                });
            }
        });
        assert_eq!(long.gets().len(), 1, "round {round}: {:?}", long.gets());
    }
}

/// Who waits for the fetch of another that fails tries again, once for all who wait.
#[test]
fn a_fetch_that_fails_is_made_again_by_one_of_those_who_wait() {
    let long = Long::new(48);
    let run = long.chunks_of_a_run();
    for _ in 0..20 {
        let fresh = long.reader_behind(run.end);
        long.on_next_get(Action::Fail(Kind::Unavailable, Moment::Before));
        let failed = Mutex::new(0);
        let together = Barrier::new(run.len());
        std::thread::scope(|scope| {
            for chunk in run.clone() {
                let (fresh, together, failed) = (&fresh, &together, &failed);
                scope.spawn(move || {
                    together.wait();
                    if fresh.read(chunk).is_err() {
                        *failed.lock().unwrap() += 1;
                    }
                });
            }
        });
        assert_eq!((*failed.lock().unwrap(), long.gets().len()), (1, 2));
    }
}

/// What is here can be read while the run before it is fetched, although somebody asked for
/// both at once.
#[test]
fn nobody_waits_for_the_store_to_read_what_is_here() {
    let long = Long::new(48);
    let border = long.chunks_of_a_run().end;
    let fresh = long.reader_behind(border);

    let (asked, is_asked) = channel();
    let (read, is_read) = channel();
    let is_read = Mutex::new(is_read);
    let was_read = Arc::new(Mutex::new(None));
    let told = Arc::clone(&was_read);
    let hold = move |_: &str| {
        asked.send(()).unwrap();
        // Only where it is broken anybody waits so long.
        let heard = is_read.lock().unwrap().recv_timeout(Duration::from_secs(60));
        *told.lock().unwrap() = Some(heard.is_ok());
    };
    long.on_next_get(Action::Run(Moment::Before, Arc::new(hold)));
    std::thread::scope(|scope| {
        scope.spawn(|| fresh.reader().warm(&fresh.chunks[border - 1..=border + 1]).unwrap());
        is_asked.recv().unwrap();
        fresh.read(border + 1).unwrap();
        let _ = read.send(());
    });
    assert_eq!(*was_read.lock().unwrap(), Some(true));
}
