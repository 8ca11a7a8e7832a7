//! What a tree must be, a line a file: for the golden repositories, whose trees are gone.
//!
//! A line is a path and a letter for the kind, both always, then what there is to say as
//! `key=value`. Bytes that are not plain ASCII are escaped, and so are spaces. The same
//! lines are made from a tree on a disk and from what a repository has.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use asof::base::UnixTime;
use asof::codec::hash::sha256;
use asof::format::node::{Entry, FileKind, Owner};
use asof::repo::browse::each_entry;
use asof::repo::{self, FileContent, Library, SnapshotInfo};

/// A text of at most so many letters and digits stands in the line itself.
const TEXT_MAX: usize = 16;

struct File {
    path: Vec<u8>,
    kind: FileKind,
    mode: u32,
    owner: (u32, u32),
    mtime: UnixTime,
    size: u64,
    holes: u64,
    /// What all names of one file have in common.
    link: Option<(u64, u64)>,
    target: Vec<u8>,
    device: (u32, u32),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    content: Vec<u8>,
}

fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace(' ', "\\x20")
}

fn lines(mut files: Vec<File>) -> Vec<String> {
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut first: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let line = |file: &File| {
        let letter = match file.kind {
            FileKind::File => 'f',
            FileKind::Dir => 'd',
            FileKind::Symlink => 'l',
            FileKind::CharDevice => 'c',
            FileKind::BlockDevice => 'b',
            FileKind::Fifo => 'p',
            FileKind::Socket => 's',
        };
        let mut line = format!("{} {letter}", escaped(&file.path));
        if let Some(link) = file.link {
            let name = first.entry(link).or_insert_with(|| file.path.clone());
            if *name != file.path {
                write!(line, " same={}", escaped(name)).unwrap();
                return line;
            }
        }
        if file.kind == FileKind::Symlink {
            write!(line, " to={}", escaped(&file.target)).unwrap();
        } else {
            write!(line, " mode={:o}", file.mode).unwrap();
        }
        if file.owner != (0, 0) {
            write!(line, " owner={}:{}", file.owner.0, file.owner.1).unwrap();
        }
        write!(line, " mtime={}", file.mtime.seconds).unwrap();
        if file.mtime.nanos != 0 {
            write!(line, ".{:09}", file.mtime.nanos).unwrap();
        }
        if matches!(file.kind, FileKind::CharDevice | FileKind::BlockDevice) {
            write!(line, " device={}:{}", file.device.0, file.device.1).unwrap();
        }
        for (name, value) in &file.xattrs {
            write!(line, " {}={}", escaped(name), escaped(value)).unwrap();
        }
        let is_text = file.content.iter().all(u8::is_ascii_alphanumeric);
        if file.kind == FileKind::File && file.content.len() <= TEXT_MAX && is_text {
            write!(line, " text={}", escaped(&file.content)).unwrap();
        } else if file.kind == FileKind::File {
            let hash = hex::encode(sha256(&file.content));
            write!(line, " size={} sha256={hash}", file.size).unwrap();
        }
        if file.holes > 0 {
            write!(line, " holes={}", file.holes).unwrap();
        }
        line
    };
    files.iter().map(line).collect()
}

/// The lines of a tree on a disk.
pub fn of_tree(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = match meta.file_type() {
            kind if kind.is_dir() => FileKind::Dir,
            kind if kind.is_symlink() => FileKind::Symlink,
            kind if kind.is_char_device() => FileKind::CharDevice,
            kind if kind.is_block_device() => FileKind::BlockDevice,
            kind if kind.is_fifo() => FileKind::Fifo,
            kind if kind.is_socket() => FileKind::Socket,
            _ => FileKind::File,
        };
        if kind == FileKind::Dir {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let is_file = kind == FileKind::File;
        let is_link = kind == FileKind::Symlink;
        let target = is_link.then(|| fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec());
        files.push(File {
            path: path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(),
            kind,
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            mtime: UnixTime::new(meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap()),
            size: meta.size(),
            holes: if is_file { holes(&path, meta.size()) } else { 0 },
            link: (kind != FileKind::Dir && meta.nlink() > 1).then(|| (meta.dev(), meta.ino())),
            target: target.unwrap_or_default(),
            device: (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev())),
            xattrs: xattrs(&path),
            content: if is_file { fs::read(&path).unwrap() } else { Vec::new() },
        });
    }
    lines(files)
}

