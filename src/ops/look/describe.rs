//! All that is known of one file of the past.

use std::sync::Arc;

use serde::Serialize;

use super::in_tree;
use crate::base::{SnapshotId, UnixTime, WriterId};
use crate::format::node::{Entry, FileKind, MARK_CHANGED_WHILE_READ, Owner};
use crate::ops::Result;
use crate::ops::select::{Selected, in_order};
use crate::repo::Library;
use crate::repo::library::KnownGap;
use crate::source::path::shown;
use crate::view::error::Reach;
use crate::view::history::{shown_by, versions};

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// Its value, if that is text.
    pub text: Option<String>,
    /// Its value in hexadecimal digits.
    pub hex: String,
}

/// What is below a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Below {
    /// Entries of all kinds, at any depth.
    pub entries: u64,
    /// The sizes of all files, added up.
    pub bytes: u64,
}

/// All that is known of a file.
#[derive(Debug, Clone, Serialize)]
pub struct Description {
    /// Its path in the snapshot.
    pub path: String,
    /// What it is.
    pub kind: &'static str,
    /// Permission bits, as `0644`.
    pub mode: String,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The owner's name where it was backed up.
    pub user: Option<String>,
    /// The group's name there.
    pub group: Option<String>,
    /// Its size. Bytes.
    pub size: u64,
    /// How many of them are in holes.
    pub hole_bytes: u64,
    /// When its content changed.
    pub mtime: UnixTime,
    /// When anything about it changed.
    pub ctime: UnixTime,
    /// When it was made, where that is known.
    pub btime: Option<UnixTime>,
    /// Where a symbolic link points.
    pub target: Option<String>,
    /// A device's major and minor number.
    pub device: Option<(u32, u32)>,
    /// How many names it has.
    pub links: u64,
    /// Its number in the snapshot: that of its first name.
    pub rank: u64,
    /// SHA-256 of a file's bytes.
    pub sha256: Option<String>,
    /// Its extended attributes, ACLs and capabilities among them.
    pub xattrs: Vec<Attribute>,
    /// What is below a directory.
    pub below: Option<Below>,
    /// Whether it kept changing while it was read, so that it may be of no one instant.
    pub changed_while_read: bool,
    /// The source.
    pub source: String,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// When that was taken.
    pub taken: UnixTime,
    /// When the store received it.
    pub receipt: UnixTime,
    /// From when on the snapshot is no longer wanted, if that was said.
    pub expires: Option<UnixTime>,
    /// The machine that it was taken on.
    pub host: String,
    /// Who published it.
    pub writer: WriterId,
    /// When the first snapshot was taken that shows it just so, in a row with this one.
    pub first_seen: Option<UnixTime>,
    /// When the last one was.
    pub last_seen: Option<UnixTime>,
    /// About how many bytes of the store a file takes, with what other files have too.
    pub stored_size: Option<u64>,
    /// Of a state of a followed source, its position in its stream.
    pub position: Option<u64>,
    /// The time behind that state of which nothing is known, if there is one.
    pub gap: Option<KnownGap>,
}

/// Says all that is known of what was selected.
///
/// # Errors
///
/// The library's.
pub fn describe(library: &Arc<dyn Library>, selected: &Selected) -> Result<Description> {
    let (tree, found) = in_tree(library, selected)?;
    let identity = tree.identity(&found, Reach::Store)?;
    let entry: &Entry = found.entry();
    let Owner { uid, gid, user, group } = selected.found.owner();
    let info = &selected.info;
    let line = in_order(&library.snapshots()?, &info.snapshot.source);
    let (versions, _) = versions(library.as_ref(), &line, &selected.path)?;
    let version = shown_by(&versions, &line, &info.snapshot.id);
    let stored_size = match entry.kind {
        FileKind::File => Some(library.stored_size(&found.content())?),
        _ => None,
    };
    let attribute = |xattr: &crate::format::node::Xattr| Attribute {
        name: shown(&xattr.name),
        text: std::str::from_utf8(&xattr.value)
            .ok()
            .filter(|text| !text.chars().any(char::is_control))
            .map(str::to_owned),
        hex: hex::encode(xattr.value.as_slice()),
    };
    Ok(Description {
        path: format!("/{}", shown(&selected.path)),
        kind: kind_name(entry.kind),
        mode: format!("{:04o}", entry.mode),
        uid,
        gid,
        user,
        group,
        size: entry.size,
        hole_bytes: entry.holes,
        mtime: entry.mtime,
        ctime: entry.ctime,
        btime: entry.btime,
        target: entry.target.as_ref().map(|target| shown(target)),
        device: entry.device,
        links: identity.links,
        rank: identity.rank,
        sha256: entry.sha256.as_ref().map(|hash| hex::encode(hash.as_slice())),
        xattrs: entry.xattrs.iter().map(attribute).collect(),
        below: entry.subtree.map(|tree| Below { entries: tree.entries, bytes: tree.bytes }),
        changed_while_read: entry.marks & MARK_CHANGED_WHILE_READ != 0,
        source: info.snapshot.source.clone(),
        snapshot: info.snapshot.id,
        taken: info.shown_from(),
        receipt: info.receipt,
        expires: info.snapshot.expires,
        host: info.snapshot.host.clone(),
        writer: info.writer,
        first_seen: version.map(|version| version.first.shown_from()),
        last_seen: version.map(|version| version.last.shown_from()),
        stored_size,
        position: info.snapshot.point.as_ref().map(|point| point.position),
        gap: info.gap_behind(&library.snapshots()?),
    })
}

/// What a file is, in words.
#[must_use]
pub fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Dir => "directory",
        FileKind::Symlink => "symbolic link",
        FileKind::CharDevice => "character device",
        FileKind::BlockDevice => "block device",
        FileKind::Fifo => "named pipe",
        FileKind::Socket => "socket",
    }
}

/// Kind and permissions as `ls -l` writes them: `-rwsr-xr-x`.
#[must_use]
pub fn mode_text(kind: FileKind, mode: u32) -> String {
    let kind = match kind {
        FileKind::File => '-',
        FileKind::Dir => 'd',
        FileKind::Symlink => 'l',
        FileKind::CharDevice => 'c',
        FileKind::BlockDevice => 'b',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
    };
    let mut text = String::from(kind);
    for (shift, special, set, both) in
        [(6, 0o4000, 'S', 's'), (3, 0o2000, 'S', 's'), (0, 0o1000, 'T', 't')]
    {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, false) => set,
            (true, true) => both,
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_ls_writes_them() {
        for (kind, mode, text) in [
            (FileKind::File, 0o644, "-rw-r--r--"),
            (FileKind::File, 0o4755, "-rwsr-xr-x"),
            (FileKind::File, 0o2640, "-rw-r-S---"),
            (FileKind::Dir, 0o1777, "drwxrwxrwt"),
            (FileKind::Dir, 0o1776, "drwxrwxrwT"),
            (FileKind::Symlink, 0o777, "lrwxrwxrwx"),
        ] {
            assert_eq!(mode_text(kind, mode), text);
        }
    }
}
