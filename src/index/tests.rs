use super::*;
use crate::base::{ChunkId, PackId, RecordId, SnapshotId, WriterId};

const REPOSITORY: RepositoryId = RepositoryId([1; 32]);

fn opened(dir: &Path) -> Opened {
    Index::open(dir, REPOSITORY).unwrap()
}

fn record(n: u8) -> FoldedRecord {
    let pack = FoldedPack {
        id: PackId([n; 32]),
        kind: 0,
        size: 100,
        key: None,
        frames: vec![n],
        trusted: n.is_multiple_of(2),
        evidence: 1000 + i64::from(n),
        chunks: vec![(ChunkId([n; 32]), 5, 10), (ChunkId([99; 32]), 15, 10)],
    };
    FoldedRecord {
        id: Some(RecordId([n; 32])),
        receipt: 50 + i64::from(n),
        writer: Some(WriterId([n; 32])),
        packs: vec![pack],
        snapshots: vec![(SnapshotId([n; 16]), vec![n, n])],
        ..FoldedRecord::default()
    }
}

#[test]
fn folding_is_idempotent_and_without_order() {
    let state = |order: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        let index = opened(dir.path()).index;
        for n in order {
            index.fold(&[record(*n)]).unwrap();
        }
        let forget = FoldedRecord { forgotten: vec![SnapshotId([2; 16])], ..record(9) };
        index.fold(&[forget]).unwrap();
        let mut snapshots = index.snapshots().unwrap();
        snapshots.sort_by(|a, b| a.fact.cmp(&b.fact));
        (snapshots, index.counts().unwrap(), index.chunk_places(&ChunkId([99; 32])).unwrap().len())
    };
    let one = state(&[1, 2, 3]);
    assert_eq!(one, state(&[3, 2, 1, 2, 3]));
    assert_eq!(one.0.len(), 3);
    assert_eq!(one.2, 4, "a chunk has a set of places");
}

#[test]
fn a_chunk_counts_only_with_trust_and_fresh_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let index = opened(dir.path()).index;
    index.fold(&[record(1), record(2)]).unwrap();
    assert!(!index.has_chunk(&ChunkId([1; 32]), 0).unwrap(), "not trusted");
    assert!(index.has_chunk(&ChunkId([2; 32]), 1002).unwrap());
    assert!(!index.has_chunk(&ChunkId([2; 32]), 1003).unwrap(), "stale");
    index.witness_packs(2000).unwrap();
    assert!(index.has_chunk(&ChunkId([2; 32]), 2000).unwrap());
}

#[test]
fn what_was_kept_is_there_again_and_not_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let first = opened(dir.path());
    assert!(first.rebuilt.is_some());
    first.index.fold(&[record(1)]).unwrap();
    assert_eq!(first.index.view_number("a", 0).unwrap(), 1);
    assert_eq!(first.index.view_number("b", 10).unwrap(), 10);
    drop(first);
    let second = opened(dir.path());
    assert_eq!(second.rebuilt, None);
    assert_eq!(second.index.snapshots().unwrap().len(), 1);
    assert_eq!(second.index.view_number("a", 10).unwrap(), 1);
    assert_eq!(second.index.view_number("c", 0).unwrap(), 11);
}

#[test]
fn garbage_an_older_schema_and_another_repository_are_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let path = opened(dir.path()).index.path().to_owned();
    let spoil: [&dyn Fn(); 3] = [
        &|| std::fs::write(&path, b"this is no database at all, it is just some text").unwrap(),
        &|| Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap(),
        &|| {
            let db = Connection::open(&path).unwrap();
            db.execute("UPDATE meta SET value = x'00' WHERE key = 'repository'", []).unwrap();
        },
    ];
    for spoil in spoil {
        opened(dir.path()).index.fold(&[record(1)]).unwrap();
        spoil();
        let again = opened(dir.path());
        assert!(again.rebuilt.is_some());
        assert!(again.index.snapshots().unwrap().is_empty());
    }
}

#[test]
fn a_snapshot_row_that_was_altered_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let index = opened(dir.path()).index;
    index.fold(&[record(1)]).unwrap();
    Connection::open(index.path()).unwrap().execute("UPDATE snapshot SET receipt = 1", []).unwrap();
    assert_eq!(index.snapshots().unwrap_err().kind(), Kind::Damaged);
    index.reset().unwrap();
    assert!(index.snapshots().unwrap().is_empty());
}

#[test]
fn an_index_that_was_deleted_is_noticed_and_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let index = opened(&dir.path().join("sub")).index;
    index.fold(&[record(1)]).unwrap();
    assert!(index.is_current());
    std::fs::remove_dir_all(dir.path().join("sub")).unwrap();
    assert!(!index.is_current());
    index.reset().unwrap();
    assert!(index.is_current());
    assert!(index.snapshots().unwrap().is_empty());
    index.fold(&[record(1)]).unwrap();
    assert_eq!(index.snapshots().unwrap().len(), 1);
}

#[test]
fn a_scan_replaces_the_one_before_when_it_is_adopted_and_not_sooner() {
    let dir = tempfile::tempdir().unwrap();
    let index = opened(dir.path()).index;
    let scanned = |path: &str, body: u8| ScannedDir {
        path: path.as_bytes().to_vec(),
        part: 0,
        body: vec![body],
    };
    let scan = |generation| ScanSource {
        snapshot: SnapshotId([1; 16]),
        evidence: 5,
        generation,
        roots: vec![],
    };
    let there = |generation, path: &str| {
        index.scanned_dir("s", generation, path.as_bytes(), 0).unwrap().map(|body| body[0])
    };
    let one = index.begin_scan().unwrap();
    index.keep_scan("s", one, &[scanned("a", 1), scanned("b", 1), scanned("c", 1)], &[]).unwrap();
    index.adopt_scan("s", &scan(one), None).unwrap();
    let two = index.begin_scan().unwrap();
    assert!(two > one);
    index.keep_scan("s", two, &[scanned("b", 2)], &[b"a".to_vec()]).unwrap();
    assert_eq!(["a", "b", "c"].map(|path| there(one, path)), [Some(1), Some(1), Some(1)]);
    index.adopt_scan("s", &scan(two), Some(one)).unwrap();
    assert_eq!(["a", "b", "c"].map(|path| there(two, path)), [Some(1), Some(2), None]);
    assert_eq!(index.scan_source("s").unwrap(), Some(scan(two)));
}
