//! Showing how far a command has come.
//!
//! Workers advance the counters of a [`Progress`]; a thread of this module looks at them
//! a few times a second and draws them on standard error:
//!
//! - as a bar that redraws itself, when standard error is a terminal,
//! - as a plain line every few seconds, when asked for (logs, screen readers),
//! - not at all in a pipe, with `--json`, or when quiet.
//!
//! Problems are told as they happen, above the bar. When the [`Watch`] is dropped the
//! thread has ended and the bar is gone, so that nothing is drawn over the report.
//!
//! What a line says is a pure function of the counters ([`plain_line`]).

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::base::units::{show_count, show_duration, show_size};
use crate::base::{Clock, Progress, UnixTime};
use crate::cli::env::Env;
use crate::cli::output::{Out, printable};

/// How often a bar is drawn.
const BAR_INTERVAL: Duration = Duration::from_millis(125);
/// How often a plain line is written.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);
/// How fast the shown rate follows the real one.
const RATE_MEMORY: Duration = Duration::from_secs(10);

/// What `--progress` can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Mode {
    /// A bar on a terminal, else nothing.
    #[default]
    Auto,
    /// A bar that redraws itself.
    Bar,
    /// A line every few seconds.
    Plain,
    /// Nothing.
    None,
}

impl Mode {
    /// What is really shown: never [`Mode::Auto`].
    #[must_use]
    pub fn settle(self, out: &Out, env: &Env) -> Mode {
        let dumb = env.get("TERM").is_none_or(|term| term == "dumb");
        self.settled(
            out.is_json() || out.is_quiet(),
            std::io::stderr().is_terminal(),
            dumb,
        )
    }

    fn settled(self, silent: bool, terminal: bool, dumb: bool) -> Mode {
        match self {
            _ if silent => Mode::None,
            Mode::Auto if terminal && !dumb => Mode::Bar,
            // A bar needs something that can redraw.
            Mode::Bar if !terminal => Mode::None,
            Mode::Auto => Mode::None,
            other => other,
        }
    }
}

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// The phase of the work; may be empty.
    pub phase: &'static str,
    /// Files finished.
    pub files: u64,
    /// Files expected; 0 if that is not known.
    pub files_expected: u64,
    /// Bytes finished.
    pub bytes: u64,
    /// Bytes expected; 0 if that is not known.
    pub bytes_expected: u64,
    /// Bytes sent to the store.
    pub bytes_stored: u64,
    /// Problems met.
    pub problems: u64,
}

impl Counters {
    /// Reads the counters.
    #[must_use]
    pub fn of(progress: &Progress) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            phase: progress.phase(),
            files: read(&progress.files),
            files_expected: read(&progress.files_expected),
            bytes: read(&progress.bytes),
            bytes_expected: read(&progress.bytes_expected),
            bytes_stored: read(&progress.bytes_stored),
            problems: read(&progress.problems),
        }
    }

    /// How much is done, in thousandths; `None` if the whole is not known.
    ///
    /// What is expected is a guess that work can overtake; then it is all but done.
    #[must_use]
    pub fn permille(&self) -> Option<u64> {
        let (done, whole) = if self.bytes_expected > 0 {
            (self.bytes, self.bytes_expected)
        } else {
            (self.files, self.files_expected)
        };
        let permille = u128::from(done) * 1000 / u128::from(whole).max(1);
        (whole > 0).then(|| u64::try_from(permille).unwrap_or(1000).min(1000))
    }

    /// How long the rest takes at a rate; `None` if the rest or the rate is not known.
    #[must_use]
    pub fn remaining(&self, bytes_per_second: u64) -> Option<Duration> {
        let rest = self.bytes_expected.checked_sub(self.bytes)?;
        if self.bytes_expected == 0 || bytes_per_second == 0 {
            return None;
        }
        Some(Duration::from_secs(rest.div_ceil(bytes_per_second)))
    }
}

/// The rate of late: an average in which what is long past counts less and less.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    last: Option<(Duration, u64)>,
    rate: f64,
    measured: bool,
}

impl Meter {
    /// Takes note of the bytes done after so much time, and returns bytes per second.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss
    )]
    pub fn update(&mut self, elapsed: Duration, bytes: u64) -> u64 {
        if let Some((then, before)) = self.last {
            let time = elapsed.saturating_sub(then).as_secs_f64();
            if time <= 0.0 {
                return self.rate as u64;
            }
            let now = bytes.saturating_sub(before) as f64 / time;
            let weight = if self.measured {
                1.0 - (-time / RATE_MEMORY.as_secs_f64()).exp()
            } else {
                1.0
            };
            self.rate += (now - self.rate) * weight;
            self.measured = true;
        }
        self.last = Some((elapsed, bytes));
        self.rate as u64
    }
}

/// What a plain line says: `backup: 12% 1,234 files, 1.2 GiB of 9.8 GiB, 85.1 MiB/s, 1m 40s left`.
#[must_use]
pub fn plain_line(counters: &Counters, elapsed: Duration, bytes_per_second: u64) -> String {
    let phase = match counters.phase {
        "" => "working",
        phase => phase,
    };
    let percent = counters
        .permille()
        .map_or_else(String::new, |p| format!("{}% ", p / 10));
    format!(
        "{phase}: {percent}{} ({} so far)",
        figures(counters, bytes_per_second),
        show_duration(elapsed)
    )
}

