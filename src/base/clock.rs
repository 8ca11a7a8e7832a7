//! The clock, as a value that is passed in.
//!
//! An as-of file system lives from times, so no function below the command line
//! asks the machine for one: it is handed a [`Clock`], and a test hands it
//! another.

use std::fmt;
use std::sync::Arc;

use crate::base::UnixTime;

/// Where the present comes from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> UnixTime + Send + Sync>);

impl Clock {
    /// The machine's own clock.
    #[must_use]
    #[allow(clippy::disallowed_methods)]
    pub fn system() -> Clock {
        Clock(Arc::new(|| UnixTime::from(std::time::SystemTime::now())))
    }

    /// A clock that answers whatever `now` returns.
    #[must_use]
    pub fn from_fn(now: impl Fn() -> UnixTime + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now))
    }

    /// The present, as this clock has it.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}
