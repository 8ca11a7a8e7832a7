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
        let wrong = |why: &str| FormatError::malformed(what, why.to_owned());
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
                    let mut end = start;
                    skip(bytes, &mut end, 0).map_err(wrong)?;
                    decoder.set_position(end);
                    body = bytes.get(start..end);
                }
                _ => {
                    let mut end = decoder.position();
                    skip(bytes, &mut end, 0).map_err(wrong)?;
                    decoder.set_position(end);
                }
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

/// Skips one value, however it nests, up to [`DEPTH_MAX`]. Every value takes a byte at
/// least, so no claimed length makes this longer than what is there.
fn skip(bytes: &[u8], at: &mut usize, depth: u32) -> Result<(), &'static str> {
    const ENDS: &str = "it ends too soon";
    if depth > DEPTH_MAX {
        return Err("nested too deep");
    }
    let first = *bytes.get(*at).ok_or(ENDS)?;
    *at += 1;
    let argument = match first & 31 {
        small @ 0..24 => u64::from(small),
        wide @ 24..28 => {
            let end = *at + (1 << (wide - 24));
            let wide = bytes.get(*at..end).ok_or(ENDS)?;
            *at = end;
            wide.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
        }
        31 => return Err("indefinite length"),
        _ => return Err("reserved length"),
    };
    let values = match first >> 5 {
        // Strings of bytes and of text.
        2 | 3 => {
            let left = bytes.len() - *at;
            *at += usize::try_from(argument).ok().filter(|n| *n <= left).ok_or(ENDS)?;
            0
        }
        // Arrays, maps, tags.
        4 => argument,
        5 => argument.checked_mul(2).ok_or(ENDS)?,
        6 => 1,
        // Numbers and simple values, which are their argument.
        _ => 0,
    };
    (0..values).try_for_each(|_| skip(bytes, at, depth + 1))
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
    fn a_body_is_one_value_of_any_kind() {
        let bodies: [&[u8]; 9] = [
            &[0x18, 200],
            &[0x3b, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0x45, 1, 2, 3, 4, 5],
            &[0x63, b'a', b'b', b'c'],
            &[0x82, 0x81, 0, 0xa1, 1, 0x80],
            &[0xc0, 0x60],
            &[0xf6],
            &[0xf8, 255],
            &[0xfb, 1, 2, 3, 4, 5, 6, 7, 8],
        ];
        for body in bodies {
            assert_eq!(Item::decode("fact", &encode(&[], 1, body)).unwrap().body, body);
            // Every cut is noticed, and so is what follows.
            let whole = encode(&[], 1, body);
            for end in 0..whole.len() {
                assert!(Item::decode("fact", &whole[..end]).is_err(), "{body:?} cut at {end}");
            }
        }
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
            ("deep in tags", &encode(&[], 1, &[[0xc1_u8; 100].as_slice(), &[0]].concat())),
            (
                "more values than bytes",
                &[0xa2, 1, 1, 2, 0x9b, 255, 255, 255, 255, 255, 255, 255, 255],
            ),
            (
                "more pairs than a number",
                &[0xa2, 1, 1, 2, 0xbb, 255, 255, 255, 255, 255, 255, 255, 255],
            ),
            ("a string longer than all", &[0xa2, 1, 1, 2, 0x7a, 255, 255, 255, 255, 0]),
            ("an endless string", &[0xa2, 1, 1, 2, 0x5f, 0x41, 0, 0xff]),
            ("half a number", &[0xa2, 1, 1, 2, 0x19, 1]),
            ("a reserved length", &[0xa2, 1, 1, 2, 0x1c]),
            ("references twice", &[0xa4, 0, 0x40, 0, 0x40, 1, 1, 2, 0]),
            ("out of order", &[0xa3, 1, 1, 0, 0x40, 2, 0]),
        ] {
            assert!(Item::decode("fact", bytes).is_err(), "{name}");
        }
    }
}
