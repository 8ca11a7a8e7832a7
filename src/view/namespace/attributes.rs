//! Extended attributes: the source's own, and what asof knows of a file.
//!
//! The source's are listed and answered. asof's are answered and never listed,
//! since what is listed is copied by `cp -a` and `rsync -X`.

use crate::format::node::{Entry, FileKind, MARK_CHANGED_WHILE_READ};
use crate::repo::SnapshotInfo;
use crate::view::error::{Error, Reach, Result};
use crate::view::history::{Version, shown_by};
use crate::view::tree::{Found, Tree};

use super::{Item, Namespace, View};

/// What is of a path and not of a file.
const SEEN: [&[u8]; 2] = [b"first-seen", b"last-seen"];
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
        let ours = name.strip_prefix(PREFIX.as_bytes()).ok_or(Error::NoAttribute)?;
        let value = match &item {
            // A number of several names is of none of them: when was which seen?
            Item::Entry { links, found, .. }
                if SEEN.contains(&ours) && *links > 1 && !found.is_dir() =>
            {
                None
            }
            Item::Entry { tree, found, .. } => self.of_found(tree, found, ours, reach)?,
            Item::Dir { mtime, .. } if ours == b"time" && self.is_instant(ino) => {
                Some(mtime.to_string())
            }
            Item::Dir { .. } | Item::Link { .. } | Item::Report { .. } => None,
        };
        value.map(String::into_bytes).ok_or(Error::NoAttribute)
    }

    /// One of asof's own attributes of a file or directory, by its name without the prefix.
    fn of_found(
        &self,
        tree: &Tree,
        found: &Found,
        name: &[u8],
        reach: Reach,
    ) -> Result<Option<String>> {
        let (info, entry) = (tree.info(), found.entry());
        if !matches!(entry.kind, FileKind::File | FileKind::Dir) {
            return Ok(None);
        }
        Ok(match name {
            b"source" => Some(info.snapshot.source.clone()),
            b"snapshot" => Some(info.snapshot.id.to_string()),
            b"time" => Some(info.shown_from().to_string()),
            b"writer" => Some(info.writer.to_string()),
            b"position" => info.snapshot.point.as_ref().map(|point| point.position.to_string()),
            b"stream" => info.snapshot.point.as_ref().map(|point| point.stream.to_string()),
            b"gap" if info.snapshot.point.is_some() => {
                if reach == Reach::Memory {
                    return Err(Error::WouldBlock);
                }
                let gap = info.gap_behind(&self.library.snapshots()?);
                gap.map(|gap| format!("{}..{}: {}", gap.since, gap.until, gap.reason))
            }
            b"first-seen" => self.seen(tree, found, reach, |version| &version.first)?,
            b"last-seen" => self.seen(tree, found, reach, |version| &version.last)?,
            b"stored-size" if entry.kind == FileKind::File => {
                if reach == Reach::Memory {
                    return Err(Error::WouldBlock);
                }
                Some(self.library.stored_size(&found.content())?.to_string())
            }
            _ => of_entry(entry, name),
        })
    }

    /// When the version was seen that a snapshot shows; none if the snapshot is forgotten.
    fn seen(
        &self,
        tree: &Tree,
        found: &Found,
        reach: Reach,
        when: fn(&Version) -> &SnapshotInfo,
    ) -> Result<Option<String>> {
        let snapshot = &tree.info().snapshot;
        let (state, path) = (self.whole(reach)?, tree.path(found.rank, reach)?);
        let past = self.past(&state, &snapshot.source, &path, reach)?;
        let line = self.line(&state, &snapshot.source, reach)?;
        let version = shown_by(&past.versions, &line, &snapshot.id);
        Ok(version.map(|version| when(version).shown_from().to_string()))
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
        viewed.is_some_and(|viewed| matches!(viewed.view, View::Instant(..)))
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
