//! `forget`: snapshots that are no longer wanted.
//!
//! Either those that are named, or, source by source, what has expired and what a
//! [`Policy`] does not keep. The decision is made first, for everything, with a reason
//! for each snapshot; a dry run ends there. Then the owner publishes it. Forgetting is
//! final, and frees nothing by itself: that is the collector's work.
//!
//! **Against mistakes.** A policy of which no rule keeps anything of a source (a misspelt
//! tag) and that would forget some of it is refused, and a writer's newest is kept whatever
//! the rules say; `allow_empty` asks for both.
//!
//! **What has expired** is what expired by this machine's clock *and* by the store's: the
//! newest receipt that is known. A clock that is ahead forgets nothing early; one that is
//! behind, or a store that nobody wrote to since, forgets it later. Expired snapshots
//! take no place in a policy; only a tag or an id that is to be kept holds them.

//!
//! **Moments.** What a followed database was at any moment is made from a snapshot of it. A
//! policy leaves such snapshots alone, and counts them for nothing: what makes a history
//! thinner is another work. To forget one by name is refused if there are moments that
//! nothing else leads to. `with_moments` asks for both.

pub mod policy;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::base::units::show_duration;
use crate::base::{SnapshotId, StreamId, UnixTime, WriterId};
use crate::format::fact::{Fact, Forget};
use crate::ops::select::{check_known, snapshot_among, timelines};
use crate::ops::{Error, Result};
use crate::repo::log::{Chain, EncodedFact};
use crate::repo::{Repository, SnapshotInfo, grace, streams};
use crate::view::selector::State;
use crate::view::{Selector, Zone};

pub use policy::Policy;
use policy::{Candidate, LATE};

/// The most snapshots that one record forgets.
const RECORD_MAX: usize = 10_000;
/// A shorter time to keep everything is a mistake: `6m` is six minutes.
const WITHIN_MIN: Duration = Duration::from_secs(3600);

/// What to forget.
#[derive(Debug, Clone)]
pub enum What {
    /// These.
    Named(Vec<Selector>),
    /// What has expired, and what these do not keep.
    Policies(Policies),
}

/// What to keep of each source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policies {
    /// Of those that have no policy of their own. Without one they are left alone.
    pub default: Option<Policy>,
    /// Of single sources.
    pub sources: BTreeMap<String, Policy>,
}

impl Policies {
    fn of(&self, source: &str) -> Option<&Policy> {
        self.sources.get(source).or(self.default.as_ref())
    }

    fn all(&self) -> impl Iterator<Item = &Policy> {
        self.default.iter().chain(self.sources.values())
    }
}

/// What to forget, and how.
#[derive(Debug, Clone)]
pub struct ForgetOptions {
    /// Which snapshots.
    pub what: What,
    /// Only of these sources; of all, if there are none. Not for what is named.
    pub sources: Vec<String>,
    /// Go by the times that snapshots claim and not by their receipts: for a copied store.
    pub by_taken: bool,
    /// Forget also all of a source, and the newest of a writer.
    pub allow_empty: bool,
    /// Forget also snapshots that moments of followed databases are made from.
    pub with_moments: bool,
    /// Decide, and publish nothing.
    pub dry_run: bool,
    /// Why, for people.
    pub reason: Option<String>,
}

/// What becomes of a snapshot, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Fate {
    /// Its id.
    pub id: SnapshotId,
    /// What it is a state of.
    pub source: String,
    /// Who signed it.
    pub writer: WriterId,
    /// From when on it is shown.
    pub shown_from: UnixTime,
    /// When the store received it.
    pub receipt: UnixTime,
    /// When it expires, if ever.
    pub expires: Option<UnixTime>,
    /// Words on it.
    pub tags: Vec<String>,
    /// Whether it is forgotten.
    pub forget: bool,
    /// Why it is, or is not.
    pub reasons: Vec<String>,
}

