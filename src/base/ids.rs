//! The names of things, each a type of its own.
//!
//! A chunk's id and a pack's id are both thirty-two bytes; a function that takes
//! one must not be handed the other. Shown as lower-case hexadecimal everywhere.

use std::fmt;
use std::str::FromStr;

/// A text that is not the hexadecimal form of an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {digits} hexadecimal digits")]
pub struct NotAnId {
    /// What was given.
    pub text: String,
    /// How many digits an id of this type has.
    pub digits: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// How many bytes an id of this type has.
            pub const BYTES: usize = $bytes;

            /// The id as bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// The id that these bytes are, if there are just as many as it has.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<$name> {
                bytes.try_into().ok().map($name)
            }

            /// The first eight digits, enough for a person to tell ids apart.
            #[must_use]
            pub fn short(&self) -> String {
                hex::encode(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), hex::encode(&self.0[..4]))
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<$name, NotAnId> {
                let mut bytes = [0; $bytes];
                let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
                match hex::decode_to_slice(text, &mut bytes) {
                    Ok(()) if lower => Ok($name(bytes)),
                    _ => Err(NotAnId { text: text.to_owned(), digits: 2 * $bytes }),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<$name, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<$name, minicbor::decode::Error> {
                let at = d.position();
                $name::from_slice(d.bytes()?).ok_or_else(|| {
                    minicbor::decode::Error::message(concat!(
                        "an id has ", stringify!($bytes), " bytes"
                    )).at(at)
                })
            }
        }
    };
}

id! {
    /// A piece of content: a keyed hash of its kind and plaintext.
    ChunkId, 32
}
id! {
    /// A pack: the SHA-256 of its bytes.
    PackId, 32
}
id! {
    /// A record of the log: the SHA-256 of its bytes.
    RecordId, 32
}
id! {
    /// A repository: the SHA-256 of its owner's public key.
    RepositoryId, 32
}
id! {
    /// A file under `keys/`: the SHA-256 of its bytes.
    KeyId, 32
}
id! {
    /// Who signs records: an Ed25519 public key.
    WriterId, 32
}
id! {
    /// A snapshot: random, unique to its taking.
    SnapshotId, 16
}
id! {
    /// A stream, an unbroken line of states of a database: random.
    StreamId, 16
}
id! {
    /// The records of one publishing process: random.
    ChainId, 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text_and_from_nothing_else() {
        let id = SnapshotId([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short(), "abababab");
        for wrong in ["", "ab", &id.to_string().to_uppercase(), &format!("{id}0")] {
            assert!(wrong.parse::<SnapshotId>().is_err(), "{wrong:?}");
        }
    }
}
