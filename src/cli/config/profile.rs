//! Profiles: where a repository is and how to open it, and what wins when options,
//! environment and file disagree.

use std::path::PathBuf;

use serde::Deserialize;

use super::error::{self, ConfigError};
use super::values::Size;
use crate::cli::env::Env;
use crate::cli::keep::Keep;

/// A repository and how to open it. Everything may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// A path, `file://…` or `s3://bucket/prefix`.
    pub repository: Option<String>,
    /// A file that holds the passphrase.
    pub password_file: Option<PathBuf>,
    /// A shell command that prints the passphrase.
    pub password_command: Option<String>,
    /// A writer's key file: all that `backup` needs.
    pub writer_key: Option<PathBuf>,
    /// Where the index and cached frames are kept.
    pub cache_dir: Option<PathBuf>,
    /// How large the cache of frames may grow.
    pub cache_size: Option<Size>,
    /// The zone that dates without one are read in.
    pub timezone: Option<String>,
    /// How to talk to a bucket.
    #[serde(default)]
    pub s3: S3Config,
    /// How much of the line may be used.
    #[serde(default)]
    pub limits: Limits,
    /// What `forget` keeps.
    pub retention: Option<Keep>,
}

/// How to talk to a bucket. Credentials are never here: they come from the standard chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// The server, as `https://s3.example.org`; AWS if left out.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Whether the bucket's name is in the path rather than the host name.
    pub path_style: Option<bool>,
    /// The profile in AWS's own configuration files.
    pub profile: Option<String>,
    /// The storage class of new objects.
    pub storage_class: Option<String>,
    /// Server-side encryption, as `AES256` or `aws:kms`.
    pub sse: Option<String>,
    /// The key of `aws:kms`.
    pub kms_key: Option<String>,
    /// The largest body that the server takes.
    pub max_object_size: Option<Size>,
    /// How many requests are in flight at most.
    pub connections: Option<u32>,
}

/// Bytes per second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// To the store.
    pub upload: Option<Size>,
    /// From the store.
    pub download: Option<Size>,
}

impl Profile {
    /// What the environment says, but for the passphrase, which
    /// [`secret`](crate::cli::secret) looks for itself.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Variable`] for a value that does not read.
    pub fn from_env(env: &Env) -> Result<Profile, ConfigError> {
        let text = |name: &str| env.text(name).map_err(|e| error::variable(name, &e));
        let cache_size = match text("ASOF_CACHE_SIZE")? {
            Some(size) => {
                Some(size.parse::<Size>().map_err(|e| error::variable("ASOF_CACHE_SIZE", &e))?)
            }
            None => None,
        };
        Ok(Profile {
            repository: text("ASOF_REPOSITORY")?,
            writer_key: env.path("ASOF_WRITER_KEY"),
            cache_dir: env.path("ASOF_CACHE_DIR"),
            cache_size,
            timezone: text("ASOF_TIMEZONE")?,
            ..Profile::default()
        })
    }

    /// This profile, with what it leaves out taken from `lower`.
    #[must_use]
    pub fn over(self, lower: Profile) -> Profile {
        Profile {
            repository: self.repository.or(lower.repository),
            password_file: self.password_file.or(lower.password_file),
            password_command: self.password_command.or(lower.password_command),
            writer_key: self.writer_key.or(lower.writer_key),
            cache_dir: self.cache_dir.or(lower.cache_dir),
            cache_size: self.cache_size.or(lower.cache_size),
            timezone: self.timezone.or(lower.timezone),
            s3: S3Config {
                endpoint: self.s3.endpoint.or(lower.s3.endpoint),
                region: self.s3.region.or(lower.s3.region),
                path_style: self.s3.path_style.or(lower.s3.path_style),
                profile: self.s3.profile.or(lower.s3.profile),
                storage_class: self.s3.storage_class.or(lower.s3.storage_class),
                sse: self.s3.sse.or(lower.s3.sse),
                kms_key: self.s3.kms_key.or(lower.s3.kms_key),
                max_object_size: self.s3.max_object_size.or(lower.s3.max_object_size),
                connections: self.s3.connections.or(lower.s3.connections),
            },
            limits: Limits {
                upload: self.limits.upload.or(lower.limits.upload),
                download: self.limits.download.or(lower.limits.download),
            },
            retention: self.retention.or(lower.retention),
        }
    }
}
