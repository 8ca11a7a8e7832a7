//! Waiting, and measuring how long something took.
//!
//! Only this file sleeps, and only it asks for the monotonic time. Nothing waits
//! without looking at [`Stop`]: the flag is set by signal handlers, which can
//! set an atomic and wake nobody, so a pause is made of slices short enough that
//! nobody notices them.

use std::time::{Duration, Instant};

use crate::base::Stop;

/// How long a pause goes on before it looks at the flag again.
pub const SLICE: Duration = Duration::from_millis(20);

/// Waits for `duration`, or until `stop` is raised.
///
/// Returns whether the time passed in full; false means that it was asked to stop.
#[must_use = "false means that the caller must stop"]
#[allow(clippy::disallowed_methods)]
pub fn pause(duration: Duration, stop: &Stop) -> bool {
    let end = monotonic().checked_add(duration);
    while !stop.is_raised() {
        let left = end.map_or(SLICE, |end| end.saturating_duration_since(monotonic()));
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(SLICE));
    }
    false
}

/// The monotonic time: for durations and deadlines, never for what is shown or stored.
#[must_use]
#[allow(clippy::disallowed_methods)]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// How long ago the machine started, by a clock that goes on while it is suspended.
///
/// For how much time passed for *others* meanwhile. A virtual machine that is
/// stopped as a whole does not notice, and no clock of its own could tell it.
#[must_use]
pub fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_by_time_or_by_the_flag() {
        let stop = Stop::new();
        assert!(pause(Duration::from_millis(1), &stop));
        stop.raise();
        assert!(!pause(Duration::MAX, &stop), "a raised flag ends even an endless pause");
    }
}
