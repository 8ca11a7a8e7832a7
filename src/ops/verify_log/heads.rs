//! The heads of chains that were seen: what shows that the end of a log was cut.
//!
//! A record names the one before it, so one that is gone from the middle of a chain
//! shows; one that is gone from its end does not, unless somebody remembers it. So the
//! last record of each chain is kept on this machine, in a file of its own beside the
//! index: the index is thrown away and filled from the log whenever something is wrong
//! with it, and knows then what the log says.
//!
//! ```text
//! asof-heads 0 <repository> <when, seconds>
//! <writer> <chain> <number> <record's name, or its id alone> <receipt, seconds> <c or ->
//! …
//! sha256 <of all lines before>
//! ```
//!
//! A line a chain, some 210 bytes; `c` marks the record of a checkpoint. The file is
//! written whole, beside the old one, synced, and takes its place. What does not read back
//! as it was written is an error and not an empty list: otherwise whoever damages this
//! file could cut the log unnoticed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::base::{ChainId, RecordId, RepositoryId, UnixTime, WriterId};
use crate::codec::hash::sha256;
use crate::format::names::{Hour, parse_record, record};
use crate::ops::replace::{Replacement, replace_file};
use crate::ops::{Error, Result};
use crate::repo::Repository;

const MAGIC: &str = "asof-heads";
/// Raised whenever a line means something else.
const VERSION: u64 = 0;

/// The last record of a chain that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) number: u64,
    pub(super) record: RecordId,
    /// The hour in its name; none if a checkpoint alone had it.
    pub(super) hour: Option<Hour>,
    pub(super) receipt: UnixTime,
    /// Whether it is the record of a checkpoint.
    pub(super) checkpoint: bool,
}

impl Head {
    /// Its name, if that is known.
    pub(super) fn name(&self) -> Option<String> {
        self.hour.map(|hour| record(hour, self.record))
    }
}

/// Every chain's head, and when they were seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Heads {
    pub(super) at: UnixTime,
    pub(super) of: BTreeMap<(WriterId, ChainId), Head>,
}

/// The file for the store that a repository is open in.
pub(super) fn path(repo: &Repository) -> PathBuf {
    // A copy of the repository elsewhere has heads of its own.
    let store = sha256(repo.store().location().as_bytes());
    repo.local_dir().join(format!("heads-{}", hex::encode(&store[..8])))
}

/// Reads the heads that were kept; none if none were.
///
/// # Errors
///
/// [`Error::Heads`] if the file is damaged, of a later version or of another repository;
/// [`Error::File`] if it cannot be read.
pub(super) fn load(path: &Path, repository: RepositoryId) -> Result<Option<Heads>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::File { path: path.to_owned(), source }),
    };
    match decode(&bytes, repository) {
        Ok(heads) => Ok(Some(heads)),
        Err(why) => Err(Error::Heads { path: path.to_owned(), why }),
    }
}

/// Writes the heads, so that after a crash the old ones are there or these.
///
/// # Errors
///
/// [`Error::File`] if they cannot be written.
pub(super) fn save(path: &Path, repository: RepositoryId, heads: &Heads) -> Result<()> {
    replace_file(path, encode(repository, heads).as_bytes(), Replacement::PRIVATE)
        .map_err(|source| Error::File { path: path.to_owned(), source })
}

fn encode(repository: RepositoryId, heads: &Heads) -> String {
    let mut text = format!("{MAGIC} {VERSION} {repository} {}\n", heads.at.seconds);
    for ((writer, chain), head) in &heads.of {
        let name = head.name().unwrap_or_else(|| head.record.to_string());
        let mark = if head.checkpoint { 'c' } else { '-' };
        let (number, receipt) = (head.number, head.receipt.seconds);
        let _ = writeln!(text, "{writer} {chain} {number} {name} {receipt} {mark}");
    }
    let sum = hex::encode(sha256(text.as_bytes()));
    text.push_str(&format!("sha256 {sum}\n"));
    text
}

