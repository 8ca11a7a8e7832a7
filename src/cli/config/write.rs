//! Writing a changed configuration file, so that it is never lost and never wrong.
//!
//! The file is read again, changed, parsed as the next command will parse it, compared
//! with what it said before, and only then replaced as a whole. A symlink stays one: it is
//! the file behind it that is replaced, where people keep their files of this kind.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::error::ConfigError;
use super::source::SourceTable;
use super::{Config, edit, read_text};
use crate::cli::env::Env;
use crate::ops::replace::{Replacement, replace_file};

/// What was changed in a configuration file.
#[derive(Debug, Clone)]
pub struct Change {
    /// The file.
    pub path: PathBuf,
    /// What it says now.
    pub config: Config,
    /// Whether a source of that name was there before.
    pub was_there: bool,
}

/// Defines a source in the file at `path`, which is made if it is missing.
///
/// # Errors
///
/// [`ConfigError::SourceExists`] if there is one of that name and it is not to be replaced;
/// [`ConfigError::Value`] if the definition makes no sense; others if the file cannot be read,
/// changed or written. Then nothing was changed.
pub fn define_source(
    path: &Path,
    env: &Env,
    name: &str,
    source: &SourceTable,
    replace: bool,
) -> Result<Change, ConfigError> {
    change(path, env, name, |text, old| {
        if !replace && old.sources.contains_key(name) {
            return Err(ConfigError::SourceExists { path: path.to_owned(), name: name.to_owned() });
        }
        edit::define(text, name, source).map_err(|error| not_editable(path, &error))
    })
}

/// Removes the definition of a source from the file at `path`.
///
/// # Errors
///
/// [`ConfigError::UnknownSource`] if there is none of that name; others as [`define_source`].
pub fn remove_source(path: &Path, env: &Env, name: &str) -> Result<Change, ConfigError> {
    change(path, env, name, |text, old| {
        old.defined_source(name)?;
        edit::remove(text, name).map_err(|error| not_editable(path, &error))
    })
}

/// Changes what the file says of the source `name`, and nothing else.
fn change(
    path: &Path,
    env: &Env,
    name: &str,
    edit: impl FnOnce(&str, &Config) -> Result<String, ConfigError>,
) -> Result<Change, ConfigError> {
    let failed = |source| ConfigError::Write { path: path.to_owned(), source };
    // Expanded from `path`, as it is read; written where a symlink leads.
    let place = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let dir = place.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    // Two of these at once would each lose what the other writes. File systems that cannot
    // lock a directory are left to chance.
    let lock = File::open(dir).map_err(failed)?;
    let _ = flock(&lock, FlockOperation::LockExclusive);
    let text = match read_text(path) {
        Err(ConfigError::Missing { .. }) => None,
        other => Some(other?),
    };
    let old = Config::parse(text.as_deref().unwrap_or_default(), path, env)?;
    let new_text = edit(text.as_deref().unwrap_or_default(), &old)?;
    let config = Config::parse(&new_text, path, env)?;
    let was_there = old.sources.contains_key(name);
    if without(old, name) != without(config.clone(), name) {
        let why = "the result would say something else of another source or profile";
        return Err(not_editable(path, &why));
    }
    let how = match std::fs::metadata(&place) {
        Ok(old) => Replacement {
            mode: old.mode() & 0o7777,
            owner: Some((old.uid(), old.gid())),
            ..Replacement::PRIVATE
        },
        Err(_) => Replacement::PRIVATE,
    };
    replace_file(&place, new_text.as_bytes(), how).map_err(failed)?;
    Ok(Change { path: path.to_owned(), config, was_there })
}

fn without(mut config: Config, name: &str) -> Config {
    config.sources.remove(name);
    config
}

fn not_editable(path: &Path, why: &dyn std::fmt::Display) -> ConfigError {
    let why = why.to_string().trim_end().replace('\n', "; ");
    ConfigError::NotEditable { path: path.to_owned(), why }
}
