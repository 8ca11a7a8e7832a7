//! What a failure means to whoever must act on it.
//!
//! Every error of asof names its subject and carries one of these kinds. The
//! kind alone decides whether a call is tried again, which errno a program that
//! reads the mount gets, and which exit code the command ends with, so those
//! decisions are three exhaustive tables and not string comparisons.

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The thing asked for does not exist.
    NotFound,
    /// The name is taken, by other content than was offered.
    AlreadyExists,
    /// Credentials or permissions do not allow it.
    Denied,
    /// The store did not answer, or answered that it cannot now. May pass.
    Unavailable,
    /// No room left on a disk or in a quota.
    Full,
    /// Bytes that are not what their name, seal or signature says.
    Damaged,
    /// The passphrase or key does not open this repository.
    WrongKey,
    /// There is no repository at the place named.
    NoRepository,
    /// Written by a newer asof, in a way this one must not touch.
    Future,
    /// The request makes no sense as given (a selector, a name, a time).
    Invalid,
    /// It was asked to stop.
    Interrupted,
    /// A local file, device or system call failed.
    Io,
}

impl Kind {
    /// Whether the same call may succeed when it is made again.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Kind::Unavailable)
    }

    /// The kind of a local I/O error.
    #[must_use]
    pub fn of_io(error: &std::io::Error) -> Kind {
        use std::io::ErrorKind as E;
        match error.kind() {
            E::NotFound => Kind::NotFound,
            E::AlreadyExists => Kind::AlreadyExists,
            E::PermissionDenied => Kind::Denied,
            E::StorageFull | E::QuotaExceeded => Kind::Full,
            E::TimedOut | E::ConnectionRefused | E::ConnectionReset => Kind::Unavailable,
            _ => Kind::Io,
        }
    }
}

/// An error and its causes in one line. A cause that only repeats what is said already
/// is left out.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
