//! Large files as plain copies: the kernel reads them by itself, and they are right.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicI64, Ordering};

use super::push::counter;
use super::*;
use crate::mount::PassthroughOptions;
use crate::mount::copies::COPY_MIN;

pub(super) fn with_copies(bytes_max: u64) -> (TempDir, MountOptions) {
    let dir = TempDir::new().unwrap();
    let passthrough = Some(PassthroughOptions { dir: dir.path().join("plain"), bytes_max });
    // It is later whenever somebody looks: reports are made anew once a second.
    let looks = AtomicI64::new(NOON);
    let clock = Clock::from_fn(move || UnixTime::new(looks.fetch_add(1, Ordering::Relaxed), 0));
    (dir, MountOptions { passthrough, clock, ..options() })
}

/// Noise of that length in pieces, with a hole in it.
fn large(seed: u8, length: usize) -> (Sample, Vec<u8>) {
    let mut bytes: Vec<u8> = (0..length).map(|n| (n * 31 / 7) as u8 ^ seed).collect();
    let hole = 1 << 16..(1 << 16) + 8192;
    bytes[hole.clone()].fill(0);
    let mut pieces = vec![Ok(bytes[..hole.start].to_vec()), Err(hole.len() as u64)];
    pieces.extend(bytes[hole.end..].chunks(700_001).map(|piece| Ok(piece.to_vec())));
    (Sample::pieces(pieces), bytes)
}

#[test]
fn a_large_file_that_was_read_is_not_asked_for_again() {
    if !can_mount() {
        return;
    }
    let length = COPY_MIN as usize + 12_345;
    let ((sample, bytes), library) = (large(3, length), TestLibrary::new());
    let root = Sample::dir([("large", sample), ("small", Sample::file("small"))]);
    library.publish("s", time(-60), &root);
    let (_dir, options) = with_copies(1 << 30);
    let mounted = Mounted::with(&library, options);
    let large = mounted.path("latest/s/large");
    assert!(std::fs::read(&large).unwrap() == bytes);
    // What came too fast is filled in when the reader has gone.
    eventually("there is a copy", || counter(&mounted, "copied") == 1);
    eventually("it is passed through", || {
        assert!(std::fs::read(&large).unwrap() == bytes);
        counter(&mounted, "passed") > 0
    });
    // Several handles at a time, and other files beside.
    let one = File::open(&large).unwrap();
    let mut two = File::open(&large).unwrap();
    let mut piece = vec![0; 10_000];
    one.read_exact_at(&mut piece, 1_000_000).unwrap();
    assert!(piece == bytes[1_000_000..1_010_000]);
    drop(one);
    let mut all = Vec::new();
    two.read_to_end(&mut all).unwrap();
    assert!(all == bytes);
    assert_eq!(std::fs::read(mounted.path("latest/s/small")).unwrap(), b"small");
}

/// More than may be kept is shown all the same.
#[test]
fn copies_stay_within_their_bound() {
    if !can_mount() {
        return;
    }
    let (files, library) =
        ((0..12).map(|n| large(n, COPY_MIN as usize)).collect::<Vec<_>>(), TestLibrary::new());
    let root = files.iter().enumerate().map(|(n, (sample, _))| (n.to_string(), sample.clone()));
    library.publish("s", time(-60), &Sample::dir(root));
    let (_dir, options) = with_copies(COPY_MIN);
    let mounted = Mounted::with(&library, options);
    let path = |n: usize| mounted.path("latest/s").join(n.to_string());
    let read = |n: usize| assert!(std::fs::read(path(n)).unwrap() == files[n].1, "{n}");
    // While the first is open it keeps its copy, and no other gets one.
    let held = File::open(path(0)).unwrap();
    read(0);
    read(1);
    drop(held);
    eventually("the copy of the first", || counter(&mounted, "copied") == 1);
    // When it was closed it gives way. The kernel tells of that later, so those that are
    // opened next may be too early.
    let mut fresh = 2..files.len();
    eventually("another copy", || {
        fresh.next().into_iter().for_each(&read);
        counter(&mounted, "copied") > 1
    });
    (0..files.len()).for_each(&read);
}

/// Where no file can be made the mount says so at once.
#[test]
fn a_directory_that_takes_no_files_is_an_error() {
    if !can_mount() {
        return;
    }
    let library = TestLibrary::new();
    library.publish("s", time(-60), &Sample::dir([("f", Sample::file("x"))]));
    let (dir, options) = with_copies(1 << 30);
    std::fs::write(dir.path().join("plain"), "in the way").unwrap();
    let error = Mounted::on(TempDir::new().unwrap(), &library, options).err().unwrap();
    assert!(matches!(error, MountError::Point { .. }), "{error}");
}
