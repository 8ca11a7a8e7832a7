//! Segments in the care of everything that is for snapshots: they are collected, carried on
//! by checkpoints, checked, forgotten and watched over as these are.

use std::sync::Arc;

use asof::base::{ChunkId, Progress, SnapshotId, Stop, StreamId, UnixTime};
use asof::format::fact::{Fact, Pin, Revoke};
use asof::format::names;
use asof::format::segment::{Change, PAGE_NUMBER_MAX, Segment};
use asof::ops::check::{CheckOptions, CheckReport, DamagedSegment, check};
use asof::ops::forget::{ForgetOptions, ForgetReport, Policies, Policy, What, forget};
use asof::ops::gc::{GcOptions, GcReport};
use asof::ops::snapshots::{Filter, snapshots};
use asof::ops::stats::stats;
use asof::ops::verify_log::{FindingKind, VerifyOptions, VerifyReport, verify_log};
use asof::repo::checkpoint::CompactOptions;
use asof::repo::keys::Credential;
use asof::repo::log::{Chain, EncodedFact};
use asof::repo::streams::state_id;
use asof::repo::{Repository, keyring};
use asof::store::{MemoryStore, Store};
use asof::view::Zone;

use crate::damage::READ_DATA;
use crate::fixture::{FAR, TestRepo, create, names_in};
use crate::followed::{Model, PAGE, STREAM, seen};
use crate::world::{GRACE, World, forget_in};

fn elsewhere(store: &MemoryStore) -> TestRepo {
    TestRepo::from_elsewhere(Arc::new(store.clone()))
}

/// A database that is followed into this world's repository.
fn follow(world: &World) -> Model {
    let repo = elsewhere(&world.store);
    let open = repo.open();
    Model::published_by(repo, &open, "shop", 4)
}

fn publish(repo: &Repository, fact: &Fact, refs: &[ChunkId], deadline: Option<UnixTime>) {
    let fact = EncodedFact { bytes: fact.encode(refs) };
    Chain::default().publish(repo, vec![fact], deadline).unwrap();
}

/// Statements, which nothing refers to, are much of packs as small as these: they are not to
/// be a reason to write a pack anew.
fn options() -> GcOptions {
    GcOptions { max_unused: 100, ..GcOptions::default() }
}

fn gc(world: &World) -> GcReport {
    world.try_gc(&options()).unwrap()
}

#[test]
fn what_a_segment_holds_goes_when_it_is_forgotten_and_not_before() {
    for encrypted in [false, true] {
        let world = World::new(encrypted);
        let mut model = follow(&world);
        model.single_segments(3);
        world.pass(GRACE);
        assert_eq!(gc(&world).condemned.packs, 0, "all of it stands");
        model.shows(0..=3);
        world.forget(model.segments()[2].1.id);
        let report = gc(&world);
        assert_eq!((report.condemned.packs, report.deleted.packs), (1, 0), "{report:?}");
        world.pass(GRACE);
        assert_eq!(gc(&world).deleted.packs, 1);
        model.shows(0..=2);
        // What is young and forgotten may be built on still.
        model.single_segments(1);
        let last = model.segments().pop().unwrap().1.id;
        world.forget(last);
        assert_eq!(gc(&world).condemned.packs, 0);
        let report = world.try_gc(&GcOptions { exclusive: true, ..options() }).unwrap();
        assert_eq!(report.deleted.packs, 1, "{report:?}");
        model.shows(0..=2);
    }
}

/// A chunk that two segments have goes with the last of them.
#[test]
fn what_another_segment_has_as_well_stays() {
    let world = World::new(true);
    let mut model = follow(&world);
    model.single_segments(2);
    let (refs, second) = model.segments().remove(1);
    let again = Segment { id: SnapshotId([8; 16]), ..second.clone() };
    publish(&world.repo.open(), &Fact::Segment(Box::new(again)), &refs, FAR);
    world.forget(second.id);
    world.pass(GRACE);
    assert_eq!(gc(&world).condemned.packs, 0);
    model.shows(0..=2);
    world.forget(SnapshotId([8; 16]));
    assert_eq!(gc(&world).condemned.packs, 1);
}

#[test]
fn a_machine_that_reads_only_checkpoints_shows_every_state() {
    let world = World::new(true);
    let mut model = follow(&world);
    model.single_segments(6);
    let compact = CompactOptions { records_min: 1 };
    let compacting = GcOptions { compact, ..options() };
    for _ in 0..3 {
        world.pass(GRACE);
        world.try_gc(&compacting).unwrap();
    }
    let records = names_in(&world.store, names::LOG).len();
    assert!(records <= 2, "{records} records are left");
    model.shows(0..=6);
    // What stands in a checkpoint is forgotten like anything else, and stays so.
    world.forget(model.segments()[5].1.id);
    for _ in 0..4 {
        world.pass(GRACE);
        world.try_gc(&compacting).unwrap();
        model.shows(0..=5);
    }
    assert_eq!(model.segments().len(), 5);
}

