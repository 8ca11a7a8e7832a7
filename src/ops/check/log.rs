//! The first step: what says who may read, and what there is.

use super::Check;
use super::sweep::{BATCH, Job, each_page, sweep};
use crate::base::{Kind, RecordId};
use crate::codec::hash::sha256;
use crate::format::config::Config;
use crate::format::fact::Fact;
use crate::format::names;
use crate::format::record::RECORD_BYTES_MAX;
use crate::ops::Result;
use crate::ops::error::chain;
use crate::repo::log::{ChainGap, chain_gaps};
use crate::repo::{Error, keyring, repository};
use crate::store;

const UNKNOWN: &str = "what it says is not known: snapshots of it are not shown, and packs of it \
                       seem to be nobody's";

impl Check<'_> {
    /// Looks at everything but packs.
    pub(super) fn log(&mut self) -> Result<()> {
        self.progress.enter("checking the log");
        self.keys()?;
        self.records()?;
        let synced = self.repo.sync(true)?;
        for (object, why) in synced.problems {
            let record = names::parse_record(&object).is_some();
            let cost = if record && synced.lost.as_ref() != Some(&object) {
                format!("; {UNKNOWN}")
            } else {
                String::new()
            };
            self.damaged(object, format!("{why}{cost}"))?;
        }
        for record in self.survey.missing_records()? {
            let why = "it was read before and is gone; a machine that has not read it does not \
                       know what it says";
            self.damaged(format!("record {record}"), why)?;
        }
        self.chains()?;
        self.report.records = self.repo.index().counts()?.0;
        Ok(())
    }

    fn keys(&self) -> Result<()> {
        let (known, before) = (self.repo.config(), self.repo.config_bytes());
        match repository::read_config(self.repo.store().as_ref()) {
            Ok((_, bytes)) if bytes == before => {}
            // It was upgraded meanwhile.
            Ok((config, bytes))
                if config.asof > known.asof
                    && Config::identity(&bytes) == Config::identity(before) => {}
            Ok(_) => {
                let why = "it is not what it was, although only its version ever changes";
                self.damaged(names::CONFIG, why)?;
            }
            Err(error @ Error::NoRepository { .. }) => return Err(error.into()),
            Err(error) if error.kind() == Kind::Damaged => {
                self.damaged(names::CONFIG, chain(&error))?;
            }
            Err(error) => return Err(error.into()),
        }
        for key in keyring::list(self.repo.store().as_ref())? {
            let name = names::key(key.id);
            match key.file {
                Ok(file) if file.repository == self.repo.config().repository => {}
                Ok(_) => drop(self.damaged(name, "it is a key of another repository")?),
                Err(error) => drop(self.damaged(name, chain(&error))?),
            }
        }
        Ok(())
    }

    /// Compares every record that was read before with its name; those that were not are
    /// read by the sync that follows.
    fn records(&self) -> Result<()> {
        let store = self.repo.store().as_ref();
        each_page(store, names::LOG, |page| {
            let mut jobs: Vec<(RecordId, Job)> = Vec::new();
            for object in page.objects {
                let Some((_, id)) = names::parse_record(&object.key) else { continue };
                if self.survey.list_record(&id)? {
                    let (name, size) = (object.key, object.size);
                    jobs.push((id, Job { name, size, most: RECORD_BYTES_MAX }));
                }
            }
            for batch in jobs.chunks(BATCH) {
                let (ids, jobs): (Vec<RecordId>, Vec<Job>) = batch.iter().cloned().unzip();
                let same = |at: usize, _: &Job, read: store::Result<bytes::Bytes>| {
                    read.map(|bytes| sha256(&bytes) == ids[at].0)
                };
                for (at, same) in sweep(store, &jobs, self.stop, same)? {
                    let why = match same {
                        Ok(true) => continue,
                        Ok(false) => "its bytes are not what its name says".to_owned(),
                        Err(error) if error.kind == Kind::Damaged => chain(&error),
                        // A collector removed it: then a checkpoint stands for it.
                        Err(error) if error.kind == Kind::NotFound => {
                            self.survey.unlist_record(&ids[at])?;
                            continue;
                        }
                        Err(error) => return Err(error.into()),
                    };
                    let cost = "this machine read it when it was whole, another cannot";
                    self.damaged(&jobs[at].name, format!("{why}; {cost}"))?;
                }
                self.go_on()?;
            }
            Ok(())
        })
    }

    fn chains(&mut self) -> Result<()> {
        for (id, gap) in chain_gaps(self.repo)? {
            let name = format!("chain {}", hex::encode(id.0));
            match gap {
                ChainGap::Missing { from, upto } => {
                    let which = match upto - from {
                        1 => format!("its record {from} is"),
                        _ => format!("its records {from} to {} are", upto - 1),
                    };
                    self.damaged(name, format!("{which} not in the log, or unreadable"))?;
                }
                ChainGap::Severed { number, .. } => {
                    let why = format!("its record {number} does not follow the one before it");
                    self.damaged(name, why)?;
                }
                // A put whose reply was lost leaves the same; nothing is lost by it.
                ChainGap::Fork { number, records } => self.report.remarks.push(format!(
                    "{name}: it has {} records of number {number}: was a machine copied, or its \
                     key stolen?",
                    records.len()
                )),
            }
        }
        Ok(())
    }

    /// Checks that what checkpoints stand for can be read by who has read nothing else.
    pub(super) fn checkpoints(&self) -> Result<()> {
        self.each_fact(|check, refs, fact| {
            if matches!(fact, Fact::Checkpoint(_)) {
                for id in refs {
                    if check.load(&id)?.is_err() {
                        let why = "a machine that has read nothing else does not learn what it \
                                   stands for";
                        check.damaged(format!("the checkpoint at chunk {id}"), why)?;
                    }
                }
            }
            Ok(())
        })
    }

    fn each_fact(
        &self,
        mut each: impl FnMut(&Self, Vec<crate::base::ChunkId>, Fact) -> Result<()>,
    ) -> Result<()> {
        for (_, bytes) in self.repo.index().other_facts()? {
            // It was decoded when it was folded.
            if let Ok((refs, fact)) = Fact::decode(&bytes) {
                each(self, refs, fact)?;
            }
        }
        Ok(())
    }
}
