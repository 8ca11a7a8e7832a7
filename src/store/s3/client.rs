//! The SDK's client, as a store needs it, and the time that a reply says.
//!
//! Where the SDK would do what only AWS understands, it is told not to: checksums
//! only when required, the bucket in the path at an endpoint of one's own, and no
//! question to the machine about its region there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    self as sdk, BehaviorVersion, ConfigBag, Intercept, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, RuntimeComponents,
};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

use super::failure::Failure;
use super::{Answer, S3Options};
use crate::base::{Kind, UnixTime};

/// The slowest line that is still waited for, in bytes per second.
pub(super) const SLOWEST: u64 = 128 * 1024;

pub(super) async fn new(options: &S3Options) -> Client {
    let given = options.region.clone().map(Region::new);
    let region = RegionProviderChain::first_try(given);
    let region = if options.endpoint.is_none() {
        region.or_default_provider()
    } else {
        // Without asking the machine: one outside AWS would wait for an answer in vain.
        let profile = ProfileFileRegionProvider::builder();
        let profile = match &options.profile {
            Some(name) => profile.profile_name(name).build(),
            None => profile.build(),
        };
        region.or_else(EnvironmentVariableRegionProvider::new()).or_else(profile)
    };
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(region.or_else(Region::from_static("us-east-1")));
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(fixed) = &options.credentials {
        let token = fixed.session_token.clone();
        let (access, secret) = (&fixed.access_key, &fixed.secret_key);
        loader =
            loader.credentials_provider(sdk::Credentials::new(access, secret, token, None, "asof"));
    }
    let shared = loader.load().await;

    // The SDK takes an endpoint from the environment as well.
    let foreign = options.endpoint.is_some()
        || shared.endpoint_url().is_some()
        || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
    let mut config = sdk::Builder::from(&shared)
        .force_path_style(options.path_style.unwrap_or(foreign))
        .retry_config(RetryConfig::standard().with_max_attempts(options.max_attempts.max(1)))
        .timeout_config(timeouts(options, 0))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &options.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Client::from_conf(config.build())
}

/// At least a second and at most a day: a deadline must be an instant that exists.
pub(super) fn timeout(options: &S3Options) -> Duration {
    Duration::from_secs(options.timeout_seconds.clamp(1, 86_400))
}

/// A request may take a third of the call's time, so that a silent server is asked again.
pub(super) fn timeouts(options: &S3Options, bytes: u64) -> TimeoutConfig {
    let third = timeout(options) / 3;
    TimeoutConfig::builder()
        .connect_timeout(third.min(Duration::from_secs(10)))
        .operation_attempt_timeout(third.saturating_add(Duration::from_secs(bytes / SLOWEST)))
        .build()
}

/// An instant of the SDK's as one of ours.
pub(super) fn unix_time(at: &DateTime) -> UnixTime {
    UnixTime::new(at.secs(), at.subsec_nanos())
}

/// Keeps the `Date` of the reply to one call, of the last if there were several.
#[derive(Debug, Clone, Default)]
pub(super) struct Date(Arc<Mutex<Option<String>>>);

impl Date {
    pub(super) fn read(&self) -> Answer<UnixTime> {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let text = text.ok_or_else(|| Failure::new(Kind::Damaged, "the reply has no Date"))?;
        match DateTime::from_str(&text, DateTimeFormat::HttpDate) {
            Ok(at) => Ok(unix_time(&at)),
            Err(_) => Err(Failure::new(Kind::Damaged, format!("the reply's Date is {text:?}"))),
        }
    }
}

impl Intercept for Date {
    fn name(&self) -> &'static str {
        "asof receipt"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").map(str::to_owned);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}
