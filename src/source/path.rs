//! Paths as the bytes that they are: made absolute, opened at any length, shown.
//!
//! The kernel refuses a path of 4096 bytes or more in one call, but trees are
//! deeper than that. A longer path is opened in pieces, each relative to the
//! piece before.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// The longest piece of a path that is handed to the kernel at once, in bytes.
const PIECE_MAX: usize = 4000;

/// The path from the root of the file system, with `.` and doubled slashes gone.
///
/// Symlinks on the way stay as they were written, so that a backup of `/home/x`
/// shows `/home/x` wherever `/home` points. Only where `..` follows one is it
/// resolved, since nothing else would name the same file.
///
/// # Errors
///
/// If the working directory, or what `..` follows, does not exist.
pub fn absolute(path: &Path) -> io::Result<Vec<u8>> {
    let mut parts: Vec<Component<'_>> = path.components().collect();
    let whole;
    if let Some(last) = parts.iter().rposition(|c| *c == Component::ParentDir) {
        let rest = parts.split_off(last + 1);
        let mut resolved = parts.iter().collect::<std::path::PathBuf>().canonicalize()?;
        resolved.extend(rest);
        whole = resolved;
    } else {
        whole = std::path::absolute(path)?;
    }
    Ok(whole.components().collect::<std::path::PathBuf>().into_os_string().into_vec())
}

/// The names on an absolute path, from the top.
pub(crate) fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|n| !n.is_empty())
}

/// The path of the directory that a path ends in, and its name there; none if it is empty.
pub(crate) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => Some((&path[..slash], &path[slash + 1..])),
        None => (!path.is_empty()).then_some((&[], path)),
    }
}

/// The name at the end of a path; empty if that is.
pub(crate) fn last(path: &[u8]) -> &[u8] {
    split(path).map_or(path, |(_, name)| name)
}

/// Opens an absolute path of any length.
pub(crate) fn open(path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let mut rest = path;
    let mut at: Option<OwnedFd> = None;
    while rest.len() > PIECE_MAX {
        let cut = rest[..PIECE_MAX].iter().rposition(|b| *b == b'/').unwrap_or(0);
        let cut = if cut == 0 { PIECE_MAX } else { cut };
        let piece = &rest[..cut];
        let mode = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let next = match &at {
            Some(dir) => openat(dir.as_fd(), piece, mode, Mode::empty())?,
            None => openat(CWD, piece, mode, Mode::empty())?,
        };
        at = Some(next);
        rest = &rest[cut..];
        while let [b'/', tail @ ..] = rest {
            rest = tail;
        }
    }
    let rest = if rest.is_empty() { b"." } else { rest };
    match &at {
        Some(dir) => Ok(openat(dir.as_fd(), rest, flags, Mode::empty())?),
        None => Ok(openat(CWD, rest, flags, Mode::empty())?),
    }
}

/// A path or name for a person's eye, on one line whatever bytes it has.
///
/// Names may hold newlines and terminal escapes, and need not be UTF-8; those
/// bytes are shown as `\n` and `\xNN`.
#[must_use]
pub fn shown(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for piece in path.utf8_chunks() {
        for c in piece.valid().chars() {
            if c.is_control() || c == '\\' {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for b in piece.invalid() {
            text.push_str(&format!("\\x{b:02x}"));
        }
    }
    text
}

/// Bytes as a path.
#[must_use]
pub fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_on_one_line_without_losing_a_byte() {
        assert_eq!(shown("größe".as_bytes()), "größe");
        assert_eq!(shown(b"a\nb\xffc\\\x1b"), "a\\nb\\xffc\\\\\\u{1b}");
    }

    #[test]
    fn absolute_keeps_what_was_written_and_resolves_only_before_dot_dot() {
        assert_eq!(absolute(Path::new("//usr/./bin//")).unwrap(), b"/usr/bin");
        assert_eq!(absolute(Path::new("/")).unwrap(), b"/");
        let real = Path::new("/bin").canonicalize().unwrap();
        let parent = real.parent().unwrap().join("x");
        assert_eq!(absolute(Path::new("/bin/../x")).unwrap(), parent.as_os_str().as_bytes());
        assert!(absolute(Path::new("/no such/../x")).is_err());
    }
}
