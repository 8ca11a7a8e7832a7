//! A regular file on its way.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, ftruncate, renameat, unlinkat};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};

use crate::target::{Error, failed};

/// A regular file that is being written under another name.
///
/// Writes may come in any order and from several threads. What is never written is a
/// hole. Dropped before [`finish`](FileWriter::finish), it leaves nothing behind.
#[derive(Debug)]
pub struct FileWriter {
    dir: Arc<OwnedFd>,
    path: Box<[u8]>,
    /// Where its name begins in the path.
    name_at: usize,
    /// The name it has now; empty when it has its real one.
    temporary: Vec<u8>,
    fd: OwnedFd,
}

impl FileWriter {
    pub(super) fn new(
        dir: Arc<OwnedFd>,
        path: &[u8],
        name: &[u8],
        temporary: Vec<u8>,
        fd: OwnedFd,
    ) -> FileWriter {
        FileWriter { dir, path: path.into(), name_at: path.len() - name.len(), temporary, fd }
    }

    /// The path that it will have.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Writes all of `bytes` from `offset` on.
    ///
    /// # Errors
    ///
    /// What the kernel says: the disk is full, a quota is reached.
    pub fn write_at(&self, mut bytes: &[u8], mut offset: u64) -> Result<(), Error> {
        while !bytes.is_empty() {
            match retry_on_intr(|| pwrite(&self.fd, bytes, offset)) {
                Ok(0) => return Err(self.failed("write", io::ErrorKind::WriteZero.into())),
                Ok(length) => {
                    bytes = &bytes[length..];
                    offset += length as u64;
                }
                Err(e) => return Err(self.failed("write", e.into())),
            }
        }
        Ok(())
    }

    /// Reads back what was written, to verify it. Returns how much there was.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        retry_on_intr(|| pread(&self.fd, &mut *buffer, offset))
            .map_err(|e| self.failed("read back", e.into()))
    }

    /// Sets the length: what is beyond the last write becomes a hole.
    ///
    /// # Errors
    ///
    /// What the kernel says, such as a length that the file system cannot hold.
    pub fn set_len(&self, bytes: u64) -> Result<(), Error> {
        ftruncate(&self.fd, bytes).map_err(|e| self.failed("set the length of", e.into()))
    }

    /// Gives the file its name, in place of whatever has it but a directory.
    ///
    /// # Errors
    ///
    /// If it cannot be renamed; the file is gone then.
    pub fn finish(mut self) -> Result<(), Error> {
        let name = &self.path[self.name_at..];
        let renamed = renameat(&self.dir, &self.temporary[..], &self.dir, name);
        match renamed {
            Ok(()) => {
                self.temporary.clear();
                Ok(())
            }
            Err(Errno::ISDIR) => Err(self.failed("replace", io::ErrorKind::AlreadyExists.into())),
            Err(e) => Err(self.failed("give its name to", e.into())),
        }
    }

    fn failed(&self, action: &'static str, source: io::Error) -> Error {
        failed(action, &self.path)(source)
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.temporary.is_empty() {
            // Nobody is left to be told; the name says what the file is.
            let _ = unlinkat(&self.dir, &self.temporary[..], AtFlags::empty());
        }
    }
}
