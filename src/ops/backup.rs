//! `backup`: a source's state becomes a snapshot.
//!
//! ```text
//! walk (this thread)   stats everything, compares with the last scan
//!   → readers          read, cut and hash what is not as it was
//!   → assembler        in the walk's order: entries → directories → root
//!        both           → repo::writer → packs, records
//! last                 the snapshot, in the last record
//! ```
//!
//! An unchanged file is neither opened nor read, and an unchanged directory is not
//! even encoded again. The queue between walk and assembler bounds how far the
//! walk runs ahead; directories deeper than that cost only their open builders.
//!
//! A file that cannot be read is left out, reported and counted; one that keeps
//! changing while it is read is stored as it was read last, and marked.

mod assemble;
mod draft;
mod read;
mod scan;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::{Progress, SnapshotId, Stop, UnixTime};
use crate::codec::hash::ChunkKind;
use crate::codec::random;
use crate::format::fact::{Counts, Fact, Links, Snapshot};
use crate::format::node::Owner;
use crate::index::ScanSource;
use crate::ops::{Error, Result};
use crate::repo::log::EncodedFact;
use crate::repo::standing::{Baseline, evidence_since};
use crate::repo::trees::{Draft, draft_of};
use crate::repo::writer::{Writer, WriterOptions, Written};
use crate::repo::{self, Repository};
use crate::source::{Roots, RuleOptions, Rules};

pub use stream::{Input, backup_stream};

/// What to back up, and how.
#[derive(Debug, Clone, Default)]
pub struct BackupOptions {
    /// The source's name.
    pub source: String,
    /// The machine's name.
    pub host: String,
    /// The user's name.
    pub user: String,
    /// Words to put on the snapshot.
    pub tags: Vec<String>,
    /// From when on the snapshot is no longer wanted.
    pub expires: Option<UnixTime>,
    /// What to leave out.
    pub rules: RuleOptions,
    /// Directories never to go into: the store, the cache.
    pub skip: Vec<PathBuf>,
    /// Make no snapshot if nothing changed.
    pub skip_if_unchanged: bool,
    /// Go on although the source had other roots before.
    pub change_roots: bool,
    /// Read everything again, whatever the last scan says.
    pub force: bool,
    /// How chunks are written.
    pub writer: WriterOptions,
}

/// How a backup ended.
#[derive(Debug, Clone, serde::Serialize)]
pub struct BackupReport {
    /// The source.
    pub source: String,
    /// The snapshot; none if nothing changed or it was a dry run.
    pub snapshot: Option<SnapshotId>,
    /// When its state is from.
    pub taken: UnixTime,
    /// When reading began.
    pub started: UnixTime,
    /// When the store received it.
    pub receipt: Option<UnixTime>,
    /// What was met.
    pub counts: Counts,
    /// What was written.
    pub written: Written,
    /// Whether it is left out because nothing changed.
    pub unchanged: bool,
}

/// What the tree's top looks like when everything is stored.
pub(crate) struct Tree {
    pub(crate) root: Draft,
    pub(crate) links: Links,
    pub(crate) link_refs: Vec<crate::base::ChunkId>,
    pub(crate) counts: Counts,
}

