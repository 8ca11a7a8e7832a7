//! The log: publishing facts, and learning what others published.
//!
//! A process that publishes starts a chain: its records are numbered, and each
//! carries the hash of the one before. Learning is LIST from the last known hour,
//! GET of what is unknown, and a fold of it all in a few transactions; a full LIST
//! now and then finds records of writers whose clocks are wrong. Where the store can tell that
//! the log is as it was, nothing is listed but then.
//!
//! Whoever can put objects into the store can have them fetched. So it is looked at
//! who speaks before more than the beginning of a body is unpacked, and of records
//! that are large, packed or unpacked, one is taken apart at a time.
//!
//! What cannot be read, is forged, or says what its signer may not say is left
//! out, remembered and reported; everything else stands.

mod bundle;
mod fetch;
mod record;
mod unchanged;

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use crate::base::{ChainId, Kind, RecordId, UnixTime};
use crate::codec::compress::Compressor;
use crate::codec::envelope::Envelope;
use crate::codec::hash::sha256;
use crate::codec::random;
use crate::codec::seal::{Part, SealKey};
use crate::format::FormatError;
use crate::format::fact::{Fact, Signer};
use crate::format::names::{self, Hour};
use crate::format::record::{Body, Header, RECORD_BYTES_MAX, Record};
pub use crate::repo::chains::{ChainGap, chain_gaps};
use crate::repo::{Error, Repository, Result, checkpoint};
use crate::store::Page;
pub(in crate::repo) use bundle::BUNDLE_OF;
use bundle::{Bundles, Gathering};
pub(in crate::repo) use fetch::{BATCH, Bounds};
use fetch::{Found, fetch_newest_first, unknown};
pub(in crate::repo) use record::{Folding, fold_facts, read};
pub use record::{Opener, is_late, read_facts, signer_of};
use record::{fold, info};

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
    /// Whether that was after its deadline: then what it says is no evidence, and
    /// chunks that it stands on may be gone.
    pub late: bool,
}

/// The chain of one publishing process.
pub struct Chain {
    id: ChainId,
    number: u64,
    previous: Option<RecordId>,
    gathering: Option<Gathering>,
}

impl Default for Chain {
    fn default() -> Chain {
        Chain { id: ChainId(random::bytes()), number: 0, previous: None, gathering: None }
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
    /// The store's time of the listing: whatever the store received before that, less
    /// the skew, is known now. None if it is not known, or the listing took so long
    /// that it is of no single time.
    pub at: Option<UnixTime>,
    /// Whether nothing was read, since the index is so old that what it needs to know
    /// may have been dropped from the log: it must be made anew.
    pub stale: bool,
}

/// How far a listing goes back behind the last one, beside four times the skew:
/// writers' clocks may be behind, and records take time to be sent.
const SLACK: Duration = Duration::from_secs(6 * 3600);
/// A record that must be found by listings that begin late is received at most so long,
/// beside twice the skew, after the beginning of the hour in its name. With the skew,
/// less than the slack.
const NAME_LASTS: Duration = Duration::from_secs(3 * 3600);
/// Where the index keeps the name of the newest record that the log must have.
const NEWEST: &str = "newest-record";
/// Where it keeps the name of the record that this machine published last.
const OWN: &str = "own-record";
/// How often a listing begins at the beginning.
const FULL_EVERY: Duration = Duration::from_secs(24 * 3600);

impl Chain {
    /// A chain of many records: what it publishes is put into the log in bundles, too, for
    /// who has to learn all of it. Keeps up to a mebibyte of them in memory.
    #[must_use]
    pub fn bundled() -> Chain {
        Chain { gathering: Some(Gathering::default()), ..Chain::default() }
    }

    /// Puts what was published and is in no bundle yet into one, if it is worth that. Costs a
    /// PUT. A chain that is dropped without it only costs others time.
    pub fn close_bundle(&mut self, repo: &Repository) {
        if let Some(gathering) = &mut self.gathering {
            gathering.put(repo);
        }
    }

