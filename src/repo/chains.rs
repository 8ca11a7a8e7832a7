//! What is wrong with chains: records that are missing, doubled or out of place.
//!
//! What was published stands nevertheless. A gap means that a store withholds or
//! lost a record, or that it could not be read; a fork, that a writer's key is in
//! use at two places, as after a machine was copied, or stolen.

use crate::base::{ChainId, RecordId};
use crate::index::ChainLink;
use crate::repo::{Repository, Result};

/// Something that is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainGap {
    /// No record has these numbers.
    Missing {
        /// The first of them.
        from: u64,
        /// The first after them that there is.
        upto: u64,
    },
    /// Several records have one number.
    Fork {
        /// That number.
        number: u64,
        /// The records, in order.
        records: Vec<RecordId>,
    },
    /// A record says that it follows another than the one that has the number
    /// before its own.
    Severed {
        /// Its number.
        number: u64,
        /// The record.
        record: RecordId,
    },
}

/// Everything that is wrong with the chains that the index knows, in their order.
///
/// Costs no store request, and memory for every record.
///
/// # Errors
///
/// [`crate::repo::Error::Index`] if the index cannot be read.
pub fn chain_gaps(repo: &Repository) -> Result<Vec<(ChainId, ChainGap)>> {
    Ok(gaps(&repo.index().chain_links()?))
}

/// Everything that is wrong with these chains, in their order: links by writer, chain,
/// number and record.
#[must_use]
pub fn gaps(links: &[ChainLink]) -> Vec<(ChainId, ChainGap)> {
    let mut found = Vec::new();
    for chain in links.chunk_by(|a, b| (a.writer, a.chain) == (b.writer, b.chain)) {
        let mut before: &[ChainLink] = &[];
        for same in chain.chunk_by(|a, b| a.number == b.number) {
            let mut report = |gap| found.push((same[0].chain, gap));
            let number = same[0].number;
            let expected = before.first().map_or(0, |link| link.number + 1);
            if number > expected {
                report(ChainGap::Missing { from: expected, upto: number });
            }
            if same.len() > 1 {
                let records = same.iter().map(|link| link.record).collect();
                report(ChainGap::Fork { number, records });
            }
            for link in same {
                let follows = match link.previous {
                    None => number == 0,
                    Some(_) if number > expected => true,
                    Some(previous) => before.iter().any(|link| link.record == previous),
                };
                if !follows {
                    report(ChainGap::Severed { number, record: link.record });
                }
            }
            before = same;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::WriterId;

    fn link(chain: u8, number: u64, record: u8, previous: Option<u8>) -> ChainLink {
        ChainLink {
            writer: WriterId([1; 32]),
            chain: ChainId([chain; 16]),
            number,
            record: RecordId([record; 32]),
            previous: previous.map(|n| RecordId([n; 32])),
        }
    }

    #[test]
    fn a_chain_without_gaps_is_not_reported() {
        let links = [link(1, 0, 10, None), link(1, 1, 11, Some(10)), link(2, 0, 12, None)];
        assert_eq!(gaps(&links), []);
    }

    #[test]
    fn gaps_forks_and_records_out_of_place_are_reported() {
        let links = [
            link(1, 1, 10, Some(9)),
            link(1, 2, 11, Some(10)),
            link(1, 2, 12, Some(10)),
            link(1, 3, 13, Some(12)),
            link(1, 4, 14, Some(12)),
            link(1, 7, 15, Some(1)),
            link(2, 0, 16, Some(15)),
            link(2, 1, 17, None),
        ];
        let (one, two) = (ChainId([1; 16]), ChainId([2; 16]));
        let records = vec![RecordId([11; 32]), RecordId([12; 32])];
        let severed = |number, n| ChainGap::Severed { number, record: RecordId([n; 32]) };
        let expected = [
            (one, ChainGap::Missing { from: 0, upto: 1 }),
            (one, ChainGap::Fork { number: 2, records }),
            (one, severed(4, 14)),
            (one, ChainGap::Missing { from: 5, upto: 7 }),
            (two, severed(0, 16)),
            (two, severed(1, 17)),
        ];
        assert_eq!(gaps(&links), expected);
    }
}
