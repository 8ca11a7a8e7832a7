//! The repository as a [`Library`]: what the mount and `restore` read through.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::base::{ChunkId, SnapshotId, UnixTime};
use crate::repo::library::{FileContent, Library, LoadedNode, Moment, SnapshotInfo, Whence};
use crate::repo::reader::{Ahead, Hint, Reader, ReaderOptions};
use crate::repo::streams::{StateFile, States, is_state_dir};
use crate::repo::{Error, LocalOptions, Repository, Result};

/// A repository with a reader and what fetches ahead of it.
pub struct Shelf {
    repo: Arc<Repository>,
    // Before the reader, so that its threads end first.
    ahead: Ahead,
    reader: Arc<Reader>,
    states: States,
    /// The snapshots that the last refresh saw: another process may have learnt of
    /// others since.
    seen: Mutex<Option<Seen>>,
}

/// Numbers that change with the snapshots, and with the segments.
type Seen = ((i64, i64, i64), i64);

impl Shelf {
    /// Opens a repository's content for reading.
    ///
    /// # Errors
    ///
    /// [`crate::repo::Error::NotAllowed`] if the keys at hand only write.
    pub fn open(
        repo: &Arc<Repository>,
        local: &LocalOptions,
        options: ReaderOptions,
    ) -> Result<Shelf> {
        let options = match repo.store().local_path() {
            Some(_) => options.for_directory(),
            None => options.for_bucket(),
        };
        let reader = Arc::new(repo.reader(local, options)?);
        let seen = Mutex::new(seen(repo).ok());
        let (ahead, states) = (Ahead::new(&reader), States::new(repo));
        Ok(Shelf { repo: Arc::clone(repo), ahead, reader, states, seen })
    }

    /// The repository.
    #[must_use]
    pub fn repo(&self) -> &Arc<Repository> {
        &self.repo
    }

    /// The reader.
    #[must_use]
    pub fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }
}

fn seen(repo: &Repository) -> Result<Seen> {
    Ok((repo.index().snapshots_version()?, repo.index().segments_version()?))
}

/// The kernel asks for so much at once when a program reads with large buffers. Bytes.
const WHOLE_BYTES: usize = 256 << 10;
/// The most chunks of one hint.
const HINT_CHUNKS: usize = 256;

impl Library for Shelf {
    fn snapshots(&self) -> Result<Vec<Arc<SnapshotInfo>>> {
        Ok(self.repo.snapshots()?.to_vec())
    }

    fn moments(&self) -> Result<Vec<Moment>> {
        self.repo.moments()
    }

    fn newest_moments(&self) -> Result<Vec<Moment>> {
        self.repo.newest_moments()
    }

    fn state_at(&self, source: &str, at: UnixTime) -> Result<Option<Moment>> {
        self.states.at(source, at)
    }

    fn newest_states(&self) -> Result<Vec<Moment>> {
        self.states.newest()
    }

    fn state_instants(&self) -> Result<Vec<UnixTime>> {
        self.states.instants()
    }

    fn snapshot(&self, id: &SnapshotId) -> Result<Option<Arc<SnapshotInfo>>> {
        match self.repo.snapshot(id)? {
            Some(info) => Ok(Some(info)),
            None => self.states.snapshot(self, id),
        }
    }

