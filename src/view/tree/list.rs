//! Listing a directory: leaf after leaf, from any place on.
//!
//! A position is the number of an entry among those of its directory, so a
//! listing that was interrupted goes on without state. A directory of a million
//! entries is never held whole.

use crate::view::error::{Reach, Result};

use super::walk::{LeafAt, Seek};
use super::{DirPlace, Found, Tree};

/// An entry of a listing.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its number among the entries of its directory.
    pub ordinal: u64,
    /// The entry.
    pub found: Found,
}

/// The entries of a directory in byte order of their names. After an error it
/// can be asked again and goes on where it was.
pub struct Listing<'t> {
    tree: &'t Tree,
    dir: u64,
    place: DirPlace,
    next: u64,
    reach: Reach,
    leaf: Option<LeafAt>,
}

impl<'t> Listing<'t> {
    pub(super) fn new(
        tree: &'t Tree,
        dir: u64,
        place: DirPlace,
        next: u64,
        reach: Reach,
    ) -> Listing<'t> {
        Listing { tree, dir, place, next, reach, leaf: None }
    }

    fn step(&mut self) -> Result<Option<Listed>> {
        if let Some(leaf) = &self.leaf
            && self.next - leaf.ordinals_before >= leaf.entries().len() as u64
        {
            self.leaf = None;
        }
        let leaf = match self.leaf.take() {
            Some(leaf) => leaf,
            None => match self.tree.leaf(&self.place, Seek::Ordinal(self.next), self.reach)? {
                Some(leaf) => leaf,
                None => return Ok(None),
            },
        };
        let index = usize::try_from(self.next - leaf.ordinals_before).unwrap_or(usize::MAX);
        let found = self.tree.remember(self.dir, &self.place, &leaf, index)?;
        self.leaf = Some(leaf);
        let ordinal = self.next;
        self.next += 1;
        Ok(Some(Listed { ordinal, found }))
    }
}

impl Iterator for Listing<'_> {
    type Item = Result<Listed>;

    fn next(&mut self) -> Option<Result<Listed>> {
        self.step().transpose()
    }
}
