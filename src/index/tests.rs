use super::*;
use crate::base::{ChunkId, PackId, Ranges, RecordId, SnapshotId, UnixTime, WriterId};

const REPOSITORY: RepositoryId = RepositoryId([1; 32]);

fn opened(dir: &Path) -> Opened {
    Index::open(dir, REPOSITORY).unwrap()
}

fn record(n: u8) -> FoldedRecord {
    let pack = FoldedPack {
        id: PackId([n; 32]),
        claim: [n; 32],
        kind: 0,
        size: 100,
        key: None,
        frames: vec![n],
        trusted: n.is_multiple_of(2),
        chunks: vec![(ChunkId([n; 32]), 5, 10), (ChunkId([99; 32]), 15, 10)],
    };
    FoldedRecord {
        id: Some(RecordId([n; 32])),
        receipt: 50 + i64::from(n),
        writer: Some(WriterId([n; 32])),
        packs: vec![pack],
        snapshots: vec![snapshot(n, vec![n, n])],
        ..FoldedRecord::default()
    }
}

fn snapshot(n: u8, fact: Vec<u8>) -> FoldedSnapshot {
    let taken = UnixTime::new(i64::from(n), 5);
    FoldedSnapshot { id: SnapshotId([n; 16]), source: "www".to_owned(), taken, point: None, fact }
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
    assert!(index.evidence(&ChunkId([1; 32]), 0, false).unwrap().is_none(), "not trusted");
    assert!(index.evidence(&ChunkId([2; 32]), 52, false).unwrap().is_some());
    assert!(index.evidence(&ChunkId([2; 32]), 53, false).unwrap().is_none(), "stale");
    index.note_listing(&[], Some(UnixTime::new(2000, 0))).unwrap();
    assert!(index.evidence(&ChunkId([2; 32]), 2000, false).unwrap().is_some());
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
    assert_eq!(index.snapshot(&SnapshotId([1; 16])).unwrap_err().kind(), Kind::Damaged);
    assert_eq!(index.snapshot_moments().unwrap_err().kind(), Kind::Damaged);
    assert_eq!(index.newest_moments().unwrap_err().kind(), Kind::Damaged);
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
        let rows = index.scanned_dir("s", generation, path.as_bytes(), 0, 2).unwrap();
        rows.into_iter().map(|(_, body)| body[0]).next()
    };
    // As a scan remembers the rows that it has met again.
    let met = |generation, paths: &[&str]| {
        let mut met = Ranges::default();
        for path in paths {
            for (row, _) in index.scanned_dir("s", generation, path.as_bytes(), 0, 2).unwrap() {
                met.add(row, row + 1);
            }
        }
        met
    };
    let nothing = Ranges::default();
    let one = index.begin_scan().unwrap();
    index.keep_scan("s", one, &[scanned("a", 1), scanned("b", 1), scanned("c", 1)]).unwrap();
    assert_eq!(there(one, "a"), None);
    index.adopt_scan("s", &scan(one), None, &nothing).unwrap();
    let two = index.begin_scan().unwrap();
    assert!(two > one);
    let met_by_two = met(one, &["a"]);
    index.keep_scan("s", two, &[scanned("b", 2)]).unwrap();
    assert_eq!(["a", "b", "c"].map(|path| there(one, path)), [Some(1), Some(1), Some(1)]);
    index.adopt_scan("s", &scan(two), Some(one), &met_by_two).unwrap();
    assert_eq!(["a", "b", "c"].map(|path| there(two, path)), [Some(1), Some(2), None]);
    assert_eq!(["a", "b", "c"].map(|path| there(one, path)), [None; 3], "it is the last no more");
    assert_eq!(index.scan_source("s").unwrap(), Some(scan(two)));

    // Of two scans side by side the second cannot tell whether what it met still holds.
    let (three, four) = (index.begin_scan().unwrap(), index.begin_scan().unwrap());
    let (met_by_three, met_by_four) = (met(two, &["a"]), met(two, &["a", "b"]));
    index.keep_scan("s", three, &[scanned("b", 3)]).unwrap();
    index.keep_scan("s", four, &[scanned("d", 4)]).unwrap();
    index.adopt_scan("s", &scan(three), Some(two), &met_by_three).unwrap();
    assert_eq!(["a", "b", "d"].map(|path| there(three, path)), [Some(1), Some(3), None]);
    index.adopt_scan("s", &scan(four), Some(two), &met_by_four).unwrap();
    assert_eq!(["a", "b", "d"].map(|path| there(four, path)), [None, None, Some(4)]);

    // More rows than are looked at in one go, of which every third is met again.
    let many: Vec<ScannedDir> = (0..10_000).map(|n| scanned(&format!("{n:05}"), 1)).collect();
    let first = index.begin_scan().unwrap();
    index.keep_scan("many", first, &many).unwrap();
    index.adopt_scan("many", &scan(first), None, &nothing).unwrap();
    let again = index.begin_scan().unwrap();
    let mut third = Ranges::default();
    for dir in many.iter().step_by(3) {
        for (row, _) in index.scanned_dir("many", first, &dir.path, 0, 1).unwrap() {
            third.add(row, row + 1);
        }
    }
    index.adopt_scan("many", &scan(again), Some(first), &third).unwrap();
    for (n, dir) in many.iter().enumerate() {
        let rows = index.scanned_dir("many", again, &dir.path, 0, 1).unwrap();
        assert_eq!(rows.len(), usize::from(n % 3 == 0), "{n}");
    }

    // One that was compared with nothing leaves nothing of before.
    let five = index.begin_scan().unwrap();
    index.keep_scan("s", five, &[scanned("a", 5)]).unwrap();
    index.adopt_scan("s", &scan(five), None, &nothing).unwrap();
    assert_eq!(["a", "b", "d"].map(|path| there(five, path)), [Some(5), None, None]);
}

