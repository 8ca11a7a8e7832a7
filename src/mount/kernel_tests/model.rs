//! What names of times show through the kernel, against a model that keeps whole copies.
//!
//! One mount serves all cases, and what one case has published is the past of the next. So
//! the kernel has seen, and keeps, what a late snapshot changes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::view::testing::model::{Seen, Walked, World, instant, steps};

const CASES: u32 = 48;

fn walk(path: &Path, name: &[u8], all: &mut Walked) {
    let meta = fs::symlink_metadata(path).unwrap();
    let (kind, bytes) = match meta.file_type() {
        kind if kind.is_dir() => (FileKind::Dir, Vec::new()),
        kind if kind.is_file() => (FileKind::File, fs::read(path).unwrap()),
        _ => (FileKind::Symlink, fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec()),
    };
    if kind == FileKind::Dir {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let slash: &[u8] = if name.is_empty() { b"" } else { b"/" };
            walk(&entry.path(), &[name, slash, entry.file_name().as_bytes()].concat(), all);
        }
    }
    let seen = Seen {
        kind,
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        mtime: UnixTime::new(meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap()),
        bytes,
    };
    assert_eq!(all.insert(name.to_vec(), seen), None);
}

fn walked(path: &Path) -> Walked {
    let mut all = Walked::new();
    walk(path, b"", &mut all);
    all
}

/// What a directory of `at/` shows.
fn walked_instant(path: &Path) -> BTreeMap<String, Walked> {
    let sources = fs::read_dir(path).unwrap().map(Result::unwrap);
    sources.map(|dir| (dir.file_name().into_string().unwrap(), walked(&dir.path()))).collect()
}

/// The same of a directory that is open, wherever its name leads by now.
fn walked_open(dir: &File) -> BTreeMap<String, Walked> {
    walked_instant(Path::new(&format!("/proc/self/fd/{}/.", dir.as_raw_fd())))
}

#[test]
fn names_of_times_show_what_whole_copies_say() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let mounted = Mounted::new(&world.library);
    let (world, entered) = (RefCell::new(world), RefCell::new(Vec::new()));
    // Each name is written in a way of its own, by digits that are finer than any instant:
    // the kernel keeps what a name led to for a second.
    let (names, shown) = (Cell::new(0_u64), Cell::new(0_i64));
    let name = |at: UnixTime| {
        names.set(names.get() + 1);
        format!("{}{:06}", at.to_seconds(), names.get())
    };
    // Waits until the mount knows everything that was published, and the kernel was told:
    // it is told of one look before the next is taken.
    let settle = || {
        for _ in 0..2 {
            shown.set(shown.get() + 1);
            let text = shown.get().to_string();
            let root = Sample::dir([("text", Sample::file(text.as_str()))]);
            // Later than every instant that is looked at.
            world.borrow().library.publish("shown", time(shown.get()), &root);
            let read = || fs::read_to_string(mounted.path("latest/shown/text"));
            eventually("what was published is shown", || read().is_ok_and(|read| read == text));
        }
    };
    let check = |steps: Vec<_>, times: Vec<UnixTime>| {
        for at in &times {
            let Ok(dir) = File::open(mounted.path("at").join(name(*at))) else { continue };
            entered.borrow_mut().push((dir, world.borrow().at(*at)));
        }
        for step in &steps {
            world.borrow_mut().go(step);
        }
        settle();
        let world = world.borrow();
        for (dir, shown) in entered.borrow().iter() {
            prop_assert_eq!(&walked_open(dir), shown);
        }
        for at in &times {
            let path = mounted.path("at").join(name(*at));
            let expected = world.at(*at);
            prop_assert_eq!(fs::metadata(&path).is_ok(), !expected.is_empty(), "{}", at);
            if !expected.is_empty() {
                prop_assert_eq!(&walked_instant(&path), &expected, "{}", at);
                let target = mounted.path("at").join(fs::read_link(&path).unwrap());
                prop_assert!(fs::symlink_metadata(&target).unwrap().is_dir());
                prop_assert_eq!(&walked_instant(&target), &expected, "{}", at);
            }
        }
        for source in World::sources() {
            for (before, after) in times.iter().zip(times.iter().skip(1)) {
                let pair = mounted.path("changes").join(source);
                let pair = pair.join(format!("{}..{}", name(*before), name(*after)));
                let is_there = fs::metadata(&pair).is_ok();
                let sides =
                    is_there.then(|| ["before", "after"].map(|side| walked(&pair.join(side))));
                prop_assert_eq!(sides, world.changes(source, *before, *after));
            }
        }
        Ok(())
    };
    // A case that failed has changed the past of any other: none smaller can be looked for.
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let cases = (steps(16), proptest::collection::vec(instant(), 2..5));
    runner.run(&cases, |(steps, times)| check(steps, times)).unwrap();
}
