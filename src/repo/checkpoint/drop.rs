//! Deleting the records that a checkpoint replaced.
//!
//! Whoever listed the log before the checkpoint was there may still be reading them, so
//! they stay for the grace period. And before the first of them goes, all that the
//! checkpoint carries is read once: what cannot be read replaces nothing. Bundles go when
//! hardly any of their hour's records are left: they only have copies.

use std::collections::{HashMap, HashSet};

use super::carry::Failed;
use super::compact::{InLog, each_object, packs_of};
use super::nodes::Nodes;
use super::{Known, before, distrust, fold, known};
use crate::base::{Progress, RecordId, Stop, UnixTime, error_chain};
use crate::format::names::{self, Hour};
use crate::format::node::Node;
use crate::repo::grace::in_force;
use crate::repo::log::BUNDLE_OF;
use crate::repo::{Error, Repository, Result};

/// What can be deleted from the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Droppable {
    /// The names of objects, in order.
    pub names: Vec<String>,
    /// How many bytes they have.
    pub bytes: u64,
}

/// What was deleted from the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Dropped {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The objects in the log that checkpoints replaced long enough before `at`, which is the
/// store's time of a listing; `exclusive`: however long. Costs a listing of the log.
///
/// # Errors
///
/// [`Error`] if the log cannot be listed or the index cannot be read.
pub fn droppable(repo: &Repository, at: UnixTime, exclusive: bool) -> Result<Droppable> {
    let log = Log::list(repo)?;
    let relied = relied_on(repo, at, exclusive, &log)?;
    Ok(log.deletable(&relied.into_iter().map(|(_, one)| one).collect::<Vec<_>>()))
}

/// What is in the log.
#[derive(Default)]
struct Log {
    /// Every record, under each of its names.
    records: Vec<(RecordId, InLog)>,
    /// The names of bundles, with their sizes.
    bundles: Vec<(Hour, String, u64)>,
}

impl Log {
    fn list(repo: &Repository) -> Result<Log> {
        let mut log = Log::default();
        each_object(repo, |object| {
            log.records.extend(InLog::of(object));
            let bundle = names::parse_bundle(&object.key);
            log.bundles.extend(bundle.map(|(hour, _)| (hour, object.key.clone(), object.size)));
        })?;
        Ok(log)
    }

    /// The records that these checkpoints replace.
    fn replaced(&self, relied: &[Known]) -> impl Iterator<Item = &(RecordId, InLog)> {
        let covered: HashSet<RecordId> = fold::covered_by(relied, i64::MAX);
        self.records.iter().filter(move |(id, _)| covered.contains(id))
    }

    /// Those, and the bundles that nobody will read when they are gone.
    fn deletable(&self, relied: &[Known]) -> Droppable {
        let mut found = Droppable::default();
        let mut left: HashMap<Hour, usize> = HashMap::new();
        for (_, object) in &self.records {
            *left.entry(object.hour).or_default() += 1;
        }
        for (id, object) in self.replaced(relied) {
            found.names.push(names::record(object.hour, *id));
            found.bytes += object.size;
            left.entry(object.hour).and_modify(|left| *left -= 1);
        }
        for (hour, name, size) in &self.bundles {
            if left.get(hour).is_none_or(|left| *left < BUNDLE_OF) {
                found.names.push(name.clone());
                found.bytes += size;
            }
        }
        found
    }
}

/// The checkpoints that replace records now, with their names.
fn relied_on(
    repo: &Repository,
    at: UnixTime,
    exclusive: bool,
    log: &Log,
) -> Result<Vec<(String, Known)>> {
    let skew = repo.skew_seconds();
    let wait = !exclusive && repo.rules().covered_records_wait;
    let until =
        if wait { before(at, in_force(repo, at.seconds)?.saturating_add(skew)) } else { i64::MAX };
    let names: HashMap<RecordId, Hour> =
        log.records.iter().map(|(id, one)| (*id, one.hour)).collect();
    let mut known = known(repo)?;
    known.retain(|one| names.contains_key(&one.record) && !one.late && one.receipt <= until);
    // One that another replaces vouches for nothing: it goes itself.
    let covered = fold::covered_by(&known, until);
    known.retain(|one| !covered.contains(&one.record));
    let named = |one: Known| Some((names::record(*names.get(&one.record)?, one.record), one));
    Ok(known.into_iter().filter_map(named).collect())
}

