//! Hashes, and the ids that are made of them.
//!
//! A chunk's id is a keyed hash over its kind and the SHA-256 of its plaintext.
//! The key hides from the holder of the bucket which known files are in it. The
//! plain hash is inside so that a file of one chunk is hashed once, for its id
//! and for the whole-file digest that people ask for. The kind is inside so that
//! file content can never be taken for a tree node.

use aws_lc_rs::{hkdf, hmac};
use sha2::{Digest, Sha256};

use crate::base::{ChunkId, RepositoryId};

/// What a chunk is; the first byte that its id is made over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ChunkKind {
    /// A piece of a file's content.
    Data = 0,
    /// A node: directories, lists of extents, link tables, statements.
    Node = 1,
}

/// Tells bytes from what a fault of memory or of a program makes of them, in a twentieth of a
/// hash's time. It is no protection from anybody who means to deceive.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u64 {
    twox_hash::XxHash3_64::oneshot(bytes)
}

/// SHA-256 of bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// SHA-256 of two runs of bytes, in less time than one after the other.
#[must_use]
pub fn sha256_of_two(one: &[u8], other: &[u8]) -> [[u8; 32]; 2] {
    let (mut first, mut second) = (Hasher::new(), Hasher::new());
    update_beside(&mut first, one, &mut second, other);
    [first.finish(), second.finish()]
}

/// Two hashes advance by turns of so many bytes: few enough that the processor sees the
/// next turn while it is at this one.
const BESIDE: usize = 128;

/// Goes on with two hashes, by turns.
///
/// A hash is a chain in which each step waits for the one before, so a processor has time
/// for a second one beside it: both take some 1.4 times as long as one.
fn update_beside(first: &mut Hasher, one: &[u8], second: &mut Hasher, other: &[u8]) {
    let both = one.len().min(other.len());
    for (one, other) in one[..both].chunks(BESIDE).zip(other[..both].chunks(BESIDE)) {
        first.update(one);
        second.update(other);
    }
    first.update(&one[both..]);
    second.update(&other[both..]);
}

/// SHA-256 of several runs of bytes, one after the other.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// A hash over nothing yet.
    #[must_use]
    pub fn new() -> Hasher {
        Hasher::default()
    }

    /// Goes on over these bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Goes on over these bytes, and hashes them by themselves as well, in less time than one
    /// after the other.
    #[must_use]
    pub fn update_and_hash(&mut self, bytes: &[u8]) -> [u8; 32] {
        let mut own = Hasher::new();
        update_beside(self, bytes, &mut own, bytes);
        own.finish()
    }

    /// The hash over all that was given.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// Everything that is derived from the id key: chunk ids, the chunker's gear
/// table, where long directories split.
///
/// Without encryption there is no id key; the ids are then plain hashes and the
/// other keys come from the repository's id, which anybody may know.
#[derive(Clone)]
pub struct IdKey {
    mac: Option<hmac::Key>,
    prk: std::sync::Arc<hkdf::Prk>,
}

impl IdKey {
    /// The keys of an encrypted repository.
    #[must_use]
    pub fn secret(key: &[u8; 32]) -> IdKey {
        IdKey {
            mac: Some(hmac::Key::new(hmac::HMAC_SHA256, key)),
            prk: std::sync::Arc::new(extract(key)),
        }
    }

    /// The keys of a repository without encryption.
    #[must_use]
    pub fn public(repository: RepositoryId) -> IdKey {
        IdKey { mac: None, prk: std::sync::Arc::new(extract(repository.as_bytes())) }
    }

    /// The id of a chunk of that kind whose plaintext has that SHA-256.
    #[must_use]
    pub fn chunk_id(&self, kind: ChunkKind, plaintext_sha256: &[u8; 32]) -> ChunkId {
        let mut input = [0; 33];
        input[0] = kind as u8;
        input[1..].copy_from_slice(plaintext_sha256);
        match &self.mac {
            Some(key) => {
                let tag = hmac::sign(key, &input);
                let mut id = [0; 32];
                id.copy_from_slice(tag.as_ref());
                ChunkId(id)
            }
            None => ChunkId(sha256(&input)),
        }
    }

