//! Writing the body of an object.
//!
//! What is backed up is not read soon, and it is synced at once, so large bodies go past the
//! page cache where the file system can do that: filling pages that are thrown out again
//! takes longer than writing them, and they would push out what others read.

use std::fs::File;
use std::io::{self, Write};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// Shorter bodies are written through the page cache. Bytes.
const DIRECT_MIN: usize = 1 << 20;
/// What is written at once past it. Bytes, a multiple of the next.
const PIECE: usize = 2 << 20;
/// Buffers, places and lengths must be multiples of what the disk writes: 512 or 4096.
const ALIGNED: usize = 4096;

/// Writes `body` to an empty file.
pub(super) fn body(file: &mut File, body: &[u8]) -> io::Result<()> {
    let written = if body.len() < DIRECT_MIN { 0 } else { past_the_cache(file, body)? };
    file.write_all(&body[written..])
}

/// Writes as much of `body` past the page cache as that can be done with. Returns how much.
fn past_the_cache(file: &mut File, body: &[u8]) -> io::Result<usize> {
    let flags = fcntl_getfl(&*file)?;
    match fcntl_setfl(&*file, flags | OFlags::DIRECT) {
        Ok(()) => {}
        Err(Errno::INVAL | Errno::NOTSUP) => return Ok(0),
        Err(other) => return Err(other.into()),
    }
    let whole = body.len() - body.len() % ALIGNED;
    let mut memory = vec![0; PIECE + ALIGNED];
    let start = memory.as_ptr().align_offset(ALIGNED).min(ALIGNED);
    let mut written = 0;
    for piece in body[..whole].chunks(PIECE) {
        let buffer = &mut memory[start..start + piece.len()];
        buffer.copy_from_slice(piece);
        match file.write(buffer) {
            Ok(length) => written += length,
            // A file system may take the flag and then not do it.
            Err(e) if refuses(&e) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => break,
            Err(e) => return Err(e),
        }
        // After a short write the next place may be no multiple.
        if written % PIECE != 0 {
            break;
        }
    }
    fcntl_setfl(&*file, flags)?;
    Ok(written)
}

fn refuses(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::NOTSUP].iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of any length, on a disk and in memory: the bytes are those.
    #[test]
    fn a_body_is_written_whole() {
        let bytes: Vec<u8> = (0..5 * (1 << 20) + 1234_u32).map(|n| (n % 251) as u8).collect();
        let here = tempfile::tempdir().unwrap();
        let target = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/target");
        let memory = tempfile::tempdir_in("/dev/shm");
        for dir in [Ok(here), target, memory].into_iter().flatten() {
            let long = [DIRECT_MIN, DIRECT_MIN + ALIGNED, PIECE, PIECE + 1, 2 * PIECE, bytes.len()];
            for length in [0, 1, ALIGNED, DIRECT_MIN - 1].into_iter().chain(long) {
                let path = dir.path().join("body");
                body(&mut File::create(&path).unwrap(), &bytes[..length]).unwrap();
                assert!(std::fs::read(&path).unwrap() == bytes[..length], "{length} in {path:?}");
            }
        }
    }
}
