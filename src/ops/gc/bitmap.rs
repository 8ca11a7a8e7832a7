//! A set of dense numbers: one bit each, so that 10^8 chunks take 12 MB.

/// A set of numbers below a bound.
#[derive(Debug, Clone, Default)]
pub(super) struct Bitmap(Vec<u64>);

impl Bitmap {
    /// An empty set of numbers below `count`.
    pub(super) fn new(count: u64) -> Bitmap {
        Bitmap(vec![0; usize::try_from(count.div_ceil(64)).unwrap_or(usize::MAX)])
    }

    /// Adds a number; says whether it is new. One that is out of bounds never is.
    pub(super) fn insert(&mut self, number: u64) -> bool {
        let Some(word) = usize::try_from(number / 64).ok().and_then(|at| self.0.get_mut(at)) else {
            return false;
        };
        let bit = 1 << (number % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Whether a number is in it.
    pub(super) fn contains(&self, number: u64) -> bool {
        let word = usize::try_from(number / 64).ok().and_then(|at| self.0.get(at));
        word.is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_was_put_in_and_nothing_else() {
        let mut set = Bitmap::new(130);
        assert!(set.insert(0) && set.insert(64) && set.insert(129));
        assert!(!set.insert(64));
        assert!(!set.insert(1_000_000));
        let held: Vec<u64> = (0..200).filter(|n| set.contains(*n)).collect();
        assert_eq!(held, [0, 64, 129]);
    }
}
