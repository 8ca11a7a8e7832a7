//! `gc`: gives back the space of what nothing needs any more, while others write.
//!
//! ```text
//! list       the log and the packs; everything below is as of the store's time of that
//! mark       from the roots down: which chunks are needed
//! choose     which copy of each stays; which packs are dead, nearly dead, scattered
//! copy       what is needed of packs that go, into new packs, which are published
//! condemn    the dead and the copied: nobody builds on them from now on
//! delete     what was condemned long enough, and is still not needed
//! compact    records into a checkpoint; records that one replaced long enough are deleted
//! ```
//!
//! There is no lock. Why nothing that anybody needs is lost, whatever others do
//! meanwhile, is argued in docs/FORMAT.md, section 17; each step here names the rule
//! that it keeps. A run that is interrupted anywhere has done nothing that must be
//! undone: the next one sees what there is and goes on.
//!
//! Memory: see `packs`, `chunks` and `mark`; the copies are bounded by the writer.

mod bitmap;
mod chunks;
mod copy;
mod mark;
mod packs;
mod plan;
mod remove;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::base::units::show_span;
use crate::base::{ChunkId, PackId, Progress, SnapshotId, Stop, UnixTime, WriterId};
use crate::format::config::GRACE_SECONDS_MAX;
use crate::format::fact::{Fact, Grace, Packs as PackList};
use crate::format::item::Item;
use crate::index::{Pinned, RootRow};
use crate::ops::{Error, Result};
use crate::repo::checkpoint::{
    self, CompactOptions, Compacted, Dropped, Verified, compact, drop_covered, droppable,
};
use crate::repo::grace;
use crate::repo::log::{Chain, EncodedFact};
use crate::repo::writer::WriterOptions;
use crate::repo::{self, Repository};
use bitmap::Bitmap;
use chunks::Chunks;
use copy::Copying;
use mark::{Marked, mark};
use packs::{Pack, Packs};
use plan::{Chosen, Marks, Plan};

/// Packs of copies that are published in one record. If the run ends early, what was
/// copied and not published is copied again.
const COPIES_PER_RECORD: usize = 24;

/// How to collect.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)]
pub struct GcOptions {
    /// Only find out what would be done.
    pub dry_run: bool,
    /// Nobody else writes, which the caller answers for: what goes is deleted at once.
    pub exclusive: bool,
    /// How much of all packs may be of no use before some are rewritten. Percent.
    pub max_unused: u8,
    /// At most so many bytes of packs are rewritten in this run.
    pub max_repack: Option<u64>,
    /// When the log is compacted.
    pub compact: CompactOptions,
    /// How copies are written.
    pub writer: WriterOptions,
    /// Deletions that are under way at a time.
    pub deletions: usize,
}

impl Default for GcOptions {
    fn default() -> GcOptions {
        GcOptions {
            dry_run: false,
            exclusive: false,
            max_unused: 10,
            max_repack: None,
            compact: CompactOptions::default(),
            writer: WriterOptions::default(),
            deletions: 8,
        }
    }
}

/// A number of packs and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What was done, or in a dry run would be.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GcReport {
    /// The store's time that all this is as of.
    pub at: UnixTime,
    /// Snapshots whose content is kept.
    pub snapshots: u64,
    /// Nodes that were read to find what they need.
    pub nodes: u64,
    /// Packs in the store when the run began.
    pub before: Amount,
    /// Packs that are condemned now, and wait.
    pub condemned: Amount,
    /// Packs among those condemned or, by an exclusive run, deleted, of which what is needed
    /// was copied.
    pub rewritten: Amount,
    /// Packs out of which scattered nodes of newest snapshots were copied.
    pub gathered: Amount,
    /// Bytes of the packs that the copies are in.
    pub bytes_written: u64,
    /// Packs that nobody ever published, among those condemned or, by an exclusive run,
    /// deleted.
    pub unpublished: Amount,
    /// Packs that were deleted.
    pub deleted: Amount,
    /// Packs that are condemned and wait.
    pub waiting: Amount,
    /// Packs that are not needed and too young to be condemned.
    pub young: Amount,
    /// When the next of what waits can be deleted.
    pub next: Option<UnixTime>,
    /// Records that were merged into a checkpoint; a dry run does not find out.
    pub compacted: Compacted,
    /// Records that a checkpoint replaced long ago, and that were deleted.
    pub dropped: Dropped,
    /// Packs that could not be copied and stay, and why.
    pub failed: Vec<(String, String)>,
    /// Snapshots that came too late and whose trees cannot be read whole, which keeps nothing.
    pub late: Vec<String>,
    /// Whether it was a dry run.
    pub dry_run: bool,
}

