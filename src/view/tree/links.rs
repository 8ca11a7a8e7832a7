//! Which file an entry is: its number, and how many names it has.
//!
//! All names of a file have the number of the first. The snapshot's table says
//! which that is; it is compared with the entry it points to, since a wrong table
//! would make one file show the bytes of another.

use crate::format::fact::Links;
use crate::format::node::{LinkGroup, LinkId, Node};
use crate::view::error::{Reach, Result};

use super::{Found, Tree, contradicts};

/// What `stat` needs beyond the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The rank that stands for the file.
    pub rank: u64,
    /// How many names it has; of a directory, 2 and one for each in it.
    pub links: u64,
}

impl Tree {
    /// Which file an entry is.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](crate::view::error::Error::WouldBlock), or the library's.
    pub fn identity(&self, found: &Found, reach: Reach) -> Result<Identity> {
        let entry = found.entry();
        if let Some(subtree) = entry.subtree {
            let links = subtree.subdirs.saturating_add(2);
            return Ok(Identity { rank: found.rank, links });
        }
        let alone = Identity { rank: found.rank, links: 1 };
        let Some(id) = entry.link else { return Ok(alone) };
        let Some(group) = self.group(id, reach)? else { return Ok(alone) };
        let same = group.first == found.rank
            || (group.first > 0 && group.first < found.rank && {
                let first = self.entry(group.first, reach)?;
                first.is_some_and(|first| {
                    let first = first.entry();
                    (first.link, first.kind, first.size) == (entry.link, entry.kind, entry.size)
                })
            });
        if !same {
            return Err(self.contradiction("its table of links names another file"));
        }
        Ok(Identity { rank: group.first, links: group.count.max(1) })
    }

    fn group(&self, id: LinkId, reach: Reach) -> Result<Option<LinkGroup>> {
        let find = |groups: &[LinkGroup]| {
            groups.binary_search_by_key(&id, |g| g.id).ok().map(|at| groups[at])
        };
        let nodes = match &self.info.snapshot.links {
            Links::Inline(groups) => return Ok(find(groups)),
            Links::Nodes(nodes) => nodes,
        };
        let at = nodes.partition_point(|(first, _)| *first <= id);
        let Some((_, node)) = at.checked_sub(1).and_then(|at| nodes.get(at)) else {
            return Ok(None);
        };
        let chunk = self.info.refs.get(*node as usize);
        let chunk = chunk.ok_or_else(|| self.contradiction("its table of links names no node"))?;
        match &self.load(chunk, reach)?.node {
            Node::Links(groups) => Ok(find(groups)),
            _ => Err(contradicts(*chunk, "it is not a part of a table of links")),
        }
    }
}
