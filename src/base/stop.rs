//! The wish to stop, shared by everything that works for one command.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that a signal handler raises and long loops look at.
///
/// Cloning shares the flag. Work that sees it raised ends with an error of kind
/// [`Interrupted`](crate::base::Kind::Interrupted) and publishes nothing more.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    /// What raises this one as well.
    above: Option<Arc<Stop>>,
}

impl Stop {
    /// A flag that is not raised.
    #[must_use]
    pub fn new() -> Stop {
        Stop::default()
    }

    /// A flag that is raised with this one, and also without it: to end a part of the work.
    #[must_use]
    pub fn below(&self) -> Stop {
        Stop { flag: Arc::default(), above: Some(Arc::new(self.clone())) }
    }

    /// Raises the flag. There is no way back.
    pub fn raise(&self) {
        self.flag.store(true, Ordering::SeqCst);
    }

    /// Whether the flag was raised.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
            || self.above.as_ref().is_some_and(|stop| stop.is_raised())
    }

    /// The flag itself, for signal handlers that can only set an atomic.
    #[must_use]
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_can_be_stopped_alone_and_stops_with_the_whole() {
        let whole = Stop::new();
        let (one, other) = (whole.below(), whole.below());
        one.raise();
        assert!(one.clone().is_raised() && !other.is_raised() && !whole.is_raised());
        whole.raise();
        assert!(other.below().is_raised());
    }
}
