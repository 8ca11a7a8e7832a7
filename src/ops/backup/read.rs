//! The readers: from files to chunks.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crossbeam_channel::Receiver;

use super::{advance, report_problem};
use crate::base::{ChunkId, Progress, Stop};
use crate::codec::chunker::Chunker;
use crate::codec::hash::{Hasher, sha256};
use crate::format::extents::INLINE_MAX;
use crate::ops::Result;
use crate::repo;
use crate::repo::writer::Lane;
use crate::source::{FileReader, Meta, Place, ReadError, Segment, Verdict};

/// How often a file that changes while it is read is read again.
const TRIES: u32 = 3;

/// What a file held.
pub(super) struct FileData {
    /// Its attributes as they belong to the bytes.
    pub(super) meta: Meta,
    /// Its bytes, if they are few.
    pub(super) inline: Option<Vec<u8>>,
    /// Otherwise its extents: length, and chunk or hole.
    pub(super) extents: Vec<(u64, Option<ChunkId>)>,
    /// SHA-256 of its bytes, holes read as zeros.
    pub(super) sha256: [u8; 32],
    /// Bytes in holes.
    pub(super) holes: u64,
    /// Whether it changed every time while it was read.
    pub(super) changed: bool,
}

/// Where a reader puts what it found, and the assembler waits for it.
#[derive(Default)]
pub(super) struct Slot {
    data: Mutex<Option<Option<Arc<FileData>>>>,
    filled: Condvar,
}

impl Slot {
    /// Puts the outcome; `None` if the file could not be read.
    fn fill(&self, data: Option<Arc<FileData>>) {
        *self.data.lock().unwrap_or_else(PoisonError::into_inner) = Some(data);
        self.filled.notify_all();
    }

    /// Waits for the outcome.
    pub(super) fn wait(&self) -> Option<Arc<FileData>> {
        let mut data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(data) = data.as_ref() {
                return data.clone();
            }
            data = self.filled.wait(data).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A slot that is filled with nothing if its reader ends without filling it, so
/// that nobody waits for ever.
pub(super) struct Promise(Arc<Slot>, bool);

impl Promise {
    pub(super) fn new(slot: &Arc<Slot>) -> Promise {
        Promise(Arc::clone(slot), false)
    }

    fn keep(mut self, data: Option<Arc<FileData>>) {
        self.1 = true;
        self.0.fill(data);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.1 {
            self.0.fill(None);
        }
    }
}

/// Neighbouring small files, or one large one.
pub(super) type Job = Vec<(Place, Promise)>;

/// Reads files until there are no more.
pub(super) fn work(
    jobs: &Receiver<Job>,
    mut lane: Lane,
    chunker: &Chunker,
    progress: &Progress,
    stop: &Stop,
) -> Result<()> {
    let mut buffer = vec![0; 2 * chunker.max()];
    let mut failed = None;
    for job in jobs {
        for (place, promise) in job {
            if stop.is_raised() || failed.is_some() {
                continue;
            }
            match read_steadily(&place, &mut lane, chunker, &mut buffer, progress) {
                Ok(data) => promise.keep(Some(Arc::new(data))),
                Err(ReadFailure::File(error)) => {
                    report_problem(progress, &place.path(), error.trouble);
                    promise.keep(None);
                }
                Err(ReadFailure::Repo(error)) => failed = Some(error),
            }
        }
    }
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(lane.flush()?),
    }
}

enum ReadFailure {
    File(ReadError),
    Repo(repo::Error),
}

impl From<ReadError> for ReadFailure {
    fn from(error: ReadError) -> ReadFailure {
        ReadFailure::File(error)
    }
}

impl From<repo::Error> for ReadFailure {
    fn from(error: repo::Error) -> ReadFailure {
        ReadFailure::Repo(error)
    }
}

/// Reads a file, again if it changed meanwhile.
fn read_steadily(
    place: &Place,
    lane: &mut Lane,
    chunker: &Chunker,
    buffer: &mut [u8],
    progress: &Progress,
) -> std::result::Result<FileData, ReadFailure> {
    let mut tries = 1;
    loop {
        match read_once(place, lane, chunker, buffer, progress) {
            Ok(data) if data.changed && tries < TRIES => {}
            Err(ReadFailure::File(error)) if error.is_change() && tries < TRIES => {}
            other => return other,
        }
        tries += 1;
    }
}

fn read_once(
    place: &Place,
    lane: &mut Lane,
    chunker: &Chunker,
    buffer: &mut [u8],
    progress: &Progress,
) -> std::result::Result<FileData, ReadFailure> {
    let mut reader = FileReader::open(place)?;
    let meta = *reader.meta();
    let mut data = FileData {
        meta,
        inline: None,
        extents: Vec::new(),
        sha256: [0; 32],
        holes: 0,
        changed: false,
    };
    let small = meta.size <= INLINE_MAX as u64;
    let mut whole = Hasher::new();
    let mut single = None;
    while let Some(segment) = reader.next_segment()? {
        match segment {
            Segment::Hole { len, .. } => {
                hash_zeros(&mut whole, len);
                data.holes += len;
                data.extents.push((len, None));
                advance(progress, 0, len);
            }
            Segment::Data { offset, len } if small && offset == 0 && len == meta.size => {
                let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
                reader.read_exact_at(&mut bytes, 0)?;
                whole.update(&bytes);
                data.inline = Some(bytes);
                advance(progress, 0, len);
            }
            Segment::Data { offset, len } => {
                let only = offset == 0 && len == meta.size;
                let mut at = offset;
                let end = offset + len;
                let (mut start, mut filled) = (0, 0);
                loop {
                    if filled - start < chunker.max() && at < end {
                        buffer.copy_within(start..filled, 0);
                        filled -= start;
                        start = 0;
                        let rest = usize::try_from(end - at).unwrap_or(usize::MAX);
                        let wanted = rest.min(buffer.len() - filled);
                        reader.read_exact_at(&mut buffer[filled..filled + wanted], at)?;
                        advance(progress, 0, wanted as u64);
                        at += wanted as u64;
                        filled += wanted;
                    }
                    if start == filled {
                        break;
                    }
                    let length = chunker.cut(&buffer[start..filled]);
                    let chunk = &buffer[start..start + length];
                    // A file of one chunk is hashed once.
                    let id = if only && length as u64 == len {
                        lane.add_file(chunk, single.insert(sha256(chunk)))?
                    } else {
                        lane.add(chunk, &whole.update_and_hash(chunk))?
                    };
                    data.extents.push((length as u64, Some(id)));
                    start += length;
                }
            }
        }
    }
    data.sha256 = single.unwrap_or_else(|| whole.finish());
    data.changed = reader.finish()? == Verdict::Changed;
    Ok(data)
}

fn hash_zeros(hasher: &mut Hasher, mut count: u64) {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while count > 0 {
        let part = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
        hasher.update(&ZEROS[..part]);
        count -= part as u64;
    }
}
