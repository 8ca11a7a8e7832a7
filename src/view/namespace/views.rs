//! Which view has which number.
//!
//! Numbers come from the local index, so that they are the same after a remount.
//! What the kernel was told counts more: a number that is in use here is never
//! given to another view, whatever an index says that was deleted and made anew
//! under a running mount. Views are kept as long as the mount lives, about 300
//! bytes each; there are as many as directories of `at/` and `snapshots/` were
//! looked at.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::base::{SnapshotId, UnixTime};
use crate::view::as_of::Head;
use crate::view::error::{Error, Result};
use crate::view::tree::Tree;

use super::state::{Shown, State};

/// No view has this number or a greater one: the rest of an inode's bits are its rank.
const NUMBERS_MAX: u64 = 1 << 24;

/// What a view shows.
#[derive(Debug)]
pub(super) enum View {
    /// Every source at an instant, as it was known when the view was entered; with what it
    /// shows if states of streams are among that.
    Instant(UnixTime, Option<Shown>),
    /// Every snapshot of a source.
    Source(String),
    /// A snapshot, in the view of that number; only what is not the same in another one, if
    /// there is one.
    Snapshot { tree: Arc<Tree>, within: u64, unlike: Option<Arc<Tree>> },
    /// What differs between snapshots of a source.
    Changes(String),
    /// Everything that ever was in a source.
    History(String),
    /// What was at paths of which this snapshot is the first to have them; see
    /// [`super::history`].
    Past(Arc<Tree>),
    /// Two snapshots beside each other, in the view of that number.
    Pair { before: Arc<Tree>, after: Arc<Tree>, within: u64 },
}

/// A view that has a number.
#[derive(Debug)]
pub(super) struct Viewed {
    pub(super) number: u64,
    /// What the index knows it by.
    pub(super) key: String,
    /// Where in the mount it is, for people.
    pub(super) path: String,
    pub(super) view: View,
    /// Of an instant that shows something else by now, what it showed.
    kept: OnceLock<Box<[Head]>>,
}

impl Viewed {
    /// The snapshots that the view of an instant shows.
    ///
    /// `state` must have been looked at before this is asked: a view keeps what it shows
    /// before a state comes that shows something else.
    pub(super) fn heads<'v>(&'v self, state: &'v State) -> Box<dyn Iterator<Item = &'v Head> + 'v> {
        match (self.kept.get(), &self.view) {
            (Some(kept), _) => Box::new(kept.iter()),
            (None, View::Instant(_, Some(shown))) => Box::new(shown.iter()),
            (None, View::Instant(at, None)) => Box::new(state.view(*at)),
            (None, _) => Box::new(std::iter::empty()),
        }
    }

    /// The snapshot of a source that the view of an instant shows; `state` as above.
    pub(super) fn head<'v>(&'v self, state: &'v State, source: &str) -> Option<&'v Head> {
        match (self.kept.get(), &self.view) {
            (Some(kept), _) => kept.iter().find(|head| head.source == source),
            (None, View::Instant(_, Some(shown))) => {
                shown.iter().find(|head| head.source == source)
            }
            (None, View::Instant(at, None)) => state.head(source, *at),
            (None, _) => None,
        }
    }

    /// Whether it is a snapshot among those of its source.
    pub(super) fn is_of_source(&self) -> bool {
        matches!(self.view, View::Snapshot { .. }) && self.key.starts_with("snapshots/")
    }

    /// From now on the view shows what it does by this state, whatever comes.
    pub(super) fn keep(&self, state: &State) {
        if let View::Instant(at, None) = self.view {
            self.kept.get_or_init(|| state.view(at).cloned().collect());
        }
    }
}

/// The views that were looked at.
#[derive(Debug, Default)]
pub(super) struct Views {
    by_number: HashMap<u64, Arc<Viewed>>,
    by_key: HashMap<String, u64>,
    trees: HashMap<SnapshotId, Arc<Tree>>,
    greatest: u64,
}

impl Views {
    pub(super) fn numbered(&self, number: u64) -> Option<Arc<Viewed>> {
        self.by_number.get(&number).cloned()
    }

    pub(super) fn of(&self, key: &str) -> Option<Arc<Viewed>> {
        self.numbered(*self.by_key.get(key)?)
    }

    /// The tree of a snapshot, if some view shows it.
    pub(super) fn tree(&self, snapshot: &SnapshotId) -> Option<Arc<Tree>> {
        self.trees.get(snapshot).cloned()
    }

    fn keep(&mut self, tree: &Arc<Tree>) {
        self.trees.insert(tree.info().snapshot.id, Arc::clone(tree));
    }

    /// The smallest number that is certainly free here.
    pub(super) fn least(&self) -> u64 {
        self.greatest + 1
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Viewed>> {
        self.by_number.values().cloned().collect()
    }

    /// Gives a view the number wished for if that is free, and else the next.
    pub(super) fn enter(
        &mut self,
        key: String,
        path: String,
        wish: u64,
        view: View,
    ) -> Result<Arc<Viewed>> {
        if let Some(known) = self.of(&key) {
            return Ok(known);
        }
        let usable = (1..NUMBERS_MAX).contains(&wish) && !self.by_number.contains_key(&wish);
        let number = if usable { wish } else { self.least() };
        if number >= NUMBERS_MAX {
            return Err(Error::NumbersUsedUp { name: path });
        }
        self.greatest = self.greatest.max(number);
        match &view {
            View::Snapshot { tree, .. } | View::Past(tree) => self.keep(tree),
            View::Pair { before, after, .. } => {
                self.keep(before);
                self.keep(after);
            }
            View::Instant(..) | View::Source(_) | View::Changes(_) | View::History(_) => {}
        }
        self.by_key.insert(key.clone(), number);
        let viewed = Arc::new(Viewed { number, key, path, view, kept: OnceLock::new() });
        self.by_number.insert(number, Arc::clone(&viewed));
        Ok(viewed)
    }
}
