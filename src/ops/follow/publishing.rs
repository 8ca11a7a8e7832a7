//! The side of the store: what is in the spool becomes segments and snapshots.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::change::{Change, What};
use super::durable::{Durable, Tail};
use super::publish::{Image, Publisher};
use super::spool::Entry;
use super::status::State;
use super::{Shared, lock};
use crate::base::pause::monotonic;
use crate::base::{Kind, Stop, UnixTime, error_chain, pause};
use crate::format::node::{Entry as Node, FileKind};
use crate::format::segment::StreamPoint;
use crate::ops::backup::owner_of;
use crate::ops::{Error, Result};
use crate::repo::trees::Draft;
use crate::source::Owners;

/// A segment has no more pages, and no more bytes, unless one change has.
const SEGMENT_PAGES: u64 = 1 << 16;
const SEGMENT_BYTES: u64 = 32 << 20;
/// After so many pages at least another image is made: a view looks through all that
/// were written since. And after so many at most.
const IMAGE_PAGES_MIN: u64 = 1 << 18;
const IMAGE_PAGES_MAX: u64 = 1 << 20;
/// How long until what failed is tried again, at first and at most.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Publishes until capture has ended and everything is in the store, or, after that, until
/// something fails.
pub(super) fn run(shared: &Shared<'_>) -> Result<()> {
    // What was captured when the process is asked to stop is still to be published.
    let never = Stop::new();
    let options = shared.options;
    let mut publisher = Publisher::new(shared.repo, options.origin.clone(), options.writer, &never);
    let mut retry = RETRY;
    let mut seen = 0;
    // When publishing something was last begun.
    let mut last = None;
    loop {
        let begun = monotonic();
        let ended = shared.ended.load(Ordering::SeqCst);
        match publish_all(shared, &mut publisher) {
            Ok(some) => {
                retry = RETRY;
                if ended {
                    publisher.close();
                    return Ok(());
                }
                last = if some { Some(begun) } else { last };
                seen = wait_for_news(shared, seen, last);
            }
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => {
                shared.reporter.failed(error_chain(&error));
                if shared.attached.load(Ordering::SeqCst) {
                    shared.reporter.state(State::Lagging);
                }
                if ended {
                    return Err(error);
                }
                let _ = pause(retry, shared.stop);
                retry = (retry * 2).min(RETRY_MAX);
            }
        }
    }
}

/// Whether trying again is of no use.
fn is_final(error: &Error) -> bool {
    matches!(error.kind(), Kind::WrongKey | Kind::NoRepository | Kind::Future | Kind::Interrupted)
}

/// Waits until something was appended, and the interval since `last` has passed.
fn wait_for_news(shared: &Shared<'_>, seen: u64, last: Option<Instant>) -> u64 {
    let appended = lock(&shared.appended);
    let nothing = |appended: &mut u64| *appended == seen && !shared.ended.load(Ordering::SeqCst);
    let appended = shared.news.wait_while(appended, nothing);
    let seen = *appended.unwrap_or_else(PoisonError::into_inner);
    if !shared.options.sync {
        let next = last.and_then(|last| last.checked_add(shared.options.interval));
        let left = next.map_or(Duration::ZERO, |next| next.saturating_duration_since(monotonic()));
        let _ = pause(left, shared.stop);
    }
    seen
}

