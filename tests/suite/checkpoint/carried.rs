//! What a checkpoint carries is what the records said, in every index.

use super::*;

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 33).unwrap() % n
    }
}

/// Publishes records of all kinds by several writers, spread over five grace periods.
fn random_log(world: &World, dice: &mut Dice, records: u32, numbers: std::ops::Range<u32>) {
    let owner = world.repo.open();
    let machines: Vec<TestRepo> = (0..3).map(|_| world.fresh()).collect();
    let writer = |n: usize, sources: Option<Vec<String>>, trusted| {
        let file = keyring::export_writer(&owner, &format!("w{n}"), sources, trusted).unwrap();
        machines[n].open_with(Credential::Writer(Box::new(file))).unwrap()
    };
    let repos = [
        Arc::clone(&owner),
        writer(0, None, true),
        writer(1, Some(vec!["web".into()]), false),
        writer(2, None, true),
    ];
    let mut chains: Vec<(usize, Chain)> = Vec::new();
    let span = numbers.end - numbers.start;
    for n in 0..records {
        world.pass(i64::from(dice.below(u32::try_from(10 * GRACE / i64::from(records)).unwrap())));
        owner.sync(false).unwrap();
        if chains.is_empty() || dice.below(2) == 0 {
            chains.push((dice.below(4) as usize, Chain::default()));
        }
        let at = dice.below(u32::try_from(chains.len()).unwrap()) as usize;
        let (who, chain) = &mut chains[at];
        let repo = &repos[*who];
        let mut facts = Vec::new();
        for k in 0..dice.below(6) {
            let m = numbers.start + dice.below(span);
            let pack = PackId(sha256(&m.to_le_bytes()));
            facts.push(match dice.below(if *who == 0 { 13 } else { 6 }) {
                0 | 1 => EncodedFact::of(&pack_fact(m, 1 + m % 7)),
                2 if dice.below(6) == 0 => EncodedFact::of(&pack_fact(1000 + n * 10 + k, 17_000)),
                2 => EncodedFact::of(&pack_fact(m + 500, 2)),
                3 => snapshot_fact(m, if m.is_multiple_of(2) { "web" } else { "db" }, world.now()),
                4 => EncodedFact::of(&Fact::Pin(Pin::Snapshot(snapshot_id(m)))),
                5 if *who != 0 && dice.below(3) == 0 => {
                    // What its signer may not say.
                    let snapshots = vec![snapshot_id(m)];
                    EncodedFact::of(&Fact::Forget(Forget { snapshots, reason: None }))
                }
                5 => EncodedFact::of(&Fact::Pin(Pin::Chain(chain.id(), chain.next()))),
                6 | 7 => EncodedFact::of(&Fact::Forget(Forget {
                    snapshots: vec![snapshot_id(m), snapshot_id(m + 1)],
                    reason: None,
                })),
                8 => EncodedFact::of(&Fact::Condemn(Packs { packs: vec![pack] })),
                9 | 10 => EncodedFact::of(&Fact::Deleted(Packs { packs: vec![pack] })),
                11 if dice.below(4) == 0 => EncodedFact::of(&Fact::Revoke(Revoke {
                    writer: repos[3].keys().writer_id().unwrap(),
                    from: world.now(),
                })),
                11 => EncodedFact::of(&Fact::Grace(Grace { seconds: u64::from(m) })),
                _ => EncodedFact { bytes: item::encode(&[chunk(m, 0)], 99, &[0x82, 1, 2]) },
            });
        }
        let deadline = match dice.below(5) {
            0 => None,
            1 => Some(UnixTime::new(world.now().seconds - 1, 0)),
            _ => Some(far(world)),
        };
        chain.publish(repo, facts, deadline).unwrap();
    }
    world.pass(2 * SKEW + 1);
}

/// Whether the rules allow that a line is not known any more at `at`, by what was known.
fn may_go(repo: &Repository, line: &str, at: i64) -> bool {
    let db = rusqlite::Connection::open(repo.index().path()).unwrap();
    let (old, gone) = (at - GRACE, at - 4 * GRACE);
    let words: Vec<&str> = line.split(' ').collect();
    let yes = |sql: &str, by: i64| -> bool {
        db.query_row(sql, (words[1], by), |row| row.get::<_, i64>(0)).unwrap() > 0
    };
    match words[0] {
        "claim" | "chunk" => {
            yes("SELECT count(*) FROM fate WHERE hex(pack) = ?1 AND deleted <= ?2", at)
        }
        "fate" => yes("SELECT count(*) FROM fate WHERE hex(pack) = ?1 AND deleted <= ?2", gone),
        "snapshot" => {
            yes("SELECT ?2 > 0 AND count(*) FROM forgotten WHERE hex(snapshot) = ?1", at)
                && words[3].parse::<i64>().unwrap() <= old
                && !yes("SELECT count(*) FROM pin WHERE hex(snapshot) = ?1 AND receipt > ?2", old)
        }
        "forgotten" => {
            yes("SELECT count(*) FROM forgotten WHERE hex(snapshot) = ?1 AND receipt <= ?2", gone)
        }
        "pin" => words[3].parse::<i64>().unwrap() <= old,
        "record" => yes(
            "SELECT max(other.receipt) <= ?2 FROM record JOIN record AS other
                 ON other.chain = record.chain AND other.writer = record.writer
             WHERE hex(record.id) = ?1",
            gone,
        ),
        _ => false,
    }
}

