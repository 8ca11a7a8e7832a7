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

mod error;
mod expand;
mod profile;
pub(super) mod values;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use self::error::ConfigError;
use self::expand::Expander;
pub use self::profile::{Limits, Profile, S3Config};
pub use self::values::Size;
use crate::base::check_source_name;
use crate::cli::env::Env;
use crate::cli::keep::Keep;
use crate::view::Zone;

/// What the configuration file says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file it came from; `None` if there is none.
    #[serde(skip)]
    pub path: Option<PathBuf>,
    /// The profile that is used when none is named.
    pub default_profile: Option<String>,
    /// Repositories and how to open them.
    #[serde(default)]
    pub profiles: BTreeMap<String, Profile>,
    /// What is backed up, by name.
    #[serde(default)]
    pub sources: BTreeMap<String, SourceConfig>,
    /// What `forget` keeps, where a profile does not say.
    pub retention: Option<Keep>,
}

/// A source and how it is backed up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// What kind of thing it is.
    #[serde(default)]
    pub kind: SourceKind,
    /// The directories, of a source of that kind.
    #[serde(default)]
    pub paths: Vec<PathBuf>,
    /// Patterns of what is left out.
    #[serde(default, deserialize_with = "values::one_or_many")]
    pub exclude: Vec<String>,
    /// Files that hold such patterns.
    #[serde(default, deserialize_with = "values::one_or_many")]
    pub exclude_file: Vec<PathBuf>,
    /// Leave out directories that hold a file of one of these names.
    #[serde(default, deserialize_with = "values::one_or_many")]
    pub exclude_if_present: Vec<String>,
    /// Leave out directories that are marked as caches.
    #[serde(default)]
    pub exclude_caches: bool,
    /// Leave out larger files.
    pub exclude_larger_than: Option<Size>,
    /// Do not cross into other file systems.
    #[serde(default)]
    pub one_file_system: bool,
    /// Make no snapshot if nothing changed.
    #[serde(default)]
    pub skip_if_unchanged: bool,
    /// Words to find its snapshots by.
    #[serde(default, deserialize_with = "values::one_or_many")]
    pub tags: Vec<String>,
    /// The host's name, if not the machine's own.
    pub host: Option<String>,
    /// The profile of the repository that it is backed up to.
    pub profile: Option<String>,
}

/// What kind of thing a source is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// Directories and files.
    #[default]
    Directory,
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
        Config::parse(&text, path, env)
    }

    /// Reads the text of a file that is at `path`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], which names the file, the line and the key.
    pub fn parse(text: &str, path: &Path, env: &Env) -> Result<Config, ConfigError> {
        let mut config: Config =
            toml::from_str(text).map_err(|error| error::syntax(path, text, error))?;
        config.path = Some(path.to_owned());
        config.expand(path, env)?;
        config.check(path)?;
        Ok(config)
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
        let of_source = source.and_then(|name| self.sources.get(name)?.profile.as_deref());
        match named.or(of_source).or(self.default_profile.as_deref()) {
            Some(name) => self.profiles.get(name).cloned().ok_or_else(|| self.no_profile(name)),
            None if self.profiles.len() == 1 => {
                Ok(self.profiles.values().next().cloned().unwrap_or_default())
            }
            None => Ok(Profile::default()),
        }
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

    fn no_profile(&self, name: &str) -> ConfigError {
        ConfigError::NoProfile {
            file: error::file_of(self.path.as_deref()),
            name: name.to_owned(),
            hint: error::hint(name, self.profiles.keys().map(String::as_str)),
        }
    }

    fn expand(&mut self, file: &Path, env: &Env) -> Result<(), ConfigError> {
        let to = Expander::new(file, env);
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
        for (name, source) in &mut self.sources {
            let key = |field: &str| format!("sources.{name}.{field}");
            for path in &mut source.paths {
                *path = to.path(path, &key("paths"))?;
            }
            for path in &mut source.exclude_file {
                *path = to.path(path, &key("exclude_file"))?;
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
        for (name, source) in &self.sources {
            if let Err(error) = check_source_name(name) {
                return Err(wrong(format!("sources.{name}"), error.to_string()));
            }
            if source.kind == SourceKind::Directory && source.paths.is_empty() {
                let message = "is missing: a directory source needs at least one path";
                return Err(wrong(format!("sources.{name}.paths"), message.to_owned()));
            }
            if let Some(profile) = &source.profile
                && !self.profiles.contains_key(profile)
            {
                return Err(self.no_profile(profile));
            }
        }
        Ok(())
    }
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