/// Backs up directories and files.
///
/// # Errors
///
/// [`Error`] if no snapshot was made. What was uploaded and published by then
/// stands, and is not uploaded again.
pub fn backup(
    repo: &Arc<Repository>,
    paths: &[PathBuf],
    options: &BackupOptions,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<BackupReport> {
    repo.check_writable()?;
    let roots = Roots::new(paths)?;
    let rules = Rules::new(&options.rules)?;
    let first = backup_once(repo, &roots, &rules, options, progress, stop);
    let Err(Error::Repo(repo::Error::Late { .. })) = first else { return first };
    // It was held up for so long that what it stood on grew old. What it stored is
    // not stored again where that can still be relied on.
    progress.problem(
        format!("source {}", options.source),
        "it took longer than what it built on lasts, and is read again",
    );
    if repo.keys().can_read() {
        for (object, why) in repo.sync(false)?.problems {
            progress.problem(object, why);
        }
    }
    let options = BackupOptions { force: true, ..options.clone() };
    backup_once(repo, &roots, &rules, &options, progress, stop)
}

fn backup_once(
    repo: &Arc<Repository>,
    roots: &Roots,
    rules: &Rules,
    options: &BackupOptions,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<BackupReport> {
    let root_paths = roots.paths().to_vec();
    let before = Before::find(repo, options, &root_paths)?;
    let started = repo.clock().now();
    progress.enter("reading");
    let generation = repo.index().begin_scan().map_err(repo::Error::from)?;
    let baseline = before.baseline(options);
    let writer = Writer::start(repo, options.writer, baseline, progress, stop)?;
    let stored = scan::run(
        &scan::Scan {
            repo,
            roots,
            rules,
            options,
            generation,
            base: before.usable_generation(options),
            progress,
            stop,
        },
        &writer,
    );
    let (tree, met) = match stored {
        Ok(stored) => stored,
        // The writer knows better why its lanes were closed.
        Err(error) => return Err(first_cause(writer, error)),
    };
    let taken = repo.clock().now();
    let outcome =
        publish(repo, writer, tree, options, &before, (started, taken), &root_paths, progress)?;
    if let (Some(published), false) = (outcome.receipt, options.writer.dry_run) {
        let scan = ScanSource {
            snapshot: outcome.snapshot.unwrap_or(SnapshotId([0; 16])),
            evidence: published.seconds,
            generation,
            roots: encode_roots(&root_paths, &outcome.root),
        };
        let index = repo.index();
        index
            .adopt_scan(&options.source, &scan, before.usable_generation(options), &met)
            .map_err(repo::Error::from)?;
    }
    Ok(outcome.report)
}

/// The state that a backup is compared with.
pub(crate) struct Before {
    pub(crate) scan: Option<ScanSource>,
    root: Option<Vec<u8>>,
    parent: Option<SnapshotId>,
    fresh: bool,
    /// Whether the scan's snapshot is known to be forgotten.
    forgotten: bool,
}

impl Before {
    /// Looks up the last scan and snapshot of the source, and checks its roots.
    pub(crate) fn find(
        repo: &Repository,
        options: &BackupOptions,
        paths: &[Vec<u8>],
    ) -> Result<Before> {
        let scan = repo.index().scan_source(&options.source).map_err(repo::Error::from)?;
        let latest = if repo.keys().can_read() {
            let all = repo.snapshots()?;
            all.iter().rev().find(|info| info.snapshot.source == options.source).cloned()
        } else {
            None
        };
        let known_roots = match (&latest, &scan) {
            (Some(info), _) => {
                Some(info.snapshot.roots.iter().map(|path| path.to_vec()).collect::<Vec<_>>())
            }
            (None, Some(scan)) => decode_roots(&scan.roots).map(|(roots, _)| roots),
            (None, None) => None,
        };
        if let Some(known) = known_roots
            && known != paths
            && !options.change_roots
        {
            let show = |paths: &[Vec<u8>]| {
                let shown: Vec<String> =
                    paths.iter().map(|p| String::from_utf8_lossy(p).into_owned()).collect();
                shown.join(", ")
            };
            return Err(Error::Invalid {
                what: format!(
                    "source {} holds {}, not {}: give the other paths another --source, or say \
                     --change-roots",
                    options.source,
                    show(&known),
                    show(paths)
                ),
            });
        }
        // What the last scan refers to may be built on while its snapshot is a root of
        // collection for certain: until it is as old as evidence may be, even if it is
        // forgotten meanwhile. That it is listed now says nothing about tomorrow.
        let forgotten = match &scan {
            Some(scan) => repo.index().is_forgotten(&scan.snapshot).map_err(repo::Error::from)?,
            None => false,
        };
        let since = evidence_since(repo);
        let fresh = !forgotten && scan.as_ref().is_some_and(|scan| scan.evidence >= since);
        let root = scan.as_ref().and_then(|scan| decode_roots(&scan.roots)).map(|(_, root)| root);
        let parent = latest.map(|info| info.snapshot.id).or(scan.as_ref().map(|s| s.snapshot));
        Ok(Before { scan, root, parent, fresh, forgotten })
    }

    fn usable_generation(&self, options: &BackupOptions) -> Option<i64> {
        let scan = self.scan.as_ref().filter(|_| self.fresh && !options.force)?;
        Some(scan.generation)
    }

    /// The snapshot that the new one may refer to without looking.
    fn baseline(&self, options: &BackupOptions) -> Option<Baseline> {
        let scan = self.scan.as_ref().filter(|_| self.usable_generation(options).is_some())?;
        Some(Baseline { snapshot: scan.snapshot, receipt: scan.evidence })
    }
}

/// A published backup, and what its scan remembers.
pub(crate) struct Outcome {
    pub(crate) report: BackupReport,
    pub(crate) receipt: Option<UnixTime>,
    pub(crate) snapshot: Option<SnapshotId>,
    pub(crate) root: Vec<u8>,
}

#[allow(clippy::too_many_arguments)]
pub(crate) fn publish(
    repo: &Arc<Repository>,
    writer: Writer,
    tree: Tree,
    options: &BackupOptions,
    before: &Before,
    (started, taken): (UnixTime, UnixTime),
    paths: &[Vec<u8>],
    progress: &Progress,
) -> Result<Outcome> {
    progress.enter("publishing");
    let root_bytes = encode_root(&tree.root, options.expires);
    let unchanged = before.root.as_ref() == Some(&root_bytes);
    let mut report = BackupReport {
        source: options.source.clone(),
        snapshot: None,
        taken,
        started,
        receipt: None,
        counts: tree.counts,
        written: Written::default(),
        unchanged,
    };
    let outcome =
        |report, receipt, snapshot| Outcome { report, receipt, snapshot, root: root_bytes.clone() };
    // What was forgotten since is no snapshot of this state.
    // Who cannot read does not learn of that.
    let known = before.fresh || repo.keys().can_read();
    let unchanged_and_there = unchanged && !before.forgotten && known;
    if unchanged_and_there && options.skip_if_unchanged && tree.counts.errors == 0 {
        let (_, written) = writer.finish(Vec::new())?;
        report.written = written;
        return Ok(outcome(report, None, None));
    }
    let Tree { root, links, link_refs, mut counts } = tree;
    counts.bytes_new = writer.bytes_new();
    let Draft { mut entry, mut refs, owner } = root;
    let first_link = u32::try_from(refs.len()).unwrap_or(u32::MAX);
    refs.extend(link_refs);
    let links = match links {
        Links::Nodes(nodes) => {
            Links::Nodes(nodes.into_iter().map(|(id, place)| (id, place + first_link)).collect())
        }
        inline => inline,
    };
    entry.name = Vec::new().into();
    let snapshot = Snapshot {
        id: SnapshotId(random::bytes()),
        source: options.source.clone(),
        started,
        taken,
        root: entry,
        owners: vec![owner],
        kind: "directory".into(),
        roots: paths.iter().map(|path| path.clone().into()).collect(),
        host: options.host.clone(),
        user: options.user.clone(),
        tags: options.tags.clone(),
        parent: before.parent,
        counts,
        links,
        program: concat!("asof ", env!("CARGO_PKG_VERSION")).into(),
        expires: options.expires,
        point: None,
    };
    let id = snapshot.id;
    let fact = Fact::Snapshot(Box::new(snapshot)).encode(&refs);
    let mut lane = writer.lane(ChunkKind::Node);
    let stated = lane.statement(&fact, &refs).and_then(|()| lane.flush()).map_err(Error::from);
    drop(lane);
    if let Err(error) = stated {
        return Err(first_cause(writer, error));
    }
    let (published, written) = writer.finish(vec![EncodedFact { bytes: fact }])?;
    report.written = written;
    report.counts = counts;
    report.receipt = published.map(|p| p.receipt);
    report.snapshot = published.map(|_| id);
    let receipt = report.receipt;
    Ok(outcome(report, receipt, Some(id)))
}

/// The error that a writer's stage met, if one did; otherwise `error`.
pub(crate) fn first_cause(writer: Writer, error: Error) -> Error {
    if !matches!(error, Error::Repo(repo::Error::Interrupted)) {
        return error;
    }
    match writer.finish(Vec::new()) {
        Err(cause) => cause.into(),
        Ok(_) => error,
    }
}

/// What a scan remembers of its roots: the paths, and the root's entry.
fn encode_roots(paths: &[Vec<u8>], root: &[u8]) -> Vec<u8> {
    let paths: Vec<minicbor::bytes::ByteVec> = paths.iter().map(|p| p.clone().into()).collect();
    let root: minicbor::bytes::ByteVec = root.to_vec().into();
    crate::format::encode(&(paths, root))
}

fn decode_roots(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, Vec<u8>)> {
    let (paths, root): (Vec<minicbor::bytes::ByteVec>, minicbor::bytes::ByteVec) =
        minicbor::decode(bytes).ok()?;
    Some((paths.into_iter().map(Into::into).collect(), root.into()))
}

/// The root's entry with its references, for comparison with the next one's. A state
/// that expires is not the same as one that stays: the next must not be left out for it.
fn encode_root(root: &Draft, expires: Option<UnixTime>) -> Vec<u8> {
    let flat: minicbor::bytes::ByteVec =
        root.refs.iter().flat_map(|id| id.0).collect::<Vec<u8>>().into();
    match expires {
        None => crate::format::encode(&(&root.entry, &root.owner, flat)),
        Some(end) => crate::format::encode(&(&root.entry, &root.owner, flat, end)),
    }
}

/// Counts what a problem costs.
pub(crate) fn report_problem(progress: &Progress, path: &[u8], why: impl std::fmt::Display) {
    progress.problem(crate::source::path::shown(path), why);
}

/// The owner as the system's tables name it.
pub(crate) fn owner_of(owners: &mut crate::source::Owners, uid: u32, gid: u32) -> Owner {
    Owner {
        uid,
        gid,
        user: owners.user(uid).map(|name| name.to_string()),
        group: owners.group(gid).map(|name| name.to_string()),
    }
}

/// A running total that the terminal also shows.
pub(crate) fn advance(progress: &Progress, files: u64, bytes: u64) {
    progress.files.fetch_add(files, Ordering::Relaxed);
    progress.bytes.fetch_add(bytes, Ordering::Relaxed);
}

/// Takes an entry out of a node of the last scan.
pub(crate) fn old_draft(
    leaf: &crate::format::node::Leaf,
    place: usize,
    refs: &[crate::base::ChunkId],
) -> Option<Draft> {
    Some(draft_of(leaf.entries.get(place)?, refs, &leaf.owners))
}
