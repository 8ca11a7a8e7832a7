//! Packs: whether they are there, and whether they are what they should be.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{Check, Part};
use crate::base::{Kind, PackId, Progress, error_chain};
use crate::codec::hash::sha256;
use crate::format::names;
use crate::format::pack::PACK_BYTES_MAX;
use crate::index::{ClaimedPack, Spoiled};
use crate::ops::Result;
use crate::ops::sweep::{BATCH, Job, each_page, sweep};
use crate::repo::packer::{open_pack, verify_chunks};
use crate::repo::{Error, Repository};
use crate::store;

/// What a pack that was read turned out to be.
enum Found {
    /// What this claim, given by its hash, says.
    Whole([u8; 32]),
    /// Something else, and what.
    Damaged(String),
    /// Gone since it was listed.
    Gone,
}

impl Check<'_> {
    /// Compares what is claimed with what the store has.
    pub(super) fn packs(&mut self) -> Result<()> {
        self.progress.enter("listing packs");
        // Whoever claims a pack from now on may have stored it after it was listed.
        let upto = self.survey.newest_claim()?;
        let mut strays: Vec<String> = Vec::new();
        each_page(self.repo.store().as_ref(), names::PACKS, |page| {
            self.go_on()?;
            for object in page.objects {
                match names::parse_pack(&object.key) {
                    Some(id) => self.survey.list_pack(&id, object.size)?,
                    None if strays.len() < super::REMARKS_SHOWN => strays.push(object.key),
                    None => {}
                }
            }
            Ok(())
        })?;
        let no_name = |name| format!("{name}: it has no name that a pack can have");
        self.report.remarks.extend(strays.into_iter().map(no_name));
        self.ask_for_unlisted(upto)?;
        let mut after = None;
        loop {
            let packs = self.survey.claimed_packs(after, upto)?;
            let Some(last) = packs.last() else { break };
            after = Some(last.id);
            packs.iter().try_for_each(|pack| self.pack(pack))?;
        }
        let orphans = self.survey.orphans()?;
        (self.report.orphans, self.report.orphan_bytes) = (orphans.count, orphans.bytes);
        Ok(())
    }

    /// Asks by name for what was not listed: a listing may miss what was stored lately.
    fn ask_for_unlisted(&self, upto: i64) -> Result<()> {
        let mut after = None;
        loop {
            let packs = self.survey.unlisted_packs(after, upto)?;
            let Some(last) = packs.last() else { return Ok(()) };
            after = Some(*last);
            for id in packs {
                self.go_on()?;
                match self.repo.store().get(&names::pack(id), PACK_BYTES_MAX) {
                    Ok(bytes) => self.survey.list_pack(&id, bytes.len() as u64)?,
                    // What is no pack is as good as none.
                    Err(error) if matches!(error.kind, Kind::NotFound | Kind::Damaged) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    fn pack(&mut self, pack: &ClaimedPack) -> Result<()> {
        let name = names::pack(pack.id);
        let Some(size) = pack.listed else {
            // Also if nothing needs it yet, so that nothing will.
            self.repo.index().distrust_pack(&pack.id)?;
            let why = if pack.deleted { "it was deleted" } else { "it is not in the store" };
            let object = self.suspect(&name, why)?;
            return Ok(self.survey.spoil(&pack.id, Spoiled::All, object)?);
        };
        self.report.packs += 1;
        self.report.pack_bytes += size;
        if !pack.fits {
            self.repo.index().distrust_pack(&pack.id)?;
            let why = format!("it has {size} bytes, and {} are claimed", pack.claimed);
            let object =
                if pack.trusted { self.damaged(name, why)? } else { self.suspect(&name, &why)? };
            return Ok(self.survey.spoil(&pack.id, Spoiled::Doubtful, object)?);
        }
        if !pack.agreed {
            let object = self.suspect(&name, "its size is claimed falsely as well")?;
            self.survey.spoil(&pack.id, Spoiled::OtherSize(size), object)?;
        }
        let wanted = match self.options.part {
            Some(Part::OneOf { part, of }) => number(&pack.id) % of == part,
            _ => true,
        };
        if self.options.read_data && wanted {
            self.survey.want_pack(&pack.id, size)?;
        }
        Ok(())
    }

    /// Reads the packs that were asked for.
    pub(super) fn read_packs(&mut self) -> Result<()> {
        let now = self.repo.clock().now();
        let since = self.options.max_age.map(|age| now.minus(age).seconds);
        let most = match self.options.part {
            Some(Part::Share(share)) => {
                Some(self.survey.wanted()?.count.saturating_mul(share.into()).div_ceil(10_000))
            }
            _ => None,
        };
        let (wanted, lately) = self.survey.choose_packs(since, now.seconds, most)?;
        self.report.packs_verified_lately = lately;
        self.progress.enter("reading packs");
        self.progress.files_expected.store(wanted.count, Ordering::Relaxed);
        self.progress.bytes_expected.store(wanted.bytes, Ordering::Relaxed);
        let mut after = None;
        loop {
            let packs = self.survey.wanted_packs(after, BATCH as u32)?;
            let Some(last) = packs.last() else { return Ok(()) };
            after = Some(last.0);
            let job = |(id, size): &(PackId, u64)| Job {
                name: names::pack(*id),
                size: *size,
                most: PACK_BYTES_MAX,
            };
            let jobs: Vec<Job> = packs.iter().map(job).collect();
            let (repo, progress) = (self.repo, self.progress);
            let look = |at: usize, job: &Job, read: store::Result<Bytes>| {
                let found = look(repo, packs[at].0, read);
                Progress::add(&progress.files, 1);
                Progress::add(&progress.bytes, job.size);
                found
            };
            let found = sweep(self.repo.store().as_ref(), &jobs, self.stop, look)?;
            let mut failed = Ok(());
            for (at, found) in found {
                // What was found of the others is noted first.
                match found {
                    Ok(found) => self.note(packs[at].0, packs[at].1, found)?,
                    Err(error) => failed = Err(error),
                }
            }
            failed?;
            self.go_on()?;
        }
    }

    fn note(&mut self, id: PackId, size: u64, found: Found) -> Result<()> {
        let name = names::pack(id);
        match found {
            Found::Whole(claim) => {
                self.report.packs_read += 1;
                self.report.bytes_read += size;
                let now = self.repo.clock().now().seconds;
                self.repo.index().set_verified(&id, now)?;
                if self.survey.has_other_claim(&id, &claim)? {
                    let object = self.suspect(&name, "what is in it is claimed falsely as well")?;
                    self.survey.spoil(&id, Spoiled::OtherClaim(claim), object)?;
                }
            }
            Found::Damaged(why) => {
                self.repo.index().distrust_pack(&id)?;
                let object = self.damaged(name, why)?;
                self.survey.spoil(&id, Spoiled::Doubtful, object)?;
            }
            Found::Gone => {
                self.repo.index().distrust_pack(&id)?;
                let object = self.suspect(&name, "it is no longer in the store")?;
                self.survey.spoil(&id, Spoiled::All, object)?;
            }
        }
        Ok(())
    }
}

/// The first bytes of an id as a number: ids are hashes, so packs fall evenly into parts.
fn number(id: &PackId) -> u32 {
    let [a, b, c, d, ..] = id.0;
    u32::from_be_bytes([a, b, c, d])
}

/// Looks at a whole pack.
fn look(repo: &Repository, id: PackId, read: store::Result<Bytes>) -> Result<Found> {
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) if error.kind == Kind::NotFound => return Ok(Found::Gone),
        Err(error) if error.kind == Kind::Damaged => {
            return Ok(Found::Damaged(error_chain(&error)));
        }
        Err(error) => return Err(error.into()),
    };
    let keys = repo.keys();
    let repository = repo.config().repository;
    let verified = open_pack(id, &bytes, repository, keys.reader.as_ref(), None).and_then(|fact| {
        verify_chunks(&fact, &bytes, &keys.ids, |chunk| {
            Err(Error::ChunkCorrupt { chunk, pack: id })
        })?;
        Ok(sha256(&fact.encode()))
    });
    Ok(match verified {
        Ok(claim) => Found::Whole(claim),
        Err(error) => Found::Damaged(error_chain(&error)),
    })
}
