//! `changes/`: what differs between two snapshots of a source, as two trees.
//!
//! ```text
//! changes/<source>/<time>..<time>/before/…   what is not there any more, or not like this
//! changes/<source>/<time>..<time>/after/…    what was not there, or not like this
//! ```
//!
//! Both are the snapshots' own trees with everything left out that is the same in the other
//! one, so `diff -r before after` tells the whole story, and a directory whose node is the
//! same on both sides is not looked into by anybody. Neighbouring snapshots are listed; any
//! two times can be named, and a name that is not the snapshots' own is a link to it.

use std::sync::Arc;

use crate::base::ChunkId;
use crate::repo::{self, Library};
use crate::view::as_of::Head;
use crate::view::compare::{Aspects, Go, compare, numbers};
use crate::view::error::{Error, Reach, Result};
use crate::view::tree::{Found, Tree};

use super::list::by_time;
use super::state::Whole;
use super::views::{View, Viewed};
use super::{Item, Life, Looked, Namespace, PAIR_LINK_RANK, Row, entry, number, text};

/// The two sides.
const SIDES: [&str; 2] = ["before", "after"];
/// What stands between the two times.
const BETWEEN: &str = "..";

impl Namespace {
    /// A name in `changes/<source>/`.
    pub(super) fn lookup_pair(
        &self,
        source: &str,
        name: &[u8],
        within: &Viewed,
        reach: Reach,
    ) -> Result<Looked> {
        let absent = Ok(Looked::absent(Life::Momentary));
        let state = self.whole(reach)?;
        let Some((before, after)) = text(name).and_then(|name| name.split_once(BETWEEN)) else {
            return absent;
        };
        let head = |name: &str| {
            state.snapshot_named(source, name).or_else(|| self.newest_at(&state, source, name))
        };
        let (Some(before), Some(after)) = (head(before), head(after)) else { return absent };
        let Some(view) = self.pair(&state, before, after, within, reach)? else { return absent };
        let is_own = pair_name(&state, before, after).is_some_and(|own| own.as_bytes() == name);
        let rank = if is_own { 0 } else { PAIR_LINK_RANK };
        Ok(Looked::at(self.item(number(view.number, rank), reach)?, Life::Brief))
    }

