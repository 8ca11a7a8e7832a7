//! `asof.json`: what a repository is, signed by its owner. Only the version of the format
//! that it names ever changes.
//!
//! It is JSON, so that whoever finds a bucket can read what it holds. What is
//! signed is its *canonical form*: the same object without `signature`, keys in
//! byte order, no white space; strings are ASCII and numbers are integers, so any
//! JSON library makes the same bytes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::{RepositoryId, UnixTime, WriterId};
use crate::codec::chunker::Sizes;
use crate::codec::envelope::{PublicKey, SUITE_X25519};
use crate::codec::hash;
use crate::codec::sign::{self, SigningKey};
use crate::format::{FORMAT_VERSION, FormatError};

/// The object is never larger. Bytes.
pub const CONFIG_BYTES_MAX: u64 = 64 << 10;

/// The most that [`Parameters::pack_bytes`] can say.
const PACK_BYTES_MAX: u64 = 128 << 20;
/// The most that [`Parameters::grace_seconds`] can say: a hundred years.
pub const GRACE_SECONDS_MAX: u64 = 36_525 * 24 * 3600;
/// The most that [`Parameters::skew_seconds`] can say: a week.
pub const SKEW_SECONDS_MAX: u64 = 7 * 24 * 3600;

/// How many times the skew the grace period is at least: half of it is left to build on
/// what was seen, when both ends of it are uncertain by the skew.
pub const SKEWS_PER_GRACE: u64 = 8;

const WHAT: &str = "asof.json";
const DOMAIN: &str = "asof config 0";

/// A repository's description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The version of the format.
    pub asof: u8,
    /// Features that a program must know.
    #[serde(default)]
    pub flags: Flags,
    /// The SHA-256 of the owner's public key.
    pub repository: RepositoryId,
    /// The owner's public key.
    pub owner: WriterId,
    /// What packs and records are sealed to; none in a repository without encryption.
    pub encryption: Option<Encryption>,
    /// What every program must do alike.
    pub parameters: Parameters,
    /// When it was made, for people.
    pub created: String,
}

/// Names of features. A program that does not know one of a class must keep off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags {
    /// Unknown: the repository must not be touched at all.
    #[serde(default)]
    pub read: Vec<String>,
    /// Unknown: it may be read, but neither written nor collected.
    #[serde(default)]
    pub write: Vec<String>,
    /// Unknown: it may be read and written, but not collected.
    #[serde(default)]
    pub collect: Vec<String>,
}

/// The public encryption key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    /// Which suite envelopes are made with.
    pub suite: u64,
    /// The key, 64 hexadecimal digits.
    pub public: String,
}

/// Parameters of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// How long nothing is collected, whatever happens. Seconds.
    pub grace_seconds: u64,
    /// How wrong the store's clock and how late its listings may be. Seconds.
    pub skew_seconds: u64,
    /// Where content is cut.
    pub chunks: Sizes,
    /// About how large packs are made. Bytes.
    pub pack_bytes: u64,
}

impl Default for Parameters {
    fn default() -> Parameters {
        Parameters {
            grace_seconds: 30 * 24 * 3600,
            skew_seconds: 3600,
            chunks: Sizes::DEFAULT,
            // Two runs of a reader, each a little above 8 MiB.
            pack_bytes: 17 << 20,
        }
    }
}

impl Parameters {
    /// Whether a program can work with these.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.chunks.is_sound()
            && self.pack_bytes <= PACK_BYTES_MAX
            && self.grace_seconds <= GRACE_SECONDS_MAX
            && (1..=SKEW_SECONDS_MAX).contains(&self.skew_seconds)
            && self.skew_seconds <= self.grace_seconds / SKEWS_PER_GRACE
    }
}

impl Config {
    /// The description of a new repository.
    #[must_use]
    pub fn new(
        owner: WriterId,
        encryption: Option<PublicKey>,
        parameters: Parameters,
        created: UnixTime,
    ) -> Config {
        Config {
            asof: FORMAT_VERSION,
            flags: Flags::default(),
            repository: RepositoryId(hash::sha256(owner.as_bytes())),
            owner,
            encryption: encryption
                .map(|key| Encryption { suite: SUITE_X25519, public: hex::encode(key.0) }),
            parameters,
            created: created.to_string(),
        }
    }

    /// Signs and encodes it.
    #[must_use]
    pub fn issue(&self, owner: &SigningKey) -> Vec<u8> {
        sign_and_encode(serde_json::to_value(self).unwrap_or_default(), owner)
    }

    /// The same description in the version of the format that this program writes, signed
    /// anew. Whatever else it says stays, also what is not known here. The same bytes
    /// every time.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if `bytes` do not decode.
    pub fn upgrade(bytes: &[u8], owner: &SigningKey) -> Result<Vec<u8>, FormatError> {
        Config::decode(bytes)?;
        let mut value = parse(bytes)?;
        if let Value::Object(fields) = &mut value {
            fields.remove("signature");
            fields.insert("asof".into(), FORMAT_VERSION.into());
        }
        Ok(sign_and_encode(value, owner))
    }

