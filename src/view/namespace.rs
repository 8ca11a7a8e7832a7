//! What the directories of a mount are.
//!
//! ```text
//! latest -> at/<newest instant>
//! at/<instant>/<source>/…       each source's newest snapshot at that instant
//! at/<another spelling> -> <instant>
//! snapshots/<source>/<time>/…   each snapshot
//! changes/<source>/<time>..<time>/{before,after}/…   what differs between two
//! history/<source>/<path>/…     every name that ever was, and every version
//! .asof/status.json  .asof/counters.json
//! ```
//!
//! Nothing here knows FUSE; it answers what a name or a number is.
//!
//! **Numbers.** A file's number is its view's number and its rank in the view
//! (`view << 40 | rank`). View 0 has the fixed directories. Every other directory
//! that asof makes up is a view of its own, and so is every appearance of a
//! snapshot: the kernel takes two directories of one number for one that was
//! moved, so no directory may appear twice.
//!
//! **A view once entered does not change.** What an instant shows is part of what its
//! view is known by. When a late snapshot (taken before, published after) changes what
//! an instant shows, the instant's name gets another view, with other numbers for
//! everything in it. Who is in the old one reads there to the end, and no cached byte
//! of the old one is seen under the new.
//!
//! **Names.** A real directory under `at/` is named by an exact instant, to as many
//! digits as that takes: a shorter name would mean the end of its second, and what
//! that shows changes when another snapshot falls into it. Everything shorter is a
//! symbolic link to what it means now. A link's number is that of the view it
//! points to with a rank that no entry has, so links need no table, and a link of
//! one number never changes its target: what moves is which number the name has.

mod attributes;
mod changes;
mod enter;
mod history;
mod item;
mod list;
mod reports;
mod state;
mod views;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::base::{Clock, UnixTime};
use crate::repo::Library;
use crate::view::as_of::Head;
use crate::view::error::{Error, Reach, Result};
use crate::view::time_name::instant_name;
use crate::view::tree::{Found, Places, RANK_LIMIT, Tree};
use crate::view::zone::Zone;

pub use self::attributes::PREFIX;
pub use self::item::{Item, Life, Looked};
pub use self::list::{FIRST_POSITION, Row};
pub use self::reports::Figures;
pub use self::state::Changes;

use self::changes::{counterpart, differs};
use self::enter::root_of;
use self::reports::{Report, Reports};
use self::state::{State, Whole};
use self::views::{View, Viewed, Views};

/// How many bits of a number are the rank.
const RANK_BITS: u32 = 40;
/// The mount's root.
pub const ROOT: u64 = 1;
/// `at/`.
pub const AT: u64 = 2;
/// `snapshots/`.
pub const SNAPSHOTS: u64 = 3;
/// `.asof/`.
pub const REPORTS: u64 = 4;
const FIRST_REPORT: u64 = 5;
/// `changes/`.
pub const CHANGES: u64 = 16;
/// `history/`.
pub const HISTORY: u64 = 17;
/// The rank of the link that leads to a view from beside it.
const LINK_RANK: u64 = RANK_LIMIT + 1;
/// The rank of the link that leads to a view from the root.
const LATEST_RANK: u64 = RANK_LIMIT + 2;
/// The rank of the link that leads to a pair of snapshots from beside it.
const PAIR_LINK_RANK: u64 = RANK_LIMIT + 3;

/// The directories of one mount. Shared by many threads.
pub struct Namespace {
    library: Arc<dyn Library>,
    places: Arc<Places>,
    zone: Zone,
    clock: Clock,
    state: RwLock<Arc<State>>,
    /// What changed of what the kernel knows and was not told yet, since the state was replaced
    /// between refreshes. Whoever replaces it holds this.
    untold: Mutex<Option<Changes>>,
    views: Mutex<Views>,
    reports: Reports,
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Namespace").field("zone", &self.zone).finish_non_exhaustive()
    }
}

impl Namespace {
    /// The directories over a repository. Dates without a zone are of `zone`;
    /// `figures` are the mount's own, for `.asof/counters.json`.
    ///
    /// # Errors
    ///
    /// The library's, if it cannot list its snapshots.
    pub fn new(
        library: Arc<dyn Library>,
        zone: Zone,
        clock: Clock,
        figures: Figures,
    ) -> Result<Namespace> {
        let state = State::begin(library.as_ref())?;
        let reports = Reports::new(figures, clock.now());
        Ok(Namespace {
            library,
            places: Arc::new(Places::default()),
            zone,
            clock,
            state: RwLock::new(Arc::new(state)),
            untold: Mutex::default(),
            views: Mutex::new(Views::default()),
            reports,
        })
    }

