//! `follow` of a database on a file system that a program serves, as sshfs and many others
//! are: whoever writes on the other side of it is not seen here, so it is copied and not
//! followed. Needs `/dev/fuse`, and says so if it is missing.
//!
//! The test is the program that serves, and the machine on the other side: it writes to the
//! directory that is served, and never goes through the mount itself.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, OpenFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyWrite, Request, Session, TimeOrNow, WriteFlags,
};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::bench::Bench;
use crate::follow::Following;

#[test]
fn what_others_may_change_unseen_is_copied_and_not_followed() {
    if !Path::new("/dev/fuse").exists() {
        eprintln!("NOT RUN: there is no /dev/fuse here, so nothing was mounted");
        return;
    }
    let bench = Bench::with_repository();
    for name in ["other", "here"] {
        fs::create_dir(bench.path(name)).unwrap();
    }
    let _served = Through::serve(&bench.path("other"), &bench.path("here"));
    bench.asof(["source", "add", "shop", "sqlite:here/kv.db"]).exits(0);
    for value in 1..=2 {
        // Closed, so that all of it is in the file: a log that is in use on two machines is
        // beyond what SQLite can do.
        let db = Connection::open(bench.path("other/kv.db")).unwrap();
        let begin = "PRAGMA journal_mode = wal; CREATE TABLE IF NOT EXISTS n (v)";
        db.execute_batch(begin).unwrap();
        db.execute("INSERT INTO n VALUES (?1)", [value]).unwrap();
        db.close().unwrap();

        let told = followed_until(&bench, "asof: shop: active\n");
        assert!(told.contains("(FUSE)"), "{told}");
        assert!(told.contains("it is copied as a whole every"), "{told}");
        let status: Value =
            serde_json::from_slice(&fs::read(bench.path("status.json")).unwrap()).unwrap();
        let error = status["sources"][0]["last_error"]["message"].as_str().unwrap();
        assert!(error.contains("(FUSE)"), "{status}");
        let left = fs::read_dir(bench.path("other")).unwrap().count();
        assert_eq!(left, 1, "nothing is made beside it");
    }
    // No transaction of it is said to be known.
    bench.asof(["log", "shop"]).exits(1).tells("was never followed");
    assert_eq!(bench.snapshots(), 2);
    bench.asof(["restore", "shop", "--target", "out"]).exits(0);
    let db = Connection::open(bench.path("out/kv.db")).unwrap();
    let values: i64 = db.query_row("SELECT count(*) FROM n", [], |row| row.get(0)).unwrap();
    assert_eq!(values, 2);

    // Whoever opens a log that others have mapped, and sees none of their locks, begins its
    // index anew under their hands.
    let db = Connection::open(bench.path("other/kv.db")).unwrap();
    db.execute("INSERT INTO n VALUES (3)", []).unwrap();
    let told = followed_until(&bench, "which a copy would break; run asof there\n");
    assert!(!told.contains("active"), "{told}");
    db.execute("INSERT INTO n VALUES (4)", []).unwrap();
    let values: i64 = db.query_row("SELECT count(*) FROM n", [], |row| row.get(0)).unwrap();
    assert_eq!(values, 4);
    assert_eq!(bench.snapshots(), 2);
}

/// What it says while it follows the source, which it does until it says that.
fn followed_until(bench: &Bench, end: &str) -> String {
    let mut command = bench.command();
    command.args(["follow", "shop", "--status-file"]).arg(bench.path("status.json"));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut following = Following(command.spawn().unwrap());
    let mut told = BufReader::new(following.0.stderr.take().unwrap());
    let mut lines = String::new();
    while !lines.ends_with(end) {
        assert_ne!(told.read_line(&mut lines).unwrap(), 0, "it ended: {lines}");
    }
    kill_process(Pid::from_child(&following.0), Signal::TERM).unwrap();
    told.read_to_string(&mut lines).unwrap();
    assert_eq!(following.0.wait().unwrap().code(), Some(0), "{lines}");
    lines
}

/// The files of a directory, without those below it, for others to read and write.
struct Through {
    dir: PathBuf,
    /// By inode number, from the one behind the root's.
    names: Mutex<Vec<OsString>>,
}

/// Nobody is told of what changes, so nobody may remember.
const AT_ONCE: Duration = Duration::ZERO;
const GENERATION: Generation = Generation(0);
const ROOT: INodeNo = INodeNo(1);

impl Through {
    fn serve(dir: &Path, mountpoint: &Path) -> BackgroundSession {
        let through = Through { dir: dir.to_owned(), names: Mutex::default() };
        let session = Session::new(through, mountpoint, &Config::default()).unwrap();
        session.spawn().unwrap()
    }

    /// The number of a name, the same every time.
    fn number(&self, name: &OsStr) -> INodeNo {
        let mut names = self.names.lock().unwrap();
        let place = names.iter().position(|known| known == name).unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        INodeNo(place as u64 + 2)
    }

    fn path(&self, ino: INodeNo) -> PathBuf {
        match ino {
            ROOT => self.dir.clone(),
            _ => self.dir.join(&self.names.lock().unwrap()[ino.0 as usize - 2]),
        }
    }

    fn attr(&self, ino: INodeNo) -> io::Result<FileAttr> {
        Ok(attr(ino, &fs::metadata(self.path(ino))?))
    }
}

fn attr(ino: INodeNo, meta: &Metadata) -> FileAttr {
    FileAttr {
        ino,
        size: meta.len(),
        blocks: meta.blocks(),
        atime: meta.modified().unwrap(),
        mtime: meta.modified().unwrap(),
        ctime: meta.modified().unwrap(),
        crtime: meta.modified().unwrap(),
        kind: FileType::from_std(meta.file_type()).unwrap(),
        perm: (meta.mode() & 0o7777) as u16,
        nlink: 1,
        uid: meta.uid(),
        gid: meta.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Through {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attr(self.number(name)) {
            Ok(attr) => reply.entry(&AT_ONCE, &attr, GENERATION),
            Err(error) => reply.error(error.into()),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(ino) {
            Ok(attr) => reply.attr(&AT_ONCE, &attr),
            Err(error) => reply.error(error.into()),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let cut = |size| OpenOptions::new().write(true).open(self.path(ino))?.set_len(size);
        match size.map_or(Ok(()), cut).and_then(|()| self.attr(ino)) {
            Ok(attr) => reply.attr(&AT_ONCE, &attr),
            Err(error) => reply.error(error.into()),
        }
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let ino = self.number(name);
        match File::create_new(self.path(ino)).and_then(|_| self.attr(ino)) {
            Ok(attr) => {
                reply.created(&AT_ONCE, &attr, GENERATION, FileHandle(0), FopenFlags::empty());
            }
            Err(error) => reply.error(error.into()),
        }
    }

    fn unlink(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match fs::remove_file(self.dir.join(name)) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error.into()),
        }
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
        let mut bytes = vec![0; size as usize];
        let file = File::open(self.path(ino));
        match file.and_then(|file| file.read_at(&mut bytes, offset)) {
            Ok(read) => reply.data(&bytes[..read]),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let file = OpenOptions::new().write(true).open(self.path(ino));
        match file.and_then(|file| file.write_all_at(data, offset)) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error.into()),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}
