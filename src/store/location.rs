//! Where a store is, as people write it: a path, `file:///path`, or
//! `s3://bucket/prefix`.
//!
//! What is written wrongly must not become the name of a directory: a backup that
//! goes to `./s3:/bucket` succeeds, and is on the wrong disk. So whatever looks
//! like a URL must be one that asof knows.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use crate::base::{Kind, Stop};
use crate::store::limit::{LimitStore, Limits};
use crate::store::local::LocalStore;
use crate::store::s3::{S3Options, S3Store};
use crate::store::{Result, Store, key, percent};

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// A directory.
    Directory(PathBuf),
    /// Part of a bucket.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// What all names in it begin with: no slash at either end, or empty.
        prefix: String,
    },
}

/// A text that says no location.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a place for a repository: {wrong}")]
pub struct NotALocation {
    /// What was given, without what may be a secret.
    pub text: String,
    /// What is wrong with it, and what would work.
    pub wrong: &'static str,
}

impl NotALocation {
    /// What the failure means: [`Kind::Invalid`].
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl Location {
    /// Reads a location.
    ///
    /// # Errors
    ///
    /// If it is none, or a URL of a kind that asof does not know.
    pub fn parse(text: &str) -> std::result::Result<Location, NotALocation> {
        let parsed = match text.split_once("://") {
            Some(("s3", rest)) => bucket(rest),
            Some(("file", rest)) => file(rest),
            Some((scheme, _)) if is_scheme(scheme) => {
                Err("only file:// and s3:// URLs are known; a directory of that name is ./NAME")
            }
            _ if text.starts_with("s3:") => Err("a bucket is written s3://bucket/prefix"),
            _ if text.starts_with("file:") => Err("a file URL is written file:///path"),
            _ => directory(text.into()),
        };
        parsed.map_err(|wrong| NotALocation { text: without_secret(text), wrong })
    }
}

impl FromStr for Location {
    type Err = NotALocation;

    fn from_str(text: &str) -> std::result::Result<Location, NotALocation> {
        Location::parse(text)
    }
}

/// Reads back as the same location, but for paths that are not UTF-8.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Directory(path) => path.display().fmt(f),
            Location::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Location::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// Opens the store at a location.
///
/// With `create`, a directory that is missing is made; a bucket never is, since what
/// it costs and who may read it is its owner's to decide. Bucket and prefix come from
/// the location, whatever `options` says. Opening a bucket asks nothing of it, so one
/// that does not exist is noticed by the first call. Calls under way end soon after
/// `stop` is raised.
///
/// # Errors
///
/// [`Kind::NotFound`] if the directory does not exist, [`Kind::Invalid`] if the
/// options make no sense.
pub fn open_store(
    location: &Location,
    options: &S3Options,
    create: bool,
    stop: &Stop,
) -> Result<Arc<dyn Store>> {
    match location {
        Location::Directory(path) if create => Ok(Arc::new(LocalStore::create(path)?)),
        Location::Directory(path) => Ok(Arc::new(LocalStore::open(path)?)),
        Location::S3 { bucket, prefix } => {
            let mut options = options.clone();
            options.bucket.clone_from(bucket);
            options.prefix.clone_from(prefix);
            let limits = Limits { requests: Some(options.max_requests), ..Limits::default() };
            let store = Arc::new(S3Store::open(options, stop.clone())?);
            Ok(Arc::new(LimitStore::new(store, limits, stop.clone())))
        }
    }
}

type Parsed = std::result::Result<Location, &'static str>;

fn directory(path: OsString) -> Parsed {
    let mut bytes = path.into_vec();
    while bytes.len() > 1 && bytes.last() == Some(&b'/') {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err("it is empty");
    }
    if bytes.contains(&0) {
        return Err("a path has no NUL byte");
    }
    Ok(Location::Directory(OsString::from_vec(bytes).into()))
}

fn file(rest: &str) -> Parsed {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("a file URL is written file:///path");
    }
    let bytes = percent::decode(path).ok_or("a % is not followed by two hexadecimal digits")?;
    directory(OsString::from_vec(bytes))
}

fn bucket(rest: &str) -> Parsed {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains('@') {
        return Err("credentials do not belong in it; use a profile or the environment");
    }
    if bucket.is_empty() {
        return Err("the bucket is missing: s3://bucket/prefix");
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if !bucket.bytes().all(allowed) || bucket.starts_with('.') {
        return Err("a bucket's name has only letters, digits and . - _");
    }
    let segments: Vec<&str> = prefix.split('/').filter(|segment| !segment.is_empty()).collect();
    let prefix = segments.join("/");
    if prefix.len() > 256 {
        return Err("the prefix is longer than 256 bytes");
    }
    if key::check_prefix(&format!("{prefix}/"), "").is_err() && !prefix.is_empty() {
        return Err("a prefix has only letters, digits and . _ - / and no segments . or ..");
    }
    Ok(Location::S3 { bucket: bucket.to_owned(), prefix })
}

fn is_scheme(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'.' | b'-'))
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// Leaves out what stands before an `@`: who writes a URL so writes a password there.
fn without_secret(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_read_and_shown_in_one_form() {
        let table = [
            ("/srv/backup", "/srv/backup"),
            ("/srv/backup///", "/srv/backup"),
            ("/", "/"),
            ("backup", "backup"),
            ("./s3:/x", "./s3:/x"),
            ("a:b", "a:b"),
            ("dir/a://b", "dir/a://b"),
            ("file:///srv/backup/", "/srv/backup"),
            ("file://localhost/srv", "/srv"),
            ("file:///a%20b", "/a b"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket//a///b//", "s3://bucket/a/b"),
            ("s3://my.bucket-1/host_a", "s3://my.bucket-1/host_a"),
        ];
        for (text, shown) in table {
            let location = Location::parse(text).unwrap();
            assert_eq!(location.to_string(), shown, "{text}");
            assert_eq!(Location::parse(shown), Ok(location), "{shown} reads back");
        }
    }

    #[test]
    fn what_is_no_location_is_refused_with_a_reason() {
        let table = [
            ("", "empty"),
            ("file:/srv", "file:///path"),
            ("file://server/srv", "file:///path"),
            ("file:///a%2", "hexadecimal"),
            ("file:///a%00", "NUL"),
            ("s3:bucket/prefix", "s3://bucket/prefix"),
            ("s3:/bucket", "s3://bucket/prefix"),
            ("s3://", "bucket is missing"),
            ("s3:///prefix", "bucket is missing"),
            ("s3://bu cket", "bucket's name"),
            ("s3://bucket:80/x", "bucket's name"),
            ("s3://bucket/a/../b", "prefix"),
            ("s3://bucket/ä", "prefix"),
            ("s3://bucket/a?x=1", "prefix"),
            ("gs://bucket", "only file:// and s3://"),
            ("https://host/bucket", "only file:// and s3://"),
            ("sftp://host/path", "only file:// and s3://"),
        ];
        for (text, reason) in table {
            let error = Location::parse(text).unwrap_err();
            assert!(error.wrong.contains(reason), "{text}: {error}");
            assert_eq!(error.kind(), Kind::Invalid);
        }
    }

    #[test]
    fn a_credential_in_a_url_is_refused_and_not_repeated() {
        let error = Location::parse("s3://AKIAX:hush@bucket/p").unwrap_err().to_string();
        assert!(error.contains("profile") && !error.contains("hush") && !error.contains("AKIAX"));
    }
}