/// A record that came after its deadline may stand on what is gone: what is there is kept,
/// and what is not holds nobody up. One that came in time stops the collector.
#[test]
fn a_segment_that_came_late_is_kept_as_far_as_it_is_there() {
    let world = World::new(true);
    let mut model = follow(&world);
    model.single_segments(2);
    let (refs, second) = model.segments().remove(1);
    let past = Some(UnixTime::new(1_000, 0));
    let named =
        |n: u8| Fact::Segment(Box::new(Segment { id: SnapshotId([n; 16]), ..second.clone() }));
    let open = world.repo.open();
    publish(&open, &named(8), &refs, past);
    world.forget(second.id);
    world.pass(GRACE);
    let report = gc(&world);
    assert_eq!((report.condemned.packs, report.late.len()), (0, 0), "{report:?}");
    model.shows(0..=2);
    let nowhere = [ChunkId([7; 32])];
    publish(&open, &named(9), &nowhere, past);
    assert_eq!(gc(&world).late, [SnapshotId([9; 16]).to_string()]);
    publish(&open, &named(10), &nowhere, FAR);
    let error = world.try_gc(&GcOptions::default()).unwrap_err().to_string();
    assert!(error.contains("in no pack"), "{error}");
}

#[test]
fn what_a_revoked_writer_published_is_not_shown_and_not_kept() {
    let world = World::new(true);
    let file = keyring::export_writer(&world.repo.open(), "db", None, true).unwrap();
    let writer = file.key.id();
    let machine = elsewhere(&world.store);
    let open = machine.open_with(Credential::Writer(Box::new(file))).unwrap();
    let mut model = Model::published_by(elsewhere(&world.store), &open, "shop", 4);
    model.single_segments(2);
    let revoke = |from| Fact::Revoke(Revoke { writer, from });
    world.pass(GRACE);
    let now = UnixTime::new(world.now.load(std::sync::atomic::Ordering::SeqCst), 0);
    publish(&world.repo.open(), &revoke(now), &[], FAR);
    assert_eq!(gc(&world).condemned.packs, 0, "it was published before");
    model.shows(0..=2);
    publish(&world.repo.open(), &revoke(UnixTime::EPOCH), &[], FAR);
    assert_eq!(gc(&world).condemned.packs, 4);
    model.shows([]);
}

#[test]
fn a_pin_keeps_a_segment_for_a_grace_period() {
    let world = World::new(true);
    let mut model = follow(&world);
    model.single_segments(1);
    let id = model.segments()[0].1.id;
    world.forget(id);
    world.pass(GRACE);
    publish(&world.repo.open(), &Fact::Pin(Pin::Snapshot(id)), &[], FAR);
    assert_eq!(gc(&world).condemned.packs, 0);
    world.pass(GRACE);
    assert_eq!(gc(&world).condemned.packs, 1);
}

fn checked(repo: &TestRepo, options: CheckOptions) -> CheckReport {
    check(&repo.open(), options, &Progress::silent(), &Stop::new()).unwrap()
}

/// A pack of which nothing else is than the pages of the second segment.
fn pack_of_second(model: &Model) -> String {
    let chunk = model.segments()[1].0[0];
    let evidence = model.repo.open().index().evidence(&chunk, 0, false).unwrap();
    names::pack(evidence.unwrap().pack)
}

#[test]
fn a_check_says_which_moments_lost_pages_cost() {
    let memory = MemoryStore::new();
    let repo = create(Arc::new(memory.clone()), true);
    let open = repo.open();
    let mut model = Model::published_by(repo, &open, "shop", 4);
    model.single_segments(3);
    model.image();
    model.single_segments(2);
    let whole = checked(&model.repo, READ_DATA);
    assert_eq!((whole.damaged_objects, whole.segments), (0, 5), "{whole:#?}");
    assert_eq!(whole.remarks, Vec::<String>::new());
    let name = pack_of_second(&model);
    let lost = |report: &CheckReport| {
        assert_eq!(report.damaged.len(), 1, "{report:#?}");
        let damaged = &report.damaged[0];
        assert_eq!((&damaged.object, damaged.chunks), (&name, 1));
        assert_eq!((report.snapshots_damaged, report.segments_damaged), (0, 1));
        let expected = DamagedSegment {
            segment: model.segments()[1].1.id,
            source: "shop".into(),
            stream: STREAM,
            first: 2,
            last: 2,
            since: seen(2),
            until: seen(2),
            whole_again: Some(3),
        };
        assert_eq!((damaged.segments_concerned, &damaged.segments), (1, &vec![expected]));
    };
    // Only who reads it sees what is in it.
    memory.corrupt(&name, |bytes| *bytes.last_mut().unwrap() ^= 1);
    assert_eq!(checked(&model.repo, CheckOptions::default()).damaged_objects, 0);
    memory.corrupt(&name, |bytes| bytes.fill(0));
    lost(&checked(&model.repo, READ_DATA));
    memory.delete(&name).unwrap();
    lost(&checked(&model.repo, CheckOptions::default()));
}

