//! What `forget` keeps, as the configuration file says it.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::Deserialize;

use super::values::{self, Span};
use crate::base::check_source_name;

/// The rules for every source, and for single ones. They mean the same as the options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// As `--keep-last`.
    pub keep_last: Option<NonZeroU32>,
    /// As `--keep-hourly`.
    pub keep_hourly: Option<NonZeroU32>,
    /// As `--keep-daily`.
    pub keep_daily: Option<NonZeroU32>,
    /// As `--keep-weekly`.
    pub keep_weekly: Option<NonZeroU32>,
    /// As `--keep-monthly`.
    pub keep_monthly: Option<NonZeroU32>,
    /// As `--keep-yearly`.
    pub keep_yearly: Option<NonZeroU32>,
    /// As `--keep-within`.
    pub keep_within: Option<Span>,
    /// As `--keep-tag`.
    #[serde(default, deserialize_with = "values::one_or_many")]
    pub keep_tag: Vec<String>,
    /// The rules for single sources, which hold instead of these.
    #[serde(default)]
    pub sources: BTreeMap<String, Retention>,
}

impl Retention {
    /// What the types cannot say. A mistake is told with its key; `key` is the table's own.
    pub(super) fn check(&self, key: &str) -> Result<(), (String, String)> {
        if *self == Retention::default() {
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
}
