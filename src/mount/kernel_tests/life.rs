//! The life of a mount: what changes under it, what fails, how it ends.

use std::io::{self, BufRead};
use std::os::fd::AsRawFd;
use std::process::Stdio;

use rustix::mount::{MountFlags, UnmountFlags};

use super::*;
use crate::mount::unmount;

/// A state of a source that tells which it is.
fn version(n: &str) -> Sample {
    let only = format!("only{n}");
    Sample::dir([("version", Sample::file(n)), (only.as_str(), Sample::file(n))])
}

fn is_mounted(path: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

/// A new snapshot is what `latest` shows, and whoever is in the old one stays there.
#[test]
fn latest_follows_and_a_shell_inside_stays() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    library.publish("s", time(-60), &version("1"));
    let mounted = Mounted::new(&library);
    let read = || std::fs::read_to_string(mounted.path("latest/s/version")).unwrap();
    let list = |dir: &str| out(&format!("ls {}", mounted.path(dir).display()));
    assert_eq!((read().as_str(), list("at").lines().count()), ("1", 1));
    assert_eq!(list("snapshots/s").lines().count(), 1);
    let (mut shell, mut said) =
        mounted.shell("cd latest/s && echo in && read go && cat version && ls && cat ../s/version");
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "in\n");

    library.publish("s", time(-30), &version("2"));
    library.publish("t", time(-30), &version("t"));
    eventually("latest is the new one", || read() == "2");
    eventually("the instants are listed", || list("at").lines().count() == 1);
    eventually("the snapshots are listed", || list("snapshots/s").lines().count() == 2);
    eventually("the sources are listed", || list("snapshots") == "s\nt\n");
    assert_eq!(list("latest"), "s\nt\n");
    shell.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let rest: Vec<String> = said.lines().map(Result::unwrap).collect();
    assert_eq!(rest.concat(), "1only1version1");
    assert!(shell.wait().unwrap().success());
}

/// A snapshot that was taken before an instant and published after it was listed.
#[test]
fn a_late_snapshot_appears_in_an_instant_that_was_listed() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    library.publish("s", time(-60), &version("1"));
    let mounted = Mounted::new(&library);
    let at = mounted.path("at/2026-11-20T11-59-00.000000000Z");
    let list = || out(&format!("ls {}", at.display()));
    assert_eq!(list(), "s\n");
    assert!(!at.join("late").exists());
    library.publish("late", time(-90), &version("late"));
    eventually("it is listed", || list() == "late\ns\n");
    eventually("it is found", || at.join("late/version").exists());
}

#[test]
fn reports_are_read_anew() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    library.publish("s", time(-60), &version("1"));
    let now = Arc::new(std::sync::atomic::AtomicI64::new(NOON));
    let ticking = Arc::clone(&now);
    let clock = Clock::from_fn(move || {
        UnixTime::new(ticking.load(std::sync::atomic::Ordering::Relaxed), 0)
    });
    let mounted = Mounted::with(&library, MountOptions { clock, ..options() });
    let age = || {
        let text = out(&format!("cat {}", mounted.path(".asof/status.json").display()));
        let status: serde_json::Value = serde_json::from_str(&text).unwrap();
        status["sources"][0]["newest"]["age_seconds"].as_u64().unwrap()
    };
    assert_eq!(age(), 60);
    now.fetch_add(1_000_000, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(age(), 1_000_060);
    let text = out(&format!("cat {}", mounted.path(".asof/counters.json").display()));
    let counters: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(counters["mount"]["reads"].as_u64().unwrap() >= 2, "{counters}");
}

