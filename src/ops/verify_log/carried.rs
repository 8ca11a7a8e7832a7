//! What checkpoints stand for, in place of the records that left the log.
//!
//! A checkpoint is the owner's word, and it is taken: of what it carries, receipts and
//! numbers are as it says. It counts if it was received in time, and its nodes can be
//! read. What a writer was not allowed to say is carried on as it was; the owner has seen
//! it then, and it is told as a notice.

use super::facts::look_at;
use super::finding::{About, Finding, Findings};
use super::read::{State, expired};
use super::writers::Writers;
use super::{FindingKind, Lineage, Point, Seen, Verify};
use crate::base::{RecordId, WriterId, error_chain};
use crate::format::checkpoint::Merged;
use crate::format::names;
use crate::index::ChainLink;
use crate::ops::Result;
use crate::repo::checkpoint::each_carried;
use crate::repo::log::signer_of;
use crate::repo::{self, Repository};

/// What was read of one checkpoint.
#[derive(Default)]
struct Carried {
    seen: Vec<Seen>,
    findings: Findings,
    writers: Writers,
    revoked: Vec<(WriterId, i64)>,
    lineage: Lineage,
}

impl Verify<'_> {
    /// Reads what the checkpoints carry that were not looked at before, from the newest
    /// on, and none that another covers.
    pub(super) fn checkpoints(&mut self) -> Result<()> {
        self.progress.enter("reading checkpoints");
        let mut points = std::mem::take(&mut self.points);
        points.sort_by_key(|point| std::cmp::Reverse((point.receipt, point.id)));
        for point in &mut points {
            // One that came too late stands for nothing: its records must be there.
            if point.done || point.late || self.covered.contains(&point.id) {
                continue;
            }
            self.checkpoint(point)?;
            point.done = true;
        }
        self.points = points;
        Ok(())
    }

    fn checkpoint(&mut self, point: &mut Point) -> Result<()> {
        let name = names::record(point.hour, point.id);
        let read = |verify: &Verify<'_>| -> (Carried, repo::Result<()>) {
            let mut carried = Carried::default();
            let read = each_carried(verify.repo, point.id, &name, verify.stop, |merged| {
                carried.take(verify, &merged);
            });
            (carried, read)
        };
        let (mut carried, mut outcome) = read(self);
        if outcome.as_ref().is_err_and(repo::Error::is_damage) && !self.synced {
            // A collector may have copied its nodes: then the log says where they are now.
            // What is found there is compared with its id, so the index need not be believed.
            self.repo.sync(true)?;
            self.synced = true;
            (carried, outcome) = read(self);
        }
        match outcome {
            Ok(()) => {
                self.covered.extend(point.covers.records.drain(..));
                self.complete_after = self.complete_after.max(Some(point.covers.complete_after));
                self.newest = self.newest.max(Some(point.receipt));
            }
            Err(error) if error.is_damage() => {
                let about = About::object(name, Some(point.id), point.receipt);
                let what = format!("what it stands for cannot be read: {}", error_chain(&error));
                self.findings.add(Finding::problem(FindingKind::UnreadCheckpoint, about, what));
            }
            Err(error) => return Err(error.into()),
        }
        self.seen.append(&mut carried.seen);
        self.writers.absorb(carried.writers);
        self.findings.absorb(carried.findings);
        self.revoke(carried.revoked);
        self.lineage.absorb(carried.lineage);
        Ok(())
    }

    /// Whether the record is in the log and was read there.
    pub(super) fn is_read(&self, id: &RecordId) -> bool {
        self.standing.get(id).is_some_and(|one| one.state == State::Read)
    }
}

impl Carried {
    /// Takes a record, or a part of one, as a checkpoint carries it.
    fn take(&mut self, verify: &Verify<'_>, merged: &Merged) {
        let link = ChainLink {
            writer: merged.writer,
            chain: merged.chain,
            number: merged.number,
            record: merged.record,
            previous: merged.previous,
        };
        let about = About {
            record: Some(link.record),
            writer: Some(link.writer),
            chain: Some(link.chain),
            number: Some(link.number),
            received: Some(merged.receipt),
            ..About::default()
        };
        let known = verify.is_read(&link.record);
        let mut tell = |kind, what: String| {
            // The log has it still, and so it was told of it.
            if !known {
                let what = format!("carried on by a checkpoint: {what}");
                self.findings.add(Finding::notice(kind, about.clone(), what));
            }
        };
        let repo: &Repository = verify.repo;
        let signer = match signer_of(repo, merged.writer, merged.certificate.as_deref()) {
            Ok(signer) => signer,
            Err(error) => return tell(FindingKind::Uncertified, error_chain(&error)),
        };
        if let Some(what) = expired(&signer, merged.receipt) {
            tell(FindingKind::Expired, what);
        } else {
            let facts = merged.facts.iter().map(|(place, bytes)| (*place, bytes.as_slice()));
            let mut said = look_at(facts, &signer, repo.config().owner);
            self.lineage.add(link.record, &mut said);
            said.faults.into_iter().for_each(|(kind, what)| tell(kind, what));
            self.writers.meet(link.writer, &signer, merged.receipt, &said.sources);
            self.revoked.extend(said.revoked);
        }
        self.seen.push(Seen {
            link,
            carried: Some(merged.receipt),
            claimed: None,
            checkpoint: false,
        });
    }
}
