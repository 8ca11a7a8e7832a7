//! Transformations of bytes: hash, cut, compress, seal, sign.
//!
//! Each file wraps one well-kept library behind the few calls that asof needs,
//! so that a suite can be exchanged in one place. Nothing here knows what a pack
//! or a store is, and nothing does I/O.

pub mod chunker;
pub mod compress;
pub mod envelope;
pub mod hash;
pub mod passphrase;
pub mod random;
pub mod seal;
pub mod sign;

/// Bytes that do not open, unpack or verify.
///
/// Deliberately without detail: a seal that is refused has no reason to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A seal does not open: other key, or altered bytes.
    #[error("the seal does not open: the bytes were altered, or were sealed with another key")]
    Seal,
    /// Compressed bytes that do not unpack to the length that was stated.
    #[error("compressed bytes do not unpack to the {expected} bytes that were stated")]
    Compression {
        /// The stated length.
        expected: usize,
    },
    /// A signature that is not by the key it should be by.
    #[error("the signature is not by {0}")]
    Signature(crate::base::WriterId),
    /// Parameters of a key derivation that this program refuses to follow.
    #[error("the key derivation asks for {0}, which is out of bounds")]
    Derivation(&'static str),
    /// A suite that this program does not know.
    #[error("cryptographic suite {0} is not known to this version")]
    Suite(u64),
    /// A key of the wrong form.
    #[error("malformed key")]
    Key,
}
