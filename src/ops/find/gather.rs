//! Brings what the index knows of a source's history up to date.
//!
//! The first snapshot is gone through whole, and every other is compared with the one before
//! it, where equal nodes are not looked into. What was done is kept every few thousand
//! changes with the path that was reached, so whoever stops it loses little of the work.

use std::cmp::Ordering as Order;
use std::collections::HashSet;

use crate::base::{ChunkId, Progress, SnapshotId, Stop};
use crate::format::node::{Entry, Owner};
use crate::index::{Index, SearchChange, SearchSnapshot, SearchSource};
use crate::ops::select::known_snapshot;
use crate::ops::{Error, Result};
use crate::repo::browse::Found;
use crate::repo::{self, Library};
use crate::source::path;
use crate::view::as_of::Head;
use crate::view::compare::{Go, compare};

/// So many changes are kept at once.
const CHANGES_AT_A_TIME: usize = 8192;

/// The history of one source, as the index has it now.
pub(super) struct Gathered {
    /// The source's number in the index.
    pub(super) source: i64,
    /// The numbers of the snapshots, in their order.
    pub(super) numbers: Vec<i64>,
}

/// Who brings it up to date.
pub(super) struct Gatherer<'a> {
    pub(super) library: &'a dyn Library,
    pub(super) index: &'a Index,
    pub(super) progress: &'a Progress,
    pub(super) stop: &'a Stop,
}

