//! Mounting, staying mounted, and unmounting.
//!
//! [`serve`] mounts, answers until it is told to stop or until somebody unmounts,
//! and unmounts. As root the mount is made directly, otherwise by `fusermount3`.
//!
//! **Never unmounted behind a user's back.** `auto_unmount` is not used: an empty
//! mount point under a running `rsync --delete` destroys the copy. If the program
//! is killed the mount point gives ENOTCONN, which is an error to every program,
//! and the next mount heals it.
//!
//! **Unmounted even when busy.** The mount is detached: it is gone from the tree at
//! once, and who is inside stays until the process ends. fuser's own handle fails
//! when the mount is busy and cannot be used twice. Worse, when it is dropped it
//! unmounts whatever is at the path by then: it looks first whether its own mount
//! has ended, but its loops end before the kernel says so. So it is never dropped,
//! which costs a descriptor for each mount of a process.

mod point;
mod refresh;

use std::convert::Infallible;
use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use fuser::{Config, INodeNo, MountOption, Session, SessionACL};

use crate::base::{Clock, Kind, Stop};
use crate::mount::copies::{Copies, PassthroughOptions};
use crate::mount::counters::Counters;
use crate::mount::fuse::{Asks, Fuse, Seats};
use crate::mount::mountinfo::{self, Mounted};
use crate::mount::pool::Pool;
use crate::mount::push::Pusher;
use crate::mount::vfs::{Owners, Vfs};
use crate::repo::Library;
use crate::view::Zone;
use crate::view::namespace::Namespace;

pub use self::point::unmount;

/// What mountinfo shows as the type of a mount of asof's.
const FILE_SYSTEM: &str = "fuse.asof";
/// How often the wish to stop is looked at.
const STOP_INTERVAL: Duration = Duration::from_millis(100);
/// How long to wait for a detached mount to end.
const DETACH_TIME: Duration = Duration::from_secs(2);
/// How far the kernel reads ahead as root. KiB.
const READ_AHEAD_KIB: &str = "1024";

/// How to mount.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// Whether others may look, with modes, owners and ACLs enforced.
    pub allow_other: bool,
    /// Whether everything is shown to belong to root.
    pub owner_root: bool,
    /// Whether extended attributes are not shown.
    pub no_xattrs: bool,
    /// Of which zone times without one are.
    pub zone: Zone,
    /// The present.
    pub clock: Clock,
    /// How often to look for new snapshots.
    pub refresh_interval: Duration,
    /// How long a request may take before it fails with EIO.
    pub deadline: Duration,
    /// How many requests may wait for the store at a time.
    pub workers: usize,
    /// How many event loops there are.
    pub threads: usize,
    /// Whether nothing is asked of the kernel that older ones lack, and nothing pushed into it.
    pub plain: bool,
    /// Whether the kernel reads large files by itself, from plain copies.
    pub passthrough: Option<PassthroughOptions>,
    /// Directories that the mount may not lie in or over: the store's.
    pub forbidden: Vec<PathBuf>,
}

impl Default for MountOptions {
    fn default() -> MountOptions {
        MountOptions {
            allow_other: false,
            owner_root: false,
            no_xattrs: false,
            zone: Zone::utc(),
            clock: Clock::system(),
            refresh_interval: Duration::from_secs(5),
            deadline: Duration::from_secs(120),
            workers: 16,
            threads: 2,
            plain: false,
            passthrough: None,
            forbidden: Vec::new(),
        }
    }
}

/// A mount that was not made, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount point cannot be used.
    #[error("cannot mount on {path}")]
    Point {
        /// The mount point.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The mount point is no directory.
    #[error("cannot mount on {path}: it is not a directory")]
    NotADirectory {
        /// The mount point.
        path: PathBuf,
    },
    /// The mount point lies in the store, or the store in it.
    #[error("cannot mount on {path}: the repository's own files are in {store}")]
    OverStore {
        /// The mount point.
        path: PathBuf,
        /// The store's directory.
        store: PathBuf,
    },
    /// asof is mounted there.
    #[error("asof is mounted on {path} already; `asof umount {path}` ends that")]
    AlreadyMounted {
        /// The mount point.
        path: PathBuf,
    },
    /// asof is not mounted there.
    #[error("asof is not mounted on {path}")]
    NotMounted {
        /// What was to be unmounted.
        path: PathBuf,
    },
    /// The mount cannot be ended.
    #[error("cannot unmount {path}")]
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// What the system, or `fusermount3`, said.
        source: io::Error,
    },
    /// The snapshots cannot be listed.
    #[error("cannot show the repository on {path}")]
    Repository {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: crate::view::error::Error,
    },
    /// The connection to the kernel failed while mounted.
    #[error("the mount on {path} failed")]
    Session {
        /// The mount point.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl MountError {
    /// What the failure means.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            MountError::Point { source, .. }
            | MountError::Unmount { source, .. }
            | MountError::Session { source, .. } => Kind::of_io(source),
            MountError::NotADirectory { .. } | MountError::OverStore { .. } => Kind::Invalid,
            MountError::AlreadyMounted { .. } => Kind::AlreadyExists,
            MountError::NotMounted { .. } => Kind::NotFound,
            MountError::Repository { source, .. } => source.kind(),
        }
    }
}

