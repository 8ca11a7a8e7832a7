//! Who published, and for which sources.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::base::{UnixTime, WriterId};
use crate::format::fact::Signer;

/// Somebody who published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WriterRow {
    /// Its key.
    pub writer: WriterId,
    /// Whether it is the owner.
    pub owner: bool,
    /// The name in its certificate; none for the owner.
    pub label: Option<String>,
    /// The sources that its certificate names; none if it may publish all.
    pub allowed: Option<Vec<String>>,
    /// The sources of which it published snapshots or segments, in so far as they are in the log or in
    /// a checkpoint.
    pub sources: BTreeSet<String>,
    /// How many records of it there are.
    pub records: u64,
    /// When the first of them was received.
    pub first: UnixTime,
    /// When the last was.
    pub last: UnixTime,
    /// From which receipt on it is revoked, if it is.
    pub revoked_from: Option<UnixTime>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Writers(pub(super) BTreeMap<WriterId, WriterRow>);

impl Writers {
    /// Notes a record. If a writer has had several certificates, the last one met counts.
    pub(super) fn meet(
        &mut self,
        writer: WriterId,
        signer: &Signer,
        receipt: UnixTime,
        sources: &BTreeSet<String>,
    ) {
        let (label, allowed) = match signer {
            Signer::Owner => (None, None),
            Signer::Writer(certificate) => {
                (Some(certificate.label.clone()), certificate.sources.clone())
            }
        };
        let row = WriterRow {
            writer,
            owner: *signer == Signer::Owner,
            label,
            allowed,
            sources: sources.clone(),
            records: 0,
            first: receipt,
            last: receipt,
            revoked_from: None,
        };
        self.take(row);
    }

    /// Adds those of another part of the work.
    pub(super) fn absorb(&mut self, other: Writers) {
        other.0.into_values().for_each(|row| self.take(row));
    }

    fn take(&mut self, row: WriterRow) {
        use std::collections::btree_map::Entry;
        match self.0.entry(row.writer) {
            Entry::Vacant(entry) => {
                entry.insert(row);
            }
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                known.first = known.first.min(row.first);
                known.last = known.last.max(row.last);
                (known.label, known.allowed) = (row.label, row.allowed);
                known.sources.extend(row.sources);
            }
        }
    }
}
