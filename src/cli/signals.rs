//! Ctrl-C and its like.
//!
//! The first raises the flag that all work looks at, so that the command ends in
//! order. The second ends the process at once: whoever presses twice has waited enough.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::base::Stop;
use crate::cli::exit::Exit;

/// Listens for the wish to stop. If that fails, signals end the process as they always do.
#[must_use]
pub fn listen() -> Stop {
    let stop = Stop::new();
    for signal in [SIGINT, SIGTERM] {
        let code = i32::from(Exit::Interrupted.code());
        // In this order: the first signal finds the flag lowered.
        let second = flag::register_conditional_shutdown(signal, code, stop.flag());
        if second.is_ok() {
            let _ = flag::register(signal, stop.flag());
        }
    }
    stop
}