/// Whoever claims a pack falsely, before or after the true claim: the true frames are
/// there, and nothing that only he claims becomes trusted.
#[test]
fn claims_of_one_pack_are_kept_apart() {
    let (real, invented) = (ChunkId([7; 32]), ChunkId([8; 32]));
    let claim = |n: u8, trusted, chunks: &[ChunkId]| {
        let mut one = record(n);
        one.packs[0].id = PackId([5; 32]);
        one.packs[0].trusted = trusted;
        one.packs[0].chunks = chunks.iter().map(|id| (*id, 0, 10)).collect();
        one
    };
    let (bad, good) = (claim(1, false, &[real, invented]), claim(2, true, &[real]));
    for order in [[&bad, &good], [&good, &bad]] {
        let dir = tempfile::tempdir().unwrap();
        let index = opened(dir.path()).index;
        order.into_iter().for_each(|one| index.fold(std::slice::from_ref(one)).unwrap());
        assert!(index.evidence(&real, 0, false).unwrap().is_some());
        assert!(index.evidence(&invented, 0, false).unwrap().is_none());
        let places = index.chunk_places(&real).unwrap();
        let frames: Vec<_> =
            places.iter().map(|at| index.pack(at.pack).unwrap().unwrap().frames).collect();
        assert_eq!(frames, [vec![2], vec![1]], "the trusted claim is tried first");
        let (_, packs, _, bytes) = index.counts().unwrap();
        assert_eq!((packs, bytes), (1, 100));
    }
}

/// A revocation holds whether it is learnt before or after what it is about.
#[test]
fn a_revoked_writer_is_not_believed_in_any_order() {
    let revoke = |since| FoldedRecord {
        revoked: vec![(WriterId([2; 32]), since)],
        ..FoldedRecord { packs: vec![], snapshots: vec![], ..record(100) }
    };
    // A copy that somebody else published later stands in its place.
    let copy = FoldedRecord { snapshots: record(2).snapshots, ..record(4) };
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 2, 1]] {
        let dir = tempfile::tempdir().unwrap();
        let index = opened(dir.path()).index;
        let records = [record(2), copy.clone(), revoke(52)];
        for at in order {
            index.fold(std::slice::from_ref(&records[at])).unwrap();
        }
        let snapshots = index.snapshots().unwrap();
        assert_eq!(snapshots.len(), 1);
        assert_eq!(snapshots[0].writer, WriterId([4; 32]));
        assert!(index.evidence(&ChunkId([2; 32]), 0, false).unwrap().is_none());
        assert!(index.evidence(&ChunkId([4; 32]), 0, false).unwrap().is_some());
    }
    let dir = tempfile::tempdir().unwrap();
    let index = opened(dir.path()).index;
    index.fold(&[record(2), revoke(53)]).unwrap();
    let before = index.snapshots_version().unwrap();
    assert_eq!(index.snapshots().unwrap().len(), 1, "what was received before stands");
    assert!(index.evidence(&ChunkId([2; 32]), 0, false).unwrap().is_some());
    index.fold(&[revoke(10)]).unwrap();
    assert_ne!(index.snapshots_version().unwrap(), before);
    assert!(index.snapshots().unwrap().is_empty(), "the earliest revocation holds");
}

#[test]
fn of_equal_receipts_the_lesser_record_stands_in_any_order() {
    let one = |n: u8, receipt| FoldedRecord {
        receipt,
        snapshots: vec![snapshot(7, vec![n])],
        ..record(n)
    };
    let records = [one(1, 20), one(2, 10), one(3, 10)];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        let dir = tempfile::tempdir().unwrap();
        let index = opened(dir.path()).index;
        for at in order {
            index.fold(std::slice::from_ref(&records[at])).unwrap();
        }
        let facts: Vec<_> = index.snapshots().unwrap().into_iter().map(|row| row.fact).collect();
        assert_eq!(facts, [vec![2]]);
        assert_eq!(index.snapshot(&SnapshotId([7; 16])).unwrap().unwrap().fact, [2]);
        let moments = index.snapshot_moments().unwrap();
        assert_eq!(moments.len(), 1);
        assert_eq!((moments[0].receipt, moments[0].taken), (10, UnixTime::new(7, 5)));
    }
}

