//! Certificates: what the owner allows a writer.
//!
//! A writer's key says nothing by itself. Its certificate, signed by the owner,
//! says for which sources it may speak and whether others may build on the packs
//! that it claims. Every record carries the certificate that it stands on, so a
//! writer that can only PUT needs no earlier object to be believed.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::base::{RepositoryId, UnixTime, WriterId};
use crate::codec::sign::{self, SigningKey};
use crate::format::{FormatError, decode_whole, encode};

/// The domain of its signature.
const DOMAIN: &str = "asof certificate 0";

/// What the owner allows one writer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Certificate {
    /// In which repository.
    #[n(0)]
    pub repository: RepositoryId,
    /// Which writer.
    #[n(1)]
    pub writer: WriterId,
    /// A name for people.
    #[n(2)]
    pub label: String,
    /// For which sources it may publish snapshots; none means for all.
    #[n(3)]
    pub sources: Option<Vec<String>>,
    /// Whether other writers may refer to chunks in packs that it claims.
    #[n(4)]
    pub trusted: bool,
    /// When it was issued, by the owner's clock.
    #[n(5)]
    pub issued: UnixTime,
    /// Records received later than this do not stand on it.
    #[n(6)]
    pub expires: Option<UnixTime>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Signed {
    #[n(0)]
    payload: ByteVec,
    #[n(1)]
    signature: ByteVec,
}

impl Certificate {
    /// Signs and encodes it.
    #[must_use]
    pub fn issue(&self, owner: &SigningKey) -> Vec<u8> {
        let payload = encode(self);
        let signature = owner.sign(DOMAIN, &payload).to_vec().into();
        encode(&Signed { payload: payload.into(), signature })
    }

    /// Decodes it, and checks that `owner` signed it for `repository` and `writer`.
    ///
    /// # Errors
    ///
    /// [`FormatError::Malformed`] if it does not decode, else [`FormatError::Uncertified`]
    /// if any of that is not so.
    pub fn verify(
        bytes: &[u8],
        owner: WriterId,
        repository: RepositoryId,
        writer: WriterId,
    ) -> Result<Certificate, FormatError> {
        let wrong = |why| FormatError::Uncertified { why };
        let signed: Signed = decode_whole("certificate", bytes)?;
        sign::verify(owner, DOMAIN, &signed.payload, &signed.signature)
            .map_err(|_| wrong("the certificate is not signed by the repository's owner"))?;
        let certificate: Certificate = decode_whole("certificate", &signed.payload)?;
        if certificate.repository != repository {
            return Err(wrong("the certificate is for another repository"));
        }
        if certificate.writer != writer {
            return Err(wrong("the certificate is for another writer"));
        }
        Ok(certificate)
    }

    /// Whether the writer may publish snapshots of that source.
    #[must_use]
    pub fn allows(&self, source: &str) -> bool {
        self.sources.as_ref().is_none_or(|names| names.iter().any(|name| name == source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stands_only_for_its_owner_repository_and_writer() {
        let (owner, other) = (SigningKey::random(), SigningKey::random());
        let repository = RepositoryId([1; 32]);
        let writer = SigningKey::random().id();
        let certificate = Certificate {
            repository,
            writer,
            label: "web".into(),
            sources: Some(vec!["web".into()]),
            trusted: false,
            issued: UnixTime::new(1, 0),
            expires: None,
        };
        let bytes = certificate.issue(&owner);
        let verify = |bytes: &[u8], owner: &SigningKey, repository, writer| {
            Certificate::verify(bytes, owner.id(), repository, writer)
        };
        assert_eq!(verify(&bytes, &owner, repository, writer), Ok(certificate.clone()));
        assert!(verify(&bytes, &other, repository, writer).is_err());
        assert!(verify(&bytes, &owner, RepositoryId([2; 32]), writer).is_err());
        assert!(verify(&bytes, &owner, repository, other.id()).is_err());
        assert!(verify(&bytes[1..], &owner, repository, writer).is_err());
        assert!(certificate.allows("web") && !certificate.allows("db"));
        assert!(Certificate { sources: None, ..certificate }.allows("db"));
    }
}
