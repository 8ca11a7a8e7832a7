//! `history/`: the path first, then the time.
//!
//! ```text
//! history/<source>/<path>/<name>/             every name that ever was in that directory
//! history/<source>/<path>/<time>.<extension>  every version of what was there, but directories
//! ```
//!
//! A version is the file as the first snapshot has it that shows it, under the number that it
//! has in `snapshots/`: so one version is one file wherever it is met, and is cached once.
//!
//! **Numbers.** Every path that ever was is a directory here. A table of them would grow with
//! whoever walks through it, so a path goes by the first snapshot that has it and its rank
//! in that one: the view `history/<source>/<snapshot>` and that rank. The number of a path
//! stays the same whatever is published later, as long as that snapshot is kept, and the path
//! follows from the number.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use lru::LruCache;

use crate::base::SnapshotId;
use crate::format::node::FileKind;
use crate::repo::SnapshotInfo;
use crate::source::path::{last, split};
use crate::view::as_of::Head;
use crate::view::error::{Error, Reach, Result};
use crate::view::history::{Course, NameSeen, Version, names, root_versions};
use crate::view::tree::{Found, Tree};

use super::list::by_time;
use super::state::Whole;
use super::views::{View, Viewed};
use super::{FIRST_POSITION, Item, Life, Looked, Namespace, Row, entry, number};

/// Paths whose past is remembered until other snapshots are known.
const PASTS_MAX: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// What all of them weigh together: names, states and steps, of about 300 bytes each.
const WEIGHT_MAX: usize = 40_000;
/// So many are remembered whatever they weigh: a path, and those above it.
const KEPT_MIN: usize = 4;
/// What is in a directory is remembered whole if it had no more states; else its names.
const STATES_MAX: usize = 10_000;
/// No longer extension is put behind a version's time. Bytes.
const EXTENSION_MAX: usize = 32;
/// Names have positions below this in a listing, versions from here on.
const VERSIONS_FROM: u64 = 1 << 62;

/// What was at one path of a source, in all its snapshots.
#[derive(Debug)]
pub(super) struct Past {
    /// Everything that was there, with the times when nothing was.
    pub(super) versions: Vec<Version>,
    /// Versions that are shown: position in a listing, name, and which it is.
    shown: Vec<(u64, Vec<u8>, usize)>,
    /// Which node it was, while it was a directory.
    course: Course,
    /// The names that were in it, once somebody has asked.
    names: OnceLock<Names>,
}

/// Every name that ever was in a directory.
#[derive(Debug)]
struct Names {
    seen: BTreeMap<Vec<u8>, NameSeen>,
    /// The ranks of names, in the first snapshots that have them.
    ranks: HashMap<Vec<u8>, u64>,
    /// Position in a listing and name. A position is made from the name, so that a name
    /// which comes or goes moves no other one.
    order: Vec<(u64, Vec<u8>)>,
    weight: usize,
}

impl Past {
    fn new(state: &Whole, path: &[u8], (versions, course): (Vec<Version>, Course)) -> Past {
        let shown = shown(state, path, &versions);
        Past { versions, shown, course, names: OnceLock::new() }
    }

    fn was_dir(&self) -> bool {
        self.versions.iter().any(|version| {
            version.state.as_ref().is_some_and(|there| there.entry.kind == FileKind::Dir)
        })
    }

    fn weight(&self) -> usize {
        let own = self.versions.len() + self.course.len();
        own + self.names.get().map_or(0, |names| names.weight)
    }

    /// The versions that are shown: position in a listing, name, and which it is. A name that
    /// was in the directory there at another time comes first: the version then has its
    /// snapshot's id in its name.
    fn shown<'p>(
        &'p self,
        names: &'p Names,
    ) -> impl Iterator<Item = (u64, Cow<'p, [u8]>, &'p Version)> {
        self.shown.iter().filter_map(|(position, name, at)| {
            let version = self.versions.get(*at)?;
            let name = match names.seen.contains_key(name) {
                false => Cow::Borrowed(name.as_slice()),
                true => {
                    let id = format!("~{}", version.first.snapshot.id);
                    Cow::Owned([name, id.as_bytes()].concat())
                }
            };
            Some((*position, name, version))
        })
    }
}

impl Names {
    fn new(seen: BTreeMap<Vec<u8>, NameSeen>, ranks: HashMap<Vec<u8>, u64>) -> Names {
        let mut order: Vec<_> = seen.keys().map(|name| (position(name), name.clone())).collect();
        order.sort_unstable();
        let mut last = FIRST_POSITION - 1;
        for (position, _) in &mut order {
            *position = (*position).max(last + 1);
            last = *position;
        }
        let past = |seen: &NameSeen| {
            seen.past.as_ref().map_or(0, |(versions, course)| versions.len() + course.len())
        };
        let weight = seen.values().map(|seen| 1 + past(seen)).sum();
        Names { seen, ranks, order, weight }
    }
}

