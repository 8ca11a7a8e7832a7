//! What can be set about a bucket.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// How to reach a bucket, and how to write to it.
///
/// Credentials come from the usual places (environment, profile, single sign-on,
/// instance role), unless [`S3Options::credentials`] is set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Options {
    /// The bucket's name.
    pub bucket: String,
    /// What all names in it begin with, without slashes at its ends; may be empty.
    pub prefix: String,
    /// The server, as a URL; AWS itself if not given.
    pub endpoint: Option<String>,
    /// The region; else of the environment, the profile or the machine, else `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket stands in the path and not in the host's name. If not given:
    /// it does when there is an endpoint, since most servers of one's own want that.
    pub path_style: Option<bool>,
    /// The profile in the AWS configuration files.
    pub profile: Option<String>,
    /// The storage class of packs, as `STANDARD_IA`. Other objects are small and read
    /// often: they keep the bucket's default.
    pub storage_class: Option<String>,
    /// How the server is to encrypt what it stores.
    pub sse: Sse,
    /// The key for [`Sse::Kms`]; the bucket's own if not given.
    pub kms_key: Option<String>,
    /// How long a call may take, with all its retries. Time to carry the bytes, at
    /// 128 KiB/s, is added.
    pub timeout_seconds: u64,
    /// How many times a request is sent before a call fails.
    pub max_attempts: u32,
    /// How many requests are under way at a time.
    pub max_requests: usize,
    /// The largest object that the server takes.
    pub max_object_bytes: Option<u64>,
    /// Whether to ask the server not to overwrite.
    pub conditional_puts: ConditionalPuts,
    /// Fixed credentials in place of those from the usual places; never from a file of asof's.
    #[serde(skip)]
    pub credentials: Option<Credentials>,
}

impl Default for S3Options {
    fn default() -> S3Options {
        S3Options {
            bucket: String::new(),
            prefix: String::new(),
            endpoint: None,
            region: None,
            path_style: None,
            profile: None,
            storage_class: None,
            sse: Sse::None,
            kms_key: None,
            timeout_seconds: 60,
            max_attempts: 5,
            max_requests: 32,
            max_object_bytes: None,
            conditional_puts: ConditionalPuts::Auto,
            credentials: None,
        }
    }
}

/// Encryption by the server, on top of asof's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Sse {
    /// As the bucket is set up.
    #[default]
    #[serde(rename = "none")]
    None,
    /// With a key of the server's.
    #[serde(rename = "AES256")]
    Aes256,
    /// With a key of the key management service.
    #[serde(rename = "aws:kms")]
    Kms,
}

/// A text that names no encryption by the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no encryption by the server: none, AES256 and aws:kms are")]
pub struct NotAnSse(pub String);

impl FromStr for Sse {
    type Err = NotAnSse;

    fn from_str(text: &str) -> Result<Sse, NotAnSse> {
        match text {
            "none" => Ok(Sse::None),
            "AES256" => Ok(Sse::Aes256),
            "aws:kms" => Ok(Sse::Kms),
            _ => Err(NotAnSse(text.to_owned())),
        }
    }
}

/// Whether writes carry `If-None-Match: *`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConditionalPuts {
    /// Until the server says that it does not know that.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// A key pair for a bucket.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The public half.
    pub access_key: String,
    /// The secret half.
    pub secret_key: String,
    /// Comes with credentials that expire.
    pub session_token: Option<String>,
}

/// Shows the public half only.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_read_from_a_config_file_and_a_misspelt_one_is_refused() {
        let text = "region = 'eu-central-1'\nsse = 'aws:kms'\nconditional_puts = 'off'";
        let options: S3Options = toml::from_str(text).unwrap();
        assert_eq!((options.sse, options.max_requests), (Sse::Kms, 32));
        assert_eq!(options.conditional_puts, ConditionalPuts::Off);
        assert_eq!(
            ("AES256".parse::<Sse>(), "x".parse::<Sse>()),
            (Ok(Sse::Aes256), Err(NotAnSse("x".into())))
        );
        assert!(toml::from_str::<S3Options>("storageclass = 'X'").is_err());
        assert!(toml::from_str::<S3Options>("[credentials]").is_err());
    }

    #[test]
    fn a_secret_is_not_shown() {
        let credentials = Credentials {
            access_key: "public".to_owned(),
            secret_key: "hush".to_owned(),
            session_token: Some("hush".to_owned()),
        };
        let shown = format!("{credentials:?}");
        assert!(shown.contains("public") && !shown.contains("hush"));
    }
}
