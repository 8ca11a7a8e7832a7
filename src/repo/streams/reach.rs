//! How far the segments of a stream lead, and where they lead on from.
//!
//! Nothing is read for this but where segments begin and end: it is what [`super::States`]
//! can make, seen from afar, for whoever counts states or looks for holes.

use std::collections::VecDeque;

use crate::base::StreamId;
use crate::format::segment::Segment;
use crate::repo::{Repository, Result, streams};

/// How far is led to, while one segment after the other is taken.
#[derive(Debug)]
pub struct Reach {
    /// The positions of states that are stored whole and were not come to, ascending.
    bases: VecDeque<u64>,
    upto: Option<u64>,
}

/// What a segment adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Led {
    /// Its states behind this position can be shown; none if none can.
    pub from: Option<u64>,
    /// Whether nothing leads to where it begins.
    pub behind_hole: bool,
}

impl Reach {
    /// Of a stream with states stored whole at these positions, ascending.
    pub fn new(bases: impl IntoIterator<Item = u64>) -> Reach {
        Reach { bases: bases.into_iter().collect(), upto: None }
    }

    /// The last position that is led to.
    #[must_use]
    pub fn upto(&self) -> Option<u64> {
        self.upto
    }

    /// Takes the next segment. They come in the order of where they begin; of those that begin
    /// at one state the longest first.
    pub fn take(&mut self, after: u64, last: u64) -> Led {
        while let Some(base) = self.bases.pop_front_if(|base| *base <= after) {
            self.upto = self.upto.max(Some(base));
        }
        if let Some(upto) = self.upto.filter(|upto| after <= *upto) {
            self.upto = Some(upto.max(last));
            return Led { from: Some(upto), behind_hole: false };
        }
        // The next that is stored whole is led on from, if the segment comes that far.
        let base = self.bases.pop_front_if(|base| *base <= last);
        if base.is_some() {
            self.upto = Some(last);
        }
        Led { from: base, behind_hole: true }
    }
}

/// How many states of a source's stream can be shown if these, ascending, are stored whole.
///
/// # Errors
///
/// [`crate::repo::Error::Index`] if the index cannot be read.
pub fn count_shown(
    repo: &Repository,
    source: &str,
    stream: &StreamId,
    bases: &[u64],
) -> Result<u64> {
    let mut reach = Reach::new(bases.iter().copied());
    let mut shown = bases.len() as u64;
    repo.index().each_segment(stream, |row| {
        let (_, segment): (_, Segment) = streams::decode(repo, &row)?;
        if segment.source != source {
            return Ok(());
        }
        if let Some(from) = reach.take(segment.after, segment.last().0).from {
            let new = segment.states().map(|state| state.position).filter(|at| *at > from);
            shown += new.filter(|at| bases.binary_search(at).is_err()).count() as u64;
        }
        Ok::<(), crate::repo::Error>(())
    })?;
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn led(from: u64) -> Led {
        Led { from: Some(from), behind_hole: false }
    }

    #[test]
    fn what_is_behind_a_hole_is_led_to_from_the_next_that_is_whole() {
        let mut reach = Reach::new([0, 10, 30]);
        assert_eq!(reach.take(0, 4), led(0));
        assert_eq!(reach.take(0, 2), led(4), "nothing new");
        assert_eq!(reach.take(4, 6), led(4));
        let lost = Led { from: None, behind_hole: true };
        assert_eq!(reach.take(7, 9), lost);
        assert_eq!(reach.take(8, 12), Led { from: Some(10), behind_hole: true });
        assert_eq!(reach.take(12, 20), led(12));
        assert_eq!(reach.take(21, 22), lost);
        assert_eq!(reach.take(30, 31), led(30));
        assert_eq!(reach.upto(), Some(31));
        let mut nothing = Reach::new([]);
        assert_eq!(nothing.take(0, 5), lost);
        assert_eq!(nothing.upto(), None);
    }
}
