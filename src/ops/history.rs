//! From a selector to the snapshots whose history it means.

use crate::base::UnixTime;
use crate::ops::select::{in_order, plain_path, snapshot_among};
use crate::ops::{Error, Result};
use crate::repo::Library;
use crate::source::path::shown;
use crate::view::Zone;
use crate::view::history::{NameSeen, Version, names, versions};
use crate::view::selector::Selector;

/// The history of a path.
pub struct History {
    /// The source.
    pub source: String,
    /// The path, without slashes at either end.
    pub path: Vec<u8>,
    /// What was there, the newest last.
    pub versions: Vec<Version>,
    /// Names that were in the directory there, if they were asked for.
    pub names: Vec<(Vec<u8>, NameSeen)>,
}

/// What was under the selected path in every snapshot of its source, up to the selected
/// time; and every name that was in it, `with_names`.
///
/// # Errors
///
/// [`Error::NotFound`] if nothing ever was, what a selector can fail by, and the library's.
pub fn history(
    library: &dyn Library,
    selector: &Selector,
    with_names: bool,
    zone: &Zone,
    now: UnixTime,
) -> Result<History> {
    let infos = library.snapshots()?;
    let newest = snapshot_among(&infos, selector, zone, now)?;
    let source = newest.snapshot.source.clone();
    let mut snapshots = in_order(&infos, &source);
    let end = snapshots.iter().position(|info| info.snapshot.id == newest.snapshot.id);
    snapshots.truncate(end.map_or(0, |at| at + 1));
    let path = plain_path(selector.path_or_root());
    let (versions, course) = versions(library, &snapshots, &path)?;
    if versions.is_empty() {
        let what =
            format!("/{} never was in {source} ({} snapshots)", shown(&path), snapshots.len());
        return Err(Error::NotFound { what });
    }
    let names = match with_names {
        true => names(library, &snapshots, &course, 0)?.into_iter().collect(),
        false => Vec::new(),
    };
    Ok(History { source, path, versions, names })
}
