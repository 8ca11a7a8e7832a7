//! A checkpoint of the owner stands for the records that it merged.

mod carried;
mod learning;
mod making;
mod searching;

use std::collections::BTreeSet;
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use asof::base::{ChunkId, Clock, Kind, PackId, Progress, RecordId, SnapshotId, Stop, UnixTime};
use asof::codec::compress::Codec;
use asof::codec::hash::{ChunkKind, sha256};
use asof::format::fact::{Fact, Forget, Grace, Packs, Pin, Revoke, Snapshot};
use asof::format::item;
use asof::format::names;
use asof::format::node::{Entry, FileKind, Owner, Subtree};
use asof::format::pack::{Directory, Frame, PackFact};
use asof::repo::checkpoint::{
    CompactOptions, Compacted, Dropped, compact, drop_covered, droppable, find_chunk,
};
use asof::repo::keys::Credential;
use asof::repo::log::{Chain, EncodedFact, chain_gaps};
use asof::repo::{self, Repository, Rules, keyring};
use asof::store::fault::{Action, Fault, FaultStore, Moment};
use asof::store::{Call, CountStore, MemoryStore, Store};

use crate::crash::at_every_call;
use crate::fixture::{TestRepo, create, names_in, noise, owner_key, recording, restores_to};

/// The grace period and the skew of these repositories. Seconds.
const GRACE: i64 = 30 * 86400;

const SKEW: i64 = 3600;

/// A repository in a store whose time the test sets.
struct World {
    memory: MemoryStore,
    time: Arc<AtomicI64>,
    repo: TestRepo,
}

fn world(encrypted: bool) -> World {
    let time = Arc::new(AtomicI64::new(1_900_000_000));
    let memory = MemoryStore::with_clock(clock(&time));
    let repo = create(Arc::new(memory.clone()), encrypted);
    World { memory, time, repo }
}

fn clock(time: &Arc<AtomicI64>) -> Clock {
    let time = Arc::clone(time);
    Clock::from_fn(move || UnixTime::new(time.load(Ordering::SeqCst), 0))
}

impl World {
    fn pass(&self, seconds: i64) {
        self.time.fetch_add(seconds, Ordering::SeqCst);
    }

    fn now(&self) -> UnixTime {
        UnixTime::new(self.time.load(Ordering::SeqCst), 0)
    }

    /// A machine that knows nothing yet.
    fn fresh(&self) -> TestRepo {
        TestRepo::from_elsewhere(Arc::new(self.memory.clone()))
    }

    fn compact(&self, repo: &Arc<Repository>, records_min: usize) -> repo::Result<Compacted> {
        let at = repo.sync(true)?.at.unwrap();
        let options = CompactOptions { records_min };
        compact(repo, at, &options, &Progress::silent(), &Stop::new())
    }

    fn drop(&self, repo: &Arc<Repository>, exclusive: bool) -> Dropped {
        let at = repo.sync(true).unwrap().at.unwrap();
        let found = droppable(repo, at, exclusive).unwrap();
        let dropped =
            drop_covered(repo, at, exclusive, &HashSet::new(), &Progress::silent(), &Stop::new())
                .unwrap();
        assert_eq!(dropped.objects, found.names.len() as u64);
        assert_eq!(dropped.bytes, found.bytes);
        dropped
    }

    fn log(&self) -> Vec<String> {
        names_in(&self.memory, "log/")
    }
}

/// Some backups of a small tree that changes, some hours apart.
fn backups(world: &World, count: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..count {
        fs::write(dir.path().join(format!("f{n}")), noise(n, 40)).unwrap();
        world.repo.backup("s", dir.path());
        world.pass(3600);
    }
    world.pass(2 * SKEW + 1);
    dir
}

fn far(world: &World) -> UnixTime {
    UnixTime::new(world.now().seconds + GRACE, 0)
}

fn chunk(pack: u32, place: u32) -> ChunkId {
    ChunkId(sha256(&[pack.to_le_bytes(), place.to_le_bytes()].concat()))
}

/// A claim about a pack that is not there, with chunks of 10 bytes.
fn pack_fact(n: u32, chunks: u32) -> Fact {
    let plain_len = chunks * 10;
    let frame =
        Frame { offset: 100, sealed_len: plain_len, start: 0, plain_len, codec: Codec::Raw };
    Fact::Pack(Box::new(PackFact {
        id: PackId(sha256(&n.to_le_bytes())),
        kind: ChunkKind::Data,
        size: 1000 + u64::from(plain_len),
        key: Some([5; 32]),
        directory: Directory {
            frames: vec![frame],
            chunks: (0..chunks).map(|place| (chunk(n, place), 10)).collect(),
        },
    }))
}

fn snapshot_fact(n: u32, source: &str, at: UnixTime) -> EncodedFact {
    let root =
        Entry { subtree: Some(Subtree::default()), ..Entry::new(b"", FileKind::Dir, 0o755, at) };
    let snapshot = Snapshot::new(snapshot_id(n), source, root, Owner::default(), at);
    let fact = Fact::Snapshot(Box::new(snapshot));
    EncodedFact { bytes: fact.encode(&[chunk(n, 0)]) }
}

fn snapshot_id(n: u32) -> SnapshotId {
    SnapshotId::from_slice(&sha256(&n.to_le_bytes())[..16]).unwrap()
}

/// What an index knows, a line each, by table, without the numbers of this machine.
fn dump(repo: &Repository) -> BTreeSet<String> {
    let tables = [
        "SELECT 'record', hex(id), receipt, hex(writer), hex(chain), number, hex(previous), late
         FROM record WHERE writer IS NOT NULL",
        "SELECT 'claim', hex(pack.id), hex(claim), kind, size, doomed, chunks, hex(frames),
             hex(writer), receipt, trusted, certified, hex(chain), claimant.number
         FROM pack JOIN claimant ON claimant.pack = pack.number",
        "SELECT 'chunk', hex(pack.id), hex(claim), hex(chunk.id), place, start, length
         FROM chunk JOIN pack ON pack.number = chunk.pack",
        "SELECT 'fate', hex(pack), condemned, deleted FROM fate",
        "SELECT 'revoked', hex(writer), since FROM revoked",
        "SELECT 'snapshot', hex(id), hex(record), receipt, hex(writer), late, hex(fact),
             hex(checksum) FROM snapshot",
        "SELECT 'forgotten', hex(snapshot) FROM forgotten",
        "SELECT 'pin', hex(record), place, receipt, hex(writer), late, hex(snapshot), hex(chain),
             number FROM pin",
        "SELECT 'fact', hex(record), place, receipt, hex(bytes) FROM fact",
    ];
    let db = rusqlite::Connection::open(repo.index().path()).unwrap();
    let mut lines = BTreeSet::new();
    for sql in tables {
        let mut statement = db.prepare(sql).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<String> = (0..columns)
                .map(|n| match row.get_ref(n).unwrap() {
                    rusqlite::types::ValueRef::Text(t) => String::from_utf8_lossy(t).into_owned(),
                    rusqlite::types::ValueRef::Integer(n) => n.to_string(),
                    _ => "-".to_owned(),
                })
                .collect();
            lines.insert(values.join(" "));
        }
    }
    lines
}
