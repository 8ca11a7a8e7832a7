//! `backup`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{duration, size};

/// What the help of this command says.
pub(super) const BACKUP: &str =
    "Take a snapshot of directories, of standard input, or of what a command prints.

Only what changed since the last snapshot of the source is read, and only what the repository \
does not have yet is stored. A file that cannot be read is named and left out; the rest is backed \
up, and the exit code is 3.

    asof backup /etc /srv                             one source, named after host and paths
    asof backup --source web1 /etc /srv               the same under a name of your own
    asof backup web1                                  as `asof source add web1 …` defined it
    pg_dumpall | asof backup --stdin --stdin-name all.sql
    asof backup --source db --command -- pg_dumpall   no snapshot if the command fails

Next: `asof snapshots`, `asof mount /mnt`.";

/// Take a snapshot.
#[derive(Debug, Default, Args)]
#[allow(clippy::struct_excessive_bools)]
pub struct BackupArgs {
    /// Directories and files; or the NAME of a source of the configuration file (./NAME is a path)
    #[arg(value_name = "PATH|NAME", conflicts_with_all = ["stdin", "command"])]
    pub paths: Vec<PathBuf>,
    /// The command whose output is backed up, after `--`
    #[arg(last = true, value_name = "COMMAND", requires = "command")]
    pub argv: Vec<OsString>,

    /// The source's name [default: host and path, as web1-etc]
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// The host's name, if not this machine's
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// A word to find the snapshot by; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,

    /// Read paths from this file, one in a line or ended by NULs; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stdin", "command"])]
    pub files_from: Vec<PathBuf>,
    /// Back up standard input as one file
    #[arg(long, conflicts_with = "command")]
    pub stdin: bool,
    /// What that file, or the command's output, is called [default: stdin, or the command's name]
    #[arg(long, value_name = "NAME")]
    pub stdin_name: Option<String>,
    /// Back up what the command after `--` prints; a failing one makes no snapshot
    #[arg(long, requires = "argv")]
    pub command: bool,

    /// What is left out.
    #[command(flatten)]
    pub leave_out: LeaveOutArgs,

    /// `asof forget` forgets the snapshot from this time on, whatever its rules say
    #[arg(long, value_name = "TIME", conflicts_with = "expires_in")]
    pub expires_at: Option<String>,
    /// The same, so long after now, as 36h, 30d or 26w
    #[arg(long, value_name = "DURATION", value_parser = duration())]
    pub expires_in: Option<Duration>,
    /// Make no snapshot if nothing changed, the time at which it expires included
    #[arg(long)]
    pub skip_if_unchanged: bool,
    /// Go on although the source's paths are others than before
    #[arg(long)]
    pub change_roots: bool,
    /// Read every file again, also those that look unchanged
    #[arg(long)]
    pub force: bool,
    /// Read everything and say what would be stored, but store nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// zstd level, 1 (fast) to 19 (small) [default: 3]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(1..=19))]
    pub compression_level: Option<i32>,
}

/// What is left out of directories.
#[derive(Debug, Default, Args)]
pub struct LeaveOutArgs {
    /// Leave out what matches a pattern, written as in .gitignore; may be given several times
    #[arg(long, value_name = "PATTERN", help_heading = LEAVE_OUT)]
    pub exclude: Vec<String>,
    /// Read such patterns from a file, one in a line
    #[arg(long, value_name = "FILE", help_heading = LEAVE_OUT)]
    pub exclude_file: Vec<PathBuf>,
    /// Leave out what is in a directory that holds a file of this name
    #[arg(long, value_name = "NAME[:HEADER]", help_heading = LEAVE_OUT)]
    pub exclude_if_present: Vec<String>,
    /// Leave out what is in directories marked by a CACHEDIR.TAG
    #[arg(long, help_heading = LEAVE_OUT)]
    pub exclude_caches: bool,
    /// Leave out larger files, as 1G
    #[arg(long, value_name = "SIZE", value_parser = size(), help_heading = LEAVE_OUT)]
    pub exclude_larger_than: Option<u64>,
    /// Do not go into other file systems that are mounted below the paths
    #[arg(long, short = 'x', help_heading = LEAVE_OUT)]
    pub one_file_system: bool,
}

const LEAVE_OUT: &str = "Leave out";
