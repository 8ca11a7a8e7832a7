//! What a name or a number of the mount can be.

use std::sync::Arc;

use crate::base::UnixTime;
use crate::view::tree::{Found, Tree};

/// How long what was answered stays true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// For ever: it is part of a snapshot.
    Forever,
    /// Until snapshots far in the past come or go, which [`Changes`](super::Changes) will tell.
    Settled,
    /// Until the next snapshot, or the next of those that were taken already and
    /// are not published yet.
    Brief,
    /// Not even until the next question.
    Momentary,
}

/// A file, directory or link of the mount.
#[derive(Debug, Clone)]
pub enum Item {
    /// A directory that asof made up.
    Dir {
        /// Its number.
        ino: u64,
        /// When what it shows was so.
        mtime: UnixTime,
        /// How long that stays the answer.
        life: Life,
    },
    /// A link that asof made up.
    Link {
        /// Its number.
        ino: u64,
        /// Where it points.
        target: String,
        /// When what it points to was so.
        mtime: UnixTime,
    },
    /// A file under `.asof/`.
    Report {
        /// Its number.
        ino: u64,
        /// What it says.
        text: Arc<[u8]>,
        /// When it said so.
        mtime: UnixTime,
    },
    /// Something of a snapshot.
    Entry {
        /// Its number.
        ino: u64,
        /// How many names it has.
        links: u64,
        /// The snapshot.
        tree: Arc<Tree>,
        /// What it is.
        found: Found,
    },
}

impl Item {
    /// Its number.
    #[must_use]
    pub fn ino(&self) -> u64 {
        match self {
            Item::Dir { ino, .. }
            | Item::Link { ino, .. }
            | Item::Report { ino, .. }
            | Item::Entry { ino, .. } => *ino,
        }
    }
}

/// What a name came to.
#[derive(Debug, Clone)]
pub struct Looked {
    /// What has that name, if anything.
    pub item: Option<Item>,
    /// How long the name has that meaning.
    pub life: Life,
}

impl Looked {
    pub(super) fn at(item: Item, life: Life) -> Looked {
        Looked { item: Some(item), life }
    }

    pub(super) fn absent(life: Life) -> Looked {
        Looked { item: None, life }
    }
}
