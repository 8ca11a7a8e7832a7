//! Packs, built in memory and taken apart again.
//!
//! A pack is decoded once more before it leaves the process: directory and every
//! frame opened, unpacked and each chunk compared with the checksum that was taken when
//! its id was made. A fault of this machine's memory, or of this program, then ends the
//! backup and not the past.

use bytes::Bytes;

use crate::base::{ChunkId, PackId, RepositoryId};
use crate::codec::compress::{self, Codec};
use crate::codec::envelope::{Envelope, PublicKey, SecretKey};
use crate::codec::hash::{ChunkKind, IdKey, checksum, sha256, sha256_of_two};
use crate::codec::random;
use crate::codec::seal::{Part, SealKey, Sealer, TAG_BYTES};
use crate::format::pack::{
    DIRECTORY_BYTES_MAX, Directory, FOOTER_BYTES, FRAME_BYTES_MAX, FRAMES_MAX, Frame, HEADER_BYTES,
    Header, PackFact, associated, chunk_bytes_max, decode_footer, encode_footer, envelope_info,
};
use crate::format::{FormatError, names};
use crate::repo::{Error, Result};

/// A pack with so many chunks is full, and so is a record: some 8 MB.
pub const CHUNKS_MANY: usize = 200_000;

/// A pack begins with memory for so many bytes at the most.
const SMALL: usize = 1 << 20;
/// What comes on top of the size that a pack should have: the end of its last frame,
/// and its directory.
const SPARE: usize = 2 << 20;

/// A frame that was compressed and waits for its place in a pack.
pub struct PackedFrame {
    /// How it is packed.
    pub codec: Codec,
    /// The packed bytes.
    pub packed: Vec<u8>,
    /// How many bytes it unpacks to.
    pub plain_len: u32,
    /// The chunks in it, in order.
    pub chunks: Vec<FrameChunk>,
}

/// A chunk on its way into a pack.
#[derive(Debug, Clone, Copy)]
pub struct FrameChunk {
    id: ChunkId,
    length: u32,
    check: u64,
}

impl FrameChunk {
    /// The chunk of that id. From here on its bytes may not change.
    #[must_use]
    pub fn new(id: ChunkId, plain: &[u8]) -> FrameChunk {
        let length = u32::try_from(plain.len()).unwrap_or(u32::MAX);
        FrameChunk { id, length, check: checksum(plain) }
    }
}

/// A pack being filled.
pub struct PackBuilder {
    kind: ChunkKind,
    random: [u8; 32],
    key: Option<SealKey>,
    sealer: Option<Sealer>,
    bytes: Vec<u8>,
    /// How many bytes it may come to have.
    expected: usize,
    directory: Directory,
    /// Of its chunks, in order.
    checks: Vec<u64>,
}

/// A pack that is complete.
pub struct BuiltPack {
    /// What a record says of it.
    pub fact: PackFact,
    /// Checksums of its chunks, in order.
    checks: Vec<u64>,
    /// Its bytes.
    pub bytes: Bytes,
}

