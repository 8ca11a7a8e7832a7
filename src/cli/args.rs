//! What can be typed.
//!
//! Types that clap fills, and the help that it shows. What an option means together
//! with environment and configuration file is decided in a second step, by
//! [`Context`](crate::cli::context::Context) and the commands; nothing here opens or asks.

mod backup;
mod check;
mod diff;
mod find;
mod follow;
mod forget;
mod gc;
mod keys;
mod look;
mod mount;
mod restore;
mod source;
mod verify_log;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Args, FromArgMatches, Parser, Subcommand};

pub use backup::{BackupArgs, LeaveOutArgs};
pub use check::CheckArgs;
pub use diff::{DiffArgs, HistoryArgs};
pub use find::{FindArgs, Type as FindType};
pub use follow::{FollowArgs, LogArgs, ThinArgs};
pub use forget::ForgetArgs;
pub use gc::GcArgs;
pub use keys::{InitArgs, KdfCost, KeyCommand, NewPassword};
pub use look::{CatArgs, IndexCommand, LsArgs, ManifestArgs, SnapshotsArgs, StatArgs, StatusArgs};
pub use mount::{MountArgs, UmountArgs};
pub use restore::{OverwriteArg, RestoreArgs};
pub use source::{SourceAddArgs, SourceCommand};
pub use verify_log::VerifyLogArgs;

use crate::base::units::{parse_duration, parse_size};
use crate::cli::terminal::Mode;
use crate::view::Selector;

/// Backups in a bucket or a directory, and every past moment mounted as a file system.
#[derive(Debug, Parser)]
#[command(
    name = "asof",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    long_about = "Backups in a bucket or a directory, and every past moment mounted as a file system.

A repository is made once with `init`. `backup` puts a snapshot of a source into it: a source is \
a named thing that is backed up, such as /etc of one machine. `mount` shows the past as \
directories, `restore`, `cat` and `ls` reach it without mounting.

    asof -r /srv/backup init
    asof -r /srv/backup backup /etc
    asof -r /srv/backup mount /mnt
    ls /mnt/latest /mnt/at/yesterday

Put `export ASOF_REPOSITORY=/srv/backup` or a configuration file in place of -r.",
    after_long_help = EXIT_CODES
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Selectors:
  SOURCE[@TIME][:/PATH]   the newest state of a source, or its state at a time, and a path in it
  latest[:/PATH]          the newest state of the only source
  id:PREFIX[:/PATH]       a snapshot by the first digits of its id
  Times: 2026-11-20 (the end of that day), 2026-11-20T10:15, yesterday, 2h-ago, 3d-ago, @SECONDS

With --json standard output is one JSON object: the report's own fields and `phase` (\"succeeded\" \
or \"failed\"), `reason` (null, or one word such as \"wrong-key\"), `message`, `exit`, `warnings`, \
`problems`. `ls` writes an object for each entry before it; `cat` writes the file and no JSON.

Exit codes:
    0  done
    1  failed
    2  wrong command line, selector, time or configuration
    3  done, but some files could not be read, or not be restored as they were
    4  damage was found: bytes that are not what they should be
   10  there is no repository at that place
   12  the passphrase or key does not open it
  130  interrupted";

