//! What the wrappers do when calls fail.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use asof::base::pause::uptime;
use asof::base::{Clock, Kind, Stop, UnixTime};
use asof::store::fault::{Action, Fault, Moment};
use asof::store::{
    Call, CountStore, FaultStore, LimitStore, Limits, MemoryStore, Patience, RetryStore, Store,
};

fn body() -> Bytes {
    Bytes::from_static(b"0123456789")
}

fn eager(attempts: u32) -> Patience {
    let none = Duration::ZERO;
    Patience { attempts, first: none, longest: none, ..Patience::default() }
}

/// A reply that is lost is the hard case: the retry finds the object, and says so.
#[test]
fn a_retry_after_a_lost_reply_finds_its_own_object() {
    let memory = MemoryStore::new();
    let fault = FaultStore::new(Arc::new(memory.clone()));
    let store = RetryStore::new(Arc::new(fault.clone()), eager(3), Stop::new());
    fault.fail_next(Call::Put, "packs/");
    assert!(store.put_new("packs/aa/one", body()).unwrap().created);
    fault.lose_next_reply(Call::Put, "packs/");
    assert!(!store.put_new("packs/aa/two", body()).unwrap().created);
    assert_eq!(memory.len(), 2);
    assert_eq!(fault.made().len(), 4);
}

/// The object may be as old as the first attempt, whatever time the last one heard.
#[test]
fn the_receipt_of_an_own_lost_put_is_not_later_than_its_first_attempt() {
    let answered = UnixTime::new(1_800_000_000, 0);
    let memory = MemoryStore::with_clock(Clock::from_fn(move || answered));
    let fault = FaultStore::new(Arc::new(memory));
    let store = RetryStore::new(Arc::new(fault.clone()), eager(3), Stop::new());
    let moments: Arc<Mutex<Vec<Duration>>> = Arc::default();
    for moment in [Moment::After, Moment::Before] {
        let seen = Arc::clone(&moments);
        let skip = u64::from(moment == Moment::Before);
        let look = Action::Run(moment, Arc::new(move |_| seen.lock().unwrap().push(uptime())));
        let (call, prefix) = (Some(Call::Put), "packs/".to_owned());
        fault.add(Fault { call, prefix, skip, times: 1, action: look });
    }
    fault.lose_next_reply(Call::Put, "packs/");
    let put = store.put_new("packs/aa/one", body()).unwrap();
    let [first, second] = moments.lock().unwrap()[..] else { panic!("two attempts") };
    let passed = second.saturating_sub(first);
    assert!(!put.created && passed > Duration::ZERO);
    assert!(answered.since(put.receipt) >= passed + Duration::from_secs(1), "{}", put.receipt);
    assert_eq!(put.latest, answered);

    let again = store.put_new("packs/aa/one", body()).unwrap();
    assert_eq!((again.created, again.receipt), (false, answered), "without a retry it is known");
}

#[test]
fn retries_end_with_the_patience_and_only_what_may_pass_is_retried() {
    let fault = FaultStore::new(Arc::new(MemoryStore::new()));
    let store = RetryStore::new(Arc::new(fault.clone()), eager(3), Stop::new());
    fault.die_at(0, Moment::Before);
    assert_eq!(store.list("", None).unwrap_err().kind, Kind::Unavailable);
    assert_eq!(fault.made().len(), 3);

    fault.heal();
    fault.forget_made();
    assert_eq!(store.get("asof.json", 9).unwrap_err().kind, Kind::NotFound);
    assert_eq!(fault.made().len(), 1);
}

#[test]
fn a_raised_stop_ends_retrying() {
    let fault = FaultStore::new(Arc::new(MemoryStore::new()));
    let stop = Stop::new();
    let hour = Duration::from_secs(3600);
    let patience = Patience { attempts: 9, first: hour, longest: hour, total: 24 * hour };
    let store = RetryStore::new(Arc::new(fault.clone()), patience, stop.clone());
    fault.on_next(Call::Get, "", Moment::Before, move |_| stop.raise());
    fault.die_at(0, Moment::Before);
    assert_eq!(store.get("asof.json", 9).unwrap_err().kind, Kind::Interrupted);
    assert_eq!(fault.made().len(), 1);
}

#[test]
fn the_kth_call_fails_and_all_after_it_as_if_the_program_had_died() {
    for k in 0..4 {
        let memory = MemoryStore::new();
        let store = FaultStore::new(Arc::new(memory.clone()));
        store.die_at(k, Moment::After);
        let done =
            (0..4).take_while(|n| store.put_new(&format!("log/{n}"), body()).is_ok()).count();
        assert_eq!(done as u64, k);
        assert_eq!(memory.len() as u64, k + 1, "the call that it died in took effect");
    }
}