impl PackBuilder {
    /// An empty pack, sealed to `recipient` if the repository is encrypted. Once it is not
    /// small it takes memory for `expected` bytes and some to spare.
    ///
    /// # Errors
    ///
    /// [`Error::Sealed`] if the recipient's key is none.
    pub fn new(
        kind: ChunkKind,
        repository: RepositoryId,
        recipient: Option<&PublicKey>,
        expected: usize,
    ) -> Result<PackBuilder> {
        let random = random::bytes();
        let key = recipient.map(|_| SealKey::random());
        let envelope = match (recipient, &key) {
            (Some(public), Some(key)) => {
                let info = envelope_info(repository, kind);
                let envelope = Envelope::seal(key, public, &info, &random)
                    .map_err(Error::sealed("the repository's public key"))?;
                crate::format::encode(&envelope)
            }
            _ => Vec::new(),
        };
        let envelope_len = u32::try_from(envelope.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(expected.min(SMALL));
        bytes.extend_from_slice(&Header { kind, random, envelope_len }.encode());
        bytes.extend_from_slice(&envelope);
        let sealer = key.as_ref().map(SealKey::sealer);
        let (directory, checks) = (Directory::default(), Vec::new());
        Ok(PackBuilder { kind, random, key, sealer, bytes, expected, directory, checks })
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.directory.frames.is_empty()
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it should be finished: it has `target` bytes, or as many chunks or
    /// frames as one record can well tell of. What compresses very well has many.
    #[must_use]
    pub fn is_full(&self, target: usize) -> bool {
        self.bytes.len() >= target
            || self.directory.chunks.len() >= CHUNKS_MANY
            || self.directory.frames.len() >= FRAMES_MAX / 2
    }

    /// Seals a frame and puts it behind the others.
    pub fn add(&mut self, frame: PackedFrame) {
        let number = u32::try_from(self.directory.frames.len()).unwrap_or(u32::MAX);
        let mut sealed = frame.packed;
        if let Some(sealer) = &self.sealer {
            sealer.seal(Part::Numbered(number), &associated(self.kind), &mut sealed);
        }
        self.directory.frames.push(Frame {
            offset: self.bytes.len() as u64,
            sealed_len: u32::try_from(sealed.len()).unwrap_or(u32::MAX),
            start: self.directory.content_len(),
            plain_len: frame.plain_len,
            codec: frame.codec,
        });
        self.checks.extend(frame.chunks.iter().map(|chunk| chunk.check));
        self.directory.chunks.extend(frame.chunks.iter().map(|chunk| (chunk.id, chunk.length)));
        self.make_room(sealed.len());
        self.bytes.extend_from_slice(&sealed);
    }

    /// Growing little by little would copy a pack of the usual size four times.
    fn make_room(&mut self, more: usize) {
        let have = self.bytes.len();
        if self.bytes.capacity() - have < more {
            let all = (have + more).max(self.expected + SPARE);
            self.bytes.reserve_exact(all - have);
        }
    }

    /// Completes the pack.
    #[must_use]
    pub fn finish(mut self) -> BuiltPack {
        let mut directory = self.directory.encode();
        if let Some(sealer) = &self.sealer {
            sealer.seal(Part::Last, &associated(self.kind), &mut directory);
        }
        self.make_room(directory.len() + FOOTER_BYTES);
        self.bytes.extend_from_slice(&directory);
        let length = u32::try_from(directory.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&encode_footer(length));
        debug_assert_eq!(self.bytes[16..48], self.random);
        let fact = PackFact {
            id: PackId(sha256(&self.bytes)),
            kind: self.kind,
            size: self.bytes.len() as u64,
            key: self.key.as_ref().map(|key| *key.as_bytes()),
            directory: self.directory,
        };
        BuiltPack { fact, checks: self.checks, bytes: self.bytes.into() }
    }
}

/// Opens and unpacks one frame of a pack.
///
/// # Errors
///
/// [`Error::Sealed`] naming the pack, if it does not open or unpack.
pub fn open_frame(
    pack: PackId,
    kind: ChunkKind,
    sealer: Option<&Sealer>,
    number: u32,
    frame: &Frame,
    sealed: &[u8],
) -> Result<Vec<u8>> {
    let wrong = || Error::sealed(names::pack(pack));
    let plain_len = frame.plain_len as usize;
    let Some(sealer) = sealer else {
        return compress::unpack(frame.codec, sealed, plain_len).map_err(wrong());
    };
    let mut bytes = sealed.to_vec();
    let opened =
        sealer.open(Part::Numbered(number), &associated(kind), &mut bytes).map_err(wrong())?.len();
    if frame.codec == Codec::Raw && opened == plain_len {
        bytes.truncate(opened);
        return Ok(bytes);
    }
    compress::unpack(frame.codec, &bytes[..opened], plain_len).map_err(wrong())
}

/// Reads the directory of a whole pack, with the key from its envelope or `key`.
///
/// # Errors
///
/// [`Error::Object`] or [`Error::Sealed`] naming the pack, if it is damaged or
/// sealed to others.
pub fn open_pack(
    id: PackId,
    bytes: &[u8],
    repository: RepositoryId,
    reader: Option<&SecretKey>,
    key: Option<&SealKey>,
) -> Result<PackFact> {
    if sha256(bytes) != id.0 {
        let why = "its bytes are not what its name says";
        return Err(Error::object(names::pack(id))(FormatError::malformed("pack", why)));
    }
    open_hashed(id, bytes, repository, reader, key)
}

/// The same for bytes that were hashed already.
fn open_hashed(
    id: PackId,
    bytes: &[u8],
    repository: RepositoryId,
    reader: Option<&SecretKey>,
    key: Option<&SealKey>,
) -> Result<PackFact> {
    let name = names::pack(id);
    let malformed =
        |why: &str| Error::object(name.clone())(FormatError::malformed("pack", why.to_owned()));
    let header = Header::decode(bytes).map_err(Error::object(name.clone()))?;
    let envelope_end = HEADER_BYTES + header.envelope_len as usize;
    let envelope =
        bytes.get(HEADER_BYTES..envelope_end).ok_or_else(|| malformed("it ends too soon"))?;
    let key = match (key, reader) {
        _ if envelope.is_empty() => None,
        (Some(key), _) => Some(key.clone()),
        (None, Some(reader)) => {
            let envelope: Envelope = crate::format::decode_whole("envelope", envelope)
                .map_err(Error::object(name.clone()))?;
            let info = envelope_info(repository, header.kind);
            let key = envelope.open(reader, &info, &header.random);
            Some(key.map_err(Error::sealed(name.clone()))?)
        }
        (None, None) => return Err(malformed("it is sealed, and there is no key")),
    };
    let length = decode_footer(bytes).map_err(Error::object(name.clone()))? as usize;
    let end = bytes.len() - FOOTER_BYTES;
    let start = end.checked_sub(length).filter(|&start| start >= envelope_end);
    let start = start.ok_or_else(|| malformed("its directory is longer than itself"))?;
    if length > DIRECTORY_BYTES_MAX {
        return Err(malformed("its directory is too long"));
    }
    let mut directory = bytes[start..end].to_vec();
    if let Some(key) = &key {
        let opened = key
            .sealer()
            .open(Part::Last, &associated(header.kind), &mut directory)
            .map_err(Error::sealed(name.clone()))?
            .len();
        directory.truncate(opened);
    }
    let directory = Directory::decode(&directory).map_err(Error::object(name.clone()))?;
    let frames_end = directory.frames.last().map_or(0, |f| f.offset + u64::from(f.sealed_len));
    if frames_end > start as u64 {
        return Err(malformed("its frames run into its directory"));
    }
    Ok(PackFact {
        id,
        kind: header.kind,
        size: bytes.len() as u64,
        key: key.map(|key| *key.as_bytes()),
        directory,
    })
}

/// Decodes a pack that was just built and compares everything with what went in.
///
/// # Errors
///
/// [`Error::Object`] or [`Error::ChunkCorrupt`]: this machine made a mistake, and
/// the pack must not be stored.
pub fn verify_pack(pack: &BuiltPack, repository: RepositoryId) -> Result<()> {
    let key = pack.fact.key.map(SealKey::from_bytes);
    let fact = open_hashed(pack.fact.id, &pack.bytes, repository, None, key.as_ref())?;
    if fact != pack.fact {
        let why = "it does not decode to what was encoded";
        return Err(Error::object(names::pack(fact.id))(FormatError::malformed("pack", why)));
    }
    each_plain(&fact, &pack.bytes, |place, chunk, plain| {
        match plain.map(checksum) == pack.checks.get(place).copied() {
            true => Ok(()),
            false => Err(Error::ChunkCorrupt { chunk, pack: fact.id }),
        }
    })
}

/// Compares every chunk of a whole pack with its id, and hands those that are not
/// what they should be to `corrupt`.
///
/// # Errors
///
/// What `corrupt` returns, or an error if a frame does not open.
pub fn verify_chunks(
    fact: &PackFact,
    bytes: &[u8],
    ids: &IdKey,
    mut corrupt: impl FnMut(ChunkId) -> Result<()>,
) -> Result<()> {
    let mut compare = |id: ChunkId, sha: &[u8; 32]| match ids.chunk_id(fact.kind, sha) == id {
        true => Ok(()),
        false => corrupt(id),
    };
    // Two are hashed in less time than one after the other.
    let (mut first, mut waiting) = (Vec::new(), None);
    let mut too_long = Vec::new();
    each_plain(fact, bytes, |_, id, plain| {
        let Some(plain) = plain else {
            too_long.push(id);
            return Ok(());
        };
        match waiting.take() {
            None => {
                first.clear();
                first.extend_from_slice(plain);
                waiting = Some(id);
                Ok(())
            }
            Some(before) => {
                let [one, other] = sha256_of_two(&first, plain);
                compare(before, &one)?;
                compare(id, &other)
            }
        }
    })?;
    if let Some(last) = waiting {
        compare(last, &sha256(&first))?;
    }
    too_long.into_iter().try_for_each(corrupt)
}

/// Hands every chunk of a whole pack to `each`: which one it is, its id, and its bytes
/// if they are what the id says.
///
/// # Errors
///
/// What `each` returns, or an error if a frame does not open.
pub fn each_chunk(
    fact: &PackFact,
    bytes: &[u8],
    ids: &IdKey,
    mut each: impl FnMut(usize, ChunkId, Option<&[u8]>) -> Result<()>,
) -> Result<()> {
    each_plain(fact, bytes, |place, id, plain| {
        each(place, id, plain.filter(|plain| ids.chunk_id(fact.kind, &sha256(plain)) == id))
    })
}

/// Hands every chunk of a whole pack to `each`: which one it is, its id, and the bytes that
/// stand there; none if it is longer than any chunk, or if there are fewer.
fn each_plain(
    fact: &PackFact,
    bytes: &[u8],
    mut each: impl FnMut(usize, ChunkId, Option<&[u8]>) -> Result<()>,
) -> Result<()> {
    let sealer = fact.key.map(|key| SealKey::from_bytes(key).sealer());
    let mut content: Vec<u8> = Vec::new();
    let mut content_start = 0;
    let mut frames = fact.directory.frames.iter().enumerate().peekable();
    let longest = chunk_bytes_max(fact.kind);
    for (place, (id, start, length)) in fact.directory.places().enumerate() {
        if length > longest {
            // Nobody stores such a chunk: whoever claims it wants memory filled.
            each(place, id, None)?;
            continue;
        }
        // Drop what earlier chunks used, then open frames until this one is whole.
        let done = usize::try_from(start - content_start).unwrap_or(usize::MAX);
        if done >= content.len() {
            content.clear();
            let ends = |frame: &Frame| frame.start + u64::from(frame.plain_len);
            while frames.next_if(|(_, frame)| ends(frame) <= start).is_some() {}
            content_start = frames.peek().map_or(start, |(_, frame)| frame.start.min(start));
        } else if done > FRAME_BYTES_MAX {
            content.drain(..done);
            content_start = start;
        }
        let at = usize::try_from(start - content_start).unwrap_or(usize::MAX);
        while content.len() < at + length as usize {
            let Some((number, frame)) = frames.next() else { break };
            let begin = usize::try_from(frame.offset).unwrap_or(usize::MAX);
            let sealed = bytes.get(begin..begin + frame.sealed_len as usize);
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let plain = open_frame(
                fact.id,
                fact.kind,
                sealer.as_ref(),
                number,
                frame,
                sealed.unwrap_or_default(),
            )?;
            if content.is_empty() {
                content = plain;
            } else {
                content.extend_from_slice(&plain);
            }
        }
        each(place, id, content.get(at..at + length as usize))?;
    }
    Ok(())
}

/// How much sealing adds to a frame.
pub const FRAME_OVERHEAD: usize = TAG_BYTES;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::compress::Compressor;
    use crate::format::node::NODE_BYTES_MAX;

    const REPOSITORY: RepositoryId = RepositoryId([1; 32]);

    fn built(recipient: Option<&PublicKey>, ids: &IdKey) -> BuiltPack {
        let mut builder =
            PackBuilder::new(ChunkKind::Data, REPOSITORY, recipient, 1 << 16).unwrap();
        let mut compressor = Compressor::new(3);
        for n in 0..5_u8 {
            let small = vec![n; 1000];
            let other = vec![n ^ 0x55; 500];
            let plain = [small.clone(), other.clone()].concat();
            let (codec, packed) = compressor.pack(&plain);
            let chunk = |c: &[u8]| FrameChunk::new(ids.chunk_id(ChunkKind::Data, &sha256(c)), c);
            let chunks = vec![chunk(&small), chunk(&other)];
            builder.add(PackedFrame { codec, packed, plain_len: 1500, chunks });
        }
        builder.finish()
    }

    #[test]
    fn a_pack_opens_by_its_envelope_for_the_reader_alone() {
        let secret = SecretKey::random();
        let ids = IdKey::secret(&[1; 32]);
        let public = secret.public();
        let pack = built(Some(&public), &ids);
        verify_pack(&pack, REPOSITORY).unwrap();
        let open = |reader| open_pack(pack.fact.id, &pack.bytes, REPOSITORY, reader, None);
        assert_eq!(open(Some(&secret)).unwrap(), pack.fact);
        let stranger = SecretKey::random();
        assert!(open(Some(&stranger)).is_err());
        assert!(open(None).is_err());
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        for encrypted in [false, true] {
            let secret = SecretKey::random();
            let public = secret.public();
            let ids = IdKey::secret(&[1; 32]);
            let pack = built(encrypted.then_some(&public), &ids);
            for i in 0..pack.bytes.len() {
                let mut bytes = pack.bytes.to_vec();
                bytes[i] ^= 4;
                let opened = open_pack(pack.fact.id, &bytes, REPOSITORY, Some(&secret), None);
                assert!(opened.is_err(), "byte {i}");
            }
        }
    }

    /// A chunk that nobody may store is not put together, and those beside it are read.
    #[test]
    fn a_chunk_that_is_too_long_is_passed_over() {
        let ids = IdKey::secret(&[1; 32]);
        let mut compressor = Compressor::new(3);
        let long = NODE_BYTES_MAX + (1 << 20);
        let part = long / 2;
        let id = |plain: &[u8]| ids.chunk_id(ChunkKind::Node, &sha256(plain));
        let mut builder = PackBuilder::new(ChunkKind::Node, REPOSITORY, None, 1 << 16).unwrap();
        let chunk = |plain: &[u8]| FrameChunk::new(id(plain), plain);
        let mut add = |plain: Vec<u8>, chunks: Vec<FrameChunk>| {
            let (codec, packed) = compressor.pack(&plain);
            builder.add(PackedFrame { codec, packed, plain_len: plain.len() as u32, chunks });
        };
        let (before, behind) = (vec![1; 1000], vec![2; 500]);
        let zeros = vec![0; long];
        let first = [before.as_slice(), &zeros[..part]].concat();
        add(first, vec![chunk(&before), chunk(&zeros)]);
        add([&zeros[part..], behind.as_slice()].concat(), vec![chunk(&behind)]);
        let pack = builder.finish();
        let mut found = Vec::new();
        each_chunk(&pack.fact, &pack.bytes, &ids, |place, _, plain| {
            found.push((place, plain.map(<[u8]>::to_vec)));
            Ok(())
        })
        .unwrap();
        assert_eq!(found, [(0, Some(before)), (1, None), (2, Some(behind))]);
    }

    #[test]
    fn a_chunk_that_is_not_its_id_is_named() {
        let ids = IdKey::secret(&[1; 32]);
        let pack = built(None, &ids);
        let mut wrong = Vec::new();
        verify_chunks(&pack.fact, &pack.bytes, &IdKey::secret(&[2; 32]), |id| {
            wrong.push(id);
            Ok(())
        })
        .unwrap();
        assert_eq!(wrong.len(), 10);
    }

    /// Whatever happens to a chunk after its id was made, the pack is not stored.
    #[test]
    fn a_chunk_that_changed_on_its_way_is_noticed() {
        let ids = IdKey::secret(&[1; 32]);
        let plain = vec![7; 1000];
        let chunk = FrameChunk::new(ids.chunk_id(ChunkKind::Data, &sha256(&plain)), &plain);
        for bit in [0, 4000, 7999] {
            let mut altered = plain.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let (codec, packed) = Compressor::new(3).pack(&altered);
            let mut builder = PackBuilder::new(ChunkKind::Data, REPOSITORY, None, 1 << 16).unwrap();
            builder.add(PackedFrame { codec, packed, plain_len: 1000, chunks: vec![chunk] });
            let error = verify_pack(&builder.finish(), REPOSITORY).unwrap_err();
            assert!(matches!(error, Error::ChunkCorrupt { .. }), "bit {bit}: {error}");
        }
    }
}