/// What a run knows of time, and by it of everything else.
pub(crate) struct Collection {
    /// The store's time of the listing.
    at: i64,
    grace: i64,
    skew: i64,
}

impl Collection {
    /// Whether what was condemned at `condemned` may be deleted (rule C2).
    fn is_due(&self, repo: &Repository, condemned: i64) -> bool {
        !repo.rules().deletion_waits
            || condemned.saturating_add(self.grace).saturating_add(self.skew) <= self.at
    }

    /// Whether a pack may be condemned at all (rule C1).
    fn may_condemn(&self, repo: &Repository, options: &GcOptions, pack: &Pack) -> bool {
        !repo.rules().young_packs_stay
            || pack.latest <= self.at.saturating_sub(self.grace)
            || (options.exclusive && !pack.by_writers)
    }
}

/// Collects. Only the owner may; the repository need not be up to date.
///
/// # Errors
///
/// [`Error::Damaged`] if something that a snapshot needs is not there or cannot be read,
/// or a record cannot: then nothing was condemned or deleted.
pub fn gc(
    repo: &Arc<Repository>,
    options: &GcOptions,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<GcReport> {
    repo.check_collectable()?;
    progress.enter("listing");
    let synced = repo.sync(true)?;
    if let Some(name) = synced.lost {
        return Err(repo::Error::LogLost { name, store: repo.store().location() }.into());
    }
    refuse_unread_records(repo)?;
    let at = synced.at.ok_or_else(|| no_single_time(repo))?;
    let collection = Collection {
        at: at.seconds,
        grace: grace::in_force(repo, at.seconds)?,
        skew: repo.skew_seconds(),
    };
    // First of all, so that a checkpoint on which records depend is known to be whole
    // before packs go, and no record is left whose nodes are gone.
    let dropped = if options.dry_run {
        let found = droppable(repo, at, options.exclusive)?;
        Dropped { objects: found.names.len() as u64, bytes: found.bytes }
    } else {
        let Verified { sound, damaged } = checkpoint::verify(repo, progress, stop)?;
        if damaged > 0 {
            compact(repo, at, &options.compact, progress, stop)?;
        }
        drop_covered(repo, at, options.exclusive, &sound, progress, stop)?
    };
    let epoch = repo.index().epoch();
    let mut packs = Packs::load(repo)?;
    // What the log said then may have been forgotten and deleted since.
    let soon = collection.at.saturating_add(collection.grace / 4);
    if packs.listed.is_none_or(|listed| listed.seconds > soon) {
        return Err(no_single_time(repo));
    }
    let roots = Roots::find(repo, &collection, options, &mut packs)?;
    progress.enter("marking");
    let mut live = Bitmap::new(packs.bits);
    let chunks = Chunks::load(repo, &packs)?;
    let known = (&packs, &chunks);
    let newest = mark(repo, known, &roots.newest, &mut live, progress, stop)?;
    let front = live.clone();
    let others = mark(repo, known, &roots.timely, &mut live, progress, stop)?;
    refuse_broken(&newest)?;
    refuse_broken(&others)?;
    let mut report = GcReport {
        at,
        snapshots: roots.count,
        nodes: newest.nodes + others.nodes,
        dropped,
        dry_run: options.dry_run,
        ..GcReport::default()
    };
    let is_certain = roots.late.is_empty() && roots.spare.is_empty();
    let certain = if is_certain { None } else { Some(live.clone()) };
    let spare = mark(repo, known, &roots.spare, &mut live, progress, stop)?;
    report.nodes += spare.nodes;
    for (id, refs) in &roots.late {
        let marked = mark(repo, known, refs, &mut live, progress, stop)?;
        report.nodes += marked.nodes;
        if marked.lacks {
            report.late.push(id.to_string());
        }
    }
    drop(chunks);
    progress.enter("choosing");
    let mut plan = Plan::default();
    let marks = Marks { live: &live, certain: certain.as_ref().unwrap_or(&live), front: &front };
    let chosen = plan::choose(repo, &mut packs, &marks, &mut plan)?;
    drop((live, certain, front));
    // What only late or forgotten snapshots need may be gone, and holds nobody up.
    if plan.missing_count > 0 {
        return Err(missing(&plan));
    }
    let budget = plan::decide(repo, &packs, &collection, options, &mut plan);
    plan::find_scattered(repo, &packs, &chosen, budget, &mut plan);
    tell(&packs, &plan, &collection, options, &mut report);
    if options.dry_run {
        return Ok(report);
    }
    let run = Run { repo, packs: &packs, epoch, options, progress, stop };
    run.carry_out(&plan, &chosen, &roots.kept, &collection, &mut report)?;
    Ok(report)
}

/// What the run stands on while it changes things.
struct Run<'a> {
    repo: &'a Arc<Repository>,
    packs: &'a Packs,
    /// Which index all numbers are of.
    epoch: u64,
    options: &'a GcOptions,
    progress: &'a Arc<Progress>,
    stop: &'a Stop,
}

