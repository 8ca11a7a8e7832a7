//! What `forget` keeps, as the command line and the configuration file say it: one set of
//! rules, so that neither knows one that the other does not.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::base::check_source_name;
use crate::cli::args::duration;
use crate::cli::config::values;
use crate::ops::forget::{Policies, Policy};
use crate::view::selector::IdPrefix;

/// What to keep.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize)]
#[group(id = "Keep", multiple = true)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// The newest N, and of the newest N hours that have one the last
    #[arg(long, value_name = "N", help_heading = KEEP)]
    pub keep_last: Option<NonZeroU32>,
    /// The last of each hour, of the newest N that have one
    #[arg(long, value_name = "N", help_heading = KEEP)]
    pub keep_hourly: Option<NonZeroU32>,
    /// The last of each day, of the newest N that have one
    #[arg(long, value_name = "N", help_heading = KEEP)]
    pub keep_daily: Option<NonZeroU32>,
    /// The last of each week
    #[arg(long, value_name = "N", help_heading = KEEP)]
    pub keep_weekly: Option<NonZeroU32>,
    /// The last of each month
    #[arg(long, value_name = "N", help_heading = KEEP)]
    pub keep_monthly: Option<NonZeroU32>,
    /// The last of each year
    #[arg(long, value_name = "N", help_heading = KEEP)]
    pub keep_yearly: Option<NonZeroU32>,
    /// All that were received not longer than this before the newest, as 36h, 30d or 26w
    #[arg(long, value_name = "DURATION", value_parser = duration(), help_heading = KEEP)]
    #[serde(default, deserialize_with = "values::span")]
    pub keep_within: Option<Duration>,
    /// All with this tag; may be given several times
    #[arg(long, value_name = "TAG", help_heading = KEEP)]
    #[serde(default, deserialize_with = "values::one_or_many")]
    pub keep_tag: Vec<String>,
    /// The snapshot whose id begins so; may be given several times
    #[arg(long, value_name = "PREFIX", help_heading = KEEP)]
    #[serde(skip)]
    pub keep_id: Vec<IdPrefix>,
    /// The rules for single sources, which hold instead of these
    #[arg(skip)]
    #[serde(default)]
    pub sources: BTreeMap<String, Keep>,
}

const KEEP: &str = "Keep";

impl Keep {
    /// What the types cannot say. A mistake is told with its key; `key` is the table's own.
    pub(in crate::cli) fn check(&self, key: &str) -> Result<(), (String, String)> {
        if *self == Keep::default() {
            let message = "keeps nothing: write what to keep, as keep_daily = 7, or leave it out";
            return Err((key.to_owned(), message.to_owned()));
        }
        for (name, own) in &self.sources {
            let key = format!("{key}.sources.{name}");
            if let Err(error) = check_source_name(name) {
                return Err((key, error.to_string()));
            }
            if !own.sources.is_empty() {
                let message = "makes no sense: a source has no sources";
                return Err((format!("{key}.sources"), message.to_owned()));
            }
            own.check(&key)?;
        }
        Ok(())
    }

    /// The rules as `forget` takes them.
    pub(in crate::cli) fn policies(&self) -> Policies {
        Policies {
            default: Some(self.policy()).filter(|policy| !policy.is_empty()),
            sources: self.sources.iter().map(|(name, own)| (name.clone(), own.policy())).collect(),
        }
    }

    fn policy(&self) -> Policy {
        Policy {
            last: self.keep_last,
            hourly: self.keep_hourly,
            daily: self.keep_daily,
            weekly: self.keep_weekly,
            monthly: self.keep_monthly,
            yearly: self.keep_yearly,
            within: self.keep_within,
            tags: self.keep_tag.clone(),
            ids: self.keep_id.clone(),
        }
    }
}
