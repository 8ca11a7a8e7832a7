use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicUsize;

use tempfile::TempDir;

use super::*;
use crate::base::{ChunkId, UnixTime};
use crate::format::extents::INLINE_MAX;
use crate::ops::select::at_path;
use crate::view::testing::{Sample, TestLibrary};
use crate::{source, target};

/// Files of `bytes` and one, two, three and so on bytes more.
fn files(count: usize, bytes: usize) -> Vec<Vec<u8>> {
    (1..=count).map(|n| vec![u8::try_from(n % 251).unwrap(); bytes + n]).collect()
}

fn name(n: usize) -> String {
    format!("file-{n:04}")
}

/// A directory of files by their numbers.
fn publish(library: &TestLibrary, files: &[Vec<u8>]) -> Arc<repo::SnapshotInfo> {
    let samples = files.iter().enumerate().map(|(n, bytes)| (name(n), Sample::file(&bytes[..])));
    library.publish("s", UnixTime::new(1, 0), &Sample::dir(samples))
}

fn options(to: &TempDir) -> RestoreOptions {
    let target = to.path().join("restored");
    RestoreOptions { target, no_owner: true, ..RestoreOptions::default() }
}

fn restore_with(
    library: &Arc<TestLibrary>,
    info: Arc<repo::SnapshotInfo>,
    options: &RestoreOptions,
    progress: Progress,
    stop: &Stop,
) -> Result<RestoreReport> {
    let selected = at_path(library.as_ref(), info, b"").unwrap();
    let library: Arc<dyn Library> = Arc::clone(library) as _;
    restore(&library, &selected, options, &Arc::new(progress), stop)
}

fn restore_all(
    library: &Arc<TestLibrary>,
    info: Arc<repo::SnapshotInfo>,
    options: &RestoreOptions,
) -> RestoreReport {
    restore_with(library, info, options, Progress::silent(), &Stop::new()).unwrap()
}

/// The numbers of the files that are there, whole or not.
fn restored(to: &TempDir, files: &[Vec<u8>]) -> Vec<usize> {
    let dir = to.path().join("restored");
    let is_there = |n: &usize| {
        let bytes = std::fs::read(dir.join(name(*n))).ok();
        bytes.is_some_and(|bytes| bytes == files[*n])
    };
    let whole: Vec<usize> = (0..files.len()).filter(is_there).collect();
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), whole.len(), "nothing else is there");
    whole
}

#[test]
fn every_file_is_written_and_hinted_once() {
    let (library, to) = (TestLibrary::new(), tempfile::tempdir().unwrap());
    let files = files(2 * plan::ORDERED_FILES + 5, 0);
    let info = publish(&library, &files);
    let report = restore_all(&library, info, &options(&to));
    assert_eq!((report.files, report.errors), (files.len() as u64, 0));
    assert_eq!(restored(&to, &files).len(), files.len());
    let mut hinted = std::mem::take(&mut *library.prefetched.lock().unwrap());
    hinted.sort_unstable();
    assert_eq!(hinted, files.iter().map(|bytes| bytes.len() as u64).collect::<Vec<_>>());
}

/// Sizes are claims of somebody else, so they may be any.
#[test]
fn a_group_ends_with_the_file_that_makes_it_large() {
    let attributes = target::Attributes {
        kind: source::FileKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        user: None,
        group: None,
        mtime: UnixTime::new(0, 0),
        xattrs: Vec::new(),
    };
    let job = |bytes: &u64| files::FileJob {
        path: Vec::new(),
        content: repo::FileContent::Tree(ChunkId([0; 32]), *bytes),
        sha256: None,
        attributes: attributes.clone(),
        linked: false,
        fresh: true,
    };
    let sizes = [&[1, u64::MAX, 600 << 10, 600 << 10][..], &[1; plan::GROUP_FILES + 1]].concat();
    let mut jobs = sizes.iter().map(job);
    let mut next = || plan::next_group(&mut jobs).len();
    assert_eq!([next(), next(), next(), next(), next()], [2, 2, plan::GROUP_FILES, 1, 0]);
}

