//! One record: verified, opened, and taken apart into rows of the index.
//!
//! A record comes from the log, or a checkpoint carries it on; either way the same
//! code decides what of it is believed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::{RecordId, UnixTime, WriterId};
use crate::codec::compress::{Codec, unpack, unpack_prefix};
use crate::codec::envelope::Envelope;
use crate::codec::hash::sha256;
use crate::codec::seal::{Part, SealKey};
use crate::format::fact::{Fact, Pin, Signer, may_publish};
use crate::format::pack::PackFact;
use crate::format::record::{Body, CERTIFICATE_WITHIN, Header, RECORD_BYTES_MAX, Record};
use crate::format::segment::PAGES;
use crate::format::{FormatError, LAYOUT};
use crate::index::{FoldedPack, FoldedRecord, FoldedSegment, FoldedSnapshot, Pinned};
use crate::repo::{Error, Repository, Result};

/// A body that unpacks to more is unpacked while no other such is. Bytes.
const LARGE_BODY: u64 = 16 << 20;

const INFO: &[u8] = b"asof record";

/// A record taken apart, and what was wrong with it.
#[derive(Default)]
pub(in crate::repo) struct Folding {
    pub(in crate::repo) record: FoldedRecord,
    pub(in crate::repo) problems: Vec<String>,
}

/// Whether a record that cannot be read may be one that somebody entitled to it meant:
/// its bytes are not what its name says, so that it was damaged, or the owner signed it.
/// Otherwise somebody put there just what is there, and is nobody.
pub(in crate::repo) fn may_be_meant(repo: &Repository, id: RecordId, bytes: &[u8]) -> bool {
    let repository = repo.config().repository;
    sha256(bytes) != id.0
        || Record::decode(id, bytes, repository)
            .is_ok_and(|record| record.header.writer == repo.config().owner)
}

/// The right to hold a large record in memory, which one at a time has.
pub(in crate::repo) struct Turn<'a> {
    large: &'a Mutex<()>,
    mine: Option<MutexGuard<'a, ()>>,
}

