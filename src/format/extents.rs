//! The content of a file: inline, a list of extents, or a tree of such lists.
//!
//! An extent is a hole or one whole chunk. Most files need no list at all, and
//! nearly all the rest a short one that stands in the entry itself. The list of a
//! file with more than [`LIST_MAX`] extents is cut into nodes, at places that
//! depend on the ids in it alone, and so is the list of those nodes: a change
//! inside a file of a terabyte costs a few nodes.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::base::ChunkId;
use crate::format::FormatError;

/// Content of at most this many bytes stands in the entry itself.
pub const INLINE_MAX: usize = 512;
/// A list of at most this many extents, or of lists, stands in one place.
pub const LIST_MAX: usize = 1024;

/// Where a file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Content {
    /// Here.
    #[n(0)]
    Inline(#[n(0)] ByteVec),
    /// In these extents, one after the other.
    #[n(1)]
    Extents(#[n(0)] Vec<Extent>),
    /// In the extents of the node at that place of the references.
    #[n(2)]
    Tree(#[n(0)] u32),
}

/// A run of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Extent {
    /// How many bytes.
    #[n(0)]
    pub length: u64,
    /// The chunk that holds them, by its place in the references; none is a hole.
    #[n(1)]
    pub chunk: Option<u32>,
}

/// A node in a tree of lists, as its parent has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ExtentChild {
    /// How many bytes of the file it holds.
    #[n(0)]
    pub length: u64,
    /// The node, by its place in the references.
    #[n(1)]
    pub node: u32,
}

/// Whether a list is cut after an item, decided by what the item is.
///
/// Levels use different bits, so that the cuts of one level are not those of the
/// next. About one item in 512 ends a list.
#[must_use]
pub fn ends_list(id: Option<&ChunkId>, level: u32) -> bool {
    let Some(id) = id else { return false };
    let at = (2 * level as usize) % 30;
    let number = u16::from_be_bytes([id.0[at], id.0[at + 1]]);
    number.is_multiple_of(512)
}

pub(crate) fn check_extents(extents: &[Extent], refs: usize) -> Result<u64, FormatError> {
    let wrong = |why: &str| FormatError::malformed("list of extents", why);
    let mut total: u64 = 0;
    for extent in extents {
        if extent.length == 0 || extent.chunk.is_some_and(|c| c as usize >= refs) {
            return Err(wrong("an extent is empty or names no chunk"));
        }
        if extent.chunk.is_some() && extent.length > u64::from(u32::MAX) {
            return Err(wrong("a chunk is too long"));
        }
        total = total.checked_add(extent.length).ok_or_else(|| wrong("it is too long"))?;
    }
    Ok(total)
}

pub(crate) fn check_children(children: &[ExtentChild], refs: usize) -> Result<u64, FormatError> {
    let wrong = |why: &str| FormatError::malformed("tree of extents", why);
    let mut total: u64 = 0;
    for child in children {
        if child.length == 0 || child.node as usize >= refs {
            return Err(wrong("a child is empty or names no node"));
        }
        total = total.checked_add(child.length).ok_or_else(|| wrong("it is too long"))?;
    }
    if children.is_empty() { Err(wrong("it has no children")) } else { Ok(total) }
}