/// What was decided, and done.
#[derive(Debug, Clone, Serialize)]
pub struct ForgetReport {
    /// Every snapshot that was looked at: by source, then by writer, oldest first.
    pub snapshots: Vec<Fate>,
    /// How many of them are kept.
    pub kept: u64,
    /// How many are forgotten.
    pub forgotten: u64,
    /// How many are kept only because they were received too late to be believed.
    pub late: u64,
    /// Whether nothing was published.
    pub dry_run: bool,
    /// The grace period: no sooner than so long after this their space comes back.
    pub grace_seconds: u64,
}

/// Forgets snapshots, as the index knows them: bring it up to date before.
///
/// # Errors
///
/// [`Error::NotFound`] or [`Error::Invalid`] for a request that names nothing, or too
/// much: nothing is published then. [`crate::repo::Error::NotAllowed`] if the key is not
/// the owner's, [`crate::repo::Error::Outdated`] if the repository has to be upgraded
/// first. What the store says: what was published until then stands.
pub fn forget(repo: &Repository, options: &ForgetOptions, zone: &Zone) -> Result<ForgetReport> {
    if !options.dry_run {
        repo.check_writable()?;
        repo.keys().owner()?;
        repo.check_version("forgetting")?;
    }
    let report = decide(repo, options, zone)?;
    if !options.dry_run {
        let mut chain = Chain::default();
        let ids: Vec<SnapshotId> =
            report.snapshots.iter().filter(|fate| fate.forget).map(|fate| fate.id).collect();
        for part in ids.chunks(RECORD_MAX) {
            let fact = Forget { snapshots: part.to_vec(), reason: options.reason.clone() };
            chain.publish(repo, vec![EncodedFact::of(&Fact::Forget(fact))], None)?;
        }
    }
    Ok(report)
}

/// What would become of each snapshot.
fn decide(repo: &Repository, options: &ForgetOptions, zone: &Zone) -> Result<ForgetReport> {
    let infos = repo.snapshots()?;
    let store_time = repo.index().newest_receipt()?.unwrap_or(i64::MIN);
    let (mut fates, late) = match &options.what {
        What::Named(selectors) => {
            let fates = named(&infos, selectors, zone, repo.clock().now())?;
            if !options.with_moments {
                refuse_moments(repo, &infos, &fates)?;
            }
            (fates, 0)
        }
        What::Policies(policies) => {
            let present = repo.clock().now().min(UnixTime::new(store_time, 999_999_999));
            by_policy(&infos, policies, options, zone, present)?
        }
    };
    fates.sort_by(|a, b| {
        let key = |fate: &Fate| (fate.writer, fate.receipt, fate.shown_from, fate.id);
        a.source.cmp(&b.source).then_with(|| key(a).cmp(&key(b)))
    });
    let count =
        |test: &dyn Fn(&Fate) -> bool| fates.iter().filter(|fate| test(fate)).count() as u64;
    Ok(ForgetReport {
        kept: count(&|fate| !fate.forget),
        forgotten: count(&|fate| fate.forget),
        late,
        snapshots: fates,
        dry_run: options.dry_run,
        grace_seconds: grace::in_force(repo, store_time)?.unsigned_abs(),
    })
}

fn fate(info: &SnapshotInfo, forget: bool, reasons: Vec<String>) -> Fate {
    Fate {
        id: info.snapshot.id,
        source: info.snapshot.source.clone(),
        writer: info.writer,
        shown_from: info.shown_from(),
        receipt: info.receipt,
        expires: info.snapshot.expires,
        tags: info.snapshot.tags.clone(),
        forget,
        reasons,
    }
}

/// How long after it says it was taken a snapshot was received.
fn lateness(fate: &Fate) -> Duration {
    fate.receipt.since(fate.shown_from)
}

