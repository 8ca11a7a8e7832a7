//! From a file's stat to an entry.

use crate::format::node::{Entry, FileKind, LinkId, Owner, Xattr};
use crate::repo::trees::Draft;
use crate::source::{self, Meta, Xattrs};

/// The entry of a file with everything but its content, subtree or target.
pub(super) fn draft(name: &[u8], meta: &Meta, owner: Owner, xattrs: Xattrs) -> Draft {
    let xattrs = xattrs
        .into_iter()
        .map(|(name, value)| Xattr { name: name.into(), value: value.into() })
        .collect();
    let is_device =
        matches!(meta.kind, source::FileKind::CharDevice | source::FileKind::BlockDevice);
    Draft {
        entry: Entry {
            ctime: meta.ctime,
            btime: meta.btime,
            size: meta.size,
            device: is_device.then_some(meta.rdev),
            xattrs,
            ..Entry::new(name, kind_of(meta.kind), meta.mode, meta.mtime)
        },
        refs: Vec::new(),
        owner,
    }
}

fn kind_of(kind: source::FileKind) -> FileKind {
    match kind {
        source::FileKind::File => FileKind::File,
        source::FileKind::Dir => FileKind::Dir,
        source::FileKind::Symlink => FileKind::Symlink,
        source::FileKind::CharDevice => FileKind::CharDevice,
        source::FileKind::BlockDevice => FileKind::BlockDevice,
        source::FileKind::Fifo => FileKind::Fifo,
        source::FileKind::Socket => FileKind::Socket,
    }
}

/// Devices of a source, numbered in the order in which they are met, so that the
/// numbers that the kernel happens to give do not get into the tree.
#[derive(Default)]
pub(super) struct Devices(Vec<u64>);

impl Devices {
    /// The link identity of a file that has several names.
    pub(super) fn link(&mut self, meta: &Meta) -> Option<LinkId> {
        let known = self.0.iter().position(|dev| *dev == meta.dev);
        let device = known.unwrap_or_else(|| {
            self.0.push(meta.dev);
            self.0.len() - 1
        });
        let linked = meta.nlink > 1 && meta.kind != source::FileKind::Dir;
        linked
            .then(|| LinkId { device: u32::try_from(device).unwrap_or(u32::MAX), inode: meta.ino })
    }
}
