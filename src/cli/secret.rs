//! Where the passphrase comes from.
//!
//! In this order, the first that is given:
//!
//! 1. `--password-file`, `--password-command`
//! 2. `ASOF_PASSWORD`, `ASOF_PASSWORD_FILE`, `ASOF_PASSWORD_COMMAND`
//! 3. `password_file`, `password_command` of the profile
//! 4. a prompt on the terminal, twice when the passphrase is a new one
//!
//! A file and a command's output lose one line break at their end, and nothing else. A
//! command is run by `sh -c`, without standard input, so that `backup --stdin` keeps its
//! own; one that wants to ask can use the terminal itself. An empty passphrase is
//! refused for a new key: it would look like protection.
//!
//! The passphrase is wiped from memory when it is dropped. Its variable stays in the
//! environment, so whoever starts a child removes [`VARIABLES`] from the child's.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::{Zeroize, Zeroizing};

use crate::base::Kind;
use crate::cli::config::Profile;
use crate::cli::env::{Env, NotText};

/// The variables that hold or lead to a passphrase.
pub const VARIABLES: [&str; 3] = [
    "ASOF_PASSWORD",
    "ASOF_PASSWORD_FILE",
    "ASOF_PASSWORD_COMMAND",
];

/// The longest passphrase, in bytes. Longer is a wrong file.
pub const PASSPHRASE_BYTES_MAX: usize = 64 * 1024;

/// A passphrase, wiped when dropped and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// A passphrase from text.
    #[must_use]
    pub fn new(text: String) -> Passphrase {
        Passphrase(Zeroizing::new(text))
    }

    /// The passphrase, for the key derivation.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The passphrase as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// A passphrase that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the passphrase from {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The command cannot be started.
    #[error("cannot run the password command `{command}`")]
    Start {
        /// The command.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// The command failed.
    #[error(
        "the password command `{command}` failed ({status}){}",
        of_stderr(stderr)
    )]
    Command {
        /// The command.
        command: String,
        /// How it ended.
        status: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// What came is not a passphrase.
    #[error("{from} is not a passphrase: {why}")]
    Unfit {
        /// Where it came from.
        from: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The two that were typed differ.
    #[error("the two passphrases are not the same; nothing was changed")]
    Differ,
    /// A new passphrase that is empty.
    #[error("an empty passphrase protects nothing; choose one, or use `init --unencrypted`")]
    Empty,
    /// Nothing was given and there is nobody to ask.
    #[error(
        "no passphrase for {subject} was given and there is no terminal to ask on; use --password-file, \
         --password-command, ASOF_PASSWORD, ASOF_PASSWORD_FILE, ASOF_PASSWORD_COMMAND, or a profile"
    )]
    NoTerminal {
        /// What it is for.
        subject: String,
        /// Why the terminal could not be used.
        source: io::Error,
    },
    /// A variable that is not text.
    #[error(transparent)]
    Variable(#[from] NotText),
}

impl SecretError {
    /// What the failure means.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            SecretError::File { source, .. } | SecretError::Start { source, .. } => {
                Kind::of_io(source)
            }
            SecretError::NoTerminal { source, .. }
                if source.kind() == io::ErrorKind::Interrupted =>
            {
                Kind::Interrupted
            }
            SecretError::Command { .. } => Kind::Io,
            SecretError::Unfit { .. }
            | SecretError::Differ
            | SecretError::Empty
            | SecretError::NoTerminal { .. }
            | SecretError::Variable(_) => Kind::Invalid,
        }
    }
}

/// What a passphrase is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To open a key that exists.
    Open,
    /// To protect a new one: asked for twice, and not empty.
    New,
}

/// Somebody to ask.
pub trait Ask {
    /// Asks, without showing what is typed.
    ///
    /// # Errors
    ///
    /// When there is nobody.
    fn ask(&mut self, prompt: &str) -> io::Result<Zeroizing<String>>;
}

/// Asks on the terminal that the process belongs to, wherever its input and output go.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminal;

impl Ask for Terminal {
    fn ask(&mut self, prompt: &str) -> io::Result<Zeroizing<String>> {
        rpassword::prompt_password(prompt).map(Zeroizing::new)
    }
}

/// The places to look for a passphrase, before asking.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// `--password-file`.
    pub file: Option<&'a Path>,
    /// `--password-command`.
    pub command: Option<&'a str>,
    /// The environment; `None` to leave it out, as for a second, new passphrase.
    pub env: Option<&'a Env>,
    /// The profile; `None` to leave it out.
    pub profile: Option<&'a Profile>,
}

