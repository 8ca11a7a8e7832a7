//! When nothing moves: a party has several threads, and which of their calls happens
//! next may be decided only when all of them wait.

use std::fs;

use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

/// Keeps this thread, and all that it will start, on one processor: a backup then has
/// one reader and one compressor, so that its packs do not depend on who was faster.
/// Returns what was allowed before.
pub fn stay_on(processor: usize) -> CpuSet {
    let before = sched_getaffinity(None).unwrap();
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|n| before.is_set(*n)).collect();
    let mut one = CpuSet::new();
    one.set(allowed[processor % allowed.len()]);
    sched_setaffinity(None, &one).unwrap();
    before
}

/// Allows again what was.
pub fn go(before: &CpuSet) {
    sched_setaffinity(None, before).unwrap();
}

/// Waits until all other threads of this process sleep.
///
/// One that is woken runs from that moment on, and every time it runs is counted by the
/// kernel. So if all sleep and have not run since they were last looked at, there was
/// a moment at which all of them slept, and none can wake another.
pub fn settle() {
    let mut before = threads();
    loop {
        let now = threads();
        if now.is_some() && now == before {
            return;
        }
        before = now;
        std::thread::yield_now();
    }
}

/// How often each of the other threads has run; none if one of them is running.
fn threads() -> Option<Vec<(String, String)>> {
    let own = gettid().as_raw_nonzero().to_string();
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let id = entry.file_name().into_string().unwrap();
        if id == own {
            continue;
        }
        // One that ended meanwhile cannot be read.
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else { return None };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        if !field("State:").starts_with('S') {
            return None;
        }
        let ran = field("voluntary_ctxt_switches:") + "/" + &field("nonvoluntary_ctxt_switches:");
        all.push((id, ran));
    }
    all.sort();
    Some(all)
}
