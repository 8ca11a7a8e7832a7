//! A core for each event loop.
//!
//! A request that is handled on another core than the one it was made on costs two
//! interrupts between cores, and on a virtual machine each may cost as much as all the rest.
//! The kernel hands requests to the loops in turn, wherever they are. With one loop a core,
//! and each kept there, some requests find the loop that is where they were made: on two
//! cores every other one. With many cores that would be luck, and a loop that may not move
//! away from a busy core is slow, so there the loops are left alone. The same holds for who
//! asks little: right after the start the threads that fetch ahead are on some core for
//! milliseconds, and a loop that is kept there waits for them. It is kept only from when it
//! has answered many questions.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// With more cores loops are not kept on one.
const CORES_MAX: usize = 4;

/// Questions that come to a loop before it is kept on a core.
const QUESTIONS_BEFORE: u32 = 64;

thread_local! {
    static QUESTIONS: Cell<u32> = const { Cell::new(0) };
}

/// The cores that event loops can have, one each.
pub(in crate::mount) struct Seats {
    cores: Vec<usize>,
    taken: AtomicUsize,
}

impl Seats {
    /// A core for each of `loops` event loops, if there are as many cores as loops, and few.
    pub(in crate::mount) fn for_loops(loops: usize) -> Seats {
        let cores = match (available_parallelism(), sched_getaffinity(None)) {
            (Ok(cores), Ok(allowed))
                if cores.get() == loops && (2..=CORES_MAX).contains(&loops) =>
            {
                (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect()
            }
            _ => Vec::new(),
        };
        Seats { cores, taken: AtomicUsize::new(0) }
    }

    /// Called by an event loop for each question; keeps it on a core of its own when there
    /// have been many.
    pub(super) fn asked(&self) {
        let before = QUESTIONS.get();
        QUESTIONS.set(before.saturating_add(1));
        if before != QUESTIONS_BEFORE {
            return;
        }
        let Some(core) = self.cores.get(self.taken.fetch_add(1, Ordering::Relaxed)) else { return };
        let mut own = CpuSet::new();
        own.set(*core);
        // It is only faster.
        let _ = sched_setaffinity(None, &own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A core each, and never two for one loop; none where that would be luck.
    #[test]
    fn there_is_a_core_for_each_loop_or_none_for_any() {
        let cores = available_parallelism().map_or(1, std::num::NonZero::get);
        for loops in 1..=CORES_MAX + 2 {
            let seats = Seats::for_loops(loops);
            let expected =
                if loops == cores && (2..=CORES_MAX).contains(&loops) { loops } else { 0 };
            assert_eq!(seats.cores.len(), expected, "{loops}");
        }
        assert!(Seats::for_loops(CORES_MAX + 1).cores.is_empty());
    }

    #[test]
    fn a_loop_sits_down_after_many_questions_and_stays_there() {
        let allowed = sched_getaffinity(None).unwrap();
        let core = (0..CpuSet::MAX_CPU).find(|core| allowed.is_set(*core)).unwrap();
        let seats = Seats { cores: vec![core], taken: AtomicUsize::new(0) };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..QUESTIONS_BEFORE).for_each(|_| seats.asked());
                assert_eq!(sched_getaffinity(None).unwrap(), allowed);
                (0..QUESTIONS_BEFORE).for_each(|_| seats.asked());
                let own = sched_getaffinity(None).unwrap();
                assert_eq!((own.count(), own.is_set(core)), (1, true));
            });
        });
        assert_eq!(seats.taken.load(Ordering::Relaxed), 1);
    }
}