    fn refresh(&self) -> Result<bool> {
        let current = self.repo.index().is_current();
        if let Some(name) = self.repo.sync(false)?.lost {
            return Err(Error::LogLost { name, store: self.repo.store().location() });
        }
        if !current {
            self.reader.forget_places();
        }
        let now = Some(seen(&self.repo)?);
        let before =
            std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), now);
        if !current || now.map(|seen| seen.0) != before.map(|seen| seen.0) {
            // What was forgotten may be part of them.
            self.states.clear();
        }
        Ok(!current || now != before)
    }

    fn node(&self, id: &ChunkId) -> Result<Arc<LoadedNode>> {
        match is_state_dir(id) {
            true => self.states.dir(self, id),
            false => self.reader.node(id),
        }
    }

    fn node_in_memory(&self, id: &ChunkId) -> Option<Arc<LoadedNode>> {
        if is_state_dir(id) {
            return None;
        }
        self.reader.node_in_memory(id)
    }

    fn read(&self, content: &FileContent, offset: u64, length: usize) -> Result<Bytes> {
        if let Some(file) = StateFile::of(content) {
            return self.states.read(self, &self.reader, file, offset, length);
        }
        // Who asks for so much of a file's beginning means to read it all.
        let from_start = offset == 0 && length >= WHOLE_BYTES;
        let in_order = from_start || self.ahead.is_in_order(content, offset);
        let bytes = self.reader.read(content, offset, length, in_order)?;
        self.ahead.note(&self.reader, content, offset, offset + bytes.len() as u64);
        Ok(bytes)
    }

    fn read_in_memory(&self, content: &FileContent, offset: u64, length: usize) -> Option<Bytes> {
        if StateFile::of(content).is_some() {
            return None;
        }
        let bytes = self.reader.read_in_memory(content, offset, length)?;
        self.ahead.note(&self.reader, content, offset, offset + bytes.len() as u64);
        Some(bytes)
    }

    fn seek(&self, content: &FileContent, offset: u64, whence: Whence) -> Result<Option<u64>> {
        match StateFile::of(content) {
            Some(file) => self.states.seek(self, file, offset, whence),
            None => self.reader.seek(content, offset, whence),
        }
    }

    fn prefetch(&self, contents: &[FileContent]) {
        let mut ids = Vec::new();
        for content in contents {
            match content {
                FileContent::Extents(extents, _) => {
                    ids.extend(extents.iter().take(2).filter_map(|(_, chunk)| *chunk));
                }
                FileContent::Tree(..) | FileContent::Empty | FileContent::Inline(_) => {}
            }
            if ids.len() >= HINT_CHUNKS {
                break;
            }
        }
        if !ids.is_empty() {
            self.ahead.hint(Hint::Chunks(ids));
        }
    }

    fn stored_order(&self, contents: &[FileContent]) -> Vec<usize> {
        let first = |content: &FileContent| match content {
            FileContent::Extents(extents, _) => extents.iter().find_map(|(_, chunk)| *chunk),
            FileContent::Tree(..) | FileContent::Empty | FileContent::Inline(_) => None,
        };
        let chunks: Vec<Option<ChunkId>> = contents.iter().map(first).collect();
        self.reader.stored_order(&chunks)
    }

    fn prefetch_nodes(&self, ids: &[ChunkId], with_contents: bool) {
        let ids = ids.iter().take(HINT_CHUNKS).copied().collect();
        self.ahead.hint(Hint::Nodes(ids, with_contents));
    }

    fn prefetch_behind(&self, content: &FileContent) {
        if let FileContent::Extents(extents, _) = content
            && let Some(id) = extents.iter().rev().find_map(|(_, chunk)| *chunk)
            && let Some(behind) = self.reader.behind(&id)
        {
            self.ahead.hint(Hint::Behind(behind));
        }
    }

    fn view_number(&self, name: &str, least: u64) -> Result<u64> {
        Ok(self.repo.index().view_number(name, least)?)
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut counters = self.reader.counters();
        counters.push(("hints_dropped", self.ahead.dropped()));
        counters
    }

    fn stored_size(&self, content: &FileContent) -> Result<u64> {
        match StateFile::of(content) {
            // What the changes since take lies in segments, with those of other states.
            Some(file) => self.reader.stored_size(&self.states.base_content(self, file)?),
            None => self.reader.stored_size(content),
        }
    }

    fn stored_bytes(&self) -> Result<u64> {
        Ok(self.repo.index().stored_bytes()?)
    }
}
