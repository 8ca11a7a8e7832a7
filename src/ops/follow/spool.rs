//! What is captured and not in the store yet, on disk.
//!
//! Capture appends and never waits for the store; publishing takes from the other end.
//! So a store that is away, or slower than the database for a while, costs disk and not
//! transactions, and what was captured outlives a process that is killed. Files hold
//! some 16 MiB each and are deleted once all of them is published:
//!
//! ```text
//! 000000000007.spool   entries: length of head u32 ‖ length of content u64 ‖ head (CBOR)
//!                      ‖ content ‖ XXH3 of head and content; integers little-endian
//! <stream>-<position>.image   the database at a position
//! ```
//!
//! What is read at once is appended as one: its last entry says where capture can go on.
//! A process that is killed, or a machine that stops, may leave less than that; then
//! everything behind the last such entry is cut off and captured again. Who wants each
//! change to outlive a power failure has it written through (`sync`).

use std::collections::{BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::hash::Hasher as _;
use std::io::{self, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use twox_hash::XxHash3_64;

mod entry;

use super::change::{Head, What};
use crate::base::StreamId;
use crate::ops::{Error, Result};

pub(super) use entry::{Cursor, Entry};
use entry::{FRAME, SUM, read_entry};

/// A file is followed by another from so many bytes on.
const FILE_BYTES: u64 = 16 << 20;

/// The spool of one source. One thread appends, one takes.
pub(super) struct Spool {
    dir: PathBuf,
    sync: bool,
    /// The files by number, with their lengths, the one being written last.
    files: Mutex<VecDeque<(u64, u64)>>,
    /// How large the images are that wait. Bytes.
    images: AtomicU64,
    /// Behind what an earlier process published.
    start: Cursor,
}

/// What is being appended: nobody sees it before it is [kept](Batch::keep).
pub(super) struct Batch<'a> {
    spool: &'a Spool,
    number: u64,
    path: PathBuf,
    file: BufWriter<File>,
    length: u64,
}

impl Spool {
    /// Opens what is there, or begins, and tells of each entry in order. Of those up to the
    /// first of this stream and position everything was published: they are there only since
    /// files are deleted as a whole.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if the directory or a file cannot be used.
    pub(super) fn open(
        dir: &Path,
        sync: bool,
        published: Option<(StreamId, u64)>,
        mut each: impl FnMut(Head),
    ) -> Result<Spool> {
        let failed = |source| Error::File { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let (mut numbers, mut images) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if let Some(number) = name.strip_suffix(".spool").and_then(|n| n.parse::<u64>().ok()) {
                numbers.push(number);
            } else if name.ends_with(".part") {
                std::fs::remove_file(entry.path()).map_err(failed)?;
            } else if name.ends_with(".image") {
                images.push((entry.path(), entry.metadata().map_err(failed)?.len()));
            }
        }
        numbers.sort_unstable();
        let (files, waiting) = (Mutex::default(), AtomicU64::new(0));
        let start = Cursor::default();
        let mut spool = Spool { dir: dir.to_owned(), sync, files, images: waiting, start };
        let (mut named, mut start) = (BTreeSet::new(), None);
        let mut each = |head: Head, next| {
            if matches!(head.what, What::Image(_)) {
                named.insert(spool.image(&head.stream, head.position));
            }
            if start.is_none() && published == Some((head.stream, head.position)) {
                start = Some(next);
                named.clear();
            }
            each(head);
        };
        let mut broken = false;
        for number in numbers {
            let path = spool.file(number);
            let failed = |source| Error::File { path: path.clone(), source };
            if broken {
                // Behind what is lost nothing fits on.
                std::fs::remove_file(&path).map_err(failed)?;
                continue;
            }
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
            let length = file.metadata().map_err(failed)?.len();
            let whole = spool.scan(number, length, &mut each)?;
            file.set_len(whole).map_err(failed)?;
            broken = whole < length;
            spool.files().push_back((number, whole));
        }
        for (path, length) in images {
            match named.contains(&path) {
                true => spool.add_image(length),
                // Its entry was cut off, and it is taken again; or it was published.
                false => std::fs::remove_file(path).map_err(failed)?,
            }
        }
        let first = Cursor { file: spool.files().front().map_or(0, |file| file.0), offset: 0 };
        spool.start = start.unwrap_or(first);
        Ok(spool)
    }

    /// Begins to append.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if the file cannot be made or opened.
    pub(super) fn batch(&self) -> Result<Batch<'_>> {
        let last = self.files().back().copied();
        let (number, length) = match last {
            Some((number, length)) if length < FILE_BYTES => (number, length),
            Some((number, _)) => (number + 1, 0),
            None => (1, 0),
        };
        let path = self.file(number);
        let failed = |source| Error::File { path: path.clone(), source };
        let options = OpenOptions::new().write(true).create(true).mode(0o600).to_owned();
        let mut file = options.open(&path).map_err(failed)?;
        // An earlier batch may have come to nothing.
        file.set_len(length).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let file = BufWriter::with_capacity(1 << 18, file);
        Ok(Batch { spool: self, number, path, file, length })
    }

    /// Where the oldest entry was that was not published when it was opened.
    pub(super) fn start(&self) -> Cursor {
        self.start
    }

    /// Where the next entry will be.
    pub(super) fn end(&self) -> Cursor {
        self.files()
            .back()
            .map_or(Cursor::default(), |file| Cursor { file: file.0, offset: file.1 })
    }

    /// Reads entries from there on while `wanted`, at least one if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if a file cannot be read or is not what was written.
    pub(super) fn take(
        &self,
        mut from: Cursor,
        mut wanted: impl FnMut(&Entry) -> bool,
    ) -> Result<Vec<Entry>> {
        let files: Vec<(u64, u64)> = self.files().iter().copied().collect();
        let mut taken = Vec::new();
        let first = from.file;
        for (number, length) in files.into_iter().filter(|file| file.0 >= first) {
            if number != from.file {
                from = Cursor { file: number, offset: 0 };
            }
            let path = self.file(number);
            let failed = |source| Error::File { path: path.clone(), source };
            let mut file = File::open(&path).map_err(failed)?;
            file.seek(SeekFrom::Start(from.offset)).map_err(failed)?;
            let mut file = BufReader::with_capacity(1 << 18, file);
            while from.offset < length {
                let entry = read_entry(&mut file, &path, from, length).map_err(failed)?;
                let Some(entry) = entry else {
                    let why = "an entry of the spool is not what was written";
                    return Err(failed(io::Error::new(io::ErrorKind::InvalidData, why)));
                };
                let more = wanted(&entry);
                if !more && !taken.is_empty() {
                    return Ok(taken);
                }
                from = entry.next;
                taken.push(entry);
                if !more {
                    return Ok(taken);
                }
            }
        }
        Ok(taken)
    }

    /// Deletes the files of which everything lies before that place.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if one cannot be deleted.
    pub(super) fn release(&self, upto: Cursor) -> Result<()> {
        let mut files = self.files();
        while let Some(&(number, length)) = files.front() {
            let before = number < upto.file || (number == upto.file && upto.offset >= length);
            // The last one goes on being written, and its number is not given again.
            if files.len() == 1 || !before {
                break;
            }
            let path = self.file(number);
            std::fs::remove_file(&path).map_err(|source| Error::File { path, source })?;
            files.pop_front();
        }
        Ok(())
    }

    /// How much lies behind that place. Bytes, images not counted.
    pub(super) fn bytes_behind(&self, place: Cursor) -> u64 {
        let files = self.files();
        let behind = files.iter().filter(|file| file.0 >= place.file);
        behind.map(|file| file.1 - if file.0 == place.file { place.offset } else { 0 }).sum()
    }

    /// How large the images are together that wait for the store. Bytes.
    pub(super) fn image_bytes(&self) -> u64 {
        self.images.load(Ordering::SeqCst)
    }

    /// An image of so many bytes waits as well.
    pub(super) fn add_image(&self, length: u64) {
        self.images.fetch_add(length, Ordering::SeqCst);
    }

    /// An image of so many bytes waits no more.
    pub(super) fn image_is_stored(&self, length: u64) {
        self.images.fetch_sub(length, Ordering::SeqCst);
    }

    /// The file of an image.
    pub(super) fn image(&self, stream: &StreamId, position: u64) -> PathBuf {
        self.dir.join(format!("{stream}-{position}.image"))
    }

    fn file(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:012}.spool"))
    }

    /// Reads a file's entries, and up to where capture can go on.
    fn scan(&self, number: u64, length: u64, each: &mut impl FnMut(Head, Cursor)) -> Result<u64> {
        let path = self.file(number);
        let failed = |source| Error::File { path: path.clone(), source };
        let mut file = BufReader::with_capacity(1 << 18, File::open(&path).map_err(failed)?);
        let mut place = Cursor { file: number, offset: 0 };
        let (mut whole, mut batch) = (0, Vec::new());
        while let Some(entry) = read_entry(&mut file, &path, place, length).map_err(failed)? {
            place = entry.next;
            let ends = entry.head.resume.is_some();
            batch.push((entry.head, place));
            if ends {
                whole = place.offset;
                batch.drain(..).for_each(|(head, next)| each(head, next));
            }
        }
        Ok(whole)
    }

    fn files(&self) -> MutexGuard<'_, VecDeque<(u64, u64)>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch<'_> {
    /// Adds an entry; `write` writes just so many bytes.
    ///
    /// # Errors
    ///
    /// [`Error::File`]: a disk that is full, above all; or what `write` says.
    pub(super) fn add(
        &mut self,
        head: &Head,
        length: u64,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        let failed = |source| Error::File { path: self.path.clone(), source };
        let head = crate::format::encode(head);
        let head_len = u32::try_from(head.len()).unwrap_or(u32::MAX);
        let before = [&head_len.to_le_bytes()[..], &length.to_le_bytes()[..]].concat();
        self.file.write_all(&before).map_err(failed)?;
        let mut summed = Summed { to: &mut self.file, sum: XxHash3_64::new(), count: 0 };
        summed.write_all(&head).map_err(failed)?;
        write(&mut summed)?;
        let (sum, count) = (summed.sum.finish(), summed.count);
        if count != head.len() as u64 + length {
            let why = "a transaction has another length than it said";
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        self.file.write_all(&sum.to_le_bytes()).map_err(failed)?;
        self.length += FRAME + count + SUM;
        Ok(())
    }

    /// Lets everything that was added be seen.
    ///
    /// # Errors
    ///
    /// [`Error::File`]; then nothing of it is.
    pub(super) fn keep(mut self) -> Result<()> {
        let flushed = self.file.flush();
        let synced = flushed.and_then(|()| match self.spool.sync {
            true => self.file.get_ref().sync_data(),
            false => Ok(()),
        });
        synced.map_err(|source| Error::File { path: self.path.clone(), source })?;
        let mut files = self.spool.files();
        match files.back_mut() {
            Some(last) if last.0 == self.number => last.1 = self.length,
            _ => files.push_back((self.number, self.length)),
        }
        Ok(())
    }
}

/// Counts and sums what goes through.
struct Summed<'a> {
    to: &'a mut BufWriter<File>,
    sum: XxHash3_64,
    count: u64,
}

