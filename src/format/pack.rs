//! Packs: the objects that hold chunks.
//!
//! A store charges for each request and a chunk may be a few hundred bytes, so
//! chunks travel in packs of about 17 MiB. A pack is written once:
//!
//! ```text
//! header     magic "asofpack" 8 | version u8 | kind u8 | zero u16 | envelope length u32 | random 32
//! envelope   CBOR, see `codec::envelope`; absent (length 0) without encryption
//! frames     sealed, one after the other
//! directory  sealed CBOR
//! footer     directory length u32 | magic "asofdir" + version u8
//! ```
//!
//! Integers are little-endian. The plaintexts of the frames, laid end to end, are
//! the pack's *content*; the chunks lie in it end to end, in the directory's
//! order. So a chunk is a range of the content: it may share a frame with its
//! neighbours, fill one alone, or run over several, and a reader needs one rule
//! for all of it.
//!
//! Arithmetic: a frame holds a chunk of 512 KiB, or about 2.5 MiB of smaller ones, a pack
//! therefore some tens of frames; its directory has 36 bytes a chunk and 8 a frame. With
//! chunks of 512 KiB that is 0.02 % of the pack, with files of 4 KiB 1 %. 17 MiB in memory per pack
//! being built or sent keeps a backup with four uploads under way below 100 MiB;
//! a pack half as large would double the number of PUTs, one twice as large would
//! save little.
//!
//! The directory comes last so that frames can be appended as they are made, and
//! it makes a pack self-describing: with the key, the index can be rebuilt from
//! packs alone.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::base::{ChunkId, PackId, RepositoryId};
use crate::codec::compress::Codec;
use crate::codec::hash::ChunkKind;
use crate::format::node::NODE_BYTES_MAX;
use crate::format::{FormatError, LAYOUT, decode_whole, encode};

const MAGIC: &[u8; 8] = b"asofpack";
const FOOTER_MAGIC: &[u8; 7] = b"asofdir";

/// Bytes of the header before the envelope.
pub const HEADER_BYTES: usize = 48;
/// Bytes of the footer.
pub const FOOTER_BYTES: usize = 12;
/// No pack is larger. Bytes.
pub const PACK_BYTES_MAX: u64 = 256 << 20;
/// No pack has more frames.
pub const FRAMES_MAX: usize = 1 << 16;
/// No frame holds more content. Bytes.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// The most that a chunk of that kind may have. Bytes.
#[must_use]
pub fn chunk_bytes_max(kind: ChunkKind) -> u32 {
    match kind {
        ChunkKind::Data => FRAME_BYTES_MAX as u32,
        ChunkKind::Node => NODE_BYTES_MAX as u32,
    }
}
/// No envelope is longer. Bytes.
const ENVELOPE_BYTES_MAX: u32 = 64 << 10;
/// No directory is longer. Bytes.
pub const DIRECTORY_BYTES_MAX: usize = 128 << 20;

/// The fixed head of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What the chunks in it are.
    pub kind: ChunkKind,
    /// Makes every pack's name unique; bound into the envelope.
    pub random: [u8; 32],
    /// Bytes of the envelope that follows.
    pub envelope_len: u32,
}

impl Header {
    /// Encodes it.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = LAYOUT;
        bytes[9] = self.kind as u8;
        bytes[12..16].copy_from_slice(&self.envelope_len.to_le_bytes());
        bytes[16..].copy_from_slice(&self.random);
        bytes
    }

    /// Decodes it from the beginning of a pack.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if it is none, or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Header, FormatError> {
        let short = || FormatError::malformed("pack", "it ends within its header");
        let head: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or_else(short)?;
        if head[..8] != *MAGIC {
            return Err(FormatError::malformed("pack", "it does not begin as a pack"));
        }
        check_version(head[8])?;
        let kind = decode_kind(head[9].into())?;
        let mut length = [0; 4];
        length.copy_from_slice(&head[12..16]);
        let envelope_len = u32::from_le_bytes(length);
        if envelope_len > ENVELOPE_BYTES_MAX {
            return Err(FormatError::malformed("pack", "its envelope is too long"));
        }
        let mut random = [0; 32];
        random.copy_from_slice(&head[16..]);
        Ok(Header { kind, random, envelope_len })
    }
}

