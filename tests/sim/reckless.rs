//! A collector that keeps no rule: what the simulation must catch if it is worth anything.

use std::sync::Arc;

use asof::format::names;
use asof::repo::Repository;
use asof::store::Store;

use crate::oracle::read;
use crate::party::{Desk, Trouble};
use crate::rng::Rng;

/// Deletes at once every pack that no snapshot is read from.
pub fn collect(repo: &Arc<Repository>, desk: &Desk, _: &mut Rng) -> Result<String, Trouble> {
    repo.sync(true)?;
    desk.store.take_read();
    for info in repo.snapshots()?.iter() {
        read(repo, &desk.local, info)?;
    }
    let needed = desk.store.take_read();
    let mut after = None;
    let mut deleted = 0;
    loop {
        let page = desk.store.list(names::PACKS, after.as_deref())?;
        for object in page.objects.iter().filter(|object| !needed.contains(&object.key)) {
            desk.store.delete(&object.key)?;
            deleted += 1;
        }
        match page.objects.last() {
            Some(last) if page.more => after = Some(last.key.clone()),
            _ => return Ok(format!("{deleted} deleted")),
        }
    }
}
