//! The world: one store that all parties see, its clock, and what goes wrong in it.
//!
//! A call of a party that changes or lists the store does not happen when it is made:
//! its thread waits, and the test decides which call happens next, when, and how it
//! ends. Reading one object happens at once. So a run is one sequence of events that
//! a seed determines, although the parties are the real code on real threads.
//!
//! What the store may do is what the assumptions of docs/FORMAT.md allow, and no less:
//! receipts and times of listings are wrong by up to half the skew each, and a listing
//! may miss what was received less than the skew before it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::{Bound, Range};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use asof::base::{Clock, Kind, UnixTime};
use asof::store::{Call, Error, Listed, Page, Put, Result, Store};
use bytes::Bytes;

use crate::rng::Rng;

mod store;

pub use store::{OBSERVER, Rights, SimStore};

/// When every run begins.
pub const BEGIN: i64 = 1_700_000_000;

/// Who makes a call.
pub type Party = usize;

/// What the store is like in one run.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    /// The repository's skew. Seconds.
    pub skew: i64,
    /// How far receipts are from the truth. Seconds, at most half the skew.
    pub wrong: i64,
    /// How many of a thousand young objects a listing misses.
    pub hides: u32,
    /// Objects of a page.
    pub page: usize,
    /// Whether the reply to a write carries its own time (a bucket's `Date`) instead
    /// of the one that listings show.
    pub dates_replies: bool,
}

struct Object {
    body: Bytes,
    receipt: i64,
    by: Party,
}

/// A call that waits to happen.
#[derive(Clone)]
pub struct Waiting {
    pub party: Party,
    pub call: Call,
    pub key: String,
    /// Which call it is.
    pub ticket: u64,
    ask: Ask,
    /// When it was made.
    since: i64,
}

#[derive(Clone)]
enum Ask {
    Put(Bytes),
    List(Option<String>),
    Delete,
}

enum Answer {
    Put(Result<Put>),
    List(Result<Page>),
    Delete(Result<()>),
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// As it should.
    Done,
    /// With an error, without effect.
    Refused,
    /// With its effect and an error.
    ReplyLost,
    /// With an error, and its effect comes at that time.
    Later(i64),
}

/// What happens to the caller after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It hears how the call ended.
    Hears,
    /// If that is an error it makes the call again, as a patient program does.
    Again,
    /// It is gone.
    Dies,
}

struct Late {
    at: i64,
    party: Party,
    key: String,
    body: Option<Bytes>,
}

/// Something that happened in the store, for whoever checks it.
#[derive(Default)]
pub struct Changes {
    pub put: HashSet<String>,
    pub deleted: HashSet<String>,
}

struct State {
    objects: BTreeMap<String, Object>,
    waiting: Vec<Waiting>,
    answers: HashMap<u64, Answer>,
    late: Vec<Late>,
    dead: HashSet<Party>,
    /// Who is not shown what whom has just put.
    blind: HashSet<(Party, Party)>,
    /// Whom a listing did not show everything.
    missed: HashSet<Party>,
    tickets: u64,
    /// How many calls have happened: names the stretch of time between two.
    epoch: u64,
    rng: Rng,
    trace: Vec<String>,
    changes: Changes,
    /// How many of a thousand reads fail.
    reads_fail: u32,
}

pub struct World {
    state: Mutex<State>,
    called: Condvar,
    answered: Condvar,
    now: AtomicI64,
    pub temper: Temper,
}