fn check_version(version: u8) -> Result<(), FormatError> {
    if version == LAYOUT {
        return Ok(());
    }
    Err(FormatError::Future {
        what: "pack version",
        found: version.to_string(),
        known: LAYOUT.to_string(),
    })
}

fn decode_kind(kind: u64) -> Result<ChunkKind, FormatError> {
    match kind {
        0 => Ok(ChunkKind::Data),
        1 => Ok(ChunkKind::Node),
        _ => Err(FormatError::malformed("pack", format!("its kind is {kind}"))),
    }
}

/// The footer of a pack whose sealed directory has that many bytes.
#[must_use]
pub fn encode_footer(directory_len: u32) -> [u8; FOOTER_BYTES] {
    let mut bytes = [0; FOOTER_BYTES];
    bytes[..4].copy_from_slice(&directory_len.to_le_bytes());
    bytes[4..11].copy_from_slice(FOOTER_MAGIC);
    bytes[11] = LAYOUT;
    bytes
}

/// The length of the sealed directory, from the footer.
///
/// # Errors
///
/// [`FormatError`] if it is no footer, or of a later version.
pub fn decode_footer(bytes: &[u8]) -> Result<u32, FormatError> {
    let wrong = || FormatError::malformed("pack", "it does not end as a pack");
    let foot: &[u8; FOOTER_BYTES] = bytes.last_chunk().ok_or_else(wrong)?;
    if foot[4..11] != *FOOTER_MAGIC {
        return Err(wrong());
    }
    check_version(foot[11])?;
    let mut length = [0; 4];
    length.copy_from_slice(&foot[..4]);
    Ok(u32::from_le_bytes(length))
}

/// What is associated with every seal in a pack of that kind.
#[must_use]
pub fn associated(kind: ChunkKind) -> [u8; 12] {
    let mut bytes = *b"asof pack\0\0\0";
    bytes[10] = LAYOUT;
    bytes[11] = kind as u8;
    bytes
}

/// What an envelope of a pack is made for.
#[must_use]
pub fn envelope_info(repository: RepositoryId, kind: ChunkKind) -> Vec<u8> {
    [&associated(kind)[..], repository.as_bytes()].concat()
}

/// A frame of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Where its sealed bytes begin in the pack.
    pub offset: u64,
    /// How many sealed bytes it has.
    pub sealed_len: u32,
    /// Where its content begins in the pack's content.
    pub start: u64,
    /// How many bytes of content it has.
    pub plain_len: u32,
    /// How they are packed.
    pub codec: Codec,
}

/// Where everything in a pack is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// The frames, in order.
    pub frames: Vec<Frame>,
    /// Each chunk and its length, in the order in which they lie in the content.
    pub chunks: Vec<(ChunkId, u32)>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire {
    #[n(0)]
    first: u64,
    #[n(1)]
    sealed: Vec<u32>,
    #[n(2)]
    plain: Vec<u32>,
    #[n(3)]
    codecs: ByteVec,
    #[n(4)]
    ids: ByteVec,
    #[n(5)]
    lengths: Vec<u32>,
}

impl Directory {
    /// How many bytes of content there are.
    #[must_use]
    pub fn content_len(&self) -> u64 {
        self.frames.last().map_or(0, |f| f.start + u64::from(f.plain_len))
    }