/// Whatever the log says: a machine that learns it from checkpoints alone knows what one
/// knows that read every record, signers, receipts and lateness included, except for what
/// is over; and what is over does not come back.
#[test]
fn what_is_carried_on_is_what_was_said() {
    let mut parts = 0;
    let mut dropped = 0;
    for seed in 1..=4_u64 {
        let world = world(seed % 2 == 0);
        let mut dice = Dice(seed * 7_777_777);
        let reader = || {
            let fresh = world.fresh();
            let open = fresh.open();
            (fresh, open)
        };
        // The second half of the log is merged with the first checkpoint or beside it.
        random_log(&world, &mut dice, 40, 0..30);
        let original = world.memory.fork();
        let owner = world.repo.open();
        let done = world.compact(&owner, 1).unwrap();
        assert_eq!((done.records, done.checkpoints), (40, 0));
        dropped += done.facts_dropped;
        let half = world.now().seconds;
        world.pass(GRACE + 2 * SKEW + 1);
        assert_eq!(world.drop(&owner, false).objects, 40);
        let (_first, knows) = reader();
        compare(&original, &knows, half, &published(&owner));
        assert_eq!(chain_gaps(&knows).unwrap(), []);

        let count = if seed % 3 == 0 { 5 } else { 60 };
        random_log(&world, &mut dice, count, 20..50);
        for name in world.memory.keys() {
            let body = world.memory.get(&name, u64::MAX).unwrap();
            let receipt = receipt_of(&world.memory, &name);
            original.set_clock(Clock::from_fn(move || receipt));
            original.put_new(&name, body).unwrap();
        }
        let done = world.compact(&owner, 1).unwrap();
        assert_eq!(done.records, u64::from(count));
        let at = world.now().seconds;
        world.pass(GRACE + 2 * SKEW + 1);
        world.drop(&owner, false);
        let checkpoints = 2 - usize::try_from(done.checkpoints).unwrap();
        assert_eq!(world.log().len(), checkpoints);
        parts += 1 - done.checkpoints;
        let (_second, knows) = reader();
        compare(&original, &knows, at, &published(&owner));
        assert_eq!(chain_gaps(&knows).unwrap(), []);
        // The other way round: who knew the records learns nothing from the checkpoint.
        let before = dump(&owner);
        owner.rebuild().unwrap();
        assert!(dump(&owner).is_subset(&before), "nothing is doubled");
    }
    assert!(parts > 0 && parts < 4, "both beside each other and merged: {parts}");
    assert!(dropped > 50, "{dropped}");
}

/// Every checkpoint that a machine has heard of.
fn published(repo: &Repository) -> Vec<RecordId> {
    repo.index().checkpoints(false).unwrap().iter().map(|one| one.record).collect()
}

fn receipt_of(memory: &MemoryStore, name: &str) -> UnixTime {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let mut after = None;
    loop {
        let page = memory.list(&prefix, after.as_deref()).unwrap();
        if let Some(found) = page.objects.iter().find(|object| object.key == name) {
            return found.receipt;
        }
        after = page.objects.last().map(|object| object.key.clone());
    }
}

fn compare(original: &MemoryStore, knows: &Repository, at: i64, checkpoints: &[RecordId]) {
    let memory = original.fork();
    for name in original.keys() {
        // The originals alone: no checkpoint tells what is in them.
        if names::parse_record(&name).is_some_and(|(_, id)| checkpoints.contains(&id)) {
            memory.delete(&name).unwrap();
        }
    }
    let machine = TestRepo::from_elsewhere(Arc::new(memory));
    let read_all = machine.open();
    let (all, carried) = (dump(&read_all), dump(knows));
    for line in all.difference(&carried) {
        assert!(may_go(&read_all, line, at), "lost: {line:.300}");
    }
    // A checkpoint's own record and packs are new, and nothing else is.
    let db = rusqlite::Connection::open(knows.index().path()).unwrap();
    let mut own: BTreeSet<String> = BTreeSet::new();
    for id in checkpoints {
        let sql = "SELECT hex(record.id), hex(record.chain), hex(pack.id) FROM record
             JOIN claimant ON claimant.chain = record.chain
             JOIN pack ON pack.number = claimant.pack WHERE hex(record.id) = ?1";
        let mut statement = db.prepare(sql).unwrap();
        let mut rows = statement.query([hex::encode_upper(id.0)]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            own.extend((0..3).map(|n| row.get::<_, String>(n).unwrap()));
        }
    }
    assert!(!own.is_empty());
    for line in carried.difference(&all) {
        let word = line.split(' ').nth(1).unwrap();
        // Of what two facts condemned, one may be over.
        let over = line.starts_with("fate ") && may_go(&read_all, line, at);
        assert!(own.contains(word) || over, "invented: {line:.300}");
    }
}