fn decode(bytes: &[u8], repository: RepositoryId) -> std::result::Result<Heads, &'static str> {
    const DAMAGED: &str = "it is damaged";
    let text = std::str::from_utf8(bytes).map_err(|_| DAMAGED)?;
    let (first, _) = text.split_once('\n').ok_or(DAMAGED)?;
    let words: Vec<&str> = first.split(' ').collect();
    let &[MAGIC, version, of, at] = words.as_slice() else { return Err(DAMAGED) };
    // First of all: whatever follows may be another in a later version.
    if version.parse::<u64>().map_err(|_| DAMAGED)? > VERSION {
        return Err("a later version of asof wrote it");
    }
    let body = text.strip_suffix('\n').and_then(|text| text.rsplit_once('\n')).ok_or(DAMAGED)?;
    let covered = &text[..=body.0.len()];
    if body.1 != format!("sha256 {}", hex::encode(sha256(covered.as_bytes()))) {
        return Err(DAMAGED);
    }
    if of.parse() != Ok(repository) {
        return Err("it is of another repository");
    }
    let seconds = |text: &str| text.parse::<i64>().ok().map(|seconds| UnixTime::new(seconds, 0));
    let mut heads = Heads { at: seconds(at).ok_or(DAMAGED)?, of: BTreeMap::new() };
    for line in covered.lines().skip(1) {
        let words: Vec<&str> = line.split(' ').collect();
        let &[writer, chain, number, name, receipt, mark] = words.as_slice() else {
            return Err(DAMAGED);
        };
        let parse = || {
            let (hour, record) = match parse_record(name) {
                Some((hour, id)) => (Some(hour), id),
                None => (None, name.parse().ok()?),
            };
            let (number, receipt) = (number.parse().ok()?, seconds(receipt)?);
            let head = Head { number, record, hour, receipt, checkpoint: mark == "c" };
            Some(((writer.parse().ok()?, chain.parse().ok()?), head))
        };
        let (key, head) = parse().ok_or(DAMAGED)?;
        heads.of.insert(key, head);
    }
    Ok(heads)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: RepositoryId = RepositoryId([1; 32]);

    fn heads() -> Heads {
        let key = |n: u8| (WriterId([n; 32]), ChainId([n; 16]));
        let head = |n: u8| Head {
            number: n.into(),
            record: RecordId([n; 32]),
            hour: Some(Hour::of(UnixTime::new(1_900_000_800, 0))),
            receipt: UnixTime::new(1_900_000_801, 0),
            checkpoint: n == 2,
        };
        let carried = Head { hour: None, ..head(3) };
        let of = BTreeMap::from([(key(1), head(1)), (key(2), head(2)), (key(3), carried)]);
        Heads { at: UnixTime::new(1_900_000_900, 0), of }
    }

    #[test]
    fn heads_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("heads-x");
        assert_eq!(load(&path, HERE).unwrap(), None);
        for heads in [Heads::default(), heads()] {
            save(&path, HERE, &heads).unwrap();
            assert_eq!(load(&path, HERE).unwrap(), Some(heads));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    /// Whoever can damage the file gains an error, never a shorter list.
    #[test]
    fn what_is_not_as_it_was_written_is_refused() {
        let good = encode(HERE, &heads());
        assert_eq!(decode(good.as_bytes(), HERE), Ok(heads()));
        for cut in 0..good.len() {
            assert!(decode(&good.as_bytes()[..cut], HERE).is_err(), "{cut} bytes");
        }
        for at in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[at] ^= 1;
            assert!(decode(&bad, HERE).is_err(), "byte {at}");
        }
        let mut lines: Vec<&str> = good.lines().collect();
        lines.remove(1);
        assert!(decode(format!("{}\n", lines.join("\n")).as_bytes(), HERE).is_err());
        assert_eq!(decode(b"", HERE), Err("it is damaged"));
        let other = decode(good.as_bytes(), RepositoryId([2; 32]));
        assert_eq!(other, Err("it is of another repository"));
        let later = decode(good.replacen("heads 0", "heads 1", 1).as_bytes(), HERE);
        assert_eq!(later, Err("a later version of asof wrote it"));
    }
}
