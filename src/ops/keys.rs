//! `key`: who may open a repository, and with what.

use bytes::Bytes;
use serde::Serialize;

use crate::base::{Clock, KeyId};
use crate::codec::CodecError;
use crate::codec::passphrase::Cost;
use crate::format::config::Config;
use crate::format::keyfile::{KeyFile, Role};
use crate::format::{FormatError, names};
use crate::ops::{Error, Result};
use crate::repo::keys::Keys;
use crate::repo::{self, keyring};
use crate::store::Store;

/// A key file, as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct KeyRow {
    /// Its id.
    pub id: KeyId,
    /// What its holder may do: `owner` or `reader`.
    pub role: Option<Role>,
    /// What it is called.
    pub label: String,
    /// When it was made, as it says itself.
    pub created: String,
    /// Why it cannot be used, if so.
    pub problem: Option<String>,
}

impl KeyRow {
    /// The row of a key file that can be read.
    #[must_use]
    pub fn of(file: &KeyFile) -> KeyRow {
        KeyRow {
            id: file.id(),
            role: Some(file.role),
            label: file.label.clone(),
            created: file.created.clone(),
            problem: None,
        }
    }
}

/// All key files. Needs no passphrase.
///
/// # Errors
///
/// If they cannot be listed.
pub fn list(store: &dyn Store) -> Result<Vec<KeyRow>> {
    let keys = keyring::list(store)?;
    Ok(keys
        .into_iter()
        .map(|key| match key.file {
            Ok(file) => KeyRow { id: key.id, ..KeyRow::of(&file) },
            Err(error) => KeyRow {
                id: key.id,
                role: None,
                label: String::new(),
                created: String::new(),
                problem: Some(crate::base::error_chain(&error)),
            },
        })
        .collect())
}

/// The key file whose id begins so; without a prefix, the only one.
///
/// # Errors
///
/// [`Error::NotFound`], or [`Error::Invalid`] if several fit.
pub fn pick(store: &dyn Store, prefix: Option<&str>) -> Result<KeyFile> {
    let prefix = prefix.unwrap_or("").to_ascii_lowercase();
    let keys = keyring::list(store)?;
    let mut fitting = keys.into_iter().filter(|key| key.id.to_string().starts_with(&prefix));
    match (fitting.next(), fitting.next()) {
        (Some(key), None) => Ok(key.file?),
        (None, _) => {
            let what = format!("no key has an id that begins with `{prefix}`; see `asof key list`");
            Err(Error::NotFound { what })
        }
        (Some(_), Some(_)) if prefix.is_empty() => Err(Error::Invalid {
            what: "there are several keys: name one by its id, as `asof key list` shows it".into(),
        }),
        (Some(_), Some(_)) => Err(Error::Invalid {
            what: format!("several keys have ids that begin with `{prefix}`: write more digits"),
        }),
    }
}

/// What became of a change of passphrase.
#[derive(Debug, Clone, Serialize)]
pub struct Changed {
    /// The key with the new passphrase.
    pub new: KeyRow,
    /// The key that it takes the place of.
    pub old: KeyId,
}

/// Gives the key that `old` opens the passphrase `new`.
///
/// The new key file is written and read back before the old one is removed.
///
/// # Errors
///
/// [`repo::Error::WrongKey`] if `old` opens none; what the store says.
pub fn change_passphrase(
    store: &dyn Store,
    config: &Config,
    old: &[u8],
    new: &[u8],
    cost: Cost,
    clock: &Clock,
) -> Result<Changed> {
    let keys = keyring::list(store)?;
    let tried = keys.len();
    for key in keys {
        let Ok(file) = key.file else { continue };
        let secrets = match file.unwrap(old) {
            Ok(secrets) => secrets,
            Err(CodecError::Seal) => continue,
            Err(error) => return Err(repo::Error::sealed(names::key(key.id))(error).into()),
        };
        let sealed = |error| Error::Repo(repo::Error::sealed("the new key")(error));
        Keys::from_secrets(config, secrets.clone())?;
        let fresh = KeyFile::wrap(&secrets, config.repository, &file.label, new, cost, clock.now())
            .map_err(sealed)?;
        let back = fresh.unwrap(new).map_err(sealed)?;
        Keys::from_secrets(config, back)?;
        store.put_new(&names::key(fresh.id()), Bytes::from(fresh.encode()))?;
        store.delete(&names::key(key.id))?;
        return Ok(Changed { new: KeyRow::of(&fresh), old: key.id });
    }
    Err(repo::Error::WrongKey { location: store.location(), keys: tried }.into())
}

/// Puts a key file back from its paper copy. Text around it is passed over.
///
/// # Errors
///
/// [`repo::Error::Object`] if no key is in it, or one of another repository.
pub fn import(store: &dyn Store, config: &Config, copy: &[u8]) -> Result<KeyRow> {
    let bytes = within(copy).ok_or_else(|| wrong("it holds no key file: { … } is missing"))?;
    let file = KeyFile::parse(bytes).map_err(repo::Error::object(PAPER))?;
    if file.repository != config.repository {
        return Err(wrong(&format!(
            "it is a key of repository {}, and this one is {}",
            file.repository, config.repository
        )));
    }
    Ok(KeyRow::of(&keyring::import(store, bytes)?))
}

const PAPER: &str = "the copy of the key";

fn wrong(why: &str) -> Error {
    repo::Error::object(PAPER)(FormatError::malformed("key file", why)).into()
}

/// The JSON object in a text: from its first brace to its last.
fn within(text: &[u8]) -> Option<&[u8]> {
    let start = text.iter().position(|b| *b == b'{')?;
    let end = text.iter().rposition(|b| *b == b'}')?;
    text.get(start..=end)
}
