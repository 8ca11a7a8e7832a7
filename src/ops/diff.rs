//! What differs between two states of the past.

use serde::Serialize;

use crate::base::Stop;
use crate::ops::Result;
use crate::ops::select::Selected;
use crate::repo::browse::Found;
use crate::repo::{self, Library};
use crate::view::compare::{Aspects, Difference, Go, compare};

/// What became of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// Its content is another.
    Content,
    /// It is something else: a directory that was a file.
    Kind,
    /// Its mode, owner, time or extended attributes are others.
    Attributes,
}

impl Change {
    /// One character for a listing.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Change::Added => '+',
            Change::Removed => '-',
            Change::Content => 'M',
            Change::Kind => 'T',
            Change::Attributes => 'U',
        }
    }

    fn of(before: bool, after: bool, aspects: Aspects) -> Option<Change> {
        match (before, after) {
            (false, _) => Some(Change::Added),
            (_, false) => Some(Change::Removed),
            _ if aspects.kind => Some(Change::Kind),
            _ if aspects.content => Some(Change::Content),
            _ if aspects.is_empty() => None,
            _ => Some(Change::Attributes),
        }
    }
}

/// A name with another meaning.
pub struct Changed<'a> {
    /// Its path from what was compared; empty for that itself.
    pub path: &'a [u8],
    /// What became of it.
    pub change: Change,
    /// In what it differs, if it was there before and after.
    pub aspects: Aspects,
    /// What was there before.
    pub before: Option<&'a Found>,
    /// What is there after.
    pub after: Option<&'a Found>,
}

/// How much differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// Names that are new.
    pub added: u64,
    /// Names that are gone.
    pub removed: u64,
    /// Files of another content, or something else.
    pub changed: u64,
    /// Names with other attributes alone.
    pub attributes: u64,
    /// Bytes of files that are new or have another content. Bytes.
    pub bytes_after: u64,
    /// Bytes of files that are gone or had another content. Bytes.
    pub bytes_before: u64,
}

impl Totals {
    fn add(&mut self, changed: &Changed<'_>) {
        let place = match changed.change {
            Change::Added => &mut self.added,
            Change::Removed => &mut self.removed,
            Change::Content | Change::Kind => &mut self.changed,
            Change::Attributes => &mut self.attributes,
        };
        *place += 1;
        if changed.change == Change::Attributes {
            return;
        }
        let bytes = |side: Option<&Found>| {
            let file = side.map(Found::entry).filter(|entry| entry.sha256.is_some());
            file.map_or(0, |entry| entry.size)
        };
        self.bytes_before = self.bytes_before.saturating_add(bytes(changed.before));
        self.bytes_after = self.bytes_after.saturating_add(bytes(changed.after));
    }
}

/// Hands every name that means something else after to `visit`, in byte order of the paths,
/// each directory before what is below it. Costs what differs: see [`crate::view::compare`].
///
/// # Errors
///
/// The library's, and what `visit` returns.
pub fn diff<E: From<repo::Error>>(
    library: &dyn Library,
    before: &Selected,
    after: &Selected,
    stop: &Stop,
    mut visit: impl FnMut(&Changed<'_>) -> std::result::Result<(), E>,
) -> std::result::Result<Totals, E> {
    let mut totals = Totals::default();
    let (before, after) = (&before.found, &after.found);
    let aspects = Aspects::between(before, after);
    if let Some(change) = Change::of(true, true, aspects) {
        let (before, after) = (Some(before), Some(after));
        let changed = Changed { path: b"", change, aspects, before, after };
        totals.add(&changed);
        visit(&changed)?;
    }
    compare(library, before.dir(), after.dir(), |difference| {
        if stop.is_raised() {
            return Err(E::from(repo::Error::Interrupted));
        }
        if let Some(changed) = changed(difference) {
            totals.add(&changed);
            visit(&changed)?;
        }
        Ok(Go::Into)
    })?;
    Ok(totals)
}

fn changed<'a>(difference: &Difference<'a>) -> Option<Changed<'a>> {
    let Difference { path, before, after, aspects } = *difference;
    let change = Change::of(before.is_some(), after.is_some(), aspects)?;
    Some(Changed { path, change, aspects, before, after })
}

/// The bytes of a file of one side, if they are no more than `most`.
///
/// # Errors
///
/// The library's.
pub fn bytes_of(library: &dyn Library, side: &Found, most: u64) -> Result<Option<Vec<u8>>> {
    let content = side.content();
    if content.size() > most {
        return Ok(None);
    }
    let length = usize::try_from(content.size()).unwrap_or(usize::MAX);
    let bytes = library.read(&content, 0, length)?;
    if bytes.len() == length {
        return Ok(Some(bytes.to_vec()));
    }
    Err(crate::view::error::Error::Short { got: bytes.len(), expected: length }.into())
}
