//! `~` and `$NAME` in the paths of a configuration file.

use std::path::{Path, PathBuf};

use super::error::ConfigError;
use crate::cli::env::Env;

/// Expands paths that were written in one file.
pub(super) struct Expander<'a> {
    file: &'a Path,
    env: &'a Env,
}

impl<'a> Expander<'a> {
    pub(super) fn new(file: &'a Path, env: &'a Env) -> Expander<'a> {
        Expander { file, env }
    }

    /// A path: expanded, and made absolute from the file's directory.
    pub(super) fn path(&self, path: &Path, key: &str) -> Result<PathBuf, ConfigError> {
        // TOML is text, so this loses nothing.
        let text = self.text(&path.to_string_lossy(), key)?;
        if text.is_empty() {
            return Err(self.wrong(key, "is empty, and must be a path".to_owned()));
        }
        Ok(self.directory().join(text))
    }

    /// A repository: expanded, and made absolute if it is a path and not a URL.
    pub(super) fn location(&self, text: &str, key: &str) -> Result<String, ConfigError> {
        if text.contains("://") {
            return self.text(text, key);
        }
        let path = self.path(Path::new(text), key)?;
        path.into_os_string().into_string().map_err(|path| {
            let path = path.display();
            self.wrong(key, format!("is in `{path}`, which is not text in UTF-8"))
        })
    }

    /// The directory that the file is in, absolute if that can be known.
    fn directory(&self) -> PathBuf {
        let parent = self.file.parent().unwrap_or(Path::new(""));
        std::path::absolute(parent.join("x"))
            .ok()
            .and_then(|p| p.parent().map(Path::to_owned))
            .unwrap_or_else(|| parent.to_owned())
    }

    fn text(&self, text: &str, key: &str) -> Result<String, ConfigError> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        if let Some(tail) = rest.strip_prefix('~') {
            if !tail.is_empty() && !tail.starts_with('/') {
                let message = "begins with `~` and a name; write the directory itself";
                return Err(self.wrong(key, message.to_owned()));
            }
            out.push_str(&self.variable("HOME", key)?);
            rest = tail;
        }
        while let Some((plain, tail)) = rest.split_once('$') {
            out.push_str(plain);
            let (name, tail) = if let Some(tail) = tail.strip_prefix('$') {
                out.push('$');
                rest = tail;
                continue;
            } else if let Some(tail) = tail.strip_prefix('{') {
                tail.split_once('}').unwrap_or(("", tail))
            } else {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                tail.split_at(tail.find(|c| !word(c)).unwrap_or(tail.len()))
            };
            if name.is_empty() {
                let message =
                    "has a `$` without a name; write $NAME, ${NAME}, or $$ for a dollar sign";
                return Err(self.wrong(key, message.to_owned()));
            }
            out.push_str(&self.variable(name, key)?);
            rest = tail;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn variable(&self, name: &str, key: &str) -> Result<String, ConfigError> {
        match self.env.text(name) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => {
                Err(self.wrong(key, format!("needs the variable {name}, which is not set")))
            }
            Err(error) => Err(self.wrong(key, format!("cannot be expanded: {error}"))),
        }
    }

    /// An error about the value of a key.
    pub(super) fn wrong(&self, key: &str, message: String) -> ConfigError {
        ConfigError::Value { path: self.file.to_owned(), key: key.to_owned(), message }
    }
}
