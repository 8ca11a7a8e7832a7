//! What is to be done with each pack, decided from the mark and the facts alone.
//!
//! One pass over all chunks in the order of their ids: all copies of a chunk are
//! together then, and one of them is chosen to stay. The choice is a function of the
//! facts, so that two collectors that know the same decide the same; the newest copy
//! stays, so that what was rewritten makes what it was rewritten from superfluous.

use std::collections::{BTreeMap, HashSet};

use super::bitmap::Bitmap;
use super::packs::Packs;
use super::{Collection, GcOptions};
use crate::base::ChunkId;
use crate::index::ChunkRow;
use crate::ops::Result;
use crate::repo::Repository;

/// A pack with less than this part of the usual size is small.
const SMALL_PART: u64 = 16;
/// Small packs are gathered when there are so many.
const SMALL_MANY: usize = 64;
/// Packs that hold nodes of newest snapshots are gathered when there are more than
/// this many times those that would do, and these more.
const SCATTERED: u64 = 4;
const SCATTERED_MORE: usize = 8;
/// So many chunks that are nowhere are named.
const NAMED_MAX: usize = 20;

/// What is to be done. Packs by their places in [`Packs::all`].
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Nothing in them is needed: to be condemned.
    pub(super) dead: Vec<usize>,
    /// What is needed of them is to be copied, and they are to be condemned.
    pub(super) rewrite: Vec<usize>,
    /// Only their nodes of newest snapshots are to be copied.
    pub(super) gather: Vec<usize>,
    /// Condemned long enough: what is needed of them is to be copied, if anything is,
    /// and they are to be deleted.
    pub(super) due: Vec<usize>,
    /// Said to be deleted, and still there.
    pub(super) leftover: Vec<usize>,
    /// Condemned, and not long enough.
    pub(super) waiting: Vec<usize>,
    /// Not needed, but too young to be condemned.
    pub(super) young: Vec<usize>,
    /// Chunks that are needed and in no pack that is there: some, and how many.
    pub(super) missing: Vec<ChunkId>,
    pub(super) missing_count: u64,
}

/// The marks that a choice is made from.
pub(super) struct Marks<'a> {
    /// Everything that is live.
    pub(super) live: &'a Bitmap,
    /// What must be there: live through snapshots that came in time.
    pub(super) certain: &'a Bitmap,
    /// What the newest snapshots need.
    pub(super) front: &'a Bitmap,
}

/// What was chosen to stay.
pub(super) struct Chosen {
    /// The copies that are needed.
    pub(super) needed: Bitmap,
    /// Of these, the ones that are needed beside another of the same chunk.
    pub(super) several: Bitmap,
    /// Of these, the nodes of newest snapshots.
    pub(super) front: Bitmap,
    /// Bytes of those nodes, by the pack that they are in.
    held: BTreeMap<usize, u64>,
}

/// Chooses for every chunk that is live the copies that are needed, and counts them by
/// pack.
pub(super) fn choose(
    repo: &Repository,
    packs: &mut Packs,
    marks: &Marks<'_>,
    plan: &mut Plan,
) -> Result<Chosen> {
    let rules = *repo.rules();
    let mut needed = Bitmap::new(packs.bits);
    let mut several = Bitmap::new(packs.bits);
    let mut front = Bitmap::new(packs.bits);
    let mut held: BTreeMap<usize, u64> = BTreeMap::new();
    repo.index().each_chunk(|id: &ChunkId, rows: &[ChunkRow]| -> Result<()> {
        for row in rows {
            if let Some(at) = packs.place(row.pack) {
                packs.all[at].content += u64::from(row.length);
            }
        }
        let has =
            |marks: &Bitmap| rows.iter().any(|row| marks.contains(packs.bit(row.pack, row.place)));
        if !has(marks.live) {
            return Ok(());
        }
        let present = |row: &&ChunkRow| packs.of_claim(row.pack).is_some_and(|p| p.present);
        let counts = |row: &&ChunkRow| {
            packs.of_claim(row.pack).is_some_and(|pack| {
                pack.stands() && (packs.is_trusted(row.pack) || !rules.only_trusted_copies_count)
            })
        };
        let best = rows.iter().filter(counts).max_by_key(|row| {
            packs.of_claim(row.pack).map(|pack| (pack.vouched, pack.id, row.pack))
        });
        let chosen: Vec<ChunkRow> = match best {
            Some(best) => vec![*best],
            // Nobody can be relied on: whoever has it may be the only one.
            // Without the rule each copy that is there would excuse the others.
            None if !rules.copies_must_stand && rows.iter().filter(present).count() > 1 => {
                return Ok(());
            }
            None => rows.iter().filter(present).copied().collect(),
        };
        if chosen.is_empty() && has(marks.certain) {
            plan.missing_count += 1;
            if plan.missing.len() < NAMED_MAX {
                plan.missing.push(*id);
            }
        }
        let is_front = has(marks.front);
        let alone = chosen.len() == 1;
        for row in chosen {
            let bit = packs.bit(row.pack, row.place);
            needed.insert(bit);
            if !alone {
                several.insert(bit);
            }
            let Some(at) = packs.place(row.pack) else { continue };
            let is_nodes = packs.is_nodes(row.pack);
            let pack = &mut packs.all[at];
            pack.needed += u64::from(row.length);
            if is_front && is_nodes && pack.stands() {
                front.insert(bit);
                *held.entry(at).or_default() += u64::from(row.length);
            }
        }
        Ok(())
    })?;
    Ok(Chosen { needed, several, front, held })
}

