//! Bundles: records of one hour once more, in one object.
//!
//! ```text
//! magic "asofbun" + version u8 | CBOR [envelope, body]
//!
//! envelope   bytes: CBOR, see `codec::envelope`; empty without encryption
//! body       bytes: CBOR [[key, record] …], sealed (nonce 0)
//! ```
//!
//! A program that publishes once a second leaves 86,400 records a day, and whoever knows
//! nothing yet would ask for each and open an envelope for each. A bundle has the records
//! as they are, and beside each the key that its envelope holds. It says nothing itself:
//! a record in it is what its hash says and its own signature proves, and counts only if
//! it is in the log. So nobody need be trusted for it, and one that is gone or damaged
//! costs time alone.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Decoder, Encode};

use crate::base::RepositoryId;
use crate::codec::envelope::{Envelope, PublicKey, SecretKey};
use crate::codec::seal::{Part, SealKey};
use crate::format::{FormatError, LAYOUT, decode_whole, encode};

const MAGIC: &[u8; 7] = b"asofbun";
const WHAT: &str = "bundle";
const INFO: &[u8] = b"asof bundle";

/// No bundle is larger. Bytes.
pub const BUNDLE_BYTES_MAX: u64 = 16 << 20;
/// No bundle has more records.
pub const BUNDLED_MAX: u64 = 1 << 16;

