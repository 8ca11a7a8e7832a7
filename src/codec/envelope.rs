//! Envelopes: a pack's key, sealed to those who may read.
//!
//! HPKE (RFC 9180) in its base mode: whoever makes a pack needs only the
//! repository's public key, so a machine that writes backups cannot read them.
//! An envelope is a list, one entry a recipient, each naming its suite, so that a
//! repository can move to other keys and suites without rewriting packs.

use aws_lc_rs::agreement::{PrivateKey, X25519};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as HPKE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::codec::hash::sha256;
use crate::codec::seal::SealKey;
use crate::codec::{CodecError, random};

/// DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
pub const SUITE_X25519: u64 = 1;

/// The most entries an envelope may have.
const ENTRIES_MAX: usize = 16;

/// The public half of an encryption key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// How an envelope's entry names its recipient: the first 16 bytes of the
    /// key's SHA-256.
    #[must_use]
    pub fn recipient(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id.copy_from_slice(&sha256(&self.0)[..16]);
        id
    }
}

/// The secret half of an encryption key, and the public one, which takes long to compute.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey {
    secret: [u8; 32],
    #[zeroize(skip)]
    public: PublicKey,
}

impl SecretKey {
    /// A fresh key.
    #[must_use]
    pub fn random() -> SecretKey {
        SecretKey::from_bytes(random::bytes())
    }

    /// The key that these bytes are.
    #[must_use]
    pub fn from_bytes(secret: [u8; 32]) -> SecretKey {
        let mut public = [0; 32];
        #[allow(clippy::expect_used)]
        let computed = PrivateKey::from_private_key(&X25519, &secret)
            .and_then(|key| Ok(key.compute_public_key()?))
            .expect("any 32 bytes are a key");
        public.copy_from_slice(computed.as_ref());
        SecretKey { secret, public: PublicKey(public) }
    }

    /// The key's bytes, for a key file.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// A key sealed to its recipients.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Envelope(#[n(0)] Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
struct Entry {
    #[n(0)]
    recipient: ByteVec,
    #[n(1)]
    suite: u64,
    #[n(2)]
    encapsulated: ByteVec,
    #[n(3)]
    ciphertext: ByteVec,
}

impl Envelope {
    /// Seals `key` to one recipient. `info` says what for, `associated` binds it
    /// to its object.
    ///
    /// # Errors
    ///
    /// [`CodecError::Key`] if `to` is no key.
    pub fn seal(
        key: &SealKey,
        to: &PublicKey,
        info: &[u8],
        associated: &[u8],
    ) -> Result<Envelope, CodecError> {
        let public = HpkePublicKey(to.0.to_vec());
        let (encapsulated, ciphertext) =
            HPKE.seal(info, associated, key.as_bytes(), &public).map_err(|_| CodecError::Key)?;
        Ok(Envelope(vec![Entry {
            recipient: to.recipient().to_vec().into(),
            suite: SUITE_X25519,
            encapsulated: encapsulated.0.into(),
            ciphertext: ciphertext.into(),
        }]))
    }

    /// Opens the entry that is sealed to `secret`.
    ///
    /// # Errors
    ///
    /// [`CodecError::Seal`] if there is none or it does not open, and
    /// [`CodecError::Suite`] if it is of a suite that is not known here.
    pub fn open(
        &self,
        secret: &SecretKey,
        info: &[u8],
        associated: &[u8],
    ) -> Result<SealKey, CodecError> {
        let recipient = secret.public.recipient();
        let mut failure = CodecError::Seal;
        for entry in self.0.iter().take(ENTRIES_MAX) {
            if entry.recipient.as_slice() != recipient {
                continue;
            }
            if entry.suite != SUITE_X25519 {
                failure = CodecError::Suite(entry.suite);
                continue;
            }
            let encapsulated = EncapsulatedSecret(entry.encapsulated.to_vec());
            let private = HpkePrivateKey::from(secret.secret.to_vec());
            let plain = HPKE
                .open(&encapsulated, info, associated, &entry.ciphertext, &private)
                .map(Zeroizing::new)
                .map_err(|_| CodecError::Seal)?;
            let bytes = plain.as_slice().try_into().map_err(|_| CodecError::Seal)?;
            return Ok(SealKey::from_bytes(bytes));
        }
        Err(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_for_its_recipient_and_its_object_only() {
        let secret = SecretKey::random();
        let key = SealKey::random();
        let envelope = Envelope::seal(&key, &secret.public(), b"pack", b"bound").unwrap();
        assert_eq!(envelope.open(&secret, b"pack", b"bound").unwrap(), key);
        assert_eq!(envelope.open(&SecretKey::random(), b"pack", b"bound"), Err(CodecError::Seal));
        assert_eq!(envelope.open(&secret, b"record", b"bound"), Err(CodecError::Seal));
        assert_eq!(envelope.open(&secret, b"pack", b"other"), Err(CodecError::Seal));
        let bytes = minicbor::to_vec(&envelope).unwrap();
        let back: Envelope = minicbor::decode(&bytes).unwrap();
        assert_eq!(back.open(&secret, b"pack", b"bound").unwrap(), key);
    }

    #[test]
    fn an_unknown_suite_is_named() {
        let secret = SecretKey::random();
        let mut envelope = Envelope::seal(&SealKey::random(), &secret.public(), b"", b"").unwrap();
        envelope.0[0].suite = 9;
        assert_eq!(envelope.open(&secret, b"", b""), Err(CodecError::Suite(9)));
    }
}
