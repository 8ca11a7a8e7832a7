//! Nodes: directories and what hangs on them, as chunks of kind node.
//!
//! A directory is a *leaf* with its entries in byte order of their names; a long
//! one is a tree of leaves under *inner* nodes, cut at places that a keyed hash of
//! the names chooses, so that a million entries work and a change among them
//! costs a few nodes. Entries and inner nodes carry how many entries their whole
//! subtree has. With that, every entry of a snapshot has a number that need not
//! be stored: its rank when the tree is walked in order, each directory before
//! what is in it. The root has rank 0.
//!
//! Owners are kept once a node, and chunks are named by their place in the node's
//! references (see [`crate::format::item`]).

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::base::{ChunkId, RepositoryId, UnixTime};
use crate::codec::sign::{self, SigningKey};
use crate::format::checkpoint::{MergedRun, Places, check_merged};
use crate::format::extents::{self, Content, Extent, ExtentChild};
use crate::format::item::{self, Item};
use crate::format::{FormatError, decode_whole, encode};

/// The domain of a statement's signature.
const STATEMENT_DOMAIN: &str = "asof statement 0";

/// A leaf has at most this many entries.
pub const LEAF_ENTRIES_MAX: usize = 2048;
/// A leaf is cut before its entries grow beyond this. Bytes.
pub const LEAF_BYTES_MAX: usize = 1 << 20;
/// A node is never longer. Bytes.
pub const NODE_BYTES_MAX: usize = 32 << 20;
/// No tree of nodes is deeper.
pub const DEPTH_MAX: u32 = 16;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum FileKind {
    /// A regular file.
    #[n(0)]
    File,
    /// A directory.
    #[n(1)]
    Dir,
    /// A symbolic link.
    #[n(2)]
    Symlink,
    /// A character device.
    #[n(3)]
    CharDevice,
    /// A block device.
    #[n(4)]
    BlockDevice,
    /// A named pipe.
    #[n(5)]
    Fifo,
    /// A socket.
    #[n(6)]
    Socket,
}

/// Who owns a file: numbers, and the names that they had where it was backed up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Encode, Decode)]
#[cbor(array)]
pub struct Owner {
    /// User number.
    #[n(0)]
    pub uid: u32,
    /// Group number.
    #[n(1)]
    pub gid: u32,
    /// User name, if it had one.
    #[n(2)]
    pub user: Option<String>,
    /// Group name, if it had one.
    #[n(3)]
    pub group: Option<String>,
}

/// Which file of the source an entry was, when it had several names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(array)]
pub struct LinkId {
    /// The source's devices, numbered in the order in which they were met.
    #[n(0)]
    pub device: u32,
    /// The inode's number there.
    #[n(1)]
    pub inode: u64,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Xattr {
    /// Its name with its namespace.
    #[n(0)]
    pub name: ByteVec,
    /// Its value, byte for byte: ACLs and capabilities as the kernel has them.
    #[n(1)]
    pub value: ByteVec,
}

/// A directory's own tree, as its entry has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(array)]
pub struct Subtree {
    /// Its root node, by its place in the references.
    #[n(0)]
    pub node: u32,
    /// How many entries are below it, at any depth.
    #[n(1)]
    pub entries: u64,
    /// The sizes of all files below it, added up.
    #[n(2)]
    pub bytes: u64,
    /// How many directories are right in it.
    #[n(3)]
    pub subdirs: u64,
}

/// Set in [`Entry::marks`]: the file changed while it was read, every time.
pub const MARK_CHANGED_WHILE_READ: u32 = 1;

/// A file, directory, link or device under its name.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Entry {
    /// Its name: bytes, without `/` and NUL. Empty only for a snapshot's root.
    #[n(0)]
    pub name: ByteVec,
    /// What it is.
    #[n(1)]
    pub kind: FileKind,
    /// Permission bits with set-user-id and its like: 0 to 0o7777.
    #[n(2)]
    pub mode: u32,
    /// Who owns it, by place in the node's owners.
    #[n(3)]
    pub owner: u32,
    /// When its content changed.
    #[n(4)]
    pub mtime: UnixTime,
    /// When anything about it changed.
    #[n(5)]
    pub ctime: UnixTime,
    /// When it was made, where the file system knew.
    #[n(6)]
    pub btime: Option<UnixTime>,
    /// Its size as `stat` has it. Bytes.
    #[n(7)]
    pub size: u64,
    /// Which file it is, if that has more names than one.
    #[n(8)]
    pub link: Option<LinkId>,
    /// Where a symbolic link points.
    #[n(9)]
    pub target: Option<ByteVec>,
    /// Major and minor number of a device.
    #[n(10)]
    pub device: Option<(u32, u32)>,
    /// All its extended attributes, in byte order of their names.
    #[n(11)]
    #[cbor(default, skip_if = "Vec::is_empty")]
    pub xattrs: Vec<Xattr>,
    /// SHA-256 of a regular file's bytes, holes read as zeros.
    #[n(12)]
    pub sha256: Option<ByteVec>,
    /// A regular file's bytes; none if it is empty.
    #[n(13)]
    pub content: Option<Content>,
    /// A directory's tree.
    #[n(14)]
    pub subtree: Option<Subtree>,
    /// Bits that say what the backup noticed.
    #[n(15)]
    #[cbor(default, skip_if = "is_zero")]
    pub marks: u32,
    /// How many of its bytes are in holes.
    #[n(16)]
    #[cbor(default, skip_if = "is_zero_long")]
    pub holes: u64,
}

