//! `mount` and `umount`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{duration, size};

/// What the help of this command says.
pub(super) const MOUNT: &str = "Show the past as directories. Nothing there can be changed.

    asof mount /mnt
    ls /mnt/latest                     the newest state of every source
    ls /mnt/at/2026-11-20              the state at the end of that day
    diff -r /mnt/at/yesterday/web1 /mnt/latest/web1
    cp -a /mnt/at/3d-ago/web1/fstab /etc/fstab
    ls /mnt/history/web1/fstab         every version of a file, deleted ones too
    ls /mnt/changes/web1               only what differs between two snapshots
    asof umount /mnt

Asks for the passphrase, mounts, and goes to the background. New snapshots appear within seconds.

In /etc/fstab, with asof linked as /sbin/mount.asof:

    s3://bucket/asof  /mnt/past  asof  noauto,password-file=/root/.asof-password,allow-other  0 0

Every option of this command can stand there, without the dashes.";

/// Show the past as directories.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)]
pub struct MountArgs {
    /// Where to mount: an existing directory
    pub mountpoint: PathBuf,
    /// Stay in the foreground; Ctrl-C unmounts
    #[arg(long, short)]
    pub foreground: bool,
    /// Let other users look, each as modes, owners and ACLs allow
    #[arg(long)]
    pub allow_other: bool,
    /// Show everything as owned by root
    #[arg(long)]
    pub owner_root: bool,
    /// Do not show extended attributes
    #[arg(long)]
    pub no_xattrs: bool,
    /// How often to look for new snapshots
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration())]
    pub refresh_interval: Duration,
    /// How much memory to use for data and directories
    #[arg(long, value_name = "SIZE", default_value = "36M", value_parser = size())]
    pub memory: u64,
    /// Keep plain copies of large files that were read, which the kernel then reads by itself:
    /// without a name, unencrypted, in the cache directory, until the mount ends. For root only
    #[arg(long)]
    pub passthrough: bool,
    /// Ask nothing of the kernel that only makes it faster, and push nothing into it: what is
    /// shown is the same, slower. To find out whether that is at fault
    #[arg(long, hide_short_help = true)]
    pub plain: bool,
    /// Where the mount in the background writes its log [default: in the cache directory]
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}

/// What the help of this command says.
pub(super) const UMOUNT: &str =
    "End a mount, also when programs are still in it: the directory is free at \
once, and what they have open stays theirs until they are done.

    asof umount /mnt";

/// End a mount.
#[derive(Debug, Args)]
pub struct UmountArgs {
    /// Where it is mounted
    #[arg(required = true)]
    pub mountpoints: Vec<PathBuf>,
}
