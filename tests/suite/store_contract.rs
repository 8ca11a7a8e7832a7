//! What every store promises, written once and run against each: memory, a
//! directory, a real S3 server, and all of them through the wrappers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Barrier;

use bytes::Bytes;

use asof::base::{Kind, Stop, UnixTime};
use asof::store::{
    Call, CountStore, FaultStore, LimitStore, Limits, LocalStore, MemoryStore, Patience,
    RememberStore, RetryStore, Store,
};

use crate::ceph::{self, User};

/// One promise, of a store that is empty.
type Promise = fn(&dyn Store);

const PROMISES: &[(&str, Promise)] = &[
    ("what was put is read", what_was_put_is_read),
    ("the first put stays", the_first_put_stays),
    ("ranges are whole or an error", ranges_are_whole_or_an_error),
    ("parts have the lengths that were asked for", parts_have_the_lengths_that_were_asked_for),
    ("a larger object than expected is damage", a_larger_object_than_expected_is_damage),
    ("what is missing is not found", what_is_missing_is_not_found),
    ("bad names are refused everywhere", bad_names_are_refused_everywhere),
    ("deleting twice is deleting", deleting_twice_is_deleting),
    ("names are listed in byte order", names_are_listed_in_byte_order),
    ("a listing goes on after any text", a_listing_goes_on_after_any_text),
    ("a long listing comes in pages", a_long_listing_comes_in_pages),
    ("of many puts one creates", of_many_puts_one_creates),
    ("many threads read at once", many_threads_read_at_once),
    ("receipts are those of the listing", receipts_are_those_of_the_listing),
    ("a listing says when it was", a_listing_says_when_it_was),
];

fn keep_promises(make: impl Fn() -> Arc<dyn Store>) {
    for (name, promise) in PROMISES {
        let store = make();
        let location = store.location();
        let kept = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| promise(&*store)));
        assert!(kept.is_ok(), "{location} breaks the promise: {name}");
    }
}

#[test]
fn memory_keeps_its_promises() {
    keep_promises(|| Arc::new(MemoryStore::new()));
    keep_promises(|| {
        let store = MemoryStore::new();
        store.set_page(3);
        Arc::new(store)
    });
}

#[test]
fn a_directory_keeps_its_promises() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    keep_promises(|| {
        count.set(count.get() + 1);
        let path = dir.path().join(format!("{}/new/deep", count.get()));
        Arc::new(LocalStore::create(&path).unwrap())
    });
}

#[test]
fn a_bucket_keeps_its_promises() {
    if ceph::store(User::Owner).is_some() {
        keep_promises(|| Arc::new(ceph::store(User::Owner).unwrap()));
    }
}

#[test]
fn a_bucket_without_conditional_puts_keeps_what_it_can() {
    let Some(mut options) = ceph::options(User::Owner) else {
        return;
    };
    options.conditional_puts = asof::store::s3::ConditionalPuts::Off;
    let store = ceph::open(options);
    what_was_put_is_read(&store);
    let again = store.put_new("packs/aa/one", Bytes::from_static(b"some bytes")).unwrap();
    assert!(again.created, "a plain put cannot know better");
}

/// Who keeps one part of what a bucket sent keeps no others: no wrapper asks for the whole.
#[test]
fn parts_from_a_bucket_have_memory_of_their_own() {
    let Some(store) = ceph::store(User::Owner) else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(LimitStore::new(Arc::new(store), Limits::default(), Stop::new()));
    let store = Arc::new(RetryStore::new(store, Patience::default(), Stop::new()));
    let store = Arc::new(CountStore::new(store));
    let store = RememberStore::new(store, dir.path().to_owned(), &[]);
    store.put_new("packs/aa/one", Bytes::from_static(b"0123456789")).unwrap();
    let parts = store.get_parts("packs/aa/one", 2, &[3, 5]).unwrap();
    assert_eq!(parts, ["234", "56789"]);
    assert!(parts.iter().all(Bytes::is_unique));
}

