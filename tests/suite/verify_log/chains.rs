//! What is missing, doubled or out of place.

use super::*;

#[test]
fn a_record_that_is_gone_from_the_middle_is_missing() {
    for encrypted in [true, false] {
        let world = World::new(encrypted);
        let names = world.chain(&world.owner(), 3);
        let held = world.take(&names[1]);
        let report = world.verify();
        assert_eq!(problems(&report), [(FindingKind::Missing, None)]);
        let about = &report.findings[0].about;
        assert_eq!((about.record, about.number), (Some(record_of(&names[1])), Some(1)));
        // What was seen before has its name as well, also if it is the first.
        world.memory.put_new(&names[1], held).unwrap();
        is_clean(&world.verify());
        world.take(&names[0]);
        let report = world.verify();
        assert_eq!(report.findings[0].about.record, Some(record_of(&names[0])));
        assert_eq!(report.findings[0].about.number, Some(0));
        world.take(&names[1]);
        let report = world.verify();
        assert_eq!(report.findings.len(), 1);
        assert!(report.findings[0].what.contains("records 0 to 1"), "{:?}", report.findings);
    }
}

#[test]
fn a_tail_that_is_cut_shows_against_what_was_seen() {
    let world = World::new(true);
    let names = world.chain(&world.owner(), 3);
    is_clean(&world.verify());
    world.take(&names[2]);
    is_clean(&world.verify_elsewhere());
    for _ in 0..2 {
        // It is told of again until it is there again.
        let found = world.finds(FindingKind::Cut, &names[2]);
        assert_eq!(found.about.number, Some(2));
        assert!(found.what.contains("ends with number 1 now"), "{}", found.what);
    }
    // An index that is made anew knows of nothing that was cut; this does.
    world.owner().rebuild().unwrap();
    world.finds(FindingKind::Cut, &names[2]);
    let anew = VerifyOptions { new_heads: true, ..VerifyOptions::default() };
    let report = world.try_verify(anew).unwrap();
    is_clean(&report);
    assert_eq!(report.heads.since, None);
    is_clean(&world.verify());
    world.take(&names[1]);
    world.finds(FindingKind::Cut, &names[1]);
}

#[test]
fn a_chain_that_is_gone_shows_against_what_was_seen() {
    let world = World::new(true);
    let (_machine, open) = world.machine(Credential::Writer(Box::new(world.writer("web", &[]))), 0);
    let names = world.chain(&open, 2);
    let others = world.chain(&world.owner(), 1);
    is_clean(&world.verify());
    let held: Vec<Bytes> = names.iter().map(|name| world.take(name)).collect();
    let found = world.finds(FindingKind::ChainGone, &names[1]);
    assert!(found.what.contains("2 records"), "{}", found.what);
    world.take(&others[0]);
    assert_eq!(world.verify().problems, 2);
    // They come back, and nothing is remembered of it.
    for (name, bytes) in names.iter().zip(held) {
        world.memory.put_new(name, bytes).unwrap();
    }
    world.finds(FindingKind::ChainGone, &others[0]);
}

#[test]
fn another_record_in_the_place_of_one_that_was_seen_is_rewritten() {
    let world = World::new(false);
    let owner = owners_key(&world);
    let first = world.put(record(&world, (&owner, &owner), None, FIRST));
    is_clean(&world.verify());
    world.take(&first);
    world.pass(1);
    let second = world.put(record(&world, (&owner, &owner), None, FIRST));
    let found = world.finds(FindingKind::Rewritten, &first);
    assert!(found.what.contains(&second), "{}", found.what);
}

#[test]
fn a_record_under_two_hours_is_replayed() {
    let world = World::new(true);
    let names = world.chain(&world.owner(), 2);
    world.pass(5 * HOUR);
    let bytes = world.memory.get(&names[0], u64::MAX).unwrap();
    let copy = names::record(Hour::of(world.now()), record_of(&names[0]));
    world.memory.put_new(&copy, bytes.clone()).unwrap();
    let found = world.finds(FindingKind::Replayed, &copy);
    assert_eq!(found.about.received, Some(world.now()));
    world.finds(FindingKind::Replayed, &copy);
    world.take(&copy);
    // The copy is what came later, also if its name comes first.
    let early = Hour::of(UnixTime::new(START - HOUR, 0));
    let copy = names::record(early, record_of(&names[0]));
    world.memory.put_new(&copy, bytes.clone()).unwrap();
    world.finds(FindingKind::Replayed, &copy);
    // Moved and not copied, it stands under an hour that is not its own.
    world.take(&copy);
    world.take(&names[0]);
    let moved = names::record(Hour::of(UnixTime::new(START - YEAR, 0)), record_of(&names[0]));
    world.memory.put_new(&moved, bytes).unwrap();
    let report = world.verify();
    let misnamed = (FindingKind::Misnamed, Some(moved.clone()));
    assert!(problems(&report).contains(&misnamed), "{:#?}", report.findings);
}

/// Records of a chain that the store received in another order than they were made in.
#[test]
fn records_that_come_in_another_order_are_reordered() {
    let world = World::new(true);
    let names = world.chain(&world.owner(), 3);
    let held: Vec<Bytes> = names.iter().map(|name| world.take(name)).collect();
    for (name, bytes) in names.iter().zip(held).rev() {
        world.pass(2 * HOUR);
        world.memory.put_new(name, bytes).unwrap();
    }
    let report = world.verify();
    let found = problems(&report);
    assert_eq!(found.len(), 2, "{:#?}", report.findings);
    for name in &names[1..] {
        assert!(found.contains(&(FindingKind::Reordered, Some(name.clone()))), "{found:?}");
    }
}

#[test]
fn chains_that_contradict_themselves_are_severed_or_forked() {
    let world = World::new(false);
    let owner = owners_key(&world);
    let make = |place: Place| {
        world.pass(1);
        world.put(record(&world, (&owner, &owner), None, place))
    };
    let first = make(FIRST);
    let after = |name: &str, number| Place { number, previous: Some(record_of(name)), ..FIRST };
    let second = make(after(&first, 1));
    let wrong = make(after(&first, 2));
    world.finds(FindingKind::Severed, &wrong);
    world.take(&wrong);
    let anew = VerifyOptions { new_heads: true, ..VerifyOptions::default() };
    is_clean(&world.try_verify(anew).unwrap());
    // One that nothing follows may be a put whose reply was lost.
    let twin = make(after(&first, 1));
    let report = world.verify();
    assert_eq!((report.problems, report.notices), (0, 1));
    assert_eq!(report.findings[0].kind, FindingKind::Fork);
    assert_eq!(report.findings[0].severity, Severity::Notice);
    make(after(&second, 2));
    assert_eq!(world.verify().problems, 0);
    make(after(&twin, 2));
    let report = world.verify();
    assert_eq!(report.kinds[&FindingKind::Fork], 2);
    assert_eq!(report.problems, 1, "{:#?}", report.findings);
    assert_eq!(report.findings[0].about.object.as_ref(), Some(&twin));
}
