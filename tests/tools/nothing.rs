//! A file system that does nothing, for `scripts/bench`: what the kernel itself allows.
//!
//! `nothing TREE MOUNTPOINT`: reads a tree into memory, then mounts it and serves it until
//! standard input ends.
//!
//! No work stands behind an answer, and everything that spares the kernel questions is
//! done: attributes come with the names, nothing is opened, and the contents of small
//! files are pushed into the kernel's page cache when it has come to the end of their
//! directory. The kernel knows the files by then, and takes nothing for those that it
//! does not know. The reply that tells it of the end waits until they are pushed, since a
//! reader who goes on would ask for them.
//!
//! Extended attributes are answered as asof has to answer them: there are none. To say
//! once that the file system has none would spare a copy two questions for each file,
//! and no file system that keeps attributes can say so.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Receiver, Sender, unbounded};
use fuser::{
    AccessFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, MountOption, Notifier, OpenFlags, ReplyAttr, ReplyData,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyXattr, Request, Session,
};

/// Longer files are read where they are, and not pushed. Bytes.
const SMALL_MAX: u64 = 1 << 20;
/// Nothing changes.
const FOR_EVER: Duration = Duration::from_secs(86_400);
const GENERATION: Generation = Generation(0);
/// As many as asof has, and as many requests of the kernel's own accord.
const THREADS: usize = 2;
const BACKGROUND_MAX: u16 = 128;
const READ_AHEAD_MAX: u32 = 1 << 20;

fn main() -> Result<()> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [tree, mountpoint] = args.as_slice() else { bail!("nothing TREE MOUNTPOINT") };
    let mut items = Vec::new();
    load(&mut items, tree, OsString::new(), 0)?;
    let items: Arc<[Item]> = items.into();
    let (pusher, wanted) = unbounded();
    let fuse = Nothing { items: Arc::clone(&items), pusher };
    let mut config = Config::default();
    config.mount_options = vec![MountOption::RO, MountOption::FSName("nothing".to_owned())];
    config.n_threads = Some(THREADS);
    let session = Session::new(fuse, mountpoint, &config).context("cannot mount")?;
    let notifier = session.notifier();
    std::thread::spawn(move || push(&items, &notifier, &wanted));
    let served = session.spawn()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    served.umount_and_join()?;
    Ok(())
}

/// A file or directory of the tree.
struct Item {
    attr: FileAttr,
    name: OsString,
    parent: usize,
    body: Body,
}

enum Body {
    /// What is in it, in the order of names.
    Directory(Vec<usize>),
    Small(Vec<u8>),
    Large(File),
    Link(OsString),
    Other,
}

