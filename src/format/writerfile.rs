//! Writer files: all that a machine needs to back up, and nothing that reads.
//!
//! One JSON file with the writer's signing key, its certificate, the id key and a
//! whole `asof.json`, which pins the repository: a machine with a writer file asks
//! the store for nothing before it writes. It holds no secret that decrypts.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::RepositoryId;
use crate::codec::sign::SigningKey;
use crate::format::certificate::Certificate;
use crate::format::config::Config;
use crate::format::{FormatError, LAYOUT};

const WHAT: &str = "writer file";

/// What a machine that only writes holds.
#[derive(Clone)]
pub struct WriterFile {
    /// The repository's description.
    pub config: Config,
    /// The bytes of `asof.json`, as the owner signed them.
    pub config_bytes: Vec<u8>,
    /// Signs the writer's records.
    pub key: SigningKey,
    /// What the owner allows it.
    pub certificate: Certificate,
    /// The certificate as it is put into records.
    pub certificate_bytes: Vec<u8>,
    /// Makes chunk ids; none in a repository without encryption.
    pub id_key: Option<[u8; 32]>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Wire {
    asof_writer: u8,
    repository: RepositoryId,
    label: String,
    key: String,
    certificate: String,
    id_key: Option<String>,
    config: String,
}

impl WriterFile {
    /// Encodes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wire = Wire {
            asof_writer: LAYOUT,
            repository: self.config.repository,
            label: self.certificate.label.clone(),
            key: hex::encode(self.key.seed()),
            certificate: hex::encode(&self.certificate_bytes),
            id_key: self.id_key.map(hex::encode),
            config: String::from_utf8_lossy(&self.config_bytes).into_owned(),
        };
        let mut bytes = serde_json::to_vec_pretty(&wire).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Decodes it and checks that its parts belong together.
    ///
    /// # Errors
    ///
    /// [`FormatError`] if they do not, or if a later asof made it.
    pub fn decode(bytes: &[u8]) -> Result<WriterFile, FormatError> {
        let malformed = |e: serde_json::Error| FormatError::malformed(WHAT, e);
        let value: Value = serde_json::from_slice(bytes).map_err(malformed)?;
        let version = value.get("asof-writer").and_then(Value::as_u64);
        if version.is_some_and(|v| v > u64::from(LAYOUT)) {
            return Err(FormatError::Future {
                what: "writer file version",
                found: version.unwrap_or_default().to_string(),
                known: LAYOUT.to_string(),
            });
        }
        let wire: Wire = serde_json::from_value(value).map_err(malformed)?;
        let bytes32 = |text: &str| -> Result<[u8; 32], FormatError> {
            let mut key = [0; 32];
            hex::decode_to_slice(text, &mut key)
                .map_err(|e| FormatError::malformed(WHAT, format!("a key in it: {e}")))?;
            Ok(key)
        };
        let config_bytes = wire.config.into_bytes();
        let config = Config::decode(&config_bytes)?;
        let key = SigningKey::from_seed(bytes32(&wire.key)?);
        let certificate_bytes = hex::decode(&wire.certificate)
            .map_err(|e| FormatError::malformed(WHAT, format!("its certificate: {e}")))?;
        let certificate =
            Certificate::verify(&certificate_bytes, config.owner, config.repository, key.id())?;
        let id_key = wire.id_key.as_deref().map(bytes32).transpose()?;
        if wire.repository != config.repository || id_key.is_some() != config.encryption.is_some() {
            return Err(FormatError::malformed(WHAT, "its parts do not belong together"));
        }
        Ok(WriterFile { config, config_bytes, key, certificate, certificate_bytes, id_key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::UnixTime;
    use crate::codec::envelope::PublicKey;
    use crate::format::config::Parameters;

    #[test]
    fn reads_back_and_is_checked() {
        let owner = SigningKey::random();
        let at = UnixTime::new(1_800_000_000, 0);
        let config = Config::new(owner.id(), Some(PublicKey([3; 32])), Parameters::default(), at);
        let key = SigningKey::random();
        let certificate = Certificate {
            repository: config.repository,
            writer: key.id(),
            label: "web".into(),
            sources: None,
            trusted: true,
            issued: at,
            expires: None,
        };
        let file = WriterFile {
            config_bytes: config.issue(&owner),
            certificate_bytes: certificate.issue(&owner),
            config,
            key,
            certificate,
            id_key: Some([8; 32]),
        };
        let back = WriterFile::decode(&file.encode()).unwrap();
        assert_eq!(back.certificate, file.certificate);
        assert_eq!((back.id_key, back.config_bytes), (file.id_key, file.config_bytes.clone()));
        let other = WriterFile { key: SigningKey::random(), ..file };
        assert!(WriterFile::decode(&other.encode()).is_err(), "another's certificate");
    }
}