/// What is forgotten because it was named.
fn named(
    infos: &[Arc<SnapshotInfo>],
    selectors: &[Selector],
    zone: &Zone,
    now: UnixTime,
) -> Result<Vec<Fate>> {
    let mut fates: Vec<Fate> = Vec::new();
    for selector in selectors {
        let invalid = |what: String| Error::Invalid { what };
        let info = snapshot_among(infos, selector, zone, now)?;
        let id = info.snapshot.id;
        if selector.path.is_some() {
            let what = "a snapshot is forgotten as a whole: leave out the path";
            return Err(invalid(format!("`{selector}` names a path, and {what}")));
        }
        // Forgetting is final: what could mean a whole source must be said exactly.
        if matches!(&selector.state, State::Latest | State::Source { time: None, .. }) {
            return Err(invalid(format!(
                "`{selector}` could mean the newest snapshot or all of the source: write \
                 id:{} for the newest, or --source {} and what to keep",
                id.short(),
                info.snapshot.source
            )));
        }
        if fates.iter().all(|fate| fate.id != id) {
            fates.push(fate(&info, true, vec!["named".to_owned()]));
        }
    }
    Ok(fates)
}

/// Refuses to forget what moments are made from that nothing else leads to.
fn refuse_moments(repo: &Repository, infos: &[Arc<SnapshotInfo>], fates: &[Fate]) -> Result<()> {
    let named: HashSet<SnapshotId> = fates.iter().map(|fate| fate.id).collect();
    let points = infos.iter().filter(|info| named.contains(&info.snapshot.id));
    let concerned: BTreeMap<(&str, StreamId), SnapshotId> =
        points.filter_map(|info| Some((stream_of(info)?.0, info.snapshot.id))).collect();
    for ((source, stream), id) in concerned {
        let bases = infos.iter().filter_map(|info| {
            let (of, position) = stream_of(info)?;
            (of == (source, stream)).then_some((position, info.snapshot.id))
        });
        let all: BTreeSet<(u64, SnapshotId)> = bases.collect();
        let shown = |stays: &dyn Fn(&SnapshotId) -> bool| {
            let bases = all.iter().filter(|(_, id)| stays(id));
            let mut bases: Vec<u64> = bases.map(|(position, _)| *position).collect();
            bases.dedup();
            streams::count_shown(repo, source, &stream, &bases)
        };
        let lost = shown(&|_| true)?.saturating_sub(shown(&|id| !named.contains(id))?);
        if lost > 0 {
            return Err(Error::Invalid {
                what: format!(
                    "{lost} moments of {source} are made from what was named, as id:{}, and cannot \
                     be shown without it: say --with-moments to lose them as well; `asof log \
                     {source}` lists them",
                    id.short()
                ),
            });
        }
    }
    Ok(())
}

/// Of which source and stream a snapshot is a state, and its position.
fn stream_of(info: &SnapshotInfo) -> Option<((&str, StreamId), u64)> {
    let point = info.snapshot.point.as_ref()?;
    Some(((info.snapshot.source.as_str(), point.stream), point.position))
}

/// What is forgotten because it expired, or because no policy keeps it; and how many are
/// kept only because they were received late.
fn by_policy(
    infos: &[Arc<SnapshotInfo>],
    policies: &Policies,
    options: &ForgetOptions,
    zone: &Zone,
    present: UnixTime,
) -> Result<(Vec<Fate>, u64)> {
    let known = timelines(infos);
    for source in &options.sources {
        check_known(&known, source)?;
    }
    policies.all().try_for_each(|policy| check(policy, infos, zone, present))?;
    let mut sources: BTreeMap<&str, Vec<&SnapshotInfo>> = BTreeMap::new();
    let mut fates = Vec::new();
    for info in infos {
        let name = info.snapshot.source.as_str();
        if options.sources.is_empty() || options.sources.iter().any(|source| source == name) {
            if info.snapshot.point.is_some() && !options.with_moments {
                fates.push(fate(info, false, vec![MOMENTS.to_owned()]));
            } else {
                sources.entry(name).or_default().push(info);
            }
        }
    }
    let expiring = |infos: &Vec<&SnapshotInfo>| infos.iter().any(|i| i.snapshot.expires.is_some());
    if policies.all().next().is_none() && !sources.values().any(expiring) {
        let what = "nothing says what to forget, and no snapshot expires: name snapshots as \
                    id:PREFIX or SOURCE@TIME, say what to keep, as --keep-daily 7, or write it \
                    into the configuration file under [retention]";
        return Err(Error::Invalid { what: what.to_owned() });
    }
    let mut late = 0;
    let mut emptied = Vec::new();
    for (source, infos) in sources {
        let judged = of_source(&infos, policies.of(source), options, zone, present);
        // What expires may leave nothing: it was said when it was backed up.
        let loses = judged.fates.iter().any(|fate| fate.forget && fate.reasons != [EXPIRED]);
        if loses && !judged.by_rule && !options.allow_empty {
            emptied.push(source);
        }
        late += judged.late;
        fates.extend(judged.fates);
    }
    if emptied.is_empty() {
        return Ok((fates, late));
    }
    Err(Error::Invalid {
        what: format!(
            "nothing was forgotten, because no rule keeps a snapshot of {}: check what is to be \
             kept, or say --allow-empty",
            emptied.join(", ")
        ),
    })
}