/// Appends an item with all that is below it. Its number is its place, from which its
/// inode number follows.
fn load(items: &mut Vec<Item>, path: &Path, name: OsString, parent: usize) -> Result<usize> {
    let place = items.len();
    let meta = fs::symlink_metadata(path).with_context(|| path.display().to_string())?;
    let kind = FileType::from_std(meta.file_type()).context("a file of no known type")?;
    let body = match kind {
        FileType::RegularFile if meta.len() <= SMALL_MAX => Body::Small(fs::read(path)?),
        FileType::RegularFile => Body::Large(File::open(path)?),
        FileType::Symlink => Body::Link(fs::read_link(path)?.into_os_string()),
        _ => Body::Other,
    };
    items.push(Item { attr: attr(place, kind, &meta), name, parent, body });
    if kind == FileType::Directory {
        let mut names =
            fs::read_dir(path)?.map(|e| Ok(e?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        let children = names.into_iter().map(|name| load(items, &path.join(&name), name, place));
        items[place].body = Body::Directory(children.collect::<Result<_>>()?);
    }
    Ok(place)
}

fn attr(place: usize, kind: FileType, meta: &Metadata) -> FileAttr {
    let modified = meta.modified().unwrap_or(std::time::UNIX_EPOCH);
    FileAttr {
        ino: number(place),
        size: meta.len(),
        blocks: meta.len().div_ceil(512),
        atime: modified,
        mtime: modified,
        ctime: modified,
        crtime: modified,
        kind,
        perm: (meta.mode() & 0o7777) as u16,
        nlink: if kind == FileType::Directory { meta.nlink() as u32 } else { 1 },
        uid: meta.uid(),
        gid: meta.gid(),
        rdev: meta.rdev() as u32,
        blksize: 131_072,
        flags: 0,
    }
}

fn number(place: usize) -> INodeNo {
    INodeNo(place as u64 + 1)
}

/// Pushes directory after directory. This thread answers no READ, since a push waits for
/// pages of which a READ is under way.
fn push(items: &[Item], notifier: &Notifier, wanted: &Receiver<(usize, ReplyDirectoryPlus)>) {
    for (directory, reply) in wanted {
        if let Body::Directory(children) = &items[directory].body {
            for &child in children {
                if let Body::Small(bytes) = &items[child].body
                    && !bytes.is_empty()
                {
                    // What is not pushed is read.
                    let _ = notifier.store(number(child), 0, bytes);
                }
            }
        }
        reply.ok();
    }
}

struct Nothing {
    items: Arc<[Item]>,
    pusher: Sender<(usize, ReplyDirectoryPlus)>,
}

impl Nothing {
    /// The kernel asks only for what it was told of.
    fn item(&self, ino: INodeNo) -> &Item {
        &self.items[ino.0 as usize - 1]
    }
}

impl Filesystem for Nothing {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let _ = config.set_max_background(BACKGROUND_MAX);
        if let Err(most) = config.set_max_readahead(READ_AHEAD_MAX) {
            let _ = config.set_max_readahead(most);
        }
        let wanted = InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_NO_OPEN_SUPPORT
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        let refused = |missing| io::Error::other(format!("the kernel cannot do {missing:?}"));
        config.add_capabilities(wanted).map_err(refused)
    }

    fn lookup(&self, _: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let Body::Directory(children) = &self.item(dir).body else {
            return reply.error(Errno::ENOTDIR);
        };
        match children.binary_search_by_key(&name, |&child| &self.items[child].name) {
            Ok(at) => reply.entry(&FOR_EVER, &self.items[children[at]].attr, GENERATION),
            Err(_) => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOR_EVER, &self.item(ino).attr);
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match &self.item(ino).body {
            Body::Link(target) => reply.data(target.as_bytes()),
            _ => reply.error(Errno::EINVAL),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let item = self.item(ino);
        let end = item.attr.size.min(offset + u64::from(size));
        let start = offset.min(end);
        match &item.body {
            Body::Small(bytes) => reply.data(&bytes[start as usize..end as usize]),
            Body::Large(file) => {
                let mut bytes = vec![0; (end - start) as usize];
                match file.read_exact_at(&mut bytes, offset) {
                    Ok(()) => reply.data(&bytes),
                    Err(_) => reply.error(Errno::EIO),
                }
            }
            _ => reply.error(Errno::EINVAL),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        after: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let item = self.item(ino);
        let Body::Directory(children) = &item.body else { return reply.error(Errno::ENOTDIR) };
        let above = &self.items[item.parent];
        let dots = [(OsStr::new("."), item), (OsStr::new(".."), above)];
        let below = children.iter().map(|&child| &self.items[child]);
        let rows = dots.into_iter().chain(below.map(|item| (item.name.as_os_str(), item)));
        if (after as usize) < 2 + children.len() {
            for (place, (name, item)) in rows.enumerate().skip(after as usize) {
                let next = place as u64 + 1;
                if reply.add(item.attr.ino, next, name, &FOR_EVER, &item.attr, GENERATION) {
                    break;
                }
            }
            return reply.ok();
        }
        // The kernel has all entries and asks for more. If nobody pushes any longer, the
        // mount has ended.
        let place = ino.0 as usize - 1;
        if let Err(unsent) = self.pusher.send((place, reply)) {
            unsent.into_inner().1.ok();
        }
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENODATA);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, size: u32, reply: ReplyXattr) {
        match size {
            0 => reply.size(0),
            _ => reply.data(&[]),
        }
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}
