//! The process that holds the log of a database while `asof follow --sync` is away.
//!
//! It is this program, started by itself with arguments that nobody types, so nothing of the
//! command line is read but these: it is there for hours beside every database, and small.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use crate::cli::exit::Exit;
use crate::cli::signals;
use crate::ops::follow::holder::{Limits, hold};

const NAME: &str = "follow-hold";
/// Somebody who looks after a machine has seen by then that asof is down.
const TIME: Duration = Duration::from_secs(3600);

/// The program and its first argument: the same file, though another may have its name by now.
pub fn program() -> Vec<OsString> {
    vec!["/proc/self/exe".into(), NAME.into()]
}

/// Whether this process is to hold a log.
pub fn is_holder(argv: &[OsString]) -> bool {
    argv.get(1).is_some_and(|name| name == NAME)
}

/// Holds it: `asof follow-hold DATABASE FILE BYTES`.
pub fn run(argv: &[OsString]) -> Exit {
    let [_, _, database, file, bytes] = argv else { return Exit::Usage };
    let Some(log_bytes) = bytes.to_str().and_then(|bytes| bytes.parse().ok()) else {
        return Exit::Usage;
    };
    // What the terminal says to asof is not for this one.
    let _ = rustix::process::setsid();
    let stop = signals::listen();
    let limits = Limits { time: TIME, log_bytes };
    let (mut from, mut to) = (std::io::stdin().lock(), std::io::stdout().lock());
    match hold(Path::new(database), Path::new(file), limits, &mut from, &mut to, &stop) {
        Ok(()) => Exit::Done,
        // Nobody hears why: whoever started it sees the end of the pipe.
        Err(_) => Exit::Failed,
    }
}
