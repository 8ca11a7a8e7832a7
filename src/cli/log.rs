//! What is told of the work itself, for whoever looks for a fault: `-v`, `-vv`, or
//! `ASOF_LOG` with a filter such as `asof::store=debug`. It goes to standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// Begins to tell. A mount in the background tells more by itself: its log is a file.
pub fn start(verbose: u8, background: bool) {
    let level = match verbose + u8::from(background) {
        0 => "off",
        1 => "asof=info",
        2 => "asof=debug",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("ASOF_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let tell = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_timer(SystemTime)
        .with_ansi(false);
    // Fails only if somebody else tells already, as in tests.
    let _ = tell.try_init();
}
