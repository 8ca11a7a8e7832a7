//! A snapshot's table of files with several names, compared with its tree.
//!
//! Ranks are of one snapshot, so this is done for each, but only where there are such
//! files: a directory that has none below it is passed over.

use std::collections::BTreeSet;

use super::Check;
use crate::base::ChunkId;
use crate::format::fact::Links;
use crate::format::node::{LinkGroup, Node};
use crate::ops::Result;
use crate::repo::SnapshotInfo;

impl Check<'_> {
    /// What is wrong with the table of links, if anything. The tree was gone through
    /// and has no damage. Damage of the table itself is added to `damage`.
    pub(super) fn links(
        &self,
        info: &SnapshotInfo,
        root: ChunkId,
        damage: &mut BTreeSet<i64>,
    ) -> Result<Option<&'static str>> {
        let (mut groups, mut agreed, mut is_table) = (0, true, true);
        self.names_of_links(root)?;
        let mut compare = |group: &LinkGroup| -> Result<()> {
            groups += 1;
            let found = self.survey.link(group.id.device, group.id.inode)?;
            agreed &= group.count > 1 && found == Some((group.first, group.count));
            Ok(())
        };
        match &info.snapshot.links {
            Links::Inline(all) => all.iter().try_for_each(&mut compare)?,
            Links::Nodes(nodes) => {
                for (_, place) in nodes {
                    let Some(id) = info.refs.get(*place as usize) else { continue };
                    match self.load(id)? {
                        Ok(node) => match &node.node {
                            Node::Links(all) => all.iter().try_for_each(&mut compare)?,
                            _ => is_table = false,
                        },
                        Err(objects) => damage.extend(objects),
                    }
                }
            }
        }
        let several = self.survey.end_links()?;
        let wrong = damage.is_empty() && !(is_table && agreed && several == groups);
        Ok(wrong.then_some("its table of files with several names is not what its tree has"))
    }

    /// Notes every entry that is one of several names, with its rank.
    fn names_of_links(&self, root: ChunkId) -> Result<()> {
        // Nodes, with the rank of the first entry in each.
        let mut waiting = vec![(root, 1)];
        while let Some((id, first)) = waiting.pop() {
            self.go_on()?;
            if !self.survey.node(&id)?.is_some_and(|sums| sums.links) {
                continue;
            }
            let Ok(node) = self.load(&id)? else { continue };
            let mut rank: u64 = first;
            match &node.node {
                Node::Leaf(leaf) => {
                    for entry in &leaf.entries {
                        if let Some(link) = entry.link {
                            self.survey.add_link(link.device, link.inode, rank)?;
                        }
                        let dir = entry.subtree.and_then(|t| node.refs.get(t.node as usize));
                        waiting.extend(dir.map(|dir| (*dir, rank + 1)));
                        rank = rank.saturating_add(entry.ranks());
                    }
                }
                Node::Inner(parts) => {
                    for part in parts {
                        let below = node.refs.get(part.node as usize);
                        waiting.extend(below.map(|below| (*below, rank)));
                        rank = rank.saturating_add(part.entries);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
