//! The commands: each reads its options, calls an operation, and shows the report.

pub mod backup;
mod check;
mod diff;
mod find;
mod follow;
mod forget;
mod gc;
mod generate;
mod history;
mod index;
mod init;
mod keys;
mod log;
mod look;
mod manifest;
mod mount;
mod restore;
mod snapshots;
mod source;
mod thin;
mod upgrade;
mod verify_log;

use std::time::Instant;

use super::args::Command;
use super::context::Context;
use super::failure::Failure;
use super::show::Done;

/// Runs a command. `started` is when the program began.
pub fn run(context: &Context, command: Command, started: Instant) -> Result<Done, Failure> {
    match command {
        Command::Init(args) => init::init(context, &args),
        Command::Key(command) => keys::keys(context, command),
        Command::Backup(args) => backup::backup(context, &args, started),
        Command::Source(command) => source::source(context, command),
        Command::Follow(args) => follow::follow(context, &args),
        Command::Log(args) => log::log(context, &args),
        Command::Thin(args) => thin::thin(context, &args),
        Command::Snapshots(args) => snapshots::snapshots(context, &args),
        Command::Forget(args) => forget::forget(context, &args),
        Command::Ls(args) => look::ls(context, &args),
        Command::Cat(args) => look::cat(context, &args),
        Command::Stat(args) => look::stat(context, &args),
        Command::Diff(args) => diff::diff(context, &args),
        Command::Find(args) => find::find(context, &args),
        Command::History(args) => history::history(context, &args),
        Command::Manifest(args) => manifest::manifest(context, &args),
        Command::Restore(args) => restore::restore(context, args, started),
        Command::Check(args) => check::check(context, &args, started),
        Command::VerifyLog(args) => verify_log::verify_log(context, &args, started),
        Command::Gc(args) => gc::gc(context, &args, started),
        Command::Stats => snapshots::stats(context),
        Command::Status(args) => snapshots::status(context, args),
        Command::Mount(args) => mount::mount(context, &args),
        Command::Umount(args) => mount::umount(context, &args),
        Command::Index(command) => index::index(context, &command),
        Command::Upgrade => upgrade::upgrade(context),
        Command::Completions { shell } => generate::completions(context, shell),
        Command::Man { dir } => generate::man(context, dir.as_deref()),
        Command::Version => generate::version(context),
    }
}