/// A record in a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundled {
    /// The key that its envelope holds; none without encryption.
    pub key: Option<SealKey>,
    /// The whole object, as it is in the log.
    pub bytes: Vec<u8>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Wire {
    #[n(0)]
    envelope: ByteVec,
    #[n(1)]
    body: ByteVec,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Entry {
    #[n(0)]
    key: Option<ByteVec>,
    #[n(1)]
    bytes: ByteVec,
}

/// What a bundle's seal and envelope are bound to.
fn info(repository: RepositoryId) -> Vec<u8> {
    [INFO, &[LAYOUT], repository.as_bytes()].concat()
}

/// Encodes a bundle, to be opened by who has the other half of `recipient`, if there is
/// encryption.
///
/// # Errors
///
/// [`FormatError::Malformed`] if nothing can be sealed to that key.
pub fn encode_bundle(
    records: Vec<Bundled>,
    repository: RepositoryId,
    recipient: Option<&PublicKey>,
) -> Result<Vec<u8>, FormatError> {
    let entry = |one: Bundled| Entry {
        key: one.key.map(|key| key.as_bytes().to_vec().into()),
        bytes: one.bytes.into(),
    };
    let mut body = encode(&records.into_iter().map(entry).collect::<Vec<_>>());
    let mut envelope = Vec::new();
    if let Some(recipient) = recipient {
        let (seal, info) = (SealKey::random(), info(repository));
        let made = Envelope::seal(&seal, recipient, &info, &[]);
        envelope = encode(&made.map_err(|error| FormatError::malformed(WHAT, error))?);
        seal.sealer().seal(Part::Numbered(0), &info, &mut body);
    }
    let wire = Wire { envelope: envelope.into(), body: body.into() };
    Ok([MAGIC.as_slice(), &[LAYOUT], &encode(&wire)].concat())
}

/// Decodes a bundle, opened by `reader` if there is encryption. What is in it is not
/// looked at.
///
/// # Errors
///
/// [`FormatError`] if it is none, or not sealed to that reader.
pub fn decode_bundle(
    bytes: &[u8],
    repository: RepositoryId,
    reader: Option<&SecretKey>,
) -> Result<Vec<Bundled>, FormatError> {
    let wrong = |why: &str| FormatError::malformed(WHAT, why);
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| wrong("it does not begin as one"))?;
    let (version, rest) = rest.split_first().ok_or_else(|| wrong("it ends too soon"))?;
    if *version != LAYOUT {
        return Err(FormatError::Future {
            what: "bundle version",
            found: version.to_string(),
            known: LAYOUT.to_string(),
        });
    }
    let wire: Wire = decode_whole(WHAT, rest)?;
    let mut body: Vec<u8> = wire.body.into();
    if let Some(reader) = reader {
        let info = info(repository);
        let envelope: Envelope = decode_whole("envelope", &wire.envelope)?;
        let opened = envelope
            .open(reader, &info, &[])
            .and_then(|key| Ok(key.sealer().open(Part::Numbered(0), &info, &mut body)?.len()));
        let opened = opened.map_err(|error| FormatError::malformed(WHAT, error))?;
        body.truncate(opened);
    }
    let mut decoder = Decoder::new(&body);
    let malformed = |error: minicbor::decode::Error| FormatError::malformed(WHAT, error);
    let count = decoder.array().map_err(malformed)?.ok_or_else(|| wrong("it has no length"))?;
    if count > BUNDLED_MAX {
        return Err(wrong("it has more records than a bundle has"));
    }
    // One after the other, since the count may be a lie.
    let mut records = Vec::new();
    for _ in 0..count {
        let Entry { key, bytes } = decoder.decode().map_err(malformed)?;
        let key = match key.map(|key| <[u8; 32]>::try_from(key.as_slice())) {
            Some(Err(_)) => return Err(wrong("a key in it has no 32 bytes")),
            Some(Ok(key)) => Some(SealKey::from_bytes(key)),
            None => None,
        };
        records.push(Bundled { key, bytes: bytes.into() });
    }
    if decoder.position() != body.len() {
        return Err(wrong("something follows its records"));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: RepositoryId = RepositoryId([1; 32]);

    fn records(keys: bool) -> Vec<Bundled> {
        let key = |n| keys.then(|| SealKey::from_bytes([n; 32]));
        (0..3).map(|n| Bundled { key: key(n), bytes: vec![n; 5] }).collect()
    }

    #[test]
    fn reads_back_for_its_reader_and_repository_only() {
        let secret = SecretKey::random();
        let bytes = encode_bundle(records(true), HERE, Some(&secret.public())).unwrap();
        assert_eq!(decode_bundle(&bytes, HERE, Some(&secret)).unwrap(), records(true));
        let other = RepositoryId([2; 32]);
        for (repository, reader) in
            [(other, Some(&secret)), (HERE, Some(&SecretKey::random())), (HERE, None)]
        {
            assert!(decode_bundle(&bytes, repository, reader).is_err());
        }
        let plain = encode_bundle(records(false), HERE, None).unwrap();
        assert_eq!(decode_bundle(&plain, HERE, None).unwrap(), records(false));
    }

    #[test]
    fn what_is_cut_off_or_altered_is_refused() {
        let secret = SecretKey::random();
        let sealed = encode_bundle(records(true), HERE, Some(&secret.public())).unwrap();
        let plain = encode_bundle(records(true), HERE, None).unwrap();
        for (bytes, reader) in [(&sealed, Some(&secret)), (&plain, None)] {
            for at in 0..bytes.len() {
                assert!(decode_bundle(&bytes[..at], HERE, reader).is_err(), "cut at {at}");
            }
        }
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(decode_bundle(&altered, HERE, Some(&secret)).is_err(), "altered at {at}");
        }
        let mut later = plain.clone();
        later[7] = LAYOUT + 1;
        assert_eq!(
            decode_bundle(&later, HERE, None).unwrap_err().kind(),
            crate::base::Kind::Future
        );
        let body = [&[0x9a, 0xff, 0xff, 0xff, 0xff][..], &[0xf6; 64]].concat();
        let wire = Wire { envelope: Vec::new().into(), body: body.into() };
        let many = [MAGIC.as_slice(), &[LAYOUT], &encode(&wire)].concat();
        let error = decode_bundle(&many, HERE, None).unwrap_err();
        assert!(error.to_string().contains("more records"), "{error}");
    }
}
