//! Where a source is, as one word: `sqlite:/srv/shop/kv.db`, `dir:/srv/www`, `/srv/www`.
//!
//! The word before the colon is the kind of thing that is there. A path alone is a
//! directory, which is what most sources are; one whose name has a colon is written with
//! `./` or `dir:` before it, so that a misspelt kind is never taken for a directory.

use std::fmt;

use super::error::{self, Hint};
use crate::base::Kind;

/// The kinds that there are, as they are written.
const KINDS: [&str; 2] = ["dir", "sqlite"];

/// Where a source is. The path is as it was written: neither expanded nor made absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceUrl {
    /// Directories and files.
    Directory(String),
    /// A SQLite database.
    Sqlite(String),
}

/// A text that does not say where a source is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotASourceUrl {
    /// A kind of source that asof does not know.
    #[error(
        "`{url}` names no source: asof knows `dir:` and `sqlite:`, and no `{kind}:`{hint}; a path \
         with a colon in it is written `./{url}`"
    )]
    Kind {
        /// What was given.
        url: String,
        /// The kind.
        kind: String,
        /// The kind that was probably meant.
        hint: Hint,
    },
    /// Nothing after the kind.
    #[error("`{url}` names no source: write a path, as `dir:/srv/www` or `sqlite:/srv/shop/kv.db`")]
    Empty {
        /// What was given.
        url: String,
    },
    /// Something on another machine, as in `sqlite://host/path`.
    #[error(
        "`{url}` names a host, and asof reads files of this machine: write the path, as \
         `{kind}:/srv/…`"
    )]
    Host {
        /// What was given.
        url: String,
        /// Its kind.
        kind: String,
    },
}

impl NotASourceUrl {
    /// What the failure means: a request that makes no sense as given.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl SourceUrl {
    /// Reads where a source is.
    ///
    /// `sqlite:///srv/kv.db`, as other programs write it, is `sqlite:/srv/kv.db`. Nothing
    /// is decoded: a `%` in a path is a `%`.
    ///
    /// # Errors
    ///
    /// [`NotASourceUrl`], which says what would be one.
    pub fn parse(url: &str) -> Result<SourceUrl, NotASourceUrl> {
        let kind = url.split_once(':').filter(|(kind, _)| is_scheme(kind));
        let Some((kind, rest)) = kind else {
            return match url {
                "" => Err(NotASourceUrl::Empty { url: url.to_owned() }),
                path => Ok(SourceUrl::Directory(path.to_owned())),
            };
        };
        if !KINDS.contains(&kind) {
            return Err(NotASourceUrl::Kind {
                url: url.to_owned(),
                kind: kind.to_owned(),
                hint: error::hint(kind, KINDS.into_iter()),
            });
        }
        let path = match rest.strip_prefix("//") {
            None => rest,
            Some(path) if path.starts_with('/') => path,
            Some(_) => {
                return Err(NotASourceUrl::Host { url: url.to_owned(), kind: kind.to_owned() });
            }
        };
        match (kind, path) {
            (_, "") => Err(NotASourceUrl::Empty { url: url.to_owned() }),
            ("sqlite", path) => Ok(SourceUrl::Sqlite(path.to_owned())),
            (_, path) => Ok(SourceUrl::Directory(path.to_owned())),
        }
    }

    /// The path in it.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            SourceUrl::Directory(path) | SourceUrl::Sqlite(path) => path,
        }
    }
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceUrl::Directory(path) => write!(f, "dir:{path}"),
            SourceUrl::Sqlite(path) => write!(f, "sqlite:{path}"),
        }
    }
}

/// Whether a text before a colon is meant as a kind and is not the beginning of a path.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_source() {
        let dir = |path: &str| SourceUrl::Directory(path.to_owned());
        let sqlite = |path: &str| SourceUrl::Sqlite(path.to_owned());
        for (text, url) in [
            ("/srv/www", dir("/srv/www")),
            ("www", dir("www")),
            ("./a:b", dir("./a:b")),
            ("/a:b", dir("/a:b")),
            ("~/www", dir("~/www")),
            ("dir:/srv/www", dir("/srv/www")),
            ("dir:sqlite:x", dir("sqlite:x")),
            ("dir:///srv", dir("/srv")),
            ("sqlite:/srv/kv.db", sqlite("/srv/kv.db")),
            ("sqlite:kv.db", sqlite("kv.db")),
            ("sqlite:///srv/100%.db", sqlite("/srv/100%.db")),
        ] {
            assert_eq!(SourceUrl::parse(text), Ok(url), "{text}");
        }
        for url in [dir("/a"), sqlite("/a b")] {
            assert_eq!(SourceUrl::parse(&url.to_string()), Ok(url));
        }
    }

    #[test]
    fn what_does_not_says_what_would() {
        for (text, part) in [
            ("", "dir:/srv/www"),
            ("dir:", "dir:/srv/www"),
            ("sqlite:", "dir:/srv/www"),
            ("sqlite://", "names a host"),
            ("sqlite://host/kv.db", "`sqlite:/srv/…`"),
            ("sqlit:/kv.db", "did you mean `sqlite`?"),
            ("postgres://h/db", "no `postgres:`; a path with a colon"),
            ("a:b", "`./a:b`"),
        ] {
            let error = SourceUrl::parse(text).unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
            assert_eq!(error.kind(), Kind::Invalid);
        }
    }
}
