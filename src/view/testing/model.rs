//! A naive model of the past: it keeps a whole copy of everything that was ever backed up,
//! and looks through all of it to say what was so at a time.
//!
//! Its sources are few and its names and instants fewer, so that ties, snapshots that claim
//! to be from the future, late ones, and trees that are partly the same are all common.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::{Cut, Sample, TestLibrary};
use crate::base::UnixTime;
use crate::format::node::FileKind;
use crate::view::compare::tests::{flat, seen};

/// Nodes of two entries, so that a few names make a deep tree.
const SMALL: Cut = Cut { leaf: 2, inner: 2, extents: 1024, links_inline: 256 };

/// When the first instant of the model is: a minute before noon of 2026-11-20, in UTC.
const FIRST: i64 = 1_795_175_940;

/// What somebody who looks at a name sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: FileKind,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: UnixTime,
    /// The bytes of a file, the target of a link.
    pub(crate) bytes: Vec<u8>,
}

/// What somebody who walks through a directory sees, by path; itself by an empty one.
pub(crate) type Walked = BTreeMap<Vec<u8>, Seen>;

fn look(sample: &Sample) -> Seen {
    let bytes = match sample.kind {
        FileKind::File => sample.bytes(),
        _ => sample.target.clone(),
    };
    let Sample { kind, mode, owner, mtime, .. } = *sample;
    Seen { kind, mode, owner, mtime, bytes }
}

fn walk(tree: &Sample) -> Walked {
    let below = flat(tree).into_iter().map(|(path, sample)| (path, look(sample)));
    below.chain([(Vec::new(), look(tree))]).collect()
}

/// What one side of a comparison shows: what the other has not, or not like this, or not
/// everything below it, with every directory on the way to it.
pub(crate) fn differing(own: &Sample, other: &Sample) -> Walked {
    let all = walk(own);
    let (own, other) = (flat(own), flat(other));
    let differs = |path: &Vec<u8>| match (own.get(path), other.get(path)) {
        (Some(own), Some(other)) => seen(own) != seen(other),
        _ => true,
    };
    let mut shown = BTreeSet::from([Vec::new()]);
    for path in own.keys().chain(other.keys()).filter(|path| differs(path)) {
        let ends = (0..path.len()).filter(|at| path[*at] == b'/').chain([path.len()]);
        shown.extend(ends.map(|end| path[..end].to_vec()));
    }
    all.into_iter().filter(|(path, _)| shown.contains(path)).collect()
}

/// A whole copy of a source.
#[derive(Debug, Clone)]
struct Copy {
    source: String,
    taken: UnixTime,
    receipt: UnixTime,
    tree: Sample,
}

impl Copy {
    /// A copy that claims to be of a later second than it was received in is from then.
    fn from(&self) -> UnixTime {
        if self.taken.seconds > self.receipt.seconds { self.receipt } else { self.taken }
    }
}

/// The sources as they are, every copy of them, and the library that has snapshots of them.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) library: Arc<TestLibrary>,
    sources: BTreeMap<String, Sample>,
    copies: Vec<Copy>,
}

impl World {
    pub(crate) fn new() -> World {
        World::default()
    }

    /// Does what a step says. True if a snapshot was published.
    pub(crate) fn go(&mut self, step: &Step) -> bool {
        let empty = || Sample::dir::<&str>([]);
        let tree = self.sources.entry(step.source.to_owned()).or_insert_with(empty);
        match &step.act {
            Act::Change(path, change) => change.apply(tree, path),
            Act::Snapshot { taken, receipt } => {
                let times = (*taken, *receipt);
                self.library.publish_received(step.source, times, tree, SMALL);
                self.copies.push(Copy {
                    source: step.source.to_owned(),
                    taken: *taken,
                    receipt: *receipt,
                    tree: tree.clone(),
                });
                return true;
            }
        }
        false
    }

    /// The sources that have a copy, or had none yet.
    pub(crate) fn sources() -> [&'static str; 3] {
        SOURCES
    }

    /// The newest copy of a source at a time. Of equal ones the last received, of those the
    /// last published, whose id is the greatest.
    fn newest(&self, source: &str, at: UnixTime) -> Option<&Copy> {
        let mut newest: Option<&Copy> = None;
        for copy in self.copies.iter().filter(|copy| copy.source == source && copy.from() <= at) {
            if newest.is_none_or(|n| (copy.from(), copy.receipt) >= (n.from(), n.receipt)) {
                newest = Some(copy);
            }
        }
        newest
    }

