//! A store that fails when a test says so, and remembers what was asked of it.
//!
//! The promises of a backup are about what happens between two calls: a crash, a
//! lost reply, a second writer. So a fault strikes a chosen call either before it
//! takes effect or after (the object is there, but nobody was told), and a hook
//! runs at the same two moments, in which a test can wait on a barrier or act as
//! somebody else. Nothing here sleeps.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::base::Kind;
use crate::store::key::error;
use crate::store::{Call, Page, Put, Result, Store};

/// When a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the call takes effect: it never does.
    Before,
    /// After it took effect, before the caller hears of it.
    After,
}

/// What a fault does.
#[derive(Clone)]
pub enum Action {
    /// Fails the call with an error of this kind.
    Fail(Kind, Moment),
    /// Inverts the bits of one byte of the body on its way (counted modulo its length).
    Flip(usize),
    /// Runs a function, with the name that the call is for.
    Run(Moment, Arc<dyn Fn(&str) + Send + Sync>),
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Fail(kind, moment) => write!(f, "Fail({kind:?}, {moment:?})"),
            Action::Flip(byte) => write!(f, "Flip({byte})"),
            Action::Run(moment, _) => write!(f, "Run({moment:?})"),
        }
    }
}

/// A fault to come: which calls it strikes, and what it does to them.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Only calls of this kind, or any.
    pub call: Option<Call>,
    /// Only names that begin so.
    pub prefix: String,
    /// How many such calls pass unharmed first.
    pub skip: u64,
    /// How many it strikes then.
    pub times: u64,
    /// What it does.
    pub action: Action,
}

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Which call.
    pub call: Call,
    /// The name, or the prefix that was listed.
    pub key: String,
    /// The bytes asked for, if not all.
    pub range: Option<Range<u64>>,
}

/// Lets calls to another store fail by plan. Cloning shares the plan and the memory.
#[derive(Clone)]
pub struct FaultStore {
    inner: Arc<dyn Store>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    made: Vec<Made>,
}

impl FaultStore {
    /// A store without faults yet.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> FaultStore {
        FaultStore { inner, state: Arc::default() }
    }

    /// Adds a fault.
    pub fn add(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Fails the next such call before it takes effect, as unavailable.
    pub fn fail_next(&self, call: Call, prefix: &str) {
        self.add(once(call, prefix, Action::Fail(Kind::Unavailable, Moment::Before)));
    }

    /// Lets the next such call take effect, and fails it all the same: the reply is lost.
    pub fn lose_next_reply(&self, call: Call, prefix: &str) {
        self.add(once(call, prefix, Action::Fail(Kind::Unavailable, Moment::After)));
    }

    /// Fails every call from the `k`-th from now on (the first is 0), as if the program
    /// had been killed there: at `moment` for that call, before its effect for all others.
    pub fn die_at(&self, k: u64, moment: Moment) {
        let fault = |skip, times, moment| Fault {
            call: None,
            prefix: String::new(),
            skip,
            times,
            action: Action::Fail(Kind::Unavailable, moment),
        };
        self.add(fault(k, 1, moment));
        self.add(fault(k + 1, u64::MAX, Moment::Before));
    }

    /// Inverts a byte of the next such call's body: of what is stored, or of what is read.
    pub fn flip_next(&self, call: Call, prefix: &str, byte: usize) {
        self.add(once(call, prefix, Action::Flip(byte)));
    }

    /// Runs `hook` in the next such call.
    pub fn on_next(
        &self,
        call: Call,
        prefix: &str,
        moment: Moment,
        hook: impl Fn(&str) + Send + Sync + 'static,
    ) {
        self.add(once(call, prefix, Action::Run(moment, Arc::new(hook))));
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// The calls made so far, in the order in which they began.
    #[must_use]
    pub fn made(&self) -> Vec<Made> {
        self.state().made.clone()
    }

    /// Forgets the calls made so far.
    pub fn forget_made(&self) {
        self.state().made.clear();
    }

    /// A panic while the lock is held can only come from a failed allocation.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the call and takes from the plan what strikes it.
    fn begin(&self, call: Call, key: &str, range: Option<Range<u64>>) -> Struck<'_> {
        let mut state = self.state();
        state.made.push(Made { call, key: key.to_owned(), range });
        let mut actions = Vec::new();
        for fault in &mut state.faults {
            let matches = fault.call.is_none_or(|wanted| wanted == call);
            if !matches || !key.starts_with(&fault.prefix) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
            } else {
                fault.times = fault.times.saturating_sub(1);
                actions.push(fault.action.clone());
            }
        }
        state.faults.retain(|fault| fault.times > 0);
        Struck { store: &*self.inner, call, key: key.to_owned(), actions }
    }
}

fn once(call: Call, prefix: &str, action: Action) -> Fault {
    Fault { call: Some(call), prefix: prefix.to_owned(), skip: 0, times: 1, action }
}

/// A call under way and what is to happen to it.
struct Struck<'a> {
    store: &'a dyn Store,
    call: Call,
    key: String,
    actions: Vec<Action>,
}

impl Struck<'_> {
    fn at(&self, now: Moment) -> Result<()> {
        for action in &self.actions {
            match action {
                Action::Run(moment, hook) if *moment == now => hook(&self.key),
                Action::Fail(kind, moment) if *moment == now => {
                    let store = self.store.location();
                    let wrong = match now {
                        Moment::Before => "injected fault",
                        Moment::After => "injected fault: it took effect, the reply was lost",
                    };
                    return Err(error(*kind, self.call, &self.key, &store, wrong));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn around<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        self.at(Moment::Before)?;
        let done = act()?;
        self.at(Moment::After)?;
        Ok(done)
    }

    fn body(&self, body: Bytes) -> Bytes {
        self.actions.iter().fold(body, |body, action| match action {
            Action::Flip(byte) if !body.is_empty() => {
                let mut bytes = body.to_vec();
                let at = byte % bytes.len();
                bytes[at] = !bytes[at];
                Bytes::from(bytes)
            }
            _ => body,
        })
    }
}

impl Store for FaultStore {
    fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        let struck = self.begin(Call::Put, key, None);
        let body = struck.body(body);
        struck.around(|| self.inner.put_new(key, body))
    }

    fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        let struck = self.begin(Call::Get, key, None);
        struck.around(|| self.inner.get(key, limit)).map(|body| struck.body(body))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let struck = self.begin(Call::Get, key, Some(range.clone()));
        struck.around(|| self.inner.get_range(key, range)).map(|body| struck.body(body))
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page> {
        self.begin(Call::List, prefix, None).around(|| self.inner.list(prefix, after))
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.begin(Call::Delete, key, None).around(|| self.inner.delete(key))
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn object_bytes_max(&self) -> Option<u64> {
        self.inner.object_bytes_max()
    }

    fn local_path(&self) -> Option<&Path> {
        self.inner.local_path()
    }
}
