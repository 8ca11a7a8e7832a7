//! Chains: whether all of each is there, in order, and still as it was when it was last
//! looked at.

use std::collections::BTreeMap;

use super::finding::{About, Finding};
use super::heads::{Head, Heads};
use super::read::State;
use super::{FindingKind, Seen, Verify};
use crate::base::units::show_duration;
use crate::base::{ChainId, RecordId, UnixTime, WriterId};
use crate::format::names;
use crate::index::ChainLink;
use crate::repo::chains::{ChainGap, gaps};

/// Whose chain, and which.
type Key = (WriterId, ChainId);

/// What the chains come to.
#[derive(Default)]
pub(super) struct Judged {
    pub(super) findings: Vec<Finding>,
    /// The heads to keep.
    pub(super) heads: BTreeMap<Key, Head>,
    /// How many chains there are.
    pub(super) chains: u64,
    /// How many records there are of each writer.
    pub(super) records: BTreeMap<WriterId, u64>,
    /// How many records only checkpoints carry.
    pub(super) carried: u64,
    /// Whether something is not there, which a listing may also have missed.
    pub(super) lacks: bool,
}

impl Verify<'_> {
    /// Looks at all that was seen, beside the heads that were kept. Adds no findings to
    /// those that there are: it may be asked again when more was read.
    pub(super) fn judge(&mut self, kept: Option<&Heads>) -> Judged {
        // What is in the log comes before what a checkpoint says of it.
        self.seen.sort_by_key(|one| {
            let ChainLink { writer, chain, number, record, .. } = one.link;
            (writer, chain, number, record, one.carried.is_some())
        });
        self.seen.dedup_by_key(|one| one.link.record);
        let mut judged = Judged::default();
        for chain in self.seen.chunk_by(|a, b| key_of(a) == key_of(b)) {
            judged.chains += 1;
            let Some(first) = chain.first() else { continue };
            let before = kept.and_then(|kept| kept.of.get(&key_of(first)));
            *judged.records.entry(first.link.writer).or_default() += chain.len() as u64;
            judged.carried += chain.iter().filter(|one| one.carried.is_some()).count() as u64;
            self.judge_gaps(chain, before, &mut judged);
            self.judge_order(chain, &mut judged);
            self.judge_revoked(chain, &mut judged);
            if let Some(head) = self.head_of(chain, before) {
                judged.heads.insert(key_of(first), head);
            }
        }
        for (key, head) in kept.into_iter().flat_map(|kept| &kept.of) {
            self.judge_head(*key, head, &mut judged);
        }
        self.judge_lineage(&mut judged);
        for (id, standing) in &self.standing {
            if standing.state == State::Gone && !self.covered.contains(id) {
                let name = names::record(standing.hour, *id);
                let about = About::object(name, Some(*id), standing.receipt);
                let what = "it was listed, and was gone when it was asked for";
                judged.findings.push(Finding::problem(FindingKind::Missing, about, what));
                judged.lacks = true;
            }
        }
        judged
    }

    /// A backup is compared with one before it, and names it. What a collector has dropped from
    /// the log, a forgotten snapshot and the word that it is, no checkpoint tells of any more:
    /// where there is one, a snapshot may have gone so.
    fn judge_lineage(&self, judged: &mut Judged) {
        if self.newest.is_some() {
            return;
        }
        for (parent, record) in &self.lineage.parents {
            if self.lineage.published.contains(parent) || self.lineage.forgotten.contains(parent) {
                continue;
            }
            let child = self.seen.iter().find(|one| one.link.record == *record);
            let about = child.map(|one| self.about(one)).unwrap_or_default();
            let what = format!(
                "its snapshot was compared with {parent}, which is neither published nor \
                 forgotten: a record is missing"
            );
            judged.findings.push(Finding::problem(FindingKind::SnapshotGone, about, what));
            judged.lacks = true;
        }
    }

    /// Numbers and hashes.
    fn judge_gaps(&self, chain: &[Seen], before: Option<&Head>, judged: &mut Judged) {
        let links: Vec<ChainLink> = chain.iter().map(|one| one.link).collect();
        for (_, gap) in gaps(&links) {
            match gap {
                ChainGap::Missing { from, upto } => {
                    let next = chain.iter().filter(|one| one.link.number == upto);
                    let last = next.filter_map(|one| one.link.previous).next();
                    // Then it is there, and what is wrong with it was said.
                    if upto - from == 1 && last.is_some_and(|id| self.is_there(&id)) {
                        continue;
                    }
                    judged.lacks = true;
                    judged.findings.push(missing(chain, from, upto, last, before));
                }
                ChainGap::Fork { number, records } => {
                    judged.findings.extend(self.fork(chain, number, &records));
                }
                ChainGap::Severed { number, record } => {
                    let severed = chain.iter().find(|one| one.link.record == record);
                    let about = severed.map(|one| self.about(one)).unwrap_or_default();
                    let what = match number {
                        0 => "it is the first of its chain, and says that another comes before it",
                        _ => "it does not follow the record that has the number before its own",
                    };
                    judged.findings.push(Finding::problem(FindingKind::Severed, about, what));
                }
            }
        }
    }

    /// A put whose reply was lost, and that was given up, leaves a second record that
    /// nothing follows. If both go on, the chain is in use at two places.
    fn fork(&self, chain: &[Seen], number: u64, records: &[RecordId]) -> Option<Finding> {
        let twins = chain.iter().filter(|one| one.link.number == number);
        let twin = twins.max_by_key(|one| self.receipt(one))?;
        let goes_on = |id: &RecordId| chain.iter().any(|one| one.link.previous == Some(*id));
        let others: Vec<String> = records
            .iter()
            .filter(|id| **id != twin.link.record)
            .map(|id| self.name(id).unwrap_or_else(|| id.to_string()))
            .collect();
        let what = format!("it has the number of {}", others.join(", "));
        let about = self.about(twin);
        Some(match records.iter().filter(|id| goes_on(id)).count() {
            0 | 1 => {
                let what = format!("{what}; nothing follows one of them, as after a lost reply");
                Finding::notice(FindingKind::Fork, about, what)
            }
            _ => {
                let what =
                    format!("{what}, and both go on: was a machine copied, or its key stolen?");
                Finding::problem(FindingKind::Fork, about, what)
            }
        })
    }

    /// A record is put after the one before it is stored, so its receipt is no earlier.
    fn judge_order(&self, chain: &[Seen], judged: &mut Judged) {
        let mut before: &[Seen] = &[];
        for same in chain.chunk_by(|a, b| a.link.number == b.link.number) {
            for one in same {
                let previous =
                    before.iter().find(|other| one.link.previous == Some(other.link.record));
                let Some(previous) = previous else { continue };
                let (early, late) = (self.receipt(one), self.receipt(previous));
                if late.seconds.saturating_sub(early.seconds) > self.repo.skew_seconds() {
                    let by = show_duration(late.since(early));
                    let what = format!("it was received {by} before the record that it follows");
                    let about = self.about(one);
                    judged.findings.push(Finding::problem(FindingKind::Reordered, about, what));
                }
            }
            before = same;
        }
    }

    fn judge_revoked(&self, chain: &[Seen], judged: &mut Judged) {
        let writer = chain.first().map(|one| one.link.writer);
        let Some(since) = writer.and_then(|writer| self.revoked.get(&writer)) else { return };
        for one in chain.iter().filter(|one| self.receipt(one).seconds >= *since) {
            let from = UnixTime::new(*since, 0);
            let what = format!("its writer is revoked from {from} on: nothing of it is believed");
            let about = self.about(one);
            judged.findings.push(match one.carried {
                None => Finding::problem(FindingKind::Revoked, about, what),
                // The owner has merged it since.
                Some(_) => Finding::notice(FindingKind::Revoked, about, what),
            });
        }
    }

    /// The last record of a chain. Of several, the one that was seen before.
    fn head_of(&self, chain: &[Seen], before: Option<&Head>) -> Option<Head> {
        let number = chain.last()?.link.number;
        let last = || chain.iter().rev().take_while(|one| one.link.number == number);
        let known = last().find(|one| before.is_some_and(|head| head.record == one.link.record));
        let one = known.or(chain.last())?;
        // It may have left the log since.
        let hour = before.filter(|head| head.record == one.link.record).and_then(|head| head.hour);
        Some(Head {
            number,
            record: one.link.record,
            hour: self.standing.get(&one.link.record).map(|standing| standing.hour).or(hour),
            receipt: self.receipt(one),
            checkpoint: one.checkpoint,
        })
    }

    /// Whether a head that was kept is there still. One that is not stays kept, so that
    /// the next run tells of it as well.
    fn judge_head(&self, key: Key, head: &Head, judged: &mut Judged) {
        let from = self.seen.partition_point(|one| key_of(one) < key);
        let chain = self.seen[from..].iter().take_while(|one| key_of(one) == key);
        let twins: Vec<&Seen> =
            chain.clone().filter(|one| one.link.number == head.number).collect();
        if twins.iter().any(|one| one.link.record == head.record) {
            return;
        }
        let about = About {
            object: head.name(),
            record: Some(head.record),
            writer: Some(key.0),
            chain: Some(key.1),
            number: Some(head.number),
            claimed: None,
            received: Some(head.receipt),
        };
        let last = chain.last();
        let (kind, what) = if let Some(twin) = twins.first() {
            let other = self.name(&twin.link.record);
            let other = other.unwrap_or_else(|| twin.link.record.to_string());
            (
                FindingKind::Rewritten,
                format!("it was there before, and {other} is in its place now"),
            )
        } else if self.is_there(&head.record) {
            // What is wrong with it was said.
            judged.heads.insert(key, *head);
            return;
        } else if self.is_replaced(head, key.0, last.is_some()) {
            return;
        } else if let Some(last) = last {
            if last.link.number > head.number {
                // A number that is missing, which was said.
                return;
            }
            let what = format!(
                "it was the last of its chain before, which ends with number {} now",
                last.link.number
            );
            (FindingKind::Cut, what)
        } else {
            let what = match head.number {
                0 => "it was there before: the one record of its chain".to_owned(),
                n => format!(
                    "it was there before: the last of the {} records of its chain, all gone",
                    n + 1
                ),
            };
            (FindingKind::ChainGone, what)
        };
        judged.lacks = true;
        judged.heads.insert(key, *head);
        judged.findings.push(Finding::problem(kind, about, what));
    }

    /// Whether a checkpoint says why a record is not there any more.
    fn is_replaced(&self, head: &Head, writer: WriterId, chain_is_there: bool) -> bool {
        if self.covered.contains(&head.record) {
            return true;
        }
        // Chains that ended long ago and have nothing left to say are left out. The owner may
        // have gone by the reply to a put, which is earlier than the listing by the skew.
        let received = head.receipt.seconds.saturating_sub(self.repo.skew_seconds());
        let ended = self.complete_after.is_some_and(|until| received <= until);
        // A checkpoint has a chain of its own, which goes with it when a newer one takes its
        // place. What it carried has heads of its own, by which it would be missed.
        let superseded = head.checkpoint
            && writer == self.repo.config().owner
            && self.newest.is_some_and(|newest| newest > head.receipt);
        !chain_is_there && (ended || superseded)
    }

    /// Whether the record is in the log, though perhaps nothing of it is believed.
    fn is_there(&self, id: &RecordId) -> bool {
        self.standing.contains_key(id)
    }

    fn name(&self, id: &RecordId) -> Option<String> {
        self.standing.get(id).map(|standing| names::record(standing.hour, *id))
    }

    /// When a record was received: as the store has it, or else as a checkpoint says.
    fn receipt(&self, one: &Seen) -> UnixTime {
        let standing = self.standing.get(&one.link.record).map(|standing| standing.receipt);
        standing.or(one.carried).unwrap_or(UnixTime::EPOCH)
    }

    fn about(&self, one: &Seen) -> About {
        About {
            object: self.name(&one.link.record),
            record: Some(one.link.record),
            writer: Some(one.link.writer),
            chain: Some(one.link.chain),
            number: Some(one.link.number),
            claimed: one.claimed,
            received: Some(self.receipt(one)),
        }
    }
}

fn key_of(one: &Seen) -> Key {
    (one.link.writer, one.link.chain)
}

/// The finding that records are missing before the one with the number `upto`, of which
/// `last` is the last.
fn missing(
    chain: &[Seen],
    from: u64,
    upto: u64,
    last: Option<RecordId>,
    before: Option<&Head>,
) -> Finding {
    let head = before.filter(|head| Some(head.record) == last);
    let about = About {
        object: head.and_then(Head::name),
        record: last,
        writer: chain.first().map(|one| one.link.writer),
        chain: chain.first().map(|one| one.link.chain),
        number: Some(from),
        claimed: None,
        received: head.map(|head| head.receipt),
    };
    let what = match upto - from {
        1 => format!("record {from} of the chain is not in the log, or cannot be read"),
        _ => format!(
            "records {from} to {} of the chain are not in the log, or cannot be read",
            upto - 1
        ),
    };
    Finding::problem(FindingKind::Missing, about, what)
}
