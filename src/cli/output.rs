//! The one place that writes to standard output and standard error.
//!
//! What was asked for goes to standard output, what is said about it to standard error.
//! With `--json` standard output carries JSON and nothing else. Standard output is
//! buffered; [`Out::finish`] writes the rest and is the last thing a command calls.
//!
//! When the reader of a pipe goes away (`asof ls … | head`) that is no failure of asof's:
//! writing returns [`OutputError::Closed`], the command ends, and the program ends by
//! [`end_as_if_by_sigpipe`] without a word, as `ls` itself would.
//!
//! Names of files may hold anything, also what a terminal takes for commands, so they are
//! shown through [`printable`].

use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::base::{Kind, error_chain, progress::Problem};

/// Standard output could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Nobody reads it any more.
    #[error("standard output was closed by its reader")]
    Closed,
    /// It is a full disk, or some such.
    #[error("cannot write to standard output")]
    Write(#[source] io::Error),
    /// A report that has no form in JSON.
    #[error("the report cannot be written as JSON")]
    Json(#[source] serde_json::Error),
}

impl OutputError {
    /// What the failure means.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            OutputError::Closed => Kind::Interrupted,
            OutputError::Write(error) => Kind::of_io(error),
            OutputError::Json(_) => Kind::Io,
        }
    }
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> OutputError {
        match error.kind() {
            io::ErrorKind::BrokenPipe => OutputError::Closed,
            _ => OutputError::Write(error),
        }
    }
}

/// Where a command writes.
pub struct Out {
    json: bool,
    quiet: bool,
    stdout: Mutex<Box<dyn Write + Send>>,
    stderr: Mutex<Box<dyn Write + Send>>,
    told: Mutex<Told>,
}

/// What was told on standard error and belongs into the report.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Told {
    /// What may go wrong.
    pub warnings: Vec<String>,
    /// Trouble with single subjects: the first thousand.
    pub problems: Vec<Problem>,
}

/// More problems than this are told, but not kept for the report.
const PROBLEMS_KEPT: usize = 1000;

impl Out {
    /// The process's own standard output and standard error.
    #[must_use]
    pub fn process(json: bool, quiet: bool) -> Out {
        let stdout: Box<dyn Write + Send> = if io::stdout().is_terminal() {
            Box::new(io::stdout())
        } else {
            Box::new(BufWriter::with_capacity(64 * 1024, io::stdout()))
        };
        Out::to(json, quiet, stdout, Box::new(io::stderr()))
    }

    /// Other places to write to, for tests.
    #[must_use]
    pub fn to(
        json: bool,
        quiet: bool,
        stdout: Box<dyn Write + Send>,
        stderr: Box<dyn Write + Send>,
    ) -> Out {
        let (stdout, stderr) = (Mutex::new(stdout), Mutex::new(stderr));
        Out { json, quiet, stdout, stderr, told: Mutex::default() }
    }

    /// Whether the report is wanted as JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether only failures are to be told.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Writes a line to standard output; with `--json` nothing, since it is for people.
    ///
    /// # Errors
    ///
    /// [`OutputError`], as for all that write to standard output.
    pub fn line(&self, line: &str) -> Result<(), OutputError> {
        if self.json {
            return Ok(());
        }
        Ok(writeln!(lock(&self.stdout), "{line}")?)
    }

    /// Writes a line that says what was done; not when quiet, unlike what was asked for.
    ///
    /// # Errors
    ///
    /// [`OutputError`].
    pub fn say(&self, line: &str) -> Result<(), OutputError> {
        if self.quiet { Ok(()) } else { self.line(line) }
    }

