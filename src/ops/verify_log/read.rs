//! Listing the log and reading every record of it.

use std::collections::hash_map::Entry;

use bytes::Bytes;

use super::facts::{Said, look_at};
use super::finding::{About, Finding};
use super::times::Claims;
use super::{FindingKind, LogRow, Point, Seen, Verify};
use crate::base::{Kind, RecordId, UnixTime, WriterId, error_chain};
use crate::codec::hash::sha256;
use crate::format::FormatError;
use crate::format::fact::Signer;
use crate::format::names::{self, Hour};
use crate::format::record::{Header, RECORD_BYTES_MAX, Record};
use crate::index::ChainLink;
use crate::ops::Result;
use crate::ops::sweep::{BATCH, Job, each_page, sweep};
use crate::repo::log::{Opener, is_late};
use crate::repo::{self, Repository};
use crate::store::{self, Listed};

/// What has become of a record that was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing yet.
    Unread,
    /// It was read, and is of somebody who may publish.
    Read,
    /// Nothing of it is believed, which was reported.
    Bad,
    /// It was not there any more when it was asked for.
    Gone,
}

/// Where a record stands in the log. If it stands there twice, where it did first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) hour: Hour,
    pub(super) receipt: UnixTime,
    pub(super) size: u64,
    pub(super) state: State,
}

/// A record that was fetched.
enum Fetched {
    Read(Box<Told>),
    Bad(FindingKind, String, Option<Header>),
    Gone,
}

/// What a record of somebody who may publish says.
struct Told {
    header: Header,
    claimed: UnixTime,
    deadline: Option<UnixTime>,
    signer: Signer,
    said: Said,
}

impl Verify<'_> {
    /// Lists the log and reads what was not read before. Returns whether there was any.
    pub(super) fn gather(&mut self) -> Result<bool> {
        let repo = self.repo;
        self.progress.enter("listing the log");
        each_page(repo.store().as_ref(), names::LOG, |page| {
            page.at.inspect(|at| repo.note_store_time(*at));
            for object in page.objects {
                self.list(object);
            }
            self.go_on()
        })?;
        let unread = self.standing.iter().filter(|(_, one)| one.state == State::Unread);
        let mut wanted: Vec<(Hour, RecordId)> = unread.map(|(id, one)| (one.hour, *id)).collect();
        wanted.sort_unstable();
        self.progress.enter("reading the log");
        let opener = Opener::new(repo);
        for batch in wanted.chunks(BATCH) {
            let job = |&(hour, id): &(Hour, RecordId)| {
                let size = self.standing.get(&id).map_or(0, |one| one.size);
                Job { name: names::record(hour, id), size, most: RECORD_BYTES_MAX }
            };
            let jobs: Vec<Job> = batch.iter().map(job).collect();
            let mut fetched = sweep(repo.store().as_ref(), &jobs, self.stop, |at, job, bytes| {
                take_apart(repo, &opener, batch[at].1, &job.name, bytes)
            })?;
            self.go_on()?;
            fetched.sort_by_key(|(at, _)| *at);
            for (at, fetched) in fetched {
                self.note(batch[at].1, fetched?);
            }
        }
        Ok(!wanted.is_empty())
    }

    /// Notes a name. One record under two hours is one record, and the later is the copy.
    fn list(&mut self, object: Listed) {
        let Some((hour, id)) = names::parse_record(&object.key) else {
            // What is in a bundle stands in the log as well, and is read there.
            let stray = names::parse_bundle(&object.key).is_none();
            if stray && self.strays.insert(object.key.clone()) {
                let about = About::object(object.key, None, object.receipt);
                let what = "it has no name that a record can have";
                self.findings.add(Finding::problem(FindingKind::StrayName, about, what));
            }
            return;
        };
        let (receipt, size) = (object.receipt, object.size);
        let fresh = Standing { hour, receipt, size, state: State::Unread };
        let copy = match self.standing.entry(id) {
            Entry::Vacant(entry) => {
                entry.insert(fresh);
                return;
            }
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                if known.state == State::Gone {
                    known.state = State::Unread;
                }
                if known.hour == hour || self.copies.contains(&(hour, id)) {
                    return;
                }
                // Once it was read its name stays the one that it was read under.
                if receipt < known.receipt && known.state == State::Unread {
                    std::mem::replace(known, fresh)
                } else {
                    fresh
                }
            }
        };
        self.copies.insert((copy.hour, id));
        let first = self.standing.get(&id).map_or_else(String::new, |one| one.hour.to_string());
        let name = names::record(copy.hour, id);
        let about = About::object(name, Some(id), copy.receipt);
        let what = format!("it is the record that stands under the hour {first}, once more");
        self.findings.add(Finding::problem(FindingKind::Replayed, about, what));
    }

    /// Notes what a record came to.
    fn note(&mut self, id: RecordId, fetched: Fetched) {
        let Some(standing) = self.standing.get_mut(&id) else { return };
        standing.state = match &fetched {
            Fetched::Read(_) => State::Read,
            Fetched::Bad(..) => State::Bad,
            Fetched::Gone => State::Gone,
        };
        let Standing { hour, receipt, .. } = *standing;
        let about = About::object(names::record(hour, id), Some(id), receipt);
        match fetched {
            Fetched::Read(told) => self.note_read(id, hour, receipt, about, *told),
            Fetched::Bad(kind, why, header) => {
                let about = match &header {
                    Some(header) => about.with(header),
                    None => about,
                };
                if let Some(log) = &mut self.log {
                    log.push(LogRow::of(&about));
                }
                self.findings.add(Finding::problem(kind, about, why));
            }
            Fetched::Gone => {}
        }
    }

    fn note_read(&mut self, id: RecordId, hour: Hour, receipt: UnixTime, about: About, told: Told) {
        let Told { header, claimed, deadline, signer, mut said } = told;
        self.lineage.add(id, &mut said);
        let about = About { claimed: Some(claimed), ..about.with(&header) };
        let claims = Claims { hour, at: claimed, taken: said.taken, seen: said.seen };
        for (kind, what) in self.room.faults(receipt, claims) {
            self.findings.add(Finding::problem(kind, about.clone(), what));
        }
        let late = is_late(receipt, deadline);
        if let Some(deadline) = deadline.filter(|_| late) {
            let what = format!("it was received after its deadline, {deadline}: it is no evidence");
            self.findings.add(Finding::notice(FindingKind::Late, about.clone(), what));
        }
        let expired = expired(&signer, receipt);
        if let Some(what) = &expired {
            self.findings.add(Finding::problem(FindingKind::Expired, about.clone(), what));
        }
        for (kind, what) in said.faults {
            self.findings.add(Finding::problem(kind, about.clone(), what));
        }
        let link = ChainLink {
            writer: header.writer,
            chain: header.chain,
            number: header.number,
            record: id,
            previous: header.previous,
        };
        let checkpoint = said.covers.is_some();
        self.seen.push(Seen { link, carried: None, claimed: Some(claimed), checkpoint });
        let mut row = LogRow { late: deadline.is_some() && late, ..LogRow::of(&about) };
        // Of what came too late nothing is believed.
        if expired.is_none() {
            self.writers.meet(header.writer, &signer, receipt, &said.sources);
            self.revoke(said.revoked);
            if let Some(covers) = said.covers {
                self.points.push(Point { id, hour, receipt, late, covers, done: false });
            }
            (row.facts, row.sources) = (said.counts, said.sources);
        }
        if let Some(log) = &mut self.log {
            log.push(row);
        }
    }
}

