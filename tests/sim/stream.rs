//! Segments of streams: published and forgotten beside snapshots, and watched.
//!
//! All are of one stream, each begins at a position that no other does, and what it holds
//! follows from what it says, so that the oracle needs no model of it. The contents are few:
//! what one party stores is often what another has stored, or what was forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use asof::base::{ChunkId, SnapshotId, Stop, StreamId, UnixTime};
use asof::format::extents::{Content, Extent};
use asof::format::node::{Entry, FileKind};
use asof::format::segment::Segment;
use asof::ops::follow::{Change, Data, Origin, Publisher};
use asof::repo::reader::ReaderOptions;
use asof::repo::streams::decode;
use asof::repo::writer::WriterOptions;
use asof::repo::{self, FileContent, Library, LocalOptions, Repository, Shelf};

use crate::party::{Desk, Trouble};
use crate::rng::Rng;
use crate::world::SimStore;

const STREAM: StreamId = StreamId([5; 16]);
const PAGE: usize = 512;
/// A database has at least so many pages; how many more says what was written to it.
const PAGES_MIN: u32 = 2;
/// How many different contents there are.
pub const CONTENTS: usize = 5;

fn content(n: u32) -> Vec<u8> {
    let mut rng = Rng::new(9000 + u64::from(n));
    (0..PAGES_MIN as usize * PAGE).map(|_| rng.next() as u8).collect()
}

/// Publishes a segment that begins at a position and has that content.
pub fn publish(desk: &Desk, source: String, after: u64, n: usize) -> Result<(), Trouble> {
    let repo = desk.open_new()?;
    let origin = Origin {
        source,
        kind: "sqlite",
        path: b"/db".to_vec(),
        host: "sim".into(),
        user: "sim".into(),
    };
    let options = WriterOptions { uploads: 1, ..WriterOptions::default() };
    let n = u32::try_from(n).unwrap();
    let change = Change {
        position: after + 1,
        at: UnixTime::new(i64::try_from(after).unwrap(), 0),
        within: 1,
        size: PAGES_MIN + n,
        page_bytes: PAGE as u32,
        numbers: (1..=PAGES_MIN).collect(),
        data: Data::Held(content(n)),
    };
    let mut publisher = Publisher::new(&repo, origin, options, &Stop::new());
    publisher.segment(STREAM, after, &[change])?;
    Ok(())
}

/// A segment as it stands in the log.
struct Standing {
    late: bool,
    refs: Vec<ChunkId>,
    segment: Segment,
}

fn standing(repo: &Repository) -> repo::Result<Vec<Standing>> {
    let mut all = Vec::new();
    repo.index().each_segment(&STREAM, (0, u64::MAX), |row| {
        let (refs, segment) = decode(repo, &row)?;
        all.push(Standing { late: row.late, refs, segment });
        Ok::<(), repo::Error>(())
    })?;
    Ok(all)
}

/// Chooses segments to forget: of all but the last few, most.
pub fn expendable(repo: &Repository, keep: usize, rng: &mut Rng) -> repo::Result<Vec<SnapshotId>> {
    let ids: BTreeMap<u64, SnapshotId> =
        standing(repo)?.iter().map(|one| (one.segment.after, one.segment.id)).collect();
    let old = ids.values().take(ids.len().saturating_sub(keep));
    Ok(old.filter(|_| rng.chance(700)).copied().collect())
}

/// What the oracle knows of segments.
#[derive(Default)]
pub struct Watched {
    /// Where those begin of which somebody said that they are published, or that were read.
    promised: BTreeSet<u64>,
    ids: HashMap<u64, SnapshotId>,
    /// The packs from which each was read when it last was.
    pub read_from: HashMap<SnapshotId, HashSet<String>>,
}

impl Watched {
    /// From now on it must be there.
    pub fn promise(&mut self, after: u64) {
        self.promised.insert(after);
    }

    /// Reads every segment that was published in time and not forgotten, unless all that it was
    /// read from is still there. Returns how many were read.
    pub fn check(
        &mut self,
        repo: &Arc<Repository>,
        local: &LocalOptions,
        store: &SimStore,
        given_up: &HashSet<SnapshotId>,
    ) -> Result<usize, String> {
        let mut all = standing(repo).map_err(|error| format!("{error:?}"))?;
        let late: HashSet<u64> =
            all.iter().filter(|one| one.late).map(|one| one.segment.after).collect();
        all.retain(|one| !one.late);
        for one in &all {
            self.ids.insert(one.segment.after, one.segment.id);
        }
        let there: HashSet<u64> = all.iter().map(|one| one.segment.after).collect();
        for after in &self.promised {
            let forgotten = self.ids.get(after).is_some_and(|id| given_up.contains(id));
            if !there.contains(after) && !forgotten {
                let how = match late.contains(after) {
                    true => "came too late, though it was said that it stands",
                    false => "is not in the log any more, though nobody forgot it",
                };
                let id = self.ids.get(after);
                return Err(format!("the segment at {after} ({id:?}) {how}"));
            }
        }
        let mut checks = 0;
        for one in all {
            let (id, after) = (one.segment.id, one.segment.after);
            if self.read_from.get(&id).is_some_and(|from| !from.is_empty()) {
                continue;
            }
            checks += 1;
            store.take_read();
            let found = read(repo, local, &one.refs).map_err(|why| {
                format!("the segment at {after} of {} is lost: {why} ({why:?})", one.segment.source)
            })?;
            if found != content(one.segment.changes[0].size - PAGES_MIN) {
                return Err(format!("the segment at {after} is not what was published"));
            }
            self.promised.insert(after);
            let from = store.take_read().into_iter().filter(|key| key.starts_with("packs/"));
            self.read_from.insert(id, from.collect());
        }
        Ok(checks)
    }
}

/// Reads a chunk as if it were a file, with a reader that has nothing in memory.
fn read(repo: &Arc<Repository>, local: &LocalOptions, refs: &[ChunkId]) -> repo::Result<Vec<u8>> {
    let options = ReaderOptions { fetchers: 1, ..ReaderOptions::default() };
    let shelf = Shelf::open(repo, local, options)?;
    let length = PAGES_MIN as usize * PAGE;
    let mut entry = Entry::new(b"db", FileKind::File, 0o600, UnixTime::EPOCH);
    entry.size = length as u64;
    entry.content = Some(Content::Extents(vec![Extent { length: entry.size, chunk: Some(0) }]));
    Ok(shelf.read(&FileContent::of(&entry, refs), 0, length)?.to_vec())
}
