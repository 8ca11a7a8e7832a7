//! A bucket as a store: Amazon S3 and what speaks its protocol.
//!
//! Only this file and its folder know async. The SDK runs on two threads of its own, which
//! do the sending, receiving and TLS; the caller's thread waits. Callers bring
//! the parallelism.
//!
//! Chosen so that every server understands it: one plain PUT for an object,
//! signed over the hash of its bytes (no multipart, no chunked encoding, no
//! trailing checksums, which Google's and older gateways refuse), ranged GETs,
//! and lists that begin after a name.
//!
//! A write carries `If-None-Match: *`. A server that does not know the condition
//! gets plain writes from then on: names are hashes, so that replaces bytes by
//! the same bytes. When a reply is lost and the SDK sends the request again, the
//! second finds the object of the first: `created` is then false though this call
//! created it. Nothing may depend on it being true.
//!
//! The receipt is the `Date` of the reply, never this machine's clock, because the
//! safety of collection rests on receipts. A reply without one is an error. Where
//! the object may be that of an earlier attempt, the receipt is put back by how long
//! the call took: only a length of time is this machine's own. The time of the
//! object itself would take a HEAD, which a writer is not permitted.
//!
//! Retries within a call are the SDK's (see [`crate::store::retry`] for those
//! beyond it), except for a body that breaks off, of which the SDK knows nothing.

mod client;
mod failure;
mod list;
mod options;
mod parts;

use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder as ConfigBuilder;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use bytes::Bytes;
use tokio::runtime::Runtime;

use self::client::{Date, SLOWEST, timeout, timeouts};
use self::failure::{Failure, chain};
use self::parts::Parts;
use crate::base::pause::{monotonic, uptime};
use crate::base::{Kind, Stop};
use crate::store::key::{self, error};
use crate::store::{Call, Page, Put, Result, Store};

pub use self::options::{ConditionalPuts, Credentials, NotAnSse, S3Options, Sse};

type Answer<T> = std::result::Result<T, Failure>;

/// How often a call that waits looks at the flag to stop.
const TICK: Duration = Duration::from_millis(50);

/// A store in a bucket.
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    options: S3Options,
    /// Set once the server has refused a condition.
    plain_puts: AtomicBool,
    stop: Stop,
    /// Taken when dropped.
    runtime: Option<Runtime>,
}

impl S3Store {
    /// Prepares to talk to a bucket. Asks nothing of it.
    ///
    /// Starts two threads: a program that forks must do so before. Calls under way end
    /// with [`Kind::Interrupted`] soon after `stop` is raised.
    ///
    /// # Errors
    ///
    /// [`Kind::Invalid`] if the options make no sense.
    pub fn open(options: S3Options, stop: Stop) -> Result<S3Store> {
        let refuse = |wrong: String| {
            let store = location(&options);
            Err(error(Kind::Invalid, Call::Get, "the bucket", &store, wrong))
        };
        if options.bucket.is_empty() {
            return refuse("no bucket is named".to_owned());
        }
        if let Some(endpoint) = options.endpoint.as_ref().filter(|text| !is_endpoint(text)) {
            return refuse(format!("the endpoint {endpoint:?} is no http:// or https:// URL"));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("asof-s3")
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(e) => return refuse(format!("cannot start threads: {e}")),
        };
        let client = runtime.block_on(client::new(&options));
        let plain_puts = AtomicBool::new(options.conditional_puts == ConditionalPuts::Off);
        Ok(S3Store { client, options, plain_puts, stop, runtime: Some(runtime) })
    }

