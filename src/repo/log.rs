//! The log: publishing facts, and learning what others published.
//!
//! A process that publishes starts a chain: its records are numbered, and each
//! carries the hash of the one before. Learning is LIST from the last known hour,
//! GET of what is unknown, and a fold of it all in a few transactions; a full LIST
//! now and then finds records of writers whose clocks are wrong.
//!
//! Whoever can put objects into the store can have them fetched. So it is looked at
//! who speaks before more than the beginning of a body is unpacked, and of records
//! that are large, packed or unpacked, one is taken apart at a time.
//!
//! What cannot be read, is forged, or says what its signer may not say is left
//! out, remembered and reported; everything else stands.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::base::{ChainId, Kind, RecordId, UnixTime, WriterId};
use crate::codec::compress::{Codec, Compressor, unpack, unpack_prefix};
use crate::codec::envelope::Envelope;
use crate::codec::hash::sha256;
use crate::codec::random;
use crate::codec::seal::{Part, SealKey};
use crate::format::certificate::Certificate;
use crate::format::fact::{Fact, Signer, may_publish};
use crate::format::names::{self, Hour};
use crate::format::pack::PackFact;
use crate::format::record::{Body, CERTIFICATE_WITHIN, Header, RECORD_BYTES_MAX, Record};
use crate::format::{FormatError, VERSION};
use crate::index::{FoldedPack, FoldedRecord};
pub use crate::repo::chains::{ChainGap, chain_gaps};
use crate::repo::{Error, Repository, Result};
use crate::store::Listed;

/// A fact that is ready to be published.
#[derive(Debug, Clone)]
pub struct EncodedFact {
    /// Its item.
    pub bytes: Vec<u8>,
}

impl EncodedFact {
    /// Encodes a fact that refers to no chunks.
    #[must_use]
    pub fn of(fact: &Fact) -> EncodedFact {
        EncodedFact { bytes: fact.encode(&[]) }
    }
}

/// A record that the store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its name.
    pub id: RecordId,
    /// When the store received it.
    pub receipt: UnixTime,
}

/// The chain of one publishing process.
pub struct Chain {
    id: ChainId,
    number: u64,
    previous: Option<RecordId>,
}

impl Default for Chain {
    fn default() -> Chain {
        Chain { id: ChainId(random::bytes()), number: 0, previous: None }
    }
}

/// What a sync found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Records that were new here.
    pub records: u64,
    /// Objects of which nothing, or not all, is believed, and why.
    pub problems: Vec<(String, String)>,
    /// A record that was listed before and is gone. What this machine knows may no
    /// longer be in the store.
    pub lost: Option<String>,
}

/// How far a listing goes back behind the last known hour: writers' clocks may be
/// behind, and records take time to be sent.
const SLACK: Duration = Duration::from_secs(6 * 3600);
/// How often a listing begins at the beginning.
const FULL_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Records fetched at once, and folded in one transaction.
const BATCH: usize = 32;
/// A record of more bytes is fetched while no other such is.
const LARGE_RECORD: u64 = 1 << 20;
/// A body that unpacks to more is unpacked while no other such is. Bytes.
const LARGE_BODY: u64 = 16 << 20;

const INFO: &[u8] = b"asof record";