/// What there is to say of a record that its writer's certificate does not reach.
pub(super) fn expired(signer: &Signer, receipt: UnixTime) -> Option<String> {
    match signer {
        Signer::Writer(certificate) => {
            let end = certificate.expires.filter(|end| receipt > *end)?;
            Some(format!("it was received after its writer's certificate expired, {end}"))
        }
        Signer::Owner => None,
    }
}

/// Verifies a record and goes through its facts.
fn take_apart(
    repo: &Repository,
    opener: &Opener<'_>,
    id: RecordId,
    name: &str,
    bytes: store::Result<Bytes>,
) -> repo::Result<Fetched> {
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) if error.kind == Kind::NotFound => return Ok(Fetched::Gone),
        Err(error) if error.kind == Kind::Damaged => {
            return Ok(Fetched::Bad(FindingKind::Altered, error_chain(&error), None));
        }
        Err(error) => return Err(error.into()),
    };
    if sha256(&bytes) != id.0 {
        let why = "its bytes are not what its name says".to_owned();
        return Ok(Fetched::Bad(FindingKind::Altered, why, None));
    }
    let owner: WriterId = repo.config().owner;
    match opener.open(id, name, &bytes) {
        Ok((header, body, signer)) => {
            let facts = (0..).zip(body.facts.iter().map(|fact| fact.as_slice()));
            let said = look_at(facts, &signer, owner);
            let (claimed, deadline) = (body.claimed, body.deadline);
            Ok(Fetched::Read(Box::new(Told { header, claimed, deadline, signer, said })))
        }
        Err(error) => {
            let Some((kind, why)) = kind_of(&error) else { return Err(error) };
            // Who it says it is by, if that much of it holds.
            let record = Record::decode(id, &bytes, repo.config().repository);
            Ok(Fetched::Bad(kind, why, record.ok().map(|record| record.header)))
        }
    }
}

/// What is wrong with a record that does not open; none if that is not the record's fault.
fn kind_of(error: &repo::Error) -> Option<(FindingKind, String)> {
    let (kind, why) = match error {
        repo::Error::Object { source, .. } => {
            let kind = match source {
                FormatError::Malformed { .. } => FindingKind::Malformed,
                FormatError::Forged { .. } => FindingKind::Forged,
                FormatError::Uncertified { .. } => FindingKind::Uncertified,
                FormatError::Future { .. } => FindingKind::UnknownVersion,
            };
            (kind, error_chain(source))
        }
        repo::Error::Sealed { source, .. } => {
            let kind = match error.kind() {
                Kind::Future => FindingKind::UnknownVersion,
                _ => FindingKind::Unreadable,
            };
            (kind, error_chain(source))
        }
        _ => return None,
    };
    Some((kind, why))
}
