//! The trees of all snapshots: each node once, however many snapshots have it.
//!
//! A node is finished when all below it are. Then what it says of them is compared with
//! what they added up to, and what it adds up to itself is noted, with the damage below
//! it. So a snapshot that has a subtree which was gone through before costs nothing for
//! it, and whether damage concerns a snapshot is known at its root.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Check;
use crate::base::{ChunkId, Progress};
use crate::codec::hash::{ChunkKind, Hasher};
use crate::format::extents::{Content, Extent, ExtentChild};
use crate::format::node::{Child, DEPTH_MAX, Entry, FileKind, Leaf, Node};
use crate::index::NodeSums;
use crate::ops::Result;
use crate::repo::browse::Found;
use crate::repo::{LoadedNode, SnapshotInfo};

/// So much of the nodes on the way is held; the others are read again. Bytes.
const HELD_MAX: usize = 32 << 20;
/// How many nodes are fetched at once.
const WARM: usize = 256;

enum Task {
    /// Go through a node; whether it should be a part of a file.
    Enter(ChunkId, bool),
    /// All below it was gone through.
    Leave(ChunkId, Option<Arc<LoadedNode>>),
}

/// What is found out about a node when it is finished.
#[derive(Default)]
struct Finding {
    sums: NodeSums,
    damage: BTreeSet<i64>,
    wrong: Option<&'static str>,
}

impl Finding {
    /// Notes a contradiction, of which the first is told.
    fn expect(&mut self, holds: bool, otherwise: &'static str) {
        if !holds {
            self.wrong = self.wrong.or(Some(otherwise));
        }
    }
}