    /// Learns what is new in the repository. Returns what is not as it was.
    ///
    /// # Errors
    ///
    /// The library's. What was known stays.
    pub fn refresh(&self) -> Result<Option<Changes>> {
        let other = self.library.refresh().map_err(Error::from);
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh =
            other.and_then(|other| other.then(|| Whole::load(self.library.as_ref())).transpose());
        self.reports.refreshed(self.clock.now(), fresh.as_ref().err());
        let changes = fresh?.map(|fresh| self.replace(&fresh));
        Ok(match (untold.take(), changes) {
            (Some(earlier), Some(changes)) => Some(earlier.and(changes)),
            (earlier, changes) => earlier.or(changes),
        })
    }

    /// What has that name in a directory.
    ///
    /// # Errors
    ///
    /// [`Error::NotADirectory`], [`Error::WouldBlock`], or the library's.
    pub fn lookup(&self, dir: u64, name: &[u8], reach: Reach) -> Result<Looked> {
        let (view, rank) = self.place(dir)?;
        let Some(view) = view else { return self.lookup_fixed(dir, name, reach) };
        match &view.view {
            View::Snapshot { tree, unlike, .. } if rank < RANK_LIMIT => {
                let Some(found) = tree.lookup(rank, name, reach)? else {
                    return Ok(Looked::absent(Life::Forever));
                };
                if let Some(other) = unlike {
                    let there = counterpart(tree, rank, other, reach)?;
                    if !differs(&found, other, there, reach)? {
                        return Ok(Looked::absent(Life::Forever));
                    }
                }
                Ok(Looked::at(entry(&view, tree, found, reach)?, Life::Forever))
            }
            View::Instant(..) if rank == 0 => self.lookup_source(&view, name, reach),
            View::Source(source) if rank == 0 => self.lookup_snapshot(source, name, &view, reach),
            View::Changes(source) if rank == 0 => self.lookup_pair(source, name, &view, reach),
            View::Pair { .. } if rank == 0 => self.lookup_side(&view, name, reach),
            View::History(_) | View::Past(_) => self.lookup_past(&view, rank, name, reach),
            _ => Err(Error::NotADirectory),
        }
    }

    /// What has that number.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchNumber`], [`Error::WouldBlock`], or the library's.
    pub fn item(&self, ino: u64, reach: Reach) -> Result<Item> {
        let unknown = Error::NoSuchNumber { number: ino };
        let (view, rank) = self.place(ino)?;
        let Some(view) = view else { return self.fixed(ino, reach)?.ok_or(unknown) };
        match (&view.view, rank) {
            (View::Instant(at, _), 0) => Ok(Item::Dir { ino, mtime: *at, life: Life::Forever }),
            (View::Instant(at, _), LINK_RANK) => {
                Ok(Item::Link { ino, target: instant_name(*at), mtime: *at })
            }
            (View::Instant(at, _), LATEST_RANK) => {
                Ok(Item::Link { ino, target: format!("at/{}", instant_name(*at)), mtime: *at })
            }
            (View::Source(source) | View::Changes(source), 0) => Ok(self.dir_of(source, ino)),
            (View::Pair { after, .. }, 0) => {
                Ok(Item::Dir { ino, mtime: after.info().shown_from(), life: Life::Forever })
            }
            (View::Pair { after, .. }, PAIR_LINK_RANK) => {
                let target = view.path.rsplit('/').next().unwrap_or_default().to_owned();
                Ok(Item::Link { ino, target, mtime: after.info().shown_from() })
            }
            (View::History(_), 0) => self.past_item(&view, 0, reach),
            (View::Past(_), rank) if rank < RANK_LIMIT => self.past_item(&view, rank, reach),
            (View::Snapshot { tree, .. }, LINK_RANK) => {
                let head = Head::from(tree.info().as_ref());
                let target = self.whole(reach)?.name_of(&head).ok_or(unknown)?;
                Ok(Item::Link { ino, target, mtime: head.at() })
            }
            (View::Snapshot { tree, .. }, rank) if rank < RANK_LIMIT => {
                entry(&view, tree, tree.entry(rank, reach)?.ok_or(unknown)?, reach)
            }
            _ => Err(unknown),
        }
    }

