//! Compression: zstd, one frame at a time, lengths never believed.

use std::cell::RefCell;

use zstd::bulk::Decompressor;
use zstd::zstd_safe::CParameter;

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
pub struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
    is_tuned: bool,
}

/// The least that is worth a reference, at level 3: in the pieces of long files, which are
/// programs and data more often than text, shorter repetitions are worth one. Bytes.
const MATCH_MIN: u32 = 5;
const MATCH_MIN_IN_LONG: u32 = 4;

impl Compressor {
    /// A compressor of that zstd level.
    ///
    /// Level 3 gets a table for long repetitions that is twice as large as zstd gives it, and
    /// seeks shorter ones in pieces of long files: together they find one part in a hundred
    /// more there and cost nothing. Larger tables do not fit the processor's cache.
    #[must_use]
    pub fn new(level: i32) -> Compressor {
        #[allow(clippy::expect_used)]
        let mut zstd = zstd::bulk::Compressor::new(level).expect("zstd takes every level");
        let is_tuned = level == 3;
        if is_tuned {
            // What a build of zstd should not know is left as it is.
            let _ = zstd.set_parameter(CParameter::HashLog(18));
            let _ = zstd.set_parameter(CParameter::ChainLog(16));
        }
        Compressor { zstd, is_tuned }
    }

    /// Packs `plain`, or leaves it raw where packing gains less than one part in 64.
    #[must_use]
    pub fn pack(&mut self, plain: &[u8]) -> (Codec, Vec<u8>) {
        self.pack_with(plain, MATCH_MIN)
    }

    /// The same for a piece of a long file.
    #[must_use]
    pub fn pack_long(&mut self, plain: &[u8]) -> (Codec, Vec<u8>) {
        self.pack_with(plain, MATCH_MIN_IN_LONG)
    }

    fn pack_with(&mut self, plain: &[u8], match_min: u32) -> (Codec, Vec<u8>) {
        if self.is_tuned {
            let _ = self.zstd.set_parameter(CParameter::MinMatch(match_min));
        }
        match self.zstd.compress(plain) {
            Ok(packed) if packed.len() < plain.len() - plain.len() / 64 => (Codec::Zstd, packed),
            _ => (Codec::Raw, plain.to_vec()),
        }
    }
}

thread_local! {
    /// Making one takes longer than to unpack a small frame.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn decompress(packed: &[u8], plain_len: usize) -> std::io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(Decompressor::new()?),
        };
        decompressor.decompress(packed, plain_len)
    })
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
        Codec::Zstd => decompress(packed, plain_len).map_err(|_| wrong)?,
    };
    if plain.len() == plain_len { Ok(plain) } else { Err(wrong) }
}

/// Unpacks no more than the first `prefix_len` bytes.
///
/// # Errors
///
/// [`CodecError::Compression`] if they are packed wrongly.
pub fn unpack_prefix(
    codec: Codec,
    packed: &[u8],
    prefix_len: usize,
) -> Result<Vec<u8>, CodecError> {
    use std::io::Read;
    let wrong = || CodecError::Compression { expected: prefix_len };
    match codec {
        Codec::Raw => Ok(packed[..packed.len().min(prefix_len)].to_vec()),
        Codec::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(packed);
            let mut plain = Vec::new();
            let mut prefix = decoder.map_err(|_| wrong())?.take(prefix_len as u64);
            prefix.read_to_end(&mut plain).map_err(|_| wrong())?;
            Ok(plain)
        }
    }
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
        let (codec, packed) = compressor.pack_long(&text);
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
        // What could not be unpacked is forgotten.
        assert_eq!(unpack(Codec::Zstd, &bomb, 1 << 24).unwrap(), vec![0; 1 << 24]);
    }

    #[test]
    fn a_prefix_is_all_that_is_unpacked_of_a_bomb() {
        let plain = b"0123456789".repeat(1 << 20);
        let bomb = zstd::bulk::compress(&plain, 3).unwrap();
        assert_eq!(unpack_prefix(Codec::Zstd, &bomb, 1000).unwrap(), plain[..1000]);
        assert_eq!(unpack_prefix(Codec::Raw, b"abc", 2).unwrap(), b"ab");
        assert_eq!(unpack_prefix(Codec::Raw, b"abc", 9).unwrap(), b"abc");
        let short = zstd::bulk::compress(b"abc", 3).unwrap();
        assert_eq!(unpack_prefix(Codec::Zstd, &short, 9).unwrap(), b"abc");
        assert!(unpack_prefix(Codec::Zstd, b"no zstd at all", 4).is_err());
    }
}
