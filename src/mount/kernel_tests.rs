//! The mount on the real kernel, with the programs that people use.
//!
//! Needs `/dev/fuse` and root. Where those are missing the tests say so past
//! libtest's capture and pass, unless `ASOF_TEST_FUSE=must` is set. With
//! `ASOF_TEST_FUSE=user` they run without root; those that need none then pass.
//!
//! Mounting as an ordinary user through `fusermount3` is for the tests of the
//! command line, which run the program as another user.

mod changes;
mod clients;
mod history;
mod life;
mod model;
mod passthrough;
mod push;
mod times;

use std::io::{BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use tempfile::TempDir;

use crate::base::{Clock, Stop, UnixTime};
use crate::format::node::FileKind;
use crate::mount::{MountError, MountOptions, serve};
use crate::view::testing::{Sample, TestLibrary};

/// 2026-11-20T12:00:00Z.
const NOON: i64 = 1_795_176_000;

/// A mount that is taken away when it is dropped.
struct Mounted {
    point: TempDir,
    stop: Stop,
    served: Option<JoinHandle<Result<(), MountError>>>,
}

impl Mounted {
    fn new(library: &Arc<TestLibrary>) -> Mounted {
        Mounted::with(library, options())
    }

    fn with(library: &Arc<TestLibrary>, options: MountOptions) -> Mounted {
        let point = TempDir::new().unwrap();
        Mounted::on(point, library, options).unwrap()
    }

    fn on(
        point: TempDir,
        library: &Arc<TestLibrary>,
        options: MountOptions,
    ) -> Result<Mounted, MountError> {
        let stop = Stop::new();
        let (ready, is_ready) = bounded(1);
        let (library, path, stopped) = (Arc::clone(library), point.path().to_owned(), stop.clone());
        let served = std::thread::spawn(move || {
            serve(library, &path, &options, &stopped, move || ready.send(()).unwrap())
        });
        if is_ready.recv().is_err() {
            return Err(served.join().unwrap().unwrap_err());
        }
        Ok(Mounted { point, stop, served: Some(served) })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.point.path().join(path)
    }

    /// A shell at the root that runs a script, and what it says.
    fn shell(&self, script: &str) -> (Child, BufReader<ChildStdout>) {
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .current_dir(self.point.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(shell.stdout.take().unwrap());
        (shell, said)
    }

    fn end(&mut self) -> Result<(), MountError> {
        self.stop.raise();
        self.served.take().unwrap().join().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.served.is_some() {
            let ended = self.end();
            assert!(std::thread::panicking() || ended.is_ok(), "{ended:?}");
        }
    }
}

fn options() -> MountOptions {
    MountOptions {
        clock: Clock::from_fn(|| UnixTime::new(NOON, 0)),
        refresh_interval: Duration::from_millis(20),
        ..MountOptions::default()
    }
}

/// Whether mounts can be tested here. Says so if not.
fn can_mount() -> bool {
    let wish = std::env::var("ASOF_TEST_FUSE").unwrap_or_default();
    let user = rustix::process::geteuid().is_root() || wish == "user";
    let can = Path::new("/dev/fuse").exists() && user;
    if !can {
        let must = wish == "must";
        assert!(!must, "there is no /dev/fuse, or this is not root");
        let text = "\n*** NOT RUN: tests of the mount need /dev/fuse and root ***\n";
        std::io::stderr().write_all(text.as_bytes()).unwrap();
    }
    can
}

/// Waits until something is so, where no event tells.
fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < end, "never so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn sh(script: &str) -> Output {
    Command::new("sh").args(["-c", script]).env("LC_ALL", "C").output().unwrap()
}

/// What a script prints, if it succeeds and complains of nothing.
#[track_caller]
fn out(script: &str) -> String {
    let output = sh(script);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && errors.is_empty(), "{script}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn time(after_noon: i64) -> UnixTime {
    UnixTime::new(NOON + after_noon, 0)
}

/// One of everything that a file system can have.
fn odd_tree() -> Sample {
    let special = |kind, mode, device| Sample { device, ..Sample::new(kind, mode) };
    let mut old = Sample::file("before 1970");
    old.mtime = UnixTime::new(-1000, 5);
    let mut suid = Sample::file("#!/bin/sh\n");
    suid.mode = 0o6755;
    suid.owner = (0, 0);
    let sparse = vec![Err(1 << 20), Ok(vec![7; 70_000]), Err(4096 * 3), Ok(vec![8; 4096])];
    let acl =
        b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\x0c\0\0\0\x04\0\x04\0\xff\xff\xff\xff\
        \x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    let mut with_acl = Sample::file("acl").xattr("system.posix_acl_access", acl);
    with_acl.mode = 0o640;
    let deep =
        (0..40).fold(Sample::file("deep"), |below, n| Sample::dir([(format!("d{n}"), below)]));
    Sample::dir([
        (b"a file".to_vec(), Sample::file("content")),
        (b"acl".to_vec(), with_acl),
        (b"attr".to_vec(), Sample::file("x").xattr("user.color", b"red\0\xff")),
        (b"big".to_vec(), Sample::pieces((0..40).map(|n| Ok(vec![n; 100_003])).collect())),
        (b"deep".to_vec(), deep),
        (b"dev".to_vec(), special(FileKind::CharDevice, 0o666, Some((1, 3)))),
        (b"disk".to_vec(), special(FileKind::BlockDevice, 0o660, Some((259, 1_000)))),
        (b"empty".to_vec(), Sample::file("")),
        (b"empty dir".to_vec(), Sample::dir::<&str>([])),
        (b"fifo".to_vec(), special(FileKind::Fifo, 0o600, None)),
        (b"link1".to_vec(), Sample::file(vec![9; 300]).linked(4)),
        (b"link2".to_vec(), Sample::file(vec![9; 300]).linked(4)),
        (b"new\nline \xff\xfe".to_vec(), Sample::file("not text")),
        (b"old".to_vec(), old),
        (b"sub".to_vec(), Sample::dir([("link3", Sample::file(vec![9; 300]).linked(4))])),
        (b"socket".to_vec(), special(FileKind::Socket, 0o600, None)),
        (b"sparse".to_vec(), Sample::pieces(sparse)),
        (b"suid".to_vec(), suid),
        (b"symlink".to_vec(), Sample::symlink("a file")),
        (b"dangling".to_vec(), Sample::symlink("/nowhere/at all")),
    ])
}

/// Makes a sample a real tree.
fn make(path: &Path, sample: &Sample, links: &mut std::collections::HashMap<u64, PathBuf>) {
    use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
    if let Some(first) = sample.link.and_then(|link| links.insert(link, path.to_owned())) {
        return std::fs::hard_link(first, path).unwrap();
    }
    let node = |kind| {
        let device = sample.device.map_or(0, |(major, minor)| rustix::fs::makedev(major, minor));
        rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(sample.mode), device).unwrap();
    };
    match sample.kind {
        FileKind::Dir => {
            std::fs::create_dir_all(path).unwrap();
            for (name, child) in &sample.children {
                make(&path.join(std::ffi::OsStr::from_bytes(name)), child, links);
            }
        }
        FileKind::File => {
            use std::io::{Seek, SeekFrom};
            let mut file = std::fs::File::create(path).unwrap();
            for piece in &sample.pieces {
                match piece {
                    Ok(bytes) => file.write_all(bytes).unwrap(),
                    Err(hole) => drop(file.seek(SeekFrom::Current(*hole as i64)).unwrap()),
                }
            }
            file.set_len(sample.size()).unwrap();
        }
        FileKind::Symlink => {
            let target = std::ffi::OsStr::from_bytes(&sample.target);
            std::os::unix::fs::symlink(target, path).unwrap();
        }
        FileKind::CharDevice => node(FileType::CharacterDevice),
        FileKind::BlockDevice => node(FileType::BlockDevice),
        FileKind::Fifo => node(FileType::Fifo),
        FileKind::Socket => node(FileType::Socket),
    }
    let (uid, gid) = (Uid::from_raw(sample.owner.0), Gid::from_raw(sample.owner.1));
    rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).unwrap();
    if sample.kind != FileKind::Symlink {
        let mode = Mode::from_raw_mode(sample.mode);
        rustix::fs::chmodat(CWD, path, mode, AtFlags::empty()).unwrap();
    }
    for (name, value) in &sample.xattrs {
        rustix::fs::lsetxattr(path, name.as_slice(), value, XattrFlags::empty()).unwrap();
    }
    let at = Timespec { tv_sec: sample.mtime.seconds, tv_nsec: i64::from(sample.mtime.nanos) };
    let times = Timestamps { last_access: at, last_modification: at };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