#[test]
fn the_wrappers_keep_the_promises_of_what_they_wrap() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    let wrap = |store: Arc<dyn Store>| -> Arc<dyn Store> {
        let limits = Limits { up: Some(1 << 40), down: Some(1 << 40), requests: Some(4) };
        let store = Arc::new(FaultStore::new(store));
        let store = Arc::new(LimitStore::new(store, limits, Stop::new()));
        let store = Arc::new(RetryStore::new(store, Patience::default(), Stop::new()));
        Arc::new(CountStore::new(store))
    };
    keep_promises(|| wrap(Arc::new(MemoryStore::new())));
    keep_promises(|| {
        count.set(count.get() + 1);
        let path = dir.path().join(count.get().to_string());
        let store = wrap(Arc::new(LocalStore::create(&path).unwrap()));
        assert!(store.local_path().is_some(), "a wrapper must not hide where a directory is");
        store
    });
    if ceph::store(User::Owner).is_some() {
        keep_promises(|| wrap(Arc::new(ceph::store(User::Owner).unwrap())));
    }
}

fn what_was_put_is_read(store: &dyn Store) {
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    for (key, body) in [
        ("asof.json", Bytes::from_static(b"{}")),
        ("packs/aa/one", Bytes::from_static(b"some bytes")),
        ("packs/ab/large", Bytes::from(large)),
        ("log/empty", Bytes::new()),
    ] {
        assert!(store.put_new(key, body.clone()).unwrap().created, "{key}");
        assert_eq!(store.get(key, body.len() as u64).unwrap(), body, "{key}");
    }
}

fn the_first_put_stays(store: &dyn Store) {
    let first = store.put_new("packs/aa/one", Bytes::from_static(b"first")).unwrap();
    let second = store.put_new("packs/aa/one", Bytes::from_static(b"second")).unwrap();
    assert!(first.created && !second.created);
    assert!(second.latest >= first.receipt);
    assert_eq!(store.get("packs/aa/one", 100).unwrap(), "first");
}

fn ranges_are_whole_or_an_error(store: &dyn Store) {
    store.put_new("packs/aa/one", Bytes::from_static(b"0123456789")).unwrap();
    for (range, expected) in [(0..10, "0123456789"), (0..1, "0"), (3..7, "3456"), (9..10, "9")] {
        assert_eq!(store.get_range("packs/aa/one", range.clone()).unwrap(), expected, "{range:?}");
    }
    for range in [0..11, 5..20, 9..11, 10..11, 100..200, 0..1 << 60, (1 << 60)..(1 << 60) + 1] {
        let error = store.get_range("packs/aa/one", range.clone()).unwrap_err();
        assert_eq!(error.kind, Kind::Damaged, "{range:?}: {}", error.source);
        assert_eq!(error.key, "packs/aa/one");
    }
    #[allow(clippy::reversed_empty_ranges)]
    for range in [0..0, 10..10, 7..3] {
        let error = store.get_range("packs/aa/one", range.clone()).unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{range:?}: {}", error.source);
    }
}

fn parts_have_the_lengths_that_were_asked_for(store: &dyn Store) {
    store.put_new("packs/aa/one", Bytes::from_static(b"0123456789")).unwrap();
    let parts = |start, lengths: &[usize]| store.get_parts("packs/aa/one", start, lengths);
    assert_eq!(parts(0, &[10]).unwrap(), ["0123456789"]);
    assert_eq!(parts(0, &[0, 4, 0, 6]).unwrap(), ["", "0123", "", "456789"]);
    assert_eq!(parts(3, &[1, 2, 3]).unwrap(), ["3", "45", "678"]);
    assert_eq!(parts(8, &[1, 2]).unwrap_err().kind, Kind::Damaged);
    assert_eq!(parts(8, &[1, usize::MAX]).unwrap_err().kind, Kind::Damaged);
    assert_eq!(parts(8, &[]).unwrap_err().kind, Kind::Invalid);
    let missing = store.get_parts("packs/aa/two", 0, &[1]).unwrap_err();
    assert_eq!((missing.kind, missing.call), (Kind::NotFound, Call::Get));
}

fn a_larger_object_than_expected_is_damage(store: &dyn Store) {
    store.put_new("packs/aa/one", Bytes::from_static(b"0123456789")).unwrap();
    assert_eq!(store.get("packs/aa/one", 10).unwrap().len(), 10);
    for limit in [9, 0] {
        assert_eq!(store.get("packs/aa/one", limit).unwrap_err().kind, Kind::Damaged);
    }
}