    /// Each chunk with its place in the content.
    pub fn places(&self) -> impl Iterator<Item = (ChunkId, u64, u32)> + '_ {
        self.chunks.iter().scan(0, |at, &(id, length)| {
            let start = *at;
            *at += u64::from(length);
            Some((id, start, length))
        })
    }

    /// The frames that hold the content from `start` on for `length` bytes.
    #[must_use]
    pub fn frames_of(&self, start: u64, length: u32) -> std::ops::Range<usize> {
        let end = start + u64::from(length);
        let first = self.frames.partition_point(|f| f.start + u64::from(f.plain_len) <= start);
        let last = self.frames.partition_point(|f| f.start < end);
        first..last.max(first)
    }

    fn wire(&self) -> Wire {
        Wire {
            first: self.frames.first().map_or(0, |f| f.offset),
            sealed: self.frames.iter().map(|f| f.sealed_len).collect(),
            plain: self.frames.iter().map(|f| f.plain_len).collect(),
            codecs: self.frames.iter().map(|f| f.codec as u8).collect::<Vec<_>>().into(),
            ids: self.chunks.iter().flat_map(|(id, _)| id.0).collect::<Vec<_>>().into(),
            lengths: self.chunks.iter().map(|&(_, length)| length).collect(),
        }
    }

    fn frames_from_wire(wire: &Wire) -> Result<Directory, FormatError> {
        let wrong = |why: &str| FormatError::malformed("pack directory", why);
        let frames = wire.sealed.len();
        if wire.plain.len() != frames || wire.codecs.len() != frames {
            return Err(wrong("its columns of frames differ in length"));
        }
        if frames > FRAMES_MAX {
            return Err(wrong("it has too many frames"));
        }
        let mut directory = Directory::default();
        let (mut offset, mut start) = (wire.first, 0);
        for ((&sealed_len, &plain_len), &codec) in
            wire.sealed.iter().zip(&wire.plain).zip(wire.codecs.iter())
        {
            if plain_len as usize > FRAME_BYTES_MAX || offset > PACK_BYTES_MAX {
                return Err(wrong("a frame is out of bounds"));
            }
            let codec = match codec {
                0 => Codec::Raw,
                1 => Codec::Zstd,
                _ => return Err(wrong("a frame is packed in an unknown way")),
            };
            directory.frames.push(Frame { offset, sealed_len, start, plain_len, codec });
            offset += u64::from(sealed_len);
            start += u64::from(plain_len);
        }
        if offset > PACK_BYTES_MAX {
            return Err(wrong("a frame is out of bounds"));
        }
        Ok(directory)
    }

    fn from_wire(wire: &Wire) -> Result<Directory, FormatError> {
        let wrong = |why: &str| FormatError::malformed("pack directory", why);
        let mut directory = Directory::frames_from_wire(wire)?;
        let (ids, rest) = wire.ids.as_chunks::<32>();
        if !rest.is_empty() || ids.len() != wire.lengths.len() {
            return Err(wrong("its columns of chunks differ in length"));
        }
        directory.chunks =
            ids.iter().copied().map(ChunkId).zip(wire.lengths.iter().copied()).collect();
        let total: u64 = wire.lengths.iter().map(|&n| u64::from(n)).sum();
        if total != directory.content_len() {
            return Err(wrong("its chunks do not fill its frames"));
        }
        Ok(directory)
    }

    /// Encodes the frames alone, for an index that keeps the chunks elsewhere.
    #[must_use]
    pub fn encode_frames(&self) -> Vec<u8> {
        encode(&Directory { frames: self.frames.clone(), chunks: Vec::new() }.wire())
    }

    /// Decodes what [`Directory::encode_frames`] made.
    ///
    /// # Errors
    ///
    /// [`FormatError::Malformed`] if it is something else.
    pub fn decode_frames(bytes: &[u8]) -> Result<Directory, FormatError> {
        Directory::frames_from_wire(&decode_whole("pack's frames", bytes)?)
    }

    /// Encodes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&self.wire())
    }

    /// Decodes it, and checks that chunks and frames fit together.
    ///
    /// # Errors
    ///
    /// [`FormatError::Malformed`] if they do not.
    pub fn decode(bytes: &[u8]) -> Result<Directory, FormatError> {
        Directory::from_wire(&decode_whole("pack directory", bytes)?)
    }
}

