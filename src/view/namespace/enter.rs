//! From what is to be shown to the view that shows it, and from numbers back.

use std::sync::{Arc, PoisonError};

use crate::base::UnixTime;
use crate::view::as_of::Head;
use crate::view::error::{Error, Reach, Result};
use crate::view::time_name::instant_name;
use crate::view::tree::Tree;

use super::state::{State, Whole};
use super::views::{View, Viewed, Views};
use super::{
    CHANGES, Changes, HISTORY, Item, Life, Looked, Namespace, RANK_BITS, entry, number, text,
};

impl Namespace {
    /// How long what is shown at an instant stays so.
    pub(super) fn life(&self, state: &State, at: UnixTime) -> Life {
        state.life(at, self.clock.now())
    }

    /// The view of an instant as things are known now.
    ///
    /// What it shows is part of its key. So when a late snapshot changes what an instant
    /// shows, its name gets another view, and whoever is in the old one stays there.
    pub(super) fn instant(&self, at: UnixTime, reach: Reach) -> Result<Arc<Viewed>> {
        let state = self.state();
        let path = format!("at/{}", instant_name(at));
        let shown = match state.has_streams() {
            true => Some(state.shown(self.library.as_ref(), at, reach)?),
            false => None,
        };
        let key = format!("{path}#{}", hex::encode(state.fingerprint(at, shown.as_ref())));
        let view = self.enter(key, path, reach, || View::Instant(at, shown))?;
        // Views that were there when another state came have kept what they showed. This one
        // may have been entered just after. Nobody knows its number yet.
        if !Arc::ptr_eq(&state, &self.state()) {
            view.keep(&state);
        }
        Ok(view)
    }

    pub(super) fn source(&self, source: &str, reach: Reach) -> Result<Arc<Viewed>> {
        let key = format!("snapshots/{source}");
        self.enter(key.clone(), key, reach, || View::Source(source.to_owned()))
    }

    /// The view that shows a snapshot within `snapshots/<source>`.
    pub(super) fn snapshot_of_source(
        &self,
        state: &Whole,
        head: &Head,
        within: &Viewed,
        reach: Reach,
    ) -> Result<Arc<Viewed>> {
        let name = state.name_of(head).ok_or_else(|| gone(within))?;
        let key = format!("{}/{}", within.key, head.id);
        self.snapshot(key, format!("{}/{name}", within.path), head, within, reach)
    }

    /// The view that shows a snapshot within `at/<instant>`.
    fn snapshot_of_instant(
        &self,
        head: &Head,
        within: &Viewed,
        reach: Reach,
    ) -> Result<Arc<Viewed>> {
        let key = format!("{}/{}/{}", within.key, head.source, head.id);
        self.snapshot(key, format!("{}/{}", within.path, head.source), head, within, reach)
    }

    fn snapshot(
        &self,
        key: String,
        path: String,
        head: &Head,
        within: &Viewed,
        reach: Reach,
    ) -> Result<Arc<Viewed>> {
        if let Some(known) = self.with_views(|views| views.of(&key)) {
            return Ok(known);
        }
        let tree = self.tree_of(head, reach)?.ok_or_else(|| gone(within))?;
        let view = || View::Snapshot { tree, within: within.number, unlike: None };
        self.enter(key, path, reach, view)
    }

    /// The tree of a snapshot; none if that is not known any more.
    pub(super) fn tree_of(&self, head: &Head, reach: Reach) -> Result<Option<Arc<Tree>>> {
        if let Some(tree) = self.with_views(|views| views.tree(&head.id)) {
            return Ok(Some(tree));
        }
        if reach == Reach::Memory {
            return Err(Error::WouldBlock);
        }
        let (library, places) = (Arc::clone(&self.library), Arc::clone(&self.places));
        let info = self.library.snapshot(&head.id)?;
        Ok(info.map(|info| Arc::new(Tree::new(library, info, places))))
    }

    /// What a source has in one of the fixed directories of sources.
    pub(super) fn of_source(&self, dir: u64, source: &str, reach: Reach) -> Result<Arc<Viewed>> {
        match dir {
            CHANGES => self.changes(source, reach),
            HISTORY => self.history(source, reach),
            _ => self.source(source, reach),
        }
    }

    /// What differs between snapshots of a source.
    pub(super) fn changes(&self, source: &str, reach: Reach) -> Result<Arc<Viewed>> {
        let key = format!("changes/{source}");
        self.enter(key.clone(), key, reach, || View::Changes(source.to_owned()))
    }

