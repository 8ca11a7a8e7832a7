//! Selectors: how a state, and a path in it, is named on the command line.
//!
//! ```text
//! SOURCE[@TIME][:/PATH]     the newest state of a source at a time
//! latest[:/PATH]            the newest state of the only source
//! id:PREFIX[:/PATH]         a snapshot by the first digits of its id
//! ```
//!
//! The path begins at the first `:/`. Source names and times hold no slash after a
//! colon, so times may hold colons (`db@2026-11-20T10:15:03Z:/etc/passwd`), and a path
//! may hold anything that a path can: it is bytes and is not interpreted.
//!
//! `SOURCE@latest` is the same as `SOURCE`. The time is kept as it was written; what
//! it means takes a zone and the present, see [`TimeSpec`]. That `latest` stands
//! alone only where one source exists is for whoever knows the sources to say.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::base::{Kind, NotASourceName, SnapshotId, check_source_name};
use crate::view::time_spec::{TimeError, TimeSpec, shown};

/// A state of a source, or a path in one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Selector {
    /// Which state.
    pub state: State,
    /// Which path in it, beginning with `/`; `None` if none was written.
    pub path: Option<PathBuf>,
}

/// Which state of which source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum State {
    /// The newest of the only source.
    Latest,
    /// The snapshot whose id begins so.
    Id(IdPrefix),
    /// The newest of a source, at a time if one was written.
    Source {
        /// The source's name, checked.
        name: String,
        /// The time as it was written; [`TimeSpec::parse`] reads it.
        time: Option<String>,
    },
}

/// The first digits of a snapshot's id: 1 to 32, lower-case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdPrefix(String);

impl IdPrefix {
    /// Reads digits; none if they are none, or too many.
    fn read(digits: &str) -> Option<IdPrefix> {
        let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        let fits = hex && (1..=2 * SnapshotId::BYTES).contains(&digits.len());
        fits.then(|| IdPrefix(digits.to_ascii_lowercase()))
    }

    /// Whether the id begins with these digits.
    #[must_use]
    pub fn matches(&self, id: &SnapshotId) -> bool {
        id.to_string().starts_with(&self.0)
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// So that the command line's parser can read one: the digits, or `id:` and the digits.
impl std::str::FromStr for IdPrefix {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<IdPrefix, SelectorError> {
        IdPrefix::read(text.strip_prefix("id:").unwrap_or(text))
            .ok_or_else(|| SelectorError::NotAnId { text: format!("id:{}", shown(text)) })
    }
}

/// A text that is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Nothing before the path, or nothing at all.
    #[error(
        "`{text}` names no source; write SOURCE, SOURCE@TIME or SOURCE:/PATH, as in web1@yesterday:/etc"
    )]
    NoSource {
        /// What was written.
        text: String,
    },
    /// A part that must be text is not.
    #[error("`{text}` is not a selector: what comes before the path must be text in UTF-8")]
    NotText {
        /// What was written, as far as it can be shown.
        text: String,
    },
    /// A source name that cannot be one.
    #[error("`{text}` is not a selector")]
    Name {
        /// What was written.
        text: String,
        /// What is wrong with the name.
        source: NotASourceName,
    },
    /// A path that does not begin at the root.
    #[error(
        "`{text}` is not a selector: a path in a snapshot begins with `/`, as in web1:/etc/passwd"
    )]
    RelativePath {
        /// What was written.
        text: String,
    },
    /// An `@` with nothing after it, or a time that has not the form of one.
    #[error("`{text}` is not a selector: what comes after `@` is not a time")]
    Time {
        /// What was written.
        text: String,
        /// What is wrong with the time.
        source: Box<TimeError>,
    },
    /// A time where none can be.
    #[error("`{text}` is not a selector: {state} takes no time; write SOURCE@TIME")]
    TimeNotHere {
        /// What was written.
        text: String,
        /// `latest` or `id:`.
        state: &'static str,
    },
    /// Something other than digits of an id.
    #[error(
        "`{text}` is not a selector: after `id:` come 1 to 32 hexadecimal digits, as `asof snapshots` shows them"
    )]
    NotAnId {
        /// What was written.
        text: String,
    },
}

