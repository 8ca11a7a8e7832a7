//! A source: what it is, and how it is backed up or followed.
//!
//! The file's own keys are a [`SourceTable`], in which anything may be missing and keys
//! may contradict each other; [`SourceTable::settle`] makes a [`SourceConfig`] of it, which
//! is of one kind and has nothing that this kind has no use for.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::error::ConfigError;
use super::expand::Expander;
use super::url::SourceUrl;
use super::values::{self, Size};
use crate::base::check_source_name;
use crate::base::units::{write_duration, write_size};

/// A source and how it is backed up or followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceConfig {
    /// What it is and where.
    pub kind: SourceKind,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Files that hold such patterns.
    pub exclude_file: Vec<PathBuf>,
    /// Leave out directories that hold a file of one of these names.
    pub exclude_if_present: Vec<String>,
    /// Leave out directories that are marked as caches.
    pub exclude_caches: bool,
    /// Leave out larger files.
    pub exclude_larger_than: Option<Size>,
    /// Do not cross into other file systems.
    pub one_file_system: bool,
    /// Make no snapshot if nothing changed.
    pub skip_if_unchanged: bool,
    /// How it is followed, if it is of a kind that can be.
    pub stream: StreamOptions,
    /// Words to find its snapshots by.
    pub tags: Vec<String>,
    /// The host's name, if not the machine's own.
    pub host: Option<String>,
    /// The profile of the repository that it is backed up to.
    pub profile: Option<String>,
}

/// What a source is, and where. Every path is absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// Directories and files, of which `asof backup` takes snapshots.
    Directory {
        /// At least one, if it comes from a configuration file.
        paths: Vec<PathBuf>,
    },
    /// A SQLite database, which `asof follow` follows.
    Sqlite {
        /// The database's file.
        path: PathBuf,
    },
}

impl Default for SourceKind {
    /// No directory at all: what a source is that only the command line describes.
    fn default() -> SourceKind {
        SourceKind::Directory { paths: Vec::new() }
    }
}

impl SourceKind {
    /// The kind in one word, as `kind` in the file.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            SourceKind::Directory { .. } => "directory",
            SourceKind::Sqlite { .. } => "sqlite",
        }
    }

    /// Where it is, as `asof source add` takes it.
    #[must_use]
    pub fn urls(&self) -> Vec<SourceUrl> {
        // They come from a file, which is text.
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        match self {
            SourceKind::Directory { paths } => {
                paths.iter().map(|path| SourceUrl::Directory(text(path))).collect()
            }
            SourceKind::Sqlite { path } => vec![SourceUrl::Sqlite(text(path))],
        }
    }
}

/// How a source is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOptions {
    /// How often what was captured is published to the repository.
    pub interval: Duration,
    /// How many bytes wait on this machine at most while they cannot be published.
    pub spool_limit: u64,
    /// Whether what was captured is flushed to this machine's disk at once, and survives a
    /// power failure before it is published.
    pub sync: bool,
    /// What `asof thin` keeps, where that is said.
    pub thin: ThinSpans,
}

/// For how long what is kept of a followed source; `asof thin` says what each means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThinSpans {
    /// Every transaction.
    pub all_for: Option<Duration>,
    /// The last of each hour.
    pub hourly_for: Option<Duration>,
    /// The last of each day.
    pub daily_for: Option<Duration>,
}

impl ThinSpans {
    /// These, and where nothing is said those.
    #[must_use]
    pub fn over(self, other: ThinSpans) -> ThinSpans {
        ThinSpans {
            all_for: self.all_for.or(other.all_for),
            hourly_for: self.hourly_for.or(other.hourly_for),
            daily_for: self.daily_for.or(other.daily_for),
        }
    }
}

impl Default for StreamOptions {
    fn default() -> StreamOptions {
        StreamOptions {
            interval: Duration::from_secs(1),
            spool_limit: 1 << 30,
            sync: false,
            thin: ThinSpans::default(),
        }
    }
}