/// Deletes what [`droppable`] finds, oldest names first. Can be interrupted and repeated
/// at any time. Costs a DELETE an object, and reads each checkpoint that replaces any and
/// that [`verify`] did not find `sound` just now.
///
/// A checkpoint that cannot be read is reported as a problem, and deletes nothing.
///
/// # Errors
///
/// [`Error::NotAllowed`] without the owner's key; [`Error`] if the store fails.
pub fn drop_covered(
    repo: &Repository,
    at: UnixTime,
    exclusive: bool,
    sound: &HashSet<RecordId>,
    progress: &Progress,
    stop: &Stop,
) -> Result<Dropped> {
    repo.check_collectable()?;
    let log = Log::list(repo)?;
    let mut relied = Vec::new();
    for (name, one) in relied_on(repo, at, exclusive, &log)? {
        if log.replaced(std::slice::from_ref(&one)).next().is_none() {
            continue;
        }
        if sound.contains(&one.record) || is_sound(repo, &name, &one, progress, stop)? {
            relied.push(one);
        }
    }
    let mut dropped = Dropped::default();
    let found = log.deletable(&relied);
    for name in &found.names {
        if stop.is_raised() {
            return Err(Error::Interrupted);
        }
        repo.store().delete(name)?;
        dropped.objects += 1;
    }
    dropped.bytes = found.bytes;
    Ok(dropped)
}

/// What a look at all checkpoints came to.
#[derive(Debug, Default)]
pub struct Verified {
    /// The records of those that can be read.
    pub sound: HashSet<RecordId>,
    /// How many cannot.
    pub damaged: u64,
}

/// Reads all that the checkpoints carry which no other replaced. Those that cannot be
/// read are reported as problems and replace nothing from now on, so that [`compact`]
/// merges again what they stood for, as far as it is there.
///
/// [`compact`]: super::compact()
///
/// # Errors
///
/// [`Error`] if the store fails or the index cannot be written.
pub fn verify(repo: &Repository, progress: &Progress, stop: &Stop) -> Result<Verified> {
    let log = Log::list(repo)?;
    let mut verified = Verified::default();
    for (name, one) in relied_on(repo, UnixTime::EPOCH, true, &log)? {
        match is_sound(repo, &name, &one, progress, stop)? {
            true => drop(verified.sound.insert(one.record)),
            false => verified.damaged += 1,
        }
    }
    Ok(verified)
}

/// Whether all that a checkpoint carries can be read. If not, that is reported, and it is
/// trusted no more.
fn is_sound(
    repo: &Repository,
    name: &str,
    one: &Known,
    progress: &Progress,
    stop: &Stop,
) -> Result<bool> {
    match read_all(repo, name, one, stop) {
        Ok(()) => Ok(true),
        Err(error) if error.is_damage() => {
            let why = error_chain(&error);
            distrust(repo, one, &why)?;
            progress.problem(name, why);
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Reads all that a checkpoint carries.
fn read_all(repo: &Repository, name: &str, one: &Known, stop: &Stop) -> Result<()> {
    let packs = packs_of(repo, one.record, name).map_err(|failed| match failed {
        Failed::Error(error) => error,
        Failed::Without(_, why) => {
            Error::object(name)(crate::format::FormatError::malformed("checkpoint", why))
        }
    })?;
    let nodes = Nodes::new(repo, packs);
    for id in one.checkpoint.merged(&one.refs) {
        if stop.is_raised() {
            return Err(Error::Interrupted);
        }
        if !matches!(nodes.read(id)?, Node::Merged(_)) {
            return Err(Error::Tree { chunk: *id, why: "a checkpoint refers to another node" });
        }
    }
    Ok(())
}