impl Run<'_> {
    fn carry_out(
        &self,
        plan: &Plan,
        chosen: &Chosen,
        snapshots: &HashSet<SnapshotId>,
        collection: &Collection,
        report: &mut GcReport,
    ) -> Result<()> {
        let Run { repo, packs, epoch, options, progress, stop } = *self;
        progress.enter("copying");
        let Chosen { needed, several, .. } = chosen;
        let copying =
            Copying { repo, packs, epoch, needed, several, whole: true, snapshots, progress, stop };
        let due_needed = plan.due.iter().filter(|at| packs.all[**at].needed > 0);
        let mut places: Vec<usize> = plan.rewrite.iter().chain(due_needed).copied().collect();
        if !repo.rules().deletion_marks_anew {
            places.clone_from(&plan.rewrite);
        }
        // Each record is a change of the whole index: the fewer the better. And each pack on
        // its way is memory, while packs are read one after the other.
        let copies =
            WriterOptions { packs_per_record: COPIES_PER_RECORD, uploads: 1, ..options.writer };
        let copied = copying.run(&places, copies)?;
        // Nodes of newest snapshots that are scattered; the packs they were in stay.
        let gathering = Copying { needed: &chosen.front, whole: false, ..copying };
        let gathered = gathering.run(&plan.gather, copies)?;
        // Statements of snapshots that stay, to which nothing refers.
        let dead_nodes: Vec<usize> =
            plan.dead.iter().filter(|at| packs.all[**at].nodes).copied().collect();
        let statements = copying.run(&dead_nodes, copies)?;
        report.gathered = amount(packs, &gathered.packs);
        report.bytes_written =
            [&copied, &gathered, &statements].map(|one| one.written.bytes_stored).iter().sum();
        let failed = copied.failed.into_iter().chain(gathered.failed);
        report.failed = failed.map(|(id, why)| (id.to_string(), why)).collect();
        let mut chain = Chain::default();
        let deadline = UnixTime::new(collection.at.saturating_add(repo.evidence_lasts()), 0);
        let done: HashSet<usize> = copied.packs.iter().copied().collect();
        let rewritten: Vec<usize> =
            plan.rewrite.iter().filter(|at| done.contains(at)).copied().collect();
        report.rewritten = amount(packs, &rewritten);
        let condemn: Vec<usize> = plan.dead.iter().chain(&rewritten).copied().collect();
        progress.enter("condemning");
        if !condemn.is_empty() {
            let facts = self.facts(&condemn, Fact::Condemn);
            let published = chain.publish_soon(repo, facts, deadline)?;
            if published.late {
                return Err(repo::Error::Late { what: "the condemnation" }.into());
            }
            let waits = collection.grace.saturating_add(collection.skew);
            let next = UnixTime::new(published.receipt.seconds.saturating_add(waits), 0);
            report.next = report.next.or(Some(next));
        }
        // Rule C2: whatever is needed of them stands elsewhere by now.
        let kept = |at: &&usize| {
            packs.all[**at].needed == 0 || done.contains(*at) || !repo.rules().deletion_marks_anew
        };
        let mut delete: Vec<usize> = plan.due.iter().filter(kept).copied().collect();
        if options.exclusive {
            delete.extend(&condemn);
        }
        if !delete.is_empty() {
            let facts = self.facts(&delete, Fact::Deleted);
            chain.publish_soon(repo, facts, deadline)?;
        }
        delete.extend(&plan.leftover);
        progress.enter("deleting");
        let ids: Vec<PackId> = delete.iter().map(|at| packs.all[*at].id).collect();
        remove::packs(repo, &ids, options.deletions, stop)?;
        report.condemned = amount(packs, if options.exclusive { &[] } else { &condemn });
        if options.exclusive {
            report.next = None;
        }
        report.deleted = amount(packs, &delete);
        progress.enter("compacting");
        let at = UnixTime::new(collection.at, 0);
        report.compacted = compact(repo, at, &options.compact, progress, stop)?;
        Ok(())
    }

    fn facts(&self, places: &[usize], fact: impl Fn(PackList) -> Fact) -> Vec<EncodedFact> {
        const IDS_PER_FACT: usize = 10_000;
        let ids: Vec<PackId> = places.iter().map(|at| self.packs.all[*at].id).collect();
        ids.chunks(IDS_PER_FACT)
            .map(|ids| EncodedFact::of(&fact(PackList { packs: ids.to_vec() })))
            .collect()
    }
}