fn holes(path: &Path, size: u64) -> u64 {
    use rustix::fs::{SeekFrom, seek};
    let file = fs::File::open(path).unwrap();
    let (mut at, mut holes) = (0, 0);
    while at < size {
        let data = seek(&file, SeekFrom::Data(at)).unwrap_or(size);
        holes += data - at;
        at = if data < size { seek(&file, SeekFrom::Hole(data)).unwrap() } else { size };
    }
    holes
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    let mut all: Vec<_> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(length);
            (name.to_vec(), value)
        })
        .collect();
    all.sort();
    all
}

/// The lines of a snapshot, all of whose bytes are read.
pub fn of_snapshot(library: &dyn Library, info: &SnapshotInfo) -> repo::Result<Vec<String>> {
    let root = &info.snapshot.root;
    let owner = info.snapshot.owners[root.owner as usize].clone();
    let mut files = vec![of_entry(library, Vec::new(), root, &owner, &info.refs)?];
    let subtree = root.subtree.unwrap();
    let mut waiting = vec![(Vec::new(), info.refs[subtree.node as usize])];
    while let Some((dir, node)) = waiting.pop() {
        each_entry(library, node, |found| {
            let entry = found.entry();
            let mut path = dir.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&entry.name);
            if let Some(below) = found.dir() {
                waiting.push((path.clone(), below));
            }
            files.push(of_entry(library, path, entry, &found.owner(), found.refs())?);
            Ok::<_, repo::Error>(ControlFlow::<()>::Continue(()))
        })?;
    }
    Ok(lines(files))
}

fn of_entry(
    library: &dyn Library,
    path: Vec<u8>,
    entry: &Entry,
    owner: &Owner,
    refs: &[asof::base::ChunkId],
) -> repo::Result<File> {
    let mut content = Vec::new();
    if entry.kind == FileKind::File {
        let stored = FileContent::of(entry, refs);
        while (content.len() as u64) < stored.size() {
            let bytes = library.read(&stored, content.len() as u64, 1 << 20)?;
            assert!(!bytes.is_empty(), "{} ends too soon", escaped(&path));
            content.extend_from_slice(&bytes);
        }
        if let Some(sha) = &entry.sha256 {
            assert_eq!(sha.as_slice(), sha256(&content), "{}", escaped(&path));
        }
    }
    let xattrs = entry.xattrs.iter().map(|one| (one.name.to_vec(), one.value.to_vec()));
    Ok(File {
        path,
        kind: entry.kind,
        mode: entry.mode,
        owner: (owner.uid, owner.gid),
        mtime: entry.mtime,
        size: entry.size,
        holes: entry.holes,
        link: entry.link.map(|link| (link.device.into(), link.inode)),
        target: entry.target.as_ref().map(|target| target.to_vec()).unwrap_or_default(),
        device: entry.device.unwrap_or_default(),
        xattrs: xattrs.collect(),
        content,
    })
}

/// What a snapshot says of itself, in a line; first of all its id.
pub fn of_info(info: &SnapshotInfo, owner: asof::base::WriterId) -> String {
    let one = &info.snapshot;
    let writer = if info.writer == owner { "owner" } else { "writer" };
    let tags = if one.tags.is_empty() { "-".to_owned() } else { one.tags.join(",") };
    let expires = one.expires.map_or("-".to_owned(), |at| at.to_string());
    let roots: Vec<String> = one.roots.iter().map(|root| escaped(root)).collect();
    format!(
        "{} {} {} {writer} {} {} {} {} tags={tags} expires={expires}",
        one.id,
        one.source,
        info.shown_from(),
        one.kind,
        one.host,
        one.user,
        roots.join(",")
    )
}
