//! What is left out of a backup.
//!
//! Patterns are written as in a `.gitignore`, since that is the dialect that most
//! people already know:
//!
//! ```text
//! *.o            a name, at any depth
//! cache/         a directory of that name, at any depth
//! /var/tmp       this absolute path
//! src/target     this path below a directory that is backed up
//! src/**/*.tmp   any number of directories between
//! !keep.o        not left out after all
//! ```
//!
//! The last pattern that matches decides. Nothing below a directory that is left
//! out is looked at, so nothing below it can be brought back with `!`: write
//! `cache/*` instead of `cache/`.
//!
//! A path that is named on the command line is kept whatever the patterns say.
//! They are for what is found, not for what was asked for.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{Mode, OFlags, openat};

use crate::source::path::as_path;
use crate::source::{Error, Meta, meta};

/// How a directory of throw-away files marks itself: <https://bford.info/cachedir/>.
const CACHEDIR_TAG: &str = "CACHEDIR.TAG";
const CACHEDIR_SIGNATURE: &str = "Signature: 8a477f597d28d172789f06886806bc55";

/// What to leave out, as it was asked for.
#[derive(Debug, Clone, Default)]
pub struct RuleOptions {
    /// Patterns, in order.
    pub exclude: Vec<String>,
    /// Files of patterns, one in a line; they come after `exclude`.
    pub exclude_file: Vec<PathBuf>,
    /// `NAME` or `NAME:HEADER`: a directory that holds a file of this name, which
    /// begins with the header if there is one, is stored with that file alone.
    pub exclude_if_present: Vec<String>,
    /// The same for directories marked as caches by a `CACHEDIR.TAG`.
    pub exclude_caches: bool,
    /// Regular files with more bytes than this are left out.
    pub exclude_larger_than: Option<u64>,
    /// Directories on which another file system is mounted are stored empty.
    pub one_file_system: bool,
}

/// What to leave out, ready to be asked about each file.
#[derive(Debug, Default)]
pub struct Rules {
    runs: Vec<Run>,
    tags: Vec<Tag>,
    larger_than: Option<u64>,
    one_file_system: bool,
}

/// Consecutive patterns that are matched against the same form of a path. Two
/// matchers, one for each form, would lose the order in which patterns overrule
/// each other.
#[derive(Debug)]
struct Run {
    anchor: Anchor,
    patterns: Gitignore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anchor {
    /// The path from the root of the file system.
    Absolute,
    /// The path below the directory that is backed up.
    Relative,
}

#[derive(Debug)]
struct Tag {
    name: String,
    header: String,
}

impl Rules {
    /// Reads and checks the patterns.
    ///
    /// # Errors
    ///
    /// [`Error::Pattern`] for a pattern that makes no sense, with where it stands;
    /// [`Error::List`] for a file of patterns that cannot be read.
    pub fn new(options: &RuleOptions) -> Result<Rules, Error> {
        let mut lines = Lines::default();
        for pattern in &options.exclude {
            // On the command line a leading `#` is a name, not a remark.
            let escaped = pattern.starts_with('#').then(|| format!("\\{pattern}"));
            lines.add(escaped.as_deref().unwrap_or(pattern), || "--exclude".to_owned())?;
        }
        for file in &options.exclude_file {
            lines.add_file(file)?;
        }
        let mut tags = Vec::new();
        if options.exclude_caches {
            tags.push(Tag { name: CACHEDIR_TAG.to_owned(), header: CACHEDIR_SIGNATURE.to_owned() });
        }
        for text in &options.exclude_if_present {
            let (name, header) = text.split_once(':').unwrap_or((text, ""));
            if name.is_empty() || name.contains('/') {
                return Err(Error::Pattern {
                    pattern: text.clone(),
                    place: "--exclude-if-present".to_owned(),
                    reason: "it takes the name of a file, without a slash".to_owned(),
                });
            }
            tags.push(Tag { name: name.to_owned(), header: header.to_owned() });
        }
        Ok(Rules {
            runs: lines.finish()?,
            tags,
            larger_than: options.exclude_larger_than,
            one_file_system: options.one_file_system,
        })
    }

    /// Whether any pattern was given, so that paths need not be spelled out if not.
    pub(crate) fn has_patterns(&self) -> bool {
        !self.runs.is_empty()
    }