/// A hole that somebody made is no damage, and is not passed over either.
#[test]
fn a_check_says_which_moments_nothing_leads_to() {
    let mut model = Model::new(4);
    model.single_segments(3);
    model.image();
    model.single_segments(3);
    let remarks = |model: &Model| {
        let report = checked(&model.repo, CheckOptions::default());
        assert_eq!(report.damaged_objects, 0, "{report:#?}");
        report.remarks
    };
    assert_eq!(remarks(&model), Vec::<String>::new());
    let segments = model.segments();
    forget_in(&model.repo, segments[1].1.id);
    let found = remarks(&model);
    assert_eq!(found.len(), 1, "{found:?}");
    for part in ["of shop", "after position 1 (", "until position 3 (", "stored whole"] {
        assert!(found[0].contains(part), "{part}: {found:?}");
    }
    forget_in(&model.repo, segments[4].1.id);
    let found = remarks(&model);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].contains("after position 4 ("), "{found:?}");
    assert!(found[1].contains("to the last that is known, position 6"), "{found:?}");
}

#[test]
fn figures_and_lists_tell_of_streams() {
    let mut model = Model::new(4);
    model.commit(4, &[1, 2]);
    model.commit(4, &[1]);
    model.segment();
    model.single_segments(1);
    let open = model.repo.open();
    let of = stats(&open).unwrap().sources["shop"];
    assert_eq!((of.snapshots, of.segments, of.states), (1, 2, 3));
    assert_eq!(of.segment_bytes, 4 * PAGE as u64);
    let rows = snapshots(model.elsewhere().as_ref(), &Filter::default()).unwrap();
    let point = rows[0].point.clone().unwrap();
    assert_eq!((point.stream, point.position), (STREAM, 0));
}

fn verified(repo: &TestRepo) -> VerifyReport {
    let options = VerifyOptions { all: true, ..VerifyOptions::default() };
    verify_log(&repo.open(), options, &Progress::silent(), &Stop::new()).unwrap()
}

/// These were seen long ago, as changes are that waited for a machine to be online.
#[test]
fn a_log_with_segments_is_told_from_one_that_lacks_them() {
    let memory = MemoryStore::new();
    let repo = create(Arc::new(memory.clone()), true);
    let open = repo.open();
    let before = names_in(&memory, names::LOG);
    let mut model = Model::published_by(repo, &open, "shop", 4);
    let image = names_in(&memory, names::LOG);
    model.single_segments(3);
    forget_in(&model.repo, model.segments()[2].1.id);
    let report = verified(&model.repo);
    // Of the image it is told that it was taken long ago, and of nothing else.
    let kinds: Vec<_> = report.kinds.iter().map(|(kind, count)| (*kind, *count)).collect();
    assert_eq!(kinds, [(FindingKind::ClockBehind, 1)], "{:#?}", report.findings);
    let rows = report.log.unwrap();
    let segments: u64 = rows.iter().filter_map(|row| row.facts.get("segment")).sum();
    assert_eq!(segments, 3);
    let of_segments = rows.iter().filter(|row| row.facts.contains_key("segment"));
    assert!(of_segments.clone().all(|row| row.sources.contains("shop")));
    assert!(report.writers[0].sources.contains("shop"));
    // One that is taken out of the middle is missed.
    let number = |row: &&asof::ops::verify_log::LogRow| row.about.number == Some(2);
    let victim = of_segments.clone().find(number).unwrap().about.object.clone().unwrap();
    assert!(!before.contains(&victim) && !image.contains(&victim));
    memory.delete(&victim).unwrap();
    assert_eq!(verified(&model.repo).kinds.get(&FindingKind::Missing), Some(&1));
}