    /// Publishes facts as the next record.
    ///
    /// When it returns, the record is in the store and folded into the index. `deadline`
    /// is by when the store must have received it for what it stands on to be there;
    /// without one nobody may build on it. Look at [`Published::late`].
    ///
    /// # Errors
    ///
    /// [`Error`] if it could not be stored, or not be folded into the index; the chain is
    /// then as it was, and a record that was stored stands without anything after it.
    pub fn publish(
        &mut self,
        repo: &Repository,
        facts: Vec<EncodedFact>,
        deadline: Option<UnixTime>,
    ) -> Result<Published> {
        let hour = Hour::of(repo.store_now());
        self.publish_in(repo, facts, deadline, hour, false)
    }

    /// Publishes facts that every machine must know of at its next listing, however
    /// late that begins: their record counts only if it is received soon.
    ///
    /// # Errors
    ///
    /// As [`Chain::publish`].
    pub fn publish_soon(
        &mut self,
        repo: &Repository,
        facts: Vec<EncodedFact>,
        deadline: UnixTime,
    ) -> Result<Published> {
        let now = repo.store_now();
        let hour = Hour::of(now);
        let begun = now.seconds - now.seconds.rem_euclid(3600);
        let skew = repo.skew();
        let soon = UnixTime::new(begun, 0).plus(NAME_LASTS + 2 * skew);
        self.publish_in(repo, facts, Some(deadline.min(soon)), hour, true)
    }