impl Entry {
    /// An entry of which nothing is known but this: no size, no content.
    #[must_use]
    pub fn new(name: &[u8], kind: FileKind, mode: u32, at: UnixTime) -> Entry {
        Entry {
            name: name.to_vec().into(),
            kind,
            mode,
            owner: 0,
            mtime: at,
            ctime: at,
            btime: None,
            size: 0,
            link: None,
            target: None,
            device: None,
            xattrs: Vec::new(),
            sha256: None,
            content: None,
            subtree: None,
            marks: 0,
            holes: 0,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero_long(n: &u64) -> bool {
    *n == 0
}

impl Entry {
    /// How many numbers the entry takes: itself, and all that is below it.
    #[must_use]
    pub fn ranks(&self) -> u64 {
        1 + self.subtree.map_or(0, |t| t.entries)
    }

    /// The bytes of files that it stands for: its own, or its subtree's.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self.kind {
            FileKind::File => self.size,
            FileKind::Dir => self.subtree.map_or(0, |t| t.bytes),
            _ => 0,
        }
    }
}

/// Entries of one directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Leaf {
    /// Who owns them.
    #[n(0)]
    pub owners: Vec<Owner>,
    /// The entries, in byte order of their names.
    #[n(1)]
    pub entries: Vec<Entry>,
}

/// A node of a long directory, as its parent has it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Child {
    /// The first name in it.
    #[n(0)]
    pub first: ByteVec,
    /// The node, by its place in the references.
    #[n(1)]
    pub node: u32,
    /// How many entries of this directory it holds.
    #[n(2)]
    pub direct: u64,
    /// How many entries it holds at any depth, `direct` included.
    #[n(3)]
    pub entries: u64,
    /// The sizes of all files in it at any depth, added up.
    #[n(4)]
    pub bytes: u64,
}

/// The names of one file of a snapshot, as the table of links has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct LinkGroup {
    /// Which file.
    #[n(0)]
    pub id: LinkId,
    /// The rank of its first name, whose number all its names have.
    #[n(1)]
    pub first: u64,
    /// How many names the snapshot has of it.
    #[n(2)]
    pub count: u64,
}

/// A snapshot's signed statement, so that the log can be rebuilt from packs.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Statement {
    /// Who signed.
    #[n(0)]
    pub writer: crate::base::WriterId,
    /// The signer's certificate, unless the owner signed.
    #[n(1)]
    pub certificate: Option<ByteVec>,
    /// The fact, an item.
    #[n(2)]
    pub fact: ByteVec,
    /// The signature over the repository's id and the fact.
    #[n(3)]
    pub signature: ByteVec,
}

impl Statement {
    /// Signs a snapshot's fact.
    #[must_use]
    pub fn issue(
        key: &SigningKey,
        repository: RepositoryId,
        certificate: Option<Vec<u8>>,
        fact: &[u8],
    ) -> Statement {
        let signature = key.sign(STATEMENT_DOMAIN, &stated(repository, fact));
        Statement {
            writer: key.id(),
            certificate: certificate.map(Into::into),
            fact: fact.to_vec().into(),
            signature: signature.to_vec().into(),
        }
    }

