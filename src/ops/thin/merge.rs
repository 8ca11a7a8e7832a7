//! The pages of what is kept, out of the old segments and in the order of the new one.
//!
//! In the order of the new segment a page here and a page there would be wanted, each out
//! of a chunk of a mebibyte. So they are read as they lie, each chunk once, and put to
//! their places in a file.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::plan::{Group, PageAt};
use crate::base::Stop;
use crate::codec::hash::ChunkKind;
use crate::codec::random;
use crate::ops::follow::{Change, Data};
use crate::ops::{Error, Result};
use crate::repo;
use crate::repo::reader::Reader;

/// The changes of a new segment, whose content is in a file that goes with this.
#[derive(Debug)]
pub(super) struct Merged {
    changes: Vec<Change>,
    path: PathBuf,
}

impl Merged {
    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }
}

impl Drop for Merged {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A page that is wanted: in which segment and chunk it is, and where in that; and where
/// it goes.
type Wanted = (u32, u32, u32, u64);

/// Reads what is kept of a group into a file in `scratch`.
///
/// # Errors
///
/// [`Error::File`] if that fails; those of [`Reader::chunk`].
pub(super) fn merge(reader: &Reader, group: &Group, scratch: &Path, stop: &Stop) -> Result<Merged> {
    let name: [u8; 8] = random::bytes();
    let path = scratch.join(format!("thin-{}", hex::encode(name)));
    let failed = |source| Error::File { path: path.clone(), source };
    let options = OpenOptions::new().write(true).create_new(true).mode(0o600).clone();
    let file = options.open(&path).map_err(failed)?;
    let mut merged = Merged { changes: Vec::new(), path: path.clone() };
    let within = group.segments.iter().map(|old| old.within).max().unwrap_or(0);
    let page_bytes = u64::from(group.page_bytes);
    let (mut wanted, mut rank): (Vec<Wanted>, u64) = (Vec::new(), 0);
    for kept in &group.kept {
        let length = kept.pages.len() as u64 * page_bytes;
        merged.changes.push(Change {
            position: kept.position,
            at: kept.at,
            within,
            size: kept.size,
            page_bytes: group.page_bytes,
            numbers: kept.pages.keys().copied().collect(),
            data: Data::In(path.clone(), rank * page_bytes, length),
        });
        for at in kept.pages.values() {
            if let PageAt::In(segment, page) = *at {
                let pages = group.segments.get(segment as usize).map_or(1, |old| old.chunk_pages);
                wanted.push((segment, page / pages, page % pages, rank));
            }
            rank += 1;
        }
    }
    // Pages of zeros are those that nothing is written to.
    file.set_len(rank * page_bytes).map_err(failed)?;
    wanted.sort_unstable();
    for run in wanted.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        if stop.is_raised() {
            return Err(repo::Error::Interrupted.into());
        }
        copy(reader, group, run, &file, &path)?;
    }
    Ok(merged)
}

/// Copies the wanted pages of one chunk.
fn copy(reader: &Reader, group: &Group, run: &[Wanted], file: &File, path: &Path) -> Result<()> {
    let Some(&(segment, place, ..)) = run.first() else { return Ok(()) };
    let chunk = group.segments.get(segment as usize).and_then(|old| old.refs.get(place as usize));
    let Some(chunk) = chunk else { return Ok(()) };
    let bytes = reader.chunk(ChunkKind::Data, chunk)?;
    let page_bytes = group.page_bytes as usize;
    for &(_, _, within, rank) in run {
        let from = within as usize * page_bytes;
        let page = bytes.get(from..from + page_bytes).ok_or(repo::Error::Tree {
            chunk: *chunk,
            why: "a chunk of a segment holds fewer pages than it should",
        })?;
        file.write_all_at(page, rank * u64::from(group.page_bytes))
            .map_err(|source| Error::File { path: path.to_owned(), source })?;
    }
    Ok(())
}
