//! Who speaks, and whether he may say that.

use super::*;

#[test]
fn bytes_that_were_altered_are_named_once() {
    for encrypted in [true, false] {
        let world = World::new(encrypted);
        let names = world.chain(&world.owner(), 3);
        assert!(world.memory.corrupt(&names[1], |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }));
        world.finds(FindingKind::Altered, &names[1]);
        // Also if it was the last, and seen before.
        let last = world.chain(&world.owner(), 1);
        world.verify();
        assert!(world.memory.corrupt(&last[0], |bytes| bytes.truncate(9)));
        assert_eq!(world.verify().kinds[&FindingKind::Altered], 2);
        assert_eq!(world.verify().problems, 2);
    }
}

/// What is put under its own hash, by somebody with no key, or with the wrong one.
#[test]
fn what_nobody_may_sign_is_forged_or_uncertified() {
    let world = World::new(false);
    let (owner, thief) = (owners_key(&world), SigningKey::random());
    // In the owner's name, and signed by somebody else.
    let forged = world.put(record(&world, (&owner, &thief), None, FIRST));
    world.finds(FindingKind::Forged, &forged);
    world.take(&forged);
    // In his own name, without a certificate.
    let bare = world.put(record(&world, (&thief, &thief), None, FIRST));
    let found = world.finds(FindingKind::Uncertified, &bare);
    assert_eq!((found.about.writer, found.about.number), (Some(thief.id()), Some(0)));
    assert_eq!(found.about.received, Some(world.now()));
    world.take(&bare);
    // With one that he signed himself, and with somebody else's.
    let certificate = Certificate {
        repository: world.owner().config().repository,
        writer: thief.id(),
        label: "web".into(),
        sources: None,
        trusted: true,
        issued: world.now(),
        expires: None,
    };
    let others = world.writer("web", &[]).certificate_bytes;
    for bytes in [certificate.issue(&thief), others] {
        let name = world.put(record(&world, (&thief, &thief), Some(bytes), FIRST));
        world.finds(FindingKind::Uncertified, &name);
        world.take(&name);
    }
    // No record at all, and no name of one.
    let junk = world.put(b"asoflog\0junk".to_vec());
    world.finds(FindingKind::Malformed, &junk);
    world.take(&junk);
    let later = world.put(b"asoflog\x01later".to_vec());
    world.finds(FindingKind::UnknownVersion, &later);
    world.take(&later);
    world.memory.put_new("log/notes", Bytes::from_static(b"x")).unwrap();
    world.finds(FindingKind::StrayName, "log/notes");
}

/// In an encrypted repository a certificate that the owner did not sign is sealed, and
/// shows to whoever reads.
#[test]
fn a_certificate_by_another_owner_is_found_in_what_is_sealed() {
    let world = World::new(true);
    let real = world.writer("web", &[]);
    let certificate_bytes = real.certificate.issue(&SigningKey::random());
    let file = WriterFile { certificate_bytes, ..real };
    let (_machine, open) = world.machine(Credential::Writer(Box::new(file)), 0);
    let names = world.chain(&open, 1);
    world.finds(FindingKind::Uncertified, &names[0]);
}

#[test]
fn what_only_the_owner_may_say_is_of_the_wrong_role() {
    let world = World::new(true);
    let (_machine, open) = world.machine(Credential::Writer(Box::new(world.writer("web", &[]))), 0);
    let id = SnapshotId([1; 16]);
    let forget = Fact::Forget(Forget { snapshots: vec![id], reason: None });
    let names = world.new_names(|| {
        let facts = vec![pin(1), EncodedFact::of(&forget)];
        Chain::default().publish(&open, facts, FAR).unwrap();
    });
    let found = world.finds(FindingKind::WrongRole, &names[0]);
    assert!(found.what.contains("fact 1 is of the kind forget"), "{}", found.what);
}

#[test]
fn a_writer_that_speaks_for_another_source_is_reported() {
    for encrypted in [true, false] {
        let world = World::new(encrypted);
        let file = world.writer("web", &["web", "www"]);
        let key = file.key.id();
        let (_machine, open) = world.machine(Credential::Writer(Box::new(file)), 0);
        let names = world.new_names(|| {
            let facts = vec![snapshot("web", world.now()), snapshot("db", world.now())];
            Chain::default().publish(&open, facts, FAR).unwrap();
        });
        let found = world.finds(FindingKind::WrongSource, &names[0]);
        assert_eq!(found.about.writer, Some(key));
        assert!(found.what.contains("snapshot of db"), "{}", found.what);
        assert!(found.what.contains("web, www"), "{}", found.what);
        // Whose sources are whose is in the report.
        let report = world.verify();
        let row = report.writers.iter().find(|one| one.writer == key).unwrap();
        assert_eq!(row.allowed.as_deref(), Some(&["web".to_owned(), "www".to_owned()][..]));
        assert_eq!(row.sources.iter().collect::<Vec<_>>(), ["web"]);
    }
}

#[test]
fn a_certificate_that_expired_covers_nothing_any_more() {
    let world = World::new(true);
    let real = world.writer("web", &[]);
    let end = UnixTime::new(START + 2 * HOUR, 0);
    let certificate = Certificate { expires: Some(end), ..real.certificate.clone() };
    let certificate_bytes = certificate.issue(&owners_key(&world));
    let file = WriterFile { certificate, certificate_bytes, ..real };
    let (_machine, open) = world.machine(Credential::Writer(Box::new(file)), 0);
    world.chain(&open, 1);
    is_clean(&world.verify());
    world.pass(3 * HOUR);
    let names = world.new_names(|| {
        // It is stored, and then its writer sees what has become of it.
        Chain::default().publish(&open, vec![pin(2)], FAR).unwrap_err();
    });
    world.finds(FindingKind::Expired, &names[0]);
}

#[test]
fn a_revoked_writer_is_reported_from_its_revocation_on() {
    let world = World::new(true);
    let file = world.writer("laptop", &[]);
    let id = file.key.id();
    let (_machine, open) = world.machine(Credential::Writer(Box::new(file)), 0);
    world.chain(&open, 2);
    world.pass(HOUR);
    let revoke = Fact::Revoke(Revoke { writer: id, from: world.now() });
    // The log may have it after what it is about.
    let late = world.chain(&open, 1);
    Chain::default().publish(&world.owner(), vec![EncodedFact::of(&revoke)], FAR).unwrap();
    let found = world.finds(FindingKind::Revoked, &late[0]);
    assert_eq!(found.about.writer, Some(id));
    let report = world.verify();
    let row = report.writers.iter().find(|one| one.writer == id).unwrap();
    assert_eq!(row.revoked_from, Some(UnixTime::new(START + HOUR + 20, 0)));
}