fn what_is_missing_is_not_found(store: &dyn Store) {
    store.put_new("packs/aa/one", Bytes::from_static(b"x")).unwrap();
    for key in ["asof.json", "packs/aa/two", "packs/bb/one", "packs/aa", "packs/aa/one/below"] {
        let whole = store.get(key, 100).unwrap_err();
        let part = store.get_range(key, 0..1).unwrap_err();
        assert_eq!((whole.kind, part.kind), (Kind::NotFound, Kind::NotFound), "{key}");
        assert_eq!((whole.call, whole.key.as_str()), (Call::Get, key));
        assert_eq!(whole.store, store.location());
        let line = whole.source.to_string();
        assert!(!line.is_empty() && !line.contains('\n'), "{line:?}");
    }
    for prefix in ["keys/", "packs/bb", "packs/aa/one/", "packs/aa/onemore"] {
        let page = store.list(prefix, None).unwrap();
        assert!(page.objects.is_empty() && !page.more, "{prefix}");
    }
}

fn bad_names_are_refused_everywhere(store: &dyn Store) {
    for key in ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", "a b", "ä", "tmp/x"] {
        let errors = [
            store.put_new(key, Bytes::new()).unwrap_err(),
            store.get(key, 1).unwrap_err(),
            store.get_range(key, 0..1).unwrap_err(),
            store.delete(key).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind, Kind::Invalid, "{} {key:?}", error.call);
        }
    }
    for prefix in ["/", "../", "a/../", "a//"] {
        assert_eq!(store.list(prefix, None).unwrap_err().kind, Kind::Invalid, "{prefix}");
    }
}

fn deleting_twice_is_deleting(store: &dyn Store) {
    store.put_new("packs/aa/one", Bytes::from_static(b"x")).unwrap();
    store.put_new("packs/aa/two", Bytes::from_static(b"x")).unwrap();
    store.delete("packs/aa/one").unwrap();
    store.delete("packs/aa/one").unwrap();
    store.delete("packs/never/was").unwrap();
    store.delete("packs").unwrap();
    assert_eq!(names(store, "", None), ["packs/aa/two"]);
    let again = store.put_new("packs/aa/one", Bytes::from_static(b"y")).unwrap();
    assert!(again.created, "what was deleted can be created again");
}

/// `-` and `.` sort before `/`, digits and letters after it: the order of directories'
/// names is not the order of objects' names.
const UNORDERED: &[&str] = &[
    "b",
    "a/b",
    "a-b",
    "a.b",
    "a0",
    "a/b-c",
    "aa/x",
    "A/z",
    "a/c/d/e",
    "a/c.d",
    "a/c0",
    "a_b",
    "log/2026-11-21T01-ff",
    "log/2026-11-21T00-ff",
    "packs/00/1",
    "packs/0a/1",
    "packs/ff/1",
    "z",
];

fn names_are_listed_in_byte_order(store: &dyn Store) {
    for key in UNORDERED {
        store.put_new(key, Bytes::from_static(b"x")).unwrap();
    }
    for prefix in ["", "a", "a/", "a/c", "a-", "log/2026-11-21T01", "packs/", "packs/f", "q", "b"] {
        let mut expected: Vec<&str> =
            UNORDERED.iter().copied().filter(|key| key.starts_with(prefix)).collect();
        expected.sort_unstable();
        assert_eq!(names(store, prefix, None), expected, "prefix {prefix:?}");
    }
}

fn a_listing_goes_on_after_any_text(store: &dyn Store) {
    for key in UNORDERED {
        store.put_new(key, Bytes::from_static(b"x")).unwrap();
    }
    let others = ["a/", "a/c", "a/c/", "a/c/d", "a0a", "packs", "packs/0", "packs/00/", "0", "zz"];
    for after in UNORDERED.iter().chain(&others) {
        for prefix in ["", "a", "a/", "packs/"] {
            let mut expected: Vec<&str> = UNORDERED
                .iter()
                .copied()
                .filter(|key| key.starts_with(prefix) && key > after)
                .collect();
            expected.sort_unstable();
            let found = names(store, prefix, Some(after));
            assert_eq!(found, expected, "prefix {prefix:?} after {after:?}");
        }
    }
}