    /// Neighbouring snapshots.
    pub(super) fn list_pairs(
        &self,
        within: &Viewed,
        source: &str,
        after: u64,
        reach: Reach,
        show: &mut dyn FnMut(Row<'_>) -> bool,
    ) -> Result<()> {
        let state = self.whole(reach)?;
        let pairs = state.timelines().of(source).windows(2);
        for (position, pair) in by_time(pairs, |pair| pair[1].at()) {
            if position <= after {
                continue;
            }
            let Some(view) = self.pair(&state, &pair[0], &pair[1], within, reach)? else {
                continue;
            };
            let Some(name) = pair_name(&state, &pair[0], &pair[1]) else { continue };
            let item = self.item(number(view.number, 0), reach)?;
            if show(Row { position, name: name.as_bytes(), item, life: Life::Brief }) {
                break;
            }
        }
        Ok(())
    }

    /// `before` or `after`, by its name.
    pub(super) fn lookup_side(&self, pair: &Viewed, name: &[u8], reach: Reach) -> Result<Looked> {
        let Some(side) = SIDES.iter().position(|side| side.as_bytes() == name) else {
            return Ok(Looked::absent(Life::Forever));
        };
        Ok(Looked::at(self.side(pair, side, reach)?, Life::Forever))
    }

    pub(super) fn list_sides(
        &self,
        pair: &Viewed,
        after: u64,
        reach: Reach,
        show: &mut dyn FnMut(Row<'_>) -> bool,
    ) -> Result<()> {
        for (side, position) in (0..SIDES.len()).zip(super::FIRST_POSITION..) {
            if position <= after {
                continue;
            }
            let item = self.side(pair, side, reach)?;
            let name = SIDES[side].as_bytes();
            if show(Row { position, name, item, life: Life::Forever }) {
                break;
            }
        }
        Ok(())
    }

    fn side(&self, pair: &Viewed, side: usize, reach: Reach) -> Result<Item> {
        let View::Pair { before, after, .. } = &pair.view else {
            return Err(Error::NotADirectory);
        };
        let (tree, other) = if side == 0 { (before, after) } else { (after, before) };
        let key = format!("{}/{}", pair.key, SIDES[side]);
        let path = format!("{}/{}", pair.path, SIDES[side]);
        let view = self.enter(key, path, reach, || View::Snapshot {
            tree: Arc::clone(tree),
            within: pair.number,
            unlike: Some(Arc::clone(other)),
        })?;
        entry(&view, tree, tree.root(), reach)
    }

    /// The view of two snapshots; none if one of them is not known any more.
    fn pair(
        &self,
        state: &Whole,
        before: &Head,
        after: &Head,
        within: &Viewed,
        reach: Reach,
    ) -> Result<Option<Arc<Viewed>>> {
        // What it is called is part of its key: a late snapshot can take its name, and a link of
        // one number may never lead elsewhere.
        let Some(name) = pair_name(state, before, after) else { return Ok(None) };
        let key = format!("{}/{name}#{}{BETWEEN}{}", within.key, before.id, after.id);
        if let Some(known) = self.with_views(|views| views.of(&key)) {
            return Ok(Some(known));
        }
        let tree = |head| self.tree_of(head, reach);
        let (Some(old), Some(new)) = (tree(before)?, tree(after)?) else { return Ok(None) };
        let path = format!("{}/{name}", within.path);
        let view = || View::Pair { before: old, after: new, within: within.number };
        Ok(Some(self.enter(key, path, reach, view)?))
    }
}

/// What two snapshots are called together.
pub(super) fn pair_name(state: &Whole, before: &Head, after: &Head) -> Option<String> {
    Some(format!("{}{BETWEEN}{}", state.name_of(before)?, state.name_of(after)?))
}

/// The directory of the other tree that has the path of a directory of this one.
pub(super) fn counterpart(
    tree: &Tree,
    dir: u64,
    other: &Tree,
    reach: Reach,
) -> Result<Option<u64>> {
    let there = other.at(&tree.path(dir, reach)?, reach)?;
    Ok(there.filter(Found::is_dir).map(|found| found.rank))
}

/// Whether an entry, or anything below it, is not the same in a directory of the other
/// tree, given as [`counterpart`] returns it.
pub(super) fn differs(
    found: &Found,
    other: &Tree,
    there: Option<u64>,
    reach: Reach,
) -> Result<bool> {
    let Some(dir) = there else { return Ok(true) };
    let Some(there) = other.lookup(dir, &found.entry().name, reach)? else { return Ok(true) };
    let owner = |found: &Found| found.owner().map(numbers).unwrap_or_default();
    let aspects = Aspects::of((found.entry(), owner(found)), (there.entry(), owner(&there)));
    let (own, others) = (Tree::first_node(found), Tree::first_node(&there));
    if !aspects.is_empty() || own == others {
        return Ok(!aspects.is_empty());
    }
    match reach {
        Reach::Memory => Err(Error::WouldBlock),
        Reach::Store => differs_below(other.library(), own, others),
    }
}

/// Whether anything is not the same below two directories whose nodes are not. That may be
/// nothing: the time of a directory is in the node above it, and does not count.
///
/// Costs what differs up to the first that counts.
fn differs_below(
    library: &dyn Library,
    own: Option<ChunkId>,
    others: Option<ChunkId>,
) -> Result<bool> {
    /// Why the comparison ended before the end.
    enum End {
        Differs,
        Failed(repo::Error),
    }
    impl From<repo::Error> for End {
        fn from(error: repo::Error) -> End {
            End::Failed(error)
        }
    }
    let ended = compare(library, own, others, |difference| {
        if difference.is_other() { Err(End::Differs) } else { Ok(Go::Into) }
    });
    match ended {
        Ok(()) => Ok(false),
        Err(End::Differs) => Ok(true),
        Err(End::Failed(error)) => Err(error.into()),
    }
}
