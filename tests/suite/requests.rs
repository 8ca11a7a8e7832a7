//! How many requests reading costs, of a store where each is a way to go.

use std::fs;
use std::sync::Arc;

use asof::base::Clock;
use asof::codec::chunker::Sizes;
use asof::codec::hash::sha256;
use asof::format::config::Parameters;
use asof::ops::select::select;
use asof::repo::reader::ReaderOptions;
use asof::repo::{FileContent, Library, LocalOptions, Shelf};
use asof::store::MemoryStore;
use asof::view::{Selector, Zone};

use crate::fixture::{TestRepo, create_with, noise};

const MIB: u64 = 1 << 20;

/// A repository with files that do not compress, of which one is read.
struct Long {
    /// Has the index.
    _repo: TestRepo,
    bytes: Vec<u8>,
    shelf: Shelf,
    content: FileContent,
}

/// So many files of so many MiB.
fn long(files: u32, mib: u32, parameters: &Parameters) -> Long {
    let repo = create_with(Arc::new(MemoryStore::new()), true, parameters);
    let dir = tempfile::tempdir().unwrap();
    let bytes: Vec<Vec<u8>> = (0..files).map(|n| noise(n, mib << 15)).collect();
    for (n, bytes) in bytes.iter().enumerate() {
        fs::write(dir.path().join(format!("long{n}")), bytes).unwrap();
    }
    repo.backup("s", dir.path());
    let local = LocalOptions { cache_bytes: 1 << 30, ..repo.local() };
    let shelf = Shelf::open(&repo.open(), &local, ReaderOptions::default()).unwrap();
    let content = content_of(&shelf, "s:/long0");
    Long { _repo: repo, bytes: bytes.into_iter().next().unwrap(), shelf, content }
}

fn content_of(library: &dyn Library, selector: &str) -> FileContent {
    let selector = Selector::parse(selector.as_ref()).unwrap();
    let selected = select(library, &selector, &Zone::utc(), Clock::system().now()).unwrap();
    selected.found.content()
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
    let long = long(1, 96, &Parameters::default());
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
    let long = long(1, 48, &Parameters::default());
    for at in (0..48).rev().step_by(4) {
        long.read(at * MIB, 4096);
    }
    let fetched = long.counter("fetched_bytes");
    assert!(fetched < 12 * 4 * MIB, "{fetched}");
}

/// A file of which the list of chunks is a tree is fetched ahead like any other.
#[test]
fn a_file_of_many_chunks_costs_as_few() {
    let chunks = Sizes { min: 4096, average: 8192, max: 32768 };
    let long = long(1, 32, &Parameters { chunks, ..Parameters::default() });
    assert!(matches!(long.content, FileContent::Tree(..)));
    for at in 0..64 {
        long.read(at * MIB / 2, MIB / 2);
    }
    let fetches = long.counter("fetches");
    assert!(fetches <= 32 / 4, "{fetches}");
}

/// Files that are read side by side when they are backed up do not lie among each other:
/// who reads one later fetches little of the other.
#[test]
fn two_long_files_lie_apart() {
    let long = long(2, 64, &Parameters::default());
    for at in 0..64 {
        long.read(at * MIB, MIB);
    }
    let fetched = long.counter("fetched_bytes");
    assert!(fetched < (64 + 24) * MIB, "{fetched}");
}

/// A file of some hundred kilobytes lies in a frame with its neighbours.
#[test]
fn whole_files_lie_among_their_neighbours() {
    let chunks = Sizes { min: 256 << 10, ..Sizes::DEFAULT };
    let parameters = Parameters { chunks, ..Parameters::default() };
    let repo = create_with(Arc::new(MemoryStore::new()), true, &parameters);
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<Vec<u8>> = (0..24).map(|n| noise(n, 240 << 5)).collect();
    for (n, bytes) in files.iter().enumerate() {
        fs::write(dir.path().join(format!("{n}")), bytes).unwrap();
    }
    repo.backup("s", dir.path());
    let local = LocalOptions { cache_bytes: 0, ..repo.local() };
    let options = ReaderOptions::default().for_directory();
    let shelf = Shelf::open(&repo.open(), &local, options).unwrap();
    let contents = (0..24).map(|n| content_of(&shelf, &format!("s:/{n}"))).collect::<Vec<_>>();
    let fetches = || {
        let counters = shelf.counters();
        counters.iter().find(|(name, _)| *name == "fetches").unwrap().1
    };
    let before = fetches();
    for (content, bytes) in contents.iter().zip(&files) {
        assert!(shelf.read(content, 0, 240 << 10).unwrap() == *bytes);
    }
    // Ten have room in a frame, and each of up to eight threads has one that is not full.
    let fetched = fetches() - before;
    assert!(fetched <= 2 + 8, "{fetched}");
}