impl Check<'_> {
    /// Goes through the trees of all snapshots.
    pub(super) fn trees(&self, infos: &[Arc<SnapshotInfo>]) -> Result<()> {
        self.progress.enter("checking trees");
        for info in infos.iter().rev() {
            let snapshot = &info.snapshot;
            self.progress.at(format!("{} of {}", snapshot.source, info.shown_from()));
            let mut damage = BTreeSet::new();
            let mut wrong = None;
            match Found::root(info).dir() {
                None => wrong = Some("its root names no node"),
                Some(root) => {
                    self.visit(root)?;
                    damage.extend(self.survey.below(&root)?);
                    let sums = self.survey.node(&root)?.unwrap_or_default();
                    let subtree = snapshot.root.subtree.unwrap_or_default();
                    let counts = (subtree.entries, subtree.bytes, subtree.subdirs);
                    if sums.known && (sums.entries, sums.bytes, sums.subdirs) != counts {
                        wrong = Some("its root has other counts than there are");
                    } else if damage.is_empty() {
                        wrong = self.links(info, root, &mut damage)?;
                    }
                }
            }
            if let Some(why) = wrong {
                let name = format!("snapshot {} of {}", snapshot.id, snapshot.source);
                damage.insert(self.damaged(name, why)?);
            }
            for object in damage {
                self.survey.concern(object, &snapshot.id)?;
            }
            Progress::add(&self.progress.files, 1);
        }
        self.progress.at("");
        Ok(())
    }

    /// Goes through what is below a directory's root node and was not gone through.
    fn visit(&self, root: ChunkId) -> Result<()> {
        let mut tasks = vec![Task::Enter(root, false)];
        let mut held = 0;
        while let Some(task) = tasks.pop() {
            self.go_on()?;
            let (id, node) = match task {
                Task::Enter(id, file) => {
                    if self.survey.node(&id)?.is_some() {
                        continue;
                    }
                    let node = match self.load(&id)? {
                        Ok(node) => node,
                        Err(damage) => {
                            let unknown = NodeSums { file, ..NodeSums::default() };
                            self.survey.set_node(&id, &unknown, damage)?;
                            continue;
                        }
                    };
                    let mut below = Vec::new();
                    for (child, file) in children(&node) {
                        if self.survey.node(&child)?.is_none() {
                            below.push((child, file));
                        }
                    }
                    if !below.is_empty() {
                        let ids: Vec<ChunkId> =
                            below.iter().take(WARM).map(|(child, _)| *child).collect();
                        // What fails is met again when it is its turn.
                        let _ = self.reader.warm(&ids);
                        let kept = (held < HELD_MAX).then(|| Arc::clone(&node));
                        held += kept.as_ref().map_or(0, |node| node.weight);
                        tasks.push(Task::Leave(id, kept));
                        let enter = |(child, file)| Task::Enter(child, file);
                        tasks.extend(below.into_iter().rev().map(enter));
                        continue;
                    }
                    (id, node)
                }
                Task::Leave(id, Some(node)) => {
                    held -= node.weight;
                    (id, node)
                }
                Task::Leave(id, None) => match self.load(&id)? {
                    Ok(node) => (id, node),
                    Err(damage) => {
                        self.survey.set_node(&id, &NodeSums::default(), damage)?;
                        continue;
                    }
                },
            };
            self.finish_node(&id, &node)?;
        }
        Ok(())
    }

    /// Compares a node with what is below it, and notes what it adds up to.
    fn finish_node(&self, id: &ChunkId, node: &LoadedNode) -> Result<()> {
        let mut found = Finding::default();
        (found.sums.known, found.sums.height) = (true, 1);
        let refs = &node.refs;
        match &node.node {
            Node::Leaf(leaf) => self.leaf(leaf, refs, &mut found)?,
            Node::Inner(children) => self.inner(children, refs, &mut found)?,
            Node::Extents(extents) => {
                found.sums.file = true;
                found.sums.bytes = extents.iter().map(|extent| extent.length).sum();
                found.damage.extend(self.extents(extents, refs)?);
            }
            Node::ExtentTree(children) => self.extent_tree(children, refs, &mut found)?,
            _ => found.expect(false, "it is neither of a directory nor of a file"),
        }
        found.expect(found.sums.height <= DEPTH_MAX, "its nodes nest too deep");
        if let Some(why) = found.wrong {
            found.damage.insert(self.damaged(format!("the tree at chunk {id}"), why)?);
            found.sums.known = false;
        }
        Ok(self.survey.set_node(id, &found.sums, found.damage)?)
    }

    fn leaf(&self, leaf: &Leaf, refs: &[ChunkId], found: &mut Finding) -> Result<()> {
        for entry in &leaf.entries {
            found.sums.direct += 1;
            found.sums.entries = found.sums.entries.saturating_add(entry.ranks());
            found.sums.bytes = found.sums.bytes.saturating_add(entry.bytes());
            found.sums.subdirs += u64::from(entry.kind == FileKind::Dir);
            found.sums.links |= entry.link.is_some();
            found.damage.extend(self.entry_damage(entry, refs)?);
            if let Some(Content::Tree(place)) = &entry.content
                && let Some(child) = self.below_place(refs, *place, found)?
            {
                let holds = child.file && (!child.known || child.bytes == entry.size);
                found.expect(holds, "a file has another length than its extents");
            }
            if let Some(subtree) = &entry.subtree
                && let Some(child) = self.below_place(refs, subtree.node, found)?
            {
                found.sums.links |= child.links;
                let counts = (subtree.entries, subtree.bytes, subtree.subdirs);
                let holds = !child.known || (child.entries, child.bytes, child.subdirs) == counts;
                found.expect(!child.file && holds, "a directory has other counts than its entry");
            }
        }
        // Names are in order within a node.
        let name = |entry: Option<&Entry>| entry.map(|e| e.name.to_vec()).unwrap_or_default();
        found.sums.first = name(leaf.entries.first());
        found.sums.last = name(leaf.entries.last());
        Ok(())
    }

    fn inner(&self, parts: &[Child], refs: &[ChunkId], found: &mut Finding) -> Result<()> {
        found.sums.first = parts.first().map(|part| part.first.to_vec()).unwrap_or_default();
        for part in parts {
            found.sums.direct = found.sums.direct.saturating_add(part.direct);
            found.sums.entries = found.sums.entries.saturating_add(part.entries);
            found.sums.bytes = found.sums.bytes.saturating_add(part.bytes);
            let Some(child) = self.below_place(refs, part.node, found)? else { continue };
            found.expect(!child.file, "a part of a directory is a part of a file");
            found.sums.known &= child.known;
            found.sums.links |= child.links;
            found.sums.height = found.sums.height.max(child.height + 1);
            if !child.known {
                continue;
            }
            let counts = (part.direct, part.entries, part.bytes);
            let holds = (child.direct, child.entries, child.bytes) == counts;
            found.expect(holds, "a part of a directory has other counts than its parent says");
            let holds = child.first == part.first.as_slice();
            found.expect(holds, "a part of a directory begins with another name");
            let holds = found.sums.last.is_empty() || found.sums.last < child.first;
            found.expect(holds, "the names in it are not in order");
            found.sums.last = child.last;
            found.sums.subdirs = found.sums.subdirs.saturating_add(child.subdirs);
        }
        Ok(())
    }

    fn extent_tree(
        &self,
        parts: &[ExtentChild],
        refs: &[ChunkId],
        found: &mut Finding,
    ) -> Result<()> {
        found.sums.file = true;
        found.sums.bytes = parts.iter().map(|part| part.length).sum();
        for part in parts {
            let Some(child) = self.below_place(refs, part.node, found)? else { continue };
            let holds = child.file && (!child.known || child.bytes == part.length);
            found.expect(holds, "a part of a file has another length than its parent says");
            found.sums.height = found.sums.height.max(child.height + 1);
        }
        Ok(())
    }

    /// The node at a place, with the damage below it; decoding checked the place.
    fn below_place(
        &self,
        refs: &[ChunkId],
        place: u32,
        found: &mut Finding,
    ) -> Result<Option<NodeSums>> {
        let Some(id) = refs.get(place as usize) else { return Ok(None) };
        found.damage.extend(self.survey.below(id)?);
        Ok(self.survey.node(id)?)
    }

    /// What is to blame that extents cannot be read.
    fn extents(&self, extents: &[Extent], refs: &[ChunkId]) -> Result<BTreeSet<i64>> {
        let mut damage = BTreeSet::new();
        for extent in extents {
            let chunk = extent.chunk.and_then(|place| refs.get(place as usize));
            if let Some(id) = chunk {
                damage.extend(self.chunk(ChunkKind::Data, id, Some(extent.length))?);
            }
        }
        Ok(damage)
    }

    /// What is to blame that a file's content, or a directory below, cannot be read
    /// whole.
    fn entry_damage(&self, entry: &Entry, refs: &[ChunkId]) -> Result<BTreeSet<i64>> {
        let node = match (&entry.content, &entry.subtree) {
            (Some(Content::Extents(extents)), _) => return self.extents(extents, refs),
            (Some(Content::Tree(place)), _) => refs.get(*place as usize),
            (_, Some(subtree)) => refs.get(subtree.node as usize),
            _ => None,
        };
        match node {
            Some(id) => Ok(self.survey.below(id)?.into_iter().collect()),
            None => Ok(BTreeSet::new()),
        }
    }

    /// Names the files that damage concerns. Only what has damage below it is gone
    /// through again, and a directory that did not change is once a source.
    pub(super) fn name_files(&self, infos: &[Arc<SnapshotInfo>]) -> Result<()> {
        self.progress.enter("naming files");
        for info in infos.iter().rev() {
            let source = &info.snapshot.source;
            let top = format!("{source}:").into_bytes();
            let mut waiting: Vec<(Vec<u8>, ChunkId)> =
                Found::root(info).dir().map(|root| (top, root)).into_iter().collect();
            while let Some((path, id)) = waiting.pop() {
                self.go_on()?;
                let damage = self.survey.below(&id)?;
                if damage.is_empty() || !self.survey.name_dir(&hash(&path, &id))? {
                    continue;
                }
                let sums = self.survey.node(&id)?.unwrap_or_default();
                let node = self.load(&id)?;
                if !sums.known || node.is_err() {
                    let dir = [path.as_slice(), b"/"].concat();
                    damage.iter().try_for_each(|object| self.survey.name_file(*object, &dir))?;
                }
                let Ok(node) = node else { continue };
                match &node.node {
                    Node::Leaf(leaf) => {
                        for entry in &leaf.entries {
                            let path = [path.as_slice(), b"/", &entry.name].concat();
                            if let Some(subtree) = &entry.subtree {
                                let dir = node.refs.get(subtree.node as usize);
                                waiting.extend(dir.map(|dir| (path, *dir)));
                                continue;
                            }
                            for object in self.entry_damage(entry, &node.refs)? {
                                self.survey.name_file(object, &path)?;
                            }
                        }
                    }
                    Node::Inner(parts) => {
                        let part = |part: &Child| node.refs.get(part.node as usize).copied();
                        let parts = parts.iter().filter_map(part);
                        waiting.extend(parts.map(|part| (path.clone(), part)));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// The nodes right below a node, and whether each should be a part of a file.
fn children(node: &LoadedNode) -> Vec<(ChunkId, bool)> {
    let places: Vec<(u32, bool)> = match &node.node {
        Node::Leaf(leaf) => {
            let place = |entry: &Entry| match (&entry.content, &entry.subtree) {
                (Some(Content::Tree(place)), _) => Some((*place, true)),
                (_, Some(subtree)) => Some((subtree.node, false)),
                _ => None,
            };
            leaf.entries.iter().filter_map(place).collect()
        }
        Node::Inner(parts) => parts.iter().map(|part| (part.node, false)).collect(),
        Node::ExtentTree(parts) => parts.iter().map(|part| (part.node, true)).collect(),
        _ => Vec::new(),
    };
    let id = |(place, file): (u32, bool)| Some((*node.refs.get(place as usize)?, file));
    places.into_iter().filter_map(id).collect()
}

fn hash(path: &[u8], node: &ChunkId) -> [u8; 32] {
    let mut hasher = Hasher::new();
    hasher.update(&node.0);
    hasher.update(path);
    hasher.finish()
}