/// Mounts a repository and answers until `stop` is raised or somebody unmounts.
/// Calls `ready` once the mount can be used.
///
/// Returns after the mount is gone from the tree. Threads that wait for the store,
/// and processes that are still inside, are left behind; the mount ends for those
/// with the process.
///
/// # Errors
///
/// [`MountError`], which names the path.
pub fn serve(
    library: Arc<dyn Library>,
    mountpoint: &Path,
    options: &MountOptions,
    stop: &Stop,
    ready: impl FnOnce(),
) -> Result<(), MountError> {
    let path = point::prepare(mountpoint, &options.forbidden)?;
    let point_error = |source| MountError::Point { path: path.clone(), source };
    let vfs = file_system(library, &path, options)?;
    let pool = Pool::new(options.workers, options.deadline).map_err(point_error)?;
    let (alive, end) = bounded(0);
    let seats = Seats::for_loops(if options.plain { 0 } else { options.threads });
    let copies =
        options.passthrough.clone().map(|options| Copies::start(Arc::clone(&vfs), options));
    let copies = copies.transpose().map_err(point_error)?.map(Arc::new);
    let (acls, xattrs) = (options.allow_other, !options.no_xattrs);
    let asks = Asks { acls, xattrs, plain: options.plain };
    let fuse = Fuse::new(Arc::clone(&vfs), pool, asks, seats, copies, alive);
    let session = Session::new(fuse, &path, &config(options)).map_err(point_error)?;
    let session_error = |source| MountError::Session { path: path.clone(), source };
    let session = ManuallyDrop::new(session.spawn().map_err(session_error)?);
    let own = mountinfo::at(&path).map_err(session_error)?;
    read_further_ahead(own.as_ref());
    let notifier = session.notifier();
    let sink = Box::new(move |ino, bytes: &[u8]| notifier.store(INodeNo(ino), 0, bytes));
    let (library, counters) = (Arc::clone(vfs.library()), Arc::clone(vfs.counters()));
    if !options.plain {
        let pusher = Pusher::start(library, counters, sink, options.threads);
        vfs.push_by(pusher.map_err(session_error)?);
    }
    let refresh = refresh::start(vfs, session.notifier(), options.refresh_interval);
    let refresh = refresh.map_err(session_error)?;
    ready();
    let outcome = wait(&end, stop, &path, own.as_ref());
    drop(refresh);
    outcome
}

/// Waits until the session ends by itself, or ends it.
fn wait(
    end: &Receiver<Infallible>,
    stop: &Stop,
    path: &Path,
    own: Option<&Mounted>,
) -> Result<(), MountError> {
    while !stop.is_raised() {
        if end.recv_timeout(STOP_INTERVAL) == Err(RecvTimeoutError::Disconnected) {
            if !is_still(own, path) {
                return Ok(());
            }
            point::detach(path)?;
            let source = io::Error::other("the connection to the kernel broke");
            return Err(MountError::Session { path: path.to_owned(), source });
        }
    }
    if is_still(own, path) {
        point::detach(path)?;
    }
    // Who is inside keeps the session alive, and does not keep us.
    let _ = end.recv_timeout(DETACH_TIME);
    Ok(())
}

/// Whether what is mounted at the path is our own and not somebody else's.
fn is_still(own: Option<&Mounted>, path: &Path) -> bool {
    matches!(mountinfo::at(path), Ok(Some(mounted)) if Some(&mounted) == own)
}

fn file_system(
    library: Arc<dyn Library>,
    path: &Path,
    options: &MountOptions,
) -> Result<Arc<Vfs>, MountError> {
    let counters = Arc::new(Counters::default());
    let figures = Arc::clone(&counters);
    let namespace = Namespace::new(
        Arc::clone(&library),
        options.zone.clone(),
        options.clock.clone(),
        Box::new(move || figures.figures()),
    );
    let namespace =
        namespace.map_err(|source| MountError::Repository { path: path.to_owned(), source })?;
    let owners = Owners {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        all_root: options.owner_root,
    };
    Ok(Arc::new(Vfs::new(namespace, library, owners, counters)))
}

fn config(options: &MountOptions) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoAtime,
        MountOption::FSName("asof".to_owned()),
        // fuser keeps its own option of that name from the kernel.
        MountOption::CUSTOM("subtype=asof".to_owned()),
    ];
    if options.allow_other {
        config.mount_options.push(MountOption::DefaultPermissions);
        config.acl = SessionACL::All;
    }
    config.n_threads = Some(options.threads.max(1));
    config
}

/// The kernel reads 128 KiB ahead on FUSE, whatever it is told when it mounts. Only
/// root may change that; nobody else misses more than speed.
fn read_further_ahead(own: Option<&Mounted>) {
    let Some(own) = own.filter(|_| rustix::process::geteuid().is_root()) else { return };
    let file = format!("/sys/class/bdi/{}/read_ahead_kb", own.device);
    if let Err(error) = std::fs::write(file, READ_AHEAD_KIB) {
        tracing::debug!(%error, "the kernel's read-ahead stays as it is");
    }
}
