//! The writers of a restore: contents of files, side by side.

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crossbeam_channel::Receiver;

use super::plan::clear_way;
use super::{Overwrite, Restore};
use crate::codec::hash::Hasher;
use crate::repo::{self, FileContent, Whence};
use crate::source;
use crate::target::{self, Attributes};

/// How many bytes are read and written at once.
const PIECE: usize = 1 << 20;

/// A file to be written.
pub(super) struct FileJob {
    pub(super) path: Vec<u8>,
    pub(super) content: FileContent,
    pub(super) sha256: Option<[u8; 32]>,
    pub(super) attributes: Attributes,
    /// It has other names, which are linked to it later.
    pub(super) linked: bool,
    /// Its directory was made for it, so nothing can be in its place.
    pub(super) fresh: bool,
}

/// Files that one writer writes, one after the other: to hand over each by itself would cost
/// more than to write the small ones.
pub(super) struct Group {
    pub(super) files: Vec<FileJob>,
    /// Files to be written soon, of which the reader is told when this group's turn comes.
    pub(super) soon: Vec<FileContent>,
    /// Until it is dropped, the files are not written.
    pub(super) underway: OneUnderway,
}

/// How many groups are to be written and are not yet.
#[derive(Default)]
pub(crate) struct Underway(Arc<(Mutex<usize>, Condvar)>);

/// One of them.
pub(super) struct OneUnderway(Arc<(Mutex<usize>, Condvar)>);

impl Underway {
    /// Counts one more, until what is returned is dropped.
    pub(super) fn one_more(&self) -> OneUnderway {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        OneUnderway(Arc::clone(&self.0))
    }

    /// Waits until there are none.
    pub(super) fn wait(&self) {
        let mut count = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while *count > 0 {
            count = self.0.1.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// However it ended: a writer that is gone must not be waited for.
impl Drop for OneUnderway {
    fn drop(&mut self) {
        let mut count = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *count -= 1;
        if *count == 0 {
            self.0.1.notify_all();
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Repo(#[from] repo::Error),
    #[error(transparent)]
    Target(#[from] target::Error),
    #[error("what was written does not have the SHA-256 that the snapshot has")]
    Differs,
    #[error("it cannot be read back")]
    ReadBack(#[source] std::io::Error),
}

/// Writes files until there are no more.
pub(super) fn write_all(restore: &Restore<'_>, groups: &Receiver<Group>) {
    for Group { files, soon, underway } in groups {
        if !soon.is_empty() && !restore.stop.is_raised() {
            restore.library.prefetch(&soon);
        }
        for job in files {
            if restore.stop.is_raised() {
                break;
            }
            if let Err(error) = write(restore, &job) {
                restore.problem(&job.path, &error);
            }
            restore.progress.files.fetch_add(1, Ordering::Relaxed);
        }
        drop(underway);
    }
}

fn write(restore: &Restore<'_>, job: &FileJob) -> Result<(), Failure> {
    let size = job.content.size();
    let Some(target) = &restore.target else {
        restore.count(|report| {
            report.files += 1;
            report.bytes += size;
        });
        return Ok(());
    };
    restore.progress.at(source::path::shown(&job.path));
    if !job.fresh
        && let Some(there) = target.stat(&job.path).unwrap_or(None)
        && there.kind == source::FileKind::File
    {
        let same_stat = there.size == size && there.mtime == job.attributes.mtime;
        let stays = match restore.options.overwrite {
            Overwrite::Never => true,
            Overwrite::IfNewer => there.mtime >= job.attributes.mtime,
            Overwrite::IfChanged => same_stat,
            Overwrite::Always => false,
        };
        if stays && !same_stat {
            restore.count(|report| report.skipped += 1);
            advance(restore, size);
            return Ok(());
        }
        let equal = stays
            || there.size == size
                && (there.nlink == 1 || job.linked)
                && job.sha256.is_some()
                && hash_file(target, &job.path).ok() == job.sha256;
        if equal {
            restore.note(target.apply(&job.path, &job.attributes, restore.apply)?);
            restore.count(|report| report.unchanged += 1);
            advance(restore, size);
            return Ok(());
        }
    }
    if !job.fresh {
        clear_way(restore, &job.path)?;
    }
    let file = target.create_file(&job.path)?;
    let mut at = 0;
    while at < size {
        if restore.stop.is_raised() {
            return Err(repo::Error::Interrupted.into());
        }
        let Some(data) = restore.library.seek(&job.content, at, Whence::Data)? else { break };
        advance(restore, data - at);
        at = data;
        let end = restore.library.seek(&job.content, at, Whence::Hole)?.unwrap_or(size);
        while at < end {
            if restore.stop.is_raised() {
                return Err(repo::Error::Interrupted.into());
            }
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(PIECE);
            let bytes = restore.library.read(&job.content, at, wanted)?;
            file.write_at(&bytes, at)?;
            at += bytes.len() as u64;
            advance(restore, bytes.len() as u64);
        }
    }
    // A hole at the end was not written.
    if at < size {
        file.set_len(size)?;
    }
    restore.note(target.apply_to(&file, &job.attributes, restore.apply)?);
    file.finish()?;
    restore.count(|report| {
        report.files += 1;
        report.bytes += size;
    });
    if restore.options.verify
        && let Some(sha256) = job.sha256
    {
        if hash_file(target, &job.path)? != sha256 {
            return Err(Failure::Differs);
        }
        restore.count(|report| report.verified += 1);
    }
    Ok(())
}

fn advance(restore: &Restore<'_>, bytes: u64) {
    restore.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
}

fn hash_file(target: &target::Target, path: &[u8]) -> Result<[u8; 32], Failure> {
    let file = target.open_file(path)?;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    loop {
        let count = file.read_at(&mut buffer, at).map_err(Failure::ReadBack)?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..count]);
        at += count as u64;
    }
}
