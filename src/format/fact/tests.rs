use super::*;
use crate::base::{RepositoryId, StreamId};
use crate::codec::hash::ChunkKind;
use crate::format::certificate::Certificate;
use crate::format::node::{FileKind, Subtree};
use crate::format::pack::Directory;
use crate::format::segment::{Change, Gap, PAGES};

pub(crate) fn snapshot(source: &str) -> Snapshot {
    let root = Entry {
        size: 4096,
        subtree: Some(Subtree::default()),
        ..Entry::new(b"", FileKind::Dir, 0o755, UnixTime::EPOCH)
    };
    Snapshot {
        started: UnixTime::new(1, 0),
        roots: vec![b"/srv".to_vec().into()],
        host: "h".into(),
        user: "u".into(),
        tags: vec!["t".into()],
        counts: Counts { files: 3, ..Counts::default() },
        expires: Some(UnixTime::new(9, 9)),
        point: Some(StreamPoint {
            stream: StreamId([2; 16]),
            position: 7,
            gap: Some(Gap {
                since: UnixTime::new(1, 1),
                stream: StreamId([3; 16]),
                position: 9,
                reason: "the spool was full".into(),
            }),
        }),
        ..Snapshot::new(SnapshotId([1; 16]), source, root, Owner::default(), UnixTime::new(2, 5))
    }
}

fn segment(source: &str) -> Segment {
    Segment {
        id: SnapshotId([1; 16]),
        source: source.into(),
        stream: StreamId([2; 16]),
        kind: PAGES.into(),
        after: 0,
        begins: UnixTime::new(3, 4),
        within: 5,
        changes: vec![Change { step: 1, delay: 0, size: 2, pages: vec![1] }],
        page_bytes: 512,
        chunk_pages: 1,
    }
}

fn every() -> Vec<Fact> {
    let packs = Packs { packs: vec![PackId([2; 32])] };
    let pack = PackFact {
        id: PackId([5; 32]),
        kind: ChunkKind::Data,
        size: 100,
        key: None,
        directory: Directory::default(),
    };
    vec![
        Fact::Pack(Box::new(pack)),
        Fact::Snapshot(Box::new(snapshot("web"))),
        Fact::Pin(Pin::Chain(ChainId([1; 16]), 7)),
        Fact::Pin(Pin::Snapshot(SnapshotId([1; 16]))),
        Fact::Forget(Forget { snapshots: vec![SnapshotId([1; 16])], reason: None }),
        Fact::Condemn(packs.clone()),
        Fact::Deleted(packs),
        Fact::Checkpoint(Checkpoint {
            complete_after: UnixTime::new(5, 0),
            records: vec![RecordId([3; 32])],
            places: vec![(ChunkId([4; 32]), 0)],
        }),
        Fact::Revoke(Revoke { writer: WriterId([1; 32]), from: UnixTime::EPOCH }),
        Fact::Grace(Grace { seconds: 5 }),
        Fact::Segment(Box::new(segment("web"))),
    ]
}

#[test]
fn every_fact_reads_back() {
    let refs = vec![ChunkId([1; 32])];
    for fact in every() {
        assert_eq!(Fact::decode(&fact.encode(&refs)), Ok((refs.clone(), fact)));
    }
    let unknown = item::encode(&refs, 77, &[0xf6]);
    assert_eq!(Fact::decode(&unknown), Ok((refs, Fact::Unknown(77))));
}

#[test]
fn a_stolen_writer_key_can_only_add_for_its_own_sources() {
    let certificate = Certificate {
        repository: RepositoryId([1; 32]),
        writer: WriterId([1; 32]),
        label: String::new(),
        sources: Some(vec!["web".into()]),
        trusted: true,
        issued: UnixTime::EPOCH,
        expires: Some(UnixTime::new(9, 9)),
    };
    let writer = Signer::Writer(certificate);
    for fact in every() {
        let adds =
            matches!(fact, Fact::Pack(_) | Fact::Snapshot(_) | Fact::Pin(_) | Fact::Segment(_));
        assert_eq!(may_publish(&writer, &fact), adds, "{}", fact.name());
        assert!(may_publish(&Signer::Owner, &fact));
    }
    assert!(!may_publish(&writer, &Fact::Snapshot(Box::new(snapshot("db")))));
    assert!(!may_publish(&writer, &Fact::Segment(Box::new(segment("db")))));
    assert!(!may_publish(&writer, &Fact::Unknown(77)));
}

#[test]
fn a_snapshot_that_would_mislead_is_refused() {
    let refs = [ChunkId([1; 32])];
    let refused = |snapshot: Snapshot| {
        Fact::decode(&Fact::Snapshot(Box::new(snapshot)).encode(&refs)).is_err()
    };
    let good = snapshot("web");
    assert!(!refused(good.clone()));
    for name in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(256)] {
        assert!(refused(snapshot(name)), "{name:?}");
    }
    let group = LinkGroup { id: LinkId { device: 0, inode: 1 }, first: 1, count: 2 };
    assert!(refused(Snapshot { links: Links::Inline(vec![group, group]), ..good.clone() }));
    assert!(refused(Snapshot { links: Links::Nodes(vec![(group.id, 1)]), ..good.clone() }));
    let named = Entry { name: b"x".to_vec().into(), ..good.root.clone() };
    assert!(refused(Snapshot { root: named, ..good }));
}
