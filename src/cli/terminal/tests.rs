//! What is shown, where, and that it ends.

use std::io;
use std::sync::Mutex;

use indicatif::TermLike;

use super::*;
use crate::cli::output::tests::Page;

#[test]
fn what_is_shown_where() {
    for (mode, silent, terminal, dumb, shown) in [
        (Mode::Auto, false, true, false, Mode::Bar),
        (Mode::Auto, false, true, true, Mode::None),
        (Mode::Auto, false, false, false, Mode::None),
        (Mode::Auto, true, true, false, Mode::None),
        (Mode::Bar, false, true, true, Mode::Bar),
        (Mode::Bar, false, false, false, Mode::None),
        (Mode::Plain, false, false, true, Mode::Plain),
        (Mode::Plain, true, true, false, Mode::None),
        (Mode::None, false, true, false, Mode::None),
    ] {
        assert_eq!(mode.settled(silent, terminal, dumb), shown, "{mode:?}");
    }
}

#[test]
fn plain_lines() {
    let none = Counters::default();
    let some = Counters { phase: "reading", files: 1234, bytes: 3 << 30, ..none.clone() };
    let all = Counters {
        files_expected: 5000,
        bytes_expected: 4 << 30,
        bytes_stored: 1 << 20,
        problems: 2,
        ..some.clone()
    };
    let late = Counters { bytes: 5 << 30, problems: 1, ..all.clone() };
    let s = Duration::from_secs;
    for (counters, rate, line) in [
        (&none, 0, "working: 0 files (1m 05s so far)"),
        (&some, 10 << 20, "reading: 1,234 files, 3.0 GiB, 10.0 MiB/s (1m 05s so far)"),
        (
            &all,
            10 << 20,
            "reading: 75% 1,234 of 5,000 files, 3.0 GiB of 4.0 GiB, 1.0 MiB stored, 10.0 MiB/s, 1m 43s left, 2 problems (1m 05s so far)",
        ),
        (
            &late,
            0,
            "reading: 100% 1,234 of 5,000 files, 5.0 GiB of 4.0 GiB, 1.0 MiB stored, 1 problem (1m 05s so far)",
        ),
    ] {
        assert_eq!(plain_line(counters, s(65), rate), line);
    }
}

#[test]
fn the_rate_follows_and_forgets() {
    let s = Duration::from_secs;
    let mut meter = Meter::default();
    assert_eq!(meter.update(s(0), 0), 0);
    assert_eq!(meter.update(s(1), 1000), 1000);
    assert_eq!(meter.update(s(1), 5000), 1000, "no time has passed");
    assert_eq!(meter.update(s(2), 2000), 1000);
    let stalled = meter.update(s(12), 2000);
    assert!((300..400).contains(&stalled), "{stalled}");
    assert_eq!(meter.update(s(1000), 2000), 0);
    // A clock that was put back says nothing about the rate.
    assert_eq!(meter.update(s(5), 9000), 0);
}

/// A terminal that remembers what was written since a line was last cleared.
#[derive(Clone, Debug, Default)]
struct Screen(Arc<Mutex<String>>);

impl Screen {
    fn contents(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        120
    }
    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn write_line(&self, line: &str) -> io::Result<()> {
        self.write_str(line)
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.lock().unwrap().push_str(text);
        Ok(())
    }
    fn clear_line(&self) -> io::Result<()> {
        self.0.lock().unwrap().clear();
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn out() -> (Arc<Out>, Page) {
    let stderr = Page::default();
    let out = Out::to(false, false, Box::new(Page::default()), Box::new(stderr.clone()));
    (Arc::new(out), stderr)
}

fn wait_for(what: impl Fn() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        assert!(crate::base::pause(Duration::from_millis(10), &crate::base::Stop::new()));
    }
    panic!("it never happened");
}

#[test]
fn plain_lines_come_until_the_watch_is_dropped() {
    let (out, stderr) = out();
    let short = Duration::from_millis(1);
    let watch = Watch::with_bar(Mode::Plain, &out, &Clock::system(), None, short);
    watch.progress().enter("reading");
    wait_for(|| stderr.text().contains("reading: 0 files"));
    watch.progress().problem("/etc/shadow", "permission denied");
    assert!(stderr.text().contains("asof: /etc/shadow: permission denied\n"));
    watch.finish();
    let text = stderr.text();
    assert!(crate::base::pause(Duration::from_millis(20), &crate::base::Stop::new()));
    assert_eq!(stderr.text(), text);
}

#[test]
fn a_bar_is_drawn_and_leaves_nothing_behind() {
    let (out, stderr) = out();
    let term = Screen::default();
    let target = ProgressDrawTarget::term_like_with_hz(Box::new(term.clone()), 200);
    let bar = ProgressBar::with_draw_target(Some(1000), target);
    let watch = Watch::with_bar(Mode::Bar, &out, &Clock::system(), Some(bar), PLAIN_INTERVAL);
    let progress = watch.progress();
    progress.enter("reading");
    Progress::add(&progress.bytes, 512);
    progress.at("/a\u{1b}b");
    wait_for(|| {
        let drawn = term.contents();
        drawn.contains("0 files, 512 B") && drawn.contains("/a\\x1bb")
    });
    Progress::add(&progress.bytes_expected, 1024);
    wait_for(|| term.contents().contains("50%"));
    progress.problem("/x", "no");
    assert!(stderr.text().ends_with("asof: /x: no\n"));
    drop(watch);
    assert_eq!(term.contents(), "");
}

#[test]
fn without_progress_problems_are_still_told() {
    let (out, stderr) = out();
    let watch = Watch::start(Mode::None, &out, &Clock::system());
    watch.progress().problem("/x", "no");
    assert_eq!(stderr.text(), "asof: /x: no\n");
}