    /// Writes bytes as they are to standard output: the content of a file.
    ///
    /// # Errors
    ///
    /// [`OutputError`].
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), OutputError> {
        Ok(lock(&self.stdout).write_all(bytes)?)
    }

    /// Writes a value as one line of JSON to standard output.
    ///
    /// # Errors
    ///
    /// [`OutputError`].
    pub fn json(&self, value: &impl Serialize) -> Result<(), OutputError> {
        let mut line = serde_json::to_vec(value).map_err(OutputError::Json)?;
        line.push(b'\n');
        self.bytes(&line)
    }

    /// Writes a table to standard output; with `--json` nothing.
    ///
    /// # Errors
    ///
    /// [`OutputError`].
    pub fn table(&self, table: &Table) -> Result<(), OutputError> {
        if self.json {
            return Ok(());
        }
        Ok(lock(&self.stdout).write_all(table.render().as_bytes())?)
    }

    /// Tells something that is good to know, on standard error; not when quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.tell(text);
        }
    }

    /// Tells of something that may go wrong, on standard error.
    pub fn warning(&self, text: &str) {
        lock(&self.told).warnings.push(text.to_owned());
        self.tell(&format!("asof: warning: {text}"));
    }

    /// Tells of trouble with one subject, on standard error.
    pub fn problem(&self, problem: &Problem) {
        let mut told = lock(&self.told);
        if told.problems.len() < PROBLEMS_KEPT {
            told.problems.push(problem.clone());
        }
        drop(told);
        let subject = printable(problem.subject.as_bytes());
        self.tell(&format!("asof: {subject}: {}", problem.message));
    }

    /// Tells why the command failed, with every cause, on standard error.
    pub fn error(&self, error: &(dyn std::error::Error + 'static)) {
        self.tell(&format!("asof: {}", error_chain(error)));
    }

    /// Tells what to do about a failure, on standard error; not when quiet.
    pub fn hint(&self, text: &str) {
        self.note(&format!("asof: hint: {text}"));
    }

    /// What was told of problems and warnings so far.
    #[must_use]
    pub fn told(&self) -> Told {
        lock(&self.told).clone()
    }

    /// Writes what is still buffered.
    ///
    /// # Errors
    ///
    /// [`OutputError`].
    pub fn finish(&self) -> Result<(), OutputError> {
        Ok(lock(&self.stdout).flush()?)
    }

    /// Writes a line to standard error. If that fails there is nobody left to tell.
    fn tell(&self, text: &str) {
        // The order on a terminal is the order in which things were written.
        let _ = lock(&self.stdout).flush();
        let mut stderr = lock(&self.stderr);
        let _ = stderr.write_all(format!("{text}\n").as_bytes());
        let _ = stderr.flush();
    }
}

impl std::fmt::Debug for Out {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Out")
            .field("json", &self.json)
            .field("quiet", &self.quiet)
            .finish_non_exhaustive()
    }
}

/// A name or path as a terminal can show it: what is not text, and what would move the
/// cursor or change colours, as `\xNN`.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || is_bidi(c) {
                let mut utf8 = [0; 4];
                escape(&mut out, c.encode_utf8(&mut utf8).as_bytes());
            } else {
                out.push(c);
            }
        }
        escape(&mut out, chunk.invalid());
    }
    out
}

/// Characters that turn the direction of the text after them.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(out: &mut String, bytes: &[u8]) {
    for b in bytes {
        let _ = write!(out, "\\x{b:02x}");
    }
}

/// On which side of its column a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows in aligned columns.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
    /// The least width of each column, from the rows before, which had the headings.
    before: Option<Vec<usize>>,
}

impl Table {
    /// A table with these headings. If all are empty there is no line for them.
    #[must_use]
    pub fn new(columns: &[(&str, Align)]) -> Table {
        Table {
            columns: columns.iter().map(|(h, a)| ((*h).to_owned(), *a)).collect(),
            rows: Vec::new(),
            before: None,
        }
    }

    /// The table of the rows that follow: without headings, and with columns as wide.
    #[must_use]
    pub fn next(&self) -> Table {
        Table { columns: self.columns.clone(), rows: Vec::new(), before: Some(self.widths()) }
    }

    fn widths(&self) -> Vec<usize> {
        let before = |n: usize| self.before.as_ref().and_then(|widths| widths.get(n)).copied();
        let columns = self.columns.iter().enumerate();
        let width = columns.map(|(n, (heading, _))| {
            let cells = self.rows.iter().filter_map(|row| row.get(n));
            let cells = cells.map(|cell| cell.chars().count());
            cells.chain([heading.chars().count(), before(n).unwrap_or(0)]).max().unwrap_or(0)
        });
        width.collect()
    }

    /// Adds a row. Cells beyond the headings are left out, missing ones are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// The table as text: two spaces between columns, none at the end of a line.
    #[must_use]
    pub fn render(&self) -> String {
        let headings: Vec<String> = self.columns.iter().map(|(h, _)| h.clone()).collect();
        let shown = self.before.is_none() && !headings.iter().all(String::is_empty);
        let lines = || {
            let first = shown.then_some(&headings);
            first.into_iter().chain(&self.rows)
        };
        let widths = self.widths();
        let mut out = String::new();
        for line in lines() {
            let start = out.len();
            for ((cell, width), (_, align)) in line.iter().zip(&widths).zip(&self.columns) {
                if out.len() > start {
                    out.push_str("  ");
                }
                let _ = match align {
                    Align::Left => write!(out, "{cell:<width$}"),
                    Align::Right => write!(out, "{cell:>width$}"),
                };
            }
            out.truncate(start + out[start..].trim_end().len());
            out.push('\n');
        }
        out
    }
}

