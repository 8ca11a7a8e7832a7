//! `check --store-only`: every object against its name, without any key.
//!
//! Names are hashes of bytes, so whoever can read the store can say whether an object
//! is what was put there: the machine that holds the disks, with no secret on it. What
//! is missing it cannot tell. Objects are read four at a time and dropped, of those
//! above 32 MiB one at a time.

use std::sync::atomic::Ordering;

use serde::Serialize;

use crate::base::progress::Problem;
use crate::base::{Kind, Progress, Stop, error_chain};
use crate::format::keyfile::KEY_BYTES_MAX;
use crate::format::names;
use crate::format::pack::PACK_BYTES_MAX;
use crate::format::record::RECORD_BYTES_MAX;
use crate::ops::Result;
use crate::ops::sweep::{Job, Verdict, compare, each_page};
use crate::repo::repository;
use crate::store::Store;

/// What a check of the store alone found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StoreReport {
    /// Objects that were compared with their names, `asof.json` among them.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Key files among them.
    pub keys: u64,
    /// Records among them.
    pub records: u64,
    /// Packs among them.
    pub packs: u64,
    /// How many are damaged.
    pub damaged_objects: u64,
    /// The first of them.
    pub damaged: Vec<Problem>,
    /// Objects whose names mean nothing: how many.
    pub strays: u64,
    /// The first of them.
    pub stray_names: Vec<String>,
}

/// How many damaged objects are told of one by one.
const DAMAGED_SHOWN: usize = 1000;
/// How many strays are named.
const STRAYS_SHOWN: usize = 20;

/// Compares every object of a store with its name. Damage is no error.
///
/// Costs a LIST of everything, and a GET of each object.
///
/// # Errors
///
/// [`crate::repo::Error::NoRepository`] if there is no `asof.json`; if the store does not
/// answer, or it was asked to stop.
pub fn check_store(store: &dyn Store, progress: &Progress, stop: &Stop) -> Result<StoreReport> {
    progress.enter("reading objects");
    let mut report = StoreReport { objects: 1, ..StoreReport::default() };
    match repository::read_config(store) {
        Ok((_, bytes)) => report.bytes += bytes.len() as u64,
        Err(error) if error.kind() == Kind::Damaged => {
            report.damaged(progress, names::CONFIG, error_chain(&error));
        }
        Err(error) => return Err(error.into()),
    }
    each_page(store, "", |page| {
        let mut jobs: Vec<(Job, [u8; 32])> = Vec::new();
        for object in page.objects {
            let name = object.key;
            if matches!(name.as_str(), names::CONFIG | names::UPGRADE) {
                continue;
            }
            let Some((hash, most)) = report.class(&name) else {
                report.strays += 1;
                if report.stray_names.len() < STRAYS_SHOWN {
                    report.stray_names.push(name);
                }
                continue;
            };
            jobs.push((Job { name, size: object.size, most }, hash));
        }
        compare(store, &jobs, stop, |job, verdict| {
            progress.files.fetch_add(1, Ordering::Relaxed);
            progress.bytes.fetch_add(job.size, Ordering::Relaxed);
            report.objects += 1;
            report.bytes += job.size;
            match verdict {
                Verdict::Wrong(why) => report.damaged(progress, &job.name, why),
                // A collector, or whoever removes a key, may do so at any time.
                Verdict::Same | Verdict::Gone => {}
            }
            Ok(())
        })
    })?;
    if report.keys == 0 {
        let why = "there is no key file: without a paper copy nobody can open the repository";
        report.damaged(progress, names::KEYS, why.to_owned());
    }
    Ok(report)
}

impl StoreReport {
    /// What an object's bytes must hash to and how many it may have, by its name.
    fn class(&mut self, name: &str) -> Option<([u8; 32], u64)> {
        if let Some(id) = names::parse_pack(name) {
            self.packs += 1;
            return Some((id.0, PACK_BYTES_MAX));
        }
        if let Some((_, id)) = names::parse_record(name) {
            self.records += 1;
            return Some((id.0, RECORD_BYTES_MAX));
        }
        let id = names::parse_key(name)?;
        self.keys += 1;
        Some((id.0, KEY_BYTES_MAX))
    }

    fn damaged(&mut self, progress: &Progress, name: &str, why: String) {
        self.damaged_objects += 1;
        progress.problem(name, &why);
        if self.damaged.len() < DAMAGED_SHOWN {
            self.damaged.push(Problem { subject: name.to_owned(), message: why });
        }
    }
}
