use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{XattrFlags, fsetxattr};

use super::*;

#[test]
fn short_empty_and_large_values_read_back_in_order_of_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("f")).unwrap();
    let large = vec![b'v'; 3000];
    for (name, value) in [("user.b", &b""[..]), ("user.large", &large[..]), ("user.a", b"\0\xff")] {
        if let Err(e) = fsetxattr(&file, name, value, XattrFlags::empty()) {
            eprintln!("NOT TESTED: extended attributes ({e})");
            return;
        }
    }
    let expected = [
        (b"user.a".to_vec(), b"\0\xff".to_vec()),
        (b"user.b".to_vec(), Vec::new()),
        (b"user.large".to_vec(), large),
    ];
    assert!(xattrs_fd(file.as_fd()).unwrap() == expected);
    assert!(xattrs_open(file.as_fd()).unwrap() == expected);
    let dir = File::open(dir.path()).unwrap();
    assert!(xattrs_at(dir.as_fd(), b"f").unwrap() == expected);
    assert!(xattrs_at(dir.as_fd(), b"gone").is_err());
}
