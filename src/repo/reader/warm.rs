//! What will be wanted soon: which frames and nodes that is, and bringing them here.
//!
//! Questions about what comes next look in memory alone, since whoever asks them answers the
//! kernel; what they come to is done by the threads of [`super::Ahead`].

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::frames::PackInfo;
use super::{LOOK_UPS, Reader};
use crate::base::{ChunkId, Kind};
use crate::format::node::Node;
use crate::index::ChunkPlace;
use crate::repo::Result;

/// So far who goes on comes from one look to the next: the frame behind is small sometimes.
const FRAMES_ON: usize = 2;
/// In so many packs it is known how far somebody has come.
const FRONTS_MAX: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// The frame that follows another in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    pack: i64,
    frame: usize,
}

/// What one GET brings of a pack, from a frame on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pack: i64,
    from: usize,
}

/// How far who goes through packs has come in each. A chunk that is in other directories too
/// lies where it was first, and what lies behind it there is not wanted: only where somebody
/// gets from frame to frame is that so.
pub(super) struct Fronts(Mutex<LruCache<i64, Front>>);

struct Front {
    at: usize,
    /// Another frame that something was read from.
    other: usize,
}

impl Fronts {
    pub(super) fn new() -> Fronts {
        Fronts(Mutex::new(LruCache::new(FRONTS_MAX)))
    }

    /// Whether a frame is where somebody goes on.
    fn is_reached_by(&self, pack: i64, frame: usize) -> bool {
        let mut fronts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let front = fronts.get_or_insert_mut(pack, || Front { at: frame, other: frame });
        let goes_on = (front.at..=front.at + FRAMES_ON).contains(&frame);
        if goes_on || frame == front.other + 1 {
            *front = Front { at: frame, other: frame };
            return true;
        }
        front.other = frame;
        false
    }
}

impl Reader {
    /// Brings the frames that hold these chunks into memory, neighbours in one fetch, for
    /// somebody who reads in order.
    ///
    /// # Errors
    ///
    /// The first that occurs; what was fetched before it stays.
    pub fn warm(&self, ids: &[ChunkId]) -> Result<()> {
        self.find_places(ids)?;
        let mut wanted: Vec<(i64, usize, usize)> = Vec::new();
        for id in ids.iter().filter(|id| !self.strays.has(id)) {
            let places = self.places_of(id)?;
            // A claim that cannot be read from is false, or will be reported when the
            // chunk is read.
            let usable = |place: &ChunkPlace| Some((*place, self.pack(place.pack).ok()?));
            let Some((place, pack)) = places.iter().find_map(usable) else {
                continue;
            };
            let frames = pack.directory.frames_of(place.start, place.length);
            wanted.push((place.pack, frames.start, frames.end));
        }
        wanted.sort_unstable();
        let mut failed = Ok(());
        let mut runs = wanted.into_iter().peekable();
        while let Some((number, start, mut end)) = runs.next() {
            let pack = self.pack(number)?;
            while let Some(&(other, first, last)) = runs.peek() {
                if other != number
                    || first > end
                    || !pack.is_one_fetch(start..last, self.options.fetch_bytes)
                {
                    break;
                }
                end = end.max(last);
                runs.next();
            }
            match self.frames.load_run(&pack, start..end, true) {
                // One claim may be false, and says nothing of the others.
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged) => {
                    failed = failed.and(Err(error));
                }
                other => other?,
            }
        }
        failed
    }

    /// The places of chunks in a list, in the order in which the chunks are stored. What is
    /// none, or of which nothing is known, comes first.
    pub fn stored_order(&self, chunks: &[Option<ChunkId>]) -> Vec<usize> {
        let known: Vec<ChunkId> = chunks.iter().flatten().copied().collect();
        // Any order is right.
        let _ = self.find_places(&known);
        let place = |n: &usize| {
            let place = *self.places.get(chunks[*n].as_ref()?)?.first()?;
            Some((place.pack, place.start))
        };
        let mut order: Vec<usize> = (0..chunks.len()).collect();
        order.sort_by_cached_key(place);
        order
    }

    /// The frame that follows a chunk in its pack, if it should be opened now for who goes
    /// through many small files: it is not here. Looks in memory alone.
    ///
    /// Two backups of files side by side, as there are on two cores, leave every other frame to
    /// the other, so the next of either pack is enough. Of more, the memory cache drops some
    /// before they are read, and they are fetched and unpacked again.
    pub fn behind(&self, id: &ChunkId) -> Option<Behind> {
        let (number, pack, frame) = self.end_in_memory(id)?;
        let is_away =
            frame < pack.directory.frames.len() && !self.frames.is_in_memory(&pack, frame);
        (self.fronts.is_reached_by(number, frame) && is_away)
            .then_some(Behind { pack: number, frame })
    }

    /// What should be fetched next for who reads a file in order and has come to this chunk:
    /// frames that one GET brings. Looks in memory alone.
    pub fn next_run(&self, id: &ChunkId) -> Option<Run> {
        if self.options.run_bytes == 0 {
            return None;
        }
        let (number, pack, end) = self.end_in_memory(id)?;
        Some(Run { pack: number, from: self.frames.next_run(&pack, end)? })
    }

    /// The pack that a chunk is in, by its number too, and the first frame behind it, if all
    /// of that is in memory.
    fn end_in_memory(&self, id: &ChunkId) -> Option<(i64, Arc<PackInfo>, usize)> {
        let place = *self.places.get(id)?.first()?;
        let pack = self.packs.get(&place.pack)?;
        let end = pack.directory.frames_of(place.start, place.length).end;
        Some((place.pack, pack, end))
    }

    /// Fetches them, and keeps them sealed.
    ///
    /// # Errors
    ///
    /// As [`Reader::warm`].
    pub fn fetch_run(&self, run: Run) -> Result<()> {
        self.frames.fetch_run(&*self.pack(run.pack)?, run.from)
    }

    /// Opens what lies behind small files.
    ///
    /// # Errors
    ///
    /// As [`Reader::warm`].
    pub fn open_behind(&self, behind: Behind) -> Result<()> {
        let pack = self.pack(behind.pack)?;
        self.frames.load_run(&pack, behind.frame..behind.frame + 1, true)
    }

    /// Brings nodes into memory and decodes them. If what is in them will be read too, looks
    /// up where that is.
    ///
    /// # Errors
    ///
    /// As [`Reader::warm`].
    pub fn warm_nodes(&self, ids: &[ChunkId], with_contents: bool) -> Result<()> {
        let missing: Vec<ChunkId> =
            ids.iter().filter(|id| self.nodes.get(id).is_none()).copied().collect();
        let fetched = self.warm(&missing);
        let mut contents = Vec::new();
        for id in ids {
            if let Some(loaded) = self.node_in_memory(id)
                && with_contents
                && matches!(loaded.node, Node::Leaf(_))
                && contents.len() < LOOK_UPS
            {
                contents.extend_from_slice(&loaded.refs);
            }
        }
        contents.truncate(LOOK_UPS);
        self.find_places(&contents)?;
        fetched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is read of earlier frames meanwhile, who goes from frame to frame goes on, and
    /// who begins elsewhere is seen at the second frame.
    #[test]
    fn a_chunk_that_lies_far_off_is_no_way_to_go_on() {
        let fronts = Fronts::new();
        let reached = |frame| fronts.is_reached_by(1, frame);
        assert!(reached(50) && reached(50) && reached(51));
        assert!(!reached(4) && reached(52) && !reached(4) && !reached(4) && reached(53));
        assert!(!reached(90) && reached(91) && reached(92));
        assert!(fronts.is_reached_by(2, 4), "another pack");
    }
}
