use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::CWD;

use super::*;
use crate::source::meta::stat_at;
use crate::source::place::DirPlace;

fn place(path: &Path) -> Place {
    let path = path.as_os_str().as_encoded_bytes();
    let slash = path.iter().rposition(|b| *b == b'/').unwrap();
    let dir = DirPlace::top(&path[..slash]);
    Place { dir, name: path[slash + 1..].into(), meta: stat_at(CWD, path).unwrap() }
}

fn segments(place: &Place) -> Vec<Segment> {
    let mut reader = FileReader::open(place).unwrap();
    let mut all = Vec::new();
    while let Some(segment) = reader.next_segment().unwrap() {
        all.push(segment);
    }
    assert_eq!(reader.finish().unwrap(), Verdict::Unchanged);
    all
}

#[test]
fn segments_cover_a_file_and_its_holes_exactly() {
    const BLOCK: u64 = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let file = File::create(&path).unwrap();
    assert_eq!(segments(&place(&path)), []);
    file.write_all_at(&[1; 100], 0).unwrap();
    assert_eq!(segments(&place(&path)), [Segment::Data { offset: 0, len: 100 }]);
    file.set_len(0).unwrap();
    file.set_len(10 * BLOCK + 7).unwrap();
    let whole = 10 * BLOCK + 7;
    assert_eq!(segments(&place(&path)), [Segment::Hole { offset: 0, len: whole }]);
    file.write_all_at(&vec![1; BLOCK as usize], 2 * BLOCK).unwrap();
    file.write_all_at(&vec![2; BLOCK as usize], 6 * BLOCK).unwrap();
    assert_eq!(
        segments(&place(&path)),
        [
            Segment::Hole { offset: 0, len: 2 * BLOCK },
            Segment::Data { offset: 2 * BLOCK, len: BLOCK },
            Segment::Hole { offset: 3 * BLOCK, len: 3 * BLOCK },
            Segment::Data { offset: 6 * BLOCK, len: BLOCK },
            Segment::Hole { offset: 7 * BLOCK, len: 3 * BLOCK + 7 },
        ]
    );
}

#[test]
fn a_file_that_shrinks_is_an_error_and_one_that_changes_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, vec![7; 100_000]).unwrap();
    let met = place(&path);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let mut buffer = vec![0; 100_000];

    let reader = FileReader::open(&met).unwrap();
    reader.read_exact_at(&mut buffer, 0).unwrap();
    file.set_len(99_999).unwrap();
    let error = reader.read_exact_at(&mut buffer, 0).unwrap_err();
    assert!(error.is_change() && error.trouble.to_string().contains("byte 100000"), "{error}");
    assert_eq!(reader.finish().unwrap(), Verdict::Changed);

    let reader = FileReader::open(&met).unwrap();
    assert_eq!(reader.meta().size, 99_999);
    file.write_all_at(b"x", 99_999).unwrap();
    assert_eq!(reader.finish().unwrap(), Verdict::Changed);

    let reader = FileReader::open(&met).unwrap();
    reader.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(buffer[99_998..], [7, b'x']);
    assert_eq!(reader.finish().unwrap(), Verdict::Unchanged);
}

#[test]
fn reading_leaves_the_access_time_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, "content").unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
    let times = fs::FileTimes::new().set_accessed(old).set_modified(old);
    File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
    let met = place(&path);
    let reader = FileReader::open(&met).unwrap();
    reader.read_exact_at(&mut [0; 7], 0).unwrap();
    assert_eq!(reader.finish().unwrap(), Verdict::Unchanged);
    assert_eq!(fs::metadata(&path).unwrap().accessed().unwrap(), old);
}