impl Chain {
    /// Publishes facts as the next record.
    ///
    /// When it returns, the record is in the store and folded into the index.
    ///
    /// # Errors
    ///
    /// [`Error`] if it could not be stored; the chain is then as it was.
    pub fn publish(&mut self, repo: &Repository, facts: Vec<EncodedFact>) -> Result<Published> {
        let keys = repo.keys();
        let key = keys.signing()?;
        let now = repo.clock().now();
        let body = Body {
            claimed: now,
            certificate: keys.certificate.clone().map(Into::into),
            facts: facts.into_iter().map(|fact| fact.bytes.into()).collect(),
        };
        let plain = body.encode();
        let header = Header {
            repository: repo.config().repository,
            writer: key.id(),
            chain: self.id,
            number: self.number,
            previous: self.previous,
            body_len: plain.len() as u64,
        };
        let header_bytes = header.encode();
        let (codec, mut sealed) = Compressor::new(3).pack(&plain);
        sealed.insert(0, codec as u8);
        let mut envelope = Vec::new();
        if let Some(recipient) = &keys.recipient {
            let seal = SealKey::random();
            let made = Envelope::seal(&seal, recipient, &info(repo), &sha256(&header_bytes));
            envelope = crate::format::encode(&made.map_err(Error::sealed("asof.json"))?);
            seal.sealer().seal(Part::Numbered(0), &header_bytes, &mut sealed);
        }
        let record = Record { header, header_bytes, envelope, body: sealed };
        let bytes = record.issue(key);
        let id = RecordId(sha256(&bytes));
        let name = names::record(Hour::of(now), id);
        if bytes.len() as u64 > RECORD_BYTES_MAX {
            let why = FormatError::malformed("record", "it is longer than a record may be");
            return Err(Error::object(&name)(why));
        }
        // What leaves the process is read back first.
        Record::decode(id, &bytes, repo.config().repository).map_err(Error::object(&name))?;
        let put = repo.store().put_new(&name, Bytes::from(bytes))?;
        let signer = keys.signer.clone();
        let folded = fold(repo, id, &record.header, &body, &signer, put.receipt);
        repo.index().fold(&[folded.record])?;
        self.number += 1;
        self.previous = Some(id);
        Ok(Published { id, receipt: put.receipt })
    }

    /// The chain's id.
    #[must_use]
    pub fn id(&self) -> ChainId {
        self.id
    }
}

fn info(repo: &Repository) -> Vec<u8> {
    [INFO, &[VERSION], repo.config().repository.as_bytes()].concat()
}

/// Learns what the store has. `full` lists everything, otherwise only what can be new.
///
/// # Errors
///
/// [`Error`] if the store cannot be listed or a record cannot be fetched.
pub fn sync(repo: &Repository, full: bool) -> Result<SyncReport> {
    let index = repo.index();
    let now = repo.clock().now();
    let last_hour = stored_time(repo, "synced")?;
    let last_full = stored_time(repo, "synced-fully")?;
    let full = full
        || last_hour.is_none()
        || last_full.is_none_or(|at| now.since(at) > FULL_EVERY || at > now);
    let start = match last_hour {
        Some(at) if !full => names::record_start(Hour::of(at.min(now).minus(SLACK))),
        _ => names::LOG.to_owned(),
    };
    // The last record that was ever listed must be listed again: a log that lost it
    // is damaged, rolled back, or another's.
    let newest = index.meta("newest-record")?.and_then(|name| String::from_utf8(name).ok());
    let newest = newest.filter(|name| names::parse_record(name).is_some());
    let before_newest =
        newest.as_deref().and_then(names::parse_record).map(|(hour, _)| names::record_start(hour));
    let start = before_newest.map_or(start.clone(), |before| start.min(before));
    let mut missing = newest.clone();
    let mut latest = newest;
    let mut report = SyncReport::default();
    let mut after = start;
    loop {
        let page = repo.store().list(names::LOG, Some(&after))?;
        missing = missing.filter(|name| page.objects.iter().all(|object| object.key != *name));
        if let Some(last) = page.objects.last()
            && latest.as_ref().is_none_or(|name| *name < last.key)
            && names::parse_record(&last.key).is_some()
        {
            latest = Some(last.key.clone());
        }
        let mut known = Vec::new();
        for object in &page.objects {
            match names::parse_record(&object.key) {
                Some((_, id)) => known.push((id, object.clone())),
                None => report
                    .problems
                    .push((object.key.clone(), "it has no name that a record can have".into())),
            }
        }
        let ids: Vec<RecordId> = known.iter().map(|(id, _)| *id).collect();
        let unknown: std::collections::HashSet<RecordId> =
            index.unknown_records(&ids)?.into_iter().collect();
        known.retain(|(id, _)| unknown.contains(id));
        for batch in known.chunks(BATCH) {
            fetch_batch(repo, batch, &mut report)?;
        }
        match page.objects.last() {
            Some(last) if page.more => after.clone_from(&last.key),
            _ => break,
        }
    }
    if let Some(lost) = missing {
        report.problems.push((
            lost.clone(),
            "it was there and is gone: the store was damaged, rolled back or replaced".into(),
        ));
        report.lost = Some(lost);
    } else if let Some(latest) = latest {
        index.set_meta("newest-record", latest.as_bytes())?;
    }
    // What was listed stood there when the listing began, give or take the skew.
    let skew = Duration::from_secs(repo.config().parameters.skew_seconds);
    index.witness_packs(now.minus(skew).seconds)?;
    store_time(repo, "synced", now)?;
    if full {
        store_time(repo, "synced-fully", now)?;
    }
    Ok(report)
}

