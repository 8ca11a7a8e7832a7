//! What is mounted, as `/proc/self/mountinfo` has it.
//!
//! ```text
//! 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//!       device     point                       type
//! ```
//!
//! Blanks in paths are written as `\040`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    /// `major:minor`.
    pub(super) device: String,
    pub(super) point: PathBuf,
    /// With its subtype: `fuse.asof`.
    pub(super) kind: String,
}

/// What is mounted at a path, if anything; the last if several lie over each other.
pub(super) fn at(point: &Path) -> io::Result<Option<Mounted>> {
    // Its length is not known before it is read, and each read would begin at 32 bytes.
    let mut table = Vec::with_capacity(16 << 10);
    File::open("/proc/self/mountinfo")?.read_to_end(&mut table)?;
    let mut mounted = table.split(|b| *b == b'\n').rev().filter_map(parse);
    Ok(mounted.find(|mounted| mounted.point == point))
}

fn parse(line: &[u8]) -> Option<Mounted> {
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let mut fields = line.split(|b| *b == b' ');
    let device = text(fields.nth(2)?);
    let point = PathBuf::from(OsString::from_vec(unescaped(fields.nth(1)?)));
    let kind = text(fields.skip_while(|field| *field != b"-").nth(1)?);
    Some(Mounted { device, point, kind })
}

fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let code = (first == b'\\').then(|| tail.get(..3)).flatten();
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_device_point_and_type_whatever_is_optional() {
        for (line, device, point, kind) in [
            (
                r"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 shared:2 - fuse.asof asof rw",
                "98:0",
                "/mnt 2",
                "fuse.asof",
            ),
            (r"24 30 0:22 / /a\134b rw - proc proc rw", "0:22", r"/a\b", "proc"),
        ] {
            let (device, kind) = (device.to_owned(), kind.to_owned());
            let expected = Mounted { device, point: point.into(), kind };
            assert_eq!(parse(line.as_bytes()), Some(expected));
        }
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"1 2 3"), None);
    }
}