    /// The snapshots that the view of an instant shows, each with its own view. One that was
    /// forgotten before anybody looked at it here is left out.
    pub(super) fn shown<'s>(
        &self,
        state: &'s State,
        within: &'s Viewed,
        reach: Reach,
    ) -> Result<Vec<(&'s Head, Arc<Viewed>)>> {
        let mut all = Vec::new();
        for head in within.heads(state) {
            match self.snapshot_of_instant(head, within, reach) {
                Ok(view) => all.push((head, view)),
                Err(Error::NoSuchNumber { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// A source's directory in the view of an instant.
    pub(super) fn lookup_source(
        &self,
        within: &Viewed,
        name: &[u8],
        reach: Reach,
    ) -> Result<Looked> {
        let state = self.state();
        let head = text(name).and_then(|name| within.head(&state, name));
        match head.map(|head| self.snapshot_of_instant(head, within, reach)) {
            Some(Ok(view)) => Ok(Looked::at(root_of(&view, reach)?, Life::Forever)),
            // Forgotten before anybody looked at it here.
            None | Some(Err(Error::NoSuchNumber { .. })) => Ok(Looked::absent(Life::Forever)),
            Some(Err(error)) => Err(error),
        }
    }

    /// The view of that key, which is given a number if it has none.
    pub(super) fn enter(
        &self,
        key: String,
        path: String,
        reach: Reach,
        view: impl FnOnce() -> View,
    ) -> Result<Arc<Viewed>> {
        if let Some(known) = self.with_views(|views| views.of(&key)) {
            return Ok(known);
        }
        if reach == Reach::Memory {
            return Err(Error::WouldBlock);
        }
        let least = self.with_views(|views| views.least());
        // A number from elsewhere is only a wish: an index that cannot be read, or was
        // thrown away meanwhile, must not stop the mount or give a number twice.
        let wish = self.library.view_number(&key, least).unwrap_or_else(|error| {
            tracing::warn!(view = key, %error, "the index keeps no number for this directory");
            least
        });
        self.with_views(|views| views.enter(key, path, wish, view()))
    }

    /// The view and rank of a number; no view for the fixed ones.
    pub(super) fn place(&self, ino: u64) -> Result<(Option<Arc<Viewed>>, u64)> {
        let (view, rank) = (ino >> RANK_BITS, ino & ((1 << RANK_BITS) - 1));
        if view == 0 {
            return Ok((None, rank));
        }
        let viewed = self.with_views(|views| views.numbered(view));
        Ok((Some(viewed.ok_or(Error::NoSuchNumber { number: ino })?), rank))
    }

    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The state, if it knows every snapshot; else another that does.
    pub(super) fn whole(&self, reach: Reach) -> Result<Whole> {
        if let Some(whole) = Whole::of(&self.state()) {
            return Ok(whole);
        }
        if reach == Reach::Memory {
            return Err(Error::WouldBlock);
        }
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever had the lock may have read it.
        if let Some(whole) = Whole::of(&self.state()) {
            return Ok(whole);
        }
        let whole = Whole::load(self.library.as_ref())?;
        let is_other = self.state().is_other(&whole);
        let changes = self.replace(&whole);
        if is_other {
            *untold = Some(untold.take().unwrap_or_default().and(changes));
        }
        Ok(whole)
    }

    /// Puts another state in place of the one that is there. Only who holds `untold` may, or
    /// an older one could come last. Returns what is not as it was.
    pub(super) fn replace(&self, fresh: &Whole) -> Changes {
        let before = {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            // Before anybody can see the new state; see `Viewed::heads`.
            state.keep(fresh, &self.with_views(|views| views.all()));
            std::mem::replace(&mut *state, Arc::clone(fresh))
        };
        Changes::between(&before, fresh, &self.with_views(|views| views.all()))
    }

    pub(super) fn with_views<T>(&self, act: impl FnOnce(&mut Views) -> T) -> T {
        act(&mut self.views.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The root of the snapshot that a view shows.
pub(super) fn root_of(view: &Arc<Viewed>, reach: Reach) -> Result<Item> {
    match &view.view {
        View::Snapshot { tree, .. } => entry(view, tree, tree.root(), reach),
        _ => Err(gone(view)),
    }
}

fn gone(view: &Viewed) -> Error {
    Error::NoSuchNumber { number: number(view.number, 0) }
}
