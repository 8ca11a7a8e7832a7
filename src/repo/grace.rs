//! The grace period in force.
//!
//! What `asof.json` says is what writers rely on, and those that only write never learn
//! of anything else. So it is the least; the owner can make collectors wait longer. A
//! longer period holds at once, a shorter one when the one before has passed.

use crate::format::config::GRACE_SECONDS_MAX;
use crate::format::fact::Fact;
use crate::repo::{Repository, Result};

/// How long collectors wait at the store's time `at`, seconds since 1970. Seconds.
///
/// # Errors
///
/// [`crate::repo::Error::Index`] if the index cannot be read.
pub fn in_force(repo: &Repository, at: i64) -> Result<i64> {
    let mut said: Vec<(i64, u64)> = Vec::new();
    for (receipt, fact) in repo.index().other_facts()? {
        if let Ok((_, Fact::Grace(grace))) = Fact::decode(&fact) {
            said.push((receipt, grace.seconds));
        }
    }
    said.sort_unstable();
    let longest = longest(&said, at).max(repo.config().parameters.grace_seconds);
    Ok(i64::try_from(longest.min(GRACE_SECONDS_MAX)).unwrap_or(i64::MAX / 4))
}

/// The longest period of those that still hold. `said` is in the order of receipts.
fn longest(said: &[(i64, u64)], at: i64) -> u64 {
    let holds = |n: usize, seconds: u64| match said.get(n + 1) {
        None => true,
        Some((next, _)) => next.saturating_add_unsigned(seconds) > at,
    };
    let held = said.iter().enumerate().filter(|(n, (_, seconds))| holds(*n, *seconds));
    held.map(|(_, (_, seconds))| *seconds).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_period_holds_at_once_and_a_shorter_one_when_the_other_has_passed() {
        assert_eq!(longest(&[], 50), 0);
        assert_eq!(longest(&[(10, 100)], 11), 100);
        assert_eq!(longest(&[(10, 100), (20, 300)], 21), 300);
        let shortened = [(10, 300), (50, 100)];
        assert_eq!(longest(&shortened, 349), 300);
        assert_eq!(longest(&shortened, 350), 100);
        assert_eq!(longest(&[(10, 300), (50, 100), (60, 200)], 400), 200);
    }
}