impl Gatherer<'_> {
    /// Goes through the snapshots of a source, given in order, that were not gone through
    /// yet, and takes out those that are not there any more.
    pub(super) fn gather(&self, source: &str, line: &[Head]) -> Result<Gathered> {
        loop {
            let SearchSource { number: source, next, snapshots } =
                self.index.search_source(source)?;
            let known = self.reconcile(source, snapshots, line)?;
            // Another process does the same and was faster: its work counts.
            let Some(numbers) = self.go_on(source, next, known, line)? else { continue };
            return Ok(Gathered { source, numbers });
        }
    }

    /// Makes what is known a beginning of the line. Returns that.
    pub(super) fn reconcile(
        &self,
        source: i64,
        mut known: Vec<SearchSnapshot>,
        line: &[Head],
    ) -> Result<Vec<SearchSnapshot>> {
        let ids: HashSet<_> = line.iter().map(|head| head.id).collect();
        let newest = known.last().map(|snapshot| snapshot.number);
        let gone: Vec<i64> =
            known.iter().filter(|one| !ids.contains(&one.id)).map(|one| one.number).collect();
        known.retain(|one| ids.contains(&one.id));
        // What was noted of an unfinished one is beside one that may be gone.
        if !gone.is_empty() {
            known.pop_if(|last| last.reached.is_some());
        }
        let same = known.iter().zip(line).take_while(|(one, head)| one.id == head.id).count();
        let is_cut = same < known.len();
        known.truncate(same);
        let last = known.last().map(|snapshot| snapshot.number);
        if is_cut || newest != last {
            self.index.cut_search(source, last)?;
        }
        if !gone.is_empty() {
            self.index.drop_search(source, &gone)?;
        }
        Ok(known)
    }

    /// Goes through the snapshots behind those that are known. None if somebody else has
    /// gone on meanwhile.
    fn go_on(
        &self,
        source: i64,
        mut next: i64,
        mut known: Vec<SearchSnapshot>,
        line: &[Head],
    ) -> Result<Option<Vec<i64>>> {
        let mut begun = known.pop_if(|last| last.reached.is_some());
        self.progress.enter("indexing");
        Progress::add(&self.progress.files_expected, (line.len() - known.len()) as u64);
        let mut before = match known.len().checked_sub(1) {
            Some(last) if known.len() < line.len() => self.root_of(&line[last])?,
            _ => None,
        };
        for head in &line[known.len()..] {
            let number = begun.as_ref().map_or(next, |begun| begun.number);
            next = next.max(number + 1);
            let now = SearchSnapshot { number, id: head.id, reached: None };
            let root = self.root_of(head)?;
            let above = known.last().map(|last| last.id);
            if !self.note_changes((source, above), (before, root), begun.take(), &now)? {
                return Ok(None);
            }
            known.push(now);
            before = root;
            Progress::add(&self.progress.files, 1);
        }
        Ok(Some(known.into_iter().map(|snapshot| snapshot.number).collect()))
    }

    fn root_of(&self, head: &Head) -> Result<Option<ChunkId>> {
        Ok(Found::root(&known_snapshot(self.library, &head.id)?).dir())
    }

    /// Notes what differs between two roots; from where it was left, if it was `begun`.
    /// False if somebody else is at it.
    fn note_changes(
        &self,
        (source, above): (i64, Option<SnapshotId>),
        (before, after): (Option<ChunkId>, Option<ChunkId>),
        mut begun: Option<SearchSnapshot>,
        now: &SearchSnapshot,
    ) -> Result<bool> {
        let reached = begun.as_ref().and_then(|begun| begun.reached.clone());
        let mut changes: Vec<SearchChange> = Vec::new();
        let mut keep = |changes: &mut Vec<SearchChange>, now: SearchSnapshot| -> Result<bool> {
            let (above, begun_as) = (above.as_ref(), begun.as_ref());
            let is_kept = self.index.keep_search(source, above, begun_as, &now, changes)?;
            changes.clear();
            begun = Some(now);
            Ok(is_kept)
        };
        let mut overtaken = false;
        compare(self.library, before, after, |difference| -> Result<Go> {
            if overtaken {
                return Ok(Go::Over);
            }
            if self.stop.is_raised() {
                return Err(Error::Repo(repo::Error::Interrupted));
            }
            match reached.as_deref().map(|reached| place(difference.path, reached)) {
                Some(Place::Before) => return Ok(Go::Over),
                Some(Place::OnTheWay) => return Ok(Go::Into),
                Some(Place::Behind) | None => {}
            }
            // What only holds something else is as it was.
            if difference.is_other() {
                let path = difference.path.to_vec();
                changes.push(SearchChange { path, body: difference.after.map(encode) });
            }
            if changes.len() >= CHANGES_AT_A_TIME {
                let reached = Some(difference.path.to_vec());
                overtaken = !keep(&mut changes, SearchSnapshot { reached, ..now.clone() })?;
            }
            Ok(Go::Into)
        })?;
        Ok(!overtaken && keep(&mut changes, now.clone())?)
    }
}

/// Where a path is from another one in the order of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It, and all that is below it, comes before.
    Before,
    /// It is the other one, or a directory that the other one is in.
    OnTheWay,
    /// It comes after.
    Behind,
}

fn place(path: &[u8], other: &[u8]) -> Place {
    let mut others = other.split(|b| *b == b'/');
    for name in path.split(|b| *b == b'/') {
        match others.next().map(|other| name.cmp(other)) {
            Some(Order::Less) => return Place::Before,
            Some(Order::Equal) => {}
            Some(Order::Greater) | None => return Place::Behind,
        }
    }
    Place::OnTheWay
}

/// What the index keeps of an entry: all but its name, which is in its path, and what leads
/// to its content.
pub(super) fn encode(found: &Found) -> Vec<u8> {
    let entry = found.entry();
    let bare = Entry { name: Vec::new().into(), content: None, subtree: None, ..entry.clone() };
    crate::format::encode(&(bare, found.owner()))
}

/// What [`encode`] made, with the name of its path.
pub(super) fn decode(path: &[u8], body: &[u8]) -> Option<(Entry, Owner)> {
    let (mut entry, owner): (Entry, Owner) = minicbor::decode(body).ok()?;
    entry.name = path::last(path).to_vec().into();
    Some((entry, owner))
}
