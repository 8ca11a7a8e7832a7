//! Whether a directory has the same names as before, for less than reading them costs.
//!
//! Whatever gives a name in a directory, or takes one away, sets the directory's times to
//! the present. One of them, `ctime`, nobody can set otherwise. So equal times mean equal
//! names, but for what changed at the very same time: the kernel's clock ticks every few
//! milliseconds, and some file systems count whole seconds. A directory that was changed
//! moments ago therefore has no mark, and is listed.
//!
//! That holds for file systems of a disk of this machine, or of its memory. A file server's
//! client may show times that it remembers, and a bucket that is shown as a directory need
//! not have any; so only those have marks that are known to be right.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::{LocalStore, Mark};
use crate::base::UnixTime;
use crate::codec::hash::sha256;

/// How long ago the last change must be.
pub(super) const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// The file systems whose directories have times that can be relied on, as the kernel
/// numbers them: ext2 to ext4, XFS, Btrfs, F2FS, bcachefs, ZFS, tmpfs.
const RELIABLE: [u32; 7] =
    [0x0000_ef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0xca45_1a4e, 0x2fc1_2fc1, 0x0102_1994];

/// The mark of a directory of the store; none if it cannot have one now.
pub(super) fn of(store: &LocalStore, directory: &str) -> io::Result<Option<Mark>> {
    let path = store.root.join(directory);
    let kind = rustix::fs::statfs(&path)?.f_type;
    if !RELIABLE.iter().any(|reliable| i128::from(kind) == i128::from(*reliable)) {
        return Ok(None);
    }
    // Before anything is looked at, so that it is the time at which all of it was so.
    let at = store.now()?;
    let found = fs::metadata(&path)?;
    let settled = [(found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec())]
        .into_iter()
        .all(|(seconds, nanos)| {
            let changed = UnixTime::new(seconds, u32::try_from(nanos).unwrap_or(0));
            changed.plus(store.settled_after) <= at
        });
    if !settled {
        return Ok(None);
    }
    let numbers = [
        found.dev(),
        found.ino(),
        found.size(),
        found.mtime().cast_unsigned(),
        found.mtime_nsec().cast_unsigned(),
        found.ctime().cast_unsigned(),
        found.ctime_nsec().cast_unsigned(),
    ];
    let bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_be_bytes).collect();
    Ok(Some(Mark { names: sha256(&bytes), at }))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use super::*;
    use crate::store::Store;

    /// A store with an object, whose directories count as settled so long after a change.
    fn store(dir: &std::path::Path, settled_after: Duration) -> LocalStore {
        let mut store = LocalStore::create(dir).unwrap();
        store.settled_after = settled_after;
        store.put_new("log/a", "x".into()).unwrap();
        store
    }

    #[test]
    fn a_directory_that_was_changed_lately_has_no_mark() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(store(dir.path(), Duration::from_hours(1)).mark("log/"), None);
    }

    #[test]
    fn what_is_not_there_has_no_mark() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), Duration::ZERO);
        assert_eq!(store.mark("packs/"), None);
        fs::remove_dir_all(dir.path().join("tmp")).unwrap();
        assert_eq!(store.mark("log/"), None, "the time is not known");
    }

    #[test]
    fn a_mark_lasts_until_a_name_comes_or_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), Duration::ZERO);
        let Some(mut known) = store.mark("log/") else {
            eprintln!("skipped: the file system here is not one that has marks");
            return;
        };
        store.get("log/a", 10).unwrap();
        store.list("log/", None).unwrap();
        store.put_new("packs/b", "x".into()).unwrap();
        assert_eq!(store.mark("log/").unwrap().names, known.names);
        // What happens within one tick of the clock is not told apart, so until it has ticked.
        let mut differs_after = |act: &dyn Fn(usize)| {
            let ticked = (0..100_000).any(|n| {
                act(n);
                store.mark("log/").unwrap().names != known.names
            });
            assert!(ticked);
            known = store.mark("log/").unwrap();
        };
        differs_after(&|n| {
            File::create(dir.path().join(format!("log/new-{n}"))).unwrap();
        });
        differs_after(&|_| {
            let some = fs::read_dir(dir.path().join("log")).unwrap().next().unwrap();
            fs::remove_file(some.unwrap().path()).unwrap();
            File::create(dir.path().join("log/again")).unwrap();
        });
        // A copy may have been given the time of what it is a copy of.
        differs_after(&|_| {
            let log = File::open(dir.path().join("log")).unwrap();
            log.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        });
        store.put_new("log/z", "x".into()).unwrap();
        differs_after(&|_| {
            let log = File::open(dir.path().join("log")).unwrap();
            log.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        });
    }
}
