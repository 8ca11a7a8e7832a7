//! What `stat` shows of an item.

use crate::base::UnixTime;
use crate::format::node::{self, FileKind};
use crate::view::namespace::Item;
use crate::view::tree::Found;

/// The unit in which space is counted. Bytes.
const BLOCK: u64 = 4096;
/// The unit of `st_blocks`. Bytes.
const SECTOR: u64 = 512;
/// What programs should read at a time. Bytes.
const READ_SIZE: u32 = 128 << 10;

/// The attributes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mount) struct Attr {
    pub(in crate::mount) ino: u64,
    pub(in crate::mount) kind: FileKind,
    /// Permission bits with set-user-id and its like.
    pub(in crate::mount) mode: u32,
    pub(in crate::mount) links: u32,
    pub(in crate::mount) uid: u32,
    pub(in crate::mount) gid: u32,
    pub(in crate::mount) size: u64,
    /// Of 512 bytes.
    pub(in crate::mount) blocks: u64,
    pub(in crate::mount) mtime: UnixTime,
    pub(in crate::mount) ctime: UnixTime,
    /// A device's number as the kernel packs it.
    pub(in crate::mount) rdev: u32,
    pub(in crate::mount) read_size: u32,
}

/// Who files are shown to belong to.
#[derive(Debug, Clone, Copy)]
pub(in crate::mount) struct Owners {
    /// Who mounted: the owner of what asof made up.
    pub(in crate::mount) uid: u32,
    pub(in crate::mount) gid: u32,
    /// Whether everything is shown to belong to root.
    pub(in crate::mount) all_root: bool,
}

impl Owners {
    pub(super) fn attr(self, item: &Item) -> Attr {
        let (uid, gid) = if self.all_root { (0, 0) } else { (self.uid, self.gid) };
        let made_up = |ino, kind, mode, size: u64, at| Attr {
            ino,
            kind,
            mode,
            links: 1,
            uid,
            gid,
            size,
            blocks: size.div_ceil(SECTOR),
            mtime: at,
            ctime: at,
            rdev: 0,
            read_size: READ_SIZE,
        };
        match item {
            Item::Dir { ino, mtime, .. } => made_up(*ino, FileKind::Dir, 0o555, 0, *mtime),
            Item::Link { ino, target, mtime } => {
                made_up(*ino, FileKind::Symlink, 0o777, target.len() as u64, *mtime)
            }
            Item::Report { ino, text, mtime } => {
                made_up(*ino, FileKind::File, 0o444, text.len() as u64, *mtime)
            }
            Item::Entry { ino, links, found, .. } => self.of_entry(*ino, *links, found),
        }
    }

    fn of_entry(self, ino: u64, links: u64, found: &Found) -> Attr {
        let entry = found.entry();
        // Nobody known is nobody, not root.
        let owner = found.owner().map_or((65534, 65534), |owner| (owner.uid, owner.gid));
        let (uid, gid) = if self.all_root { (0, 0) } else { owner };
        Attr {
            ino,
            kind: entry.kind,
            mode: entry.mode,
            links: u32::try_from(links).unwrap_or(u32::MAX),
            uid,
            gid,
            size: entry.size,
            blocks: blocks(entry),
            mtime: entry.mtime,
            ctime: entry.ctime,
            rdev: entry.device.map_or(0, packed),
            read_size: READ_SIZE,
        }
    }
}

/// The space that an entry takes, in sectors; holes take none.
fn blocks(entry: &node::Entry) -> u64 {
    let bytes = match entry.kind {
        FileKind::File => entry.size.saturating_sub(entry.holes),
        FileKind::Dir => entry.size,
        _ => 0,
    };
    bytes.div_ceil(BLOCK).saturating_mul(BLOCK / SECTOR)
}

/// A device's number in the 32 bits that FUSE has for it.
fn packed((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}