impl SelectorError {
    /// What the failure means: always a request that makes no sense as given.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl Selector {
    /// Reads a selector. Checks the form of everything, and the existence of nothing.
    ///
    /// # Errors
    ///
    /// [`SelectorError`], which quotes the text and says what would work.
    pub fn parse(text: &OsStr) -> Result<Selector, SelectorError> {
        let bytes = text.as_bytes();
        let quoted = || shown(&text.to_string_lossy());
        let colon = bytes.windows(2).position(|pair| pair == b":/");
        let (head, path) = match colon {
            Some(at) => {
                let path = OsString::from_vec(bytes[at + 1..].to_vec());
                (&bytes[..at], Some(PathBuf::from(path)))
            }
            None => (bytes, None),
        };
        let Ok(head) = std::str::from_utf8(head) else {
            return Err(SelectorError::NotText { text: quoted() });
        };
        Ok(Selector { state: State::parse(head, &quoted)?, path })
    }

    /// The selector as it is written; reads back as the same.
    #[must_use]
    pub fn to_os_string(&self) -> OsString {
        let mut out = OsString::from(self.state.to_string());
        if let Some(path) = &self.path {
            out.push(":");
            out.push(path);
        }
        out
    }

    /// The path that was written, or the root.
    #[must_use]
    pub fn path_or_root(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new("/"))
    }
}

impl State {
    fn parse(head: &str, quoted: &dyn Fn() -> String) -> Result<State, SelectorError> {
        if let Some(digits) = head.strip_prefix("id:") {
            if digits.contains('@') {
                return Err(SelectorError::TimeNotHere { text: quoted(), state: "id:" });
            }
            let prefix = IdPrefix::read(digits);
            return prefix.map(State::Id).ok_or(SelectorError::NotAnId { text: quoted() });
        }
        let (name, time) = match head.split_once('@') {
            Some((name, time)) => (name, Some(time)),
            None => (head, None),
        };
        if name.is_empty() {
            return Err(SelectorError::NoSource { text: quoted() });
        }
        if name == "latest" {
            return match time {
                None => Ok(State::Latest),
                Some(_) => Err(SelectorError::TimeNotHere { text: quoted(), state: "latest" }),
            };
        }
        if name == "id" && time.is_none() {
            return Err(SelectorError::NotAnId { text: quoted() });
        }
        if name.contains(':') {
            return Err(SelectorError::RelativePath { text: quoted() });
        }
        check_source_name(name).map_err(|source| SelectorError::Name { text: quoted(), source })?;
        let time = match time {
            None | Some("latest") => None,
            Some(time) => {
                TimeSpec::read(time).map_err(|source| SelectorError::Time {
                    text: quoted(),
                    source: Box::new(source),
                })?;
                Some(time.to_owned())
            }
        };
        Ok(State::Source { name: name.to_owned(), time })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Latest => f.write_str("latest"),
            State::Id(prefix) => write!(f, "id:{}", prefix.0),
            State::Source { name, time: None } => f.write_str(name),
            State::Source { name, time: Some(time) } => write!(f, "{name}@{time}"),
        }
    }
}

/// For people: a path that is not text is shown as far as it can be.
/// [`Selector::to_os_string`] is exact.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_os_string().display())
    }
}