const EXPIRED: &str = "expired";
const MOMENTS: &str = "moments are made from it";

/// Checks that a policy says what was meant.
fn check(
    policy: &Policy,
    infos: &[Arc<SnapshotInfo>],
    zone: &Zone,
    present: UnixTime,
) -> Result<()> {
    if policy.within.is_some_and(|within| within < WITHIN_MIN) {
        let what = "keeping what was received within less than an hour is a mistake: m are \
                    minutes; write h, d or w, as 30d or 26w";
        return Err(Error::Invalid { what: what.to_owned() });
    }
    for prefix in &policy.ids {
        let selector = Selector { state: State::Id(prefix.clone()), path: None };
        snapshot_among(infos, &selector, zone, present)?;
    }
    Ok(())
}

/// What becomes of the snapshots of one source.
struct Judged {
    fates: Vec<Fate>,
    /// Whether a rule keeps any of them.
    by_rule: bool,
    /// How many are kept only because they were received late.
    late: u64,
}

fn of_source(
    infos: &[&SnapshotInfo],
    policy: Option<&Policy>,
    options: &ForgetOptions,
    zone: &Zone,
    present: UnixTime,
) -> Judged {
    let mut fates: Vec<Fate> = infos.iter().map(|info| fate(info, false, Vec::new())).collect();
    let candidates: Vec<Candidate<'_>> = fates
        .iter()
        .zip(infos)
        .map(|(fate, info)| Candidate {
            id: fate.id,
            writer: fate.writer,
            at: if options.by_taken { fate.shown_from } else { fate.receipt },
            shown_from: fate.shown_from,
            tags: &info.snapshot.tags,
            expires: fate.expires.is_some(),
            expired: fate.expires.is_some_and(|end| end <= present),
            late: !options.by_taken && lateness(fate) > LATE,
        })
        .collect();
    let nothing = Policy::default();
    let mut reasons = policy.unwrap_or(&nothing).judge(&candidates, zone);
    let by_rule = policy.is_none() || reasons.iter().any(|reasons| !reasons.is_empty());
    let standing = candidates.iter().zip(&mut reasons).zip(&fates).filter(|((c, _), _)| !c.expired);
    let mut late = 0;
    for ((candidate, reasons), fate) in standing {
        if policy.is_none() {
            *reasons = vec!["no policy".to_owned()];
        } else if candidate.late {
            late += u64::from(reasons.is_empty());
            let after = show_duration(lateness(fate));
            reasons.push(format!("received {after} after it was taken"));
        }
    }
    if by_rule && !options.allow_empty {
        for newest in policy::lines(&candidates).iter().filter_map(|line| line.first()) {
            if reasons[*newest].is_empty() {
                reasons[*newest].push("newest".to_owned());
            }
        }
    }
    let expired: Vec<bool> = candidates.iter().map(|candidate| candidate.expired).collect();
    for ((fate, reasons), expired) in fates.iter_mut().zip(reasons).zip(expired) {
        fate.forget = reasons.is_empty();
        fate.reasons = match (fate.forget, expired) {
            (false, _) => reasons,
            (true, true) => vec![EXPIRED.to_owned()],
            (true, false) => vec!["no rule keeps it".to_owned()],
        };
    }
    Judged { fates, by_rule, late }
}
