//! Extended attributes: the source's own, and what asof knows of a file.
//!
//! The source's are listed and answered. asof's are answered and never listed,
//! since what is listed is copied by `cp -a` and `rsync -X`.

use crate::format::node::{Entry, FileKind, MARK_CHANGED_WHILE_READ};
use crate::view::error::{Error, Reach, Result};

use super::{Item, Namespace, View};

/// What asof's own attributes begin with.
pub const PREFIX: &str = "user.asof.";

impl Namespace {
    /// The value of an extended attribute.
    ///
    /// # Errors
    ///
    /// [`Error::NoAttribute`], [`Error::WouldBlock`], or the library's.
    pub fn attribute(&self, ino: u64, name: &[u8], reach: Reach) -> Result<Vec<u8>> {
        let item = self.item(ino, reach)?;
        if let Item::Entry { found, .. } = &item {
            let xattrs = &found.entry().xattrs;
            if let Some(own) = xattrs.iter().find(|own| own.name.as_slice() == name) {
                return Ok(own.value.to_vec());
            }
        }
        let ours = name.strip_prefix(PREFIX.as_bytes());
        let value = ours.and_then(|ours| match &item {
            Item::Entry { tree, found, .. } => {
                let info = tree.info();
                if !matches!(found.entry().kind, FileKind::File | FileKind::Dir) {
                    return None;
                }
                match ours {
                    b"source" => Some(info.snapshot.source.clone()),
                    b"snapshot" => Some(info.snapshot.id.to_string()),
                    b"time" => Some(info.shown_from().to_string()),
                    _ => of_entry(found.entry(), ours),
                }
            }
            Item::Dir { mtime, .. } if ours == b"time" && self.is_instant(ino) => {
                Some(mtime.to_string())
            }
            Item::Dir { .. } | Item::Link { .. } | Item::Report { .. } => None,
        });
        value.map(String::into_bytes).ok_or(Error::NoAttribute)
    }

    /// The names of the source's extended attributes, each with a NUL behind it.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`], or the library's.
    pub fn attribute_names(&self, ino: u64, reach: Reach) -> Result<Vec<u8>> {
        let mut names = Vec::new();
        if let Item::Entry { found, .. } = self.item(ino, reach)? {
            for xattr in &found.entry().xattrs {
                names.extend_from_slice(&xattr.name);
                names.push(0);
            }
        }
        Ok(names)
    }

    fn is_instant(&self, ino: u64) -> bool {
        let viewed = self.place(ino).ok().and_then(|(viewed, _)| viewed);
        viewed.is_some_and(|viewed| matches!(viewed.view, View::Instant(_)))
    }
}

/// What the entry alone tells.
fn of_entry(entry: &Entry, name: &[u8]) -> Option<String> {
    match name {
        b"sha256" => entry.sha256.as_ref().map(|sha| hex::encode(sha.as_slice())),
        b"btime" => entry.btime.map(|at| at.to_string()),
        b"marks" if entry.marks & MARK_CHANGED_WHILE_READ != 0 => {
            Some("changed-while-read".to_owned())
        }
        b"entries" => entry.subtree.map(|t| t.entries.to_string()),
        b"bytes" => entry.subtree.map(|t| t.bytes.to_string()),
        _ => None,
    }
}