/// Decides what happens to each pack. Returns how many bytes of packs may still be copied.
pub(super) fn decide(
    repo: &Repository,
    packs: &Packs,
    collection: &Collection,
    options: &GcOptions,
    plan: &mut Plan,
) -> u64 {
    let mut partly = Vec::new();
    let mut kept_bytes: u64 = 0;
    for (at, pack) in packs.all.iter().enumerate() {
        if pack.deleted() && pack.needed > 0 && pack.present {
            // It should be gone, and nothing that can be relied on has what it has.
            plan.due.push(at);
        } else if pack.deleted() {
            if pack.present {
                plan.leftover.push(at);
            }
        } else if let Some(condemned) = pack.condemned() {
            let due = collection.is_due(repo, condemned) || (options.exclusive && !pack.by_writers);
            if due { plan.due.push(at) } else { plan.waiting.push(at) }
        } else if pack.pinned {
            kept_bytes += pack.size;
        } else if !collection.may_condemn(repo, options, pack) {
            if pack.needed == 0 {
                plan.young.push(at);
            }
            kept_bytes += pack.size;
        } else if pack.needed == 0 {
            plan.dead.push(at);
        } else {
            kept_bytes += pack.size;
            partly.push(at);
        }
    }
    choose_rewrites(repo, packs, options, plan, &partly, kept_bytes)
}

fn choose_rewrites(
    repo: &Repository,
    packs: &Packs,
    options: &GcOptions,
    plan: &mut Plan,
    partly: &[usize],
    kept_bytes: u64,
) -> u64 {
    // Of content that is not needed a pack's bytes have the same part, more or less.
    let unused = |at: usize| {
        let pack = &packs.all[at];
        let spare = pack.content.saturating_sub(pack.needed);
        u128::from(pack.size) * u128::from(spare) / u128::from(pack.content.max(1))
    };
    let share = |at: usize| {
        let pack = &packs.all[at];
        u128::from(pack.needed) * 100 / u128::from(pack.content.max(1))
    };
    let mut total: u128 = partly.iter().map(|at| unused(*at)).sum();
    let allowed = u128::from(kept_bytes) * u128::from(options.max_unused) / 100;
    let mut order: Vec<usize> = partly.to_vec();
    order.sort_by_key(|at| (share(*at), packs.all[*at].id));
    let mut budget = options.max_repack.unwrap_or(u64::MAX);
    for at in order {
        if total <= allowed {
            break;
        }
        let size = packs.all[at].size;
        if size > budget {
            continue;
        }
        budget -= size;
        total -= unused(at);
        plan.rewrite.push(at);
    }
    let small = repo.config().parameters.pack_bytes / SMALL_PART;
    let chosen: HashSet<usize> = plan.rewrite.iter().copied().collect();
    let is_small = |at: &&usize| packs.all[**at].size < small && !chosen.contains(at);
    let mut found: Vec<usize> = partly.iter().filter(is_small).copied().collect();
    if found.len() >= SMALL_MANY {
        found.sort_by_key(|at| (packs.all[*at].latest, packs.all[*at].id));
        for at in found {
            let size = packs.all[at].size;
            if size <= budget {
                budget -= size;
                plan.rewrite.push(at);
            }
        }
    }
    plan.rewrite.sort_unstable();
    budget
}

/// Finds the packs that nodes of the newest snapshots are scattered over, if there are
/// many more than there need be, up to `budget` bytes. What lies together already stays
/// where it is.
pub(super) fn find_scattered(
    repo: &Repository,
    packs: &Packs,
    chosen: &Chosen,
    mut budget: u64,
    plan: &mut Plan,
) {
    let bytes: u64 = chosen.held.values().sum();
    let ideal = bytes / repo.config().parameters.pack_bytes.max(1) + 1;
    let many = usize::try_from(ideal * SCATTERED).unwrap_or(usize::MAX);
    if chosen.held.len() <= many.saturating_add(SCATTERED_MORE) {
        return;
    }
    let rewritten: HashSet<usize> = plan.rewrite.iter().copied().collect();
    for (at, front) in &chosen.held {
        let pack = &packs.all[*at];
        let stays = *front * 2 >= pack.content || rewritten.contains(at);
        if !stays && pack.size <= budget {
            budget -= pack.size;
            plan.gather.push(*at);
        }
    }
}