fn position(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    (hasher.finish() >> 3).max(FIRST_POSITION)
}

/// A source and a path.
type Key = (String, Vec<u8>);

/// The pasts that were asked for, those asked for last at hand.
#[derive(Debug)]
pub(super) struct Pasts(Mutex<LruCache<Key, Arc<Past>>>);

impl Default for Pasts {
    fn default() -> Pasts {
        Pasts(Mutex::new(LruCache::new(PASTS_MAX)))
    }
}

impl Pasts {
    fn get(&self, key: &Key) -> Option<Arc<Past>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn put(&self, key: Key, past: impl Into<Arc<Past>>) -> Arc<Past> {
        let past = past.into();
        let mut pasts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pasts.put(key, Arc::clone(&past));
        let mut all: usize = pasts.iter().map(|(_, past)| past.weight()).sum();
        // The directory that it is in is wanted with it, however much that is.
        while all > WEIGHT_MAX && pasts.len() > KEPT_MIN {
            all -= pasts.pop_lru().map_or(0, |(_, past)| past.weight());
        }
        past
    }
}

impl Namespace {
    /// The root of a source's history.
    pub(super) fn history(&self, source: &str, reach: Reach) -> Result<Arc<Viewed>> {
        let key = format!("history/{source}");
        self.enter(key.clone(), key, reach, || View::History(source.to_owned()))
    }

    /// A name in a directory of `history/`.
    pub(super) fn lookup_past(
        &self,
        view: &Viewed,
        rank: u64,
        name: &[u8],
        reach: Reach,
    ) -> Result<Looked> {
        let state = self.whole(reach)?;
        let (source, path) = past_of(view, rank, reach)?;
        // What the first snapshot of all has came with it, and needs no history.
        let wanted = joined(&path, name);
        if let Some(head) = state.timelines().of(source).first()
            && let Some(dir) = self.past_in(head, &wanted, reach)?
        {
            return Ok(Looked::at(dir, Life::Brief));
        }
        let past = self.past(&state, source, &path, reach)?;
        // One name costs less than all, unless those are known.
        let first = match past.names.get() {
            Some(names) => names.seen.get(name).map(|seen| Head::from(seen.first.as_ref())),
            None if !past.was_dir() => None,
            None if reach == Reach::Memory => return Err(Error::WouldBlock),
            None => {
                let line = self.line(&state, source, reach)?;
                let (versions, _) = past.course.follow(self.library.as_ref(), &line, name)?;
                versions.first().map(|version| Head::from(version.first.as_ref()))
            }
        };
        if let Some(head) = first
            && let Some(dir) = self.past_in(&head, &wanted, reach)?
        {
            return Ok(Looked::at(dir, Life::Brief));
        }
        if past.shown.is_empty() {
            return Ok(Looked::absent(Life::Momentary));
        }
        let names = self.names_of(&state, &past, source, &path, reach)?;
        let mut shown = past.shown(names);
        let version = shown.find(|(_, own, _)| own.as_ref() == name);
        match version.map(|(.., version)| version) {
            Some(version) => {
                let item = self.version(&state, source, &path, version, reach)?;
                Ok(item.map_or_else(
                    || Looked::absent(Life::Momentary),
                    |item| Looked::at(item, Life::Brief),
                ))
            }
            None => Ok(Looked::absent(Life::Momentary)),
        }
    }

