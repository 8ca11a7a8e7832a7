//! `asof mount`, `asof umount`.
//!
//! In the foreground the process that was started serves the mount. In the background
//! it asks for the passphrase and unlocks, and starts itself again; see [`background`].

mod background;

use std::path::Path;

use crate::base::Clock;
use crate::cli::args::{MountArgs, UmountArgs};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::open::{Need, credential, library, open_with, reach_store};
use crate::cli::show::Done;
use crate::mount::{self, MountOptions, PassthroughOptions};
use crate::ops::open::{Freshness, Reached};
use crate::repo::keys::Credential;
use crate::repo::reader::ReaderOptions;

/// A mount may go on without the store's answer, from what this machine knows.
const NEED: Need = Need::Read(Freshness::IfPossible);

/// Shows the past as directories.
pub fn mount(context: &Context, args: &MountArgs) -> Result<Done, Failure> {
    if context.global.in_background {
        return background::serve(context, args);
    }
    check_passthrough(args)?;
    let reached = reach_store(context, NEED, false)?;
    check_mountpoint(&args.mountpoint)?;
    let credential = credential(context, &reached, NEED)?;
    if !args.foreground {
        return background::start(context, args, &reached, credential);
    }
    let place = args.mountpoint.display().to_string();
    let location = reached.store.location();
    serve(context, args, reached, credential, || {
        context.out.note(&format!(
            "asof: {location} is mounted on {place}; Ctrl-C or `asof umount {place}` ends it"
        ));
    })?;
    Ok(Done::new(format!("{place} is unmounted")))
}

/// The kernel lets only root name a file for it to read.
fn check_passthrough(args: &MountArgs) -> Result<(), Failure> {
    if args.passthrough && !rustix::process::geteuid().is_root() {
        let failure = Failure::usage("only root can say --passthrough");
        return Err(failure.hint("leave it out: the same is shown without it"));
    }
    Ok(())
}

/// Looks whether the mount point can be one, before anybody is asked for a passphrase.
fn check_mountpoint(path: &Path) -> Result<(), Failure> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(mount::MountError::NotADirectory { path: path.to_owned() }.into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let source = error;
            let failure = Failure::from(mount::MountError::Point { path: path.to_owned(), source });
            Err(failure.hint(format!("make it first: mkdir -p {}", path.display())))
        }
        // One whose mount has died: it is healed when it is mounted.
        Err(_) => Ok(()),
    }
}

/// Serves the mount until it ends. `ready` is called when it can be used.
fn serve(
    context: &Context,
    args: &MountArgs,
    reached: Reached,
    credential: Credential,
    ready: impl FnOnce(),
) -> Result<(), Failure> {
    let zone = context.zone()?;
    let opened = open_with(context, reached, credential, NEED)?;
    let memory = usize::try_from(args.memory).unwrap_or(usize::MAX);
    let options = ReaderOptions {
        frame_bytes: memory / 3 * 2,
        node_bytes: memory / 9,
        node_frame_bytes: memory / 9 * 2,
        ..ReaderOptions::default()
    };
    let library = library(context, &opened, options)?;
    let local = context.local()?;
    let passthrough = args.passthrough.then(|| PassthroughOptions {
        dir: local.cache_dir.join("plain"),
        bytes_max: local.cache_bytes,
    });
    let options = MountOptions {
        allow_other: args.allow_other,
        owner_root: args.owner_root,
        no_xattrs: args.no_xattrs,
        zone,
        clock: Clock::system(),
        refresh_interval: args.refresh_interval,
        plain: args.plain,
        passthrough,
        forbidden: opened.repo.store().local_path().map(Path::to_owned).into_iter().collect(),
        ..MountOptions::default()
    };
    Ok(mount::serve(library, &args.mountpoint, &options, &context.stop, ready)?)
}

/// Ends mounts.
pub fn umount(context: &Context, args: &UmountArgs) -> Result<Done, Failure> {
    for path in &args.mountpoints {
        mount::unmount(path)?;
        tracing::info!(path = %path.display(), "unmounted");
    }
    let names: Vec<_> = args.mountpoints.iter().map(|path| path.display().to_string()).collect();
    context.out.say(&format!("Unmounted {}.", names.join(", ")))?;
    Ok(Done::new(format!("unmounted {}", names.join(", "))).field("unmounted", &names))
}