    fn publish_in(
        &mut self,
        repo: &Repository,
        facts: Vec<EncodedFact>,
        deadline: Option<UnixTime>,
        hour: Hour,
        waits: bool,
    ) -> Result<Published> {
        let keys = repo.keys();
        let key = keys.signing()?;
        let body = Body {
            claimed: repo.clock().now(),
            certificate: keys.certificate.clone().map(Into::into),
            facts: facts.into_iter().map(|fact| fact.bytes.into()).collect(),
            deadline,
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
        drop(plain);
        sealed.insert(0, codec as u8);
        let mut envelope = Vec::new();
        let seal = keys.recipient.as_ref().map(|_| SealKey::random());
        if let (Some(recipient), Some(seal)) = (&keys.recipient, &seal) {
            let made = Envelope::seal(seal, recipient, &info(repo), &sha256(&header_bytes));
            envelope = crate::format::encode(&made.map_err(Error::sealed("asof.json"))?);
            seal.sealer().seal(Part::Numbered(0), &header_bytes, &mut sealed);
        }
        let record = Record { header, header_bytes, envelope, body: sealed };
        let bytes = record.issue(key);
        let header = record.header;
        drop(record.body);
        let id = RecordId(sha256(&bytes));
        let name = names::record(hour, id);
        if bytes.len() as u64 > RECORD_BYTES_MAX {
            let why = FormatError::malformed("record", "it is longer than a record may be");
            return Err(Error::object(&name)(why));
        }
        // What leaves the process is read back first.
        Record::decode(id, &bytes, repo.config().repository).map_err(Error::object(&name))?;
        let bytes = Bytes::from(bytes);
        let put = repo.store().put_new(&name, bytes.clone())?;
        repo.note_store_time(put.latest);
        let signer = keys.signer.clone();
        // Others go by the receipt that their listings show, which may be later than the
        // reply's time by the skew. For what it is evidence of, a receipt must not be too
        // late; for what waits for time to pass after it, not too early.
        let skew = repo.skew();
        let shown = put.latest.plus(skew);
        let receipt = if waits { put.latest } else { put.receipt };
        let mut folded = fold(repo, id, &header, &body, &signer, receipt);
        folded.record.late |= repo.rules().late_is_noticed && is_late(shown, body.deadline);
        let late = folded.record.late;
        if let Signer::Writer(certificate) = &signer
            && certificate.expires.is_some_and(|end| shown > end)
        {
            return Err(Error::NotAllowed {
                action: "publishing what was stored",
                needs: "a writer key that has not expired",
            });
        }
        repo.index().fold(&[folded.record])?;
        // It must be listed from now on, whatever else is.
        repo.index().set_meta(OWN, name.as_bytes())?;
        self.number += 1;
        self.previous = Some(id);
        if let Some(gathering) = &mut self.gathering {
            gathering.add(repo, hour, seal, &bytes);
        }
        Ok(Published { id, receipt: put.receipt, late })
    }

    /// The chain's id.
    #[must_use]
    pub fn id(&self) -> ChainId {
        self.id
    }

    /// The number of the next record.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.number
    }
}

/// Learns what the store has. `full` lists everything, otherwise only what can be new.
///
/// # Errors
///
/// [`Error`] if the store cannot be listed or a record cannot be fetched.
pub fn sync(repo: &Repository, full: bool) -> Result<SyncReport> {
    // What a checkpoint stands for leaves the log, and what it is made of goes when another
    // has taken its place. The next listing shows what replaced it.
    let (mut gone, mut again) = (HashSet::new(), true);
    let mut records = 0;
    loop {
        let before = gone.len();
        let report = sync_once(repo, full, &mut gone)?;
        records += report.records;
        let replaced = report.problems.iter().any(|(_, why)| checkpoint::is_gone(why));
        if gone.len() == before && !(replaced && std::mem::take(&mut again)) {
            return Ok(SyncReport { records, ..report });
        }
    }
}

/// Lists once. Records that are listed and not there are added to `gone`; those that were
/// in it before are problems.
fn sync_once(repo: &Repository, full: bool, gone: &mut HashSet<RecordId>) -> Result<SyncReport> {
    let gone_before = gone.len();
    let index = repo.index();
    let parameters = &repo.config().parameters;
    let skew = repo.skew();
    let grace = Duration::from_secs(parameters.grace_seconds);
    let now = repo.store_now();
    let last_hour = stored_time(repo, "listed")?;
    let last_full = stored_time(repo, "listed-fully")?;
    let full = full
        || last_hour.is_none()
        || last_full.is_none_or(|at| now.since(at) > FULL_EVERY || at > now);
    let start = match last_hour {
        Some(at) if !full => names::record_start(Hour::of(at.minus(SLACK + 4 * skew))),
        _ => names::LOG.to_owned(),
    };
    // The last record that was ever listed must be listed again, and the last of one's
    // own: a log that lost it is damaged, rolled back, or another's.
    let named = |key: &str| -> Result<Option<String>> {
        let name = index.meta(key)?.and_then(|name| String::from_utf8(name).ok());
        Ok(name.filter(|name| names::parse_record(name).is_some()))
    };
    let mut latest = named(NEWEST)?;
    let mut missing: Vec<String> = latest.clone().into_iter().chain(named(OWN)?).collect();
    let starts = missing.iter().filter_map(|name| names::parse_record(name));
    let start = starts.map(|(hour, _)| names::record_start(hour)).fold(start, String::min);
    // Before anything is listed, so that what comes meanwhile is not taken for known.
    let mark = repo.store().mark(names::LOG);
    let unchanged = match &mark {
        Some(mark) if !full && unchanged::is_unchanged(repo, mark, &start)? => Some(mark.at),
        _ => None,
    };
    if unchanged.is_some() {
        // They were listed then.
        missing.clear();
    }
    let mut report = SyncReport::default();
    let mut after = start.clone();
    let mut begun: Option<UnixTime> = None;
    let mut ended;
    let mut first = true;
    let mut found: Vec<Found> = Vec::new();
    let mut bundles = Bundles::default();
    let mut tail: Vec<(String, RecordId)> = Vec::new();
    loop {
        let page = match unchanged {
            Some(_) => Page { at: unchanged, ..Page::default() },
            None => repo.store().list(names::LOG, Some(&after))?,
        };
        if let Some(at) = page.at {
            repo.note_store_time(at);
        }
        ended = page.at;
        if std::mem::take(&mut first) {
            begun = page.at;
            // What was forgotten and deleted is not told for ever.
            let at = page.at.unwrap_or(now);
            let stale = last_hour.is_some_and(|last| at.since(last) > 3 * grace);
            if stale && repo.rules().stale_index_is_rebuilt {
                return Ok(SyncReport { stale, ..report });
            }
        }
        missing.retain(|name| page.objects.iter().all(|object| object.key != *name));
        let mut listed = Vec::new();
        if !page.objects.is_empty() {
            tail.clear();
        }
        for object in &page.objects {
            match names::parse_record(&object.key) {
                Some((hour, id)) => {
                    tail.push((object.key.clone(), id));
                    listed.push(Found { id, hour, size: object.size, receipt: object.receipt });
                }
                None if bundles.note(&object.key, object.size) => {}
                None => report
                    .problems
                    .push((object.key.clone(), "it has no name that a record can have".into())),
            }
        }
        found.append(&mut unknown(repo, listed)?);
        match page.objects.last() {
            Some(last) if page.more => after.clone_from(&last.key),
            _ => break,
        }
    }
    let carefully = last_full.is_none();
    fetch_newest_first(repo, found, bundles, carefully, gone, &mut report)?;
    let superfluous = checkpoint::superfluous(repo)?;
    report.problems.retain(|(name, why)| {
        let id = names::parse_record(name).map(|(_, id)| id);
        !(checkpoint::is_gone(why) && id.is_some_and(|id| superfluous.contains(&id)))
    });
    // Of what was listed, the last that could be read: anybody may put junk behind it.
    for (name, id) in tail.into_iter().rev() {
        if index.unknown_records(&[id])?.is_empty() {
            latest = latest.max(Some(name));
            break;
        }
    }
    // Once its facts stand in a checkpoint, a record may be dropped.
    let mut lost = None;
    for name in missing {
        let Some((_, id)) = names::parse_record(&name) else { continue };
        if index.is_covered(&id)? || checkpoint::is_left_out(repo, &id)? {
            continue;
        }
        // A listing may miss what was put lately, and hides nothing from who asks by name.
        match repo.store().get(&name, RECORD_BYTES_MAX) {
            Ok(_) => {}
            Err(error) if matches!(error.kind, Kind::NotFound | Kind::Damaged) => lost = Some(name),
            Err(error) => return Err(error.into()),
        }
    }
    let mut notes: Vec<(&str, Vec<u8>)> = Vec::new();
    if let Some(lost) = lost {
        report.problems.push((
            lost.clone(),
            "it was there and is gone: the store was damaged, rolled back or replaced".into(),
        ));
        report.lost = Some(lost);
    } else if let Some(latest) = latest {
        notes.push((NEWEST, latest.into_bytes()));
    }
    // A listing that takes long shows no single time: what it relies on could be gone
    // again before it ends. And what is condemned may stand in a record that cannot be
    // read now.
    let read = gone.len() == gone_before && index.blocking_records()?.is_empty();
    let whole = report.lost.is_none() && read;
    if let Some(mark) = mark.filter(|_| whole && unchanged.is_none() && report.problems.is_empty())
    {
        notes.push(unchanged::note(&mark, &start));
    }
    let quick = |at: &UnixTime| ended.is_some_and(|end| end.since(*at) <= grace / 4);
    report.at = begun.filter(quick).filter(|_| whole);
    // What a later listing may leave out hangs on the store's time alone; the other is
    // for people.
    let time = |at: UnixTime| at.seconds.to_be_bytes().to_vec();
    notes.push(("synced", time(now)));
    if let Some(at) = begun {
        notes.push(("listed", time(at)));
        if full {
            notes.push(("listed-fully", time(at)));
        }
    }
    index.note_listing(&notes, report.at)?;
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
