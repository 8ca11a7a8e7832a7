//! Sealing: AES-256-GCM under a key that is used for one object only.
//!
//! A pack or record has a fresh random key, so its frames can be numbered for
//! nonces without any risk of using one twice, and a frame moved to another
//! place, pack or kind does not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::codec::{CodecError, random};

/// How many bytes sealing adds.
pub const TAG_BYTES: usize = 16;

/// A key that seals one object.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// A fresh key.
    #[must_use]
    pub fn random() -> SealKey {
        SealKey(random::bytes())
    }

    /// The key that these bytes are.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> SealKey {
        SealKey(bytes)
    }

    /// The key's bytes, to put it into an envelope.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key made ready for many calls.
    #[must_use]
    pub fn sealer(&self) -> Sealer {
        #[allow(clippy::expect_used)]
        let key = UnboundKey::new(&AES_256_GCM, &self.0).expect("a key of 32 bytes");
        Sealer(LessSafeKey::new(key))
    }
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(…)")
    }
}

/// Which nonce a part of an object is sealed under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The part of that number.
    Numbered(u32),
    /// The directory at the end: the last nonce there is.
    Last,
}

impl Part {
    fn nonce(self) -> Nonce {
        let mut bytes = [0; 12];
        match self {
            Part::Numbered(n) => bytes[8..].copy_from_slice(&n.to_be_bytes()),
            Part::Last => bytes = [0xff; 12],
        }
        Nonce::assume_unique_for_key(bytes)
    }
}

/// A key made ready to seal and open.
pub struct Sealer(LessSafeKey);

impl Sealer {
    /// Seals `bytes` in place; they grow by [`TAG_BYTES`].
    ///
    /// # Panics
    ///
    /// Above 64 GiB, the bound of AES-GCM; parts are bounded far below.
    pub fn seal(&self, part: Part, associated: &[u8], bytes: &mut Vec<u8>) {
        #[allow(clippy::expect_used)]
        self.0
            .seal_in_place_append_tag(part.nonce(), Aad::from(associated), bytes)
            .expect("a part is far shorter than AES-GCM's bound");
    }

    /// Opens sealed bytes in place and returns the plain ones.
    ///
    /// # Errors
    ///
    /// [`CodecError::Seal`] if anything about them is not as it was sealed.
    pub fn open<'a>(
        &self,
        part: Part,
        associated: &[u8],
        bytes: &'a mut [u8],
    ) -> Result<&'a mut [u8], CodecError> {
        self.0
            .open_in_place(part.nonce(), Aad::from(associated), bytes)
            .map_err(|_| CodecError::Seal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_what_was_sealed_in_its_place() {
        let sealer = SealKey::random().sealer();
        let mut sealed = b"secret".to_vec();
        sealer.seal(Part::Numbered(3), b"kind", &mut sealed);
        assert_eq!(sealed.len(), 6 + TAG_BYTES);
        let open = |part, aad: &[u8], mut bytes: Vec<u8>| {
            sealer.open(part, aad, &mut bytes).map(|plain| plain.to_vec())
        };
        assert_eq!(open(Part::Numbered(3), b"kind", sealed.clone()).unwrap(), b"secret");
        assert_eq!(open(Part::Numbered(4), b"kind", sealed.clone()), Err(CodecError::Seal));
        assert_eq!(open(Part::Last, b"kind", sealed.clone()), Err(CodecError::Seal));
        assert_eq!(open(Part::Numbered(3), b"other", sealed.clone()), Err(CodecError::Seal));
        for i in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[i] ^= 1;
            assert_eq!(open(Part::Numbered(3), b"kind", flipped), Err(CodecError::Seal));
        }
    }
}
