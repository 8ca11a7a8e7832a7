//! The files under `.asof/`: how fresh the mount is, and what it has done.
//!
//! They are made when they are asked for. A reader asks for a file's size first
//! and reads afterwards, perhaps in several steps, so a text is held for a second,
//! and blanks at its end make all texts of about the same length equally long: a
//! number that has grown by a digit must not shift the end under a reader.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::base::UnixTime;
use crate::repo::library::KnownGap;
use crate::view::error::{Error, Reach, Result};
use crate::view::time_name::instant_name;

use super::Namespace;

/// How long a text is told before a new one is made.
const HELD: Duration = Duration::from_secs(1);
/// So many gaps of a source are told of, the newest.
const GAPS_MAX: usize = 16;
/// Texts are as long as a multiple of this. Bytes.
const STEP: usize = 1024;

/// Figures of whoever shows the namespace, by name.
pub type Figures = Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;

/// A file under `.asof/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    Status,
    Counters,
}

impl Report {
    pub(super) const ALL: [Report; 2] = [Report::Status, Report::Counters];

    pub(super) fn index(self) -> u64 {
        match self {
            Report::Status => 0,
            Report::Counters => 1,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Report::Status => "status.json",
            Report::Counters => "counters.json",
        }
    }

    pub(super) fn numbered(index: u64) -> Option<Report> {
        Report::ALL.into_iter().find(|report| report.index() == index)
    }

    pub(super) fn named(name: &[u8]) -> Option<Report> {
        Report::ALL.into_iter().find(|report| report.name().as_bytes() == name)
    }
}

type Text = (Arc<[u8]>, UnixTime);

/// What the reports tell of, besides the namespace itself.
pub(super) struct Reports {
    figures: Figures,
    held: Mutex<[Option<Text>; 2]>,
    freshness: Mutex<Freshness>,
}

struct Freshness {
    /// When the store was last asked, and answered.
    at: UnixTime,
    /// Why it did not, if it was asked since.
    failure: Option<String>,
}

impl Reports {
    pub(super) fn new(figures: Figures, now: UnixTime) -> Reports {
        let freshness = Mutex::new(Freshness { at: now, failure: None });
        Reports { figures, held: Mutex::default(), freshness }
    }

    pub(super) fn refreshed(&self, now: UnixTime, failure: Option<&Error>) {
        let mut freshness = self.freshness.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            None => *freshness = Freshness { at: now, failure: None },
            Some(error) => freshness.failure = Some(error.to_string()),
        }
    }

    pub(super) fn last_refresh(&self) -> UnixTime {
        self.freshness.lock().unwrap_or_else(PoisonError::into_inner).at
    }

    /// What a report says, and since when. Making a new one asks the library for its
    /// figures, which an event loop must not wait for.
    pub(super) fn text(&self, report: Report, namespace: &Namespace, reach: Reach) -> Result<Text> {
        let now = namespace.clock.now();
        let slot = usize::from(report == Report::Counters);
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner)[slot].clone();
        if let Some((text, made)) = held
            && made <= now
            && now.since(made) < HELD
        {
            return Ok((text, made));
        }
        if reach == Reach::Memory {
            return Err(Error::WouldBlock);
        }
        let value = match report {
            Report::Status => self.status(namespace, now)?,
            Report::Counters => self.counters(namespace),
        };
        let text: Text = (padded(&value).into(), now);
        self.held.lock().unwrap_or_else(PoisonError::into_inner)[slot] = Some(text.clone());
        Ok(text)
    }

    fn status(&self, namespace: &Namespace, now: UnixTime) -> Result<Value> {
        let state = namespace.whole(Reach::Store)?;
        let all = match state.has_streams() {
            true => namespace.library.snapshots()?,
            false => Vec::new(),
        };
        let freshness = self.freshness.lock().unwrap_or_else(PoisonError::into_inner);
        let sources = state.sources().filter_map(|source| {
            let line = state.timelines().of(source);
            let newest = line.last()?;
            let newest = json!({
                "id": newest.id,
                "time": newest.at(),
                "name": instant_name(newest.at()),
                "age_seconds": now.since(newest.at()).as_secs(),
            });
            let gaps = all.iter().filter(|info| info.snapshot.source == source);
            let gaps: Vec<KnownGap> = gaps.filter_map(|info| info.gap_before()).collect();
            Some(json!({
                "source": source,
                "snapshots": line.len(),
                "newest": newest,
                "newest_state": state.end_of(source).map(|end| json!({
                    "id": end.id,
                    "time": end.at(),
                    "name": instant_name(end.at()),
                })),
                "gaps": gaps.iter().rev().take(GAPS_MAX).collect::<Vec<_>>(),
            }))
        });
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "now": now,
            "zone": namespace.zone.name(),
            "last_refresh": freshness.at,
            "last_refresh_age_seconds": now.since(freshness.at).as_secs(),
            "refresh_failure": freshness.failure,
            "stored_bytes": namespace.totals(Reach::Store).ok().map(|(bytes, _)| bytes),
            "sources": sources.collect::<Vec<_>>(),
        }))
    }

    fn counters(&self, namespace: &Namespace) -> Value {
        let object = |figures: Vec<(&'static str, u64)>| {
            let pairs = figures.into_iter().map(|(name, n)| (name.to_owned(), Value::from(n)));
            Value::Object(pairs.collect::<Map<_, _>>())
        };
        json!({ "mount": object((self.figures)()), "repository": object(namespace.library.counters()) })
    }
}

/// JSON for people, as long as a multiple of [`STEP`].
fn padded(value: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    let length = (text.len() + 1).next_multiple_of(STEP);
    text.resize(length - 1, b' ');
    text.push(b'\n');
    text
}
