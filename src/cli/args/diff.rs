//! Commands that compare moments: `diff` and `history`.

use clap::Args;

use super::SelectorParser;
use crate::view::Selector;

/// What the help of this command says.
pub(super) const DIFF: &str = "Show what differs between two states of the past.

    asof diff web1-etc@yesterday web1-etc
    asof diff --patch web1-etc@2026-11-20:/ssh web1-etc:/ssh
    asof diff --name-only -0 id:3f2a web1-etc | xargs -0 ls

A line for each name: + it is new, - it is gone, M its content is another, T it is something else \
(a directory that was a file), U its mode, owner, time or attributes alone are others. The time \
and size of a directory follow from what is in it and are not compared.

It costs what differs, not what there is: what is equal is not looked into. The exit code is 0 \
whether anything differs or not.";

/// Show what differs between two states of the past.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)]
pub struct DiffArgs {
    /// What was before: SOURCE[@TIME][:/PATH], latest[:/PATH] or id:PREFIX[:/PATH]
    #[arg(value_parser = SelectorParser)]
    pub before: Selector,
    /// What is after, written in the same way
    #[arg(value_parser = SelectorParser)]
    pub after: Selector,
    /// With sizes before and after, and totals
    #[arg(long, conflicts_with_all = ["name_only", "patch"])]
    pub stat: bool,
    /// Paths alone
    #[arg(long, conflicts_with = "patch")]
    pub name_only: bool,
    /// The lines that differ, as `patch -p1` takes them; of files of at most 8 MiB. What a patch
    /// has no words for is counted on standard error
    #[arg(short, long)]
    pub patch: bool,
    /// End paths with a NUL and write them as they are, for xargs -0
    #[arg(short = '0', long, requires = "name_only")]
    pub null: bool,
}

/// What the help of this command says.
pub(super) const HISTORY: &str = "Show every version that a path ever had.

    asof history web1-etc:/ssh/sshd_config
    asof history --names web1-etc:/cron.d
    asof history web1-etc@2026-11-20:/passwd

A row for each version, the newest last: since when and until when snapshots show it, and whether \
it is there at all: a file that was deleted and came back is a version of its own. Another mode, \
owner or kind is another version too. Time and size of a directory are no versions of it.

Of a version, SOURCE@FIRST-SEEN:/PATH selects what it was: `asof cat \
web1-etc@2026-11-20T10-15-03:/passwd`.";

/// Show every version that a path ever had.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// The path: SOURCE[@TIME]:/PATH; with a time, the versions up to then
    #[arg(value_parser = SelectorParser)]
    pub selector: Selector,
    /// Of a directory also every name that ever was in it
    #[arg(long)]
    pub names: bool,
}