    /// A hash of all that a description says, but for the version of the format: so it
    /// stays the same for as long as the repository is the same.
    ///
    /// # Errors
    ///
    /// [`FormatError::Malformed`] if `bytes` are no JSON.
    pub fn identity(bytes: &[u8]) -> Result<[u8; 32], FormatError> {
        let mut value = parse(bytes)?;
        if let Value::Object(fields) = &mut value {
            fields.remove("signature");
            fields.remove("asof");
        }
        Ok(hash::sha256(&canonical(&value)))
    }

    /// Decodes it: first its version and flags, then its signature, then the rest.
    ///
    /// # Errors
    ///
    /// [`FormatError::Future`] if a later asof made it, [`FormatError::Malformed`]
    /// if it is damaged or not signed by the owner that it names.
    pub fn decode(bytes: &[u8]) -> Result<Config, FormatError> {
        let mut value = parse(bytes)?;
        let version = value.get("asof").and_then(Value::as_u64);
        let version = version
            .ok_or_else(|| FormatError::malformed(WHAT, "it does not say its format version"))?;
        if version > u64::from(FORMAT_VERSION) {
            return Err(FormatError::Future {
                what: "format version",
                found: version.to_string(),
                known: FORMAT_VERSION.to_string(),
            });
        }
        let signature = value.as_object_mut().and_then(|fields| fields.remove("signature"));
        let signature = signature.as_ref().and_then(Value::as_str).unwrap_or_default();
        let signature = hex::decode(signature).unwrap_or_default();
        let signed = canonical(&value);
        let config: Config =
            serde_json::from_value(value).map_err(|e| FormatError::malformed(WHAT, e))?;
        sign::verify(config.owner, DOMAIN, &signed, &signature)
            .map_err(|_| FormatError::malformed(WHAT, "its signature is not by its owner"))?;
        if config.repository.0 != hash::sha256(config.owner.as_bytes()) {
            return Err(FormatError::malformed(WHAT, "its id is not that of its owner"));
        }
        if !config.parameters.is_sound() {
            return Err(FormatError::malformed(WHAT, "its parameters are out of bounds"));
        }
        Config::check_flags("flag", &config.flags.read)?;
        config.public_key()?;
        Ok(config)
    }

    /// Checks that this program may write to the repository.
    ///
    /// # Errors
    ///
    /// [`FormatError::Future`] if it has a flag that is not known here.
    pub fn check_writable(&self) -> Result<(), FormatError> {
        Config::check_flags("flag (for writing)", &self.flags.write)
    }

    /// Checks that this program knows everything that collecting here takes.
    ///
    /// # Errors
    ///
    /// [`FormatError::Future`] with the flag that is not known.
    pub fn check_collectable(&self) -> Result<(), FormatError> {
        Config::check_flags("flag (for collecting)", &self.flags.collect)
    }

    fn check_flags(what: &'static str, flags: &[String]) -> Result<(), FormatError> {
        match flags.first() {
            None => Ok(()),
            Some(flag) => {
                Err(FormatError::Future { what, found: flag.clone(), known: "none".into() })
            }
        }
    }

    /// The public encryption key, if the repository is encrypted.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if it is of an unknown suite or no key.
    pub fn public_key(&self) -> Result<Option<PublicKey>, FormatError> {
        let Some(encryption) = &self.encryption else {
            return Ok(None);
        };
        if encryption.suite != SUITE_X25519 {
            return Err(FormatError::Future {
                what: "cryptographic suite",
                found: encryption.suite.to_string(),
                known: SUITE_X25519.to_string(),
            });
        }
        let mut key = [0; 32];
        hex::decode_to_slice(&encryption.public, &mut key)
            .map_err(|e| FormatError::malformed(WHAT, format!("its public key: {e}")))?;
        Ok(Some(PublicKey(key)))
    }
}

fn parse(bytes: &[u8]) -> Result<Value, FormatError> {
    serde_json::from_slice(bytes).map_err(|e| FormatError::malformed(WHAT, e))
}

