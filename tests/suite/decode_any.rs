//! Arbitrary bytes, and good ones with bytes changed, into every decoder: whatever
//! comes out of a store is refused or understood, and never panics or asks for memory
//! that its size does not warrant.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use asof::base::{
    ChainId, ChunkId, KeyId, PackId, RecordId, RepositoryId, SnapshotId, StreamId, UnixTime,
    WriterId,
};
use asof::codec::compress::{Codec, Compressor, unpack, unpack_prefix};
use asof::codec::envelope::{Envelope, PublicKey, SecretKey};
use asof::codec::hash::{ChunkKind, IdKey, sha256};
use asof::codec::passphrase::Cost;
use asof::codec::seal::SealKey;
use asof::codec::sign::SigningKey;
use asof::format::certificate::Certificate;
use asof::format::checkpoint::{Merged, MergedRun, Places};
use asof::format::config::{Config, Parameters};
use asof::format::extents::{Content, Extent, ExtentChild};
use asof::format::fact::{Checkpoint, Fact, Forget, Grace, Links, Packs, Pin, Revoke, Snapshot};
use asof::format::item::Item;
use asof::format::keyfile::{KeyFile, Secrets};
use asof::format::names;
use asof::format::node::{
    Child, Entry, FileKind, Leaf, LinkGroup, LinkId, Node, Owner, Statement, Subtree, Xattr,
};
use asof::format::pack::{self, Directory, Frame, PackFact};
use asof::format::record::{Body, Header, Record};
use asof::format::segment::{Change, Gap, PAGES, Segment, StreamPoint};
use asof::format::writerfile::WriterFile;
use asof::repo::packer::{
    BuiltPack, FrameChunk, PackBuilder, PackedFrame, open_frame, open_pack, verify_chunks,
};
use proptest::prelude::*;

