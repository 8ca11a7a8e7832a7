//! What is in a directory of the past, and below it.

use crate::ops::Error;
use crate::view::error::Reach;
use crate::view::tree::{Found, Listing, Tree};

/// An entry that was come to.
pub struct Listed {
    /// Its path from where the walk began; empty for what is there itself.
    pub path: Vec<u8>,
    /// The entry.
    pub found: Found,
}

/// A directory that could not be read.
pub struct Unread {
    /// Its path from where the walk began.
    pub path: Vec<u8>,
    /// Why.
    pub error: Error,
}

/// Goes through a directory in byte order, each directory before what is in it.
///
/// A directory that cannot be read is an error of that directory: the walk goes on
/// behind it. Holds one leaf for each level that it is below its beginning.
pub struct Walk<'t> {
    tree: &'t Tree,
    recursive: bool,
    /// What is walked itself, if it is no directory.
    single: Option<Found>,
    /// Directories that are open, the deepest last, each with the length of its path.
    open: Vec<(Listing<'t>, usize)>,
    /// The directory to enter before the next step.
    enter: Option<u64>,
    path: Vec<u8>,
}

impl<'t> Walk<'t> {
    /// A walk that begins at an entry: of what is in it if it is a directory, else of itself.
    #[must_use]
    pub fn new(tree: &'t Tree, from: Found, recursive: bool) -> Walk<'t> {
        let (single, enter) =
            if from.is_dir() { (None, Some(from.rank)) } else { (Some(from), None) };
        Walk { tree, recursive, single, open: Vec::new(), enter, path: Vec::new() }
    }

    fn step(&mut self) -> Result<Option<Listed>, Box<Unread>> {
        if let Some(found) = self.single.take() {
            return Ok(Some(Listed { path: Vec::new(), found }));
        }
        if let Some(dir) = self.enter.take() {
            let listing = self.tree.list(dir, 0, Reach::Store);
            self.open.push((listing.map_err(|e| unread(&self.path, e))?, self.path.len()));
        }
        while let Some((listing, length)) = self.open.last_mut() {
            self.path.truncate(*length);
            match listing.next() {
                None => {
                    self.open.pop();
                }
                Some(Err(error)) => {
                    self.open.pop();
                    return Err(unread(&self.path, error));
                }
                Some(Ok(listed)) => {
                    if !self.path.is_empty() {
                        self.path.push(b'/');
                    }
                    self.path.extend_from_slice(&listed.found.entry().name);
                    if self.recursive && listed.found.is_dir() {
                        self.enter = Some(listed.found.rank);
                    }
                    return Ok(Some(Listed { path: self.path.clone(), found: listed.found }));
                }
            }
        }
        Ok(None)
    }
}

/// Yields entries, and each directory that could not be read.
impl Iterator for Walk<'_> {
    type Item = Result<Listed, Box<Unread>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

fn unread(path: &[u8], error: crate::view::error::Error) -> Box<Unread> {
    Box::new(Unread { path: path.to_vec(), error: error.into() })
}
