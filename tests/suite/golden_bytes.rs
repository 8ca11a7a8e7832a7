//! The worked examples of `docs/FORMAT.md`: the document and the code agree on every
//! byte, so neither can change without the other.
//!
//! Each example is made here from fixed keys and looked for in the document, white
//! space aside. A format that changes by accident fails here first.

use asof::base::{
    ChainId, ChunkId, PackId, RecordId, RepositoryId, SnapshotId, StreamId, UnixTime,
};
use asof::codec::chunker::{Chunker, Sizes};
use asof::codec::compress::Codec;
use asof::codec::envelope::{Envelope, SecretKey};
use asof::codec::hash::{ChunkKind, IdKey, SplitKey, sha256};
use asof::codec::sign::SigningKey;
use asof::format::certificate::Certificate;
use asof::format::checkpoint::{Merged, MergedRun, Places};
use asof::format::config::{Config, Parameters};
use asof::format::extents::{Content, Extent};
use asof::format::fact::{Checkpoint, Counts, Fact, Links, Pin, Snapshot};
use asof::format::keyfile::KeyFile;
use asof::format::node::{Entry, FileKind, Leaf, LinkGroup, LinkId, Node, Owner, Subtree, Xattr};
use asof::format::pack::{self, Directory, Frame, PackFact};
use asof::format::record::{Body, Header, Record};
use asof::format::segment::{Change, Gap, PAGES, Segment, StreamPoint};

const DOCUMENT: &str = include_str!("../../docs/FORMAT.md");

/// In lines of 32 bytes, as the document has them.
fn folded(hex: &str) -> String {
    let lines: Vec<_> =
        hex.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
    lines.join("\n")
}

fn owner() -> SigningKey {
    SigningKey::from_seed([1; 32])
}

fn writer() -> SigningKey {
    SigningKey::from_seed([2; 32])
}

fn repository() -> RepositoryId {
    RepositoryId(sha256(owner().id().as_bytes()))
}

fn at() -> UnixTime {
    UnixTime::new(1_795_212_000, 500_000_000)
}

fn certificate() -> Vec<u8> {
    Certificate {
        repository: repository(),
        writer: writer().id(),
        label: "web1".into(),
        sources: Some(vec!["web".into()]),
        trusted: true,
        issued: at(),
        expires: None,
    }
    .issue(&owner())
}

fn entry(name: &str, kind: FileKind) -> Entry {
    Entry::new(name.as_bytes(), kind, 0o644, at())
}

fn root_owner() -> Owner {
    Owner { uid: 0, gid: 0, user: Some("root".into()), group: Some("root".into()) }
}

fn leaf() -> (Node, Vec<ChunkId>) {
    let ids = IdKey::secret(&[4; 32]);
    let chunk = ids.chunk_id(ChunkKind::Data, &sha256(b"hello"));
    let node = ids.chunk_id(ChunkKind::Node, &sha256(b"hello"));
    let entries = vec![
        Entry {
            mode: 0o755,
            size: 4096,
            subtree: Some(Subtree { node: 0, entries: 7, bytes: 1000, subdirs: 2 }),
            ..entry("dir", FileKind::Dir)
        },
        Entry {
            size: 3,
            sha256: Some(sha256(b"hi\n").to_vec().into()),
            content: Some(Content::Inline(b"hi\n".to_vec().into())),
            ..entry("inline", FileKind::File)
        },
        Entry {
            size: 5,
            target: Some(b"../to".to_vec().into()),
            ..entry("link", FileKind::Symlink)
        },
        Entry { device: Some((1, 3)), ..entry("null", FileKind::CharDevice) },
        Entry {
            owner: 1,
            size: 1_000_005,
            link: Some(LinkId { device: 0, inode: 1234 }),
            xattrs: vec![Xattr { name: b"user.a".to_vec().into(), value: b"v".to_vec().into() }],
            content: Some(Content::Extents(vec![
                Extent { length: 1_000_000, chunk: None },
                Extent { length: 5, chunk: Some(1) },
            ])),
            holes: 1_000_000,
            marks: 1,
            ..entry("sparse", FileKind::File)
        },
    ];
    let owners = vec![root_owner(), Owner { uid: 1000, gid: 1000, user: None, group: None }];
    (Node::Leaf(Leaf { owners, entries }), vec![node, chunk])
}

