//! Collection: space comes back, and nothing that anybody needs goes.

mod freeing;
mod keeping;

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use asof::base::{Kind, PackId, Progress, SnapshotId, Stop, UnixTime};
use asof::codec::hash::{ChunkKind, sha256};
use asof::format::config::Parameters;
use asof::format::fact::Fact;
use asof::format::node::Node;
use asof::format::pack::{Directory, PackFact};
use asof::ops::backup::{BackupOptions, backup};
use asof::ops::check::{CheckOptions, check};
use asof::ops::gc::{GcOptions, gc, set_grace};
use asof::repo::checkpoint::{CompactOptions, verify};
use asof::repo::keys::Credential;
use asof::repo::log::{Chain, EncodedFact};
use asof::repo::packer::{each_chunk, open_pack};
use asof::repo::reader::ReaderOptions;
use asof::repo::writer::WriterOptions;
use asof::repo::{Library, LocalOptions, Rules, Shelf, keyring};
use asof::store::fault::{Action, Fault, Moment};
use asof::store::{self, Call, FaultStore, MemoryStore, Store};

use crate::fixture::{FAR, TestRepo, backup_into, names_in, owner_key};
use crate::manifest::of_snapshot;
use crate::world::{GRACE, World, collect, collect_by, noise, tree};

/// A snapshot that is forgotten, and one that stays and shares a file with it; the tree of
/// what stays.
fn half_forgotten(encrypted: bool) -> (World, tempfile::TempDir) {
    let world = World::new(encrypted);
    let (gone, kept) = (tree(&[("a", 1), ("b", 2)]), tree(&[("b", 2), ("c", 3)]));
    let first = world.repo.backup("gone", gone.path());
    world.repo.backup("kept", kept.path());
    world.forget(first.snapshot.unwrap());
    (world, kept)
}

/// Every pack in the store, as it tells of itself, and its bytes.
fn opened(world: &World) -> Vec<(PackFact, bytes::Bytes)> {
    let open = world.repo.open();
    let pack = |name: String| {
        let bytes = world.store.get(&name, u64::MAX).unwrap();
        let id = PackId(sha256(&bytes));
        let reader = open.keys().reader.as_ref();
        (open_pack(id, &bytes, open.config().repository, reader, None).unwrap(), bytes)
    };
    names_in(&world.store, "packs/").into_iter().map(pack).collect()
}

/// The snapshots of which there is a statement.
fn statements(world: &World) -> BTreeSet<SnapshotId> {
    let open = world.repo.open();
    let mut found = BTreeSet::new();
    for (fact, bytes) in opened(world) {
        each_chunk(&fact, &bytes, &open.keys().ids, |_, _, plain| {
            if fact.kind == ChunkKind::Node
                && let Ok((_, Node::Statement(statement))) = Node::decode(plain.unwrap())
                && let Ok((_, Fact::Snapshot(snapshot))) = Fact::decode(&statement.fact)
            {
                found.insert(snapshot.id);
            }
            Ok(())
        })
        .unwrap();
    }
    found
}
