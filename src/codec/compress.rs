//! Compression: zstd, one frame at a time, lengths never believed.

use crate::codec::CodecError;

/// How the bytes of a frame are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As they are.
    Raw = 0,
    /// zstd.
    Zstd = 1,
}

/// A compressor that keeps its tables between calls.
pub struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    /// A compressor of that zstd level.
    #[must_use]
    pub fn new(level: i32) -> Compressor {
        #[allow(clippy::expect_used)]
        Compressor(zstd::bulk::Compressor::new(level).expect("zstd takes every level"))
    }

    /// Packs `plain`, or leaves it raw where packing gains less than one part in 64.
    #[must_use]
    pub fn pack(&mut self, plain: &[u8]) -> (Codec, Vec<u8>) {
        match self.0.compress(plain) {
            Ok(packed) if packed.len() < plain.len() - plain.len() / 64 => (Codec::Zstd, packed),
            _ => (Codec::Raw, plain.to_vec()),
        }
    }
}

/// Unpacks bytes to exactly `plain_len` bytes.
///
/// Allocates `plain_len` bytes and no more, whatever the packed bytes claim, so
/// the caller bounds it first.
///
/// # Errors
///
/// [`CodecError::Compression`] if they unpack to anything else.
pub fn unpack(codec: Codec, packed: &[u8], plain_len: usize) -> Result<Vec<u8>, CodecError> {
    let wrong = CodecError::Compression { expected: plain_len };
    let plain = match codec {
        Codec::Raw => packed.to_vec(),
        Codec::Zstd => zstd::bulk::decompress(packed, plain_len).map_err(|_| wrong)?,
    };
    if plain.len() == plain_len { Ok(plain) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_what_packs_and_leaves_the_rest_raw() {
        let mut compressor = Compressor::new(3);
        let text = b"the same words ".repeat(100);
        let (codec, packed) = compressor.pack(&text);
        assert_eq!(codec, Codec::Zstd);
        assert_eq!(unpack(codec, &packed, text.len()).unwrap(), text);
        let noise = crate::codec::random::bytes::<1000>();
        let (codec, packed) = compressor.pack(&noise);
        assert_eq!((codec, packed.as_slice()), (Codec::Raw, noise.as_slice()));
        assert_eq!(compressor.pack(b"").1, b"");
    }

    #[test]
    fn a_length_that_is_not_true_is_an_error_and_no_allocation() {
        let bomb = zstd::bulk::compress(&vec![0; 1 << 24], 3).unwrap();
        assert!(unpack(Codec::Zstd, &bomb, 1000).is_err());
        assert!(unpack(Codec::Zstd, &bomb, (1 << 24) + 1).is_err());
        assert!(unpack(Codec::Raw, b"abc", 4).is_err());
        assert!(unpack(Codec::Zstd, b"no zstd at all", 4).is_err());
    }
}