    fn full(&self, name: &str) -> String {
        match self.options.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    /// How long a call may take that carries so many bytes.
    fn allowance(&self, bytes: u64) -> Duration {
        timeout(&self.options).saturating_add(Duration::from_secs(bytes / SLOWEST))
    }

    fn ranged(&self, key: &str, range: &Range<u64>, lengths: &[usize]) -> Result<Vec<Bytes>> {
        key::check(Call::Get, key, &self.location())?;
        key::check_range(key, range, &self.location())?;
        let length = range.end - range.start;
        self.run(Call::Get, key, self.read(key, Some(range), lengths, length))
    }

    /// Runs a call to its end on the caller's thread.
    fn run<T>(&self, call: Call, key: &str, work: impl Future<Output = Answer<T>>) -> Result<T> {
        let answer = match &self.runtime {
            Some(runtime) => runtime.block_on(work),
            None => Err(Failure::new(Kind::Interrupted, "the store is closed")),
        };
        answer.map_err(|f| error(f.kind, call, key, &self.location(), f.text))
    }

    /// Waits for `work` until `deadline`, or until it is asked to stop.
    async fn within<T>(&self, deadline: Instant, work: impl Future<Output = T>) -> Answer<T> {
        let mut work = pin!(work);
        loop {
            if let Ok(done) = tokio::time::timeout(TICK, &mut work).await {
                return Ok(done);
            }
            if self.stop.is_raised() {
                return Err(Failure::new(Kind::Interrupted, "asked to stop"));
            }
            if monotonic() >= deadline {
                return Err(Failure::new(Kind::Unavailable, "the server did not answer in time"));
            }
        }
    }

    async fn put(&self, key: &str, body: Bytes) -> Answer<Put> {
        let size = body.len() as u64;
        let (deadline, began) = (monotonic() + self.allowance(size), uptime());
        let mut conflicts = 0;
        loop {
            let conditional = !self.plain_puts.load(Ordering::Relaxed);
            let (request, date) =
                (self.put_request(key, body.clone(), conditional), Date::default());
            let request = request.customize().interceptor(date.clone()).config_override(
                ConfigBuilder::new().timeout_config(timeouts(&self.options, size)),
            );
            let failure = match self.within(deadline, request.send()).await? {
                Ok(_) => {
                    return Ok(Put::at(true, date.read()?));
                }
                Err(e) => Failure::from(&e),
            };
            if conditional && failure.status == 412 {
                return Ok(Put::found(date.read()?, uptime().saturating_sub(began)));
            }
            if conditional && failure.refuses_condition() {
                tracing::info!(reason = failure.text, "the server knows no conditional writes");
                self.plain_puts.store(true, Ordering::Relaxed);
            } else if conditional && failure.is_conflict() && conflicts < self.options.max_attempts
            {
                conflicts += 1;
                let wait = tokio::time::sleep(Duration::from_millis(100) * conflicts);
                self.within(deadline, wait).await?;
            } else {
                return Err(failure);
            }
        }
    }

    fn put_request(&self, key: &str, body: Bytes, conditional: bool) -> PutObjectFluentBuilder {
        let options = &self.options;
        let class = options.storage_class.as_deref().filter(|_| key.starts_with("packs/"));
        let sse = match options.sse {
            Sse::None => None,
            Sse::Aes256 => Some(ServerSideEncryption::Aes256),
            Sse::Kms => Some(ServerSideEncryption::AwsKms),
        };
        self.client
            .put_object()
            .bucket(&options.bucket)
            .key(self.full(key))
            .body(ByteStream::from(body))
            .set_if_none_match(conditional.then(|| "*".to_owned()))
            .set_storage_class(class.map(StorageClass::from))
            .set_ssekms_key_id(options.kms_key.clone().filter(|_| options.sse == Sse::Kms))
            .set_server_side_encryption(sse)
    }

    /// Reads an object, or a range of it, in parts of these lengths, the last of which has what
    /// remains. Begins anew when the body breaks off.
    async fn read(
        &self,
        key: &str,
        range: Option<&Range<u64>>,
        lengths: &[usize],
        limit: u64,
    ) -> Answer<Vec<Bytes>> {
        let expected = range.map_or(0, |range| range.end - range.start);
        let deadline = monotonic() + self.allowance(expected);
        let mut attempt = 1;
        loop {
            match self.read_once(key, range, lengths, limit, deadline).await {
                Err(failure)
                    if failure.status == BROKE_OFF
                        && attempt < self.options.max_attempts
                        && monotonic() < deadline =>
                {
                    tracing::debug!(key, attempt, cause = failure.text, "reading again");
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    async fn read_once(
        &self,
        key: &str,
        range: Option<&Range<u64>>,
        lengths: &[usize],
        limit: u64,
        deadline: Instant,
    ) -> Answer<Vec<Bytes>> {
        let request = self
            .client
            .get_object()
            .bucket(&self.options.bucket)
            .key(self.full(key))
            .set_range(range.map(|range| format!("bytes={}-{}", range.start, range.end - 1)));
        let answer = self.within(deadline, request.send()).await?;
        let mut answer = answer.map_err(|e| Failure::from(&e))?;

        let size = answer.content_length.and_then(|size| u64::try_from(size).ok());
        if let Some(range) = range {
            let begins = format!("bytes {}-", range.start);
            let sent = answer.content_range.as_deref().unwrap_or("the whole object");
            if !sent.starts_with(&begins) {
                let text = format!("asked for bytes {range:?}, the server sent {sent}");
                return Err(Failure::new(Kind::Damaged, text));
            }
            if size.is_some_and(|size| size != range.end - range.start) {
                let text = format!("it ends before byte {}: the server sent {sent}", range.end);
                return Err(Failure::new(Kind::Damaged, text));
            }
        }
        let too_large = |size| {
            let text = format!("it has {size} bytes or more, and {limit} at most are expected");
            Failure::new(Kind::Damaged, text)
        };
        if let Some(size) = size.filter(|size| *size > limit) {
            return Err(too_large(size));
        }

        // Now the size is known, and with it how long it may take.
        let deadline = deadline.max(monotonic() + self.allowance(size.unwrap_or(limit)));
        let mut parts = Parts::new(lengths, key::capacity(size.unwrap_or(0)));
        let mut came = 0;
        while let Some(piece) = self.within(deadline, answer.body.next()).await? {
            let piece = piece.map_err(|e| broke_off(&chain(&e)))?;
            came += piece.len() as u64;
            if came > limit {
                return Err(too_large(came));
            }
            parts.add(&piece);
        }
        let expected = range.map(|range| range.end - range.start).or(size);
        if expected.is_some_and(|expected| expected != came) {
            return Err(broke_off(&format!("{came} bytes came")));
        }
        Ok(parts.finish())
    }
}

impl Store for S3Store {
    fn put_new(&self, key: &str, body: Bytes) -> Result<Put> {
        let store = self.location();
        key::check(Call::Put, key, &store)?;
        let size = body.len() as u64;
        if let Some(most) = self.options.max_object_bytes.filter(|most| size > *most) {
            let wrong =
                format!("it has {size} bytes, and the largest object size is set to {most}");
            return Err(error(Kind::Invalid, Call::Put, key, &store, wrong));
        }
        self.run(Call::Put, key, self.put(key, body))
    }

    fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        key::check(Call::Get, key, &self.location())?;
        let parts = self.run(Call::Get, key, self.read(key, None, &[], limit))?;
        Ok(parts.into_iter().next().unwrap_or_default())
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let parts = self.ranged(key, &range, &[])?;
        Ok(parts.into_iter().next().unwrap_or_default())
    }

    fn get_parts(&self, key: &str, start: u64, lengths: &[usize]) -> Result<Vec<Bytes>> {
        self.ranged(key, &key::range_of(start, lengths), lengths)
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Result<Page> {
        key::check_prefix(prefix, &self.location())?;
        self.run(Call::List, prefix, self.page(prefix, after))
    }

    fn delete(&self, key: &str) -> Result<()> {
        key::check(Call::Delete, key, &self.location())?;
        let request = self.client.delete_object().bucket(&self.options.bucket).key(self.full(key));
        self.run(Call::Delete, key, async {
            let deadline = monotonic() + self.allowance(0);
            match self.within(deadline, request.send()).await? {
                Ok(_) => Ok(()),
                Err(e) => match Failure::from(&e) {
                    failure if failure.code == "NoSuchKey" => Ok(()),
                    failure => Err(failure),
                },
            }
        })
    }

    fn object_bytes_max(&self) -> Option<u64> {
        self.options.max_object_bytes
    }

    fn location(&self) -> String {
        location(&self.options)
    }
}

impl Drop for S3Store {
    /// Does not wait for what is under way: a name look-up may hang for long.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Marks a body that broke off; no server answers this.
const BROKE_OFF: u16 = 1;

fn broke_off(why: &str) -> Failure {
    let text = format!("the answer broke off: {why}");
    Failure { status: BROKE_OFF, ..Failure::new(Kind::Unavailable, text) }
}

fn is_endpoint(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.starts_with('/') && !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic())
    })
}

fn location(options: &S3Options) -> String {
    let slash = if options.prefix.is_empty() { "" } else { "/" };
    format!("s3://{}{slash}{}", options.bucket, options.prefix)
}
