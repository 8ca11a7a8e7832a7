use super::*;
use crate::base::{ChainId, PackId, RecordId};
use crate::format::checkpoint::Merged;

fn file(name: &str, size: u64, content: Option<Content>) -> Entry {
    Entry {
        name: name.as_bytes().to_vec().into(),
        kind: FileKind::File,
        mode: 0o644,
        owner: 0,
        mtime: UnixTime::new(-5, 999_999_999),
        ctime: UnixTime::new(1 << 40, 0),
        btime: None,
        size,
        link: Some(LinkId { device: 1, inode: u64::MAX }),
        target: None,
        device: None,
        xattrs: vec![Xattr { name: b"user.a".to_vec().into(), value: vec![0, 255].into() }],
        sha256: Some(vec![1; 32].into()),
        content,
        subtree: None,
        marks: MARK_CHANGED_WHILE_READ,
        holes: 0,
    }
}

fn leaf(entries: Vec<Entry>) -> Node {
    Node::Leaf(Leaf {
        owners: vec![Owner { user: Some("root".into()), ..Owner::default() }],
        entries,
    })
}

#[test]
fn every_kind_of_node_reads_back() {
    let refs = [ChunkId([1; 32]), ChunkId([2; 32])];
    let extents =
        vec![Extent { length: 5, chunk: Some(1) }, Extent { length: 1 << 40, chunk: None }];
    let id = LinkId { device: 0, inode: 9 };
    for node in [
        leaf(vec![
            file("a", 2, Some(Content::Inline(vec![1, 2].into()))),
            file("b", (1 << 40) + 5, Some(Content::Extents(extents.clone()))),
            file("c", 7, Some(Content::Tree(0))),
            file("d", 0, None),
            Entry {
                kind: FileKind::Dir,
                subtree: Some(Subtree { node: 0, entries: 3, bytes: 4, subdirs: 1 }),
                ..file("e", 4096, None)
            },
            Entry {
                kind: FileKind::Symlink,
                target: Some(b"x".to_vec().into()),
                ..file("f", 1, None)
            },
            Entry { kind: FileKind::CharDevice, device: Some((1, 3)), ..file("g", 0, None) },
        ]),
        Node::Inner(vec![Child {
            first: b"a".to_vec().into(),
            node: 1,
            direct: 1,
            entries: 2,
            bytes: 3,
        }]),
        Node::Extents(extents),
        Node::ExtentTree(vec![ExtentChild { length: 5, node: 0 }]),
        Node::Links(vec![LinkGroup { id, first: 1, count: 2 }]),
        Node::Statement(Statement {
            writer: crate::base::WriterId([1; 32]),
            certificate: None,
            fact: vec![1].into(),
            signature: vec![2; 64].into(),
        }),
        Node::Merged(MergedRun {
            of: ChainId([6; 16]),
            records: vec![Merged {
                writer: crate::base::WriterId([1; 32]),
                record: RecordId([2; 32]),
                receipt: UnixTime::new(5, 6),
                certificate: None,
                chain: ChainId([3; 16]),
                number: 1,
                late: true,
                previous: Some(RecordId([4; 32])),
                facts: vec![(2, vec![1].into())],
                part: None,
            }],
        }),
        Node::Places(Places::new(ChainId([6; 16]), &[(ChunkId([1; 32]), (PackId([2; 32]), 3, 4))])),
    ] {
        assert_eq!(Node::decode(&node.encode(&refs)), Ok((refs.to_vec(), node)));
    }
}

#[test]
fn a_statement_is_for_one_repository() {
    let key = SigningKey::random();
    let here = RepositoryId([1; 32]);
    let statement = Statement::issue(&key, here, None, b"fact");
    assert_eq!(statement.verify(here), Ok(()));
    assert!(statement.verify(RepositoryId([2; 32])).is_err());
    let other = Statement { fact: b"other".to_vec().into(), ..statement };
    assert!(other.verify(here).is_err());
}

#[test]
fn what_would_mislead_a_reader_is_refused() {
    let inline = |n: usize| Some(Content::Inline(vec![0; n].into()));
    let dir = |node| Entry {
        kind: FileKind::Dir,
        subtree: Some(Subtree { node, ..Subtree::default() }),
        ..file("d", 0, None)
    };
    for (why, entries) in [
        ("order", vec![file("b", 0, None), file("a", 0, None)]),
        ("twice", vec![file("a", 0, None), file("a", 0, None)]),
        ("slash", vec![file("a/b", 0, None)]),
        ("dots", vec![file("..", 0, None)]),
        ("no name", vec![file("", 0, None)]),
        ("nul", vec![file("a\0", 0, None)]),
        ("size", vec![file("a", 3, inline(2))]),
        ("no content", vec![file("a", 3, None)]),
        ("owner", vec![Entry { owner: 1, ..file("a", 0, None) }]),
        ("mode", vec![Entry { mode: 0o10000, ..file("a", 0, None) }]),
        (
            "chunk",
            vec![file("a", 5, Some(Content::Extents(vec![Extent { length: 5, chunk: Some(1) }])))],
        ),
        (
            "empty extent",
            vec![file("a", 0, Some(Content::Extents(vec![Extent { length: 0, chunk: None }])))],
        ),
        ("node", vec![dir(1)]),
        ("dir without tree", vec![Entry { subtree: None, ..dir(0) }]),
        ("file with tree", vec![Entry { kind: FileKind::File, ..dir(0) }]),
        ("link without target", vec![Entry { kind: FileKind::Symlink, ..file("a", 0, None) }]),
        (
            "nanoseconds",
            vec![Entry { mtime: UnixTime::new(0, 1_000_000_000), ..file("a", 0, None) }],
        ),
        (
            "target with NUL",
            vec![Entry {
                kind: FileKind::Symlink,
                target: Some(b"a\0".to_vec().into()),
                ..file("a", 0, None)
            }],
        ),
        (
            "device without numbers",
            vec![Entry { kind: FileKind::BlockDevice, ..file("a", 0, None) }],
        ),
        (
            "fifo with numbers",
            vec![Entry { kind: FileKind::Fifo, device: Some((1, 1)), ..file("a", 0, None) }],
        ),
        (
            "attribute twice",
            vec![Entry {
                xattrs: [file("a", 0, None).xattrs, file("a", 0, None).xattrs].concat(),
                ..file("a", 0, None)
            }],
        ),
        ("sha", vec![Entry { sha256: Some(vec![1; 31].into()), ..file("a", 0, None) }]),
    ] {
        let bytes = leaf(entries).encode(&[ChunkId([1; 32])]);
        assert!(Node::decode(&bytes).is_err(), "{why}");
    }
    assert!(Node::decode(&Node::Inner(vec![]).encode(&[])).is_err());
    assert_eq!(
        Node::decode(&item::encode(&[], 99, &[0])).unwrap_err().kind(),
        crate::base::Kind::Future
    );
}
