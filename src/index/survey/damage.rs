//! What a check finds out about trees: which chunks are lost, what nodes add up to, and
//! which snapshots and files the damage is of.

use rusqlite::Row;

use super::{Survey, signed};
use crate::base::{ChunkId, SnapshotId};
use crate::index::Result;

/// A claim of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimedChunk {
    /// The length that is claimed.
    pub length: u32,
    /// What is wrong with the pack, and whether the chunk may be read nevertheless.
    pub bad: Option<(i64, bool)>,
}

/// What the node of a tree says of all that is below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSums {
    /// Whether it is a part of a file, and not of a directory.
    pub file: bool,
    /// Whether it could be read, and the other fields mean something.
    pub known: bool,
    /// Entries of the directory itself.
    pub direct: u64,
    /// Entries at any depth.
    pub entries: u64,
    /// Bytes of files at any depth; of a part of a file, its length.
    pub bytes: u64,
    /// Directories right in the directory.
    pub subdirs: u64,
    /// How many nodes are on the way to the farthest leaf, itself included.
    pub height: u32,
    /// Whether there are files with several names at any depth.
    pub links: bool,
    /// The least name in it.
    pub first: Vec<u8>,
    /// The greatest.
    pub last: Vec<u8>,
}

/// Something that is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamageRow {
    /// Its number in this survey.
    pub number: i64,
    /// The object.
    pub name: String,
    /// What is wrong.
    pub why: String,
    /// How many chunks that are needed cannot be read because of it.
    pub chunks: u64,
    /// How many files and directories are concerned.
    pub files: u64,
}

/// Damage: what is wrong for certain, or cost something that is needed.
const IS_DAMAGE: &str = "(certain
    OR EXISTS (SELECT 1 FROM below WHERE below.object = number)
    OR EXISTS (SELECT 1 FROM concerned WHERE concerned.object = number)
    OR EXISTS (SELECT 1 FROM segment_loss WHERE segment_loss.object = number))";