impl Cli {
    /// Reads a command line.
    ///
    /// Clap gives each command what holds for all, which for thirty of them takes longer than
    /// many a command takes to be done. So it is told only of commands whose names are among
    /// the words, which changes nothing for a line that can be read. All others are read again
    /// with all of them, and that says what is wrong, or is the help.
    ///
    /// # Errors
    ///
    /// What clap says, help included.
    pub fn read(words: &[OsString]) -> Result<Cli, clap::Error> {
        let new = || clap::Command::new("asof");
        let all = Command::augment_subcommands(new());
        let typed = all.get_subcommands().filter(|command| {
            let mut names = command.get_all_aliases().chain([command.get_name()]);
            names.any(|name| words.iter().any(|word| word == name))
        });
        let few = Global::augment_args(new()).subcommands(typed.cloned());
        few.try_get_matches_from(words)
            .and_then(|matches| Cli::from_arg_matches(&matches))
            .or_else(|_| Cli::try_parse_from(words))
    }
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a repository
    #[command(long_about = keys::INIT)]
    Init(InitArgs),
    /// Keys: who may open the repository, and with what
    #[command(long_about = keys::KEY)]
    #[command(subcommand)]
    Key(KeyCommand),
    /// Take a snapshot of directories, of standard input, or of what a command prints
    #[command(long_about = backup::BACKUP)]
    Backup(BackupArgs),
    /// Sources: what is backed up and followed, by name
    #[command(long_about = source::SOURCE)]
    #[command(subcommand)]
    Source(SourceCommand),
    /// Follow databases: publish every committed transaction
    #[command(long_about = follow::FOLLOW)]
    Follow(FollowArgs),
    /// List the moments that a followed source can be seen at
    #[command(long_about = follow::LOG)]
    Log(LogArgs),
    /// Thin the old history of followed sources
    #[command(long_about = follow::THIN)]
    Thin(ThinArgs),
    /// List snapshots, the newest last
    #[command(long_about = look::SNAPSHOTS)]
    Snapshots(SnapshotsArgs),
    /// Forget snapshots that are no longer wanted
    #[command(long_about = forget::FORGET)]
    Forget(ForgetArgs),
    /// List a directory of the past
    #[command(long_about = look::LS)]
    Ls(LsArgs),
    /// Write a file of the past to standard output
    #[command(long_about = look::CAT)]
    Cat(CatArgs),
    /// Show all that is known of a file of the past
    #[command(long_about = look::STAT)]
    Stat(StatArgs),
    /// Show what differs between two states of the past
    #[command(long_about = diff::DIFF)]
    Diff(DiffArgs),
    /// Show every version that a path ever had
    #[command(long_about = diff::HISTORY)]
    History(HistoryArgs),
    /// Search every snapshot at once
    #[command(long_about = find::FIND)]
    Find(FindArgs),
    /// Write the SHA-256 of every file of the past, for sha256sum -c
    #[command(long_about = look::MANIFEST)]
    Manifest(ManifestArgs),
    /// Bring files back from a snapshot
    #[command(long_about = restore::RESTORE)]
    Restore(RestoreArgs),
    /// Say whether everything that is stored can be read, also by exit code
    #[command(long_about = check::CHECK)]
    Check(CheckArgs),
    /// Say whether the log is whole and true: certificates, signatures, chains, times
    #[command(long_about = verify_log::VERIFY_LOG)]
    VerifyLog(VerifyLogArgs),
    /// Give back the space of what no snapshot needs any more
    #[command(long_about = gc::GC)]
    Gc(GcArgs),
    /// Show how much is stored, and how much it stands for
    ///
    /// Counts what this machine's index knows after looking for what is new.
    ///
    ///     asof stats
    #[command(verbatim_doc_comment)]
    Stats,
    /// Say whether every source was backed up lately, also by exit code
    #[command(long_about = look::STATUS)]
    Status(StatusArgs),
    /// Show the past as directories, until `asof umount`
    #[command(long_about = mount::MOUNT)]
    Mount(MountArgs),
    /// End a mount
    #[command(long_about = mount::UMOUNT)]
    Umount(UmountArgs),
    /// This machine's index of the repository: a cache that can always be made anew
    #[command(long_about = look::INDEX)]
    #[command(subcommand)]
    Index(IndexCommand),
    /// Bring the repository to the format version of this program
    ///
    /// Repositories of older versions can be read, mounted and backed up to as they are; forgetting
    /// and collecting need the newest. Nothing that is stored is written anew. Asks for the owner's
    /// passphrase. Older versions of asof refuse the repository afterwards, so update asof on every
    /// machine first, also where it only writes; writer keys stay as they are. If it is interrupted,
    /// run it again.
    ///
    ///     asof upgrade
    #[command(verbatim_doc_comment)]
    Upgrade,
    /// Write a completion script for a shell
    ///
    ///     asof completions bash > /etc/bash_completion.d/asof
    ///     asof completions zsh  > ~/.zfunc/_asof
    ///     asof completions fish > ~/.config/fish/completions/asof.fish
    #[command(verbatim_doc_comment)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    ///
    /// Without --dir the page of asof itself goes to standard output: `asof man | man -l -`
    Man {
        /// Write a page for every command into this directory, which is made if it is missing
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Show the version, and that of the format
    Version,
}

/// What holds for every command.
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::struct_excessive_bools)]
pub struct Global {
    /// The repository: a directory, file:///path, or s3://bucket/prefix [env: ASOF_REPOSITORY]
    #[arg(short, long, global = true, value_name = "PLACE", help_heading = REPOSITORY)]
    pub repo: Option<String>,
    /// Read the passphrase from this file [env: ASOF_PASSWORD_FILE, or ASOF_PASSWORD itself]
    #[arg(long, global = true, value_name = "FILE", help_heading = REPOSITORY)]
    #[arg(conflicts_with = "password_command")]
    pub password_file: Option<PathBuf>,
    /// Run this shell command and take what it prints as the passphrase [env: ASOF_PASSWORD_COMMAND]
    #[arg(long, global = true, value_name = "COMMAND", help_heading = REPOSITORY)]
    pub password_command: Option<String>,
    /// A writer key file, which can back up and nothing else; made by `key export-writer` [env: ASOF_WRITER_KEY]
    #[arg(long, global = true, value_name = "FILE", help_heading = REPOSITORY)]
    pub writer_key: Option<PathBuf>,
    /// The configuration file [env: ASOF_CONFIG] [default: ~/.config/asof/config.toml]
    #[arg(long, global = true, value_name = "FILE", help_heading = REPOSITORY)]
    pub config: Option<PathBuf>,
    /// The profile in the configuration file [env: ASOF_PROFILE]
    #[arg(long, global = true, value_name = "NAME", help_heading = REPOSITORY)]
    pub profile: Option<String>,
    /// Where the index and cached data are kept [env: ASOF_CACHE_DIR] [default: ~/.cache/asof]
    #[arg(long, global = true, value_name = "DIR", help_heading = REPOSITORY)]
    pub cache_dir: Option<PathBuf>,
    /// How much data of a bucket is kept there, as 10G; 0 keeps none [env: ASOF_CACHE_SIZE] [default: 2G]
    #[arg(long, global = true, value_name = "SIZE", value_parser = size(), help_heading = REPOSITORY)]
    pub cache_size: Option<u64>,
    /// The zone of dates that name none, as Europe/Berlin, +01:00, UTC, local [env: ASOF_TIMEZONE] [default: local]
    #[arg(long, global = true, value_name = "ZONE", help_heading = REPOSITORY)]
    pub timezone: Option<String>,