    /// Whether patterns leave out what lies at this absolute path; `below` is where
    /// the part below the directory that is backed up begins.
    pub(crate) fn excludes(&self, path: &[u8], below: usize, is_dir: bool) -> bool {
        for run in self.runs.iter().rev() {
            let start = match run.anchor {
                Anchor::Absolute => 1,
                Anchor::Relative => below,
            };
            let part = path.get(start..).unwrap_or_default();
            let part = part.strip_prefix(b"/").unwrap_or(part);
            match run.patterns.matched(as_path(part), is_dir) {
                Match::None => {}
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
            }
        }
        false
    }

    /// Whether a file is left out for its size alone.
    pub(crate) fn is_too_large(&self, meta: &Meta) -> bool {
        meta.kind == meta::FileKind::File && self.larger_than.is_some_and(|max| meta.size > max)
    }

    /// Whether other file systems are left out.
    pub(crate) fn one_file_system(&self) -> bool {
        self.one_file_system
    }

    /// The file that marks a directory as one to store without its other contents.
    ///
    /// `has` tells whether the directory holds a name. A tag that cannot be read
    /// does not count: storing too much is the smaller harm.
    pub(crate) fn tag_in(&self, dir: BorrowedFd<'_>, has: impl Fn(&[u8]) -> bool) -> Option<&[u8]> {
        let tag = self.tags.iter().find(|tag| {
            has(tag.name.as_bytes())
                && (tag.header.is_empty() || begins_with(dir, tag).unwrap_or(false))
        });
        tag.map(|tag| tag.name.as_bytes())
    }
}

fn begins_with(dir: BorrowedFd<'_>, tag: &Tag) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(dir, tag.name.as_str(), flags, Mode::empty())?;
    if meta::stat_fd(fd.as_fd())?.kind != meta::FileKind::File {
        return Ok(false);
    }
    let mut start = vec![0; tag.header.len()];
    File::from(fd).read_exact(&mut start)?;
    Ok(start == tag.header.as_bytes())
}

/// Collects patterns into runs.
#[derive(Default)]
struct Lines {
    runs: Vec<Run>,
    open: Option<(Anchor, GitignoreBuilder)>,
}

impl Lines {
    fn add(&mut self, pattern: &str, place: impl Fn() -> String) -> Result<(), Error> {
        let refused =
            |reason: String| Error::Pattern { pattern: pattern.to_owned(), place: place(), reason };
        let plain = pattern.strip_prefix('!').unwrap_or(pattern).trim_end();
        if plain.is_empty() && pattern.starts_with('!') || plain == "/" {
            return Err(refused("it matches nothing".to_owned()));
        }
        let anchor = if plain.starts_with('/') { Anchor::Absolute } else { Anchor::Relative };
        if self.open.as_ref().is_none_or(|(a, _)| *a != anchor) {
            self.close()?;
        }
        let (_, builder) = self.open.get_or_insert_with(|| {
            let mut builder = GitignoreBuilder::new("/");
            builder.allow_unclosed_class(false);
            (anchor, builder)
        });
        match builder.add_line(None, pattern) {
            Ok(_) => Ok(()),
            Err(ignore::Error::Glob { err, .. }) => Err(refused(err)),
            Err(other) => Err(refused(other.to_string())),
        }
    }

    fn add_file(&mut self, file: &Path) -> Result<(), Error> {
        let unreadable = |source| Error::List { path: file.to_owned(), source };
        let bytes = std::fs::read(file).map_err(unreadable)?;
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
        for (number, line) in bytes.split(|b| *b == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let place = || format!("{}, line {}", file.display(), number + 1);
            match std::str::from_utf8(line) {
                Ok(line) => self.add(line, place)?,
                Err(_) => {
                    return Err(Error::Pattern {
                        pattern: String::from_utf8_lossy(line).into_owned(),
                        place: place(),
                        reason: "it is not UTF-8; write `?` for each byte that is not".to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Error> {
        if let Some((anchor, builder)) = self.open.take() {
            let patterns = builder.build().map_err(|e| Error::Pattern {
                pattern: "all of them together".to_owned(),
                place: "the patterns".to_owned(),
                reason: e.to_string(),
            })?;
            if !patterns.is_empty() {
                self.runs.push(Run { anchor, patterns });
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Run>, Error> {
        self.close()?;
        Ok(self.runs)
    }
}

#[cfg(test)]
mod tests;
