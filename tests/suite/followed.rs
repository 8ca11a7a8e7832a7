//! A database that a test writes and publishes, and each state that it was ever in.

use std::collections::BTreeSet;
use std::sync::Arc;

use asof::base::{ChunkId, Stop, StreamId, UnixTime};
use asof::format::node::{Entry, FileKind, Owner};
use asof::format::segment::{Segment, StreamPoint};
use asof::index::SegmentRow;
use asof::ops::follow::{Change, Data, Image, Origin, Publisher};
use asof::repo::streams::{decode, state_id};
use asof::repo::trees::Draft;
use asof::repo::writer::WriterOptions;
use asof::repo::{FileContent, Library, Repository, browse};
use asof::store::{MemoryStore, Store};

use crate::fixture::{TestRepo, create};

pub const PAGE: usize = 512;
pub const STREAM: StreamId = StreamId([9; 16]);

/// A database that a test writes, and each state that it ever was in.
pub struct Model {
    pub repo: TestRepo,
    pub publisher: Publisher,
    pub states: Vec<Vec<u8>>,
    pub waiting: Vec<Change>,
    pub published: u64,
}

pub fn seen(position: u64) -> UnixTime {
    UnixTime::new(1_000, 0).plus(std::time::Duration::from_millis(position))
}

impl Model {
    pub fn new(pages: u32) -> Model {
        Model::on(Arc::new(MemoryStore::new()), pages)
    }

    pub fn on(store: Arc<dyn Store>, pages: u32) -> Model {
        let repo = create(store, true);
        let open = repo.open();
        Model::published_by(repo, &open, "shop", pages)
    }

    /// A database of so many pages that whoever opened the repository follows as that source.
    pub fn published_by(repo: TestRepo, open: &Arc<Repository>, source: &str, pages: u32) -> Model {
        let publisher = publisher(open, source);
        let states = vec![content(pages, 0)];
        let mut model = Model { repo, publisher, states, waiting: Vec::new(), published: 0 };
        model.image();
        model
    }