#[test]
fn a_segment_that_its_signer_may_not_publish_is_reported_and_leads_nowhere() {
    let memory = MemoryStore::new();
    let repo = create(Arc::new(memory.clone()), true);
    let open = repo.open();
    let mut model = Model::published_by(repo, &open, "shop", 4);
    model.single_segments(1);
    let (refs, first) = model.segments().remove(0);
    let file = keyring::export_writer(&open, "web", Some(vec!["web".into()]), true).unwrap();
    let machine = elsewhere(&memory);
    let thief = machine.open_with(Credential::Writer(Box::new(file))).unwrap();
    let forged = Segment { id: SnapshotId([8; 16]), after: 1, ..first };
    publish(&thief, &Fact::Segment(Box::new(forged.clone())), &refs, FAR);
    // Times that no clock shows yet are told as well.
    let begins = UnixTime::new(i64::MAX, 0);
    let ahead = Segment { source: "web".into(), stream: StreamId([7; 16]), begins, ..forged };
    publish(&thief, &Fact::Segment(Box::new(ahead)), &refs, FAR);
    model.commit(4, &[1]);
    model.shows(0..=1);
    let problems = elsewhere(&memory).open().sync(true).unwrap().problems;
    assert!(problems.is_empty(), "told once: {problems:?}");
    let report = verified(&model.repo);
    let found = |kind, part: &str| {
        let found = report.findings.iter().find(|one| one.kind == kind && one.what.contains(part));
        assert!(found.is_some(), "{part}: {:#?}", report.findings);
    };
    found(FindingKind::WrongSource, "segment of shop");
    found(FindingKind::ClockAhead, "a state in it was seen");
}

/// Whoever may publish a source can make moments of it that nobody can look at; no others,
/// and without taking memory.
#[test]
fn a_segment_that_no_memory_holds_costs_only_what_it_leads_to() {
    let mut model = Model::new(4);
    model.single_segments(1);
    let (_, first) = model.segments().remove(0);
    let change = |size| Change { step: 1, delay: 1, size, pages: Vec::new() };
    let changes = vec![change(PAGE_NUMBER_MAX), change(1)];
    let huge = Segment { id: SnapshotId([8; 16]), after: 1, changes, ..first };
    publish(&model.repo.open(), &Fact::Segment(Box::new(huge)), &[], FAR);
    model.shows(0..=1);
    let library = model.elsewhere();
    assert!(library.snapshot(&state_id(&STREAM, 2)).unwrap().is_some());
    let error = library.snapshot(&state_id(&STREAM, 3)).unwrap_err().to_string();
    assert!(error.contains("too many changes"), "{error}");
    assert!(library.snapshot(&state_id(&STREAM, 1)).unwrap().is_some());
}

fn forgetting(model: &Model, what: What, with_moments: bool) -> asof::ops::Result<ForgetReport> {
    let options = ForgetOptions {
        what,
        sources: Vec::new(),
        // They were received long after they were taken.
        by_taken: true,
        allow_empty: true,
        with_moments,
        dry_run: false,
        reason: None,
    };
    forget(&model.repo.open(), &options, &Zone::utc())
}

#[test]
fn what_moments_are_made_from_is_not_forgotten_unnoticed() {
    let mut model = Model::new(4);
    model.single_segments(2);
    model.image();
    model.single_segments(2);
    model.image();
    let infos = model.elsewhere().snapshots().unwrap();
    let base = |position: u64| {
        let at = |info: &&Arc<asof::repo::SnapshotInfo>| {
            info.snapshot.point.as_ref().unwrap().position == position
        };
        infos.iter().find(at).unwrap().snapshot.id
    };
    let policy = |last: u32| {
        let default = Policy { last: last.try_into().ok(), ..Policy::default() };
        What::Policies(Policies { default: Some(default), ..Policies::default() })
    };
    let report = forgetting(&model, policy(1), false).unwrap();
    assert_eq!((report.kept, report.forgotten), (3, 0), "{report:#?}");
    assert_eq!(report.snapshots[0].reasons, ["moments are made from it"]);
    model.shows(0..=4);

    let named = |ids: &[SnapshotId]| {
        What::Named(ids.iter().map(|id| format!("id:{id}").parse().unwrap()).collect())
    };
    let refused = |ids: &[SnapshotId], count: &str| {
        let error = forgetting(&model, named(ids), false).unwrap_err().to_string();
        for part in [count, "of shop", "--with-moments"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(ids.iter().any(|id| error.contains(&id.short())), "{error}");
    };
    refused(&[base(0)], "2 moments");
    refused(&[base(0), base(2)], "4 moments");
    model.shows(0..=4);
    // The segments lead past the second one.
    assert_eq!(forgetting(&model, named(&[base(2)]), false).unwrap().forgotten, 1);
    model.shows(0..=4);
    refused(&[base(0)], "4 moments");
    assert_eq!(forgetting(&model, named(&[base(0)]), true).unwrap().forgotten, 1);
    model.shows([4]);
    model.single_segments(1);
    model.image();
    assert_eq!(forgetting(&model, policy(1), true).unwrap().forgotten, 1);
    model.shows([5]);
}