fn snapshot() -> (Fact, Vec<ChunkId>) {
    let root = Entry {
        mode: 0o755,
        size: 4096,
        subtree: Some(Subtree { node: 0, entries: 2, bytes: 10, subdirs: 0 }),
        ..entry("", FileKind::Dir)
    };
    let snapshot = Snapshot {
        started: UnixTime::new(1_795_212_000, 0),
        roots: vec![b"/srv/web".to_vec().into()],
        host: "web1".into(),
        user: "root".into(),
        tags: vec!["daily".into()],
        counts: Counts { files: 2, dirs: 1, bytes: 10, new: 2, ..Counts::default() },
        links: Links::Inline(vec![LinkGroup {
            id: LinkId { device: 0, inode: 1234 },
            first: 1,
            count: 2,
        }]),
        program: "asof 0.1.0".into(),
        ..Snapshot::new(SnapshotId([7; 16]), "web", root, root_owner(), at())
    };
    (Fact::Snapshot(Box::new(snapshot)), vec![ChunkId([8; 32])])
}

/// A database as a stream begins, after another one.
fn base() -> (Fact, Vec<ChunkId>) {
    let root = Entry {
        mode: 0o700,
        subtree: Some(Subtree { node: 0, entries: 1, bytes: 8192, subdirs: 0 }),
        ..entry("", FileKind::Dir)
    };
    let gap = Gap {
        since: UnixTime::new(1_795_211_000, 0),
        stream: StreamId([11; 16]),
        position: 7,
        reason: "the log began again".into(),
    };
    let snapshot = Snapshot {
        kind: "sqlite".into(),
        roots: vec![b"/srv/shop/kv.db".to_vec().into()],
        host: "web1".into(),
        user: "root".into(),
        counts: Counts { files: 1, dirs: 1, bytes: 8192, bytes_read: 8192, ..Counts::default() },
        program: "asof 0.1.0".into(),
        point: Some(StreamPoint { stream: StreamId([10; 16]), position: 0, gap: Some(gap) }),
        ..Snapshot::new(SnapshotId([9; 16]), "shop", root, root_owner(), at())
    };
    (Fact::Snapshot(Box::new(snapshot)), vec![ChunkId([8; 32])])
}

/// Three changes of it: page 2; pages 1 and 3; and one that cuts off the third.
fn segment() -> (Fact, Vec<ChunkId>) {
    let change =
        |step, delay, size, pages: &[u32]| Change { step, delay, size, pages: pages.to_vec() };
    let segment = Segment {
        id: SnapshotId([12; 16]),
        source: "shop".into(),
        stream: StreamId([10; 16]),
        kind: PAGES.into(),
        after: 0,
        begins: UnixTime::new(1_795_212_001, 0),
        within: 2_000_000,
        changes: vec![
            change(1, 0, 2, &[2]),
            change(1, 250_000_000, 3, &[1, 2]),
            change(1, 1, 2, &[1]),
        ],
        page_bytes: 4096,
        chunk_pages: 256,
    };
    (Fact::Segment(Box::new(segment)), vec![ChunkId([13; 32])])
}

fn directory() -> Directory {
    let frame = |offset, sealed_len, start, plain_len, codec| Frame {
        offset,
        sealed_len,
        start,
        plain_len,
        codec,
    };
    Directory {
        frames: vec![frame(48, 30, 0, 30, Codec::Raw), frame(78, 20, 30, 70, Codec::Zstd)],
        chunks: vec![(ChunkId([1; 32]), 10), (ChunkId([2; 32]), 40), (ChunkId([3; 32]), 50)],
    }
}

fn config() -> Vec<u8> {
    let encryption = SecretKey::from_bytes([3; 32]).public();
    Config::new(owner().id(), Some(encryption), Parameters::default(), at()).issue(&owner())
}

fn pack_fact() -> Fact {
    Fact::Pack(Box::new(PackFact {
        id: PackId([5; 32]),
        kind: ChunkKind::Data,
        size: 300,
        key: Some([6; 32]),
        directory: directory(),
    }))
}

