//! What is captured of a database: a change for each transaction, and images.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::base::{StreamId, UnixTime};
use crate::format::segment::Gap;

/// One committed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The position of the state that it led to.
    pub position: u64,
    /// When it was seen: later than every one before.
    pub at: UnixTime,
    /// It was committed at most so long before. Nanoseconds.
    pub within: u64,
    /// How many pages the database has since.
    pub size: u32,
    /// How large they are. Bytes.
    pub page_bytes: u32,
    /// The pages that it wrote, ascending, each once.
    pub numbers: Vec<u32>,
    /// Their content, one behind the other.
    pub data: Data,
}

/// The content of a change's pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// In memory.
    Held(Vec<u8>),
    /// In a file, from an offset on, so many bytes.
    In(PathBuf, u64, u64),
}

impl Data {
    /// Reads it from its beginning.
    ///
    /// # Errors
    ///
    /// What the system says of the file.
    pub fn read(&self) -> io::Result<Box<dyn Read + '_>> {
        match self {
            Data::Held(bytes) => Ok(Box::new(bytes.as_slice())),
            Data::In(path, offset, length) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(*offset))?;
                Ok(Box::new(file.take(*length)))
            }
        }
    }
}

/// What stands in the spool, but for the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Head {
    /// The stream that it belongs to.
    #[n(0)]
    pub(super) stream: StreamId,
    /// The position of the state that it led to, or that it is.
    #[n(1)]
    pub(super) position: u64,
    /// When that was seen.
    #[n(2)]
    pub(super) at: UnixTime,
    /// What was captured.
    #[n(3)]
    pub(super) what: What,
    /// Where capture can go on after it; none in the midst of what was read at once.
    #[n(4)]
    pub(super) resume: Option<ByteVec>,
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) enum What {
    /// A change: within, size, page bytes, numbers. The content follows.
    #[n(0)]
    Change(#[n(0)] u64, #[n(1)] u32, #[n(2)] u32, #[n(3)] Vec<u32>),
    /// An image, in a file of its own, and the gap before it if it begins a stream.
    #[n(1)]
    Image(#[n(0)] Option<Gap>),
}
