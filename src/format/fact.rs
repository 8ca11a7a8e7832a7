//! Facts: what records say about the repository.
//!
//! A fact is an item (see [`crate::format::item`]); its kind says what it states
//! and [`may_publish`] who may state it. Facts are folded without regard to their
//! order. A fact of an unknown kind is kept, its references are marked, and it is
//! otherwise passed over.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::base::{
    ChainId, ChunkId, PackId, RecordId, SnapshotId, UnixTime, WriterId, check_source_name,
};
use crate::format::item::{self, Item};
use crate::format::node::{Entry, LinkGroup, LinkId, Owner, check_entry};
use crate::format::pack::PackFact;
use crate::format::segment::{POSITION_MAX, Segment, StreamPoint};
use crate::format::{FormatError, decode_whole, encode};

/// A source was in this state.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Snapshot {
    /// Its own id, of this taking.
    #[n(0)]
    pub id: SnapshotId,
    /// Of which source.
    #[n(1)]
    pub source: String,
    /// When reading began, by the writer's clock.
    #[n(2)]
    pub started: UnixTime,
    /// When reading ended; for an atomic source, its instant.
    #[n(3)]
    pub taken: UnixTime,
    /// The root directory; its name is empty.
    #[n(4)]
    pub root: Entry,
    /// Who owns the root.
    #[n(5)]
    pub owners: Vec<Owner>,
    /// What kind of source: `directory`, `stream`.
    #[n(6)]
    pub kind: String,
    /// What was backed up: absolute paths.
    #[n(7)]
    pub roots: Vec<ByteVec>,
    /// The machine's name.
    #[n(8)]
    pub host: String,
    /// The name of the user who ran the backup.
    #[n(9)]
    pub user: String,
    /// Words that people put on it.
    #[n(10)]
    pub tags: Vec<String>,
    /// The snapshot that this one was compared with.
    #[n(11)]
    pub parent: Option<SnapshotId>,
    /// Counts of the run.
    #[n(12)]
    pub counts: Counts,
    /// The files that have several names.
    #[n(13)]
    pub links: Links,
    /// The program that took it.
    #[n(14)]
    pub program: String,
    /// From when on it is no longer wanted.
    #[n(15)]
    pub expires: Option<UnixTime>,
    /// Of a database that is followed, which of its states it is.
    #[n(16)]
    pub point: Option<StreamPoint>,
}

impl Snapshot {
    /// A snapshot of a directory of which nothing is known but this.
    #[must_use]
    pub fn new(
        id: SnapshotId,
        source: &str,
        root: Entry,
        owner: Owner,
        taken: UnixTime,
    ) -> Snapshot {
        Snapshot {
            id,
            source: source.to_owned(),
            started: taken,
            taken,
            root,
            owners: vec![owner],
            kind: "directory".into(),
            roots: Vec::new(),
            host: String::new(),
            user: String::new(),
            tags: Vec::new(),
            parent: None,
            counts: Counts::default(),
            links: Links::Inline(Vec::new()),
            program: concat!("asof ", env!("CARGO_PKG_VERSION")).into(),
            expires: None,
            point: None,
        }
    }
}

/// What a backup met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode, serde::Serialize)]
#[cbor(map)]
pub struct Counts {
    /// Regular files.
    #[n(0)]
    pub files: u64,
    /// Directories.
    #[n(1)]
    pub dirs: u64,
    /// Everything else.
    #[n(2)]
    pub others: u64,
    /// The sizes of all files, added up.
    #[n(3)]
    pub bytes: u64,
    /// Files that the source did not have before.
    #[n(4)]
    pub new: u64,
    /// Files that are not as they were.
    #[n(5)]
    pub changed: u64,
    /// Files that are as they were.
    #[n(6)]
    pub unchanged: u64,
    /// What could not be read, and is therefore missing or empty.
    #[n(7)]
    pub errors: u64,
    /// Files that changed while they were read, and are marked.
    #[n(8)]
    pub unsteady: u64,
    /// Bytes read.
    #[n(9)]
    pub bytes_read: u64,
    /// Bytes of content that the store did not have.
    #[n(10)]
    pub bytes_new: u64,
}

/// The table of files with several names, in order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Links {
    /// Here.
    #[n(0)]
    Inline(#[n(0)] Vec<LinkGroup>),
    /// In nodes: the first id in each, and its place in the references.
    #[n(1)]
    Nodes(#[n(0)] Vec<(LinkId, u32)>),
}

/// The most groups of links that stand in the fact itself.
pub const LINKS_INLINE_MAX: usize = 256;

/// These chunks are needed although no snapshot says so yet.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Pin {
    /// Everything that the chain has published up to that number.
    #[n(0)]
    Chain(#[n(0)] ChainId, #[n(1)] u64),
    /// What that snapshot has.
    #[n(1)]
    Snapshot(#[n(0)] SnapshotId),
}

/// These packs are to be deleted; or have been.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Packs {
    /// Which packs.
    #[n(0)]
    pub packs: Vec<PackId>,
}

/// These snapshots are no longer wanted. Final.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Forget {
    /// Which snapshots.
    #[n(0)]
    pub snapshots: Vec<SnapshotId>,
    /// Why, for people.
    #[n(1)]
    pub reason: Option<String>,
}

