//! The key files in the store: trying, listing, adding and removing them.

use bytes::Bytes;

use crate::base::{KeyId, Kind};
use crate::codec::CodecError;
use crate::codec::passphrase::Cost;
use crate::codec::sign::SigningKey;
use crate::format::certificate::Certificate;
use crate::format::config::Config;
use crate::format::keyfile::{KEY_BYTES_MAX, KeyFile, Role, Secrets};
use crate::format::writerfile::WriterFile;
use crate::format::{FormatError, names};
use crate::repo::keys::Keys;
use crate::repo::{Error, Repository, Result};
use crate::store::Store;

/// The most key files that a passphrase is tried on.
const KEYS_MAX: usize = 64;

/// A key file, or why it cannot be used.
pub struct ListedKey {
    /// Its id.
    pub id: KeyId,
    /// What it says, if it can be read.
    pub file: std::result::Result<KeyFile, Error>,
}

/// Reads all key files.
///
/// # Errors
///
/// [`Error::Store`] if they cannot be listed.
pub fn list(store: &dyn Store) -> Result<Vec<ListedKey>> {
    let page = store.list(names::KEYS, None)?;
    let ids = page.objects.iter().filter_map(|object| names::parse_key(&object.key));
    ids.take(KEYS_MAX)
        .map(|id| {
            let name = names::key(id);
            let file = match store.get(&name, KEY_BYTES_MAX) {
                Ok(bytes) => KeyFile::decode(id, &bytes).map_err(Error::object(name)),
                Err(error) if matches!(error.kind, Kind::NotFound | Kind::Damaged) => {
                    Err(error.into())
                }
                Err(error) => return Err(error.into()),
            };
            Ok(ListedKey { id, file })
        })
        .collect()
}

/// Tries a passphrase on every key file.
///
/// # Errors
///
/// [`Error::WrongKey`] if it opens none; the error of a damaged key file if there
/// was no other to try.
pub fn unlock(store: &dyn Store, config: &Config, passphrase: &[u8]) -> Result<Keys> {
    let keys = list(store)?;
    if keys.is_empty() {
        return Err(Error::NoRepository {
            location: store.location(),
            missing: "any key in keys/",
        });
    }
    let mut damaged = None;
    let mut tried = 0;
    for key in keys {
        let file = match key.file {
            Ok(file) => file,
            Err(error) => {
                damaged = Some(error);
                continue;
            }
        };
        // What a key file says is sealed in with it, so this pins the repository also
        // for a reader, whose secrets do not tell who the owner is.
        let foreign = file.repository != config.repository;
        match file.unwrap(passphrase) {
            // An `init` that was cut off leaves such a one beside the true one's.
            Ok(_) if foreign => {
                let why = "it is not of the repository that the key which was unlocked is for";
                let error = FormatError::malformed("asof.json", why);
                damaged = Some(Error::object(names::CONFIG)(error));
            }
            Ok(secrets) => return Keys::from_secrets(config, secrets),
            Err(CodecError::Seal) => tried += 1,
            Err(error) => damaged = Some(Error::sealed(names::key(key.id))(error)),
        }
    }
    // A damaged key file may be the one that the passphrase is for: say so.
    match damaged {
        Some(error) => Err(error),
        None => Err(Error::WrongKey { location: store.location(), keys: tried }),
    }
}

/// Adds a key with another passphrase: the owner's, or one that can only read.
///
/// # Errors
///
/// [`Error::NotAllowed`] unless an owner's key is at hand.
pub fn add(
    repo: &Repository,
    role: Role,
    label: &str,
    passphrase: &[u8],
    cost: Cost,
) -> Result<KeyFile> {
    let secrets = repo
        .keys()
        .secrets
        .as_ref()
        .ok_or(Error::NotAllowed { action: "adding a key", needs: "a passphrase of the owner" })?;
    repo.keys().owner()?;
    let kept = Secrets {
        owner: (role == Role::Owner).then(|| secrets.owner.clone()).flatten(),
        ..secrets.clone()
    };
    let file =
        KeyFile::wrap(&kept, repo.config().repository, label, passphrase, cost, repo.clock().now())
            .map_err(Error::sealed("the new key"))?;
    // Read back before it is relied on.
    let back = file.unwrap(passphrase).map_err(Error::sealed("the new key"))?;
    Keys::from_secrets(repo.config(), back)?;
    repo.store().put_new(&names::key(file.id()), Bytes::from(file.encode()))?;
    Ok(file)
}

/// Removes a key file. The last one of the owner stays.
///
/// # Errors
///
/// [`Error::NotAllowed`] if it is the last of the owner, or no owner asks.
pub fn remove(repo: &Repository, id: KeyId) -> Result<()> {
    repo.keys().owner()?;
    let keys = list(repo.store().as_ref())?;
    let others = keys
        .iter()
        .filter(|key| key.id != id)
        .filter(|key| key.file.as_ref().is_ok_and(|file| file.role == Role::Owner))
        .count();
    if others == 0 {
        return Err(Error::NotAllowed {
            action: "removing the last key of the owner",
            needs: "another one to be added first",
        });
    }
    Ok(repo.store().delete(&names::key(id))?)
}

/// Makes a writer file: all that a machine needs to back up, and nothing that reads.
///
/// # Errors
///
/// [`Error::NotAllowed`] unless an owner's key is at hand.
pub fn export_writer(
    repo: &Repository,
    label: &str,
    sources: Option<Vec<String>>,
    trusted: bool,
) -> Result<WriterFile> {
    let owner = repo.keys().owner()?;
    let key = SigningKey::random();
    let certificate = Certificate {
        repository: repo.config().repository,
        writer: key.id(),
        label: label.to_owned(),
        sources,
        trusted,
        issued: repo.clock().now(),
        expires: None,
    };
    Ok(WriterFile {
        config: repo.config().clone(),
        config_bytes: repo.config_bytes().to_vec(),
        certificate_bytes: certificate.issue(owner),
        certificate,
        key,
        id_key: repo.keys().secrets.as_ref().and_then(|secrets| secrets.id_key),
    })
}

/// The key file that a paper copy holds, so that it can be put back.
///
/// # Errors
///
/// [`Error::Object`] if the copy is damaged.
pub fn import(store: &dyn Store, bytes: &[u8]) -> Result<KeyFile> {
    let file = KeyFile::parse(bytes).map_err(Error::object("the paper copy"))?;
    store.put_new(&names::key(file.id()), Bytes::from(file.encode()))?;
    Ok(file)
}
