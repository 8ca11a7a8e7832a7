//! What this process may do: the keys at hand, made ready for use.

use zeroize::Zeroizing;

use crate::base::{PackId, WriterId};
use crate::codec::envelope::{PublicKey, SecretKey};
use crate::codec::hash::{IdKey, SplitKey};
use crate::codec::seal::{Part, SealKey};
use crate::codec::sign::SigningKey;
use crate::format::config::Config;
use crate::format::fact::Signer;
use crate::format::keyfile::Secrets;
use crate::format::writerfile::WriterFile;
use crate::repo::{Error, Result};

/// What is shown to be let in.
pub enum Credential {
    /// A passphrase, to be tried on every key file.
    Passphrase(Zeroizing<Vec<u8>>),
    /// Secrets that were unwrapped before.
    Secrets(Secrets),
    /// A writer file.
    Writer(Box<WriterFile>),
    /// Nothing: reads a repository without encryption.
    None,
}

/// Keys that fit a repository.
pub struct Keys {
    /// Makes chunk ids.
    pub ids: IdKey,
    /// Decides where directories split.
    pub split: SplitKey,
    /// What packs and records are sealed to, in an encrypted repository.
    pub recipient: Option<PublicKey>,
    /// Opens envelopes; absent without encryption or the right to read.
    pub reader: Option<SecretKey>,
    /// Signs what is published; absent without the right to write.
    pub signing: Option<SigningKey>,
    /// Whose signature that is.
    pub signer: Signer,
    /// The certificate that goes into records.
    pub certificate: Option<Vec<u8>>,
    /// The secrets themselves, unless there are none.
    pub secrets: Option<Secrets>,
    wrapping: Option<IdKey>,
}

