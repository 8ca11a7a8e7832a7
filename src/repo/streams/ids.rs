//! What the ids of states say: a state goes by a snapshot's id, its directory by a node's, and
//! its files by those of lists of extents. All three say which state is meant, so none of them
//! is kept anywhere.
//!
//! ```text
//! id of a state        name of its source's stream (8) ‖ position (8)
//! id of a part of it   tag (8) ‖ id of the state (16) ‖ 0 … ‖ which part (1)
//! ```
//!
//! A real snapshot's id is random and a chunk's a hash, so neither is taken for one of
//! these, and none of these is looked for in a pack. The name is a hash, so that nobody
//! makes a stream that goes by the name of another one.

use crate::base::{ChunkId, SnapshotId, StreamId};
use crate::index;
use crate::repo::library::FileContent;

/// What makes a part of a state known from a chunk.
const TAG: [u8; 8] = *b"asof\0\0at";
/// A part of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Its directory.
    Dir = 0,
    /// The database, to be opened where it is.
    File = 1,
    /// The database as it was.
    Raw = 2,
}

/// The id of a state.
#[must_use]
pub fn state_id(source: &str, stream: &StreamId, position: u64) -> SnapshotId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&index::stream_name(source, stream));
    id[8..].copy_from_slice(&position.to_be_bytes());
    SnapshotId(id)
}

pub(super) fn part_id(state: &SnapshotId, part: Part) -> ChunkId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&TAG);
    id[8..24].copy_from_slice(&state.0);
    id[31] = part as u8;
    ChunkId(id)
}

pub(super) fn part_of(id: &ChunkId) -> Option<(SnapshotId, Part)> {
    let state = SnapshotId::from_slice(&id.0[8..24])?;
    let part = match id.0[31] {
        0 => Part::Dir,
        1 => Part::File,
        2 => Part::Raw,
        _ => return None,
    };
    (id.0[..8] == TAG && *id == part_id(&state, part)).then_some((state, part))
}

/// A file of a state, if a content is one.
#[derive(Debug, Clone, Copy)]
pub struct StateFile {
    pub(super) state: SnapshotId,
    pub(super) raw: bool,
}

impl StateFile {
    /// The file that a content is.
    #[must_use]
    pub fn of(content: &FileContent) -> Option<StateFile> {
        let FileContent::Tree(id, _) = content else { return None };
        let (state, part) = part_of(id)?;
        Some(StateFile { state, raw: part == Part::Raw })
    }
}

/// Whether a node's id is that of a state's directory.
#[must_use]
pub fn is_state_dir(id: &ChunkId) -> bool {
    matches!(part_of(id), Some((_, Part::Dir)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_known_from_its_id_alone() {
        let state = state_id("shop", &StreamId([7; 16]), 12345);
        for part in [Part::Dir, Part::File, Part::Raw] {
            assert_eq!(part_of(&part_id(&state, part)), Some((state, part)));
        }
        for wrong in [0, 24, 30, 31] {
            let mut id = part_id(&state, Part::File);
            id.0[wrong] ^= 0x40;
            assert_eq!(part_of(&id), None, "byte {wrong}");
        }
    }
}
