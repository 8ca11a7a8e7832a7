//! The configuration file.
//!
//! ```toml
//! default_profile = "home"
//!
//! [profiles.home]                     # where a repository is and how to open it
//! repository = "s3://bucket/prefix"   # or a directory
//! password_command = "pass show asof" # or password_file = "~/.asof-password"
//! writer_key = "~/.config/asof/web1.key"
//! cache_dir = "$XDG_CACHE_HOME/asof"
//! cache_size = "10G"
//! timezone = "Europe/Berlin"
//!
//! [profiles.home.s3]
//! endpoint = "https://s3.example.org"
//! path_style = true
//!
//! [profiles.home.limits]              # bytes per second
//! upload = "5M"
//!
//! [sources.web1-etc]                  # what `asof backup web1-etc` backs up
//! paths = ["/etc", "/srv"]
//! exclude = ["*.tmp"]
//! exclude_caches = true
//!
//! [sources.shop]                      # what `asof follow shop` follows
//! url = "sqlite:/srv/shop/kv.db"
//! interval = "1s"                     # how often it is published
//! spool_limit = "1G"                  # how much waits here while it cannot be
//!
//! [retention]                         # what `asof forget` keeps of every source
//! keep_within = "3d"
//! keep_daily = 14
//! keep_tag = ["release"]
//!
//! [retention.sources.web1-etc]        # what it keeps of this one instead
//! keep_monthly = 24
//! ```
//!
//! A profile's own `[profiles.home.retention]`, with its own `sources`, holds instead of
//! all of `[retention]`.
//!
//! **Where it is.** `--config`, else `ASOF_CONFIG`, else
//! `$XDG_CONFIG_HOME/asof/config.toml` (`~/.config/asof/config.toml`), else, for root,
//! `/etc/asof/config.toml`. Just one file is read. A file that was named must exist;
//! without a name, having none is fine.
//!
//! **What wins.** Option, then environment, then profile, then default:
//! [`Profile::over`]. The profile is the one of `--profile` or `ASOF_PROFILE`, else the
//! source's own, else `default_profile`, else the only one there is, else an empty one.
//!
//! **Paths** may begin with `~/` and may hold `$NAME` or `${NAME}` (`$$` is a dollar
//! sign); relative ones are relative to the file's own directory, so that they mean the
//! same wherever asof is started. Commands are left to the shell, patterns as they are.
//!
//! A key that asof does not know is an error, not a comment: a misspelt `exclude` would
//! otherwise be noticed when the disk is full. The file can name commands that are run,
//! so one that anybody may write to is refused.
//!
//! **Who writes it.** People, and [`define_source`] and [`remove_source`], which change the
//! one table that they are asked to.

mod edit;
mod error;
mod expand;
mod profile;
mod source;
pub mod url;
pub(super) mod values;
mod write;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use self::error::ConfigError;
use self::expand::Expander;
pub use self::profile::{Limits, Profile, S3Config};
pub use self::source::{KindWord, SourceConfig, SourceKind, SourceTable, StreamOptions, ThinSpans};
pub use self::values::Size;
pub use self::write::{Change, define_source, remove_source};
use crate::cli::env::Env;
use crate::cli::keep::Keep;
use crate::view::Zone;

/// What the configuration file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The file it came from; `None` if there is none.
    pub path: Option<PathBuf>,
    /// The profile that is used when none is named.
    pub default_profile: Option<String>,
    /// Repositories and how to open them.
    pub profiles: BTreeMap<String, Profile>,
    /// What is backed up or followed, by name.
    pub sources: BTreeMap<String, SourceConfig>,
    /// What `forget` keeps, where a profile does not say.
    pub retention: Option<Keep>,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    default_profile: Option<String>,
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
    #[serde(default)]
    sources: BTreeMap<String, SourceTable>,
    retention: Option<Keep>,
}

impl Config {
    /// Finds the configuration file and reads it; an empty one if there is none.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], which names the file, and the line and key where there is one.
    pub fn load(option: Option<&Path>, env: &Env) -> Result<Config, ConfigError> {
        let root = rustix::process::geteuid().is_root();
        if let Some(named) = named(option, env) {
            return Config::read(&named, env);
        }
        for path in candidates(env, root) {
            match Config::read(&path, env) {
                Err(ConfigError::Missing { .. }) => {}
                other => return other,
            }
        }
        Ok(Config::default())
    }

    /// Reads one file.
    fn read(path: &Path, env: &Env) -> Result<Config, ConfigError> {
        Config::parse(&read_text(path)?, path, env)
    }

    /// Reads the text of a file that is at `path`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], which names the file, the line and the key.
    pub fn parse(text: &str, path: &Path, env: &Env) -> Result<Config, ConfigError> {
        let written: Written =
            toml::from_str(text).map_err(|error| error::syntax(path, text, error))?;
        let to = Expander::new(path, env);
        let sources = written.sources.into_iter().map(|(name, table)| {
            let source = table.settle(&name, &to)?;
            Ok((name, source))
        });
        let mut config = Config {
            path: Some(path.to_owned()),
            default_profile: written.default_profile,
            profiles: written.profiles,
            sources: sources.collect::<Result<_, ConfigError>>()?,
            retention: written.retention,
        };
        config.expand_profiles(&to)?;
        config.check(path)?;
        Ok(config)
    }

    /// The file to write to: the one that was read, else the one that is named, else where
    /// it is looked for first.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoPlace`] if there is no home for it.
    pub fn path_to_write(&self, option: Option<&Path>, env: &Env) -> Result<PathBuf, ConfigError> {
        let root = rustix::process::geteuid().is_root();
        let path = self.path.clone().or_else(|| named(option, env));
        path.or_else(|| candidates(env, root).into_iter().next()).ok_or(ConfigError::NoPlace)
    }