/// One chunk is lost: its file fails, every other byte is served.
#[test]
fn a_lost_chunk_is_an_error_of_its_own_bytes() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    let (good, bad) = (vec![1; 1 << 20], vec![2; 1 << 20]);
    let half = Sample::pieces(vec![Ok(good.clone()), Ok(bad.clone())]);
    let whole = Sample::file(good.clone());
    library.publish("s", time(-60), &Sample::dir([("half", half), ("whole", whole)]));
    library.lose(&bad);
    let mounted = Mounted::new(&library);
    let path = mounted.path("latest/s/half");
    let error = std::fs::read(&path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    let first = out(&format!("head -c 1048576 {} | wc -c", path.display()));
    assert_eq!(first.trim(), "1048576");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 << 20);
    assert_eq!(std::fs::read(mounted.path("latest/s/whole")).unwrap(), good);
}

/// A store that never answers costs EIO after a while and not a process for ever, and
/// what is in memory is served meanwhile.
#[test]
fn a_stuck_store_ends_in_eio() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    let root = Sample::dir([("f", Sample::file(vec![5; 5000])), ("tiny", Sample::file("tiny"))]);
    library.publish("s", time(-60), &root);
    let deadline = Duration::from_millis(100);
    let mounted = Mounted::with(&library, MountOptions { deadline, workers: 2, ..options() });
    let dir = mounted.path("latest/s");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 2);
    library.get_stuck();
    let eio = Some(rustix::io::Errno::IO.raw_os_error());
    for _ in 0..3 {
        assert_eq!(std::fs::read(dir.join("f")).unwrap_err().raw_os_error(), eio);
    }
    assert_eq!(std::fs::metadata(dir.join("f")).unwrap().len(), 5000);
    library.release();
    eventually("it is read again", || std::fs::read(dir.join("f")).is_ok_and(|b| b == [5; 5000]));
}

#[test]
fn a_busy_mount_is_taken_away() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    library.publish("s", time(-60), &version("1"));
    let mut mounted = Mounted::new(&library);
    let inside = std::fs::File::open(mounted.path("latest/s/version")).unwrap();
    mounted.end().unwrap();
    assert!(!is_mounted(mounted.point.path()));
    assert_eq!(std::fs::read_dir(mounted.point.path()).unwrap().count(), 0);
    assert_eq!(inside.metadata().unwrap().len(), 1);
}

#[test]
fn whoever_unmounts_ends_it() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    library.publish("s", time(-60), &version("1"));
    for how in ["umount", "asof umount"] {
        let mut mounted = Mounted::new(&library);
        match how {
            "umount" => assert_eq!(out(&format!("umount {}", mounted.point.path().display())), ""),
            _ => unmount(mounted.point.path()).unwrap(),
        }
        mounted.served.take().unwrap().join().unwrap().unwrap();
        assert!(!is_mounted(mounted.point.path()));
        let again = unmount(mounted.point.path());
        assert!(matches!(again, Err(MountError::NotMounted { .. })), "{again:?}");
    }
}

/// A program that was killed leaves a mount that answers ENOTCONN.
#[test]
fn a_mount_that_died_is_healed() {
    if !can_mount() {
        return;
    }
    let dead = |point: &Path| {
        let device = std::fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let fd = device.as_raw_fd();
        let data = format!("fd={fd},rootmode=40000,user_id=0,group_id=0,subtype=asof");
        let data = std::ffi::CString::new(data).unwrap();
        let flags = MountFlags::RDONLY;
        rustix::mount::mount("asof", point, "fuse", flags, data.as_c_str()).unwrap();
        drop(device);
        let error = std::fs::metadata(point).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NOTCONN.raw_os_error()));
    };
    let library = TestLibrary::new();
    library.publish("s", time(-60), &version("1"));
    let point = TempDir::new().unwrap();
    dead(point.path());
    let mounted = Mounted::on(point, &library, options()).unwrap();
    assert!(mounted.path("latest/s/version").exists());

    let point = TempDir::new().unwrap();
    dead(point.path());
    unmount(point.path()).unwrap();
    assert!(!is_mounted(point.path()));
}

