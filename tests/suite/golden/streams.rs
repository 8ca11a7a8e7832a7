//! A database that was followed, in two streams: `tests/tools/golden_streams.rs` says what
//! there is of it.

use asof::ops::moments::{Between, Listed, each_moment};
use asof::repo::library::SnapshotInfo;
use asof::repo::streams::state_id;
use asof::repo::{Library, browse};
use rusqlite::Connection;

use super::*;

const NAME: &str = "streams-v1";

/// What was written down of a state.
struct State {
    stream: String,
    position: u64,
    at: String,
    size: u64,
    hash: String,
}

fn states(copy: &Copy) -> Vec<State> {
    let lines = lines(&copy.golden.join("states.txt"));
    let states = lines.iter().filter_map(|line| line.strip_prefix("state "));
    let of = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [stream, position, at, size, hash] = words[..] else { panic!("{line}") };
        let number = |text: &str| text.parse().unwrap();
        let (position, size) = (number(position), number(size));
        State { stream: stream.into(), position, at: at.into(), size, hash: hash.into() }
    };
    states.map(of).collect()
}

/// Lists everything, and reads every byte.
fn reads(copy: &Copy) {
    let (machine, open) = copy.open();
    let library = machine.library_of(&open);
    let mut found = Vec::new();
    each_moment(&open, "shop", Between::default(), |listed| {
        found.push(match listed {
            Listed::State { at, stream, position, size, .. } => {
                let info = library.snapshot(&state_id("shop", stream, *position)).unwrap().unwrap();
                let [mut raw, plain] =
                    ["kv.db.raw", "kv.db"].map(|name| read(library.as_ref(), &info, name));
                let hash = hex::encode(sha256(&raw));
                raw[18..20].copy_from_slice(&[1, 1]);
                assert!(raw == plain, "{position}");
                let file = copy.dir.path().join("seen.db");
                fs::write(&file, plain).unwrap();
                let db = Connection::open(&file).unwrap();
                let sound: String =
                    db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
                assert_eq!(sound, "ok", "{position}");
                format!("state {stream} {position} {} {size} {hash}", at.to_exact())
            }
            Listed::Gap { since, until, reason } => {
                format!("gap {} {} {reason}", since.to_exact(), until.unwrap().to_exact())
            }
        });
        Ok::<(), asof::ops::Error>(())
    })
    .unwrap();
    same(&lines(&copy.golden.join("states.txt")), &found);
    let options = CheckOptions { read_data: true, ..CheckOptions::default() };
    let report = check(&open, options, &Progress::silent(), &Stop::new()).unwrap();
    assert_eq!((report.damaged_objects, report.snapshots_damaged), (0, 0), "{report:?}");
}

fn read(library: &dyn Library, info: &Arc<SnapshotInfo>, name: &str) -> Vec<u8> {
    let dir = browse::Found::root(info).dir().unwrap();
    let file = browse::find(library, dir, name.as_bytes()).unwrap().unwrap().content();
    library.read(&file, 0, usize::try_from(file.size()).unwrap()).unwrap().to_vec()
}

#[test]
fn every_state_of_the_golden_streams_reads() {
    is_unchanged(NAME);
    for receipts in [Receipts::Kept, Receipts::New] {
        reads(&Copy::new(NAME, receipts));
    }
}

#[test]
fn the_document_alone_reads_every_state_of_the_golden_streams() {
    let Some(python) = python() else { return };
    // Each call starts an interpreter, and with other receipts the states are the same.
    for (receipts, every) in [(Receipts::Kept, 1), (Receipts::New, 7)] {
        let copy = Copy::new(NAME, receipts);
        let run = |args: &[&str]| {
            let output = read_asof(&python, copy.dir.path(), args, PASSPHRASE);
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && told.is_empty(), "{args:?}: {told}");
            String::from_utf8(output.stdout).unwrap()
        };
        let states = states(&copy);
        let rows: Vec<String> = states
            .iter()
            .map(|one| format!("shop {} {} {} {}", one.stream, one.position, one.at, one.size))
            .collect();
        assert_eq!(run(&["states", "store"]).lines().collect::<Vec<_>>(), rows);
        for state in states.iter().step_by(every) {
            let when = format!("{}:{}", state.stream, state.position);
            run(&["state", "store", "shop", &when, "out.db"]);
            let out = copy.dir.path().join("out.db");
            assert_eq!(hex::encode(sha256(&fs::read(&out).unwrap())), state.hash, "{when}");
            fs::remove_file(out).unwrap();
        }
    }
}

/// It is verified, collected, and reads as before.
#[test]
fn the_golden_streams_go_on() {
    let copy = Copy::new(NAME, Receipts::Kept);
    let (_machine, open) = copy.open();
    let options = VerifyOptions::default();
    let report = verify_log(&open, options, &Progress::silent(), &Stop::new()).unwrap();
    assert_eq!(report.problems, 0, "{:#?}", report.findings);
    drop(open);
    for receipts in [Receipts::Kept, Receipts::New] {
        let copy = Copy::new(NAME, receipts);
        goes_on_with(&copy, "after", reads);
    }
}

/// Everything that streams have is in it.
#[test]
fn nothing_that_streams_have_is_left_out() {
    let copy = Copy::new(NAME, Receipts::Kept);
    let (_machine, open) = copy.open();
    let (mut checkpoints, mut by_writer, mut by_owner) = (0, 0, 0);
    for object in open.store().list(names::LOG, None).unwrap().objects {
        let (_, id) = names::parse_record(&object.key).unwrap();
        for fact in read_facts(&open, id, &object.key).unwrap() {
            match Fact::decode(&fact).unwrap().1 {
                Fact::Checkpoint(_) => checkpoints += 1,
                Fact::Segment(_) => by_writer += 1,
                _ => {}
            }
        }
    }
    assert_eq!((checkpoints, by_writer), (1, 3));
    let mut images: Vec<(String, u64)> = Vec::new();
    for info in open.snapshots().unwrap().iter() {
        let point = info.snapshot.point.as_ref().unwrap();
        images.push((point.stream.to_string(), point.position));
        by_owner += u32::from(point.gap.is_none());
    }
    let states = states(&copy);
    let (first, second) = (&states[0].stream, &states[states.len() - 1].stream);
    assert_ne!(first, second);
    let image = |stream: &String, position| (stream.clone(), position);
    let expected = [image(first, 0), image(first, 7), image(first, 14), image(second, 0)];
    assert_eq!((images, by_owner), (expected.to_vec(), 3));
    let positions = |stream: &String| -> Vec<u64> {
        states.iter().filter(|one| one.stream == *stream).map(|one| one.position).collect()
    };
    // A hole up to the next image; and one state that was not kept.
    assert_eq!(positions(first), (0..=10).chain(14..=16).collect::<Vec<_>>());
    assert_eq!(positions(second), [0, 1, 2, 3, 4, 6]);
    let cut = states.windows(2).filter(|pair| pair[1].size < pair[0].size);
    assert!(cut.count() >= 2);
    let gaps = lines(&copy.golden.join("states.txt"));
    assert_eq!(gaps.iter().filter(|line| line.starts_with("gap ")).count(), 2);
}