    /// What there was at a time, of every source that had a copy by then.
    pub(crate) fn at(&self, at: UnixTime) -> BTreeMap<String, Walked> {
        let sources = SOURCES.iter().filter_map(|source| self.newest(source, at));
        sources.map(|copy| (copy.source.clone(), walk(&copy.tree))).collect()
    }

    /// What differs between two times; none if the source was not there at both.
    pub(crate) fn changes(
        &self,
        source: &str,
        before: UnixTime,
        after: UnixTime,
    ) -> Option<[Walked; 2]> {
        let (before, after) = (self.newest(source, before)?, self.newest(source, after)?);
        let (before, after) = (&before.tree, &after.tree);
        Some([differing(before, after), differing(after, before)])
    }
}

const SOURCES: [&str; 3] = ["db", "web", "x"];

/// Something that happens.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    source: &'static str,
    act: Act,
}

#[derive(Debug, Clone)]
enum Act {
    Change(Vec<String>, Change),
    Snapshot { taken: UnixTime, receipt: UnixTime },
}

#[derive(Debug, Clone)]
enum Change {
    File(u8),
    Link(u8),
    Dir,
    Mode(u32),
    Touch(i64),
    Remove,
}

impl Change {
    fn apply(&self, tree: &mut Sample, path: &[String]) {
        let Some((name, dirs)) = path.split_last() else {
            // The source's own directory cannot be anything else.
            match self {
                Change::Mode(mode) => tree.mode = *mode,
                Change::Touch(second) => tree.mtime = UnixTime::new(*second, 1),
                _ => {}
            }
            return;
        };
        let mut dir = tree;
        for name in dirs {
            dir = dir_in(dir, name);
        }
        let name = name.as_bytes().to_vec();
        match self {
            // The longest are not kept in their directory.
            Change::File(n) => {
                dir.children.insert(name, Sample::file(vec![*n; usize::from(*n) * 30]));
            }
            Change::Link(n) => {
                dir.children.insert(name, Sample::symlink(&format!("to {n}")));
            }
            Change::Dir => {
                dir_in(dir, &path[path.len() - 1]);
            }
            Change::Mode(mode) => {
                dir.children.entry(name).and_modify(|one| one.mode = *mode);
            }
            Change::Touch(second) => {
                dir.children.entry(name).and_modify(|one| one.mtime = UnixTime::new(*second, 1));
            }
            Change::Remove => {
                dir.children.remove(&name);
            }
        }
    }
}

/// The directory of that name, in place of whatever else has it.
fn dir_in<'s>(dir: &'s mut Sample, name: &str) -> &'s mut Sample {
    let empty = || Sample::dir::<&str>([]);
    let child = dir.children.entry(name.as_bytes().to_vec()).or_insert_with(empty);
    if child.kind != FileKind::Dir {
        *child = empty();
    }
    child
}

/// Instants close together, of now and of days ago.
pub(crate) fn instant() -> impl Strategy<Value = UnixTime> {
    let ago = prop_oneof![Just(0_i64), Just(3 * 86_400)];
    let nanos = prop_oneof![Just(0_u32), Just(1), Just(999_999_999)];
    (ago, 0_i64..3, nanos).prop_map(|(ago, s, nanos)| UnixTime::new(FIRST - ago + s, nanos))
}

/// Changes and snapshots, in no order of time.
pub(crate) fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let change = prop_oneof![
        4 => (0_u8..4).prop_map(Change::File),
        1 => (0_u8..2).prop_map(Change::Link),
        1 => Just(Change::Dir),
        1 => prop_oneof![Just(0o700_u32), Just(0o755), Just(0o4711)].prop_map(Change::Mode),
        1 => prop_oneof![Just(-5_i64), Just(1_700_000_001)].prop_map(Change::Touch),
        2 => Just(Change::Remove),
    ];
    let path = proptest::collection::vec("[a-c]", 0..4);
    let delay = prop_oneof![3 => Just(1_i64), 1 => Just(0), 1 => Just(-1), 1 => Just(-4)];
    let act = prop_oneof![
        3 => (path, change).prop_map(|(path, change)| Act::Change(path, change)),
        2 => (instant(), delay).prop_map(|(taken, delay)| Act::Snapshot {
            taken,
            receipt: UnixTime::new(taken.seconds + delay, 0),
        }),
    ];
    let step = (0..SOURCES.len(), act).prop_map(|(n, act)| Step { source: SOURCES[n], act });
    proptest::collection::vec(step, 1..most)
}
