//! From captured changes and images to what is in the repository.
//!
//! A segment's pages lie one behind the other in chunks of a mebibyte, each a frame of its
//! own: neighbouring changes of a database write the same few pages again and again, and
//! compressed as one they take a hundredth. An image is a snapshot of one file, cut every
//! 64 KiB, so that pages which did not change cost nothing the next time.
//!
//! Everything that one process publishes of a source is one chain, so that a record which
//! is taken out of the log later is missed.

use std::io::Read;
use std::sync::Arc;

use super::change::Change;
use crate::base::{ChunkId, Progress, SnapshotId, Stop, StreamId, UnixTime};
use crate::codec::hash::{ChunkKind, Hasher, sha256};
use crate::codec::random;
use crate::format::fact::{Counts, Fact, Forget, Snapshot};
use crate::format::node::{Entry, FileKind};
use crate::format::segment::{self, PAGES, Segment, StreamPoint};
use crate::ops::backup::first_cause;
use crate::ops::{Error, Result};
use crate::repo::log::{Chain, EncodedFact, Published};
use crate::repo::trees::{DirBuilder, Draft, store_extents};
use crate::repo::writer::{Writer, WriterOptions, Written};
use crate::repo::{self, Repository};

/// A chunk of a segment holds so much. Bytes.
const SEGMENT_CHUNK: usize = 1 << 20;
/// Where an image is cut. Bytes: no smaller than the largest page.
const IMAGE_CHUNK: usize = 64 << 10;

/// What is followed, for people and for the tree.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The source's name.
    pub source: String,
    /// The kind of source.
    pub kind: &'static str,
    /// The absolute path of the database.
    pub path: Vec<u8>,
    /// The machine's name.
    pub host: String,
    /// The user's name.
    pub user: String,
}

/// The image of a state.
pub struct Image<'a> {
    /// Which state of a stream it is, if it is one.
    pub point: Option<StreamPoint>,
    /// When that was seen.
    pub at: UnixTime,
    /// The database's file, without content.
    pub file: Draft,
    /// Its bytes.
    pub bytes: &'a mut dyn Read,
}

/// Publishes what is captured of one source.
pub struct Publisher {
    repo: Arc<Repository>,
    origin: Origin,
    options: WriterOptions,
    stop: Stop,
    chain: Chain,
    parent: Option<SnapshotId>,
}

impl Publisher {
    /// For one source. Costs nothing.
    #[must_use]
    pub fn new(
        repo: &Arc<Repository>,
        origin: Origin,
        options: WriterOptions,
        stop: &Stop,
    ) -> Publisher {
        Publisher {
            repo: Arc::clone(repo),
            origin,
            options,
            stop: stop.clone(),
            chain: Chain::bundled(),
            parent: None,
        }
    }

    /// Publishes changes that follow each other, the first of them made to the state at
    /// `after`. All have pages of one size.
    ///
    /// # Errors
    ///
    /// [`Error`] if nothing was published.
    pub fn segment(
        &mut self,
        stream: StreamId,
        after: u64,
        changes: &[Change],
    ) -> Result<(Published, Written)> {
        self.publish_segment(stream, after, changes, Vec::new())
    }

    /// Publishes changes in the place of segments and snapshots that are forgotten with
    /// them; or only forgets these, if there are no changes.
    ///
    /// # Errors
    ///
    /// [`Error`] if nothing was published; only the owner may forget.
    pub fn replace(
        &mut self,
        stream: StreamId,
        after: u64,
        changes: &[Change],
        forgotten: Vec<SnapshotId>,
    ) -> Result<Written> {
        let reason = Some("thinned".to_owned());
        let forget = Fact::Forget(Forget { snapshots: forgotten, reason });
        let forget = vec![EncodedFact::of(&forget)];
        if changes.is_empty() {
            let mut chain = self.take_chain();
            chain.publish(&self.repo, forget, None)?;
            self.chain = chain;
            return Ok(Written::default());
        }
        self.publish_segment(stream, after, changes, forget).map(|(_, written)| written)
    }

    fn publish_segment(
        &mut self,
        stream: StreamId,
        after: u64,
        changes: &[Change],
        others: Vec<EncodedFact>,
    ) -> Result<(Published, Written)> {
        let Some(first) = changes.first() else { return Err(nothing()) };
        let chunk_pages = (SEGMENT_CHUNK / first.page_bytes as usize).max(1);
        let mut segment = Segment {
            id: SnapshotId(random::bytes()),
            source: self.origin.source.clone(),
            stream,
            kind: PAGES.into(),
            after,
            begins: first.at,
            within: 0,
            changes: Vec::with_capacity(changes.len()),
            page_bytes: first.page_bytes,
            chunk_pages: u32::try_from(chunk_pages).unwrap_or(u32::MAX),
        };
        let (mut position, mut at) = (after, first.at);
        for change in changes {
            segment.within = segment.within.max(change.within);
            segment.changes.push(segment::Change {
                step: change.position.saturating_sub(position),
                delay: u64::try_from(change.at.since(at).as_nanos()).unwrap_or(u64::MAX),
                size: change.size,
                pages: distances(&change.numbers),
            });
            (position, at) = (change.position, change.at);
        }
        let writer = self.start()?;
        let stored = store_pages(&writer, changes, chunk_pages);
        let refs = match stored {
            Ok(refs) => refs,
            Err(error) => return Err(first_cause(writer, error)),
        };
        let fact = Fact::Segment(Box::new(segment)).encode(&refs);
        let mut facts = vec![EncodedFact { bytes: fact }];
        facts.extend(others);
        self.finish(writer, facts)
    }

