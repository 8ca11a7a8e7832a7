//! A small file of this machine that is replaced as a whole.
//!
//! Written beside the old one under a name that nobody else picks, and renamed over it: who
//! reads it, also after a crash, sees the old content or the new one and no mixture.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use crate::codec::random;

/// How a file that takes another's place is to be.
#[derive(Debug, Clone, Copy)]
pub struct Replacement {
    /// Its permissions, whatever the umask says.
    pub mode: u32,
    /// User and group it must belong to; whoever writes it, if `None`.
    pub owner: Option<(u32, u32)>,
    /// Whether it must survive a power failure once this returns. What is made anew when the
    /// machine starts need not.
    pub durable: bool,
}

impl Replacement {
    /// A file that nobody else reads, and that lasts.
    pub const PRIVATE: Replacement = Replacement { mode: 0o600, owner: None, durable: true };
}

/// Puts a file with this content in the place of what `path` names, if anything.
///
/// A symlink there is replaced and not followed.
///
/// # Errors
///
/// What the system said; the old file is then still there, and nothing beside it.
pub fn replace_file(path: &Path, bytes: &[u8], how: Replacement) -> io::Result<()> {
    // `parent` of a bare name is empty, and means the directory one is in.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = dir.join(format!(".asof-{}", hex::encode(random::bytes::<8>())));
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        if let Some((user, group)) = how.owner {
            let made = file.metadata()?;
            // Only root may give a file away, and nobody else needs to.
            if (made.uid(), made.gid()) != (user, group) {
                fchown(&file, Some(user), Some(group))?;
            }
        }
        file.set_permissions(Permissions::from_mode(how.mode))?;
        if how.durable {
            file.sync_all()?;
        }
        std::fs::rename(&beside, path)?;
        if how.durable { File::open(dir)?.sync_all() } else { Ok(()) }
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&beside);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn the_file_is_whole_and_alone_and_has_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for (bytes, mode) in [(&b"one"[..], 0o600), (b"", 0o664), (b"three", 0o640)] {
            let how = Replacement { mode, ..Replacement::PRIVATE };
            replace_file(&path, bytes, how).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
            assert_eq!(path.metadata().unwrap().mode() & 0o7777, mode);
            assert_eq!(names(dir.path()), ["f"]);
        }
    }

    #[test]
    fn what_fails_leaves_the_old_file_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        // A directory cannot be replaced by a file.
        let path = dir.path().join("d");
        std::fs::create_dir_all(path.join("inside")).unwrap();
        replace_file(&path, b"x", Replacement::PRIVATE).unwrap_err();
        assert_eq!(names(dir.path()), ["d"]);
        assert!(path.join("inside").exists());
    }

    /// Root keeps a user's file the user's.
    #[test]
    fn the_owner_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let root = rustix::process::geteuid().is_root();
        let mine = dir.path().metadata().unwrap();
        let owner = if root { (65_534, 65_534) } else { (mine.uid(), mine.gid()) };
        let how = Replacement { owner: Some(owner), ..Replacement::PRIVATE };
        replace_file(&path, b"x", how).unwrap();
        let made = path.metadata().unwrap();
        assert_eq!((made.uid(), made.gid()), owner);
    }
}