/// When the index was last brought up to date, if ever.
///
/// # Errors
///
/// [`Error::Index`] if it cannot be read.
pub fn synced_at(repo: &Repository) -> Result<Option<UnixTime>> {
    stored_time(repo, "synced")
}

fn stored_time(repo: &Repository, key: &str) -> Result<Option<UnixTime>> {
    let value = repo.index().meta(key)?;
    let seconds = value.and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
    Ok(seconds.map(|seconds| UnixTime::new(seconds, 0)))
}

fn store_time(repo: &Repository, key: &str, at: UnixTime) -> Result<()> {
    Ok(repo.index().set_meta(key, &at.seconds.to_be_bytes())?)
}

/// Fetches records side by side and folds them together.
fn fetch_batch(
    repo: &Repository,
    batch: &[(RecordId, Listed)],
    report: &mut SyncReport,
) -> Result<()> {
    const FETCHERS: usize = 8;
    let next = std::sync::atomic::AtomicUsize::new(0);
    let large = Mutex::new(());
    let outcomes: Vec<(usize, Result<Folding>)> = std::thread::scope(|scope| {
        let worker = || {
            let mut mine = Vec::new();
            loop {
                let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some((id, object)) = batch.get(at) else {
                    break;
                };
                mine.push((at, fetch_one(repo, *id, object, &large)));
            }
            mine
        };
        let handles: Vec<_> = (0..FETCHERS.min(batch.len())).map(|_| scope.spawn(worker)).collect();
        let mut all = Vec::new();
        for handle in handles {
            match handle.join() {
                Ok(mine) => all.extend(mine),
                Err(_) => all.push((0, Err(Error::Worker("a record's reader".into())))),
            }
        }
        all
    });
    let mut folded = Vec::new();
    for (at, outcome) in outcomes {
        let folding = outcome?;
        report.records += 1;
        let name = batch.get(at).map(|(_, object)| object.key.clone()).unwrap_or_default();
        report.problems.extend(folding.problems.into_iter().map(|why| (name.clone(), why)));
        folded.push(folding.record);
        folded.extend(folding.merged);
    }
    Ok(repo.index().fold(&folded)?)
}

/// A record taken apart, and what was wrong with it.
#[derive(Default)]
struct Folding {
    record: FoldedRecord,
    /// Facts that it carries for other records.
    merged: Vec<FoldedRecord>,
    problems: Vec<String>,
}

fn fetch_one(
    repo: &Repository,
    id: RecordId,
    object: &Listed,
    large: &Mutex<()>,
) -> Result<Folding> {
    let (name, receipt) = (&object.key, object.receipt);
    let mut turn = Turn { large, mine: None };
    if object.size > LARGE_RECORD {
        turn.wait();
    }
    let read = repo.store().get(name, RECORD_BYTES_MAX).map_err(Error::Store);
    let opened = read.and_then(|bytes| open(repo, id, name, &bytes, &mut turn));
    match opened {
        Ok((header, body, signer)) => {
            let mut folding = fold(repo, id, &header, &body, &signer, receipt);
            merge(repo, &body, &signer, &mut folding)?;
            Ok(folding)
        }
        Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Future | Kind::NotFound) => {
            let why = describe(&error);
            let record = FoldedRecord {
                id: Some(id),
                receipt: receipt.seconds,
                problem: Some(why.clone()),
                ..FoldedRecord::default()
            };
            Ok(Folding { record, merged: Vec::new(), problems: vec![why] })
        }
        Err(error) => Err(error),
    }
}

/// The right to hold a large record in memory, which one at a time has.
struct Turn<'a> {
    large: &'a Mutex<()>,
    mine: Option<MutexGuard<'a, ()>>,
}