fn amount(packs: &Packs, places: &[usize]) -> Amount {
    let bytes = places.iter().map(|at| packs.all[*at].size).sum();
    Amount { packs: places.len() as u64, bytes }
}

/// What the plan comes to, before anything is done.
fn tell(
    packs: &Packs,
    plan: &Plan,
    collection: &Collection,
    options: &GcOptions,
    report: &mut GcReport,
) {
    let all: Vec<usize> = (0..packs.all.len()).filter(|at| packs.all[*at].present).collect();
    report.before = amount(packs, &all);
    let condemn: Vec<usize> = plan.dead.iter().chain(&plan.rewrite).copied().collect();
    report.rewritten = amount(packs, &plan.rewrite);
    report.gathered = amount(packs, &plan.gather);
    let unpublished: Vec<usize> =
        plan.dead.iter().filter(|at| !packs.all[**at].claimed).copied().collect();
    report.unpublished = amount(packs, &unpublished);
    let mut delete: Vec<usize> = plan.due.iter().chain(&plan.leftover).copied().collect();
    match options.exclusive {
        true => delete.extend(&condemn),
        false => report.condemned = amount(packs, &condemn),
    }
    report.deleted = amount(packs, &delete);
    report.waiting = amount(packs, &plan.waiting);
    report.young = amount(packs, &plan.young);
    let first = plan.waiting.iter().filter_map(|at| packs.all[*at].condemned()).min();
    report.next = first.map(|condemned| {
        UnixTime::new(condemned.saturating_add(collection.grace + collection.skew), 0)
    });
}

/// What the mark begins with.
#[derive(Default)]
struct Roots {
    /// References of the newest snapshot of each source.
    newest: Vec<ChunkId>,
    /// References of all others that count.
    timely: Vec<ChunkId>,
    /// References of what is kept as far as it is there, and holds nobody up if it is not:
    /// of snapshots that are forgotten and that somebody may still build on, since whoever
    /// collected alone may have deleted what they need; and of checkpoints, whose facts were
    /// just read.
    spare: Vec<ChunkId>,
    /// Snapshots that came late, one by one: parts of them may be gone.
    late: Vec<(SnapshotId, Vec<ChunkId>)>,
    /// Snapshots that are not forgotten.
    kept: HashSet<SnapshotId>,
    count: u64,
}

