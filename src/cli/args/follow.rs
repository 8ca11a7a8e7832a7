//! `follow`, `log`, `thin`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{duration, size};

/// What the help of these commands says.
pub(super) const FOLLOW: &str = "Follow databases: publish every committed transaction

Runs until it is stopped. A database that is followed can be mounted as it was after each of its \
transactions. It must be a SQLite database in write-ahead mode (PRAGMA journal_mode = wal) on a \
local file system; another one is copied as a whole now and then, and that is said. Its content is \
not changed: asof holds readers and makes checkpoints, as any program that uses it does. A key that \
only writes will do.

What changed is published once in --interval. While the store cannot be reached, what is captured \
waits on this machine, up to --spool-limit; what is missed after that, or because this command did \
not run, is a gap, which `asof log` shows. With --sync there is none when this command is killed by \
signal 9 and started again: another process of it keeps the log of the database meanwhile, for an \
hour at most, and until the log is as large as --spool-limit. The state of things is in status.json, and is \
answered on the socket status.sock, both in the source's directory below --state-dir.

    asof source add shop sqlite:/srv/shop/kv.db
    asof follow shop
    asof follow --all --interval 5s
    sqlite3 /mnt/past/at/2026-11-20T10-15-03.5/shop/kv.db 'SELECT …'";

pub(super) const LOG: &str = "List the moments that a followed source can be seen at

One line a transaction: when it was captured, its position, and the size of the database \
afterwards. Gaps are listed where they are: of those times nothing is known.

    asof log shop
    asof log shop --since 2h-ago --until 2026-11-20T10:15
    asof log shop --json | jq .";

/// Follow databases.
#[derive(Debug, Default, Args)]
pub struct FollowArgs {
    /// The sources, as `asof source add` has defined them
    #[arg(value_name = "SOURCE", required_unless_present = "all")]
    pub sources: Vec<String>,
    /// Follow every database that the configuration file defines
    #[arg(long, conflicts_with = "sources")]
    pub all: bool,
    /// Publish what was captured so often, instead of what the source says
    #[arg(long, value_name = "DURATION", value_parser = duration())]
    pub interval: Option<Duration>,
    /// Keep at most so much on this machine while it cannot be published, and while an image of a
    /// database is being stored as much more as that is large
    #[arg(long, value_name = "SIZE", value_parser = size())]
    pub spool_limit: Option<u64>,
    /// Write what is captured through to the disk, publish it at once, and keep the log of the
    /// database if this process is killed
    #[arg(long)]
    pub sync: bool,
    /// Copy a database that cannot be followed so often
    #[arg(long, value_name = "DURATION", value_parser = duration(), default_value = "5m")]
    pub snapshot_every: Duration,
    /// Where what is captured waits [default: $XDG_STATE_HOME/asof, ~/.local/state/asof]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Write the status to this file instead of status.json
    #[arg(long, value_name = "FILE")]
    pub status_file: Option<PathBuf>,
    /// Answer with the status on this socket instead of status.sock
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// List moments.
#[derive(Debug, Default, Args)]
pub struct LogArgs {
    /// The source
    pub source: String,
    /// Only what came at this time or later
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only what came at this time or earlier
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

pub(super) const THIN: &str = "Thin the old history of followed sources

Every transaction is kept for --all-for, then the last of each hour for --hourly-for, then the last \
of each day for --daily-for, or for ever. What is kept stays as it was, to the byte; the \
moments between go, and old segments are merged into fewer. The space comes back with \
`asof gc`, after the grace period. It takes the owner's key. What is not said here is taken from all_for, hourly_for and daily_for of the source in the configuration file.

    asof thin shop --all-for 7d --hourly-for 30d
    asof thin shop --all-for 1d --hourly-for 7d --daily-for 365d --dry-run";

/// Thin history.
#[derive(Debug, Args)]
pub struct ThinArgs {
    /// The sources
    #[arg(value_name = "SOURCE", required = true)]
    pub sources: Vec<String>,
    /// Keep every transaction that is not older than this, an hour at least [default: 7d]
    #[arg(long, value_name = "DURATION", value_parser = duration())]
    pub all_for: Option<Duration>,
    /// Keep the last of each hour that is not older than this [default: 30d]
    #[arg(long, value_name = "DURATION", value_parser = duration())]
    pub hourly_for: Option<Duration>,
    /// Keep the last of each day that is not older than this [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = duration())]
    pub daily_for: Option<Duration>,
    /// Say what would go, and change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}
