//! `find`.

use clap::{Args, ValueEnum};

/// What the help of this command says.
pub(super) const FIND: &str = "Search every snapshot at once, also for what was deleted.

    asof find --name '*.conf'
    asof find --source web1-etc --path /ssh --changed-between 2026-11-17 2026-11-18
    asof find --sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    asof find --deleted --type file --size 1G..

What fits everything that is said is shown once for each version that it ever had: since when and \
until when snapshots show it, what it was, and whether it is present, was replaced by another \
version, or was deleted; source by source, in the order of the paths.

The first search goes through the first snapshot of each source, and of the others through what \
differs from the one before, and keeps what it finds in this machine's index. Later ones go through \
new snapshots alone. One that is interrupted goes on where it was.";

/// Search every snapshot at once.
#[derive(Debug, Args)]
pub struct FindArgs {
    /// Only in this source; may be given several times
    #[arg(long = "source", value_name = "NAME")]
    pub sources: Vec<String>,
    /// The last part of the path, as *.conf; a pattern as the shell's
    #[arg(long, value_name = "GLOB")]
    pub name: Option<String>,
    /// This path in the source, or below it
    #[arg(long, value_name = "PATH")]
    pub path: Option<std::path::PathBuf>,
    /// Files of this size, as 10M.., ..4k or 1M..2M
    #[arg(long, value_name = "MIN..MAX")]
    pub size: Option<String>,
    /// What was modified after the first time and until the second, as yesterday.. or ..2026-11-20
    #[arg(long, value_name = "TIME..TIME")]
    pub mtime: Option<String>,
    /// Files with these bytes
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,
    /// What it is
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    pub kind: Option<Type>,
    /// What came, changed or went after the first time and until the second, as snapshots show it
    #[arg(long, num_args = 2, value_names = ["TIME", "TIME"])]
    pub changed_between: Vec<String>,
    /// What the next snapshot did not have any more
    #[arg(long)]
    pub deleted: bool,
}

/// What can be looked for; the letters are those of `find`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Type {
    /// A regular file
    #[value(alias = "f")]
    File,
    /// A directory
    #[value(alias = "d")]
    Directory,
    /// A symbolic link
    #[value(alias = "l")]
    Link,
    /// A device, named pipe or socket
    Special,
}