impl Write for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        let done = bytes.get(..written).unwrap_or_default();
        self.sum.write(done);
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::UnixTime;

    fn head(position: u64, ends: bool) -> Head {
        Head {
            stream: StreamId([1; 16]),
            position,
            at: UnixTime::new(5, 6),
            what: What::Change(1, 2, 512, vec![1, 2]),
            resume: ends.then(|| b"here".to_vec().into()),
        }
    }

    fn write(data: &[u8]) -> impl FnOnce(&mut dyn Write) -> Result<()> + '_ {
        move |to| {
            to.write_all(data).unwrap();
            Ok(())
        }
    }

    fn append(spool: &Spool, positions: std::ops::RangeInclusive<u64>, bytes: usize) {
        let mut batch = spool.batch().unwrap();
        let last = *positions.end();
        for position in positions {
            let data = vec![position as u8; bytes];
            batch.add(&head(position, position == last), bytes as u64, write(&data)).unwrap();
        }
        batch.keep().unwrap();
    }

    fn open(dir: &Path) -> (Spool, Vec<u64>) {
        let mut found = Vec::new();
        let spool = Spool::open(dir, false, None, |head| found.push(head.position)).unwrap();
        (spool, found)
    }

    fn all(spool: &Spool) -> Vec<u64> {
        let entries = spool.take(spool.start(), |_| true).unwrap();
        entries.iter().map(|entry| entry.head.position).collect()
    }

    #[test]
    fn what_was_appended_is_taken_in_order_and_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, found) = open(dir.path());
        assert!(found.is_empty() && all(&spool).is_empty());
        append(&spool, 1..=3, 700);
        append(&spool, 4..=4, 0);
        assert_eq!(all(&spool), [1, 2, 3, 4]);
        let some = spool.take(spool.start(), |entry| entry.head.position < 2).unwrap();
        assert_eq!(some.len(), 1);
        let rest = spool.take(some[0].next, |_| true).unwrap();
        assert_eq!(rest[0].head, head(2, false));
        let mut bytes = Vec::new();
        rest[0].data.read().unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [2; 700]);
        drop(spool);
        let (spool, found) = open(dir.path());
        assert_eq!(found, [1, 2, 3, 4]);
        append(&spool, 5..=5, 1);
        assert_eq!(all(&spool), [1, 2, 3, 4, 5]);
    }

    /// A batch counts whole or not at all: what is cut off is captured again, from where the
    /// last whole one ended.
    #[test]
    fn a_batch_that_was_cut_anywhere_is_as_if_it_had_not_been() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = open(dir.path());
        append(&spool, 1..=2, 10);
        let before = spool.bytes_behind(spool.start());
        append(&spool, 3..=5, 10);
        let (path, whole) = (spool.file(1), spool.bytes_behind(spool.start()));
        let bytes = std::fs::read(&path).unwrap();
        for cut in before..whole {
            std::fs::write(&path, &bytes[..cut as usize]).unwrap();
            let (spool, found) = open(dir.path());
            assert_eq!(found, [1, 2], "cut at {cut}");
            append(&spool, 3..=3, 4);
            assert_eq!(all(&spool), [1, 2, 3]);
        }
        for flipped in before..whole {
            let mut damaged = bytes.clone();
            damaged[flipped as usize] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(open(dir.path()).1, [1, 2], "flipped at {flipped}");
        }
    }

    #[test]
    fn what_was_given_up_half_way_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = open(dir.path());
        append(&spool, 1..=1, 3);
        let mut batch = spool.batch().unwrap();
        batch.add(&head(2, false), 0, |_| Ok(())).unwrap();
        drop(batch);
        let mut batch = spool.batch().unwrap();
        assert!(batch.add(&head(2, true), 2, write(b"x")).is_err());
        drop(batch);
        append(&spool, 2..=2, 3);
        assert_eq!(all(&spool), [1, 2]);
    }

    /// An image that was written counts for as long as an entry names it; else it goes.
    #[test]
    fn images_wait_as_long_as_they_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = open(dir.path());
        let head = Head { what: What::Image(None), ..head(7, true) };
        let named = spool.image(&head.stream, 7);
        let other = spool.image(&head.stream, 9);
        std::fs::write(&named, [0; 70]).unwrap();
        std::fs::write(&other, [0; 90]).unwrap();
        let mut batch = spool.batch().unwrap();
        batch.add(&head, 0, |_| Ok(())).unwrap();
        batch.keep().unwrap();
        let (spool, _) = open(dir.path());
        assert_eq!(spool.image_bytes(), 70);
        assert!(named.exists() && !other.exists());
        spool.image_is_stored(70);
        assert_eq!(spool.image_bytes(), 0);
    }

    /// What was published begins with what a file still has of other streams.
    #[test]
    fn what_was_published_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = open(dir.path());
        append(&spool, 1..=5, 3);
        let image = spool.image(&StreamId([1; 16]), 9);
        std::fs::write(image, [0; 9]).unwrap();
        let mut batch = spool.batch().unwrap();
        batch.add(&Head { what: What::Image(None), ..head(9, true) }, 0, |_| Ok(())).unwrap();
        batch.keep().unwrap();
        for (position, left, waits) in [(3, vec![4, 5, 9], 9), (9, vec![], 0), (7, vec![], 0)] {
            let published = Some((StreamId([1; 16]), position));
            let spool = Spool::open(dir.path(), false, published, |_| ()).unwrap();
            if position == 7 {
                // Nothing of it is there any more: all that is there came later.
                assert_eq!(all(&spool), [1, 2, 3, 4, 5, 9]);
                continue;
            }
            assert_eq!(all(&spool), left);
            assert_eq!(spool.image_bytes(), waits);
        }
    }

    #[test]
    fn files_that_are_published_are_deleted_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = open(dir.path());
        let large = FILE_BYTES as usize;
        append(&spool, 1..=1, large);
        append(&spool, 2..=2, large);
        append(&spool, 3..=3, 5);
        let entries = spool.take(spool.start(), |_| true).unwrap();
        spool.release(entries[0].next).unwrap();
        assert_eq!(all(&spool), [2, 3]);
        assert!(spool.bytes_behind(entries[1].next) < 200);
        spool.release(entries[2].next).unwrap();
        // The last one is not full yet, so what is in it is passed over and not deleted.
        assert_eq!(spool.take(entries[2].next, |_| true).unwrap(), []);
        append(&spool, 4..=4, 5);
        assert_eq!(spool.take(entries[2].next, |_| true).unwrap()[0].head.position, 4);
    }
}
