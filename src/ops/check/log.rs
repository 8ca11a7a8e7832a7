//! The first step: what says who may read, and what there is.

use super::Check;
use crate::base::{Kind, RecordId, UnixTime, error_chain};
use crate::format::config::Config;
use crate::format::fact::Fact;
use crate::format::names::{self, Hour};
use crate::format::record::RECORD_BYTES_MAX;
use crate::ops::Result;
use crate::ops::sweep::{Job, Verdict, compare, each_page};
use crate::repo::log::{ChainGap, chain_gaps};
use crate::repo::{Error, keyring, repository};

const UNKNOWN: &str = "what it says is not known: snapshots of it are not shown, and packs of it \
                       seem to be nobody's";

impl Check<'_> {
    /// Looks at everything but packs.
    pub(super) fn log(&mut self) -> Result<()> {
        self.progress.enter("checking the log");
        self.keys()?;
        let listed = self.records()?;
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
        for (record, receipt) in self.survey.missing_records()? {
            if receipt > listed && self.is_there(record, receipt)? {
                continue;
            }
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
                self.damaged(names::CONFIG, error_chain(&error))?;
            }
            Err(error) => return Err(error.into()),
        }
        for key in keyring::list(self.repo.store().as_ref())? {
            let name = names::key(key.id);
            match key.file {
                Ok(file) if file.repository == self.repo.config().repository => {}
                Ok(_) => drop(self.damaged(name, "it is a key of another repository")?),
                // Whoever removes a key may do so at any time.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => drop(self.damaged(name, error_chain(&error))?),
            }
        }
        Ok(())
    }

    /// Compares every record that was read before with its name; those that were not are
    /// read by the sync that follows. Returns up to which receipt the listing must show
    /// everything.
    fn records(&self) -> Result<i64> {
        let store = self.repo.store().as_ref();
        let mut begun = None;
        each_page(store, names::LOG, |page| {
            begun = begun.or(page.at);
            let mut jobs: Vec<(Job, [u8; 32])> = Vec::new();
            for object in page.objects {
                let Some((_, id)) = names::parse_record(&object.key) else { continue };
                if self.survey.list_record(&id)? {
                    let (name, size) = (object.key, object.size);
                    jobs.push((Job { name, size, most: RECORD_BYTES_MAX }, id.0));
                }
            }
            compare(store, &jobs, self.stop, |job, verdict| {
                match (verdict, names::parse_record(&job.name)) {
                    (Verdict::Wrong(why), _) => {
                        let cost = "this machine read it when it was whole, another cannot";
                        self.damaged(&job.name, format!("{why}; {cost}"))?;
                    }
                    // A collector removed it: then a checkpoint stands for it.
                    (Verdict::Gone, Some((_, id))) => self.survey.unlist_record(&id)?,
                    (Verdict::Same | Verdict::Gone, _) => {}
                }
                Ok(())
            })
        })?;
        let skew = self.repo.skew_seconds();
        Ok(begun.map_or(i64::MAX, |at| at.seconds.saturating_sub(skew)))
    }

    /// Whether a record is there that was not listed, since listings may miss what was put
    /// lately. Its name has an hour from which its receipt is not far.
    fn is_there(&self, record: RecordId, receipt: i64) -> Result<bool> {
        for hours in [0, -1, 1, -2, -3, -4] {
            let hour = Hour::of(UnixTime::new(receipt.saturating_add(hours * 3600), 0));
            match self.repo.store().get(&names::record(hour, record), RECORD_BYTES_MAX) {
                Ok(_) => return Ok(true),
                Err(error) if matches!(error.kind, Kind::NotFound | Kind::Damaged) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
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
        for (_, bytes) in self.repo.index().other_facts()? {
            // It was decoded when it was folded.
            let Ok((refs, Fact::Checkpoint(_))) = Fact::decode(&bytes) else { continue };
            for id in refs {
                if self.load(&id)?.is_err() {
                    let why = "a machine that has read nothing else does not learn what it \
                               stands for";
                    self.damaged(format!("the checkpoint at chunk {id}"), why)?;
                }
            }
        }
        Ok(())
    }
}
