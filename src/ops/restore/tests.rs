use std::panic::{AssertUnwindSafe, catch_unwind};

use tempfile::TempDir;

use super::*;
use crate::base::UnixTime;
use crate::format::extents::INLINE_MAX;
use crate::ops::select::at_path;
use crate::view::testing::{Sample, TestLibrary};

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

fn restore_all(
    library: &Arc<TestLibrary>,
    info: Arc<repo::SnapshotInfo>,
    to: &TempDir,
    progress: Progress,
    stop: &Stop,
) -> Result<RestoreReport> {
    let selected = at_path(library.as_ref(), info, b"").unwrap();
    let target = to.path().join("restored");
    let options = RestoreOptions { target, no_owner: true, ..RestoreOptions::default() };
    let library: Arc<dyn Library> = Arc::clone(library) as _;
    restore(&library, &selected, &options, &Arc::new(progress), stop)
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
    let report = restore_all(&library, info, &to, Progress::silent(), &Stop::new()).unwrap();
    assert_eq!((report.files, report.errors), (files.len() as u64, 0));
    assert_eq!(restored(&to, &files).len(), files.len());
    let mut hinted = std::mem::take(&mut *library.prefetched.lock().unwrap());
    hinted.sort_unstable();
    assert_eq!(hinted, files.iter().map(|bytes| bytes.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_file_that_fails_leaves_the_others_of_its_group() {
    let (library, to) = (TestLibrary::new(), tempfile::tempdir().unwrap());
    let files = files(plan::GROUP_FILES, INLINE_MAX);
    let info = publish(&library, &files);
    library.lose(&files[3]);
    let report = restore_all(&library, info, &to, Progress::silent(), &Stop::new()).unwrap();
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
    let raised = stop.clone();
    let progress = Progress::with_sink(move |_| raised.raise());
    let error = restore_all(&library, info, &to, progress, &stop).unwrap_err();
    assert_eq!(error.kind(), crate::base::Kind::Interrupted);
    assert_eq!(restored(&to, &files), [0, 1, 2]);
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
    let restore = || restore_all(&library, info, &to, progress, &Stop::new());
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
