//! A small file system in memory, to be filled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// It is unmounted when dropped.
pub struct Disk {
    path: PathBuf,
    /// Removed after it.
    _of_its_own: Option<tempfile::TempDir>,
}

impl Disk {
    /// Mounts one on a directory of its own; `None`, loudly, if this user may not mount.
    pub fn mount(options: &str) -> Option<Disk> {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = Disk::mount_on(dir.path(), options)?;
        disk._of_its_own = Some(dir);
        Some(disk)
    }

    pub fn mount_on(path: &Path, options: &str) -> Option<Disk> {
        let mount = ["-t", "tmpfs", "-o", options, "none"];
        let mounted = Command::new("mount").args(mount).arg(path).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Disk { path: path.to_owned(), _of_its_own: None });
        }
        let loud = "*** cannot mount a tmpfs: FULL AND READ-ONLY DISKS WERE NOT TESTED ***\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), loud.as_bytes());
        None
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn remount(&self, options: &str) {
        let mut mount = Command::new("mount");
        assert!(mount.args(["-o", options]).arg(&self.path).status().unwrap().success());
    }

    /// Fills it until only so many bytes are free, with a file that can be removed.
    pub fn leave(&self, bytes: u64) -> PathBuf {
        let filler = self.path.join("filler");
        let _ = fs::remove_file(&filler);
        let stat = rustix::fs::statvfs(&self.path).unwrap();
        let length = (stat.f_bavail * stat.f_frsize).saturating_sub(bytes);
        fs::write(&filler, vec![1; length as usize]).unwrap();
        filler
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
