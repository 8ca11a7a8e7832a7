//! What tests of the follower stand on: a database, programs that write to it, and an
//! image to which commits are applied.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rusqlite::Connection;
use tempfile::TempDir;

use super::files::Attached;
use super::{Base, Commit, Follower, Position, Tuning};
use crate::base::Clock;

/// A database in a directory of its own.
pub(super) struct Database {
    pub path: PathBuf,
    /// Tests write from this process too, with connections that no follower knows of: as
    /// long as this counts, none takes their locks away.
    _attached: Attached,
    pub dir: TempDir,
}

impl Database {
    /// An empty file.
    pub(super) fn new() -> Database {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        File::create(&path).unwrap();
        let attached = Attached::new(&path).unwrap();
        Database { path, _attached: attached, dir }
    }

    /// One with a log, for which something was set before it was made.
    pub(super) fn with(setting: &str) -> Database {
        let database = Database::new();
        let connection = Connection::open(&database.path).unwrap();
        connection.execute_batch(setting).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        database
    }

    /// A connection with a log.
    pub(super) fn connect(&self) -> Connection {
        let connection = Connection::open(&self.path).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.pragma_update(None, "synchronous", "OFF").unwrap();
        connection
    }

    /// A program that counts its transactions in the database, which begins at 0.
    pub(super) fn counter(&self) -> Counter {
        let connection = self.connect();
        connection
            .execute_batch(
                "CREATE TABLE IF NOT EXISTS counter (n INTEGER);
                 INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter);
                 CREATE TABLE IF NOT EXISTS filler (id INTEGER PRIMARY KEY, bytes BLOB);",
            )
            .unwrap();
        Counter { connection }
    }

    /// A follower with the usual limits.
    pub(super) fn follow(&self, resume: Option<&Position>) -> Follower {
        Follower::open(&self.path, resume, Clock::system()).unwrap()
    }

    /// A follower that hops at every opportunity.
    pub(super) fn follow_eagerly(&self, resume: Option<&Position>) -> Follower {
        let tuning = Tuning { hop_frames: 20, rest: std::time::Duration::ZERO, gate_share: 0 };
        Follower::open_with(&self.path, resume, Clock::system(), tuning).unwrap()
    }
}

/// See [`Database::counter`].
pub(super) struct Counter {
    pub connection: Connection,
}

impl Counter {
    /// One transaction.
    pub(super) fn count(&mut self) {
        let transaction = self.connection.transaction().unwrap();
        transaction.execute("UPDATE counter SET n = n + 1", []).unwrap();
        transaction
            .execute(
                "INSERT OR REPLACE INTO filler SELECT n % 97, randomblob(n % 3000) FROM counter",
                [],
            )
            .unwrap();
        transaction.commit().unwrap();
    }
}

/// All that there is to pull.
pub(super) fn drain(follower: &mut Follower) -> Vec<Commit> {
    let mut commits = Vec::new();
    loop {
        let more = follower.pull(1 << 20).unwrap();
        if more.is_empty() {
            return commits;
        }
        commits.extend(more);
    }
}

/// A position as it comes back from a file.
pub(super) fn kept(follower: &Follower) -> Position {
    let position = follower.position().unwrap().unwrap();
    let text = serde_json::to_string(&position).unwrap();
    let read: Position = serde_json::from_str(&text).unwrap();
    assert_eq!(read, position);
    read
}

/// A database as it was.
pub(super) struct Image {
    file: File,
    path: PathBuf,
    _dir: TempDir,
}

impl Image {
    /// What a base says.
    pub(super) fn of(base: &mut Base<'_>) -> Image {
        let mut bytes = Vec::new();
        base.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, base.size());
        Image::from_bytes(&bytes)
    }

    /// These bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Image {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.db");
        let file = File::options().create_new(true).read(true).write(true).open(&path).unwrap();
        let image = Image { file, path, _dir: dir };
        image.put(bytes, 0);
        image
    }

    /// Writes pages, with a header that says that there is no log.
    fn put(&self, bytes: &[u8], at: u64) {
        self.file.write_all_at(bytes, at).unwrap();
        if at == 0 {
            self.file.write_all_at(&[1, 1], 18).unwrap();
        }
    }

    /// What it is after a commit.
    pub(super) fn apply(&self, commit: &Commit) {
        let size = u64::from(commit.page_size);
        let mut pages = commit.pages();
        let (mut before, mut count) = (0, 0);
        while let Some((number, page)) = pages.next_page().unwrap() {
            assert!(number > before && page.len() as u64 == size, "each page once, in order");
            before = number;
            count += 1;
            self.put(page, (u64::from(number) - 1) * size);
        }
        assert_eq!(count, commit.page_count());
        self.file.set_len(u64::from(commit.database_pages) * size).unwrap();
    }

    /// Applies commits, of which each must be one count of the program further.
    pub(super) fn apply_counts(&self, commits: &[Commit]) {
        let mut counter = self.counter();
        for commit in commits {
            self.apply(commit);
            counter += 1;
            assert_eq!(self.counter(), counter);
        }
    }

    /// One number that the database answers.
    pub(super) fn ask(&self, query: &str) -> i64 {
        let connection = Connection::open(&self.path).unwrap();
        connection.query_row(query, [], |row| row.get(0)).unwrap()
    }

    /// How far the program had counted.
    pub(super) fn counter(&self) -> i64 {
        self.ask("SELECT n FROM counter")
    }

    /// SQLite finds nothing wrong with it.
    pub(super) fn check(&self) {
        let connection = Connection::open(&self.path).unwrap();
        let said: String =
            connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(said, "ok");
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }
}

/// Another process, with Python's own SQLite.
pub(super) struct Python {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

/// Runs what it is sent, a line each, and answers with a line.
const TALKER: &str = r"
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
for line in sys.stdin:
    try:
        rows = c.execute(line).fetchall()
        print('ok', *rows[0] if rows else (), flush=True)
    except sqlite3.Error as e:
        print('error', e, flush=True)
";

impl Python {
    /// A connection to the database that does what it is told.
    pub(super) fn connect(database: &Path) -> Python {
        Python::run(TALKER, database)
    }

    /// Any program. Its end is that of its input.
    pub(super) fn run(program: &str, database: &Path) -> Python {
        let mut child = Command::new("python3")
            .args(["-c", program])
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take();
        let from = BufReader::new(child.stdout.take().unwrap());
        Python { child, to, from }
    }

    /// What it answers to a line.
    pub(super) fn say(&mut self, line: &str) -> String {
        writeln!(self.to.as_mut().unwrap(), "{line}").unwrap();
        self.hear()
    }

    /// The next line that it prints; empty if it has ended.
    pub(super) fn hear(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Kills it with `SIGKILL`.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets it end properly.
    pub(super) fn end(mut self) {
        self.to = None;
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