impl Keys {
    /// The keys that secrets out of a key file are.
    ///
    /// # Errors
    ///
    /// [`Error::Object`] if they belong to another repository than `config` describes.
    pub fn from_secrets(config: &Config, secrets: Secrets) -> Result<Keys> {
        let mismatch = |why: &'static str| {
            Error::object("asof.json")(crate::format::FormatError::malformed("asof.json", why))
        };
        let recipient = config.public_key().map_err(Error::object("asof.json"))?;
        if secrets.owner.as_ref().is_some_and(|owner| owner.id() != config.owner) {
            return Err(mismatch("the key that was unlocked belongs to another owner"));
        }
        let public = secrets.reader.as_ref().map(SecretKey::public);
        if public != recipient || secrets.id_key.is_some() != recipient.is_some() {
            return Err(mismatch("its encryption key is not that of the key that was unlocked"));
        }
        let ids = id_key(config, secrets.id_key.as_ref());
        Ok(Keys {
            split: SplitKey::new(&ids),
            ids,
            recipient,
            wrapping: secrets.reader.as_ref().map(|key| IdKey::secret(key.as_bytes())),
            reader: secrets.reader.clone(),
            signing: secrets.owner.clone(),
            signer: Signer::Owner,
            certificate: None,
            secrets: Some(secrets),
        })
    }

    /// The keys that a writer file is: they write and do not read.
    ///
    /// # Errors
    ///
    /// [`Error::Object`] if its parts do not fit.
    pub fn from_writer(file: &WriterFile) -> Result<Keys> {
        let ids = id_key(&file.config, file.id_key.as_ref());
        Ok(Keys {
            split: SplitKey::new(&ids),
            ids,
            recipient: file.config.public_key().map_err(Error::object("writer file"))?,
            reader: None,
            signing: Some(file.key.clone()),
            signer: Signer::Writer(file.certificate.clone()),
            certificate: Some(file.certificate_bytes.clone()),
            secrets: None,
            wrapping: None,
        })
    }

    /// No keys: enough to read a repository without encryption.
    ///
    /// # Errors
    ///
    /// [`Error::WrongKey`] if it is encrypted.
    pub fn none(config: &Config, location: &str) -> Result<Keys> {
        if config.encryption.is_some() {
            return Err(Error::WrongKey { location: location.to_owned(), keys: 0 });
        }
        let ids = id_key(config, None);
        Ok(Keys {
            split: SplitKey::new(&ids),
            ids,
            recipient: None,
            reader: None,
            signing: None,
            signer: Signer::Owner,
            certificate: None,
            secrets: None,
            wrapping: None,
        })
    }

    /// Whether what is in the store can be read.
    #[must_use]
    pub fn can_read(&self) -> bool {
        self.recipient.is_none() || self.reader.is_some()
    }

    /// The key that signs records.
    ///
    /// # Errors
    ///
    /// [`Error::NotAllowed`] if there is none.
    pub fn signing(&self) -> Result<&SigningKey> {
        self.signing.as_ref().ok_or(Error::NotAllowed {
            action: "writing to the repository",
            needs: "the owner's passphrase or a writer file",
        })
    }

    /// The owner's key.
    ///
    /// # Errors
    ///
    /// [`Error::NotAllowed`] if the keys at hand are not the owner's.
    pub fn owner(&self) -> Result<&SigningKey> {
        let owner = self.secrets.as_ref().and_then(|secrets| secrets.owner.as_ref());
        owner.ok_or(Error::NotAllowed {
            action: "changing keys or rules",
            needs: "a passphrase of the owner",
        })
    }

    /// The name under which records are signed.
    ///
    /// # Errors
    ///
    /// [`Error::NotAllowed`] if there is no signing key.
    pub fn writer_id(&self) -> Result<WriterId> {
        Ok(self.signing()?.id())
    }

    /// What these keys trust and read, for what this machine keeps apart. Whoever has no key
    /// of a writer trusts the same, the owner and a mount that has put the owner's key away.
    #[must_use]
    pub fn id(&self) -> String {
        let signer = match &self.signer {
            Signer::Writer(certificate) => hex::encode(certificate.writer.0),
            Signer::Owner => "owner".to_owned(),
        };
        format!("{signer} {}", self.can_read())
    }

    /// Wraps a pack's key for the local index. A writer that cannot read keeps none.
    /// `claim` is a hash of all that is claimed of the pack, this key included.
    #[must_use]
    pub fn wrap_pack_key(&self, pack: PackId, claim: &[u8; 32], key: &[u8; 32]) -> Option<Vec<u8>> {
        let sealer = self.pack_wrapping(pack, claim)?.sealer();
        let mut bytes = key.to_vec();
        sealer.seal(Part::Numbered(0), b"asof index", &mut bytes);
        Some(bytes)
    }

    /// Unwraps a pack's key from the local index; none if it was altered.
    #[must_use]
    pub fn unwrap_pack_key(
        &self,
        pack: PackId,
        claim: &[u8; 32],
        wrapped: &[u8],
    ) -> Option<SealKey> {
        let sealer = self.pack_wrapping(pack, claim)?.sealer();
        let mut bytes = Zeroizing::new(wrapped.to_vec());
        let plain = sealer.open(Part::Numbered(0), b"asof index", &mut bytes).ok()?;
        Some(SealKey::from_bytes((&*plain).try_into().ok()?))
    }

    /// A key of its own for each claim, so that one nonce is enough: whoever claims
    /// another key for a pack claims something else.
    fn pack_wrapping(&self, pack: PackId, claim: &[u8; 32]) -> Option<SealKey> {
        let wrapping = self.wrapping.as_ref()?;
        let purpose = format!("asof index {pack} {}", hex::encode(claim));
        Some(SealKey::from_bytes(wrapping.derive(&purpose)))
    }
}

fn id_key(config: &Config, secret: Option<&[u8; 32]>) -> IdKey {
    match secret {
        Some(key) => IdKey::secret(key),
        None => IdKey::public(config.repository),
    }
}
