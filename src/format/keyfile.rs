//! Key files: the owner's and readers' secrets, wrapped under a passphrase.
//!
//! JSON like `asof.json`. The secrets are sealed under a key that argon2id makes
//! of the passphrase; everything else in the file is associated with the seal, so
//! nobody can change what a key is allowed to be. Losing all files under `keys/`
//! loses the repository, which is why a paper copy can be made: it is one of
//! these files.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::base::{KeyId, RepositoryId, UnixTime};
use crate::codec::envelope::SecretKey;
use crate::codec::passphrase::{self, Cost};
use crate::codec::seal::Part;
use crate::codec::sign::SigningKey;
use crate::codec::{CodecError, hash};
use crate::format::config::canonical;
use crate::format::{FormatError, LAYOUT, decode_whole, encode};

/// A key file is never larger. Bytes.
pub const KEY_BYTES_MAX: u64 = 64 << 10;

const WHAT: &str = "key file";
const KDF: &str = "argon2id";

/// What the holder of a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything: change the rules, forget, write, read.
    Owner,
    /// Read.
    Reader,
}

/// What a key file keeps.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// Signs what changes the rules; absent in a key that can only read.
    pub owner: Option<SigningKey>,
    /// Opens envelopes; absent in a repository without encryption.
    pub reader: Option<SecretKey>,
    /// Makes chunk ids; absent in a repository without encryption.
    pub id_key: Option<[u8; 32]>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct SecretsWire {
    #[n(0)]
    owner: Option<ByteVec>,
    #[n(1)]
    reader: Option<ByteVec>,
    #[n(2)]
    id_key: Option<ByteVec>,
}

/// A wrapped key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct KeyFile {
    /// The version of the format.
    pub asof_key: u8,
    /// Whose key it is.
    pub repository: RepositoryId,
    /// What its holder may do.
    pub role: Role,
    /// A name for people.
    pub label: String,
    /// When it was made, for people.
    pub created: String,
    /// How the passphrase becomes a key.
    pub kdf: Kdf,
    /// The sealed secrets, hexadecimal.
    pub sealed: String,
}

/// How a passphrase becomes a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kdf {
    /// `argon2id`.
    pub name: String,
    /// Hexadecimal, 32 bytes.
    pub salt: String,
    /// Memory, passes, lanes.
    #[serde(flatten)]
    pub cost: Cost,
}

impl KeyFile {
    /// Wraps secrets under a passphrase.
    ///
    /// # Errors
    ///
    /// [`CodecError::Derivation`] if the cost is out of bounds.
    pub fn wrap(
        secrets: &Secrets,
        repository: RepositoryId,
        label: &str,
        passphrase: &[u8],
        cost: Cost,
        created: UnixTime,
    ) -> Result<KeyFile, CodecError> {
        let salt = passphrase::salt();
        let mut file = KeyFile {
            asof_key: LAYOUT,
            repository,
            role: if secrets.owner.is_some() { Role::Owner } else { Role::Reader },
            label: label.to_owned(),
            created: created.to_string(),
            kdf: Kdf { name: KDF.into(), salt: hex::encode(salt), cost },
            sealed: String::new(),
        };
        let mut sealed = encode(&SecretsWire {
            owner: secrets.owner.as_ref().map(|key| key.seed().to_vec().into()),
            reader: secrets.reader.as_ref().map(|key| key.as_bytes().to_vec().into()),
            id_key: secrets.id_key.map(|key| key.to_vec().into()),
        });
        let sealer = passphrase::derive(passphrase, &salt, cost)?.sealer();
        sealer.seal(Part::Numbered(0), &file.associated(), &mut sealed);
        file.sealed = hex::encode(sealed);
        Ok(file)
    }

