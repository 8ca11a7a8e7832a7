//! `verify-log`: whether the log is all that was put there, and says only what its signers
//! may say.
//!
//! It goes by the store alone; of what this machine knows it believes only which records
//! an earlier run saw last (`verify_log/heads.rs`):
//!
//! ```text
//! list         every name in log/; records that stand there twice
//! read         each record: bytes, signature, certificate, who may say what, its times
//!              beside the receipt
//! checkpoints  what they carry of records that left the log
//! chains       numbers, hashes and receipts in order; the heads of the run before
//! ```
//!
//! What is found stops nothing. A listing may miss what was put lately, so before anything
//! is said to be missing the log is listed again.
//!
//! Four records are read at a time, of which one may be larger than 32 MiB, and a node of a
//! checkpoint. Memory: some 300 bytes for each record of the log and of checkpoints; 200
//! for each chain that was seen before; with `all`, what is listed.

mod carried;
mod chains;
mod facts;
mod finding;
mod heads;
mod read;
mod times;
mod writers;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use crate::base::{Progress, RecordId, SnapshotId, Stop, UnixTime, WriterId};
use crate::format::names::Hour;
use crate::index::ChainLink;
use crate::ops::Result;
use crate::repo::{self, Repository};

pub use finding::{About, Finding, FindingKind, Severity};
pub use writers::WriterRow;

use chains::Judged;
use facts::{Covers, Said};
use finding::Findings;
use heads::Heads;
use read::Standing;
use times::Room;
use writers::Writers;

/// How to verify a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerifyOptions {
    /// List every record, and not only what is found.
    pub all: bool,
    /// Compare with nothing that was seen before, and begin anew to remember it.
    pub new_heads: bool,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// Records in the log, read or not.
    pub records: u64,
    /// Records that left the log, which a checkpoint carries.
    pub records_carried: u64,
    /// Their chains.
    pub chains: u64,
    /// Who published them.
    pub writers: Vec<WriterRow>,
    /// How many problems there are.
    pub problems: u64,
    /// How many notices.
    pub notices: u64,
    /// How many findings of each kind.
    pub kinds: BTreeMap<FindingKind, u64>,
    /// The first thousand of each severity: problems first, in the order of receipts.
    pub findings: Vec<Finding>,
    /// The heads that are kept for the next run.
    pub heads: HeadsKept,
    /// Every record of the log, if that was asked for, in the order of receipts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Vec<LogRow>>,
}

/// The heads of chains that this machine remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeadsKept {
    /// The file that they are in.
    pub file: String,
    /// How many there are.
    pub chains: u64,
    /// When those were seen that this log was compared with; none if it was with none.
    pub since: Option<UnixTime>,
}

/// A record of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogRow {
    /// Which.
    #[serde(flatten)]
    pub about: About,
    /// Whether it was received after its deadline.
    pub late: bool,
    /// How many facts of each kind it has that its signer may publish.
    pub facts: BTreeMap<&'static str, u64>,
    /// Of which sources its snapshots and segments are.
    pub sources: BTreeSet<String>,
}

impl LogRow {
    fn of(about: &About) -> LogRow {
        let (facts, sources) = (BTreeMap::new(), BTreeSet::new());
        LogRow { about: about.clone(), late: false, facts, sources }
    }
}

/// A record of somebody who may publish, in its chain.
struct Seen {
    link: ChainLink,
    /// When it was received, if a checkpoint says so.
    carried: Option<UnixTime>,
    claimed: Option<UnixTime>,
    checkpoint: bool,
}

/// A checkpoint in the log.
struct Point {
    id: RecordId,
    hour: Hour,
    receipt: UnixTime,
    late: bool,
    covers: Covers,
    /// Whether it was read.
    done: bool,
}

/// Which snapshots there are, and which there must have been.
#[derive(Default)]
struct Lineage {
    published: HashSet<SnapshotId>,
    forgotten: HashSet<SnapshotId>,
    /// Those that others were compared with, each with the record of one of these.
    parents: BTreeMap<SnapshotId, RecordId>,
}

impl Lineage {
    fn add(&mut self, record: RecordId, said: &mut Said) {
        for (id, parent) in said.snapshots.drain(..) {
            self.published.insert(id);
            if let Some(parent) = parent {
                self.parents.entry(parent).or_insert(record);
            }
        }
        self.forgotten.extend(said.forgotten.drain(..));
    }

    fn absorb(&mut self, other: Lineage) {
        self.published.extend(other.published);
        self.forgotten.extend(other.forgotten);
        self.parents.extend(other.parents);
    }
}