#[test]
fn a_file_that_fails_leaves_the_others_of_its_group() {
    let (library, to) = (TestLibrary::new(), tempfile::tempdir().unwrap());
    let files = files(plan::GROUP_FILES, INLINE_MAX);
    let info = publish(&library, &files);
    library.lose(&files[3]);
    let report = restore_all(&library, info, &options(&to));
    assert_eq!((report.files, report.errors), (files.len() as u64 - 1, 1));
    let others: Vec<usize> = (0..files.len()).filter(|n| *n != 3).collect();
    assert_eq!(restored(&to, &files), others);
}

/// The problem of one file is the moment at which the restore is stopped.
#[test]
fn a_stop_in_the_middle_of_a_group_leaves_its_other_files_unwritten() {
    let (library, to) = (TestLibrary::new(), tempfile::tempdir().unwrap());
    let files = files(plan::GROUP_FILES, INLINE_MAX);
    let info = publish(&library, &files);
    library.lose(&files[3]);
    let stop = Stop::new();
    let (raised, problems) = (stop.clone(), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&problems);
    let progress = Progress::with_sink(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
        raised.raise();
    });
    let error = restore_with(&library, info, &options(&to), progress, &stop).unwrap_err();
    assert_eq!(error.kind(), crate::base::Kind::Interrupted);
    assert_eq!(restored(&to, &files), [0, 1, 2]);
    assert_eq!(problems.load(Ordering::Relaxed), 1, "that they are not is no problem of theirs");
}

/// Here the problem of one file is where its writer panics: each writer meets one, and the
/// groups left over are handed to nobody.
#[test]
fn writers_that_panic_end_the_restore() {
    let (library, to) = (TestLibrary::new(), tempfile::tempdir().unwrap());
    let files = files(2 * plan::ORDERED_FILES, INLINE_MAX);
    let info = publish(&library, &files);
    files.iter().step_by(plan::GROUP_FILES).for_each(|bytes| library.lose(bytes));
    let progress = Progress::with_sink(|_| panic!("this writer goes no further"));
    let restore = || restore_with(&library, info, &options(&to), progress, &Stop::new());
    assert!(catch_unwind(AssertUnwindSafe(restore)).is_err());
    assert_eq!(restored(&to, &files), [0; 0]);
}

#[test]
fn a_writer_that_is_gone_is_not_waited_for() {
    let underway = files::Underway::default();
    let group = underway.one_more();
    let writer = std::thread::spawn(move || {
        let _group = group;
        panic!("this writer goes no further");
    });
    assert!(writer.join().is_err());
    underway.wait();
}

/// Two directories, one in the other, and a file in that.
fn publish_deep(library: &TestLibrary) -> Arc<repo::SnapshotInfo> {
    let below = Sample::dir([("file", Sample::file("deep"))]);
    let above = Sample::dir([("below", below), ("else", Sample::file("else"))]);
    library.publish("s", UnixTime::new(1, 0), &Sample::dir([("above", above)]))
}

#[test]
fn what_stands_where_a_directory_belongs_is_replaced_and_a_link_is_not_followed() {
    let (library, to) = (TestLibrary::new(), tempfile::tempdir().unwrap());
    let info = publish_deep(&library);
    let (elsewhere, restored) = (to.path().join("elsewhere"), to.path().join("restored"));
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::create_dir(&restored).unwrap();
    for is_link in [true, false] {
        match is_link {
            true => std::os::unix::fs::symlink(&elsewhere, restored.join("above")).unwrap(),
            false => std::fs::write(restored.join("above"), "a file").unwrap(),
        }
        let report = restore_all(&library, Arc::clone(&info), &options(&to));
        assert_eq!((report.files, report.errors), (2, 0));
        assert_eq!(std::fs::read(restored.join("above/below/file")).unwrap(), b"deep");
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
        std::fs::remove_dir_all(restored.join("above")).unwrap();
    }
}

#[test]
fn directories_above_what_a_pattern_takes_are_made_when_it_is_found() {
    let (library, to) = (TestLibrary::new(), tempfile::tempdir().unwrap());
    let info = publish_deep(&library);
    let options = RestoreOptions { include: vec!["file".into()], ..options(&to) };
    let report = restore_all(&library, info, &options);
    assert_eq!((report.files, report.errors), (1, 0));
    let above = options.target.join("above");
    assert_eq!(std::fs::read(above.join("below/file")).unwrap(), b"deep");
    assert!(!above.join("else").exists());
}
