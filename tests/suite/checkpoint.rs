//! A checkpoint of the owner stands for the records that it merged.

use std::fs;
use std::sync::Arc;

use asof::base::{ChunkId, RecordId};
use asof::codec::compress::Compressor;
use asof::codec::hash::{ChunkKind, sha256};
use asof::format::fact::{Checkpoint, Fact};
use asof::format::names;
use asof::format::node::{Merged, Node};
use asof::repo::log::{Chain, EncodedFact};
use asof::repo::packer::{PackBuilder, PackedFrame};
use asof::store::{MemoryStore, Store};

use crate::fixture::{TestRepo, create, differences};

#[test]
fn a_machine_that_sees_only_the_checkpoint_restores_everything() {
    for encrypted in [true, false] {
        let memory = MemoryStore::new();
        let repo = create(Arc::new(memory.clone()), encrypted);
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), vec![3; 100_000]).unwrap();
        repo.backup("s", dir.path());
        let open = repo.open();
        let records: Vec<String> =
            memory.keys().into_iter().filter(|name| name.starts_with("log/")).collect();
        let record = names::parse_record(&records[0]).unwrap().1;
        // The merged facts: the pack facts and the snapshot, as that record had them.
        let facts = asof::repo::log::read_facts(&open, record, &records[0]).unwrap();
        let merged: Vec<Merged> = facts
            .into_iter()
            .map(|fact| Merged {
                writer: open.config().owner,
                record,
                receipt: asof::base::Clock::system().now(),
                certificate: None,
                fact: fact.into(),
            })
            .collect();
        assert!(merged.len() >= 3, "two packs and a snapshot");
        publish_checkpoint(&open, merged, record);
        for name in &records {
            memory.delete(name).unwrap();
        }
        let fresh = TestRepo::from_elsewhere(Arc::new(memory));
        assert_eq!(fresh.library().snapshots().unwrap().len(), 1);
        let out = tempfile::tempdir().unwrap();
        fresh.restore("s", out.path());
        assert_eq!(differences(dir.path(), out.path()), "");
    }
}

fn publish_checkpoint(repo: &asof::repo::Repository, merged: Vec<Merged>, record: RecordId) {
    let bytes = Node::Merged(merged).encode(&[]);
    let id: ChunkId = repo.keys().ids.chunk_id(ChunkKind::Node, &sha256(&bytes));
    let (codec, packed) = Compressor::new(3).pack(&bytes);
    let length = u32::try_from(bytes.len()).unwrap();
    let mut builder = PackBuilder::new(
        ChunkKind::Node,
        repo.config().repository,
        repo.keys().recipient.as_ref(),
        1 << 16,
    )
    .unwrap();
    builder.add(PackedFrame { codec, packed, plain_len: length, chunks: vec![(id, length)] });
    let pack = builder.finish();
    repo.store().put_new(&names::pack(pack.fact.id), pack.bytes).unwrap();
    let checkpoint = Fact::Checkpoint(Checkpoint { heads: Vec::new(), records: vec![record] });
    let facts = vec![
        EncodedFact::of(&Fact::Pack(Box::new(pack.fact))),
        EncodedFact { bytes: checkpoint.encode(&[id]) },
    ];
    Chain::default().publish(repo, facts).unwrap();
}
