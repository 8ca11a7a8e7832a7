//! Commands that look: `snapshots`, `ls`, `cat`, `stat`, `status`, `index`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{SelectorParser, duration};
use crate::view::Selector;

/// What the help of this command says.
pub(super) const SNAPSHOTS: &str = "List snapshots, the newest last.

    asof snapshots
    asof snapshots --source web1-etc --since 2026-11-01 --until yesterday
    asof snapshots --json | jq '.snapshots[-1].id'

A row's source and time select it: `asof ls web1-etc@2026-11-20T10-15-03`. So does `id:` and the \
first digits of its id.";

/// List snapshots.
#[derive(Debug, Args)]
pub struct SnapshotsArgs {
    /// Only of this source; may be given several times
    #[arg(long = "source", value_name = "NAME")]
    pub sources: Vec<String>,
    /// Only with this tag; given several times, with all of them
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Only from this host; may be given several times
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// Only those after this time; of a day, after its end
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only those up to this time; of a day, up to its end
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

/// What the help of this command says.
pub(super) const LS: &str = "List a directory of the past.

    asof ls web1-etc
    asof ls -l web1-etc@yesterday:/ssh
    asof ls -R latest:/

A source of one directory begins with what is in it: /etc/ssh is web1-etc:/ssh. A source of \
several has each under its whole path. Characters that a terminal would act on are shown as \\xNN; \
--null writes names as they are.";

/// List a directory of the past.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// What to list: SOURCE[@TIME][:/PATH], latest[:/PATH] or id:PREFIX[:/PATH]
    #[arg(value_parser = SelectorParser)]
    pub selector: Selector,
    /// With mode, owner, group, size and time
    #[arg(short, long)]
    pub long: bool,
    /// Also what is below
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// End names with a NUL and write them as they are, for xargs -0
    #[arg(short = '0', long, conflicts_with = "long")]
    pub null: bool,
}

/// What the help of this command says.
pub(super) const CAT: &str = "Write a file of the past to standard output.

    asof cat web1-etc@3d-ago:/fstab
    asof cat db:/all.sql | psql

Every byte is compared with what was backed up before it is written.";

/// Write a file of the past to standard output.
#[derive(Debug, Args)]
pub struct CatArgs {
    /// The file: SOURCE[@TIME]:/PATH
    #[arg(value_parser = SelectorParser)]
    pub selector: Selector,
}

/// What the help of this command says.
pub(super) const STAT: &str =
    "Show all that is known of a file of the past: attributes, owner names, \
extended attributes, SHA-256, about how much of the store it takes, from when to when snapshots \
show it just so, and the snapshot that it is from and who published that.

    asof stat web1-etc@yesterday:/fstab";

/// Show all that is known of a file of the past.
#[derive(Debug, Args)]
pub struct StatArgs {
    /// The file: SOURCE[@TIME][:/PATH]
    #[arg(value_parser = SelectorParser)]
    pub selector: Selector,
}

/// What the help of this command says.
pub(super) const MANIFEST: &str =
    "Write the SHA-256 of every file of a state of the past, as `sha256sum -c` takes it.

    asof manifest web1-etc@2026-11-20 > etc.sha256
    cd /etc && sha256sum --quiet -c ~/etc.sha256

The second line names every file that is not what it was then. The hashes are those that the \
backup took: no content is read. Paths begin where the selector ends. What is no file has no line.";

/// Write the SHA-256 of every file of the past.
#[derive(Debug, Args)]
pub struct ManifestArgs {
    /// The directory or file: SOURCE[@TIME][:/PATH]
    #[arg(value_parser = SelectorParser)]
    pub selector: Selector,
}

/// What the help of this command says.
pub(super) const STATUS: &str = "Say whether every source was backed up lately.

The exit code is 1 if a source's newest snapshot is older than --max-age, or if a source that is \
named here, or is in the configuration file for this repository, has none at all.

    asof status --max-age 26h || mail -s 'backup is late' root
    asof status --max-age 2h db1";

/// Say whether every source was backed up lately.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The sources that matter [default: all that have a snapshot or are in the configuration file]
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// How old the newest snapshot may be, as 26h or 2d
    #[arg(long, value_name = "AGE", value_parser = duration())]
    pub max_age: Option<Duration>,
}

/// What the help of this command says.
pub(super) const INDEX: &str = "This machine's index of the repository.

It is a cache in the cache directory: of the log's facts, and of what this machine scanned. \
Deleting it costs time and nothing else; it is made anew by itself when it is missing or damaged.";

/// What can be done with the index.
#[derive(Debug, Subcommand)]
pub enum IndexCommand {
    /// Learn what is new in the store
    Sync,
    /// Throw the index away and fill it from the log
    Rebuild,
    /// Show what the index holds; asks nothing of the store but the repository's description
    Status,
}
