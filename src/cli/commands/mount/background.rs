//! A mount in the background.
//!
//! ```text
//! parent  asks, unlocks ── secrets ──→ child's standard input
//!         waits         ←─ ready, or why not ── child's standard output
//!         says so, ends                child serves until `asof umount`
//! ```
//!
//! The child is this program, started anew rather than forked, since a process with
//! threads cannot fork. Secrets go through a pipe: neither its arguments nor its
//! environment hold them, nor any file. It gets what reads and not what signs, which a
//! mount has no use for.
//!
//! Until it is ready the child speaks on the terminal that it was started from; then
//! its standard error becomes the log file, and nothing of the terminal is held open.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use rustix::process::{Pid, Signal, kill_process, setsid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{NEED, serve as serve_mount};
use crate::cli::args::MountArgs;
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, file};
use crate::cli::open::reach_store;
use crate::cli::secret::VARIABLES;
use crate::cli::show::Done;
use crate::codec::envelope::SecretKey;
use crate::format::keyfile::Secrets;
use crate::ops::open::{Reached, describe};
use crate::repo::keyring;
use crate::repo::keys::Credential;

/// How often the wish to stop is looked at.
const INTERVAL: Duration = Duration::from_millis(50);
/// More than this is no message of ours. Bytes.
const MESSAGE_BYTES_MAX: u64 = 64 << 10;

/// What the child needs to open the repository; nothing of an unencrypted one.
#[derive(Serialize, Deserialize, Default)]
struct Unlocked {
    reader: Option<String>,
    id_key: Option<String>,
}

impl Drop for Unlocked {
    fn drop(&mut self) {
        for key in [&mut self.reader, &mut self.id_key].into_iter().flatten() {
            zeroize::Zeroize::zeroize(key);
        }
    }
}

/// What the child says: that it is ready, or why it is not.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Ready { log: PathBuf },
    Failed { message: String, reason: String, exit: u8, hint: Option<String> },
}

/// Starts the mount in the background, and waits until it can be used.
pub fn start(
    context: &Context,
    args: &MountArgs,
    reached: &Reached,
    credential: Credential,
) -> Result<Done, Failure> {
    let unlocked = unlock(reached, credential)?;
    let mut child = spawn(context)?;
    let sent = send(&mut child, &unlocked);
    drop(unlocked);
    let word = match sent {
        Ok(()) => listen(context, &mut child)?,
        // It ended before it listened: what it says of that counts.
        Err(_) => listen(context, &mut child)?,
    };
    match word {
        Word::Ready { log } => {
            let place = args.mountpoint.display();
            let message = format!("{} is mounted on {place}", reached.store.location());
            context.out.say(&format!(
                "{message}
  newest state   {place}/latest
  at a time      {place}/at/yesterday
  to end it      asof umount {place}"
            ))?;
            Ok(Done::new(message)
                .field("mountpoint", &args.mountpoint.display().to_string())
                .field("pid", &child.id())
                .field("log", &log.display().to_string()))
        }
        Word::Failed { message, reason, exit, hint } => {
            let _ = child.wait();
            let known = Exit::ALL.into_iter().find(|known| known.code() == exit);
            Err(Failure::told(message, reason, known.unwrap_or(Exit::Failed), hint))
        }
    }
}

/// The secrets that a credential opens.
fn unlock(reached: &Reached, credential: Credential) -> Result<Unlocked, Failure> {
    let Credential::Passphrase(passphrase) = credential else { return Ok(Unlocked::default()) };
    let config = describe(reached)?;
    let keys = keyring::unlock(reached.store.as_ref(), &config, &passphrase)?;
    let secrets = keys.secrets.as_ref();
    Ok(Unlocked {
        reader: secrets.and_then(|s| s.reader.as_ref()).map(|key| hex::encode(key.as_bytes())),
        id_key: secrets.and_then(|s| s.id_key).map(hex::encode),
    })
}

fn spawn(context: &Context) -> Result<Child, Failure> {
    // Also when the file was replaced by a newer version meanwhile.
    let program = Path::new("/proc/self/exe");
    let mut command = Command::new(program);
    command.arg0("asof").arg("--in-background").args(context.argv.iter().skip(1));
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    child.map_err(file(program))
}

fn send(child: &mut Child, unlocked: &Unlocked) -> std::io::Result<()> {
    let text = Zeroizing::new(serde_json::to_vec(unlocked)?);
    match child.stdin.take() {
        Some(mut pipe) => pipe.write_all(&text),
        None => Ok(()),
    }
}

