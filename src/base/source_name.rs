//! Names of sources.
//!
//! A source's name is a directory in the mount and a word on the command line, so it
//! is made of `[A-Za-z0-9._-]` and nothing that a shell, a path or a selector gives a
//! meaning to. Four more names and one letter are refused although made of these:
//! `.` and `..` are directories already, `latest` and `id` mean something in a
//! selector, and a leading `-` would be read as an option.

use std::fmt::Write as _;
use std::path::Path;

use crate::base::Kind;

/// The longest name, in bytes: what every file system allows for a directory.
pub const SOURCE_NAME_BYTES_MAX: usize = 255;

/// A text that cannot name a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} cannot name a source: {why}; a name is 1 to 255 of the letters A-Z a-z, \
     the digits, `.`, `_` and `-`, as in `web1-etc`"
)]
pub struct NotASourceName {
    /// What was given.
    pub name: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl NotASourceName {
    /// What the failure means: a request that makes no sense as given.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// Checks that a text can name a source.
///
/// # Errors
///
/// [`NotASourceName`], which says what is wrong with it.
pub fn check_source_name(name: &str) -> Result<(), NotASourceName> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > SOURCE_NAME_BYTES_MAX {
        "it is too long"
    } else if !name.bytes().all(is_plain) {
        "it holds another character"
    } else if matches!(name, "." | "..") {
        "it is a directory in every directory"
    } else if matches!(name, "latest" | "id") {
        "the word means something else in a selector"
    } else if name.starts_with('-') {
        "it would be read as an option"
    } else {
        return Ok(());
    };
    Err(NotASourceName {
        name: name.to_owned(),
        why,
    })
}

/// The name of a source that was given none: `<host>-<path with dashes>`.
///
/// Every run of other characters becomes one dash: `/var/lib/pg` on `db1` is
/// `db1-var-lib-pg`, and `/` is `db1-root`. Of several paths the first names the
/// source and `-and-2-more` says that there are others. The same host and paths
/// always give the same name, and it always passes [`check_source_name`]; different
/// paths can give the same one, which the source's fixed roots then catch.
#[must_use]
pub fn default_source_name(host: &str, paths: &[impl AsRef<Path>]) -> String {
    // Room for the host's tail, the dashes and the count.
    const PART_MAX: usize = 110;
    let mut name = dashed(host.as_bytes(), PART_MAX);
    if name.is_empty() {
        name.push_str("host");
    }
    if let Some(first) = paths.first() {
        let path = dashed(first.as_ref().as_os_str().as_encoded_bytes(), PART_MAX);
        name.push('-');
        name.push_str(if path.is_empty() { "root" } else { &path });
    }
    if paths.len() > 1 {
        let _ = write!(name, "-and-{}-more", paths.len() - 1);
    }
    if check_source_name(&name).is_err() {
        name.insert_str(0, "source-");
    }
    name
}

fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
}

/// The text with each run of other characters as one dash, and none at the ends.
fn dashed(text: &[u8], max: usize) -> String {
    let mut out = String::new();
    for b in text {
        if is_plain(*b) && *b != b'-' {
            out.push(char::from(*b));
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.truncate(max);
    out.truncate(out.trim_end_matches('-').len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_pass_and_names_that_do_not() {
        let longest = "a".repeat(255);
        for good in [
            "a", "web1", "db-1_x.y", ".hidden", "Latest", "ids", "...", &longest,
        ] {
            assert_eq!(check_source_name(good), Ok(()), "{good:?}");
        }
        let longer = "a".repeat(256);
        for bad in [
            "", ".", "..", "latest", "id", "-x", "a b", "a/b", "a:b", "a@b", "é", "a\n", &longer,
        ] {
            assert!(check_source_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn default_names() {
        for (host, paths, name) in [
            ("web1", &["/etc"][..], "web1-etc"),
            ("web1", &["/"], "web1-root"),
            (
                "db1.example.org",
                &["/var/lib/pg/"],
                "db1.example.org-var-lib-pg",
            ),
            ("my host", &["/srv/a b//c"], "my-host-srv-a-b-c"),
            ("", &["/home"], "host-home"),
            ("w", &["/etc", "/home", "/root"], "w-etc-and-2-more"),
            ("-", &["/--"], "host-root"),
            ("w", &[], "w"),
        ] {
            assert_eq!(default_source_name(host, paths), name);
        }
        let none: &[&str] = &[];
        assert_eq!(default_source_name("latest", none), "source-latest");
    }

    proptest! {
        #[test]
        fn a_default_name_always_passes(host in ".{0,300}", paths in proptest::collection::vec(".{0,300}", 0..4)) {
            prop_assert_eq!(check_source_name(&default_source_name(&host, &paths)), Ok(()));
        }
    }
}
