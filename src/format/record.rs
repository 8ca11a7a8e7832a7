//! Records: the objects under `log/` that publish facts.
//!
//! ```text
//! magic "asoflog" + version u8 | CBOR [header, envelope, body, signature]
//!
//! header     bytes: CBOR map, plain: repository, writer, chain, number, previous, body length
//! envelope   bytes: CBOR, see `codec::envelope`; empty without encryption
//! body       bytes: CBOR map { claimed time, certificate, [fact …], deadline }, zstd, sealed (nonce 0)
//! signature  bytes: the writer's, over the three before it
//! ```
//!
//! One object publishes its facts all at once or not at all. Its name is its
//! hash, its place in the writer's chain is in the header, and the signature
//! covers everything, so that neither a store nor a thief of one writer's key can
//! say anything in another's name, and gaps show.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::base::{ChainId, RecordId, RepositoryId, UnixTime, WriterId};
use crate::codec::hash::sha256;
use crate::codec::sign::{self, SigningKey};
use crate::format::{FormatError, LAYOUT, decode_whole, encode};

const MAGIC: &[u8; 7] = b"asoflog";
const DOMAIN: &str = "asof record 0";
const WHAT: &str = "record";
const FORGED: &str = "its signature is not by its writer";

/// No record is larger. Bytes.
pub const RECORD_BYTES_MAX: u64 = 128 << 20;
/// No record's body unpacks to more. Bytes.
pub const BODY_BYTES_MAX: u64 = 256 << 20;
/// No record has more facts.
pub const FACTS_MAX: u64 = 1 << 16;
/// A body's certificate ends within its first bytes, so that it is known who speaks
/// before more than these is unpacked.
pub const CERTIFICATE_WITHIN: usize = 1 << 20;
/// No header is longer. Bytes.
const HEADER_BYTES_MAX: usize = 4 << 10;
/// No envelope is longer. Bytes.
const ENVELOPE_BYTES_MAX: usize = 64 << 10;

/// What stands in a record before the seal.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Header {
    /// In which repository.
    #[n(0)]
    pub repository: RepositoryId,
    /// Who signs it.
    #[n(1)]
    pub writer: WriterId,
    /// The chain that it belongs to.
    #[n(2)]
    pub chain: ChainId,
    /// Its place in the chain, from 0.
    #[n(3)]
    pub number: u64,
    /// The record before it in the chain.
    #[n(4)]
    pub previous: Option<RecordId>,
    /// How many bytes the body unpacks to.
    #[n(5)]
    pub body_len: u64,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Body {
    /// The writer's own time when it published.
    #[n(0)]
    pub claimed: UnixTime,
    /// The writer's certificate, unless it is the owner.
    #[n(1)]
    pub certificate: Option<ByteVec>,
    /// The facts, each an item.
    #[n(2)]
    #[cbor(decode_with = "decode_facts")]
    pub facts: Vec<ByteVec>,
    /// By when the store must have received it for what it stands on to be there still:
    /// one that comes later is late.
    #[n(3)]
    pub deadline: Option<UnixTime>,
}

/// Counts before it allocates: whoever can put an object under `log/` can have a
/// body decoded, before it is known whether its writer has a certificate.
fn decode_facts<C>(
    decoder: &mut minicbor::Decoder<'_>,
    _: &mut C,
) -> Result<Vec<ByteVec>, minicbor::decode::Error> {
    use minicbor::decode::Error;
    let count = decoder.array()?.ok_or_else(|| Error::message("indefinite length"))?;
    if count > FACTS_MAX {
        return Err(Error::message("more facts than a record has"));
    }
    (0..count).map(|_| Ok(decoder.bytes()?.to_vec().into())).collect()
}

impl Body {
    /// Encodes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Decodes it.
    ///
    /// # Errors
    ///
    /// [`FormatError::Malformed`] if it is none.
    pub fn decode(bytes: &[u8]) -> Result<Body, FormatError> {
        decode_whole("record's body", bytes)
    }

    /// The certificate of a body of which only the beginning is there.
    #[must_use]
    pub fn certificate_of(prefix: &[u8]) -> Option<Vec<u8>> {
        let mut decoder = minicbor::Decoder::new(prefix);
        decoder.map().ok()?;
        loop {
            match decoder.u64().ok()? {
                0 => decoder.skip().ok()?,
                1 => return decoder.bytes().ok().map(<[u8]>::to_vec),
                _ => return None,
            }
        }
    }
}

/// A record, its body still packed and sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Who, and where in the chain.
    pub header: Header,
    /// The encoded header, which is associated with the body's seal.
    pub header_bytes: Vec<u8>,
    /// The encoded envelope of the body's key; empty without encryption.
    pub envelope: Vec<u8>,
    /// The body, packed and sealed.
    pub body: Vec<u8>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Wire {
    #[n(0)]
    header: ByteVec,
    #[n(1)]
    envelope: ByteVec,
    #[n(2)]
    body: ByteVec,
    #[n(3)]
    signature: ByteVec,
}

impl Header {
    /// Encodes it; the same bytes are associated with the body's seal.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}

impl Record {
    /// Signs and encodes it.
    #[must_use]
    pub fn issue(&self, key: &SigningKey) -> Vec<u8> {
        let signature = key.sign(DOMAIN, &self.signed());
        let mut bytes = MAGIC.to_vec();
        bytes.push(LAYOUT);
        bytes.extend(encode(&Wire {
            header: self.header_bytes.clone().into(),
            envelope: self.envelope.clone().into(),
            body: self.body.clone().into(),
            signature: signature.to_vec().into(),
        }));
        bytes
    }