    pub(super) fn list_past(
        &self,
        view: &Viewed,
        rank: u64,
        after: u64,
        reach: Reach,
        show: &mut dyn FnMut(Row<'_>) -> bool,
    ) -> Result<()> {
        let state = self.whole(reach)?;
        let (source, path) = past_of(view, rank, reach)?;
        let past = self.past(&state, source, &path, reach)?;
        let names = self.names_of(&state, &past, source, &path, reach)?;
        let from = names.order.partition_point(|(position, _)| *position <= after);
        for (position, name) in &names.order[from..] {
            let (Some(seen), Some(rank)) = (names.seen.get(name), names.ranks.get(name)) else {
                continue;
            };
            let Some(tree) = self.tree_of(&Head::from(seen.first.as_ref()), reach)? else {
                continue;
            };
            let item = self.past_dir(&tree, *rank, reach)?;
            if show(Row { position: *position, name, item, life: Life::Brief }) {
                return Ok(());
            }
        }
        for (position, name, version) in past.shown(names) {
            if position <= after {
                continue;
            }
            let Some(item) = self.version(&state, source, &path, version, reach)? else {
                continue;
            };
            if show(Row { position, name: &name, item, life: Life::Brief }) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A directory of `history/` by its number.
    pub(super) fn past_item(&self, view: &Viewed, rank: u64, reach: Reach) -> Result<Item> {
        let (source, ino) = match &view.view {
            View::History(source) => (source.as_str(), number(view.number, 0)),
            View::Past(tree) => {
                let ino = number(view.number, rank);
                tree.entry(rank, reach)?.ok_or(Error::NoSuchNumber { number: ino })?;
                (tree.info().snapshot.source.as_str(), ino)
            }
            _ => return Err(Error::NotADirectory),
        };
        Ok(self.dir_of(source, ino))
    }

    /// The directory of `history/` above another one.
    pub(super) fn past_parent(&self, tree: &Arc<Tree>, rank: u64, reach: Reach) -> Result<u64> {
        let path = tree.path(rank, reach)?;
        let source = &tree.info().snapshot.source;
        let above = split(&path).map(|(above, _)| above).filter(|above| !above.is_empty());
        let Some(above) = above else {
            return Ok(number(self.history(source, reach)?.number, 0));
        };
        // It may have been there before what is in it.
        let (state, gone) = (self.whole(reach)?, Error::NoSuchNumber { number: rank });
        if let Some(head) = state.timelines().of(source).first()
            && let Some(dir) = self.past_in(head, above, reach)?
        {
            return Ok(dir.ino());
        }
        let past = self.past(&state, source, above, reach)?;
        let Some(first) = past.versions.first() else { return Err(gone) };
        let dir = self.past_in(&Head::from(first.first.as_ref()), above, reach)?;
        Ok(dir.ok_or(gone)?.ino())
    }

    /// The directory of `history/` for a path that this snapshot is the first to have; none if
    /// it has no such path.
    fn past_in(&self, head: &Head, path: &[u8], reach: Reach) -> Result<Option<Item>> {
        let Some(tree) = self.tree_of(head, reach)? else { return Ok(None) };
        let Some(found) = tree.at(path, reach)? else { return Ok(None) };
        Ok(Some(self.past_dir(&tree, found.rank, reach)?))
    }

    /// What was at a path, in all snapshots of its source: from what is remembered of the
    /// nearest directory above it.
    pub(super) fn past(
        &self,
        state: &Whole,
        source: &str,
        path: &[u8],
        reach: Reach,
    ) -> Result<Arc<Past>> {
        let key = |path: &[u8]| (source.to_owned(), path.to_vec());
        let mut above = path;
        let mut below: Vec<&[u8]> = Vec::new();
        let mut past = loop {
            if let Some(past) = state.pasts.get(&key(above)) {
                break past;
            }
            let Some((next, _)) = split(above) else {
                let line = self.line(state, source, reach)?;
                let root = (root_versions(&line), Course::of_root(&line));
                break state.pasts.put(key(above), Past::new(state, above, root));
            };
            below.push(above);
            above = next;
        };
        while let Some(path) = below.pop() {
            let Some((_, name)) = split(path) else { break };
            let seen = past.names.get().and_then(|names| names.seen.get(name));
            let found = match seen.and_then(|seen| seen.past.clone()) {
                Some(known) => known,
                None if reach == Reach::Memory => return Err(Error::WouldBlock),
                None => {
                    let line = self.line(state, source, reach)?;
                    past.course.follow(self.library.as_ref(), &line, name)?
                }
            };
            past = state.pasts.put(key(path), Past::new(state, path, found));
        }
        Ok(past)
    }

    /// The names that were in a directory, which its past remembers.
    fn names_of<'p>(
        &self,
        state: &Whole,
        past: &'p Arc<Past>,
        source: &str,
        path: &[u8],
        reach: Reach,
    ) -> Result<&'p Names> {
        if let Some(names) = past.names.get() {
            return Ok(names);
        }
        let (mut seen, mut ranks) = (BTreeMap::new(), HashMap::new());
        if past.was_dir() {
            if reach == Reach::Memory {
                return Err(Error::WouldBlock);
            }
            let line = self.line(state, source, reach)?;
            seen = names(self.library.as_ref(), &line, &past.course, STATES_MAX)?;
            ranks = self.ranks(&seen, path, reach)?;
        }
        let names = past.names.get_or_init(|| Names::new(seen, ranks));
        // It weighs more now.
        state.pasts.put((source.to_owned(), path.to_vec()), Arc::clone(past));
        Ok(names)
    }

    /// The ranks of all names of a directory, each in the first snapshot that has it.
    fn ranks(
        &self,
        seen: &BTreeMap<Vec<u8>, NameSeen>,
        path: &[u8],
        reach: Reach,
    ) -> Result<HashMap<Vec<u8>, u64>> {
        // Most names came with a few snapshots.
        let mut by_first: BTreeMap<SnapshotId, (Head, Vec<&[u8]>)> = BTreeMap::new();
        for (name, seen) in seen {
            let first = seen.first.as_ref();
            let begun = || (Head::from(first), Vec::new());
            by_first.entry(first.snapshot.id).or_insert_with(begun).1.push(name);
        }
        let mut ranks = HashMap::with_capacity(seen.len());
        for (head, names) in by_first.into_values() {
            let Some(tree) = self.tree_of(&head, reach)? else { continue };
            let Some(dir) = tree.at(path, reach)?.filter(Found::is_dir) else { continue };
            // In the order in which they lie there.
            for name in names {
                if let Some(found) = tree.lookup(dir.rank, name, reach)? {
                    ranks.insert(name.to_vec(), found.rank);
                }
            }
        }
        Ok(ranks)
    }

    /// The snapshots of a source, oldest first.
    pub(super) fn line(
        &self,
        state: &Whole,
        source: &str,
        reach: Reach,
    ) -> Result<Arc<[Arc<SnapshotInfo>]>> {
        let lines = || state.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines().get(source) {
            return Ok(Arc::clone(line));
        }
        if reach == Reach::Memory {
            return Err(Error::WouldBlock);
        }
        let infos = self.library.snapshots()?;
        let by_id: HashMap<_, _> = infos.iter().map(|info| (info.snapshot.id, info)).collect();
        let heads = state.timelines().of(source).iter();
        let line: Arc<[_]> =
            heads.filter_map(|head| by_id.get(&head.id).copied().cloned()).collect();
        lines().insert(source.to_owned(), Arc::clone(&line));
        Ok(line)
    }

    /// The directory of `history/` for a path that this snapshot is the first to have.
    fn past_dir(&self, tree: &Arc<Tree>, rank: u64, reach: Reach) -> Result<Item> {
        let snapshot = &tree.info().snapshot;
        let key = format!("history/{}/{}", snapshot.source, snapshot.id);
        let path = format!("history/{}", snapshot.source);
        let view = self.enter(key, path, reach, || View::Past(Arc::clone(tree)))?;
        Ok(self.dir_of(&snapshot.source, number(view.number, rank)))
    }

    /// A version, as the first snapshot has it that shows it.
    fn version(
        &self,
        state: &Whole,
        source: &str,
        path: &[u8],
        version: &Version,
        reach: Reach,
    ) -> Result<Option<Item>> {
        let within = self.source(source, reach)?;
        let head = Head::from(version.first.as_ref());
        let view = self.snapshot_of_source(state, &head, &within, reach)?;
        let View::Snapshot { tree, .. } = &view.view else { return Ok(None) };
        let found = tree.at(path, reach)?;
        found.map(|found| entry(&view, tree, found, reach)).transpose()
    }
}

/// The source and the path that a directory of `history/` is of.
fn past_of(view: &Viewed, rank: u64, reach: Reach) -> Result<(&str, Vec<u8>)> {
    match &view.view {
        View::History(source) if rank == 0 => Ok((source, Vec::new())),
        View::Past(tree) => Ok((&tree.info().snapshot.source, tree.path(rank, reach)?)),
        _ => Err(Error::NotADirectory),
    }
}

fn joined(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// What versions are called: by the time at which they were first seen, with what the file's
/// name ends with.
fn shown(state: &Whole, path: &[u8], versions: &[Version]) -> Vec<(u64, Vec<u8>, usize)> {
    let name = last(path);
    let dot = name.iter().rposition(|b| *b == b'.').filter(|dot| *dot > 0);
    let extension = dot.map(|dot| &name[dot..]).filter(|text| text.len() <= EXTENSION_MAX);
    let files = versions.iter().enumerate().filter(|(_, version)| {
        version.state.as_ref().is_some_and(|there| there.entry.kind != FileKind::Dir)
    });
    let named = files.filter_map(|(at, version)| {
        let mut name = state.name_of(&Head::from(version.first.as_ref()))?.into_bytes();
        name.extend_from_slice(extension.unwrap_or_default());
        Some((name, at))
    });
    let placed = by_time(named, |(_, at)| versions[*at].first.shown_from());
    // What is too close to be told apart by four nanoseconds is so by its place.
    let mut last = VERSIONS_FROM - 1;
    placed
        .map(|(position, (name, at))| {
            last = (VERSIONS_FROM + position / 4).max(last + 1);
            (last, name, at)
        })
        .collect()
}