#[test]
fn a_fault_strikes_what_it_is_meant_for() {
    let store = FaultStore::new(Arc::new(MemoryStore::new()));
    store.add(Fault {
        call: Some(Call::Put),
        prefix: "log/".to_owned(),
        skip: 1,
        times: 2,
        action: Action::Fail(Kind::Denied, Moment::Before),
    });
    let results: Vec<bool> = ["log/a", "packs/a", "log/b", "log/c", "log/d"]
        .iter()
        .map(|key| store.put_new(key, body()).is_ok())
        .collect();
    assert_eq!(results, [true, true, false, false, true]);
}

#[test]
fn a_flipped_byte_is_flipped_where_the_call_carries_it() {
    let memory = MemoryStore::new();
    let store = FaultStore::new(Arc::new(memory.clone()));
    store.put_new("packs/aa/one", body()).unwrap();
    store.flip_next(Call::Get, "packs/", 2);
    assert_eq!(&store.get("packs/aa/one", 10).unwrap()[..4], &[b'0', b'1', !b'2', b'3']);
    assert_eq!(store.get("packs/aa/one", 10).unwrap(), body(), "only on its way");
    store.flip_next(Call::Put, "packs/", 0);
    store.put_new("packs/aa/two", body()).unwrap();
    assert_eq!(memory.get("packs/aa/two", 10).unwrap()[0], !b'0');
}

/// A hook can be a second writer that comes first.
#[test]
fn a_hook_runs_between_the_decision_and_the_effect() {
    let memory = MemoryStore::new();
    let store = FaultStore::new(Arc::new(memory.clone()));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (other, saw) = (memory.clone(), Arc::clone(&seen));
    store.on_next(Call::Put, "log/", Moment::Before, move |key| {
        saw.lock().unwrap().push(key.to_owned());
        other.put_new(key, Bytes::from_static(b"theirs")).unwrap();
    });
    assert!(!store.put_new("log/one", body()).unwrap().created);
    assert_eq!(*seen.lock().unwrap(), ["log/one"]);
    assert_eq!(memory.get("log/one", 10).unwrap(), "theirs");
}

#[test]
fn calls_and_bytes_are_counted() {
    let store = CountStore::new(Arc::new(MemoryStore::new()));
    store.put_new("packs/aa/one", body()).unwrap();
    store.get("packs/aa/one", 10).unwrap();
    store.get_range("packs/aa/one", 2..5).unwrap();
    assert!(store.get("packs/aa/two", 10).is_err());
    store.list("", None).unwrap();
    store.delete("packs/aa/one").unwrap();
    let requests = store.requests();
    let figures = serde_json::to_value(requests).unwrap();
    let expected = serde_json::json!({
        "puts": 1, "gets": 3, "lists": 1, "deletes": 1, "bytes_up": 10, "bytes_down": 13
    });
    assert_eq!(figures, expected);
    assert_eq!((requests.calls(), requests.since(requests).calls()), (6, 0));
}

#[test]
fn waiting_for_bandwidth_ends_when_asked_to_stop() {
    let stop = Stop::new();
    let limits = Limits { up: Some(1), ..Limits::default() };
    let store = LimitStore::new(Arc::new(MemoryStore::new()), limits, stop.clone());
    store.put_new("packs/aa/one", Bytes::from(vec![0; 1_000_000])).unwrap();
    stop.raise();
    let error = store.put_new("packs/aa/two", body()).unwrap_err();
    assert_eq!(error.kind, Kind::Interrupted);
}

/// The calls meet at a barrier that opens only if there are never more than two inside.
#[test]
fn no_more_calls_are_under_way_than_allowed() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let fault = FaultStore::new(Arc::new(MemoryStore::new()));
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for (moment, step) in [(Moment::Before, 1_isize), (Moment::After, -1)] {
        let (inside, most) = (Arc::clone(&inside), Arc::clone(&most));
        let count = move |_: &str| {
            let now = inside.fetch_add(step.cast_unsigned(), Ordering::SeqCst);
            most.fetch_max(now.wrapping_add_signed(step), Ordering::SeqCst);
            std::thread::yield_now();
        };
        let action = Action::Run(moment, Arc::new(count));
        fault.add(Fault { call: None, prefix: String::new(), skip: 0, times: 200, action });
    }
    let limits = Limits { requests: Some(2), ..Limits::default() };
    let store = LimitStore::new(Arc::new(fault), limits, Stop::new());
    std::thread::scope(|scope| {
        for thread in 0..10 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..20 {
                    store.put_new(&format!("log/{thread}-{n}"), body()).unwrap();
                }
            });
        }
    });
    assert_eq!(inside.load(Ordering::SeqCst), 0);
    assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
}

#[test]
fn receipts_of_memory_come_from_the_clock_that_was_set() {
    let store = MemoryStore::new();
    for second in [100, 50] {
        store.set_clock(Clock::from_fn(move || UnixTime::new(second, 0)));
        let put = store.put_new(&format!("log/{second}"), body()).unwrap();
        assert_eq!(put.receipt, UnixTime::new(second, 0));
    }
}