    /// Publishes an image as a snapshot.
    ///
    /// # Errors
    ///
    /// [`Error`] if there is no snapshot.
    pub fn image(&mut self, image: Image<'_>) -> Result<(Published, Written)> {
        let writer = self.start()?;
        let stored = self.store_image(&writer, image);
        let (id, fact) = match stored {
            Ok(stored) => stored,
            Err(error) => return Err(first_cause(writer, error)),
        };
        let done = self.finish(writer, vec![EncodedFact { bytes: fact }])?;
        self.parent = Some(id);
        Ok(done)
    }

    fn store_image(&self, writer: &Writer, image: Image<'_>) -> Result<(SnapshotId, Vec<u8>)> {
        let Image { point, at, mut file, bytes } = image;
        let mut lane = writer.lane(ChunkKind::Data);
        let mut whole = Hasher::new();
        let mut extents: Vec<(u64, Option<ChunkId>)> = Vec::new();
        let mut buffer = vec![0; IMAGE_CHUNK];
        let mut size = 0;
        loop {
            let filled = fill(bytes, &mut buffer, &self.origin)?;
            let chunk = &buffer[..filled];
            if chunk.is_empty() {
                break;
            }
            whole.update(chunk);
            extents.push((filled as u64, Some(lane.add(chunk, &sha256(chunk))?)));
            size += filled as u64;
        }
        lane.flush()?;
        drop(lane);
        let mut nodes = writer.lane(ChunkKind::Node);
        let owner = file.owner.clone();
        file.entry.size = size;
        (file.entry.mtime, file.entry.ctime) = (at, at);
        file.entry.sha256 = Some(whole.finish().to_vec().into());
        (file.entry.content, file.refs) = store_extents(&extents, &mut nodes)?;
        let mut builder = DirBuilder::new(self.repo.keys().split.clone());
        builder.add(file, 0, &mut nodes)?;
        let root = Entry::new(b"", FileKind::Dir, 0o700, at);
        let root = Draft { entry: root, refs: Vec::new(), owner };
        let Draft { entry, refs, owner } = builder.finish(&mut nodes)?.entry_of(root);
        let id = SnapshotId(random::bytes());
        let counts =
            Counts { files: 1, dirs: 1, bytes: size, bytes_read: size, ..Counts::default() };
        let snapshot = Snapshot {
            kind: self.origin.kind.into(),
            roots: vec![self.origin.path.clone().into()],
            host: self.origin.host.clone(),
            user: self.origin.user.clone(),
            parent: self.parent,
            counts: Counts { bytes_new: writer.bytes_new(), ..counts },
            point,
            ..Snapshot::new(id, &self.origin.source, entry, owner, at)
        };
        let fact = Fact::Snapshot(Box::new(snapshot)).encode(&refs);
        nodes.statement(&fact, &refs)?;
        nodes.flush()?;
        Ok((id, fact))
    }

    /// Makes the end of what is published cheap to learn. Costs a PUT at most.
    pub fn close(&mut self) {
        self.chain.close_bundle(&self.repo);
    }

    /// A record that may have been stored or not ends the chain: see `Chain::publish`.
    fn take_chain(&mut self) -> Chain {
        std::mem::replace(&mut self.chain, Chain::bundled())
    }

    fn start(&mut self) -> Result<Writer> {
        let chain = self.take_chain();
        let progress = Arc::new(Progress::default());
        Ok(Writer::start_on(chain, &self.repo, self.options, None, &progress, &self.stop)?)
    }

    fn finish(&mut self, writer: Writer, facts: Vec<EncodedFact>) -> Result<(Published, Written)> {
        let (published, written, chain) = writer.finish_chain(facts)?;
        self.chain = chain;
        published.map(|published| (published, written)).ok_or_else(nothing)
    }
}

fn store_pages(writer: &Writer, changes: &[Change], chunk_pages: usize) -> Result<Vec<ChunkId>> {
    let mut lane = writer.lane(ChunkKind::Data);
    let (mut refs, mut chunk) = (Vec::new(), Vec::new());
    for change in changes {
        let full = chunk_pages * change.page_bytes as usize;
        let mut data = change.data.read().map_err(spooled)?;
        loop {
            let wanted = (full - chunk.len()) as u64;
            let read = data.by_ref().take(wanted).read_to_end(&mut chunk).map_err(spooled)?;
            if chunk.len() == full {
                refs.push(lane.add(&chunk, &sha256(&chunk))?);
                chunk.clear();
            } else if read == 0 {
                break;
            }
        }
    }
    if !chunk.is_empty() {
        refs.push(lane.add(&chunk, &sha256(&chunk))?);
    }
    lane.flush()?;
    Ok(refs)
}

fn spooled(source: std::io::Error) -> Error {
    Error::File { path: "what was captured".into(), source }
}

/// The first number, then how much greater each is than the one before.
fn distances(numbers: &[u32]) -> Vec<u32> {
    let mut before = 0;
    numbers.iter().map(|number| number - std::mem::replace(&mut before, *number)).collect()
}

fn fill(from: &mut dyn Read, buffer: &mut [u8], origin: &Origin) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => {
                let path = String::from_utf8_lossy(&origin.path);
                return Err(Error::File { path: format!("the image of {path}").into(), source });
            }
        }
    }
    Ok(filled)
}

fn nothing() -> Error {
    repo::Error::Worker("nothing was published".into()).into()
}
