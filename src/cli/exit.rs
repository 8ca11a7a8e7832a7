//! How a command ends.
//!
//! | exit | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | failed |
//! | 2 | wrong command line, selector, time or configuration |
//! | 3 | done, but some files could not be read, or not be restored as they were |
//! | 4 | damage was found: bytes that are not what they should be |
//! | 10 | there is no repository at that place |
//! | 12 | the passphrase or key does not open it |
//! | 130 | interrupted |
//!
//! The numbers are those of restic and rustic where they have one for the same thing, so
//! that scripts around them keep their meaning. A failure's [`Kind`] alone decides.

use std::process::ExitCode;

use crate::base::Kind;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// All was done.
    Done = 0,
    /// It could not be done.
    Failed = 1,
    /// It makes no sense as asked.
    Usage = 2,
    /// It was done, but for some files.
    Partial = 3,
    /// Damage was found.
    Damage = 4,
    /// There is no repository.
    NoRepository = 10,
    /// The key does not open the repository.
    WrongKey = 12,
    /// It was asked to stop.
    Interrupted = 130,
}

impl Exit {
    /// Every way to end, in the order of their numbers.
    pub const ALL: [Exit; 8] = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::Partial,
        Exit::Damage,
        Exit::NoRepository,
        Exit::WrongKey,
        Exit::Interrupted,
    ];

    /// The number that a shell sees.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// How a command ends that failed so.
    #[must_use]
    pub fn of(kind: Kind) -> Exit {
        match kind {
            Kind::NotFound
            | Kind::AlreadyExists
            | Kind::Denied
            | Kind::Unavailable
            | Kind::Full
            | Kind::Future
            | Kind::Io => Exit::Failed,
            Kind::Damaged => Exit::Damage,
            Kind::WrongKey => Exit::WrongKey,
            Kind::NoRepository => Exit::NoRepository,
            Kind::Invalid => Exit::Usage,
            Kind::Interrupted => Exit::Interrupted,
        }
    }

    /// How a command ends that came to its end and met so many problems.
    #[must_use]
    pub fn of_problems(problems: u64) -> Exit {
        match problems {
            0 => Exit::Done,
            _ => Exit::Partial,
        }
    }

    /// What it means, for help and documents.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Failed => "failed",
            Exit::Usage => "wrong command line, selector, time or configuration",
            Exit::Partial => {
                "done, but some files could not be read, or not be restored as they were"
            }
            Exit::Damage => "damage was found: bytes that are not what they should be",
            Exit::NoRepository => "there is no repository at that place",
            Exit::WrongKey => "the passphrase or key does not open it",
            Exit::Interrupted => "interrupted",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_scripts_rely_on() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 3, 4, 10, 12, 130]);
        assert_eq!(Exit::of(Kind::NoRepository).code(), 10);
        assert_eq!(Exit::of(Kind::WrongKey).code(), 12);
        assert_eq!(Exit::of(Kind::Damaged).code(), 4);
        assert_eq!(Exit::of(Kind::Invalid).code(), 2);
        assert_eq!(Exit::of(Kind::Interrupted).code(), 130);
        assert_eq!(Exit::of(Kind::Unavailable).code(), 1);
        assert_eq!(Exit::of_problems(0), Exit::Done);
        assert_eq!(Exit::of_problems(7).code(), 3);
    }

    /// The table at the head of this file is what the README copies.
    #[test]
    fn the_table_in_the_header_is_the_table_in_the_code() {
        let source = include_str!("exit.rs");
        for exit in Exit::ALL {
            let row = format!("//! | {} | {} |", exit.code(), exit.meaning());
            assert!(source.contains(&row), "{row}");
        }
    }
}