/// Facts of many records, merged. Its references are the nodes of merged records, in
/// their order, and those of places.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Checkpoint {
    /// Chains that ended by then, and of which nothing has anything left to say, may be
    /// left out.
    #[n(0)]
    pub complete_after: UnixTime,
    /// The records that it stands for, as far as they were there when it was made.
    #[n(1)]
    pub records: Vec<RecordId>,
    /// The sparse index: the first chunk in each node of places, ascending, and the
    /// node's place in the references. All other references are merged records.
    #[n(2)]
    pub places: Vec<(ChunkId, u32)>,
}

impl Checkpoint {
    /// The nodes of merged records among its references, in order.
    pub fn merged<'a>(&'a self, refs: &'a [ChunkId]) -> impl Iterator<Item = &'a ChunkId> {
        let places: std::collections::HashSet<u32> =
            self.places.iter().map(|&(_, place)| place).collect();
        let numbered = (0_u32..).zip(refs);
        numbered.filter(move |(place, _)| !places.contains(place)).map(|(_, id)| id)
    }

    /// The node that has the places of a chunk, if any has.
    #[must_use]
    pub fn node_of<'a>(&self, refs: &'a [ChunkId], id: &ChunkId) -> Option<&'a ChunkId> {
        let after = self.places.partition_point(|(first, _)| first <= id);
        let (_, place) = self.places.get(after.checked_sub(1)?)?;
        refs.get(*place as usize)
    }
}

fn check_checkpoint(checkpoint: &Checkpoint, refs: usize) -> Result<(), FormatError> {
    let order = checkpoint.places.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if !order || checkpoint.places.iter().any(|&(_, place)| place as usize >= refs) {
        let why = "its index of places is not in order or names no node";
        return Err(FormatError::malformed("checkpoint", why));
    }
    Ok(())
}

/// Records of this writer that the store receives from then on are not believed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Revoke {
    /// Which writer.
    #[n(0)]
    pub writer: WriterId,
    /// From which receipt on.
    #[n(1)]
    pub from: UnixTime,
}

/// The grace period is this from now on, if that is longer; once it has passed,
/// also if it is shorter.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Grace {
    /// Seconds.
    #[n(0)]
    pub seconds: u64,
}

/// A fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A pack exists.
    Pack(Box<PackFact>),
    /// A snapshot was taken.
    Snapshot(Box<Snapshot>),
    /// Chunks are needed.
    Pin(Pin),
    /// Snapshots are forgotten.
    Forget(Forget),
    /// Packs are to be deleted.
    Condemn(Packs),
    /// Packs are about to be deleted.
    Deleted(Packs),
    /// Records are merged.
    Checkpoint(Checkpoint),
    /// A writer is no longer believed.
    Revoke(Revoke),
    /// The grace period is another.
    Grace(Grace),
    /// Changes of a stream.
    Segment(Box<Segment>),
    /// Something that a later version knows.
    Unknown(u64),
}

const PACK: u64 = 1;
const SNAPSHOT: u64 = 2;
const PIN: u64 = 3;
const FORGET: u64 = 4;
const CONDEMN: u64 = 5;
const DELETED: u64 = 7;
const CHECKPOINT: u64 = 8;
const REVOKE: u64 = 9;
const GRACE: u64 = 10;
const SEGMENT: u64 = 11;

