//! Signatures: Ed25519, always over a domain and a digest.
//!
//! What is signed is `domain ‖ 0 ‖ SHA-256(message)`. The domain names the kind
//! of statement, so that a signature on one kind can never pass for another.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::base::WriterId;
use crate::codec::{CodecError, hash, random};

/// A key that signs, and its public half, which takes long to compute.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SigningKey {
    seed: [u8; 32],
    #[zeroize(skip)]
    id: WriterId,
}

impl SigningKey {
    /// A fresh key.
    #[must_use]
    pub fn random() -> SigningKey {
        SigningKey::from_seed(random::bytes())
    }

    /// The key with that seed.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> SigningKey {
        let mut id = [0; 32];
        id.copy_from_slice(pair(&seed).public_key().as_ref());
        SigningKey { seed, id: WriterId(id) }
    }

    /// The seed, for a key file.
    #[must_use]
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The public half, which names the signer.
    #[must_use]
    pub fn id(&self) -> WriterId {
        self.id
    }

    /// Signs a message of the kind that `domain` names.
    #[must_use]
    pub fn sign(&self, domain: &str, message: &[u8]) -> [u8; 64] {
        let signature = pair(&self.seed).sign(&signed_bytes(domain, message));
        let mut bytes = [0; 64];
        bytes.copy_from_slice(signature.as_ref());
        bytes
    }
}

fn pair(seed: &[u8; 32]) -> Ed25519KeyPair {
    #[allow(clippy::expect_used)]
    Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed of 32 bytes")
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.id().short())
    }
}

/// Checks that `signer` signed the message under that domain.
///
/// # Errors
///
/// [`CodecError::Signature`] if it did not.
pub fn verify(
    signer: WriterId,
    domain: &str,
    message: &[u8],
    signature: &[u8],
) -> Result<(), CodecError> {
    UnparsedPublicKey::new(&ED25519, signer.as_bytes())
        .verify(&signed_bytes(domain, message), signature)
        .map_err(|_| CodecError::Signature(signer))
}

fn signed_bytes(domain: &str, message: &[u8]) -> Vec<u8> {
    let mut bytes = domain.as_bytes().to_vec();
    bytes.push(0);
    bytes.extend_from_slice(&hash::sha256(message));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifies_its_own_message_in_its_own_domain_only() {
        let key = SigningKey::random();
        let signature = key.sign("record", b"message");
        assert!(verify(key.id(), "record", b"message", &signature).is_ok());
        assert!(verify(key.id(), "certificate", b"message", &signature).is_err());
        assert!(verify(key.id(), "record", b"massage", &signature).is_err());
        assert!(verify(SigningKey::random().id(), "record", b"message", &signature).is_err());
        assert!(verify(key.id(), "record", b"message", b"short").is_err());
    }
}