    /// Checks that its writer signed it for `repository`. Whether the writer may
    /// is for its certificate to say.
    ///
    /// # Errors
    ///
    /// [`FormatError::Malformed`] if not.
    pub fn verify(&self, repository: RepositoryId) -> Result<(), FormatError> {
        let message = stated(repository, &self.fact);
        sign::verify(self.writer, STATEMENT_DOMAIN, &message, &self.signature)
            .map_err(|_| FormatError::malformed("statement", "its signature is not by its writer"))
    }
}

fn stated(repository: RepositoryId, fact: &[u8]) -> Vec<u8> {
    [repository.as_bytes(), fact].concat()
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Entries of a directory.
    Leaf(Leaf),
    /// The upper part of a long directory.
    Inner(Vec<Child>),
    /// A list of extents.
    Extents(Vec<Extent>),
    /// The upper part of a long list of extents.
    ExtentTree(Vec<ExtentChild>),
    /// A part of a table of links.
    Links(Vec<LinkGroup>),
    /// A snapshot's signed statement.
    Statement(Statement),
    /// Facts that a checkpoint carries on, by the records that they stood in.
    Merged(MergedRun),
    /// Where chunks are: a part of a checkpoint's sorted run.
    Places(Places),
}

const LEAF: u64 = 1;
const INNER: u64 = 2;
const EXTENTS: u64 = 3;
const EXTENT_TREE: u64 = 4;
const LINKS: u64 = 5;
/// The kind of an item that is a [`Statement`].
pub const STATEMENT: u64 = 6;
const MERGED: u64 = 7;
const PLACES: u64 = 8;

impl Node {
    /// Encodes the node with the chunks that it refers to.
    #[must_use]
    pub fn encode(&self, refs: &[ChunkId]) -> Vec<u8> {
        let (kind, body) = match self {
            Node::Leaf(leaf) => (LEAF, encode(leaf)),
            Node::Inner(children) => (INNER, encode(children)),
            Node::Extents(extents) => (EXTENTS, encode(extents)),
            Node::ExtentTree(children) => (EXTENT_TREE, encode(children)),
            Node::Links(groups) => (LINKS, encode(groups)),
            Node::Statement(statement) => (STATEMENT, encode(statement)),
            Node::Merged(run) => (MERGED, encode(run)),
            Node::Places(places) => (PLACES, encode(places)),
        };
        item::encode(refs, kind, &body)
    }

    /// Decodes a node and the chunks that it refers to, and checks it: names in
    /// order and sound, every reference within bounds, sizes adding up.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if it is none or is of a kind that is not known.
    pub fn decode(bytes: &[u8]) -> Result<(Vec<ChunkId>, Node), FormatError> {
        if bytes.len() > NODE_BYTES_MAX {
            return Err(FormatError::malformed("node", "it is too long"));
        }
        let item = Item::decode("node", bytes)?;
        let refs = item.refs.len();
        let node = match item.kind {
            LEAF => {
                let leaf: Leaf = decode_whole("directory", item.body)?;
                check_leaf(&leaf, refs)?;
                Node::Leaf(leaf)
            }
            INNER => {
                let children: Vec<Child> = decode_whole("directory", item.body)?;
                check_inner(&children, refs)?;
                Node::Inner(children)
            }
            EXTENTS => {
                let extents: Vec<Extent> = decode_whole("list of extents", item.body)?;
                extents::check_extents(&extents, refs)?;
                Node::Extents(extents)
            }
            EXTENT_TREE => {
                let children: Vec<ExtentChild> = decode_whole("tree of extents", item.body)?;
                extents::check_children(&children, refs)?;
                Node::ExtentTree(children)
            }
            LINKS => {
                let groups: Vec<LinkGroup> = decode_whole("table of links", item.body)?;
                check_links(&groups)?;
                Node::Links(groups)
            }
            STATEMENT => Node::Statement(decode_whole("statement", item.body)?),
            MERGED => {
                let run: MergedRun = decode_whole("merged facts", item.body)?;
                check_merged(&run)?;
                Node::Merged(run)
            }
            PLACES => {
                let places: Places = decode_whole("run of places", item.body)?;
                places.check()?;
                Node::Places(places)
            }
            other => {
                return Err(FormatError::Future {
                    what: "node kind",
                    found: other.to_string(),
                    known: format!("1 to {PLACES}"),
                });
            }
        };
        Ok((item.refs, node))
    }
}

/// Checks a name of an entry.
pub(crate) fn is_sound_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != b"."
        && name != b".."
        && !name.contains(&b'/')
        && !name.contains(&0)
}