    /// The number of the directory that a directory is in; the root is in itself.
    ///
    /// # Errors
    ///
    /// [`Error::NotADirectory`], [`Error::WouldBlock`], or the library's.
    pub fn parent(&self, dir: u64, reach: Reach) -> Result<u64> {
        let (view, rank) = self.place(dir)?;
        let Some(view) = view else { return Ok(ROOT) };
        match &view.view {
            View::Instant(..) => Ok(AT),
            View::Source(_) => Ok(SNAPSHOTS),
            View::Changes(_) => Ok(CHANGES),
            View::History(_) => Ok(HISTORY),
            View::Past(tree) => self.past_parent(tree, rank, reach),
            View::Pair { within, .. } => Ok(number(*within, 0)),
            View::Snapshot { within, .. } if rank == 0 => Ok(number(*within, 0)),
            View::Snapshot { tree, .. } => Ok(number(view.number, tree.parent(rank, reach)?)),
        }
    }

    /// Where whoever goes through a tree in order is when a directory is done: the directory
    /// that it is in, and its position there. None at the top of a snapshot.
    ///
    /// # Errors
    ///
    /// [`Error::NotADirectory`], [`Error::WouldBlock`], or the library's.
    pub fn above(&self, dir: u64, reach: Reach) -> Result<Option<(u64, u64)>> {
        let (view, rank) = self.place(dir)?;
        let Some(view) = view else { return Ok(None) };
        let View::Snapshot { tree, .. } = &view.view else { return Ok(None) };
        let above = tree.above(rank, reach)?;
        Ok(above.map(|(dir, ordinal)| (number(view.number, dir), ordinal + FIRST_POSITION)))
    }

    /// A path for people and logs, from the mount's root; as much as is in memory.
    #[must_use]
    pub fn path(&self, ino: u64) -> String {
        let Ok((view, rank)) = self.place(ino) else { return format!("#{ino}") };
        let Some(view) = view else { return format!("#{ino}") };
        match &view.view {
            View::Snapshot { tree, .. } | View::Past(tree) if rank > 0 => {
                match tree.path(rank, Reach::Memory) {
                    Ok(path) => format!("{}/{}", view.path, String::from_utf8_lossy(&path)),
                    Err(_) => format!("{}/#{rank}", view.path),
                }
            }
            _ => view.path.clone(),
        }
    }

    /// How many bytes the packs take, and how many entries the newest snapshots have.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`], or the library's.
    pub fn totals(&self, reach: Reach) -> Result<(u64, u64)> {
        let state = self.state();
        if let Some(totals) = state.totals.get() {
            return Ok(*totals);
        }
        if reach == Reach::Memory {
            return Err(Error::WouldBlock);
        }
        let bytes = self.library.stored_bytes()?;
        let mut entries = 0_u64;
        for head in state.sources().filter_map(|source| state.newest_of(source)) {
            let info = self.library.snapshot(&head.id)?;
            entries = entries.saturating_add(info.map_or(0, |info| info.snapshot.root.ranks()));
        }
        Ok(*state.totals.get_or_init(|| (bytes, entries)))
    }

    fn lookup_fixed(&self, dir: u64, name: &[u8], reach: Reach) -> Result<Looked> {
        let state = self.state();
        match dir {
            ROOT => match name {
                b"at" => self.fixed_named(AT, Life::Settled, reach),
                b"snapshots" => self.fixed_named(SNAPSHOTS, Life::Settled, reach),
                b"changes" => self.fixed_named(CHANGES, Life::Settled, reach),
                b"history" => self.fixed_named(HISTORY, Life::Settled, reach),
                b".asof" => self.fixed_named(REPORTS, Life::Settled, reach),
                b"latest" => match state.latest() {
                    Some(at) => {
                        let view = self.instant(at, reach)?;
                        let link = self.item(number(view.number, LATEST_RANK), reach)?;
                        Ok(Looked::at(link, Life::Brief))
                    }
                    None => Ok(Looked::absent(Life::Momentary)),
                },
                _ => Ok(Looked::absent(Life::Settled)),
            },
            AT => self.lookup_time(&state, name, reach),
            SNAPSHOTS | CHANGES | HISTORY => {
                let name = text(name).filter(|name| state.newest_of(name).is_some());
                let Some(source) = name else { return Ok(Looked::absent(Life::Momentary)) };
                let view = self.of_source(dir, source, reach)?;
                Ok(Looked::at(self.item(number(view.number, 0), reach)?, Life::Settled))
            }
            REPORTS => match Report::named(name) {
                Some(report) => {
                    self.fixed_named(FIRST_REPORT + report.index(), Life::Momentary, reach)
                }
                None => Ok(Looked::absent(Life::Settled)),
            },
            _ => Err(Error::NotADirectory),
        }
    }

