//! From a selector to what it means: a snapshot, and a place in its tree.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::base::{SnapshotId, UnixTime};
use crate::ops::{Error, Result};
use crate::repo::browse::{self, Found};
use crate::repo::library::Moment;
use crate::repo::{Library, SnapshotInfo};
use crate::source::path::names;
use crate::view::as_of::{Head, Timelines, later};
use crate::view::selector::{Selector, State};
use crate::view::{TimeSpec, Zone};

/// What a selector means.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The snapshot.
    pub info: Arc<SnapshotInfo>,
    /// The path in its tree, without slashes at either end; empty for the root.
    pub path: Vec<u8>,
    /// What is there.
    pub found: Found,
}

/// The snapshots as timelines.
#[must_use]
pub fn timelines(infos: &[Arc<SnapshotInfo>]) -> Timelines {
    Timelines::new(infos.iter().map(|info| Head::from(info.as_ref())))
}

/// The snapshots of a source, oldest first.
#[must_use]
pub fn in_order(infos: &[Arc<SnapshotInfo>], source: &str) -> Vec<Arc<SnapshotInfo>> {
    let own = infos.iter().filter(|info| info.snapshot.source == source);
    let by_id: HashMap<_, _> = own.map(|info| (info.snapshot.id, info)).collect();
    let lines = Timelines::new(by_id.values().map(|info| Head::from(info.as_ref())));
    lines.of(source).iter().map(|head| Arc::clone(by_id[&head.id])).collect()
}

/// Finds the snapshot that a selector means.
///
/// # Errors
///
/// [`Error::NotFound`] or [`Error::Invalid`], saying what would work.
pub fn snapshot(
    library: &dyn Library,
    selector: &Selector,
    zone: &Zone,
    now: UnixTime,
) -> Result<Arc<SnapshotInfo>> {
    if let State::Id(prefix) = &selector.state
        && let Ok(id) = prefix.as_str().parse()
        && let Some(state) = library.snapshot(&id)?
    {
        // A state of a stream goes by an id as well, and is not among the snapshots.
        return Ok(state);
    }
    let picked = known_snapshot(library, &pick(&library.moments()?, selector, zone, now)?)?;
    let at = match &selector.state {
        State::Id(_) => return Ok(picked),
        State::Latest | State::Source { time: None, .. } => UnixTime::new(i64::MAX, 0),
        State::Source { time: Some(text), .. } => instant(text, zone, now)?,
    };
    // A source that is followed has states between its snapshots.
    let state = library.state_at(&picked.snapshot.source, at)?.map(Head::from);
    match later(Some(&Head::from(picked.as_ref())), state) {
        Some(head) if head.id != picked.snapshot.id => known_snapshot(library, &head.id),
        _ => Ok(picked),
    }
}

/// The instant that a time means.
fn instant(text: &str, zone: &Zone, now: UnixTime) -> Result<UnixTime> {
    let spec = TimeSpec::parse(text, zone, now);
    Ok(spec.map_err(|error| Error::Invalid { what: error.to_string() })?.instant)
}

/// A snapshot that was known just now.
///
/// # Errors
///
/// [`Error::NotFound`] if it is not any more.
pub fn known_snapshot(library: &dyn Library, id: &SnapshotId) -> Result<Arc<SnapshotInfo>> {
    let gone = || Error::NotFound { what: format!("snapshot {id} was forgotten just now") };
    library.snapshot(id)?.ok_or_else(gone)
}

/// The same among snapshots at hand.
///
/// # Errors
///
/// As [`snapshot`].
pub fn snapshot_among(
    infos: &[Arc<SnapshotInfo>],
    selector: &Selector,
    zone: &Zone,
    now: UnixTime,
) -> Result<Arc<SnapshotInfo>> {
    let moments: Vec<Moment> = infos.iter().map(|info| Moment::from(info.as_ref())).collect();
    let id = pick(&moments, selector, zone, now)?;
    let gone = || Error::NotFound { what: format!("snapshot {id} is not among them") };
    infos.iter().find(|info| info.snapshot.id == id).cloned().ok_or_else(gone)
}

