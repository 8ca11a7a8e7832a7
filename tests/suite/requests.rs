//! How many requests reading costs, of a store where each is a way to go.

use std::fs;
use std::sync::Arc;

use asof::base::Clock;
use asof::ops::select::select;
use asof::repo::reader::ReaderOptions;
use asof::repo::{FileContent, Library, LocalOptions, Shelf};
use asof::store::MemoryStore;
use asof::view::{Selector, Zone};

use crate::fixture::{TestRepo, create, noise};

const MIB: u64 = 1 << 20;

/// A repository with a file of so many MiB that do not compress.
struct Long {
    /// Has the index.
    _repo: TestRepo,
    bytes: Vec<u8>,
    shelf: Shelf,
    content: FileContent,
}

fn long(mib: u32) -> Long {
    let repo = create(Arc::new(MemoryStore::new()), true);
    let dir = tempfile::tempdir().unwrap();
    let bytes = noise(1, mib << 15);
    fs::write(dir.path().join("long"), &bytes).unwrap();
    repo.backup("s", dir.path());
    let local = LocalOptions { cache_bytes: 1 << 30, ..repo.local() };
    let shelf = Shelf::open(&repo.open(), &local, ReaderOptions::default()).unwrap();
    let selector = Selector::parse("s:/long".as_ref()).unwrap();
    let selected = select(&shelf, &selector, &Zone::utc(), Clock::system().now()).unwrap();
    let content = FileContent::of(selected.entry(), selected.refs());
    Long { _repo: repo, bytes, shelf, content }
}

impl Long {
    fn read(&self, offset: u64, length: u64) {
        let (from, length) = (usize::try_from(offset).unwrap(), usize::try_from(length).unwrap());
        let read = self.shelf.read(&self.content, offset, length).unwrap();
        assert!(read == self.bytes[from..from + length], "at {offset}");
    }

    fn counter(&self, name: &str) -> u64 {
        let counters = self.shelf.counters();
        counters.iter().find(|(counter, _)| *counter == name).unwrap().1
    }
}

/// Some eight MiB of what is stored come by one GET: a pack has two of them. What came with
/// others and found no room in memory is on disk.
#[test]
fn a_file_that_is_read_in_order_costs_few_gets() {
    let long = long(96);
    for at in 0..96 {
        long.read(at * MIB, MIB);
    }
    let fetches = long.counter("fetches");
    assert!(fetches <= 96 / 6, "{fetches}");
    let fetched = long.counter("fetched_bytes");
    assert!(fetched < 100 * MIB, "nothing comes twice: {fetched}");
}

/// Whoever jumps about gets the chunk that is wanted, and not what lies behind it.
#[test]
fn reading_here_and_there_fetches_no_more_than_it_needs() {
    let long = long(48);
    for at in (0..48).rev().step_by(4) {
        long.read(at * MIB, 4096);
    }
    let fetched = long.counter("fetched_bytes");
    assert!(fetched < 12 * 4 * MIB, "{fetched}");
}