/// What all steps share.
struct Verify<'a> {
    repo: &'a Repository,
    progress: &'a Progress,
    stop: &'a Stop,
    room: Room,
    /// The records that were listed.
    standing: HashMap<RecordId, Standing>,
    /// Names that are no record's, and those under which one stands once more.
    strays: HashSet<String>,
    copies: HashSet<(Hour, RecordId)>,
    seen: Vec<Seen>,
    points: Vec<Point>,
    /// What checkpoints that count stand for.
    covered: HashSet<RecordId>,
    complete_after: Option<i64>,
    /// When the newest of them was received.
    newest: Option<UnixTime>,
    /// From which receipt on writers are not believed. Seconds since 1970.
    revoked: HashMap<WriterId, i64>,
    lineage: Lineage,
    writers: Writers,
    findings: Findings,
    log: Option<Vec<LogRow>>,
    /// Whether the index was brought up to date, to find nodes that were moved.
    synced: bool,
}

/// Verifies the log of a repository. What is wrong is no error: it is in the report.
///
/// The heads that were seen are kept on this machine for the next run; those of before
/// that are not there any more stay, so that they are told of again.
///
/// Costs a LIST of the log, and a GET for each record and each node of a checkpoint.
///
/// # Errors
///
/// [`crate::ops::Error::Heads`] if the file with the heads is damaged. If the store does
/// not answer, the keys at hand cannot read, or it was asked to stop; no heads are kept
/// then.
pub fn verify_log(
    repo: &Repository,
    options: VerifyOptions,
    progress: &Progress,
    stop: &Stop,
) -> Result<VerifyReport> {
    if !repo.keys().can_read() {
        let needs = "a passphrase: certificates, facts and claimed times are sealed; without one, \
                     `check --store-only` compares records with their names, and no more can be told";
        return Err(repo::Error::NotAllowed { action: "verifying the log", needs }.into());
    }
    let path = heads::path(repo);
    let kept = match options.new_heads {
        true => None,
        false => heads::load(&path, repo.config().repository)?,
    };
    let mut verify = Verify::new(repo, options, progress, stop);
    verify.gather()?;
    verify.checkpoints()?;
    let mut judged = verify.judge(kept.as_ref());
    if judged.lacks && verify.gather()? {
        verify.checkpoints()?;
        judged = verify.judge(kept.as_ref());
    }
    let heads = Heads { at: repo.store_now(), of: std::mem::take(&mut judged.heads) };
    heads::save(&path, repo.config().repository, &heads)?;
    let heads = HeadsKept {
        file: path.display().to_string(),
        chains: heads.of.len() as u64,
        since: kept.map(|kept| kept.at),
    };
    Ok(verify.finish(judged, heads))
}

impl<'a> Verify<'a> {
    fn new(
        repo: &'a Repository,
        options: VerifyOptions,
        progress: &'a Progress,
        stop: &'a Stop,
    ) -> Verify<'a> {
        Verify {
            repo,
            progress,
            stop,
            room: Room::of(repo.skew_seconds()),
            standing: HashMap::new(),
            strays: HashSet::new(),
            copies: HashSet::new(),
            seen: Vec::new(),
            points: Vec::new(),
            covered: HashSet::new(),
            complete_after: None,
            newest: None,
            revoked: HashMap::new(),
            lineage: Lineage::default(),
            writers: Writers::default(),
            findings: Findings::default(),
            log: options.all.then(Vec::new),
            synced: false,
        }
    }

    fn go_on(&self) -> Result<()> {
        if self.stop.is_raised() { Err(repo::Error::Interrupted.into()) } else { Ok(()) }
    }

    /// Notes revocations. Of several of one writer the earliest holds.
    fn revoke(&mut self, revoked: Vec<(WriterId, i64)>) {
        for (writer, since) in revoked {
            let known = self.revoked.entry(writer).or_insert(since);
            *known = (*known).min(since);
        }
    }

    fn finish(self, judged: Judged, heads: HeadsKept) -> VerifyReport {
        let mut findings = self.findings;
        judged.findings.into_iter().for_each(|finding| findings.add(finding));
        findings.kept.sort_by(|a, b| {
            let order = |one: &Finding| (one.severity, one.about.received, one.about.number);
            order(a).cmp(&order(b)).then_with(|| a.about.object.cmp(&b.about.object))
        });
        let writers = self.writers.0.into_values().map(|row| {
            let records = judged.records.get(&row.writer).copied().unwrap_or_default();
            let since = self.revoked.get(&row.writer).copied();
            let revoked_from = since.map(|seconds| UnixTime::new(seconds, 0));
            WriterRow { records, revoked_from, ..row }
        });
        let mut log = self.log;
        if let Some(log) = &mut log {
            log.sort_by(|a, b| {
                let order = |one: &LogRow| (one.about.received, one.about.number);
                order(a).cmp(&order(b)).then_with(|| a.about.object.cmp(&b.about.object))
            });
        }
        VerifyReport {
            records: self.standing.len() as u64,
            records_carried: judged.carried,
            chains: judged.chains,
            writers: writers.collect(),
            problems: findings.problems,
            notices: findings.notices,
            kinds: findings.kinds,
            findings: findings.kept,
            heads,
            log,
        }
    }
}
