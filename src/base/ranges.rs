//! Sets of numbers that mostly follow each other, as runs.

use std::collections::BTreeMap;

/// A set of numbers, by runs that do not touch. Takes some 40 bytes a run.
#[derive(Debug, Clone, Default)]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds the numbers from `start` to before `end`.
    pub fn add(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        while let Some((&from, &to)) = self.0.range(..=end).next_back() {
            if to < start {
                break;
            }
            self.0.remove(&from);
            (start, end) = (start.min(from), end.max(to));
        }
        self.0.insert(start, end);
    }

    /// Whether all numbers from `start` to before `end` are in it.
    #[must_use]
    pub fn has(&self, start: u64, end: u64) -> bool {
        self.0.range(..=start).next_back().is_some_and(|(_, to)| end <= *to)
    }

    /// How many runs there are.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.0.len()
    }

    /// The first run of numbers below `end` that is missing.
    #[must_use]
    pub fn gap(&self, end: u64) -> Option<(u64, u64)> {
        let start = self.0.get(&0).copied().unwrap_or(0);
        let next = self.0.range(start..).map(|(from, _)| *from).next().unwrap_or(end);
        (start < end).then_some((start, next.min(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a set of single places.
        #[test]
        fn ranges_are_what_was_added(parts in prop::collection::vec((0..40u64, 0..12u64), 0..20)) {
            let (mut ranges, mut model) = (Ranges::default(), [false; 60]);
            for (start, length) in parts {
                ranges.add(start, start + length);
                model[start as usize..(start + length) as usize].fill(true);
            }
            let size = 52;
            let first = (0..size).find(|n| !model[*n as usize]);
            let gap = first.map(|start| {
                (start, (start..size).find(|n| model[*n as usize]).unwrap_or(size))
            });
            prop_assert_eq!(ranges.gap(size), gap);
            let parts = model.windows(2).filter(|two| two[0] != two[1] && two[1]).count();
            prop_assert_eq!(ranges.parts(), parts + usize::from(model[0]));
            prop_assert_eq!(ranges.has(0, size), first.is_none());
            for at in 0..size {
                prop_assert_eq!(ranges.has(at, at + 1), model[at as usize]);
            }
        }
    }
}