    /// Decodes the record of that id: checks its name, its signature and that it
    /// belongs to `repository`. What its writer may say is not looked at.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if any of that does not hold.
    pub fn decode(
        id: RecordId,
        bytes: &[u8],
        repository: RepositoryId,
    ) -> Result<Record, FormatError> {
        let wrong = |why: &str| FormatError::malformed(WHAT, why);
        if sha256(bytes) != id.0 {
            return Err(wrong("its bytes are not what its name says"));
        }
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| wrong("it does not begin as one"))?;
        let (version, rest) = rest.split_first().ok_or_else(|| wrong("it ends too soon"))?;
        if *version != LAYOUT {
            return Err(FormatError::Future {
                what: "record version",
                found: version.to_string(),
                known: LAYOUT.to_string(),
            });
        }
        let wire: Wire = decode_whole(WHAT, rest)?;
        // One statement, one id: the array around it is not signed, so another
        // spelling of it would be the same record under a second name.
        if encode(&wire) != rest {
            return Err(wrong("it is not encoded in the one way that it can be"));
        }
        if wire.header.len() > HEADER_BYTES_MAX || wire.envelope.len() > ENVELOPE_BYTES_MAX {
            return Err(wrong("its header or envelope is too long"));
        }
        let header: Header = decode_whole("record's header", &wire.header)?;
        let record = Record {
            header,
            header_bytes: wire.header.into(),
            envelope: wire.envelope.into(),
            body: wire.body.into(),
        };
        sign::verify(record.header.writer, DOMAIN, &record.signed(), &wire.signature)
            .map_err(|_| FormatError::Forged { what: WHAT, why: FORGED })?;
        if record.header.repository != repository {
            return Err(wrong("it belongs to another repository"));
        }
        if record.header.body_len > BODY_BYTES_MAX {
            return Err(wrong("its body is too long"));
        }
        Ok(record)
    }

    fn signed(&self) -> Vec<u8> {
        [sha256(&self.header_bytes), sha256(&self.envelope), sha256(&self.body)].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_under_its_own_name_and_repository_only() {
        let key = SigningKey::random();
        let repository = RepositoryId([1; 32]);
        let header = Header {
            repository,
            writer: key.id(),
            chain: ChainId([2; 16]),
            number: 1,
            previous: Some(RecordId([3; 32])),
            body_len: 5,
        };
        let header_bytes = header.encode();
        let record = Record { header, header_bytes, envelope: vec![1], body: b"sealed".to_vec() };
        let bytes = record.issue(&key);
        let id = RecordId(sha256(&bytes));
        assert_eq!(Record::decode(id, &bytes, repository), Ok(record.clone()));
        assert!(Record::decode(id, &bytes, RepositoryId([2; 32])).is_err());
        assert!(Record::decode(RecordId([0; 32]), &bytes, repository).is_err());
        let forged = record.issue(&SigningKey::random());
        let forged_id = RecordId(sha256(&forged));
        assert!(Record::decode(forged_id, &forged, repository).is_err(), "another's signature");
        let mut later = bytes.clone();
        later[7] = LAYOUT + 1;
        let later_id = RecordId(sha256(&later));
        let error = Record::decode(later_id, &later, repository).unwrap_err();
        assert_eq!(error.kind(), crate::base::Kind::Future);
    }

    /// Without the writer's key nobody can make a second object that says the same.
    #[test]
    fn a_record_has_one_encoding() {
        let key = SigningKey::random();
        let repository = RepositoryId([1; 32]);
        let header = Header {
            repository,
            writer: key.id(),
            chain: ChainId([2; 16]),
            number: 0,
            previous: None,
            body_len: 1,
        };
        let header_bytes = header.encode();
        let record = Record { header, header_bytes, envelope: vec![], body: vec![0, 0xa0] };
        let bytes = record.issue(&key);
        assert_eq!(bytes[8], 0x84);
        let longer = [&bytes[..8], &[0x98, 4], &bytes[9..]].concat();
        let endless = [&bytes[..8], &[0x9f], &bytes[9..], &[0xff]].concat();
        let more = [&bytes[..8], &[0x85], &bytes[9..], &[0]].concat();
        for other in [longer, endless, more] {
            let id = RecordId(sha256(&other));
            assert!(Record::decode(id, &other, repository).is_err(), "{other:02x?}");
        }
    }

    #[test]
    fn a_body_cannot_claim_millions_of_facts() {
        let many = [&[0xa2, 0, 0x82, 0, 0, 2, 0x9a, 0, 1, 0, 1][..], &[0x40; 65537]].concat();
        assert!(Body::decode(&many).unwrap_err().to_string().contains("more facts"));
        let endless = [0xa2, 0, 0x82, 0, 0, 2, 0x9f, 0xff];
        assert!(Body::decode(&endless).is_err());
    }

    #[test]
    fn a_body_reads_back() {
        let body = Body {
            claimed: UnixTime::new(1, 2),
            certificate: Some(vec![1].into()),
            facts: vec![vec![2].into(), vec![3].into()],
            deadline: Some(UnixTime::new(5, 0)),
        };
        let bytes = body.encode();
        assert_eq!(Body::certificate_of(&bytes[..bytes.len() - 8]), Some(vec![1]));
        let none = Body { certificate: None, ..body.clone() };
        assert_eq!(Body::certificate_of(&none.encode()), None);
        assert_eq!(Body::decode(&bytes), Ok(body));
    }
}
