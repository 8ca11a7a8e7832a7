//! `source`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{LeaveOutArgs, duration, size};

/// What the help of this command says.
pub(super) const SOURCE: &str = "Sources: what is backed up and followed, by name.

A source is a named thing on this machine: directories, of which `backup` takes snapshots, or a \
database, which `follow` follows. Its definition is the table [sources.NAME] of the configuration \
file. These commands write and show that table, and keep every comment in the file; an editor \
does as well.

    asof source add www /srv/www                           then: asof backup www
    asof source add shop sqlite:/srv/shop/kv.db            then: asof follow shop
    asof source list";

/// What can be done with sources.
#[derive(Debug, Subcommand)]
pub enum SourceCommand {
    /// Define a source
    ///
    /// Directories are written as paths or as dir:PATH, and there may be several; a SQLite database
    /// as sqlite:PATH. Paths that are relative become absolute. What is there already under the name
    /// stays, unless --replace is given. The configuration file is made if it is missing.
    ///
    ///     asof source add www /srv/www /etc/nginx --exclude '*.log'
    ///     asof source add shop sqlite:/srv/shop/kv.db --profile offsite
    ///     asof source add shop sqlite:/srv/shop/kv.db --interval 5s --replace
    ///     asof --config /etc/asof/config.toml source add shop sqlite:/srv/shop/kv.db
    #[command(verbatim_doc_comment)]
    Add(Box<SourceAddArgs>),
    /// List the sources that are defined
    List,
    /// Show all that is defined of a source
    ///
    ///     asof source show shop
    #[command(verbatim_doc_comment)]
    Show {
        /// The source
        name: String,
    },
    /// Remove the definition of a source; what is stored of it stays
    ///
    /// Its snapshots can be mounted and restored as before; `asof forget` is what forgets them.
    ///
    ///     asof source remove shop
    #[command(verbatim_doc_comment)]
    Remove {
        /// The source
        name: String,
    },
}

/// Define a source.
#[derive(Debug, Default, Args)]
pub struct SourceAddArgs {
    /// What it is called: letters, digits, `.`, `_` and `-`
    pub name: String,
    /// Where it is: a path, dir:PATH or sqlite:PATH; of directories there may be several
    #[arg(value_name = "URL", required = true)]
    pub urls: Vec<String>,
    /// Put it in the place of one that is there under this name
    #[arg(long)]
    pub replace: bool,
    /// The host's name, if not this machine's
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// A word to find its snapshots by; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,

    /// What is left out.
    #[command(flatten)]
    pub leave_out: LeaveOutArgs,
    /// Make no snapshot if nothing changed
    #[arg(long)]
    pub skip_if_unchanged: bool,

    /// Publish what was captured so often, as 1s, 500ms or 5m [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = duration(), help_heading = FOLLOW)]
    pub interval: Option<Duration>,
    /// Keep at most so much on this machine while it cannot be published [default: 1G]
    #[arg(long, value_name = "SIZE", value_parser = size(), help_heading = FOLLOW)]
    pub spool_limit: Option<u64>,
    /// Flush what was captured to this machine's disk at once, so that it survives a power failure
    #[arg(long, help_heading = FOLLOW)]
    pub sync: bool,
    /// What `asof thin` keeps: every transaction for so long
    #[arg(long, value_name = "DURATION", value_parser = duration(), help_heading = FOLLOW)]
    pub all_for: Option<Duration>,
    /// The last of each hour for so long
    #[arg(long, value_name = "DURATION", value_parser = duration(), help_heading = FOLLOW)]
    pub hourly_for: Option<Duration>,
    /// The last of each day for so long
    #[arg(long, value_name = "DURATION", value_parser = duration(), help_heading = FOLLOW)]
    pub daily_for: Option<Duration>,
}

const FOLLOW: &str = "Databases";