fn merged() -> Node {
    let pin = Fact::Pin(Pin::Snapshot(SnapshotId([7; 16]))).encode(&[]);
    Node::Merged(MergedRun {
        of: ChainId([6; 16]),
        records: vec![Merged {
            writer: owner().id(),
            record: RecordId([7; 32]),
            receipt: UnixTime::new(1_795_212_001, 0),
            certificate: None,
            chain: ChainId([6; 16]),
            number: 0,
            late: false,
            previous: None,
            facts: vec![(0, pin.into())],
            part: None,
        }],
    })
}

fn places() -> Node {
    let places = directory().places().collect::<Vec<_>>();
    let rows = places.iter().map(|(id, start, length)| (*id, (PackId([5; 32]), *start, *length)));
    Node::Places(Places::new(ChainId([6; 16]), &rows.collect::<Vec<_>>()))
}

fn checkpoint() -> (Fact, Vec<ChunkId>) {
    let checkpoint = Checkpoint {
        complete_after: UnixTime::new(1_795_211_000, 0),
        records: vec![RecordId([7; 32])],
        places: vec![(ChunkId([1; 32]), 1)],
    };
    (Fact::Checkpoint(checkpoint), vec![ChunkId([10; 32]), ChunkId([11; 32])])
}

fn record() -> (Record, Vec<u8>) {
    let pin = Fact::Pin(Pin::Snapshot(SnapshotId([7; 16]))).encode(&[]);
    let body = Body {
        claimed: at(),
        certificate: Some(certificate().into()),
        facts: vec![pin.into()],
        deadline: Some(UnixTime::new(1_797_796_800, 0)),
    };
    let plain = body.encode();
    let header = Header {
        repository: repository(),
        writer: writer().id(),
        chain: ChainId([6; 16]),
        number: 1,
        previous: Some(RecordId([7; 32])),
        body_len: plain.len() as u64,
    };
    let body = [&[0][..], &plain].concat();
    let record = Record { header_bytes: header.encode(), header, envelope: Vec::new(), body };
    (record, plain)
}

/// What the document shows, by a short name.
fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let sha = sha256(b"hello");
    let (secret, public) = (IdKey::secret(&[4; 32]), IdKey::public(repository()));
    let (node, node_refs) = leaf();
    let (fact, fact_refs) = snapshot();
    let (record, body) = record();
    let record_bytes = record.issue(&writer());
    let header = pack::Header { kind: ChunkKind::Node, random: [9; 32], envelope_len: 108 };
    vec![
        ("owner", owner().id().0.to_vec()),
        ("writer", writer().id().0.to_vec()),
        ("repository", repository().0.to_vec()),
        ("certificate", certificate()),
        ("id-data", secret.chunk_id(ChunkKind::Data, &sha).0.to_vec()),
        ("id-node", secret.chunk_id(ChunkKind::Node, &sha).0.to_vec()),
        ("id-plain", public.chunk_id(ChunkKind::Data, &sha).0.to_vec()),
        ("gear", secret.derive::<2048>("asof gear")[..16].to_vec()),
        ("split", SplitKey::new(&secret).number(b"hello").to_be_bytes().to_vec()),
        ("info", pack::envelope_info(repository(), ChunkKind::Node)),
        ("pack-header", header.encode().to_vec()),
        ("pack-directory", directory().encode()),
        ("pack-footer", pack::encode_footer(144).to_vec()),
        ("pack-fact", pack_fact().encode(&[])),
        ("merged", merged().encode(&[])),
        ("places", places().encode(&[])),
        ("checkpoint", checkpoint().0.encode(&checkpoint().1)),
        ("leaf", node.encode(&node_refs)),
        ("snapshot", fact.encode(&fact_refs)),
        ("base", base().0.encode(&base().1)),
        ("segment", segment().0.encode(&segment().1)),
        ("record-header", record.header_bytes.clone()),
        ("record-body", body),
        ("record", record_bytes.clone()),
        ("record-id", sha256(&record_bytes).to_vec()),
    ]
}

fn dense(text: &str) -> String {
    text.split_whitespace().collect()
}

#[test]
fn the_document_shows_what_the_code_makes() {
    let document = dense(DOCUMENT);
    for (what, bytes) in examples() {
        let hex = hex::encode(bytes);
        assert!(document.contains(&hex), "docs/FORMAT.md lacks {what}:\n{}", folded(&hex));
    }
    let config = String::from_utf8(config()).unwrap();
    assert!(document.contains(&dense(&config)), "docs/FORMAT.md lacks:\n{config}");
}

