//! A command that failed: what to say, what to do next, and how to end.
//!
//! Errors of the layers below name their subject and carry a [`Kind`]; here they get
//! the sentence that says what to do about them.

use std::error::Error as StdError;

use crate::base::{Kind, error_chain};
use crate::cli::exit::Exit;
use crate::cli::output::OutputError;
use crate::{format, mount, ops, repo, source, store, target, view};

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    error: Box<dyn StdError + Send + Sync>,
    /// How the process ends.
    pub exit: Exit,
    /// The failure in one word, for programs.
    pub reason: String,
    /// What to do about it, if that can be said.
    pub hint: Option<String>,
    /// Whether there is nobody to tell: the reader of standard output went away.
    pub closed: bool,
    /// Whether it was there before the command was asked to stop, and is to be told then.
    pub stands: bool,
}

/// A failure that is only words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Words(String);

impl Failure {
    /// A failure of that kind.
    pub fn new(kind: Kind, error: impl StdError + Send + Sync + 'static) -> Failure {
        let hint = hint(kind, &error);
        Failure {
            error: Box::new(error),
            exit: Exit::of(kind),
            reason: reason(kind).to_owned(),
            hint,
            closed: false,
            stands: false,
        }
    }

    /// A request that makes no sense as given.
    #[must_use]
    pub fn usage(what: impl Into<String>) -> Failure {
        Failure::new(Kind::Invalid, Words(what.into()))
    }

    /// A failure that another process met and told of.
    #[must_use]
    pub fn told(what: String, reason: String, exit: Exit, hint: Option<String>) -> Failure {
        Failure { error: Box::new(Words(what)), exit, reason, hint, closed: false, stands: false }
    }

    /// The same with a sentence on what to do.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }

    /// The same, and a wish to stop that came later does not hide it.
    #[must_use]
    pub fn standing(self) -> Failure {
        Failure { stands: true, ..self }
    }

    /// The error.
    #[must_use]
    pub fn error(&self) -> &(dyn StdError + 'static) {
        self.error.as_ref()
    }

    /// Whether this machine's index is damaged, which can be made anew.
    #[must_use]
    pub fn is_of_damaged_index(&self) -> bool {
        matches!(
            self.error().downcast_ref::<repo::Error>(),
            Some(repo::Error::Index(error)) if error.kind() == Kind::Damaged
        )
    }

    /// All causes in one line.
    #[must_use]
    pub fn message(&self) -> String {
        error_chain(self.error())
    }
}

/// A kind in one word, for programs.
#[must_use]
pub fn reason(kind: Kind) -> &'static str {
    match kind {
        Kind::NotFound => "not-found",
        Kind::AlreadyExists => "already-exists",
        Kind::Denied => "denied",
        Kind::Unavailable => "unavailable",
        Kind::Full => "full",
        Kind::Damaged => "damaged",
        Kind::WrongKey => "wrong-key",
        Kind::NoRepository => "no-repository",
        Kind::Future => "future-format",
        Kind::Invalid => "invalid",
        Kind::Interrupted => "interrupted",
        Kind::Io => "io",
    }
}

const NEW_HEADS: &str = "put the file back from a copy; or, if you are sure of the log, begin anew \
                         with `asof verify-log --new-heads`";

/// What to do about an error.
fn hint(kind: Kind, error: &(dyn StdError + 'static)) -> Option<String> {
    let repo = match error.downcast_ref::<ops::Error>() {
        Some(ops::Error::Heads { .. }) => return Some(NEW_HEADS.to_owned()),
        Some(ops::Error::Repo(error)) => Some(error),
        Some(_) => None,
        None => error.downcast_ref::<repo::Error>(),
    };
    let hint = match (repo, kind) {
        (Some(repo::Error::NoRepository { .. }), _) => {
            "check -r/--repo or ASOF_REPOSITORY; `asof init` makes a repository there"
        }
        (Some(repo::Error::WrongKey { keys: 0, .. }), _) => {
            "the repository is encrypted: give a passphrase"
        }
        (Some(repo::Error::WrongKey { .. }), _) => {
            "check the passphrase and the repository; `asof key list` shows the keys that there are"
        }
        // They say it themselves.
        (
            Some(
                repo::Error::Upgrading { .. }
                | repo::Error::Outdated { .. }
                | repo::Error::SearchOvertaken { .. },
            ),
            _,
        ) => return None,
        (Some(repo::Error::Exists { .. }), _) => {
            "use it as it is, with `asof backup PATH`, or make a new one somewhere else"
        }
        (_, Kind::Future) => {
            "a newer asof wrote it; nothing was changed; use that version or newer"
        }
        (_, Kind::Unavailable) => {
            "what was published until now stands and is not uploaded again; try again later"
        }
        (Some(repo::Error::Store(_)), Kind::Denied) => {
            "check the credentials and what they allow; docs/BUCKETS.md says what each command needs"
        }
        (Some(repo::Error::Store(_)), Kind::Full) => "make room in the store and run it again",
        (Some(repo::Error::Index(_)), Kind::Full) => {
            "make room on that disk and run it again; the index may be put elsewhere with --cache-dir"
        }
        (Some(_), Kind::Damaged) => {
            "everything that the damage does not touch still reads; keep the store as it is, and \
             try `asof index rebuild`"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

macro_rules! from {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::new(error.kind(), error)
            }
        })*
    };
}

from!(
    ops::Error,
    repo::Error,
    source::Error,
    target::Error,
    format::FormatError,
    mount::MountError,
    view::TimeError,
    view::error::Error,
    store::location::NotALocation,
    crate::base::NotASourceName,
    crate::base::units::UnitError,
    crate::cli::config::ConfigError,
    crate::cli::config::url::NotASourceUrl,
    crate::cli::secret::SecretError,
    crate::cli::env::NotText,
    crate::cli::notify::NotifyError,
    crate::cli::publish::socket::SocketError,
);

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Failure {
        let closed = matches!(error, OutputError::Closed);
        Failure { closed, ..Failure::new(error.kind(), error) }
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Failure {
        Failure::from(repo::Error::from(error))
    }
}

/// A local file that cannot be used.
pub fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Failure + '_ {
    move |source| Failure::from(ops::Error::File { path: path.to_owned(), source })
}
