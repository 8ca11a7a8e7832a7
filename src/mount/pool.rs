//! Threads for questions that have to wait, and the clock that runs meanwhile.
//!
//! The event loops answer what is in memory and hand the rest on, with the reply,
//! to a bounded number of workers. A process that waits for a reply cannot even be
//! killed, so every question has a deadline: when it passes, the watchdog takes the
//! reply and refuses it, and what the worker finds later is dropped. A worker that
//! panics refuses its reply as well; the thread goes on.
//!
//! There is a worker for each question that waits, up to their number; they are started when
//! they are needed first, which for most mounts is never for most.
//!
//! The queue is bounded. The kernel keeps as many questions open as there are
//! processes asking, and [`QUEUE_MAX`] is more than that in practice; if it does
//! fill up, the event loops wait, which is what slows those processes down.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Questions that wait for a worker.
const QUEUE_MAX: usize = 4096;

/// Why a reply gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Time is up.
    Late,
    /// The handler panicked.
    Panicked,
}

/// A reply that can be refused.
pub(super) trait Refuse: Send + 'static {
    /// Ends the reply without an answer.
    fn refuse(self, why: Refusal);
}

type Job = Box<dyn FnOnce() + Send>;

/// Workers and their watchdog. Dropping it ends the threads that are not stuck.
pub(super) struct Pool {
    jobs: Sender<Job>,
    queue: Receiver<Job>,
    workers_max: usize,
    /// Workers that there are.
    workers: Mutex<usize>,
    /// Questions that no worker has done with.
    pending: Arc<AtomicUsize>,
    watch: Arc<Watch>,
    deadline: Duration,
}

impl Pool {
    /// Up to that many workers; every question has `deadline` to be answered.
    pub(super) fn new(workers: usize, deadline: Duration) -> io::Result<Pool> {
        let (jobs, queue): (_, Receiver<Job>) = bounded(QUEUE_MAX);
        let watch = Arc::new(Watch::default());
        let watched = Arc::clone(&watch);
        thread::Builder::new().name("asof-watchdog".to_owned()).spawn(move || watched.run())?;
        let (workers_max, pending) = (workers.max(1), Arc::default());
        let pool =
            Pool { jobs, queue, workers_max, workers: Mutex::new(0), pending, watch, deadline };
        pool.start_worker(&mut lock(&pool.workers))?;
        Ok(pool)
    }

    fn start_worker(&self, workers: &mut usize) -> io::Result<()> {
        let (queue, pending) = (self.queue.clone(), Arc::clone(&self.pending));
        thread::Builder::new().name(format!("asof-worker-{workers}")).spawn(move || {
            for job in queue {
                // What panics in it was caught in it; this is for the rest.
                let _ = guarded(job);
                pending.fetch_sub(1, Ordering::Relaxed);
            }
        })?;
        *workers += 1;
        Ok(())
    }

    /// Lets a worker do `work` and `send` its result with the reply, unless the
    /// reply was refused before.
    pub(super) fn run<R: Refuse, A>(
        &self,
        reply: R,
        work: impl FnOnce() -> A + Send + 'static,
        send: impl FnOnce(R, A) + Send + 'static,
    ) {
        let slot = Arc::new(Slot(Mutex::new(Some(reply))));
        let place = self.watch.enter(now() + self.deadline, Arc::clone(&slot) as _);
        let watch = Arc::clone(&self.watch);
        let job = Box::new(move || {
            if lock(&slot.0).is_none() {
                return;
            }
            let result = guarded(work);
            watch.leave(place);
            let Some(reply) = lock(&slot.0).take() else { return };
            match result {
                Ok(answer) => send(reply, answer),
                Err(_) => reply.refuse(Refusal::Panicked),
            }
        });
        let pending = self.pending.fetch_add(1, Ordering::Relaxed) + 1;
        let mut workers = lock(&self.workers);
        if pending > *workers && *workers < self.workers_max {
            // Where there can be no more, those that there are take one after the other.
            let _ = self.start_worker(&mut workers);
        }
        drop(workers);
        // If the queue stays full all the time, the watchdog refuses the reply.
        if self.jobs.send_timeout(job, self.deadline).is_err() {
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.watch.close();
    }
}

/// Runs `act`; a panic is logged and returned.
pub(super) fn guarded<T>(act: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(act)).inspect_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!(panic = text.unwrap_or("(no message)"), "a handler of the mount panicked");
    })
}

/// A reply that either its worker or the watchdog takes.
struct Slot<R>(Mutex<Option<R>>);

trait Expire: Send + Sync {
    fn expire(&self);
}

impl<R: Refuse> Expire for Slot<R> {
    fn expire(&self) {
        if let Some(reply) = lock(&self.0).take() {
            reply.refuse(Refusal::Late);
        }
    }
}

/// The replies that are waited for, in order of their deadlines: all have the same
/// time, so that is the order in which they came.
#[derive(Default)]
struct Watch {
    open: Mutex<Open>,
    changed: Condvar,
    next: AtomicU64,
}

