//! `upgrade`: makes a repository of an older version of the format one of this version.
//!
//! Everything that an older version wrote stays as it is and reads as it did. Only
//! `asof.json` is made anew, so that programs of the older version, which do not know what
//! this one relies on, keep off. It is the one name that is used twice, and nothing is
//! overwritten:
//!
//! ```text
//! put upgrade/asof.json, read it back        from now on it can be finished
//! delete asof.json                           whoever opens it is told to run this again
//! put asof.json, read it back
//! ```
//!
//! `upgrade/asof.json` stays: a store may execute a delete late, also that of a run that
//! was given up. Then this is run once more.

use bytes::Bytes;

use crate::base::Kind;
use crate::format::config::{CONFIG_BYTES_MAX, Config};
use crate::format::{FORMAT_VERSION, FormatError, names};
use crate::ops::Result;
use crate::repo::repository::read_config;
use crate::repo::{self, keyring};
use crate::store::Store;

/// A repository that may have to be upgraded.
pub struct Found {
    /// What it says of itself.
    pub config: Config,
    bytes: Vec<u8>,
    /// Whether `asof.json` is missing, and this is what was to take its place.
    resumed: bool,
}

impl Found {
    /// Whether there is anything to do.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.resumed || self.config.asof < FORMAT_VERSION
    }
}

/// Looks at a repository. Costs a GET, or three after an upgrade that was interrupted.
///
/// # Errors
///
/// [`repo::Error::NoRepository`], [`repo::Error::Object`].
pub fn find(store: &dyn Store) -> Result<Found> {
    match read_config(store) {
        Ok((config, bytes)) => Ok(Found { config, bytes, resumed: false }),
        Err(repo::Error::Upgrading { .. }) => {
            let bytes = store.get(names::UPGRADE, CONFIG_BYTES_MAX)?.to_vec();
            let config = Config::decode(&bytes).map_err(repo::Error::object(names::UPGRADE))?;
            Ok(Found { config, bytes, resumed: true })
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes it a repository of the version that this program writes. If it is interrupted,
/// it can be done again at any time, from [`find`] on.
///
/// # Errors
///
/// [`repo::Error::WrongKey`]; [`repo::Error::NotAllowed`] if the passphrase is not the
/// owner's: then nothing was changed. What the store says.
pub fn upgrade(store: &dyn Store, found: &Found, passphrase: &[u8]) -> Result<()> {
    let keys = keyring::unlock(store, &found.config, passphrase)?;
    let upgraded = Config::upgrade(&found.bytes, keys.owner()?);
    let upgraded = Bytes::from(upgraded.map_err(repo::Error::object(names::CONFIG))?);
    // What leaves the process is read back first.
    Config::decode(&upgraded).map_err(repo::Error::object(names::CONFIG))?;
    if !found.resumed {
        match store.get(names::UPGRADE, CONFIG_BYTES_MAX) {
            Ok(before) if before == upgraded => {}
            // Of no use to anybody, since `asof.json` stands.
            Ok(_) => store.delete(names::UPGRADE)?,
            Err(error) if error.kind == Kind::Damaged => store.delete(names::UPGRADE)?,
            Err(error) if error.kind == Kind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        put(store, names::UPGRADE, &upgraded)?;
        store.delete(names::CONFIG)?;
    }
    put(store, names::CONFIG, &upgraded)
}

/// Puts an object and compares what the store has then.
fn put(store: &dyn Store, name: &'static str, bytes: &Bytes) -> Result<()> {
    store.put_new(name, bytes.clone())?;
    if store.get(name, CONFIG_BYTES_MAX)? == *bytes {
        return Ok(());
    }
    let why = "the store does not give back what was written: run `asof upgrade` again";
    Err(repo::Error::object(name)(FormatError::malformed("asof.json", why)).into())
}
