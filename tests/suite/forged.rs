//! What somebody with a key, or with none, can put into a store to deceive those who
//! read it: false claims, what was revoked, what nobody signed for.

use std::fs;
use std::sync::Arc;

use asof::base::{ChainId, ChunkId, Clock, PackId, Progress, RecordId, UnixTime};
use asof::codec::hash::{ChunkKind, sha256};
use asof::codec::sign::SigningKey;
use asof::format::fact::{Fact, Revoke};
use asof::format::names;
use asof::format::pack::PackFact;
use asof::format::record::{Body, Header, Record};
use asof::format::writerfile::WriterFile;
use asof::repo::keys::Credential;
use asof::repo::log::{Chain, ChainGap, EncodedFact, chain_gaps};
use asof::repo::packer::open_pack;
use asof::repo::{Repository, keyring};
use asof::store::{MemoryStore, Store};

use crate::fixture::{FAR, TestRepo, backup_into, create, names_in, noise, restores_to};

fn writer(repo: &TestRepo, label: &str, trusted: bool) -> WriterFile {
    keyring::export_writer(&repo.open(), label, None, trusted).unwrap()
}

/// A machine of its own that has a writer's key.
fn machine_of(store: &MemoryStore, file: WriterFile) -> (TestRepo, Arc<Repository>) {
    let machine = TestRepo::from_elsewhere(Arc::new(store.clone()));
    let open = machine.open_with(Credential::Writer(Box::new(file))).unwrap();
    (machine, open)
}

fn records(store: &MemoryStore) -> Vec<String> {
    names_in(store, "log/")
}

/// What a store has under these names is not there while `work` runs.
fn without<T>(store: &MemoryStore, names: &[String], work: impl FnOnce() -> T) -> T {
    let held: Vec<_> = names.iter().map(|name| store.get(name, u64::MAX).unwrap()).collect();
    names.iter().for_each(|name| store.delete(name).unwrap());
    let result = work();
    for (name, bytes) in names.iter().zip(held) {
        store.put_new(name, bytes).unwrap();
    }
    result
}

/// The true facts of all packs.
fn packs(store: &MemoryStore, repo: &Repository) -> Vec<PackFact> {
    let names = store.keys().into_iter().filter(|key| key.starts_with("packs/"));
    names
        .map(|name| {
            let bytes = store.get(&name, u64::MAX).unwrap();
            let (id, repository) = (PackId(sha256(&bytes)), repo.config().repository);
            open_pack(id, &bytes, repository, repo.keys().reader.as_ref(), None).unwrap()
        })
        .collect()
}

/// Everything that a liar says of a pack: frames that lie elsewhere, another key, and
/// the pack as it is but with a chunk that nobody has.
fn lies(pack: &PackFact, invented: ChunkId) -> Vec<EncodedFact> {
    let mut shifted = pack.clone();
    shifted.directory.frames.iter_mut().for_each(|frame| frame.offset += 1);
    let mut other_key = pack.clone();
    other_key.key = Some([3; 32]);
    let mut keyless = pack.clone();
    (keyless.key, keyless.size) = (None, pack.size + 1);
    let mut more = pack.clone();
    more.directory.chunks[0].0 = invented;
    let lies = [shifted, other_key, keyless, more];
    lies.into_iter().map(|lie| EncodedFact::of(&Fact::Pack(Box::new(lie)))).collect()
}

/// A thief of an untrusted writer's key claims real packs falsely, and is heard
/// first: what is true still reads, and nobody builds on what he invented.
#[test]
fn a_false_claim_hides_nothing_and_gains_no_trust() {
    for (encrypted, owners) in [(true, true), (true, false), (false, true), (false, false)] {
        let memory = MemoryStore::new();
        let repo = create(Arc::new(memory.clone()), encrypted);
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join("a"), noise(1, 30_000)).unwrap();
        fs::write(tree.path().join("b"), noise(2, 30_000)).unwrap();
        if owners {
            repo.backup("s", tree.path());
        } else {
            let (_machine, open) = machine_of(&memory, writer(&repo, "honest", false));
            backup_into(&open, "s", &[tree.path()], &Progress::silent().into()).unwrap();
        }
        let truth = records(&memory);
        let wanted = noise(9, 2000);
        let open = repo.open();
        let invented = open.keys().ids.chunk_id(ChunkKind::Data, &sha256(&wanted));
        let facts = packs(&memory, &open).iter().flat_map(|pack| lies(pack, invented)).collect();
        let (_thief, thief) = machine_of(&memory, writer(&repo, "thief", false));
        Chain::default().publish(&thief, facts, FAR).unwrap();

        let victim = TestRepo::from_elsewhere(Arc::new(memory.clone()));
        without(&memory, &truth, || drop(victim.open()));
        let open = victim.open();
        open.sync(true).unwrap();
        let place = open.index().chunk_places(&invented).unwrap();
        assert!(!place.is_empty(), "the lie was heard");
        assert!(open.index().evidence(&invented, 0, false).unwrap().is_none());
        restores_to(&victim, "s", tree.path());
        let more = tempfile::tempdir().unwrap();
        fs::write(more.path().join("c"), &wanted).unwrap();
        victim.backup("more", more.path());
        restores_to(&victim, "more", more.path());
        restores_to(&TestRepo::from_elsewhere(Arc::new(memory)), "more", more.path());
    }
}

