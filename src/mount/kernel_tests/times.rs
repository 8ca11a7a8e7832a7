//! Names of times through the kernel, and directories of times that somebody is in.

use std::fs::{self, File};
use std::io::BufRead;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::view::instant_name;

fn version(text: &str) -> Sample {
    Sample::dir([("version", Sample::file(text))])
}

/// A shell in an instant, a directory that is open, and one below it, see to their end what
/// they saw, whatever is published that was taken before; the instant's name shows it all.
#[test]
fn whoever_has_entered_an_instant_stays_in_it() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    library.publish("s", time(-60), &version("1"));
    library.publish("t", time(-50), &version("t"));
    let mounted = Mounted::new(&library);
    let name = instant_name(time(-50));
    let path = mounted.path("at").join(&name);
    let script = "cd latest && ls && cat s/version t/version && echo && read go && \
                  ls && cat s/version t/version && echo && ls new 2>/dev/null; \
                  cd -P s && cat version ../t/version && ls ..";
    let (mut shell, mut said) = mounted.shell(script);
    let mut lines = || {
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        line
    };
    assert_eq!([lines(), lines(), lines()].concat(), "s\nt\n1t\n");
    let (open, below) = (File::open(&path).unwrap(), File::open(path.join("s")).unwrap());
    // Of this one nobody has looked at anything.
    let fresh = File::open(mounted.path("at").join(instant_name(time(-60)))).unwrap();

    library.publish("s", time(-55), &version("late"));
    library.publish("new", time(-70), &version("new"));
    eventually("the name shows what is late", || path.join("new").exists());
    eventually("and all of it", || {
        fs::read_to_string(path.join("s/version")).is_ok_and(|text| text == "late")
    });
    shell.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let rest: Vec<String> = said.lines().map(Result::unwrap).collect();
    assert_eq!(rest.join("\n"), "s\nt\n1t\n1ts\nt");
    assert!(shell.wait().unwrap().success());

    let of = |dir: &File, below: &str| {
        PathBuf::from(format!("/proc/self/fd/{}/{below}", dir.as_raw_fd()))
    };
    let names = |dir: &File| {
        let mut names: Vec<_> =
            fs::read_dir(of(dir, "")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    for _ in 0..2 {
        assert_eq!(names(&open), ["s", "t"]);
        assert_eq!(fs::read_to_string(of(&open, "s/version")).unwrap(), "1");
        assert_eq!(fs::read_to_string(of(&below, "version")).unwrap(), "1");
        assert_eq!(fs::read_to_string(of(&below, "../s/version")).unwrap(), "1");
        assert!(!of(&open, "new").exists());
        assert_eq!(names(&fresh), ["s"]);
    }
    // The two are two directories, for programs that compare numbers too.
    assert_ne!(open.metadata().unwrap().ino(), fs::metadata(&path).unwrap().ino());
    assert_eq!(out(&format!("ls {}", path.display())), "new\ns\nt\n");
    let latest = fs::read_link(mounted.path("latest")).unwrap();
    assert_eq!(latest, Path::new("at").join(&name));
}

/// Every form is a name that a link has, and `readlink` says what was understood.
#[test]
fn links_show_what_was_understood() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    let (old, new) = (UnixTime::new(NOON - 86_400, 123_999_999), time(-1));
    library.publish("s", old, &version("old"));
    library.publish("s", new, &version("new"));
    let mounted = Mounted::new(&library);
    let at = mounted.path("at");
    let (old, new) = (instant_name(old), instant_name(new));
    for (text, target) in [
        ("2026", &new),
        ("2026-11-19", &old),
        ("2026-11-20T11:59", &new),
        ("2026-11-20T11-58", &old),
        ("2026-11-19 12:00:00.123999999 +0000", &old),
        ("2026-11-19T13-00-01+01-00", &old),
        ("2026-11-20T00:59[+01:00]", &old),
        ("2026-11-20T23:59:60Z", &new),
        ("now", &new),
        ("yesterday", &old),
        ("90m-ago", &old),
        ("@1795175999", &new),
        ("@1795175998.999999999", &old),
        ("@9223372036854775807", &new),
        ("9999", &new),
    ] {
        assert_eq!(fs::read_link(at.join(text)).unwrap(), Path::new(target), "{text}");
        assert!(at.join(text).join("s/version").exists(), "{text}");
    }
    let long = "9".repeat(255);
    for text in ["2025", "@-1", "0001", "2026-11-19T11:15:60", "2026-02-30", "soon", &long] {
        let error = fs::symlink_metadata(at.join(text)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{text}");
    }
}

/// What a broken clock claimed is a name like any other, and a time of the directory.
#[test]
fn absurd_times_are_shown_as_they_are() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    let instants = [
        UnixTime::new(i64::MIN, 0),
        UnixTime::new(-62_135_596_801, 999_999_999),
        UnixTime::new(-1, 1),
        UnixTime::new(253_402_300_799, 999_999_999),
        UnixTime::new(253_402_300_800, 0),
        UnixTime::new(i64::MAX, 999_999_999),
    ];
    for at in instants {
        let mut root = version(&instant_name(at));
        root.mtime = at;
        library.publish("s", at, &root);
    }
    let mounted = Mounted::new(&library);
    assert_eq!(fs::read_dir(mounted.path("snapshots/s")).unwrap().count(), instants.len());
    for at in instants {
        let name = instant_name(at);
        for dir in [mounted.path("snapshots/s").join(&name), mounted.path("at").join(&name)] {
            let meta = fs::symlink_metadata(&dir).unwrap();
            assert!(meta.is_dir(), "{name}");
            let shown = UnixTime::new(meta.mtime(), meta.mtime_nsec().try_into().unwrap());
            assert_eq!(shown, at, "{name}");
        }
        let file = mounted.path("at").join(&name).join("s/version");
        assert_eq!(fs::read_to_string(file).unwrap(), name);
    }
    let text = format!("ls -la {}", mounted.path("snapshots/s").display());
    assert_eq!(out(&text).lines().count(), instants.len() + 3);
}