/// Which of the snapshots a selector means.
fn pick(moments: &[Moment], selector: &Selector, zone: &Zone, now: UnixTime) -> Result<SnapshotId> {
    let lines = Timelines::new(moments.iter().cloned().map(Head::from));
    let missing = |what: String| Error::NotFound { what };
    match &selector.state {
        State::Id(prefix) => {
            let mut fitting = moments.iter().filter(|moment| prefix.matches(&moment.id));
            match (fitting.next(), fitting.next()) {
                (Some(moment), None) => Ok(moment.id),
                (None, _) => Err(missing(format!(
                    "no snapshot has an id that begins with {}",
                    prefix.as_str()
                ))),
                (Some(_), Some(_)) => Err(Error::Invalid {
                    what: format!(
                        "several snapshots have ids that begin with {}: give more digits",
                        prefix.as_str()
                    ),
                }),
            }
        }
        State::Latest => {
            let mut sources = lines.sources();
            match (sources.next(), sources.next()) {
                (None, _) => Err(missing("there are no snapshots yet".into())),
                (Some(source), None) => newest(&lines, source, None),
                (Some(_), Some(_)) => {
                    let names: Vec<&str> = lines.sources().collect();
                    Err(Error::Invalid {
                        what: format!("there are several sources; say which: {}", names.join(", ")),
                    })
                }
            }
        }
        State::Source { name, time } => {
            check_known(&lines, name)?;
            let at = match time {
                None => None,
                Some(text) => Some(instant(text, zone, now)?),
            };
            newest(&lines, name, at)
        }
    }
}

/// Checks that a source has a snapshot.
///
/// # Errors
///
/// [`Error::NotFound`], which names those that have.
pub fn check_known(lines: &Timelines, source: &str) -> Result<()> {
    if !lines.of(source).is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = lines.sources().collect();
    let there = match names.is_empty() {
        true => "there are no snapshots yet".to_owned(),
        false => format!("there are: {}", names.join(", ")),
    };
    Err(Error::NotFound { what: format!("no source is called {source}; {there}") })
}

fn newest(lines: &Timelines, source: &str, at: Option<UnixTime>) -> Result<SnapshotId> {
    let head = match at {
        Some(at) => lines.newest(source, at),
        None => lines.of(source).last(),
    };
    head.map(|head| head.id).ok_or_else(|| {
        let first = lines.of(source).first().map(|head| head.at().to_string());
        Error::NotFound {
            what: format!(
                "source {source} has no snapshot as old as that; its first is of {}",
                first.unwrap_or_default()
            ),
        }
    })
}

/// Finds what a selector means: the snapshot and the entry at its path.
///
/// # Errors
///
/// Those of [`snapshot`], and [`Error::NotFound`] if nothing is at the path.
pub fn select(
    library: &dyn Library,
    selector: &Selector,
    zone: &Zone,
    now: UnixTime,
) -> Result<Selected> {
    let info = snapshot(library, selector, zone, now)?;
    let path = selector.path_or_root().as_os_str().as_bytes().to_vec();
    at_path(library, info, &path)
}

/// A path as trees have it: without slashes at either end, doubled ones, and `.`.
#[must_use]
pub fn plain_path(path: &Path) -> Vec<u8> {
    let names: Vec<&[u8]> = names(path.as_os_str().as_bytes()).filter(|n| *n != b".").collect();
    names.join(&b'/')
}

/// Finds the entry at a path of a snapshot's tree. Symbolic links are not followed.
///
/// # Errors
///
/// [`Error::NotFound`] naming the first part that is not there.
pub fn at_path(library: &dyn Library, info: Arc<SnapshotInfo>, path: &[u8]) -> Result<Selected> {
    let found = Found::root(&info);
    let mut selected = Selected { info, path: Vec::new(), found };
    for name in names(path).filter(|name| *name != b".") {
        let here = String::from_utf8_lossy(&selected.path).into_owned();
        let dir = selected
            .found
            .dir()
            .ok_or_else(|| Error::NotFound { what: format!("/{here} is no directory") })?;
        if !selected.path.is_empty() {
            selected.path.push(b'/');
        }
        selected.path.extend_from_slice(name);
        let found = browse::find(library, dir, name)?;
        selected.found = found.ok_or_else(|| missing(&selected, path))?;
    }
    Ok(selected)
}

/// The error that nothing is at the path that was come to. A source of one directory
/// begins with what is in it: who writes the whole path is told the one that works.
fn missing(selected: &Selected, wanted: &[u8]) -> Error {
    let snapshot = &selected.info.snapshot;
    let shown = |path: &[u8]| crate::source::path::shown(path);
    let at = crate::view::instant_name(selected.info.shown_from());
    let mut what = format!("/{} is not in {}@{at}", shown(&selected.path), snapshot.source);
    if let [root] = snapshot.roots.as_slice()
        && root.as_slice() != b"/"
        && let Some(rest) = wanted.strip_prefix(root.as_slice())
        && (rest.is_empty() || rest.starts_with(b"/"))
    {
        let rest = if rest.is_empty() { b"/" } else { rest };
        let (root, rest) = (shown(root), shown(rest));
        what = format!("{what}, whose paths begin below {root}: write {}:{rest}", snapshot.source);
    }
    Error::NotFound { what }
}