impl StreamOptions {
    /// The shortest interval. A record is some 500 bytes and two requests, so ten a second
    /// are what a bucket can be asked to take for long.
    pub const INTERVAL_MIN: Duration = Duration::from_millis(100);
    /// The longest interval: beyond it a snapshot now and then does as well.
    pub const INTERVAL_MAX: Duration = Duration::from_hours(24);
    /// The smallest spool: below it a single transaction of some size would not fit.
    pub const SPOOL_LIMIT_MIN: u64 = 1 << 20;
}

/// A `[sources.NAME]` table as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceTable {
    /// What kind of thing it is, if that is said.
    pub kind: Option<KindWord>,
    /// Where it is; see [`SourceUrl`].
    pub url: Option<String>,
    /// The directories, of a source of that kind.
    #[serde(default)]
    pub paths: Vec<PathBuf>,
    /// As in [`SourceConfig`], and so are the others.
    #[serde(default, deserialize_with = "values::one_or_many")]
    pub exclude: Vec<String>,
    /// Files that hold patterns.
    #[serde(default, deserialize_with = "values::one_or_many")]
    pub exclude_file: Vec<PathBuf>,
    /// Names of files that mark directories.
    #[serde(default, deserialize_with = "values::one_or_many")]
    pub exclude_if_present: Vec<String>,
    /// Whether caches are left out.
    #[serde(default)]
    pub exclude_caches: bool,
    /// The size of the largest file.
    pub exclude_larger_than: Option<Size>,
    /// Whether other file systems are left out.
    #[serde(default)]
    pub one_file_system: bool,
    /// Whether there is no snapshot if nothing changed.
    #[serde(default)]
    pub skip_if_unchanged: bool,
    /// How often it is published.
    #[serde(default, deserialize_with = "values::span")]
    pub interval: Option<Duration>,
    /// How much waits to be published.
    pub spool_limit: Option<Size>,
    /// Whether it is flushed to the disk at once.
    pub sync: Option<bool>,
    /// For how long every transaction is kept.
    #[serde(default, deserialize_with = "values::span")]
    pub all_for: Option<Duration>,
    /// For how long the last of each hour is.
    #[serde(default, deserialize_with = "values::span")]
    pub hourly_for: Option<Duration>,
    /// For how long the last of each day is.
    #[serde(default, deserialize_with = "values::span")]
    pub daily_for: Option<Duration>,
    /// Words to find its snapshots by.
    #[serde(default, deserialize_with = "values::one_or_many")]
    pub tags: Vec<String>,
    /// The host's name.
    pub host: Option<String>,
    /// The profile.
    pub profile: Option<String>,
}

/// A kind of source, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KindWord {
    /// Directories and files.
    Directory,
    /// A SQLite database.
    Sqlite,
}

impl SourceTable {
    /// Makes a source of it. `name` is what it is called in the file.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Value`] with the key that is missing, wrong, or of another kind.
    pub(super) fn settle(
        mut self,
        name: &str,
        to: &Expander<'_>,
    ) -> Result<SourceConfig, ConfigError> {
        let key = |field: &str| format!("sources.{name}.{field}");
        if let Err(error) = check_source_name(name) {
            return Err(to.wrong(&format!("sources.{name}"), error.to_string()));
        }
        let kind = self.what(&key, to)?;
        self.check_fields(&kind, &key, to)?;
        for path in &mut self.exclude_file {
            *path = to.path(path, &key("exclude_file"))?;
        }
        let default = StreamOptions::default();
        let stream = StreamOptions {
            interval: self.interval.unwrap_or(default.interval),
            spool_limit: self.spool_limit.map_or(default.spool_limit, |size| size.0),
            sync: self.sync.unwrap_or(default.sync),
            thin: ThinSpans {
                all_for: self.all_for,
                hourly_for: self.hourly_for,
                daily_for: self.daily_for,
            },
        };
        let (min, max) = (StreamOptions::INTERVAL_MIN, StreamOptions::INTERVAL_MAX);
        if !(min..=max).contains(&stream.interval) {
            let (min, max) = (write_duration(min), write_duration(max));
            return Err(to.wrong(&key("interval"), format!("must be from {min} to {max}")));
        }
        if stream.spool_limit < StreamOptions::SPOOL_LIMIT_MIN {
            let min = write_size(StreamOptions::SPOOL_LIMIT_MIN);
            return Err(to.wrong(&key("spool_limit"), format!("must be at least {min}")));
        }
        Ok(SourceConfig {
            kind,
            exclude: self.exclude,
            exclude_file: self.exclude_file,
            exclude_if_present: self.exclude_if_present,
            exclude_caches: self.exclude_caches,
            exclude_larger_than: self.exclude_larger_than,
            one_file_system: self.one_file_system,
            skip_if_unchanged: self.skip_if_unchanged,
            stream,
            tags: self.tags,
            host: self.host,
            profile: self.profile,
        })
    }

