//! Where content is cut: FastCDC with a keyed gear table.
//!
//! Cuts depend on content alone, so an insertion moves the cuts beside it and no
//! others. The table is derived from the id key: sizes of chunks then tell the
//! holder of the bucket nothing about which known files are in it.

use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use serde::{Deserialize, Serialize};

use crate::codec::hash::IdKey;

/// How content is cut; a parameter of the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// No chunk is shorter, but for the last of a run. Bytes.
    pub min: u32,
    /// About the average. Bytes.
    pub average: u32,
    /// No chunk is longer. Bytes.
    pub max: u32,
}

impl Sizes {
    /// 512 KiB on average. A read at a random place opens, unpacks and hashes one chunk: that
    /// takes half as long as with 1 MiB, and all of it is stored in 1 % more. 100 TB are
    /// 2 * 10^8 chunks.
    pub const DEFAULT: Sizes = Sizes { min: 128 * 1024, average: 512 * 1024, max: 2 * 1024 * 1024 };

    /// Whether the chunker can work with these, and a reader hold them. It takes two
    /// bytes at a time and has masks for averages up to 8 MiB.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        [self.min, self.average, self.max].iter().all(|size| size.is_multiple_of(2))
            && 64 <= self.min
            && self.min < self.average
            && self.average < self.max
            && (256..=8 << 20).contains(&self.average)
            && self.max <= 64 << 20
    }
}

/// Cuts a run of bytes into chunks.
#[derive(Clone)]
pub struct Chunker {
    sizes: Sizes,
    masks: (u64, u64),
    gear: Box<[u64; 256]>,
    gear_shifted: Box<[u64; 256]>,
}

impl Chunker {
    /// The chunker of a repository.
    #[must_use]
    pub fn new(sizes: Sizes, ids: &IdKey) -> Chunker {
        let bytes = ids.derive::<2048>("asof gear");
        let mut gear = Box::new([0; 256]);
        let mut gear_shifted = Box::new([0; 256]);
        for (i, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
            gear[i] = u64::from_be_bytes(*word);
            gear_shifted[i] = gear[i] << 1;
        }
        let masks = select_masks(sizes.average as usize, Normalization::Level2);
        Chunker { sizes, masks, gear, gear_shifted }
    }

    /// The most bytes that [`Chunker::cut`] ever looks at.
    #[must_use]
    pub fn max(&self) -> usize {
        self.sizes.max as usize
    }

    /// How long the first chunk of `bytes` is. `bytes` must hold the whole rest of
    /// the run, or at least [`Chunker::max`] of it. Zero only for no bytes.
    #[must_use]
    pub fn cut(&self, bytes: &[u8]) -> usize {
        if bytes.len() <= self.sizes.min as usize {
            return bytes.len();
        }
        let (strict, relaxed) = self.masks;
        let (_, length) = cut_gear(
            bytes,
            self.sizes.min as usize,
            self.sizes.average as usize,
            self.sizes.max as usize,
            strict,
            relaxed,
            strict << 1,
            relaxed << 1,
            &self.gear[..],
            &self.gear_shifted[..],
        );
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Sizes = Sizes { min: 1024, average: 4096, max: 16384 };

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u64;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect()
    }

    fn cuts(chunker: &Chunker, mut bytes: &[u8]) -> Vec<usize> {
        let mut all = Vec::new();
        let mut at = 0;
        while !bytes.is_empty() {
            let n = chunker.cut(bytes);
            at += n;
            all.push(at);
            bytes = &bytes[n..];
        }
        all
    }

    #[test]
    fn chunks_keep_their_bounds_and_their_average() {
        let chunker = Chunker::new(SMALL, &IdKey::secret(&[1; 32]));
        let bytes = noise(1 << 20);
        let ends = cuts(&chunker, &bytes);
        assert_eq!(ends.last(), Some(&bytes.len()));
        let mut before = 0;
        for (i, end) in ends.iter().enumerate() {
            let length = end - before;
            assert!(length <= 16384 && (length >= 1024 || i + 1 == ends.len()));
            before = *end;
        }
        let average = bytes.len() / ends.len();
        assert!((3000..6000).contains(&average), "average {average}");
    }

    /// What is sound never panics, at its bounds least of all.
    #[test]
    fn sizes_at_their_bounds() {
        let sizes = |min, average, max| Sizes { min, average, max };
        for sound in [sizes(64, 256, 258), sizes(64, 8 << 20, 64 << 20), Sizes::DEFAULT] {
            assert!(sound.is_sound(), "{sound:?}");
            let chunker = Chunker::new(sound, &IdKey::secret(&[1; 32]));
            assert!(chunker.cut(&noise(1000)) > 0);
        }
        for unsound in [
            sizes(65, 256, 512),
            sizes(64, 257, 512),
            sizes(64, 256, 513),
            sizes(64, 16 << 20, 64 << 20),
            sizes(64, 256, 256),
            sizes(64, 254, 256),
        ] {
            assert!(!unsound.is_sound(), "{unsound:?}");
        }
    }

    #[test]
    fn an_insertion_moves_only_the_cuts_beside_it() {
        let chunker = Chunker::new(SMALL, &IdKey::secret(&[1; 32]));
        let bytes = noise(1 << 20);
        let mut changed = bytes.clone();
        changed.splice(500_000..500_000, *b"inserted");
        let before = cuts(&chunker, &bytes);
        let after: std::collections::HashSet<usize> =
            cuts(&chunker, &changed).into_iter().collect();
        let kept = before
            .iter()
            .filter(|&&end| after.contains(&if end < 500_000 { end } else { end + 8 }))
            .count();
        assert!(before.len() - kept <= 4, "{} of {} kept", kept, before.len());
    }

    #[test]
    fn another_key_cuts_elsewhere() {
        let bytes = noise(1 << 18);
        let one = cuts(&Chunker::new(SMALL, &IdKey::secret(&[1; 32])), &bytes);
        let two = cuts(&Chunker::new(SMALL, &IdKey::secret(&[2; 32])), &bytes);
        let same = one.iter().filter(|end| two.contains(end)).count();
        assert!(same < one.len() / 4, "{same} of {}", one.len());
    }
}
