//! The adapter between the kernel's requests and [`Vfs`]: decode, call, reply.
//!
//! An event loop asks the file system with [`Reach::Memory`], and if the answer is
//! there, sends it. Otherwise the question goes to the [`Pool`] with its reply.
//! So no event loop ever waits for the store.
//!
//! What is asked of the kernel, and why:
//!
//! - with passthrough, OPEN and RELEASE for every file: see [`Copies`];
//! - else no OPEN, OPENDIR, FLUSH, RELEASE and ACCESS: answered ENOSYS once, after which
//!   the kernel does not ask again. That halves the requests of a copy. The kernel
//!   then keeps pages and listings, which is right for what never changes, and for
//!   the rest there is the next point;
//! - `AUTO_INVAL_DATA`: pages and listings are dropped when the modification time
//!   that they were read under is not the current one. Attributes of what cannot
//!   change are good for a day, so this costs nothing there, and it keeps
//!   `.asof/` and `at/` right without notifications;
//! - READDIRPLUS always, not `READDIRPLUS_AUTO`: programs that list a whole
//!   directory before they `stat` anything (`find`, `du`) would pay a round trip
//!   for each file of all but the first piece;
//! - `CACHE_SYMLINKS`: a link of one number never changes its target. `latest` is a
//!   name that is kept for a second, and each target has a number of its own.

mod reply;
mod rows;
mod seats;

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crossbeam_channel::Sender;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};

use crate::format::node::FileKind;
use crate::mount::copies::{COPY_MIN, Copies};
use crate::mount::counters::Counters;
use crate::mount::pool::{Pool, Refusal, Refuse, guarded};
use crate::mount::vfs::{Looked, Vfs};
use crate::repo::Whence;
use crate::view::error::{Error, Reach, Result};

use self::reply::{Counted, Fail, fail, send_xattr};
use self::rows::{absent, file_attr};
pub(super) use self::seats::Seats;

/// Requests of the kernel's own accord (read-ahead) that may be open at a time.
const BACKGROUND_MAX: u16 = 128;
/// The largest read-ahead that is asked for; the device's own setting counts too.
const READ_AHEAD_MAX: u32 = 16 << 20;
/// What `lseek` asks for, as Linux numbers it.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;
/// Handles: of a file that is too small for a copy, of one whose readers' bytes go into a copy,
/// and of one that is passed through to its copy.
const SMALL: FileHandle = FileHandle(0);
const WATCHED: FileHandle = FileHandle(1);
const THROUGH: FileHandle = FileHandle(2);
/// Copies may lie on a file system that lies on another, as in containers.
const BACKING_DEPTH: u32 = 2;
/// A generation that never changes: numbers are not used twice.
const GENERATION: Generation = Generation(0);

/// What is asked of the kernel, and answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asks {
    /// Whether ACLs are enforced, with everything else.
    pub(super) acls: bool,
    /// Whether there are extended attributes.
    pub(super) xattrs: bool,
    /// Whether the kernel is asked for nothing that only makes it faster.
    pub(super) plain: bool,
}

/// The file system as fuser calls it.
pub(super) struct Fuse {
    vfs: Arc<Vfs>,
    pool: Pool,
    asks: Asks,
    seats: Seats,
    /// Plain copies, if large files are passed through.
    copies: Option<Arc<Copies>>,
    no_open: bool,
    no_opendir: bool,
    /// Nothing is ever sent: the other end sees that this is gone.
    _alive: Sender<Infallible>,
}

impl Fuse {
    /// fuser drops it when the last event loop has ended, and `alive` with it.
    pub(super) fn new(
        vfs: Arc<Vfs>,
        pool: Pool,
        asks: Asks,
        seats: Seats,
        copies: Option<Arc<Copies>>,
        alive: Sender<Infallible>,
    ) -> Fuse {
        Fuse { vfs, pool, asks, seats, copies, no_open: false, no_opendir: false, _alive: alive }
    }