impl<'a> Turn<'a> {
    pub(in crate::repo) fn new(large: &'a Mutex<()>) -> Turn<'a> {
        Turn { large, mine: None }
    }

    pub(in crate::repo) fn wait(&mut self) {
        if self.mine.is_none() {
            self.mine = Some(self.large.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Verifies and opens records that somebody else fetched. Threads may share one: of the
/// bodies that are large it unpacks one at a time.
pub struct Opener<'a> {
    repo: &'a Repository,
    large: Mutex<()>,
}

impl<'a> Opener<'a> {
    /// For the records of a repository.
    #[must_use]
    pub fn new(repo: &'a Repository) -> Opener<'a> {
        Opener { repo, large: Mutex::new(()) }
    }

    /// What the record of that id and name says and who signs it: name, signature,
    /// certificate and seal hold. Whether that is so at its receipt, and what of it its
    /// signer may say, is not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::Object`] or [`Error::Sealed`] if one of them does not hold;
    /// [`Error::NotAllowed`] if the keys at hand do not read.
    pub fn open(&self, id: RecordId, name: &str, bytes: &[u8]) -> Result<(Header, Body, Signer)> {
        open(self.repo, (id, name, bytes), None, &mut Turn::new(&self.large))
    }
}

/// The facts of one record as they were published, for whoever looks at the log
/// itself. Costs a GET.
///
/// # Errors
///
/// [`Error`] if it cannot be fetched, is damaged, or is not signed by who may sign.
pub fn read_facts(repo: &Repository, id: RecordId, name: &str) -> Result<Vec<Vec<u8>>> {
    let (_, body, _) = read(repo, id, name)?;
    Ok(body.facts.into_iter().map(Into::into).collect())
}

/// Fetches one record, verifies and opens it.
pub(in crate::repo) fn read(
    repo: &Repository,
    id: RecordId,
    name: &str,
) -> Result<(Header, Body, Signer)> {
    let bytes = repo.store().get(name, RECORD_BYTES_MAX)?;
    open(repo, (id, name, &bytes), None, &mut Turn::new(&Mutex::new(())))
}

/// Verifies and opens a record: name, signature, certificate, seal. `known` is the key that
/// somebody says is in its envelope; who was lied to cannot open it.
pub(in crate::repo) fn open(
    repo: &Repository,
    (id, name, bytes): (RecordId, &str, &[u8]),
    known: Option<&SealKey>,
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
        let key = match known {
            Some(key) => key.clone(),
            None => crate::format::decode_whole::<Envelope>("envelope", &record.envelope)
                .map_err(Error::object(name))?
                .open(reader, &info(repo), &sha256(&record.header_bytes))
                .map_err(Error::sealed(name))?,
        };
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
    let length = usize::try_from(record.header.body_len).unwrap_or(usize::MAX);
    // Of a longer body no more is unpacked before it is known who speaks.
    if writer != config.owner && length > CERTIFICATE_WITHIN {
        let prefix = unpack_prefix(codec, packed, CERTIFICATE_WITHIN);
        let certificate = Body::certificate_of(&prefix.map_err(Error::sealed(name))?);
        signer_of(repo, writer, certificate.as_ref()).map_err(Error::object(name))?;
    }
    if record.header.body_len > LARGE_BODY {
        turn.wait();
    }
    let plain = unpack(codec, packed, length).map_err(Error::sealed(name))?;
    let body = Body::decode(&plain).map_err(Error::object(name))?;
    let signer =
        signer_of(repo, writer, body.certificate.as_deref()).map_err(Error::object(name))?;
    Ok((record.header, body, signer))
}

/// Who a writer is, by its certificate.
///
/// # Errors
///
/// [`FormatError`] if it is not the owner and the owner did not sign that for it.
pub fn signer_of(
    repo: &Repository,
    writer: WriterId,
    certificate: Option<&Vec<u8>>,
) -> std::result::Result<Signer, FormatError> {
    let config = repo.config();
    if writer == config.owner {
        return Ok(Signer::Owner);
    }
    let bytes = certificate
        .ok_or(FormatError::Uncertified { why: "the record's writer shows no certificate" })?;
    Ok(Signer::Writer(repo.certificates.verify(bytes, config, writer)?))
}

/// Takes a record apart into rows. Facts that its signer may not publish, or that
/// do not decode, are left out and reported.
pub(in crate::repo) fn fold(
    repo: &Repository,
    id: RecordId,
    header: &Header,
    body: &Body,
    signer: &Signer,
    receipt: UnixTime,
) -> Folding {
    let record = FoldedRecord {
        id: Some(id),
        receipt: receipt.seconds,
        writer: Some(header.writer),
        chain: Some(header.chain),
        number: header.number,
        previous: header.previous,
        late: is_late(receipt, body.deadline),
        ..FoldedRecord::default()
    };
    fold_facts(repo, record, (0..).zip(body.facts.iter().map(|fact| fact.as_slice())), signer)
}

/// Takes facts apart that stand in a record, each with its place in it, into `record`'s rows.
pub(in crate::repo) fn fold_facts<'a>(
    repo: &Repository,
    mut record: FoldedRecord,
    facts: impl Iterator<Item = (u64, &'a [u8])>,
    signer: &Signer,
) -> Folding {
    record.certified = *signer != Signer::Owner;
    record.late &= repo.rules().late_is_noticed;
    let receipt = UnixTime::new(record.receipt, 0);
    let mut folding = Folding { record, problems: Vec::new() };
    if let Signer::Writer(certificate) = signer
        && certificate.expires.is_some_and(|end| receipt > end)
    {
        folding.problems.push("it was received after its writer's certificate expired".into());
        return folding;
    }
    for (place, bytes) in facts {
        fold_fact(repo, place, bytes, signer, &mut folding);
    }
    folding
}

/// Whether a record with that deadline came too late to be evidence. Receipts are whole
/// seconds, so a deadline is one too.
#[must_use]
pub fn is_late(receipt: UnixTime, deadline: Option<UnixTime>) -> bool {
    deadline.is_none_or(|deadline| receipt.seconds > deadline.seconds)
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
        Fact::Snapshot(snapshot) => record.snapshots.push(FoldedSnapshot {
            id: snapshot.id,
            source: snapshot.source,
            taken: snapshot.taken,
            point: snapshot.point.map(|point| (point.stream, point.position)),
            fact: bytes.to_vec(),
        }),
        Fact::Segment(segment) if segment.kind == PAGES => {
            let first = segment.states().next();
            let (last, ends) = segment.last();
            record.segments.push(FoldedSegment {
                id: segment.id,
                stream: segment.stream,
                after: segment.after,
                last,
                begins: first.map_or(segment.begins, |state| state.at),
                ends,
                source: segment.source,
                fact: bytes.to_vec(),
            });
        }
        Fact::Forget(forget) => record.forgotten.extend(forget.snapshots),
        Fact::Revoke(revoke) if revoke.writer == repo.config().owner => folding
            .problems
            .push(format!("fact {place} is ignored: it revokes the owner, whom nobody can")),
        Fact::Revoke(revoke) => {
            // Receipts are whole seconds.
            record.revoked.push((revoke.writer, revoke.from.seconds));
        }
        Fact::Checkpoint(checkpoint) => {
            record.covers.extend(checkpoint.records);
            record.checkpoints.push((place, bytes.to_vec()));
        }
        Fact::Pin(Pin::Snapshot(id)) => record.pins.push((place, Pinned::Snapshot(id))),
        Fact::Pin(Pin::Chain(chain, number)) => {
            record.pins.push((place, Pinned::Chain(chain, number)));
        }
        Fact::Condemn(packs) => record.condemned.extend(packs.packs),
        Fact::Deleted(packs) => record.deleted.extend(packs.packs),
        Fact::Grace(_) | Fact::Segment(_) | Fact::Unknown(_) => {
            record.others.push((place, bytes.to_vec()));
        }
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

pub(in crate::repo) fn info(repo: &Repository) -> Vec<u8> {
    [INFO, &[LAYOUT], repo.config().repository.as_bytes()].concat()
}
