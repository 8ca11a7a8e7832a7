//! The store, as the parties see it.

use super::*;

/// Whoever sees the truth, at once.
pub const OBSERVER: Party = usize::MAX;

/// What a party may ask of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    All,
    OnlyPut,
}

/// The store, as one party sees it.
pub struct SimStore {
    world: Arc<World>,
    party: Party,
    rights: Rights,
    /// The names that were read.
    read: Mutex<HashSet<String>>,
}

impl SimStore {
    pub fn new(world: &Arc<World>, party: Party, rights: Rights) -> SimStore {
        SimStore { world: Arc::clone(world), party, rights, read: Mutex::default() }
    }

    pub fn take_read(&self) -> HashSet<String> {
        std::mem::take(&mut self.read.lock().unwrap())
    }

    fn check(&self, call: Call, key: &str) -> Result<()> {
        if self.rights == Rights::OnlyPut && call != Call::Put {
            return Err(error(Kind::Denied, call, key, "it may only write"));
        }
        Ok(())
    }
}

impl Store for SimStore {
    fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        match self.world.ask(self.party, Call::Put, key, Ask::Put(body)) {
            Answer::Put(put) => put,
            _ => unreachable!("a write is answered as one"),
        }
    }

    fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        self.check(Call::Get, key)?;
        let body = self.world.body(self.party, key)?;
        assert!(body.len() as u64 <= limit, "{key} is too large");
        self.read.lock().unwrap().insert(key.to_owned());
        Ok(body)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let body = self.get(key, u64::MAX)?;
        let [start, end] = [range.start, range.end].map(|n| usize::try_from(n).unwrap());
        if end > body.len() {
            return Err(error(Kind::Damaged, Call::Get, key, "it ends before"));
        }
        Ok(body.slice(start..end))
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page> {
        self.check(Call::List, prefix)?;
        if self.party == OBSERVER {
            let mut page = self.world.state().page(prefix, after, 1000);
            page.at = Some(UnixTime::new(self.world.now(), 0));
            return Ok(page);
        }
        match self.world.ask(self.party, Call::List, prefix, Ask::List(after.map(str::to_owned))) {
            Answer::List(page) => page,
            _ => unreachable!("a listing is answered as one"),
        }
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.check(Call::Delete, key)?;
        match self.world.ask(self.party, Call::Delete, key, Ask::Delete) {
            Answer::Delete(deleted) => deleted,
            _ => unreachable!("a delete is answered as one"),
        }
    }

    fn location(&self) -> String {
        "sim".to_owned()
    }
}
