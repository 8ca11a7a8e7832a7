//! `restore`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::SelectorParser;
use crate::ops::restore::Overwrite;
use crate::view::Selector;

/// What the help of this command says.
pub(super) const RESTORE: &str = "Bring files back from a snapshot.

A directory's contents go right into the target; anything else goes there under its own name. A \
file is written beside its place and moved there when it is whole, so an interrupted restore can \
simply be run again.

    asof restore web1-etc@yesterday --target /tmp/etc
    asof restore web1-etc:/ssh --target /etc/ssh
    asof restore latest --target / --dry-run

Owners are restored by name where this machine knows it. Only root can restore owners: others say \
--no-owner, or get exit code 3 and a count of what was refused.";

/// Bring files back.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)]
pub struct RestoreArgs {
    /// What to restore: SOURCE[@TIME][:/PATH], latest[:/PATH] or id:PREFIX[:/PATH]
    #[arg(value_parser = SelectorParser)]
    pub selector: Selector,
    /// The directory to restore into; made if it is missing
    #[arg(long, short, value_name = "DIR")]
    pub target: PathBuf,
    /// Restore only what matches a pattern, written as in .gitignore; may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// Leave out what matches a pattern; may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// What to do about files that are there already
    #[arg(long, value_enum, default_value = "always", value_name = "WHEN")]
    pub overwrite: OverwriteArg,
    /// Remove what is in the target but not in the snapshot
    #[arg(long)]
    pub delete: bool,
    /// Read every file back and compare it with its SHA-256
    #[arg(long)]
    pub verify: bool,
    /// Change nothing, only say what would be done
    #[arg(long, short = 'n')]
    pub dry_run: bool,
    /// Do not restore owners
    #[arg(long)]
    pub no_owner: bool,
    /// Do not restore extended attributes, ACLs and capabilities
    #[arg(long)]
    pub no_xattrs: bool,
    /// Restore owners by number, although this machine knows their names
    #[arg(long)]
    pub numeric_ids: bool,
}

/// What to do about files that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OverwriteArg {
    /// Write every file that is not equal already
    Always,
    /// Write files whose size or modification time is another
    IfChanged,
    /// Write files that are newer in the snapshot
    IfNewer,
    /// Leave what is there
    Never,
}

impl From<OverwriteArg> for Overwrite {
    fn from(when: OverwriteArg) -> Overwrite {
        match when {
            OverwriteArg::Always => Overwrite::Always,
            OverwriteArg::IfChanged => Overwrite::IfChanged,
            OverwriteArg::IfNewer => Overwrite::IfNewer,
            OverwriteArg::Never => Overwrite::Never,
        }
    }
}
