//! Reading one file, and knowing what was read.
//!
//! A file lives on while it is backed up: it may be replaced, grow, shrink or be
//! written to between the walk's stat and the last read. A [`FileReader`] makes each
//! of these visible and hides none with zeros:
//!
//! - what it opens must be the file that was statted, by device, number and kind;
//! - its length and times when it was opened are in [`FileReader::meta`]; those are
//!   what belongs to the bytes, not the walk's;
//! - an end that comes too early is an error, [`Trouble::Shrunk`];
//! - [`FileReader::finish`] stats it again and says whether anything moved.
//!
//! Holes are asked for with `SEEK_DATA` and `SEEK_HOLE`, of every file but the
//! shortest. Comparing allocated blocks with the length would save two calls for most,
//! but miss the holes of a file whose attributes or extents take blocks as well.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Advice, OFlags, SeekFrom, fadvise, seek};
use rustix::io::{Errno, pread, retry_on_intr};

use crate::base::Kind;
use crate::source::meta::{FileKind, stat_fd};
use crate::source::path::shown;
use crate::source::{Meta, Place, Trouble};

/// Shorter than any block of any file system, so without holes unless it has no block at all.
const HOLE_BYTES_MIN: u64 = 512;

/// Files with more bytes than this are announced to the kernel as read from front to back.
const SEQUENTIAL_BYTES_MIN: u64 = 1024 * 1024;

/// A file that could not be read as a whole.
#[derive(Debug, thiserror::Error)]
#[error("cannot back up {path}")]
pub struct ReadError {
    /// The file, as [`shown`] has it.
    pub path: String,
    /// What happened.
    #[source]
    pub trouble: Trouble,
}

impl ReadError {
    /// What the failure means.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.trouble.kind()
    }

    /// Whether the file changed under the reader, so that reading it again from the
    /// start may succeed.
    #[must_use]
    pub fn is_change(&self) -> bool {
        matches!(self.trouble, Trouble::Shrunk { .. })
    }
}

/// A run of bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// Bytes that are stored. They may be zeros all the same.
    Data {
        /// Where it begins.
        offset: u64,
        /// How long it is; never 0.
        len: u64,
    },
    /// Zeros that take no space.
    Hole {
        /// Where it begins.
        offset: u64,
        /// How long it is; never 0.
        len: u64,
    },
}

/// Whether a file stayed as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Length and times are those that it was opened with.
    Unchanged,
    /// What was read may be partly old and partly new.
    Changed,
}

/// A regular file, open for reading.
#[derive(Debug)]
pub struct FileReader<'a> {
    place: &'a Place,
    fd: OwnedFd,
    meta: Meta,
    /// Where the next segment begins.
    next: u64,
    probe: bool,
}

impl FileReader<'_> {
    /// Opens the regular file that a walk met, if it is still that file.
    ///
    /// Its access time stays as it was, where the kernel lets this user keep it so.
    ///
    /// # Errors
    ///
    /// [`Trouble::Vanished`], [`Trouble::Replaced`], [`Trouble::Open`].
    pub fn open(place: &Place) -> Result<FileReader<'_>, ReadError> {
        // Without blocking: by now it may be a pipe, whose opening would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = match place.open(flags | OFlags::NOATIME) {
            Err(e) if Errno::from_io_error(&e) == Some(Errno::PERM) => place.open(flags),
            other => other,
        };
        let failed = |trouble| ReadError { path: shown(&place.path()), trouble };
        let fd = opened.map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => failed(Trouble::Vanished),
            Some(Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => failed(Trouble::Replaced),
            _ => failed(Trouble::Open(error)),
        })?;
        let meta = stat_fd(fd.as_fd()).map_err(|error| failed(Trouble::Open(error)))?;
        if !meta.is_same_file(place.meta()) || meta.kind != FileKind::File {
            return Err(failed(Trouble::Replaced));
        }
        if meta.size >= SEQUENTIAL_BYTES_MIN {
            // Advice: a kernel that does not take it reads just the same.
            let _ = fadvise(&fd, 0, None, Advice::Sequential);
        }
        let probe = meta.size > HOLE_BYTES_MIN || meta.blocks == 0;
        Ok(FileReader { place, fd, meta, next: 0, probe })
    }

    /// The file as it was when it was opened: the attributes that go with its bytes.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The next run of data or hole; together they cover the length in
    /// [`meta`](FileReader::meta) without gap or overlap. `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Trouble::Read`] if the kernel cannot say.
    pub fn next_segment(&mut self) -> Result<Option<Segment>, ReadError> {
        let (start, size) = (self.next, self.meta.size);
        if start >= size {
            return Ok(None);
        }
        let data = if self.probe { self.seek(SeekFrom::Data(start))? } else { Some(start) };
        // No data from here on is an answer; a data run that begins earlier is none.
        let data = data.unwrap_or(size).clamp(start, size);
        if data > start {
            self.next = data;
            return Ok(Some(Segment::Hole { offset: start, len: data - start }));
        }
        let end = if self.probe { self.seek(SeekFrom::Hole(start))? } else { None };
        let end = end.filter(|end| *end > start).unwrap_or(size).min(size);
        self.next = end;
        Ok(Some(Segment::Data { offset: start, len: end - start }))
    }

    /// Where data or a hole begins; `None` if neither does before the end. A file
    /// system that cannot tell has one run of data.
    fn seek(&mut self, to: SeekFrom) -> Result<Option<u64>, ReadError> {
        match seek(&self.fd, to) {
            Ok(at) => Ok(Some(at)),
            Err(Errno::NXIO) => Ok(None),
            Err(Errno::INVAL | Errno::NOTSUP | Errno::NOTTY | Errno::NOSYS) => {
                self.probe = false;
                Ok(Some(match to {
                    SeekFrom::Data(start) => start,
                    _ => self.meta.size,
                }))
            }
            Err(e) => Err(self.failed(Trouble::Read { offset: self.next, error: e.into() })),
        }
    }

    /// Fills all of `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// [`Trouble::Shrunk`] if the file ends before the buffer is full, and
    /// [`Trouble::Read`].
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), ReadError> {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            match retry_on_intr(|| pread(&self.fd, &mut buffer[done..], at)) {
                Ok(0) => {
                    let end = offset + buffer.len() as u64;
                    return Err(self.failed(Trouble::Shrunk { end }));
                }
                Ok(length) => done += length,
                Err(e) => return Err(self.failed(Trouble::Read { offset: at, error: e.into() })),
            }
        }
        Ok(())
    }

    /// Says whether the file is still as it was when it was opened.
    ///
    /// # Errors
    ///
    /// [`Trouble::Stat`].
    pub fn finish(self) -> Result<Verdict, ReadError> {
        let now = stat_fd(self.fd.as_fd()).map_err(|e| self.failed(Trouble::Stat(e)))?;
        let same = now.is_unchanged_since(&self.meta);
        Ok(if same { Verdict::Unchanged } else { Verdict::Changed })
    }

    fn failed(&self, trouble: Trouble) -> ReadError {
        ReadError { path: shown(&self.place.path()), trouble }
    }
}

#[cfg(test)]
mod tests;