    pub fn last(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    /// A transaction: the size that it leaves, and the pages that it writes.
    pub fn commit(&mut self, size: u32, pages: &[u32]) {
        let mut state = self.states.last().cloned().unwrap();
        state.resize(size as usize * PAGE, 0);
        let position = self.last() + 1;
        let (numbers, data) = write_pages(&mut state, pages, |number| page(number, position));
        self.states.push(state);
        self.waiting.push(Change {
            position,
            at: seen(position),
            within: 1,
            size,
            page_bytes: PAGE as u32,
            numbers,
            data: Data::Held(data),
        });
    }

    pub fn segment(&mut self) {
        let changes = std::mem::take(&mut self.waiting);
        if !changes.is_empty() {
            self.publisher.segment(STREAM, self.published, &changes).unwrap();
            self.published = self.last();
        }
    }

    pub fn image(&mut self) {
        let position = self.last();
        publish_image(&mut self.publisher, position, &self.states[position as usize]);
    }

    /// The segments that stand, in order: their ids, and what they refer to.
    pub fn segments(&self) -> Vec<(Vec<ChunkId>, Segment)> {
        let mut segments = Vec::new();
        let repo = self.repo.open();
        let each = |row: SegmentRow| {
            segments.push(decode(&repo, &row)?);
            Ok::<(), asof::repo::Error>(())
        };
        repo.index().each_segment(&STREAM, each).unwrap();
        segments
    }

    /// So many transactions, each in a segment of its own.
    pub fn single_segments(&mut self, count: usize) {
        for _ in 0..count {
            let size = self.states.last().unwrap().len() / PAGE;
            self.commit(u32::try_from(size).unwrap(), &[1]);
            self.segment();
        }
    }

    /// These states, and no others up to the last, read as they were on a machine that knows
    /// nothing yet.
    pub fn shows(&self, expected: impl IntoIterator<Item = u64>) {
        let library = self.elsewhere();
        let expected: BTreeSet<u64> = expected.into_iter().collect();
        for position in 0..=self.last() {
            if expected.contains(&position) {
                let state = &self.states[position as usize];
                assert_state(library.as_ref(), position, state, (0, 100));
            } else {
                assert!(files(library.as_ref(), position).is_none(), "state {position} is shown");
            }
        }
    }

    /// A machine that knows nothing yet.
    pub fn elsewhere(&self) -> Arc<dyn Library> {
        self.repo.library_of(&self.repo.open())
    }
}

/// Writes some of a state's pages, chosen by any numbers. Returns which, and their content.
pub fn write_pages(
    state: &mut [u8],
    pages: &[u32],
    content: impl Fn(u32) -> Vec<u8>,
) -> (Vec<u32>, Vec<u8>) {
    let size = u32::try_from(state.len() / PAGE).unwrap();
    let mut numbers: Vec<u32> = pages.iter().map(|page| page % size + 1).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut data = Vec::new();
    for &number in &numbers {
        let page = content(number);
        let at = (number as usize - 1) * PAGE;
        state[at..at + PAGE].copy_from_slice(&page);
        data.extend_from_slice(&page);
    }
    (numbers, data)
}

pub fn publish_image(publisher: &mut Publisher, position: u64, mut bytes: &[u8]) {
    let mut file = Draft {
        entry: Entry::new(b"kv.db", FileKind::File, 0o640, UnixTime::EPOCH),
        refs: Vec::new(),
        owner: Owner::default(),
    };
    file.entry.size = 1;
    let point = Some(StreamPoint { stream: STREAM, position, gap: None });
    publisher.image(Image { point, at: seen(position), file, bytes: &mut bytes }).unwrap();
}

pub fn publisher(repo: &Arc<Repository>, source: &str) -> Publisher {
    let origin = Origin {
        source: source.into(),
        kind: "sqlite",
        path: b"/srv/kv.db".to_vec(),
        host: "h".into(),
        user: "u".into(),
    };
    Publisher::new(repo, origin, WriterOptions::default(), &Stop::default())
}

pub fn page(number: u32, position: u64) -> Vec<u8> {
    let mut page: Vec<u8> =
        (0..PAGE).map(|n| (n as u64 * 7 + position + u64::from(number)) as u8).collect();
    if number == 1 {
        page[18..20].copy_from_slice(&[2, 2]);
    }
    page
}

pub fn content(pages: u32, position: u64) -> Vec<u8> {
    (1..=pages).flat_map(|number| page(number, position)).collect()
}

/// What a state's directory holds.
pub fn files(library: &dyn Library, position: u64) -> Option<Vec<(String, FileContent)>> {
    let info = library.snapshot(&state_id("shop", &STREAM, position)).unwrap()?;
    assert_eq!(info.snapshot.taken, seen(position));
    assert_eq!(info.shown_from(), seen(position));
    let mut files = Vec::new();
    let root: ChunkId = browse::Found::root(&info).dir().unwrap();
    browse::each_entry(library, root, |found| {
        let name = String::from_utf8(found.entry().name.to_vec()).unwrap();
        assert_eq!(found.entry().size, found.content().size());
        assert_eq!(found.entry().mode, 0o640);
        files.push((name, found.content()));
        Ok::<_, asof::repo::Error>(std::ops::ControlFlow::<()>::Continue(()))
    })
    .unwrap();
    Some(files)
}

pub fn assert_state(library: &dyn Library, position: u64, expected: &[u8], window: (u64, usize)) {
    let files = files(library, position).unwrap_or_else(|| panic!("no state {position}"));
    let [(name, file), (raw_name, raw)] = files.as_slice() else { panic!("{files:?}") };
    assert_eq!((name.as_str(), raw_name.as_str()), ("kv.db", "kv.db.raw"));
    assert_eq!(raw.size(), expected.len() as u64);
    let bytes = library.read(raw, 0, expected.len() + 1).unwrap();
    assert!(bytes == expected, "state {position} is not as it was");
    let mut patched = expected.to_vec();
    patched[18..20].copy_from_slice(&[1, 1]);
    assert!(library.read(file, 0, patched.len()).unwrap() == patched, "state {position}");
    // Any window of it is a part of it.
    let from = window.0 % (patched.len() as u64 + 10);
    let upto = (from as usize + window.1).min(patched.len());
    let part = patched.get(from as usize..upto).unwrap_or_default();
    assert_eq!(library.read(file, from, window.1).unwrap(), part, "{window:?} of {position}");
}