#[test]
fn a_bad_mount_point_is_refused_by_name() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    library.publish("s", time(-60), &version("1"));
    let room = TempDir::new().unwrap();
    let store = room.path().join("store");
    std::fs::create_dir_all(store.join("packs")).unwrap();
    std::os::unix::fs::symlink(&store, room.path().join("link")).unwrap();
    std::fs::write(room.path().join("file"), "").unwrap();
    std::fs::create_dir(room.path().join("fine")).unwrap();
    let options = MountOptions { forbidden: vec![store], ..options() };
    let refused = |path: &str| {
        let path = room.path().join(path);
        let library = Arc::clone(&library);
        let error =
            serve(library, &path, &options, &Stop::new(), || panic!("mounted")).unwrap_err();
        assert!(error.to_string().contains(room.path().to_str().unwrap()), "{error}");
        error
    };
    for over in ["store", "store/packs", "link", "."] {
        assert!(matches!(refused(over), MountError::OverStore { .. }), "{over}");
    }
    assert!(matches!(refused("file"), MountError::NotADirectory { .. }));
    let missing = refused("missing");
    assert_eq!(missing.kind(), crate::base::Kind::NotFound);
    let source = std::error::Error::source(&missing).unwrap();
    assert_eq!(source.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::NotFound);

    let mounted = Mounted::new(&library);
    let path = mounted.point.path();
    let twice = serve(Arc::clone(&library) as _, path, &options, &Stop::new(), || ()).unwrap_err();
    assert!(matches!(twice, MountError::AlreadyMounted { .. }), "{twice}");
}

/// What is at the path by the time the session ends is somebody else's.
#[test]
fn a_detached_session_leaves_the_next_mount_alone() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    library.publish("s", time(-60), &version("1"));
    let mut first = Mounted::new(&library);
    let inside = std::fs::File::open(first.path("latest/s/version")).unwrap();
    first.end().unwrap();
    let path = first.point.path();
    let flags = MountFlags::empty();
    rustix::mount::mount("none", path, "tmpfs", flags, None).unwrap();
    drop(inside);
    std::fs::write(path.join("mine"), "").unwrap();
    assert!(is_mounted(path));
    rustix::mount::unmount(path, UnmountFlags::empty()).unwrap();
}

/// Readers, new snapshots and notifications, all at once, wait for nothing but data.
#[test]
fn many_readers_and_many_snapshots_do_not_hold_each_other_up() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    library.publish("s", time(-1000), &odd_tree());
    let mounted = Mounted::new(&library);
    let walk =
        "for n in 1 2 3 4 5 6 7 8; do find -L . -type f -size -200 -exec cat {} + | wc -c; done";
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let mut shell = Command::new("sh");
            shell.args(["-c", walk]).current_dir(mounted.path("at")).stdout(Stdio::piped());
            shell.stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for n in 0..40 {
        library.publish("s", time(n - 900), &version("n"));
        let seen = format!("at/@{}/s/only{}", NOON + n - 900, "n");
        eventually("it is shown", || mounted.path(&seen).exists());
    }
    for reader in readers {
        assert!(reader.wait_with_output().unwrap().status.success());
    }
}

/// The listing of instants changes at midnight without any new snapshot.
#[test]
fn after_midnight_yesterdays_hours_are_one_day() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    for hour in 1..4 {
        library.publish("s", time(-3600 * hour), &version("1"));
    }
    let now = Arc::new(std::sync::atomic::AtomicI64::new(NOON));
    let ticking = Arc::clone(&now);
    let clock = Clock::from_fn(move || {
        UnixTime::new(ticking.load(std::sync::atomic::Ordering::Relaxed), 0)
    });
    let mounted = Mounted::with(&library, MountOptions { clock, ..options() });
    let list = || out(&format!("ls {}", mounted.path("at").display())).lines().count();
    assert_eq!(list(), 3);
    now.fetch_add(24 * 3600, std::sync::atomic::Ordering::Relaxed);
    eventually("one for the day", || list() == 1);
    assert!(mounted.path("at/2026-11-20T10/s/version").exists());
}