/// Ends the process as a closed pipe ends other programs: by SIGPIPE, without a word.
#[allow(clippy::exit, clippy::disallowed_methods)]
pub fn end_as_if_by_sigpipe() -> ! {
    let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGPIPE);
    // Only if the signal is blocked; what a shell reports for it.
    std::process::exit(128 + signal_hook::consts::SIGPIPE)
}

/// A panic while a line was written leaves at worst half a line.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;

    /// A place to write to that can be read.
    #[derive(Clone, Default)]
    pub(crate) struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        pub(crate) fn text(&self) -> String {
            String::from_utf8_lossy(&lock(&self.0)).into_owned()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn out(json: bool, quiet: bool) -> (Out, Page, Page) {
        let (stdout, stderr) = (Page::default(), Page::default());
        let out = Out::to(json, quiet, Box::new(stdout.clone()), Box::new(stderr.clone()));
        (out, stdout, stderr)
    }

    #[test]
    fn with_json_standard_output_is_json_alone() {
        let (out, stdout, stderr) = out(true, false);
        out.line("for people").unwrap();
        out.table(&Table::new(&[("A", Align::Left)])).unwrap();
        out.json(&serde_json::json!({"a": 1})).unwrap();
        out.note("by the way");
        out.finish().unwrap();
        assert_eq!(stdout.text(), "{\"a\":1}\n");
        assert_eq!(stderr.text(), "by the way\n");
    }

    #[test]
    fn quiet_keeps_trouble_only() {
        let (out, _, stderr) = out(false, true);
        out.note("by the way");
        out.warning("careful");
        out.problem(&Problem { subject: "/a\u{1b}[2J".to_owned(), message: "no".to_owned() });
        assert_eq!(stderr.text(), "asof: warning: careful\nasof: /a\\x1b[2J: no\n");
    }

    #[test]
    fn a_closed_pipe_is_told_from_a_full_disk() {
        struct Broken(io::ErrorKind);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(self.0.into())
            }
        }
        let broken = |kind| Out::to(false, false, Box::new(Broken(kind)), Box::new(Broken(kind)));
        let closed = broken(io::ErrorKind::BrokenPipe);
        assert!(matches!(closed.line("x"), Err(OutputError::Closed)));
        assert!(matches!(closed.finish(), Err(OutputError::Closed)));
        closed.note("nobody hears it");
        let full = broken(io::ErrorKind::StorageFull).bytes(b"x").unwrap_err();
        assert_eq!(full.kind(), Kind::Full);
    }

    #[test]
    fn a_chain_of_causes_in_one_line() {
        let cause = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(
            error_chain(&OutputError::Write(cause)),
            "cannot write to standard output: permission denied"
        );
        assert_eq!(error_chain(&OutputError::Closed), "standard output was closed by its reader");
    }

    #[test]
    fn names_cannot_talk_to_the_terminal() {
        for (bytes, text) in [
            (&b"plain"[..], "plain"),
            ("größe".as_bytes(), "größe"),
            (b"a\nb\x1b[31m", "a\\x0ab\\x1b[31m"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("a\u{202e}b".as_bytes(), "a\\xe2\\x80\\xaeb"),
            ("\u{9b}x".as_bytes(), "\\xc2\\x9bx"),
        ] {
            assert_eq!(printable(bytes), text);
        }
    }

    #[test]
    fn tables_are_aligned_and_have_no_trailing_spaces() {
        let mut table =
            Table::new(&[("Name", Align::Left), ("Size", Align::Right), ("", Align::Left)]);
        table.row(["größe", "1", "x"]);
        table.row(["b", "1,000"]);
        assert_eq!(table.render(), "Name    Size\ngröße      1  x\nb      1,000\n");
        let mut bare = Table::new(&[("", Align::Left), ("", Align::Left)]);
        bare.row(["a", "b", "beyond"]);
        assert_eq!(bare.render(), "a  b\n");
    }
}