/// What a revoked writer published from then on is not shown and not built upon,
/// whichever is learnt first.
#[test]
fn a_revocation_holds_whenever_it_is_learnt() {
    let memory = MemoryStore::new();
    let repo = create(Arc::new(memory.clone()), true);
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("a"), noise(1, 1000)).unwrap();
    repo.backup("mine", tree.path());
    let file = writer(&repo, "laptop", true);
    let id = file.key.id();
    let (_machine, open) = machine_of(&memory, file);
    let before = records(&memory);
    fs::write(tree.path().join("b"), noise(2, 1000)).unwrap();
    backup_into(&open, "s", &[tree.path()], &Progress::silent().into()).unwrap();
    let theirs: Vec<_> =
        records(&memory).into_iter().filter(|name| !before.contains(name)).collect();
    let chunk = open.keys().ids.chunk_id(ChunkKind::Data, &sha256(&noise(2, 1000)));

    let early = TestRepo::from_elsewhere(Arc::new(memory.clone()));
    assert_eq!(early.library().snapshots().unwrap().len(), 2);
    assert!(early.open().index().evidence(&chunk, 0, false).unwrap().is_some());
    let now = Clock::system().now();
    let revoke = |from| EncodedFact::of(&Fact::Revoke(Revoke { writer: id, from }));
    let later = now.plus(std::time::Duration::from_secs(3600));
    Chain::default().publish(&repo.open(), vec![revoke(later)], FAR).unwrap();
    assert_eq!(early.library().snapshots().unwrap().len(), 2, "it holds from later on");
    Chain::default().publish(&repo.open(), vec![revoke(UnixTime::EPOCH)], FAR).unwrap();

    let late = TestRepo::from_elsewhere(Arc::new(memory.clone()));
    without(&memory, &theirs, || drop(late.open()));
    for machine in [&early, &late] {
        let open = machine.open();
        open.sync(true).unwrap();
        assert_eq!(open.snapshots().unwrap().len(), 1);
        assert!(open.index().evidence(&chunk, 0, false).unwrap().is_none());
    }
    // Nobody revokes the owner.
    let owner = repo.open().config().owner;
    let fact = Fact::Revoke(Revoke { writer: owner, from: UnixTime::EPOCH });
    Chain::default().publish(&repo.open(), vec![EncodedFact::of(&fact)], FAR).unwrap();
    assert_eq!(early.library().snapshots().unwrap().len(), 1);
}

/// A signer whom nobody knows is turned away before his record is unpacked.
#[test]
fn a_body_is_unpacked_only_for_who_shows_a_certificate() {
    let memory = MemoryStore::new();
    let repo = create(Arc::new(memory.clone()), false);
    let open = repo.open();
    let key = SigningKey::random();
    let body = Body { claimed: UnixTime::EPOCH, certificate: None, facts: vec![], deadline: None };
    let plain = [body.encode(), vec![0; 20 << 20]].concat();
    for codec in [0_u8, 1] {
        let packed =
            if codec == 0 { plain.clone() } else { zstd::bulk::compress(&plain, 3).unwrap() };
        let header = Header {
            repository: open.config().repository,
            writer: key.id(),
            chain: ChainId([codec; 16]),
            number: 0,
            previous: None,
            // Not what it unpacks to, which nobody finds out.
            body_len: 200 << 20,
        };
        let header_bytes = header.encode();
        let body = [&[codec], packed.as_slice()].concat();
        let bytes = Record { header, header_bytes, envelope: Vec::new(), body }.issue(&key);
        let hour = names::Hour::of(Clock::system().now());
        memory.put_new(&names::record(hour, RecordId(sha256(&bytes))), bytes.into()).unwrap();
    }
    let report = open.sync(true).unwrap();
    assert_eq!(report.problems.len(), 2, "{report:?}");
    for (_, why) in report.problems {
        assert!(why.contains("shows no certificate"), "{why}");
    }
}

#[test]
fn a_record_that_is_gone_from_a_chain_is_reported() {
    let memory = MemoryStore::new();
    let repo = create(Arc::new(memory.clone()), true);
    let open = repo.open();
    let mut chain = Chain::default();
    let mut names = Vec::new();
    for _ in 0..3 {
        chain.publish(&open, vec![], FAR).unwrap();
        let new = records(&memory).into_iter().find(|name| !names.contains(name));
        names.extend(new);
    }
    assert_eq!(chain_gaps(&open).unwrap(), []);
    let elsewhere = TestRepo::from_elsewhere(Arc::new(memory.clone()));
    let gap = (chain.id(), ChainGap::Missing { from: 1, upto: 2 });
    without(&memory, &names[1..2], || {
        assert_eq!(chain_gaps(&elsewhere.open()).unwrap(), [gap]);
    });
    let open = elsewhere.open();
    open.sync(true).unwrap();
    assert_eq!(chain_gaps(&open).unwrap(), []);
}
