//! The tables, and how an older set of them becomes this one: not at all.
//!
//! The index is a cache of the log, so the migration of any other version is to
//! report it as damaged; it is then made anew.

use rusqlite::Connection;

/// Raised whenever a table changes.
const VERSION: i64 = 10;

const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- Records that were folded, or found to be unreadable (problem). One that was
-- received after its deadline is late; one whose facts a checkpoint carries is covered.
-- An unreadable one blocks collection if it may be more than junk.
CREATE TABLE record (
    id BLOB PRIMARY KEY, receipt INTEGER NOT NULL, writer BLOB, chain BLOB,
    number INTEGER, problem TEXT, previous BLOB, late INTEGER NOT NULL,
    covered INTEGER NOT NULL, blocks INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX record_of_chain ON record (chain, writer);
-- Asked for by every listing, and there is hardly ever one.
CREATE INDEX record_that_blocks ON record (id)
    WHERE blocks AND problem IS NOT NULL AND NOT covered;

-- What was claimed of packs: a row for each distinct claim, by dense numbers, so
-- that chunk rows are small and a mark is a bitmap.
CREATE TABLE pack (
    number INTEGER PRIMARY KEY, id BLOB NOT NULL, claim BLOB NOT NULL,
    kind INTEGER NOT NULL, size INTEGER NOT NULL, doomed INTEGER NOT NULL,
    chunks INTEGER NOT NULL, key BLOB, frames BLOB NOT NULL,
    UNIQUE (id, claim)
);
-- Who made which of these claims, the owner or a writer with a certificate, when the
-- store received it, and by which record of which chain.
CREATE TABLE claimant (
    pack INTEGER NOT NULL, writer BLOB NOT NULL, receipt INTEGER NOT NULL,
    trusted INTEGER NOT NULL, certified INTEGER NOT NULL, chain BLOB,
    number INTEGER NOT NULL, PRIMARY KEY (pack, writer, receipt)
) WITHOUT ROWID;
-- What was said of packs that are to be deleted, claimed here or not: when the
-- earliest condemnation that counts was received, and the word that it is deleted.
CREATE TABLE fate (
    pack BLOB PRIMARY KEY, condemned INTEGER, deleted INTEGER
) WITHOUT ROWID;
-- Writers of whom nothing is believed that was received then or later.
CREATE TABLE revoked (
    writer BLOB NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (writer, since)
) WITHOUT ROWID;
-- `place` counts the chunks of the claim: with the pack's number it makes the dense
-- numbers that a mark has its bits at.
CREATE TABLE chunk (
    id BLOB NOT NULL, pack INTEGER NOT NULL, place INTEGER NOT NULL,
    start INTEGER NOT NULL, length INTEGER NOT NULL, PRIMARY KEY (id, pack)
) WITHOUT ROWID;

-- `mark` is a checksum of what stands in it beside the fact and its checksum.
CREATE TABLE snapshot (
    number INTEGER PRIMARY KEY, id BLOB NOT NULL, record BLOB NOT NULL,
    receipt INTEGER NOT NULL, writer BLOB NOT NULL, late INTEGER NOT NULL,
    source TEXT NOT NULL, taken INTEGER NOT NULL, nanos INTEGER NOT NULL, mark BLOB NOT NULL,
    fact BLOB NOT NULL, checksum BLOB NOT NULL, UNIQUE (id, record)
);
-- Has all that places a snapshot in time, so that no row need be read for it.
CREATE INDEX snapshot_in_time ON snapshot
    (id, receipt, record, writer, source, taken, nanos, mark);
-- The second in which one counts as taken, so that the newest of a source is found by itself.
CREATE INDEX snapshot_of_source ON snapshot (source, min(taken, receipt));
-- Segments of streams, by when and where in the stream they begin.
CREATE TABLE segment (
    number INTEGER PRIMARY KEY, id BLOB NOT NULL, record BLOB NOT NULL,
    receipt INTEGER NOT NULL, writer BLOB NOT NULL, late INTEGER NOT NULL,
    source TEXT NOT NULL, stream BLOB NOT NULL, after INTEGER NOT NULL, last INTEGER NOT NULL,
    begins INTEGER NOT NULL, begins_nanos INTEGER NOT NULL,
    ends INTEGER NOT NULL, ends_nanos INTEGER NOT NULL,
    fact BLOB NOT NULL, checksum BLOB NOT NULL, UNIQUE (id, record)
);
-- Has all that places a segment in time, so that no row need be read for it.
CREATE INDEX segment_in_time ON segment (source, begins, begins_nanos, after, last, ends,
    ends_nanos, stream, id, writer, receipt);
-- From where to where they lead; whoever asks for what is new finds it at the end.
CREATE INDEX segment_in_stream ON segment (stream, last, after, source, receipt, record, id,
    writer);
-- Snapshots that are states of streams.
CREATE TABLE base (
    stream BLOB NOT NULL, position INTEGER NOT NULL, snapshot BLOB NOT NULL,
    record BLOB NOT NULL, source TEXT NOT NULL, name BLOB NOT NULL,
    PRIMARY KEY (stream, position, snapshot, record)
) WITHOUT ROWID;
CREATE INDEX base_of_name ON base (name);
CREATE INDEX base_of_snapshot ON base (snapshot);
-- The greatest number tells whether any was added.
CREATE TABLE forgotten (
    number INTEGER PRIMARY KEY, snapshot BLOB NOT NULL UNIQUE, receipt INTEGER NOT NULL
);

-- Snapshots and chains that are pinned, when that was received, and by whom.
CREATE TABLE pin (
    record BLOB NOT NULL, place INTEGER NOT NULL, receipt INTEGER NOT NULL,
    writer BLOB NOT NULL, late INTEGER NOT NULL, snapshot BLOB, chain BLOB, number INTEGER,
    PRIMARY KEY (record, place)
) WITHOUT ROWID;
CREATE INDEX pin_of_snapshot ON pin (snapshot);

-- Every other fact, verbatim.
CREATE TABLE fact (
    record BLOB NOT NULL, place INTEGER NOT NULL, receipt INTEGER NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (record, place)
) WITHOUT ROWID;

-- Checkpoints, verbatim.
CREATE TABLE checkpoint (
    record BLOB NOT NULL, place INTEGER NOT NULL, receipt INTEGER NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (record, place)
) WITHOUT ROWID;

-- When a check of this machine last read a pack and found it whole.
CREATE TABLE verified (pack BLOB PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;

-- What this machine's backups saw.
CREATE TABLE scan_source (
    source TEXT PRIMARY KEY, snapshot BLOB NOT NULL, evidence INTEGER NOT NULL,
    generation INTEGER NOT NULL, roots BLOB NOT NULL
) WITHOUT ROWID;
-- Rows of the scan that was adopted last have generation 0, those of one that is running
-- its own.
CREATE TABLE scan_dir (
    number INTEGER PRIMARY KEY, source TEXT NOT NULL, path BLOB NOT NULL,
    part INTEGER NOT NULL, generation INTEGER NOT NULL, body BLOB NOT NULL,
    UNIQUE (source, path, part, generation)
);

-- What ever was in a source, for searches: the snapshots that were gone through, of which
-- the last may be unfinished, and each version of each path. No number of a snapshot is given
-- twice: `next` is greater than all that ever were.
CREATE TABLE search_source (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, next INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE search_snapshot (
    source INTEGER NOT NULL, number INTEGER NOT NULL, snapshot BLOB NOT NULL, reached BLOB,
    PRIMARY KEY (source, number)
) WITHOUT ROWID;
CREATE TABLE search_version (
    source INTEGER NOT NULL, path BLOB NOT NULL, first INTEGER NOT NULL, last INTEGER,
    body BLOB NOT NULL, checksum BLOB NOT NULL, PRIMARY KEY (source, path, first)
) WITHOUT ROWID;

-- Numbers of the mount's directories, which inode numbers are made of.
CREATE TABLE view (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
";

/// Makes the tables of an empty database, and refuses those of another version.
pub(super) fn prepare(db: &mut Connection) -> rusqlite::Result<()> {
    let version_of = |db: &Connection| -> rusqlite::Result<i64> {
        db.pragma_query_value(None, "user_version", |row| row.get(0))
    };
    if version_of(db)? == VERSION {
        return Ok(());
    }
    // Another process may make it at the same time.
    let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version = version_of(&transaction)?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if version == 0 && tables == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    } else if version != VERSION {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
            Some(format!("its schema is version {version}, this program uses {VERSION}")),
        ));
    }
    transaction.commit()
}