mod newest {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A record of which snapshot of which source, taken when, received when, by whom, late.
    type Said = (u8, u8, (i64, u32), i64, u8);

    /// Few of everything, so that copies, ties and clocks that are wrong are common.
    fn said() -> impl Strategy<Value = Vec<Said>> {
        let one = (0_u8..6, 0_u8..3, (0_i64..5, 0_u32..2), 0_i64..5, 0_u8..3);
        proptest::collection::vec(one, 0..16)
    }

    /// Those of each source that count as taken in its last second.
    fn last(all: Vec<SnapshotMoment>) -> Vec<SnapshotMoment> {
        let second = |moment: &SnapshotMoment| moment.taken.seconds.min(moment.receipt);
        let mut last: BTreeMap<String, i64> = BTreeMap::new();
        for moment in &all {
            let newest = last.entry(moment.source.clone()).or_insert(i64::MIN);
            *newest = second(moment).max(*newest);
        }
        let mut all = all;
        all.retain(|moment| last[&moment.source] == second(moment));
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn those_are_found_that_looking_through_all_finds(
            said in said(),
            forgotten in proptest::collection::vec(0_u8..6, 0..3),
            revoked in proptest::option::of((0_u8..3, 0_i64..5)),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let index = opened(dir.path()).index;
            for (n, (id, source, (seconds, nanos), receipt, writer)) in (0_u8..).zip(said) {
                let snapshot = FoldedSnapshot {
                    id: SnapshotId([id; 16]),
                    source: format!("s{source}"),
                    taken: UnixTime::new(seconds, nanos),
                    point: None,
                    fact: vec![n],
                };
                index.fold(&[FoldedRecord {
                    receipt,
                    writer: Some(WriterId([writer; 32])),
                    snapshots: vec![snapshot],
                    ..record(n)
                }]).unwrap();
            }
            let before = index.snapshots_version().unwrap();
            let end = FoldedRecord {
                forgotten: forgotten.iter().map(|id| SnapshotId([*id; 16])).collect(),
                revoked: revoked.iter().map(|(n, at)| (WriterId([*n; 32]), *at)).collect(),
                packs: vec![],
                snapshots: vec![],
                ..record(99)
            };
            index.fold(&[end]).unwrap();
            let changed = !forgotten.is_empty() || revoked.is_some();
            prop_assert_eq!(index.snapshots_version().unwrap() != before, changed);
            let mut found = index.newest_moments().unwrap();
            found.sort_by_key(|moment| moment.id);
            prop_assert_eq!(found, last(index.snapshot_moments().unwrap()));
        }
    }

    /// However many snapshots and records there are, the start of a mount goes through none.
    #[test]
    fn what_the_start_of_a_mount_asks_is_found_without_a_scan() {
        let dir = tempfile::tempdir().unwrap();
        let index = opened(dir.path()).index;
        let db = Connection::open(index.path()).unwrap();
        let plan = |query: &str| {
            let query = query.replace("?1", "'s'").replace("?2", "5");
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
            let lines = plan.query_map([], |row| row.get::<_, String>(3)).unwrap();
            lines.map(|line| line.unwrap()).collect::<Vec<_>>()
        };
        let is_scan = |line: &String| line.contains("SCAN") || line.contains("B-TREE");
        let (second, within) = (snapshots::last_second(), snapshots::in_time(snapshots::IN_SECOND));
        for query in [snapshots::NEXT_SOURCE, &second, &within] {
            let plan = plan(query);
            assert!(!plan.iter().any(is_scan), "{query}: {plan:#?}");
        }
        let checkpoints = plan(compact::CHECKPOINTS);
        assert!(checkpoints[0].contains("SCAN checkpoint"), "{checkpoints:#?}");
        assert!(!checkpoints[1..].iter().any(is_scan), "{checkpoints:#?}");
        let blocking = plan(collect::BLOCKING);
        assert!(blocking.iter().all(|line| line.contains("record_that_blocks")), "{blocking:#?}");
    }
}

/// Who reads for long holds up nobody who writes, also if both have taken the only connection.
#[test]
fn a_writer_does_not_wait_for_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let index = opened(dir.path()).index;
    index
        .read(|db| {
            let mut rows = db.prepare("SELECT key FROM meta")?;
            let mut rows = rows.query([])?;
            assert!(rows.next()?.is_some());
            index.set_meta("key", b"value").unwrap();
            assert_eq!(index.meta("key").unwrap().unwrap(), b"value");
            Ok(())
        })
        .unwrap();
}