/// Who looks at a snapshot opens a small frame, however many directories are in it.
#[test]
fn the_top_of_a_tree_lies_apart() {
    let repo = create_with(Arc::new(MemoryStore::new()), true, &Parameters::default());
    let dir = tempfile::tempdir().unwrap();
    let name = |n: u32| sha256(&n.to_be_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    for n in 0..2_000 {
        let (top, upper, name): (_, _, String) = (n % 10, n % 200, name(n));
        fs::create_dir_all(dir.path().join(format!("{top}/{upper}/{name}/x"))).unwrap();
    }
    repo.backup("s", dir.path());
    let local = LocalOptions { cache_bytes: 0, ..repo.local() };
    let options = ReaderOptions::default().for_directory();
    let shelf = Shelf::open(&repo.open(), &local, options).unwrap();
    let fetched_for = |path: &str| {
        content_of(&shelf, &format!("s:/{path}"));
        let counters = shelf.counters();
        counters.iter().find(|(name, _)| *name == "fetched_bytes").unwrap().1
    };
    let top = fetched_for("7/17");
    assert!(top < 16 << 10, "{top}");
    let all = fetched_for(&format!("7/17/{}", name(17)));
    assert!(all > 64 << 10, "{all}");
}

/// A restore goes through files pack by pack, and not by their names.
#[test]
fn files_have_an_order_in_which_they_are_stored() {
    let repo = create_with(Arc::new(MemoryStore::new()), true, &Parameters::default());
    let dir = tempfile::tempdir().unwrap();
    for (n, name) in ["c", "a", "b"].into_iter().enumerate() {
        fs::write(dir.path().join(name), noise(n as u32, 100)).unwrap();
        repo.backup("s", dir.path());
    }
    fs::write(dir.path().join("tiny"), "x").unwrap();
    repo.backup("s", dir.path());
    let library = repo.library();
    let contents =
        ["a", "b", "c", "tiny"].map(|n| content_of(library.as_ref(), &format!("s:/{n}")));
    assert_eq!(library.stored_order(&contents), [3, 2, 0, 1]);
    assert!(library.stored_order(&[]).is_empty());
}

/// A small file that is read again and again among others far from it does not have what lies
/// around it opened each time.
#[test]
fn a_text_that_comes_again_is_kept_by_itself() {
    let repo = create_with(Arc::new(MemoryStore::new()), true, &Parameters::default());
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<Vec<u8>> = (0..200).map(|n| noise(n, 1250)).collect();
    for (n, bytes) in files.iter().enumerate() {
        fs::write(dir.path().join(format!("{n:03}")), bytes).unwrap();
    }
    repo.backup("s", dir.path());
    // Room for one frame.
    let options =
        ReaderOptions { frame_bytes: 4 << 20, ..ReaderOptions::default().for_directory() };
    let local = LocalOptions { cache_bytes: 0, ..repo.local() };
    let shelf = Shelf::open(&repo.open(), &local, options).unwrap();
    let wanted = [0, 60, 120, 199];
    let contents = wanted.map(|n| content_of(&shelf, &format!("s:/{n:03}")));
    let fetches = || {
        let counters = shelf.counters();
        counters.iter().find(|(name, _)| *name == "fetches").unwrap().1
    };
    let fetched_by = |n: usize| {
        let before = fetches();
        let read = shelf.read(&contents[n], 0, 40_000).unwrap();
        assert!(read == files[wanted[n]]);
        fetches() - before
    };
    fetched_by(0);
    let far = [1, 2, 3];
    assert!(far.map(fetched_by).iter().sum::<u64>() >= 2, "they lie apart");
    assert_eq!(fetched_by(0), 1, "its frame is gone");
    assert!(far.map(fetched_by).iter().sum::<u64>() >= 2, "and again");
    assert_eq!(fetched_by(0), 0, "it is kept without");
}

/// Who goes through a tree and reads the files in it comes back to the same few nodes: files do
/// not drive those out, and nodes that have no room of their own are kept like files.
#[test]
fn nodes_stay_while_files_are_read() {
    let repo = create_with(Arc::new(MemoryStore::new()), true, &Parameters::default());
    let dir = tempfile::tempdir().unwrap();
    for n in 0..200 {
        fs::write(dir.path().join(format!("{n:03}")), noise(n, 1250)).unwrap();
    }
    repo.backup("s", dir.path());
    let local = LocalOptions { cache_bytes: 0, ..repo.local() };
    let open = |node_frame_bytes| {
        // Room for one frame of files, and none for nodes that are decoded.
        let options = ReaderOptions {
            frame_bytes: 4 << 20,
            node_bytes: 0,
            node_frame_bytes,
            ..ReaderOptions::default()
        };
        Shelf::open(&repo.open(), &local, options.for_directory()).unwrap()
    };
    let shelf = open(4 << 20);
    let selector = Selector::parse("s".as_ref()).unwrap();
    let selected = select(&shelf, &selector, &Zone::utc(), Clock::system().now()).unwrap();
    let root = selected.found.dir().unwrap();
    let fetches = |shelf: &Shelf| {
        let counters = shelf.counters();
        counters.iter().find(|(name, _)| *name == "fetches").unwrap().1
    };
    let contents: Vec<FileContent> =
        (0..200).map(|n| content_of(&shelf, &format!("s:/{n:03}"))).collect();
    let before = fetches(&shelf);
    for content in &contents {
        shelf.read(content, 0, 40_000).unwrap();
    }
    let read = fetches(&shelf);
    assert!(read >= before + 3, "files fill the room for frames twice");
    shelf.node(&root).unwrap();
    assert_eq!(fetches(&shelf), read, "the node is still there");

    let shelf = open(0);
    shelf.node(&root).unwrap();
    let once = fetches(&shelf);
    shelf.node(&root).unwrap();
    assert_eq!(fetches(&shelf), once, "it is among the files");
}
