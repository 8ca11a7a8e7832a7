//! Stores: where objects live.
//!
//! A store holds whole, bounded objects that are written once. Five calls are
//! enough, and a backup needs only the first, [`Store::put_new`]; no call of a
//! writer may depend on another. The calls block: callers bring the threads, and
//! the one store that is asynchronous inside (S3) keeps that to its own file. A store
//! that can tell that names are as they were may spare others a listing ([`Store::mark`]).
//!
//! A store knows names and bytes. It does not know what an id means, what a pack
//! is, or any key.
//!
//! Every call has a deadline of its own inside the store, so that nobody waits
//! for ever on one that hangs.

pub mod count;
pub mod fault;
mod key;
pub mod limit;
pub mod local;
pub mod location;
pub mod memory;
mod percent;
pub mod remember;
pub mod retry;
pub mod s3;

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use crate::base::{Kind, UnixTime};

pub use count::{CountStore, Requests};
pub use fault::FaultStore;
pub use limit::{LimitStore, Limits};
pub use local::LocalStore;
pub use location::{Location, open_store};
pub use memory::MemoryStore;
pub use remember::RememberStore;
pub use retry::{Patience, RetryStore};
pub use s3::{S3Options, S3Store};

/// Which call of a store was made; in errors, counters and fault plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Call {
    /// [`Store::put_new`].
    Put,
    /// [`Store::get`], [`Store::get_range`] and [`Store::get_parts`].
    Get,
    /// [`Store::list`].
    List,
    /// [`Store::delete`].
    Delete,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Call::Put => "write",
            Call::Get => "read",
            Call::List => "list",
            Call::Delete => "delete",
        })
    }
}

/// A call to a store that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {call} {key} in {store}")]
pub struct Error {
    /// What the failure means.
    pub kind: Kind,
    /// The call that failed.
    pub call: Call,
    /// The object's name, or the prefix that was listed.
    pub key: String,
    /// The store, as [`Store::location`] has it.
    pub store: String,
    /// What the machine or the server said.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What a store returns.
pub type Result<T> = std::result::Result<T, Error>;

/// What became of a [`Store::put_new`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    /// False if an object of that name was there already; it was left as it is.
    pub created: bool,
    /// When the store received the object, by its own time, or earlier.
    ///
    /// Memory and directories say the object's own time, whoever wrote it. A bucket
    /// says the `Date` of its reply if the call created the object. If it did not, it
    /// says a time not later than when the call was first made, so that an object of
    /// this very call, whose reply was lost, is not taken for younger than it is. One
    /// that is *older* than the call, of another writer or of a call that failed
    /// before, may be older than this time too: then only a listing says its age. A
    /// name that only this call can have chosen, as every pack's and record's, leaves
    /// no such doubt; any other that was not `created` must not be taken for so young.
    pub receipt: UnixTime,
    /// When the store received the object, by its own time, or later: differs from
    /// `receipt` only where that had to be put back.
    pub latest: UnixTime,
}

impl Put {
    /// An object that this call created, or whose own time is known.
    pub(crate) fn at(created: bool, receipt: UnixTime) -> Put {
        Put { created, receipt, latest: receipt }
    }

    /// An object that was found to exist at `answered` by a call that was first made
    /// `elapsed` ago and may have put it there. A second more, because times of
    /// buckets are whole seconds.
    pub(crate) fn found(answered: UnixTime, elapsed: Duration) -> Put {
        let receipt = answered.minus(elapsed.saturating_add(Duration::from_secs(1)));
        Put { created: false, receipt, latest: answered }
    }
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its full name.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When the store received it (`Last-Modified`; a directory's file time).
    pub receipt: UnixTime,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Objects in ascending byte order of their names, at most 1,000.
    pub objects: Vec<Listed>,
    /// Whether names after the last of `objects` may exist.
    pub more: bool,
    /// The store's own time of the listing, if it has one; see [`Store::list`].
    pub at: Option<UnixTime>,
}

/// What tells whether names are the same as before; see [`Store::mark`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Equal if the names are.
    pub names: [u8; 32],
    /// The store's own time at which they were so, as [`Page::at`].
    pub at: UnixTime,
}

/// A place that holds objects.
pub trait Store: Send + Sync {
    /// Writes an object unless one of that name exists.
    ///
    /// When it returns, the object is durable. Never overwrites. A store without
    /// conditional writes writes plainly and reports `created`: names are hashes,
    /// so it can only replace bytes by the same bytes.
    fn put_new(&self, key: &str, body: Bytes) -> Result<Put>;

    /// Reads a whole object of at most `limit` bytes; a larger one is
    /// [`Kind::Damaged`], since every object of the format is bounded.
    fn get(&self, key: &str, limit: u64) -> Result<Bytes>;

    /// Reads just the bytes of `range`. An object that ends before the range does
    /// is [`Kind::Damaged`]: the answer is whole or an error, never short.
    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes>;

    /// Reads parts of an object that lie end to end from `start` on, of these lengths, in one
    /// call. Where the bytes come piece by piece, each part has memory of its own: who keeps
    /// one does not keep the others with it.
    ///
    /// # Errors
    ///
    /// As [`Store::get_range`].
    fn get_parts(&self, key: &str, start: u64, lengths: &[usize]) -> Result<Vec<Bytes>> {
        let mut body = self.get_range(key, key::range_of(start, lengths))?;
        Ok(lengths.iter().map(|length| body.split_to(body.len().min(*length))).collect())
    }

    /// Lists a page of the objects whose names begin with `prefix` and come after
    /// `after`, in byte order. An empty or missing prefix is an empty page.
    ///
    /// The page says at which time of the store's own it was made: every object of its
    /// span of names whose receipt is not later than [`Page::at`] less the skew of the
    /// store's clocks is in it, unless it was deleted since. A listing of several pages is one
    /// of its first page's time. The time is a bucket's `Date` of the reply; memory's
    /// clock; a directory's time for a file made in `tmp/` before names are read. It is
    /// `None` if that cannot be learnt (a directory that cannot be written to or has no
    /// `tmp/` yet, a reply without a `Date`, copies of a store that is away), and such
    /// a listing is no evidence that anything is missing.
    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page>;

    /// What tells whether a listing of `directory`, a prefix that ends in `/`, would show the
    /// same objects as before, if the store can say that for less than a listing costs; `None`
    /// if not, or not now.
    ///
    /// If it was asked before a listing was begun, and gives the same [`Mark::names`] later,
    /// then a listing made at the later [`Mark::at`] would show what that one did. It is of the
    /// objects right in the directory, whose names have no other `/`.
    fn mark(&self, _directory: &str) -> Option<Mark> {
        None
    }

    /// Deletes an object; one that does not exist counts as deleted.
    fn delete(&self, key: &str) -> Result<()>;

    /// The store's name for people, as `s3://bucket/prefix` or a path. Never
    /// holds a credential.
    fn location(&self) -> String;

    /// The largest object that the store takes, if that is less than the format's
    /// own bounds: some gateways limit bodies. Packs are then made smaller.
    fn object_bytes_max(&self) -> Option<u64> {
        None
    }

    /// The directory, if it is one on this machine: the mount refuses to cover it.
    fn local_path(&self) -> Option<&std::path::Path> {
        None
    }
}
