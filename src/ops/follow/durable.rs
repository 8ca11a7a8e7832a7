//! Where a source's stream is, from one process to the next.
//!
//! ```text
//! lock           held by the process that follows
//! durable.json   how far the store has everything
//! looked         its time of modification: when the database was looked at last
//! ```

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::change::Head;
use crate::base::{StreamId, UnixTime};
use crate::ops::replace::{Replacement, replace_file};
use crate::ops::{Error, Result};

/// The last state that is known of a stream, and how to go on from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tail {
    pub(super) stream: StreamId,
    pub(super) position: u64,
    /// When it was seen.
    #[serde(with = "pair")]
    pub(super) at: UnixTime,
    /// When the database was last looked at, and was in this state.
    #[serde(with = "pair")]
    pub(super) looked: UnixTime,
    /// Where capture goes on, if that is known.
    pub(super) resume: Option<Vec<u8>>,
}

impl Tail {
    /// The state that an entry of the spool leads to.
    pub(super) fn of(head: &Head) -> Tail {
        Tail {
            stream: head.stream,
            position: head.position,
            at: head.at,
            looked: head.at,
            resume: head.resume.clone().map(Into::into),
        }
    }
}

/// What is in the store for certain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Durable {
    pub(super) tail: Tail,
    /// How many pages were published since the last image.
    pub(super) pages_since: u64,
    /// How many that has.
    pub(super) image_pages: u64,
}

mod pair {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::base::UnixTime;

    pub(super) fn serialize<S: Serializer>(at: &UnixTime, to: S) -> Result<S::Ok, S::Error> {
        (at.seconds, at.nanos).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<UnixTime, D::Error> {
        let (seconds, nanos): (i64, u32) = Deserialize::deserialize(from)?;
        Ok(UnixTime::new(seconds, nanos.min(999_999_999)))
    }
}

const DURABLE: &str = "durable.json";
const LOOKED: &str = "looked";

impl Durable {
    /// What an earlier process left. What cannot be understood counts as nothing: then
    /// another stream begins.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if the file is there and cannot be read.
    pub(super) fn read(dir: &Path) -> Result<Option<Durable>> {
        let path = dir.join(DURABLE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::File { path, source }),
        };
        let Ok(mut durable) = serde_json::from_slice::<Durable>(&text) else {
            tracing::warn!(file = %path.display(), "it cannot be understood and is not used");
            return Ok(None);
        };
        if let Some(looked) = looked(dir) {
            durable.tail.looked = durable.tail.looked.max(looked);
        }
        Ok(Some(durable))
    }

    /// Puts it in place of what was there, and through to the disk.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if it cannot be written; then what was there still is.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(DURABLE);
        let text = serde_json::to_vec(self).map_err(std::io::Error::from);
        text.and_then(|text| replace_file(&path, &text, Replacement::PRIVATE))
            .map_err(|source| Error::File { path, source })
    }
}

/// Notes that the database was looked at, and nothing was new.
pub(super) fn note_look(dir: &Path, now: UnixTime) {
    // Only the beginning of a gap depends on it: without it, that is earlier.
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
    if let Ok(file) = made.open(dir.join(LOOKED)) {
        let since = std::time::UNIX_EPOCH;
        let _ = file.set_modified(since + now.since(UnixTime::EPOCH));
    }
}

fn looked(dir: &Path) -> Option<UnixTime> {
    let meta = std::fs::metadata(dir.join(LOOKED)).ok()?;
    Some(UnixTime::new(meta.mtime(), u32::try_from(meta.mtime_nsec()).ok()?))
}

/// The right to follow a source, which one process has at a time.
pub(super) struct Lock {
    _held: File,
}

impl Lock {
    /// Takes it; makes the directory if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if another process has it.
    pub(super) fn take(dir: &Path) -> Result<Lock> {
        let failed = |source| Error::File { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let options =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).clone();
        let file = options.open(dir.join("lock")).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock { _held: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Invalid {
                what: format!(
                    "another process follows this source: it has locked {}",
                    dir.join("lock").display()
                ),
            }),
            Err(error) => Err(failed(error.into())),
        }
    }
}