fn check_leaf(leaf: &Leaf, refs: usize) -> Result<(), FormatError> {
    let wrong = |why: &str| FormatError::malformed("directory", why);
    if leaf.entries.len() > LEAF_ENTRIES_MAX {
        return Err(wrong("it has too many entries in one node"));
    }
    let mut before: Option<&[u8]> = None;
    for entry in &leaf.entries {
        if !is_sound_name(&entry.name) {
            return Err(wrong("a name is not one that a file can have"));
        }
        if before.is_some_and(|before| before >= entry.name.as_slice()) {
            return Err(wrong("its names are not in order"));
        }
        before = Some(&entry.name);
        check_entry(entry, leaf.owners.len(), refs)?;
    }
    Ok(())
}

/// Checks everything about an entry but its name.
pub(crate) fn check_entry(entry: &Entry, owners: usize, refs: usize) -> Result<(), FormatError> {
    let wrong = |why: &str| {
        let name = String::from_utf8_lossy(&entry.name);
        Err(FormatError::malformed("entry", format!("{name:?}: {why}")))
    };
    let instants = [Some(entry.mtime), Some(entry.ctime), entry.btime];
    if instants.iter().flatten().any(|t| t.nanos >= 1_000_000_000) {
        return wrong("a time has too many nanoseconds");
    }
    if entry.mode > 0o7777 || entry.owner as usize >= owners {
        return wrong("its mode or owner is out of bounds");
    }
    if entry.sha256.as_ref().is_some_and(|sha| sha.len() != 32) {
        return wrong("its SHA-256 has another length than 32");
    }
    if (entry.kind == FileKind::Dir) != entry.subtree.is_some() {
        return wrong("a directory, and nothing else, has a subtree");
    }
    if (entry.kind == FileKind::Symlink) != entry.target.is_some() {
        return wrong("a symbolic link, and nothing else, has a target");
    }
    if entry.target.as_ref().is_some_and(|t| t.is_empty() || t.contains(&0)) {
        return wrong("its target is empty or has a NUL");
    }
    if matches!(entry.kind, FileKind::CharDevice | FileKind::BlockDevice) != entry.device.is_some()
    {
        return wrong("a device, and nothing else, has device numbers");
    }
    if entry.xattrs.iter().any(|x| x.name.is_empty() || x.name.contains(&0))
        || !entry.xattrs.windows(2).all(|pair| pair[0].name.as_slice() < pair[1].name.as_slice())
    {
        return wrong("its extended attributes are not in order or have no names");
    }
    if let Some(subtree) = entry.subtree
        && (subtree.node as usize >= refs || subtree.entries >= 1 << 40)
    {
        return wrong("its subtree is out of bounds");
    }
    let held = match &entry.content {
        _ if entry.kind != FileKind::File && entry.content.is_some() => {
            return wrong("only a regular file has content");
        }
        None if entry.kind == FileKind::File => 0,
        None => return Ok(()),
        Some(Content::Inline(bytes)) => bytes.len() as u64,
        Some(Content::Extents(extents)) => extents::check_extents(extents, refs)?,
        Some(Content::Tree(node)) if *node as usize >= refs => {
            return wrong("its content names no node");
        }
        Some(Content::Tree(_)) => entry.size,
    };
    if held != entry.size || entry.holes > entry.size {
        return wrong("its content has another length than the file");
    }
    Ok(())
}

fn check_inner(children: &[Child], refs: usize) -> Result<(), FormatError> {
    let wrong = |why: &str| FormatError::malformed("directory", why);
    if children.is_empty() {
        return Err(wrong("an inner node has no children"));
    }
    let mut before: Option<&[u8]> = None;
    let mut total: u64 = 0;
    for child in children {
        let sound =
            child.direct > 0 && child.direct <= child.entries && is_sound_name(&child.first);
        total = total.saturating_add(child.entries);
        if !sound || child.node as usize >= refs || total >= 1 << 40 {
            return Err(wrong("a child of an inner node is out of bounds"));
        }
        if before.is_some_and(|before| before >= child.first.as_slice()) {
            return Err(wrong("its names are not in order"));
        }
        before = Some(&child.first);
    }
    Ok(())
}

fn check_links(groups: &[LinkGroup]) -> Result<(), FormatError> {
    if groups.windows(2).all(|pair| pair[0].id < pair[1].id) {
        Ok(())
    } else {
        Err(FormatError::malformed("table of links", "its files are not in order"))
    }
}

#[cfg(test)]
#[path = "node/tests.rs"]
mod tests;