    /// What it is and where, by `url` or by `paths`.
    fn what(
        &self,
        key: &impl Fn(&str) -> String,
        to: &Expander<'_>,
    ) -> Result<SourceKind, ConfigError> {
        let kind = match &self.url {
            Some(_) if !self.paths.is_empty() => {
                let message = "and `paths` both say where the source is; leave one out";
                return Err(to.wrong(&key("url"), message.to_owned()));
            }
            Some(url) => {
                let wrong = |error: super::url::NotASourceUrl| {
                    to.wrong(&key("url"), format!("cannot be used: {error}"))
                };
                let url = SourceUrl::parse(url).map_err(wrong)?;
                let path = to.path(url.path().as_ref(), &key("url"))?;
                match url {
                    SourceUrl::Directory(_) => SourceKind::Directory { paths: vec![path] },
                    SourceUrl::Sqlite(_) => SourceKind::Sqlite { path },
                }
            }
            None if self.kind == Some(KindWord::Sqlite) => {
                let message = "is missing: write where the database is, as \"sqlite:/srv/kv.db\"";
                return Err(to.wrong(&key("url"), message.to_owned()));
            }
            None if self.paths.is_empty() => {
                let message = "is missing: a directory source needs at least one path";
                return Err(to.wrong(&key("paths"), message.to_owned()));
            }
            None => {
                let paths = self.paths.iter().map(|path| to.path(path, &key("paths")));
                SourceKind::Directory { paths: paths.collect::<Result<_, _>>()? }
            }
        };
        match (self.kind, &kind) {
            (Some(KindWord::Directory), SourceKind::Sqlite { .. })
            | (Some(KindWord::Sqlite), SourceKind::Directory { .. }) => {
                let message = format!("is another than `url` says, which is {}", kind.word());
                Err(to.wrong(&key("kind"), message))
            }
            _ => Ok(kind),
        }
    }

    /// That nothing is said which the kind has no use for.
    fn check_fields(
        &self,
        kind: &SourceKind,
        key: &impl Fn(&str) -> String,
        to: &Expander<'_>,
    ) -> Result<(), ConfigError> {
        let (given, why): (&[(&str, bool)], _) = match kind {
            SourceKind::Directory { .. } => (
                &[
                    ("interval", self.interval.is_some()),
                    ("spool_limit", self.spool_limit.is_some()),
                    ("sync", self.sync.is_some()),
                    ("all_for", self.all_for.is_some()),
                    ("hourly_for", self.hourly_for.is_some()),
                    ("daily_for", self.daily_for.is_some()),
                ],
                "is for databases, which are followed; a directory is backed up when asked to",
            ),
            SourceKind::Sqlite { .. } => (
                &[
                    ("exclude", !self.exclude.is_empty()),
                    ("exclude_file", !self.exclude_file.is_empty()),
                    ("exclude_if_present", !self.exclude_if_present.is_empty()),
                    ("exclude_caches", self.exclude_caches),
                    ("exclude_larger_than", self.exclude_larger_than.is_some()),
                    ("one_file_system", self.one_file_system),
                    ("skip_if_unchanged", self.skip_if_unchanged),
                ],
                "is for directories; of a database everything is stored",
            ),
        };
        match given.iter().find(|(_, given)| *given) {
            Some((field, _)) => Err(to.wrong(&key(field), why.to_owned())),
            None => Ok(()),
        }
    }
}
