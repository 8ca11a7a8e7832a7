//! What the facts of a record say, and whether their signer may say it.

use std::collections::{BTreeMap, BTreeSet};

use super::FindingKind;
use crate::base::{RecordId, SnapshotId, UnixTime, WriterId};
use crate::format::fact::{Fact, Signer, may_publish};

/// What the facts of one record come to.
#[derive(Default)]
pub(super) struct Said {
    /// How many facts of each kind its signer may publish.
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// The sources of its snapshots and segments.
    pub(super) sources: BTreeSet<String>,
    /// The earliest and the latest time at which a snapshot of it was taken.
    pub(super) taken: Option<(UnixTime, UnixTime)>,
    /// The latest time at which a state was seen that a segment of it leads to. How long before
    /// its receipt the first was says nothing: changes wait for as long as a machine is offline.
    pub(super) seen: Option<UnixTime>,
    /// Its snapshots, each with the one that it was compared with.
    pub(super) snapshots: Vec<(SnapshotId, Option<SnapshotId>)>,
    /// Snapshots that it forgets.
    pub(super) forgotten: Vec<SnapshotId>,
    /// Writers that it revokes, and from which receipt on.
    pub(super) revoked: Vec<(WriterId, i64)>,
    /// What it stands for, if it is a checkpoint.
    pub(super) covers: Option<Covers>,
    /// What is wrong with its facts.
    pub(super) faults: Vec<(FindingKind, String)>,
}

/// What a checkpoint stands for.
#[derive(Default)]
pub(super) struct Covers {
    pub(super) records: Vec<RecordId>,
    /// Chains that ended by then may be left out of it. Seconds since 1970.
    pub(super) complete_after: i64,
}

/// Goes through facts, each with its place in the record.
pub(super) fn look_at<'a>(
    facts: impl Iterator<Item = (u64, &'a [u8])>,
    signer: &Signer,
    owner: WriterId,
) -> Said {
    let mut said = Said::default();
    for (place, bytes) in facts {
        let fact = match Fact::decode(bytes) {
            Ok((_, fact)) => fact,
            Err(error) => {
                said.faults.push((FindingKind::BadFact, format!("fact {place}: {error}")));
                continue;
            }
        };
        if !may_publish(signer, &fact) {
            said.faults.push(refused(place, &fact, signer));
            continue;
        }
        *said.counts.entry(fact.name()).or_default() += 1;
        match fact {
            Fact::Snapshot(snapshot) => {
                let at = snapshot.taken;
                let (first, last) = said.taken.unwrap_or((at, at));
                said.taken = Some((first.min(at), last.max(at)));
                said.snapshots.push((snapshot.id, snapshot.parent));
                said.sources.insert(snapshot.source);
            }
            Fact::Segment(segment) => {
                said.seen = said.seen.max(Some(segment.last().1));
                said.sources.insert(segment.source);
            }
            Fact::Forget(forget) => said.forgotten.extend(forget.snapshots),
            Fact::Revoke(revoke) if revoke.writer == owner => said.faults.push((
                FindingKind::BadFact,
                format!("fact {place} revokes the owner, whom nobody can"),
            )),
            Fact::Revoke(revoke) => said.revoked.push((revoke.writer, revoke.from.seconds)),
            Fact::Checkpoint(checkpoint) => {
                let covers = said.covers.get_or_insert_default();
                covers.records.extend(checkpoint.records);
                let until = checkpoint.complete_after.seconds;
                covers.complete_after = covers.complete_after.max(until);
            }
            _ => {}
        }
    }
    said
}

/// What is wrong with a fact that its signer may not publish.
fn refused(place: u64, fact: &Fact, signer: &Signer) -> (FindingKind, String) {
    match (fact, signer) {
        (Fact::Snapshot(_) | Fact::Segment(_), Signer::Writer(certificate)) => {
            let source = match fact {
                Fact::Snapshot(snapshot) => &snapshot.source,
                Fact::Segment(segment) => &segment.source,
                _ => "",
            };
            let allowed = certificate.sources.as_deref().unwrap_or_default().join(", ");
            let what = format!(
                "fact {place} is a {} of {}, and its writer's certificate is for {}",
                fact.name(),
                source,
                if allowed.is_empty() { "no source" } else { &allowed },
            );
            (FindingKind::WrongSource, what)
        }
        _ => {
            let what = format!("fact {place} is of the kind {}, only for the owner", fact.name());
            (FindingKind::WrongRole, what)
        }
    }
}