impl Survey {
    /// Every claim of a chunk.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn chunk(&self, id: &ChunkId) -> Result<Vec<ClaimedChunk>> {
        self.all(
            "SELECT length, object, doubt FROM chunk LEFT JOIN bad ON claim = pack WHERE id = ?1",
            [id.0],
            |row| {
                let object: Option<i64> = row.get(1)?;
                let doubt: Option<bool> = row.get(2)?;
                Ok(ClaimedChunk { length: row.get(0)?, bad: object.zip(doubt) })
            },
        )
    }

    /// Notes a chunk that is needed: that it cannot be read because of these objects,
    /// or, if there are none, that it can.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn set_lost(&self, chunk: &ChunkId, objects: &[i64]) -> Result<()> {
        let objects = if objects.is_empty() { &[0] } else { objects };
        for object in objects {
            self.execute("INSERT OR IGNORE INTO lost VALUES (?1, ?2)", (chunk.0, object))?;
        }
        Ok(())
    }

    /// What was noted of a chunk; none if nothing was.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn lost(&self, chunk: &ChunkId) -> Result<Option<Vec<i64>>> {
        let noted: Vec<i64> =
            self.all("SELECT object FROM lost WHERE chunk = ?1", [chunk.0], |row| row.get(0))?;
        let known = !noted.is_empty();
        Ok(known.then(|| noted.into_iter().filter(|object| *object != 0).collect()))
    }

    /// Notes a node that was gone through, and the damage at it or below it.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn set_node(
        &self,
        id: &ChunkId,
        sums: &NodeSums,
        damage: impl IntoIterator<Item = i64>,
    ) -> Result<()> {
        let counts = (signed(sums.direct), signed(sums.entries), signed(sums.bytes));
        self.execute(
            "INSERT OR REPLACE INTO node VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            (
                id.0,
                sums.file,
                sums.known,
                counts.0,
                counts.1,
                counts.2,
                signed(sums.subdirs),
                sums.height,
                sums.links,
                &sums.first,
                &sums.last,
            ),
        )?;
        for object in damage {
            self.execute("INSERT OR IGNORE INTO below VALUES (?1, ?2)", (id.0, object))?;
        }
        Ok(())
    }

    /// A node that was gone through.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn node(&self, id: &ChunkId) -> Result<Option<NodeSums>> {
        let unsigned = |row: &Row<'_>, at| row.get(at).map(i64::cast_unsigned);
        self.one("SELECT * FROM node WHERE id = ?1", [id.0], |row| {
            Ok(NodeSums {
                file: row.get(1)?,
                known: row.get(2)?,
                direct: unsigned(row, 3)?,
                entries: unsigned(row, 4)?,
                bytes: unsigned(row, 5)?,
                subdirs: unsigned(row, 6)?,
                height: row.get(7)?,
                links: row.get(8)?,
                first: row.get(9)?,
                last: row.get(10)?,
            })
        })
    }

    /// How many nodes were gone through.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn nodes(&self) -> Result<u64> {
        Ok(self.one("SELECT count(*) FROM node", [], |row| row.get(0))?.unwrap_or(0))
    }

    /// The damage at a node or below it.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn below(&self, node: &ChunkId) -> Result<Vec<i64>> {
        self.all("SELECT object FROM below WHERE node = ?1", [node.0], |row| row.get(0))
    }

    /// Notes that damage concerns a snapshot.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn concern(&self, object: i64, snapshot: &SnapshotId) -> Result<()> {
        self.execute("INSERT OR IGNORE INTO concerned VALUES (?1, ?2)", (object, snapshot.0))?;
        Ok(())
    }

    /// Notes that damage concerns a file.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn name_file(&self, object: i64, name: &[u8]) -> Result<()> {
        self.execute("INSERT OR IGNORE INTO file VALUES (?1, ?2)", (object, name))?;
        Ok(())
    }

    /// Notes that the files of a directory, given by any hash, are named. False if they
    /// were before.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn name_dir(&self, dir: &[u8; 32]) -> Result<bool> {
        Ok(self.execute("INSERT OR IGNORE INTO named VALUES (?1)", [dir])? > 0)
    }

    /// Notes one of several names of a file, and its rank.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn add_link(&self, device: u32, inode: u64, rank: u64) -> Result<()> {
        self.execute(
            "INSERT INTO link VALUES (?1, ?2, ?3, 1) ON CONFLICT DO UPDATE
             SET first = min(first, excluded.first), count = count + 1",
            (device, signed(inode), signed(rank)),
        )?;
        Ok(())
    }

    /// The rank of the first name that was noted of a file, and how many were.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn link(&self, device: u32, inode: u64) -> Result<Option<(u64, u64)>> {
        let sql = "SELECT first, count FROM link WHERE device = ?1 AND inode = ?2";
        self.one(sql, (device, signed(inode)), |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// How many files have more than one name; the notes of them end.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn end_links(&self) -> Result<u64> {
        let several =
            self.one("SELECT count(*) FROM link WHERE count > 1", [], |row| row.get(0))?;
        self.execute("DELETE FROM link", [])?;
        Ok(several.unwrap_or(0))
    }

    /// How much damage there is, and the first of it, in the order of the names.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn damage(&self, most: usize) -> Result<(u64, Vec<DamageRow>)> {
        let count = format!("SELECT count(*) FROM object WHERE {IS_DAMAGE}");
        let count = self.one(&count, [], |row| row.get(0))?.unwrap_or(0);
        let sql = format!(
            "SELECT number, name, why, (SELECT count(*) FROM lost WHERE lost.object = number),
                 (SELECT count(*) FROM file WHERE file.object = number)
             FROM object WHERE {IS_DAMAGE} ORDER BY name LIMIT ?1"
        );
        let rows = self.all(&sql, [most], |row| {
            Ok(DamageRow {
                number: row.get(0)?,
                name: row.get(1)?,
                why: row.get(2)?,
                chunks: row.get(3)?,
                files: row.get(4)?,
            })
        })?;
        Ok((count, rows))
    }

    /// Objects with which something is wrong that costs nothing that is needed: the
    /// first few, with what is wrong.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn harmless(&self, most: usize) -> Result<Vec<(String, String)>> {
        let sql =
            format!("SELECT name, why FROM object WHERE NOT {IS_DAMAGE} ORDER BY name LIMIT ?1");
        self.all(&sql, [most], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// The snapshots that damage concerns.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn concerned(&self, object: i64) -> Result<Vec<SnapshotId>> {
        let sql = "SELECT snapshot FROM concerned WHERE object = ?1";
        self.all(sql, [object], |row| row.get(0).map(SnapshotId))
    }

    /// How many snapshots any damage concerns.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn snapshots_concerned(&self) -> Result<u64> {
        let sql = "SELECT count(DISTINCT snapshot) FROM concerned";
        Ok(self.one(sql, [], |row| row.get(0))?.unwrap_or(0))
    }

    /// The first files that damage concerns, in order.
    ///
    /// # Errors
    ///
    /// [`crate::index::Error`].
    pub fn files(&self, object: i64, most: usize) -> Result<Vec<Vec<u8>>> {
        let sql = "SELECT name FROM file WHERE object = ?1 ORDER BY name LIMIT ?2";
        self.all(sql, (object, most), |row| row.get(0))
    }
}