/// Counts the bytes that this thread has and the most that it ever had.
struct Counting;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn count(grown: usize, shrunk: usize) {
    // While a thread ends its counters may be gone already.
    let _ = NOW.try_with(|now| {
        now.set(now.get().saturating_add(grown).saturating_sub(shrunk));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

// SAFETY: every call is passed on unchanged to the system's allocator.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// An entry takes some 450 bytes of memory and at least 14 in a node; nothing grows more.
const GROWTH_MAX: usize = 64;
const ALWAYS_MAX: usize = 64 << 10;

/// A decoder and what it decodes.
type Decoder = (&'static str, fn(&[u8]));

/// Puts bytes into every decoder and watches the memory that they take.
fn decode_all(bytes: &[u8]) {
    let decoders: [Decoder; 26] = [
        ("asof.json", |b| drop(Config::decode(b))),
        ("key file", |b| drop(KeyFile::parse(b))),
        ("key file by name", |b| drop(KeyFile::decode(KeyId(sha256(b)), b))),
        ("writer file", |b| drop(WriterFile::decode(b))),
        ("certificate", |b| drop(Certificate::verify(b, owner().id(), HERE, writer().id()))),
        ("pack header", |b| drop(pack::Header::decode(b))),
        ("pack footer", |b| drop(pack::decode_footer(b))),
        ("directory", |b| drop(Directory::decode(b))),
        ("frames", |b| drop(Directory::decode_frames(b))),
        ("pack fact", |b| drop(PackFact::decode(b))),
        ("item", |b| drop(Item::decode("fact", b))),
        ("node", |b| {
            if let Ok((refs, node)) = Node::decode(b) {
                if let Node::Statement(statement) = &node {
                    drop(statement.verify(HERE));
                }
                // What decodes can be encoded, and is then the same.
                assert_eq!(Node::decode(&node.encode(&refs)), Ok((refs, node)));
            }
        }),
        ("fact", |b| {
            if let Ok((_, Fact::Segment(segment))) = Fact::decode(b) {
                // Whatever it says, it can be gone through.
                let last = segment.states().last().map(|state| state.position);
                assert_eq!(last.unwrap_or(segment.after), segment.last().0);
                let numbers = segment.changes.iter().flat_map(Change::numbers);
                assert_eq!(numbers.count(), segment.pages());
            }
            if let Ok((refs, fact)) = Fact::decode(b)
                && !matches!(fact, Fact::Unknown(_))
            {
                assert_eq!(Fact::decode(&fact.encode(&refs)), Ok((refs, fact)));
            }
        }),
        ("record", |b| drop(Record::decode(RecordId(sha256(b)), b, HERE))),
        ("body", |b| drop(Body::decode(b))),
        ("beginning of a body", |b| drop(Body::certificate_of(b))),
        ("envelope", |b| {
            if let Ok(envelope) = minicbor::decode::<Envelope>(b) {
                assert!(envelope.open(&SecretKey::from_bytes([3; 32]), b"", b"").is_err());
            }
        }),
        ("raw frame", |b| drop(unpack(Codec::Raw, b, 1000))),
        ("zstd frame", |b| drop(unpack(Codec::Zstd, b, 1000))),
        ("beginning of what is raw", |b| drop(unpack_prefix(Codec::Raw, b, 1000))),
        ("beginning of what is packed", |b| drop(unpack_prefix(Codec::Zstd, b, 1000))),
        ("pack by its envelope", |b| {
            let reader = SecretKey::from_bytes([3; 32]);
            drop(open_pack(PackId(sha256(b)), b, HERE, Some(&reader), None));
        }),
        ("pack by a key", |b| {
            let key = SealKey::from_bytes([6; 32]);
            drop(open_pack(PackId(sha256(b)), b, HERE, None, Some(&key)));
        }),
        // What the cache on disk keeps is this as well.
        ("sealed frame", |b| {
            let sealer = SealKey::from_bytes([6; 32]).sealer();
            for codec in [Codec::Raw, Codec::Zstd] {
                let frame = Frame { codec, plain_len: 1000, ..directory().frames[0] };
                let id = PackId([5; 32]);
                assert!(open_frame(id, ChunkKind::Data, Some(&sealer), 0, &frame, b).is_err());
                drop(open_frame(id, ChunkKind::Data, None, 0, &frame, b));
            }
        }),
        ("time", |b| {
            if let Ok(at) = minicbor::decode::<UnixTime>(b) {
                let second = std::time::Duration::from_millis(1500);
                drop((at.plus(second), at.minus(second), at.to_string(), at.as_millis()));
            }
        }),
        ("names", |b| {
            let text = String::from_utf8_lossy(b);
            let _ = (names::parse_pack(&text), names::parse_key(&text));
            let _ = names::parse_record(&text);
        }),
    ];
    for (what, decode) in decoders {
        let before = NOW.get();
        PEAK.set(before);
        decode(bytes);
        let peak = PEAK.get().saturating_sub(before);
        let allowed = ALWAYS_MAX + GROWTH_MAX * bytes.len();
        assert!(peak <= allowed, "{what}: {} bytes took {peak} bytes of memory", bytes.len());
    }
}

const HERE: RepositoryId = RepositoryId([1; 32]);

fn owner() -> SigningKey {
    SigningKey::from_seed([1; 32])
}

fn writer() -> SigningKey {
    SigningKey::from_seed([2; 32])
}

fn entry(name: &str, kind: FileKind, content: Option<Content>, size: u64) -> Entry {
    Entry {
        name: name.as_bytes().to_vec().into(),
        kind,
        mode: 0o644,
        owner: 0,
        mtime: UnixTime::new(-1, 5),
        ctime: UnixTime::new(1 << 33, 0),
        btime: Some(UnixTime::EPOCH),
        size,
        link: Some(LinkId { device: 0, inode: 7 }),
        target: (kind == FileKind::Symlink).then(|| b"to".to_vec().into()),
        device: (kind == FileKind::BlockDevice).then_some((8, 1)),
        xattrs: vec![Xattr { name: b"user.a".to_vec().into(), value: vec![1].into() }],
        sha256: Some(vec![1; 32].into()),
        content,
        subtree: (kind == FileKind::Dir).then_some(Subtree {
            node: 0,
            entries: 3,
            bytes: 4,
            subdirs: 1,
        }),
        marks: 1,
        holes: 0,
    }
}

fn directory() -> Directory {
    let frame =
        |offset, start| Frame { offset, sealed_len: 10, start, plain_len: 10, codec: Codec::Zstd };
    Directory {
        frames: vec![frame(48, 0), frame(58, 10)],
        chunks: vec![(ChunkId([1; 32]), 15), (ChunkId([2; 32]), 5)],
    }
}

/// A pack of two frames, sealed or not.
fn pack(recipient: Option<PublicKey>) -> BuiltPack {
    let mut builder = PackBuilder::new(ChunkKind::Node, HERE, recipient.as_ref(), 0).unwrap();
    for n in 0..2 {
        let (codec, packed) = Compressor::new(3).pack(&[n; 1000]);
        let id = ids().chunk_id(ChunkKind::Node, &sha256(&[n; 1000]));
        let chunks = vec![FrameChunk::new(id, &[n; 1000])];
        builder.add(PackedFrame { codec, packed, plain_len: 1000, chunks });
    }
    builder.finish()
}

fn ids() -> IdKey {
    IdKey::secret(&[4; 32])
}

/// One of everything, well formed.
fn good() -> Vec<Vec<u8>> {
    let refs = [ChunkId([1; 32]), ChunkId([2; 32])];
    let at = UnixTime::new(1_795_212_000, 0);
    let key = SecretKey::from_bytes([3; 32]);
    let config = Config::new(owner().id(), Some(key.public()), Parameters::default(), at);
    let certificate = Certificate {
        repository: config.repository,
        writer: writer().id(),
        label: "w".into(),
        sources: Some(vec!["web".into()]),
        trusted: true,
        issued: at,
        expires: Some(at),
    };
    let writer_file = WriterFile {
        config_bytes: config.issue(&owner()),
        certificate_bytes: certificate.issue(&owner()),
        config: config.clone(),
        key: writer(),
        certificate: certificate.clone(),
        id_key: Some([4; 32]),
    };
    let secrets =
        Secrets { owner: Some(owner()), reader: Some(key.clone()), id_key: Some([4; 32]) };
    let key_file = KeyFile::wrap(&secrets, config.repository, "l", b"p", Cost::LEAST, at).unwrap();
    let public = key.public();
    let envelope = Envelope::seal(&SealKey::random(), &public, b"i", b"a").unwrap();
    let pack_fact = PackFact {
        id: PackId([5; 32]),
        kind: ChunkKind::Data,
        size: 1000,
        key: Some([6; 32]),
        directory: directory(),
    };
    let extents = vec![Extent { length: 5, chunk: Some(1) }, Extent { length: 9, chunk: None }];
    let group = LinkGroup { id: LinkId { device: 0, inode: 7 }, first: 1, count: 2 };
    let root = entry("", FileKind::Dir, None, 0);
    let snapshot = Snapshot {
        roots: vec![b"/".to_vec().into()],
        host: "h".into(),
        user: "u".into(),
        tags: vec!["t".into()],
        parent: Some(SnapshotId([2; 16])),
        links: Links::Inline(vec![group]),
        expires: Some(at),
        ..Snapshot::new(SnapshotId([1; 16]), "web", root, Owner::default(), at)
    };
    let gap = Gap { since: at, stream: StreamId([1; 16]), position: 9, reason: "r".into() };
    let point = StreamPoint { stream: StreamId([2; 16]), position: 7, gap: Some(gap) };
    let change = |step, pages: &[u32]| Change { step, delay: 5, size: 9, pages: pages.to_vec() };
    let segment = Segment {
        id: SnapshotId([3; 16]),
        source: "shop".into(),
        stream: StreamId([2; 16]),
        kind: PAGES.into(),
        after: 7,
        begins: at,
        within: 1,
        changes: vec![change(1, &[1, 1]), change(300, &[9])],
        page_bytes: 4096,
        chunk_pages: 2,
    };
    let facts = [
        Fact::Pack(Box::new(pack_fact.clone())),
        Fact::Snapshot(Box::new(Snapshot {
            links: Links::Nodes(vec![(group.id, 1)]),
            ..snapshot.clone()
        })),
        Fact::Snapshot(Box::new(Snapshot { point: Some(point), ..snapshot.clone() })),
        Fact::Snapshot(Box::new(snapshot)),
        Fact::Segment(Box::new(segment)),
        Fact::Pin(Pin::Chain(ChainId([1; 16]), 3)),
        Fact::Pin(Pin::Snapshot(SnapshotId([1; 16]))),
        Fact::Forget(Forget { snapshots: vec![SnapshotId([1; 16])], reason: Some("r".into()) }),
        Fact::Condemn(Packs { packs: vec![PackId([1; 32])] }),
        Fact::Deleted(Packs { packs: vec![PackId([1; 32])] }),
        Fact::Checkpoint(Checkpoint {
            complete_after: at,
            records: vec![RecordId([1; 32])],
            places: vec![(ChunkId([1; 32]), 1)],
        }),
        Fact::Revoke(Revoke { writer: writer().id(), from: at }),
        Fact::Grace(Grace { seconds: 1 }),
    ];
    let nodes = [
        Node::Leaf(Leaf {
            owners: vec![Owner { user: Some("u".into()), ..Owner::default() }],
            entries: vec![
                entry("a", FileKind::File, Some(Content::Inline(vec![1, 2].into())), 2),
                entry("b", FileKind::File, Some(Content::Extents(extents.clone())), 14),
                entry("c", FileKind::File, Some(Content::Tree(1)), 1 << 40),
                entry("d", FileKind::Dir, None, 0),
                entry("e", FileKind::Symlink, None, 2),
                entry("f", FileKind::BlockDevice, None, 0),
            ],
        }),
        Node::Inner(vec![Child {
            first: b"a".to_vec().into(),
            node: 1,
            direct: 1,
            entries: 2,
            bytes: 3,
        }]),
        Node::Extents(extents),
        Node::ExtentTree(vec![ExtentChild { length: 5, node: 0 }]),
        Node::Links(vec![group]),
        Node::Statement(Statement::issue(&writer(), HERE, Some(vec![1]), b"fact")),
        Node::Merged(MergedRun {
            of: ChainId([2; 16]),
            records: vec![Merged {
                writer: WriterId([1; 32]),
                record: RecordId([2; 32]),
                receipt: at,
                certificate: Some(vec![1].into()),
                chain: ChainId([1; 16]),
                number: 1,
                late: true,
                previous: Some(RecordId([3; 32])),
                facts: vec![(0, vec![1].into())],
                part: Some((0, 2)),
            }],
        }),
        Node::Places(Places::new(ChainId([2; 16]), &[(ChunkId([1; 32]), (PackId([2; 32]), 3, 4))])),
    ];
    let body = Body {
        claimed: at,
        certificate: Some(certificate.issue(&owner()).into()),
        facts: facts.iter().map(|fact| fact.encode(&refs).into()).collect(),
        deadline: None,
    };
    let header = Header {
        repository: HERE,
        writer: writer().id(),
        chain: ChainId([1; 16]),
        number: 1,
        previous: Some(RecordId([1; 32])),
        body_len: body.encode().len() as u64,
    };
    let record = Record {
        header_bytes: header.encode(),
        header,
        envelope: minicbor::to_vec(&envelope).unwrap(),
        body: body.encode(),
    };
    let mut all = vec![
        config.issue(&owner()),
        key_file.encode(),
        writer_file.encode(),
        certificate.issue(&owner()),
        pack::Header { kind: ChunkKind::Node, random: [9; 32], envelope_len: 9 }.encode().to_vec(),
        pack::encode_footer(9).to_vec(),
        directory().encode(),
        directory().encode_frames(),
        pack_fact.encode(),
        body.encode(),
        record.issue(&writer()),
        minicbor::to_vec(&envelope).unwrap(),
        minicbor::to_vec(at).unwrap(),
        Compressor::new(3).pack(&[0; 1000]).1,
        names::pack(PackId([5; 32])).into_bytes(),
        pack(None).bytes.to_vec(),
        pack(Some(key.public())).bytes.to_vec(),
    ];
    all.extend(facts.iter().map(|fact| fact.encode(&refs)));
    all.extend(nodes.iter().map(|node| node.encode(&refs)));
    all
}

/// A byte of CBOR that claims something, before bytes that make it enormous.
fn claims() -> impl Strategy<Value = Vec<u8>> {
    let head = prop::sample::select(vec![0x5b_u8, 0x7b, 0x9b, 0xbb, 0x9f, 0xbf, 0x5f, 0xdb, 0x1b]);
    (head, any::<u64>()).prop_map(|(head, n)| [&[head][..], &n.to_be_bytes()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_refused_or_understood(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        decode_all(&bytes);
    }

    #[test]
    fn changed_bytes_are_refused_or_understood(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        claim in prop::option::of((any::<prop::sample::Index>(), claims())),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = GOOD.with(|good| which.get(good).clone());
        for (place, value) in changes {
            *place.get_mut(&mut bytes) = value;
        }
        if let Some((place, claim)) = claim {
            let at = place.index(bytes.len());
            let end = bytes.len().min(at + 1);
            bytes.splice(at..end, claim);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        decode_all(&bytes);
    }
}

thread_local! {
    static GOOD: Vec<Vec<u8>> = good();
}

#[test]
fn what_was_not_changed_decodes() {
    good().iter().for_each(|bytes| decode_all(bytes));
}

/// The longest row of the smallest values that each decoder takes in: what a store's
/// bytes grow to in memory is bounded.
#[test]
fn rows_of_the_smallest_values_do_not_explode() {
    let rows = 100_000_u32;
    let row = |prefix: &[u8], one: &[u8]| {
        let head = [&[0x9a][..], &rows.to_be_bytes()].concat();
        [prefix, &head, &one.repeat(rows as usize)].concat()
    };
    let item = |kind: u8, body: Vec<u8>| [&[0xa3, 0, 0x40, 1, kind, 2][..], &body].concat();
    for bytes in [
        row(&[], &[0x84, 0x40, 0, 0x40, 0x40]),
        row(&[], &[0x80]),
        row(&[0xa2, 0, 0x82, 0, 0, 2], &[0x40]),
        item(1, row(&[0xa2, 1, 0x80, 0], &[0x82, 0, 0])),
        item(1, row(&[0xa2, 0, 0x80, 1], &[0xa0])),
        item(2, row(&[], &[0x80])),
        item(3, row(&[], &[0x81, 1])),
        item(4, row(&[], &[0x82, 1, 0])),
        item(5, row(&[], &[0x83, 0x82, 0, 0, 0, 0])),
        item(7, row(&[], &[0xa0])),
        row(&[0xa6, 0, 0, 1], &[0]),
        item(4, row(&[0xa1, 0], &[0x40])),
        item(11, row(&[0xa1, 7], &[0x84, 1, 1, 1, 0x80])),
        item(11, row(&[0xa1, 7], &[0x84, 1, 1, 1, 0x81, 1])),
        item(11, row(&[0xa1, 7, 0x81, 0x84, 1, 1, 1], &[1])),
    ] {
        decode_all(&bytes);
    }
}

fn peak_of(work: impl FnOnce()) -> usize {
    let before = NOW.get();
    PEAK.set(before);
    work();
    PEAK.get().saturating_sub(before)
}

/// What unpacks to more or less than is said takes no more memory than was said.
#[test]
fn false_lengths_take_no_more_memory_than_they_say() {
    let plain = vec![0; 64 << 20];
    let bomb = zstd::bulk::compress(&plain, 3).unwrap();
    assert!(bomb.len() < 10_000);
    for length in [0, 1, 1000, plain.len() - 1, plain.len(), plain.len() + 1] {
        let peak = peak_of(|| {
            assert_eq!(unpack(Codec::Zstd, &bomb, length).is_ok(), length == plain.len());
        });
        assert!(peak <= length + ALWAYS_MAX, "{length}: {peak}");
        let peak = peak_of(|| drop(unpack(Codec::Raw, &bomb, length)));
        assert!(peak <= bomb.len() + ALWAYS_MAX, "{length}: {peak}");
    }
    let peak = peak_of(|| assert_eq!(unpack_prefix(Codec::Zstd, &bomb, 1000).unwrap().len(), 1000));
    assert!(peak <= 1000 + 2 * ALWAYS_MAX, "{peak}");
}

/// A directory may claim frames of 64 MiB that have a few bytes: of such, one is in
/// memory at a time, and the first that is not what it says is the last.
#[test]
fn a_pack_that_claims_much_takes_a_frame_of_memory() {
    let good = pack(None);
    let mut fact = good.fact.clone();
    for (number, frame) in fact.directory.frames.iter_mut().enumerate() {
        frame.plain_len = pack::FRAME_BYTES_MAX as u32;
        frame.start = number as u64 * pack::FRAME_BYTES_MAX as u64;
    }
    for (_, length) in &mut fact.directory.chunks {
        *length = pack::chunk_bytes_max(good.fact.kind);
    }
    let peak = peak_of(|| {
        assert!(verify_chunks(&fact, &good.bytes, &ids(), |_| Ok(())).is_err());
    });
    assert!(peak <= pack::FRAME_BYTES_MAX + ALWAYS_MAX, "{peak}");
    // Whole, it is what it says.
    verify_chunks(&good.fact, &good.bytes, &ids(), |id| panic!("{id}")).unwrap();
}