fn sign_and_encode(mut value: Value, owner: &SigningKey) -> Vec<u8> {
    let signature = owner.sign(DOMAIN, &canonical(&value));
    if let Value::Object(fields) = &mut value {
        fields.insert("signature".into(), hex::encode(signature).into());
    }
    let mut bytes = serde_json::to_vec_pretty(&value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// The canonical form of a JSON value: keys in byte order, no white space.
#[must_use]
pub fn canonical(value: &Value) -> Vec<u8> {
    fn write(value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by(|a, b| a.0.cmp(b.0));
                out.push(b'{');
                for (i, (key, value)) in fields.into_iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    write(&Value::String(key.clone()), out);
                    out.push(b':');
                    write(value, out);
                }
                out.push(b'}');
            }
            Value::Array(items) => {
                out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    write(item, out);
                }
                out.push(b']');
            }
            plain => out.extend_from_slice(plain.to_string().as_bytes()),
        }
    }
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Kind;

    fn made() -> (SigningKey, Vec<u8>) {
        let owner = SigningKey::random();
        let at = UnixTime::new(1_800_000_000, 0);
        let config = Config::new(owner.id(), Some(PublicKey([3; 32])), Parameters::default(), at);
        let bytes = config.issue(&owner);
        assert_eq!(Config::decode(&bytes), Ok(config));
        (owner, bytes)
    }

    #[test]
    fn any_change_is_noticed() {
        let (_, bytes) = made();
        let text = String::from_utf8(bytes.clone()).unwrap();
        let longer = text.replace("2592000", "2592001");
        assert_ne!(longer, text);
        assert_eq!(Config::decode(longer.as_bytes()).unwrap_err().kind(), Kind::Damaged);
        assert_eq!(Config::decode(&bytes[..bytes.len() / 2]).unwrap_err().kind(), Kind::Damaged);
        // White space is not signed; only what is said is.
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(Config::decode(&serde_json::to_vec(&value).unwrap()).is_ok());
    }

    #[test]
    fn the_future_is_refused_before_anything_else_is_believed() {
        let (owner, bytes) = made();
        let text = String::from_utf8(bytes).unwrap();
        let later = text.replace("\"asof\": 1", "\"asof\": 2");
        assert_ne!(later, text);
        assert_eq!(Config::decode(later.as_bytes()).unwrap_err().kind(), Kind::Future);
        let mut config = Config::decode(text.as_bytes()).unwrap();
        config.flags.write = vec!["tomorrow".into()];
        let may_read = Config::decode(&config.issue(&owner)).unwrap();
        assert_eq!(may_read.check_writable().unwrap_err().kind(), Kind::Future);
        config.flags.read = vec!["tomorrow".into()];
        assert_eq!(Config::decode(&config.issue(&owner)).unwrap_err().kind(), Kind::Future);
    }

    #[test]
    fn an_upgrade_changes_the_version_and_nothing_else() {
        let (owner, bytes) = made();
        let mut value: Value = serde_json::from_slice(&bytes).unwrap();
        value["asof"] = 0.into();
        value["not-known-here"] = "kept".into();
        value.as_object_mut().unwrap().remove("signature");
        let old = sign_and_encode(value, &owner);
        assert_eq!(Config::decode(&old).unwrap().asof, 0);
        let new = Config::upgrade(&old, &owner).unwrap();
        let config = Config::decode(&new).unwrap();
        assert_eq!(config, Config::decode(&bytes).unwrap());
        assert!(String::from_utf8(new.clone()).unwrap().contains("not-known-here"));
        assert_eq!(Config::identity(&old), Config::identity(&new));
        assert_ne!(Config::identity(&bytes), Config::identity(&new));
        assert_eq!(Config::upgrade(&new, &owner), Ok(new.clone()));
        assert!(Config::upgrade(&new[..new.len() / 2], &owner).is_err());
    }

    #[test]
    fn another_owner_cannot_sign_for_the_repository() {
        let (_, bytes) = made();
        let thief = SigningKey::random();
        let mut config = Config::decode(&bytes).unwrap();
        assert!(Config::decode(&config.issue(&thief)).is_err());
        config.owner = thief.id();
        assert!(Config::decode(&config.issue(&thief)).is_err(), "its id is another's");
    }

    #[test]
    fn parameters_out_of_bounds_are_refused() {
        let owner = SigningKey::random();
        let at = UnixTime::new(1_800_000_000, 0);
        let good = Parameters::default();
        for bad in [
            Parameters { skew_seconds: u64::MAX, ..good.clone() },
            Parameters { grace_seconds: u64::MAX, ..good.clone() },
            Parameters { pack_bytes: u64::MAX, ..good.clone() },
            Parameters { chunks: Sizes { max: 1 << 30, ..Sizes::DEFAULT }, ..good },
        ] {
            let bytes = Config::new(owner.id(), None, bad, at).issue(&owner);
            assert_eq!(Config::decode(&bytes).unwrap_err().kind(), Kind::Damaged);
        }
    }

    #[test]
    fn the_canonical_form_is_sorted_and_dense() {
        let value: Value =
            serde_json::from_str(r#"{"b": [1, "x"], "a": {"d": null, "c": true}}"#).unwrap();
        assert_eq!(canonical(&value), br#"{"a":{"c":true,"d":null},"b":[1,"x"]}"#);
    }
}