    /// Unwraps the secrets.
    ///
    /// # Errors
    ///
    /// [`CodecError::Seal`] if the passphrase is another one.
    pub fn unwrap(&self, passphrase: &[u8]) -> Result<Secrets, CodecError> {
        let salt: Vec<u8> = hex::decode(&self.kdf.salt).map_err(|_| CodecError::Key)?;
        let salt = salt.as_slice().try_into().map_err(|_| CodecError::Key)?;
        let sealer = passphrase::derive(passphrase, salt, self.kdf.cost)?.sealer();
        let mut sealed = Zeroizing::new(hex::decode(&self.sealed).map_err(|_| CodecError::Key)?);
        let plain = sealer.open(Part::Numbered(0), &self.associated(), &mut sealed)?;
        let wire: SecretsWire = decode_whole(WHAT, plain).map_err(|_| CodecError::Key)?;
        let bytes = |key: Option<ByteVec>| -> Result<Option<[u8; 32]>, CodecError> {
            key.map(|k| k.as_slice().try_into().map_err(|_| CodecError::Key)).transpose()
        };
        Ok(Secrets {
            owner: bytes(wire.owner)?.map(SigningKey::from_seed),
            reader: bytes(wire.reader)?.map(SecretKey::from_bytes),
            id_key: bytes(wire.id_key)?,
        })
    }

    /// Encodes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Decodes the key file of that id, and checks that its bytes have it.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if it is damaged or of a later version.
    pub fn decode(id: KeyId, bytes: &[u8]) -> Result<KeyFile, FormatError> {
        if hash::sha256(bytes) != id.0 {
            return Err(FormatError::malformed(WHAT, "its bytes are not what its name says"));
        }
        KeyFile::parse(bytes)
    }

    /// Decodes a key file that has no name to be checked against: a paper copy.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if it is damaged or of a later version.
    pub fn parse(bytes: &[u8]) -> Result<KeyFile, FormatError> {
        let malformed = |e: serde_json::Error| FormatError::malformed(WHAT, e);
        let value: Value = serde_json::from_slice(bytes).map_err(malformed)?;
        match value.get("asof-key").and_then(Value::as_u64) {
            Some(version) if version > u64::from(LAYOUT) => Err(FormatError::Future {
                what: "key file version",
                found: version.to_string(),
                known: LAYOUT.to_string(),
            }),
            _ => {
                let file: KeyFile = serde_json::from_value(value).map_err(malformed)?;
                if file.kdf.name == KDF {
                    return Ok(file);
                }
                Err(FormatError::Future {
                    what: "key derivation",
                    found: file.kdf.name,
                    known: KDF.to_owned(),
                })
            }
        }
    }

    /// The id that names it under `keys/`.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(hash::sha256(&self.encode()))
    }

    fn associated(&self) -> Vec<u8> {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("sealed");
        }
        [b"asof key".as_slice(), &canonical(&value)].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped() -> (Secrets, KeyFile) {
        let secrets = Secrets {
            owner: Some(SigningKey::random()),
            reader: Some(SecretKey::random()),
            id_key: Some([5; 32]),
        };
        let at = UnixTime::new(1_800_000_000, 0);
        let file = KeyFile::wrap(
            &secrets,
            RepositoryId([1; 32]),
            "laptop",
            b"passphrase",
            Cost::LEAST,
            at,
        );
        (secrets, file.unwrap())
    }

    #[test]
    fn only_the_passphrase_unwraps() {
        let (secrets, file) = wrapped();
        let file = KeyFile::decode(file.id(), &file.encode()).unwrap();
        assert!(file.unwrap(b"passphrase").unwrap() == secrets);
        assert!(matches!(file.unwrap(b"passphrasE"), Err(CodecError::Seal)));
    }

    #[test]
    fn nobody_can_change_what_the_key_is_said_to_be() {
        let (_, file) = wrapped();
        let forged = KeyFile { role: Role::Reader, ..file.clone() };
        assert!(matches!(forged.unwrap(b"passphrase"), Err(CodecError::Seal)));
        assert!(KeyFile::decode(file.id(), &forged.encode()).is_err(), "its name is another's");
        let mut later = serde_json::to_value(&file).unwrap();
        later["asof-key"] = 99.into();
        let later = serde_json::to_vec(&later).unwrap();
        let other = KeyFile { kdf: Kdf { name: "scrypt".into(), ..file.kdf.clone() }, ..file };
        assert_eq!(KeyFile::parse(&other.encode()).unwrap_err().kind(), crate::base::Kind::Future);
        assert_eq!(KeyFile::parse(&later).unwrap_err().kind(), crate::base::Kind::Future);
    }
}
