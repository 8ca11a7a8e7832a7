//! How far a piece of work has come, and what went wrong on the way.
//!
//! There is one set of counters for everyone: workers add to it, the terminal
//! draws it, the closing report and `--json` print it. Trouble that does not
//! stop the work (a file that cannot be read) is a [`Problem`], shown at once
//! through the sink and counted for the exit code.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Something that went wrong with one subject while the rest went on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// What it happened to: a path, an object's name.
    pub subject: String,
    /// What happened, without the subject.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.message)
    }
}

/// Where problems are handed as they happen.
type Sink = Box<dyn Fn(&Problem) + Send + Sync>;

/// Counters that workers advance and a terminal shows.
///
/// Shared by reference or `Arc`. All figures only grow.
#[derive(Default)]
pub struct Progress {
    /// Files finished.
    pub files: AtomicU64,
    /// Bytes of content finished.
    pub bytes: AtomicU64,
    /// Files expected, as far as is known.
    pub files_expected: AtomicU64,
    /// Bytes expected, as far as is known.
    pub bytes_expected: AtomicU64,
    /// Bytes sent to the store.
    pub bytes_stored: AtomicU64,
    /// Problems met.
    pub problems: AtomicU64,
    phase: Mutex<&'static str>,
    current: Mutex<String>,
    sink: Option<Sink>,
}

impl Progress {
    /// Counters that nobody watches.
    #[must_use]
    pub fn silent() -> Progress {
        Progress::default()
    }

    /// Counters whose problems are handed to `sink` as they happen.
    #[must_use]
    pub fn with_sink(sink: impl Fn(&Problem) + Send + Sync + 'static) -> Progress {
        Progress { sink: Some(Box::new(sink)), ..Progress::default() }
    }

    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    /// Reports a problem with `subject` and counts it.
    pub fn problem(&self, subject: impl Into<String>, message: impl fmt::Display) {
        self.problems.fetch_add(1, Ordering::Relaxed);
        if let Some(sink) = &self.sink {
            sink(&Problem { subject: subject.into(), message: message.to_string() });
        }
    }

    /// Says which phase of the work begins.
    pub fn enter(&self, phase: &'static str) {
        *lock(&self.phase) = phase;
    }

    /// The phase that was entered last; empty before the first.
    #[must_use]
    pub fn phase(&self) -> &'static str {
        *lock(&self.phase)
    }

    /// Says what is being worked on, for the eye only.
    pub fn at(&self, what: impl Into<String>) {
        *lock(&self.current) = what.into();
    }

    /// What is being worked on.
    #[must_use]
    pub fn current(&self) -> String {
        lock(&self.current).clone()
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress")
            .field("files", &self.files)
            .field("bytes", &self.bytes)
            .field("problems", &self.problems)
            .finish_non_exhaustive()
    }
}

/// A poisoned lock here only means that a watcher panicked between two plain stores.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn problems_are_counted_and_handed_on() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let progress = Progress::with_sink(move |p| sink.lock().unwrap().push(p.to_string()));
        progress.problem("/etc/shadow", "permission denied");
        assert_eq!(progress.problems.load(Ordering::Relaxed), 1);
        assert_eq!(*seen.lock().unwrap(), ["/etc/shadow: permission denied"]);
    }
}
