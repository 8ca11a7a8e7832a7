use std::collections::HashMap;

use super::*;
use crate::base::UnixTime;
use crate::codec::hash::{ChunkKind, IdKey, sha256};

/// Keeps nodes in memory.
#[derive(Default)]
struct Memory {
    nodes: HashMap<ChunkId, Vec<u8>>,
    stored: usize,
}

impl NodeSink for Memory {
    fn node(&mut self, bytes: Vec<u8>) -> Result<ChunkId> {
        let id = IdKey::secret(&[1; 32]).chunk_id(ChunkKind::Node, &sha256(&bytes));
        self.stored += usize::from(self.nodes.insert(id, bytes).is_none());
        Ok(id)
    }
}

impl Memory {
    fn get(&self, id: &ChunkId) -> (Vec<ChunkId>, Node) {
        Node::decode(&self.nodes[id]).unwrap()
    }

    fn names(&self, id: &ChunkId) -> Vec<Vec<u8>> {
        match self.get(id) {
            (_, Node::Leaf(leaf)) => leaf.entries.iter().map(|e| e.name.to_vec()).collect(),
            (refs, Node::Inner(children)) => {
                children.iter().flat_map(|c| self.names(&refs[c.node as usize])).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn extents(&self, id: &ChunkId) -> Vec<(u64, Option<ChunkId>)> {
        match self.get(id) {
            (refs, Node::Extents(list)) => {
                list.iter().map(|e| (e.length, e.chunk.map(|c| refs[c as usize]))).collect()
            }
            (refs, Node::ExtentTree(children)) => {
                children.iter().flat_map(|c| self.extents(&refs[c.node as usize])).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

fn split() -> SplitKey {
    SplitKey::new(&IdKey::secret(&[1; 32]))
}

fn file(name: String, chunk: u8) -> Draft {
    let extents = vec![Extent { length: 7, chunk: Some(0) }];
    let entry = Entry {
        size: 7,
        content: Some(Content::Extents(extents)),
        ..Entry::new(name.as_bytes(), FileKind::File, 0o644, UnixTime::EPOCH)
    };
    Draft { entry, refs: vec![ChunkId([chunk; 32])], owner: Owner::default() }
}

fn build(names: impl Iterator<Item = String>, memory: &mut Memory) -> StoredDir {
    let mut builder = DirBuilder::new(split());
    for name in names {
        builder.add(file(name, 9), 0, memory).unwrap();
    }
    builder.finish(memory).unwrap()
}

#[test]
fn a_hundred_thousand_entries_come_back_in_order_and_counted() {
    let mut memory = Memory::default();
    let names = || (0..100_000).map(|n| format!("{n:06}"));
    let stored = build(names(), &mut memory);
    assert_eq!((stored.subtree.entries, stored.subtree.bytes), (100_000, 700_000));
    let found = memory.names(&stored.node);
    assert!(
        found.iter().map(Vec::as_slice).eq(names()
            .map(String::into_bytes)
            .collect::<Vec<_>>()
            .iter()
            .map(Vec::as_slice))
    );
    let (_, Node::Inner(children)) = memory.get(&stored.node) else { panic!("it is not split") };
    assert_eq!(children.iter().map(|c| c.entries).sum::<u64>(), 100_000);
}

#[test]
fn a_change_in_a_long_directory_costs_a_few_nodes() {
    let mut memory = Memory::default();
    build((0..50_000).map(|n| format!("{n:06}")), &mut memory);
    let before = memory.stored;
    assert!(before > 50, "{before}");
    let names = (0..50_000).map(|n| format!("{n:06}")).filter(|n| n != "025000");
    build(names, &mut memory);
    let removed = memory.stored - before;
    assert!(removed <= 6, "{removed} nodes are new");
    let names = (0..50_000).flat_map(|n| {
        let added = (n == 12_345).then(|| format!("{n:06}x"));
        [Some(format!("{n:06}")), added].into_iter().flatten()
    });
    build(names, &mut memory);
    let added = memory.stored - before - removed;
    assert!(added <= 6, "{added} nodes are new");
}

#[test]
fn an_empty_directory_is_one_node() {
    let mut memory = Memory::default();
    let stored = build(std::iter::empty(), &mut memory);
    assert_eq!(stored.subtree, Subtree::default());
    assert!(memory.names(&stored.node).is_empty());
}

#[test]
fn a_draft_survives_its_node() {
    let mut memory = Memory::default();
    let mut builder = DirBuilder::new(split());
    let drafts: Vec<Draft> = (0..5)
        .map(|n| Draft {
            owner: Owner { uid: u32::from(n % 2), ..Owner::default() },
            ..file(format!("{n}"), n)
        })
        .collect();
    for draft in &drafts {
        builder.add(draft.clone(), 0, &mut memory).unwrap();
    }
    let stored = builder.finish(&mut memory).unwrap();
    let (refs, Node::Leaf(leaf)) = memory.get(&stored.node) else { panic!() };
    let back: Vec<Draft> =
        leaf.entries.iter().map(|entry| draft_of(entry, &refs, &leaf.owners)).collect();
    assert_eq!(back, drafts);
}

#[test]
fn a_change_inside_a_long_file_costs_a_few_nodes() {
    let id = |n: u64| ChunkId(sha256(&n.to_be_bytes()));
    let mut extents: Vec<(u64, Option<ChunkId>)> =
        (0..200_000).map(|n| (1000 + n % 7, (n % 50 != 0).then(|| id(n)))).collect();
    let mut memory = Memory::default();
    let (content, refs) = store_extents(&extents, &mut memory).unwrap();
    assert_eq!(content, Some(Content::Tree(0)));
    assert_eq!(memory.extents(&refs[0]), extents);
    let before = memory.stored;
    extents.insert(77_777, (5, Some(id(1 << 40))));
    let (_, refs) = store_extents(&extents, &mut memory).unwrap();
    assert_eq!(memory.extents(&refs[0]), extents);
    assert!(memory.stored - before <= 6, "{} of {before} nodes are new", memory.stored - before);
}

#[test]
fn a_long_table_of_links_goes_into_nodes() {
    let mut memory = Memory::default();
    let group = |n: u64| LinkGroup {
        id: crate::format::node::LinkId { device: 0, inode: n },
        first: n,
        count: 2,
    };
    let mut refs = vec![ChunkId([1; 32])];
    let links =
        store_links((0..20_000).rev().map(group).collect(), &mut refs, &mut memory).unwrap();
    let Links::Nodes(nodes) = links else { panic!() };
    let mut all = Vec::new();
    for (first, place) in nodes {
        let (_, Node::Links(groups)) = memory.get(&refs[place as usize]) else { panic!() };
        assert_eq!(groups[0].id, first);
        all.extend(groups);
    }
    assert_eq!(all, (0..20_000).map(group).collect::<Vec<_>>());
}

/// What a node cannot hold could be written and not be read back: it is refused, and
/// what fits is stored however long it is.
#[test]
fn an_entry_that_no_node_can_hold_is_refused_and_the_rest_stands() {
    let with = |name: &str, bytes: usize, each: usize| {
        let extents = vec![Extent { length: u64::from(u32::MAX), chunk: Some(0) }; LIST_MAX];
        let mut draft = file(name.into(), 1);
        draft.entry.size = u64::from(u32::MAX) * LIST_MAX as u64;
        draft.entry.content = Some(Content::Extents(extents));
        draft.entry.xattrs = (0..bytes / each)
            .map(|n| crate::format::node::Xattr {
                name: format!("user.{n:07}").into_bytes().into(),
                value: vec![7; each - 12 - 16].into(),
            })
            .collect();
        draft
    };
    let most = NODE_BYTES_MAX - ENTRY_BESIDES_MAX;
    for each in [29, 1 << 16] {
        let mut sink = Memory::default();
        let mut builder = DirBuilder::new(split());
        builder.add(file("a".into(), 1), 0, &mut sink).unwrap();
        let error = builder.add(with("b", most + each, each), 0, &mut sink).unwrap_err();
        assert!(error.to_string().contains("the entry of b"), "{error}");
        builder.add(with("c", most, each), 0, &mut sink).unwrap();
        builder.add(file("d".into(), 1), 0, &mut sink).unwrap();
        let stored = builder.finish(&mut sink).unwrap();
        assert_eq!(sink.names(&stored.node), [b"a", b"c", b"d"]);
    }
}
