//! Reading many objects whole, a few at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::base::{Kind, Stop, error_chain};
use crate::codec::hash::sha256;
use crate::ops::Result;
use crate::repo;
use crate::store::{self, Page, Store};

/// How many objects are read at a time.
const READERS: usize = 4;
/// An object of more bytes is read while no other such is.
const LARGE: u64 = 32 << 20;
/// How many objects are read in one go, between which what was found is noted.
pub(in crate::ops) const BATCH: usize = 32;

/// An object to be read.
#[derive(Debug, Clone)]
pub(in crate::ops) struct Job {
    pub(in crate::ops) name: String,
    /// Its size, as it is listed. Bytes.
    pub(in crate::ops) size: u64,
    /// The most that an object of its kind may have. Bytes.
    pub(in crate::ops) most: u64,
}

/// Reads objects and hands each to `work`. What is not read any more when the wish to
/// stop comes is not in the answer.
pub(in crate::ops) fn sweep<T: Send>(
    store: &dyn Store,
    jobs: &[Job],
    stop: &Stop,
    work: impl Fn(usize, &Job, store::Result<Bytes>) -> T + Sync,
) -> repo::Result<Vec<(usize, T)>> {
    let next = AtomicUsize::new(0);
    let large = Mutex::new(());
    let worker = || {
        let mut mine = Vec::new();
        while !stop.is_raised() {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(at) else { break };
            let _turn =
                (job.size > LARGE).then(|| large.lock().unwrap_or_else(PoisonError::into_inner));
            mine.push((at, work(at, job, store.get(&job.name, job.most))));
        }
        mine
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..READERS.min(jobs.len())).map(|_| scope.spawn(worker)).collect();
        let mut all = Vec::new();
        for worker in workers {
            let mine = worker.join().map_err(|_| repo::Error::Worker("a reader".into()))?;
            all.extend(mine);
        }
        Ok(all)
    })
}

/// What an object's bytes are, beside the hash in its name.
pub(in crate::ops) enum Verdict {
    /// What the name says.
    Same,
    /// Something else.
    Wrong(String),
    /// Gone since it was listed.
    Gone,
}

/// Reads objects, compares each with the hash that its bytes must have, and tells `each`.
pub(in crate::ops) fn compare(
    store: &dyn Store,
    objects: &[(Job, [u8; 32])],
    stop: &Stop,
    mut each: impl FnMut(&Job, Verdict) -> Result<()>,
) -> Result<()> {
    for batch in objects.chunks(BATCH) {
        let (jobs, hashes): (Vec<Job>, Vec<[u8; 32]>) = batch.iter().cloned().unzip();
        let same = |at: usize, _: &Job, read: store::Result<Bytes>| {
            read.map(|bytes| sha256(&bytes) == hashes[at])
        };
        for (at, same) in sweep(store, &jobs, stop, same)? {
            let verdict = match same {
                Ok(true) => Verdict::Same,
                Ok(false) => Verdict::Wrong("its bytes are not what its name says".to_owned()),
                Err(error) if error.kind == Kind::Damaged => Verdict::Wrong(error_chain(&error)),
                Err(error) if error.kind == Kind::NotFound => Verdict::Gone,
                Err(error) => return Err(error.into()),
            };
            each(&jobs[at], verdict)?;
        }
        if stop.is_raised() {
            return Err(repo::Error::Interrupted.into());
        }
    }
    Ok(())
}

/// Hands every page of a listing to `each`.
pub(in crate::ops) fn each_page(
    store: &dyn Store,
    prefix: &str,
    mut each: impl FnMut(Page) -> Result<()>,
) -> Result<()> {
    let mut after: Option<String> = None;
    loop {
        let page = store.list(prefix, after.as_deref())?;
        after = page.objects.last().filter(|_| page.more).map(|last| last.key.clone());
        each(page)?;
        if after.is_none() {
            return Ok(());
        }
    }
}
