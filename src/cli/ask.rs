//! Asking for a passphrase so that Ctrl-C ends the question.
//!
//! Reading from a terminal does not end when a signal is only noted, and a process that
//! ends in the middle of it leaves a terminal that shows nothing that is typed. So the
//! question is asked on a thread of its own, and whoever waits puts the terminal right.

use std::fs::File;
use std::io;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::base::Stop;
use crate::cli::secret::{Ask, Terminal};

/// How often the wish to stop is looked at.
const INTERVAL: Duration = Duration::from_millis(50);

/// Asks on the terminal until there is an answer or the wish to stop.
pub struct Asker {
    /// Raised by Ctrl-C.
    pub stop: Stop,
}

impl Ask for Asker {
    fn ask(&mut self, prompt: &str) -> io::Result<Zeroizing<String>> {
        let terminal = File::open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        let (answer, answered) = bounded(1);
        let prompt = prompt.to_owned();
        std::thread::Builder::new().name("prompt".to_owned()).spawn(move || {
            // Nobody waits any more if this fails.
            let _ = answer.send(Terminal.ask(&prompt));
        })?;
        loop {
            match answered.recv_timeout(INTERVAL) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) if !self.stop.is_raised() => {}
                Err(RecvTimeoutError::Timeout) => {
                    tcsetattr(&terminal, OptionalActions::Now, &before)?;
                    return Err(io::Error::from(io::ErrorKind::Interrupted));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("the question was not asked"));
                }
            }
        }
    }
}
