//! `gc`.

use std::time::Duration;

use clap::Args;

use super::{duration, size};

/// What the help of this command says.
pub(super) const GC: &str = "Give back the space of what no snapshot needs any more.

There is no lock: backups, mounts and other collections go on meanwhile. What is not needed is \
*condemned* first, so that nobody builds on it from then on, and is deleted by a later run, when \
the grace period of the repository (30 days, unless `init --grace` said otherwise) has passed. So \
run it regularly; each run says when space comes back. Packs of which little is needed are \
rewritten, nodes that are scattered are gathered, and the log is compacted.

    asof gc --dry-run
    asof gc
    asof --limit-upload 5M gc --max-repack 10G

A run that is interrupted is no loss: the next one goes on. If a snapshot needs something that is \
not there, nothing is collected; `asof check` says what is concerned.";

/// Give back space.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Change nothing: say what would be done
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Delete at once. You answer for it that nobody else writes while it runs, and, where listings
    /// of the store may lag, for as long before and after. What machines with writer keys stored
    /// lately waits all the same, since they may build on it
    #[arg(long)]
    pub exclusive: bool,
    /// How much of all packs may be of no use before some of them are rewritten
    #[arg(long, value_name = "PERCENT", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
    pub max_unused: u8,
    /// Rewrite at most so much in this run, as 10G
    #[arg(long, value_name = "SIZE", value_parser = size())]
    pub max_repack: Option<u64>,
    /// Wait so long from now on before anything is deleted, as 60d; `init` fixed the least
    #[arg(long, value_name = "DURATION", value_parser = duration(), hide_short_help = true)]
    #[arg(conflicts_with = "dry_run")]
    pub set_grace: Option<Duration>,
}
