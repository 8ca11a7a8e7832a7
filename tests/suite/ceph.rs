//! The real S3 server, when there is one: `scripts/ceph start DIR; . DIR/env`.

use std::sync::Once;

use asof::base::Stop;
use asof::store::s3::Credentials;
use asof::store::{S3Options, S3Store};

/// Whose keys to use.
#[derive(Clone, Copy)]
pub enum User {
    /// May do everything in the bucket.
    Owner,
    /// May only put, below `packs/` and `log/`.
    Writer,
}

/// Options for a fresh prefix of the test bucket, or `None`, loudly, if there is no server.
pub fn options(user: User) -> Option<S3Options> {
    static LOUD: Once = Once::new();
    let Ok(endpoint) = std::env::var("ASOF_TEST_S3_ENDPOINT") else {
        LOUD.call_once(|| {
            // Past the capture of the test harness, so that nobody takes silence for success.
            let loud = "\n*** ASOF_TEST_S3_ENDPOINT is not set: S3 WAS NOT TESTED ***\n\n";
            let _ = std::io::Write::write_all(&mut std::io::stderr(), loud.as_bytes());
        });
        return None;
    };
    let var = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let names = match user {
        User::Owner => ["ASOF_TEST_S3_ACCESS_KEY", "ASOF_TEST_S3_SECRET_KEY"],
        User::Writer => ["ASOF_TEST_S3_WRITER_ACCESS_KEY", "ASOF_TEST_S3_WRITER_SECRET_KEY"],
    };
    Some(S3Options {
        bucket: var("ASOF_TEST_S3_BUCKET"),
        prefix: fresh_prefix(),
        endpoint: Some(endpoint),
        credentials: Some(Credentials {
            access_key: var(names[0]),
            secret_key: var(names[1]),
            session_token: None,
        }),
        ..S3Options::default()
    })
}

/// A store in a fresh prefix of the test bucket.
pub fn store(user: User) -> Option<S3Store> {
    options(user).map(open)
}

/// Opens a bucket that is expected to be described well.
pub fn open(options: S3Options) -> S3Store {
    S3Store::open(options, Stop::new()).unwrap()
}

/// One segment: the `*` of a policy does not reach over a slash in Ceph.
fn fresh_prefix() -> String {
    use std::hash::{BuildHasher, Hasher};
    let random = std::hash::RandomState::new().build_hasher().finish();
    format!("test-{}-{random:016x}", std::process::id())
}