    /// `N` bytes for the purpose `label`, by HKDF-SHA256.
    ///
    /// # Panics
    ///
    /// If `N` is above what HKDF can give, 8,160 bytes; every caller's is constant.
    #[must_use]
    pub fn derive<const N: usize>(&self, label: &str) -> [u8; N] {
        struct Length(usize);
        impl hkdf::KeyType for Length {
            fn len(&self) -> usize {
                self.0
            }
        }
        let mut out = [0; N];
        let info = [label.as_bytes()];
        #[allow(clippy::expect_used)]
        self.prk
            .expand(&info, Length(N))
            .and_then(|okm| okm.fill(&mut out))
            .expect("HKDF gives up to 8160 bytes");
        out
    }
}

fn extract(secret: &[u8]) -> hkdf::Prk {
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"asof id key").extract(secret)
}

impl std::fmt::Debug for IdKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.mac.is_some() { "IdKey(secret)" } else { "IdKey(public)" })
    }
}

/// A keyed hash of names, which decides where long directories split.
#[derive(Clone, Debug)]
pub struct SplitKey(hmac::Key);

impl SplitKey {
    /// The split key of a repository.
    #[must_use]
    pub fn new(ids: &IdKey) -> SplitKey {
        SplitKey(hmac::Key::new(hmac::HMAC_SHA256, &ids.derive::<32>("asof split")))
    }

    /// A number that looks random but depends on the name alone.
    #[must_use]
    pub fn number(&self, name: &[u8]) -> u64 {
        let tag = hmac::sign(&self.0, name);
        let mut first = [0; 8];
        first.copy_from_slice(&tag.as_ref()[..8]);
        u64::from_be_bytes(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_depend_on_key_kind_and_content() {
        let sha = sha256(b"content");
        let one = IdKey::secret(&[1; 32]);
        let two = IdKey::secret(&[2; 32]);
        let id = one.chunk_id(ChunkKind::Data, &sha);
        assert_eq!(id, one.clone().chunk_id(ChunkKind::Data, &sha));
        assert_ne!(id, one.chunk_id(ChunkKind::Node, &sha));
        assert_ne!(id, two.chunk_id(ChunkKind::Data, &sha));
        assert_ne!(id, one.chunk_id(ChunkKind::Data, &sha256(b"other")));
    }

    #[test]
    fn an_unencrypted_repository_has_plain_ids() {
        let key = IdKey::public(RepositoryId([7; 32]));
        let sha = sha256(b"content");
        let mut input = vec![0];
        input.extend(sha);
        assert_eq!(key.chunk_id(ChunkKind::Data, &sha), ChunkId(sha256(&input)));
    }

    #[test]
    fn hashing_in_pieces_is_hashing_at_once() {
        let mut hasher = Hasher::new();
        hasher.update(b"con");
        hasher.update(b"tent");
        assert_eq!(hasher.finish(), sha256(b"content"));
    }

    /// Of any lengths, also where one is the longer.
    #[test]
    fn two_hashes_beside_each_other_are_those_of_each_alone() {
        let bytes: Vec<u8> = (0..1000_u32).map(|n| (n * n) as u8).collect();
        for length in [0, 1, 63, 64, 127, 128, 129, 500, 1000] {
            let part = &bytes[..length];
            assert_eq!(sha256_of_two(part, &bytes), [sha256(part), sha256(&bytes)]);
            assert_eq!(sha256_of_two(&bytes, part), [sha256(&bytes), sha256(part)]);
            let mut whole = Hasher::new();
            whole.update(b"before");
            assert_eq!(whole.update_and_hash(part), sha256(part));
            assert_eq!(whole.finish(), sha256(&[b"before", part].concat()));
        }
    }
}