    /// A name in `at/`: the instant itself, or another spelling of a time.
    fn lookup_time(&self, state: &State, name: &[u8], reach: Reach) -> Result<Looked> {
        let absent = Ok(Looked::absent(Life::Momentary));
        let Some(name) = text(name) else { return absent };
        let Some(wanted) = state.instant(name, &self.zone, self.clock.now()) else {
            return absent;
        };
        // Since the newest snapshot nothing has changed.
        let at = match state.latest().filter(|latest| wanted >= *latest) {
            Some(latest) => latest,
            None => match self.canonical(wanted, reach)? {
                Some(at) => at,
                None => return absent,
            },
        };
        let view = self.instant(at, reach)?;
        let life = self.life(state, at);
        if instant_name(at) == name {
            return Ok(Looked::at(self.item(number(view.number, 0), reach)?, life));
        }
        let link = self.item(number(view.number, LINK_RANK), reach)?;
        Ok(Looked::at(link, Life::Brief))
    }

    /// The last instant at or before a time at which any source changed.
    fn canonical(&self, wanted: UnixTime, reach: Reach) -> Result<Option<UnixTime>> {
        let state = self.whole(reach)?;
        if !state.has_streams() {
            return Ok(state.timelines().canonical(wanted));
        }
        let shown = state.shown(self.library.as_ref(), wanted, reach)?;
        Ok(shown.iter().map(Head::at).max())
    }

    /// A name in `snapshots/<source>/`: a snapshot's own, or a time.
    fn lookup_snapshot(
        &self,
        source: &str,
        name: &[u8],
        within: &Viewed,
        reach: Reach,
    ) -> Result<Looked> {
        let absent = Ok(Looked::absent(Life::Momentary));
        let state = self.whole(reach)?;
        let Some(name) = text(name) else { return absent };
        if let Some(head) = state.snapshot_named(source, name) {
            let view = self.snapshot_of_source(&state, head, within, reach)?;
            return Ok(Looked::at(root_of(&view, reach)?, Life::Settled));
        }
        let Some(head) = self.newest_at(&state, source, name) else { return absent };
        let view = self.snapshot_of_source(&state, head, within, reach)?;
        let link = self.item(number(view.number, LINK_RANK), reach)?;
        Ok(Looked::at(link, Life::Brief))
    }

    /// The snapshot that shows a source at a time, as somebody writes it.
    fn newest_at<'s>(&self, state: &'s Whole, source: &str, time: &str) -> Option<&'s Head> {
        let wanted = state.instant(time, &self.zone, self.clock.now())?;
        state.timelines().newest(source, wanted)
    }

    /// A directory whose names come with the snapshots of a source.
    fn dir_of(&self, source: &str, ino: u64) -> Item {
        // The kernel lists a directory anew when this changes.
        let newest = self.state().newest_of(source).map(Head::at);
        Item::Dir { ino, mtime: newest.unwrap_or_default(), life: Life::Brief }
    }

    fn fixed_named(&self, ino: u64, life: Life, reach: Reach) -> Result<Looked> {
        Ok(Looked { item: self.fixed(ino, reach)?, life })
    }

    fn fixed(&self, ino: u64, reach: Reach) -> Result<Option<Item>> {
        let state = self.state();
        let newest = state.latest().unwrap_or_default();
        let mtime = match ino {
            ROOT | SNAPSHOTS | CHANGES | HISTORY => newest,
            // What is listed changes at midnight too, and the kernel looks at this.
            AT => newest.max(state::midnight(&self.zone, &self.clock)),
            REPORTS => self.reports.last_refresh(),
            _ => {
                let report = ino.checked_sub(FIRST_REPORT).and_then(Report::numbered);
                let Some(report) = report else { return Ok(None) };
                let (text, mtime) = self.reports.text(report, self, reach)?;
                return Ok(Some(Item::Report { ino, text, mtime }));
            }
        };
        Ok(Some(Item::Dir { ino, mtime, life: Life::Brief }))
    }
}

/// A file's number.
fn number(view: u64, rank: u64) -> u64 {
    view << RANK_BITS | rank
}

fn entry(view: &Viewed, tree: &Arc<Tree>, found: Found, reach: Reach) -> Result<Item> {
    let identity = tree.identity(&found, reach)?;
    Ok(Item::Entry {
        ino: number(view.number, identity.rank),
        links: identity.links,
        tree: Arc::clone(tree),
        found,
    })
}

/// Everything that asof names is text.
fn text(name: &[u8]) -> Option<&str> {
    std::str::from_utf8(name).ok()
}

#[cfg(test)]
pub(crate) mod tests;
