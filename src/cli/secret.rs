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
    #[error("the password command `{command}` failed ({status}){}", of_stderr(stderr))]
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
mod tests {
    use super::*;

    /// Answers what it was given, in order, and remembers what it was asked.
    struct Script(Vec<&'static str>, Vec<String>);

    impl Ask for Script {
        fn ask(&mut self, prompt: &str) -> io::Result<Zeroizing<String>> {
            self.1.push(prompt.to_owned());
            match self.0.len() {
                0 => Err(io::Error::other("no terminal")),
                _ => Ok(Zeroizing::new(self.0.remove(0).to_owned())),
            }
        }
    }

    const NOWHERE: Places<'static> = Places {
        file: None,
        command: None,
        env: None,
        profile: None,
    };

    fn find(places: &Places<'_>, purpose: Purpose, answers: &[&'static str]) -> Result<String, SecretError> {
        let mut script = Script(answers.to_vec(), Vec::new());
        let found = places.passphrase(purpose, "the test", &mut script)?;
        Ok(found.as_str().to_owned())
    }

    #[test]
    fn the_first_place_that_is_given_wins() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, format!("{name}\n")).unwrap();
            path
        };
        let (option, variable, profile) = (file("of-option"), file("of-env"), file("of-profile"));
        let variable = variable.to_str().unwrap();
        let profile = Profile {
            password_file: Some(profile),
            password_command: Some("echo profile command".to_owned()),
            ..Profile::default()
        };
        let all = Env::of(&[
            ("ASOF_PASSWORD", "plain"),
            ("ASOF_PASSWORD_FILE", variable),
            ("ASOF_PASSWORD_COMMAND", "echo env command"),
        ]);
        let two = Env::of(&[
            ("ASOF_PASSWORD", ""),
            ("ASOF_PASSWORD_FILE", variable),
            ("ASOF_PASSWORD_COMMAND", "echo env command"),
        ]);
        let one = Env::of(&[("ASOF_PASSWORD_COMMAND", "echo env command")]);
        let none = Env::of(&[]);
        let places = Places {
            file: Some(&option),
            command: Some("echo option command"),
            env: Some(&all),
            profile: Some(&profile),
        };
        assert_eq!(find(&places, Purpose::Open, &[]).unwrap(), "of-option");
        let no_file = Places { file: None, ..places };
        assert_eq!(find(&no_file, Purpose::Open, &[]).unwrap(), "option command");
        let rest = Places { file: None, command: None, ..places };
        for (env, text) in [(&all, "plain"), (&two, "of-env"), (&one, "env command"), (&none, "of-profile")] {
            let now = Places { env: Some(env), ..rest };
            assert_eq!(find(&now, Purpose::Open, &["typed"]).unwrap(), text);
        }
        let command = Profile { password_file: None, ..profile.clone() };
        let now = Places { env: Some(&none), profile: Some(&command), ..rest };
        assert_eq!(find(&now, Purpose::Open, &["typed"]).unwrap(), "profile command");
        assert_eq!(find(&NOWHERE, Purpose::Open, &["typed"]).unwrap(), "typed");
    }

    #[test]
    fn one_line_break_at_the_end_is_dropped_and_nothing_else() {
        for (printed, text) in [
            ("x", "x"),
            ("x\\n", "x"),
            ("x\\r\\n", "x"),
            ("x\\n\\n", "x\n"),
            (" x y \\n", " x y "),
            ("", ""),
        ] {
            let command = format!("printf '{printed}'");
            let places = Places { command: Some(&command), ..NOWHERE };
            assert_eq!(find(&places, Purpose::Open, &[]).unwrap(), text);
        }
    }

    #[test]
    fn a_command_that_fails_is_told_with_what_it_said() {
        let places = Places {
            command: Some("echo secret; echo no such entry >&2; exit 7"),
            ..NOWHERE
        };
        let error = find(&places, Purpose::Open, &["typed"]).unwrap_err().to_string();
        assert!(error.contains("no such entry") && error.contains('7'), "{error}");
        let places = Places { command: Some("printf '\\377'"), ..NOWHERE };
        let error = find(&places, Purpose::Open, &[]).unwrap_err();
        assert!(error.to_string().contains("not text"), "{error}");
        let places = Places { command: Some("head -c 70000 /dev/zero"), ..NOWHERE };
        let error = find(&places, Purpose::Open, &[]).unwrap_err();
        assert!(error.to_string().contains("64 KiB"), "{error}");
        let places = Places { command: Some("cat"), ..NOWHERE };
        assert_eq!(find(&places, Purpose::Open, &[]).unwrap(), "");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_and_nothing_else_is_tried() {
        let places = Places { file: Some(Path::new("/nonexistent/pw")), ..NOWHERE };
        let error = find(&places, Purpose::Open, &["typed"]).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/pw"));
        assert_eq!(error.kind(), Kind::NotFound);
        let places = Places { file: Some(Path::new("/dev/zero")), ..NOWHERE };
        assert!(find(&places, Purpose::Open, &[]).is_err());
    }

    #[test]
    fn a_new_passphrase_is_asked_for_twice_and_is_not_empty() {
        assert_eq!(find(&NOWHERE, Purpose::New, &["a b", "a b"]).unwrap(), "a b");
        let two = |answers: &[&'static str]| find(&NOWHERE, Purpose::New, answers).unwrap_err();
        assert!(matches!(two(&["a", "b"]), SecretError::Differ));
        assert!(matches!(two(&["", ""]), SecretError::Empty));
        let places = Places { command: Some("echo"), ..NOWHERE };
        assert!(matches!(find(&places, Purpose::New, &[]), Err(SecretError::Empty)));
        assert_eq!(find(&places, Purpose::Open, &[]).unwrap(), "");
        let mut script = Script(vec!["x"], Vec::new());
        NOWHERE.passphrase(Purpose::Open, "s3://b/p", &mut script).unwrap();
        assert_eq!(script.1, ["Passphrase for s3://b/p: "]);
    }

    #[test]
    fn without_a_terminal_every_other_way_is_named() {
        let error = find(&NOWHERE, Purpose::Open, &[]).unwrap_err();
        for way in ["the test", "--password-file", "--password-command", "profile"].iter().chain(&VARIABLES) {
            assert!(error.to_string().contains(way), "{way}");
        }
    }

    #[test]
    fn a_passphrase_is_never_shown() {
        assert_eq!(format!("{:?}", Passphrase::new("x".to_owned())), "Passphrase(..)");
    }
}
