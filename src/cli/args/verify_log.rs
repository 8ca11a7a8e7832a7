//! `verify-log`.

use clap::Args;

/// What the help of this command says.
pub(super) const VERIFY_LOG: &str = "Say whether the log is whole and true, also by exit code.

The log says what there is: every pack, every snapshot, what was forgotten. This reads all of it \
from the store, believes nothing that this machine knows, and names every record that is missing, \
cut off, reordered, replayed, altered, forged, of somebody without a certificate or with one that \
was expired or revoked, or that says what its signer may not say; each with the time that its \
writer claims beside the store's receipt, and claims that are far from it.

    asof verify-log
    asof verify-log --all
    asof verify-log --json | jq '.findings[] | select(.severity == \"problem\")'

The exit code is 4 if there is a problem. Notices are good to know, and leave it at 0. Records \
that left the log behind a checkpoint of the owner are not missing: it is taken at its word.

A record that is cut from the end of the log leaves no gap. So the last record of each chain is \
remembered on this machine, in a file beside the index, and must be there the next time. Deleting \
the cache directory forgets that. What was missed stays remembered and is told of at every run, \
until --new-heads takes the log as it is.

A passphrase that reads is needed, not the owner's: certificates, facts and claimed times are \
sealed. A writer key cannot verify; nor can it read. Without any key, `asof check --store-only` \
compares each record with its name, which finds altered bytes and nothing else.";

/// Say whether the log is whole and true.
#[derive(Debug, Args)]
pub struct VerifyLogArgs {
    /// List every record of the log before what was found
    #[arg(short, long)]
    pub all: bool,
    /// Compare with no earlier run: remember the ends of chains as they are now
    #[arg(long)]
    pub new_heads: bool,
}