fn a_long_listing_comes_in_pages(store: &dyn Store) {
    // Just one more than two pages, spread so that pages end inside of directories.
    let all: BTreeSet<String> = (0..2001).map(|n| format!("packs/{:02x}/{n:05}", n % 7)).collect();
    let list: Vec<&String> = all.iter().collect();
    std::thread::scope(|scope| {
        for part in list.chunks(list.len().div_ceil(8)) {
            scope.spawn(move || {
                for key in part {
                    store.put_new(key, Bytes::from_static(b"abc")).unwrap();
                }
            });
        }
    });
    store.put_new("log/other", Bytes::new()).unwrap();
    store.put_new("z", Bytes::new()).unwrap();

    let mut found: Vec<String> = Vec::new();
    loop {
        let page = store.list("packs/", found.last().map(String::as_str)).unwrap();
        assert!(page.objects.len() <= 1000);
        assert!(page.objects.iter().all(|object| object.size == 3));
        assert!(!page.more || !page.objects.is_empty(), "no way to go on");
        found.extend(page.objects.into_iter().map(|object| object.key));
        if !page.more {
            break;
        }
    }
    assert!(found.iter().eq(&all));

    // A page that ends at the very last name does not promise another.
    let after = &found[found.len() - 1001];
    let mut rest = 0;
    let mut last = after.clone();
    loop {
        let page = store.list("packs/", Some(&last)).unwrap();
        rest += page.objects.len();
        if !page.more {
            break;
        }
        last.clone_from(&page.objects.last().unwrap().key);
    }
    assert_eq!(rest, 1000);
}

fn of_many_puts_one_creates(store: &dyn Store) {
    const THREADS: usize = 16;
    for round in 0..5 {
        let key = format!("packs/{round:02}/same");
        let barrier = Barrier::new(THREADS);
        let created: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|n| {
                    let (key, barrier) = (&key, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        let body = Bytes::from(vec![b'a' + n as u8; 50_000]);
                        usize::from(store.put_new(key, body).unwrap().created)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(created, 1, "{key}");
        let body = store.get(&key, 50_000).unwrap();
        assert!(body.len() == 50_000 && body.iter().all(|b| *b == body[0]), "one body, whole");
    }
}

fn many_threads_read_at_once(store: &dyn Store) {
    let body: Vec<u8> = (0..1_000_000_u32).map(|n| (n / 4).to_le_bytes()[n as usize % 4]).collect();
    let body = Bytes::from(body);
    store.put_new("packs/aa/one", body.clone()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..32_u64 {
            let body = &body;
            scope.spawn(move || {
                for n in 0..8 {
                    let start = (thread * 8 + n) * 3001;
                    let range = start..start + 20_000;
                    let expected = body.slice(start as usize..start as usize + 20_000);
                    assert!(store.get_range("packs/aa/one", range).unwrap() == expected);
                }
            });
        }
    });
}

fn receipts_are_those_of_the_listing(store: &dyn Store) {
    let put = store.put_new("log/one", Bytes::from_static(b"x")).unwrap();
    let listed = store.list("log/", None).unwrap().objects.remove(0);
    assert!(put.receipt > UnixTime::new(1_700_000_000, 0), "{}", put.receipt);
    // A `Date` has whole seconds, and is said a moment after the object was written.
    let apart = put.receipt.since(listed.receipt).max(listed.receipt.since(put.receipt));
    assert!(apart.as_secs() < 10, "{} and {}", put.receipt, listed.receipt);
}

/// By the store's own time, which goes on between calls that follow each other.
fn a_listing_says_when_it_was(store: &dyn Store) {
    let before = store.put_new("log/one", Bytes::from_static(b"x")).unwrap();
    let at = store.list("log/", None).unwrap().at.unwrap();
    let missing = store.list("packs/", None).unwrap().at.unwrap();
    let after = store.put_new("log/two", Bytes::from_static(b"x")).unwrap();
    assert!(before.receipt <= at, "{} and then {at}", before.receipt);
    assert!(at <= missing && missing <= after.receipt, "{at}, {missing}, {}", after.receipt);
}

/// All names, by as many pages as it takes.
fn names(store: &dyn Store, prefix: &str, after: Option<&str>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    loop {
        let from = names.last().map(String::as_str).or(after);
        let page = store.list(prefix, from).unwrap();
        names.extend(page.objects.into_iter().map(|object| object.key));
        if !page.more {
            return names;
        }
    }
}