impl World {
    pub fn new(seed: u64, temper: Temper) -> Arc<World> {
        Arc::new(World {
            state: Mutex::new(State {
                objects: BTreeMap::new(),
                waiting: Vec::new(),
                answers: HashMap::new(),
                late: Vec::new(),
                dead: HashSet::new(),
                blind: HashSet::new(),
                missed: HashSet::new(),
                tickets: 0,
                epoch: 0,
                rng: Rng::new(seed ^ 0x77),
                trace: Vec::new(),
                changes: Changes::default(),
                reads_fail: 0,
            }),
            called: Condvar::new(),
            answered: Condvar::new(),
            now: AtomicI64::new(BEGIN),
            temper,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn now(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    pub fn epoch(&self) -> u64 {
        self.state().epoch
    }

    /// A clock that is wrong by `offset` seconds.
    pub fn clock(self: &Arc<World>, offset: i64) -> Clock {
        let world = Arc::clone(self);
        Clock::from_fn(move || UnixTime::new(world.now() + offset, 0))
    }

    pub fn set_reads_fail(&self, of_thousand: u32) {
        self.state().reads_fail = of_thousand;
    }

    /// Lets time pass. What was to come later comes.
    pub fn advance(&self, seconds: i64) {
        let now = self.now.fetch_add(seconds, Ordering::SeqCst) + seconds;
        let mut state = self.state();
        state.late.sort_by_key(|late| late.at);
        while state.late.first().is_some_and(|late| late.at <= now) {
            let Late { party, key, body, .. } = state.late.remove(0);
            let what = if body.is_some() { "write" } else { "delete" };
            state.note(now, party, &format!("{what} {} comes late", short(&key)));
            match body {
                Some(body) => drop(state.put(now, now, &self.temper, (party, &key), body)),
                None => state.delete(&key),
            }
        }
    }

    pub fn note(&self, party: Party, what: impl Into<String>) {
        let now = self.now();
        self.state().note(now, party, &what.into());
    }

    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    /// What changed since the last call.
    pub fn changes(&self) -> Changes {
        std::mem::take(&mut self.state().changes)
    }

    /// The calls that wait, in an order that does not depend on threads.
    pub fn waiting(&self) -> Vec<Waiting> {
        let mut waiting = self.state().waiting.clone();
        waiting.sort_by(|a, b| (a.party, a.call, &a.key).cmp(&(b.party, b.call, &b.key)));
        waiting
    }

    /// Waits until that party makes a call or `is_over` says that it makes none any more.
    pub fn wait_for(&self, party: Party, is_over: impl Fn() -> bool) {
        let mut state = self.state();
        while !is_over() && state.waiting.iter().all(|call| call.party != party) {
            state = self.called.wait(state).unwrap();
        }
    }

    /// Wakes [`World::wait_for`], so that it looks again whether the party is over.
    pub fn is_over(&self) {
        let _state = self.state();
        self.called.notify_all();
    }

    pub fn revive(&self, party: Party) {
        self.state().dead.remove(&party);
    }

    /// From now on listings show `party` what `by` put as late as they may.
    pub fn make_blind(&self, party: Party, by: Party) {
        self.state().blind.insert((party, by));
    }

    /// Whether something was sent and has not come yet.
    pub fn is_anything_late(&self) -> bool {
        !self.state().late.is_empty()
    }

    /// Whether a listing missed something for that party since the last call.
    pub fn take_missed(&self, party: Party) -> bool {
        self.state().missed.remove(&party)
    }

    pub fn is_dead(&self, party: Party) -> bool {
        self.state().dead.contains(&party)
    }

    /// Lets a call happen. True if the caller heard of it, or died.
    pub fn happen(&self, waiting: &Waiting, fate: Fate, then: Then) {
        let now = self.now();
        let mut state = self.state();
        let place = state.waiting.iter().position(|call| call.ticket == waiting.ticket);
        let call = state.waiting.remove(place.unwrap());
        state.epoch += 1;
        let (answer, said) = state.perform(now, &self.temper, &call, fate);
        let ends = match (fate, then) {
            (Fate::Done, Then::Again | Then::Hears) => "",
            (_, Then::Again) => ", tried again",
            (_, Then::Hears) => ", an error",
            (_, Then::Dies) => ", and dies",
        };
        let prefix = format!("{} {}", call.call, short(&call.key));
        state.note(now, call.party, &format!("{prefix}: {said}{ends}"));
        match then {
            Then::Again if fate != Fate::Done => {
                state.waiting.push(call);
                return;
            }
            Then::Dies => {
                state.dead.insert(call.party);
                let party = call.party;
                let died: Vec<Waiting> = std::iter::once(call)
                    .chain(state.waiting.extract_if(.., |call| call.party == party))
                    .collect();
                for call in died {
                    let answer = gone(&call);
                    state.answers.insert(call.ticket, answer);
                }
            }
            _ => drop(state.answers.insert(call.ticket, answer)),
        }
        self.answered.notify_all();
    }

    fn ask(&self, party: Party, call: Call, key: &str, ask: Ask) -> Answer {
        let mut state = self.state();
        state.tickets += 1;
        let ticket = state.tickets;
        let since = self.now();
        let waiting = Waiting { party, call, key: key.to_owned(), ask, ticket, since };
        if state.dead.contains(&party) {
            return gone(&waiting);
        }
        state.waiting.push(waiting);
        self.called.notify_all();
        loop {
            if let Some(answer) = state.answers.remove(&ticket) {
                return answer;
            }
            state = self.answered.wait(state).unwrap();
        }
    }

    fn body(&self, party: Party, key: &str) -> Result<Bytes> {
        let state = self.state();
        let fails = state.reads_fail > 0 && chance_of(state.epoch, key) % 1000 < state.reads_fail;
        if state.dead.contains(&party) || (fails && party != OBSERVER) {
            return Err(error(Kind::Unavailable, Call::Get, key, "no answer"));
        }
        match state.objects.get(key) {
            Some(object) => Ok(object.body.clone()),
            None => Err(error(Kind::NotFound, Call::Get, key, "no such object")),
        }
    }

    /// Puts what is there before anything begins.
    pub fn found(&self, key: &str, body: Vec<u8>) {
        let object = Object { body: body.into(), receipt: BEGIN, by: OBSERVER };
        self.state().objects.insert(key.to_owned(), object);
    }
}

impl State {
    fn note(&mut self, now: i64, party: Party, what: &str) {
        let since = now - BEGIN;
        let (hours, seconds) = (since / 3600, since % 3600);
        self.trace.push(format!("{hours:>6}h {seconds:>4}s  party {party}: {what}"));
    }

    fn perform(
        &mut self,
        now: i64,
        temper: &Temper,
        call: &Waiting,
        fate: Fate,
    ) -> (Answer, String) {
        let error = || error(Kind::Unavailable, call.call, &call.key, "no answer");
        let effect = matches!(fate, Fate::Done | Fate::ReplyLost);
        let mut said = match fate {
            Fate::Done => "done".to_owned(),
            Fate::Refused => "refused".to_owned(),
            Fate::ReplyLost => "done, reply lost".to_owned(),
            Fate::Later(at) => format!("to come {} h later", (at - now) / 3600),
        };
        if let Fate::Later(at) = fate {
            let body = match &call.ask {
                Ask::Put(body) => Some(body.clone()),
                _ => None,
            };
            self.late.push(Late { at, party: call.party, key: call.key.clone(), body });
        }
        let answer = match &call.ask {
            Ask::Put(body) => {
                let put = effect.then(|| {
                    self.put(now, call.since, temper, (call.party, &call.key), body.clone())
                });
                if let Some(put) = put.filter(|put| !put.created) {
                    said += &format!(", was there since {}", put.receipt.seconds - BEGIN);
                }
                Answer::Put(put.filter(|_| fate == Fate::Done).ok_or_else(error))
            }
            Ask::List(after) => {
                let prefix = (call.party, call.key.as_str());
                let page = effect.then(|| self.list(now, temper, prefix, after.as_deref()));
                if let Some((page, hidden)) = &page {
                    said += &format!(", {} objects", page.objects.len());
                    if *hidden > 0 {
                        self.missed.insert(call.party);
                        said += &format!(", {hidden} not seen");
                    }
                }
                Answer::List(page.map(|(page, _)| page).ok_or_else(error))
            }
            Ask::Delete => {
                if effect {
                    self.delete(&call.key);
                }
                Answer::Delete(if fate == Fate::Done { Ok(()) } else { Err(error()) })
            }
        };
        (answer, said)
    }

    fn skewed(&mut self, now: i64, temper: &Temper) -> i64 {
        // The extremes are where bounds break.
        match self.rng.below(4) {
            0 => now - temper.wrong,
            1 => now + temper.wrong,
            _ => now + self.rng.within(-temper.wrong, temper.wrong),
        }
    }

    fn put(
        &mut self,
        now: i64,
        since: i64,
        temper: &Temper,
        (by, key): (Party, &str),
        body: Bytes,
    ) -> Put {
        let receipt = self.skewed(now, temper);
        let told = if temper.dates_replies { self.skewed(now, temper) } else { receipt };
        let time = |at| UnixTime::new(at, 0);
        if let Some(object) = self.objects.get(key) {
            // A bucket tells its own time, which is put back to before the first try.
            let (receipt, latest) = match temper.dates_replies {
                true => (time(told - (now - since) - 1), time(told)),
                false => (time(object.receipt), time(object.receipt)),
            };
            return Put { created: false, receipt, latest };
        }
        self.changes.put.insert(key.to_owned());
        self.objects.insert(key.to_owned(), Object { body, receipt, by });
        Put { created: true, receipt: time(told), latest: time(told) }
    }

    fn delete(&mut self, key: &str) {
        if self.objects.remove(key).is_some() {
            self.changes.deleted.insert(key.to_owned());
        }
    }

    fn list(
        &mut self,
        now: i64,
        temper: &Temper,
        (party, prefix): (Party, &str),
        after: Option<&str>,
    ) -> (Page, usize) {
        let at = self.skewed(now, temper);
        let mut page = self.page(prefix, after, temper.page);
        page.at = Some(UnixTime::new(at, 0));
        let listed = page.objects.len();
        let (rng, blind, objects) = (&mut self.rng, &self.blind, &self.objects);
        page.objects.retain(|object| {
            let by = objects.get(&object.key).map_or(OBSERVER, |object| object.by);
            let hides = rng.chance(temper.hides) || blind.contains(&(party, by));
            object.receipt.seconds <= at - temper.skew || !hides
        });
        let hidden = listed - page.objects.len();
        // Whoever goes on does so after the last name that was seen, and must not stop.
        if page.objects.is_empty() && page.more {
            page = self.page(prefix, after, temper.page);
            page.at = Some(UnixTime::new(at, 0));
            return (page, 0);
        }
        (page, hidden)
    }

    fn page(&self, prefix: &str, after: Option<&str>, most: usize) -> Page {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut found = self
            .objects
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix));
        let objects: Vec<Listed> = found
            .by_ref()
            .take(most)
            .map(|(key, object)| Listed {
                key: key.clone(),
                size: object.body.len() as u64,
                receipt: UnixTime::new(object.receipt, 0),
            })
            .collect();
        let more = found.next().is_some();
        Page { objects, more, at: None }
    }
}

fn gone(call: &Waiting) -> Answer {
    let error = error(Kind::Interrupted, call.call, &call.key, "the party is gone");
    match call.ask {
        Ask::Put(_) => Answer::Put(Err(error)),
        Ask::List(_) => Answer::List(Err(error)),
        Ask::Delete => Answer::Delete(Err(error)),
    }
}

/// A number that a moment and a name determine.
pub fn chance_of(epoch: u64, key: &str) -> u32 {
    let folded = key.bytes().fold(epoch, |sum, byte| sum.rotate_left(7) ^ u64::from(byte));
    u32::try_from(Rng::new(folded).next() >> 32).unwrap()
}

/// A name that fits a line.
fn short(key: &str) -> String {
    match key.rsplit_once('/').map(|(folder, name)| (folder, name.rsplit_once('-'))) {
        Some((_, Some((hour, id)))) => format!("log/{hour}-{:.6}", id),
        Some((folder, None)) => format!("{folder}/{:.6}", key.rsplit('/').next().unwrap()),
        None => key.to_owned(),
    }
}

fn error(kind: Kind, call: Call, key: &str, why: &str) -> Error {
    Error { kind, call, key: key.to_owned(), store: "sim".to_owned(), source: why.into() }
}