impl Places<'_> {
    /// Finds the passphrase, or asks for it. `subject` says what it opens, for the prompt.
    ///
    /// # Errors
    ///
    /// [`SecretError`]. A place that is given and fails is an error; the next is not tried.
    pub fn passphrase(
        &self,
        purpose: Purpose,
        subject: &str,
        ask: &mut dyn Ask,
    ) -> Result<Passphrase, SecretError> {
        let passphrase = match self.given()? {
            Some(given) => given,
            None => asked(purpose, subject, ask)?,
        };
        if purpose == Purpose::New && passphrase.as_str().is_empty() {
            return Err(SecretError::Empty);
        }
        Ok(passphrase)
    }

    /// The passphrase of the first place that is given; `None` if none is.
    ///
    /// # Errors
    ///
    /// [`SecretError`] if that place fails.
    pub fn given(&self) -> Result<Option<Passphrase>, SecretError> {
        if let Some(path) = self.file {
            return from_file(path).map(Some);
        }
        if let Some(command) = self.command {
            return from_command(command).map(Some);
        }
        if let Some(env) = self.env {
            if let Some(text) = env.text("ASOF_PASSWORD")? {
                return Ok(Some(Passphrase::new(text)));
            }
            if let Some(path) = env.path("ASOF_PASSWORD_FILE") {
                return from_file(&path).map(Some);
            }
            if let Some(command) = env.text("ASOF_PASSWORD_COMMAND")? {
                return from_command(&command).map(Some);
            }
        }
        if let Some(path) = self.profile.and_then(|p| p.password_file.as_deref()) {
            return from_file(path).map(Some);
        }
        if let Some(command) = self.profile.and_then(|p| p.password_command.as_deref()) {
            return from_command(command).map(Some);
        }
        Ok(None)
    }
}

fn asked(purpose: Purpose, subject: &str, ask: &mut dyn Ask) -> Result<Passphrase, SecretError> {
    let mut prompt = |prompt: String| {
        ask.ask(&prompt)
            .map(Passphrase)
            .map_err(|source| SecretError::NoTerminal {
                subject: subject.to_owned(),
                source,
            })
    };
    match purpose {
        Purpose::Open => prompt(format!("Passphrase for {subject}: ")),
        Purpose::New => {
            let first = prompt(format!("New passphrase for {subject}: "))?;
            if first.as_str().is_empty() {
                return Err(SecretError::Empty);
            }
            let second = prompt("The same again: ".to_owned())?;
            if first == second {
                Ok(first)
            } else {
                Err(SecretError::Differ)
            }
        }
    }
}

fn from_file(path: &Path) -> Result<Passphrase, SecretError> {
    let failed = |source| SecretError::File {
        path: path.to_owned(),
        source,
    };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let bytes = read_secret(&mut file).map_err(failed)?;
    from_bytes(&bytes, || path.display().to_string())
}

fn from_command(command: &str) -> Result<Passphrase, SecretError> {
    let failed = |source| SecretError::Start {
        command: command.to_owned(),
        source,
    };
    let output = Command::new("sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .output()
        .map_err(failed)?;
    let bytes = Zeroizing::new(output.stdout);
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(SecretError::Command {
            command: command.to_owned(),
            status: output.status.to_string(),
            stderr: stderr.trim().chars().take(2000).collect(),
        });
    }
    from_bytes(&bytes, || format!("the output of `{command}`"))
}

/// Reads at most one byte more than a passphrase may have, into memory that is wiped.
fn read_secret(from: &mut dyn Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // All the room at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(vec![0; PASSPHRASE_BYTES_MAX + 1]);
    let mut len = 0;
    while len < bytes.len() {
        match from.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

fn from_bytes(bytes: &[u8], from: impl Fn() -> String) -> Result<Passphrase, SecretError> {
    let unfit = |why| SecretError::Unfit { from: from(), why };
    let bytes = match bytes {
        [rest @ .., b'\r', b'\n'] | [rest @ .., b'\n'] => rest,
        all => all,
    };
    if bytes.len() > PASSPHRASE_BYTES_MAX {
        return Err(unfit("it is longer than 64 KiB"));
    }
    match String::from_utf8(bytes.to_vec()) {
        Ok(text) => Ok(Passphrase::new(text)),
        Err(error) => {
            error.into_bytes().zeroize();
            Err(unfit("it is not text in UTF-8"))
        }
    }
}

fn of_stderr(stderr: &str) -> String {
    match stderr {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

#[cfg(test)]
mod tests;
