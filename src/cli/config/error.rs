//! What can be wrong with a configuration file, and the word that was probably meant.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::base::Kind;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file was named and does not exist.
    #[error("there is no configuration file {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Anybody may write to the file, and it can name commands.
    #[error(
        "the configuration file {0} can be written by every user, and names commands that asof runs; \
         run `chmod o-w {0}`", path.display()
    )]
    WritableByAll {
        /// The file.
        path: PathBuf,
    },
    /// The text is not TOML, or has keys or types that do not fit.
    #[error("{}, line {line}{}: {message}{hint}", path.display(), of_key(key))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key with its tables, where one can be named.
        key: String,
        /// What is wrong.
        message: String,
        /// The word that was probably meant.
        hint: Hint,
    },
    /// A value that has the right type and makes no sense.
    #[error("{}: `{key}` {message}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key with its tables.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// A profile that is not there.
    #[error("there is no profile `{name}` in {file}{hint}")]
    NoProfile {
        /// The file.
        file: String,
        /// What was asked for.
        name: String,
        /// The word that was probably meant.
        hint: Hint,
    },
    /// A source that is not there.
    #[error("there is neither a source `{name}` in {file} nor a file of that name here{hint}")]
    NoSource {
        /// The file.
        file: String,
        /// What was asked for.
        name: String,
        /// The word that was probably meant.
        hint: Hint,
    },
    /// A source that is to be shown or removed and is not there.
    #[error("there is no source `{name}` in {file}; {}{hint}", there_are(known))]
    UnknownSource {
        /// The file.
        file: String,
        /// What was asked for.
        name: String,
        /// The sources that there are.
        known: Vec<String>,
        /// The word that was probably meant.
        hint: Hint,
    },
    /// A source that is to be added and is there.
    #[error(
        "{} has a source `{name}` already; give the new one another name, or put it in the place \
         of the old one with --replace", path.display()
    )]
    SourceExists {
        /// The file.
        path: PathBuf,
        /// The source.
        name: String,
    },
    /// Nobody says where the file is to be.
    #[error(
        "there is no place for a configuration file: neither HOME nor XDG_CONFIG_HOME is set; name \
         one with --config or ASOF_CONFIG"
    )]
    NoPlace,
    /// A change that cannot be made without changing more than was asked for.
    #[error(
        "{} cannot be changed without changing something else in it ({why}); edit `sources` there by \
         hand", path.display()
    )]
    NotEditable {
        /// The file.
        path: PathBuf,
        /// What would go wrong.
        why: String,
    },
    /// The file cannot be written.
    #[error("cannot write the configuration file {}; it is as it was", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An environment variable that does not read.
    #[error("the environment variable {name} cannot be used: {message}")]
    Variable {
        /// The variable.
        name: String,
        /// What is wrong with it.
        message: String,
    },
}

impl ConfigError {
    /// What the failure means.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            ConfigError::Read { source, .. } | ConfigError::Write { source, .. } => {
                Kind::of_io(source)
            }
            ConfigError::WritableByAll { .. } => Kind::Denied,
            ConfigError::SourceExists { .. } => Kind::AlreadyExists,
            ConfigError::Missing { .. }
            | ConfigError::Syntax { .. }
            | ConfigError::Value { .. }
            | ConfigError::NoProfile { .. }
            | ConfigError::NoSource { .. }
            | ConfigError::UnknownSource { .. }
            | ConfigError::NoPlace
            | ConfigError::NotEditable { .. }
            | ConfigError::Variable { .. } => Kind::Invalid,
        }
    }
}

/// The word that was probably meant, if one is close.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hint(pub Option<String>);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(word) => write!(f, "; did you mean `{word}`?"),
            None => Ok(()),
        }
    }
}

fn of_key(key: &str) -> String {
    match key {
        "" => String::new(),
        key => format!(", `{key}`"),
    }
}

/// What there is instead, for a message.
fn there_are(known: &[String]) -> String {
    match known {
        [] => "it defines none".to_owned(),
        known => format!("it defines `{}`", known.join("`, `")),
    }
}

/// The file's name for a message.
pub(super) fn file_of(path: Option<&Path>) -> String {
    path.map_or_else(
        || "the configuration (no file was found)".to_owned(),
        |p| p.display().to_string(),
    )
}

pub(super) fn variable(name: &str, error: &dyn fmt::Display) -> ConfigError {
    ConfigError::Variable { name: name.to_owned(), message: error.to_string() }
}

/// Turns the parser's error into one that names file, line and key.
pub(super) fn syntax(path: &Path, text: &str, mut error: toml::de::Error) -> ConfigError {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let message = error.message().replace('\n', "; ");
    // Of "unknown field `a`, expected one of `b`, `c`" the words in quotes.
    let mut words = message.split('`').skip(1).step_by(2);
    let hint = if message.starts_with("unknown ") {
        let unknown = words.next().unwrap_or_default();
        hint(unknown, words)
    } else {
        Hint::default()
    };
    // Without the text to point into, the error's display ends with its key.
    error.set_input(None);
    let key = error
        .to_string()
        .lines()
        .find_map(|l| Some(l.strip_prefix("in `")?.strip_suffix('`')?.to_owned()))
        .unwrap_or_default();
    ConfigError::Syntax { path: path.to_owned(), line, key, message, hint }
}

/// The known word that is closest to `word`, if it is close: a third of it may differ.
pub(super) fn hint<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Hint {
    let close = |k: &&str| distance(word, k) * 3 <= word.chars().count().max(3);
    Hint(known.filter(close).min_by_key(|k| distance(word, k)).map(str::to_owned))
}

/// How many letters must be changed, added or taken away to make one word the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let change = corner + usize::from(ca != *cb);
            corner = *cell;
            left = change.min(corner + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_and_hints() {
        for (a, b, n) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("abc", "abc", 0),
        ] {
            assert_eq!(distance(a, b), n, "{a} {b}");
        }
        let known = ["repository", "timezone", "s3"];
        assert_eq!(hint("repositry", known.into_iter()), Hint(Some("repository".to_owned())));
        assert_eq!(hint("time_zone", known.into_iter()), Hint(Some("timezone".to_owned())));
        assert_eq!(hint("s4", known.into_iter()), Hint(Some("s3".to_owned())));
        assert_eq!(hint("colour", known.into_iter()), Hint(None));
    }
}