/// The figures that bar and plain line share.
fn figures(counters: &Counters, bytes_per_second: u64) -> String {
    let of = |whole: String, known: bool| {
        if known {
            format!(" of {whole}")
        } else {
            String::new()
        }
    };
    let mut parts = vec![format!(
        "{}{} files",
        show_count(counters.files),
        of(
            show_count(counters.files_expected),
            counters.files_expected > 0
        ),
    )];
    if counters.bytes > 0 || counters.bytes_expected > 0 {
        parts.push(format!(
            "{}{}",
            show_size(counters.bytes),
            of(
                show_size(counters.bytes_expected),
                counters.bytes_expected > 0
            ),
        ));
    }
    if counters.bytes_stored > 0 {
        parts.push(format!("{} stored", show_size(counters.bytes_stored)));
    }
    if bytes_per_second > 0 {
        parts.push(format!("{}/s", show_size(bytes_per_second)));
    }
    if let Some(rest) = counters.remaining(bytes_per_second) {
        parts.push(format!("{} left", show_duration(rest)));
    }
    match counters.problems {
        0 => {}
        1 => parts.push("1 problem".to_owned()),
        n => parts.push(format!("{} problems", show_count(n))),
    }
    parts.join(", ")
}

/// A command's progress and whoever shows it. Dropping it ends the showing.
pub struct Watch {
    progress: Arc<Progress>,
    ticker: Option<Ticker>,
}

/// The thread that draws.
struct Ticker {
    /// Never sent to: that it is dropped is the message.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    bar: Option<ProgressBar>,
}

impl Watch {
    /// Begins to show fresh counters. `mode` is what [`Mode::settle`] returned.
    #[must_use]
    pub fn start(mode: Mode, out: &Arc<Out>, clock: &Clock) -> Watch {
        let bar = (mode == Mode::Bar).then(|| {
            ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr_with_hz(10))
        });
        Watch::with_bar(mode, out, clock, bar, PLAIN_INTERVAL)
    }

    fn with_bar(
        mode: Mode,
        out: &Arc<Out>,
        clock: &Clock,
        bar: Option<ProgressBar>,
        plain_interval: Duration,
    ) -> Watch {
        let sink = (Arc::clone(out), bar.clone());
        let progress = Arc::new(Progress::with_sink(move |problem| match &sink {
            (out, Some(bar)) => bar.suspend(|| out.problem(problem)),
            (out, None) => out.problem(problem),
        }));
        let interval = match mode {
            Mode::Bar => BAR_INTERVAL,
            Mode::Plain => plain_interval,
            Mode::Auto | Mode::None => {
                return Watch {
                    progress,
                    ticker: None,
                };
            }
        };
        let (stop, stopped) = bounded::<()>(0);
        let mut drawing = Drawing {
            progress: Arc::clone(&progress),
            out: Arc::clone(out),
            clock: clock.clone(),
            begun: clock.now(),
            meter: Meter::default(),
            bar: bar.clone(),
            known: None,
        };
        let body = move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(interval) {
                drawing.draw();
            }
        };
        // Without a thread there is no picture, but the work goes on.
        let thread = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(body)
            .ok();
        let ticker = Some(Ticker {
            stop: Some(stop),
            thread,
            bar,
        });
        Watch { progress, ticker }
    }

    /// The counters to advance.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Ends the showing, as dropping does.
    pub fn finish(self) {}
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("progress", &self.progress)
            .field("shown", &self.ticker.is_some())
            .finish()
    }
}

/// What the thread knows.
struct Drawing {
    progress: Arc<Progress>,
    out: Arc<Out>,
    clock: Clock,
    begun: UnixTime,
    meter: Meter,
    bar: Option<ProgressBar>,
    /// Whether the bar has the form for a known whole; `None` before the first drawing.
    known: Option<bool>,
}

impl Drawing {
    fn draw(&mut self) {
        let counters = Counters::of(&self.progress);
        let elapsed = self.clock.now().since(self.begun);
        let rate = self.meter.update(elapsed, counters.bytes);
        let Some(bar) = &self.bar else {
            self.out.note(&plain_line(&counters, elapsed, rate));
            return;
        };
        let permille = counters.permille();
        if self.known != Some(permille.is_some()) {
            self.known = Some(permille.is_some());
            bar.set_style(style(permille.is_some()));
        }
        bar.set_prefix(counters.phase);
        let current = printable(self.progress.current().as_bytes());
        bar.set_message(match current.as_str() {
            "" => figures(&counters, rate),
            current => format!("{}\n  {current}", figures(&counters, rate)),
        });
        bar.set_position(permille.unwrap_or(0));
        bar.tick();
    }
}

/// How a bar looks, or a line that only turns while the whole is not known.
fn style(known: bool) -> ProgressStyle {
    let template = if known {
        "{prefix} [{bar:24}] {percent}% {msg}"
    } else {
        "{spinner} {prefix} {msg}"
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests;