#[derive(Default)]
struct Open {
    replies: BTreeMap<u64, (Instant, Arc<dyn Expire>)>,
    /// The watchdog sleeps until somebody wakes it, and not until a deadline. It stays asleep
    /// when the reply of that deadline was sent: whatever comes later has a later one, and
    /// waking it for each question would cost as much as many an answer.
    unset: bool,
    closed: bool,
}

impl Watch {
    fn enter(&self, deadline: Instant, reply: Arc<dyn Expire>) -> u64 {
        let place = self.next.fetch_add(1, Ordering::Relaxed);
        let mut open = lock(&self.open);
        open.replies.insert(place, (deadline, reply));
        if std::mem::take(&mut open.unset) {
            self.changed.notify_one();
        }
        place
    }

    fn leave(&self, place: u64) {
        lock(&self.open).replies.remove(&place);
    }

    fn close(&self) {
        lock(&self.open).closed = true;
        self.changed.notify_one();
    }

    fn run(&self) {
        let mut open = lock(&self.open);
        loop {
            let next = open.replies.first_key_value().map(|(place, (at, _))| (*place, *at));
            open = match next {
                None if open.closed => return,
                None => {
                    open.unset = true;
                    self.changed.wait(open).unwrap_or_else(PoisonError::into_inner)
                }
                Some((place, at)) => {
                    let left = at.saturating_duration_since(now());
                    if left.is_zero() {
                        let late = open.replies.remove(&place);
                        drop(open);
                        if let Some((_, reply)) = late {
                            reply.expire();
                        }
                        lock(&self.open)
                    } else {
                        let waited = self.changed.wait_timeout(open, left);
                        waited.unwrap_or_else(PoisonError::into_inner).0
                    }
                }
            };
        }
    }
}

/// Deadlines are spans of this machine's own time and never shown, so they need no
/// clock that is handed in.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

/// What is locked here is a map and options: whole after any panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;

    struct Told(Sender<&'static str>);

    impl Told {
        fn answer(self, (): ()) {
            self.0.send("answered").unwrap();
        }
    }

    impl Refuse for Told {
        fn refuse(self, why: Refusal) {
            let _ = self.0.send(if why == Refusal::Late { "late" } else { "panicked" });
        }
    }

    /// A worker that hangs costs its own question an error and no other question anything.
    #[test]
    fn a_stuck_question_is_refused_and_its_late_answer_dropped() {
        let pool = Pool::new(2, Duration::from_millis(50)).unwrap();
        let (told, answers) = unbounded();
        let (release, stuck) = bounded::<()>(0);
        let (ended, end) = unbounded::<()>();
        pool.run(
            Told(told.clone()),
            move || {
                let _ = stuck.recv();
                drop(ended);
            },
            Told::answer,
        );
        assert_eq!(answers.recv().unwrap(), "late");
        pool.run(Told(told), || (), Told::answer);
        assert_eq!(answers.recv().unwrap(), "answered");
        drop(release);
        assert!(end.recv().is_err());
        assert!(answers.recv().is_err(), "one reply, one answer");
    }

    /// The watchdog wakes for every question, whether one before was answered or refused.
    #[test]
    fn stuck_questions_behind_others_are_refused() {
        let pool = Pool::new(3, Duration::from_millis(50)).unwrap();
        let (told, answers) = unbounded();
        let (release, stuck) = bounded::<()>(0);
        pool.run(Told(told.clone()), || (), Told::answer);
        assert_eq!(answers.recv().unwrap(), "answered");
        for _ in 0..2 {
            let stuck = stuck.clone();
            let wait = move || stuck.recv().unwrap_or_default();
            pool.run(Told(told.clone()), wait, Told::answer);
            assert_eq!(answers.recv_timeout(Duration::from_secs(20)), Ok("late"));
        }
        drop(release);
    }

    /// As long as there may be more workers, no question waits for another's.
    #[test]
    fn stuck_questions_hold_up_no_other() {
        let pool = Pool::new(4, Duration::from_secs(60)).unwrap();
        let (told, answers) = unbounded();
        let (release, stuck) = bounded::<()>(0);
        for _ in 0..3 {
            let stuck = stuck.clone();
            let wait = move || stuck.recv().unwrap_or_default();
            pool.run(Told(told.clone()), wait, Told::answer);
        }
        for _ in 0..20 {
            pool.run(Told(told.clone()), || (), Told::answer);
            assert_eq!(answers.recv().unwrap(), "answered");
        }
        assert!(answers.try_recv().is_err(), "three are stuck");
        assert_eq!(*lock(&pool.workers), 4);
        drop((release, told));
        assert_eq!(answers.iter().count(), 3);
    }

    #[test]
    fn a_panic_refuses_its_question_and_the_worker_goes_on() {
        let pool = Pool::new(1, Duration::from_secs(60)).unwrap();
        let (told, answers) = unbounded();
        pool.run(Told(told.clone()), || panic!("as planned"), |_: Told, ()| {});
        pool.run(Told(told), || (), Told::answer);
        assert_eq!(answers.iter().collect::<Vec<_>>(), ["panicked", "answered"]);
    }
}
