//! Bundles: making them of what a chain publishes, and reading those that help.
//!
//! Who publishes keeps what it published of the hour, up to a mebibyte, and puts it into
//! the log once more as one object. Who must learn many records of an hour reads its
//! bundles first. See `format::bundle` for why nothing hangs on them.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::fetch::Found;
use crate::base::{Kind, RecordId, error_chain};
use crate::codec::hash::sha256;
use crate::codec::seal::SealKey;
use crate::format::FormatError;
use crate::format::bundle::{BUNDLE_BYTES_MAX, Bundled, decode_bundle, encode_bundle};
use crate::format::names::{self, Hour};
use crate::repo::{Error, Repository, Result};

/// What a chain keeps of its records until they are put as a bundle. Bytes.
const GATHERED_BYTES: usize = 1 << 20;
/// What a record takes in a bundle beside its own bytes: its key, and how long it is.
const BESIDE: usize = 40;
/// Fewer records of an hour are fetched one by one, and are not worth a bundle.
pub(in crate::repo) const BUNDLE_OF: usize = 64;
/// So many bundles are fetched at once, as long as they have …
const FETCHED: usize = 8;
/// … so many bytes before the last of them.
const FETCHED_BYTES: u64 = 4 << 20;

/// What a chain published lately.
#[derive(Default)]
pub(super) struct Gathering {
    hour: Option<Hour>,
    records: Vec<Bundled>,
    bytes: usize,
    /// Whether the store takes no bundles from this machine.
    refused: bool,
}

impl Gathering {
    /// Adds a record that is in the store. Costs a PUT when there is enough for a bundle,
    /// or the hour is another.
    pub(super) fn add(
        &mut self,
        repo: &Repository,
        hour: Hour,
        key: Option<SealKey>,
        bytes: &[u8],
    ) {
        let size = bytes.len() + BESIDE;
        if self.hour != Some(hour) || self.bytes + size > GATHERED_BYTES {
            self.put(repo);
            self.hour = Some(hour);
        }
        if !self.refused && size <= GATHERED_BYTES / BUNDLE_OF {
            self.records.push(Bundled { key, bytes: bytes.to_vec() });
            self.bytes += size;
        }
    }

    /// Puts what was gathered, if it is worth that. A bundle that cannot be put is not
    /// missed: what is in it stands in the log.
    pub(super) fn put(&mut self, repo: &Repository) {
        let records = std::mem::take(&mut self.records);
        self.bytes = 0;
        let Some(hour) = self.hour.filter(|_| records.len() >= BUNDLE_OF) else { return };
        let recipient = repo.keys().recipient.as_ref();
        let Ok(bytes) = encode_bundle(records, repo.config().repository, recipient) else { return };
        let name = names::bundle(hour, &sha256(&bytes));
        let put = repo.store().put_new(&name, Bytes::from(bytes));
        self.refused = put.is_err_and(|error| error.kind == Kind::Denied);
    }
}

/// The bundles that a listing shows.
#[derive(Default)]
pub(super) struct Bundles(BTreeMap<Hour, Vec<Listed>>);

struct Listed {
    name: String,
    hash: [u8; 32],
    size: u64,
}

/// Records that were read out of bundles: of each the key, and its bytes.
pub(super) type Read = HashMap<RecordId, Bundled>;

impl Bundles {
    /// Notes an object of the log, if it has a bundle's name. Whether it has.
    pub(super) fn note(&mut self, name: &str, size: u64) -> bool {
        let Some((hour, hash)) = names::parse_bundle(name) else { return false };
        self.0.entry(hour).or_default().push(Listed { name: name.to_owned(), hash, size });
        true
    }

    /// Keeps those of hours of which many records are wanted.
    pub(super) fn keep_useful(&mut self, wanted: &[Found]) {
        let mut count: HashMap<Hour, usize> = HashMap::new();
        for one in wanted {
            *count.entry(one.hour).or_default() += 1;
        }
        self.0.retain(|hour, _| count.get(hour).is_some_and(|count| *count >= BUNDLE_OF));
    }

    /// The newest hour that there is one of, up to that one: nothing is wanted of later ones.
    pub(super) fn newest(&mut self, upto: Hour) -> Option<Hour> {
        self.0.retain(|hour, _| *hour <= upto);
        self.0.keys().next_back().copied()
    }

    /// Reads the next few of the newest hour. What is wrong with one is added to `problems`;
    /// those that are gone are passed over.
    ///
    /// # Errors
    ///
    /// [`Error`] if the store cannot be reached.
    pub(super) fn read_next(
        &mut self,
        repo: &Repository,
        problems: &mut Vec<(String, String)>,
    ) -> Result<Read> {
        let Some(mut hour) = self.0.last_entry() else { return Ok(Read::new()) };
        let (mut few, mut bytes) = (Vec::new(), 0);
        while few.len() < FETCHED && bytes < FETCHED_BYTES {
            let Some(one) = hour.get_mut().pop() else { break };
            bytes += one.size;
            few.push(one);
        }
        if hour.get().is_empty() {
            hour.remove();
        }
        let fetched: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = few.iter().map(|one| scope.spawn(|| read(repo, one))).collect();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        let mut all = Read::new();
        for (one, records) in few.into_iter().zip(fetched) {
            match records.map_err(|_| Error::Worker("a bundle's reader".into()))? {
                Ok(records) => all.extend(records),
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Future) => {
                    problems.push((one.name, error_chain(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

fn read(repo: &Repository, one: &Listed) -> Result<Vec<(RecordId, Bundled)>> {
    let bytes = repo.store().get(&one.name, BUNDLE_BYTES_MAX)?;
    let wrong = Error::object(&one.name);
    if sha256(&bytes) != one.hash {
        let why = "its bytes are not what its name says";
        return Err(wrong(FormatError::malformed("bundle", why)));
    }
    let config = repo.config();
    let reader = repo.keys().reader.as_ref().filter(|_| config.encryption.is_some());
    let records = decode_bundle(&bytes, config.repository, reader).map_err(wrong)?;
    Ok(records.into_iter().map(|one| (RecordId(sha256(&one.bytes)), one)).collect())
}