impl Turn<'_> {
    fn wait(&mut self) {
        if self.mine.is_none() {
            self.mine = Some(self.large.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The facts of one record as they were published, for whoever looks at the log
/// itself. Costs a GET.
///
/// # Errors
///
/// [`Error`] if it cannot be fetched, is damaged, or is not signed by who may sign.
pub fn read_facts(repo: &Repository, id: RecordId, name: &str) -> Result<Vec<Vec<u8>>> {
    let large = Mutex::new(());
    let mut turn = Turn { large: &large, mine: None };
    turn.wait();
    let bytes = repo.store().get(name, RECORD_BYTES_MAX)?;
    let (_, body, _) = open(repo, id, name, &bytes, &mut turn)?;
    Ok(body.facts.into_iter().map(Into::into).collect())
}

/// Verifies and opens a record: name, signature, certificate, seal.
fn open(
    repo: &Repository,
    id: RecordId,
    name: &str,
    bytes: &[u8],
    turn: &mut Turn<'_>,
) -> Result<(Header, Body, Signer)> {
    let config = repo.config();
    let record = Record::decode(id, bytes, config.repository).map_err(Error::object(name))?;
    let mut sealed = record.body;
    if config.encryption.is_some() {
        let reader = repo.keys().reader.as_ref().ok_or(Error::NotAllowed {
            action: "reading the log",
            needs: "a passphrase; a writer file only writes",
        })?;
        let envelope: Envelope = crate::format::decode_whole("envelope", &record.envelope)
            .map_err(Error::object(name))?;
        let key = envelope
            .open(reader, &info(repo), &sha256(&record.header_bytes))
            .map_err(Error::sealed(name))?;
        let opened = key
            .sealer()
            .open(Part::Numbered(0), &record.header_bytes, &mut sealed)
            .map_err(Error::sealed(name))?
            .len();
        sealed.truncate(opened);
    }
    let malformed = |why: &str| Error::object(name)(FormatError::malformed("record", why));
    let (&codec, packed) = sealed.split_first().ok_or_else(|| malformed("its body is empty"))?;
    let codec = match codec {
        0 => Codec::Raw,
        1 => Codec::Zstd,
        _ => return Err(malformed("its body is packed in an unknown way")),
    };
    let writer = record.header.writer;
    if writer != config.owner {
        let prefix = unpack_prefix(codec, packed, CERTIFICATE_WITHIN);
        let certificate = Body::certificate_of(&prefix.map_err(Error::sealed(name))?);
        signer_of(repo, writer, certificate.as_ref()).map_err(Error::object(name))?;
    }
    if record.header.body_len > LARGE_BODY {
        turn.wait();
    }
    let length = usize::try_from(record.header.body_len).unwrap_or(usize::MAX);
    let plain = unpack(codec, packed, length).map_err(Error::sealed(name))?;
    let body = Body::decode(&plain).map_err(Error::object(name))?;
    let signer =
        signer_of(repo, writer, body.certificate.as_deref()).map_err(Error::object(name))?;
    Ok((record.header, body, signer))
}

/// Who a writer is, by its certificate.
fn signer_of(
    repo: &Repository,
    writer: WriterId,
    certificate: Option<&Vec<u8>>,
) -> std::result::Result<Signer, FormatError> {
    let config = repo.config();
    if writer == config.owner {
        return Ok(Signer::Owner);
    }
    let bytes = certificate
        .ok_or_else(|| FormatError::malformed("record", "its writer shows no certificate"))?;
    let certificate = Certificate::verify(bytes, config.owner, config.repository, writer)?;
    Ok(Signer::Writer(certificate))
}

/// Takes a record apart into rows. Facts that its signer may not publish, or that
/// do not decode, are left out and reported.
fn fold(
    repo: &Repository,
    id: RecordId,
    header: &Header,
    body: &Body,
    signer: &Signer,
    receipt: UnixTime,
) -> Folding {
    let mut folding = Folding {
        record: FoldedRecord {
            id: Some(id),
            receipt: receipt.seconds,
            writer: Some(header.writer),
            chain: Some(header.chain),
            number: header.number,
            previous: header.previous,
            ..FoldedRecord::default()
        },
        ..Folding::default()
    };
    if let Signer::Writer(certificate) = signer
        && certificate.expires.is_some_and(|end| receipt > end)
    {
        folding.problems.push("it was received after its writer's certificate expired".into());
        return folding;
    }
    for (place, bytes) in body.facts.iter().enumerate() {
        fold_fact(repo, place as u64, bytes, signer, &mut folding);
    }
    folding
}

fn fold_fact(repo: &Repository, place: u64, bytes: &[u8], signer: &Signer, folding: &mut Folding) {
    let fact = match Fact::decode(bytes) {
        Ok((_, fact)) => fact,
        Err(error) => {
            folding.problems.push(format!("fact {place} is ignored: {error}"));
            return;
        }
    };
    if !may_publish(signer, &fact) {
        let name = fact.name();
        folding
            .problems
            .push(format!("fact {place} is ignored: its signer may not publish a {name}"));
        return;
    }
    let record = &mut folding.record;
    match fact {
        Fact::Pack(pack) => record.packs.push(folded_pack(repo, &pack, signer)),
        Fact::Snapshot(snapshot) => record.snapshots.push((snapshot.id, bytes.to_vec())),
        Fact::Forget(forget) => {
            record.forgotten.extend(forget.snapshots);
            record.others.push((place, bytes.to_vec()));
        }
        Fact::Revoke(revoke) if revoke.writer == repo.config().owner => folding
            .problems
            .push(format!("fact {place} is ignored: it revokes the owner, whom nobody can")),
        Fact::Revoke(revoke) => {
            // Receipts are whole seconds.
            record.revoked.push((revoke.writer, revoke.from.seconds));
            record.others.push((place, bytes.to_vec()));
        }
        Fact::Checkpoint(checkpoint) => {
            record.covers.extend(checkpoint.records);
            record.others.push((place, bytes.to_vec()));
        }
        Fact::Pin(_)
        | Fact::Condemn(_)
        | Fact::Reprieve(_)
        | Fact::Deleted(_)
        | Fact::Grace(_)
        | Fact::Unknown(_) => record.others.push((place, bytes.to_vec())),
    }
}

fn folded_pack(repo: &Repository, pack: &PackFact, signer: &Signer) -> FoldedPack {
    let own = repo.keys().writer_id().ok();
    let trusted = match signer {
        Signer::Owner => true,
        Signer::Writer(certificate) => certificate.trusted || own == Some(certificate.writer),
    };
    let claim = sha256(&pack.encode());
    FoldedPack {
        id: pack.id,
        claim,
        kind: pack.kind as u8,
        size: pack.size,
        key: pack.key.and_then(|key| repo.keys().wrap_pack_key(pack.id, &claim, &key)),
        frames: pack.directory.encode_frames(),
        trusted,
        chunks: pack.directory.places().collect(),
    }
}

/// Folds what a checkpoint of the owner carries for other records.
///
/// The nodes with the merged facts are in packs that the same record names; they
/// are read from there directly, since the index does not have them yet.
fn merge(repo: &Repository, body: &Body, signer: &Signer, folding: &mut Folding) -> Result<()> {
    if *signer != Signer::Owner {
        return Ok(());
    }
    let mut packs = Vec::new();
    let mut refs = Vec::new();
    for bytes in &body.facts {
        match Fact::decode(bytes) {
            Ok((_, Fact::Pack(pack))) => packs.push(pack),
            Ok((wanted, Fact::Checkpoint(_))) => refs.extend(wanted),
            _ => {}
        }
    }
    for id in refs {
        let merged = match super::checkpoint::read_merged(repo, &packs, &id) {
            Ok(merged) => merged,
            Err(error) if error.kind() == Kind::Damaged || error.kind() == Kind::NotFound => {
                folding.problems.push(format!("its checkpoint: {}", describe(&error)));
                continue;
            }
            Err(error) => return Err(error),
        };
        for (place, fact) in merged.into_iter().enumerate() {
            let mut one = Folding {
                record: FoldedRecord {
                    carried: Some(fact.record),
                    receipt: fact.receipt.seconds,
                    writer: Some(fact.writer),
                    ..FoldedRecord::default()
                },
                ..Folding::default()
            };
            match signer_of(repo, fact.writer, fact.certificate.as_deref()) {
                Ok(signer) => fold_fact(repo, place as u64, &fact.fact, &signer, &mut one),
                Err(error) => one.problems.push(format!("merged fact {place}: {error}")),
            }
            folding.problems.append(&mut one.problems);
            folding.merged.push(one.record);
        }
    }
    Ok(())
}
