//! Listings and attributes in the kernel's form.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use crate::base::UnixTime;
use crate::format::node::FileKind;
use crate::mount::pool::{Refusal, Refuse, guarded};
use crate::mount::vfs::{Attr, DOT_DOT, Dirs, Entry, Row};
use crate::view::error::{Error, Reach};

use super::reply::{Fail, fail};
use super::{Fuse, GENERATION};

/// The most rows that a worker collects for a reply; a reply of 128 KiB holds about
/// 800 with attributes.
const ROWS_MAX: usize = 1024;

/// How long the end of a listing is kept back.
const HOLD_MAX: Duration = Duration::from_millis(100);

/// A reply that takes rows.
pub(super) trait Rows: Fail {
    /// Adds a row. True if it had no room.
    fn add_row(&mut self, row: &Row<'_>) -> bool;
    /// Sends what was added.
    fn send(self);
}

impl Rows for ReplyDirectory {
    fn add_row(&mut self, row: &Row<'_>) -> bool {
        let attr = &row.entry.attr;
        self.add(INodeNo(attr.ino), row.position, file_type(attr.kind), OsStr::from_bytes(row.name))
    }

    fn send(self) {
        self.ok();
    }
}

impl Rows for ReplyDirectoryPlus {
    fn add_row(&mut self, row: &Row<'_>) -> bool {
        let attr = file_attr(&row.entry.attr);
        // One time for both: fuser has no more.
        let time = row.entry.attr_time.min(row.entry.name_time);
        let name = OsStr::from_bytes(row.name);
        self.add(attr.ino, row.position, name, &time, &attr, GENERATION)
    }

    fn send(self) {
        self.ok();
    }
}

impl Fuse {
    /// Answers a piece of a listing: straight into the reply while everything is in
    /// memory, and what there is when it is not; from the pool if there is nothing.
    pub(super) fn rows<R: Rows>(&self, call: &'static str, dir: INodeNo, after: u64, mut reply: R) {
        self.seats.asked();
        self.count(|c| &c.readdirs, 1);
        let mut upto = after;
        let mut dirs = Dirs::default();
        let listed = guarded(|| {
            self.vfs.readdir(dir.0, after, Reach::Memory, &mut dirs, &mut |row| {
                let full = reply.add_row(row);
                if !full {
                    upto = row.position;
                }
                full
            })
        });
        let any = upto > after.max(DOT_DOT);
        match listed {
            Ok(Ok(())) if !any && after > 0 => self.ended(call, dir, reply),
            Ok(Ok(())) => reply.send(),
            Ok(Err(_)) if any => reply.send(),
            // A reply of the two dots alone would cost a further question.
            Ok(Err(Error::WouldBlock)) => self.rows_from_pool(call, dir, upto, reply),
            Ok(Err(error)) => fail(&self.vfs, call, dir, reply, &error),
            Err(_) => self.counted(call, dir, reply).refuse(Refusal::Panicked),
        }
        self.vfs.listed(&dirs);
    }

    /// Ends a listing. A program that copies reads the files next: the answer is kept back
    /// while they are pushed, but not for long.
    fn ended<R: Rows>(&self, call: &'static str, dir: INodeNo, reply: R) {
        let mut reply = Some(reply);
        let pushed = self.vfs.listing_ended(dir.0, &mut || {
            if let Some(reply) = reply.take() {
                reply.send();
            }
        });
        match (reply, pushed) {
            (None, _) => {}
            (Some(reply), None) => reply.send(),
            (Some(reply), Some(pushed)) => self.pool.run(
                self.counted(call, dir, reply),
                move || {
                    let _ = pushed.recv_timeout(HOLD_MAX);
                },
                |counted, ()| counted.reply.send(),
            ),
        }
    }

    fn rows_from_pool<R: Rows>(&self, call: &'static str, dir: INodeNo, after: u64, reply: R) {
        self.count(|c| &c.deferred, 1);
        let vfs = Arc::clone(&self.vfs);
        let work = move || {
            let mut rows: Vec<(u64, Box<[u8]>, Entry)> = Vec::new();
            let mut dirs = Dirs::default();
            let listed = vfs.readdir(dir.0, after, Reach::Store, &mut dirs, &mut |row| {
                rows.push((row.position, row.name.into(), row.entry));
                rows.len() >= ROWS_MAX
            });
            (listed, rows, dirs, vfs)
        };
        let counted = self.counted(call, dir, reply);
        self.pool.run(counted, work, move |mut counted, (listed, rows, dirs, vfs)| {
            match listed {
                Err(error) if rows.is_empty() => fail(&vfs, call, dir, counted.reply, &error),
                _ => {
                    for (position, name, entry) in &rows {
                        let row = Row { position: *position, name, entry: *entry };
                        if counted.reply.add_row(&row) {
                            break;
                        }
                    }
                    counted.reply.send();
                }
            }
            vfs.listed(&dirs);
        });
    }
}

/// Attributes as fuser takes them.
pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    let (mtime, ctime) = (system_time(attr.mtime), system_time(attr.ctime));
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: mtime,
        mtime,
        ctime,
        crtime: mtime,
        kind: file_type(attr.kind),
        perm: u16::try_from(attr.mode & 0o7777).unwrap_or(0),
        nlink: attr.links,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: attr.read_size,
        flags: 0,
    }
}

/// What stands for nothing: number 0.
pub(super) fn absent() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::File => FileType::RegularFile,
        FileKind::Dir => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
    }
}

/// An instant as the standard library has it; the nearest that it can express.
fn system_time(at: UnixTime) -> SystemTime {
    let seconds = Duration::from_secs(at.seconds.unsigned_abs());
    let whole = if at.seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    let nanos = Duration::from_nanos(u64::from(at.nanos));
    whole.and_then(|whole| whole.checked_add(nanos)).unwrap_or(SystemTime::UNIX_EPOCH)
}
