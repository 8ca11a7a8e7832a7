//! An entry of the spool: what it says, where it is, and how it is read.

use std::hash::Hasher as _;
use std::io::{self, Read};
use std::path::Path;

use twox_hash::XxHash3_64;

use crate::ops::follow::change::{Change, Data, Head, What};

/// Before each entry, and behind it. Bytes.
pub(super) const FRAME: u64 = 12;
pub(super) const SUM: u64 = 8;
/// No head is longer.
const HEAD_MAX: u32 = 64 << 20;

/// An entry that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ops::follow) struct Entry {
    pub(in crate::ops::follow) head: Head,
    /// Where its content is.
    pub(in crate::ops::follow) data: Data,
    /// How long that is.
    pub(in crate::ops::follow) length: u64,
    /// Where the next entry is.
    pub(in crate::ops::follow) next: Cursor,
}

impl Entry {
    /// The change, if it is one.
    pub(in crate::ops::follow) fn change(&self) -> Option<Change> {
        let Head { position, at, what, .. } = self.head.clone();
        let What::Change(within, size, page_bytes, numbers) = what else { return None };
        let data = self.data.clone();
        Some(Change { position, at, within, size, page_bytes, numbers, data })
    }
}

/// A place between entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(in crate::ops::follow) struct Cursor {
    pub(super) file: u64,
    pub(super) offset: u64,
}

/// The entry at a place of a file of which so much counts; none if it is not whole.
pub(super) fn read_entry(
    from: &mut impl Read,
    path: &Path,
    place: Cursor,
    length: u64,
) -> io::Result<Option<Entry>> {
    let left = length - place.offset;
    if left < FRAME {
        return Ok(None);
    }
    let (mut head_len, mut data_len) = ([0; 4], [0; 8]);
    from.read_exact(&mut head_len)?;
    from.read_exact(&mut data_len)?;
    let (head_len, data_len) = (u32::from_le_bytes(head_len), u64::from_le_bytes(data_len));
    let whole = (FRAME + u64::from(head_len) + SUM).checked_add(data_len);
    let Some(whole) = whole.filter(|whole| *whole <= left && head_len <= HEAD_MAX) else {
        return Ok(None);
    };
    let mut sum = XxHash3_64::new();
    let mut head = vec![0; head_len as usize];
    from.read_exact(&mut head)?;
    sum.write(&head);
    let mut buffer = vec![0; usize::try_from(data_len.min(1 << 16)).unwrap_or(0)];
    let mut unread = data_len;
    while unread > 0 {
        let part = buffer.len().min(usize::try_from(unread).unwrap_or(usize::MAX));
        let Some(part) = buffer.get_mut(..part) else { break };
        from.read_exact(part)?;
        sum.write(part);
        unread -= part.len() as u64;
    }
    let mut expected = [0; 8];
    from.read_exact(&mut expected)?;
    if sum.finish().to_le_bytes() != expected {
        return Ok(None);
    }
    let Ok(head) = crate::format::decode_whole("entry of the spool", &head) else {
        return Ok(None);
    };
    let at = place.offset + FRAME + u64::from(head_len);
    let next = Cursor { offset: place.offset + whole, ..place };
    let data = Data::In(path.to_owned(), at, data_len);
    Ok(Some(Entry { head, data, length: data_len, next }))
}