#[test]
fn the_code_reads_what_the_document_shows() {
    let (node, refs) = leaf();
    assert_eq!(Node::decode(&node.encode(&refs)), Ok((refs, node)));
    let (fact, refs) = snapshot();
    assert_eq!(Fact::decode(&fact.encode(&refs)), Ok((refs, fact)));
    assert_eq!(Fact::decode(&pack_fact().encode(&[])), Ok((Vec::new(), pack_fact())));
    for (fact, refs) in [checkpoint(), base(), segment()] {
        assert_eq!(Fact::decode(&fact.encode(&refs)), Ok((refs, fact)));
    }
    for node in [merged(), places()] {
        assert_eq!(Node::decode(&node.encode(&[])), Ok((Vec::new(), node)));
    }
    let (record, _) = record();
    let bytes = record.issue(&writer());
    assert_eq!(Record::decode(RecordId(sha256(&bytes)), &bytes, repository()), Ok(record));
    assert!(Config::decode(&config()).is_ok());
}

/// The chunker as the document has it, a byte at a time.
fn cut(bytes: &[u8], sizes: Sizes, gear: &[u64], (strict, relaxed): (u64, u64)) -> usize {
    let [min, average, max] = [sizes.min, sizes.average, sizes.max].map(|n| n as usize);
    if bytes.len() <= min {
        return bytes.len();
    }
    let n = bytes.len().min(max);
    let c = n.min(average) & !1;
    let mut h: u64 = 0;
    for i in min..n & !1 {
        h = (h << 1).wrapping_add(gear[usize::from(bytes[i])]);
        if h & (if i < c { strict } else { relaxed }) == 0 {
            return i;
        }
    }
    n
}

#[test]
fn content_is_cut_as_the_document_says() {
    let mask = |n: u32| {
        let start = DOCUMENT.find(" 6 1803110").expect("the document has the masks");
        let table = DOCUMENT[start..].split("```").next().unwrap_or_default();
        let words: Vec<_> = table.split_whitespace().collect();
        let at = words.iter().position(|word| *word == n.to_string()).unwrap();
        u64::from_str_radix(words[at + 1], 16).unwrap()
    };
    let ids = IdKey::secret(&[4; 32]);
    let table = ids.derive::<2048>("asof gear");
    let gear: Vec<u64> = table.as_chunks::<8>().0.iter().map(|w| u64::from_be_bytes(*w)).collect();
    let mut state = 1_u64;
    let noise: Vec<u8> = (0..300_001)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    for (min, average, max, b) in [
        (64, 256, 1024, 8),
        (1024, 4096, 16384, 12),
        (100, 5000, 9000, 12),
        (64, 1 << 23, 1 << 24, 23),
    ] {
        let sizes = Sizes { min, average, max };
        assert!(sizes.is_sound());
        let chunker = Chunker::new(sizes, &ids);
        let mut rest = &noise[..];
        while !rest.is_empty() {
            let length = chunker.cut(rest);
            assert_eq!(length, cut(rest, sizes, &gear, (mask(b + 2), mask(b - 2))));
            rest = &rest[length..];
        }
    }
}

/// Salts and encapsulated keys are random: these two examples were made once and are
/// opened ever after.
#[test]
fn what_was_sealed_once_opens_for_ever() {
    let start = DOCUMENT.find("{\n  \"asof-key\"").expect("the document shows a key file");
    let end = start + DOCUMENT[start..].find("\n}\n").unwrap() + 3;
    let file = KeyFile::parse(&DOCUMENT.as_bytes()[start..end]).unwrap();
    let secrets = file.unwrap(b"correct horse").unwrap();
    assert_eq!(secrets.owner.unwrap().id(), owner().id());
    assert_eq!(secrets.reader.unwrap().as_bytes(), &[3; 32]);
    assert_eq!(secrets.id_key, Some([4; 32]));

    let start = DOCUMENT.find("8184503d74359e").expect("the document shows an envelope");
    let hex = dense(DOCUMENT[start..].split("```").next().unwrap());
    let envelope: Envelope = minicbor::decode(&hex::decode(hex).unwrap()).unwrap();
    let info = pack::envelope_info(repository(), ChunkKind::Node);
    let key = envelope.open(&SecretKey::from_bytes([3; 32]), &info, &[9; 32]).unwrap();
    assert_eq!(key.as_bytes(), &[5; 32]);
}
