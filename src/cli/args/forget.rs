//! `forget`.

use clap::Args;

use super::SelectorParser;
use crate::cli::keep::Keep;
use crate::view::Selector;

/// What the help of this command says.
pub(super) const FORGET: &str = "Forget snapshots: those that are named, or those that no rule keeps.

    asof forget --dry-run                           as [retention] of the configuration file says
    asof forget --keep-within 3d --keep-daily 14 --keep-weekly 8 --keep-monthly 24
    asof forget --source web1-etc --keep-last 10 --keep-tag release
    asof forget id:2352d4b2 web1-etc@2026-11-20T10:15

A snapshot is kept if any rule keeps it. Every source is treated by itself, and in it the \
snapshots of every key that signed some. Of each hour, day, week, month and year the last snapshot \
is kept; periods without one do not count. What expired (`backup --expires-in`) is forgotten \
whatever the rules say; only --keep-tag and --keep-id hold it. Until then it takes no place of what \
does not expire. Without rules here, those of the \
configuration file hold.

Rules go by when the store received a snapshot and not by the times that it claims. So whoever \
steals the key of a machine cannot push out snapshots of the owner or of other machines, cannot \
put any into a day that is over, and uses up one place of a day however many he adds. He can \
put one behind the machine's own in every day, week or month to come, until the key is revoked: \
--keep-within keeps those too, and cannot be used up. What was received more than a day after it \
says it was taken, as everything in a store that was copied, is kept and takes no place, unless \
--by-taken trusts its own times, and with them every writer. Snapshots of a key that is no longer \
used keep their places: name those that are not wanted.

Forgetting is final, and only the owner can. It frees nothing by itself: `asof gc` does.";

/// Forget snapshots.
#[derive(Debug, Clone, Default, Args)]
pub struct ForgetArgs {
    /// Forget these: SOURCE@TIME or id:PREFIX
    #[arg(value_name = "SNAPSHOT", value_parser = SelectorParser)]
    #[arg(conflicts_with_all = ["sources", "Keep", "by_taken", "allow_empty"])]
    pub snapshots: Vec<Selector>,
    /// Only of this source; may be given several times
    #[arg(long = "source", value_name = "NAME")]
    pub sources: Vec<String>,
    /// What to keep.
    #[command(flatten)]
    pub keep: Keep,
    /// Go by the times that snapshots claim: for a store that was copied, where all were received at once
    #[arg(long)]
    pub by_taken: bool,
    /// Forget also every snapshot of a source, or the newest, if no rule keeps it
    #[arg(long)]
    pub allow_empty: bool,
    /// Forget also what moments of followed databases are made from, and so these moments
    #[arg(long)]
    pub with_moments: bool,
    /// Say what would be forgotten and why, and forget nothing
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Why, for people; it is kept with the decision
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}
