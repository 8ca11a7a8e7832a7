//! Every pack that is claimed or listed, and what is known of it.
//!
//! Memory: some 100 bytes a pack and 16 a claim, which for 10^7 chunks in packs of 16
//! MiB is some 60 MB at the very most. Chunks have a bit each, at the number that the
//! base of their claim and their place in it make.

use crate::base::{PackId, UnixTime};
use crate::format::names;
use crate::index::FateRow;
use crate::ops::Result;
use crate::repo::{self, Repository};

/// A pack.
#[derive(Debug, Clone)]
pub(super) struct Pack {
    pub(super) id: PackId,
    /// Its size as it is listed, or else as it is claimed.
    pub(super) size: u64,
    /// Whether anybody claims it.
    pub(super) claimed: bool,
    pub(super) by_writers: bool,
    /// Whether anybody claims that it holds nodes.
    pub(super) nodes: bool,
    /// When it, or the last claim about it, was received. Seconds since 1970.
    pub(super) latest: i64,
    /// When it, or the last claim about it that can be relied on, was received.
    pub(super) vouched: i64,
    /// Whether it is there, or may be and need not be listed yet.
    pub(super) present: bool,
    /// Whether it is there for certain: listed, or claimed lately by who can be relied on.
    pub(super) certain: bool,
    pub(super) pinned: bool,
    pub(super) fate: Option<FateRow>,
    /// Bytes of content of all its chunks.
    pub(super) content: u64,
    /// Bytes of content that are needed from here.
    pub(super) needed: u64,
}

impl Pack {
    /// Whether nobody condemned it, as far as counts, and it is there.
    pub(super) fn stands(&self) -> bool {
        self.certain && self.fate.is_none_or(|fate| fate.condemned.is_none() && !fate.is_deleted())
    }

    /// When its condemnation was received, if it is condemned.
    pub(super) fn condemned(&self) -> Option<i64> {
        self.fate.and_then(|fate| fate.condemned)
    }

    /// Whether it was said to be deleted.
    pub(super) fn deleted(&self) -> bool {
        self.fate.is_some_and(|fate| fate.is_deleted())
    }
}

impl FateRow {
    fn is_deleted(&self) -> bool {
        self.deleted.is_some()
    }
}

/// A claim: its pack, where its chunks' bits begin, and whether it can be relied on.
#[derive(Debug, Clone, Copy)]
struct Claim {
    pack: u32,
    base: u64,
    trusted: bool,
    nodes: bool,
}

/// All packs: those that are claimed in the order of their ids, then what nobody claims.
#[derive(Debug, Default)]
pub(super) struct Packs {
    pub(super) all: Vec<Pack>,
    /// By their numbers, which are dense.
    claims: Vec<Option<Claim>>,
    /// How many chunks all claims have together.
    pub(super) bits: u64,
    /// The store's time when the last of the packs were listed, if it tells.
    pub(super) listed: Option<UnixTime>,
}

impl Packs {
    /// Loads what the index knows, and lists the packs that are there.
    pub(super) fn load(repo: &Repository) -> Result<Packs> {
        let mut packs = Packs::default();
        repo.index()
            .each_claim(|row| {
                let next = u32::try_from(packs.all.len()).unwrap_or(u32::MAX);
                let same = packs.all.last().is_some_and(|last| last.id == row.id);
                let at = if same { next - 1 } else { next };
                if !same {
                    packs.all.push(Pack {
                        id: row.id,
                        size: row.size,
                        claimed: true,
                        by_writers: false,
                        nodes: false,
                        latest: i64::MIN,
                        vouched: i64::MIN,
                        present: false,
                        certain: false,
                        pinned: false,
                        fate: None,
                        content: 0,
                        needed: 0,
                    });
                }
                if let Some(pack) = packs.all.get_mut(at as usize) {
                    pack.by_writers |= row.by_writers;
                    pack.nodes |= row.nodes;
                    pack.latest = pack.latest.max(row.latest);
                    pack.vouched = pack.vouched.max(row.vouched.unwrap_or(i64::MIN));
                }
                let number = usize::try_from(row.number).unwrap_or(0);
                if packs.claims.len() <= number {
                    packs.claims.resize(number + 1, None);
                }
                packs.claims[number] = Some(Claim {
                    pack: at,
                    base: packs.bits,
                    trusted: row.vouched.is_some(),
                    nodes: row.nodes,
                });
                packs.bits += u64::from(row.chunks);
            })
            .map_err(repo::Error::from)?;
        let fates = repo.index().fates().map_err(repo::Error::from)?;
        for fate in &fates {
            if let Ok(at) = packs.all.binary_search_by_key(&fate.pack, |pack| pack.id) {
                packs.all[at].fate = Some(*fate);
            }
        }
        packs.list(repo, &fates)?;
        Ok(packs)
    }