impl Fact {
    /// What the fact states, in a word or two.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Fact::Pack(_) => "pack",
            Fact::Snapshot(_) => "snapshot",
            Fact::Pin(_) => "pin",
            Fact::Forget(_) => "forget",
            Fact::Condemn(_) => "condemn",
            Fact::Deleted(_) => "deleted",
            Fact::Checkpoint(_) => "checkpoint",
            Fact::Revoke(_) => "revoke",
            Fact::Grace(_) => "grace",
            Fact::Segment(_) => "segment",
            Fact::Unknown(_) => "unknown",
        }
    }

    /// Encodes the fact with the chunks that it refers to.
    ///
    /// # Panics
    ///
    /// If it is [`Fact::Unknown`]: those are copied verbatim, never made.
    #[must_use]
    pub fn encode(&self, refs: &[ChunkId]) -> Vec<u8> {
        let (kind, body) = match self {
            Fact::Pack(pack) => (PACK, pack.encode()),
            Fact::Snapshot(snapshot) => (SNAPSHOT, encode(snapshot.as_ref())),
            Fact::Pin(pin) => (PIN, encode(pin)),
            Fact::Forget(forget) => (FORGET, encode(forget)),
            Fact::Condemn(packs) => (CONDEMN, encode(packs)),
            Fact::Deleted(packs) => (DELETED, encode(packs)),
            Fact::Checkpoint(checkpoint) => (CHECKPOINT, encode(checkpoint)),
            Fact::Revoke(revoke) => (REVOKE, encode(revoke)),
            Fact::Grace(grace) => (GRACE, encode(grace)),
            Fact::Segment(segment) => (SEGMENT, encode(segment.as_ref())),
            Fact::Unknown(kind) => unreachable!("a fact of unknown kind {kind} is never made"),
        };
        item::encode(refs, kind, &body)
    }

    /// Decodes a fact and the chunks that it refers to.
    ///
    /// # Errors
    ///
    /// [`FormatError::Malformed`] if it is none.
    pub fn decode(bytes: &[u8]) -> Result<(Vec<ChunkId>, Fact), FormatError> {
        let item = Item::decode("fact", bytes)?;
        let fact = match item.kind {
            PACK => Fact::Pack(Box::new(PackFact::decode(item.body)?)),
            SNAPSHOT => {
                let snapshot: Snapshot = decode_whole("snapshot", item.body)?;
                check_snapshot(&snapshot, item.refs.len())?;
                Fact::Snapshot(Box::new(snapshot))
            }
            PIN => Fact::Pin(decode_whole("pin", item.body)?),
            FORGET => Fact::Forget(decode_whole("forget", item.body)?),
            CONDEMN => Fact::Condemn(decode_whole("condemn", item.body)?),
            DELETED => Fact::Deleted(decode_whole("deleted", item.body)?),
            CHECKPOINT => {
                let checkpoint: Checkpoint = decode_whole("checkpoint", item.body)?;
                check_checkpoint(&checkpoint, item.refs.len())?;
                Fact::Checkpoint(checkpoint)
            }
            REVOKE => Fact::Revoke(decode_whole("revoke", item.body)?),
            GRACE => Fact::Grace(decode_whole("grace", item.body)?),
            SEGMENT => {
                let segment: Segment = decode_whole("segment", item.body)?;
                segment.check(item.refs.len())?;
                Fact::Segment(Box::new(segment))
            }
            other => Fact::Unknown(other),
        };
        Ok((item.refs, fact))
    }
}

fn check_snapshot(snapshot: &Snapshot, refs: usize) -> Result<(), FormatError> {
    let wrong = |why: &str| FormatError::malformed("snapshot", why);
    if !is_source_name(&snapshot.source) {
        return Err(wrong("its source has a name that none can have"));
    }
    if !snapshot.root.name.is_empty() || snapshot.root.subtree.is_none() {
        return Err(wrong("its root is not a directory without name"));
    }
    if [snapshot.started, snapshot.taken].iter().any(|t| t.nanos >= 1_000_000_000) {
        return Err(wrong("a time has too many nanoseconds"));
    }
    if snapshot.point.as_ref().is_some_and(|point| point.position > POSITION_MAX) {
        return Err(wrong("it is a state of a stream at a position that is too great"));
    }
    match &snapshot.links {
        Links::Inline(groups) => {
            if !groups.windows(2).all(|pair| pair[0].id < pair[1].id) {
                return Err(wrong("its links are not in order"));
            }
        }
        Links::Nodes(nodes) => {
            let order = nodes.windows(2).all(|pair| pair[0].0 < pair[1].0);
            if !order || nodes.iter().any(|&(_, node)| node as usize >= refs) {
                return Err(wrong("its links are not in order or name no node"));
            }
        }
    }
    check_entry(&snapshot.root, snapshot.owners.len(), refs)
}

/// Whether a source can have that name, see [`crate::base::source_name`].
#[must_use]
pub fn is_source_name(name: &str) -> bool {
    check_source_name(name).is_ok()
}

/// Who published a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// The owner.
    Owner,
    /// A writer with that certificate.
    Writer(crate::format::certificate::Certificate),
}

/// The normative table: who may publish what.
///
/// The owner may publish everything. A writer may publish packs, snapshots and segments of
/// the sources that its certificate names, and pins, which only ever keep things.
/// What nobody knows yet, nobody but the owner may publish.
#[must_use]
pub fn may_publish(signer: &Signer, fact: &Fact) -> bool {
    match (signer, fact) {
        (Signer::Owner, _) | (Signer::Writer(_), Fact::Pack(_) | Fact::Pin(_)) => true,
        (Signer::Writer(certificate), Fact::Snapshot(snapshot)) => {
            certificate.allows(&snapshot.source)
        }
        (Signer::Writer(certificate), Fact::Segment(segment)) => {
            certificate.allows(&segment.source)
        }
        (
            Signer::Writer(_),
            Fact::Forget(_)
            | Fact::Condemn(_)
            | Fact::Deleted(_)
            | Fact::Checkpoint(_)
            | Fact::Revoke(_)
            | Fact::Grace(_)
            | Fact::Unknown(_),
        ) => false,
    }
}

#[cfg(test)]
#[path = "fact/tests.rs"]
mod tests;
