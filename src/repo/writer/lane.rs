//! What a caller of the writer has: chunks go in, frames come out.
//!
//! A lane gathers neighbouring small chunks into a frame, which is compressed as one. A
//! chunk that the repository has, or that is on its way, goes no further.
//!
//! Nodes of directories with others below them have frames of their own. A small backup
//! stores new ones on the way to every change, and the next backup makes most of them out of
//! date; those of directories of files stay in use, and whoever reads them years and a
//! thousand backups later should not unpack the others with them. Those at the top of a tree
//! have one apart from these: it is small, and all that who only looks at a snapshot needs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Sender;

use super::{Destination, RawFrame, Shared, lock};
use crate::base::ChunkId;
use crate::codec::hash::sha256;
use crate::format::node::{Node, Statement};
use crate::repo::packer::FrameChunk;
use crate::repo::trees::NodeSink;
use crate::repo::{Error, Result};

/// A frame is closed when it has so much content. Bytes.
const FRAME_BYTES: usize = 5 << 19;
/// A piece of a file with at least this many bytes has a frame of its own: who reads here and
/// there in a long file should not unpack more than it wants.
const PIECE_ALONE: usize = 192 << 10;
/// A whole file has one only from here on. Among its neighbours it takes a fifth less.
const FILE_ALONE: usize = 512 << 10;

/// A caller's own way into the writer.
pub struct Lane {
    pub(super) shared: Arc<Shared>,
    pub(super) frames: Option<Sender<RawFrame>>,
    pub(super) to: Destination,
    pub(super) open: RawFrame,
    /// The same for nodes that are soon out of date.
    pub(super) upper: RawFrame,
    /// The same for those of them at the top of a tree.
    pub(super) top: RawFrame,
}

impl Lane {
    /// Stores a chunk, unless the repository has it. `sha` is the SHA-256 of `plain`.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] if a stage failed; [`Writer::finish`](super::Writer::finish) returns why.
    pub fn add(&mut self, plain: &[u8], sha: &[u8; 32]) -> Result<ChunkId> {
        self.add_to(plain, sha, |lane| &mut lane.open, PIECE_ALONE)
    }

    /// The same for a chunk that is all of a file.
    ///
    /// # Errors
    ///
    /// As [`Lane::add`].
    pub fn add_file(&mut self, plain: &[u8], sha: &[u8; 32]) -> Result<ChunkId> {
        self.add_to(plain, sha, |lane| &mut lane.open, FILE_ALONE)
    }

    /// From `alone` bytes on it has a frame of its own.
    fn add_to(
        &mut self,
        plain: &[u8],
        sha: &[u8; 32],
        frame: Choose,
        alone: usize,
    ) -> Result<ChunkId> {
        self.shared.check()?;
        let id = self.shared.repo.keys().ids.chunk_id(self.to.0, sha);
        if !self.claim(id)? {
            self.shared.chunks_known.fetch_add(1, Ordering::Relaxed);
            return Ok(id);
        }
        self.store(id, plain, frame, alone)?;
        Ok(id)
    }

    /// Stores a chunk again, though the repository has it.
    ///
    /// # Errors
    ///
    /// As [`Lane::add`].
    pub fn copy(&mut self, id: ChunkId, plain: &[u8]) -> Result<()> {
        self.shared.check()?;
        self.store(id, plain, |lane| &mut lane.open, PIECE_ALONE)
    }

    /// Stores the signed statement of a snapshot, given as its encoded fact with its
    /// references, so that the log can be rebuilt.
    ///
    /// # Errors
    ///
    /// As [`Lane::add`]; [`Error::NotAllowed`] if the keys at hand sign nothing.
    pub fn statement(&mut self, fact: &[u8], refs: &[ChunkId]) -> Result<()> {
        let repo = Arc::clone(&self.shared.repo);
        let certificate = repo.keys().certificate.clone();
        let key = repo.keys().signing()?;
        let statement = Statement::issue(key, repo.config().repository, certificate, fact);
        self.node(Node::Statement(statement).encode(refs))?;
        Ok(())
    }

    /// Stores a node of a directory at the top of a tree, with directories below it.
    ///
    /// # Errors
    ///
    /// As [`Lane::add`].
    pub fn top_node(&mut self, bytes: &[u8]) -> Result<ChunkId> {
        self.add_to(bytes, &sha256(bytes), |lane| &mut lane.top, PIECE_ALONE)
    }

    fn store(&mut self, id: ChunkId, plain: &[u8], frame: Choose, alone: usize) -> Result<()> {
        self.shared.chunks_new.fetch_add(1, Ordering::Relaxed);
        self.shared.bytes_new.fetch_add(plain.len() as u64, Ordering::Relaxed);
        if self.shared.options.dry_run {
            return Ok(());
        }
        let chunk = FrameChunk::new(id, plain);
        if plain.len() >= alone {
            let frame = RawFrame { to: self.to, plain: plain.to_vec(), chunks: vec![chunk] };
            return self.send(frame);
        }
        if frame(self).plain.len() + plain.len() > FRAME_BYTES {
            self.close(frame)?;
        }
        let open = frame(self);
        open.plain.extend_from_slice(plain);
        open.chunks.push(chunk);
        Ok(())
    }

    /// Passes on what is gathered.
    ///
    /// # Errors
    ///
    /// As [`Lane::add`].
    pub fn flush(&mut self) -> Result<()> {
        self.close(|lane| &mut lane.open)?;
        self.close(|lane| &mut lane.upper)?;
        self.close(|lane| &mut lane.top)
    }

    fn close(&mut self, frame: Choose) -> Result<()> {
        let next = RawFrame { to: self.to, plain: Vec::new(), chunks: Vec::new() };
        let full = std::mem::replace(frame(self), next);
        if full.chunks.is_empty() { Ok(()) } else { self.send(full) }
    }

    /// True if this caller is the one to store the chunk.
    fn claim(&self, id: ChunkId) -> Result<bool> {
        if lock(&self.shared.claimed).contains(&id) {
            return Ok(false);
        }
        // A chunk leaves the set only after the index has it, so one that was in
        // neither here is new, or is claimed by another lane this very moment.
        let doomed_too = !self.shared.repo.rules().condemned_is_no_evidence;
        let index = self.shared.repo.index();
        if let Some(evidence) = index.evidence(&id, self.shared.standing.since(), doomed_too)? {
            self.shared.standing.on_evidence(evidence);
            return Ok(false);
        }
        Ok(lock(&self.shared.claimed).insert(id))
    }

    fn send(&self, frame: RawFrame) -> Result<()> {
        match &self.frames {
            Some(frames) => frames.send(frame).map_err(|_| Error::Interrupted),
            None => Err(Error::Interrupted),
        }
    }
}

/// Which of a lane's open frames.
type Choose = fn(&mut Lane) -> &mut RawFrame;

impl NodeSink for Lane {
    fn node(&mut self, bytes: Vec<u8>) -> Result<ChunkId> {
        let sha = sha256(&bytes);
        self.add(&bytes, &sha)
    }

    fn upper_node(&mut self, bytes: Vec<u8>) -> Result<ChunkId> {
        let sha = sha256(&bytes);
        self.add_to(&bytes, &sha, |lane| &mut lane.upper, PIECE_ALONE)
    }
}
