//! Items: the one shape of every fact and every node.
//!
//! ```text
//! { 0: refs, 1: kind, 2: body }      refs: 32 bytes a chunk, in one byte string
//! ```
//!
//! A program that meets a kind that it does not know still sees which chunks the
//! item needs, so it marks them when it collects garbage, and copies the item
//! verbatim when it compacts. Bodies name chunks by their place in `refs`, never
//! by id: an id stands once, and nothing can be needed without being seen.

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use crate::base::ChunkId;
use crate::format::FormatError;

/// An item, its body not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<'a> {
    /// The chunks that it needs.
    pub refs: Vec<ChunkId>,
    /// What it is.
    pub kind: u64,
    /// Its body, one CBOR value.
    pub body: &'a [u8],
}

impl<'a> Item<'a> {
    /// Decodes an item that fills `bytes` to the end.
    ///
    /// # Errors
    ///
    /// [`FormatError::Malformed`] if it is none.
    pub fn decode(what: &'static str, bytes: &'a [u8]) -> Result<Item<'a>, FormatError> {
        let mut decoder = Decoder::new(bytes);
        let malformed = |e: minicbor::decode::Error| FormatError::malformed(what, e);
        let mut refs = None;
        let mut kind = None;
        let mut body = None;
        let fields = decoder.map().map_err(malformed)?;
        let fields = fields.ok_or_else(|| FormatError::malformed(what, "indefinite length"))?;
        let mut before = None;
        for _ in 0..fields {
            let key = decoder.u64().map_err(malformed)?;
            // Two readings of one item would be two opinions on what it needs.
            if before.is_some_and(|before| before >= key) {
                return Err(FormatError::malformed(what, "its keys are not in order"));
            }
            before = Some(key);
            match key {
                0 => refs = Some(decoder.bytes().map_err(malformed)?),
                1 => kind = Some(decoder.u64().map_err(malformed)?),
                2 => {
                    let start = decoder.position();
                    skip(&mut decoder, 0).map_err(malformed)?;
                    body = bytes.get(start..decoder.position());
                }
                _ => skip(&mut decoder, 0).map_err(malformed)?,
            }
        }
        if decoder.position() != bytes.len() {
            return Err(FormatError::malformed(what, "bytes follow its end"));
        }
        let refs = refs.unwrap_or_default();
        let (ids, rest) = refs.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(FormatError::malformed(what, "its references are not whole ids"));
        }
        Ok(Item {
            refs: ids.iter().copied().map(ChunkId).collect(),
            kind: kind.ok_or_else(|| FormatError::malformed(what, "it has no kind"))?,
            body: body.ok_or_else(|| FormatError::malformed(what, "it has no body"))?,
        })
    }
}

/// Encodes an item around a body that is encoded already.
#[must_use]
pub fn encode(refs: &[ChunkId], kind: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(refs.len() * 32 + body.len() + 16);
    let mut encoder = Encoder::new(&mut bytes);
    let flat: Vec<u8> = refs.iter().flat_map(|id| id.0).collect();
    // Writing into memory cannot fail.
    let _ = encoder
        .map(3)
        .and_then(|e| e.u8(0))
        .and_then(|e| e.bytes(&flat))
        .and_then(|e| e.u8(1))
        .and_then(|e| e.u64(kind))
        .and_then(|e| e.u8(2))
        .map(|_| ());
    bytes.extend_from_slice(body);
    bytes
}

/// How deep values of an unknown kind may nest.
const DEPTH_MAX: u32 = 32;

/// Skips one value, however it nests, up to [`DEPTH_MAX`].
fn skip(decoder: &mut Decoder<'_>, depth: u32) -> Result<(), minicbor::decode::Error> {
    use minicbor::decode::Error;
    if depth > DEPTH_MAX {
        return Err(Error::message("nested too deep"));
    }
    match decoder.datatype()? {
        Type::Array => {
            let length = decoder.array()?.unwrap_or(0);
            (0..length).try_for_each(|_| skip(decoder, depth + 1))
        }
        Type::Map => {
            let length = decoder.map()?.unwrap_or(0);
            (0..length).try_for_each(|_| {
                skip(decoder, depth + 1)?;
                skip(decoder, depth + 1)
            })
        }
        Type::ArrayIndef | Type::MapIndef | Type::BytesIndef | Type::StringIndef => {
            Err(Error::message("indefinite length"))
        }
        _ => decoder.skip(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_of_an_unknown_kind_still_shows_its_references() {
        let refs = [ChunkId([1; 32]), ChunkId([2; 32])];
        let body = minicbor::to_vec((1_u8, "text", [1_u8, 2])).unwrap();
        let bytes = encode(&refs, 999, &body);
        let item = Item::decode("fact", &bytes).unwrap();
        assert_eq!((item.refs.as_slice(), item.kind, item.body), (&refs[..], 999, &body[..]));
    }

    #[test]
    fn what_is_no_item_is_refused() {
        let good = encode(&[], 1, &[0]);
        assert!(Item::decode("fact", &good).is_ok());
        let mut longer = good.clone();
        longer.push(0);
        let deep = encode(&[], 1, &[[0x81_u8; 100].as_slice(), &[0]].concat());
        for (name, bytes) in [
            ("empty", &[][..]),
            ("cut", &good[..good.len() - 1]),
            ("longer", &longer),
            ("half an id", &[0xa3, 0, 0x41, 9, 1, 1, 2, 0]),
            ("a claimed length", &[0xa3, 0, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            ("endless map", &[0xbf, 0xff]),
            ("deep", &deep),
            ("references twice", &[0xa4, 0, 0x40, 0, 0x40, 1, 1, 2, 0]),
            ("out of order", &[0xa3, 1, 1, 0, 0x40, 2, 0]),
        ] {
            assert!(Item::decode("fact", bytes).is_err(), "{name}");
        }
    }
}