    /// Answers from memory, or lets the pool answer.
    fn answer<R: Fail, A: Send + 'static>(
        &self,
        call: &'static str,
        ino: INodeNo,
        reply: R,
        work: impl Fn(&Vfs, Reach) -> Result<A> + Send + 'static,
        send: impl FnOnce(R, A) + Send + 'static,
    ) {
        self.seats.asked();
        match guarded(|| work(&self.vfs, Reach::Memory)) {
            Ok(Ok(answer)) => send(reply, answer),
            Ok(Err(Error::WouldBlock)) => {
                self.count(|c| &c.deferred, 1);
                let vfs = Arc::clone(&self.vfs);
                self.pool.run(
                    self.counted(call, ino, reply),
                    move || (work(&vfs, Reach::Store), vfs),
                    move |counted, (answer, vfs)| match answer {
                        Ok(answer) => send(counted.reply, answer),
                        Err(error) => fail(&vfs, call, ino, counted.reply, &error),
                    },
                );
            }
            Ok(Err(error)) => fail(&self.vfs, call, ino, reply, &error),
            Err(_) => self.counted(call, ino, reply).refuse(Refusal::Panicked),
        }
    }

    fn counted<R>(&self, call: &'static str, ino: INodeNo, reply: R) -> Counted<R> {
        Counted { reply, vfs: Arc::clone(&self.vfs), call, ino }
    }

    fn count(&self, counter: impl Fn(&Counters) -> &AtomicU64, by: u64) {
        Counters::add(counter(self.vfs.counters()), by);
    }
}