impl Roots {
    fn find(
        repo: &Repository,
        collection: &Collection,
        options: &GcOptions,
        packs: &mut Packs,
    ) -> Result<Roots> {
        let since = collection.at.saturating_sub(collection.grace);
        let owner = WriterId(repo.config().owner.0);
        let pins = match repo.rules().pins_are_roots {
            true => repo.index().pins(since).map_err(repo::Error::from)?,
            false => Vec::new(),
        };
        let mut pinned: HashSet<SnapshotId> = HashSet::new();
        for pin in pins {
            if options.exclusive && pin.writer == owner {
                continue;
            }
            match pin.pinned {
                Pinned::Snapshot(id) => drop(pinned.insert(id)),
                Pinned::Chain(chain, upto) => {
                    let claims = repo.index().claims_of_chain(pin.writer, chain, upto);
                    for claim in claims.map_err(repo::Error::from)? {
                        if let Some(at) = packs.place(claim) {
                            packs.all[at].pinned = true;
                        }
                    }
                }
            }
        }
        let mut roots = Roots::default();
        let mut newest: std::collections::BTreeMap<String, (i64, Vec<ChunkId>)> =
            std::collections::BTreeMap::new();
        repo.index().each_root(|root: RootRow| -> Result<()> {
            let young = repo.rules().young_snapshots_are_roots
                && root.receipt > since
                && !(options.exclusive && root.writer == owner);
            if root.forgotten && !young && !pinned.contains(&root.id) {
                return Ok(());
            }
            let name = format!("snapshot {}", root.id);
            let (refs, fact) = Fact::decode(&root.fact).map_err(repo::Error::object(name))?;
            roots.count += 1;
            if !root.forgotten {
                roots.kept.insert(root.id);
            }
            if root.late {
                roots.late.push((root.id, refs));
                return Ok(());
            }
            if root.forgotten {
                roots.spare.extend(refs);
                return Ok(());
            }
            if let Fact::Snapshot(snapshot) = fact {
                let best = newest.entry(snapshot.source).or_insert((i64::MIN, Vec::new()));
                if best.0 < root.receipt {
                    roots.timely.append(&mut best.1);
                    *best = (root.receipt, refs);
                    return Ok(());
                }
            }
            roots.timely.extend(refs);
            Ok(())
        })?;
        roots.newest = newest.into_values().flat_map(|(_, refs)| refs).collect();
        for (_, fact) in repo.index().other_facts().map_err(repo::Error::from)? {
            let name = format!("a fact in {}", repo.index().path().display());
            let item = Item::decode("fact", &fact).map_err(repo::Error::object(name))?;
            match Fact::decode(&fact) {
                Ok((refs, Fact::Checkpoint(_))) => roots.spare.extend(refs),
                _ => roots.timely.extend(item.refs),
            }
        }
        Ok(roots)
    }
}

/// A record that cannot be read, and that somebody may have meant, may need anything.
fn refuse_unread_records(repo: &Repository) -> Result<()> {
    let blocking = repo.index().blocking_records().map_err(repo::Error::from)?;
    let Some(first) = blocking.first() else { return Ok(()) };
    Err(Error::Damaged {
        what: format!(
            "{} of the log's records cannot be read, as log/…-{} ({}): what they need is not \
             known, so nothing is collected. Bring them back, or delete them from the store if \
             they are junk",
            blocking.len(),
            first.id,
            first.problem.as_deref().unwrap_or("unknown")
        ),
    })
}

/// The store's state is not known as of one time.
fn no_single_time(repo: &Repository) -> Error {
    Error::Invalid {
        what: format!(
            "{} does not tell its time, or listing it took too long: nothing can be collected \
             there",
            repo.store().location()
        ),
    }
}

fn refuse_broken(marked: &Marked) -> Result<()> {
    let Some((id, why)) = marked.broken.first() else { return Ok(()) };
    Err(Error::Damaged {
        what: format!(
            "{} chunks that snapshots need cannot be read, as {id} ({why}): nothing is collected. \
             `asof check` says which snapshots and files they belong to",
            marked.broken_count
        ),
    })
}

fn missing(plan: &Plan) -> Error {
    let first = plan.missing.first().map_or_else(String::new, ToString::to_string);
    Error::Damaged {
        what: format!(
            "{} chunks that snapshots need are in no pack that is there, as {first}: nothing is \
             collected. `asof check` says which snapshots and files they belong to",
            plan.missing_count
        ),
    }
}

/// Makes collectors wait so long from now on, or as long as `asof.json` says if that is
/// longer.
///
/// # Errors
///
/// [`Error::Invalid`] if it is less than `asof.json` says, or too long.
pub fn set_grace(repo: &Repository, seconds: u64) -> Result<()> {
    let least = repo.config().parameters.grace_seconds;
    if seconds < least || seconds > GRACE_SECONDS_MAX {
        return Err(Error::Invalid {
            what: format!(
                "the grace period of this repository can be from {} to {}: machines that only \
                 write rely on the first, which `init` fixed",
                show_span(Duration::from_secs(least)),
                show_span(Duration::from_secs(GRACE_SECONDS_MAX))
            ),
        });
    }
    repo.check_collectable()?;
    let fact = EncodedFact::of(&Fact::Grace(Grace { seconds }));
    Chain::default().publish(repo, vec![fact], None)?;
    Ok(())
}