/// Publishes everything that is in the spool by now. Whether there was something.
///
/// What comes meanwhile is for the next time: else what changes all the time would be
/// published all the time, a few transactions at once.
fn publish_all(shared: &Shared<'_>, publisher: &mut Publisher) -> Result<bool> {
    let end = shared.spool.end();
    let mut some = false;
    loop {
        let (durable, cursor) = lock(&shared.published).clone();
        if cursor >= end {
            return Ok(some);
        }
        let (mut pages, mut bytes, mut first) = (0, 0, None);
        let entries = shared.spool.take(cursor, |entry| {
            let What::Change(_, _, page_bytes, numbers) = &entry.head.what else { return false };
            pages += numbers.len() as u64;
            bytes += entry.length;
            let kind = (entry.head.stream, *page_bytes);
            kind == *first.get_or_insert(kind) && pages <= SEGMENT_PAGES && bytes <= SEGMENT_BYTES
        })?;
        let Some(last) = entries.last() else { return Ok(some) };
        some = true;
        let tail = Tail::of(&last.head);
        let next = last.next;
        let durable = match publish(shared, publisher, durable.as_ref(), &entries, tail)? {
            Some(durable) => {
                durable.write(&shared.options.directory)?;
                Some(durable)
            }
            None => lock(&shared.published).0.clone(),
        };
        *lock(&shared.published) = (durable, next);
        shared.spool.release(next)?;
        shared.report();
        shared.settle();
    }
}

/// Publishes entries, of which all are changes or one is an image. Nothing if they are in
/// the store already.
fn publish(
    shared: &Shared<'_>,
    publisher: &mut Publisher,
    durable: Option<&Durable>,
    entries: &[Entry],
    tail: Tail,
) -> Result<Option<Durable>> {
    let same = durable.filter(|durable| durable.tail.stream == tail.stream);
    let after = same.map(|durable| durable.tail.position);
    if let Some(Entry { head, .. }) = entries.first()
        && let What::Image(gap) = &head.what
    {
        let path = shared.spool.image(&head.stream, head.position);
        let mut file = match File::open(&path) {
            // It was published, and this process was killed before it noted that.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && after.is_some() => {
                return Ok(None);
            }
            other => other.map_err(|source| Error::File { path: path.clone(), source })?,
        };
        let point = StreamPoint { stream: head.stream, position: head.position, gap: gap.clone() };
        let length = file.metadata().map_or(0, |meta| meta.len());
        let image = Image {
            point: Some(point),
            at: head.at,
            file: file_of(&shared.options.database)?,
            bytes: &mut file,
        };
        publisher.image(image)?;
        // An image does not tell how its pages are divided: as small as they can be, so that
        // the next one is rather late than early.
        let durable = Durable { tail, pages_since: 0, image_pages: length / 4096 };
        durable.write(&shared.options.directory)?;
        std::fs::remove_file(&path).map_err(|source| Error::File { path, source })?;
        shared.spool.image_is_stored(length);
        return Ok(Some(durable));
    }
    let new = entries.iter().filter(|entry| after.is_none_or(|after| entry.head.position > after));
    let changes: Vec<Change> = new.filter_map(Entry::change).collect();
    if changes.is_empty() {
        return Ok(None);
    }
    publisher.segment(tail.stream, after.unwrap_or(0), &changes)?;
    let pages: u64 = changes.iter().map(|change| change.numbers.len() as u64).sum();
    let (pages_since, image_pages) =
        same.map_or((0, 0), |durable| (durable.pages_since, durable.image_pages));
    let durable = Durable { tail, pages_since: pages_since + pages, image_pages };
    if durable.pages_since > durable.image_pages.clamp(IMAGE_PAGES_MIN, IMAGE_PAGES_MAX) {
        shared.image_due.store(true, Ordering::SeqCst);
    }
    Ok(Some(durable))
}

/// The database's file without its content. Its attributes are read by its path: opening it
/// would take away the locks that this process holds on it.
pub(super) fn file_of(database: &Path) -> Result<Draft> {
    let failed = |source| Error::File { path: database.to_owned(), source };
    let meta = std::fs::metadata(database).map_err(failed)?;
    let name = database.file_name().map_or(&b"database"[..], OsStrExt::as_bytes);
    let owner = owner_of(&mut Owners::new(), meta.uid(), meta.gid());
    let entry = Node::new(name, FileKind::File, meta.mode() & 0o7777, UnixTime::default());
    Ok(Draft { entry, refs: Vec::new(), owner })
}