/// A fact: a pack exists, and this is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackFact {
    /// Its name.
    pub id: PackId,
    /// What its chunks are.
    pub kind: ChunkKind,
    /// Its size in bytes.
    pub size: u64,
    /// The key that it is sealed with; none without encryption.
    pub key: Option<[u8; 32]>,
    /// What is in it, and where.
    pub directory: Directory,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct PackFactWire {
    #[n(0)]
    id: PackId,
    #[n(1)]
    kind: u64,
    #[n(2)]
    size: u64,
    #[n(3)]
    key: Option<ByteVec>,
    #[n(4)]
    directory: Wire,
}

impl PackFact {
    /// Encodes the fact's body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&PackFactWire {
            id: self.id,
            kind: self.kind as u64,
            size: self.size,
            key: self.key.map(|key| key.to_vec().into()),
            directory: self.directory.wire(),
        })
    }

    /// Decodes the fact's body.
    ///
    /// # Errors
    ///
    /// [`FormatError::Malformed`] if it is none.
    pub fn decode(body: &[u8]) -> Result<PackFact, FormatError> {
        let wire: PackFactWire = decode_whole("pack fact", body)?;
        let key = wire.key.map(|key| key.as_slice().try_into());
        let directory = Directory::from_wire(&wire.directory)?;
        let end = directory.frames.last().map_or(0, |f| f.offset + u64::from(f.sealed_len));
        if wire.size > PACK_BYTES_MAX || end > wire.size {
            return Err(FormatError::malformed("pack fact", "its frames end after the pack"));
        }
        Ok(PackFact {
            id: wire.id,
            kind: decode_kind(wire.kind)?,
            size: wire.size,
            key: key
                .transpose()
                .map_err(|_| FormatError::malformed("pack fact", "its key is not 32 bytes"))?,
            directory,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> Directory {
        let frame = |offset, sealed_len, start, plain_len| Frame {
            offset,
            sealed_len,
            start,
            plain_len,
            codec: Codec::Zstd,
        };
        Directory {
            frames: vec![frame(100, 10, 0, 30), frame(110, 20, 30, 50), frame(130, 5, 80, 20)],
            chunks: vec![
                (ChunkId([1; 32]), 10),
                (ChunkId([2; 32]), 20),
                (ChunkId([3; 32]), 60),
                (ChunkId([4; 32]), 10),
            ],
        }
    }

    #[test]
    fn header_footer_and_directory_read_back() {
        let header = Header { kind: ChunkKind::Node, random: [9; 32], envelope_len: 77 };
        assert_eq!(Header::decode(&header.encode()), Ok(header));
        assert_eq!(decode_footer(&encode_footer(1234)), Ok(1234));
        assert_eq!(Directory::decode(&directory().encode()), Ok(directory()));
        let fact = PackFact {
            id: PackId([5; 32]),
            kind: ChunkKind::Data,
            size: 1000,
            key: Some([6; 32]),
            directory: directory(),
        };
        assert_eq!(PackFact::decode(&fact.encode()), Ok(fact));
    }

    #[test]
    fn a_chunk_may_share_a_frame_or_run_over_several() {
        let directory = directory();
        let frames: Vec<_> = directory
            .places()
            .map(|(_, start, length)| directory.frames_of(start, length))
            .collect();
        assert_eq!(frames, [0..1, 0..1, 1..3, 2..3]);
        assert_eq!(directory.content_len(), 100);
    }

    #[test]
    fn a_later_version_is_said_to_be_one() {
        let mut bytes = Header { kind: ChunkKind::Data, random: [0; 32], envelope_len: 0 }.encode();
        bytes[8] = LAYOUT + 1;
        assert_eq!(Header::decode(&bytes).unwrap_err().kind(), crate::base::Kind::Future);
    }

    #[test]
    fn a_directory_that_contradicts_itself_is_refused() {
        let mut gap = directory();
        gap.chunks.pop();
        let mut huge = directory();
        huge.frames[0].plain_len = u32::MAX;
        for wrong in [gap, huge] {
            assert!(Directory::decode(&wrong.encode()).is_err());
        }
    }
}