#[allow(clippy::too_many_arguments)]
impl Filesystem for Fuse {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let _ = config.set_max_background(BACKGROUND_MAX);
        if let Err(most) = config.set_max_readahead(READ_AHEAD_MAX) {
            let _ = config.set_max_readahead(most);
        }
        let mut wanted = InitFlags::FUSE_ASYNC_READ | InitFlags::FUSE_AUTO_INVAL_DATA;
        if !self.asks.plain {
            wanted |= InitFlags::FUSE_PARALLEL_DIROPS
                | InitFlags::FUSE_DO_READDIRPLUS
                | InitFlags::FUSE_CACHE_SYMLINKS
                | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
            if self.copies.is_none() {
                wanted |= InitFlags::FUSE_NO_OPEN_SUPPORT;
            }
        }
        if self.copies.is_some() {
            wanted |= InitFlags::FUSE_PASSTHROUGH;
        }
        if self.asks.acls {
            wanted |= InitFlags::FUSE_POSIX_ACL;
        }
        let granted = wanted & config.capabilities();
        let _ = config.add_capabilities(granted);
        if granted != wanted {
            tracing::info!(missing = ?(wanted - granted), "the kernel cannot do everything asked of it");
        }
        if self.copies.is_some() {
            match granted.contains(InitFlags::FUSE_PASSTHROUGH) {
                true => drop(config.set_max_stack_depth(BACKING_DEPTH)),
                false => self.copies = None,
            }
        }
        self.no_open = granted.contains(InitFlags::FUSE_NO_OPEN_SUPPORT);
        self.no_opendir = granted.contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        Ok(())
    }

    fn lookup(&self, _: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.count(|c| &c.lookups, 1);
        let name = name.as_bytes().to_vec();
        self.answer(
            "lookup",
            dir,
            reply,
            move |vfs, reach| vfs.lookup(dir.0, &name, reach),
            |reply, looked| match looked {
                Looked::Found(entry) => reply.entry_with_ttls(
                    &entry.attr_time,
                    &entry.name_time,
                    &file_attr(&entry.attr),
                    GENERATION,
                ),
                // Number 0 lets the kernel remember that there is nothing.
                Looked::Absent(Duration::ZERO) => reply.error(Errno::ENOENT),
                Looked::Absent(time) => reply.entry(&time, &absent(), GENERATION),
            },
        );
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.count(|c| &c.getattrs, 1);
        self.answer(
            "getattr",
            ino,
            reply,
            move |vfs, reach| vfs.getattr(ino.0, reach),
            |reply, entry| reply.attr(&entry.attr_time, &file_attr(&entry.attr)),
        );
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        self.count(|c| &c.readlinks, 1);
        self.answer(
            "readlink",
            ino,
            reply,
            move |vfs, reach| vfs.readlink(ino.0, reach),
            |reply, target| reply.data(&target),
        );
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let keep = FopenFlags::FOPEN_KEEP_CACHE;
        let Some(copies) = self.copies.clone() else {
            return match self.no_open {
                true => reply.error(Errno::ENOSYS),
                false => reply.opened(SMALL, keep),
            };
        };
        let own = Arc::clone(&copies);
        self.answer(
            "open",
            ino,
            reply,
            move |vfs, reach| {
                match reach {
                    Reach::Memory if own.is_filling(ino.0) => return Err(Error::WouldBlock),
                    Reach::Memory => {}
                    Reach::Store => own.await_filled(ino.0),
                }
                vfs.getattr(ino.0, reach)
            },
            move |reply, entry| {
                let size = entry.attr.size;
                if entry.attr.kind != FileKind::File || size < COPY_MIN {
                    return reply.opened(SMALL, keep);
                }
                match copies.open(ino.0, size, |file| reply.open_backing(file)) {
                    Some(backing) => {
                        reply.opened_passthrough(THROUGH, FopenFlags::empty(), &backing);
                    }
                    None => reply.opened(WATCHED, keep),
                }
            },
        );
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        if let Some(copies) = &self.copies
            && handle != SMALL
        {
            copies.close(ino.0, handle == THROUGH);
        }
        reply.ok();
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.no_opendir {
            reply.error(Errno::ENOSYS);
        } else {
            let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR;
            reply.opened(FileHandle(0), flags);
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let copies = self.copies.clone().filter(|_| handle == WATCHED);
        self.count(|c| &c.reads, 1);
        self.count(|c| &c.read_bytes, u64::from(size));
        self.answer(
            "read",
            ino,
            reply,
            move |vfs, reach| vfs.read(ino.0, offset, size, reach),
            move |reply, bytes| {
                if let Some(copies) = copies {
                    copies.offer(ino.0, offset, &bytes);
                }
                reply.data(&bytes);
            },
        );
    }

    fn readdir(&self, _: &Request, dir: INodeNo, _: FileHandle, after: u64, reply: ReplyDirectory) {
        self.rows("readdir", dir, after, reply);
    }

    fn readdirplus(
        &self,
        _: &Request,
        dir: INodeNo,
        _: FileHandle,
        after: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.rows("readdirplus", dir, after, reply);
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let whence = match whence {
            SEEK_DATA => Whence::Data,
            SEEK_HOLE => Whence::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        self.answer(
            "lseek",
            ino,
            reply,
            move |vfs, reach| vfs.lseek(ino.0, offset, whence, reach),
            |reply, at| match i64::try_from(at) {
                Ok(at) => reply.offset(at),
                Err(_) => reply.error(Errno::EOVERFLOW),
            },
        );
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if !self.asks.xattrs {
            return reply.error(Errno::ENOSYS);
        }
        self.count(|c| &c.xattrs, 1);
        let name = name.as_bytes().to_vec();
        self.answer(
            "getxattr",
            ino,
            reply,
            move |vfs, reach| vfs.getxattr(ino.0, &name, reach),
            move |reply, value| send_xattr(reply, &value, size),
        );
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        if !self.asks.xattrs {
            return reply.error(Errno::ENOSYS);
        }
        self.count(|c| &c.xattrs, 1);
        self.answer(
            "listxattr",
            ino,
            reply,
            move |vfs, reach| vfs.listxattr(ino.0, reach),
            move |reply, names| send_xattr(reply, &names, size),
        );
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        self.answer("statfs", ino, reply, Vfs::statfs, |reply, total| {
            reply.statfs(total.bytes.div_ceil(4096), 0, 0, total.files, 0, 4096, 255, 4096);
        });
    }

    /// What may be done the kernel decides: by mode and owner with `--allow-other`,
    /// else everything, by whoever mounted.
    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    // Everything from here on would change something. The kernel knows that the
    // mount is read-only and asks none of it, unless it was remounted.

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<std::time::SystemTime>,
        _: Option<FileHandle>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<std::time::SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &std::path::Path, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }

    fn setxattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: &[u8],
        _: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::EROFS);
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }
}
