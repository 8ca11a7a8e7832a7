//! A place to run the program in, apart from whoever runs the tests.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The passphrase of every repository here.
pub const PASSPHRASE: &str = "correct horse";

/// A directory whose files were not written just now.
pub const OLD_FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/base");

/// A directory with a source, a repository to be made, and a home of its own.
pub struct Bench {
    dir: TempDir,
}

/// What a run left behind.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub output: Output,
}

impl Ran {
    pub fn of(output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            output,
        }
    }

    /// Checks the exit code, and shows everything if it is another.
    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        let (out, err) = (&self.stdout, &self.stderr);
        assert_eq!(self.code, Some(code), "stdout:\n{out}\nstderr:\n{err}");
        self
    }

    /// Checks that standard error holds a text.
    #[track_caller]
    pub fn tells(self, part: &str) -> Ran {
        assert!(self.stderr.contains(part), "{part:?} is not in:\n{}", self.stderr);
        self
    }

    /// Checks that standard output holds a text.
    #[track_caller]
    pub fn shows(self, part: &str) -> Ran {
        assert!(self.stdout.contains(part), "{part:?} is not in:\n{}", self.stdout);
        self
    }

    /// The only object on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}:\n{}", self.stdout))
    }
}

impl Bench {
    /// A source of a few files, and no repository.
    pub fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        // Others may look, as one test does.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let bench = Bench { dir };
        bench.write("src/hello", b"hello\n");
        bench.write("src/sub/deep", b"deep\n");
        bench.write("src/large", &noise(300_000));
        std::os::unix::fs::symlink("hello", bench.path("src/link")).unwrap();
        bench
    }

    /// The same with a repository.
    pub fn with_repository() -> Bench {
        let bench = Bench::new();
        bench.asof(["init", "--kdf-cost", "least"]).exits(0);
        bench
    }

    /// The same with one snapshot of source `s`.
    pub fn with_snapshot() -> Bench {
        let bench = Bench::with_repository();
        bench.backup().exits(0);
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The program with an environment of its own, in the bench's directory.
    pub fn command(&self) -> Command {
        self.dress(Command::new(env!("CARGO_BIN_EXE_asof")))
    }

    pub fn dress(&self, mut command: Command) -> Command {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("ASOF_CACHE_DIR", self.path("cache"))
            .env("ASOF_REPOSITORY", self.path("repo"))
            .env("ASOF_PASSWORD", PASSPHRASE)
            .env("ASOF_TIMEZONE", "UTC")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub fn asof<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        Ran::of(self.command().args(args).output().unwrap())
    }

    /// Runs the program with these bytes as its standard input.
    pub fn feed<S: AsRef<OsStr>>(&self, input: &[u8], args: impl IntoIterator<Item = S>) -> Ran {
        let mut command = self.command();
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may end without reading.
        let _ = child.stdin.take().unwrap().write_all(input);
        Ran::of(child.wait_with_output().unwrap())
    }

    /// Backs the source up as `s`.
    pub fn backup(&self) -> Ran {
        self.asof(["backup", "--source", "s", "src"])
    }

    /// How many snapshots the repository shows.
    pub fn snapshots(&self) -> usize {
        let ran = self.asof(["snapshots", "--json"]).exits(0);
        ran.json()["snapshots"].as_array().unwrap().len()
    }

    /// Every file of the store with its bytes.
    pub fn store(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        collect(&self.path("repo"), &mut files);
        files.sort();
        files
    }
}

fn collect(dir: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            files.push((path, bytes));
        }
    }
}

/// Bytes that do not compress, the same every time.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}