/// So that the command line's parser can read one.
impl std::str::FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Selector, SelectorError> {
        Selector::parse(OsStr::new(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(name: &str, time: Option<&str>, path: Option<&str>) -> Selector {
        Selector {
            state: State::Source { name: name.to_owned(), time: time.map(str::to_owned) },
            path: path.map(PathBuf::from),
        }
    }

    fn other(state: State, path: Option<&str>) -> Selector {
        Selector { state, path: path.map(PathBuf::from) }
    }

    #[test]
    fn selectors_and_what_they_mean() {
        let id = |digits: &str| State::Id(IdPrefix(digits.to_owned()));
        for (text, meaning) in [
            ("db", source("db", None, None)),
            ("db:/", source("db", None, Some("/"))),
            ("db:/etc/passwd", source("db", None, Some("/etc/passwd"))),
            ("db@yesterday", source("db", Some("yesterday"), None)),
            ("db@latest:/x", source("db", None, Some("/x"))),
            (
                "db@2026-11-20T10:15:03Z:/etc/passwd",
                source("db", Some("2026-11-20T10:15:03Z"), Some("/etc/passwd")),
            ),
            ("db@2026-11-20 10:15:/etc", source("db", Some("2026-11-20 10:15"), Some("/etc"))),
            (
                "db@2026-11-20T10:15[Europe/Berlin]:/a:/b@c",
                source("db", Some("2026-11-20T10:15[Europe/Berlin]"), Some("/a:/b@c")),
            ),
            ("db@@1763633703:/a", source("db", Some("@1763633703"), Some("/a"))),
            ("db://x", source("db", None, Some("//x"))),
            ("a.b_c-d", source("a.b_c-d", None, None)),
            ("latest", other(State::Latest, None)),
            ("latest:/etc", other(State::Latest, Some("/etc"))),
            ("id:0af3", other(id("0af3"), None)),
            ("id:0AF3:/etc", other(id("0af3"), Some("/etc"))),
        ] {
            let read = Selector::parse(OsStr::new(text)).unwrap();
            assert_eq!(read, meaning, "{text}");
            assert_eq!(Selector::parse(&read.to_os_string()), Ok(read), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_selector_is_told_what_would_work() {
        let long = format!("id:{}", "a".repeat(33));
        for (text, part) in [
            ("", "names no source"),
            (":/etc", "names no source"),
            ("@yesterday", "names no source"),
            ("db:etc", "begins with `/`"),
            ("db:", "begins with `/`"),
            ("db@", "after `@`"),
            ("db@soon:/x", "after `@`"),
            ("db@yesterday:", "after `@`"),
            ("latest@yesterday", "takes no time"),
            ("id:00@yesterday", "takes no time"),
            ("id:", "hexadecimal"),
            ("id", "hexadecimal"),
            ("id:/etc", "hexadecimal"),
            ("id:xyz", "hexadecimal"),
            (&long, "hexadecimal"),
            ("-x", "not a selector"),
            ("..:/etc", "not a selector"),
            ("a b", "not a selector"),
            ("/etc/passwd", "not a selector"),
        ] {
            let error = Selector::parse(OsStr::new(text)).unwrap_err();
            assert!(error.to_string().contains(part), "{text}: {error}");
            assert_eq!(error.kind(), Kind::Invalid);
        }
    }

    #[test]
    fn a_path_is_bytes_and_stays_as_it_was() {
        let text = OsStr::from_bytes(b"db:/\xff\n\xfe");
        let read = Selector::parse(text).unwrap();
        assert_eq!(read.path_or_root().as_os_str().as_bytes(), b"/\xff\n\xfe");
        assert_eq!(read.to_os_string(), text);
        let bad = Selector::parse(OsStr::from_bytes(b"\xff:/x"));
        assert!(matches!(bad, Err(SelectorError::NotText { .. })));
    }

    #[test]
    fn a_prefix_matches_the_ids_that_begin_with_it() {
        let Ok(Selector { state: State::Id(prefix), .. }) = "id:ABa".parse() else {
            panic!("not an id");
        };
        assert!(prefix.matches(&SnapshotId([0xab; 16])));
        assert!(!prefix.matches(&SnapshotId([0xac; 16])));
    }

    proptest! {
        #[test]
        fn any_text_reads_or_fails_and_what_reads_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(read) = Selector::parse(OsStr::from_bytes(&bytes)) {
                prop_assert_eq!(Selector::parse(&read.to_os_string()), Ok(read));
            }
        }

        #[test]
        fn likely_texts_too(text in "(db|latest|id:[0-9a-f]{0,3}|@)?(@(yesterday|2026-11-20[T ]10[:-]15|latest))?(:/?[a:/@]{0,4})?") {
            if let Ok(read) = Selector::parse(OsStr::new(&text)) {
                prop_assert_eq!(Selector::parse(&read.to_os_string()), Ok(read));
            }
        }
    }
}
