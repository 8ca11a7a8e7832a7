//! `init` and `key`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::duration;
use crate::codec::passphrase::Cost;

/// What the help of this command says.
pub(super) const INIT: &str =
    "Make a repository in an empty directory, which is made if it is missing, \
or in a bucket, which must exist.

Everything is encrypted before it leaves this machine, under a passphrase that is asked for. \
Whoever loses the passphrase, or all key files, loses every backup: `init` says what to keep safe.

    asof -r /srv/backup init
    asof -r s3://my-bucket/asof --s3-region eu-central-1 init

Next: `asof backup PATH`.";

/// Make a repository.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Encrypt nothing: whoever reads the store reads the backups. Changes are still signed
    #[arg(long)]
    pub unencrypted: bool,
    /// What the first key is called in `key list`
    #[arg(long, default_value = "first key")]
    pub label: String,
    /// How long data that is no longer needed stays in the store [default: 30d]
    ///
    /// `gc` deletes data only when nothing has needed it for this long, so that backups may run
    /// at the same time. A shorter time frees space sooner; a backup whose knowledge of the store
    /// is older than this has to ask anew. It can be made longer later, by `gc --set-grace`,
    /// and never shorter.
    #[arg(long, value_name = "DURATION", value_parser = duration(), hide_short_help = true)]
    pub grace: Option<Duration>,
    /// How far apart the clocks of the store's servers may be, and how late its lists [default: 1h]
    ///
    /// At least 1s, and at most an eighth of --grace. The clocks of the machines that back up do
    /// not matter. `gc` may lose data in a store that is worse than this says. It cannot be
    /// changed later.
    #[arg(long, value_name = "DURATION", value_parser = duration(), hide_short_help = true)]
    pub skew: Option<Duration>,
    /// How costly guessing the passphrase is made
    #[arg(long, value_enum, default_value = "default", hide = true)]
    pub kdf_cost: KdfCost,
}

/// How costly guessing a passphrase is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KdfCost {
    /// 64 MiB, three passes
    Default,
    /// As little as can be: for tests and random passphrases
    Least,
}

impl From<KdfCost> for Cost {
    fn from(cost: KdfCost) -> Cost {
        match cost {
            KdfCost::Default => Cost::DEFAULT,
            KdfCost::Least => Cost::LEAST,
        }
    }
}

/// Where a second, new passphrase comes from.
#[derive(Debug, Clone, Args)]
pub struct NewPassword {
    /// Read the new passphrase from this file; asked for if not given
    #[arg(long, value_name = "FILE", conflicts_with = "new_password_command")]
    pub new_password_file: Option<PathBuf>,
    /// Run this shell command and take what it prints as the new passphrase
    #[arg(long, value_name = "COMMAND")]
    pub new_password_command: Option<String>,
    /// How costly guessing the passphrase is made
    #[arg(long, value_enum, default_value = "default", hide = true)]
    pub kdf_cost: KdfCost,
}

/// What the help of this command says.
pub(super) const KEY: &str = "Keys: who may open the repository, and with what.

A key file in the store holds the repository's secrets under a passphrase. There can be several, \
each with its own passphrase; a key that can only read opens every backup and changes nothing. A \
writer key is a file for a machine that is to back up but not to read.";

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the keys; needs no passphrase
    List,
    /// Add a key with another passphrase
    ///
    /// Asks for a passphrase of the owner first, then for the new one.
    ///
    ///     asof key add --read-only --label "web team"
    #[command(verbatim_doc_comment)]
    Add {
        /// A key that can read every backup, and write and change nothing
        #[arg(long)]
        read_only: bool,
        /// What it is called in `key list`
        #[arg(long, default_value = "")]
        label: String,
        /// Where the new passphrase comes from
        #[command(flatten)]
        new: NewPassword,
    },
    /// Remove a key, by the first digits of its id
    ///
    /// Its passphrase no longer opens the repository. Whoever knew it and kept the key
    /// file, or what it opened, still has that: a removal does not take knowledge back.
    ///
    ///     asof key list
    ///     asof key remove 3fa2
    #[command(verbatim_doc_comment)]
    Remove {
        /// The key, as `key list` shows it
        id: String,
    },
    /// Change a passphrase
    ///
    /// Asks for the present one, then for the new one. The other keys stay as they are.
    Passwd {
        /// Where the new passphrase comes from
        #[command(flatten)]
        new: NewPassword,
    },
    /// Write a paper copy of a key, with what to do with it
    ///
    /// The copy is worth nothing without its passphrase. It brings the repository back
    /// when the key files in the store are lost, which is otherwise the end of it.
    ///
    ///     asof key export > asof-key.txt    # then print it
    #[command(verbatim_doc_comment)]
    Export {
        /// The key, by the first digits of its id; may be left out if there is only one
        id: Option<String>,
    },
    /// Put a key file back from its paper copy
    ///
    ///     asof key import asof-key.txt
    #[command(verbatim_doc_comment)]
    Import {
        /// The copy; what stands around the key in it is passed over. `-` is standard input
        file: PathBuf,
    },
    /// Make a writer key file: enough to back up with, and useless for anything else
    ///
    /// The machine that holds it cannot read, change or remove any backup, its own
    /// included. Give it a credential of the bucket that may only put objects.
    ///
    ///     asof key export-writer --source web1-etc --label web1 web1.key
    ///     scp web1.key web1:/etc/asof/
    ///     web1# asof -r s3://bucket/asof --writer-key /etc/asof/web1.key backup --source web1-etc /etc
    #[command(verbatim_doc_comment)]
    ExportWriter {
        /// A source that it may back up; several may be given. Without any: all of them
        #[arg(long = "source", value_name = "NAME")]
        sources: Vec<String>,
        /// What it is called
        #[arg(long, default_value = "writer")]
        label: String,
        /// Other machines do not build upon what it stores: they upload it again
        #[arg(long)]
        untrusted: bool,
        /// The file to make; it must not exist
        file: PathBuf,
    },
}