    /// The profile to use; see the module's head for which. An empty one if there is none.
    ///
    /// `named` is what the option or the environment says, `source` the name of the
    /// source that is being backed up.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoProfile`] if one was named that does not exist.
    pub fn profile(
        &self,
        named: Option<&str>,
        source: Option<&str>,
    ) -> Result<Profile, ConfigError> {
        match self.profile_name(named, source) {
            Some(name) => self.profiles.get(name).cloned().ok_or_else(|| self.no_profile(name)),
            None => Ok(Profile::default()),
        }
    }

    /// The name of the profile to use, which may not exist; none for an empty one.
    #[must_use]
    pub fn profile_name<'a>(
        &'a self,
        named: Option<&'a str>,
        source: Option<&str>,
    ) -> Option<&'a str> {
        let of_source = source.and_then(|name| self.sources.get(name)?.profile.as_deref());
        let only = || self.profiles.keys().next().filter(|_| self.profiles.len() == 1);
        let named = named.or(of_source).or(self.default_profile.as_deref());
        named.or_else(|| only().map(String::as_str))
    }

    /// The definition of a source.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoSource`] if there is none of that name.
    pub fn source(&self, name: &str) -> Result<&SourceConfig, ConfigError> {
        self.sources.get(name).ok_or_else(|| ConfigError::NoSource {
            file: error::file_of(self.path.as_deref()),
            name: name.to_owned(),
            hint: error::hint(name, self.sources.keys().map(String::as_str)),
        })
    }

    /// The definition of a source that can only be one of the file, and no path.
    ///
    /// # Errors
    ///
    /// [`ConfigError::UnknownSource`], which names those that there are.
    pub fn defined_source(&self, name: &str) -> Result<&SourceConfig, ConfigError> {
        self.sources.get(name).ok_or_else(|| ConfigError::UnknownSource {
            file: error::file_of(self.path.as_deref()),
            name: name.to_owned(),
            known: self.sources.keys().cloned().collect(),
            hint: error::hint(name, self.sources.keys().map(String::as_str)),
        })
    }

    fn no_profile(&self, name: &str) -> ConfigError {
        ConfigError::NoProfile {
            file: error::file_of(self.path.as_deref()),
            name: name.to_owned(),
            hint: error::hint(name, self.profiles.keys().map(String::as_str)),
        }
    }

    fn expand_profiles(&mut self, to: &Expander<'_>) -> Result<(), ConfigError> {
        for (name, profile) in &mut self.profiles {
            let key = |field: &str| format!("profiles.{name}.{field}");
            if let Some(repository) = &mut profile.repository {
                *repository = to.location(repository, &key("repository"))?;
            }
            for (path, field) in [
                (&mut profile.password_file, "password_file"),
                (&mut profile.writer_key, "writer_key"),
                (&mut profile.cache_dir, "cache_dir"),
            ] {
                if let Some(path) = path {
                    *path = to.path(path, &key(field))?;
                }
            }
        }
        Ok(())
    }

    /// What the types cannot say: that names are good and lead somewhere.
    fn check(&self, file: &Path) -> Result<(), ConfigError> {
        let wrong = |key: String, message: String| ConfigError::Value {
            path: file.to_owned(),
            key,
            message,
        };
        if let Some(name) = &self.default_profile
            && !self.profiles.contains_key(name)
        {
            return Err(self.no_profile(name));
        }
        let of_profiles = self.profiles.iter().filter_map(|(name, profile)| {
            Some((format!("profiles.{name}.retention"), profile.retention.as_ref()?))
        });
        let own = self.retention.as_ref().map(|own| ("retention".to_owned(), own));
        for (key, retention) in own.into_iter().chain(of_profiles) {
            retention.check(&key).map_err(|(key, message)| wrong(key, message))?;
        }
        for (name, profile) in &self.profiles {
            if let Some(zone) = &profile.timezone
                && let Err(error) = Zone::parse(zone)
            {
                return Err(wrong(format!("profiles.{name}.timezone"), error.to_string()));
            }
        }
        for source in self.sources.values() {
            if let Some(profile) = &source.profile
                && !self.profiles.contains_key(profile)
            {
                return Err(self.no_profile(profile));
            }
        }
        Ok(())
    }
}

/// Reads a file's text, if nobody else could have written it.
fn read_text(path: &Path) -> Result<String, ConfigError> {
    let at = || path.to_owned();
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => ConfigError::Missing { path: at() },
        _ => ConfigError::Read { path: at(), source },
    };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o002 != 0 && mode & 0o170_000 == 0o100_000 {
        return Err(ConfigError::WritableByAll { path: at() });
    }
    Ok(text)
}

/// The file that the option or the environment names.
fn named(option: Option<&Path>, env: &Env) -> Option<PathBuf> {
    option.map(Path::to_owned).or_else(|| env.path("ASOF_CONFIG"))
}

/// Where a file that nobody named may be, best first.
fn candidates(env: &Env, root: bool) -> Vec<PathBuf> {
    let config = env
        .path("XDG_CONFIG_HOME")
        .filter(|dir| dir.is_absolute())
        .or_else(|| env.path("HOME").map(|home| home.join(".config")));
    let mut paths: Vec<PathBuf> =
        config.map(|dir| dir.join("asof/config.toml")).into_iter().collect();
    if root {
        paths.push(PathBuf::from("/etc/asof/config.toml"));
    }
    paths
}

#[cfg(test)]
mod tests;
