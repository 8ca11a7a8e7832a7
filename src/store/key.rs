//! Which names an object may have.
//!
//! One rule for all stores, so that what works in a directory works in a bucket
//! and no name reaches outside a store: segments of `[A-Za-z0-9._-]` joined by
//! `/`, none of them `.` or `..`. The first segment `tmp` is reserved, since a
//! directory keeps unfinished objects there.

use std::ops::Range;

use crate::base::Kind;
use crate::store::{Call, Error, Result};

/// The longest name; S3 allows 1,024 bytes, and the bucket's prefix needs some.
const LONGEST: usize = 512;

/// Where unfinished objects are kept in a directory.
pub(crate) const TMP: &str = "tmp";

/// Makes an error of a store.
pub(crate) fn error(
    kind: Kind,
    call: Call,
    key: &str,
    store: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error { kind, call, key: key.to_owned(), store: store.to_owned(), source: source.into() }
}

/// Refuses what is not a name of an object.
pub(crate) fn check(call: Call, key: &str, store: &str) -> Result<()> {
    let wrong = if key.len() > LONGEST {
        "the name is longer than 512 bytes"
    } else if !key.bytes().all(is_allowed) {
        "a name has only letters, digits and . _ - /"
    } else if key.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        "a name has no empty segments and none that are . or .."
    } else if key.split('/').next() == Some(TMP) {
        "names below tmp/ are reserved"
    } else {
        return Ok(());
    };
    Err(error(Kind::Invalid, call, key, store, wrong))
}

/// Refuses a prefix with which no name can begin.
pub(crate) fn check_prefix(prefix: &str, store: &str) -> Result<()> {
    let wrong = if prefix.len() > LONGEST {
        "the prefix is longer than 512 bytes"
    } else if !prefix.bytes().all(is_allowed) {
        "a name has only letters, digits and . _ - /"
    } else if prefix.starts_with('/') || prefix.contains("//") {
        "a name has no empty segments"
    } else if directories(prefix).any(|segment| matches!(segment, "." | "..")) {
        "a name has no segments that are . or .."
    } else {
        return Ok(());
    };
    Err(error(Kind::Invalid, Call::List, prefix, store, wrong))
}

/// Refuses a range that asks for nothing: S3 cannot express it, so no store takes it.
pub(crate) fn check_range(key: &str, range: &Range<u64>, store: &str) -> Result<()> {
    if range.start < range.end {
        return Ok(());
    }
    let wrong = format!("the range {}..{} is empty", range.start, range.end);
    Err(error(Kind::Invalid, Call::Get, key, store, wrong))
}

/// The range of parts that lie end to end.
pub(crate) fn range_of(start: u64, lengths: &[usize]) -> Range<u64> {
    let end = lengths.iter().fold(start, |end, length| end.saturating_add(*length as u64));
    start..end
}

/// The object is larger than its reader allows.
pub(crate) fn too_large(key: &str, store: &str, size: u64, limit: u64) -> Error {
    let wrong = format!("it has {size} bytes, and {limit} at most are expected");
    error(Kind::Damaged, Call::Get, key, store, wrong)
}

/// The object ends before the range that was asked for does.
pub(crate) fn too_short(key: &str, store: &str, range: &Range<u64>, size: u64) -> Error {
    let wrong = format!("bytes {}..{} were asked for, and it has {size}", range.start, range.end);
    error(Kind::Damaged, Call::Get, key, store, wrong)
}

/// How much memory to allocate at once for a body of that size: objects are far smaller
/// than this, and who claims more must send it first.
pub(crate) fn capacity(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX).min(64 << 20)
}

/// The segments of a prefix that are complete.
fn directories(prefix: &str) -> impl Iterator<Item = &str> {
    prefix.rsplit_once('/').map_or("", |(directories, _)| directories).split('/')
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_reach_outside_or_mean_two_things_are_refused() {
        for good in ["asof.json", "packs/ab/cd", "log/2026-11-21T01-ff", "a/..b", "x/tmp/y"] {
            assert!(check(Call::Get, good, "s").is_ok(), "{good}");
        }
        let long = "a".repeat(513);
        let bad = ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a b", "ä", "a\0", "tmp/x"];
        for bad in bad.into_iter().chain(["tmp", &long]) {
            let error = check(Call::Put, bad, "s").unwrap_err();
            assert_eq!((error.kind, error.key.as_str()), (Kind::Invalid, bad));
        }
    }

    #[test]
    fn prefixes_may_end_anywhere_in_a_name() {
        for good in ["", "packs", "packs/", "packs/ab/c", "log/2026-", ".", "a/.."] {
            assert!(check_prefix(good, "s").is_ok(), "{good}");
        }
        for bad in ["/", "a//", "../", "a/../b", "./x", "a b"] {
            assert!(check_prefix(bad, "s").is_err(), "{bad}");
        }
    }
}