    /// Write the report as JSON to standard output
    #[arg(long, global = true, help_heading = OUTPUT)]
    pub json: bool,
    /// Tell of failures and problems only
    #[arg(short, long, global = true, help_heading = OUTPUT)]
    pub quiet: bool,
    /// Tell more of what is done, on standard error; twice for even more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = OUTPUT)]
    pub verbose: u8,
    /// How progress is shown [default: auto]
    #[arg(long, global = true, value_enum, value_name = "HOW", help_heading = OUTPUT)]
    pub progress: Option<Mode>,

    /// Send at most so much a second, as 5M
    #[arg(long, global = true, value_name = "SIZE", value_parser = size(), help_heading = NETWORK)]
    pub limit_upload: Option<u64>,
    /// Receive at most so much a second, as 20M
    #[arg(long, global = true, value_name = "SIZE", value_parser = size(), help_heading = NETWORK)]
    pub limit_download: Option<u64>,
    /// The S3 server, as https://s3.example.org; AWS if not given
    #[arg(long, global = true, value_name = "URL", help_heading = NETWORK, hide_short_help = true)]
    pub s3_endpoint: Option<String>,
    /// The region [default: as AWS_REGION or the AWS profile say, else us-east-1]
    #[arg(long, global = true, value_name = "NAME", help_heading = NETWORK, hide_short_help = true)]
    pub s3_region: Option<String>,
    /// Whether the bucket is in the path and not in the host name [default: with an endpoint]
    #[arg(long, global = true, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = NETWORK, hide_short_help = true)]
    pub s3_path_style: Option<bool>,
    /// The profile in the AWS configuration files, which credentials come from
    #[arg(long, global = true, value_name = "NAME", help_heading = NETWORK, hide_short_help = true)]
    pub s3_profile: Option<String>,
    /// The storage class of packs, as STANDARD_IA
    #[arg(long, global = true, value_name = "CLASS", help_heading = NETWORK, hide_short_help = true)]
    pub s3_storage_class: Option<String>,
    /// Encryption by the server, beside asof's own: none, AES256 or aws:kms
    #[arg(long, global = true, value_name = "KIND", help_heading = NETWORK, hide_short_help = true)]
    pub s3_sse: Option<String>,
    /// The key for aws:kms
    #[arg(long, global = true, value_name = "ID", help_heading = NETWORK, hide_short_help = true)]
    pub s3_kms_key: Option<String>,
    /// The largest object that the server takes
    #[arg(long, global = true, value_name = "SIZE", value_parser = size(), help_heading = NETWORK, hide_short_help = true)]
    pub s3_max_object_size: Option<u64>,
    /// Take the keys from standard input and report to the process that started this one
    #[arg(long, global = true, hide = true)]
    pub in_background: bool,
    /// How many requests are under way at a time [default: 32]
    #[arg(long, global = true, value_name = "N", help_heading = NETWORK, hide_short_help = true)]
    pub s3_connections: Option<u32>,
}

