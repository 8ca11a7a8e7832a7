//! Extended attributes of any kind of file, in every namespace that the kernel
//! lists: `user`, `trusted` (to root), `security` with file capabilities, and
//! `system` with POSIX ACLs.
//!
//! The calls that read attributes take a path or a descriptor open for reading,
//! and neither fits: a path races with whoever renames directories, and a pipe or
//! a device must not be opened. `/proc/self/fd/N/name` fits: the kernel goes
//! straight to the open directory N and looks up one name in it, and the `l` form
//! of the calls does not follow that name. A file without attributes, which is
//! nearly every file, costs one call.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{fgetxattr, flistxattr, lgetxattr, listxattr, llistxattr};
use rustix::io::Errno;

/// Attributes as (name, value), in byte order of name.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What the kernel limits a list of names and a value to (`XATTR_LIST_MAX`,
/// `XATTR_SIZE_MAX`), so the second buffer always suffices.
const LARGE_BYTES: usize = 64 * 1024;

/// The attributes of `name` in the directory `dir`; a symlink's own, not its target's.
///
/// A file system without extended attributes has none, which is no error.
///
/// # Errors
///
/// What the kernel says when the list or a listed value cannot be read.
pub fn xattrs_at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Xattrs> {
    let path = proc_path(dir, Some(name));
    collect(|buffer| llistxattr(&path[..], buffer), |n, b| lgetxattr(&path[..], n, b))
}

/// The attributes of a file that is open for reading or writing, without a path.
///
/// # Errors
///
/// As [`xattrs_at`].
pub fn xattrs_open(fd: BorrowedFd<'_>) -> io::Result<Xattrs> {
    collect(|buffer| flistxattr(fd, buffer), |n, b| fgetxattr(fd, n, b))
}

/// The attributes of whatever `fd` refers to, also when it is open as a mere path.
///
/// # Errors
///
/// As [`xattrs_at`].
pub fn xattrs_fd(fd: BorrowedFd<'_>) -> io::Result<Xattrs> {
    let path = proc_path(fd, None);
    let get = |n: &[u8], b: &mut [u8]| rustix::fs::getxattr(&path[..], n, b);
    collect(|buffer| listxattr(&path[..], buffer), get)
}

/// The name under which /proc shows a descriptor, or a file in the directory that
/// it is open on.
pub(crate) fn proc_path(fd: BorrowedFd<'_>, name: Option<&[u8]>) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}", fd.as_raw_fd()).into_bytes();
    if let Some(name) = name {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

fn collect(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Xattrs> {
    let mut small = [0; 1024];
    let names = match list(&mut small) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(length) => small[..length].to_vec(),
        Err(Errno::RANGE) => read_large(&list)?,
        Err(e) => return Err(e.into()),
    };
    let mut found = Vec::new();
    for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let value = match get(name, &mut small) {
            Ok(length) => small[..length].to_vec(),
            Err(Errno::RANGE) => read_large(|buffer: &mut [u8]| get(name, buffer))?,
            // Removed since it was listed, or listed by a file system that has no
            // value for it (an ACL that says no more than the mode).
            Err(Errno::NODATA | Errno::NOTSUP) => continue,
            Err(e) => return Err(e.into()),
        };
        found.push((name.to_vec(), value));
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads something longer than the buffer that it was first offered.
fn read_large(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; LARGE_BYTES];
    let length = read(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests;