    /// Lists what is there, and adds what nobody claims.
    fn list(&mut self, repo: &Repository, fates: &[FateRow]) -> Result<()> {
        let mut unclaimed = Vec::new();
        let mut after: Option<String> = None;
        let mut at = None;
        loop {
            let page = repo.store().list(names::PACKS, after.as_deref())?;
            at = at.or(page.at);
            self.listed = page.at;
            for object in &page.objects {
                let Some(id) = names::parse_pack(&object.key) else { continue };
                let receipt = object.receipt.seconds;
                match self.all.binary_search_by_key(&id, |pack| pack.id) {
                    Ok(found) => {
                        let pack = &mut self.all[found];
                        (pack.present, pack.certain) = (true, true);
                        pack.size = object.size;
                        pack.latest = pack.latest.max(receipt);
                        pack.vouched = pack.vouched.max(receipt);
                    }
                    Err(_) => unclaimed.push((id, object.size, receipt)),
                }
            }
            match page.objects.last() {
                Some(last) if page.more => after = Some(last.key.clone()),
                _ => break,
            }
        }
        // What was claimed moments ago need not be listed yet. A store that tells no time
        // is none of which anything is collected.
        let skew = repo.skew_seconds();
        let shown = at.map_or(i64::MAX, |at: UnixTime| at.seconds.saturating_sub(skew));
        for pack in &mut self.all {
            pack.present |= pack.latest > shown;
            pack.certain |= pack.vouched > shown;
        }
        for (id, size, latest) in unclaimed {
            let fate = fates.binary_search_by_key(&id, |fate| fate.pack).ok().map(|at| fates[at]);
            // Behind the claimed ones: nothing looks these up by id.
            self.all.push(Pack {
                id,
                size,
                claimed: false,
                by_writers: true,
                nodes: false,
                latest,
                vouched: latest,
                present: true,
                certain: true,
                pinned: false,
                fate,
                content: 0,
                needed: 0,
            });
        }
        Ok(())
    }

    fn claim(&self, number: i64) -> Option<Claim> {
        *self.claims.get(usize::try_from(number).ok()?)?
    }

    /// The place in `all` of the pack that a claim is about.
    pub(super) fn place(&self, claim: i64) -> Option<usize> {
        self.claim(claim).map(|claim| claim.pack as usize)
    }

    /// The pack that a claim is about.
    pub(super) fn of_claim(&self, claim: i64) -> Option<&Pack> {
        self.all.get(self.place(claim)?)
    }

    /// Whether what a claim says can be relied on without reading.
    pub(super) fn is_trusted(&self, claim: i64) -> bool {
        self.claim(claim).is_some_and(|claim| claim.trusted)
    }

    /// Whether a claim says that its chunks are nodes.
    pub(super) fn is_nodes(&self, claim: i64) -> bool {
        self.claim(claim).is_some_and(|claim| claim.nodes)
    }

    /// The bit of a claim's chunk; out of bounds if the claim is not known.
    pub(super) fn bit(&self, claim: i64, place: u32) -> u64 {
        self.claim(claim).map_or(u64::MAX, |claim| claim.base + u64::from(place))
    }
}