/// Waits for the child's word. Ctrl-C ends the child too.
fn listen(context: &Context, child: &mut Child) -> Result<Word, Failure> {
    let (sender, receiver) = bounded(1);
    if let Some(pipe) = child.stdout.take() {
        let read = move || {
            let mut text = Vec::new();
            let read = pipe.take(MESSAGE_BYTES_MAX).read_to_end(&mut text).map(|_| text);
            let _ = sender.send(read);
        };
        let thread = std::thread::Builder::new().name("child".to_owned()).spawn(read);
        thread.map_err(file(Path::new("a thread")))?;
    }
    let text = loop {
        match receiver.recv_timeout(INTERVAL) {
            Ok(text) => break text.unwrap_or_default(),
            Err(RecvTimeoutError::Disconnected) => break Vec::new(),
            Err(RecvTimeoutError::Timeout) if context.stop.is_raised() => {
                let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                if let Some(pid) = pid {
                    let _ = kill_process(pid, Signal::TERM);
                }
                let _ = child.wait();
                return Err(crate::repo::Error::Interrupted.into());
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    };
    serde_json::from_slice(&text).map_err(|_| {
        let status = child.wait().map_or_else(|error| error.to_string(), |s| s.to_string());
        let what = format!("the process that was to serve the mount ended: {status}");
        Failure::told(what, "io".to_owned(), Exit::Failed, None)
    })
}

/// The child: serves the mount.
pub fn serve(context: &Context, args: &MountArgs) -> Result<Done, Failure> {
    // A session of its own, so that the terminal's signals and its end are not meant for it.
    let _ = setsid();
    // Started by way of /proc/self/exe, it would be called `exe` in lists of processes.
    let _ = rustix::thread::set_name(c"asof");
    let mut ready = false;
    let outcome = opened(context).and_then(|(reached, credential)| {
        let (path, log) = open_log(context, args)?;
        serve_mount(context, args, reached, credential, || {
            ready = true;
            let told = say(context, &Word::Ready { log: path });
            let detached = detach(&log);
            if let (Err(error), _) | (Ok(()), Err(error)) = (told, detached) {
                tracing::warn!(%error, "the mount is not wholly in the background");
            }
        })
    });
    match outcome {
        Ok(()) => {}
        Err(failure) if ready => {
            tracing::error!("{}", failure.message());
            return Err(failure);
        }
        Err(failure) => {
            let exit = failure.exit;
            let word = Word::Failed {
                message: failure.message(),
                reason: failure.reason.clone(),
                exit: exit.code(),
                hint: failure.hint.clone(),
            };
            let _ = say(context, &word);
            return Ok(Done { exit: Some(exit), raw: true, ..Done::default() });
        }
    }
    Ok(Done { raw: true, ..Done::default() })
}

/// The store, and the secrets that the parent sends.
fn opened(context: &Context) -> Result<(Reached, Credential), Failure> {
    let standard_input = || file(Path::new("standard input"));
    let mut text = Zeroizing::new(Vec::with_capacity(4096));
    let mut pipe = std::io::stdin().lock().take(MESSAGE_BYTES_MAX);
    pipe.read_to_end(&mut text).map_err(standard_input())?;
    let unlocked: Unlocked =
        serde_json::from_slice(&text).map_err(|error| standard_input()(error.into()))?;
    let key = |text: &Option<String>| -> Result<Option<[u8; 32]>, Failure> {
        let Some(text) = text else { return Ok(None) };
        let mut key = [0; 32];
        let decoded = hex::decode_to_slice(text, &mut key);
        decoded.map_err(|error| standard_input()(std::io::Error::other(error)))?;
        Ok(Some(key))
    };
    let reached = reach_store(context, NEED, false)?;
    let reader = key(&unlocked.reader)?.map(SecretKey::from_bytes);
    if reader.is_none() {
        return Ok((reached, Credential::None));
    }
    let secrets = Secrets { owner: None, reader, id_key: key(&unlocked.id_key)? };
    Ok((reached, Credential::Secrets(secrets)))
}

/// Tells the parent. It reads until the pipe is closed, which [`detach`] does, or the end.
fn say(context: &Context, word: &Word) -> std::io::Result<()> {
    let text = serde_json::to_vec(word)?;
    let written = context.out.bytes(&text).and_then(|()| context.out.finish());
    written.map_err(std::io::Error::other)
}

/// Lets go of the terminal, of the parent, and of the directory that it was started in.
fn detach(log: &File) -> std::io::Result<()> {
    std::env::set_current_dir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stderr(log)?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    Ok(())
}

fn open_log(context: &Context, args: &MountArgs) -> Result<(PathBuf, File), Failure> {
    let path = match &args.log_file {
        Some(path) => std::path::absolute(path).map_err(file(path))?,
        None => {
            let dir = context.local()?.cache_dir.join("log");
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(&dir).map_err(file(&dir))?;
            let point = std::path::absolute(&args.mountpoint).map_err(file(&args.mountpoint))?;
            let name = crate::base::default_source_name("mount", &[point]);
            dir.join(format!("{name}.log"))
        }
    };
    let log = File::options().create(true).append(true).mode(0o600).open(&path);
    let log = log.map_err(file(&path))?;
    Ok((path, log))
}