const REPOSITORY: &str = "Repository";
const OUTPUT: &str = "Output";
const NETWORK: &str = "Network";

/// Reads a size, as `10G`.
pub(super) fn size() -> ValueParser {
    ValueParser::new(parse_size)
}

/// Reads a duration, as `26h`.
pub(super) fn duration() -> ValueParser {
    ValueParser::new(parse_duration)
}

/// Reads a selector, whose path may be any bytes.
#[derive(Debug, Clone)]
pub(super) struct SelectorParser;

impl clap::builder::TypedValueParser for SelectorParser {
    type Value = Selector;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Selector, clap::Error> {
        Selector::parse(value).map_err(|error| {
            let text = crate::base::error_chain(&error);
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{text}\n"))
                .with_cmd(command)
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::exit::Exit;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// What is read with a few commands is what is read with all of them, wherever the words
    /// stand; and so is what is wrong.
    #[test]
    fn a_line_is_read_as_if_all_commands_were_known() {
        for line in [
            "asof -r mount mount /mnt",
            "asof --json backup --source find /etc",
            "asof -r /srv snapshots --source mount",
            "asof key list -q",
            "asof -q key -r ls list",
            "asof source add web /etc --json",
            "asof cat -- mount",
            "asof umount /a /b -r /srv",
            "asof",
            "asof --help",
            "asof -V",
            "asof mount --help",
            "asof help key",
            "asof mont /mnt",
            "asof mount",
            "asof ls mount --nonsense",
            "asof -r mount",
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let shown = |read: Result<Cli, clap::Error>| match read {
                Ok(cli) => format!("{cli:?}"),
                Err(error) => format!("{:?} {error}", error.kind()),
            };
            assert_eq!(shown(Cli::read(&words)), shown(Cli::try_parse_from(&words)), "{line}");
        }
    }

    /// Every command says what it does, and every argument what it is.
    #[test]
    fn everything_has_help() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{argument} of {}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn the_help_has_every_exit_code() {
        for exit in Exit::ALL {
            let row = format!("{:>5}  {}", exit.code(), exit.meaning());
            assert!(EXIT_CODES.contains(&row), "{row}");
        }
    }
}
