//! `check`.

use std::time::Duration;

use clap::Args;
use clap::builder::ValueParser;

use super::duration;
use crate::ops::check::Part;

/// What the help of this command says.
pub(super) const CHECK: &str = "Say whether everything that is stored can be read, also by exit code.

Without options it reads the log and the trees of all snapshots, and compares which packs there \
are: that finds everything that is missing, and costs little. Damage inside a pack of files' data \
shows only when that is read, with --read-data.

    asof check
    asof check --read-data-subset 2%
    asof check --read-data --max-age 30d
    asof check --store-only

The exit code is 4 if there is damage. Then damaged objects are named, the first 1,000 of them, \
each with the sources and snapshots that it costs and the first ten files, with --json a hundred; \
beyond that their numbers. What was read and is not concerned restores.

When a pack was last read and found whole is remembered in this machine's index. --max-age leaves \
out what was read lately, so a run that was interrupted goes on where it stopped with `--read-data \
--max-age 1d`, and a run a night with `--read-data-subset 5%` reads what was read longest ago.

--store-only needs no passphrase: names are hashes, so the machine that holds the store can compare \
each object with its name. What is missing it cannot tell.";

/// Say whether everything that is stored can be read.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Read all packs whole and compare every chunk with its id
    #[arg(long)]
    pub read_data: bool,
    /// Read a part of the packs: a share as 5%, or one of several parts as 2/7
    #[arg(long, value_name = "PART", value_parser = part(), conflicts_with = "read_data")]
    pub read_data_subset: Option<Part>,
    /// Leave out packs that this machine read and found whole less than so long ago, as 30d
    #[arg(long, value_name = "AGE", value_parser = duration(), conflicts_with = "store_only")]
    pub max_age: Option<Duration>,
    /// Only compare objects with their names; needs no key
    #[arg(long, conflicts_with_all = ["read_data", "read_data_subset"])]
    pub store_only: bool,
}

fn part() -> ValueParser {
    ValueParser::new(|text: &str| text.parse::<Part>())
}
